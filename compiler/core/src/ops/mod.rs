//! Tensor operators: one file each, which answers every phase's question about it.
//!
//! A file holds the operator's meaning (documentation, shape rule, gradient, plain `f64` reference) and how one element of
//! it is computed in the loop IR. How machines do that is not here, nor how operators relate. A new operator is its file and
//! one line in `ops!`.

mod assign;
mod batch_matmul;
mod batch_sum;
mod broadcast;
mod concat;
mod constant;
mod contract;
mod elapsed;
mod gather;
mod given;
mod hold;
mod input;
mod keep;
mod length;
mod log_partition;
mod map;
mod matmul;
mod mean_row;
mod pick;
mod position;
mod query_sum;
mod random;
mod reduce;
mod reshape;
mod row_read;
mod row_sum;
mod row_write;
mod scatter;
mod shift;
mod slice;
mod take;
mod uniform;
mod variable;

use crate::graph::reference::{ReferenceCx, Tensor};
use crate::graph::{Graph, NodeId, TensorType};
use crate::loops::Reg;
use crate::plan::emit::{At, Emitter};
use recc_abi::VariableId;

pub use assign::Assign;
pub use batch_matmul::BatchMatMul;
pub use batch_sum::BatchSum;
pub use broadcast::Broadcast;
pub use concat::Concat;
pub use constant::Constant;
pub use contract::Contract;
pub use elapsed::Elapsed;
pub use gather::Gather;
pub use given::Given;
pub use hold::Hold;
pub use input::{Input, InputKind};
pub use keep::Keep;
pub use length::Length;
pub use log_partition::LogPartition;
pub use map::Map;
pub use matmul::MatMul;
pub use mean_row::MeanRow;
pub use pick::Pick;
pub use position::Position;
pub use query_sum::QuerySum;
pub use random::Random;
pub use reduce::Reduce;
pub use reshape::Reshape;
pub use row_read::RowRead;
pub use row_sum::RowSum;
pub use row_write::RowWrite;
pub use scatter::Scatter;
pub use shift::Shift;
pub use slice::Slice;
pub use take::{Run, Take};
pub use uniform::{Uniform, UniformKind};
pub use variable::Variable;

/// What differentiation needs at one node.
pub(crate) struct GradientCx<'g> {
    pub(crate) graph: &'g mut Graph,
    /// The node.
    pub(crate) node: NodeId,
    /// Its operands.
    pub(crate) operands: Vec<NodeId>,
    /// The gradient of the loss with respect to the node.
    pub(crate) gradient: NodeId,
    /// Gradients of looked-up rows, for the tables they came from.
    pub(crate) lookups: &'g mut Vec<LookupGradient>,
}

/// The gradient of rows looked up.
#[derive(Clone, Debug)]
pub struct LookupGradient {
    /// The look-up.
    pub gather: Gather,
    /// The ids.
    pub ids: NodeId,
    /// One row's gradient per id; none where the rows' gradients are known otherwise.
    pub gradient: Option<NodeId>,
}

/// What every operator answers; there are no defaults, so a missing rule does not compile.
pub(crate) trait OpDef {
    /// The name in printed graphs.
    const NAME: &'static str;
    /// What it is beside its operands, in printed graphs.
    fn attributes(&self) -> String;
    /// The type of the result.
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String>;
    /// Gradients with respect to the operands.
    fn gradient(&self, cx: &mut GradientCx<'_>) -> Vec<Option<NodeId>>;
    /// The value, in plain `f64` code.
    fn reference(&self, cx: &ReferenceCx<'_>, inputs: &[&Tensor]) -> Tensor;
    /// Code for one element of the result.
    fn element(&self, cx: &mut Emitter<'_>, node: NodeId, at: &At) -> Reg;
}

macro_rules! ops {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A tensor operator.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum Op { $($(#[$doc])* $name($name),)* }

        /// Names of all operators.
        pub const OP_NAMES: &[&str] = &[$($name::NAME),*];

        impl Op {
            /// The name in printed graphs.
            pub fn name(&self) -> &'static str {
                match self { $(Op::$name(_) => $name::NAME,)* }
            }
            /// What it is beside its operands.
            pub fn attributes(&self) -> String {
                match self { $(Op::$name(op) => op.attributes(),)* }
            }
            /// The type of the result.
            pub fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
                match self { $(Op::$name(op) => op.infer(inputs),)* }
            }
            pub(crate) fn gradient(&self, cx: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
                match self { $(Op::$name(op) => op.gradient(cx),)* }
            }
            pub(crate) fn reference(&self, cx: &ReferenceCx<'_>, inputs: &[&Tensor]) -> Tensor {
                match self { $(Op::$name(op) => op.reference(cx, inputs),)* }
            }
            pub(crate) fn element(&self, cx: &mut Emitter<'_>, node: NodeId, at: &At) -> Reg {
                match self { $(Op::$name(op) => op.element(cx, node, at),)* }
            }
        }
    };
}

ops! {
    /// A column of the batch.
    Input,
    /// A parameter, a state or an optimizer's slot.
    Variable,
    /// A number.
    Constant,
    /// A number the runtime gives each step.
    Uniform,
    /// A place for what the training step computes.
    Given,
    /// Elementwise.
    Map,
    /// Repetition along new axes.
    Broadcast,
    /// Reduction along axes.
    Reduce,
    /// Sum over items.
    BatchSum,
    /// Matrix product with a weight.
    MatMul,
    /// Product of two matrices of each item.
    BatchMatMul,
    /// Weight gradient: sum over items of outer products.
    Contract,
    /// Rows of a table by id.
    Gather,
    /// The log of a softmax's sum over all rows of a table.
    LogPartition,
    /// Rows weighed by their probabilities in a softmax.
    MeanRow,
    /// Queries weighed by a row's probabilities in a softmax.
    QuerySum,
    /// A value as a constant.
    Hold,
    /// A value that exists once, stored for several readers.
    Keep,
    /// Gradients summed per touched row.
    RowSum,
    /// A variable's values at the touched rows.
    RowRead,
    /// The same elements in another shape.
    Reshape,
    /// Values one after another.
    Concat,
    /// A part along an axis.
    Slice,
    /// Runs of elements in another shape.
    Take,
    /// Uniform random numbers.
    Random,
    /// The number of entries of a bag or a sequence.
    Length,
    /// The place of each entry.
    Position,
    /// The next or previous entry.
    Shift,
    /// Seconds between times.
    Elapsed,
    /// Rows of a parameter by number.
    Pick,
    /// Gradients summed per row of a parameter.
    Scatter,
    /// Writes a variable.
    Assign,
    /// Writes a variable's touched rows.
    RowWrite,
}

impl Op {
    /// Whether it is a call over all items, of values in memory: a matrix product, or a part of a softmax over a table.
    pub fn is_call(&self) -> bool {
        matches!(self, Op::MatMul(_) | Op::BatchMatMul(_) | Op::LogPartition(_) | Op::MeanRow(_) | Op::QuerySum(_))
    }

    /// Whether it writes.
    pub fn is_effect(&self) -> bool {
        matches!(self, Op::Assign(_) | Op::RowWrite(_))
    }

    /// The variable it reads or writes.
    pub fn variable(&self) -> Option<VariableId> {
        match self {
            Op::Variable(op) => Some(op.id),
            Op::Gather(op) => Some(op.variable),
            Op::RowRead(op) => Some(op.variable),
            Op::Assign(op) => Some(op.variable),
            Op::RowWrite(op) => Some(op.variable),
            Op::Input(_) | Op::Constant(_) | Op::Uniform(_) | Op::Map(_) | Op::Broadcast(_) | Op::Reduce(_) | Op::BatchSum(_) => None,
            Op::MatMul(_) | Op::Contract(_) | Op::RowSum(_) | Op::Reshape(_) | Op::Concat(_) | Op::Slice(_) | Op::Random(_) => None,
            Op::Length(_) | Op::BatchMatMul(_) | Op::Take(_) | Op::Hold(_) | Op::LogPartition(_) | Op::MeanRow(_) | Op::QuerySum(_) => None,
            Op::Given(_) | Op::Keep(_) | Op::Position(_) | Op::Shift(_) | Op::Elapsed(_) | Op::Pick(_) | Op::Scatter(_) => None,
        }
    }
}

/// The single operand's type.
fn one<'t>(name: &str, inputs: &[&'t TensorType]) -> Result<&'t TensorType, String> {
    match inputs {
        [input] => Ok(input),
        other => Err(format!("`{name}` takes one operand, not {}", other.len())),
    }
}

/// The two operands' types.
fn two<'t>(name: &str, inputs: &[&'t TensorType]) -> Result<[&'t TensorType; 2], String> {
    match inputs {
        [a, b] => Ok([a, b]),
        other => Err(format!("`{name}` takes two operands, not {}", other.len())),
    }
}

/// The four operands' types.
fn four<'t>(name: &str, inputs: &[&'t TensorType]) -> Result<[&'t TensorType; 4], String> {
    match inputs {
        [a, b, c, d] => Ok([a, b, c, d]),
        other => Err(format!("`{name}` takes four operands, not {}", other.len())),
    }
}

/// Checks that a leaf has no operands.
fn none(name: &str, inputs: &[&TensorType]) -> Result<(), String> {
    if inputs.is_empty() { Ok(()) } else { Err(format!("`{name}` takes no operands")) }
}
