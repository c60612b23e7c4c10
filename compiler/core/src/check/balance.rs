//! `balance` of an objective: a rule of the library or one's own, evaluated in the training graph.

use super::Checker;
use super::ensembles::{named_call, split_argument};
use super::value::{Located, Tensor, Value, describe_type};
use crate::graph::{Dim, Space};
use crate::ops::{Given, Op};
use crate::problem::Problem;
use crate::spec::{Balance, Forward, Loss, LossOf};
use crate::train::{depends_on, is_learned};
use recc_syntax::ast::{Expr, ExprKind, Span};

impl Checker<'_> {
    /// `balance: multibalance(over: ranker.shared)`; `left_out` are the names of losses with `balanced: false`.
    pub(super) fn check_balance(&mut self, value: &Expr, losses: &[Loss], left_out: &[String], training: &mut Forward) -> Option<Balance> {
        let Some((callee, args)) = named_call(value) else { return self.no_balance(value.span) };
        let name = recc_syntax::print_expr(callee);
        let span = callee.span;
        self.given_once(args, &name, usize::MAX)?;
        let (over, written) = split_argument(args, "over");
        let Some(over) = over else {
            let problem = Problem::error("E0211", span, format!("`{name}` does not say where gradients are balanced"));
            self.report(problem.help("name what a model exposes: `over: ranker.shared`"));
            return None;
        };
        if matches!(&over.kind, ExprKind::Name(name) if name == "parameters") {
            self.not_yet(over.span, "balancing over parameters");
            return None;
        }
        let Value::Tensor(shared) = self.exposed(over)? else {
            let problem = Problem::error("E0817", over.span, "gradients are balanced at a tensor of the model");
            self.report(problem.help("expose a value that the losses are computed from"));
            return None;
        };
        std::mem::swap(&mut self.graph, &mut training.program.graph);
        let found = self.balance_at(shared.node, callee, &written, losses, left_out);
        std::mem::swap(&mut self.graph, &mut training.program.graph);
        found
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
        over: crate::graph::NodeId,
        callee: &Expr,
        written: &[&recc_syntax::ast::Argument],
        losses: &[Loss],
        left_out: &[String],
    ) -> Option<Balance> {
        let span = callee.span;
        let ty = &self.graph[over].ty;
        if ty.space != Space::Example || ty.is_ragged() || !is_learned(&self.graph, over) {
            let problem = Problem::error("E0817", span, "what is balanced is no value of each example that the model learns");
            let help = match self.graph[over].ty.is_ragged() {
                true => "it has a value for each step: expose what brings them together, such as their mean",
                false => "expose what layers before the heads compute",
            };
            self.report(problem.help(help));
            return None;
        }
        let through = |loss: &Loss| {
            let node = match loss.of {
                LossOf::Head { link, .. } => link,
                LossOf::Steps { logits, .. } => logits.hit,
                LossOf::Each(each) => each,
            };
            depends_on(&self.graph, node, over)
        };
        let taking: Vec<usize> = (0..losses.len()).filter(|&at| !left_out.contains(&losses[at].name)).collect();
        if let Some(&at) = taking.iter().find(|&&at| !through(&losses[at])) {
            let problem = Problem::error("E0817", span, format!("the loss `{}` does not go through what is balanced", losses[at].name));
            self.report(
                problem.help(
                    "leave it out, with `balanced: false` among the arguments of its loss, or expose a value that it is computed from",
                ),
            );
            return None;
        }
        if taking.len() < 2 {
            let problem = Problem::error("E0817", span, format!("{} loss is balanced", taking.len()));
            self.report(problem.help("two losses or more share the representation; a single one needs no balance"));
            return None;
        }
        let block = match self.callee(callee) {
            Value::Block(block) => block,
            Value::Poison => return None,
            _ => return self.no_balance(span),
        };
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
        Some(Balance { over, losses: taking, gram, means, weights: weights.node, updates })
    }
}
