//! `reshape`, `softmax`, `hold` and `floor`: functions that keep the elements or the shape of their argument, or round it.

use super::Checker;
use super::calls::Args;
use super::value::{AxisId, Tensor, Value, describe_type};
use crate::graph::{Dim, NodeId};
use crate::loops::Combine;
use crate::ops::{Broadcast, Hold, Op, Reduce, Reshape};
use crate::problem::Problem;
use crate::scalar::ScalarOp;

impl Checker<'_> {
    /// `reshape(x, [a, b])`: the same elements in the same order, by other axes.
    pub(super) fn reshape(&mut self, mut args: Args) -> Value {
        let [x, shape] = args.take(self, "reshape", ["x", "shape"]);
        args.done(self, "reshape");
        let Some(tensor) = self.tensor(&x) else { return Value::Poison };
        let ty = self.graph[tensor.node].ty.clone();
        // The axis of entries stays.
        let entries = ty.dims.first().copied().filter(|dim| dim.fixed().is_none());
        if !ty.is_plain() {
            self.refuse_bag(&tensor, x.span);
            return Value::Poison;
        }
        let sizes: Option<Vec<u64>> = match &shape.value {
            Value::Poison => return Value::Poison,
            Value::List(items) => items.iter().map(|item| item.as_int().and_then(|size| u64::try_from(size).ok())).collect(),
            _ => None,
        };
        let Some(sizes) = sizes.filter(|sizes| !sizes.is_empty() && sizes.iter().all(|size| *size > 0)) else {
            let text = shape.value.describe(&self.graph);
            let problem = Problem::error("E0225", shape.span, "a shape is a list of whole numbers above 0").here(format!("this is {text}"));
            self.report(problem.help("such as `reshape(x, [4, 8])`"));
            return Value::Poison;
        };
        let tensor = self.spread(tensor);
        let count = ty.fixed_len();
        let wanted = sizes.iter().try_fold(1u64, |product, size| product.checked_mul(*size));
        if wanted != Some(count) {
            let text = describe_type(&self.graph, tensor.node);
            let wanted = wanted.map_or("far more".to_owned(), |wanted| wanted.to_string());
            let problem = Problem::error("E0225", shape.span, format!("this shape has {wanted} elements, and the value has {count}"));
            self.report(problem.and(x.span, format!("this is {text}")).help("the product of the sizes is the number of elements"));
            return Value::Poison;
        }
        let mut axes: Vec<AxisId> = if entries.is_some() { vec![tensor.axes[0]] } else { Vec::new() };
        axes.extend(sizes.iter().map(|_| self.fresh_axis()));
        let dims = entries.into_iter().chain(sizes.into_iter().map(Dim::Fixed)).collect();
        Value::Tensor(Tensor { node: self.graph.add(Op::Reshape(Reshape { dims }), &[tensor.node]), axes })
    }

    /// `softmax(x)` along the last axis, or `softmax(x, axis: …)`: e^x over its sum. The largest is taken off before, so that nothing overflows;
    /// it changes no result, and no gradient goes through it.
    pub(super) fn softmax(&mut self, mut args: Args) -> Value {
        let axis = args.take_axis();
        let [x] = args.take(self, "softmax", ["x"]);
        args.done(self, "softmax");
        let Some(tensor) = self.tensor(&x) else { return Value::Poison };
        let at = match &axis {
            Some(axis) => self.axis_position(&tensor, axis),
            None => tensor.axes.len().checked_sub(1),
        };
        let Some(at) = at else {
            if axis.is_none() {
                let problem = Problem::error("E0202", x.span, "`softmax` takes a value with an axis").here("this is one number");
                self.report(problem.help("`sigmoid(x)` makes a probability of one number"));
            }
            return Value::Poison;
        };
        let tensor = self.spread(tensor);
        let largest = self.reduced_and_repeated(tensor.node, at, Combine::Max);
        let largest = self.graph.add(Op::Hold(Hold), &[largest]);
        let below = self.graph.map(ScalarOp::Sub, &[tensor.node, largest]);
        let powers = self.graph.map(ScalarOp::Exp, &[below]);
        let total = self.reduced_and_repeated(powers, at, Combine::Add);
        Value::Tensor(Tensor { node: self.graph.map(ScalarOp::Div, &[powers, total]), axes: tensor.axes })
    }

    /// A reduction along one axis, repeated along it.
    fn reduced_and_repeated(&mut self, node: NodeId, at: usize, combine: Combine) -> NodeId {
        let ty = self.graph[node].ty.clone();
        let reduced = self.graph.add(Op::Reduce(Reduce { combine, axes: vec![at] }), &[node]);
        let axes = (0..ty.dims.len()).filter(|axis| *axis != at).collect();
        self.graph.add(Op::Broadcast(Broadcast { space: ty.space, dims: ty.dims, axes }), &[reduced])
    }

    /// `floor(x)` of a constant: the largest whole number that is not above it.
    pub(super) fn floor(&mut self, mut args: Args) -> Value {
        let [x] = args.take(self, "floor", ["x"]);
        args.done(self, "floor");
        match x.value.as_float() {
            Some(number) if number.abs() < 2f64.powi(53) => Value::Int(number.floor() as i64),
            _ if matches!(x.value, Value::Poison) => Value::Poison,
            _ => {
                let text = x.value.describe(&self.graph);
                let problem = Problem::error("E0201", x.span, "`floor` takes a number that is known at compile time");
                self.report(problem.here(format!("this is {text}")).help("it makes whole numbers for sizes, such as `floor(F / 3)`"));
                Value::Poison
            }
        }
    }

    /// `hold(x)`: the value, as a constant to gradients.
    pub(super) fn hold(&mut self, mut args: Args) -> Value {
        let [x] = args.take(self, "hold", ["x"]);
        args.done(self, "hold");
        match self.tensor(&x) {
            Some(Tensor { node, axes }) => Value::Tensor(Tensor { node: self.graph.add(Op::Hold(Hold), &[node]), axes }),
            None => Value::Poison,
        }
    }
}
