//! Bodies and expressions: evaluated at compile time, which builds the graph.

use super::Checker;
use super::features::Kind;
use super::scope::Binding;
use super::value::{AxisId, BlockRef, Layer, Located, Tensor, Value, describe_type};
use crate::graph::{DType, Dim, Space};
use crate::ops::{Constant, Input, InputKind, MatMul, Op, Reduce, Reshape, Variable as ReadVariable};
use crate::problem::{Problem, suggest};
use crate::scalar::ScalarOp;
use recc_abi::{Role, Variable};
use recc_syntax::ast::{self, BinaryOp, Body, Expr, ExprKind, Name, Span, Statement, StatementKind, UnaryOp};
use std::rc::Rc;

pub(super) type Axis = AxisId;

/// Calls nested deeper than this are refused.
const MAX_CALLS: usize = 64;

/// Evaluated arguments of a call.
pub(super) struct Args {
    pub(super) span: Span,
    values: Vec<(Option<Name>, Located, Expr)>,
}

impl Args {
    pub(super) fn positional(&self) -> usize {
        self.values.iter().filter(|(name, ..)| name.is_none()).count()
    }

    /// The `axis:` argument, as written.
    pub(super) fn take_axis(&mut self) -> Option<Expr> {
        let at = self.values.iter().position(|(name, ..)| name.as_ref().is_some_and(|name| name.text == "axis"))?;
        Some(self.values.remove(at).2)
    }

    /// The arguments of a function that takes exactly these.
    pub(super) fn take<const N: usize>(&mut self, cx: &mut Checker<'_>, function: &str, names: [&str; N]) -> [Located; N] {
        names.map(|wanted| {
            let named = self.values.iter().position(|(name, ..)| name.as_ref().is_some_and(|name| name.text == wanted));
            let at = named.or_else(|| self.values.iter().position(|(name, ..)| name.is_none()));
            match at {
                Some(at) => self.values.remove(at).1,
                None => {
                    let problem = Problem::error("E0211", self.span, format!("`{function}` misses `{wanted}`"));
                    cx.report(problem.help(format!("`{function}` takes {}", names.join(", "))));
                    Located { value: Value::Poison, span: self.span }
                }
            }
        })
    }

    /// All arguments, which have no names.
    pub(super) fn take_all(&mut self, cx: &mut Checker<'_>, function: &str) -> Vec<Located> {
        let (named, plain): (Vec<_>, Vec<_>) = std::mem::take(&mut self.values).into_iter().partition(|(name, ..)| name.is_some());
        self.values = named;
        let plain = plain.into_iter().map(|(_, value, _)| value).collect();
        self.leftover(cx, function);
        plain
    }

    /// Reports what is left over.
    pub(super) fn done(&mut self, cx: &mut Checker<'_>, function: &str) {
        self.leftover(cx, function);
    }

    fn leftover(&mut self, cx: &mut Checker<'_>, function: &str) {
        for (name, value, _) in std::mem::take(&mut self.values) {
            let problem = match name {
                Some(name) => Problem::error("E0210", name.span, format!("`{function}` has no argument `{}`", name.text)),
                None => Problem::error("E0209", value.span, format!("`{function}` takes fewer arguments")).here("one too many"),
            };
            cx.report(problem.help("remove it"));
        }
    }
}

impl Checker<'_> {
    pub(super) fn fresh_axis(&mut self) -> AxisId {
        self.axes += 1;
        AxisId(self.axes)
    }

    pub(super) fn feature_axis(&mut self, feature: usize) -> AxisId {
        if let Some(axis) = self.feature_axes.get(&feature) {
            return *axis;
        }
        let axis = self.fresh_axis();
        self.feature_axes.insert(feature, axis);
        axis
    }

    fn burn(&mut self, span: Span) -> bool {
        if self.fuel == 0 {
            return false;
        }
        self.fuel -= 1;
        if self.fuel == 0 {
            self.report(
                Problem::error("E0222", span, "the spec expands to more than 200000 steps").help("a loop is far longer than meant"),
            );
            return false;
        }
        true
    }

    // ---- statements ----

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
    fn body(&mut self, body: &Body) -> Value {
        self.scopes.push(Vec::new());
        let mut value = Value::Nothing;
        for statement in &body.statements {
            value = self.statement(statement, false);
        }
        let scope = self.scopes.pop().unwrap_or_default();
        self.warn_unused_bindings(&scope);
        value
    }

    fn bind(&mut self, name: &Name, value: Value, mutable: bool, watched: bool) {
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
            StatementKind::Layer(name, value) => self.layer(name, value),
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
                let help = if known.is_empty() {
                    format!("bind it first: `var {} = …`", name.text)
                } else {
                    suggest(&name.text, known.iter().map(String::as_str))
                };
                self.report(problem.help(help));
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
        let table = self.tables.iter().find(|table| in_model && table.name == name.text).map(|table| table.span);
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
            Some(known) => known,
            None => {
                let id = super::variable_id(self.variables.len());
                let variable = Variable { path: String::new(), shape: shape.clone(), table: None, init: init.resolve(&shape), role };
                self.variables.push((path, variable));
                self.paths.set_variable(path, id);
                id
            }
        };
        self.origin();
        let node = self.graph.add(Op::Variable(ReadVariable { id, path: self.paths.early_text(path), dims: shape }), &[]);
        self.bind(name, Value::Tensor(Tensor { node, axes }), role == Role::State, true);
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

    fn layer(&mut self, name: &Name, value: &Expr) {
        let Some(parent) = self.path else { return };
        let path = self.paths.binding(parent, &name.text);
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
        // Nothing outside the model can refer to it yet; the value is still checked.
        match value {
            Some(value) => {
                let value = self.eval_value(value);
                self.bind(name, value, false, false);
            }
            None => {
                self.eval(&Expr { kind: ExprKind::Name(name.text.clone()), span: name.span });
            }
        }
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

    fn items_of(&mut self, over: &Expr) -> Option<Vec<Value>> {
        match self.eval(over) {
            Value::Range(start, end) if end.saturating_sub(start) <= 100_000 => Some((start..end).map(Value::Int).collect()),
            Value::List(items) => Some(items),
            Value::Poison => None,
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
        if matches!(link.as_str(), "softmax" | "ordinal") {
            return self.not_yet(callee.span, &format!("predictions by `{link}`"));
        }
        if !matches!(link.as_str(), "logit" | "value") {
            return self.no_link(callee.span, link);
        }
        let [argument] = args.as_slice() else {
            let problem = Problem::error("E0209", value.span, format!("`{link}` takes one value"));
            return self.report(problem.help(format!("such as `{link}(mlp(x, [64]) |> linear(1))`")));
        };
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
        let Some(z) = z else { return self.poison_prediction(name, label, link == "logit") };
        if let Some((_, known)) = self.predictions.iter().find(|(prediction, _)| prediction.name == name.text) {
            let problem =
                Problem::error("E0507", name.span, format!("`{}` is predicted twice", name.text)).and(*known, "the first prediction");
            return self.report(problem.help("a label has one prediction; use `expose` for another value"));
        }
        let dims = self.graph[z.node].ty.dims.clone();
        if !(dims.is_empty() || dims == [Dim::Fixed(1)]) {
            let text = describe_type(&self.graph, z.node);
            let problem = Problem::error("E0203", callee.span, format!("a {link} takes one number per example"))
                .here(format!("takes f32 or f32[1], found {text}"))
                .and(argument.value.span, format!("this is {text}"));
            self.report(problem.help("project it first: `… |> linear(1)`"));
            return self.poison_prediction(name, label, link == "logit");
        }
        let binary = matches!(self.features[label].kind, Kind::Label { binary: true });
        if link == "logit" && !binary {
            let problem = Problem::error("E0505", callee.span, format!("`{}` is a number, and a logit is of a binary label", name.text));
            self.report(
                problem.and(self.features[label].span, "the label").help("predict it with `value(…)`, or declare the label `: binary`"),
            );
        }
        self.finish_prediction(name, label, link == "logit", z);
    }

    fn no_link(&mut self, span: Span, found: &str) {
        let help = if found.is_empty() {
            "such as `logit(z)` or `value(z)`".to_owned()
        } else {
            suggest(found, ["logit", "value", "ordinal", "softmax"])
        };
        self.report(Problem::error("E0501", span, "a prediction says how its value is meant").help(help));
    }

    /// A prediction with a mistake is still a prediction: its loss is not reported too.
    fn poison_prediction(&mut self, name: &Name, label: usize, logit: bool) {
        let column = self.features[label].columns[0];
        self.predictions.push((recc_abi::Prediction { name: name.text.clone(), label: column, logit }, name.span));
    }

    fn finish_prediction(&mut self, name: &Name, label: usize, logit: bool, z: Tensor) {
        self.origin();
        let mut node = z.node;
        if self.graph[node].ty.dims == [Dim::Fixed(1)] {
            node = self.graph.add(Op::Reshape(Reshape { dims: vec![] }), &[node]);
        }
        node = self.graph.broadcast(node, Space::Example, &[]);
        let Value::Tensor(target) = self.number_feature(label, name.span) else { return };
        self.features[label].used = true;
        self.forward.heads.push((node, target.node));
        let value = if logit { self.graph.map(ScalarOp::Sigmoid, &[node]) } else { node };
        self.forward.program.results.push(crate::graph::Named { name: format!("{}.link", name.text), node });
        self.forward.program.results.push(crate::graph::Named { name: name.text.clone(), node: value });
        self.poison_prediction(name, label, logit);
    }

    // ---- expressions ----

    fn origin(&mut self) {
        if let Some(path) = self.path {
            let text = self.paths.early_text(path);
            self.graph.set_origin(&text);
        }
    }

    /// A value that is bound to a name.
    fn eval_value(&mut self, expr: &Expr) -> Value {
        let value = self.eval(expr);
        if let Value::Nothing = value {
            self.report(Problem::error("E0221", expr.span, "this gives no value").help("a body's value is that of its last line"));
            return Value::Poison;
        }
        value
    }

    pub(super) fn eval(&mut self, expr: &Expr) -> Value {
        match &expr.kind {
            ExprKind::Int(value) => Value::Int(*value),
            ExprKind::Float(value) => Value::Float(*value),
            ExprKind::Text(text) => Value::Text(text.clone()),
            ExprKind::Bool(value) => Value::Bool(*value),
            ExprKind::Name(name) => self.name(name, expr.span, false),
            ExprKind::Hole => {
                self.report(
                    Problem::error("E0213", expr.span, "`_` stands for the input of a `layer`")
                        .help("such as `layer tower = mlp(_, [64])`"),
                );
                Value::Poison
            }
            ExprKind::List(items) => Value::List(items.iter().map(|item| self.eval_value(item)).collect()),
            ExprKind::Comprehension { body, var, over } => self.comprehension(body, var, over),
            ExprKind::Call { callee, args } => self.call(callee, args, None, expr.span),
            ExprKind::Pipe { value, into } => self.pipe(value, into, expr.span),
            ExprKind::Index { base, indices } => self.index(base, indices, expr.span),
            ExprKind::Field { base, name } => self.field(base, name),
            ExprKind::Unary(op, value) => self.unary_op(*op, value),
            ExprKind::Binary(op, left, right) => self.binary(*op, left, right, expr.span),
            ExprKind::Range { start, end, inclusive } => self.range(start, end, *inclusive, expr.span),
            ExprKind::If { condition, then, otherwise } => self.branch(condition, then, otherwise.as_ref()),
        }
    }

    fn comprehension(&mut self, body: &Expr, var: &Name, over: &Expr) -> Value {
        let Some(items) = self.items_of(over) else { return Value::Poison };
        let mut values = Vec::new();
        for item in items {
            if !self.burn(over.span) {
                return Value::Poison;
            }
            self.scopes.push(Vec::new());
            self.bind(var, item, false, false);
            values.push(self.eval_value(body));
            self.scopes.pop();
        }
        Value::List(values)
    }

    fn field(&mut self, base: &Expr, name: &Name) -> Value {
        self.not_yet(base.span.to(name.span), "names inside other models or files");
        Value::Poison
    }

    fn range(&mut self, start: &Expr, end: &Expr, inclusive: bool, span: Span) -> Value {
        let (first, last) = (self.eval(start), self.eval(end));
        match (first.as_int(), last.as_int()) {
            (Some(first), Some(last)) => Value::Range(first, last.saturating_add(i64::from(inclusive))),
            _ if matches!(first, Value::Poison) || matches!(last, Value::Poison) => Value::Poison,
            _ => {
                self.report(Problem::error("E0212", span, "the ends of a range are whole numbers").help("such as `0..layers`"));
                Value::Poison
            }
        }
    }

    fn branch(&mut self, condition: &Expr, then: &Body, otherwise: Option<&Body>) -> Value {
        match self.eval(condition) {
            Value::Bool(true) => self.body(then),
            Value::Bool(false) => otherwise.map_or(Value::Nothing, |body| self.body(body)),
            Value::Poison => Value::Poison,
            other => {
                let text = other.describe(&self.graph);
                let problem = Problem::error("E0212", condition.span, "an `if` decides at compile time").here(format!("this is {text}"));
                self.report(problem.help("compare constants; `select(c, a, b)` chooses per example"));
                Value::Poison
            }
        }
    }

    /// What a name means here. A call looks for something that can be called.
    fn name(&mut self, name: &str, span: Span, called: bool) -> Value {
        for scope in self.scopes.iter_mut().rev() {
            if let Some(binding) = scope
                .iter_mut()
                .rev()
                .find(|binding| binding.name == name && (!called || binding.value.is_callable() || matches!(binding.value, Value::Poison)))
            {
                binding.used = true;
                return binding.value.clone();
            }
        }
        if self.in_model
            && self.module == 0
            && let Some(value) = self.model_name(name, span, called)
        {
            return value;
        }
        if let Some((value, _)) = self.modules[self.module].names.get(name) {
            return value.clone();
        }
        if let Some(value) = super::builtins::find(name) {
            return value;
        }
        let mut known: Vec<String> = self.scopes.iter().flatten().map(|binding| binding.name.clone()).collect();
        known.extend(self.modules[self.module].names.keys().cloned());
        known.extend(super::builtins::names().map(str::to_owned));
        if self.in_model && self.module == 0 {
            known.extend(self.features.iter().map(|feature| feature.name.clone()));
            known.extend(self.tables.iter().map(|table| table.name.clone()));
        }
        let near = crate::problem::nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
        let library = self.modules.iter().skip(1).find(|module| module.names.contains_key(name)).map(|module| module.name.clone());
        let help = match (library, near) {
            (Some(module), _) => format!("the library has it: `use {module}.{name}`"),
            (None, Some(near)) => format!("did you mean `{near}`?"),
            (None, None) => "bind it with `let`, or declare it above".to_owned(),
        };
        self.report(Problem::error("E0101", span, format!("there is no `{name}` here")).help(help));
        Value::Poison
    }

    /// A feature or a table.
    fn model_name(&mut self, name: &str, span: Span, called: bool) -> Option<Value> {
        // A feature may have the name of a function.
        if called && (super::builtins::find(name).is_some() || self.modules[0].names.contains_key(name)) {
            return None;
        }
        if let Some(at) = self.tables.iter().position(|table| table.name == name) {
            return Some(Value::Table(at));
        }
        let at = self.features.iter().position(|feature| feature.name == name)?;
        let feature = self.features[at].clone();
        if !feature.sound {
            self.features[at].used = true;
            return Some(Value::Poison);
        }
        Some(match feature.kind {
            Kind::Number => self.number_feature(at, span),
            Kind::Id | Kind::Ids => Value::Feature(at),
            Kind::Label { .. } => {
                let problem =
                    Problem::error("E0310", span, format!("the label `{name}` is no input")).and(feature.span, "declared as a label here");
                self.report(problem.help("a model that sees its label learns nothing else; labels belong in `predict` and `objective`"));
                Value::Poison
            }
            Kind::Key => {
                let problem =
                    Problem::error("E0310", span, format!("the key `{name}` is no input")).and(feature.span, "declared as a key here");
                self.report(problem.help("declare a feature of kind `id` with `column(\"…\")` to learn from it"));
                Value::Poison
            }
        })
    }

    /// The tensor of a number feature or a number label, its transforms applied.
    fn number_feature(&mut self, at: usize, span: Span) -> Value {
        self.features[at].used = true;
        let feature = self.features[at].clone();
        let input = |kind| Op::Input(Input { name: feature.name.clone(), kind, columns: feature.columns.clone(), group: feature.group });
        let origin = self.graph.origin().to_owned();
        self.graph.set_origin(&format!("features.{}", feature.name));
        let node = self.graph.add(input(InputKind::Numbers), &[]);
        let axes = if feature.group { vec![self.feature_axis(at)] } else { Vec::new() };
        let mut value = Value::Tensor(Tensor { node, axes });
        for step in &feature.steps {
            let located = Located { value, span: step.span };
            value = if step.name.text == "standardize" {
                self.standardize(located, &input)
            } else {
                let args = self.step_args(located, step);
                match super::builtins::find(&step.name.text) {
                    Some(Value::Builtin(name)) => self.call_builtin(name, args),
                    _ => Value::Poison,
                }
            };
        }
        self.graph.set_origin(&origin);
        let _ = span;
        value
    }

    fn step_args(&mut self, first: Located, step: &super::features::Step) -> Args {
        let dummy = Expr { kind: ExprKind::Hole, span: step.span };
        let mut values = vec![(None, first, dummy)];
        for argument in &step.args {
            let value = self.constant(&argument.value);
            values.push((argument.name.clone(), Located { value, span: argument.value.span }, argument.value.clone()));
        }
        Args { span: step.span, values }
    }

    /// (x - mean) / deviation, both learned from training data.
    fn standardize(&mut self, x: Located, input: &dyn Fn(InputKind) -> Op) -> Value {
        let Some(tensor) = self.tensor(&x) else { return Value::Poison };
        let mean = self.graph.add(input(InputKind::Moment(0)), &[]);
        let deviation = self.graph.add(input(InputKind::Moment(1)), &[]);
        let moment = |node| Located { value: Value::Tensor(Tensor { node, axes: tensor.axes.clone() }), span: x.span };
        let (mean, deviation) = (moment(mean), moment(deviation));
        let centered = self.binary_op(ScalarOp::Sub, "-", &x, &mean, x.span);
        self.binary_op(ScalarOp::Div, "/", &Located { value: centered, span: x.span }, &deviation, x.span)
    }

    fn index(&mut self, base: &Expr, indices: &[Expr], span: Span) -> Value {
        let value = self.eval(base);
        let [index] = indices else {
            self.not_yet(span, "indexing by several indices");
            return Value::Poison;
        };
        match value {
            Value::Table(table) => {
                self.origin();
                self.look_up(table, index, span)
            }
            Value::List(items) => {
                let at = self.eval(index);
                match at.as_int() {
                    Some(at) if (0..items.len() as i64).contains(&at) => items[at as usize].clone(),
                    Some(_) => {
                        let problem =
                            Problem::error("E0208", index.span, format!("the list has {} elements", items.len())).here("this lies outside");
                        self.report(problem.help("counting starts at 0"));
                        Value::Poison
                    }
                    None => self.wrong_index(&Located { value: at, span: index.span }),
                }
            }
            Value::Tensor(tensor) => {
                let index = Located { value: self.eval(index), span: index.span };
                self.index_tensor(&tensor, &index)
            }
            Value::Poison => Value::Poison,
            other => {
                let text = other.describe(&self.graph);
                self.report(Problem::error("E0216", base.span, format!("{text} cannot be indexed")).help("tables, lists and tensors can"));
                Value::Poison
            }
        }
    }

    fn unary_op(&mut self, op: UnaryOp, value: &Expr) -> Value {
        let located = Located { value: self.eval(value), span: value.span };
        match (op, &located.value) {
            (_, Value::Poison) => Value::Poison,
            (UnaryOp::Not, Value::Bool(truth)) => Value::Bool(!truth),
            (UnaryOp::Neg, Value::Int(number)) => Value::Int(number.saturating_neg()),
            (UnaryOp::Neg, other) if other.as_float().is_some() => Value::Float(-other.as_float().unwrap_or(0.0)),
            (UnaryOp::Neg, _) => match self.tensor(&located) {
                Some(tensor) => Value::Tensor(Tensor { node: self.graph.map(ScalarOp::Neg, &[tensor.node]), axes: tensor.axes }),
                None => Value::Poison,
            },
            (UnaryOp::Not, _) => match self.tensor_of_any(&located) {
                Some(tensor) if self.graph[tensor.node].ty.dtype == DType::Bool => {
                    Value::Tensor(Tensor { node: self.graph.map(ScalarOp::Not, &[tensor.node]), axes: tensor.axes })
                }
                Some(_) => self.no_truth(&located),
                None => Value::Poison,
            },
        }
    }

    fn no_truth(&mut self, located: &Located) -> Value {
        let text = located.value.describe(&self.graph);
        self.report(
            Problem::error("E0201", located.span, "`and`, `or` and `not` take truth values")
                .here(format!("this is {text}"))
                .help("compare first, such as `x > 0`"),
        );
        Value::Poison
    }

    fn binary(&mut self, op: BinaryOp, left: &Expr, right: &Expr, span: Span) -> Value {
        let a = Located { value: self.eval(left), span: left.span };
        let b = Located { value: self.eval(right), span: right.span };
        if matches!(a.value, Value::Poison) || matches!(b.value, Value::Poison) {
            return Value::Poison;
        }
        if let Some(value) = self.constant_binary(op, &a, &b, span) {
            return value;
        }
        self.origin();
        let symbol = op.symbol();
        match op {
            BinaryOp::Add => self.binary_op(ScalarOp::Add, symbol, &a, &b, span),
            BinaryOp::Sub => self.binary_op(ScalarOp::Sub, symbol, &a, &b, span),
            BinaryOp::Mul => self.binary_op(ScalarOp::Mul, symbol, &a, &b, span),
            BinaryOp::Div => self.binary_op(ScalarOp::Div, symbol, &a, &b, span),
            BinaryOp::MatMul => self.matmul(&a, &b, span),
            BinaryOp::Lt => self.binary_op(ScalarOp::Lt, symbol, &a, &b, span),
            BinaryOp::Le => self.binary_op(ScalarOp::Le, symbol, &a, &b, span),
            BinaryOp::Gt => self.binary_op(ScalarOp::Lt, symbol, &b, &a, span),
            BinaryOp::Ge => self.binary_op(ScalarOp::Le, symbol, &b, &a, span),
            BinaryOp::Eq => self.binary_op(ScalarOp::Eq, symbol, &a, &b, span),
            BinaryOp::Ne => match self.binary_op(ScalarOp::Eq, symbol, &a, &b, span) {
                Value::Tensor(tensor) => Value::Tensor(Tensor { node: self.graph.map(ScalarOp::Not, &[tensor.node]), axes: tensor.axes }),
                other => other,
            },
            BinaryOp::And | BinaryOp::Or => {
                let scalar = if op == BinaryOp::And { ScalarOp::And } else { ScalarOp::Or };
                let (Some(x), Some(y)) = (self.tensor_of_any(&a), self.tensor_of_any(&b)) else { return Value::Poison };
                for (tensor, located) in [(&x, &a), (&y, &b)] {
                    if self.graph[tensor.node].ty.dtype != DType::Bool {
                        return self.no_truth(located);
                    }
                }
                match self.joined(&[x, y], span) {
                    Some((nodes, axes)) => Value::Tensor(Tensor { node: self.graph.map(scalar, &nodes), axes }),
                    None => Value::Poison,
                }
            }
        }
    }

    /// Arithmetic on compile-time values.
    fn constant_binary(&mut self, op: BinaryOp, a: &Located, b: &Located, span: Span) -> Option<Value> {
        if let (Value::Bool(x), Value::Bool(y)) = (&a.value, &b.value) {
            return match op {
                BinaryOp::And => Some(Value::Bool(*x && *y)),
                BinaryOp::Or => Some(Value::Bool(*x || *y)),
                BinaryOp::Eq => Some(Value::Bool(x == y)),
                BinaryOp::Ne => Some(Value::Bool(x != y)),
                _ => None,
            };
        }
        if let (Value::List(x), Value::List(y), BinaryOp::Add) = (&a.value, &b.value, op) {
            if x.len() + y.len() > 10_000 {
                self.report(
                    Problem::error("E0222", span, "this list has more than 10000 elements").help("a loop makes it far longer than meant"),
                );
                return Some(Value::Poison);
            }
            return Some(Value::List(x.iter().chain(y).cloned().collect()));
        }
        let (x, y) = (a.value.as_float()?, b.value.as_float()?);
        let ints = a.value.as_int().zip(b.value.as_int());
        if op == BinaryOp::Div && y == 0.0 {
            self.report(Problem::error("E0217", span, "this divides by zero").help("the divisor is known at compile time"));
            return Some(Value::Poison);
        }
        let whole = match (op, ints) {
            (BinaryOp::Add, Some((x, y))) => Some(x.checked_add(y)),
            (BinaryOp::Sub, Some((x, y))) => Some(x.checked_sub(y)),
            (BinaryOp::Mul, Some((x, y))) => Some(x.checked_mul(y)),
            (BinaryOp::Div, Some((x, y))) if x.checked_rem(y) == Some(0) => Some(x.checked_div(y)),
            _ => None,
        };
        match whole {
            Some(Some(value)) => return Some(Value::Int(value)),
            Some(None) => {
                self.report(Problem::error("E0217", span, "this number is too large").help("whole numbers reach 9223372036854775807"));
                return Some(Value::Poison);
            }
            None => {}
        }
        Some(match op {
            BinaryOp::Add => Value::Float(x + y),
            BinaryOp::Sub => Value::Float(x - y),
            BinaryOp::Mul => Value::Float(x * y),
            BinaryOp::Div => Value::Float(x / y),
            BinaryOp::Eq => Value::Bool(x == y),
            BinaryOp::Ne => Value::Bool(x != y),
            BinaryOp::Lt => Value::Bool(x < y),
            BinaryOp::Le => Value::Bool(x <= y),
            BinaryOp::Gt => Value::Bool(x > y),
            BinaryOp::Ge => Value::Bool(x >= y),
            BinaryOp::MatMul | BinaryOp::And | BinaryOp::Or => return None,
        })
    }

    pub(super) fn binary_op(&mut self, op: ScalarOp, symbol: &str, a: &Located, b: &Located, span: Span) -> Value {
        if let (Some(x), Some(y)) = (a.value.as_float(), b.value.as_float()) {
            return Value::Float(op.eval(&[x, y]));
        }
        let (Some(x), Some(y)) = (self.tensor(a), self.tensor(b)) else { return Value::Poison };
        let _ = symbol;
        match self.joined(&[x, y], span) {
            Some((nodes, axes)) => Value::Tensor(Tensor { node: self.graph.map(op, &nodes), axes }),
            None => Value::Poison,
        }
    }

    fn matmul(&mut self, a: &Located, b: &Located, span: Span) -> Value {
        let (Some(x), Some(w)) = (self.tensor(a), self.tensor(b)) else { return Value::Poison };
        if self.refuse_bag(&x, a.span) {
            return Value::Poison;
        }
        let (left, right) = (self.graph[x.node].ty.clone(), self.graph[w.node].ty.clone());
        let (here, there) = (describe_type(&self.graph, x.node), describe_type(&self.graph, w.node));
        let inner = match right.dims.as_slice() {
            [k] | [k, _] => *k,
            _ => {
                self.not_yet(span, &format!("a product of {here} and {there}"));
                return Value::Poison;
            }
        };
        if left.dims.last() != Some(&inner) {
            let problem = Problem::error("E0204", span, format!("the inner sizes of {here} @ {there} differ"))
                .and(a.span, format!("this is {here}"))
                .and(b.span, format!("this is {there}"));
            self.report(problem.help("the last axis of the left side is the first of the right side"));
            return Value::Poison;
        }
        if right.dims.len() == 1 {
            let product = self.binary_op(ScalarOp::Mul, "*", a, b, span);
            let Value::Tensor(product) = product else { return Value::Poison };
            let axis = self.graph[product.node].ty.dims.len() - 1;
            let node = self.graph.add(Op::Reduce(Reduce { combine: crate::loops::Combine::Add, axes: vec![axis] }), &[product.node]);
            let axes = product.axes[..axis].to_vec();
            return Value::Tensor(Tensor { node, axes });
        }
        if right.space != Space::Global || left.space != Space::Example {
            let what = if right.space == Space::Global { "a product of two parameters" } else { "a product of two values of an example" };
            self.not_yet(span, what);
            return Value::Poison;
        }
        let node = self.graph.add(Op::MatMul(MatMul { transposed: false }), &[x.node, w.node]);
        let mut axes = x.axes;
        if let (Some(last), Some(own)) = (axes.last_mut(), w.axes.last()) {
            *last = *own;
        }
        Value::Tensor(Tensor { node, axes })
    }

    /// A number as a tensor; anything else is reported.
    pub(super) fn tensor(&mut self, located: &Located) -> Option<Tensor> {
        let tensor = self.tensor_of_any(located)?;
        if self.graph[tensor.node].ty.dtype == DType::Bool {
            let problem = Problem::error("E0201", located.span, "this is a truth value, not a number");
            self.report(problem.help("turn it into a number: `select(c, 1, 0)`"));
            return None;
        }
        Some(tensor)
    }

    /// A tensor of numbers or truth values.
    pub(super) fn tensor_of_any(&mut self, located: &Located) -> Option<Tensor> {
        if let Some(number) = located.value.as_float() {
            let node = self.graph.add(Op::Constant(Constant::new(number)), &[]);
            return Some(Tensor { node, axes: Vec::new() });
        }
        match &located.value {
            Value::Tensor(tensor) => Some(tensor.clone()),
            Value::Poison => None,
            Value::Feature(at) => {
                let name = self.features[*at].name.clone();
                let problem = Problem::error("E0216", located.span, format!("`{name}` is ids, not numbers"));
                self.report(problem.help(format!("look it up in a table: `table t {{ keys: {name}, dim: 16 }}` and `t[{name}]`")));
                None
            }
            other => {
                let text = other.describe(&self.graph);
                self.report(
                    Problem::error("E0201", located.span, "a tensor is needed here")
                        .here(format!("this is {text}"))
                        .help("give a value computed from features or parameters, or a number"),
                );
                None
            }
        }
    }

    /// The position of a named or counted axis.
    pub(super) fn axis_position(&mut self, tensor: &Tensor, axis: &Expr) -> Option<usize> {
        if let ExprKind::Name(name) = &axis.kind {
            let feature = self.features.iter().position(|feature| feature.name == *name);
            if let (true, Some(feature)) = (self.in_model && self.module == 0, feature) {
                let id = self.feature_axis(feature);
                if let Some(at) = tensor.axes.iter().position(|own| *own == id) {
                    return Some(at);
                }
                return self.no_axis(tensor, axis, name);
            }
        }
        let value = self.eval(axis);
        match value {
            Value::Axis(_, id) => match tensor.axes.iter().position(|own| *own == id) {
                Some(at) => Some(at),
                None => {
                    let text = recc_syntax::print_expr(axis);
                    self.no_axis(tensor, axis, &text)
                }
            },
            Value::Int(at) if at >= 0 && (at as usize) < tensor.axes.len() => Some(at as usize),
            Value::Poison => None,
            _ => {
                let text = recc_syntax::print_expr(axis);
                self.no_axis(tensor, axis, &text)
            }
        }
    }

    fn no_axis(&mut self, tensor: &Tensor, axis: &Expr, name: &str) -> Option<usize> {
        let text = describe_type(&self.graph, tensor.node);
        let problem = Problem::error("E0205", axis.span, format!("{text} has no axis `{name}`"));
        self.report(problem.help("axes are named by dimension variables and features, or counted from 0"));
        None
    }

    // ---- calls ----

    fn pipe(&mut self, value: &Expr, into: &Expr, span: Span) -> Value {
        match &into.kind {
            ExprKind::Call { callee, args } => self.call(callee, args, Some(value), span),
            _ => self.call(into, &[], Some(value), span),
        }
    }

    fn call(&mut self, callee: &Expr, args: &[ast::Argument], piped: Option<&Expr>, span: Span) -> Value {
        // The piped value is computed first: parameters are named in the order of the text.
        let first = piped.map(|value| Located { value: self.eval_value(value), span: value.span });
        let target = match &callee.kind {
            ExprKind::Name(name) => self.name(name, callee.span, true),
            _ => self.eval(callee),
        };
        let mut values = Vec::new();
        if let (Some(first), Some(piped)) = (first, piped) {
            values.push((None, first, piped.clone()));
        }
        for argument in args {
            // An axis is a name in the callee's eyes, not a value.
            let axis = argument.name.as_ref().is_some_and(|name| name.text == "axis") && matches!(target, Value::Builtin(_));
            let value = if axis { Value::Nothing } else { self.eval_value(&argument.value) };
            if let Some(name) = &argument.name
                && let Some((Some(first), ..)) = values
                    .iter()
                    .find(|(other, ..): &&(Option<Name>, Located, Expr)| other.as_ref().is_some_and(|other| other.text == name.text))
            {
                let problem =
                    Problem::error("E0218", name.span, format!("`{}` is given twice", name.text)).and(first.span, "given here first");
                self.report(problem.help("keep one of them"));
                continue;
            }
            values.push((argument.name.clone(), Located { value, span: argument.value.span }, argument.value.clone()));
        }
        let args = Args { span, values };
        self.origin();
        match target {
            Value::Block(block) => self.call_block(&block, args, callee.span),
            Value::Builtin(name) => self.call_builtin(name, args),
            Value::Layer(layer) => self.call_layer(&layer, args),
            Value::Poison => Value::Poison,
            other => {
                let text = other.describe(&self.graph);
                self.report(
                    Problem::error("E0213", callee.span, format!("{text} cannot be called")).help("blocks, functions and layers can"),
                );
                Value::Poison
            }
        }
    }

    fn call_layer(&mut self, layer: &Layer, mut args: Args) -> Value {
        let [input] = args.take(self, "layer", ["input"]);
        args.done(self, "layer");
        let scopes = std::mem::take(&mut self.scopes);
        let (module, path) = (self.module, self.path);
        self.module = layer.module;
        self.path = Some(layer.path);
        self.paths.rewind(layer.path);
        let hole = "_".to_owned();
        let mut scope: Vec<Binding> =
            layer.scope.iter().map(|(name, value)| plain_binding(name.clone(), value.clone(), input.span)).collect();
        scope.push(plain_binding(hole, input.value, input.span));
        self.scopes = vec![scope];
        let call = fill_hole(&layer.call);
        let value = self.eval_value(&call);
        self.scopes = scopes;
        self.module = module;
        self.path = path;
        value
    }

    fn call_block(&mut self, target: &BlockRef, args: Args, callee: Span) -> Value {
        let block = target.block.clone();
        let name = &block.name.text;
        let key = format!("{}.{name}", target.module);
        if self.calls.len() >= MAX_CALLS {
            self.report(
                Problem::error("E0222", callee, format!("blocks call blocks more than {MAX_CALLS} deep")).help("join some of them"),
            );
            return Value::Poison;
        }
        if self.calls.contains(&key) {
            let problem = Problem::error("E0106", callee, format!("the block `{name}` calls itself")).and(block.name.span, "declared here");
            self.report(problem.help("blocks are expanded where they are called; use a `for` loop"));
            return Value::Poison;
        }
        if !self.burn(callee) {
            return Value::Poison;
        }
        let Some(arguments) = self.match_arguments(&block, args) else { return Value::Poison };
        let known_problems = self.problems.len();
        let scopes = std::mem::take(&mut self.scopes);
        let (module, path, in_model) = (self.module, self.path, self.in_model);
        self.module = target.module;
        self.in_model = false;
        self.path = path.map(|parent| self.paths.enter(parent, name, Some(callee)));
        self.calls.push(key);
        self.scopes.push(Vec::new());
        self.origin();
        let bound = self.bind_parameters(&block, arguments, callee);
        let mut value = Value::Poison;
        if bound {
            value = self.body(&block.body);
            if let Value::Nothing = value {
                self.report(
                    Problem::error("E0221", block.name.span, format!("the block `{name}` gives no value"))
                        .help("its value is that of its last line"),
                );
                value = Value::Poison;
            }
            let located = Located { value, span: callee };
            value = self.check_result(&block, located);
        }
        self.calls.pop();
        self.in_model = in_model;
        self.scopes = scopes;
        self.module = module;
        self.path = path;
        self.origin();
        if module == 0 && target.module != 0 {
            self.blame_call(known_problems, callee);
        }
        value
    }

    /// A problem inside a library block is the caller's: it is shown at the call.
    fn blame_call(&mut self, known: usize, callee: Span) {
        for problem in self.problems.iter_mut().skip(known) {
            if problem.labels.first().is_some_and(|label| label.span.file != callee.file) {
                problem.labels.insert(0, crate::problem::Label { span: callee, text: "in this call".to_owned() });
            }
        }
    }

    /// The argument of each parameter, `None` where the default holds.
    fn match_arguments(&mut self, block: &ast::Block, args: Args) -> Option<Vec<Option<Located>>> {
        let mut slots: Vec<Option<Located>> = vec![None; block.parameters.len()];
        let mut sound = true;
        let name = &block.name.text;
        for (given, value, _) in args.values {
            let slot = match &given {
                Some(given) => block.parameters.iter().position(|parameter| parameter.name.text == given.text),
                None => slots.iter().position(Option::is_none),
            };
            match slot {
                Some(slot) if slots[slot].is_none() => slots[slot] = Some(value),
                Some(_) => {
                    let text = given.as_ref().map_or("it", |given| given.text.as_str());
                    self.report(
                        Problem::error("E0218", value.span, format!("`{name}` is given `{text}` twice"))
                            .help("an argument without a name took its place; name the others"),
                    );
                    sound = false;
                }
                None => {
                    sound = false;
                    let known: Vec<&str> = block.parameters.iter().map(|parameter| parameter.name.text.as_str()).collect();
                    let problem = match &given {
                        Some(given) => Problem::error("E0210", given.span, format!("`{name}` has no argument `{}`", given.text))
                            .help(suggest(&given.text, known)),
                        None => Problem::error("E0209", value.span, format!("`{name}` takes {} arguments", known.len()))
                            .here("one too many")
                            .help(format!("they are {}", known.join(", "))),
                    };
                    self.report(problem.and(block.name.span, "the block"));
                }
            }
        }
        for (parameter, slot) in block.parameters.iter().zip(&slots) {
            if slot.is_none() && parameter.default.is_none() && sound {
                let problem = Problem::error("E0211", args.span, format!("`{name}` misses its argument `{}`", parameter.name.text))
                    .and(parameter.name.span, "needed here");
                self.report(problem.help(format!("give it: `{}: …`", parameter.name.text)));
                sound = false;
            }
        }
        sound.then_some(slots)
    }

    fn bind_parameters(&mut self, block: &ast::Block, arguments: Vec<Option<Located>>, callee: Span) -> bool {
        let mut sound = true;
        for (parameter, argument) in block.parameters.iter().zip(arguments) {
            let located = match (argument, &parameter.default) {
                (Some(located), _) => located,
                (None, Some(default)) => Located { value: self.eval(default), span: callee },
                (None, None) => continue,
            };
            let value =
                self.fit(&parameter.ty, located, &format!("`{}` of `{}`", parameter.name.text, block.name.text), parameter.name.span);
            sound &= !matches!(value, Value::Poison);
            self.bind(&parameter.name, value, false, false);
        }
        sound
    }

    fn check_result(&mut self, block: &ast::Block, located: Located) -> Value {
        if matches!(located.value, Value::Poison) {
            return Value::Poison;
        }
        self.fit(&block.result, located, &format!("the result of `{}`", block.name.text), block.result.span)
    }

    /// A value as a declared type has it: dimension variables are bound, axes named.
    fn fit(&mut self, ty: &ast::Type, located: Located, what: &str, declared: Span) -> Value {
        if matches!(located.value, Value::Poison) {
            return Value::Poison;
        }
        match &ty.kind {
            ast::TypeKind::List { element, len } => self.fit_list(element, len, located, what, declared),
            ast::TypeKind::Named { name, dims } => match name.text.as_str() {
                "f32" => self.fit_tensor(dims, located, what, declared),
                other => self.fit_constant(other, name, located, what, declared),
            },
        }
    }

    fn mismatch(&mut self, wanted: &str, located: &Located, what: &str, declared: Span) -> Value {
        let text = located.value.describe(&self.graph);
        let problem = Problem::error("E0201", located.span, format!("{what} is {wanted}"))
            .here(format!("this is {text}"))
            .and(declared, "declared here");
        self.report(problem.help(format!("give {wanted}")));
        Value::Poison
    }

    fn fit_constant(&mut self, ty: &str, name: &Name, located: Located, what: &str, declared: Span) -> Value {
        let fits = match ty {
            "int" => {
                return located.value.as_int().map(Value::Int).unwrap_or_else(|| self.mismatch("a whole number", &located, what, declared));
            }
            "float" => {
                return located.value.as_float().map(Value::Float).unwrap_or_else(|| self.mismatch("a number", &located, what, declared));
            }
            "bool" => matches!(located.value, Value::Bool(_)),
            "block" => located.value.is_callable(),
            "init" => {
                if let Some(number) = located.value.as_float() {
                    return Value::Init(super::value::Initializer::Fixed(recc_abi::Init::Constant(number)));
                }
                matches!(located.value, Value::Init(_))
            }
            "id" | "time" => {
                self.not_yet(name.span, &format!("parameters of type `{ty}`"));
                return Value::Poison;
            }
            other => {
                self.report(
                    Problem::error("E0101", name.span, format!("there is no type `{other}`"))
                        .help(suggest(other, ["f32", "int", "float", "bool", "block", "init"])),
                );
                return Value::Poison;
            }
        };
        let wanted = match ty {
            "bool" => "`true` or `false`",
            "block" => "a block",
            _ => "an initializer",
        };
        if fits { located.value } else { self.mismatch(wanted, &located, what, declared) }
    }

    fn fit_list(&mut self, element: &ast::Type, len: &Expr, located: Located, what: &str, declared: Span) -> Value {
        let Value::List(items) = &located.value else { return self.mismatch("a list", &located, what, declared) };
        let count = items.len() as i64;
        if let ExprKind::Name(name) = &len.kind
            && !self.scopes.iter().flatten().any(|binding| binding.name == *name)
        {
            self.bind(&Name { text: name.clone(), span: len.span }, Value::Int(count), false, false);
        } else if let Some(wanted) = self.eval(len).as_int()
            && wanted != count
        {
            return self.mismatch(&format!("a list of {wanted}"), &located, what, declared);
        }
        let fitted: Vec<Value> = items
            .clone()
            .into_iter()
            .map(|value| self.fit(element, Located { value, span: located.span }, &format!("an element of {what}"), declared))
            .collect();
        if fitted.iter().any(|value| matches!(value, Value::Poison)) { Value::Poison } else { Value::List(fitted) }
    }

    fn fit_tensor(&mut self, dims: &[ast::Dim], located: Located, what: &str, declared: Span) -> Value {
        let Some(mut tensor) = self.tensor(&located) else { return Value::Poison };
        let own = self.graph[tensor.node].ty.dims.clone();
        if dims.is_empty() && own == [Dim::Fixed(1)] {
            let node = self.graph.add(Op::Reshape(Reshape { dims: vec![] }), &[tensor.node]);
            return Value::Tensor(Tensor { node, axes: Vec::new() });
        }
        let rest = dims.iter().position(|dim| matches!(dim, ast::Dim::Rest(_)));
        let named = dims.len() - usize::from(rest.is_some());
        let fits = if rest.is_some() { own.len() >= named } else { own.len() == named };
        if !fits || rest.is_some_and(|at| at != 0) {
            let axes = if named == 1 { "one axis".to_owned() } else { format!("{named} axes") };
            let wanted = if rest.is_some() {
                format!("a tensor of at least {axes}")
            } else if named == 0 {
                "one number".to_owned()
            } else {
                format!("a tensor of {axes}")
            };
            return self.mismatch(&wanted, &located, what, declared);
        }
        let shift = own.len() - named;
        for (at, dim) in dims.iter().filter(|dim| !matches!(dim, ast::Dim::Rest(_))).enumerate() {
            if !self.fit_axis(dim, &mut tensor, at + shift, &located, what, declared) {
                return Value::Poison;
            }
        }
        Value::Tensor(tensor)
    }

    fn fit_axis(&mut self, dim: &ast::Dim, tensor: &mut Tensor, at: usize, located: &Located, what: &str, declared: Span) -> bool {
        let own = self.graph[tensor.node].ty.dims[at];
        let (name, span) = match dim {
            ast::Dim::Rest(_) => return true,
            ast::Dim::Bag(name) => (name.text.clone(), name.span),
            ast::Dim::Sequence(name) => {
                self.not_yet(name.span, "sequences");
                return false;
            }
            ast::Dim::Size(expr) => match &expr.kind {
                ExprKind::Name(name) if self.unbound(name) => (name.clone(), expr.span),
                _ => return self.fit_size(expr, tensor, at, located, what, declared),
            },
        };
        match (dim, own) {
            (ast::Dim::Size(_), Dim::Bag(_)) => {
                self.refuse_bag(&tensor.clone(), located.span);
                false
            }
            (_, Dim::Fixed(size)) => {
                self.bind(&Name { text: name, span }, Value::Axis(size, tensor.axes[at]), false, false);
                true
            }
            (_, Dim::Bag(_)) => {
                self.bind(&Name { text: name, span }, Value::Axis(0, tensor.axes[at]), false, false);
                true
            }
        }
    }

    fn unbound(&self, name: &str) -> bool {
        !self.scopes.iter().flatten().any(|binding| binding.name == name) && !self.modules[self.module].names.contains_key(name)
    }

    /// An axis whose size is known already.
    fn fit_size(&mut self, expr: &Expr, tensor: &mut Tensor, at: usize, located: &Located, what: &str, declared: Span) -> bool {
        let value = self.eval(expr);
        let Some(wanted) = value.as_int() else {
            if !matches!(value, Value::Poison) {
                let text = value.describe(&self.graph);
                self.report(
                    Problem::error("E0214", expr.span, "a size is a whole number")
                        .here(format!("this is {text}"))
                        .help("write a number or a dimension variable"),
                );
            }
            return false;
        };
        let own = self.graph[tensor.node].ty.dims[at];
        if own != Dim::Fixed(wanted as u64) {
            let text = describe_type(&self.graph, tensor.node);
            let size = recc_syntax::print_expr(expr);
            let problem = Problem::error("E0206", located.span, format!("axis {at} of {what} is `{size}`, which is {wanted} here"))
                .here(format!("this is {text}"))
                .and(declared, "declared here");
            self.report(problem.help("sizes of one name are equal"));
            return false;
        }
        if let Value::Axis(_, id) = value {
            tensor.axes[at] = id;
        }
        true
    }
}

fn plain_binding(name: String, value: Value, span: Span) -> Binding {
    Binding { name, value, span, mutable: false, used: true, watched: false }
}

/// The binding a statement of a model makes, which names its parameters.
fn statement_name(statement: &Statement) -> Option<&str> {
    match &statement.kind {
        StatementKind::Let(name, _) | StatementKind::Var(name, _) | StatementKind::Assign(name, _) | StatementKind::Predict(name, _) => {
            Some(&name.text)
        }
        StatementKind::Param(name, ..) | StatementKind::State(name, ..) | StatementKind::Expose(name, Some(_)) => Some(&name.text),
        StatementKind::Update(..)
        | StatementKind::Layer(..)
        | StatementKind::Expose(_, None)
        | StatementKind::Table(_)
        | StatementKind::For(..)
        | StatementKind::Expr(_) => None,
    }
}

/// `@name("…")`
fn pinned_name(statement: &Statement) -> Option<&str> {
    statement.attributes.iter().find(|attribute| attribute.name.text == "name").map(|attribute| attribute.value.as_str())
}

fn has_hole(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Hole => true,
        ExprKind::Call { args, .. } => args.iter().any(|argument| has_hole(&argument.value)),
        ExprKind::Pipe { value, into } => has_hole(value) || has_hole(into),
        ExprKind::Binary(_, a, b) => has_hole(a) || has_hole(b),
        ExprKind::Unary(_, value) => has_hole(value),
        ExprKind::Index { base, indices } => has_hole(base) || indices.iter().any(has_hole),
        ExprKind::List(items) => items.iter().any(has_hole),
        _ => false,
    }
}

/// The layer's call with the hole as a name that its scope binds.
fn fill_hole(expr: &Expr) -> Expr {
    let kind = match &expr.kind {
        ExprKind::Hole => ExprKind::Name("_".to_owned()),
        ExprKind::Call { callee, args } => ExprKind::Call {
            callee: callee.clone(),
            args: args.iter().map(|argument| ast::Argument { name: argument.name.clone(), value: fill_hole(&argument.value) }).collect(),
        },
        ExprKind::Pipe { value, into } => ExprKind::Pipe { value: Box::new(fill_hole(value)), into: Box::new(fill_hole(into)) },
        ExprKind::Binary(op, a, b) => ExprKind::Binary(*op, Box::new(fill_hole(a)), Box::new(fill_hole(b))),
        ExprKind::Unary(op, value) => ExprKind::Unary(*op, Box::new(fill_hole(value))),
        ExprKind::Index { base, indices } => {
            ExprKind::Index { base: Box::new(fill_hole(base)), indices: indices.iter().map(fill_hole).collect() }
        }
        ExprKind::List(items) => ExprKind::List(items.iter().map(fill_hole).collect()),
        other => other.clone(),
    };
    Expr { kind, span: expr.span }
}
