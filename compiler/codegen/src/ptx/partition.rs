//! A softmax over all rows of a table: a function for each part of it (see [`recc_abi::PartitionFn`]), whose products are never stored.
//!
//! A block takes 64 of its own vectors, queries or rows, and goes through all of the others, 64 at a time. It multiplies each with each, every thread 4 by 4 of them. The
//! log of the sum is kept as the largest product so far and the sum beside it. For the means the probabilities go through shared memory and are multiplied
//! with the others' numbers, 64 columns of them in each block.

use super::code::{Class, Code, Value};
use crate::math::Arithmetic as _;
use recc_abi::{BufferId, Count, DeviceFunction, Grid, PartitionPart, Plan, Times};
use recc_core::loops::{Kernel, Partition, Size, Vectors};

/// Vectors of a block, and columns of a mean.
const SIDE: u32 = 64;
/// Numbers of a vector that are copied at a time.
const DEPTH: u32 = 16;
/// Numbers from line to line in shared memory.
const LINE: u32 = SIDE + 4;
/// Threads along each side, each with 4 by 4 products.
const ACROSS: u32 = SIDE / 4;
const THREADS: u32 = ACROSS * ACROSS;
/// Less than any product, and a number: the difference of two of them is one.
const LEAST: f32 = -3.0e38;

/// The buffers of a call, and the numbers, in the order of the function's parameters.
const BUFFERS: [&str; 7] = ["query", "row", "log_sums", "factors", "others", "begins", "dst"];
const NUMBERS: [&str; 14] = [
    "width",
    "items",
    "entries",
    "query_entry",
    "row_entry",
    "log_sums_entry",
    "factors_entry",
    "dst_entry",
    "query_start",
    "row_start",
    "log_sums_start",
    "factors_start",
    "dst_start",
    "begins_start",
];

/// The name of a part's function.
pub(super) fn name(part: PartitionPart) -> &'static str {
    match part {
        PartitionPart::LogSums => "recc_partition_log_sums",
        PartitionPart::MeanRows => "recc_partition_mean_rows",
        PartitionPart::SumsOfQueries => "recc_partition_sums_of_queries",
    }
}

/// All parts, for tests.
pub(super) const PARTS: [PartitionPart; 3] = [PartitionPart::LogSums, PartitionPart::MeanRows, PartitionPart::SumsOfQueries];

/// A part as a call of its function.
pub(super) fn call(kernel: &Kernel, partition: &Partition, plan: &Plan) -> DeviceFunction {
    let id = |buffer: usize| kernel.buffers[buffer].id;
    let Partition { part, width, items, entries, others, queries, rows, sums, dst } = partition;
    // Sums that there are not have the result's address, which is not read as theirs.
    let [log_sums, factors] = sums.unwrap_or([*dst; 2]);
    let start = |buffer: usize| if kernel.buffers[buffer].moves { kernel.buffers[buffer].item_stride } else { 0 };
    let vectors = [*queries, *rows, log_sums, factors, *dst];
    let (by_items, by_entries) = match items {
        Size::Items(factor) => (*factor, 0),
        Size::Entries(factor) => (0, *factor),
        Size::Fixed(_) => unreachable!("a softmax for a fixed number of queries"),
    };
    let numbers = [*width, by_items, by_entries]
        .into_iter()
        .chain(vectors.iter().map(|own| own.entry))
        .chain(vectors.iter().map(|own| start(own.buffer)))
        .chain([entries.map_or(0, start)]);
    let narrow = |number: i64| i32::try_from(number).unwrap_or_else(|_| unreachable!("a stride of {number} elements"));
    let rows_of_grid = match entries {
        Some(begins) => Count::Entries { column: super::product::column(plan, Some(id(*begins))), factor: by_entries as u32 },
        None => Count::Items(by_items as u32),
    };
    let columns = if *part == PartitionPart::LogSums { 1 } else { *width as u32 };
    let grid = Grid::Product { rows: rows_of_grid, columns: Count::Fixed(columns), square: SIDE, threads: THREADS, times: Times::Once };
    let buffer = |own: Vectors| id(own.buffer);
    let buffers: Vec<BufferId> = vec![
        buffer(*queries),
        buffer(*rows),
        buffer(log_sums),
        buffer(factors),
        id(*others),
        entries.map_or(id(*others), id),
        buffer(*dst),
    ];
    DeviceFunction { name: name(*part).to_owned(), buffers, numbers: numbers.map(narrow).collect(), grid }
}

/// The text of a part's function.
pub(super) fn function(part: PartitionPart) -> String {
    let mut code = Code::default();
    let buffers = BUFFERS.map(|name| code.param(name, "u64"));
    let [start, rows, _] = ["start", "rows", "lane_items"].map(|name| code.param(name, "u32"));
    let numbers = NUMBERS.iter().map(|name| code.param(name, "s32")).collect();
    let thread = code.special("%tid.x");
    let mut writer = Writer { part, code, buffers, start, rows, numbers, thread };
    writer.write();
    writer.code.finish(name(part), THREADS)
}

struct Writer {
    part: PartitionPart,
    code: Code,
    buffers: [Value; 7],
    start: Value,
    rows: Value,
    numbers: Vec<Value>,
    thread: Value,
}

/// The vectors of one side.
#[derive(Clone, Copy)]
struct Side {
    base: Value,
    count: Value,
}

/// What the block is about.
struct Place {
    own: Side,
    other: Side,
    /// The log of the sums and the numbers of the queries.
    log_sums: Value,
    factors: Value,
    dst: Value,
    /// The block's first vector, and the first column of its means.
    first: Value,
    column: Value,
    width: Value,
}

impl Writer {
    fn number(&self, name: &str) -> Value {
        let at = NUMBERS.iter().position(|own| *own == name);
        self.numbers[at.unwrap_or_else(|| unreachable!("a parameter `{name}`"))]
    }

    fn write(&mut self) {
        let place = self.place();
        let across = self.code.int("and.b32", &[self.thread, Value::Int(ACROSS as i32 - 1)]);
        let down = self.code.int("shr.u32", &[self.thread, Value::Int(ACROSS.trailing_zeros() as i32)]);
        let [across, down] = [across, down].map(|at| self.code.int("shl.b32", &[at, Value::Int(2)]));
        if self.part == PartitionPart::LogSums {
            self.log_sums(&place, down, across)
        } else {
            self.means(&place, down, across)
        }
        self.code.bind("END");
    }

    /// The sides, moved to the call's first item and its first entry; ends the block where it has no vectors.
    fn place(&mut self) -> Place {
        let (begin, entries) = self.entries();
        let items = self.code.int("mul.lo.s32", &[self.number("items"), self.rows]);
        let items = self.code.int("mad.lo.s32", &[self.number("entries"), entries, items]);
        let others = self.code.fresh(Class::Int);
        self.code.line(format_args!("ld.global.b32 {others}, [{}]", self.buffers[4]));
        let moved = |own: &mut Self, name: &str, buffer: usize| {
            let by_start = own.code.element(own.buffers[buffer], own.number(&format!("{name}_start")), own.start, 4);
            own.code.element(by_start, own.number(&format!("{name}_entry")), begin, 4)
        };
        let [queries, rows] = [("query", 0), ("row", 1)].map(|(name, buffer)| moved(self, name, buffer));
        let [log_sums, factors, dst] = [("log_sums", 2), ("factors", 3), ("dst", 6)].map(|(name, buffer)| moved(self, name, buffer));
        let (own, other) = match self.part {
            PartitionPart::LogSums | PartitionPart::MeanRows => (Side { base: queries, count: items }, Side { base: rows, count: others }),
            PartitionPart::SumsOfQueries => (Side { base: rows, count: items }, Side { base: queries, count: others }),
        };
        let [x, y] = ["%ctaid.x", "%ctaid.y"].map(|name| self.code.special(name));
        let [first, column] = [x, y].map(|at| self.code.int("mul.lo.s32", &[at, Value::Int(SIDE as i32)]));
        let outside = self.code.test("setp.ge.s32", first, own.count);
        self.code.branch_if(outside, "END");
        Place { own, other, log_sums, factors, dst, first, column, width: self.number("width") }
    }

    /// The call's first entry, and how many it has; 0 where its items have none.
    fn entries(&mut self) -> (Value, Value) {
        let [begin, entries] = [(); 2].map(|()| self.code.copy(Value::Int(0)));
        let skip = self.code.label();
        let none = self.code.test("setp.eq.s32", self.number("entries"), Value::Int(0));
        self.code.branch_if(none, &skip);
        let first = self.code.element(self.buffers[5], self.number("begins_start"), self.start, 4);
        let last = self.code.address(first, self.rows, 4);
        self.code.line(format_args!("ld.global.b32 {begin}, [{first}]"));
        self.code.line(format_args!("ld.global.b32 {entries}, [{last}]"));
        self.code.put(entries, "sub.s32", &[entries, begin]);
        self.code.bind(&skip);
        (begin, entries)
    }

    /// Steps through numbers below a limit.
    fn each(&mut self, limit: Value, step: u32, body: impl FnOnce(&mut Self, Value)) {
        let at = self.code.copy(Value::Int(0));
        let ends = self.code.open_loop(at, limit);
        body(self, at);
        self.code.close_loop(at, step, ends);
    }

    /// Copies 64 vectors' next numbers to shared memory, number by number; zeroes behind the end.
    fn copy_piece(&mut self, side: Side, first: Value, (done, width): (Value, Value), room: Value) {
        let deep = self.code.int("and.b32", &[self.thread, Value::Int(DEPTH as i32 - 1)]);
        let along = self.code.int("shr.u32", &[self.thread, Value::Int(DEPTH.trailing_zeros() as i32)]);
        let number = self.code.int("add.s32", &[done, deep]);
        let deep_inside = self.code.test("setp.lt.s32", number, width);
        let line = self.code.int("mad.lo.s32", &[deep, Value::Int(LINE as i32), along]);
        let to = self.code.int("mad.lo.s32", &[line, Value::Int(4), room]);
        for step in (0..SIDE).step_by((THREADS / DEPTH) as usize) {
            let near = self.code.int("add.s32", &[along, Value::Int(step as i32)]);
            let vector = self.code.int("add.s32", &[first, near]);
            let inside = self.code.test("setp.lt.s32", vector, side.count);
            let inside = self.code.test("and.pred", inside, deep_inside);
            let value = self.guarded(side.base, (vector, width, number), inside);
            self.code.line(format_args!("st.shared.f32 [{to}+{}], {value}", 4 * step));
        }
    }

    /// A number of a vector, or 0.
    fn guarded(&mut self, base: Value, (vector, width, number): (Value, Value, Value), inside: Value) -> Value {
        let value = self.code.copy(Value::F32(0.0));
        let line = self.code.element(base, vector, width, 4);
        let address = self.code.address(line, number, 4);
        self.code.line(format_args!("@{inside} ld.global.f32 {value}, [{address}]"));
        value
    }

    /// `sums += left right` for one line of shared memory on each side.
    fn add_products(&mut self, sums: &[Value], left: Value, right: Value, offset: u32) {
        let (left, right) = (self.code.four(left, offset), self.code.four(right, offset));
        for (row, left) in left.into_iter().enumerate() {
            for (column, right) in right.into_iter().enumerate() {
                let sum = sums[4 * row + column];
                self.code.put(sum, "fma.rn.f32", &[left, right, sum]);
            }
        }
    }

    /// A thread's 4 by 4 products of the block's vectors with others.
    fn products(&mut self, place: &Place, other: Value, [own_room, other_room]: [Value; 2], (down, across): (Value, Value)) -> Vec<Value> {
        let sums: Vec<Value> = (0..16).map(|_| self.code.copy(Value::F32(0.0))).collect();
        let [left, right] =
            [(own_room, down), (other_room, across)].map(|(room, at)| self.code.int("mad.lo.s32", &[at, Value::Int(4), room]));
        self.each(place.width, DEPTH, |own, done| {
            own.copy_piece(place.own, place.first, (done, place.width), own_room);
            own.copy_piece(place.other, other, (done, place.width), other_room);
            own.code.line(format_args!("bar.sync 0"));
            (0..DEPTH).for_each(|deep| own.add_products(&sums, left, right, 4 * LINE * deep));
            own.code.line(format_args!("bar.sync 0"));
        });
        sums
    }

    /// Whether rows take part: those that there are, but row 0, which stands for what is unseen.
    fn takes_part(&mut self, row: Value, count: Value) -> Value {
        let known = self.code.test("setp.lt.s32", row, count);
        let first = self.code.test("setp.eq.s32", row, Value::Int(0));
        let not_first = self.code.set(Class::Truth, "not.pred", &[first]);
        self.code.test("and.pred", known, not_first)
    }

    /// For each query the log of the sum of the exponentials of its products.
    fn log_sums(&mut self, place: &Place, down: Value, across: Value) {
        let rooms = ["own_piece", "other_piece"].map(|name| self.code.shared(name, 4 * LINE * DEPTH));
        let largest = [(); 4].map(|()| self.code.copy(Value::F32(LEAST)));
        let sums = [(); 4].map(|()| self.code.copy(Value::F32(0.0)));
        self.each(place.other.count, SIDE, |own, other| {
            let products = own.products(place, other, rooms, (down, across));
            let taken = [0, 1, 2, 3].map(|at| {
                let near = own.code.int("add.s32", &[across, Value::Int(at)]);
                let row = own.code.int("add.s32", &[other, near]);
                own.takes_part(row, place.other.count)
            });
            for row in 0..4 {
                let own_products: Vec<Value> =
                    (0..4).map(|column| own.code.select(taken[column], products[4 * row + column], Value::F32(LEAST))).collect();
                own.add_exponentials(largest[row], sums[row], &own_products, &taken);
            }
        });
        let mut apart = ACROSS / 2;
        while apart > 0 {
            for row in 0..4 {
                let [other_largest, other_sum] = [largest[row], sums[row]].map(|own| {
                    let other = self.code.fresh(Class::F32);
                    self.code.line(format_args!("shfl.sync.bfly.b32 {other}, {own}, {apart}, 31, -1"));
                    other
                });
                let most = self.code.max(largest[row], other_largest);
                let [own, other] = [(largest[row], sums[row]), (other_largest, other_sum)].map(|(largest, sum)| {
                    let less = self.code.sub(largest, most);
                    let factor = self.code.exp(less);
                    self.code.mul(sum, factor)
                });
                self.code.put(sums[row], "add.rn.f32", &[own, other]);
                self.code.put(largest[row], "mov.f32", &[most]);
            }
            apart /= 2;
        }
        let stores = self.code.test("setp.eq.s32", across, Value::Int(0));
        // Without rows there is no sum: its log is not asked for, and 0.
        let no_rows = self.code.test("setp.le.s32", place.other.count, Value::Int(1));
        for row in 0..4 {
            let log = self.code.log(sums[row]);
            let log = self.code.add(largest[row], log);
            let log = self.code.select(no_rows, Value::F32(0.0), log);
            let near = self.code.int("add.s32", &[down, Value::Int(row as i32)]);
            let query = self.code.int("add.s32", &[place.first, near]);
            let inside = self.code.test("setp.lt.s32", query, place.own.count);
            let inside = self.code.test("and.pred", inside, stores);
            let address = self.code.address(place.dst, query, 4);
            self.code.line(format_args!("@{inside} st.global.f32 [{address}], {log}"));
        }
    }

    /// Adds exponentials to a sum that is kept beside the largest product so far.
    fn add_exponentials(&mut self, largest: Value, sum: Value, products: &[Value], taken: &[Value]) {
        let most = products.iter().fold(largest, |most, product| self.code.max(most, *product));
        let less = self.code.sub(largest, most);
        let factor = self.code.exp(less);
        let mut total = self.code.mul(sum, factor);
        for (product, taken) in products.iter().zip(taken) {
            let less = self.code.sub(*product, most);
            let exponential = self.code.exp(less);
            let exponential = self.code.select(*taken, exponential, Value::F32(0.0));
            total = self.code.add(total, exponential);
        }
        self.code.put(sum, "mov.f32", &[total]);
        self.code.put(largest, "mov.f32", &[most]);
    }

    /// The others' means by their probabilities, or the sums of others by the probabilities they give.
    fn means(&mut self, place: &Place, down: Value, across: Value) {
        let rooms = ["own_piece", "other_piece"].map(|name| self.code.shared(name, 4 * LINE * DEPTH));
        let [weights, numbers] = ["weights", "numbers"].map(|name| self.code.shared(name, 4 * LINE * SIDE));
        let totals: Vec<Value> = (0..16).map(|_| self.code.copy(Value::F32(0.0))).collect();
        let by_query = self.part == PartitionPart::MeanRows;
        let [left, right] = [(weights, down), (numbers, across)].map(|(room, at)| self.code.int("mad.lo.s32", &[at, Value::Int(4), room]));
        self.each(place.other.count, SIDE, |own, other| {
            let products = own.products(place, other, rooms, (down, across));
            for row in 0..4u32 {
                for column in 0..4u32 {
                    let near_own = own.code.int("add.s32", &[down, Value::Int(row as i32)]);
                    let own_at = own.code.int("add.s32", &[place.first, near_own]);
                    let near_other = own.code.int("add.s32", &[across, Value::Int(column as i32)]);
                    let other_at = own.code.int("add.s32", &[other, near_other]);
                    let (query, queries, row_at, rows) = match by_query {
                        true => (own_at, place.own.count, other_at, place.other.count),
                        false => (other_at, place.other.count, own_at, place.own.count),
                    };
                    let row_at = if by_query { row_at } else { own.code.int("add.s32", &[row_at, own.start]) };
                    let rows = if by_query { rows } else { own.code.int("add.s32", &[rows, own.start]) };
                    let taken = own.takes_part(row_at, rows);
                    let known = own.code.test("setp.lt.s32", query, queries);
                    let taken = own.code.test("and.pred", taken, known);
                    let weight = own.probability(place, products[(4 * row + column) as usize], query, taken);
                    // Line by line of the others.
                    let line = own.code.int("mad.lo.s32", &[near_other, Value::Int(LINE as i32), near_own]);
                    let to = own.code.int("mad.lo.s32", &[line, Value::Int(4), weights]);
                    own.code.line(format_args!("st.shared.f32 [{to}], {weight}"));
                }
            }
            own.copy_columns(place, other, numbers);
            own.code.line(format_args!("bar.sync 0"));
            (0..SIDE).for_each(|line| own.add_products(&totals, left, right, 4 * LINE * line));
            own.code.line(format_args!("bar.sync 0"));
        });
        for row in 0..4 {
            let near = self.code.int("add.s32", &[down, Value::Int(row)]);
            let own_at = self.code.int("add.s32", &[place.first, near]);
            let inside_row = self.code.test("setp.lt.s32", own_at, place.own.count);
            let line = self.code.element(place.dst, own_at, place.width, 4);
            for column in 0..4 {
                let near = self.code.int("add.s32", &[across, Value::Int(column)]);
                let at = self.code.int("add.s32", &[place.column, near]);
                let inside = self.code.test("setp.lt.s32", at, place.width);
                let inside = self.code.test("and.pred", inside, inside_row);
                let address = self.code.address(line, at, 4);
                self.code.line(format_args!("@{inside} st.global.f32 [{address}], {}", totals[(4 * row + column) as usize]));
            }
        }
    }

    /// A row's probability for a query, times the query's number; 0 where one of them is none.
    fn probability(&mut self, place: &Place, product: Value, query: Value, taken: Value) -> Value {
        let [log_sum, factor] = [place.log_sums, place.factors].map(|base| {
            let value = self.code.copy(Value::F32(0.0));
            let address = self.code.address(base, query, 4);
            self.code.line(format_args!("@{taken} ld.global.f32 {value}, [{address}]"));
            value
        });
        let less = self.code.sub(product, log_sum);
        let probability = self.code.exp(less);
        let weight = self.code.mul(probability, factor);
        self.code.select(taken, weight, Value::F32(0.0))
    }

    /// Copies the block's columns of 64 others to shared memory, line by line.
    fn copy_columns(&mut self, place: &Place, other: Value, room: Value) {
        let near = self.code.int("and.b32", &[self.thread, Value::Int(SIDE as i32 - 1)]);
        let line = self.code.int("shr.u32", &[self.thread, Value::Int(SIDE.trailing_zeros() as i32)]);
        let column = self.code.int("add.s32", &[place.column, near]);
        let column_inside = self.code.test("setp.lt.s32", column, place.width);
        let at = self.code.int("mad.lo.s32", &[line, Value::Int(LINE as i32), near]);
        let to = self.code.int("mad.lo.s32", &[at, Value::Int(4), room]);
        for step in (0..SIDE).step_by((THREADS / SIDE) as usize) {
            let near = self.code.int("add.s32", &[line, Value::Int(step as i32)]);
            let vector = self.code.int("add.s32", &[other, near]);
            let inside = self.code.test("setp.lt.s32", vector, place.other.count);
            let inside = self.code.test("and.pred", inside, column_inside);
            let value = self.guarded(place.other.base, (vector, place.width, column), inside);
            self.code.line(format_args!("st.shared.f32 [{to}+{}], {value}", 4 * LINE * step));
        }
    }
}
