//! Matrix product of the last axis with a weight: `[.., K] @ [K, N]`, or with its transpose `[.., K] @ [N, K]`.

use super::{Contract, GradientCx, Op, OpDef, two};
use crate::graph::reference::{Item, ReferenceCx, Tensor};
use crate::graph::{DType, Dim, NodeId, Space, TensorType};
use crate::loops::Reg;
use crate::plan::emit::{At, Emitter};

/// Multiplies by a weight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MatMul {
    /// Whether the weight is `[N, K]`.
    pub transposed: bool,
}

impl OpDef for MatMul {
    const NAME: &'static str = "matmul";

    fn attributes(&self) -> String {
        if self.transposed { "transposed".to_owned() } else { String::new() }
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let [x, w] = two(Self::NAME, inputs)?;
        let (Some((k, rest)), [w0, w1]) = (x.dims.split_last(), w.dims.as_slice()) else {
            return Err(format!("{x} @ {w}"));
        };
        let (inner, outer) = if self.transposed { (w1, w0) } else { (w0, w1) };
        if k != inner
            || w.space != Space::Global
            || x.space != Space::Example
            || rest.iter().skip(1).any(|dim| dim.fixed().is_none())
            || k.fixed().is_none()
            || x.dtype != DType::F32
            || w.dtype != DType::F32
        {
            return Err(format!("{x} @ {w}"));
        }
        let dims: Vec<Dim> = rest.iter().copied().chain([*outer]).collect();
        Ok(TensorType::f32(x.space, &dims))
    }

    fn gradient(&self, cx: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        let (x, w, g) = (cx.operands[0], cx.operands[1], cx.gradient);
        let dx = cx.graph.add(Op::MatMul(MatMul { transposed: !self.transposed }), &[g, w]);
        let pair = if self.transposed { [g, x] } else { [x, g] };
        let dw = cx.graph.add(Op::Contract(Contract), &pair);
        vec![Some(dx), Some(dw)]
    }

    fn reference(&self, _: &ReferenceCx<'_>, inputs: &[&Tensor]) -> Tensor {
        let w = &inputs[1].items[0];
        let items = inputs[0].items.iter().map(|x| {
            let k = x.dims[x.dims.len() - 1];
            let n = if self.transposed { w.dims[0] } else { w.dims[1] };
            let rows = x.dims[..x.dims.len() - 1].iter().product::<usize>();
            let mut out = Item::filled(&[&x.dims[..x.dims.len() - 1], &[n]].concat(), 0.0);
            for row in 0..rows {
                for column in 0..n {
                    let dot =
                        (0..k).map(|i| x.data[row * k + i] * if self.transposed { w.data[column * k + i] } else { w.data[i * n + column] });
                    out.data[row * n + column] = dot.sum();
                }
            }
            out
        });
        Tensor { items: items.collect() }
    }

    fn element(&self, cx: &mut Emitter<'_>, node: NodeId, _: &At) -> Reg {
        cx.unstored(node)
    }
}
