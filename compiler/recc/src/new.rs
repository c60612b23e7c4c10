//! `recc new`: a spec to start from, with the features that a data file's columns look like.

use recc_rt::{Failure, Sample};
use recc_syntax::quoted;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

/// Rows looked at.
pub(crate) const ROWS: u64 = 20_000;
/// Names that labels usually have.
const LABELS: [&str; 12] =
    ["label", "click", "clicked", "is_click", "target", "y", "like", "conversion", "convert", "purchase", "rating", "watch_time"];
/// Ways a bag's values are separated.
const SEPARATORS: [char; 3] = ['|', ';', ' '];
/// Words that are no names in a spec.
const RESERVED: [&str; 8] = ["true", "false", "if", "else", "and", "or", "not", "_"];

/// What a column looks like.
#[derive(Clone, Debug, PartialEq)]
enum Looks {
    /// One value in all rows.
    Constant,
    /// A value of its own in every row.
    RowNumber,
    /// Each value comes with one label only.
    Leak,
    Binary,
    Number {
        fill: bool,
        log: bool,
    },
    Id,
    Bag(char),
}

struct Column {
    name: String,
    looks: Looks,
    distinct: usize,
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

/// A spec for the columns of a data file.
pub(crate) fn inferred(name: &str, path: &Path, sample: &Sample, label: Option<&str>) -> Result<String, Failure> {
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
    let mut columns: Vec<Column> = sample.columns.iter().enumerate().map(|(at, name)| look(name, sample, at)).collect();
    let label = label_of(&columns, label, path)?;
    for at in (0..columns.len()).filter(|at| *at != label) {
        if gives_away(sample, at, label, columns[at].distinct) {
            columns[at].looks = Looks::Leak;
        }
    }
    Ok(Writer { name, path, columns: &columns, label }.spec())
}

fn label_of(columns: &[Column], wanted: Option<&str>, path: &Path) -> Result<usize, Failure> {
    let is_label = |column: &Column| matches!(column.looks, Looks::Binary | Looks::Number { .. });
    let names = || columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(wanted) = wanted {
        return match columns.iter().position(|column| column.name == wanted) {
            Some(at) if is_label(&columns[at]) => Ok(at),
            Some(_) => {
                Err(Failure::input(format!("--label {wanted}: the column is neither 0 and 1 nor a number\nhelp: a label is one of them")))
            }
            None => {
                Err(Failure::input(format!("--label {wanted}: {} has no such column\nhelp: the columns are {}", path.display(), names())))
            }
        };
    }
    let named =
        LABELS.iter().find_map(|label| columns.iter().position(|column| column.name.eq_ignore_ascii_case(label) && is_label(column)));
    let binary = || [0, columns.len() - 1].into_iter().find(|&at| columns[at].looks == Looks::Binary);
    named.or_else(binary).ok_or_else(|| {
        Failure::input(format!("{}: no column looks like a label\nhelp: name it with --label; the columns are {}", path.display(), names()))
    })
}

fn look(name: &str, sample: &Sample, at: usize) -> Column {
    let values: Vec<&str> = sample.rows.iter().map(|row| row.get(at).map_or("", |cell| cell.trim())).collect();
    let given: Vec<&str> = values.iter().copied().filter(|value| !value.is_empty()).collect();
    let distinct = given.iter().collect::<BTreeSet<_>>().len();
    let numbers: Option<Vec<f64>> = given.iter().map(|value| value.parse::<f64>().ok().filter(|number| number.is_finite())).collect();
    let fill = given.len() < values.len();
    let looks = match numbers {
        _ if distinct <= 1 => Looks::Constant,
        Some(numbers) if !fill && numbers.iter().all(|number| *number == 0.0 || *number == 1.0) => Looks::Binary,
        Some(numbers) => number_or_id(name, &numbers, distinct, fill),
        None => match separator(&given) {
            Some(separator) => Looks::Bag(separator),
            None if distinct == values.len() && distinct > 100 => Looks::RowNumber,
            None => Looks::Id,
        },
    };
    Column { name: name.to_owned(), looks, distinct }
}

/// Whether a column's value always comes with the same label, in twenty rows each or more.
fn gives_away(sample: &Sample, at: usize, label: usize, distinct: usize) -> bool {
    let mut labels: BTreeMap<&str, &str> = BTreeMap::new();
    let same = sample.rows.iter().all(|row| match (row.get(at), row.get(label)) {
        (Some(value), Some(label)) => *labels.entry(value.trim()).or_insert(label.trim()) == label.trim(),
        _ => true,
    });
    same && distinct > 1 && distinct * 20 <= sample.rows.len()
}

/// Whole numbers are ids if they are few or named so.
fn number_or_id(name: &str, numbers: &[f64], distinct: usize, fill: bool) -> Looks {
    let whole = numbers.iter().all(|number| number.fract() == 0.0 && *number >= 0.0);
    let lower = name.to_ascii_lowercase();
    let named = ["id", "user", "item", "code", "zip", "category", "brand", "shop"]
        .iter()
        .any(|part| lower.ends_with(part) || lower.starts_with(part));
    if whole && distinct == numbers.len() && distinct > 100 && !named {
        return Looks::RowNumber;
    }
    if whole && (named || distinct <= 50) {
        return Looks::Id;
    }
    let (least, most) = numbers.iter().fold((f64::MAX, f64::MIN), |(least, most), number| (least.min(*number), most.max(*number)));
    Looks::Number { fill, log: least >= 0.0 && most > 100.0 }
}

/// What stands between a bag's values: in one row of twenty or more, with fewer values than ways to join them. Words of a phrase are more than the phrases.
fn separator(values: &[&str]) -> Option<char> {
    SEPARATORS.into_iter().find(|&sign| {
        let several = values.iter().filter(|value| value.contains(sign)).count();
        let parts: usize = values.iter().map(|value| value.split(sign).count()).sum();
        let distinct = values.iter().flat_map(|value| value.split(sign)).collect::<BTreeSet<_>>().len();
        several * 20 >= values.len() && distinct * 4 <= parts && distinct < values.iter().collect::<BTreeSet<_>>().len()
    })
}

/// Whether a column's name may be a feature's.
pub(crate) fn is_name(name: &str) -> bool {
    let first = name.chars().next().is_some_and(|sign| sign.is_ascii_alphabetic() || sign == '_');
    first && name.chars().all(|sign| sign.is_ascii_alphanumeric() || sign == '_') && !RESERVED.contains(&name)
}

struct Writer<'w> {
    name: &'w str,
    path: &'w Path,
    columns: &'w [Column],
    label: usize,
}

impl Writer<'_> {
    /// The name of a feature, and where it comes from if the column has another.
    fn feature(&self, at: usize) -> (String, String) {
        let column = &self.columns[at].name;
        if is_name(column) {
            return (column.clone(), column.clone());
        }
        let mut name: String =
            column.chars().map(|sign| if sign.is_ascii_alphanumeric() { sign.to_ascii_lowercase() } else { '_' }).collect();
        name = format!("c{}_{}", at + 1, name.trim_matches('_'));
        (name.trim_end_matches('_').to_owned(), format!("column({})", quoted(column)))
    }

    /// Columns of a kind, without the label.
    fn of(&self, is: impl Fn(&Looks) -> bool) -> Vec<usize> {
        (0..self.columns.len()).filter(|&at| at != self.label && is(&self.columns[at].looks)).collect()
    }

    fn spec(&self) -> String {
        let binary = self.columns[self.label].looks == Looks::Binary;
        let numbers = self.of(|looks| matches!(looks, Looks::Number { .. }));
        let ids = self.of(|looks| matches!(looks, Looks::Id | Looks::Binary));
        let bags = self.of(|looks| matches!(looks, Looks::Bag(_)));
        // Columns that are features by their own names make one group, with one look-up.
        let (group, single): (Vec<usize>, Vec<usize>) = ids.iter().partition(|&&at| is_name(&self.columns[at].name));
        let (label, source) = self.feature(self.label);
        let mut out = format!("// Features as the columns of {} look like; change what is meant otherwise.\n", self.path.display());
        for column in self.columns {
            let why = match column.looks {
                Looks::Constant => "it is the same in every row",
                Looks::RowNumber => "it is another in every row",
                Looks::Leak => "each of its values comes with one label only, which gives the label away",
                Looks::Binary | Looks::Number { .. } | Looks::Id | Looks::Bag(_) => continue,
            };
            let _ = writeln!(out, "// The column {:?} is left out: {why}.", column.name);
        }
        let fm = !group.is_empty();
        out.push_str("use std.dense.{linear, mlp}\n");
        if fm {
            out.push_str("use std.interaction.fm\n");
        }
        let _ = write!(out, "\ndata {{ train: {} }}\n\nfeatures {{\n", quoted(&self.path.display().to_string()));
        let kind = if binary { "binary" } else { "number" };
        let from = if source == label { String::new() } else { format!(" = {source}") };
        let _ = writeln!(out, "label {label}: {kind}{from}");
        let mut inputs = Vec::new();
        for at in numbers {
            let (name, source) = self.feature(at);
            let Looks::Number { fill, log } = self.columns[at].looks else { continue };
            let steps = format!("{}{}", if fill { " |> fill(0)" } else { "" }, if log { " |> log1p" } else { " |> standardize" });
            let _ = writeln!(out, "number {name} = {source}{steps}");
            inputs.push(name);
        }
        let mut tables = String::new();
        if fm {
            let members: Vec<&str> = group.iter().map(|&at| self.columns[at].name.as_str()).collect();
            let large = group.iter().any(|&at| self.columns[at].distinct > 1000);
            let vocab = if large { "vocab(min_count: 2)" } else { "vocab" };
            let _ = writeln!(out, "id C[{}] = C |> {vocab}", members.join(", "));
            tables.push_str("table emb { keys: C, dim: 16 }\n");
            inputs.insert(0, "flatten(e)".to_owned());
        }
        for at in single {
            let (name, source) = self.feature(at);
            let _ = writeln!(out, "id {name} = {source} |> vocab");
            let _ = writeln!(tables, "table {name}_rows {{ keys: {name}, dim: 16 }}");
            inputs.push(format!("{name}_rows[{name}]"));
        }
        for at in bags {
            let (name, source) = self.feature(at);
            let Looks::Bag(sign) = self.columns[at].looks else { continue };
            let _ = writeln!(out, "ids {name} = {source} |> split(\"{sign}\") |> vocab");
            let _ = writeln!(tables, "table {name}_rows {{ keys: {name}, dim: 16 }}");
            inputs.push(format!("mean({name}_rows[{name}], axis: {name})"));
        }
        let _ = write!(out, "}}\n\nmodel {} {{\n{tables}\n", self.name);
        if fm {
            out.push_str("let e = emb[C]\n");
        }
        let inputs = if inputs.len() > 8 { format!("\n{},\n", inputs.join(",\n")) } else { inputs.join(", ") };
        let _ = writeln!(out, "let deep = concat({inputs}) |> mlp([128, 64], dropout: 0.1) |> linear(1)");
        let z = if fm { "fm(e) + deep" } else { "deep" };
        let (link, loss, metrics) = if binary { ("logit", "bce", "[auc, logloss]") } else { ("value", "mse", "[rmse]") };
        let _ = write!(out, "predict {label} = {link}({z})\n}}\n\nobjective {{ {label}: {loss} }}\nmetrics {{ report: {metrics} }}\n");
        out.push_str("train { batch: 1024, epochs: 3, dense: adam(lr: 1e-3), tables: adam(lr: 1e-3), seed: 1 }\n");
        recc_syntax::format(&out)
    }
}
