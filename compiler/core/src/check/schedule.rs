//! What `train` watches: schedules of the learning rate, the end, and the best state.

use super::Checker;
use super::settings::as_call;
use crate::problem::{Problem, suggest};
use crate::spec::Train;
use recc_abi::{Metric, Monitor, Plateau, Prediction, Schedule, Stopping};
use recc_syntax::ast::{self, Argument, Expr, ExprKind, Span};

impl Checker<'_> {
    /// `rate` and `stop`, which watch metrics.
    pub(super) fn check_monitors(&mut self, settings: Option<&ast::Settings>, train: &mut Train, metrics: &[Metric]) {
        let best = self.best(metrics);
        for setting in settings.iter().flat_map(|settings| &settings.entries) {
            match setting.key.text.as_str() {
                "rate" => self.rate(&setting.value, metrics, train),
                "stop" => train.stop = self.stopping(&setting.value, metrics),
                _ => {}
            }
        }
        if let Some(on) = train.stop.as_ref().map(|stop| &stop.on).or(train.plateau.as_ref().map(|plateau| &plateau.on)) {
            train.best = on.clone();
        } else if let Some(best) = best {
            train.best = best;
        } else if !self.predictions.is_empty() && !self.has_errors() {
            let problem = Problem::error("E0605", self.predictions[0].span, "nothing says which epoch is the best");
            self.report(problem.help("its loss is known in training only: report a metric, `metrics { report: […] }`"));
        }
    }

    /// The best state without `stop` and `plateau` is by the first metric, of the first prediction that has it; without metrics by a loss.
    fn best(&self, metrics: &[Metric]) -> Option<Monitor> {
        let of = |fits: &dyn Fn(&Prediction) -> bool| self.predictions.iter().position(|own| fits(&own.prediction));
        let by_metric = metrics.iter().find_map(|metric| Some((metric, of(&|own| metric.kind.fits(&own.link))?)));
        if let Some((metric, at)) = by_metric {
            return Some(by_metric_of(metric, at));
        }
        of(&Prediction::has_loss).map(by_loss_of)
    }

    /// `warmup(1000) |> cosine(epochs: 10)`: schedules one after another, whose factors multiply.
    fn rate(&mut self, value: &Expr, metrics: &[Metric], train: &mut Train) {
        if let ExprKind::Pipe { value, into } = &value.kind {
            self.rate(value, metrics, train);
            return self.rate(into, metrics, train);
        }
        let Some((name, span, args)) = as_call(value) else { return self.no_schedule(value.span, "") };
        let schedule = match name {
            "plateau" if train.plateau.is_some() => {
                let problem = Problem::error("E0605", span, "a second `plateau`");
                return self.report(problem.help("a rate is cut on one metric"));
            }
            "plateau" => {
                train.plateau = self.plateau(value.span, args, metrics);
                return;
            }
            "warmup" => self.warmup(value.span, args),
            "cosine" => self.cosine(args),
            "step" => self.steps(value.span, args),
            other => return self.no_schedule(span, other),
        };
        train.schedules.extend(schedule);
    }

    fn no_schedule(&mut self, span: Span, name: &str) {
        let help = match name {
            "" => "such as `rate: plateau(on: auc(click), factor: 0.1)` or `rate: warmup(1000) |> cosine(epochs: 10)`".to_owned(),
            name => suggest(name, ["plateau", "warmup", "cosine", "step"]),
        };
        self.report(Problem::error("E0605", span, "this is no schedule of the learning rate").help(help));
    }

    /// `warmup(1000)`: over the first steps the rate grows to its value.
    fn warmup(&mut self, span: Span, args: &[Argument]) -> Option<Schedule> {
        self.given_once(args, "warmup", 1)?;
        let mut steps = None;
        for argument in args {
            match argument.name.as_ref().map(|name| name.text.as_str()) {
                None | Some("steps") => steps = Some(self.whole(&argument.value, "steps", 1, 1 << 40)?),
                Some(other) => return self.no_argument("warmup", argument, other, &["steps"]),
            }
        }
        if steps.is_none() {
            self.report(Problem::error("E0211", span, "`warmup` does not say over how many steps").help("such as `warmup(1000)`"));
        }
        Some(Schedule::Warmup { steps: steps? })
    }

    /// `cosine(epochs: 10, least: 0)`: from the full rate to the least along half a cosine.
    fn cosine(&mut self, args: &[Argument]) -> Option<Schedule> {
        self.given_once(args, "cosine", 0)?;
        let (mut epochs, mut least) = (None, 0.0);
        for argument in args {
            match argument.name.as_ref().map(|name| name.text.as_str()) {
                Some("epochs") => epochs = Some(self.whole(&argument.value, "epochs", 1, 1_000_000)? as u32),
                Some("least") => least = self.number_in(&argument.value, "least", 0.0, 1.0)?,
                other => return self.no_argument("cosine", argument, other.unwrap_or(""), &["epochs", "least"]),
            }
        }
        Some(Schedule::Cosine { epochs, least })
    }

    /// `step(every: 2, factor: 0.5)`: a cut each so many epochs.
    fn steps(&mut self, span: Span, args: &[Argument]) -> Option<Schedule> {
        self.given_once(args, "step", 0)?;
        let (mut every, mut factor) = (None, 0.1);
        for argument in args {
            match argument.name.as_ref().map(|name| name.text.as_str()) {
                Some("every") => every = Some(self.whole(&argument.value, "every", 1, 1_000_000)? as u32),
                Some("factor") => factor = self.number_in(&argument.value, "factor", 1e-6, 1.0)?,
                other => return self.no_argument("step", argument, other.unwrap_or(""), &["every", "factor"]),
            }
        }
        if every.is_none() {
            self.report(
                Problem::error("E0211", span, "`step` does not say how often it cuts").help("such as `step(every: 2, factor: 0.5)`"),
            );
        }
        Some(Schedule::Step { every: every?, factor })
    }

    fn no_argument<T>(&mut self, owner: &str, argument: &Argument, name: &str, known: &[&str]) -> Option<T> {
        let problem = Problem::error("E0210", argument.value.span, format!("`{owner}` has no such argument"));
        self.report(problem.help(suggest(name, known.iter().copied())));
        None
    }

    fn plateau(&mut self, span: Span, args: &[Argument], metrics: &[Metric]) -> Option<Plateau> {
        let mut plateau = Plateau { on: by_loss_of(0), factor: 0.1, patience: 0, least: 1e-3 };
        let mut named = false;
        self.given_once(args, "plateau", 0)?;
        for argument in args {
            match argument.name.as_ref().map(|name| name.text.as_str()) {
                Some("on") => {
                    plateau.on = self.monitor(&argument.value, metrics)?;
                    named = true;
                }
                Some("factor") => plateau.factor = self.number_in(&argument.value, "factor", 1e-6, 1.0)?,
                Some("patience") => plateau.patience = self.whole(&argument.value, "patience", 0, 1_000_000)? as u32,
                Some("least") => plateau.least = self.number_in(&argument.value, "least", 0.0, 1.0)?,
                other => return self.no_argument("plateau", argument, other.unwrap_or(""), &["on", "factor", "patience", "least"]),
            }
        }
        if !named {
            self.report(Problem::error("E0211", span, "`plateau` does not say what it watches").help("such as `plateau(on: auc(click))`"));
            return None;
        }
        Some(plateau)
    }

    fn stopping(&mut self, value: &Expr, metrics: &[Metric]) -> Option<Stopping> {
        let mut patience = None;
        let mut on = None;
        if let Some(("patience", _, args)) = as_call(value) {
            self.given_once(args, "patience", 1)?;
            for argument in args {
                match argument.name.as_ref().map(|name| name.text.as_str()) {
                    None => patience = Some(self.whole(&argument.value, "patience", 1, 1_000_000)? as u32),
                    Some("on") => on = Some(self.monitor(&argument.value, metrics)?),
                    Some(other) => {
                        self.report(
                            Problem::error("E0210", argument.value.span, format!("`patience` has no argument `{other}`"))
                                .help(suggest(other, ["on"])),
                        );
                        return None;
                    }
                }
            }
        }
        match (patience, on) {
            (Some(patience), Some(on)) => Some(Stopping { on, patience }),
            _ => {
                self.report(
                    Problem::error("E0605", value.span, "`stop` says how many epochs to wait, and for what")
                        .help("such as `stop: patience(2, on: auc(click))`"),
                );
                None
            }
        }
    }

    /// `auc(click)`: a metric of a prediction, or `loss(click)`.
    fn monitor(&mut self, value: &Expr, metrics: &[Metric]) -> Option<Monitor> {
        let Some((name, span, args)) = as_call(value) else {
            self.report(Problem::error("E0605", value.span, "what is watched is a metric of a prediction").help("such as `auc(click)`"));
            return None;
        };
        // Written as it is reported, a metric of a ranking has a number where others name their prediction.
        if let Some(metric) = metrics.iter().find(|metric| metric.name == recc_syntax::print_expr(value) && metric.name.contains('('))
            && let Some(at) = self.predictions.iter().position(|own| metric.kind.fits(&own.prediction.link))
        {
            return Some(by_metric_of(metric, at));
        }
        let prediction = match args {
            [Argument { name: None, value: Expr { kind: ExprKind::Name(prediction), span } }] => Some((prediction.as_str(), *span)),
            [] | [Argument { name: None, value: Expr { kind: ExprKind::Int(_), .. } }] => self.predictions.first().map(|_| ("", span)),
            _ => None,
        };
        let Some((prediction, prediction_span)) = prediction else {
            // Which predictions there are is not known then.
            if self.has_errors() {
                return None;
            }
            self.report(Problem::error("E0605", value.span, "what is watched is a metric of a prediction").help("such as `auc(click)`"));
            return None;
        };
        let at =
            if prediction.is_empty() { Some(0) } else { self.predictions.iter().position(|known| known.prediction.name == prediction) };
        let Some(at) = at else {
            let names: Vec<String> = self.predicted().map(|own| own.prediction.name.clone()).collect();
            if !names.is_empty() {
                let help = suggest(prediction, names.iter().map(String::as_str));
                self.report(Problem::error("E0503", prediction_span, format!("nothing predicts `{prediction}`")).help(help));
            }
            return None;
        };
        let own = self.predictions[at].prediction.clone();
        if name == "loss" {
            if own.has_loss() {
                return Some(by_loss_of(at));
            }
            let problem = Problem::error("E0605", span, format!("the loss of `{}` is known in training only", own.name));
            let help = if own.ranking().is_some() { "watch `ndcg(10)`" } else { "watch `rmse`" };
            self.report(problem.help(help));
            return None;
        }
        let counted = matches!(args, [Argument { value: Expr { kind: ExprKind::Int(_), .. }, .. }]);
        let named = |metric: &&Metric| match counted {
            true => metric.name == recc_syntax::print_expr(value),
            false => metric.name == name || metric.name.starts_with(&format!("{name}(")),
        };
        let found = metrics.iter().find(named);
        let Some(metric) = found else {
            let written = if counted { recc_syntax::print_expr(value) } else { name.to_owned() };
            let known =
                |metric: &'_ Metric| if counted { metric.name.clone() } else { metric.name.split('(').next().unwrap_or("").to_owned() };
            let names: Vec<String> = metrics.iter().map(known).chain(["loss".to_owned()]).collect();
            let help = format!(
                "{}; what is watched is among the metrics reported",
                suggest(&written, names.iter().map(String::as_str).collect::<Vec<_>>())
            );
            // A metric that is reported with a mistake may be the one.
            if !self.metrics_are_wrong() {
                self.report(Problem::error("E0605", span, format!("`{written}` is not reported")).help(help));
            }
            return None;
        };
        if !metric.kind.fits(&own.link) {
            let problem = Problem::error("E0605", span, format!("`{}` has no `{name}`", own.name));
            self.report(problem.help("name a prediction that has it, or another metric of this one"));
            return None;
        }
        Some(by_metric_of(metric, at))
    }
}

fn by_metric_of(metric: &Metric, prediction: usize) -> Monitor {
    Monitor { metric: Some(metric.clone()), prediction: prediction as u32, higher: metric.kind.higher_is_better() }
}

fn by_loss_of(prediction: usize) -> Monitor {
    Monitor { metric: None, prediction: prediction as u32, higher: false }
}
