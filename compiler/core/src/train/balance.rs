//! Balanced gradients of several losses at a representation they share.
//!
//! Each loss is differentiated down to the representation alone, which gives its gradient there; what lies behind the fork learns from their sum.
//! A rule turns the products of these gradients into a weight for each, and their weighted sum goes on through the trunk, once.

use super::gradient::{Gradients, differentiate, differentiate_to};
use crate::graph::{DType, Dim, Graph, NodeId, Space};
use crate::loops::Combine;
use crate::ops::{BatchSum, Concat, Keep, Op, Reduce, Reshape, Slice};
use crate::scalar::ScalarOp;
use crate::spec::Balance;
use recc_abi::VariableId;
use std::collections::{BTreeMap, BTreeSet};

/// A loss: its mean over the batch, and the seed of its backward pass.
#[derive(Clone, Copy, Debug)]
pub struct Seeded {
    /// The mean.
    pub mean: NodeId,
    /// The loss of each example, and its share of the mean.
    pub seed: (NodeId, NodeId),
}

/// Gradients of all losses, those that a rule balances among them, and new values of the rule's states.
pub fn balanced(
    graph: &mut Graph,
    losses: &[Seeded],
    balance: &Balance,
    trained: &BTreeSet<VariableId>,
) -> (Gradients, Vec<(VariableId, NodeId)>) {
    let taking: Vec<(NodeId, NodeId)> = balance.losses.iter().map(|&at| losses[at].seed).collect();
    let (mut found, parts) = differentiate_to(graph, &taking, trained, balance.over);
    graph.set_origin("balance");
    let gram = gram(graph, &parts);
    let means: Vec<NodeId> = balance.losses.iter().map(|&at| losses[at].mean).collect();
    let means = row(graph, &means);
    let mut known = BTreeMap::from([(balance.gram, gram), (balance.means, means)]);
    let weights = replay(graph, balance.weights, &mut known);
    let updates = balance.updates.iter().map(|&(variable, node)| (variable, replay(graph, node, &mut known))).collect();
    let mut total: Option<NodeId> = None;
    for (at, &part) in parts.iter().enumerate() {
        let weight = graph.add(Op::Slice(Slice { axis: 0, start: at as u64, len: 1 }), &[weights]);
        let weight = graph.add(Op::Reshape(Reshape { dims: vec![] }), &[weight]);
        let ty = graph[part].ty.clone();
        let weight = graph.broadcast(weight, ty.space, &ty.dims);
        let scaled = graph.map(ScalarOp::Mul, &[weight, part]);
        total = Some(total.map_or(scaled, |total| graph.sum(total, scaled)));
    }
    let others = (0..losses.len()).filter(|at| !balance.losses.contains(at)).map(|at| losses[at].seed);
    let seeds: Vec<(NodeId, NodeId)> = total.map(|total| (balance.over, total)).into_iter().chain(others).collect();
    let trunk = differentiate(graph, &seeds, trained);
    merge(graph, &mut found, trunk);
    (found, updates)
}

/// Products of all pairs of gradients, over the batch and all columns: f32[K, K].
fn gram(graph: &mut Graph, parts: &[NodeId]) -> NodeId {
    let count = parts.len();
    let mut products: BTreeMap<(usize, usize), NodeId> = BTreeMap::new();
    for i in 0..count {
        for j in 0..=i {
            let mut product = graph.map(ScalarOp::Mul, &[parts[i], parts[j]]);
            let rank = graph[product].ty.dims.len();
            if rank > 0 {
                product = graph.add(Op::Reduce(Reduce { combine: Combine::Add, axes: (0..rank).collect() }), &[product]);
            }
            let sum = graph.add(Op::BatchSum(BatchSum), &[product]);
            products.insert((i, j), sum);
            products.insert((j, i), sum);
        }
    }
    let all: Vec<NodeId> = products.into_values().collect();
    let flat = row(graph, &all);
    let dims = vec![Dim::Fixed(count as u64); 2];
    graph.add(Op::Reshape(Reshape { dims }), &[flat])
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
    for (variable, gradient) in from.dense {
        let sum = match into.dense.get(&variable) {
            Some(&known) => graph.sum(known, gradient),
            None => gradient,
        };
        into.dense.insert(variable, sum);
    }
    for own in from.lookups {
        match into.lookups.iter_mut().find(|known| known.gather == own.gather && known.ids == own.ids) {
            Some(known) => known.gradient = graph.sum(known.gradient, own.gradient),
            None => into.lookups.push(own),
        }
    }
}

/// Whether a value of each example has a gradient with respect to another.
pub fn depends_on(graph: &Graph, node: NodeId, on: NodeId) -> bool {
    let ends = |node: NodeId| node < on || graph[node].ty.space == Space::Global || graph[node].ty.dtype != DType::F32;
    reaches(graph, node, |node| node == on, ends)
}

/// Whether a value is computed from something trained.
pub fn is_learned(graph: &Graph, node: NodeId) -> bool {
    reaches(graph, node, |node| matches!(graph[node].op, Op::Variable(_) | Op::Gather(_)), |_| false)
}

/// Whether a way back through operands, on which gradients go, leads to a node that is looked for before it ends.
fn reaches(graph: &Graph, from: NodeId, found: impl Fn(NodeId) -> bool, ends: impl Fn(NodeId) -> bool) -> bool {
    let mut stack = vec![from];
    let mut seen = BTreeSet::new();
    while let Some(node) = stack.pop() {
        if found(node) {
            return true;
        }
        if !ends(node) && !matches!(graph[node].op, Op::Hold(_)) && seen.insert(node) {
            stack.extend(graph.operands(node));
        }
    }
    false
}
