//! Pages for a browser: self-contained, no script, nothing loaded from anywhere. The one place where text becomes HTML.

/// A whole page: `title` is escaped here, `style` and `body` are taken as they are.
pub(crate) fn page(title: &str, style: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n\
         <meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=viewport content=\"width=device-width,initial-scale=1\">\n<title>{}</title>\n\
         <style>\n{style}</style>\n{body}</html>\n",
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
