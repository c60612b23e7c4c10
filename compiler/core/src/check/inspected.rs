//! `inspect: [ranker.shared]` of `metrics`: what models expose, looked at by `eval`.

use super::Checker;
use super::value::{Value, describe_type};
use crate::graph::{DType, Named, Space};
use crate::problem::Problem;
use crate::spec::Forward;
use recc_abi::Inspected;
use recc_syntax::ast::{Expr, ExprKind};

impl Checker<'_> {
    /// Results of the scoring graph for each value that is named; `exposes` are those of this graph.
    pub(super) fn check_inspected(&mut self, value: &Expr, scoring: &mut Forward) -> Vec<Inspected> {
        let items: Vec<&Expr> = match &value.kind {
            ExprKind::List(items) => items.iter().collect(),
            _ => vec![value],
        };
        let mut found: Vec<Inspected> = Vec::new();
        for item in items {
            let Some(exposed) = self.exposed(item) else { continue };
            let name = recc_syntax::print_expr(item);
            let Value::Tensor(tensor) = exposed else {
                let problem = Problem::error("E0818", item.span, format!("`{name}` is no tensor"));
                self.report(problem.help("expose a value that the model computes for each example"));
                continue;
            };
            std::mem::swap(&mut self.graph, &mut scoring.program.graph);
            let (ty, text) = (self.graph[tensor.node].ty.clone(), describe_type(&self.graph, tensor.node));
            std::mem::swap(&mut self.graph, &mut scoring.program.graph);
            if ty.space != Space::Example || ty.is_ragged() || ty.dtype != DType::F32 {
                let problem = Problem::error("E0818", item.span, format!("`{name}` has no numbers for each example"));
                let help = "expose a value of each example; of steps bring them together first, such as by their mean";
                self.report(problem.here(format!("this is {text}")).help(help));
            } else if found.iter().any(|known| known.name == name) {
                self.report(Problem::error("E0108", item.span, format!("`{name}` is inspected twice")).help("keep one of them"));
            } else {
                let own = Inspected { name, width: ty.fixed_len() as u32 };
                scoring.program.results.push(Named { name: own.result(), node: tensor.node });
                found.push(own);
            }
        }
        found
    }
}
