//! Pages for a browser: self-contained, no script, nothing loaded from anywhere. The one place where text becomes HTML.

/// What all pages look like; a page's own style comes after it.
const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c1e21;--soft:#5d6570;--paper:#fff;--line:#d9dde2}
@media(prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#a0a8b3;--paper:#16181b;--line:#3a3f46}}
body{margin:2rem auto;max-width:52rem;padding:0 1rem;font:16px/1.55 system-ui,sans-serif;color:var(--ink);background:var(--paper)}
h1{font-size:1.35rem;margin:0 0 .25rem}h2{font-size:1.1rem}
p{margin:.25rem 0}.soft{color:var(--soft);font-size:.9rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}td,th{padding:.2rem .5rem;text-align:left;vertical-align:middle}
th{font-weight:600;border-bottom:1px solid var(--line)}td.n,th.n{text-align:right}
";

/// A whole page: `title` is escaped here, `style` and `body` are taken as they are.
pub(crate) fn page(title: &str, style: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n\
         <meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=viewport content=\"width=device-width,initial-scale=1\">\n<title>{}</title>\n\
         <style>\n{STYLE}{style}</style>\n{body}</html>\n",
        escaped(title)
    )
}

/// Text as HTML shows it: in elements and in quoted attributes.
pub(crate) fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // HTML knows no other control characters, and neither does a reader.
            c if c.is_control() && !matches!(c, '\n' | '\t') => out.push('\u{fffd}'),
            c => out.push(c),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_becomes_markup(text in "[<>&\"'a-z \u{1}\n]{0,40}") {
            let out = escaped(&text);
            let markup = out.contains(['<', '>', '"', '\'', '\u{1}']);
            prop_assert!(!markup);
            let back = out.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'");
            prop_assert_eq!(back.replace("&amp;", "&"), text.replace('\u{1}', "\u{fffd}"));
        }
    }
}
