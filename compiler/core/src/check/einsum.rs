//! `einsum("f d, g d -> f g", a, b)`: products of elements, summed over the axes that the result does not name.

use super::Checker;
use super::builtins::MOST_ELEMENTS;
use super::calls::Args;
use super::value::{AxisId, Located, Tensor, Value, describe_type};
use crate::graph::{Dim, Graph, NodeId, Space};
use crate::loops::Combine;
use crate::ops::{BatchMatMul, Broadcast, MatMul, Op, Reduce, Reshape};
use crate::problem::Problem;
use crate::scalar::ScalarOp;
use recc_syntax::ast::Span;

/// Names of the axes of each operand and of the result.
struct Labels {
    operands: Vec<Vec<String>>,
    result: Vec<String>,
}

impl Labels {
    fn parse(text: &str) -> Result<Labels, String> {
        let Some((left, right)) = text.split_once("->") else { return Err("it has no `->`".to_owned()) };
        let axes = |part: &str| part.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let labels = Labels { operands: left.split(',').map(axes).collect(), result: axes(right) };
        for list in labels.operands.iter().chain([&labels.result]) {
            for (at, name) in list.iter().enumerate() {
                if !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
                    return Err(format!("`{name}` is no name of an axis"));
                }
                if list[..at].contains(name) {
                    return Err(format!("one value has two axes `{name}`"));
                }
            }
        }
        match labels.result.iter().find(|name| !labels.operands.iter().flatten().any(|own| own == *name)) {
            Some(name) => Err(format!("no operand has the axis `{name}` of the result")),
            None => Ok(labels),
        }
    }

    /// All axes: those of the result, then those summed over.
    fn all(&self) -> Vec<&str> {
        let mut all: Vec<&str> = self.result.iter().map(String::as_str).collect();
        for name in self.operands.iter().flatten() {
            if !all.contains(&name.as_str()) {
                all.push(name);
            }
        }
        all
    }
}

impl Checker<'_> {
    pub(super) fn einsum(&mut self, mut args: Args) -> Value {
        let span = args.span;
        let mut values = args.take_all(self, "einsum").into_iter();
        let example = "such as `einsum(\"f d, g d -> f g\", v, v)`: the axes of each value, separated by blanks, and those of the result";
        let (text, text_span) = match values.next() {
            Some(Located { value: Value::Text(text), span }) => (text, span),
            Some(Located { value: Value::Poison, .. }) => return Value::Poison,
            other => {
                let at = other.map_or(span, |other| other.span);
                self.report(Problem::error("E0224", at, "`einsum` begins with a text that names axes").help(example));
                return Value::Poison;
            }
        };
        let operands: Vec<Located> = values.collect();
        let labels = match Labels::parse(&text) {
            Ok(labels) if labels.operands.len() == operands.len() && operands.len() <= 2 => labels,
            Ok(labels) => {
                let (named, given) = (labels.operands.len(), operands.len());
                let problem = match named {
                    1 | 2 => {
                        Problem::error("E0224", text_span, format!("the text names {named} values, and {given} are given")).help(example)
                    }
                    _ => Problem::error("E0224", text_span, format!("`einsum` takes one value or two, and the text names {named}"))
                        .help("multiply two of them first, and the result with the next"),
                };
                self.report(problem);
                return Value::Poison;
            }
            Err(what) => {
                self.report(Problem::error("E0224", text_span, format!("this names no axes: {what}")).help(example));
                return Value::Poison;
            }
        };
        let mut tensors = Vec::new();
        for operand in &operands {
            match self.tensor(operand) {
                Some(tensor) => tensors.push(tensor),
                None => return Value::Poison,
            }
        }
        match self.sizes(&labels, &operands, &tensors) {
            Some(sizes) if self.can_hold(&sizes[..labels.result.len()], text_span) => self.contract(&labels, &tensors, &sizes, text_span),
            _ => Value::Poison,
        }
    }

    /// `a @ b`, whose inner sizes are equal.
    pub(super) fn matrix_product(&mut self, a: &Tensor, b: &Tensor, span: Span) -> Value {
        let leading: Vec<String> = (1..a.axes.len()).map(|axis| format!("l{axis}")).collect();
        let with = |last: &[&str]| leading.iter().cloned().chain(last.iter().map(|name| (*name).to_owned())).collect::<Vec<_>>();
        let labels = Labels { operands: vec![with(&["k"]), vec!["k".to_owned(), "n".to_owned()]], result: with(&["n"]) };
        let dims = |tensor: &Tensor| self.graph[tensor.node].ty.dims.iter().copied().zip(tensor.axes.iter().copied()).collect::<Vec<_>>();
        let (left, right) = (dims(a), dims(b));
        let sizes: Vec<_> = left[..leading.len()].iter().chain(&right[1..]).chain(&right[..1]).copied().collect();
        self.contract(&labels, &[a.clone(), b.clone()], &sizes, span)
    }

    /// Size and identity of all axes, in the order of [`Labels::all`].
    fn sizes(&mut self, labels: &Labels, operands: &[Located], tensors: &[Tensor]) -> Option<Vec<(Dim, AxisId)>> {
        let all = labels.all();
        let mut found: Vec<Option<(Dim, AxisId, usize)>> = vec![None; all.len()];
        for (at, (names, tensor)) in labels.operands.iter().zip(tensors).enumerate() {
            let dims = self.graph[tensor.node].ty.dims.clone();
            let text = describe_type(&self.graph, tensor.node);
            if dims.len() != names.len() {
                let what = format!("the text gives this value {} axes: `{}`", names.len(), names.join(" "));
                let help = "one name for each axis, separated by blanks";
                self.report(Problem::error("E0202", operands[at].span, what).here(format!("this is {text}")).help(help));
                return None;
            }
            for ((name, dim), axis) in names.iter().zip(dims).zip(&tensor.axes) {
                let place = all.iter().position(|own| own == name)?;
                match found[place] {
                    Some((known, _, other)) if known != dim => {
                        let there = describe_type(&self.graph, tensors[other].node);
                        let problem = Problem::error("E0202", operands[at].span, format!("the axis `{name}` has two sizes"));
                        let problem = problem.here(format!("this is {text}")).and(operands[other].span, format!("this is {there}"));
                        self.report(problem.help("axes of one name have one size; give them different names"));
                        return None;
                    }
                    Some(_) => {}
                    None => found[place] = Some((dim, *axis, at)),
                }
            }
        }
        found.into_iter().map(|entry| entry.map(|(dim, axis, _)| (dim, axis))).collect()
    }

    /// Whether a value of these axes can be: entries lead, and end only what is paired with them.
    fn can_hold(&mut self, sizes: &[(Dim, AxisId)], text: Span) -> bool {
        let entries: Vec<(usize, u32)> = sizes
            .iter()
            .enumerate()
            .filter_map(|(at, (dim, _))| if let Dim::Entries(column) = dim { Some((at, *column)) } else { None })
            .collect();
        match entries.as_slice() {
            [] | [(0, _)] => true,
            [(0, one), (last, other)] if *last + 1 == sizes.len() && one == other => self.can_pair(*one, text),
            _ => {
                let problem = Problem::error("E0215", text, "the axes of entries do not stand where they can");
                self.report(problem.help(
                    "the axis of a bag or a sequence comes first, and a second one of the same sequence last: `\"i d, j d -> i j\"`",
                ));
                false
            }
        }
    }

    fn contract(&mut self, labels: &Labels, tensors: &[Tensor], sizes: &[(Dim, AxisId)], text: Span) -> Value {
        let kept = labels.result.len();
        let mut axes: Vec<AxisId> = sizes[..kept].iter().map(|(_, axis)| *axis).collect();
        // Both axes of a pair come from one sequence; the second one has an identity of its own.
        if let [first, .., last] = axes.as_mut_slice()
            && first == last
        {
            *last = self.pair_axis(*first);
        }
        if let ([a, b], [left, right]) = (tensors, labels.operands.as_slice()) {
            let (a, b) = ((a.node, left.as_slice()), (b.node, right.as_slice()));
            let graph = &mut self.graph;
            let found = [product, turned_product]
                .into_iter()
                .find_map(|product| product(graph, a, b, &labels.result).or_else(|| product(graph, b, a, &labels.result)));
            if let Some(node) = found {
                return Value::Tensor(Tensor { node, axes });
            }
        }
        let dims: Vec<Dim> = sizes.iter().map(|(dim, _)| *dim).collect();
        if dims.iter().filter_map(|dim| dim.fixed()).product::<u64>() > MOST_ELEMENTS {
            let what = format!("this would multiply more than {MOST_ELEMENTS} pairs of elements for each example");
            self.report(Problem::error("E0222", text, what).help("sum over some axes first"));
            return Value::Poison;
        }
        let all = labels.all();
        let tensors: Vec<Tensor> = tensors.iter().map(|tensor| self.spread(tensor.clone())).collect();
        let each = tensors.iter().any(|tensor| self.graph[tensor.node].ty.space == Space::Example);
        let space = if each { Space::Example } else { Space::Global };
        let mut nodes = Vec::new();
        for (names, tensor) in labels.operands.iter().zip(&tensors) {
            let axes = names.iter().filter_map(|name| all.iter().position(|own| own == name)).collect();
            nodes.push(self.graph.add(Op::Broadcast(Broadcast { space, dims: dims.clone(), axes }), &[tensor.node]));
        }
        let mut node = if nodes.len() == 2 { self.graph.map(ScalarOp::Mul, &nodes) } else { nodes[0] };
        if kept < dims.len() {
            node = self.graph.add(Op::Reduce(Reduce { combine: Combine::Add, axes: (kept..dims.len()).collect() }), &[node]);
        }
        Value::Tensor(Tensor { node, axes })
    }
}

/// The matrix product that an einsum of two values is, if it is one whose left operand is `a`.
fn product(graph: &mut Graph, a: (NodeId, &[String]), b: (NodeId, &[String]), result: &[String]) -> Option<NodeId> {
    let (left, right) = (graph[a.0].ty.clone(), graph[b.0].ty.clone());
    let (rows, columns) = (result.split_last()?.1, result.last()?);
    let [b0, b_middle @ .., b1] = b.1 else { return None };
    let transposed = b0 == columns;
    let inner = if transposed { b1 } else { b0 };
    if left.space != Space::Example || (!transposed && b1 != columns) || result.contains(inner) || a.1.contains(columns) {
        return None;
    }
    if right.space == Space::Global {
        if !b_middle.is_empty() || !left.is_plain() {
            return None;
        }
        let fits = a.1.split_last() == Some((inner, rows));
        return fits.then(|| graph.add(Op::MatMul(MatMul { transposed }), &[a.0, b.0]));
    }
    let row = rows.first()?;
    let middle = &rows[1..];
    let left_transposed = match a.1 {
        [a0, heads @ .., a1] if a0 == row && a1 == inner && heads == middle => false,
        [a0, heads @ .., a1] if a1 == row && a0 == inner && heads == middle => true,
        _ => return None,
    };
    // A matrix of entries has them in front.
    let transposable = |ty: &crate::graph::TensorType| !ty.is_ragged() || ty.entries().is_some();
    if middle.len() > 1 || b_middle != middle || !transposable(&left) || !transposable(&right) {
        return None;
    }
    Some(graph.add(Op::BatchMatMul(BatchMatMul { left_transposed, right_transposed: transposed }), &[a.0, b.0]))
}

/// Multiplications from which turning the axes of matrices costs less than a product in place of loops gains.
const WORTH_TURNING: u64 = 2048;

/// The matrix product that an einsum of two values is once their axes are in another order, if it is one whose left operand is `a`.
fn turned_product(graph: &mut Graph, a: (NodeId, &[String]), b: (NodeId, &[String]), result: &[String]) -> Option<NodeId> {
    let (left, right) = (graph[a.0].ty.clone(), graph[b.0].ty.clone());
    let plain = left.is_plain() && right.is_plain() && left.space == Space::Example;
    let shared: Vec<&String> = a.1.iter().filter(|name| b.1.contains(name)).collect();
    let (batch, inner): (Vec<&String>, Vec<&String>) = shared.iter().partition(|name| result.contains(name));
    let alone = |own: &[String]| own.iter().filter(|name| !shared.contains(name)).cloned().collect::<Vec<_>>();
    let (rows, columns) = (alone(a.1), alone(b.1));
    let [inner] = inner.as_slice() else { return None };
    if !plain || rows.is_empty() || columns.is_empty() || !rows.iter().chain(&columns).all(|name| result.contains(name)) {
        return None;
    }
    let inner = [(*inner).clone()];
    let sizes = a.1.iter().zip(&left.dims).chain(columns.iter().map(|name| (name, &right.dims[place(b.1, name)])));
    if sizes.filter_map(|(_, dim)| dim.fixed()).product::<u64>() < WORTH_TURNING {
        return None;
    }
    let sides = Sides { a, b, rows, inner, columns };
    let (node, order) = match (right.space, batch.as_slice()) {
        (Space::Global, []) => sides.by_weights(graph, result),
        (Space::Example, [_] | []) if sides.rows.len() == 1 && sides.columns.len() == 1 => {
            sides.of_each(graph, batch.into_iter().cloned().collect())
        }
        _ => return None,
    };
    Some(turned(graph, (node, &order), result))
}

/// Two values and their axes: those of the left one alone, the one that is summed over, those of the right one alone.
struct Sides<'s> {
    a: (NodeId, &'s [String]),
    b: (NodeId, &'s [String]),
    rows: Vec<String>,
    inner: [String; 1],
    columns: Vec<String>,
}

impl Sides<'_> {
    /// The product with a value that exists once, whose own axes become one, and its axes.
    fn by_weights(self, graph: &mut Graph, result: &[String]) -> (NodeId, Vec<String>) {
        // Rows may come in any order: in their own, or in that of the result.
        let ordered = result.iter().filter(|name| self.rows.contains(name)).cloned().collect();
        let rows: Vec<String> = if self.a.1.last() == self.inner.first() { self.rows } else { ordered };
        let a = turned(graph, self.a, &[&rows[..], &self.inner].concat());
        let b = turned(graph, self.b, &[&self.inner, &self.columns[..]].concat());
        let order = [&rows[..], &self.columns].concat();
        let dims = graph[b].ty.dims.clone();
        let product = Op::MatMul(MatMul { transposed: false });
        if dims.len() == 2 {
            return (graph.add(product, &[a, b]), order);
        }
        let width = Dim::Fixed(dims[1..].iter().filter_map(|dim| dim.fixed()).product());
        let flat = graph.add(Op::Reshape(Reshape { dims: vec![dims[0], width] }), &[b]);
        let product = graph.add(product, &[a, flat]);
        let dims = graph[a].ty.dims[..rows.len()].iter().chain(&dims[1..]).copied().collect();
        (graph.add(Op::Reshape(Reshape { dims }), &[product]), order)
    }

    /// The product of two matrices of each example, or of several side by side, and its axes.
    fn of_each(self, graph: &mut Graph, middle: Vec<String>) -> (NodeId, Vec<String>) {
        let a = turned(graph, self.a, &[&self.rows[..], &middle, &self.inner].concat());
        let b = turned(graph, self.b, &[&self.inner[..], &middle, &self.columns].concat());
        let product = BatchMatMul { left_transposed: false, right_transposed: false };
        (graph.add(Op::BatchMatMul(product), &[a, b]), [&self.rows[..], &middle, &self.columns].concat())
    }
}

fn place(names: &[String], name: &String) -> usize {
    names.iter().position(|own| own == name).unwrap_or_else(|| unreachable!("`{name}` is an axis of `{}`", names.join(" ")))
}

/// A value with its axes in another order.
fn turned(graph: &mut Graph, (node, names): (NodeId, &[String]), order: &[String]) -> NodeId {
    if names == order {
        return node;
    }
    let ty = graph[node].ty.clone();
    let dims = order.iter().map(|name| ty.dims[place(names, name)]).collect();
    let axes = names.iter().map(|name| place(order, name)).collect();
    graph.add(Op::Broadcast(Broadcast { space: ty.space, dims, axes }), &[node])
}
