//! The weight gradient: the sum over items and leading axes of the outer products of last axes, `[.., M], [.., N] -> [M, N]`.

use super::{GradientCx, MatMul, Op, OpDef, two};
use crate::graph::reference::{Item, ReferenceCx, Tensor};
use crate::graph::{DType, NodeId, Space, TensorType};
use crate::loops::Reg;
use crate::plan::emit::{At, Emitter};

/// Sums outer products.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Contract;

impl OpDef for Contract {
    const NAME: &'static str = "contract";

    fn attributes(&self) -> String {
        String::new()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let [a, b] = two(Self::NAME, inputs)?;
        let (Some((m, left)), Some((n, right))) = (a.dims.split_last(), b.dims.split_last()) else {
            return Err(format!("outer products of {a} and {b}"));
        };
        if left != right
            || a.space != Space::Example
            || b.space != Space::Example
            || left.iter().skip(1).any(|dim| dim.fixed().is_none())
            || m.fixed().is_none()
            || n.fixed().is_none()
            || a.dtype != DType::F32
            || b.dtype != DType::F32
        {
            return Err(format!("outer products of {a} and {b}"));
        }
        Ok(TensorType::f32(Space::Global, &[*m, *n]))
    }

    fn gradient(&self, cx: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        let (a, b, g) = (cx.operands[0], cx.operands[1], cx.gradient);
        let da = cx.graph.add(Op::MatMul(MatMul { transposed: true }), &[b, g]);
        let db = cx.graph.add(Op::MatMul(MatMul { transposed: false }), &[a, g]);
        vec![Some(da), Some(db)]
    }

    fn reference(&self, cx: &ReferenceCx<'_>, inputs: &[&Tensor]) -> Tensor {
        let dims = cx.dims(0);
        let (m, n) = (dims[0], dims[1]);
        let mut out = Item::filled(&dims, 0.0);
        for (a, b) in inputs[0].items.iter().zip(&inputs[1].items) {
            for row in 0..a.data.len() / m.max(1) {
                for i in 0..m {
                    for j in 0..n {
                        out.data[i * n + j] += a.data[row * m + i] * b.data[row * n + j];
                    }
                }
            }
        }
        Tensor { items: vec![out] }
    }

    fn element(&self, cx: &mut Emitter<'_>, node: NodeId, _: &At) -> Reg {
        cx.unstored(node)
    }
}
