//! Algebra: named rules, each towards fewer or cheaper nodes.

use super::fold::constant_value;
use super::rebuild;
use crate::graph::{Graph, NodeId, Program};
use crate::ops::{Broadcast, Concat, Op, Slice};
use crate::scalar::ScalarOp;

/// A rule: the replacement of a node, given its operator and operands.
struct Rule {
    #[allow(dead_code, reason = "names the rule where it stands")]
    name: &'static str,
    apply: fn(&mut Graph, &Op, &[NodeId]) -> Option<NodeId>,
}

const RULES: &[Rule] = &[
    Rule { name: "times-one", apply: times_one },
    Rule { name: "plus-zero", apply: plus_zero },
    Rule { name: "divide-by-one", apply: |graph, op, x| (is(op, ScalarOp::Div) && constant_value(graph, x[1]) == Some(1.0)).then(|| x[0]) },
    Rule { name: "double-negation", apply: double_negation },
    Rule { name: "plus-negative", apply: plus_negative },
    Rule { name: "broadcast-of-broadcast", apply: broadcast_of_broadcast },
    Rule { name: "same-shape", apply: same_shape },
    Rule { name: "reshape-of-reshape", apply: reshape_of_reshape },
    Rule { name: "slice-of-concat", apply: slice_of_concat },
    Rule { name: "sum-of-broadcast", apply: sum_of_broadcast },
];

pub(super) fn simplify(program: &Program) -> Program {
    rebuild(program, |graph, op, operands| RULES.iter().find_map(|rule| (rule.apply)(graph, op, operands)))
}

fn is(op: &Op, wanted: ScalarOp) -> bool {
    matches!(op, Op::Map(map) if map.op == wanted)
}

fn times_one(graph: &mut Graph, op: &Op, x: &[NodeId]) -> Option<NodeId> {
    if !is(op, ScalarOp::Mul) {
        return None;
    }
    if constant_value(graph, x[0]) == Some(1.0) {
        return Some(x[1]);
    }
    (constant_value(graph, x[1]) == Some(1.0)).then(|| x[0])
}

fn plus_zero(graph: &mut Graph, op: &Op, x: &[NodeId]) -> Option<NodeId> {
    if is(op, ScalarOp::Add) && constant_value(graph, x[0]) == Some(0.0) {
        return Some(x[1]);
    }
    ((is(op, ScalarOp::Add) || is(op, ScalarOp::Sub)) && constant_value(graph, x[1]) == Some(0.0)).then(|| x[0])
}

fn double_negation(graph: &mut Graph, op: &Op, x: &[NodeId]) -> Option<NodeId> {
    if !is(op, ScalarOp::Neg) || !is(&graph[x[0]].op, ScalarOp::Neg) {
        return None;
    }
    graph.operands(x[0]).first().copied()
}

/// a + -b is a - b.
fn plus_negative(graph: &mut Graph, op: &Op, x: &[NodeId]) -> Option<NodeId> {
    if !is(op, ScalarOp::Add) || !is(&graph[x[1]].op, ScalarOp::Neg) {
        return None;
    }
    let positive = graph.operands(x[1])[0];
    Some(graph.map(ScalarOp::Sub, &[x[0], positive]))
}

fn broadcast_of_broadcast(graph: &mut Graph, op: &Op, x: &[NodeId]) -> Option<NodeId> {
    let Op::Broadcast(outer) = op else { return None };
    let Op::Broadcast(inner) = graph[x[0]].op.clone() else { return None };
    let source = graph.operands(x[0])[0];
    let axes = inner.axes.iter().map(|axis| outer.axes[*axis]).collect();
    Some(graph.add(Op::Broadcast(Broadcast { space: outer.space, dims: outer.dims.clone(), axes }), &[source]))
}

fn same_shape(graph: &mut Graph, op: &Op, x: &[NodeId]) -> Option<NodeId> {
    let ty = match op {
        Op::Broadcast(op) => {
            let own = &graph[x[0]].ty;
            return (own.space == op.space && own.dims == op.dims).then(|| x[0]);
        }
        Op::Reshape(op) => &op.dims,
        Op::Slice(Slice { axis, start: 0, len }) => {
            return (graph[x[0]].ty.dims[*axis].fixed() == Some(*len)).then(|| x[0]);
        }
        Op::Concat(_) => return if let [only] = x { Some(*only) } else { None },
        _ => return None,
    };
    (graph[x[0]].ty.dims == *ty).then(|| x[0])
}

fn reshape_of_reshape(graph: &mut Graph, op: &Op, x: &[NodeId]) -> Option<NodeId> {
    let Op::Reshape(_) = op else { return None };
    let Op::Reshape(_) = graph[x[0]].op else { return None };
    let source = graph.operands(x[0])[0];
    let dims = match op {
        Op::Reshape(outer) => &outer.dims,
        _ => return None,
    };
    if graph[source].ty.dims == *dims {
        return Some(source);
    }
    Some(graph.add(op.clone(), &[source]))
}

/// A slice that lies within one part of a concatenation reads that part.
fn slice_of_concat(graph: &mut Graph, op: &Op, x: &[NodeId]) -> Option<NodeId> {
    let Op::Slice(slice) = op else { return None };
    let Op::Concat(Concat { axis }) = graph[x[0]].op else { return None };
    if axis != slice.axis {
        return None;
    }
    let mut start = slice.start;
    for part in graph.operands(x[0]) {
        let len = graph[part].ty.dims[axis].fixed()?;
        if start < len {
            if start + slice.len > len {
                return None;
            }
            if start == 0 && slice.len == len {
                return Some(part);
            }
            return Some(graph.add(Op::Slice(Slice { axis, start, len: slice.len }), &[part]));
        }
        start -= len;
    }
    None
}

/// A sum along an axis that only repeats is a product with its length.
fn sum_of_broadcast(graph: &mut Graph, op: &Op, x: &[NodeId]) -> Option<NodeId> {
    let Op::Reduce(reduce) = op else { return None };
    let Op::Broadcast(broadcast) = graph[x[0]].op.clone() else { return None };
    let source = graph.operands(x[0])[0];
    if reduce.combine != crate::loops::Combine::Add || broadcast.axes.iter().any(|axis| reduce.axes.contains(axis)) {
        return None;
    }
    let count: u64 = reduce.axes.iter().map(|axis| broadcast.dims[*axis].fixed()).product::<Option<u64>>()?;
    let kept: Vec<usize> = (0..broadcast.dims.len()).filter(|axis| !reduce.axes.contains(axis)).collect();
    let dims = kept.iter().map(|axis| broadcast.dims[*axis]).collect();
    let axes = broadcast.axes.iter().filter_map(|axis| kept.iter().position(|own| own == axis)).collect();
    let factor = graph.constant_like(source, count as f64);
    let product = if count == 1 { source } else { graph.map(ScalarOp::Mul, &[source, factor]) };
    Some(graph.add(Op::Broadcast(Broadcast { space: broadcast.space, dims, axes }), &[product]))
}
