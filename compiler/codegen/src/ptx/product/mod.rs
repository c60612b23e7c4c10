//! Matrix products: one function of a module for each way in which factors lie, given sizes and strides with each call.
//!
//! A block computes a square of the result. Pieces of both factors, [`DEPTH`] deep, are copied to memory that the block shares, from where they are multiplied
//! in registers: by each thread for a square of its own ([`single`]), or by the tensor cores, for each warp, where factors are rounded to bfloat16 ([`rounded`]).
//! In `f32` every element is summed in the order of `k` by fused multiply-adds.

mod rounded;
mod single;

use super::code::{Class, Code, Value};
use super::loops::{Sums, load};
use recc_abi::{BufferId, Count, DeviceFunction, Grid, InputSource, Plan, Times};
use recc_core::loops::{ItemStrides, Kernel, MatMul, Matrix, Size, Type};

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
const NUMBERS: [&str; 35] = [
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
    "times",
    "has_entries",
];

/// The numbers of a product, by their names.
fn numbers(kernel: &Kernel, product: &MatMul, times: Times, lane_sums: Option<u64>) -> Vec<i32> {
    let MatMul { dst, a, b, m, n, k, .. } = product;
    let parts = |size: &Size| match *size {
        Size::Fixed(n) => [n, 0, 0],
        Size::Items(factor) => [0, factor, 0],
        Size::Entries(factor) => [0, 0, factor],
    };
    let buffer = |buffer: usize| &kernel.buffers[buffer];
    let start = |own: usize| if buffer(own).moves { buffer(own).item_stride } else { 0 };
    let none = ItemStrides { dst: 0, a: 0, b: 0 };
    // Items of a lane lie as items of the buffer do, but for those that are found by their entries, and for the lane's sums.
    let of_lane = |matrix: &Matrix| if matrix.entry == 0 { buffer(matrix.buffer).item_stride } else { 0 };
    let lanes = ItemStrides { dst: 0, a: of_lane(a), b: of_lane(b) };
    let items = product.each.unwrap_or(if times == Times::Lanes { lanes } else { none });
    let (heads, head) = product.heads.unwrap_or((1, none));
    let value = |name: &str| match name {
        "m_fixed" => parts(m)[0],
        "m_items" => parts(m)[1],
        "m_entries" => parts(m)[2],
        "n_fixed" => parts(n)[0],
        "n_items" => parts(n)[1],
        "n_entries" => parts(n)[2],
        "k_fixed" => parts(k)[0],
        "k_items" => parts(k)[1],
        "k_entries" => parts(k)[2],
        "dst_row" => dst.row,
        "a_row" => a.row,
        "a_column" => a.column,
        "b_row" => b.row,
        "b_column" => b.column,
        "dst_entry" => dst.entry,
        "a_entry" => a.entry,
        "b_entry" => b.entry,
        "dst_item" => items.dst,
        "a_item" => items.a,
        "b_item" => items.b,
        "dst_head" => head.dst,
        "a_head" => head.a,
        "b_head" => head.b,
        "dst_offset" => dst.offset,
        "a_offset" => a.offset,
        "b_offset" => b.offset,
        "dst_start" => start(dst.buffer),
        "a_start" => start(a.buffer),
        "b_start" => start(b.buffer),
        "begins_start" => product.entries.map_or(0, start),
        "dst_lane" => lane_sums.unwrap_or(0) as i64,
        "heads" => heads,
        "accumulate" => i64::from(product.accumulate),
        "times" => match times {
            Times::Once => 0,
            Times::Lanes => 1,
            Times::Items { .. } => 2,
        },
        "has_entries" => i64::from(product.entries.is_some()),
        other => unreachable!("a number `{other}`"),
    };
    let narrow = |number: i64| i32::try_from(number).unwrap_or_else(|_| unreachable!("a stride of {number} elements"));
    NUMBERS.iter().map(|name| narrow(value(name))).collect()
}

/// A product as a call of the function for its way.
pub(super) fn call(kernel: &Kernel, product: &MatMul, plan: &Plan, sums: &Sums) -> (Way, DeviceFunction) {
    let id = |buffer: usize| kernel.buffers[buffer].id;
    let MatMul { dst, a, b, .. } = product;
    let lane_sums = sums.get(&id(dst.buffer)).copied();
    let times = match (product.each, lane_sums) {
        (Some(_), _) => Times::Items { heads: product.heads.map_or(1, |(heads, _)| heads as u32) },
        (None, Some(_)) => Times::Lanes,
        (None, None) => Times::Once,
    };
    let way = Way::of(product, kernel.buffers[b.buffer].ty);
    let count = |size: Size| match size {
        Size::Fixed(n) => Count::Fixed(n as u32),
        Size::Items(factor) => Count::Items(factor as u32),
        Size::Entries(factor) => Count::Entries { column: column(plan, product.entries.map(id)), factor: factor as u32 },
    };
    let grid = Grid::Product { rows: count(product.m), columns: count(product.n), square: way.square, threads: way.threads(), times };
    // Those that there are not have the result's address, which is not read as theirs.
    let buffers = [Some(dst.buffer), Some(a.buffer), Some(b.buffer), product.scales, product.entries];
    let buffers = buffers.into_iter().map(|buffer| id(buffer.unwrap_or(dst.buffer))).collect();
    (way, DeviceFunction { name: way.name(), buffers, numbers: numbers(kernel, product, times, lane_sums), grid })
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
    /// How a product is computed, by its sizes and by how its factors lie: squares that a small result would not fill are smaller.
    fn of(product: &MatMul, b: Type) -> Way {
        let below = |size: Size, most: i64| matches!(size, Size::Fixed(n) if n < most);
        let (m, n) = (product.m, product.n);
        let (square, own) = match () {
            () if (below(m, 49) || below(n, 49)) && !product.bf16 => (32, 4),
            () if below(m, 128) || below(n, 128) || product.each.is_some() => (64, 4),
            () => (128, 8),
        };
        let b_stored = match b {
            Type::F16 => Stored::Half,
            Type::I8 => Stored::Byte,
            Type::F32 | Type::F64 | Type::I32 | Type::Bool => Stored::Single,
        };
        let (a_by_row, b_by_row) = (product.a.column == 1, product.b.column == 1);
        Way { square, own, a_by_row, b_by_row, b: b_stored, rounded: product.bf16 }
    }

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
        let numbers = NUMBERS.iter().map(|name| code.param(name, "s32")).collect();
        Params { buffers, start, rows, lane_items, numbers }
    }

    fn number(&self, name: &str) -> Value {
        let at = NUMBERS.iter().position(|own| *own == name);
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
    /// Where this thread's first element, or pair of neighbours along `k`, lies in the factor and in shared memory.
    from: Value,
    to: Value,
    /// Its place along the result, and along `k`.
    along: Value,
    deep: Value,
    /// How far its elements, or pairs, are from one another along the result or along `k`.
    along_step: u32,
    deep_step: u32,
    count: u32,
    /// Elements between neighbours along the result and along `k`.
    along_stride: Value,
    deep_stride: Value,
    limit: Value,
    ty: Type,
}

struct Writer {
    way: Way,
    code: Code,
    params: Params,
}

impl Writer {
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
        let row_bytes = self.code.int("shl.b32", &[self.params.number("dst_row"), Value::Int(2)]);
        let either = self.code.int("or.b32", &[low, row_bytes]);
        let rest = self.code.int("and.b32", &[either, Value::Int(bytes - 1)]);
        self.code.test("setp.eq.s32", rest, Value::Int(0))
    }

    /// Which product, which square of it; ends the block where there is none.
    fn place(&mut self) -> Place {
        let times = self.params.number("times");
        let [x, y, z] = ["%ctaid.x", "%ctaid.y", "%ctaid.z"].map(|name| self.code.special(name));
        let [by_lane, by_item] = [1, 2].map(|kind| self.code.test("setp.eq.s32", times, Value::Int(kind)));
        // The items of the product: all, those of a lane, or one.
        let heads = self.params.number("heads");
        let [own_item, own_head] = ["div.u32", "rem.u32"].map(|name| self.code.int(name, &[x, heads]));
        let lane_begin = self.code.int("mul.lo.s32", &[z, self.params.lane_items]);
        let pick = |own: &mut Self, lane: Value, item: Value, once: Value| {
            let other = own.code.int("selp.b32", &[item, once, by_item]);
            own.code.int("selp.b32", &[lane, other, by_lane])
        };
        let first = pick(self, lane_begin, own_item, Value::Int(0));
        let left = self.code.int("sub.s32", &[self.params.rows, first]);
        let lane_count = self.code.int("min.s32", &[left, self.params.lane_items]);
        let rows = self.params.rows;
        let count = pick(self, lane_count, Value::Int(1), rows);
        let nothing = self.code.test("setp.le.s32", count, Value::Int(0));
        self.code.branch_if(nothing, "END");
        let head = pick(self, Value::Int(0), own_head, Value::Int(0));
        let lane = pick(self, z, Value::Int(0), Value::Int(0));
        let down = self.code.int("selp.b32", &[z, x, by_item]);
        let (begin, entries) = self.entries(first, count);
        let [m, n, k] = ["m", "n", "k"].map(|size| {
            let [fixed, items, by_entries] = ["fixed", "items", "entries"].map(|of| self.params.number(&format!("{size}_{of}")));
            let sum = self.code.int("mad.lo.s32", &[items, count, fixed]);
            self.code.int("mad.lo.s32", &[by_entries, entries, sum])
        });
        let square = Value::Int(self.way.square as i32);
        let [first_row, first_column] = [down, y].map(|at| self.code.int("mul.lo.s32", &[at, square]));
        for (at, limit) in [(first_row, m), (first_column, n)] {
            let outside = self.code.test("setp.ge.s32", at, limit);
            self.code.branch_if(outside, "END");
        }
        let [dst, a, b] = [("dst", 0), ("a", 1), ("b", 2)].map(|(matrix, buffer)| {
            let b_bytes = [4, 2, 1][self.way.b as usize];
            let bytes = if buffer == 2 { b_bytes } else { 4 };
            let mut address = self.params.buffers[buffer];
            let parts = [("offset", Value::Int(1)), ("start", self.params.start), ("item", first), ("entry", begin), ("head", head)];
            for (what, times) in parts.into_iter().chain((buffer == 0).then_some(("lane", lane))) {
                let stride = self.params.number(&format!("{matrix}_{what}"));
                address = self.code.element(address, stride, times, bytes);
            }
            address
        });
        Place { m, n, k, dst, a, b, first_row, first_column }
    }

    /// The first entry of some items, and how many they have.
    fn entries(&mut self, first: Value, count: Value) -> (Value, Value) {
        let [begin, entries] = [(); 2].map(|()| self.code.copy(Value::Int(0)));
        let skip = self.code.label();
        let none = self.code.test("setp.eq.s32", self.params.number("has_entries"), Value::Int(0));
        self.code.branch_if(none, &skip);
        let base = self.code.element(self.params.buffers[4], self.params.number("begins_start"), self.params.start, 4);
        let base = self.code.address(base, first, 4);
        let last = self.code.address(base, count, 4);
        self.code.line(format_args!("ld.global.b32 {begin}, [{base}]"));
        self.code.line(format_args!("ld.global.b32 {entries}, [{last}]"));
        self.code.put(entries, "sub.s32", &[entries, begin]);
        self.code.bind(&skip);
        (begin, entries)
    }
}
