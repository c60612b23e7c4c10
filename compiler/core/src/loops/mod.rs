//! The loop IR: fused groups of nodes as loop nests over scalar instructions.
//!
//! It is what every code generator reads. A kernel works on a range of items (examples, rows of a table, or elements); it loads and
//! stores by affine indices, so that bounds are checked here and not in each machine. Registers are assigned once, accumulators
//! excepted. A loop marked `vector` may run several iterations at a time: its body's stores move by one element with its
//! variable, its loads by any number of them or not at all.

mod cost;
mod dead;
mod merge;
mod print;
mod vectorise;
mod verify;

use crate::scalar::ScalarOp;
use recc_abi::{BufferId, Element, PartitionPart};

pub use cost::{Cost, cost};
pub use dead::{drop_dead, loaded_buffers, stored_buffers, sums_of_outside, touched_buffers};
pub use merge::{merge_loops, rename};
pub use vectorise::vectorise;
pub use verify::{VerifiedKernel, Violation, verify};

/// A scalar register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reg(pub u32);

/// The variable of a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoopVar(pub u32);

/// What an index is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Term {
    /// A loop's variable.
    Var(LoopVar),
    /// An integer register.
    Reg(Reg),
}

/// `offset + Σ stride · term`, in elements.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Affine {
    /// Sorted by term, strides not zero.
    pub terms: Vec<(Term, i64)>,
    /// The constant part.
    pub offset: i64,
}

impl Affine {
    /// A constant.
    pub fn constant(offset: i64) -> Self {
        Affine { terms: Vec::new(), offset }
    }
    /// A loop's variable.
    pub fn var(var: LoopVar) -> Self {
        Affine { terms: vec![(Term::Var(var), 1)], offset: 0 }
    }
    /// An integer register.
    pub fn reg(reg: Reg) -> Self {
        Affine { terms: vec![(Term::Reg(reg), 1)], offset: 0 }
    }
    /// The sum.
    pub fn plus(&self, other: &Affine) -> Affine {
        let mut terms = self.terms.clone();
        for &(term, stride) in &other.terms {
            match terms.iter_mut().find(|(own, _)| *own == term) {
                Some((_, own)) => *own += stride,
                None => terms.push((term, stride)),
            }
        }
        terms.retain(|(_, stride)| *stride != 0);
        terms.sort();
        Affine { terms, offset: self.offset + other.offset }
    }
    /// The product with a constant.
    pub fn times(&self, factor: i64) -> Affine {
        if factor == 0 {
            return Affine::default();
        }
        Affine { terms: self.terms.iter().map(|&(term, stride)| (term, stride * factor)).collect(), offset: self.offset * factor }
    }
    /// How far it moves when the variable moves by one.
    pub fn stride(&self, var: LoopVar) -> i64 {
        self.terms.iter().find(|(term, _)| *term == Term::Var(var)).map_or(0, |(_, stride)| *stride)
    }
}

/// Register types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// 32-bit integer.
    I32,
    /// A truth value.
    Bool,
    /// 16-bit float, in buffers only: loaded as `f32`.
    F16,
    /// 8-bit integer, in buffers only: loaded as `f32`.
    I8,
}

impl Type {
    /// The type of a register that an element is loaded to.
    pub fn loaded(self) -> Type {
        match self {
            Type::F16 | Type::I8 => Type::F32,
            other => other,
        }
    }

    /// Size of an element in a buffer.
    pub fn bytes(self) -> i64 {
        match self {
            Type::F32 | Type::I32 => 4,
            Type::F64 => 8,
            Type::F16 => 2,
            Type::Bool | Type::I8 => 1,
        }
    }
}

impl From<Element> for Type {
    fn from(element: Element) -> Type {
        match element {
            Element::F32 => Type::F32,
            Element::F64 => Type::F64,
            Element::I32 => Type::I32,
            Element::F16 => Type::F16,
            Element::I8 => Type::I8,
        }
    }
}

/// A value computed once.
#[derive(Clone, Debug, PartialEq)]
pub enum Instr {
    /// A constant.
    Const(f64),
    /// An element of a buffer.
    Load {
        /// Position in [`Kernel::buffers`].
        buffer: usize,
        /// Which element.
        index: Affine,
    },
    /// A scalar instruction.
    Scalar(ScalarOp, Vec<Reg>),
    /// The key of an example's random numbers: a function of the key of place, seed and epoch, and of the row number.
    RowKey {
        /// Key of place, seed and epoch.
        key: Reg,
        /// Row number of the example.
        row: Reg,
    },
    /// Uniform on [0, 1): a function of a row's key and the element.
    Random {
        /// The row's key.
        row_key: Reg,
        /// Element within the example.
        element: Affine,
    },
    /// `a + b` of integers.
    AddInt(Reg, Reg),
    /// `a - b` of integers, as `f32`.
    CountBetween(Reg, Reg),
    /// A place as an integer.
    Place(Affine),
    /// A number without its fraction as an integer of `0..n`, the nearest where it is none.
    Choice(Reg, u32),
    /// The integer of `begin..end` nearest to another.
    Clamp {
        /// The other.
        number: Reg,
        /// The first.
        begin: Reg,
        /// One behind the last.
        end: Reg,
    },
}

/// How an accumulator takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Combine {
    /// Sum.
    Add,
    /// Largest.
    Max,
    /// Smallest.
    Min,
}

impl Combine {
    /// The value that changes nothing.
    pub fn identity(self) -> f64 {
        match self {
            Combine::Add => 0.0,
            Combine::Max => f64::NEG_INFINITY,
            Combine::Min => f64::INFINITY,
        }
    }
    /// The instruction it is.
    pub fn scalar(self) -> ScalarOp {
        match self {
            Combine::Add => ScalarOp::Add,
            Combine::Max => ScalarOp::Max,
            Combine::Min => ScalarOp::Min,
        }
    }
}

/// How often a loop runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Extent {
    /// Once per item of the call; the variable is the item's place in the call, from 0.
    Items,
    /// A fixed number.
    Fixed(u64),
    /// From one integer register to another, which is excluded; the variable takes those values.
    Between(Reg, Reg),
}

/// A statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Stmt {
    /// Defines a register.
    Let {
        /// The register.
        reg: Reg,
        /// Its type.
        ty: Type,
        /// Its value.
        instr: Instr,
    },
    /// Defines an accumulator with the identity of how it combines.
    Accumulator {
        /// The register.
        reg: Reg,
        /// Its type.
        ty: Type,
        /// How it combines.
        combine: Combine,
    },
    /// Adds to an accumulator.
    Accumulate {
        /// The accumulator.
        reg: Reg,
        /// How.
        combine: Combine,
        /// What.
        value: Reg,
    },
    /// Writes an element.
    Store {
        /// Position in [`Kernel::buffers`].
        buffer: usize,
        /// Which element.
        index: Affine,
        /// What.
        value: Reg,
        /// Adds to what is there.
        accumulate: bool,
    },
    /// A loop.
    For {
        /// Its variable.
        var: LoopVar,
        /// How often.
        extent: Extent,
        /// Whether iterations may run side by side.
        vector: bool,
        /// What it does.
        body: Vec<Stmt>,
    },
    /// A matrix product over all items of the call, or one for each.
    MatMul(Box<MatMul>),
    /// A part of a softmax over all rows of a table, over all items of the call.
    Partition(Box<Partition>),
}

impl Stmt {
    /// The buffers that a call of the runtime reads, and the one that it writes.
    pub fn call(&self) -> Option<(Vec<usize>, usize)> {
        match self {
            Stmt::MatMul(product) => Some((product.read().collect(), product.dst.buffer)),
            Stmt::Partition(partition) => Some((partition.read().collect(), partition.dst.buffer)),
            Stmt::Let { .. } | Stmt::Accumulator { .. } | Stmt::Accumulate { .. } | Stmt::Store { .. } | Stmt::For { .. } => None,
        }
    }
}

/// One operand of a matrix product.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// Position in [`Kernel::buffers`].
    pub buffer: usize,
    /// First element.
    pub offset: i64,
    /// Elements from row to row.
    pub row: i64,
    /// Elements from column to column.
    pub column: i64,
    /// Elements from entry to entry, where its first element belongs to the first entry of the items; else 0.
    pub entry: i64,
}

/// A size that may hold the number of items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// A fixed size.
    Fixed(i64),
    /// Items times a factor.
    Items(i64),
    /// Entries of the items times a factor: see [`MatMul::entries`].
    Entries(i64),
}

/// `dst (+)= a · b`.
#[derive(Clone, Debug, PartialEq)]
pub struct MatMul {
    /// Rows of `a` and `dst`.
    pub m: Size,
    /// Columns of `b` and `dst`.
    pub n: Size,
    /// Columns of `a`, rows of `b`.
    pub k: Size,
    /// The result; its columns are adjacent.
    pub dst: Matrix,
    /// Left.
    pub a: Matrix,
    /// Right; the one that may hold `f16` or `i8`.
    pub b: Matrix,
    /// The buffer with the scales of the right one's rows in memory, where it holds `i8`.
    pub scales: Option<usize>,
    /// Adds to what is there.
    pub accumulate: bool,
    /// One product for each item of the call, whose matrices lie this far apart.
    pub each: Option<ItemStrides>,
    /// The buffer that says where each item's entries begin: of sizes that are a number of entries, and of matrices that move with them.
    pub entries: Option<usize>,
    /// So many products side by side, for each item, whose matrices lie this far apart.
    pub heads: Option<(i64, ItemStrides)>,
    /// Factors are rounded to bfloat16; sums are 32-bit floats all the same.
    pub bf16: bool,
}

/// Elements from one matrix to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemStrides {
    /// Of the result.
    pub dst: i64,
    /// Of the left operand.
    pub a: i64,
    /// Of the right operand.
    pub b: i64,
}

impl MatMul {
    /// The buffers it reads.
    pub fn read(&self) -> impl Iterator<Item = usize> {
        [self.a.buffer, self.b.buffer].into_iter().chain(self.scales).chain(self.entries)
    }
}

/// A part of a softmax over the products of queries with all rows of a table: see [`recc_abi::PartitionFn`].
#[derive(Clone, Debug, PartialEq)]
pub struct Partition {
    /// Which part.
    pub part: PartitionPart,
    /// Numbers of a query, and of a row.
    pub width: i64,
    /// Queries, or rows where the part is computed for each: those of the call.
    pub items: Size,
    /// The buffer that says where each item's entries begin, where the items are a number of entries.
    pub entries: Option<usize>,
    /// The buffer that holds the number of the others: rows, or queries where the items are rows.
    pub others: usize,
    /// The queries.
    pub queries: Vectors,
    /// The rows.
    pub rows: Vectors,
    /// The log of each query's sum, and its number, of what is no such log itself.
    pub sums: Option<[Vectors; 2]>,
    /// The result.
    pub dst: Vectors,
}

/// Numbers one behind another, so many for each item or entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vectors {
    /// Position in [`Kernel::buffers`].
    pub buffer: usize,
    /// Elements from entry to entry, where its first element belongs to the first entry of all; else 0.
    pub entry: i64,
}

impl Partition {
    /// The buffers it reads.
    pub fn read(&self) -> impl Iterator<Item = usize> {
        let sums = self.sums.iter().flatten().map(|own| own.buffer);
        [self.queries.buffer, self.rows.buffer, self.others].into_iter().chain(sums).chain(self.entries)
    }

    /// Its places, by which buffers are numbered.
    fn buffers_mut(&mut self) -> impl Iterator<Item = &mut usize> {
        let sums = self.sums.iter_mut().flatten().map(|own| &mut own.buffer);
        let own = [&mut self.queries.buffer, &mut self.rows.buffer, &mut self.others, &mut self.dst.buffer];
        own.into_iter().chain(sums).chain(self.entries.as_mut())
    }
}

/// A buffer as a kernel sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct BufferArg {
    /// The plan's buffer.
    pub id: BufferId,
    /// Its name, for people.
    pub name: String,
    /// Its elements.
    pub ty: Type,
    /// Elements from item to item, as the kernel's indices move; 0 where no index moves with the item.
    pub item_stride: i64,
    /// Whether the base is that of the first item of all, so that the first item of the call moves it.
    pub moves: bool,
    /// Elements the kernel may touch (of one item, where indices move with it), if known; for verification.
    pub len: Option<u64>,
}

/// A kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    /// Its symbol.
    pub name: String,
    /// The buffers it touches.
    pub buffers: Vec<BufferArg>,
    /// What it does.
    pub body: Vec<Stmt>,
}

/// Registers and variables a kernel's instruction reads.
pub fn reads(instr: &Instr) -> (Vec<Reg>, Vec<LoopVar>) {
    let mut regs = Vec::new();
    let mut vars = Vec::new();
    let mut affine = |index: &Affine| {
        for (term, _) in &index.terms {
            match term {
                Term::Var(var) => vars.push(*var),
                Term::Reg(reg) => regs.push(*reg),
            }
        }
    };
    match instr {
        Instr::Const(_) => {}
        Instr::Load { index, .. } => affine(index),
        Instr::RowKey { key, row } => regs.extend([*key, *row]),
        Instr::Random { row_key, element } => {
            affine(element);
            regs.push(*row_key);
        }
        Instr::Scalar(_, operands) => regs.extend(operands),
        Instr::AddInt(a, b) | Instr::CountBetween(a, b) => regs.extend([*a, *b]),
        Instr::Place(place) => affine(place),
        Instr::Choice(number, _) => regs.push(*number),
        Instr::Clamp { number, begin, end } => regs.extend([*number, *begin, *end]),
    }
    (regs, vars)
}
