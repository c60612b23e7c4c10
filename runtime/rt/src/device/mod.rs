//! The step runner of a device: a plan's buffers in its memory, and its kernels as calls of functions, each over the whole batch.
//!
//! Variables go to the device before the first step and stay there; a batch's inputs go there together, those of the next one while a step is computed.

mod driver;
mod inputs;

use crate::batch::Batch;
use crate::failure::Failure;
use crate::memory::Memory;
use crate::profile::Profile;
use crate::stored::Stored;
use driver::{Device, DeviceMemory, Function};
use inputs::Inputs;
use recc_abi::{Buffer, BufferId, DeviceFunction, ItemSpace, Job, Launch, Place, Plan, Program};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

/// Bytes of values by entries that a tile may have: more examples would not be faster.
const MOST_ENTRY_SCRATCH: u64 = 2 << 30;
/// Entries between two buffers of them are multiples of this.
const ALIGN: usize = 64;

/// Opens the device that a program is for, if it is for one.
pub(crate) fn open(program: &Program, code: &[u8]) -> Result<Option<&'static Device>, Failure> {
    let Some(kernels) = &program.device else { return Ok(None) };
    driver::open(code, kernels.iter().flatten().map(|function| function.name.clone())).map(Some)
}

/// What computes, for people.
pub(crate) fn name(program: &Program, code: &[u8]) -> Result<Option<&'static str>, Failure> {
    Ok(open(program, code)?.map(|device| device.name.as_str()))
}

/// A plan on a device.
pub(crate) struct Runner<'p> {
    device: &'static Device,
    plan: &'p Plan,
    /// By kernel.
    functions: Vec<Vec<(Function, &'p DeviceFunction)>>,
    /// By buffer; nothing for those that lie in another one's memory. Variables may be another runner's too.
    memory: Vec<Option<Arc<DeviceMemory>>>,
    /// By buffer that grows with batches.
    growing: BTreeMap<usize, DeviceMemory>,
    scratch: DeviceMemory,
    entry_scratch: DeviceMemory,
    inputs: Inputs,
    /// By buffer, whether it is one of those.
    is_input: Vec<bool>,
    /// Of each buffer, in this step.
    addresses: Vec<u64>,
    /// Times of kernels, where they are asked for: each is waited for then.
    pub(crate) profile: Option<Profile>,
}

impl<'p> Runner<'p> {
    pub(crate) fn new(device: &'static Device, program: &'p Program, plan: &'p Plan) -> Result<Runner<'p>, Failure> {
        device.enter()?;
        let functions =
            program.device.iter().flatten().map(|own| {
                own.iter().map(|function| Ok((device.function(&function.name)?, function))).collect::<Result<Vec<_>, Failure>>()
            });
        let mut is_input = vec![false; plan.buffers.len()];
        plan.inputs.iter().for_each(|input| is_input[input.buffer.0 as usize] = true);
        let mut memory = Vec::new();
        for (buffer, is_input) in plan.buffers.iter().zip(&is_input) {
            let size = (buffer.len * buffer.element.bytes()) as usize;
            memory.push(match buffer.place {
                _ if *is_input => None,
                Place::Global => Some(Arc::new(DeviceMemory::new(device, size)?)),
                Place::Lane => Some(Arc::new(DeviceMemory::new(device, size * plan.lanes as usize)?)),
                _ => None,
            });
        }
        Ok(Runner {
            device,
            plan,
            functions: functions.collect::<Result<_, _>>()?,
            memory,
            growing: BTreeMap::new(),
            scratch: DeviceMemory::new(device, plan.tile_bytes as usize)?,
            entry_scratch: DeviceMemory::new(device, 0)?,
            inputs: Inputs::new(device)?,
            is_input,
            addresses: vec![0; plan.buffers.len()],
            profile: None,
        })
    }

    /// Makes everything ready for a step: memory, inputs, and at first the variables. `known` has the words of the inputs that no batch holds.
    pub(crate) fn begin<'b>(
        &mut self,
        batch: &'b Batch,
        known: impl Fn(usize) -> &'b [u32],
        variables: &[Memory],
        stored: &Stored,
    ) -> Result<(), Failure>
    where
        'p: 'b,
    {
        self.device.enter()?;
        self.fill(variables, stored)?;
        self.reserve(batch)?;
        let entries = self.tile_entries(batch) as u64;
        for (at, buffer) in self.plan.buffers.iter().enumerate() {
            self.addresses[at] = match buffer.place {
                Place::Tile { offset } | Place::Across { offset } => self.scratch.address() + offset,
                Place::TileEntries { offset, .. } => self.entry_scratch.address() + offset * entries,
                _ => self.memory_of(at).map_or(0, DeviceMemory::address),
            };
        }
        self.inputs.send(self.plan, batch, known, &mut self.addresses)
    }

    /// Copies the inputs of the next step to the device while this one is computed.
    pub(crate) fn send_ahead(&mut self, batch: &Batch) -> Result<(), Failure> {
        self.inputs.send_ahead(self.plan, batch)
    }

    /// All kernels of the step have been started.
    pub(crate) fn end(&self) -> Result<(), Failure> {
        self.inputs.end(self.device)
    }

    /// Reads the variables that another runner trains, as they are there.
    pub(crate) fn share(&mut self, other: &Runner<'_>) {
        for (own, buffer) in self.memory.iter_mut().zip(&self.plan.buffers) {
            let same = |(_, theirs): &(_, &Buffer)| theirs.place == buffer.place && theirs.element == buffer.element;
            if let Place::Variable(_) = buffer.place
                && let Some((memory, _)) = other.memory.iter().zip(&other.plan.buffers).find(same)
            {
                own.clone_from(memory);
            }
        }
    }

    /// Copies variables that are not there yet to the device.
    fn fill(&mut self, variables: &[Memory], stored: &Stored) -> Result<(), Failure> {
        let values = |buffer: &Buffer| match buffer.place {
            Place::Variable(id) => Some(stored.get(id.0).map_or(&variables[id.0 as usize], |packed| &packed.elements)),
            Place::Scales(id) => stored.get(id.0).and_then(|packed| packed.scales.as_ref()),
            _ => None,
        };
        let missing = self.memory.iter_mut().zip(&self.plan.buffers).filter(|(memory, _)| memory.is_none());
        let missing: Vec<_> = missing.filter_map(|(memory, buffer)| values(buffer).map(|values| (memory, values))).collect();
        let bytes: usize = missing.iter().map(|(_, values)| values.len()).sum();
        if bytes > driver::free_bytes()? {
            return Err(driver::no_room("tables, parameters and what the optimizer keeps of them", bytes));
        }
        for (memory, values) in missing {
            let filled = DeviceMemory::new(self.device, values.len())?;
            filled.write(values.bytes())?;
            *memory = Some(Arc::new(filled));
        }
        Ok(())
    }

    fn memory_of(&self, buffer: usize) -> Option<&DeviceMemory> {
        self.memory[buffer].as_deref().or_else(|| self.growing.get(&buffer))
    }

    /// Makes room for a batch.
    fn reserve(&mut self, batch: &Batch) -> Result<(), Failure> {
        for (at, buffer) in self.plan.buffers.iter().enumerate().filter(|(at, _)| !self.is_input[*at]) {
            let items = match buffer.place {
                Place::Batch => batch.rows,
                Place::Rows(table) => batch.touched(table),
                Place::Entries(column) => batch.entries_of(column),
                _ => continue,
            };
            let bytes = (buffer.len * buffer.element.bytes()) as usize * items;
            match self.growing.entry(at) {
                Entry::Occupied(mut own) => own.get_mut().grow(bytes)?,
                Entry::Vacant(place) => {
                    place.insert(DeviceMemory::new(self.device, bytes)?);
                }
            }
        }
        self.entry_scratch.grow(self.plan.entry_bytes as usize * self.tile_entries(batch))
    }

    /// Entries of a column that a tile may have: all of the batch, if their values have room, but those of one example at least. What lies by entries begins at lines
    /// of the cache.
    fn tile_entries(&self, batch: &Batch) -> usize {
        let all = batch.entries.iter().map(|entries| entries.count).max().unwrap_or(0);
        let longest = batch.entries.iter().map(|entries| entries.longest).max().unwrap_or(0);
        let room = (MOST_ENTRY_SCRATCH / self.plan.entry_bytes.max(1)) as usize;
        all.min(room.max(longest)).next_multiple_of(ALIGN)
    }

    /// How many examples from one on are a tile.
    fn tile_rows(&self, start: usize, most: usize, batch: &Batch) -> usize {
        if self.plan.entry_bytes == 0 {
            return most;
        }
        let room = self.tile_entries(batch);
        batch.entries.iter().fold(most, |rows, entries| {
            let begins = &batch.inputs[entries.input];
            begins[start + 1..=start + rows].partition_point(|end| (end - begins[start]) as usize <= room).max(1)
        })
    }

    /// Starts the kernels of a launch.
    pub(crate) fn launch(&mut self, launch: &Launch, batch: &Batch) -> Result<(), Failure> {
        for job in &launch.jobs {
            for id in &job.accumulators {
                let buffer = &self.plan.buffers[id.0 as usize];
                let bytes = (buffer.len * buffer.element.bytes() * self.plan.lanes) as usize;
                if let Some(memory) = &self.memory[id.0 as usize] {
                    memory.clear(bytes)?;
                }
            }
            let (items, tile) = match job.space {
                ItemSpace::Examples => (batch.rows, self.plan.tile as usize),
                ItemSpace::Rows(table) => (batch.touched(table), usize::MAX),
                ItemSpace::Fixed { items, .. } => (items as usize, usize::MAX),
            };
            let mut start = 0;
            while start < items {
                let rows = tile.min(items - start);
                let rows = if job.space == ItemSpace::Examples { self.tile_rows(start, rows, batch) } else { rows };
                self.tile(job, (start, rows), batch)?;
                start += rows;
            }
        }
        Ok(())
    }

    /// All kernels of a job on some items.
    fn tile(&self, job: &Job, (start, rows): (usize, usize), batch: &Batch) -> Result<(), Failure> {
        let begins = |column: u32| {
            let own = batch.entries.iter().find(|entries| entries.column == column);
            own.map_or(&[][..], |own| &batch.inputs[own.input][start..=start + rows])
        };
        let entries = |column: u32, each: bool| {
            let begins = begins(column);
            let most = || begins.windows(2).map(|pair| pair[1] - pair[0]).max();
            if each { most().unwrap_or(0) } else { begins.last().zip(begins.first()).map_or(0, |(last, first)| last - first) }
        };
        let lanes = self.plan.lanes as u32;
        let address = |id: &BufferId| {
            let buffer = &self.plan.buffers[id.0 as usize];
            match (buffer.place, job.space) {
                // Addressed from the batch's first entry, and there is room for those of a tile.
                (Place::TileEntries { column, .. }, ItemSpace::Examples) => {
                    let before = u64::from(begins(column).first().copied().unwrap_or(0)) * buffer.len * buffer.element.bytes();
                    self.addresses[id.0 as usize].wrapping_sub(before)
                }
                _ => self.addresses[id.0 as usize],
            }
        };
        for &kernel in &job.kernels {
            let timed = self.profile.as_ref().map(|profile| self.device.timer().map(|timer| (profile, timer))).transpose()?;
            for (function, own) in &self.functions[kernel as usize] {
                let blocks = own.grid.blocks(rows as u32, lanes, entries);
                if blocks.grid.contains(&0) {
                    continue;
                }
                let items = [start as u64, rows as u64, u64::from((rows as u32).div_ceil(lanes))];
                let numbers = own.numbers.iter().map(|number| u64::from(number.cast_unsigned()));
                let mut words: Vec<u64> = own.buffers.iter().map(address).chain(items).chain(numbers).collect();
                // SAFETY: the function was compiled for this plan, and its buffers have room for the items.
                unsafe { self.device.launch(*function, blocks, &mut words)? };
            }
            if let Some((profile, timer)) = timed {
                profile.add(kernel, rows, timer.stop()?);
            }
        }
        Ok(())
    }

    /// Copies a buffer from the device, and waits for all work before.
    pub(crate) fn read(&self, id: BufferId, out: &mut [u8]) -> Result<(), Failure> {
        let memory = self.memory_of(id.0 as usize);
        memory.ok_or_else(|| Failure::internal("step", "a result that has no memory on the device"))?.read(0, out)
    }

    /// Copies the variables back to this machine's memory.
    pub(crate) fn bring_back(&self, variables: &mut [Memory]) -> Result<(), Failure> {
        self.device.enter()?;
        for (at, buffer) in self.plan.buffers.iter().enumerate() {
            if let (Place::Variable(id), Some(memory)) = (buffer.place, &self.memory[at]) {
                memory.read(0, variables[id.0 as usize].bytes_mut())?;
            }
        }
        Ok(())
    }
}
