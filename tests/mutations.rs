//! Specs of the project with words or bytes taken out, put in, swapped or replaced: whatever comes of it is answered by problems, or it builds.
//!
//! `RECC_MUTATIONS` sets how many are tried, `RECC_MUTATIONS_SEED` which; both have defaults that take a minute.

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

/// Signs of the language.
const SIGNS: &[u8] = b"(){}[]|>.,:=\"'/\\\n~@#0e-";

/// Bytes taken out, put in or replaced, also such that are no text.
fn with_other_bytes(text: &str, draw: &mut Draw) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..1 + draw.below(8) {
        let at = draw.below(bytes.len() + 1);
        // Signs of the language more often than others.
        let byte = if draw.below(2) == 0 { SIGNS[draw.below(SIGNS.len())] } else { draw.below(256) as u8 };
        match draw.below(3) {
            0 if at < bytes.len() => bytes[at] = byte,
            1 if at < bytes.len() => {
                bytes.drain(at..bytes.len().min(at + 1 + draw.below(20)));
            }
            _ => bytes.insert(at, byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Texts of the project's specs, and how many of their changes are tried.
fn given() -> (Vec<String>, u64, Draw) {
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let files = ["tests/ui", "tests/kernels", "examples"].into_iter().flat_map(|folder| specs(&root().join(folder)));
    let texts = files.filter_map(|path| std::fs::read_to_string(path).ok()).collect();
    (texts, number("RECC_MUTATIONS", 3000), Draw::new(number("RECC_MUTATIONS_SEED", 1)))
}

#[test]
fn any_change_of_a_spec_is_answered() {
    let (texts, count, mut draw) = given();
    let texts: Vec<Vec<String>> = texts.iter().map(|text| words(text)).collect();
    let built = all_are_answered(count, || mutated(&texts[draw.below(texts.len())], &mut draw));
    assert!(built > 10, "{built} of the changed specs are specs");
}

#[test]
fn any_bytes_are_answered() {
    let (texts, count, mut draw) = given();
    let built = all_are_answered(count, || with_other_bytes(&texts[draw.below(texts.len())], &mut draw));
    assert!(built > 0, "none of the changed specs is a spec");
}

/// Checks specs, and builds those that are some; gives how many are.
fn all_are_answered(count: u64, mut next: impl FnMut() -> String) -> u64 {
    let mut built = 0;
    for _ in 0..count {
        let text = next();
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
    built
}
