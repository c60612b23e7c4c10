//! Rewrites: functions from graph to graph that keep its meaning, in one table, run in its order.
//!
//! Each rebuilds the graph node by node through one rule; the verifier runs after each.

mod algebra;
mod fold;
mod products;
mod share;

use crate::graph::{Graph, Named, NodeId, Program, Violation};
use crate::ops::Op;
use std::collections::BTreeMap;

/// A rewrite and its name.
pub struct Pass {
    /// The name, for `--stage` and messages.
    pub name: &'static str,
    run: fn(&Program) -> Program,
}

/// All rewrites, in order.
pub const PASSES: &[Pass] = &[
    // Needs: nothing. Leaves: no elementwise node with constant operands only.
    Pass { name: "fold-constants", run: fold::fold_constants },
    // Needs: folded constants. Leaves: no `x * 1`, `x + 0`, broadcast of a broadcast, slice of a concat part.
    Pass { name: "algebra", run: algebra::simplify },
    // Needs: nothing. Leaves: no matrix product with one column or one inner element.
    Pass { name: "thin-products", run: products::thin_products },
    // The products' parts may fold again.
    Pass { name: "algebra-again", run: algebra::simplify },
    // Needs: nothing. Leaves: no two nodes with equal operator and operands.
    Pass { name: "share", run: share::share },
    // Needs: nothing. Leaves: every node needed by a result or an effect.
    Pass { name: "drop-dead", run: share::drop_dead },
];

/// Runs all rewrites; a broken invariant names the pass.
pub fn run_passes(program: Program) -> Result<Program, (&'static str, Vec<Violation>)> {
    let mut program = program;
    for pass in PASSES {
        program = (pass.run)(&program);
        let found = program.verify();
        if !found.is_empty() {
            return Err((pass.name, found));
        }
    }
    Ok(program)
}

/// Runs one rewrite by name.
pub fn run_pass(name: &str, program: &Program) -> Option<Program> {
    PASSES.iter().find(|pass| pass.name == name).map(|pass| (pass.run)(program))
}

/// Rebuilds a program: `rule` gives the new node for each old one, from its operator and its already rebuilt operands.
fn rebuild(program: &Program, mut rule: impl FnMut(&mut Graph, &Op, &[NodeId]) -> Option<NodeId>) -> Program {
    let mut graph = Graph::default();
    let mut new: BTreeMap<NodeId, NodeId> = BTreeMap::new();
    for node in program.live() {
        let data = &program.graph[node];
        let operands: Vec<NodeId> = program.graph.operands(node).iter().map(|operand| new[operand]).collect();
        graph.set_origin(&data.origin);
        let replacement = rule(&mut graph, &data.op, &operands);
        new.insert(node, replacement.unwrap_or_else(|| graph.add(data.op.clone(), &operands)));
    }
    let results = program.results.iter().map(|result| Named { name: result.name.clone(), node: new[&result.node] }).collect();
    let effects = program.effects.iter().map(|effect| new[effect]).collect();
    Program { graph, results, effects }
}
