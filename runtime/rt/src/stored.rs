//! Weights as they are stored for scoring: as 16-bit floats, or as 8-bit integers with a scale for each row.

use crate::failure::Failure;
use crate::memory::Memory;
use half::f16;
use rayon::prelude::*;
use recc_abi::{Buffer, Element, Place, Plan};
use std::collections::BTreeMap;

/// The largest 8-bit integer; its negative is the smallest that is used.
const LARGEST_CODE: f32 = 127.0;

/// A variable in few bytes.
pub(crate) struct Packed {
    pub(crate) elements: Memory,
    /// Of each row; none for floats.
    pub(crate) scales: Option<Memory>,
}

/// The variables that a plan reads in few bytes, by their place.
#[derive(Default)]
pub(crate) struct Stored(BTreeMap<u32, Packed>);

impl Stored {
    /// Variables in the form that a plan's buffers have.
    pub(crate) fn new(plan: &Plan, values: &[Memory], pool: &rayon::ThreadPool) -> Result<Stored, Failure> {
        let mut stored = Stored::default();
        for (at, values) in values.iter().enumerate() {
            stored.add(plan, at, values, pool)?;
        }
        Ok(stored)
    }

    /// Takes one variable, if the plan reads it in few bytes; tells whether it does.
    pub(crate) fn add(&mut self, plan: &Plan, at: usize, values: &Memory, pool: &rayon::ThreadPool) -> Result<bool, Failure> {
        let own = |buffer: &&Buffer| matches!(buffer.place, Place::Variable(id) if id.0 as usize == at);
        let Some(buffer) = plan.buffers.iter().find(own).filter(|buffer| matches!(buffer.element, Element::F16 | Element::I8)) else {
            return Ok(false);
        };
        let (values, width) = (values.floats(), buffer.len.max(1) as usize);
        let packed = pool.install(|| match buffer.element {
            Element::F16 => halves(values),
            _ => bytes(values, width),
        })?;
        let packed = packed.map_err(|place| too_large(&buffer.name, values[place], place / width, place % width))?;
        self.0.insert(at as u32, packed);
        Ok(true)
    }

    pub(crate) fn get(&self, variable: u32) -> Option<&Packed> {
        self.0.get(&variable)
    }
}

fn too_large(path: &str, value: f32, row: usize, column: usize) -> Failure {
    let message = format!("`{path}` cannot be stored as `f16`: row {row}, column {column} is {value:e}, and the largest is 65504");
    Failure::input(format!("{message}\nhelp: use `storage: int8`, whose scale fits the row, or `storage: f32`"))
}

/// The values, or the place of the first that has no 16-bit float.
fn halves(values: &[f32]) -> Result<Result<Packed, usize>, Failure> {
    const CHUNK: usize = 1 << 16;
    let mut elements = Memory::zeroed(values.len() * 2)?;
    let halves: &mut [u16] = bytemuck::cast_slice_mut(elements.bytes_mut());
    let wrong = halves.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).enumerate().find_map_first(|(chunk, (out, values))| {
        for (at, (out, value)) in out.iter_mut().zip(values).enumerate() {
            let half = f16::from_f32(*value);
            if !half.is_finite() {
                return Some(chunk * CHUNK + at);
            }
            *out = half.to_bits();
        }
        None
    });
    Ok(wrong.map_or(Ok(Packed { elements, scales: None }), Err))
}

/// The values as multiples of a 127th of their row's largest.
fn bytes(values: &[f32], width: usize) -> Result<Result<Packed, usize>, Failure> {
    let mut elements = Memory::zeroed(values.len())?;
    let mut scales = Memory::zeroed(values.len() / width * 4)?;
    let rows = elements.bytes_mut().par_chunks_mut(width).zip(values.par_chunks(width)).zip(scales.floats_mut());
    rows.for_each(|((out, row), scale)| {
        let largest = row.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        // What is too small for a scale that divides is zero.
        *scale = if largest / LARGEST_CODE >= f32::MIN_POSITIVE { largest / LARGEST_CODE } else { 0.0 };
        for (out, value) in out.iter_mut().zip(row) {
            let code = if *scale > 0.0 { (value / *scale).round().clamp(-LARGEST_CODE, LARGEST_CODE) } else { 0.0 };
            *out = (code as i8).cast_unsigned();
        }
    });
    Ok(Ok(Packed { elements, scales: Some(scales) }))
}

/// What scoring reads in place of a variable's values, rows of `width` numbers, when they are stored as `element`.
pub fn as_stored(element: Element, values: &[f32], width: usize) -> Result<(Vec<u8>, Vec<f32>), usize> {
    let packed = match element {
        Element::F16 => halves(values),
        Element::I8 => bytes(values, width),
        Element::F32 | Element::F64 | Element::I32 => return Ok((bytemuck::cast_slice(values).to_vec(), Vec::new())),
    };
    let packed = packed.unwrap_or(Err(0))?;
    let scales = packed.scales.map_or(Vec::new(), |scales| scales.floats().to_vec());
    Ok((packed.elements.bytes_of().to_vec(), scales))
}
