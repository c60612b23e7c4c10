//! Specs of the project with words taken out, put in, swapped or replaced: whatever comes of it is answered by problems, or it builds.
//!
//! `RECC_MUTATIONS` sets how many are tried, `RECC_MUTATIONS_SEED` which; both have defaults that take half a minute.

use recc_tests::data::Draw;
use recc_tests::{check, root, specs};

/// Words that stand in for others.
const WORDS: [&str; 40] = [
    "over",
    "m.h",
    "h",
    "raw",
    "quantile",
    "0",
    "-1",
    "1e30",
    "[]",
    "[a]",
    "in",
    "not",
    "and",
    "click",
    "none",
    "mean",
    "learned",
    "fuse",
    "balance",
    "sum(_)",
    "_",
    "x",
    "\"a\"",
    "{",
    "}",
    "(",
    ")",
    ":",
    ",",
    "|>",
    "..",
    "where",
    "weight",
    "age",
    "X",
    "e[C]",
    "hold(h)",
    "stack(h, h)",
    "softmax(h)",
    "keep: true",
];

/// A text as words, signs and blanks, without comments.
fn words(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in text.lines() {
        let code = line.split("//").next().unwrap_or("");
        for sign in code.chars().chain(['\n']) {
            let joins = |last: &String| {
                let is_word = |sign: char| sign.is_alphanumeric() || sign == '_';
                last.ends_with(is_word) && is_word(sign)
            };
            match found.last_mut() {
                Some(last) if joins(last) => last.push(sign),
                _ => found.push(sign.to_string()),
            }
        }
    }
    found
}

fn mutated(words: &[String], draw: &mut Draw) -> String {
    let mut words = words.to_vec();
    for _ in 0..=draw.below(4) {
        if words.len() < 2 {
            break;
        }
        let (at, other) = (draw.below(words.len()), draw.below(words.len()));
        match draw.below(4) {
            0 => {
                words.remove(at);
            }
            1 => words.insert(at, words[other].clone()),
            2 => words.swap(at, other),
            _ => words[at] = WORDS[draw.below(WORDS.len())].to_owned(),
        }
    }
    words.concat()
}

#[test]
fn any_change_of_a_spec_is_answered() {
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let files = ["tests/ui", "tests/kernels", "examples"].into_iter().flat_map(|folder| specs(&root().join(folder)));
    let texts: Vec<Vec<String>> = files.filter_map(|path| std::fs::read_to_string(path).ok()).map(|text| words(&text)).collect();
    let mut draw = Draw::new(number("RECC_MUTATIONS_SEED", 1));
    let mut built = 0;
    for _ in 0..number("RECC_MUTATIONS", 2000) {
        let text = mutated(&texts[draw.below(texts.len())], &mut draw);
        let answered = std::panic::catch_unwind(|| {
            let checked = check("mutated.rec", &text, &[]);
            checked.spec.map(|spec| recc_core::build(&spec).map(|_| ()).map_err(|error| error.to_string()))
        });
        match answered {
            Ok(None) => {}
            Ok(Some(Ok(()))) => built += 1,
            Ok(Some(Err(error))) => panic!("a bug of the compiler: {error}\n{text}"),
            Err(_) => panic!("it stopped at\n{text}"),
        }
    }
    assert!(built > 10, "{built} of the changed specs are specs");
}
