//! Optimizers as graph nodes: each reads a variable, its slots and its gradient, and writes new values.
//!
//! A dense parameter is updated whole. A table is updated row by row: the touched rows, or every row where the spec says
//! `rows: all` or a softmax ranks all of them. L2 is part of the gradient, and the clipping norm covers everything, in `f64`.

use super::balance::product;
use super::gradient::Gradients;
use super::trained::Trained;
use crate::graph::{Graph, NodeId, TableId};
use crate::loops::Combine;
use crate::ops::{Broadcast, Op, Reduce, RowRead, RowSum, Uniform, UniformKind, Variable};
use crate::scalar::ScalarOp;
use recc_abi::{OptimizerKind, VariableId};

/// An optimizer with its constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerSpec {
    /// Which.
    pub kind: OptimizerKind,
    /// Learning rate.
    pub rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the denominator.
    pub epsilon: f64,
    /// Decoupled weight decay (`adamw`).
    pub decay: f64,
    /// λ of λ/2‖·‖², part of the loss.
    pub l2: f64,
}

/// The optimizer of dense parameters.
pub type DenseOptimizer = OptimizerSpec;

/// How a table is updated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TableUpdate {
    /// The optimizer.
    pub optimizer: OptimizerSpec,
    /// Whether every row is visited each step.
    pub all_rows: bool,
}

/// A trained table.
#[derive(Clone, Debug)]
pub struct TableSpec {
    /// The table.
    pub id: TableId,
    /// Its variable.
    pub variable: VariableId,
    /// Its path.
    pub path: String,
    /// Width of a row.
    pub width: u64,
    /// How it is updated.
    pub update: TableUpdate,
}

/// What a step trains, and how.
#[derive(Clone, Debug)]
pub struct StepSpec {
    /// The optimizer of dense parameters.
    pub dense: DenseOptimizer,
    /// The tables.
    pub tables: Vec<TableSpec>,
    /// Largest gradient norm.
    pub clip: Option<f64>,
}

/// A gradient and what it belongs to.
struct Target {
    variable: VariableId,
    path: String,
    dims: Vec<u64>,
    table: Option<TableId>,
    update: OptimizerSpec,
    gradient: NodeId,
    value: NodeId,
}

/// Adds the updates of everything that has a gradient.
///
/// `variables` are the spec's; slots get the ids that follow those that `trained` has.
pub fn add_updates(
    graph: &mut Graph,
    gradients: &Gradients,
    spec: &StepSpec,
    variables: &[recc_abi::Variable],
    mut trained: Trained,
) -> Trained {
    let mut targets = dense_targets(graph, gradients, spec, variables);
    for table in &spec.tables {
        if let Some(target) = table_target(graph, gradients, table, &mut trained) {
            targets.push(target);
        }
    }
    for target in &mut targets {
        if target.update.l2 != 0.0 {
            graph.set_origin(&format!("l2 {}", target.path));
            let factor = graph.constant_like(target.value, target.update.l2);
            let part = graph.map(ScalarOp::Mul, &[factor, target.value]);
            target.gradient = graph.sum(target.gradient, part);
        }
    }
    if let Some(limit) = spec.clip {
        clip(graph, &mut targets, limit);
    }
    for target in &targets {
        graph.set_origin(&format!("update {}", target.path));
        Update { graph, trained: &mut trained, target }.add();
    }
    trained
}

fn dense_targets(graph: &mut Graph, gradients: &Gradients, spec: &StepSpec, variables: &[recc_abi::Variable]) -> Vec<Target> {
    let mut targets = Vec::new();
    for (&variable, &gradient) in &gradients.dense {
        let Some(declared) = variables.get(variable.0 as usize) else { continue };
        graph.set_origin(&format!("update {}", declared.path));
        let read = Variable { id: variable, path: declared.path.clone(), dims: declared.shape.clone() };
        let value = graph.add(Op::Variable(read), &[]);
        targets.push(Target {
            variable,
            path: declared.path.clone(),
            dims: declared.shape.clone(),
            table: None,
            update: spec.dense,
            gradient,
            value,
        });
    }
    targets
}

fn table_target(graph: &mut Graph, gradients: &Gradients, table: &TableSpec, trained: &mut Trained) -> Option<Target> {
    graph.set_origin(&format!("rows {}", table.path));
    let mut sum = gradients.rows.get(&table.variable).copied();
    let mut lookups = Vec::new();
    for lookup in gradients.lookups.iter().filter(|lookup| lookup.gather.table == table.id) {
        let number = lookups.len() as u32;
        lookups.push(lookup.gather.columns.clone());
        let Some(gradient) = lookup.gradient else { continue };
        let part = graph.add(Op::RowSum(RowSum { table: table.id, lookup: number }), &[gradient]);
        sum = Some(sum.map_or(part, |known| graph.sum(known, part)));
    }
    let gradient = sum?;
    trained.lookups.push((table.id, lookups));
    let read = RowRead { table: table.id, variable: table.variable, path: table.path.clone(), width: Some(table.width) };
    let value = graph.add(Op::RowRead(read), &[]);
    let update = table.update.optimizer;
    Some(Target {
        variable: table.variable,
        path: table.path.clone(),
        dims: vec![table.width],
        table: Some(table.id),
        update,
        gradient,
        value,
    })
}

/// Scales all gradients by min(1, limit / (norm + 1e-6)), as PyTorch's `clip_grad_norm_` does.
fn clip(graph: &mut Graph, targets: &mut [Target], limit: f64) {
    graph.set_origin("clip");
    let mut total: Option<NodeId> = None;
    for target in targets.iter() {
        let wide = graph.map(ScalarOp::Widen, &[target.gradient]);
        let part = product(graph, wide, wide);
        total = Some(match total {
            Some(known) => graph.sum(known, part),
            None => part,
        });
    }
    let Some(total) = total else { return };
    let norm = graph.map(ScalarOp::Sqrt, &[total]);
    let norm = graph.map(ScalarOp::Narrow, &[norm]);
    let small = graph.constant_like(norm, 1e-6);
    let norm = graph.sum(norm, small);
    let limit = graph.constant_like(norm, limit);
    let scale = graph.map(ScalarOp::Div, &[limit, norm]);
    let one = graph.constant_like(scale, 1.0);
    let scale = graph.map(ScalarOp::Min, &[one, scale]);
    for target in targets {
        let ty = graph[target.gradient].ty.clone();
        let scale = graph.broadcast(scale, ty.space, &ty.dims);
        target.gradient = graph.map(ScalarOp::Mul, &[target.gradient, scale]);
    }
}

/// One variable's update.
struct Update<'u> {
    graph: &'u mut Graph,
    trained: &'u mut Trained,
    target: &'u Target,
}

impl Update<'_> {
    fn add(&mut self) {
        let spec = self.target.update;
        let gradient = self.target.gradient;
        match spec.kind {
            OptimizerKind::Sgd => {
                let rate = self.rate();
                self.descend(rate, gradient);
            }
            OptimizerKind::Adagrad => {
                let square = self.mul(gradient, gradient);
                let sum = self.slot("sum", false, |cx, old| cx.graph.sum(old, square));
                let direction = self.normalised(gradient, sum, spec.epsilon);
                let rate = self.rate();
                self.descend(rate, direction);
            }
            OptimizerKind::RowwiseAdagrad => self.rowwise_adagrad(),
            OptimizerKind::Adam | OptimizerKind::Adamw => self.adam(),
        }
    }

    fn rowwise_adagrad(&mut self) {
        let gradient = self.target.gradient;
        let square = self.mul(gradient, gradient);
        let width = self.target.dims[0] as f64;
        let total = self.graph.add(Op::Reduce(Reduce { combine: Combine::Add, axes: vec![0] }), &[square]);
        let share = self.graph.constant_like(total, 1.0 / width);
        let mean = self.mul(total, share);
        let sum = self.slot("sum", true, |cx, old| cx.graph.sum(old, mean));
        let ty = self.graph[gradient].ty.clone();
        let sum = self.graph.add(Op::Broadcast(Broadcast { space: ty.space, dims: ty.dims, axes: vec![] }), &[sum]);
        let direction = self.normalised(gradient, sum, self.target.update.epsilon);
        let rate = self.rate();
        self.descend(rate, direction);
    }

    /// Adam (Kingma and Ba 2015), and with decoupled decay (Loshchilov and Hutter 2019).
    fn adam(&mut self) {
        let spec = self.target.update;
        let gradient = self.target.gradient;
        let first = self.slot("m", false, |cx, old| cx.blend(old, gradient, spec.beta1));
        let square = self.mul(gradient, gradient);
        let second = self.slot("v", false, |cx, old| cx.blend(old, square, spec.beta2));
        let first = self.corrected(first, spec.beta1);
        let second = self.corrected(second, spec.beta2);
        let direction = self.normalised(first, second, spec.epsilon);
        let rate = self.rate();
        if spec.kind == OptimizerKind::Adamw && spec.decay != 0.0 {
            let decay = self.graph.constant_like(rate, spec.decay);
            let decay = self.mul(rate, decay);
            let part = self.mul(decay, self.target.value);
            let step = self.mul(rate, direction);
            let step = self.graph.sum(step, part);
            return self.write(step);
        }
        self.descend(rate, direction);
    }

    fn mul(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.graph.map(ScalarOp::Mul, &[a, b])
    }

    fn uniform(&mut self, kind: UniformKind) -> NodeId {
        let node = self.graph.add(Op::Uniform(Uniform { kind }), &[]);
        let ty = self.graph[self.target.gradient].ty.clone();
        self.graph.broadcast(node, ty.space, &ty.dims)
    }

    fn rate(&mut self) -> NodeId {
        let scale = self.uniform(UniformKind::RateScale);
        let rate = self.graph.constant_like(scale, self.target.update.rate);
        self.mul(scale, rate)
    }

    fn corrected(&mut self, moment: NodeId, beta: f64) -> NodeId {
        let factor = self.uniform(UniformKind::BiasCorrection(beta.to_bits()));
        self.mul(moment, factor)
    }

    /// beta·old + (1 - beta)·new
    fn blend(&mut self, old: NodeId, new: NodeId, beta: f64) -> NodeId {
        let keep = self.graph.constant_like(old, beta);
        let keep = self.mul(keep, old);
        let take = self.graph.constant_like(new, 1.0 - beta);
        let take = self.mul(take, new);
        self.graph.sum(keep, take)
    }

    /// direction / (√scale + ε)
    fn normalised(&mut self, direction: NodeId, scale: NodeId, epsilon: f64) -> NodeId {
        let root = self.graph.map(ScalarOp::Sqrt, &[scale]);
        let epsilon = self.graph.constant_like(root, epsilon);
        let root = self.graph.sum(root, epsilon);
        self.graph.map(ScalarOp::Div, &[direction, root])
    }

    fn descend(&mut self, rate: NodeId, direction: NodeId) {
        let step = self.mul(rate, direction);
        self.write(step);
    }

    fn write(&mut self, step: NodeId) {
        let value = self.graph.map(ScalarOp::Sub, &[self.target.value, step]);
        self.effect(self.target.variable, &self.target.path, value);
    }

    fn effect(&mut self, variable: VariableId, path: &str, value: NodeId) {
        self.trained.write(self.graph, (variable, path), self.target.table, value);
    }

    /// A slot of the optimizer: its new value, which is also written.
    fn slot(&mut self, name: &str, per_row: bool, next: impl FnOnce(&mut Self, NodeId) -> NodeId) -> NodeId {
        let path = format!("{}.{name}", self.target.path);
        let shape: &[u64] = if per_row { &[] } else { &self.target.dims };
        let (id, old) = self.trained.slot(self.graph, &path, shape, self.target.table);
        let new = next(self, old);
        self.effect(id, &path, new);
        new
    }
}
