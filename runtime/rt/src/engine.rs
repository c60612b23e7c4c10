//! The step runner: memory for a plan's buffers, and its kernels in order.
//!
//! Work is divided into lanes by the number of items alone; threads take lanes as they come. Each lane sums into accumulators of its own, so the
//! result is the same for any number of threads. Buffers are allocated when a batch is larger than any before.

use crate::batch::{Batch, grouping_part};
use crate::device::{self, Runner};
use crate::failure::Failure;
use crate::matmul::{FUNCTIONS, Prepared};
use crate::memory::Memory;
use crate::prefetch::Prefetch;
use crate::profile::Profile;
use crate::stored::Stored;
use recc_abi::{
    Buffer, BufferId, InputSource, ItemSpace, Job, KernelEntry, KernelFn, KernelFunctions, Launch, Place, Plan, Program, TILE_ENTRIES,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// The compiled code in memory.
#[derive(Clone, Copy)]
pub struct Code {
    /// First byte.
    pub base: *const u8,
    /// Bytes.
    pub len: usize,
}

// SAFETY: code is mapped read-only and executable for the life of the process.
unsafe impl Send for Code {}
// SAFETY: as above.
unsafe impl Sync for Code {}

impl Code {
    /// All of it.
    pub(crate) fn bytes(self) -> &'static [u8] {
        // SAFETY: mapped read-only for the life of the process.
        unsafe { std::slice::from_raw_parts(self.base, self.len) }
    }

    /// A kernel by its place in the code.
    fn kernel(self, offset: u64) -> Option<KernelFn> {
        if offset as usize >= self.len {
            return None;
        }
        // SAFETY: the program and the code come from one build, which put a function of this signature at the offset.
        Some(unsafe { std::mem::transmute::<*const u8, KernelFn>(self.base.add(offset as usize)) })
    }
}

/// A loaded program: the data and the code of an executable.
#[derive(Clone, Copy)]
pub(crate) struct Loaded<'p> {
    pub(crate) program: &'p Program,
    pub(crate) code: Code,
}

impl<'p> Loaded<'p> {
    pub(crate) fn engine(&self, pool: &'p rayon::ThreadPool) -> Result<Engine<'p>, Failure> {
        Engine::new(self.program, &self.program.step, Stored::default(), self.code, pool)
    }
}

/// Numbers of one step.
#[derive(Clone, Debug, Default)]
pub(crate) struct StepNumbers {
    /// Steps so far, this one included.
    pub(crate) step: u64,
    /// The schedule's factor of the learning rates.
    pub(crate) scale: f64,
    /// Seed of the run.
    pub(crate) seed: u64,
    /// Epoch, from 1.
    pub(crate) epoch: u32,
}

/// Memory and pointers of one plan.
pub(crate) struct Engine<'p> {
    plan: &'p Plan,
    kernels: Vec<KernelFn>,
    /// By buffer; empty for buffers that live elsewhere.
    memory: Vec<Option<Memory>>,
    scratch: Vec<Memory>,
    /// By thread: what lies by entries, for as many as a tile may have.
    entry_scratch: Vec<Memory>,
    tile_entries: usize,
    pool: &'p rayon::ThreadPool,
    capacity: usize,
    /// Variables that the plan does not read as they are trained.
    stored: Stored,
    prefetch: Prefetch,
    prepared: Prepared,
    /// Times of kernels, where they are asked for.
    pub(crate) profile: Option<Profile>,
    /// What runs the plan in place of this machine's processor; inputs and results alone have memory here then.
    device: Option<Runner<'p>>,
}

/// Base addresses of all buffers for one lane.
struct Pointers(Vec<*mut u8>);
// SAFETY: the pointers name buffers that outlive the launch; the plan keeps concurrent writers apart.
unsafe impl Send for Pointers {}
// SAFETY: as above.
unsafe impl Sync for Pointers {}

impl<'p> Engine<'p> {
    /// Runs one of a program's plans; `stored` holds the variables that it does not read as they are trained.
    pub(crate) fn new(
        program: &'p Program,
        plan: &'p Plan,
        stored: Stored,
        code: Code,
        pool: &'p rayon::ThreadPool,
    ) -> Result<Self, Failure> {
        if !stored.serves(plan) {
            return Err(Failure::internal("start", "a variable is not stored as its kernels read it"));
        }
        let device = device::open(program, code.bytes())?.map(|device| Runner::new(device, program, plan)).transpose()?;
        let find =
            |kernel: &KernelEntry| code.kernel(kernel.offset).ok_or_else(|| Failure::internal("start", "a kernel lies outside the code"));
        let kernels = if device.is_some() { Vec::new() } else { program.kernels.iter().map(find).collect::<Result<_, _>>()? };
        let scratch = if device.is_some() { 0 } else { plan.tile_bytes as usize };
        let scratch = Memory::zeroed_together(&vec![scratch; pool.current_num_threads()])?;
        // Buffers of a fixed size; those of a batch come with the first one.
        let fixed = |buffer: &Buffer| {
            let size = (buffer.len * buffer.element.bytes()) as usize;
            match buffer.place {
                Place::Global => Some(size),
                Place::Lane if device.is_some() => None,
                Place::Lane => Some(size * plan.lanes as usize),
                Place::Tile { .. } | Place::Across { .. } | Place::Batch | Place::Variable(_) | Place::Scales(_) | Place::Rows(_) => None,
                Place::Entries(_) | Place::TileEntries { .. } => None,
            }
        };
        let sizes: Vec<Option<usize>> = plan.buffers.iter().map(fixed).collect();
        let mut pieces = Memory::zeroed_together(&sizes.iter().copied().flatten().collect::<Vec<_>>())?.into_iter();
        let memory = sizes.into_iter().map(|size| size.and_then(|_| pieces.next())).collect();
        let (entry_scratch, tile_entries) = (Vec::new(), 0);
        Ok(Engine {
            plan,
            kernels,
            memory,
            scratch,
            entry_scratch,
            tile_entries,
            pool,
            capacity: 0,
            stored,
            prefetch: Prefetch::new(program, plan),
            prepared: Prepared::new(plan)?,
            profile: None,
            device,
        })
    }

    fn buffer(&self, id: usize) -> &Buffer {
        &self.plan.buffers[id]
    }

    /// Makes room for a batch; only a larger one than any before allocates.
    fn reserve(&mut self, batch: &Batch) -> Result<(), Failure> {
        let grown = batch.rows > self.capacity;
        self.capacity = self.capacity.max(batch.rows);
        let on_device = self.device.is_some();
        let longest = batch.entries.iter().map(|entries| entries.longest).max().unwrap_or(0);
        if !on_device && self.plan.entry_bytes > 0 && longest.max(TILE_ENTRIES) > self.tile_entries {
            self.tile_entries = longest.max(TILE_ENTRIES);
            let bytes = self.plan.entry_bytes as usize * self.tile_entries;
            self.entry_scratch = Memory::zeroed_together(&vec![bytes; self.scratch.len()])?;
        }
        for at in 0..self.memory.len() {
            let buffer = self.buffer(at);
            if on_device && !self.plan.outputs.iter().any(|output| output.buffer.0 as usize == at) {
                continue;
            }
            let size = (buffer.len * buffer.element.bytes()) as usize;
            let items = match buffer.place {
                Place::Batch if grown => self.capacity,
                Place::Rows(table) => batch.touched(table),
                Place::Entries(column) => batch.entries_of(column),
                _ => continue,
            };
            let known = self.memory[at].as_ref().map_or(0, Memory::len);
            if known < size * items {
                // Half as much again: the number of touched rows differs from batch to batch.
                self.memory[at] = Some(Memory::zeroed(size * items + size * items / 2)?);
            }
        }
        Ok(())
    }

    /// Writes an input that exists once.
    pub(crate) fn write_global(&mut self, source: &InputSource, values: &[u32]) {
        for input in &self.plan.inputs {
            if input.source == *source
                && let Some(memory) = &mut self.memory[input.buffer.0 as usize]
            {
                let words = memory.floats_mut();
                values.iter().zip(words).for_each(|(value, word)| *word = f32::from_bits(*value));
            }
        }
    }

    /// Inputs the runtime fills once per model: bases of tables, moments of columns.
    pub(crate) fn sources(&self) -> Vec<InputSource> {
        self.plan.inputs.iter().map(|input| input.source.clone()).collect()
    }

    fn write_numbers(&mut self, batch: &Batch, numbers: &StepNumbers) {
        for input in &self.plan.inputs {
            let value = match &input.source {
                InputSource::BatchRows => (batch.rows as f32).to_bits(),
                InputSource::StepNumber => numbers.step as u32,
                InputSource::Count { column: None } => batch.rows as u32,
                InputSource::Count { column: Some(column) } => batch.entries_of(*column) as u32,
                InputSource::RowCount { table } => batch.touched(*table) as u32,
                InputSource::RateScale => (numbers.scale as f32).to_bits(),
                InputSource::BiasCorrection { beta } => ((1.0 / (1.0 - beta.powf(numbers.step as f64))) as f32).to_bits(),
                InputSource::RandomKey { site } => {
                    crate::random::key(crate::random::mix64(numbers.seed) ^ u64::from(numbers.epoch), site) as u32
                }
                _ => continue,
            };
            if let Some(memory) = &mut self.memory[input.buffer.0 as usize] {
                memory.floats_mut()[0] = f32::from_bits(value);
            }
        }
    }

    fn pointers(&self, batch: &Batch, variables: &[Memory]) -> Pointers {
        let mut pointers: Vec<*mut u8> = (0..self.memory.len())
            .map(|at| match self.buffer(at).place {
                Place::Variable(id) => self.stored.get(id.0).map_or(&variables[id.0 as usize], |packed| &packed.elements).pointer(),
                Place::Scales(id) => {
                    let scales = self.stored.get(id.0).and_then(|packed| packed.scales.as_ref());
                    scales.map_or(std::ptr::null_mut(), Memory::pointer)
                }
                _ => self.memory[at].as_ref().map_or(std::ptr::null_mut(), Memory::pointer),
            })
            .collect();
        for (input, words) in self.plan.inputs.iter().zip(&batch.inputs) {
            let words = grouping_part(batch, &input.source).unwrap_or(words);
            if !words.is_empty() || matches!(input.source, InputSource::Rows { .. }) {
                // Kernels only read inputs.
                pointers[input.buffer.0 as usize] = words.as_ptr().cast_mut().cast();
            }
        }
        Pointers(pointers)
    }

    /// A whole step, or a scoring call.
    pub(crate) fn run(&mut self, batch: &Batch, variables: &[Memory], numbers: &StepNumbers) -> Result<(), Failure> {
        self.forward(batch, variables, numbers)?;
        self.fetch(batch)?;
        self.update(batch, variables)
    }

    /// The part of a step that changes no variable; a device is still at it when this returns, until [`Engine::fetch`] does.
    pub(crate) fn forward(&mut self, batch: &Batch, variables: &[Memory], numbers: &StepNumbers) -> Result<(), Failure> {
        self.reserve(batch)?;
        self.write_numbers(batch, numbers);
        let plan = self.plan;
        let launches = plan.launches.iter().take(plan.first_update as usize);
        if let Some(device) = &mut self.device {
            let known = |at: usize| self.memory[at].as_ref().map_or(&[][..], |memory| bytemuck::cast_slice(memory.bytes()));
            device.begin(batch, known, variables, &self.stored)?;
            return launches.into_iter().try_for_each(|launch| device.launch(launch, batch));
        }
        let pointers = self.pointers(batch, variables);
        // SAFETY: the pointers are this batch's.
        unsafe { self.prepared.fill(batch.rows, &pointers.0, self.pool) };
        launches.for_each(|launch| self.launch(launch, batch, &pointers));
        Ok(())
    }

    /// The part of a step that changes variables.
    pub(crate) fn update(&mut self, batch: &Batch, variables: &[Memory]) -> Result<(), Failure> {
        let plan = self.plan;
        let mut launches = plan.launches.iter().skip(plan.first_update as usize);
        if let Some(device) = &mut self.device {
            launches.try_for_each(|launch| device.launch(launch, batch))?;
            return device.end();
        }
        let pointers = self.pointers(batch, variables);
        launches.for_each(|launch| self.launch(launch, batch, &pointers));
        Ok(())
    }

    /// Lets the inputs of the next step cross to a device while it computes this one: what follows must be a step on this batch.
    pub(crate) fn send_ahead(&mut self, next: &Batch) -> Result<(), Failure> {
        self.device.as_mut().map_or(Ok(()), |device| device.send_ahead(next))
    }

    /// Waits for a plan's results, and makes them known here.
    pub(crate) fn fetch(&mut self, batch: &Batch) -> Result<(), Failure> {
        let Some(device) = &self.device else { return Ok(()) };
        for output in &self.plan.outputs {
            let buffer = &self.plan.buffers[output.buffer.0 as usize];
            let items = if buffer.place == Place::Batch { batch.rows } else { 1 };
            let bytes = (buffer.len * buffer.element.bytes()) as usize * items;
            if let Some(memory) = &mut self.memory[output.buffer.0 as usize] {
                device.read(output.buffer, &mut memory.bytes_mut()[..bytes])?;
            }
        }
        Ok(())
    }

    /// Reads the variables on a device where another engine trains them, in place of copies of this machine's.
    pub(crate) fn share(&mut self, other: &Engine<'_>) {
        if let (Some(own), Some(other)) = (&mut self.device, &other.device) {
            own.share(other);
        }
    }

    /// Copies what a device has made of the variables back.
    pub(crate) fn bring_back(&self, variables: &mut [Memory]) -> Result<(), Failure> {
        self.device.as_ref().map_or(Ok(()), |device| device.bring_back(variables))
    }

    fn items(&self, space: ItemSpace, batch: &Batch) -> (usize, usize) {
        match space {
            ItemSpace::Examples => (batch.rows, self.plan.tile as usize),
            ItemSpace::Rows(table) => (batch.touched(table), 256),
            ItemSpace::Fixed { items, tile } => (items as usize, tile as usize),
        }
    }

    fn launch(&self, launch: &Launch, batch: &Batch, pointers: &Pointers) {
        let lanes = self.plan.lanes as usize;
        let next = AtomicUsize::new(0);
        let work = |thread: usize| {
            let mut own = pointers.0.clone();
            for (at, buffer) in self.plan.buffers.iter().enumerate() {
                if let Place::Tile { offset } | Place::Across { offset } = buffer.place {
                    // SAFETY: the plan keeps offsets inside `tile_bytes`, which the scratch has.
                    own[at] = unsafe { self.scratch[thread].pointer().add(offset as usize) };
                }
            }
            loop {
                let ticket = next.fetch_add(1, Ordering::Relaxed);
                let Some(job) = launch.jobs.get(ticket / lanes) else { return };
                self.lane(job, ticket % lanes, batch, &mut own, thread);
            }
        };
        let small = launch.jobs.iter().all(|job| self.items(job.space, batch).0 <= 64);
        if self.pool.current_num_threads() == 1 || small {
            work(0);
        } else {
            self.pool.broadcast(|context| work(context.index()));
        }
    }

    /// One lane of a job: its tiles in order.
    fn lane(&self, job: &Job, lane: usize, batch: &Batch, pointers: &mut [*mut u8], thread: usize) {
        let (items, tile) = self.items(job.space, batch);
        let functions = KernelFunctions { prepared: &raw const self.prepared as usize, ..FUNCTIONS };
        for id in &job.accumulators {
            let buffer = &self.plan.buffers[id.0 as usize];
            let bytes = (buffer.len * buffer.element.bytes()) as usize;
            if let Some(memory) = &self.memory[id.0 as usize] {
                // SAFETY: the buffer holds one copy per lane, and this lane's is written by this thread alone.
                unsafe {
                    let own = memory.pointer().add(lane * bytes);
                    std::ptr::write_bytes(own, 0, bytes);
                    pointers[id.0 as usize] = own;
                }
            }
        }
        let per_lane = items.div_ceil(tile).div_ceil(self.plan.lanes as usize) * tile;
        let end = items.min((lane + 1) * per_lane);
        let mut start = lane * per_lane;
        while start < end {
            let rows = match job.space {
                ItemSpace::Examples => self.tile_of_entries(start, tile.min(end - start), batch, pointers, thread),
                ItemSpace::Rows(_) | ItemSpace::Fixed { .. } => tile.min(end - start),
            };
            // SAFETY: the pointers are this batch's, and the tile lies inside it.
            unsafe { self.prefetch.ask(job, start, rows, pointers) };
            for (most, kernels) in job.by_parts() {
                let most = usize::try_from(most).unwrap_or(usize::MAX);
                for first in (0..rows).step_by(most) {
                    let rows = most.min(rows - first);
                    if most < tile {
                        self.move_across(first, pointers, thread);
                    }
                    for kernel in kernels {
                        let begin = self.profile.as_ref().map(|_| Instant::now());
                        // SAFETY: the kernel was compiled for this plan; all buffers it names are allocated for at least these items.
                        unsafe {
                            (self.kernels[*kernel as usize])(pointers.as_ptr(), (start + first) as i64, rows as i64, &raw const functions);
                        };
                        if let (Some(profile), Some(begin)) = (&self.profile, begin) {
                            profile.add(*kernel, rows, begin);
                        }
                    }
                }
                if most < tile {
                    self.move_across(0, pointers, thread);
                }
            }
            start += rows;
        }
        for id in &job.accumulators {
            if let Some(memory) = &self.memory[id.0 as usize] {
                pointers[id.0 as usize] = memory.pointer();
            }
        }
    }

    /// Lets values that go from one part of a tile to others begin at one of its examples.
    fn move_across(&self, example: usize, pointers: &mut [*mut u8], thread: usize) {
        for (pointer, buffer) in pointers.iter_mut().zip(&self.plan.buffers) {
            if let Place::Across { offset } = buffer.place {
                let bytes = offset + example as u64 * buffer.len * buffer.element.bytes();
                *pointer = self.scratch[thread].pointer().wrapping_add(bytes as usize);
            }
        }
    }

    /// How many of some examples fit a tile by their entries. What lies by entries is addressed from the batch's first one, so the
    /// bases move back by those before the tile.
    fn tile_of_entries(&self, start: usize, most: usize, batch: &Batch, pointers: &mut [*mut u8], thread: usize) -> usize {
        let Some(scratch) = self.entry_scratch.get(thread) else { return most };
        // By this batch alone, not by the room that longer ones before it made: where sums end must not depend on what ran before.
        let room = batch.entries.iter().map(|entries| entries.longest).max().unwrap_or(0).max(TILE_ENTRIES);
        let mut rows = most;
        for entries in &batch.entries {
            let begins = &batch.inputs[entries.input];
            let fits = |end: &u32| (end - begins[start]) as usize <= room;
            rows = begins[start + 1..=start + rows].partition_point(fits).max(1);
        }
        for (at, buffer) in self.plan.buffers.iter().enumerate() {
            if let Place::TileEntries { column, offset } = buffer.place
                && let Some(entries) = batch.entries.iter().find(|entries| entries.column == column)
            {
                let first = batch.inputs[entries.input][start] as usize * (buffer.len * buffer.element.bytes()) as usize;
                pointers[at] = scratch.pointer().wrapping_add(offset as usize * self.tile_entries).wrapping_sub(first);
            }
        }
        rows
    }

    /// A result of the last run.
    pub(crate) fn output(&self, name: &str, count: usize) -> &[f32] {
        let found = self.plan.outputs.iter().find(|output| output.name == name);
        let memory = found.and_then(|output: &recc_abi::Output| self.memory_of(output.buffer));
        memory.map_or(&[], |memory| memory.floats().get(..count).unwrap_or_default())
    }

    fn memory_of(&self, id: BufferId) -> Option<&Memory> {
        self.memory.get(id.0 as usize)?.as_ref()
    }
}
