//! Products of small dense matrices of 32-bit floats.
//!
//! A panel of `b`, up to three vectors wide and [`DEPTH`] rows deep, is copied together, to whole cache lines, and stays in the near caches
//! while all rows of `a` pass it; `a` is read in place. Every element is summed piece by piece of `k`, each in the order of `k` by fused multiply-adds from zero,
//! whatever the vectors' width, so that all levels with such an instruction give the same bits.

use super::product::{Product, View};
use std::arch::x86_64::{
    __m256, __m256i, __m512, _MM_HINT_T0, _mm_prefetch, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_maskload_ps, _mm256_maskstore_ps, _mm256_permute2f128_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_shuffle_ps,
    _mm256_storeu_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
};
use std::cell::Cell;
use std::hint::black_box;

/// Rows of `b` that are gone through at once, at most. A panel is then larger than the first cache, from which only its own reading would profit:
/// it comes in order from the second one, in time, and every piece costs a reading and a writing of the results.
const DEPTH: usize = 512;

/// Steps of `k` in a round of the loop.
const UNROLLED: usize = 4;

/// Vectors of a panel, at most.
const VECTORS: usize = 3;

/// How much of `k` is summed together: pieces of one depth, of which a product of nothing has one too.
pub(super) fn depth_of_piece(k: usize) -> usize {
    k.div_ceil(k.div_ceil(DEPTH).max(1)).max(1)
}

/// Vectors of the next panel when some are left. A last panel of one vector would wait for its loads, so that two of two take its place.
fn panel_vectors(left: usize) -> usize {
    if left == VECTORS + 1 { 2 } else { left.min(VECTORS) }
}

/// How products are computed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By AVX-512.
    Wide,
    /// By AVX2 with fused multiply-add.
    Narrow,
    /// Number by number.
    Plain,
}

impl Way {
    /// The widest vectors that the processor has.
    #[inline]
    pub(super) fn best() -> Way {
        if is_x86_feature_detected!("avx512f") {
            Way::Wide
        } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            Way::Narrow
        } else {
            Way::Plain
        }
    }
}

/// Vectors of one width.
trait Simd {
    const LANES: usize;
    type Vector: Copy;
    unsafe fn zero() -> Self::Vector;
    unsafe fn splat(value: f32) -> Self::Vector;
    unsafe fn load(from: *const f32) -> Self::Vector;
    unsafe fn store(to: *mut f32, value: Self::Vector);
    /// The first `count` lanes; zero in the others.
    unsafe fn load_part(from: *const f32, count: usize) -> Self::Vector;
    unsafe fn store_part(to: *mut f32, value: Self::Vector, count: usize);
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
}

/// AVX-512.
struct Wide;

impl Simd for Wide {
    const LANES: usize = 16;
    type Vector = __m512;
    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: the processor has AVX-512, here and below.
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        // SAFETY: the caller's address.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: __m512) {
        // SAFETY: as above.
        unsafe { _mm512_storeu_ps(to, value) }
    }
    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> __m512 {
        // SAFETY: as above; masked lanes are not read.
        unsafe { _mm512_maskz_loadu_ps(((1u32 << count) - 1) as u16, from) }
    }
    #[inline(always)]
    unsafe fn store_part(to: *mut f32, value: __m512, count: usize) {
        // SAFETY: as above; masked lanes are not written.
        unsafe { _mm512_mask_storeu_ps(to, ((1u32 << count) - 1) as u16, value) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
}

/// AVX2 with fused multiply-add.
struct Narrow;

impl Narrow {
    #[inline(always)]
    unsafe fn mask(count: usize) -> __m256i {
        const BITS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
        // SAFETY: 8 words from one of the first 8.
        unsafe { _mm256_loadu_si256(BITS.as_ptr().add(8 - count).cast()) }
    }
}

impl Simd for Narrow {
    const LANES: usize = 8;
    type Vector = __m256;
    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: the processor has AVX2, here and below.
        unsafe { _mm256_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        // SAFETY: the caller's address.
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: __m256) {
        // SAFETY: as above.
        unsafe { _mm256_storeu_ps(to, value) }
    }
    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> __m256 {
        // SAFETY: as above; masked lanes are not read.
        unsafe { _mm256_maskload_ps(from, Self::mask(count)) }
    }
    #[inline(always)]
    unsafe fn store_part(to: *mut f32, value: __m256, count: usize) {
        // SAFETY: as above; masked lanes are not written.
        unsafe { _mm256_maskstore_ps(to, Self::mask(count), value) }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
}

/// A sum that the compiler does not look through: of a loop four times unrolled it would hold all multiples of a stride, in more registers than
/// there are.
#[inline(always)]
fn advance(mut value: isize, stride: isize) -> isize {
    // SAFETY: an addition of registers.
    unsafe { std::arch::asm!("add {0}, {1}", inout(reg) value, in(reg) stride, options(pure, nomem, nostack)) };
    value
}

/// One step of `k` for all sums of a block.
#[inline(always)]
unsafe fn add_step<S: Simd, const M: usize, const N: usize, const WHOLE: bool>(
    sums: &mut [[S::Vector; N]; M],
    rows: [*const f32; M],
    step: isize,
    b: *const f32,
    last: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut vectors = [S::zero(); N];
        for (j, vector) in vectors.iter_mut().enumerate() {
            let from = b.add(j * S::LANES);
            *vector = if WHOLE || j + 1 < N { S::load(from) } else { S::load_part(from, last) };
        }
        for (sums, a) in sums.iter_mut().zip(rows) {
            let value = S::splat(*a.offset(step));
            for (sum, vector) in sums.iter_mut().zip(vectors) {
                *sum = S::fma(value, vector, *sum);
            }
        }
    }
}

/// `M` rows by `N` vectors of the result, held in registers over all of `k`. The last vector has `last` lanes; `UNIT` says that the rows of `a`
/// are contiguous.
///
/// # Safety
/// The rows and columns lie inside the matrices; rows of `b` are contiguous.
#[inline(always)]
unsafe fn block<S: Simd, const M: usize, const N: usize, const WHOLE: bool, const UNIT: bool>(
    product: &Product,
    row: usize,
    column: usize,
    last: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let to = |i: usize, j: usize| product.dst.add((row + i) * product.dst_row + column + j * S::LANES);
        let mut sums = [[S::zero(); N]; M];
        // Opaque, or the compiler adds the stride again for every row of every step.
        let rows: [*const f32; M] = black_box(std::array::from_fn(|i| product.a.at(row + i, 0)));
        let mut b = product.b.at(0, column);
        let mut step = 0;
        // The result's lines come to the first cache while it is computed.
        for i in 0..M {
            for j in 0..N {
                _mm_prefetch::<_MM_HINT_T0>(to(i, j).cast());
            }
        }
        let next = product.a.row * M as isize;
        for _ in 0..product.k / UNROLLED {
            for _ in 0..UNROLLED {
                if !UNIT {
                    // The next block's line: the processor cannot guess it, for each lies in another page.
                    _mm_prefetch::<_MM_HINT_T0>(rows[0].wrapping_offset(step + next).cast());
                }
                add_step::<S, M, N, WHOLE>(&mut sums, rows, step, b, last);
                b = advance(b as isize, size_of::<f32>() as isize * product.b.row) as *const f32;
                step = if UNIT { step + 1 } else { advance(step, product.a.column) };
            }
        }
        for _ in 0..product.k % UNROLLED {
            add_step::<S, M, N, WHOLE>(&mut sums, rows, step, b, last);
            b = b.wrapping_offset(product.b.row);
            step += product.a.column;
        }
        if product.accumulate {
            for (i, sums) in sums.iter_mut().enumerate() {
                for (j, sum) in sums.iter_mut().enumerate() {
                    let old = if WHOLE || j + 1 < N { S::load(to(i, j)) } else { S::load_part(to(i, j), last) };
                    *sum = S::add(old, *sum);
                }
            }
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (j, sum) in sums.into_iter().enumerate() {
                if WHOLE || j + 1 < N { S::store(to(i, j), sum) } else { S::store_part(to(i, j), sum, last) }
            }
        }
    }
}

/// All rows of a panel of `N` vectors.
#[inline(always)]
unsafe fn rows<S: Simd, const M: usize, const N: usize, const WHOLE: bool, const UNIT: bool>(
    product: &Product,
    column: usize,
    last: usize,
) {
    let mut row = 0;
    // SAFETY: the caller's.
    unsafe {
        while row + M <= product.m {
            block::<S, M, N, WHOLE, UNIT>(product, row, column, last);
            row += M;
        }
        if row + 4 <= product.m {
            block::<S, 4, N, WHOLE, UNIT>(product, row, column, last);
            row += 4;
        }
        if row + 2 <= product.m {
            block::<S, 2, N, WHOLE, UNIT>(product, row, column, last);
            row += 2;
        }
        if row < product.m {
            block::<S, 1, N, WHOLE, UNIT>(product, row, column, last);
        }
    }
}

/// One panel of at most three vectors.
#[inline(always)]
unsafe fn panel<S: Simd, const M: usize, const UNIT: bool>(product: &Product, column: usize, width: usize) {
    let vectors = width.div_ceil(S::LANES);
    let last = width - (vectors - 1) * S::LANES;
    // SAFETY: the caller's.
    unsafe {
        match (vectors, last == S::LANES) {
            (3, true) => rows::<S, M, 3, true, UNIT>(product, column, last),
            (3, false) => rows::<S, M, 3, false, UNIT>(product, column, last),
            (2, true) => rows::<S, M, 2, true, UNIT>(product, column, last),
            (2, false) => rows::<S, M, 2, false, UNIT>(product, column, last),
            (_, true) => rows::<S, M, 1, true, UNIT>(product, column, last),
            (_, false) => rows::<S, M, 1, false, UNIT>(product, column, last),
        }
    }
}

/// A cache line: vectors that lie across two of them are read at half the speed.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Line {
    _numbers: [f32; 16],
}

thread_local! {
    /// A panel of `b`, its rows together.
    static PANEL: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// The product, panel by panel, each in pieces of `k`.
#[inline(always)]
unsafe fn drive<S: Simd, const M: usize>(product: &Product) {
    // No closure: code in one is compiled without the vectors' instructions.
    let mut packed = PANEL.take();
    packed.resize(DEPTH * VECTORS * S::LANES / 16, Line::default());
    let depth = depth_of_piece(product.k);
    let mut column = 0;
    while column < product.n {
        let step = panel_vectors((product.n - column).div_ceil(S::LANES)) * S::LANES;
        let width = step.min(product.n - column);
        for first in (0..product.k.max(1)).step_by(depth) {
            // SAFETY: the elements lie inside the matrices, and the panel's results inside the destination.
            unsafe {
                let mut part = Product {
                    k: depth.min(product.k - first),
                    n: width,
                    dst: product.dst.add(column),
                    a: View { start: product.a.at(0, first), ..product.a },
                    b: View { start: product.b.at(first, column), ..product.b },
                    accumulate: product.accumulate || first > 0,
                    ..*product
                };
                if !product.prepared.is_null() {
                    let panel = product.prepared.cast::<f32>().add(column * product.k + first * step);
                    part.b = View { start: panel, row: step as isize, column: 1 };
                } else if product.m > 8 * M || product.b.column != 1 {
                    // Fewer rows use the panel too seldom to copy it.
                    let panel = packed.as_mut_ptr().cast::<f32>();
                    pack::<S>(part.b, part.k, width, panel, step);
                    part.b = View { start: panel, row: step as isize, column: 1 };
                }
                if part.a.column == 1 {
                    panel::<S, M, true>(&part, 0, width);
                } else {
                    panel::<S, M, false>(&part, 0, width);
                }
            }
        }
        column += step;
    }
    PANEL.set(packed);
}

/// Bytes of a factor copied by [`prepare`].
pub(super) fn prepared_bytes(rows: usize, columns: usize) -> usize {
    4 * rows * columns.next_multiple_of(if Way::best() == Way::Wide { Wide::LANES } else { Narrow::LANES })
}

/// Copies a whole factor, panel after panel, for products that are by vectors.
///
/// # Safety
/// The view is a matrix of these sizes, and `out` has [`prepared_bytes`].
pub(super) unsafe fn prepare(view: View, rows: usize, columns: usize, out: &mut [f32]) {
    assert!(4 * out.len() >= prepared_bytes(rows, columns), "a copy of another size");
    // SAFETY: the copy has room, and the processor has the vectors: see `has_vectors`.
    unsafe {
        match Way::best() {
            Way::Wide => prepare_wide(view, rows, columns, out.as_mut_ptr()),
            Way::Narrow | Way::Plain => prepare_narrow(view, rows, columns, out.as_mut_ptr()),
        }
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn prepare_wide(view: View, rows: usize, columns: usize, out: *mut f32) {
    // SAFETY: the caller's.
    unsafe { prepare_by::<Wide>(view, rows, columns, out) }
}

#[target_feature(enable = "avx2")]
unsafe fn prepare_narrow(view: View, rows: usize, columns: usize, out: *mut f32) {
    // SAFETY: the caller's.
    unsafe { prepare_by::<Narrow>(view, rows, columns, out) }
}

#[inline(always)]
unsafe fn prepare_by<S: Simd>(view: View, rows: usize, columns: usize, out: *mut f32) {
    let mut first = 0;
    while first < columns {
        let step = panel_vectors((columns - first).div_ceil(S::LANES)) * S::LANES;
        // SAFETY: the panel's columns lie inside the matrix, and the caller's copy holds all panels.
        unsafe { pack::<S>(View { start: view.at(0, first), ..view }, rows, step.min(columns - first), out.add(first * rows), step) };
        first += step;
    }
}

/// Whether products are by vectors, which read prepared factors.
pub(super) fn has_vectors() -> bool {
    Way::best() != Way::Plain
}

/// Copies a panel so that its rows are contiguous, `step` apart.
///
/// # Safety
/// `b` has the rows and columns, and `out` room for the rows.
#[inline(always)]
unsafe fn pack<S: Simd>(b: View, rows: usize, columns: usize, out: *mut f32, step: usize) {
    if b.column == 1 {
        let whole = columns / S::LANES * S::LANES;
        for row in 0..rows {
            // SAFETY: the caller's.
            unsafe {
                let (from, to) = (b.at(row, 0), out.add(row * step));
                for column in (0..whole).step_by(S::LANES) {
                    S::store(to.add(column), S::load(from.add(column)));
                }
                if whole < columns {
                    S::store_part(to.add(whole), S::load_part(from.add(whole), columns - whole), columns - whole);
                }
            }
        }
        return;
    }
    const SIDE: usize = 8;
    let (whole_rows, whole_columns) = if b.row == 1 { (rows / SIDE * SIDE, columns / SIDE * SIDE) } else { (0, 0) };
    // SAFETY: the caller's.
    unsafe {
        for column in (0..whole_columns).step_by(SIDE) {
            for row in (0..whole_rows).step_by(SIDE) {
                turn_square(b.at(row, column), b.column, out.add(row * step + column), step);
            }
        }
        for row in 0..rows {
            let first = if row < whole_rows { whole_columns } else { 0 };
            for column in first..columns {
                *out.add(row * step + column) = *b.at(row, column);
            }
        }
    }
}

/// Turns 8 columns of 8 numbers, `stride` apart, to 8 rows, `step` apart.
#[inline(always)]
unsafe fn turn_square(from: *const f32, stride: isize, to: *mut f32, step: usize) {
    // SAFETY: the caller's; both widths of vectors have AVX.
    unsafe {
        let mut c = [_mm256_setzero_ps(); 8];
        for (at, c) in c.iter_mut().enumerate() {
            *c = _mm256_loadu_ps(from.offset(at as isize * stride));
        }
        let pairs = [
            _mm256_unpacklo_ps(c[0], c[1]),
            _mm256_unpackhi_ps(c[0], c[1]),
            _mm256_unpacklo_ps(c[2], c[3]),
            _mm256_unpackhi_ps(c[2], c[3]),
            _mm256_unpacklo_ps(c[4], c[5]),
            _mm256_unpackhi_ps(c[4], c[5]),
            _mm256_unpacklo_ps(c[6], c[7]),
            _mm256_unpackhi_ps(c[6], c[7]),
        ];
        let fours = [
            _mm256_shuffle_ps::<0x44>(pairs[0], pairs[2]),
            _mm256_shuffle_ps::<0xee>(pairs[0], pairs[2]),
            _mm256_shuffle_ps::<0x44>(pairs[1], pairs[3]),
            _mm256_shuffle_ps::<0xee>(pairs[1], pairs[3]),
            _mm256_shuffle_ps::<0x44>(pairs[4], pairs[6]),
            _mm256_shuffle_ps::<0xee>(pairs[4], pairs[6]),
            _mm256_shuffle_ps::<0x44>(pairs[5], pairs[7]),
            _mm256_shuffle_ps::<0xee>(pairs[5], pairs[7]),
        ];
        for at in 0..4 {
            _mm256_storeu_ps(to.add(at * step), _mm256_permute2f128_ps::<0x20>(fours[at], fours[at + 4]));
            _mm256_storeu_ps(to.add((at + 4) * step), _mm256_permute2f128_ps::<0x31>(fours[at], fours[at + 4]));
        }
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn wide(product: &Product) {
    for item in 0..product.count {
        // SAFETY: the caller's.
        unsafe { drive::<Wide, 8>(&product.of_item(item)) }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn narrow(product: &Product) {
    for item in 0..product.count {
        // SAFETY: the caller's.
        unsafe { drive::<Narrow, 4>(&product.of_item(item)) }
    }
}

/// For processors without fused multiply-adds.
unsafe fn plain(product: &Product) {
    for item in 0..product.count {
        // SAFETY: the caller's.
        unsafe { plain_item(&product.of_item(item)) }
    }
}

unsafe fn plain_item(product: &Product) {
    for i in 0..product.m {
        for j in 0..product.n {
            let mut sum = 0.0f32;
            for l in 0..product.k {
                // SAFETY: the caller's.
                sum += unsafe { *product.a.at(i, l) * *product.b.at(l, j) };
            }
            // SAFETY: as above.
            unsafe {
                let to = product.dst.add(i * product.dst_row + j);
                *to = if product.accumulate { *to + sum } else { sum };
            }
        }
    }
}

/// The products of all items, by the widest vectors that the processor has.
///
/// # Safety
/// The matrices lie in memory of the caller.
pub(super) unsafe fn matmul(product: &Product) {
    // SAFETY: the caller's; the processor has what is asked for.
    unsafe {
        match Way::best() {
            Way::Wide => wide(product),
            Way::Narrow => narrow(product),
            Way::Plain => plain(product),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        (0..count).map(|at| crate::random::uniform(seed, at as u64) as f32 - 0.5).collect()
    }

    /// One way to compute a product.
    type Way = unsafe fn(&Product);

    /// All ways of a product against sums in `f64`, with guards around the result.
    #[test]
    fn every_way_gives_the_product() {
        let ways: [(&str, bool, Way); 3] = [
            ("wide", is_x86_feature_detected!("avx512f"), wide),
            ("narrow", is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"), narrow),
            ("plain", true, plain),
        ];
        let shapes = [
            (1, 1, 1),
            (1, 16, 3),
            (3, 17, 0),
            (8, 48, 7),
            (9, 49, 40),
            (128, 1, 33),
            (2, 95, 16),
            (15, 400, 11),
            (7, 64, 129),
            (13, 131, 300),
            (40, 100, 150),
            (70, 60, 1030),
        ];
        for (m, n, k) in shapes {
            for (a_turned, b_turned, accumulate) in [(false, false, false), (true, false, true), (false, true, true), (true, true, false)] {
                let (a, b, old) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * (n + 3), 3));
                let mut results: Vec<Vec<f32>> = Vec::new();
                for (name, has, way) in ways {
                    if !has {
                        continue;
                    }
                    let mut dst = old.clone();
                    let product = Product {
                        dst: dst.as_mut_ptr(),
                        dst_row: n + 3,
                        a: View {
                            start: a.as_ptr(),
                            row: if a_turned { 1 } else { k as isize },
                            column: if a_turned { m as isize } else { 1 },
                        },
                        b: View {
                            start: b.as_ptr(),
                            row: if b_turned { 1 } else { n as isize },
                            column: if b_turned { k as isize } else { 1 },
                        },
                        ..Product::of_sizes(m, n, k, accumulate)
                    };
                    // SAFETY: the vectors hold the matrices.
                    unsafe { way(&product) };
                    for i in 0..m {
                        for j in 0..n + 3 {
                            let exact: f64 = (0..k)
                                .map(|l| {
                                    let left = if a_turned { a[l * m + i] } else { a[i * k + l] };
                                    let right = if j >= n {
                                        0.0
                                    } else if b_turned {
                                        b[j * k + l]
                                    } else {
                                        b[l * n + j]
                                    };
                                    f64::from(left) * f64::from(right)
                                })
                                .sum();
                            let before = f64::from(old[i * (n + 3) + j]);
                            let wanted = if j >= n {
                                before
                            } else if accumulate {
                                before + exact
                            } else {
                                exact
                            };
                            let found = f64::from(dst[i * (n + 3) + j]);
                            assert!((found - wanted).abs() < 1e-5 * (1.0 + k as f64), "{name} {m}x{n}x{k}: {found} for {wanted}");
                        }
                    }
                    results.push(dst);
                }
                if results.len() == 3 {
                    assert_eq!(results[0], results[1], "the two widths differ");
                }
            }
        }
    }
}
