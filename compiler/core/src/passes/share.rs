//! Common subexpressions become one node; nodes that nothing needs go.

use super::rebuild;
use crate::graph::{NodeId, Program};
use crate::ops::Op;
use std::collections::HashMap;

/// Equal operator, equal operands: one node. Everything but effects is pure, random numbers among it.
pub(super) fn share(program: &Program) -> Program {
    let mut known: HashMap<(Op, Vec<NodeId>), NodeId> = HashMap::new();
    rebuild(program, |graph, op, operands| {
        if op.is_effect() {
            return None;
        }
        let key = (op.clone(), operands.to_vec());
        Some(*known.entry(key).or_insert_with(|| graph.add(op.clone(), operands)))
    })
}

/// A rebuild visits what is needed, and nothing else.
pub(super) fn drop_dead(program: &Program) -> Program {
    rebuild(program, |_, _, _| None)
}
