//! Bodies and their statements.

use super::Checker;
use super::calls::has_hole;
use super::feature::Kind;
use super::scope::{Binding, PathId};
use super::value::{AxisId, Exposed, Layer, Located, Tensor, Value, describe_type};
use crate::graph::{Dim, Named, NodeId, Space};
use crate::ops::{Op, Reshape, Variable as ReadVariable};
use crate::problem::{Problem, nearest, suggest};
use crate::scalar::ScalarOp;
use crate::spec::StepLogits;
use recc_abi::{Init, Link, Prediction, Role, Variable, VariableId};
use recc_syntax::ast::{self, Argument, Body, Expr, ExprKind, Name, Span, Statement, StatementKind};
use std::rc::Rc;

/// A prediction.
#[derive(Clone, Debug)]
pub(super) struct Predicted {
    pub(super) prediction: Prediction,
    pub(super) span: Span,
    /// None if it has a mistake, and for a ranking that is not trained.
    pub(super) head: Option<Head>,
}

/// What a loss is computed from, in the graph of the walk.
#[derive(Clone, Copy, Debug)]
pub(super) enum Head {
    /// A link and a label.
    Number { link: NodeId, label: NodeId },
    /// Logits of a ranking's steps.
    Steps(StepLogits),
    /// The only loss it has.
    Loss(NodeId),
}

impl Checker<'_> {
    pub(super) fn model_body(&mut self, body: &Body) {
        let root = self.path;
        self.scopes.push(Vec::new());
        for statement in &body.statements {
            self.path = root;
            let binding = statement_name(statement);
            if let (Some(root), Some(name)) = (root, binding) {
                let name = pinned_name(statement).unwrap_or(name);
                self.path = Some(self.paths.binding(root, name));
            }
            self.statement(statement, true);
        }
        self.path = root;
        let scope = self.scopes.pop().unwrap_or_default();
        self.warn_unused_bindings(&scope);
        if let Some(root) = root {
            self.warn_ambiguous(root, body);
        }
        if self.predictions.is_empty() && !self.has_errors() {
            self.report(Problem::error("E0104", body.span, "the model predicts nothing").help("end it with `predict label = logit(…)`"));
        }
    }

    fn warn_ambiguous(&mut self, root: super::scope::PathId, body: &Body) {
        for statement in &body.statements {
            if let Some(name) = statement_name(statement) {
                let path = self.paths.binding(root, pinned_name(statement).unwrap_or(name));
                if let Some((block, first, second)) = self.paths.ambiguous_calls(path) {
                    let problem =
                        Problem::warning("W0005", second, format!("two calls of `{block}` under one binding")).and(first, "the other one");
                    self.report(
                        problem
                            .help("bind each with `let`: their parameters are then named for what they are, and reordering renames none"),
                    );
                }
            }
        }
    }

    fn warn_unused_bindings(&mut self, scope: &[Binding]) {
        for binding in scope {
            if binding.watched && !binding.used && !matches!(binding.value, Value::Poison) && binding.span.file.0 == 0 {
                let problem = Problem::warning("W0003", binding.span, format!("`{}` is not used", binding.name));
                self.report(problem.help("remove it; its parameters would not be trained"));
            }
        }
    }

    /// Statements of a block, a branch or a loop; gives the last one's value.
    pub(super) fn body(&mut self, body: &Body) -> Value {
        self.scopes.push(Vec::new());
        let mut value = Value::Nothing;
        for statement in &body.statements {
            value = self.statement(statement, false);
        }
        let scope = self.scopes.pop().unwrap_or_default();
        self.warn_unused_bindings(&scope);
        value
    }

    pub(super) fn bind(&mut self, name: &Name, value: Value, mutable: bool, watched: bool) {
        let Some(scope) = self.scopes.last_mut() else { return };
        if let Some(known) = scope.iter().find(|known| known.name == name.text) {
            let problem = Problem::error("E0102", name.span, format!("`{}` is bound twice", name.text)).and(known.span, "bound here first");
            self.report(problem.help("use another name, or `var` and an assignment"));
            return;
        }
        scope.push(Binding { name: name.text.clone(), value, span: name.span, mutable, used: false, watched });
    }

    fn statement(&mut self, statement: &Statement, in_model: bool) -> Value {
        if !self.burn(statement.span) {
            return Value::Poison;
        }
        for attribute in &statement.attributes {
            if attribute.name.text != "name" {
                let problem = Problem::error("E0113", attribute.name.span, format!("there is no attribute `{}`", attribute.name.text));
                self.report(problem.help("`@name(\"…\")` keeps a binding's parameters under an old name"));
            }
        }
        match &statement.kind {
            StatementKind::Let(name, value) => {
                let value = self.eval_value(value);
                self.bind(name, value, false, true);
            }
            StatementKind::Var(name, value) => {
                let value = self.eval_value(value);
                self.bind(name, value, true, true);
            }
            StatementKind::Assign(name, value) => {
                let value = self.eval_value(value);
                self.assign(name, value);
            }
            StatementKind::Param(name, ty, init) => self.parameter(name, ty, init.as_ref(), Role::Parameter, in_model),
            StatementKind::State(name, ty, init) => self.parameter(name, ty, init.as_ref(), Role::State, in_model),
            StatementKind::Update(name, value) => self.update_state(name, value),
            StatementKind::Layer(name, value) => self.layer(name, value, in_model),
            StatementKind::Expose(name, value) => self.expose(name, value.as_ref(), in_model),
            StatementKind::Predict(name, value) => self.predict(name, value, in_model),
            StatementKind::Table(table) => {
                if !in_model {
                    let problem = Problem::error("E0220", table.name.span, "a table stands at the top of a model or of the spec");
                    self.report(problem.help("declare it there and give the block what is looked up"));
                }
            }
            StatementKind::For(name, over, body) => self.for_loop(name, over, body),
            StatementKind::Expr(value) => return self.eval(value),
        }
        Value::Nothing
    }

    fn assign(&mut self, name: &Name, value: Value) {
        let found = self.scopes.iter_mut().rev().find_map(|scope| scope.iter_mut().find(|binding| binding.name == name.text));
        match found {
            Some(binding) if binding.mutable => binding.value = value,
            Some(binding) => {
                let problem =
                    Problem::error("E0219", name.span, format!("`{}` cannot change", name.text)).and(binding.span, "bound with `let` here");
                self.report(problem.help("bind it with `var`"));
            }
            None => {
                let known: Vec<String> =
                    self.scopes.iter().flatten().filter(|binding| binding.mutable).map(|binding| binding.name.clone()).collect();
                let problem = Problem::error("E0101", name.span, format!("there is no `{}` to assign to", name.text));
                let help = match nearest(&name.text, known.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("bind it here: `let {} = …`, or `var` if it changes later", name.text),
                };
                self.report(problem.help(help));
                self.bind(name, value, true, false);
            }
        }
    }

    fn parameter(&mut self, name: &Name, ty: &ast::Type, init: Option<&Expr>, role: Role, in_model: bool) {
        let init = match init {
            Some(init) => match self.eval(init) {
                Value::Init(init) => Some(init),
                Value::Poison => None,
                other => match other.as_float() {
                    Some(number) => Some(super::value::Initializer::Fixed(recc_abi::Init::Constant(number))),
                    None => {
                        let text = other.describe(&self.graph);
                        self.report(
                            Problem::error("E0201", init.span, "this is no initializer")
                                .here(format!("this is {text}"))
                                .help("such as `zeros`, `xavier`, `normal(0.01)`"),
                        );
                        None
                    }
                },
            },
            None if role == Role::Parameter => Some(super::value::Initializer::Xavier),
            None => Some(super::value::Initializer::Fixed(recc_abi::Init::Constant(0.0))),
        };
        let shape = self.parameter_shape(ty);
        let (Some(init), Some((shape, axes)), Some(parent)) = (init, shape, self.path) else {
            return self.bind(name, Value::Poison, false, false);
        };
        let table = self.table_named(&name.text).filter(|_| in_model).map(|at| self.tables[at].span);
        if let Some(table) = table {
            let problem =
                Problem::error("E0102", name.span, format!("`{}` names a table and a parameter", name.text)).and(table, "the table");
            return self.report(problem.help("give one of them another name"));
        }
        if in_model && self.declared.contains(&parent) {
            self.report(
                Problem::error("E0102", name.span, "two parameters have one path")
                    .help("`@name` gives a path that another parameter has; choose another"),
            );
            return self.bind(name, Value::Poison, false, false);
        }
        if in_model {
            self.declared.push(parent);
        }
        // A model's own parameter is a binding; a block's belongs to the call.
        let path = if in_model { parent } else { self.paths.enter(parent, &name.text, None) };
        let id = match self.paths.variable(path) {
            Some(known) if self.variables[known.0 as usize].1.shape != shape => {
                let known = self.variables[known.0 as usize].1.shape.clone();
                let text = format!("`{}` is {} and would have to be {}", name.text, shape_text(&known), shape_text(&shape));
                self.report(
                    Problem::error("E0203", self.layer_call.unwrap_or(name.span), "a layer's parameters have one shape for all its uses")
                        .here(text)
                        .help("give it values of one width, or make another layer for the others"),
                );
                return self.bind(name, Value::Poison, false, false);
            }
            Some(known) => known,
            None => self.new_variable(path, &shape, init.resolve(&shape), role),
        };
        self.origin();
        let node = self.read_variable(id, path, shape);
        self.bind(name, Value::Tensor(Tensor { node, axes }), role == Role::State, true);
    }

    fn new_variable(&mut self, path: PathId, shape: &[u64], init: Init, role: Role) -> VariableId {
        let id = super::variable_id(self.variables.len());
        let variable = Variable { path: String::new(), shape: shape.to_vec(), table: None, init, role, scored: true };
        self.variables.push((path, variable));
        self.paths.set_variable(path, id);
        id
    }

    fn read_variable(&mut self, id: VariableId, path: PathId, dims: Vec<u64>) -> NodeId {
        self.graph.add(Op::Variable(ReadVariable { id, path: self.paths.early_text(path), dims }), &[])
    }

    /// A parameter of the statement that is walked, of zeros at first.
    pub(super) fn own_parameter(&mut self, name: &str, shape: &[u64]) -> Option<NodeId> {
        let path = self.paths.enter(self.path?, name, None);
        let id = self.paths.variable(path).unwrap_or_else(|| self.new_variable(path, shape, Init::Constant(0.0), Role::Parameter));
        Some(self.read_variable(id, path, shape.to_vec()))
    }

    fn parameter_shape(&mut self, ty: &ast::Type) -> Option<(Vec<u64>, Vec<AxisId>)> {
        let ast::TypeKind::Named { name, dims } = &ty.kind else {
            self.report(Problem::error("E0214", ty.span, "a parameter is a tensor").help("such as `param w: f32[I, out]`"));
            return None;
        };
        if name.text != "f32" {
            self.report(
                Problem::error("E0214", name.span, format!("a parameter is `f32`, not `{}`", name.text))
                    .help("such as `param w: f32[I, out]`"),
            );
            return None;
        }
        let mut shape = Vec::new();
        let mut axes = Vec::new();
        for dim in dims {
            let ast::Dim::Size(size) = dim else {
                self.report(Problem::error("E0214", ty.span, "a parameter's shape is fixed").help("write sizes or dimension variables"));
                return None;
            };
            let value = self.eval(size);
            match value.as_int() {
                Some(n) if (1..=1 << 31).contains(&n) => shape.push(n as u64),
                _ if matches!(value, Value::Poison) => return None,
                _ => {
                    let text = value.describe(&self.graph);
                    self.report(
                        Problem::error("E0214", size.span, "a size is a whole number from 1")
                            .here(format!("this is {text}"))
                            .help("dimension variables are bound by the block's arguments"),
                    );
                    return None;
                }
            }
            axes.push(if let Value::Axis(_, axis) = value { axis } else { self.fresh_axis() });
        }
        if shape.iter().try_fold(1u64, |product, n| product.checked_mul(*n)).is_none_or(|product| product > 1 << 31) {
            self.report(
                Problem::error("E0214", ty.span, "a parameter of more than 2^31 numbers")
                    .help("rows that are looked up belong in a `table`"),
            );
            return None;
        }
        Some((shape, axes))
    }

    fn update_state(&mut self, name: &Name, value: &Expr) {
        let new = self.eval(value);
        let found = self.scopes.iter().rev().find_map(|scope| scope.iter().find(|binding| binding.name == name.text)).cloned();
        let state = match found.map(|binding| binding.value) {
            Some(Value::Tensor(tensor)) => match &self.graph[tensor.node].op {
                Op::Variable(variable) => self
                    .variables
                    .get(variable.id.0 as usize)
                    .filter(|(_, own)| own.role == Role::State)
                    .map(|_| (variable.id, tensor.node)),
                _ => None,
            },
            Some(Value::Poison) => return,
            _ => None,
        };
        let Some((variable, old)) = state else {
            self.report(
                Problem::error("E0220", name.span, format!("`{}` is no state", name.text))
                    .help("declare it: `state average: f32[D] = zeros`"),
            );
            return;
        };
        let Some(new) = self.tensor(&Located { value: new, span: value.span }) else { return };
        if self.graph[new.node].ty != self.graph[old].ty {
            let (here, there) = (describe_type(&self.graph, new.node), describe_type(&self.graph, old));
            let each = if self.graph[new.node].ty.space == Space::Example { " for each example" } else { "" };
            let problem = Problem::error("E0202", value.span, format!("the state is {there}")).here(format!("this is {here}{each}"));
            self.report(problem.help("average over the batch first, with `batch_mean`"));
            return;
        }
        if self.training {
            self.forward.updates.push((variable, new.node));
        }
    }

    fn layer(&mut self, name: &Name, value: &Expr, in_model: bool) {
        let Some(parent) = self.path else { return };
        // A model's own layer is a binding; in a block or a loop each round has one of its own.
        let path = if in_model { parent } else { self.paths.enter(parent, &name.text, None) };
        let scope = self.scopes.iter().flatten().map(|binding| (binding.name.clone(), binding.value.clone())).collect();
        // What the layer's call reads is used by it.
        for binding in self.scopes.iter_mut().flatten() {
            binding.used = true;
        }
        let layer = Layer { call: Rc::new(value.clone()), path, module: self.module, scope: Rc::new(scope) };
        if !has_hole(value) {
            self.report(
                Problem::error("E0213", value.span, "a layer is a call with a place for its input")
                    .help("such as `layer tower = mlp(_, [64, 32])`"),
            );
            return self.bind(name, Value::Poison, false, false);
        }
        self.bind(name, Value::Layer(Rc::new(layer)), false, true);
    }

    fn expose(&mut self, name: &Name, value: Option<&Expr>, in_model: bool) {
        if !in_model {
            self.report(Problem::error("E0220", name.span, "`expose` belongs to a model").help("give the value back and expose it there"));
            return;
        }
        let value = match value {
            Some(value) => {
                let value = self.eval_value(value);
                self.bind(name, value.clone(), false, false);
                value
            }
            None => self.eval(&Expr { kind: ExprKind::Name(name.text.clone()), span: name.span }),
        };
        let model = self.model_name.clone();
        if let Some(known) = self.exposes.iter().find(|own| own.model == model && own.name == name.text) {
            let problem =
                Problem::error("E0102", name.span, format!("`{}` is exposed twice", name.text)).and(known.span, "exposed here first");
            return self.report(problem.help("keep one of them"));
        }
        self.exposes.push(Exposed { model, name: name.text.clone(), value, span: name.span });
    }

    fn for_loop(&mut self, name: &Name, over: &Expr, body: &Body) {
        let Some(items) = self.items_of(over) else { return };
        for item in items {
            if !self.burn(over.span) {
                return;
            }
            self.scopes.push(Vec::new());
            self.bind(name, item, false, false);
            self.body(body);
            self.scopes.pop();
        }
    }

    pub(super) fn items_of(&mut self, over: &Expr) -> Option<Vec<Value>> {
        match self.eval(over) {
            Value::Range(start, end) if end.saturating_sub(start) <= 100_000 => Some((start..end).map(Value::Int).collect()),
            Value::List(items) => Some(items),
            Value::Poison => None,
            Value::Range(start, end) => {
                let problem = Problem::error("E0222", over.span, format!("a loop of {} rounds is too long", end.saturating_sub(start)));
                self.report(problem.help("at most 100000; a loop is unrolled at compile time"));
                None
            }
            other => {
                let text = other.describe(&self.graph);
                let problem = Problem::error("E0212", over.span, "a loop runs over a range or a list that is known at compile time")
                    .here(format!("this is {text}"));
                self.report(problem.help("such as `for l in 0..layers`"));
                None
            }
        }
    }

    fn predict(&mut self, name: &Name, value: &Expr, in_model: bool) {
        if !in_model {
            return self.report(
                Problem::error("E0220", name.span, "`predict` stands at the top of a model").help("give the value back and predict there"),
            );
        }
        let ExprKind::Call { callee, args } = &value.kind else { return self.no_link(value.span, "") };
        let ExprKind::Name(link) = &callee.kind else { return self.no_link(callee.span, "") };
        if link == "softmax" {
            return self.predict_softmax(name, args, callee.span);
        }
        let Some((word, link, argument)) = self.link(link, args, callee.span, value.span) else { return };
        if name.text == "balance" {
            let problem = Problem::error("E0102", name.span, "`balance` is a setting of an objective, and no name of a prediction");
            self.report(problem.help("give the label another name: `label balanced: binary = column(\"balance\")`"));
        }
        let z = self.eval(&argument.value);
        let z = self.tensor(&Located { value: z, span: argument.value.span });
        let label = self.features.iter().position(|feature| feature.name == name.text && matches!(feature.kind, Kind::Label { .. }));
        let Some(label) = label else {
            let names: Vec<String> = self
                .features
                .iter()
                .filter(|feature| matches!(feature.kind, Kind::Label { .. }))
                .map(|feature| feature.name.clone())
                .collect();
            let help = suggest(&name.text, names.iter().map(String::as_str));
            return self.report(Problem::error("E0504", name.span, format!("there is no label `{}` to predict", name.text)).help(help));
        };
        let Some(z) = z else { return self.push_prediction(name, label, link, None) };
        if let Some(known) = self.predictions.iter().find(|known| known.prediction.name == name.text) {
            let problem =
                Problem::error("E0507", name.span, format!("`{}` is predicted twice", name.text)).and(known.span, "the first prediction");
            return self.report(problem.help("a label has one prediction; use `expose` for another value"));
        }
        let dims = self.graph[z.node].ty.dims.clone();
        if !(dims.is_empty() || dims == [Dim::Fixed(1)]) {
            let text = describe_type(&self.graph, z.node);
            let problem = Problem::error("E0203", callee.span, format!("`{word}` takes one number per example"))
                .here(format!("takes f32 or f32[1], found {text}"))
                .and(argument.value.span, format!("this is {text}"));
            let help = if dims.iter().any(|dim| dim.fixed().is_none()) {
                "bring its entries together first: `mean(x, axis: …)` with the feature's name as axis, or `last(x)` of a sequence"
            } else if dims.len() > 1 {
                "join its axes and project them: `flatten(…) |> linear(1)`, or reduce them with `sum`"
            } else {
                "project it first: `… |> linear(1)`"
            };
            self.report(problem.help(help));
            return self.push_prediction(name, label, link, None);
        }
        let binary = matches!(self.features[label].kind, Kind::Label { binary: true });
        if link == Link::Logit && !binary {
            let problem = Problem::error("E0505", callee.span, format!("`{}` is a number, and a logit is of a binary label", name.text));
            self.report(
                problem.and(self.features[label].span, "the label").help("predict it with `value(…)`, or declare the label `: binary`"),
            );
        }
        if let Some((what, by)) = self.bounded(z.node).filter(|_| link == Link::Logit) {
            let problem =
                Problem::warning("W0007", argument.value.span, format!("`logit` is given {what}")).here(format!("{by} gives this"));
            self.report(problem.help(format!("give it the value before {by}: `logit` takes any number, and applies a sigmoid itself")));
        }
        if let Link::Ordinal { levels } = link {
            return self.predict_levels(name, label, levels, z, callee.span);
        }
        self.finish_prediction(name, label, link, z);
    }

    /// What a value is, if it cannot be every number, and what makes it so.
    fn bounded(&self, node: NodeId) -> Option<(&'static str, &'static str)> {
        let operands = self.graph.operands(node);
        match &self.graph[node].op {
            Op::Map(map) => match map.op {
                ScalarOp::Sigmoid => Some(("a probability", "a sigmoid")),
                ScalarOp::Tanh => Some(("a number between -1 and 1", "a tanh")),
                ScalarOp::Max if operands.iter().any(|own| self.is_zero(*own)) => Some(("a number that is never below 0", "a ReLU")),
                _ => None,
            },
            Op::Reshape(_) => self.bounded(operands[0]),
            _ => None,
        }
    }

    fn is_zero(&self, node: NodeId) -> bool {
        match &self.graph[node].op {
            Op::Constant(constant) => constant.value() == 0.0,
            Op::Broadcast(_) => self.is_zero(self.graph.operands(node)[0]),
            _ => false,
        }
    }

    /// A link of one number: its word, what it is, and what it is given.
    fn link<'a>(&mut self, word: &'a str, args: &'a [Argument], callee: Span, span: Span) -> Option<(&'a str, Link, &'a Argument)> {
        let mut given = args;
        let link = match word {
            "logit" => Link::Logit,
            "value" => Link::Value,
            "ordinal" => {
                let (first, levels) = self.levels(args, span)?;
                given = std::slice::from_ref(first);
                Link::Ordinal { levels }
            }
            _ => {
                self.no_link(callee, word);
                return None;
            }
        };
        let [argument @ Argument { name: None, .. }] = given else {
            let problem = Problem::error("E0209", span, format!("`{word}` takes one value"));
            self.report(problem.help(format!("such as `{word}(mlp(x, [64]) |> linear(1))`")));
            return None;
        };
        Some((word, link, argument))
    }

    fn no_link(&mut self, span: Span, found: &str) {
        let help = if found.is_empty() {
            "such as `logit(z)` or `value(z)`".to_owned()
        } else {
            suggest(found, ["logit", "value", "ordinal", "softmax"])
        };
        self.report(Problem::error("E0501", span, "a prediction says how its value is meant").help(help));
    }

    /// Without a head it has a mistake, and is still a prediction: its loss is not reported too.
    pub(super) fn push_prediction(&mut self, name: &Name, label: usize, link: Link, head: Option<Head>) {
        let label = self.features[label].columns[0];
        let loss = link.usual_loss();
        let model = self.in_ensemble.then(|| self.model_name.clone());
        let prediction = Prediction { name: name.text.clone(), label, link, loss, rows: None, model, weights: None };
        self.predictions.push(Predicted { prediction, span: name.span, head });
    }

    /// A value that the plan gives out.
    pub(super) fn result(&mut self, name: &str, node: NodeId) {
        self.forward.program.results.push(Named { name: name.to_owned(), node });
    }

    fn finish_prediction(&mut self, name: &Name, label: usize, link: Link, z: Tensor) {
        self.origin();
        let node = self.one_number(z.node);
        let Some(target) = self.label(label) else { return };
        let value = if link == Link::Logit { self.graph.map(ScalarOp::Sigmoid, &[node]) } else { node };
        self.push_prediction(name, label, link, Some(Head::Number { link: node, label: target }));
        self.prediction_results(node, value);
    }

    /// `f32` or `f32[1]` as `f32` of each example.
    pub(super) fn one_number(&mut self, node: NodeId) -> NodeId {
        let is_long = self.graph[node].ty.dims == [Dim::Fixed(1)];
        let node = if is_long { self.graph.add(Op::Reshape(Reshape { dims: vec![] }), &[node]) } else { node };
        self.graph.broadcast(node, Space::Example, &[])
    }

    /// A label's values.
    pub(super) fn label(&mut self, label: usize) -> Option<NodeId> {
        let Value::Tensor(target) = self.number_feature(label) else { return None };
        self.features[label].used = true;
        Some(target.node)
    }

    /// Gives out the last prediction.
    pub(super) fn prediction_results(&mut self, link: NodeId, value: NodeId) {
        if let Some(result) = self.predictions.last().map(|own| own.prediction.result()) {
            self.result(&format!("{result}.link"), link);
            self.result(&result, value);
        }
    }
}

/// The binding a statement of a model makes, which names its parameters.
fn statement_name(statement: &Statement) -> Option<&str> {
    match &statement.kind {
        StatementKind::Let(name, _) | StatementKind::Var(name, _) | StatementKind::Assign(name, _) | StatementKind::Predict(name, _) => {
            Some(&name.text)
        }
        StatementKind::Param(name, ..) | StatementKind::State(name, ..) | StatementKind::Layer(name, _) => Some(&name.text),
        StatementKind::Expose(name, Some(_)) => Some(&name.text),
        StatementKind::Update(..)
        | StatementKind::Expose(_, None)
        | StatementKind::Table(_)
        | StatementKind::For(..)
        | StatementKind::Expr(_) => None,
    }
}

/// `f32[3, 4]`
fn shape_text(shape: &[u64]) -> String {
    format!("f32[{}]", shape.iter().map(u64::to_string).collect::<Vec<_>>().join(", "))
}

/// `@name("…")`
fn pinned_name(statement: &Statement) -> Option<&str> {
    statement.attributes.iter().find(|attribute| attribute.name.text == "name").map(|attribute| attribute.value.as_str())
}
