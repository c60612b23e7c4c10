//! Joins neighbouring loops of one extent, and drops what is then computed twice or read back from where it was just stored.
//!
//! Condition: single assignment. After: the same stores in the same order for each element; sums keep their order.

use super::{Affine, Extent, Instr, Kernel, LoopVar, Reg, Stmt, Term, reads};
use std::collections::{BTreeMap, BTreeSet};

/// Joins loops and shares values throughout a kernel.
pub fn merge_loops(kernel: &mut Kernel) {
    // Arguments that are one buffer with different strides count as one.
    let same: Vec<usize> = kernel.buffers.iter().map(|arg| arg.id.0 as usize).collect();
    kernel.body = merge_body(std::mem::take(&mut kernel.body), &same);
    let mut sharing = Sharing { same_buffer: same, ..Sharing::default() };
    sharing.body(&mut kernel.body);
}

/// Within a body: a loop moves up to an earlier loop of its extent when nothing between or inside forbids it.
fn merge_body(body: Vec<Stmt>, same: &[usize]) -> Vec<Stmt> {
    let mut out: Vec<Stmt> = Vec::new();
    for stmt in body {
        let Stmt::For { var, extent, vector, body } = stmt else {
            let place = earliest(&out, &stmt, same);
            out.insert(place, stmt);
            continue;
        };
        match partner(&out, var, &extent, vector, &body, same) {
            Some(at) => {
                let (accumulators, rest): (Vec<Stmt>, Vec<Stmt>) =
                    out.drain(at..).partition(|stmt| matches!(stmt, Stmt::Accumulator { .. }));
                out.extend(accumulators);
                let joined = out.len();
                out.extend(rest);
                if let Some(Stmt::For { var: own, body: target, .. }) = out.get_mut(joined) {
                    target.extend(body.into_iter().map(|stmt| rename(stmt, var, *own)));
                }
            }
            None => out.push(Stmt::For { var, extent, vector, body }),
        }
    }
    for stmt in &mut out {
        if let Stmt::For { body, .. } = stmt {
            *body = merge_body(std::mem::take(body), same);
        }
    }
    out
}

/// Where a value may stand: before the loops that it does not need, so that they can join with loops that use it.
fn earliest(out: &[Stmt], stmt: &Stmt, same: &[usize]) -> usize {
    let mut place = out.len();
    if !matches!(stmt, Stmt::Let { .. }) {
        return place;
    }
    let own = Effects::of(std::slice::from_ref(stmt), same);
    for (at, earlier) in out.iter().enumerate().rev() {
        let effects = Effects::of(std::slice::from_ref(earlier), same);
        if own.depends_on(&effects) || !own.loads.is_disjoint(&effects.stores) {
            break;
        }
        if matches!(earlier, Stmt::For { .. }) {
            place = at;
        }
    }
    place
}

/// Whether two loops touch a buffer only at one element for each round, by plain stores and loads that stand in the loops themselves.
fn same_element(buffer: usize, (var, body): (LoopVar, &[Stmt]), (other_var, other_body): (LoopVar, &[Stmt]), same: &[usize]) -> bool {
    let mut places: Vec<(usize, Affine)> = Vec::new();
    for (stmts, from) in [(body, var), (other_body, other_var)] {
        for stmt in stmts {
            match stmt {
                Stmt::Let { instr: Instr::Load { buffer: own, index }, .. } | Stmt::Store { buffer: own, index, accumulate: false, .. }
                    if same[*own] == buffer =>
                {
                    places.push((*own, rename_affine(index.clone(), from, var)));
                }
                Stmt::Let { .. } | Stmt::Accumulator { .. } | Stmt::Accumulate { .. } => {}
                Stmt::Store { buffer: own, .. } if same[*own] != buffer => {}
                Stmt::Store { .. } | Stmt::MatMul(_) | Stmt::Partition(_) => return false,
                Stmt::For { .. } => {
                    let effects = Effects::of(std::slice::from_ref(stmt), same);
                    if effects.stores.contains(&buffer) || effects.loads.contains(&buffer) {
                        return false;
                    }
                }
            }
        }
    }
    places.windows(2).all(|pair| pair[0] == pair[1]) && places.iter().all(|(_, index)| index.stride(var) != 0)
}

fn partner(out: &[Stmt], var: LoopVar, extent: &Extent, vector: bool, body: &[Stmt], same: &[usize]) -> Option<usize> {
    let own = Effects::of(body, same);
    for (at, stmt) in out.iter().enumerate().rev() {
        let effects = Effects::of(std::slice::from_ref(stmt), same);
        if let Stmt::For { var: other_var, extent: other, vector: other_vector, body: other_body } = stmt
            && other == extent
            && *other_vector == vector
            && !own.depends_on(&effects)
            // Elements are visited in another order once joined: what one loop stores another may not touch, unless both
            // work on an element of their own in each round.
            && own.shared(&effects).into_iter().all(|buffer| same_element(buffer, (var, body), (*other_var, other_body), same))
        {
            return Some(at);
        }
        let movable = match stmt {
            // Needs nothing, so it can stand before the loop that is joined.
            Stmt::Accumulator { .. } => true,
            Stmt::Let { .. } => !own.uses.iter().any(|reg| effects.defines.contains(reg)) && own.stores.is_disjoint(&effects.loads),
            _ => !own.depends_on(&effects) && own.shared(&effects).is_empty(),
        };
        if !movable {
            return None;
        }
    }
    None
}

#[derive(Default)]
struct Effects {
    uses: BTreeSet<Reg>,
    defines: BTreeSet<Reg>,
    /// Accumulators changed.
    changes: BTreeSet<Reg>,
    stores: BTreeSet<usize>,
    loads: BTreeSet<usize>,
}

impl Effects {
    fn of(body: &[Stmt], same: &[usize]) -> Effects {
        let mut effects = Effects::default();
        effects.add(body, same);
        effects
    }

    fn add(&mut self, body: &[Stmt], same: &[usize]) {
        for stmt in body {
            match stmt {
                Stmt::Let { reg, instr, .. } => {
                    self.defines.insert(*reg);
                    self.uses.extend(reads(instr).0);
                    if let Instr::Load { buffer, .. } = instr {
                        self.loads.insert(same[*buffer]);
                    }
                }
                Stmt::Accumulator { reg, .. } => {
                    self.defines.insert(*reg);
                }
                Stmt::Accumulate { reg, value, .. } => {
                    self.changes.insert(*reg);
                    self.uses.extend([*reg, *value]);
                }
                Stmt::Store { buffer, index, value, .. } => {
                    self.stores.insert(same[*buffer]);
                    self.uses.insert(*value);
                    self.affine(index);
                }
                Stmt::For { extent, body, .. } => {
                    if let Extent::Between(begin, end) = extent {
                        self.uses.extend([*begin, *end]);
                    }
                    self.add(body, same);
                }
                Stmt::MatMul(_) | Stmt::Partition(_) => {
                    if let Some((read, written)) = stmt.call() {
                        self.stores.insert(same[written]);
                        self.loads.extend(read.into_iter().map(|buffer| same[buffer]));
                    }
                }
            }
        }
    }

    fn affine(&mut self, index: &Affine) {
        for (term, _) in &index.terms {
            if let Term::Reg(reg) = term {
                self.uses.insert(*reg);
            }
        }
    }

    /// Buffers that one of two stores and the other touches.
    fn shared(&self, other: &Effects) -> BTreeSet<usize> {
        let touched = |effects: &Effects| effects.loads.union(&effects.stores).copied().collect::<BTreeSet<_>>();
        self.stores.intersection(&touched(other)).chain(other.stores.intersection(&touched(self))).copied().collect()
    }

    fn depends_on(&self, earlier: &Effects) -> bool {
        self.uses.iter().any(|reg| earlier.defines.contains(reg) || earlier.changes.contains(reg))
            || self.changes.iter().any(|reg| earlier.uses.contains(reg))
    }
}

fn rename_affine(index: Affine, from: LoopVar, to: LoopVar) -> Affine {
    let terms =
        index.terms.into_iter().map(|(term, stride)| (if term == Term::Var(from) { Term::Var(to) } else { term }, stride)).collect();
    Affine { terms, offset: 0 }.plus(&Affine::constant(index.offset))
}

/// A statement with another variable in the place of one.
pub fn rename(stmt: Stmt, from: LoopVar, to: LoopVar) -> Stmt {
    match stmt {
        Stmt::Let { reg, ty, instr } => {
            let instr = match instr {
                Instr::Load { buffer, index } => Instr::Load { buffer, index: rename_affine(index, from, to) },
                Instr::Random { row_key, element } => Instr::Random { row_key, element: rename_affine(element, from, to) },
                Instr::Place(place) => Instr::Place(rename_affine(place, from, to)),
                other @ (Instr::Const(_) | Instr::Scalar(..) | Instr::RowKey { .. } | Instr::AddInt(..) | Instr::CountBetween(..)) => other,
                other @ (Instr::Choice(..) | Instr::Clamp { .. }) => other,
            };
            Stmt::Let { reg, ty, instr }
        }
        Stmt::Store { buffer, index, value, accumulate } => {
            Stmt::Store { buffer, index: rename_affine(index, from, to), value, accumulate }
        }
        Stmt::For { var, extent, vector, body } => {
            Stmt::For { var, extent, vector, body: body.into_iter().map(|stmt| rename(stmt, from, to)).collect() }
        }
        other @ (Stmt::Accumulator { .. } | Stmt::Accumulate { .. } | Stmt::MatMul(_) | Stmt::Partition(_)) => other,
    }
}

/// A value and the depth of the body that computed it.
struct Known {
    instr: Instr,
    reg: Reg,
    depth: usize,
}

/// Values already computed in this or an enclosing body.
#[derive(Default)]
struct Sharing {
    known: Vec<Known>,
    depth: usize,
    /// The plan's buffer of each argument.
    same_buffer: Vec<usize>,
    same: BTreeMap<Reg, Reg>,
}

impl Sharing {
    fn reg(&self, reg: Reg) -> Reg {
        self.same.get(&reg).copied().unwrap_or(reg)
    }

    fn affine(&self, index: &mut Affine) {
        let mut out = Affine::constant(index.offset);
        for &(term, stride) in &index.terms {
            let term = match term {
                Term::Reg(reg) => Term::Reg(self.reg(reg)),
                var @ Term::Var(_) => var,
            };
            out = out.plus(&Affine { terms: vec![(term, stride)], offset: 0 });
        }
        *index = out;
    }

    fn instr(&self, instr: &mut Instr) {
        match instr {
            Instr::Const(_) => {}
            Instr::Load { index, .. } => self.affine(index),
            Instr::Scalar(_, operands) => operands.iter_mut().for_each(|operand| *operand = self.reg(*operand)),
            Instr::RowKey { key, row } => (*key, *row) = (self.reg(*key), self.reg(*row)),
            Instr::Random { row_key, element } => {
                *row_key = self.reg(*row_key);
                self.affine(element);
            }
            Instr::AddInt(a, b) | Instr::CountBetween(a, b) => (*a, *b) = (self.reg(*a), self.reg(*b)),
            Instr::Place(place) => self.affine(place),
            Instr::Choice(number, _) => *number = self.reg(*number),
            Instr::Clamp { number, begin, end } => (*number, *begin, *end) = (self.reg(*number), self.reg(*begin), self.reg(*end)),
        }
    }

    fn body(&mut self, body: &mut Vec<Stmt>) {
        self.depth += 1;
        let mut out = Vec::with_capacity(body.len());
        for mut stmt in std::mem::take(body) {
            match &mut stmt {
                Stmt::Let { reg, instr, .. } => {
                    self.instr(instr);
                    if let Some(known) = self.known.iter().find(|known| known.instr == *instr) {
                        self.same.insert(*reg, known.reg);
                        continue;
                    }
                    self.known.push(Known { instr: instr.clone(), reg: *reg, depth: self.depth });
                }
                Stmt::Accumulator { .. } => {}
                Stmt::Accumulate { reg, value, .. } => {
                    *value = self.reg(*value);
                    // What was computed from the accumulator's earlier value is not known any more.
                    let changed = *reg;
                    self.known.retain(|known| !reads(&known.instr).0.contains(&changed));
                }
                Stmt::Store { buffer, index, value, accumulate } => {
                    *value = self.reg(*value);
                    self.affine(index);
                    let written = self.same_buffer[*buffer];
                    self.forget(written);
                    if !*accumulate {
                        let instr = Instr::Load { buffer: *buffer, index: index.clone() };
                        self.known.push(Known { instr, reg: *value, depth: self.depth });
                    }
                }
                Stmt::For { extent, body, .. } => {
                    if let Extent::Between(begin, end) = extent {
                        (*begin, *end) = (self.reg(*begin), self.reg(*end));
                    }
                    // A value from a buffer that the loop writes may be stale in its second iteration.
                    for written in Effects::of(body, &self.same_buffer).stores {
                        self.forget(written);
                    }
                    let changes = Effects::of(body, &self.same_buffer).changes;
                    self.known.retain(|known| !reads(&known.instr).0.iter().any(|reg| changes.contains(reg)));
                    self.body(body);
                }
                Stmt::MatMul(_) | Stmt::Partition(_) => {
                    let written = stmt.call().map(|(_, written)| self.same_buffer[written]);
                    written.into_iter().for_each(|buffer| self.forget(buffer));
                }
            }
            out.push(stmt);
        }
        self.depth -= 1;
        let depth = self.depth;
        self.known.retain(|known| known.depth <= depth);
        *body = out;
    }

    fn forget(&mut self, buffer: usize) {
        let same = &self.same_buffer;
        self.known.retain(|known| !matches!(&known.instr, Instr::Load { buffer: loaded, .. } if same[*loaded] == buffer));
    }
}
