//! From a syntax tree to kernels, with no IO: checking, the tensor graph, the training step, rewrites, fusion, the plan.
//!
//! Same input and flags give the same bytes out: nothing here reads a clock, an environment or a hash map's order.

mod build;
mod check;
pub mod graph;
mod grouped;
pub mod loops;
pub mod ops;
pub mod passes;
pub mod plan;
pub mod problem;
pub mod scalar;
mod sources;
pub mod spec;
pub mod train;

pub use build::{Built, Grouped, InternalError, build, build_for, train_spec};
pub use check::{Checked, Override, check};
pub use sources::{Import, Sources};
