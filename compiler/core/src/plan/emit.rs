//! Emission: the value of a node at a position, as loop IR.
//!
//! Work is pulled: storing a node asks for its value at the loop's position, which asks its operands, down to loads. A node
//! with storage is loaded; every other is computed in place, so chains fuse into whoever stores their end. A
//! value is placed in the outermost loop that knows its position, and computed once there.

use crate::graph::{DType, Dim, Graph, NodeId, Space, TableId, TensorType};
use crate::loops::{Affine, BufferArg, Combine, Extent, Instr, Kernel, LoopVar, Reg, Stmt, Term, Type};
use crate::ops::Op;
use crate::plan::buffers::{Buffers, Storage};
use crate::scalar::ScalarOp;
use recc_abi::{BufferId, Element, InputSource, Place, RowSource, VariableId};
use std::collections::BTreeMap;

/// A position: the item, and an index for each axis. The first index of a global value may be the item itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// Which example or row.
    pub item: Affine,
    /// Which element.
    pub index: Vec<Affine>,
}

/// Where an element lies when the last axis is fastest.
pub fn linear(dims: &[Dim], index: &[Affine]) -> Affine {
    let mut out = Affine::default();
    for (dim, own) in dims.iter().zip(index) {
        // An entry is counted from the first one of the batch, so an axis of entries never scales.
        let size = dim.fixed().map_or(1, |n| n as i64);
        out = out.times(size).plus(own);
    }
    out
}

/// One open body.
#[derive(Default)]
struct Frame {
    stmts: Vec<Stmt>,
    known: BTreeMap<(NodeId, At), Reg>,
    /// Where an item's entries of a column begin and end.
    bounds: BTreeMap<(u32, Affine), (Reg, Reg)>,
}

/// Writes one kernel.
pub struct Emitter<'p> {
    graph: &'p Graph,
    buffers: &'p mut Buffers,
    storage: &'p BTreeMap<NodeId, Storage>,
    frames: Vec<Frame>,
    /// The depth of the body that defines each register.
    reg_depth: BTreeMap<Reg, usize>,
    var_depth: BTreeMap<LoopVar, usize>,
    item: LoopVar,
    next: u32,
    args: Vec<BufferArg>,
}

impl<'p> Emitter<'p> {
    pub(crate) fn new(graph: &'p Graph, buffers: &'p mut Buffers, storage: &'p BTreeMap<NodeId, Storage>) -> Self {
        let item = LoopVar(0);
        Emitter {
            graph,
            buffers,
            storage,
            frames: vec![Frame::default()],
            reg_depth: BTreeMap::new(),
            var_depth: BTreeMap::from([(item, 1)]),
            item,
            next: 1,
            args: Vec::new(),
        }
    }

    /// The finished kernel.
    pub(crate) fn finish(mut self, name: String) -> Kernel {
        let body = self.frames.pop().map(|frame| frame.stmts).unwrap_or_default();
        Kernel { name, buffers: self.args, body }
    }

    /// The item of the call's loop.
    pub(crate) fn item(&self) -> Affine {
        Affine::var(self.item)
    }

    /// A node's type.
    pub(crate) fn ty(&self, node: NodeId) -> &TensorType {
        &self.graph[node].ty
    }

    /// A node's operands.
    pub(crate) fn operands(&self, node: NodeId) -> Vec<NodeId> {
        self.graph.operands(node)
    }

    /// One operand.
    pub(crate) fn operand(&self, node: NodeId, slot: usize) -> NodeId {
        self.graph.operands(node)[slot]
    }

    /// Whether a table has several members, each with a first row of its own.
    pub(crate) fn has_bases(&self, table: TableId) -> bool {
        self.buffers.has_bases(table)
    }

    /// The loop over the call's items.
    pub(crate) fn items(&mut self, body: impl FnOnce(&mut Self)) {
        self.frames.push(Frame::default());
        body(self);
        let frame = self.frames.pop().unwrap_or_default();
        if !frame.stmts.is_empty() {
            let item = self.item;
            self.push(Stmt::For { var: item, extent: Extent::Items, vector: false, body: frame.stmts });
        }
        self.item = LoopVar(self.next);
        self.next += 1;
        self.var_depth.insert(self.item, 1);
    }

    /// Adds a statement to the innermost open body.
    pub(crate) fn push(&mut self, stmt: Stmt) {
        if let Some(frame) = self.frames.last_mut() {
            frame.stmts.push(stmt);
        }
    }

    fn fresh_reg(&mut self, depth: usize) -> Reg {
        let reg = Reg(self.next);
        self.next += 1;
        self.reg_depth.insert(reg, depth);
        reg
    }

    fn affine_depth(&self, index: &Affine) -> usize {
        let depth = |term: &Term| match term {
            Term::Var(var) => self.var_depth.get(var).copied().unwrap_or(0),
            Term::Reg(reg) => self.reg_depth.get(reg).copied().unwrap_or(0),
        };
        index.terms.iter().map(|(term, _)| depth(term)).max().unwrap_or(0)
    }

    fn at_depth(&self, at: &At) -> usize {
        at.index.iter().map(|index| self.affine_depth(index)).max().unwrap_or(0).max(self.affine_depth(&at.item))
    }

    /// Defines a value in the outermost body that knows its operands.
    pub(crate) fn define(&mut self, ty: Type, instr: Instr) -> Reg {
        let (regs, vars) = crate::loops::reads(&instr);
        let regs = regs.iter().map(|reg| self.reg_depth.get(reg).copied().unwrap_or(0)).max().unwrap_or(0);
        let vars = vars.iter().map(|var| self.var_depth.get(var).copied().unwrap_or(0)).max().unwrap_or(0);
        let depth = regs.max(vars);
        let reg = self.fresh_reg(depth);
        if let Some(frame) = self.frames.get_mut(depth) {
            frame.stmts.push(Stmt::Let { reg, ty, instr });
        }
        reg
    }

    /// The value of a node at a position.
    pub(crate) fn value(&mut self, node: NodeId, at: &At) -> Reg {
        let key = (node, at.clone());
        if let Some(reg) = self.frames.iter().rev().find_map(|frame| frame.known.get(&key)) {
            return *reg;
        }
        let reg = match self.storage.get(&node) {
            Some(storage) => {
                let place = self.place(&self.graph[node].ty.clone(), &at.item, &at.index);
                self.load_storage(*storage, &at.item, place)
            }
            None => {
                let op = self.graph[node].op.clone();
                op.element(self, node, at)
            }
        };
        let depth = self.reg_depth.get(&reg).copied().unwrap_or(0);
        if let Some(frame) = self.frames.get_mut(depth) {
            frame.known.insert(key, reg);
        }
        reg
    }

    /// The value of a node from its operands, whether or not it has storage.
    fn computed(&mut self, node: NodeId, at: &At) -> Reg {
        let op = self.graph[node].op.clone();
        op.element(self, node, at)
    }

    /// Where an element of an item lies. The second entry of a pair is counted from the first one of its example.
    fn place(&mut self, ty: &TensorType, item: &Affine, index: &[Affine]) -> Affine {
        let (Some(column), true) = (ty.entries(), ty.is_pairs()) else { return linear(&ty.dims, index) };
        let (begin, _) = self.bounds(column, item);
        let (last, leading) = index.split_last().map_or((Affine::default(), index), |(last, leading)| (last.clone(), leading));
        let row = linear(&ty.dims[..ty.dims.len() - 1], leading);
        row.times(self.buffers.longest(column) as i64).plus(&last).plus(&Affine::reg(begin).times(-1))
    }

    /// The kernel's argument that says where each item's entries begin.
    pub(crate) fn begins_arg(&mut self, column: u32) -> usize {
        let begins = self.begins(column);
        self.arg_by_stride(begins, 1)
    }

    /// Most entries of an item.
    pub(crate) fn longest(&self, column: u32) -> i64 {
        self.buffers.longest(column) as i64
    }

    /// The same, if it is known.
    pub(crate) fn known_longest(&self, column: u32) -> Option<u64> {
        self.buffers.known_longest(column)
    }

    /// What computes a node.
    pub(crate) fn op(&self, node: NodeId) -> Op {
        self.graph[node].op.clone()
    }

    /// How often the loops over an item's axes run.
    fn extents(&mut self, dims: &[Dim], item: &Affine) -> Vec<Extent> {
        let extent = |dim: &Dim| match dim {
            Dim::Fixed(n) => Extent::Fixed(*n),
            Dim::Entries(column) => {
                let (begin, end) = self.bounds(*column, item);
                Extent::Between(begin, end)
            }
        };
        dims.iter().map(extent).collect()
    }

    /// An element of a stored node by its linear place.
    pub(crate) fn load_linear(&mut self, node: NodeId, item: &Affine, place: Affine) -> Reg {
        match self.storage.get(&node) {
            Some(storage) => self.load_storage(*storage, item, place),
            None => self.unstored(node),
        }
    }

    fn load_storage(&mut self, storage: Storage, item: &Affine, place: Affine) -> Reg {
        let index = storage.index(item, &place);
        self.load(storage.buffer, index)
    }

    /// A node that only storage can give; reaching this is a bug of the planner.
    pub(crate) fn unstored(&mut self, node: NodeId) -> Reg {
        unreachable!("{node} `{}` of {} has no storage", self.graph[node].op.name(), self.graph[node].origin)
    }

    /// A load from a plan's buffer.
    pub(crate) fn load(&mut self, buffer: BufferId, index: Affine) -> Reg {
        let ty = Type::from(self.buffers.buffer(buffer).element).loaded();
        let buffer = self.arg(buffer, &index);
        self.define(ty, Instr::Load { buffer, index })
    }

    /// The kernel's argument for a buffer accessed at an index.
    pub(crate) fn arg(&mut self, id: BufferId, index: &Affine) -> usize {
        self.arg_by_stride(id, index.stride(self.item))
    }

    pub(crate) fn arg_by_stride(&mut self, id: BufferId, item_stride: i64) -> usize {
        let buffer = self.buffers.buffer(id);
        // What lies by entries is addressed by them.
        let moves = item_stride != 0 && !buffer.place.is_scratch();
        if let Some(known) = self.args.iter().position(|arg| arg.id == id && arg.item_stride == item_stride) {
            return known;
        }
        let ty = buffer.element.into();
        let len = match buffer.place {
            Place::Global | Place::Lane if item_stride == 0 => Some(buffer.len),
            // Of unknown length: where bags begin has one element more than there are examples.
            Place::Batch if buffer.len == 0 => None,
            Place::Tile { .. } | Place::Across { .. } | Place::Batch if item_stride != 0 => Some(buffer.len),
            _ => None,
        };
        self.args.push(BufferArg { id, name: buffer.name.clone(), ty, item_stride, moves, len });
        self.args.len() - 1
    }

    /// An element of an input with a value per example.
    pub(crate) fn load_input(&mut self, source: InputSource, node: NodeId, at: &At) -> Reg {
        let ty = self.graph[node].ty.clone();
        let element = if ty.dtype == DType::I32 { Element::I32 } else { Element::F32 };
        let place = linear(&ty.dims, &at.index);
        let len = ty.len().unwrap_or(1);
        let buffer = self.buffers.input(source, Place::Batch, element, len);
        self.load(buffer, at.item.times(len as i64).plus(&place))
    }

    /// An entry of an input with values for each.
    pub(crate) fn load_entries(&mut self, source: InputSource, of: u32, node: NodeId, at: &At) -> Reg {
        let ty = self.graph[node].ty.clone();
        let element = if ty.dtype == DType::I32 { Element::I32 } else { Element::F32 };
        let buffer = self.buffers.input(source, Place::Entries(of), element, ty.fixed_len());
        // Where entries begin is an input of every plan that reads them: the runtime counts them by it.
        self.begins(of);
        self.load(buffer, linear(&ty.dims, &at.index))
    }

    /// An element of an input with values for each entry of a column, or without one for each example.
    pub(crate) fn load_each(&mut self, source: InputSource, of: Option<u32>, node: NodeId, at: &At) -> Reg {
        match of {
            Some(of) => self.load_entries(source, of, node, at),
            None => self.load_input(source, node, at),
        }
    }

    /// An element of an input that exists once.
    pub(crate) fn load_global(&mut self, source: InputSource, len: u64, node: NodeId, at: &At, shift: i64) -> Reg {
        let place = linear(&self.graph[node].ty.dims, &at.index).plus(&Affine::constant(shift));
        let buffer = self.buffers.input(source, Place::Global, Element::F32, len);
        self.load(buffer, place)
    }

    /// An element of an input that exists once, by its place.
    pub(crate) fn load_at(&mut self, source: InputSource, len: u64, ty: Type, place: Affine) -> Reg {
        let element = if ty == Type::I32 { Element::I32 } else { Element::F32 };
        let buffer = self.buffers.input(source, Place::Global, element, len);
        self.load(buffer, place)
    }

    /// The kernel's argument for a whole number that exists once.
    pub(crate) fn global_arg(&mut self, source: InputSource) -> usize {
        let buffer = self.buffers.input(source, Place::Global, Element::I32, 1);
        self.arg_by_stride(buffer, 0)
    }

    /// The row number of an example.
    pub(crate) fn load_row_number(&mut self, item: Affine) -> Reg {
        let buffer = self.buffers.input(InputSource::RowNumber, Place::Batch, Element::I32, 1);
        self.load(buffer, item)
    }

    /// A part of a table's row grouping.
    pub(crate) fn load_row_part(&mut self, source: InputSource, place: Affine) -> Reg {
        let table = match &source {
            InputSource::Rows { table, .. } => *table,
            other => unreachable!("{other:?} is no part of a row grouping"),
        };
        let name_place = match &source {
            InputSource::Rows { source: RowSource::Rows | RowSource::Begin { .. }, .. } => Place::Rows(table),
            _ => Place::Global,
        };
        let buffer = self.buffers.input(source, name_place, Element::I32, if name_place == Place::Global { 0 } else { 1 });
        self.load(buffer, place)
    }

    /// Where an example's entries of a column begin, and where the next one's do.
    pub(crate) fn bounds(&mut self, column: u32, item: &Affine) -> (Reg, Reg) {
        let key = (column, item.clone());
        if let Some(known) = self.frames.iter().rev().find_map(|frame| frame.bounds.get(&key)) {
            return *known;
        }
        let buffer = self.begins(column);
        let begin = self.load(buffer, item.clone());
        let end = self.load(buffer, item.plus(&Affine::constant(1)));
        let depth = self.affine_depth(item);
        if let Some(frame) = self.frames.get_mut(depth) {
            frame.bounds.insert(key, (begin, end));
        }
        (begin, end)
    }

    /// The buffer with where each example's entries of a column begin.
    pub(crate) fn begins(&mut self, column: u32) -> BufferId {
        self.buffers.input(InputSource::EntryBegin { column }, Place::Batch, Element::I32, 0)
    }

    /// An element of a dense variable.
    pub(crate) fn load_variable(&mut self, id: VariableId, node: NodeId, at: &At) -> Reg {
        let place = linear(&self.graph[node].ty.dims, &at.index);
        let buffer = self.buffers.variable(id);
        self.load(buffer, place)
    }

    /// An element of a table's variable, by its row and its place in a row of some width.
    pub(crate) fn load_rows(&mut self, id: VariableId, row: Affine, width: u64, place: &Affine) -> Reg {
        let buffer = self.buffers.variable(id);
        let value = self.load(buffer, row.times(width as i64).plus(place));
        match self.buffers.scales(id) {
            Some(scales) => {
                let scale = self.load(scales, row);
                self.define(Type::F32, Instr::Scalar(ScalarOp::Mul, vec![value, scale]))
            }
            None => value,
        }
    }

    /// Reduces over axes at a position.
    pub(crate) fn reduce(
        &mut self,
        combine: Combine,
        ty: Type,
        dims: &[Dim],
        at: &At,
        body: impl FnOnce(&mut Self, &[Affine]) -> Reg,
    ) -> Reg {
        let extents = self.extents(dims, &at.item);
        self.reduce_over(combine, ty, &extents, at, body)
    }

    /// Reduces over loops, in the body that knows the position.
    pub(crate) fn reduce_over(
        &mut self,
        combine: Combine,
        ty: Type,
        extents: &[Extent],
        at: &At,
        body: impl FnOnce(&mut Self, &[Affine]) -> Reg,
    ) -> Reg {
        let bound = |extent: &Extent| match extent {
            Extent::Between(begin, end) => {
                self.reg_depth.get(begin).copied().unwrap_or(0).max(self.reg_depth.get(end).copied().unwrap_or(0))
            }
            Extent::Items | Extent::Fixed(_) => 0,
        };
        let depth = extents.iter().map(bound).max().unwrap_or(0).max(self.at_depth(at));
        let deeper = self.frames.split_off(depth + 1);
        let reg = self.fresh_reg(depth);
        self.push(Stmt::Accumulator { reg, ty, combine });
        self.nest(extents, |cx, index| {
            let value = body(cx, index);
            cx.push(Stmt::Accumulate { reg, combine, value });
        });
        self.frames.extend(deeper);
        reg
    }

    /// Loops one in another.
    pub(crate) fn nest(&mut self, extents: &[Extent], body: impl FnOnce(&mut Self, &[Affine])) {
        let mut index = Vec::new();
        let mut vars = Vec::new();
        for _ in extents {
            let var = LoopVar(self.next);
            self.next += 1;
            self.frames.push(Frame::default());
            self.var_depth.insert(var, self.frames.len() - 1);
            index.push(Affine::var(var));
            vars.push(var);
        }
        body(self, &index);
        for (var, extent) in vars.into_iter().zip(extents).rev() {
            let frame = self.frames.pop().unwrap_or_default();
            self.push(Stmt::For { var, extent: extent.clone(), vector: false, body: frame.stmts });
        }
    }

    /// Writes a node's value over its whole shape; views and joins are followed to their parts, which are written in place.
    pub(crate) fn store_node(&mut self, node: NodeId, target: Storage, item: &Affine) {
        let ty = self.graph[node].ty.clone();
        if ty.is_pairs() {
            let extents = self.extents(&ty.dims, item);
            return self.nest(&extents, |cx, index| {
                let value = cx.computed(node, &At { item: item.clone(), index: index.to_vec() });
                let place = cx.place(&ty, item, index);
                cx.store(target.buffer, target.index(item, &place), value, false);
            });
        }
        self.store_part(node, item, &|index| linear(&ty.dims, index), target, true);
    }

    fn store_part(&mut self, node: NodeId, item: &Affine, place: &dyn Fn(&[Affine]) -> Affine, target: Storage, root: bool) {
        let dims = self.graph[node].ty.dims.clone();
        let follow = root || !self.storage.contains_key(&node);
        match &self.graph[node].op {
            Op::Concat(concat) if follow => {
                let axis = concat.axis;
                let mut start = 0;
                for part in self.operands(node) {
                    let len = self.graph[part].ty.dims[axis].fixed().unwrap_or(0) as i64;
                    let shifted = move |index: &[Affine]| {
                        let mut index = index.to_vec();
                        index[axis] = index[axis].plus(&Affine::constant(start));
                        place(&index)
                    };
                    self.store_part(part, item, &shifted, target, false);
                    start += len;
                }
            }
            // Always stored itself, so its places are its own.
            Op::Take(take) if root => {
                let take = take.clone();
                let source = self.operand(node, 0);
                let place = |at: &Affine| target.index(item, at);
                let mut end = 0;
                for run in take.runs {
                    self.store_zeros(end..run.to, target.buffer, place);
                    self.nest(&[Extent::Fixed(run.len)], |cx, index| {
                        let value = cx.load_linear(source, item, index[0].plus(&Affine::constant(run.from as i64)));
                        cx.store(target.buffer, place(&index[0].plus(&Affine::constant(run.to as i64))), value, false);
                    });
                    end = run.to + run.len;
                }
                self.store_zeros(end..self.graph[node].ty.len().unwrap_or(0), target.buffer, place);
            }
            // A shape split or joined: one dimension of the result is contiguous, so its places follow the source's order.
            Op::Reshape(_) if follow && dims.len() == 1 => {
                let operand = self.operand(node, 0);
                let source = self.graph[operand].ty.dims.clone();
                let flat = move |index: &[Affine]| place(&[linear(&source, index)]);
                self.store_part(operand, item, &flat, target, false);
            }
            _ => {
                let extents = self.extents(&dims, item);
                self.nest(&extents, |cx, index| {
                    let at = At { item: item.clone(), index: index.to_vec() };
                    let value = if root { cx.computed(node, &at) } else { cx.value(node, &at) };
                    let index = target.index(item, &place(index));
                    cx.store(target.buffer, index, value, false);
                });
            }
        }
    }

    fn store_zeros(&mut self, places: std::ops::Range<u64>, buffer: BufferId, place: impl Fn(&Affine) -> Affine) {
        if places.is_empty() {
            return;
        }
        self.nest(&[Extent::Fixed(places.end - places.start)], |cx, index| {
            let zero = cx.define(Type::F32, Instr::Const(0.0));
            cx.store(buffer, place(&index[0].plus(&Affine::constant(places.start as i64))), zero, false);
        });
    }

    /// A store to a plan's buffer.
    pub(crate) fn store(&mut self, buffer: BufferId, index: Affine, value: Reg, accumulate: bool) {
        let buffer = self.arg(buffer, &index);
        self.push(Stmt::Store { buffer, index, value, accumulate });
    }

    /// Sums a node over the items into a lane's accumulator.
    pub(crate) fn accumulate(&mut self, node: NodeId, target: BufferId, position: impl Fn(&[Affine]) -> At, dims: &[Dim]) {
        let extents: Vec<Extent> = dims.iter().map(|dim| Extent::Fixed(dim.fixed().unwrap_or(0))).collect();
        self.nest(&extents, |cx, index| {
            let value = cx.value(node, &position(index));
            cx.store(target, linear(dims, index), value, true);
        });
    }

    /// Adds values of an item to the rows of a lane's accumulator that their numbers choose.
    pub(crate) fn scatter(&mut self, node: NodeId, target: BufferId, item: &Affine) {
        let (values, numbers) = (self.operand(node, 0), self.operand(node, 1));
        let dims = self.graph[node].ty.dims.clone();
        let rows = dims[0].fixed().unwrap_or(1);
        let extents = self.extents(&self.graph[numbers].ty.dims.clone(), item);
        self.nest(&extents, |cx, place| {
            let row = cx.picked_row(numbers, &At { item: item.clone(), index: place.to_vec() }, rows);
            let inner: Vec<Extent> = dims[1..].iter().map(|dim| Extent::Fixed(dim.fixed().unwrap_or(0))).collect();
            cx.nest(&inner, |cx, within| {
                let index = place.iter().chain(within).cloned().collect();
                let value = cx.value(values, &At { item: item.clone(), index });
                let target_index: Vec<Affine> = std::iter::once(row.clone()).chain(within.iter().cloned()).collect();
                cx.store(target, linear(&dims, &target_index), value, true);
            });
        });
    }

    /// Sums a single number over the items in a register, which is added to the lane's accumulator behind the loop.
    pub(crate) fn begin_total(&mut self, ty: Type) -> Reg {
        let reg = self.fresh_reg(0);
        if let Some(frame) = self.frames.first_mut() {
            frame.stmts.push(Stmt::Accumulator { reg, ty, combine: Combine::Add });
        }
        reg
    }

    /// The buffer of a variable.
    pub(crate) fn variable_buffer(&mut self, id: VariableId) -> BufferId {
        self.buffers.variable(id)
    }

    /// The buffer of the scales of a variable's rows, if it is stored as integers.
    pub(crate) fn scales_buffer(&mut self, id: VariableId) -> Option<BufferId> {
        self.buffers.scales(id)
    }

    /// Writes an effect's new value to its variable.
    pub(crate) fn write_variable(&mut self, effect: NodeId, at: &At, value: Reg) {
        let dims = self.graph[effect].ty.dims.clone();
        let place = linear(&dims, &at.index);
        match self.graph[effect].op.clone() {
            Op::Assign(op) => {
                let buffer = self.buffers.variable(op.variable);
                self.store(buffer, place, value, false);
            }
            Op::RowWrite(op) => {
                let rows = InputSource::Rows { table: op.table.0, source: RowSource::Rows };
                let row = self.load_row_part(rows, at.item.clone());
                let width = dims.first().and_then(|dim| dim.fixed()).unwrap_or(1) as i64;
                let buffer = self.buffers.variable(op.variable);
                self.store(buffer, Affine::reg(row).times(width).plus(&place), value, false);
            }
            other => unreachable!("`{}` is no effect", other.name()),
        }
    }

    pub(crate) fn space_of(&self, node: NodeId) -> Space {
        self.graph[node].ty.space
    }
}
