//! What a loop does to one vector of iterations, on as many registers as it wants.

use crate::math::Comparison;
use recc_core::loops::Type;

/// A register: a vector, or the truth values of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Value(pub(super) u32);

/// What an instruction takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    Value(Value),
    /// The same bits in all lanes.
    Constant(u32),
    /// A number of the frame in all lanes.
    Scalar(usize),
    /// The numbers from this one on, one a lane.
    Numbers(u32),
    /// A sum's parts.
    Sum(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    /// The second if either is NaN, or both are zero.
    Min,
    Max,
    And,
    Or,
    Xor,
    AddInt,
    SubInt,
    MulInt,
    MinInt,
    MaxInt,
}

impl Binary {
    pub(super) fn commutes(self) -> bool {
        !matches!(self, Binary::Sub | Binary::Div | Binary::Min | Binary::Max | Binary::SubInt)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unary {
    Sqrt,
    FloatOfInt,
    /// Towards zero; the least integer where there is none.
    IntOfFloat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shift {
    Left,
    Right,
    RightSigned,
}

/// Two truth values to one, or one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logic {
    And,
    Or,
    Not,
}

/// An integer that is the same for all lanes, and changes inside the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Integer {
    /// The variable of the inner loop.
    Counter,
    /// A loaded one.
    Slot(usize),
}

/// Where an element lies: so many bytes behind the place of a stream, and further by integers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) stream: usize,
    pub(super) bytes: i32,
    /// Integers and their strides in bytes.
    pub(super) further: Vec<(Integer, i32)>,
}

/// How often an inner loop runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    Constant(i32),
    /// A whole number of the frame.
    Whole(usize),
}

/// One instruction.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Inst {
    Binary {
        op: Binary,
        to: Value,
        a: Operand,
        b: Operand,
    },
    /// `a * b + c`, rounded once.
    MulAdd {
        to: Value,
        a: Operand,
        b: Operand,
        c: Operand,
    },
    Unary {
        op: Unary,
        to: Value,
        a: Operand,
    },
    Shift {
        op: Shift,
        to: Value,
        a: Operand,
        by: u8,
    },
    Compare {
        comparison: Comparison,
        to: Value,
        a: Operand,
        b: Operand,
    },
    Logic {
        op: Logic,
        to: Value,
        a: Value,
        b: Value,
    },
    Select {
        to: Value,
        condition: Value,
        a: Operand,
        b: Operand,
    },
    /// The iteration of each lane.
    Counter {
        to: Value,
    },
    /// Truth values from the bits of a number: whether its first bit is set.
    Truth {
        to: Value,
        a: Operand,
    },
    /// Elements of consecutive iterations. What is `partial` here and below holds for the lanes of the last iterations only.
    Load {
        to: Value,
        from: Place,
        element: Type,
        partial: bool,
    },
    /// One element in all lanes.
    Spread {
        to: Value,
        from: Place,
    },
    /// An integer.
    LoadInteger {
        slot: usize,
        from: Place,
    },
    /// Elements `index` times `scale` bytes behind a place, to which the round adds nothing.
    Gather {
        to: Value,
        from: Place,
        index: Value,
        scale: u8,
        partial: bool,
    },
    Store {
        to: Place,
        value: Operand,
        partial: bool,
    },
    /// One number, of those that are the same in all lanes.
    StoreOne {
        to: Place,
        value: Operand,
    },
    /// The lanes so many places further, round and round.
    Turn {
        to: Value,
        a: Operand,
        by: u8,
    },
    /// A sum of the body's own begins.
    Begin {
        sum: usize,
        identity: f32,
    },
    AddTo {
        sum: usize,
        value: Operand,
        partial: bool,
    },
    SetSum {
        sum: usize,
        value: Operand,
        partial: bool,
    },
    /// A loop for all lanes at a time, up to its end.
    LoopBegin {
        begin: Bound,
        end: Bound,
    },
    LoopEnd {
        end: Bound,
    },
}

impl Inst {
    /// What it defines.
    pub(super) fn defines(&self) -> Option<Value> {
        match *self {
            Inst::Binary { to, .. }
            | Inst::MulAdd { to, .. }
            | Inst::Unary { to, .. }
            | Inst::Shift { to, .. }
            | Inst::Compare { to, .. }
            | Inst::Logic { to, .. }
            | Inst::Select { to, .. }
            | Inst::Counter { to }
            | Inst::Truth { to, .. }
            | Inst::Load { to, .. }
            | Inst::Spread { to, .. }
            | Inst::Turn { to, .. }
            | Inst::Gather { to, .. } => Some(to),
            Inst::LoadInteger { .. }
            | Inst::Store { .. }
            | Inst::StoreOne { .. }
            | Inst::Begin { .. }
            | Inst::AddTo { .. }
            | Inst::SetSum { .. }
            | Inst::LoopBegin { .. }
            | Inst::LoopEnd { .. } => None,
        }
    }

    /// The registers it reads.
    pub(super) fn reads(&self) -> Vec<Value> {
        let value = |operand: Operand| if let Operand::Value(value) = operand { Some(value) } else { None };
        match *self {
            Inst::Binary { a, b, .. } | Inst::Compare { a, b, .. } => [a, b].into_iter().filter_map(value).collect(),
            Inst::MulAdd { a, b, c, .. } => [a, b, c].into_iter().filter_map(value).collect(),
            Inst::Unary { a, .. } | Inst::Shift { a, .. } | Inst::Truth { a, .. } | Inst::Turn { a, .. } => value(a).into_iter().collect(),
            Inst::Logic { a, b, .. } => vec![a, b],
            Inst::Select { condition, a, b, .. } => [Some(condition), value(a), value(b)].into_iter().flatten().collect(),
            Inst::Gather { index, .. } => vec![index],
            Inst::Store { value: own, .. }
            | Inst::StoreOne { value: own, .. }
            | Inst::AddTo { value: own, .. }
            | Inst::SetSum { value: own, .. } => value(own).into_iter().collect(),
            Inst::Counter { .. }
            | Inst::Load { .. }
            | Inst::Spread { .. }
            | Inst::LoadInteger { .. }
            | Inst::Begin { .. }
            | Inst::LoopBegin { .. }
            | Inst::LoopEnd { .. } => Vec::new(),
        }
    }
}
