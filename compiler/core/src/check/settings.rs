//! The `train`, `objective` and `metrics` items.

use super::Checker;
use super::feature::Kind;
use super::value::Value;
use super::words;
use crate::problem::{Problem, suggest};
use crate::spec::{Precision, STORAGES, Train};
use crate::train::{OptimizerSpec, TableUpdate};
use recc_abi::{Cohort, Element, Link, Metric, MetricKind, Monitor, OptimizerKind};
use recc_syntax::ast::{self, Argument, Expr, ExprKind, Span};

const OPTIMIZERS: [(&str, OptimizerKind); 5] = [
    ("sgd", OptimizerKind::Sgd),
    ("adagrad", OptimizerKind::Adagrad),
    ("rowwise_adagrad", OptimizerKind::RowwiseAdagrad),
    ("adam", OptimizerKind::Adam),
    ("adamw", OptimizerKind::Adamw),
];

const METRICS: [(&str, MetricKind); 10] = [
    ("auc", MetricKind::Auc),
    ("gauc", MetricKind::Gauc { key: 0 }),
    ("logloss", MetricKind::Logloss),
    ("ne", MetricKind::Ne),
    ("calibration", MetricKind::Calibration),
    ("rmse", MetricKind::Rmse),
    ("hr", MetricKind::Hr { k: 10 }),
    ("ndcg", MetricKind::Ndcg { k: 10 }),
    ("mrr", MetricKind::Mrr),
    ("log_perplexity", MetricKind::LogPerplexity),
];
/// Candidates that a metric of a ranking may look at.
const MOST_RANKED: i64 = 1_000_000;

/// A call `name(args)` or a bare name.
pub(super) fn as_call(value: &Expr) -> Option<(&str, Span, &[Argument])> {
    match &value.kind {
        ExprKind::Name(name) => Some((name, value.span, &[])),
        ExprKind::Call { callee, args } => match &callee.kind {
            ExprKind::Name(name) => Some((name, callee.span, args)),
            _ => None,
        },
        _ => None,
    }
}

/// What a bare name stands for.
fn named<T: Copy>(value: &Expr, known: &[(&str, T)]) -> Option<T> {
    let ExprKind::Name(name) = &value.kind else { return None };
    known.iter().find(|(own, _)| own == name).map(|(_, meaning)| *meaning)
}

fn adam() -> OptimizerSpec {
    OptimizerSpec { kind: OptimizerKind::Adam, rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.0, l2: 0.0 }
}

impl Checker<'_> {
    /// No argument is given twice, and no more than some without a name.
    pub(super) fn given_once(&mut self, args: &[Argument], owner: &str, unnamed: usize) -> Option<()> {
        let mut plain = 0;
        for (at, argument) in args.iter().enumerate() {
            let Some(name) = &argument.name else {
                plain += 1;
                if plain > unnamed {
                    self.report(
                        Problem::error("E0209", argument.value.span, format!("`{owner}` takes no such argument"))
                            .here("one too many")
                            .help("name the argument, or remove it"),
                    );
                    return None;
                }
                continue;
            };
            if let Some(first) = args[..at].iter().filter_map(|other| other.name.as_ref()).find(|other| other.text == name.text) {
                let problem =
                    Problem::error("E0218", name.span, format!("`{}` is given twice", name.text)).and(first.span, "given here first");
                self.report(problem.help("keep one of them"));
                return None;
            }
        }
        Some(())
    }

    pub(super) fn check_train(&mut self, settings: Option<&ast::Settings>) -> Train {
        let best = Monitor { metric: None, prediction: 0, higher: false };
        let mut train = Train {
            batch: 4096,
            epochs: 10,
            seed: 1,
            shuffle: true,
            precision: Precision::F32,
            storage: Element::F32,
            dense: adam(),
            tables: TableUpdate { optimizer: adam(), all_rows: false },
            clip: None,
            plateau: None,
            schedules: Vec::new(),
            stop: None,
            best,
        };
        let Some(settings) = settings else { return train };
        self.known_settings(
            settings,
            "train",
            &["batch", "epochs", "dense", "tables", "clip", "rate", "stop", "seed", "shuffle", "precision", "storage"],
        );
        for setting in &settings.entries {
            let value = &setting.value;
            match setting.key.text.as_str() {
                "batch" => train.batch = self.whole(value, "batch", 1, 1 << 24).unwrap_or(train.batch),
                "epochs" => train.epochs = self.whole(value, "epochs", 1, 1_000_000).map_or(train.epochs, |epochs| epochs as u32),
                "seed" => train.seed = self.whole(value, "seed", 0, i64::MAX).unwrap_or(train.seed),
                "shuffle" => {
                    train.shuffle = self.yes_or_no(value, "shuffle", "`false` keeps the order of the files").unwrap_or(train.shuffle);
                }
                "dense" => {
                    if let Some((optimizer, _)) = self.optimizer(value, false) {
                        train.dense = optimizer;
                    }
                }
                "tables" => {
                    if let Some(update) = self.table_optimizer(value) {
                        train.tables = update;
                    }
                }
                "clip" => train.clip = self.clip(value),
                "storage" => train.storage = self.storage(value).unwrap_or(train.storage),
                "precision" => match named(value, &Precision::ALL) {
                    Some(precision) => train.precision = precision,
                    None => {
                        let help = "`bf16` multiplies matrices in half the precision, and faster where the processor can";
                        self.report(Problem::error("E0602", value.span, "`precision` is `f32` or `bf16`").help(help));
                    }
                },
                _ => {}
            }
        }
        train
    }

    /// What weights are stored as for scoring.
    pub(super) fn storage(&mut self, value: &Expr) -> Option<Element> {
        let found = named(value, &STORAGES);
        if found.is_none() {
            let help = "a scoring model keeps its weights this way; training keeps them as `f32`";
            self.report(Problem::error("E0602", value.span, "`storage` is `f32`, `f16` or `int8`").help(help));
        }
        found
    }

    pub(super) fn whole(&mut self, value: &Expr, what: &str, least: i64, most: i64) -> Option<u64> {
        let found = self.constant(value);
        match found.as_int() {
            Some(number) if (least..=most).contains(&number) => Some(number as u64),
            _ if matches!(found, Value::Poison) => None,
            _ => {
                let text = found.describe(&self.graph);
                let help = found.as_a_number(true).unwrap_or_else(|| match found.as_int() {
                    Some(number) if number > most => format!("the most is {most}"),
                    Some(_) => format!("the least is {least}"),
                    None => format!("such as {}", least.max(1)),
                });
                self.report(
                    Problem::error("E0602", value.span, format!("`{what}` is a whole number from {least} to {most}"))
                        .here(format!("this is {text}"))
                        .help(help),
                );
                None
            }
        }
    }

    pub(super) fn number_in(&mut self, value: &Expr, what: &str, least: f64, most: f64) -> Option<f64> {
        let found = self.constant(value);
        match found.as_float() {
            Some(number) if number >= least && number <= most => Some(number),
            _ if matches!(found, Value::Poison) => None,
            _ => {
                let text = found.describe(&self.graph);
                self.report(
                    Problem::error("E0602", value.span, format!("`{what}` is a number from {least} to {most}"))
                        .here(format!("this is {text}"))
                        .help(found.as_a_number(false).unwrap_or_else(|| "see `recc explain E0602`".to_owned())),
                );
                None
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn yes_or_no(&mut self, value: &Expr, what: &str, help: &str) -> Option<bool> {
        match self.constant(value) {
            Value::Bool(yes) => Some(yes),
            Value::Poison => None,
            _ => {
                self.report(Problem::error("E0201", value.span, format!("`{what}` is `true` or `false`")).help(help));
                None
            }
        }
    }

    fn clip(&mut self, value: &Expr) -> Option<f64> {
        match as_call(value) {
            Some(("norm", _, [argument])) => self.number_in(&argument.value, "norm", 1e-12, 1e12),
            _ => {
                self.report(Problem::error("E0601", value.span, "`clip` bounds the gradient's norm").help("such as `clip: norm(10)`"));
                None
            }
        }
    }

    pub(super) fn table_optimizer(&mut self, value: &Expr) -> Option<TableUpdate> {
        let (optimizer, all_rows) = self.optimizer(value, true)?;
        Some(TableUpdate { optimizer, all_rows })
    }

    fn optimizer(&mut self, value: &Expr, table: bool) -> Option<(OptimizerSpec, bool)> {
        let Some((name, span, args)) = as_call(value) else {
            self.report(Problem::error("E0601", value.span, "this is no optimizer").help("such as `adam(lr: 1e-3)`"));
            return None;
        };
        let Some((_, kind)) = OPTIMIZERS.iter().find(|(known, _)| *known == name) else {
            let help = suggest(name, OPTIMIZERS.iter().map(|(known, _)| *known));
            self.report(Problem::error("E0601", span, format!("there is no optimizer `{name}`")).help(help));
            return None;
        };
        if *kind == OptimizerKind::RowwiseAdagrad && !table {
            self.report(
                Problem::error("E0606", span, "`rowwise_adagrad` is for tables")
                    .help("it keeps one number a row; use `adagrad` for dense parameters"),
            );
            return None;
        }
        self.given_once(args, name, 1)?;
        let named = args.iter().find_map(|argument| argument.name.as_ref().filter(|name| name.text == "lr"));
        if let (Some(named), Some(unnamed)) = (named, args.iter().find(|argument| argument.name.is_none())) {
            let problem = Problem::error("E0218", unnamed.value.span, "`lr` is given twice").and(named.span, "given here too");
            self.report(problem.help("a number without a name is the rate; a fraction has a point: `0.001`"));
            return None;
        }
        let mut spec = OptimizerSpec { kind: *kind, ..adam() };
        match kind {
            OptimizerKind::Sgd => spec.rate = 0.1,
            OptimizerKind::Adagrad | OptimizerKind::RowwiseAdagrad => (spec.rate, spec.epsilon) = (0.01, 1e-10),
            OptimizerKind::Adam => {}
            OptimizerKind::Adamw => spec.decay = 0.01,
        }
        let moments = matches!(kind, OptimizerKind::Adam | OptimizerKind::Adamw);
        let mut all_rows = false;
        for argument in args {
            let value = &argument.value;
            let key = argument.name.as_ref().map_or("lr", |name| name.text.as_str());
            match key {
                "lr" => spec.rate = self.number_in(value, "lr", 0.0, 1e6)?,
                "l2" => spec.l2 = self.number_in(value, "l2", 0.0, 1e9)?,
                "beta1" if moments => spec.beta1 = self.number_in(value, "beta1", 0.0, 0.999_999_999)?,
                "beta2" if moments => spec.beta2 = self.number_in(value, "beta2", 0.0, 0.999_999_999)?,
                "epsilon" if *kind != OptimizerKind::Sgd => spec.epsilon = self.number_in(value, "epsilon", 0.0, 1.0)?,
                "decay" if *kind == OptimizerKind::Adamw => spec.decay = self.number_in(value, "decay", 0.0, 1e6)?,
                "rows" if table => match &value.kind {
                    ExprKind::Name(name) if name == "all" => all_rows = true,
                    ExprKind::Name(name) if name == "touched" => all_rows = false,
                    _ => {
                        self.report(
                            Problem::error("E0601", value.span, "`rows` is `all` or `touched`")
                                .help("`touched` updates the rows a batch looks up, `all` visits the whole table each step"),
                        );
                        return None;
                    }
                },
                other => {
                    let mut known = vec!["lr", "l2"];
                    known.extend(if moments { ["beta1", "beta2"].as_slice() } else { &[] });
                    known.extend((*kind != OptimizerKind::Sgd).then_some("epsilon"));
                    known.extend((*kind == OptimizerKind::Adamw).then_some("decay"));
                    known.extend(table.then_some("rows"));
                    let span = argument.name.as_ref().map_or(value.span, |name| name.span);
                    self.report(
                        Problem::error("E0210", span, format!("`{name}` has no argument `{other}`")).help(words::argument(other, known)),
                    );
                    return None;
                }
            }
        }
        Some((spec, all_rows))
    }

    pub(super) fn check_metrics(&mut self, settings: Option<&ast::Settings>) -> (Vec<Metric>, Vec<Cohort>) {
        let some = |link: fn(&Link) -> bool| self.predictions.iter().any(|own| link(&own.prediction.link));
        let mut default = Vec::new();
        if some(|link| *link == Link::Logit) || self.predictions.is_empty() {
            default.extend(["auc", "logloss"]);
        }
        if some(|link| matches!(link, Link::Softmax(_))) {
            default.extend(["ndcg(10)", "hr(10)", "mrr"]);
        }
        if some(|link| matches!(link, Link::Value | Link::Ordinal { .. })) {
            default.push("rmse");
        }
        let plain = |name: &&str| {
            let found = METRICS.iter().find(|(known, _)| *known == name.trim_end_matches("(10)"));
            found.map(|(_, kind)| Metric { name: (*name).to_owned(), kind: *kind })
        };
        let Some(settings) = settings else { return (default.iter().filter_map(plain).collect(), Vec::new()) };
        self.known_settings(settings, "metrics", &["report", "per", "inspect"]);
        let mut metrics: Vec<Metric> = Vec::new();
        let mut cohorts = Vec::new();
        for setting in &settings.entries {
            match setting.key.text.as_str() {
                "report" => {
                    let items: Vec<&Expr> = match &setting.value.kind {
                        ExprKind::List(items) => items.iter().collect(),
                        _ => vec![&setting.value],
                    };
                    for item in items {
                        match self.metric(item) {
                            Some(metric) if metrics.iter().any(|known| known.name == metric.name) => {
                                self.report(
                                    Problem::error("E0108", item.span, format!("`{}` is reported twice", metric.name))
                                        .help("keep one of them"),
                                );
                            }
                            Some(metric) => metrics.push(metric),
                            None => {}
                        }
                    }
                }
                "per" => cohorts = self.reported_cohorts(&setting.value),
                _ => {}
            }
        }
        if metrics.is_empty() {
            metrics = default.iter().filter_map(plain).collect();
        }
        (metrics, cohorts)
    }

    /// `per: [newcomers, tail]`
    fn reported_cohorts(&mut self, value: &Expr) -> Vec<Cohort> {
        let items: Vec<&Expr> = match &value.kind {
            ExprKind::List(items) => items.iter().collect(),
            _ => vec![value],
        };
        let mut found: Vec<Cohort> = Vec::new();
        for item in items {
            let name = if let ExprKind::Name(name) = &item.kind { name.as_str() } else { "" };
            let Some(cohort) = self.cohorts.iter_mut().find(|cohort| cohort.name == name) else {
                let names: Vec<String> = self.cohorts.iter().map(|cohort| cohort.name.clone()).collect();
                let help = match names.is_empty() {
                    true => "declare it: `cohort newcomers = raw(age_days) < 7`".to_owned(),
                    false => suggest(name, names.iter().map(String::as_str)),
                };
                self.report(Problem::error("E0801", item.span, "there is no such cohort").help(help));
                continue;
            };
            cohort.used = true;
            if found.iter().any(|known| known.name == name) {
                self.report(Problem::error("E0108", item.span, format!("`{name}` is reported twice")).help("keep one of them"));
            } else if let Some(column) = cohort.column {
                found.push(Cohort { name: name.to_owned(), column });
            }
        }
        found
    }

    /// Whether a metric has a mistake, or would have one if the loss had none.
    pub(super) fn metrics_are_wrong(&self) -> bool {
        self.problems.iter().any(|problem| matches!(problem.code, "E0506" | "E0603" | "E0604"))
    }

    fn metric(&mut self, value: &Expr) -> Option<Metric> {
        let Some((name, span, args)) = as_call(value) else {
            let help = match &value.kind {
                ExprKind::Text(word) => format!("write it without quotes: `{word}`"),
                _ => "such as `auc`, `ndcg(10)` or `gauc(by: user)`".to_owned(),
            };
            self.report(Problem::error("E0603", value.span, "this is no metric").help(help));
            return None;
        };
        let Some((_, kind)) = METRICS.iter().find(|(known, _)| *known == name) else {
            let help = words::help("metric", name, METRICS.iter().map(|(known, _)| *known));
            self.report(Problem::error("E0603", span, format!("there is no metric `{name}`")).help(help));
            return None;
        };
        let fits = self.predictions.iter().any(|own| kind.fits(&own.prediction.link));
        if !fits && !self.predictions.is_empty() {
            let (of, nothing) = match kind {
                MetricKind::Hr { .. } | MetricKind::Ndcg { .. } | MetricKind::Mrr | MetricKind::LogPerplexity => {
                    ("a ranking", "nothing is predicted by a `softmax`")
                }
                MetricKind::Rmse => ("a value or a level", "nothing is predicted as one"),
                _ => ("a probability", "nothing is predicted as one"),
            };
            let own = match self.predictions[0].prediction.link {
                Link::Logit => "report `auc` or `logloss`",
                Link::Value | Link::Ordinal { .. } => "report `rmse`",
                Link::Softmax(_) => "report `ndcg(10)`, `hr(10)` or `mrr`",
            };
            // With another link the loss would fit, and so would the metric.
            if !self.problems.iter().any(|problem| problem.code == "E0506") {
                self.report(Problem::error("E0604", span, format!("`{name}` is of {of}, and {nothing}")).help(own));
            }
            return None;
        }
        if let MetricKind::Hr { .. } | MetricKind::Ndcg { .. } = kind {
            return self.metric_of_first(name, *kind, span, args);
        }
        if let MetricKind::Gauc { .. } = kind {
            return self.gauc(value, span, args);
        }
        if let Some(argument) = args.first() {
            self.report(
                Problem::error("E0209", argument.value.span, format!("`{name}` takes no argument here")).help(format!("write `{name}`")),
            );
            return None;
        }
        Some(Metric { name: name.to_owned(), kind: *kind })
    }

    /// `hr(10)`: of the first 10 candidates.
    fn metric_of_first(&mut self, name: &str, kind: MetricKind, span: Span, args: &[Argument]) -> Option<Metric> {
        let [Argument { name: None, value }] = args else {
            let problem = Problem::error("E0604", span, format!("`{name}` looks at the first candidates, and how many is not said"));
            self.report(problem.help(format!("such as `{name}(10)`")));
            return None;
        };
        let k = self.whole(value, name, 1, MOST_RANKED)? as u32;
        let kind = if let MetricKind::Hr { .. } = kind { MetricKind::Hr { k } } else { MetricKind::Ndcg { k } };
        Some(Metric { name: format!("{name}({k})"), kind })
    }

    fn gauc(&mut self, value: &Expr, span: Span, args: &[Argument]) -> Option<Metric> {
        let named = match args {
            [Argument { name: Some(name), value: Expr { kind: ExprKind::Name(key), span } }] if name.text == "by" => Some((key, *span)),
            _ => None,
        };
        let Some((key, key_span)) = named else {
            self.report(
                Problem::error("E0604", span, "`gauc` groups by a key")
                    .help("such as `gauc(by: user_id)`, with `key user_id = column(\"user\")` among the features"),
            );
            return None;
        };
        match self.features.iter_mut().find(|feature| feature.name == *key) {
            Some(feature) if feature.kind == Kind::Key => {
                feature.used = true;
                Some(Metric { name: recc_syntax::print_expr(value), kind: MetricKind::Gauc { key: feature.columns[0] } })
            }
            Some(_) => {
                self.report(
                    Problem::error("E0604", key_span, format!("`{key}` is no key"))
                        .help(format!("declare `key {key}_key = column(\"{key}\")` and group by it")),
                );
                None
            }
            None => {
                let names: Vec<String> =
                    self.features.iter().filter(|feature| feature.kind == Kind::Key).map(|feature| feature.name.clone()).collect();
                let help = match names.is_empty() {
                    true => format!("declare it among the features: `key {key}`, or `key {key} = column(\"…\")`"),
                    false => suggest(key, names.iter().map(String::as_str)),
                };
                self.report(Problem::error("E0101", key_span, format!("there is no key `{key}`")).help(help));
                None
            }
        }
    }
}
