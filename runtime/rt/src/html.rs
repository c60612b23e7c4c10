//! Pages that need nothing beside themselves: no script, no other file.

const STYLE: &str = "
:root { color-scheme: light dark; --first: #1f6feb; --second: #d9730d; --rule: #8886; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .8rem .15rem 0; text-align: right; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; }
code, pre { font: 13px/1.5 ui-monospace, monospace; } pre { overflow-x: auto; padding: .8rem; border: 1px solid var(--rule); }
svg { display: block; margin: .6rem 0; max-width: 100%; } svg text { font-size: 11px; fill: currentColor; }
.first { fill: var(--first); } .second { fill: var(--second); } path.first, path.second { fill-opacity: .45; }
.key { display: inline-block; width: .8em; height: .8em; margin-right: .4em; vertical-align: -.05em; }
.key.first { background: var(--first); } .key.second { background: var(--second); }
";

/// A page with a title and what stands below it.
pub fn document(title: &str, body: &str) -> String {
    let title = escaped(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<style>{STYLE}</style>\n<h1>{title}</h1>\n{body}</html>\n"
    )
}

/// Text as a page shows it.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
