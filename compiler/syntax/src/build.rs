//! pest's pairs to the tree. A child that the grammar does not allow is our bug and says so.

use crate::ast::*;
use crate::{Rule, SyntaxProblem, SyntaxProblemKind};
use pest::iterators::{Pair, Pairs};
use pest::pratt_parser::{Assoc, Op, PrattParser};
use std::sync::LazyLock;

static PRATT: LazyLock<PrattParser<Rule>> = LazyLock::new(|| {
    let left = |rule| Op::infix(rule, Assoc::Left);
    PrattParser::new()
        .op(left(Rule::pipe))
        .op(left(Rule::kw_or))
        .op(left(Rule::kw_and))
        .op(Op::prefix(Rule::kw_not))
        .op(left(Rule::eq) | left(Rule::ne) | left(Rule::lt) | left(Rule::le) | left(Rule::gt) | left(Rule::ge) | left(Rule::kw_in))
        .op(left(Rule::range_excl) | left(Rule::range_incl))
        .op(left(Rule::add) | left(Rule::sub))
        .op(left(Rule::mul) | left(Rule::div) | left(Rule::matmul))
        .op(Op::prefix(Rule::neg))
        .op(Op::postfix(Rule::call) | Op::postfix(Rule::index) | Op::postfix(Rule::field))
});

/// A rule in a modeler's words, for "expected …"; `None` for rules that say nothing to them.
pub(crate) fn describe(rule: Rule) -> Option<&'static str> {
    Some(match rule {
        Rule::item | Rule::kw_use | Rule::kw_model => "an item such as `features`, `model` or `train`",
        Rule::name | Rule::use_names => "a name",
        Rule::expr | Rule::number | Rule::string | Rule::list | Rule::paren | Rule::if_expr => "a value",
        Rule::neg | Rule::kw_not | Rule::boolean | Rule::hole | Rule::comprehension => return None,
        Rule::statement | Rule::let_stmt | Rule::expr_stmt => "a statement such as `let` or `predict`",
        Rule::settings => "settings in braces",
        Rule::setting => "a setting `key: value`",
        Rule::feature => "a feature",
        Rule::group => "a group such as `[1..=13]`",
        Rule::body => "a body in braces",
        Rule::type_ => "a type such as `f32[D]`",
        Rule::parameter => "a parameter `name: type`",
        Rule::argument => "an argument",
        Rule::call => "`(`",
        Rule::index => "`[`",
        Rule::feature_value => "`=`",
        Rule::kw_as => "`as`",
        Rule::kw_of => "`of`",
        Rule::kw_in => "`in`",
        Rule::kw_else => "`else`",
        Rule::pipe | Rule::add | Rule::mul | Rule::sub | Rule::div | Rule::matmul => "an operator",
        Rule::EOI => "the end of the item",
        _ => return None,
    })
}

/// Most operands and operators in one expression without brackets.
const MAX_OPERATORS: usize = 512;

pub(crate) struct Builder {
    file: FileId,
    offset: usize,
    pub(crate) problems: Vec<SyntaxProblem>,
}

fn bug(rule: Rule, place: &str) -> ! {
    unreachable!("`{place}` has no `{rule:?}` child in rec.pest")
}

fn next<'a>(pairs: &mut Pairs<'a, Rule>, place: &str) -> Pair<'a, Rule> {
    pairs.next().unwrap_or_else(|| unreachable!("`{place}` misses a child in rec.pest"))
}

fn is_keyword(rule: Rule) -> bool {
    matches!(
        rule,
        Rule::kw_use
            | Rule::kw_as
            | Rule::kw_const
            | Rule::kw_data
            | Rule::kw_features
            | Rule::kw_table
            | Rule::kw_block
            | Rule::kw_model
            | Rule::kw_ensemble
            | Rule::kw_of
            | Rule::kw_cohort
            | Rule::kw_auxiliary
            | Rule::kw_objective
            | Rule::kw_train
            | Rule::kw_metrics
            | Rule::kw_let
            | Rule::kw_var
            | Rule::kw_param
            | Rule::kw_state
            | Rule::kw_update
            | Rule::kw_layer
            | Rule::kw_expose
            | Rule::kw_predict
            | Rule::kw_for
            | Rule::kw_in
            | Rule::kw_if
            | Rule::kw_else
    )
}

/// The children that carry something.
fn children<'a>(pair: Pair<'a, Rule>) -> Vec<Pair<'a, Rule>> {
    pair.into_inner().filter(|child| !is_keyword(child.as_rule())).collect()
}

impl Builder {
    pub(crate) fn new(file: FileId, offset: usize) -> Self {
        Builder { file, offset, problems: Vec::new() }
    }

    fn span(&self, pair: &Pair<'_, Rule>) -> Span {
        // A rule that ends in optional parts may take blanks behind it; a place is the text without them.
        let text = pair.as_str();
        let start = pair.as_span().start() + self.offset;
        Span { file: self.file, start: start as u32, end: (start + text.trim_end().len()) as u32 }
    }

    pub(crate) fn file(&mut self, pair: Pair<'_, Rule>) -> File {
        File { items: self.items(pair) }
    }

    pub(crate) fn items(&mut self, pair: Pair<'_, Rule>) -> Vec<Item> {
        pair.into_inner().filter(|child| child.as_rule() == Rule::item).map(|child| self.item(child)).collect()
    }

    fn item(&mut self, pair: Pair<'_, Rule>) -> Item {
        let mut docs = Vec::new();
        let mut inner = pair.into_inner();
        let mut child = next(&mut inner, "item");
        if child.as_rule() == Rule::docs {
            docs = child.into_inner().map(|doc| doc.as_str().trim_start_matches('/').trim().to_owned()).collect();
            child = next(&mut inner, "item");
        }
        let span = self.span(&child);
        Item { docs, span, kind: self.item_kind(child) }
    }

    fn item_kind(&mut self, pair: Pair<'_, Rule>) -> ItemKind {
        let rule = pair.as_rule();
        if rule == Rule::use_item {
            return ItemKind::Use(self.use_item(pair));
        }
        if rule == Rule::block_item {
            return ItemKind::Block(self.block(pair));
        }
        if rule == Rule::features_item {
            return ItemKind::Features(children(pair).into_iter().map(|child| self.feature(child)).collect());
        }
        if rule == Rule::table_item {
            return ItemKind::Table(self.table(pair));
        }
        let mut parts = children(pair).into_iter();
        let mut part = || parts.next().unwrap_or_else(|| unreachable!("an item misses a child in rec.pest"));
        match rule {
            Rule::const_item => ItemKind::Const { name: self.name(&part()), value: self.expr(part()) },
            Rule::data_item => ItemKind::Data(self.settings(part())),
            Rule::model_item => ItemKind::Model { name: self.name(&part()), body: self.body(part()) },
            Rule::ensemble_item => {
                ItemKind::Ensemble { name: self.name(&part()), members: self.primary(part()), settings: self.settings(part()) }
            }
            Rule::cohort_item => ItemKind::Cohort { name: self.name(&part()), value: self.expr(part()) },
            Rule::auxiliary_item => ItemKind::Auxiliary { name: self.name(&part()), settings: self.settings(part()) },
            Rule::objective_item => ItemKind::Objective(self.settings(part())),
            Rule::train_item => ItemKind::Train(self.settings(part())),
            Rule::metrics_item => ItemKind::Metrics(self.settings(part())),
            other => bug(other, "item"),
        }
    }

    fn use_item(&mut self, pair: Pair<'_, Rule>) -> Use {
        let mut parts = children(pair);
        if parts[0].as_rule() == Rule::string {
            return Use::File { path: self.text(&parts[0]), path_span: self.span(&parts[0]), alias: self.name(&parts[1]) };
        }
        if parts.last().is_some_and(|last| last.as_rule() == Rule::use_names) {
            let names = parts.pop().map(|last| last.into_inner().map(|name| self.name(&name)).collect()).unwrap_or_default();
            return Use::Module { path: parts.iter().map(|name| self.name(name)).collect(), names };
        }
        let mut path: Vec<Name> = parts.iter().map(|name| self.name(name)).collect();
        let names = path.pop().into_iter().collect();
        Use::Module { path, names }
    }

    fn table(&mut self, pair: Pair<'_, Rule>) -> Table {
        let mut parts = children(pair).into_iter();
        match (parts.next(), parts.next()) {
            (Some(name), Some(settings)) => Table { name: self.name(&name), settings: self.settings(settings) },
            _ => unreachable!("`table_item` misses a child in rec.pest"),
        }
    }

    fn name(&self, pair: &Pair<'_, Rule>) -> Name {
        Name { text: pair.as_str().to_owned(), span: self.span(pair) }
    }

    fn text(&self, pair: &Pair<'_, Rule>) -> String {
        let quoted = pair.as_str();
        let mut out = String::new();
        let mut chars = quoted[1..quoted.len() - 1].chars();
        while let Some(c) = chars.next() {
            match (c, c == '\\') {
                (_, true) => match chars.next() {
                    Some('n') => out.push('\n'),
                    Some('t') => out.push('\t'),
                    Some(other) => out.push(other),
                    None => {}
                },
                (other, false) => out.push(other),
            }
        }
        out
    }

    fn settings(&mut self, pair: Pair<'_, Rule>) -> Settings {
        let span = self.span(&pair);
        let mut entries = Vec::new();
        for setting in pair.into_inner() {
            let mut parts = setting.into_inner().filter(|part| part.as_rule() != Rule::docs);
            if let (Some(key), Some(value)) = (parts.next(), parts.next()) {
                entries.push(Setting { key: self.name(&key), value: self.expr(value) });
            }
        }
        Settings { entries, span }
    }

    fn feature(&mut self, pair: Pair<'_, Rule>) -> Feature {
        let span = self.span(&pair);
        let mut names = Vec::new();
        let (mut group, mut value) = (None, None);
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::docs => {}
                Rule::name => names.push(self.name(&part)),
                Rule::group => {
                    let span = self.span(&part);
                    group = Some(Group { members: part.into_inner().map(|expr| self.expr(expr)).collect(), span });
                }
                Rule::feature_value => value = part.into_inner().next().map(|expr| self.expr(expr)),
                other => bug(other, "feature"),
            }
        }
        let mut names = names.into_iter();
        match (names.next(), names.next()) {
            (Some(kind), Some(name)) => Feature { kind, name, group, ty: names.next(), value, span },
            _ => unreachable!("`feature` misses a name in rec.pest"),
        }
    }

    fn block(&mut self, pair: Pair<'_, Rule>) -> Block {
        let mut parameters = Vec::new();
        let (mut name, mut result, mut body) = (None, None, None);
        for part in children(pair) {
            match part.as_rule() {
                Rule::name => name = Some(self.name(&part)),
                Rule::parameter => parameters.push(self.parameter(part)),
                Rule::type_ => result = Some(self.ty(part)),
                Rule::body => body = Some(self.body(part)),
                other => bug(other, "block_item"),
            }
        }
        match (name, result, body) {
            (Some(name), Some(result), Some(body)) => Block { name, parameters, result, body },
            _ => unreachable!("`block_item` misses a child in rec.pest"),
        }
    }

    fn parameter(&mut self, pair: Pair<'_, Rule>) -> Parameter {
        let mut parts = pair.into_inner();
        let name = self.name(&next(&mut parts, "parameter"));
        let ty = self.ty(next(&mut parts, "parameter"));
        Parameter { name, ty, default: parts.next().map(|expr| self.expr(expr)) }
    }

    fn ty(&mut self, pair: Pair<'_, Rule>) -> Type {
        let span = self.span(&pair);
        let mut parts = pair.into_inner();
        let first = next(&mut parts, "type_");
        let kind = match first.as_rule() {
            Rule::type_ => TypeKind::List { element: Box::new(self.ty(first)), len: Box::new(self.expr(next(&mut parts, "type_"))) },
            Rule::name => TypeKind::Named { name: self.name(&first), dims: parts.map(|dim| self.dim(dim)).collect() },
            other => bug(other, "type_"),
        };
        Type { kind, span }
    }

    fn dim(&mut self, pair: Pair<'_, Rule>) -> Dim {
        let inner = next(&mut pair.into_inner(), "dim");
        match inner.as_rule() {
            Rule::dim_rest => Dim::Rest(self.span(&inner)),
            Rule::dim_seq => Dim::Sequence(self.name(&next(&mut inner.into_inner(), "dim_seq"))),
            Rule::dim_bag => Dim::Bag(self.name(&next(&mut inner.into_inner(), "dim_bag"))),
            Rule::expr => Dim::Size(self.expr(inner)),
            other => bug(other, "dim"),
        }
    }

    fn body(&mut self, pair: Pair<'_, Rule>) -> Body {
        let span = self.span(&pair);
        Body { statements: pair.into_inner().map(|child| self.statement(child)).collect(), span }
    }

    fn statement(&mut self, pair: Pair<'_, Rule>) -> Statement {
        let mut attributes = Vec::new();
        let mut result = None;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::docs => {}
                Rule::attribute => {
                    let mut inner = part.into_inner();
                    let name = self.name(&next(&mut inner, "attribute"));
                    attributes.push(Attribute { name, value: self.text(&next(&mut inner, "attribute")) });
                }
                _ => result = Some((self.span(&part), self.statement_kind(part))),
            }
        }
        match result {
            Some((span, kind)) => Statement { attributes, kind, span },
            None => unreachable!("`statement` misses a child in rec.pest"),
        }
    }

    fn statement_kind(&mut self, pair: Pair<'_, Rule>) -> StatementKind {
        let rule = pair.as_rule();
        if rule == Rule::table_item {
            return StatementKind::Table(self.table(pair));
        }
        let mut parts = children(pair).into_iter();
        let mut part = || parts.next().unwrap_or_else(|| unreachable!("`{rule:?}` misses a child in rec.pest"));
        match rule {
            Rule::let_stmt => StatementKind::Let(self.name(&part()), self.expr(part())),
            Rule::var_stmt => StatementKind::Var(self.name(&part()), self.expr(part())),
            Rule::assign_stmt => StatementKind::Assign(self.name(&part()), self.expr(part())),
            Rule::update_stmt => StatementKind::Update(self.name(&part()), self.expr(part())),
            Rule::layer_stmt => StatementKind::Layer(self.name(&part()), self.expr(part())),
            Rule::predict_stmt => StatementKind::Predict(self.name(&part()), self.expr(part())),
            Rule::for_stmt => StatementKind::For(self.name(&part()), self.expr(part()), self.body(part())),
            Rule::expr_stmt => StatementKind::Expr(self.expr(part())),
            Rule::expose_stmt => StatementKind::Expose(self.name(&part()), parts.next().map(|expr| self.expr(expr))),
            Rule::param_stmt => StatementKind::Param(self.name(&part()), self.ty(part()), parts.next().map(|expr| self.expr(expr))),
            Rule::state_stmt => StatementKind::State(self.name(&part()), self.ty(part()), parts.next().map(|expr| self.expr(expr))),
            other => bug(other, "statement"),
        }
    }

    pub(crate) fn expr(&mut self, pair: Pair<'_, Rule>) -> Expr {
        // The tree is as deep as its operators are many, and later phases descend it.
        let span = self.span(&pair);
        if pair.clone().into_inner().take(MAX_OPERATORS + 1).count() > MAX_OPERATORS {
            let at = span.start as usize..span.end as usize;
            self.problems.push(SyntaxProblem { kind: SyntaxProblemKind::TooDeep, at });
            return Expr { kind: ExprKind::Int(0), span };
        }
        let cell = std::cell::RefCell::new(self);
        PRATT
            .map_primary(|primary| cell.borrow_mut().primary(primary))
            .map_prefix(|op, operand| {
                let span = cell.borrow().span(&op).to(operand.span);
                let which = if op.as_rule() == Rule::neg { UnaryOp::Neg } else { UnaryOp::Not };
                Expr { kind: ExprKind::Unary(which, Box::new(operand)), span }
            })
            .map_postfix(|base, op| cell.borrow_mut().postfix(base, op))
            .map_infix(|left, op, right| infix(left, op.as_rule(), right))
            .parse(pair.into_inner())
    }

    fn postfix(&mut self, base: Expr, pair: Pair<'_, Rule>) -> Expr {
        let span = base.span.to(self.span(&pair));
        let base = Box::new(base);
        let kind = match pair.as_rule() {
            Rule::call => ExprKind::Call { callee: base, args: pair.into_inner().map(|arg| self.argument(arg)).collect() },
            Rule::index => ExprKind::Index { base, indices: pair.into_inner().map(|expr| self.expr(expr)).collect() },
            Rule::field => ExprKind::Field { base, name: self.name(&next(&mut pair.into_inner(), "field")) },
            other => bug(other, "postfix"),
        };
        Expr { kind, span }
    }

    fn argument(&mut self, pair: Pair<'_, Rule>) -> Argument {
        let mut parts = pair.into_inner();
        let first = next(&mut parts, "argument");
        if first.as_rule() == Rule::name {
            let name = Some(self.name(&first));
            return Argument { name, value: self.expr(next(&mut parts, "argument")) };
        }
        Argument { name: None, value: self.expr(first) }
    }

    fn primary(&mut self, pair: Pair<'_, Rule>) -> Expr {
        let span = self.span(&pair);
        let kind = match pair.as_rule() {
            Rule::number => self.number(&pair),
            Rule::string => ExprKind::Text(self.text(&pair)),
            Rule::boolean => ExprKind::Bool(pair.as_str() == "true"),
            Rule::hole => ExprKind::Hole,
            Rule::name => ExprKind::Name(pair.as_str().to_owned()),
            Rule::list => self.list(pair),
            Rule::paren => return Expr { span, ..self.expr(next(&mut pair.into_inner(), "paren")) },
            Rule::if_expr => self.if_expr(pair),
            other => bug(other, "primary"),
        };
        Expr { kind, span }
    }

    /// Values side by side, or one for each round of a loop.
    fn list(&mut self, pair: Pair<'_, Rule>) -> ExprKind {
        let (loops, items): (Vec<_>, Vec<_>) = pair.into_inner().partition(|part| part.as_rule() == Rule::comprehension);
        let mut items: Vec<Expr> = items.into_iter().map(|item| self.expr(item)).collect();
        let Some(rounds) = loops.into_iter().next() else { return ExprKind::List(items) };
        let mut parts = children(rounds).into_iter();
        match (items.pop(), parts.next(), parts.next()) {
            (Some(body), Some(var), Some(over)) => {
                ExprKind::Comprehension { body: Box::new(body), var: self.name(&var), over: Box::new(self.expr(over)) }
            }
            _ => unreachable!("`comprehension` misses a child in rec.pest"),
        }
    }

    fn if_expr(&mut self, pair: Pair<'_, Rule>) -> ExprKind {
        let mut parts = children(pair).into_iter();
        let (Some(condition), Some(then)) = (parts.next(), parts.next()) else { unreachable!("`if_expr` misses a child in rec.pest") };
        let condition = Box::new(self.expr(condition));
        let then = self.body(then);
        let otherwise = parts.next().map(|part| {
            let span = self.span(&part);
            if part.as_rule() == Rule::body {
                return self.body(part);
            }
            let nested = Expr { kind: self.if_expr(part), span };
            Body { statements: vec![Statement { attributes: Vec::new(), kind: StatementKind::Expr(nested), span }], span }
        });
        ExprKind::If { condition, then, otherwise }
    }

    fn number(&mut self, pair: &Pair<'_, Rule>) -> ExprKind {
        let text = pair.as_str().replace('_', "");
        let at = pair.as_span().start() + self.offset;
        let mut too_large = || {
            self.problems.push(SyntaxProblem { kind: SyntaxProblemKind::NumberTooLarge(text.clone()), at: at..at + pair.as_str().len() });
            ExprKind::Int(0)
        };
        if text.contains(['.', 'e', 'E']) {
            return match text.parse::<f64>() {
                Ok(value) if value.is_finite() => ExprKind::Float(value),
                _ => too_large(),
            };
        }
        text.parse::<i64>().map_or_else(|_| too_large(), ExprKind::Int)
    }
}

fn infix(left: Expr, op: Rule, right: Expr) -> Expr {
    let span = left.span.to(right.span);
    let (left, right) = (Box::new(left), Box::new(right));
    let binary = match op {
        Rule::pipe => return Expr { kind: ExprKind::Pipe { value: left, into: right }, span },
        Rule::range_excl | Rule::range_incl => {
            return Expr { kind: ExprKind::Range { start: left, end: right, inclusive: op == Rule::range_incl }, span };
        }
        Rule::add => BinaryOp::Add,
        Rule::sub => BinaryOp::Sub,
        Rule::mul => BinaryOp::Mul,
        Rule::div => BinaryOp::Div,
        Rule::matmul => BinaryOp::MatMul,
        Rule::eq => BinaryOp::Eq,
        Rule::ne => BinaryOp::Ne,
        Rule::lt => BinaryOp::Lt,
        Rule::le => BinaryOp::Le,
        Rule::gt => BinaryOp::Gt,
        Rule::ge => BinaryOp::Ge,
        Rule::kw_in => BinaryOp::In,
        Rule::kw_and => BinaryOp::And,
        Rule::kw_or => BinaryOp::Or,
        other => bug(other, "infix"),
    };
    Expr { kind: ExprKind::Binary(binary, left, right), span }
}
