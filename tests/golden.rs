//! Values and gradients of published equations, worked out by hand: the reference executor gives them to nine digits.

use recc_abi::VariableId;
use recc_core::graph::reference::{Data, evaluate};
use recc_core::spec::Spec;
use recc_core::{Built, ops};
use recc_tests::data::draw;

/// Two members whose logits are parameters, so that an update by a rate of 1 shows the gradient.
fn ensemble(settings: &str, uses: &str, logits: [f64; 2]) -> (Spec, Built, Data) {
    let text = format!(
        "{uses}\nfeatures {{\n label click: binary\n}}\nmodel a {{\n param z: f32 = zeros\n predict click = logit(z)\n}}\nmodel b {{\n param z: f32 = zeros\n predict click = logit(z)\n}}\nensemble e of [a, b] {{ {settings} }}\nobjective {{ click: bce }}\ntrain {{ dense: sgd(lr: 1) }}\n"
    );
    let (spec, built) = recc_tests::build(&text);
    let mut data = draw(&spec, &built, 1, 1);
    for (at, variable) in built.variables.iter().enumerate() {
        let own = if variable.path == "a.z" { logits[0] } else { logits[1] };
        data.variables.insert(VariableId(at as u32), vec![own]);
    }
    (spec, built, data)
}

/// A result of the forward graph on one example.
fn result(built: &Built, data: &Data, name: &str) -> Vec<f64> {
    let values = evaluate(&built.score, data);
    let node = built.score.results.iter().find(|result| result.name == name).expect("a result").node;
    values[&node].flat()
}

/// What a step of rate 1 takes from each parameter.
fn gradient(built: &Built, data: &Data) -> Vec<f64> {
    let values = evaluate(&built.step, data);
    let mut found = vec![0.0; built.variables.len()];
    for effect in &built.step.effects {
        if let ops::Op::Assign(assign) = &built.step.graph[*effect].op {
            let at = assign.variable.0 as usize;
            let new = values[&built.step.graph.operands(*effect)[0]].flat();
            found[at] = data.variables[&assign.variable][0] - new[0];
        }
    }
    found
}

fn close(found: &[f64], wanted: &[f64]) {
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(wanted) {
        assert!((found - wanted).abs() < 1e-9, "{found} is not {wanted}");
    }
}

const LOGITS: [f64; 2] = [1.0, -0.5];

#[test]
fn confidence_weighs_and_fuses() {
    let uses = "use std.ensemble.confidence";
    let (_, built, data) = ensemble("fuse: confidence", uses, LOGITS);
    close(&result(&built, &data, "a.click"), &[0.7310585786]);
    close(&result(&built, &data, "b.click"), &[0.3775406688]);
    close(&result(&built, &data, "click.weights"), &[0.5201501331, 0.4798498669]);
    close(&result(&built, &data, "click"), &[0.5614230566]);
    let (_, built, data) = ensemble("fuse: confidence(of: logit)", uses, LOGITS);
    close(&result(&built, &data, "click"), &[0.5696014338]);
    let (_, built, data) = ensemble("fuse: confidence(temperature: 5)", uses, LOGITS);
    close(&result(&built, &data, "click.weights"), &[0.5994613050, 0.4005386950]);
    close(&result(&built, &data, "click"), &[0.5894609764]);
}

/// The gradient of the fused loss is (y_hat - y) / (y_hat (1 - y_hat)) times that of y_hat.
#[test]
fn confidence_learns_through_its_weights() {
    let (_, built, mut data) = ensemble("fuse: confidence, members: 0", "use std.ensemble.confidence", LOGITS);
    let label = *data.numbers.keys().next().expect("a label");
    for y in [0.0, 1.0] {
        data.numbers.insert(label, vec![y]);
        let fused = 0.561_423_056_6;
        let factor = (fused - y) / (fused * (1.0 - fused));
        let found = gradient(&built, &data);
        for (found, slope) in found.iter().zip([0.1196159619, 0.1231343866]) {
            assert!((found - factor * slope).abs() < 1e-8, "{found} is not {}", factor * slope);
        }
    }
}

/// Of a label of four levels: the loss of each is -ln of its probability, and what is predicted their mean.
#[test]
fn levels_have_the_probabilities_between_thresholds() {
    let text = "features {\n label stars: number\n}\nmodel m {\n param z: f32 = zeros\n predict stars = ordinal(z, levels: 4)\n}\nobjective { stars: ordinal }\ntrain { dense: sgd(lr: 1) }\n";
    let (spec, built) = recc_tests::build(text);
    let mut data = draw(&spec, &built, 1, 1);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    for (z, learned) in [(0.0, [0.0; 3]), (0.7, [0.3, -1.2, 2.0]), (-30.0, [0.0, 0.5, -40.0])] {
        let value = |path: &str| if path == "m.z" { vec![z] } else { learned.to_vec() };
        data.variables = built.variables.iter().enumerate().map(|(at, own)| (VariableId(at as u32), value(&own.path))).collect();
        // At first all levels are alike likely.
        let start = [1.0f64 / 3.0, 1.0, 3.0].map(f64::ln);
        let distance = |level: usize| ((start[level] - start[level - 1]).exp_m1().ln() + learned[level]).exp().ln_1p();
        let first = start[0] + learned[0];
        let thresholds = [first, first + distance(1), first + distance(1) + distance(2)];
        let above: Vec<f64> = [1.0].into_iter().chain(thresholds.map(|at| sigmoid(z - at))).chain([0.0]).collect();
        let chances: Vec<f64> = above.windows(2).map(|pair| pair[0] - pair[1]).collect();
        close(&result(&built, &data, "stars"), &[(1..=4).map(|level| f64::from(level) * chances[level as usize - 1]).sum()]);
        for level in 1..=4usize {
            data.numbers.values_mut().for_each(|labels| *labels = vec![level as f64]);
            let values = evaluate(&built.step, &data);
            let loss = built.step.results.iter().find(|result| result.name == "loss").expect("a loss").node;
            let likelihood = (-values[&loss].flat()[0]).exp();
            assert!((likelihood - chances[level - 1]).abs() < 1e-9, "level {level} at {z}: {likelihood}, not {}", chances[level - 1]);
        }
        if z == 0.0 {
            close(&chances, &[0.25; 4]);
        }
    }
}

/// The part of the gradient that a collaboration adds: with it less without it.
fn collaboration(settings: &str, uses: &str, logits: [f64; 2]) -> (Vec<f64>, f64) {
    let loss = |built: &Built, data: &Data| {
        let values = evaluate(&built.step, data);
        let node = built.step.results.iter().find(|result| result.name == "loss").expect("a loss").node;
        values[&node].flat()[0]
    };
    let (_, with, data) = ensemble(&format!("fuse: mean, collaborate: {settings}"), uses, logits);
    let (_, without, plain) = ensemble("fuse: mean", "", logits);
    let parts = gradient(&with, &data).into_iter().zip(gradient(&without, &plain)).map(|(with, without)| with - without);
    (parts.collect(), loss(&with, &data) - loss(&without, &plain))
}

#[test]
fn mutual_learning_is_the_symmetric_divergence() {
    let uses = "use std.ensemble.mutual";
    let (found, loss) = collaboration("mutual", uses, LOGITS);
    close(&[loss], &[0.2651384324]);
    let (p, q) = (0.731_058_578_630_005, 0.377_540_668_798_145_4);
    let half = |own: f64, difference: f64| 0.5 * (own * (1.0 - own) * difference + if difference > 0.0 { p - q } else { q - p });
    close(&found, &[half(p, 1.5), half(q, -1.5)]);
    // Detached, each half is the divergence of the constant peer from the own prediction; its gradient is p - q.
    let (found, loss) = collaboration("mutual(detach_peer: true)", uses, LOGITS);
    close(&[loss], &[0.2651384324]);
    close(&found, &[0.5 * (p - q), 0.5 * (q - p)]);
}

#[test]
fn distillation_moves_members_towards_the_fused_prediction() {
    let (found, _) = collaboration("distill", "use std.ensemble.distill", LOGITS);
    let (p, q) = (0.731_058_578_630_005, 0.377_540_668_798_145_4);
    let fused = 0.5 * (p + q);
    close(&found, &[0.5 * (p - fused), 0.5 * (q - fused)]);
}

/// With two members a peer has all the weight: the loss is the mean of (p_i - p_j)^2, and its gradient (p_i - p_j) p_i (1 - p_i).
#[test]
fn peers_teach_each_other() {
    let (found, loss) = collaboration("peer_teach", "use std.ensemble.peer_teach", LOGITS);
    let (p, q) = (0.731_058_578_630_005, 0.377_540_668_798_145_4);
    close(&[loss], &[(p - q) * (p - q)]);
    close(&found, &[(p - q) * p * (1.0 - p), (q - p) * q * (1.0 - q)]);
}

/// What a rule makes of given gradients: losses are squared errors of linear heads of a parameter, half an error away, whose gradients are the heads' weights.
/// Gives the step of the parameter, and all variables after it: the same whether the representation is balanced or the parameter.
fn balanced(rule: &str, gradients: &[[f64; 2]], states: &[(&str, Vec<f64>)]) -> ([f64; 2], Vec<(String, Vec<f64>)>) {
    let (step, after) = balanced_over("m.h", rule, gradients, states);
    let (other, _) = balanced_over("parameters", rule, gradients, states);
    close(&step, &other);
    (step, after)
}

fn balanced_over(over: &str, rule: &str, gradients: &[[f64; 2]], states: &[(&str, Vec<f64>)]) -> ([f64; 2], Vec<(String, Vec<f64>)>) {
    let name = rule.split('(').next().expect("a name");
    let labels: String = (0..gradients.len()).map(|k| format!(" label y{k}: number\n")).collect();
    let heads: String = (0..gradients.len())
        .map(|k| format!(" predict y{k} = value({:?} * h[0] + {:?} * h[1])\n", gradients[k][0], gradients[k][1]))
        .collect();
    let losses: String = (0..gradients.len()).map(|k| format!("y{k}: mse, ")).collect();
    let rule = rule.replace(')', &format!(", over: {over})")).replace("(,", "(");
    let text = format!(
        "use std.balance.{name}\nfeatures {{\n{labels} number one\n}}\nmodel m {{\n param w: f32[2] = zeros\n let h = w * one\n expose h\n{heads}}}\nobjective {{ {losses}balance: {rule} }}\nmetrics {{ report: [] }}\ntrain {{ dense: sgd(lr: 1) }}\n"
    );
    let (spec, built) = recc_tests::build(&text);
    let mut data = draw(&spec, &built, 1, 1);
    for (at, column) in spec.columns.iter().enumerate() {
        data.numbers.insert(at as u32, vec![if column.name == "one" { 1.0 } else { -0.5 }]);
    }
    for (at, variable) in built.variables.iter().enumerate() {
        let own = states.iter().find(|(name, _)| variable.path.ends_with(name)).map(|(_, values)| values.clone());
        let zeros = vec![0.0; variable.shape.iter().product::<u64>() as usize];
        data.variables.insert(VariableId(at as u32), own.unwrap_or(zeros));
    }
    let values = evaluate(&built.step, &data);
    let mut after = Vec::new();
    for effect in &built.step.effects {
        let ops::Op::Assign(assign) = &built.step.graph[*effect].op else { panic!("an effect of another kind") };
        after.push((assign.path.clone(), values[&built.step.graph.operands(*effect)[0]].flat()));
    }
    let w = &after.iter().find(|(path, _)| path == "m.w").expect("the parameter").1;
    ([-w[0], -w[1]], after)
}

const CONFLICT: [[f64; 2]; 2] = [[3.0, 0.0], [-1.0, 1.0]];

#[test]
fn multibalance_gives_its_golden_vector() {
    let states = [("average", vec![1.0, 1.0]), ("mixed", vec![0.5, 0.5])];
    let (step, after) = balanced("multibalance(step: 0.5, relative: false)", &CONFLICT, &states);
    let state = |name: &str| after.iter().find(|(path, _)| path.ends_with(name)).expect("a state").1.clone();
    let near = |found: &[f64], wanted: &[f64]| {
        found.iter().zip(wanted).for_each(|(found, wanted)| assert!((found - wanted).abs() < 1e-8, "{found} is not {wanted}"));
    };
    near(&state("average"), &[1.02, 1.0041421356]);
    near(&state("mixed"), &[0.4955864464, 0.5044135536]);
    near(&step, &[0.1473465380, 0.3581516373]);
}

/// y = (1, 2) + 0.5 (g - (1, 2)) and (0, 1) + 0.5 (g - (0, 1)), and one step of the weights on their products.
#[test]
fn moco_balances_averages_of_gradients() {
    let states = [("m.w.average.y0", vec![1.0, 2.0]), ("m.w.average.y1", vec![0.0, 1.0]), ("mixed", vec![0.5, 0.5])];
    let (step, after) = balanced_over("parameters", "moco(step: 0.1, rho: 0.2, average: 0.5)", &CONFLICT, &states);
    let (y, z) = ([2.0, 1.0], [-0.5, 1.0]);
    let gram = [[5.0, 0.0], [0.0, 1.25]];
    let moved: Vec<f64> = (0..2).map(|k| 0.5 - 0.1 * (0.5 * (gram[k][0] + gram[k][1]) + 0.2 * 0.5)).collect();
    // Onto the simplex: both stay above 0, so each loses half of what is too much.
    let shift = (moved[0] + moved[1] - 1.0) / 2.0;
    let weights = [moved[0] - shift, moved[1] - shift];
    close(&step, &[weights[0] * y[0] + weights[1] * z[0], weights[0] * y[1] + weights[1] * z[1]]);
    let state = |name: &str| after.iter().find(|(path, _)| path.ends_with(name)).expect("a state").1.clone();
    close(&state("m.w.average.y0"), &y);
    close(&state("m.w.average.y1"), &z);
    close(&state("mixed"), &weights);
}

#[test]
fn mgda_finds_the_least_combination() {
    let (step, _) = balanced("mgda()", &CONFLICT, &[]);
    let first = 5.0 / 17.0;
    close(&step, &[3.0 * first - (1.0 - first), 1.0 - first]);
    // Of three, every gradient agrees with the least combination at least as much as it with itself.
    let three = [[3.0, 0.5], [-1.0, 1.0], [0.5, 2.0]];
    let (step, _) = balanced("mgda(rounds: 60)", &three, &[]);
    let square = step[0] * step[0] + step[1] * step[1];
    for own in three {
        assert!(own[0] * step[0] + own[1] * step[1] > square - 5e-2, "{step:?} against {own:?}");
    }
}

#[test]
fn pcgrad_takes_conflicting_parts_away() {
    let (step, _) = balanced("pcgrad()", &CONFLICT, &[]);
    close(&step, &[1.5, 2.5]);
    let agreeing = [[1.0, 0.5], [0.5, 1.0], [1.0, 1.0]];
    close(&balanced("pcgrad()", &agreeing, &[]).0, &[2.5, 2.5]);
}

#[test]
fn imtl_has_equal_projections_and_nash_bargains() {
    let lengths = CONFLICT.map(|[x, y]: [f64; 2]| x.hypot(y));
    let (step, _) = balanced("imtl()", &CONFLICT, &[]);
    let along = |at: usize| (CONFLICT[at][0] * step[0] + CONFLICT[at][1] * step[1]) / lengths[at];
    assert!((along(0) - along(1)).abs() < 1e-9, "{step:?}");
    // A a = 1 / a: each gradient times the step is one over its own weight.
    let (step, _) = balanced("nash()", &CONFLICT, &[]);
    let weights = [(step[0] + step[1]) / 3.0, step[1]];
    for (own, weight) in CONFLICT.iter().zip(weights) {
        let product = own[0] * step[0] + own[1] * step[1];
        assert!((product - 1.0 / weight).abs() < 1e-9, "{step:?}: {product} is not 1 / {weight}");
    }
}

/// The least value of w . g0 + c |g0| |g_w| over a fine grid.
#[test]
fn cagrad_helps_the_worst_task() {
    let (step, _) = balanced("cagrad(rounds: 60)", &CONFLICT, &[]);
    let mean = [1.0, 0.5];
    let size = 1.25f64.sqrt();
    let combined = |w: f64| [3.0 * w - (1.0 - w), 1.0 - w];
    let value = |w: f64| combined(w)[0] * mean[0] + combined(w)[1] * mean[1] + 0.5 * size * combined(w)[0].hypot(combined(w)[1]);
    let best = (0..=10_000).map(|at| f64::from(at) / 1e4).min_by(|a, b| value(*a).total_cmp(&value(*b))).expect("a grid");
    let own = combined(best);
    let length = own[0].hypot(own[1]);
    for at in 0..2 {
        let wanted = (mean[at] + 0.5 * size / length * own[at]) / 1.25;
        assert!((step[at] - wanted).abs() < 2e-3, "{step:?}: {wanted}");
    }
}

#[test]
fn rules_of_norms_and_losses_give_their_equations() {
    let sum = |weights: [f64; 2]| [3.0 * weights[0] - weights[1], weights[1]];
    close(&balanced("uniform_weights()", &CONFLICT, &[]).0, &sum([1.0, 1.0]));
    // A share of 0.7 of the second gradient is brought to the first one's average norm.
    let m = [0.9 * 2.0 + 0.1 * 3.0, 0.9 * 4.0 + 0.1 * 2f64.sqrt()];
    close(&balanced("metabalance()", &CONFLICT, &[("average", vec![2.0, 4.0])]).0, &sum([1.0, 0.7 * m[0] / m[1] + 0.3]));
    // Each loss is a quarter.
    close(&balanced("gls()", &CONFLICT, &[]).0, &sum([0.5, 0.5]));
    let m = [0.9 * 0.5 + 0.1 * 0.25, 0.9 * 0.1 + 0.1 * 0.25];
    let share = [m[1] / (m[0] + m[1]), m[0] / (m[0] + m[1])];
    close(&balanced("ema()", &CONFLICT, &[("average", vec![0.5, 0.1])]).0, &sum(share.map(|own| 2.0 * own)));
    // The second gradient is against the first.
    close(&balanced("hydalearn()", &CONFLICT, &[]).0, &sum([2.0, 0.0]));
}

fn dot(a: [f64; 2], b: [f64; 2]) -> f64 {
    a[0] * b[0] + a[1] * b[1]
}

/// The condition of each rule: A a = 1 / a, and A w = w^(-1/alpha).
#[test]
fn nash_and_fairgrad_meet_their_conditions() {
    const THREE: [[f64; 2]; 3] = [[3.0, 0.0], [1.0, 1.0], [-0.5, 2.0]];
    for (rule, gradients, power) in [
        ("nash(rounds: 60)", &THREE[..], 1.0),
        ("fairgrad(rounds: 60)", &THREE, 1.0),
        ("fairgrad(alpha: 2, rounds: 60)", &THREE, 2.0),
        ("fairgrad(alpha: 0.5, rounds: 60)", &CONFLICT, 0.5),
    ] {
        let (step, _) = balanced(rule, gradients, &[]);
        let weights: Vec<f64> = gradients.iter().map(|gradient| dot(*gradient, step).powf(-power)).collect();
        let sum = |at: usize| gradients.iter().zip(&weights).map(|(gradient, weight)| weight * gradient[at]).sum();
        close(&[sum(0), sum(1)], &step);
    }
}

/// The combined gradients have one length along both principal directions; of gradients along one line that direction is left.
#[test]
fn aligned_gradients_have_one_condition() {
    let (step, _) = balanced("aligned()", &CONFLICT, &[]);
    // Eigenvalues of the products [[9, -3], [-3, 2]] and their directions.
    let apart = (7f64 * 7.0 + 36.0).sqrt();
    let values = [(11.0 + apart) / 2.0, (11.0 - apart) / 2.0];
    let mut weights = [0.0; 2];
    for value in values {
        let direction = [-3.0, value - 9.0];
        let length = dot(direction, direction).sqrt();
        let share = (values[1] / value).sqrt() * (direction[0] + direction[1]) / length;
        weights = [0, 1].map(|at| weights[at] + share * direction[at] / length);
    }
    close(&step, &[3.0 * weights[0] - weights[1], weights[1]]);
    close(&balanced("aligned()", &[[2.0, 0.0], [1.0, 0.0]], &[]).0, &[2.0 * 1.2 + 0.6, 0.0]);
}

#[test]
fn gradvac_turns_gradients_to_their_usual_angle() {
    let (step, after) = balanced("gradvac()", &CONFLICT, &[("target", vec![0.0, 0.3, -0.9, 0.0])]);
    let length = |v: [f64; 2]| dot(v, v).sqrt();
    let turned = |own: [f64; 2], other: [f64; 2], wanted: f64| {
        let cosine = dot(own, other) / (length(own) * length(other));
        let sine = (1.0 - wanted * wanted).sqrt();
        let more = length(own) * (wanted * (1.0 - cosine * cosine).sqrt() - cosine * sine) / (length(other) * sine);
        let more = if cosine < wanted { more } else { 0.0 };
        (cosine, [own[0] + more * other[0], own[1] + more * other[1]])
    };
    let ((cosine, first), (other, second)) = (turned(CONFLICT[0], CONFLICT[1], 0.3), turned(CONFLICT[1], CONFLICT[0], -0.9));
    // The first now has the cosine that was wanted; the second had more.
    assert!((dot(first, CONFLICT[1]) / (length(first) * length(CONFLICT[1])) - 0.3).abs() < 1e-9 && second == CONFLICT[1]);
    close(&step, &[first[0] + second[0], first[1] + second[1]]);
    let target = after.iter().find(|(path, _)| path.ends_with("target")).expect("the state").1.clone();
    close(&target, &[0.0, 0.15 + 0.5 * cosine, -0.45 + 0.5 * other, 0.0]);
}

/// Rules by the losses, which are a quarter each, and by norms: 3 and the root of 2.
#[test]
fn more_rules_of_norms_and_losses_give_their_equations() {
    let sum = |weights: [f64; 2]| [3.0 * weights[0] - weights[1], weights[1]];
    let state = |after: &[(String, Vec<f64>)], name: &str| after.iter().find(|(path, _)| path.ends_with(name)).expect("a state").1.clone();
    let softmax = |x: [f64; 2]| x.map(|own| own.exp() / (x[0].exp() + x[1].exp()));
    let root = 2f64.sqrt();
    let known = 0.25 + 1e-8;
    close(&balanced("db()", &CONFLICT, &[]).0, &sum([1.0 / known, 3.0 / root / known]));

    let weights = softmax([0.2, -0.1]).map(|share| 2.0 * share);
    let (step, after) = balanced("gradnorm()", &CONFLICT, &[("s", vec![0.2, -0.1]), ("first", vec![0.5, 0.25])]);
    close(&step, &sum(weights));
    let lengths = [3.0 * weights[0], root * weights[1]];
    let wanted = [0.5 / 0.75, 1.0 / 0.75].map(|ratio: f64| (lengths[0] + lengths[1]) / 2.0 * ratio.powf(1.5));
    assert!(lengths[0] > wanted[0] && lengths[1] < wanted[1]);
    // The slope of the distance by s, each weight being 2 softmax(s).
    let slope = |at: usize| {
        let by = |own: usize| weights[own] * (f64::from(u8::from(own == at)) - weights[at] / 2.0);
        3.0 * by(0) - root * by(1)
    };
    close(&state(&after, ".s"), &[0.2 - 0.025 * slope(0), -0.1 - 0.025 * slope(1)]);

    let (step, after) = balanced(
        "dwa(every: 2)",
        &CONFLICT,
        &[("step", vec![1.0]), ("summed", vec![0.5, 0.1]), ("last", vec![0.5, 0.2]), ("before", vec![1.0, 0.1])],
    );
    close(&step, &sum(softmax([0.25, 1.0]).map(|share| 2.0 * share)));
    close(&state(&after, "last"), &[0.375, 0.175]);
    close(&state(&after, "before"), &[0.5, 0.2]);
    close(&[state(&after, "step"), state(&after, "summed")].concat(), &[0.0; 3]);

    let (step, after) = balanced("uncertainty(rate: 0.1)", &CONFLICT, &[("s", vec![0.3, -0.5])]);
    let weights = [0.5 * (-0.3f64).exp(), 0.5 * 0.5f64.exp()];
    close(&step, &sum(weights));
    close(&state(&after, ".s"), &[0.3 - 0.1 * (0.5 - 0.25 * weights[0]), -0.5 - 0.1 * (0.5 - 0.25 * weights[1])]);

    // After four steps the means are plain.
    let (step, _) = balanced("slaw()", &CONFLICT, &[("step", vec![4.0]), ("average", vec![0.5, 0.3]), ("second", vec![0.3, 0.2])]);
    let deviation = |mean: f64, second: f64| {
        let (mean, second) = (mean + (0.25 - mean) / 5.0, second + (0.0625 - second) / 5.0);
        (second - mean * mean).sqrt()
    };
    let share = [1.0 / deviation(0.5, 0.3), 1.0 / deviation(0.3, 0.2)];
    close(&step, &sum(share.map(|own| 2.0 * own / (share[0] + share[1]))));

    let (step, after) = balanced("famo()", &CONFLICT, &[("famo.w", vec![0.4, -0.2]), ("last", vec![0.5, 0.2])]);
    let (z, gain) = (softmax([0.4, -0.2]), [(0.5 / known).ln(), (0.2 / known).ln()]);
    let slope = [0, 1].map(|at: usize| z[at] * (gain[at] - dot(z, gain)));
    let moved = [0.4 - 0.025 * (slope[0] + 0.4e-3), -0.2 - 0.025 * (slope[1] - 0.2e-3)];
    close(&state(&after, "famo.w"), &moved);
    close(&step, &sum(softmax(moved)));
}

/// A layer of HSTU, of one sequence of three steps; the feature `which` and the group `X` choose the element that is shown.
fn hstu(times: &str) -> Vec<f64> {
    let text = format!(
        "use std.sequence.hstu_layer\nfeatures {{\n label y: number\n number which\n number X[1..=4]\n seq h = h |> split(\" \") |> vocab |> take_last(3)\n seq times: time = times |> split(\" \") |> aligned(h)\n}}\nmodel m {{\n table items {{ keys: h, dim: 4 }}\n let o = hstu_layer(items[h], max: 3, key_size: 2, value_size: 2, {times})\n predict y = value(sum(einsum(\"l d, d -> l\", o, X) * select(position(o) == which, 1, 0)))\n}}\nobjective {{ y: mse }}\ntrain {{ dense: sgd(lr: 1) }}\n"
    );
    let (spec, built) = recc_tests::build(&text);
    let mut data = draw(&spec, &built, 12, 1);
    let column = |name: &str| spec.columns.iter().position(|column| column.name == name).expect("a column") as u32;
    data.bags.insert(column("h"), vec![vec![1, 2, 3]; 12]);
    data.bags.insert(column("times"), vec![vec![0; 3]; 12]);
    data.entry_numbers.insert(column("times"), vec![vec![0.0, 10.0, 100.0]; 12]);
    data.numbers.insert(column("which"), (0..12).map(|at| f64::from(at / 4)).collect());
    for d in 0..4 {
        data.numbers.insert(column(&format!("X{}", d + 1)), (0..12).map(|at| f64::from(u8::from(at % 4 == d))).collect());
    }
    for (at, variable) in built.variables.iter().enumerate() {
        let values: Vec<f64> = match variable.path.rsplit('.').next().expect("a name") {
            "items" => [vec![0.0; 4], vec![1.0, 0.0, 2.0, -1.0, 0.5, -0.5, 0.0, 1.0, -1.0, 2.0, 0.25, 0.0], vec![0.0; 12]].concat(),
            "w" if variable.shape == [4, 8] => (0..32).map(|at| 0.5 * (1.0 + f64::from(at)).sin()).collect(),
            "w" => (0..8).map(|at| 0.5 * (1.0 + f64::from(at)).cos()).collect(),
            "b" => vec![0.0; 4],
            "by_place" => (0..5).map(|at| 0.01 * f64::from(at)).collect(),
            "by_time" => (0..129).map(|at| 0.02 * f64::from(at)).collect(),
            _ => continue,
        };
        data.variables.insert(VariableId(at as u32), values);
    }
    result(&built, &data, "y")
}

#[test]
fn hstu_attends_pointwise() {
    let plain = [
        0.98537982,
        0.14022850,
        2.16615175,
        -0.96068416,
        0.63195328,
        -0.03173261,
        0.37405863,
        0.93594208,
        -0.97913149,
        2.14481043,
        0.38561431,
        0.00173502,
    ];
    let biased = [
        1.01282061,
        -0.12296800,
        1.85429960,
        -1.03447652,
        0.62151706,
        -0.06876800,
        0.34447423,
        0.94100844,
        -0.97912962,
        2.14482346,
        0.38562652,
        0.00173518,
    ];
    for (found, wanted) in [(hstu("bias: false"), plain), (hstu("times: times"), biased)] {
        for (found, wanted) in found.iter().zip(wanted) {
            assert!((found - wanted).abs() < 1e-6, "{found} is not {wanted}");
        }
    }
}

/// The recurrent unit's states, step by step, of sequences of none to three steps.
#[test]
fn gru_follows_its_equations() {
    let text = "use std.sequence.gru\nfeatures {\n label click: binary\n seq h = h |> split(\" \") |> vocab |> take_last(3)\n}\nmodel m {\n table e { keys: h, dim: 2 }\n let s = gru(e[h], 2)\n predict click = logit(s[2][0] + 10 * s[2][1])\n}\nobjective { click: bce }\ntrain { dense: sgd(lr: 1) }\n";
    let (spec, built) = recc_tests::build(text);
    let data = draw(&spec, &built, 12, 3);
    let variable = |path: &str| {
        let at = built.variables.iter().position(|own| own.path == path).unwrap_or_else(|| panic!("no {path}"));
        data.variables[&VariableId(at as u32)].clone()
    };
    let (rows, w, b, u) =
        (variable("m.e"), variable("m.s.gru.augru.linear.w"), variable("m.s.gru.augru.linear.b"), variable("m.s.gru.augru.w"));
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let bags = data.bags.values().next().expect("the sequence");
    let links = bags.iter().map(|steps| {
        let mut h = [0.0; 2];
        for &step in steps {
            let x = &rows[2 * step..2 * step + 2];
            let given = |column: usize| b[column] + x[0] * w[column] + x[1] * w[6 + column];
            let own = |column: usize| h[0] * u[column] + h[1] * u[6 + column];
            h = [0, 1].map(|at| {
                let (update, reset) = (sigmoid(given(at) + own(at)), sigmoid(given(2 + at) + own(2 + at)));
                (1.0 - update) * h[at] + update * (given(4 + at) + reset * own(4 + at)).tanh()
            });
        }
        h[0] + 10.0 * h[1]
    });
    assert!(bags.iter().any(Vec::is_empty) && bags.iter().any(|steps| steps.len() == 3), "sequences of all lengths");
    close(&result(&built, &data, "click.link"), &links.collect::<Vec<_>>());
}

/// The losses of a softmax over seven rows, of which row 0 is no candidate, with target 2 and negatives 4 and 5, by their definitions.
#[test]
fn losses_of_rankings_are_those_of_their_definitions() {
    let logits = [9.0, 0.5, -0.25, 1.5, 0.75, -1.0, 0.125];
    let loss = |softmax: &str, kind: &str| {
        let text = format!(
            "features {{\n id item = item |> vocab\n number one\n}}\nmodel m {{\n table e {{ keys: item, dim: 1 }}\n param w: f32[1] = ones\n predict item = softmax(w * one, over: e, target: item{softmax})\n}}\nobjective {{ item: {kind} }}\nmetrics {{ report: [] }}\ntrain {{ dense: sgd(lr: 1), tables: sgd(lr: 1) }}\n"
        );
        let (spec, built) = recc_tests::build(&text);
        let mut data = draw(&spec, &built, 1, 1);
        let column = |name: &str| spec.columns.iter().position(|column| column.name == name).expect("a column") as u32;
        data.ids.insert(column("item"), vec![2]);
        data.numbers.insert(column("one"), vec![1.0]);
        if !softmax.is_empty() {
            data.bags.insert(column("item.negatives"), vec![vec![4, 5]]);
        }
        for (at, variable) in built.variables.iter().enumerate() {
            let values = if variable.path == "m.e" { logits.to_vec() } else { vec![1.0] };
            data.variables.insert(VariableId(at as u32), values);
        }
        recc_tests::data::group_rows(&built, &mut data);
        let values = evaluate(&built.step, &data);
        let result = built.step.results.iter().find(|own| own.name == "loss").expect("the loss");
        values[&result.node].flat()[0]
    };
    let softplus = |x: f64| x.exp().ln_1p();
    let log_sum = |of: &[f64]| of.iter().map(|x| x.exp()).sum::<f64>().ln();
    let (hit, missed) = (logits[2], [logits[4], logits[5]]);
    let drawn = ", negatives: 2";
    close(&[loss("", "cross_entropy")], &[log_sum(&logits[1..]) - hit]);
    close(&[loss(drawn, "cross_entropy")], &[log_sum(&[hit, missed[0], missed[1]]) - hit]);
    close(&[loss(drawn, "bce")], &[softplus(-hit) + softplus(missed[0]) + softplus(missed[1])]);
    close(&[loss(drawn, "bpr")], &[(softplus(missed[0] - hit) + softplus(missed[1] - hit)) / 2.0]);
    // Two of five other rows are drawn.
    let beta = 1.0 - 0.75 * (1.0 - 2.0 / 5.0);
    close(&[loss(drawn, "gbce(calibration: 0.75)")], &[(beta * softplus(-hit) + softplus(missed[0]) + softplus(missed[1])) / 3.0]);
}
