//! What is measured of some rows: figures by prediction, by member of an ensemble, and by cohort.

use crate::activations::{self, Activations};
use crate::checkpoint::Generation;
use crate::engine::Loaded;
use crate::failure::Failure;
use crate::inspect::{self, Inspected, inspect};
use crate::json::number;
use crate::metrics::{Figures, Scores, measure};
use crate::score::{Beside, Scored, Scoring, score, to_score};
use recc_abi::{Monitor, Program};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// Figures of a data set: per prediction.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) rows: usize,
    pub(crate) loss: f64,
    /// Figures of all rows.
    pub(crate) whole: Measured,
    /// Figures of each cohort's rows: name and count.
    cohorts: Vec<(String, usize, Measured)>,
    /// What units of exposed values do.
    activations: Vec<Activations>,
    /// What the parameters look like, where that is asked for.
    parameters: Option<Vec<Inspected>>,
}

/// Stands among a prediction's figures if its loss is of a part of the rows: how many they are.
pub(crate) const ROWS: &str = "rows";

/// Figures of some rows, by prediction, those of an ensemble's members among them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    figures: Vec<Figures>,
    /// The loss each is trained with, unweighted.
    losses: Vec<f64>,
    /// Mean weight of each member that a prediction is fused from.
    weights: Vec<Vec<f64>>,
}

impl Measured {
    /// Figures by prediction of what the program predicts, or of a member.
    pub(crate) fn of<'m>(&'m self, program: &'m Program, model: Option<&'m str>) -> impl Iterator<Item = (&'m str, &'m Figures)> {
        let pairs = program.predictions.iter().zip(&self.figures);
        pairs.filter(move |(own, _)| own.model.as_deref() == model).map(|(own, figures)| (own.name.as_str(), figures))
    }

    /// Mean weights by prediction and member.
    fn fused<'m>(&'m self, program: &'m Program) -> impl Iterator<Item = (&'m str, Vec<(&'m str, f64)>)> {
        let fused = program.predictions.iter().zip(&self.weights).filter(|(_, weights)| !weights.is_empty());
        fused.map(|(own, weights)| (own.name.as_str(), members(program).into_iter().zip(weights.iter().copied()).collect()))
    }
}

/// The members of the program's ensemble, in order.
fn members(program: &Program) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    for model in program.predictions.iter().filter_map(|own| own.model.as_deref()) {
        if !found.contains(&model) {
            found.push(model);
        }
    }
    found
}

impl Scored {
    fn flag(&self, column: u32) -> Option<&[bool]> {
        self.flags.iter().find(|(own, _)| *own == column).map(|(_, flags)| flags.as_slice())
    }

    /// The rows for which all of some conditions hold; `None` is all rows.
    fn rows(&self, conditions: &[Option<u32>]) -> Option<Vec<usize>> {
        let flags: Vec<&[bool]> = conditions.iter().filter_map(|column| self.flag((*column)?)).collect();
        let first = flags.first()?;
        Some((0..first.len()).filter(|&at| flags.iter().all(|flags| flags[at])).collect())
    }

    /// The rows that a prediction's loss is of.
    pub(crate) fn rows_of(&self, prediction: &recc_abi::Prediction) -> Vec<usize> {
        let rows = self.row_count();
        self.rows(&[prediction.rows]).unwrap_or_else(|| (0..rows).collect())
    }

    /// Scores and keys of a prediction on some rows.
    fn part(&self, prediction: usize, rows: Option<&[usize]>) -> Chosen<'_> {
        let scores = &self.scores[prediction];
        let Some(rows) = rows else { return (Cow::Borrowed(scores), Cow::Borrowed(&self.keys)) };
        let pick = |values: &[f32]| rows.iter().map(|&at| values[at]).collect();
        let keys = self.keys.iter().map(|(column, keys)| (*column, rows.iter().map(|&at| keys[at]).collect()));
        // A ranking may have none.
        let labels = if scores.labels.is_empty() { Vec::new() } else { pick(&scores.labels) };
        (Cow::Owned(Scores { links: pick(&scores.links), labels }), Cow::Owned(keys.collect()))
    }

    /// Figures of all rows, or of a cohort's.
    fn measure(&self, program: &Program, cohort: Option<u32>) -> Result<Measured, Failure> {
        let mut measured = Measured::default();
        for (at, prediction) in program.predictions.iter().enumerate() {
            let rows = self.rows(&[prediction.rows, cohort]);
            let (scores, keys) = self.part(at, rows.as_deref());
            measured.losses.push(scores.loss(prediction));
            let mut figures = measure(&scores, prediction, &program.metrics, &keys)?;
            if prediction.rows.is_some() {
                figures.insert(0, (ROWS.to_owned(), scores.links.len() as f64));
            }
            measured.figures.push(figures);
            let members = prediction.weights.unwrap_or(0) as usize;
            let mean = |member: usize| {
                let weight = |row: usize| f64::from(self.weights[at][row * members + member]);
                match &rows {
                    Some(rows) => rows.iter().map(|&row| weight(row)).sum::<f64>() / rows.len() as f64,
                    None => (0..scores.links.len()).map(weight).sum::<f64>() / scores.links.len() as f64,
                }
            };
            measured.weights.push((0..members).map(mean).collect());
        }
        Ok(measured)
    }
}

/// Scores, and keys by column.
type Chosen<'s> = (Cow<'s, Scores>, Cow<'s, [(u32, Vec<u64>)]>);

pub(crate) fn report(program: &Program, scored: &Scored) -> Result<Report, Failure> {
    let rows = scored.scores.first().map_or(0, |scores| scores.links.len());
    let whole = scored.measure(program, None)?;
    let mut report = Report { rows, whole, activations: scored.activations.clone(), ..Report::default() };
    // A loss of no row adds nothing, as in training.
    let own =
        program.predictions.iter().zip(&report.whole.losses).filter(|(prediction, loss)| prediction.model.is_none() && !loss.is_nan());
    let measured = program.predictions.iter().any(recc_abi::Prediction::has_loss);
    report.loss = if measured { own.map(|(_, loss)| loss).sum() } else { f64::NAN };
    for cohort in &program.cohorts {
        let rows = scored.rows(&[Some(cohort.column)]).map_or(0, |rows| rows.len());
        report.cohorts.push((cohort.name.clone(), rows, scored.measure(program, Some(cohort.column))?));
    }
    Ok(report)
}

pub(crate) fn figures_json<'f>(figures: impl Iterator<Item = (&'f str, &'f Figures)>) -> Map<String, Value> {
    let own = |figures: &Figures| Value::Object(figures.iter().map(|(name, value)| (name.clone(), number(*value))).collect());
    figures.map(|(name, figures)| (name.to_owned(), own(figures))).collect()
}

fn weights_json(program: &Program, measured: &Measured) -> Map<String, Value> {
    let own = |weights: Vec<(&str, f64)>| weights.into_iter().map(|(name, weight)| (name.to_owned(), number(weight))).collect();
    measured.fused(program).map(|(name, weights)| (name.to_owned(), Value::Object(own(weights)))).collect()
}

impl Report {
    /// Adds rows, loss, metrics and those of each cohort to a result.
    pub(crate) fn add_to(&self, program: &Program, result: &mut Value) {
        result["rows"] = json!(self.rows);
        result["loss"] = number(self.loss);
        result["metrics"] = Value::Object(figures_json(self.whole.of(program, None)));
        let members = members(program);
        if !members.is_empty() {
            let own = |model: &&str| ((*model).to_owned(), Value::Object(figures_json(self.whole.of(program, Some(*model)))));
            result["members"] = Value::Object(members.iter().map(own).collect());
            result["weights"] = Value::Object(weights_json(program, &self.whole));
        }
        if !self.cohorts.is_empty() {
            let own = |(name, rows, measured): &(String, usize, Measured)| {
                let mut figures = figures_json(measured.of(program, None));
                figures.insert("rows".to_owned(), json!(rows));
                let weights = weights_json(program, measured);
                if !weights.is_empty() {
                    figures.insert("weights".to_owned(), Value::Object(weights));
                }
                (name.clone(), Value::Object(figures))
            };
            result["cohorts"] = Value::Object(self.cohorts.iter().map(own).collect());
        }
        if !self.activations.is_empty() {
            result["activations"] = activations::json(&self.activations);
        }
        if let Some(parameters) = &self.parameters {
            result["parameters"] = inspect::json(parameters);
        }
    }

    pub(crate) fn watched(&self, monitor: &Monitor) -> f64 {
        let at = monitor.prediction as usize;
        let found = monitor.metric.as_ref().and_then(|metric| self.whole.figures.get(at)?.iter().find(|(name, _)| *name == metric.name));
        let value = found.map_or_else(|| self.whole.losses.get(at).copied().unwrap_or(f64::NAN), |(_, value)| *value);
        if monitor.higher { value } else { -value }
    }
}

pub(crate) fn print_report(program: &Program, report: &Report, say: &mut dyn FnMut(&str)) {
    let lines = |say: &mut dyn FnMut(&str), indent: &str, measured: &Measured, model: Option<&str>| {
        for (prediction, figures) in measured.of(program, model) {
            for (name, value) in figures {
                let value = match (name.as_str(), value.is_finite()) {
                    (ROWS, _) => format!("{value:.0}"),
                    (_, true) => format!("{value:.5}"),
                    (_, false) => "not defined on these rows".to_owned(),
                };
                say(&format!("{indent}{prediction:<16} {name:<24} {value}"));
            }
        }
    };
    let weights = |say: &mut dyn FnMut(&str), indent: &str, measured: &Measured| {
        for (prediction, weights) in measured.fused(program) {
            let own: Vec<String> = weights.iter().map(|(name, weight)| format!("{name} {weight:.4}")).collect();
            say(&format!("{indent}{prediction:<16} {:<24} {}", "mean weights", own.join(", ")));
        }
    };
    lines(say, "  ", &report.whole, None);
    weights(say, "  ", &report.whole);
    for member in members(program) {
        say(&format!("  {member} alone:"));
        lines(say, "    ", &report.whole, Some(member));
    }
    for (name, rows, measured) in &report.cohorts {
        say(&format!("  {name}, {rows} rows:"));
        lines(say, "    ", measured, None);
        weights(say, "    ", measured);
    }
    if !report.activations.is_empty() {
        say(activations::text(&report.activations).trim_end());
    }
    if let Some(parameters) = &report.parameters {
        say(inspect::text(parameters).trim_end());
    }
}

/// Evaluates a state on files; with `parameters`, also what its parameters look like.
pub(crate) fn evaluate(
    loaded: Loaded<'_>,
    generation: &Generation,
    data: &[String],
    (limit, parameters): (Option<u64>, bool),
    pool: &rayon::ThreadPool,
) -> Result<Report, Failure> {
    let parameters = parameters.then(|| inspect(loaded.program, generation, pool)).transpose()?;
    let Scoring { model, stored, spool, .. } = to_score(loaded.program, generation, data, limit, (Beside::Labels, &mut Vec::new()), pool)?;
    Ok(Report { parameters, ..report(loaded.program, &score(loaded, &model, stored, &spool, pool)?)? })
}
