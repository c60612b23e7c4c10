//! How a kernel's loops are shared out among threads.
//!
//! A loop over items gives each item a few threads, a power of two within one warp. They all do the item's scalar work; loops marked `vector` they
//! share out, element by element, so that neighbours touch neighbouring memory.

use recc_abi::{BufferId, Grid};
use recc_core::loops::{Extent, Kernel, Stmt, sums_of_outside};

/// Threads of a warp.
pub(super) const WARP: u32 = 32;
/// Threads that sum numbers over the items of a lane.
const SUMMING: u32 = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Items side by side.
    Items { threads: u32 },
    /// A lane's items one after another, added to memory: blocks of one warp share the elements out.
    Columns { blocks: u32 },
    /// A lane's items side by side in one block, added up in registers.
    Totals { threads: u32 },
}

impl Layout {
    /// The layout of statements of a kernel, some of whose buffers are a lane's sums.
    pub(super) fn of(kernel: &Kernel, body: &[Stmt], sums: &[BufferId]) -> Layout {
        let mut seen = Seen::default();
        seen.body(body, kernel, sums, false);
        let threads = seen.widest.min(u64::from(WARP)).next_power_of_two() as u32;
        if seen.sums {
            // Threads of several blocks do not add up among each other.
            let blocks = if !seen.reduces { seen.widest.div_ceil(u64::from(WARP)).clamp(1, 1024) as u32 } else { 1 };
            return Layout::Columns { blocks };
        }
        let totals = body.iter().any(|stmt| matches!(stmt, Stmt::Accumulator { .. }));
        if totals { Layout::Totals { threads } } else { Layout::Items { threads } }
    }

    pub(super) fn grid(self) -> Grid {
        match self {
            Layout::Items { threads } => Grid::Items { threads },
            Layout::Columns { blocks } => Grid::Lanes { blocks, threads: WARP },
            Layout::Totals { .. } => Grid::Lanes { blocks: 1, threads: SUMMING },
        }
    }

    /// Threads that share an item's vector loops out, in one block.
    pub(super) fn threads(self) -> u32 {
        match self {
            Layout::Items { threads } | Layout::Totals { threads } => threads,
            Layout::Columns { .. } => WARP,
        }
    }
}

#[derive(Default)]
struct Seen {
    /// Most iterations of a vector loop.
    widest: u64,
    /// Whether items add to a lane's sums.
    sums: bool,
    /// Whether a vector loop adds up to a number that was begun outside.
    reduces: bool,
}

impl Seen {
    fn body(&mut self, body: &[Stmt], kernel: &Kernel, sums: &[BufferId], inside: bool) {
        for stmt in body {
            match stmt {
                Stmt::Store { buffer, .. } => self.sums |= inside && sums.contains(&kernel.buffers[*buffer].id),
                Stmt::For { extent, vector, body, .. } => {
                    if *vector && *extent != Extent::Items {
                        self.widest = self.widest.max(if let Extent::Fixed(n) = extent { *n } else { u64::from(WARP) });
                        self.reduces |= !sums_of_outside(body.iter()).is_empty();
                    }
                    self.body(body, kernel, sums, inside || *extent == Extent::Items);
                }
                Stmt::Let { .. } | Stmt::Accumulator { .. } | Stmt::Accumulate { .. } | Stmt::MatMul(_) | Stmt::Partition(_) => {}
            }
        }
    }
}
