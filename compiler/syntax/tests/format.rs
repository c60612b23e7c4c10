//! Formatting keeps the tree and the comments, and done twice changes nothing: of every spec of the project, and of broken layouts of them.

use recc_syntax::ast::FileId;
use recc_syntax::{format, parse, print_file};
use std::path::{Path, PathBuf};

fn specs(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            specs(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rec") {
            found.push(path);
        }
    }
}

/// All specs of the project that can be read.
fn all() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    for folder in ["examples", "stdlib", "benches", "tests"] {
        specs(&root.join(folder), &mut found);
    }
    found.sort();
    let text = |path: PathBuf| std::fs::read_to_string(&path).ok().map(|text| (path, text));
    let sound = |(_, text): &(PathBuf, String)| parse(FileId(0), text).problems.is_empty();
    let found: Vec<_> = found.into_iter().filter_map(text).filter(sound).collect();
    assert!(found.len() > 200, "{}", found.len());
    found
}

fn tree(text: &str) -> String {
    let parsed = parse(FileId(0), text);
    assert_eq!(parsed.problems, [], "{text}");
    print_file(&parsed.file)
}

fn comments(text: &str) -> Vec<&str> {
    let start = |line: &str| {
        let mut quoted = false;
        let mut signs = line.char_indices().peekable();
        while let Some((at, sign)) = signs.next() {
            match sign {
                '\\' if quoted => {
                    signs.next();
                }
                '"' => quoted = !quoted,
                '/' if !quoted && line[at..].starts_with("//") => return Some(at),
                _ => {}
            }
        }
        None
    };
    text.lines().filter_map(|line| start(line).map(|at| line[at..].trim_end())).collect()
}

#[track_caller]
fn check(name: &Path, text: &str) {
    let once = format(text);
    assert_eq!(tree(text), tree(&once), "{}\n{once}", name.display());
    assert_eq!(comments(text), comments(&once), "{}", name.display());
    assert_eq!(once, format(&once), "{}: a second time changes it", name.display());
}

#[test]
fn formatting_keeps_tree_and_comments() {
    for (path, text) in all() {
        check(&path, &text);
    }
}

/// Blanks taken away or added wherever tokens allow it, and lines begun anywhere.
#[test]
fn any_layout_comes_out_the_same() {
    for (path, text) in all() {
        let mangled: String = text
            .lines()
            .enumerate()
            .map(|(at, line)| {
                let comment = comments(line).first().map_or(line.len(), |comment| line.trim_end().len() - comment.len());
                let (code, rest) = line.split_at(comment);
                let code = if code.contains('"') {
                    code.trim().to_owned()
                } else {
                    code.trim().replace(", ", ",").replace(" = ", "=").replace(": ", ":")
                };
                format!("{}{code}  {rest}   \n", "\t ".repeat(at * 7 % 5))
            })
            .collect();
        check(&path, &mangled);
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(lines(&format(&mangled)), lines(&format(&text)), "{}", path.display());
    }
}

/// The project's own specs are in the style.
#[test]
fn examples_and_library_are_formatted() {
    for (path, text) in all() {
        let own = path.components().any(|part| ["examples", "stdlib", "benches"].iter().any(|own| part.as_os_str() == *own));
        assert!(!own || format(&text) == text, "{}: `recc fmt` changes it", path.display());
    }
}

/// `of` is a word of ensembles and a name elsewhere.
#[test]
fn a_name_is_called_and_indexed_without_a_blank() {
    let text = "block row(of: table, x: id) -> f32[4] { of[x] + of(x) }\nensemble both of [a, b] { fuse: confidence(of: logit) }\n";
    assert_eq!(format(text), text);
}
