//! Transformed rows in temporary files of their own, beside the checkpoint: read once, visited every epoch.
//!
//! Records have one width; the entries of bags lie in a second file. A spool that fits in [`WINDOW`] bytes is held in memory and
//! visited in one permutation of its rows. A larger one is read in pieces of [`PIECE`] rows, in a permuted order, as many at a time
//! as fit, and the rows of those are permuted: memory stays bounded.

use crate::data::Rows;
use crate::failure::Failure;
use crate::random::{key, permutation};
use crate::remarks::Extent;
use crate::transform::{Records, Transformer, long, set_long};
use bytemuck::{cast_slice, cast_slice_mut};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// Bytes of records held in memory.
const WINDOW: usize = 256 << 20;
/// Rows read together from a spool that is larger.
const PIECE: usize = 64;

/// What is done with some of a window's rows, in their order.
pub(crate) type Visit<'v> = dyn FnMut(&Window, &[u32]) -> Result<(), Failure> + 'v;

/// Transformed rows.
pub(crate) struct Spool {
    records: File,
    bags: File,
    folder: PathBuf,
    pub(crate) rows: usize,
    pub(crate) width: usize,
    /// Of the text of all rows, in order.
    pub(crate) hash: u64,
    /// Entries of all bags.
    entries: u64,
    /// Columns that are bags, by the first word of their part.
    bag_words: Vec<usize>,
}

/// Rows of a spool in memory: records and bag entries.
#[derive(Debug, Default, Clone)]
pub(crate) struct Window {
    pub(crate) records: Vec<u32>,
    pub(crate) bags: Vec<u32>,
    /// Row number of each record.
    pub(crate) rows: Vec<u32>,
}

fn read_words(file: &File, path: &Path, start: u64, count: usize, out: &mut Vec<u32>) -> Result<(), Failure> {
    let before = out.len();
    out.resize(before + count, 0);
    file.read_exact_at(cast_slice_mut(&mut out[before..]), start * 4).map_err(|error| Failure::io("read back from", path, &error))
}

impl Spool {
    /// Reads and transforms all rows, which `extent` takes in. `progress` hears of rows read.
    pub(crate) fn write(
        folder: &Path,
        data: &mut Rows,
        transformer: &mut Transformer<'_>,
        bag_words: Vec<usize>,
        mut extent: Option<&mut Extent>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Spool, Failure> {
        // Files without a name: however the process ends, nothing stays behind.
        let failed = |error: std::io::Error| Failure::io("write in", folder, &error);
        let create = || tempfile::tempfile_in(folder).map_err(failed);
        let mut spool = Spool {
            records: create()?,
            bags: create()?,
            folder: folder.to_owned(),
            rows: 0,
            width: transformer.width,
            hash: 0,
            entries: 0,
            bag_words,
        };
        let mut records = BufWriter::with_capacity(1 << 20, spool.records.try_clone().map_err(failed)?);
        let mut bags = BufWriter::with_capacity(1 << 20, spool.bags.try_clone().map_err(failed)?);
        let mut chunk = Records::default();
        let mut hash = Xxh3::new();
        data.for_each_chunk(|rows, first| {
            transformer.chunk(rows, first, &mut chunk)?;
            if let Some(extent) = extent.as_deref_mut() {
                extent.add(&chunk.words, spool.width);
            }
            if !spool.bag_words.is_empty() {
                for record in chunk.words.chunks_exact_mut(spool.width) {
                    spool.bag_words.iter().for_each(|&at| set_long(record, at, long(record, at) + spool.entries));
                }
            }
            records.write_all(cast_slice(&chunk.words)).map_err(failed)?;
            bags.write_all(cast_slice(&chunk.bags)).map_err(failed)?;
            hash.update(rows.as_slice());
            spool.entries += chunk.bags.len() as u64;
            spool.rows += rows.len();
            progress(spool.rows as u64);
            Ok(())
        })?;
        if spool.rows >= u32::MAX as usize {
            return Err(Failure::input("more than 4294967294 rows\nhelp: train on a part of them"));
        }
        records.flush().map_err(failed)?;
        bags.flush().map_err(failed)?;
        spool.hash = hash.digest();
        Ok(spool)
    }

    /// One word of every record, in order.
    pub(crate) fn words(&self, word: usize) -> Result<Vec<u32>, Failure> {
        let mut found = Vec::with_capacity(self.rows);
        let mut records = Vec::new();
        for start in (0..self.rows).step_by(1 << 14) {
            let count = (self.rows - start).min(1 << 14);
            records.clear();
            read_words(&self.records, &self.folder, (start * self.width) as u64, count * self.width, &mut records)?;
            found.extend(records.chunks_exact(self.width).map(|record| record[word]));
        }
        Ok(found)
    }

    /// Reads rows `start..start + count`, in order, behind what the window holds.
    fn read(&self, start: usize, count: usize, window: &mut Window) -> Result<(), Failure> {
        let first = window.records.len();
        read_words(&self.records, &self.folder, (start * self.width) as u64, count * self.width, &mut window.records)?;
        window.rows.extend(start as u32..(start + count) as u32);
        if self.bag_words.is_empty() || count == 0 {
            return Ok(());
        }
        // The entries of neighbouring rows are neighbours.
        let head = &window.records[first..first + self.width];
        let from = self.bag_words.iter().map(|&at| long(head, at)).min().unwrap_or(0);
        let tail = &window.records[first + (count - 1) * self.width..];
        let to = self.bag_words.iter().map(|&at| long(tail, at) + u64::from(tail[at + 2])).max().unwrap_or(0);
        let shift = window.bags.len() as u64;
        read_words(&self.bags, &self.folder, from, (to - from) as usize, &mut window.bags)?;
        for record in window.records[first..].chunks_exact_mut(self.width) {
            for &at in &self.bag_words {
                set_long(record, at, long(record, at) - from + shift);
            }
        }
        Ok(())
    }

    /// Visits every row once, in the order of the epoch, by windows of permuted rows; `visit` gets a window and the order of its rows.
    pub(crate) fn epoch(&self, seed: u64, epoch: u32, shuffle: bool, batch: usize, visit: &mut Visit<'_>) -> Result<(), Failure> {
        let entries = (self.entries / self.rows.max(1) as u64) as usize;
        let rows_at_once = (WINDOW / ((self.width + entries).max(1) * 4)).max(PIECE);
        let pieces = self.rows.div_ceil(PIECE);
        let order_key = key(seed, "order");
        let whole = self.rows <= rows_at_once;
        let order: Vec<u32> =
            if shuffle && !whole { permutation(order_key ^ u64::from(epoch), pieces) } else { (0..pieces as u32).collect() };
        let mut window = Window::default();
        // Full batches only, until the end: what is left over is read again with the next window.
        let per_window = (rows_at_once / PIECE).max(1);
        let mut carried = Window::default();
        for (number, group) in order.chunks(per_window).enumerate() {
            std::mem::swap(&mut window, &mut carried);
            carried = Window::default();
            for &piece in group {
                let start = piece as usize * PIECE;
                self.read(start, PIECE.min(self.rows - start), &mut window)?;
            }
            let last = (number + 1) * per_window >= order.len();
            let rows = window.rows.len();
            let visit_order: Vec<u32> = if shuffle {
                permutation(crate::random::mix64(order_key ^ (u64::from(epoch) << 32) ^ number as u64 ^ 0x5eed), rows)
            } else {
                (0..rows as u32).collect()
            };
            let now = if last { rows } else { rows / batch * batch };
            visit(&window, &visit_order[..now])?;
            for &at in &visit_order[now..] {
                self.carry(&window, at as usize, &mut carried);
            }
        }
        Ok(())
    }

    fn carry(&self, window: &Window, at: usize, into: &mut Window) {
        let first = into.records.len();
        into.records.extend_from_slice(&window.records[at * self.width..(at + 1) * self.width]);
        into.rows.push(window.rows[at]);
        for &word in &self.bag_words {
            let record = &mut into.records[first..];
            let (start, count) = (long(record, word) as usize, record[word + 2] as usize);
            set_long(record, word, into.bags.len() as u64);
            into.bags.extend_from_slice(&window.bags[start..start + count]);
        }
    }
}
