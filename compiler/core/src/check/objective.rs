//! The `objective` item: losses of predictions, of auxiliary objectives, and of an ensemble's members.

use super::Checker;
use super::ensembles::{Collaboration, Ensemble};
use super::settings::as_call;
use super::statements::{Head, Predicted};
use super::words;
use crate::problem::{Problem, suggest};
use crate::spec::{Loss, LossOf};
use recc_abi::{Drawing, Link, LossKind, Negatives, Prediction, Ranking};
use recc_syntax::ast::{self, Expr, ExprKind, Span};

/// What training knows of a spec's heads.
pub(super) struct Heads<'h> {
    /// Predictions, the members' behind them, and auxiliary objectives, as they are trained.
    pub(super) all: &'h [Predicted],
    /// How many of them are auxiliary objectives.
    pub(super) auxiliaries: usize,
    pub(super) collaborations: &'h [Collaboration],
    pub(super) ensemble: Option<&'h Ensemble<'h>>,
}

/// A loss as written.
#[derive(Clone, Copy)]
struct Written {
    kind: LossKind,
    weight: f64,
    rows: Option<u32>,
    row_weight: Option<u32>,
    /// Whether it takes part where gradients are balanced.
    balanced: bool,
}

impl Written {
    fn loss(&self, name: String, of: LossOf, factor: f64) -> Loss {
        Loss { name, of, weight: self.weight * factor, rows: self.rows, row_weight: self.row_weight }
    }
}

impl Checker<'_> {
    /// What the spec predicts: not what the members of an ensemble predict on their way.
    pub(super) fn predicted(&self) -> impl Iterator<Item = &Predicted> {
        self.predictions.iter().filter(|own| own.prediction.model.is_none())
    }

    pub(super) fn check_objective(&mut self, settings: Option<&ast::Settings>, end: Span, heads: &Heads<'_>) -> (Vec<Loss>, Vec<String>) {
        let mut losses: Vec<Loss> = Vec::new();
        let mut left_out = Vec::new();
        let Some(settings) = settings else {
            let first = self.predicted().next().map(|own| own.prediction.name.clone());
            if let Some(name) = first {
                self.report(Problem::error("E0502", end, "the spec has no objective").help(format!("add `objective {{ {name}: bce }}`")));
            }
            return (losses, left_out);
        };
        let targets: Vec<&Predicted> = heads.all.iter().filter(|own| own.prediction.model.is_none()).collect();
        let names: Vec<&str> = targets.iter().map(|own| own.prediction.name.as_str()).collect();
        for (at, setting) in settings.entries.iter().enumerate() {
            let key = setting.key.text.as_str();
            if settings.entries[..at].iter().any(|other| other.key.text == key) {
                self.report(Problem::error("E0108", setting.key.span, format!("`{key}` is set twice")).help("keep one of them"));
                continue;
            }
            if key == "balance" {
                continue;
            }
            let Some(target) = targets.iter().find(|own| own.prediction.name == key) else {
                if !names.is_empty() && !self.has_errors() {
                    let problem = Problem::error("E0503", setting.key.span, format!("nothing predicts `{key}`"));
                    self.report(problem.help(suggest(key, names.iter().copied())));
                }
                continue;
            };
            if let Some(written) = self.loss(&setting.value, &target.prediction) {
                for own in self.predictions.iter_mut().filter(|own| own.prediction.name == key) {
                    own.prediction.loss = written.kind;
                    own.prediction.rows = written.rows;
                }
                let own = heads.losses(key, &written);
                if !written.balanced {
                    left_out.extend(own.iter().map(|loss| loss.name.clone()));
                }
                losses.extend(own);
            }
        }
        let auxiliaries = targets.len() - heads.auxiliaries;
        for (at, Predicted { prediction, span, .. }) in targets.iter().enumerate() {
            let named = settings.entries.iter().any(|setting| setting.key.text == prediction.name);
            let misspelt =
                settings.entries.iter().any(|setting| setting.key.text != "balance" && !names.contains(&setting.key.text.as_str()));
            if !named && !misspelt {
                let loss = match prediction.link {
                    Link::Logit => "bce",
                    Link::Value => "mse",
                    Link::Ordinal { .. } => "ordinal",
                    Link::Softmax(_) => "cross_entropy",
                };
                let what = if at < auxiliaries { "prediction" } else { "auxiliary objective" };
                let problem = Problem::error("E0502", *span, format!("the {what} `{}` has no loss", prediction.name))
                    .and(settings.span, "the objective");
                self.report(problem.help(format!("add `{}: {loss}`", prediction.name)));
            }
        }
        losses.sort_by(|a, b| a.name.cmp(&b.name));
        (losses, left_out)
    }

    /// Why a loss does not go with how a softmax draws the rows that it compares with, and what to do.
    fn unlike_the_draws(kind: LossKind, prediction: &Prediction) -> Option<(&'static str, &'static str)> {
        let Negatives { drawing, corrected, .. } = prediction.ranking()?.negatives?;
        match kind {
            LossKind::Gbce { .. } if matches!(drawing, Drawing::Popularity | Drawing::Batch) => {
                Some(("takes every row to be drawn alike", "draw them so: `negatives: shared(256)`, or use `cross_entropy`"))
            }
            LossKind::Bpr | LossKind::Bce if corrected => Some((
                "corrects nothing for how often rows are drawn",
                "use `cross_entropy`, or say `correct: false` where the rows are drawn",
            )),
            _ => None,
        }
    }

    fn loss(&mut self, value: &Expr, prediction: &Prediction) -> Option<Written> {
        let Some((name, span, args)) = as_call(value) else {
            let help = match &value.kind {
                ExprKind::Text(word) => format!("write it without quotes: `{word}`"),
                _ => "such as `bce` or `mse(weight: 0.5)`".to_owned(),
            };
            self.report(Problem::error("E0508", value.span, "this is no loss").help(help));
            return None;
        };
        let mut kind = match name {
            "bce" => LossKind::Bce,
            "focal" => LossKind::Focal { gamma: 2.0, alpha: None },
            "mse" => LossKind::Mse,
            "mae" => LossKind::Mae,
            "huber" => LossKind::Huber { delta: 1.0 },
            "ordinal" => LossKind::Ordinal,
            "cross_entropy" => LossKind::CrossEntropy,
            "bpr" => LossKind::Bpr,
            "gbce" => LossKind::Gbce { calibration: 0.75 },
            other => {
                self.report(Problem::error("E0508", span, format!("there is no loss `{other}`")).help(words::help(
                    "loss",
                    other,
                    ["bce", "focal", "mse", "mae", "huber", "ordinal", "bpr", "gbce", "cross_entropy"],
                )));
                return None;
            }
        };
        if !kind.fits(&prediction.link) {
            let (link, fits) = match prediction.link {
                Link::Logit => ("logit", "`bce` or `focal`"),
                Link::Value => ("value", "`mse`, `mae` or `huber`"),
                Link::Ordinal { .. } => ("prediction of levels", "`ordinal`"),
                Link::Softmax(Ranking { negatives: Some(_), .. }) => ("softmax", "`cross_entropy`, `bpr`, `bce` or `gbce`"),
                Link::Softmax(_) => ("softmax over all rows", "`cross_entropy`, give the softmax `negatives: …`"),
            };
            let other = match kind {
                LossKind::Bce | LossKind::Focal { .. } if prediction.link == Link::Value => "predict a probability, with `logit(…)`",
                LossKind::Mse | LossKind::Mae | LossKind::Huber { .. } => "predict a number, with `value(…)`",
                _ => "predict with another link",
            };
            self.report(Problem::error("E0506", span, format!("`{name}` is no loss of a {link}")).help(format!("use {fits}, or {other}")));
            return None;
        }
        if let Some(why) = Self::unlike_the_draws(kind, prediction) {
            self.report(Problem::error("E0506", span, format!("`{name}` {}", why.0)).help(why.1));
            return None;
        }
        let mut loss = Written { kind, weight: 1.0, rows: None, row_weight: None, balanced: true };
        self.given_once(args, name, 0)?;
        for argument in args {
            match (argument.name.as_ref().map(|name| name.text.as_str()), &mut kind) {
                (Some("gamma"), LossKind::Focal { gamma, .. }) => *gamma = self.number_in(&argument.value, "gamma", 0.0, 100.0)?,
                (Some("alpha"), LossKind::Focal { alpha, .. }) => *alpha = Some(self.number_in(&argument.value, "alpha", 0.0, 1.0)?),
                (Some("delta"), LossKind::Huber { delta }) => *delta = self.number_in(&argument.value, "delta", 1e-9, 1e9)?,
                (Some("calibration"), LossKind::Gbce { calibration }) => {
                    *calibration = self.number_in(&argument.value, "calibration", 0.0, 1.0)?;
                }
                (Some("weight"), _) => match self.weight_column(&argument.value)? {
                    Some(column) => loss.row_weight = Some(column),
                    None => loss.weight = self.number_in(&argument.value, "weight", 0.0, 1e9)?,
                },
                (Some("balanced"), _) => {
                    loss.balanced =
                        self.yes_or_no(&argument.value, "balanced", "a loss with `balanced: false` takes no part in `balance`")?;
                }
                (Some("where"), _) => loss.rows = Some(self.condition(&argument.value)?),
                (other, kind) => {
                    let own: &[&str] = match kind {
                        LossKind::Focal { .. } => &["gamma", "alpha"],
                        LossKind::Huber { .. } => &["delta"],
                        LossKind::Gbce { .. } => &["calibration"],
                        LossKind::Bce | LossKind::Mse | LossKind::Mae | LossKind::Ordinal | LossKind::CrossEntropy | LossKind::Bpr => &[],
                    };
                    let known = own.iter().copied().chain(["weight", "where", "balanced"]);
                    self.report(
                        Problem::error("E0210", argument.value.span, format!("`{name}` has no argument `{}`", other.unwrap_or("")))
                            .help(suggest(other.unwrap_or(""), known)),
                    );
                    return None;
                }
            }
        }
        Some(Written { kind, ..loss })
    }

    /// The column of a name that gives each row's weight; `Some(None)` for what is no name of a column.
    fn weight_column(&mut self, value: &Expr) -> Option<Option<u32>> {
        let ExprKind::Name(name) = &value.kind else { return Some(None) };
        let Some(at) = self.features.iter().position(|feature| feature.name == *name) else {
            if self.modules[0].names.contains_key(name) {
                return Some(None);
            }
            let names: Vec<String> = self.features.iter().filter(|own| own.weighs()).map(|own| own.name.clone()).collect();
            let help = match names.is_empty() {
                true => format!("declare the column among the features: `number {name}`, or `label {name}: number` where scoring has none"),
                false => suggest(name, names.iter().map(String::as_str)),
            };
            self.report(Problem::error("E0101", value.span, format!("there is no column or constant `{name}` to weigh by")).help(help));
            return None;
        };
        let feature = &mut self.features[at];
        feature.used = true;
        if !feature.sound {
            return None;
        }
        if !feature.weighs() {
            let problem = Problem::error("E0509", value.span, format!("`{name}` gives no weights"));
            let help = "a column of weights is one `number`, or `label … : number` where scoring has no such column, without transforms";
            self.report(problem.help(help));
            return None;
        }
        let column = feature.columns[0];
        // Levels are weights as well, and more.
        self.columns[column as usize].domain.get_or_insert(recc_abi::Domain::Weight);
        Some(Some(column))
    }
}

impl Heads<'_> {
    /// The losses of a name: that of the prediction, each member's own, and what they learn from each other.
    fn losses(&self, name: &str, written: &Written) -> Vec<Loss> {
        let mut found = Vec::new();
        let mut member = 0;
        for own in self.all.iter().filter(|own| own.prediction.name == name) {
            let factor = match (&own.prediction.model, self.ensemble) {
                (Some(_), Some(ensemble)) => {
                    member += 1;
                    ensemble.own.get(member - 1).copied().unwrap_or(1.0)
                }
                _ => 1.0,
            };
            let of = own.head.map(|head| match head {
                Head::Number { link, label } => LossOf::Head { kind: written.kind, link, label },
                Head::Steps(logits) => LossOf::Steps { kind: written.kind, logits, column: own.prediction.label },
                Head::Loss(each) => LossOf::Each(each),
            });
            if let Some(of) = of.filter(|_| factor != 0.0) {
                found.push(written.loss(own.prediction.result(), of, factor));
            }
        }
        for own in self.collaborations.iter().filter(|own| own.prediction == name && own.weight != 0.0) {
            found.push(written.loss(format!("{name}.collaboration"), LossOf::Each(own.node), own.weight));
        }
        found
    }
}
