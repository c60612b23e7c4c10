//! What expressions of a spec can be while it is checked.

use super::scope::PathId;
use crate::graph::{DType, Graph, NodeId};
use recc_abi::Init;
use recc_syntax::ast::{self, Span};
use std::rc::Rc;

/// Identity of an axis: two axes of one size are the same only if they come from the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AxisId(pub(super) u32);

/// A tensor: a node, and the identity of each of its axes.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub(super) node: NodeId,
    pub(super) axes: Vec<AxisId>,
}

/// An initializer as written; some need the shape of the parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Initializer {
    Fixed(Init),
    /// Normal with variance 2 / (in + out) (Glorot and Bengio 2010).
    Xavier,
    /// Uniform with the same variance.
    XavierUniform,
    /// Normal with variance 2 / in (He et al. 2015).
    He,
}

impl Initializer {
    pub(super) fn resolve(self, shape: &[u64]) -> Init {
        let (fan_in, fan_out) = match shape {
            [] => (1.0, 1.0),
            [n] => (*n as f64, *n as f64),
            [.., a, b] => (*a as f64, *b as f64),
        };
        match self {
            Initializer::Fixed(init) => init,
            Initializer::Xavier => Init::Normal { std: (2.0 / (fan_in + fan_out)).sqrt() },
            Initializer::XavierUniform => Init::Uniform { bound: (6.0 / (fan_in + fan_out)).sqrt() },
            Initializer::He => Init::Normal { std: (2.0 / fan_in).sqrt() },
        }
    }
}

/// A block and the module whose names it sees.
#[derive(Clone, Debug)]
pub(super) struct BlockRef {
    pub(super) block: Rc<ast::Block>,
    pub(super) module: usize,
}

/// A call with a hole, whose parameters are shared by all its uses.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// The call.
    pub(super) call: Rc<ast::Expr>,
    /// Where its parameters live.
    pub(super) path: PathId,
    /// The module and the scope it was written in.
    pub(super) module: usize,
    pub(super) scope: Rc<Vec<(String, Value)>>,
}

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Tensor(Tensor),
    Int(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    List(Vec<Value>),
    Range(i64, i64),
    /// A size that names an axis.
    Axis(u64, AxisId),
    Block(BlockRef),
    Builtin(&'static str),
    Layer(Rc<Layer>),
    Init(Initializer),
    /// A feature, by position; not yet its tensor.
    Feature(usize),
    Table(usize),
    /// A file of blocks, by position.
    Module(usize),
    /// A body that gives nothing.
    Nothing,
    /// Stands for something already reported.
    Poison,
}

impl Value {
    /// What to do with a value that stands where a number does, or a whole one.
    pub(super) fn as_a_number(&self, whole: bool) -> Option<String> {
        match self {
            Value::Text(text) if text.parse::<f64>().is_ok() => Some(format!("write it without quotes: `{text}`")),
            Value::Float(number) if whole && number.fract() == 0.0 && number.abs() < 1e15 => Some(format!("write `{number:.0}`")),
            Value::Float(_) if whole => Some("write it without a fraction; `floor(…)` cuts one off".to_owned()),
            _ => None,
        }
    }

    /// The value in a modeler's words.
    pub(super) fn describe(&self, graph: &Graph) -> String {
        match self {
            Value::Tensor(tensor) => describe_type(graph, tensor.node),
            Value::Int(value) => format!("the number {value}"),
            Value::Float(value) => format!("the number {value:?}"),
            Value::Bool(value) => format!("{value}"),
            Value::Text(text) => format!("the text {text:?}"),
            Value::List(items) => format!("a list of {}", items.len()),
            Value::Range(start, end) => format!("the range {start}..{end}"),
            Value::Axis(0, _) => "the number of entries, which differs from example to example".to_owned(),
            Value::Axis(size, _) => format!("the size {size}"),
            Value::Block(block) => format!("the block `{}`", block.block.name.text),
            Value::Builtin(name) => format!("the function `{name}`"),
            Value::Layer(_) => "a layer".to_owned(),
            Value::Init(_) => "an initializer".to_owned(),
            Value::Feature(_) => "a feature of ids".to_owned(),
            Value::Table(_) => "a table".to_owned(),
            Value::Module(_) => "a file of blocks".to_owned(),
            Value::Nothing => "nothing".to_owned(),
            Value::Poison => "a value with a mistake".to_owned(),
        }
    }

    /// The number a compile-time number is.
    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            Value::Int(value) => Some(*value as f64),
            Value::Axis(size, _) if *size > 0 => Some(*size as f64),
            Value::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The whole number a compile-time number is.
    pub(super) fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(value) => Some(*value),
            Value::Axis(size, _) if *size > 0 => Some(*size as i64),
            _ => None,
        }
    }

    pub(super) fn is_callable(&self) -> bool {
        matches!(self, Value::Block(_) | Value::Builtin(_) | Value::Layer(_))
    }
}

/// `f32[26, 16]`
pub(super) fn describe_type(graph: &Graph, node: NodeId) -> String {
    let ty = &graph[node].ty;
    let element = match ty.dtype {
        DType::Bool => "bool",
        DType::I32 => "time",
        DType::F32 | DType::F64 => "f32",
    };
    format!("{element}{}", graph.describe_dims(node))
}

/// Joins spans for a binary expression's message.
#[derive(Clone, Debug)]
pub(super) struct Located {
    pub(super) value: Value,
    pub(super) span: Span,
}

/// A representation that a model names for use outside.
#[derive(Clone, Debug)]
pub(super) struct Exposed {
    pub(super) model: String,
    pub(super) name: String,
    pub(super) value: Value,
    pub(super) span: Span,
}
