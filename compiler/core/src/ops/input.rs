//! A column of the batch: numbers, labels, ids or the ids of a bag.

use super::{GradientCx, OpDef, none};
use crate::graph::reference::{ReferenceCx, Tensor};
use crate::graph::{DType, Dim, NodeId, Space, TensorType};
use crate::loops::{Reg, Type};
use crate::plan::emit::{At, Emitter};
use recc_abi::InputSource;

/// What is read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum InputKind {
    /// Numbers or labels: `f32`, with an axis if it is a group.
    Numbers,
    /// A time in seconds: `i32`.
    Time,
    /// Ids: `i32`, with an axis if it is a group.
    Ids,
    /// The ids of a bag or a sequence: `i32[~of]`.
    Entries {
        /// The column whose entries they belong to.
        of: u32,
    },
    /// The numbers of a sequence: `f32[~of]`.
    EntryNumbers {
        /// The column whose entries they belong to.
        of: u32,
    },
    /// The times of a sequence, in seconds: `i32[~of]`.
    EntryTimes {
        /// The column whose entries they belong to.
        of: u32,
    },
    /// Rows drawn for each step of a sequence, `i32[~of, count]`, or for an id, `i32[count]`.
    Drawn {
        /// The column whose entries they belong to, of a sequence.
        of: Option<u32>,
        /// How many for each.
        count: u64,
    },
    /// Rows drawn once for the batch: `i32[count]`, global.
    DrawnOnce {
        /// How many.
        count: u64,
    },
    /// 1 for each step of a sequence whose next one is a known value, `f32[~of]`, or where an id is one, `f32`; else 0.
    HasTarget {
        /// The column whose entries they belong to, of a sequence.
        of: Option<u32>,
    },
    /// Of rows drawn once for the batch, the log of the share of the training data's targets that each is: `f32[count]`, global.
    LogShare {
        /// How many.
        count: u64,
    },
    /// What another plan computed from the sequences that rows of one key share: `f32`.
    Shared {
        /// Which value.
        slot: u32,
        /// Its shape.
        dims: Vec<Dim>,
    },
    /// Mean (0) or deviation (1) learned from training data: `f32`, global.
    Moment(u8),
}

/// Reads columns of the program.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Input {
    /// The feature's name.
    pub name: String,
    /// What is read.
    pub kind: InputKind,
    /// Positions in the program's columns.
    pub columns: Vec<u32>,
    /// Whether the feature is a group, which has an axis.
    pub group: bool,
}

impl Input {
    /// A single column of numbers, labels or conditions, as the data have it.
    pub fn number(name: &str, column: u32) -> Self {
        Input { name: name.to_owned(), kind: InputKind::Numbers, columns: vec![column], group: false }
    }
}

impl OpDef for Input {
    const NAME: &'static str = "input";

    fn attributes(&self) -> String {
        let kind = match self.kind {
            InputKind::Numbers | InputKind::Shared { .. } => "",
            InputKind::Time => " time",
            InputKind::Ids => " ids",
            InputKind::Entries { .. } => " entries",
            InputKind::EntryNumbers { .. } => " numbers",
            InputKind::EntryTimes { .. } => " times",
            InputKind::Drawn { .. } => " drawn",
            InputKind::DrawnOnce { .. } => " drawn once",
            InputKind::HasTarget { .. } => " has a target",
            InputKind::LogShare { .. } => " log shares",
            InputKind::Moment(0) => " mean",
            InputKind::Moment(_) => " deviation",
        };
        format!("{}{kind}", self.name)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        none(Self::NAME, inputs)?;
        let axis = if self.group { vec![Dim::Fixed(self.columns.len() as u64)] } else { vec![] };
        Ok(match self.kind {
            InputKind::Shared { ref dims, .. } => TensorType::f32(Space::Example, dims),
            InputKind::Numbers => TensorType::f32(Space::Example, &axis),
            InputKind::Moment(_) => TensorType::f32(Space::Global, &axis),
            InputKind::Time => TensorType { space: Space::Example, dtype: DType::I32, dims: vec![] },
            InputKind::Ids => TensorType { space: Space::Example, dtype: DType::I32, dims: axis },
            InputKind::Entries { of } | InputKind::EntryTimes { of } => {
                TensorType { space: Space::Example, dtype: DType::I32, dims: vec![Dim::Entries(of)] }
            }
            InputKind::EntryNumbers { of } => TensorType::f32(Space::Example, &[Dim::Entries(of)]),
            InputKind::HasTarget { of } => TensorType::f32(Space::Example, &of.map(Dim::Entries).into_iter().collect::<Vec<_>>()),
            InputKind::LogShare { count } => TensorType::f32(Space::Global, &[Dim::Fixed(count)]),
            InputKind::Drawn { of, count } => {
                let dims = of.map(Dim::Entries).into_iter().chain([Dim::Fixed(count)]).collect();
                TensorType { space: Space::Example, dtype: DType::I32, dims }
            }
            InputKind::DrawnOnce { count } => TensorType { space: Space::Global, dtype: DType::I32, dims: vec![Dim::Fixed(count)] },
        })
    }

    fn gradient(&self, _: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        Vec::new()
    }

    fn reference(&self, cx: &ReferenceCx<'_>, _: &[&Tensor]) -> Tensor {
        let columns = &self.columns;
        match self.kind {
            InputKind::Time => cx.each_item(|item, _| vec![cx.data.number(columns[0], item)]),
            InputKind::Numbers => cx.each_item(|item, _| columns.iter().map(|column| cx.data.number(*column, item)).collect()),
            InputKind::Ids => cx.each_item(|item, _| columns.iter().map(|column| cx.data.id(*column, item)).collect()),
            InputKind::Entries { .. } | InputKind::Drawn { .. } | InputKind::DrawnOnce { .. } => {
                cx.each_item(|item, _| cx.data.bag(columns[0], item))
            }
            InputKind::HasTarget { of } => cx.each_item(|item, _| {
                cx.data.targets(columns[0], of.is_some(), item).into_iter().map(|row| f64::from(u8::from(row > 0))).collect()
            }),
            InputKind::LogShare { .. } => {
                cx.each_item(|item, _| cx.data.bags[&columns[0]][item].iter().map(|&row| cx.data.log_share(row)).collect())
            }
            InputKind::EntryNumbers { .. } | InputKind::EntryTimes { .. } => {
                cx.each_item(|item, _| cx.data.entry_numbers[&columns[0]][item].clone())
            }
            InputKind::Shared { slot, .. } => cx.each_item(|item, _| cx.data.shared[&slot][item].clone()),
            InputKind::Moment(which) => cx.each_item(|_, _| columns.iter().map(|column| cx.data.moment(*column, which)).collect()),
        }
    }

    fn element(&self, cx: &mut Emitter<'_>, node: NodeId, at: &At) -> Reg {
        let columns = self.columns.clone();
        match self.kind {
            InputKind::Time => cx.load_input(InputSource::Time { column: columns[0] }, node, at),
            InputKind::Numbers => cx.load_input(InputSource::Numbers { columns }, node, at),
            InputKind::Ids => cx.load_input(InputSource::Ids { columns }, node, at),
            InputKind::Entries { of } => cx.load_entries(InputSource::Entries { column: columns[0] }, of, node, at),
            InputKind::Drawn { of, .. } => cx.load_each(InputSource::Drawn { column: columns[0] }, of, node, at),
            InputKind::DrawnOnce { count } => cx.load_at(InputSource::Drawn { column: columns[0] }, count, Type::I32, at.index[0].clone()),
            InputKind::HasTarget { of } => cx.load_each(InputSource::HasTarget { column: columns[0] }, of, node, at),
            InputKind::LogShare { count } => {
                cx.load_at(InputSource::LogShare { column: columns[0] }, count, Type::F32, at.index[0].clone())
            }
            InputKind::EntryNumbers { of } => cx.load_entries(InputSource::EntryNumbers { column: columns[0] }, of, node, at),
            InputKind::EntryTimes { of } => cx.load_entries(InputSource::EntryTimes { column: columns[0] }, of, node, at),
            InputKind::Shared { slot, ref dims } => {
                let of = TensorType::f32(Space::Example, dims).entries();
                cx.load_each(InputSource::Shared { slot }, of, node, at)
            }
            InputKind::Moment(which) => {
                let shift = i64::from(which) * self.columns.len() as i64;
                cx.load_global(InputSource::Moments { columns }, 2 * self.columns.len() as u64, node, at, shift)
            }
        }
    }
}
