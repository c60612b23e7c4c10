//! Ensembles: several models whose predictions are fused, and what they learn from each other.

use super::calls::Args;
use super::statements::{Head, Predicted};
use super::value::{Located, Tensor, Value, describe_type};
use super::{Checker, Walked};
use crate::graph::{Dim, NodeId, Space};
use crate::ops::{Concat, Op, Reshape};
use crate::problem::{Problem, suggest};
use crate::scalar::ScalarOp;
use recc_abi::Prediction;
use recc_syntax::ast::{self, Argument, Expr, ExprKind, ItemKind, Name, Span};

/// The library's module that fuses and teaches.
const MODULE: &str = "std.ensemble";

/// An ensemble whose members are known.
#[derive(Clone, Debug)]
pub(super) struct Ensemble<'f> {
    pub(super) name: &'f Name,
    settings: &'f ast::Settings,
    /// Positions among the spec's models.
    members: Vec<usize>,
    /// Weight of each member's own loss.
    pub(super) own: Vec<f64>,
}

/// A loss that is computed for each example, not from a label by a known formula.
#[derive(Clone, Debug)]
pub(super) struct Collaboration {
    /// The prediction it is about.
    pub(super) prediction: String,
    pub(super) node: NodeId,
    pub(super) weight: f64,
}

impl Checker<'_> {
    /// The spec's ensemble. A spec of several models has one, and all are its members.
    pub(super) fn check_ensemble<'f>(&mut self, file: &'f ast::File, models: &[(&'f Name, &'f ast::Body)]) -> Option<Ensemble<'f>> {
        let items = self.only(file, "ensemble", |kind| match kind {
            ItemKind::Ensemble { name, members, settings } => Some((name, members, settings)),
            _ => None,
        });
        let Some(&(name, list, settings)) = items.first() else {
            if let [(first, _), (second, _), ..] = models {
                let problem =
                    Problem::error("E0811", second.span, format!("`{}` is a second model, and no ensemble joins it", second.text));
                let help = format!("add `ensemble both of [{}, {}] {{ fuse: mean }}`, or keep one model", first.text, second.text);
                self.report(problem.and(first.span, "the first model").help(help));
            }
            return None;
        };
        self.known_settings(settings, "ensemble", &["fuse", "collaborate", "members"]);
        let mut members = Vec::new();
        let items: Vec<&Expr> = if let ExprKind::List(items) = &list.kind { items.iter().collect() } else { vec![list] };
        for item in items {
            let wanted = if let ExprKind::Name(name) = &item.kind { name.as_str() } else { "" };
            match models.iter().position(|(model, _)| model.text == wanted) {
                Some(at) if members.contains(&at) => {
                    self.report(Problem::error("E0812", item.span, format!("`{wanted}` is a member twice")).help("name each model once"));
                }
                Some(at) => members.push(at),
                None => {
                    let help = suggest(wanted, models.iter().map(|(model, _)| model.text.as_str()));
                    self.report(Problem::error("E0812", item.span, "there is no such model").help(help));
                }
            }
        }
        if members.len() < 2 && !self.has_errors() {
            let problem = Problem::error("E0812", list.span, "an ensemble has two members or more");
            self.report(problem.help("name its models: `ensemble both of [a, b] { fuse: mean }`"));
        }
        for (at, (model, _)) in models.iter().enumerate() {
            if !members.contains(&at) && !self.has_errors() {
                let problem = Problem::error("E0812", model.span, format!("the model `{}` is no member of the ensemble", model.text));
                self.report(problem.and(name.span, "the ensemble").help("add it to the list, or remove it"));
            }
        }
        let find = |key: &str| settings.entries.iter().find(|setting| setting.key.text == key);
        if find("fuse").is_none() {
            let problem = Problem::error("E0109", name.span, format!("the ensemble `{}` does not say its `fuse`", name.text));
            self.report(problem.help("such as `fuse: mean`, or `fuse: confidence(temperature: learned)` of std.ensemble"));
        }
        let own = match find("members") {
            Some(setting) => self.own_weights(&setting.value, members.len()),
            None => vec![1.0; members.len()],
        };
        Some(Ensemble { name, settings, members, own })
    }

    /// `members: 1.0`, or one number for each member.
    fn own_weights(&mut self, value: &Expr, count: usize) -> Vec<f64> {
        let items: Vec<&Expr> = match &value.kind {
            ExprKind::List(items) => items.iter().collect(),
            _ => vec![value; count],
        };
        if items.len() != count {
            let problem = Problem::error("E0813", value.span, format!("{} weights for {count} members", items.len()));
            self.report(problem.help("give one number, or one for each member"));
        }
        items.into_iter().map(|item| self.number_in(item, "members", 0.0, 1e9).unwrap_or(1.0)).collect()
    }

    /// Fuses the members' predictions: the fused ones come first, each member's behind them.
    pub(super) fn fuse(&mut self, ensemble: &Ensemble<'_>, walked: Vec<Walked>) -> Vec<Predicted> {
        let members: Vec<&Walked> = ensemble.members.iter().filter_map(|at| walked.get(*at)).collect();
        let Some(first) = members.first() else { return Vec::new() };
        let mut fused = Vec::new();
        for prediction in &first.predictions {
            let own: Vec<&Predicted> = members
                .iter()
                .filter_map(|member| member.predictions.iter().find(|own| own.prediction.name == prediction.prediction.name))
                .collect();
            if own.len() == members.len() && own.iter().all(|own| own.prediction.link == prediction.prediction.link) {
                fused.extend(self.fuse_prediction(ensemble, &own));
            }
        }
        for member in &members {
            let names = |walked: &Walked| {
                walked.predictions.iter().map(|own| (own.prediction.name.clone(), own.prediction.is_logit())).collect::<Vec<_>>()
            };
            let (mut here, mut there) = (names(member), names(first));
            here.sort();
            there.sort();
            if here != there && !self.has_errors() {
                let problem = Problem::error("E0813", member.span, "members predict the same labels by the same links");
                self.report(problem.and(first.span, "the first member").help("give each member every `predict` of the others"));
            }
        }
        fused.extend(members.into_iter().flat_map(|member| member.predictions.clone()));
        fused
    }

    fn fuse_prediction(&mut self, ensemble: &Ensemble<'_>, own: &[&Predicted]) -> Option<Predicted> {
        let first = own[0];
        let heads = own.iter().map(|own| match own.head {
            Some(Head::Number { link, label }) => Some((link, label)),
            Some(Head::Steps(_) | Head::Loss(_)) | None => None,
        });
        let (links, labels): (Vec<NodeId>, Vec<NodeId>) = heads.collect::<Option<Vec<_>>>()?.into_iter().unzip();
        let label = labels[0];
        let find = |key: &str| ensemble.settings.entries.iter().find(|setting| setting.key.text == key).map(|setting| &setting.value);
        let z = self.stacked(&links);
        let Fusion { node, weights } = self.fusion(find("fuse")?, &z, first.prediction.is_logit())?;
        let name = &first.prediction.name;
        let value = if first.prediction.is_logit() { self.graph.map(ScalarOp::Sigmoid, &[node]) } else { node };
        self.result(&format!("{name}.link"), node);
        self.result(name, value);
        if let Some(weights) = weights {
            self.result(&format!("{name}.weights"), weights);
        }
        let prediction = Prediction { model: None, weights: weights.map(|_| own.len() as u32), ..first.prediction.clone() };
        if let (Some(value), true) = (find("collaborate"), self.training) {
            self.collaborate(value, &z, node, label, &prediction);
        }
        Some(Predicted { prediction, span: first.span, head: Some(Head::Number { link: node, label }) })
    }

    /// One number for each member.
    fn stacked(&mut self, links: &[NodeId]) -> Tensor {
        let longs: Vec<NodeId> =
            links.iter().map(|link| self.graph.add(Op::Reshape(Reshape { dims: vec![Dim::Fixed(1)] }), &[*link])).collect();
        let node = self.graph.add(Op::Concat(Concat { axis: 0 }), &longs);
        Tensor { node, axes: vec![self.fresh_axis()] }
    }

    fn fusion(&mut self, value: &Expr, z: &Tensor, logit: bool) -> Option<Fusion> {
        let (callee, args) = named_call(value).or_else(|| self.no_call(value.span, "fuse"))?;
        let span = callee.span;
        self.given_once(args, "fuse", usize::MAX)?;
        let (of, args) = split_argument(args, "of");
        let of_logit = match of.map(|of| (of, &of.kind)) {
            None => !logit,
            Some((_, ExprKind::Name(word))) if word == "logit" => true,
            Some((_, ExprKind::Name(word))) if word == "probability" && logit => false,
            Some((of, _)) => {
                let problem = Problem::error("E0814", of.span, "`of` is `probability` or `logit`");
                self.report(problem.help("whether probabilities or logits are averaged; values have no probability"));
                return None;
            }
        };
        let score = if is_word(callee, "mean") && args.is_empty() {
            self.graph.constant_like(z.node, 0.0)
        } else {
            let given = [("z", z.clone())];
            let found = self.apply(callee, &given, &args)?;
            let dims = self.graph[found.node].ty.dims.clone();
            if dims.is_empty() {
                // The block fused by itself; which member weighs what is its own affair.
                return Some(Fusion { node: self.graph.broadcast(found.node, Space::Example, &[]), weights: None });
            }
            if dims != self.graph[z.node].ty.dims {
                let text = describe_type(&self.graph, found.node);
                let wanted = describe_type(&self.graph, z.node);
                let problem = Problem::error("E0814", span, "fusion gives a score for each member, or the fused value");
                self.report(
                    problem.here(format!("this gives {text}")).help(format!("give {wanted}, whose softmax weighs the members, or f32")),
                );
                return None;
            }
            self.graph.broadcast(found.node, Space::Example, &dims)
        };
        let score = Tensor { node: score, axes: z.axes.clone() };
        let by = if of_logit { "fuse_logits" } else { "fuse_probabilities" };
        let node = self.library(by, span, &[z.clone(), score.clone()])?.node;
        let weights = self.call_builtin("softmax", Args { span, values: vec![positional(&score, span)] });
        let weights = if let Value::Tensor(weights) = weights { Some(weights.node) } else { None };
        Some(Fusion { node, weights })
    }

    fn collaborate(&mut self, value: &Expr, z: &Tensor, fused: NodeId, label: NodeId, prediction: &Prediction) {
        let Some((callee, args)) = named_call(value).or_else(|| self.no_call(value.span, "collaborate")) else { return };
        let span = callee.span;
        if is_word(callee, "none") && args.is_empty() || self.given_once(args, "collaborate", usize::MAX).is_none() {
            return;
        }
        if !prediction.is_logit() {
            let problem = Problem::error("E0814", span, "members teach each other by probabilities, and this predicts a value");
            return self.report(problem.help("write `collaborate: none`"));
        }
        let (weight, args) = split_argument(args, "weight");
        let weight = match weight {
            Some(weight) => match self.number_in(weight, "weight", 0.0, 1e9) {
                Some(weight) => weight,
                None => return,
            },
            None => 1.0,
        };
        let number = |node| Tensor { node, axes: Vec::new() };
        let given = [("z", z.clone()), ("fused", number(fused)), ("label", number(label))];
        let Some(found) = self.apply(callee, &given, &args) else { return };
        if !self.graph[found.node].ty.dims.is_empty() {
            let text = describe_type(&self.graph, found.node);
            let problem = Problem::error("E0814", span, "collaboration gives a loss, one number for each example");
            return self.report(problem.here(format!("this gives {text}")).help("sum or average it"));
        }
        let node = self.graph.broadcast(found.node, Space::Example, &[]);
        self.collaborations.push(Collaboration { prediction: prediction.name.clone(), node, weight });
    }

    fn no_call<T>(&mut self, span: Span, what: &str) -> Option<T> {
        let problem = Problem::error("E0814", span, format!("`{what}` names a block of the members' logits"));
        self.report(problem.help("such as `fuse: mean`, `fuse: confidence(temperature: 2)` or `collaborate: mutual(weight: 0.5)`"));
        None
    }

    /// Calls a block with the values it has parameters for, the first by place, and with what is written.
    fn apply(&mut self, callee: &Expr, given: &[(&str, Tensor)], written: &[&Argument]) -> Option<Tensor> {
        let span = callee.span;
        let block = match self.callee(callee) {
            Value::Block(block) => block,
            Value::Poison => return None,
            other => {
                let text = other.describe(&self.graph);
                let problem = Problem::error("E0814", span, format!("{text} does not fuse or teach members"));
                self.report(problem.help("name a block of std.ensemble, or your own"));
                return None;
            }
        };
        match self.call_with(&block, given, written, span) {
            Value::Tensor(tensor) => Some(tensor),
            Value::Poison => None,
            other => {
                let text = other.describe(&self.graph);
                self.report(
                    Problem::error("E0814", span, "this gives no tensor").here(format!("this is {text}")).help("give f32 values back"),
                );
                None
            }
        }
    }

    /// Calls a block of the library, whether or not the spec imports it.
    fn library(&mut self, name: &str, span: Span, given: &[Tensor]) -> Option<Tensor> {
        let module = self.modules.iter().find(|module| module.name == MODULE)?;
        let Value::Block(block) = module.names.get(name)?.value.clone() else { return None };
        let values = given.iter().map(|tensor| positional(tensor, span)).collect();
        match self.call_block(&block, Args { span, values }, span) {
            Value::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }
}

/// A fused prediction, and each member's weight.
struct Fusion {
    node: NodeId,
    weights: Option<NodeId>,
}

/// A value as an argument without a name.
fn positional(tensor: &Tensor, span: Span) -> (Option<Name>, Located, Expr) {
    (None, Located { value: Value::Tensor(tensor.clone()), span }, Expr { kind: ExprKind::Hole, span })
}

/// The callee and the arguments of a call, or of a bare name: of a block here, or in a file that is used.
pub(super) fn named_call(value: &Expr) -> Option<(&Expr, &[Argument])> {
    let is_named = |callee: &Expr| matches!(&callee.kind, ExprKind::Name(_) | ExprKind::Field { .. });
    match &value.kind {
        ExprKind::Call { callee, args } if is_named(callee) => Some((callee, args)),
        _ if is_named(value) => Some((value, &[])),
        _ => None,
    }
}

fn is_word(callee: &Expr, word: &str) -> bool {
    matches!(&callee.kind, ExprKind::Name(name) if name == word)
}

/// The argument of a name, and the others.
pub(super) fn split_argument<'e>(args: impl IntoIterator<Item = &'e Argument>, wanted: &str) -> (Option<&'e Expr>, Vec<&'e Argument>) {
    let is_wanted = |argument: &&Argument| argument.name.as_ref().is_some_and(|name| name.text == wanted);
    let (found, others): (Vec<&Argument>, Vec<&Argument>) = args.into_iter().partition(is_wanted);
    (found.first().map(|argument| &argument.value), others)
}
