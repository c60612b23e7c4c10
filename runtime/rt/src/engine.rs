//! The step runner: memory for a plan's buffers, and its launches in order, by a processor or a device.

use crate::batch::{Batch, grouping_part};
use crate::code::Code;
use crate::device::{self, Runner};
use crate::failure::Failure;
use crate::memory::Memory;
use crate::processor::{Pointers, Processor};
use crate::profile::Profile;
use crate::stored::Stored;
use recc_abi::{Buffer, BufferId, InputSource, Place, Plan, Program};
use std::sync::mpsc::Receiver;

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

/// What runs a plan.
enum Machine<'p> {
    Processor(Box<Processor<'p>>),
    Device(Box<Runner<'p>>),
}

/// A plan with the memory of its buffers: of a device here only what goes there and comes back.
pub(crate) struct Engine<'p> {
    plan: &'p Plan,
    machine: Machine<'p>,
    /// By buffer; empty for buffers that live elsewhere.
    memory: Vec<Option<Memory>>,
    /// By buffer, whether it may have memory here.
    is_here: Vec<bool>,
    capacity: usize,
    /// Variables that the plan does not read as they are trained.
    stored: Stored,
}

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
        let machine = match device::open(program, code.bytes())? {
            Some(device) => Machine::Device(Box::new(Runner::new(device, program, plan)?)),
            None => Machine::Processor(Box::new(Processor::new(program, plan, code, pool)?)),
        };
        let mut is_here = vec![matches!(machine, Machine::Processor(_)); plan.buffers.len()];
        let handed_over = plan.inputs.iter().map(|input| input.buffer).chain(plan.outputs.iter().map(|output| output.buffer));
        handed_over.for_each(|id| is_here[id.0 as usize] = true);
        // Buffers of a fixed size; those of a batch come with the first one.
        let fixed = |(buffer, is_here): (&Buffer, &bool)| {
            let size = (buffer.len * buffer.element.bytes()) as usize;
            match buffer.place {
                Place::Global if *is_here => Some(size),
                Place::Lane if *is_here => Some(size * plan.lanes as usize),
                Place::Global | Place::Lane | Place::Tile { .. } | Place::Across { .. } | Place::Batch | Place::Rows(_) => None,
                Place::Variable(_) | Place::Scales(_) | Place::Entries(_) | Place::TileEntries { .. } => None,
            }
        };
        let sizes: Vec<Option<usize>> = plan.buffers.iter().zip(&is_here).map(fixed).collect();
        let mut pieces = Memory::zeroed_together(&sizes.iter().copied().flatten().collect::<Vec<_>>())?.into_iter();
        let memory = sizes.into_iter().map(|size| size.and_then(|_| pieces.next())).collect();
        Ok(Engine { plan, machine, memory, is_here, capacity: 0, stored })
    }

    /// Times kernels from here on.
    pub(crate) fn profile(&mut self, profile: Profile) {
        match &mut self.machine {
            Machine::Processor(processor) => processor.profile = Some(profile),
            Machine::Device(device) => device.profile = Some(profile),
        }
    }

    /// The times of kernels, where they were asked for.
    pub(crate) fn profiled(&self) -> Option<&Profile> {
        match &self.machine {
            Machine::Processor(processor) => processor.profile.as_ref(),
            Machine::Device(device) => device.profile.as_ref(),
        }
    }

    /// Makes room for a batch; only a larger one than any before allocates.
    fn reserve(&mut self, batch: &Batch) -> Result<(), Failure> {
        let grown = batch.rows > self.capacity;
        self.capacity = self.capacity.max(batch.rows);
        for at in (0..self.memory.len()).filter(|at| self.is_here[*at]) {
            let buffer = &self.plan.buffers[at];
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
        match &mut self.machine {
            Machine::Processor(processor) => processor.reserve(batch),
            Machine::Device(_) => Ok(()),
        }
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

    /// A whole step, or a scoring call.
    pub(crate) fn run(&mut self, batch: &Batch, variables: &[Memory], numbers: &StepNumbers) -> Result<(), Failure> {
        self.forward(batch, variables, numbers)?;
        self.fetch(batch)?;
        self.update(batch, variables)
    }

    /// The part of a step that changes no variable. Meanwhile the next of some batches, if it is made already, begins its way to a device: the step that follows must be on
    /// that one.
    pub(crate) fn forward_ahead(
        &mut self,
        batch: &Batch,
        variables: &[Memory],
        numbers: &StepNumbers,
        batches: &Receiver<Batch>,
    ) -> Result<Option<Batch>, Failure> {
        self.forward(batch, variables, numbers)?;
        let next = batches.try_recv().ok();
        if let (Some(next), Machine::Device(device)) = (&next, &mut self.machine) {
            device.send_ahead(next)?;
        }
        self.fetch(batch)?;
        Ok(next)
    }

    /// The part of a step that changes no variable; a device is still at it when this returns, until [`Engine::fetch`] does.
    fn forward(&mut self, batch: &Batch, variables: &[Memory], numbers: &StepNumbers) -> Result<(), Failure> {
        self.reserve(batch)?;
        self.write_numbers(batch, numbers);
        let mut launches = self.plan.launches.iter().take(self.plan.first_update as usize);
        match &mut self.machine {
            Machine::Processor(processor) => {
                let pointers = pointers(self.plan, &self.memory, &self.stored, batch, variables);
                processor.prepare(batch, &pointers);
                launches.for_each(|launch| processor.launch(launch, batch, &pointers));
                Ok(())
            }
            Machine::Device(device) => {
                let known = |at: usize| self.memory[at].as_ref().map_or(&[][..], |memory| bytemuck::cast_slice(memory.bytes()));
                device.begin(batch, known, variables, &self.stored)?;
                launches.try_for_each(|launch| device.launch(launch, batch))
            }
        }
    }

    /// The part of a step that changes variables.
    pub(crate) fn update(&mut self, batch: &Batch, variables: &[Memory]) -> Result<(), Failure> {
        let mut launches = self.plan.launches.iter().skip(self.plan.first_update as usize);
        match &mut self.machine {
            Machine::Processor(processor) => {
                let pointers = pointers(self.plan, &self.memory, &self.stored, batch, variables);
                launches.for_each(|launch| processor.launch(launch, batch, &pointers));
                Ok(())
            }
            Machine::Device(device) => {
                launches.try_for_each(|launch| device.launch(launch, batch))?;
                device.end()
            }
        }
    }

    /// Waits for a plan's results, and makes them known here.
    fn fetch(&mut self, batch: &Batch) -> Result<(), Failure> {
        let Machine::Device(device) = &self.machine else { return Ok(()) };
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
        if let (Machine::Device(own), Machine::Device(other)) = (&mut self.machine, &other.machine) {
            own.share(other);
        }
    }

    /// Copies what a device has made of the variables back.
    pub(crate) fn bring_back(&self, variables: &mut [Memory]) -> Result<(), Failure> {
        if let Machine::Device(device) = &self.machine { device.bring_back(variables) } else { Ok(()) }
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

/// The base addresses of a plan's buffers, for a batch.
fn pointers(plan: &Plan, memory: &[Option<Memory>], stored: &Stored, batch: &Batch, variables: &[Memory]) -> Pointers {
    let own = |(buffer, memory): (&Buffer, &Option<Memory>)| match buffer.place {
        Place::Variable(id) => stored.get(id.0).map_or(&variables[id.0 as usize], |packed| &packed.elements).pointer(),
        Place::Scales(id) => {
            let scales = stored.get(id.0).and_then(|packed| packed.scales.as_ref());
            scales.map_or(std::ptr::null_mut(), Memory::pointer)
        }
        _ => memory.as_ref().map_or(std::ptr::null_mut(), Memory::pointer),
    };
    let mut pointers: Vec<*mut u8> = plan.buffers.iter().zip(memory).map(own).collect();
    for (input, words) in plan.inputs.iter().zip(&batch.inputs) {
        let words = grouping_part(batch, &input.source).unwrap_or(words);
        if !words.is_empty() || matches!(input.source, InputSource::Rows { .. }) {
            // Kernels only read inputs.
            pointers[input.buffer.0 as usize] = words.as_ptr().cast_mut().cast();
        }
    }
    Pointers(pointers)
}
