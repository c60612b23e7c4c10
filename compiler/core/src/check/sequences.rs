//! Bags and sequences: how their cells are split, and the functions of their entries.

use super::Checker;
use super::calls::Args;
use super::feature::{Kind, Step};
use super::value::{AxisId, Located, Tensor, Value, describe_type};
use crate::graph::{DType, Dim, NodeId, Space};
use crate::loops::Combine;
use crate::ops::{Broadcast, Elapsed, Input, InputKind, Op, Pick, Position, Reduce, Shift};
use crate::problem::{Problem, suggest};
use crate::scalar::ScalarOp;
use recc_abi::{ColumnKind, Split, Take};
use recc_syntax::ast::{self, Expr, ExprKind, Name, Span};

/// What a pipeline says of how a cell is split.
#[derive(Default)]
pub(super) struct Splitting {
    separator: Option<String>,
    take: Option<(Take, Span)>,
    /// The column whose entries these belong to.
    aligned: Option<(u32, Span)>,
    /// What stands before an entry's weight.
    weighted: Option<(String, Span)>,
    /// The exponent by which training shortens a sequence.
    stochastic: Option<(f64, Span)>,
}

/// Most entries that may be taken of one cell.
const MOST_TAKEN: i64 = 1_000_000;
/// Longest sequence whose steps may be paired: a number for each pair is stored.
const LONGEST_PAIRS: u64 = 4096;

impl Checker<'_> {
    /// Takes a step that says how a cell is split; tells whether it is one, and right.
    pub(super) fn splitting_step(&mut self, step: &Step, encoded: bool, into: &mut Splitting) -> Option<bool> {
        let name = step.name.text.as_str();
        match name {
            "split" if encoded || into.separator.is_some() => {
                let problem = Problem::error("E0303", step.span, "`split` does not fit here");
                self.report(problem.help("a cell is split once, before its values are numbered"));
                Some(false)
            }
            "split" => match self.text_argument(step) {
                Value::Text(text) if !text.is_empty() => {
                    into.separator = Some(text);
                    Some(true)
                }
                Value::Poison => Some(false),
                _ => {
                    let problem = Problem::error("E0305", step.span, "`split` takes what stands between the values, as text");
                    self.report(problem.help("such as `split(\"|\")`"));
                    Some(false)
                }
            },
            "take" | "take_last" if into.take.is_some() => {
                let problem = Problem::error("E0303", step.span, "how many entries are taken is said already");
                self.report(problem.help("keep one of `take` and `take_last`"));
                Some(false)
            }
            "take" | "take_last" => {
                let Some(count) = self.count_argument(step, 1, MOST_TAKEN) else { return Some(false) };
                let take = if name == "take" { Take::First(count as u32) } else { Take::Last(count as u32) };
                into.take = Some((take, step.span));
                Some(true)
            }
            "weighted" if encoded => {
                let problem = Problem::error("E0303", step.span, "`weighted` does not fit here");
                self.report(problem.help("weights are split off before the values are numbered"));
                Some(false)
            }
            "weighted" => match self.text_argument(step) {
                Value::Text(text) if !text.is_empty() => {
                    into.weighted = Some((text, step.span));
                    Some(true)
                }
                Value::Poison => Some(false),
                _ => {
                    let problem = Problem::error("E0305", step.span, "`weighted` takes what stands before the weight, as text");
                    self.report(problem.help("such as `weighted(\":\")` for entries `tag:0.5`"));
                    Some(false)
                }
            },
            "stochastic_length" => match self.stochastic_length(step) {
                Some(alpha) => {
                    into.stochastic = Some((alpha, step.span));
                    Some(true)
                }
                None => Some(false),
            },
            "aligned" => match self.aligned(step) {
                Some(column) => {
                    into.aligned = Some((column, step.span));
                    Some(true)
                }
                None => Some(false),
            },
            _ => None,
        }
    }

    /// `stochastic_length(alpha: 1.6)`
    fn stochastic_length(&mut self, step: &Step) -> Option<f64> {
        if let [ast::Argument { name: Some(name), value }] = step.args.as_slice()
            && name.text == "alpha"
        {
            return self.number_in(value, "alpha", 1.0, 2.0);
        }
        let problem = Problem::error("E0305", step.span, "`stochastic_length` takes `alpha`, from 1 to 2");
        self.report(
            problem.help("such as `take_last(200) |> stochastic_length(alpha: 1.6)`: the less, the shorter long sequences are in training"),
        );
        None
    }

    /// The sequence that `aligned(history)` names.
    fn aligned(&mut self, step: &Step) -> Option<u32> {
        let [ast::Argument { name: None, value: Expr { kind: ExprKind::Name(name), span } }] = step.args.as_slice() else {
            let problem = Problem::error("E0305", step.span, "`aligned` takes the name of a sequence");
            self.report(problem.help("such as `aligned(history)`: one value for each of its steps"));
            return None;
        };
        let sequence = |kind: Kind| matches!(kind, Kind::Ids { ordered: true } | Kind::Steps { .. });
        match self.features.iter().find(|feature| feature.name == *name) {
            Some(feature) if !feature.sound => None,
            Some(feature) if sequence(feature.kind) => {
                let column = feature.columns[0];
                // What is aligned with a sequence is aligned with that one's own.
                Some(self.entries_of(column))
            }
            Some(_) => {
                let problem = Problem::error("E0305", *span, format!("`{name}` is no sequence"));
                self.report(problem.help("values are aligned with a feature of kind `seq`"));
                None
            }
            None => {
                let known = self.features.iter().filter(|feature| sequence(feature.kind)).map(|feature| feature.name.as_str());
                let problem = Problem::error("E0101", *span, format!("there is no sequence `{name}` above"));
                let help = suggest(name, known.collect::<Vec<_>>());
                self.report(problem.help(help));
                None
            }
        }
    }

    /// How the cells of a bag or a sequence are split.
    pub(super) fn split_of(&mut self, name: &Name, what: &str, splitting: Splitting) -> Option<Split> {
        // Cells of grouped rows come one by one.
        let grouped = self.grouped.then(|| recc_abi::GROUPED.to_owned());
        let Some(separator) = splitting.separator.or(grouped) else {
            let problem = Problem::error("E0308", name.span, format!("the {what} `{}` is never split", name.text));
            self.report(problem.help("begin with `split(\"|\")` or what stands between its values"));
            return None;
        };
        let weighted = splitting.weighted.map(|(sign, _)| sign);
        let take = splitting.take.map(|(take, _)| take);
        if let Some((_, span)) = splitting.stochastic {
            let misfit = match (what, &splitting.aligned, take) {
                ("bag", ..) => Some("declare it as `seq`: only sequences have a last part"),
                (_, Some(_), _) => Some("it belongs to the sequence that this one is aligned with"),
                (_, None, Some(Take::Last(_))) => None,
                (_, None, _) => Some("say how many steps are taken at most: `take_last(200) |> stochastic_length(alpha: 1.6)`"),
            };
            if let Some(help) = misfit {
                self.report(Problem::error("E0303", span, "`stochastic_length` does not fit here").help(help));
                return None;
            }
        }
        let Some((column, _)) = splitting.aligned else {
            return Some(Split { separator, take, aligned: None, weighted, stochastic: splitting.stochastic.map(|(alpha, _)| alpha) });
        };
        if let Some((_, span)) = splitting.take {
            let other = self.columns[column as usize].name.clone();
            let problem = Problem::error("E0303", span, format!("`{}` takes the entries that `{other}` takes", name.text));
            self.report(problem.help("leave this step out"));
            return None;
        }
        let take = self.columns[column as usize].kind.split().and_then(|split| split.take);
        Some(Split { separator, take, aligned: Some(column), weighted, stochastic: None })
    }

    /// `seq times: time = times |> split(" ") |> aligned(history)`: the steps behind the splitting are transforms of numbers.
    pub(super) fn steps_kind(&mut self, name: &Name, times: bool, steps: Vec<Step>) -> (Option<ColumnKind>, Vec<Step>) {
        let mut splitting = Splitting::default();
        let mut sound = true;
        let mut transforms = Vec::new();
        for step in steps {
            match self.splitting_step(&step, !transforms.is_empty(), &mut splitting) {
                Some(right) => sound &= right,
                None if times => {
                    let problem = Problem::error("E0303", step.span, "times have no transforms");
                    self.report(problem.help("subtract two times in the model to have seconds: `differences(times, times)`"));
                    sound = false;
                }
                None => transforms.push(step),
            }
        }
        if let Some((_, span)) = &splitting.weighted {
            let problem = Problem::error("E0303", *span, "numbers have no weights");
            self.report(problem.help("weights belong to ids: declare the feature as `ids` or `seq` without a type"));
            return (None, Vec::new());
        }
        let (reading, transforms) = self.reading(transforms);
        let split = if sound { self.split_of(name, "sequence", splitting) } else { None };
        (split.zip(reading).map(|(split, reading)| ColumnKind::Numbers { split, times, reading }), transforms)
    }

    /// `time seen = column("ts")`: nothing is done to it.
    pub(super) fn time_kind(&mut self, steps: &[Step]) -> Option<ColumnKind> {
        let Some(step) = steps.first() else { return Some(ColumnKind::Time) };
        let problem = Problem::error("E0303", step.span, "a time has no transforms");
        self.report(problem.help("subtract two times in the model to have seconds: `now - times`"));
        None
    }

    /// The tensor of a time.
    pub(super) fn time_input(&mut self, at: usize) -> Value {
        self.features[at].used = true;
        let feature = self.features[at].clone();
        let input = Input { name: feature.name, kind: InputKind::Time, columns: feature.columns, group: false };
        Value::Tensor(Tensor { node: self.graph.add(Op::Input(input), &[]), axes: Vec::new() })
    }

    /// `a - b` of two times: seconds.
    pub(super) fn elapsed(&mut self, a: &Located, b: &Located, span: Span) -> Option<Value> {
        let times = |own: &Self, x: &Located| match &x.value {
            Value::Tensor(tensor) if own.graph[tensor.node].ty.dtype == DType::I32 => Some(tensor.clone()),
            _ => None,
        };
        let (x, y) = (times(self, a)?, times(self, b)?);
        Some(match self.joined(&[x, y], span) {
            Some((nodes, axes)) => Value::Tensor(Tensor { node: self.graph.add(Op::Elapsed(Elapsed), &nodes), axes }),
            None => Value::Poison,
        })
    }

    /// Rows of a weighted bag or sequence, each times its weight.
    pub(super) fn weighed(&mut self, rows: NodeId, column: u32) -> NodeId {
        let weights = column + 1;
        let name = self.columns[weights as usize].name.clone();
        let kind = InputKind::EntryNumbers { of: self.entries_of(column) };
        let weight = self.graph.add(Op::Input(Input { name, kind, columns: vec![weights], group: false }), &[]);
        let dims = self.graph[rows].ty.dims.clone();
        let weight = self.graph.add(Op::Broadcast(Broadcast { space: Space::Example, dims, axes: vec![0] }), &[weight]);
        self.graph.map(ScalarOp::Mul, &[rows, weight])
    }

    /// The tensor of a sequence of numbers or times, before its transforms.
    pub(super) fn steps_input(&mut self, at: usize) -> Tensor {
        let feature = self.features[at].clone();
        let of = self.entries_of(feature.columns[0]);
        let times = matches!(feature.kind, Kind::Steps { times: true });
        let kind = if times { InputKind::EntryTimes { of } } else { InputKind::EntryNumbers { of } };
        let node = self.graph.add(Op::Input(Input { name: feature.name, kind, columns: feature.columns, group: false }), &[]);
        Tensor { node, axes: vec![self.feature_axis(at)] }
    }

    /// The column that the entries of a column belong to.
    pub(super) fn entries_of(&self, column: u32) -> u32 {
        recc_abi::entries_of(&self.columns, column)
    }

    /// Whether the entries of a column have an order.
    pub(super) fn is_ordered(&self, column: u32) -> bool {
        matches!(self.columns[column as usize].kind, ColumnKind::Ids { ordered: true, .. } | ColumnKind::Numbers { .. })
    }

    /// A value with a step for each entry of a sequence.
    fn sequence(&mut self, name: &str, x: &Located) -> Option<(Tensor, u32)> {
        let tensor = match &x.value {
            // Ids are no numbers; they have places.
            Value::Feature(at) if name != "shift" && name != "last" && matches!(self.features[*at].kind, Kind::Ids { ordered: true }) => {
                self.features[*at].used = true;
                let axis = self.feature_axis(*at);
                let column = self.entries_of(self.features[*at].columns[0]);
                let node = self.graph.add(Op::Position(Position { column }), &[]);
                Tensor { node, axes: vec![axis] }
            }
            _ => self.tensor_or_times(x)?,
        };
        let ty = self.graph[tensor.node].ty.clone();
        match ty.entries().filter(|column| !ty.is_pairs() && self.is_ordered(*column)) {
            Some(column) => Some((tensor, column)),
            None => {
                let text = describe_type(&self.graph, tensor.node);
                let problem = Problem::error("E0226", x.span, format!("`{name}` takes a value for each step of a sequence"));
                self.report(
                    problem.here(format!("this is {text}")).help("such as `items[history]`, where `history` is a feature of kind `seq`"),
                );
                None
            }
        }
    }

    /// A tensor of numbers, or of times.
    fn tensor_or_times(&mut self, x: &Located) -> Option<Tensor> {
        match &x.value {
            Value::Tensor(tensor) if self.graph[tensor.node].ty.dtype == DType::I32 => Some(tensor.clone()),
            _ => self.tensor(x),
        }
    }

    /// `position(x)`: the place of each step of a sequence, from 0.
    pub(super) fn position(&mut self, mut args: Args) -> Value {
        let [x] = args.take(self, "position", ["x"]);
        args.done(self, "position");
        let Some((tensor, column)) = self.sequence("position", &x) else { return Value::Poison };
        let node = self.graph.add(Op::Position(Position { column }), &[]);
        Value::Tensor(Tensor { node, axes: tensor.axes[..1].to_vec() })
    }

    /// `shift(x)`: each step's next value; `shift(x, back: true)`: its previous one. Zero where there is none; a time is repeated.
    pub(super) fn shift(&mut self, mut args: Args) -> Value {
        let back = match args.take_named("back") {
            None => false,
            Some(Located { value: Value::Bool(back), .. }) => back,
            Some(Located { value: Value::Poison, .. }) => return Value::Poison,
            Some(other) => {
                let problem = Problem::error("E0201", other.span, "`back` is `true` or `false`");
                self.report(problem.help("with `true` each step takes the previous one's value"));
                return Value::Poison;
            }
        };
        let [x] = args.take(self, "shift", ["x"]);
        args.done(self, "shift");
        let Some((tensor, _)) = self.sequence("shift", &x) else { return Value::Poison };
        Value::Tensor(Tensor { node: self.graph.add(Op::Shift(Shift { back }), &[tensor.node]), axes: tensor.axes })
    }

    /// `differences(a, b)`: a_i - b_j for each pair of steps i, j; of times in seconds.
    pub(super) fn differences(&mut self, mut args: Args) -> Value {
        let span = args.span;
        let [a, b] = args.take(self, "differences", ["a", "b"]);
        args.done(self, "differences");
        let (Some((left, column)), Some((right, other))) = (self.sequence("differences", &a), self.sequence("differences", &b)) else {
            return Value::Poison;
        };
        let (x, y) = (self.graph[left.node].ty.clone(), self.graph[right.node].ty.clone());
        if column != other || x.dims.len() != 1 || y.dims.len() != 1 || x.dtype != y.dtype {
            let (here, there) = (describe_type(&self.graph, left.node), describe_type(&self.graph, right.node));
            let problem = Problem::error("E0202", span, "`differences` takes one number, or one time, for each step of one sequence");
            let problem = problem.and(a.span, format!("this is {here}")).and(b.span, format!("this is {there}"));
            self.report(problem.help("such as `differences(position(x), position(x))`"));
            return Value::Poison;
        }
        if !self.can_pair(column, span) {
            return Value::Poison;
        }
        let dims = vec![Dim::Entries(column); 2];
        let mut side = |node: NodeId, axis: usize| {
            self.graph.add(Op::Broadcast(Broadcast { space: Space::Example, dims: dims.clone(), axes: vec![axis] }), &[node])
        };
        let sides = [side(left.node, 0), side(right.node, 1)];
        let node = if x.dtype == DType::I32 { self.graph.add(Op::Elapsed(Elapsed), &sides) } else { self.graph.map(ScalarOp::Sub, &sides) };
        // The pairs' second axis is one of its own: sums along it do not touch the first.
        let axes = vec![left.axes[0], self.pair_axis(left.axes[0])];
        Value::Tensor(Tensor { node, axes })
    }

    /// The identity of the second axis of pairs of steps.
    pub(super) fn pair_axis(&mut self, first: AxisId) -> AxisId {
        if let Some(known) = self.pair_axes.get(&first) {
            return *known;
        }
        let axis = self.fresh_axis();
        self.pair_axes.insert(first, axis);
        axis
    }

    /// Whether the steps of a sequence may be paired: a number for each pair is stored, so the longest sequence must be known.
    pub(super) fn can_pair(&mut self, column: u32, span: Span) -> bool {
        let name = self.columns[column as usize].name.clone();
        match self.columns[column as usize].kind.longest() {
            Some(longest) if longest <= LONGEST_PAIRS => true,
            Some(longest) => {
                let problem = Problem::error("E0227", span, format!("sequences of up to {longest} steps are too long to pair their steps"));
                self.report(problem.help(format!("take {LONGEST_PAIRS} steps of `{name}` or fewer")));
                false
            }
            None => {
                self.has_no_longest(column, span);
                false
            }
        }
    }

    /// `pick(rows, numbers)`: rows of a parameter by number; one outside takes the first or the last.
    pub(super) fn pick(&mut self, mut args: Args) -> Value {
        let [rows, numbers] = args.take(self, "pick", ["rows", "numbers"]);
        args.done(self, "pick");
        let (Some(table), Some(number)) = (self.tensor(&rows), self.tensor(&numbers)) else { return Value::Poison };
        let ty = self.graph[table.node].ty.clone();
        if ty.space != Space::Global || ty.dims.is_empty() {
            let text = describe_type(&self.graph, table.node);
            let problem = Problem::error("E0202", rows.span, "`pick` takes rows of a parameter").here(format!("this is {text}"));
            self.report(problem.help("such as `param p: f32[200, D] = normal(0.02)` and `pick(p, position(x))`"));
            return Value::Poison;
        }
        if ty.dims.len() > 1 && self.graph[number.node].ty.is_pairs() {
            let text = describe_type(&self.graph, table.node);
            let problem =
                Problem::error("E0202", rows.span, "for each pair of steps `pick` takes one number").here(format!("this is {text}"));
            self.report(problem.help("pick from a parameter of one axis, once for each number you need"));
            return Value::Poison;
        }
        let dims = self.graph[number.node].ty.dims.clone();
        if !self.graph[number.node].ty.is_storable() {
            self.refuse_bag(&number, numbers.span);
            return Value::Poison;
        }
        let numbers = self.graph.broadcast(number.node, Space::Example, &dims);
        let node = self.graph.add(Op::Pick(Pick), &[table.node, numbers]);
        Value::Tensor(Tensor { node, axes: number.axes.into_iter().chain(table.axes.into_iter().skip(1)).collect() })
    }

    /// `last(x)`: the value of the last step of each sequence; zero of an empty one.
    pub(super) fn last(&mut self, mut args: Args) -> Value {
        let [x] = args.take(self, "last", ["x"]);
        args.done(self, "last");
        let Some((tensor, column)) = self.sequence("last", &x) else { return Value::Poison };
        if self.graph[tensor.node].ty.dtype != DType::F32 {
            return self.no_number(&x);
        }
        debug_assert_eq!(self.graph[tensor.node].ty.entries(), Some(column));
        Value::Tensor(Tensor { node: self.last_step(tensor.node), axes: tensor.axes[1..].to_vec() })
    }

    /// The value of the last step of each sequence; zero of an empty one.
    pub(super) fn last_step(&mut self, node: NodeId) -> NodeId {
        let ty = self.graph[node].ty.clone();
        let (dims, column) = (ty.dims.clone(), ty.entries().unwrap_or_else(|| unreachable!("{ty} has no steps")));
        let position = self.graph.add(Op::Position(Position { column }), &[]);
        let length = self.graph.add(Op::Length(crate::ops::Length { column }), &[]);
        let one = self.graph.constant_like(length, 1.0);
        let end = self.graph.map(ScalarOp::Sub, &[length, one]);
        let end = self.graph.broadcast(end, Space::Example, &dims[..1]);
        let chosen = self.graph.map(ScalarOp::Eq, &[position, end]);
        let axes = vec![0];
        let chosen = self.graph.add(Op::Broadcast(Broadcast { space: Space::Example, dims, axes }), &[chosen]);
        let zero = self.graph.constant_like(node, 0.0);
        let value = self.graph.map(ScalarOp::Select, &[chosen, node, zero]);
        self.graph.add(Op::Reduce(Reduce { combine: Combine::Add, axes: vec![0] }), &[value])
    }

    /// `longest(x)`: the most steps a sequence may have, a constant.
    pub(super) fn longest(&mut self, mut args: Args) -> Value {
        let [x] = args.take(self, "longest", ["x"]);
        args.done(self, "longest");
        let Some((_, column)) = self.sequence("longest", &x) else { return Value::Poison };
        match self.columns[column as usize].kind.longest() {
            Some(longest) => Value::Int(longest as i64),
            None => {
                self.has_no_longest(column, x.span);
                Value::Poison
            }
        }
    }

    fn has_no_longest(&mut self, column: u32, span: Span) {
        let name = self.columns[column as usize].name.clone();
        let problem = Problem::error("E0227", span, format!("`{name}` may have any number of steps, and a longest is needed here"));
        self.report(problem.help(format!("say how many are taken: `|> take_last(50)` behind the pipeline of `{name}`")));
    }

    pub(super) fn no_number(&mut self, x: &Located) -> Value {
        let problem = Problem::error("E0201", x.span, "these are times, not numbers");
        self.report(problem.help("`differences(a, b)` of two times gives seconds"));
        Value::Poison
    }
}
