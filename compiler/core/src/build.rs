//! From a checked spec to graphs, plans and kernels: the levels below the spec, in order.

use crate::graph::{Graph, Named, NodeId, Program, TableId, Violation};
use crate::grouped::{Divided, divide};
use crate::loops::Kernel;
use crate::ops::{Input, Op, Uniform, UniformKind};
use crate::passes::run_passes;
use crate::plan::{Machine, PlanSpec, Planned, StoredVariable, plan};
use crate::scalar::ScalarOp;
use crate::spec::{LossOf, Precision, Spec};
use crate::train::{Parts, Seeded, StepSpec, TableSpec, Trained, add_loss, add_updates, balanced, differentiate, loss_of, loss_of_steps};
use recc_abi::{Element, Role, SharedValue, Table, TrainSpec, Variable, VariableId};
use std::collections::BTreeSet;

/// A bug of the compiler.
#[derive(Debug, thiserror::Error)]
#[error("phase `{phase}`: {}", details.join("; "))]
pub struct InternalError {
    /// The phase that broke an invariant.
    pub phase: String,
    /// What it broke.
    pub details: Vec<String>,
}

/// Everything below the spec.
#[derive(Debug)]
pub struct Built {
    /// The model's own graph, as it is trained.
    pub forward: Program,
    /// One training step, rewritten.
    pub step: Program,
    /// One scoring call, rewritten.
    pub score: Program,
    /// The step's plan.
    pub step_plan: Planned,
    /// The scoring call's plan.
    pub score_plan: Planned,
    /// Scoring of rows that share their sequences, in two parts.
    pub grouped: Option<Grouped>,
    /// The spec's variables and the optimizers' slots.
    pub variables: Vec<Variable>,
    /// Tables, with the look-ups that are trained.
    pub tables: Vec<Table>,
}

/// The two parts of scoring rows that share their sequences.
#[derive(Debug)]
pub struct Grouped {
    /// What is computed once for the rows of a key, rewritten, and its plan.
    pub once: (Program, Planned),
    /// What is computed for each row, rewritten, and its plan.
    pub each: (Program, Planned),
    /// What the first hands to the second.
    pub values: Vec<SharedValue>,
}

impl Built {
    /// All plans: the step's, the scoring call's, and those of rows that share their sequences.
    pub fn plans(&self) -> impl Iterator<Item = &Planned> {
        let grouped = self.grouped.iter().flat_map(|grouped| [&grouped.once.1, &grouped.each.1]);
        [&self.step_plan, &self.score_plan].into_iter().chain(grouped)
    }

    /// All kernels, in the order of the plans.
    pub fn kernels(&self) -> impl Iterator<Item = &Kernel> {
        self.plans().flat_map(|planned| &planned.kernels)
    }
}

fn verified(phase: &str, program: &Program) -> Result<(), InternalError> {
    let found = program.verify();
    if found.is_empty() { Ok(()) } else { Err(violations(phase, &found)) }
}

fn violations(phase: &str, found: &[Violation]) -> InternalError {
    InternalError { phase: phase.to_owned(), details: found.iter().map(|violation| violation.0.clone()).collect() }
}

/// Examples that are scored together.
const SCORED: u64 = 4096;

/// Builds all levels of a spec, for a processor.
pub fn build(spec: &Spec) -> Result<Built, InternalError> {
    build_for(spec, Machine::Processor)
}

/// Builds all levels of a spec.
pub fn build_for(spec: &Spec, machine: Machine) -> Result<Built, InternalError> {
    let forward = spec.training.program.clone();
    verified("check", &forward)?;
    let (step, trained) = step_graph(spec);
    verified("train", &step)?;
    let mut score = spec.scoring.program.clone();
    score.effects.clear();
    verified("check", &score)?;
    let step = run_passes(step).map_err(|(pass, found)| violations(pass, &found))?;
    let score = run_passes(score).map_err(|(pass, found)| violations(pass, &found))?;
    let mut variables = spec.variables.clone();
    variables.extend(trained.slots);
    let stored = |(variable, element): (&Variable, Element)| StoredVariable {
        path: variable.path.clone(),
        width: variable.shape.last().copied().unwrap_or(1),
        element,
    };
    let plan_spec = |name: &str, batch: u64, elements: Vec<Element>| PlanSpec {
        name: name.to_owned(),
        machine,
        batch,
        bf16: spec.train.precision == Precision::Bf16,
        longest: spec.columns.iter().map(|column| column.kind.longest().unwrap_or(0)).collect(),
        members: spec.tables.iter().map(|table| table.members.len()).collect(),
        variables: variables.iter().zip(elements).map(stored).collect(),
    };
    let step_plan = plan(&step, &plan_spec("step", spec.train.batch, vec![Element::F32; variables.len()]));
    let stored_for_scoring = storage(spec, &score, variables.len());
    let score_plan = plan(&score, &plan_spec("score", SCORED, stored_for_scoring.clone()));
    // Devices score whole rows.
    let divided = if machine == Machine::Processor { divide(spec, &score) } else { None };
    let grouped = match divided {
        Some(Divided { once, each, values }) => {
            let part = |name: &str, program: Program| {
                let program = run_passes(program).map_err(|(pass, found)| violations(pass, &found))?;
                let planned = plan(&program, &plan_spec(name, SCORED, stored_for_scoring.clone()));
                Ok((program, planned))
            };
            Some(Grouped { once: part("once", once)?, each: part("each", each)?, values })
        }
        None => None,
    };
    let lookups = |at: usize| {
        trained.lookups.iter().find(|(table, _)| table.0 as usize == at).map(|(_, columns)| columns.clone()).unwrap_or_default()
    };
    let tables = spec.tables.iter().enumerate().map(|(at, table)| Table {
        path: table.path.clone(),
        dim: table.dim as u32,
        members: table.members.clone(),
        variable: table.variable,
        all_rows: table.update.all_rows,
        lookups: lookups(at),
    });
    let built = Built { forward, step, score, step_plan, score_plan, grouped, tables: tables.collect(), variables };
    for planned in built.plans() {
        let found = planned.verify();
        if !found.is_empty() {
            return Err(violations("plan", &found));
        }
    }
    Ok(built)
}

/// What each variable is stored as for scoring: rows of tables, and weights that only matrix products read.
fn storage(spec: &Spec, score: &Program, variables: usize) -> Vec<Element> {
    let mut stored = vec![Element::F32; variables];
    for table in &spec.tables {
        stored[table.variable.0 as usize] = table.storage;
    }
    let graph = &score.graph;
    let live = score.live();
    for &node in &live {
        if let Op::Variable(op) = &graph[node].op {
            let is_weight =
                |user: &NodeId| matches!(&graph[*user].op, Op::MatMul(product) if !product.transposed) && graph.operands(*user)[0] != node;
            let users: Vec<NodeId> = graph.users(node).into_iter().filter(|user| live.contains(user)).collect();
            if users.iter().all(is_weight) {
                stored[op.id.0 as usize] = spec.train.storage;
            }
        }
    }
    stored
}

/// The forward graph with its loss, gradients and updates.
fn step_graph(spec: &Spec) -> (Program, Trained) {
    let mut program = spec.training.program.clone();
    program.results.clear();
    let graph = &mut program.graph;
    let mut seeded = Vec::new();
    let mut total = None;
    for loss in &spec.losses {
        graph.set_origin(&format!("loss {}", loss.name));
        let column = |graph: &mut Graph, column: u32| graph.add(Op::Input(Input::number(&spec.columns[column as usize].name, column)), &[]);
        let parts: Vec<NodeId> = [loss.rows, loss.row_weight].into_iter().flatten().map(|own| column(graph, own)).collect();
        let row_weight = parts.into_iter().reduce(|a, b| graph.map(ScalarOp::Mul, &[a, b]));
        let (each, parts) = match loss.of {
            LossOf::Head { kind, link, label } => (loss_of(graph, kind, link, label), None),
            LossOf::Steps { kind, logits, column } => {
                let (each, count) = loss_of_steps(graph, kind, logits);
                let all = graph.add(Op::Uniform(Uniform { kind: UniformKind::TargetCount(column) }), &[]);
                (each, Some(Parts { each: count, all }))
            }
            LossOf::Each(node) => (node, None),
        };
        let (mean, seed) = add_loss(graph, each, loss.weight, row_weight, parts);
        seeded.push(Seeded { name: &loss.name, mean, seed });
        total = Some(match total {
            Some(known) => graph.sum(known, mean),
            None => mean,
        });
    }
    if let Some(total) = total {
        program.results.push(Named { name: "loss".to_owned(), node: total });
    }
    let parameters = |(at, variable): (usize, &Variable)| (variable.role == Role::Parameter).then_some(VariableId(at as u32));
    let trainable: BTreeSet<VariableId> = spec.variables.iter().enumerate().filter_map(parameters).collect();
    let mut trained = Trained::new(&spec.variables);
    let (gradients, balancing) = match &spec.balance {
        Some(balance) => balanced(graph, &seeded, balance, &trainable, &spec.variables, &mut trained),
        None => (differentiate(graph, &seeded.iter().map(|own| own.seed).collect::<Vec<_>>(), &trainable), Vec::new()),
    };
    let tables = spec.tables.iter().enumerate().map(|(at, table)| TableSpec {
        id: TableId(at as u32),
        variable: table.variable,
        path: table.path.clone(),
        width: table.dim,
        update: table.update,
    });
    let step = StepSpec { dense: spec.train.dense, tables: tables.collect(), clip: spec.train.clip };
    let trained = add_updates(graph, &gradients, &step, &spec.variables, trained);
    program.effects.clone_from(&trained.effects);
    for (variable, value) in spec.training.updates.iter().chain(&balancing) {
        let path = spec.variables[variable.0 as usize].path.clone();
        graph.set_origin(&format!("update {path}"));
        let effect = graph.add(Op::Assign(crate::ops::Assign { variable: *variable, path }), &[*value]);
        program.effects.push(effect);
    }
    (program, trained)
}

/// The training settings the runtime needs.
pub fn train_spec(spec: &Spec) -> TrainSpec {
    let train = &spec.train;
    TrainSpec {
        batch: train.batch,
        epochs: train.epochs,
        seed: train.seed,
        shuffle: train.shuffle,
        schedules: train.schedules.clone(),
        plateau: train.plateau.clone(),
        stop: train.stop.clone(),
        best: train.best.clone(),
    }
}
