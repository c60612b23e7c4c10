//! What runs on a graphics processor: functions of a PTX module, and how their threads are laid out.

use crate::BufferId;
use serde::{Deserialize, Serialize};

/// Threads of a block, where a function does not say otherwise.
pub const BLOCK: u32 = 256;

/// A function of the module.
///
/// Its parameters are the addresses of its buffers (`u64` each, in order), then the call's first item, the number of its items, and the items of a lane
/// (`u32` each), then its own numbers (`s32` each).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceFunction {
    /// Its symbol.
    pub name: String,
    /// The plan's buffers that it touches.
    pub buffers: Vec<BufferId>,
    /// Sizes and strides of a product; empty for loops, which hold theirs.
    pub numbers: Vec<i32>,
    /// How its threads are laid out.
    pub grid: Grid,
}

/// How a function's threads are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grid {
    /// So many threads for each item, in blocks of [`BLOCK`].
    Items {
        /// A power of two, 32 at most.
        threads: u32,
    },
    /// Blocks for each lane, which share its items' elements out; the block's second number is the lane.
    Lanes {
        /// How many.
        blocks: u32,
        /// Threads of each.
        threads: u32,
    },
    /// Blocks for squares of a product's result.
    Product {
        /// Rows of the result.
        rows: Count,
        /// Columns of the result.
        columns: Count,
        /// Rows and columns of a square.
        square: u32,
        /// Threads of a block.
        threads: u32,
        /// How many products there are.
        times: Times,
    },
}

/// A number of rows or columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Count {
    /// Known.
    Fixed(u32),
    /// Items of the call times a factor.
    Items(u32),
    /// Entries of a column, of the items of the call or of the one item with most of them, times a factor.
    Entries {
        /// Position in `Program::columns`.
        column: u32,
        /// The factor.
        factor: u32,
    },
}

/// How many products a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Times {
    /// One over all items: blocks are numbered by rows, then columns.
    Once,
    /// One for each lane, which is the block's third number.
    Lanes,
    /// So many for each item: blocks are numbered by item and head, then columns, then rows.
    Items {
        /// Products of an item.
        heads: u32,
    },
}

/// A call's limits, in blocks and threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Blocks along each axis; nothing runs where one of them is 0.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
}

impl Grid {
    /// The blocks of a call on some items; of more than there may be, so many that a driver refuses them. `entries` knows a column's entries: of the call's items, or the most of one item.
    pub fn blocks(self, rows: u32, lanes: u32, entries: impl Fn(u32, bool) -> u32) -> Blocks {
        match self {
            Grid::Items { threads } => Blocks { grid: [rows.div_ceil(BLOCK / threads), 1, 1], threads: BLOCK },
            Grid::Lanes { blocks, threads } => Blocks { grid: [blocks, lanes, 1], threads },
            Grid::Product { rows: own_rows, columns, square, threads, times } => {
                let each = matches!(times, Times::Items { .. });
                let squares = |count: Count| match count {
                    Count::Fixed(n) => n,
                    Count::Items(factor) => rows.saturating_mul(factor),
                    Count::Entries { column, factor } => entries(column, each).saturating_mul(factor),
                };
                let [down, across] = [own_rows, columns].map(|count| squares(count).div_ceil(square));
                let grid = match times {
                    Times::Once => [down, across, 1],
                    Times::Lanes => [down, across, lanes],
                    Times::Items { heads } => [rows.saturating_mul(heads), across, down],
                };
                Blocks { grid, threads }
            }
        }
    }
}
