//! The invariants of a graph: every node's type is what its operator infers, operands are older than the node, effects
//! are effects and nothing uses them, results exist.

use super::{DType, Program};

/// A broken invariant: a bug of the compiler.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation(pub String);

impl Program {
    /// All broken invariants.
    pub fn verify(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        let graph = &self.graph;
        for node in graph.nodes() {
            let operands = graph.operands(node);
            let data = &graph[node];
            if operands.iter().any(|operand| *operand >= node) {
                found.push(Violation(format!("{node} uses a node that is not older")));
                continue;
            }
            let types: Vec<_> = operands.iter().map(|&operand| &graph[operand].ty).collect();
            match data.op.infer(&types) {
                Ok(ty) if ty == data.ty => {}
                Ok(ty) => found.push(Violation(format!("{node} is {} but `{}` gives {ty}", data.ty, data.op.name()))),
                Err(error) => found.push(Violation(format!("{node}: {error}"))),
            }
            if data.op.is_effect() && !graph.users(node).is_empty() {
                found.push(Violation(format!("{node} is an effect and is used")));
            }
            if data.op.is_effect() != self.effects.contains(&node) {
                found.push(Violation(format!("{node} `{}` is not listed as what it is", data.op.name())));
            }
        }
        for result in &self.results {
            if graph[result.node].ty.dtype != DType::F32 {
                found.push(Violation(format!("result `{}` is not f32", result.name)));
            }
        }
        found
    }
}
