//! Losses, on the link's own parameters: logits, never clipped probabilities.

use crate::graph::{Graph, NodeId, Space};
use crate::loops::Combine;
use crate::ops::{BatchSum, Broadcast, Constant, Hold, Op, Reduce, Uniform, UniformKind};
use crate::scalar::ScalarOp;
use crate::spec::{OtherLogits, StepLogits};
use recc_abi::LossKind;

/// The loss of each example.
pub fn loss_of(graph: &mut Graph, kind: LossKind, link: NodeId, label: NodeId) -> NodeId {
    match kind {
        LossKind::Bce => bce(graph, link, label),
        LossKind::Focal { gamma, alpha } => focal(graph, link, label, gamma, alpha),
        LossKind::Mse => {
            let error = graph.map(ScalarOp::Sub, &[link, label]);
            graph.map(ScalarOp::Mul, &[error, error])
        }
        LossKind::Mae => {
            let error = graph.map(ScalarOp::Sub, &[link, label]);
            graph.map(ScalarOp::Abs, &[error])
        }
        LossKind::Huber { delta } => huber(graph, link, label, delta),
        LossKind::CrossEntropy | LossKind::Bpr | LossKind::Gbce { .. } | LossKind::Ordinal => {
            unreachable!("{kind:?} is no loss of one link")
        }
    }
}

/// The loss of each example, summed over its steps, and how many of them have a target.
pub fn loss_of_steps(graph: &mut Graph, kind: LossKind, logits: StepLogits) -> (NodeId, NodeId) {
    let StepLogits { hit, others, table, has_target, log_shares } = logits;
    let each = match (kind, others) {
        (LossKind::CrossEntropy, OtherLogits::All(log_sum)) => graph.map(ScalarOp::Sub, &[log_sum, hit]),
        (LossKind::CrossEntropy, OtherLogits::Drawn(missed)) => match log_shares {
            None => cross_entropy(graph, hit, missed),
            Some(shares) => {
                // Less the log of how often each is expected among those drawn, so that they stand for all other rows.
                let dims = graph[missed].ty.dims.clone();
                let axes = vec![dims.len() - 1];
                let shares = graph.add(Op::Broadcast(Broadcast { space: Space::Example, dims, axes }), &[shares]);
                let count = graph.constant_like(missed, drawn_count(graph, missed).ln());
                let expected = graph.sum(shares, count);
                let missed = graph.map(ScalarOp::Sub, &[missed, expected]);
                cross_entropy(graph, hit, missed)
            }
        },
        (LossKind::Bce, OtherLogits::Drawn(missed)) => {
            let (own, others) = (loss_of_hit(graph, hit), loss_of_missed(graph, missed));
            graph.sum(own, others)
        }
        (LossKind::Gbce { calibration }, OtherLogits::Drawn(missed)) => {
            let own = loss_of_hit(graph, hit);
            let count = drawn_count(graph, missed);
            // beta / (k + 1), from the share of the rows that are drawn.
            let rows = graph.add(Op::Uniform(Uniform { kind: UniformKind::OtherRows(table) }), &[]);
            let slope = graph.constant_like(rows, calibration * count / (count + 1.0));
            let drawn = graph.map(ScalarOp::Div, &[slope, rows]);
            let rest = graph.constant_like(rows, (1.0 - calibration) / (count + 1.0));
            let weight = graph.sum(drawn, rest);
            let ty = graph[own].ty.clone();
            let weight = graph.broadcast(weight, ty.space, &ty.dims);
            let own = graph.map(ScalarOp::Mul, &[own, weight]);
            let others = loss_of_missed(graph, missed);
            let share = graph.constant_like(others, 1.0 / (count + 1.0));
            let others = graph.map(ScalarOp::Mul, &[others, share]);
            graph.sum(own, others)
        }
        (LossKind::Bpr, OtherLogits::Drawn(missed)) => {
            let wide = beside(graph, hit, missed);
            let above = graph.map(ScalarOp::Sub, &[missed, wide]);
            let each = graph.map(ScalarOp::Softplus, &[above]);
            let sum = over_last(graph, Combine::Add, each);
            let share = graph.constant_like(sum, 1.0 / drawn_count(graph, missed));
            graph.map(ScalarOp::Mul, &[sum, share])
        }
        _ => unreachable!("{kind:?} is no loss of steps"),
    };
    let each = graph.map(ScalarOp::Mul, &[each, has_target]);
    if graph[each].ty.dims.is_empty() {
        return (each, has_target);
    }
    (over_last(graph, Combine::Add, each), over_last(graph, Combine::Add, has_target))
}

/// -ln(sigmoid(s)) of the target's logit.
fn loss_of_hit(graph: &mut Graph, hit: NodeId) -> NodeId {
    let minus = graph.map(ScalarOp::Neg, &[hit]);
    graph.map(ScalarOp::Softplus, &[minus])
}

/// -ln(1 - sigmoid(s)) of the drawn rows' logits, summed.
fn loss_of_missed(graph: &mut Graph, missed: NodeId) -> NodeId {
    let each = graph.map(ScalarOp::Softplus, &[missed]);
    over_last(graph, Combine::Add, each)
}

/// Rows drawn for each target.
fn drawn_count(graph: &Graph, missed: NodeId) -> f64 {
    graph[missed].ty.dims.last().and_then(|dim| dim.fixed()).unwrap_or(1) as f64
}

/// A value brought together along its last axis.
fn over_last(graph: &mut Graph, combine: Combine, value: NodeId) -> NodeId {
    let last = graph[value].ty.dims.len() - 1;
    graph.add(Op::Reduce(Reduce { combine, axes: vec![last] }), &[value])
}

/// A number for each target beside each of the drawn rows' numbers.
fn beside(graph: &mut Graph, number: NodeId, missed: NodeId) -> NodeId {
    let dims = graph[missed].ty.dims.clone();
    let axes = (0..dims.len() - 1).collect();
    graph.add(Op::Broadcast(Broadcast { space: Space::Example, dims, axes }), &[number])
}

/// The log of the sum of all exponentials, less the target's logit. The largest is taken off before, so that nothing overflows; no gradient
/// goes through it.
fn cross_entropy(graph: &mut Graph, hit: NodeId, missed: NodeId) -> NodeId {
    let largest = over_last(graph, Combine::Max, missed);
    let largest = graph.map(ScalarOp::Max, &[largest, hit]);
    let largest = graph.add(Op::Hold(Hold), &[largest]);
    let own = graph.map(ScalarOp::Sub, &[hit, largest]);
    let own_power = graph.map(ScalarOp::Exp, &[own]);
    let each = beside(graph, largest, missed);
    let below = graph.map(ScalarOp::Sub, &[missed, each]);
    let powers = graph.map(ScalarOp::Exp, &[below]);
    let sum = over_last(graph, Combine::Add, powers);
    let total = graph.sum(own_power, sum);
    let log = graph.map(ScalarOp::Log, &[total]);
    graph.map(ScalarOp::Sub, &[log, own])
}

/// Where an example's loss is a sum over parts: how many it has, and all of the batch.
pub struct Parts {
    /// For each example.
    pub each: NodeId,
    /// Of the batch, 1 at least.
    pub all: NodeId,
}

/// Adds a loss, weighted. Gives the mean over the batch, and the seed of the backward pass: the loss of each example and its share of the
/// mean. With `row_weight` the mean is over that weight, and where an example's loss is a sum over parts, over those; where all
/// are 0 it is 0.
pub fn add_loss(
    graph: &mut Graph,
    each: NodeId,
    weight: f64,
    row_weight: Option<NodeId>,
    parts: Option<Parts>,
) -> (NodeId, (NodeId, NodeId)) {
    let counted = match (row_weight, &parts) {
        (Some(weight), Some(parts)) => Some(graph.map(ScalarOp::Mul, &[weight, parts.each])),
        (weight, _) => weight,
    };
    let total = match counted {
        // Known before the step, so that one walk over the examples is enough.
        None if parts.is_some() => parts.map_or(each, |parts| parts.all),
        None => graph.add(Op::Uniform(Uniform { kind: UniformKind::BatchRows }), &[]),
        Some(each) => {
            let sum = graph.add(Op::BatchSum(BatchSum), &[each]);
            let least = graph.constant_like(sum, 1e-20);
            graph.map(ScalarOp::Max, &[sum, least])
        }
    };
    let weight = graph.add(Op::Constant(Constant::new(weight)), &[]);
    let share = graph.map(ScalarOp::Div, &[weight, total]);
    let share = graph.broadcast(share, Space::Example, &[]);
    let share = row_weight.map_or(share, |each| graph.map(ScalarOp::Mul, &[share, each]));
    let part = graph.map(ScalarOp::Mul, &[each, share]);
    let mean = graph.add(Op::BatchSum(BatchSum), &[part]);
    (mean, (each, share))
}

/// softplus(z) - y z
fn bce(graph: &mut Graph, link: NodeId, label: NodeId) -> NodeId {
    let both = graph.map(ScalarOp::Softplus, &[link]);
    let hit = graph.map(ScalarOp::Mul, &[label, link]);
    graph.map(ScalarOp::Sub, &[both, hit])
}

/// With s = (2y - 1) z the probability of the label's side is sigmoid(s): its loss is softplus(-s), and ln(1 - p) is -softplus(s).
fn focal(graph: &mut Graph, link: NodeId, label: NodeId, gamma: f64, alpha: Option<f64>) -> NodeId {
    let scaled = |graph: &mut Graph, node: NodeId, factor: f64| {
        let factor = graph.constant_like(node, factor);
        graph.map(ScalarOp::Mul, &[node, factor])
    };
    let shifted = |graph: &mut Graph, node: NodeId, by: f64| {
        let by = graph.constant_like(node, by);
        graph.map(ScalarOp::Add, &[node, by])
    };
    let twice = scaled(graph, label, 2.0);
    let sign = shifted(graph, twice, -1.0);
    let s = graph.map(ScalarOp::Mul, &[sign, link]);
    let known = graph.map(ScalarOp::Softplus, &[s]);
    let known = scaled(graph, known, -gamma);
    let factor = graph.map(ScalarOp::Exp, &[known]);
    let minus = graph.map(ScalarOp::Neg, &[s]);
    let loss = graph.map(ScalarOp::Softplus, &[minus]);
    let loss = graph.map(ScalarOp::Mul, &[factor, loss]);
    let Some(alpha) = alpha else { return loss };
    let more = scaled(graph, label, 2.0 * alpha - 1.0);
    let weight = shifted(graph, more, 1.0 - alpha);
    graph.map(ScalarOp::Mul, &[weight, loss])
}

/// m (|e| - m / 2) with m the lesser of |e| and delta.
fn huber(graph: &mut Graph, link: NodeId, label: NodeId, delta: f64) -> NodeId {
    let error = graph.map(ScalarOp::Sub, &[link, label]);
    let size = graph.map(ScalarOp::Abs, &[error]);
    let delta = graph.constant_like(size, delta);
    let least = graph.map(ScalarOp::Min, &[size, delta]);
    let half = graph.constant_like(size, 0.5);
    let half = graph.map(ScalarOp::Mul, &[half, least]);
    let rest = graph.map(ScalarOp::Sub, &[size, half]);
    graph.map(ScalarOp::Mul, &[least, rest])
}
