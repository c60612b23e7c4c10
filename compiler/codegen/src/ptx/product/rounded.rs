//! Products by the tensor cores: factors rounded to bfloat16, sums in `f32`.
//!
//! Shared memory holds pairs of neighbours along `k` as words, line by line of the result's rows and columns. A warp multiplies 16 rows by 8 columns, 16 deep, at a
//! time (`mma.sync`): of a square of 8 by 8 words, thread `4 g + t` has word `t` of line `g`.

use super::{Copied, DEPTH, Place, Writer};
use crate::ptx::code::{Class, Code, Value};
use crate::ptx::loops::load;
use recc_core::loops::Type;

/// Words of a line: its pairs, and a gap so that eight lines lie in different banks.
const LINE: u32 = DEPTH / 2 + 4;
/// Pairs of a line.
const PAIRS: u32 = DEPTH / 2;
/// Rows and columns that an instruction multiplies.
const ROWS: u32 = 16;
const COLUMNS: u32 = 8;

impl Writer {
    /// The function behind its parameters.
    pub(super) fn write_rounded(&mut self) {
        let place = self.place();
        let thread = self.code.special("%tid.x");
        // A warp's part of the square.
        let (tall, wide) = if self.way.square == 128 { (64, 32) } else { (32, 32) };
        let across = self.way.square / wide;
        let [lane, within] = [31, 3].map(|mask| self.code.int("and.b32", &[thread, Value::Int(mask)]));
        let group = self.code.int("shr.u32", &[lane, Value::Int(2)]);
        let warp = self.code.int("shr.u32", &[thread, Value::Int(5)]);
        let warp_column = self.code.int("and.b32", &[warp, Value::Int(across as i32 - 1)]);
        let warp_row = self.code.int("shr.u32", &[warp, Value::Int(across.trailing_zeros() as i32)]);
        let row = self.code.int("mad.lo.s32", &[warp_row, Value::Int(tall), group]);
        let line = self.code.int("mad.lo.s32", &[warp_column, Value::Int(wide as i32), group]);
        let first = self.code.int("mul.lo.s32", &[warp_column, Value::Int(wide as i32)]);
        let column = self.code.int("mad.lo.s32", &[within, Value::Int(2), first]);
        let (down, right) = (tall as u32 / ROWS, wide / COLUMNS);
        let sums = self.rounded_sums(&place, (row, column), (down, right));
        let [a_shared, b_shared] = ["a_piece", "b_piece"].map(|name| self.code.shared(name, 4 * LINE * self.way.square));
        let a_strides = [self.params.number("a_row"), self.params.number("a_column")];
        let b_strides = [self.params.number("b_column"), self.params.number("b_row")];
        let a = self.pairs(thread, (place.a, place.first_row, place.m, a_shared), (self.way.a_by_row, Type::F32), a_strides);
        let b = self.pairs(thread, (place.b, place.first_column, place.n, b_shared), (!self.way.b_by_row, self.b_type()), b_strides);
        let [a_own, b_own] = [(a_shared, row), (b_shared, line)].map(|(room, line)| {
            let word = self.code.int("mad.lo.s32", &[line, Value::Int(LINE as i32), within]);
            self.code.int("mad.lo.s32", &[word, Value::Int(4), room])
        });
        let done = self.code.copy(Value::Int(0));
        let ends = self.code.open_loop(done, place.k);
        for pairs in [&a, &b] {
            self.copy_pairs(pairs, done, place.k);
        }
        self.code.line(format_args!("bar.sync 0"));
        self.multiply((a_own, b_own), (down, right), &sums);
        self.code.line(format_args!("bar.sync 0"));
        self.code.close_loop(done, DEPTH, ends);
        self.store_rounded(&place, (row, column), (down, right), &sums);
        self.code.bind("END");
    }

    /// One piece's products, of a warp.
    fn multiply(&mut self, (a, b): (Value, Value), (down, right): (u32, u32), sums: &[[Value; 4]]) {
        let mut word = |base: Value, line: u32, words: u32| {
            let out = self.code.fresh(Class::Int);
            self.code.line(format_args!("ld.shared.b32 {out}, [{base}+{}]", 4 * (line * LINE + words)));
            out
        };
        let left: Vec<[Value; 4]> =
            (0..down).map(|at| [(0, 0), (8, 0), (0, 4), (8, 4)].map(|(line, words)| word(a, ROWS * at + line, words))).collect();
        let rights: Vec<[Value; 2]> = (0..right).map(|at| [0, 4].map(|words| word(b, COLUMNS * at, words))).collect();
        for (row, left) in left.iter().enumerate() {
            for (column, right_words) in rights.iter().enumerate() {
                let sums = list(&sums[row * right as usize + column]);
                let (left, right_words) = (list(left), list(right_words));
                self.code.line(format_args!("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {sums}, {left}, {right_words}, {sums}"));
            }
        }
    }

    /// The sums that a warp begins with, by its squares: what is there already, where the product is added to it.
    fn rounded_sums(&mut self, place: &Place, at: (Value, Value), size: (u32, u32)) -> Vec<[Value; 4]> {
        let sums: Vec<[Value; 4]> = (0..size.0 * size.1).map(|_| [0.0; 4].map(|zero| self.code.copy(Value::F32(zero)))).collect();
        let fresh = self.code.label();
        let none = self.code.test("setp.eq.s32", self.params.number("accumulate"), Value::Int(0));
        self.code.branch_if(none, &fresh);
        self.each_two(place, at, size, |code, (square, half), address, inside| {
            for (column, inside) in inside.iter().enumerate() {
                code.line(format_args!("@{inside} ld.global.f32 {}, [{address}+{}]", sums[square][2 * half + column], 4 * column));
            }
        });
        self.code.bind(&fresh);
        sums
    }

    /// Writes a warp's results, two at a time where they lie inside and at a boundary of 8 bytes.
    fn store_rounded(&mut self, place: &Place, at: (Value, Value), size: (u32, u32), sums: &[[Value; 4]]) {
        let aligned = self.aligned(place, 8);
        self.each_two(place, at, size, |code, (square, half), address, inside| {
            let two = [sums[square][2 * half], sums[square][2 * half + 1]];
            let together = code.set(Class::Truth, "and.pred", &[aligned, inside[1]]);
            let (single, next) = (code.label(), code.label());
            code.branch_unless(together, &single);
            code.line(format_args!("st.global.v2.f32 [{address}], {}", list(&two)));
            code.branch(&next);
            code.bind(&single);
            for (column, inside) in inside.iter().enumerate() {
                code.line(format_args!("@{inside} st.global.f32 [{address}+{}], {}", 4 * column, two[column]));
            }
            code.bind(&next);
        });
    }

    /// A thread's results in twos of a row: which square and which half of it, the address, and whether each lies inside.
    fn each_two(
        &mut self,
        place: &Place,
        (row, column): (Value, Value),
        (down, right): (u32, u32),
        mut each: impl FnMut(&mut Code, (usize, usize), Value, [Value; 2]),
    ) {
        let [row, column] =
            [(place.first_row, row), (place.first_column, column)].map(|(first, own)| self.code.int("add.s32", &[first, own]));
        let stride = self.params.number("dst_row");
        let first = self.code.address(place.dst, column, 4);
        let columns: Vec<[Value; 2]> = (0..right)
            .map(|at| {
                [0, 1].map(|within| {
                    let at = self.code.int("add.s32", &[column, Value::Int((at * COLUMNS + within) as i32)]);
                    self.code.test("setp.lt.s32", at, place.n)
                })
            })
            .collect();
        for half_row in 0..2 * down {
            let at = self.code.int("add.s32", &[row, Value::Int((8 * half_row) as i32)]);
            let inside_row = self.code.test("setp.lt.s32", at, place.m);
            let address = self.code.element(first, at, stride, 4);
            for (own, columns) in columns.iter().enumerate() {
                let inside = columns.map(|column| self.code.test("and.pred", inside_row, column));
                let far = self.code.set(Class::Wide, "add.s64", &[address, Value::Int(4 * COLUMNS as i32 * own as i32)]);
                each(&mut self.code, ((half_row / 2 * right) as usize + own, half_row as usize % 2), far, inside);
            }
        }
    }

    /// How a thread copies its pairs of a factor, whose neighbours lie along `k` or along the result.
    fn pairs(
        &mut self,
        thread: Value,
        (base, first, limit, room): (Value, Value, Value, Value),
        (deep_first, ty): (bool, Type),
        [along_stride, deep_stride]: [Value; 2],
    ) -> Copied {
        let (square, threads) = (self.way.square, self.way.threads());
        let fast = if deep_first { PAIRS } else { square };
        let inner = self.code.int("and.b32", &[thread, Value::Int(fast as i32 - 1)]);
        let outer = self.code.int("shr.u32", &[thread, Value::Int(fast.trailing_zeros() as i32)]);
        let (own, pair) = if deep_first { (outer, inner) } else { (inner, outer) };
        let (along_step, deep_step) = if deep_first { (threads / fast, 0) } else { (0, threads / fast) };
        let along = self.code.int("add.s32", &[first, own]);
        let deep = self.code.int("shl.b32", &[pair, Value::Int(1)]);
        let bytes = ty.bytes() as i32;
        let from = self.code.element(base, along, along_stride, bytes);
        let from = self.code.element(from, deep, deep_stride, bytes);
        let word = self.code.int("mad.lo.s32", &[own, Value::Int(LINE as i32), pair]);
        let to = self.code.int("mad.lo.s32", &[word, Value::Int(4), room]);
        Copied { from, to, along, deep, along_step, deep_step, count: square * PAIRS / threads, along_stride, deep_stride, limit, ty }
    }

    /// Copies a thread's pairs of one piece of a factor, rounded; zeroes where the factor has ended.
    fn copy_pairs(&mut self, pairs: &Copied, done: Value, k: Value) {
        let bytes = pairs.ty.bytes() as i32;
        let piece = self.code.element(pairs.from, done, pairs.deep_stride, bytes);
        for at in 0..pairs.count {
            let along = self.code.int("add.s32", &[pairs.along, Value::Int((at * pairs.along_step) as i32)]);
            let inside = self.code.test("setp.lt.s32", along, pairs.limit);
            let moved = self.code.element(piece, pairs.along_stride, Value::Int((at * pairs.along_step) as i32), bytes);
            let values = [0, 1].map(|within| {
                let far = Value::Int((2 * at * pairs.deep_step + within) as i32);
                let own = self.code.int("add.s32", &[pairs.deep, far]);
                let deep = self.code.int("add.s32", &[done, own]);
                let deep_inside = self.code.test("setp.lt.s32", deep, k);
                let inside = self.code.test("and.pred", inside, deep_inside);
                let value = self.code.copy(Value::F32(0.0));
                let skip = self.code.label();
                self.code.branch_unless(inside, &skip);
                let address = self.code.element(moved, pairs.deep_stride, far, bytes);
                let mut loaded = load(&mut self.code, pairs.ty, &format!("[{address}]"));
                if pairs.ty == Type::I8 {
                    loaded = self.scaled(loaded, deep);
                }
                self.code.put(value, "mov.f32", &[loaded]);
                self.code.bind(&skip);
                value
            });
            let word = self.code.set(Class::Int, "cvt.rn.bf16x2.f32", &[values[1], values[0]]);
            let shared = 4 * at * (pairs.along_step * LINE + pairs.deep_step);
            self.code.line(format_args!("st.shared.b32 [{}+{shared}], {word}", pairs.to));
        }
    }
}

/// Registers between braces.
fn list(values: &[Value]) -> String {
    format!("{{{}}}", values.iter().map(Value::to_string).collect::<Vec<_>>().join(", "))
}
