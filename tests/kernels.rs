//! Snapshots of the graph, the loops, the Cranelift IR and the PTX of every library block, at a pinned processor level.
//!
//! `tests/kernels/<module>.<block>.rec` uses one block. The text never depends on the machine.

use libtest_mimic::{Arguments, Failed, Trial};
use recc_codegen::{Level, print_clif};
use recc_core::loops::verify;
use recc_core::plan::Machine;
use std::path::{Path, PathBuf};

fn main() {
    let arguments = Arguments::from_args();
    let folder = recc_tests::root().join("tests/kernels");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("tests/kernels")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "rec"))
        .collect();
    files.sort();
    let mut trials: Vec<Trial> = Vec::new();
    for path in files {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        trials.push(Trial::test(name, move || run(&path)));
    }
    trials.push(Trial::test("every_block_has_a_snapshot", every_block_has_a_snapshot));
    libtest_mimic::run(&arguments, trials).exit();
}

fn run(path: &Path) -> Result<(), Failed> {
    let text = std::fs::read_to_string(path)?;
    let (_, built) = recc_tests::build(&text);
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(path.parent().unwrap_or(Path::new(".")));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let loops: Vec<String> = built.kernels().map(ToString::to_string).collect();
    let mut clif = Vec::new();
    for kernel in built.plans().skip(1).flat_map(|planned| &planned.kernels) {
        let verified = verify(kernel).map_err(|found| format!("{found:?}"))?;
        clif.push(print_clif(verified, Level::V3)?);
    }
    let grouped = built.grouped.as_ref();
    let grouped = grouped.map_or(String::new(), |own| format!("\nonce\n{}\neach\n{}", own.once.0, own.each.0));
    let (_, on_device) = recc_tests::build_for(&text, Machine::Device);
    let ptx = recc_tests::device::module(&on_device.score_plan).summary();
    settings.bind(|| {
        insta::assert_snapshot!(
            format!("{stem}.graph"),
            format!("forward\n{}\nstep\n{}\nscore\n{}{grouped}", built.forward, built.step, built.score)
        );
        insta::assert_snapshot!(format!("{stem}.loops"), loops.join("\n"));
        insta::assert_snapshot!(format!("{stem}.clif"), clif.join("\n"));
        insta::assert_snapshot!(format!("{stem}.ptx"), ptx);
    });
    Ok(())
}

fn every_block_has_a_snapshot() -> Result<(), Failed> {
    let mut missing = Vec::new();
    for entry in std::fs::read_dir(recc_tests::root().join("stdlib"))?.flatten() {
        let path = entry.path();
        let module = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for line in std::fs::read_to_string(&path)?.lines() {
            if let Some(rest) = line.strip_prefix("block ") {
                let block = rest.split('(').next().unwrap_or("");
                let file = recc_tests::root().join(format!("tests/kernels/{module}.{block}.rec"));
                if !file.exists() {
                    missing.push(format!("{module}.{block}"));
                }
            }
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(format!("no spec for {}", missing.join(", ")).into()) }
}
