//! Auxiliary objectives: a head of its own on what a model exposes, with a label of its own, in training only.

use super::Checker;
use super::feature::Kind;
use super::scope::Binding;
use super::statements::{Head, Predicted};
use super::value::{Located, Value, describe_type};
use crate::graph::{Dim, NodeId};
use crate::ops::{Input, Op};
use crate::problem::{Problem, suggest};
use recc_abi::{Link, Prediction};
use recc_syntax::ast::{self, Expr, ExprKind, ItemKind, Name};

impl Checker<'_> {
    /// The heads of all auxiliary objectives, behind the models they hang on.
    pub(super) fn auxiliaries(&mut self, file: &ast::File) -> Vec<Predicted> {
        let mut found: Vec<Predicted> = Vec::new();
        for item in &file.items {
            if let ItemKind::Auxiliary { name, settings } = &item.kind {
                // A name given twice is found where roots of paths are checked.
                if found.iter().any(|known| known.prediction.name == name.text) {
                    continue;
                }
                if let Some(feature) = self.features.iter().find(|feature| feature.name == name.text) {
                    let problem = Problem::error("E0102", name.span, format!("`{}` names a feature and an auxiliary objective", name.text));
                    self.report(problem.and(feature.span, "the feature").help("give one of them another name"));
                    continue;
                }
                found.push(self.auxiliary(name, settings));
            }
        }
        found
    }

    fn auxiliary(&mut self, name: &Name, settings: &ast::Settings) -> Predicted {
        self.known_settings(settings, "auxiliary", &["on", "label", "head"]);
        let find = |key: &str| settings.entries.iter().find(|setting| setting.key.text == key).map(|setting| &setting.value);
        for key in ["on", "label", "head"] {
            if find(key).is_none() {
                let problem =
                    Problem::error("E0109", name.span, format!("the auxiliary objective `{}` does not say its `{key}`", name.text));
                self.report(problem.help("such as `on: ranker.shared, label: click and newcomers, head: mlp(_, [64]) |> linear(1)`"));
            }
        }
        let (column, logit) = find("label").map_or((None, true), |label| self.auxiliary_label(label));
        let value = match (find("on"), find("head")) {
            (Some(on), Some(head)) => self.auxiliary_head(name, on, head),
            _ => None,
        };
        let label = column.unwrap_or(0);
        let link = if logit { Link::Logit } else { Link::Value };
        let loss = link.usual_loss();
        let prediction = Prediction { name: name.text.clone(), label, link, loss, rows: None, model: None, weights: None };
        let head = value.zip(column).map(|(value, column)| {
            let input = Input::number(&self.columns[column as usize].name, column);
            Head::Number { link: value, label: self.graph.add(Op::Input(input), &[]) }
        });
        Predicted { prediction, span: name.span, head }
    }

    /// A number label as it is, or a condition; whether it is a probability's label.
    fn auxiliary_label(&mut self, label: &Expr) -> (Option<u32>, bool) {
        if let ExprKind::Name(name) = &label.kind
            && let Some(feature) = self.features.iter_mut().find(|feature| feature.name == *name)
            && matches!(feature.kind, Kind::Label { binary: false })
        {
            feature.used = true;
            if !feature.steps.is_empty() {
                let problem = Problem::error("E0815", label.span, format!("the label `{name}` has transforms"));
                self.report(problem.help("an auxiliary objective learns a number as the data write it, or a condition"));
                return (None, false);
            }
            return (Some(feature.columns[0]), false);
        }
        (self.condition(label), true)
    }

    fn auxiliary_head(&mut self, name: &Name, on: &Expr, head: &Expr) -> Option<NodeId> {
        let value = self.exposed(on)?;
        if !super::calls::has_hole(head) {
            let problem = Problem::error("E0815", head.span, "a head is a call with a place for what it hangs on");
            self.report(problem.help("such as `head: mlp(_, [64]) |> linear(1)`"));
            return None;
        }
        self.path = Some(self.paths.root_again(&name.text));
        let hole = Binding { name: "_".to_owned(), value, span: on.span, mutable: false, used: true, watched: false };
        self.scopes = vec![vec![hole]];
        self.in_model = true;
        let value = self.eval_value(head);
        self.in_model = false;
        self.scopes.clear();
        let tensor = self.tensor(&Located { value, span: head.span })?;
        let dims = self.graph[tensor.node].ty.dims.clone();
        if !(dims.is_empty() || dims == [Dim::Fixed(1)]) {
            let text = describe_type(&self.graph, tensor.node);
            let problem = Problem::error("E0203", head.span, "a head gives one number per example").here(format!("this is {text}"));
            self.report(problem.help("project it: `… |> linear(1)`"));
            return None;
        }
        Some(self.one_number(tensor.node))
    }

    /// What a model exposes: `ranker.shared`.
    pub(super) fn exposed(&mut self, on: &Expr) -> Option<Value> {
        if self.model.is_some() {
            let problem = Problem::error("E0816", on.span, "a model reads no other model");
            let help = "what a model exposes is for auxiliary objectives and for fusion; models share a table declared at the top";
            self.report(problem.help(help));
            return None;
        }
        if let ExprKind::Field { base, name } = &on.kind
            && let ExprKind::Name(model) = &base.kind
        {
            let known = self.exposes.iter().find(|own| own.model == *model && own.name == name.text);
            if let Some(own) = known {
                return Some(own.value.clone()).filter(|value| !matches!(value, Value::Poison));
            }
            let names: Vec<String> = self.exposes.iter().map(|own| format!("{}.{}", own.model, own.name)).collect();
            let help = match names.is_empty() {
                true => format!("add `expose {}` to the model `{model}`", name.text),
                false => suggest(&format!("{model}.{}", name.text), names.iter().map(String::as_str)),
            };
            self.report(Problem::error("E0816", on.span, format!("no model exposes `{model}.{}`", name.text)).help(help));
            return None;
        }
        self.report(
            Problem::error("E0816", on.span, "this names nothing that a model exposes")
                .help("such as `ranker.shared`, with `expose shared` in the model `ranker`"),
        );
        None
    }
}
