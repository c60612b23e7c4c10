//! A number known at compile time.

use super::{GradientCx, OpDef, none};
use crate::graph::reference::{ReferenceCx, Tensor};
use crate::graph::{NodeId, Space, TensorType};
use crate::loops::{Instr, Reg, Type};
use crate::plan::emit::{At, Emitter};

/// A number. Compared by its bits, so that equal constants are one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Constant {
    bits: u64,
}

impl Constant {
    /// The constant of a value.
    pub fn new(value: f64) -> Self {
        // One zero: -0 and 0 would be two constants that no spec can tell apart.
        Constant { bits: (value + 0.0).to_bits() }
    }
    /// Its value.
    pub fn value(&self) -> f64 {
        f64::from_bits(self.bits)
    }
}

impl OpDef for Constant {
    const NAME: &'static str = "constant";

    fn attributes(&self) -> String {
        format!("{:?}", self.value())
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        none(Self::NAME, inputs)?;
        Ok(TensorType::f32(Space::Global, &[]))
    }

    fn gradient(&self, _: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        Vec::new()
    }

    fn reference(&self, cx: &ReferenceCx<'_>, _: &[&Tensor]) -> Tensor {
        cx.each_item(|_, _| vec![self.value()])
    }

    fn element(&self, cx: &mut Emitter<'_>, _: NodeId, _: &At) -> Reg {
        cx.define(Type::F32, Instr::Const(self.value()))
    }
}
