//! The interface between generated programs and the runtime, written once for both sides.
//!
//! A compiled model is the runtime's executable with machine code and one [`Program`] added. The program says, as
//! data, everything the runtime needs beside the code: how columns become inputs, which buffers there are, in which order
//! kernels run, and how to initialise, train, measure and save.

mod column;
mod device;
mod kernel;
mod plan;
mod predicate;
mod program;

pub use column::{Column, ColumnKind, Domain, Drawing, Encoder, FeatureKind, NumberStep, Reading, RowPart, Split, Take, Token, entries_of};
pub use device::{BLOCK, Blocks, Count, DeviceFunction, Grid, Times};
pub use kernel::{KernelFn, KernelFunctions, MatMulFn, PartitionFn, PartitionPart, STORED_F16, STORED_I8};
pub use plan::{
    Buffer, BufferId, Element, Factor, Input, InputSource, ItemSpace, Job, KernelEntry, Launch, Output, Part, Place, Plan, RowSource,
    TILE_ENTRIES, VariableId,
};
pub use predicate::{Bound, Comparison, Predicate};
pub use program::{
    BuildInfo, Cohort, DataFormat, DataSpec, GROUPED, GroupedScore, Init, Inspected, Link, LossKind, Metric, MetricKind, Monitor,
    Negatives, OptimizerKind, Planted, Plateau, Prediction, Program, Ranking, Role, Schedule, SharedValue, Stopping, Table, TableMember,
    TrainSpec, Variable,
};

use serde::{Serialize, de::DeserializeOwned};

/// Version of [`Program`]'s encoding; a launcher reads only its own.
pub const FORMAT: u32 = 1;

/// A value as bytes.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    postcard::to_allocvec(value).map_err(|error| error.to_string())
}

/// Bytes as a value.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    postcard::from_bytes(bytes).map_err(|error| error.to_string())
}
