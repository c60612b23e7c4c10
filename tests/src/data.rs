//! Random data for a spec: columns, values of variables, and the grouping of rows, as the reference takes them.

use recc_abi::{ColumnKind, Domain, VariableId};
use recc_core::Built;
use recc_core::graph::TableId;
use recc_core::graph::reference::{Data, Touched};
use recc_core::ops::UniformKind;
use recc_core::spec::Spec;
use std::collections::BTreeMap;

/// Rows of every vocabulary, row 0 included.
pub const VOCAB: usize = 7;

/// A counter-based generator, so that data depend on the seed alone.
pub struct Draw {
    key: u64,
    at: u64,
}

impl Draw {
    /// Begins at a seed.
    pub fn new(seed: u64) -> Self {
        Draw { key: recc_rt::random::mix64(seed), at: 0 }
    }
    /// Uniform on [0, 1).
    pub fn uniform(&mut self) -> f64 {
        self.at += 1;
        recc_rt::random::uniform(self.key, self.at)
    }
    /// A whole number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.uniform() * n as f64) as usize
    }
    /// A number near zero, rounded to 32 bits.
    pub fn number(&mut self) -> f64 {
        f64::from((2.0 * self.uniform() - 1.0) as f32)
    }
}

/// Random data of some rows.
pub fn draw(spec: &Spec, built: &Built, rows: usize, seed: u64) -> Data {
    let mut draw = Draw::new(seed);
    let mut data = Data { rows, ..Data::default() };
    for (at, column) in spec.columns.iter().enumerate() {
        let at = at as u32;
        match &column.kind {
            ColumnKind::Label { binary } => {
                // Weights of rows are not negative.
                let weight = column.domain == Some(Domain::Weight);
                let number = |draw: &mut Draw| if weight { draw.number().abs() } else { draw.number() };
                let label = |draw: &mut Draw| match column.domain {
                    Some(Domain::Levels(levels)) => 1.0 + draw.below(levels as usize) as f64,
                    _ if *binary => draw.below(2) as f64,
                    _ => number(draw),
                };
                data.numbers.insert(at, (0..rows).map(|_| label(&mut draw)).collect());
            }
            ColumnKind::Time => {
                data.numbers.insert(at, (0..rows).map(|_| 1_600_000_000.0 + draw.below(1_000_000) as f64).collect());
            }
            ColumnKind::Number(_) => {
                data.numbers.insert(at, (0..rows).map(|_| draw.number()).collect());
                data.moments.insert(at, [0.25, 1.5]);
            }
            ColumnKind::Id { .. } => {
                data.ids.insert(at, (0..rows).map(|_| draw.below(VOCAB)).collect());
            }
            kind @ (ColumnKind::Ids { .. } | ColumnKind::Numbers { .. }) => {
                // Empty ones, the longest, and ids that repeat within one.
                let most = kind.longest().unwrap_or(4).min(4) as usize;
                let aligned = kind.split().and_then(|split| split.aligned);
                let counts: Vec<usize> = match aligned {
                    Some(other) => data.bags[&other].iter().map(Vec::len).collect(),
                    None => (0..rows).map(|_| draw.below(most + 1)).collect(),
                };
                let ids = counts.iter().map(|&count| (0..count).map(|_| draw.below(VOCAB)).collect());
                data.bags.insert(at, ids.collect());
                if let ColumnKind::Numbers { times, .. } = kind {
                    let number = |draw: &mut Draw| if *times { 1_600_000_000.0 + draw.below(1_000_000) as f64 } else { draw.number() };
                    let numbers = counts.iter().map(|&count| (0..count).map(|_| number(&mut draw)).collect());
                    data.entry_numbers.insert(at, numbers.collect());
                    data.moments.insert(at, [0.25, 1.5]);
                }
            }
            // Drawn when the sequences are known.
            ColumnKind::Key | ColumnKind::Drawn { .. } => {}
            ColumnKind::Flag { .. } => {
                data.numbers.insert(at, (0..rows).map(|_| draw.below(2) as f64).collect());
            }
        }
    }
    for (at, column) in spec.columns.iter().enumerate() {
        if let ColumnKind::Drawn { of, count, drawing, .. } = column.kind {
            let each = |row: usize| data.bags.get(&of).map_or(1, |bags| bags[row].len());
            // What is drawn for the batch is the first row's.
            let targets = |row: usize| if drawing.is_shared() { usize::from(row == 0) } else { each(row) };
            let ids = (0..rows).map(|row| (0..targets(row) * count as usize).map(|_| draw.below(VOCAB)).collect()).collect();
            data.bags.insert(at as u32, ids);
        }
    }
    for (table, spec) in built.tables.iter().enumerate() {
        for (member, place) in spec.members.iter().zip(0..) {
            for column in &member.columns {
                data.row_bases.insert((TableId(table as u32), *column), place * VOCAB);
            }
        }
    }
    for (at, variable) in built.variables.iter().enumerate() {
        let rows = variable.table.map_or(1, |table| built.tables[table as usize].members.len() * VOCAB);
        let count = rows * variable.shape.iter().product::<u64>() as usize;
        // Second moments and variances are not negative.
        let positive = variable.path.ends_with(".v") || variable.path.ends_with(".sum") || variable.path.ends_with("variance");
        let value = |draw: &mut Draw| if positive { 0.5 + draw.uniform() * 0.5 } else { draw.number() * 0.7 };
        data.variables.insert(VariableId(at as u32), (0..count).map(|_| f64::from(value(&mut draw) as f32)).collect());
    }
    group_rows(built, &mut data);
    let others = |table: usize| (UniformKind::OtherRows(TableId(table as u32)), VOCAB as f64 - 2.0);
    data.uniforms = (0..built.tables.len()).map(others).collect();
    for (place, input) in built.step_plan.plan.inputs.iter().enumerate() {
        if let recc_abi::InputSource::RandomKey { site } = &input.source {
            data.keys.insert(site.clone(), 77 + place as u32);
        }
    }
    data
}

/// Groups the rows that the ids touch, for every table.
pub fn group_rows(built: &Built, data: &mut Data) {
    for table in 0..built.tables.len() {
        let touched = touch(built, data, table);
        data.touched.insert(TableId(table as u32), touched);
    }
}

/// Columns of bags, by table and look-up.
pub fn lookups_of_bags(spec: &Spec, built: &Built) -> BTreeMap<(u32, u32), u32> {
    let mut found = BTreeMap::new();
    for (table, own) in built.tables.iter().enumerate() {
        for (lookup, columns) in own.lookups.iter().enumerate() {
            let by_entries = match spec.columns[columns[0] as usize].kind {
                ColumnKind::Ids { .. } => true,
                ColumnKind::Drawn { of, drawing, .. } => !drawing.is_shared() && spec.columns[of as usize].kind.split().is_some(),
                _ => false,
            };
            if by_entries {
                found.insert((table as u32, lookup as u32), columns[0]);
            }
        }
    }
    found
}

fn touch(built: &Built, data: &Data, table: usize) -> Touched {
    let spec = &built.tables[table];
    let id = TableId(table as u32);
    let mut touched = Touched::default();
    if spec.all_rows {
        touched.rows = (0..spec.members.len() * VOCAB).collect();
    }
    let place = |touched: &mut Touched, row: usize| match touched.rows.iter().position(|known| *known == row) {
        Some(place) => place,
        None => {
            touched.rows.push(row);
            touched.rows.len() - 1
        }
    };
    let mut found = Vec::new();
    for columns in &spec.lookups {
        let mut own = Vec::new();
        let mut entry = 0;
        for example in 0..data.rows {
            for (field, column) in columns.iter().enumerate() {
                let base = data.row_bases[&(id, *column)];
                if let Some(bags) = data.bags.get(column) {
                    for (within, row) in bags[example].iter().enumerate() {
                        own.push((place(&mut touched, row + base), example, within, entry));
                        entry += 1;
                    }
                } else {
                    own.push((place(&mut touched, data.ids[column][example] + base), example, field, field));
                }
            }
        }
        found.push(own);
    }
    let rows = touched.rows.len();
    touched.occurrences = found
        .into_iter()
        .map(|own| {
            let mut by_row = vec![Vec::new(); rows];
            own.into_iter().for_each(|(place, example, slot, _)| by_row[place].push((example, slot)));
            by_row
        })
        .collect();
    touched
}
