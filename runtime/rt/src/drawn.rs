//! Rows that the targets of a ranking are compared with in training.

use crate::random::mix64;

/// How often the rows of a table are targets in the training data.
#[derive(Debug)]
pub(crate) struct Popularity {
    /// The targets of all rows from 1 to each.
    ends: Vec<u64>,
}

impl Popularity {
    /// By the counts of the rows from 1 on; where there are none every row counts alike.
    pub(crate) fn new(counts: &[u64]) -> Self {
        let known = counts.iter().any(|count| *count > 0);
        let mut total = 0;
        let ends = counts.iter().map(|count| {
            total += if known { *count } else { 1 };
            total
        });
        Popularity { ends: ends.collect() }
    }

    fn total(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// A row, each as often as it is a target.
    pub(crate) fn draw(&self, key: u64) -> u32 {
        let place = (u128::from(mix64(key)) * u128::from(self.total())) >> 64;
        1 + self.ends.partition_point(|end| u128::from(*end) <= place) as u32
    }

    /// The log of the share of all targets that a row is; 0 for one that is none.
    pub(crate) fn log_share(&self, row: u32) -> f32 {
        let place = row as usize;
        let Some(end) = place.checked_sub(1).and_then(|at| self.ends.get(at)) else { return 0.0 };
        let own = end - place.checked_sub(2).map_or(0, |at| self.ends[at]);
        if own == 0 { 0.0 } else { (own as f64 / self.total() as f64).ln() as f32 }
    }
}

/// Some of a batch's targets, in an order that the key gives; again from the first where there are fewer.
pub(crate) fn some_of(mut targets: Vec<u32>, count: u32, key: u64) -> Vec<u32> {
    let known = targets.len() as u32;
    if known == 0 {
        return vec![0; count as usize];
    }
    for at in 0..known.min(count) {
        targets.swap(at as usize, (at + below(key, at, known - at)) as usize);
    }
    (0..count).map(|at| targets[(at % known) as usize]).collect()
}

/// What a row's numbers at a place are drawn by.
pub(crate) fn draw_key(draw: u64, row: u32, place: u32) -> u64 {
    mix64(draw ^ mix64(u64::from(row) << 32 | u64::from(place)))
}

/// One of `count` numbers, by a key.
pub(crate) fn below(key: u64, at: u32, count: u32) -> u32 {
    let bits = mix64(key ^ u64::from(at)) >> 32;
    ((bits * u64::from(count)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_drawn_as_often_as_they_are_seen() {
        let counts = [6, 0, 1, 3];
        let popularity = Popularity::new(&counts);
        let mut drawn = [0u32; 5];
        (0..10_000).for_each(|key| drawn[popularity.draw(key) as usize] += 1);
        assert_eq!((drawn[0], drawn[2]), (0, 0));
        for (row, &count) in (1u32..).zip(&counts).filter(|(_, count)| **count > 0) {
            let share = count as f64 / 10.0;
            assert!((f64::from(drawn[row as usize]) / 10_000.0 - share).abs() < 0.015, "{drawn:?}");
            assert!((f64::from(popularity.log_share(row)) - share.ln()).abs() < 1e-6);
        }
        assert_eq!([0, 2, 5].map(|row| popularity.log_share(row)), [0.0; 3]);
        let unnamed = Popularity::new(&[0; 4]);
        assert!((f64::from(unnamed.log_share(4)) - 0.25f64.ln()).abs() < 1e-6 && (1..=4).contains(&unnamed.draw(7)));
    }

    #[test]
    fn all_targets_of_a_batch_are_drawn_once_where_there_are_as_many() {
        let mut own = some_of(vec![5, 6, 7, 8], 4, 99);
        own.sort_unstable();
        assert_eq!(own, [5, 6, 7, 8]);
        assert_eq!(some_of(vec![5, 6], 5, 1).len(), 5);
        assert_eq!(some_of(vec![], 2, 1), [0, 0]);
        let draws: std::collections::BTreeSet<u32> = (0..50).flat_map(|key| some_of(vec![1, 2, 3, 4], 1, key)).collect();
        assert_eq!(draws.len(), 4);
    }
}
