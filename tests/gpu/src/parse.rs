//! PTX text to instructions.

use crate::operations::{Evaluate, evaluate};
use std::collections::BTreeMap;

/// A function of a module.
pub struct Function {
    /// Its name.
    pub name: String,
    /// Bytes of each parameter.
    pub params: Vec<usize>,
    pub(crate) code: Vec<Instruction>,
    pub(crate) registers: usize,
    pub(crate) shared: usize,
    /// Threads of a block, at most.
    pub(crate) most_threads: u32,
}

pub(crate) struct Instruction {
    /// A register that has to hold, or not to hold, for the instruction to run.
    pub(crate) guard: Option<(usize, bool)>,
    pub(crate) what: What,
    pub(crate) line: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Operand {
    Register(usize),
    Number(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    Thread(usize),
    Block(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    Global,
    Shared,
}

pub(crate) enum What {
    Evaluate {
        to: usize,
        how: Evaluate,
        operands: [Operand; 3],
    },
    Special {
        to: usize,
        which: Special,
    },
    Param {
        to: usize,
        number: usize,
    },
    /// Two words as one register, and the other way round.
    Pack {
        to: usize,
        words: [Operand; 2],
    },
    Unpack {
        words: [usize; 2],
        from: usize,
    },
    Load {
        space: Space,
        size: usize,
        signed: bool,
        to: Vec<usize>,
        base: Operand,
        offset: i64,
    },
    Store {
        space: Space,
        size: usize,
        values: Vec<Operand>,
        base: Operand,
        offset: i64,
    },
    Branch {
        to: usize,
    },
    BlockBarrier,
    WarpBarrier {
        mask: Operand,
    },
    Shuffle {
        to: usize,
        from: Operand,
        apart: u32,
        mask: Operand,
    },
    /// 16 by 8 sums, 16 products each, of a warp: the registers of the sums, and of both factors' words.
    Multiply {
        sums: Vec<usize>,
        a: Vec<usize>,
        b: Vec<usize>,
    },
    Return,
}

/// The functions of a module; errors name their line.
pub fn parse(text: &str) -> Result<Vec<Function>, String> {
    let mut functions = Vec::new();
    let mut lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.split("//").next().unwrap_or_default().trim()));
    while let Some((number, line)) = lines.next() {
        let Some(name) = line.strip_prefix(".visible .entry ") else {
            let known = [".version 7.0", ".target sm_80", ".address_size 64", ""].contains(&line);
            if known { continue } else { return Err(format!("line {number}: `{line}` outside of a function")) }
        };
        let mut parser = Parser { name: name.trim_end_matches('(').to_owned(), most_threads: u32::MAX, ..Parser::default() };
        loop {
            let Some((number, line)) = lines.next() else { return Err(format!("`{}` does not end", parser.name)) };
            if line == "}" {
                break;
            }
            parser.line(line, number).map_err(|why| format!("line {number}: {why}: `{line}`"))?;
        }
        functions.push(parser.finish()?);
    }
    Ok(functions)
}

#[derive(Default)]
struct Parser {
    name: String,
    params: Vec<(String, usize)>,
    registers: BTreeMap<String, usize>,
    shared: BTreeMap<String, usize>,
    shared_bytes: usize,
    most_threads: u32,
    labels: BTreeMap<String, usize>,
    code: Vec<Instruction>,
    /// Branches whose places are not known yet.
    open: Vec<(usize, String, usize)>,
}

impl Parser {
    fn line(&mut self, line: &str, number: usize) -> Result<(), String> {
        if let Some(param) = line.strip_prefix(".param .") {
            let (ty, name) = param.trim_end_matches(',').split_once(' ').ok_or("a parameter without a name")?;
            self.params.push((name.to_owned(), size_of(ty)?));
        } else if let Some(threads) = line.strip_prefix(".maxntid ") {
            let first = threads.split(',').next().unwrap_or_default();
            self.most_threads = first.trim().parse().map_err(|_| "threads that are no number")?;
        } else if let Some(declared) = line.strip_prefix(".reg .") {
            let (_, names) = declared.trim_end_matches(';').split_once(' ').ok_or("registers without a name")?;
            let (prefix, count) = names.trim_end_matches('>').split_once('<').ok_or("registers without a number")?;
            for at in 0..count.parse::<usize>().map_err(|_| "registers without a number")? {
                let place = self.registers.len();
                self.registers.insert(format!("{prefix}{at}"), place);
            }
        } else if let Some(declared) = line.strip_prefix(".shared .align 16 .b8 ") {
            let (name, bytes) = declared.trim_end_matches("];").split_once('[').ok_or("shared memory without a size")?;
            self.shared.insert(name.to_owned(), self.shared_bytes);
            let bytes: usize = bytes.parse().map_err(|_| "shared memory without a size")?;
            self.shared_bytes += bytes.next_multiple_of(16);
        } else if let Some(label) = line.strip_suffix(':') {
            if self.labels.insert(label.to_owned(), self.code.len()).is_some() {
                return Err("a label that is there already".to_owned());
            }
        } else if !["", ")", "{", ".minnctapersm 1"].contains(&line) {
            self.instruction(line.strip_suffix(';').ok_or("no `;`")?, number)?;
        }
        Ok(())
    }

    fn instruction(&mut self, text: &str, line: usize) -> Result<(), String> {
        let (guard, text) = match text.strip_prefix('@') {
            Some(rest) => {
                let (register, rest) = rest.split_once(' ').ok_or("a guard alone")?;
                let wanted = !register.starts_with('!');
                (Some((self.register(register.trim_start_matches('!'))?, wanted)), rest)
            }
            None => (None, text),
        };
        let (name, operands) = text.split_once(' ').unwrap_or((text, ""));
        let what = self.what(name, &split(operands), line)?;
        self.code.push(Instruction { guard, what, line });
        Ok(())
    }

    fn register(&self, name: &str) -> Result<usize, String> {
        self.registers.get(name.trim()).copied().ok_or_else(|| format!("no register {name}"))
    }

    fn operand(&self, text: &str) -> Result<Operand, String> {
        let wrong = |_| format!("no number {text}");
        if text.starts_with('%') {
            self.register(text).map(Operand::Register)
        } else if let Some(bits) = text.strip_prefix("0f").or(text.strip_prefix("0d")) {
            u64::from_str_radix(bits, 16).map(Operand::Number).map_err(wrong)
        } else if let Some(place) = self.shared.get(text) {
            Ok(Operand::Number(*place as u64))
        } else {
            text.parse::<i64>().map(|number| Operand::Number(number as u64)).map_err(wrong)
        }
    }

    /// `[base+offset]`
    fn place(&self, text: &str) -> Result<(Operand, i64), String> {
        let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).ok_or("no address")?;
        let (base, offset) = inner.split_once('+').unwrap_or((inner, "0"));
        Ok((self.operand(base)?, offset.parse().map_err(|_| format!("no offset {offset}"))?))
    }

    /// `{a, b}` or one.
    fn several(text: &str) -> Vec<String> {
        text.trim_start_matches('{').trim_end_matches('}').split(',').map(|own| own.trim().to_owned()).collect()
    }

    fn what(&mut self, name: &str, operands: &[String], line: usize) -> Result<What, String> {
        let text = |at: usize| operands.get(at).map(String::as_str).ok_or_else(|| format!("no operand {at}"));
        let to = || self.register(text(0)?);
        let specials = [("%tid.", Special::Thread as fn(usize) -> Special), ("%ctaid.", Special::Block)];
        let special = operands.get(1).and_then(|own| {
            let (prefix, of) = specials.iter().find(|(prefix, _)| own.starts_with(prefix))?;
            Some(of("xyz".find(&own[prefix.len()..])?))
        });
        Ok(match name {
            "bra" => {
                self.open.push((self.code.len(), text(0)?.to_owned(), line));
                What::Branch { to: usize::MAX }
            }
            "ret" => What::Return,
            "bar.sync" if text(0)? == "0" => What::BlockBarrier,
            "bar.warp.sync" => What::WarpBarrier { mask: self.operand(text(0)?)? },
            "shfl.sync.bfly.b32" if text(3)? == "31" => {
                let apart = text(2)?.parse().map_err(|_| "a distance that is no number")?;
                What::Shuffle { to: to()?, from: self.operand(text(1)?)?, apart, mask: self.operand(text(4)?)? }
            }
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32" if text(0)? == text(3)? => {
                let registers = |at: usize, count: usize| -> Result<Vec<usize>, String> {
                    let own: Vec<usize> = Self::several(text(at)?).iter().map(|own| self.register(own)).collect::<Result<_, _>>()?;
                    if own.len() == count { Ok(own) } else { Err("another number of registers".to_owned()) }
                };
                What::Multiply { sums: registers(0, 4)?, a: registers(1, 4)?, b: registers(2, 2)? }
            }
            "mov.u32" if special.is_some() => What::Special { to: to()?, which: special.ok_or("no such register")? },
            "mov.b64" if text(0)?.starts_with('{') => {
                let words = Self::several(text(0)?);
                What::Unpack { words: [self.register(&words[0])?, self.register(&words[1])?], from: self.register(text(1)?)? }
            }
            "mov.b64" if text(1)?.starts_with('{') => {
                let words = Self::several(text(1)?);
                What::Pack { to: to()?, words: [self.operand(&words[0])?, self.operand(&words[1])?] }
            }
            name if name.starts_with("ld.param.") => {
                let param = text(1)?.trim_matches(['[', ']']);
                let number = self.params.iter().position(|(own, _)| own == param).ok_or("no such parameter")?;
                What::Param { to: to()?, number }
            }
            name if name.starts_with("ld.") || name.starts_with("st.") => self.access(name, operands)?,
            name => {
                let how = evaluate(name).ok_or("no such instruction")?;
                let mut own = [Operand::Number(0); 3];
                for (own, text) in own.iter_mut().zip(&operands[1..]) {
                    *own = self.operand(text)?;
                }
                What::Evaluate { to: to()?, how, operands: own }
            }
        })
    }

    fn access(&self, name: &str, operands: &[String]) -> Result<What, String> {
        let parts: Vec<&str> = name.split('.').collect();
        let space = match parts.get(1) {
            Some(&"global") => Space::Global,
            Some(&"shared") => Space::Shared,
            _ => return Err("no such memory".to_owned()),
        };
        let ty = parts.last().copied().unwrap_or_default();
        let many = [("v2", 2), ("v4", 4)].into_iter().find(|(name, _)| parts.contains(name)).map_or(1, |(_, many)| many);
        if parts.len() != if many == 1 { 3 } else { 4 } || operands.len() != 2 {
            return Err("no such access".to_owned());
        }
        let size = size_of(ty)?;
        let (values, place) = if parts[0] == "ld" { (&operands[0], &operands[1]) } else { (&operands[1], &operands[0]) };
        let values = Self::several(values);
        if values.len() != many {
            return Err("another number of registers".to_owned());
        }
        let (base, offset) = self.place(place)?;
        if parts[0] == "ld" {
            let to = values.iter().map(|own| self.register(own)).collect::<Result<_, _>>()?;
            return Ok(What::Load { space, size, signed: ty == "s8", to, base, offset });
        }
        let values = values.iter().map(|own| self.operand(own)).collect::<Result<_, _>>()?;
        Ok(What::Store { space, size, values, base, offset })
    }

    fn finish(mut self) -> Result<Function, String> {
        for (at, label, line) in &self.open {
            let place = self.labels.get(label).ok_or_else(|| format!("line {line}: there is no label {label}"))?;
            self.code[*at].what = What::Branch { to: *place };
        }
        Ok(Function {
            name: self.name,
            params: self.params.iter().map(|(_, bytes)| *bytes).collect(),
            code: self.code,
            registers: self.registers.len(),
            shared: self.shared_bytes,
            most_threads: self.most_threads,
        })
    }
}

/// Operands between commas that lie in no braces.
fn split(text: &str) -> Vec<String> {
    let (mut out, mut depth) = (vec![String::new()], 0);
    for letter in text.chars() {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        match (letter, depth) {
            (',', 0) => out.push(String::new()),
            (letter, _) => out.last_mut().map(|own| own.push(letter)).unwrap_or_default(),
        }
    }
    out.into_iter().map(|own| own.trim().to_owned()).filter(|own| !own.is_empty()).collect()
}

fn size_of(ty: &str) -> Result<usize, String> {
    match ty.trim_start_matches(char::is_alphabetic).parse::<usize>() {
        Ok(bits @ (8 | 16 | 32 | 64)) => Ok(bits / 8),
        _ => Err(format!("no type {ty}")),
    }
}
