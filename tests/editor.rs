//! The grammar for editors knows the words of the language, and colours them where they are.

use recc_tests::root;
use regex::Regex;
use serde_json::Value;
use std::collections::BTreeSet;

fn grammar() -> Vec<Value> {
    let text = std::fs::read_to_string(root().join("grammar/vscode/syntaxes/rec.tmLanguage.json")).expect("the grammar");
    let grammar: Value = serde_json::from_str(&text).expect("JSON");
    grammar["patterns"].as_array().expect("patterns").clone()
}

fn pattern(rule: &Value, key: &str) -> Option<Regex> {
    Some(Regex::new(rule[key].as_str()?).unwrap_or_else(|error| panic!("{rule}: {error}")))
}

/// The parts of a line that have a scope, as an editor finds them: from left to right the earliest match, of equal ones the first rule's.
fn scopes(line: &str) -> Vec<(String, String)> {
    let rules = grammar();
    let mut found = Vec::new();
    let mut at = 0;
    while at < line.len() {
        let starts = rules.iter().filter_map(|rule| {
            let start = pattern(rule, "match").or_else(|| pattern(rule, "begin"))?.captures_at(line, at)?;
            Some((start.get(0)?.start(), rule, start))
        });
        let Some((_, rule, captures)) = starts.min_by_key(|(start, ..)| *start) else { break };
        let whole = captures.get(0).expect("a match");
        let mut end = whole.end();
        if let Some(close) = pattern(rule, "end") {
            let escape = pattern(&rule["patterns"][0], "match").expect("escapes");
            loop {
                let stop = close.find_at(line, end).expect("an end");
                match escape.find_at(line, end).filter(|escape| escape.start() < stop.start()) {
                    Some(escape) => end = escape.end(),
                    None => break end = stop.end(),
                }
            }
        }
        if let Some(name) = rule["name"].as_str() {
            found.push((line[whole.start()..end].to_owned(), name.to_owned()));
        }
        for (number, capture) in rule["captures"].as_object().into_iter().flatten() {
            let part = captures.get(number.parse().expect("a number")).expect("a part");
            found.push((part.as_str().to_owned(), capture["name"].as_str().expect("a name").to_owned()));
        }
        at = end.max(at + 1);
    }
    found
}

#[test]
fn words_of_the_language_are_coloured() {
    let syntax = std::fs::read_to_string(root().join("grammar/rec.pest")).expect("the syntax");
    let words: BTreeSet<&str> =
        syntax.lines().filter(|line| line.starts_with("kw_")).map(|line| line.split('"').nth(1).expect("a word")).collect();
    assert!(words.len() > 25, "{words:?}");
    for word in words {
        let line = format!("{word} thing ");
        let scope = scopes(&line).into_iter().find(|(text, _)| text == word).map(|(_, scope)| scope);
        let scope = scope.unwrap_or_else(|| panic!("`{word}` has no colour"));
        assert!(scope.starts_with("keyword.") || scope.starts_with("storage."), "`{word}` is {scope}");
    }
}

#[test]
fn parts_of_lines_have_their_scopes() {
    let cases: &[(&str, &[(&str, &str)])] = &[
        (
            "    let x = mlp(e[C], [400, 1_000])  // a \"tower\"",
            &[
                ("let", "keyword.control"),
                ("mlp", "entity.name.function"),
                ("1_000", "constant.numeric"),
                ("// a \"tower\"", "comment.line"),
            ],
        ),
        (
            "block fm(v: f32[F, D]) -> f32 {",
            &[("block", "storage.type"), ("fm", "entity.name.function"), ("f32", "support.type"), ("->", "keyword.operator")],
        ),
        (
            "    id user = column(\"a // \\\" b\") |> vocab",
            &[("id", "storage.type.feature"), ("\"a // \\\" b\"", "string.quoted"), ("|>", "keyword.operator")],
        ),
        (
            "train { batch: 512, dense: adam(lr: 1e-3) }",
            &[("train", "keyword.control.item"), ("batch:", "variable.parameter"), ("1e-3", "constant.numeric")],
        ),
        ("/// Its equation.", &[("/// Its equation.", "comment.line.documentation")]),
        (
            "    if not bias and true { x } else { y }",
            &[("if", "keyword.control"), ("not", "keyword.operator.word"), ("true", "constant.language")],
        ),
    ];
    for (line, wanted) in cases {
        let found = scopes(line);
        for (text, scope) in *wanted {
            assert!(found.iter().any(|(own, name)| own == text && name.starts_with(scope)), "{line:?}: {text:?} is not {scope}: {found:?}");
        }
    }
    // Neither a comment nor a string reaches into the other.
    assert!(!scopes("let url = \"http://x\"").iter().any(|(_, scope)| scope.starts_with("comment")));
}
