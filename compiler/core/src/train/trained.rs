//! What a training step changes beside the model's parameters: slots of optimizers and of balanced gradients, and all updates.

use crate::graph::{Graph, NodeId, TableId};
use crate::ops::{Assign, Op, RowRead, RowWrite, Variable};
use recc_abi::{Init, Role, VariableId};

/// Variables the updates need and look-ups they group.
#[derive(Debug)]
pub struct Trained {
    /// The number of the first slot.
    first_slot: usize,
    /// Slots of optimizers and of balanced gradients, to be added behind the spec's variables in this order.
    pub slots: Vec<recc_abi::Variable>,
    /// Columns of each look-up of each table.
    pub lookups: Vec<(TableId, Vec<Vec<u32>>)>,
    /// Updates, in order.
    pub effects: Vec<NodeId>,
}

impl Trained {
    /// Nothing yet, beside the spec's variables.
    pub fn new(variables: &[recc_abi::Variable]) -> Self {
        Trained { first_slot: variables.len(), slots: Vec::new(), lookups: Vec::new(), effects: Vec::new() }
    }

    /// A new slot, zero at first, and its value before the step.
    pub(super) fn slot(&mut self, graph: &mut Graph, path: &str, shape: &[u64], table: Option<TableId>) -> (VariableId, NodeId) {
        let id = VariableId((self.first_slot + self.slots.len()) as u32);
        self.slots.push(recc_abi::Variable {
            path: path.to_owned(),
            shape: shape.to_vec(),
            table: table.map(|table| table.0),
            init: Init::Constant(0.0),
            role: Role::Optimizer,
            scored: false,
        });
        let path = path.to_owned();
        let read = match table {
            Some(table) => Op::RowRead(RowRead { table, variable: id, path, width: shape.first().copied() }),
            None => Op::Variable(Variable { id, path, dims: shape.to_vec() }),
        };
        (id, graph.add(read, &[]))
    }

    /// Gives a variable a new value.
    pub(super) fn write(&mut self, graph: &mut Graph, (variable, path): (VariableId, &str), table: Option<TableId>, value: NodeId) {
        let path = path.to_owned();
        let op = match table {
            Some(table) => Op::RowWrite(RowWrite { table, variable, path }),
            None => Op::Assign(Assign { variable, path }),
        };
        self.effects.push(graph.add(op, &[value]));
    }
}
