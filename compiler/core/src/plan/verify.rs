//! The invariants of the tile's scratch: values lie inside it, and two that are alive together do not overlap.

use super::Planned;
use crate::graph::Violation;
use crate::loops::touched_buffers;
use recc_abi::{BufferId, Job, Place};
use std::collections::BTreeMap;

/// A part of a job and a statement of it.
type Moment = (usize, usize);

/// Where a value lies, and the first and last statement of its job that touches it. What goes from one part to others is there for as long as both,
/// because the examples of a tile come one after another.
struct Life {
    begin: u64,
    end: u64,
    born: Moment,
    dies: Moment,
}

impl Planned {
    /// Values of a job that share bytes of the scratch while both are alive: bugs of the compiler.
    pub fn verify(&self) -> Vec<Violation> {
        self.plan.launches.iter().flat_map(|launch| &launch.jobs).flat_map(|job| self.overlaps(job)).collect()
    }

    fn overlaps(&self, job: &Job) -> Vec<Violation> {
        let plan = &self.plan;
        [(false, plan.tile_bytes), (true, plan.entry_bytes)]
            .into_iter()
            .flat_map(|(entries, bytes)| self.overlaps_of(job, entries, bytes))
            .collect()
    }

    /// Of the values of examples, or of those of entries, whose bytes are counted for each.
    fn overlaps_of(&self, job: &Job, entries: bool, bytes: u64) -> Vec<Violation> {
        let lives: Vec<(BufferId, Life)> = self.lives(job, entries).into_iter().collect();
        let mut found = Vec::new();
        let name = |id: &BufferId| &self.plan.buffers[id.0 as usize].name;
        for (id, life) in lives.iter().filter(|(_, life)| life.end > bytes) {
            found.push(Violation(format!("{} ends at byte {} of a scratch of {}", name(id), life.end, bytes)));
        }
        for (at, (one, first)) in lives.iter().enumerate() {
            for (other, second) in &lives[at + 1..] {
                let bytes = first.begin < second.end && second.begin < first.end;
                let time = first.born <= second.dies && second.born <= first.dies;
                if bytes && time {
                    found.push(Violation(format!("{} and {} lie over each other in the scratch", name(one), name(other))));
                }
            }
        }
        found
    }

    /// A statement of a kernel's outermost level goes through all items of its part before the next one begins.
    fn lives(&self, job: &Job, entries: bool) -> BTreeMap<BufferId, Life> {
        let mut lives: BTreeMap<BufferId, Life> = BTreeMap::new();
        for (part, (examples, kernels)) in job.by_parts().enumerate() {
            let kernels = kernels.iter().map(|&kernel| &self.kernels[kernel as usize]);
            let statements = kernels.flat_map(|kernel| kernel.body.iter().map(move |stmt| (kernel, stmt)));
            for (at, (kernel, stmt)) in statements.enumerate() {
                for argument in touched_buffers(std::slice::from_ref(stmt)) {
                    let id = kernel.buffers[argument].id;
                    let buffer = &self.plan.buffers[id.0 as usize];
                    let size = buffer.len * buffer.element.bytes();
                    let (offset, size, born, dies) = match buffer.place {
                        Place::Tile { offset } if !entries => (offset, size * examples, (part, at), (part, at)),
                        Place::Across { offset } if !entries => (offset, size * self.plan.tile, (part, 0), (part, usize::MAX)),
                        Place::TileEntries { offset, .. } if entries => (offset, size, (part, at), (part, at)),
                        _ => continue,
                    };
                    lives.entry(id).or_insert(Life { begin: offset, end: offset + size, born, dies }).dies = dies;
                }
            }
        }
        lives
    }
}
