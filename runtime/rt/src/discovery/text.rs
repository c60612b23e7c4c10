//! What was found, as text: a table, and lines for the spec.

use super::{Cohort, Discovery, Figures};
use recc_abi::Program;
use std::fmt::Write as _;

/// Conditions are cut behind so many letters.
const WIDE: usize = 46;

/// The table, and the lines to paste.
pub(crate) fn text(discovery: &Discovery, program: &Program) -> String {
    let whole = &discovery.whole;
    let mut out = format!(
        "{} rows, prediction `{}`: base rate {:.5}, mean prediction {:.5}, {} {:.5}\n",
        whole.rows, discovery.prediction, whole.base_rate, whole.prediction, discovery.error_name, whole.error
    );
    if discovery.pairs.is_empty() {
        let _ = writeln!(out, "no feature divides these rows into two cohorts that are large enough and have both labels");
        return out;
    }
    let feature = discovery.pairs.iter().map(|pair| pair.feature.len()).max().unwrap_or(0).max("feature".len());
    let cohorts = discovery.pairs.iter().flat_map(|pair| &pair.cohorts);
    let wide = cohorts.map(|own| shortened(&own.condition).chars().count()).max().unwrap_or(0).max("cohort".len());
    let head = ["rows", "share", "base rate", "prediction", discovery.error_name].map(|name| format!("{name:>12}")).join("");
    let _ = writeln!(
        out,
        "\nby the Jensen-Shannon divergence of predictions, in bits, beyond what two samples of one distribution show by chance:"
    );
    let _ = writeln!(out, "\n{:<feature$}  {:>10}  {:>9}  {:<wide$}{head}", "feature", "divergence", "by chance", "cohort");
    let figures = |own: &Figures| {
        let share = own.rows as f64 / whole.rows as f64;
        let error = if own.error.is_finite() { format!("{:.5}", own.error) } else { "-".to_owned() };
        format!("{:>12}{share:>12.4}{:>12.5}{:>12.5}{error:>12}", own.rows, own.base_rate, own.prediction)
    };
    for pair in &discovery.pairs {
        let [high, low] = &pair.cohorts;
        let line = |own: &Cohort| format!("{:<wide$}{}", shortened(&own.condition), figures(&own.figures));
        let _ = writeln!(out, "{:<feature$}  {:>10.4}  {:>9.4}  {}", pair.feature, pair.divergence, pair.by_chance, line(high));
        let _ = writeln!(out, "{:<feature$}  {:>10}  {:>9}  {}", "", "", "", line(low));
    }
    if !discovery.without.is_empty() {
        let _ = writeln!(out, "\nwithout two cohorts that are large enough and have both labels: {}", discovery.without.join(", "));
    }
    let _ = write!(out, "\nfor the spec, by the first pair:\n\n{}", lines_to_paste(discovery, program));
    out
}

fn shortened(condition: &str) -> String {
    if condition.chars().count() <= WIDE {
        return condition.to_owned();
    }
    condition.chars().take(WIDE - 1).chain(['…']).collect()
}

/// The cohorts of the first pair and an auxiliary objective for each, as a spec writes them.
pub(crate) fn lines_to_paste(discovery: &Discovery, program: &Program) -> String {
    let Some(pair) = discovery.pairs.first() else { return String::new() };
    let mut out = String::new();
    for own in &pair.cohorts {
        let _ = writeln!(out, "cohort {} = {}", own.name, own.condition);
    }
    let names = pair.cohorts.iter().map(|own| own.name.as_str()).collect::<Vec<_>>().join(", ");
    if !program.predictions.iter().any(|own| own.name == discovery.prediction && own.is_logit()) {
        let _ = writeln!(out, "metrics {{ per: [{names}] }}");
        return out;
    }
    let label = &discovery.prediction;
    let on = program.exposed.first().map_or("MODEL.SHARED", String::as_str);
    if program.exposed.is_empty() {
        let _ = writeln!(out, "// In the model: `expose SHARED = h`, with h what the prediction is computed from.");
    }
    for own in &pair.cohorts {
        let name = format!("{label}_of_{}", own.name);
        let _ = writeln!(out, "auxiliary {name} {{ on: {on}, label: {label} and {}, head: mlp(_, [32]) |> linear(1) }}", own.name);
    }
    let losses = pair.cohorts.iter().map(|own| format!("{label}_of_{}: bce(weight: 0.1)", own.name)).collect::<Vec<_>>().join(", ");
    let _ = writeln!(out, "// In `objective`: {losses}; in `metrics`: per: [{names}]");
    out
}
