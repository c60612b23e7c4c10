//! Losses, on the link's own parameters: logits, never clipped probabilities.

use crate::graph::{Graph, NodeId, Space};
use crate::ops::{BatchSum, Constant, Op, Uniform, UniformKind};
use crate::scalar::ScalarOp;

/// The losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossKind {
    /// Binary cross entropy of a logit: softplus(z) - y·z.
    Bce,
    /// Squared error: (z - y)².
    Mse,
}

/// Adds the loss of one prediction, weighted. Gives the mean over the batch, and the seed of the backward pass: the per-example loss and
/// its share of the mean.
pub fn add_loss(graph: &mut Graph, kind: LossKind, link: NodeId, label: NodeId, weight: f64) -> (NodeId, (NodeId, NodeId)) {
    let each = match kind {
        LossKind::Bce => {
            let both = graph.map(ScalarOp::Softplus, &[link]);
            let hit = graph.map(ScalarOp::Mul, &[label, link]);
            graph.map(ScalarOp::Sub, &[both, hit])
        }
        LossKind::Mse => {
            let error = graph.map(ScalarOp::Sub, &[link, label]);
            graph.map(ScalarOp::Mul, &[error, error])
        }
    };
    let rows = graph.add(Op::Uniform(Uniform { kind: UniformKind::BatchRows }), &[]);
    let weight = graph.add(Op::Constant(Constant::new(weight)), &[]);
    let share = graph.map(ScalarOp::Div, &[weight, rows]);
    let share = graph.broadcast(share, Space::Example, &[]);
    let part = graph.map(ScalarOp::Mul, &[each, share]);
    let mean = graph.add(Op::BatchSum(BatchSum), &[part]);
    (mean, (each, share))
}
