//! What was found, as a page with plots that needs nothing else.

use super::{BINS, Cohort, Discovery, Figures, Pair, lines_to_paste};
use crate::html::{document, escaped};
use recc_abi::Program;
use std::fmt::Write as _;

/// Points of a plot.
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 140.0;
/// Bins that are drawn as one.
const JOINED: usize = 2;

/// The page.
pub(crate) fn page(discovery: &Discovery, program: &Program) -> String {
    let whole = &discovery.whole;
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<p>{} rows, prediction <code>{}</code>: base rate {:.5}, mean prediction {:.5}, {} {:.5}. For each feature the two parts of the rows whose predictions differ most, by the Jensen-Shannon divergence of their distributions in bits; \"by chance\" is what two parts of one distribution would show on average.</p>",
        whole.rows,
        escaped(&discovery.prediction),
        whole.base_rate,
        whole.prediction,
        discovery.error_name,
        whole.error
    );
    for pair in &discovery.pairs {
        section(&mut out, discovery, pair);
    }
    if !discovery.without.is_empty() {
        let _ = writeln!(
            out,
            "<p>Without two cohorts that are large enough and have both labels: {}.</p>",
            escaped(&discovery.without.join(", "))
        );
    }
    if !discovery.pairs.is_empty() {
        let lines = escaped(&lines_to_paste(discovery, program));
        let _ = writeln!(out, "<h2>For the spec, by the first pair</h2>\n<pre>{lines}</pre>");
    }
    document(&format!("Cohorts of {}", program.name), &out)
}

fn section(out: &mut String, discovery: &Discovery, pair: &Pair) {
    let _ = writeln!(
        out,
        "<h2>{}: {:.4} bits, {:.4} by chance</h2>\n{}",
        escaped(&pair.feature),
        pair.divergence,
        pair.by_chance,
        plot(discovery, pair)
    );
    let head = ["cohort", "rows", "share", "base rate", "prediction", discovery.error_name];
    let head: String = head.iter().map(|name| format!("<th>{name}</th>")).collect();
    let row = |(own, class): (&Cohort, &str)| {
        let Figures { rows, base_rate, prediction, error, .. } = own.figures;
        let share = rows as f64 / discovery.whole.rows as f64;
        format!(
            "<tr><td><span class=\"key {class}\"></span><code>{}</code></td><td>{rows}</td><td>{share:.4}</td><td>{base_rate:.5}</td><td>{prediction:.5}</td><td>{error:.5}</td></tr>\n",
            escaped(&own.condition)
        )
    };
    let rows: String = pair.cohorts.iter().zip(["first", "second"]).map(row).collect();
    let _ = writeln!(out, "<table>\n<tr>{head}</tr>\n{rows}</table>");
}

/// Both distributions over one another, each with an area of 1.
fn plot(discovery: &Discovery, pair: &Pair) -> String {
    let shares = |own: &Cohort| -> Vec<f64> {
        own.figures.bins.chunks(JOINED).map(|bins| bins.iter().sum::<usize>() as f64 / own.figures.rows as f64).collect()
    };
    let both = pair.cohorts.each_ref().map(shares);
    let most = both.iter().flatten().copied().fold(f64::MIN_POSITIVE, f64::max);
    let step = WIDTH / (BINS / JOINED) as f64;
    let outline = |shares: &[f64]| {
        let mut path = format!("M0 {HEIGHT}");
        for (at, share) in shares.iter().enumerate() {
            let (left, right, top) = (at as f64 * step, (at + 1) as f64 * step, HEIGHT * (1.0 - share / most));
            let _ = write!(path, "L{left:.1} {top:.1}L{right:.1} {top:.1}");
        }
        path + &format!("L{WIDTH} {HEIGHT}Z")
    };
    let (least, largest) = discovery.range;
    let marks: String = [0.0, 0.25, 0.5, 0.75, 1.0]
        .iter()
        .map(|share| {
            let anchor = if *share == 0.0 {
                "start"
            } else if *share == 1.0 {
                "end"
            } else {
                "middle"
            };
            let value = least + share * (largest - least);
            format!("<text x=\"{:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{value:.2}</text>", share * WIDTH, HEIGHT + 14.0)
        })
        .collect();
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {}\" width=\"{WIDTH}\" role=\"img\" aria-label=\"distributions of predictions\"><path class=\"first\" d=\"{}\"/><path class=\"second\" d=\"{}\"/><line x1=\"0\" x2=\"{WIDTH}\" y1=\"{HEIGHT}\" y2=\"{HEIGHT}\" stroke=\"currentColor\"/>{marks}</svg>",
        HEIGHT + 18.0,
        outline(&both[0]),
        outline(&both[1])
    )
}
