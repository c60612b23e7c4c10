//! Broken specs: each gives exactly the problems its comments name, and the text beside it.
//!
//! A file marks a faulty line with `// error: E0203` or `// warning: W0001`; flags stand in a first line `// flags: -D A=b`; a
//! mark that cannot stand on its line says `at line N`.

use libtest_mimic::{Arguments, Failed, Trial};
use recc_core::problem::Severity;
use recc_core::{Override, Sources};
use std::path::Path;

fn main() {
    let arguments = Arguments::from_args();
    let folder = recc_tests::root().join("tests/ui");
    let trials = recc_tests::specs(&folder).into_iter().map(|path| {
        let name = path.strip_prefix(&folder).unwrap_or(&path).display().to_string();
        Trial::test(name, move || run(&path))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

/// Line and code of every mark.
fn marks(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for word in ["// error: ", "// warning: "] {
            let mut rest = line;
            while let Some(start) = rest.find(word) {
                rest = &rest[start + word.len()..];
                let code: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
                let line = rest[code.len()..].trim().strip_prefix("at line ").and_then(|n| n.split_whitespace().next()?.parse().ok());
                found.push((line.unwrap_or(at + 1), code));
            }
        }
    }
    found.sort();
    found
}

fn overrides(text: &str) -> Vec<Override> {
    let Some(flags) = text.lines().next().and_then(|line| line.strip_prefix("// flags: ")) else { return Vec::new() };
    let own = flags.split("-D ").filter_map(|flag| flag.trim().split_once('='));
    own.map(|(name, value)| Override { name: name.trim().to_owned(), value: value.trim().to_owned() }).collect()
}

fn run(path: &Path) -> Result<(), Failed> {
    let text = std::fs::read_to_string(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let sources = recc_tests::sources(&name, &text);
    let checked = recc_core::check(&sources, &overrides(&text));
    let line = |problem: &recc_core::problem::Problem| {
        let start = problem.labels.first().map_or(0, |label| label.span.start as usize);
        text.get(..start).unwrap_or(&text).matches('\n').count() + 1
    };
    let mut found: Vec<(usize, String)> = checked.problems.iter().map(|problem| (line(problem), problem.code.to_owned())).collect();
    found.sort();
    let expected = marks(&text);
    let rendered = render(&sources, &checked.problems);
    if found != expected {
        return Err(format!("marked {expected:?}\nfound  {found:?}\n{rendered}").into());
    }
    let failed = checked.problems.iter().any(|problem| problem.severity == Severity::Error);
    if failed == checked.spec.is_some() {
        return Err("a spec with errors came through, or one without did not".into());
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(path.parent().unwrap_or(Path::new(".")));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_input_file(path);
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    settings.bind(|| insta::assert_snapshot!(stem, rendered));
    Ok(())
}

/// Problems as plain text: place, code, message, labels and help.
fn render(sources: &Sources, problems: &[recc_core::problem::Problem]) -> String {
    let mut out = String::new();
    for problem in problems {
        let word = if problem.severity == Severity::Error { "error" } else { "warning" };
        out.push_str(&format!("{word}[{}]: {}\n", problem.code, problem.message));
        for label in &problem.labels {
            let (name, text) = &sources.files[label.span.file.0 as usize];
            let before = &text[..(label.span.start as usize).min(text.len())];
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
            let shown = text.get(label.span.start as usize..label.span.end as usize).unwrap_or("").lines().next().unwrap_or("");
            out.push_str(&format!("  {name}:{line}:{column} `{shown}` {}\n", label.text));
        }
        out.push_str(&format!("  help: {}\n", problem.help));
    }
    out
}
