//! From a vector loop of the loop IR to [`super::code`].

use super::code::{Binary, Bound, Inst, Integer, Logic, Operand, Place, Shift, Unary, Value};
use super::{Asked, Scalar, Whole, Width};
use crate::math::{Arithmetic, Comparison};
use recc_abi::BufferId;
use recc_core::loops::{Affine, Combine, Extent, Instr, LoopVar, Reg, Stmt, Term, Type, reads, stored_buffers, sums_of_outside};
use recc_core::scalar::Signature;
use std::collections::BTreeMap;

/// Vectors of iterations that go through the body together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) vectors: usize,
    /// The last one holds the last iterations, which do not fill it.
    pub(super) partial: bool,
}

/// What a loop does for a group.
pub(super) struct Lowered {
    pub(super) code: Vec<Inst>,
    pub(super) group: Group,
    pub(super) streams: Vec<(usize, Affine)>,
    pub(super) scalars: Vec<Scalar>,
    pub(super) wholes: Vec<Whole>,
    /// How many integers it loads.
    pub(super) slots: usize,
    /// Accumulators of outside. Each has a sum for each vector: those of the first vector come first.
    pub(super) sums: Vec<(Reg, Combine)>,
    /// Sums of the body's own, behind those.
    pub(super) own_sums: usize,
}

/// The loop for a group; none if it holds something that vectors do not have.
pub(super) fn lower(asked: &Asked<'_>, width: Width, group: Group) -> Option<Lowered> {
    let sums = sums_of_outside(asked.body.iter().copied());
    let out =
        Lowered { code: Vec::new(), group, streams: Vec::new(), scalars: Vec::new(), wholes: Vec::new(), slots: 0, sums, own_sums: 0 };
    let mut lower = Lower {
        asked,
        width,
        vector: 0,
        next: 0,
        regs: vec![BTreeMap::new(); group.vectors],
        types: BTreeMap::new(),
        same: Vec::new(),
        integers: BTreeMap::new(),
        own: BTreeMap::new(),
        counter: None,
        still: Vec::new(),
        stored: asked.body.iter().flat_map(|stmt| stored_buffers(stmt)).map(|buffer| asked.ids[buffer]).collect(),
        out,
    };
    lower.body(asked.body)?;
    Some(lower.out)
}

struct Lower<'k> {
    asked: &'k Asked<'k>,
    width: Width,
    /// The vector at hand.
    vector: usize,
    next: u32,
    /// Registers by vector.
    regs: Vec<BTreeMap<Reg, Operand>>,
    types: BTreeMap<Reg, Type>,
    /// Integers that are the same in all lanes.
    integers: BTreeMap<Reg, Integer>,
    /// Sums of the body's own, the first vector's.
    own: BTreeMap<Reg, usize>,
    /// The variable of the inner loop.
    counter: Option<LoopVar>,
    /// Registers that are the same in all lanes.
    same: Vec<Reg>,
    /// Buffers that the loop writes.
    stored: Vec<BufferId>,
    /// Variables of loops of one round.
    still: Vec<LoopVar>,
    out: Lowered,
}

impl Lower<'_> {
    fn body(&mut self, body: &[&Stmt]) -> Option<()> {
        body.iter().try_for_each(|stmt| self.stmt(stmt))
    }

    fn stmt(&mut self, stmt: &Stmt) -> Option<()> {
        match stmt {
            Stmt::Let { reg, ty, instr } => {
                if self.is_shared(instr) {
                    self.shared_let(*reg, *ty, instr)?;
                } else {
                    self.for_each_vector(|own| {
                        let value = own.instr(instr, *ty)?;
                        own.regs[own.vector].insert(*reg, value);
                        Some(())
                    })?;
                }
                self.types.insert(*reg, *ty);
                Some(())
            }
            Stmt::Accumulator { reg, ty: Type::F32, combine } => {
                let first = self.out.own_sums;
                self.out.own_sums += self.out.group.vectors;
                self.own.insert(*reg, first);
                let is_total = self.total_of(*reg).is_some();
                self.for_each_vector(|own| {
                    let sum = own.sum(*reg)?;
                    own.out.code.push(Inst::Begin { sum, identity: combine.identity() as f32 });
                    if !is_total {
                        own.regs[own.vector].insert(*reg, Operand::Sum(sum));
                    }
                    Some(())
                })?;
                self.types.insert(*reg, Type::F32);
                Some(())
            }
            Stmt::Accumulate { reg, combine, value } => self.for_each_vector(|own| own.accumulate(*reg, *combine, *value)),
            Stmt::Store { buffer, index, value, accumulate } if index.stride(self.var()) == 0 => {
                self.store_one(*buffer, index, *value, *accumulate)
            }
            Stmt::Store { buffer, index, value, accumulate } => self.for_each_vector(|own| own.store(*buffer, index, *value, *accumulate)),
            Stmt::For { var, extent: Extent::Fixed(1), body, .. } => {
                self.still.push(*var);
                self.body(&body.iter().collect::<Vec<_>>())
            }
            Stmt::For { var, extent, body, .. } => self.inner_loop(*var, extent, &body.iter().collect::<Vec<_>>()),
            Stmt::Accumulator { .. } | Stmt::MatMul(_) | Stmt::Partition(_) => None,
        }
    }

    fn for_each_vector(&mut self, mut part: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        for vector in 0..self.out.group.vectors {
            self.vector = vector;
            part(self)?;
        }
        self.vector = 0;
        Some(())
    }

    /// A loop inside, of which one may be open at a time.
    fn inner_loop(&mut self, var: LoopVar, extent: &Extent, body: &[&Stmt]) -> Option<()> {
        let (begin, end) = match extent {
            Extent::Fixed(n) => (Bound::Constant(0), Bound::Constant(i32::try_from(*n).ok()?)),
            Extent::Between(begin, end) => (self.whole(*begin)?, self.whole(*end)?),
            Extent::Items => (Bound::Constant(0), Bound::Whole(self.number_of_whole(Whole::Items))),
        };
        if self.counter.replace(var).is_some() {
            return None;
        }
        self.out.code.push(Inst::LoopBegin { begin, end });
        self.body(body)?;
        self.out.code.push(Inst::LoopEnd { end });
        self.counter = None;
        Some(())
    }

    fn whole(&mut self, reg: Reg) -> Option<Bound> {
        (self.asked.outside)(reg).filter(|known| known.ty == Type::I32)?;
        Some(Bound::Whole(self.number_of_whole(Whole::Reg(reg))))
    }

    fn number_of_whole(&mut self, wanted: Whole) -> usize {
        let known = self.out.wholes.iter().position(|whole| *whole == wanted);
        known.unwrap_or_else(|| {
            self.out.wholes.push(wanted);
            self.out.wholes.len() - 1
        })
    }

    /// Whether a register differs from lane to lane.
    fn differs(&self, reg: Reg) -> bool {
        self.regs[0].contains_key(&reg) && !self.same.contains(&reg)
    }

    /// Whether an instruction gives the same in all lanes: it names the loop's variable neither itself nor by what it reads.
    fn is_shared(&self, instr: &Instr) -> bool {
        let (regs, vars) = reads(instr);
        !vars.contains(&self.var()) && !regs.iter().any(|reg| self.differs(*reg))
    }

    /// An instruction that gives the same in all lanes, once for all vectors.
    fn shared_let(&mut self, reg: Reg, ty: Type, instr: &Instr) -> Option<()> {
        self.same.push(reg);
        let value = match instr {
            Instr::Load { buffer, index } => {
                let element = self.asked.elements[*buffer];
                // An element that the loop writes may be another one in each iteration.
                if self.stored.contains(&self.asked.ids[*buffer]) {
                    return None;
                }
                let from = self.place(*buffer, index)?;
                match element {
                    Type::I32 => {
                        self.integers.insert(reg, Integer::Slot(self.out.slots));
                        self.out.code.push(Inst::LoadInteger { slot: self.out.slots, from });
                        self.out.slots += 1;
                        return Some(());
                    }
                    Type::F32 => self.value(|to| Inst::Spread { to, from }),
                    Type::F64 | Type::Bool | Type::F16 | Type::I8 => return None,
                }
            }
            Instr::Const(_) | Instr::Scalar(..) => self.instr(instr, ty)?,
            _ => return None,
        };
        self.regs.iter_mut().for_each(|regs| {
            regs.insert(reg, value);
        });
        Some(())
    }

    /// A store of what is the same in all lanes.
    fn store_one(&mut self, buffer: usize, index: &Affine, value: Reg, accumulate: bool) -> Option<()> {
        if self.asked.elements[buffer] != Type::F32 || self.differs(value) {
            return None;
        }
        let (mut value, to) = (self.operand(value, Type::F32)?, self.place(buffer, index)?);
        if accumulate {
            let from = to.clone();
            let old = self.value(|to| Inst::Spread { to, from });
            value = self.add(old, value);
        }
        self.out.code.push(Inst::StoreOne { to, value });
        Some(())
    }

    fn store(&mut self, buffer: usize, index: &Affine, value: Reg, accumulate: bool) -> Option<()> {
        let element = self.asked.elements[buffer];
        if !matches!(element, Type::F32 | Type::I32) || index.stride(self.var()) != 1 {
            return None;
        }
        let mut value = self.operand(value, element)?;
        let (to, partial) = (self.place(buffer, index)?, self.partial());
        if accumulate {
            let from = to.clone();
            let old = self.value(|to| Inst::Load { to, from, element, partial });
            value = self.add(old, value);
        }
        self.out.code.push(Inst::Store { to, value, partial });
        Some(())
    }

    fn var(&self) -> LoopVar {
        self.asked.var
    }

    /// Whether the vector at hand is one that the iterations do not fill.
    fn partial(&self) -> bool {
        self.out.group.partial && self.vector + 1 == self.out.group.vectors
    }

    /// The number of an accumulator's sum for the vector at hand.
    fn sum(&self, reg: Reg) -> Option<usize> {
        if let Some(first) = self.own.get(&reg) {
            return Some(self.first_own_sum() + first + self.vector);
        }
        let own = self.out.sums.iter().position(|(known, _)| *known == reg)?;
        Some(self.vector * self.out.sums.len() + own)
    }

    /// Sums of the body's own come behind those of outside.
    fn first_own_sum(&self) -> usize {
        self.out.sums.len() * self.out.group.vectors
    }

    /// How an accumulator over all lanes adds up; none if it is no such.
    fn total_of(&self, reg: Reg) -> Option<Combine> {
        self.asked.totals.iter().find(|(total, _)| *total == reg).map(|(_, combine)| *combine)
    }

    fn accumulate(&mut self, reg: Reg, combine: Combine, value: Reg) -> Option<()> {
        let own = self.own.contains_key(&reg);
        if !own {
            (self.asked.outside)(reg).filter(|known| known.ty == Type::F32)?;
        }
        // What was read of a total is final.
        let is_total = self.total_of(reg).is_some();
        if is_total && self.regs[0].contains_key(&reg) {
            return None;
        }
        // Lanes that are not there come to no result of the body's own, but to one over all lanes.
        let partial = self.partial() && (!own || is_total);
        let (sum, value) = (self.sum(reg)?, self.operand(value, Type::F32)?);
        match combine {
            Combine::Add => self.out.code.push(Inst::AddTo { sum, value, partial }),
            Combine::Max | Combine::Min => {
                let old = Operand::Sum(sum);
                let value = self.combined(combine, old, value);
                self.out.code.push(Inst::SetSum { sum, value, partial });
            }
        }
        Some(())
    }

    /// A sum over all vectors and lanes, in every lane. The largest of both zeros may be either, from lane to lane.
    fn total(&mut self, reg: Reg, combine: Combine) -> Option<Operand> {
        let first = self.first_own_sum() + self.own.get(&reg)?;
        let mut total = Operand::Sum(first);
        for vector in 1..self.out.group.vectors {
            total = self.combined(combine, total, Operand::Sum(first + vector));
        }
        let mut by = self.width.lanes() as u8 / 2;
        while by > 0 {
            let turned = self.value(|to| Inst::Turn { to, a: total, by });
            total = self.combined(combine, total, turned);
            by /= 2;
        }
        self.same.push(reg);
        self.regs.iter_mut().for_each(|regs| {
            regs.insert(reg, total);
        });
        Some(total)
    }

    fn combined(&mut self, combine: Combine, a: Operand, b: Operand) -> Operand {
        match combine {
            Combine::Add => self.add(a, b),
            Combine::Max => self.max(a, b),
            Combine::Min => self.min(a, b),
        }
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
        let (element, partial) = (self.asked.elements[buffer], self.partial());
        let differs = |term: &Term| matches!(term, Term::Reg(reg) if self.regs[self.vector].contains_key(reg));
        let moving = index.terms.iter().find(|(term, _)| differs(term)).copied();
        if let Some((Term::Reg(reg), stride)) = moving {
            let scale = u8::try_from(stride * 4).ok().filter(|scale| matches!(scale, 4 | 8))?;
            let Operand::Value(number) = self.operand(reg, Type::I32)? else { return None };
            if element != Type::F32 || index.stride(self.var()) != 0 {
                return None;
            }
            return self.gather(buffer, &without(index, Term::Reg(reg)), number, scale);
        }
        if let (stride @ 2.., Type::F32) = (index.stride(self.var()), element) {
            let steps = self.steps(stride)?;
            return self.gather(buffer, index, steps, size_of::<f32>() as u8);
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
        let loaded = self.value(|to| Inst::Load { to, from, element, partial });
        Some(if element == Type::I8 { self.float_of(loaded) } else { loaded })
    }

    /// How far each lane's element lies behind the first one of the vector at hand, where they are `stride` apart.
    fn steps(&mut self, stride: i64) -> Option<Value> {
        if let Extent::Fixed(count) = self.asked.extent {
            i32::try_from(stride.checked_mul(i64::try_from(*count).ok()?)?).ok()?;
        }
        let factor = self.int_constant(i32::try_from(stride).ok()?);
        let counter = self.value(|to| Inst::Counter { to });
        let lanes = self.int_add(counter, Operand::Numbers(0));
        let Operand::Value(steps) = self.int_mul(lanes, factor) else { return None };
        Some(steps)
    }

    /// Elements that lie apart: `index` times `scale` bytes behind the first one's place.
    fn gather(&mut self, buffer: usize, first: &Affine, index: Value, scale: u8) -> Option<Operand> {
        let (from, partial) = (self.place(buffer, first)?, self.partial());
        Some(self.value(|to| Inst::Gather { to, from, index, scale, partial }))
    }

    /// The place of an element, or of those of the vector at hand where the index moves with the loop's variable.
    fn place(&mut self, buffer: usize, index: &Affine) -> Option<Place> {
        let size = self.asked.elements[buffer].bytes();
        let first = index.stride(self.var()) * (self.vector * self.width.lanes()) as i64;
        let bytes = i32::try_from((index.offset + first) * size).ok()?;
        let (mut still, mut further) = (Affine::default(), Vec::new());
        for &(term, stride) in &index.terms {
            let integer = match term {
                Term::Var(var) if self.still.contains(&var) => continue,
                Term::Var(var) if self.counter == Some(var) => Some(Integer::Counter),
                Term::Reg(reg) if self.integers.contains_key(&reg) => Some(self.integers[&reg]),
                Term::Reg(reg) if self.types.contains_key(&reg) => return None,
                _ => None,
            };
            match integer {
                Some(integer) => further.push((integer, i32::try_from(stride * size).ok()?)),
                None => still.terms.push((term, stride)),
            }
        }
        Some(Place { stream: self.stream(buffer, still), bytes, further })
    }

    fn stream(&mut self, buffer: usize, index: Affine) -> usize {
        let wanted = (buffer, index);
        if let Some(known) = self.out.streams.iter().position(|stream| *stream == wanted) {
            return known;
        }
        self.out.streams.push(wanted);
        self.out.streams.len() - 1
    }

    /// An index as an integer that steps with the iterations.
    fn number(&mut self, place: &Affine) -> Option<Operand> {
        // Of numbers that change inside the loop only its own variable.
        let inside = |term: &Term| match term {
            Term::Reg(reg) => self.types.contains_key(reg),
            Term::Var(var) => self.counter == Some(*var) || self.still.contains(var),
        };
        if place.terms.iter().any(|(term, _)| inside(term)) {
            return None;
        }
        let stride = i32::try_from(place.stride(self.var())).ok()?;
        let first = self.shared(Scalar::Place(place.clone()));
        if stride == 0 {
            return Some(first);
        }
        let counter = self.value(|to| Inst::Counter { to });
        let own = Operand::Numbers((self.vector * self.width.lanes()) as u32);
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
        if let Some(&known) = self.regs[self.vector].get(&reg) {
            return (self.types.get(&reg) == Some(&wanted)).then_some(known);
        }
        if let Some(combine) = self.total_of(reg) {
            return if wanted == Type::F32 { self.total(reg, combine) } else { None };
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

/// An index without one of its terms.
fn without(index: &Affine, without: Term) -> Affine {
    Affine { terms: index.terms.iter().copied().filter(|(term, _)| *term != without).collect(), offset: index.offset }
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
