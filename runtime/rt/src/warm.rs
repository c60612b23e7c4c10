//! What a warm start keeps: the parameters of another state that have the same path and shape, and of tables the rows of the same values.
//!
//! Both sides are known by their resolved specs, so that `recc diff` says before what `train --warm-start` then does.

use crate::checkpoint::Generation;
use crate::failure::Failure;
use crate::model::{Model, Saved};
use crate::transform::Fitted;
use crate::vocab::Vocab;
use recc_abi::{Encoder, Role};
use std::collections::BTreeMap;

/// What becomes of a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// All its numbers are kept.
    Stays,
    /// Rows of values that both vocabularies hold are kept, and row 0; the others are new.
    ByValue {
        /// The feature whose vocabulary numbers the rows.
        vocabulary: String,
    },
    /// It begins anew: what is there does not fit.
    Differs {
        /// What it has here.
        here: String,
        /// What it has there.
        there: String,
    },
    /// It begins anew: there is none of its path.
    New,
    /// It is in the other state only.
    Gone,
    /// It begins anew: values share its rows by their places in a vocabulary, which another one has in another order.
    ByPlace,
}

impl Fate {
    /// Whether something of the other state is kept.
    pub fn keeps(&self) -> bool {
        matches!(self, Fate::Stays | Fate::ByValue { .. })
    }
}

/// A parameter as a resolved spec describes it.
#[derive(Clone, Debug, PartialEq)]
struct Described {
    /// `[64, 32]`; of a table that of one row.
    shape: String,
    /// How the ids that index a table are numbered.
    numbering: Option<String>,
}

/// Lines of a resolved spec by section: what stands before and behind the first colon.
fn sections(resolved: &str) -> BTreeMap<&str, Vec<(&str, &str)>> {
    let mut found: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    let mut section = "";
    for line in resolved.lines() {
        match line.strip_prefix("  ") {
            None => section = line,
            Some(line) => found.entry(section).or_default().extend(line.split_once(": ")),
        }
    }
    found
}

/// How a feature's ids are numbered: by the vocabulary of a feature, or by what else its pipeline ends in.
fn numbering(feature: &str, described: &str) -> String {
    // A part of a number: `Quotient by 64 of …`.
    let part = ["Quotient by ", "Remainder by "].into_iter().find_map(|part| described.find(part));
    if let Some((own, rest)) = part.and_then(|at| described[at..].split_once(" of ")) {
        return format!("{own} of {}", numbering(feature, rest));
    }
    if let Some((_, rest)) = described.split_once("the vocabulary of ") {
        return format!("vocabulary of {}", rest.split(',').next().unwrap_or(rest));
    }
    if described.contains("Vocab {") {
        return format!("vocabulary of {feature}");
    }
    let at = described.find("Hash {").or_else(|| described.find("Bucket {"));
    let own = at.map_or(described, |at| &described[at..]);
    own.split_inclusive('}').next().unwrap_or(own).to_owned()
}

/// All parameters of a resolved spec, tables by their members.
fn described(resolved: &str) -> BTreeMap<String, Described> {
    let sections = sections(resolved);
    let section = |name: &str| sections.get(name).map_or(&[][..], Vec::as_slice);
    let features: BTreeMap<&str, &str> = section("features").iter().copied().collect();
    let mut found = BTreeMap::new();
    let parameters = sections.iter().filter(|(name, _)| name.contains("parameters")).flat_map(|(_, lines)| lines);
    for (path, text) in parameters {
        let shape = text.split_inclusive(']').next().unwrap_or(text).to_owned();
        let table = section("tables").iter().find(|(own, _)| own == path);
        let Some((_, table)) = table else {
            found.insert((*path).to_owned(), Described { shape, numbering: None });
            continue;
        };
        let members = table.split_once("members [").map_or("", |(_, members)| members.trim_end_matches(']'));
        for member in members.split(", ") {
            let Some((path, columns)) = member.split_once(" of ") else { continue };
            let columns = columns.split(' ').next().unwrap_or(columns).split('+');
            let mut numberings: Vec<String> = columns.map(|own| numbering(own, features.get(own).copied().unwrap_or_default())).collect();
            numberings.sort();
            numberings.dedup();
            let numbering = numberings.join(", ");
            found.insert(path.to_owned(), Described { shape: shape.clone(), numbering: Some(numbering) });
        }
    }
    found
}

/// What becomes of each parameter of two resolved specs, in the order of their paths.
pub fn compare(own: &str, other: &str) -> Vec<(String, Fate)> {
    let (own, other) = (described(own), described(other));
    let fate = |path: &String| match (own.get(path), other.get(path)) {
        (Some(_), None) => Fate::New,
        (None, _) => Fate::Gone,
        (Some(here), Some(there)) if here == there => match here.numbering.as_deref().and_then(|own| own.split_once("vocabulary of ")) {
            Some(("", vocabulary)) => Fate::ByValue { vocabulary: vocabulary.to_owned() },
            Some(_) => Fate::ByPlace,
            None => Fate::Stays,
        },
        (Some(here), Some(there)) if here.shape == there.shape => {
            let text = |own: &Described| own.numbering.clone().unwrap_or_else(|| "no table".to_owned());
            Fate::Differs { here: text(here), there: text(there) }
        }
        (Some(here), Some(there)) => Fate::Differs { here: here.shape.clone(), there: there.shape.clone() },
    };
    let mut paths: Vec<&String> = own.keys().chain(other.keys()).collect();
    paths.sort();
    paths.dedup();
    paths.into_iter().map(|path| (path.clone(), fate(path))).collect()
}

/// Parameters that are gone and new ones of the same shape, where there is one of each: a rename, most likely.
pub fn renamed(own: &str, other: &str) -> Vec<(String, String)> {
    let fates = compare(own, other);
    let (own, other) = (described(own), described(other));
    let of = |wanted: &Fate| -> Vec<&String> { fates.iter().filter(|(_, fate)| fate == wanted).map(|(path, _)| path).collect() };
    let (new, gone) = (of(&Fate::New), of(&Fate::Gone));
    let alike = |new: &&String, gone: &&String| own.get(*new) == other.get(*gone);
    let only = |new: &&&String| {
        let same: Vec<&&String> = gone.iter().filter(|gone| alike(new, gone)).collect();
        let back = same.first().map_or(0, |gone| of(&Fate::New).iter().filter(|new| alike(new, gone)).count());
        (same.len() == 1 && back == 1).then(|| same[0].to_string())
    };
    new.iter().filter_map(|path| Some((only(&path)?, (*path).clone()))).collect()
}

/// What was kept of a state.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Parameters kept whole, or by rows.
    pub(crate) parameters: usize,
    /// All parameters.
    pub(crate) all: usize,
    /// Tables kept by value: path, rows kept, rows.
    pub(crate) rows: Vec<(String, usize, usize)>,
}

/// Takes over what fits of a state.
pub(crate) fn start(model: &mut Model<'_>, from: &Generation) -> Result<Kept, Failure> {
    let program = model.program;
    let fates: BTreeMap<String, Fate> = compare(&program.resolved, &from.resolved()?).into_iter().collect();
    let old = from.vocabularies()?;
    let mut kept = Kept::default();
    for at in 0..program.variables.len() {
        if program.variables[at].role == Role::Optimizer {
            continue;
        }
        for (member, part) in model.saved(at).into_iter().enumerate() {
            kept.all += 1;
            let Some(fate) = fates.get(&part.path).filter(|fate| fate.keeps()) else { continue };
            let values = from.tensor(&part.path)?;
            kept.parameters += 1;
            match fate {
                Fate::ByValue { vocabulary } => {
                    let rows = take_rows(model, at, member, &part, (&values, old.get(vocabulary)))?;
                    kept.rows.push((part.path.clone(), rows, part.shape[0]));
                }
                _ => take_all(model, at, &part, &values)?,
            }
        }
    }
    Ok(kept)
}

fn take_all(model: &mut Model<'_>, at: usize, part: &Saved, values: &[f32]) -> Result<(), Failure> {
    let count: usize = part.shape.iter().product();
    if values.len() != count {
        return Err(Failure::input(format!("`{}` of the state to start from has {} numbers, not {count}", part.path, values.len())));
    }
    model.values[at].floats_mut()[part.start..part.start + count].copy_from_slice(values);
    Ok(())
}

/// Copies the rows of values that both vocabularies hold, and row 0. Gives how many.
fn take_rows(
    model: &mut Model<'_>,
    at: usize,
    member: usize,
    part: &Saved,
    (values, old): (&[f32], Option<&Vocab>),
) -> Result<usize, Failure> {
    let program = model.program;
    let table = program.variables[at].table.unwrap_or_default() as usize;
    let column = program.tables[table].members[member].columns[0];
    let own = Fitted::vocab_column(&program.columns, column as usize);
    if !matches!(program.columns[own].kind.numbering(), Some(Encoder::Vocab { .. })) {
        return Ok(0);
    }
    let width: usize = part.shape[1..].iter().product();
    let words: Vec<u32> = model.fitted.vocabs[own].words().map(|(word, _)| old.map_or(0, |old| old.row(word))).collect();
    let target = &mut model.values[at].floats_mut()[part.start..];
    let mut kept = 0;
    let pairs =
        std::iter::once((0, 0)).chain(words.into_iter().enumerate().filter(|(_, old)| *old > 0).map(|(row, old)| (row + 1, old as usize)));
    for (row, old) in pairs {
        let Some(source) = values.get(old * width..(old + 1) * width) else { continue };
        target[row * width..(row + 1) * width].copy_from_slice(source);
        kept += 1;
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "spec a\nfeatures\n  item: column \"item\", Id { encoder: Vocab { min_count: 2 } }\n  shop: column \"shop\", Id { encoder: Hash { buckets: 50 } }\n  seen: column \"seen\", sequence of ids of the vocabulary of item, separator \" \"\ntables\n  a.items: dim 8, members [a.items of seen+item]\n  a.shops: dim 4, members [a.shops of shop]\nparameters\n  a.items: [8] Normal { std: 0.01 } Parameter\n  a.shops: [4] Normal { std: 0.01 } Parameter\n  a.x.w: [8, 4] Normal { std: 0.1 } Parameter\n  a.y.w: [4, 2] Normal { std: 0.1 } Parameter\n";

    #[test]
    fn parameters_stay_by_path_shape_and_numbering() {
        let new = OLD
            .replace("buckets: 50", "buckets: 60")
            .replace("min_count: 2", "min_count: 5")
            .replace("a.x.w: [8, 4]", "a.x.w: [8, 5]")
            .replace("a.y.w", "a.z.w");
        let fates: BTreeMap<String, Fate> = compare(&new, OLD).into_iter().collect();
        assert_eq!(fates["a.items"], Fate::ByValue { vocabulary: "item".to_owned() });
        assert_eq!(fates["a.shops"], Fate::Differs { here: "Hash { buckets: 60 }".to_owned(), there: "Hash { buckets: 50 }".to_owned() });
        assert_eq!(fates["a.x.w"], Fate::Differs { here: "[8, 5]".to_owned(), there: "[8, 4]".to_owned() });
        assert_eq!((&fates["a.z.w"], &fates["a.y.w"]), (&Fate::New, &Fate::Gone));
        assert_eq!(renamed(&new, OLD), [("a.y.w".to_owned(), "a.z.w".to_owned())]);
        assert!(compare(OLD, OLD).iter().all(|(_, fate)| fate.keeps()));
        // Of several keys each counts.
        let pool = |seed: u32| {
            OLD.replace("a.shops of shop", "a.shops of shop+mall")
                .replace("  seen: ", &format!("  mall: column \"shop\", Id {{ encoder: Hash {{ buckets: 50, seed: {seed} }} }}\n  seen: "))
        };
        let shops =
            |own: &str, other: &str| compare(own, other).into_iter().find(|(path, _)| path == "a.shops").map(|(_, fate)| fate.keeps());
        assert_eq!((shops(&pool(1), &pool(1)), shops(&pool(2), &pool(1))), (Some(true), Some(false)));
    }
}
