//! The pages of `recc explain`.

/// The page of a code, in any case.
pub(crate) fn page(code: &str) -> Option<&'static str> {
    let code = code.to_uppercase();
    PAGES.iter().find(|(known, _)| *known == code).map(|(_, page)| *page)
}

macro_rules! pages {
    ($($code:literal)*) => {
        /// All pages by code.
        const PAGES: &[(&str, &str)] = &[$(($code, include_str!(concat!("../../../docs/errors/", $code, ".md")))),*];
    };
}

pages! {
    "E0001" "E0002" "E0003" "E0004" "E0005" "E0006" "E0101" "E0102" "E0103" "E0104" "E0105" "E0106" "E0107" "E0108"
    "E0109" "E0111" "E0112" "E0113" "E0201" "E0202" "E0203" "E0204" "E0205" "E0206" "E0208" "E0209" "E0210" "E0211"
    "E0212" "E0213" "E0214" "E0215" "E0216" "E0217" "E0218" "E0219" "E0220" "E0221" "E0222" "E0223" "E0224" "E0225" "E0301" "E0302" "E0303"
    "E0304" "E0305" "E0306" "E0308" "E0309" "E0310" "E0311" "E0312" "E0401" "E0402" "E0403" "E0404" "E0501" "E0502"
    "E0503" "E0504" "E0505" "E0506" "E0507" "E0508" "E0601" "E0602" "E0603" "E0604" "E0605" "E0606" "E0701" "E0702"
    "E0703" "E0900" "W0001" "W0002" "W0003" "W0004" "W0005"
}
