//! Reverse-mode differentiation. Each operator gives its own rule; this walks the graph backwards and adds up.

use crate::graph::{Graph, NodeId, Space};
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
    /// With respect to all rows of tables that are read as such.
    pub rows: BTreeMap<VariableId, NodeId>,
}

/// Differentiates the sum of `seeds`: pairs of a node and the gradient of the loss with respect to it.
///
/// Nodes that lead to no variable of `trained` get no gradient: what nobody reads is not computed.
pub fn differentiate(graph: &mut Graph, seeds: &[(NodeId, NodeId)], trained: &BTreeSet<VariableId>) -> Gradients {
    let nodes: Vec<NodeId> = graph.nodes().collect();
    let mut walk = Walk { wanted: nodes_leading_to(graph, &nodes, trained), ..Walk::default() };
    for &(node, seed) in seeds {
        add_up(graph, &mut walk.gradients, node, seed);
    }
    for &node in nodes.iter().rev() {
        walk.visit(graph, node, |_, _| true);
    }
    walk.finish()
}

/// Differentiates several losses, each down to `end` alone: its gradients at `end`, and those of all losses together with respect to
/// what lies between. What lies between learns from the sum, so its own gradients are computed once.
pub(super) fn differentiate_to(
    graph: &mut Graph,
    losses: &[(NodeId, NodeId)],
    trained: &BTreeSet<VariableId>,
    end: NodeId,
) -> (Gradients, Vec<NodeId>) {
    let nodes: Vec<NodeId> = graph.nodes().collect();
    let wanted = nodes_leading_to(graph, &nodes, trained);
    let mut totals: BTreeMap<NodeId, NodeId> = BTreeMap::new();
    let mut ends = Vec::new();
    for &(node, seed) in losses {
        let mut walk = Walk { wanted: wanted.clone(), ..Walk::default() };
        add_up(graph, &mut walk.gradients, node, seed);
        for &node in nodes.iter().rev().filter(|node| **node != end) {
            walk.visit(graph, node, |_, _| true);
        }
        let Some(&own) = walk.gradients.get(&end) else { unreachable!("the checker lets no loss through that has no gradient at {end}") };
        ends.push(own);
        for (node, gradient) in walk.gradients {
            if graph[node].ty.space != Space::Global && node != end {
                add_up(graph, &mut totals, node, gradient);
            }
        }
    }
    let mut walk = Walk { wanted, gradients: totals, ..Walk::default() };
    for &node in nodes.iter().rev().filter(|node| **node != end) {
        // Sums of the losses' gradients are known already for what exists once an example.
        walk.visit(graph, node, |graph, operand| graph[operand].ty.space == Space::Global);
    }
    (walk.finish(), ends)
}

/// One pass backwards.
#[derive(Default)]
struct Walk {
    /// Nodes that lead to something trained.
    wanted: BTreeSet<NodeId>,
    gradients: BTreeMap<NodeId, NodeId>,
    found: Gradients,
}

impl Walk {
    /// Hands a node's gradient on to the operands that `takes` names.
    fn visit(&mut self, graph: &mut Graph, node: NodeId, takes: impl Fn(&Graph, NodeId) -> bool) {
        let Some(&gradient) = self.gradients.get(&node) else { return };
        if !self.wanted.contains(&node) {
            return;
        }
        let op = graph[node].op.clone();
        let read = match &op {
            Op::Variable(variable) => Some((&mut self.found.dense, variable.id)),
            Op::RowRead(rows) => Some((&mut self.found.rows, rows.variable)),
            _ => None,
        };
        if let Some((found, variable)) = read {
            // A shared layer reads its parameters once per use.
            let sum = match found.get(&variable) {
                Some(&known) => graph.sum(known, gradient),
                None => gradient,
            };
            found.insert(variable, sum);
            return;
        }
        let origin = format!("backward {}", graph[node].origin);
        graph.set_origin(&origin);
        let operands = graph.operands(node);
        let mut cx = GradientCx { graph, node, operands: operands.clone(), gradient, lookups: &mut self.found.lookups };
        let parts = op.gradient(&mut cx);
        for (operand, part) in operands.into_iter().zip(parts) {
            if let Some(part) = part
                && self.wanted.contains(&operand)
                && takes(graph, operand)
            {
                add_up(graph, &mut self.gradients, operand, part);
            }
        }
    }

    fn finish(mut self) -> Gradients {
        self.found.lookups.reverse();
        self.found
    }
}

fn add_up(graph: &mut Graph, gradients: &mut BTreeMap<NodeId, NodeId>, node: NodeId, part: NodeId) {
    let sum = match gradients.get(&node) {
        Some(&known) => joined(graph, known, part).unwrap_or_else(|| graph.sum(known, part)),
        None => part,
    };
    gradients.insert(node, sum);
}

/// The sum of two gradients of parts of one value, each zero elsewhere, as one value that holds both: what is taken apart is put together once, and not once
/// for each part.
fn joined(graph: &mut Graph, known: NodeId, part: NodeId) -> Option<NodeId> {
    let (Op::Concat(concat), Op::Concat(other)) = (&graph[known].op, &graph[part].op) else { return None };
    let (concat, axis) = (concat.clone(), concat.axis);
    if other.axis != axis {
        return None;
    }
    let segments = |node: NodeId| {
        let mut start = 0;
        let each = graph.operands(node).into_iter().map(|segment| {
            let first = start;
            start += graph[segment].ty.dims[axis].fixed()?;
            Some((segment, first, start))
        });
        each.collect::<Option<Vec<_>>>()
    };
    let (mine, theirs) = (segments(known)?, segments(part)?);
    let mut filled = theirs.into_iter().filter(|(segment, ..)| !is_zero(graph, *segment));
    let ((segment, first, last), None) = (filled.next()?, filled.next()) else { return None };
    let place =
        mine.iter().position(|&(own, start, end)| start == first && last == end || start <= first && last <= end && is_zero(graph, own))?;
    let (own, start, end) = mine[place];
    let segment = if is_zero(graph, own) { segment } else { graph.sum(own, segment) };
    let rests = [first - start, end - last].map(|len| (len > 0).then(|| graph.zeros_along(own, axis, len)));
    let mut parts: Vec<NodeId> = mine[..place].iter().map(|(own, ..)| *own).collect();
    parts.extend([rests[0], Some(segment), rests[1]].into_iter().flatten());
    parts.extend(mine[place + 1..].iter().map(|(own, ..)| *own));
    Some(graph.add(Op::Concat(concat), &parts))
}

fn is_zero(graph: &Graph, node: NodeId) -> bool {
    match &graph[node].op {
        Op::Constant(constant) => constant.value() == 0.0,
        Op::Broadcast(_) => is_zero(graph, graph.operands(node)[0]),
        _ => false,
    }
}

fn nodes_leading_to(graph: &Graph, nodes: &[NodeId], trained: &BTreeSet<VariableId>) -> BTreeSet<NodeId> {
    let mut wanted = BTreeSet::new();
    for &node in nodes {
        let own = match &graph[node].op {
            Op::Variable(op) => trained.contains(&op.id),
            Op::Gather(op) => trained.contains(&op.variable),
            Op::RowRead(op) => trained.contains(&op.variable),
            _ => false,
        };
        if own || graph.operands(node).iter().any(|operand| wanted.contains(operand)) {
            wanted.insert(node);
        }
    }
    wanted
}
