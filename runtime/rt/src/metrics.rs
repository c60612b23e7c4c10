//! Metrics, in `f64`, exact: every score is kept.

use crate::failure::Failure;
use recc_abi::{LossKind, Metric, MetricKind, Prediction};

/// Scores and labels of one prediction.
#[derive(Debug, Default, Clone)]
pub(crate) struct Scores {
    /// Logits, values, or of a ranking where the target stands: 0 where nothing comes next.
    pub(crate) links: Vec<f32>,
    /// Labels; of a ranking, if a metric asks, the negative log likelihood of each target, no number where none is known.
    pub(crate) labels: Vec<f32>,
}

fn softplus(z: f64) -> f64 {
    z.max(0.0) + (-z.abs()).exp().ln_1p()
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

impl Scores {
    fn pairs(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.links.iter().zip(&self.labels).map(|(&z, &y)| (f64::from(z), f64::from(y)))
    }

    /// Mean negative log likelihood from logits: softplus(z) - y·z.
    pub(crate) fn logloss(&self) -> f64 {
        self.mean(LossKind::Bce)
    }

    /// The loss the prediction is trained with, unweighted.
    pub(crate) fn loss(&self, prediction: &Prediction) -> f64 {
        if prediction.has_loss() { self.mean(prediction.loss) } else { f64::NAN }
    }

    fn mean(&self, loss: LossKind) -> f64 {
        let each = |(z, y): (f64, f64)| match loss {
            LossKind::Bce => softplus(z) - y * z,
            LossKind::Focal { gamma, alpha } => {
                let s = (2.0 * y - 1.0) * z;
                let weight = alpha.map_or(1.0, |alpha| y * alpha + (1.0 - y) * (1.0 - alpha));
                weight * (-gamma * softplus(s)).exp() * softplus(-s)
            }
            LossKind::Mse => (z - y) * (z - y),
            LossKind::Mae => (z - y).abs(),
            LossKind::Huber { delta } => {
                let size = (z - y).abs();
                let least = size.min(delta);
                least * (size - 0.5 * least)
            }
            LossKind::CrossEntropy | LossKind::Bpr | LossKind::Gbce { .. } | LossKind::Ordinal => f64::NAN,
        };
        self.pairs().map(each).sum::<f64>() / self.links.len() as f64
    }

    /// Log loss over the entropy of the mean label of these rows (He et al. 2014).
    pub(crate) fn ne(&self) -> f64 {
        let mean = self.labels.iter().map(|&y| f64::from(y)).sum::<f64>() / self.labels.len() as f64;
        self.logloss() / -(mean * mean.ln() + (1.0 - mean) * (1.0 - mean).ln())
    }

    /// Root mean squared error of values.
    pub(crate) fn rmse(&self) -> f64 {
        self.mean(LossKind::Mse).sqrt()
    }

    fn calibration(&self) -> f64 {
        let (mut predicted, mut seen) = (0.0, 0.0);
        for (z, y) in self.pairs() {
            predicted += sigmoid(z);
            seen += y;
        }
        predicted / seen
    }

    fn metric(&self, kind: MetricKind, keys: &[u64]) -> f64 {
        match kind {
            MetricKind::Auc => {
                auc(&mut self.links.iter().copied().zip(self.labels.iter().copied()).collect::<Vec<_>>()).unwrap_or(f64::NAN)
            }
            MetricKind::Gauc { .. } => self.gauc(keys),
            MetricKind::Logloss => self.logloss(),
            MetricKind::Ne => self.ne(),
            MetricKind::Calibration => self.calibration(),
            MetricKind::Rmse => self.rmse(),
            MetricKind::Hr { k } => self.mean_of_ranks(|rank| f64::from(u8::from(rank <= f64::from(k)))),
            MetricKind::Ndcg { k } => self.mean_of_ranks(|rank| if rank <= f64::from(k) { 1.0 / (rank + 1.0).log2() } else { 0.0 }),
            MetricKind::Mrr => self.mean_of_ranks(|rank| 1.0 / rank),
            MetricKind::LogPerplexity => {
                let known = self.labels.iter().filter(|loss| !loss.is_nan());
                known.clone().map(|&loss| f64::from(loss)).sum::<f64>() / known.count() as f64
            }
        }
    }

    /// Over the rows that have a target.
    fn mean_of_ranks(&self, of: impl Fn(f64) -> f64) -> f64 {
        let ranks = self.links.iter().filter(|rank| **rank > 0.0);
        ranks.clone().map(|&rank| of(f64::from(rank))).sum::<f64>() / ranks.count() as f64
    }

    /// Mean AUC of the groups that have both labels, weighted by their rows.
    fn gauc(&self, keys: &[u64]) -> f64 {
        let mut order: Vec<u32> = (0..keys.len() as u32).collect();
        order.sort_by_key(|&at| (keys[at as usize], at));
        let (mut total, mut weight) = (0.0, 0.0);
        for group in order.chunk_by(|&a, &b| keys[a as usize] == keys[b as usize]) {
            let mut pairs: Vec<(f32, f32)> = group.iter().map(|&at| (self.links[at as usize], self.labels[at as usize])).collect();
            if let Some(auc) = auc(&mut pairs) {
                total += auc * group.len() as f64;
                weight += group.len() as f64;
            }
        }
        total / weight
    }
}

/// Area under the ROC curve by ranks, equal scores sharing theirs; `None` without both labels.
pub(crate) fn auc(pairs: &mut [(f32, f32)]) -> Option<f64> {
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut ranks, mut positives) = (0.0, 0.0);
    let mut rank = 0.0;
    for tied in pairs.chunk_by(|a, b| a.0 == b.0) {
        let n = tied.len() as f64;
        let hits = tied.iter().filter(|pair| pair.1 > 0.5).count() as f64;
        ranks += hits * (rank + (n + 1.0) / 2.0);
        positives += hits;
        rank += n;
    }
    let negatives = pairs.len() as f64 - positives;
    (positives > 0.0 && negatives > 0.0).then(|| (ranks - positives * (positives + 1.0) / 2.0) / (positives * negatives))
}

/// Figures of one prediction, by metric name, in the spec's order.
pub(crate) type Figures = Vec<(String, f64)>;

/// A prediction that is no finite number is an error of its row.
pub(crate) fn check_finite(scores: &Scores, prediction: &Prediction) -> Result<(), Failure> {
    if let Some(at) = scores.links.iter().position(|z| !z.is_finite()) {
        return Err(Failure::input(format!(
            "row {}: the prediction `{}` is {}\nhelp: a number of that row is far outside the range of the training data",
            at + 1,
            prediction.name,
            scores.links[at]
        )));
    }
    Ok(())
}

/// All metrics of a prediction; those of probabilities are left out for values.
pub(crate) fn measure(scores: &Scores, prediction: &Prediction, metrics: &[Metric], keys: &[(u32, Vec<u64>)]) -> Result<Figures, Failure> {
    check_finite(scores, prediction)?;
    let mut figures = Vec::new();
    for metric in metrics {
        if metric.kind.fits(&prediction.link) {
            let own = match metric.kind {
                MetricKind::Gauc { key } => keys.iter().find(|(column, _)| *column == key).map_or(&[][..], |(_, keys)| keys),
                _ => &[],
            };
            figures.push((metric.name.clone(), scores.metric(metric.kind, own)));
        }
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::{Scores, auc};

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn ne_and_logloss_match_known_values() {
        let logit = |p: f64| (p / (1.0 - p)).ln() as f32;
        let scores = Scores { links: [0.8, 0.3, 0.1, 0.6].map(logit).to_vec(), labels: vec![1.0, 0.0, 0.0, 1.0] };
        assert!((scores.logloss() - 0.299_001_158_7).abs() < 1e-7);
        assert!((scores.ne() - 0.431_367_488_8).abs() < 1e-7);
    }

    #[test]
    fn equal_scores_count_half() {
        assert_eq!(auc(&mut [(1.0, 1.0), (1.0, 0.0)]), Some(0.5));
        assert_eq!(auc(&mut [(2.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.0, 0.0)]), Some(0.875));
        assert_eq!(auc(&mut [(2.0, 1.0)]), None);
        assert_eq!(auc(&mut []), None);
    }

    #[test]
    fn gauc_weighs_groups_with_both_labels() {
        let scores = Scores { links: vec![2.0, 1.0, 0.0, 1.0, 5.0], labels: vec![1.0, 0.0, 1.0, 0.0, 1.0] };
        assert!(close(scores.gauc(&[7, 7, 8, 8, 9]), 0.5));
    }
}
