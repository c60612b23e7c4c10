//! Neighbouring rows of cells, as text.

/// Rows of as many cells each, one after another. Each cell is followed by one byte more, so that a line of a file is copied as it stands.
#[derive(Debug)]
pub(crate) struct TextRows {
    /// Cells of a row.
    width: usize,
    text: Vec<u8>,
    /// Where the byte before the first cell would be, then where each cell ends.
    ends: Vec<usize>,
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TextRow<'r> {
    text: &'r [u8],
    /// Where the cell before it ends, then where its own do.
    ends: &'r [usize],
}

/// The cell between two neighbouring ends.
fn between<'t>(text: &'t [u8], ends: &[usize]) -> &'t [u8] {
    &text[ends[0].wrapping_add(1)..ends[1]]
}

impl TextRows {
    /// No rows, of so many cells each.
    pub(crate) fn new(width: usize) -> Self {
        TextRows { width, text: Vec::new(), ends: vec![usize::MAX] }
    }

    /// Forgets all rows, but keeps their memory.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.ends.truncate(1);
    }

    pub(crate) fn len(&self) -> usize {
        (self.ends.len() - 1) / self.width.max(1)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.len() == 1
    }

    /// Adds the next cell.
    pub(crate) fn push(&mut self, cell: &[u8]) {
        self.push_before(cell, b'\n');
    }

    /// Adds the next cell, and the byte behind it.
    pub(crate) fn push_before(&mut self, cell: &[u8], byte: u8) {
        self.text.extend_from_slice(cell);
        self.ends.push(self.text.len());
        self.text.push(byte);
    }

    /// Adds cells that stand behind one another, each ending where `ends` says and followed by one byte; the last one's byte is not in the text.
    pub(crate) fn push_line(&mut self, text: &[u8], ends: impl Iterator<Item = usize>) {
        let base = self.text.len();
        self.text.extend_from_slice(text);
        self.text.push(b'\n');
        self.ends.extend(ends.map(|end| base + end));
    }

    /// The row of a number, which is there.
    pub(crate) fn row(&self, at: usize) -> TextRow<'_> {
        TextRow { text: &self.text, ends: &self.ends[at * self.width..=(at + 1) * self.width] }
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = TextRow<'_>> {
        (0..self.len()).map(|at| self.row(at))
    }

    /// All cells, row by row.
    pub(crate) fn cells(&self) -> impl Iterator<Item = &[u8]> {
        self.ends.windows(2).map(|ends| between(&self.text, ends))
    }

    /// The cells of a column, from the first row to the last.
    pub(crate) fn column(&self, at: usize) -> impl Iterator<Item = &[u8]> {
        self.ends[at.min(self.ends.len())..].windows(2).step_by(self.width.max(1)).map(|ends| between(&self.text, ends))
    }

    /// All cells, row by row, each followed by the delimiter or the end of a line.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.text
    }
}

impl<'r> TextRow<'r> {
    /// A cell, which is there.
    pub(crate) fn cell(&self, at: usize) -> &'r [u8] {
        between(self.text, &self.ends[at..at + 2])
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = &'r [u8]> {
        self.ends.windows(2).map(move |ends| between(self.text, ends))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_the_cells_that_were_added() {
        let mut rows = TextRows::new(3);
        ["a", "", "bcd"].into_iter().for_each(|cell| rows.push(cell.as_bytes()));
        rows.push_line(b",x,", [0, 2, 3].into_iter());
        assert_eq!(rows.len(), 2);
        let cells: Vec<Vec<&[u8]>> = rows.iter().map(|row| row.iter().collect()).collect();
        assert_eq!(cells, [[&b"a"[..], b"", b"bcd"], [b"", b"x", b""]]);
        assert_eq!((0..3).map(|at| rows.column(at).collect()).collect::<Vec<Vec<_>>>(), [[&b"a"[..], b""], [b"", b"x"], [b"bcd", b""]]);
        rows.clear();
        assert!(rows.is_empty() && rows.column(2).next().is_none());
    }
}
