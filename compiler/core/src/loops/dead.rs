//! Drops what nobody reads: stores to scratch that no kernel loads, values without users, loops and buffers that are left empty.

use super::{Combine, Extent, Instr, Kernel, Reg, Stmt, Term, reads};
use recc_abi::BufferId;
use std::collections::{BTreeMap, BTreeSet};

/// The buffers that a kernel loads, by its own code or through a call.
pub fn loaded_buffers(kernel: &Kernel) -> BTreeSet<BufferId> {
    let mut found = BTreeSet::new();
    visit(&kernel.body, &mut |stmt| match stmt {
        Stmt::Let { instr: Instr::Load { buffer, .. }, .. } => {
            found.insert(kernel.buffers[*buffer].id);
        }
        Stmt::Store { buffer, accumulate: true, .. } => {
            found.insert(kernel.buffers[*buffer].id);
        }
        stmt => found.extend(stmt.call().into_iter().flat_map(|(read, _)| read).map(|buffer| kernel.buffers[buffer].id)),
    });
    found
}

/// The arguments that a body loads or stores, by its own code or through a call.
pub fn touched_buffers(body: &[Stmt]) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    visit(body, &mut |stmt| match stmt {
        Stmt::Let { instr: Instr::Load { buffer, .. }, .. } | Stmt::Store { buffer, .. } => {
            found.insert(*buffer);
        }
        stmt => found.extend(stmt.call().into_iter().flat_map(|(read, written)| read.into_iter().chain([written]))),
    });
    found
}

fn visit(body: &[Stmt], each: &mut impl FnMut(&Stmt)) {
    for stmt in body {
        each(stmt);
        if let Stmt::For { body, .. } = stmt {
            visit(body, each);
        }
    }
}

/// Drops stores to buffers that are not read, and all that only they needed.
pub fn drop_dead(kernel: &mut Kernel, is_read: impl Fn(BufferId) -> bool) {
    let ids: Vec<BufferId> = kernel.buffers.iter().map(|arg| arg.id).collect();
    let mut used = BTreeSet::new();
    live(&mut kernel.body, &mut used, &|buffer| is_read(ids[buffer]));
    let touched = touched_buffers(&kernel.body);
    let places: BTreeMap<usize, usize> = touched.iter().enumerate().map(|(new, old)| (*old, new)).collect();
    renumber(&mut kernel.body, &places);
    kernel.buffers = touched.iter().map(|&old| kernel.buffers[old].clone()).collect();
}

/// Walks backwards, so that users come before what they use.
fn live(body: &mut Vec<Stmt>, used: &mut BTreeSet<Reg>, is_read: &impl Fn(usize) -> bool) {
    let mut kept = Vec::with_capacity(body.len());
    for mut stmt in std::mem::take(body).into_iter().rev() {
        let keep = match &mut stmt {
            Stmt::Let { reg, .. } | Stmt::Accumulator { reg, .. } | Stmt::Accumulate { reg, .. } => used.contains(reg),
            Stmt::Store { buffer, .. } => is_read(*buffer),
            Stmt::For { body, .. } => {
                live(body, used, is_read);
                !body.is_empty()
            }
            Stmt::MatMul(_) | Stmt::Partition(_) => true,
        };
        if !keep {
            continue;
        }
        match &stmt {
            Stmt::Let { instr, .. } => used.extend(reads(instr).0),
            Stmt::Accumulate { value, .. } => {
                used.insert(*value);
            }
            Stmt::Store { index, value, .. } => {
                used.insert(*value);
                used.extend(index.terms.iter().filter_map(|(term, _)| if let Term::Reg(reg) = term { Some(*reg) } else { None }));
            }
            Stmt::For { extent: Extent::Between(begin, end), .. } => used.extend([*begin, *end]),
            Stmt::For { .. } | Stmt::Accumulator { .. } | Stmt::MatMul(_) | Stmt::Partition(_) => {}
        }
        kept.push(stmt);
    }
    kept.reverse();
    *body = kept;
}

fn renumber(body: &mut [Stmt], places: &BTreeMap<usize, usize>) {
    for stmt in body {
        match stmt {
            Stmt::Let { instr: Instr::Load { buffer, .. }, .. } | Stmt::Store { buffer, .. } => *buffer = places[buffer],
            Stmt::MatMul(product) => {
                for matrix in [&mut product.dst, &mut product.a, &mut product.b] {
                    matrix.buffer = places[&matrix.buffer];
                }
                product.scales = product.scales.map(|scales| places[&scales]);
                product.entries = product.entries.map(|entries| places[&entries]);
            }
            Stmt::Partition(partition) => partition.buffers_mut().for_each(|buffer| *buffer = places[buffer]),
            Stmt::For { body, .. } => renumber(body, places),
            Stmt::Let { .. } | Stmt::Accumulator { .. } | Stmt::Accumulate { .. } => {}
        }
    }
}

/// Buffers that a statement writes.
pub fn stored_buffers(stmt: &Stmt) -> Vec<usize> {
    match stmt {
        Stmt::Store { buffer, .. } => vec![*buffer],
        Stmt::For { body, .. } => body.iter().flat_map(stored_buffers).collect(),
        stmt => stmt.call().map(|(_, written)| written).into_iter().collect(),
    }
}

/// Accumulators that statements add to and do not define, each once.
pub fn sums_of_outside<'s>(body: impl Iterator<Item = &'s Stmt>) -> Vec<(Reg, Combine)> {
    let (mut own, mut found) = (Vec::new(), Vec::new());
    body.for_each(|stmt| collect_sums(stmt, &mut own, &mut found));
    found.retain(|(reg, _)| !own.contains(reg));
    found.sort_by_key(|(reg, _)| *reg);
    found.dedup_by_key(|(reg, _)| *reg);
    found
}

fn collect_sums(stmt: &Stmt, own: &mut Vec<Reg>, found: &mut Vec<(Reg, Combine)>) {
    match stmt {
        Stmt::Accumulator { reg, .. } => own.push(*reg),
        Stmt::Accumulate { reg, combine, .. } => found.push((*reg, *combine)),
        Stmt::For { body, .. } => body.iter().for_each(|stmt| collect_sums(stmt, own, found)),
        Stmt::Let { .. } | Stmt::Store { .. } | Stmt::MatMul(_) | Stmt::Partition(_) => {}
    }
}
