//! Stages: which work must wait for the end of which.
//!
//! A tile of examples goes through as much of the graph as it can. What needs every item (a sum over the batch, a weight gradient, rows
//! grouped for an update) ends a stage. Sums are known two stages after their operand: one sums per lane, the next adds the lanes up.

use crate::graph::{Graph, NodeId, Program, Space};
use crate::ops::Op;
use recc_abi::VariableId;
use std::collections::{BTreeMap, BTreeSet};

/// The stage of every node that is needed.
#[derive(Debug)]
pub(crate) struct Stages {
    /// When a node can first be computed; of a sum over items, when its lanes sum.
    stage: BTreeMap<NodeId, usize>,
}

/// Whether a node is known only when all items have been seen.
pub(super) fn is_barrier(op: &Op) -> bool {
    matches!(op, Op::BatchSum(_) | Op::Contract(_) | Op::Scatter(_))
}

/// Whether a global value is stored in one job with others of its stage, which may read it there: values that exist once are few and small.
pub(super) fn is_chained(graph: &Graph, node: NodeId) -> bool {
    // Parts that are joined are written one behind another.
    graph[node].ty.space == Space::Global && matches!(graph[node].op, Op::Keep(_) | Op::Concat(_))
}

/// Whether something that needs no item is stored before: a global value, or the rows that queries are multiplied by. The items' work then begins after it, all
/// together.
fn has_constant_of_a_step(program: &Program, globals: &BTreeSet<NodeId>) -> bool {
    let graph = &program.graph;
    let mut constant: BTreeSet<NodeId> = BTreeSet::new();
    for node in program.live() {
        if matches!(graph[node].op, Op::LogPartition(_)) {
            return true;
        }
        let own = graph[node].ty.space == Space::Global && !is_barrier(&graph[node].op);
        if own && graph.operands(node).iter().all(|operand| constant.contains(operand)) {
            constant.insert(node);
        }
    }
    !constant.is_disjoint(globals)
}

impl Stages {
    /// Stages of all needed nodes. `globals` are computed global values that are stored first.
    pub(crate) fn of(program: &Program, globals: &BTreeSet<NodeId>) -> Stages {
        let graph = &program.graph;
        let mut stages = Stages { stage: BTreeMap::new() };
        let first = usize::from(has_constant_of_a_step(program, globals));
        // When a value that exists once is known to those that are stored in one job with it.
        let mut chained: BTreeMap<NodeId, usize> = BTreeMap::new();
        for node in program.live() {
            let own = graph[node].ty.space;
            let known = |operand: NodeId| match chained.get(&operand) {
                Some(known) if is_chained(graph, operand) || !globals.contains(&operand) => *known,
                _ => stages.ready(program, operand, globals),
            };
            if own == Space::Global && !is_barrier(&graph[node].op) {
                let stage = graph.operands(node).into_iter().map(known).max().unwrap_or(0);
                chained.insert(node, stage);
                if is_chained(graph, node) {
                    stages.stage.insert(node, stage);
                    continue;
                }
            }
            let wait = |operand: NodeId| {
                let ready = stages.ready(program, operand, globals);
                // Rows are grouped when every example is through, and read when all of them are there.
                let other = graph[operand].ty.space;
                let crosses = matches!((own, other), (Space::Row(_), Space::Example) | (Space::Example, Space::Row(_)));
                ready + usize::from(crosses)
            };
            let stage = graph.operands(node).into_iter().map(wait).max().unwrap_or(0);
            stages.stage.insert(node, if own == Space::Example { stage.max(first) } else { stage });
        }
        stages.place_effects(program);
        stages
    }

    /// The stage of a node.
    pub(crate) fn at(&self, node: NodeId) -> usize {
        self.stage.get(&node).copied().unwrap_or(0)
    }

    /// The first stage that may use a node.
    pub(crate) fn ready(&self, program: &Program, node: NodeId, globals: &BTreeSet<NodeId>) -> usize {
        let delay = if is_barrier(&program.graph[node].op) {
            2
        } else if globals.contains(&node) {
            1
        } else {
            0
        };
        self.at(node) + delay
    }

    /// Updates come when all else is through: no other work reads what they write, and a step whose loss is not finite
    /// changes nothing.
    fn place_effects(&mut self, program: &Program) {
        let effects: BTreeSet<NodeId> = program.effects.iter().copied().collect();
        let end = |(node, stage): (&NodeId, &usize)| stage + if is_barrier(&program.graph[*node].op) { 2 } else { 1 };
        let Some(least) = self.stage.iter().filter(|(node, _)| !effects.contains(node)).map(end).max() else { return };
        for effect in effects {
            let own = self.at(effect).max(least);
            self.stage.insert(effect, own);
        }
    }
}

/// Effects that must be computed before any of them is stored, because one reads what another writes.
pub(super) fn effect_groups(program: &Program, globals: &BTreeSet<NodeId>) -> Vec<Vec<NodeId>> {
    let graph = &program.graph;
    let mut groups: Vec<(Vec<NodeId>, BTreeSet<VariableId>)> = Vec::new();
    for &effect in &program.effects {
        let mut touched: BTreeSet<VariableId> = graph[effect].op.variable().into_iter().collect();
        let mut stack = graph.operands(effect);
        let mut seen = BTreeSet::new();
        while let Some(node) = stack.pop() {
            let known = is_barrier(&graph[node].op) || matches!(graph[node].op, Op::RowSum(_) | Op::QuerySum(_)) || globals.contains(&node);
            if !seen.insert(node) || known {
                continue;
            }
            if let Op::Variable(_) | Op::RowRead(_) = graph[node].op {
                touched.extend(graph[node].op.variable());
            }
            stack.extend(graph.operands(node));
        }
        let (joined, rest): (Vec<_>, Vec<_>) = groups.into_iter().partition(|(_, known)| !known.is_disjoint(&touched));
        groups = rest;
        let mut members = Vec::new();
        for (more, known) in joined {
            members.extend(more);
            touched.extend(known);
        }
        members.push(effect);
        members.sort();
        groups.push((members, touched));
    }
    groups.sort();
    groups.into_iter().map(|(members, _)| members).collect()
}
