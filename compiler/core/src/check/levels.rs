//! `predict rating = ordinal(z, levels: 5)`: a label of whole numbers whose order counts, and not the steps between them.
//!
//! The model of McCullagh (1980), "Regression models for ordinal data": the label is above level k with the probability sigmoid(z - t_k),
//! where the thresholds t_1 < … < t_{K-1} are learned. With t_k - t_{k-1} = softplus(d_k) the likelihood of level k,
//! sigmoid(z - t_{k-1}) - sigmoid(z - t_k), is sigmoid(z - t_{k-1}) · sigmoid(t_k - z) · sigmoid(d_k), whose logarithm never loses digits.

use super::Checker;
use super::feature::Kind;
use super::statements::Head;
use super::value::Tensor;
use crate::graph::{NodeId, Space};
use crate::ops::{Op, Reshape, Slice};
use crate::problem::{Problem, suggest};
use crate::scalar::ScalarOp;
use recc_abi::{Domain, Link};
use recc_syntax::ast::{Argument, Name, Span};

/// Most levels of a label.
const MOST_LEVELS: i64 = 100;

/// A threshold, and what its distance from the one before is the softplus of.
struct Threshold {
    at: NodeId,
    distance: Option<NodeId>,
}

impl Checker<'_> {
    /// What `ordinal` is given, and how many levels.
    pub(super) fn levels<'a>(&mut self, args: &'a [Argument], span: Span) -> Option<(&'a Argument, u32)> {
        let [first, Argument { name: Some(name), value }] = args else {
            let problem = Problem::error("E0209", span, "`ordinal` takes one value and the number of levels");
            self.report(problem.help("such as `ordinal(z, levels: 5)` for a label of 1 to 5"));
            return None;
        };
        if name.text != "levels" {
            let problem = Problem::error("E0210", name.span, format!("`ordinal` has no argument `{}`", name.text));
            self.report(problem.help(suggest(&name.text, ["levels"])));
            return None;
        }
        Some((first, self.whole(value, "levels", 2, MOST_LEVELS)? as u32))
    }

    pub(super) fn predict_levels(&mut self, name: &Name, label: usize, levels: u32, z: Tensor, callee: Span) {
        let feature = &self.features[label];
        if !feature.steps.is_empty() {
            let problem = Problem::error("E0505", callee, format!("`{}` has transforms, and levels are whole numbers", name.text));
            let problem = problem.and(feature.span, "the label");
            return self
                .report(problem.help(format!("a label of levels is read as the data write it, as whole numbers from 1 to {levels}")));
        }
        if matches!(feature.kind, Kind::Label { binary: true }) {
            let problem = Problem::error("E0505", callee, format!("`{}` is binary, and levels are whole numbers from 1", name.text));
            let problem = problem.and(feature.span, "the label");
            return self.report(problem.help("predict it with `logit(…)`, or declare the label `: number`"));
        }
        let column = feature.columns[0];
        self.columns[column as usize].domain = Some(Domain::Levels(levels));
        if self.in_ensemble {
            return self.not_yet(callee, "ensembles of predictions by `ordinal`");
        }
        self.origin();
        let z = self.one_number(z.node);
        let (Some(target), Some(thresholds)) = (self.label(label), self.thresholds(levels)) else { return };
        let above: Vec<NodeId> = thresholds.iter().map(|threshold| self.graph.map(ScalarOp::Sub, &[z, threshold.at])).collect();
        let loss = self.levels_loss(&thresholds, &above, target);
        let mean = self.mean_level(&above);
        self.push_prediction(name, label, Link::Ordinal { levels }, Some(Head::Loss(loss)));
        self.prediction_results(mean, mean);
    }

    /// The thresholds, for each example. Where z is 0 all levels are alike likely at first.
    fn thresholds(&mut self, levels: u32) -> Option<Vec<Threshold>> {
        let learned = self.own_parameter("thresholds", &[u64::from(levels) - 1])?;
        let mut found: Vec<Threshold> = Vec::new();
        for level in 1..levels {
            let part = self.graph.add(Op::Slice(Slice { axis: 0, start: u64::from(level) - 1, len: 1 }), &[learned]);
            let part = self.graph.add(Op::Reshape(Reshape { dims: vec![] }), &[part]);
            let part = self.graph.broadcast(part, Space::Example, &[]);
            let first = |level: u32| (f64::from(level) / f64::from(levels - level)).ln();
            found.push(match found.last().map(|before| before.at) {
                None => Threshold { at: self.plus(part, first(level)), distance: None },
                Some(before) => {
                    let distance = first(level) - first(level - 1);
                    let learned = self.plus(part, distance.exp_m1().ln());
                    let distance = self.graph.map(ScalarOp::Softplus, &[learned]);
                    Threshold { at: self.graph.sum(before, distance), distance: Some(learned) }
                }
            });
        }
        Some(found)
    }

    fn plus(&mut self, node: NodeId, number: f64) -> NodeId {
        let number = self.graph.constant_like(node, number);
        self.graph.sum(node, number)
    }

    /// -ln of the likelihood of the label's level.
    fn levels_loss(&mut self, thresholds: &[Threshold], above: &[NodeId], label: NodeId) -> NodeId {
        let mut parts = Vec::new();
        for ((level, threshold), &above) in (1u32..).zip(thresholds).zip(above) {
            // The label above the threshold, and at most it.
            let below = self.graph.map(ScalarOp::Neg, &[above]);
            parts.push((self.graph.map(ScalarOp::Softplus, &[below]), f64::from(level) + 1.0));
            parts.push((self.graph.map(ScalarOp::Softplus, &[above]), f64::from(level)));
            if let Some(distance) = threshold.distance {
                let minus = self.graph.map(ScalarOp::Neg, &[distance]);
                parts.push((self.graph.map(ScalarOp::Softplus, &[minus]), f64::from(level)));
            }
        }
        let zero = self.graph.constant_like(label, 0.0);
        parts.into_iter().fold(zero, |sum, (part, level)| {
            let level = self.graph.constant_like(label, level);
            let is_level = self.graph.map(ScalarOp::Eq, &[label, level]);
            let own = self.graph.map(ScalarOp::Select, &[is_level, part, zero]);
            self.graph.sum(sum, own)
        })
    }

    /// The mean of the levels: 1 and the probabilities of being above each threshold.
    fn mean_level(&mut self, above: &[NodeId]) -> NodeId {
        let one = self.graph.constant_like(above[0], 1.0);
        above.iter().fold(one, |sum, &above| {
            let probability = self.graph.map(ScalarOp::Sigmoid, &[above]);
            self.graph.sum(sum, probability)
        })
    }
}
