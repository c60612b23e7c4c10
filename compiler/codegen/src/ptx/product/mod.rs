//! Matrix products: one function of a module for each way in which factors lie, given sizes and strides with each call.
//!
//! A block computes a square of the result. Pieces of both factors, [`DEPTH`] deep, are copied to memory that the block shares, from where they are multiplied
//! in registers: by each thread for a square of its own ([`single`]), or by the tensor cores, for each warp, where factors are rounded to bfloat16 ([`rounded`]).
//! In `f32` every element is summed in the order of `k` by fused multiply-adds, as on a processor, so that a product has the same bits on both.

mod rounded;
mod single;

use super::code::{Class, Code, Value};
use super::loops::{Sums, load};
use recc_abi::{BufferId, Count, DeviceFunction, Grid, InputSource, Plan, Times};
use recc_core::loops::{Kernel, MatMul, Matrix, Size, Type};

/// How much of `k` is copied at a time.
const DEPTH: u32 = 16;
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
    /// Whether factors are rounded to bfloat16.
    rounded: bool,
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
        (m, n) if (small(m) || small(n)) && !product.bf16 => (32, 4),
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
    let way = Way { square, own, a_by_row: a.column == 1, b_by_row: b.column == 1, b: stored, rounded: product.bf16 };
    let grid = Grid::Product { rows: count(product.m), columns: count(product.n), square, threads: way.threads(), times };
    // Those that there are not have the result's address, which is not read as theirs.
    let buffers = [Some(dst.buffer), Some(a.buffer), Some(b.buffer), product.scales, product.entries];
    let buffers = buffers.into_iter().map(|buffer| id(buffer.unwrap_or(dst.buffer))).collect();
    let numbers = numbers.into_iter().chain([i64::from(product.entries.is_some())]);
    let narrow = |number: i64| i32::try_from(number).unwrap_or_else(|_| unreachable!("a stride of {number} elements"));
    (way, DeviceFunction { name: way.name(), buffers, numbers: numbers.map(narrow).collect(), grid })
}

/// The column whose entries' begins a buffer holds.
pub(super) fn column(plan: &Plan, begins: Option<BufferId>) -> u32 {
    let own = plan.inputs.iter().find(|input| Some(input.buffer) == begins);
    match own.map(|input| &input.source) {
        Some(InputSource::EntryBegin { column }) => *column,
        other => unreachable!("entries that begin by {other:?}"),
    }
}

/// All functions for products, by name.
pub(super) fn functions() -> impl Iterator<Item = (String, String)> {
    let squares = [(32, 4, false), (64, 4, false), (128, 8, false), (64, 4, true), (128, 8, true)].into_iter();
    let orders = squares.flat_map(|size| [(size, true, true), (size, true, false), (size, false, true), (size, false, false)]);
    let all = orders.flat_map(|order| [Stored::Single, Stored::Half, Stored::Byte].map(|b| (order, b)));
    all.map(|(((square, own, rounded), a_by_row, b_by_row), b)| {
        let way = Way { square, own, a_by_row, b_by_row, b, rounded };
        (way.name(), way.function())
    })
}

impl Way {
    fn threads(self) -> u32 {
        // As many for the tensor cores: a warp for 64 by 32 of 128 by 128, and for 32 by 32 of 64 by 64.
        (self.square / self.own) * (self.square / self.own) / if self.rounded && self.square == 64 { 2 } else { 1 }
    }

    fn name(self) -> String {
        let order = |by_row: bool| if by_row { "rows" } else { "columns" };
        let stored = match self.b {
            Stored::Single => "",
            Stored::Half => "_f16",
            Stored::Byte => "_i8",
        };
        let rounded = if self.rounded { "bf16_" } else { "" };
        format!("recc_product_{rounded}{}_{}_{}{stored}", self.square, order(self.a_by_row), order(self.b_by_row))
    }

    /// The text of the function.
    pub(super) fn function(self) -> String {
        let mut code = Code::default();
        let params = Params::of(&mut code);
        let mut writer = Writer { way: self, code, params };
        if self.rounded {
            writer.write_rounded()
        } else {
            writer.write_single()
        }
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

    /// What `b` holds.
    fn b_type(&self) -> Type {
        match self.way.b {
            Stored::Single => Type::F32,
            Stored::Half => Type::F16,
            Stored::Byte => Type::I8,
        }
    }

    /// An integer of `b` times its row's scale.
    fn scaled(&mut self, value: Value, row: Value) -> Value {
        let place = self.code.address(self.params.buffers[3], row, 4);
        let scale = load(&mut self.code, Type::F32, &format!("[{place}]"));
        self.code.set(Class::F32, "mul.rn.f32", &[value, scale])
    }

    /// Whether the rows of the result begin at multiples of so many bytes.
    fn aligned(&mut self, place: &Place, bytes: i32) -> Value {
        let low = self.code.set(Class::Int, "cvt.u32.u64", &[place.dst]);
        let row_bytes = self.int("shl.b32", &[self.params.number("dst_row"), Value::Int(2)]);
        let either = self.int("or.b32", &[low, row_bytes]);
        let rest = self.int("and.b32", &[either, Value::Int(bytes - 1)]);
        self.test("setp.eq.s32", rest, Value::Int(0))
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
}
