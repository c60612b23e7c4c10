//! What the tests of commands share: folders, runs, and a small model.
#![allow(dead_code, reason = "each test binary uses a part")]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub(crate) const RECC: &str = env!("CARGO_BIN_EXE_recc");

pub(crate) const SPEC: &str = "use std.dense.{linear, mlp}
features {
    label  click: binary
    number age = age |> fill(0) |> log1p
    id     user = user |> vocab
    id     item = item |> hash(50)
    ids    tags = tags |> split(\"|\") |> vocab
    key    user_id = column(\"user\")
}
model small {
    table users { keys: user, dim: 4 }
    table items { keys: item, dim: 4 }
    table words { keys: tags, dim: 4 }
    let x = concat(users[user], items[item], mean(words[tags], axis: tags), age)
    predict click = logit(mlp(x, [16], dropout: 0.1) |> linear(1))
}
objective { click: bce }
metrics   { report: [auc, logloss, ne, calibration, gauc(by: user_id)] }
train     { batch: 64, epochs: 4, dense: adam(lr: 1e-2), tables: adam(lr: 1e-2), clip: norm(10), stop: patience(3, on: auc(click)), seed: 3 }
";

pub(crate) struct Folder(pub(crate) tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Folder(tempfile::tempdir().expect("a temporary folder"))
    }
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("a file");
        path
    }
    /// The compiler, run in the folder.
    pub(crate) fn recc(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(RECC);
        command.current_dir(self.0.path()).args(arguments);
        command
    }
    /// Builds a spec.
    pub(crate) fn build(&self, name: &str, spec: &str) -> PathBuf {
        let spec = self.write(&format!("{name}.rec"), spec);
        let out = self.path(name);
        ok(Command::new(RECC).arg("build").arg(&spec).arg("-o").arg(&out));
        out
    }
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(crate) fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).env("NO_COLOR", "1").output().expect("the command starts")
}

#[track_caller]
pub(crate) fn ok(command: &mut Command) -> Output {
    let out = output(command);
    assert!(out.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&out.stderr));
    out
}

/// Runs a command that fails with a status, and gives what it says.
#[track_caller]
pub(crate) fn fails(status: i32, command: &mut Command) -> String {
    let out = output(command);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(status), "{command:?}\n{text}");
    assert!(!text.contains("panicked") && !text.contains("internal error"), "{text}");
    assert!(status == 2 || text.contains("help:"), "no help line: {text}");
    text
}

#[track_caller]
pub(crate) fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}

#[track_caller]
pub(crate) fn json(out: &Output) -> Value {
    serde_json::from_slice(&out.stdout).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out.stdout)))
}

/// A run in the background, which ends with the test.
pub(crate) struct Running(pub(crate) std::process::Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Running(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts"))
    }
    pub(crate) fn kill(&mut self) {
        self.0.kill().expect("is killed");
        self.0.wait().expect("ends");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for a state of files.
#[track_caller]
pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !holds() {
        assert!(begin.elapsed().as_secs() < 120, "{what} did not come");
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
}

/// Rows in which user and age decide.
pub(crate) fn rows(count: usize, seed: u64) -> Vec<[String; 5]> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = |n: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % n
    };
    (0..count)
        .map(|_| {
            let (user, item, age) = (below(20), below(30), below(60));
            let click = u64::from(user % 3 + age / 20 + below(3) > 3);
            let tags: Vec<String> = (0..below(4)).map(|_| format!("t{}", below(9))).collect();
            [
                click.to_string(),
                if age == 7 { String::new() } else { age.to_string() },
                format!("u{user}"),
                format!("i{item}"),
                tags.join("|"),
            ]
        })
        .collect()
}

pub(crate) fn text(rows: &[[String; 5]], separator: &str) -> String {
    let header = ["click", "age", "user", "item", "tags"].join(separator);
    std::iter::once(header).chain(rows.iter().map(|row| row.join(separator))).map(|line| line + "\n").collect()
}

pub(crate) fn weights(checkpoint: &Path) -> Vec<u8> {
    let current: Value = serde_json::from_slice(&std::fs::read(checkpoint.join("current.json")).expect("current.json")).expect("JSON");
    std::fs::read(checkpoint.join(current["last"].as_str().expect("a name")).join("weights.safetensors")).expect("weights")
}

pub(crate) struct Trained {
    pub(crate) folder: Folder,
    pub(crate) model: PathBuf,
    pub(crate) train: PathBuf,
    pub(crate) test: PathBuf,
    pub(crate) checkpoint: PathBuf,
}

/// The small model, trained.
pub(crate) fn trained() -> Trained {
    let folder = Folder::new();
    let model = folder.build("small", SPEC);
    let train = folder.write("train.csv", text(&rows(1500, 1), ","));
    let valid = folder.write("valid.csv", text(&rows(300, 2), ","));
    let test = folder.write("test.csv", text(&rows(300, 3), ","));
    let checkpoint = folder.path("ck");
    let out = ok(Command::new(&model)
        .args(["train", "--json", "--train"])
        .arg(&train)
        .arg("--valid")
        .arg(&valid)
        .arg("--test")
        .arg(&test)
        .arg("--out")
        .arg(&checkpoint));
    let result = json(&out);
    assert!(result["metrics"]["click"]["auc"].as_f64().expect("auc") > 0.8, "{result}");
    let losses: Vec<f64> =
        result["epochs"].as_array().expect("epochs").iter().map(|epoch| epoch["train_loss"].as_f64().expect("loss")).collect();
    assert!(losses.windows(2).all(|pair| pair[1] < pair[0]), "{losses:?}");
    Trained { folder, model, train, test, checkpoint }
}
