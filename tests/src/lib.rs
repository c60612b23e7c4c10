//! What the tests share: small models from text, random data for them, the reference's answer and the compiled code's.

pub mod agree;
pub mod data;
pub mod device;
pub mod generate;
pub mod native;

use recc_core::plan::Machine;
use recc_core::spec::Spec;
use recc_core::{Built, Checked, Override, Sources};
use std::path::{Path, PathBuf};

/// Columns of all kinds, for specs of tests.
pub const FEATURES: &str =
    "use std.dense.{batch_norm, dropout, layer_norm, linear, mlp}\nuse std.interaction.{cross, cross_v1, fm, pairwise_dots}\n
features {
    label y: binary
    label t: number
    number a
    number X[1..=5]
    id C[1..=3] = C |> vocab
    id u = u |> vocab
    ids tags = tags |> split(\"|\") |> vocab
    seq h = h |> split(\" \") |> vocab_of(u) |> take_last(4)
    seq dwell: number = dwell |> split(\" \") |> aligned(h) |> tanh |> standardize
    seq times: time = times |> split(\" \") |> aligned(h)
    ids heavy = heavy |> split(\"|\") |> weighted(\":\") |> vocab
    time now
    key who
    seq other = other |> split(\" \") |> vocab |> take(3)
}
";

/// The project's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

/// All specs in a folder and those inside it, in order.
pub fn specs(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(specs(&path));
        } else if path.extension().is_some_and(|ending| ending == "rec") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A spec's text beside the library's.
pub fn sources(name: &str, text: &str) -> Sources {
    let mut files = Vec::new();
    let mut modules: Vec<PathBuf> =
        std::fs::read_dir(root().join("stdlib")).expect("stdlib/").flatten().map(|entry| entry.path()).collect();
    modules.sort();
    for path in modules {
        let module = format!("std.{}", path.file_stem().unwrap_or_default().to_string_lossy());
        files.push((module, std::fs::read_to_string(&path).expect("a library module")));
    }
    // Files that tests use lie beside the library's.
    let read = |path: &Path| std::fs::read_to_string(root().join("tests").join(path)).map_err(|_| "there is no such file".to_owned());
    Sources::gather(Path::new(name), text.to_owned(), files, &mut |path| read(path))
}

/// Checks a text.
pub fn check(name: &str, text: &str, overrides: &[Override]) -> Checked {
    recc_core::check(&sources(name, text), overrides)
}

/// The spec of a text without errors, and everything below it, for a processor.
#[track_caller]
pub fn build(text: &str) -> (Spec, Built) {
    build_for(text, Machine::Processor)
}

/// The spec of a text without errors, and everything below it.
#[track_caller]
pub fn build_for(text: &str, machine: Machine) -> (Spec, Built) {
    let checked = check("test.rec", text, &[]);
    let errors: Vec<_> = checked.problems.iter().filter(|problem| problem.severity == recc_core::problem::Severity::Error).collect();
    assert!(errors.is_empty(), "{text}\n{errors:#?}");
    let spec = checked.spec.expect("a spec without errors");
    let built = recc_core::build_for(&spec, machine).expect("a spec without errors builds");
    (spec, built)
}
