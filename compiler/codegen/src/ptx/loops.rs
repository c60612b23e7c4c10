//! Loops over items as one function of a module.

use super::code::{Class, Code, Value};
use super::layout::{Layout, WARP};
use crate::math::Arithmetic as _;
use recc_abi::{BLOCK, BufferId, DeviceFunction, Grid};
use recc_core::loops::{Affine, Combine, Extent, Instr, Kernel, LoopVar, Reg, Stmt, Term, Type, sums_of_outside, touched_buffers};
use recc_core::scalar::ScalarOp;
use std::collections::BTreeMap;

/// The lanes' sums among the buffers of a plan, with the elements of one lane.
pub(super) type Sums = BTreeMap<BufferId, u64>;

/// Statements of a kernel as a function, with its text.
pub(super) fn function(kernel: &Kernel, body: &[Stmt], sums: &Sums, name: &str) -> (DeviceFunction, String) {
    let layout = Layout::of(kernel, body, &sums.keys().copied().collect::<Vec<_>>());
    let touched = touched_buffers(body);
    let mut code = Code::default();
    let mut bases = vec![None; kernel.buffers.len()];
    for (at, &buffer) in touched.iter().enumerate() {
        bases[buffer] = Some(code.param(&format!("buffer{at}"), "u64"));
    }
    let start = code.param("start", "u32");
    let rows = code.param("rows", "u32");
    let lane_items = code.param("lane_items", "u32");
    let mut loops = Loops {
        kernel,
        bases,
        regs: BTreeMap::new(),
        vars: BTreeMap::new(),
        held: BTreeMap::new(),
        threads: Threads::of(&mut code, layout, rows, lane_items),
        code,
        inside: false,
        vector: false,
    };
    loops.move_bases(start, sums);
    loops.body(body);
    let grid = layout.grid();
    let threads = if let Grid::Lanes { threads, .. } = grid { threads } else { BLOCK };
    if matches!(layout, Layout::Items { .. }) {
        loops.code.bind("END");
    }
    let buffers = touched.iter().map(|&buffer| kernel.buffers[buffer].id).collect();
    (DeviceFunction { name: name.to_owned(), buffers, numbers: Vec::new(), grid }, loops.code.finish(name, threads))
}

/// What tells a thread from others.
struct Threads {
    layout: Layout,
    /// Its first iteration of a vector loop, and the distance to the next one.
    first: Value,
    step: u32,
    /// The threads of the warp that share its item out.
    mask: Value,
    /// Whether it alone stores what all of them compute; nothing where it is the only one.
    stores: Option<Value>,
    /// Its item, or the range of the lane's items and the distance between two that it takes.
    item: Value,
    end: Value,
    item_step: u32,
    /// Its number in the block, and its lane, where there are lanes.
    thread: Value,
    lane: Value,
}

impl Threads {
    fn of(code: &mut Code, layout: Layout, rows: Value, lane_items: Value) -> Threads {
        let thread = code.special("%tid.x");
        let own = layout.threads();
        let shift = Value::Int(own.trailing_zeros() as i32);
        let within = if own == 1 { Value::Int(0) } else { code.int("and.b32", &[thread, Value::Int(own as i32 - 1)]) };
        let mask = match own {
            1 => Value::Int(0),
            WARP => Value::Int(-1),
            own => {
                let in_warp = code.int("and.b32", &[thread, Value::Int((WARP - own) as i32)]);
                code.int("shl.b32", &[Value::Int((1 << own) - 1), in_warp])
            }
        };
        let group = if own == 1 { thread } else { code.int("shr.u32", &[thread, shift]) };
        let mut threads = Threads {
            layout,
            first: within,
            step: own,
            mask,
            stores: None,
            item: Value::Int(0),
            end: rows,
            item_step: 1,
            thread,
            lane: Value::Int(0),
        };
        if let Layout::Items { .. } = layout {
            let block = code.special("%ctaid.x");
            threads.item = code.int("mad.lo.s32", &[block, Value::Int((BLOCK / own) as i32), group]);
            let outside = code.test("setp.ge.s32", threads.item, rows);
            code.branch_if(outside, "END");
        } else {
            threads.lane = code.special("%ctaid.y");
            let begin = code.int("mul.lo.s32", &[threads.lane, lane_items]);
            let end = code.int("add.s32", &[begin, lane_items]);
            threads.end = code.int("min.s32", &[end, rows]);
            threads.item = begin;
        }
        match layout {
            Layout::Items { .. } | Layout::Columns { blocks: 1 } => {}
            Layout::Columns { blocks } => {
                let block = code.special("%ctaid.x");
                threads.first = code.int("mad.lo.s32", &[block, Value::Int(WARP as i32), within]);
                threads.step = WARP * blocks;
            }
            Layout::Totals { .. } => {
                let Grid::Lanes { threads: block, .. } = layout.grid() else { unreachable!("totals are summed by lanes") };
                threads.item = code.int("add.s32", &[threads.item, group]);
                threads.item_step = block / own;
            }
        }
        if threads.step > 1 {
            threads.stores = Some(code.test("setp.eq.s32", threads.first, Value::Int(0)));
        }
        threads
    }
}

/// A sum that a thread keeps over its items: where it goes, and the vector loop whose element it is.
struct Held {
    buffer: usize,
    index: Affine,
    var: LoopVar,
    count: u64,
}

struct Loops<'k> {
    code: Code,
    kernel: &'k Kernel,
    bases: Vec<Option<Value>>,
    regs: BTreeMap<Reg, Value>,
    vars: BTreeMap<LoopVar, Value>,
    threads: Threads,
    /// Sums of a lane that a thread keeps in registers over all of its items, by where they go.
    held: BTreeMap<(usize, Affine), Value>,
    /// Whether the loop over items is open.
    inside: bool,
    /// Whether a vector loop is open, so that threads do different things.
    vector: bool,
}

impl Loops<'_> {
    /// Lets buffers begin at the call's first item, and sums at the block's lane.
    fn move_bases(&mut self, start: Value, sums: &Sums) {
        for (arg, base) in self.kernel.buffers.iter().zip(&mut self.bases) {
            let Some(own) = base else { continue };
            if arg.moves {
                *own = self.code.address(*own, start, arg.item_stride * arg.ty.bytes());
            }
            if let Some(len) = sums.get(&arg.id) {
                *own = self.code.address(*own, self.threads.lane, *len as i64 * arg.ty.bytes());
            }
        }
    }

    fn body(&mut self, body: &[Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::Let { reg, ty, instr } => {
                    let value = self.instr(instr, *ty);
                    self.regs.insert(*reg, value);
                }
                Stmt::Accumulator { reg, ty, combine } => {
                    let begin = self.code.copy(number(combine.identity(), *ty));
                    self.regs.insert(*reg, begin);
                }
                Stmt::Accumulate { reg, combine, value } => self.combine(self.regs[reg], *combine, self.regs[value]),
                Stmt::Store { buffer, index, value, accumulate } => self.store(*buffer, index, *value, *accumulate),
                Stmt::For { var, extent: Extent::Items, body, .. } => self.items(*var, body),
                Stmt::For { var, extent, vector, body } => self.nest(*var, extent, *vector, body),
                Stmt::MatMul(_) | Stmt::Partition(_) => unreachable!("calls are functions of their own"),
            }
        }
    }

    fn combine(&mut self, total: Value, combine: Combine, value: Value) {
        let class = total.class();
        match combine {
            Combine::Add => self.code.put(total, &format!("add.rn.{}", class.suffix()), &[total, value]),
            Combine::Max | Combine::Min => {
                let best = self.code.scalar(combine.scalar(), &[total, value]);
                self.code.put(total, &format!("mov.{}", class.suffix()), &[best]);
            }
        }
    }

    /// The loop over the call's items: one of them, or this thread's of a lane.
    fn items(&mut self, var: LoopVar, body: &[Stmt]) {
        self.inside = true;
        let (item, end, step) = (self.threads.item, self.threads.end, self.threads.item_step);
        if matches!(self.threads.layout, Layout::Items { .. }) {
            self.vars.insert(var, item);
            self.body(body);
        } else {
            let sums = self.hold_sums(body, None);
            self.count(var, item, end, step, body);
            self.store_sums(&sums);
        }
        self.inside = false;
        if let Layout::Totals { threads } = self.threads.layout {
            let sums = sums_of_outside(body.iter());
            self.code.line(format_args!("bar.sync 0"));
            sums.into_iter().for_each(|(reg, combine)| self.add_block_up(reg, combine, threads));
        }
    }

    /// Begins the sums of a lane that each thread has to itself: those of a vector loop's elements, one of which is a thread's, whatever the item.
    fn hold_sums(&mut self, body: &[Stmt], around: Option<(LoopVar, u64)>) -> Vec<Held> {
        let mut found = Vec::new();
        for stmt in body {
            match (stmt, around) {
                (Stmt::Store { buffer, index, accumulate: true, .. }, Some((var, count))) => {
                    let own = index.terms.iter().all(|(term, _)| *term == Term::Var(var));
                    if own && !index.terms.is_empty() && !self.held.contains_key(&(*buffer, index.clone())) {
                        let begin = self.code.copy(number(0.0, self.kernel.buffers[*buffer].ty));
                        self.held.insert((*buffer, index.clone()), begin);
                        found.push(Held { buffer: *buffer, index: index.clone(), var, count });
                    }
                }
                (Stmt::For { var, extent: Extent::Fixed(n), vector: true, body }, _) if *n <= u64::from(self.threads.step) => {
                    found.extend(self.hold_sums(body, Some((*var, *n))));
                }
                (Stmt::For { body, vector: false, .. }, around) => found.extend(self.hold_sums(body, around)),
                _ => {}
            }
        }
        found
    }

    /// Adds a thread's sums to those in memory.
    fn store_sums(&mut self, sums: &[Held]) {
        for Held { buffer, index, var, count } in sums {
            let Some(sum) = self.held.remove(&(*buffer, index.clone())) else { continue };
            let suffix = sum.class().suffix();
            self.vars.insert(*var, self.threads.first);
            let address = self.address(*buffer, index);
            let inside = self.code.test("setp.lt.s32", self.threads.first, Value::Int(*count as i32));
            let old = self.code.copy(number(0.0, self.kernel.buffers[*buffer].ty));
            self.code.line(format_args!("@{inside} ld.global.{suffix} {old}, {address}"));
            let sum = self.code.set(sum.class(), &format!("add.rn.{suffix}"), &[old, sum]);
            self.code.line(format_args!("@{inside} st.global.{suffix} {address}, {sum}"));
        }
    }

    /// Whether statements store to memory, and not to registers alone.
    fn stores(&self, body: &[Stmt]) -> bool {
        body.iter().any(|stmt| match stmt {
            Stmt::Store { buffer, index, .. } => !self.held.contains_key(&(*buffer, index.clone())),
            Stmt::For { body, .. } => self.stores(body),
            Stmt::Let { .. } | Stmt::Accumulator { .. } | Stmt::Accumulate { .. } | Stmt::MatMul(_) | Stmt::Partition(_) => false,
        })
    }

    fn nest(&mut self, var: LoopVar, extent: &Extent, vector: bool, body: &[Stmt]) {
        let (begin, end) = match extent {
            Extent::Fixed(n) => (Value::Int(0), Value::Int(*n as i32)),
            Extent::Between(begin, end) => (self.regs[begin], self.regs[end]),
            Extent::Items => (self.threads.item, self.threads.end),
        };
        if !vector || self.threads.step == 1 {
            return self.count(var, begin, end, 1, body);
        }
        let stores = self.threads.layout.threads() > 1 && self.stores(body);
        if stores {
            self.meet();
        }
        // Each thread adds up its own part, which then come together.
        let mut totals = Vec::new();
        for (reg, combine) in sums_of_outside(body.iter()) {
            if let Some(total) = self.regs.get(&reg).copied() {
                let part = self.code.copy(number_of(combine.identity(), total.class()));
                self.regs.insert(reg, part);
                totals.push((reg, combine, total));
            }
        }
        let first = match begin {
            Value::Int(0) => self.threads.first,
            begin => self.code.int("add.s32", &[begin, self.threads.first]),
        };
        self.vector = true;
        self.count(var, first, end, self.threads.step, body);
        self.vector = false;
        if stores {
            self.meet();
        }
        for (reg, combine, total) in totals {
            let part = self.regs[&reg];
            self.add_threads_up(part, combine, (self.threads.layout.threads(), 1), self.threads.mask);
            self.combine(total, combine, part);
            self.regs.insert(reg, total);
        }
    }

    /// Waits for the threads of the item, and lets them see what was stored.
    fn meet(&mut self) {
        let mask = self.threads.mask;
        self.code.line(format_args!("bar.warp.sync {mask}"));
    }

    /// A loop from one number to another.
    fn count(&mut self, var: LoopVar, begin: Value, end: Value, step: u32, body: &[Stmt]) {
        if let (Value::Int(begin), Value::Int(end), 1) = (begin, end, step)
            && end == begin + 1
        {
            self.vars.insert(var, Value::Int(begin));
            return self.body(body);
        }
        // What lies within one round needs no way back.
        if matches!(end, Value::Int(end) if begin == self.threads.first && end <= step as i32 && step > 1) {
            let done = self.code.label();
            let over = self.code.test("setp.ge.s32", begin, end);
            self.code.branch_if(over, &done);
            self.vars.insert(var, begin);
            self.body(body);
            return self.code.bind(&done);
        }
        let at = self.code.copy(begin);
        let ends = self.code.open_loop(at, end);
        self.vars.insert(var, at);
        self.body(body);
        self.code.close_loop(at, step, ends);
    }

    /// The value of another thread of the warp.
    fn of_thread(&mut self, value: Value, apart: u32, mask: Value) -> Value {
        let shuffle = |code: &mut Code, word: Value| {
            let out = code.fresh(word.class());
            code.line(format_args!("shfl.sync.bfly.b32 {out}, {word}, {apart}, 31, {mask}"));
            out
        };
        if value.class() != Class::F64 {
            return shuffle(&mut self.code, value);
        }
        let [low, high] = [(); 2].map(|()| self.code.fresh(Class::Int));
        self.code.line(format_args!("mov.b64 {{{low}, {high}}}, {value}"));
        let [low, high] = [low, high].map(|word| shuffle(&mut self.code, word));
        let out = self.code.fresh(Class::F64);
        self.code.line(format_args!("mov.b64 {out}, {{{low}, {high}}}"));
        out
    }

    /// Adds up over neighbouring threads, all of which then have the sum; `own` of them have the same part, which counts once.
    fn add_threads_up(&mut self, part: Value, combine: Combine, (threads, own): (u32, u32), mask: Value) {
        let mut apart = threads / 2;
        while apart >= own {
            let other = self.of_thread(part, apart, mask);
            self.combine(part, combine, other);
            apart /= 2;
        }
    }

    /// Adds up over a block, whose first thread then has the sum. The threads of an item have the same part.
    fn add_block_up(&mut self, reg: Reg, combine: Combine, own: u32) {
        let part = self.regs[&reg];
        let (class, thread) = (part.class(), self.threads.thread);
        self.add_threads_up(part, combine, (WARP, own), Value::Int(-1));
        let bytes = if class == Class::F64 { 8 } else { 4 };
        let Grid::Lanes { threads, .. } = self.threads.layout.grid() else { unreachable!("totals are summed by lanes") };
        let warps = threads / WARP;
        let room = self.code.shared(&format!("sums{}", reg.0), warps * bytes);
        let warp = self.code.int("shr.u32", &[thread, Value::Int(WARP.trailing_zeros() as i32)]);
        let place = self.code.int("mad.lo.s32", &[warp, Value::Int(bytes as i32), room]);
        let in_warp = self.code.int("and.b32", &[thread, Value::Int(WARP as i32 - 1)]);
        let first = self.code.test("setp.eq.s32", in_warp, Value::Int(0));
        let suffix = class.suffix();
        self.code.line(format_args!("@{first} st.shared.{suffix} [{place}], {part}"));
        self.code.line(format_args!("bar.sync 0"));
        for warp in 0..warps {
            let other = self.code.fresh(class);
            self.code.line(format_args!("ld.shared.{suffix} {other}, [{room}+{}]", warp * bytes));
            if warp == 0 {
                self.code.put(part, &format!("mov.{suffix}"), &[other]);
            } else {
                self.combine(part, combine, other);
            }
        }
    }

    /// The address of an element.
    fn address(&mut self, buffer: usize, index: &Affine) -> String {
        let bytes = self.kernel.buffers[buffer].ty.bytes();
        let Some(mut address) = self.bases[buffer] else { unreachable!("a buffer that the statements touch") };
        let mut offset = index.offset * bytes;
        for &(term, stride) in &index.terms {
            match self.term(term) {
                Value::Int(number) => offset += i64::from(number) * stride * bytes,
                value => address = self.code.address(address, value, stride * bytes),
            }
        }
        if i32::try_from(offset).is_err() {
            let far = self.code.fresh(Class::Wide);
            self.code.line(format_args!("add.s64 {far}, {address}, {offset}"));
            return format!("[{far}]");
        }
        if offset == 0 { format!("[{address}]") } else { format!("[{address}+{offset}]") }
    }

    fn term(&self, term: Term) -> Value {
        match term {
            Term::Var(var) => self.vars[&var],
            Term::Reg(reg) => self.regs[&reg],
        }
    }

    fn store(&mut self, buffer: usize, index: &Affine, value: Reg, accumulate: bool) {
        let ty = self.kernel.buffers[buffer].ty;
        let suffix = memory_type(ty);
        let value = self.regs[&value];
        if let Some(sum) = self.held.get(&(buffer, index.clone())).copied() {
            return self.combine(sum, Combine::Add, value);
        }
        // Behind the loop over items one thread of the block has the sums.
        let alone = match (self.vector, self.inside, self.threads.layout) {
            (true, ..) => None,
            (false, false, Layout::Totals { .. }) => Some(self.code.test("setp.eq.s32", self.threads.thread, Value::Int(0))),
            (false, ..) => self.threads.stores,
        };
        let meets = !self.vector && self.inside && self.threads.layout.threads() > 1;
        if meets {
            self.meet();
        }
        let skip = alone.map(|alone| (alone, self.code.label()));
        let address = self.address(buffer, index);
        if let Some((alone, skip)) = &skip {
            self.code.branch_unless(*alone, skip);
        }
        let mut value = value;
        if accumulate {
            let class = Class::of(ty);
            let old = self.code.fresh(class);
            self.code.line(format_args!("ld.global.{suffix} {old}, {address}"));
            value = self.code.set(class, &format!("add.rn.{}", class.suffix()), &[old, value]);
        }
        self.code.line(format_args!("st.global.{suffix} {address}, {value}"));
        if let Some((_, skip)) = &skip {
            self.code.bind(skip);
        }
        if meets {
            self.meet();
        }
    }

    fn load(&mut self, buffer: usize, index: &Affine) -> Value {
        let ty = self.kernel.buffers[buffer].ty;
        let address = self.address(buffer, index);
        load(&mut self.code, ty, &address)
    }

    fn instr(&mut self, instr: &Instr, ty: Type) -> Value {
        match instr {
            Instr::Const(value) => number(*value, ty),
            Instr::Load { buffer, index } => self.load(*buffer, index),
            Instr::Scalar(op, operands) => {
                let x: Vec<Value> = operands.iter().map(|reg| self.regs[reg]).collect();
                match op {
                    ScalarOp::Widen => self.code.set(Class::F64, "cvt.f64.f32", &x),
                    ScalarOp::Narrow => self.code.set(Class::F32, "cvt.rn.f32.f64", &x),
                    op => self.code.scalar(*op, &x),
                }
            }
            Instr::RowKey { key, row } => {
                let sum = self.code.int_add(self.regs[row], self.regs[key]);
                self.code.mix(sum)
            }
            Instr::Random { row_key, element } => {
                let element = self.place(element);
                self.code.random(self.regs[row_key], element)
            }
            Instr::AddInt(a, b) => self.code.int_add(self.regs[a], self.regs[b]),
            Instr::CountBetween(a, b) => {
                let count = self.code.int_sub(self.regs[a], self.regs[b]);
                self.code.float_of(count)
            }
            Instr::Place(place) => self.place(place),
            Instr::Choice(number, count) => {
                // What is no number becomes 0, and what lies outside the integers the nearest of them.
                let number = self.code.int("cvt.rzi.s32.f32", &[self.regs[number]]);
                let number = self.code.int("max.s32", &[number, Value::Int(0)]);
                self.code.int("min.s32", &[number, Value::Int(*count as i32 - 1)])
            }
            Instr::Clamp { number, begin, end } => {
                let last = self.code.int_sub(self.regs[end], Value::Int(1));
                let number = self.code.int("min.s32", &[self.regs[number], last]);
                self.code.int("max.s32", &[number, self.regs[begin]])
            }
        }
    }

    /// A sum of loops' variables and integer registers.
    fn place(&mut self, place: &Affine) -> Value {
        let mut sum = Value::Int(place.offset as i32);
        for &(term, stride) in &place.terms {
            sum = match (self.term(term), sum, stride as i32) {
                (Value::Int(number), Value::Int(sum), stride) => Value::Int(number.wrapping_mul(stride).wrapping_add(sum)),
                (value, Value::Int(0), 1) => value,
                (value, sum, stride) => self.code.int("mad.lo.s32", &[value, Value::Int(stride), sum]),
            };
        }
        sum
    }
}

/// A number that is known.
fn number(value: f64, ty: Type) -> Value {
    number_of(value, Class::of(ty))
}

fn number_of(value: f64, class: Class) -> Value {
    match class {
        Class::F64 => Value::F64(value),
        Class::Int => Value::Int(value as i32),
        Class::F32 | Class::Half | Class::Truth | Class::Wide => Value::F32(value as f32),
    }
}

/// How memory holds a type.
fn memory_type(ty: Type) -> &'static str {
    match ty {
        Type::F32 => "f32",
        Type::F64 => "f64",
        Type::I32 => "b32",
        Type::F16 => "b16",
        Type::I8 | Type::Bool => "s8",
    }
}

/// An element from memory, as the number that it stands for.
pub(super) fn load(code: &mut Code, ty: Type, address: &str) -> Value {
    let held = match ty {
        Type::F16 => Class::Half,
        Type::I8 => Class::Int,
        ty => Class::of(ty),
    };
    let value = code.fresh(held);
    code.line(format_args!("ld.global.{} {value}, {address}", memory_type(ty)));
    match ty {
        Type::F16 => code.set(Class::F32, "cvt.f32.f16", &[value]),
        Type::I8 => code.set(Class::F32, "cvt.rn.f32.s32", &[value]),
        Type::F32 | Type::F64 | Type::I32 | Type::Bool => value,
    }
}
