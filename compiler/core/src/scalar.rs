//! Scalar instructions: what one element of an elementwise operator computes.
//!
//! The same set serves the tensor graph (`map` nodes) and the loop IR. Every phase is one exhaustive match: evaluate here,
//! derive here, print here, machine code in the code generators.

use crate::graph::{Graph, NodeId};

/// A scalar instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ScalarOp {
    /// a + b
    Add,
    /// a - b
    Sub,
    /// a · b
    Mul,
    /// a / b
    Div,
    /// The smaller; NaN if either is.
    Min,
    /// The larger; NaN if either is.
    Max,
    /// -a
    Neg,
    /// |a|
    Abs,
    /// e^a
    Exp,
    /// Natural logarithm.
    Log,
    /// ln(1 + a), exact for small a.
    Log1p,
    /// Square root.
    Sqrt,
    /// 1 / (1 + e^-a)
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// ln(1 + e^a), which neither overflows nor loses small values.
    Softplus,
    /// Sine of an angle in radians.
    Sin,
    /// Cosine of an angle in radians.
    Cos,
    /// The angle, from -π to π, of the point with ordinate a and abscissa b.
    Atan2,
    /// a < b
    Lt,
    /// a <= b
    Le,
    /// a == b
    Eq,
    /// not a
    Not,
    /// a and b
    And,
    /// a or b
    Or,
    /// b where a holds, else c.
    Select,
    /// `f32` to `f64`.
    Widen,
    /// `f64` to `f32`.
    Narrow,
}

/// What an instruction takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// Numbers of one type to the same type.
    Numbers,
    /// Numbers to a truth value.
    Compare,
    /// Truth values to one.
    Logic,
    /// A truth value and two numbers.
    Select,
    /// One `f32` to `f64`.
    Widen,
    /// One `f64` to `f32`.
    Narrow,
}

impl ScalarOp {
    /// All of them, for tests.
    pub const ALL: [ScalarOp; 27] = [
        ScalarOp::Add,
        ScalarOp::Sub,
        ScalarOp::Mul,
        ScalarOp::Div,
        ScalarOp::Min,
        ScalarOp::Max,
        ScalarOp::Neg,
        ScalarOp::Abs,
        ScalarOp::Exp,
        ScalarOp::Log,
        ScalarOp::Log1p,
        ScalarOp::Sqrt,
        ScalarOp::Sigmoid,
        ScalarOp::Tanh,
        ScalarOp::Softplus,
        ScalarOp::Sin,
        ScalarOp::Cos,
        ScalarOp::Atan2,
        ScalarOp::Lt,
        ScalarOp::Le,
        ScalarOp::Eq,
        ScalarOp::Not,
        ScalarOp::And,
        ScalarOp::Or,
        ScalarOp::Select,
        ScalarOp::Widen,
        ScalarOp::Narrow,
    ];

    /// The name in printed graphs and loops.
    pub fn name(self) -> &'static str {
        match self {
            ScalarOp::Add => "add",
            ScalarOp::Sub => "sub",
            ScalarOp::Mul => "mul",
            ScalarOp::Div => "div",
            ScalarOp::Min => "min",
            ScalarOp::Max => "max",
            ScalarOp::Neg => "neg",
            ScalarOp::Abs => "abs",
            ScalarOp::Exp => "exp",
            ScalarOp::Log => "log",
            ScalarOp::Log1p => "log1p",
            ScalarOp::Sqrt => "sqrt",
            ScalarOp::Sigmoid => "sigmoid",
            ScalarOp::Tanh => "tanh",
            ScalarOp::Softplus => "softplus",
            ScalarOp::Sin => "sin",
            ScalarOp::Cos => "cos",
            ScalarOp::Atan2 => "atan2",
            ScalarOp::Lt => "lt",
            ScalarOp::Le => "le",
            ScalarOp::Eq => "eq",
            ScalarOp::Not => "not",
            ScalarOp::And => "and",
            ScalarOp::Or => "or",
            ScalarOp::Select => "select",
            ScalarOp::Widen => "widen",
            ScalarOp::Narrow => "narrow",
        }
    }

    /// How many operands.
    pub fn arity(self) -> usize {
        match self {
            ScalarOp::Add | ScalarOp::Sub | ScalarOp::Mul | ScalarOp::Div | ScalarOp::Min | ScalarOp::Max => 2,
            ScalarOp::Lt | ScalarOp::Le | ScalarOp::Eq | ScalarOp::And | ScalarOp::Or | ScalarOp::Atan2 => 2,
            ScalarOp::Neg | ScalarOp::Abs | ScalarOp::Exp | ScalarOp::Log | ScalarOp::Log1p | ScalarOp::Sqrt => 1,
            ScalarOp::Sigmoid | ScalarOp::Tanh | ScalarOp::Softplus | ScalarOp::Sin | ScalarOp::Cos => 1,
            ScalarOp::Not | ScalarOp::Widen | ScalarOp::Narrow => 1,
            ScalarOp::Select => 3,
        }
    }

    /// What it takes and gives.
    pub fn signature(self) -> Signature {
        match self {
            ScalarOp::Lt | ScalarOp::Le | ScalarOp::Eq => Signature::Compare,
            ScalarOp::Not | ScalarOp::And | ScalarOp::Or => Signature::Logic,
            ScalarOp::Select => Signature::Select,
            ScalarOp::Widen => Signature::Widen,
            ScalarOp::Narrow => Signature::Narrow,
            ScalarOp::Add | ScalarOp::Sub | ScalarOp::Mul | ScalarOp::Div | ScalarOp::Min | ScalarOp::Max => Signature::Numbers,
            ScalarOp::Neg | ScalarOp::Abs | ScalarOp::Exp | ScalarOp::Log | ScalarOp::Log1p | ScalarOp::Sqrt => Signature::Numbers,
            ScalarOp::Sigmoid | ScalarOp::Tanh | ScalarOp::Softplus | ScalarOp::Sin | ScalarOp::Cos | ScalarOp::Atan2 => Signature::Numbers,
        }
    }

    /// Rough cost in machine instructions, for deciding what to compute twice.
    pub fn cost(self) -> u32 {
        match self {
            ScalarOp::Exp | ScalarOp::Log | ScalarOp::Log1p | ScalarOp::Sigmoid | ScalarOp::Tanh | ScalarOp::Softplus => 16,
            ScalarOp::Sin | ScalarOp::Cos | ScalarOp::Atan2 => 16,
            ScalarOp::Div | ScalarOp::Sqrt => 6,
            ScalarOp::Add | ScalarOp::Sub | ScalarOp::Mul | ScalarOp::Min | ScalarOp::Max | ScalarOp::Neg | ScalarOp::Abs => 1,
            ScalarOp::Lt | ScalarOp::Le | ScalarOp::Eq | ScalarOp::Not | ScalarOp::And | ScalarOp::Or => 1,
            ScalarOp::Select | ScalarOp::Widen | ScalarOp::Narrow => 1,
        }
    }

    /// The value on `f64`; truth values are 0 and 1.
    pub fn eval(self, x: &[f64]) -> f64 {
        let truth = |b: bool| if b { 1.0 } else { 0.0 };
        match (self, x) {
            (ScalarOp::Add, [a, b]) => a + b,
            (ScalarOp::Sub, [a, b]) => a - b,
            (ScalarOp::Mul, [a, b]) => a * b,
            (ScalarOp::Div, [a, b]) => a / b,
            (ScalarOp::Min, [a, b]) => {
                if a.is_nan() || b.is_nan() {
                    f64::NAN
                } else {
                    a.min(*b)
                }
            }
            (ScalarOp::Max, [a, b]) => {
                if a.is_nan() || b.is_nan() {
                    f64::NAN
                } else {
                    a.max(*b)
                }
            }
            (ScalarOp::Neg, [a]) => -a,
            (ScalarOp::Abs, [a]) => a.abs(),
            (ScalarOp::Exp, [a]) => a.exp(),
            (ScalarOp::Log, [a]) => a.ln(),
            (ScalarOp::Log1p, [a]) => a.ln_1p(),
            (ScalarOp::Sqrt, [a]) => a.sqrt(),
            (ScalarOp::Sigmoid, [a]) => 1.0 / (1.0 + (-a).exp()),
            (ScalarOp::Tanh, [a]) => a.tanh(),
            (ScalarOp::Softplus, [a]) => {
                if a.is_nan() {
                    *a
                } else {
                    a.max(0.0) + (-a.abs()).exp().ln_1p()
                }
            }
            (ScalarOp::Sin, [a]) => a.sin(),
            (ScalarOp::Cos, [a]) => a.cos(),
            (ScalarOp::Atan2, [a, b]) => a.atan2(*b),
            (ScalarOp::Lt, [a, b]) => truth(a < b),
            (ScalarOp::Le, [a, b]) => truth(a <= b),
            (ScalarOp::Eq, [a, b]) => truth(a == b),
            (ScalarOp::Not, [a]) => truth(*a == 0.0),
            (ScalarOp::And, [a, b]) => truth(*a != 0.0 && *b != 0.0),
            (ScalarOp::Or, [a, b]) => truth(*a != 0.0 || *b != 0.0),
            (ScalarOp::Select, [c, a, b]) => {
                if *c != 0.0 {
                    *a
                } else {
                    *b
                }
            }
            (ScalarOp::Widen | ScalarOp::Narrow, [a]) => *a,
            (op, x) => unreachable!("{} takes {} operands, not {}", op.name(), op.arity(), x.len()),
        }
    }

    /// Gradients with respect to each operand, given `g`, the gradient of `out`; `None` where there is none.
    pub fn derive(self, graph: &mut Graph, g: NodeId, x: &[NodeId], out: NodeId) -> Vec<Option<NodeId>> {
        let mut b = Algebra { graph };
        match (self, x) {
            (ScalarOp::Add, [_, _]) => vec![Some(g), Some(g)],
            (ScalarOp::Sub, [_, _]) => vec![Some(g), Some(b.neg(g))],
            (ScalarOp::Mul, [p, q]) => vec![Some(b.mul(g, *q)), Some(b.mul(g, *p))],
            (ScalarOp::Div, [_, q]) => {
                let left = b.two(ScalarOp::Div, g, *q);
                let right = b.mul(left, out);
                vec![Some(left), Some(b.neg(right))]
            }
            // At equal operands the gradient goes to the second: `max(x, 0)` has gradient 0 at 0.
            (ScalarOp::Max, [p, q]) => b.choose(g, *q, *p),
            (ScalarOp::Min, [p, q]) => b.choose(g, *p, *q),
            (ScalarOp::Neg, [_]) => vec![Some(b.neg(g))],
            (ScalarOp::Abs, [p]) => {
                let zero = b.like(*p, 0.0);
                let negative = b.two(ScalarOp::Lt, *p, zero);
                let minus = b.neg(g);
                vec![Some(b.select(negative, minus, g))]
            }
            (ScalarOp::Exp, [_]) => vec![Some(b.mul(g, out))],
            (ScalarOp::Log, [p]) => vec![Some(b.two(ScalarOp::Div, g, *p))],
            (ScalarOp::Log1p, [p]) => {
                let one = b.like(*p, 1.0);
                let shifted = b.two(ScalarOp::Add, *p, one);
                vec![Some(b.two(ScalarOp::Div, g, shifted))]
            }
            (ScalarOp::Sqrt, [_]) => {
                let two = b.like(out, 2.0);
                let double = b.mul(two, out);
                vec![Some(b.two(ScalarOp::Div, g, double))]
            }
            (ScalarOp::Sigmoid, [_]) => {
                let one = b.like(out, 1.0);
                let rest = b.two(ScalarOp::Sub, one, out);
                let slope = b.mul(out, rest);
                vec![Some(b.mul(g, slope))]
            }
            (ScalarOp::Tanh, [_]) => {
                let one = b.like(out, 1.0);
                let square = b.mul(out, out);
                let slope = b.two(ScalarOp::Sub, one, square);
                vec![Some(b.mul(g, slope))]
            }
            (ScalarOp::Softplus, [p]) => {
                let slope = b.one(ScalarOp::Sigmoid, *p);
                vec![Some(b.mul(g, slope))]
            }
            (ScalarOp::Sin, [p]) => {
                let slope = b.one(ScalarOp::Cos, *p);
                vec![Some(b.mul(g, slope))]
            }
            (ScalarOp::Cos, [p]) => {
                let slope = b.one(ScalarOp::Sin, *p);
                let part = b.mul(g, slope);
                vec![Some(b.neg(part))]
            }
            (ScalarOp::Atan2, [p, q]) => {
                let (p_square, q_square) = (b.mul(*p, *p), b.mul(*q, *q));
                let square = b.two(ScalarOp::Add, p_square, q_square);
                // The angle of the origin is 0 and moves nowhere.
                let (zero, one) = (b.like(square, 0.0), b.like(square, 1.0));
                let apart = b.two(ScalarOp::Lt, zero, square);
                let square = b.select(apart, square, one);
                let part = b.two(ScalarOp::Div, g, square);
                let (left, right) = (b.mul(part, *q), b.mul(part, *p));
                vec![Some(left), Some(b.neg(right))]
            }
            (ScalarOp::Select, [c, _, _]) => {
                let zero = b.like(g, 0.0);
                vec![None, Some(b.select(*c, g, zero)), Some(b.select(*c, zero, g))]
            }
            (ScalarOp::Widen, [_]) => vec![Some(b.one(ScalarOp::Narrow, g))],
            (ScalarOp::Narrow, [_]) => vec![Some(b.one(ScalarOp::Widen, g))],
            (ScalarOp::Lt | ScalarOp::Le | ScalarOp::Eq | ScalarOp::And | ScalarOp::Or | ScalarOp::Not, x) => vec![None; x.len()],
            (op, x) => unreachable!("{} takes {} operands, not {}", op.name(), op.arity(), x.len()),
        }
    }
}

/// Elementwise nodes of one shape.
struct Algebra<'g> {
    graph: &'g mut Graph,
}

impl Algebra<'_> {
    fn one(&mut self, op: ScalarOp, a: NodeId) -> NodeId {
        self.graph.map(op, &[a])
    }
    fn two(&mut self, op: ScalarOp, a: NodeId, b: NodeId) -> NodeId {
        self.graph.map(op, &[a, b])
    }
    fn mul(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.two(ScalarOp::Mul, a, b)
    }
    fn neg(&mut self, a: NodeId) -> NodeId {
        self.one(ScalarOp::Neg, a)
    }
    fn select(&mut self, c: NodeId, a: NodeId, b: NodeId) -> NodeId {
        self.graph.map(ScalarOp::Select, &[c, a, b])
    }
    fn like(&mut self, shape: NodeId, value: f64) -> NodeId {
        self.graph.constant_like(shape, value)
    }
    /// Gradients of a choice between `low` and `high`'s owner: to the second listed where `low < high`.
    fn choose(&mut self, g: NodeId, low: NodeId, high: NodeId) -> Vec<Option<NodeId>> {
        let first = self.two(ScalarOp::Lt, low, high);
        let zero = self.like(g, 0.0);
        let to_first = self.select(first, g, zero);
        let to_second = self.select(first, zero, g);
        vec![Some(to_first), Some(to_second)]
    }
}
