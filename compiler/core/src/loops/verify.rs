//! The invariants of a kernel: registers are defined before use and once, types fit, accesses with constant bounds stay
//! inside their buffers, and a vector loop's stores move by one element, its loads of whole numbers by one or none.

use super::{Affine, Extent, Instr, Kernel, LoopVar, MatMul, Partition, Reg, Size, Stmt, Term, Type, reads};
use crate::scalar::Signature;
use recc_abi::PartitionPart;
use std::collections::BTreeMap;

/// A broken invariant: a bug of the compiler.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation(pub String);

/// A kernel that holds the invariants; code generators take nothing else.
#[derive(Clone, Copy, Debug)]
pub struct VerifiedKernel<'k>(&'k Kernel);

impl<'k> VerifiedKernel<'k> {
    /// The kernel.
    pub fn kernel(self) -> &'k Kernel {
        self.0
    }
}

/// Checks a kernel.
pub fn verify(kernel: &Kernel) -> Result<VerifiedKernel<'_>, Vec<Violation>> {
    let mut verifier = Verifier { kernel, regs: BTreeMap::new(), extents: BTreeMap::new(), vector: None, found: Vec::new() };
    verifier.body(&kernel.body);
    if verifier.found.is_empty() { Ok(VerifiedKernel(kernel)) } else { Err(verifier.found) }
}

struct Verifier<'k> {
    kernel: &'k Kernel,
    regs: BTreeMap<Reg, Type>,
    /// Largest value of each open loop's variable, where it is known; `Items` loops count from 0 with no known end.
    extents: BTreeMap<LoopVar, (Extent, Option<u64>)>,
    vector: Option<LoopVar>,
    found: Vec<Violation>,
}

impl Verifier<'_> {
    fn report(&mut self, text: String) {
        self.found.push(Violation(format!("kernel `{}`: {text}", self.kernel.name)));
    }

    fn reg(&mut self, reg: Reg) -> Option<Type> {
        let ty = self.regs.get(&reg).copied();
        if ty.is_none() {
            self.report(format!("{reg} is used and not defined"));
        }
        ty
    }

    fn expect(&mut self, reg: Reg, wanted: Type) {
        if let Some(ty) = self.reg(reg)
            && ty != wanted
        {
            self.report(format!("{reg} is {ty}, not {wanted}"));
        }
    }

    fn body(&mut self, body: &[Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::Let { reg, ty, instr } => {
                    self.instr(instr, *ty);
                    self.define(*reg, *ty);
                }
                Stmt::Accumulator { reg, ty, .. } => self.define(*reg, *ty),
                Stmt::Accumulate { reg, value, .. } => {
                    if let Some(ty) = self.reg(*reg) {
                        self.expect(*value, ty);
                    }
                }
                Stmt::Store { buffer, index, value, .. } => {
                    self.access(*buffer, index, true);
                    if let Some(arg) = self.kernel.buffers.get(*buffer) {
                        self.expect(*value, arg.ty);
                    }
                }
                Stmt::For { var, extent, vector, body } => self.nest(*var, extent, *vector, body),
                Stmt::Partition(partition) => self.partition(partition),
                Stmt::MatMul(product) => {
                    let ty = |buffer: usize| self.kernel.buffers.get(buffer).map(|arg| arg.ty);
                    let floats = [product.dst.buffer, product.a.buffer].into_iter().chain(product.scales);
                    let wrong: Vec<usize> = floats.filter(|&buffer| ty(buffer) != Some(Type::F32)).collect();
                    for buffer in wrong {
                        self.report(format!("a matrix product on buffer {buffer} that is not f32"));
                    }
                    let scaled = ty(product.b.buffer) == Some(Type::I8);
                    if scaled != product.scales.is_some() || ty(product.b.buffer).is_none_or(|ty| ty.loaded() != Type::F32) {
                        self.report(format!("a matrix product on buffer {} without its scales", product.b.buffer));
                    }
                    if ty(product.b.buffer) != Some(Type::F32) && product.b.column != 1 {
                        self.report(format!("a matrix product on buffer {} whose columns lie apart", product.b.buffer));
                    }
                    if product.each.is_some() {
                        self.item_matrices(product);
                    }
                    let entries = |size: Size| matches!(size, Size::Entries(_));
                    let by_entries = entries(product.m) || entries(product.n) || entries(product.k);
                    if by_entries != product.entries.is_some() || product.entries.is_some_and(|begins| ty(begins) != Some(Type::I32)) {
                        self.report("a matrix product over entries that does not say where they begin".to_owned());
                    }
                    if product.dst.column != 1 {
                        self.report("a matrix product whose result has columns apart".to_owned());
                    }
                    if !self.extents.is_empty() {
                        self.report("a matrix product in a loop".to_owned());
                    }
                }
            }
        }
    }

    fn partition(&mut self, partition: &Partition) {
        let Partition { part, items, entries, others, queries, rows, sums, dst, .. } = partition;
        let ty = |buffer: usize| self.kernel.buffers.get(buffer).map(|arg| arg.ty);
        let floats = [queries, rows, dst].into_iter().chain(sums.iter().flatten()).all(|own| ty(own.buffer) == Some(Type::F32));
        let counts = entries.iter().chain([others]).all(|&own| ty(own) == Some(Type::I32));
        if !floats || !counts {
            self.report("a softmax over a table on buffers of other types".to_owned());
        }
        if matches!(items, Size::Entries(_)) != entries.is_some() || sums.is_none() != (*part == PartitionPart::LogSums) {
            self.report("a softmax over a table that lacks a buffer".to_owned());
        }
        if !self.extents.is_empty() {
            self.report("a softmax over a table in a loop".to_owned());
        }
    }

    /// The matrices of one item lie inside that item's part of their buffers.
    fn item_matrices(&mut self, product: &MatMul) {
        let sides = [(&product.dst, product.m, product.n), (&product.a, product.m, product.k), (&product.b, product.k, product.n)];
        for (matrix, rows, columns) in sides {
            let (Size::Fixed(rows), Size::Fixed(columns)) = (rows, columns) else {
                if product.entries.is_none() {
                    self.report("a matrix product for each item whose size is not fixed".to_owned());
                }
                continue;
            };
            let last = matrix.offset + (rows - 1).max(0) * matrix.row + (columns - 1).max(0) * matrix.column;
            let len = self.kernel.buffers.get(matrix.buffer).and_then(|arg| arg.len);
            if len.is_some_and(|len| last >= len as i64) {
                self.report(format!("a matrix product reaches element {last} of buffer {}", matrix.buffer));
            }
        }
    }

    fn nest(&mut self, var: LoopVar, extent: &Extent, vector: bool, body: &[Stmt]) {
        let last = match extent {
            Extent::Fixed(0) => None,
            Extent::Fixed(n) => Some(n - 1),
            Extent::Items => None,
            Extent::Between(begin, end) => {
                self.expect(*begin, Type::I32);
                self.expect(*end, Type::I32);
                None
            }
        };
        if vector && self.vector.is_some() {
            self.report(format!("vector loop {var} in a vector loop"));
        }
        if self.extents.insert(var, (extent.clone(), last)).is_some() {
            self.report(format!("{var} names two loops"));
        }
        let outer = self.vector;
        if vector {
            self.vector = Some(var);
        }
        let known = self.regs.clone();
        self.body(body);
        self.regs = known;
        self.vector = outer;
        self.extents.remove(&var);
    }

    fn define(&mut self, reg: Reg, ty: Type) {
        if self.regs.insert(reg, ty).is_some() {
            self.report(format!("{reg} is defined twice"));
        }
    }

    fn instr(&mut self, instr: &Instr, ty: Type) {
        let (regs, vars) = reads(instr);
        for var in vars {
            if !self.extents.contains_key(&var) {
                self.report(format!("{var} is used outside its loop"));
            }
        }
        for reg in regs {
            self.reg(reg);
        }
        match instr {
            Instr::Const(_) => {}
            Instr::Load { buffer, index } => {
                self.access(*buffer, index, false);
                if self.kernel.buffers.get(*buffer).is_some_and(|arg| arg.ty.loaded() != ty) {
                    self.report(format!("a load of buffer {buffer} as {ty}"));
                }
            }
            Instr::Scalar(op, operands) => {
                if operands.len() != op.arity() {
                    self.report(format!("{} with {} operands", op.name(), operands.len()));
                    return;
                }
                match op.signature() {
                    Signature::Numbers => operands.iter().for_each(|&operand| self.expect(operand, ty)),
                    Signature::Compare => {}
                    Signature::Logic => operands.iter().for_each(|&operand| self.expect(operand, Type::Bool)),
                    Signature::Select => {
                        self.expect(operands[0], Type::Bool);
                        self.expect(operands[1], ty);
                        self.expect(operands[2], ty);
                    }
                    Signature::Widen => self.expect(operands[0], Type::F32),
                    Signature::Narrow => self.expect(operands[0], Type::F64),
                }
            }
            Instr::Random { row_key, .. } => self.expect(*row_key, Type::I32),
            Instr::Place(_) => {}
            Instr::Clamp { number, begin, end } => [number, begin, end].into_iter().for_each(|reg| self.expect(*reg, Type::I32)),
            Instr::Choice(number, _) => self.expect(*number, Type::F32),
            Instr::RowKey { key: a, row: b } | Instr::AddInt(a, b) | Instr::CountBetween(a, b) => {
                self.expect(*a, Type::I32);
                self.expect(*b, Type::I32);
            }
        }
    }

    fn access(&mut self, buffer: usize, index: &Affine, store: bool) {
        let Some(arg) = self.kernel.buffers.get(buffer) else {
            return self.report(format!("there is no buffer {buffer}"));
        };
        if let Some(var) = self.vector {
            let stride = index.stride(var);
            let fits = if store { stride == 1 } else { matches!(stride, 0 | 1) || arg.ty.loaded() == Type::F32 };
            if !fits {
                self.report(format!("vector loop {var} moves buffer {buffer} by {stride}"));
            }
        }
        let (stride, len) = (arg.item_stride, arg.len);
        let Some(len) = len else { return };
        // The part of the index within one item, at its largest.
        let mut largest = index.offset;
        for (term, factor) in &index.terms {
            match term {
                Term::Var(var) => match self.extents.get(var) {
                    Some((Extent::Items, _)) if *factor == stride && stride != 0 => {}
                    Some((_, Some(last))) if *factor > 0 => largest += factor * *last as i64,
                    _ => return,
                },
                // Rows and entries are bounded by the runtime, which wrote them.
                Term::Reg(_) => return,
            }
        }
        if index.offset < 0 || largest >= len as i64 {
            self.report(format!("[{index}] reaches element {largest} of {len} in buffer {buffer} `{}`", arg.name));
        }
    }
}
