//! The commands as a user types them: build, train, evaluate, score, resume, and every kind of wrong input.

#[path = "common.rs"]
mod common;

use common::*;
use serde_json::Value;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[test]
fn the_quickstart_learns_what_was_planted() {
    let out = ok(Command::new(RECC)
        .arg("run")
        .arg(root().join("examples/quickstart.rec"))
        .args(["--", "--limit", "30000", "--epochs", "3", "--json"]));
    let result = json(&out);
    let (auc, best) = (result["metrics"]["click"]["auc"].as_f64().expect("auc"), result["planted_best"]["auc"].as_f64().expect("best"));
    assert!(auc > 0.6 && auc < best, "{auc} of {best}");
}

#[test]
fn every_example_trains_on_a_small_slice() {
    let ids = |names: &[&str], n: usize| {
        (0..n).map(|row| names.iter().enumerate().map(|(at, _)| format!("{}", row * (at + 3) % 11)).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let frappe = ["label", "user", "item", "daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city"];
    let film = ["label", "level", "user", "item", "gender", "age", "occupation", "zip3", "year", "genres", "pos"];
    let folder = Folder::new();
    let write = |name: &str, header: Option<String>, rows: Vec<Vec<String>>, separator: &str| {
        let lines = rows.into_iter().enumerate().map(|(at, mut row)| {
            row[0] = (at * 7 % 3 % 2).to_string();
            row.join(separator)
        });
        folder.write(name, header.into_iter().chain(lines).map(|line| line + "\n").collect::<String>())
    };
    let frappe_file = write("frappe.csv", Some(frappe.join(",")), ids(&frappe, 500), ",");
    let film_file = write("film.csv", Some(film.join(",")), ids(&film, 500), ",");
    let census = [
        "y_income y_never_married age wage_per_hour capital_gains capital_losses stock_dividends weeks_worked sex class_worker det_ind_code det_occ_code education",
        "enrolled_edu major_ind_code major_occ_code race hisp_origin union_member full_or_part_emp tax_filer_stat det_hh_summ num_emp",
        "country_self citizenship own_or_self vet_benefits",
    ];
    let census: Vec<&str> = census.iter().flat_map(|line| line.split(' ')).collect();
    let mut people = ids(&census, 500);
    people.iter_mut().for_each(|row| {
        row[1] = (row[5].len() % 2).to_string();
        row[8] = if row[2].len() == 1 { "Female" } else { "Male" }.to_owned();
    });
    let census_file = write("census.csv", Some(census.join(",")), people, ",");
    let criteo_file = write("criteo.tsv", None, ids(&[""; 40], 500), "\t");
    let event_file = write("events.csv", None, (0..500).map(|at| vec![String::new(), (at * at % 31).to_string()]).collect(), " ");
    let mut seen = 0;
    for entry in std::fs::read_dir(root().join("examples")).expect("examples/").flatten() {
        let name = entry.path().file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let data = match name.as_str() {
            // Another test runs it; these draw their rows.
            "quickstart" => continue,
            "cetnet" | "next_item" => Path::new(""),
            "criteo" => criteo_file.as_path(),
            "ml1m_ctr" | "ml1m_cetnet" => film_file.as_path(),
            "amazon_sasrec" | "ml1m_bert4rec" | "ml1m_hstu" | "ml1m_sasrec" => event_file.as_path(),
            "census_cohorts" | "census_balance" => census_file.as_path(),
            other if other.starts_with("frappe") => frappe_file.as_path(),
            other => panic!("no data for the example {other}"),
        };
        let model = folder.path(&name);
        ok(Command::new(RECC).arg("build").arg(entry.path()).arg("-o").arg(&model));
        let mut train = Command::new(&model);
        train.args(["train", "--json", "--epochs", "2", "--limit", "400", "--out"]).arg(folder.path(&format!("{name}.ck")));
        if !data.as_os_str().is_empty() {
            train.arg("--train").arg(data);
        }
        // What is left out one by one comes from the training file, and a ranking has no loss there.
        let events = data == event_file || name == "next_item";
        if !events && !data.as_os_str().is_empty() {
            train.arg("--test").arg(data);
        }
        let result = json(&ok(&mut train));
        let figure = if events { &result["metrics"]["next"]["mrr"] } else { &result["loss"] };
        assert!(figure.as_f64().expect("a figure").is_finite(), "{result}");
        seen += 1;
    }
    assert!(seen >= 6);
}

#[test]
fn real_data_reach_known_results() {
    let data = std::env::var_os("RECC_DATA").map_or_else(|| root().join("../shared/data"), PathBuf::from);
    if !data.join("frappe/train.csv.gz").exists() {
        assert!(std::env::var_os("RECC_REQUIRE_DATA").is_none(), "{} holds no data, and RECC_REQUIRE_DATA is set", data.display());
        let _ = writeln!(std::io::stderr(), "skipped: {} holds no data (set RECC_DATA to its folder)", data.display());
        return;
    }
    let folder = Folder::new();
    let part = |set: &str, name: &str| data.join(set).join(name);
    let train = |example: &str, set: &str, prefix: &str, epochs: &str| -> f64 {
        let model = folder.path(example);
        ok(Command::new(RECC).arg("build").arg(root().join(format!("examples/{example}.rec"))).arg("-o").arg(&model));
        let mut command = Command::new(&model);
        command.args(["train", "--json", "--epochs", epochs]).arg("--out").arg(folder.path(&format!("{example}.ck")));
        for (flag, name) in [("--train", "train"), ("--valid", "valid"), ("--test", "test")] {
            command.arg(flag).arg(part(set, &format!("{prefix}{name}.csv.gz")));
        }
        let result = json(&ok(&mut command));
        let metrics = result["metrics"].as_object().expect("metrics").values().next().expect("a prediction").clone();
        metrics["auc"].as_f64().expect("auc")
    };
    // After two epochs, well below what full training reaches, and far above chance.
    let deepfm = train("frappe_deepfm", "frappe", "", "2");
    assert!(deepfm > 0.95, "{deepfm}");
    let film = train("ml1m_ctr", "ml1m", "ctr_", "2");
    assert!(film > 0.87, "{film}");
}

#[test]
fn threads_and_resuming_do_not_change_a_bit() {
    let folder = Folder::new();
    let model = folder.build("small", SPEC);
    let train = folder.write("train.csv", text(&rows(1500, 1), ","));
    let run = |out: &str, extra: &[&str]| {
        let path = folder.path(out);
        ok(Command::new(&model).arg("train").arg("--train").arg(&train).arg("--out").arg(&path).args(extra));
        weights(&path)
    };
    let one = run("one", &["--threads", "1", "--epochs", "4"]);
    assert_eq!(one, run("two", &["--threads", "2", "--epochs", "4"]));
    assert_eq!(one, run("three", &["--threads", "3", "--epochs", "4"]));
    run("half", &["--threads", "2", "--epochs", "2"]);
    let half = folder.path("half");
    let half = half.to_string_lossy();
    assert_eq!(one, run("half", &["--resume", &half, "--epochs", "4"]));
    run("quarter", &["--epochs", "1"]);
    let quarter = folder.path("quarter");
    assert_eq!(one, run("moved", &["--resume", &quarter.to_string_lossy(), "--epochs", "4", "--threads", "1"]));
    assert_ne!(one, run("other", &["--seed", "4", "--epochs", "4"]));
}

/// Averages of gradients are part of the state, those of tables for each of their members.
#[test]
fn averages_of_gradients_are_kept() {
    let own = trained();
    let spec = SPEC
        .replace("use std.dense", "use std.balance.moco\nuse std.dense")
        .replace("    number age", "    label  old: binary = column(\"click\")\n    number age")
        .replace("    predict click", "    predict old = logit(linear(x, 1))\n    predict click")
        .replace(
            "objective { click: bce }",
            "objective { click: bce, old: bce(weight: 0.5), balance: moco(over: parameters, average: 0.3) }",
        )
        .replace("    id     user = user |> vocab\n    id     item = item |> hash(50)\n", "    id     C[user, item] = C |> vocab\n")
        .replace("{ keys: user, dim: 4 }", "{ keys: C, dim: 4 }")
        .replace("users[user], items[item]", "flatten(users[C])")
        .replace("    table items { keys: item, dim: 4 }\n", "");
    let folder = Folder::new();
    let model = folder.build("small", &spec);
    let run = |name: &str, args: &[&str]| {
        ok(Command::new(&model).args(["train", "--train"]).arg(&own.train).arg("--out").arg(folder.path(name)).args(args));
        weights(&folder.path(name))
    };
    let whole = run("whole", &["--epochs", "4", "--threads", "1"]);
    run("half", &["--epochs", "2"]);
    assert_eq!(whole, run("half", &["--resume", &folder.path("half").to_string_lossy(), "--epochs", "4", "--threads", "2"]));
}

#[test]
fn two_builds_are_the_same_bytes() {
    let folder = Folder::new();
    let read = |path: PathBuf| std::fs::read(path).expect("an executable");
    let first = read(folder.build("a", SPEC));
    assert!(first == read(folder.build("b", SPEC)), "two builds differ");
    // Profilers tell files apart by the id in this note, of a name of 4 bytes and an id of 20.
    let note = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";
    let id = |bytes: &[u8]| {
        let at = bytes.windows(note.len()).position(|window| window == note).expect("a build id") + note.len();
        bytes[at..at + 20].to_vec()
    };
    let other = read(folder.build("c", &SPEC.replace("[16]", "[17]")));
    assert_ne!(id(&first), id(&other));
    assert_ne!(id(&first), id(&read(PathBuf::from(RECC))));
}

#[test]
fn reformatting_and_reordering_keep_the_identity() {
    let folder = Folder::new();
    let hash = |name: &str, spec: &str| json(&ok(Command::new(folder.build(name, spec)).args(["info", "--json"])))["hash"].clone();
    let first = hash("a", SPEC);
    let swapped = SPEC.replace(
        "    table users { keys: user, dim: 4 }\n    table items { keys: item, dim: 4 }\n",
        "    table items { keys: item,   dim: 4 } // the items\n\n    table users { keys: user, dim: 4 }\n",
    );
    assert_ne!(swapped, SPEC);
    assert_eq!(first, hash("b", &swapped));
    let features = SPEC.replace(
        "    id     user = user |> vocab\n    id     item = item |> hash(50)\n",
        "    id     item = item |> hash(50)\n    id     user = user |> vocab\n",
    );
    assert_ne!(features, SPEC);
    assert_eq!(first, hash("c", &features));
    assert_ne!(first, hash("d", &SPEC.replace("[16]", "[17]")));
}

#[test]
fn scores_are_the_same_from_a_folder_and_from_inside() {
    let own = trained();
    let scorer = own.folder.path("scorer");
    ok(Command::new(RECC).arg("build").arg(own.folder.path("small.rec")).arg("-o").arg(&scorer).arg("--weights").arg(&own.checkpoint));
    let from_folder = ok(Command::new(&own.model).args(["predict", "--weights"]).arg(&own.checkpoint).arg("--data").arg(&own.test)).stdout;
    let from_inside = ok(Command::new(&scorer).args(["predict", "--threads", "1", "--data"]).arg(&own.test)).stdout;
    assert_eq!(from_folder, from_inside);
    let lines = String::from_utf8(from_folder).expect("text");
    assert_eq!(lines.lines().next(), Some("click"));
    assert_eq!(lines.lines().count(), 301);
    contains(&fails(2, Command::new(&scorer).args(["predict", "--data"]).arg(&own.test).arg("-o").arg(&own.test)), &["data itself"]);
    // The same rows in another order, without labels, give the same scores.
    let shuffled: Vec<String> = std::fs::read_to_string(&own.test)
        .expect("rows")
        .lines()
        .skip(1)
        .collect::<Vec<_>>()
        .into_iter()
        .map(|line| line.split_once(',').expect("cells").1.to_owned())
        .rev()
        .collect();
    let unlabelled = own.folder.write("new.csv", format!("age,user,item,tags\n{}\n", shuffled.join("\n")));
    let again = String::from_utf8(ok(Command::new(&scorer).args(["predict", "--data"]).arg(&unlabelled)).stdout).expect("text");
    let reversed: Vec<&str> = again.lines().skip(1).collect::<Vec<_>>().into_iter().rev().collect();
    assert_eq!(lines.lines().skip(1).collect::<Vec<_>>(), reversed);
    let evaluated =
        json(&ok(Command::new(&own.model).args(["eval", "--json", "--weights"]).arg(&own.checkpoint).arg("--data").arg(&own.test)));
    assert_eq!(evaluated["rows"], 300);
    assert!(evaluated["metrics"]["click"]["gauc(by: user_id)"].is_number(), "{evaluated}");
}

#[test]
fn a_reader_of_scores_may_go_away() {
    let own = trained();
    // More than the writer holds back, so that it meets the closed pipe between two rows.
    let mut command = Command::new(&own.model);
    command.args(["predict", "--weights"]).arg(&own.checkpoint).arg("--data").args([&own.test; 8]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    drop(child.stdout.take());
    let out = child.wait_with_output().expect("ended");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn weights_in_few_bytes_score_nearly_as_they_were_trained() {
    let own = trained();
    let scores = |model: &Path, data: &Path| -> Vec<f64> {
        let out = ok(Command::new(model).args(["predict", "--weights"]).arg(&own.checkpoint).arg("--data").arg(data)).stdout;
        String::from_utf8(out).expect("text").lines().skip(1).map(|line| line.parse().expect("a score")).collect()
    };
    let exact = scores(&own.model, &own.test);
    let text = std::fs::read_to_string(&own.test).expect("rows");
    let one = own.folder.write("one.csv", text.lines().take(2).map(|line| format!("{line}\n")).collect::<String>());
    for storage in ["f16", "int8"] {
        let spec = SPEC.replace("batch: 64", &format!("storage: {storage}, batch: 64"));
        let model = own.folder.build(storage, &spec);
        let found = scores(&model, &own.test);
        assert_ne!(exact, found, "{storage}");
        let largest = exact.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(exact.len() == found.len() && largest < 0.02, "{storage}: {largest}");
        assert_eq!(scores(&model, &one)[0], found[0], "{storage}: one row alone");
        let checkpoint = own.folder.path(&format!("ck_{storage}"));
        ok(Command::new(&model).args(["train", "--train"]).arg(&own.train).arg("--valid").arg(&own.test).arg("--out").arg(&checkpoint));
    }
}

/// A weight that has no 16-bit float stops training where validation would score with it; the epoch is kept.
#[test]
fn a_weight_too_large_for_its_storage_loses_no_epoch() {
    let own = trained();
    let spec = SPEC.replace("table users { keys: user, dim: 4 }", "table users { keys: user, dim: 4, init: constant(1e6), storage: f16 }");
    let model = own.folder.build("large", &spec);
    let checkpoint = own.folder.path("ck_large");
    let mut train = Command::new(&model);
    train.args(["train", "--train"]).arg(&own.train).arg("--valid").arg(&own.test).arg("--out").arg(&checkpoint);
    contains(&fails(1, &mut train), &["`small.users`", "row 0, column 0", "65504", "int8"]);
    let exact = own.folder.build("exact", &spec.replace(", storage: f16", ""));
    ok(Command::new(&exact).args(["eval", "--weights"]).arg(&checkpoint).arg("--data").arg(&own.test));
}

#[test]
fn every_format_gives_the_same_model() {
    use arrow_array::{ArrayRef, RecordBatch, StringArray};
    let folder = Folder::new();
    let model = folder.build("small", SPEC);
    let rows = rows(400, 1);
    let csv = text(&rows, ",");
    let plain = folder.write("a.csv", &csv);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(csv.as_bytes()).expect("gzip");
    let gz = folder.write("a.csv.gz", gzip.finish().expect("gzip"));
    let zst = folder.write("a.csv.zst", zstd::encode_all(csv.as_bytes(), 1).expect("zstd"));
    let tsv = folder.write("a.tsv", text(&rows, "\t"));
    let column = |at: usize| std::sync::Arc::new(StringArray::from(rows.iter().map(|row| row[at].clone()).collect::<Vec<_>>())) as ArrayRef;
    let batch =
        RecordBatch::try_from_iter(["click", "age", "user", "item", "tags"].into_iter().enumerate().map(|(at, name)| (name, column(at))))
            .expect("a batch");
    let parquet = folder.path("a.parquet");
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(std::fs::File::create(&parquet).expect("a file"), batch.schema(), None).expect("parquet");
    writer.write(&batch).and_then(|()| writer.close().map(|_| ())).expect("parquet");
    let mut results = Vec::new();
    for (at, data) in [&plain, &gz, &zst, &tsv, &parquet].into_iter().enumerate() {
        let out = folder.path(&format!("ck{at}"));
        ok(Command::new(&model).args(["train", "--epochs", "1", "--train"]).arg(data).arg("--out").arg(&out));
        results.push(weights(&out));
    }
    let out = folder.path("ck-stdin");
    let stdin = std::fs::File::open(&gz).expect("a file");
    let status = Command::new(&model)
        .args(["train", "--epochs", "1", "--train", "-", "--out"])
        .arg(&out)
        .stdin(stdin)
        .stderr(Stdio::null())
        .status()
        .expect("starts");
    assert!(status.success());
    results.push(weights(&out));
    // Two files are read as one.
    let (head, tail) = rows.split_at(150);
    let (first, second) = (folder.write("b.csv", text(head, ",")), folder.write("c.csv", text(tail, ",")));
    let out = folder.path("ck-two");
    ok(Command::new(&model).args(["train", "--epochs", "1", "--train"]).args([&first, &second]).arg("--out").arg(&out));
    results.push(weights(&out));
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn libsvm_is_read() {
    let folder = Folder::new();
    let spec = "data { format: libsvm, columns: [y, f[1..=3]] }\nfeatures { label y: binary\n number f[1..=3] = f |> fill(0) }\nmodel m { param w: f32[3] = zeros\n predict y = logit(sum(w * f)) }\nobjective { y: bce }\ntrain { batch: 8, epochs: 20, dense: adam(lr: 0.1) }\n";
    let model = folder.build("m", spec);
    let lines: String = (0..64).map(|at| if at % 2 == 0 { "1 1:2 3:0.5\n" } else { "0 2:1 # a remark\n" }).collect();
    let data = folder.write("a.libsvm", lines);
    let result = json(&ok(Command::new(&model)
        .args(["train", "--json", "--train"])
        .arg(&data)
        .arg("--test")
        .arg(&data)
        .arg("--out")
        .arg(folder.path("ck"))));
    assert_eq!(result["metrics"]["y"]["auc"], 1.0);
    let bad = folder.write("b.libsvm", "1 1:2\n0 9:1\n");
    contains(
        &fails(1, Command::new(&model).args(["train", "--train"]).arg(&bad).arg("--out").arg(folder.path("ck2"))),
        &["row 2", "\"9\""],
    );
}

#[test]
fn wrong_data_are_named() {
    let folder = Folder::new();
    let model = folder.build("small", SPEC);
    let good = text(&rows(100, 1), ",");
    let cases: [(&str, String, &[&str]); 14] = [
        ("cells.csv", good.replacen("\n", "\n1,2,3\n", 3), &["cells.csv", "row", "3 cells", "5 columns"]),
        ("column.csv", good.replacen("user", "usr", 1), &["column.csv", "\"user\"", "click, age, usr"]),
        ("number.csv", format!("{good}1,old,u1,i1,\n"), &["number.csv, row 101", "\"age\"", "\"old\"", "is not a number"]),
        ("label.csv", format!("{good}2,3,u1,i1,\n"), &["label.csv, row 101", "\"click\"", "\"2\"", "0 or 1"]),
        ("no_label.csv", format!("{good},3,u1,i1,\n"), &["no_label.csv, row 101", "empty label"]),
        ("nan.csv", format!("{good}1,nan,u1,i1,\n"), &["nan.csv, row 101", "\"nan\"", "finite"]),
        ("infinite.csv", format!("{good}1,1e999,u1,i1,\n"), &["infinite.csv, row 101", "\"1e999\""]),
        ("empty.csv", String::new(), &["empty.csv", "is empty"]),
        ("header.csv", "click,age,user,item,tags\n".to_owned(), &["header.csv", "no rows"]),
        ("domain.csv", format!("{good}1,-2,u1,i1,\n"), &["domain.csv, row 101", "\"age\"", "\"-2\"", "above -1", "max(0)"]),
        ("case.csv", good.replacen("user", "User", 1), &["\"user\"", "there is \"User\""]),
        ("semicolons.csv", good.replace(',', ";"), &["semicolons.csv", "one cell", "commas"]),
        ("headless.csv", "1,2,3,4,5\n".repeat(3).replacen("1,2,3,4,5", "1,2,3,4,6", 1), &["headless.csv", "numbers, not names"]),
        ("wide.csv", "\u{feff}".to_owned() + &good.replace("age", "\"age\"").replacen("age", "aeg", 1), &["\"age\"", "aeg"]),
    ];
    for (name, data, parts) in cases {
        let path = folder.write(name, data);
        contains(
            &fails(1, Command::new(&model).args(["train", "--train"]).arg(&path).arg("--out").arg(folder.path(&format!("{name}.ck")))),
            parts,
        );
        assert!(!folder.path(&format!("{name}.ck")).exists(), "{name}: a failed run leaves a folder");
    }
    contains(
        &fails(1, Command::new(&model).args(["train", "--train"]).arg(folder.path("")).arg("--out").arg(folder.path("ck"))),
        &["is a folder"],
    );
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text(&rows(5000, 1), ",").as_bytes()).expect("gzip");
    let whole = gzip.finish().expect("gzip");
    let cut = folder.write("cut.csv.gz", &whole[..whole.len() / 2]);
    contains(
        &fails(1, Command::new(&model).args(["train", "--train"]).arg(&cut).arg("--out").arg(folder.path("ck"))),
        &["cut.csv.gz", "after row"],
    );
    let parquet = std::fs::read(scores_parquet(&folder)).expect("parquet");
    let cut = folder.write("cut.parquet", &parquet[..parquet.len() / 2]);
    contains(
        &fails(1, Command::new(&model).args(["train", "--train"]).arg(&cut).arg("--out").arg(folder.path("ck"))),
        &["cut.parquet", "no whole parquet file"],
    );
    let fake = folder.write("fake.parquet", b"PAR1 nothing PAR1");
    contains(
        &fails(1, Command::new(&model).args(["train", "--train"]).arg(&fake).arg("--out").arg(folder.path("ck"))),
        &["fake.parquet", "parquet"],
    );
    let missing = folder.path("missing.csv");
    contains(
        &fails_without_help(1, Command::new(&model).args(["train", "--train"]).arg(&missing).arg("--out").arg(folder.path("ck"))),
        &["missing.csv"],
    );
    let named = folder.write("data.txt", &good);
    contains(
        &fails(1, Command::new(&model).args(["train", "--train"]).arg(&named).arg("--out").arg(folder.path("ck"))),
        &["data.txt", "format"],
    );
}

/// A whole parquet file.
fn scores_parquet(folder: &Folder) -> PathBuf {
    let own = trained();
    let path = folder.path("scores.parquet");
    ok(Command::new(&own.model).args(["predict", "--weights"]).arg(&own.checkpoint).arg("--data").arg(&own.test).arg("-o").arg(&path));
    contains(
        &fails(2, Command::new(&own.model).args(["predict", "--data"]).arg(&own.test).args(["-o", "scores.txt"])),
        &["scores.txt", ".parquet"],
    );
    path
}

fn fails_without_help(status: i32, command: &mut Command) -> String {
    let out = output(command);
    assert_eq!(out.status.code(), Some(status));
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn wrong_weights_are_refused() {
    let own = trained();
    let eval = |model: &Path, weights: &Path| {
        let mut command = Command::new(model);
        command.args(["eval", "--weights"]).arg(weights).arg("--data").arg(&own.test);
        command
    };
    let other = own.folder.build("other", &SPEC.replace("[16]", "[8]"));
    contains(&fails(1, &mut eval(&other, &own.checkpoint)), &["was another", "here:", "there:"]);
    contains(&fails(1, &mut eval(&own.model, &own.folder.path("nothing"))), &["no checkpoint"]);
    let current: Value = serde_json::from_slice(&std::fs::read(own.checkpoint.join("current.json")).expect("current")).expect("JSON");
    let best = own.checkpoint.join(current["best"].as_str().expect("best"));
    for name in ["weights.safetensors", "vocab.parquet", "transforms.json", "progress.json"] {
        let path = best.join(name);
        let bytes = std::fs::read(&path).expect("a file");
        let mut damaged = bytes.clone();
        let at = damaged.len() / 2;
        damaged[at] ^= 0x40;
        std::fs::write(&path, damaged).expect("a file");
        contains(&fails(1, &mut eval(&own.model, &own.checkpoint)), &[name, "damaged"]);
        std::fs::write(&path, bytes).expect("a file");
    }
    ok(&mut eval(&own.model, &own.checkpoint));
    contains(
        &fails(2, Command::new(&own.model).args(["train", "--train"]).arg(&own.train).arg("--out").arg(&own.checkpoint)),
        &["holds a checkpoint already", "--resume"],
    );
    contains(&fails(2, Command::new(&own.model).args(["predict", "--data"]).arg(&own.test)), &["--weights"]);
}

#[test]
fn a_killed_run_leaves_the_last_state_whole() {
    let folder = Folder::new();
    let model = folder.build("small", SPEC);
    let train = folder.write("train.csv", text(&rows(3000, 1), ","));
    let out = folder.path("ck");
    let mut whole = 0;
    for pause in [30u64, 60, 90, 120, 150, 180, 210, 240] {
        let _ = std::fs::remove_dir_all(&out);
        let mut child = Command::new(&model)
            .args(["train", "--epochs", "100000", "--train"])
            .arg(&train)
            .arg("--out")
            .arg(&out)
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        std::thread::sleep(std::time::Duration::from_millis(pause));
        child.kill().expect("is killed");
        child.wait().expect("ends");
        if out.join("current.json").exists() {
            whole += 1;
            ok(Command::new(&model).args(["eval", "--weights"]).arg(&out).arg("--data").arg(&train));
            let current: Value = serde_json::from_slice(&std::fs::read(out.join("current.json")).expect("current")).expect("JSON");
            let last = out.join(current["last"].as_str().expect("last"));
            let progress: Value = serde_json::from_slice(&std::fs::read(last.join("progress.json")).expect("progress")).expect("JSON");
            let next = (progress["epoch"].as_u64().expect("epoch") + 1).to_string();
            ok(Command::new(&model)
                .args(["train", "--epochs", &next, "--train"])
                .arg(&train)
                .arg("--resume")
                .arg(&out)
                .arg("--out")
                .arg(&out));
        }
    }
    assert!(whole > 0, "no run lived long enough to save");
}

#[test]
fn a_run_killed_inside_a_save_goes_on_from_the_state_before() {
    let folder = Folder::new();
    // A table of 64 MB makes a save last long enough to be met.
    let model = folder.build("large", &SPEC.replace("hash(50)", "hash(4000000)"));
    let train = folder.write("train.csv", text(&rows(300, 1), ","));
    let out = folder.path("ck");
    let inside = |path: &Path| {
        let names = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.ends_with(".partial")).any(|name| name.starts_with(".generation"))
    };
    // A save may end between the look and the kill: then once more, from the beginning.
    for _ in 0..20 {
        let _ = std::fs::remove_dir_all(&out);
        let mut run =
            Running::start(Command::new(&model).args(["train", "--epochs", "100000", "--train"]).arg(&train).arg("--out").arg(&out));
        wait_for("a second save", || out.join("current.json").exists() && inside(&out));
        run.kill();
        if inside(&out) {
            break;
        }
    }
    assert!(inside(&out), "every save was over before the process was killed");
    ok(Command::new(&model).args(["eval", "--weights"]).arg(&out).arg("--data").arg(&train));
    let current: Value = serde_json::from_slice(&std::fs::read(out.join("current.json")).expect("current")).expect("JSON");
    let last = out.join(current["last"].as_str().expect("last")).join("progress.json");
    let progress: Value = serde_json::from_slice(&std::fs::read(last).expect("progress")).expect("JSON");
    let next = (progress["epoch"].as_u64().expect("epoch") + 1).to_string();
    ok(Command::new(&model).args(["train", "--epochs", &next, "--train"]).arg(&train).arg("--resume").arg(&out));
    let straight = folder.path("straight");
    ok(Command::new(&model).args(["train", "--epochs", &next, "--train"]).arg(&train).arg("--out").arg(&straight));
    assert!(weights(&out) == weights(&straight), "the resumed run differs from an uninterrupted one");
    assert!(!inside(&out), "what the killed save left is still there");
}

#[test]
fn two_runs_do_not_share_a_folder() {
    let folder = Folder::new();
    let model = folder.build("small", SPEC);
    let train = folder.write("train.csv", text(&rows(3000, 1), ","));
    let out = folder.path("ck");
    let run = |folder: &str| {
        let mut command = Command::new(&model);
        command.args(["train", "--epochs", "100000", "--train"]).arg(&train).arg(folder).arg(&out);
        command
    };
    let mut first = Running::start(&mut run("--out"));
    wait_for("the first save", || out.join("current.json").exists());
    let said = fails(2, &mut run("--out")) + &fails(2, &mut run("--resume"));
    first.kill();
    assert_eq!(said.matches("another run is writing here").count(), 2, "{said}");
}

#[test]
fn weights_are_those_of_a_model_not_of_its_training() {
    let own = trained();
    let edited = own
        .folder
        .build("edited", &SPEC.replace("epochs: 4", "epochs: 9").replace("logloss, ne, ", "").replace("adam(lr: 1e-2)", "sgd(lr: 0.1)"));
    ok(Command::new(&edited).args(["eval", "--weights"]).arg(&own.checkpoint).arg("--data").arg(&own.test));
    contains(
        &fails(1, Command::new(&edited).args(["train", "--train"]).arg(&own.train).arg("--resume").arg(&own.checkpoint)),
        &["was another", "Sgd"],
    );
    let mut other = rows(1500, 1);
    other.swap(3, 4);
    let other = own.folder.write("other.csv", text(&other, ","));
    contains(
        &fails(1, Command::new(&own.model).args(["train", "--epochs", "9", "--train"]).arg(&other).arg("--resume").arg(&own.checkpoint)),
        &["other rows"],
    );
    let empty = own.folder.path("empty");
    std::fs::create_dir(&empty).expect("a folder");
    contains(
        &fails(1, Command::new(&own.model).args(["train", "--train"]).arg(&own.train).arg("--resume").arg(&empty)),
        &["no checkpoint"],
    );
    assert!(empty.is_dir(), "a folder of the user's was removed");
}

/// A state of a model that looks at nothing is read by one that does, whose predictions are the same.
#[test]
fn units_of_exposed_values_are_looked_at() {
    let own = trained();
    let folder = Folder::new();
    let spec = SPEC
        .replace(
            "predict click = logit(mlp(x, [16], dropout: 0.1) |> linear(1))",
            "let h = mlp(x, [16], dropout: 0.1)\n expose h\n predict click = logit(linear(h, 1))",
        )
        .replace("gauc(by: user_id)]", "gauc(by: user_id)], inspect: [small.h]");
    let plain = folder.build("plain", &spec.replace(", inspect: [small.h]", ""));
    let looks = folder.build("looks", &spec);
    let checkpoint = folder.path("ck");
    ok(Command::new(&plain).args(["train", "--epochs", "2", "--train"]).arg(&own.train).arg("--out").arg(&checkpoint));
    let eval =
        |model: &Path| json(&ok(Command::new(model).args(["eval", "--json", "--weights"]).arg(&checkpoint).arg("--data").arg(&own.test)));
    let (without, with) = (eval(&plain), eval(&looks));
    assert!(without["activations"].is_null());
    assert_eq!(without["metrics"], with["metrics"]);
    let units = &with["activations"]["small.h"];
    let figure = |name: &str| units[name].as_f64().unwrap_or_else(|| panic!("no {name} in {units}"));
    assert_eq!(figure("units"), 16.0);
    assert!(
        (0.0..1.0).contains(&figure("dead")) && (1.0..=16.0).contains(&figure("used")) && (1.0..=16.0).contains(&figure("effective_rank"))
    );
}

#[test]
fn columns_that_say_nothing_are_remarked() {
    let folder = Folder::new();
    let spec = "features { label click: binary\n number price\n number height\n number weight = weight |> log1p\n id user = user |> vocab }\nmodel m { table users { keys: user, dim: 2 }\n predict click = logit(sum(users[user]) + price + height + weight) }\nobjective { click: bce }\ntrain { epochs: 1, batch: 4 }\n";
    let model = folder.build("m", spec);
    let said = |name: &str, text: &str| {
        let data = folder.write(&format!("{name}.csv"), text);
        let mut train = Command::new(&model);
        let output = ok(train.arg("train").arg("--train").arg(&data).arg("--out").arg(folder.path(name)));
        String::from_utf8(output.stderr)
            .expect("text")
            .lines()
            .filter(|line| line.starts_with("warning"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let odd = said("odd", "click,price,height,weight,user\n0,3,1,5000,a\n0,-2500.5,1,2,a\n");
    assert_eq!(
        odd,
        [
            "warning: every `click` is 0: nothing can be learned from it",
            "warning: `price` reaches ±2500.5 and has no transform; `|> standardize` behind its column brings it to the size of others",
            "warning: every `height` is 1, which says nothing",
            "warning: every `user` is the same, which says nothing",
        ]
    );
    assert!(said("even", "click,price,height,weight,user\n0,3,1,5000,a\n1,900,2,2,b\n").is_empty());
}

#[test]
fn a_full_disk_is_reported_and_nothing_is_lost() {
    let own = trained();
    let before = weights(&own.checkpoint);
    let script = format!(
        "trap '' XFSZ; ulimit -f 8; exec {} train --epochs 9 --train {} --resume {} --out {}",
        own.model.display(),
        own.train.display(),
        own.checkpoint.display(),
        own.checkpoint.display()
    );
    let out = output(Command::new("bash").arg("-c").arg(script));
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{text}");
    contains(&text, &["cannot write"]);
    assert_eq!(before, weights(&own.checkpoint));
    ok(Command::new(&own.model).args(["eval", "--weights"]).arg(&own.checkpoint).arg("--data").arg(&own.test));
}

#[test]
fn a_loss_that_is_not_finite_stops_training() {
    let folder = Folder::new();
    let spec = SPEC
        .replace("dense: adam(lr: 1e-2)", "dense: sgd(lr: 1e6)")
        .replace("[16], dropout: 0.1", "[16, 16, 16], activation: identity")
        .replace("clip: norm(10), ", "");
    let model = folder.build("wild", &spec);
    let train = folder.write("train.csv", text(&rows(1500, 1), ","));
    let said = fails(1, Command::new(&model).args(["train", "--epochs", "300", "--train"]).arg(&train).arg("--out").arg(folder.path("ck")));
    contains(&said, &["epoch", "batch", "not a finite number", "small."]);
}

#[test]
fn wrong_usage_has_its_own_status() {
    fails_without_help(2, Command::new(RECC).arg("biuld"));
    fails_without_help(2, Command::new(RECC).args(["build", "a.rec"]));
    fails_without_help(2, Command::new(RECC).args(["build", "a.rec", "-o", "x", "--cpu", "z80"]));
    fails_without_help(2, Command::new(RECC).args(["check", "a.rec", "-D", "A"]));
    contains(&fails(2, Command::new(RECC).args(["explain", "E9999"])), &["E9999"]);
    contains(&fails_without_help(1, Command::new(RECC).args(["check", "no/such.rec"])), &["no/such.rec"]);
    let folder = Folder::new();
    let binary = folder.write("binary.rec", [0xff, 0xfe, 0x00]);
    contains(&fails(1, Command::new(RECC).arg("check").arg(&binary)), &["UTF-8"]);
    let model = folder.build("small", SPEC);
    fails_without_help(2, Command::new(&model).arg("trian"));
    fails_without_help(2, Command::new(&model).args(["train", "--epochs", "0", "--out", "x"]));
    contains(&fails(2, Command::new(&model).args(["train", "--out"]).arg(folder.path("ck"))), &["--train"]);
}

#[test]
fn what_cannot_be_measured_or_read_is_said() {
    let folder = Folder::new();
    let columns = folder.build("columns", &format!("data {{ columns: [click, age, user, item, tags] }}\n{SPEC}"));
    let headed = folder.write("headed.csv", text(&rows(50, 1), ","));
    contains(
        &fails(1, Command::new(&columns).args(["train", "--train"]).arg(&headed).arg("--out").arg(folder.path("ck"))),
        &["headed.csv", "the first line names the columns"],
    );
    let model = folder.build("small", SPEC);
    let one_class: Vec<[String; 5]> = rows(300, 2).into_iter().filter(|row| row[0] == "1").collect();
    let valid = folder.write("valid.csv", text(&one_class, ","));
    contains(
        &fails(
            1,
            Command::new(&model).args(["train", "--train"]).arg(&headed).arg("--valid").arg(&valid).arg("--out").arg(folder.path("ck")),
        ),
        &["auc(click) of the validation data is not defined"],
    );
    contains(&fails(2, Command::new(&model).args(["train", "--train", "-", "--valid", "-", "--out", "ck"])), &["given twice"]);
    contains(&fails(2, Command::new(RECC).args(["emit", "x.rec", "--stage", "loop", "--format", "dot"])), &["only graphs are drawn"]);
}

#[test]
fn levels_are_printed_and_do_not_depend_on_the_place() {
    let folder = Folder::new();
    let spec = folder.write("small.rec", SPEC);
    for stage in ["ast", "spec", "graph", "step", "score", "loop", "plan", "clif", "asm"] {
        let print = || ok(Command::new(RECC).args(["emit", "--stage", stage]).arg(&spec)).stdout;
        let first = print();
        assert!(first.len() > 500, "{stage}");
        assert_eq!(first, print(), "{stage}");
        assert!(!String::from_utf8_lossy(&first).contains(&*folder.0.path().to_string_lossy()), "{stage}");
    }
    let dot = ok(Command::new(RECC).args(["emit", "--stage", "graph", "--format", "dot"]).arg(&spec)).stdout;
    contains(&String::from_utf8_lossy(&dot), &["digraph", "matmul"]);
    contains(&fails(2, Command::new(RECC).args(["emit", "--stage", "loop", "--kernel", "none"]).arg(&spec)), &["recc_step_"]);
}

/// The mean and the deviation that a checkpoint keeps of a column.
fn learned(checkpoint: &Path, column: &str) -> (f64, f64) {
    let folders = std::fs::read_dir(checkpoint).expect("the checkpoint").flatten();
    let text = folders.filter_map(|entry| std::fs::read_to_string(entry.path().join("transforms.json")).ok()).next().expect("transforms");
    let own = &serde_json::from_str::<Value>(&text).expect("JSON")[column];
    (own["mean"].as_f64().expect("a mean"), own["deviation"].as_f64().expect("a deviation"))
}

/// Of a sequence's numbers those count that are taken; what stands for an empty one is a number like others.
#[test]
fn numbers_of_sequences_are_filled_and_standardized() {
    let folder = Folder::new();
    let spec = "use std.dense.linear\nfeatures {\n label click: binary\n seq seen = seen |> split(\"|\") |> vocab |> take_last(2)\n seq dwell: number = dwell |> split(\"|\") |> aligned(seen) |> fill(7) |> standardize\n}\nmodel m {\n table e { keys: seen, dim: 2 }\n predict click = logit(linear(mean(concat(e[seen], dwell), axis: seen), 1))\n}\nobjective { click: bce }\n";
    let model = folder.build("steps", spec);
    // Taken are 2 and 7, 7, nothing, and 1 and 3.
    let data = folder.write("rows.csv", "click,seen,dwell\n1,a|b|c,100|2|\n0,b,\n1,,\n0,a|c,1|3\n");
    let checkpoint = folder.0.path().join("ck");
    let train = |data: &Path, out: &Path| {
        let mut command = Command::new(&model);
        command.arg("train").arg("--train").arg(data).arg("--valid").arg(data).args(["--epochs", "1", "--out"]).arg(out);
        command
    };
    ok(&mut train(&data, &checkpoint));
    let (mean, deviation) = learned(&checkpoint, "dwell");
    assert!((mean - 4.0).abs() < 1e-12 && (deviation - 6.4f64.sqrt()).abs() < 1e-12, "{mean}, {deviation}");
    let bad = folder.write("bad.csv", "click,seen,dwell\n1,a|b,1|x\n");
    contains(&fails(1, &mut train(&bad, &folder.0.path().join("other"))), &["bad.csv, row 1, column \"dwell\": \"x\" is not a number"]);
}

/// `standardize` learns the mean and the deviation of what the steps before it give.
#[test]
fn numbers_are_standardized_behind_other_steps() {
    let folder = Folder::new();
    let spec = SPEC.replace("age |> fill(0) |> log1p", "age |> fill(0) |> max(0) |> log1p |> standardize");
    let model = folder.build("small", &spec);
    // log1p of these: 0, 0 and 3.
    let rows = ["0,-5,a,x,t", "1,0,b,y,t", "1,19.085536923187668,a,y,t"];
    let data = folder.write("rows.csv", format!("click,age,user,item,tags\n{}\n", rows.join("\n")));
    let checkpoint = folder.0.path().join("ck");
    ok(Command::new(&model)
        .arg("train")
        .arg("--train")
        .arg(&data)
        .arg("--valid")
        .arg(&data)
        .args(["--epochs", "1", "--out"])
        .arg(&checkpoint));
    let (mean, deviation) = learned(&checkpoint, "age");
    assert!((mean - 1.0).abs() < 1e-6 && (deviation - 2f64.sqrt()).abs() < 1e-6, "{mean}, {deviation}");
    // The model itself refuses what has no value there.
    let broken = folder.build("broken", &spec.replace("max(0) |> log1p", "exp |> exp"));
    let other = folder.0.path().join("other");
    let text = fails(1, Command::new(broken).arg("train").arg("--train").arg(&data).arg("--valid").arg(&data).arg("--out").arg(other));
    contains(&text, &["rows.csv, row 3, column \"age\"", "no finite value before `standardize`"]);
}

#[test]
fn the_best_state_is_by_a_metric_that_its_prediction_has() {
    let folder = Folder::new();
    let spec = |train: &str| {
        format!(
            "features {{\n label stay: number\n label click: binary\n number age\n}}\nmodel m {{\n predict stay = value(age)\n predict click = logit(age)\n}}\nobjective {{ stay: mse, click: bce }}\n{train}\n"
        )
    };
    for (train, wanted) in [
        ("", "best: auc of click"),
        ("metrics { report: [rmse, auc] }", "best: rmse of stay"),
        ("train { stop: patience(2, on: logloss(click)) }", "best: logloss of click"),
    ] {
        let path = folder.write("best.rec", spec(train));
        contains(&String::from_utf8_lossy(&ok(Command::new(RECC).args(["check", "--resolved"]).arg(path)).stdout), &[wanted]);
    }
}

/// The counts that PyTorch gives for the same model (3.42 million operations to train on an example, 1.14 to score it).
#[test]
fn costs_are_those_of_the_peers_model() {
    let spec = root().join("benches/models/deepfm.rec");
    let text = String::from_utf8(ok(Command::new(RECC).args(["check", "--cost"]).arg(spec)).stdout).expect("text");
    contains(&text, &["571,423 parameters", "rows of 16", "64 bytes each, with the optimizer's state 192 bytes", "3.43 M", "1.14 M"]);
    let folder = Folder::new();
    let hashed = folder.write("hashed.rec", SPEC.replace("hash(50)", "hash(1000)"));
    contains(&String::from_utf8_lossy(&ok(Command::new(RECC).args(["check", "--cost"]).arg(hashed)).stdout), &["1,001 rows of"]);
}

#[test]
fn speed_is_measured_on_drawn_input() {
    let folder = Folder::new();
    let model = folder.build("small", SPEC);
    for phase in ["train", "score"] {
        let result = json(&ok(
            Command::new(&model).args(["bench", "--phase", phase, "--batch", "256", "--steps", "5", "--vocab", "1000", "--json"])
        ));
        for key in ["samples_per_s", "ms_per_step", "p50", "p99", "peak_rss_bytes", "start_ms"] {
            assert!(result[key].as_f64().expect(key) > 0.0, "{key}: {result}");
        }
    }
}

#[test]
fn a_profile_accounts_for_every_kernel() {
    let folder = Folder::new();
    let model = folder.build("small", SPEC);
    let bench = |more: &[&str]| {
        let mut command = Command::new(&model);
        command.args(["bench", "--phase", "train", "--batch", "256", "--steps", "5", "--vocab", "100,50"]).args(more);
        command
    };
    let result = json(&ok(&mut bench(&["--profile", "--json"])));
    let kernels = result["profile"]["kernels"].as_array().expect("kernels");
    let sum = |key: &str| kernels.iter().filter_map(|kernel| kernel[key].as_f64()).sum::<f64>();
    // What goes through the entries of a bag says that it is counted for one.
    assert!(
        kernels.iter().any(|kernel| kernel["at_least"] == true) && kernels.iter().any(|kernel| kernel["at_least"] == false),
        "{result}"
    );
    assert!((sum("share") - 1.0).abs() < 1e-9, "{result}");
    assert!(sum("gflop_per_s") > 0.0 && sum("gbyte_per_s") > 0.0, "{result}");
    assert!(sum("ms_per_step") < 1.1 * result["ms_per_step"].as_f64().expect("a step"), "{result}");
    let text = ok(&mut bench(&["--profile"])).stdout;
    contains(&String::from_utf8_lossy(&text), &["recc_step_", "of peak", "GB/s", "others", "beside the kernels", ">: more than that"]);
    contains(&fails(2, bench(&["--vocab", "1,2,3,4,5"]).arg("--json")), &["--vocab gives 7 sizes, and the model has 2"]);
}

/// A state for other data and another spec: rows of values that both know stay, and all that has the same path and shape.
#[test]
fn a_warm_start_keeps_what_diff_says() {
    let folder = Folder::new();
    let (first, second) = (rows(400, 1), rows(600, 9));
    let old = folder.write("old.csv", text(&first, ","));
    // Other users come, in another order, and some are gone.
    let grown: Vec<[String; 5]> = second
        .into_iter()
        .map(|mut row| {
            if row[2].ends_with('1') {
                row[2] = format!("new{}", row[2]);
            }
            row
        })
        .rev()
        .collect();
    let new = folder.write("new.csv", text(&grown, ","));
    let model = folder.build("model", SPEC);
    let still = SPEC.replace("adam(lr: 1e-2)", "sgd(lr: 1e-12)").replace("mlp(x, [16], dropout: 0.1)", "mlp(x, [16], dropout: 0)");
    let same = folder.build("same", &still);
    let checkpoint = folder.path("ck");
    ok(Command::new(&model).args(["train", "--train"]).arg(&old).arg("--out").arg(&checkpoint));
    let warm = folder.path("warm");
    let out = ok(Command::new(&same)
        .args(["train", "--epochs", "1", "--train"])
        .arg(&new)
        .arg("--warm-start")
        .arg(&checkpoint)
        .arg("--out")
        .arg(&warm));
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    contains(&said, &["7 of 7 parameters kept", "small.users: ", "small.words: "]);
    // Rows of which every value was known score as before, though all values are numbered in another way.
    let known = folder.write("known.csv", text(&first.iter().filter(|row| !row[2].ends_with('1')).cloned().collect::<Vec<_>>(), ","));
    let scores = |model: &Path, weights: &Path| {
        let out = ok(Command::new(model).args(["predict", "--weights"]).arg(weights).arg("--data").arg(&known)).stdout;
        String::from_utf8_lossy(&out).lines().skip(1).map(|line| line.parse::<f64>().expect("a score")).collect::<Vec<_>>()
    };
    let (before, after) = (scores(&model, &checkpoint), scores(&same, &warm));
    assert!(before.len() > 100 && before.iter().zip(&after).all(|(a, b)| (a - b).abs() < 1e-6), "{before:?} {after:?}");
    let wider = folder.write("wider.rec", SPEC.replace("mlp(x, [16]", "mlp(x, [24]").replace("hash(50)", "hash(60)"));
    let said = ok(Command::new(RECC).arg("diff").arg(&checkpoint).arg(&wider)).stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    contains(
        &said,
        &[
            "small.users",
            "vocabulary of user",
            "Hash { buckets: 50 } became Hash { buckets: 60 }",
            "[13, 16] became [13, 24]",
            "keeps 3 of 7",
        ],
    );
    let out = fails(
        1,
        Command::new(&same)
            .args(["train", "--train"])
            .arg(&new)
            .arg("--warm-start")
            .arg(folder.path("none"))
            .arg("--out")
            .arg(folder.path("x")),
    );
    contains(&out, &["none", "no checkpoint"]);
}

#[test]
fn parts_of_numbers_index_small_tables() {
    let Trained { folder, train, .. } = trained();
    let trained_by = |name: &str, changes: [(&str, &str); 2]| {
        let spec = changes.iter().fold(SPEC.to_owned(), |spec, (from, to)| {
            assert!(spec.contains(from), "{from}");
            spec.replacen(from, to, 1)
        });
        let (model, checkpoint) = (folder.build(name, &spec), folder.path(&format!("{name}-ck")));
        ok(Command::new(&model).args(["train", "--epochs", "1", "--train"]).arg(&train).arg("--out").arg(&checkpoint));
        (model, checkpoint)
    };
    let (_, whole) = trained_by("whole", [("", ""), ("", "")]);
    // Parts that are all of a number change no bit.
    let (_, same) = trained_by("same", [("user |> vocab", "user |> vocab |> quotient(1)"), ("hash(50)", "hash(50) |> remainder(1000)")]);
    assert!(weights(&whole) == weights(&same), "the whole number as a part");
    // 20 users by 4 are 5 quotients, and each table has row 0; both halves read one dictionary.
    let halves = [
        (
            "id     user = user |> vocab",
            "id     low = column(\"user\") |> vocab |> remainder(4)\n    id user = user |> vocab_of(low) |> quotient(4)",
        ),
        ("let x = concat(users[user]", "table lows { keys: low, dim: 4, init: 1 }\n    let x = concat(users[user] * lows[low]"),
    ];
    let (_, small) = trained_by("small_tables", halves);
    let header = String::from_utf8_lossy(&weights(&small)).into_owned();
    for (table, rows) in [("users", 6), ("lows", 5)] {
        let own = header.split(&format!("\"small.{table}\":")).nth(1).and_then(|own| own.split('}').next()).unwrap_or_default();
        contains(own, &[&format!("[{rows},4]")]);
    }
    let said = ok(Command::new(RECC).arg("diff").args([&small, &small])).stdout;
    contains(&String::from_utf8_lossy(&said), &["small.lows", "begins anew: a vocabulary learned again"]);
    // Rows of whole values are kept by a dictionary that a part of it owns.
    let (again, _) = trained_by(
        "owned",
        [("user |> vocab", "user |> vocab |> quotient(4)"), ("item |> hash(50)", "column(\"user\") |> vocab_of(user)")],
    );
    let from = folder.path("owned-ck");
    let warm = Command::new(again)
        .args(["train", "--epochs", "1", "--train"])
        .arg(&train)
        .arg("--warm-start")
        .arg(from)
        .arg("--out")
        .arg(folder.path("warm"))
        .output();
    contains(&String::from_utf8_lossy(&warm.expect("a run").stderr), &["small.items: 21 of 21 rows"]);
}
