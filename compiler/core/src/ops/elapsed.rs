//! Differences of whole numbers: `a - b`, elementwise. Of times these are seconds, of which none is lost to rounding; of ids they are 0 where both are the same.

use super::{GradientCx, OpDef, two};
use crate::graph::reference::{Item, ReferenceCx, Tensor};
use crate::graph::{DType, NodeId, TensorType};
use crate::loops::{Instr, Reg, Type};
use crate::plan::emit::{At, Emitter};

/// Subtracts whole numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Elapsed;

impl OpDef for Elapsed {
    const NAME: &'static str = "elapsed";

    fn attributes(&self) -> String {
        String::new()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let [a, b] = two(Self::NAME, inputs)?;
        if a != b || a.dtype != DType::I32 {
            return Err(format!("the time from {b} to {a}"));
        }
        Ok(a.with_dtype(DType::F32))
    }

    fn gradient(&self, _: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        vec![None, None]
    }

    fn reference(&self, _: &ReferenceCx<'_>, inputs: &[&Tensor]) -> Tensor {
        let items = inputs[0].items.iter().zip(&inputs[1].items).map(|(a, b)| {
            // Rounded once, as the difference is.
            let data = a.data.iter().zip(&b.data).map(|(a, b)| f64::from((a - b) as f32)).collect();
            Item { dims: a.dims.clone(), data }
        });
        Tensor { items: items.collect() }
    }

    fn element(&self, cx: &mut Emitter<'_>, node: NodeId, at: &At) -> Reg {
        let [a, b] = [0, 1].map(|slot| {
            let operand = cx.operand(node, slot);
            cx.value(operand, at)
        });
        cx.define(Type::F32, Instr::CountBetween(a, b))
    }
}
