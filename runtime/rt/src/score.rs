//! Scoring: a state and rows for it, and what it gives for each.

use crate::activations::Activations;
use crate::batch::Assembler;
use crate::checkpoint::{Generation, Purpose};
use crate::data::{Part, Rows};
use crate::engine::{Engine, Loaded, StepNumbers};
use crate::failure::Failure;
use crate::metrics::Scores;
use crate::model::Model;
use crate::ranking::Candidates;
use crate::spool::Spool;
use crate::stored::Stored;
use crate::transform::Transformer;
use recc_abi::{InputSource, Inspected, MetricKind, Prediction, Program, Token};
use std::collections::BTreeSet;
use std::path::Path;

/// The columns that scoring reads: not labels, keys, weights of rows, or what only cohorts ask for.
fn scored_columns(program: &Program) -> BTreeSet<u32> {
    let mut read: BTreeSet<u32> = BTreeSet::new();
    for input in &program.score.inputs {
        match &input.source {
            InputSource::Numbers { columns } | InputSource::Ids { columns } => read.extend(columns),
            InputSource::Time { column }
            | InputSource::EntryBegin { column }
            | InputSource::Entries { column }
            | InputSource::EntryNumbers { column }
            | InputSource::EntryTimes { column } => {
                read.insert(*column);
            }
            _ => {}
        }
    }
    let parts = read.iter().filter_map(|at| match &program.columns[*at as usize].token {
        Token::Cross(parts) => Some(parts.clone()),
        Token::Column(_) | Token::Part { .. } | Token::Condition => None,
    });
    let parts: Vec<u32> = parts.flatten().collect();
    read.extend(parts);
    read
}

/// What is read of rows beside what scoring needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beside {
    Nothing,
    /// Labels, and all that metrics need.
    Labels,
    /// The column of a key.
    Key(u32),
}

/// A spool of rows transformed by what was learned.
pub(crate) fn settled_spool(model: &Model<'_>, rows: &mut Rows, folder: &Path, beside: Beside) -> Result<Spool, Failure> {
    let (columns, fitted) = (&model.program.columns, model.fitted.settled());
    let mut transformer = match beside {
        Beside::Labels => Transformer::fitted(columns, rows, fitted)?,
        Beside::Nothing | Beside::Key(_) => {
            let mut read = scored_columns(model.program);
            if let Beside::Key(key) = beside {
                read.insert(key);
            }
            Transformer::scoring(columns, rows, fitted, &|column| read.contains(&column))?
        }
    };
    let ranked = model.program.predictions.iter().filter(|own| own.ranking().is_some());
    transformer = transformer.remembering(ranked.map(|own| own.label).collect());
    let bags = Model::bag_words(model.program, &transformer.layout);
    let spool = Spool::write(folder, rows, &mut transformer, bags, None, &mut |_| {})?;
    if beside == Beside::Labels && spool.rows == 0 {
        return Err(Failure::input(format!(
            "{}: there are no rows to measure\nhelp: give a file with rows, or leave it out",
            rows.place()
        )));
    }
    Ok(spool)
}

/// Scores and keys of a spool's rows, in order.
pub(crate) struct Scored {
    pub(crate) scores: Vec<Scores>,
    pub(crate) keys: Vec<(u32, Vec<u64>)>,
    /// Conditions that metrics need, by column.
    pub(crate) flags: Vec<(u32, Vec<bool>)>,
    /// Predictions as they are meant: probabilities, or values.
    pub(crate) predictions: Vec<Vec<f32>>,
    /// Weights of the members that a prediction is fused from, row by row.
    pub(crate) weights: Vec<Vec<f32>>,
    /// What units of exposed values do.
    pub(crate) activations: Vec<Activations>,
}

impl Scored {
    /// Of no rows yet; by columns of keys and of conditions.
    pub(crate) fn new(program: &Program, (keys, flags): (&[u32], &[u32]), inspected: &[Inspected]) -> Self {
        let count = program.predictions.len();
        Scored {
            scores: vec![Scores::default(); count],
            keys: keys.iter().map(|&key| (key, Vec::new())).collect(),
            flags: flags.iter().map(|&column| (column, Vec::new())).collect(),
            predictions: vec![Vec::new(); count],
            weights: vec![Vec::new(); count],
            activations: inspected.iter().map(Activations::new).collect(),
        }
    }

    /// Takes what an engine gave for all predictions but rankings.
    pub(crate) fn take_all(&mut self, program: &Program, engine: &Engine<'_>, rows: usize) {
        let own = program.predictions.iter().enumerate().filter(|(_, own)| own.scores_rows());
        own.for_each(|(at, prediction)| self.take(at, prediction, engine, rows));
    }

    /// How many rows are scored.
    pub(crate) fn row_count(&self) -> usize {
        self.scores.iter().map(|scores| scores.links.len()).max().unwrap_or(0)
    }

    /// Puts the rows from one on, which were scored in another order, at their places.
    pub(crate) fn put_back(&mut self, from: usize, places: &[u32]) {
        let values = self.scores.iter_mut().map(|scores| &mut scores.links).chain(&mut self.predictions);
        for values in values.filter(|values| values.len() > from) {
            let scored = values[from..].to_vec();
            places.iter().zip(scored).for_each(|(&place, value)| values[from + place as usize] = value);
        }
    }

    fn take(&mut self, at: usize, prediction: &Prediction, engine: &Engine<'_>, rows: usize) {
        let result = prediction.result();
        self.scores[at].links.extend_from_slice(engine.output(&format!("{result}.link"), rows));
        self.predictions[at].extend_from_slice(engine.output(&result, rows));
    }
}

/// Measures all rows of a spool. `stored` holds the variables that the scoring plan reads in few bytes.
pub(crate) fn score(
    loaded: Loaded<'_>,
    model: &Model<'_>,
    stored: Stored,
    spool: &Spool,
    pool: &rayon::ThreadPool,
) -> Result<Scored, Failure> {
    let engine = Engine::new(loaded.program, &loaded.program.score, stored, loaded.code, pool)?;
    score_by(engine, model, spool, pool, &loaded.program.inspected)
}

/// Measures by an engine that is there, looking at some of what is exposed.
pub(crate) fn score_by(
    mut engine: Engine<'_>,
    model: &Model<'_>,
    spool: &Spool,
    pool: &rayon::ThreadPool,
    inspected: &[Inspected],
) -> Result<Scored, Failure> {
    let program = model.program;
    let fitted = model.fitted.settled();
    model.fill_constants(&mut engine);
    let mut layout = model.layout(&fitted);
    (layout.ranks, layout.holds_back) = (true, true);
    let mut assembler = Assembler::new(layout, &program.score);
    let candidates: Vec<Option<Candidates<'_>>> = program.predictions.iter().map(|own| model.candidates(own)).collect();
    let perplexity = program.metrics.iter().any(|metric| metric.kind == MetricKind::LogPerplexity);
    let mut scored = Scored::new(program, (&model.keys, &model.flags), inspected);
    let numbers = StepNumbers { step: 1, scale: 1.0, seed: 0, epoch: 0 };
    spool.epoch(0, 0, false, 4096, &mut |window, order| {
        for rows in order.chunks(4096) {
            let batch = assembler.assemble(window, rows);
            engine.run(&batch, &model.values, &numbers)?;
            for (at, prediction) in program.predictions.iter().enumerate() {
                if let Some(candidates) = &candidates[at] {
                    let queries = engine.output(&format!("{}.query", prediction.name), batch.rows * candidates.width());
                    let ranks = pool.install(|| candidates.ranks(queries, &batch.targets[at]));
                    scored.scores[at].links.extend(ranks);
                    if perplexity {
                        scored.scores[at].labels.extend(pool.install(|| candidates.losses(queries, &batch.targets[at])));
                    }
                    continue;
                }
                scored.take(at, prediction, &engine, batch.rows);
                scored.scores[at].labels.extend_from_slice(&batch.labels[at]);
                let result = prediction.result();
                if let Some(members) = prediction.weights {
                    let count = batch.rows * members as usize;
                    scored.weights[at].extend_from_slice(engine.output(&format!("{result}.weights"), count));
                }
            }
            for (own, inspected) in scored.activations.iter_mut().zip(inspected) {
                own.take(engine.output(&inspected.result(), batch.rows * own.width()));
            }
            for ((_, keys), own) in scored.keys.iter_mut().zip(&batch.keys) {
                keys.extend_from_slice(own);
            }
            for ((_, flags), own) in scored.flags.iter_mut().zip(&batch.flags) {
                flags.extend_from_slice(own);
            }
        }
        Ok(())
    })?;
    Ok(scored)
}

/// A state, and rows for it to score.
pub(crate) struct Scoring<'p> {
    pub(crate) model: Model<'p>,
    pub(crate) stored: Stored,
    pub(crate) spool: Spool,
    /// What was kept of the rows as the data write them.
    pub(crate) kept: Vec<Vec<String>>,
}

/// A state and the rows of files, transformed by what it learned; with their labels, and keeping some columns as they are written.
pub(crate) fn to_score<'p>(
    program: &'p Program,
    generation: &Generation,
    data: &[String],
    limit: Option<u64>,
    (beside, keep): (Beside, &mut Vec<String>),
    pool: &rayon::ThreadPool,
) -> Result<Scoring<'p>, Failure> {
    generation.verify(program, Purpose::Score)?;
    let mut model = Model::new(program, generation.fitted(program)?, false)?;
    if beside == Beside::Labels {
        model = model.with_conditions()?;
    }
    let mut stored = Stored::default();
    generation.load_values(&mut model, &mut |model, at| stored.take(&program.score, at, &mut model.values[at], pool))?;
    let mut rows = Rows::open_part(data, &program.data, Part::Test, limit)?;
    rows.keep(keep);
    let spool = settled_spool(&model, &mut rows, &std::env::temp_dir(), beside)?;
    Ok(Scoring { model, stored, spool, kept: rows.take_kept() })
}
