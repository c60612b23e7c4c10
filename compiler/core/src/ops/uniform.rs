//! A number the runtime gives each step.

use super::{GradientCx, OpDef, none};
use crate::graph::reference::{ReferenceCx, Tensor};
use crate::graph::{NodeId, Space, TableId, TensorType};
use crate::loops::Reg;
use crate::plan::emit::{At, Emitter};
use recc_abi::InputSource;

/// Which number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UniformKind {
    /// Examples in the batch.
    BatchRows,
    /// Steps of a sequence in the batch whose next one is a known value, or ids that are one, 1 at least: by the position in the program's columns.
    TargetCount(u32),
    /// The rows of a table that a softmax ranks, less one.
    OtherRows(TableId),
    /// The schedule's factor of every learning rate.
    RateScale,
    /// `1 / (1 - beta^step)`, by the bits of beta.
    BiasCorrection(u64),
}

/// A number of the step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Uniform {
    /// Which.
    pub kind: UniformKind,
}

impl OpDef for Uniform {
    const NAME: &'static str = "uniform";

    fn attributes(&self) -> String {
        match self.kind {
            UniformKind::BatchRows => "batch rows".to_owned(),
            UniformKind::TargetCount(column) => format!("targets of column {column}"),
            UniformKind::OtherRows(table) => format!("rows of table {} beside a target", table.0),
            UniformKind::RateScale => "rate scale".to_owned(),
            UniformKind::BiasCorrection(beta) => format!("1 / (1 - {}^step)", f64::from_bits(beta)),
        }
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        none(Self::NAME, inputs)?;
        Ok(TensorType::f32(Space::Global, &[]))
    }

    fn gradient(&self, _: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        Vec::new()
    }

    fn reference(&self, cx: &ReferenceCx<'_>, _: &[&Tensor]) -> Tensor {
        cx.each_item(|_, _| vec![cx.data.uniform(&self.kind)])
    }

    fn element(&self, cx: &mut Emitter<'_>, node: NodeId, at: &At) -> Reg {
        let source = match self.kind {
            UniformKind::BatchRows => InputSource::BatchRows,
            UniformKind::TargetCount(column) => InputSource::TargetCount { column },
            UniformKind::OtherRows(table) => InputSource::OtherRows { table: table.0 },
            UniformKind::RateScale => InputSource::RateScale,
            UniformKind::BiasCorrection(beta) => InputSource::BiasCorrection { beta: f64::from_bits(beta) },
        };
        cx.load_global(source, 1, node, at, 0)
    }
}
