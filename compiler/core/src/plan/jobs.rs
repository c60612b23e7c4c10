//! Jobs: the kernels of each stage, by what they iterate over.

use super::buffers::{Buffers, Storage};
use super::emit::{At, Emitter};
use super::parts::Tile;
use super::stages::{Stages, effect_groups, is_barrier, is_chained};
use super::storage::{self, Needs};
use super::{LEAST_ROUNDED, Machine, PlanSpec, Planned};
use crate::graph::{DType, Dim, Graph, NodeId, Program, Space, TableId};
use crate::loops::{
    Affine, Combine, Extent, ItemStrides, Kernel, MatMul, Matrix, Partition, Size, Stmt, Type, Vectors, drop_dead, loaded_buffers,
    merge_loops, vectorise,
};
use crate::ops::Op;
use recc_abi::{Buffer, BufferId, Element, Factor, InputSource, ItemSpace, Job, Launch, Output, Part, PartitionPart, Place, Plan};
use std::collections::{BTreeMap, BTreeSet};

/// Elements that one call of a kernel over global values works on.
const CHUNK: u64 = 16_384;

pub(crate) struct Planner<'p> {
    pub(super) program: &'p Program,
    pub(super) spec: &'p PlanSpec,
    stages: Stages,
    globals: BTreeSet<NodeId>,
    pub(super) buffers: Buffers,
    kernels: Vec<Kernel>,
    /// Lane accumulators of sums over items.
    lanes: BTreeMap<NodeId, BufferId>,
    /// Where each node lies in the stage being written.
    pub(super) storage: BTreeMap<NodeId, Storage>,
    /// What the parts of each job of examples need, in the order of the jobs.
    pub(super) tiles: Vec<Tile>,
    pub(super) entry_bytes: u64,
}

/// One thing an examples' or rows' kernel writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    /// Stores a node.
    Store(NodeId),
    /// Adds a node's operand to lane sums.
    Sum(NodeId),
}

impl Work {
    pub(super) fn node(self) -> NodeId {
        match self {
            Work::Store(node) | Work::Sum(node) => node,
        }
    }
}

impl<'p> Planner<'p> {
    pub(crate) fn new(program: &'p Program, spec: &'p PlanSpec) -> Self {
        let globals = storage::computed_globals(program);
        let stages = Stages::of(program, &globals);
        let buffers = Buffers::new(spec);
        Planner {
            program,
            spec,
            stages,
            globals,
            buffers,
            kernels: Vec::new(),
            lanes: BTreeMap::new(),
            storage: BTreeMap::new(),
            tiles: Vec::new(),
            entry_bytes: 0,
        }
    }

    pub(crate) fn run(mut self) -> Planned {
        let live = self.program.live();
        let count = live.iter().map(|&node| self.stages.ready(self.program, node, &self.globals)).max().unwrap_or(0) + 1;
        let needs = storage::find(self.program, &self.stages, count);
        self.place_kept(&needs);
        self.place_sums(&live);
        let groups = effect_groups(self.program, &self.globals);
        let mut launches = Vec::new();
        let mut first_update = None;
        for stage in 0..count {
            let mut jobs = Vec::new();
            jobs.extend(self.examples_job(stage, &needs));
            jobs.extend(self.combine_jobs(stage, &live));
            jobs.extend(self.global_jobs(stage, &live));
            jobs.extend(self.row_jobs(stage, &needs, &groups));
            let updates: Vec<&Vec<NodeId>> =
                groups.iter().filter(|group| self.is_global_group(group) && self.group_stage(group) == stage).collect();
            let updating = groups.iter().any(|group| self.group_stage(group) == stage);
            for group in updates {
                jobs.push(self.update_job(group));
            }
            if updating && first_update.is_none() {
                first_update = Some(launches.len() as u32);
            }
            if !jobs.is_empty() {
                launches.push(Launch { jobs });
            }
        }
        let (tile, tile_bytes) = self.size_tiles(&mut launches);
        let outputs =
            self.program.results.iter().map(|result| Output { name: result.name.clone(), buffer: self.storage[&result.node].buffer });
        let plan = Plan {
            outputs: outputs.collect(),
            // A device reads weights as they are.
            factors: if self.spec.machine == Machine::Device { Vec::new() } else { factors(&self.kernels, &self.buffers.all) },
            buffers: self.buffers.all,
            inputs: self.buffers.inputs,
            first_update: first_update.unwrap_or(launches.len() as u32),
            launches,
            tile,
            lanes: self.spec.machine.lanes(),
            tile_bytes,
            entry_bytes: self.entry_bytes,
        };
        Planned { plan, kernels: self.kernels }
    }

    fn group_stage(&self, group: &[NodeId]) -> usize {
        group.iter().map(|&effect| self.stages.at(effect)).max().unwrap_or(0)
    }

    fn is_global_group(&self, group: &[NodeId]) -> bool {
        group.iter().all(|&effect| self.program.graph[effect].ty.space == Space::Global)
    }

    /// Elements of an item, or of an entry.
    pub(super) fn len(&self, node: NodeId) -> u64 {
        let ty = &self.program.graph[node].ty;
        assert!(ty.is_storable(), "{node} `{}` has no place in memory: {ty}", self.program.graph[node].origin);
        let pairs = ty.entries().filter(|_| ty.is_pairs());
        ty.fixed_len() * pairs.map_or(1, |column| self.buffers.longest(column))
    }

    pub(super) fn buffer_name(&self, node: NodeId) -> String {
        format!("{node} {}", self.program.graph[node].origin)
    }

    pub(super) fn element(&self, node: NodeId) -> Element {
        if self.program.graph[node].ty.dtype == DType::F64 { Element::F64 } else { Element::F32 }
    }

    fn place_kept(&mut self, needs: &Needs) {
        for &node in needs.kept.keys() {
            let ty = &self.program.graph[node].ty;
            let place = match (ty.space, ty.entries()) {
                (Space::Row(table), _) => Place::Rows(table.0),
                (_, Some(column)) => Place::Entries(column),
                (Space::Example | Space::Global, None) => Place::Batch,
            };
            let len = self.len(node);
            let item_stride = if matches!(place, Place::Entries(_)) { 0 } else { len as i64 };
            let buffer = self.buffers.add(self.buffer_name(node), place, self.element(node), len);
            self.storage.insert(node, Storage { buffer, item_stride });
        }
    }

    /// Sums over items, computed global values and global results have a buffer of their own.
    fn place_sums(&mut self, live: &BTreeSet<NodeId>) {
        for &node in live {
            let result =
                self.program.graph[node].ty.space == Space::Global && self.program.results.iter().any(|result| result.node == node);
            let barrier = is_barrier(&self.program.graph[node].op);
            if barrier {
                let lane =
                    self.buffers.add(format!("lanes of {}", self.buffer_name(node)), Place::Lane, self.element(node), self.len(node));
                self.lanes.insert(node, lane);
            }
            if barrier || result || self.globals.contains(&node) {
                let buffer = self.buffers.add(self.buffer_name(node), Place::Global, self.element(node), self.len(node));
                self.storage.insert(node, Storage { buffer, item_stride: 0 });
            }
        }
    }

    fn kernel(&mut self, mut kernel: Kernel) -> u32 {
        merge_loops(&mut kernel);
        vectorise(&mut kernel);
        let same =
            self.kernels.iter().filter(|known| known.name == kernel.name || known.name.starts_with(&format!("{}_", kernel.name))).count();
        if same > 0 {
            // A layer's own name may end in such a number.
            let mut numbered = (same..).map(|number| format!("{}_{number}", kernel.name));
            let is_new = |name: &String| self.kernels.iter().all(|known| known.name != *name);
            kernel.name = numbered.find(is_new).unwrap_or_else(|| unreachable!("numbers do not end"));
        }
        self.kernels.push(kernel);
        self.kernels.len() as u32 - 1
    }

    fn kernel_name(&self, node: NodeId, what: &str) -> String {
        let origin: String = self.program.graph[node].origin.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let origin = origin.trim_matches('_').replace("__", "_");
        let what = if what.is_empty() { String::new() } else { format!("_{what}") };
        format!("recc_{}_{origin}{what}", self.spec.name)
    }

    /// Sums whose operands are repeated over a space, in one stage.
    fn sums(&self, stage: usize, space: Space) -> Vec<NodeId> {
        let graph = &self.program.graph;
        let wanted = |node: &NodeId| {
            is_barrier(&graph[*node].op) && self.stages.at(*node) == stage && graph[graph.operands(*node)[0]].ty.space == space
        };
        self.lanes.keys().copied().filter(wanted).collect()
    }

    fn job(&self, space: ItemSpace, kernels: Vec<u32>, accumulators: Vec<BufferId>) -> Job {
        let loaded: BTreeSet<BufferId> = kernels.iter().flat_map(|&kernel| loaded_buffers(&self.kernels[kernel as usize])).collect();
        let variables = loaded.into_iter().filter(|&id| matches!(self.buffers.buffer(id).place, Place::Variable(_))).collect();
        Job { space, kernels, parts: Vec::new(), accumulators, variables }
    }

    fn examples_job(&mut self, stage: usize, needs: &Needs) -> Option<Job> {
        let mut work: Vec<Work> = self.sums(stage, Space::Example).into_iter().map(Work::Sum).collect();
        let stored = needs.scratch.get(stage).cloned().unwrap_or_default();
        let (views, scratch): (Vec<NodeId>, Vec<NodeId>) = stored.iter().partition(|node| self.is_view(**node, &stored));
        work.extend(scratch.iter().map(|&node| Work::Store(node)));
        let kept = needs.kept.iter().filter(|(node, own)| **own == stage && self.program.graph[**node].ty.space == Space::Example);
        work.extend(kept.map(|(&node, _)| Work::Store(node)));
        if work.is_empty() {
            return None;
        }
        // Numbers pooled from rows that have no place of their own.
        let made: BTreeSet<NodeId> = work.iter().map(|work| work.node()).collect();
        let comes_first = |node: NodeId| {
            let graph = &self.program.graph;
            storage::is_pooled_number(graph, node) && graph.operands(node).iter().all(|operand| !made.contains(operand))
        };
        work.sort_by_key(|work| (!comes_first(work.node()), work.node()));
        let parts = self.place_scratch(&scratch, work);
        for &view in &views {
            let operand = self.program.graph.operands(view)[0];
            self.storage.insert(view, self.storage[&operand]);
        }
        let summed = |work: &Work| self.lanes.get(&work.node()).copied().filter(|_| matches!(work, Work::Sum(_)));
        let accumulators = parts.iter().flatten().filter_map(summed).collect();
        let kernels: Vec<Vec<u32>> = parts.iter().map(|part| self.item_kernels(part)).collect();
        // Their examples are known when all jobs are.
        let sizes = kernels.iter().map(|kernels| Part { kernels: kernels.len() as u32, examples: 0 }).collect();
        let kernels = kernels.concat();
        self.drop_unread_scratch(&kernels);
        for node in stored {
            self.storage.remove(&node);
        }
        Some(Job { parts: sizes, ..self.job(ItemSpace::Examples, kernels, accumulators) })
    }

    /// Whether a stored node is another stored node by other axes: it lies where that one lies.
    fn is_view(&self, node: NodeId, stored: &[NodeId]) -> bool {
        let graph = &self.program.graph;
        let operand = graph.operands(node).first().copied();
        matches!(graph[node].op, Op::Reshape(_))
            && operand.is_some_and(|operand| stored.contains(&operand) || self.storage.contains_key(&operand))
    }

    /// What joined loops hand on in registers need not be stored.
    fn drop_unread_scratch(&mut self, kernels: &[u32]) {
        let loaded: BTreeSet<BufferId> = kernels.iter().flat_map(|&kernel| loaded_buffers(&self.kernels[kernel as usize])).collect();
        for &kernel in kernels {
            let buffers = &self.buffers;
            drop_dead(&mut self.kernels[kernel as usize], |id| !buffers.buffer(id).place.is_scratch() || loaded.contains(&id));
        }
    }

    /// Whether a piece of work is a matrix product or the like, which is a call over all items.
    pub(super) fn is_product(&self, work: Work) -> bool {
        match work {
            Work::Store(node) => self.program.graph[node].op.is_call(),
            Work::Sum(node) => matches!(self.program.graph[node].op, Op::Contract(_)),
        }
    }

    /// Kernels of examples or rows: each begins with calls.
    fn item_kernels(&mut self, work: &[Work]) -> Vec<u32> {
        let program = self.program;
        let graph = &program.graph;
        let mut kernels = Vec::new();
        let mut rest = work;
        while let Some(first) = rest.first() {
            let products = rest.iter().take_while(|work| self.is_product(**work)).count();
            let loops = rest[products..].iter().take_while(|work| !self.is_product(**work)).count();
            let (now, later) = rest.split_at(products + loops);
            rest = later;
            let (now_products, now_loops) = now.split_at(products);
            let mut loops = self.loops_apart(now_loops).into_iter();
            for (products, loops) in
                std::iter::once((now_products, loops.next().unwrap_or_default())).chain(loops.map(|own| (&[][..], own)))
            {
                let name = self.kernel_name(products.first().or(loops.first()).unwrap_or(first).node(), "");
                let lanes = &self.lanes;
                let mut cx = Emitter::new(graph, &mut self.buffers, &self.storage);
                for work in products {
                    let stmt = product(&mut cx, program, *work, lanes, &self.storage, self.spec.bf16);
                    cx.push(stmt);
                }
                item_loop(&mut cx, program, &loops, lanes, &self.storage);
                let kernel = cx.finish(name);
                kernels.push(self.kernel(kernel));
            }
        }
        kernels
    }

    /// The loops of a kernel, divided where threads of a device share them out in different ways: what is stored for each item, numbers that all
    /// items add to, and sums with many elements, each of which has threads of its own.
    fn loops_apart(&self, work: &[Work]) -> Vec<Vec<Work>> {
        if self.spec.machine == Machine::Processor {
            return vec![work.to_vec()];
        }
        let is_sum = |work: &Work| matches!(work, Work::Sum(_));
        let (sums, stores): (Vec<Work>, Vec<Work>) = work.iter().partition(|work| is_sum(work));
        let (numbers, wide): (Vec<Work>, Vec<Work>) = sums.into_iter().partition(|work| is_number(&self.program.graph, work.node()));
        let mut out = vec![stores, numbers];
        out.retain(|work| !work.is_empty());
        out.extend(wide.into_iter().map(|work| vec![work]));
        out
    }

    /// Adds the lanes of each sum up, in their order.
    fn combine_jobs(&mut self, stage: usize, live: &BTreeSet<NodeId>) -> Vec<Job> {
        let mut jobs = Vec::new();
        for &node in live {
            if !is_barrier(&self.program.graph[node].op) || self.stages.at(node) + 1 != stage {
                continue;
            }
            let (lane, target) = (self.lanes[&node], self.storage[&node].buffer);
            let len = self.len(node);
            let ty = if self.element(node) == Element::F64 { Type::F64 } else { Type::F32 };
            let (name, lanes) = (self.kernel_name(node, "lanes"), self.spec.machine.lanes());
            let mut cx = Emitter::new(&self.program.graph, &mut self.buffers, &self.storage);
            cx.items(|cx| {
                let item = cx.item();
                let at = At { item: item.clone(), index: Vec::new() };
                let sum = cx.reduce_over(Combine::Add, ty, &[Extent::Fixed(lanes)], &at, |cx, lane_index| {
                    let index = lane_index[0].times(len as i64).plus(&item);
                    cx.load(lane, index)
                });
                cx.store(target, item.clone(), sum, false);
            });
            let kernel = cx.finish(name);
            let kernel = self.kernel(kernel);
            jobs.push(self.job(ItemSpace::Fixed { items: len, tile: CHUNK }, vec![kernel], Vec::new()));
        }
        jobs
    }

    fn value_kernel(&mut self, node: NodeId) -> u32 {
        let name = self.kernel_name(node, "value");
        let mut cx = Emitter::new(&self.program.graph, &mut self.buffers, &self.storage);
        cx.items(|cx| cx.store_node(node, self.storage[&node], &Affine::default()));
        let kernel = cx.finish(name);
        self.kernel(kernel)
    }

    /// Sums of global values, computed global values and global results.
    fn global_jobs(&mut self, stage: usize, live: &BTreeSet<NodeId>) -> Vec<Job> {
        let mut jobs = Vec::new();
        for node in self.sums(stage, Space::Global) {
            let operand = self.program.graph.operands(node)[0];
            let items = self.program.graph[operand].ty.dims[0].fixed().unwrap_or(1);
            let name = self.kernel_name(node, "sum");
            let mut cx = Emitter::new(&self.program.graph, &mut self.buffers, &self.storage);
            item_loop(&mut cx, self.program, &[Work::Sum(node)], &self.lanes, &self.storage);
            let kernel = cx.finish(name);
            let kernel = self.kernel(kernel);
            jobs.push(self.job(ItemSpace::Fixed { items, tile: 64 }, vec![kernel], vec![self.lanes[&node]]));
        }
        let graph = &self.program.graph;
        let computed = |node: &&NodeId| graph[**node].ty.space == Space::Global && !is_barrier(&graph[**node].op);
        let here = |node: &&NodeId| self.storage.contains_key(*node) && self.stages.at(**node) == stage;
        let (chained, others): (Vec<NodeId>, Vec<NodeId>) =
            live.iter().filter(computed).filter(here).partition(|node| is_chained(graph, **node));
        let together = others.into_iter().map(|node| vec![node]).chain((!chained.is_empty()).then_some(chained));
        // Kernels of one job run one after another: a value that the next one reads is there.
        for nodes in together.collect::<Vec<_>>() {
            let kernels = nodes.into_iter().map(|node| self.value_kernel(node)).collect();
            jobs.push(self.job(ItemSpace::Fixed { items: 1, tile: 1 }, kernels, Vec::new()));
        }
        jobs
    }

    fn row_jobs(&mut self, stage: usize, needs: &Needs, groups: &[Vec<NodeId>]) -> Vec<Job> {
        let mut jobs = Vec::new();
        for table in 0..self.spec.members.len() as u32 {
            let space = Space::Row(TableId(table));
            let mut work: Vec<Work> = self.sums(stage, space).into_iter().map(Work::Sum).collect();
            let kept = needs.kept.iter().filter(|(node, own)| **own == stage && self.program.graph[**node].ty.space == space);
            work.extend(kept.map(|(&node, _)| Work::Store(node)));
            work.sort_by_key(|work| work.node());
            let accumulators: Vec<BufferId> =
                work.iter().filter(|work| matches!(work, Work::Sum(_))).map(|work| self.lanes[&work.node()]).collect();
            let mut kernels = self.item_kernels(&work);
            for group in groups {
                let own = group.iter().any(|&effect| self.program.graph[effect].ty.space == space);
                if own && self.group_stage(group) == stage {
                    kernels.push(self.update_kernel(group));
                }
            }
            if !kernels.is_empty() {
                jobs.push(self.job(ItemSpace::Rows(table), kernels, accumulators));
            }
        }
        jobs
    }

    fn update_job(&mut self, group: &[NodeId]) -> Job {
        let dims = &self.program.graph[group[0]].ty.dims;
        let items = if dims.len() >= 2 { dims[0].fixed().unwrap_or(1) } else { 1 };
        let width = (self.len(group[0]) / items.max(1)).max(1);
        let kernel = self.update_kernel(group);
        self.job(ItemSpace::Fixed { items, tile: (CHUNK / width).max(1) }, vec![kernel], Vec::new())
    }

    /// Writes a group of variables: every new value is computed before any is stored.
    fn update_kernel(&mut self, group: &[NodeId]) -> u32 {
        let graph = &self.program.graph;
        let name = self.kernel_name(group[0], "");
        // One loop writes all of them, so it has to fit all: a group of other shapes would be written behind its end.
        let (space, wide) = (graph[group[0]].ty.space, |&&effect: &&NodeId| !graph[effect].ty.dims.is_empty());
        let shape = group.iter().find(wide).map(|&effect| &graph[effect].ty.dims);
        let alike = |&effect: &NodeId| {
            graph[effect].ty.space == space && (graph[effect].ty.dims.is_empty() || Some(&graph[effect].ty.dims) == shape)
        };
        assert!(group.iter().all(alike), "updates of different shapes read each other: {name}");
        let mut cx = Emitter::new(graph, &mut self.buffers, &self.storage);
        cx.items(|cx| {
            let item = cx.item();
            let dims = |node: NodeId| -> Vec<Dim> { graph[node].ty.dims.clone() };
            let global = graph[group[0]].ty.space == Space::Global;
            let by_item = global && dims(group[0]).len() >= 2;
            let at = |index: &[Affine]| {
                let index = if by_item { std::iter::once(item.clone()).chain(index.iter().cloned()).collect() } else { index.to_vec() };
                At { item: item.clone(), index }
            };
            let inner = |node: NodeId| -> Vec<Dim> { dims(node).into_iter().skip(usize::from(by_item)).collect() };
            // One number a row: computed first, stored last.
            let (numbers, wide): (Vec<NodeId>, Vec<NodeId>) = group.iter().partition(|&&effect| inner(effect).is_empty());
            let values: Vec<_> = numbers.iter().map(|&effect| cx.value(effect, &at(&[]))).collect();
            if let Some(&first) = wide.first() {
                let extents: Vec<Extent> = inner(first).iter().map(|dim| Extent::Fixed(dim.fixed().unwrap_or(0))).collect();
                cx.nest(&extents, |cx, index| {
                    let values: Vec<_> = wide.iter().map(|&effect| cx.value(effect, &at(index))).collect();
                    for (&effect, value) in wide.iter().zip(values) {
                        cx.write_variable(effect, &at(index), value);
                    }
                });
            }
            for (&effect, value) in numbers.iter().zip(values) {
                cx.write_variable(effect, &at(&[]), value);
            }
        });
        let kernel = cx.finish(name);
        self.kernel(kernel)
    }
}

/// Whether a sum over items is one number, which a register holds until the last of them.
fn is_number(graph: &Graph, node: NodeId) -> bool {
    graph[node].ty.len() == Some(1) && !matches!(graph[node].op, Op::Scatter(_))
}

/// All work that is not a matrix product, in one loop over the items.
fn item_loop(
    cx: &mut Emitter<'_>,
    program: &Program,
    work: &[Work],
    lanes: &BTreeMap<NodeId, BufferId>,
    storage: &BTreeMap<NodeId, Storage>,
) {
    let graph = &program.graph;
    let mut totals = Vec::new();
    for piece in work {
        if let Work::Sum(node) = piece
            && is_number(graph, *node)
        {
            let ty = if graph[*node].ty.dtype == DType::F64 { Type::F64 } else { Type::F32 };
            totals.push((*node, cx.begin_total(ty)));
        }
    }
    cx.items(|cx| {
        let item = cx.item();
        for piece in work {
            match *piece {
                Work::Store(node) => {
                    let target = storage[&node];
                    cx.store_node(node, target, &item);
                }
                Work::Sum(node) => {
                    let operand = graph.operands(node)[0];
                    let dims = graph[node].ty.dims.clone();
                    if let Op::Scatter(_) = graph[node].op {
                        cx.scatter(node, lanes[&node], &item);
                        continue;
                    }
                    let by_item = cx.space_of(operand) == Space::Global;
                    let position = |index: &[Affine]| {
                        let index =
                            if by_item { std::iter::once(item.clone()).chain(index.iter().cloned()).collect() } else { index.to_vec() };
                        At { item: item.clone(), index }
                    };
                    match totals.iter().find(|(own, _)| *own == node) {
                        Some((_, total)) => {
                            let zeros = vec![Affine::default(); dims.len()];
                            let value = cx.value(operand, &position(&zeros));
                            cx.push(Stmt::Accumulate { reg: *total, combine: Combine::Add, value });
                        }
                        None => cx.accumulate(operand, lanes[&node], position, &dims),
                    }
                }
            }
        }
    });
    for (node, total) in totals {
        cx.store(lanes[&node], Affine::default(), total, true);
    }
}

/// A matrix product or the like as a statement.
fn product(
    cx: &mut Emitter<'_>,
    program: &Program,
    work: Work,
    lanes: &BTreeMap<NodeId, BufferId>,
    storage: &BTreeMap<NodeId, Storage>,
    bf16: bool,
) -> Stmt {
    let graph = &program.graph;
    let node = work.node();
    let operands = graph.operands(node);
    let (left, right) = (operands[0], operands[1]);
    let last = |node: NodeId| graph[node].ty.dims.last().and_then(|dim| dim.fixed()).unwrap_or(1) as i64;
    // Rows of an item, or of an entry.
    let leading = |node: NodeId| graph[node].ty.fixed_len() as i64 / last(node).max(1);
    let entries = graph[left].ty.entries();
    let rows = |node: NodeId| if entries.is_some() { Size::Entries(leading(node)) } else { Size::Items(leading(node)) };
    let of_items = |node: NodeId| {
        let place = storage.get(&node).unwrap_or_else(|| unreachable!("{node} of {} is not stored for its product", graph[node].origin));
        (place.buffer, place.item_stride)
    };
    match &graph[node].op {
        Op::BatchMatMul(op) => return item_product(cx, program, node, op, storage),
        Op::LogPartition(op) => return partition(cx, program, node, (PartitionPart::LogSums, op.table), storage),
        Op::MeanRow(op) => return partition(cx, program, node, (PartitionPart::MeanRows, op.table), storage),
        Op::QuerySum(op) => return partition(cx, program, node, (PartitionPart::SumsOfQueries, op.table), storage),
        _ => {}
    }
    // Elements from entry to entry, where rows are of entries.
    let entry = |node: NodeId| if entries.is_some() { graph[node].ty.fixed_len() as i64 } else { 0 };
    let mut matrix = |(buffer, item_stride): (BufferId, i64), row: i64, column: i64, entry: i64| Matrix {
        buffer: cx.arg_by_stride(buffer, item_stride),
        offset: 0,
        row,
        column,
        entry,
    };
    let product = if let Work::Sum(_) = work {
        let (m, n) = (last(left), last(right));
        MatMul {
            m: Size::Fixed(m),
            n: Size::Fixed(n),
            k: rows(left),
            a: matrix(of_items(left), 1, m, entry(left)),
            b: matrix(of_items(right), n, 1, entry(right)),
            dst: matrix((lanes[&node], 0), n, 1, 0),
            scales: None,
            accumulate: true,
            each: None,
            entries: None,
            heads: None,
            bf16: bf16 && m.min(n) >= LEAST_ROUNDED,
        }
    } else {
        let transposed = matches!(&graph[node].op, Op::MatMul(op) if op.transposed);
        let (k, n) = (last(left), last(node));
        let a = matrix(of_items(left), k, 1, entry(left));
        let dst = matrix(of_items(node), n, 1, entry(node));
        let (weight, scales) = match &graph[right].op {
            Op::Variable(op) => (cx.variable_buffer(op.id), cx.scales_buffer(op.id)),
            _ => (of_items(right).0, None),
        };
        let (row, column) = if transposed { (1, k) } else { (n, 1) };
        MatMul {
            m: rows(left),
            n: Size::Fixed(n),
            k: Size::Fixed(k),
            a,
            b: Matrix { buffer: cx.arg_by_stride(weight, 0), offset: 0, row, column, entry: 0 },
            dst,
            scales: scales.map(|scales| cx.arg_by_stride(scales, 0)),
            accumulate: false,
            each: None,
            entries: None,
            heads: None,
            bf16: bf16 && k.min(n) >= LEAST_ROUNDED,
        }
    };
    Stmt::MatMul(Box::new(MatMul { entries: entries.map(|column| cx.begins_arg(column)), ..product }))
}

/// A product of two matrices of each item, or of several side by side: the axis in the middle counts them.
fn item_product(
    cx: &mut Emitter<'_>,
    program: &Program,
    node: NodeId,
    op: &crate::ops::BatchMatMul,
    storage: &BTreeMap<NodeId, Storage>,
) -> Stmt {
    let graph = &program.graph;
    let operands = graph.operands(node);
    let size = |node: NodeId, axis: usize| match graph[node].ty.dims[axis] {
        Dim::Fixed(n) => Size::Fixed(n as i64),
        Dim::Entries(_) => Size::Entries(1),
    };
    let mut side = |node: NodeId, transposed: bool| {
        let place = storage.get(&node).unwrap_or_else(|| unreachable!("{node} of {} is not stored for its product", graph[node].origin));
        let ty = &graph[node].ty;
        let rank = ty.dims.len();
        // A pair's second entry lies among as many as there may be.
        let width = match ty.dims[rank - 1] {
            Dim::Fixed(n) => n as i64,
            Dim::Entries(column) => cx.longest(column),
        };
        let along = width * if rank == 3 { ty.dims[1].fixed().unwrap_or(1) as i64 } else { 1 };
        let (row, column) = if transposed { (1, along) } else { (along, 1) };
        let entry = if ty.entries().is_some() { along } else { 0 };
        let matrix = Matrix { buffer: cx.arg_by_stride(place.buffer, place.item_stride), offset: 0, row, column, entry };
        (matrix, place.item_stride, width)
    };
    let (dst, dst_item, dst_head) = side(node, false);
    let (a, a_item, a_head) = side(operands[0], op.left_transposed);
    let (b, b_item, b_head) = side(operands[1], op.right_transposed);
    let rank = graph[node].ty.dims.len();
    let columns = |node: NodeId| graph[node].ty.dims.len() - 1;
    let inner = if op.left_transposed { 0 } else { columns(operands[0]) };
    let column = [node, operands[0], operands[1]].into_iter().find_map(|node| graph[node].ty.entries());
    let heads = graph[node].ty.dims[1].fixed().filter(|_| rank == 3);
    Stmt::MatMul(Box::new(MatMul {
        m: size(node, 0),
        n: size(node, columns(node)),
        k: size(operands[0], inner),
        dst,
        a,
        b,
        scales: None,
        accumulate: false,
        each: Some(ItemStrides { dst: dst_item, a: a_item, b: b_item }),
        entries: column.map(|column| cx.begins_arg(column)),
        heads: heads.map(|heads| (heads as i64, ItemStrides { dst: dst_head, a: a_head, b: b_head })),
        bf16: false,
    }))
}

/// A part of a softmax over a table: its operands are queries and rows, and but for the sums themselves their logs and numbers.
fn partition(
    cx: &mut Emitter<'_>,
    program: &Program,
    node: NodeId,
    (part, table): (PartitionPart, TableId),
    storage: &BTreeMap<NodeId, Storage>,
) -> Stmt {
    let graph = &program.graph;
    let operands = graph.operands(node);
    let column = graph[operands[0]].ty.entries();
    let by_rows = part == PartitionPart::SumsOfQueries;
    let entries = column.filter(|_| !by_rows);
    let mut vectors = |node: NodeId, moves: bool| {
        let place = storage.get(&node).unwrap_or_else(|| unreachable!("{node} of {} is not stored for its softmax", graph[node].origin));
        let entry = if entries.is_some() && moves { graph[node].ty.fixed_len() as i64 } else { 0 };
        Vectors { buffer: cx.arg_by_stride(place.buffer, if moves { place.item_stride } else { 0 }), entry }
    };
    let (queries, rows, dst) = (vectors(operands[0], !by_rows), vectors(operands[1], by_rows), vectors(node, true));
    let sums = (!matches!(part, PartitionPart::LogSums)).then(|| [operands[2], operands[3]].map(|own| vectors(own, !by_rows)));
    let others = if by_rows { InputSource::Count { column } } else { InputSource::RowCount { table: table.0 } };
    let others = cx.global_arg(others);
    if let Some(column) = column {
        // The runtime counts entries by where they begin.
        cx.begins(column);
    }
    let items = if entries.is_some() { Size::Entries(1) } else { Size::Items(1) };
    let width = graph[operands[1]].ty.fixed_len() as i64;
    let entries = entries.map(|column| cx.begins_arg(column));
    Stmt::Partition(Box::new(Partition { part, width, items, entries, others, queries, rows, sums, dst }))
}

/// Variables that kernels multiply by, each way of reading one once.
fn factors(kernels: &[Kernel], buffers: &[Buffer]) -> Vec<Factor> {
    let mut factors = Vec::new();
    for kernel in kernels {
        for stmt in &kernel.body {
            let Stmt::MatMul(product) = stmt else { continue };
            let (Size::Fixed(columns), Size::Fixed(rows), None) = (product.n, product.k, product.each) else { continue };
            let Matrix { buffer, offset, row, column, .. } = product.b;
            let buffer = kernel.buffers[buffer].id;
            let factor = Factor { buffer, offset, rows, columns, row, column, bf16: product.bf16 };
            if matches!(buffers[buffer.0 as usize].place, Place::Variable(_)) && !factors.contains(&factor) {
                factors.push(factor);
            }
        }
    }
    factors
}
