//! Predictions for the rows of files.

use crate::batch::Assembler;
use crate::checkpoint::Generation;
use crate::engine::{Engine, Loaded, StepNumbers};
use crate::failure::Failure;
use crate::grouped;
use crate::metrics::check_finite;
use crate::model::Model;
use crate::score::{Beside, Scored, Scoring, to_score};
use crate::spool::Spool;

/// Predictions of a state for files.
pub(crate) struct Predicted {
    /// One list per prediction.
    pub(crate) values: Vec<Vec<f32>>,
    /// Where rows are groups: the column they are grouped by, and what each has in it.
    pub(crate) groups: Option<(String, Vec<String>)>,
}

/// Predictions of a state for files; `group_by` names the key whose rows share their sequences.
pub(crate) fn predict(
    loaded: Loaded<'_>,
    generation: &Generation,
    data: &[String],
    (limit, group_by): (Option<u64>, Option<&str>),
    pool: &rayon::ThreadPool,
) -> Result<Predicted, Failure> {
    let scores = loaded.program.predictions.iter().any(recc_abi::Prediction::scores_rows);
    if let Some(ranking) = loaded.program.predictions.iter().find(|own| own.ranking().is_some() && !scores) {
        return Err(Failure::usage(format!("`{}` ranks values, and has no score for a row\nhelp: use `recommend`", ranking.name)));
    }
    let mut group: Vec<String> = loaded.program.data.group.iter().cloned().collect();
    let key = group_by.map(|name| grouped::key_column(loaded.program, name)).transpose()?;
    let Scoring { model, stored, spool, kept } =
        to_score(loaded.program, generation, data, limit, (key.map_or(Beside::Nothing, Beside::Key), &mut group), pool)?;
    let scored = match (key, &loaded.program.grouped) {
        (Some(key), Some(grouped)) => grouped::score(loaded, &model, (stored, grouped), &spool, key, pool)?,
        _ => scores_of_rows(Engine::new(loaded.program, &loaded.program.score, stored, loaded.code, pool)?, &model, &spool)?,
    };
    for (prediction, scores) in loaded.program.predictions.iter().zip(&scored.scores) {
        if prediction.ranking().is_none() {
            check_finite(scores, prediction)?;
        }
    }
    let own = loaded.program.predictions.iter().zip(scored.predictions);
    let values = own.filter(|(prediction, _)| prediction.scores_rows()).map(|(_, values)| values).collect();
    let groups = group.pop().map(|name| (name, kept.into_iter().flatten().collect()));
    Ok(Predicted { values, groups })
}

/// The predictions for all rows of a spool as they are: nothing is held back, ranked or measured.
fn scores_of_rows(mut engine: Engine<'_>, model: &Model<'_>, spool: &Spool) -> Result<Scored, Failure> {
    let program = model.program;
    let fitted = model.fitted.settled();
    model.fill_constants(&mut engine);
    let mut assembler = Assembler::new(model.layout(&fitted), &program.score);
    let mut scored = Scored::new(program, (&[], &[]), &[]);
    let numbers = StepNumbers { step: 1, scale: 1.0, seed: 0, epoch: 0 };
    spool.epoch(0, 0, false, 4096, &mut |window, order| {
        for rows in order.chunks(4096) {
            let batch = assembler.assemble(window, rows);
            engine.run(&batch, &model.values, &numbers)?;
            scored.take_all(program, &engine, batch.rows);
        }
        Ok(())
    })?;
    Ok(scored)
}
