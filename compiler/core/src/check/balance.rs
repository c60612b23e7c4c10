//! `balance` of an objective: a rule of the library or one's own, evaluated in the training graph.

use super::Checker;
use super::ensembles::{named_call, split_argument};
use super::value::{Located, Tensor, Value, describe_type};
use crate::graph::{Dim, NodeId, Space};
use crate::ops::{Given, Op};
use crate::problem::{Problem, suggest};
use crate::spec::{Balance, BalancedAt, Forward, Loss, LossOf};
use crate::train::{depends_on, learned};
use recc_abi::{Role, VariableId};
use recc_syntax::ast::{Expr, ExprKind, Span};
use std::collections::BTreeSet;

impl Checker<'_> {
    /// `balance: multibalance(over: ranker.shared)`; `left_out` are the names of losses with `balanced: false`.
    pub(super) fn check_balance(&mut self, value: &Expr, losses: &[Loss], left_out: &[String], training: &mut Forward) -> Option<Balance> {
        let Some((callee, args)) = named_call(value) else { return self.no_balance(value.span) };
        let name = recc_syntax::print_expr(callee);
        let span = callee.span;
        self.given_once(args, &name, usize::MAX)?;
        let (over, written) = split_argument(args, "over");
        let (average, written) = split_argument(written, "average");
        let Some(over) = over else {
            let problem = Problem::error("E0211", span, format!("`{name}` does not say where gradients are balanced"));
            self.report(
                problem.help("name what a model exposes, `over: ranker.shared`, or what two losses or more learn, `over: parameters`"),
            );
            return None;
        };
        let over = match &over.kind {
            ExprKind::Name(name) if name == "parameters" => BalancedAt::Parameters,
            ExprKind::Name(name) => {
                let problem = Problem::error("E0816", over.span, format!("`{name}` names nothing that a model exposes"));
                self.report(problem.help("name it with its model, `over: ranker.shared`, or write `over: parameters`"));
                return None;
            }
            _ => match self.exposed(over)? {
                Value::Tensor(shared) => BalancedAt::Value(shared.node),
                _ => {
                    let problem = Problem::error("E0817", over.span, "gradients are balanced at a tensor of the model");
                    self.report(problem.help("expose a value that the losses are computed from"));
                    return None;
                }
            },
        };
        let share = match average {
            Some(average) => Some(self.share_of_averages(average, over)?),
            None => None,
        };
        std::mem::swap(&mut self.graph, &mut training.program.graph);
        let found = self.balance_at((over, share), callee, &written, losses, left_out);
        std::mem::swap(&mut self.graph, &mut training.program.graph);
        found
    }

    /// What a step adds of a gradient to its moving average.
    fn share_of_averages(&mut self, average: &Expr, over: BalancedAt) -> Option<f64> {
        if over != BalancedAt::Parameters {
            let problem = Problem::error("E0817", average.span, "a representation is of other examples in each batch, and has no average");
            self.report(problem.help("average the gradients of parameters, `over: parameters`, or leave `average` out"));
            return None;
        }
        self.number_in(average, "average", 1e-6, 1.0)
    }

    /// Checks that a representation is learned and that all losses are computed from it.
    fn all_go_through(&mut self, over: NodeId, taking: &[usize], losses: &[Loss], span: Span) -> Option<()> {
        let ty = &self.graph[over].ty;
        if ty.space != Space::Example || ty.is_ragged() || self.learned_parameters(over).is_empty() {
            let problem = Problem::error("E0817", span, "what is balanced is no value of each example that the model learns");
            let help = match self.graph[over].ty.is_ragged() {
                true => "it has a value for each step: expose what brings them together, such as their mean",
                false => "expose what layers before the heads compute",
            };
            self.report(problem.help(help));
            return None;
        }
        let outside = taking.iter().find(|&&at| !depends_on(&self.graph, value_of(&losses[at]), over));
        let Some(&at) = outside else { return Some(()) };
        let problem = Problem::error("E0817", span, format!("the loss `{}` does not go through what is balanced", losses[at].name));
        self.report(
            problem
                .help("leave it out, with `balanced: false` among the arguments of its loss, or expose a value that it is computed from"),
        );
        None
    }

    /// Checks that each loss learns a parameter that another one learns too.
    fn all_share(&mut self, taking: &[usize], losses: &[Loss], span: Span) -> Option<()> {
        let each: Vec<BTreeSet<VariableId>> = taking.iter().map(|&at| self.learned_parameters(value_of(&losses[at]))).collect();
        let alone = |own: &usize| (0..each.len()).all(|other| other == *own || each[*own].is_disjoint(&each[other]));
        let Some(at) = (0..each.len()).find(alone).filter(|_| each.len() > 1) else { return Some(()) };
        let problem = Problem::error("E0817", span, format!("the loss `{}` shares no parameter with another", losses[taking[at]].name));
        self.report(problem.help("leave it out, with `balanced: false` among the arguments of its loss"));
        None
    }

    /// The parameters that a value is computed from.
    fn learned_parameters(&self, node: NodeId) -> BTreeSet<VariableId> {
        let trained = |id: &VariableId| self.variables[id.0 as usize].1.role == Role::Parameter;
        learned(&self.graph, node).into_iter().filter(trained).collect()
    }

    fn no_balance<T>(&mut self, span: Span) -> Option<T> {
        self.report(
            Problem::error("E0817", span, "this is no rule that balances gradients")
                .help("such as `balance: multibalance(over: ranker.shared)`"),
        );
        None
    }

    fn balance_at(
        &mut self,
        (over, average): (BalancedAt, Option<f64>),
        callee: &Expr,
        written: &[&recc_syntax::ast::Argument],
        losses: &[Loss],
        left_out: &[String],
    ) -> Option<Balance> {
        let span = callee.span;
        let taking: Vec<usize> = (0..losses.len()).filter(|&at| !left_out.contains(&losses[at].name)).collect();
        match over {
            BalancedAt::Value(over) => self.all_go_through(over, &taking, losses, span)?,
            BalancedAt::Parameters => self.all_share(&taking, losses, span)?,
        }
        if taking.len() < 2 {
            let problem = Problem::error("E0817", span, format!("{} loss is balanced", taking.len()));
            self.report(problem.help("two losses or more are balanced; a single one needs no balance"));
            return None;
        }
        let block = match self.callee(callee) {
            Value::Block(block) => block,
            Value::Poison => return None,
            _ => return self.no_balance(span),
        };
        let takes = block.block.parameters.iter().map(|parameter| parameter.name.text.as_str());
        let known: Vec<&str> = takes.filter(|name| !matches!(*name, "gram" | "losses")).chain(["over", "average"]).collect();
        let unknown = written.iter().filter_map(|argument| argument.name.as_ref()).find(|name| !known.contains(&name.text.as_str()));
        if let Some(unknown) = unknown {
            let problem = Problem::error("E0210", unknown.span, format!("`{}` has no argument `{}`", block.block.name.text, unknown.text));
            self.report(problem.and(block.block.name.span, "the rule").help(suggest(&unknown.text, known)));
            return None;
        }
        let count = taking.len() as u64;
        self.path = Some(self.paths.root_again("balance"));
        self.training = true;
        self.origin();
        let (k, j) = (self.fresh_axis(), self.fresh_axis());
        let gram = self.graph.add(Op::Given(Given { name: "gram".to_owned(), dims: vec![count, count] }), &[]);
        let means = self.graph.add(Op::Given(Given { name: "losses".to_owned(), dims: vec![count] }), &[]);
        let given = [("gram", Tensor { node: gram, axes: vec![k, j] }), ("losses", Tensor { node: means, axes: vec![k] })];
        let before = std::mem::take(&mut self.forward.updates);
        let value = self.call_with(&block, &given, written, span);
        let updates = std::mem::replace(&mut self.forward.updates, before);
        let weights = self.tensor(&Located { value, span })?;
        let ty = &self.graph[weights.node].ty;
        if ty.space != Space::Global || ty.dims != [Dim::Fixed(count)] {
            let each = if ty.space == Space::Global { "" } else { " for each example" };
            let text = describe_type(&self.graph, weights.node);
            let problem = Problem::error("E0817", span, "a rule gives a weight for each gradient").here(format!("this gives {text}{each}"));
            self.report(problem.help(format!(
                "give f32[{count}], computed from `gram`, the products of all pairs of gradients, from `losses` and from states"
            )));
            return None;
        }
        Some(Balance { over, losses: taking, average, gram, means, weights: weights.node, updates })
    }
}

/// What of a loss depends on the model.
fn value_of(loss: &Loss) -> NodeId {
    match loss.of {
        LossOf::Head { link, .. } => link,
        LossOf::Steps { logits, .. } => logits.hit,
        LossOf::Each(each) => each,
    }
}
