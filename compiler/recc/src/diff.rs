//! `recc diff`: which parameters of one spec or state another one has, and so what a warm start keeps.

use crate::driver;
use crate::report;
use recc_core::Override;
use recc_rt::{Failure, Fate, Which, compare, open_checkpoint, renamed};
use serde_json::json;
use std::path::Path;

/// The resolved spec of a text, or of a folder of checkpoints; `None` if the text has errors, which are reported.
fn resolved(path: &Path, define: &[Override], say: &dyn Fn(&str)) -> Result<Option<String>, Failure> {
    if path.is_dir() {
        return open_checkpoint(path, Which::Best)?.resolved().map(Some);
    }
    let sources = driver::sources(path)?;
    let checked = driver::check(&sources, define);
    if checked.spec.is_none() {
        say(&report::text(&sources, &checked.problems));
    }
    Ok(checked.spec.map(|spec| spec.resolved()))
}

/// A fate in words.
fn words(fate: &Fate) -> String {
    match fate {
        Fate::Stays => "kept".to_owned(),
        Fate::ByValue { vocabulary } => format!("rows of values that both know are kept, by the vocabulary of {vocabulary}"),
        Fate::Differs { here, there } => format!("begins anew: {there} became {here}"),
        Fate::New => "new".to_owned(),
        Fate::Gone => "gone".to_owned(),
    }
}

/// The comparison as text, or as one JSON object.
pub(crate) fn diff(old: &Path, new: &Path, define: &[Override], as_json: bool, say: &dyn Fn(&str)) -> Result<Option<String>, Failure> {
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
