//! The tree back to text, in one style. Parsing the text gives an equal tree; comments are not part of it.

use crate::ast::*;
use std::fmt::Write as _;

/// A file as text.
pub fn print_file(file: &File) -> String {
    let mut printer = Printer { out: String::new(), depth: 0 };
    for (index, item) in file.items.iter().enumerate() {
        if index > 0 && !(is_use(item) && is_use(&file.items[index - 1])) {
            printer.out.push('\n');
        }
        printer.item(item);
    }
    printer.out
}

/// An expression as text, on one line unless it holds a body.
pub fn print_expr(expr: &Expr) -> String {
    let mut printer = Printer { out: String::new(), depth: 0 };
    printer.expr(expr, 0);
    printer.out
}

fn is_use(item: &Item) -> bool {
    matches!(item.kind, ItemKind::Use(_))
}

struct Printer {
    out: String,
    depth: usize,
}

/// Binding strength of each form: a weaker operand gets parentheses.
fn strength(kind: &ExprKind) -> u8 {
    match kind {
        ExprKind::Pipe { .. } => 1,
        ExprKind::Binary(BinaryOp::Or, ..) => 2,
        ExprKind::Binary(BinaryOp::And, ..) => 3,
        ExprKind::Unary(UnaryOp::Not, _) => 4,
        ExprKind::Binary(BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge | BinaryOp::In, ..) => 5,
        ExprKind::Range { .. } => 6,
        ExprKind::Binary(BinaryOp::Add | BinaryOp::Sub, ..) => 7,
        ExprKind::Binary(BinaryOp::Mul | BinaryOp::Div | BinaryOp::MatMul, ..) => 8,
        ExprKind::Unary(UnaryOp::Neg, _) => 9,
        _ => 10,
    }
}

impl Printer {
    fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "{:indent$}{text}", "", indent = self.depth * 4);
    }

    fn start(&mut self, text: &str) {
        let _ = write!(self.out, "{:indent$}{text}", "", indent = self.depth * 4);
    }

    fn item(&mut self, item: &Item) {
        for doc in &item.docs {
            self.line(format!("/// {doc}").trim_end());
        }
        match &item.kind {
            ItemKind::Use(Use::Module { path, names }) => {
                let path = path.iter().map(|name| name.text.as_str()).collect::<Vec<_>>().join(".");
                let names = names.iter().map(|name| name.text.as_str()).collect::<Vec<_>>();
                match names.as_slice() {
                    [name] if path.is_empty() => self.line(&format!("use {name}")),
                    [name] => self.line(&format!("use {path}.{name}")),
                    names => self.line(&format!("use {path}.{{{}}}", names.join(", "))),
                }
            }
            ItemKind::Use(Use::File { path, alias, .. }) => self.line(&format!("use {} as {}", quoted(path), alias.text)),
            ItemKind::Const { name, value } => self.with_value(&format!("const {} = ", name.text), value),
            ItemKind::Data(settings) => self.settings("data", settings),
            ItemKind::Features(features) => {
                self.line("features {");
                self.depth += 1;
                features.iter().for_each(|feature| self.feature(feature));
                self.depth -= 1;
                self.line("}");
            }
            ItemKind::Table(table) => self.settings(&format!("table {}", table.name.text), &table.settings),
            ItemKind::Block(block) => self.block(block),
            ItemKind::Model { name, body } => {
                self.start(&format!("model {} ", name.text));
                self.body(body);
                self.out.push('\n');
            }
            ItemKind::Ensemble { name, members, settings } => {
                self.settings(&format!("ensemble {} of {}", name.text, print_expr(members)), settings);
            }
            ItemKind::Cohort { name, value } => self.with_value(&format!("cohort {} = ", name.text), value),
            ItemKind::Auxiliary { name, settings } => self.settings(&format!("auxiliary {}", name.text), settings),
            ItemKind::Objective(settings) => self.settings("objective", settings),
            ItemKind::Train(settings) => self.settings("train", settings),
            ItemKind::Metrics(settings) => self.settings("metrics", settings),
        }
    }

    fn with_value(&mut self, head: &str, value: &Expr) {
        self.start(head);
        self.expr(value, 0);
        self.out.push('\n');
    }

    fn settings(&mut self, head: &str, settings: &Settings) {
        self.line(&format!("{head} {{"));
        self.depth += 1;
        for setting in &settings.entries {
            self.with_value(&format!("{}: ", setting.key.text), &setting.value);
        }
        self.depth -= 1;
        self.line("}");
    }

    fn feature(&mut self, feature: &Feature) {
        let mut head = format!("{} {}", feature.kind.text, feature.name.text);
        if let Some(group) = &feature.group {
            let members: Vec<String> = group.members.iter().map(print_expr).collect();
            let _ = write!(head, "[{}]", members.join(", "));
        }
        if let Some(ty) = &feature.ty {
            let _ = write!(head, ": {}", ty.text);
        }
        match &feature.value {
            Some(value) => self.with_value(&format!("{head} = "), value),
            None => self.line(&head),
        }
    }

    fn block(&mut self, block: &Block) {
        let parameters: Vec<String> = block.parameters.iter().map(parameter).collect();
        self.start(&format!("block {}({}) -> {} ", block.name.text, parameters.join(", "), print_type(&block.result)));
        self.body(&block.body);
        self.out.push('\n');
    }

    fn body(&mut self, body: &Body) {
        if body.statements.is_empty() {
            self.out.push_str("{}");
            return;
        }
        self.out.push_str("{\n");
        self.depth += 1;
        body.statements.iter().for_each(|statement| self.statement(statement));
        self.depth -= 1;
        self.start("}");
    }

    fn statement(&mut self, statement: &Statement) {
        for attribute in &statement.attributes {
            self.line(&format!("@{}({})", attribute.name.text, quoted(&attribute.value)));
        }
        match &statement.kind {
            StatementKind::Let(name, value) => self.with_value(&format!("let {} = ", name.text), value),
            StatementKind::Var(name, value) => self.with_value(&format!("var {} = ", name.text), value),
            StatementKind::Assign(name, value) => self.with_value(&format!("{} = ", name.text), value),
            StatementKind::Update(name, value) => self.with_value(&format!("update {} = ", name.text), value),
            StatementKind::Layer(name, value) => self.with_value(&format!("layer {} = ", name.text), value),
            StatementKind::Predict(name, value) => self.with_value(&format!("predict {} = ", name.text), value),
            StatementKind::Param(name, ty, value) => self.declared("param", name, ty, value.as_ref()),
            StatementKind::State(name, ty, value) => self.declared("state", name, ty, value.as_ref()),
            StatementKind::Expose(name, Some(value)) => self.with_value(&format!("expose {} = ", name.text), value),
            StatementKind::Expose(name, None) => self.line(&format!("expose {}", name.text)),
            StatementKind::Table(table) => self.settings(&format!("table {}", table.name.text), &table.settings),
            StatementKind::For(name, over, body) => {
                self.start(&format!("for {} in {} ", name.text, print_expr(over)));
                self.body(body);
                self.out.push('\n');
            }
            StatementKind::Expr(value) => self.with_value("", value),
        }
    }

    fn declared(&mut self, word: &str, name: &Name, ty: &Type, value: Option<&Expr>) {
        let head = format!("{word} {}: {}", name.text, print_type(ty));
        match value {
            Some(value) => self.with_value(&format!("{head} = "), value),
            None => self.line(&head),
        }
    }

    fn expr(&mut self, expr: &Expr, outer: u8) {
        let own = strength(&expr.kind);
        if own < outer {
            self.out.push('(');
            self.bare(expr, own);
            self.out.push(')');
        } else {
            self.bare(expr, own);
        }
    }

    fn list<'a>(&mut self, items: impl Iterator<Item = &'a Expr>) {
        for (index, item) in items.enumerate() {
            if index > 0 {
                self.out.push_str(", ");
            }
            self.expr(item, 0);
        }
    }

    fn bare(&mut self, expr: &Expr, own: u8) {
        match &expr.kind {
            ExprKind::Int(value) => self.out.push_str(&value.to_string()),
            ExprKind::Float(value) => self.out.push_str(&format!("{value:?}")),
            ExprKind::Text(text) => self.out.push_str(&quoted(text)),
            ExprKind::Bool(value) => self.out.push_str(if *value { "true" } else { "false" }),
            ExprKind::Name(name) => self.out.push_str(name),
            ExprKind::Hole => self.out.push('_'),
            ExprKind::List(items) => {
                self.out.push('[');
                self.list(items.iter());
                self.out.push(']');
            }
            ExprKind::Comprehension { body, var, over } => {
                self.out.push('[');
                self.expr(body, 0);
                self.out.push_str(&format!(" for {} in ", var.text));
                self.expr(over, 0);
                self.out.push(']');
            }
            ExprKind::Call { callee, args } => self.call(callee, args),
            ExprKind::Pipe { value, into } => {
                self.expr(value, own);
                self.out.push_str(" |> ");
                self.expr(into, own + 1);
            }
            ExprKind::Index { base, indices } => {
                self.expr(base, 10);
                self.out.push('[');
                self.list(indices.iter());
                self.out.push(']');
            }
            ExprKind::Field { base, name } => {
                self.expr(base, 10);
                self.out.push('.');
                self.out.push_str(&name.text);
            }
            ExprKind::Unary(op, value) => {
                self.out.push_str(if *op == UnaryOp::Neg { "-" } else { "not " });
                self.expr(value, own);
            }
            ExprKind::Binary(op, left, right) => {
                self.expr(left, own);
                self.out.push_str(&format!(" {} ", op.symbol()));
                self.expr(right, own + 1);
            }
            ExprKind::Range { start, end, inclusive } => {
                self.expr(start, own + 1);
                self.out.push_str(if *inclusive { "..=" } else { ".." });
                self.expr(end, own + 1);
            }
            ExprKind::If { condition, then, otherwise } => {
                self.out.push_str("if ");
                self.expr(condition, 0);
                self.out.push(' ');
                self.body(then);
                if let Some(otherwise) = otherwise {
                    self.out.push_str(" else ");
                    self.body(otherwise);
                }
            }
        }
    }

    fn call(&mut self, callee: &Expr, args: &[Argument]) {
        self.expr(callee, 10);
        self.out.push('(');
        for (index, arg) in args.iter().enumerate() {
            if index > 0 {
                self.out.push_str(", ");
            }
            if let Some(name) = &arg.name {
                self.out.push_str(&format!("{}: ", name.text));
            }
            self.expr(&arg.value, 0);
        }
        self.out.push(')');
    }
}

fn parameter(parameter: &Parameter) -> String {
    let default = parameter.default.as_ref().map(|value| format!(" = {}", print_expr(value))).unwrap_or_default();
    format!("{}: {}{default}", parameter.name.text, print_type(&parameter.ty))
}

fn print_type(ty: &Type) -> String {
    match &ty.kind {
        TypeKind::List { element, len } => format!("[{}; {}]", print_type(element), print_expr(len)),
        TypeKind::Named { name, dims } if dims.is_empty() => name.text.clone(),
        TypeKind::Named { name, dims } => {
            let dims: Vec<String> = dims
                .iter()
                .map(|dim| match dim {
                    Dim::Rest(_) => "..".to_owned(),
                    Dim::Sequence(name) => format!("~{}", name.text),
                    Dim::Bag(name) => format!("*{}", name.text),
                    Dim::Size(expr) => print_expr(expr),
                })
                .collect();
            format!("{}[{}]", name.text, dims.join(", "))
        }
    }
}

/// A text as it is written in a spec.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\t', "\\t"))
}
