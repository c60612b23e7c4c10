//! Every example of the language reference and of the README is a spec that checks without a problem.

use recc_tests::{check, root};

/// The texts between ```` ```rec ```` fences.
fn examples(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (at, line) in text.lines().enumerate() {
        match (&mut open, line.trim()) {
            (None, "```rec") => open = Some((at + 2, String::new())),
            (Some(_), "```") => found.extend(open.take()),
            (Some((_, text)), _) => *text += &format!("{line}\n"),
            (None, _) => {}
        }
    }
    found
}

#[test]
fn examples_check_and_build() {
    let mut count = 0;
    for file in ["grammar/reference.md", "README.md"] {
        let text = std::fs::read_to_string(root().join(file)).expect(file);
        for (line, example) in examples(&text) {
            let checked = check(file, &example, &[]);
            assert!(checked.problems.is_empty(), "{file}:{line}: {:#?}", checked.problems);
            let spec = checked.spec.expect("a spec without problems");
            recc_core::build(&spec).unwrap_or_else(|error| panic!("{file}:{line}: {error}"));
            count += 1;
        }
    }
    assert!(count >= 10, "{count}");
}

#[test]
fn specs_of_benches_check_and_build() {
    let mut count = 0;
    let files = ["benches", "benches/models"].map(|folder| std::fs::read_dir(root().join(folder)).expect(folder).flatten());
    for path in files.into_iter().flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|ending| ending == "rec"))
    {
        let text = std::fs::read_to_string(&path).expect("a spec");
        let checked = check(&path.display().to_string(), &text, &[]);
        assert!(checked.problems.is_empty(), "{}: {:#?}", path.display(), checked.problems);
        recc_core::build(&checked.spec.expect("a spec without problems")).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        count += 1;
    }
    assert!(count >= 10, "{count}");
}

/// A step that is learned behind is the function that the model computes.
#[test]
fn steps_of_numbers_are_the_functions_of_their_names() {
    let mut count = 0;
    for op in recc_core::scalar::ScalarOp::ALL {
        for argument in [None, Some(0.7)] {
            let Some(step) = recc_abi::NumberStep::named(op.name(), argument) else { continue };
            for x in [-2.5, -0.3, 0.0, 0.4, 3.0] {
                let operands = [x, argument.unwrap_or(0.0)];
                let (found, wanted) = (step.apply(x), op.eval(&operands[..op.arity()]));
                assert!(found == wanted || found.is_nan() && wanted.is_nan(), "{} of {x}: {found}, not {wanted}", op.name());
            }
            count += 1;
        }
    }
    assert_eq!(count, 13);
}
