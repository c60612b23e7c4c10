//! Runs compiled kernels: the one place of the tests that calls machine code.
//!
//! A plain runner, apart from the product's: launches, jobs and lanes one after another, every buffer in memory of its own with
//! guard words behind it, so that a write out of bounds is seen.

use memmap2::MmapMut;
use recc_abi::{Buffer, Element, InputSource, ItemSpace, KernelFn, Place, Plan, RowSource, VariableId};
use recc_codegen::{Compiled, Level, compile_kernels};
use recc_core::graph::TableId;
use recc_core::graph::reference::Data;
use recc_core::loops::{Kernel, verify};
use recc_core::ops::UniformKind;
use recc_rt::{FUNCTIONS, as_stored};
use std::collections::BTreeMap;

/// Written behind every buffer.
const GUARD: u32 = 0x7fc0_dead;
/// Entries of a tile: few, so that batches of some examples have several.
const TILE_ENTRIES: usize = 6;
const GUARDS: usize = 16;

/// Results of a native run.
pub struct Outcome {
    /// Named results.
    pub results: BTreeMap<String, Vec<f32>>,
    /// Variables afterwards.
    pub variables: BTreeMap<VariableId, Vec<f32>>,
}

/// Code in executable memory.
pub struct Loaded {
    code: memmap2::Mmap,
    entries: Vec<u64>,
}

/// Compiles and loads kernels.
pub fn load(kernels: &[Kernel], level: Level) -> Loaded {
    let verified: Vec<_> = kernels.iter().map(|kernel| verify(kernel).unwrap_or_else(|found| panic!("{found:?}\n{kernel}"))).collect();
    let Compiled { code, entries } = compile_kernels(&verified, level).expect("verified kernels compile");
    let mut map = MmapMut::map_anon(code.len().max(1)).expect("memory");
    map[..code.len()].copy_from_slice(&code);
    Loaded { code: map.make_exec().expect("executable memory"), entries: entries.iter().map(|entry| entry.offset).collect() }
}

/// Runs the first kernel on some items, with buffers of words that it may write; their ends are guarded.
pub fn call(loaded: &Loaded, buffers: &mut [Vec<u32>], items: usize) {
    buffers.iter_mut().for_each(|words| words.extend([GUARD; GUARDS]));
    let pointers: Vec<*mut u8> = buffers.iter_mut().map(|words| words.as_mut_ptr().cast()).collect();
    // SAFETY: the code holds a kernel of this signature, verified for buffers of these sizes.
    unsafe {
        let kernel = std::mem::transmute::<*const u8, KernelFn>(loaded.code.as_ptr().add(loaded.entries[0] as usize));
        kernel(pointers.as_ptr(), 0, items as i64, &raw const FUNCTIONS);
    }
    for words in buffers {
        let guards = words.split_off(words.len() - GUARDS);
        assert!(guards.iter().all(|guard| *guard == GUARD), "a buffer was written behind its end");
    }
}

/// The words of an input, if it comes from data.
fn input(source: &InputSource, data: &Data) -> Vec<u32> {
    let float = |value: f64| (value as f32).to_bits();
    let rows = 0..data.rows;
    match source {
        InputSource::Numbers { columns } => {
            rows.flat_map(|row| columns.iter().map(move |column| float(data.numbers[column][row]))).collect()
        }
        InputSource::Time { column } => rows.map(|row| data.numbers[column][row] as i32 as u32).collect(),
        InputSource::Ids { columns } => rows.flat_map(|row| columns.iter().map(move |column| data.ids[column][row] as u32)).collect(),
        InputSource::EntryBegin { column } => {
            let mut total = 0;
            std::iter::once(0)
                .chain(data.bags[column].iter().map(|bag| {
                    total += bag.len() as u32;
                    total
                }))
                .collect()
        }
        // One more than there are: what follows the last entry is read and not used.
        InputSource::Entries { column } => data.bags[column].iter().flatten().map(|&id| id as u32).chain([0]).collect(),
        InputSource::Drawn { column } => data.bags[column].iter().flatten().map(|&id| id as u32).collect(),
        InputSource::HasTarget { column } => targets(data, *column).map(|row| float(f64::from(u8::from(row > 0)))).collect(),
        InputSource::Shared { slot } => data.shared[slot].iter().flatten().map(|&value| float(value)).chain([0]).collect(),
        InputSource::LogShare { column } => data.bags[column].iter().flatten().map(|&row| float(data.log_share(row))).collect(),
        InputSource::EntryNumbers { column } => {
            data.entry_numbers[column].iter().flatten().map(|&number| float(number)).chain([0]).collect()
        }
        InputSource::EntryTimes { column } => {
            data.entry_numbers[column].iter().flatten().map(|&time| time as i32 as u32).chain([0]).collect()
        }
        InputSource::RowBase { table, columns } => {
            columns.iter().map(|column| data.row_bases[&(TableId(*table), *column)] as u32).collect()
        }
        InputSource::Moments { columns } => {
            [0, 1].into_iter().flat_map(|which| columns.iter().map(move |column| float(data.moments[column][which]))).collect()
        }
        InputSource::RowNumber => (0..data.rows as u32).collect(),
        InputSource::RandomKey { site } => vec![data.keys.get(site).copied().unwrap_or(0)],
        InputSource::OtherRows { table } => vec![uniform(data, &UniformKind::OtherRows(TableId(*table)))],
        InputSource::StepNumber => vec![0],
        InputSource::RateScale => vec![uniform(data, &UniformKind::RateScale)],
        InputSource::BiasCorrection { beta } => vec![uniform(data, &UniformKind::BiasCorrection(beta.to_bits()))],
        InputSource::BatchRows => vec![float(data.rows as f64)],
        InputSource::TargetCount { column } => vec![uniform(data, &UniformKind::TargetCount(*column))],
        InputSource::Count { column: None } => vec![data.rows as u32],
        InputSource::Count { column: Some(column) } => vec![data.bags[column].iter().map(Vec::len).sum::<usize>() as u32],
        InputSource::RowCount { table } => vec![data.touched[&TableId(*table)].rows.len() as u32],
        InputSource::Rows { table, source } => rows_part(data, TableId(*table), source),
    }
}

/// The rows that a ranking's targets are.
fn targets(data: &Data, column: u32) -> impl Iterator<Item = usize> + '_ {
    let steps = !data.ids.contains_key(&column);
    (0..data.rows).flat_map(move |row| data.targets(column, steps, row))
}

fn uniform(data: &Data, kind: &UniformKind) -> u32 {
    let known = data.uniform(kind);
    (known as f32).to_bits()
}

fn rows_part(data: &Data, table: TableId, source: &RowSource) -> Vec<u32> {
    let touched = &data.touched[&table];
    let occurrences = |lookup: &u32| touched.occurrences[*lookup as usize].iter();
    match source {
        RowSource::Rows => touched.rows.iter().map(|&row| row as u32).collect(),
        RowSource::Begin { lookup } => {
            let mut total = 0;
            std::iter::once(0)
                .chain(occurrences(lookup).map(|own| {
                    total += own.len() as u32;
                    total
                }))
                .collect()
        }
        RowSource::Example { lookup } => occurrences(lookup).flatten().map(|&(example, _)| example as u32).collect(),
        RowSource::Slot { lookup } | RowSource::Within { lookup } => occurrences(lookup).flatten().map(|&(_, slot)| slot as u32).collect(),
    }
}

/// Where entries of a bag begin, per example: slots of bags count over the batch.
pub fn bag_slots(data: &Data, column: u32) -> Vec<usize> {
    let mut total = 0;
    data.bags[&column]
        .iter()
        .map(|bag| {
            let begin = total;
            total += bag.len();
            begin
        })
        .collect()
}

/// A variable's values in the form that a plan reads, and the scales of its rows.
fn stored(buffer: &Buffer, values: &[f64]) -> (Vec<u8>, Vec<f32>) {
    let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    as_stored(buffer.element, &values, buffer.len as usize).expect("memory")
}

/// The data with the variables' values as a plan reads them.
pub fn as_read(plan: &Plan, data: &Data) -> Data {
    let mut data = data.clone();
    for buffer in &plan.buffers {
        let Place::Variable(id) = buffer.place else { continue };
        let (bytes, scales) = stored(buffer, &data.variables[&id]);
        let half = |bytes: &[u8]| half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f64();
        let scaled = |(at, byte): (usize, &u8)| f64::from(byte.cast_signed()) * f64::from(scales[at / buffer.len as usize]);
        match buffer.element {
            Element::F16 => data.variables.insert(id, bytes.chunks(2).map(half).collect()),
            Element::I8 => data.variables.insert(id, bytes.iter().enumerate().map(scaled).collect()),
            Element::F32 | Element::F64 | Element::I32 => None,
        };
    }
    data
}

/// Rows that are drawn for each entry, by their column.
fn drawn_count(plan: &Plan, input: &recc_abi::Input) -> Option<(u32, u32)> {
    let InputSource::Drawn { column } = input.source else { return None };
    Some((column, plan.buffers[input.buffer.0 as usize].len as u32))
}

/// The words of a plan's buffers before a run: inputs, variables, and for all others what is not a number.
pub(crate) fn memory(plan: &Plan, data: &Data, bag_lookups: &BTreeMap<(u32, u32), u32>) -> Vec<Vec<u32>> {
    let mut memory: Vec<Vec<u32>> = plan
        .buffers
        .iter()
        .map(|buffer| {
            let words = (buffer.len * buffer.element.bytes() / 4) as usize;
            let count = match buffer.place {
                Place::Batch => words * data.rows,
                Place::Lane => words * plan.lanes as usize,
                Place::Global => words,
                Place::Rows(table) => words * data.touched[&TableId(table)].rows.len(),
                Place::Entries(column) => words * data.bags[&column].iter().map(Vec::len).sum::<usize>(),
                Place::Variable(_) | Place::Scales(_) | Place::Tile { .. } | Place::Across { .. } | Place::TileEntries { .. } => 0,
            };
            // What nobody wrote is not a number.
            vec![f32::NAN.to_bits(); count]
        })
        .collect();
    let drawn: BTreeMap<u32, u32> = plan.inputs.iter().filter_map(|input| drawn_count(plan, input)).collect();
    for own in &plan.inputs {
        let mut words = input(&own.source, data);
        if let InputSource::Rows { table, source: RowSource::Slot { lookup } } = &own.source
            && let Some(column) = bag_lookups.get(&(*table, *lookup))
        {
            let begins = bag_slots(data, *column);
            let examples = rows_part(data, TableId(*table), &RowSource::Example { lookup: *lookup });
            words.iter_mut().zip(examples).for_each(|(slot, example)| *slot += begins[example as usize] as u32);
        }
        // Of rows drawn for entries the slots count all.
        if let InputSource::Rows { table, source: RowSource::Slot { lookup } | RowSource::Within { lookup } } = &own.source
            && let Some(column) = bag_lookups.get(&(*table, *lookup))
            && let Some(count) = drawn.get(column)
        {
            let within = matches!(own.source, InputSource::Rows { source: RowSource::Within { .. }, .. });
            words.iter_mut().for_each(|slot| if within { *slot %= count } else { *slot /= count });
        }
        memory[own.buffer.0 as usize] = words;
    }
    for (at, buffer) in plan.buffers.iter().enumerate() {
        if let Place::Variable(id) = buffer.place {
            let (bytes, scales) = stored(buffer, &data.variables[&id]);
            let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte));
            memory[at] = bytes.chunks(4).map(word).collect();
            if let Some(at) = plan.buffers.iter().position(|buffer| buffer.place == Place::Scales(id)) {
                memory[at] = scales.iter().map(|scale| scale.to_bits()).collect();
            }
        }
    }
    memory
}

/// What a plan's buffers hold after a run.
pub(crate) fn outcome(plan: &Plan, memory: &[Vec<u32>]) -> Outcome {
    let floats = |at: usize| memory[at].iter().map(|word| f32::from_bits(*word)).collect::<Vec<f32>>();
    let results = plan.outputs.iter().map(|output| (output.name.clone(), floats(output.buffer.0 as usize))).collect();
    let variables = plan
        .buffers
        .iter()
        .enumerate()
        .filter(|(_, buffer)| buffer.element == Element::F32)
        .filter_map(|(at, buffer)| if let Place::Variable(id) = buffer.place { Some((id, floats(at))) } else { None });
    Outcome { results, variables: variables.collect() }
}

/// Runs a plan once.
pub fn run(plan: &Plan, loaded: &Loaded, data: &Data, bag_lookups: &BTreeMap<(u32, u32), u32>) -> Outcome {
    let items = |space: ItemSpace| match space {
        ItemSpace::Examples => (data.rows, plan.tile as usize),
        ItemSpace::Rows(table) => (data.touched[&TableId(table)].rows.len(), 3),
        ItemSpace::Fixed { items, tile } => (items as usize, tile as usize),
    };
    let mut memory = memory(plan, data, bag_lookups);
    for words in &mut memory {
        words.extend([GUARD; GUARDS]);
    }
    // Values of a tile share one scratch, as in the product, so that one written over another is seen.
    let mut scratch = vec![f32::NAN.to_bits(); plan.tile_bytes as usize / 4];
    let longest = data.bags.values().flatten().map(Vec::len).max().unwrap_or(0);
    let tile_entries = longest.max(TILE_ENTRIES);
    let mut entry_scratch = vec![f32::NAN.to_bits(); plan.entry_bytes as usize / 4 * tile_entries + GUARDS];
    for launch in &plan.launches {
        for job in &launch.jobs {
            let (count, tile) = items(job.space);
            let per_lane = count.div_ceil(tile).div_ceil(plan.lanes as usize) * tile;
            for lane in 0..plan.lanes as usize {
                let mut pointers: Vec<*mut u8> = memory.iter_mut().map(|words| words.as_mut_ptr().cast()).collect();
                for (pointer, buffer) in pointers.iter_mut().zip(&plan.buffers) {
                    if let Place::Tile { offset } | Place::Across { offset } = buffer.place {
                        *pointer = scratch[offset as usize / 4..].as_mut_ptr().cast();
                    }
                }
                for id in &job.accumulators {
                    let buffer = &plan.buffers[id.0 as usize];
                    let words = (buffer.len * if buffer.element == Element::F64 { 2 } else { 1 }) as usize;
                    memory[id.0 as usize][lane * words..(lane + 1) * words].fill(0);
                    pointers[id.0 as usize] = memory[id.0 as usize][lane * words..].as_mut_ptr().cast();
                }
                let end = count.min((lane + 1) * per_lane);
                let mut start = lane * per_lane;
                while start < end {
                    let mut rows = tile.min(end - start);
                    for (pointer, buffer) in pointers.iter_mut().zip(&plan.buffers) {
                        if let (Place::TileEntries { column, offset }, ItemSpace::Examples) = (buffer.place, job.space) {
                            let begins = bag_slots(data, column);
                            let count = |rows: &usize| data.bags[&column][start..start + rows].iter().map(Vec::len).sum::<usize>();
                            rows = (1..=rows).rev().find(|rows| count(rows) <= tile_entries).unwrap_or(1);
                            let base = entry_scratch.as_mut_ptr().cast::<u8>().wrapping_add(offset as usize * tile_entries);
                            let words = buffer.len * buffer.element.bytes();
                            *pointer = base.wrapping_sub(begins[start] * words as usize);
                        }
                    }
                    for (most, kernels) in job.by_parts() {
                        let most = usize::try_from(most).unwrap_or(usize::MAX);
                        for first in (0..rows).step_by(most) {
                            for (pointer, buffer) in pointers.iter_mut().zip(&plan.buffers) {
                                if let Place::Across { offset } = buffer.place {
                                    let words = (offset + first as u64 * buffer.len * buffer.element.bytes()) / 4;
                                    *pointer = scratch[words as usize..].as_mut_ptr().cast();
                                }
                            }
                            for kernel in kernels {
                                let offset = loaded.entries[*kernel as usize] as usize;
                                // SAFETY: the code holds a kernel of this signature at the offset; its buffers are the plan's.
                                unsafe {
                                    let kernel = std::mem::transmute::<*const u8, KernelFn>(loaded.code.as_ptr().add(offset));
                                    kernel(pointers.as_ptr(), (start + first) as i64, most.min(rows - first) as i64, &raw const FUNCTIONS);
                                }
                            }
                        }
                    }
                    start += rows;
                }
            }
        }
    }
    for (words, buffer) in memory.iter_mut().zip(&plan.buffers) {
        let guards = words.split_off(words.len() - GUARDS);
        assert!(guards.iter().all(|guard| *guard == GUARD), "buffer `{}` was written behind its end", buffer.name);
    }
    outcome(plan, &memory)
}
