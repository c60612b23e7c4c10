//! The functions that are not blocks: elementwise ones, reductions, and those that change shapes.

use super::Checker;
use super::calls::Args;
use super::value::{AxisId, Initializer, Located, Tensor, Value, describe_type};
use crate::graph::{DType, Dim, Graph, NodeId, Space};
use crate::loops::Combine;
use crate::ops::{BatchSum, Broadcast, Concat, Constant, Length, Op, Random, Reduce, Reshape, Slice, Take, Uniform, UniformKind};
use crate::problem::Problem;
use crate::scalar::ScalarOp;
use recc_abi::Init;
use recc_syntax::ast::{Expr, Name, Span};
use std::collections::BTreeMap;

/// Functions of one value, elementwise, that are one instruction.
const UNARY: &[(&str, ScalarOp)] = &[
    ("abs", ScalarOp::Abs),
    ("exp", ScalarOp::Exp),
    ("log", ScalarOp::Log),
    ("log1p", ScalarOp::Log1p),
    ("sqrt", ScalarOp::Sqrt),
    ("sigmoid", ScalarOp::Sigmoid),
    ("tanh", ScalarOp::Tanh),
    ("softplus", ScalarOp::Softplus),
    ("sin", ScalarOp::Sin),
    ("cos", ScalarOp::Cos),
];

/// Elementwise functions of several instructions or values.
const OTHER_ELEMENTWISE: &[&str] = &["square", "relu", "silu", "max", "min", "atan2"];

/// Most numbers a value may have for each example.
pub(super) const MOST_ELEMENTS: u64 = 1 << 24;
/// Most axes.
const MOST_AXES: usize = 8;

/// Everything else that is called.
const SHAPED: &[&str] = &[
    "identity",
    "require",
    "select",
    "sum",
    "mean",
    "concat",
    "stack",
    "flatten",
    "in_training",
    "random",
    "batch_random",
    "batch_mean",
    "normal",
    "uniform",
    "constant",
    "dot",
    "einsum",
    "lower_triangle",
    "reshape",
    "softmax",
    "hold",
    "floor",
    "position",
    "shift",
    "differences",
    "pick",
    "last",
    "longest",
];

/// Initializers without arguments.
const INITIALIZERS: &[(&str, Initializer)] = &[
    ("zeros", Initializer::Fixed(Init::Constant(0.0))),
    ("ones", Initializer::Fixed(Init::Constant(1.0))),
    ("xavier", Initializer::Xavier),
    ("xavier_uniform", Initializer::XavierUniform),
    ("he", Initializer::He),
];

/// Words that stand for a choice, as arguments of blocks.
const WORDS: [&str; 2] = ["learned", "none"];

/// The word of a name.
pub(super) fn word(name: &str) -> Option<&'static str> {
    WORDS.into_iter().find(|word| *word == name)
}

/// Whether a name is an elementwise function.
pub(super) fn is_elementwise(name: &str) -> bool {
    elementwise_names().any(|known| known == name)
}

pub(super) fn elementwise_names() -> impl Iterator<Item = &'static str> + Clone {
    UNARY.iter().map(|(name, _)| *name).chain(OTHER_ELEMENTWISE.iter().copied())
}

/// All names every file knows.
pub(super) fn names() -> impl Iterator<Item = &'static str> + Clone {
    elementwise_names().chain(SHAPED.iter().copied()).chain(INITIALIZERS.iter().map(|(name, _)| *name))
}

/// What a name means in every file.
pub(super) fn find(name: &str) -> Option<Value> {
    if let Some((_, init)) = INITIALIZERS.iter().find(|(known, _)| *known == name) {
        return Some(Value::Init(*init));
    }
    elementwise_names().chain(SHAPED.iter().copied()).find(|known| *known == name).map(Value::Builtin)
}

impl Checker<'_> {
    pub(super) fn call_builtin(&mut self, name: &'static str, mut args: Args) -> Value {
        let span = args.span;
        if let Some((_, op)) = UNARY.iter().find(|(known, _)| *known == name) {
            let [x] = args.take(self, name, ["x"]);
            args.done(self, name);
            return self.unary(*op, &x);
        }
        match name {
            "square" => {
                let [x] = args.take(self, name, ["x"]);
                args.done(self, name);
                self.binary_op(ScalarOp::Mul, &x, &x, span)
            }
            "relu" => {
                let [x] = args.take(self, name, ["x"]);
                args.done(self, name);
                let zero = Located { value: Value::Float(0.0), span };
                self.binary_op(ScalarOp::Max, &x, &zero, span)
            }
            "silu" => {
                let [x] = args.take(self, name, ["x"]);
                args.done(self, name);
                let gate = Located { value: self.unary(ScalarOp::Sigmoid, &x), span };
                self.binary_op(ScalarOp::Mul, &x, &gate, span)
            }
            "identity" => {
                let [x] = args.take(self, name, ["x"]);
                args.done(self, name);
                x.value
            }
            "require" => self.require(args),
            "max" | "min" => self.extreme(name, args),
            "atan2" => {
                let [y, x] = args.take(self, name, ["y", "x"]);
                args.done(self, name);
                self.binary_op(ScalarOp::Atan2, &y, &x, span)
            }
            "sum" | "mean" => self.total(name, args),
            "select" => self.select(args),
            "concat" | "stack" => self.join_values(name, args),
            "flatten" => {
                let [x] = args.take(self, name, ["x"]);
                args.done(self, name);
                self.flatten(&x)
            }
            "dot" => {
                let [a, b] = args.take(self, name, ["a", "b"]);
                args.done(self, name);
                let product = self.binary_op(ScalarOp::Mul, &a, &b, span);
                self.reduce_all(&Located { value: product, span }, Combine::Add)
            }
            "einsum" => self.einsum(args),
            "reshape" => self.reshape(args),
            "softmax" => self.softmax(args),
            "hold" => self.hold(args),
            "floor" => self.floor(args),
            "position" => self.position(args),
            "shift" => self.shift(args),
            "differences" => self.differences(args),
            "pick" => self.pick(args),
            "last" => self.last(args),
            "longest" => self.longest(args),
            "lower_triangle" => {
                let [x] = args.take(self, name, ["x"]);
                args.done(self, name);
                self.lower_triangle(&x)
            }
            "in_training" => {
                let [then, otherwise] = args.take(self, name, ["training", "scoring"]);
                args.done(self, name);
                if self.training { then.value } else { otherwise.value }
            }
            "random" => self.random(args),
            "batch_random" => self.batch_random(args),
            "batch_mean" => self.batch_mean(args),
            _ => self.initializer_call(name, args),
        }
    }

    /// A condition on compile-time values that a block sets its caller.
    fn require(&mut self, mut args: Args) -> Value {
        let of = |(name, ..): &&(Option<Name>, Located, Expr)| name.as_ref().is_none_or(|name| name.text == "condition");
        let written = args.values.iter().find(of).map(|(.., written)| recc_syntax::print_expr(written)).unwrap_or_default();
        let [condition, message] = args.take(self, "require", ["condition", "message"]);
        args.done(self, "require");
        match (condition.value, message.value) {
            (Value::Bool(true), Value::Text(_)) => {}
            (Value::Bool(false), Value::Text(text)) => {
                let here = self.values_in(&written);
                self.report(Problem::error("E0223", args.span, text).here(here).help("give the block other arguments"));
                return Value::Poison;
            }
            (Value::Poison, _) | (_, Value::Poison) => {}
            _ => {
                let problem = Problem::error("E0212", args.span, "`require` takes a condition on constants and a text");
                self.report(problem.help("such as `require(rate < 1, \"a rate is below 1\")`"));
            }
        }
        Value::Nothing
    }

    /// "`rate` is the number 1.5": what the names in a condition stand for.
    fn values_in(&self, written: &str) -> String {
        let mut named = BTreeMap::new();
        // Not the words of texts.
        let names = written.split('"').step_by(2).flat_map(|code| code.split(|letter: char| !letter.is_alphanumeric() && letter != '_'));
        for word in names {
            if let Some(binding) = self.scopes.iter().flatten().rev().find(|binding| binding.name == word) {
                named.insert(word, format!("`{word}` is {}", binding.value.describe(&self.graph)));
            }
        }
        named.into_values().collect::<Vec<_>>().join(", ")
    }

    fn initializer_call(&mut self, name: &'static str, mut args: Args) -> Value {
        let what = match name {
            "normal" => "std",
            "uniform" => "bound",
            _ => "value",
        };
        let [x] = args.take(self, name, [what]);
        args.done(self, name);
        let Some(number) = x.value.as_float() else {
            if !matches!(x.value, Value::Poison) {
                self.report(Problem::error("E0201", x.span, format!("`{name}` takes a number")).help(format!("such as `{name}(0.01)`")));
            }
            return Value::Poison;
        };
        if name != "constant" && number < 0.0 {
            self.report(
                Problem::error("E0602", x.span, format!("the `{what}` of `{name}` is not negative"))
                    .help("it is the width of the distribution"),
            );
            return Value::Poison;
        }
        Value::Init(Initializer::Fixed(match name {
            "normal" => Init::Normal { std: number },
            "uniform" => Init::Uniform { bound: number },
            _ => Init::Constant(number),
        }))
    }

    fn unary(&mut self, op: ScalarOp, x: &Located) -> Value {
        match (&x.value, x.value.as_float()) {
            (_, Some(number)) => Value::Float(op.eval(&[number])),
            (Value::Poison, _) => Value::Poison,
            _ => match self.tensor(x) {
                Some(tensor) => Value::Tensor(Tensor { node: self.graph.map(op, &[tensor.node]), axes: tensor.axes }),
                None => Value::Poison,
            },
        }
    }

    /// `max(a, b)` of two values; of one, along an axis.
    fn extreme(&mut self, name: &'static str, mut args: Args) -> Value {
        let (op, combine) = if name == "max" { (ScalarOp::Max, Combine::Max) } else { (ScalarOp::Min, Combine::Min) };
        if args.positional() == 2 {
            let [a, b] = args.take(self, name, ["a", "b"]);
            args.done(self, name);
            if let (Value::Int(a), Value::Int(b)) = (&a.value, &b.value) {
                return Value::Int(if name == "max" { *a.max(b) } else { *a.min(b) });
            }
            let span = args.span;
            return self.binary_op(op, &a, &b, span);
        }
        let axis = args.take_axis();
        let keep = self.take_keep(&mut args);
        let [x] = args.take(self, name, ["x"]);
        args.done(self, name);
        let found = match &axis {
            Some(axis) => self.reduce_axis(&x, axis, combine),
            None => self.reduce_all(&x, combine),
        };
        if keep { self.kept(&x, axis.as_ref(), found) } else { found }
    }

    /// The `keep:` argument of a reduction.
    fn take_keep(&mut self, args: &mut Args) -> bool {
        let Some(keep) = args.take_named("keep") else { return false };
        match keep.value {
            Value::Bool(keep) => keep,
            Value::Poison => false,
            _ => {
                let problem = Problem::error("E0201", keep.span, "`keep` is `true` or `false`");
                self.report(problem.help("with `true` the result keeps the shape of the value and repeats along the axis"));
                false
            }
        }
    }

    /// What a reduction gave, repeated along the axis it reduced: the shape is that of `x` again.
    fn kept(&mut self, x: &Located, axis: Option<&recc_syntax::ast::Expr>, found: Value) -> Value {
        let (Value::Tensor(whole), Value::Tensor(reduced)) = (&x.value, &found) else { return found };
        let ty = self.graph[whole.node].ty.clone();
        let at = axis.and_then(|axis| self.axis_position(whole, axis));
        let axes = (0..ty.dims.len()).filter(|own| axis.is_some() && Some(*own) != at).collect();
        let space = self.graph[reduced.node].ty.space;
        let node = self.graph.add(Op::Broadcast(Broadcast { space, dims: ty.dims, axes }), &[reduced.node]);
        Value::Tensor(Tensor { node, axes: whole.axes.clone() })
    }

    fn total(&mut self, name: &'static str, mut args: Args) -> Value {
        let axis = args.take_axis();
        let keep = self.take_keep(&mut args);
        let [x] = args.take(self, name, ["x"]);
        args.done(self, name);
        let span = args.span;
        let found = self.sum_or_mean(name, &x, axis.as_ref(), span);
        if keep { self.kept(&x, axis.as_ref(), found) } else { found }
    }

    fn sum_or_mean(&mut self, name: &'static str, x: &Located, axis: Option<&recc_syntax::ast::Expr>, span: Span) -> Value {
        let sum = match axis {
            Some(axis) => self.reduce_axis(x, axis, Combine::Add),
            None => self.reduce_all(x, Combine::Add),
        };
        if name == "sum" {
            return sum;
        }
        let (Value::Tensor(total), Value::Tensor(whole)) = (&sum, &x.value) else { return sum };
        let dims = self.graph[whole.node].ty.dims.clone();
        let reduced: Vec<Dim> = match axis {
            Some(axis) => self.axis_position(whole, axis).map(|at| vec![dims[at]]).unwrap_or_default(),
            None => dims,
        };
        let count = self.count_of(&reduced);
        let total = Located { value: Value::Tensor(total.clone()), span };
        self.binary_op(ScalarOp::Div, &total, &Located { value: count, span }, span)
    }

    /// The number of elements along axes; of an empty bag 1, so that its mean is 0.
    fn count_of(&mut self, dims: &[Dim]) -> Value {
        let fixed: u64 = dims.iter().filter_map(|dim| dim.fixed()).product();
        let mut count = None;
        for dim in dims {
            let Dim::Entries(column) = dim else { continue };
            let entries = self.graph.add(Op::Length(Length { column: *column }), &[]);
            let one = self.graph.constant_like(entries, 1.0);
            let own = self.graph.map(ScalarOp::Max, &[entries, one]);
            count = Some(count.map_or(own, |count| self.graph.map(ScalarOp::Mul, &[count, own])));
        }
        let Some(mut count) = count else { return Value::Float(fixed as f64) };
        if fixed != 1 {
            let factor = self.graph.constant_like(count, fixed as f64);
            count = self.graph.map(ScalarOp::Mul, &[count, factor]);
        }
        Value::Tensor(Tensor { node: count, axes: Vec::new() })
    }

    fn reduce_all(&mut self, x: &Located, combine: Combine) -> Value {
        let Some(tensor) = self.tensor(x) else { return Value::Poison };
        let tensor = self.spread(tensor);
        let rank = self.graph[tensor.node].ty.dims.len();
        if rank == 0 {
            return Value::Tensor(tensor);
        }
        let bag = self.graph[tensor.node].ty.dims.iter().find_map(|dim| if let Dim::Entries(column) = dim { Some(*column) } else { None });
        let mut node = self.graph.add(Op::Reduce(Reduce { combine, axes: (0..rank).collect() }), &[tensor.node]);
        if let (Some(column), true) = (bag, combine != Combine::Add) {
            node = self.zero_if_empty(node, column);
        }
        Value::Tensor(Tensor { node, axes: Vec::new() })
    }

    fn reduce_axis(&mut self, x: &Located, axis: &recc_syntax::ast::Expr, combine: Combine) -> Value {
        let Some(tensor) = self.tensor(x) else { return Value::Poison };
        let Some(at) = self.axis_position(&tensor, axis) else { return Value::Poison };
        let tensor = self.spread(tensor);
        let dim = self.graph[tensor.node].ty.dims[at];
        let mut node = self.graph.add(Op::Reduce(Reduce { combine, axes: vec![at] }), &[tensor.node]);
        if let (Dim::Entries(column), true) = (dim, combine != Combine::Add) {
            node = self.zero_if_empty(node, column);
        }
        let mut axes = tensor.axes;
        axes.remove(at);
        Value::Tensor(Tensor { node, axes })
    }

    /// The largest of no entries is 0, as their sum is.
    fn zero_if_empty(&mut self, node: NodeId, column: u32) -> NodeId {
        let dims = self.graph[node].ty.dims.clone();
        let entries = self.graph.add(Op::Length(Length { column }), &[]);
        let axes = Vec::new();
        let entries = self.graph.add(Op::Broadcast(Broadcast { space: Space::Example, dims, axes }), &[entries]);
        let zero = self.graph.constant_like(entries, 0.0);
        let some = self.graph.map(ScalarOp::Lt, &[zero, entries]);
        self.graph.map(ScalarOp::Select, &[some, node, zero])
    }

    fn select(&mut self, mut args: Args) -> Value {
        let span = args.span;
        let [condition, a, b] = args.take(self, "select", ["condition", "a", "b"]);
        args.done(self, "select");
        if let Value::Bool(condition) = condition.value {
            return if condition { a.value } else { b.value };
        }
        let (Some(c), Some(a), Some(b)) = (self.tensor_of_any(&condition), self.tensor(&a), self.tensor(&b)) else { return Value::Poison };
        if self.graph[c.node].ty.dtype != DType::Bool {
            let text = describe_type(&self.graph, c.node);
            self.report(
                Problem::error("E0201", condition.span, "`select` chooses by a truth value")
                    .here(format!("this is {text}"))
                    .help("compare first, such as `x > 0`"),
            );
            return Value::Poison;
        }
        match self.joined(&[c, a, b], span) {
            Some((nodes, axes)) => Value::Tensor(Tensor { node: self.graph.map(ScalarOp::Select, &nodes), axes }),
            None => Value::Poison,
        }
    }

    /// `concat(a, b)`: lists of numbers one after another; `stack(a, b)`: equal shapes along a new first axis.
    fn join_values(&mut self, name: &'static str, mut args: Args) -> Value {
        let span = args.span;
        let mut parts = Vec::new();
        for value in args.take_all(self, name) {
            match &value.value {
                Value::List(items) => parts.extend(items.iter().map(|item| Located { value: item.clone(), span: value.span })),
                _ => parts.push(value),
            }
        }
        let mut tensors = Vec::new();
        for part in &parts {
            match self.tensor(part) {
                // Pairs of steps have no axis to join along.
                Some(tensor) if self.graph[tensor.node].ty.is_pairs() || !self.graph[tensor.node].ty.is_storable() => {
                    self.refuse_bag(&tensor, part.span);
                    return Value::Poison;
                }
                Some(tensor) => {
                    let tensor = self.spread(tensor);
                    tensors.push((tensor, part.span));
                }
                None => return Value::Poison,
            }
        }
        self.join_steps(&mut tensors);
        if tensors.is_empty() {
            self.report(Problem::error("E0209", span, format!("`{name}` joins nothing")).help("give it the values to join"));
            return Value::Poison;
        }
        let space = if tensors.iter().any(|(tensor, _)| self.graph[tensor.node].ty.space == Space::Example) {
            Space::Example
        } else {
            Space::Global
        };
        let elements: u64 = tensors.iter().map(|(tensor, _)| self.graph[tensor.node].ty.fixed_len()).sum();
        let rank = tensors.iter().map(|(tensor, _)| self.graph[tensor.node].ty.dims.len()).max().unwrap_or(0);
        if elements > MOST_ELEMENTS || rank >= MOST_AXES {
            let text = format!("this value would have more than {MOST_ELEMENTS} elements for each example, or more than {MOST_AXES} axes");
            self.report(Problem::error("E0222", span, text).help("a loop makes it far larger than meant"));
            return Value::Poison;
        }
        if name == "stack" { self.stack(&tensors, space) } else { self.concat(&tensors, space) }
    }

    /// Values beside some with entries of a bag or a sequence are repeated for each of those.
    fn join_steps(&mut self, tensors: &mut [(Tensor, Span)]) {
        let entries = |graph: &Graph, tensor: &Tensor| graph[tensor.node].ty.entries();
        let known = tensors.iter().find_map(|(tensor, _)| Some((entries(&self.graph, tensor)?, tensor.axes[0])));
        let Some((column, axis)) = known else { return };
        for (tensor, _) in tensors {
            if entries(&self.graph, tensor).is_some() {
                continue;
            }
            let dims: Vec<Dim> = std::iter::once(Dim::Entries(column)).chain(self.graph[tensor.node].ty.dims.iter().copied()).collect();
            tensor.node = self.graph.broadcast(tensor.node, Space::Example, &dims);
            tensor.axes.insert(0, axis);
        }
    }

    /// Along the first axis that is not of entries; the others are those of the value that has most of them.
    fn concat(&mut self, tensors: &[(Tensor, Span)], space: Space) -> Value {
        let dims = |graph: &Graph, tensor: &Tensor| graph[tensor.node].ty.dims.clone();
        let Some(widest) = tensors.iter().max_by_key(|(tensor, _)| tensor.axes.len()) else { return Value::Poison };
        let wide = dims(&self.graph, &widest.0);
        let entries: Vec<Dim> = wide.first().copied().filter(|dim| dim.fixed().is_none()).into_iter().collect();
        let at = entries.len();
        let mut nodes = Vec::new();
        for (tensor, span) in tensors {
            let own = dims(&self.graph, tensor);
            let node = match own.len() {
                rank if rank == at && wide.len() <= at + 1 && own == entries => {
                    let dims = entries.iter().copied().chain([Dim::Fixed(1)]).collect();
                    self.graph.add(Op::Reshape(Reshape { dims }), &[tensor.node])
                }
                rank if rank == wide.len() && own[..at] == entries && own[at..].iter().skip(1).eq(wide[at..].iter().skip(1)) => tensor.node,
                _ => {
                    let (here, there) = (describe_type(&self.graph, tensor.node), describe_type(&self.graph, widest.0.node));
                    let problem = Problem::error("E0202", *span, "`concat` joins values along their first axis; the other axes are equal");
                    let problem = problem.here(format!("this is {here}")).and(widest.1, format!("this is {there}"));
                    self.report(problem.help("`flatten(x)` leaves one axis; `stack(v)` makes a vector the row of a matrix"));
                    return Value::Poison;
                }
            };
            let dims = self.graph[node].ty.dims.clone();
            nodes.push(self.graph.broadcast(node, space, &dims));
        }
        let node = self.graph.add(Op::Concat(Concat { axis: at }), &nodes);
        let mut axes = widest.0.axes[..at].to_vec();
        axes.push(self.fresh_axis());
        axes.extend(widest.0.axes.iter().skip(at + 1));
        Value::Tensor(Tensor { node, axes })
    }

    fn stack(&mut self, tensors: &[(Tensor, Span)], space: Space) -> Value {
        let first = self.graph[tensors[0].0.node].ty.dims.clone();
        // The axis of entries stays the first.
        let at = usize::from(first.first().is_some_and(|dim| dim.fixed().is_none()));
        let mut nodes = Vec::new();
        for (tensor, span) in tensors {
            let dims = self.graph[tensor.node].ty.dims.clone();
            if dims != first {
                let (here, there) = (describe_type(&self.graph, tensor.node), describe_type(&self.graph, tensors[0].0.node));
                let problem = Problem::error("E0202", *span, "`stack` joins values of one shape")
                    .here(format!("this is {here}"))
                    .and(tensors[0].1, format!("this is {there}"));
                self.report(problem.help("use `concat` to put values of different sizes one after another"));
                return Value::Poison;
            }
            let mut long = dims;
            long.insert(at, Dim::Fixed(1));
            let node = self.graph.add(Op::Reshape(Reshape { dims: long.clone() }), &[tensor.node]);
            nodes.push(self.graph.broadcast(node, space, &long));
        }
        let node = self.graph.add(Op::Concat(Concat { axis: at }), &nodes);
        let mut axes = tensors[0].0.axes.clone();
        axes.insert(at, self.fresh_axis());
        Value::Tensor(Tensor { node, axes })
    }

    fn flatten(&mut self, x: &Located) -> Value {
        let Some(tensor) = self.tensor(x) else { return Value::Poison };
        let tensor = self.spread(tensor);
        let ty = self.graph[tensor.node].ty.clone();
        // The axis of entries stays.
        let at = usize::from(ty.entries().is_some());
        if !ty.is_plain() || at == 1 && ty.dims.len() == 1 {
            self.refuse_bag(&tensor, x.span);
            return Value::Poison;
        }
        if ty.dims.len() == at + 1 {
            return Value::Tensor(tensor);
        }
        let dims = ty.dims[..at].iter().copied().chain([Dim::Fixed(ty.fixed_len())]).collect();
        let node = self.graph.add(Op::Reshape(Reshape { dims }), &[tensor.node]);
        let axes = tensor.axes[..at].iter().copied().chain([self.fresh_axis()]).collect();
        Value::Tensor(Tensor { node, axes })
    }

    /// `lower_triangle(x)`: the elements of a square below its diagonal, row by row.
    fn lower_triangle(&mut self, x: &Located) -> Value {
        let Some(tensor) = self.tensor(x) else { return Value::Poison };
        if self.refuse_bag(&tensor, x.span) {
            return Value::Poison;
        }
        let tensor = self.spread(tensor);
        match self.graph[tensor.node].ty.dims.as_slice() {
            [Dim::Fixed(rows), Dim::Fixed(columns)] if rows == columns && *rows >= 2 => {
                let take = Take::lower_triangle(*rows);
                let node = self.graph.add(Op::Take(take), &[tensor.node]);
                Value::Tensor(Tensor { node, axes: vec![self.fresh_axis()] })
            }
            _ => {
                let text = describe_type(&self.graph, tensor.node);
                let problem = Problem::error("E0202", x.span, "`lower_triangle` takes a square of 2 rows or more");
                self.report(problem.here(format!("this is {text}")).help("such as `einsum(\"f d, g d -> f g\", v, v)`"));
                Value::Poison
            }
        }
    }

    /// `random(x)`: uniform on [0, 1) for each element of `x`, other numbers at each call, epoch, row and element.
    fn random(&mut self, mut args: Args) -> Value {
        let [x] = args.take(self, "random", ["like"]);
        args.done(self, "random");
        let Some(tensor) = self.tensor(&x) else { return Value::Poison };
        if !self.graph[tensor.node].ty.is_storable() {
            self.refuse_bag(&tensor, x.span);
            return Value::Poison;
        }
        self.drawn(&tensor, Space::Example)
    }

    /// `batch_random(x)`: the same for one value that exists once, other numbers at each step.
    fn batch_random(&mut self, mut args: Args) -> Value {
        let [x] = args.take(self, "batch_random", ["like"]);
        args.done(self, "batch_random");
        let Some(tensor) = self.tensor(&x) else { return Value::Poison };
        if self.graph[tensor.node].ty.space != Space::Global {
            let problem = Problem::error("E0202", x.span, "`batch_random` takes a value that exists once");
            self.report(problem.here("this has a value for each example").help("such as a parameter; `random` draws for each example"));
            return Value::Poison;
        }
        self.drawn(&tensor, Space::Global)
    }

    /// Random numbers of a value's shape, at a place of their own.
    fn drawn(&mut self, like: &Tensor, space: Space) -> Value {
        let dims = self.graph[like.node].ty.dims.clone();
        let path = self.path.map(|path| self.paths.early_text(path)).unwrap_or_default();
        let count = self.sites.entry(path.clone()).or_insert(0);
        *count += 1;
        let site = if *count == 1 { path } else { format!("{path}#{count}") };
        let node = self.graph.add(Op::Random(Random { site, space, dims }), &[]);
        Value::Tensor(Tensor { node, axes: like.axes.clone() })
    }

    /// `batch_mean(x)`: the mean over the examples of a batch, and over leading axes. In training only.
    fn batch_mean(&mut self, mut args: Args) -> Value {
        let span = args.span;
        let [x] = args.take(self, "batch_mean", ["x"]);
        args.done(self, "batch_mean");
        let Some(tensor) = self.tensor(&x) else { return Value::Poison };
        let ty = self.graph[tensor.node].ty.clone();
        if !ty.is_plain() || ty.is_ragged() && ty.dims.len() == 1 {
            self.refuse_bag(&tensor, x.span);
            return Value::Poison;
        }
        let Some((_, leading)) = ty.dims.split_last() else {
            self.report(
                Problem::error("E0214", span, "`batch_mean` takes a value with an axis")
                    .help("it keeps the last axis and averages all others"),
            );
            return Value::Poison;
        };
        let mut node = self.graph.broadcast(tensor.node, Space::Example, &ty.dims);
        let leading_len: u64 = leading.iter().filter_map(|dim| dim.fixed()).product();
        if !leading.is_empty() {
            node = self.graph.add(Op::Reduce(Reduce { combine: Combine::Add, axes: (0..leading.len()).collect() }), &[node]);
        }
        let sum = self.graph.add(Op::BatchSum(BatchSum), &[node]);
        let rows = match ty.entries() {
            None => self.graph.add(Op::Uniform(Uniform { kind: UniformKind::BatchRows }), &[]),
            // A batch without an entry has the mean 0.
            Some(column) => {
                let entries = self.graph.add(Op::Length(Length { column }), &[]);
                let entries = self.graph.add(Op::BatchSum(BatchSum), &[entries]);
                let one = self.graph.add(Op::Constant(Constant::new(1.0)), &[]);
                self.graph.map(ScalarOp::Max, &[entries, one])
            }
        };
        let factor = self.graph.add(Op::Constant(Constant::new(leading_len as f64)), &[]);
        let count = self.graph.map(ScalarOp::Mul, &[rows, factor]);
        let dims = self.graph[sum].ty.dims.clone();
        let count = self.graph.broadcast(count, Space::Global, &dims);
        let node = self.graph.map(ScalarOp::Div, &[sum, count]);
        Value::Tensor(Tensor { node, axes: tensor.axes.last().copied().into_iter().collect() })
    }

    /// `x[0]`, `x[2..4]`, `x[0..2, 1]`: a part along an axis, of each entry where there are entries.
    pub(super) fn index_tensor(&mut self, tensor: &Tensor, index: &Located, axis: usize) -> Value {
        let tensor = &self.spread(tensor.clone());
        let ty = self.graph[tensor.node].ty.clone();
        let place = match axis {
            0 => "first".to_owned(),
            1 => "second".to_owned(),
            2 => "third".to_owned(),
            other => format!("{}th", other + 1),
        };
        let axis = axis + usize::from(ty.entries().is_some());
        let Some(&Dim::Fixed(len)) = ty.dims.get(axis).filter(|_| ty.is_storable() && !ty.is_pairs()) else {
            let text = describe_type(&self.graph, tensor.node);
            self.report(
                Problem::error("E0208", index.span, format!("{text} has no {place} axis to take a part of"))
                    .help("an index takes a part of an axis of fixed size; the first index is of the first such axis"),
            );
            return Value::Poison;
        };
        let (start, end, keep) = match index.value {
            Value::Range(start, end) => (start, end, true),
            ref other => match other.as_int() {
                Some(at) => (at, at + 1, false),
                None => return self.wrong_index(index),
            },
        };
        if start < 0 || end > len as i64 || start >= end {
            self.report(
                Problem::error("E0208", index.span, format!("the {place} axis has the elements 0 to {}", len - 1))
                    .here("this lies outside")
                    .help("counting starts at 0"),
            );
            return Value::Poison;
        }
        let slice = Slice { axis, start: start as u64, len: (end - start) as u64 };
        let node = self.graph.add(Op::Slice(slice), &[tensor.node]);
        if keep {
            let mut axes = tensor.axes.clone();
            axes[axis] = self.fresh_axis();
            return Value::Tensor(Tensor { node, axes });
        }
        let (mut dims, mut axes) = (ty.dims, tensor.axes.clone());
        dims.remove(axis);
        axes.remove(axis);
        Value::Tensor(Tensor { node: self.graph.add(Op::Reshape(Reshape { dims }), &[node]), axes })
    }

    pub(super) fn wrong_index(&mut self, index: &Located) -> Value {
        if !matches!(index.value, Value::Poison) {
            let text = index.value.describe(&self.graph);
            self.report(
                Problem::error("E0208", index.span, "an index is a whole number or a range")
                    .here(format!("this is {text}"))
                    .help("such as `x[0]` or `x[2..4]`"),
            );
        }
        Value::Poison
    }

    /// The parameters a value that exists once is computed from.
    fn parameters_of(&self, node: NodeId) -> std::collections::BTreeSet<recc_abi::VariableId> {
        let mut found = std::collections::BTreeSet::new();
        let mut stack = vec![node];
        let mut seen = std::collections::BTreeSet::new();
        while let Some(node) = stack.pop() {
            if self.graph[node].ty.space != Space::Global || matches!(self.graph[node].op, Op::BatchSum(_)) || !seen.insert(node) {
                continue;
            }
            if let Op::Variable(variable) = &self.graph[node].op
                && self.variables.get(variable.id.0 as usize).is_some_and(|(_, own)| own.role == recc_abi::Role::Parameter)
            {
                found.insert(variable.id);
            }
            stack.extend(self.graph.operands(node));
        }
        found
    }

    /// A value computed from a parameter, as a value of each example: what mixes the elements of parameters is differentiated
    /// there, so that an update reads its own element only.
    pub(super) fn spread(&mut self, tensor: Tensor) -> Tensor {
        if self.parameters_of(tensor.node).is_empty() {
            return tensor;
        }
        let dims = self.graph[tensor.node].ty.dims.clone();
        Tensor { node: self.graph.broadcast(tensor.node, Space::Example, &dims), axes: tensor.axes }
    }

    /// Values brought to one shape: scalars join with anything, a value joins a larger one whose last axes are its own.
    pub(super) fn joined(&mut self, tensors: &[Tensor], span: Span) -> Option<(Vec<NodeId>, Vec<AxisId>)> {
        let types: Vec<_> = tensors.iter().map(|tensor| self.graph[tensor.node].ty.clone()).collect();
        let parameters: std::collections::BTreeSet<_> = tensors.iter().flat_map(|tensor| self.parameters_of(tensor.node)).collect();
        let each = types.iter().any(|ty| ty.space == Space::Example) || parameters.len() > 1;
        let space = if each { Space::Example } else { Space::Global };
        let widest =
            (0..tensors.len()).max_by_key(|&at| (types[at].dims.len(), types[at].len().unwrap_or(u64::MAX), tensors.len() - at))?;
        let dims = types[widest].dims.clone();
        let mut nodes = Vec::new();
        for (tensor, ty) in tensors.iter().zip(&types) {
            let mut node = tensor.node;
            if ty.dims == [Dim::Fixed(1)] && !dims.ends_with(&ty.dims) {
                node = self.graph.add(Op::Reshape(Reshape { dims: vec![] }), &[node]);
            } else if ty.is_pairs() && types[widest].is_pairs() && [dims[0], dims[dims.len() - 1]] == ty.dims[..] && dims != ty.dims {
                // A number for each pair joins several for each.
                let axes = vec![0, dims.len() - 1];
                nodes.push(self.graph.add(Op::Broadcast(Broadcast { space, dims: dims.clone(), axes }), &[node]));
                continue;
            } else if !dims.ends_with(&ty.dims) {
                let (a, b) = (describe_type(&self.graph, tensors[widest].node), describe_type(&self.graph, tensor.node));
                let problem = Problem::error("E0202", span, format!("{a} does not join with {b}"));
                self.report(
                    problem.help("shapes are equal, or one is a single number, or the smaller one has the last axes of the larger"),
                );
                return None;
            }
            let ty = self.graph[node].ty.clone();
            if ty.space != space || ty.dims != dims {
                let shift = dims.len() - ty.dims.len();
                let axes = (0..ty.dims.len()).map(|axis| axis + shift).collect();
                node = self.graph.add(Op::Broadcast(Broadcast { space, dims: dims.clone(), axes }), &[node]);
            }
            nodes.push(node);
        }
        Some((nodes, tensors[widest].axes.clone()))
    }
}
