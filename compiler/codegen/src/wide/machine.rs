//! Registers and instructions of a loop's function.
//!
//! `rdi` is the frame, `rsi` the constants, `rax` the first iteration of the vectors at hand, `r15` the variable of a loop inside, `r14` often a multiple of it;
//! `rcx` and `rdx` are scratch; streams begin in the others, as far as they go. Sums come first among the vector registers; in the last iterations, which fill no vector, narrow vectors keep
//! their lanes in the last register, wide ones in `k1`.

use super::code::{Binary, Bound, Inst, Integer, Logic, Operand, Place, Value};
use super::instructions::{MulAdd, predicate};
use super::lower::Lowered;
use super::{Frame, Width};
use crate::math::Comparison;
use iced_x86::{BlockEncoder, BlockEncoderOptions, Code, Instruction, InstructionBlock, MemoryOperand, Register};
use recc_core::loops::{Combine, Type};
use std::collections::BTreeMap;

/// Registers that hold streams; the kernel wants those behind the first four back.
const STREAMS: [Register; 7] = [Register::R8, Register::R9, Register::R10, Register::R11, Register::RBX, Register::R12, Register::R13];
const FREE_STREAMS: usize = 4;

/// Numbers of instructions, by which branches name them, are far from addresses of constants.
const FIRST_NUMBER: u64 = 1 << 32;

/// The variable of an inner loop, and what is added to the place of a stream.
const COUNTER: Register = Register::R15;
const FURTHER: Register = Register::R14;

/// What a loop's rounds do.
pub(super) enum Plan {
    /// So many rounds, and what is left; of its last vector so many lanes, or all if 0.
    Known { main: Option<(Lowered, usize)>, rest: Option<(Lowered, usize)> },
    /// Rounds of several vectors, of one, and the last iterations.
    Unknown { main: Lowered, one: Option<Lowered>, last: Lowered },
}

impl Plan {
    pub(super) fn parts(&self) -> Vec<&Lowered> {
        match self {
            Plan::Known { main, rest } => main.iter().chain(rest).map(|(part, _)| part).collect(),
            Plan::Unknown { main, one, last } => [Some(main), one.as_ref(), Some(last)].into_iter().flatten().collect(),
        }
    }
}

/// Constants followed by the function, and where that begins.
pub(super) fn function(plan: &Plan, frame: Frame) -> Option<(Vec<u8>, usize)> {
    let parts = plan.parts();
    let combines: Vec<Combine> = parts.first()?.sums.iter().map(|(_, combine)| *combine).collect();
    let vectors = parts.iter().map(|part| part.group.vectors).max()?;
    let mut machine = Machine::new(frame, combines, vectors);
    let streams = &STREAMS[..frame.streams.min(STREAMS.len())];
    machine.begin(streams)?;
    match plan {
        Plan::Known { main, rest } => {
            if let Some((main, rounds)) = main {
                machine.rounds(main, *rounds)?;
            }
            if let Some((rest, lanes)) = rest {
                machine.once = main.is_none();
                if *lanes > 0 {
                    machine.emit(Code::Mov_r32_imm32, &[Register::ECX.into(), Arg::Number(*lanes as u32)])?;
                    machine.mask()?;
                }
                machine.body(rest)?;
            }
        }
        Plan::Unknown { main, one, last } => {
            machine.loop_over(main, false)?;
            if let Some(one) = one {
                machine.loop_over(one, false)?;
            }
            machine.emit(Code::Mov_r64_rm64, &[Register::RCX.into(), machine.frame_at(0).into()])?;
            machine.emit(Code::Sub_r64_rm64, &[Register::RCX.into(), Register::RAX.into()])?;
            let none = machine.branch(Code::Je_rel32_64)?;
            machine.mask()?;
            machine.body(last)?;
            machine.land(none);
        }
    }
    machine.end(streams)?;
    machine.finish()
}

/// What an instruction works on.
#[derive(Clone, Copy)]
enum Arg {
    Register(Register),
    Memory(MemoryOperand),
    Number(u32),
}

impl From<Register> for Arg {
    fn from(register: Register) -> Arg {
        Arg::Register(register)
    }
}

impl From<MemoryOperand> for Arg {
    fn from(memory: MemoryOperand) -> Arg {
        Arg::Memory(memory)
    }
}

struct Machine {
    frame: Frame,
    width: Width,
    combines: Vec<Combine>,
    /// Of all copies.
    sums: Vec<Register>,
    instructions: Vec<Instruction>,
    pool: Vec<u8>,
    /// Where constants lie in the pool.
    constants: BTreeMap<u32, i64>,
    numbers: BTreeMap<u32, i64>,
    /// The lanes of the last iterations, while they are in a vector register.
    lanes: Option<Register>,
    /// The place whose base, with what is added, is in `rdx`.
    based: Option<(usize, Vec<(Integer, i32)>)>,
    /// Times how many bytes the variable of the inner loop is in `r14`.
    counted: Option<i32>,
    /// Whether one round does it all, so that `rax` is zero.
    once: bool,
    /// The begin of the inner loop, and the branch that leaves it.
    open: Option<(u64, usize)>,
    free: Vec<Register>,
    free_masks: Vec<Register>,
    held: BTreeMap<Value, Register>,
    /// Where each value is read last.
    last: BTreeMap<Value, usize>,
}

impl Machine {
    fn new(frame: Frame, combines: Vec<Combine>, vectors: usize) -> Self {
        let width = frame.width;
        let sums = width.vectors().into_iter().take(combines.len() * vectors).collect();
        Machine {
            frame,
            width,
            combines,
            sums,
            instructions: Vec::new(),
            pool: Vec::new(),
            constants: BTreeMap::new(),
            numbers: BTreeMap::new(),
            lanes: None,
            based: None,
            counted: None,
            once: false,
            open: None,
            free: Vec::new(),
            free_masks: Vec::new(),
            held: BTreeMap::new(),
            last: BTreeMap::new(),
        }
    }

    fn emit(&mut self, code: Code, args: &[Arg]) -> Option<&mut Instruction> {
        use Arg::{Memory as M, Number as N, Register as R};
        let instruction = match *args {
            [] => Ok(Instruction::with(code)),
            [R(a)] => Instruction::with1(code, a),
            [R(a), R(b)] => Instruction::with2(code, a, b),
            [R(a), N(b)] => Instruction::with2(code, a, b),
            [R(a), M(b)] => Instruction::with2(code, a, b),
            [M(a), R(b)] => Instruction::with2(code, a, b),
            [R(a), R(b), R(c)] => Instruction::with3(code, a, b, c),
            [R(a), R(b), M(c)] => Instruction::with3(code, a, b, c),
            [R(a), M(b), R(c)] => Instruction::with3(code, a, b, c),
            [M(a), R(b), R(c)] => Instruction::with3(code, a, b, c),
            [R(a), R(b), N(c)] => Instruction::with3(code, a, b, c),
            [R(a), R(b), R(c), N(d)] => Instruction::with4(code, a, b, c, d),
            [R(a), R(b), M(c), N(d)] => Instruction::with4(code, a, b, c, d),
            [R(a), R(b), R(c), R(d)] => Instruction::with4(code, a, b, c, d),
            [R(a), R(b), M(c), R(d)] => Instruction::with4(code, a, b, c, d),
            _ => return None,
        };
        self.push(instruction.ok()?);
        self.instructions.last_mut()
    }

    fn push(&mut self, mut instruction: Instruction) {
        instruction.set_ip(self.here());
        self.instructions.push(instruction);
    }

    /// A branch whose target is told later.
    fn branch(&mut self, code: Code) -> Option<usize> {
        self.push(Instruction::with_branch(code, FIRST_NUMBER).ok()?);
        Some(self.instructions.len() - 1)
    }

    /// A branch goes to the next instruction.
    fn land(&mut self, branch: usize) {
        let target = self.here();
        self.instructions[branch].set_near_branch64(target);
    }

    fn frame_at(&self, offset: i32) -> MemoryOperand {
        MemoryOperand::with_base_displ(Register::RDI, i64::from(offset))
    }

    fn begin(&mut self, streams: &[Register]) -> Option<()> {
        self.emit(Code::Push_r64, &[Register::RBP.into()])?;
        self.emit(Code::Mov_r64_rm64, &[Register::RBP.into(), Register::RSP.into()])?;
        for &register in streams.iter().skip(FREE_STREAMS).chain(&[FURTHER, COUNTER]) {
            self.emit(Code::Push_r64, &[register.into()])?;
        }
        // Constants lie in front of the code.
        self.emit(Code::Lea_r64_m, &[Register::RSI.into(), MemoryOperand::with_base_displ_size(Register::RIP, 0, 8).into()])?;
        for (at, &register) in streams.iter().enumerate() {
            let from = self.frame_at(self.frame.stream(at));
            self.emit(Code::Mov_r64_rm64, &[register.into(), from.into()])?;
        }
        for at in 0..self.sums.len() {
            let identity = self.combines[at % self.combines.len()].identity() as f32;
            self.load_into(self.sums[at], Operand::Constant(identity.to_bits()))?;
        }
        self.emit(Code::Xor_r32_rm32, &[Register::EAX.into(), Register::EAX.into()])?;
        Some(())
    }

    fn end(&mut self, streams: &[Register]) -> Option<()> {
        let count = self.combines.len();
        for at in 0..count {
            let to = self.sums[at];
            for part in self.sums[at..].iter().skip(count).step_by(count).copied().collect::<Vec<_>>() {
                self.combine(self.combines[at], to, part)?;
            }
            let place = self.frame_at(self.frame.sum(at));
            self.emit(self.width.store(), &[place.into(), to.into()])?;
        }
        self.emit(Code::VEX_Vzeroupper, &[])?;
        for &register in streams.iter().skip(FREE_STREAMS).chain(&[FURTHER, COUNTER]).rev() {
            self.emit(Code::Pop_r64, &[register.into()])?;
        }
        self.emit(Code::Pop_r64, &[Register::RBP.into()])?;
        self.emit(Code::Retnq, &[])?;
        Some(())
    }

    /// Adds the sum of another vector; of extremes one that is NaN stays so.
    fn combine(&mut self, combine: Combine, to: Register, part: Register) -> Option<()> {
        let op = match combine {
            Combine::Add => {
                self.emit(self.width.binary(Binary::Add), &[to.into(), to.into(), part.into()])?;
                return Some(());
            }
            Combine::Max => Binary::Max,
            Combine::Min => Binary::Min,
        };
        let free = self.width.vectors().into_iter().filter(|own| !self.sums.contains(own)).collect::<Vec<_>>();
        let (value, nan) = (*free.first()?, *self.width.masks().first().or(free.get(1))?);
        self.emit(self.width.binary(op), &[value.into(), to.into(), part.into()])?;
        self.emit(self.width.compare(), &[nan.into(), to.into(), to.into(), Arg::Number(predicate(Comparison::Unordered))])?;
        match self.width {
            Width::Zmm => {
                let code = Code::EVEX_Vblendmps_zmm_k1z_zmm_zmmm512b32;
                self.emit(code, &[to.into(), value.into(), to.into()])?.set_op_mask(nan);
            }
            Width::Ymm => {
                self.emit(Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm, &[to.into(), value.into(), to.into(), nan.into()])?;
            }
        }
        Some(())
    }

    fn finish(mut self) -> Option<(Vec<u8>, usize)> {
        self.pool.resize(self.pool.len().next_multiple_of(64), 0);
        let block = InstructionBlock::new(&self.instructions, self.pool.len() as u64);
        let code = BlockEncoder::encode(64, block, BlockEncoderOptions::NONE).ok()?;
        let entry = self.pool.len();
        self.pool.extend(code.code_buffer);
        Some((self.pool, entry))
    }

    /// A number of rounds that is known.
    fn rounds(&mut self, code: &Lowered, rounds: usize) -> Option<()> {
        if rounds > 1 {
            return self.loop_over(code, true);
        }
        self.body(code)?;
        self.step(code)
    }

    fn step(&mut self, code: &Lowered) -> Option<()> {
        let step = (code.group.vectors * self.width.lanes()) as u32;
        self.emit(Code::Add_rm64_imm32, &[Register::RAX.into(), Arg::Number(step)])?;
        Some(())
    }

    /// Rounds while a whole step is left.
    fn loop_over(&mut self, code: &Lowered, once_at_least: bool) -> Option<()> {
        let step = (code.group.vectors * self.width.lanes()) as u32;
        self.emit(Code::Mov_r64_rm64, &[Register::RCX.into(), self.frame_at(0).into()])?;
        self.emit(Code::Sub_rm64_imm32, &[Register::RCX.into(), Arg::Number(step)])?;
        let none = match once_at_least {
            true => None,
            false => {
                self.emit(Code::Cmp_r64_rm64, &[Register::RAX.into(), Register::RCX.into()])?;
                Some(self.branch(Code::Jg_rel32_64)?)
            }
        };
        let first = self.here();
        self.body(code)?;
        self.step(code)?;
        self.emit(Code::Cmp_r64_rm64, &[Register::RAX.into(), Register::RCX.into()])?;
        let again = self.branch(Code::Jle_rel32_64)?;
        self.instructions[again].set_near_branch64(first);
        if let Some(none) = none {
            self.land(none);
        }
        Some(())
    }

    /// Makes the lanes of the last iterations, of which there are `rcx`.
    fn mask(&mut self) -> Option<()> {
        match self.width {
            Width::Zmm => {
                self.emit(Code::Mov_r32_imm32, &[Register::EDX.into(), Arg::Number(u32::MAX)])?;
                self.emit(Code::VEX_Bzhi_r32_rm32_r32, &[Register::EDX.into(), Register::EDX.into(), Register::ECX.into()])?;
                self.emit(Code::VEX_Kmovw_kr_r32, &[Register::K1.into(), Register::EDX.into()])?;
            }
            Width::Ymm => {
                // All bits of eight lanes, then none of eight.
                let bits = self.pool.len() as i64;
                self.pool.extend([0xff; 32]);
                self.pool.extend([0; 32]);
                self.emit(Code::Neg_rm64, &[Register::RCX.into()])?;
                let from = MemoryOperand::new(Register::RSI, Register::RCX, 4, bits + 32, 1, false, Register::None);
                let lanes = *self.width.vectors().last()?;
                self.emit(self.width.load(), &[lanes.into(), from.into()])?;
                self.lanes = Some(lanes);
            }
        }
        Some(())
    }

    fn body(&mut self, code: &Lowered) -> Option<()> {
        let outside = self.sums.len();
        // Sums of the body's own take the registers behind those of outside of its group.
        let first = self.combines.len() * code.group.vectors;
        let mut free: Vec<Register> = self.width.vectors().into_iter().filter(|own| self.lanes != Some(*own)).skip(outside).collect();
        if free.len() < code.own_sums {
            return None;
        }
        let own: Vec<Register> = free.drain(..code.own_sums).collect();
        let all = self.sums.clone();
        self.sums.truncate(first);
        self.sums.extend(own);
        free.reverse();
        self.free = free;
        self.free_masks = self.width.masks();
        self.held.clear();
        self.moved();
        self.last = last_reads(&code.code);
        for (at, inst) in code.code.iter().enumerate() {
            self.inst(at, inst)?;
            // What was read last here, or before the end of the loop that needed it until now, or never is.
            let past = |value: &Value| self.last.get(value).is_none_or(|last| *last <= at);
            let done: Vec<Value> = self.held.keys().copied().filter(past).collect();
            let registers: Vec<Register> = done.into_iter().filter_map(|value| self.held.remove(&value)).collect();
            registers.into_iter().for_each(|register| self.give_back(register));
        }
        self.sums = all;
        Some(())
    }

    /// The number of the next instruction.
    fn here(&self) -> u64 {
        FIRST_NUMBER + self.instructions.len() as u64
    }

    fn give_back(&mut self, register: Register) {
        if register.is_k() { self.free_masks.push(register) } else { self.free.push(register) }
    }

    /// Registers of operands that are read for the last time are free for the result.
    fn release(&mut self, at: usize, operands: &[Operand]) {
        for operand in operands {
            if let Operand::Value(value) = operand
                && self.last.get(value) == Some(&at)
                && let Some(register) = self.held.remove(value)
            {
                self.give_back(register);
            }
        }
    }

    fn define(&mut self, to: Value) -> Option<Register> {
        let register = self.free.pop()?;
        self.held.insert(to, register);
        Some(register)
    }

    fn define_truth(&mut self, to: Value) -> Option<Register> {
        let register = if self.width == Width::Zmm { self.free_masks.pop()? } else { self.free.pop()? };
        self.held.insert(to, register);
        Some(register)
    }

    fn in_register(operand: Operand) -> bool {
        matches!(operand, Operand::Value(_) | Operand::Sum(_))
    }

    /// The register of a value or a sum.
    fn known(&self, operand: Operand) -> Option<Register> {
        match operand {
            Operand::Value(value) => self.held.get(&value).copied(),
            Operand::Sum(at) => self.sums.get(at).copied(),
            Operand::Constant(_) | Operand::Scalar(_) | Operand::Numbers(_) => None,
        }
    }

    /// Where a constant or a number of the frame lies, as an operand of arithmetic.
    fn memory(&mut self, operand: Operand) -> Option<MemoryOperand> {
        let spread = self.width == Width::Zmm;
        let at = |base, offset, spread| MemoryOperand::new(base, Register::None, 1, offset, 1, spread, Register::None);
        match operand {
            Operand::Constant(bits) => {
                let count = self.frame.copies();
                let pool = &mut self.pool;
                let offset = *self.constants.entry(bits).or_insert_with(|| {
                    let offset = pool.len() as i64;
                    (0..count).for_each(|_| pool.extend(bits.to_le_bytes()));
                    offset
                });
                Some(at(Register::RSI, offset, spread))
            }
            Operand::Scalar(number) => Some(at(Register::RDI, i64::from(self.frame.scalar(number)), spread)),
            Operand::Numbers(first) => {
                let (pool, lanes) = (&mut self.pool, self.width.lanes() as u32);
                let offset = *self.numbers.entry(first).or_insert_with(|| {
                    let offset = pool.len() as i64;
                    (first..first + lanes).for_each(|number| pool.extend(number.to_le_bytes()));
                    offset
                });
                Some(at(Register::RSI, offset, false))
            }
            Operand::Value(_) | Operand::Sum(_) => None,
        }
    }

    fn arg(&mut self, operand: Operand) -> Option<Arg> {
        match self.known(operand) {
            Some(register) => Some(register.into()),
            None => self.memory(operand).map(Arg::Memory),
        }
    }

    fn load_into(&mut self, register: Register, operand: Operand) -> Option<()> {
        if operand == Operand::Constant(0) {
            self.emit(self.width.binary(Binary::Xor), &[register.into(), register.into(), register.into()])?;
            return Some(());
        }
        let mut from = self.memory(operand)?;
        let code = if from.is_broadcast { self.width.spread() } else { self.width.load() };
        from.is_broadcast = false;
        self.emit(code, &[register.into(), from.into()])?;
        Some(())
    }

    /// A register that holds an operand; one that had to be loaded is added to `loaded`.
    fn register(&mut self, operand: Operand, loaded: &mut Vec<Register>) -> Option<Register> {
        if let Some(register) = self.known(operand) {
            return Some(register);
        }
        let register = self.free.pop()?;
        self.load_into(register, operand)?;
        loaded.push(register);
        Some(register)
    }

    /// The result's register, holding an operand that it is to overwrite.
    fn overwrite(&mut self, at: usize, to: Value, operand: Operand) -> Option<Register> {
        if let Operand::Value(value) = operand
            && self.last.get(&value) == Some(&at)
        {
            let register = self.held.remove(&value)?;
            self.held.insert(to, register);
            return Some(register);
        }
        let register = self.define(to)?;
        match self.known(operand) {
            Some(from) => self.emit(self.width.copy(), &[register.into(), from.into()]).map(|_| ())?,
            None => self.load_into(register, operand)?,
        }
        Some(register)
    }

    /// The address of a place, in this round or for all.
    fn address(&mut self, place: &Place, size: i64, moves: bool) -> Option<MemoryOperand> {
        let moves = moves && !self.once;
        if let (Some(stream), false, &[(Integer::Counter, stride)]) = (STREAMS.get(place.stream), moves, &place.further[..]) {
            let at = |index, scale| MemoryOperand::new(*stream, index, scale, i64::from(place.bytes), 1, false, Register::None);
            // The processor itself adds the variable of an inner loop times a small power of two.
            if let 1 | 2 | 4 | 8 = stride {
                return Some(at(COUNTER, stride as u32));
            }
            if self.counted != Some(stride) {
                self.push(Instruction::with3(Code::Imul_r64_rm64_imm32, FURTHER, COUNTER, stride).ok()?);
                self.counted = Some(stride);
            }
            return Some(at(FURTHER, 1));
        }
        let base = self.base_of(place)?;
        let index = if moves { Register::RAX } else { Register::None };
        Some(MemoryOperand::new(base, index, size as u32, i64::from(place.bytes), 1, false, Register::None))
    }

    /// A register that holds the place of a stream, with what is added.
    fn base_of(&mut self, place: &Place) -> Option<Register> {
        match STREAMS.get(place.stream) {
            Some(register) if place.further.is_empty() => Some(*register),
            _ => {
                let wanted = (place.stream, place.further.clone());
                if self.based.as_ref() != Some(&wanted) {
                    self.base(place)?;
                    self.based = Some(wanted);
                }
                Some(Register::RDX)
            }
        }
    }

    /// The variable of the inner loop changes, and with it all places that it moves.
    fn moved(&mut self) {
        self.based = None;
        self.counted = None;
    }

    /// The place of a stream, with what is added, to `rdx`.
    fn base(&mut self, place: &Place) -> Option<()> {
        let base = match STREAMS.get(place.stream) {
            Some(register) => Arg::Register(*register),
            None => self.frame_at(self.frame.stream(place.stream)).into(),
        };
        self.emit(Code::Mov_r64_rm64, &[Register::RDX.into(), base])?;
        for &(integer, stride) in &place.further {
            self.counted = None;
            let product = match integer {
                Integer::Counter => Instruction::with3(Code::Imul_r64_rm64_imm32, FURTHER, COUNTER, stride),
                Integer::Slot(slot) => Instruction::with3(Code::Imul_r64_rm64_imm32, FURTHER, self.frame_at(self.frame.slot(slot)), stride),
            };
            self.push(product.ok()?);
            self.emit(Code::Add_r64_rm64, &[Register::RDX.into(), FURTHER.into()])?;
        }
        Some(())
    }

    /// Confines the last instruction to the lanes of the last iterations.
    fn mask_last(&mut self, zeroing: bool) {
        if let Some(instruction) = self.instructions.last_mut() {
            instruction.set_op_mask(Register::K1);
            instruction.set_zeroing_masking(zeroing);
        }
    }

    /// A bound of an inner loop, as the operand of a comparison.
    fn bound(&mut self, code: (Code, Code), register: Register, bound: Bound) -> Option<()> {
        match bound {
            Bound::Constant(value) => self.emit(code.0, &[register.into(), Arg::Number(value as u32)])?,
            Bound::Whole(at) => self.emit(code.1, &[register.into(), self.frame_at(self.frame.whole(at)).into()])?,
        };
        Some(())
    }

    fn loop_begin(&mut self, begin: Bound, end: Bound) -> Option<()> {
        self.bound((Code::Mov_rm64_imm32, Code::Mov_r64_rm64), COUNTER, begin)?;
        self.bound((Code::Cmp_rm64_imm32, Code::Cmp_r64_rm64), COUNTER, end)?;
        let none = self.branch(Code::Jge_rel32_64)?;
        self.open = Some((self.here(), none));
        self.moved();
        Some(())
    }

    fn loop_end(&mut self, end: Bound) -> Option<()> {
        let (first, none) = self.open.take()?;
        self.emit(Code::Inc_rm64, &[COUNTER.into()])?;
        self.bound((Code::Cmp_rm64_imm32, Code::Cmp_r64_rm64), COUNTER, end)?;
        let again = self.branch(Code::Jl_rel32_64)?;
        self.instructions[again].set_near_branch64(first);
        self.land(none);
        self.moved();
        Some(())
    }

    fn inst(&mut self, at: usize, inst: &Inst) -> Option<()> {
        let mut loaded = Vec::new();
        match *inst {
            Inst::Binary { op, to, a, b } => {
                let (a, b) = if op.commutes() && !Self::in_register(a) && Self::in_register(b) { (b, a) } else { (a, b) };
                let (left, right) = (self.register(a, &mut loaded)?, self.arg(b)?);
                self.release(at, &[a, b]);
                let result = self.define(to)?;
                self.emit(self.width.binary(op), &[result.into(), left.into(), right])?;
            }
            Inst::MulAdd { to, a, b, c } => self.mul_add(at, to, [a, b, c], &mut loaded)?,
            Inst::Unary { op, to, a } => {
                let from = self.arg(a)?;
                self.release(at, &[a]);
                let result = self.define(to)?;
                self.emit(self.width.unary(op), &[result.into(), from])?;
            }
            Inst::Shift { op, to, a, by } => {
                let from = self.register(a, &mut loaded)?;
                self.release(at, &[a]);
                let result = self.define(to)?;
                self.emit(self.width.shift(op), &[result.into(), from.into(), Arg::Number(u32::from(by))])?;
            }
            Inst::Compare { comparison, to, a, b } => {
                let (left, right) = (self.register(a, &mut loaded)?, self.arg(b)?);
                self.release(at, &[a, b]);
                let result = self.define_truth(to)?;
                self.emit(self.width.compare(), &[result.into(), left.into(), right, Arg::Number(predicate(comparison))])?;
            }
            Inst::Logic { op, to, a, b } => self.logic(at, op, to, a, b)?,
            Inst::Select { to, condition, a, b } => self.select(at, to, condition, (a, b), &mut loaded)?,
            Inst::Counter { to } => self.counter(to)?,
            Inst::Truth { to, a } => {
                let from = self.register(a, &mut loaded)?;
                let result = self.define_truth(to)?;
                match self.width {
                    Width::Zmm => self.emit(Code::EVEX_Vpmovd2m_kr_zmm, &[result.into(), from.into()])?,
                    Width::Ymm => self.emit(self.width.copy(), &[result.into(), from.into()])?,
                };
            }
            Inst::Load { to, ref from, element, partial } => self.load(to, from, element, partial)?,
            Inst::Spread { to, ref from } => {
                let result = self.define(to)?;
                let from = self.address(from, 1, false)?;
                self.emit(self.width.spread(), &[result.into(), from.into()])?;
            }
            Inst::LoadInteger { slot, ref from } => {
                let from = self.address(from, 1, false)?;
                self.emit(Code::Movsxd_r64_rm32, &[FURTHER.into(), from.into()])?;
                let to = self.frame_at(self.frame.slot(slot));
                self.emit(Code::Mov_rm64_r64, &[to.into(), FURTHER.into()])?;
                // Places that depend on what the slot held before.
                self.moved();
            }
            Inst::Gather { to, ref from, index, scale, partial } => self.gather(to, from, (index, scale), partial)?,
            Inst::Store { ref to, value, partial } => {
                let value = self.register(value, &mut loaded)?;
                let to = self.address(to, 4, true)?;
                match self.lanes.filter(|_| partial) {
                    Some(lanes) => self.emit(Code::VEX_Vmaskmovps_m256_ymm_ymm, &[to.into(), lanes.into(), value.into()]).map(|_| ())?,
                    None => {
                        self.emit(self.width.store(), &[to.into(), value.into()])?;
                        if partial {
                            self.mask_last(false);
                        }
                    }
                }
            }
            Inst::StoreOne { ref to, value } => {
                let value = self.register(value, &mut loaded)?;
                let to = self.address(to, 1, false)?;
                self.emit(self.width.store_one(), &[to.into(), (Register::XMM0 + self.width.number(value)).into()])?;
            }
            Inst::Turn { to, a, by } => {
                let from = self.register(a, &mut loaded)?;
                self.release(at, &[a]);
                self.turn(to, from, by)?;
            }
            Inst::Begin { sum, identity } => self.load_into(self.sums[sum], Operand::Constant(identity.to_bits()))?,
            Inst::AddTo { sum, value, partial } => self.add_to(self.sums[sum], value, partial, &mut loaded)?,
            Inst::SetSum { sum, value, partial } => {
                let value = self.register(value, &mut loaded)?;
                self.set_sum(self.sums[sum], value, partial)?;
            }
            Inst::LoopBegin { begin, end } => self.loop_begin(begin, end)?,
            Inst::LoopEnd { end } => self.loop_end(end)?,
        }
        loaded.into_iter().for_each(|register| self.give_back(register));
        Some(())
    }

    fn mul_add(&mut self, at: usize, to: Value, [a, b, c]: [Operand; 3], loaded: &mut Vec<Register>) -> Option<()> {
        let dies = |own: &Self, operand| matches!(operand, Operand::Value(value) if own.last.get(&value) == Some(&at));
        // Which factor comes first is free: one in a register, and best one that may be overwritten.
        let swap = !Self::in_register(a) && Self::in_register(b) || Self::in_register(b) && dies(self, b) && !dies(self, a);
        let (a, b) = if swap { (b, a) } else { (a, b) };
        let (form, first, second, third) = match (Self::in_register(b), Self::in_register(c)) {
            (_, false) => (MulAdd::Times213, a, b, c),
            _ if dies(self, c) => (MulAdd::Times231, c, a, b),
            (false, true) if dies(self, a) => (MulAdd::Times132, a, c, b),
            (true, true) if dies(self, a) => (MulAdd::Times213, a, b, c),
            _ => (MulAdd::Times231, c, a, b),
        };
        // Before the first is overwritten: the others may be the same.
        let (second, third) = (self.register(second, loaded)?, self.arg(third)?);
        let result = self.overwrite(at, to, first)?;
        self.emit(self.width.mul_add(form), &[result.into(), second.into(), third])?;
        Some(())
    }

    fn logic(&mut self, at: usize, op: Logic, to: Value, a: Value, b: Value) -> Option<()> {
        let (left, right) = (self.known(Operand::Value(a))?, self.known(Operand::Value(b))?);
        self.release(at, &[Operand::Value(a), Operand::Value(b)]);
        let result = self.define_truth(to)?;
        let code = self.width.logic(op);
        match (op, self.width) {
            (Logic::Not, Width::Zmm) => self.emit(code, &[result.into(), left.into()])?,
            (Logic::Not, Width::Ymm) => {
                let all = self.memory(Operand::Constant(u32::MAX))?;
                self.emit(code, &[result.into(), left.into(), all.into()])?
            }
            (Logic::And | Logic::Or, _) => self.emit(code, &[result.into(), left.into(), right.into()])?,
        };
        Some(())
    }

    fn select(&mut self, at: usize, to: Value, condition: Value, (a, b): (Operand, Operand), loaded: &mut Vec<Register>) -> Option<()> {
        let mask = self.known(Operand::Value(condition))?;
        let operands = [Operand::Value(condition), a, b];
        if b == Operand::Constant(0) {
            let then = if self.width == Width::Zmm { self.register(a, loaded)?.into() } else { self.arg(a)? };
            self.release(at, &operands);
            let result = self.define(to)?;
            match self.width {
                Width::Zmm => {
                    let instruction = self.emit(self.width.copy(), &[result.into(), then])?;
                    instruction.set_op_mask(mask);
                    instruction.set_zeroing_masking(true);
                }
                Width::Ymm => self.emit(self.width.binary(Binary::And), &[result.into(), mask.into(), then]).map(|_| ())?,
            }
            return Some(());
        }
        let (otherwise, then) = (self.register(b, loaded)?, self.arg(a)?);
        self.release(at, &operands);
        let result = self.define(to)?;
        match self.width {
            Width::Zmm => {
                let code = Code::EVEX_Vblendmps_zmm_k1z_zmm_zmmm512b32;
                self.emit(code, &[result.into(), otherwise.into(), then])?.set_op_mask(mask);
            }
            Width::Ymm => {
                let code = Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm;
                self.emit(code, &[result.into(), otherwise.into(), then, mask.into()])?;
            }
        }
        Some(())
    }

    fn load(&mut self, to: Value, from: &Place, element: Type, partial: bool) -> Option<()> {
        let result = self.define(to)?;
        let from = self.address(from, element.bytes(), true)?;
        if let Some(lanes) = self.lanes.filter(|_| partial) {
            self.emit(Code::VEX_Vmaskmovps_ymm_ymm_m256, &[result.into(), lanes.into(), from.into()])?;
            return Some(());
        }
        let code = match (self.width, element) {
            (_, Type::F32 | Type::I32) => self.width.load(),
            (Width::Zmm, Type::F16) => Code::EVEX_Vcvtph2ps_zmm_k1z_ymmm256_sae,
            (Width::Zmm, Type::I8) => Code::EVEX_Vpmovsxbd_zmm_k1z_xmmm128,
            (Width::Ymm, Type::F16 | Type::I8) | (_, Type::F64 | Type::Bool) => return None,
        };
        self.emit(code, &[result.into(), from.into()])?;
        if partial {
            self.mask_last(true);
        }
        Some(())
    }

    fn gather(&mut self, to: Value, from: &Place, (index, scale): (Value, u8), partial: bool) -> Option<()> {
        let index = self.known(Operand::Value(index))?;
        let result = self.define(to)?;
        let base = self.base_of(from)?;
        let from = MemoryOperand::new(base, index, u32::from(scale), i64::from(from.bytes), 1, false, Register::None);
        // Lanes that are not loaded must not hold what the register held before.
        self.load_into(result, Operand::Constant(0))?;
        match self.width {
            Width::Zmm => {
                let mask = self.free_masks.pop()?;
                match partial {
                    true => self.emit(Code::VEX_Kmovw_kr_km16, &[mask.into(), Register::K1.into()])?,
                    false => self.emit(Code::VEX_Kxnorw_kr_kr_kr, &[mask.into(), mask.into(), mask.into()])?,
                };
                self.emit(Code::EVEX_Vgatherdps_zmm_k1_vm32z, &[result.into(), from.into()])?.set_op_mask(mask);
                self.free_masks.push(mask);
            }
            Width::Ymm => {
                let mask = self.free.pop()?;
                match self.lanes.filter(|_| partial) {
                    Some(lanes) => self.emit(self.width.copy(), &[mask.into(), lanes.into()])?,
                    None => self.emit(Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256, &[mask.into(), mask.into(), mask.into()])?,
                };
                self.emit(Code::VEX_Vgatherdps_ymm_vm32y_ymm, &[result.into(), from.into(), mask.into()])?;
                self.free.push(mask);
            }
        }
        Some(())
    }

    /// The first iteration of the round, in every lane.
    fn counter(&mut self, to: Value) -> Option<()> {
        let result = self.define(to)?;
        match self.width {
            Width::Zmm => self.emit(Code::EVEX_Vpbroadcastd_zmm_k1z_r32, &[result.into(), Register::EAX.into()])?,
            Width::Ymm => {
                let low = Register::XMM0 + self.width.number(result);
                self.emit(Code::VEX_Vmovd_xmm_rm32, &[low.into(), Register::EAX.into()])?;
                self.emit(Code::VEX_Vpbroadcastd_ymm_xmmm32, &[result.into(), low.into()])?
            }
        };
        Some(())
    }

    fn turn(&mut self, to: Value, from: Register, by: u8) -> Option<()> {
        let result = self.define(to)?;
        let (code, places) = self.width.turn(by);
        let (from, places) = (from.into(), Arg::Number(places));
        match code {
            Code::VEX_Vpermilps_ymm_ymmm256_imm8 => self.emit(code, &[result.into(), from, places])?,
            _ => self.emit(code, &[result.into(), from, from, places])?,
        };
        Some(())
    }

    fn set_sum(&mut self, sum: Register, value: Register, partial: bool) -> Option<()> {
        if let Some(lanes) = self.lanes.filter(|_| partial) {
            let args = [sum.into(), sum.into(), value.into(), lanes.into()];
            self.emit(Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm, &args)?;
            return Some(());
        }
        self.emit(self.width.copy(), &[sum.into(), value.into()])?;
        if partial {
            self.mask_last(false);
        }
        Some(())
    }

    fn add_to(&mut self, sum: Register, value: Operand, partial: bool, loaded: &mut Vec<Register>) -> Option<()> {
        let mut value = self.arg(value)?;
        if let Some(lanes) = self.lanes.filter(|_| partial) {
            let part = self.free.pop()?;
            self.emit(self.width.binary(Binary::And), &[part.into(), lanes.into(), value])?;
            loaded.push(part);
            value = part.into();
        }
        self.emit(self.width.binary(Binary::Add), &[sum.into(), sum.into(), value])?;
        if partial && self.width == Width::Zmm {
            self.mask_last(false);
        }
        Some(())
    }
}

/// Where each value is read last; one that is made outside a loop and read inside must hold until the loop ends.
fn last_reads(code: &[Inst]) -> BTreeMap<Value, usize> {
    let (mut last, mut made, mut begin) = (BTreeMap::new(), BTreeMap::new(), None);
    for (at, inst) in code.iter().enumerate() {
        match inst {
            Inst::LoopBegin { .. } => begin = Some(at),
            Inst::LoopEnd { .. } => begin = None,
            _ => {}
        }
        made.extend(inst.defines().map(|value| (value, at)));
        for value in inst.reads() {
            let outside = begin.filter(|begin| made.get(&value).is_some_and(|made| made < begin));
            let end = outside.and_then(|_| code[at..].iter().position(|inst| matches!(inst, Inst::LoopEnd { .. })));
            last.insert(value, at + end.unwrap_or(0));
        }
    }
    last
}
