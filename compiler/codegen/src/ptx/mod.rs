//! Verified loop IR to PTX text, for NVIDIA GPUs of compute capability 8.0 and later.
//!
//! The loops of a kernel become a function, whose threads share items and elements out ([`layout`]); each matrix product becomes a call of a function for
//! products ([`product`]), and each part of a softmax over a table one of another ([`partition`]). Nothing adds floats to memory that another thread adds to, so that every run gives the same bits.

mod arithmetic;
mod code;
mod layout;
mod loops;
mod partition;
mod product;

use recc_abi::{BufferId, DeviceFunction, Job, Place, Plan};
use recc_core::loops::{Kernel, Stmt, VerifiedKernel};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// What precedes the functions of a module.
pub const HEADER: &str = ".version 7.0\n.target sm_80\n.address_size 64\n";

/// A module for a device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Module {
    /// The functions by their names, as text.
    pub texts: BTreeMap<String, String>,
    /// What each kernel calls, in order.
    pub kernels: Vec<Vec<DeviceFunction>>,
}

impl Module {
    /// The text that the driver compiles.
    pub fn text(&self) -> String {
        self.texts.values().fold(HEADER.to_owned(), |text, own| text + "\n" + own)
    }

    /// The text of the functions of one kernel.
    pub fn text_of(&self, kernel: usize) -> String {
        let names: BTreeSet<&str> = self.kernels[kernel].iter().map(|function| function.name.as_str()).collect();
        names.into_iter().filter_map(|name| self.texts.get(name)).map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// What each kernel calls, and the text of its own loops; functions for products, which many kernels call, by their names alone.
    pub fn summary(&self) -> String {
        let mut out = String::new();
        for function in self.kernels.iter().flatten() {
            let _ = writeln!(out, "// {} {:?} {:?}", function.name, function.grid, function.numbers);
            if function.numbers.is_empty() {
                out += &self.texts[&function.name];
            }
            out += "\n";
        }
        out
    }

    /// This module and another, whose kernels follow.
    pub fn join(mut self, other: Module) -> Module {
        self.texts.extend(other.texts);
        self.kernels.extend(other.kernels);
        self
    }
}

/// All functions for products and softmaxes that a module may call, by name: of a model's module only those that it needs are part.
pub fn called_functions() -> impl Iterator<Item = (String, String)> {
    let parts = partition::PARTS.into_iter().map(|part| (partition::name(part).to_owned(), partition::function(part)));
    product::functions().chain(parts)
}

/// The functions of a plan's kernels.
pub fn emit_ptx(plan: &Plan, kernels: &[VerifiedKernel<'_>]) -> Module {
    let mut module = Module::default();
    for (at, kernel) in kernels.iter().enumerate() {
        let sums = sums_of(plan, at as u32);
        let functions = functions(plan, kernel.kernel(), &sums, &mut module.texts);
        module.kernels.push(functions);
    }
    module
}

/// The lanes' sums that a kernel adds to.
fn sums_of(plan: &Plan, kernel: u32) -> loops::Sums {
    let own = |job: &&Job| job.kernels.contains(&kernel);
    let jobs = plan.launches.iter().flat_map(|launch| &launch.jobs);
    let ids: BTreeSet<BufferId> = jobs.filter(own).flat_map(|job| job.accumulators.iter().copied()).collect();
    let lane = |id: BufferId| plan.buffers.get(id.0 as usize).filter(|buffer| buffer.place == Place::Lane);
    ids.into_iter().filter_map(|id| lane(id).map(|buffer| (id, buffer.len))).collect()
}

fn functions(plan: &Plan, kernel: &Kernel, sums: &loops::Sums, texts: &mut BTreeMap<String, String>) -> Vec<DeviceFunction> {
    let mut functions = Vec::new();
    for stmt in &kernel.body {
        match stmt {
            Stmt::Partition(part) => {
                let call = partition::call(kernel, part, plan);
                texts.entry(call.name.clone()).or_insert_with(|| partition::function(part.part));
                functions.push(call);
            }
            Stmt::MatMul(product) => {
                let (way, call) = product::call(kernel, product, plan, sums);
                texts.entry(call.name.clone()).or_insert_with(|| way.function());
                functions.push(call);
            }
            Stmt::Let { .. } | Stmt::Accumulator { .. } | Stmt::Accumulate { .. } | Stmt::Store { .. } | Stmt::For { .. } => {}
        }
    }
    // A function begins when the one before has ended for all items: what the plan puts behind a loop over items needs one of its own.
    let is_loop = |stmt: &Stmt| matches!(stmt, Stmt::For { .. });
    let calls = kernel.body.iter().rposition(|stmt| stmt.call().is_some());
    let first_loop = kernel.body.iter().position(is_loop);
    assert!(calls.zip(first_loop).is_none_or(|(call, first)| call < first), "`{}` calls behind a loop", kernel.name);
    let loops: Vec<Stmt> = kernel.body.iter().filter(|stmt| stmt.call().is_none()).cloned().collect();
    if loops.iter().any(is_loop) {
        let (function, text) = loops::function(kernel, &loops, sums, &kernel.name);
        texts.insert(function.name.clone(), text);
        functions.push(function);
    }
    functions
}
