//! Random specs that are right: bindings upon bindings, each an operator of the language on values that it takes.

use crate::FEATURES;
use crate::data::Draw;
use std::fmt::Write as _;

/// Most elements of a value, and most multiplications of an einsum.
const MOST: usize = 4_000;

/// Functions of each element that keep values small.
const FUNCTIONS: [&str; 9] = ["tanh", "sigmoid", "sin", "cos", "softplus", "abs", "relu", "silu", "-"];

/// A value that later ones may be made of.
#[derive(Clone, Debug)]
struct Known {
    name: String,
    /// Whose entries lead it, if any do.
    entries: Option<&'static str>,
    /// The other axes.
    shape: Vec<usize>,
}

impl Known {
    fn len(&self) -> usize {
        self.shape.iter().product()
    }

    fn is_plain(&self) -> bool {
        self.entries.is_none()
    }
}

struct Generator<'d> {
    draw: &'d mut Draw,
    known: Vec<Known>,
    text: String,
    bindings: usize,
}

/// A spec of as many bindings as are asked for.
pub fn spec(draw: &mut Draw, bindings: usize) -> String {
    let mut generator = Generator { draw, known: Vec::new(), text: String::new(), bindings: 0 };
    generator.start();
    for _ in 0..bindings {
        generator.binding();
    }
    let ends = generator.ends();
    let loss = ["bce", "focal(gamma: 2)"][generator.draw.below(2)];
    let link = ["value(", "ordinal("][generator.draw.below(2)];
    let (t, levels) = if link == "value(" { ("mse", ")") } else { ("ordinal", ", levels: 3)") };
    let mut text = format!("{FEATURES}\nmodel m {{\n{}", generator.text);
    let _ = writeln!(text, "    predict y = logit({})\n    predict t = {link}{}{levels}\n}}", ends[0], ends[1]);
    text + &format!("objective {{ y: {loss}, t: {t} }}\nmetrics {{ report: [] }}\ntrain {{ dense: sgd(lr: 0.1), tables: sgd(lr: 0.1) }}\n")
}

impl Generator<'_> {
    fn start(&mut self) {
        let dim = 1 + self.draw.below(6);
        self.line(&format!("table e {{ keys: C, dim: {dim} }}"));
        self.line(&format!("table w {{ keys: [u, h], dim: {dim} }}"));
        self.line("table g { keys: tags, dim: 3 }");
        let fixed = |name: &str, shape: &[usize]| Known { name: name.to_owned(), entries: None, shape: shape.to_vec() };
        self.known = vec![fixed("a", &[]), fixed("concat(X)", &[5]), fixed("e[C]", &[3, dim]), fixed("w[u]", &[dim])];
        self.known.push(Known { name: "g[tags]".to_owned(), entries: Some("tags"), shape: vec![3] });
        self.known.push(Known { name: "w[h]".to_owned(), entries: Some("h"), shape: vec![dim] });
    }

    fn line(&mut self, line: &str) {
        let _ = writeln!(self.text, "    {line}");
    }

    fn any(&mut self) -> Known {
        // Later ones more often, so that chains grow.
        let count = self.known.len();
        let at = self.draw.below(count).max(self.draw.below(count));
        self.known[at].clone()
    }

    fn any_of(&mut self, fits: impl Fn(&Known) -> bool) -> Option<Known> {
        let found: Vec<Known> = self.known.iter().filter(|known| fits(known)).cloned().collect();
        (!found.is_empty()).then(|| found[self.draw.below(found.len())].clone())
    }

    fn size(&mut self) -> usize {
        [1, 2, 3, 4, 5, 7, 8, 16, 17][self.draw.below(9)]
    }

    /// Adds a binding of a value; one that could have grown is brought back.
    fn bind(&mut self, value: &str, entries: Option<&'static str>, shape: Vec<usize>) {
        if shape.iter().product::<usize>() > MOST {
            return;
        }
        self.bindings += 1;
        let name = format!("v{}", self.bindings);
        let value = if self.draw.below(3) == 0 { value.to_owned() } else { format!("tanh({value})") };
        self.line(&format!("let {name} = {value}"));
        self.known.push(Known { name, entries, shape });
    }

    fn binding(&mut self) {
        let x = self.any();
        match self.draw.below(16) {
            0 => {
                let function = FUNCTIONS[self.draw.below(FUNCTIONS.len())];
                let value = if function == "-" { format!("-{}", x.name) } else { format!("{function}({})", x.name) };
                self.bind(&value, x.entries, x.shape);
            }
            1 | 2 => self.pairwise(&x),
            3 => self.layer(&x),
            4 | 5 => self.sum(&x),
            6 => self.joined(&x),
            7 => self.reshaped(&x),
            8 => self.part(&x),
            9 => self.shares(&x),
            10..=12 => self.einsum(&x),
            13 => self.steps(),
            14 => self.parameter(&x),
            _ => self.repeated(&x),
        }
    }

    fn pairwise(&mut self, x: &Known) {
        let (entries, shape) = (x.entries, x.shape.clone());
        // The other's axes are the last ones of this.
        let fits = |other: &Known| {
            let tail = shape.len().checked_sub(other.shape.len()).is_some_and(|at| shape[at..] == other.shape[..]);
            tail && (other.is_plain() || other.entries == entries && other.shape.len() == shape.len())
        };
        let Some(y) = self.any_of(fits) else { return };
        let (x, y) = (&x.name, &y.name);
        let value = match self.draw.below(6) {
            0 => format!("{x} + {y}"),
            1 => format!("{x} - {y}"),
            2 => format!("{x} * {y}"),
            3 => format!("{x} / (1.5 + square({y}))"),
            4 => format!("max({x}, {y})"),
            // No jump where both are equal but for rounding.
            _ => format!("select({x} > {y}, {x} - {y}, 0.5 * ({x} - {y}))"),
        };
        self.bind(&value, entries, shape);
    }

    fn layer(&mut self, x: &Known) {
        let Some((&inner, leading)) = x.shape.split_last() else { return };
        let out = self.size();
        let mut shape = leading.to_vec();
        shape.push(out);
        match self.draw.below(4) {
            0 if inner > 1 => self.bind(&format!("layer_norm({})", x.name), x.entries, x.shape.clone()),
            1 => self.bind(&format!("dropout({}, 0.3)", x.name), x.entries, x.shape.clone()),
            2 if x.shape.len() == 1 => self.bind(&format!("mlp({}, [{out}, 3], activation: tanh)", x.name), x.entries, vec![3]),
            _ => self.bind(&format!("linear({}, {out})", x.name), x.entries, shape),
        }
    }

    fn sum(&mut self, x: &Known) {
        let function = ["sum", "mean", "max", "min"][self.draw.below(4)];
        let keep = self.draw.below(3) == 0;
        let kept = if keep { ", keep: true" } else { "" };
        match (x.entries, x.shape.is_empty()) {
            (Some(of), _) if self.draw.below(2) == 0 => {
                let entries = if keep { Some(of) } else { None };
                self.bind(&format!("{function}({}, axis: {of}{kept})", x.name), entries, x.shape.clone());
            }
            (_, true) => {}
            (entries, false) => {
                let at = self.draw.below(x.shape.len());
                let axis = at + usize::from(entries.is_some());
                let mut shape = x.shape.clone();
                if !keep {
                    shape.remove(at);
                }
                self.bind(&format!("{function}({}, axis: {axis}{kept})", x.name), entries, shape);
            }
        }
    }

    fn joined(&mut self, x: &Known) {
        let shape = x.shape.clone();
        if !x.is_plain() || shape.is_empty() {
            return;
        }
        let Some(y) = self.any_of(|y| y.is_plain() && !y.shape.is_empty() && y.shape[1..] == shape[1..]) else { return };
        if y.shape == shape && self.draw.below(2) == 0 && shape.len() < 3 {
            return self.bind(&format!("stack({}, {})", x.name, y.name), None, [&[2], &shape[..]].concat());
        }
        let mut joined = shape.clone();
        joined[0] += y.shape[0];
        self.bind(&format!("concat({}, {})", x.name, y.name), None, joined);
    }

    fn reshaped(&mut self, x: &Known) {
        if !x.is_plain() || x.shape.is_empty() {
            return;
        }
        let len = x.len();
        let divisors: Vec<usize> = (1..=len).filter(|size| len.is_multiple_of(*size)).collect();
        let first = divisors[self.draw.below(divisors.len())];
        match self.draw.below(3) {
            0 => self.bind(&format!("flatten({})", x.name), None, vec![len]),
            _ => self.bind(&format!("reshape({}, [{first}, {}])", x.name, len / first), None, vec![first, len / first]),
        }
    }

    fn part(&mut self, x: &Known) {
        if !x.is_plain() || x.shape.is_empty() {
            return;
        }
        let (first, rest) = (x.shape[0], x.shape[1..].to_vec());
        let at = self.draw.below(first);
        if self.draw.below(2) == 0 {
            return self.bind(&format!("{}[{at}]", self.named(x)), None, rest);
        }
        let end = at + 1 + self.draw.below(first - at);
        self.bind(&format!("{}[{at}..{end}]", self.named(x)), None, [&[end - at], &rest[..]].concat());
    }

    /// A value that can be indexed: by its name, or in brackets.
    fn named(&self, x: &Known) -> String {
        if x.name.starts_with('v') { x.name.clone() } else { format!("({})", x.name) }
    }

    fn shares(&mut self, x: &Known) {
        if x.shape.is_empty() {
            return;
        }
        let value = match (x.entries, self.draw.below(2)) {
            (Some(of), 0) => format!("softmax({}, axis: {of})", x.name),
            (None, 0) if x.shape.len() > 1 => format!("softmax({}, axis: 0)", x.name),
            _ => format!("softmax({})", x.name),
        };
        self.bind(&value, x.entries, x.shape.clone());
    }

    fn einsum(&mut self, x: &Known) {
        let Some(y) = self.any_of(Known::is_plain) else { return };
        if x.shape.is_empty() || y.shape.is_empty() {
            return;
        }
        let letters = ["i", "j", "k", "l", "m", "n", "o", "p"];
        let mut sizes: Vec<(&str, usize)> = x.shape.iter().enumerate().map(|(at, size)| (letters[at], *size)).collect();
        let own: Vec<&str> = sizes.iter().map(|(name, _)| *name).collect();
        let mut others: Vec<&str> = Vec::new();
        for size in &y.shape {
            let same = sizes.iter().find(|(name, known)| known == size && own.contains(name) && !others.contains(name));
            let name = match same {
                Some((name, _)) if self.draw.below(3) > 0 => *name,
                _ => {
                    let name = letters[sizes.len()];
                    sizes.push((name, *size));
                    name
                }
            };
            others.push(name);
        }
        if sizes.iter().map(|(_, size)| size).product::<usize>() > MOST {
            return;
        }
        let mut result: Vec<(&str, usize)> = sizes.iter().copied().filter(|_| self.draw.below(3) > 0).collect();
        for at in (1..result.len()).rev() {
            result.swap(at, self.draw.below(at + 1));
        }
        let names = |list: &[(&str, usize)]| list.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ");
        let lead = if x.entries.is_some() { "e " } else { "" };
        let text = format!("{lead}{}, {} -> {lead}{}", own.join(" "), others.join(" "), names(&result));
        let shape: Vec<usize> = result.iter().map(|(_, size)| *size).collect();
        self.bind(&format!("einsum(\"{}\", {}, {})", text.trim(), x.name, y.name), x.entries, shape);
    }

    /// Something that only steps have.
    fn steps(&mut self) {
        let Some(x) = self.any_of(|x| x.entries == Some("h") && !x.shape.is_empty()) else { return };
        match self.draw.below(4) {
            0 => self.bind(&format!("last({})", x.name), None, x.shape.clone()),
            1 => self.bind(&format!("shift({})", x.name), x.entries, x.shape.clone()),
            2 => self.bind(&format!("shift({}, back: true)", x.name), x.entries, x.shape.clone()),
            _ if x.shape.len() == 1 => {
                let scores = format!("softmax(einsum(\"i d, j d -> i j\", {0}, {0}))", x.name);
                self.bind(&format!("einsum(\"i j, j d -> i d\", {scores}, {})", x.name), x.entries, x.shape.clone());
            }
            _ => {}
        }
    }

    fn parameter(&mut self, x: &Known) {
        if x.shape.is_empty() {
            return;
        }
        self.bindings += 1;
        let name = format!("p{}", self.bindings);
        let sizes: Vec<String> = x.shape.iter().map(usize::to_string).collect();
        self.line(&format!("param {name}: f32[{}] = normal(0.5)", sizes.join(", ")));
        self.bind(&format!("{} * {name}", x.name), x.entries, x.shape.clone());
    }

    fn repeated(&mut self, x: &Known) {
        let Some(&width) = x.shape.last() else { return };
        self.bindings += 1;
        let name = format!("v{}", self.bindings);
        self.line(&format!("var {name} = {}", x.name));
        self.line(&format!("for k in 0..2 {{ {name} = tanh(linear({name}, {width}) + {name}) }}"));
        self.known.push(Known { name, entries: x.entries, shape: x.shape.clone() });
    }

    /// Two numbers made of what nobody has read yet, so that everything counts.
    fn ends(&mut self) -> [String; 2] {
        let body = self.text.clone();
        let is_read =
            |known: &Known| body.matches(&format!("{})", known.name)).count() + body.matches(&format!("{},", known.name)).count() > 0;
        let open: Vec<Known> = self.known.iter().filter(|known| known.name.starts_with('v') && !is_read(known)).cloned().collect();
        let mut ends = [vec!["a".to_owned()], vec!["sum(X)".to_owned()]];
        for (at, known) in open.iter().enumerate() {
            let own = match (known.entries, known.shape.is_empty()) {
                (None, true) => known.name.clone(),
                (None, false) => format!("mean({})", known.name),
                (Some(of), true) => format!("mean({}, axis: {of})", known.name),
                (Some(of), false) => format!("mean(mean({}, axis: {of}))", known.name),
            };
            ends[at % 2].push(own);
        }
        ends.map(|parts| parts.join(" + "))
    }
}
