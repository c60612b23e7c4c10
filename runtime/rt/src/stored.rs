//! Weights as they are stored for scoring: as 16-bit floats, or as 8-bit integers with a scale for each row.

use crate::failure::Failure;
use crate::memory::Memory;
use half::f16;
use rayon::prelude::*;
use recc_abi::{Buffer, Element, Place, Plan};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The largest 8-bit integer; its negative is the smallest that is used.
const LARGEST_CODE: f32 = 127.0;

/// A variable in few bytes.
pub(crate) struct Packed {
    pub(crate) elements: Memory,
    /// Of each row; none for floats.
    pub(crate) scales: Option<Memory>,
}

/// The variables that a plan reads in few bytes, by their place.
#[derive(Clone, Default)]
pub(crate) struct Stored(BTreeMap<u32, Arc<Packed>>);

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
    fn add(&mut self, plan: &Plan, at: usize, values: &Memory, pool: &rayon::ThreadPool) -> Result<bool, Failure> {
        let own = |buffer: &&Buffer| matches!(buffer.place, Place::Variable(id) if id.0 as usize == at);
        let Some(buffer) = plan.buffers.iter().find(own).filter(|buffer| matches!(buffer.element, Element::F16 | Element::I8)) else {
            return Ok(false);
        };
        let (values, width) = (values.floats(), buffer.len.max(1) as usize);
        if let Some(place) = pool.install(|| first_unfit(values, buffer.element)) {
            return Err(unfit(&buffer.name, values[place], place / width, place % width));
        }
        let packed = pool.install(|| if buffer.element == Element::F16 { halves(values) } else { bytes(values, width) })?;
        self.0.insert(at as u32, Arc::new(packed));
        Ok(true)
    }

    /// Takes one variable, and gives its own memory back if it is held here now.
    pub(crate) fn take(&mut self, plan: &Plan, at: usize, values: &mut Memory, pool: &rayon::ThreadPool) -> Result<(), Failure> {
        if self.add(plan, at, values, pool)? {
            values.release();
        }
        Ok(())
    }

    /// Whether all is here that a plan reads in few bytes.
    pub(crate) fn serves(&self, plan: &Plan) -> bool {
        let needed = |buffer: &&Buffer| matches!(buffer.element, Element::F16 | Element::I8);
        plan.buffers.iter().filter(needed).all(|buffer| matches!(buffer.place, Place::Variable(id) if self.0.contains_key(&id.0)))
    }

    pub(crate) fn get(&self, variable: u32) -> Option<&Packed> {
        self.0.get(&variable).map(Arc::as_ref)
    }
}

/// The place of the first value that cannot be stored.
fn first_unfit(values: &[f32], element: Element) -> Option<usize> {
    let fits = |value: &f32| if element == Element::F16 { f16::from_f32(*value).is_finite() } else { value.is_finite() };
    values.par_iter().position_first(|value| !fits(value))
}

fn unfit(path: &str, value: f32, row: usize, column: usize) -> Failure {
    let what = format!("`{path}` cannot be stored in few bytes: row {row}, column {column} is {value:e}");
    Failure::input(match value.is_finite() {
        true => format!("{what}, and the largest `f16` is 65504\nhelp: use `storage: int8`, whose scale fits the row, or `storage: f32`"),
        false => format!("{what}\nhelp: training went astray before; take an earlier state, or train with a lower rate"),
    })
}

/// The values as 16-bit floats.
fn halves(values: &[f32]) -> Result<Packed, Failure> {
    let mut elements = Memory::zeroed(values.len() * 2)?;
    let halves: &mut [u16] = bytemuck::cast_slice_mut(elements.bytes_mut());
    halves.par_iter_mut().zip(values).for_each(|(half, value)| *half = f16::from_f32(*value).to_bits());
    Ok(Packed { elements, scales: None })
}

/// The values as multiples of a 127th of their row's largest.
fn bytes(values: &[f32], width: usize) -> Result<Packed, Failure> {
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
    Ok(Packed { elements, scales: Some(scales) })
}

/// What scoring reads in place of a variable's values, rows of `width` numbers, when they are stored as `element`.
pub fn as_stored(element: Element, values: &[f32], width: usize) -> Result<(Vec<u8>, Vec<f32>), Failure> {
    let packed = match element {
        Element::F16 => halves(values)?,
        Element::I8 => bytes(values, width)?,
        Element::F32 | Element::F64 | Element::I32 => return Ok((bytemuck::cast_slice(values).to_vec(), Vec::new())),
    };
    let scales = packed.scales.map_or(Vec::new(), |scales| scales.floats().to_vec());
    Ok((packed.elements.bytes().to_vec(), scales))
}
