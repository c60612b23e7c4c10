//! A softmax over all rows of a table, in blocks: products, their exponentials, and means by those. Nothing as long as the table is kept, and
//! what a mean needs of the softmax is computed again from the log of its sum.

use super::product::{Product, View};
use super::single::{self, Way};
use recc_abi::PartitionPart;
use std::cell::RefCell;
use std::ops::Range;

/// Queries of a block.
const QUERIES: usize = 64;
/// Rows of a block: with the queries' products they fit the second cache.
const ROWS: usize = 512;
/// Sums side by side.
const LANES: usize = 16;

thread_local! {
    /// Products of a block's queries with its rows.
    static PRODUCTS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// See [`recc_abi::PartitionFn`].
pub(super) unsafe extern "C" fn partition(
    part: i64,
    width: i64,
    queries: i64,
    rows: i64,
    first: i64,
    query: *const f32,
    row: *const f32,
    log_sums: *const f32,
    factors: *const f32,
    dst: *mut f32,
) {
    let (width, queries, rows) = (width as usize, queries as usize, rows as usize);
    if queries == 0 && part != PartitionPart::SumsOfQueries as i64 {
        return;
    }
    // Row 0 stands for what is unseen.
    let begin = usize::from(first == 0).min(rows);
    PRODUCTS.with_borrow_mut(|products| {
        products.resize(QUERIES * ROWS, 0.0);
        let mut softmax = Softmax { width, query, row, products };
        // SAFETY: the kernel passes places inside its buffers, whose sizes the plan fixed; a query's sum and number are there for what is no sum itself.
        unsafe {
            if part == PartitionPart::LogSums as i64 {
                return softmax.log_sums(queries, begin..rows, std::slice::from_raw_parts_mut(dst, queries));
            }
            let by_query = part == PartitionPart::MeanRows as i64;
            std::slice::from_raw_parts_mut(dst, width * if by_query { queries } else { rows }).fill(0.0);
            for own in blocks(0..queries, QUERIES) {
                // A batch without queries may have no place for them.
                let of_block = |numbers: *const f32| std::slice::from_raw_parts(numbers.add(own.start), own.len());
                for block in blocks(begin..rows, ROWS) {
                    softmax.probabilities(&own, &block, of_block(log_sums), of_block(factors));
                    softmax.add(&own, &block, by_query, dst);
                }
            }
        }
    });
}

fn blocks(range: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(size).map(move |begin| begin..end.min(begin + size))
}

struct Softmax<'s> {
    width: usize,
    query: *const f32,
    row: *const f32,
    /// Of a block: `[queries, rows]`.
    products: &'s mut [f32],
}

impl Softmax<'_> {
    /// Products of some queries with some rows.
    ///
    /// # Safety
    ///
    /// The queries and the rows are there.
    unsafe fn multiply(&mut self, queries: &Range<usize>, rows: &Range<usize>) {
        let width = self.width as isize;
        let product = Product {
            m: queries.len(),
            n: rows.len(),
            k: self.width,
            dst: self.products.as_mut_ptr(),
            dst_row: rows.len(),
            a: View { start: self.query.wrapping_add(queries.start * self.width), row: width, column: 1 },
            b: View { start: self.row.wrapping_add(rows.start * self.width), row: 1, column: width },
            ..Product::NONE
        };
        // SAFETY: as the caller says; a block's products fit.
        unsafe { single::matmul(&product) };
    }

    /// The log of each query's sum of exponentials; 0 without rows. The largest product so far is taken off before, so that nothing overflows.
    ///
    /// # Safety
    ///
    /// As for [`Self::multiply`].
    unsafe fn log_sums(&mut self, queries: usize, rows: Range<usize>, out: &mut [f32]) {
        if rows.is_empty() {
            return out.fill(0.0);
        }
        for own in blocks(0..queries, QUERIES) {
            let (mut largest, mut sums) = ([f32::NEG_INFINITY; QUERIES], [0.0; QUERIES]);
            for block in blocks(rows.clone(), ROWS) {
                // SAFETY: as the caller says.
                unsafe { self.multiply(&own, &block) };
                for (at, products) in self.products.chunks_exact_mut(block.len()).take(own.len()).enumerate() {
                    let most = largest_of(products, largest[at]);
                    sums[at] = sums[at] * (largest[at] - most).exp() + exponentials(products, most, 1.0);
                    largest[at] = most;
                }
            }
            for (out, (largest, sum)) in out[own].iter_mut().zip(largest.iter().zip(&sums)) {
                *out = largest + sum.ln();
            }
        }
    }

    /// Probabilities of some rows, each times its query's number.
    ///
    /// # Safety
    ///
    /// As for [`Self::multiply`].
    unsafe fn probabilities(&mut self, queries: &Range<usize>, rows: &Range<usize>, sums: &[f32], factors: &[f32]) {
        // SAFETY: as the caller says.
        unsafe { self.multiply(queries, rows) };
        for (products, (sum, factor)) in self.products.chunks_exact_mut(rows.len()).zip(sums.iter().zip(factors)) {
            exponentials(products, *sum, *factor);
        }
    }

    /// Adds the rows times a block's probabilities to the queries' results, or the queries to the rows'.
    ///
    /// # Safety
    ///
    /// As for [`Self::multiply`], and so are the results.
    unsafe fn add(&self, queries: &Range<usize>, rows: &Range<usize>, by_query: bool, dst: *mut f32) {
        let (width, row) = (self.width, rows.len() as isize);
        let view = |start: *const f32, first: usize| View { start: start.wrapping_add(first * width), row: width as isize, column: 1 };
        let products = self.products.as_ptr();
        let (m, k, a, b, first) = if by_query {
            (queries.len(), rows.len(), View { start: products, row, column: 1 }, view(self.row, rows.start), queries.start)
        } else {
            (rows.len(), queries.len(), View { start: products, row: 1, column: row }, view(self.query, queries.start), rows.start)
        };
        let dst = dst.wrapping_add(first * width);
        let product = Product { m, n: width, k, dst, dst_row: width, a, b, accumulate: true, ..Product::NONE };
        // SAFETY: as the caller says.
        unsafe { single::matmul(&product) };
    }
}

/// The largest of some numbers and one more.
fn largest_of(values: &[f32], so_far: f32) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [so_far; LANES];
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &value)| *lane = larger(*lane, value));
    }
    lanes.into_iter().chain(rest.iter().copied()).fold(so_far, larger)
}

/// Replaces numbers by their exponentials, `minus` being taken off before, times a factor; gives the sum.
fn exponentials(values: &mut [f32], minus: f32, factor: f32) -> f32 {
    #[target_feature(enable = "avx512f")]
    fn wide(values: &mut [f32], minus: f32, factor: f32) -> f32 {
        each_exponential::<true>(values, minus, factor)
    }
    #[target_feature(enable = "avx2,fma")]
    fn narrow(values: &mut [f32], minus: f32, factor: f32) -> f32 {
        each_exponential::<true>(values, minus, factor)
    }
    match Way::best() {
        // SAFETY: the processor has these instructions.
        Way::Wide => unsafe { wide(values, minus, factor) },
        // SAFETY: as above.
        Way::Narrow => unsafe { narrow(values, minus, factor) },
        Way::Plain => each_exponential::<false>(values, minus, factor),
    }
}

#[inline(always)]
fn each_exponential<const FUSED: bool>(values: &mut [f32], minus: f32, factor: f32) -> f32 {
    let (chunks, rest) = values.as_chunks_mut::<LANES>();
    let mut sums = [0.0; LANES];
    for chunk in chunks {
        for (value, sum) in chunk.iter_mut().zip(&mut sums) {
            *value = exponential::<FUSED>(*value - minus) * factor;
            *sum += *value;
        }
    }
    let mut sum: f32 = sums.iter().sum();
    for value in rest {
        *value = exponential::<FUSED>(*value - minus) * factor;
        sum += *value;
    }
    sum
}

/// e^x, to about one unit of the last place: 2^n e^r with r of at most half of ln 2, by the polynomial of the Cephes library. What would be less than the least
/// normal number is about that.
#[inline(always)]
fn exponential<const FUSED: bool>(x: f32) -> f32 {
    /// Adding it rounds to a whole number, which stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts, the first of few digits.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const POLYNOMIAL: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5];
    let add = |a: f32, b: f32, c: f32| if FUSED { a.mul_add(b, c) } else { a * b + c };
    // Written so that what is not a number stays so.
    let x = if x < -87.3 { -87.3 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let rounded = add(x, std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let rest = add(n, -LN_2[1], add(n, -LN_2[0], x));
    let polynomial = POLYNOMIAL.into_iter().reduce(|sum, next| add(sum, rest, next)).unwrap_or(0.0);
    let power = add(polynomial, rest * rest, rest) + 1.0;
    power * f32::from_bits((rounded.to_bits() + 127) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u64, scale: f32) -> Vec<f32> {
        (0..count as u64).map(|at| (crate::random::uniform(seed, at) as f32 - 0.5) * scale).collect()
    }

    fn of(part: PartitionPart, width: usize, queries: &[f32], rows: &[f32], first: i64, sums: [&[f32]; 2]) -> Vec<f32> {
        let (m, n) = (queries.len() / width, rows.len() / width);
        let count = match part {
            PartitionPart::LogSums => m,
            PartitionPart::MeanRows => m * width,
            PartitionPart::SumsOfQueries => n * width,
        };
        let mut out = vec![f32::NAN; count];
        let [log_sums, factors] = sums.map(<[f32]>::as_ptr);
        let sizes = [width, m, n].map(|size| size as i64);
        // SAFETY: the slices have these sizes.
        unsafe {
            partition(
                part as i64,
                sizes[0],
                sizes[1],
                sizes[2],
                first,
                queries.as_ptr(),
                rows.as_ptr(),
                log_sums,
                factors,
                out.as_mut_ptr(),
            );
        }
        out
    }

    fn close(own: &[f32], expected: &[f64], what: &str) {
        assert_eq!(own.len(), expected.len(), "{what}");
        for (own, expected) in own.iter().zip(expected) {
            assert!((f64::from(*own) - expected).abs() <= 2e-5 * expected.abs().max(1.0), "{what}: {own} for {expected}");
        }
    }

    #[test]
    fn parts_are_those_of_a_softmax() {
        for (m, n, width) in [(1, 2, 1), (3, 1, 4), (65, 600, 5), (130, 1100, 16), (64, 513, 8), (2, 0, 3)] {
            let (queries, rows) = (numbers(m * width, 1, 4.0), numbers(n * width, 2, 6.0));
            let factors = numbers(m, 3, 2.0);
            let wide = |values: &[f32]| values.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
            let (q, r, g) = (wide(&queries), wide(&rows), wide(&factors));
            let dot = |i: usize, j: usize| (0..width).map(|k| q[i * width + k] * r[j * width + k]).sum::<f64>();
            let sums: Vec<f64> = (0..m).map(|i| if n < 2 { 0.0 } else { (1..n).map(|j| dot(i, j).exp()).sum::<f64>().ln() }).collect();
            let own = of(PartitionPart::LogSums, width, &queries, &rows, 0, [&[], &[]]);
            close(&own, &sums, "log sums");
            let share = |i: usize, j: usize| if j == 0 { 0.0 } else { g[i] * (dot(i, j) - sums[i]).exp() };
            let mean =
                (0..m * width).map(|at| (0..n).map(|j| share(at / width, j) * r[j * width + at % width]).sum()).collect::<Vec<f64>>();
            close(&of(PartitionPart::MeanRows, width, &queries, &rows, 0, [&own, &factors]), &mean, "mean rows");
            let sum = (0..n * width).map(|at| (0..m).map(|i| share(i, at / width) * q[i * width + at % width]).sum()).collect::<Vec<f64>>();
            close(&of(PartitionPart::SumsOfQueries, width, &queries, &rows, 0, [&own, &factors]), &sum, "sums of queries");
            // A part of the rows that does not begin with row 0.
            let from = n.min(1);
            let part = of(PartitionPart::SumsOfQueries, width, &queries, &rows[from * width..], from as i64, [&own, &factors]);
            close(&part, &sum[from * width..], "sums of queries of later rows");
        }
    }

    #[test]
    fn large_products_do_not_overflow_and_no_number_stays_none() {
        let sums = |queries: &[f32]| of(PartitionPart::LogSums, 1, queries, &[0.0, 100.0, -100.0], 0, [&[], &[]]);
        assert_eq!(sums(&[50.0, -50.0]), [5000.0, 5000.0]);
        assert!(sums(&[f32::NAN])[0].is_nan());
    }

    #[test]
    fn exponentials_are_exact_to_the_last_places() {
        for at in -8700..8800 {
            let x = at as f32 * 0.01;
            for own in [exponential::<true>(x), exponential::<false>(x)] {
                let expected = f64::from(x).exp();
                assert!((f64::from(own) / expected - 1.0).abs() < 3e-7, "{x}: {own} for {expected}");
            }
        }
        assert!(exponential::<true>(f32::NAN).is_nan());
        assert!(exponential::<true>(f32::NEG_INFINITY) < 2e-38);
    }
}
