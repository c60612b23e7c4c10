//! Tables: keys, width, members, and look-up.

use super::feature::Kind;
use super::scope::PathId;
use super::value::{Initializer, Tensor, Value, describe_type};
use super::{Checker, Known, variable_id};
use crate::graph::{Dim, TableId};
use crate::ops::{Gather, Input, InputKind, Op};
use crate::problem::Problem;
use crate::spec::{self, Train};
use crate::train::TableUpdate;
use recc_abi::{Element, Encoder, Init, Role, TableMember, Variable, VariableId};
use recc_syntax::ast::{self, Expr, ExprKind, ItemKind, Name, Span, StatementKind};

/// A declared table.
#[derive(Clone, Debug)]
pub(super) struct Declared {
    pub(super) name: String,
    pub(super) span: Span,
    pub(super) path: PathId,
    /// The model it belongs to; none if all share it.
    pub(super) model: Option<usize>,
    /// Columns that may index it.
    pub(super) columns: Vec<u32>,
    /// Whether each column has rows of its own.
    pub(super) split: bool,
    pub(super) dim: u64,
    rows: Option<u64>,
    pub(super) variable: VariableId,
    pub(super) update: TableUpdate,
    pub(super) storage: Element,
    pub(super) used: bool,
}

impl Checker<'_> {
    /// All tables, those at the top and those of the models, before the models' other statements.
    pub(super) fn check_tables(&mut self, file: &ast::File, models: &[(&Name, &ast::Body)], train: &Train) {
        for item in &file.items {
            if let ItemKind::Table(table) = &item.kind {
                let path = self.paths.root(&table.name.text);
                self.check_table(table, path, train);
            }
        }
        for (at, (model, body)) in models.iter().enumerate() {
            self.model = Some(at);
            let root = self.paths.root_again(&model.text);
            for statement in &body.statements {
                if let StatementKind::Table(table) = &statement.kind {
                    let path = self.paths.binding(root, &table.name.text);
                    self.check_table(table, path, train);
                }
            }
        }
        self.model = None;
    }

    /// The table a name means in the model that is walked.
    pub(super) fn table_named(&self, name: &str) -> Option<usize> {
        self.tables.iter().position(|table| table.name == name && (table.model.is_none() || table.model == self.model))
    }

    fn check_table(&mut self, table: &ast::Table, path: PathId, train: &Train) {
        let name = &table.name;
        if let Some(known) = self.table_named(&name.text).map(|at| &self.tables[at]) {
            let problem = Problem::error("E0102", name.span, format!("the table `{}` is declared twice", name.text))
                .and(known.span, "declared here first");
            return self.report(problem.help("give one of them another name"));
        }
        if let Some(feature) = self.features.iter().find(|feature| feature.name == name.text) {
            let problem =
                Problem::error("E0102", name.span, format!("`{}` names a table and a feature", name.text)).and(feature.span, "the feature");
            self.poison_table(name);
            return self.report(problem.help("give one of them another name"));
        }
        self.known_settings(&table.settings, "table", &["keys", "dim", "init", "rows", "optimizer", "l2", "shared", "storage"]);
        let find = |key: &str| table.settings.entries.iter().find(|setting| setting.key.text == key);
        let (Some(keys), Some(dim)) = (find("keys"), find("dim")) else {
            let missing = if find("keys").is_none() { "keys" } else { "dim" };
            let problem = Problem::error("E0109", name.span, format!("the table `{}` does not say its `{missing}`", name.text));
            self.poison_table(name);
            return self.report(problem.help("such as `table items { keys: item, dim: 16 }`"));
        };
        let shared = find("shared").map(|setting| self.constant(&setting.value));
        let shared = match shared {
            Some(Value::Bool(shared)) => shared,
            None | Some(Value::Poison) => false,
            Some(_) => {
                self.report(
                    Problem::error("E0201", name.span, "`shared` is `true` or `false`")
                        .help("with `true` the members of a group share one table"),
                );
                false
            }
        };
        let found = self.constant(&dim.value);
        let width = match found.as_int() {
            _ if matches!(found, Value::Poison) => return self.poison_table(name),
            Some(width) if (1..=65_536).contains(&width) => width as u64,
            _ => {
                self.report(
                    Problem::error("E0402", dim.value.span, "a table's `dim` is a whole number from 1 to 65536")
                        .help("it is the width of one row"),
                );
                return self.poison_table(name);
            }
        };
        let Some((columns, split)) = self.table_keys(&keys.value, shared) else { return self.poison_table(name) };
        let reached = columns.iter().map(|&column| self.rows_reached(column)).try_fold(0, |most, rows| Some(most.max(rows?)));
        let mut update = train.tables;
        let mut rows = None;
        // A number and its scale take more room than the number.
        let mut storage = if width == 1 && train.storage == Element::I8 { Element::F32 } else { train.storage };
        let mut init = Initializer::Fixed(Init::Normal { std: 0.01 });
        for setting in &table.settings.entries {
            match setting.key.text.as_str() {
                "init" => init = self.initializer(&setting.value).unwrap_or(init),
                "rows" => rows = self.table_rows(&name.text, &setting.value, reached),
                "l2" => update.optimizer.l2 = self.number_in(&setting.value, "l2", 0.0, 1e9).unwrap_or(0.0),
                "optimizer" => {
                    if let Some(own) = self.table_optimizer(&setting.value) {
                        update = own;
                    }
                }
                "storage" => storage = self.table_storage(&setting.value, width),
                _ => {}
            }
        }
        let variable = variable_id(self.variables.len());
        let init = init.resolve(&[width]);
        let table_index = Some(self.tables.len() as u32);
        self.variables.push((
            path,
            Variable { path: String::new(), shape: vec![width], table: table_index, init, role: Role::Parameter, scored: true },
        ));
        self.tables.push(Declared {
            name: name.text.clone(),
            span: name.span,
            path,
            model: self.model,
            columns,
            split,
            dim: width,
            rows,
            variable,
            update,
            storage,
            used: false,
        });
    }

    /// A table with a mistake is known by its name, so that its uses are not reported too.
    fn poison_table(&mut self, name: &Name) {
        self.modules[0].names.entry(name.text.clone()).or_insert(Known { value: Value::Poison, span: name.span });
    }

    fn table_storage(&mut self, value: &Expr, width: u64) -> Element {
        let storage = self.storage(value).unwrap_or(Element::F32);
        if storage == Element::I8 && width == 1 {
            let problem = Problem::error("E0602", value.span, "`int8` saves nothing in a table of one number a row");
            self.report(problem.here("each row also keeps a scale of 4 bytes").help("use `f16` or `f32`"));
        }
        storage
    }

    /// The rows that are asked for, beside row 0; `reached` are those that the keys reach.
    fn table_rows(&mut self, table: &str, value: &Expr, reached: Option<u64>) -> Option<u64> {
        let found = self.constant(value);
        let rows = match found.as_int() {
            _ if matches!(found, Value::Poison) => return None,
            Some(rows) if rows >= 1 && rows < i64::from(i32::MAX) => rows as u64,
            _ => {
                self.report(
                    Problem::error("E0602", value.span, "`rows` is a whole number from 1")
                        .help("it counts the rows beside row 0, which is for unseen values"),
                );
                return None;
            }
        };
        if let Some(reached) = reached.filter(|reached| *reached != rows) {
            let message = format!("the table `{table}` has {rows} rows, and its keys reach {reached}");
            let problem = if rows < reached {
                Problem::error("E0602", value.span, message).help("leave `rows` out: there are as many as are reached")
            } else {
                Problem::warning("W0006", value.span, message).help("leave `rows` out, or widen the keys' range")
            };
            self.report(problem);
        }
        Some(rows)
    }

    fn table_keys(&mut self, keys: &Expr, shared: bool) -> Option<(Vec<u32>, bool)> {
        let items: Vec<&Expr> = match &keys.kind {
            ExprKind::List(items) => items.iter().collect(),
            _ => vec![keys],
        };
        let mut columns = Vec::new();
        let mut split = false;
        let mut sound = true;
        for item in &items {
            let ExprKind::Name(name) = &item.kind else {
                self.report(
                    Problem::error("E0401", item.span, "a key is the name of a feature")
                        .help("such as `keys: item` or `keys: [item, history]`"),
                );
                return None;
            };
            match self.features.iter().position(|feature| feature.name == *name) {
                Some(at) => {
                    let feature = self.features[at].clone();
                    sound &= feature.sound;
                    if feature.sound && !matches!(feature.kind, Kind::Id | Kind::Ids { .. }) {
                        let problem = Problem::error("E0401", item.span, format!("`{name}` has no ids")).and(feature.span, "declared here");
                        self.report(problem.help("only features of kind `id` and `ids` index a table; numbers enter a model as they are"));
                        return None;
                    }
                    split |= feature.group && !shared && items.len() == 1;
                    columns.extend(feature.columns);
                }
                None => {
                    let help = self.suggest_id_feature(name);
                    self.report(Problem::error("E0101", item.span, format!("there is no feature `{name}`")).help(help));
                    return None;
                }
            }
        }
        if !sound || columns.is_empty() {
            return None;
        }
        if !split && !self.one_numbering(&columns) {
            let problem = Problem::error("E0404", keys.span, "the keys are numbered in different ways");
            self.report(
                problem.help("keys of one table share a dictionary: give the later ones `vocab_of(first)`, or hash all to the same size"),
            );
            return None;
        }
        let part = |column: &u32| self.columns[*column as usize].kind.encoder().and_then(Encoder::part);
        if !split && columns.iter().any(|column| part(column) != part(&columns[0])) {
            let problem = Problem::error("E0404", keys.span, "the keys are different parts of numbers");
            self.report(problem.help("give quotients, remainders and whole numbers a table each"));
            return None;
        }
        Some((columns, split))
    }

    /// The rows beside row 0 that a column's ids reach, where the spec alone tells.
    fn rows_reached(&self, column: u32) -> Option<u64> {
        self.columns[column as usize].kind.encoder()?.rows_reached()
    }

    fn one_numbering(&self, columns: &[u32]) -> bool {
        let root = |column: u32| match self.columns[column as usize].kind.numbering() {
            Some(Encoder::VocabOf(other)) => *other,
            _ => column,
        };
        let buckets = |column: u32| match self.columns[column as usize].kind.numbering() {
            Some(Encoder::Hash { buckets, .. }) => Some(*buckets),
            _ => None,
        };
        let first = columns[0];
        columns.iter().all(|&column| root(first) == root(column) || buckets(first).is_some_and(|own| buckets(column) == Some(own)))
    }

    /// `table[key]`
    pub(super) fn look_up(&mut self, table: usize, key: &Expr) -> Value {
        let value = self.eval(key);
        let (feature, columns, group) = match value {
            Value::Feature(at) => {
                let feature = &mut self.features[at];
                feature.used = true;
                (Some(at), feature.columns.clone(), feature.group)
            }
            Value::Poison => return Value::Poison,
            other => {
                let text = other.describe(&self.graph);
                self.report(
                    Problem::error("E0216", key.span, "a table is looked up by a feature of ids")
                        .here(format!("this is {text}"))
                        .help("write the name of one of its keys"),
                );
                return Value::Poison;
            }
        };
        let declared = self.tables[table].clone();
        if !columns.iter().all(|column| declared.columns.contains(column)) {
            let problem = Problem::error("E0403", key.span, format!("this is no key of the table `{}`", declared.name))
                .and(declared.span, "its keys are set here");
            self.report(problem.help("add the feature to the table's `keys`"));
            return Value::Poison;
        }
        self.tables[table].used = true;
        let name = feature.map_or(String::new(), |at| self.features[at].name.clone());
        let bag = feature.is_some_and(|at| matches!(self.features[at].kind, Kind::Ids { .. }));
        let kind = if bag { InputKind::Entries { of: self.entries_of(columns[0]) } } else { InputKind::Ids };
        let weighted = columns
            .first()
            .copied()
            .filter(|column| self.columns[*column as usize].kind.split().is_some_and(|split| split.weighted.is_some()));
        let ids = self.graph.add(Op::Input(Input { name, kind, columns: columns.clone(), group }), &[]);
        let gather = Gather {
            table: TableId(table as u32),
            variable: declared.variable,
            path: self.paths.text(declared.path),
            width: declared.dim,
            columns,
        };
        let mut node = self.graph.add(Op::Gather(gather), &[ids]);
        if let Some(column) = weighted {
            node = self.weighed(node, column);
        }
        let mut axes = Vec::new();
        if let (true, Some(at)) = (group || bag, feature) {
            axes.push(self.feature_axis(at));
        }
        let width = match self.table_axes.get(&table) {
            Some(axis) => *axis,
            None => {
                let axis = self.fresh_axis();
                self.table_axes.insert(table, axis);
                axis
            }
        };
        axes.push(width);
        Value::Tensor(Tensor { node, axes })
    }

    pub(super) fn initializer(&mut self, value: &Expr) -> Option<Initializer> {
        match self.constant(value) {
            Value::Init(init) => Some(init),
            Value::Poison => None,
            other => match other.as_float() {
                Some(number) => Some(Initializer::Fixed(Init::Constant(number))),
                None => {
                    let text = other.describe(&self.graph);
                    self.report(
                        Problem::error("E0201", value.span, "this is no initializer")
                            .here(format!("this is {text}"))
                            .help("such as `zeros`, `xavier`, `normal(0.01)`, `uniform(0.05)`"),
                    );
                    None
                }
            },
        }
    }

    pub(super) fn finished_tables(&self) -> Vec<spec::Table> {
        let finish = |table: &Declared| {
            let path = self.paths.text(table.path);
            let members = if table.split {
                let member = |column: &u32| TableMember {
                    path: format!("{path}.{}", self.columns[*column as usize].name),
                    columns: vec![*column],
                    rows: table.rows,
                };
                table.columns.iter().map(member).collect()
            } else {
                vec![TableMember { path: path.clone(), columns: table.columns.clone(), rows: table.rows }]
            };
            spec::Table { path, dim: table.dim, members, variable: table.variable, update: table.update, storage: table.storage }
        };
        self.tables.iter().map(finish).collect()
    }

    /// Bags are pooled before anything else is done with them.
    pub(super) fn refuse_bag(&mut self, tensor: &Tensor, span: Span) -> bool {
        let ragged = self.graph[tensor.node].ty.dims.iter().any(|dim| matches!(dim, Dim::Entries(_)));
        if ragged {
            let text = describe_type(&self.graph, tensor.node);
            let problem =
                Problem::error("E0215", span, "the entries of a bag or a sequence have no fixed number").here(format!("this is {text}"));
            self.report(problem.help("pool them first: `mean(x, axis: …)` with the feature's name as axis"));
        }
        ragged
    }
}
