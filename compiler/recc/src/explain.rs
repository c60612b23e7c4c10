//! The pages of `recc explain`.

use include_dir::{Dir, include_dir};

/// All pages, named by their codes.
static PAGES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../docs/errors");

/// The page of a code, in any case.
pub(crate) fn page(code: &str) -> Option<&'static str> {
    PAGES.get_file(format!("{}.md", code.to_uppercase()))?.contents_utf8()
}
