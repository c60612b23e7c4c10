//! `recc new`: a spec to start from, with the features that a data file's columns look like.

mod columns;
mod events;
mod rows;

use columns::{Column, Looks, columns, mark_outcomes, usual_label};
use events::Events;
use recc_rt::{Failure, Sample};
use recc_syntax::quoted;
use std::path::Path;

/// Rows looked at.
const ROWS: u64 = 20_000;
/// Words that are no names in a spec.
const RESERVED: [&str; 8] = ["true", "false", "if", "else", "and", "or", "not", "_"];

/// What a spec is to predict, where the columns' names do not say so.
pub(crate) struct Wanted<'w> {
    /// A label.
    pub(crate) label: Option<&'w str>,
    /// The column whose next value is predicted.
    pub(crate) next: Option<&'w str>,
    /// The column that says whose rows belong together.
    pub(crate) by: Option<&'w str>,
}

/// A spec for drawn data.
pub(crate) fn plain(name: &str) -> String {
    format!(
        "// A click model on drawn data; `recc run {name}.rec` trains it as it stands.
use std.dense.{{linear, mlp}}
use std.interaction.fm

data {{ synthetic: planted(rows: 50_000, seed: 1) }}

features {{
    label  click: binary
    number age = age |> log1p
    id     C[user, item, shop] = C |> vocab(min_count: 2)
}}

model {name} {{
    table emb {{ keys: C, dim: 8 }}

    let e    = emb[C]
    let deep = concat(flatten(e), age) |> mlp([64, 32]) |> linear(1)
    predict click = logit(fm(e) + deep)
}}

objective {{ click: bce }}
metrics   {{ report: [auc, logloss] }}
train     {{ batch: 512, epochs: 4, seed: 1 }}
"
    )
}

/// A data file, and what stands between its cells if that is not what its name says.
struct DataFile<'f> {
    path: &'f Path,
    separator: Option<char>,
}

impl DataFile<'_> {
    /// Reads some rows. A header that is one cell may be several with another sign between them.
    fn sample(&mut self) -> Result<Sample, Failure> {
        let sample = recc_rt::sample(self.path, ROWS, None)?;
        if let [header] = sample.columns.as_slice() {
            self.separator = [';', '|', '\t', ',', ' '].into_iter().find(|sign| header.contains(*sign));
        }
        if self.separator.is_some() { recc_rt::sample(self.path, ROWS, self.separator) } else { Ok(sample) }
    }

    /// The setting of `data` for its separator, behind others.
    fn separator_setting(&self) -> String {
        self.separator.map_or(String::new(), |sign| format!(", separator: {}", quoted(&sign.to_string())))
    }
}

/// A spec for the columns of a data file.
pub(crate) fn inferred(name: &str, path: &Path, wanted: &Wanted<'_>) -> Result<String, Failure> {
    let mut file = DataFile { path, separator: None };
    let sample = &file.sample()?;
    if sample.rows.is_empty() {
        return Err(Failure::input(format!(
            "{}: there are no rows to learn the columns from\nhelp: give a file with rows",
            path.display()
        )));
    }
    if sample.columns.iter().all(|column| column.parse::<f64>().is_ok()) {
        return Err(Failure::input(format!(
            "{}: the first line holds numbers, not names\nhelp: put a line with the columns' names before it",
            path.display()
        )));
    }
    let mut columns = columns(sample);
    if let Some(next) = wanted.next {
        return Ok(Events::asked(&columns, next, wanted.by, path)?.spec(name, &file, &columns));
    }
    let label = match wanted.label {
        Some(label) => Some(asked_label(&columns, label, path)?),
        None => usual_label(&columns),
    };
    if let Some(label) = label {
        mark_outcomes(&mut columns, sample, label);
        return Ok(rows::spec(name, &file, &columns, label));
    }
    if let Some(Column { name, .. }) = columns.iter().find(|column| column.label_rank().is_some() && column.looks == Looks::Constant) {
        let message = format!("{}: {name:?} is named as a label is, and is the same in all rows looked at", path.display());
        return Err(Failure::input(format!("{message}\nhelp: give a file whose rows differ in it, or name another column with --label")));
    }
    match Events::named(&columns) {
        Some(events) => Ok(events.spec(name, &file, &columns)),
        None => Err(Failure::input(format!(
            "{}: no column looks like a label\nhelp: name it with --label, or with --next the column whose next value is to be predicted; the columns are {}",
            path.display(),
            names(&columns)
        ))),
    }
}

fn names(columns: &[Column]) -> String {
    columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn asked_label(columns: &[Column], label: &str, path: &Path) -> Result<usize, Failure> {
    match columns.iter().position(|column| column.name == label) {
        Some(at) if columns[at].numeric && columns[at].distinct > 1 => Ok(at),
        Some(at) if columns[at].numeric => {
            Err(Failure::input(format!("--label {label}: it is the same in all rows looked at\nhelp: a label differs from row to row")))
        }
        Some(_) => {
            Err(Failure::input(format!("--label {label}: the column is neither 0 and 1 nor a number\nhelp: a label is one of them")))
        }
        None => {
            Err(Failure::input(format!("--label {label}: {} has no such column\nhelp: the columns are {}", path.display(), names(columns))))
        }
    }
}

/// Whether a column's name may be a feature's.
pub(crate) fn is_name(name: &str) -> bool {
    let first = name.chars().next().is_some_and(|sign| sign.is_ascii_alphabetic() || sign == '_');
    first && name.chars().all(|sign| sign.is_ascii_alphanumeric() || sign == '_') && !RESERVED.contains(&name)
}

/// The name of a column's feature, and where it comes from if the column has another.
fn feature_of(column: &str, at: usize) -> (String, String) {
    if is_name(column) {
        return (column.to_owned(), column.to_owned());
    }
    let mut name: String = column.chars().map(|sign| if sign.is_ascii_alphanumeric() { sign.to_ascii_lowercase() } else { '_' }).collect();
    name = format!("c{}_{}", at + 1, name.trim_matches('_'));
    (name.trim_end_matches('_').to_owned(), format!("column({})", quoted(column)))
}

/// The files of a data set: one to train on, and what lies beside it by the names that its other parts usually have.
struct Parts {
    train: String,
    valid: Option<String>,
    test: Option<String>,
}

impl Parts {
    fn beside(train: &Path) -> Parts {
        let name = train.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let find = |others: &[&str]| {
            let beside = others.iter().map(|other| train.with_file_name(name.replacen("train", other, 1)));
            beside.filter(|path| path != train && path.is_file()).map(|path| path.display().to_string()).next()
        };
        Parts { train: train.display().to_string(), valid: find(&["valid", "validation", "val", "dev"]), test: find(&["test"]) }
    }

    /// As settings of `data`.
    fn settings(&self, file: &DataFile<'_>) -> String {
        let parts = [("train", Some(&self.train)), ("valid", self.valid.as_ref()), ("test", self.test.as_ref())];
        let setting = |(part, file): (&str, Option<&String>)| file.map(|file| format!("{part}: {}", quoted(file)));
        parts.into_iter().filter_map(setting).collect::<Vec<_>>().join(", ") + &file.separator_setting()
    }
}
