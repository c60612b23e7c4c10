//! Sequences: event rows grouped, what comes next trained, measured and recommended; aligned columns; the same bits for any number of threads.

mod common;

use common::{Folder, SPEC, contains, fails, json, ok};
use std::path::Path;
use std::process::Command;

/// Items go round in a circle, so that each is followed by one other.
const CIRCLE: usize = 16;

const NEXT: &str = "use std.sequence.{hstu, positions}
data { format: csv, group: user, order: time, split: leave_one_out }
features {
    key user
    seq history     = column(\"item\") |> vocab |> take_last(10)
    seq times: time = column(\"time\") |> aligned(history)
}
model next_item {
    table items { keys: history, dim: 8, init: normal(0.1) }
    let e = items[history]
    let h = hstu(e + positions(e, max: 10), layers: 1, heads: 2, times: times, dropout: 0.1)
    predict next = softmax(h, over: items, target: shift(history), negatives: 6, temperature: 0.1, normalize: true)
}
objective { next: cross_entropy }
metrics   { report: [hr(1), hr(3), ndcg(3), mrr] }
train     { batch: 32, epochs: 12, dense: adam(lr: 1e-2), tables: adam(lr: 1e-2), stop: patience(9, on: ndcg(3)), seed: 3 }
";

/// Event rows of some users, those of all users in turn, and the items of each user.
fn events(users: usize) -> (String, Vec<Vec<usize>>) {
    // The first two have too few events to learn from.
    let count = |user: usize| if user < 2 { 1 + user } else { 4 + user * 7 % 9 };
    let items: Vec<Vec<usize>> = (0..users).map(|user| (0..count(user)).map(|at| (user * 5 + at) % CIRCLE).collect()).collect();
    let mut text = "user,item,time\n".to_owned();
    // The newest come first in the file.
    for at in (0..16).rev() {
        for (user, own) in items.iter().enumerate() {
            if let Some(item) = own.get(at) {
                text.push_str(&format!("u{user},i{item},{}\n", 1_000_000 + 60 * at));
            }
        }
    }
    (text, items)
}

fn train(model: &Path, data: &Path, out: &Path, threads: &str) -> serde_json::Value {
    json(&ok(Command::new(model).args(["train", "--json", "--threads", threads, "--train"]).arg(data).arg("--out").arg(out)))
}

#[test]
fn what_comes_next_is_learned_measured_and_recommended() {
    let folder = Folder::new();
    let model = folder.build("next", NEXT);
    let (text, items) = events(200);
    let data = folder.write("events.csv", text);
    let checkpoint = folder.path("ck");
    let result = train(&model, &data, &checkpoint, "2");
    // Two of 200 have too few events to train on, and one has nothing that comes next.
    assert_eq!(result["rows"], 200, "{result}");
    let hit = |result: &serde_json::Value| result["metrics"]["next"]["hr(1)"].as_f64().unwrap_or(0.0);
    assert!(hit(&result) > 0.9, "{result}");
    let measured = json(&ok(Command::new(&model).args(["eval", "--json", "--weights"]).arg(&checkpoint).arg("--data").arg(&data)));
    assert_eq!(measured["metrics"], result["metrics"]);
    let said = ok(Command::new(&model).args(["recommend", "--top", "2", "--weights"]).arg(&checkpoint).arg("--data").arg(&data));
    let said = String::from_utf8(said.stdout).expect("text");
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines[0], ["row", "user", "rank", "next", "logit"]);
    let mut right = 0;
    for (user, own) in items.iter().enumerate().skip(2) {
        let mine: Vec<&Vec<&str>> = lines.iter().filter(|line| line[1] == format!("u{user}")).collect();
        // Also what came before the ten steps that are taken.
        let seen: Vec<String> = own.iter().map(|item| format!("i{item}")).collect();
        assert_eq!((mine.len(), mine[0][2]), (2, "1"), "{said}");
        assert!(mine.iter().all(|line| !seen.contains(&line[3].to_owned())), "{mine:?} {seen:?}");
        let next = format!("i{}", (own[own.len() - 1] + 1) % CIRCLE);
        right += usize::from(mine[0][3] == next || seen.contains(&next));
    }
    assert!(right > 180, "{right} of 198");
    let refused = fails(2, Command::new(&model).args(["predict", "--weights"]).arg(&checkpoint).arg("--data").arg(&data));
    contains(&refused, &["`next` ranks", "recommend"]);
}

#[test]
fn negatives_of_a_whole_batch_teach_as_well() {
    let folder = Folder::new();
    let data = folder.write("events.csv", events(200).0);
    for (name, how) in [("uniform", "shared(6)"), ("popular", "shared(6, by: popularity)"), ("own", "shared(6, by: batch)")] {
        let spec = NEXT.replace("negatives: 6", &format!("negatives: {how}")).replace("mrr]", "mrr, log_perplexity]");
        let result = train(&folder.build(name, &spec), &data, &folder.path(&format!("{name}-ck")), "2");
        let figure = |metric: &str| result["metrics"]["next"][metric].as_f64().expect("a figure");
        // Of 16 items, ln 16 = 2.8 is what one who knows nothing has.
        assert!(figure("hr(1)") > 0.9 && figure("log_perplexity") < 1.0, "{how}: {result}");
    }
}

/// A cloze instead of a causal model: the steps behind a hidden one are seen too.
#[test]
fn hidden_steps_are_learned_from_both_sides() {
    let folder = Folder::new();
    let (from, to) = (
        "let h = hstu(e + positions(e, max: 10), layers: 1, heads: 2, times: times, dropout: 0.1)",
        ", negatives: 6, temperature: 0.1, normalize: true)",
    );
    let spec = NEXT
        .replace("hstu, positions", "bert4rec, hidden_steps")
        .replace(
            "    let e = items[history]\n",
            "    let behind = shift(items[history])\n    let hides = hidden_steps(behind, rate: 0.3)\n",
        )
        .replace(from, "let h = bert4rec(behind, hides, max: 10, layers: 1)")
        .replace(to, ", weight: hides)")
        .replace("    seq times: time = column(\"time\") |> aligned(history)\n", "")
        .replace("dim: 8", "dim: 16")
        .replace("epochs: 12", "epochs: 40")
        .replace("patience(9", "patience(40");
    let data = folder.write("events.csv", events(200).0);
    let result = train(&folder.build("cloze", &spec), &data, &folder.path("ck"), "2");
    assert!(result["metrics"]["next"]["hr(3)"].as_f64().expect("a figure") > 0.9, "{result}");
}

/// The values of a sequence are counted where they are targets, whoever's dictionary numbers them.
#[test]
fn logits_are_corrected_by_the_targets_own_counts() {
    let folder = Folder::new();
    // What comes next is item 1 in nine of ten rows, while the other column has all items alike.
    let rows = (0..3000u64).map(|at| {
        let draw = |salt: u64| (at * 2_654_435_761 + salt * 40_503) >> 7;
        let next = if draw(3) % 10 > 0 { 1 } else { 2 + draw(5) % 19 };
        format!("i{},i{} i{next}\n", 1 + at % 20, 1 + draw(1) % 20)
    });
    let data = folder.write("rows.csv", "item,history\n".to_owned() + &rows.collect::<String>());
    let spec = |negatives: &str| {
        format!(
            "features {{
    id item = item |> vocab
    seq history = history |> split(\" \") |> vocab_of(item) |> take_last(2)
}}
block bias(x: f32[~L, D]) -> f32[D] {{
    param b: f32[D] = normal(0.1)
    b
}}
model m {{
    table items {{ keys: [item, history], dim: 4, init: normal(0.3) }}
    predict next = softmax(items[history] * 0 + bias(items[history]), over: items, target: shift(history){negatives})
}}
objective {{ next: cross_entropy }}
metrics   {{ report: [mrr, log_perplexity] }}
train     {{ batch: 100, epochs: 20, dense: adam(lr: 3e-2), tables: adam(lr: 3e-2), seed: 3 }}
"
        )
    };
    let figure = |name: &str, negatives: &str| {
        let model = folder.build(name, &spec(negatives));
        let mut command = Command::new(model);
        command
            .args(["train", "--json", "--train"])
            .arg(&data)
            .arg("--test")
            .arg(&data)
            .arg("--out")
            .arg(folder.path(&format!("{name}-ck")));
        json(&ok(&mut command))["metrics"]["next"]["log_perplexity"].as_f64().expect("a figure")
    };
    let all = figure("all", "");
    for by in ["batch", "popularity"] {
        let negatives = format!(", negatives: shared(64, by: {by}");
        let (right, wrong) = (figure(by, &format!("{negatives})")), figure(&format!("{by}-raw"), &format!("{negatives}, correct: false)")));
        assert!((right - all).abs() < 0.02 && wrong > all + 0.04, "{by}: {right} and {wrong}, by all rows {all}");
    }
}

#[test]
fn training_is_the_same_for_any_number_of_threads_and_when_resumed() {
    let (usual, most) = ("negatives: 6", "take_last(10)");
    trains_the_same(NEXT);
    trains_the_same(&NEXT.replace(usual, "negatives: shared(6)"));
    trains_the_same(&NEXT.replace(usual, "negatives: shared(6, by: popularity)"));
    trains_the_same(
        &NEXT.replace(usual, "negatives: shared(6, by: batch)").replace(most, "take_last(10) |> stochastic_length(alpha: 1.2)"),
    );
}

fn trains_the_same(spec: &str) {
    let folder = Folder::new();
    let model = folder.build("next", spec);
    let data = folder.write("events.csv", events(150).0);
    let recommended = |checkpoint: &Path, threads: &str| {
        let mut command = Command::new(&model);
        command.args(["recommend", "--threads", threads, "--weights"]).arg(checkpoint).arg("--data").arg(&data);
        ok(&mut command).stdout
    };
    let weights = |checkpoint: &Path| recommended(checkpoint, "2");
    let (one, four, parts) = (folder.path("one"), folder.path("four"), folder.path("parts"));
    let first = train(&model, &data, &one, "1");
    assert_eq!(first["metrics"], train(&model, &data, &four, "4")["metrics"]);
    assert_eq!(weights(&one), weights(&four));
    for threads in ["1", "3", "9"] {
        assert!(weights(&one) == recommended(&one, threads), "{threads} threads recommend otherwise");
    }
    let run = |args: &[&str]| {
        ok(Command::new(&model).args(["train", "--threads", "3", "--train"]).arg(&data).args(args).arg("--out").arg(&parts))
    };
    run(&["--epochs", "5"]);
    let again = Command::new(&model).args(["train", "--json", "--train"]).arg(&data).arg("--resume").arg(&parts).output().expect("a run");
    assert!(again.status.success());
    assert_eq!(weights(&one), weights(&parts));
}

#[test]
fn a_softmax_over_all_rows_learns_the_same_for_any_number_of_threads() {
    let folder = Folder::new();
    let model = folder.build("next", &NEXT.replace(", negatives: 6", ""));
    let data = folder.write("events.csv", events(200).0);
    let results = ["1", "3"].map(|threads| train(&model, &data, &folder.path(threads), threads));
    assert_eq!(results[0]["metrics"], results[1]["metrics"]);
    assert!(results[0]["metrics"]["next"]["hr(1)"].as_f64().unwrap_or(0.0) > 0.9, "{}", results[0]);
}

/// A user likes items by the remainder of its number.
const ONE_ITEM: &str = "use std.dense.linear
data { format: csv }
features {
    id item = item |> vocab
    id user = user |> vocab
    id kind = kind |> vocab
}
model m {
    table items { keys: item, dim: 8, init: normal(0.1) }
    table users { keys: user, dim: 8, init: normal(0.1) }
    table kinds { keys: kind, dim: 8, init: normal(0.1) }
    predict item = softmax(linear(users[user] + kinds[kind], 8), over: items, target: item, temperature: 0.1, normalize: true)
}
objective { item: cross_entropy }
metrics   { report: [hr(1), hr(3), mrr] }
train     { batch: 32, epochs: 30, dense: adam(lr: 1e-2), tables: adam(lr: 1e-2), seed: 3 }
";

#[test]
fn an_id_of_the_row_is_learned_measured_and_recommended() {
    let folder = Folder::new();
    let row = |at: usize| format!("i{},u{},k{}\n", at % 7, at % 7, at % 2);
    let head = "item,user,kind\n";
    let text = head.to_owned() + &(0..300).map(row).collect::<String>();
    let data = folder.write("data.csv", &text);
    // The values to find are not known where they are asked for, and need no column there.
    let asked = folder.write("asked.csv", "kind,user\nk0,u3\nk1,u5\n");
    let unknown = folder.write("unknown.csv", head.to_owned() + "i3,u3,k0\nnew,u3,k0\n");
    for negatives in ["", ", negatives: 4"] {
        let model = folder.build("m", &ONE_ITEM.replace(", temperature", &format!("{negatives}, temperature")));
        let checkpoint = folder.path(&format!("ck{}", negatives.len()));
        let result = json(&ok(Command::new(&model)
            .args(["train", "--json", "--train"])
            .arg(&data)
            .arg("--test")
            .arg(&data)
            .arg("--out")
            .arg(&checkpoint)));
        assert!(result["metrics"]["item"]["hr(1)"].as_f64().unwrap_or(0.0) > 0.95, "{result}");
        let said = ok(Command::new(&model).args(["recommend", "--top", "1", "--weights"]).arg(&checkpoint).arg("--data").arg(&asked));
        let said = String::from_utf8(said.stdout).expect("text");
        let found: Vec<&str> = said.lines().skip(1).filter_map(|line| line.split(',').nth(2)).collect();
        assert_eq!(found, ["i3", "i5"], "{said}");
        // Another temperature is another model.
        let warmer = folder.build("warmer", &ONE_ITEM.replace("temperature: 0.1", "temperature: 0.2"));
        let said = fails(1, Command::new(&warmer).args(["eval", "--weights"]).arg(&checkpoint).arg("--data").arg(&data));
        contains(&said, &["temperature"]);
        let measured = json(&ok(Command::new(&model).args(["eval", "--json", "--weights"]).arg(&checkpoint).arg("--data").arg(&unknown)));
        assert_eq!(measured["metrics"]["item"]["hr(1)"], 0.5, "what training has not seen is never found: {measured}");
    }
}

#[test]
fn rows_that_cannot_be_grouped_or_ordered_are_refused() {
    let folder = Folder::new();
    let model = folder.build("next", NEXT);
    let refused = |name: &str, text: &str, marks: &[&str]| {
        let data = folder.write(name, text);
        let said = fails(1, Command::new(&model).args(["train", "--train"]).arg(&data).arg("--out").arg(folder.path("ck")));
        contains(&said, marks);
    };
    refused("order.csv", "user,item,time\na,1,5\na,2,late\n", &["row 2", "\"time\"", "\"late\"", "ordered"]);
    refused("column.csv", "person,item,time\na,1,5\n", &["\"user\"", "person, item, time"]);
    refused("one.csv", "user,item,time\na,1,1\na,1,2\na,1,3\na,1,4\n", &["`next_item.items`", "1 known"]);
    refused("none.csv", "user,item,time\na,1,1\nb,1,2\n", &["no rows"]);
    refused("times.csv", "user,item,time\na,1,0.5\na,2,1\na,3,2\na,4,3\n", &["\"time\"", "\"0.5\"", "whole number"]);
    let data = folder.write("ok.csv", events(20).0);
    let said =
        fails(2, Command::new(&model).args(["train", "--train"]).arg(&data).arg("--valid").arg(&data).arg("--out").arg(folder.path("ck")));
    contains(&said, &["leave_one_out", "--valid"]);
}

const CLICKS: &str = "use std.dense.linear
use std.sequence.target_attention
features {
    label click: binary
    id    item    = item |> vocab
    seq   history = history |> split(\" \") |> vocab_of(item) |> take_last(3)
    seq   times: time   = times |> split(\" \") |> aligned(history)
    seq   dwell: number = dwell |> split(\" \") |> aligned(history) |> log1p
}
model din {
    table items { keys: [item, history], dim: 8 }
    let seconds = differences(times, times)
    let u = target_attention(items[item], concat(items[history], dwell), units: [8], activation: tanh, normalize: true)
    predict click = logit(linear(concat(items[item], u), 1) + 1e-9 * sum(seconds))
}
objective { click: bce }
train     { batch: 32, epochs: 3, dense: adam(lr: 1e-2), tables: adam(lr: 1e-2), seed: 3 }
";

#[test]
fn columns_of_a_sequence_have_a_value_for_each_step() {
    let folder = Folder::new();
    let spec = CLICKS
        .replace("target_attention(items[item], concat(items[history], dwell)", "target_attention(items[item], items[history] * 1")
        .replace("1e-9 * sum(seconds)", "1e-9 * sum(seconds) + sum(dwell)");
    let model = folder.build("din", &spec);
    let row = |at: usize| {
        let steps: Vec<usize> = (0..at % 6).collect();
        let join = |of: &dyn Fn(&usize) -> String| steps.iter().map(of).collect::<Vec<_>>().join(" ");
        let (ids, times, dwell) =
            (join(&|step| format!("i{}", (at + step) % 9)), join(&|step| (1000 + step).to_string()), join(&|step| format!("{step}.5")));
        format!("{},i{},{ids},{times},{dwell}\n", usize::from(at.is_multiple_of(3)), at % 9)
    };
    let head = "click,item,history,times,dwell\n";
    let text = |rows: &[String]| head.to_owned() + &rows.concat();
    let mut rows: Vec<String> = (0..200).map(row).collect();
    let data = folder.write("data.csv", text(&rows));
    let checkpoint = folder.path("ck");
    ok(Command::new(&model).args(["train", "--train"]).arg(&data).arg("--out").arg(&checkpoint));
    // Labels are not needed to score, and all else is.
    let bare = folder.write("bare.csv", text(&rows).replace("click,", "clack,"));
    let scores = |data: &Path| ok(Command::new(&model).args(["predict", "--weights"]).arg(&checkpoint).arg("--data").arg(data)).stdout;
    assert_eq!(scores(&data), scores(&bare));
    rows[4] = rows[4].replace(" 1003", "");
    let wrong = folder.write("wrong.csv", text(&rows));
    for command in ["eval", "predict"] {
        let said = fails(1, Command::new(&model).args([command, "--weights"]).arg(&checkpoint).arg("--data").arg(&wrong));
        contains(&said, &["row 5", "\"times\"", "3 values", "`history`", "has 4"]);
    }
    rows[4] = row(4).replace(" 2.5", " x");
    let wrong = folder.write("wrong.csv", text(&rows));
    let said = fails(1, Command::new(&model).args(["predict", "--weights"]).arg(&checkpoint).arg("--data").arg(&wrong));
    contains(&said, &["row 5", "\"dwell\"", "\"x\""]);
}

const GROUPS: &str = "data { group: user, order: time }
features {
    label good: binary
    key   who  = column(\"user\")
    id    item = item |> vocab
    id    kind = kind |> vocab
    id    both = cross(item, kind) |> hash(1000)
    ids   tags = tags |> split(\"|\") |> weighted(\":\") |> vocab
    time  now  = column(\"time\")
    seq   items       = column(\"item\") |> vocab_of(item) |> take_last(4)
    seq   kinds       = column(\"kind\") |> vocab_of(kind) |> aligned(items)
    seq   times: time = column(\"time\") |> aligned(items)
}
model m {
    table t { keys: [item, items], dim: 4 }
    table k { keys: [kind, kinds], dim: 4 }
    table b { keys: both, dim: 1 }
    table w { keys: tags, dim: 2 }
    let age = sum((now - times) / 1000)
    predict good = logit(dot(t[item], mean(t[items], axis: items)) + sum(k[kind] * mean(k[kinds], axis: items)) + b[both] + sum(w[tags]) + age)
}
objective { good: bce }
train     { batch: 16, epochs: 2, dense: adam(lr: 1e-2), tables: adam(lr: 1e-2), seed: 3 }
";

/// Rows grouped to one give what the same row gives alone, where it stands last.
#[test]
fn features_of_one_value_are_those_of_a_groups_last_row() {
    let folder = Folder::new();
    let model = folder.build("groups", GROUPS);
    let head = "user,item,kind,tags,time,good\n";
    let row = |user: usize, at: usize| {
        let (item, kind) = ((user + at) % 7, if at == 0 { String::new() } else { format!("k{}", user % 3) });
        format!("u{user},i{item},{kind},t{}:0.5|t{}:2,{},{}\n", at % 3, user % 4, 1000 + 10 * at, (user + at) % 2)
    };
    let text: String = (0..60).flat_map(|user| (0..1 + user % 4).map(move |at| row(user, at))).collect();
    let data = folder.write("events.csv", head.to_owned() + &text);
    let checkpoint = folder.path("ck");
    ok(Command::new(&model).args(["train", "--train"]).arg(&data).arg("--out").arg(&checkpoint));
    let scores = |name: &str, text: String| {
        let data = folder.write(name, text);
        let out = ok(Command::new(&model).args(["predict", "--weights"]).arg(&checkpoint).arg("--data").arg(data)).stdout;
        String::from_utf8(out).expect("text").lines().map(str::to_owned).collect::<Vec<_>>()
    };
    // The same events in another order of the file, and of other users beside them.
    let one = scores("one.csv", head.to_owned() + &row(3, 0) + &row(3, 1) + &row(3, 2));
    let turned = scores("turned.csv", head.to_owned() + &row(3, 2) + &row(9, 0) + &row(3, 0) + &row(3, 1));
    assert_eq!((one[0].as_str(), one.len(), turned.len()), ("user,good", 2, 3));
    assert_eq!(one[1], turned[1]);
    assert!(turned[2].starts_with("u9,"), "{turned:?}");
    // What is crossed, and the weights, are of the last row alone.
    let other = scores("other.csv", head.to_owned() + &row(3, 0) + &row(3, 1) + &row(3, 2).replace(":2,", ":3,"));
    assert_ne!(one[1], other[1]);
    let refused = |text: String, marks: &[&str]| {
        let data = folder.write("wrong.csv", text);
        contains(&fails(1, Command::new(&model).args(["eval", "--weights"]).arg(&checkpoint).arg("--data").arg(data)), marks);
    };
    refused(head.to_owned() + &row(3, 0).replace(":2,", ","), &["rows of user \"u3\"", "\"tags\"", "has no weight"]);
    refused(head.to_owned() + &row(3, 0).replace("i3", "i\u{1f}3"), &["row 1", "\"item\"", "0x1f"]);
    refused(head.to_owned() + &row(3, 0).replace(",1000,", ",-5,"), &["rows of user \"u3\"", "\"-5\"", "no time"]);
}

#[test]
fn rankings_are_measured_by_cohort_and_of_some_rows() {
    let folder = Folder::new();
    let spec = NEXT
        .replace("    key user\n", "    key user\n    label late: binary\n")
        .replace("objective { next: cross_entropy }", "cohort odd = late == 1\nobjective { next: cross_entropy(where: late) }")
        .replace("mrr] }", "mrr], per: [odd] }")
        .replace("stop: patience(9, on: ndcg(3)), ", "");
    let model = folder.build("next", &spec);
    let (text, _) = events(80);
    let mut lines =
        text.lines().enumerate().map(|(at, line)| if at == 0 { format!("{line},late\n") } else { format!("{line},{}\n", at % 2) });
    let data = folder.write("events.csv", lines.by_ref().collect::<String>());
    let result = train(&model, &data, &folder.path("ck"), "2");
    assert!(result["cohorts"]["odd"]["next"]["mrr"].as_f64().is_some(), "{result}");
}

#[test]
fn sequences_that_are_too_short_to_learn_from_are_refused() {
    let folder = Folder::new();
    let model = folder.build("next", NEXT);
    let text: String = (0..20).flat_map(|user| (0..3).map(move |at| format!("u{user},i{},{at}\n", (user + at) % 9))).collect();
    let data = folder.write("short.csv", format!("user,item,time\n{text}"));
    let said = fails(1, Command::new(&model).args(["train", "--train"]).arg(&data).arg("--out").arg(folder.path("ck")));
    contains(&said, &["`history`", "two steps", "leave_one_out"]);
}

const CANDIDATES: &str = "use std.dense.{linear, mlp}
use std.sequence.{hstu, positions, target_attention}
features {
    label click: binary
    key   user
    id    item    = item |> vocab
    seq   history = history |> split(\" \") |> vocab_of(item) |> take_last(20)
}
model m {
    table items { keys: [item, history], dim: 8 }
    let e    = items[history]
    let h    = hstu(e + positions(e, max: 20), layers: 2)
    let pool = target_attention(items[item], h, normalize: true)
    predict click = logit(mlp(concat(items[item], pool, last(h), mean(h, axis: history)), [16]) |> linear(1))
    predict warm  = value(sum(last(h)))
    predict next  = softmax(h, over: items, target: shift(history), negatives: 3)
}
objective { click: bce, warm: mse, next: cross_entropy }
train     { batch: 32, epochs: 1, dense: adam(lr: 1e-2), tables: adam(lr: 1e-2), seed: 3 }
";

#[test]
fn rows_of_one_key_are_scored_together_as_they_are_alone() {
    let folder = Folder::new();
    let row = |user: usize, candidate: usize| {
        // Histories without a step, with one, and longer than what is taken.
        let steps = [0, 1, 7, 30][user % 4];
        let history: Vec<String> = (0..steps).map(|at| format!("i{}", (user * 5 + at * at) % 40)).collect();
        format!("{},{},u{user},i{},{}\n", candidate % 2, candidate % 3, (user + candidate * 7) % 40, history.join(" "))
    };
    let spec = CANDIDATES.replace("    label click: binary\n", "    label click: binary\n    label warm: number\n");
    let text = |rows: &[String]| format!("click,warm,user,item,history\n{}", rows.concat());
    // Those of a user lie apart, and some users have one row.
    let mut rows: Vec<String> = (0..600).map(|at| row(at % 37, at)).chain((100..110).map(|user| row(user, user))).collect();
    let data = folder.write("data.csv", text(&rows));
    let scores = |model: &Path, checkpoint: &Path, more: &[&str]| -> Vec<f64> {
        let out = ok(Command::new(model).args(["predict", "--weights"]).arg(checkpoint).arg("--data").arg(&data).args(more)).stdout;
        let text = String::from_utf8_lossy(&out).into_owned();
        text.lines().skip(1).flat_map(|line| line.split(',').map(|cell| cell.parse().expect("a number")).collect::<Vec<_>>()).collect()
    };
    // A ranking beside them holds nothing back from the scores, and needs its table whole.
    let small = spec.replace("dim: 8 }", "dim: 8, storage: int8 }").replace(", next: cross_entropy", "");
    let small: String = small.lines().filter(|line| !line.contains("predict next")).map(|line| format!("{line}\n")).collect();
    for (name, spec) in [("whole", &spec), ("small", &small)] {
        let model = folder.build(name, spec);
        let checkpoint = folder.path(&format!("{name}-ck"));
        train(&model, &data, &checkpoint, "2");
        let alone = scores(&model, &checkpoint, &[]);
        let together = scores(&model, &checkpoint, &["--group-by", "user"]);
        // Sums may be grouped otherwise: the last bits.
        let far = alone.iter().zip(&together).find(|(a, b)| (*a - *b).abs() > 1e-6 * a.abs().max(1.0));
        assert!(alone.len() == 1220 && together.len() == 1220 && far.is_none(), "{name}: {far:?}");
        assert!(together == scores(&model, &checkpoint, &["--group-by", "user", "--threads", "1"]), "{name}: on one thread");
        let distinct: std::collections::BTreeSet<u64> = together.iter().map(|score| score.to_bits()).collect();
        assert!(distinct.len() > 200, "{name}: {} scores", distinct.len());
    }
    let predict = |model: &Path, checkpoint: &Path, data: &Path, key: &str| {
        let mut command = Command::new(model);
        command.args(["predict", "--weights"]).arg(checkpoint).arg("--data").arg(data).args(["--group-by", key]);
        command
    };
    let (model, checkpoint) = (folder.path("whole"), folder.path("whole-ck"));
    contains(&fails(2, &mut predict(&model, &checkpoint, &data, "item")), &["no such key", "user"]);
    rows[39] = rows[39].replace("i10 ", "i11 ");
    let wrong = folder.write("wrong.csv", text(&rows));
    contains(&fails(1, &mut predict(&model, &checkpoint, &wrong, "user")), &["row 40", "`history`", "row 3", "`user`"]);
    // Rows without a key share nothing.
    let none = folder.write("none.csv", text(&rows).replace(",u2,", ",,"));
    ok(&mut predict(&model, &checkpoint, &none, "user"));
    // Without a sequence nothing is shared.
    let plain = folder.build("plain", SPEC);
    let users = folder.write("users.csv", common::text(&common::rows(200, 1), ","));
    train(&plain, &users, &folder.path("plain-ck"), "1");
    contains(&fails(2, &mut predict(&plain, &folder.path("plain-ck"), &users, "user_id")), &["nothing from sequences", "leave it out"]);
}
