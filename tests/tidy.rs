//! The repository itself: dependency edges, file sizes, module documentation, pages and tests of every code.

use recc_tests::root;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn files(folder: &Path, ending: &str, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            files(&path, ending, out);
        } else if name.ends_with(ending) {
            out.push(path);
        }
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["compiler", "runtime", "tests"] {
        files(&root().join(folder), ".rs", &mut found);
    }
    found.sort();
    found
}

/// Codes of problems in the compiler's text.
fn codes() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for path in sources().iter().filter(|path| path.starts_with(root().join("compiler/core"))) {
        for part in read(path).split('"') {
            let digits = part.get(1..).unwrap_or_default();
            if part.len() == 5 && (part.starts_with('E') || part.starts_with('W')) && digits.bytes().all(|byte| byte.is_ascii_digit()) {
                found.insert(part.to_owned());
            }
        }
    }
    found
}

#[test]
fn dependencies_run_one_way() {
    let allowed = [
        ("compiler/syntax", vec![]),
        ("compiler/core", vec!["recc-abi", "recc-syntax"]),
        ("compiler/codegen", vec!["recc-abi", "recc-core"]),
        ("compiler/recc", vec!["recc-abi", "recc-syntax", "recc-core", "recc-codegen", "recc-rt"]),
        ("runtime/abi", vec![]),
        ("runtime/rt", vec!["recc-abi"]),
    ];
    for (folder, allowed) in allowed {
        // Tests may use more.
        let manifest = read(&root().join(folder).join("Cargo.toml"));
        let manifest = manifest.split("[dev-dependencies]").next().unwrap_or_default();
        let found: Vec<&str> =
            manifest.lines().filter(|line| line.starts_with("recc-")).filter_map(|line| line.split(['.', ' ', '=']).next()).collect();
        for name in &found {
            assert!(allowed.contains(name), "{folder} must not depend on {name}");
        }
        assert!(folder == "compiler/codegen" || !manifest.contains("cranelift"), "{folder} must not depend on Cranelift");
    }
}

#[test]
fn files_are_of_a_size_to_read() {
    for path in sources() {
        let name = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
        let lines = read(&path).lines().count();
        assert!(lines < 1000, "{name} has {lines} lines");
    }
}

#[test]
fn every_file_says_what_it_is() {
    for path in sources() {
        assert!(read(&path).starts_with("//!"), "{} does not open with `//!`", path.display());
    }
}

#[test]
fn every_code_has_a_page_and_a_test() {
    let mut specs = Vec::new();
    files(&root().join("tests/ui"), ".rec", &mut specs);
    let marked: String = specs.iter().map(|path| read(path)).collect();
    let codes = codes();
    assert!(codes.len() >= 40, "{codes:?}");
    for code in &codes {
        let page = root().join(format!("docs/errors/{code}.md"));
        assert!(page.exists(), "{code} has no page");
        assert!(read(&page).starts_with(&format!("# {code}: ")), "{code}'s page has another title");
        assert!(marked.contains(&format!("error: {code}")) || marked.contains(&format!("warning: {code}")), "{code} has no test");
    }
    let mut pages = Vec::new();
    files(&root().join("docs/errors"), ".md", &mut pages);
    for page in pages {
        let code = page.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        assert!(codes.contains(&code), "{code} has a page and does not exist");
    }
}

#[test]
fn pages_show_what_they_say() {
    let mut pages = Vec::new();
    files(&root().join("docs/errors"), ".md", &mut pages);
    for page in pages {
        let text = read(&page);
        assert!(text.contains("## Fails") && text.contains("## Works"), "{}", page.display());
    }
}

#[test]
fn no_snapshot_is_orphaned() {
    let mut snapshots = Vec::new();
    files(&root().join("tests"), ".snap", &mut snapshots);
    assert!(!snapshots.is_empty());
    for path in snapshots {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stem = [".snap", ".graph", ".loops", ".clif", ".ptx"].iter().fold(name.as_str(), |stem, ending| stem.trim_end_matches(ending));
        // What the assembler says of all of them.
        let of_all = path == root().join("tests/gpu/registers.snap");
        assert!(of_all || path.with_file_name(format!("{stem}.rec")).exists(), "{} belongs to no spec", path.display());
    }
}

#[test]
fn every_operator_appears_in_a_snapshot() {
    let mut snapshots = Vec::new();
    files(&root().join("tests/kernels"), ".graph.snap", &mut snapshots);
    let text: String = snapshots.iter().map(|path| read(path)).collect();
    let missing: Vec<&&str> = recc_core::ops::OP_NAMES.iter().filter(|name| !text.contains(&format!(" = {name}("))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Files that hold unsafe code are those that ARCHITECTURE.md names.
#[test]
fn unsafe_code_is_where_the_page_says() {
    let marks = ["unsafe {", "unsafe impl", "unsafe fn"];
    let page = read(&root().join("ARCHITECTURE.md"));
    let line = page.lines().find(|line| line.contains("`unsafe` is in")).unwrap_or_default();
    for path in sources() {
        let text = read(&path);
        let holds =
            text.lines().any(|line| marks.iter().any(|mark| line.trim_start().starts_with(mark) || line.contains(&format!("= {mark}"))));
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        assert!(!holds || line.contains(&name), "{} holds unsafe code", path.display());
    }
}
