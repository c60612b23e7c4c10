//! `.rec` text to a syntax tree with spans.
//!
//! pest and its types end here. Parsing gives the tree of every item that could be read and one problem for each that
//! could not; it never decides to stop, and it never panics on any text.

pub mod ast;
mod build;
mod format;
mod layout;
mod print;

use ast::{File, FileId, Span};
use pest::Parser as _;

#[allow(missing_docs, unreachable_pub, reason = "written by pest's derive")]
mod grammar {
    #[derive(pest_derive::Parser)]
    #[grammar = "../../grammar/rec.pest"]
    pub(crate) struct Grammar;
}
use grammar::{Grammar, Rule};

pub use format::format;
pub use print::{print_expr, print_file, quoted};

/// Words an item may begin with.
pub const ITEM_WORDS: [&str; 13] =
    ["use", "const", "data", "features", "table", "block", "model", "ensemble", "cohort", "auxiliary", "objective", "train", "metrics"];

/// What a text gave: the items that could be read and the problems of those that could not.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The tree.
    pub file: File,
    /// In the order of the text.
    pub problems: Vec<SyntaxProblem>,
}

/// A place where the text is not `.rec`.
#[derive(Clone, Debug, PartialEq)]
pub struct SyntaxProblem {
    /// The kind of problem.
    pub kind: SyntaxProblemKind,
    /// Bytes of the place at fault.
    pub at: std::ops::Range<usize>,
}

/// The kinds of syntax problems.
#[derive(Clone, Debug, PartialEq)]
pub enum SyntaxProblemKind {
    /// Something else was expected here.
    Unexpected {
        /// The text found, or "the end of the file".
        found: String,
        /// What could have stood here, in words.
        expected: Vec<String>,
        /// The first word of the line.
        line_word: String,
    },
    /// A bracket or quote that nothing closes.
    Unclosed(char),
    /// A closing bracket that nothing opened.
    Unopened(char),
    /// A closing bracket of another kind than the one open.
    Mismatched {
        /// The bracket open.
        open: char,
        /// Where it was opened.
        open_at: usize,
        /// The bracket found.
        close: char,
    },
    /// A number that does not fit.
    NumberTooLarge(String),
    /// Nesting deeper than the parser follows.
    TooDeep,
}

impl SyntaxProblem {
    fn unclosed(bracket: char, at: usize) -> Self {
        SyntaxProblem { kind: SyntaxProblemKind::Unclosed(bracket), at: at..at + 1 }
    }
    fn unopened(bracket: char, at: usize) -> Self {
        SyntaxProblem { kind: SyntaxProblemKind::Unopened(bracket), at: at..at + 1 }
    }
    fn mismatched(open: char, open_at: usize, close: char, at: usize) -> Self {
        SyntaxProblem { kind: SyntaxProblemKind::Mismatched { open, open_at, close }, at: at..at + 1 }
    }
}

/// Reads a file. `file` goes into every span.
pub fn parse(file: FileId, text: &str) -> Parsed {
    let layout = layout::layout(text);
    if let Some(at) = layout.too_deep {
        return Parsed { file: File::default(), problems: vec![SyntaxProblem { kind: SyntaxProblemKind::TooDeep, at: at..at + 1 }] };
    }
    if !layout.problems.is_empty() {
        return Parsed { file: File::default(), problems: layout.problems };
    }
    match Grammar::parse(Rule::file, &layout.text) {
        Ok(mut pairs) => {
            let mut builder = build::Builder::new(file, 0);
            let file = pairs.next().map(|pair| builder.file(pair)).unwrap_or_default();
            Parsed { file, problems: builder.problems }
        }
        Err(_) => parse_by_item(file, &layout),
    }
}

/// A text with more mistakes is hardly a spec, and each costs a parse.
const MOST_PROBLEMS: usize = 20;

/// Each item alone, so that one mistake does not hide the next.
fn parse_by_item(file: FileId, layout: &layout::Layout) -> Parsed {
    let mut parsed = Parsed::default();
    for chunk in &layout.chunks {
        if parsed.problems.len() >= MOST_PROBLEMS {
            break;
        }
        let text = &layout.text[chunk.clone()];
        if is_blank(text) {
            continue;
        }
        match Grammar::parse(Rule::lone_item, text) {
            Ok(pairs) => {
                let mut builder = build::Builder::new(file, chunk.start);
                parsed.file.items.extend(pairs.flat_map(|pair| builder.items(pair)).collect::<Vec<_>>());
                parsed.problems.append(&mut builder.problems);
            }
            Err(_) => parsed.problems.extend(detailed(text, chunk.start)),
        }
    }
    parsed
}

fn is_blank(text: &str) -> bool {
    text.lines()
        .all(|line| line.trim().is_empty() || (line.trim().starts_with("//") && !line.trim().starts_with("///")) || line.trim() == ",")
}

/// The problem of an item, which is parsed again while what is tried is noted: that takes time, and only mistakes need it.
fn detailed(text: &str, offset: usize) -> Option<SyntaxProblem> {
    pest::set_error_detail(true);
    let found = Grammar::parse(Rule::lone_item, text);
    pest::set_error_detail(false);
    found.err().map(|error| problem_of(&error, text, offset))
}

fn problem_of(error: &pest::error::Error<Rule>, text: &str, offset: usize) -> SyntaxProblem {
    let (start, mut expected) = expectations(error, text);
    expected.sort();
    expected.dedup();
    let rest = text.get(start..).unwrap_or_default();
    let found = token_at(rest);
    let line = text.get(..start).unwrap_or_default().rfind('\n').map_or(0, |at| at + 1);
    let line_word = token_at(text.get(line..).unwrap_or_default().trim_start());
    let len = if found.is_empty() { 0 } else { found.len() };
    let found = if rest.trim().is_empty() {
        "the end of the item".to_owned()
    } else if found == "\n" {
        "the end of the line".to_owned()
    } else {
        format!("`{found}`")
    };
    SyntaxProblem { kind: SyntaxProblemKind::Unexpected { found, expected, line_word }, at: offset + start..offset + start + len }
}

/// Where the text stops being `.rec`, and what could have stood there. Rules are known by where they begin; a sign may be missed further on.
fn expectations(error: &pest::error::Error<Rule>, text: &str) -> (usize, Vec<String>) {
    let start = match error.location {
        pest::error::InputLocation::Pos(at) | pest::error::InputLocation::Span((at, _)) => at,
    };
    let (rules, wants_name) = match &error.variant {
        pest::error::ErrorVariant::ParsingError { positives, .. } => {
            let rules = positives.iter().filter_map(|rule| build::describe(*rule)).map(str::to_owned).collect();
            (rules, positives.contains(&Rule::name))
        }
        pest::error::ErrorVariant::CustomError { message } => (vec![message.clone()], false),
    };
    let is_word = |at: usize| text.as_bytes().get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let is_one_word = |from: usize, to: usize| (from..to).all(is_word) && (wants_name || text.as_bytes()[from].is_ascii_digit());
    match error.parse_attempts() {
        // Within a word or a number a longer one was looked for, and behind a word that is no name what would make it one.
        Some(tried)
            if tried.max_position > start
                && !is_one_word(start, tried.max_position)
                && !(is_word(tried.max_position) && is_word(tried.max_position - 1)) =>
        {
            // Not blanks, comments and ranges of letters.
            let is_sign = |token: &String| {
                token.len() > 1 && token.bytes().all(|byte| byte.is_ascii_lowercase())
                    || token != "_" && !token.starts_with("//") && token.bytes().all(|byte| byte.is_ascii_punctuation())
            };
            let signs = tried.expected_tokens().iter().map(ToString::to_string).filter(is_sign).map(|token| format!("`{token}`")).collect();
            (tried.max_position, signs)
        }
        _ => (start, rules),
    }
}

/// The word or the sign a text begins with.
fn token_at(text: &str) -> String {
    let word: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if word.is_empty() { text.chars().take(1).collect() } else { word }
}

/// A span of bytes of a file.
pub fn span(file: FileId, range: &std::ops::Range<usize>) -> Span {
    Span { file, start: range.start as u32, end: range.end as u32 }
}
