//! The text of one function: instructions, registers by their types, labels.

use recc_core::loops::Type;
use std::fmt::Write as _;

/// What a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    F32,
    F64,
    Int,
    /// An address.
    Wide,
    Truth,
    /// A 16-bit float on its way from memory.
    Half,
}

impl Class {
    const ALL: [Class; 6] = [Class::F32, Class::F64, Class::Int, Class::Wide, Class::Truth, Class::Half];

    pub(super) fn of(ty: Type) -> Class {
        match ty {
            Type::F32 | Type::F16 | Type::I8 => Class::F32,
            Type::F64 => Class::F64,
            Type::I32 => Class::Int,
            Type::Bool => Class::Truth,
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Class::F32 => "%f",
            Class::F64 => "%d",
            Class::Int => "%r",
            Class::Wide => "%a",
            Class::Truth => "%p",
            Class::Half => "%h",
        }
    }

    /// The suffix of instructions that only move bits.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Class::F32 => "f32",
            Class::F64 => "f64",
            Class::Int => "b32",
            Class::Wide => "b64",
            Class::Truth => "pred",
            Class::Half => "b16",
        }
    }
}

/// A register or a number in an instruction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    Reg(Class, u32),
    F32(f32),
    F64(f64),
    Int(i32),
}

impl Value {
    pub(super) fn class(self) -> Class {
        match self {
            Value::Reg(class, _) => class,
            Value::F32(_) => Class::F32,
            Value::F64(_) => Class::F64,
            Value::Int(_) => Class::Int,
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Reg(class, number) => write!(f, "{}{number}", class.prefix()),
            Value::F32(value) => write!(f, "0f{:08X}", value.to_bits()),
            Value::F64(value) => write!(f, "0d{:016X}", value.to_bits()),
            Value::Int(value) => write!(f, "{value}"),
        }
    }
}

/// A function that is being written.
#[derive(Default)]
pub(super) struct Code {
    lines: String,
    used: [u32; 6],
    labels: u32,
    params: Vec<(&'static str, String)>,
    shared: Vec<(String, u32)>,
}

impl Code {
    /// A register that nothing else has.
    pub(super) fn fresh(&mut self, class: Class) -> Value {
        let number = &mut self.used[class as usize];
        *number += 1;
        Value::Reg(class, *number - 1)
    }

    /// An instruction without its semicolon.
    pub(super) fn line(&mut self, text: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.lines, "  {text};");
    }

    /// A new register's value by an instruction: its name, and its operands.
    pub(super) fn set(&mut self, class: Class, instruction: &str, operands: &[Value]) -> Value {
        let out = self.fresh(class);
        let operands: Vec<String> = operands.iter().map(Value::to_string).collect();
        self.line(format_args!("{instruction} {out}, {}", operands.join(", ")));
        out
    }

    /// An instruction that changes a register: see [`Code::set`].
    pub(super) fn put(&mut self, out: Value, instruction: &str, operands: &[Value]) {
        let operands: Vec<String> = operands.iter().map(Value::to_string).collect();
        self.line(format_args!("{instruction} {out}, {}", operands.join(", ")));
    }

    /// An integer: see [`Code::set`].
    pub(super) fn int(&mut self, instruction: &str, operands: &[Value]) -> Value {
        self.set(Class::Int, instruction, operands)
    }

    /// A comparison, or what follows from two of them.
    pub(super) fn test(&mut self, instruction: &str, a: Value, b: Value) -> Value {
        self.set(Class::Truth, instruction, &[a, b])
    }

    /// `base + index * stride` elements of some bytes.
    pub(super) fn element(&mut self, base: Value, index: Value, stride: Value, bytes: i32) -> Value {
        let elements = self.set(Class::Wide, "mul.wide.s32", &[index, stride]);
        let out = self.fresh(Class::Wide);
        self.line(format_args!("mad.lo.s64 {out}, {elements}, {bytes}, {base}"));
        out
    }

    /// Begins a loop, while a number is below another: its two ends, for [`Code::close_loop`].
    pub(super) fn open_loop(&mut self, at: Value, end: Value) -> [String; 2] {
        let (head, done) = (self.label(), self.label());
        self.bind(&head);
        let over = self.test("setp.ge.s32", at, end);
        self.branch_if(over, &done);
        [head, done]
    }

    /// Ends a loop, whose number moves by a step.
    pub(super) fn close_loop(&mut self, at: Value, step: u32, [head, done]: [String; 2]) {
        self.put(at, "add.s32", &[at, Value::Int(step as i32)]);
        self.branch(&head);
        self.bind(&done);
    }

    /// Four neighbours of shared memory.
    pub(super) fn four(&mut self, base: Value, offset: u32) -> [Value; 4] {
        let values = [(); 4].map(|()| self.fresh(Class::F32));
        let [a, b, c, d] = values;
        self.line(format_args!("ld.shared.v4.f32 {{{a}, {b}, {c}, {d}}}, [{base}+{offset}]"));
        values
    }

    /// A copy in a register of its own, which may change.
    pub(super) fn copy(&mut self, value: Value) -> Value {
        let class = value.class();
        self.set(class, &format!("mov.{}", class.suffix()), &[value])
    }

    /// A name for a place that is not written yet.
    pub(super) fn label(&mut self) -> String {
        self.labels += 1;
        format!("L{}", self.labels)
    }

    /// The place that a label names.
    pub(super) fn bind(&mut self, label: &str) {
        let _ = writeln!(self.lines, "{label}:");
    }

    pub(super) fn branch(&mut self, label: &str) {
        self.line(format_args!("bra {label}"));
    }

    pub(super) fn branch_if(&mut self, truth: Value, label: &str) {
        self.line(format_args!("@{truth} bra {label}"));
    }

    pub(super) fn branch_unless(&mut self, truth: Value, label: &str) {
        self.line(format_args!("@!{truth} bra {label}"));
    }

    /// The value of a new parameter.
    pub(super) fn param(&mut self, name: &str, ty: &'static str) -> Value {
        self.params.push((ty, name.to_owned()));
        let class = if ty == "u64" { Class::Wide } else { Class::Int };
        let out = self.fresh(class);
        self.line(format_args!("ld.param.{ty} {out}, [{name}]"));
        out
    }

    /// Room that a block's threads share: its address.
    pub(super) fn shared(&mut self, name: &str, bytes: u32) -> Value {
        self.shared.push((name.to_owned(), bytes));
        let out = self.fresh(Class::Int);
        self.line(format_args!("mov.u32 {out}, {name}"));
        out
    }

    /// One of the numbers that tell threads apart, such as `%tid.x`.
    pub(super) fn special(&mut self, name: &str) -> Value {
        let out = self.fresh(Class::Int);
        self.line(format_args!("mov.u32 {out}, {name}"));
        out
    }

    /// `base + index * stride`, in bytes.
    pub(super) fn address(&mut self, base: Value, index: Value, stride: i64) -> Value {
        match (index, i32::try_from(stride)) {
            (_, Ok(0)) | (Value::Int(0), _) => base,
            (index, Ok(stride)) => self.set(Class::Wide, "mad.wide.s32", &[index, Value::Int(stride), base]),
            (index, Err(_)) => {
                let wide = self.set(Class::Wide, "cvt.s64.s32", &[index]);
                let out = self.fresh(Class::Wide);
                self.line(format_args!("mad.lo.s64 {out}, {wide}, {stride}, {base}"));
                out
            }
        }
    }

    /// The whole function.
    pub(super) fn finish(mut self, name: &str, threads: u32) -> String {
        self.line(format_args!("ret"));
        let params: Vec<String> = self.params.iter().map(|(ty, name)| format!("  .param .{ty} {name}")).collect();
        // One block at a time is enough: for more, the assembler would rather spill registers.
        let limits = format!(".maxntid {threads}, 1, 1\n.minnctapersm 1\n");
        let mut out = format!(".visible .entry {name}(\n{}\n)\n{limits}{{\n", params.join(",\n"));
        for class in Class::ALL {
            let count = self.used[class as usize];
            if count > 0 {
                let _ = writeln!(out, "  .reg .{} {}<{count}>;", class.suffix(), class.prefix());
            }
        }
        for (name, bytes) in &self.shared {
            let _ = writeln!(out, "  .shared .align 16 .b8 {name}[{bytes}];");
        }
        out + &self.lines + "}\n"
    }
}
