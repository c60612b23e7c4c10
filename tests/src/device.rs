//! Runs a plan on the interpreter of what a graphics processor runs.

use crate::native::{Outcome, bag_slots, memory, outcome};
use recc_abi::{DeviceFunction, ItemSpace, Job, Place, Plan};
use recc_codegen::{Module, emit_ptx};
use recc_core::graph::TableId;
use recc_core::graph::reference::Data;
use recc_core::loops::verify;
use recc_core::plan::Planned;
use recc_gpu::{Call, Counts, Function, Memory, parse, run as call};
use std::collections::BTreeMap;

/// The module of a plan.
pub fn module(planned: &Planned) -> Module {
    let verified: Vec<_> =
        planned.kernels.iter().map(|kernel| verify(kernel).unwrap_or_else(|found| panic!("{found:?}\n{kernel}"))).collect();
    emit_ptx(&planned.plan, &verified)
}

/// Runs a plan once.
pub fn run(planned: &Planned, data: &Data, bags: &BTreeMap<(u32, u32), u32>) -> Result<Outcome, String> {
    counted(planned, data, bags).map(|(outcome, _)| outcome)
}

/// Runs a plan once, and counts what each function did.
pub fn counted(planned: &Planned, data: &Data, bags: &BTreeMap<(u32, u32), u32>) -> Result<(Outcome, BTreeMap<String, Counts>), String> {
    let plan = &planned.plan;
    let module = module(planned);
    let functions = parse(&module.text())?;
    let mut words = memory(plan, data, bags);
    let mut device = Device { plan, data, functions, memory: Memory::default(), addresses: Vec::new(), calls: 0, counts: BTreeMap::new() };
    device.allocate(&words)?;
    for job in plan.launches.iter().flat_map(|launch| &launch.jobs) {
        device.job(job, &module.kernels)?;
    }
    for (words, (buffer, address)) in words.iter_mut().zip(plan.buffers.iter().zip(&device.addresses)) {
        if !buffer.place.is_scratch() {
            let bytes = device.memory.read(*address, 4 * words.len())?;
            *words = bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect();
        }
    }
    Ok((outcome(plan, &words), device.counts))
}

struct Device<'d> {
    plan: &'d Plan,
    data: &'d Data,
    functions: Vec<Function>,
    memory: Memory,
    /// Of each buffer.
    addresses: Vec<u64>,
    calls: u32,
    counts: BTreeMap<String, Counts>,
}

impl Device<'_> {
    /// A place for each buffer; what a run finds written has its words.
    fn allocate(&mut self, words: &[Vec<u32>]) -> Result<(), String> {
        let scratch = self.memory.allocate(self.plan.tile_bytes as usize);
        let entries = self.data.bags.values().map(|bags| bags.iter().map(Vec::len).sum::<usize>()).max().unwrap_or(0) as u64;
        let entry_scratch = self.memory.allocate((self.plan.entry_bytes * entries) as usize);
        for (at, (buffer, words)) in self.plan.buffers.iter().zip(words).enumerate() {
            let address = match buffer.place {
                Place::Tile { offset } | Place::Across { offset } => scratch + offset,
                Place::TileEntries { offset, .. } => entry_scratch + offset * entries,
                _ => self.memory.allocate(4 * words.len()),
            };
            let is_input = self.plan.inputs.iter().any(|input| input.buffer.0 as usize == at);
            if is_input || matches!(buffer.place, Place::Variable(_) | Place::Scales(_)) {
                self.memory.write(address, &words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>())?;
            }
            self.addresses.push(address);
        }
        Ok(())
    }

    fn job(&mut self, job: &Job, kernels: &[Vec<DeviceFunction>]) -> Result<(), String> {
        let (items, tile) = match job.space {
            ItemSpace::Examples => (self.data.rows, self.plan.tile as usize),
            ItemSpace::Rows(table) => (self.data.touched[&TableId(table)].rows.len(), usize::MAX),
            ItemSpace::Fixed { items, .. } => (items as usize, usize::MAX),
        };
        for id in &job.accumulators {
            let buffer = &self.plan.buffers[id.0 as usize];
            let zeroes = vec![0; (buffer.len * buffer.element.bytes() * self.plan.lanes) as usize];
            self.memory.write(self.addresses[id.0 as usize], &zeroes)?;
        }
        for start in (0..items).step_by(tile.min(items.max(1))) {
            for function in job.kernels.iter().flat_map(|kernel| &kernels[*kernel as usize]) {
                self.call(function, start, tile.min(items - start))?;
            }
        }
        Ok(())
    }

    fn call(&mut self, function: &DeviceFunction, start: usize, rows: usize) -> Result<(), String> {
        let entries = |column: u32, each: bool| {
            let lengths = self.data.bags[&column][start..start + rows].iter().map(Vec::len);
            if each { lengths.max().unwrap_or(0) as u32 } else { lengths.sum::<usize>() as u32 }
        };
        let lanes = self.plan.lanes as u32;
        let blocks = function.grid.blocks(rows as u32, lanes, entries);
        let address = |id: &recc_abi::BufferId| match self.plan.buffers[id.0 as usize].place {
            // Addressed from the batch's first entry.
            Place::TileEntries { column, .. } if start > 0 => {
                let buffer = &self.plan.buffers[id.0 as usize];
                let before = bag_slots(self.data, column)[start] as u64 * buffer.len * buffer.element.bytes();
                self.addresses[id.0 as usize].wrapping_sub(before)
            }
            _ => self.addresses[id.0 as usize],
        };
        let numbers = function.numbers.iter().map(|number| u64::from(number.cast_unsigned()));
        let own = [start as u64, rows as u64, (rows as u32).div_ceil(lanes) as u64];
        let params: Vec<u64> = function.buffers.iter().map(address).chain(own).chain(numbers).collect();
        let text = self.functions.iter().find(|own| own.name == function.name).ok_or("a function that is not in the module")?;
        self.calls += 1;
        let counts = call(text, &Call { grid: blocks.grid, threads: blocks.threads, params: &params }, self.calls, &mut self.memory)?;
        let sum = self.counts.entry(function.name.clone()).or_default();
        sum.instructions += counts.instructions;
        sum.requests += counts.requests;
        sum.bytes += counts.bytes;
        sum.sectors += counts.sectors;
        sum.shared_requests += counts.shared_requests;
        sum.shared_turns += counts.shared_turns;
        Ok(())
    }
}
