//! Reverse-mode differentiation. Each operator gives its own rule; this walks the graph backwards and adds up.

use crate::graph::{Graph, NodeId};
use crate::ops::{GradientCx, LookupGradient, Op};
use recc_abi::VariableId;
use std::collections::{BTreeMap, BTreeSet};

/// Gradients of a loss.
#[derive(Debug, Default)]
pub struct Gradients {
    /// With respect to dense variables.
    pub dense: BTreeMap<VariableId, NodeId>,
    /// With respect to looked-up rows.
    pub lookups: Vec<LookupGradient>,
}

/// Differentiates the sum of `seeds`: pairs of a node and the gradient of the loss with respect to it.
///
/// Nodes that lead to no variable of `trained` get no gradient: what nobody reads is not computed.
pub fn differentiate(graph: &mut Graph, seeds: &[(NodeId, NodeId)], trained: &BTreeSet<VariableId>) -> Gradients {
    walk(graph, seeds, trained, None).0
}

/// The same down to a node: its own gradient, and none of what it is computed from, as far as paths through it go.
pub(super) fn differentiate_to(
    graph: &mut Graph,
    seeds: &[(NodeId, NodeId)],
    trained: &BTreeSet<VariableId>,
    end: NodeId,
) -> (Gradients, Option<NodeId>) {
    walk(graph, seeds, trained, Some(end))
}

fn walk(graph: &mut Graph, seeds: &[(NodeId, NodeId)], trained: &BTreeSet<VariableId>, end: Option<NodeId>) -> (Gradients, Option<NodeId>) {
    let nodes: Vec<NodeId> = graph.nodes().collect();
    let wanted = nodes_leading_to(graph, &nodes, trained);
    let mut found = Gradients::default();
    let mut gradients: BTreeMap<NodeId, NodeId> = BTreeMap::new();
    for &(node, seed) in seeds {
        add_up(graph, &mut gradients, node, seed);
    }
    for &node in nodes.iter().rev() {
        let Some(&gradient) = gradients.get(&node) else { continue };
        if !wanted.contains(&node) || end == Some(node) {
            continue;
        }
        let op = graph[node].op.clone();
        if let Op::Variable(variable) = &op {
            // A shared layer reads its parameters once per use.
            let sum = match found.dense.get(&variable.id) {
                Some(&known) => graph.sum(known, gradient),
                None => gradient,
            };
            found.dense.insert(variable.id, sum);
            continue;
        }
        let origin = format!("backward {}", graph[node].origin);
        graph.set_origin(&origin);
        let operands = graph.operands(node);
        let mut cx = GradientCx { graph, node, operands: operands.clone(), gradient, lookups: &mut found.lookups };
        let parts = op.gradient(&mut cx);
        for (operand, part) in operands.into_iter().zip(parts) {
            if let Some(part) = part
                && wanted.contains(&operand)
            {
                add_up(graph, &mut gradients, operand, part);
            }
        }
    }
    found.lookups.reverse();
    (found, end.and_then(|end| gradients.get(&end).copied()))
}

fn add_up(graph: &mut Graph, gradients: &mut BTreeMap<NodeId, NodeId>, node: NodeId, part: NodeId) {
    let sum = match gradients.get(&node) {
        Some(&known) => graph.sum(known, part),
        None => part,
    };
    gradients.insert(node, sum);
}

fn nodes_leading_to(graph: &Graph, nodes: &[NodeId], trained: &BTreeSet<VariableId>) -> BTreeSet<NodeId> {
    let mut wanted = BTreeSet::new();
    for &node in nodes {
        let own = match &graph[node].op {
            Op::Variable(op) => trained.contains(&op.id),
            Op::Gather(op) => trained.contains(&op.variable),
            _ => false,
        };
        if own || graph.operands(node).iter().any(|operand| wanted.contains(operand)) {
            wanted.insert(node);
        }
    }
    wanted
}
