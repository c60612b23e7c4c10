//! Compiled code against the reference.

use crate::data::{draw, lookups_of_bags};
use crate::native::Outcome;
use crate::{device, native};
use recc_abi::VariableId;
use recc_codegen::Level;
use recc_core::Grouped;
use recc_core::graph::Program;
use recc_core::graph::reference::{Data, evaluate};
use recc_core::ops::Op;
use recc_core::plan::{Machine, Planned};
use std::collections::BTreeMap;

/// New values of all variables by the reference: effects write, everything else stays.
pub fn updated(program: &Program, data: &Data) -> BTreeMap<VariableId, Vec<f64>> {
    let values = evaluate(program, data);
    let mut variables = data.variables.clone();
    for effect in &program.effects {
        let new = &values[effect];
        match &program.graph[*effect].op {
            Op::Assign(op) => {
                variables.insert(op.variable, new.flat());
            }
            Op::RowWrite(op) => {
                let rows = &data.touched[&op.table].rows;
                let target = variables.get_mut(&op.variable).expect("a variable");
                for (row, item) in rows.iter().zip(&new.items) {
                    target[row * item.data.len()..(row + 1) * item.data.len()].copy_from_slice(&item.data);
                }
            }
            other => panic!("`{}` is no effect", other.name()),
        }
    }
    variables
}

/// Whether a figure of compiled code, in `f32`, is the reference's, in `f64`; no number is none.
pub fn is_close(native: f64, reference: f64) -> bool {
    (native - reference).abs() <= 2e-4 * reference.abs().max(1.0)
}

/// What runs a plan.
#[derive(Clone, Copy, Debug)]
pub enum On {
    /// A processor of a level.
    Processor(Level),
    /// The interpreter of what a graphics processor runs.
    Device,
}

impl On {
    fn run(self, planned: &Planned, data: &Data, bags: &BTreeMap<(u32, u32), u32>) -> Outcome {
        match self {
            On::Processor(level) => native::run(&planned.plan, &native::load(&planned.kernels, level), data, bags),
            On::Device => device::run(planned, data, bags).unwrap_or_else(|why| panic!("{why}")),
        }
    }
}

/// The first figure of one step and one scoring call on random rows that differs from the reference's, if there is one.
pub fn difference(spec: &str, rows: usize, seed: u64, on: On) -> Option<String> {
    let machine = if let On::Device = on { Machine::Device } else { Machine::Processor };
    let (spec, built) = crate::build_for(spec, machine);
    let mut data = draw(&spec, &built, rows, seed);
    let bags = lookups_of_bags(&spec, &built);
    let first = |what: &str, native: &[f32], reference: &[f64]| {
        if native.len() != reference.len() {
            return Some(format!("{what}: {} figures, reference {}", native.len(), reference.len()));
        }
        let at = native.iter().zip(reference).position(|(native, reference)| !is_close(f64::from(*native), *reference))?;
        Some(format!("{what} {at}: compiled {}, reference {}", native[at], reference[at]))
    };
    let step = on.run(&built.step_plan, &data, &bags);
    let values = evaluate(&built.step, &data);
    let score = on.run(&built.score_plan, &data, &bags);
    let scores = evaluate(&built.score, &data);
    let after = updated(&built.step, &data);
    let trained = built.step.results.iter().map(|own| (own.name.clone(), &step.results[&own.name], values[&own.node].flat()));
    let scored = built.score.results.iter().map(|own| (own.name.clone(), &score.results[&own.name], scores[&own.node].flat()));
    let path = |id: VariableId| built.variables[id.0 as usize].path.clone();
    let mut grouped = Vec::new();
    if let Some(Grouped { once, each, values }) = &built.grouped {
        // Each row as if it were alone with its key: what is shared is handed over as the reference has it.
        let (native, shared) = (on.run(&once.1, &data, &bags), evaluate(&once.0, &data));
        for (slot, own) in (0..values.len() as u32).zip(&once.0.results) {
            let items = &shared[&own.node].items;
            data.shared.insert(slot, items.iter().map(|item| item.data.clone()).collect());
            grouped.push((own.name.clone(), native.results[&own.name].clone(), shared[&own.node].flat()));
        }
        let native = on.run(&each.1, &data, &bags);
        // Rankings have no part in it.
        let whole = built.score.results.iter().filter(|own| native.results.contains_key(&own.name));
        grouped.extend(whole.map(|own| (format!("{} of a group", own.name), native.results[&own.name].clone(), scores[&own.node].flat())));
    }
    let grouped = grouped.iter().map(|(name, native, reference)| (name.clone(), native, reference.clone()));
    let updated = step.variables.iter().map(|(id, native)| (path(*id), native, after[id].clone()));
    trained.chain(scored).chain(grouped).chain(updated).find_map(|(what, native, reference)| first(&what, native, &reference))
}
