//! The rows of a table by their product with a query: where a target stands among them, and which come first.
//!
//! Row 0 stands for what is unseen or missing and is no candidate; neither is what a sequence holds already, unless it may come again. Of equal products the lower
//! row comes first, so that the order is the same everywhere.

use crate::matmul::products_of_rows;
use rayon::prelude::*;
use recc_abi::Ranking;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Numbers of a block of products: queries are ranked in blocks of this size, however many rows there are.
const BLOCK: usize = 1 << 22;
/// What is added to the square of a length before its root, as in training.
const LEAST_LENGTH: f32 = 1e-12;

/// What a row of data is ranked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Target {
    /// The table's row that comes next; 0 where none does, or an unknown one.
    pub(crate) row: u32,
    /// Whether something comes next, known or not.
    pub(crate) exists: bool,
    /// Rows that are no candidates any more.
    pub(crate) seen: Vec<u32>,
}

/// The candidates of a ranking.
pub(crate) struct Candidates<'r> {
    rows: std::borrow::Cow<'r, [f32]>,
    width: usize,
    /// Whether what was seen may come again.
    repeats: bool,
    /// What products are divided by to be logits.
    temperature: f64,
}

/// A row and its product with a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) row: u32,
    pub(crate) score: f32,
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    /// The better one is less: a heap then has the worst on top.
    fn cmp(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.row.cmp(&other.row))
    }
}

impl<'r> Candidates<'r> {
    /// The rows of a table, brought to length 1 where the ranking says so.
    pub(crate) fn new(rows: &'r [f32], width: usize, ranking: &Ranking) -> Self {
        if !ranking.normalize {
            return Candidates { rows: rows.into(), width, repeats: ranking.repeats, temperature: ranking.temperature };
        }
        let mut unit = rows.to_vec();
        for row in unit.chunks_exact_mut(width.max(1)) {
            let length = (row.iter().map(|x| x * x).sum::<f32>() + LEAST_LENGTH).sqrt();
            row.iter_mut().for_each(|x| *x /= length);
        }
        Candidates { rows: unit.into(), width, repeats: ranking.repeats, temperature: ranking.temperature }
    }

    /// Numbers of a row.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    fn count(&self) -> usize {
        self.rows.len() / self.width.max(1)
    }

    /// Calls for each query with its number and its products with all rows, of which row 0's is least.
    fn each<T: Send>(&self, queries: &[f32], work: impl Fn(usize, &mut [f32]) -> T + Sync) -> Vec<T> {
        let count = self.count();
        let block = (BLOCK / count.max(1)).clamp(1, 256);
        let blocks = queries.par_chunks(block * self.width.max(1)).enumerate();
        let ranked = blocks.map(|(at, queries)| {
            let mut products = vec![0.0; queries.len() / self.width.max(1) * count];
            products_of_rows(queries, &self.rows, self.width, &mut products);
            let own = products.chunks_exact_mut(count.max(1)).enumerate().map(|(within, products)| {
                products[0] = f32::NEG_INFINITY;
                work(at * block + within, products)
            });
            own.collect::<Vec<T>>()
        });
        ranked.flatten().collect()
    }

    /// Makes the products of rows that are no candidates any more the least.
    fn leave_out(&self, target: &Target, products: &mut [f32]) {
        for &seen in target.seen.iter().filter(|&&seen| !self.repeats && seen != target.row) {
            products[seen as usize] = f32::NEG_INFINITY;
        }
    }

    /// The negative log likelihood of each query's target by a softmax over all rows but row 0, those that were seen too, as in training; no
    /// number where no known one comes next.
    pub(crate) fn losses(&self, queries: &[f32], targets: &[Target]) -> Vec<f32> {
        self.each(queries, |query, products| {
            let own = targets[query].row as usize;
            if own == 0 {
                return f32::NAN;
            }
            let largest = products.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let logit = |product: f32| f64::from(product - largest) / self.temperature;
            let partition = products.iter().map(|&product| logit(product).exp()).sum::<f64>();
            (partition.ln() - logit(products[own])) as f32
        })
    }

    /// Where each query's target stands, from 1; 0 where nothing comes next. A target that is not known stands behind all.
    pub(crate) fn ranks(&self, queries: &[f32], targets: &[Target]) -> Vec<f32> {
        self.each(queries, |query, products| {
            self.leave_out(&targets[query], products);
            match &targets[query] {
                Target { exists: false, .. } => 0.0,
                Target { row: 0, .. } => f32::MAX,
                // Not a number: it is for the metrics to report.
                Target { row, .. } if products[*row as usize].is_nan() => f32::NAN,
                Target { row, .. } => {
                    let own = products[*row as usize];
                    let before = |(at, product): (usize, &f32)| *product > own || *product == own && at < *row as usize;
                    1.0 + products.iter().enumerate().filter(|pair| before(*pair)).count() as f32
                }
            }
        })
    }

    /// The first candidates of each query, best first.
    pub(crate) fn first(&self, queries: &[f32], targets: &[Target], count: usize) -> Vec<Vec<Candidate>> {
        self.each(queries, |query, products| {
            self.leave_out(&targets[query], products);
            let mut heap: BinaryHeap<Candidate> = BinaryHeap::with_capacity(count + 1);
            for (row, &mut score) in (0u32..).zip(products) {
                let own = Candidate { row, score };
                if score > f32::NEG_INFINITY && (heap.len() < count || heap.peek().is_some_and(|worst| own < *worst)) {
                    heap.push(own);
                    if heap.len() > count {
                        heap.pop();
                    }
                }
            }
            heap.into_sorted_vec()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANKING: Ranking = Ranking { table: 0, temperature: 1.0, normalize: false, negatives: None, repeats: false };

    fn target(row: u32, seen: &[u32]) -> Target {
        Target { row, exists: true, seen: seen.to_vec() }
    }

    #[test]
    fn ranks_leave_out_what_was_seen() {
        // Products with the query [1, 0]: 9, 3, 5, 1, 5.
        let rows = [9.0, 0.0, 3.0, 1.0, 5.0, 2.0, 1.0, 3.0, 5.0, 4.0];
        let candidates = Candidates::new(&rows, 2, &RANKING);
        let queries = [1.0, 0.0].repeat(5);
        let targets =
            [target(1, &[]), target(1, &[2]), target(4, &[]), target(3, &[1, 2, 3, 4]), Target { row: 0, exists: false, seen: vec![] }];
        assert_eq!(candidates.ranks(&queries, &targets), [3.0, 2.0, 2.0, 1.0, 0.0]);
        assert_eq!(candidates.ranks(&queries[..2], &[Target { row: 0, exists: true, seen: vec![] }]), [f32::MAX]);
        let again = Candidates::new(&rows, 2, &Ranking { repeats: true, ..RANKING });
        assert_eq!(again.ranks(&queries[..4], &targets[1..3]), [3.0, 2.0]);
        let first = candidates.first(&queries[..4], &targets[..2], 2);
        let rows = |of: &[Candidate]| of.iter().map(|own| own.row).collect::<Vec<_>>();
        assert_eq!((rows(&first[0]), rows(&first[1])), (vec![2, 4], vec![4, 1]));
    }

    #[test]
    fn losses_are_those_of_a_softmax_over_all_rows() {
        // Products with the query 2: row 0 does not count, and what was seen does.
        let rows = [100.0, 1.0, -0.5, 3.0];
        let candidates = Candidates::new(&rows, 1, &Ranking { temperature: 0.5, ..RANKING });
        let logits = [4.0f64, -2.0, 12.0];
        let partition = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
        let targets = [target(1, &[3]), target(3, &[]), Target { row: 0, exists: true, seen: vec![] }];
        let losses = candidates.losses(&[2.0; 3], &targets);
        for (loss, logit) in losses.iter().zip([4.0, 12.0]) {
            assert!((f64::from(*loss) - (partition - logit)).abs() < 1e-6, "{loss}");
        }
        assert!(losses[2].is_nan());
    }

    #[test]
    fn lengths_do_not_count_where_rows_are_brought_to_one() {
        let rows = [0.0, 0.0, 10.0, 10.0, 1.0, 0.0];
        let ranking = Ranking { normalize: true, ..RANKING };
        let ranks = |candidates: Candidates<'_>| candidates.ranks(&[1.0, 0.0], &[target(2, &[])]);
        assert_eq!(ranks(Candidates::new(&rows, 2, &RANKING)), [2.0]);
        assert_eq!(ranks(Candidates::new(&rows, 2, &ranking)), [1.0]);
    }
}
