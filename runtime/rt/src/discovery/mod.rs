//! `cohorts`: parts of the rows, along each feature, that a trained state predicts most differently (C2AL, arXiv 2510.02215, section 3.1).

mod axes;
mod page;
mod text;

use crate::batch::Layout;
use crate::checkpoint::Generation;
use crate::cohort::Condition;
use crate::engine::Loaded;
use crate::failure::Failure;
use crate::json::number;
use crate::metrics::{Scores, check_finite};
use crate::score::{Beside, Scoring, score, to_score};
use crate::spool::Spool;
use axes::{Axis, axes};
use recc_abi::{Link, Prediction, Program};
use serde_json::{Value, json};

pub(crate) use page::page;
pub(crate) use text::{lines_to_paste, text};

/// Bins of a distribution of predictions.
const BINS: usize = 100;

/// What is looked for.
pub(crate) struct Search<'s> {
    /// The prediction, if not the first.
    pub(crate) prediction: Option<&'s str>,
    /// The least share of the rows that a cohort has.
    pub(crate) least_share: f64,
    /// How many pairs are given.
    pub(crate) top: usize,
}

/// A part of the rows.
#[derive(Clone, Debug)]
pub(crate) struct Cohort {
    /// A name for the spec.
    name: String,
    /// What its rows have in common, as a spec says it.
    condition: String,
    figures: Figures,
}

/// What is measured of some rows.
#[derive(Clone, Debug)]
struct Figures {
    rows: usize,
    /// Mean label.
    base_rate: f64,
    /// Mean prediction.
    prediction: f64,
    /// Normalised entropy of a probability, root mean squared error of a value.
    error: f64,
    /// Rows by their prediction.
    bins: Vec<usize>,
}

/// Two cohorts along a feature.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    feature: String,
    cohorts: [Cohort; 2],
    /// Jensen-Shannon divergence of the distributions of predictions, in bits.
    divergence: f64,
    /// What it would be on average if the cohorts had one distribution.
    by_chance: f64,
}

/// What was found.
pub(crate) struct Discovery {
    prediction: String,
    /// `ne` or `rmse`.
    error_name: &'static str,
    /// The least and the largest prediction that the bins are between.
    range: (f64, f64),
    whole: Figures,
    /// For each feature the pair that differs most, the largest difference first.
    pairs: Vec<Pair>,
    /// Features with fewer than two cohorts that are large enough and have both labels.
    without: Vec<String>,
}

/// Rows, scores and conditions of one prediction.
struct Measuring<'m> {
    scores: &'m Scores,
    values: &'m [f32],
    is_logit: bool,
    range: (f64, f64),
}

/// Scores files and looks for pairs of cohorts.
pub(crate) fn discover(
    loaded: Loaded<'_>,
    generation: &Generation,
    data: &[String],
    limit: Option<u64>,
    search: &Search<'_>,
    pool: &rayon::ThreadPool,
) -> Result<Discovery, Failure> {
    let program = loaded.program;
    let (at, prediction) = searched(program, search.prediction)?;
    let Scoring { model, stored, spool, .. } = to_score(program, generation, data, limit, (Beside::Labels, &mut Vec::new()), pool)?;
    let scored = score(loaded, &model, stored, &spool, pool)?;
    check_finite(&scored.scores[at], prediction)?;
    let is_logit = prediction.link == Link::Logit;
    let values = &scored.predictions[at];
    let bounds = values.iter().fold((f64::MAX, f64::MIN), |(least, most), &x| (least.min(f64::from(x)), most.max(f64::from(x))));
    let range = if is_logit { (0.0, 1.0) } else { bounds };
    let measuring = Measuring { scores: &scored.scores[at], values, is_logit, range };
    // The rows that the prediction's loss is of.
    let rows = scored.rows_of(prediction);
    let fitted = model.fitted.settled();
    let layout = model.layout(&fitted);
    let mut discovery = Discovery {
        prediction: prediction.name.clone(),
        error_name: if is_logit { "ne" } else { "rmse" },
        range,
        whole: measuring.figures(&rows),
        pairs: Vec::new(),
        without: Vec::new(),
    };
    let least = ((rows.len() as f64 * search.least_share).ceil() as usize).max(2);
    for axis in axes(program, &layout, &spool, &rows, least)? {
        let members = members(&axis, &layout, &spool, &rows)?;
        let large = axis.cohorts.iter().zip(members).filter(|(_, rows)| rows.len() >= least);
        let cohort = |(own, rows): (&axes::Candidate, Vec<usize>)| Cohort {
            name: own.name.clone(),
            condition: own.condition.clone(),
            figures: measuring.figures(&rows),
        };
        // A cohort of one label has nothing to learn.
        let learns = |own: &Cohort| !is_logit || own.figures.base_rate > 0.0 && own.figures.base_rate < 1.0;
        let cohorts: Vec<Cohort> = large.map(cohort).filter(learns).collect();
        match farthest(&axis.feature, &cohorts) {
            Some(pair) => discovery.pairs.push(pair),
            None => discovery.without.push(axis.feature),
        }
    }
    let excess = |pair: &Pair| pair.divergence - pair.by_chance;
    discovery.pairs.sort_by(|a, b| excess(b).total_cmp(&excess(a)).then_with(|| a.feature.cmp(&b.feature)));
    discovery.pairs.truncate(search.top);
    Ok(discovery)
}

/// The prediction that is looked at, and its place.
fn searched<'p>(program: &'p Program, wanted: Option<&str>) -> Result<(usize, &'p Prediction), Failure> {
    let known: Vec<(usize, &Prediction)> = program.predictions.iter().enumerate().filter(|(_, own)| own.scores_rows()).collect();
    let names = known.iter().map(|(_, own)| own.name.as_str()).collect::<Vec<_>>().join(", ");
    match wanted {
        Some(name) => known.iter().copied().find(|(_, own)| own.name == name).ok_or_else(|| {
            Failure::usage(format!(
                "--prediction {name}: this model has no such prediction with a value for each row\nhelp: it has {names}"
            ))
        }),
        None => known.first().copied().ok_or_else(|| {
            Failure::usage(
                "this model ranks, and predicts no value for a row\nhelp: cohorts are found by a prediction such as `logit` or `value`",
            )
        }),
    }
}

/// The rows of each cohort of a feature, of those that are measured.
fn members(axis: &Axis, layout: &Layout<'_>, spool: &Spool, rows: &[usize]) -> Result<Vec<Vec<usize>>, Failure> {
    let bind = |own: &axes::Candidate| Condition::new(&own.predicate, &own.name, layout.columns, layout.words, layout.fitted);
    let conditions: Vec<Condition> = axis.cohorts.iter().map(bind).collect::<Result<_, _>>()?;
    let mut found = vec![Vec::new(); conditions.len()];
    visit(layout, spool, rows, |row, record, bags| {
        for (condition, own) in conditions.iter().zip(&mut found) {
            if condition.holds(record, bags, layout.fitted) {
                own.push(row);
            }
        }
    })?;
    Ok(found)
}

/// Calls with some rows, in order: the number of each, its record, and the entries that records point to.
fn visit(layout: &Layout<'_>, spool: &Spool, rows: &[usize], mut each: impl FnMut(usize, &[u32], &[u32])) -> Result<(), Failure> {
    let (mut next, mut wanted) = (0, rows.iter().copied().peekable());
    spool.epoch(0, 0, false, 1, &mut |window, order| {
        for &at in order {
            let record = &window.records[at as usize * layout.width..(at as usize + 1) * layout.width];
            if let Some(row) = wanted.next_if_eq(&next) {
                each(row, record, &window.bags);
            }
            next += 1;
        }
        Ok(())
    })
}

impl Measuring<'_> {
    fn figures(&self, rows: &[usize]) -> Figures {
        let pick = |values: &[f32]| rows.iter().map(|&row| values[row]).collect::<Vec<f32>>();
        let mean = |values: &[f32]| values.iter().map(|x| f64::from(*x)).sum::<f64>() / values.len() as f64;
        let (links, labels, values) = (pick(&self.scores.links), pick(&self.scores.labels), pick(self.values));
        let mut bins = vec![0; BINS];
        let (least, most) = self.range;
        for value in &values {
            let place = (f64::from(*value) - least) / (most - least) * BINS as f64;
            bins[(place.max(0.0) as usize).min(BINS - 1)] += 1;
        }
        let (base_rate, prediction) = (mean(&labels), mean(&values));
        let scores = Scores { links: if self.is_logit { links } else { values }, labels };
        Figures { rows: rows.len(), base_rate, prediction, error: if self.is_logit { scores.ne() } else { scores.rmse() }, bins }
    }
}

/// The two cohorts whose predictions differ most, beyond what chance gives.
fn farthest(feature: &str, cohorts: &[Cohort]) -> Option<Pair> {
    let mut best: Option<(f64, usize, usize)> = None;
    for first in 0..cohorts.len() {
        for second in first + 1..cohorts.len() {
            let (a, b) = (&cohorts[first].figures, &cohorts[second].figures);
            let excess = divergence(&a.bins, &b.bins) - by_chance(&a.bins, &b.bins);
            if best.is_none_or(|(most, ..)| excess > most) {
                best = Some((excess, first, second));
            }
        }
    }
    let (_, first, second) = best?;
    let mut cohorts = [cohorts[first].clone(), cohorts[second].clone()];
    if cohorts[0].figures.prediction < cohorts[1].figures.prediction {
        cohorts.reverse();
    }
    let [a, b] = [&cohorts[0].figures.bins, &cohorts[1].figures.bins];
    let (divergence, by_chance) = (divergence(a, b), by_chance(a, b));
    Some(Pair { feature: feature.to_owned(), cohorts, divergence, by_chance })
}

/// Jensen-Shannon divergence in bits: the mean of both distributions' relative entropies to their mean; 0 if they are one, 1 if they share no bin.
fn divergence(a: &[usize], b: &[usize]) -> f64 {
    let totals = [a, b].map(|bins| bins.iter().sum::<usize>() as f64);
    let each = a.iter().zip(b).map(|(&a, &b)| {
        let shares = [a as f64 / totals[0], b as f64 / totals[1]];
        let mean = (shares[0] + shares[1]) / 2.0;
        shares.into_iter().filter(|share| *share > 0.0).map(|share| share * (share / mean).log2() / 2.0).sum::<f64>()
    });
    each.sum()
}

/// The divergence of two samples of one distribution, on average: to second order (k - 1)/8 (1/n + 1/m) nats, of k bins that hold something.
fn by_chance(a: &[usize], b: &[usize]) -> f64 {
    let filled = a.iter().zip(b).filter(|(a, b)| **a + **b > 0).count() as f64;
    let inverse: f64 = [a, b].iter().map(|bins| 1.0 / bins.iter().sum::<usize>() as f64).sum();
    (filled - 1.0) / 8.0 * inverse / std::f64::consts::LN_2
}

impl Discovery {
    /// As one JSON object.
    pub(crate) fn json(&self, program: &Program) -> Value {
        let figures = |own: &Figures| {
            let share = own.rows as f64 / self.whole.rows as f64;
            json!({
                "rows": own.rows, "share": number(share), "base_rate": number(own.base_rate), "prediction": number(own.prediction),
                self.error_name: number(own.error), "bins": own.bins,
            })
        };
        let cohort = |own: &Cohort| {
            let mut value = figures(&own.figures);
            value["name"] = json!(own.name);
            value["condition"] = json!(own.condition);
            value
        };
        let pair = |own: &Pair| {
            json!({
                "feature": own.feature, "divergence": number(own.divergence), "by_chance": number(own.by_chance),
                "cohorts": own.cohorts.iter().map(cohort).collect::<Vec<_>>(),
            })
        };
        json!({
            "spec": program.name, "prediction": self.prediction, "range": [self.range.0, self.range.1], "all": figures(&self.whole),
            "pairs": self.pairs.iter().map(pair).collect::<Vec<_>>(), "without_pairs": self.without,
            "paste": lines_to_paste(self, program),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergences_are_between_none_and_one_bit() {
        assert_eq!(divergence(&[3, 1, 0], &[6, 2, 0]), 0.0);
        assert_eq!(divergence(&[3, 0], &[0, 5]), 1.0);
        // By hand: shares 3/4, 1/4 and 1/4, 3/4 with mean 1/2, 1/2.
        assert!((divergence(&[3, 1], &[1, 3]) - (1.0 + 0.75 * 0.75f64.log2() + 0.25 * 0.25f64.log2())).abs() < 1e-12);
    }

    #[test]
    fn samples_of_one_distribution_differ_by_chance() {
        let sample = |seed: u64| {
            let mut bins = vec![0; 20];
            (0..500).for_each(|at| bins[(crate::random::uniform(seed, at) * 20.0) as usize] += 1);
            bins
        };
        let pairs: Vec<_> = (0..200).map(|at| (sample(2 * at), sample(2 * at + 1))).collect();
        let mean = |of: &dyn Fn(&[usize], &[usize]) -> f64| pairs.iter().map(|(a, b)| of(a, b)).sum::<f64>() / pairs.len() as f64;
        let (seen, expected) = (mean(&divergence), mean(&by_chance));
        assert!((seen / expected - 1.0).abs() < 0.1, "{seen} for {expected}");
    }
}
