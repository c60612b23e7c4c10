//! Dictionaries: from values as data write them to rows of tables.

use foldhash::fast::RandomState;
use std::hash::{BuildHasher as _, Hash as _, Hasher as _};

/// What a value is compared by: its length, and its first and last eight bytes. Values of up to 16 bytes need nothing more, so that finding
/// one touches one place of memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
// So that a slot is 32 bytes.
#[repr(Rust, packed(4))]
struct Key {
    first: u64,
    last: u64,
    len: u32,
}

impl Key {
    /// The longest value that its key tells from all others.
    const WHOLE: usize = 16;

    fn of(word: &[u8]) -> Key {
        let four = |at: usize| word[at..].first_chunk().map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)));
        let eight = |at: usize| word[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let len = word.len();
        let (first, last) = match len {
            0 => (0, 0),
            // Together all bytes, some of them twice.
            1..4 => (u64::from(word[0]) | u64::from(word[len / 2]) << 8, u64::from(word[len - 1])),
            4..8 => (four(0), four(len - 4)),
            _ => (eight(0), eight(len - 8)),
        };
        Key { first, last, len: len as u32 }
    }
}

/// One value: half a cache line, so that finding it and counting it touch one place.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(32))]
struct Slot {
    key: Key,
    /// Place of the value in the order of appearance, from 1; 0 in a slot that is free.
    number: u32,
    /// How often it was seen.
    count: u64,
}

/// A dictionary: how often each value was seen, in provisional order; once fitted, in the order of rows from 1.
///
/// A table with open addresses, at most half full, and not a library's: values to come are asked for ahead ([`Vocab::learn_each`]), without
/// which reading waits for memory at every cell.
#[derive(Debug, Default, Clone)]
pub(crate) struct Vocab {
    /// Empty, or a power of two.
    slots: Vec<Slot>,
    hashes: RandomState,
    /// All values, one after another, and where each ends.
    text: Vec<u8>,
    ends: Vec<usize>,
    /// Values beyond those, which nobody asks for.
    unnamed: usize,
}

/// A value with what a dictionary finds it by.
#[derive(Debug, Clone, Copy)]
struct Word<'w> {
    text: &'w [u8],
    key: Key,
    hash: u64,
}

impl Vocab {
    /// A dictionary of a size whose words nobody asks for.
    pub(crate) fn unnamed(size: usize) -> Self {
        Vocab { unnamed: size, ..Vocab::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len() + self.unnamed
    }

    /// Values and how often each was seen, in order.
    pub(crate) fn words(&self) -> impl Iterator<Item = (&[u8], u64)> {
        let mut counts = vec![0; self.ends.len()];
        for slot in self.slots.iter().filter(|slot| slot.number > 0) {
            counts[slot.number as usize - 1] = slot.count;
        }
        counts.into_iter().enumerate().map(|(at, count)| (self.text_of(at), count))
    }

    fn text_of(&self, at: usize) -> &[u8] {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[at]]
    }

    /// A value as this dictionary finds it.
    fn word<'w>(&self, text: &'w [u8]) -> Word<'w> {
        let key = Key::of(text);
        Word { text, key, hash: self.hash(&key, text) }
    }

    fn hash(&self, key: &Key, text: &[u8]) -> u64 {
        let mut hasher = self.hashes.build_hasher();
        match text.len() {
            0..=Key::WHOLE => key.hash(&mut hasher),
            _ => hasher.write(text),
        }
        hasher.finish()
    }

    /// The provisional id of a value that was seen `count` times more.
    pub(crate) fn learn(&mut self, text: &[u8], count: u64) -> u32 {
        let word = self.word(text);
        self.learn_word(&word, count)
    }

    fn learn_word(&mut self, word: &Word<'_>, count: u64) -> u32 {
        if self.slots.len() <= 2 * self.ends.len() {
            self.grow();
        }
        let at = self.slot(word);
        if self.slots[at].number == 0 {
            self.text.extend_from_slice(word.text);
            self.ends.push(self.text.len());
            self.slots[at] = Slot { key: word.key, number: self.ends.len() as u32, count: 0 };
        }
        self.slots[at].count += count;
        self.slots[at].number - 1
    }

    /// The row of a value; 0 for one that is not known.
    pub(crate) fn row(&self, text: &[u8]) -> u32 {
        self.row_of(&self.word(text))
    }

    fn row_of(&self, word: &Word<'_>) -> u32 {
        if self.slots.is_empty() { 0 } else { self.slots[self.slot(word)].number }
    }

    /// [`Self::learn`] for neighbouring rows, whose slots are asked for together; `each` gets a value's place and its id.
    pub(crate) fn learn_each<'w>(&mut self, words: impl Iterator<Item = (usize, &'w [u8])>, mut each: impl FnMut(usize, u32)) {
        for (place, word) in self.asked_for(words) {
            each(place, self.learn_word(&word, 1));
        }
    }

    /// [`Self::row`] for neighbouring rows, whose slots are asked for together.
    pub(crate) fn row_each<'w>(&self, words: impl Iterator<Item = (usize, &'w [u8])>, mut each: impl FnMut(usize, u32)) {
        for (place, word) in self.asked_for(words) {
            each(place, self.row_of(&word));
        }
    }

    /// Values whose slots are on their way to the cache.
    fn asked_for<'w>(&self, words: impl Iterator<Item = (usize, &'w [u8])>) -> Vec<(usize, Word<'w>)> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut found = Vec::with_capacity(words.size_hint().1.unwrap_or(0));
        for (place, text) in words {
            let word = self.word(text);
            if let Some(slot) = self.slots.get(word.hash as usize & mask) {
                crate::prefetch::ask(slot);
            }
            found.push((place, word));
        }
        found
    }

    /// Where a value is, or the free slot where it would be.
    fn slot(&self, word: &Word<'_>) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = word.hash as usize & mask;
        loop {
            let slot = &self.slots[at];
            let same = || slot.key == word.key && (word.text.len() <= Key::WHOLE || self.text_of(slot.number as usize - 1) == word.text);
            if slot.number == 0 || same() {
                return at;
            }
            at = (at + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let slots = vec![Slot::default(); (2 * self.slots.len()).max(16)];
        for old in std::mem::replace(&mut self.slots, slots).into_iter().filter(|old| old.number > 0) {
            let text = self.text_of(old.number as usize - 1);
            let at = self.slot(&Word { text, key: old.key, hash: self.hash(&old.key, text) });
            self.slots[at] = old;
        }
    }

    /// The values that were seen often enough, in the same order, and the row of each value there, 0 for the others; no rows where all are kept.
    pub(crate) fn retained(self, enough: impl Fn(u64) -> bool) -> (Self, Option<Vec<u32>>) {
        if self.slots.iter().all(|slot| slot.number == 0 || enough(slot.count)) {
            return (self, None);
        }
        let mut kept = Vocab { unnamed: self.unnamed, ..Vocab::default() };
        let mut row = |(text, count): (&[u8], u64)| if enough(count) { kept.learn(text, count) + 1 } else { 0 };
        let rows = self.words().map(&mut row).collect();
        (kept, Some(rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of all lengths around the limits of keys, many of which differ in one byte only.
    fn values() -> Vec<Vec<u8>> {
        let mut found = vec![Vec::new()];
        for len in 1..40 {
            found.push(vec![b'a'; len]);
            for at in 0..len {
                let mut word = vec![b'a'; len];
                word[at] = b'b';
                found.push(word);
            }
        }
        found
    }

    #[test]
    fn every_value_has_its_own_id_in_order_of_appearance() {
        let mut vocab = Vocab::default();
        let values = values();
        for (at, word) in values.iter().enumerate() {
            assert_eq!(vocab.learn(word, 1), at as u32);
        }
        for (at, word) in values.iter().enumerate().rev() {
            assert_eq!(vocab.learn(word, 1), at as u32);
            assert_eq!(vocab.row(word), at as u32 + 1);
        }
        vocab.learn_each(values.iter().map(|word| &word[..]).enumerate(), |at, id| assert_eq!(id, at as u32));
        vocab.row_each(values.iter().map(|word| &word[..]).enumerate(), |at, row| assert_eq!(row, at as u32 + 1));
        assert_eq!(vocab.row(b"c"), 0);
        assert_eq!(vocab.row(&[b'c'; 30]), 0);
        assert!(vocab.words().eq(values.iter().map(|word| (&word[..], 3))));
    }

    #[test]
    fn values_seen_often_enough_are_kept_in_order() {
        let mut vocab = Vocab::default();
        for word in ["x", "a longer value than a key", "y", "x", "a longer value than a key"] {
            vocab.learn(word.as_bytes(), 1);
        }
        let (kept, rows) = vocab.retained(|count| count > 1);
        assert_eq!(rows, Some(vec![1, 2, 0]));
        let (kept, rows) = kept.retained(|_| true);
        assert_eq!(rows, None);
        assert!(kept.words().eq([(&b"x"[..], 2), (b"a longer value than a key", 2)]));
        let row = |text: &str| kept.row(text.as_bytes());
        assert_eq!((row("x"), row("y"), row("a longer value than a key")), (1, 0, 2));
    }
}
