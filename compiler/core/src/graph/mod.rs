//! The tensor graph: primitives with shapes, joined by operands.
//!
//! One graph type serves the forward graph, the step graph and the scoring graph. A node's type says over what it is
//! repeated (its [`Space`]) and the shape of one item. Operands of a node are older than the node, so ids in ascending order
//! are an evaluation order; the slot stored on an edge is the only source of operand order.

mod print;
pub mod reference;
mod verify;

use crate::ops::Op;
use crate::scalar::ScalarOp;
use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef as _;
use recc_abi::VariableId;
use std::collections::BTreeMap;

pub use verify::Violation;

/// A node of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(NodeIndex);

impl NodeId {
    /// Its number in printed graphs.
    pub fn number(self) -> usize {
        self.0.index()
    }
}

/// A table, by its position in the spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u32);

/// Over what a value is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// Once.
    Global,
    /// For each example of the batch.
    Example,
    /// For each touched row of a table.
    Row(TableId),
}

/// Element types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// 64-bit float: norms only.
    F64,
    /// Row of a table.
    I32,
    /// A truth value; never stored.
    Bool,
}

/// One axis of one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// A size known at compile time.
    Fixed(u64),
    /// The number of entries of a column of bags or sequences, by its position among the spec's columns. It leads the others of a
    /// stored value; once more as the last axis, it makes pairs of entries.
    Entries(u32),
}

impl Dim {
    /// The size, if it is known.
    pub fn fixed(self) -> Option<u64> {
        match self {
            Dim::Fixed(n) => Some(n),
            Dim::Entries(_) => None,
        }
    }
}

/// The type of a node's value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Over what it is repeated.
    pub space: Space,
    /// Of what.
    pub dtype: DType,
    /// Shape of one item.
    pub dims: Vec<Dim>,
}

impl TensorType {
    /// `f32` values.
    pub fn f32(space: Space, dims: &[Dim]) -> Self {
        TensorType { space, dtype: DType::F32, dims: dims.to_vec() }
    }
    /// The same shape of another element type.
    pub fn with_dtype(&self, dtype: DType) -> Self {
        TensorType { dtype, ..self.clone() }
    }
    /// Elements of one item; `None` with an axis of entries.
    #[allow(clippy::len_without_is_empty, reason = "a product of sizes; whether it is zero is nobody's question")]
    pub fn len(&self) -> Option<u64> {
        self.dims.iter().map(|dim| dim.fixed()).product()
    }
    /// Whether an axis has a length of its own per example.
    pub fn is_ragged(&self) -> bool {
        self.dims.iter().any(|dim| dim.fixed().is_none())
    }
    /// The column whose entries lead the axes.
    pub fn entries(&self) -> Option<u32> {
        match self.dims.first() {
            Some(Dim::Entries(column)) => Some(*column),
            _ => None,
        }
    }
    /// Whether it holds a number for each pair of one column's entries: its entries lead the axes, and end them.
    pub fn is_pairs(&self) -> bool {
        self.dims.len() > 1 && self.entries().is_some() && self.dims.last().is_some_and(|dim| dim.fixed().is_none())
    }
    /// Whether all axes are fixed but for entries in front.
    pub fn is_plain(&self) -> bool {
        self.dims.iter().skip(usize::from(self.entries().is_some())).all(|dim| dim.fixed().is_some())
    }
    /// Whether it has a place in memory: without entries, with entries in front, or of pairs of one column's.
    pub fn is_storable(&self) -> bool {
        let middle = if self.is_pairs() { self.dims.len() - 1 } else { self.dims.len() };
        let fixed = |dims: &[Dim]| dims.iter().all(|dim| dim.fixed().is_some());
        match self.entries() {
            None => fixed(&self.dims),
            Some(_) => fixed(&self.dims[1..middle]) && (!self.is_pairs() || self.dims.first() == self.dims.last()),
        }
    }
    /// Elements along all axes but those of entries.
    pub fn fixed_len(&self) -> u64 {
        self.dims.iter().filter_map(|dim| dim.fixed()).product()
    }
}

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// Of what type.
    pub ty: TensorType,
    /// Where it comes from, for names of kernels and messages: `deepfm.deep.mlp.linear`.
    pub origin: String,
}

/// A graph.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    inner: StableDiGraph<Node, u32>,
    origin: String,
    /// Names of the axes of entries, by column: `~history`, `*tags`.
    entries: BTreeMap<u32, String>,
}

impl std::ops::Index<NodeId> for Graph {
    type Output = Node;
    fn index(&self, id: NodeId) -> &Node {
        &self.inner[id.0]
    }
}

impl Graph {
    /// Names the axis of a column's entries.
    pub fn name_entries(&mut self, column: u32, name: String) {
        self.entries.insert(column, name);
    }

    /// The graph as it is; what stays has its names alone.
    pub fn take_nodes(&mut self) -> Graph {
        let names = Graph { entries: self.entries.clone(), ..Graph::default() };
        std::mem::replace(self, names)
    }

    /// A node's shape in a modeler's words: `[~history, 16]`; nothing of a single number.
    pub fn describe_dims(&self, node: NodeId) -> String {
        let dim = |dim: &Dim| match dim {
            Dim::Fixed(n) => n.to_string(),
            Dim::Entries(column) => self.entries.get(column).cloned().unwrap_or_else(|| format!("~{column}")),
        };
        let dims: Vec<String> = self[node].ty.dims.iter().map(dim).collect();
        if dims.is_empty() { String::new() } else { format!("[{}]", dims.join(", ")) }
    }

    /// What the nodes added next come from.
    pub fn set_origin(&mut self, origin: &str) {
        if self.origin != origin {
            self.origin = origin.to_owned();
        }
    }

    /// What the nodes added now come from.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Adds a node; an operator that does not take these operands is a bug of the caller.
    #[track_caller]
    pub fn add(&mut self, op: Op, operands: &[NodeId]) -> NodeId {
        let types: Vec<&TensorType> = operands.iter().map(|&operand| &self[operand].ty).collect();
        let ty = match op.infer(&types) {
            Ok(ty) => ty,
            Err(error) => panic!("internal error: `{}` built wrongly: {error}", op.name()),
        };
        let origin = self.origin.clone();
        let id = self.inner.add_node(Node { op, ty, origin });
        for (slot, operand) in operands.iter().enumerate() {
            self.inner.add_edge(operand.0, id, slot as u32);
        }
        NodeId(id)
    }

    /// An elementwise node.
    #[track_caller]
    pub fn map(&mut self, op: ScalarOp, operands: &[NodeId]) -> NodeId {
        self.add(Op::Map(crate::ops::Map { op }), operands)
    }

    /// A constant of the type of another node.
    pub fn constant_like(&mut self, shape: NodeId, value: f64) -> NodeId {
        let ty = self[shape].ty.clone();
        self.constant_of(&ty, value)
    }

    /// A constant of a type.
    pub fn constant_of(&mut self, ty: &TensorType, value: f64) -> NodeId {
        let constant = self.add(Op::Constant(crate::ops::Constant::new(value)), &[]);
        let constant = if ty.dtype == DType::F64 { self.map(ScalarOp::Widen, &[constant]) } else { constant };
        self.broadcast(constant, ty.space, &ty.dims)
    }

    /// Zeros of the type of another node, but `len` along an axis.
    pub fn zeros_along(&mut self, like: NodeId, axis: usize, len: u64) -> NodeId {
        let mut ty = self[like].ty.clone();
        ty.dims[axis] = Dim::Fixed(len);
        self.constant_of(&ty, 0.0)
    }

    /// A value repeated to a larger shape whose last axes are its own; the node itself if nothing changes.
    #[track_caller]
    pub fn broadcast(&mut self, value: NodeId, space: Space, dims: &[Dim]) -> NodeId {
        let own = &self[value].ty;
        if own.space == space && own.dims == dims {
            return value;
        }
        let shift = dims.len() - own.dims.len();
        let axes = (0..own.dims.len()).map(|axis| axis + shift).collect();
        self.add(Op::Broadcast(crate::ops::Broadcast { space, dims: dims.to_vec(), axes }), &[value])
    }

    /// The sum of two values of one type.
    #[track_caller]
    pub fn sum(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.map(ScalarOp::Add, &[a, b])
    }

    /// Operands in order.
    pub fn operands(&self, node: NodeId) -> Vec<NodeId> {
        let mut edges: Vec<_> = self.inner.edges_directed(node.0, Direction::Incoming).collect();
        edges.sort_by_key(|edge| *edge.weight());
        edges.into_iter().map(|edge| NodeId(edge.source())).collect()
    }

    /// Nodes that use this one, each once, in ascending order.
    pub fn users(&self, node: NodeId) -> Vec<NodeId> {
        let mut users: Vec<NodeId> = self.inner.neighbors_directed(node.0, Direction::Outgoing).map(NodeId).collect();
        users.sort();
        users.dedup();
        users
    }

    /// All nodes in ascending order, which is an evaluation order.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = NodeId> + '_ {
        self.inner.node_indices().map(NodeId)
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.inner.node_count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Named results of a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// `loss`, `click`, `click.link`
    pub name: String,
    /// The node.
    pub node: NodeId,
}

/// A graph with what is wanted of it: results and effects.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// The nodes.
    pub graph: Graph,
    /// What is read after a run.
    pub results: Vec<Named>,
    /// What is written: updates of variables, in order.
    pub effects: Vec<NodeId>,
}

impl Program {
    /// Everything that must be computed.
    pub fn roots(&self) -> Vec<NodeId> {
        self.results.iter().map(|result| result.node).chain(self.effects.iter().copied()).collect()
    }

    /// Nodes that a root needs.
    pub fn live(&self) -> std::collections::BTreeSet<NodeId> {
        let mut live = std::collections::BTreeSet::new();
        let mut stack = self.roots();
        while let Some(node) = stack.pop() {
            if live.insert(node) {
                stack.extend(self.graph.operands(node));
            }
        }
        live
    }

    /// Variables the program reads or writes.
    pub fn variables(&self) -> std::collections::BTreeSet<VariableId> {
        self.graph.nodes().filter_map(|node| self.graph[node].op.variable()).collect()
    }
}
