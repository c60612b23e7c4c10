//! The `features` and `data` items: columns, encoders, and the transforms of numbers.

use super::Checker;
use super::ensembles::split_argument;
use super::feature::{Feature, Kind, Step};
use super::sequences::Splitting;
use super::value::Value;
use super::words;
use crate::problem::{Problem, suggest};
use recc_abi::{Column, ColumnKind, DataFormat, DataSpec, Domain, Encoder, NumberStep, Planted, Reading, RowPart, Split, Token};
use recc_syntax::ast::{self, Expr, ExprKind, Name, Span};

/// A pipeline as written: its source and its steps.
struct Pipeline {
    source: Source,
    steps: Vec<Step>,
}

enum Source {
    Own,
    Column(String),
    Cross(Vec<(String, Span)>),
    Wrong,
}

const KINDS: [&str; 8] = ["label", "number", "id", "ids", "key", "seq", "vector", "time"];
const ID_STEPS: [&str; 12] = [
    "hash",
    "vocab",
    "vocab_of",
    "bucket",
    "quotient",
    "remainder",
    "split",
    "take",
    "take_last",
    "stochastic_length",
    "aligned",
    "weighted",
];

impl Checker<'_> {
    pub(super) fn check_features(&mut self, features: &[ast::Feature]) {
        for feature in features {
            self.check_feature(feature);
        }
        self.check_labels_are_no_inputs();
    }

    /// A column that is a label is not an input under another name.
    fn check_labels_are_no_inputs(&mut self) {
        let column = |feature: &Feature, checker: &Self| -> Vec<Token> {
            feature.columns.iter().map(|column| checker.columns[*column as usize].token.clone()).collect()
        };
        let (labels, inputs): (Vec<&Feature>, Vec<&Feature>) = self
            .features
            .iter()
            .filter(|feature| feature.kind != Kind::Key)
            .partition(|feature| matches!(feature.kind, Kind::Label { .. }));
        let mut found = Vec::new();
        for label in labels {
            let own = column(label, self);
            for input in inputs.iter().filter(|input| column(input, self).iter().any(|token| own.contains(token))) {
                let message = format!("`{}` reads the column of the label `{}`", input.name, label.name);
                let problem = Problem::error("E0310", input.span, message).and(label.span, "the label");
                found.push(problem.help("a model that sees its label learns nothing else; read another column"));
            }
        }
        found.into_iter().for_each(|problem| self.report(problem));
    }

    /// Once all features are known.
    pub(super) fn need_a_label(&mut self, file: &ast::File) {
        let first =
            file.items.iter().find_map(|item| if let ast::ItemKind::Features(features) = &item.kind { features.first() } else { None });
        let labelled = self.features.iter().any(|feature| matches!(feature.kind, Kind::Label { .. })) || ranks(file);
        if let (Some(first), false, false) = (first, labelled, self.has_errors()) {
            self.report(
                Problem::error("E0311", first.span, "no feature is a label")
                    .here("features begin here")
                    .help("add one, such as `label click: binary`"),
            );
        }
    }

    fn check_feature(&mut self, feature: &ast::Feature) {
        let Some(kind) = self.feature_kind(feature) else { return self.poison_feature(feature) };
        if let Some(known) = self.features.iter().find(|known| known.name == feature.name.text) {
            let problem = Problem::error("E0102", feature.name.span, format!("the feature `{}` is declared twice", feature.name.text))
                .and(known.span, "declared here first");
            return self.report(problem.help("give one of them another name"));
        }
        let mut pipeline = self.pipeline(feature);
        let vector = feature.kind.text == "vector";
        let parts = if vector { self.vector_parts(feature, &mut pipeline) } else { Some((0, String::new())) };
        let Some((count, separator)) = parts else { return self.poison_feature(feature) };
        let members = match &feature.group {
            Some(_) if vector => (0..count).map(|at| format!("{}[{at}]", feature.name.text)).collect(),
            Some(group) => self.group_of(&feature.name, group),
            None => vec![feature.name.text.clone()],
        };
        if feature.group.is_some() && matches!(kind, Kind::Label { .. } | Kind::Key | Kind::Time | Kind::Ids { .. } | Kind::Steps { .. }) {
            self.report(
                Problem::error("E0306", feature.span, format!("features of kind `{}` form no group", feature.kind.text))
                    .help("declare each on a line of its own; groups are of kind `id` or `number`"),
            );
            members.iter().for_each(|member| self.poison(member, feature.name.span, kind));
            return self.poison_feature(feature);
        }
        if let (Source::Cross(_), false) = (&pipeline.source, kind == Kind::Id && feature.group.is_none()) {
            self.report(
                Problem::error("E0303", feature.span, "only a single feature of kind `id` is made by `cross`")
                    .help("declare it as `id name = cross(a, b) |> hash(…)`"),
            );
            return self.poison_feature(feature);
        }
        if let Some(known) = self.modules[0].names.get(&feature.name.text).filter(|known| !known.value.is_callable()) {
            let problem = Problem::error("E0102", feature.name.span, format!("`{}` names a feature and a constant", feature.name.text))
                .and(known.span, "the constant");
            self.report(problem.help("give one of them another name"));
        }
        let (column_kind, steps) = self.column_kind(kind, feature, pipeline.steps);
        let domain = steps.first().and_then(domain_of);
        self.check_fill(column_kind.as_ref(), domain, feature.span);
        let mut columns = Vec::new();
        for (member, at) in members.into_iter().zip(0..) {
            let part = |column: &str| Token::Part { column: column.to_owned(), separator: separator.clone(), at, count };
            let token = match &pipeline.source {
                Source::Own | Source::Wrong if vector => part(&feature.name.text),
                Source::Column(name) if vector => part(name),
                Source::Own | Source::Wrong => Token::Column(member.clone()),
                Source::Column(name) => {
                    if feature.group.is_some() {
                        let problem = Problem::error("E0306", feature.span, "a group cannot read one column")
                            .here(format!("every member would be `{name}`"));
                        return self.report(problem.help("let the members' own columns be read: leave `column(…)` out"));
                    }
                    Token::Column(name.clone())
                }
                Source::Cross(parts) => match self.cross_columns(parts) {
                    Some(columns) => Token::Cross(columns),
                    None => Token::Column(member.clone()),
                },
            };
            if self.columns.iter().any(|known| known.name == member) {
                let problem = Problem::error("E0102", feature.span, format!("the feature `{member}` is declared twice"));
                self.report(problem.help("members of groups are features too; give one of them another name"));
                continue;
            }
            let own = self.columns.len() as u32;
            columns.push(own);
            let weights = column_kind.as_ref().and_then(weights_of).map(|split| Split { aligned: split.aligned.or(Some(own)), ..split });
            if let Kind::Ids { .. } | Kind::Steps { .. } = kind {
                let sign = if kind == (Kind::Ids { ordered: false }) { '*' } else { '~' };
                self.graph.name_entries(own, format!("{sign}{member}"));
            }
            let weighted = Column { name: format!("{member}.weights"), kind: ColumnKind::Key, token: token.clone(), domain: None };
            self.columns.push(Column { name: member, kind: column_kind.clone().unwrap_or(ColumnKind::Key), token, domain });
            // The weights of a bag are a column of their own, of the same cells.
            if let Some(split) = weights {
                self.columns.push(Column { kind: ColumnKind::Numbers { split, times: false, reading: Reading::default() }, ..weighted });
            }
        }
        self.features.push(Feature {
            name: feature.name.text.clone(),
            span: feature.name.span,
            kind,
            columns,
            group: feature.group.is_some(),
            steps,
            used: false,
            sound: column_kind.is_some() && !matches!(pipeline.source, Source::Wrong),
        });
    }

    /// `vector image[128] = image |> split(" ")`: how many numbers, and what stands between them.
    fn vector_parts(&mut self, feature: &ast::Feature, pipeline: &mut Pipeline) -> Option<(u32, String)> {
        let size = match feature.group.as_ref().map(|group| group.members.as_slice()) {
            Some([size]) => self.constant(size).as_int().filter(|size| (1..=4096).contains(size)),
            _ => None,
        };
        let Some(size) = size else {
            let problem = Problem::error("E0306", feature.name.span, format!("the vector `{}` does not say its size", feature.name.text));
            self.report(problem.help(format!("write how many numbers it has, 1 to 4096: `vector {}[128] = …`", feature.name.text)));
            return None;
        };
        let at = pipeline.steps.iter().position(|step| step.name.text == "split");
        let Some(at) = at.filter(|at| *at <= usize::from(pipeline.steps[0].name.text == "fill")) else {
            let problem = Problem::error("E0308", feature.name.span, format!("the vector `{}` is never split", feature.name.text));
            self.report(problem.help("begin with `split(\" \")` or what stands between its numbers"));
            return None;
        };
        let step = pipeline.steps.remove(at);
        match self.text_argument(&step) {
            Value::Text(text) if !text.is_empty() => Some((size as u32, text)),
            Value::Poison => None,
            _ => {
                let problem = Problem::error("E0305", step.span, "`split` takes what stands between the values, as text");
                self.report(problem.help("such as `split(\"|\")`"));
                None
            }
        }
    }

    /// A feature with a mistake is known by its name, so that its uses are not reported too.
    fn poison_feature(&mut self, feature: &ast::Feature) {
        let kind = if feature.kind.text.starts_with("lab") { Kind::Label { binary: true } } else { Kind::Number };
        self.poison(&feature.name.text, feature.name.span, kind);
    }

    fn poison(&mut self, name: &str, span: Span, kind: Kind) {
        let columns = vec![self.columns.len() as u32];
        let (name, token) = (name.to_owned(), Token::Column(name.to_owned()));
        self.columns.push(Column { name: name.clone(), kind: ColumnKind::Key, token, domain: None });
        self.features.push(Feature { name, span, kind, columns, group: false, steps: Vec::new(), used: true, sound: false });
    }

    fn feature_kind(&mut self, feature: &ast::Feature) -> Option<Kind> {
        let kind = match feature.kind.text.as_str() {
            "label" => match feature.ty.as_ref().map(|ty| ty.text.as_str()) {
                Some("binary") => Kind::Label { binary: true },
                Some("number") => Kind::Label { binary: false },
                _ => {
                    let span = feature.ty.as_ref().map_or(feature.name.span, |ty| ty.span);
                    self.report(
                        Problem::error("E0309", span, format!("the label `{}` needs a type", feature.name.text))
                            .help("write `: binary` (0 or 1) or `: number` behind its name"),
                    );
                    return None;
                }
            },
            "number" => Kind::Number,
            "id" => Kind::Id,
            "ids" => Kind::Ids { ordered: false },
            "key" => Kind::Key,
            "vector" => Kind::Number,
            "seq" => match feature.ty.as_ref().map(|ty| ty.text.as_str()) {
                None => Kind::Ids { ordered: true },
                Some(kind @ ("number" | "time")) => Kind::Steps { times: kind == "time" },
                Some(other) => {
                    let span = feature.ty.as_ref().map_or(feature.name.span, |ty| ty.span);
                    let problem = Problem::error("E0309", span, format!("there is no sequence of `{other}`"));
                    self.report(problem.help("write `: number` or `: time` behind its name, or nothing for ids"));
                    return None;
                }
            },
            "time" => Kind::Time,
            other => {
                let problem = Problem::error("E0301", feature.kind.span, format!("there is no kind of feature `{other}`"));
                self.report(problem.help(words::help("feature", other, KINDS)));
                return None;
            }
        };
        if let (Some(ty), false) = (&feature.ty, matches!(kind, Kind::Label { .. } | Kind::Steps { .. })) {
            self.report(
                Problem::error("E0309", ty.span, format!("a feature of kind `{}` takes no type", feature.kind.text))
                    .help("leave it out; only labels and sequences have one"),
            );
        }
        Some(kind)
    }

    /// The members of a group: numbered, or columns by their names.
    fn group_of(&mut self, name: &Name, group: &ast::Group) -> Vec<String> {
        let names: Option<Vec<String>> =
            group.members.iter().map(|member| if let ExprKind::Name(name) = &member.kind { Some(name.clone()) } else { None }).collect();
        match (names, group.members.as_slice()) {
            (Some(names), _) => names,
            (None, [range]) => self.group_members(name, range),
            (None, _) => {
                let problem =
                    Problem::error("E0306", group.span, format!("the members of the group `{}` are neither a range nor names", name.text));
                self.report(problem.help("write `[1..=13]`, or the columns' names: `[user, item]`"));
                Vec::new()
            }
        }
    }

    fn group_members(&mut self, name: &Name, group: &Expr) -> Vec<String> {
        match self.constant(group) {
            Value::Range(start, end) if start < end && end.saturating_sub(start) <= 10_000 => {
                (start..end).map(|n| format!("{}{n}", name.text)).collect()
            }
            Value::Poison => Vec::new(),
            _ => {
                let problem =
                    Problem::error("E0306", group.span, format!("the members of the group `{}` are no range of numbers", name.text));
                self.report(problem.help("write the first and the last, such as `[1..=13]`"));
                Vec::new()
            }
        }
    }

    fn pipeline(&mut self, feature: &ast::Feature) -> Pipeline {
        let mut steps = Vec::new();
        let Some(value) = &feature.value else { return Pipeline { source: Source::Own, steps } };
        let mut at = value;
        while let ExprKind::Pipe { value, into } = &at.kind {
            match step(into) {
                Some(step) => {
                    self.named_rightly(&step);
                    steps.push(step);
                }
                None => {
                    let problem = Problem::error("E0302", into.span, "this is no transform");
                    self.report(problem.help("a transform is a name or a call: `log1p`, `hash(1_000_003)`"));
                }
            }
            at = value;
        }
        steps.reverse();
        let source = self.source(feature, at);
        Pipeline { source, steps }
    }

    /// Few transforms have an argument with a name.
    fn named_rightly(&mut self, step: &Step) {
        let mut named = step.args.iter().filter_map(|argument| argument.name.as_ref());
        let known = |name: &&Name| match step.name.text.as_str() {
            "vocab" | "stochastic_length" => true,
            other => other == "hash" && name.text == "seed",
        };
        if let Some(name) = named.find(|name| !known(name)) {
            let problem = Problem::error("E0305", name.span, format!("`{}` has no argument `{}`", step.name.text, name.text));
            let help = match step.name.text.as_str() {
                "hash" => "only `seed` has a name: `hash(100, seed: 1)`".to_owned(),
                other => format!("give the value without a name: `{other}(…)`"),
            };
            self.report(problem.help(help));
        }
    }

    fn source(&mut self, feature: &ast::Feature, at: &Expr) -> Source {
        match &at.kind {
            ExprKind::Name(name) if *name == feature.name.text => Source::Own,
            ExprKind::Call { callee, args } => match (&callee.kind, args.as_slice()) {
                (ExprKind::Name(name), [argument]) if name == "column" && argument.name.is_none() => match &argument.value.kind {
                    ExprKind::Text(column) => Source::Column(column.clone()),
                    _ => self.wrong_source(argument.value.span, "`column` takes the column's name as text"),
                },
                (ExprKind::Name(name), args) if name == "cross" && args.len() >= 2 => {
                    let mut parts = Vec::new();
                    for argument in args {
                        match &argument.value.kind {
                            ExprKind::Name(name) => parts.push((name.clone(), argument.value.span)),
                            _ => return self.wrong_source(argument.value.span, "`cross` takes names of features"),
                        }
                    }
                    Source::Cross(parts)
                }
                _ => self.wrong_source(at.span, "a pipeline begins with a column"),
            },
            _ => self.wrong_source(at.span, "a pipeline begins with a column"),
        }
    }

    fn wrong_source(&mut self, span: Span, text: &str) -> Source {
        self.report(
            Problem::error("E0312", span, text)
                .help("begin with the feature's own name, `column(\"name\")`, or `cross(a, b)` of two id features"),
        );
        Source::Wrong
    }

    fn cross_columns(&mut self, parts: &[(String, Span)]) -> Option<Vec<u32>> {
        let mut columns = Vec::new();
        for (name, span) in parts {
            match self.features.iter_mut().find(|feature| feature.name == *name) {
                Some(feature) if feature.kind == Kind::Id && !feature.group => {
                    feature.used = true;
                    let column = feature.columns[0];
                    if self.columns[column as usize].kind.encoder().is_some_and(|encoder| encoder.part().is_some()) {
                        let problem = Problem::error("E0303", *span, format!("`{name}` is a part of a number, and a cross joins values"));
                        self.report(problem.help("cross a feature of the same column without `quotient` or `remainder`"));
                        return None;
                    }
                    columns.push(column);
                }
                Some(_) => {
                    self.report(
                        Problem::error("E0303", *span, format!("`{name}` cannot be crossed"))
                            .help("cross features of kind `id` that are no groups"),
                    );
                    return None;
                }
                None => {
                    let names: Vec<String> = self.features.iter().map(|feature| feature.name.clone()).collect();
                    let help = suggest(name, names.iter().map(String::as_str));
                    self.report(Problem::error("E0101", *span, format!("there is no feature `{name}` above")).help(help));
                    return None;
                }
            }
        }
        Some(columns)
    }

    fn column_kind(&mut self, kind: Kind, feature: &ast::Feature, steps: Vec<Step>) -> (Option<ColumnKind>, Vec<Step>) {
        match kind {
            Kind::Label { binary } => {
                if let (Some(step), true) = (steps.first(), binary) {
                    self.report(
                        Problem::error("E0303", step.span, "a binary label has no transforms")
                            .help("make the file hold 0 and 1, or declare it `: number`"),
                    );
                    return (None, Vec::new());
                }
                self.check_number_steps(&steps);
                (Some(ColumnKind::Label { binary }), steps)
            }
            Kind::Number => self.number_kind(steps),
            Kind::Key => {
                if let Some(step) = steps.first() {
                    self.report(
                        Problem::error("E0303", step.span, "a key has no transforms")
                            .help("a key only groups rows; its text is used as it is"),
                    );
                }
                (Some(ColumnKind::Key), Vec::new())
            }
            Kind::Id | Kind::Ids { .. } => (self.id_kind(kind, feature, &steps), Vec::new()),
            Kind::Steps { times } => self.steps_kind(&feature.name, times, steps),
            Kind::Time => (self.time_kind(&steps), Vec::new()),
        }
    }

    fn number_kind(&mut self, steps: Vec<Step>) -> (Option<ColumnKind>, Vec<Step>) {
        let (reading, steps) = self.reading(steps);
        (reading.map(ColumnKind::Number), steps)
    }

    /// How numbers are read, and what is done to them in the model.
    pub(super) fn reading(&mut self, mut steps: Vec<Step>) -> (Option<Reading>, Vec<Step>) {
        let mut fill = None;
        if steps.first().is_some_and(|step| step.name.text == "fill") {
            let step = steps.remove(0);
            match self.number_argument(&step) {
                Some(value) => fill = Some(value as f32),
                None => return (None, Vec::new()),
            }
        }
        self.check_number_steps(&steps);
        let mut standardized = (0..steps.len()).filter(|&at| steps[at].name.text == "standardize");
        let (standardized, again) = (standardized.next(), standardized.next());
        if let Some(again) = again {
            self.report(
                Problem::error("E0304", steps[again].span, "`standardize` stands twice")
                    .help("the mean and the deviation are learned once, of what the steps before make of the column: keep one"),
            );
            return (None, Vec::new());
        }
        if let Some(at) = standardized
            && let Some(next) = steps.get(at + 1).filter(|next| matches!(next.name.text.as_str(), "log" | "log1p" | "sqrt"))
        {
            let text = format!("`{}` of a standardized number, about half of which are below 0", next.name.text);
            self.report(Problem::error("E0304", next.span, text).help("put `standardize` behind it"));
            return (None, Vec::new());
        }
        let moments = match standardized {
            None => None,
            Some(at) => match steps[..at].iter().map(|step| self.number_step(step)).collect() {
                Some(before) => Some(before),
                None => return (None, Vec::new()),
            },
        };
        let raw = steps.is_empty();
        (Some(Reading { fill, moments, raw }), steps)
    }

    /// A step before `standardize`; none if it has a mistake, which is reported where the step is applied.
    fn number_step(&mut self, step: &Step) -> Option<NumberStep> {
        let argument = match step.args.as_slice() {
            [] => None,
            _ => Some(self.number_argument(step)?),
        };
        let found = NumberStep::named(&step.name.text, argument);
        if found.is_none() && super::builtins::is_elementwise(&step.name.text) {
            let text = format!("`{}` takes {}", step.name.text, if argument.is_some() { "no number" } else { "one number" });
            self.report(Problem::error("E0305", step.span, text).help("such as `log1p`, or `min(100)`"));
        }
        found
    }

    /// The value of empty cells goes through the transforms as well.
    fn check_fill(&mut self, kind: Option<&ColumnKind>, domain: Option<Domain>, span: Span) {
        if let (Some(fill), Some(domain)) = (kind.and_then(ColumnKind::reading).and_then(|reading| reading.fill), domain)
            && !domain.contains(fill)
        {
            let problem = Problem::error("E0305", span, format!("{}, and `fill` puts {fill} into empty cells", domain.describe()));
            self.report(problem.help("fill with a number the transform takes"));
        }
    }

    fn check_number_steps(&mut self, steps: &[Step]) {
        for step in steps {
            let name = step.name.text.as_str();
            let alone = matches!(name, "max" | "min" | "atan2") && step.args.is_empty();
            if let (Some(argument), true) = (step.args.first(), name == "standardize") {
                let problem = Problem::error("E0305", argument.value.span, "`standardize` takes nothing: mean and deviation are learned");
                self.report(problem.help("write `standardize`"));
            } else if alone {
                self.report(Problem::error("E0305", step.span, format!("`{name}` takes one number")).help(format!("such as `{name}(0)`")));
            } else if name == "fill" {
                self.report(
                    Problem::error("E0304", step.span, "`fill` comes first")
                        .help("an empty cell has no value that the steps before it could take: put `fill` right behind the column"),
                );
            } else if ID_STEPS.contains(&name) {
                self.report(
                    Problem::error("E0303", step.span, format!("`{name}` makes ids, and this is a number"))
                        .help("declare the feature as `id`, or leave the step out"),
                );
            } else if name != "standardize" && !super::builtins::is_elementwise(name) {
                let known = super::builtins::elementwise_names().chain(["fill", "standardize"]);
                self.report(Problem::error("E0302", step.name.span, format!("there is no transform `{name}`")).help(words::help(
                    "transform",
                    name,
                    known.collect::<Vec<_>>(),
                )));
            }
        }
    }

    fn id_kind(&mut self, kind: Kind, feature: &ast::Feature, steps: &[Step]) -> Option<ColumnKind> {
        let mut encoder: Option<(Encoder, Span)> = None;
        let mut splitting = Splitting::default();
        let mut sound = true;
        for step in steps {
            if kind != Kind::Id
                && let Some(right) = self.splitting_step(step, encoder.is_some(), &mut splitting)
            {
                sound &= right;
                continue;
            }
            match step.name.text.as_str() {
                "hash" | "vocab" | "vocab_of" | "bucket" => match self.encoder(step) {
                    Some(_) if encoder.is_some() => {
                        self.report(
                            Problem::error("E0303", step.span, "the ids are already numbered")
                                .help("use one of `vocab`, `hash` and `bucket`"),
                        );
                        sound = false;
                    }
                    Some(found) => encoder = Some((found, step.span)),
                    None => sound = false,
                },
                // Of what has a mistake there is no part.
                "quotient" | "remainder" if !sound && encoder.is_none() => {}
                "quotient" | "remainder" => match self.part(step, encoder.take()) {
                    Some(found) => encoder = Some((found, step.span)),
                    None => sound = false,
                },
                "split" | "take" | "take_last" | "stochastic_length" | "aligned" | "weighted" => {
                    let problem = Problem::error("E0303", step.span, format!("`{}` does not fit here", step.name.text));
                    self.report(problem.help("it belongs to features of several values: declare the feature as `ids` or `seq`"));
                    sound = false;
                }
                other => {
                    self.report(
                        Problem::error("E0302", step.name.span, format!("there is no transform `{other}` of ids")).help(words::help(
                            "transform",
                            other,
                            ID_STEPS,
                        )),
                    );
                    sound = false;
                }
            }
        }
        let Some((encoder, _)) = encoder else {
            if sound {
                let problem = Problem::error("E0308", feature.span, format!("the ids of `{}` are not numbered", feature.name.text));
                self.report(problem.help("end the pipeline with `vocab`, `hash(buckets)` or `bucket([…])`"));
            }
            return None;
        };
        if !sound {
            return None;
        }
        match kind {
            Kind::Ids { ordered } => {
                let what = if ordered { "sequence" } else { "bag" };
                let split = self.split_of(&Name { text: feature.name.text.clone(), span: feature.span }, what, splitting)?;
                Some(ColumnKind::Ids { split, encoder, ordered })
            }
            _ => Some(ColumnKind::Id { encoder }),
        }
    }

    fn encoder(&mut self, step: &Step) -> Option<Encoder> {
        match step.name.text.as_str() {
            "hash" => self.hash(step),
            "bucket" => self.bucket(step),
            "vocab_of" => self.vocab_of(step),
            _ => {
                let mut min_count = 1;
                self.given_once(&step.args, "vocab", usize::MAX)?;
                for argument in &step.args {
                    if argument.name.as_ref().is_none_or(|name| name.text != "min_count") {
                        self.report(
                            Problem::error("E0305", argument.value.span, "`vocab` takes `min_count: n` only")
                                .help("such as `vocab(min_count: 10)`"),
                        );
                        return None;
                    }
                    min_count = self.count(&argument.value, "min_count", 1, i64::from(u32::MAX))? as u32;
                }
                Some(Encoder::Vocab { min_count })
            }
        }
    }

    fn hash(&mut self, step: &Step) -> Option<Encoder> {
        self.given_once(&step.args, "hash", usize::MAX)?;
        let (seed, counts) = split_argument(&step.args, "seed");
        if counts.iter().any(|argument| argument.name.is_some()) {
            // Reported already.
            return None;
        }
        let [buckets] = counts.as_slice() else {
            let problem = Problem::error("E0305", step.span, "`hash` takes the number of buckets");
            self.report(problem.help("such as `hash(100)`; `hash(100, seed: 1)` is another hash function"));
            return None;
        };
        let buckets = self.count(&buckets.value, "hash", 1, i64::from(i32::MAX) - 1)? as u32;
        let seed = seed.map_or(Some(0), |seed| self.count(seed, "seed", 0, i64::from(u32::MAX)))? as u32;
        Some(Encoder::Hash { buckets, seed })
    }

    /// `quotient(n)` or `remainder(n)` behind what numbers the ids.
    fn part(&mut self, step: &Step, numbered: Option<(Encoder, Span)>) -> Option<Encoder> {
        let name = &step.name.text;
        let divisor = self.count_argument(step, 1, i64::from(i32::MAX) - 1)? as u32;
        match numbered {
            Some((of @ (Encoder::Vocab { .. } | Encoder::VocabOf(_) | Encoder::Hash { .. }), _)) => {
                let part = if name == "quotient" { RowPart::Quotient } else { RowPart::Remainder };
                Some(Encoder::Part { of: Box::new(of), part, divisor })
            }
            other => {
                let problem = Problem::error("E0303", step.span, format!("`{name}` divides the number of a `vocab` or a `hash`"));
                let problem = other.iter().fold(problem, |problem, (_, span)| problem.and(*span, "what stands before it"));
                self.report(problem.help(format!("such as `vocab |> {name}(64)` or `hash(1_000_003) |> {name}(1000)`")));
                None
            }
        }
    }

    fn bucket(&mut self, step: &Step) -> Option<Encoder> {
        let bounds: Option<Vec<f64>> = match step.args.as_slice() {
            [argument] => match self.constant(&argument.value) {
                Value::List(items) => items.iter().map(Value::as_float).collect(),
                Value::Poison => return None,
                _ => None,
            },
            _ => None,
        };
        match bounds {
            Some(bounds) if !bounds.is_empty() && bounds.windows(2).all(|pair| pair[0] < pair[1]) => Some(Encoder::Bucket { bounds }),
            _ => {
                self.report(
                    Problem::error("E0305", step.span, "`bucket` takes ascending bounds")
                        .help("such as `bucket([6, 12, 18])`: below 6, 6 to 12, 12 to 18, 18 and above"),
                );
                None
            }
        }
    }

    fn vocab_of(&mut self, step: &Step) -> Option<Encoder> {
        let named = match step.args.as_slice() {
            [ast::Argument { name: None, value: Expr { kind: ExprKind::Name(name), span } }] => Some((name.clone(), *span)),
            _ => None,
        };
        let Some((name, span)) = named else {
            self.report(Problem::error("E0305", step.span, "`vocab_of` takes the name of a feature").help("such as `vocab_of(item)`"));
            return None;
        };
        let found = self
            .features
            .iter_mut()
            .find(|feature| feature.name == name && !feature.group && matches!(feature.kind, Kind::Id | Kind::Ids { .. }));
        match found {
            Some(feature) if matches!(self.columns[feature.columns[0] as usize].kind.numbering(), Some(Encoder::Vocab { .. })) => {
                // Its dictionary is.
                feature.used = true;
                Some(Encoder::VocabOf(feature.columns[0]))
            }
            Some(feature) if !feature.sound => None,
            Some(_) => {
                self.report(
                    Problem::error("E0305", span, format!("`{name}` has no vocabulary"))
                        .help("`vocab_of` shares the dictionary of a feature that ends in `vocab`"),
                );
                None
            }
            None => {
                let help = self.suggest_id_feature(&name);
                self.report(Problem::error("E0101", span, format!("there is no id feature `{name}` above")).help(help));
                None
            }
        }
    }

    /// The help for a name that is no feature of ids.
    pub(super) fn suggest_id_feature(&self, name: &str) -> String {
        if let Some((group, _)) = self.member(name) {
            return format!("it is in the group `{group}`: name the group, or declare it as a feature of its own");
        }
        let ids = self.features.iter().filter(|feature| matches!(feature.kind, Kind::Id | Kind::Ids { .. }));
        suggest(name, ids.map(|feature| feature.name.as_str()))
    }

    pub(super) fn text_argument(&mut self, step: &Step) -> Value {
        match step.args.as_slice() {
            [argument] => self.constant(&argument.value),
            _ => Value::Nothing,
        }
    }

    fn number_argument(&mut self, step: &Step) -> Option<f64> {
        let found = match step.args.as_slice() {
            [argument] => self.constant(&argument.value),
            _ => Value::Nothing,
        };
        let value = found.as_float().filter(|value| value.is_finite());
        if value.is_none() && !matches!(found, Value::Poison) {
            self.report(
                Problem::error("E0305", step.span, format!("`{}` takes one number", step.name.text))
                    .help(format!("such as `{}(0)`", step.name.text)),
            );
        }
        value
    }

    pub(super) fn count_argument(&mut self, step: &Step, least: i64, most: i64) -> Option<i64> {
        match step.args.as_slice() {
            [argument] => self.count(&argument.value, &step.name.text, least, most),
            _ => {
                self.report(
                    Problem::error("E0305", step.span, format!("`{}` takes one whole number", step.name.text))
                        .help(format!("such as `{}(100)`", step.name.text)),
                );
                None
            }
        }
    }

    fn count(&mut self, value: &Expr, what: &str, least: i64, most: i64) -> Option<i64> {
        let found = self.constant(value);
        match found.as_int() {
            Some(count) if (least..=most).contains(&count) => Some(count),
            _ if matches!(found, Value::Poison) => None,
            _ => {
                let text = found.describe(&self.graph);
                self.report(
                    Problem::error("E0305", value.span, format!("`{what}` takes a whole number from {least} to {most}, not {text}"))
                        .help(format!("such as {}", least.max(1))),
                );
                None
            }
        }
    }

    pub(super) fn check_data(&mut self, settings: &ast::Settings) -> DataSpec {
        let mut data = DataSpec::default();
        let known = ["format", "separator", "columns", "train", "valid", "test", "synthetic", "group", "order", "split"];
        self.known_settings(settings, "data", &known);
        for setting in &settings.entries {
            let value = &setting.value;
            match setting.key.text.as_str() {
                "format" => data.format = self.data_format(value),
                "columns" => data.columns = self.data_columns(value),
                "train" => data.train = self.paths_of(value),
                "valid" => data.valid = self.paths_of(value),
                "test" => data.test = self.paths_of(value),
                "synthetic" => data.synthetic = self.planted(value),
                "separator" => data.separator = self.separator(value),
                "group" => data.group = self.column_name(value),
                "order" => data.order = self.column_name(value),
                "split" => match &value.kind {
                    ExprKind::Name(name) if name == "leave_one_out" => data.leave_one_out = true,
                    _ => {
                        let problem = Problem::error("E0702", value.span, "this is no way to split groups of rows");
                        self.report(
                            problem
                                .help("write `leave_one_out`: the last row of each group is for the test, the one before for validation"),
                        );
                    }
                },
                _ => {}
            }
        }
        self.check_groups(settings, &data);
        let find = |key: &str| settings.entries.iter().find(|setting| setting.key.text == key);
        if let (Some(drawn), Some(files)) = (find("synthetic"), find("train")) {
            let problem =
                Problem::error("E0703", files.key.span, "rows are read from files or drawn, not both").and(drawn.key.span, "drawn here");
            self.report(problem.help("leave one of them out"));
        }
        data
    }

    /// `order` and `split` are of the rows of a group.
    fn check_groups(&mut self, settings: &ast::Settings, data: &DataSpec) {
        let find = |key: &str| settings.entries.iter().find(|setting| setting.key.text == key);
        if let (None, Some(setting)) = (find("group"), find("order").or(find("split"))) {
            let problem = Problem::error("E0704", setting.key.span, format!("`{}` is of the rows of a group", setting.key.text));
            self.report(problem.help("say which rows belong together: `group: user`"));
        }
        if let (Some(group), Some(_)) = (find("group"), &data.synthetic) {
            let problem = Problem::error("E0704", group.key.span, "drawn rows are whole examples, and no events to group");
            self.report(problem.help("leave `group` out, or read files"));
        }
        if let (true, Some(other)) = (data.leave_one_out, find("valid").or(find("test"))) {
            let problem =
                Problem::error("E0704", other.key.span, "`leave_one_out` takes the rows for validation and test from those of `train`");
            self.report(problem.help("keep one of them"));
        }
    }

    fn column_name(&mut self, value: &Expr) -> Option<String> {
        match &value.kind {
            ExprKind::Name(name) | ExprKind::Text(name) => Some(name.clone()),
            _ => {
                self.report(Problem::error("E0702", value.span, "this is no column").help("write its name, such as `group: user`"));
                None
            }
        }
    }

    fn separator(&mut self, value: &Expr) -> Option<char> {
        let found = self.constant(value);
        if let Value::Text(text) = &found
            && let [sign] = text.as_bytes()
            && sign.is_ascii()
            && !matches!(sign, b'\n' | b'\r' | b'"')
        {
            return Some(char::from(*sign));
        }
        if !matches!(found, Value::Poison) {
            let problem = Problem::error("E0702", value.span, "a separator is one character");
            self.report(problem.help("such as `separator: \" \"`"));
        }
        None
    }

    fn data_format(&mut self, value: &Expr) -> Option<DataFormat> {
        let name = match &value.kind {
            ExprKind::Name(name) | ExprKind::Text(name) => name.as_str(),
            _ => "",
        };
        match name {
            "csv" => Some(DataFormat::Csv),
            "tsv" => Some(DataFormat::Tsv),
            "libsvm" => Some(DataFormat::Libsvm),
            "parquet" => Some(DataFormat::Parquet),
            other => {
                let help = suggest(other, ["csv", "tsv", "libsvm", "parquet"]);
                self.report(Problem::error("E0701", value.span, "this is no format of data files").help(help));
                None
            }
        }
    }

    fn data_columns(&mut self, value: &Expr) -> Option<Vec<String>> {
        let ExprKind::List(items) = &value.kind else {
            self.report(
                Problem::error("E0702", value.span, "`columns` is a list of names").help("such as `[click, I[1..=13], C[1..=26]]`"),
            );
            return None;
        };
        let mut names = Vec::new();
        for item in items {
            match &item.kind {
                ExprKind::Name(name) | ExprKind::Text(name) => names.push(name.clone()),
                ExprKind::Index { base, indices } => match (&base.kind, indices.as_slice()) {
                    (ExprKind::Name(name), [group]) => {
                        names.extend(self.group_members(&Name { text: name.clone(), span: base.span }, group))
                    }
                    _ => self.report(
                        Problem::error("E0702", item.span, "this is no column").help("write a name, or a group such as `I[1..=13]`"),
                    ),
                },
                _ => self
                    .report(Problem::error("E0702", item.span, "this is no column").help("write a name, or a group such as `I[1..=13]`")),
            }
        }
        let mut sorted = names.clone();
        sorted.sort();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            self.report(
                Problem::error("E0102", value.span, format!("the column `{}` is named twice", pair[0]))
                    .help("each column of the file has one name"),
            );
        }
        Some(names)
    }

    fn paths_of(&mut self, value: &Expr) -> Vec<String> {
        if let ExprKind::Field { .. } = &value.kind {
            let problem = Problem::error("E0702", value.span, "a path stands in quotes");
            self.report(problem.help(format!("write {:?}", recc_syntax::print_expr(value))));
            return Vec::new();
        }
        match self.constant(value) {
            Value::Text(path) => vec![path],
            Value::List(items) if items.iter().all(|item| matches!(item, Value::Text(_))) => {
                items.into_iter().filter_map(|item| if let Value::Text(path) = item { Some(path) } else { None }).collect()
            }
            Value::Poison => Vec::new(),
            _ => {
                self.report(
                    Problem::error("E0702", value.span, "this is no path")
                        .help("write a text such as \"data/train.csv.gz\", or a list of them"),
                );
                Vec::new()
            }
        }
    }

    fn planted(&mut self, value: &Expr) -> Option<Planted> {
        let ExprKind::Call { callee, args } = &value.kind else {
            self.report(Problem::error("E0703", value.span, "this draws no data").help("write `planted(rows: 200_000, seed: 1)`"));
            return None;
        };
        if !matches!(&callee.kind, ExprKind::Name(name) if name == "planted") {
            self.report(
                Problem::error("E0703", callee.span, "there is no such synthetic data").help("write `planted(rows: 200_000, seed: 1)`"),
            );
            return None;
        }
        let mut planted = Planted { rows: 100_000, seed: 1, vocab: 1000 };
        for argument in args {
            match argument.name.as_ref().map(|name| name.text.as_str()) {
                Some("rows") => planted.rows = self.count(&argument.value, "rows", 10, 1_000_000_000)? as u64,
                Some("seed") => planted.seed = self.count(&argument.value, "seed", 0, i64::MAX)? as u64,
                Some("vocab") => planted.vocab = self.count(&argument.value, "vocab", 1, 100_000_000)? as u64,
                other => {
                    let help = suggest(other.unwrap_or(""), ["rows", "seed", "vocab"]);
                    self.report(Problem::error("E0210", argument.value.span, "`planted` has no such argument").help(help));
                }
            }
        }
        Some(planted)
    }
}

/// How the weights of a bag's or a sequence's entries are split off.
fn weights_of(kind: &ColumnKind) -> Option<Split> {
    match kind {
        ColumnKind::Ids { split, .. } => split.weighted.is_some().then(|| split.clone()),
        _ => None,
    }
}

/// Whether a model predicts by a softmax, whose target is no label.
fn ranks(file: &ast::File) -> bool {
    let softmax = |statement: &ast::Statement| match &statement.kind {
        ast::StatementKind::Predict(_, Expr { kind: ExprKind::Call { callee, .. }, .. }) => {
            matches!(&callee.kind, ExprKind::Name(name) if name == "softmax")
        }
        _ => false,
    };
    file.items.iter().any(|item| matches!(&item.kind, ast::ItemKind::Model { body, .. } if body.statements.iter().any(softmax)))
}

/// A step of a pipeline: `log1p` or `hash(10)`.
fn step(into: &Expr) -> Option<Step> {
    let (name, span, args) = match &into.kind {
        ExprKind::Name(name) => (name, into.span, Vec::new()),
        ExprKind::Call { callee, args } => match &callee.kind {
            ExprKind::Name(name) => (name, callee.span, args.clone()),
            _ => return None,
        },
        _ => return None,
    };
    Some(Step { name: Name { text: name.clone(), span }, args, span: into.span })
}

/// The numbers a transform takes, if not all.
fn domain_of(step: &Step) -> Option<Domain> {
    match step.name.text.as_str() {
        "log" => Some(Domain::Positive),
        "log1p" => Some(Domain::AboveMinusOne),
        "sqrt" => Some(Domain::NotNegative),
        _ => None,
    }
}
