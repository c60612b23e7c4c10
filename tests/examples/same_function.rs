//! Shows that a model of `benches/models/` is the same function as its PyTorch peer: `cargo run --release -p recc-tests --example same_function -- SPEC DUMP.npz`.
//!
//! A dump holds weights, ten batches, the probabilities of the first one, and the losses and weights of ten steps of plain SGD with
//! rate 0.1. The compiled model starts from those weights, scores and trains on those batches; each figure that it gives is compared with
//! the dump's, relative to the largest of its tensor.

use npyz::npz::NpzArchive;
use recc_abi::VariableId;
use recc_codegen::Level;
use recc_core::Built;
use recc_core::graph::TableId;
use recc_core::graph::reference::Data;
use recc_core::spec::Spec;
use recc_tests::data::{group_rows, lookups_of_bags};
use recc_tests::native::{load, run};
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::BufReader;
use std::process::ExitCode;

/// Largest difference that passes.
const TOLERANCE: f64 = 1e-5;
/// Numbers, ids of one value, and ids of the bag.
const WIDTHS: [usize; 3] = [13, 25, 10];

/// Layers of a model and of its peer; linear weights are the other's transposes.
const LAYERS: &[(&str, &str)] = &[
    ("deepfm.wide.linear", "net.lin"),
    ("deepfm.deep.mlp.linear[0]", "net.mlp.0"),
    ("deepfm.deep.mlp.linear[1]", "net.mlp.2"),
    ("deepfm.deep.mlp.linear[2]", "net.mlp.4"),
    ("deepfm.deep.linear", "net.mlp.6"),
    ("dcnv2.c.cross.linear[0]", "net.cross.0"),
    ("dcnv2.c.cross.linear[1]", "net.cross.1"),
    ("dcnv2.c.cross.linear[2]", "net.cross.2"),
    ("dcnv2.h.mlp.linear[0]", "net.mlp.0"),
    ("dcnv2.h.mlp.linear[1]", "net.mlp.2"),
    ("dcnv2.h.mlp.linear[2]", "net.mlp.4"),
    ("dcnv2.click.linear", "net.out"),
    ("dlrm.bottom.mlp.linear[0]", "net.bot.0"),
    ("dlrm.bottom.mlp.linear[1]", "net.bot.2"),
    ("dlrm.bottom.mlp.linear[2]", "net.bot.4"),
    ("dlrm.top.mlp.linear[0]", "net.top.0"),
    ("dlrm.top.mlp.linear[1]", "net.top.2"),
    ("dlrm.top.linear", "net.top.4"),
];

/// Where one of our variables stands in a dump.
enum Source {
    /// The same elements.
    Same(String),
    /// Its transpose.
    Transposed(String),
    /// A table of all fields; ours uses the rows of its own ids.
    Table(&'static str),
}

fn source(path: &str) -> Result<Source, Box<dyn Error>> {
    if let Some((layer, part)) = path.rsplit_once('.')
        && let Some((_, theirs)) = LAYERS.iter().find(|(ours, _)| *ours == layer)
    {
        return Ok(if part == "w" { Source::Transposed(format!("{theirs}.weight")) } else { Source::Same(format!("{theirs}.bias")) });
    }
    match path.split_once('.').map_or(path, |(_, name)| name) {
        "e" | "m" => Ok(Source::Table("emb.t.0")),
        "w" | "wm" => Ok(Source::Table("first.t.0")),
        "v" => Ok(Source::Same("net.de.v".to_owned())),
        _ => Err(format!("`{path}` has no known peer").into()),
    }
}

struct Dump(NpzArchive<BufReader<File>>);

impl Dump {
    /// Shape and elements of an array.
    fn array(&mut self, name: &str) -> Result<(Vec<usize>, Vec<f64>), Box<dyn Error>> {
        let file = self.0.by_name(name)?.ok_or_else(|| format!("the dump has no `{name}`"))?;
        let shape: Vec<usize> = file.shape().iter().map(|&size| size as usize).collect();
        let text = file.dtype().descr();
        let data = if text.contains("f4") {
            file.into_vec::<f32>()?.into_iter().map(f64::from).collect()
        } else if text.contains("i8") {
            file.into_vec::<i64>()?.into_iter().map(|value| value as f64).collect()
        } else {
            file.into_vec::<f64>()?
        };
        Ok((shape, data))
    }

    /// A variable's elements in our order, of the weights before (`w`) or `after`.
    fn variable(&mut self, path: &str, when: &str) -> Result<Vec<f64>, Box<dyn Error>> {
        match source(path)? {
            Source::Same(name) => Ok(self.array(&format!("{when}/{name}"))?.1),
            Source::Table(name) => Ok(self.array(&format!("{when}/{name}"))?.1),
            Source::Transposed(name) => {
                let (shape, data) = self.array(&format!("{when}/{name}"))?;
                Ok((0..data.len()).map(|at| data[at % shape[0] * shape[1] + at / shape[0]]).collect())
            }
        }
    }

    /// A batch as the compiled model takes it. Ids count through all fields, so that no table has an offset.
    fn batch(&mut self, at: usize, spec: &Spec, built: &Built) -> Result<Data, Box<dyn Error>> {
        let (_, x) = self.array(&format!("b{at}/x"))?;
        let (shape, ids) = self.array(&format!("b{at}/ids"))?;
        let (_, y) = self.array(&format!("b{at}/y"))?;
        let [numbers, ones, many] = WIDTHS;
        let rows = shape[0];
        let mut data = Data { rows, ..Data::default() };
        let mut next = (0, 0);
        for (place, column) in (0u32..).zip(&spec.columns) {
            match &column.kind {
                recc_abi::ColumnKind::Label { .. } => {
                    data.numbers.insert(place, y.iter().step_by(2).copied().collect());
                }
                recc_abi::ColumnKind::Number { .. } => {
                    data.numbers.insert(place, x.iter().skip(next.0).step_by(numbers).copied().collect());
                    next.0 += 1;
                }
                recc_abi::ColumnKind::Id { .. } => {
                    data.ids.insert(place, ids.iter().skip(next.1).step_by(ones + many).map(|&id| id as usize).collect());
                    next.1 += 1;
                }
                recc_abi::ColumnKind::Ids { .. } => {
                    let bag = |row: &[f64]| row[ones..].iter().map(|&id| id as usize).collect();
                    data.bags.insert(place, ids.chunks_exact(ones + many).map(bag).collect());
                }
                recc_abi::ColumnKind::Time
                | recc_abi::ColumnKind::Key
                | recc_abi::ColumnKind::Flag { .. }
                | recc_abi::ColumnKind::Numbers { .. }
                | recc_abi::ColumnKind::Drawn { .. } => {}
            }
        }
        for (table, own) in (0u32..).zip(&built.tables) {
            for column in own.members.iter().flat_map(|member| &member.columns) {
                data.row_bases.insert((TableId(table), *column), 0);
            }
        }
        group_rows(built, &mut data);
        Ok(data)
    }
}

/// The largest difference, relative to the largest value.
fn difference(ours: impl IntoIterator<Item = f64>, theirs: &[f64]) -> f64 {
    let largest = theirs.iter().fold(1e-30f64, |most, value| most.max(value.abs()));
    ours.into_iter().zip(theirs).fold(0.0, |most, (ours, theirs)| f64::max(most, (ours - theirs).abs())) / largest
}

fn compare(spec_path: &str, dump_path: &str) -> Result<bool, Box<dyn Error>> {
    let text = std::fs::read_to_string(spec_path)?;
    let (before, _) = text.split_once("\ntrain").ok_or("the spec has no `train`")?;
    let (spec, built) = recc_tests::build(&format!("{before}\ntrain {{ dense: sgd(lr: 0.1), tables: sgd(lr: 0.1) }}\n"));
    let mut dump = Dump(NpzArchive::open(dump_path)?);
    let bags = lookups_of_bags(&spec, &built);
    let mut variables: BTreeMap<VariableId, Vec<f64>> = BTreeMap::new();
    for (id, variable) in (0u32..).zip(&built.variables) {
        variables.insert(VariableId(id), dump.variable(&variable.path, "w")?);
    }
    let mut report: Vec<(String, f64)> = Vec::new();
    let mut touched: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let (score, step) = (load(&built.score_plan.kernels, Level::native()), load(&built.step_plan.kernels, Level::native()));
    let (_, losses) = dump.array("losses")?;
    for (at, theirs) in losses.iter().enumerate() {
        let mut data = dump.batch(at, &spec, &built)?;
        data.variables = variables.clone();
        if at == 0 {
            let (_, out) = dump.array("out")?;
            let results = run(&built.score_plan.plan, &score, &data, &bags).results;
            report.push(("output".to_owned(), difference(results["click"].iter().map(|&value| f64::from(value)), &out)));
        }
        for (table, rows) in &data.touched {
            touched.entry(table.0 as usize).or_default().extend(&rows.rows);
        }
        let outcome = run(&built.step_plan.plan, &step, &data, &bags);
        report.push((format!("loss {at}"), difference([f64::from(outcome.results["loss"][0])], &[*theirs])));
        for (id, new) in outcome.variables {
            variables.insert(id, new.into_iter().map(f64::from).collect());
        }
    }
    for (id, variable) in (0u32..).zip(&built.variables) {
        let (ours, theirs) = (&variables[&VariableId(id)], dump.variable(&variable.path, "after")?);
        let found = match variable.table.and_then(|table| touched.get(&(table as usize))) {
            Some(rows) => {
                let width = variable.shape.iter().product::<u64>() as usize;
                let places: Vec<usize> = rows.iter().flat_map(|row| row * width..(row + 1) * width).collect();
                difference(places.iter().map(|&at| ours[at]), &places.iter().map(|&at| theirs[at]).collect::<Vec<_>>())
            }
            None => difference(ours.iter().copied(), &theirs),
        };
        report.push((variable.path.clone(), found));
    }
    for (name, found) in &report {
        println!("{name:<28} {found:.1e}{}", if *found > TOLERANCE { "   differs" } else { "" });
    }
    Ok(report.iter().all(|(_, found)| *found <= TOLERANCE))
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [spec, dump] = args.as_slice() else {
        eprintln!("usage: same_function SPEC DUMP.npz");
        return ExitCode::from(2);
    };
    match compare(spec, dump) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("not the same function: a difference above {TOLERANCE:.0e}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
