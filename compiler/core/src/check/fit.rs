//! Values against declared types: dimension variables are bound, axes named.

use super::Checker;
use super::value::{Located, Tensor, Value, describe_type};
use crate::graph::{DType, Dim};
use crate::ops::{Op, Reshape};
use crate::problem::{Problem, nearest, suggest};
use recc_syntax::ast::{self, Expr, ExprKind, Name, Span};

impl Checker<'_> {
    /// A value as a declared type has it: dimension variables are bound, axes named.
    pub(super) fn fit(&mut self, ty: &ast::Type, located: Located, what: &str, declared: Span) -> Value {
        if matches!(located.value, Value::Poison) {
            return Value::Poison;
        }
        match &ty.kind {
            ast::TypeKind::List { element, len } => self.fit_list(element, len, located, what, declared),
            ast::TypeKind::Named { name, dims } => match name.text.as_str() {
                // What may be left out has `none` as its default.
                "f32" | "time" | "id" | "table" if matches!(&located.value, Value::Text(text) if text == "none") => located.value,
                "f32" => self.fit_tensor(dims, located, what, declared),
                "time" => self.fit_times(dims, located, what, declared),
                other if !dims.is_empty() => {
                    let problem = Problem::error("E0201", ty.span, format!("`{other}` has no shape"));
                    self.report(problem.help(format!("write `{other}`, or `[{other}; n]` for a list of n")));
                    Value::Poison
                }
                other => self.fit_constant(other, name, located, what, declared),
            },
        }
    }

    fn mismatch(&mut self, ty: &str, wanted: &str, located: &Located, what: &str, declared: Span) -> Value {
        let text = located.value.describe(&self.graph);
        let problem = Problem::error("E0201", located.span, format!("{what} is {wanted}"))
            .here(format!("this is {text}"))
            .and(declared, "declared here");
        let help = match &located.value {
            Value::Text(word) if ty == "block" && word == "none" => "what changes nothing is `identity`".to_owned(),
            Value::Text(word) if ty == "block" => match self.callable_like(word) {
                Some(name) => format!("write its name without quotes: `{name}`"),
                None => "give a block, such as `relu`".to_owned(),
            },
            Value::Int(_) | Value::Float(_) | Value::Axis(..) if ty == "list" => "put it in brackets, such as `[64]`".to_owned(),
            found => found.as_a_number(ty == "int").unwrap_or_else(|| format!("give {wanted}")),
        };
        self.report(problem.help(help));
        Value::Poison
    }

    /// The block or function that a word names, or nearly.
    fn callable_like(&self, word: &str) -> Option<String> {
        let own = self.modules.iter().flat_map(|module| module.names.iter()).filter(|(_, known)| known.value.is_callable());
        let known: Vec<String> = own.map(|(name, _)| name.clone()).chain(super::builtins::names().map(str::to_owned)).collect();
        nearest(word, known.iter().map(String::as_str)).map(str::to_owned)
    }

    fn fit_constant(&mut self, ty: &str, name: &Name, located: Located, what: &str, declared: Span) -> Value {
        let fits = match ty {
            "int" => {
                return located
                    .value
                    .as_int()
                    .map(Value::Int)
                    .unwrap_or_else(|| self.mismatch("int", "a whole number", &located, what, declared));
            }
            "float" => {
                return located
                    .value
                    .as_float()
                    .map(Value::Float)
                    .unwrap_or_else(|| self.mismatch("float", "a number", &located, what, declared));
            }
            "bool" => matches!(located.value, Value::Bool(_)),
            "option" => matches!(located.value, Value::Bool(_) | Value::Text(_) | Value::Int(_) | Value::Float(_)),
            "block" => located.value.is_callable(),
            "init" => {
                if let Some(number) = located.value.as_float() {
                    return Value::Init(super::value::Initializer::Fixed(recc_abi::Init::Constant(number)));
                }
                matches!(located.value, Value::Init(_))
            }
            "id" => matches!(located.value, Value::Feature(_)),
            "table" => matches!(located.value, Value::Table(_)),
            other => {
                self.report(
                    Problem::error("E0101", name.span, format!("there is no type `{other}`"))
                        .help(suggest(other, ["f32", "time", "id", "table", "int", "float", "bool", "option", "block", "init"])),
                );
                return Value::Poison;
            }
        };
        let wanted = match ty {
            "bool" => "`true` or `false`",
            "option" => "a number or a word",
            "block" => "a block",
            "id" => "a feature of ids",
            "table" => "a table",
            _ => "an initializer",
        };
        if fits { located.value } else { self.mismatch(ty, wanted, &located, what, declared) }
    }

    fn fit_list(&mut self, element: &ast::Type, len: &Expr, located: Located, what: &str, declared: Span) -> Value {
        let Value::List(items) = &located.value else { return self.mismatch("list", "a list", &located, what, declared) };
        let count = items.len() as i64;
        if let ExprKind::Name(name) = &len.kind
            && !self.scopes.iter().flatten().any(|binding| binding.name == *name)
        {
            self.bind(&Name { text: name.clone(), span: len.span }, Value::Int(count), false, false);
        } else if let Some(wanted) = self.eval(len).as_int()
            && wanted != count
        {
            return self.mismatch("list", &format!("a list of {wanted}"), &located, what, declared);
        }
        let fitted: Vec<Value> = items
            .clone()
            .into_iter()
            .map(|value| self.fit(element, Located { value, span: located.span }, &format!("an element of {what}"), declared))
            .collect();
        if fitted.iter().any(|value| matches!(value, Value::Poison)) { Value::Poison } else { Value::List(fitted) }
    }

    fn fit_times(&mut self, dims: &[ast::Dim], located: Located, what: &str, declared: Span) -> Value {
        match &located.value {
            Value::Tensor(tensor) if self.graph[tensor.node].ty.dtype == DType::I32 => {
                let tensor = tensor.clone();
                self.fit_shape(dims, tensor, &located, what, declared)
            }
            _ => self.mismatch("time", "times", &located, what, declared),
        }
    }

    fn fit_tensor(&mut self, dims: &[ast::Dim], located: Located, what: &str, declared: Span) -> Value {
        let Some(tensor) = self.tensor(&located) else { return Value::Poison };
        let own = self.graph[tensor.node].ty.dims.clone();
        if dims.is_empty() && own == [Dim::Fixed(1)] {
            let node = self.graph.add(Op::Reshape(Reshape { dims: vec![] }), &[tensor.node]);
            return Value::Tensor(Tensor { node, axes: Vec::new() });
        }
        self.fit_shape(dims, tensor, &located, what, declared)
    }

    fn fit_shape(&mut self, dims: &[ast::Dim], mut tensor: Tensor, located: &Located, what: &str, declared: Span) -> Value {
        let own = self.graph[tensor.node].ty.dims.clone();
        let rest = dims.iter().position(|dim| matches!(dim, ast::Dim::Rest(_)));
        let named = dims.len() - usize::from(rest.is_some());
        let fits = if rest.is_some() { own.len() >= named } else { own.len() == named };
        if !fits || rest.is_some_and(|at| at != 0) {
            let axes = if named == 1 { "one axis".to_owned() } else { format!("{named} axes") };
            let wanted = if rest.is_some() {
                format!("a tensor of at least {axes}")
            } else if named == 0 {
                "one number".to_owned()
            } else {
                format!("a tensor of {axes}")
            };
            return self.mismatch("f32", &wanted, located, what, declared);
        }
        let shift = own.len() - named;
        for (at, dim) in dims.iter().filter(|dim| !matches!(dim, ast::Dim::Rest(_))).enumerate() {
            if !self.fit_axis(dim, &mut tensor, at + shift, located, what, declared) {
                return Value::Poison;
            }
        }
        Value::Tensor(tensor)
    }

    fn fit_axis(&mut self, dim: &ast::Dim, tensor: &mut Tensor, at: usize, located: &Located, what: &str, declared: Span) -> bool {
        let own = self.graph[tensor.node].ty.dims[at];
        let (name, span) = match dim {
            ast::Dim::Rest(_) => return true,
            ast::Dim::Bag(name) => (name.text.clone(), name.span),
            ast::Dim::Sequence(name) => {
                if let Dim::Entries(column) = own
                    && !self.is_ordered(column)
                {
                    let text = describe_type(&self.graph, tensor.node);
                    let problem = Problem::error("E0226", located.span, format!("{what} is a sequence: its steps have an order"));
                    self.report(
                        problem
                            .here(format!("this is {text}, of a bag"))
                            .and(declared, "declared here")
                            .help("declare the feature as `seq`"),
                    );
                    return false;
                }
                if let Some(Value::Axis(0, known)) = self.bound_here(&name.text) {
                    let pair = self.pair_axis(known);
                    if tensor.axes[at] == known || tensor.axes[at] == pair {
                        return true;
                    }
                    let text = describe_type(&self.graph, tensor.node);
                    let problem =
                        Problem::error("E0206", located.span, format!("{what} is not of the sequence that `~{}` is here", name.text));
                    self.report(
                        problem.here(format!("this is {text}")).and(declared, "declared here").help("axes of one name are of one sequence"),
                    );
                    return false;
                }
                (name.text.clone(), name.span)
            }
            ast::Dim::Size(expr) => match &expr.kind {
                ExprKind::Name(name) if self.unbound(name) => (name.clone(), expr.span),
                _ => return self.fit_size(expr, tensor, at, located, what, declared),
            },
        };
        match (dim, own) {
            (ast::Dim::Size(_), Dim::Entries(_)) => {
                self.refuse_bag(&tensor.clone(), located.span);
                false
            }
            (ast::Dim::Bag(_) | ast::Dim::Sequence(_), Dim::Fixed(_)) => {
                let text = describe_type(&self.graph, tensor.node);
                let problem =
                    Problem::error("E0226", located.span, format!("axis {at} of {what} has a length of its own for each example"));
                let problem = problem.here(format!("this is {text}")).and(declared, "declared here");
                self.report(problem.help("give it what is looked up by a bag or a sequence, such as `items[history]`"));
                false
            }
            (_, Dim::Fixed(size)) => {
                self.bind(&Name { text: name, span }, Value::Axis(size, tensor.axes[at]), false, false);
                true
            }
            (_, Dim::Entries(_)) => {
                self.bind(&Name { text: name, span }, Value::Axis(0, tensor.axes[at]), false, false);
                true
            }
        }
    }

    /// What a dimension variable of the call is bound to.
    fn bound_here(&self, name: &str) -> Option<Value> {
        self.scopes.iter().flatten().rev().find(|binding| binding.name == name).map(|binding| binding.value.clone())
    }

    fn unbound(&self, name: &str) -> bool {
        !self.scopes.iter().flatten().any(|binding| binding.name == name) && !self.modules[self.module].names.contains_key(name)
    }

    /// An axis whose size is known already.
    fn fit_size(&mut self, expr: &Expr, tensor: &mut Tensor, at: usize, located: &Located, what: &str, declared: Span) -> bool {
        let value = self.eval(expr);
        let Some(wanted) = value.as_int() else {
            if !matches!(value, Value::Poison) {
                let text = value.describe(&self.graph);
                self.report(
                    Problem::error("E0214", expr.span, "a size is a whole number")
                        .here(format!("this is {text}"))
                        .help("write a number or a dimension variable"),
                );
            }
            return false;
        };
        let own = self.graph[tensor.node].ty.dims[at];
        if own != Dim::Fixed(wanted as u64) {
            let text = describe_type(&self.graph, tensor.node);
            let size = recc_syntax::print_expr(expr);
            let problem = Problem::error("E0206", located.span, format!("axis {at} of {what} is `{size}`, which is {wanted} here"))
                .here(format!("this is {text}"))
                .and(declared, "declared here");
            self.report(problem.help("sizes of one name are equal"));
            return false;
        }
        if let Value::Axis(_, id) = value {
            tensor.axes[at] = id;
        }
        true
    }
}
