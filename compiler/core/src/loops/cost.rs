//! What a kernel does for each item, counted from its loops: for profiles, not for decisions.

use super::{Extent, Instr, Kernel, Size, Stmt, Term};
use std::collections::BTreeSet;

/// Work for each item. A loop over a bag or a sequence counts as one round.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Operations on numbers; two for each multiplication and addition of a matrix product.
    pub flops: f64,
    /// Bytes of what moves with the item: loaded and stored elements, wherever they lie.
    pub bytes: f64,
    /// Whether its products round their factors.
    pub bf16: bool,
    /// Whether there is work for each entry of a bag or a sequence, or each row of a table, whose number is not known.
    pub ragged: bool,
}

/// Counts a kernel's work.
pub fn cost(kernel: &Kernel) -> Cost {
    let mut counter = Counter { kernel, cost: Cost::default(), moving: BTreeSet::new() };
    counter.body(&kernel.body, 1.0);
    counter.cost
}

struct Counter<'k> {
    kernel: &'k Kernel,
    cost: Cost,
    /// Variables of loops over the items, and registers that differ from item to item.
    moving: BTreeSet<Term>,
}

impl Counter<'_> {
    fn body(&mut self, body: &[Stmt], times: f64) {
        for stmt in body {
            match stmt {
                Stmt::Let { reg, instr, .. } => self.instr(*reg, instr, times),
                Stmt::Store { buffer, index, accumulate, .. } => {
                    let ways = if *accumulate { 2.0 } else { 1.0 };
                    self.access(*buffer, index.terms.iter().map(|(term, _)| *term), ways * times);
                }
                Stmt::For { var, extent, body, .. } => {
                    let rounds = match extent {
                        Extent::Fixed(rounds) => *rounds as f64,
                        Extent::Items | Extent::Between(..) => 1.0,
                    };
                    self.cost.ragged |= matches!(extent, Extent::Between(..));
                    if !matches!(extent, Extent::Fixed(_)) {
                        self.moving.insert(Term::Var(*var));
                    }
                    self.body(body, times * rounds);
                }
                Stmt::MatMul(product) => {
                    // One size is the number of items, or there is a product for each.
                    let size = |size: Size| match size {
                        Size::Fixed(size) | Size::Items(size) | Size::Entries(size) => size as f64,
                    };
                    let (m, n, k) = (size(product.m), size(product.n), size(product.k));
                    self.cost.ragged |= [product.m, product.n, product.k].iter().any(|size| matches!(size, Size::Entries(_)));
                    let times = product.heads.map_or(1.0, |(count, _)| count as f64);
                    self.cost.flops += 2.0 * m * n * k * times;
                    let sides = [(product.m, product.k, m * k), (product.k, product.n, k * n), (product.m, product.n, m * n)];
                    let many = |size: Size| !matches!(size, Size::Fixed(_));
                    let moves = |a: Size, b: Size| product.each.is_some() || many(a) || many(b);
                    self.cost.bytes += sides.iter().filter(|(a, b, _)| moves(*a, *b)).map(|(_, _, count)| 4.0 * count).sum::<f64>();
                    self.cost.bf16 |= product.bf16;
                }
                Stmt::Accumulate { .. } => self.cost.flops += times,
                Stmt::Accumulator { .. } => {}
                Stmt::Partition(_) => self.cost.ragged = true,
            }
        }
    }

    fn instr(&mut self, reg: super::Reg, instr: &Instr, times: f64) {
        let (regs, vars) = super::reads(instr);
        let moves =
            regs.iter().any(|reg| self.moving.contains(&Term::Reg(*reg))) || vars.iter().any(|var| self.moving.contains(&Term::Var(*var)));
        if moves {
            self.moving.insert(Term::Reg(reg));
        }
        match instr {
            Instr::Load { buffer, index } => self.access(*buffer, index.terms.iter().map(|(term, _)| *term), times),
            Instr::Scalar(..) => self.cost.flops += times,
            Instr::Const(_) | Instr::RowKey { .. } | Instr::Random { .. } | Instr::AddInt(..) | Instr::CountBetween(..) => {}
            Instr::Place(_) | Instr::Choice(..) | Instr::Clamp { .. } => {}
        }
    }

    fn access(&mut self, buffer: usize, mut terms: impl Iterator<Item = Term>, times: f64) {
        if terms.any(|term| self.moving.contains(&term)) {
            self.cost.bytes += self.kernel.buffers[buffer].ty.bytes() as f64 * times;
        }
    }
}
