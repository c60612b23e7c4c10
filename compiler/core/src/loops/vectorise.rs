//! Marks the loops whose iterations may run side by side: the innermost whose stores move by one element.

use super::{Affine, Extent, Instr, Kernel, LoopVar, Reg, Stmt, Term, Type, reads};
use std::collections::BTreeSet;

/// Loops shorter than this gain nothing.
const SHORTEST: u64 = 4;

/// Marks loops throughout a kernel.
pub fn vectorise(kernel: &mut Kernel) {
    // Elements that lie apart are dear to bring together: only where no loop around or inside runs over neighbours.
    for gathers in [false, true] {
        for stmt in &mut kernel.body {
            mark(stmt, gathers);
        }
    }
}

/// Marks loops inside a statement; tells whether any is marked.
fn mark(stmt: &mut Stmt, gathers: bool) -> bool {
    let Stmt::For { var, extent, vector, body } = stmt else { return false };
    if *vector {
        return true;
    }
    let mut inside = false;
    for stmt in body.iter_mut() {
        inside |= mark(stmt, gathers);
    }
    let long = match extent {
        Extent::Fixed(n) => *n >= SHORTEST,
        Extent::Items | Extent::Between(..) => true,
    };
    *vector =
        !inside && long && Check { var: *var, gathers, varying: BTreeSet::new(), stored: BTreeSet::new(), inner: Vec::new() }.body(body);
    inside || *vector
}

struct Check {
    var: LoopVar,
    /// Whether elements may lie apart.
    gathers: bool,
    /// Registers that differ from iteration to iteration.
    varying: BTreeSet<Reg>,
    stored: BTreeSet<usize>,
    /// Variables of the loops inside that are open.
    inner: Vec<LoopVar>,
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
                    return *ty != Type::F64 && self.instr(instr, *ty);
                }
                true
            }
            Stmt::Accumulator { reg, ty, .. } => {
                self.varying.insert(*reg);
                *ty == Type::F32
            }
            // One partial sum a lane, added up in order when the loop ends. `f64` values do not vary: their sums stay in one order.
            Stmt::Accumulate { reg, value, .. } => self.varying.contains(value) || self.varying.contains(reg),
            // If a loop inside moves by one element too, an iteration comes to an element that another one stores.
            Stmt::Store { buffer, index, .. } => {
                let meets = self.inner.iter().any(|var| index.stride(*var).abs() == 1);
                self.stored.insert(*buffer) && self.steps(index, true) && !meets
            }
            Stmt::For { var, extent, body, .. } => {
                let fixed = match extent {
                    Extent::Fixed(_) => true,
                    Extent::Between(begin, end) => !self.varying.contains(begin) && !self.varying.contains(end),
                    Extent::Items => false,
                };
                let open = self.inner.len();
                self.inner.extend((*extent != Extent::Fixed(1)).then_some(*var));
                let fits = fixed && self.body(body);
                self.inner.truncate(open);
                fits
            }
            Stmt::MatMul(_) | Stmt::Partition(_) => false,
        }
    }

    fn instr(&self, instr: &Instr, ty: Type) -> bool {
        match instr {
            Instr::Const(_) | Instr::Scalar(..) => true,
            Instr::Load { buffer, index } => {
                (self.steps(index, false) || ty == Type::F32 && self.gathers(index)) && !self.stored.contains(buffer)
            }
            // Whole numbers side by side: sums, clamps, and places that step by any stride.
            Instr::Place(place) => !self.varies_by_reg(place),
            Instr::Random { row_key, element } => !self.varying.contains(row_key) && self.steps(element, false),
            Instr::CountBetween(..) | Instr::Choice(..) | Instr::Clamp { .. } => true,
            Instr::RowKey { .. } | Instr::AddInt(..) => false,
        }
    }

    fn varies_by_reg(&self, index: &Affine) -> bool {
        index.terms.iter().any(|(term, _)| matches!(term, Term::Reg(reg) if self.varying.contains(reg)))
    }

    /// Elements by a number that differs from iteration to iteration, or so many apart, and by nothing else that differs.
    fn gathers(&self, index: &Affine) -> bool {
        let varying = index.terms.iter().filter(|(term, _)| matches!(term, Term::Reg(reg) if self.varying.contains(reg)));
        self.gathers && varying.count() + usize::from(index.stride(self.var) != 0) == 1
    }

    fn steps(&self, index: &Affine, store: bool) -> bool {
        let stride = index.stride(self.var);
        !self.varies_by_reg(index) && (stride == 1 || stride == 0 && !store)
    }
}
