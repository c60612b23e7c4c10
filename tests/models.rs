//! Every operator, loss and optimizer, in small models: the compiled code against the reference, and the gradients of the
//! reference against central differences.

use recc_abi::{Role, VariableId};
use recc_codegen::Level;
use recc_core::graph::reference::{Data, evaluate};
use recc_core::graph::{Program, TableId};
use recc_tests::FEATURES;
use recc_tests::agree::{On, difference, is_close, updated};
use recc_tests::data::{draw, lookups_of_bags};
use recc_tests::native::{as_read, load, run};
use std::collections::BTreeMap;

/// Models, one per behaviour: name, body, and whether its predictions are smooth enough for central differences.
const MODELS: &[(&str, &str)] = &[
    ("one number", "param w: f32 = ones\n predict y = logit(w * a)"),
    ("a row of weights", "param w: f32[5] = ones\n predict y = logit(sum(w * X))"),
    (
        "elementwise",
        "param w: f32[5] = ones\n let z = tanh(w * X) + sigmoid(X - w) * exp(w) - softplus(w * X) / (2 + square(w))\n predict y = logit(sum(z))",
    ),
    (
        "logarithms and roots",
        "param w: f32[5] = ones\n let p = square(w) + 0.3\n predict y = logit(sum(log(p) * X + log1p(p) + sqrt(p)) + abs(a))",
    ),
    (
        "angles",
        "param w: f32[5] = ones\n let z = sin(w * X) * cos(3 * w + X) + atan2(w * X, X - 0.3 * w) + atan2(0.2 + square(X), w)\n predict y = logit(sum(z))",
    ),
    (
        "choices",
        "param w: f32[5] = ones\n let z = select(X > 0.1, w * X, -w) + max(w, X) + min(w, 0.2 * X) + relu(w + X)\n predict y = logit(sum(z))",
    ),
    ("logic", "param w: f32[5] = ones\n let z = select(X > 0 and not (X > 0.5) or X <= -0.5, w, 2 * w)\n predict y = logit(sum(z * X))"),
    (
        "layers of a loop",
        "var h = X\n for w in [4, 3] {\n layer l = linear(_, w)\n param b: f32[w] = ones\n h = tanh(l(h)) + b * l(h)\n }\n predict y = logit(sum(h))",
    ),
    (
        "layers among other bindings",
        "let x = tanh(linear(X, 5))\n layer tower = linear(_, 5)\n let z = tower(x) + tower(X)\n predict y = logit(sum(tanh(z)) + sum(linear(z, 3)))",
    ),
    ("a pair of each row", "param pairs: f32[7, 2] = normal(0.5)\n predict y = logit(sum(pick(pairs, a)) + sum(X))"),
    ("linear to one", "predict y = logit(linear(X, 1))"),
    ("linear to many", "predict y = logit(sum(linear(X, 9)))"),
    ("from one column", "let one = concat(a)\n predict y = logit(sum(tanh(linear(one, 6))))"),
    ("mlp", "predict y = logit(mlp(X, [7, 4]) |> linear(1))"),
    ("mlp of thin layers", "predict y = logit(mlp(X, [1, 3], activation: tanh) |> linear(1))"),
    ("dropout", "predict y = logit(mlp(X, [8], activation: tanh, dropout: 0.4) |> linear(1))"),
    ("batch norm", "predict y = logit(mlp(X, [6, 5], activation: tanh, norm: batch_norm) |> linear(1))"),
    ("layer norm", "predict y = logit(linear(X, 8) |> layer_norm |> linear(1))"),
    ("group look-up", "table e { keys: C, dim: 4 }\n predict y = logit(sum(square(e[C])))"),
    ("look-up of one", "table e { keys: u, dim: 1 }\n predict y = logit(e[u])"),
    (
        "look-up twice",
        "table e { keys: u, dim: 3 }\n table f { keys: u, dim: 3 }\n predict y = logit(sum(e[u] * tanh(e[u]) + e[u] * f[u]))",
    ),
    ("one member of a group", "table e { keys: C, dim: 4 }\n predict y = logit(sum(square(e[C])[1]))"),
    ("fm", "table e { keys: C, dim: 5 }\n predict y = logit(fm(e[C]))"),
    ("bag sum", "table e { keys: tags, dim: 4 }\n predict y = logit(sum(tanh(sum(e[tags], axis: tags))))"),
    ("bag mean", "table e { keys: tags, dim: 4 }\n predict y = logit(sum(square(mean(e[tags], axis: tags))) + a)"),
    ("bag of squares", "table e { keys: tags, dim: 3 }\n predict y = logit(sum(sum(square(e[tags]), axis: tags)))"),
    (
        "flatten and concat",
        "table e { keys: C, dim: 4 }\n predict y = logit(concat(flatten(e[C]), X, a) |> linear(6) |> tanh |> linear(1))",
    ),
    (
        "stack",
        "table e { keys: u, dim: 5 }\n let s = stack(e[u], X, 2 * X)\n predict y = logit(sum(square(sum(s, axis: 0))) + sum(s[1..3]))",
    ),
    ("parts", "table e { keys: C, dim: 4 }\n let f = flatten(e[C])\n predict y = logit(sum(f[2..7]) * sum(square(f[0..5])) + X[3])"),
    ("largest", "param w: f32[5] = ones\n predict y = logit(max(w * X) + min(w + X))"),
    ("largest of fields", "table e { keys: C, dim: 4 }\n predict y = logit(sum(max(e[C], axis: C)))"),
    ("linear on fields", "table e { keys: C, dim: 4 }\n predict y = logit(linear(e[C], 6) |> tanh |> flatten |> linear(1))"),
    ("batch norm of fields", "table e { keys: C, dim: 4 }\n predict y = logit(batch_norm(e[C]) |> flatten |> linear(1))"),
    ("cross", "table e { keys: C, dim: 2 }\n predict y = logit(cross(concat(flatten(e[C]), X), layers: 3) |> linear(1))"),
    ("cross v1", "predict y = logit(cross_v1(X, layers: 3) |> linear(1))"),
    (
        "a cross network beside a tower",
        "table e { keys: C, dim: 4 }\n let x = flatten(e[C])\n predict y = logit(concat(cross_v1(x, layers: 2), mlp(x, [5], activation: tanh)) |> linear(1))",
    ),
    (
        "deviations from a mean",
        "table e { keys: C, dim: 4 }\n table g { keys: tags, dim: 3 }\n let v = g[tags]\n let f = e[C]\n predict y = logit(sum(tanh(f - mean(f, axis: 1, keep: true))) + sum(square(v - mean(v, axis: tags, keep: true))) + sum(f * max(f, keep: true)))",
    ),
    ("shared layer", "layer tower = mlp(_, [4], activation: tanh)\n predict y = logit(sum(tower(X) * tower(2 * X)))"),
    (
        "parts of a parameter",
        "param w: f32[5] = ones\n param v: f32[3] = ones\n predict y = logit(sum(w[0..2] * X[0..2]) + sum(concat(w[2..4], v) * X))",
    ),
    (
        "a parameter of unit length",
        "param w: f32[5] = ones\n param g: f32 = ones\n predict y = logit(g * sum(X * w / sqrt(sum(square(w)) + 0.1)))",
    ),
    ("two parameters", "param w: f32[5] = ones\n param g: f32[5] = ones\n predict y = logit(sum(X * (w * g + g)))"),
    ("largest of a bag", "table e { keys: tags, dim: 4 }\n predict y = logit(sum(max(e[tags], axis: tags)) + min(e[tags]))"),
    ("chosen entries of a bag", "table e { keys: tags, dim: 4 }\n predict y = logit(sum(sum(select(a > 0, e[tags], 0), axis: tags)))"),
    ("a layer on a bag", "table e { keys: tags, dim: 4 }\n predict y = logit(sum(tanh(linear(e[tags], 6)), axis: tags) |> linear(1))"),
    (
        "layers on a sequence",
        "table e { keys: h, dim: 4 }\n let x = mlp(e[h], [6, 5], activation: tanh) |> layer_norm\n predict y = logit(linear(mean(x, axis: h), 1) + sum(max(x, axis: h)))",
    ),
    ("dropout of a sequence", "table e { keys: h, dim: 5 }\n predict y = logit(sum(tanh(dropout(linear(e[h], 6), 0.4))))"),
    (
        "a sequence and its numbers",
        "table e { keys: h, dim: 4 }\n let x = concat(e[h], dwell, X, a)\n predict y = logit(sum(tanh(linear(x, 3))) + sum(dwell * linear(stack(e[h], e[h]), 1)[1][0]))",
    ),
    (
        "attention by a target",
        "table e { keys: [u, h], dim: 4 }\n let t = e[u]\n let s = e[h]\n let score = mlp(concat(t, s, t - s, t * s), [6], activation: tanh) |> linear(1)\n let w = softmax(score[0])\n predict y = logit(sum(tanh(einsum(\"l, l d -> d\", w, s)) * t))",
    ),
    (
        "steps before and after",
        "table e { keys: h, dim: 4 }\n let s = tanh(linear(e[h], 4))\n predict y = logit(sum(s * shift(s)) + sum(shift(s, back: true) * s * s) + sum(tanh(last(s))) + sum(shift(dwell) * dwell))",
    ),
    (
        "positions",
        "table e { keys: h, dim: 4 }\n param p: f32[4, 4] = xavier\n param q: f32[3] = xavier\n let s = e[h] + pick(p, position(e[h]))\n predict y = logit(sum(tanh(s)) + sum(square(pick(q, a * 5))) + sum(position(h) * s[0]))",
    ),
    (
        "two sequences and a bag",
        "table e { keys: h, dim: 4 }\n table f { keys: other, dim: 4 }\n table g { keys: tags, dim: 4 }\n layer tower = linear(_, 4)\n predict y = logit(sum(tanh(tower(e[h]))) + sum(sum(tower(f[other]), axis: other) * sum(tanh(tower(g[tags])), axis: tags)))",
    ),
    (
        "a weighted bag",
        "table e { keys: heavy, dim: 4 }\n predict y = logit(sum(tanh(sum(e[heavy], axis: heavy))) + sum(square(e[heavy])))",
    ),
    (
        "times of steps",
        "table e { keys: h, dim: 4 }\n param b: f32[9] = xavier\n let age = log(max(abs(now - times), 1)) / 2\n predict y = logit(sum(pick(b, age) * e[h][0]) + log(1 + abs(now - now)))",
    ),
    (
        "entries behind other axes",
        "table e { keys: h, dim: 8 }\n let q = reshape(linear(e[h], 8), [2, 4])\n let w = softmax(einsum(\"i h d, j h d -> i h j\", q, q), axis: 0)\n let n = batch_norm(flatten(einsum(\"i h j, j h d -> i h d\", w, q)), epsilon: 0.5)\n predict y = logit(sum(tanh(n)) + sum(square(einsum(\"i d, j d -> d\", e[h], tanh(e[h])))))",
    ),
    (
        "means of pairs",
        "table e { keys: h, dim: 4 }\n let s = einsum(\"i d, j d -> i j\", e[h], tanh(e[h]))\n predict y = logit(mean(tanh(s)) + sum(mean(s, axis: 1)) + mean(sum(s, axis: 0)))",
    ),
    (
        "pairs of steps",
        "table e { keys: h, dim: 4 }\n param p: f32[7] = xavier\n param b: f32[9] = xavier\n let s = e[h]\n let gap = differences(position(s), position(s))\n let seconds = differences(shift(times), times)\n let bucket = log(max(1, abs(seconds))) / 2\n let q = linear(s, 3)\n let w = silu(einsum(\"i d, j d -> i j\", q, linear(s, 3)) + pick(p, gap + 3) + pick(b, bucket))\n let causal = select(gap >= 0, w, 0)\n let o = einsum(\"i j, j d -> i d\", causal, linear(s, 5))\n predict y = logit(sum(tanh(o)))",
    ),
    (
        "attention of several heads",
        "table e { keys: h, dim: 4 }\n let s = e[h]\n let q = reshape(linear(s, 6), [2, 3])\n let k = reshape(linear(s, 6), [2, 3])\n let v = reshape(linear(s, 8), [2, 4])\n let w = softmax(einsum(\"i h d, j h d -> i h j\", q, k))\n let o = flatten(einsum(\"i h j, j h d -> i h d\", w, v))\n predict y = logit(sum(tanh(linear(o, 4))))",
    ),
    (
        "several products of fields side by side",
        "table e { keys: C, dim: 6 }\n let q = reshape(linear(e[C], 6), [3, 2, 3])\n let k = reshape(linear(e[C], 6), [3, 2, 3])\n let w = softmax(einsum(\"i h d, j h d -> i h j\", q, k))\n predict y = logit(sum(tanh(linear(flatten(einsum(\"i h j, j h d -> i h d\", w, q)), 2))))",
    ),
    (
        "wide then narrow",
        "let h = linear(X, 16) |> layer_norm\n predict y = logit(sum(tanh(h)) + (layer_norm(linear(tanh(h), 8)) |> linear(1)))",
    ),
    ("pairs of fields", "table e { keys: C, dim: 4 }\n predict y = logit(linear(pairwise_dots(e[C]), 3) |> tanh |> linear(1))"),
    (
        "matrices one after another",
        "table e { keys: C, dim: 5 }\n param v: f32[2, 5] = ones\n let f = concat(e[C], stack(X), v)\n predict y = logit(sum(f[1..5] * f[0..4]) + pairwise_dots(f)[7])",
    ),
    (
        "products of two values",
        "table e { keys: C, dim: 5 }\n table g { keys: C, dim: 4 }\n let p = einsum(\"f d, f h -> d h\", e[C], tanh(g[C]))\n let q = einsum(\"d h, f d -> f h\", p, e[C])\n let r = einsum(\"f h, d h -> d f\", q, p)\n predict y = logit(sum(square(r)))",
    ),
    (
        "matrix products of values",
        "table e { keys: C, dim: 5 }\n param p: f32[4, 3] = xavier\n param q: f32[3, 5] = xavier\n let t = einsum(\"f d -> d f\", e[C])\n let a = e[C] @ tanh(t) + (p @ q)[0..3] @ t\n predict y = logit(sum(square(a)) + sum(X @ t))",
    ),
    (
        "einsum with weights",
        "table e { keys: C, dim: 5 }\n param w: f32[5, 4] = xavier\n param u: f32[4, 5] = xavier\n param k: f32[2, 3] = xavier\n let a = einsum(\"f d, d k -> f k\", e[C], w) + einsum(\"k d, f d -> f k\", u, e[C])\n predict y = logit(sum(square(einsum(\"n f, f k -> n k\", k, a))))",
    ),
    (
        "einsum of any kind",
        "table e { keys: C, dim: 5 }\n param w: f32[3, 5] = xavier\n let a = einsum(\"f, f d -> d f\", sum(e[C], axis: 1), w)\n let b = einsum(\"d f, f d -> \", a, e[C]) + sum(einsum(\"f d -> d\", w))\n predict y = logit(b + sum(einsum(\"d, f -> f d\", X, X[0..2])) + sum(einsum(\"f d -> d f\", e[C])[1]))",
    ),
    (
        "numbers looked up before layers that widen",
        "table w { keys: C, dim: 1 }\n table v { keys: tags, dim: 1 }\n table e { keys: C, dim: 4 }\n let f = e[C]\n let deep = mlp(flatten(f), [6, 16, 5], activation: tanh) |> linear(1)\n predict y = logit(fm(f) + deep + sum(w[C]) + sum(v[tags]))",
    ),
    (
        "weights of each row",
        "param w: f32[5, 4, 4] = xavier\n param u: f32[5, 4] = xavier\n let h = tanh(einsum(\"f, f k -> f k\", X, u))\n predict y = logit(sum(tanh(einsum(\"f k, f k j -> f j\", h, w))))",
    ),
    (
        "squares whose axes change places",
        "param w: f32[5, 5] = xavier\n let a = einsum(\"i j -> j i\", w)\n predict y = logit(sum(tanh(X @ a) * tanh(X @ w)) + sum(square(einsum(\"i j, j -> i\", w, X)) * X))",
    ),
    (
        "softmax",
        "param w: f32[5, 4] = xavier\n param v: f32[4] = xavier\n let p = softmax(einsum(\"f, f k -> f k\", X, w))\n let q = softmax(3 * einsum(\"f, f k -> f k\", X, w), axis: 0)\n predict y = logit(sum(p * q * v) + sum(square(softmax(v))))",
    ),
    (
        "a look-up that only the update visits",
        "table e { keys: u, dim: 3 }\n table f { keys: tags, dim: 2 }\n let both = concat(e[u], sum(f[tags], axis: tags))\n predict y = logit(sum(tanh(both[0..3])))",
    ),
    ("computed weight", "param w: f32[5, 4] = xavier\n predict y = logit(sum(tanh(X @ (w * 2))))"),
    ("a value", "predict t = value(mlp(X, [6], activation: tanh) |> linear(1))"),
    ("two tasks", "let h = mlp(X, [6], activation: tanh)\n predict y = logit(linear(h, 1))\n predict t = value(linear(h, 1))"),
    (
        "deepfm",
        "table w { keys: C, dim: 1 }\n table e { keys: C, dim: 4 }\n let v = e[C]\n let deep = mlp(concat(flatten(v), X), [8, 6], norm: batch_norm, activation: tanh, dropout: 0.2) |> linear(1)\n predict y = logit(sum(w[C]) + fm(v) + deep)",
    ),
];

/// Losses of a logit, each with one of a value.
const LOSSES: &[(&str, &str)] = &[
    ("focal", "mae"),
    ("focal(gamma: 0.5, alpha: 0.25, weight: 2)", "huber"),
    ("bce(weight: 0.5)", "huber(delta: 0.2, weight: 3)"),
    ("focal(gamma: 0)", "mse"),
];

const OPTIMIZERS: &[(&str, &str)] = &[
    ("sgd", "dense: sgd(lr: 0.5), tables: sgd(lr: 0.5)"),
    ("adagrad", "dense: adagrad(lr: 0.1), tables: adagrad(lr: 0.1)"),
    ("rowwise adagrad", "dense: sgd(lr: 0.1), tables: rowwise_adagrad(lr: 0.1)"),
    ("adam", "dense: adam(lr: 0.1), tables: adam(lr: 0.1)"),
    ("adam on all rows with l2", "dense: adam(lr: 0.1), tables: adam(lr: 0.1, l2: 0.1, rows: all)"),
    ("adamw", "dense: adamw(lr: 0.1, decay: 0.2), tables: adamw(lr: 0.1, decay: 0.2)"),
    ("clipped", "dense: adam(lr: 0.1, l2: 0.01), tables: adam(lr: 0.1), clip: norm(0.05)"),
];

fn text(body: &str, train: &str) -> String {
    let losses: Vec<&str> = [("predict y", "y: bce"), ("predict t", "t: mse(weight: 0.3)")]
        .iter()
        .filter(|(word, _)| body.contains(word))
        .map(|(_, loss)| *loss)
        .collect();
    format!(
        "{FEATURES}\nmodel m {{\n {body}\n}}\nobjective {{ {} }}\nmetrics {{ report: [{}] }}\ntrain {{ {train} }}\n",
        losses.join(", "),
        if body.contains("predict y") { "auc" } else { "rmse" }
    )
}

fn loss(program: &Program, data: &Data) -> f64 {
    let values = evaluate(program, data);
    let result = program.results.iter().find(|result| result.name == "loss").expect("a loss");
    values[&result.node].items[0].data[0]
}

/// Compiled code against the reference, of a model over the features above.
fn check_native(name: &str, body: &str, train: &str, rows: usize, level: Level) {
    check_spec(&format!("{name} ({train})"), &text(body, train), rows, level);
}

/// Compiled code against the reference: one step and one scoring call.
fn check_spec(name: &str, spec: &str, rows: usize, level: Level) {
    if let Some(difference) = difference(spec, rows, 11 + rows as u64, On::Processor(level)) {
        panic!("{name}, {rows} rows, {difference}");
    }
}

/// Whether this machine runs a level's code.
fn levels() -> Vec<Level> {
    Level::ALL.into_iter().filter(|level| *level <= Level::native()).collect()
}

#[test]
fn compiled_steps_agree_with_the_reference() {
    for (name, body) in MODELS {
        for rows in [1, 2, 129, 300] {
            check_native(name, body, "dense: sgd(lr: 0.5), tables: sgd(lr: 0.5)", rows, Level::native());
        }
    }
}

/// What a graphics processor runs, by the interpreter.
fn check_device(specs: impl Iterator<Item = (String, String)>, rows: &[usize]) {
    let mut wrong = Vec::new();
    for (name, spec) in specs {
        for &rows in rows {
            let found = std::panic::catch_unwind(|| difference(&spec, rows, 11 + rows as u64, On::Device));
            let why = found.unwrap_or_else(|panic| panic.downcast_ref::<String>().cloned());
            wrong.extend(why.map(|why| format!("{name}, {rows} rows: {why}")));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_device_agrees_on_models() {
    let train = "dense: sgd(lr: 0.5), tables: sgd(lr: 0.5)";
    check_device(MODELS.iter().map(|(name, body)| ((*name).to_owned(), text(body, train))), &[1, 37]);
    // Several tiles: sums go on from one to the next.
    let train = format!("batch: 16, {train}");
    check_device(MODELS.iter().map(|(name, body)| (format!("{name} in tiles"), text(body, &train))), &[37]);
}

#[test]
fn a_device_agrees_on_losses_and_optimizers() {
    check_device(losses().chain([losses_of_some_rows()]).chain(rankings()).chain(ordinals()), &[1, 13]);
    let body = "table e { keys: C, dim: 4 }\n predict y = logit(sum(square(e[C])) + (mlp(X, [6, 4]) |> linear(1)))";
    check_device(OPTIMIZERS.iter().map(|(name, train)| ((*name).to_owned(), text(body, train))), &[1, 37]);
}

#[test]
fn a_device_agrees_on_blocks_of_the_library() {
    check_device(library().into_iter(), &[1, 11]);
}

/// Attention with large values beside a perceptron with large weights: the attention goes through a tile a few examples at a time.
#[test]
fn a_tile_in_parts_agrees_with_the_reference() {
    let body = "table e { keys: C, dim: 4 }\n let f = reshape(linear(concat(flatten(e[C]), X), 384), [24, 16])\n \
                let one = interacting_layer(f, heads: 2, width: 16, scaled: true)\n \
                let two = interacting_layer(tanh(one), heads: 2, width: 16)\n \
                let deep = mlp(flatten(f), [64], activation: tanh)\n \
                predict y = logit(linear(concat(flatten(tanh(two)), deep), 1))";
    let train = "batch: 4096, dense: sgd(lr: 0.5), tables: sgd(lr: 0.5)";
    let spec = format!("use std.interaction.interacting_layer\n{}", text(body, train));
    let (_, built) = recc_tests::build(&spec);
    let examples = |plan: &recc_abi::Plan| -> Vec<u64> {
        plan.launches.iter().flat_map(|launch| &launch.jobs).flat_map(|job| &job.parts).map(|part| part.examples).collect()
    };
    let parts = examples(&built.step_plan.plan);
    assert!(parts.len() >= 3 && parts.iter().min() < parts.iter().max(), "one part: {parts:?}");
    for rows in [1, 17, 70] {
        check_spec("a tile in parts", &spec, rows, Level::native());
    }
}

#[test]
fn every_processor_level_agrees_with_the_reference() {
    for level in levels() {
        for (name, body) in MODELS {
            check_native(name, body, "dense: sgd(lr: 0.5), tables: sgd(lr: 0.5)", 131, level);
        }
    }
}

#[test]
fn optimizers_agree_with_the_reference() {
    let (_, deepfm) = MODELS.last().expect("models");
    for (_, train) in OPTIMIZERS {
        for body in
            [deepfm, "table e { keys: tags, dim: 4 }\n predict y = logit(linear(mean(e[tags], axis: tags), 3) |> tanh |> linear(1))"]
        {
            for rows in [1, 37] {
                check_native("optimizer", body, train, rows, Level::native());
            }
        }
    }
}

/// Weights of few bytes: the scores are those of the values that are stored, at every level, and other than those of the trained ones.
#[test]
fn stored_weights_score_as_what_they_stand_for() {
    let body = "table w { keys: C, dim: 1 }\n table e { keys: C, dim: 7 }\n table g { keys: tags, dim: 16 }\n let f = concat(flatten(e[C]), mean(g[tags], axis: tags), X)\n predict y = logit(sum(w[C]) + (mlp(f, [33, 20], activation: tanh) |> linear(1)))";
    let rate = "dense: sgd(lr: 0.5), tables: sgd(lr: 0.5)";
    let (_, exact) = recc_tests::build(&text(body, rate));
    for storage in ["f16", "int8"] {
        let (spec, built) = recc_tests::build(&text(body, &format!("{rate}, storage: {storage}")));
        for (rows, level) in [(1, Level::native()), (3, Level::V2), (37, Level::native())] {
            let data = draw(&spec, &built, rows, 5);
            let plan = &built.score_plan.plan;
            let native = run(plan, &load(&built.score_plan.kernels, level), &data, &lookups_of_bags(&spec, &built)).results;
            let reference = evaluate(&built.score, &as_read(plan, &data));
            let trained = evaluate(&exact.score, &data);
            for (result, other) in built.score.results.iter().zip(&exact.score.results) {
                let (wanted, trained) = (reference[&result.node].flat(), trained[&other.node].flat());
                for (native, wanted) in native[&result.name].iter().zip(&wanted) {
                    assert!(is_close(f64::from(*native), *wanted), "{storage}, {rows} rows, {}: {native}, not {wanted}", result.name);
                }
                assert_ne!(wanted, trained, "{storage}");
            }
        }
    }
}

/// Factors rounded to 8 bits: near the reference, and not equal to what products in `f32` give.
#[test]
fn products_in_bf16_are_near_the_reference() {
    let body = "table e { keys: C, dim: 16 }\n predict y = logit(concat(flatten(e[C]), X) |> mlp([48, 33], activation: tanh) |> linear(1))";
    let rate = "dense: sgd(lr: 0.5), tables: sgd(lr: 0.5)";
    let (spec, exact) = recc_tests::build(&text(body, rate));
    let (_, rounded) = recc_tests::build(&text(body, &format!("{rate}, precision: bf16")));
    for rows in [1, 131, 700] {
        let data = draw(&spec, &exact, rows, 8);
        let [exact, rounded] = [&exact, &rounded]
            .map(|built| run(&built.step_plan.plan, &load(&built.step_plan.kernels, Level::native()), &data, &BTreeMap::new()));
        let mut differing = 0;
        for (id, exact) in &exact.variables {
            let largest = exact.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            for (exact, rounded) in exact.iter().zip(&rounded.variables[id]) {
                assert!((exact - rounded).abs() <= 0.02 * largest, "{rows} rows: {rounded} for {exact}");
                differing += usize::from(exact != rounded);
            }
        }
        assert!(differing > 1000, "{rows} rows: {differing} parameters differ");
    }
}

/// Specs with every loss.
fn losses() -> impl Iterator<Item = (String, String)> {
    let model = "model m {\n predict y = logit(mlp(X, [4], activation: tanh) |> linear(1))\n predict t = value(linear(X, 1))\n}";
    LOSSES.iter().map(move |(logit, value)| {
        let train = "metrics { report: [] }\ntrain { dense: sgd(lr: 1) }";
        (format!("{logit} and {value}"), format!("{FEATURES}\n{model}\nobjective {{ y: {logit}, t: {value} }}\n{train}\n"))
    })
}

/// Specs that rank, plainly, by angles, and beside another loss of some rows: the next steps of a sequence, and ids.
fn rankings() -> impl Iterator<Item = (String, String)> {
    let features = FEATURES.replace("vocab_of(u)", "vocab");
    let spec = move |name: &str, softmax: &str, loss: &str| {
        let model = format!(
            "model m {{\n table e {{ keys: h, dim: 4 }}\n let s = e[h]\n let q = tanh(linear(s, 4)) + s\n predict y = logit(sum(mean(q, axis: h)))\n predict next = softmax(q, over: e, target: shift(h){softmax})\n}}"
        );
        let text = format!(
            "{features}\n{model}\nobjective {{ y: bce, next: {loss} }}\nmetrics {{ report: [] }}\ntrain {{ dense: sgd(lr: 1), tables: sgd(lr: 1) }}\n"
        );
        (format!("ranking {name}"), text)
    };
    let of_ids = move |name: &str, softmax: &str, loss: &str| {
        let model = format!(
            "model m {{\n table e {{ keys: [u, h], dim: 4 }}\n let q = tanh(linear(mean(e[h], axis: h), 4)) + sum(e[h], axis: h)\n predict y = logit(sum(q))\n predict item = softmax(q, over: e, target: u{softmax})\n}}"
        );
        let text = format!(
            "{FEATURES}\n{model}\nobjective {{ y: bce, item: {loss} }}\nmetrics {{ report: [] }}\ntrain {{ dense: sgd(lr: 1), tables: sgd(lr: 1) }}\n"
        );
        (format!("ranking ids {name}"), text)
    };
    [
        spec("by products", ", negatives: 3", "cross_entropy"),
        spec("by angles", ", negatives: 5, temperature: 0.3, normalize: true", "cross_entropy(weight: 0.5)"),
        spec("of some rows", ", negatives: 1", "cross_entropy(where: y)"),
        spec("by pairs", ", negatives: 3", "bpr"),
        spec("by pairs of some rows", ", negatives: 2, temperature: 0.5", "bpr(where: y, weight: 2)"),
        spec("one by one", ", negatives: 4, normalize: true", "bce"),
        of_ids("by products", ", negatives: 3", "cross_entropy"),
        of_ids("by pairs of some rows", ", negatives: 2, temperature: 0.5, normalize: true", "bpr(where: y, weight: 2)"),
        of_ids("one by one", ", negatives: 1", "bce"),
        of_ids("over all rows", "", "cross_entropy"),
        of_ids("over all rows by angles", ", temperature: 0.3, normalize: true", "cross_entropy(where: y, weight: 2)"),
        spec("shared", ", negatives: shared(5)", "cross_entropy"),
        spec("shared by angles", ", negatives: shared(3, keep_hits: true), temperature: 0.3, normalize: true", "cross_entropy(where: y)"),
        spec("shared by pairs", ", negatives: shared(1), normalize: true", "bpr"),
        of_ids("shared", ", negatives: shared(4), normalize: true", "cross_entropy"),
        of_ids("shared one by one", ", negatives: shared(2, keep_hits: true)", "bce"),
        spec("calibrated", ", negatives: 3, normalize: true", "gbce(calibration: 0.6)"),
        spec("over all rows", "", "cross_entropy"),
        spec("over all rows by angles", ", temperature: 0.3, normalize: true", "cross_entropy(where: y, weight: 2)"),
    ]
    .into_iter()
}

/// A spec whose losses are of some rows and weigh them.
fn losses_of_some_rows() -> (String, String) {
    let model = "model m {\n predict y = logit(mlp(X, [4], activation: tanh) |> linear(1))\n predict t = value(linear(X, 1))\n}";
    let objective = "objective { y: bce(where: t > 0.1, weight: w), t: mse(where: y) }";
    let features = FEATURES.replace("    number a\n", "    number a\n    label w: number\n");
    let spec = format!("{features}\n{model}\n{objective}\nmetrics {{ report: [] }}\ntrain {{ dense: sgd(lr: 1) }}\n");
    ("losses of some rows".to_owned(), spec)
}

/// A label of several levels, and of two.
fn ordinals() -> impl Iterator<Item = (String, String)> {
    [(2, "ordinal"), (5, "ordinal(where: y, weight: 0.5)")].into_iter().map(|(levels, loss)| {
        let model = format!(
            "model m {{\n predict y = logit(linear(X, 1))\n predict t = ordinal(mlp(X, [4], activation: tanh) |> linear(1), levels: {levels})\n}}"
        );
        let train = "metrics { report: [] }\ntrain { dense: sgd(lr: 1) }";
        (format!("{levels} levels"), format!("{FEATURES}\n{model}\nobjective {{ y: bce, t: {loss} }}\n{train}\n"))
    })
}

#[test]
fn losses_agree_with_the_reference() {
    for (name, spec) in losses().chain([losses_of_some_rows()]).chain(rankings()).chain(ordinals()) {
        for rows in [1, 13, 130] {
            check_spec(&name, &spec, rows, Level::native());
        }
    }
}

/// The specs of `tests/kernels/`, each of which uses one block of the library.
fn library() -> Vec<(String, String)> {
    let folder = recc_tests::root().join("tests/kernels");
    let mut files: Vec<_> = std::fs::read_dir(folder).expect("tests/kernels").flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "rec"));
    files.sort();
    let read = |path: std::path::PathBuf| (path.display().to_string(), std::fs::read_to_string(&path).expect("a spec"));
    files.into_iter().map(read).collect()
}

#[test]
fn blocks_of_the_library_agree_with_the_reference() {
    for (name, spec) in library() {
        for rows in [1, 11] {
            check_spec(&name, &spec, rows, Level::native());
        }
    }
}

#[test]
fn gradients_agree_with_central_differences() {
    let rate = "dense: sgd(lr: 1), tables: sgd(lr: 1)";
    let models = MODELS.iter().map(|(name, body)| ((*name).to_owned(), text(body, rate)));
    // A step of rate 1 moves by the gradient.
    let trained = |spec: &str| format!("{}\ntrain {{ {rate} }}\n", spec.split_once("\ntrain").map_or(spec, |(before, _)| before));
    let smooth = library().into_iter().filter(|(_, spec)| !spec.starts_with("// Holds values constant"));
    let blocks = smooth.map(|(name, spec)| (name, trained(&spec)));
    for (name, spec) in models.chain(blocks).chain(losses()).chain([losses_of_some_rows()]).chain(rankings()).chain(ordinals()) {
        let (spec, built) = recc_tests::build(&spec);
        let data = draw(&spec, &built, 6, 5);
        let after = updated(&built.step, &data);
        for (at, variable) in built.variables.iter().enumerate() {
            let id = VariableId(at as u32);
            if variable.role != Role::Parameter {
                continue;
            }
            let count = data.variables[&id].len();
            // Spread over all places of a matrix.
            for element in (0..6).map(|at| at * 7919 % count) {
                let analytic = data.variables[&id][element] - after[&id][element];
                let numeric = slope(&built.step, &data, id, element);
                let error = (analytic - numeric).abs();
                assert!(
                    error <= 1e-5 * numeric.abs().max(1.0),
                    "{name}: {} {element}: analytic {analytic}, numeric {numeric}",
                    variable.path
                );
            }
        }
    }
}

/// Central difference of the loss.
fn slope(program: &Program, data: &Data, id: VariableId, element: usize) -> f64 {
    let h = 1e-5;
    let mut moved = data.clone();
    let at = |moved: &mut Data, value: f64| {
        moved.variables.get_mut(&id).expect("a variable")[element] = value;
        loss(program, moved)
    };
    let value = data.variables[&id][element];
    (at(&mut moved, value + h) - at(&mut moved, value - h)) / (2.0 * h)
}

#[test]
fn rewrites_keep_results() {
    use recc_core::passes::{PASSES, run_pass};
    for (name, body) in MODELS {
        let (spec, built) = recc_tests::build(&text(body, "dense: adam(lr: 0.1), tables: adam(lr: 0.1), clip: norm(1)"));
        let data = draw(&spec, &built, 5, 3);
        let mut program = spec.scoring.program.clone();
        for pass in PASSES {
            let next = run_pass(pass.name, &program).expect("a pass of the table");
            assert!(next.verify().is_empty(), "{name}: {} {:?}", pass.name, next.verify());
            let (before, after) = (evaluate(&program, &data), evaluate(&next, &data));
            for (old, new) in program.results.iter().zip(&next.results) {
                let pairs = before[&old.node].flat().into_iter().zip(after[&new.node].flat());
                pairs.for_each(|(old, new)| {
                    assert!((old - new).abs() <= 1e-6 * old.abs().max(1.0), "{name}: {}: {old} became {new}", pass.name)
                });
            }
            program = next;
        }
    }
}

/// What is for training alone leaves no trace in the kernels that score.
#[test]
fn auxiliary_objectives_leave_scoring_kernels_alone() {
    let body = "let h = linear(X, 6) |> tanh\n expose h\n predict y = logit(linear(h, 1))";
    let plain = text(body, "dense: sgd(lr: 1), tables: sgd(lr: 1)");
    let auxiliary = "cohort late = a > 0.5\nauxiliary late_y { on: m.h, label: y and late, head: mlp(_, [3]) |> linear(1) }\nobjective { late_y: bce(weight: 0.1), ";
    let (_, without) = recc_tests::build(&plain);
    let (_, with) = recc_tests::build(&plain.replace("objective {", auxiliary));
    assert!(with.step_plan.kernels.len() > without.step_plan.kernels.len());
    assert_eq!(with.score.to_string(), without.score.to_string());
    let kernels = |built: &recc_core::Built| built.score_plan.kernels.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(kernels(&with), kernels(&without));
}

#[test]
fn a_value_that_is_not_a_number_reaches_the_loss() {
    let (spec, built) = recc_tests::build(&text("predict y = logit(mlp(X, [8, 8]) |> linear(1))", "dense: sgd(lr: 1)"));
    let mut data = draw(&spec, &built, 40, 1);
    let column = *data.numbers.keys().nth(3).expect("a number");
    data.numbers.get_mut(&column).expect("a number")[17] = f64::NAN;
    let outcome = run(&built.step_plan.plan, &load(&built.step_plan.kernels, Level::native()), &data, &BTreeMap::new());
    assert!(outcome.results["loss"][0].is_nan(), "{:?}", outcome.results["loss"]);
}

#[test]
fn row_sums_of_one_table_with_several_keys_add_up() {
    let body = "table e { keys: [u, v], dim: 3 }\n predict y = logit(sum(square(e[u])) + sum(e[v]))";
    let text =
        text(body, "dense: sgd(lr: 0.5), tables: sgd(lr: 0.5)").replace("id u = u |> vocab", "id u = u |> vocab\n id v = v |> vocab_of(u)");
    let (spec, built) = recc_tests::build(&text);
    let data = draw(&spec, &built, 50, 9);
    assert_eq!(built.tables[0].lookups.len(), 2);
    let outcome = run(&built.step_plan.plan, &load(&built.step_plan.kernels, Level::native()), &data, &BTreeMap::new());
    let after = updated(&built.step, &data);
    let table = built.tables[0].variable;
    outcome.variables[&table]
        .iter()
        .zip(&after[&table])
        .for_each(|(native, reference)| assert!(is_close(f64::from(*native), *reference), "a row: {native}, not {reference}"));
    assert_eq!(data.touched[&TableId(0)].occurrences.len(), 2);
}
