//! The buffers of a plan while it is made: what exists, and where stored nodes lie.

use super::{PlanSpec, StoredVariable};
use crate::graph::TableId;
use crate::loops::Affine;
use recc_abi::{Buffer, BufferId, Element, Input, InputSource, Place, VariableId};

/// Where a stored node lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Storage {
    /// The buffer.
    pub buffer: BufferId,
    /// Elements from item to item; 0 for a node that exists once.
    pub item_stride: i64,
}

impl Storage {
    /// The place of an element of an item.
    pub(crate) fn index(&self, item: &Affine, place: &Affine) -> Affine {
        item.times(self.item_stride).plus(place)
    }
}

/// All buffers of a plan.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    pub(crate) all: Vec<Buffer>,
    pub(crate) inputs: Vec<Input>,
    variables: Vec<(VariableId, BufferId)>,
    /// Members of each table.
    members: Vec<usize>,
    /// By id.
    stored: Vec<StoredVariable>,
    /// Most entries of an example, by column; 0 where it is not known.
    longest: Vec<u64>,
}

impl Buffers {
    pub(crate) fn new(spec: &PlanSpec) -> Self {
        Buffers { members: spec.members.clone(), stored: spec.variables.clone(), longest: spec.longest.clone(), ..Buffers::default() }
    }

    /// Most entries of an example.
    pub(crate) fn longest(&self, column: u32) -> u64 {
        self.known_longest(column).unwrap_or_else(|| unreachable!("pairs of entries of column {column}, which has no longest length"))
    }

    /// The same, if it is known.
    pub(crate) fn known_longest(&self, column: u32) -> Option<u64> {
        self.longest.get(column as usize).copied().filter(|longest| *longest > 0)
    }

    pub(crate) fn has_bases(&self, table: TableId) -> bool {
        self.members.get(table.0 as usize).is_some_and(|&members| members > 1)
    }

    pub(crate) fn buffer(&self, id: BufferId) -> &Buffer {
        &self.all[id.0 as usize]
    }

    pub(crate) fn add(&mut self, name: String, place: Place, element: Element, len: u64) -> BufferId {
        self.all.push(Buffer { name, place, element, len });
        BufferId(self.all.len() as u32 - 1)
    }

    /// The buffer the runtime fills from a source.
    pub(crate) fn input(&mut self, source: InputSource, place: Place, element: Element, len: u64) -> BufferId {
        if let Some(known) = self.inputs.iter().find(|input| input.source == source) {
            return known.buffer;
        }
        let buffer = self.add(input_name(&source), place, element, len);
        self.inputs.push(Input { buffer, source });
        buffer
    }

    /// The buffer of a variable.
    pub(crate) fn variable(&mut self, id: VariableId) -> BufferId {
        if let Some((_, buffer)) = self.variables.iter().find(|(own, _)| *own == id) {
            return *buffer;
        }
        let StoredVariable { path, width, element } = self.stored[id.0 as usize].clone();
        let buffer = self.add(path, Place::Variable(id), element, width);
        self.variables.push((id, buffer));
        buffer
    }

    /// The buffer of the scales of a variable's rows, if it is stored as integers.
    pub(crate) fn scales(&mut self, id: VariableId) -> Option<BufferId> {
        let StoredVariable { path, element, .. } = &self.stored[id.0 as usize];
        if *element != Element::I8 {
            return None;
        }
        let known = self.all.iter().position(|buffer| buffer.place == Place::Scales(id));
        let name = format!("scales of {path}");
        Some(known.map_or_else(|| self.add(name, Place::Scales(id), Element::F32, 1), |at| BufferId(at as u32)))
    }
}

fn input_name(source: &InputSource) -> String {
    match source {
        InputSource::Numbers { columns } => format!("numbers {columns:?}"),
        InputSource::Ids { columns } => format!("ids {columns:?}"),
        InputSource::EntryBegin { column } => format!("entries {column} begin"),
        InputSource::Entries { column } | InputSource::EntryNumbers { column } | InputSource::EntryTimes { column } => {
            format!("entries {column}")
        }
        InputSource::Time { column } => format!("time {column}"),
        InputSource::Drawn { column } => format!("drawn {column}"),
        InputSource::HasTarget { column } => format!("targets of {column}"),
        InputSource::Shared { slot } => format!("shared {slot}"),
        InputSource::LogShare { column } => format!("log shares of {column}"),
        InputSource::RowBase { table, columns } => format!("bases of table {table} for {columns:?}"),
        InputSource::Moments { columns } => format!("moments {columns:?}"),
        InputSource::RowNumber => "row numbers".to_owned(),
        InputSource::RandomKey { site } => format!("random key {site}"),
        InputSource::StepNumber => "step number".to_owned(),
        InputSource::RateScale => "rate scale".to_owned(),
        InputSource::BiasCorrection { beta } => format!("bias correction {beta}"),
        InputSource::BatchRows => "batch rows".to_owned(),
        InputSource::TargetCount { column } => format!("number of targets of {column}"),
        InputSource::Count { column: None } => "examples".to_owned(),
        InputSource::Count { column: Some(column) } => format!("number of entries {column}"),
        InputSource::OtherRows { table } => format!("rows of table {table} beside a target"),
        InputSource::RowCount { table } => format!("number of rows of table {table}"),
        InputSource::Rows { table, source } => format!("table {table} {source:?}"),
    }
}
