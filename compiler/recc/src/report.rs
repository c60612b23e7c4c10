//! Problems as text for people, and as JSON and SARIF for tools.

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use recc_core::Sources;
use recc_core::problem::{Label, Problem, Severity};
use serde_json::{Value, json};
use std::fmt;
use std::io::IsTerminal as _;

/// A problem with the text it is in.
struct Rendered<'p> {
    problem: &'p Problem,
    source: NamedSource<String>,
}

impl fmt::Debug for Rendered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.problem)
    }
}

impl fmt::Display for Rendered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem.message)
    }
}

impl std::error::Error for Rendered<'_> {}

impl Diagnostic for Rendered<'_> {
    fn code(&self) -> Option<Box<dyn fmt::Display + '_>> {
        let word = if self.problem.severity == Severity::Error { "error" } else { "warning" };
        Some(Box::new(format!("{word}[{}]", self.problem.code)))
    }
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.problem.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }
    fn help(&self) -> Option<Box<dyn fmt::Display + '_>> {
        (!self.problem.help.is_empty()).then(|| Box::new(&self.problem.help) as Box<dyn fmt::Display>)
    }
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }
    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let file = self.problem.labels.first()?.span.file;
        let labels = self.problem.labels.iter().filter(move |label| label.span.file == file);
        Some(Box::new(labels.enumerate().map(|(at, label)| {
            let text = (!label.text.is_empty()).then(|| label.text.clone());
            let (start, len) = (label.span.start as usize, (label.span.end - label.span.start) as usize);
            // The place at fault heads the message, wherever the others are.
            if at == 0 { LabeledSpan::new_primary_with_span(text, (start, len)) } else { LabeledSpan::new(text, start, len) }
        })))
    }
}

/// Problems as text; with colours on a terminal, unless `NO_COLOR` is set.
pub(crate) fn text(sources: &Sources, problems: &[Problem]) -> String {
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let theme = if colours { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_links(false).with_width(120);
    let mut out = String::new();
    for problem in problems {
        let file = problem.labels.first().map_or(0, |label| label.span.file.0 as usize);
        let (name, text) = &sources.files[file];
        let rendered = Rendered { problem, source: NamedSource::new(name, text.clone()) };
        // Writing to memory does not fail.
        let _ = handler.render_report(&mut out, &rendered);
        for label in problem.labels.iter().filter(|label| label.span.file.0 as usize != file) {
            let (name, text) = &sources.files[label.span.file.0 as usize];
            let (line, column) = line_column(text, label.span.start as usize);
            out.push_str(&format!("  in {name}, line {line}, column {column}: {}\n", label.text));
        }
        out.push('\n');
    }
    let count = |severity: Severity| problems.iter().filter(|problem| problem.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if errors + warnings > 0 {
        let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        out.push_str(&format!("{}, {}\n", plural(errors, "error"), plural(warnings, "warning")));
    }
    out
}

/// Line and column of a byte, from 1.
fn line_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}

/// The file of a label, and where it begins and ends: lines and columns, from 1.
fn place_of<'s>(sources: &'s Sources, label: &Label) -> (&'s str, [usize; 4]) {
    let (name, text) = &sources.files[label.span.file.0 as usize];
    let (begin, end) = (line_column(text, label.span.start as usize), line_column(text, label.span.end as usize));
    (name, [begin.0, begin.1, end.0, end.1])
}

/// The word of a severity, in JSON and SARIF.
fn level(problem: &Problem) -> &'static str {
    if problem.severity == Severity::Error { "error" } else { "warning" }
}

/// The problems of a spec, and the texts they are in.
pub(crate) type Found = (Sources, Vec<Problem>);

/// Something of each problem.
fn each(found: &[Found], of: impl Fn(&Sources, &Problem) -> Value) -> Value {
    found.iter().flat_map(|(sources, problems)| problems.iter().map(|problem| of(sources, problem)).collect::<Vec<_>>()).collect()
}

/// The problems of all specs as one JSON list.
pub(crate) fn json_list(found: &[Found]) -> Value {
    each(found, |sources, problem| {
        let place = |label: &Label| {
            let (name, [line, column, end_line, end_column]) = place_of(sources, label);
            json!({"file": name, "line": line, "column": column, "end_line": end_line, "end_column": end_column, "text": label.text})
        };
        let places: Vec<Value> = problem.labels.iter().map(place).collect();
        json!({"code": problem.code, "severity": level(problem), "message": problem.message, "help": problem.help, "places": places})
    })
}

/// The problems of all specs as one SARIF 2.1 log.
pub(crate) fn sarif(found: &[Found]) -> Value {
    let results = each(found, |sources, problem| {
        let location = |label: &Label| {
            let (name, [line, column, end_line, end_column]) = place_of(sources, label);
            let region = json!({"startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column});
            json!({"physicalLocation": {"artifactLocation": {"uri": name}, "region": region}})
        };
        let locations: Vec<Value> = problem.labels.iter().take(1).map(location).collect();
        let text = format!("{}\n{}", problem.message, problem.help);
        json!({"ruleId": problem.code, "level": level(problem), "message": {"text": text}, "locations": locations})
    });
    json!({
        "version": "2.1.0",
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "runs": [{"tool": {"driver": {"name": "recc", "version": env!("CARGO_PKG_VERSION")}}, "results": results}],
    })
}
