//! Registers and instructions of a loop's function.
//!
//! `rdi` is the frame, `rsi` the constants, `rax` the first iteration of the vectors at hand; `rcx` and `rdx` are scratch; streams begin in the
//! others, as far as they go. Sums come first among the vector registers; in the last iterations, which fill no vector, narrow vectors keep
//! their lanes in the last register, wide ones in `k1`.

use super::code::{Binary, Inst, Logic, Operand, Place, Value};
use super::instructions::{MulAdd, predicate};
use super::lower::Lowered;
use super::{Frame, Width};
use iced_x86::{BlockEncoder, BlockEncoderOptions, Code, Instruction, InstructionBlock, MemoryOperand, Register};
use recc_core::loops::{Combine, Type};
use std::collections::BTreeMap;

/// Registers that hold streams; the kernel wants those behind the first four back.
const STREAMS: [Register; 9] =
    [Register::R8, Register::R9, Register::R10, Register::R11, Register::RBX, Register::R12, Register::R13, Register::R14, Register::R15];
const FREE_STREAMS: usize = 4;

/// Numbers of instructions, by which branches name them, are far from addresses of constants.
const FIRST_NUMBER: u64 = 1 << 32;

/// Constants followed by the function, and where that begins; `single` is the loop for one vector, `main` for one or more.
pub(super) fn function(main: &Lowered, single: &Lowered, frame: Frame, count: Option<usize>) -> Option<(Vec<u8>, usize)> {
    let combines: Vec<Combine> = main.sums.iter().map(|(_, combine)| *combine).collect();
    let mut machine = Machine::new(frame, combines, main.copies);
    let streams = &STREAMS[..main.streams.len().min(STREAMS.len())];
    machine.begin(streams)?;
    let lanes = frame.width.lanes();
    let step = main.copies * lanes;
    match count {
        Some(count) => {
            machine.rounds(main, step, count / step)?;
            machine.rounds(single, lanes, count % step / lanes)?;
            if !count.is_multiple_of(lanes) {
                machine.emit(Code::Mov_r32_imm32, &[Register::ECX.into(), Arg::Number((count % lanes) as u32)])?;
                machine.last_iterations(single)?;
            }
        }
        None => {
            machine.loop_over(main, step, false)?;
            if main.copies > 1 {
                machine.loop_over(single, lanes, false)?;
            }
            machine.emit(Code::Mov_r64_rm64, &[Register::RCX.into(), machine.frame_at(0).into()])?;
            machine.emit(Code::Sub_r64_rm64, &[Register::RCX.into(), Register::RAX.into()])?;
            let none = machine.branch(Code::Je_rel32_64)?;
            machine.last_iterations(single)?;
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
    /// The lanes of the last iterations, if those are being written and the lanes are in a vector register.
    lanes: Option<Register>,
    masked: bool,
    free: Vec<Register>,
    free_masks: Vec<Register>,
    held: BTreeMap<Value, Register>,
    /// Where each value is read last.
    last: BTreeMap<Value, usize>,
}

impl Machine {
    fn new(frame: Frame, combines: Vec<Combine>, copies: usize) -> Self {
        let width = frame.width;
        let sums = width.vectors().into_iter().take(combines.len() * copies).collect();
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
            masked: false,
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
        let mut instruction = instruction.ok()?;
        instruction.set_ip(FIRST_NUMBER + self.instructions.len() as u64);
        self.instructions.push(instruction);
        self.instructions.last_mut()
    }

    /// A branch whose target is told later.
    fn branch(&mut self, code: Code) -> Option<usize> {
        let mut instruction = Instruction::with_branch(code, FIRST_NUMBER).ok()?;
        instruction.set_ip(FIRST_NUMBER + self.instructions.len() as u64);
        self.instructions.push(instruction);
        Some(self.instructions.len() - 1)
    }

    /// A branch goes to the next instruction.
    fn land(&mut self, branch: usize) {
        let target = FIRST_NUMBER + self.instructions.len() as u64;
        self.instructions[branch].set_near_branch64(target);
    }

    fn frame_at(&self, offset: i32) -> MemoryOperand {
        MemoryOperand::with_base_displ(Register::RDI, i64::from(offset))
    }

    fn begin(&mut self, streams: &[Register]) -> Option<()> {
        self.emit(Code::Push_r64, &[Register::RBP.into()])?;
        self.emit(Code::Mov_r64_rm64, &[Register::RBP.into(), Register::RSP.into()])?;
        for &register in streams.iter().skip(FREE_STREAMS) {
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
            for copy in self.sums[at..].iter().skip(count).step_by(count).copied().collect::<Vec<_>>() {
                self.emit(self.width.binary(Binary::Add), &[to.into(), to.into(), copy.into()])?;
            }
            let place = self.frame_at(self.frame.sum(at));
            self.emit(self.width.store(), &[place.into(), to.into()])?;
        }
        self.emit(Code::VEX_Vzeroupper, &[])?;
        for &register in streams.iter().skip(FREE_STREAMS).rev() {
            self.emit(Code::Pop_r64, &[register.into()])?;
        }
        self.emit(Code::Pop_r64, &[Register::RBP.into()])?;
        self.emit(Code::Retnq, &[])?;
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
    fn rounds(&mut self, code: &Lowered, step: usize, rounds: usize) -> Option<()> {
        match rounds {
            0 => Some(()),
            1 => {
                self.body(&code.code, false)?;
                self.emit(Code::Add_rm64_imm32, &[Register::RAX.into(), Arg::Number(step as u32)])?;
                Some(())
            }
            _ => self.loop_over(code, step, true),
        }
    }

    /// Rounds while a whole step is left.
    fn loop_over(&mut self, code: &Lowered, step: usize, once_at_least: bool) -> Option<()> {
        self.emit(Code::Mov_r64_rm64, &[Register::RCX.into(), self.frame_at(0).into()])?;
        self.emit(Code::Sub_rm64_imm32, &[Register::RCX.into(), Arg::Number(step as u32)])?;
        let none = match once_at_least {
            true => None,
            false => {
                self.emit(Code::Cmp_r64_rm64, &[Register::RAX.into(), Register::RCX.into()])?;
                Some(self.branch(Code::Jg_rel32_64)?)
            }
        };
        let first = FIRST_NUMBER + self.instructions.len() as u64;
        self.body(&code.code, false)?;
        self.emit(Code::Add_rm64_imm32, &[Register::RAX.into(), Arg::Number(step as u32)])?;
        self.emit(Code::Cmp_r64_rm64, &[Register::RAX.into(), Register::RCX.into()])?;
        let again = self.branch(Code::Jle_rel32_64)?;
        self.instructions[again].set_near_branch64(first);
        if let Some(none) = none {
            self.land(none);
        }
        Some(())
    }

    /// The iterations that fill no vector, `rcx` of them.
    fn last_iterations(&mut self, code: &Lowered) -> Option<()> {
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
        self.body(&code.code, true)?;
        self.lanes = None;
        Some(())
    }

    fn body(&mut self, code: &[Inst], masked: bool) -> Option<()> {
        self.masked = masked;
        self.free = self.width.vectors().into_iter().filter(|own| !self.sums.contains(own) && self.lanes != Some(*own)).rev().collect();
        self.free_masks = self.width.masks();
        self.held.clear();
        self.last.clear();
        for (at, inst) in code.iter().enumerate() {
            self.last.extend(inst.reads().into_iter().map(|value| (value, at)));
        }
        for (at, inst) in code.iter().enumerate() {
            self.inst(at, inst)?;
            let done = inst.reads().into_iter().chain(inst.defines()).filter(|value| self.last.get(value).is_none_or(|last| *last <= at));
            for value in done.collect::<Vec<_>>() {
                if let Some(register) = self.held.remove(&value) {
                    self.give_back(register);
                }
            }
        }
        Some(())
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
    fn address(&mut self, place: Place, size: i64, moves: bool) -> Option<MemoryOperand> {
        let base = match STREAMS.get(place.stream) {
            Some(register) => *register,
            None => {
                let from = self.frame_at(self.frame.stream(place.stream));
                self.emit(Code::Mov_r64_rm64, &[Register::RDX.into(), from.into()])?;
                Register::RDX
            }
        };
        let index = if moves { Register::RAX } else { Register::None };
        Some(MemoryOperand::new(base, index, size as u32, i64::from(place.bytes), 1, false, Register::None))
    }

    /// Confines the last instruction to the lanes of the last iterations, if it is for those.
    fn mask_last(&mut self, zeroing: bool) {
        if let (true, Some(instruction)) = (self.masked, self.instructions.last_mut()) {
            instruction.set_op_mask(Register::K1);
            instruction.set_zeroing_masking(zeroing);
        }
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
            Inst::Counter { to } => {
                let result = self.define(to)?;
                match self.width {
                    Width::Zmm => self.emit(Code::EVEX_Vpbroadcastd_zmm_k1z_r32, &[result.into(), Register::EAX.into()])?,
                    Width::Ymm => {
                        let low = Register::XMM0 + (result as u32 - Register::YMM0 as u32);
                        self.emit(Code::VEX_Vmovd_xmm_rm32, &[low.into(), Register::EAX.into()])?;
                        self.emit(Code::VEX_Vpbroadcastd_ymm_xmmm32, &[result.into(), low.into()])?
                    }
                };
            }
            Inst::Truth { to, a } => {
                let from = self.register(a, &mut loaded)?;
                let result = self.define_truth(to)?;
                match self.width {
                    Width::Zmm => self.emit(Code::EVEX_Vpmovd2m_kr_zmm, &[result.into(), from.into()])?,
                    Width::Ymm => self.emit(self.width.copy(), &[result.into(), from.into()])?,
                };
            }
            Inst::Load { to, from, element } => self.load(to, from, element)?,
            Inst::Gather { to, from, index, scale } => self.gather(to, from, index, scale)?,
            Inst::Store { to, value } => {
                let value = self.register(value, &mut loaded)?;
                let to = self.address(to, 4, true)?;
                match self.lanes {
                    Some(lanes) => self.emit(Code::VEX_Vmaskmovps_m256_ymm_ymm, &[to.into(), lanes.into(), value.into()]).map(|_| ())?,
                    None => {
                        self.emit(self.width.store(), &[to.into(), value.into()])?;
                        self.mask_last(false);
                    }
                }
            }
            Inst::AddTo { sum, value } => self.add_to(self.sums[sum], value, &mut loaded)?,
            Inst::SetSum { sum, value } => {
                let (sum, value) = (self.sums[sum], self.register(value, &mut loaded)?);
                match self.lanes {
                    Some(lanes) => {
                        let args = [sum.into(), sum.into(), value.into(), lanes.into()];
                        self.emit(Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm, &args)?;
                    }
                    None => {
                        self.emit(self.width.copy(), &[sum.into(), value.into()])?;
                        self.mask_last(false);
                    }
                }
            }
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

    fn load(&mut self, to: Value, from: Place, element: Type) -> Option<()> {
        let result = self.define(to)?;
        let from = self.address(from, element.bytes(), true)?;
        if let Some(lanes) = self.lanes {
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
        self.mask_last(true);
        Some(())
    }

    fn gather(&mut self, to: Value, from: Place, index: Value, scale: u8) -> Option<()> {
        let index = self.known(Operand::Value(index))?;
        let result = self.define(to)?;
        let mut from = self.address(from, i64::from(scale), false)?;
        from.index = index;
        // Lanes that are not loaded must not hold what the register held before.
        self.load_into(result, Operand::Constant(0))?;
        match self.width {
            Width::Zmm => {
                let mask = self.free_masks.pop()?;
                match self.masked {
                    true => self.emit(Code::VEX_Kmovw_kr_km16, &[mask.into(), Register::K1.into()])?,
                    false => self.emit(Code::VEX_Kxnorw_kr_kr_kr, &[mask.into(), mask.into(), mask.into()])?,
                };
                self.emit(Code::EVEX_Vgatherdps_zmm_k1_vm32z, &[result.into(), from.into()])?.set_op_mask(mask);
                self.free_masks.push(mask);
            }
            Width::Ymm => {
                let mask = self.free.pop()?;
                match self.lanes {
                    Some(lanes) => self.emit(self.width.copy(), &[mask.into(), lanes.into()])?,
                    None => self.emit(Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256, &[mask.into(), mask.into(), mask.into()])?,
                };
                self.emit(Code::VEX_Vgatherdps_ymm_vm32y_ymm, &[result.into(), from.into(), mask.into()])?;
                self.free.push(mask);
            }
        }
        Some(())
    }

    fn add_to(&mut self, sum: Register, value: Operand, loaded: &mut Vec<Register>) -> Option<()> {
        let mut value = self.arg(value)?;
        if let Some(lanes) = self.lanes {
            let part = self.free.pop()?;
            self.emit(self.width.binary(Binary::And), &[part.into(), lanes.into(), value])?;
            loaded.push(part);
            value = part.into();
        }
        self.emit(self.width.binary(Binary::Add), &[sum.into(), sum.into(), value])?;
        if self.width == Width::Zmm {
            self.mask_last(false);
        }
        Some(())
    }
}
