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
