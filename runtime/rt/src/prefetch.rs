//! Rows of tables on their way to the cache before kernels ask for them: ids lie all over a large table, and a processor cannot guess
//! the next one.

use recc_abi::{BufferId, InputSource, ItemSpace, Job, Place, Plan, Program, RowSource};
use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

/// Bytes that come to the cache together.
const LINE: usize = 64;

/// Rows that an id of a batch names.
struct Lookup {
    /// Ids of examples, or of bags' entries.
    ids: BufferId,
    /// Where the entries of each example's bag begin; none where every example has `fields` ids.
    begins: Option<BufferId>,
    fields: usize,
    /// First row of each field's member.
    bases: Option<BufferId>,
    table: BufferId,
    row_bytes: usize,
    /// The rows' scales, if the table holds 8-bit integers.
    scales: Option<BufferId>,
}

/// Rows that an update changes.
struct Update {
    table: u32,
    rows: BufferId,
    /// The table and what its optimizer keeps, with the bytes of a row.
    variables: Vec<(BufferId, usize)>,
}

/// What of a plan's tables can be asked for ahead.
pub(crate) struct Prefetch {
    lookups: Vec<Lookup>,
    updates: Vec<Update>,
}

impl Prefetch {
    pub(crate) fn new(program: &Program, plan: &Plan) -> Self {
        let input = |wanted: &InputSource| plan.inputs.iter().find(|input| input.source == *wanted).map(|input| input.buffer);
        let variable = |id: u32| {
            let place = plan.buffers.iter().position(|buffer| matches!(buffer.place, Place::Variable(own) if own.0 == id));
            place.map(|at| BufferId(at as u32))
        };
        let row_bytes = |id: u32| {
            let place = variable(id).map(|buffer| plan.buffers[buffer.0 as usize].element.bytes());
            program.variables[id as usize].shape.iter().product::<u64>() as usize * place.unwrap_or(0) as usize
        };
        let mut found = Prefetch { lookups: Vec::new(), updates: Vec::new() };
        for (number, table) in (0u32..).zip(&program.tables) {
            for columns in &table.lookups {
                let bag = columns.first().and_then(|&column| input(&InputSource::Entries { column }));
                let of = |&column: &u32| recc_abi::entries_of(&program.columns, column);
                let begins = columns.first().and_then(|column| input(&InputSource::EntryBegin { column: of(column) }));
                let ids = input(&InputSource::Ids { columns: columns.clone() }).or(bag);
                let bases = input(&InputSource::RowBase { table: number, columns: columns.clone() });
                if let (Some(ids), Some(rows)) = (ids, variable(table.variable.0)) {
                    let (fields, row_bytes) = (columns.len(), row_bytes(table.variable.0));
                    let scales = plan.buffers.iter().position(|buffer| buffer.place == Place::Scales(table.variable));
                    let scales = scales.map(|at| BufferId(at as u32));
                    found.lookups.push(Lookup {
                        ids,
                        begins: begins.filter(|_| bag.is_some()),
                        fields,
                        bases,
                        table: rows,
                        row_bytes,
                        scales,
                    });
                }
            }
            if let (false, Some(rows)) = (table.all_rows, input(&InputSource::Rows { table: number, source: RowSource::Rows })) {
                let own = (0u32..).zip(&program.variables).filter(|(_, variable)| variable.table == Some(number));
                let variables = own.filter_map(|(id, _)| Some((variable(id)?, row_bytes(id)))).collect();
                found.updates.push(Update { table: number, rows, variables });
            }
        }
        found
    }

    /// Asks for the rows that a job's kernels load for some of its items.
    ///
    /// # Safety
    /// The pointers are those of the plan's buffers, filled for a batch that has these items.
    pub(crate) unsafe fn ask(&self, job: &Job, start: usize, count: usize, pointers: &[*mut u8]) {
        let words = |buffer: BufferId| pointers[buffer.0 as usize].cast_const().cast::<u32>();
        match job.space {
            ItemSpace::Examples => {
                for lookup in self.lookups.iter().filter(|lookup| job.variables.contains(&lookup.table)) {
                    // SAFETY: ids and bases have an element for each field of the examples, and begins one more than examples.
                    unsafe {
                        let (first, last) = match lookup.begins {
                            Some(begins) => (*words(begins).add(start) as usize, *words(begins).add(start + count) as usize),
                            None => (start * lookup.fields, (start + count) * lookup.fields),
                        };
                        let table = pointers[lookup.table.0 as usize];
                        let mut field = 0;
                        for at in first..last {
                            let base = lookup.bases.map_or(0, |bases| *words(bases).add(field));
                            field = if field + 1 == lookup.fields { 0 } else { field + 1 };
                            let number = (base + *words(lookup.ids).add(at)) as usize;
                            row(table, number, lookup.row_bytes);
                            if let Some(scales) = lookup.scales {
                                row(pointers[scales.0 as usize], number, size_of::<f32>());
                            }
                        }
                    }
                }
            }
            ItemSpace::Rows(table) => {
                for update in self.updates.iter().filter(|update| update.table == table) {
                    for at in start..start + count {
                        // SAFETY: there is a row number for each item.
                        let number = unsafe { *words(update.rows).add(at) } as usize;
                        for &(variable, row_bytes) in update.variables.iter().filter(|(variable, _)| job.variables.contains(variable)) {
                            row(pointers[variable.0 as usize], number, row_bytes);
                        }
                    }
                }
            }
            ItemSpace::Fixed { .. } => {}
        }
    }
}

/// Asks for a row; of one that is not there nothing happens.
fn row(table: *mut u8, number: usize, bytes: usize) {
    let first = table.wrapping_add(number * bytes);
    (0..bytes).step_by(LINE).for_each(|line| ask(first.wrapping_add(line)));
}

/// Asks for the line of an address.
pub(crate) fn ask<T>(address: *const T) {
    // SAFETY: a prefetch reads nothing that the program sees, and faults never.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
}
