//! Shows that a model of `benches/models/` is the same function as its PyTorch peer: `cargo run --release -p recc-tests --example same_function -- SPEC DUMP.npz`.
//!
//! A dump holds weights, ten batches, the probabilities of the first one, and the losses and weights of ten steps of plain SGD with
//! rate 0.1. The compiled model starts from those weights, scores and trains on those batches; each figure that it gives is compared with
//! the dump's, relative to the largest of its tensor. Of a sequence model it is the last step's query that is compared, by its products with the dump's candidates.

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

/// Variables of a model and of its peer: `#` is a number, `%` twice that number.
const PEERS: &[(&str, &str, Form)] = &[
    ("deepfm.wide.linear", "net.lin", Form::Linear),
    ("deepfm.deep.mlp.linear[#]", "net.mlp.%", Form::Linear),
    ("deepfm.deep.linear", "net.mlp.6", Form::Linear),
    ("dcnv2.c.cross.linear[#]", "net.cross.#", Form::Linear),
    ("dcnv2.h.mlp.linear[#]", "net.mlp.%", Form::Linear),
    ("dcnv2.click.linear", "net.out", Form::Linear),
    ("dlrm.bottom.mlp.linear[#]", "net.bot.%", Form::Linear),
    ("dlrm.top.mlp.linear[#]", "net.top.%", Form::Linear),
    ("dlrm.top.linear", "net.top.4", Form::Linear),
    ("autoint.interacting_layer[#].linear[0]", "net.qkvr.#", Form::PartOfLinear(0, 4)),
    ("autoint.interacting_layer[#].linear[1]", "net.qkvr.#", Form::PartOfLinear(1, 4)),
    ("autoint.interacting_layer[#].linear[2]", "net.qkvr.#", Form::PartOfLinear(2, 4)),
    ("autoint.interacting_layer[#].linear[3]", "net.qkvr.#", Form::PartOfLinear(3, 4)),
    ("autoint.deep.mlp.linear[#]", "net.mlp.%", Form::Linear),
    ("autoint.deep.linear", "net.mlp.4", Form::Linear),
    ("autoint.wide.linear", "net.out", Form::Linear),
    ("wukong.level[#].y", "net.L.#.y", Form::Same),
    ("wukong.level[#].mix", "net.L.#.lcb.weight", Form::Same),
    ("wukong.level[#].skip", "net.L.#.res.weight", Form::Same),
    ("wukong.level[#].layer_norm[0].scale", "net.L.#.ln1.weight", Form::Same),
    ("wukong.level[#].layer_norm[0].shift", "net.L.#.ln1.bias", Form::Same),
    ("wukong.level[#].layer_norm[1].scale", "net.L.#.ln2.weight", Form::Same),
    ("wukong.level[#].layer_norm[1].shift", "net.L.#.ln2.bias", Form::Same),
    ("wukong.level[#].mlp.linear", "net.L.#.mlp.0", Form::Linear),
    ("wukong.level[#].linear", "net.L.#.mlp.2", Form::Linear),
    ("wukong.top.mlp.linear", "net.top.0", Form::Linear),
    ("wukong.top.linear", "net.top.2", Form::Linear),
    ("mmoe.experts.mlp[#].linear[0]", "net.e1", Form::NumberedPartOfLinear(4)),
    ("mmoe.experts.mlp[#].linear[1].w", "net.w2", Form::NumberedPart(4)),
    ("mmoe.experts.mlp[#].linear[1].b", "net.b2", Form::NumberedPart(4)),
    ("mmoe.gates.linear[#]", "net.gate", Form::NumberedPartOfLinear(2)),
    ("mmoe.click.mlp.linear", "net.tower.0.0", Form::Linear),
    ("mmoe.click.linear", "net.tower.0.2", Form::Linear),
    ("mmoe.stay.mlp.linear", "net.tower.1.0", Form::Linear),
    ("mmoe.stay.linear", "net.tower.1.2", Form::Linear),
    ("hstu.h.positions.rows", "net.pos", Form::Padded),
    ("hstu.layer_of[#].by_place", "net.L.#.rab", Form::Backward),
    ("hstu.layer_of[#].layer_norm[0].scale", "net.L.#.ln1.weight", Form::Same),
    ("hstu.layer_of[#].layer_norm[0].shift", "net.L.#.ln1.bias", Form::Same),
    ("hstu.layer_of[#].layer_norm[1].scale", "net.L.#.ln2.weight", Form::Same),
    ("hstu.layer_of[#].layer_norm[1].shift", "net.L.#.ln2.bias", Form::Same),
    ("hstu.layer_of[#].linear[0]", "net.L.#.f1", Form::Linear),
    ("hstu.layer_of[#].linear[1]", "net.L.#.f2", Form::Linear),
];

/// How a variable stands in a dump.
#[derive(Clone, Copy)]
enum Form {
    /// As it is.
    Same,
    /// With a row behind, for the step of which nothing is predicted.
    Padded,
    /// From the last to the first, with a row in front for one step more, and rows behind for steps that are masked.
    Backward,
    /// Weights, which are the other's transposes, and a bias.
    Linear,
    /// The outputs of one of several layers of equal width, behind one another.
    PartOfLinear(usize, usize),
    /// The same, of so many layers: that of the number `#`.
    NumberedPartOfLinear(usize),
    /// One of so many equal parts along the first axis: that of the number `#`.
    NumberedPart(usize),
}

/// Where one of our variables stands in a dump.
struct Source {
    name: String,
    /// Which of how many equal parts of its elements.
    part: (usize, usize),
    kind: SourceKind,
}

enum SourceKind {
    Same,
    /// With a row of zeros behind.
    Padded,
    /// From the last to the first, with a row of zeros in front and as many behind.
    Backward,
    /// With a row of zeros in front: ours is that of unknown items.
    Items,
    Transposed,
    /// A table of all fields, of which ours uses the rows of its own ids.
    Table,
}

/// The number that stands for `#`, if a path has the form of a pattern; 0 where there is none.
fn number_in(pattern: &str, path: &str) -> Option<usize> {
    match pattern.split_once('#') {
        None => (pattern == path).then_some(0),
        Some((before, behind)) => path.strip_prefix(before)?.strip_suffix(behind)?.parse().ok(),
    }
}

fn source(path: &str) -> Result<Source, Box<dyn Error>> {
    let (layer, part) = path.rsplit_once('.').unwrap_or((path, ""));
    for &(ours, theirs, form) in PEERS {
        let is_layer = matches!(form, Form::Linear | Form::PartOfLinear(..) | Form::NumberedPartOfLinear(_));
        let Some(number) = number_in(ours, if is_layer { layer } else { path }) else { continue };
        let name = theirs.replace('#', &number.to_string()).replace('%', &(2 * number).to_string());
        let own = match form {
            Form::Same | Form::Padded | Form::Backward | Form::Linear => (0, 1),
            Form::PartOfLinear(at, of) => (at, of),
            Form::NumberedPartOfLinear(of) | Form::NumberedPart(of) => (number, of),
        };
        let (name, kind) = match (is_layer, part) {
            (false, _) if matches!(form, Form::Padded) => (name, SourceKind::Padded),
            (false, _) if matches!(form, Form::Backward) => (name, SourceKind::Backward),
            (false, _) => (name, SourceKind::Same),
            (true, "w") => (format!("{name}.weight"), SourceKind::Transposed),
            (true, _) => (format!("{name}.bias"), SourceKind::Same),
        };
        return Ok(Source { name, part: own, kind });
    }
    let plain = |name: &str, kind| Ok(Source { name: name.to_owned(), part: (0, 1), kind });
    match path.split_once('.').map_or(path, |(_, name)| name) {
        "e" | "m" => plain("emb.t.0", SourceKind::Table),
        "w" | "wm" => plain("first.t.0", SourceKind::Table),
        "v" => plain("net.de.v", SourceKind::Same),
        "items" => plain("emb.0", SourceKind::Items),
        _ => Err(format!("`{path}` has no known peer").into()),
    }
}

/// Members of an ensemble lie in one network of the peer, and their rows side by side in one table.
const MEMBERS: [&str; 3] = ["deepfm", "dcnv2", "dlrm"];

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
    fn variable(&mut self, spec: &Spec, path: &str, when: &str) -> Result<Vec<f64>, Box<dyn Error>> {
        let Source { name, part: (at, of), kind } = source(path)?;
        let member = MEMBERS.iter().position(|member| spec.name == "cetnet" && path.starts_with(&format!("{member}.")));
        let name = member.map_or(name.clone(), |member| name.replace("net.", &format!("net.m.{member}.")));
        let (shape, data) = self.array(&format!("{when}/{name}"))?;
        let size = data.len() / of;
        let own = &data[at * size..(at + 1) * size];
        let zeros = vec![0.0; shape[1..].iter().product()];
        Ok(match (kind, member) {
            (SourceKind::Padded, _) => [own, &zeros].concat(),
            (SourceKind::Backward, _) => {
                let backward = own.iter().rev().copied();
                std::iter::once(0.0).chain(backward).chain(own.iter().map(|_| 0.0)).collect()
            }
            (SourceKind::Items, _) => [&zeros, own].concat(),
            (SourceKind::Same, _) | (SourceKind::Table, None) => own.to_vec(),
            (SourceKind::Transposed, _) => {
                let (outputs, inputs) = (shape[0] / of, shape[1]);
                (0..size).map(|at| own[at % outputs * inputs + at / outputs]).collect()
            }
            (SourceKind::Table, Some(member)) => {
                let width = shape[1] / MEMBERS.len();
                own.chunks_exact(shape[1]).flat_map(|row| row[member * width..(member + 1) * width].to_vec()).collect()
            }
        })
    }

    /// A batch as the compiled model takes it.
    fn batch(&mut self, at: usize, spec: &Spec, built: &Built) -> Result<Data, Box<dyn Error>> {
        let mut data = if is_of_sequences(spec) { self.sequences(at, spec)? } else { self.examples(at, spec)? };
        for (table, own) in (0u32..).zip(&built.tables) {
            for column in own.members.iter().flat_map(|member| &member.columns) {
                data.row_bases.insert((TableId(table), *column), 0);
            }
        }
        group_rows(built, &mut data);
        Ok(data)
    }

    /// Sequences, with what comes last, and the rows that are drawn for all of them. Row 0 is no item of the peer's.
    fn sequences(&mut self, at: usize, spec: &Spec) -> Result<Data, Box<dyn Error>> {
        let (shape, items) = self.array(&format!("b{at}/seq"))?;
        let (_, drawn) = self.array(&format!("b{at}/neg"))?;
        let row = |&item: &f64| item as usize + 1;
        let sequences: Vec<Vec<usize>> = items.chunks_exact(shape[1]).map(|items| items.iter().map(row).collect()).collect();
        let mut data = Data { rows: shape[0], ..Data::default() };
        for (place, column) in (0u32..).zip(&spec.columns) {
            if let recc_abi::ColumnKind::Drawn { .. } = column.kind {
                let mut bags = vec![Vec::new(); data.rows];
                bags[0] = drawn.iter().map(row).collect();
                data.bags.insert(place, bags);
            } else {
                data.bags.insert(place, sequences.clone());
            }
        }
        Ok(data)
    }

    /// Examples with numbers and ids, which count through all fields, so that no table has an offset.
    fn examples(&mut self, at: usize, spec: &Spec) -> Result<Data, Box<dyn Error>> {
        let (_, x) = self.array(&format!("b{at}/x"))?;
        let (shape, ids) = self.array(&format!("b{at}/ids"))?;
        let (_, y) = self.array(&format!("b{at}/y"))?;
        let [numbers, ones, many] = WIDTHS;
        let rows = shape[0];
        let mut data = Data { rows, ..Data::default() };
        let mut next = (0, 0, 0);
        for (place, column) in (0u32..).zip(&spec.columns) {
            match &column.kind {
                recc_abi::ColumnKind::Label { .. } => {
                    data.numbers.insert(place, y.iter().skip(next.2).step_by(2).copied().collect());
                    next.2 += 1;
                }
                recc_abi::ColumnKind::Number(_) => {
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
        Ok(data)
    }

    /// The products of the last steps' queries with the candidates' rows, against those of the dump: `queries` are ours.
    fn candidates(&mut self, queries: &[f32], items: &[f64]) -> Result<Vec<f64>, Box<dyn Error>> {
        let (shape, candidates) = self.array("b0/cand")?;
        let width = queries.len() / shape[0];
        let product = |(at, item): (usize, &f64)| {
            let query = &queries[at / shape[1] * width..][..width];
            let row = &items[(*item as usize + 1) * width..][..width];
            query.iter().zip(row).map(|(a, b)| f64::from(*a) * b).sum()
        };
        Ok(candidates.iter().enumerate().map(product).collect())
    }
}

/// Whether what is predicted is the next step of a sequence.
fn is_of_sequences(spec: &Spec) -> bool {
    spec.predictions.iter().any(|own| own.ranking().is_some())
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
        variables.insert(VariableId(id), dump.variable(&spec, &variable.path, "w")?);
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
            let mut shown = data.clone();
            if is_of_sequences(&spec) {
                // The last one is what comes next.
                shown.bags.values_mut().flatten().for_each(|items| items.truncate(items.len().saturating_sub(1)));
            }
            let results = run(&built.score_plan.plan, &score, &shown, &bags).results;
            if let Some(queries) = results.get("next.query") {
                let items =
                    built.variables.iter().position(|own| own.path.ends_with(".items")).map(|at| &variables[&VariableId(at as u32)]);
                let products = dump.candidates(queries, items.ok_or("no table of items")?)?;
                report.push(("candidates".to_owned(), difference(products, &out)));
            }
            for (at, name) in ["click", "stay"].into_iter().enumerate().filter(|(_, name)| results.contains_key(*name)) {
                let theirs: Vec<f64> = out.iter().skip(at).step_by(out.len() / data.rows).copied().collect();
                report.push((name.to_owned(), difference(results[name].iter().map(|&value| f64::from(value)), &theirs)));
            }
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
        let (ours, theirs) = (&variables[&VariableId(id)], dump.variable(&spec, &variable.path, "after")?);
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
