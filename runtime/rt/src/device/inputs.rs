//! A batch's inputs on their way to the device: two sets, so that the next batch's cross while this one's are read.

use super::driver::{Device, DeviceMemory, Event, Queue, Staging};
use crate::batch::{Batch, grouping_part};
use crate::failure::Failure;
use recc_abi::Plan;

/// Words between the beginnings of two inputs are multiples of this: 256 bytes, as the device likes it.
const ALIGN: usize = 64;

/// Words that are copied together.
pub(super) struct Set {
    device: &'static Device,
    staging: Staging,
    memory: DeviceMemory,
    /// By input that is part of it: its buffer, its first word, and how many.
    places: Vec<(usize, usize, usize)>,
    /// The copy has ended.
    full: Event,
    /// What reads the copy has ended.
    free: Event,
}

impl Set {
    fn new(device: &'static Device) -> Result<Set, Failure> {
        let (staging, memory) = (Staging::new(device, 0)?, DeviceMemory::new(device, 0)?);
        Ok(Set { device, staging, memory, places: Vec::new(), full: device.event()?, free: device.event()? })
    }

    /// Copies some inputs, each with the number of its buffer.
    fn send<'w>(&mut self, inputs: impl Iterator<Item = (usize, &'w [u32])>, queue: Queue) -> Result<(), Failure> {
        let inputs: Vec<(usize, &[u32])> = inputs.collect();
        let total: usize = inputs.iter().map(|(_, words)| words.len().next_multiple_of(ALIGN)).sum();
        // The copy before it has to be done with the staging.
        self.device.reach(&self.full)?;
        self.memory.grow(4 * total)?;
        if self.staging.words().len() < total {
            self.staging = Staging::new(self.device, total + total / 2)?;
        }
        self.places.clear();
        let mut at = 0;
        for (buffer, words) in inputs {
            self.staging.words()[at..at + words.len()].copy_from_slice(words);
            self.places.push((buffer, at, words.len()));
            at += words.len().next_multiple_of(ALIGN);
        }
        self.device.wait_for(&self.free, queue)?;
        // SAFETY: the staging is written again once `full` is reached.
        unsafe { self.memory.write_in(bytemuck::cast_slice(&self.staging.words()[..total]), queue)? };
        self.device.record(&self.full, queue)
    }

    /// Lets the step's work wait for the copy, and tells where each input lies.
    fn take(&self, addresses: &mut [u64]) -> Result<(), Failure> {
        self.device.wait_for(&self.full, Queue::Work)?;
        for &(buffer, at, _) in &self.places {
            addresses[buffer] = self.memory.address() + 4 * at as u64;
        }
        Ok(())
    }
}

/// The inputs of a plan.
pub(super) struct Inputs {
    /// What batches hold, for this step and the next one.
    batches: [Set; 2],
    /// What is known on this machine alone: numbers of the step, and of the model.
    numbers: Set,
    /// Which of the two sets is this step's.
    current: usize,
    /// Whether the other one holds the next step's already.
    ahead: bool,
}

/// The inputs that a batch holds, with the numbers of their buffers.
fn words_of<'b>(plan: &'b Plan, batch: &'b Batch) -> impl Iterator<Item = (usize, &'b [u32])> {
    let words = plan.inputs.iter().zip(&batch.inputs).map(|(input, words)| {
        let part = grouping_part(batch, &input.source);
        (input.buffer.0 as usize, part.unwrap_or(words), part.is_some())
    });
    words.filter(|(_, words, grouped)| *grouped || !words.is_empty()).map(|(buffer, words, _)| (buffer, words))
}

impl Inputs {
    pub(super) fn new(device: &'static Device) -> Result<Inputs, Failure> {
        let set = || Set::new(device);
        Ok(Inputs { batches: [set()?, set()?], numbers: set()?, current: 0, ahead: false })
    }

    /// Copies the inputs of the step after this one, beside this one's work.
    pub(super) fn send_ahead(&mut self, plan: &Plan, batch: &Batch) -> Result<(), Failure> {
        self.batches[1 - self.current].send(words_of(plan, batch), Queue::Copies)?;
        self.ahead = true;
        Ok(())
    }

    /// Copies the inputs of a step, but for those that were sent ahead, and tells where they lie. `known` has the words of what no batch holds.
    pub(super) fn send<'k>(
        &mut self,
        plan: &'k Plan,
        batch: &'k Batch,
        known: impl Fn(usize) -> &'k [u32],
        addresses: &mut [u64],
    ) -> Result<(), Failure> {
        self.current = 1 - self.current;
        if !std::mem::take(&mut self.ahead) {
            self.batches[self.current].send(words_of(plan, batch), Queue::Work)?;
        }
        let own = &self.batches[self.current];
        let sent = || own.places.iter().map(|&(buffer, _, len)| (buffer, len));
        assert!(sent().eq(words_of(plan, batch).map(|(buffer, words)| (buffer, words.len()))), "another batch was sent ahead");
        let others = plan.inputs.iter().map(|input| input.buffer.0 as usize).filter(|buffer| sent().all(|(own, _)| own != *buffer));
        self.numbers.send(others.map(|buffer| (buffer, known(buffer))), Queue::Work)?;
        own.take(addresses)?;
        self.numbers.take(addresses)
    }

    /// Marks the end of the work that reads this step's inputs.
    pub(super) fn end(&self, device: &Device) -> Result<(), Failure> {
        device.record(&self.batches[self.current].free, Queue::Work)
    }
}
