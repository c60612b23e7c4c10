//! The step runner of a processor: kernels in order, on tiles of each lane.
//!
//! Work is divided into lanes, and threads take lanes as they come. Each lane sums into accumulators of its own, and what is summed is divided by the number of
//! items alone, so the result is the same for any number of threads.

use crate::batch::Batch;
use crate::code::Code;
use crate::failure::Failure;
use crate::matmul::{FUNCTIONS, Prepared};
use crate::memory::Memory;
use crate::prefetch::Prefetch;
use crate::profile::Profile;
use recc_abi::{BufferId, ItemSpace, Job, KernelEntry, KernelFn, KernelFunctions, Launch, Place, Plan, Program, TILE_ENTRIES};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// A plan's kernels on this machine's processor.
pub(crate) struct Processor<'p> {
    plan: &'p Plan,
    kernels: Vec<KernelFn>,
    /// By thread.
    scratch: Vec<Memory>,
    /// By thread: what lies by entries, for as many as a tile may have.
    entry_scratch: Vec<Memory>,
    tile_entries: usize,
    pool: &'p rayon::ThreadPool,
    prefetch: Prefetch,
    prepared: Prepared,
    /// Times of kernels, where they are asked for.
    pub(crate) profile: Option<Profile>,
}

/// Base addresses of all buffers of a plan.
pub(crate) struct Pointers(pub(crate) Vec<*mut u8>);
// SAFETY: the pointers name buffers that outlive the launch; the plan keeps concurrent writers apart.
unsafe impl Send for Pointers {}
// SAFETY: as above.
unsafe impl Sync for Pointers {}

impl<'p> Processor<'p> {
    pub(crate) fn new(program: &Program, plan: &'p Plan, code: Code, pool: &'p rayon::ThreadPool) -> Result<Self, Failure> {
        let find =
            |kernel: &KernelEntry| code.kernel(kernel.offset).ok_or_else(|| Failure::internal("start", "a kernel lies outside the code"));
        Ok(Processor {
            plan,
            kernels: program.kernels.iter().map(find).collect::<Result<_, _>>()?,
            scratch: Memory::zeroed_together(&vec![plan.tile_bytes as usize; pool.current_num_threads()])?,
            entry_scratch: Vec::new(),
            tile_entries: 0,
            pool,
            prefetch: Prefetch::new(program, plan),
            prepared: Prepared::new(plan)?,
            profile: None,
        })
    }

    /// Makes room for a batch; only one with a longer example than any before allocates.
    pub(crate) fn reserve(&mut self, batch: &Batch) -> Result<(), Failure> {
        let longest = batch.entries.iter().map(|entries| entries.longest).max().unwrap_or(0);
        if self.plan.entry_bytes > 0 && longest.max(TILE_ENTRIES) > self.tile_entries {
            self.tile_entries = longest.max(TILE_ENTRIES);
            let bytes = self.plan.entry_bytes as usize * self.tile_entries;
            self.entry_scratch = Memory::zeroed_together(&vec![bytes; self.scratch.len()])?;
        }
        Ok(())
    }

    /// Copies factors that the step multiplies by.
    pub(crate) fn prepare(&mut self, batch: &Batch, pointers: &Pointers) {
        // SAFETY: the pointers are this batch's.
        unsafe { self.prepared.fill(batch.rows, &pointers.0, self.pool) };
    }

    fn items(&self, space: ItemSpace, batch: &Batch) -> (usize, usize) {
        match space {
            ItemSpace::Examples => (batch.rows, self.plan.tile as usize),
            ItemSpace::Rows(table) => (batch.touched(table), 256),
            ItemSpace::Fixed { items, tile } => (items as usize, tile as usize),
        }
    }

    /// Runs the jobs of a launch.
    pub(crate) fn launch(&self, launch: &Launch, batch: &Batch, pointers: &Pointers) {
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
        let entries = batch.entries.iter().map(|own| own.count).max().unwrap_or(0);
        let small = launch.jobs.iter().all(|job| self.is_small(job, batch, entries));
        if self.pool.current_num_threads() == 1 || small {
            work(0);
        } else {
            self.pool.broadcast(|context| work(context.index()));
        }
    }

    /// Whether waking other threads takes longer than what they would do, if there is anything for them.
    fn is_small(&self, job: &Job, batch: &Batch, entries: usize) -> bool {
        let (items, tile) = self.items(job.space, batch);
        let entries = if job.space == ItemSpace::Examples { entries } else { 0 };
        items <= self.items_of_lane(job, items, tile) || items.max(entries) <= 64
    }

    /// How many items a lane takes. What is summed is divided by the number of items alone; of what is not, each thread has its part, as an item's own
    /// results are the same wherever it is computed.
    fn items_of_lane(&self, job: &Job, items: usize, tile: usize) -> usize {
        let (lanes, threads) = (self.plan.lanes as usize, self.pool.current_num_threads());
        let by_tiles = items.div_ceil(tile).div_ceil(lanes) * tile;
        if job.space != ItemSpace::Examples || !job.accumulators.is_empty() || threads == 1 {
            return by_tiles;
        }
        // Sequences have lengths of their own, so that there are more parts than threads; others want as many examples as they get for each reading
        // of the weights, and begin where no other thread's cache lines do.
        let own = if self.plan.entry_bytes > 0 { items.div_ceil(lanes) } else { items.div_ceil(lanes.min(threads)).next_multiple_of(16) };
        by_tiles.min(own)
    }

    /// One lane of a job: its tiles in order.
    fn lane(&self, job: &Job, lane: usize, batch: &Batch, pointers: &mut [*mut u8], thread: usize) {
        let (items, tile) = self.items(job.space, batch);
        let functions = KernelFunctions { prepared: &raw const self.prepared as usize, ..FUNCTIONS };
        let bytes_of_lane = |id: &BufferId| {
            let buffer = &self.plan.buffers[id.0 as usize];
            lane * (buffer.len * buffer.element.bytes()) as usize
        };
        for id in &job.accumulators {
            let buffer = &self.plan.buffers[id.0 as usize];
            let own = pointers[id.0 as usize].wrapping_add(bytes_of_lane(id));
            // SAFETY: the buffer holds one copy per lane, and this lane's is written by this thread alone.
            unsafe { std::ptr::write_bytes(own, 0, (buffer.len * buffer.element.bytes()) as usize) };
            pointers[id.0 as usize] = own;
        }
        let per_lane = self.items_of_lane(job, items, tile);
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
                            profile.add(*kernel, rows, begin.elapsed());
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
            pointers[id.0 as usize] = pointers[id.0 as usize].wrapping_sub(bytes_of_lane(id));
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
}
