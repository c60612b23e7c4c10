//! From a vector loop of the loop IR to [`super::code`].

use super::code::{Binary, Inst, Logic, Operand, Place, Shift, Unary, Value};
use super::{Asked, Scalar, Width};
use crate::math::{Arithmetic, Comparison};
use recc_core::loops::{Affine, Combine, Instr, LoopVar, Reg, Stmt, Term, Type};
use recc_core::scalar::Signature;
use std::collections::BTreeMap;

/// What a loop does, for some vectors side by side.
pub(super) struct Lowered {
    pub(super) code: Vec<Inst>,
    /// How many vectors.
    pub(super) copies: usize,
    pub(super) streams: Vec<(usize, Affine)>,
    pub(super) scalars: Vec<Scalar>,
    /// Accumulators of outside; parts of the copies lie behind one another: all of the first copy, then of the second.
    pub(super) sums: Vec<(Reg, Combine)>,
}

/// The loop for some vectors side by side; none if it holds something that vectors do not have.
pub(super) fn lower(asked: &Asked<'_>, width: Width, copies: usize) -> Option<Lowered> {
    let mut lower = Lower {
        asked,
        width,
        copy: 0,
        next: 0,
        regs: BTreeMap::new(),
        types: BTreeMap::new(),
        out: Lowered { code: Vec::new(), copies, streams: Vec::new(), scalars: Vec::new(), sums: Vec::new() },
    };
    for stmt in asked.body {
        if let Stmt::Accumulate { reg, combine, .. } = stmt
            && !lower.out.sums.iter().any(|(known, _)| known == reg)
        {
            lower.out.sums.push((*reg, *combine));
        }
    }
    for copy in 0..copies {
        lower.copy = copy;
        lower.regs.clear();
        for stmt in asked.body {
            lower.stmt(stmt)?;
        }
    }
    Some(lower.out)
}

struct Lower<'k> {
    asked: &'k Asked<'k>,
    width: Width,
    copy: usize,
    next: u32,
    regs: BTreeMap<Reg, Operand>,
    types: BTreeMap<Reg, Type>,
    out: Lowered,
}

impl Lower<'_> {
    fn stmt(&mut self, stmt: &Stmt) -> Option<()> {
        match stmt {
            Stmt::Let { reg, ty, instr } => {
                let value = self.instr(instr, *ty)?;
                self.regs.insert(*reg, value);
                self.types.insert(*reg, *ty);
            }
            Stmt::Accumulate { reg, combine, value } => self.accumulate(*reg, *combine, *value)?,
            Stmt::Store { buffer, index, value, accumulate } => {
                let element = self.asked.elements[*buffer];
                if !matches!(element, Type::F32 | Type::I32) || index.stride(self.var()) != 1 {
                    return None;
                }
                let mut value = self.operand(*value, element)?;
                let to = self.place(*buffer, index)?;
                if *accumulate {
                    let old = self.value(|to_value| Inst::Load { to: to_value, from: to, element });
                    value = self.add(old, value);
                }
                self.out.code.push(Inst::Store { to, value });
            }
            Stmt::Accumulator { .. } | Stmt::For { .. } | Stmt::MatMul(_) => return None,
        }
        Some(())
    }

    fn var(&self) -> LoopVar {
        self.asked.var
    }

    fn accumulate(&mut self, reg: Reg, combine: Combine, value: Reg) -> Option<()> {
        (self.asked.outside)(reg).filter(|known| known.ty == Type::F32)?;
        let own = self.out.sums.iter().position(|(known, _)| *known == reg)?;
        let sum = self.copy * self.out.sums.len() + own;
        let value = self.operand(value, Type::F32)?;
        match combine {
            Combine::Add => self.out.code.push(Inst::AddTo { sum, value }),
            Combine::Max | Combine::Min => {
                let old = Operand::Sum(sum);
                let value = if combine == Combine::Max { self.max(old, value) } else { self.min(old, value) };
                self.out.code.push(Inst::SetSum { sum, value });
            }
        }
        Some(())
    }

    fn instr(&mut self, instr: &Instr, ty: Type) -> Option<Operand> {
        Some(match instr {
            Instr::Const(value) => self.known(*value, ty)?,
            Instr::Load { buffer, index } => self.load(*buffer, index)?,
            Instr::Scalar(op, operands) => {
                let mut x = Vec::new();
                for (at, &reg) in operands.iter().enumerate() {
                    let truth = match op.signature() {
                        Signature::Numbers | Signature::Compare => false,
                        Signature::Logic => true,
                        Signature::Select => at == 0,
                        Signature::Widen | Signature::Narrow => return None,
                    };
                    x.push(self.operand(reg, if truth { Type::Bool } else { Type::F32 })?);
                }
                self.scalar(*op, &x)
            }
            Instr::Random { row_key, element } => {
                let (row_key, element) = (self.operand(*row_key, Type::I32)?, self.number(element)?);
                self.random(row_key, element)
            }
            Instr::Place(place) => self.number(place)?,
            Instr::CountBetween(a, b) => {
                let (a, b) = (self.operand(*a, Type::I32)?, self.operand(*b, Type::I32)?);
                let count = self.int_sub(a, b);
                self.float_of(count)
            }
            Instr::Clamp { number, begin, end } => {
                let [number, begin, end] = [*number, *begin, *end].map(|reg| self.operand(reg, Type::I32));
                let one = self.int_constant(1);
                let last = self.int_sub(end?, one);
                let number = self.binary(Binary::MinInt, number?, last);
                self.binary(Binary::MaxInt, number, begin?)
            }
            Instr::Choice(number, count) => {
                let number = self.operand(*number, Type::F32)?;
                // What is too large for an integer becomes the least one, so it is cut first; NaN passes, and becomes the least.
                let last = self.constant((*count - 1) as f32);
                let number = self.binary(Binary::Min, last, number);
                let number = self.value(|to| Inst::Unary { op: Unary::IntOfFloat, to, a: number });
                let (first, last) = (self.int_constant(0), self.int_constant((*count - 1) as i32));
                let number = self.binary(Binary::MaxInt, number, first);
                self.binary(Binary::MinInt, number, last)
            }
            Instr::RowKey { .. } | Instr::AddInt(..) => return None,
        })
    }

    fn load(&mut self, buffer: usize, index: &Affine) -> Option<Operand> {
        let element = self.asked.elements[buffer];
        let moving = index.terms.iter().find(|(term, _)| matches!(term, Term::Reg(reg) if self.regs.contains_key(reg))).copied();
        if let Some((Term::Reg(reg), stride)) = moving {
            let scale = u8::try_from(stride * 4).ok().filter(|scale| matches!(scale, 4 | 8))?;
            let Operand::Value(number) = self.operand(reg, Type::I32)? else { return None };
            if element != Type::F32 || index.stride(self.var()) != 0 {
                return None;
            }
            let still = Affine { terms: index.terms.iter().copied().filter(|(term, _)| *term != Term::Reg(reg)).collect(), ..*index };
            let from = Place { stream: self.stream(buffer, &still), bytes: i32::try_from(index.offset * 4).ok()? };
            return Some(self.value(|to| Inst::Gather { to, from, index: number, scale }));
        }
        // Narrow vectors have no masks that keep a load of few bytes inside its buffer.
        let fits = match element {
            Type::F32 | Type::I32 => true,
            Type::F16 | Type::I8 => self.width == Width::Zmm,
            Type::F64 | Type::Bool => false,
        };
        if !fits || index.stride(self.var()) != 1 {
            return None;
        }
        let from = self.place(buffer, index)?;
        let loaded = self.value(|to| Inst::Load { to, from, element });
        Some(if element == Type::I8 { self.float_of(loaded) } else { loaded })
    }

    /// Elements that move by one with the iterations.
    fn place(&mut self, buffer: usize, index: &Affine) -> Option<Place> {
        let var = self.var();
        let first = self.copy as i64 * self.width.lanes() as i64;
        let bytes = i32::try_from((index.offset + first) * self.asked.elements[buffer].bytes()).ok()?;
        let still = Affine { terms: index.terms.clone(), offset: 0 };
        debug_assert!(still.stride(var) == 1, "a stream moves by one element");
        Some(Place { stream: self.stream(buffer, &still), bytes })
    }

    fn stream(&mut self, buffer: usize, index: &Affine) -> usize {
        let wanted = (buffer, Affine { terms: index.terms.clone(), offset: 0 });
        if let Some(known) = self.out.streams.iter().position(|stream| *stream == wanted) {
            return known;
        }
        self.out.streams.push(wanted);
        self.out.streams.len() - 1
    }

    /// An index as an integer that steps with the iterations.
    fn number(&mut self, place: &Affine) -> Option<Operand> {
        if place.terms.iter().any(|(term, _)| matches!(term, Term::Reg(reg) if self.regs.contains_key(reg))) {
            return None;
        }
        let stride = i32::try_from(place.stride(self.var())).ok()?;
        let first = self.shared(Scalar::Place(place.clone()));
        if stride == 0 {
            return Some(first);
        }
        let counter = self.value(|to| Inst::Counter { to });
        let own = Operand::Numbers((self.copy * self.width.lanes()) as u32);
        let mut step = self.int_add(counter, own);
        if stride != 1 {
            let factor = self.int_constant(stride);
            step = self.int_mul(step, factor);
        }
        Some(self.int_add(step, first))
    }

    fn shared(&mut self, wanted: Scalar) -> Operand {
        if let Some(known) = self.out.scalars.iter().position(|scalar| *scalar == wanted) {
            return Operand::Scalar(known);
        }
        self.out.scalars.push(wanted);
        Operand::Scalar(self.out.scalars.len() - 1)
    }

    /// A register of the body or of outside, of a wanted type.
    fn operand(&mut self, reg: Reg, wanted: Type) -> Option<Operand> {
        if let Some(&known) = self.regs.get(&reg) {
            return (self.types.get(&reg) == Some(&wanted)).then_some(known);
        }
        let known = (self.asked.outside)(reg).filter(|known| known.ty == wanted)?;
        // A sum while it is summed up has no value yet.
        if self.out.sums.iter().any(|(sum, _)| *sum == reg) {
            return None;
        }
        if let Some(value) = known.constant {
            return self.known(value, wanted);
        }
        let shared = self.shared(Scalar::Reg(reg));
        Some(if wanted == Type::Bool { self.value(|to| Inst::Truth { to, a: shared }) } else { shared })
    }

    fn known(&mut self, value: f64, ty: Type) -> Option<Operand> {
        match ty {
            Type::F32 => Some(self.constant(value as f32)),
            Type::I32 => Some(self.int_constant(value as i32)),
            Type::F64 | Type::Bool | Type::F16 | Type::I8 => None,
        }
    }

    fn value(&mut self, inst: impl FnOnce(Value) -> Inst) -> Operand {
        let to = Value(self.next);
        self.next += 1;
        self.out.code.push(inst(to));
        Operand::Value(to)
    }

    fn binary(&mut self, op: Binary, a: Operand, b: Operand) -> Operand {
        self.value(|to| Inst::Binary { op, to, a, b })
    }

    /// Truth values are never constants.
    fn truth(&self, operand: Operand) -> Value {
        match operand {
            Operand::Value(value) => value,
            other => unreachable!("{other:?} is no truth value"),
        }
    }

    fn is_number(operand: Operand) -> bool {
        matches!(operand, Operand::Constant(bits) if !f32::from_bits(bits).is_nan())
    }

    /// The larger or the smaller. A number that is not NaN on the right leaves only the left one to ask about.
    fn extreme(&mut self, op: Binary, beyond: Comparison, a: Operand, b: Operand) -> Operand {
        if Self::is_number(a) {
            // The second of both is taken where the instruction has a doubt: if it is NaN, or if they are equal.
            return self.binary(op, a, b);
        }
        if Self::is_number(b) {
            let keeps = self.compare(beyond, a, b);
            return self.select(keeps, a, b);
        }
        let value = self.binary(op, a, b);
        self.keep_nan(a, value)
    }
}

impl Arithmetic for Lower<'_> {
    type Value = Operand;

    fn constant(&mut self, value: f32) -> Operand {
        Operand::Constant(value.to_bits())
    }

    fn int_constant(&mut self, value: i32) -> Operand {
        Operand::Constant(value as u32)
    }

    fn add(&mut self, a: Operand, b: Operand) -> Operand {
        self.binary(Binary::Add, a, b)
    }

    fn sub(&mut self, a: Operand, b: Operand) -> Operand {
        self.binary(Binary::Sub, a, b)
    }

    fn mul(&mut self, a: Operand, b: Operand) -> Operand {
        self.binary(Binary::Mul, a, b)
    }

    fn div(&mut self, a: Operand, b: Operand) -> Operand {
        self.binary(Binary::Div, a, b)
    }

    fn sqrt(&mut self, a: Operand) -> Operand {
        self.value(|to| Inst::Unary { op: Unary::Sqrt, to, a })
    }

    fn neg(&mut self, a: Operand) -> Operand {
        self.binary(Binary::Xor, a, Operand::Constant(1 << 31))
    }

    fn abs(&mut self, a: Operand) -> Operand {
        self.binary(Binary::And, a, Operand::Constant(!(1 << 31)))
    }

    fn mul_add(&mut self, a: Operand, b: Operand, c: Operand) -> Operand {
        self.value(|to| Inst::MulAdd { to, a, b, c })
    }

    fn max(&mut self, a: Operand, b: Operand) -> Operand {
        self.extreme(Binary::Max, Comparison::GreaterOrUnordered, a, b)
    }

    fn min(&mut self, a: Operand, b: Operand) -> Operand {
        self.extreme(Binary::Min, Comparison::LessOrUnordered, a, b)
    }

    fn compare(&mut self, comparison: Comparison, a: Operand, b: Operand) -> Operand {
        self.value(|to| Inst::Compare { comparison, to, a, b })
    }

    fn select(&mut self, condition: Operand, a: Operand, b: Operand) -> Operand {
        let condition = self.truth(condition);
        self.value(|to| Inst::Select { to, condition, a, b })
    }

    fn both(&mut self, a: Operand, b: Operand) -> Operand {
        let (a, b) = (self.truth(a), self.truth(b));
        self.value(|to| Inst::Logic { op: Logic::And, to, a, b })
    }

    fn either(&mut self, a: Operand, b: Operand) -> Operand {
        let (a, b) = (self.truth(a), self.truth(b));
        self.value(|to| Inst::Logic { op: Logic::Or, to, a, b })
    }

    fn not(&mut self, a: Operand) -> Operand {
        let a = self.truth(a);
        self.value(|to| Inst::Logic { op: Logic::Not, to, a, b: a })
    }

    fn bits(&mut self, number: Operand) -> Operand {
        number
    }

    fn number_of(&mut self, bits: Operand) -> Operand {
        bits
    }

    fn float_of(&mut self, integer: Operand) -> Operand {
        self.value(|to| Inst::Unary { op: Unary::FloatOfInt, to, a: integer })
    }

    fn int_add(&mut self, a: Operand, b: Operand) -> Operand {
        self.binary(Binary::AddInt, a, b)
    }

    fn int_sub(&mut self, a: Operand, b: Operand) -> Operand {
        self.binary(Binary::SubInt, a, b)
    }

    fn int_mul(&mut self, a: Operand, b: Operand) -> Operand {
        self.binary(Binary::MulInt, a, b)
    }

    fn bit_and(&mut self, a: Operand, b: Operand) -> Operand {
        self.binary(Binary::And, a, b)
    }

    fn bit_or(&mut self, a: Operand, b: Operand) -> Operand {
        self.binary(Binary::Or, a, b)
    }

    fn bit_xor(&mut self, a: Operand, b: Operand) -> Operand {
        self.binary(Binary::Xor, a, b)
    }

    fn shift_left(&mut self, a: Operand, by: u8) -> Operand {
        self.value(|to| Inst::Shift { op: Shift::Left, to, a, by })
    }

    fn shift_right(&mut self, a: Operand, by: u8) -> Operand {
        self.value(|to| Inst::Shift { op: Shift::Right, to, a, by })
    }

    fn shift_right_signed(&mut self, a: Operand, by: u8) -> Operand {
        self.value(|to| Inst::Shift { op: Shift::RightSigned, to, a, by })
    }
}
