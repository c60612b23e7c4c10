//! Expressions: evaluated at compile time, which builds the graph.

use super::Checker;
use super::calls::Args;
use super::feature::Kind;
use super::value::{AxisId, Located, Tensor, Value, describe_type};
use super::words;
use crate::graph::DType;
use crate::ops::{Constant, Input, InputKind, Op, Reduce};
use crate::problem::Problem;
use crate::scalar::ScalarOp;
use recc_syntax::ast::{BinaryOp, Body, Expr, ExprKind, Name, Span, UnaryOp};

impl Checker<'_> {
    pub(super) fn fresh_axis(&mut self) -> AxisId {
        self.axes += 1;
        AxisId(self.axes)
    }

    pub(super) fn feature_axis(&mut self, feature: usize) -> AxisId {
        if let Some(axis) = self.feature_axes.get(&feature) {
            return *axis;
        }
        // What is aligned with a sequence has its axis.
        let own = self.features[feature].columns.first().map(|&column| (column, self.entries_of(column)));
        if let Some((column, of)) = own
            && column != of
            && let Some(other) = self.features.iter().position(|feature| feature.columns.first() == Some(&of))
        {
            return self.feature_axis(other);
        }
        let axis = self.fresh_axis();
        self.feature_axes.insert(feature, axis);
        axis
    }

    pub(super) fn burn(&mut self, span: Span) -> bool {
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

    pub(super) fn origin(&mut self) {
        if let Some(path) = self.path {
            let text = self.paths.early_text(path);
            self.graph.set_origin(&text);
        }
    }

    /// A value that is bound to a name.
    pub(super) fn eval_value(&mut self, expr: &Expr) -> Value {
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
            ExprKind::Hole => self.hole(expr.span),
            ExprKind::List(items) => Value::List(items.iter().map(|item| self.eval_value(item)).collect()),
            ExprKind::Comprehension { body, var, over } => self.comprehension(body, var, over),
            ExprKind::Call { callee, args } => self.call(callee, args, None, expr.span),
            ExprKind::Pipe { value, into } => self.pipe(value, into, expr.span),
            ExprKind::Index { base, indices } => self.index(base, indices, expr.span),
            ExprKind::Field { base, name } => match self.imported(base) {
                Some(Value::Module(file)) => self.of_file(file, name),
                Some(_) => Value::Poison,
                None if self.is_no_model(base) => self.nothing_behind(base, name),
                None => self.exposed(expr).unwrap_or(Value::Poison),
            },
            ExprKind::Unary(op, value) => self.unary_op(*op, value),
            ExprKind::Binary(op, left, right) => self.binary(*op, left, right, expr.span),
            ExprKind::Range { start, end, inclusive } => self.range(start, end, *inclusive, expr.span),
            ExprKind::If { condition, then, otherwise } => self.branch(condition, then, otherwise.as_ref()),
        }
    }

    /// The file of blocks that a name stands for, or a mistake in its place.
    fn imported(&self, base: &Expr) -> Option<Value> {
        let ExprKind::Name(name) = &base.kind else { return None };
        let known = &self.modules[self.module].names.get(name)?.value;
        matches!(known, Value::Module(_) | Value::Poison).then(|| known.clone())
    }

    /// Whether a name before a dot is no model's.
    fn is_no_model(&self, base: &Expr) -> bool {
        let ExprKind::Name(name) = &base.kind else { return !matches!(base.kind, ExprKind::Field { .. }) };
        !self.models.contains(name) && !self.exposes.iter().any(|own| own.model == *name)
    }

    /// What stands before a dot and is neither a file nor a model: it is unknown, or has nothing to name.
    fn nothing_behind(&mut self, base: &Expr, name: &Name) -> Value {
        let value = self.eval(base);
        if !matches!(value, Value::Poison) {
            let (own, what) = (recc_syntax::print_expr(base), value.describe(&self.graph));
            let problem = Problem::error("E0816", name.span, format!("`{own}` has no `{}`", name.text)).and(base.span, what);
            let help = match value {
                Value::Feature(_) => format!(
                    "a dot names what is in a file or exposed by a model; one of a group is taken by its place, behind the look-up: `emb[{own}][0]`"
                ),
                _ if super::builtins::find(&name.text).is_some() || self.module_with(&name.text).is_some() => {
                    format!("a function stands before what it is given: `{}(…)`, or behind `|>`", name.text)
                }
                _ => match words::function(&name.text) {
                    Some(meant) => format!("a function stands before what it is given; {meant}"),
                    None => format!("a dot names what is in a file or exposed by a model; leave `.{}` out", name.text),
                },
            };
            self.report(problem.help(help));
        }
        Value::Poison
    }

    /// The module of the library that has a block of this name.
    pub(super) fn module_with(&self, name: &str) -> Option<String> {
        self.modules.iter().skip(1).find(|module| module.names.contains_key(name)).map(|module| module.name.clone())
    }

    /// A block or a constant of a file.
    fn of_file(&mut self, file: usize, name: &Name) -> Value {
        if let Some(known) = self.modules[file].names.get(&name.text) {
            return known.value.clone();
        }
        let known: Vec<String> = self.modules[file].names.keys().cloned().collect();
        let help = crate::problem::suggest(&name.text, known.iter().map(String::as_str));
        let problem = Problem::error("E0103", name.span, format!("{:?} has no block `{}`", self.modules[file].name, name.text));
        self.report(problem.help(help));
        Value::Poison
    }

    /// The input of the layer that is being called.
    fn hole(&mut self, span: Span) -> Value {
        if let Some(input) = self.scopes.iter().flatten().find(|binding| binding.name == "_") {
            return input.value.clone();
        }
        self.report(Problem::error("E0213", span, "`_` stands for the input of a `layer`").help("such as `layer tower = mlp(_, [64])`"));
        Value::Poison
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

    fn range(&mut self, start: &Expr, end: &Expr, inclusive: bool, span: Span) -> Value {
        let (first, last) = (self.eval(start), self.eval(end));
        match (first.as_int(), last.as_int()) {
            (Some(first), Some(last)) => {
                let end = last.saturating_add(i64::from(inclusive));
                // `1..layers` of no layers is a range of none.
                if end >= first.saturating_sub(1) {
                    return Value::Range(first, end.max(first));
                }
                let problem = Problem::error("E0212", span, format!("a range from {first} to {last} runs backwards"));
                self.report(problem.help("write the smaller number first"));
                Value::Poison
            }
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
    pub(super) fn name(&mut self, name: &str, span: Span, called: bool) -> Value {
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
        if let Some(known) = self.modules[self.module].names.get(name) {
            return known.value.clone();
        }
        if let Some(value) = super::builtins::find(name) {
            return value;
        }
        if let (Some(word), false) = (super::builtins::word(name), called) {
            return Value::Text(word.to_owned());
        }
        let mut known: Vec<String> = self.scopes.iter().flatten().map(|binding| binding.name.clone()).collect();
        known.extend(self.modules[self.module].names.keys().cloned());
        known.extend(super::builtins::names().map(str::to_owned));
        if self.in_model && self.module == 0 {
            known.extend(self.features.iter().map(|feature| feature.name.clone()));
            known.extend(self.tables.iter().map(|table| table.name.clone()));
        }
        let near = crate::problem::nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
        let library = self.module_with(name);
        let help = match (self.parameter_instead(name), library, self.member(name), words::function(name), near) {
            (Some(help), ..) => help,
            (None, Some(module), ..) => format!("the library has it: `use {module}.{name}`"),
            (None, None, Some((group, at)), ..) => member_help(&group, at),
            (None, None, None, Some(meant), _) => meant.to_owned(),
            (None, None, None, None, Some(near)) => format!("did you mean `{near}`?"),
            (None, None, None, None, None) => "bind it with `let`, or declare it above".to_owned(),
        };
        self.report(Problem::error("E0101", span, format!("there is no `{name}` here")).help(help));
        Value::Poison
    }

    /// The help for a feature or a table that a block names: it sees its parameters only.
    fn parameter_instead(&self, name: &str) -> Option<String> {
        if self.calls.is_empty() || self.in_model {
            return None;
        }
        let feature = self.features.iter().find(|feature| feature.name == name);
        let ty = match feature.map(|feature| (&feature.kind, feature.group)) {
            Some((Kind::Id | Kind::Ids { .. }, _)) => "id",
            Some((Kind::Number, true)) => "f32[F]",
            Some((Kind::Number, false)) => "f32",
            Some((Kind::Time, _)) => "time",
            Some((Kind::Steps { times: true }, _)) => "time[~L]",
            Some((Kind::Steps { times: false }, _)) => "f32[~L]",
            Some((Kind::Label { .. } | Kind::Key, _)) => return None,
            None => self.table_named(name).map(|_| "table")?,
        };
        Some(format!("a block sees its parameters only: declare `{name}: {ty}` among them, and pass it"))
    }

    /// The group that has a feature of this name, and its place there.
    pub(super) fn member(&self, name: &str) -> Option<(String, usize)> {
        self.features.iter().filter(|feature| feature.group).find_map(|feature| {
            let at = feature.columns.iter().position(|column| self.columns[*column as usize].name == name)?;
            Some((feature.name.clone(), at))
        })
    }

    /// A feature or a table.
    fn model_name(&mut self, name: &str, span: Span, called: bool) -> Option<Value> {
        // A feature may have the name of a function.
        if called && (super::builtins::find(name).is_some() || self.modules[0].names.contains_key(name)) {
            return None;
        }
        if let Some(at) = self.table_named(name) {
            return Some(Value::Table(at));
        }
        let at = self.features.iter().position(|feature| feature.name == name)?;
        let feature = self.features[at].clone();
        if !feature.sound {
            self.features[at].used = true;
            return Some(Value::Poison);
        }
        Some(match feature.kind {
            Kind::Number | Kind::Steps { .. } => self.number_feature(at),
            Kind::Time => self.time_input(at),
            Kind::Id | Kind::Ids { .. } => Value::Feature(at),
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
    pub(super) fn number_feature(&mut self, at: usize) -> Value {
        self.features[at].used = true;
        let feature = self.features[at].clone();
        let input = |kind| Op::Input(Input { name: feature.name.clone(), kind, columns: feature.columns.clone(), group: feature.group });
        let origin = self.graph.origin().to_owned();
        self.graph.set_origin(&format!("features.{}", feature.name));
        let mut value = Value::Tensor(match feature.kind {
            Kind::Steps { .. } => self.steps_input(at),
            _ => {
                let node = self.graph.add(input(InputKind::Numbers), &[]);
                let axes = if feature.group { vec![self.feature_axis(at)] } else { Vec::new() };
                Tensor { node, axes }
            }
        });
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
        value
    }

    fn step_args(&mut self, first: Located, step: &super::feature::Step) -> Args {
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
        let centered = self.binary_op(ScalarOp::Sub, &x, &mean, x.span);
        self.binary_op(ScalarOp::Div, &Located { value: centered, span: x.span }, &deviation, x.span)
    }

    fn index(&mut self, base: &Expr, indices: &[Expr], span: Span) -> Value {
        match (self.eval(base), indices) {
            (Value::Table(table), [index]) => {
                self.origin();
                self.look_up(table, index)
            }
            (Value::List(items), [index]) => {
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
            (value @ Value::Tensor(_), indices) => {
                let indices = indices.iter().map(|index| Located { value: self.eval(index), span: index.span });
                let indices: Vec<Located> = indices.collect();
                // From the last on, so that the axes before keep their places.
                indices.iter().enumerate().rev().fold(value, |value, (axis, index)| match value {
                    Value::Tensor(tensor) => self.index_tensor(&tensor, index, axis),
                    wrong => wrong,
                })
            }
            (Value::Poison, _) => Value::Poison,
            (value @ (Value::Table(_) | Value::List(_)), _) => {
                let text = value.describe(&self.graph);
                let problem = Problem::error("E0208", span, format!("{text} takes one index"));
                self.report(problem.help("indices behind one another go on with what the first one gives: `x[0][1]`"));
                Value::Poison
            }
            (other, _) => {
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
        if op == BinaryOp::Div && b.value.as_float() == Some(0.0) {
            self.report(Problem::error("E0217", span, "this divides by zero").help("the divisor is known at compile time"));
            return Value::Poison;
        }
        self.origin();
        match op {
            BinaryOp::Add => self.binary_op(ScalarOp::Add, &a, &b, span),
            BinaryOp::Sub => self.elapsed(&a, &b, span).unwrap_or_else(|| self.binary_op(ScalarOp::Sub, &a, &b, span)),
            BinaryOp::Mul => self.binary_op(ScalarOp::Mul, &a, &b, span),
            BinaryOp::Div => self.binary_op(ScalarOp::Div, &a, &b, span),
            BinaryOp::MatMul => self.matmul(&a, &b, span),
            BinaryOp::Lt => self.binary_op(ScalarOp::Lt, &a, &b, span),
            BinaryOp::Le => self.binary_op(ScalarOp::Le, &a, &b, span),
            BinaryOp::Gt => self.binary_op(ScalarOp::Lt, &b, &a, span),
            BinaryOp::Ge => self.binary_op(ScalarOp::Le, &b, &a, span),
            BinaryOp::Eq => self.binary_op(ScalarOp::Eq, &a, &b, span),
            BinaryOp::Ne => match self.binary_op(ScalarOp::Eq, &a, &b, span) {
                Value::Tensor(tensor) => Value::Tensor(Tensor { node: self.graph.map(ScalarOp::Not, &[tensor.node]), axes: tensor.axes }),
                other => other,
            },
            BinaryOp::In => {
                let problem = Problem::error("E0802", span, "`in` belongs to conditions on a row");
                self.report(
                    problem.help("such as `cohort north = country in [\"SE\", \"NO\"]`; in a model compare numbers, or look ids up"),
                );
                Value::Poison
            }
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
        let texts = matches!(a.value, Value::Text(_)) || matches!(b.value, Value::Text(_));
        if texts && matches!(op, BinaryOp::Eq | BinaryOp::Ne) {
            let same = matches!((&a.value, &b.value), (Value::Text(x), Value::Text(y)) if x == y);
            return Some(Value::Bool(same == (op == BinaryOp::Eq)));
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
            BinaryOp::MatMul | BinaryOp::And | BinaryOp::Or | BinaryOp::In => return None,
        })
    }

    pub(super) fn binary_op(&mut self, op: ScalarOp, a: &Located, b: &Located, span: Span) -> Value {
        if let (Some(x), Some(y)) = (a.value.as_float(), b.value.as_float()) {
            return Value::Float(op.eval(&[x, y]));
        }
        let (Some(x), Some(y)) = (self.tensor(a), self.tensor(b)) else { return Value::Poison };
        match self.joined(&[x, y], span) {
            Some((nodes, axes)) => Value::Tensor(Tensor { node: self.graph.map(op, &nodes), axes }),
            None => Value::Poison,
        }
    }

    fn matmul(&mut self, a: &Located, b: &Located, span: Span) -> Value {
        let (Some(x), Some(w)) = (self.tensor(a), self.tensor(b)) else { return Value::Poison };
        let (left, right) = (self.graph[x.node].ty.clone(), self.graph[w.node].ty.clone());
        let (here, there) = (describe_type(&self.graph, x.node), describe_type(&self.graph, w.node));
        let inner = match right.dims.as_slice() {
            [k] | [k, _] => *k,
            _ => {
                let problem = Problem::error("E0204", b.span, format!("the right side of `@` is a vector or a matrix, not {there}"));
                self.report(problem.help("name the axes that are summed: `einsum(\"f i, f i o -> f o\", x, w)`"));
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
            let product = self.binary_op(ScalarOp::Mul, a, b, span);
            let Value::Tensor(product) = product else { return Value::Poison };
            let axis = self.graph[product.node].ty.dims.len() - 1;
            let node = self.graph.add(Op::Reduce(Reduce { combine: crate::loops::Combine::Add, axes: vec![axis] }), &[product.node]);
            let axes = product.axes[..axis].to_vec();
            return Value::Tensor(Tensor { node, axes });
        }
        self.matrix_product(&x, &w, span)
    }

    /// A number as a tensor; anything else is reported.
    pub(super) fn tensor(&mut self, located: &Located) -> Option<Tensor> {
        let tensor = self.tensor_of_any(located)?;
        if self.graph[tensor.node].ty.dtype == DType::Bool {
            let problem = Problem::error("E0201", located.span, "this is a truth value, not a number");
            self.report(problem.help("turn it into a number: `select(c, 1, 0)`"));
            return None;
        }
        if self.graph[tensor.node].ty.dtype == DType::I32 {
            self.no_number(located);
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
            Value::Feature(at) => {
                let id = self.feature_axis(at);
                let found = tensor.axes.iter().position(|own| *own == id);
                let text = recc_syntax::print_expr(axis);
                found.or_else(|| self.no_axis(tensor, axis, &text))
            }
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
        let features = (0..self.features.len()).filter(|at| !matches!(self.features[*at].kind, Kind::Label { .. } | Kind::Key));
        let named: Vec<(AxisId, String)> =
            features.collect::<Vec<_>>().into_iter().map(|at| (self.feature_axis(at), self.features[at].name.clone())).collect();
        let of = |(at, axis): (usize, &AxisId)| match named.iter().find(|(own, _)| own == axis) {
            Some((_, name)) => format!("`{name}`"),
            None => at.to_string(),
        };
        let own: Vec<String> = tensor.axes.iter().enumerate().map(of).collect();
        let help = match own.as_slice() {
            [] => "it is a single number and has no axes".to_owned(),
            own => format!("its axes are {}: named by features and dimension variables, or counted from 0", own.join(", ")),
        };
        self.report(problem.help(help));
        None
    }
}

/// How a feature of a group is looked up.
pub(super) fn member_help(group: &str, at: usize) -> String {
    format!("it is in the group `{group}`, which is looked up as one: of `emb[{group}]` it is `emb[{group}][{at}]`")
}
