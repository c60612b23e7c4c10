//! NVIDIA's assembler takes what the compiler writes, for both generations of devices, and needs no memory for registers.
//!
//! The assembler comes from its wheel, into `target/ptxas`; where that cannot be had the test says so and passes, unless `RECC_REQUIRE_PTXAS` is set.

use recc_codegen::{HEADER, called_functions};
use recc_core::plan::Machine;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The release that takes what drivers of CUDA 13.0 take.
const WHEEL: &str = "nvidia-cuda-nvcc==13.0.88";

fn find(folder: &Path) -> Option<PathBuf> {
    let pythons = std::fs::read_dir(folder.join("lib")).ok()?.flatten();
    pythons.map(|python| python.path().join("site-packages/nvidia/cu13/bin/ptxas")).find(|path| path.exists())
}

/// The assembler, installed if it is not there.
fn assembler() -> Result<PathBuf, String> {
    let folder = recc_tests::root().join("target/ptxas");
    if let Some(found) = find(&folder) {
        return Ok(found);
    }
    let run = |command: &mut Command| match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(error.to_string()),
    };
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", "--no-deps", WHEEL]))?;
    find(&folder).ok_or_else(|| "the wheel holds no ptxas".to_owned())
}

/// Registers by function, if the assembler takes the text and spills none.
fn registers(assembler: &Path, text: &str, arch: &str, folder: &Path, name: &str) -> Result<BTreeMap<String, u32>, String> {
    let path = folder.join(format!("{name}.{arch}.ptx"));
    std::fs::write(&path, text).map_err(|error| error.to_string())?;
    let output = Command::new(assembler).arg(format!("-arch={arch}")).arg("-v").arg(&path).args(["-o", "/dev/null"]).output();
    let output = output.map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(said);
    }
    let (mut found, mut function) = (BTreeMap::new(), String::new());
    for line in said.lines() {
        if let Some(name) = line.split("Function properties for ").nth(1) {
            function = name.trim().to_owned();
        } else if line.contains("spill stores") && !line.contains("0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads") {
            return Err(format!("`{function}` spills: {line}"));
        } else if let Some(used) = line.split("Used ").nth(1) {
            let count = used.split(' ').next().and_then(|count| count.parse().ok()).ok_or("registers without a number")?;
            found.insert(function.clone(), count);
        }
    }
    Ok(found)
}

/// Every block's functions, and those of the products that they call.
#[test]
fn the_assembler_takes_every_block() {
    let assembler = match assembler() {
        Ok(assembler) => assembler,
        Err(why) if std::env::var_os("RECC_REQUIRE_PTXAS").is_some() => panic!("there is no ptxas: {why}"),
        Err(why) => {
            eprintln!("not run: there is no ptxas: {why}");
            return;
        }
    };
    let products: BTreeMap<String, String> = called_functions().collect();
    let mut texts: Vec<(String, String)> = Vec::new();
    for path in recc_tests::specs(&recc_tests::root().join("tests/kernels")) {
        let (_, built) = recc_tests::build_for(&std::fs::read_to_string(&path).expect("a spec"), Machine::Device);
        let module = recc_tests::device::module(&built.step_plan).join(recc_tests::device::module(&built.score_plan));
        let own = module.texts.iter().filter(|(name, _)| !products.contains_key(*name));
        let text = own.fold(HEADER.to_owned(), |text, (_, own)| text + "\n" + own);
        texts.push((path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), text));
    }
    assert!(texts.len() > 80, "{} blocks", texts.len());
    texts.extend(products.into_iter().map(|(name, text)| (name, format!("{HEADER}\n{text}"))));
    let folder = tempfile::tempdir().expect("a folder");
    let (next, lines) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let work = || {
        while let Some((name, text)) = texts.get(next.fetch_add(1, Ordering::Relaxed)) {
            let most = ["sm_80", "sm_90"].map(|arch| {
                let found = registers(&assembler, text, arch, folder.path(), name).unwrap_or_else(|why| panic!("{name}, {arch}: {why}"));
                (found.len(), found.values().copied().max().unwrap_or(0))
            });
            let line = format!("{name:<36} {:>9} {:>10} {:>10}", most[0].0, most[0].1, most[1].1);
            lines.lock().expect("lines").insert(name.clone(), line);
        }
    };
    std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(work))));
    let lines: Vec<String> = lines.into_inner().expect("lines").into_values().collect();
    let head = format!("{:<36} {:>9} {:>10} {:>10}", "most registers of a thread", "functions", "sm_80", "sm_90");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(recc_tests::root().join("tests/gpu"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("registers", format!("{head}\n{}", lines.join("\n"))));
}
