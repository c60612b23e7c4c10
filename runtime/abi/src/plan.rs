//! What runs in one training step or one scoring call: buffers, and kernels in order.

use serde::{Deserialize, Serialize};

/// A variable, by its position in [`variables`](crate::Program::variables).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VariableId(pub u32);

/// A buffer of a plan, by its position in [`Plan::buffers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BufferId(pub u32);

/// The type of a buffer's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Element {
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// 32-bit integer: rows of tables, offsets.
    I32,
    /// 16-bit float: weights as they are stored for scoring.
    F16,
    /// 8-bit integer, times its row's scale: weights as they are stored for scoring.
    I8,
}

impl Element {
    /// Size in bytes.
    pub fn bytes(self) -> u64 {
        match self {
            Element::F32 | Element::I32 => 4,
            Element::F64 => 8,
            Element::F16 => 2,
            Element::I8 => 1,
        }
    }
}

/// Where a buffer lives and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// Scratch of one thread for each item of a part of a tile, at a byte offset of the scratch.
    Tile {
        /// Offset in bytes.
        offset: u64,
    },
    /// Scratch of one thread for each item of a whole tile, whose values go from one of its parts to others.
    Across {
        /// Offset in bytes.
        offset: u64,
    },
    /// One value per example of the batch.
    Batch,
    /// One copy per lane, zero when the lane begins.
    Lane,
    /// One copy.
    Global,
    /// The storage of a variable.
    Variable(VariableId),
    /// The scale of each row of a variable of 8-bit integers.
    Scales(VariableId),
    /// One value per touched row of a table.
    Rows(u32),
    /// One value per entry of a column of bags or sequences, over the whole batch.
    Entries(u32),
    /// Scratch of one thread with one value per entry of a tile: its examples' entries of a column.
    TileEntries {
        /// Position in `Program::columns`.
        column: u32,
        /// Offset in bytes for each entry that a tile may have.
        offset: u64,
    },
}

impl Place {
    /// Whether it is scratch of one thread, which a tile leaves to the next one.
    pub fn is_scratch(self) -> bool {
        matches!(self, Place::Tile { .. } | Place::Across { .. } | Place::TileEntries { .. })
    }
}

/// A buffer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Buffer {
    /// A name for people.
    pub name: String,
    /// Where it lives.
    pub place: Place,
    /// Its elements.
    pub element: Element,
    /// Elements per item (tile, batch, rows, entries), per row (variables), per lane, or in all (global).
    pub len: u64,
}

/// How the rows of a table are grouped for its update: for source `lookup`, segment `u` of the occurrences of touched row `u`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowSource {
    /// The touched rows, one per item.
    Rows,
    /// Where each row's occurrences begin, one more than rows.
    Begin {
        /// Which look-up.
        lookup: u32,
    },
    /// The example of each occurrence.
    Example {
        /// Which look-up.
        lookup: u32,
    },
    /// The position within the example, the field of a group; or the entry of the batch.
    Slot {
        /// Which look-up.
        lookup: u32,
    },
    /// Which of the rows drawn for an entry.
    Within {
        /// Which look-up.
        lookup: u32,
    },
}

/// What the runtime writes into a buffer before the step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum InputSource {
    /// Numbers or labels, one per column: `f32`, batch.
    Numbers {
        /// Positions in `Program::columns`.
        columns: Vec<u32>,
    },
    /// A time in seconds: `i32`, batch.
    Time {
        /// Position in `Program::columns`.
        column: u32,
    },
    /// Ids, one per column: `i32`, batch.
    Ids {
        /// Positions in `Program::columns`.
        columns: Vec<u32>,
    },
    /// Where each example's entries of a bag or a sequence begin, one more than examples: `i32`, batch.
    EntryBegin {
        /// Position in `Program::columns`.
        column: u32,
    },
    /// The ids of a bag or a sequence, or of one aligned with it: `i32`.
    Entries {
        /// Position in `Program::columns`.
        column: u32,
    },
    /// The numbers of a sequence: `f32`.
    EntryNumbers {
        /// Position in `Program::columns`.
        column: u32,
    },
    /// The times of a sequence, in seconds: `i32`.
    EntryTimes {
        /// Position in `Program::columns`.
        column: u32,
    },
    /// Rows of a table drawn for each step of a sequence, for each id, or once for the batch: `i32`.
    Drawn {
        /// Position in `Program::columns`.
        column: u32,
    },
    /// 1 for each step of a sequence whose next one is a known value, or for each id that is one, else 0: `f32`.
    HasTarget {
        /// Position of the sequence or the id in `Program::columns`.
        column: u32,
    },
    /// Of rows drawn for the batch, the log of the share of the training data's targets that each is: `f32`, global.
    LogShare {
        /// Position of the drawn rows in `Program::columns`.
        column: u32,
    },
    /// A value that another plan computed for the row's key: `f32`, see [`GroupedScore`](crate::GroupedScore).
    Shared {
        /// Position in `GroupedScore::values`.
        slot: u32,
    },
    /// First row of each column's member of a table: `i32`, global.
    RowBase {
        /// Position in `Program::tables`.
        table: u32,
        /// Positions in `Program::columns`.
        columns: Vec<u32>,
    },
    /// Mean and then deviation of each column, learned from training data: `f32`, global.
    Moments {
        /// Positions in `Program::columns`.
        columns: Vec<u32>,
    },
    /// The number of the example's row in the training data: `i32`, batch.
    RowNumber,
    /// A key for random numbers, made of the seed, the epoch and the place: `i32`, global.
    RandomKey {
        /// The place.
        site: String,
    },
    /// The number of the step, from 1: `i32`, global.
    StepNumber,
    /// The factor by which the schedule scales every learning rate.
    RateScale,
    /// `1 / (1 - beta^step)`
    BiasCorrection {
        /// The decay.
        beta: f64,
    },
    /// The number of examples in this batch.
    BatchRows,
    /// The number of steps of a sequence in this batch whose next one is a known value, or of ids that are one, 1 at least.
    TargetCount {
        /// Position of the sequence or the id in `Program::columns`.
        column: u32,
    },
    /// The number of entries of a column in this batch, or of examples: `i32`, global.
    Count {
        /// Position in `Program::columns`.
        column: Option<u32>,
    },
    /// The number of a table's touched rows: `i32`, global.
    RowCount {
        /// Position in `Program::tables`.
        table: u32,
    },
    /// The rows of a table that a softmax ranks, all but row 0, less one: `f32`, global.
    OtherRows {
        /// Position in `Program::tables`.
        table: u32,
    },
    /// The grouping of a table's rows.
    Rows {
        /// Position in `Program::tables`.
        table: u32,
        /// Which part of it.
        source: RowSource,
    },
}

/// A buffer the runtime fills.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// The buffer.
    pub buffer: BufferId,
    /// With what.
    pub source: InputSource,
}

/// A buffer the runtime reads after the step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// `loss`, `<prediction>.link`, `<prediction>`
    pub name: String,
    /// The buffer.
    pub buffer: BufferId,
}

/// Entries of a column that end a tile: enough rows for a matrix product, few enough for their values to stay in the cache.
pub const TILE_ENTRIES: usize = 512;

/// What a job iterates over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ItemSpace {
    /// The examples of the batch, in tiles of [`Plan::tile`].
    Examples,
    /// The touched rows of a table.
    Rows(u32),
    /// A fixed number of items, in tiles of the given size.
    Fixed {
        /// How many.
        items: u64,
        /// Items per call.
        tile: u64,
    },
}

/// Kernels that run one after another on each tile of a space.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// What is iterated over.
    pub space: ItemSpace,
    /// Positions in `Program::kernels`.
    pub kernels: Vec<u32>,
    /// The kernels of a job of examples, in order. Each part goes through a tile before the next one begins.
    pub parts: Vec<Part>,
    /// Lane buffers this job adds to: zeroed at the start of each lane.
    pub accumulators: Vec<BufferId>,
    /// Buffers of variables that its kernels load.
    pub variables: Vec<BufferId>,
}

impl Job {
    /// The kernels of each part, with how many items they take at a time at most; all kernels, where there are no parts.
    pub fn by_parts(&self) -> impl Iterator<Item = (u64, &[u32])> {
        let mut rest = self.kernels.as_slice();
        let mut take = move |kernels: usize| rest.split_off(..kernels.min(rest.len())).unwrap_or_default();
        let whole = self.parts.is_empty().then_some((u64::MAX, self.kernels.as_slice()));
        whole.into_iter().chain(self.parts.iter().map(move |part| (part.examples, take(part.kernels as usize))))
    }
}

/// Kernels that go through a tile together, some examples at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// How many kernels.
    pub kernels: u32,
    /// Examples at a time, at most.
    pub examples: u64,
}

/// Jobs that may run at the same time; the next launch begins when all have ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// The jobs.
    pub jobs: Vec<Job>,
}

/// A matrix inside a variable that products multiply by: the runtime may copy it once for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Factor {
    /// The variable's buffer.
    pub buffer: BufferId,
    /// First element.
    pub offset: i64,
    /// Rows: what the products sum over.
    pub rows: i64,
    /// Columns.
    pub columns: i64,
    /// Elements from row to row.
    pub row: i64,
    /// Elements from column to column.
    pub column: i64,
    /// Whether its elements are rounded to bfloat16.
    pub bf16: bool,
}

/// Everything that runs in one step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// All buffers.
    pub buffers: Vec<Buffer>,
    /// What the runtime fills.
    pub inputs: Vec<Input>,
    /// What the runtime reads.
    pub outputs: Vec<Output>,
    /// In order.
    pub launches: Vec<Launch>,
    /// Factors that whole batches are multiplied by.
    pub factors: Vec<Factor>,
    /// Examples per tile, at most: a tile ends before more than [`TILE_ENTRIES`] entries of a column, one example excepted.
    pub tile: u64,
    /// Lanes: the number of independent sums each batch is divided into, whatever the number of threads.
    pub lanes: u64,
    /// Scratch of one thread, in bytes.
    pub tile_bytes: u64,
    /// More scratch, in bytes for each entry that a tile may have.
    pub entry_bytes: u64,
    /// The launch before which the loss is known: the first that changes a variable.
    pub first_update: u32,
}

/// A kernel in the code segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelEntry {
    /// Its symbol.
    pub name: String,
    /// Byte offset in the code.
    pub offset: u64,
    /// Bytes of code.
    pub len: u64,
    /// Operations on numbers for each item.
    pub flops: f64,
    /// Bytes of what moves with the item.
    pub bytes: f64,
    /// Whether its products round their factors to bfloat16.
    pub bf16: bool,
    /// Whether there is work for each entry or row, whose number is not known: operations and bytes are those of one.
    pub ragged: bool,
}
