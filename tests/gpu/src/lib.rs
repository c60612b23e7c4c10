//! A graphics processor for tests: an interpreter of the PTX that the compiler writes, and a driver over it, for machines that have neither.
//!
//! The interpreter runs what is written and looks for what a real device would not tell: accesses outside of memory, misaligned, or of what nobody wrote;
//! threads that touch the same memory without waiting for one another; barriers and shuffles that not all of their threads reach. It does not model time, but
//! counts what time depends on: sectors of memory, and conflicts of shared banks.

mod driver;
mod memory;
mod operations;
mod parse;
mod run;

pub use memory::Memory;
pub use parse::{Function, parse};
pub use run::{Call, Counts, run};
