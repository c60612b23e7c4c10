//! Lines of text that are split at a delimiter. What has no quotes, nearly every file, is split where its delimiters stand; from the piece of
//! text on that holds the first quote, or a line that ends in a lone `\r`, a parser of all that RFC 4180 allows reads to the end.

use super::rows::TextRows;
use csv::{ByteRecord, Reader, ReaderBuilder};
use memchr::{memchr, memchr_iter, memchr2_iter, memrchr};
use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8};
use std::io::{BufRead, Cursor, Read};

/// Bytes that are searched for delimiters together: they stay in the second cache until their cells are copied.
const PIECE: usize = 1 << 16;

/// The lines of a stream.
pub(super) struct Lines {
    delimiter: u8,
    /// Whether cells may be quoted.
    quoting: bool,
    source: Source,
}

enum Source {
    Plain(Plain),
    Quoted(Reader<Box<dyn Read + Send>>, ByteRecord),
    /// While it changes hands.
    Ended,
}

/// Whole lines without quotes.
struct Plain {
    reader: Box<dyn BufRead + Send>,
    /// Lines, and the beginning of one more behind them.
    text: Vec<u8>,
    /// Where the delimiters and the ends of the whole lines stand.
    marks: Vec<usize>,
    /// The first mark of the next line, and where that line begins.
    mark: usize,
    start: usize,
    /// The end of the whole lines.
    end: usize,
    /// Whether the reader has no more, or failed.
    exhausted: bool,
    /// Whether the last line lacks its end, which was added.
    unended: bool,
}

impl Lines {
    pub(super) fn new(reader: Box<dyn BufRead + Send>, delimiter: u8, quoting: bool) -> Self {
        let plain = Plain { reader, text: Vec::new(), marks: Vec::new(), mark: 0, start: 0, end: 0, exhausted: false, unended: false };
        Lines { delimiter, quoting, source: Source::Plain(plain) }
    }

    /// Adds the cells of the next line that is not empty to `rows`, if there are `width` of them (or any number where that is none); returns how
    /// many there were, none at the end.
    pub(super) fn next(&mut self, width: Option<usize>, rows: &mut TextRows) -> std::io::Result<Option<usize>> {
        loop {
            match &mut self.source {
                Source::Ended => return Ok(None),
                Source::Quoted(reader, record) => {
                    if !reader.read_byte_record(record)? {
                        return Ok(None);
                    }
                    if width.is_none_or(|width| width == record.len()) {
                        // As the line would stand without quotes.
                        let last = record.len() - 1;
                        let followed = |at: usize| if at == last { b'\n' } else { self.delimiter };
                        record.iter().enumerate().for_each(|(at, cell)| rows.push_before(cell, followed(at)));
                    }
                    return Ok(Some(record.len()));
                }
                Source::Plain(plain) => {
                    if let Some(cells) = plain.next(width, rows) {
                        return Ok(Some(cells));
                    }
                    if plain.exhausted && plain.start == plain.text.len() {
                        return Ok(None);
                    }
                    plain.fill()?;
                    if !plain.find(self.delimiter, self.quoting) {
                        self.read_quoted();
                    }
                }
            }
        }
    }

    /// Lets the parser of quotes read what is left.
    fn read_quoted(&mut self) {
        if let Source::Plain(mut plain) = std::mem::replace(&mut self.source, Source::Ended) {
            plain.text.truncate(plain.text.len() - usize::from(plain.unended));
            let mut text = Cursor::new(plain.text);
            text.set_position(plain.start as u64);
            let rest: Box<dyn Read + Send> = Box::new(text.chain(plain.reader));
            let mut builder = ReaderBuilder::new();
            builder.delimiter(self.delimiter).quoting(self.quoting).has_headers(false).flexible(true);
            self.source = Source::Quoted(builder.from_reader(rest), ByteRecord::new());
        }
    }
}

impl Plain {
    /// See [`Lines::next`]; none where no whole line is left.
    fn next(&mut self, width: Option<usize>, rows: &mut TextRows) -> Option<usize> {
        while self.start < self.end {
            let (start, first) = (self.start, self.mark);
            let last = first + self.marks[first..].iter().position(|&mark| self.text[mark] == b'\n')?;
            let newline = self.marks[last];
            self.mark = last + 1;
            self.start = newline + 1;
            let end = newline - usize::from(newline > start && self.text[newline - 1] == b'\r');
            if end == start {
                continue;
            }
            let cells = last + 1 - first;
            if width.is_none_or(|width| width == cells) {
                let ends = self.marks[first..last].iter().map(|mark| mark - start);
                rows.push_line(&self.text[start..end], ends.chain([end - start]));
            }
            return Some(cells);
        }
        None
    }

    /// Reads on, until there is a whole line, or one that ends in a lone `\r`. Of a line that a failure cuts off nothing is given out.
    fn fill(&mut self) -> std::io::Result<()> {
        self.text.drain(..self.start);
        (self.start, self.end) = (0, 0);
        self.marks.clear();
        self.mark = 0;
        loop {
            let searched = self.text.len();
            let more = match self.reader.fill_buf() {
                Ok(more) => more,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.exhausted = true;
                    self.text.clear();
                    return Err(error);
                }
            };
            let count = more.len().min(PIECE);
            self.text.extend_from_slice(&more[..count]);
            self.reader.consume(count);
            if count == 0 {
                self.exhausted = true;
                self.unended = self.text.last().is_some_and(|&byte| byte != b'\n');
                if self.unended {
                    self.text.push(b'\n');
                }
                self.end = self.text.len();
                return Ok(());
            }
            if let Some(at) = memrchr(b'\n', &self.text[searched..]) {
                self.end = searched + at + 1;
                return Ok(());
            }
            if memchr(b'\r', &self.text[searched.saturating_sub(1)..self.text.len() - 1]).is_some() {
                self.end = self.text.len();
                return Ok(());
            }
        }
    }

    /// Finds the delimiters of the whole lines, or says that they are not plain: one has a quote, or an end of its own kind.
    fn find(&mut self, delimiter: u8, quoting: bool) -> bool {
        let lines = &self.text[..self.end];
        let ends_otherwise = |at: usize| lines.get(at + 1) != Some(&b'\n');
        if quoting && memchr(b'"', lines).is_some() || memchr_iter(b'\r', lines).any(ends_otherwise) {
            return false;
        }
        find_either(lines, delimiter, b'\n', &mut self.marks);
        true
    }
}

/// Where either of two bytes stands. Cells are a few bytes long, so that setting out anew behind each of them would take most of the time.
fn find_either(text: &[u8], first: u8, second: u8, out: &mut Vec<usize>) {
    const BLOCK: usize = 64;
    let (blocks, rest) = text.as_chunks::<BLOCK>();
    for (at, block) in blocks.iter().enumerate() {
        let mut found = equal(block, first) | equal(block, second);
        // As many as there may be, so that adding one asks for no room.
        out.reserve(BLOCK);
        while found != 0 {
            out.push(at * BLOCK + found.trailing_zeros() as usize);
            found &= found - 1;
        }
    }
    let whole = text.len() - rest.len();
    out.extend(memchr2_iter(first, second, rest).map(|at| whole + at));
}

/// A bit for each byte that is the one wanted.
fn equal(block: &[u8; 64], wanted: u8) -> u64 {
    let (parts, _) = block.as_chunks::<16>();
    // SAFETY: every x86-64 processor has these vectors, and each part has 16 bytes.
    unsafe {
        let wanted = _mm_set1_epi8(wanted.cast_signed());
        parts.iter().enumerate().fold(0, |found, (at, part)| {
            let part = _mm_loadu_si128(part.as_ptr().cast());
            found | u64::from(_mm_movemask_epi8(_mm_cmpeq_epi8(part, wanted)) as u16) << (16 * at)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    /// A reader that fails, once.
    struct Failing(Option<std::io::Error>);

    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            self.0.take().map_or(Ok(0), Err)
        }
    }

    /// All rows of a text, which comes in pieces of `piece` bytes.
    fn rows(text: &[u8], piece: usize, delimiter: u8, quoting: bool) -> Vec<Vec<Vec<u8>>> {
        let reader = BufReader::with_capacity(piece, Cursor::new(text.to_vec()));
        let mut lines = Lines::new(Box::new(reader), delimiter, quoting);
        let mut found = Vec::new();
        loop {
            let mut row = TextRows::new(0);
            match lines.next(None, &mut row).expect("text in memory") {
                Some(cells) => {
                    assert_eq!(row.cells().count(), cells);
                    found.push(row.cells().map(<[u8]>::to_vec).collect());
                }
                None => return found,
            }
        }
    }

    /// The same by the parser of quotes alone.
    fn expected(text: &[u8], delimiter: u8, quoting: bool) -> Vec<Vec<Vec<u8>>> {
        let mut builder = ReaderBuilder::new();
        let mut reader = builder.delimiter(delimiter).quoting(quoting).has_headers(false).flexible(true).from_reader(text);
        reader.byte_records().map(|record| record.expect("text in memory").iter().map(<[u8]>::to_vec).collect()).collect()
    }

    #[test]
    fn random_texts_have_the_rows_that_the_parser_of_quotes_finds() {
        let mut at = 0;
        let mut draw = |below: usize| {
            at += 1;
            (crate::random::uniform(5, at) * below as f64) as usize
        };
        for case in 0..4000 {
            let signs: &[&str] = match case % 4 {
                0 => &["a", "bc", ",", "\n"],
                1 => &["a", "bc", ",", "\r\n", "\t", "\n"],
                2 => &["a", "bc", ",", "\n", "\"", "\"\"", "\"x,\ny\""],
                _ => &["a", ",", "\n", "\r", "\r\n", "\t"],
            };
            let text: String = (0..draw(40)).map(|_| signs[draw(signs.len())]).collect();
            for (delimiter, quoting) in [(b',', true), (b'\t', false)] {
                let piece = 1 + draw(12);
                assert_eq!(rows(text.as_bytes(), piece, delimiter, quoting), expected(text.as_bytes(), delimiter, quoting), "{text:?}");
            }
        }
    }

    #[test]
    fn whole_lines_before_a_failure_are_given_out() {
        for text in ["a,b\nc,d\n", "a,b\nc,d\ne", "a,b\nc,d\ne,f", "a,b\n\"c\",d\ne"] {
            for piece in 1..9 {
                let failing = Failing(Some(std::io::Error::other("cut off")));
                let mut lines = Lines::new(Box::new(BufReader::with_capacity(piece, Cursor::new(text).chain(failing))), b',', true);
                let mut rows = TextRows::new(2);
                assert_eq!(lines.next(Some(2), &mut rows).expect("a line"), Some(2));
                assert_eq!(lines.next(Some(2), &mut rows).expect("a line"), Some(2));
                assert_eq!(lines.next(Some(2), &mut rows).expect_err("a failure").to_string(), "cut off", "{text:?} by {piece}");
                assert_eq!(rows.cells().collect::<Vec<_>>(), [b"a", b"b", b"c", b"d"]);
            }
        }
    }

    #[test]
    fn text_says_the_same_with_quotes_and_without() {
        let text = |text: &'static str| {
            let mut lines = Lines::new(Box::new(Cursor::new(text)), b',', true);
            let mut rows = TextRows::new(2);
            while lines.next(Some(2), &mut rows).expect("text in memory").is_some() {}
            rows.as_slice().to_vec()
        };
        assert_eq!(text("a,b\r\nc,d"), text("a,\"b\"\nc,d\n"));
    }

    #[test]
    fn a_line_of_another_width_adds_no_cells() {
        let mut lines = Lines::new(Box::new(Cursor::new("a,b\nc\nd,e,f\ng,h")), b',', true);
        let mut rows = TextRows::new(2);
        let counts: Vec<_> = std::iter::from_fn(|| lines.next(Some(2), &mut rows).expect("text in memory")).collect();
        assert_eq!(counts, [2, 1, 3, 2]);
        assert_eq!(rows.len(), 2);
    }
}
