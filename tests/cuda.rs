//! Models that were built for a graphics processor, with a stand-in for NVIDIA's driver over an interpreter in place of both.

#[path = "common.rs"]
mod common;

use common::*;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

/// A folder with the stand-in under the driver's name.
fn driver(folder: &Folder) -> PathBuf {
    let own = std::env::current_exe().expect("a test executable");
    let built = own.parent().expect("a folder").join("librecc_gpu.so");
    let at = folder.path("driver");
    std::fs::create_dir_all(&at).expect("a folder");
    // Under all names by which a driver is looked for, so that no real one is found.
    for name in ["libcuda.so", "libcuda.so.1"] {
        std::fs::copy(&built, at.join(name)).unwrap_or_else(|error| panic!("{}: {error}", built.display()));
    }
    at
}

/// A model for both machines.
struct Both {
    folder: Folder,
    cpu: PathBuf,
    cuda: PathBuf,
    driver: PathBuf,
}

impl Both {
    fn build(spec: &str) -> Both {
        let folder = Folder::new();
        let text = folder.write("model.rec", spec);
        let build = |name: &str, flags: &[&str]| {
            let out = folder.path(name);
            ok(Command::new(RECC).arg("build").arg(&text).arg("-o").arg(&out).args(flags));
            out
        };
        let (cpu, cuda) = (build("on_cpu", &["--target", "cpu"]), build("on_cuda", &["--target", "cuda"]));
        let driver = driver(&folder);
        Both { folder, cpu, cuda, driver }
    }

    fn cuda(&self) -> Command {
        let mut command = Command::new(&self.cuda);
        command.env("LD_LIBRARY_PATH", &self.driver).current_dir(self.folder.0.path());
        command
    }

    fn cpu(&self) -> Command {
        let mut command = Command::new(&self.cpu);
        command.current_dir(self.folder.0.path());
        command
    }
}

fn losses(result: &Value) -> Vec<f64> {
    let epochs = result["epochs"].as_array().expect("epochs").iter();
    epochs.map(|epoch| epoch["train_loss"].as_f64().expect("a loss")).collect()
}

#[track_caller]
fn near(a: &[f64], b: &[f64], most: f64) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= most * b.abs().max(1.0), "{a} and {b}");
    }
}

fn scores(out: &std::process::Output) -> Vec<f64> {
    String::from_utf8_lossy(&out.stdout).lines().skip(1).map(|line| line.parse().expect("a score")).collect()
}

fn example(name: &str) -> String {
    std::fs::read_to_string(root().join(format!("examples/{name}.rec"))).expect("an example")
}

/// Both machines train to the same state within rounding, and read one another's.
#[test]
fn the_quickstart_trains_and_scores_alike_on_both() {
    // Several batches, the last one smaller.
    let both = Both::build(&example("quickstart").replace("batch:  1024", "batch: 128"));
    let train = |mut command: Command, out: &str, threads: &str| {
        command.args(["train", "--limit", "600", "--epochs", "2", "--json", "--out", out, "--threads", threads]);
        losses(&json(&ok(&mut command)))
    };
    let (on_cpu, on_cuda) = (train(both.cpu(), "cpu.ck", "2"), train(both.cuda(), "cuda.ck", "2"));
    near(&on_cuda, &on_cpu, 1e-5);
    // Work that is done as late as it may be, and copies as early as they may be.
    let mut early = both.cuda();
    early.env("RECC_GPU_ORDER", "early");
    assert_eq!(train(early, "again.ck", "1"), on_cuda, "two runs differ");
    let rows: String = (0..50).map(|at| format!("{},{},{},{},{}|{}\n", 20 + at, at % 7, at % 11, at % 24, at % 5, at % 3)).collect();
    both.folder.write("rows.csv", format!("age,user,item,hour,tags\n{rows}"));
    let predict = |mut command: Command, weights: &str| scores(&ok(command.args(["predict", "--data", "rows.csv", "--weights", weights])));
    for weights in ["cpu.ck", "cuda.ck"] {
        near(&predict(both.cuda(), weights), &predict(both.cpu(), weights), 1e-6);
    }
    assert_eq!(predict(both.cuda(), "again.ck"), predict(both.cuda(), "cuda.ck"), "two runs differ");
    // Each goes on where the other stopped.
    let resume = |mut command: Command, from: &str| {
        command.args(["train", "--limit", "600", "--epochs", "3", "--json", "--resume", from, "--out", &format!("{from}.on")]);
        losses(&json(&ok(&mut command)))
    };
    near(&resume(both.cuda(), "cpu.ck"), &resume(both.cpu(), "cuda.ck"), 1e-5);
}

/// Sequences of any length, aligned times, attention, rows that are drawn.
#[test]
fn sequences_train_alike_on_both() {
    let spec = example("next_item").replace("rows: 5_000", "rows: 60").replace("dim: 64", "dim: 16").replace("layers: 4", "layers: 1");
    let both = Both::build(
        &spec.replace("negatives: 128", "negatives: 8").replace("take_last(200)", "take_last(20)").replace("max: 200", "max: 20"),
    );
    let train = |mut command: Command, out: &str| {
        command.args(["train", "--limit", "60", "--epochs", "2", "--json", "--out", out]);
        json(&ok(&mut command))
    };
    let (on_cpu, on_cuda) = (train(both.cpu(), "cpu.ck"), train(both.cuda(), "cuda.ck"));
    near(&losses(&on_cuda), &losses(&on_cpu), 1e-4);
    let ndcg = |result: &Value| result["metrics"]["next"]["ndcg(10)"].as_f64().expect("a figure");
    near(&[ndcg(&on_cuda)], &[ndcg(&on_cpu)], 0.02);
}

/// Weights inside the executable, as they are and in few bytes.
#[test]
fn scorers_agree_on_both() {
    for storage in ["f32", "f16", "int8"] {
        let both = Both::build(&SPEC.replace("train     {", &format!("train     {{ storage: {storage},")));
        let rows: String = (0..80).map(|at| format!("{},{},{},{},{}\n", at % 2, 20 + at, at % 7, at % 11, at % 5)).collect();
        both.folder.write("rows.csv", format!("click,age,user,item,tags\n{rows}"));
        ok(both.cpu().args(["train", "--train", "rows.csv", "--epochs", "1", "--out", "ck", "--valid", "rows.csv"]));
        ok(&mut both.folder.recc(&["build", "model.rec", "-o", "scorer", "--target", "cuda", "--weights", "ck"]));
        let mut scorer = Command::new(both.folder.path("scorer"));
        scorer.env("LD_LIBRARY_PATH", &both.driver).current_dir(both.folder.0.path());
        let on_cuda = scores(&ok(scorer.args(["predict", "--data", "rows.csv"])));
        near(&on_cuda, &scores(&ok(both.cpu().args(["predict", "--data", "rows.csv", "--weights", "ck"]))), 1e-6);
    }
}

#[test]
fn what_is_missing_is_said() {
    let both = Both::build(SPEC);
    let rows: String = (0..20).map(|at| format!("{},{},{},{},{}\n", at % 2, 20 + at, at % 7, at % 11, at % 5)).collect();
    both.folder.write("rows.csv", format!("click,age,user,item,tags\n{rows}"));
    let train = |command: &mut Command| fails(1, command.args(["train", "--train", "rows.csv", "--epochs", "1", "--out", "ck"]));
    contains(&train(both.cuda().env("RECC_GPU_COUNT", "0")), &["built for NVIDIA GPUs", "finds none", "--target cpu"]);
    contains(&train(both.cuda().env("RECC_GPU_MEMORY", "10000")), &["no room for", "of its 10.0 kB are free"]);
    contains(&train(both.cuda().env("RECC_GPU_DRIVER", "10020")), &["driver is of CUDA 10.2", "needs 11.0"]);
    // Where there is a driver, it is not taken either: the files of its names are none.
    let none = both.folder.path("none");
    std::fs::create_dir(&none).expect("a folder");
    ["libcuda.so", "libcuda.so.1"].iter().for_each(|name| std::fs::write(none.join(name), "no library").expect("a file"));
    contains(&train(both.cuda().env("LD_LIBRARY_PATH", &none)), &["there is no driver (libcuda.so.1)", "--target cpu"]);
    // What a model is needs no device.
    contains(&String::from_utf8_lossy(&ok(both.cuda().env_remove("LD_LIBRARY_PATH").arg("info")).stdout), &["for cuda (sm_80)"]);
    let profile = ok(both.cuda().args(["bench", "--phase", "train", "--batch", "16", "--steps", "1", "--vocab", "9", "--profile"]));
    contains(&String::from_utf8_lossy(&profile.stdout), &["ms a step", "recc_step_update_small_users"]);
    let recc = |flags: &[&str]| fails(2, both.folder.recc(&["build", "model.rec", "-o", "x", "--target", "cuda"]).args(flags));
    contains(&recc(&["--cpu", "native"]), &["--cpu", "leave one of them out"]);
}

/// What goes wrong in a step is told as on a processor, with the parameters that the device holds.
#[test]
fn a_loss_that_is_no_number_ends_training() {
    let both = Both::build(&SPEC.replace("adam(lr: 1e-2), tables: adam(lr: 1e-2), clip: norm(10)", "sgd(lr: 1e6), tables: sgd(lr: 1e6)"));
    let rows: String = (0..200).map(|at| format!("{},{},{},{},{}\n", at % 2, 20 + at, at % 7, at % 11, at % 5)).collect();
    both.folder.write("rows.csv", format!("click,age,user,item,tags\n{rows}"));
    let train = |mut command: Command, out: &str| fails(1, command.args(["train", "--train", "rows.csv", "--epochs", "1", "--out", out]));
    let said = train(both.cuda(), "cuda.ck");
    contains(&said, &["epoch 1, batch", "the loss is not a finite number", "lower the learning rate"]);
}

/// The script for a real GPU, at sizes that the interpreter runs in seconds.
#[test]
fn the_script_for_gpus_runs() {
    let folder = Folder::new();
    let out = folder.path("out");
    let mut script = Command::new(root().join("tests/gpu/run.sh"));
    script.env("RECC", RECC).env("TINY", "1").env("LD_LIBRARY_PATH", driver(&folder)).env_remove("DATA").env_remove("PEERS");
    ok(script.arg(&out));
    let read = |name: &str| std::fs::read_to_string(out.join(name)).expect("results");
    contains(&read("results.md"), &["| quickstart | ", "| next_item_all | ", "| quickstart | bf16 | train | 32 |", "seconds in all"]);
    let results: Value = serde_json::from_str(&read("results.json")).expect("JSON");
    assert_eq!(results["speed"].as_array().map(Vec::len), Some(4), "{results}");
}
