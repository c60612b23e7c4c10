//! Products whose right factor is stored in few bytes: 16-bit floats, or 8-bit integers with a scale for each row.
//!
//! One example is bound by reading the weights, so a few rows read them as they are stored. More rows share the work of widening them. Both
//! multiply the same 32-bit floats in the same order.

use super::product::{Product, View};
use super::single::depth_of_piece;
use half::f16;
use half::slice::HalfFloatSliceExt as _;
use std::arch::x86_64::{
    __m512, _mm_loadu_si128, _mm_maskz_loadu_epi8, _mm256_loadu_si256, _mm256_maskz_loadu_epi16, _mm512_add_ps, _mm512_cvtepi8_epi32,
    _mm512_cvtepi32_ps, _mm512_cvtph_ps, _mm512_fmadd_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_set1_ps,
    _mm512_setzero_ps,
};
use std::cell::Cell;

/// Rows of the left factor up to which the weights are read as they are stored.
pub(super) const FEW: usize = 4;
/// Lanes of a vector.
const LANES: usize = 16;
/// Vectors of the result that are summed together.
const VECTORS: usize = 16;

/// How weights are stored.
#[derive(Clone, Copy)]
pub(super) enum Form {
    Half,
    /// With the scale of each row in memory.
    Byte(*const f32),
}

/// Weights in memory: a row for each number of `k`, `stride` elements apart.
#[derive(Clone, Copy)]
pub(super) struct Weights {
    pub(super) start: *const u8,
    pub(super) form: Form,
    pub(super) stride: usize,
}

thread_local! {
    /// The weights as 32-bit floats.
    static WIDENED: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// The product of `product.a` with the weights, by `multiply` where there are many rows; `product.b` is not read. `exact` says that factors are
/// not rounded further, so that few rows may go their own way.
///
/// # Safety
/// The matrices lie in memory of the caller.
pub(super) unsafe fn matmul(product: &Product, weights: Weights, exact: bool, multiply: unsafe fn(&Product)) {
    // SAFETY: the caller's, here and below; the vectors are there where they are used.
    unsafe {
        if exact && product.m <= FEW && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl") {
            (0..product.m).for_each(|row| one_row(product, row, weights));
            return;
        }
        if !product.prepared.is_null() {
            return multiply(product);
        }
        let mut widened = WIDENED.take();
        widen_all(weights, product.k, product.n, &mut widened);
        multiply(&Product { b: View { start: widened.as_ptr(), row: product.n as isize, column: 1 }, ..*product });
        WIDENED.set(widened);
    }
}

/// All rows in memory as 32-bit floats.
pub(super) unsafe fn widen_all(weights: Weights, rows: usize, columns: usize, out: &mut Vec<f32>) {
    out.resize(rows * columns, 0.0);
    for (row, out) in out.chunks_exact_mut(columns.max(1)).enumerate() {
        // SAFETY: the caller's.
        unsafe { widen(weights, row, out) };
    }
}

/// A row in memory as 32-bit floats.
unsafe fn widen(weights: Weights, row: usize, out: &mut [f32]) {
    // SAFETY: the row lies inside the matrix.
    unsafe {
        match weights.form {
            Form::Half => {
                let from = weights.start.cast::<f16>().add(row * weights.stride);
                std::slice::from_raw_parts(from, out.len()).convert_to_f32_slice(out);
            }
            Form::Byte(scales) => {
                let codes = std::slice::from_raw_parts(weights.start.cast::<i8>().add(row * weights.stride), out.len());
                if is_x86_feature_detected!("avx2") {
                    scaled_wide(codes, *scales.add(row), out)
                } else {
                    scaled(codes, *scales.add(row), out)
                }
            }
        }
    }
}

#[inline(always)]
fn scaled(codes: &[i8], scale: f32, out: &mut [f32]) {
    out.iter_mut().zip(codes).for_each(|(out, &code)| *out = f32::from(code) * scale);
}

/// [`scaled`], which becomes vectors.
#[target_feature(enable = "avx2")]
unsafe fn scaled_wide(codes: &[i8], scale: f32, out: &mut [f32]) {
    scaled(codes, scale, out);
}

/// One row of the result, [`VECTORS`] vectors at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn one_row(product: &Product, row: usize, weights: Weights) {
    for first in (0..product.n).step_by(VECTORS * LANES) {
        let left = product.n - first;
        // SAFETY: the caller's.
        unsafe {
            match left.div_ceil(LANES) {
                1 => part::<1>(product, row, first, weights),
                2 => part::<2>(product, row, first, weights),
                3..=4 => part::<4>(product, row, first, weights),
                5..=8 => part::<8>(product, row, first, weights),
                9..=12 => part::<12>(product, row, first, weights),
                _ => part::<VECTORS>(product, row, first, weights),
            }
        }
    }
}

/// At most `N` vectors of one row of the result.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn part<const N: usize>(product: &Product, row: usize, first: usize, weights: Weights) {
    let masks: [u16; N] = std::array::from_fn(|at| {
        let lanes = product.n.saturating_sub(first + at * LANES).min(LANES);
        ((1u32 << lanes) - 1) as u16
    });
    // SAFETY: masked lanes are neither read nor written; all others lie inside the matrices.
    unsafe {
        let to = product.dst.add(row * product.dst_row + first);
        let depth = depth_of_piece(product.k);
        for begin in (0..product.k.max(1)).step_by(depth) {
            let mut sums = [_mm512_setzero_ps(); N];
            for k in begin..product.k.min(begin + depth) {
                let value = _mm512_set1_ps(*product.a.at(row, k));
                let place = k * weights.stride + first;
                match weights.form {
                    Form::Half => {
                        let from = weights.start.cast::<u16>().wrapping_add(place);
                        for (at, sum) in sums.iter_mut().enumerate() {
                            *sum = _mm512_fmadd_ps(value, halves(from.wrapping_add(at * LANES), masks[at]), *sum);
                        }
                    }
                    Form::Byte(scales) => {
                        let scale = _mm512_set1_ps(*scales.add(k));
                        let from = weights.start.cast::<i8>().wrapping_add(place);
                        for (at, sum) in sums.iter_mut().enumerate() {
                            let weight = _mm512_mul_ps(codes(from.wrapping_add(at * LANES), masks[at]), scale);
                            *sum = _mm512_fmadd_ps(value, weight, *sum);
                        }
                    }
                }
            }
            for (at, sum) in sums.into_iter().enumerate() {
                let to = to.wrapping_add(at * LANES);
                let added = product.accumulate || begin > 0;
                let sum = if added { _mm512_add_ps(_mm512_maskz_loadu_ps(masks[at], to), sum) } else { sum };
                _mm512_mask_storeu_ps(to, masks[at], sum);
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn halves(from: *const u16, mask: u16) -> __m512 {
    // SAFETY: masked lanes are not read.
    unsafe {
        let whole = mask == u16::MAX;
        _mm512_cvtph_ps(if whole { _mm256_loadu_si256(from.cast()) } else { _mm256_maskz_loadu_epi16(mask, from.cast()) })
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn codes(from: *const i8, mask: u16) -> __m512 {
    // SAFETY: as above.
    unsafe {
        let whole = mask == u16::MAX;
        _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(if whole { _mm_loadu_si128(from.cast()) } else { _mm_maskz_loadu_epi8(mask, from) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use recc_abi::Element;

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        (0..count).map(|at| crate::random::uniform(seed, at as u64) as f32 - 0.5).collect()
    }

    /// A row has the same bits alone and among many.
    #[test]
    fn few_rows_are_summed_as_many_are() {
        let (m, n, k) = (70, 37, 1030);
        let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
        for element in [Element::F16, Element::I8] {
            let (bytes, scales) = crate::stored::as_stored(element, &b, n).expect("small numbers");
            let form = if element == Element::F16 { Form::Half } else { Form::Byte(scales.as_ptr()) };
            let weights = Weights { start: bytes.as_ptr(), form, stride: n };
            for accumulate in [false, true] {
                let rows = |first: usize, count: usize, dst: &mut [f32]| {
                    let left = View { start: a[first * k..].as_ptr(), row: k as isize, column: 1 };
                    let product = Product { dst: dst.as_mut_ptr(), dst_row: n, a: left, ..Product::of_sizes(count, n, k, accumulate) };
                    // SAFETY: the vectors hold the matrices.
                    unsafe { matmul(&product, weights, true, super::super::single::matmul) };
                };
                let (mut together, mut alone) = (numbers(m * n, 3), numbers(m * n, 3));
                rows(0, m, &mut together);
                alone.chunks_exact_mut(n).enumerate().for_each(|(row, dst)| rows(row, 1, dst));
                assert_eq!(together, alone, "{element:?}, {accumulate}");
            }
        }
    }

    /// Few rows and many, of both forms, against sums in `f64` of what the stored weights stand for.
    #[test]
    fn every_form_gives_the_product() {
        for (m, n, k) in [(1, 1, 1), (1, 400, 33), (2, 17, 5), (4, 300, 7), (5, 33, 40), (9, 1, 64), (3, 70, 0)] {
            for element in [Element::F16, Element::I8] {
                let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
                let (bytes, scales) = crate::stored::as_stored(element, &b, n).expect("small numbers");
                let form = if element == Element::F16 { Form::Half } else { Form::Byte(scales.as_ptr()) };
                let weights = Weights { start: bytes.as_ptr(), form, stride: n };
                let weight = |row: usize, column: usize| match element {
                    Element::F16 => {
                        f64::from(f16::from_le_bytes([bytes[2 * (row * n + column)], bytes[2 * (row * n + column) + 1]]).to_f32())
                    }
                    _ => f64::from(bytes[row * n + column].cast_signed()) * f64::from(scales[row]),
                };
                for exact in [false, true] {
                    let mut dst = numbers(m * (n + 3), 3);
                    let old = dst.clone();
                    let left = View { start: a.as_ptr(), row: k as isize, column: 1 };
                    let product = Product { dst: dst.as_mut_ptr(), dst_row: n + 3, a: left, ..Product::of_sizes(m, n, k, true) };
                    // SAFETY: the vectors hold the matrices.
                    unsafe { matmul(&product, weights, exact, super::super::single::matmul) };
                    for i in 0..m {
                        for j in 0..n + 3 {
                            let sum: f64 = if j < n { (0..k).map(|l| f64::from(a[i * k + l]) * weight(l, j)).sum() } else { 0.0 };
                            let (found, wanted) = (f64::from(dst[i * (n + 3) + j]), f64::from(old[i * (n + 3) + j]) + sum);
                            assert!((found - wanted).abs() < 1e-5 * (1.0 + k as f64), "{element:?} {m}x{n}x{k}: {found} for {wanted}");
                        }
                    }
                }
            }
        }
    }
}
