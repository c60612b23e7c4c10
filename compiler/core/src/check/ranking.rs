//! `predict next = softmax(q, over: items, target: shift(history))`: which row of a table comes next in a sequence, or is an id of the example.

use super::Checker;
use super::feature::Kind;
use super::settings::as_call;
use super::statements::{Head, Predicted};
use super::value::{Located, Tensor, Value, describe_type};
use crate::graph::{Dim, Graph, NodeId, Space, TableId};
use crate::loops::Combine;
use crate::ops::{Broadcast, Elapsed, Gather, Input, InputKind, LogPartition, MatMul, Op, Reduce, RowRead, Shift};
use crate::problem::{Problem, suggest};
use crate::scalar::ScalarOp;
use crate::spec::{OtherLogits, StepLogits};
use recc_abi::{Column, ColumnKind, Drawing, Element, Link, Negatives, Prediction, Ranking, Token};
use recc_syntax::ast::{Argument, Expr, ExprKind, Name, Span};
use std::collections::BTreeSet;

/// Most rows drawn for each step.
const MOST_DRAWN: i64 = 65_536;
/// The logit of a row that does not count: its exponential is 0.
const NO_LOGIT: f64 = -1e30;
/// What is added to the square of a length before its root.
const LEAST_LENGTH: f64 = 1e-12;

/// A softmax as written.
struct Softmax<'a> {
    query: &'a Expr,
    over: &'a Expr,
    target: &'a Expr,
    negatives: Option<&'a Expr>,
    weight: Option<&'a Expr>,
    temperature: f64,
    normalize: bool,
    repeats: bool,
}

/// How targets are compared with drawn rows.
#[derive(Clone, Copy)]
struct Draws {
    negatives: Negatives,
    /// Whether a drawn row that happens to be the target counts against it.
    keeps_hits: bool,
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
        let (Some(query_tensor), Some(table), Some(target)) =
            (self.tensor(&query), self.ranked_table(softmax.over), self.target_of(softmax.target))
        else {
            return self.poison_ranking(name);
        };
        let column = self.features[target].columns[0];
        let hidden = match self.steps_of(column) {
            Some(_) => !self.grouped || !self.reads_beside(column, span),
            None => self.is_blind_to(&query, &query_tensor, (column, softmax.target.span)),
        };
        if !hidden {
            return self.poison_ranking(name);
        }
        if !self.ranks(&query, &query_tensor, (table, softmax.over.span), (column, softmax.target.span)) {
            return self.poison_ranking(name);
        }
        let draws = softmax.negatives.map_or(Some(None), |written| self.negatives(written).map(Some));
        let weight = softmax.weight.map_or(Some(None), |written| self.weight_of_targets(written, column).map(Some));
        let (Some(draws), Some(weight)) = (draws, weight) else { return self.poison_ranking(name) };
        self.tables[table].used = true;
        self.origin();
        let Softmax { temperature, normalize, repeats, .. } = softmax;
        let negatives = draws.map(|draws| draws.negatives);
        let ranking = Ranking { table: table as u32, temperature, normalize, negatives, repeats };
        let steps = if self.training {
            Some(self.logits((&name.text, query_tensor.node), column, &ranking, (draws, weight)))
        } else {
            self.query_result(&name.text, query_tensor.node, column, softmax.normalize);
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

    /// With a mistake it is still a prediction, which takes every loss of a softmax: that is not reported too.
    fn poison_ranking(&mut self, name: &Name) {
        self.push_ranking(
            name,
            0,
            Ranking {
                table: 0,
                temperature: 1.0,
                normalize: false,
                negatives: Some(Negatives { count: 1, drawing: Drawing::Each, corrected: false }),
                repeats: false,
            },
            None,
        );
    }

    fn softmax_arguments<'a>(&mut self, args: &'a [Argument], span: Span) -> Option<Softmax<'a>> {
        self.given_once(args, "softmax", 1)?;
        let find = |name: &str| args.iter().find(|own| own.name.as_ref().is_some_and(|own| own.text == name)).map(|own| &own.value);
        let known = ["over", "target", "negatives", "weight", "temperature", "normalize", "repeats"];
        let unknown = args.iter().filter_map(|own| own.name.as_ref()).find(|name| !known.contains(&name.text.as_str()));
        if let Some(unknown) = unknown {
            let problem = Problem::error("E0210", unknown.span, format!("`softmax` has no argument `{}`", unknown.text));
            self.report(problem.help(suggest(&unknown.text, known)));
            return None;
        }
        let query = args.iter().find(|own| own.name.is_none()).map(|own| &own.value);
        let (Some(query), Some(over), Some(target)) = (query, find("over"), find("target")) else {
            let problem = Problem::error("E0211", span, "a softmax says what is ranked and what comes next");
            self.report(problem.help("such as `softmax(h, over: items, target: shift(history))`"));
            return None;
        };
        let temperature = match find("temperature") {
            Some(value) => self.number_in(value, "temperature", 1e-6, 1e6)?,
            None => 1.0,
        };
        let mut flag = |name: &str, help: &str| find(name).map_or(Some(false), |written| self.yes_or_no(written, name, help));
        let normalize = flag("normalize", "with `true` queries and rows are brought to length 1")?;
        let repeats = flag("repeats", "with `true` what a row has seen may come again")?;
        Some(Softmax { query, over, target, negatives: find("negatives"), weight: find("weight"), temperature, normalize, repeats })
    }

    /// `128`, rows drawn for each target, or `shared(256, by: batch)`, rows drawn once for all targets of a batch.
    fn negatives(&mut self, written: &Expr) -> Option<Draws> {
        let args = match (as_call(written), &written.kind) {
            (Some(("shared", _, args)), _) => args,
            (Some((other, span, _)), ExprKind::Call { .. })
                if super::builtins::find(other).is_none() && !self.modules[self.module].names.contains_key(other) =>
            {
                let problem = Problem::error("E0602", span, format!("there is no way `{other}` to draw negatives"));
                let help = "`negatives: 128` draws rows for each target, `negatives: shared(256)` once for all targets of a batch";
                self.report(problem.help(help));
                return None;
            }
            _ => {
                let count = self.whole(written, "negatives", 1, MOST_DRAWN)? as u32;
                return Some(Draws { negatives: Negatives { count, drawing: Drawing::Each, corrected: false }, keeps_hits: false });
            }
        };
        self.given_once(args, "shared", 1)?;
        let known = ["by", "keep_hits", "correct"];
        let unknown = args.iter().filter_map(|own| own.name.as_ref()).find(|name| !known.contains(&name.text.as_str()));
        if let Some(unknown) = unknown {
            let problem = Problem::error("E0210", unknown.span, format!("`shared` has no argument `{}`", unknown.text));
            self.report(problem.help(suggest(&unknown.text, known)));
            return None;
        }
        let Some(count) = args.iter().find(|own| own.name.is_none()) else {
            let problem = Problem::error("E0211", written.span, "`shared` does not say how many rows are drawn");
            self.report(problem.help("such as `negatives: shared(256)`"));
            return None;
        };
        let count = self.whole(&count.value, "shared", 1, MOST_DRAWN)? as u32;
        let find = |name: &str| args.iter().find(|own| own.name.as_ref().is_some_and(|own| own.text == name)).map(|own| &own.value);
        let drawing = find("by").map_or(Some(Drawing::Shared), |by| self.drawn_by(by))?;
        let mut flag = |name: &str, usual: bool, help: &str| find(name).map_or(Some(usual), |written| self.yes_or_no(written, name, help));
        let keeps_hits = flag("keep_hits", false, "with `true` a drawn row that is a step's target counts against it")?;
        let corrected =
            flag("correct", drawing != Drawing::Shared, "with `true` the cross entropy counts a drawn row by how often it is expected")?;
        if corrected && drawing == Drawing::Shared {
            let problem = Problem::error("E0602", written.span, "where every row is drawn alike there is nothing to correct");
            self.report(problem.help("leave `correct` out, or draw `by: popularity` or `by: batch`"));
            return None;
        }
        Some(Draws { negatives: Negatives { count, drawing, corrected }, keeps_hits })
    }

    /// `weight: hidden`: what the loss of each target counts, a number for each step, or for an id one.
    fn weight_of_targets(&mut self, written: &Expr, target: u32) -> Option<NodeId> {
        let located = Located { value: self.eval(written), span: written.span };
        let tensor = self.tensor(&located)?;
        let wanted: Vec<Dim> = self.steps_of(target).map(Dim::Entries).into_iter().collect();
        let ty = &self.graph[tensor.node].ty;
        if ty.space == Space::Example && ty.dims == wanted {
            return Some(tensor.node);
        }
        let text = describe_type(&self.graph, tensor.node);
        let each = if wanted.is_empty() { "for the target" } else { "for each step of the target" };
        let problem = Problem::error("E0203", written.span, format!("`weight` is a number {each}")).here(format!("this is {text}"));
        self.report(problem.help("such as `weight: shift(liked)` of a sequence of numbers that is aligned with the target"));
        None
    }

    /// `by: popularity`
    fn drawn_by(&mut self, written: &Expr) -> Option<Drawing> {
        const WAYS: [(&str, Drawing); 3] = [("uniform", Drawing::Shared), ("popularity", Drawing::Popularity), ("batch", Drawing::Batch)];
        let help = match &written.kind {
            ExprKind::Name(name) => match WAYS.iter().find(|(way, _)| way == name) {
                Some((_, drawing)) => return Some(*drawing),
                None => suggest(name, WAYS.map(|(way, _)| way)),
            },
            ExprKind::Text(text) => format!("write it without quotes: `{text}`"),
            _ => "`popularity` draws rows as often as they are targets in the training data, `batch` among the targets of the same batch"
                .to_owned(),
        };
        self.report(Problem::error("E0602", written.span, "`by` is `uniform`, `popularity` or `batch`").help(help));
        None
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

    /// The sequence of `shift(history)`, or the id of `item`.
    fn target_of(&mut self, target: &Expr) -> Option<usize> {
        let (named, shifted) = match &target.kind {
            ExprKind::Name(name) => (Some(name), false),
            ExprKind::Call { callee, args } => match (&callee.kind, args.as_slice()) {
                (ExprKind::Name(shift), [Argument { name: None, value: Expr { kind: ExprKind::Name(name), .. } }]) if shift == "shift" => {
                    (Some(name), true)
                }
                _ => (None, false),
            },
            _ => (None, false),
        };
        let found = named.and_then(|name| self.features.iter().position(|feature| feature.name == *name));
        let help = match found.map(|at| &self.features[at]) {
            Some(feature) if !feature.sound => return None,
            Some(feature) => match (&feature.kind, shifted) {
                (Kind::Ids { ordered: true }, true) | (Kind::Id, false) if !feature.group => {
                    self.features[found?].used = true;
                    return found;
                }
                (Kind::Ids { ordered: true }, false) => {
                    format!("of a sequence the next step is predicted: `target: shift({})`", feature.name)
                }
                (Kind::Id, true) if !feature.group => format!("an id is no sequence, and is predicted itself: `target: {}`", feature.name),
                _ => "name a feature of kind `seq`, such as `target: shift(history)`, or of kind `id`, such as `target: item`".to_owned(),
            },
            None => match named {
                Some(name) => {
                    let names: Vec<String> = self.features.iter().map(|feature| feature.name.clone()).collect();
                    let problem = Problem::error("E0101", target.span, format!("there is no feature `{name}`"));
                    self.report(problem.help(suggest(name, names.iter().map(String::as_str))));
                    return None;
                }
                None => {
                    "name a feature of kind `seq`, such as `target: shift(history)`, or of kind `id`, such as `target: item`".to_owned()
                }
            },
        };
        let problem = Problem::error("E0228", target.span, "a softmax predicts the next step of a sequence, or an id");
        self.report(problem.help(help));
        None
    }

    /// The axis of the steps of a column that holds a sequence.
    fn steps_of(&self, column: u32) -> Option<u32> {
        self.columns[column as usize].kind.split().map(|_| self.entries_of(column))
    }

    /// Whether a query is not made of what it is to predict.
    fn is_blind_to(&mut self, query: &Located, tensor: &Tensor, (column, target): (u32, Span)) -> bool {
        let own = self.cells_of(column);
        let mut stack = vec![tensor.node];
        let mut seen = BTreeSet::new();
        while let Some(node) = stack.pop() {
            if !seen.insert(node) {
                continue;
            }
            if let Op::Input(input) = &self.graph[node].op
                && let Some(read) = input.columns.iter().find(|read| self.cells_of(**read).iter().any(|cell| own.contains(cell)))
            {
                let name = self.columns[*read as usize].name.clone();
                let problem = Problem::error("E0510", query.span, "this query is made of what it is to predict");
                let problem = problem.here(format!("reads `{name}`")).and(target, "the target");
                self.report(problem.help("a query is made of what is known before the target is: leave it out"));
                return false;
            }
            stack.extend(self.graph.operands(node));
        }
        true
    }

    /// The columns of the data that a column is made of.
    fn cells_of(&self, column: u32) -> Vec<String> {
        match &self.columns[column as usize].token {
            Token::Cross(parts) => parts.iter().flat_map(|part| self.cells_of(*part)).collect(),
            token => token.column().map(str::to_owned).into_iter().collect(),
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

    /// Whether a query asks for rows of the table that the target looks up, at each step of a sequence.
    fn ranks(&mut self, query: &Located, tensor: &Tensor, (table, over): (usize, Span), (column, target): (u32, Span)) -> bool {
        if self.steps_of(column).is_some() && self.columns[column as usize].kind.longest() == Some(1) {
            let name = self.columns[column as usize].name.clone();
            let problem = Problem::error("E0228", target, format!("`{name}` has one step at the most, behind which nothing comes"));
            self.report(problem.help("take two steps or more: `take_last(50)`"));
            return false;
        }
        if self.columns[column as usize].kind.encoder().is_some_and(|encoder| encoder.part().is_some()) {
            let name = self.columns[column as usize].name.clone();
            let problem = Problem::error("E0228", target, format!("several values of `{name}` share a row"));
            self.report(problem.help("rank the rows of a table that has one for each value: leave `quotient` and `remainder` out"));
            return false;
        }
        let declared = self.tables[table].clone();
        if !declared.columns.contains(&column) {
            let name = self.columns[column as usize].name.clone();
            let problem = Problem::error("E0228", target, format!("`{name}` is no key of the table `{}`", declared.name));
            self.report(
                problem.and(over, "the table").help(format!("the target is one of the rows that are ranked: add `{name}` to `keys`")),
            );
            return false;
        }
        if declared.storage != Element::F32 {
            self.not_yet(over, "ranking the rows of a table that is stored in few bytes");
            return false;
        }
        let steps = self.steps_of(column);
        let wanted: Vec<Dim> = steps.map(Dim::Entries).into_iter().chain([Dim::Fixed(declared.dim)]).collect();
        let dims = self.graph[tensor.node].ty.dims.clone();
        if dims != wanted {
            let text = describe_type(&self.graph, tensor.node);
            let name = steps.map(|of| self.columns[of as usize].name.clone());
            let each = if name.is_some() { " for each step" } else { "" };
            let problem = Problem::error("E0203", query.span, format!("a softmax takes a query{each}, as wide as a row"));
            let axis = name.as_ref().map_or(String::new(), |name| format!("~{name}, "));
            let problem = problem.here(format!("takes f32[{axis}{}], found {text}", declared.dim)).and(over, "the table");
            let help = match name {
                Some(name) if dims.first() != wanted.first() => {
                    format!("give it before its steps are brought together: each step of `{name}` has a query")
                }
                None if dims.len() > 1 => format!("bring its axes together first: `… |> flatten |> linear({})`", declared.dim),
                _ => format!("project it first: `… |> linear({})`", declared.dim),
            };
            self.report(problem.help(help));
            return false;
        }
        true
    }

    /// The column of the rows drawn for each target.
    fn drawn_column(&mut self, name: &str, of: u32, table: usize, Negatives { count, drawing, .. }: Negatives) -> u32 {
        let name = format!("{name}.negatives");
        if let Some(known) = self.columns.iter().position(|column| column.name == name) {
            return known as u32;
        }
        let kind = ColumnKind::Drawn { of, table: table as u32, count, drawing };
        self.columns.push(Column { name, kind, token: Token::Condition, domain: None });
        let column = self.columns.len() as u32 - 1;
        self.tables[table].columns.push(column);
        column
    }

    /// Logits of the target, and of what it is compared with.
    fn logits(
        &mut self,
        (name, query): (&str, NodeId),
        column: u32,
        ranking: &Ranking,
        (draws, weight): (Option<Draws>, Option<NodeId>),
    ) -> StepLogits {
        let (of, table) = (self.steps_of(column), ranking.table as usize);
        let ids = self.ids_of(column, of.map_or(InputKind::Ids, |of| InputKind::Entries { of }));
        let rows = self.rows(table, column, ids);
        let target = if of.is_some() { self.graph.add(Op::Shift(Shift { back: false }), &[rows]) } else { rows };
        let query = if ranking.normalize { self.unit_length(query) } else { query };
        let hit = self.scaled_dot(query, target, ranking);
        let mut log_shares = None;
        let others = match draws {
            Some(Draws { negatives, keeps_hits }) if negatives.drawing.is_shared() => {
                let (drawn, count) = (self.drawn_column(name, column, table, negatives), u64::from(negatives.count));
                let targets = if of.is_some() { self.graph.add(Op::Shift(Shift { back: false }), &[ids]) } else { ids };
                if negatives.corrected {
                    log_shares = Some(self.ids_of(drawn, InputKind::LogShare { count }));
                }
                OtherLogits::Drawn(self.shared_logits(query, targets, (drawn, count), ranking, keeps_hits))
            }
            Some(Draws { negatives, .. }) => {
                let drawn = self.drawn_column(name, column, table, negatives);
                let drawn_ids = self.ids_of(drawn, InputKind::Drawn { of, count: u64::from(negatives.count) });
                let rows = self.rows(table, drawn, drawn_ids);
                let dims = self.graph[rows].ty.dims.clone();
                let axes = if of.is_some() { vec![0, 2] } else { vec![1] };
                let wide = self.graph.add(Op::Broadcast(Broadcast { space: Space::Example, dims, axes }), &[query]);
                OtherLogits::Drawn(self.scaled_dot(wide, rows, ranking))
            }
            None => OtherLogits::All(self.log_partition(query, ranking)),
        };
        let has_target = self.ids_of(column, InputKind::HasTarget { of });
        let has_target = weight.map_or(has_target, |weight| self.graph.map(ScalarOp::Mul, &[has_target, weight]));
        StepLogits { hit, others, table: TableId(ranking.table), has_target, log_shares }
    }

    /// Logits of rows that are drawn once for the batch, one matrix for all targets; where one is the target itself, none that counts.
    fn shared_logits(&mut self, query: NodeId, targets: NodeId, (drawn, count): (u32, u64), ranking: &Ranking, keeps_hits: bool) -> NodeId {
        let negatives = self.ids_of(drawn, InputKind::DrawnOnce { count });
        let rows = self.rows(ranking.table as usize, drawn, negatives);
        let rows = if ranking.normalize { self.unit_length(rows) } else { rows };
        let products = self.graph.add(Op::MatMul(MatMul { transposed: true }), &[query, rows]);
        let factor = self.graph.constant_like(products, 1.0 / ranking.temperature);
        let logits = self.graph.map(ScalarOp::Mul, &[products, factor]);
        if keeps_hits {
            return logits;
        }
        let dims = self.graph[logits].ty.dims.clone();
        let last = dims.len() - 1;
        let repeated = |graph: &mut Graph, node: NodeId, axes: Vec<usize>| {
            graph.add(Op::Broadcast(Broadcast { space: Space::Example, dims: dims.clone(), axes }), &[node])
        };
        let (targets, negatives) =
            (repeated(&mut self.graph, targets, (0..last).collect()), repeated(&mut self.graph, negatives, vec![last]));
        let apart = self.graph.add(Op::Elapsed(Elapsed), &[targets, negatives]);
        let zero = self.graph.constant_like(apart, 0.0);
        let hit = self.graph.map(ScalarOp::Eq, &[apart, zero]);
        let none = self.graph.constant_like(logits, NO_LOGIT);
        self.graph.map(ScalarOp::Select, &[hit, none, logits])
    }

    /// The log of the sum of the exponentials of all rows' logits.
    fn log_partition(&mut self, query: NodeId, ranking: &Ranking) -> NodeId {
        let declared = self.tables[ranking.table as usize].clone();
        // Every row has a gradient in each step.
        self.tables[ranking.table as usize].update.all_rows = true;
        let (table, path) = (TableId(ranking.table), self.paths.text(declared.path));
        let read = RowRead { table, variable: declared.variable, path, width: Some(declared.dim) };
        let rows = self.graph.add(Op::RowRead(read), &[]);
        let rows = if ranking.normalize { self.unit_length(rows) } else { rows };
        let factor = self.graph.constant_like(query, 1.0 / ranking.temperature);
        let query = self.graph.map(ScalarOp::Mul, &[query, factor]);
        self.graph.add(Op::LogPartition(LogPartition { table }), &[query, rows])
    }

    fn ids_of(&mut self, column: u32, kind: InputKind) -> NodeId {
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

    /// The query that scoring gives out; of a sequence the last step's.
    fn query_result(&mut self, name: &str, query: NodeId, column: u32, normalize: bool) {
        let last = if self.steps_of(column).is_some() { self.last_step(query) } else { query };
        let query = if normalize { self.unit_length(last) } else { last };
        self.result(&format!("{name}.query"), query);
    }
}
