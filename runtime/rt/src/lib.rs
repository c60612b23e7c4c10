//! What every compiled model carries: data reading, the step runner, metrics, checkpoints and a command line.
//!
//! It knows nothing of the compiler: everything about a model is in its [`recc_abi::Program`] and its code.

mod activations;
mod batch;
mod bench;
mod checkpoint;
mod cli;
mod code;
mod cohort;
mod data;
mod device;
mod discovery;
mod drawn;
mod engine;
mod failure;
mod grouped;
pub mod html;
mod inspect;
mod json;
mod matmul;
mod memory;
mod metrics;
mod model;
mod output;
mod predict;
mod prefetch;
mod processor;
mod profile;
mod progress;
pub mod random;
mod ranking;
mod recommend;
mod remarks;
mod report;
mod score;
mod spool;
mod stored;
mod touched;
mod train;
mod transform;
mod vocab;
mod warm;

pub use checkpoint::{Generation, Purpose, Which, open as open_checkpoint};
pub use cli::{finish, run, run_training};
pub use code::Code;
pub use data::{Sample, sample};
pub use failure::Failure;
pub use matmul::FUNCTIONS;
pub use memory::size_text;
pub use stored::as_stored;
pub use warm::{Fate, compare, renamed};
