//! Products whose factors are rounded to bfloat16 and summed as 32-bit floats.
//!
//! Both factors are copied into tiles of 16 by 32 numbers, in the layout that the processor's instructions read: a 32-bit word holds two
//! neighbours along `k`. A tile of `a` has a row of words for each of its rows, a tile of `b` a row of words for each pair of its rows.
//! AMX multiplies whole tiles, AVX512_BF16 a word with a row of words; other processors multiply the same rounded numbers one by one.

use super::product::{Product, View};
use std::arch::asm;
use std::arch::x86_64::{
    __cpuid_count, __m512bh, __m512i, _mm512_add_ps, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_permutexvar_epi16, _mm512_set1_epi32, _mm512_setzero_ps, _mm512_shuffle_i32x4,
    _mm512_storeu_ps, _mm512_storeu_si512, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use std::cell::Cell;
use std::sync::OnceLock;

/// Rows of a tile of `a`, columns of a tile of `b`, pairs of both.
const SIDE: usize = 16;
/// How much of `k` a tile holds.
const DEPTH: usize = 2 * SIDE;
/// Rows and columns of the result that are computed together: two tiles each way.
const BLOCK: usize = 2 * SIDE;

/// 16 by 16 words of two numbers.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Tile([u32; SIDE * SIDE]);

/// A block of the result.
#[repr(align(64))]
struct Sums([f32; BLOCK * BLOCK]);

/// How tiles are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Tile registers.
    Amx,
    /// Vectors of pairs.
    Vectors,
    /// Neither is there.
    Plain,
}

impl Way {
    /// The fastest that this processor has.
    fn best() -> Way {
        static BEST: OnceLock<Way> = OnceLock::new();
        *BEST.get_or_init(|| match () {
            () if has_vectors() && has_amx() => Way::Amx,
            () if has_vectors() => Way::Vectors,
            () => Way::Plain,
        })
    }
}

fn has_vectors() -> bool {
    is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512bf16")
}

/// Whether the processor has AMX for bfloat16 and the system lets this process use it.
fn has_amx() -> bool {
    const REQUEST_PERMISSION: i64 = 0x1023;
    const TILE_DATA: i64 = 18;
    const BF16_AND_TILES: u32 = 1 << 22 | 1 << 24;
    let has = __cpuid_count(7, 0).edx & BF16_AND_TILES == BF16_AND_TILES;
    // SAFETY: the call asks for a permission and touches no memory.
    has && unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) } == 0
}

/// A number rounded to the nearest bfloat16, to even when in the middle; what is too small to be normal is zero.
fn rounded(value: f32) -> u32 {
    let bits = value.to_bits();
    if value.is_nan() {
        return bits >> 16 | 0x40;
    }
    if !value.is_normal() && value.is_finite() {
        return bits >> 16 & 0x8000;
    }
    (bits + 0x7fff + (bits >> 16 & 1)) >> 16
}

/// What lies in memory row by row: `rows` by `columns` numbers from `start`, of which a tile holds the first.
#[derive(Clone, Copy)]
struct Source {
    start: *const f32,
    stride: isize,
    rows: usize,
    columns: usize,
}

impl Source {
    fn row(self, row: usize) -> *const f32 {
        self.start.wrapping_offset(row as isize * self.stride)
    }

    unsafe fn number(self, row: usize, column: usize) -> u32 {
        if row >= self.rows || column >= self.columns {
            return 0;
        }
        // SAFETY: inside the matrix.
        rounded(unsafe { *self.row(row).add(column) })
    }

    /// A row of words for each row: words are pairs of columns.
    unsafe fn rows_of_pairs(self, tile: &mut Tile) {
        for (at, word) in tile.0.iter_mut().enumerate() {
            let (row, pair) = (at / SIDE, at % SIDE);
            // SAFETY: checked inside.
            *word = unsafe { self.number(row, 2 * pair) | self.number(row, 2 * pair + 1) << 16 };
        }
    }

    /// A row of words for each pair of rows.
    unsafe fn pairs_of_rows(self, tile: &mut Tile) {
        for (at, word) in tile.0.iter_mut().enumerate() {
            let (pair, column) = (at / SIDE, at % SIDE);
            // SAFETY: checked inside.
            *word = unsafe { self.number(2 * pair, column) | self.number(2 * pair + 1, column) << 16 };
        }
    }

    /// [`Source::rows_of_pairs`] by vectors.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn rows_of_pairs_wide(self, tile: &mut Tile) {
        let (low, high) = (mask(self.columns), mask(self.columns.saturating_sub(SIDE)));
        for row in 0..SIDE {
            let to = tile.0[row * SIDE..].as_mut_ptr();
            // SAFETY: masked lanes are not read, and a row of the tile has 16 words.
            unsafe {
                let (low, high) = if row < self.rows { (low, high) } else { (0, 0) };
                let from = self.row(row);
                let pair = _mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(high, from.wrapping_add(SIDE)), _mm512_maskz_loadu_ps(low, from));
                _mm512_storeu_si512(to.cast(), std::mem::transmute::<__m512bh, __m512i>(pair));
            }
        }
    }

    /// [`Source::pairs_of_rows`] by vectors.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn pairs_of_rows_wide(self, tile: &mut Tile) {
        const WEAVE: [u16; 32] = {
            let mut order = [0; 32];
            let mut at = 0;
            while at < 32 {
                order[at] = (at / 2 + at % 2 * 16) as u16;
                at += 1;
            }
            order
        };
        let columns = mask(self.columns);
        for pair in 0..SIDE {
            let to = tile.0[pair * SIDE..].as_mut_ptr();
            let row = |row: usize| if row < self.rows { columns } else { 0 };
            // SAFETY: as above.
            unsafe {
                let (first, second) = (self.row(2 * pair), self.row(2 * pair + 1));
                let (first, second) = (_mm512_maskz_loadu_ps(row(2 * pair), first), _mm512_maskz_loadu_ps(row(2 * pair + 1), second));
                let both = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first));
                let order = _mm512_loadu_si512(WEAVE.as_ptr().cast());
                _mm512_storeu_si512(to.cast(), _mm512_permutexvar_epi16(order, both));
            }
        }
    }
}

fn mask(lanes: usize) -> u16 {
    ((1u32 << lanes.min(SIDE)) - 1) as u16
}

/// Turns a tile's rows to columns.
fn turn(tile: &mut Tile) {
    for row in 0..SIDE {
        for column in 0..row {
            tile.0.swap(row * SIDE + column, column * SIDE + row);
        }
    }
}

/// [`turn`] by vectors: pairs, fours, and then quarters of rows change places.
#[target_feature(enable = "avx512f")]
unsafe fn turn_wide(tile: &mut Tile) {
    // SAFETY: a tile has 16 rows of 16 words.
    unsafe {
        let at = |row: usize| tile.0.as_ptr().add(row * SIDE).cast::<__m512i>();
        let mut twos = [_mm512_loadu_si512(at(0)); 16];
        for half in 0..8 {
            let (a, b) = (_mm512_loadu_si512(at(2 * half)), _mm512_loadu_si512(at(2 * half + 1)));
            twos[2 * half] = _mm512_unpacklo_epi32(a, b);
            twos[2 * half + 1] = _mm512_unpackhi_epi32(a, b);
        }
        let mut fours = twos;
        for four in 0..4 {
            for half in 0..2 {
                let (a, b) = (twos[4 * four + half], twos[4 * four + 2 + half]);
                fours[4 * four + 2 * half] = _mm512_unpacklo_epi64(a, b);
                fours[4 * four + 2 * half + 1] = _mm512_unpackhi_epi64(a, b);
            }
        }
        for at in 0..4 {
            let (a, b, c, d) = (fours[at], fours[4 + at], fours[8 + at], fours[12 + at]);
            let (even, odd) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
            let (more_even, more_odd) = (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
            let rows = [
                _mm512_shuffle_i32x4::<0x88>(even, more_even),
                _mm512_shuffle_i32x4::<0x88>(odd, more_odd),
                _mm512_shuffle_i32x4::<0xdd>(even, more_even),
                _mm512_shuffle_i32x4::<0xdd>(odd, more_odd),
            ];
            for (quarter, row) in rows.into_iter().enumerate() {
                _mm512_storeu_si512(tile.0.as_mut_ptr().add((4 * quarter + at) * SIDE).cast(), row);
            }
        }
    }
}

/// Tiles of both factors; kept by each thread.
#[derive(Default)]
struct Packed {
    a: Vec<Tile>,
    b: Vec<Tile>,
}

thread_local! {
    static PACKED: Cell<Packed> = const { Cell::new(Packed { a: Vec::new(), b: Vec::new() }) };
}

/// Tiles of a factor.
fn tiles(across: usize, k: usize) -> usize {
    across.div_ceil(BLOCK) * 2 * k.div_ceil(DEPTH)
}

/// As many tiles as a factor takes.
fn room(out: &mut Vec<Tile>, across: usize, k: usize) -> &mut [Tile] {
    let count = tiles(across, k);
    if out.len() < count {
        out.resize(count, Tile([0; SIDE * SIDE]));
    }
    &mut out[..count]
}

/// Bytes of a right factor copied by [`prepare`].
pub(super) fn prepared_bytes(rows: usize, columns: usize) -> usize {
    size_of::<Tile>() * tiles(columns, rows)
}

/// Copies a whole right factor to tiles.
///
/// # Safety
/// The view is a matrix of these sizes, whose numbers are neighbours along its rows or its columns; `out` has [`prepared_bytes`] at a
/// boundary of 64 bytes.
pub(super) unsafe fn prepare(view: View, rows: usize, columns: usize, out: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe {
        let out = std::slice::from_raw_parts_mut(out.as_mut_ptr().cast::<Tile>(), tiles(columns, rows));
        pack(Way::best(), view, columns, rows, false, out);
    }
}

/// Copies a matrix of `across` rows (of `a`) or columns (of `b`) and `k` to tiles: `steps` after one another for each 16 across.
/// `along` is where the next number of `k` lies, `side` the next row of `a` or column of `b`; one of them is 1.
unsafe fn pack(way: Way, view: View, across: usize, k: usize, is_a: bool, out: &mut [Tile]) {
    let steps = k.div_ceil(DEPTH);
    let count = tiles(across, k);
    let (side, along) = if is_a { (view.row, view.column) } else { (view.column, view.row) };
    // Rows in memory are rows of words, or become pairs; a factor that has them the other way round is turned.
    let along_rows = along == 1;
    for at in 0..count {
        // In the order of memory.
        let blocks = count / steps;
        let (block, step) = if along_rows { (at / steps, at % steps) } else { (at % blocks, at / blocks) };
        let tile = &mut out[block * steps + step];
        let (first, depth) = (block * SIDE, step * DEPTH);
        let start = view.start.wrapping_offset(first as isize * side + depth as isize * along);
        let (wide, deep) = (across.saturating_sub(first).min(SIDE), k.saturating_sub(depth).min(DEPTH));
        let source = match along_rows {
            true => Source { start, stride: side, rows: wide, columns: deep },
            false => Source { start, stride: along, rows: deep, columns: wide },
        };
        // SAFETY: the source lies inside the matrix, and vectors are used where the processor has them.
        unsafe {
            match (way == Way::Plain, along_rows) {
                (true, true) => source.rows_of_pairs(tile),
                (true, false) => source.pairs_of_rows(tile),
                (false, true) => source.rows_of_pairs_wide(tile),
                (false, false) => source.pairs_of_rows_wide(tile),
            }
            if along_rows != is_a {
                if way == Way::Plain { turn(tile) } else { turn_wide(tile) }
            }
        }
    }
}

/// A block of the result: two rows of tiles of `a` by two of `b`.
unsafe fn block(way: Way, a: [&[Tile]; 2], b: [&[Tile]; 2], sums: &mut Sums) {
    match way {
        // SAFETY: the processor has it, and the system's permission was given.
        Way::Amx => unsafe { block_amx(a, b, sums) },
        Way::Vectors | Way::Plain => {
            for (row, a) in a.into_iter().enumerate() {
                for (column, b) in b.into_iter().enumerate() {
                    let to = &mut sums.0[row * SIDE * BLOCK + column * SIDE..];
                    // SAFETY: the processor has the vectors.
                    if way == Way::Vectors { unsafe { quarter_vectors(a, b, to) } } else { quarter_plain(a, b, to) }
                }
            }
        }
    }
}

/// Shapes of the eight tile registers: 16 rows of 64 bytes.
#[repr(align(64))]
struct TileConfig([u8; 64]);

const TILE_CONFIG: TileConfig = {
    let mut bytes = [0; 64];
    bytes[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        bytes[16 + 2 * tile] = 64;
        bytes[48 + tile] = 16;
        tile += 1;
    }
    TileConfig(bytes)
};

unsafe fn block_amx(a: [&[Tile]; 2], b: [&[Tile]; 2], sums: &mut Sums) {
    let to = sums.0.as_mut_ptr();
    // SAFETY: each factor has a tile for every step, and the block's quarters lie inside it.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "test {steps}, {steps}",
            "jz 3f",
            "2:",
            "tileloadd tmm4, [{a0} + {row}*1]",
            "tileloadd tmm6, [{b0} + {row}*1]",
            "tileloadd tmm7, [{b1} + {row}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{a1} + {row}*1]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a0}, 1024",
            "add {a1}, 1024",
            "add {b0}, 1024",
            "add {b1}, 1024",
            "dec {steps}",
            "jnz 2b",
            "3:",
            "tilestored [{to} + {line}*1], tmm0",
            "tilestored [{to} + {line}*1 + 64], tmm1",
            "tilestored [{lower} + {line}*1], tmm2",
            "tilestored [{lower} + {line}*1 + 64], tmm3",
            a0 = inout(reg) a[0].as_ptr() => _,
            a1 = inout(reg) a[1].as_ptr() => _,
            b0 = inout(reg) b[0].as_ptr() => _,
            b1 = inout(reg) b[1].as_ptr() => _,
            steps = inout(reg) a[0].len() => _,
            row = in(reg) 64usize,
            line = in(reg) BLOCK * 4,
            to = in(reg) to,
            lower = in(reg) to.add(SIDE * BLOCK),
            options(nostack),
        );
    }
}

#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn quarter_vectors(a: &[Tile], b: &[Tile], out: &mut [f32]) {
    // SAFETY: tiles have 16 rows of 16 words, and the block has room for 16 rows.
    unsafe {
        let mut sums = [_mm512_setzero_ps(); SIDE];
        for (a, b) in a.iter().zip(b) {
            for pair in 0..SIDE {
                let row = std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(b.0.as_ptr().add(pair * SIDE).cast()));
                for (at, sum) in sums.iter_mut().enumerate() {
                    let word = _mm512_set1_epi32(*a.0.get_unchecked(at * SIDE + pair) as i32);
                    *sum = _mm512_dpbf16_ps(*sum, std::mem::transmute::<__m512i, __m512bh>(word), row);
                }
            }
        }
        for (at, sum) in sums.into_iter().enumerate() {
            _mm512_storeu_ps(out[at * BLOCK..at * BLOCK + SIDE].as_mut_ptr(), sum);
        }
    }
}

fn quarter_plain(a: &[Tile], b: &[Tile], out: &mut [f32]) {
    let halves = |word: u32| [f32::from_bits(word << 16), f32::from_bits(word & 0xffff_0000)];
    for row in 0..SIDE {
        let sums = &mut out[row * BLOCK..row * BLOCK + SIDE];
        sums.fill(0.0);
        for (a, b) in a.iter().zip(b) {
            for pair in 0..SIDE {
                let [first, second] = halves(a.0[row * SIDE + pair]);
                for (sum, &word) in sums.iter_mut().zip(&b.0[pair * SIDE..(pair + 1) * SIDE]) {
                    let [own_first, own_second] = halves(word);
                    *sum += first * own_first + second * own_second;
                }
            }
        }
    }
}

/// The product; its factors have neighbours along a row or along a column.
unsafe fn drive(way: Way, product: &Product) {
    let steps = product.k.div_ceil(DEPTH);
    let mut packed = PACKED.take();
    let mut sums = Sums([0.0; BLOCK * BLOCK]);
    // SAFETY: the matrices are the caller's; the configuration is a constant of the documented form.
    unsafe {
        pack(way, product.a, product.m, product.k, true, room(&mut packed.a, product.m, product.k));
        let right = match product.prepared.is_null() {
            true => {
                let room = room(&mut packed.b, product.n, product.k);
                pack(way, product.b, product.n, product.k, false, room);
                &*room
            }
            false => std::slice::from_raw_parts(product.prepared.cast::<Tile>(), tiles(product.n, product.k)),
        };
        if way == Way::Amx {
            asm!("ldtilecfg [{}]", in(reg) TILE_CONFIG.0.as_ptr(), options(nostack, readonly));
        }
        for column in (0..product.n).step_by(BLOCK) {
            let b = two(right, column / SIDE, steps);
            for row in (0..product.m).step_by(BLOCK) {
                block(way, two(&packed.a, row / SIDE, steps), b, &mut sums);
                if way == Way::Plain { write(product, row, column, &sums) } else { write_wide(product, row, column, &sums) }
            }
        }
        if way == Way::Amx {
            // Registers in use would be saved at every change of task.
            asm!("tilerelease", options(nostack, nomem));
        }
    }
    PACKED.set(packed);
}

/// Two neighbouring rows of tiles.
fn two(tiles: &[Tile], first: usize, steps: usize) -> [&[Tile]; 2] {
    [&tiles[first * steps..(first + 1) * steps], &tiles[(first + 1) * steps..(first + 2) * steps]]
}

/// Writes a block's rows and columns that the result has.
unsafe fn write(product: &Product, row: usize, column: usize, sums: &Sums) {
    let width = BLOCK.min(product.n - column);
    for (at, sums) in sums.0.chunks_exact(BLOCK).take(product.m - row).enumerate() {
        // SAFETY: the block's rows and columns inside the result.
        let to = unsafe { std::slice::from_raw_parts_mut(product.dst.add((row + at) * product.dst_row + column), width) };
        if product.accumulate {
            to.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
        } else {
            to.copy_from_slice(&sums[..width]);
        }
    }
}

/// The products of all items.
///
/// # Safety
/// The matrices lie in memory of the caller, and the numbers of each are neighbours along its rows or along its columns.
pub(super) unsafe fn matmul(product: &Product) {
    for item in 0..product.count {
        // SAFETY: the caller's.
        unsafe { drive(Way::best(), &product.of_item(item)) }
    }
}

/// [`write`] by vectors.
#[target_feature(enable = "avx512f")]
unsafe fn write_wide(product: &Product, row: usize, column: usize, sums: &Sums) {
    let width = product.n - column;
    for at in 0..BLOCK.min(product.m - row) {
        for half in 0..2 {
            let lanes = mask(width.saturating_sub(half * SIDE));
            // SAFETY: masked lanes are neither read nor written; the block has 32 rows of 32 numbers.
            unsafe {
                let to = product.dst.wrapping_add((row + at) * product.dst_row + column + half * SIDE);
                let mut sum = _mm512_loadu_ps(sums.0.as_ptr().add(at * BLOCK + half * SIDE));
                if product.accumulate {
                    sum = _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, to), sum);
                }
                _mm512_mask_storeu_ps(to, lanes, sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        (0..count).map(|at| crate::random::uniform(seed, at as u64) as f32 - 0.5).collect()
    }

    fn near(value: f32) -> f64 {
        f64::from(f32::from_bits(rounded(value) << 16))
    }

    #[test]
    fn numbers_are_rounded_to_even() {
        for (value, wanted) in [
            (1.0, 0x3f80),
            (f32::from_bits(0x3f80_8000), 0x3f80),
            (f32::from_bits(0x3f81_8000), 0x3f82),
            (f32::from_bits(0x3f80_8001), 0x3f81),
            (-0.0, 0x8000),
            (1e-40, 0),
            (-1e-40, 0x8000),
            (f32::MAX, 0x7f80),
            (f32::INFINITY, 0x7f80),
            (f32::NAN, 0x7fc0),
        ] {
            assert_eq!(rounded(value), wanted, "{value:e}");
        }
    }

    #[test]
    fn vectors_pack_as_single_numbers_do() {
        if !has_vectors() {
            return;
        }
        let data =
            numbers(40 * 40, 4).into_iter().enumerate().map(|(at, value)| if at % 17 == 0 { 1e-40 } else { value }).collect::<Vec<_>>();
        for (rows, columns) in [(16, 32), (32, 16), (1, 1), (5, 19), (15, 31), (31, 15), (0, 3)] {
            let source = Source { start: data.as_ptr(), stride: 40, rows, columns };
            let mut tiles = [Tile([7; 256]); 4];
            // SAFETY: the source lies in `data`, and the processor has the vectors.
            unsafe {
                source.rows_of_pairs(&mut tiles[0]);
                source.rows_of_pairs_wide(&mut tiles[1]);
                source.pairs_of_rows(&mut tiles[2]);
                source.pairs_of_rows_wide(&mut tiles[3]);
                assert_eq!(tiles[0].0, tiles[1].0, "{rows}x{columns}");
                assert_eq!(tiles[2].0, tiles[3].0, "{rows}x{columns}");
                turn(&mut tiles[0]);
                turn_wide(&mut tiles[1]);
                assert_eq!(tiles[0].0, tiles[1].0, "turned {rows}x{columns}");
            }
        }
    }

    /// All ways against sums in `f64` of the rounded numbers, with guards around the result.
    #[test]
    fn every_way_gives_the_product() {
        let ways = [(Way::Amx, has_vectors() && has_amx()), (Way::Vectors, has_vectors()), (Way::Plain, true)];
        for (m, n, k) in [(1, 1, 1), (3, 17, 0), (16, 16, 32), (17, 33, 31), (2, 95, 64), (40, 100, 150), (64, 1, 5), (33, 40, 65)] {
            for (a_turned, b_turned, accumulate) in [(false, false, false), (true, false, true), (false, true, true), (true, true, false)] {
                let (a, b, old) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * (n + 3), 3));
                let view = |data: &[f32], turned: bool, rows: usize, columns: usize| View {
                    start: data.as_ptr(),
                    row: if turned { 1 } else { columns as isize },
                    column: if turned { rows as isize } else { 1 },
                };
                let (left, right) = (view(&a, a_turned, m, k), view(&b, b_turned, k, n));
                for (way, _) in ways.into_iter().filter(|(_, has)| *has) {
                    let mut dst = old.clone();
                    let (dst_row, dst_at) = (n + 3, dst.as_mut_ptr());
                    let product = Product { dst: dst_at, dst_row, a: left, b: right, ..Product::of_sizes(m, n, k, accumulate) };
                    // SAFETY: the vectors hold the matrices.
                    unsafe { drive(way, &product) };
                    for i in 0..m {
                        for j in 0..n + 3 {
                            // SAFETY: inside the matrices.
                            let term = |l: usize| unsafe { near(*left.at(i, l)) * near(*right.at(l, j)) };
                            let exact: f64 = if j < n { (0..k).map(term).sum() } else { 0.0 };
                            let before = f64::from(old[i * (n + 3) + j]);
                            let wanted = if j >= n || accumulate { before + exact } else { exact };
                            let found = f64::from(dst[i * (n + 3) + j]);
                            assert!((found - wanted).abs() < 1e-5 * (1.0 + k as f64), "{way:?} {m}x{n}x{k}: {found} for {wanted}");
                        }
                    }
                }
            }
        }
    }
}
