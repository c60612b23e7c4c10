//! Divides scoring in two: what is made of sequences alone, which rows of one key share, and the rest of each row.
//!
//! Many candidates for one history are scored so (M-FALCON, Zhai et al. 2024, section 3.4): the history is computed once.

use crate::graph::{DType, Dim, Graph, Named, NodeId, Program, Space};
use crate::ops::{Input, InputKind, Op};
use crate::spec::Spec;
use recc_abi::{ColumnKind, Inspected, SharedValue};
use std::collections::{BTreeMap, BTreeSet};

/// A scoring graph in two parts.
pub(crate) struct Divided {
    /// What is computed once for the rows of a key: results named by [`SharedValue::result`].
    pub(crate) once: Program,
    /// The results of scoring, by those and by what each row has of its own.
    pub(crate) each: Program,
    /// What the first part hands to the second.
    pub(crate) values: Vec<SharedValue>,
}

/// What a value is made of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    /// Parameters and constants.
    Model,
    /// Sequences too.
    Sequences,
    /// Other columns of the row too.
    Row,
}

/// Divides a scoring graph, if the rows have keys and something is computed from sequences alone.
pub(crate) fn divide(spec: &Spec, score: &Program) -> Option<Divided> {
    let has_keys = spec.columns.iter().any(|column| column.kind == ColumnKind::Key);
    if !has_keys || spec.data.group.is_some() {
        return None;
    }
    // Rankings and what is looked at have no part in the scores of rows.
    let scores_rows = |result: &&Named| {
        let of_ranking = spec.predictions.iter().any(|own| own.ranking().is_some() && result.name == format!("{}.query", own.name));
        !of_ranking && !result.name.starts_with(Inspected::PREFIX)
    };
    let results: Vec<Named> = score.results.iter().filter(scores_rows).cloned().collect();
    let score = Program { graph: score.graph.clone(), results, effects: Vec::new() };
    let cuts: BTreeMap<NodeId, u32> = cuts(spec, &score).into_iter().zip(0..).collect();
    if cuts.is_empty() {
        return None;
    }
    let shared = |node: &NodeId| {
        let ty = &score.graph[*node].ty;
        SharedValue { of: ty.entries(), len: ty.fixed_len() as u32 }
    };
    let values = cuts.keys().map(shared).collect();
    let results = cuts.iter().map(|(&node, &slot)| Named { name: SharedValue::result(slot), node }).collect();
    let once = Program { graph: score.graph.clone(), results, effects: Vec::new() };
    Some(Divided { once, each: rest(&score, &cuts), values })
}

/// The nodes whose values are handed over, in ascending order: the last ones that are made of sequences alone and are worth it.
fn cuts(spec: &Spec, score: &Program) -> BTreeSet<NodeId> {
    let graph = &score.graph;
    let mut sources: BTreeMap<NodeId, Source> = BTreeMap::new();
    // Nodes in whose making there are products or sums over steps.
    let mut worth: BTreeSet<NodeId> = BTreeSet::new();
    for node in score.live() {
        let operands = graph.operands(node);
        let of_operands = operands.iter().map(|operand| sources[operand]).max().unwrap_or(Source::Model);
        sources.insert(node, of_operands.max(own_source(spec, graph, node)));
        if is_work(&graph[node].op) || operands.iter().any(|operand| worth.contains(operand)) {
            worth.insert(node);
        }
    }
    let is_cut = |node: NodeId| {
        let (ty, op) = (&graph[node].ty, &graph[node].op);
        // What only repeats or renames another value is made again.
        let is_view = matches!(op, Op::Broadcast(_) | Op::Reshape(_) | Op::Slice(_) | Op::Take(_) | Op::Hold(_));
        let has_place = ty.space == Space::Example && ty.dtype == DType::F32 && ty.is_storable() && !ty.is_pairs();
        sources[&node] == Source::Sequences && worth.contains(&node) && has_place && !is_view
    };
    let mut cuts = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut stack = score.roots();
    while let Some(node) = stack.pop() {
        if !seen.insert(node) {
            continue;
        }
        if is_cut(node) {
            cuts.insert(node);
        } else {
            stack.extend(graph.operands(node));
        }
    }
    cuts
}

/// What a node brings in beside its operands.
fn own_source(spec: &Spec, graph: &Graph, node: NodeId) -> Source {
    let is_sequence =
        |column: u32| matches!(spec.columns[column as usize].kind, ColumnKind::Ids { ordered: true, .. } | ColumnKind::Numbers { .. });
    let of_columns = |columns: &[u32]| match !columns.is_empty() && columns.iter().all(|column| is_sequence(*column)) {
        true => Source::Sequences,
        false => Source::Row,
    };
    match &graph[node].op {
        Op::Input(Input { kind: InputKind::Moment(_), .. }) => Source::Model,
        Op::Input(input) => of_columns(&input.columns),
        Op::Length(length) => of_columns(&[length.column]),
        Op::Position(position) => of_columns(&[position.column]),
        _ if graph[node].ty.space == Space::Example && graph.operands(node).is_empty() => Source::Row,
        _ => Source::Model,
    }
}

/// Whether a node is more than reading and arithmetic of each element.
fn is_work(op: &Op) -> bool {
    op.is_call() || matches!(op, Op::Reduce(_))
}

/// A graph in which some values are inputs.
fn rest(score: &Program, cuts: &BTreeMap<NodeId, u32>) -> Program {
    let old = &score.graph;
    let mut graph = Graph::default();
    let mut new: BTreeMap<NodeId, NodeId> = BTreeMap::new();
    for node in score.live() {
        let data = &old[node];
        graph.set_origin(&data.origin);
        let added = match cuts.get(&node) {
            Some(&slot) => graph.add(handed_over(slot, &data.ty.dims), &[]),
            None => {
                let operands: Vec<NodeId> = old.operands(node).iter().map(|operand| new[operand]).collect();
                graph.add(data.op.clone(), &operands)
            }
        };
        new.insert(node, added);
    }
    let results = score.results.iter().map(|result| Named { name: result.name.clone(), node: new[&result.node] }).collect();
    Program { graph, results, effects: Vec::new() }
}

fn handed_over(slot: u32, dims: &[Dim]) -> Op {
    Op::Input(Input {
        name: format!("shared {slot}"),
        kind: InputKind::Shared { slot, dims: dims.to_vec() },
        columns: Vec::new(),
        group: false,
    })
}
