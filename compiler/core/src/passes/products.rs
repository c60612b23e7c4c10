//! Matrix products with one column, or with one inner element, are elementwise work that fuses with its neighbours.

use super::rebuild;
use crate::graph::{Dim, Graph, NodeId, Program};
use crate::loops::Combine;
use crate::ops::{BatchSum, Broadcast, Op, Reduce, Reshape};
use crate::scalar::ScalarOp;

pub(super) fn thin_products(program: &Program) -> Program {
    rebuild(program, |graph, op, operands| match op {
        Op::MatMul(product) => thin_matmul(graph, product.transposed, operands[0], operands[1]),
        Op::Contract(_) => thin_contract(graph, operands[0], operands[1]),
        _ => None,
    })
}

fn thin_matmul(graph: &mut Graph, transposed: bool, x: NodeId, w: NodeId) -> Option<NodeId> {
    let ty = graph[x].ty.clone();
    let [rows, columns] = graph[w].ty.dims.as_slice() else { return None };
    let (inner, outer) = if transposed { (*columns, *rows) } else { (*rows, *columns) };
    let one = Dim::Fixed(1);
    let (&_, rest) = ty.dims.split_last()?;
    if outer == one {
        // A dot product of each row with the one column.
        let column = graph.add(Op::Reshape(Reshape { dims: vec![inner] }), &[w]);
        let column = graph.broadcast(column, ty.space, &ty.dims);
        let products = graph.map(ScalarOp::Mul, &[x, column]);
        let sum = graph.add(Op::Reduce(Reduce { combine: Combine::Add, axes: vec![ty.dims.len() - 1] }), &[products]);
        let dims = rest.iter().copied().chain([one]).collect();
        return Some(graph.add(Op::Reshape(Reshape { dims }), &[sum]));
    }
    if inner == one {
        // Each row scaled by its one element.
        let dims: Vec<Dim> = rest.iter().copied().chain([outer]).collect();
        let scalar = graph.add(Op::Reshape(Reshape { dims: rest.to_vec() }), &[x]);
        let axes = (0..rest.len()).collect();
        let scalar = graph.add(Op::Broadcast(Broadcast { space: ty.space, dims: dims.clone(), axes }), &[scalar]);
        let row = graph.add(Op::Reshape(Reshape { dims: vec![outer] }), &[w]);
        let row = graph.broadcast(row, ty.space, &dims);
        return Some(graph.map(ScalarOp::Mul, &[scalar, row]));
    }
    None
}

fn thin_contract(graph: &mut Graph, a: NodeId, b: NodeId) -> Option<NodeId> {
    let (left, right) = (graph[a].ty.clone(), graph[b].ty.clone());
    let (m, n) = (*left.dims.last()?, *right.dims.last()?);
    let one = Dim::Fixed(1);
    let (wide, thin, ty) = if n == one {
        (a, b, left)
    } else if m == one {
        (b, a, right)
    } else {
        return None;
    };
    let rest = &ty.dims[..ty.dims.len() - 1];
    let scalar = graph.add(Op::Reshape(Reshape { dims: rest.to_vec() }), &[thin]);
    let axes = (0..rest.len()).collect();
    let scalar = graph.add(Op::Broadcast(Broadcast { space: ty.space, dims: ty.dims.clone(), axes }), &[scalar]);
    let mut products = graph.map(ScalarOp::Mul, &[wide, scalar]);
    if !rest.is_empty() {
        products = graph.add(Op::Reduce(Reduce { combine: Combine::Add, axes: (0..rest.len()).collect() }), &[products]);
    }
    let sum = graph.add(Op::BatchSum(BatchSum), &[products]);
    Some(graph.add(Op::Reshape(Reshape { dims: vec![m, n] }), &[sum]))
}
