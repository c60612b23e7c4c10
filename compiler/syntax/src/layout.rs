//! The layout pass: which newlines end a statement.
//!
//! Newlines inside `( )` and `[ ]`, and newlines before a line that begins with `|>`, become spaces, so that the grammar
//! needs no second set of rules. Every byte keeps its place: spans of the result are spans of the text. Comments on
//! those lines are blanked too. Brackets that do not match are reported here, where both places are known.

use crate::SyntaxProblem;

/// The text with insignificant newlines blanked, and where each top-level item begins and ends.
pub(crate) struct Layout {
    pub(crate) text: String,
    pub(crate) chunks: Vec<std::ops::Range<usize>>,
    pub(crate) problems: Vec<SyntaxProblem>,
    /// Where brackets are nested deeper than the parser follows.
    pub(crate) too_deep: Option<usize>,
}

/// Brackets nested deeper than this are refused: the parser descends the native stack.
const MAX_DEPTH: usize = 128;

struct Scanner<'a> {
    bytes: &'a [u8],
    out: Vec<u8>,
    at: usize,
    open: Vec<(u8, usize)>,
    problems: Vec<SyntaxProblem>,
    /// Top-level newlines that end an item.
    ends: Vec<usize>,
    too_deep: Option<usize>,
}

pub(crate) fn layout(text: &str) -> Layout {
    let mut scanner = Scanner {
        bytes: text.as_bytes(),
        out: Vec::with_capacity(text.len()),
        at: 0,
        open: Vec::new(),
        problems: Vec::new(),
        ends: Vec::new(),
        too_deep: None,
    };
    scanner.run();
    let mut chunks = Vec::new();
    let mut start = 0;
    for end in scanner.ends.iter().copied().chain([text.len()]) {
        chunks.push(start..end);
        start = end;
    }
    // Only whole characters are replaced, and only by spaces, so the bytes stay valid text.
    let text = String::from_utf8(scanner.out).unwrap_or_else(|_| text.to_owned());
    Layout { text, chunks, too_deep: scanner.too_deep, problems: scanner.problems }
}

impl Scanner<'_> {
    fn run(&mut self) {
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'"' => self.string(),
                b'/' if self.bytes.get(self.at + 1) == Some(&b'/') => self.comment(),
                b'(' | b'[' | b'{' => {
                    self.open.push((byte, self.at));
                    if self.open.len() > MAX_DEPTH && self.too_deep.is_none() {
                        self.too_deep = Some(self.at);
                    }
                    self.keep();
                }
                b')' | b']' | b'}' => self.close(byte),
                b'\n' => self.newline(),
                b'\r' => self.blank(),
                _ => self.keep(),
            }
        }
        for (bracket, at) in std::mem::take(&mut self.open) {
            // A text or bracket already reported explains what is left open.
            if !self.problems.is_empty() {
                break;
            }
            self.problems.push(SyntaxProblem::unclosed(bracket as char, at));
        }
    }

    fn keep(&mut self) {
        self.out.push(self.bytes[self.at]);
        self.at += 1;
    }

    fn blank(&mut self) {
        self.out.push(b' ');
        self.at += 1;
    }

    fn inside_brackets(&self) -> bool {
        matches!(self.open.last(), Some((b'(' | b'[', _)))
    }

    fn string(&mut self) {
        let start = self.at;
        self.keep();
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => return self.keep(),
                Some(b'\\') if self.at + 1 < self.bytes.len() => {
                    self.keep();
                    self.keep();
                }
                None | Some(b'\n') => {
                    self.problems.push(SyntaxProblem::unclosed('"', start));
                    return;
                }
                Some(_) => self.keep(),
            }
        }
    }

    fn comment(&mut self) {
        let blank = self.inside_brackets() || self.pipe_follows(self.line_end());
        let end = self.line_end();
        while self.at < end {
            if blank { self.blank() } else { self.keep() }
        }
    }

    fn line_end(&self) -> usize {
        self.bytes[self.at..].iter().position(|&b| b == b'\n').map_or(self.bytes.len(), |n| self.at + n)
    }

    fn close(&mut self, byte: u8) {
        let wanted = match byte {
            b')' => b'(',
            b']' => b'[',
            _ => b'{',
        };
        match self.open.last().copied() {
            Some((open, _)) if open == wanted => {
                self.open.pop();
            }
            // In a body, a bracket that no other waits for is one too many.
            Some((open, at)) if open != b'{' || self.open.iter().any(|(open, _)| *open == wanted) => {
                self.problems.push(SyntaxProblem::mismatched(open as char, at, byte as char, self.at));
                // Go on from the bracket it was probably meant for.
                match self.open.iter().rposition(|(open, _)| *open == wanted) {
                    Some(meant) => self.open.truncate(meant),
                    None => self.open.clear(),
                }
            }
            _ => self.problems.push(SyntaxProblem::unopened(byte as char, self.at)),
        }
        self.keep();
    }

    fn newline(&mut self) {
        if self.inside_brackets() || self.pipe_follows(self.at) {
            return self.blank();
        }
        self.keep();
        if self.open.is_empty() && !self.continues_docs() {
            self.ends.push(self.at);
        }
    }

    /// Documentation belongs to the item below it.
    fn continues_docs(&self) -> bool {
        let line = &self.bytes[..self.at - 1];
        let start = line.iter().rposition(|&b| b == b'\n').map_or(0, |n| n + 1);
        line[start..].trim_ascii_start().starts_with(b"///")
    }

    /// Whether the first thing after `from`, blanks and comments aside, is `|>`.
    fn pipe_follows(&self, from: usize) -> bool {
        let mut rest = &self.bytes[from..];
        loop {
            rest = rest.trim_ascii_start();
            if rest.starts_with(b"//") && !rest.starts_with(b"///") {
                let Some(end) = rest.iter().position(|&b| b == b'\n') else { return false };
                rest = &rest[end..];
            } else {
                return rest.starts_with(b"|>");
            }
        }
    }
}
