//! What the columns of a data file look like, by their names and their first rows.

use recc_rt::Sample;
use std::collections::{BTreeMap, BTreeSet};

/// Names that labels usually have.
const LABELS: [&str; 12] =
    ["label", "click", "clicked", "is_click", "target", "y", "like", "conversion", "convert", "purchase", "rating", "watch_time"];
/// What names of columns begin or end with whose numbers are codes.
const CODES: [&str; 17] = [
    "id", "user", "item", "code", "zip", "category", "brand", "shop", "store", "product", "country", "city", "region", "state", "campaign",
    "domain", "device",
];
/// Ways a bag's values are separated.
const SEPARATORS: [char; 3] = ['|', ';', ' '];

/// What a column looks like.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Looks {
    /// One value in all rows.
    Constant,
    /// A value of its own in every row.
    RowNumber,
    /// Each value comes with one label only.
    Leak,
    /// Named as labels are, beside the one that is predicted.
    Outcome,
    Binary,
    Number {
        fill: bool,
        log: bool,
    },
    Id,
    Bag(char),
}

/// A column.
pub(super) struct Column {
    pub(super) name: String,
    pub(super) looks: Looks,
    pub(super) distinct: usize,
    /// Whether all its values are whole numbers.
    pub(super) whole: bool,
    /// Whether all its values are numbers.
    pub(super) numeric: bool,
}

impl Column {
    /// Whether it can be predicted as a label.
    pub(super) fn is_label(&self) -> bool {
        matches!(self.looks, Looks::Binary | Looks::Number { .. })
    }

    /// How usual its name is for a label: less is more usual; none if it is no such name.
    pub(super) fn label_rank(&self) -> Option<usize> {
        let name = self.name.to_ascii_lowercase();
        let known = LABELS.iter().position(|label| *label == name);
        let named = || name.starts_with("label_") || name.starts_with("y_") || name.ends_with("_label");
        known.or_else(|| named().then_some(LABELS.len()))
    }

    /// Whether its name says one of some things, alone or with an ending such as `_id`.
    pub(super) fn is_named(&self, things: &[&str]) -> bool {
        let name = self.name.to_ascii_lowercase().replace([' ', '-'], "_");
        let bare = ["_id", "id", "_key", "_no"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
        things.iter().any(|thing| *thing == bare || *thing == name)
    }
}

/// The columns of a sample.
pub(super) fn columns(sample: &Sample) -> Vec<Column> {
    sample.columns.iter().enumerate().map(|(at, name)| look(name, sample, at)).collect()
}

/// The column that is named as labels are, or else the first or the last one if it holds 0 and 1.
pub(super) fn usual_label(columns: &[Column]) -> Option<usize> {
    let ranked = (0..columns.len()).filter(|&at| columns[at].is_label()).filter_map(|at| Some((columns[at].label_rank()?, at)));
    let last = columns.len().checked_sub(1)?;
    let binary = || [0, last].into_iter().find(|&at| columns[at].looks == Looks::Binary);
    ranked.min().map(|(_, at)| at).or_else(binary)
}

/// Marks what must not be an input beside a label: what gives it away, and other outcomes.
pub(super) fn mark_outcomes(columns: &mut [Column], sample: &Sample, label: usize) {
    for at in (0..columns.len()).filter(|at| *at != label) {
        if gives_away(sample, at, label, columns[at].distinct) {
            columns[at].looks = Looks::Leak;
        } else if columns[at].is_label() && columns[at].label_rank().is_some() {
            columns[at].looks = Looks::Outcome;
        }
    }
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
    let numeric = !given.is_empty() && given.iter().all(|value| value.parse::<f64>().is_ok_and(f64::is_finite));
    let whole = !given.is_empty() && given.iter().all(|value| value.parse::<i64>().is_ok());
    Column { name: name.to_owned(), looks, distinct, whole, numeric }
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
    let named = CODES.iter().any(|part| lower.ends_with(part) || lower.starts_with(part));
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
