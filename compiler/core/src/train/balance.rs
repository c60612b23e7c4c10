//! Balanced gradients of several losses, at a representation they share or at the parameters they share.
//!
//! A rule turns the products of all pairs of gradients into a weight for each. At a representation each loss is differentiated down to there alone, what lies
//! behind the fork learns from their sum, and the weighted sum goes on through the trunk, once. At parameters each loss is differentiated through the whole model.

use super::gradient::{Gradients, differentiate, differentiate_to};
use super::trained::Trained;
use crate::graph::{DType, Dim, Graph, NodeId, Space, TableId, TensorType};
use crate::loops::Combine;
use crate::ops::{BatchSum, Concat, Gather, Keep, LookupGradient, Op, Reduce, Reshape, RowSum, Slice};
use crate::scalar::ScalarOp;
use crate::spec::{Balance, BalancedAt};
use recc_abi::{Variable, VariableId};
use std::collections::{BTreeMap, BTreeSet};

/// A loss: its mean over the batch, and the seed of its backward pass.
#[derive(Clone, Copy, Debug)]
pub struct Seeded<'s> {
    /// Its name.
    pub name: &'s str,
    /// The mean.
    pub mean: NodeId,
    /// The loss of each example, and its share of the mean.
    pub seed: (NodeId, NodeId),
}

/// Gradients of all losses, those that a rule balances among them, and new values of the rule's states.
///
/// Averages of gradients become slots beside `variables`, named by those and by the losses.
pub fn balanced(
    graph: &mut Graph,
    losses: &[Seeded<'_>],
    balance: &Balance,
    trained: &BTreeSet<VariableId>,
    variables: &[Variable],
    slots: &mut Trained,
) -> (Gradients, Vec<(VariableId, NodeId)>) {
    let others = (0..losses.len()).filter(|at| !balance.losses.contains(at)).map(|at| losses[at].seed);
    let taking: Vec<(NodeId, NodeId)> = balance.losses.iter().map(|&at| losses[at].seed).collect();
    match balance.over {
        BalancedAt::Value(over) => {
            let (mut found, parts) = differentiate_to(graph, &taking, trained, over);
            graph.set_origin("balance");
            let gram = matrix(graph, parts.len(), |graph, i, j| product(graph, parts[i], parts[j]));
            let (weights, updates) = rule(graph, losses, balance, gram);
            let total = weighted(graph, &weights, parts.iter().copied().map(Some));
            let seeds: Vec<(NodeId, NodeId)> = total.map(|total| (over, total)).into_iter().chain(others).collect();
            let trunk = differentiate(graph, &seeds, trained);
            merge(graph, &mut found, trunk);
            (found, updates)
        }
        BalancedAt::Parameters => {
            let parts: Vec<Gradients> = taking.iter().map(|&seed| differentiate(graph, &[seed], trained)).collect();
            graph.set_origin("balance");
            let shared = Shared::of(&parts);
            let mut gradients: Vec<_> = parts.iter().map(|part| shared.gradients(graph, part)).collect();
            if let Some(share) = balance.average {
                for (&at, own) in balance.losses.iter().zip(&mut gradients) {
                    averages(graph, own, share, losses[at].name, variables, slots);
                }
            }
            let gram = shared.gram(graph, &gradients);
            let (weights, updates) = rule(graph, losses, balance, gram);
            let mut found = shared.weighted(graph, &weights, &gradients, parts);
            let others = differentiate(graph, &others.collect::<Vec<_>>(), trained);
            merge(graph, &mut found, others);
            (found, updates)
        }
    }
}

/// The rule's weights, one by one, and new values of its states.
fn rule(graph: &mut Graph, losses: &[Seeded<'_>], balance: &Balance, gram: NodeId) -> (Vec<NodeId>, Vec<(VariableId, NodeId)>) {
    let means: Vec<NodeId> = balance.losses.iter().map(|&at| losses[at].mean).collect();
    let means = row(graph, &means);
    let mut known = BTreeMap::from([(balance.gram, gram), (balance.means, means)]);
    let weights = replay(graph, balance.weights, &mut known);
    let updates = balance.updates.iter().map(|&(variable, node)| (variable, replay(graph, node, &mut known))).collect();
    let one = |at: usize| {
        let weight = graph.add(Op::Slice(Slice { axis: 0, start: at as u64, len: 1 }), &[weights]);
        graph.add(Op::Reshape(Reshape { dims: vec![] }), &[weight])
    };
    ((0..balance.losses.len()).map(one).collect(), updates)
}

/// The sum of gradients, each times its weight.
fn weighted(graph: &mut Graph, weights: &[NodeId], parts: impl Iterator<Item = Option<NodeId>>) -> Option<NodeId> {
    let mut total: Option<NodeId> = None;
    for (&weight, part) in weights.iter().zip(parts) {
        let Some(part) = part else { continue };
        let ty = graph[part].ty.clone();
        let weight = graph.broadcast(weight, ty.space, &ty.dims);
        let scaled = graph.map(ScalarOp::Mul, &[weight, part]);
        total = Some(total.map_or(scaled, |total| graph.sum(total, scaled)));
    }
    total
}

/// Numbers for all pairs, the same both ways: f32[K, K].
fn matrix(graph: &mut Graph, count: usize, mut of: impl FnMut(&mut Graph, usize, usize) -> NodeId) -> NodeId {
    let mut products: BTreeMap<(usize, usize), NodeId> = BTreeMap::new();
    for i in 0..count {
        for j in 0..=i {
            let sum = of(graph, i, j);
            products.insert((i, j), sum);
            products.insert((j, i), sum);
        }
    }
    let all: Vec<NodeId> = products.into_values().collect();
    let flat = row(graph, &all);
    let dims = vec![Dim::Fixed(count as u64); 2];
    graph.add(Op::Reshape(Reshape { dims }), &[flat])
}

/// The product of two gradients, over all items and all columns.
pub(super) fn product(graph: &mut Graph, a: NodeId, b: NodeId) -> NodeId {
    let mut product = graph.map(ScalarOp::Mul, &[a, b]);
    let ty = graph[product].ty.clone();
    // The items of what exists once are its rows.
    let keep = usize::from(ty.space == Space::Global);
    if ty.dims.len() > keep {
        product = graph.add(Op::Reduce(Reduce { combine: Combine::Add, axes: (keep..ty.dims.len()).collect() }), &[product]);
    }
    if ty.space == Space::Global && ty.dims.is_empty() { product } else { graph.add(Op::BatchSum(BatchSum), &[product]) }
}

/// A loss's gradients by variable, of a table by its touched rows.
type ByVariable = BTreeMap<VariableId, NodeId>;

/// Puts moving averages in the place of a loss's gradients: y <- y + share (g - y), from 0.
fn averages(graph: &mut Graph, gradients: &mut ByVariable, share: f64, loss: &str, variables: &[Variable], slots: &mut Trained) {
    for (id, gradient) in gradients {
        let of = &variables[id.0 as usize];
        let (path, table) = (format!("{}.average.{loss}", of.path), of.table.map(TableId));
        let (slot, old) = slots.slot(graph, &path, &of.shape, table);
        let apart = graph.map(ScalarOp::Sub, &[*gradient, old]);
        let factor = graph.constant_like(apart, share);
        let part = graph.map(ScalarOp::Mul, &[factor, apart]);
        *gradient = graph.sum(old, part);
        slots.write(graph, (slot, &path), table, *gradient);
    }
}

/// What two losses or more learn.
struct Shared {
    variables: BTreeSet<VariableId>,
    /// All look-ups, each once, in the order in which updates count those of a table.
    lookups: Vec<(Gather, NodeId)>,
}

impl Shared {
    fn of(parts: &[Gradients]) -> Shared {
        let mut lookups: Vec<(Gather, NodeId)> = Vec::new();
        for own in parts.iter().flat_map(|part| &part.lookups) {
            if !lookups.iter().any(|(gather, ids)| *gather == own.gather && *ids == own.ids) {
                lookups.push((own.gather.clone(), own.ids));
            }
        }
        let mut counts: BTreeMap<VariableId, usize> = BTreeMap::new();
        for part in parts {
            let looked_up = part.lookups.iter().map(|own| own.gather.variable);
            let own: BTreeSet<VariableId> = part.dense.keys().chain(part.rows.keys()).copied().chain(looked_up).collect();
            own.into_iter().for_each(|id| *counts.entry(id).or_insert(0) += 1);
        }
        Shared { variables: counts.into_iter().filter(|(_, count)| *count > 1).map(|(id, _)| id).collect(), lookups }
    }

    /// A loss's gradients with respect to what is shared.
    fn gradients(&self, graph: &mut Graph, part: &Gradients) -> ByVariable {
        let known = part.dense.iter().chain(&part.rows).filter(|(id, _)| self.variables.contains(id));
        let mut found: ByVariable = known.map(|(id, own)| (*id, *own)).collect();
        let mut counts: BTreeMap<TableId, u32> = BTreeMap::new();
        for (gather, ids) in &self.lookups {
            let number = counts.entry(gather.table).or_insert(0);
            let lookup = *number;
            *number += 1;
            let own = part.lookups.iter().find(|own| own.gather == *gather && own.ids == *ids);
            let Some(gradient) = own.and_then(|own| own.gradient).filter(|_| self.variables.contains(&gather.variable)) else { continue };
            let rows = graph.add(Op::RowSum(RowSum { table: gather.table, lookup }), &[gradient]);
            let sum = found.get(&gather.variable).map_or(rows, |&known| graph.sum(known, rows));
            found.insert(gather.variable, sum);
        }
        found
    }

    /// Products of all pairs of losses.
    fn gram(&self, graph: &mut Graph, gradients: &[ByVariable]) -> NodeId {
        matrix(graph, gradients.len(), |graph, i, j| {
            let both = gradients[i].iter().filter_map(|(id, own)| Some((*own, *gradients[j].get(id)?)));
            let products: Vec<NodeId> = both.map(|(a, b)| product(graph, a, b)).collect();
            products
                .into_iter()
                .reduce(|a, b| graph.sum(a, b))
                .unwrap_or_else(|| graph.constant_of(&TensorType::f32(Space::Global, &[]), 0.0))
        })
    }

    /// The weighted sum of what is shared, whose gradients are given, and what is not shared as it is.
    fn weighted(&self, graph: &mut Graph, weights: &[NodeId], gradients: &[ByVariable], parts: Vec<Gradients>) -> Gradients {
        let mut found = Gradients::default();
        for id in &self.variables {
            let own = gradients.iter().map(|own| own.get(id).copied());
            if let Some(total) = weighted(graph, weights, own) {
                let of = if graph[total].ty.space == Space::Global { &mut found.dense } else { &mut found.rows };
                of.insert(*id, total);
            }
        }
        for (gather, ids) in &self.lookups {
            // Of what is shared the rows have their gradients.
            let own = |part: &Gradients| part.lookups.iter().find(|own| own.gather == *gather && own.ids == *ids)?.gradient;
            let gradient = parts.iter().filter(|_| !self.variables.contains(&gather.variable)).find_map(own);
            found.lookups.push(LookupGradient { gather: gather.clone(), ids: *ids, gradient });
        }
        for part in parts {
            found.dense.extend(part.dense.into_iter().filter(|(id, _)| !self.variables.contains(id)));
            found.rows.extend(part.rows.into_iter().filter(|(id, _)| !self.variables.contains(id)));
        }
        found
    }
}

/// Numbers as a row.
fn row(graph: &mut Graph, numbers: &[NodeId]) -> NodeId {
    let long = |graph: &mut Graph, node| graph.add(Op::Reshape(Reshape { dims: vec![Dim::Fixed(1)] }), &[node]);
    let longs: Vec<NodeId> = numbers.iter().map(|&node| long(graph, node)).collect();
    graph.add(Op::Concat(Concat { axis: 0 }), &longs)
}

/// A value computed anew from what stands in the places that were given.
fn replay(graph: &mut Graph, node: NodeId, known: &mut BTreeMap<NodeId, NodeId>) -> NodeId {
    if let Some(&known) = known.get(&node) {
        return known;
    }
    let operands = graph.operands(node);
    let new: Vec<NodeId> = operands.iter().map(|&operand| replay(graph, operand, known)).collect();
    let op = graph[node].op.clone();
    let mut copy = if new == operands { node } else { graph.add(op, &new) };
    // A rule is a long chain; what it reads twice would be computed twice, and so on along the chain.
    let once = graph[copy].ty.space == Space::Global && graph[copy].ty.dtype == DType::F32;
    if copy != node && graph.users(node).len() > 1 && once {
        copy = graph.add(Op::Keep(Keep), &[copy]);
    }
    known.insert(node, copy);
    copy
}

/// Adds gradients up; those of one look-up become one.
fn merge(graph: &mut Graph, into: &mut Gradients, from: Gradients) {
    for (found, own) in [(&mut into.dense, from.dense), (&mut into.rows, from.rows)] {
        for (variable, gradient) in own {
            let sum = match found.get(&variable) {
                Some(&known) => graph.sum(known, gradient),
                None => gradient,
            };
            found.insert(variable, sum);
        }
    }
    for own in from.lookups {
        match into.lookups.iter_mut().find(|known| known.gather == own.gather && known.ids == own.ids) {
            Some(known) => {
                known.gradient = match (known.gradient, own.gradient) {
                    (Some(known), Some(own)) => Some(graph.sum(known, own)),
                    (known, own) => known.or(own),
                }
            }
            None => into.lookups.push(own),
        }
    }
}

/// Whether a value of each example has a gradient with respect to another.
pub fn depends_on(graph: &Graph, node: NodeId, on: NodeId) -> bool {
    let mut stack = vec![node];
    let mut seen = BTreeSet::new();
    while let Some(node) = stack.pop() {
        if node == on {
            return true;
        }
        let ty = &graph[node].ty;
        let ends = node < on || ty.space == Space::Global || ty.dtype != DType::F32 || matches!(graph[node].op, Op::Hold(_));
        if !ends && seen.insert(node) {
            stack.extend(graph.operands(node));
        }
    }
    false
}

/// Variables that a value is computed from, as far as gradients go.
pub fn learned(graph: &Graph, node: NodeId) -> BTreeSet<VariableId> {
    let mut found = BTreeSet::new();
    let mut stack = vec![node];
    let mut seen = BTreeSet::new();
    while let Some(node) = stack.pop() {
        let op = &graph[node].op;
        if matches!(op, Op::Hold(_)) || !seen.insert(node) {
            continue;
        }
        if let Op::Variable(_) | Op::Gather(_) | Op::RowRead(_) = op {
            found.extend(op.variable());
        }
        stack.extend(graph.operands(node));
    }
    found
}
