//! Checking: from the tree to a [`Spec`], with every problem found on the way.
//!
//! A block is expanded where it is called: checking a model builds its forward graph. The model is walked twice, as it is
//! trained and as it scores; problems are reported the first time. A value that was reported becomes a poison that stays silent.

mod auxiliaries;
mod balance;
mod builtins;
mod calls;
mod cohorts;
mod einsum;
mod ensembles;
mod eval;
mod feature;
mod features;
mod fit;
mod inspected;
mod levels;
mod objective;
mod ranking;
mod schedule;
mod scope;
mod sequences;
mod settings;
mod shaped;
mod statements;
mod tables;
mod value;
mod words;

use crate::graph::{Graph, NodeId, Program};
use crate::ops::Op;
use crate::problem::{Problem, Severity, suggest};
use crate::scalar::ScalarOp;
use crate::sources::Sources;
use crate::spec::{Forward, Spec};
use feature::Feature;
use recc_abi::{Column, DataSpec, Variable, VariableId};
use recc_syntax::ast::{self, Expr, FileId, Item, ItemKind, Name, Span, Use};
use scope::{Binding, PathId, Paths};
use statements::Predicted;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use value::{BlockRef, Value};

/// Statements, calls and iterations a spec may expand to.
const FUEL: u32 = 200_000;

/// What checking gave.
#[derive(Debug)]
pub struct Checked {
    /// The spec, if there was no error.
    pub spec: Option<Spec>,
    /// All problems, in the order of the text.
    pub problems: Vec<Problem>,
    /// The tree of the spec's own file.
    pub file: ast::File,
}

/// A `-D NAME=VALUE`.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// The constant.
    pub name: String,
    /// Its value, as an expression's text.
    pub value: String,
}

/// Names of one file.
#[derive(Debug, Default)]
struct Module {
    name: String,
    names: BTreeMap<String, Known>,
}

/// A constant, a block or an imported name.
#[derive(Debug)]
struct Known {
    value: Value,
    span: Span,
}

/// The state of checking.
struct Checker<'s> {
    sources: &'s Sources,
    overrides: &'s [Override],
    modules: Vec<Module>,
    problems: Vec<Problem>,
    features: Vec<Feature>,
    columns: Vec<Column>,
    cohorts: Vec<cohorts::Cohort>,
    tables: Vec<tables::Declared>,
    variables: Vec<(PathId, Variable)>,
    /// Those of the model that is walked; then of the spec: what it predicts, and each member's own.
    predictions: Vec<Predicted>,
    /// Heads of auxiliary objectives.
    auxiliaries: Vec<Predicted>,
    collaborations: Vec<ensembles::Collaboration>,
    exposes: Vec<value::Exposed>,
    paths: Paths,
    graph: Graph,
    forward: Forward,
    /// Whether the model is walked as it is trained.
    training: bool,
    axes: u32,
    /// Whether rows of the data are grouped to examples.
    grouped: bool,
    /// The second axis of pairs of steps, by the first.
    pair_axes: BTreeMap<value::AxisId, value::AxisId>,
    /// Axes of features: groups, bags and sequences.
    feature_axes: BTreeMap<usize, value::AxisId>,
    table_axes: BTreeMap<usize, value::AxisId>,
    scopes: Vec<Vec<Binding>>,
    module: usize,
    path: Option<PathId>,
    /// The model that is walked: its position and its name.
    model: Option<usize>,
    model_name: String,
    in_ensemble: bool,
    /// Names of all models.
    models: Vec<String>,
    /// Blocks being expanded, to refuse recursion.
    calls: Vec<String>,
    /// The input of the layer that is being applied.
    layer_call: Option<Span>,
    /// Statements and calls left before a spec is refused as endless.
    fuel: u32,
    /// Random places met so far under each path.
    sites: BTreeMap<String, u32>,
    /// Parameters of the model itself met in this walk.
    declared: Vec<PathId>,
    /// The model's own scope sees features and tables.
    in_model: bool,
}

/// Checks the first source; the others are library modules named `std.dense` and so on.
pub fn check(sources: &Sources, overrides: &[Override]) -> Checked {
    let mut checker = Checker::new(sources, overrides);
    let (file, spec) = checker.run();
    let failed = checker.has_errors();
    let mut problems: Vec<Problem> = Vec::new();
    for problem in checker.problems {
        // What a mistake leaves unused is not worth a word; the second walk finds most problems again.
        let noise = failed && problem.severity == Severity::Warning;
        if !noise && !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    problems.sort_by_key(|problem| problem.labels.first().map(|label| (label.span.file, label.span.start)));
    // One wrong argument may break several lines of the block that it was given to: the first is enough.
    let place = |problem: &Problem| problem.labels.first().map(|label| label.span);
    problems.dedup_by(|later, first| later.code == first.code && later.message == first.message && place(later) == place(first));
    Checked { spec: spec.filter(|_| !failed), problems, file }
}

impl<'s> Checker<'s> {
    fn new(sources: &'s Sources, overrides: &'s [Override]) -> Self {
        Checker {
            sources,
            overrides,
            modules: Vec::new(),
            problems: Vec::new(),
            features: Vec::new(),
            columns: Vec::new(),
            cohorts: Vec::new(),
            tables: Vec::new(),
            variables: Vec::new(),
            predictions: Vec::new(),
            auxiliaries: Vec::new(),
            collaborations: Vec::new(),
            exposes: Vec::new(),
            paths: Paths::default(),
            graph: Graph::default(),
            forward: Forward::default(),
            training: true,
            axes: 0,
            grouped: false,
            pair_axes: BTreeMap::new(),
            feature_axes: BTreeMap::new(),
            table_axes: BTreeMap::new(),
            scopes: Vec::new(),
            module: 0,
            path: None,
            model: None,
            model_name: String::new(),
            in_ensemble: false,
            models: Vec::new(),
            calls: Vec::new(),
            layer_call: None,
            fuel: FUEL,
            sites: BTreeMap::new(),
            declared: Vec::new(),
            in_model: false,
        }
    }

    fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }

    fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    fn not_yet(&mut self, span: Span, what: &str) {
        let problem = Problem::error("E0900", span, format!("not there yet: {what}"));
        self.report(problem.help("the language has it, this version of recc has not; the README lists what is missing"));
    }

    fn run(&mut self) -> (ast::File, Option<Spec>) {
        let files: Vec<ast::File> = (0..self.sources.files.len()).map(|at| self.parse(at)).collect();
        let readable = !self.has_errors();
        // Library modules first: the spec uses their names.
        for (at, (name, _)) in self.sources.files.iter().enumerate() {
            self.modules.push(Module { name: name.clone(), names: BTreeMap::new() });
            self.declare_blocks(at, &files[at]);
        }
        for (at, file) in files.iter().enumerate().rev() {
            self.uses(at, file);
        }
        self.imported_constants(&files);
        let file = files.into_iter().next().unwrap_or_default();
        // An item that could not be read would be missed by all others.
        let spec = if readable { self.spec(&file) } else { None };
        (file, spec)
    }

    fn parse(&mut self, at: usize) -> ast::File {
        let file = FileId(at as u32);
        let parsed = recc_syntax::parse(file, &self.sources.files[at].1);
        for problem in &parsed.problems {
            self.report(Problem::syntax(file, problem));
        }
        parsed.file
    }

    fn declare(&mut self, module: usize, name: &Name, value: Value) {
        if let Some(known) = self.modules[module].names.get(&name.text) {
            let problem =
                Problem::error("E0102", name.span, format!("`{}` is declared twice", name.text)).and(known.span, "declared here first");
            return self.report(problem.help("give one of them another name"));
        }
        self.modules[module].names.insert(name.text.clone(), Known { value, span: name.span });
    }

    fn declare_blocks(&mut self, module: usize, file: &ast::File) {
        for item in &file.items {
            if let ItemKind::Block(block) = &item.kind {
                self.declare(module, &block.name, Value::Block(BlockRef { block: Rc::new(block.clone()), module }));
            }
        }
    }

    fn uses(&mut self, module: usize, file: &ast::File) {
        for item in &file.items {
            match &item.kind {
                ItemKind::Use(Use::Module { path, names }) => self.use_module(module, path, names, item.span),
                ItemKind::Use(Use::File { path, path_span, alias }) => self.use_file(module, path, *path_span, alias),
                _ => {}
            }
        }
    }

    /// `use "blocks.rec" as mine`
    fn use_file(&mut self, module: usize, path: &str, span: Span, alias: &Name) {
        let sources = self.sources;
        let Some(import) = sources.imports.iter().find(|import| import.from == module && import.path == path) else { return };
        match &import.to {
            Ok(to) if self.leads_to(*to, module) => {
                let problem = Problem::error("E0115", span, format!("{path:?} uses this file in turn"));
                self.report(problem.help("let both use a third file that holds what they share"));
                self.declare(module, alias, Value::Poison);
            }
            Ok(to) => self.declare(module, alias, Value::Module(*to)),
            Err(why) => {
                let problem = Problem::error("E0114", span, format!("{path:?} cannot be read: {why}"));
                self.report(problem.help("the path is relative to the file that uses it"));
                self.declare(module, alias, Value::Poison);
            }
        }
    }

    /// Whether a file uses another, itself or through others.
    fn leads_to(&self, from: usize, to: usize) -> bool {
        let mut stack = vec![from];
        let mut seen = BTreeSet::new();
        while let Some(at) = stack.pop() {
            if at == to {
                return true;
            }
            if seen.insert(at) {
                let own = self.sources.imports.iter().filter(|import| import.from == at);
                stack.extend(own.filter_map(|import| import.to.as_ref().ok().copied()));
            }
        }
        false
    }

    /// The files that a file uses, each behind those it uses itself.
    fn used_first(&self, from: usize, seen: &mut BTreeSet<usize>, order: &mut Vec<usize>) {
        for to in self.sources.imports.iter().filter(|import| import.from == from).filter_map(|import| import.to.as_ref().ok()) {
            if *to != 0 && seen.insert(*to) {
                self.used_first(*to, seen, order);
                order.push(*to);
            }
        }
    }

    /// Constants of the files that the spec uses, those that others use first; other items than blocks have no place there.
    fn imported_constants(&mut self, files: &[ast::File]) {
        let mut order = Vec::new();
        self.used_first(0, &mut BTreeSet::new(), &mut order);
        for at in order {
            self.module = at;
            for item in &files[at].items {
                match &item.kind {
                    ItemKind::Const { name, value } => {
                        let value = self.constant(value);
                        self.declare(at, name, value);
                    }
                    ItemKind::Use(_) | ItemKind::Block(_) => {}
                    _ => {
                        let problem = Problem::error("E0116", item.span, "a file that others use holds blocks and constants");
                        self.report(problem.help("the rest of a spec stands in one file; move the blocks to one of their own"));
                    }
                }
            }
        }
        self.module = 0;
    }

    fn use_module(&mut self, module: usize, path: &[Name], names: &[Name], span: Span) {
        let full = path.iter().map(|name| name.text.as_str()).collect::<Vec<_>>().join(".");
        let Some(from) = self.modules.iter().skip(1).position(|known| known.name == full).map(|at| at + 1) else {
            names.iter().for_each(|name| self.declare_wrong(module, name));
            let known: Vec<String> = self.modules.iter().skip(1).map(|module| module.name.clone()).collect();
            let help = match names {
                [name] if known.contains(&format!("{full}.{}", name.text)) => {
                    format!("name what is used: `use {full}.{}.{{…}}`", name.text)
                }
                _ => suggest(&full, known.iter().map(String::as_str)),
            };
            let at = path.first().map_or(span, |first| first.span.to(path[path.len() - 1].span));
            return self.report(Problem::error("E0103", at, format!("there is no library module `{full}`")).help(help));
        };
        for name in names {
            match self.modules[from].names.get(&name.text).map(|known| known.value.clone()) {
                Some(value) => self.declare(module, name, value),
                None => {
                    let known: Vec<String> = self.modules[from].names.keys().cloned().collect();
                    let help = match self.module_with(&name.text) {
                        Some(other) => format!("`{other}` has it: `use {other}.{}`", name.text),
                        None => suggest(&name.text, known.iter().map(String::as_str)),
                    };
                    self.report(Problem::error("E0103", name.span, format!("`{full}` has no block `{}`", name.text)).help(help));
                    self.declare_wrong(module, name);
                }
            }
        }
    }

    /// A name that stands for nothing is known, so that its uses are not reported too.
    fn declare_wrong(&mut self, module: usize, name: &Name) {
        self.modules[module].names.entry(name.text.clone()).or_insert(Known { value: Value::Poison, span: name.span });
    }

    fn spec(&mut self, file: &ast::File) -> Option<Spec> {
        self.constants(file);
        let mut data = DataSpec::default();
        for settings in self.only(file, "data", |kind| if let ItemKind::Data(settings) = kind { Some(settings) } else { None }) {
            data = self.check_data(settings);
            self.grouped = settings.entries.iter().any(|setting| setting.key.text == "group");
        }
        for item in &file.items {
            if let ItemKind::Features(features) = &item.kind {
                self.check_features(features);
            }
        }
        self.check_cohorts(file);
        self.need_a_label(file);
        let models: Vec<(&Name, &ast::Body)> = file
            .items
            .iter()
            .filter_map(|item| if let ItemKind::Model { name, body } = &item.kind { Some((name, body)) } else { None })
            .collect();
        let end = self.end_of_spec();
        self.models = models.iter().map(|(name, _)| name.text.clone()).collect();
        let train_settings = self.only(file, "train", |kind| if let ItemKind::Train(settings) = kind { Some(settings) } else { None });
        let mut train = self.check_train(train_settings.first().copied());
        if models.is_empty() {
            if !self.has_errors() {
                self.report(Problem::error("E0104", end, "the spec has no model").help("add `model name { … predict label = logit(…) }`"));
            }
            return None;
        }
        self.check_roots(file);
        let ensemble = self.check_ensemble(file, &models);
        self.check_tables(file, &models, &train);
        self.walk(file, &models, ensemble.as_ref(), true);
        let mut training = std::mem::take(&mut self.forward);
        let exposed = std::mem::take(&mut self.exposes);
        let auxiliaries = std::mem::take(&mut self.auxiliaries);
        let collaborations = std::mem::take(&mut self.collaborations);
        let trained: Vec<Predicted> = self.predictions.iter().chain(&auxiliaries).cloned().collect();
        self.walk(file, &models, ensemble.as_ref(), false);
        let mut scoring = std::mem::take(&mut self.forward);
        // What was exposed lies in the graphs, which are complete.
        let exposed_in_scoring = std::mem::take(&mut self.exposes);
        let names = exposed_in_scoring.iter().map(|own| format!("{}.{}", own.model, own.name)).collect();
        let objective = self.only(file, "objective", |kind| if let ItemKind::Objective(settings) = kind { Some(settings) } else { None });
        let (losses, left_out) = {
            let (auxiliaries, ensemble) = (auxiliaries.len(), ensemble.as_ref());
            let heads = objective::Heads { all: &trained, auxiliaries, collaborations: &collaborations, ensemble };
            self.check_objective(objective.first().copied(), end, &heads)
        };
        let balance = objective.first().and_then(|settings| settings.entries.iter().find(|setting| setting.key.text == "balance"));
        let balance = balance.filter(|_| !self.has_errors());
        let balance = balance.and_then(|setting| {
            // What models expose was last seen as they score.
            self.exposes = exposed;
            let found = self.check_balance(&setting.value, &losses, &left_out, &mut training);
            self.exposes.clear();
            found
        });
        let metrics = self.only(file, "metrics", |kind| if let ItemKind::Metrics(settings) = kind { Some(settings) } else { None });
        let inspect = metrics.first().and_then(|settings| settings.entries.iter().find(|setting| setting.key.text == "inspect"));
        let inspect = inspect.filter(|_| !self.has_errors()).map(|setting| &setting.value);
        let (metrics, cohorts) = self.check_metrics(metrics.first().copied());
        let inspected = inspect.map_or(Vec::new(), |value| {
            self.exposes = exposed_in_scoring;
            let found = self.check_inspected(value, &mut scoring);
            self.exposes.clear();
            found
        });
        self.check_monitors(train_settings.first().copied(), &mut train, &metrics);
        self.warn_unused();
        self.warn_unused_cohorts();
        self.warn_unused_names();
        self.spare_what_is_transformed(&scoring.program.graph);
        let tables = self.finished_tables();
        let mut scored = read_variables(&scoring.program);
        let ranked = self.predictions.iter().filter_map(|own| own.prediction.ranking());
        scored.extend(ranked.filter_map(|ranking| tables.get(ranking.table as usize)).map(|table| table.variable));
        let variable = |(at, (path, variable)): (usize, &(PathId, Variable))| Variable {
            path: self.paths.text(*path),
            scored: scored.contains(&variable_id(at)),
            ..variable.clone()
        };
        let variables = self.variables.iter().enumerate().map(variable).collect();
        Some(Spec {
            name: ensemble.as_ref().map_or(models[0].0, |ensemble| ensemble.name).text.clone(),
            data,
            columns: self.columns.clone(),
            tables,
            variables,
            predictions: self.predictions.iter().map(|own| own.prediction.clone()).collect(),
            losses,
            balance,
            train,
            metrics,
            cohorts,
            exposed: names,
            inspected,
            training,
            scoring,
        })
    }

    /// A number that every use in the model brings to another size is not raw.
    fn spare_what_is_transformed(&mut self, graph: &Graph) {
        let resizes = |node: &NodeId| match &graph[*node].op {
            Op::Map(map) => matches!(map.op, ScalarOp::Log | ScalarOp::Log1p | ScalarOp::Sqrt | ScalarOp::Tanh | ScalarOp::Sigmoid),
            _ => false,
        };
        for node in graph.nodes() {
            if let Op::Input(input) = &graph[node].op
                && graph.users(node).iter().all(resizes)
            {
                for &column in &input.columns {
                    if let recc_abi::ColumnKind::Number(reading) = &mut self.columns[column as usize].kind {
                        reading.raw = false;
                    }
                }
            }
        }
    }

    /// Constants, blocks and imports that the rest of the spec does not name. Those in a branch that is not taken are used: with
    /// another constant it may be.
    fn warn_unused_names(&mut self) {
        let text = self.sources.files.first().map_or("", |(_, text)| text.as_str());
        let words: Vec<&str> = text
            .lines()
            .flat_map(|line| line.split("//").next().unwrap_or("").split(|sign: char| !sign.is_alphanumeric() && sign != '_'))
            .collect();
        let used = |name: &str| words.iter().filter(|word| **word == name).count() > 1;
        let unused: Vec<(String, Span, bool)> = self.modules[0]
            .names
            .iter()
            .filter(|(name, known)| !used(name) && !matches!(known.value, Value::Poison))
            .map(|(name, known)| (name.clone(), known.span, matches!(&known.value, Value::Block(block) if block.module == 0)))
            .collect();
        for (name, span, block) in unused {
            let (message, help) = if block {
                (format!("the block `{name}` is not called"), "a block is checked where it is called; call it, or remove it")
            } else {
                (format!("`{name}` is not used"), "use it, or remove it")
            };
            self.report(Problem::warning("W0004", span, message).help(help));
        }
    }

    fn end_of_spec(&self) -> Span {
        let len = self.sources.files.first().map_or(0, |(_, text)| text.trim_end().len()) as u32;
        Span { file: FileId(0), start: len.saturating_sub(1), end: len }
    }

    /// The items of a kind, of which there may be one.
    fn only<'f, T>(&mut self, file: &'f ast::File, name: &str, pick: impl Fn(&'f ItemKind) -> Option<T>) -> Vec<T> {
        let found: Vec<(&Item, T)> = file.items.iter().filter_map(|item| pick(&item.kind).map(|value| (item, value))).collect();
        if let [(first, _), (second, _), ..] = found.as_slice() {
            let problem = Problem::error("E0105", second.span, format!("a second `{name}`")).and(first.span, "the first one");
            self.report(problem.help("a spec has one; join them"));
        }
        found.into_iter().map(|(_, value)| value).take(1).collect()
    }

    fn constants(&mut self, file: &ast::File) {
        let mut known = Vec::new();
        for item in &file.items {
            if let ItemKind::Const { name, value } = &item.kind {
                known.push(name.text.clone());
                let value = match self.overrides.iter().rev().find(|own| own.name == name.text) {
                    Some(own) => self.overridden(own, name),
                    None => self.constant(value),
                };
                self.declare(0, name, value);
            }
        }
        for (at, own) in self.overrides.iter().enumerate() {
            if self.overrides[..at].iter().any(|before| before.name == own.name) {
                let message = format!("-D {}={}: `{}` is set twice", own.name, own.value, own.name);
                self.report(Problem::nowhere("E0111", message).help("keep one of them"));
            }
            if !known.contains(&own.name) {
                let help = if known.is_empty() {
                    format!("declare it: `const {} = …`", own.name)
                } else {
                    suggest(&own.name, known.iter().map(String::as_str))
                };
                let message = format!("-D {}={}: the spec has no constant `{}`", own.name, own.value, own.name);
                self.report(Problem::nowhere("E0111", message).help(help));
            }
        }
    }

    fn overridden(&mut self, own: &Override, name: &Name) -> Value {
        let text = format!("const {} = {}", own.name, own.value);
        let parsed = recc_syntax::parse(FileId(0), &text);
        if let ([], [Item { kind: ItemKind::Const { value, .. }, .. }]) = (parsed.problems.as_slice(), parsed.file.items.as_slice()) {
            let before = self.problems.len();
            let value = self.constant(value);
            if self.problems.len() == before && !matches!(value, Value::Poison) {
                return value;
            }
            self.problems.truncate(before);
        }
        let problem = Problem::error("E0112", name.span, format!("-D {}={}: this is no constant value", own.name, own.value));
        self.report(problem.help("give a number, `true`, `false`, a quoted text, or a list such as [400, 400]"));
        Value::Poison
    }

    /// A compile-time value outside any model.
    fn constant(&mut self, expr: &Expr) -> Value {
        let was = std::mem::replace(&mut self.in_model, false);
        let scopes = std::mem::take(&mut self.scopes);
        let value = self.eval(expr);
        self.in_model = was;
        self.scopes = scopes;
        if let Value::Tensor(_) | Value::Feature(_) | Value::Table(_) = value {
            self.report(Problem::error("E0212", expr.span, "this is not known at compile time").help("use numbers and constants here"));
            return Value::Poison;
        }
        value
    }

    fn known_settings(&mut self, settings: &ast::Settings, owner: &str, known: &[&str]) {
        for (at, setting) in settings.entries.iter().enumerate() {
            let key = &setting.key;
            if !known.contains(&key.text.as_str()) {
                let problem = Problem::error("E0107", key.span, format!("`{owner}` has no setting `{}`", key.text));
                self.report(problem.help(words::help(owner, &key.text, known.iter().copied())));
            }
            if let Some(first) = settings.entries[..at].iter().find(|other| other.key.text == key.text) {
                let problem =
                    Problem::error("E0108", key.span, format!("`{}` is set twice", key.text)).and(first.key.span, "set here first");
                self.report(problem.help("keep one of them"));
            }
        }
    }

    /// Models, the ensemble, tables at the top and auxiliary objectives begin the paths of parameters: each has a name of its own.
    fn check_roots(&mut self, file: &ast::File) {
        let mut known: Vec<(&Name, &str)> = Vec::new();
        for item in &file.items {
            let (name, what) = match &item.kind {
                ItemKind::Model { name, .. } => (name, "a model"),
                ItemKind::Ensemble { name, .. } => (name, "an ensemble"),
                ItemKind::Table(table) => (&table.name, "a table"),
                ItemKind::Auxiliary { name, .. } => (name, "an auxiliary objective"),
                _ => continue,
            };
            let other = self.modules[0].names.get(&name.text).map(|own| (own.span, "something else"));
            if name.text == "balance" {
                let problem = Problem::error("E0102", name.span, format!("`balance` names {what}"));
                self.report(problem.help("the states of balancing rules are kept under this name; give it another"));
            }
            let other = other.or(known.iter().find(|(own, _)| own.text == name.text).map(|(own, what)| (own.span, *what)));
            // Two tables of one name are found where tables are checked.
            if let Some((span, other)) = other.filter(|(_, other)| !(what == "a table" && *other != "a model")) {
                let problem = Problem::error("E0102", name.span, format!("`{}` names {what} and {other}", name.text));
                self.report(problem.and(span, other).help("give one of them another name"));
            }
            known.push((name, what));
        }
    }

    /// Walks the bodies of the models once, and what stands on them.
    fn walk(&mut self, file: &ast::File, models: &[(&Name, &ast::Body)], ensemble: Option<&ensembles::Ensemble<'_>>, training: bool) {
        self.training = training;
        self.fuel = FUEL;
        self.sites.clear();
        self.declared.clear();
        self.graph.take_nodes();
        self.exposes.clear();
        self.in_ensemble = ensemble.is_some();
        self.scopes = Vec::new();
        self.module = 0;
        self.axes = 0;
        self.feature_axes.clear();
        self.pair_axes.clear();
        self.table_axes.clear();
        // The second walk meets the same calls in the same order, and finds the parameters of the first.
        self.paths.rewind_all();
        let mut walked = Vec::new();
        for (at, (name, body)) in models.iter().enumerate() {
            self.predictions.clear();
            self.model = Some(at);
            self.model_name.clone_from(&name.text);
            self.path = Some(self.paths.root_again(&name.text));
            self.in_model = true;
            self.model_body(body);
            self.in_model = false;
            walked.push(Walked { span: name.span, predictions: std::mem::take(&mut self.predictions) });
        }
        self.model = None;
        self.predictions = match ensemble {
            Some(ensemble) => {
                self.path = Some(self.paths.root_again(&ensemble.name.text));
                self.origin();
                self.fuse(ensemble, walked)
            }
            None => walked.into_iter().next().map(|own| own.predictions).unwrap_or_default(),
        };
        if training {
            self.auxiliaries = self.auxiliaries(file);
        }
        self.forward.program.graph = self.graph.take_nodes();
    }

    fn warn_unused(&mut self) {
        let mut found = Vec::new();
        for feature in &self.features {
            let input = !matches!(feature.kind, feature::Kind::Label { .. } | feature::Kind::Key);
            if !feature.used && input && feature.sound {
                found.push(
                    Problem::warning("W0001", feature.span, format!("the feature `{}` is not used", feature.name))
                        .help("look it up in the model, or remove it"),
                );
            }
        }
        for table in &self.tables {
            if !table.used {
                found.push(
                    Problem::warning("W0002", table.span, format!("the table `{}` is not used", table.name))
                        .help("look something up in it, or remove it"),
                );
            }
        }
        self.problems.extend(found);
    }
}

/// What the walk of a model gave.
struct Walked {
    span: Span,
    predictions: Vec<Predicted>,
}

/// The variables that the results of a program are computed from.
fn read_variables(program: &Program) -> BTreeSet<VariableId> {
    let read = |node: NodeId| match &program.graph[node].op {
        Op::Variable(own) => Some(own.id),
        Op::Gather(own) => Some(own.variable),
        _ => None,
    };
    program.live().into_iter().filter_map(read).collect()
}

/// The variable a path holds.
fn variable_id(at: usize) -> VariableId {
    VariableId(at as u32)
}
