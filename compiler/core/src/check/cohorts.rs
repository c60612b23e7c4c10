//! Conditions on the columns of a row: cohorts, the rows of a loss, and labels made of others.

use super::Checker;
use super::feature::Kind;
use super::value::Value;
use crate::problem::{Problem, suggest};
use recc_abi::{Bound, Column, ColumnKind, Comparison, Encoder, Predicate, Token};
use recc_syntax::ast::{self, BinaryOp, Expr, ExprKind, ItemKind, Name, Span, UnaryOp};

/// A declared cohort.
#[derive(Clone, Debug)]
pub(super) struct Cohort {
    pub(super) name: String,
    pub(super) span: Span,
    /// Its condition; none if it has a mistake.
    pub(super) column: Option<u32>,
    pub(super) used: bool,
}

impl Checker<'_> {
    pub(super) fn check_cohorts(&mut self, file: &ast::File) {
        for item in &file.items {
            if let ItemKind::Cohort { name, value } = &item.kind {
                self.check_cohort(name, value);
            }
        }
    }

    fn check_cohort(&mut self, name: &Name, value: &Expr) {
        let feature = self.features.iter().find(|feature| feature.name == name.text).map(|feature| feature.span);
        let known = self.cohorts.iter().find(|cohort| cohort.name == name.text).map(|cohort| cohort.span);
        if let Some(known) = known.or(feature) {
            let problem =
                Problem::error("E0102", name.span, format!("`{}` is declared twice", name.text)).and(known, "declared here first");
            return self.report(problem.help("give one of them another name"));
        }
        let column = self.predicate(value).map(|predicate| self.flag(&name.text, predicate));
        self.cohorts.push(Cohort { name: name.text.clone(), span: name.span, column, used: false });
    }

    /// The column of a condition: one for each that differs.
    fn flag(&mut self, name: &str, predicate: Predicate) -> u32 {
        let same = |column: &Column| matches!(&column.kind, ColumnKind::Flag { predicate: own } if *own == predicate);
        if let Some(at) = self.columns.iter().position(same) {
            return at as u32;
        }
        self.columns.push(Column { name: name.to_owned(), kind: ColumnKind::Flag { predicate }, token: Token::Condition, domain: None });
        self.columns.len() as u32 - 1
    }

    /// The column of a condition as written.
    pub(super) fn condition(&mut self, value: &Expr) -> Option<u32> {
        let predicate = self.predicate(value)?;
        Some(self.flag(&recc_syntax::print_expr(value), predicate))
    }

    fn predicate(&mut self, value: &Expr) -> Option<Predicate> {
        match &value.kind {
            ExprKind::Name(name) => self.named_condition(name, value.span),
            ExprKind::Unary(UnaryOp::Not, inner) => Some(Predicate::Not(Box::new(self.predicate(inner)?))),
            ExprKind::Binary(op @ (BinaryOp::And | BinaryOp::Or), left, right) => {
                let (left, right) = (self.predicate(left), self.predicate(right));
                let (left, right) = (Box::new(left?), Box::new(right?));
                Some(if *op == BinaryOp::And { Predicate::And(left, right) } else { Predicate::Or(left, right) })
            }
            ExprKind::Binary(BinaryOp::In, left, right) => self.membership(left, right),
            ExprKind::Binary(op, left, right) => match op {
                BinaryOp::Lt => self.comparison(Comparison::Lt, left, right),
                BinaryOp::Le => self.comparison(Comparison::Le, left, right),
                BinaryOp::Gt => self.comparison(Comparison::Le, left, right).map(|own| Predicate::Not(Box::new(own))),
                BinaryOp::Ge => self.comparison(Comparison::Lt, left, right).map(|own| Predicate::Not(Box::new(own))),
                BinaryOp::Eq => self.comparison(Comparison::Eq, left, right),
                BinaryOp::Ne => self.comparison(Comparison::Eq, left, right).map(|own| Predicate::Not(Box::new(own))),
                _ => self.no_condition(value.span),
            },
            _ => self.no_condition(value.span),
        }
    }

    fn no_condition(&mut self, span: Span) -> Option<Predicate> {
        let problem = Problem::error("E0802", span, "this is no condition on a row");
        self.report(
            problem.help("such as `raw(age) < 7`, `country == \"US\"`, `\"drama\" in genres` or `click`, joined by `and`, `or` and `not`"),
        );
        None
    }

    /// A cohort, or a binary label that is 1.
    fn named_condition(&mut self, name: &str, span: Span) -> Option<Predicate> {
        if let Some(cohort) = self.cohorts.iter_mut().find(|cohort| cohort.name == name) {
            cohort.used = true;
            let column = cohort.column? as usize;
            let ColumnKind::Flag { predicate } = &self.columns[column].kind else { return None };
            return Some(predicate.clone());
        }
        match self.features.iter().find(|feature| feature.name == name) {
            Some(feature) if !feature.sound => None,
            Some(feature) if feature.kind == (Kind::Label { binary: true }) => {
                Some(Predicate::Compare { column: feature.columns[0], with: Comparison::Eq, bound: Bound::Value(1.0) })
            }
            Some(_) => {
                let problem = Problem::error("E0802", span, format!("`{name}` is neither true nor false"));
                self.report(problem.help(format!("compare it, such as `{name} == …`; only cohorts and binary labels stand alone")));
                None
            }
            None => self.unknown_column(name, span),
        }
    }

    fn unknown_column<T>(&mut self, name: &str, span: Span) -> Option<T> {
        let read = self.columns.iter().filter(|column| column.token != Token::Condition);
        let names: Vec<String> =
            read.map(|column| column.name.clone()).chain(self.cohorts.iter().map(|cohort| cohort.name.clone())).collect();
        let help = suggest(name, names.iter().map(String::as_str));
        self.report(Problem::error("E0101", span, format!("there is no column or cohort `{name}` above")).help(help));
        None
    }

    /// A column by its name, members of groups among them, or `raw(name)`; whether it was `raw`.
    fn compared_column(&mut self, value: &Expr) -> Option<(String, Span, bool)> {
        match &value.kind {
            ExprKind::Name(name) if self.columns.iter().any(|column| column.name == *name) => {
                self.use_column(name);
                Some((name.clone(), value.span, false))
            }
            ExprKind::Call { callee, args } => match (&callee.kind, args.as_slice()) {
                (ExprKind::Name(raw), [ast::Argument { name: None, value: Expr { kind: ExprKind::Name(name), span } }]) if raw == "raw" => {
                    self.use_column(name);
                    Some((name.clone(), *span, true))
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// The feature a column belongs to is used.
    fn use_column(&mut self, name: &str) {
        let columns = &self.columns;
        let own = |feature: &&mut super::feature::Feature| feature.columns.iter().any(|at| columns[*at as usize].name == name);
        if let Some(feature) = self.features.iter_mut().find(own) {
            feature.used = true;
        }
    }

    fn comparison(&mut self, with: Comparison, left: &Expr, right: &Expr) -> Option<Predicate> {
        let (at_left, at_right) = (self.compared_column(left), self.compared_column(right));
        let (found, other, turned) = match (at_left, at_right) {
            (Some(found), None) => (found, right, false),
            (None, Some(found)) => (found, left, true),
            (Some(_), Some(_)) => {
                let problem = Problem::error("E0802", left.span.to(right.span), "a condition compares a column with a constant");
                self.report(problem.help("such as `raw(age) < 7`, or `raw(age) < quantile(age, 0.2)`"));
                return None;
            }
            (None, None) => {
                if let ExprKind::Name(name) = &left.kind
                    && !self.modules[0].names.contains_key(name)
                {
                    return self.unknown_column(name, left.span);
                }
                return self.no_condition(left.span.to(right.span));
            }
        };
        let (name, span, raw) = found;
        let Some(at) = self.columns.iter().position(|column| column.name == name) else {
            return self.unknown_column(&name, span);
        };
        match self.columns[at].kind.clone() {
            ColumnKind::Number(_) | ColumnKind::Label { .. } => {
                if !raw && self.has_transforms(&name) {
                    let problem =
                        Problem::error("E0803", span, format!("`{name}` has transforms, and a condition reads what stands before them"));
                    self.report(problem.help(format!("write `raw({name})` and compare with a value as the data write it")));
                    return None;
                }
                let column = at as u32;
                let bound = self.bound(other, column)?;
                // `7 < age` is not `age <= 7`.
                Some(match (turned, with) {
                    (true, Comparison::Lt) => Predicate::Not(Box::new(Predicate::Compare { column, with: Comparison::Le, bound })),
                    (true, Comparison::Le) => Predicate::Not(Box::new(Predicate::Compare { column, with: Comparison::Lt, bound })),
                    _ => Predicate::Compare { column, with, bound },
                })
            }
            ColumnKind::Id { .. } | ColumnKind::Key if with == Comparison::Eq => self.one_of(at, span, other),
            ColumnKind::Id { .. } | ColumnKind::Key => {
                let problem = Problem::error("E0802", span, format!("`{name}` has no order"));
                self.report(problem.help(format!(
                    "ask `{name} == \"…\"` or `{name} in [\"…\", \"…\"]`; declare the column as `number` too to compare it"
                )));
                None
            }
            ColumnKind::Ids { .. } => {
                let problem = Problem::error("E0802", span, format!("`{name}` holds several values"));
                self.report(problem.help(format!("ask `\"…\" in {name}`")));
                None
            }
            ColumnKind::Numbers { .. } => {
                let problem = Problem::error("E0802", span, format!("`{name}` holds several numbers"));
                self.report(problem.help("a condition reads one value of a row, or asks what a bag or a sequence of ids holds"));
                None
            }
            ColumnKind::Time => {
                let problem = Problem::error("E0802", span, format!("`{name}` is a time"));
                self.report(problem.help("declare the column as `number` too to compare it"));
                None
            }
            ColumnKind::Flag { .. } | ColumnKind::Drawn { .. } => self.no_condition(left.span.to(right.span)),
        }
    }

    /// Whether a number's or a label's column is changed before the model sees it.
    fn has_transforms(&self, column: &str) -> bool {
        let own = |feature: &super::feature::Feature| feature.columns.iter().any(|at| self.columns[*at as usize].name == column);
        self.features.iter().find(|feature| own(feature)).is_some_and(|feature| !feature.steps.is_empty())
    }

    /// A constant, or `quantile(column, share)` of the compared column.
    fn bound(&mut self, value: &Expr, column: u32) -> Option<Bound> {
        if let ExprKind::Call { callee, args } = &value.kind
            && matches!(&callee.kind, ExprKind::Name(name) if name == "quantile")
        {
            let own = self.columns[column as usize].name.clone();
            let [ast::Argument { value: Expr { kind: ExprKind::Name(name), span }, .. }, share] = args.as_slice() else {
                let problem = Problem::error("E0804", value.span, "`quantile` takes a column and a share");
                self.report(problem.help(format!("such as `quantile({own}, 0.2)`")));
                return None;
            };
            if *name != own {
                let problem = Problem::error("E0804", *span, format!("`{own}` is compared with a quantile of `{name}`"));
                self.report(problem.help(format!("such as `raw({own}) < quantile({own}, 0.2)`")));
                return None;
            }
            return Some(Bound::Quantile(self.number_in(&share.value, "the share", 0.0, 1.0)?));
        }
        let found = self.constant(value);
        match found.as_float() {
            Some(number) if number.is_finite() => Some(Bound::Value(number)),
            _ if matches!(found, Value::Poison) => None,
            _ => {
                let text = found.describe(&self.graph);
                let problem = Problem::error("E0802", value.span, "a number is compared with a number").here(format!("this is {text}"));
                self.report(problem.help("a constant, or `quantile(column, 0.2)`"));
                None
            }
        }
    }

    /// `country in ["US", "CA"]`, `"drama" in genres`
    fn membership(&mut self, left: &Expr, right: &Expr) -> Option<Predicate> {
        if let Some((name, span, _)) = self.compared_column(right)
            && let Some(at) = self.columns.iter().position(|column| column.name == name)
        {
            if matches!(self.columns[at].kind, ColumnKind::Ids { .. }) {
                return self.one_of(at, span, left);
            }
            let problem = Problem::error("E0802", span, format!("`{name}` is no bag"));
            self.report(problem.help(format!("ask `{name} in [\"…\", \"…\"]`")));
            return None;
        }
        let Some((name, span, _)) = self.compared_column(left) else {
            if let ExprKind::Name(name) = &left.kind {
                return self.unknown_column(name, left.span);
            }
            return self.no_condition(left.span.to(right.span));
        };
        match self.columns.iter().position(|column| column.name == name) {
            Some(at) if matches!(self.columns[at].kind, ColumnKind::Id { .. } | ColumnKind::Key) => self.one_of(at, span, right),
            Some(_) => {
                let problem = Problem::error("E0802", span, format!("`{name}` is no id"));
                self.report(problem.help("a number is compared by `<`, `<=`, `==`, `>=` and `>`"));
                None
            }
            None => self.unknown_column(&name, span),
        }
    }

    /// One of some values of an id, a key or a bag, as the data write them.
    fn one_of(&mut self, at: usize, span: Span, values: &Expr) -> Option<Predicate> {
        let name = self.columns[at].name.clone();
        let dictionary = matches!(self.columns[at].kind.numbering(), Some(Encoder::Vocab { .. } | Encoder::VocabOf(_)));
        if !dictionary && self.columns[at].kind != ColumnKind::Key {
            let problem = Problem::error("E0805", span, format!("`{name}` keeps no dictionary, so that its values cannot be told apart"));
            self.report(problem.help(format!("declare the column once more, such as `key {name}_key = column(\"…\")`, and ask for that")));
            return None;
        }
        let found = self.constant(values);
        let items = match found {
            Value::Poison => return None,
            Value::List(items) => items,
            other => vec![other],
        };
        let text = |value: &Value| match value {
            Value::Text(text) => Some(text.trim().to_owned()),
            Value::Int(number) => Some(number.to_string()),
            _ => None,
        };
        let texts: Option<Vec<String>> = items.iter().map(text).collect();
        match texts {
            Some(values) if !values.is_empty() => Some(Predicate::OneOf { column: at as u32, values }),
            _ => {
                let problem = Problem::error("E0802", values.span, format!("the values of `{name}` are texts or whole numbers"));
                self.report(problem.help("write them as the data write them, such as `\"US\"` or `[\"US\", \"CA\"]`"));
                None
            }
        }
    }

    pub(super) fn warn_unused_cohorts(&mut self) {
        let unused: Vec<(String, Span)> =
            self.cohorts.iter().filter(|cohort| !cohort.used).map(|cohort| (cohort.name.clone(), cohort.span)).collect();
        for (name, span) in unused {
            let problem = Problem::warning("W0004", span, format!("the cohort `{name}` is not used"));
            self.report(problem.help(format!("report its figures: `metrics {{ per: [{name}] }}`, or remove it")));
        }
    }
}
