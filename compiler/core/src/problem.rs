//! What is wrong with a spec: a code, a place, what was found and what to do.

use recc_syntax::ast::{FileId, Span};
use recc_syntax::{SyntaxProblem, SyntaxProblemKind};

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The spec means nothing, or not what it says.
    Error,
    /// The spec works, and probably not as meant.
    Warning,
}

/// A place and what is to be said of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// What is there.
    pub text: String,
}

/// A problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// `E0203`
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The problem in one line.
    pub message: String,
    /// Places, the one at fault first.
    pub labels: Vec<Label>,
    /// What to do.
    pub help: String,
}

impl Problem {
    /// An error at a place.
    pub fn error(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Problem {
            code,
            severity: Severity::Error,
            message: message.into(),
            labels: vec![Label { span, text: String::new() }],
            help: String::new(),
        }
    }

    /// An error that is not in the text of the spec.
    pub fn nowhere(code: &'static str, message: impl Into<String>) -> Self {
        Problem { code, severity: Severity::Error, message: message.into(), labels: Vec::new(), help: String::new() }
    }

    /// A warning at a place.
    pub fn warning(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Problem { severity: Severity::Warning, ..Problem::error(code, span, message) }
    }

    /// What the first place shows.
    #[must_use]
    pub fn here(mut self, text: impl Into<String>) -> Self {
        if let Some(label) = self.labels.first_mut() {
            label.text = text.into();
        }
        self
    }

    /// Another place.
    #[must_use]
    pub fn and(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// What to do.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = text.into();
        self
    }

    /// A problem of the text's syntax.
    pub fn syntax(file: FileId, problem: &SyntaxProblem) -> Self {
        let at = recc_syntax::span(file, &problem.at);
        match &problem.kind {
            SyntaxProblemKind::Unexpected { found, expected, line_word } => unexpected(at, found, expected, line_word),
            SyntaxProblemKind::Unclosed('"') => Problem::error("E0002", at, "this text is never closed")
                .help("add `\"` at its end; a text does not go over the end of a line"),
            SyntaxProblemKind::Unclosed(open) => Problem::error("E0002", at, format!("this `{open}` is never closed"))
                .help(format!("add `{}` where it ends", closing(*open))),
            SyntaxProblemKind::Unopened(close) => {
                let help = match close {
                    '}' => "remove it, or add the `{` that a line above it misses",
                    _ => "remove it, or add the bracket it belongs to",
                };
                Problem::error("E0003", at, format!("this `{close}` closes nothing")).help(help)
            }
            SyntaxProblemKind::Mismatched { open, open_at, close } => Problem::error("E0004", at, format!("`{close}` closes a `{open}`"))
                .here("this does not fit")
                .and(recc_syntax::span(file, &(*open_at..open_at + 1)), "the bracket that is open")
                .help(format!("close it with `{}` first", closing(*open))),
            SyntaxProblemKind::NumberTooLarge(text) => Problem::error("E0005", at, format!("the number {text} is too large"))
                .help("whole numbers reach 9223372036854775807, others 1.7e308"),
            SyntaxProblemKind::TooDeep => {
                Problem::error("E0006", at, "this is nested too deep, or too long for one expression").help("name parts of it with `let`")
            }
        }
    }
}

fn unexpected(at: Span, found: &str, expected: &[String], line_word: &str) -> Problem {
    let word = found.trim_matches('`');
    let near = nearest(word, recc_syntax::ITEM_WORDS.iter().copied());
    let expected = if expected.is_empty() { "something else".to_owned() } else { expected.join(", or ") };
    let problem = Problem::error("E0001", at, format!("{found} cannot stand here")).here(format!("expected {expected}"));
    if let Some(help) = foreign_statement(line_word, word) {
        return problem.help(help);
    }
    match near {
        Some(near) if near != word => problem.help(format!("did you mean `{near}`?")),
        Some(_) => problem.help(format!("an item is written `{word} … {{ … }}`, without `:` or `=`; `recc explain E0001` shows the forms")),
        None if expected == "`:`" && !matches!(word, "=" | ";" | "#") => problem.help("a `:` stands between a name and its value or type"),
        None if expected == "`=`" && word == ":" => problem.help("a name is bound with `=`"),
        None => problem.help(sign_help(word)),
    }
}

/// What is written here in place of statements of other languages, which begin a line.
fn foreign_statement(word: &str, found: &str) -> Option<&'static str> {
    Some(match word {
        "import" | "from" | "include" => {
            "blocks of the library are named by `use std.dense.{linear, mlp}`, those of a file by `use \"blocks.rec\" as mine`"
        }
        "def" | "fn" | "func" | "function" | "lambda" => {
            "a function is a `block` beside the models: `block double(x: f32[D]) -> f32[D] { x + x }`"
        }
        "class" | "struct" => "a model is written `model name { … }`, and what is used in several places a `block`",
        "return" => "the last line of a block is its value, without a word before it",
        "pass" | "while" | "try" | "with" => "there is no such statement: a model is `let`, `for`, `if` and expressions",
        "for" | "if" | "else" | "elif" if found == ":" => "a body stands in braces: `for l in 0..3 { … }`, `if deep { … } else { … }`",
        "use" if found == "*" => "name what is used: `use std.dense.{linear, mlp}`",
        "loss" | "losses" if found == word => "losses stand in `objective { click: bce }`",
        "dataset" | "datasource" if found == word => "files stand in `data { train: \"train.csv\" }`",
        "optimizer" | "training" | "trainer" if found == word => {
            "how a model is trained stands in `train { epochs: 10, dense: adam(lr: 1e-3) }`"
        }
        "embedding" | "embeddings" if found == word => "a table is written `table users { keys: user, dim: 16 }`",
        _ => return None,
    })
}

/// What people mean who write a sign that stands nowhere, or not there.
fn sign_help(sign: &str) -> &'static str {
    match sign {
        "#" => "a comment begins with `//`",
        "'" => "a text stands between `\"`",
        "=" => "a setting or an argument is written `name: value`; `=` binds a name in `let`, `const`, `param` and features",
        "*" => "a product is `a * b`, a square `square(x)`, other powers `exp(n * log(x))`",
        "^" => "a square is `square(x)`, other powers `exp(n * log(x))`",
        "&" => "truth values are joined by `and`",
        "|" => "a value is passed on by `|>`; truth values are joined by `or`",
        "." => "a number has a digit before and behind its point: `0.5`, `512.0`",
        "," => "values in a row are a list, in brackets: `[64, 32]`",
        "if" => "a choice is `if deep { a } else { b }` at compile time, and `select(c, a, b)` for each example",
        ";" => "a newline ends a statement: remove the `;`",
        ":" => "`:` stands behind the key of a setting, and not behind the word that begins an item",
        _ => "a newline or a comma ends a statement; `recc explain E0001` shows the forms",
    }
}

fn closing(open: char) -> char {
    match open {
        '(' => ')',
        '[' => ']',
        _ => '}',
    }
}

/// The known name most like another, if one is near enough to be meant.
pub fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let limit = (name.chars().count() / 3).max(1);
    let mut best: Option<(usize, &str)> = None;
    for candidate in known {
        // `ReLU` is `relu`, however many letters that changes.
        let distance = if name.eq_ignore_ascii_case(candidate) { 0 } else { strsim::damerau_levenshtein(name, candidate) };
        if distance <= limit && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// A help line for an unknown name.
pub fn suggest<'n>(name: &str, known: impl IntoIterator<Item = &'n str> + Clone) -> String {
    if let Some(near) = nearest(name, known.clone()) {
        return format!("did you mean `{near}`?");
    }
    let mut all: Vec<&str> = known.into_iter().collect();
    all.sort_unstable();
    all.dedup();
    if all.is_empty() { "there is none of that kind yet".to_owned() } else { format!("known here: {}", all.join(", ")) }
}
