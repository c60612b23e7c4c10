//! The pages of `recc explain`.

/// The page of a code, in any case.
pub(crate) fn page(code: &str) -> Option<&'static str> {
    let code = code.to_uppercase();
    PAGES.iter().find(|(known, _)| *known == code).map(|(_, page)| *page)
}

/// All pages by code.
const PAGES: &[(&str, &str)] = &[];
