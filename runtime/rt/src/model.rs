//! A model's state: values of its variables, what was learned from data, and how they are initialised.

use crate::batch::Layout;
use crate::cohort::{Condition, conditions};
use crate::drawn::Popularity;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::memory::Memory;
use crate::random;
use crate::ranking::Candidates;
use crate::transform::{Fitted, record_layout};
use rayon::prelude::*;
use recc_abi::{Init, InputSource, MetricKind, Prediction, Program, Role, Table, Variable};
use std::collections::BTreeMap;

/// State of a model.
pub(crate) struct Model<'p> {
    pub(crate) program: &'p Program,
    pub(crate) fitted: Fitted,
    /// Values by variable.
    pub(crate) values: Vec<Memory>,
    /// First row of each member, by table.
    pub(crate) bases: Vec<Vec<u64>>,
    /// Rows by table.
    pub(crate) row_counts: Vec<u64>,
    /// First word of each column's part of a record.
    words: Vec<usize>,
    width: usize,
    labels: Vec<u32>,
    pub(crate) keys: Vec<u32>,
    conditions: Vec<Option<Condition>>,
    /// Columns of conditions that metrics need.
    pub(crate) flags: Vec<u32>,
    /// By prediction: the sequence whose next entry it ranks for, or the id.
    ranked: Vec<Option<u32>>,
}

/// Tensors of a variable as they are saved: path, shape, first element.
pub(crate) struct Saved {
    pub(crate) path: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) start: usize,
}

impl<'p> Model<'p> {
    /// A model with memory for its values, which are zero. With `slots`, optimizer state is kept too.
    pub(crate) fn new(program: &'p Program, fitted: Fitted, slots: bool) -> Result<Self, Failure> {
        let mut bases = Vec::new();
        let mut row_counts = Vec::new();
        for table in &program.tables {
            let mut own = Vec::new();
            let mut total = 0u64;
            for member in &table.members {
                own.push(total);
                total += member_rows(program, &fitted, table, member)?;
            }
            if total > i32::MAX as u64 {
                return Err(Failure::input(format!(
                    "table `{}` has {total} rows; at most {} are possible\nhelp: hash to fewer buckets",
                    table.path,
                    i32::MAX
                )));
            }
            bases.push(own);
            row_counts.push(total);
        }
        let elements = |variable: &Variable| {
            let rows = variable.table.map_or(1, |table| row_counts[table as usize]);
            rows * variable.shape.iter().product::<u64>()
        };
        let size = |variable: &Variable| {
            if slots || variable.scored { elements(variable) as usize * 4 } else { 0 }
        };
        let values = Memory::zeroed_together(&program.variables.iter().map(size).collect::<Vec<_>>())?;
        let (words, width) = record_layout(&program.columns);
        let mut keys: Vec<u32> =
            program.metrics.iter().filter_map(|metric| if let MetricKind::Gauc { key } = metric.kind { Some(key) } else { None }).collect();
        keys.sort_unstable();
        keys.dedup();
        let labels = program.predictions.iter().map(|prediction| prediction.label).collect();
        let ranked = program.predictions.iter().map(|prediction| prediction.ranking().map(|_| prediction.label)).collect();
        for table in program.predictions.iter().filter_map(|prediction| prediction.ranking()).map(|ranking| ranking.table as usize) {
            if row_counts[table] < 3 {
                let count = row_counts[table] - 1;
                return Err(Failure::input(format!(
                    "table `{}` has {count} known values, and a softmax ranks two or more\nhelp: look at the column, and at `min_count` of its vocabulary",
                    program.tables[table].path
                )));
            }
        }
        let (conditions, flags) = (vec![None; program.columns.len()], Vec::new());
        Ok(Model { program, fitted, values, bases, row_counts, words, width, labels, keys, conditions, flags, ranked })
    }

    /// Makes the conditions of losses and cohorts known, which scoring alone does without.
    pub(crate) fn with_conditions(mut self) -> Result<Self, Failure> {
        let program = self.program;
        self.conditions = conditions(&program.columns, &self.words, &self.fitted)?;
        let losses = program.predictions.iter().filter_map(|prediction| prediction.rows);
        self.flags = losses.chain(program.cohorts.iter().map(|cohort| cohort.column)).collect();
        self.flags.sort_unstable();
        self.flags.dedup();
        Ok(self)
    }

    /// Columns that are bags or sequences, by the first word of their part of a record.
    pub(crate) fn bag_words(program: &Program, layout: &[usize]) -> Vec<usize> {
        program.columns.iter().zip(layout).filter(|(column, _)| column.kind.has_entries()).map(|(_, &word)| word).collect()
    }

    /// What a prediction ranks.
    pub(crate) fn candidates(&self, prediction: &Prediction) -> Option<Candidates<'_>> {
        let ranking = prediction.ranking()?;
        let table = &self.program.tables[ranking.table as usize];
        let values = self.values[table.variable.0 as usize].floats();
        let rows = self.row_counts[ranking.table as usize] as usize;
        Some(Candidates::new(&values[..rows * table.dim as usize], table.dim as usize, ranking))
    }

    /// How batches are made; `fitted` is the model's, or its settled form.
    pub(crate) fn layout<'m>(&'m self, fitted: &'m Fitted) -> Layout<'m> {
        Layout {
            columns: &self.program.columns,
            tables: &self.program.tables,
            fitted,
            words: &self.words,
            width: self.width,
            bases: &self.bases,
            row_counts: &self.row_counts,
            labels: &self.labels,
            keys: &self.keys,
            conditions: &self.conditions,
            flags: &self.flags,
            ranked: &self.ranked,
            ranks: false,
            holds_back: false,
            popularity: &NO_POPULARITY,
            draw: None,
        }
    }

    /// Initial values: a function of seed, path and element. A table's rows do not depend on how many there are.
    pub(crate) fn initialise(&mut self, seed: u64, pool: &rayon::ThreadPool) {
        for at in 0..self.program.variables.len() {
            let init = self.program.variables[at].init;
            // Memory is zero from the start, and what only training reads has none when scoring.
            if init == Init::Constant(0.0) || self.values[at].len() == 0 {
                continue;
            }
            let parts = self.saved(at);
            let values = self.values[at].floats_mut();
            for part in parts {
                let key = random::key(seed, &part.path);
                let count: usize = part.shape.iter().product();
                let value = |index: usize| match init {
                    Init::Constant(value) => value as f32,
                    Init::Normal { std } => (std * random::normal(key, index as u64)) as f32,
                    Init::Uniform { bound } => (bound * (2.0 * random::uniform(key, index as u64) - 1.0)) as f32,
                };
                pool.install(|| {
                    values[part.start..part.start + count].par_iter_mut().enumerate().for_each(|(index, own)| *own = value(index));
                });
            }
        }
    }

    /// The tensors a variable is saved as: itself, or one per member of its table.
    pub(crate) fn saved(&self, at: usize) -> Vec<Saved> {
        let variable = &self.program.variables[at];
        let shape: Vec<usize> = variable.shape.iter().map(|&n| n as usize).collect();
        let Some(table) = variable.table else { return vec![Saved { path: variable.path.clone(), shape, start: 0 }] };
        let spec = &self.program.tables[table as usize];
        let Some(slot) = variable.path.strip_prefix(&spec.path) else {
            unreachable!("`{}` is a table's and not named by it", variable.path)
        };
        let width: usize = shape.iter().product();
        let bases = &self.bases[table as usize];
        let ends = bases.iter().skip(1).copied().chain([self.row_counts[table as usize]]);
        let member = |((member, &start), end): ((&recc_abi::TableMember, &u64), u64)| Saved {
            path: format!("{}{slot}", member.path),
            shape: std::iter::once((end - start) as usize).chain(shape.iter().copied()).collect(),
            start: start as usize * width,
        };
        spec.members.iter().zip(bases).zip(ends).map(member).collect()
    }

    /// Inputs that depend on the model alone.
    pub(crate) fn fill_constants(&self, engine: &mut Engine<'_>) {
        let layout = self.layout(&self.fitted);
        for source in engine.sources() {
            match &source {
                InputSource::RowBase { table, columns } => {
                    let bases: Vec<u32> = columns.iter().map(|&column| layout.base(*table as usize, column) as u32).collect();
                    engine.write_global(&source, &bases);
                }
                InputSource::OtherRows { table } => {
                    let others = self.row_counts[*table as usize].saturating_sub(2) as f32;
                    engine.write_global(&source, &[others.to_bits()]);
                }
                InputSource::Moments { columns } => {
                    let moments = |pick: fn(&(f64, f64)) -> f64| {
                        columns.iter().map(move |&column| (pick(&self.fitted.moments[column as usize]) as f32).to_bits())
                    };
                    let values: Vec<u32> = moments(|moment| moment.0).chain(moments(|moment| moment.1)).collect();
                    engine.write_global(&source, &values);
                }
                _ => {}
            }
        }
    }

    /// The first parameter or state that holds a value which is not finite.
    pub(crate) fn first_not_finite(&self) -> Option<(String, usize)> {
        for at in 0..self.values.len() {
            for part in self.saved(at) {
                let count: usize = part.shape.iter().product();
                let values = self.values[at].floats();
                if let Some(place) = values.iter().skip(part.start).take(count).position(|value| !value.is_finite()) {
                    return Some((part.path, place));
                }
            }
        }
        None
    }

    /// The parameter or state with the largest value, where, and the value.
    pub(crate) fn largest(&self) -> Option<(String, usize, f32)> {
        let mut found: Option<(String, usize, f32)> = None;
        for at in 0..self.values.len() {
            for part in self.saved(at) {
                let count: usize = part.shape.iter().product();
                let values = self.values[at].floats();
                for (place, value) in values.iter().skip(part.start).take(count).enumerate() {
                    if found.as_ref().is_none_or(|(.., most)| value.abs() > most.abs()) {
                        found = Some((part.path.clone(), place, *value));
                    }
                }
            }
        }
        found
    }

    /// Numbers that are trained, tables included.
    pub(crate) fn parameter_count(&self) -> u64 {
        let trained = self.program.variables.iter().enumerate().filter(|(_, variable)| variable.role == Role::Parameter);
        trained.map(|(at, _)| self.saved(at).iter().map(|part| part.shape.iter().product::<usize>() as u64).sum::<u64>()).sum()
    }
}

/// Of a model that draws no rows.
static NO_POPULARITY: BTreeMap<u32, Popularity> = BTreeMap::new();

fn member_rows(program: &Program, fitted: &Fitted, table: &Table, member: &recc_abi::TableMember) -> Result<u64, Failure> {
    let needed = member.columns.iter().map(|&column| fitted.row_count(&program.columns, column as usize)).max().unwrap_or(1);
    match member.rows {
        Some(rows) if rows + 1 < needed => Err(Failure::input(format!(
            "table `{}` has {rows} rows, and its keys reach {}\nhelp: raise `rows`, or leave it out to fit the table to its keys",
            table.path,
            needed - 1
        ))),
        Some(rows) => Ok(rows + 1),
        None => Ok(needed),
    }
}
