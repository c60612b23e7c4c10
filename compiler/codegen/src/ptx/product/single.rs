//! Products in `f32`: a thread multiplies lines of shared memory for a square of its own.

use super::{Copied, DEPTH, Place, Writer};
use crate::ptx::code::{Class, Code, Value};
use crate::ptx::loops::load;
use recc_core::loops::Type;

/// Numbers between the rows of what is shared, so that columns lie in different banks.
const PAD: u32 = 4;

impl Writer {
    /// The function behind its parameters.
    pub(super) fn write_single(&mut self) {
        let place = self.place();
        let thread = self.code.special("%tid.x");
        let across = self.way.square / self.way.own;
        let column = self.code.int("and.b32", &[thread, Value::Int(across as i32 - 1)]);
        let row = self.code.int("shr.u32", &[thread, Value::Int(across.trailing_zeros() as i32)]);
        let [row, column] = [row, column].map(|at| self.code.int("mul.lo.s32", &[at, Value::Int(4)]));
        let sums = self.sums(&place, row, column);
        let line = self.way.square + PAD;
        let [a_shared, b_shared] = ["a_piece", "b_piece"].map(|name| self.code.shared(name, 4 * line * DEPTH));
        let a_numbers = [self.params.number("a_row"), self.params.number("a_column")];
        let b_numbers = [self.params.number("b_column"), self.params.number("b_row")];
        let a = (place.a, place.first_row, place.m, a_shared, !self.way.a_by_row, Type::F32);
        let b = (place.b, place.first_column, place.n, b_shared, self.way.b_by_row, self.b_type());
        let a = self.copied(thread, a, a_numbers);
        let b = self.copied(thread, b, b_numbers);
        let [a_own, b_own] =
            [(a_shared, row), (b_shared, column)].map(|(room, at)| self.code.int("mad.lo.s32", &[at, Value::Int(4), room]));
        let done = self.code.copy(Value::Int(0));
        let ends = self.code.open_loop(done, place.k);
        for copied in [&a, &b] {
            self.copy(copied, done, place.k);
        }
        self.code.line(format_args!("bar.sync 0"));
        for deep in 0..DEPTH {
            let [left, right] = [a_own, b_own].map(|own| self.read_shared(own, 4 * line * deep));
            for (row, left) in left.iter().enumerate() {
                for (column, right) in right.iter().enumerate() {
                    let sum = sums[row * self.way.own as usize + column];
                    self.code.put(sum, "fma.rn.f32", &[*left, *right, sum]);
                }
            }
        }
        self.code.line(format_args!("bar.sync 0"));
        self.code.close_loop(done, DEPTH, ends);
        self.store(&place, row, column, &sums);
        self.code.bind("END");
    }

    /// The sums that a thread begins with: what is there already, where the product is added to it.
    fn sums(&mut self, place: &Place, row: Value, column: Value) -> Vec<Value> {
        let own = self.way.own;
        let sums: Vec<Value> = (0..own * own).map(|_| self.code.copy(Value::F32(0.0))).collect();
        let fresh = self.code.label();
        let none = self.code.test("setp.eq.s32", self.params.number("accumulate"), Value::Int(0));
        self.code.branch_if(none, &fresh);
        self.each_four(place, row, column, |code, at, address, inside| {
            for (column, inside) in inside.iter().enumerate() {
                code.line(format_args!("@{inside} ld.global.f32 {}, [{address}+{}]", sums[at + column], 4 * column));
            }
        });
        self.code.bind(&fresh);
        sums
    }

    /// Writes a thread's results, four at a time where they lie inside and at a boundary of 16 bytes.
    fn store(&mut self, place: &Place, row: Value, column: Value, sums: &[Value]) {
        let aligned = self.aligned(place, 16);
        self.each_four(place, row, column, |code, at, address, inside| {
            let four = &sums[at..at + 4];
            let together = code.set(Class::Truth, "and.pred", &[aligned, inside[3]]);
            let (single, next) = (code.label(), code.label());
            code.branch_unless(together, &single);
            code.line(format_args!("st.global.v4.f32 [{address}], {{{}, {}, {}, {}}}", four[0], four[1], four[2], four[3]));
            code.branch(&next);
            code.bind(&single);
            for (column, inside) in inside.iter().enumerate() {
                code.line(format_args!("@{inside} st.global.f32 [{address}+{}], {}", 4 * column, four[column]));
            }
            code.bind(&next);
        });
    }

    /// How far a thread's fours are from one another, along both sides of the result: neighbouring threads have neighbouring fours.
    fn apart(&self) -> u32 {
        4 * self.way.square / self.way.own
    }

    /// The thread's results in fours of a row: the number of the first, its address, and whether each lies inside.
    fn each_four(&mut self, place: &Place, row: Value, column: Value, mut each: impl FnMut(&mut Code, usize, Value, [Value; 4])) {
        let (own, apart) = (self.way.own, self.apart());
        let [row, column] =
            [(place.first_row, row), (place.first_column, column)].map(|(first, own)| self.code.int("add.s32", &[first, own]));
        let stride = self.params.number("dst_row");
        let first = self.code.address(place.dst, column, 4);
        let columns: Vec<[Value; 4]> = (0..own / 4)
            .map(|four| {
                [0, 1, 2, 3].map(|within| {
                    let at = self.code.int("add.s32", &[column, Value::Int((four * apart + within) as i32)]);
                    self.code.test("setp.lt.s32", at, place.n)
                })
            })
            .collect();
        for own_row in 0..own {
            let at = self.code.int("add.s32", &[row, Value::Int((own_row / 4 * apart + own_row % 4) as i32)]);
            let inside_row = self.code.test("setp.lt.s32", at, place.m);
            let address = self.code.element(first, at, stride, 4);
            for (four, columns) in columns.iter().enumerate() {
                let inside = columns.map(|column| self.code.test("and.pred", inside_row, column));
                let far = self.code.set(Class::Wide, "add.s64", &[address, Value::Int((4 * four as u32 * apart) as i32)]);
                each(&mut self.code, (own_row * own) as usize + 4 * four, far, inside);
            }
        }
    }

    /// How a thread copies its part of a factor, whose neighbours lie along the result or along `k`.
    fn copied(&mut self, thread: Value, factor: (Value, Value, Value, Value, bool, Type), strides: [Value; 2]) -> Copied {
        let (base, first, limit, room, along_first, ty) = factor;
        let (square, threads) = (self.way.square, self.way.threads());
        let fast = if along_first { square } else { DEPTH };
        let inner = self.code.int("and.b32", &[thread, Value::Int(fast as i32 - 1)]);
        let outer = self.code.int("shr.u32", &[thread, Value::Int(fast.trailing_zeros() as i32)]);
        let (along, deep) = if along_first { (inner, outer) } else { (outer, inner) };
        let (along_step, deep_step) = if along_first { (0, threads / fast) } else { (threads / fast, 0) };
        let [along_stride, deep_stride] = strides;
        let whole = self.code.int("add.s32", &[first, along]);
        let bytes = ty.bytes() as i32;
        let from = self.code.element(base, whole, along_stride, bytes);
        let from = self.code.element(from, deep, deep_stride, bytes);
        let place = self.code.int("mad.lo.s32", &[deep, Value::Int((square + PAD) as i32), along]);
        let to = self.code.int("mad.lo.s32", &[place, Value::Int(4), room]);
        let count = square * DEPTH / threads;
        Copied { from, to, along: whole, deep, along_step, deep_step, count, along_stride, deep_stride, limit, ty }
    }

    /// Copies a thread's part of one piece of a factor; zeroes where the factor has ended.
    fn copy(&mut self, copied: &Copied, done: Value, k: Value) {
        let bytes = copied.ty.bytes() as i32;
        let piece = self.code.element(copied.from, done, copied.deep_stride, bytes);
        for at in 0..copied.count {
            let along = self.code.int("add.s32", &[copied.along, Value::Int((at * copied.along_step) as i32)]);
            let own_deep = self.code.int("add.s32", &[copied.deep, Value::Int((at * copied.deep_step) as i32)]);
            let deep = self.code.int("add.s32", &[done, own_deep]);
            let [inside, deep_inside] = [(along, copied.limit), (deep, k)].map(|(at, limit)| self.code.test("setp.lt.s32", at, limit));
            let inside = self.code.test("and.pred", inside, deep_inside);
            let value = self.code.copy(Value::F32(0.0));
            let skip = self.code.label();
            self.code.branch_unless(inside, &skip);
            let (step, stride) =
                if copied.along_step > 0 { (copied.along_step, copied.along_stride) } else { (copied.deep_step, copied.deep_stride) };
            let address = self.code.element(piece, stride, Value::Int((at * step) as i32), bytes);
            let mut loaded = load(&mut self.code, copied.ty, &format!("[{address}]"));
            if copied.ty == Type::I8 {
                loaded = self.scaled(loaded, deep);
            }
            self.code.put(value, "mov.f32", &[loaded]);
            self.code.bind(&skip);
            let shared = 4 * at * (copied.along_step + copied.deep_step * (self.way.square + PAD));
            self.code.line(format_args!("st.shared.f32 [{}+{shared}], {value}", copied.to));
        }
    }

    /// A thread's part of one line of a piece.
    fn read_shared(&mut self, base: Value, offset: u32) -> Vec<Value> {
        let mut all = Vec::new();
        for four in 0..self.way.own / 4 {
            let apart = self.apart();
            all.extend(self.code.four(base, offset + 4 * four * apart));
        }
        all
    }
}
