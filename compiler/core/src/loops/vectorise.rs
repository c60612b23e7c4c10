//! Marks the loops whose iterations may run side by side: the innermost whose accesses move by one element or none.

use super::{Affine, Extent, Instr, Kernel, LoopVar, Reg, Stmt, Term, Type, reads};
use std::collections::BTreeSet;

/// Loops shorter than this gain nothing.
const SHORTEST: u64 = 4;

/// Marks loops throughout a kernel.
pub fn vectorise(kernel: &mut Kernel) {
    for stmt in &mut kernel.body {
        mark(stmt);
    }
}

/// Marks loops inside a statement; tells whether any is marked.
fn mark(stmt: &mut Stmt) -> bool {
    let Stmt::For { var, extent, vector, body } = stmt else { return false };
    let mut inside = false;
    for stmt in body.iter_mut() {
        inside |= mark(stmt);
    }
    let long = match extent {
        Extent::Fixed(n) => *n >= SHORTEST,
        Extent::Items | Extent::Between(..) => true,
    };
    *vector = !inside && long && Check { var: *var, varying: BTreeSet::new(), stored: BTreeSet::new() }.body(body);
    inside || *vector
}

struct Check {
    var: LoopVar,
    /// Registers that differ from iteration to iteration.
    varying: BTreeSet<Reg>,
    stored: BTreeSet<usize>,
}

impl Check {
    fn varies(&self, instr: &Instr) -> bool {
        let (regs, vars) = reads(instr);
        vars.contains(&self.var) || regs.iter().any(|reg| self.varying.contains(reg))
    }

    fn body(&mut self, body: &[Stmt]) -> bool {
        body.iter().all(|stmt| self.stmt(stmt))
    }

    fn stmt(&mut self, stmt: &Stmt) -> bool {
        match stmt {
            Stmt::Let { reg, ty, instr } => {
                if self.varies(instr) {
                    self.varying.insert(*reg);
                    return *ty != Type::F64 && self.instr(instr);
                }
                true
            }
            Stmt::Accumulator { reg, ty, .. } => {
                self.varying.insert(*reg);
                *ty == Type::F32
            }
            // One partial sum a lane, added up in order when the loop ends. `f64` values do not vary: their sums stay in one order.
            Stmt::Accumulate { reg, value, .. } => self.varying.contains(value) || self.varying.contains(reg),
            Stmt::Store { buffer, index, .. } => self.stored.insert(*buffer) && self.steps(index, true),
            Stmt::For { extent, body, .. } => {
                let fixed = match extent {
                    Extent::Fixed(_) => true,
                    Extent::Between(begin, end) => !self.varying.contains(begin) && !self.varying.contains(end),
                    Extent::Items => false,
                };
                fixed && self.body(body)
            }
            Stmt::MatMul(_) => false,
        }
    }

    fn instr(&self, instr: &Instr) -> bool {
        match instr {
            Instr::Const(_) | Instr::Scalar(..) => true,
            Instr::Load { buffer, index } => self.steps(index, false) && !self.stored.contains(buffer),
            Instr::Random { row_key, element } => !self.varying.contains(row_key) && self.steps(element, false),
            Instr::RowKey { .. } | Instr::AddInt(..) | Instr::CountBetween(..) | Instr::Place(_) => false,
            Instr::Choice(..) | Instr::Clamp { .. } => false,
        }
    }

    fn steps(&self, index: &Affine, store: bool) -> bool {
        let stride = index.stride(self.var);
        let still = index.terms.iter().all(|(term, _)| !matches!(term, Term::Reg(reg) if self.varying.contains(reg)));
        still && (stride == 1 || stride == 0 && !store)
    }
}
