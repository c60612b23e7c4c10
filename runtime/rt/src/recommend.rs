//! The first rows of a table for each sequence: what `recommend` writes.

use crate::batch::Assembler;
use crate::checkpoint::Generation;
use crate::engine::{Engine, Loaded, StepNumbers};
use crate::failure::Failure;
use crate::ranking::Candidate;
use crate::score::{Beside, Scoring, to_score};
use crate::transform::Fitted;
use recc_abi::{ColumnKind, Encoder, Prediction, Program};
use std::io::Write;

/// Rows scored at a time.
const BATCH: usize = 4096;

/// The first candidates of each row of data.
pub(crate) struct Recommended {
    /// Names of the data's key columns.
    keys: Vec<String>,
    /// By row: what the data have in those.
    key_cells: Vec<Vec<String>>,
    /// The name of the prediction.
    name: String,
    /// By row, best first: the value as the data write it, and its logit.
    first: Vec<Vec<(String, f32)>>,
}

/// The prediction that ranks, and the texts of the rows it ranks.
fn ranked<'p>(program: &'p Program, fitted: &Fitted) -> Result<(&'p Prediction, Vec<String>), Failure> {
    let Some(prediction) = program.predictions.iter().find(|prediction| prediction.ranking().is_some()) else {
        return Err(Failure::usage(
            "this model ranks nothing\nhelp: `predict` scores its rows; `recommend` needs a prediction by `softmax`",
        ));
    };
    let column = Fitted::vocab_column(&program.columns, prediction.label as usize);
    match program.columns[column].kind.numbering() {
        Some(Encoder::Vocab { .. }) => {
            let text = |(word, _): (&[u8], u64)| String::from_utf8_lossy(word).into_owned();
            Ok((prediction, fitted.vocabs[column].words().map(text).collect()))
        }
        _ => Err(Failure::usage(format!(
            "the values of `{}` are not kept, so their rows have no names\nhelp: number them by `vocab` in the spec",
            program.columns[column].name
        ))),
    }
}

/// Recommends for each row of files.
pub(crate) fn recommend(
    loaded: Loaded<'_>,
    generation: &Generation,
    data: &[String],
    (top, limit): (usize, Option<u64>),
    pool: &rayon::ThreadPool,
) -> Result<Recommended, Failure> {
    let program = loaded.program;
    let mut keys: Vec<String> = program
        .columns
        .iter()
        .filter(|column| matches!(column.kind, ColumnKind::Key))
        .filter_map(|column| column.token.column().map(str::to_owned))
        .collect();
    let Scoring { model, stored, spool, kept } = to_score(program, generation, data, limit, (Beside::Nothing, &mut keys), pool)?;
    let (prediction, names) = ranked(program, &model.fitted)?;
    let Some(candidates) = model.candidates(prediction) else { return Err(Failure::internal("recommend", "a ranking without candidates")) };
    let temperature = prediction.ranking().map_or(1.0, |ranking| ranking.temperature) as f32;
    let fitted = model.fitted.settled();
    let mut engine = Engine::new(program, &program.score, stored, loaded.code, pool)?;
    model.fill_constants(&mut engine);
    let mut layout = model.layout(&fitted);
    layout.ranks = true;
    let mut assembler = Assembler::new(layout, &program.score);
    let at = program.predictions.iter().position(|own| own == prediction).unwrap_or(0);
    let numbers = StepNumbers { step: 1, scale: 1.0, seed: 0, epoch: 0 };
    let named = |own: &Candidate| (names.get(own.row as usize - 1).cloned().unwrap_or_default(), own.score / temperature);
    let mut first = Vec::new();
    spool.epoch(0, 0, false, BATCH, &mut |window, order| {
        for rows in order.chunks(BATCH) {
            let batch = assembler.assemble(window, rows);
            engine.run(&batch, &model.values, &numbers)?;
            let queries = engine.output(&format!("{}.query", prediction.name), batch.rows * candidates.width());
            if let Some(wrong) = queries.iter().position(|x| !x.is_finite()) {
                let row = first.len() + wrong / candidates.width().max(1) + 1;
                return Err(Failure::input(format!(
                    "row {row}: the query of `{}` is no finite number\nhelp: a number of that row is far outside the range of the training data",
                    prediction.name
                )));
            }
            let found = pool.install(|| candidates.first(queries, &batch.targets[at], top));
            first.extend(found.iter().map(|own| own.iter().map(named).collect::<Vec<_>>()));
        }
        Ok(())
    })?;
    Ok(Recommended { keys, key_cells: kept, name: prediction.name.clone(), first })
}

impl Recommended {
    /// A line for each candidate: the row of the data, its keys, the rank, the value and its logit.
    pub(crate) fn write(&self, out: impl Write) -> csv::Result<()> {
        let mut out = csv::Writer::from_writer(out);
        let head = ["row"].into_iter().chain(self.keys.iter().map(String::as_str)).chain(["rank", &self.name, "logit"]);
        out.write_record(head)?;
        for (row, first) in self.first.iter().enumerate() {
            let cells = self.key_cells.get(row).map_or(&[][..], Vec::as_slice);
            for (rank, (value, logit)) in first.iter().enumerate() {
                let (row, rank, logit) = ((row + 1).to_string(), (rank + 1).to_string(), logit.to_string());
                let line = [row.as_str()].into_iter().chain(cells.iter().map(String::as_str)).chain([rank.as_str(), value, &logit]);
                out.write_record(line)?;
            }
        }
        out.flush()?;
        Ok(())
    }
}
