//! Training.

use crate::batch::{self, Assemblers, Batch};
use crate::checkpoint::{Folder, Generation, Progress, Purpose, Which};
use crate::data::planted::PlantedRows;
use crate::data::{Part, Rows};
use crate::drawn::Popularity;
use crate::engine::{Engine, Loaded, StepNumbers};
use crate::failure::Failure;
use crate::json::number;
use crate::metrics::{Figures, Scores, measure};
use crate::model::Model;
use crate::progress::{self, Meter};
use crate::remarks::{Extent, remarks};
use crate::report::{ROWS, Report, figures_json, print_report, report};
use crate::score::{Beside, Scored, score, score_by, settled_spool};
use crate::spool::{Spool, Window};
use crate::stored::Stored;
use crate::transform::{Fitted, Transformer};
use recc_abi::Program;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::Instant;

/// Options of `train`.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrainOptions {
    pub(crate) train: Vec<String>,
    pub(crate) valid: Vec<String>,
    pub(crate) test: Vec<String>,
    pub(crate) out: PathBuf,
    pub(crate) epochs: Option<u32>,
    pub(crate) threads: usize,
    pub(crate) seed: Option<u64>,
    pub(crate) resume: Option<PathBuf>,
    /// A state whose parameters are taken over where they fit.
    pub(crate) warm_start: Option<PathBuf>,
    pub(crate) limit: Option<u64>,
    pub(crate) quiet: bool,
}

impl TrainOptions {
    /// The files of a part; rows that are left out one by one come from the training files.
    fn paths(&self, program: &Program, part: Part) -> &[String] {
        match part {
            Part::Train => &self.train,
            _ if program.data.leave_one_out => &self.train,
            Part::Valid => &self.valid,
            Part::Test => &self.test,
        }
    }
}

pub(crate) fn pool(threads: usize) -> Result<rayon::ThreadPool, Failure> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .build()
        .map_err(|error| Failure::input(format!("cannot start {threads} threads: {error}")))
}

/// Where rows come from: named files, those of the spec, or drawn ones.
pub(crate) fn open_rows(program: &Program, named: &[String], part: Part, limit: Option<u64>) -> Result<Option<Rows>, Failure> {
    let spec = &program.data;
    let defaults = match part {
        Part::Train => &spec.train,
        Part::Valid | Part::Test if spec.leave_one_out => &spec.train,
        Part::Valid => &spec.valid,
        Part::Test => &spec.test,
    };
    let paths = if named.is_empty() { defaults } else { named };
    if !paths.is_empty() {
        return Rows::open_part(paths, spec, part, limit).map(Some);
    }
    Ok(spec.synthetic.as_ref().map(|planted| Rows::drawn(Box::new(PlantedRows::new(&program.columns, planted, part)), limit)))
}

/// The quantiles that conditions compare with: column, share of the rows, and the least value that this share does not exceed.
fn learn_quantiles(columns: &[recc_abi::Column], spool: &Spool, layout: &[usize]) -> Result<Vec<(u32, f64, f32)>, Failure> {
    let mut wanted: Vec<(u32, f64)> = columns
        .iter()
        .filter_map(|column| if let recc_abi::ColumnKind::Flag { predicate } = &column.kind { Some(predicate.quantiles()) } else { None })
        .flatten()
        .collect();
    wanted.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    wanted.dedup();
    let mut found = Vec::new();
    for of_column in wanted.chunk_by(|a, b| a.0 == b.0) {
        let mut values: Vec<f32> = spool.words(layout[of_column[0].0 as usize])?.into_iter().map(f32::from_bits).collect();
        values.sort_unstable_by(f32::total_cmp);
        for &(column, share) in of_column {
            let at = ((share * values.len() as f64).ceil() as usize).clamp(1, values.len());
            found.push((column, share, values[at - 1]));
        }
    }
    Ok(found)
}

/// A figure gains if it passes the best by more than noise.
fn gains(value: f64, best: Option<f64>) -> bool {
    !value.is_nan() && best.is_none_or(|best| value > best + 1e-6)
}

/// One training run.
struct Run<'r, 'p> {
    loaded: Loaded<'p>,
    options: &'r TrainOptions,
    folder: Folder,
    model: Model<'p>,
    spool: Spool,
    valid: Option<Spool>,
    /// How often rows are targets, where the model asks.
    popularity: BTreeMap<u32, Popularity>,
    progress: Progress,
    epochs: Vec<Value>,
}

/// Trains, and evaluates the best state on the test rows. Gives the JSON of `--json`.
pub(crate) fn train<'p>(
    loaded: Loaded<'p>,
    options: &TrainOptions,
    pool: &'p rayon::ThreadPool,
    say: &mut dyn FnMut(&str),
) -> Result<Value, Failure> {
    let started = Instant::now();
    let mut run = Run::prepare(loaded, options, pool, say)?;
    let mut engine = loaded.engine(pool)?;
    run.model.fill_constants(&mut engine);
    if let Some(name) = crate::device::name(loaded.program, loaded.code.bytes())? {
        say(&format!("computed by {name}"));
    }
    let epochs = options.epochs.unwrap_or(loaded.program.train.epochs);
    if run.progress.epoch > 0 && (run.progress.stopped || run.progress.epoch >= epochs) {
        let why = if run.progress.stopped { "stopped without gain" } else { "had all its epochs" };
        say(&format!("nothing to train: the run {why} at epoch {}", run.progress.epoch));
    }
    while run.progress.epoch < epochs && !run.progress.stopped {
        run.epoch(&mut engine, pool, epochs, say)?;
    }
    // Its memory is free for the scoring of the best state.
    drop(engine);
    run.finish(pool, started, say)
}

impl<'r, 'p> Run<'r, 'p> {
    fn prepare(
        loaded: Loaded<'p>,
        options: &'r TrainOptions,
        pool: &rayon::ThreadPool,
        say: &mut dyn FnMut(&str),
    ) -> Result<Self, Failure> {
        let program = loaded.program;
        let resumed = match &options.resume {
            Some(path) => {
                let generation = crate::checkpoint::open(path, Which::Last)?;
                generation.verify(program, Purpose::Resume)?;
                Some(generation)
            }
            None => None,
        };
        if program.data.leave_one_out && !(options.valid.is_empty() && options.test.is_empty()) {
            return Err(Failure::usage(
                "the spec takes the rows for validation and test from those of --train (`split: leave_one_out`)\nhelp: leave --valid and --test out",
            ));
        }
        let warm =
            options.warm_start.as_deref().map(|path| crate::checkpoint::open(path, Which::Best).map(|from| (path, from))).transpose()?;
        let folder = Folder::create(&options.out)?;
        if options.resume.is_none() && folder.holds_state() {
            let message = format!("{}: holds a checkpoint already", options.out.display());
            return Err(Failure::usage(format!(
                "{message}\nhelp: go on with `--resume {}`, or give another folder to --out",
                options.out.display()
            )));
        }
        if let Some(path) = &options.resume {
            folder.take_over(path)?;
        }
        let Some(mut rows) = open_rows(program, &options.train, Part::Train, options.limit)? else {
            return Err(Failure::usage(
                "there is no training data\nhelp: name files with --train (`recc run spec.rec -- --train …`), or in the spec: `data { train: \"…\" }`",
            ));
        };
        let meter = Meter::rows("reading", options.quiet);
        let mut transformer = match &resumed {
            Some(generation) => Transformer::fitted(&program.columns, &rows, generation.fitted(program)?)?,
            None => Transformer::learning(&program.columns, &rows)?,
        };
        let bags = Model::bag_words(program, &transformer.layout);
        let mut extent = Extent::default();
        let spool = Spool::write(folder.path(), &mut rows, &mut transformer, bags, Some(&mut extent), &mut |rows| meter.set(rows))?;
        meter.finish();
        if spool.rows == 0 {
            let help = match program.data.leave_one_out {
                true => "`leave_one_out` keeps two rows of each group back: give groups of four rows or more",
                false => "give a file with rows",
            };
            return Err(Failure::input(format!("{}: there are no rows to train on\nhelp: {help}", rows.place())));
        }
        let layout = std::mem::take(&mut transformer.layout);
        let is_sequence = |label: u32| program.columns[label as usize].kind.has_entries();
        for prediction in program.predictions.iter().filter(|own| own.ranking().is_some() && is_sequence(own.label)) {
            // How many steps a row has is the third word of its part.
            if !spool.words(layout[prediction.label as usize] + 2)?.iter().any(|steps| *steps > 1) {
                let name = &program.columns[prediction.label as usize].name;
                return Err(Failure::input(format!(
                    "{}: no sequence of `{name}` has two steps, so that nothing comes next\nhelp: give longer ones; `leave_one_out` keeps two rows of each group back",
                    rows.place()
                )));
            }
        }
        let fitted = match resumed {
            Some(_) => std::mem::take(&mut transformer.fitted),
            None => {
                let mut fitted = transformer.finish();
                fitted.quantiles = learn_quantiles(&program.columns, &spool, &layout)?;
                fitted
            }
        };
        let mut model = Model::new(program, fitted, true)?.with_conditions()?;
        let seed = options.seed.unwrap_or(program.train.seed);
        let mut progress = Progress { seed, scale: 1.0, rows: spool.rows as u64, data: spool.hash, ..Progress::default() };
        match &resumed {
            Some(generation) => {
                progress = resume(generation, &mut model, options, &spool)?;
            }
            None => model.initialise(seed, pool),
        }
        if resumed.is_none() {
            // Also where nothing else is said: they are about the data, and not about progress.
            remarks(program, &model.fitted, &extent, &layout).iter().for_each(|remark| progress::say(&format!("warning: {remark}")));
        }
        if let Some((path, from)) = &warm {
            let kept = crate::warm::start(&mut model, from)?;
            say(&kept_text(path, &kept));
        }
        let valid = match open_rows(program, options.paths(program, Part::Valid), Part::Valid, options.limit)? {
            Some(mut rows) => Some(settled_spool(&model, &mut rows, folder.path(), Beside::Labels)?),
            None => None,
        };
        if valid.is_none() && (program.train.stop.is_some() || program.train.plateau.is_some()) {
            say("no validation data: `stop` and `rate` have nothing to watch, and the last state is the best");
        }
        say(&format!(
            "{} rows, {} parameters{}",
            spool.rows,
            model.parameter_count(),
            valid.as_ref().map(|valid| format!(", {} rows to validate", valid.rows)).unwrap_or_default()
        ));
        let mut run = Run { loaded, options, folder, model, spool, valid, popularity: BTreeMap::new(), progress, epochs: Vec::new() };
        run.popularity = batch::popularity(run.model.layout(&run.fitted()), &program.step, Some(&run.spool))?;
        Ok(run)
    }

    fn epoch(
        &mut self,
        engine: &mut Engine<'p>,
        pool: &'p rayon::ThreadPool,
        epochs: u32,
        say: &mut dyn FnMut(&str),
    ) -> Result<(), Failure> {
        let started = Instant::now();
        let program = self.loaded.program;
        self.progress.epoch += 1;
        let epoch = self.progress.epoch;
        let loss = self.steps(engine, pool, epochs)?;
        let mut entry = json!({"epoch": epoch, "train_loss": number(loss)});
        let mut line = format!("epoch {epoch:>3}  loss {loss:.5}");
        let (mut best, mut notes) = (true, Vec::new());
        if let Some(valid) = &self.valid {
            // A weight that cannot be stored loses no epoch.
            let stored = Stored::new(&program.score, &self.model.values, pool);
            if stored.is_err() {
                self.folder.save(&self.model, &self.progress, false)?;
            }
            let stored = stored?;
            let mut scorer = Engine::new(program, &program.score, stored, self.loaded.code, pool)?;
            scorer.share(engine);
            let scored = score_by(scorer, &self.model, valid, pool, &[])?;
            let report = report(program, &scored)?;
            entry["valid"] = Value::Object(figures_json(report.whole.of(program, None)));
            let several = report.whole.of(program, None).count() > 1;
            for (name, figures) in report.whole.of(program, None) {
                let prefix = if several { format!("{name} ") } else { String::new() };
                figures
                    .iter()
                    .filter(|(name, _)| name != ROWS)
                    .for_each(|(name, value)| line.push_str(&format!("  {prefix}{name} {value:.5}")));
            }
            self.check_watched(&report)?;
            best = self.watch(&report, &mut notes);
        } else {
            self.progress.best_epoch = epoch;
        }
        if best {
            self.progress.best_epoch = epoch;
        }
        let seconds = started.elapsed().as_secs_f64();
        entry["seconds"] = number(seconds);
        self.epochs.push(entry);
        say(&format!("{line}  {seconds:.1} s"));
        notes.iter().for_each(|note| say(note));
        self.folder.save(&self.model, &self.progress, best)
    }

    /// What was learned, as the training rows are written: those of a run that goes on were written by what an earlier one learned.
    fn fitted(&self) -> Fitted {
        if self.options.resume.is_some() { self.model.fitted.settled() } else { self.model.fitted.clone() }
    }

    /// All steps of an epoch: the next batch is made while this one is computed.
    fn steps(&mut self, engine: &mut Engine<'p>, pool: &rayon::ThreadPool, epochs: u32) -> Result<f64, Failure> {
        let program = self.loaded.program;
        let batch_rows = program.train.batch as usize;
        let (seed, epoch) = (self.progress.seed, self.progress.epoch);
        let steps = self.spool.rows.div_ceil(batch_rows) as u64;
        let meter = Meter::steps(&format!("epoch {epoch}/{epochs}"), steps, self.options.quiet);
        let fitted = self.fitted();
        let (spool, model, progress) = (&self.spool, &self.model, &mut self.progress);
        let mut layout = model.layout(&fitted);
        layout.popularity = &self.popularity;
        layout.draw = Some(crate::random::mix64(crate::random::mix64(seed) ^ u64::from(epoch)));
        let mut assemblers = Assemblers::new(layout, &program.step, program.device.is_some(), pool);
        let (mut total, mut count) = (0.0, 0usize);
        // The batch whose loss is not finite.
        let mut astray = None;
        let ran = std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(2);
            let loader = scope.spawn(move || {
                spool.epoch(seed, epoch, program.train.shuffle, batch_rows, &mut |window: &Window, order| {
                    for several in order.chunks(batch_rows * assemblers.count()) {
                        let work: Vec<(&Window, &[u32])> = several.chunks(batch_rows).map(|rows| (window, rows)).collect();
                        if !assemblers.assemble(&work).into_iter().all(|batch| sender.send(batch).is_ok()) {
                            // The other side stopped, and says why.
                            return Err(Failure::internal("load", "nobody reads"));
                        }
                    }
                    Ok(())
                })
            });
            // The next batch, if it is made already: its way to a device begins while this step is computed.
            let mut next: Option<Batch> = None;
            while let Some(batch) = next.take().or_else(|| receiver.recv().ok()) {
                progress.step += 1;
                let factors = program.train.schedules.iter().map(|schedule| schedule.factor(progress.step, steps, epochs));
                let scale = factors.fold(progress.scale, |scale, factor| scale * factor);
                let numbers = StepNumbers { step: progress.step, scale, seed, epoch };
                next = engine.forward_ahead(&batch, &model.values, &numbers, &receiver)?;
                let loss = engine.output("loss", 1).first().copied().map_or(f64::NAN, f64::from);
                if !loss.is_finite() {
                    // What is wrong is said below, when the parameters are here.
                    astray = Some(count / batch_rows + 1);
                    return Ok(());
                }
                engine.update(&batch, &model.values)?;
                total += loss * batch.rows as f64;
                count += batch.rows;
                meter.step(loss);
            }
            loader.join().map_err(|_| Failure::internal("load", "the loader ended early"))?
        });
        ran?;
        engine.bring_back(&mut self.model.values)?;
        if let Some(place) = astray {
            return Err(not_finite(&self.model, epoch, place));
        }
        meter.finish();
        Ok(total / count.max(1) as f64)
    }

    /// A figure that decides over the rate, the end or the best state must be one.
    fn check_watched(&self, report: &Report) -> Result<(), Failure> {
        let train = &self.loaded.program.train;
        let monitors = [train.plateau.as_ref().map(|plateau| &plateau.on), train.stop.as_ref().map(|stop| &stop.on), Some(&train.best)];
        let undefined = monitors.into_iter().flatten().find(|monitor| report.watched(monitor).is_nan());
        let Some(monitor) = undefined else { return Ok(()) };
        let metric = monitor.metric.as_ref().map_or("loss", |metric| metric.name.as_str());
        let prediction = self.loaded.program.predictions.get(monitor.prediction as usize).map_or("", |prediction| prediction.name.as_str());
        Err(Failure::input(format!(
            "{metric}({prediction}) of the validation data is not defined, and training goes by it\nhelp: validate on rows with both labels, or watch `logloss`"
        )))
    }

    /// Watched metrics after an epoch: rate, end, and whether this is the best state.
    fn watch(&mut self, report: &Report, notes: &mut Vec<String>) -> bool {
        let train = &self.loaded.program.train;
        let progress = &mut self.progress;
        if let Some(plateau) = &train.plateau {
            let value = report.watched(&plateau.on);
            if gains(value, progress.rate_best) {
                progress.rate_best = Some(value);
                progress.rate_waits = 0;
            } else {
                progress.rate_waits += 1;
                if progress.rate_waits > plateau.patience && progress.scale > plateau.least {
                    progress.scale = (progress.scale * plateau.factor).max(plateau.least);
                    progress.rate_waits = 0;
                    notes.push(format!("no gain: learning rates are now {} of the first", progress.scale));
                }
            }
        }
        if let Some(stop) = &train.stop {
            let value = report.watched(&stop.on);
            if gains(value, progress.stop_best) {
                progress.stop_best = Some(value);
                progress.stop_waits = 0;
            } else {
                progress.stop_waits += 1;
                if progress.stop_waits >= stop.patience {
                    progress.stopped = true;
                    let epochs = if stop.patience == 1 { "1 epoch".to_owned() } else { format!("{} epochs", stop.patience) };
                    notes.push(format!("no gain in {epochs}: this is the end"));
                }
            }
        }
        let value = report.watched(&train.best);
        let best = gains(value, progress.best);
        if best {
            progress.best = Some(value);
        }
        best
    }

    fn finish(mut self, pool: &'p rayon::ThreadPool, started: Instant, say: &mut dyn FnMut(&str)) -> Result<Value, Failure> {
        let program = self.loaded.program;
        let test = open_rows(program, self.options.paths(program, Part::Test), Part::Test, self.options.limit)?;
        let parameters = self.model.parameter_count();
        let mut result = json!({"spec": program.name, "rows": self.spool.rows, "train_rows": self.spool.rows, "parameters": parameters});
        self.folder.read(Which::Best)?.load_values(&mut self.model, &mut |_, _| Ok(()))?;
        if let Some(mut rows) = test {
            let spool = settled_spool(&self.model, &mut rows, self.folder.path(), Beside::Labels)?;
            let stored = Stored::new(&program.score, &self.model.values, pool)?;
            let scored = score(self.loaded, &self.model, stored, &spool, pool)?;
            let report = report(program, &scored)?;
            report.add_to(program, &mut result);
            say("");
            say(&format!("best epoch {}; test, {} rows:", self.progress.best_epoch, report.rows));
            print_report(program, &report, say);
            if let Some(best) = best_reachable(program, self.options, &scored)? {
                for (name, value) in &best {
                    say(&format!("  the best {name} the planted truth allows: {value:.5}"));
                }
                result["planted_best"] = Value::Object(best.into_iter().map(|(name, value)| (name, number(value))).collect());
            }
        }
        result["epochs"] = Value::Array(self.epochs);
        result["best_epoch"] = json!(self.progress.best_epoch);
        result["seconds"] = number(started.elapsed().as_secs_f64());
        result["threads"] = json!(self.options.threads);
        result["seed"] = json!(self.progress.seed);
        Ok(result)
    }
}

/// What a warm start kept, for people.
fn kept_text(path: &Path, kept: &crate::warm::Kept) -> String {
    let mut text = format!("warm start from {}: {} of {} parameters kept", path.display(), kept.parameters, kept.all);
    let rows = kept.rows.iter().map(|(path, rows, all)| format!("\n  {path}: {rows} of {all} rows"));
    text.extend(rows);
    text
}

fn not_finite(model: &Model<'_>, epoch: u32, batch: usize) -> Failure {
    let text = match (model.first_not_finite(), model.largest()) {
        (Some((path, at)), _) => {
            format!("the first parameter that is not finite is `{path}` (element {at}), which the batch before made so")
        }
        (None, Some((path, at, value))) => {
            format!(
                "all parameters are finite; the largest value is {value:e}, in `{path}` (element {at}), and a row of this batch overflows"
            )
        }
        (None, None) => "the model has no parameters: a row of this batch overflows".to_owned(),
    };
    Failure::input(format!(
        "epoch {epoch}, batch {batch}: the loss is not a finite number; {text}\nhelp: lower the learning rate, clip the gradient (`clip: norm(10)`), or scale raw numbers (`log1p`, `standardize`); `log` and `sqrt` in the model need positive numbers. What was saved before is whole"
    ))
}

fn resume(generation: &Generation, model: &mut Model<'_>, options: &TrainOptions, spool: &Spool) -> Result<Progress, Failure> {
    generation.load(model)?;
    let progress = generation.progress()?;
    if progress.rows != spool.rows as u64 {
        return Err(Failure::input(format!(
            "the training data has {} rows, and the checkpoint was made from {}\nhelp: resume with the same files",
            spool.rows, progress.rows
        )));
    }
    if progress.data != spool.hash {
        return Err(Failure::input(
            "the training data has as many rows as the checkpoint was made from, but other rows, or in another order\nhelp: resume with the same files in the same order",
        ));
    }
    if options.seed.is_some_and(|seed| seed != progress.seed) {
        return Err(Failure::usage(format!(
            "the checkpoint was made with seed {}\nhelp: leave --seed out to go on with it",
            progress.seed
        )));
    }
    Ok(progress)
}

/// The metrics the planted probabilities themselves reach on the drawn test rows.
fn best_reachable(program: &Program, options: &TrainOptions, scored: &Scored) -> Result<Option<Figures>, Failure> {
    let Some(planted) = program.data.synthetic.as_ref().filter(|_| options.test.is_empty() && program.data.test.is_empty()) else {
        return Ok(None);
    };
    let reader = PlantedRows::new(&program.columns, planted, Part::Test);
    let truth = reader.truth();
    let mut rows = Rows::drawn(Box::new(reader), options.limit);
    rows.for_each_chunk(|_, _| Ok(()))?;
    let logits: Vec<f32> = truth.lock().map(|truth| truth.iter().map(|&logit| logit as f32).collect()).unwrap_or_default();
    let Some((prediction, scores)) = program.predictions.iter().zip(&scored.scores).find(|(own, _)| own.is_logit() && own.rows.is_none())
    else {
        return Ok(None);
    };
    let ideal = Scores { links: logits, labels: scores.labels.clone() };
    let figures = measure(&ideal, prediction, &program.metrics, &scored.keys)?;
    Ok(Some(figures.into_iter().filter(|(name, _)| name == "auc" || name == "logloss").collect()))
}
