//! The reference executor: plain `f64`, one node at a time, no tricks. Every back end and every gradient is tested
//! against it, so it shares nothing with them but the graph.

use super::{Dim, NodeId, Program, Space, TableId, TensorType};
use crate::ops::UniformKind;
use recc_abi::VariableId;
use std::collections::BTreeMap;

/// The value of one item.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its shape, bags included.
    pub dims: Vec<usize>,
    /// Its elements, last axis fastest.
    pub data: Vec<f64>,
}

impl Item {
    /// One value everywhere.
    pub fn filled(dims: &[usize], value: f64) -> Self {
        Item { dims: dims.to_vec(), data: vec![value; dims.iter().product()] }
    }
    /// Where an element lies.
    pub fn offset(&self, at: &[usize]) -> usize {
        self.dims.iter().zip(at).fold(0, |offset, (dim, at)| offset * dim + at)
    }
    /// An element.
    pub fn at(&self, at: &[usize]) -> f64 {
        self.data[self.offset(at)]
    }
}

/// The value of a node: one item if it is global.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Per example, per touched row, or one.
    pub items: Vec<Item>,
}

impl Tensor {
    /// All elements in order.
    pub fn flat(&self) -> Vec<f64> {
        self.items.iter().flat_map(|item| item.data.iter().copied()).collect()
    }
}

/// Every position of a shape, last axis fastest.
pub fn positions(dims: &[usize]) -> impl Iterator<Item = Vec<usize>> + use<> {
    let dims = dims.to_vec();
    let total: usize = dims.iter().product();
    (0..total).map(move |mut flat| {
        let mut at = vec![0; dims.len()];
        for (place, dim) in at.iter_mut().zip(&dims).rev() {
            *place = flat % dim;
            flat /= dim;
        }
        at
    })
}

/// The touched rows of a table and where each occurs.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    /// Rows, each once.
    pub rows: Vec<usize>,
    /// Per look-up and row: example and slot of each occurrence.
    pub occurrences: Vec<Vec<Vec<(usize, usize)>>>,
}

/// What a graph reads.
#[derive(Clone, Debug, Default)]
pub struct Data {
    /// Examples.
    pub rows: usize,
    /// Numbers and labels by column.
    pub numbers: BTreeMap<u32, Vec<f64>>,
    /// Ids by column.
    pub ids: BTreeMap<u32, Vec<usize>>,
    /// Ids of bags and sequences by column.
    pub bags: BTreeMap<u32, Vec<Vec<usize>>>,
    /// Numbers and times of sequences by column.
    pub entry_numbers: BTreeMap<u32, Vec<Vec<f64>>>,
    /// What rows of one key share, by its slot and row.
    pub shared: BTreeMap<u32, Vec<Vec<f64>>>,
    /// Mean and deviation by column.
    pub moments: BTreeMap<u32, [f64; 2]>,
    /// Values of variables.
    pub variables: BTreeMap<VariableId, Vec<f64>>,
    /// First row of a column's member of a table.
    pub row_bases: BTreeMap<(TableId, u32), usize>,
    /// Touched rows.
    pub touched: BTreeMap<TableId, Touched>,
    /// Numbers of the step.
    pub uniforms: Vec<(UniformKind, f64)>,
    /// Keys of random places.
    pub keys: BTreeMap<String, u32>,
}

impl Data {
    pub(crate) fn number(&self, column: u32, item: usize) -> f64 {
        self.numbers[&column][item]
    }
    pub(crate) fn id(&self, column: u32, item: usize) -> f64 {
        self.ids[&column][item] as f64
    }
    pub(crate) fn bag(&self, column: u32, item: usize) -> Vec<f64> {
        self.bags[&column][item].iter().map(|&id| id as f64).collect()
    }
    /// The row that comes next after each step of a sequence, or the id itself; 0 where none is known.
    pub fn targets(&self, column: u32, steps: bool, item: usize) -> Vec<usize> {
        if !steps {
            return vec![self.ids[&column][item]];
        }
        let ids = &self.bags[&column][item];
        (0..ids.len()).map(|at| ids.get(at + 1).copied().unwrap_or(0)).collect()
    }
    /// The log of the share of the training data that a row is, by a law that any counts could follow.
    pub fn log_share(&self, row: usize) -> f64 {
        if row == 0 { 0.0 } else { -1.5 - (row as f64).sqrt() }
    }
    pub(crate) fn moment(&self, column: u32, which: u8) -> f64 {
        self.moments[&column][which as usize]
    }
    pub(crate) fn variable(&self, id: VariableId) -> Vec<f64> {
        self.variables[&id].clone()
    }
    pub(crate) fn row_base(&self, table: TableId, column: u32) -> usize {
        self.row_bases.get(&(table, column)).copied().unwrap_or(0)
    }
    pub(crate) fn touched(&self, table: TableId) -> &Touched {
        &self.touched[&table]
    }
    pub(crate) fn random_key(&self, site: &str) -> u32 {
        self.keys.get(site).copied().unwrap_or(0)
    }
    /// A number of the step.
    pub fn uniform(&self, kind: &UniformKind) -> f64 {
        match (kind, self.uniforms.iter().find(|(own, _)| own == kind)) {
            (_, Some((_, value))) => *value,
            (UniformKind::BatchRows, None) => self.rows as f64,
            (UniformKind::TargetCount(column), None) => {
                let known = |ids: &mut dyn Iterator<Item = &usize>| ids.filter(|id| **id > 0).count();
                let count = match self.ids.get(column) {
                    Some(ids) => known(&mut ids.iter()),
                    None => known(&mut self.bags[column].iter().flat_map(|ids| ids.iter().skip(1))),
                };
                count.max(1) as f64
            }
            (UniformKind::RateScale | UniformKind::BiasCorrection(_) | UniformKind::OtherRows(_), None) => 1.0,
        }
    }
    fn items(&self, space: Space) -> usize {
        match space {
            Space::Global => 1,
            Space::Example => self.rows,
            Space::Row(table) => self.touched[&table].rows.len(),
        }
    }
}

/// What an operator's reference may ask.
pub struct ReferenceCx<'d> {
    pub(crate) data: &'d Data,
    pub(crate) ty: &'d TensorType,
}

impl ReferenceCx<'_> {
    pub(crate) fn items(&self) -> usize {
        self.data.items(self.ty.space)
    }

    /// The result's shape for one item.
    pub(crate) fn dims(&self, item: usize) -> Vec<usize> {
        let size = |dim: &Dim| match dim {
            Dim::Fixed(n) => *n as usize,
            Dim::Entries(column) => self.data.bags[column][item].len(),
        };
        self.ty.dims.iter().map(size).collect()
    }

    pub(crate) fn each_item(&self, value: impl Fn(usize, &Self) -> Vec<f64>) -> Tensor {
        Tensor { items: (0..self.items()).map(|item| Item { dims: self.dims(item), data: value(item, self) }).collect() }
    }
}

/// Values of all nodes that the program's roots need.
pub fn evaluate(program: &Program, data: &Data) -> BTreeMap<NodeId, Tensor> {
    let mut values: BTreeMap<NodeId, Tensor> = BTreeMap::new();
    let live = program.live();
    for &node in &live {
        let operands = program.graph.operands(node);
        let inputs: Vec<&Tensor> = operands.iter().map(|operand| &values[operand]).collect();
        let cx = ReferenceCx { data, ty: &program.graph[node].ty };
        let value = program.graph[node].op.reference(&cx, &inputs);
        values.insert(node, value);
    }
    values
}
