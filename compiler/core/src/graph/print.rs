//! Graphs as text: one node a line, and as a picture for Graphviz.

use super::{DType, Dim, Graph, NodeId, Program, Space, TensorType};
use std::fmt::{self, Write as _};

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.number())
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(n) => write!(f, "{n}"),
            Dim::Entries(column) => write!(f, "~{column}"),
        }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dtype = match self.dtype {
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::I32 => "i32",
            DType::Bool => "bool",
        };
        let dims: Vec<String> = self.dims.iter().map(ToString::to_string).collect();
        let shape = if dims.is_empty() { String::new() } else { format!("[{}]", dims.join(", ")) };
        match self.space {
            Space::Global => write!(f, "{dtype}{shape}"),
            Space::Example => write!(f, "each {dtype}{shape}"),
            Space::Row(table) => write!(f, "row#{} {dtype}{shape}", table.0),
        }
    }
}

impl Graph {
    fn line(&self, node: NodeId) -> String {
        let operands: Vec<String> = self.operands(node).iter().map(ToString::to_string).collect();
        let attributes = self[node].op.attributes();
        let mut parts: Vec<String> = operands;
        if !attributes.is_empty() {
            parts.push(attributes);
        }
        format!("{node}: {} = {}({})", self[node].ty, self[node].op.name(), parts.join(", "))
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut origin = "";
        for node in self.graph.nodes() {
            if self.graph[node].origin != origin {
                origin = &self.graph[node].origin;
                writeln!(f, "// {origin}")?;
            }
            writeln!(f, "{}", self.graph.line(node))?;
        }
        for result in &self.results {
            writeln!(f, "result {} = {}", result.name, result.node)?;
        }
        for effect in &self.effects {
            writeln!(f, "effect {effect}")?;
        }
        Ok(())
    }
}

impl Program {
    /// The graph in Graphviz's language.
    pub fn to_dot(&self) -> String {
        let mut out = String::from("digraph recc {\n  rankdir=TB; node [shape=box, fontname=\"monospace\", fontsize=10];\n");
        for node in self.graph.nodes() {
            let data = &self.graph[node];
            let label = format!("{node} {} {}\\n{}", data.op.name(), data.op.attributes().replace('"', "'"), data.ty);
            let _ = writeln!(out, "  n{} [label=\"{label}\"];", node.number());
            for (slot, operand) in self.graph.operands(node).iter().enumerate() {
                let _ = writeln!(out, "  n{} -> n{} [label=\"{slot}\"];", operand.number(), node.number());
            }
        }
        for result in &self.results {
            let _ = writeln!(out, "  \"{}\" [shape=oval]; n{} -> \"{}\";", result.name, result.node.number(), result.name);
        }
        out.push_str("}\n");
        out
    }
}
