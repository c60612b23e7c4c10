//! The syntax tree of a `.rec` file: what was written, with the place of everything, and no meaning yet.

/// Index of a source text among those of one compilation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// A range of bytes in one source text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The text the bytes are in.
    pub file: FileId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The smallest span that covers both; `self`'s file is kept.
    pub fn to(self, other: Span) -> Span {
        Span { file: self.file, start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// A name and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    /// The name as written.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

/// A parsed file.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// Its items in order.
    pub items: Vec<Item>,
}

/// One declaration at the top of a file.
#[derive(Clone, Debug)]
pub struct Item {
    /// Lines of `///` above it, without the slashes.
    pub docs: Vec<String>,
    /// The whole item.
    pub span: Span,
    /// What it declares.
    pub kind: ItemKind,
}

/// The kinds of items.
#[derive(Clone, Debug)]
pub enum ItemKind {
    /// `use std.dense.{linear, mlp}`
    Use(Use),
    /// `const WIDTH = 400`
    Const {
        /// The constant's name.
        name: Name,
        /// Its value unless overridden.
        value: Expr,
    },
    /// `data { … }`
    Data(Settings),
    /// `features { … }`
    Features(Vec<Feature>),
    /// `table t { … }`
    Table(Table),
    /// `block b(…) -> … { … }`
    Block(Block),
    /// `model m { … }`
    Model {
        /// The model's name.
        name: Name,
        /// Its statements.
        body: Body,
    },
    /// `ensemble e of [a, b] { … }`
    Ensemble {
        /// The ensemble's name.
        name: Name,
        /// The models fused.
        members: Expr,
        /// How they are fused.
        settings: Settings,
    },
    /// `cohort c = predicate`
    Cohort {
        /// The cohort's name.
        name: Name,
        /// Which examples belong to it.
        value: Expr,
    },
    /// `auxiliary a { … }`
    Auxiliary {
        /// The objective's name.
        name: Name,
        /// Its head, label and place.
        settings: Settings,
    },
    /// `objective { … }`
    Objective(Settings),
    /// `train { … }`
    Train(Settings),
    /// `metrics { … }`
    Metrics(Settings),
}

/// What a `use` names.
#[derive(Clone, Debug)]
pub enum Use {
    /// `use std.dense.{linear, mlp}`: names of one module.
    Module {
        /// `std`, `dense`
        path: Vec<Name>,
        /// `linear`, `mlp`
        names: Vec<Name>,
    },
    /// `use "blocks.rec" as mine`
    File {
        /// The path as written.
        path: String,
        /// Where the path stands.
        path_span: Span,
        /// The name its blocks are reached by.
        alias: Name,
    },
}

/// A table's name and settings.
#[derive(Clone, Debug)]
pub struct Table {
    /// The table's name.
    pub name: Name,
    /// `keys`, `dim`, …
    pub settings: Settings,
}

/// `key: value` pairs between braces.
#[derive(Clone, Debug)]
pub struct Settings {
    /// In the order written; repeated keys are found by the checker.
    pub entries: Vec<Setting>,
    /// From brace to brace.
    pub span: Span,
}

/// One `key: value`.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The key.
    pub key: Name,
    /// The value.
    pub value: Expr,
}

/// One line of `features`.
#[derive(Clone, Debug)]
pub struct Feature {
    /// `label`, `number`, `id`, …
    pub kind: Name,
    /// The feature's or the group's name.
    pub name: Name,
    /// `1..=13` in `I[1..=13]`, or names.
    pub group: Option<Group>,
    /// `binary` in `label click: binary`.
    pub ty: Option<Name>,
    /// The pipeline after `=`.
    pub value: Option<Expr>,
    /// The whole line.
    pub span: Span,
}

/// The members of a group of features.
#[derive(Clone, Debug)]
pub struct Group {
    /// One range of numbers, or names.
    pub members: Vec<Expr>,
    /// From bracket to bracket.
    pub span: Span,
}

/// A block: a function over tensors with parameters of its own.
#[derive(Clone, Debug)]
pub struct Block {
    /// The block's name.
    pub name: Name,
    /// Its parameters.
    pub parameters: Vec<Parameter>,
    /// What it gives.
    pub result: Type,
    /// Its statements.
    pub body: Body,
}

/// A parameter of a block.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// The parameter's name.
    pub name: Name,
    /// Its type.
    pub ty: Type,
    /// Its value when a call does not give one.
    pub default: Option<Expr>,
}

/// A type as written.
#[derive(Clone, Debug)]
pub struct Type {
    /// Its form.
    pub kind: TypeKind,
    /// Where it stands.
    pub span: Span,
}

/// The forms of types.
#[derive(Clone, Debug)]
pub enum TypeKind {
    /// `f32[F, D]`, `int`
    Named {
        /// `f32`, `int`, `block`, …
        name: Name,
        /// Axes between brackets; none for a bare name.
        dims: Vec<Dim>,
    },
    /// `[f32[D]; n]`
    List {
        /// The type of each element.
        element: Box<Type>,
        /// How many.
        len: Box<Expr>,
    },
}

/// One axis of a written shape.
#[derive(Clone, Debug)]
pub enum Dim {
    /// `..`: any leading axes.
    Rest(Span),
    /// `~L`: a sequence's own length.
    Sequence(Name),
    /// `*L`: a bag's length.
    Bag(Name),
    /// A size, or a dimension variable.
    Size(Expr),
}

/// Statements between braces.
#[derive(Clone, Debug)]
pub struct Body {
    /// In order.
    pub statements: Vec<Statement>,
    /// From brace to brace.
    pub span: Span,
}

/// One statement.
#[derive(Clone, Debug)]
pub struct Statement {
    /// `@name("…")` above it.
    pub attributes: Vec<Attribute>,
    /// What it does.
    pub kind: StatementKind,
    /// The whole statement.
    pub span: Span,
}

/// `@name("old")`
#[derive(Clone, Debug)]
pub struct Attribute {
    /// `name`
    pub name: Name,
    /// The text in parentheses.
    pub value: String,
}

/// The kinds of statements.
#[derive(Clone, Debug)]
pub enum StatementKind {
    /// `let x = …`
    Let(Name, Expr),
    /// `var x = …`
    Var(Name, Expr),
    /// `x = …`
    Assign(Name, Expr),
    /// `param w: f32[I, out] = xavier`
    Param(Name, Type, Option<Expr>),
    /// `state mean: f32[D] = zeros`
    State(Name, Type, Option<Expr>),
    /// `update mean = …`
    Update(Name, Expr),
    /// `layer tower = mlp(_, [64])`
    Layer(Name, Expr),
    /// `expose shared = h`
    Expose(Name, Option<Expr>),
    /// `predict click = logit(z)`
    Predict(Name, Expr),
    /// A table of the model.
    Table(Table),
    /// `for l in 0..layers { … }`
    For(Name, Expr, Body),
    /// An expression; the value of the body if it is the last.
    Expr(Expr),
}

/// An expression and its place.
#[derive(Clone, Debug)]
pub struct Expr {
    /// Its form.
    pub kind: ExprKind,
    /// Where it stands.
    pub span: Span,
}

/// The forms of expressions.
#[derive(Clone, Debug)]
pub enum ExprKind {
    /// `400`
    Int(i64),
    /// `1e-3`
    Float(f64),
    /// `"text"`
    Text(String),
    /// `true`
    Bool(bool),
    /// `x`
    Name(String),
    /// `_`
    Hole,
    /// `[400, 400]`
    List(Vec<Expr>),
    /// `[e for i in 0..n]`
    Comprehension {
        /// The element.
        body: Box<Expr>,
        /// The variable.
        var: Name,
        /// What it ranges over.
        over: Box<Expr>,
    },
    /// `f(x, layers: 2)`
    Call {
        /// What is called.
        callee: Box<Expr>,
        /// Its arguments.
        args: Vec<Argument>,
    },
    /// `x |> f(2)`
    Pipe {
        /// The first argument.
        value: Box<Expr>,
        /// A name or a call.
        into: Box<Expr>,
    },
    /// `emb[C]`
    Index {
        /// What is indexed.
        base: Box<Expr>,
        /// By what.
        indices: Vec<Expr>,
    },
    /// `ranker.shared`
    Field {
        /// Left of the dot.
        base: Box<Expr>,
        /// Right of it.
        name: Name,
    },
    /// `-x`, `not x`
    Unary(UnaryOp, Box<Expr>),
    /// `a + b`
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    /// `a..b`, `a..=b`
    Range {
        /// First.
        start: Box<Expr>,
        /// Last or one past it.
        end: Box<Expr>,
        /// Whether `end` belongs to it.
        inclusive: bool,
    },
    /// `if c { … } else { … }`
    If {
        /// A compile-time boolean.
        condition: Box<Expr>,
        /// The body taken when it holds.
        then: Body,
        /// The body taken when it does not.
        otherwise: Option<Body>,
    },
}

/// One argument of a call.
#[derive(Clone, Debug)]
pub struct Argument {
    /// `layers` in `layers: 2`.
    pub name: Option<Name>,
    /// The value.
    pub value: Expr,
}

/// Operators of one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnaryOp {
    /// `-`
    Neg,
    /// `not`
    Not,
}

/// Operators of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `@`
    MatMul,
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
    /// `in`
    In,
    /// `and`
    And,
    /// `or`
    Or,
}

impl BinaryOp {
    /// The operator as written.
    pub fn symbol(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::MatMul => "@",
            BinaryOp::Eq => "==",
            BinaryOp::Ne => "!=",
            BinaryOp::Lt => "<",
            BinaryOp::Le => "<=",
            BinaryOp::Gt => ">",
            BinaryOp::Ge => ">=",
            BinaryOp::In => "in",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
        }
    }
}
