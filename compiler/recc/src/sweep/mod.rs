//! `recc sweep`: a spec trained for every combination of some constants.

mod page;

use crate::driver::BuildTarget;
use crate::{cost, driver, print, report, say};
use recc_abi::{MetricKind, Monitor, Prediction, Program};
use recc_core::Override;
use recc_rt::Failure;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// A constant and its values.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    name: String,
    values: Vec<String>,
}

/// `LAYERS=2,4,8`
pub(crate) fn parse_axis(text: &str) -> Result<Axis, String> {
    let wrong = || "write NAME=VALUE,VALUE,… such as -D LAYERS=2,4,8".to_owned();
    let (name, values) = text.split_once('=').ok_or_else(wrong)?;
    let values = separated(values);
    if name.trim().is_empty() || values.iter().any(String::is_empty) {
        return Err(wrong());
    }
    match (1..values.len()).find(|&at| values[..at].contains(&values[at])) {
        Some(at) => Err(format!("the value {} stands there twice", values[at])),
        None => Ok(Axis { name: name.trim().to_owned(), values }),
    }
}

/// What commas separate that stand in no brackets.
fn separated(text: &str) -> Vec<String> {
    let mut depth = 0i32;
    let parts = text.split(|sign: char| {
        depth += i32::from("([{".contains(sign)) - i32::from(")]}".contains(sign));
        sign == ',' && depth == 0
    });
    parts.map(|value| value.trim().to_owned()).collect()
}

/// One combination, trained.
struct Point {
    /// `LAYERS=2, DIM=32`
    name: String,
    parameters: f64,
    /// Operations of training: those of an example whose lists have one entry, by examples and epochs.
    operations: f64,
    metric: f64,
    /// The rows it is of.
    rows: &'static str,
    epochs: usize,
    seconds: f64,
}

/// Builds and trains every combination, and prints a table and writes a page.
pub(crate) fn sweep(
    path: &Path,
    axes: &[Axis],
    out: &Path,
    metric: Option<&str>,
    target: BuildTarget,
    train: &[String],
) -> Result<u8, Failure> {
    if let Some(at) = (1..axes.len()).find(|&at| axes[..at].iter().any(|other| other.name == axes[at].name)) {
        return Err(Failure::usage(format!("-D {}: the constant is given twice\nhelp: write all its values behind one -D", axes[at].name)));
    }
    if let Some(flag) = train.iter().find(|flag| ["--out", "--resume", "--json"].iter().any(|own| flag.starts_with(own))) {
        return Err(Failure::usage(format!("{flag}: each combination has a folder of its own\nhelp: leave it out")));
    }
    let sources = driver::sources(path)?;
    let combinations = combinations(axes);
    // All are checked before the first is trained.
    let mut specs = Vec::new();
    for overrides in &combinations {
        let checked = driver::check(&sources, overrides);
        let Some(spec) = checked.spec else {
            say(&format!("with {}:\n{}", name_of(overrides), report::text(&sources, &checked.problems)));
            return Ok(1);
        };
        specs.push(spec);
    }
    std::fs::create_dir_all(out).map_err(|error| Failure::io("create", out, &error))?;
    let _lock = locked(out)?;
    let (mut points, mut compared) = (Vec::new(), None);
    for (at, (overrides, spec)) in combinations.iter().zip(&specs).enumerate() {
        let name = name_of(overrides);
        let model = driver::compile(&sources, spec, target)?;
        let compare = Compare::of(&model.program, metric)?;
        let (result, made) = trained(&model, &out.join(folder_of(&name)), train, &name)?;
        let point = point(name, &result, &compare, cost::operations(spec)?)?;
        let again = if made { "" } else { ", trained before" };
        say(&format!(
            "{} of {}  {}: {} {:.5}, {:.0} parameters, {:.0} s{again}\n",
            at + 1,
            combinations.len(),
            point.name,
            compare.name,
            point.metric,
            point.parameters,
            point.seconds
        ));
        points.push(point);
        compared = Some(compare);
    }
    let Some(compare) = compared else { return Ok(0) };
    let of = points.first().map_or("", |point| point.rows);
    let (name, page) = (format!("{} of {of}", compare.name), out.join("index.html"));
    let counts_all = specs.iter().any(|spec| spec.predictions.iter().any(|own| own.ranking().is_some_and(|own| own.negatives.is_none())));
    let note = if counts_all { ", without the softmax over all rows" } else { "" };
    let note = format!("Operations are those of training: of an example whose lists have one entry, by examples and epochs{note}.");
    std::fs::write(&page, page::page(path, &name, &points, &note)).map_err(|error| Failure::io("write", &page, &error))?;
    print(&format!("{}{note}\n", table(&name, &points)))?;
    say(&format!("{}: the same with plots\n", page.display()));
    Ok(0)
}

/// Holds other sweeps off a folder.
fn locked(out: &Path) -> Result<File, Failure> {
    let place = out.join(".sweep");
    let lock = File::create(&place).map_err(|error| Failure::io("write", &place, &error))?;
    match lock.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Failure::usage(format!(
            "{}: another sweep is writing here\nhelp: wait for its end, or give another folder to --out",
            out.display()
        ))),
        // A file system without locks: the sweep goes on as it would without them.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(lock),
    }
}

/// Every combination of values, the last constant changing first.
fn combinations(axes: &[Axis]) -> Vec<Vec<Override>> {
    axes.iter().fold(vec![Vec::new()], |found, axis| {
        let with = |known: &Vec<Override>, value: &String| {
            known.iter().cloned().chain([Override { name: axis.name.clone(), value: value.clone() }]).collect()
        };
        found.iter().flat_map(|known| axis.values.iter().map(move |value| with(known, value))).collect()
    })
}

fn name_of(overrides: &[Override]) -> String {
    overrides.iter().map(|own| format!("{}={}", own.name, own.value)).collect::<Vec<_>>().join(", ")
}

/// A combination's name as that of a folder.
fn folder_of(name: &str) -> String {
    let sign = |sign: char| if sign.is_alphanumeric() || "=.-+".contains(sign) { sign } else { '_' };
    name.replace(", ", ",").chars().map(|own| if own == ',' { own } else { sign(own) }).collect()
}

/// What combinations are compared by.
struct Compare {
    /// `next ndcg(10)`
    name: String,
    prediction: String,
    /// The metric; the loss without one.
    metric: Option<String>,
    higher: bool,
}

impl Compare {
    fn of(program: &Program, wanted: Option<&str>) -> Result<Compare, Failure> {
        let Monitor { metric, prediction, higher } = &program.train.best;
        let best = metric.as_ref().map(|metric| metric.name.clone());
        let mut at = *prediction as usize;
        let (metric, higher) = match wanted {
            None => (best, *higher),
            Some(name) => {
                let Some(metric) = program.metrics.iter().find(|own| own.name == name) else {
                    let names: Vec<&str> = program.metrics.iter().map(|own| own.name.as_str()).collect();
                    let message = format!("--metric {name}: the spec does not report it\nhelp: it reports {}", names.join(", "));
                    return Err(Failure::usage(message));
                };
                if metric.kind == MetricKind::Calibration {
                    return Err(Failure::usage(
                        "--metric calibration: it is best near 1, and orders no models\nhelp: compare by another one",
                    ));
                }
                let fits = |own: &Prediction| own.model.is_none() && metric.kind.fits(&own.link);
                at = program.predictions.iter().position(fits).unwrap_or(at);
                (Some(name.to_owned()), metric.kind.higher_is_better())
            }
        };
        let prediction = program.predictions.get(at).map_or(String::new(), |own| own.name.clone());
        let name = format!("{prediction} {}", metric.as_deref().unwrap_or("loss"));
        Ok(Compare { name, prediction, metric, higher })
    }

    /// The figure of the test rows, or without those the best one of the validation rows, or of training.
    fn figure(&self, result: &Value) -> Option<(f64, &'static str)> {
        let of = |figures: &Value| match &self.metric {
            Some(metric) => figures[&self.prediction][metric].as_f64(),
            None => None,
        };
        let epochs = result["epochs"].as_array();
        let best = |figures: &mut dyn Iterator<Item = f64>| match self.higher {
            true => figures.reduce(f64::max),
            false => figures.reduce(f64::min),
        };
        let valid = || best(&mut epochs?.iter().filter_map(|epoch| of(&epoch["valid"])));
        let loss = || epochs?.last()?["train_loss"].as_f64();
        match self.metric {
            Some(_) => of(&result["metrics"]).map(|own| (own, "test rows")).or_else(|| Some((valid()?, "validation rows"))),
            None => result["loss"].as_f64().map(|own| (own, "test rows")).or_else(|| Some((loss()?, "training rows"))),
        }
    }
}

/// The result of one combination, made if it is not there, and whether it was made now.
fn trained(model: &driver::Model, folder: &Path, train: &[String], name: &str) -> Result<(Value, bool), Failure> {
    let data = &model.program.data;
    let files = train.iter().chain(&data.train).chain(&data.valid).chain(&data.test);
    let stamp = |file: &String| {
        let own = std::fs::metadata(file).ok().filter(std::fs::Metadata::is_file)?;
        Some(json!([file, own.len(), own.mtime()]))
    };
    let stamps: Vec<Value> = files.filter_map(stamp).collect();
    let identity = json!({"hash": model.program.hash, "recc": model.program.build.version, "target": model.program.build.target, "train": train, "files": stamps});
    let id: String = Sha256::digest(identity.to_string().as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let (file, folder) = (folder.join(format!("result-{id}.json")), folder.join(format!("run-{id}")));
    let known = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    if let Some(known) = known.filter(|known| known["of"] == identity) {
        return Ok((known["result"].clone(), false));
    }
    // What a sweep that was stopped left of this very run.
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(|error| Failure::io("remove", &folder, &error))?;
    }
    std::fs::create_dir_all(&folder).map_err(|error| Failure::io("create", &folder, &error))?;
    let executable = folder.join("model");
    driver::write_executable(model, None, &executable)?;
    let mut command = Command::new(&executable);
    command.arg("train").args(train).arg("--json").arg("--out").arg(folder.join("checkpoint"));
    let done = command.stderr(Stdio::inherit()).output().map_err(|error| Failure::io("run", &executable, &error))?;
    if !done.status.success() {
        return Err(Failure {
            status: done.status.code().map_or(70, |code| code as u8),
            message: format!(
                "with {name}: training failed, as said above\nhelp: what was trained before is kept, and is not trained again by the same command"
            ),
        });
    }
    let result: Value = serde_json::from_slice(&done.stdout).map_err(|error| Failure::internal("sweep", error))?;
    let text = json!({"of": identity, "result": result}).to_string();
    std::fs::write(&file, text).map_err(|error| Failure::io("write", &file, &error))?;
    Ok((result, true))
}

fn point(name: String, result: &Value, compare: &Compare, operations: f64) -> Result<Point, Failure> {
    let number = |key: &str| result[key].as_f64().unwrap_or(0.0);
    let epochs = result["epochs"].as_array().map_or(0, Vec::len);
    let (metric, rows) = compare.figure(result).ok_or_else(|| {
        let message = format!(
            "with {name}: no rows were validated or tested, so that {} is not known\nhelp: name some behind `--`, with --valid or --test",
            compare.name
        );
        Failure::usage(message)
    })?;
    Ok(Point {
        name,
        parameters: number("parameters"),
        operations: operations * number("train_rows") * epochs as f64,
        metric,
        rows,
        epochs,
        seconds: number("seconds"),
    })
}

fn table(metric: &str, points: &[Point]) -> String {
    let wide = points.iter().map(|point| point.name.len()).max().unwrap_or(0);
    let figure = metric.len().max(10);
    let mut out =
        format!("{:<wide$}  {:>12}  {:>10}  {metric:>figure$}  {:>6}  {:>8}\n", "", "parameters", "operations", "epochs", "seconds");
    for own in points {
        let _ = writeln!(
            out,
            "{:<wide$}  {:>12.0}  {:>10.2e}  {:>figure$.5}  {:>6}  {:>8.1}",
            own.name, own.parameters, own.operations, own.metric, own.epochs, own.seconds
        );
    }
    for (what, size) in SIZES {
        if let Some(law) = PowerLaw::fit(points.iter().map(|own| (size(own), own.metric))) {
            let _ = writeln!(out, "{metric} by {what}: {}", law.text());
        }
    }
    out
}

/// A size of a point.
type Size = fn(&Point) -> f64;

/// What points are plotted against.
const SIZES: [(&str, Size); 2] = [("parameters", |own| own.parameters), ("operations", |own| own.operations)];

/// y = a x^b, by least squares of the logarithms.
struct PowerLaw {
    a: f64,
    b: f64,
    /// The share of the variance of ln y that it explains.
    fit: f64,
}

impl PowerLaw {
    /// None without three sizes, or where a number is not above 0.
    fn fit(points: impl Iterator<Item = (f64, f64)>) -> Option<PowerLaw> {
        let logs: Vec<(f64, f64)> = points.map(|(x, y)| (x.ln(), y.ln())).collect();
        let sizes: BTreeSet<u64> = logs.iter().map(|(x, _)| x.to_bits()).collect();
        if sizes.len() < 3 || logs.iter().any(|(x, y)| !x.is_finite() || !y.is_finite()) {
            return None;
        }
        let count = logs.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / count;
        let (x, y) = (mean(|own| own.0), mean(|own| own.1));
        let sum = |of: &dyn Fn(f64, f64) -> f64| logs.iter().map(|own| of(own.0 - x, own.1 - y)).sum::<f64>();
        let (xx, xy, yy) = (sum(&|x, _| x * x), sum(&|x, y| x * y), sum(&|_, y| y * y));
        let b = xy / xx;
        let fit = if yy > 0.0 { xy * xy / (xx * yy) } else { 1.0 };
        Some(PowerLaw { a: (y - b * x).exp(), b, fit })
    }

    fn at(&self, x: f64) -> f64 {
        self.a * x.powf(self.b)
    }

    fn text(&self) -> String {
        format!("{:.4e} x^{:.4}, which explains {:.0} % of the variance of its logarithm", self.a, self.b, 100.0 * self.fit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_law_is_found_again() {
        let law = PowerLaw::fit([1.0, 10.0, 200.0, 3e6].into_iter().map(|x: f64| (x, 0.3 * x.powf(-0.07)))).expect("a law");
        assert!((law.a - 0.3).abs() < 1e-9 && (law.b + 0.07).abs() < 1e-12 && (law.fit - 1.0).abs() < 1e-9);
        assert!(PowerLaw::fit([(5.0, 1.0), (5.0, 2.0)].into_iter()).is_none());
        assert!(PowerLaw::fit([(5.0, 0.0), (6.0, 2.0), (7.0, 3.0)].into_iter()).is_none());
    }

    #[test]
    fn combinations_are_all_and_in_order() {
        let axes = ["A=1,2", "B=x,y"].map(|text| parse_axis(text).expect("an axis"));
        let names: Vec<String> = combinations(&axes).iter().map(|own| name_of(own)).collect();
        assert_eq!(names, ["A=1, B=x", "A=1, B=y", "A=2, B=x", "A=2, B=y"]);
        assert_eq!(parse_axis("U=[32, 16],[8]").expect("an axis").values, ["[32, 16]", "[8]"]);
        assert!(parse_axis("A").is_err() && parse_axis("A=1,,2").is_err() && parse_axis("A=1,1").is_err());
    }
}
