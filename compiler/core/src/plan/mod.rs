//! From a graph to kernels and their order.
//!
//! [`stages`] divides the work where every item must be seen; [`storage`] decides what is kept, and where; [`emit`] writes the
//! loops. Depth first: within a stage a tile of examples runs through every kernel before the next tile begins.

mod buffers;
pub mod emit;
mod jobs;
mod parts;
mod places;
mod scratch;
mod stages;
mod storage;
mod verify;

use crate::graph::Program;
use crate::loops::Kernel;
use recc_abi::{Element, Plan};

/// Most examples per tile: enough for the weights, which each tile reads once, to cost little beside the products.
const MOST_TILE: u64 = 512;
/// Examples of a batch are shared out in tiles of at least so many.
const LEAST_SHARE: u64 = 64;
/// Bytes of a tile's scratch that still pay: a value that a later kernel finds in no cache costs more than weights that are read again.
const MOST_SCRATCH: u64 = 8 << 20;
/// The same on a device, whose threads want many examples at once: what is left of its memory is for tables.
const MOST_DEVICE_SCRATCH: u64 = 1 << 30;
/// Bytes of scratch of a part without large weights: what its kernels hand on stays in the second-level cache.
const MOST_PART: u64 = 1 << 20;
/// Tiles are of multiples of so many examples: values of four bytes an example then begin at cache lines.
const STEP_TILE: u64 = 16;
/// Shortest sides of a weight whose products may be rounded: smaller ones cost little and give the last logit.
const LEAST_ROUNDED: i64 = 16;

/// What a plan is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Machine {
    /// A processor, with caches: a tile of examples goes through a whole stage before the next begins.
    #[default]
    Processor,
    /// A graphics processor, whose threads take all examples of a batch at once.
    Device,
}

impl Machine {
    /// Independent sums a batch is divided into; threads share them out.
    fn lanes(self) -> u64 {
        match self {
            Machine::Processor => 8,
            // A block of threads each.
            Machine::Device => 32,
        }
    }
}

/// What the plan needs to know beside the graph.
#[derive(Clone, Debug, Default)]
pub struct PlanSpec {
    /// `step` or `score`: the first part of kernels' names.
    pub name: String,
    /// What runs it.
    pub machine: Machine,
    /// Examples of a batch; the lanes share them out.
    pub batch: u64,
    /// Whether products with weights round their factors to bfloat16.
    pub bf16: bool,
    /// Members of each table.
    pub members: Vec<usize>,
    /// Most entries of an example, by column; 0 where it is not known.
    pub longest: Vec<u64>,
    /// The variables as the plan finds them, by id.
    pub variables: Vec<StoredVariable>,
}

/// A variable as a plan finds it.
#[derive(Clone, Debug)]
pub struct StoredVariable {
    /// Its path.
    pub path: String,
    /// Numbers along its last axis.
    pub width: u64,
    /// What its elements are stored as.
    pub element: Element,
}

impl PlanSpec {
    /// Examples of a tile that memory does not limit: small batches leave work for every lane.
    fn most_examples(&self) -> u64 {
        if self.machine == Machine::Device {
            return self.batch.next_multiple_of(STEP_TILE);
        }
        self.batch.div_ceil(self.machine.lanes()).next_multiple_of(STEP_TILE).clamp(LEAST_SHARE, MOST_TILE)
    }

    /// Examples per tile, by the scratch's bytes for each, and the bytes that a tile moves however many examples it has.
    fn tile(&self, bytes: u64, moved: u64) -> u64 {
        let most = self.most_examples();
        if self.machine == Machine::Device {
            return most.min(MOST_DEVICE_SCRATCH / bytes.max(1) / STEP_TILE * STEP_TILE).max(STEP_TILE);
        }
        // Tiles of one size: a lane's last one would be smaller.
        let tiles = most.div_ceil((MOST_SCRATCH.max(moved) / bytes.max(1)).max(STEP_TILE));
        most.div_ceil(tiles).next_multiple_of(STEP_TILE)
    }

    /// Examples of a part without large weights, by its bytes for each.
    fn part(bytes: u64) -> u64 {
        (MOST_PART / bytes.max(1) / STEP_TILE * STEP_TILE).max(STEP_TILE)
    }
}

/// A plan and its kernels, which the plan counts from 0.
#[derive(Debug)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// The kernels.
    pub kernels: Vec<Kernel>,
}

/// Plans a verified graph.
pub fn plan(program: &Program, spec: &PlanSpec) -> Planned {
    jobs::Planner::new(program, spec).run()
}

impl std::fmt::Display for Planned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plan = &self.plan;
        writeln!(
            f,
            "tile {} examples, {} lanes, {} bytes of scratch a thread and {} for each entry, updates from launch {}",
            plan.tile, plan.lanes, plan.tile_bytes, plan.entry_bytes, plan.first_update
        )?;
        for (id, buffer) in plan.buffers.iter().enumerate() {
            writeln!(f, "buffer {id}: {:?} {:?} x{} `{}`", buffer.place, buffer.element, buffer.len, buffer.name)?;
        }
        for (id, launch) in plan.launches.iter().enumerate() {
            writeln!(f, "launch {id}")?;
            for job in &launch.jobs {
                writeln!(f, "  over {:?}, sums into {:?}", job.space, job.accumulators.iter().map(|buffer| buffer.0).collect::<Vec<_>>())?;
                for (examples, kernels) in job.by_parts() {
                    if job.parts.len() > 1 {
                        writeln!(f, "    {examples} examples at a time")?;
                    }
                    for kernel in kernels {
                        writeln!(f, "    {}", self.kernels.get(*kernel as usize).map_or("?", |kernel| kernel.name.as_str()))?;
                    }
                }
            }
        }
        for output in &plan.outputs {
            writeln!(f, "output {} = buffer {}", output.name, output.buffer.0)?;
        }
        Ok(())
    }
}
