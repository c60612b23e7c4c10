//! The texts a spec is made of: its own, the files it uses, and the library.

use recc_syntax::ast::{FileId, ItemKind, Use};
use std::path::{Component, Path, PathBuf};

/// A text to check, and what it may use.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Names and texts; a [`FileId`] is a position here. The first is the spec; library modules are named `std.dense` and so on.
    pub files: Vec<(String, String)>,
    /// Files that files use.
    pub imports: Vec<Import>,
}

/// `use "blocks.rec" as mine`
#[derive(Clone, Debug)]
pub struct Import {
    /// The file that uses another.
    pub from: usize,
    /// The path as written.
    pub path: String,
    /// The file used, or why it cannot be read.
    pub to: Result<usize, String>,
}

/// Files a spec may be made of; more are a mistake.
const MOST_FILES: usize = 1000;

impl Sources {
    /// A spec beside the library, with the files that `use "…"` names, relative to the file that uses them. `read` gives the text of a path.
    pub fn gather(
        path: &Path,
        text: String,
        library: impl IntoIterator<Item = (String, String)>,
        read: &mut dyn FnMut(&Path) -> Result<String, String>,
    ) -> Sources {
        let mut sources = Sources { files: vec![(path.display().to_string(), text)], imports: Vec::new() };
        let mut paths = vec![plain(path)];
        let mut next = 0;
        while next < sources.files.len() {
            for used in used_files(&sources.files[next].1) {
                let wanted = plain(&paths[next].parent().unwrap_or(Path::new("")).join(&used));
                let to = match paths.iter().position(|known| *known == wanted) {
                    Some(known) => Ok(known),
                    None if sources.files.len() >= MOST_FILES => Err(format!("a spec of more than {MOST_FILES} files")),
                    None => read(&wanted).map(|text| {
                        sources.files.push((wanted.display().to_string(), text));
                        paths.push(wanted);
                        sources.files.len() - 1
                    }),
                };
                sources.imports.push(Import { from: next, path: used, to });
            }
            next += 1;
        }
        sources.files.extend(library);
        sources
    }
}

/// The paths that a text uses.
fn used_files(text: &str) -> Vec<String> {
    let items = recc_syntax::parse(FileId(0), text).file.items.into_iter();
    items.filter_map(|item| if let ItemKind::Use(Use::File { path, .. }) = item.kind { Some(path) } else { None }).collect()
}

/// A path without `.` and, where a folder stands before it, without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}
