//! `predict next = softmax(q, over: items, target: shift(history))`: which row of a table comes next.

use super::Checker;
use super::feature::Kind;
use super::statements::{Head, Predicted};
use super::value::{Located, Tensor, Value, describe_type};
use crate::graph::{Dim, NodeId, Space, TableId};
use crate::loops::Combine;
use crate::ops::{Broadcast, Gather, Input, InputKind, Op, Reduce, Shift};
use crate::problem::{Problem, suggest};
use crate::scalar::ScalarOp;
use crate::spec::StepLogits;
use recc_abi::{Column, ColumnKind, Element, Link, Prediction, Ranking, Token};
use recc_syntax::ast::{Argument, Expr, ExprKind, Name, Span};

/// Most rows drawn for each step.
const MOST_DRAWN: i64 = 65_536;
/// What is added to the square of a length before its root.
const LEAST_LENGTH: f64 = 1e-12;

/// A softmax as written.
struct Softmax<'a> {
    query: &'a Expr,
    over: &'a Expr,
    target: &'a Expr,
    negatives: Option<&'a Expr>,
    temperature: f64,
    normalize: bool,
}

impl Checker<'_> {
    pub(super) fn predict_softmax(&mut self, name: &Name, args: &[Argument], span: Span) {
        if let Some(known) = self.predictions.iter().find(|known| known.prediction.name == name.text) {
            let problem =
                Problem::error("E0507", name.span, format!("`{}` is predicted twice", name.text)).and(known.span, "the first prediction");
            return self.report(problem.help("a prediction has a name of its own"));
        }
        if self.in_ensemble {
            return self.not_yet(span, "ensembles of predictions by `softmax`");
        }
        let Some(softmax) = self.softmax_arguments(args, span) else { return self.poison_ranking(name) };
        let query = Located { value: self.eval(softmax.query), span: softmax.query.span };
        let (Some(query_tensor), Some(table), Some(sequence)) =
            (self.tensor(&query), self.ranked_table(softmax.over), self.next_of(softmax.target))
        else {
            return self.poison_ranking(name);
        };
        let column = self.features[sequence].columns[0];
        if self.grouped && self.reads_beside(column, span) {
            return self.poison_ranking(name);
        }
        if !self.ranks(&query, &query_tensor, (table, softmax.over.span), (column, softmax.target.span)) {
            return self.poison_ranking(name);
        }
        let Some(negatives) = softmax.negatives else {
            self.not_yet(span, "a softmax over all rows in training: give `negatives: …`");
            return self.poison_ranking(name);
        };
        let Some(count) = self.whole(negatives, "negatives", 1, MOST_DRAWN) else { return self.poison_ranking(name) };
        self.tables[table].used = true;
        self.origin();
        let ranking = Ranking { table: table as u32, temperature: softmax.temperature, normalize: softmax.normalize };
        let steps = if self.training {
            let drawn = self.drawn_column(&name.text, column, table, count as u32);
            Some(self.logits(query_tensor.node, table, column, (drawn, count), &ranking))
        } else {
            self.query_result(&name.text, query_tensor.node, softmax.normalize);
            None
        };
        self.push_ranking(name, column, ranking, steps);
    }

    fn push_ranking(&mut self, name: &Name, label: u32, ranking: Ranking, steps: Option<StepLogits>) {
        let link = Link::Softmax(ranking);
        let loss = link.usual_loss();
        let prediction = Prediction { name: name.text.clone(), label, link, loss, rows: None, model: None, weights: None };
        self.predictions.push(Predicted { prediction, span: name.span, head: steps.map(Head::Steps) });
    }

    /// With a mistake it is still a prediction: its loss is not reported too.
    fn poison_ranking(&mut self, name: &Name) {
        self.push_ranking(name, 0, Ranking { table: 0, temperature: 1.0, normalize: false }, None);
    }

    fn softmax_arguments<'a>(&mut self, args: &'a [Argument], span: Span) -> Option<Softmax<'a>> {
        self.given_once(args, "softmax", 1)?;
        let find = |name: &str| args.iter().find(|own| own.name.as_ref().is_some_and(|own| own.text == name)).map(|own| &own.value);
        let known = ["over", "target", "negatives", "temperature", "normalize"];
        let unknown = args.iter().filter_map(|own| own.name.as_ref()).find(|name| !known.contains(&name.text.as_str()));
        if let Some(unknown) = unknown {
            let problem = Problem::error("E0210", unknown.span, format!("`softmax` has no argument `{}`", unknown.text));
            self.report(problem.help(suggest(&unknown.text, known)));
            return None;
        }
        let query = args.iter().find(|own| own.name.is_none()).map(|own| &own.value);
        let (Some(query), Some(over), Some(target)) = (query, find("over"), find("target")) else {
            let problem = Problem::error("E0211", span, "a softmax says what is ranked and what comes next");
            self.report(problem.help("such as `softmax(h, over: items, target: shift(history), negatives: 128)`"));
            return None;
        };
        let temperature = match find("temperature") {
            Some(value) => self.number_in(value, "temperature", 1e-6, 1e6)?,
            None => 1.0,
        };
        let normalize = match find("normalize").map(|value| (self.constant(value), value.span)) {
            None => false,
            Some((Value::Bool(normalize), _)) => normalize,
            Some((Value::Poison, _)) => return None,
            Some((_, span)) => {
                let problem = Problem::error("E0201", span, "`normalize` is `true` or `false`");
                self.report(problem.help("with `true` queries and rows are brought to length 1"));
                return None;
            }
        };
        Some(Softmax { query, over, target, negatives: find("negatives"), temperature, normalize })
    }

    /// The table that `over` names.
    fn ranked_table(&mut self, over: &Expr) -> Option<usize> {
        match self.eval(over) {
            Value::Table(table) if !self.tables[table].split => Some(table),
            Value::Poison => None,
            Value::Table(_) => {
                let problem = Problem::error("E0228", over.span, "each member of a group has rows of its own here");
                self.report(problem.help("rank the rows of a table whose keys share one vocabulary"));
                None
            }
            other => {
                let text = other.describe(&self.graph);
                let problem = Problem::error("E0228", over.span, "a softmax ranks the rows of a table").here(format!("this is {text}"));
                self.report(problem.help("name the table: `over: items`"));
                None
            }
        }
    }

    /// The sequence of `shift(history)`.
    fn next_of(&mut self, target: &Expr) -> Option<usize> {
        let named = match &target.kind {
            ExprKind::Call { callee, args } => match (&callee.kind, args.as_slice()) {
                (ExprKind::Name(shift), [Argument { name: None, value: Expr { kind: ExprKind::Name(name), .. } }]) if shift == "shift" => {
                    Some(name)
                }
                _ => None,
            },
            _ => None,
        };
        let found = named.and_then(|name| self.features.iter().position(|feature| feature.name == *name));
        match found {
            Some(at) if !self.features[at].sound => None,
            Some(at) if matches!(self.features[at].kind, Kind::Ids { ordered: true }) => {
                self.features[at].used = true;
                Some(at)
            }
            _ => {
                let problem = Problem::error("E0228", target.span, "a softmax predicts the next step of a sequence");
                self.report(problem.help("name the sequence: `target: shift(history)`, where `history` is a feature of kind `seq`"));
                None
            }
        }
    }

    /// Whether the model reads more of a group than the steps of the sequence: what comes next would be among it.
    fn reads_beside(&mut self, column: u32, span: Span) -> bool {
        let of = self.entries_of(column);
        let beside = |feature: &super::feature::Feature| {
            let input = !matches!(feature.kind, Kind::Label { .. } | Kind::Key);
            input && feature.used && feature.columns.iter().any(|own| self.entries_of(*own) != of)
        };
        let Some(name) = self.features.iter().find(|feature| beside(feature)).map(|feature| feature.name.clone()) else { return false };
        let what = format!("a softmax over the steps of grouped rows beside `{name}`, which is not aligned with them");
        self.not_yet(span, &what);
        true
    }

    /// Whether a query asks for rows of the table that the sequence looks up, at each of its steps.
    fn ranks(&mut self, query: &Located, tensor: &Tensor, (table, over): (usize, Span), (column, target): (u32, Span)) -> bool {
        let declared = self.tables[table].clone();
        if !declared.columns.contains(&column) {
            let name = self.columns[column as usize].name.clone();
            let problem = Problem::error("E0228", target, format!("`{name}` is no key of the table `{}`", declared.name));
            self.report(
                problem.and(over, "the table").help("the next step is one of the rows that are ranked: add the sequence to `keys`"),
            );
            return false;
        }
        if declared.storage != Element::F32 {
            self.not_yet(over, "ranking the rows of a table that is stored in few bytes");
            return false;
        }
        let wanted = [Dim::Entries(self.entries_of(column)), Dim::Fixed(declared.dim)];
        if self.graph[tensor.node].ty.dims != wanted {
            let text = describe_type(&self.graph, tensor.node);
            let name = self.columns[self.entries_of(column) as usize].name.clone();
            let problem = Problem::error("E0203", query.span, "a softmax takes a query for each step, as wide as a row");
            let problem = problem.here(format!("takes f32[~{name}, {}], found {text}", declared.dim)).and(over, "the table");
            let has_steps = self.graph[tensor.node].ty.dims.first() == wanted.first();
            let help = match has_steps {
                true => format!("project it first: `… |> linear({})`", declared.dim),
                false => format!("give it before its steps are brought together: each step of `{name}` has a query"),
            };
            self.report(problem.help(help));
            return false;
        }
        true
    }

    /// The column of the rows drawn for each step.
    fn drawn_column(&mut self, name: &str, of: u32, table: usize, count: u32) -> u32 {
        let name = format!("{name}.negatives");
        if let Some(known) = self.columns.iter().position(|column| column.name == name) {
            return known as u32;
        }
        let kind = ColumnKind::Drawn { of, table: table as u32, count };
        self.columns.push(Column { name, kind, token: Token::Condition, domain: None });
        let column = self.columns.len() as u32 - 1;
        self.tables[table].columns.push(column);
        column
    }

    /// Logits of what comes next and of the rows drawn for each step.
    fn logits(&mut self, query: NodeId, table: usize, column: u32, (drawn, count): (u32, u64), ranking: &Ranking) -> StepLogits {
        let of = self.entries_of(column);
        let seen = self.entries(column, InputKind::Entries { of });
        let rows = self.rows(table, column, seen);
        let target = self.graph.add(Op::Shift(Shift { back: false }), &[rows]);
        let negatives = self.entries(drawn, InputKind::Drawn { of, count });
        let others = self.rows(table, drawn, negatives);
        let query = if ranking.normalize { self.unit_length(query) } else { query };
        let dims = self.graph[others].ty.dims.clone();
        let wide = self.graph.add(Op::Broadcast(Broadcast { space: Space::Example, dims, axes: vec![0, 2] }), &[query]);
        let (hit, missed) = (self.scaled_dot(query, target, ranking), self.scaled_dot(wide, others, ranking));
        StepLogits { hit, missed, has_next: self.entries(column, InputKind::HasNext { of }) }
    }

    fn entries(&mut self, column: u32, kind: InputKind) -> NodeId {
        let name = self.columns[column as usize].name.clone();
        self.graph.add(Op::Input(Input { name, kind, columns: vec![column], group: false }), &[])
    }

    fn rows(&mut self, table: usize, column: u32, ids: NodeId) -> NodeId {
        let declared = self.tables[table].clone();
        let path = self.paths.text(declared.path);
        let table = TableId(table as u32);
        let gather = Gather { table, variable: declared.variable, path, width: declared.dim, columns: vec![column] };
        self.graph.add(Op::Gather(gather), &[ids])
    }

    /// Products of a query's and a row's last axis, over the temperature, and over the row's length where the ranking says so.
    fn scaled_dot(&mut self, query: NodeId, row: NodeId, ranking: &Ranking) -> NodeId {
        let product = self.graph.map(ScalarOp::Mul, &[query, row]);
        let axis = self.graph[product].ty.dims.len() - 1;
        let dot = self.graph.add(Op::Reduce(Reduce { combine: Combine::Add, axes: vec![axis] }), &[product]);
        let factor = self.graph.constant_like(dot, 1.0 / ranking.temperature);
        let scaled = self.graph.map(ScalarOp::Mul, &[dot, factor]);
        if !ranking.normalize {
            return scaled;
        }
        let length = self.length(row);
        self.graph.map(ScalarOp::Div, &[scaled, length])
    }

    /// Lengths of last axes.
    fn length(&mut self, node: NodeId) -> NodeId {
        let axis = self.graph[node].ty.dims.len() - 1;
        let square = self.graph.map(ScalarOp::Mul, &[node, node]);
        let sum = self.graph.add(Op::Reduce(Reduce { combine: Combine::Add, axes: vec![axis] }), &[square]);
        let least = self.graph.constant_like(sum, LEAST_LENGTH);
        let sum = self.graph.sum(sum, least);
        self.graph.map(ScalarOp::Sqrt, &[sum])
    }

    /// Last axes brought to length 1.
    fn unit_length(&mut self, node: NodeId) -> NodeId {
        let length = self.length(node);
        let ty = self.graph[node].ty.clone();
        let axes = (0..ty.dims.len() - 1).collect();
        let length = self.graph.add(Op::Broadcast(Broadcast { space: ty.space, dims: ty.dims, axes }), &[length]);
        self.graph.map(ScalarOp::Div, &[node, length])
    }

    /// The query of the last step, which scoring gives out.
    fn query_result(&mut self, name: &str, query: NodeId, normalize: bool) {
        let last = self.last_step(query);
        let query = if normalize { self.unit_length(last) } else { last };
        self.result(&format!("{name}.query"), query);
    }
}
