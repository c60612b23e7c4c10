//! Algebra: named rules, each towards fewer or cheaper nodes.

use super::fold::constant_value;
use super::rebuild;
use crate::graph::{Graph, NodeId, Program, Space};
use crate::ops::{Broadcast, Concat, Op, Slice};
use crate::scalar::ScalarOp;

/// A rule: the replacement of a node, given its operator and operands.
type Rule = fn(&mut Graph, &Op, &[NodeId]) -> Option<NodeId>;

const RULES: &[Rule] = &[
    times_one,
    plus_zero,
    divide_by_constant,
    divide_by_global,
    through_broadcast,
    divide_by_repeated,
    join_globals,
    double_negation,
    plus_negative,
    broadcast_of_broadcast,
    same_shape,
    reshape_of_reshape,
    slice_of_concat,
    sum_of_broadcast,
    held,
];

pub(super) fn simplify(program: &Program) -> Program {
    rebuild(program, |graph, op, operands| RULES.iter().find_map(|rule| rule(graph, op, operands)))
}

fn is(op: &Op, wanted: ScalarOp) -> bool {
    matches!(op, Op::Map(map) if map.op == wanted)
}

/// Gradients are derived, so a constant is a value like any other.
fn held(_: &mut Graph, op: &Op, x: &[NodeId]) -> Option<NodeId> {
    matches!(op, Op::Hold(_)).then(|| x[0])
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

/// x / c is x * (1 / c).
fn divide_by_constant(graph: &mut Graph, op: &Op, x: &[NodeId]) -> Option<NodeId> {
    if !is(op, ScalarOp::Div) {
        return None;
    }
    let divisor = constant_value(graph, x[1])?;
    if divisor == 1.0 {
        return Some(x[0]);
    }
    // A reciprocal that a 32-bit float cannot hold would change the result.
    if !(1.0 / divisor as f32).is_normal() || constant_value(graph, x[0]).is_some() {
        return None;
    }
    let reciprocal = graph.constant_like(x[1], 1.0 / divisor);
    Some(graph.map(ScalarOp::Mul, &[x[0], reciprocal]))
}

/// An item's value by one of the whole batch: one division for all items.
fn divide_by_global(graph: &mut Graph, op: &Op, x: &[NodeId]) -> Option<NodeId> {
    if !is(op, ScalarOp::Div) || graph[x[0]].ty.space == Space::Global {
        return None;
    }
    let (broadcast, source) = global_part(graph, x[1])?;
    if constant_value(graph, source).is_some() {
        return None;
    }
    let one = graph.constant_like(source, 1.0);
    let reciprocal = graph.map(ScalarOp::Div, &[one, source]);
    let reciprocal = graph.add(Op::Broadcast(broadcast), &[reciprocal]);
    Some(graph.map(ScalarOp::Mul, &[x[0], reciprocal]))
}

/// What is made of repeated values is made before they are repeated: once for all their places.
fn through_broadcast(graph: &mut Graph, op: &Op, x: &[NodeId]) -> Option<NodeId> {
    let Op::Map(map) = op else { return None };
    let repeated = x.iter().find_map(|&operand| match &graph[operand].op {
        Op::Broadcast(broadcast) if constant_value(graph, operand).is_none() => Some((broadcast.clone(), graph.operands(operand)[0])),
        _ => None,
    });
    let (broadcast, first) = repeated?;
    if graph[first].ty.space != broadcast.space || graph[first].ty.dims.len() == broadcast.dims.len() {
        return None;
    }
    let mut sources = Vec::new();
    for &operand in x {
        sources.push(match (constant_value(graph, operand), &graph[operand].op) {
            (Some(value), _) => Err(value),
            (None, Op::Broadcast(other)) if *other == broadcast && graph[graph.operands(operand)[0]].ty.space == broadcast.space => {
                Ok(graph.operands(operand)[0])
            }
            _ => return None,
        });
    }
    let sources: Vec<NodeId> = sources.into_iter().map(|source| source.unwrap_or_else(|value| graph.constant_like(first, value))).collect();
    let value = graph.map(map.op, &sources);
    Some(graph.add(Op::Broadcast(broadcast), &[value]))
}

/// x / y with y repeated is x times 1 / y repeated: one division for all its places.
fn divide_by_repeated(graph: &mut Graph, op: &Op, x: &[NodeId]) -> Option<NodeId> {
    let Op::Broadcast(broadcast) = &graph[*x.get(1)?].op else { return None };
    let broadcast = broadcast.clone();
    let source = graph.operands(x[1])[0];
    let ty = graph[source].ty.clone();
    let repeated = ty.space == broadcast.space && ty.space != Space::Global && ty.dims.len() < broadcast.dims.len();
    if !is(op, ScalarOp::Div) || !repeated || constant_value(graph, source).is_some() {
        return None;
    }
    let one = graph.constant_like(source, 1.0);
    let reciprocal = graph.map(ScalarOp::Div, &[one, source]);
    let reciprocal = graph.add(Op::Broadcast(broadcast), &[reciprocal]);
    Some(graph.map(ScalarOp::Mul, &[x[0], reciprocal]))
}

/// A value of the whole batch that an item's value is joined with.
fn global_part(graph: &Graph, node: NodeId) -> Option<(Broadcast, NodeId)> {
    let Op::Broadcast(broadcast) = &graph[node].op else { return None };
    let source = graph.operands(node)[0];
    (graph[source].ty.space == Space::Global && broadcast.space != Space::Global).then(|| (broadcast.clone(), source))
}

/// (x + a) + b is x + (a + b), and (x * a) * b is x * (a * b), where a and b are the same for all items: computed once. Differences too.
fn join_globals(graph: &mut Graph, op: &Op, x: &[NodeId]) -> Option<NodeId> {
    let Op::Map(outer) = op else { return None };
    let (broadcast, b) = global_part(graph, *x.get(1)?)?;
    let Op::Map(inner) = graph[x[0]].op.clone() else { return None };
    let operands = graph.operands(x[0]);
    let (other, a) = global_part(graph, *operands.get(1)?)?;
    if broadcast != other || graph[operands[0]].ty.space == Space::Global {
        return None;
    }
    let (item, joined) = match (inner.op, outer.op) {
        (ScalarOp::Mul, ScalarOp::Mul) => (ScalarOp::Mul, ScalarOp::Mul),
        (ScalarOp::Add, ScalarOp::Add) => (ScalarOp::Add, ScalarOp::Add),
        (ScalarOp::Add, ScalarOp::Sub) => (ScalarOp::Add, ScalarOp::Sub),
        (ScalarOp::Sub, ScalarOp::Sub) => (ScalarOp::Sub, ScalarOp::Add),
        (ScalarOp::Sub, ScalarOp::Add) => (ScalarOp::Sub, ScalarOp::Sub),
        _ => return None,
    };
    let both = graph.map(joined, &[a, b]);
    let both = graph.add(Op::Broadcast(broadcast), &[both]);
    Some(graph.map(item, &[operands[0], both]))
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
            // A square may change its axes.
            let in_order = op.axes.is_sorted();
            return (in_order && own.space == op.space && own.dims == op.dims).then(|| x[0]);
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
