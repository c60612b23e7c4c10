//! The training step: losses, gradients and updates as more nodes of the forward graph.

mod balance;
mod gradient;
mod loss;
mod optimizer;
mod trained;

pub use balance::{Seeded, balanced, depends_on, learned};
pub use gradient::{Gradients, differentiate};
pub use loss::{Parts, add_loss, loss_of, loss_of_steps};
pub use optimizer::{DenseOptimizer, OptimizerSpec, StepSpec, TableSpec, TableUpdate, add_updates};
pub use trained::Trained;
