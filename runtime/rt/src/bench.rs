//! `bench`: the speed of steps on input drawn from the spec's features, ids by a Zipf law with exponent 1.05 spread over the rows.

use crate::batch::{self, Assemblers, Batch};
use crate::engine::Loaded;
use crate::engine::{Engine, StepNumbers};
use crate::failure::Failure;
use crate::model::Model;
use crate::profile::Profile;
use crate::random::{key, mix64, uniform};
use crate::spool::Window;
use crate::stored::Stored;
use crate::train::pool;
use crate::transform::Fitted;
use crate::vocab::Vocab;
use recc_abi::{Column, ColumnKind, Encoder, Program};
use serde_json::{Value, json};
use std::sync::mpsc::sync_channel;
use std::time::Instant;

/// Options of `bench`.
pub(crate) struct BenchOptions {
    pub(crate) train: bool,
    pub(crate) batch: usize,
    pub(crate) threads: usize,
    pub(crate) steps: u64,
    /// Sizes of the dictionaries, in the order of their features; or one for all.
    pub(crate) vocab: Vec<u64>,
    /// Whether to time each kernel.
    pub(crate) profile: bool,
}

/// Distinct batches that are visited in turn.
const BATCHES: usize = 8;
/// Steps before measuring begins.
const WARM: usize = 3;

pub(crate) fn bench(loaded: Loaded<'_>, options: &BenchOptions) -> Result<Value, Failure> {
    let started = Instant::now();
    let program = loaded.program;
    let pool = pool(options.threads)?;
    let mut fitted = Fitted::restored(dictionaries(program, &options.vocab)?, vec![(0.0, 1.0); program.columns.len()], Vec::new());
    fitted.drawn = true;
    let mut model = Model::new(program, fitted, options.train)?.with_conditions()?;
    model.initialise(program.train.seed, &pool);
    let plan = if options.train { &program.step } else { &program.score };
    let mut stored = Stored::default();
    for (at, values) in model.values.iter_mut().enumerate() {
        stored.take(plan, at, values, &pool)?;
    }
    let mut engine = Engine::new(program, plan, stored, loaded.code, &pool)?;
    model.fill_constants(&mut engine);
    let mut layout = model.layout(&model.fitted);
    let popularity = batch::popularity(layout, plan, None)?;
    layout.popularity = &popularity;
    let mut assemblers = Assemblers::new(layout, plan, program.device.is_some() && options.train, &pool);
    let windows: Vec<Window> = (0..BATCHES).map(|at| draw(&model, options.batch, at)).collect();
    let order: Vec<u32> = (0..options.batch as u32).collect();
    let start_ms = started.elapsed().as_secs_f64() * 1e3;
    let steps = WARM + options.steps as usize;
    let at_once = assemblers.count();
    let mut assembled = move |steps: std::ops::Range<usize>| {
        let work: Vec<(&Window, &[u32])> = steps.map(|step| (&windows[step % BATCHES], order.as_slice())).collect();
        assemblers.assemble(&work)
    };
    let numbers = |step: usize| StepNumbers { step: step as u64 + 1, scale: 1.0, seed: 1, epoch: 1 };
    let mut times = Vec::new();
    let mut took = |step: usize, begin: Instant| times.extend((step >= WARM).then(|| begin.elapsed().as_secs_f64() * 1e3));
    if program.device.is_some() && options.train {
        // As in training: this machine makes the next batch, and sends it, while the device computes.
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(2);
            scope.spawn(move || {
                (0..steps).step_by(at_once).all(|first| {
                    let batches = assembled(first..steps.min(first + at_once));
                    batches.into_iter().all(|batch| sender.send(batch).is_ok())
                })
            });
            let mut next: Option<Batch> = None;
            for step in 0..steps {
                if step == WARM && options.profile {
                    engine.profile(Profile::new(program.kernels.len()));
                }
                let begin = Instant::now();
                let Some(batch) = next.take().or_else(|| receiver.recv().ok()) else { break };
                next = engine.forward_ahead(&batch, &model.values, &numbers(step), &receiver)?;
                engine.update(&batch, &model.values)?;
                took(step, begin);
            }
            Ok(())
        })?;
    } else {
        for step in 0..steps {
            if step == WARM && options.profile {
                engine.profile(Profile::new(program.kernels.len()));
            }
            let begin = Instant::now();
            for batch in assembled(step..step + 1) {
                engine.run(&batch, &model.values, &numbers(step))?;
            }
            took(step, begin);
        }
    }
    let total: f64 = times.iter().sum();
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    let mean = total / times.len() as f64;
    let mut result = json!({
        "phase": if options.train { "train" } else { "score" }, "batch": options.batch, "threads": options.threads, "steps": options.steps,
        "samples_per_s": options.batch as f64 / mean * 1e3, "ms_per_step": mean, "p50": at(0.5), "p99": at(0.99),
        "peak_rss_bytes": peak_bytes(), "start_ms": start_ms,
    });
    if let Some(name) = crate::device::name(program, loaded.code.bytes())? {
        result["device"] = json!(name);
    }
    if let Some(profile) = engine.profiled() {
        result["profile"] = profile.report(&program.kernels, (options.steps, mean * options.threads as f64), program.device.is_none());
    }
    Ok(result)
}

/// Dictionaries of known sizes, whose words nobody asks for.
fn dictionaries(program: &Program, sizes: &[u64]) -> Result<Vec<Vocab>, Failure> {
    let is_learned = |column: &&Column| matches!(column.kind.numbering(), Some(Encoder::Vocab { .. }));
    let learned = program.columns.iter().filter(is_learned).count();
    if sizes.len() != 1 && sizes.len() != learned {
        let message = format!("--vocab gives {} sizes, and the model has {learned} dictionaries", sizes.len());
        return Err(Failure::usage(format!("{message}\nhelp: give one size for all, or one for each in the order of `info`")));
    }
    let mut sizes = sizes.iter().cycle();
    let dictionary = |column: &Column| match is_learned(&column) {
        true => Vocab::unnamed(sizes.next().map_or(0, |&size| size as usize)),
        false => Vocab::default(),
    };
    Ok(program.columns.iter().map(dictionary).collect())
}

/// Peak memory of this process, as the system counts it.
pub(crate) fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()).and_then(|kb| kb.parse::<u64>().ok()).map_or(0, |kb| kb * 1024)
}

/// Rank of a Zipf law with exponent 1.05 over `n` ranks, by inverting its continuous form.
fn zipf(u: f64, n: u64) -> u64 {
    let exponent = -0.05;
    let top = ((n as f64 + 1.0).powf(exponent) - 1.0) * u + 1.0;
    (top.powf(1.0 / exponent) as u64 - 1).min(n - 1)
}

fn draw(model: &Model<'_>, rows: usize, batch: usize) -> Window {
    let mut window = Window::default();
    let columns = &model.program.columns;
    for row in 0..rows {
        for (at, column) in columns.iter().enumerate() {
            let place = key(batch as u64, &column.name);
            let u = uniform(place, row as u64);
            let count = model.fitted.numbered(columns, at).max(2) - 1;
            let id = |u: f64| (1 + mix64(zipf(u, count)) % count) as u32;
            match &column.kind {
                ColumnKind::Label { .. } => window.records.push(if u < 0.3 { 1f32 } else { 0.0 }.to_bits()),
                ColumnKind::Time => window.records.push(1_600_000_000),
                ColumnKind::Number(_) => window.records.push((u as f32).to_bits()),
                ColumnKind::Id { .. } => window.records.push(id(u)),
                ColumnKind::Key => window.records.extend([row as u32, 0]),
                ColumnKind::Flag { .. } | ColumnKind::Drawn { .. } => {}
                ColumnKind::Ids { .. } | ColumnKind::Numbers { .. } => {
                    let bag = matches!(column.kind, ColumnKind::Ids { ordered: false, .. });
                    let entries = column.kind.longest().unwrap_or(10).min(if bag { 10 } else { 200 }) as u32;
                    window.records.extend([window.bags.len() as u32, 0, entries, 0]);
                    if let ColumnKind::Numbers { times, .. } = &column.kind {
                        let number = |entry: u32| if *times { 1_600_000_000 + 60 * entry } else { (u as f32).to_bits() };
                        window.bags.extend((0..entries).map(number));
                        continue;
                    }
                    let own = |entry: u32| uniform(place ^ 0xba6, u64::from(entry) + u64::from(entries.max(16)) * row as u64);
                    window.bags.extend((0..entries).map(|entry| id(own(entry))));
                }
            }
        }
        // What is drawn for a row is another in each batch.
        window.rows.push((batch * rows + row) as u32);
    }
    window
}
