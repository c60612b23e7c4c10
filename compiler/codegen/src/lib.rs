//! Verified loop IR to machine code through Cranelift.
//!
//! Back ends know the loop IR and nothing above it. After verification emission cannot fail for a reason of the user's.

mod cpu;
mod lanes;
mod level;
mod math;
mod ptx;
mod wide;

pub use cpu::{CodegenError, Compiled, compile_kernels, print_assembly, print_clif};
pub use level::Level;
pub use ptx::{HEADER, Module, called_functions, emit_ptx};
