//! Random specs: compiled code against the reference, and what formatting leaves as it is.
//!
//! `RECC_GENERATED` sets how many are tried, `RECC_GENERATED_SEED` from which one on; both have defaults that take a minute.

use recc_codegen::Level;
use recc_tests::data::Draw;
use recc_tests::{agree, check, generate};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn specs() -> impl Iterator<Item = (u64, String)> {
    let first = number("RECC_GENERATED_SEED", 1);
    (first..first + number("RECC_GENERATED", 700)).map(|seed| {
        let mut draw = Draw::new(seed);
        let bindings = 3 + draw.below(18);
        (seed, generate::spec(&mut draw, bindings))
    })
}

#[test]
fn generated_specs_agree_with_the_reference() {
    for (seed, text) in specs() {
        let rows = [1, 7, 130][seed as usize % 3];
        let levels: Vec<Level> = Level::ALL.into_iter().filter(|level| *level <= Level::native()).collect();
        let level = levels[seed as usize % levels.len()];
        match std::panic::catch_unwind(|| agree::difference(&text, rows, seed, agree::On::Processor(level))) {
            Ok(None) => {}
            Ok(Some(difference)) => panic!("seed {seed}, {rows} rows, {level:?}: {difference}\n{text}"),
            Err(_) => panic!("seed {seed}, {rows} rows, {level:?}: it stopped at\n{text}"),
        }
    }
}

/// What a graphics processor runs, by the interpreter.
#[test]
fn generated_specs_agree_on_a_device() {
    for (seed, text) in specs().step_by(3) {
        let rows = [1, 7, 40][seed as usize / 3 % 3];
        match std::panic::catch_unwind(|| agree::difference(&text, rows, seed, agree::On::Device)) {
            Ok(None) => {}
            Ok(Some(difference)) => panic!("seed {seed}, {rows} rows: {difference}\n{text}"),
            Err(_) => panic!("seed {seed}, {rows} rows: it stopped at\n{text}"),
        }
    }
}

#[test]
fn formatting_changes_no_graph() {
    for (seed, text) in specs() {
        let formatted = recc_syntax::format(&text);
        assert_eq!(recc_syntax::format(&formatted), formatted, "seed {seed}: formatting twice");
        let resolved = |text: &str| {
            let spec = check("generated.rec", text, &[]).spec.expect("a spec");
            recc_core::build(&spec).map(|built| built.step.to_string()).expect("it builds")
        };
        assert_eq!(resolved(&text), resolved(&formatted), "seed {seed}");
    }
}
