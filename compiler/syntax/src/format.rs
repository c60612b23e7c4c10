//! `recc fmt`: one style. Line breaks and comments stay where they are; blanks, indentation and alignment are decided here.
//!
//! Works on tokens, not on the tree, so that nothing a modeler wrote is lost. The tree of the result is the tree of the text.

use std::fmt::Write as _;

/// Words behind which a bracket begins a value, not a call.
const WORDS: [&str; 12] = ["if", "else", "in", "and", "or", "not", "for", "of", "as", "use", "let", "predict"];
/// Items whose braces hold settings.
const SETTINGS: [&str; 7] = ["data", "table", "ensemble", "auxiliary", "objective", "train", "metrics"];
/// Statements and items that bind a name.
const BINDINGS: [&str; 10] = ["let", "var", "predict", "layer", "param", "state", "expose", "update", "const", "cohort"];

/// Parts are aligned with neighbours that are at most this much longer.
const FAR: usize = 24;

/// What the braces around a line hold.
#[derive(Clone, Copy, PartialEq)]
enum Around {
    File,
    Features,
    Settings,
    Body,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Word,
    Number,
    Text,
    Sign,
}

#[derive(Clone, Copy)]
struct Token<'t> {
    kind: Kind,
    text: &'t str,
}

/// A line before it is aligned with its neighbours.
#[derive(Default)]
struct Line {
    indent: usize,
    /// Parts that are aligned with those of neighbours of the same class.
    parts: Vec<String>,
    /// Lines of one class next to each other are aligned.
    class: String,
    comment: String,
}

/// A text without syntax errors in the one style.
pub fn format(text: &str) -> String {
    let mut formatter = Formatter { open: Vec::new(), lines: Vec::new(), blank: false, goes_on: false, owner: "" };
    for line in text.lines() {
        formatter.line(line);
    }
    render(&formatter.lines)
}

struct Formatter<'t> {
    /// Open brackets: the sign, what it holds, and the indentation of lines inside it.
    open: Vec<(char, Around, usize)>,
    lines: Vec<Option<Line>>,
    /// Whether a blank line is due.
    blank: bool,
    /// Whether the line before ends with a value, which a sign may go on with.
    goes_on: bool,
    /// The first word of the line that is read.
    owner: &'t str,
}

impl<'t> Formatter<'t> {
    fn line(&mut self, text: &'t str) {
        let (tokens, comment) = tokens(text);
        if tokens.is_empty() && comment.is_empty() {
            self.blank = !self.lines.is_empty();
            return;
        }
        let closes = tokens.first().is_some_and(|token| matches!(token.text, "}" | ")" | "]"));
        if std::mem::take(&mut self.blank) && !closes && self.lines.last().is_some_and(|line| !line.as_ref().is_some_and(opens_a_body)) {
            self.lines.push(None);
        }
        let around = self.open.last().map_or(Around::File, |open| open.1);
        let inside = matches!(self.open.last(), Some(('(' | '[', ..)));
        let mut indent = self.open.last().map_or(0, |open| open.2);
        if closes {
            indent = indent.saturating_sub(4);
        }
        if tokens.first().is_some_and(|token| token.text == "|>") && !inside {
            indent += 4;
        }
        if !inside && !closes {
            self.owner = tokens.first().map_or("", |token| token.text);
        }
        self.brackets(&tokens, indent);
        let ends_outside = !matches!(self.open.last(), Some(('(' | '[', ..)));
        let tokens = match tokens.split_last() {
            // A newline separates as well.
            Some((last, rest)) if last.text == "," && ends_outside => rest,
            _ => &tokens,
        };
        let mut line = Line { indent, comment: comment.to_owned(), ..Line::default() };
        if inside {
            // A sign that begins a line goes on with the one above.
            let split = tokens.first().is_some_and(|token| matches!(token.text, "-" | "*" | "@")) && self.goes_on;
            line.parts = vec![if split { format!("{} {}", tokens[0].text, spaced(&tokens[1..])) } else { spaced(tokens) }];
        } else {
            (line.class, line.parts) = parts(tokens, around);
        }
        self.goes_on = tokens.last().is_some_and(|last| match last.kind {
            Kind::Sign => matches!(last.text, ")" | "]" | "}"),
            Kind::Word => !WORDS.contains(&last.text),
            Kind::Number | Kind::Text => true,
        });
        self.lines.push(Some(line));
    }

    fn brackets(&mut self, tokens: &[Token<'_>], indent: usize) {
        for token in tokens {
            match token.text {
                "{" => {
                    let around = match self.owner {
                        "features" => Around::Features,
                        owner if SETTINGS.contains(&owner) => Around::Settings,
                        _ => Around::Body,
                    };
                    self.open.push(('{', around, indent + 4));
                }
                "(" | "[" => {
                    let around = self.open.last().map_or(Around::File, |open| open.1);
                    self.open.push((token.text.chars().next().unwrap_or('('), around, indent + 4));
                }
                "}" | ")" | "]" => {
                    self.open.pop();
                }
                _ => {}
            }
        }
    }
}

fn opens_a_body(line: &Line) -> bool {
    line.parts.last().is_some_and(|part| part.ends_with('{'))
}

/// The tokens of a line, and the comment that ends it.
fn tokens(line: &str) -> (Vec<Token<'_>>, &str) {
    let mut found = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        if rest.starts_with("//") {
            return (found, rest.trim_end());
        }
        let is_name = |sign: char| sign.is_alphanumeric() || sign == '_';
        let first = rest.chars().next().unwrap_or(' ');
        let (kind, len) = if first == '"' {
            (Kind::Text, text_len(rest))
        } else if first.is_ascii_digit() {
            (Kind::Number, number_len(rest))
        } else if is_name(first) {
            (Kind::Word, rest.find(|sign| !is_name(sign)).unwrap_or(rest.len()))
        } else {
            let signs = ["..=", "|>", "->", "==", "!=", "<=", ">=", ".."];
            (Kind::Sign, signs.iter().find(|sign| rest.starts_with(**sign)).map_or(first.len_utf8(), |sign| sign.len()))
        };
        found.push(Token { kind, text: &rest[..len] });
        rest = rest[len..].trim_start();
    }
    (found, "")
}

fn text_len(rest: &str) -> usize {
    let mut escaped = false;
    for (at, sign) in rest.char_indices().skip(1) {
        match sign {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// `1_000`, `0.5`, `1e-3`; of `0..4` the `0` alone.
fn number_len(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let digits = |from: usize| from + bytes[from..].iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'_').count();
    let mut at = digits(0);
    if bytes.get(at) == Some(&b'.') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit) {
        at = digits(at + 1);
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        if bytes.get(at + 1 + sign).is_some_and(u8::is_ascii_digit) {
            at = digits(at + 1 + sign);
        }
    }
    at
}

/// Whether a sign at this place belongs to what follows it: `-x`, `*L`, `@name`.
fn is_prefix(before: Option<&Token<'_>>) -> bool {
    match before {
        None => true,
        Some(Token { kind: Kind::Word, text }) => WORDS.contains(text),
        Some(Token { kind: Kind::Sign, text }) => !matches!(*text, ")" | "]" | "}"),
        Some(_) => false,
    }
}

/// Tokens with the blanks of the style between them.
fn spaced(tokens: &[Token<'_>]) -> String {
    let mut out = String::new();
    let mut imports = 0;
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| &tokens[at]);
        if let Some(previous) = before
            && space_between(tokens, at, previous, token, imports)
        {
            out.push(' ');
        }
        if token.text == "{" && before.is_some_and(|before| before.text == ".") {
            imports += 1;
        }
        if token.text == "}" && imports > 0 {
            imports -= 1;
        }
        out.push_str(token.text);
    }
    out
}

fn space_between(tokens: &[Token<'_>], at: usize, previous: &Token<'_>, token: &Token<'_>, imports: usize) -> bool {
    let prefix_before = at >= 1 && matches!(previous.text, "-" | "*" | "~" | "@") && {
        let before = at.checked_sub(2).map(|at| &tokens[at]);
        previous.text == "~" || is_prefix(before)
    };
    let called = |token: &Token<'_>| match token.kind {
        // `of` is a name elsewhere.
        Kind::Word if token.text == "of" => tokens.first().is_some_and(|first| first.text != "ensemble"),
        Kind::Word => !WORDS.contains(&token.text),
        Kind::Sign => matches!(token.text, ")" | "]"),
        _ => false,
    };
    match (previous.text, token.text) {
        _ if prefix_before => false,
        ("(" | "[" | "." | ".." | "..=", _) | (_, ")" | "]" | "," | ":" | ";" | "." | "..=") => false,
        // `..` stands between numbers, or for axes behind a comma.
        (before, "..") => before == ",",
        ("{", "}") => false,
        ("{", _) | (_, "}") => imports == 0,
        (_, "(" | "[") => !called(previous),
        _ => true,
    }
}

/// A line's class and its parts, by what the braces around it hold.
fn parts(tokens: &[Token<'_>], around: Around) -> (String, Vec<String>) {
    let whole = |tokens: &[Token<'_>]| (String::new(), vec![spaced(tokens)]);
    let word = |at: usize| tokens.get(at).filter(|token| token.kind == Kind::Word).map(|token| token.text);
    let equals = tokens.iter().position(|token| token.text == "=");
    match around {
        Around::Settings if word(0).is_some() && tokens.get(1).is_some_and(|token| token.text == ":") => {
            // Several settings in one line are one part.
            if has_outer_comma(&tokens[2..]) {
                return whole(tokens);
            }
            ("setting".to_owned(), vec![spaced(&tokens[..2]), spaced(&tokens[2..])])
        }
        Around::Features if word(0).is_some() && word(1).is_some() && !has_outer_comma(tokens) => {
            let mut found = vec![spaced(&tokens[..1])];
            match equals {
                Some(at) => found.extend([spaced(&tokens[1..at]), spaced(&tokens[at..])]),
                None => found.push(spaced(&tokens[1..])),
            }
            ("feature".to_owned(), found)
        }
        Around::Body | Around::File
            if word(0).is_some_and(|word| SETTINGS.contains(&word)) && tokens.last().is_some_and(|token| token.text == "}") =>
        {
            let at = tokens.iter().position(|token| token.text == "{").unwrap_or(0);
            let class = if word(0) == Some("table") { "table" } else { "settings" };
            (class.to_owned(), vec![spaced(&tokens[..at]), spaced(&tokens[at..])])
        }
        Around::Body | Around::File => match (word(0), equals) {
            (Some(first), Some(at)) if BINDINGS.contains(&first) && at > 1 => {
                (first.to_owned(), vec![spaced(&tokens[..at]), spaced(&tokens[at..])])
            }
            _ => whole(tokens),
        },
        _ => whole(tokens),
    }
}

/// A comma outside all brackets of the line.
fn has_outer_comma(tokens: &[Token<'_>]) -> bool {
    let mut depth = 0i32;
    tokens.iter().any(|token| {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        token.text == "," && depth == 0
    })
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// Lines as text, neighbours of one class aligned.
fn render(lines: &[Option<Line>]) -> String {
    let mut texts: Vec<Option<(String, &str)>> = Vec::new();
    let mut start = 0;
    while start < lines.len() {
        let Some(first) = &lines[start] else {
            texts.push(None);
            start += 1;
            continue;
        };
        let alike = |line: &Option<Line>| {
            line.as_ref().is_some_and(|line| !line.class.is_empty() && line.class == first.class && line.indent == first.indent)
        };
        let count = lines[start..].iter().take_while(|line| alike(line)).count().max(1);
        let group: Vec<&Line> = lines[start..start + count].iter().flatten().collect();
        for line in &group {
            let mut text = " ".repeat(line.indent);
            for (at, part) in line.parts.iter().enumerate() {
                let last = at + 1 == line.parts.len();
                // The last part of a line is as long as it is; others reach as far as the longest before another part.
                let widths = || group.iter().filter(|other| other.parts.len() > at + 1).map(|other| width(&other.parts[at]));
                // A part that is far longer than another would push all others away.
                let limit = widths().min().unwrap_or(0) + FAR;
                let longest = widths().filter(|width| *width <= limit).max().unwrap_or(0);
                let pad = if last { 0 } else { longest.saturating_sub(width(part)) + 1 };
                let _ = write!(text, "{part}{:pad$}", "");
            }
            texts.push(Some((text, &line.comment)));
        }
        start += count;
    }
    let mut out = String::new();
    let mut start = 0;
    while start < texts.len() {
        let trailing =
            |text: &Option<(String, &str)>| text.as_ref().is_some_and(|(code, comment)| !comment.is_empty() && !code.trim().is_empty());
        let count = texts[start..].iter().take_while(|text| trailing(text)).count().max(1);
        let longest = texts[start..start + count].iter().flatten().map(|(code, _)| width(code)).max().unwrap_or(0);
        for text in &texts[start..start + count] {
            match text {
                None => {}
                Some((code, "")) => out.push_str(code.trim_end()),
                Some((code, comment)) if code.trim().is_empty() => out.push_str(&format!("{code}{comment}")),
                Some((code, comment)) => {
                    let pad = longest - width(code) + 2;
                    let _ = write!(out, "{code}{:pad$}{comment}", "");
                }
            }
            out.push('\n');
        }
        start += count;
    }
    out
}
