//! Calls: arguments, layers, and blocks, which are expanded where they are called.

use super::Checker;
use super::scope::Binding;
use super::value::{BlockRef, Layer, Located, Tensor, Value};
use super::words;
use crate::problem::{Problem, Severity};
use recc_syntax::ast::{self, Expr, ExprKind, Name, Span};

/// Calls nested deeper than this are refused.
const MAX_CALLS: usize = 64;

/// Evaluated arguments of a call.
pub(super) struct Args {
    pub(super) span: Span,
    pub(super) values: Vec<(Option<Name>, Located, Expr)>,
}

impl Args {
    pub(super) fn positional(&self) -> usize {
        self.values.iter().filter(|(name, ..)| name.is_none()).count()
    }

    /// The `axis:` argument, as written.
    pub(super) fn take_axis(&mut self) -> Option<Expr> {
        let at = self.values.iter().position(|(name, ..)| name.as_ref().is_some_and(|name| name.text == "axis"))?;
        Some(self.values.remove(at).2)
    }

    /// The argument of this name.
    pub(super) fn take_named(&mut self, wanted: &str) -> Option<Located> {
        let at = self.values.iter().position(|(name, ..)| name.as_ref().is_some_and(|name| name.text == wanted))?;
        Some(self.values.remove(at).1)
    }

    /// The arguments of a function that takes exactly these.
    pub(super) fn take<const N: usize>(&mut self, cx: &mut Checker<'_>, function: &str, names: [&str; N]) -> [Located; N] {
        names.map(|wanted| {
            let named = self.values.iter().position(|(name, ..)| name.as_ref().is_some_and(|name| name.text == wanted));
            let at = named.or_else(|| self.values.iter().position(|(name, ..)| name.is_none()));
            match at {
                Some(at) => self.values.remove(at).1,
                None => {
                    let problem = Problem::error("E0211", self.span, format!("`{function}` misses `{wanted}`"));
                    cx.report(problem.help(format!("`{function}` takes {}", names.join(", "))));
                    Located { value: Value::Poison, span: self.span }
                }
            }
        })
    }

    /// All arguments, which have no names.
    pub(super) fn take_all(&mut self, cx: &mut Checker<'_>, function: &str) -> Vec<Located> {
        let (named, plain): (Vec<_>, Vec<_>) = std::mem::take(&mut self.values).into_iter().partition(|(name, ..)| name.is_some());
        self.values = named;
        let plain = plain.into_iter().map(|(_, value, _)| value).collect();
        self.done(cx, function);
        plain
    }

    /// Reports what is left over.
    pub(super) fn done(&mut self, cx: &mut Checker<'_>, function: &str) {
        for (name, value, _) in std::mem::take(&mut self.values) {
            let word = name.as_ref().map_or("", |name| name.text.as_str());
            let help = match (function, word) {
                ("sum" | "mean" | "softmax", "") | ("sum" | "mean" | "softmax" | "max" | "min", "dim" | "dims" | "axes") => {
                    "an axis is named: `axis: tags`, by a feature or a dimension variable, or `axis: 0`"
                }
                ("sum" | "mean" | "max" | "min", "keepdim" | "keepdims") => "it is called `keep: true`: the result repeats along that axis",
                ("max", "") => "put one into another: `max(a, max(b, c))`",
                ("min", "") => "put one into another: `min(a, min(b, c))`",
                ("concat" | "stack", "axis" | "dim" | "dims" | "axes") => "`concat` joins along the first axis, `stack` along a new one",
                ("normal", _) => "its mean is 0: give the deviation alone, `normal(0.01)`",
                ("uniform", _) => "it is symmetric: `uniform(0.05)` draws from -0.05 to 0.05",
                _ => "remove it",
            };
            let problem = match &name {
                Some(name) => Problem::error("E0210", name.span, format!("`{function}` has no argument `{word}`")),
                None => Problem::error("E0209", value.span, format!("`{function}` takes fewer arguments")).here("one too many"),
            };
            cx.report(problem.help(help));
        }
    }
}

impl Checker<'_> {
    pub(super) fn pipe(&mut self, value: &Expr, into: &Expr, span: Span) -> Value {
        match &into.kind {
            ExprKind::Call { callee, args } => self.call(callee, args, Some(value), span),
            _ => self.call(into, &[], Some(value), span),
        }
    }

    /// What is called.
    pub(super) fn callee(&mut self, callee: &Expr) -> Value {
        match &callee.kind {
            ExprKind::Name(name) => self.name(name, callee.span, true),
            _ => self.eval(callee),
        }
    }

    pub(super) fn call(&mut self, callee: &Expr, args: &[ast::Argument], piped: Option<&Expr>, span: Span) -> Value {
        // The piped value is computed first: parameters are named in the order of the text.
        let first = piped.map(|value| Located { value: self.eval_value(value), span: value.span });
        let target = self.callee(callee);
        let mut values = Vec::new();
        if let (Some(first), Some(piped)) = (first, piped) {
            values.push((None, first, piped.clone()));
        }
        for argument in args {
            // An axis is a name in the callee's eyes, not a value.
            let axis = argument.name.as_ref().is_some_and(|name| name.text == "axis") && matches!(target, Value::Builtin(_));
            let value = if axis { Value::Nothing } else { self.eval_value(&argument.value) };
            if let Some(name) = &argument.name
                && let Some((Some(first), ..)) = values
                    .iter()
                    .find(|(other, ..): &&(Option<Name>, Located, Expr)| other.as_ref().is_some_and(|other| other.text == name.text))
            {
                let problem =
                    Problem::error("E0218", name.span, format!("`{}` is given twice", name.text)).and(first.span, "given here first");
                self.report(problem.help("keep one of them"));
                continue;
            }
            values.push((argument.name.clone(), Located { value, span: argument.value.span }, argument.value.clone()));
        }
        let args = Args { span, values };
        self.origin();
        match target {
            Value::Block(block) => self.call_block(&block, args, callee.span),
            Value::Builtin(name) => {
                let known = self.problems.len();
                let value = self.call_builtin(name, args);
                // What is left of a call with a mistake has another shape than was meant.
                let wrong = self.problems[known..].iter().any(|problem| problem.severity == Severity::Error);
                if wrong { Value::Poison } else { value }
            }
            Value::Layer(layer) => self.call_layer(&layer, args),
            Value::Poison => Value::Poison,
            other => {
                let text = other.describe(&self.graph);
                self.report(
                    Problem::error("E0213", callee.span, format!("{text} cannot be called")).help("blocks, functions and layers can"),
                );
                Value::Poison
            }
        }
    }

    fn call_layer(&mut self, layer: &Layer, mut args: Args) -> Value {
        let [input] = args.take(self, "layer", ["input"]);
        args.done(self, "layer");
        let scopes = std::mem::take(&mut self.scopes);
        let (module, path, outer) = (self.module, self.path, self.layer_call);
        self.layer_call = Some(input.span);
        self.module = layer.module;
        self.path = Some(layer.path);
        self.paths.rewind(layer.path);
        let hole = "_".to_owned();
        let mut scope: Vec<Binding> =
            layer.scope.iter().map(|(name, value)| plain_binding(name.clone(), value.clone(), input.span)).collect();
        scope.push(plain_binding(hole, input.value, input.span));
        self.scopes = vec![scope];
        let value = self.eval_value(&layer.call);
        self.scopes = scopes;
        self.module = module;
        self.path = path;
        self.layer_call = outer;
        value
    }

    /// Calls a block with the values it has parameters for, the first by place, and with what is written.
    pub(super) fn call_with(&mut self, target: &BlockRef, given: &[(&str, Tensor)], written: &[&ast::Argument], span: Span) -> Value {
        let place = |tensor: &Tensor| (Located { value: Value::Tensor(tensor.clone()), span }, Expr { kind: ExprKind::Hole, span });
        let mut values = Vec::new();
        for (at, (name, tensor)) in given.iter().enumerate() {
            let wanted = target.block.parameters.iter().any(|parameter| parameter.name.text == *name);
            if at == 0 || wanted {
                let (located, expr) = place(tensor);
                values.push(((at > 0).then(|| Name { text: (*name).to_owned(), span }), located, expr));
            }
        }
        for argument in written {
            let value = self.eval_value(&argument.value);
            values.push((argument.name.clone(), Located { value, span: argument.value.span }, argument.value.clone()));
        }
        self.call_block(target, Args { span, values }, span)
    }

    pub(super) fn call_block(&mut self, target: &BlockRef, args: Args, callee: Span) -> Value {
        let block = target.block.clone();
        let name = &block.name.text;
        let key = format!("{}.{name}", target.module);
        if self.calls.len() >= MAX_CALLS {
            self.report(
                Problem::error("E0222", callee, format!("blocks call blocks more than {MAX_CALLS} deep")).help("join some of them"),
            );
            return Value::Poison;
        }
        if self.calls.contains(&key) {
            let problem = Problem::error("E0106", callee, format!("the block `{name}` calls itself")).and(block.name.span, "declared here");
            self.report(problem.help("blocks are expanded where they are called; use a `for` loop"));
            return Value::Poison;
        }
        if !self.burn(callee) {
            return Value::Poison;
        }
        let Some(arguments) = self.match_arguments(&block, args) else { return Value::Poison };
        let known_problems = self.problems.len();
        let scopes = std::mem::take(&mut self.scopes);
        let (module, path, in_model) = (self.module, self.path, self.in_model);
        self.module = target.module;
        self.in_model = false;
        self.path = path.map(|parent| self.paths.enter(parent, name, Some(callee)));
        self.calls.push(key);
        self.scopes.push(Vec::new());
        self.origin();
        let bound = self.bind_parameters(&block, arguments, callee);
        let mut value = Value::Poison;
        if bound {
            value = self.body(&block.body);
            if let Value::Nothing = value {
                self.report(
                    Problem::error("E0221", block.name.span, format!("the block `{name}` gives no value"))
                        .help("its value is that of its last line"),
                );
                value = Value::Poison;
            }
            let located = Located { value, span: callee };
            value = self.check_result(&block, located);
        }
        self.calls.pop();
        self.in_model = in_model;
        self.scopes = scopes;
        self.module = module;
        self.path = path;
        self.origin();
        if module == 0 && target.module != 0 {
            self.blame_call(known_problems, callee);
        }
        value
    }

    /// A problem inside a library block is the caller's: it is shown at the call.
    fn blame_call(&mut self, known: usize, callee: Span) {
        for problem in self.problems.iter_mut().skip(known) {
            if problem.labels.first().is_some_and(|label| label.span.file != callee.file) {
                problem.labels.insert(0, crate::problem::Label { span: callee, text: "in this call".to_owned() });
            }
        }
    }

    /// The argument of each parameter, `None` where the default holds.
    fn match_arguments(&mut self, block: &ast::Block, args: Args) -> Option<Vec<Option<Located>>> {
        let mut slots: Vec<Option<Located>> = vec![None; block.parameters.len()];
        let mut sound = true;
        let name = &block.name.text;
        for (given, value, _) in args.values {
            let slot = match &given {
                Some(given) => block.parameters.iter().position(|parameter| parameter.name.text == given.text),
                None => slots.iter().position(Option::is_none),
            };
            match slot {
                Some(slot) if slots[slot].is_none() => slots[slot] = Some(value),
                Some(_) => {
                    let text = given.as_ref().map_or("it", |given| given.text.as_str());
                    self.report(
                        Problem::error("E0218", value.span, format!("`{name}` is given `{text}` twice"))
                            .help("an argument without a name took its place; name the others"),
                    );
                    sound = false;
                }
                None => {
                    sound = false;
                    let known: Vec<&str> = block.parameters.iter().map(|parameter| parameter.name.text.as_str()).collect();
                    let problem = match &given {
                        Some(given) => Problem::error("E0210", given.span, format!("`{name}` has no argument `{}`", given.text))
                            .help(words::argument(&given.text, known)),
                        None => Problem::error("E0209", value.span, format!("`{name}` takes {} arguments", known.len()))
                            .here("one too many")
                            .help(format!("they are {}", known.join(", "))),
                    };
                    self.report(problem.and(block.name.span, "the block"));
                }
            }
        }
        for (parameter, slot) in block.parameters.iter().zip(&slots) {
            if slot.is_none() && parameter.default.is_none() && sound {
                let problem = Problem::error("E0211", args.span, format!("`{name}` misses its argument `{}`", parameter.name.text))
                    .and(parameter.name.span, "needed here");
                self.report(problem.help(format!("give it: `{}: …`", parameter.name.text)));
                sound = false;
            }
        }
        sound.then_some(slots)
    }

    fn bind_parameters(&mut self, block: &ast::Block, arguments: Vec<Option<Located>>, callee: Span) -> bool {
        let mut sound = true;
        for (parameter, argument) in block.parameters.iter().zip(arguments) {
            let located = match (argument, &parameter.default) {
                (Some(located), _) => located,
                (None, Some(default)) => Located { value: self.eval(default), span: callee },
                (None, None) => continue,
            };
            let value =
                self.fit(&parameter.ty, located, &format!("`{}` of `{}`", parameter.name.text, block.name.text), parameter.name.span);
            let wrong = matches!(value, Value::Poison);
            sound &= !wrong;
            self.bind(&parameter.name, value, false, false);
            // The sizes that defaults of further parameters are made of are not known then.
            if wrong && matches!(&parameter.ty.kind, ast::TypeKind::Named { dims, .. } if !dims.is_empty()) {
                return false;
            }
        }
        sound
    }

    fn check_result(&mut self, block: &ast::Block, located: Located) -> Value {
        if matches!(located.value, Value::Poison) {
            return Value::Poison;
        }
        self.fit(&block.result, located, &format!("the result of `{}`", block.name.text), block.result.span)
    }
}

fn plain_binding(name: String, value: Value, span: Span) -> Binding {
    Binding { name, value, span, mutable: false, used: true, watched: false }
}

pub(super) fn has_hole(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Hole => true,
        ExprKind::Call { args, .. } => args.iter().any(|argument| has_hole(&argument.value)),
        ExprKind::Pipe { value, into } => has_hole(value) || has_hole(into),
        ExprKind::Binary(_, a, b) => has_hole(a) || has_hole(b),
        ExprKind::Unary(_, value) => has_hole(value),
        ExprKind::Index { base, indices } => has_hole(base) || indices.iter().any(has_hole),
        ExprKind::List(items) => items.iter().any(has_hole),
        _ => false,
    }
}
