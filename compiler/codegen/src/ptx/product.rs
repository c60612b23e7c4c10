//! Matrix products: one function of a module for each way in which factors lie, given sizes and strides with each call.
//!
//! A block computes a square of the result. Pieces of both factors, [`DEPTH`] deep, are copied to memory that the block shares, from where each thread
//! multiplies a square of its own in registers. Every element is summed in the order of `k` by fused multiply-adds, as on a processor, so that a product has the
//! same bits on both.

use super::code::{Class, Code, Value};
use super::loops::{Sums, load};
use recc_abi::{BufferId, Count, DeviceFunction, Grid, InputSource, Plan, Times};
use recc_core::loops::{Kernel, MatMul, Matrix, Size, Type};

/// How much of `k` is copied at a time.
const DEPTH: u32 = 16;
/// Numbers between the rows of what is shared, so that columns lie in different banks.
const PAD: u32 = 4;

/// A way in which products are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Way {
    /// Rows and columns of a block's square.
    square: u32,
    /// Rows and columns of a thread's square.
    own: u32,
    /// Whether elements of a row of `a` are neighbours, else those of a column.
    a_by_row: bool,
    /// The same of `b`.
    b_by_row: bool,
    /// What `b` holds.
    b: Stored,
}

/// What memory holds of a factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stored {
    Single,
    Half,
    /// Integers, times a scale for each row.
    Byte,
}

/// The numbers of a call, in the order of the function's parameters.
const NUMBERS: [&str; 33] = [
    "m_fixed",
    "m_items",
    "m_entries",
    "n_fixed",
    "n_items",
    "n_entries",
    "k_fixed",
    "k_items",
    "k_entries",
    "dst_row",
    "a_row",
    "a_column",
    "b_row",
    "b_column",
    "dst_entry",
    "a_entry",
    "b_entry",
    "dst_item",
    "a_item",
    "b_item",
    "dst_head",
    "a_head",
    "b_head",
    "dst_offset",
    "a_offset",
    "b_offset",
    "dst_start",
    "a_start",
    "b_start",
    "begins_start",
    "dst_lane",
    "heads",
    "accumulate",
];

/// The times of a call as a parameter.
fn times_number(times: Times) -> i32 {
    match times {
        Times::Once => 0,
        Times::Lanes => 1,
        Times::Items { .. } => 2,
    }
}

/// A product as a call of the function for its way.
pub(super) fn call(kernel: &Kernel, product: &MatMul, plan: &Plan, sums: &Sums) -> (Way, DeviceFunction) {
    let arg = |matrix: &Matrix| &kernel.buffers[matrix.buffer];
    let id = |buffer: usize| kernel.buffers[buffer].id;
    let (dst, a, b) = (&product.dst, &product.a, &product.b);
    let lane_sums = sums.get(&id(dst.buffer));
    let heads = product.heads.map_or(1, |(heads, _)| heads as u32);
    let times = match (product.each, lane_sums) {
        (Some(_), _) => Times::Items { heads },
        (None, Some(_)) => Times::Lanes,
        (None, None) => Times::Once,
    };
    let size = |size: Size| match size {
        Size::Fixed(n) => [n, 0, 0],
        Size::Items(factor) => [0, factor, 0],
        Size::Entries(factor) => [0, 0, factor],
    };
    // Items of a lane lie as items of the buffer do.
    let item = |matrix: &Matrix, each: Option<i64>| match (each, times) {
        (Some(stride), _) => stride,
        (None, Times::Lanes) if matrix.entry == 0 => arg(matrix).item_stride,
        (None, _) => 0,
    };
    let start = |buffer: usize| if kernel.buffers[buffer].moves { kernel.buffers[buffer].item_stride } else { 0 };
    let each = product.each;
    let dst_item = if lane_sums.is_some() { 0 } else { item(dst, each.map(|own| own.dst)) };
    let head = product.heads.map(|(_, strides)| strides);
    let numbers: Vec<i64> = [size(product.m), size(product.n), size(product.k)]
        .concat()
        .into_iter()
        .chain([dst.row, a.row, a.column, b.row, b.column])
        .chain([dst.entry, a.entry, b.entry])
        .chain([dst_item, item(a, each.map(|own| own.a)), item(b, each.map(|own| own.b))])
        .chain(head.map_or([0; 3], |own| [own.dst, own.a, own.b]))
        .chain([dst.offset, a.offset, b.offset])
        .chain([start(dst.buffer), start(a.buffer), start(b.buffer), product.entries.map_or(0, start)])
        .chain([lane_sums.map_or(0, |len| *len as i64), i64::from(heads), i64::from(product.accumulate), i64::from(times_number(times))])
        .collect();
    let count = |size: Size| match size {
        Size::Fixed(n) => Count::Fixed(n as u32),
        Size::Items(factor) => Count::Items(factor as u32),
        Size::Entries(factor) => Count::Entries { column: column(plan, product.entries.map(id)), factor: factor as u32 },
    };
    let small = |size: Size| matches!(size, Size::Fixed(n) if n <= 48);
    let (square, own) = match (product.m, product.n) {
        (m, n) if small(m) || small(n) => (32, 4),
        (Size::Fixed(m), _) if m < 128 => (64, 4),
        (_, Size::Fixed(n)) if n < 128 => (64, 4),
        _ if each.is_some() => (64, 4),
        _ => (128, 8),
    };
    let stored = match arg(b).ty {
        Type::F16 => Stored::Half,
        Type::I8 => Stored::Byte,
        Type::F32 | Type::F64 | Type::I32 | Type::Bool => Stored::Single,
    };
    let way = Way { square, own, a_by_row: a.column == 1, b_by_row: b.column == 1, b: stored };
    let grid = Grid::Product { rows: count(product.m), columns: count(product.n), square, threads: way.threads(), times };
    // Those that there are not have the result's address, which is not read as theirs.
    let buffers = [Some(dst.buffer), Some(a.buffer), Some(b.buffer), product.scales, product.entries];
    let buffers = buffers.into_iter().map(|buffer| id(buffer.unwrap_or(dst.buffer))).collect();
    let numbers = numbers.into_iter().chain([i64::from(product.entries.is_some())]);
    let narrow = |number: i64| i32::try_from(number).unwrap_or_else(|_| unreachable!("a stride of {number} elements"));
    (way, DeviceFunction { name: way.name(), buffers, numbers: numbers.map(narrow).collect(), grid })
}

/// The column whose entries' begins a buffer holds.
fn column(plan: &Plan, begins: Option<BufferId>) -> u32 {
    let own = plan.inputs.iter().find(|input| Some(input.buffer) == begins);
    match own.map(|input| &input.source) {
        Some(InputSource::EntryBegin { column }) => *column,
        other => unreachable!("entries that begin by {other:?}"),
    }
}

/// All functions for products, by name.
pub(super) fn functions() -> impl Iterator<Item = (String, String)> {
    let squares = [(32, 4), (64, 4), (128, 8)].into_iter();
    let orders = squares.flat_map(|size| [(size, true, true), (size, true, false), (size, false, true), (size, false, false)]);
    let all = orders.flat_map(|order| [Stored::Single, Stored::Half, Stored::Byte].map(|b| (order, b)));
    all.map(|(((square, own), a_by_row, b_by_row), b)| {
        let way = Way { square, own, a_by_row, b_by_row, b };
        (way.name(), way.function())
    })
}

impl Way {
    fn threads(self) -> u32 {
        (self.square / self.own) * (self.square / self.own)
    }

    fn name(self) -> String {
        let order = |by_row: bool| if by_row { "rows" } else { "columns" };
        let stored = match self.b {
            Stored::Single => "",
            Stored::Half => "_f16",
            Stored::Byte => "_i8",
        };
        format!("recc_product_{}_{}_{}{stored}", self.square, order(self.a_by_row), order(self.b_by_row))
    }

    /// The text of the function.
    pub(super) fn function(self) -> String {
        let mut code = Code::default();
        let params = Params::of(&mut code);
        let mut writer = Writer { way: self, code, params };
        writer.write();
        writer.code.finish(&self.name(), self.threads())
    }
}

/// A function's parameters.
struct Params {
    buffers: [Value; 5],
    start: Value,
    rows: Value,
    lane_items: Value,
    numbers: Vec<Value>,
}

impl Params {
    fn of(code: &mut Code) -> Params {
        let buffers = ["dst", "a", "b", "scales", "begins"].map(|name| code.param(name, "u64"));
        let [start, rows, lane_items] = ["start", "rows", "lane_items"].map(|name| code.param(name, "u32"));
        let numbers = NUMBERS.iter().chain(&["times", "has_entries"]).map(|name| code.param(name, "s32")).collect();
        Params { buffers, start, rows, lane_items, numbers }
    }

    fn number(&self, name: &str) -> Value {
        let at = NUMBERS.iter().chain(&["times", "has_entries"]).position(|own| *own == name);
        self.numbers[at.unwrap_or_else(|| unreachable!("a parameter `{name}`"))]
    }
}

/// Which product a block works on, and where in its result.
struct Place {
    m: Value,
    n: Value,
    k: Value,
    dst: Value,
    a: Value,
    b: Value,
    first_row: Value,
    first_column: Value,
}

/// One factor on its way to the memory that a block shares.
struct Copied {
    /// Where this thread's first element lies, in the factor and in shared memory.
    from: Value,
    to: Value,
    /// Its place along the result, and along `k`.
    along: Value,
    deep: Value,
    /// How far its elements are from one another along the result or along `k`.
    along_step: u32,
    deep_step: u32,
    count: u32,
    /// Elements between neighbours along the result and along `k`.
    along_stride: Value,
    deep_stride: Value,
    limit: Value,
    ty: Type,
    scales: Option<Value>,
}

struct Writer {
    way: Way,
    code: Code,
    params: Params,
}

impl Writer {
    fn int(&mut self, name: &str, operands: &[Value]) -> Value {
        self.code.set(Class::Int, name, operands)
    }

    fn test(&mut self, name: &str, a: Value, b: Value) -> Value {
        self.code.set(Class::Truth, name, &[a, b])
    }

    fn write(&mut self) {
        let place = self.place();
        let thread = self.code.special("%tid.x");
        let across = self.way.square / self.way.own;
        let column = self.int("and.b32", &[thread, Value::Int(across as i32 - 1)]);
        let row = self.int("shr.u32", &[thread, Value::Int(across.trailing_zeros() as i32)]);
        let [row, column] = [row, column].map(|at| self.int("mul.lo.s32", &[at, Value::Int(4)]));
        let sums = self.sums(&place, row, column);
        let line = self.way.square + PAD;
        let [a_shared, b_shared] = ["a_piece", "b_piece"].map(|name| self.code.shared(name, 4 * line * DEPTH));
        let a_numbers = [self.params.number("a_row"), self.params.number("a_column")];
        let b_numbers = [self.params.number("b_column"), self.params.number("b_row")];
        let a = (place.a, place.first_row, place.m, a_shared, !self.way.a_by_row, Type::F32);
        let b_type = match self.way.b {
            Stored::Single => Type::F32,
            Stored::Half => Type::F16,
            Stored::Byte => Type::I8,
        };
        let b = (place.b, place.first_column, place.n, b_shared, self.way.b_by_row, b_type);
        let a = self.copied(thread, a, a_numbers);
        let b = self.copied(thread, b, b_numbers);
        let [a_own, b_own] = [(a_shared, row), (b_shared, column)].map(|(room, at)| self.int("mad.lo.s32", &[at, Value::Int(4), room]));
        let done = self.code.copy(Value::Int(0));
        let (head, end) = (self.code.label(), self.code.label());
        self.code.place(&head);
        let over = self.test("setp.ge.s32", done, place.k);
        self.code.branch_if(over, &end);
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
        self.code.put(done, "add.s32", &[done, Value::Int(DEPTH as i32)]);
        self.code.branch(&head);
        self.code.place(&end);
        self.store(&place, row, column, &sums);
        self.code.place("END");
    }

    /// Which product, which square of it; ends the block where there is none.
    fn place(&mut self) -> Place {
        let times = self.params.number("times");
        let [x, y, z] = ["%ctaid.x", "%ctaid.y", "%ctaid.z"].map(|name| self.code.special(name));
        let [by_lane, by_item] = [1, 2].map(|kind| self.test("setp.eq.s32", times, Value::Int(kind)));
        // The items of the product: all, those of a lane, or one.
        let heads = self.params.number("heads");
        let [own_item, own_head] = ["div.u32", "rem.u32"].map(|name| self.int(name, &[x, heads]));
        let lane_begin = self.int("mul.lo.s32", &[z, self.params.lane_items]);
        let pick = |own: &mut Self, lane: Value, item: Value, once: Value| {
            let other = own.int("selp.b32", &[item, once, by_item]);
            own.int("selp.b32", &[lane, other, by_lane])
        };
        let first = pick(self, lane_begin, own_item, Value::Int(0));
        let left = self.int("sub.s32", &[self.params.rows, first]);
        let lane_count = self.int("min.s32", &[left, self.params.lane_items]);
        let rows = self.params.rows;
        let count = pick(self, lane_count, Value::Int(1), rows);
        let nothing = self.test("setp.le.s32", count, Value::Int(0));
        self.code.branch_if(nothing, "END");
        let head = pick(self, Value::Int(0), own_head, Value::Int(0));
        let lane = pick(self, z, Value::Int(0), Value::Int(0));
        let down = self.int("selp.b32", &[z, x, by_item]);
        let (begin, entries) = self.entries(first, count);
        let [m, n, k] = ["m", "n", "k"].map(|size| {
            let [fixed, items, by_entries] = ["fixed", "items", "entries"].map(|of| self.params.number(&format!("{size}_{of}")));
            let sum = self.int("mad.lo.s32", &[items, count, fixed]);
            self.int("mad.lo.s32", &[by_entries, entries, sum])
        });
        let square = Value::Int(self.way.square as i32);
        let [first_row, first_column] = [down, y].map(|at| self.int("mul.lo.s32", &[at, square]));
        for (at, limit) in [(first_row, m), (first_column, n)] {
            let outside = self.test("setp.ge.s32", at, limit);
            self.code.branch_if(outside, "END");
        }
        let [dst, a, b] = [("dst", 0), ("a", 1), ("b", 2)].map(|(matrix, buffer)| {
            let b_bytes = [4, 2, 1][self.way.b as usize];
            let bytes = if buffer == 2 { b_bytes } else { 4 };
            let mut address = self.params.buffers[buffer];
            let parts = [("offset", Value::Int(1)), ("start", self.params.start), ("item", first), ("entry", begin), ("head", head)];
            for (what, times) in parts.into_iter().chain((buffer == 0).then_some(("lane", lane))) {
                let stride = self.params.number(&format!("{matrix}_{what}"));
                address = self.element(address, stride, times, bytes);
            }
            address
        });
        Place { m, n, k, dst, a, b, first_row, first_column }
    }

    /// `base + index * stride` elements.
    fn element(&mut self, base: Value, index: Value, stride: Value, bytes: i32) -> Value {
        let elements = self.code.set(Class::Wide, "mul.wide.s32", &[index, stride]);
        let out = self.code.fresh(Class::Wide);
        self.code.line(format_args!("mad.lo.s64 {out}, {elements}, {bytes}, {base}"));
        out
    }

    /// The first entry of some items, and how many they have.
    fn entries(&mut self, first: Value, count: Value) -> (Value, Value) {
        let [begin, entries] = [(); 2].map(|()| self.code.copy(Value::Int(0)));
        let skip = self.code.label();
        let none = self.test("setp.eq.s32", self.params.number("has_entries"), Value::Int(0));
        self.code.branch_if(none, &skip);
        let base = self.element(self.params.buffers[4], self.params.number("begins_start"), self.params.start, 4);
        let base = self.code.address(base, first, 4);
        let last = self.code.address(base, count, 4);
        self.code.line(format_args!("ld.global.b32 {begin}, [{base}]"));
        self.code.line(format_args!("ld.global.b32 {entries}, [{last}]"));
        self.code.put(entries, "sub.s32", &[entries, begin]);
        self.code.place(&skip);
        (begin, entries)
    }

    /// The sums that a thread begins with: what is there already, where the product is added to it.
    fn sums(&mut self, place: &Place, row: Value, column: Value) -> Vec<Value> {
        let own = self.way.own;
        let sums: Vec<Value> = (0..own * own).map(|_| self.code.copy(Value::F32(0.0))).collect();
        let fresh = self.code.label();
        let none = self.test("setp.eq.s32", self.params.number("accumulate"), Value::Int(0));
        self.code.branch_if(none, &fresh);
        self.each_four(place, row, column, |code, at, address, inside| {
            for (column, inside) in inside.iter().enumerate() {
                code.line(format_args!("@{inside} ld.global.f32 {}, [{address}+{}]", sums[at + column], 4 * column));
            }
        });
        self.code.place(&fresh);
        sums
    }

    /// Writes a thread's results, four at a time where they lie inside and at a boundary of 16 bytes.
    fn store(&mut self, place: &Place, row: Value, column: Value, sums: &[Value]) {
        let stride = self.params.number("dst_row");
        let low = self.code.set(Class::Int, "cvt.u32.u64", &[place.dst]);
        let row_bytes = self.int("shl.b32", &[stride, Value::Int(2)]);
        let either = self.int("or.b32", &[low, row_bytes]);
        let rest = self.int("and.b32", &[either, Value::Int(15)]);
        let aligned = self.test("setp.eq.s32", rest, Value::Int(0));
        self.each_four(place, row, column, |code, at, address, inside| {
            let four = &sums[at..at + 4];
            let together = code.set(Class::Truth, "and.pred", &[aligned, inside[3]]);
            let (single, next) = (code.label(), code.label());
            code.branch_unless(together, &single);
            code.line(format_args!("st.global.v4.f32 [{address}], {{{}, {}, {}, {}}}", four[0], four[1], four[2], four[3]));
            code.branch(&next);
            code.place(&single);
            for (column, inside) in inside.iter().enumerate() {
                code.line(format_args!("@{inside} st.global.f32 [{address}+{}], {}", 4 * column, four[column]));
            }
            code.place(&next);
        });
    }

    /// How far a thread's fours are from one another, along both sides of the result: neighbouring threads have neighbouring fours.
    fn apart(&self) -> u32 {
        4 * self.way.square / self.way.own
    }

    /// The thread's results in fours of a row: the number of the first, its address, and whether each lies inside.
    fn each_four(&mut self, place: &Place, row: Value, column: Value, mut each: impl FnMut(&mut Code, usize, Value, [Value; 4])) {
        let (own, apart) = (self.way.own, self.apart());
        let [row, column] = [(place.first_row, row), (place.first_column, column)].map(|(first, own)| self.int("add.s32", &[first, own]));
        let stride = self.params.number("dst_row");
        let first = self.code.address(place.dst, column, 4);
        let columns: Vec<[Value; 4]> = (0..own / 4)
            .map(|four| {
                [0, 1, 2, 3].map(|within| {
                    let at = self.int("add.s32", &[column, Value::Int((four * apart + within) as i32)]);
                    self.test("setp.lt.s32", at, place.n)
                })
            })
            .collect();
        for own_row in 0..own {
            let at = self.int("add.s32", &[row, Value::Int((own_row / 4 * apart + own_row % 4) as i32)]);
            let inside_row = self.test("setp.lt.s32", at, place.m);
            let address = self.element(first, at, stride, 4);
            for (four, columns) in columns.iter().enumerate() {
                let inside = columns.map(|column| self.test("and.pred", inside_row, column));
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
        let inner = self.int("and.b32", &[thread, Value::Int(fast as i32 - 1)]);
        let outer = self.int("shr.u32", &[thread, Value::Int(fast.trailing_zeros() as i32)]);
        let (along, deep) = if along_first { (inner, outer) } else { (outer, inner) };
        let (along_step, deep_step) = if along_first { (0, threads / fast) } else { (threads / fast, 0) };
        let [along_stride, deep_stride] = strides;
        let whole = self.int("add.s32", &[first, along]);
        let bytes = ty.bytes() as i32;
        let from = self.element(base, whole, along_stride, bytes);
        let from = self.element(from, deep, deep_stride, bytes);
        let place = self.int("mad.lo.s32", &[deep, Value::Int((square + PAD) as i32), along]);
        let to = self.int("mad.lo.s32", &[place, Value::Int(4), room]);
        let count = square * DEPTH / threads;
        let scales = (ty == Type::I8).then_some(self.params.buffers[3]);
        Copied { from, to, along: whole, deep, along_step, deep_step, count, along_stride, deep_stride, limit, ty, scales }
    }

    /// Copies a thread's part of one piece of a factor; zeroes where the factor has ended.
    fn copy(&mut self, copied: &Copied, done: Value, k: Value) {
        let bytes = copied.ty.bytes() as i32;
        let piece = self.element(copied.from, done, copied.deep_stride, bytes);
        for at in 0..copied.count {
            let along = self.int("add.s32", &[copied.along, Value::Int((at * copied.along_step) as i32)]);
            let own_deep = self.int("add.s32", &[copied.deep, Value::Int((at * copied.deep_step) as i32)]);
            let deep = self.int("add.s32", &[done, own_deep]);
            let [inside, deep_inside] = [(along, copied.limit), (deep, k)].map(|(at, limit)| self.test("setp.lt.s32", at, limit));
            let inside = self.test("and.pred", inside, deep_inside);
            let value = self.code.copy(Value::F32(0.0));
            let skip = self.code.label();
            self.code.branch_unless(inside, &skip);
            let (step, stride) =
                if copied.along_step > 0 { (copied.along_step, copied.along_stride) } else { (copied.deep_step, copied.deep_stride) };
            let address = self.element(piece, stride, Value::Int((at * step) as i32), bytes);
            let mut loaded = load(&mut self.code, copied.ty, &format!("[{address}]"));
            if let Some(scales) = copied.scales {
                let place = self.code.address(scales, deep, 4);
                let scale = load(&mut self.code, Type::F32, &format!("[{place}]"));
                loaded = self.code.set(Class::F32, "mul.rn.f32", &[loaded, scale]);
            }
            self.code.put(value, "mov.f32", &[loaded]);
            self.code.place(&skip);
            let shared = 4 * at * (copied.along_step + copied.deep_step * (self.way.square + PAD));
            self.code.line(format_args!("st.shared.f32 [{}+{shared}], {value}", copied.to));
        }
    }

    /// A thread's part of one line of a piece.
    fn read_shared(&mut self, base: Value, offset: u32) -> Vec<Value> {
        let mut all = Vec::new();
        for four in 0..self.way.own / 4 {
            let values = [(); 4].map(|()| self.code.fresh(Class::F32));
            let [a, b, c, d] = values;
            self.code.line(format_args!("ld.shared.v4.f32 {{{a}, {b}, {c}, {d}}}, [{base}+{}]", offset + 4 * four * self.apart()));
            all.extend(values);
        }
        all
    }
}
