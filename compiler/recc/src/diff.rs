//! `recc diff`: which parameters of one spec or state another one has, and so what a warm start keeps.

use crate::driver;
use crate::report;
use recc_core::problem::suggest;
use recc_core::{Override, Sources};
use recc_rt::{Failure, Fate, Which, compare, open_checkpoint, renamed};
use recc_syntax::ast::{FileId, ItemKind};
use serde_json::json;
use std::path::Path;

/// The resolved spec of a text, or of a folder of checkpoints; `None` if the text has errors, which are reported.
fn resolved(path: &Path, define: &[Override], say: &dyn Fn(&str)) -> Result<Option<String>, Failure> {
    if path.is_dir() {
        return open_checkpoint(path, Which::Best)?.resolved().map(Some);
    }
    let sources = driver::sources(path)?;
    let own: Vec<Override> = define.iter().filter(|own| constants(&sources).contains(&own.name)).cloned().collect();
    let checked = driver::check(&sources, &own);
    if checked.spec.is_none() {
        say(&report::text(&sources, &checked.problems));
    }
    Ok(checked.spec.map(|spec| spec.resolved()))
}

/// The constants that a spec declares.
fn constants(sources: &Sources) -> Vec<String> {
    let items = recc_syntax::parse(FileId(0), &sources.files[0].1).file.items;
    items.into_iter().filter_map(|item| if let ItemKind::Const { name, .. } = item.kind { Some(name.text) } else { None }).collect()
}

/// Refuses constants that no side declares.
fn known(define: &[Override], sides: [&Path; 2]) -> Result<(), Failure> {
    let mut declared = Vec::new();
    for path in sides.into_iter().filter(|path| !path.is_dir()) {
        declared.extend(constants(&driver::sources(path)?));
    }
    match define.iter().find(|own| !declared.contains(&own.name)) {
        Some(own) => {
            let help = if declared.is_empty() {
                "there are no constants here".to_owned()
            } else {
                suggest(&own.name, declared.iter().map(String::as_str))
            };
            Err(Failure::usage(format!("-D {}={}: neither side declares this constant\nhelp: {help}", own.name, own.value)))
        }
        None => Ok(()),
    }
}

/// A fate in words.
fn words(fate: &Fate) -> String {
    match fate {
        Fate::Stays => "kept".to_owned(),
        Fate::ByValue { vocabulary } => format!("rows of values that both know are kept, by the vocabulary of {vocabulary}"),
        Fate::Differs { here, there } => format!("begins anew: {there} became {here}"),
        Fate::New => "new".to_owned(),
        Fate::Gone => "gone".to_owned(),
        Fate::ByPlace => "begins anew: a vocabulary learned again may have its values at other places".to_owned(),
    }
}

/// The comparison as text, or as one JSON object.
pub(crate) fn diff(old: &Path, new: &Path, define: &[Override], as_json: bool, say: &dyn Fn(&str)) -> Result<Option<String>, Failure> {
    known(define, [old, new])?;
    let (Some(there), Some(here)) = (resolved(old, define, say)?, resolved(new, define, say)?) else { return Ok(None) };
    let fates = compare(&here, &there);
    let renames = renamed(&here, &there);
    let kept = fates.iter().filter(|(_, fate)| fate.keeps()).count();
    let all = fates.iter().filter(|(_, fate)| *fate != Fate::Gone).count();
    if as_json {
        let parameters: serde_json::Map<_, _> = fates.iter().map(|(path, fate)| (path.clone(), json!(words(fate)))).collect();
        let renames: Vec<_> = renames.iter().map(|(old, new)| json!({"old": old, "new": new})).collect();
        return Ok(Some(format!("{}\n", json!({"parameters": parameters, "kept": kept, "of": all, "renamed": renames}))));
    }
    let width = fates.iter().map(|(path, _)| path.len()).max().unwrap_or(0);
    let mut text: String = fates.iter().map(|(path, fate)| format!("  {path:<width$}  {}\n", words(fate))).collect();
    text.push_str(&format!("a warm start keeps {kept} of {all} parameters\n"));
    if !renames.is_empty() {
        text.push_str(
            "help: these are gone and new, of one shape; if they were renamed, keep the old names with `@name(\"…\")` above the binding\n",
        );
        text.extend(renames.iter().map(|(old, new)| format!("  {old} -> {new}\n")));
    }
    Ok(Some(text))
}
