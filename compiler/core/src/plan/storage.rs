//! What is stored, and where.
//!
//! Per stage, a node of the examples is stored in the tile's scratch if a matrix product reads or writes it, if it joins values, if its shape is
//! read in another order, or if computing it again would cost more than keeping it. Nodes that a later stage needs, and that are
//! not cheap to compute again from what it has, are kept for the whole batch.

use super::stages::{Stages, is_barrier, is_chained};
use crate::graph::{DType, Dim, Graph, NodeId, Program, Space};
use crate::ops::Op;
use crate::scalar::ScalarOp;
use std::collections::{BTreeMap, BTreeSet};

/// A value used twice is stored if computing it costs more than this many instructions.
const RECOMPUTE: u32 = 8;

/// A product this much wider than what is multiplied is not kept from one stage to another.
const WIDENED: u64 = 16;

/// What each stage computes for the examples and rows.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// Nodes kept for the whole batch (or all touched rows), in the stage that computes them first.
    pub(crate) kept: BTreeMap<NodeId, usize>,
    /// Per stage: nodes stored in the tile's scratch, in order.
    pub(crate) scratch: Vec<Vec<NodeId>>,
}

/// Computed global values that are stored: those that matrix products read, those that every item would compute again, and numbers
/// made of parameters that updates of other variables read: the clipping factor, if a gradient reads its own parameter.
pub(crate) fn computed_globals(program: &Program) -> BTreeSet<NodeId> {
    let graph = &program.graph;
    let mut found = BTreeSet::new();
    for node in program.live() {
        let operands = graph.operands(node);
        match graph[node].op {
            Op::MatMul(_) if !matches!(graph[operands[1]].op, Op::Variable(_)) && !is_barrier(&graph[operands[1]].op) => {
                found.insert(operands[1]);
            }
            // Read by linear places.
            Op::Reshape(_) if graph[node].ty.space == Space::Global && matches!(graph[operands[0]].op, Op::Broadcast(_)) => {
                found.insert(operands[0]);
            }
            // A single number is computed once, before the loop over the items.
            Op::Broadcast(_) if graph[node].ty.space == Space::Example => {
                let source = &graph[operands[0]];
                if source.ty.space == Space::Global && source.ty.len() > Some(1) && matches!(source.op, Op::Map(_)) {
                    found.insert(operands[0]);
                }
            }
            _ if is_chained(graph, node) => {
                found.insert(node);
            }
            Op::Broadcast(_) => {
                let source = &graph[operands[0]];
                let number = source.ty.space == Space::Global && source.ty.len() == Some(1) && matches!(source.op, Op::Map(_));
                // A condition has no place in memory: what reads it is updated together with the variable.
                if number && source.ty.dtype != DType::Bool && reads_a_variable(graph, operands[0]) {
                    found.insert(operands[0]);
                }
            }
            _ => {}
        }
    }
    found
}

/// Whether a global value is computed from a variable's present value, not only from sums over the batch.
fn reads_a_variable(graph: &Graph, node: NodeId) -> bool {
    let mut stack = vec![node];
    let mut seen = BTreeSet::new();
    while let Some(node) = stack.pop() {
        if matches!(graph[node].op, Op::Variable(_)) {
            return true;
        }
        if seen.insert(node) && !is_barrier(&graph[node].op) {
            stack.extend(graph.operands(node));
        }
    }
    false
}

/// Whether a node is one number pooled from looked-up rows. It is computed first, while its rows are on their way to the cache.
pub(super) fn is_pooled_number(graph: &Graph, node: NodeId) -> bool {
    let looked_up = |node: NodeId| matches!(graph[node].op, Op::Gather(_));
    matches!(graph[node].op, Op::Reduce(_)) && graph[node].ty.len() == Some(1) && graph.operands(node).into_iter().any(looked_up)
}

/// Whether a value of entries costs little to compute from what is kept: less than to write and to read it. A row's sum reads each once.
fn cheap(graph: &Graph, node: NodeId) -> bool {
    fn cost(graph: &Graph, node: NodeId) -> u32 {
        if !graph[node].ty.is_ragged() {
            return 0;
        }
        let own = match &graph[node].op {
            Op::Map(map) => map.op.cost(),
            Op::Broadcast(_) | Op::Gather(_) | Op::Input(_) => 1,
            _ => 2 * RECOMPUTE,
        };
        // What has fewer elements is kept itself, if it is dear.
        let size = graph[node].ty.fixed_len();
        let same = graph.operands(node).into_iter().filter(|operand| graph[*operand].ty.fixed_len() >= size);
        same.fold(own, |sum, operand| if sum < 2 * RECOMPUTE { sum + cost(graph, operand) } else { sum })
    }
    cost(graph, node) < 2 * RECOMPUTE
}

/// Whether a product is of so few numbers that keeping those and multiplying again costs less than writing and reading it.
fn is_widened(graph: &Graph, node: NodeId) -> bool {
    let width = |node: NodeId| graph[node].ty.fixed_len();
    matches!(graph[node].op, Op::MatMul(_)) && width(graph.operands(node)[0]) * WIDENED <= width(node)
}

struct Finder<'p> {
    program: &'p Program,
    stages: &'p Stages,
    needs: Needs,
    /// Per stage: nodes evaluated there.
    cones: Vec<BTreeSet<NodeId>>,
    /// Per stage: nodes asked for from outside the cone, with how often.
    asked: Vec<BTreeMap<NodeId, usize>>,
}

/// Finds what is stored. `terminals` are the nodes each stage must give: operands of sums, results, operands of row sums.
pub(crate) fn find(program: &Program, stages: &Stages, count: usize) -> Needs {
    let mut finder = Finder {
        program,
        stages,
        needs: Needs { kept: BTreeMap::new(), scratch: vec![Vec::new(); count] },
        cones: vec![BTreeSet::new(); count],
        asked: vec![BTreeMap::new(); count],
    };
    finder.row_sums();
    for stage in (0..count).rev() {
        finder.stage(stage);
    }
    for stage in 0..count {
        finder.scratch(stage);
    }
    finder.needs
}

impl Finder<'_> {
    fn space(&self, node: NodeId) -> Space {
        self.program.graph[node].ty.space
    }

    /// Gradients of looked-up rows are kept for the batch, unless they repeat values that are. So are the rows that queries are multiplied by, and
    /// for sums of queries all that they are made of.
    fn row_sums(&mut self) {
        for node in self.program.live() {
            let operands = self.program.graph.operands(node);
            match self.program.graph[node].op {
                Op::RowSum(_) => self.keep_for_rows(operands[0]),
                Op::LogPartition(_) => self.keep(operands[1]),
                Op::QuerySum(_) => operands.into_iter().chain([node]).for_each(|own| self.keep(own)),
                _ => {}
            }
        }
    }

    /// What a row's sum reads of an example must be kept: there is no tile's scratch then. Cheap values of entries are computed in
    /// place from what they repeat.
    fn keep_for_rows(&mut self, node: NodeId) {
        let graph = &self.program.graph;
        if self.space(node) == Space::Global || matches!(graph[node].op, Op::Input(_) | Op::Length(_) | Op::Random(_)) {
            return;
        }
        let ty = &graph[node].ty;
        let in_place = !ty.is_storable()
            || ty.is_ragged() && cheap(graph, node)
            || ty.dtype != DType::F32
            || matches!(graph[node].op, Op::Broadcast(_));
        if in_place {
            for operand in graph.operands(node) {
                self.keep_for_rows(operand);
            }
        } else {
            self.keep(node);
        }
    }

    fn keep(&mut self, node: NodeId) {
        let stage = self.stages.at(node);
        self.needs.kept.insert(node, stage);
    }

    fn stage(&mut self, stage: usize) {
        let graph = &self.program.graph;
        let mut wanted: Vec<NodeId> = Vec::new();
        for node in self.program.live() {
            let here = self.stages.at(node) == stage;
            if here && is_barrier(&graph[node].op) && self.space(graph.operands(node)[0]) != Space::Global {
                wanted.extend(graph.operands(node));
            }
            if here && self.space(node) != Space::Global && self.program.results.iter().any(|result| result.node == node) {
                self.needs.kept.insert(node, stage);
            }
            if here && graph[node].op.is_effect() && self.space(node) != Space::Global {
                wanted.extend(graph.operands(node));
            }
        }
        wanted.extend(self.needs.kept.iter().filter(|(_, own)| **own == stage).map(|(node, _)| *node));
        for node in wanted {
            *self.asked[stage].entry(node).or_insert(0) += 1;
            self.demand(node, stage);
        }
    }

    /// A node is needed in a stage: it, and what it is computed from, is evaluated there or kept from earlier.
    fn demand(&mut self, node: NodeId, stage: usize) {
        let mut stack = vec![node];
        while let Some(node) = stack.pop() {
            let op = &self.program.graph[node].op;
            if self.space(node) == Space::Global || self.cones[stage].contains(&node) {
                continue;
            }
            let own = self.stages.at(node);
            if own < stage {
                if self.needs.kept.contains_key(&node) {
                    continue;
                }
                // What has no place in memory is computed again, from what has.
                let dear = op.is_call() && !is_widened(&self.program.graph, node) || matches!(op, Op::RowSum(_) | Op::Reduce(_));
                if dear && self.program.graph[node].ty.is_storable() {
                    self.keep(node);
                    continue;
                }
            }
            self.cones[stage].insert(node);
            if !matches!(op, Op::RowSum(_) | Op::QuerySum(_)) {
                stack.extend(self.program.graph.operands(node));
            }
        }
    }

    fn scratch(&mut self, stage: usize) {
        let cone = self.cones[stage].clone();
        let mut stored = Vec::new();
        for &node in &cone {
            let kept = self.needs.kept.contains_key(&node);
            if !kept && self.space(node) == Space::Example && self.wants_scratch(node, stage, &cone) {
                stored.push(node);
            }
        }
        self.needs.scratch[stage] = stored;
    }

    fn wants_scratch(&self, node: NodeId, stage: usize, cone: &BTreeSet<NodeId>) -> bool {
        let graph = &self.program.graph;
        let ty = &graph[node].ty;
        if ty.dtype != DType::F32 && ty.dtype != DType::F64 || !ty.is_storable() {
            return false;
        }
        let here = |user: &NodeId| cone.contains(user) || is_barrier(&graph[*user].op) && self.stages.at(*user) == stage;
        let users: Vec<NodeId> = graph.users(node).into_iter().filter(here).collect();
        // These read their operands where they lie.
        let product = |user: &NodeId| graph[*user].op.is_call() || matches!(graph[*user].op, Op::Contract(_) | Op::Take(_));
        if graph[node].op.is_call() || matches!(graph[node].op, Op::Concat(_) | Op::Take(_)) || users.iter().any(product) {
            return true;
        }
        if users.iter().any(|user| self.reads_in_other_order(*user, node, stage, cone)) || is_pooled_number(graph, node) {
            return true;
        }
        if users.iter().any(|user| repeats(graph, *user)) && self.is_dear(node, cone, 0) {
            return true;
        }
        // Sums are among those that ask.
        let asked = self.asked[stage].get(&node).copied().unwrap_or(0);
        let readers = users.iter().filter(|user| !is_barrier(&graph[**user].op)).count();
        let movable = matches!(graph[node].op, Op::Map(_) | Op::Reduce(_));
        movable && readers + asked >= 2 && self.cost(node, cone, 0) >= RECOMPUTE
    }

    /// A reshape reads its operand by linear places, unless it is only written, part by part, into what joins it.
    fn reads_in_other_order(&self, user: NodeId, node: NodeId, stage: usize, cone: &BTreeSet<NodeId>) -> bool {
        let graph = &self.program.graph;
        let Op::Reshape(reshape) = &graph[user].op else { return false };
        let dims = &graph[node].ty.dims;
        if reshape.keeps_axes(dims) || dims.len() == 1 {
            return false;
        }
        let written = |next: NodeId| !cone.contains(&next) || matches!(graph[next].op, Op::Concat(_));
        let flat = graph[user].ty.dims.len() == 1;
        let stored = self.needs.kept.contains_key(&user) || self.wants_scratch(user, stage, cone);
        !(flat && (stored || graph.users(user).into_iter().all(written)))
    }

    /// Whether each element takes an exponential, a sum or the like, by the node itself or by the elementwise nodes and repetitions right before it; or
    /// whether the node itself is other axes of a value, which would be read across its rows.
    fn is_dear(&self, node: NodeId, cone: &BTreeSet<NodeId>, depth: u32) -> bool {
        let graph = &self.program.graph;
        let dear = match &graph[node].op {
            Op::Map(map) => map.op.cost() >= RECOMPUTE,
            Op::Reduce(_) => return true,
            Op::Broadcast(broadcast) => depth == 0 && !broadcast.axes.is_sorted(),
            _ => return false,
        };
        // What others read too has a memory of its own, and what lies far back is not worth the search.
        let own = |operand: &NodeId| cone.contains(operand) && !self.needs.kept.contains_key(operand) && graph.users(*operand).len() == 1;
        dear || depth < 8 && graph.operands(node).into_iter().filter(own).any(|operand| self.is_dear(operand, cone, depth + 1))
    }

    /// Instructions to compute one element, up to a limit.
    fn cost(&self, node: NodeId, cone: &BTreeSet<NodeId>, depth: u32) -> u32 {
        let graph = &self.program.graph;
        if depth > 16 {
            return RECOMPUTE;
        }
        let own = match &graph[node].op {
            Op::Map(map) => map.op.cost(),
            Op::Reduce(_) | Op::Random(_) => RECOMPUTE,
            Op::Gather(_) => 2,
            Op::Concat(_) | Op::Take(_) => return 1,
            op if op.is_call() => return 1,
            _ => 0,
        };
        let mut total = own;
        for operand in graph.operands(node) {
            if total < RECOMPUTE && (cone.contains(&operand) || self.space(operand) == Space::Global) {
                total += if is_barrier(&graph[operand].op) { 0 } else { self.cost(operand, cone, depth + 1) };
            }
        }
        // Choosing is cheap and frees nothing when stored.
        if matches!(&graph[node].op, Op::Map(map) if map.op == ScalarOp::Select) { total.min(RECOMPUTE) } else { total }
    }
}

/// Whether an operator reads its operand several times from the beginning: along a new axis with one of the operand's behind it, or with a sum over one
/// of the operand's, whose loop is the innermost. What is repeated along the last axes is computed before their loops.
fn repeats(graph: &Graph, node: NodeId) -> bool {
    let Op::Broadcast(broadcast) = &graph[node].op else { return false };
    let new: Vec<usize> = broadcast.new_axes().into_iter().filter(|axis| broadcast.dims[*axis] != Dim::Fixed(1)).collect();
    let summed = reduced_axes(graph, node, 0);
    let is_before = |new: &usize| broadcast.axes.iter().any(|own| own > new || summed.contains(own) && !summed.contains(new));
    new.iter().any(is_before)
}

/// Axes of a value that sums of elementwise functions of it are over.
fn reduced_axes(graph: &Graph, node: NodeId, depth: u32) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for user in graph.users(node) {
        match &graph[user].op {
            Op::Reduce(reduce) => found.extend(&reduce.axes),
            Op::Map(_) if depth < 4 => found.extend(reduced_axes(graph, user, depth + 1)),
            _ => {}
        }
    }
    found
}
