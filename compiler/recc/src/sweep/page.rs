//! A sweep as a page with plots.

use super::{Point, PowerLaw, SIZES};
use recc_rt::html::{document, escaped};
use std::fmt::Write as _;
use std::path::Path;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 300.0;
/// Left, right, top and bottom.
const MARGINS: [f64; 4] = [60.0, 16.0, 12.0, 34.0];

/// The page.
pub(super) fn page(spec: &Path, metric: &str, points: &[Point], note: &str) -> String {
    let mut out = String::new();
    for (what, size) in SIZES {
        let pairs: Vec<(f64, f64)> = points.iter().map(|own| (size(own), own.metric)).collect();
        let law = PowerLaw::fit(pairs.iter().copied());
        let _ = writeln!(out, "<h2>{} by {what}</h2>\n{}", escaped(metric), plot(points, &pairs, law.as_ref()));
        if let Some(law) = law {
            let _ = writeln!(out, "<p>The line is {}.</p>", escaped(&law.text()));
        }
    }
    let head = ["", "parameters", "operations", metric, "epochs", "seconds"];
    let head: String = head.iter().map(|name| format!("<th>{}</th>", escaped(name))).collect();
    let row = |own: &Point| {
        format!(
            "<tr><td><code>{}</code></td><td>{:.0}</td><td>{:.2e}</td><td>{:.5}</td><td>{}</td><td>{:.1}</td></tr>\n",
            escaped(&own.name),
            own.parameters,
            own.operations,
            own.metric,
            own.epochs,
            own.seconds
        )
    };
    let rows: String = points.iter().map(row).collect();
    let _ = writeln!(out, "<table>\n<tr>{head}</tr>\n{rows}</table>\n<p>{}</p>", escaped(note));
    document(&format!("Sweep of {}", spec.display()), &out)
}

/// Points and a law with a logarithmic axis of sizes.
fn plot(points: &[Point], pairs: &[(f64, f64)], law: Option<&PowerLaw>) -> String {
    let range = |values: &mut dyn Iterator<Item = f64>| {
        let (least, most) = values.fold((f64::MAX, f64::MIN), |(least, most), x| (least.min(x), most.max(x)));
        let room = if most > least { 0.06 * (most - least) } else { 0.5 * most.abs().max(1e-9) };
        (least - room, most + room)
    };
    let (left, right) = range(&mut pairs.iter().map(|(x, _)| x.max(1.0).log10()));
    let (low, high) = range(&mut pairs.iter().map(|(_, y)| *y));
    let [from, to] = [MARGINS[0], WIDTH - MARGINS[1]];
    let [top, bottom] = [MARGINS[2], HEIGHT - MARGINS[3]];
    let x = |size: f64| from + (size.max(1.0).log10() - left) / (right - left) * (to - from);
    let y = |value: f64| bottom - (value - low) / (high - low) * (bottom - top);
    let mut out = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" role=\"img\" aria-label=\"metric against size\">");
    let _ = write!(out, "<path d=\"M{from} {top}V{bottom}H{to}\" fill=\"none\" stroke=\"currentColor\"/>");
    for share in [0.0, 0.5, 1.0] {
        let (size, value) = (10f64.powf(left + share * (right - left)), low + share * (high - low));
        let (px, py) = (from + share * (to - from), bottom - share * (bottom - top));
        let _ = write!(out, "<text x=\"{px:.1}\" y=\"{}\" text-anchor=\"middle\">{size:.2e}</text>", bottom + 16.0);
        let _ = write!(out, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value:.4}</text>", from - 6.0, py + 4.0);
    }
    if let Some(law) = law {
        let places = (0..=40).map(|at| 10f64.powf(left + f64::from(at) / 40.0 * (right - left)));
        let line: Vec<String> = places.map(|size| format!("{:.1},{:.1}", x(size), y(law.at(size)))).collect();
        let _ = write!(out, "<polyline points=\"{}\" fill=\"none\" stroke=\"var(--second)\"/>", line.join(" "));
    }
    for (own, (size, value)) in points.iter().zip(pairs) {
        let title = escaped(&format!("{}: {value:.5}", own.name));
        let _ =
            write!(out, "<circle class=\"first\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"><title>{title}</title></circle>", x(*size), y(*value));
    }
    out + "</svg>"
}
