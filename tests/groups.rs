//! Cohorts, ensembles and balanced tasks from the text to the scores, and the commands that write specs.

#[path = "common.rs"]
mod common;

use common::*;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// The small model with cohorts and auxiliary objectives, and losses of some rows.
fn cohort_spec() -> String {
    let plain = SPEC.replace("    predict click", "    expose x\n    predict click");
    let lines = "cohort old = raw(age) >= quantile(age, 0.7)\ncohort regulars = (user in [\"u1\", \"u2\"] or user_id == \"u3\") and not old\ncohort tagged = \"t1\" in tags\n";
    let auxiliary = "auxiliary old_click { on: small.x, label: click and old, head: mlp(_, [8]) |> linear(1) }\n";
    plain
        .replace(
            "objective { click: bce }",
            &format!("{lines}{auxiliary}objective {{ click: bce, old_click: bce(weight: 0.2, where: tagged or old) }}"),
        )
        .replace("gauc(by: user_id)]", "gauc(by: user_id)], per: [old, regulars, tagged]")
}

#[test]
fn metrics_are_those_of_each_cohort_and_objectives_for_them_leave_the_scorer_alone() {
    let folder = Folder::new();
    let (with, without) = (folder.build("with", &cohort_spec()), folder.build("without", SPEC));
    let data = rows(1500, 1);
    let train = folder.write("train.csv", text(&data, ","));
    let checkpoint = folder.path("ck");
    let mut command = Command::new(&with);
    let result =
        json(&ok(command.args(["train", "--json", "--train"]).arg(&train).arg("--test").arg(&train).arg("--out").arg(&checkpoint)));
    let age = |row: &[String; 5]| row[1].parse().unwrap_or(0u32);
    let mut ages: Vec<u32> = data.iter().map(age).collect();
    ages.sort_unstable();
    let bound = ages[(0.7 * ages.len() as f64).ceil() as usize - 1];
    let count = |holds: &dyn Fn(&[String; 5]) -> bool| data.iter().filter(|row| holds(row)).count() as u64;
    let old = |row: &[String; 5]| age(row) >= bound;
    let regular = |row: &[String; 5]| ["u1", "u2", "u3"].contains(&row[2].as_str()) && !old(row);
    let tagged = |row: &[String; 5]| row[4].split('|').any(|tag| tag == "t1");
    for (name, wanted) in [("old", count(&old)), ("regulars", count(&regular)), ("tagged", count(&tagged))] {
        let own = &result["cohorts"][name];
        assert_eq!(own["rows"].as_u64(), Some(wanted), "{name}: {own}");
        assert!(wanted > 20 && own["click"]["auc"].as_f64().is_some_and(|auc| auc > 0.6), "{name}: {own}");
    }
    // The weights serve the spec without objectives for cohorts, which gives the same scores to the last bit.
    let scores = |model: &Path| ok(Command::new(model).args(["predict", "--weights"]).arg(&checkpoint).arg("--data").arg(&train)).stdout;
    assert_eq!(scores(&with), scores(&without));
    // And weights of that spec serve this one, but for the quantile that they have not learned.
    let plain = folder.path("plain");
    ok(Command::new(&without).args(["train", "--epochs", "1", "--train"]).arg(&train).arg("--out").arg(&plain));
    ok(Command::new(&with).args(["predict", "--weights"]).arg(&plain).arg("--data").arg(&train));
    let said = fails(1, Command::new(&with).args(["eval", "--weights"]).arg(&plain).arg("--data").arg(&train));
    contains(&said, &["`old`", "quantile(age, 0.7)"]);
}

/// What `cohorts` finds are cohorts of the language: the lines it prints compile, and `eval` reports the same rows and errors of them.
#[test]
fn cohorts_that_are_found_are_those_of_the_lines_to_paste() {
    let folder = Folder::new();
    let spec = SPEC.replace("    predict click", "    expose x\n    predict click");
    let model = folder.build("model", &spec);
    let train = folder.write("train.csv", text(&rows(3000, 1), ","));
    let (checkpoint, page) = (folder.path("ck"), folder.path("page.html"));
    ok(Command::new(&model).args(["train", "--train"]).arg(&train).arg("--out").arg(&checkpoint));
    let search = |arguments: &[&str]| {
        let mut command = Command::new(&model);
        command.args(["cohorts", "--weights"]).arg(&checkpoint).arg("--data").arg(&train).args(arguments);
        command
    };
    let found = json(&ok(search(&["--json", "--html"]).arg(&page)));
    let pairs = found["pairs"].as_array().expect("pairs");
    let features: Vec<&str> = pairs.iter().filter_map(|pair| pair["feature"].as_str()).collect();
    assert!(["age", "user", "tags"].iter().all(|feature| features.contains(feature)), "{features:?}");
    let excess = |pair: &Value| pair["divergence"].as_f64().unwrap_or(0.0) - pair["by_chance"].as_f64().unwrap_or(9.0);
    assert!(pairs.windows(2).all(|two| excess(&two[0]) >= excess(&two[1])), "{pairs:?}");
    // Every pair's conditions as cohorts of the spec, and the lines to paste.
    let paste = found["paste"].as_str().expect("lines");
    let mut lines: Vec<String> = paste.lines().filter(|line| !line.starts_with("//")).map(str::to_owned).collect();
    let mut wanted = Vec::new();
    for cohort in pairs.iter().flat_map(|pair| pair["cohorts"].as_array().expect("two")) {
        let name = cohort["name"].as_str().expect("a name");
        let line = format!("cohort {name} = {}", cohort["condition"].as_str().expect("a condition"));
        if !lines.contains(&line) {
            lines.push(line);
        }
        wanted.push((name.to_owned(), cohort["rows"].clone(), cohort["ne"].clone()));
    }
    let names: Vec<&str> = wanted.iter().map(|(name, ..)| name.as_str()).collect();
    let losses: Vec<String> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("auxiliary "))
        .filter_map(|line| line.split(' ').next())
        .map(|name| format!("{name}: bce(weight: 0.1)"))
        .collect();
    assert_eq!(losses.len(), 2, "{paste}");
    let pasted = spec
        .replace("objective { click: bce }", &format!("{}\nobjective {{ click: bce, {} }}", lines.join("\n"), losses.join(", ")))
        .replace("gauc(by: user_id)]", &format!("gauc(by: user_id)], per: [{}]", names.join(", ")));
    let pasted = folder.build("pasted", &pasted);
    let measured = json(&ok(Command::new(&pasted).args(["eval", "--json", "--weights"]).arg(&checkpoint).arg("--data").arg(&train)));
    for (name, rows, ne) in wanted {
        let own = &measured["cohorts"][&name];
        assert_eq!((&own["rows"], &own["click"]["ne"]), (&rows, &ne), "{name}");
    }
    let html = std::fs::read_to_string(page).expect("a page");
    contains(&html, &["<svg", "cohort ", "age"]);
    let said = String::from_utf8(ok(&mut search(&["--top", "1"])).stdout).expect("text");
    contains(&said, &["3000 rows, prediction `click`", "by chance", paste]);
    contains(&fails(2, &mut search(&["--prediction", "clik"])), &["--prediction clik", "click"]);
    contains(&fails(2, &mut search(&["--least-share", "0"])), &["--least-share"]);
    contains(&fails(2, search(&["--html"]).arg(&train)), &["--html", "this is the data itself"]);
    // Parameters of tables stored in few bytes are shown as they were trained.
    let small = folder.build(
        "few",
        &spec.replace("train     {", "train     { storage: int8,").replace("keys: user, dim: 4", "keys: user, dim: 4, storage: int8"),
    );
    let parameters = |model: &Path| {
        let mut command = Command::new(model);
        command.args(["eval", "--json", "--parameters", "--weights"]).arg(&checkpoint).arg("--data").arg(&train);
        json(&ok(&mut command))["parameters"].clone()
    };
    let own = parameters(&model);
    assert_eq!(own, parameters(&small));
    let users = &own["small.users"];
    assert!(users["rms"].as_f64().is_some_and(|rms| rms > 0.0), "{own}");
    assert!(users["information_abundance"].as_f64().is_some_and(|own| (1.0..=4.0).contains(&own)), "{own}");
    contains(&fails(1, search(&["--html"]).arg(folder.path("no/page.html"))), &["--html", "page.html", "a folder that is there"]);
}

#[test]
fn a_cohort_of_a_value_that_the_data_do_not_hold_is_refused() {
    let folder = Folder::new();
    let model = folder.build("model", &cohort_spec().replace("\"u2\"", "\"nobody\""));
    let train = folder.write("train.csv", text(&rows(300, 1), ","));
    let said = fails(1, Command::new(&model).args(["train", "--train"]).arg(&train).arg("--out").arg(folder.path("ck")));
    contains(&said, &["`regulars`", "`user`", "\"nobody\""]);
}

#[test]
fn negative_weights_of_rows_are_refused() {
    let folder = Folder::new();
    let spec =
        SPEC.replace("key    user_id", "label  worth: number\n    key    user_id").replace("click: bce }", "click: bce(weight: worth) }");
    let model = folder.build("model", &spec);
    let mut lines: Vec<String> = text(&rows(50, 1), ",").lines().map(|line| format!("{line},1.5\n")).collect();
    lines[0] = "click,age,user,item,tags,worth\n".to_owned();
    let train = folder.write("train.csv", lines.concat());
    ok(Command::new(&model).args(["train", "--train"]).arg(&train).arg("--out").arg(folder.path("ck")));
    lines[7] = lines[7].replace(",1.5", ",-1");
    let wrong = folder.write("wrong.csv", lines.concat());
    let said = fails(1, Command::new(&model).args(["train", "--train"]).arg(&wrong).arg("--out").arg(folder.path("other")));
    contains(&said, &["row 7", "\"worth\"", "\"-1\"", "0 or above"]);
    // Rows to be scored need no weights.
    let bare = folder.write("bare.csv", text(&rows(50, 1), ","));
    ok(Command::new(&model).args(["predict", "--weights"]).arg(folder.path("ck")).arg("--data").arg(&bare));
}

#[test]
fn an_ensemble_reports_its_members_and_their_weights() {
    let folder = Folder::new();
    let second = "model wide {\n    table users { keys: user, dim: 1 }\n    predict click = logit(sum(users[user]) + linear(concat(age), 1))\n}\n\
                  ensemble both of [small, wide] { fuse: confidence(temperature: learned), collaborate: mutual(weight: 0.2) }\n\
                  cohort tagged = \"t1\" in tags\n";
    let spec = SPEC
        .replace("objective {", &format!("{second}objective {{"))
        .replace("use std.dense", "use std.ensemble.{confidence, mutual}\nuse std.dense")
        .replace("gauc(by: user_id)]", "gauc(by: user_id)], per: tagged");
    let model = folder.build("both", &spec);
    let (train, test) = (folder.write("train.csv", text(&rows(1500, 1), ",")), folder.write("test.csv", text(&rows(300, 3), ",")));
    let run = |name: &str, threads: &str| {
        let checkpoint = folder.path(name);
        let mut command = Command::new(&model);
        command
            .args(["train", "--json", "--threads", threads, "--train"])
            .arg(&train)
            .arg("--test")
            .arg(&test)
            .arg("--out")
            .arg(&checkpoint);
        (json(&ok(&mut command)), weights(&checkpoint))
    };
    let (result, first) = run("one", "1");
    assert!(first == run("two", "2").1, "two threads gave other weights");
    let auc = |figures: &Value| figures["click"]["auc"].as_f64().expect("auc");
    let (fused, small, wide) = (auc(&result["metrics"]), auc(&result["members"]["small"]), auc(&result["members"]["wide"]));
    assert!(fused > 0.75 && small > 0.6 && wide > 0.6, "{result}");
    for weights in [&result["weights"]["click"], &result["cohorts"]["tagged"]["weights"]["click"]] {
        let total: f64 = ["small", "wide"].iter().map(|name| weights[*name].as_f64().expect("a weight")).sum();
        assert!((total - 1.0).abs() < 1e-6, "{weights}");
    }
    let out = ok(Command::new(&model).args(["predict", "--weights"]).arg(folder.path("one")).arg("--data").arg(&test)).stdout;
    assert_eq!(String::from_utf8_lossy(&out).lines().next(), Some("click"));
}

#[test]
fn balanced_tasks_go_on_from_their_states() {
    let folder = Folder::new();
    let spec = "use std.balance.multibalance
use std.dense.{linear, mlp}
data { synthetic: planted(rows: 3_000, seed: 5) }
features {
    label click: binary
    label buy:   binary
    id    C[user, item] = C |> vocab
}
model m {
    table e { keys: C, dim: 4 }
    let h = mlp(flatten(e[C]), [8])
    expose h
    let a = linear(h, 1)
    let b = linear(h, 1)
    predict click = logit(a)
    predict buy   = logit(b)
}
objective { click: bce, buy: bce, balance: multibalance(over: m.h) }
train { batch: 128, dense: adam(lr: 1e-2), seed: 2, rate: warmup(30) |> cosine(epochs: 4, least: 0.1) }
";
    let model = folder.build("m", spec);
    let train = |name: &str, epochs: &str, resume: bool, threads: &str| {
        let checkpoint = folder.path(name);
        let mut command = Command::new(&model);
        command.args(["train", "--epochs", epochs, "--threads", threads, if resume { "--resume" } else { "--out" }]).arg(&checkpoint);
        ok(&mut command);
        weights(&checkpoint)
    };
    let whole = train("whole", "4", false, "2");
    train("parts", "2", false, "1");
    assert!(whole == train("parts", "4", true, "1"), "the norms' averages or the rate began anew");
}

#[test]
fn a_new_spec_trains_as_it_stands() {
    let folder = Folder::new();
    let recc = |args: &[&str]| folder.recc(args);
    ok(&mut recc(&["new", "drawn"]));
    ok(&mut recc(&["run", "drawn.rec", "--", "--epochs", "1", "--limit", "500"]));
    contains(&fails(2, &mut recc(&["new", "drawn"])), &["drawn.rec", "already"]);
    contains(&fails(2, &mut recc(&["new", "no-name"])), &["no-name"]);
    let lines = rows(400, 1).into_iter().enumerate().map(|(at, row)| format!("{},{at},x,{},7.5 km\n", row.join(","), row[0]));
    folder.write("train.csv", std::iter::once("click,age,user,item,tags,row,one,again,a b\n".to_owned()).chain(lines).collect::<String>());
    ok(&mut recc(&["new", "clicks", "--from", "train.csv"]));
    let spec = std::fs::read_to_string(folder.path("clicks.rec")).expect("a spec");
    contains(
        &spec,
        &["label  click: binary", "C[user, item]", "tags |> split(\"|\")", "fill(0)", "\"row\" is left out", "\"one\" is left out"],
    );
    contains(&spec, &["\"again\" is left out: each of its values comes with one label only"]);
    ok(&mut recc(&["fmt", "--check", "clicks.rec"]));
    ok(&mut recc(&["run", "clicks.rec", "--", "--epochs", "1"]));
    // The other parts of the data lie beside, and another outcome is no input.
    for part in ["train", "valid", "test"] {
        let lines = rows(300, 2).into_iter().map(|row| format!("{},{}\n", row.join(","), u8::from(row[1].len() == 2)));
        folder.write(
            &format!("{part}_2.csv"),
            std::iter::once("click,age,user,item,tags,like\n".to_owned()).chain(lines).collect::<String>(),
        );
    }
    ok(&mut recc(&["new", "parts", "--from", "train_2.csv"]));
    let spec = std::fs::read_to_string(folder.path("parts.rec")).expect("a spec");
    contains(
        &spec,
        &["valid: \"valid_2.csv\", test: \"test_2.csv\"", "patience(2, on: auc)", "\"like\" is left out: it is named as a label is"],
    );
    ok(&mut recc(&["run", "parts.rec", "--", "--epochs", "1"]));
    contains(&fails(1, &mut recc(&["new", "other", "--from", "train.csv", "--label", "clik"])), &["clik", "click, age"]);
    // Another sign between the cells is seen in the header.
    folder.write("semicolons.csv", text(&rows(300, 1), ";"));
    ok(&mut recc(&["new", "semicolons", "--from", "semicolons.csv"]));
    contains(&std::fs::read_to_string(folder.path("semicolons.rec")).expect("a spec"), &["separator: \";\"", "label  click: binary"]);
    ok(&mut recc(&["run", "semicolons.rec", "--", "--epochs", "1"]));
    folder.write("same.csv", "click,user,item\n0,a,x\n0,b,y\n0,a,y\n");
    contains(&fails(1, &mut recc(&["new", "other", "--from", "same.csv"])), &["\"click\"", "the same in all rows"]);
    contains(&fails(1, &mut recc(&["new", "other", "--from", "train.csv", "--label", "user"])), &["user", "neither"]);
}

#[test]
fn a_new_spec_for_events_predicts_what_comes_next() {
    let folder = Folder::new();
    let recc = |args: &[&str]| folder.recc(args);
    let line = |at: usize| format!("u{},i{},{},{}\n", at % 20, (at / 20 + at % 20) % 9, 1000 + at, at % 3);
    let lines: String = (0..400).map(line).collect();
    folder.write("events.csv", "user_id,item id,timestamp,stars\n".to_owned() + &lines);
    ok(&mut recc(&["new", "next", "--from", "events.csv", "--next", "item id"]));
    let spec = std::fs::read_to_string(folder.path("next.rec")).expect("a spec");
    contains(&spec, &["group: user_id, order: timestamp", "key user_id", "column(\"item id\")", "target: shift(history))"]);
    ok(&mut recc(&["fmt", "--check", "next.rec"]));
    ok(&mut recc(&["run", "next.rec", "--", "--epochs", "1"]));
    folder.write("bare.csv", "who,item,kind,mood\n".to_owned() + &lines.replace(",1", ",x1"));
    let said = fails(1, &mut recc(&["new", "bare", "--from", "bare.csv"]));
    contains(&said, &["no column looks like a label", "--next", "who, item, kind, mood"]);
    contains(&fails(1, &mut recc(&["new", "bare", "--from", "bare.csv", "--next", "item"])), &["--by"]);
    contains(&fails(1, &mut recc(&["new", "bare", "--from", "bare.csv", "--next", "items"])), &["--next items", "who, item, kind, mood"]);
    ok(&mut recc(&["new", "bare", "--from", "bare.csv", "--next", "item", "--by", "who"]));
    contains(&fails(2, &mut recc(&["new", "plain", "--next", "item"])), &["--from"]);
}

#[test]
fn a_sweep_trains_each_combination_once() {
    let folder = Folder::new();
    let spec =
        SPEC.replace("features {", "const DIM = 4\nconst UNITS = 16\nfeatures {").replace("dim: 4", "dim: DIM").replace("[16]", "[UNITS]");
    folder.write("small.rec", &spec);
    folder.write("train.csv", text(&rows(400, 1), ","));
    let sweep = |arguments: &[&str]| folder.recc(&[&["sweep", "small.rec"], arguments].concat());
    let flags =
        ["-D", "DIM=2,6", "-D", "UNITS=4,8", "--out", "sizes", "--metric", "logloss", "--", "--train", "train.csv", "--test", "train.csv"];
    let first = ok(sweep(&flags).args(["--epochs", "1"]));
    let said = String::from_utf8_lossy(&first.stderr).into_owned();
    contains(&said, &["4 of 4", "DIM=6, UNITS=8: click logloss"]);
    assert!(!said.contains("trained before"), "{said}");
    let lines = String::from_utf8(first.stdout).expect("text");
    // The larger ones have more parameters.
    let parameters = |name: &str| {
        let line = lines.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(2).and_then(|cell| cell.parse::<u64>().ok()).unwrap_or_else(|| panic!("{lines}"))
    };
    assert!(
        parameters("DIM=2, UNITS=4") < parameters("DIM=2, UNITS=8") && parameters("DIM=2, UNITS=8") < parameters("DIM=6, UNITS=8"),
        "{lines}"
    );
    contains(&lines, &["click logloss of test rows by parameters", "click logloss of test rows by operations"]);
    contains(&std::fs::read_to_string(folder.path("sizes/index.html")).expect("a page"), &["<svg", "DIM=6, UNITS=8", "<circle"]);
    let again = ok(sweep(&flags).args(["--epochs", "1"]));
    assert_eq!((String::from_utf8_lossy(&again.stderr).matches("trained before").count(), again.stdout), (4, lines.into_bytes()));
    // Other flags and other data make other models, beside those that are there.
    let other = ok(sweep(&flags).args(["--epochs", "2"]));
    assert!(!String::from_utf8_lossy(&other.stderr).contains("trained before"));
    let third = ok(sweep(&flags).args(["--epochs", "1"]));
    assert_eq!(String::from_utf8_lossy(&third.stderr).matches("trained before").count(), 4);
    folder.write("train.csv", text(&rows(300, 1), ","));
    let third = ok(sweep(&flags).args(["--epochs", "1"]));
    assert!(!String::from_utf8_lossy(&third.stderr).contains("trained before"));
    contains(&fails(1, &mut sweep(&["-D", "DIM=2", "--out", "o", "--", "--train", "none.csv"])), &["none.csv", "with DIM=2"]);
    contains(&fails(2, &mut sweep(&["-D", "DIM=2", "-D", "DIM=3", "--out", "o"])), &["-D DIM", "twice"]);
    contains(&fails(2, &mut sweep(&["-D", "DIM=2", "--out", "o", "--", "--resume", "x"])), &["--resume"]);
    contains(&fails(2, &mut sweep(&["-D", "DIM=2", "--out", "o", "--metric", "auk"])), &["--metric auk", "auc, logloss"]);
}

#[test]
fn specs_are_rewritten_in_one_style() {
    let folder = Folder::new();
    let odd = folder.write("odd.rec", "// why\nfeatures{label y:binary\n   number x=x|>log1p // how\n}\n");
    let fmt = |flags: &[&str], path: &Path| {
        let mut command = Command::new(RECC);
        command.arg("fmt").args(flags).arg(path);
        command
    };
    let styled = "// why\nfeatures { label y: binary\n    number x = x |> log1p  // how\n}\n";
    let out = ok(&mut fmt(&["--diff"], &odd));
    contains(&String::from_utf8_lossy(&out.stdout), &["-features{label", "+features { label"]);
    let out = output(&mut fmt(&["--check"], &odd));
    assert_eq!(out.status.code(), Some(1));
    ok(&mut fmt(&[], &odd));
    assert_eq!(std::fs::read_to_string(&odd).expect("a spec"), styled);
    ok(&mut fmt(&["--check"], &odd));
    let broken = folder.write("broken.rec", "features {{ label y: binary }\n");
    let out = output(&mut fmt(&[], &broken));
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(&broken).expect("a spec"), "features {{ label y: binary }\n");
}

#[test]
fn a_cell_of_several_numbers_is_a_vector() {
    let folder = Folder::new();
    let spec = "use std.dense.linear
features {
    label  click: binary
    vector image[3] = image |> fill(0.5) |> split(\" \") |> standardize
}
model m { predict click = logit(linear(image, 1)) }
objective { click: bce }
train { batch: 32, epochs: 20, dense: adam(lr: 0.05), seed: 1 }
";
    let model = folder.build("m", spec);
    let line = |at: usize| format!("{},{} 7  {}\n", usize::from(at % 5 > 2), at % 5, at % 3);
    let train = folder.write("train.csv", format!("click,image\n{}", (0..200).map(line).collect::<String>()));
    let checkpoint = folder.path("ck");
    let mut command = Command::new(&model);
    let result =
        json(&ok(command.args(["train", "--json", "--train"]).arg(&train).arg("--test").arg(&train).arg("--out").arg(&checkpoint)));
    assert!(result["metrics"]["click"]["auc"].as_f64().expect("auc") > 0.99, "{result}");
    let score = |text: &str| {
        let data = folder.write("data.csv", text);
        let mut command = Command::new(&model);
        command.args(["predict", "--weights"]).arg(&checkpoint).arg("--data").arg(data);
        command
    };
    let out = ok(&mut score("image\n4 7 1\n0 7 1\n\n")).stdout;
    let scores: Vec<f64> = String::from_utf8_lossy(&out).lines().skip(1).map(|line| line.parse().expect("a number")).collect();
    assert!(scores[0] > 0.9 && scores[1] < 0.1, "{scores:?}");
    contains(&fails(1, &mut score("image\n1 2\n")), &["row 1", "\"image\"", "2 numbers and not 3"]);
    contains(&fails(1, &mut score("image\n1 2 x\n")), &["row 1", "\"x\"", "not a number"]);
}
