//! Weights copied once for all products of a step, or of a model that scores, in the order in which products read them.
//!
//! The copies hold the same numbers, so products give the same bits with and without them.

use super::product::View;
use super::reduced::{FEW, Form, Weights, widen_all};
use super::{bf16, single};
use crate::failure::Failure;
use crate::memory::Memory;
use rayon::prelude::*;
use recc_abi::{Element, Factor, Place, Plan};

/// A factor and its copy.
struct Copied {
    factor: Factor,
    element: Element,
    /// Buffer of the rows' scales, where the factor holds 8-bit integers.
    scales: Option<usize>,
    /// Where the factor lay when it was copied; null before.
    start: *const u8,
    memory: Memory,
}

// SAFETY: the pointers name memory that outlives the copy, and it is only read.
unsafe impl Send for Copied {}
// SAFETY: as above.
unsafe impl Sync for Copied {}

/// The factors of a plan's products.
pub(crate) struct Prepared {
    copies: Vec<Copied>,
    /// Whether the plan changes variables, so that copies hold for one step.
    changes: bool,
}

impl Prepared {
    /// Room for a plan's factors.
    pub(crate) fn new(plan: &Plan) -> Result<Self, Failure> {
        let changes = (plan.first_update as usize) < plan.launches.len();
        if !single::has_vectors() {
            return Ok(Prepared { copies: Vec::new(), changes });
        }
        let bytes = |factor: &Factor| {
            let (rows, columns) = (factor.rows as usize, factor.columns as usize);
            if factor.bf16 { bf16::prepared_bytes(rows, columns) } else { single::prepared_bytes(rows, columns) }
        };
        let memory = Memory::zeroed_together(&plan.factors.iter().map(bytes).collect::<Vec<_>>())?;
        let copies = plan.factors.iter().zip(memory).map(|(factor, memory)| {
            let buffer = &plan.buffers[factor.buffer.0 as usize];
            let scales = match buffer.place {
                Place::Variable(id) => plan.buffers.iter().position(|buffer| buffer.place == Place::Scales(id)),
                _ => None,
            };
            Copied { factor: *factor, element: buffer.element, scales, start: std::ptr::null(), memory }
        });
        Ok(Prepared { copies: copies.collect(), changes })
    }

    /// Copies the factors that a batch of some rows is multiplied by, if what they are may have changed. What is stored in few bytes is read as it is by
    /// a few rows, and has no copy until there are more.
    ///
    /// # Safety
    /// The pointers are those of the plan's buffers.
    pub(crate) unsafe fn fill(&mut self, rows: usize, pointers: &[*mut u8], pool: &rayon::ThreadPool) {
        let changes = self.changes;
        let wanted = |copied: &&mut Copied| {
            let few = copied.element != Element::F32 && !copied.factor.bf16 && rows <= FEW;
            (changes || copied.start.is_null()) && !few
        };
        let mut work: Vec<(&mut Copied, usize)> = Vec::new();
        for copied in self.copies.iter_mut().filter(wanted) {
            let base = pointers[copied.factor.buffer.0 as usize].cast_const();
            copied.start = base.wrapping_add((copied.factor.offset * copied.element.bytes() as i64) as usize);
            let scales = copied.scales.map_or(0, |buffer| pointers[buffer] as usize);
            work.push((copied, scales));
        }
        if work.is_empty() {
            return;
        }
        // SAFETY: the caller's.
        pool.install(|| work.into_par_iter().for_each(|(copied, scales)| unsafe { copied.fill(scales as *const f32) }));
    }

    /// The copy of a product's right factor, or null.
    pub(crate) fn find(&self, start: *const u8, (rows, columns): (i64, i64), (row, column): (i64, i64), bf16: bool) -> *const u8 {
        let same = |copied: &&Copied| {
            let Factor { buffer, offset, .. } = copied.factor;
            copied.start == start && copied.factor == Factor { buffer, offset, rows, columns, row, column, bf16 }
        };
        self.copies.iter().find(same).map_or(std::ptr::null(), |copied| copied.memory.pointer().cast_const())
    }
}

impl Copied {
    /// # Safety
    /// The factor lies where `start` says.
    unsafe fn fill(&mut self, scales: *const f32) {
        let Factor { rows, columns, row, column, bf16, .. } = self.factor;
        let (rows, columns) = (rows as usize, columns as usize);
        let form = match self.element {
            Element::F16 => Some(Form::Half),
            Element::I8 => Some(Form::Byte(scales)),
            Element::F32 | Element::F64 | Element::I32 => None,
        };
        let mut widened = Vec::new();
        let mut view = View { start: self.start.cast(), row: row as isize, column: column as isize };
        // SAFETY: the factor's rows and columns lie inside the variable, and the copy has room for them.
        unsafe {
            if let Some(form) = form {
                widen_all(Weights { start: self.start, form, stride: row as usize }, rows, columns, &mut widened);
                view = View { start: widened.as_ptr(), row: columns as isize, column: 1 };
            }
            let prepare = if bf16 { bf16::prepare } else { single::prepare };
            prepare(view, rows, columns, self.memory.floats_mut());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matmul::FUNCTIONS;
    use recc_abi::{Buffer, BufferId, KernelFunctions, Launch, STORED_F16, STORED_I8, VariableId};

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        (0..count).map(|at| crate::random::uniform(seed, at as u64) as f32 - 0.5).collect()
    }

    /// A plan with one variable of some rows and columns, by which products multiply.
    fn plan(element: Element, columns: i64, factor: Factor) -> Plan {
        let variable = Buffer { name: "w".to_owned(), place: Place::Variable(VariableId(0)), element, len: columns as u64 };
        let scales = Buffer { name: "s".to_owned(), place: Place::Scales(VariableId(0)), element: Element::F32, len: 1 };
        Plan {
            buffers: vec![variable, scales],
            factors: vec![factor],
            launches: vec![Launch::default()],
            first_update: 1,
            ..Plan::default()
        }
    }

    /// Products of few rows and many, with and without a copy of the weights: of all forms, turned and not, the same bits.
    #[test]
    fn products_are_the_same_with_prepared_weights() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("a pool");
        for (rows, columns) in [(1, 1), (3, 50), (40, 33), (129, 96), (300, 131)] {
            for (element, bf16, turned) in [
                (Element::F32, false, false),
                (Element::F32, false, true),
                (Element::F32, true, false),
                (Element::F32, true, true),
                (Element::F16, false, false),
                (Element::F16, true, false),
                (Element::I8, false, false),
            ] {
                let weights = numbers(rows * columns, 1);
                let (bytes, scales) = crate::stored::as_stored(element, &weights, columns).expect("small numbers");
                let (k, n) = if turned { (columns, rows) } else { (rows, columns) };
                let (row, column) = if turned { (1, columns as i64) } else { (columns as i64, 1) };
                let factor = Factor { buffer: BufferId(0), offset: 0, rows: k as i64, columns: n as i64, row, column, bf16 };
                let plan = plan(element, columns as i64, factor);
                let mut prepared = Prepared::new(&plan).expect("memory");
                let pointers = [bytes.as_ptr().cast_mut(), scales.as_ptr().cast_mut().cast()];
                // SAFETY: the pointers are those of the plan's two buffers.
                unsafe { prepared.fill(70, &pointers, &pool) };
                assert!(!prepared.find(pointers[0], (k as i64, n as i64), (row, column), bf16).is_null());
                assert!(prepared.find(pointers[0], (k as i64, n as i64 + 1), (row, column), bf16).is_null());
                let stored = match element {
                    Element::F16 => STORED_F16,
                    Element::I8 => STORED_I8,
                    _ => 0,
                };
                for m in [1, 5, 16, 70] {
                    let a = numbers(m * k, 2);
                    let mut results = Vec::new();
                    for prepared in [0, &raw const prepared as usize] {
                        let functions = KernelFunctions { prepared, ..FUNCTIONS };
                        let mut out = vec![0.0f32; m * n];
                        let (m, n, k) = (m as i64, n as i64, k as i64);
                        // SAFETY: the vectors hold the matrices.
                        unsafe {
                            (functions.matmul)(
                                &raw const functions,
                                m,
                                n,
                                k,
                                out.as_mut_ptr(),
                                n,
                                a.as_ptr(),
                                k,
                                1,
                                pointers[0],
                                row,
                                column,
                                0,
                                1,
                                0,
                                0,
                                0,
                                i64::from(bf16),
                                stored,
                                scales.as_ptr(),
                            );
                        }
                        results.push(out);
                    }
                    assert_eq!(results[0], results[1], "{m}x{k}x{n}, {element:?}, bf16 {bf16}, turned {turned}");
                }
            }
        }
    }
}
