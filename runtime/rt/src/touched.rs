//! The rows of a table that a batch touches, numbered in increasing order: neighbours then follow each other through memory when they
//! are updated, and a bit for each row stays in the cache where a number for each would not.

/// An empty set of a table's rows that numbers those put into it.
pub(crate) struct TouchedRows {
    /// A bit for each row.
    words: Vec<u64>,
    /// A bit for each word, set where the word is not zero.
    occupied: Vec<u64>,
    /// How many rows are in the words before; of words that are not zero.
    before: Vec<u32>,
}

/// Occurrences ahead whose words are asked for: those of a large table lie beyond the first caches.
const AHEAD: usize = 24;

/// Bits of a word.
const BITS: usize = u64::BITS as usize;

impl TouchedRows {
    pub(crate) fn new(rows: usize) -> Self {
        let words = rows.div_ceil(BITS);
        TouchedRows { words: vec![0; words], occupied: vec![0; words.div_ceil(BITS)], before: vec![0; words] }
    }

    /// Replaces each row by its place among all rows of the look-ups; returns those.
    pub(crate) fn number(&mut self, lookups: &mut [Vec<u32>]) -> Vec<u32> {
        for lookup in lookups.iter() {
            for (at, &row) in lookup.iter().enumerate() {
                if let Some(&row) = lookup.get(at + AHEAD) {
                    crate::prefetch::ask(&raw const self.words[row as usize / BITS]);
                }
                let word = row as usize / BITS;
                self.words[word] |= 1 << (row as usize % BITS);
                self.occupied[word / BITS] |= 1 << (word % BITS);
            }
        }
        let rows = self.in_order();
        let occurrences = lookups.iter_mut().flatten();
        if is_x86_feature_detected!("popcnt") {
            // SAFETY: the processor has the feature.
            unsafe { self.replace_counting(occurrences) };
        } else {
            self.replace(occurrences);
        }
        for &row in &rows {
            self.words[row as usize / BITS] = 0;
            self.occupied[row as usize / BITS / BITS] = 0;
        }
        rows
    }

    /// Replaces each row by its place.
    #[inline(always)]
    fn replace<'r>(&self, occurrences: impl Iterator<Item = &'r mut u32>) {
        for row in occurrences {
            let word = *row as usize / BITS;
            let smaller = self.words[word] & ((1 << (*row as usize % BITS)) - 1);
            *row = self.before[word] + smaller.count_ones();
        }
    }

    /// The same, with the processor's own instruction that counts ones.
    #[target_feature(enable = "popcnt")]
    fn replace_counting<'r>(&self, occurrences: impl Iterator<Item = &'r mut u32>) {
        self.replace(occurrences);
    }

    /// The rows of the set, and with them how many come before each word.
    fn in_order(&mut self) -> Vec<u32> {
        let mut rows = Vec::new();
        for (at, &occupied) in self.occupied.iter().enumerate() {
            for word in ones(occupied).map(|bit| at * BITS + bit) {
                self.before[word] = rows.len() as u32;
                rows.extend(ones(self.words[word]).map(|bit| (word * BITS + bit) as u32));
            }
        }
        rows
    }
}

/// The places of the ones of a word.
fn ones(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros() as usize;
        (word != 0).then(|| {
            word &= word - 1;
            bit
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_numbered_in_increasing_order_and_forgotten() {
        let mut touched = TouchedRows::new(10_000);
        for _ in 0..2 {
            let mut lookups = [vec![4097, 64, 63, 4097], vec![], vec![9_999, 0, 63]];
            assert_eq!(touched.number(&mut lookups), [0, 63, 64, 4097, 9_999]);
            assert_eq!(lookups, [vec![3, 2, 1, 3], vec![], vec![4, 0, 1]]);
        }
        assert_eq!(touched.number(&mut [vec![5]]), [5]);
        assert!(touched.number(&mut []).is_empty());
    }

    #[test]
    fn a_table_of_one_row_and_one_of_none() {
        assert_eq!(TouchedRows::new(1).number(&mut [vec![0, 0]]), [0]);
        assert!(TouchedRows::new(0).number(&mut [vec![]]).is_empty());
    }
}
