//! The checked spec: every name resolved, constants evaluated, blocks expanded, shapes and parameter paths known.

use crate::graph::{NodeId, Program};
use crate::train::{OptimizerSpec, TableUpdate};
use recc_abi::{
    Cohort, Column, DataSpec, Element, Inspected, LossKind, Metric, Monitor, Plateau, Prediction, Schedule, Stopping, TableMember,
    Variable, VariableId,
};
use std::fmt::Write as _;

/// A checked spec.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The model's name.
    pub name: String,
    /// The `data` item.
    pub data: DataSpec,
    /// Columns, groups expanded.
    pub columns: Vec<Column>,
    /// Tables.
    pub tables: Vec<Table>,
    /// Parameters and states, tables' rows among them.
    pub variables: Vec<Variable>,
    /// Predictions.
    pub predictions: Vec<Prediction>,
    /// Losses.
    pub losses: Vec<Loss>,
    /// How the losses' gradients are balanced.
    pub balance: Option<Balance>,
    /// Settings of `train`.
    pub train: Train,
    /// What is reported.
    pub metrics: Vec<Metric>,
    /// Parts of the rows that are reported of as well.
    pub cohorts: Vec<Cohort>,
    /// What models expose, for auxiliary objectives: `ranker.shared`.
    pub exposed: Vec<String>,
    /// What `eval` looks at of it.
    pub inspected: Vec<Inspected>,
    /// The model as it is trained.
    pub training: Forward,
    /// The model as it scores.
    pub scoring: Forward,
}

/// The model's own graph.
#[derive(Clone, Debug, Default)]
pub struct Forward {
    /// Results: per prediction its link and its label.
    pub program: Program,
    /// New values of states.
    pub updates: Vec<(VariableId, NodeId)>,
}

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its path.
    pub path: String,
    /// Width of a row.
    pub dim: u64,
    /// Members.
    pub members: Vec<TableMember>,
    /// The variable of its rows.
    pub variable: VariableId,
    /// How it is updated.
    pub update: TableUpdate,
    /// What its rows are stored as for scoring.
    pub storage: Element,
}

/// A loss.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The prediction or auxiliary objective it is of.
    pub name: String,
    /// What it is of each example.
    pub of: LossOf,
    /// Its weight.
    pub weight: f64,
    /// The rows it is of: a column of conditions; all without one.
    pub rows: Option<u32>,
    /// A column with the weight of each row.
    pub row_weight: Option<u32>,
}

/// Gradients of losses balanced, by nodes of the training graph.
#[derive(Clone, Debug)]
pub struct Balance {
    /// Where.
    pub over: BalancedAt,
    /// The losses that take part, by position.
    pub losses: Vec<usize>,
    /// What a step adds of a gradient to its moving average, where averages are balanced in place of gradients.
    pub average: Option<f64>,
    /// The place of the products of all pairs of gradients.
    pub gram: NodeId,
    /// The place of the losses' means.
    pub means: NodeId,
    /// The weight of each gradient, computed from those.
    pub weights: NodeId,
    /// New values of the rule's states, computed from those.
    pub updates: Vec<(VariableId, NodeId)>,
}

/// Where gradients of losses are balanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BalancedAt {
    /// At a representation that they share.
    Value(NodeId),
    /// At the parameters that two of them or more learn.
    Parameters,
}

/// A loss of each example, by nodes of the training graph.
#[derive(Clone, Copy, Debug)]
pub enum LossOf {
    /// A known loss of a link and a label.
    Head {
        /// Which loss.
        kind: LossKind,
        /// The link.
        link: NodeId,
        /// The label.
        label: NodeId,
    },
    /// A loss of a ranking's steps.
    Steps {
        /// Which loss.
        kind: LossKind,
        /// The logits.
        logits: StepLogits,
        /// The column of the sequence.
        column: u32,
    },
    /// A number that the spec computes.
    Each(NodeId),
}

/// Logits of the rows of a table, for each step of a sequence, `[~L]`, or one id.
#[derive(Clone, Copy, Debug)]
pub struct StepLogits {
    /// Of the target's row, which of a sequence is the next step's: `f32[~L]`.
    pub hit: NodeId,
    /// Of the rows it is compared with.
    pub others: OtherLogits,
    /// The table.
    pub table: crate::graph::TableId,
    /// 1 where the target is a known value, else 0: `f32[~L]`.
    pub has_target: NodeId,
    /// The log of the share of all targets that each drawn row is, `f32[N]`, where the cross entropy counts a row by how often it is expected to be
    /// drawn (Bengio and Senécal 2008).
    pub log_shares: Option<NodeId>,
}

/// Logits of the rows that the target's is compared with.
#[derive(Clone, Copy, Debug)]
pub enum OtherLogits {
    /// Of drawn rows: `f32[~L, N]`.
    Drawn(NodeId),
    /// Of all rows but row 0, the target's among them: the log of the sum of their exponentials, `f32[~L]`.
    All(NodeId),
}

/// What the factors of matrix products with weights are rounded to; everything else is `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// They stay as they are.
    F32,
    /// The upper half of an `f32`: 8 bits of precision.
    Bf16,
}

impl Precision {
    /// All of them by their names in a spec.
    pub const ALL: [(&str, Precision); 2] = [("f32", Precision::F32), ("bf16", Precision::Bf16)];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, own)| *own == self).map_or("", |(name, _)| name)
    }
}

/// What weights may be stored as for scoring, by the names in a spec.
pub const STORAGES: [(&str, Element); 3] = [("f32", Element::F32), ("f16", Element::F16), ("int8", Element::I8)];

fn storage_name(storage: Element) -> &'static str {
    STORAGES.iter().find(|(_, own)| *own == storage).map_or("", |(name, _)| name)
}

/// The `train` item.
#[derive(Clone, Debug)]
pub struct Train {
    /// Examples a step.
    pub batch: u64,
    /// Passes over the data.
    pub epochs: u32,
    /// Seed.
    pub seed: u64,
    /// Whether epochs permute the rows.
    pub shuffle: bool,
    /// What factors of matrix products are rounded to.
    pub precision: Precision,
    /// What weights of matrix products are stored as for scoring.
    pub storage: Element,
    /// Optimizer of dense parameters.
    pub dense: OptimizerSpec,
    /// Optimizer of tables without their own.
    pub tables: TableUpdate,
    /// Largest gradient norm.
    pub clip: Option<f64>,
    /// Factors of the rates by step and epoch.
    pub schedules: Vec<Schedule>,
    /// Rate cuts.
    pub plateau: Option<Plateau>,
    /// Early end.
    pub stop: Option<Stopping>,
    /// What "best" means.
    pub best: Monitor,
}

impl Spec {
    /// The spec with every default written out. Declarations stand in the order of their names, so that reordering a spec does
    /// not change it; its hash is the identity of the model. Default paths of files are not part of it.
    pub fn resolved(&self) -> String {
        let mut out = format!("spec {}\n", self.name);
        let scored = |column: &&Column| {
            use recc_abi::ColumnKind::{Drawn, Flag, Key, Label};
            !matches!(column.kind, Label { .. } | Key | Flag { .. } | Drawn { .. })
        };
        let (inputs, others): (Vec<&Column>, Vec<&Column>) = self.columns.iter().partition(scored);
        push_sorted(&mut out, "features", inputs.into_iter().map(|column| self.resolved_column(column)).collect());
        push_sorted(&mut out, "labels", others.into_iter().map(|column| self.resolved_column(column)).collect());
        let tables = self.tables.iter().map(|table| {
            let members: Vec<String> = table
                .members
                .iter()
                .map(|member| {
                    let columns: Vec<&str> = member
                        .columns
                        .iter()
                        .filter_map(|column| self.columns.get(*column as usize))
                        // What is drawn is for training alone.
                        .filter(|column| !matches!(column.kind, recc_abi::ColumnKind::Drawn { .. }))
                        .map(|column| column.name.as_str())
                        .collect();
                    format!(
                        "{} of {}{}",
                        member.path,
                        columns.join("+"),
                        member.rows.map(|rows| format!(" rows {rows}")).unwrap_or_default()
                    )
                })
                .collect();
            format!("{}: dim {}, members [{}]", table.path, table.dim, members.join(", "))
        });
        push_sorted(&mut out, "tables", tables.collect());
        let updates = self.tables.iter().map(|table| {
            let rows = if table.update.all_rows { "all" } else { "touched" };
            format!("{}: {}, rows {rows}", table.path, optimizer(&table.update.optimizer))
        });
        push_sorted(&mut out, "updates", updates.collect());
        let tables = self.tables.iter().map(|table| format!("{}: {}", table.path, storage_name(table.storage)));
        push_sorted(&mut out, "storage", tables.chain([format!("weights: {}", storage_name(self.train.storage))]).collect());
        let line = |variable: &Variable| format!("{}: {:?} {:?} {:?}", variable.path, variable.shape, variable.init, variable.role);
        let (scored, trained): (Vec<&Variable>, Vec<&Variable>) = self.variables.iter().partition(|variable| variable.scored);
        push_sorted(&mut out, "parameters", scored.into_iter().map(line).collect());
        if !trained.is_empty() {
            push_sorted(&mut out, "parameters of training", trained.into_iter().map(line).collect());
        }
        push_sorted(&mut out, "objective", self.resolved_objective());
        let train = &self.train;
        let mut lines = vec![
            format!("batch: {}", train.batch),
            format!("epochs: {}", train.epochs),
            format!("seed: {}", train.seed),
            format!("shuffle: {}", train.shuffle),
            format!("precision: {}", train.precision.name()),
            format!("dense: {}", optimizer(&train.dense)),
            format!("clip: {}", train.clip.map_or("none".to_owned(), |norm| format!("norm({norm:?})"))),
        ];
        lines.push(match &train.plateau {
            Some(plateau) => format!(
                "rate: plateau(on: {}, factor: {:?}, patience: {}, least: {:?})",
                self.monitor(&plateau.on),
                plateau.factor,
                plateau.patience,
                plateau.least
            ),
            None => "rate: constant".to_owned(),
        });
        lines.extend(train.schedules.iter().map(|schedule| format!("rate: {schedule:?}")));
        lines.push(match &train.stop {
            Some(stop) => format!("stop: patience({}, on: {})", stop.patience, self.monitor(&stop.on)),
            None => "stop: never".to_owned(),
        });
        lines.push(format!("best: {}", self.monitor(&train.best)));
        push_sorted(&mut out, "train", lines);
        let metrics = self.metrics.iter().map(|metric| metric.name.clone());
        let cohorts = self.cohorts.iter().map(|cohort| format!("per {}", cohort.name));
        let inspected = self.inspected.iter().map(|own| format!("inspect {}", own.name));
        push_sorted(&mut out, "metrics", metrics.chain(cohorts).chain(inspected).collect());
        let rankings: Vec<String> = self.predictions.iter().filter_map(|own| self.resolved_ranking(own)).collect();
        if !rankings.is_empty() {
            push_sorted(&mut out, "rankings", rankings);
        }
        out.push_str("scoring\n");
        out.push_str(&canonical(&self.scoring, &self.variables));
        out.push_str("training\n");
        out.push_str(&canonical(&self.trained(), &self.variables));
        if let Some(balance) = &self.balance {
            out.push_str("balance\n");
            out.push_str(&canonical(&balance.as_forward(&self.training), &self.variables));
        }
        out
    }

    /// Losses and how they are balanced.
    fn resolved_objective(&self) -> Vec<String> {
        let losses = self.losses.iter().map(|loss| {
            let name = |column: Option<u32>| column.map_or("none", |column| &self.columns[column as usize].name);
            let kind = match loss.of {
                LossOf::Head { kind, .. } | LossOf::Steps { kind, .. } => format!("{kind:?}"),
                LossOf::Each(_) => "its own".to_owned(),
            };
            format!("{}: {kind}, weight {:?}, where {}, weights {}", loss.name, loss.weight, name(loss.rows), name(loss.row_weight))
        });
        let names = |balance: &Balance| balance.losses.iter().map(|at| self.losses[*at].name.clone()).collect::<Vec<_>>().join(", ");
        let place = |balance: &Balance| if balance.over == BalancedAt::Parameters { " over parameters" } else { "" };
        let average = |balance: &Balance| balance.average.map_or(String::new(), |share| format!(" of averages, {share:?} a step"));
        let balances = self.balance.iter().map(|own| format!("balance of {}{}{}", names(own), place(own), average(own)));
        losses.chain(balances).collect()
    }

    fn resolved_ranking(&self, prediction: &Prediction) -> Option<String> {
        let recc_abi::Ranking { table, temperature, normalize, repeats, .. } = prediction.ranking()?;
        let (table, column) = (&self.tables[*table as usize].path, &self.columns[prediction.label as usize].name);
        let how = format!("temperature {temperature:?}, normalize {normalize}, repeats {repeats}");
        Some(format!("{}: {column} among {table}, {how}", prediction.name))
    }

    /// The model as it is trained, with what its losses are computed from.
    fn trained(&self) -> Forward {
        let mut forward = self.training.clone();
        for loss in &self.losses {
            let nodes = match loss.of {
                LossOf::Head { link, label, .. } => vec![("link", link), ("label", label)],
                LossOf::Steps { logits: StepLogits { hit, others, has_target, log_shares, .. }, .. } => {
                    let (OtherLogits::Drawn(others) | OtherLogits::All(others)) = others;
                    let mut nodes = vec![("target", hit), ("others", others), ("has_target", has_target)];
                    nodes.extend(log_shares.map(|shares| ("log shares", shares)));
                    nodes
                }
                LossOf::Each(each) => vec![("loss", each)],
            };
            let named = |(what, node): (&str, NodeId)| crate::graph::Named { name: format!("{} {what}", loss.name), node };
            forward.program.results.extend(nodes.into_iter().map(named));
        }
        forward
    }

    fn resolved_column(&self, column: &Column) -> String {
        let token = match &column.token {
            recc_abi::Token::Column(name) => format!("column {name:?}"),
            recc_abi::Token::Part { column, separator, at, count } => {
                format!("number {at} of {count} in column {column:?}, between {separator:?}")
            }
            recc_abi::Token::Condition => "condition".to_owned(),
            recc_abi::Token::Cross(parts) => {
                let names: Vec<&str> = parts.iter().map(|part| self.columns[*part as usize].name.as_str()).collect();
                format!("cross of {}", names.join(", "))
            }
        };
        let kind = match &column.kind {
            recc_abi::ColumnKind::Ids { encoder, split, ordered } => {
                let encoder = match encoder {
                    recc_abi::Encoder::VocabOf(_) => format!("of {}", self.encoder(encoder)),
                    other => format!("by {}", self.encoder(other)),
                };
                format!("{} {encoder}, {}", if *ordered { "sequence of ids" } else { "ids" }, self.split(split))
            }
            recc_abi::ColumnKind::Numbers { split, times: true, .. } => format!("sequence of times, {}", self.split(split)),
            recc_abi::ColumnKind::Numbers { split, reading, .. } => {
                format!("sequence of numbers, {}{}", self.split(split), reading_text(reading))
            }
            recc_abi::ColumnKind::Id { encoder: encoder @ recc_abi::Encoder::VocabOf(_) } => format!("id of {}", self.encoder(encoder)),
            recc_abi::ColumnKind::Id { encoder } => format!("Id {{ encoder: {} }}", self.encoder(encoder)),
            recc_abi::ColumnKind::Number(reading) => format!("number{}", reading_text(reading)),
            other => format!("{other:?}"),
        };
        format!("{}: {token}, {kind}", column.name)
    }

    fn encoder(&self, encoder: &recc_abi::Encoder) -> String {
        match encoder {
            recc_abi::Encoder::VocabOf(other) => format!("the vocabulary of {}", self.columns[*other as usize].name),
            recc_abi::Encoder::Hash { buckets, seed: 0 } => format!("Hash {{ buckets: {buckets} }}"),
            recc_abi::Encoder::Part { of, part, divisor } => format!("{part:?} by {divisor} of {}", self.encoder(of)),
            other => format!("{other:?}"),
        }
    }

    fn split(&self, split: &recc_abi::Split) -> String {
        let aligned = split.aligned.map_or(String::new(), |other| format!(", aligned with {}", self.columns[other as usize].name));
        let weighted = split.weighted.as_ref().map_or(String::new(), |sign| format!(", weights behind {sign:?}"));
        let stochastic = split.stochastic.map_or(String::new(), |alpha| format!(", stochastic length {alpha:?}"));
        format!("separator {:?}, take {:?}{stochastic}{aligned}{weighted}", split.separator, split.take)
    }

    fn monitor(&self, monitor: &Monitor) -> String {
        let prediction = self.predictions.get(monitor.prediction as usize).map_or("", |prediction| prediction.name.as_str());
        let metric = monitor.metric.as_ref().map_or("loss", |metric| metric.name.as_str());
        format!("{metric} of {prediction}")
    }
}

impl Balance {
    /// The rule as a graph of its own: what is balanced, the weights, and the new states.
    fn as_forward(&self, training: &Forward) -> Forward {
        let named = |name: &str, node| crate::graph::Named { name: name.to_owned(), node };
        let mut program = training.program.clone();
        program.results = match self.over {
            BalancedAt::Value(over) => vec![named("over", over), named("weights", self.weights)],
            BalancedAt::Parameters => vec![named("weights", self.weights)],
        };
        Forward { program, updates: self.updates.clone() }
    }
}

fn optimizer(spec: &OptimizerSpec) -> String {
    format!(
        "{:?}(lr: {:?}, beta1: {:?}, beta2: {:?}, epsilon: {:?}, decay: {:?}, l2: {:?})",
        spec.kind, spec.rate, spec.beta1, spec.beta2, spec.epsilon, spec.decay, spec.l2
    )
}

fn push_sorted(out: &mut String, head: &str, mut lines: Vec<String>) {
    lines.sort();
    let _ = writeln!(out, "{head}");
    for line in lines {
        let _ = writeln!(out, "  {line}");
    }
}

/// The graph as one line a node, numbered in the order the results reach them: the order of declarations does not show.
fn canonical(forward: &Forward, variables: &[Variable]) -> String {
    let graph = &forward.program.graph;
    // What is only looked at makes no other model.
    let results = forward.program.results.iter().filter(|result| !result.name.starts_with(Inspected::PREFIX));
    let mut roots: Vec<(String, NodeId)> = results.map(|result| (result.name.clone(), result.node)).collect();
    roots.extend(forward.updates.iter().map(|(variable, node)| (format!("update {}", variables[variable.0 as usize].path), *node)));
    roots.sort_by(|a, b| a.0.cmp(&b.0));
    let mut numbers = std::collections::BTreeMap::new();
    let mut out = String::new();
    for (name, root) in roots {
        let mut stack = vec![(root, false)];
        while let Some((node, ready)) = stack.pop() {
            if numbers.contains_key(&node) {
                continue;
            }
            let operands = graph.operands(node);
            if !ready {
                stack.push((node, true));
                stack.extend(operands.into_iter().rev().map(|operand| (operand, false)));
                continue;
            }
            let names: Vec<String> = operands.iter().map(|operand| format!("%{}", numbers[operand])).collect();
            let _ = writeln!(out, "  %{} = {}({}) {}", numbers.len(), graph[node].op.name(), names.join(", "), graph[node].op.attributes());
            numbers.insert(node, numbers.len());
        }
        let _ = writeln!(out, "  {name} = %{}", numbers[&root]);
    }
    out
}

/// What stands for empty cells, and what the mean and the deviation are learned of.
fn reading_text(reading: &recc_abi::Reading) -> String {
    let fill = reading.fill.map_or(String::new(), |fill| format!(", {fill} where empty"));
    let moments = reading.moments.as_ref().map_or(String::new(), |steps| format!(", standardized behind {} steps", steps.len()));
    format!("{fill}{moments}")
}
