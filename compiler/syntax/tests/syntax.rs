//! Parsing and printing agree, and broken text is reported and never panics.

use recc_syntax::{ast::FileId, parse, print_file};

#[track_caller]
fn check_round_trip(text: &str) {
    let parsed = parse(FileId(0), text);
    assert_eq!(parsed.problems, [], "{text}");
    let once = print_file(&parsed.file);
    let again = parse(FileId(0), &once);
    assert_eq!(again.problems, [], "{once}");
    assert_eq!(once, print_file(&again.file));
}

#[test]
fn printing_parses_back() {
    check_round_trip("use std.dense.{linear, mlp}\nuse std.interaction.fm\nuse \"a b.rec\" as mine\nconst W = -4e-1\n");
    check_round_trip(
        "features {\n label click: binary\n number I[1..=13] = I |> fill(0)\n   // why\n   |> log1p\n key u = column(\"user\")\n}",
    );
    check_round_trip(
        "/// Doc.\nblock f(x: f32[.., D], n: int = 3, a: block = relu) -> [f32[D * 2]; n] {\n var y = x\n for i in 0..n { y = y * 2 - (1 - 2) }\n if n > 1 and not (n == 2) { y } else if n == 0 { x } else { y + x @ x }\n}",
    );
    check_round_trip(
        "model m {\n table t { keys: [a, b], dim: 4 }\n @name(\"old\") let h = [linear(t[a], 3) for i in 0..2]\n layer l = mlp(_, [\n 3, // three\n 4])\n expose h\n predict y = logit(h[0] |> linear(1))\n}",
    );
}

#[test]
fn sums_bind_tighter_than_pipes() {
    let parsed = parse(FileId(0), "const X = a + b * c |> f(1)");
    assert_eq!(print_file(&parsed.file), "const X = a + b * c |> f(1)\n");
    let parsed = parse(FileId(0), "const X = (a |> f) * -(b + c)");
    assert_eq!(print_file(&parsed.file), "const X = (a |> f) * -(b + c)\n");
}

#[test]
fn each_broken_item_is_reported() {
    let parsed = parse(FileId(0), "modle m { }\n\nconst X = \n\ntrain { batch 3 }\nconst Y = 1\n");
    assert_eq!(parsed.problems.len(), 3, "{:?}", parsed.problems);
    assert_eq!(parsed.file.items.len(), 1);
}

#[test]
fn any_text_is_answered() {
    let seed = "use a.{b}\nfeatures { id x = x |> split(\"|\") }\nmodel m { let z = f(1, [2]) \n predict y = logit(z) }\n";
    for at in 0..seed.len() {
        for insert in ["(", "}", "\"", "\u{e9}", "\n", "|>", "_", "9e999", "99999999999999999999"] {
            let mut text = seed.to_owned();
            text.insert_str(at, insert);
            let _ = parse(FileId(0), &text);
            let _ = parse(FileId(0), &seed[at..]);
        }
    }
    let _ = parse(FileId(0), &"(".repeat(100_000));
    let _ = parse(FileId(0), &format!("const X = {}1", "-".repeat(100_000)));
    let _ = parse(FileId(0), &format!("const X = {}1", "not ".repeat(100_000)));
}
