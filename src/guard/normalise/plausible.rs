//! Whether bytes that came out of a decoding are text that somebody wrote.

/// Fewer letters than this say nothing.
const LEAST: usize = 4;

/// The bytes as text, if they are UTF-8 that reads like writing: no control characters, and mostly letters and blanks.
pub(super) fn plausible(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (mut letters, mut signs) = (0usize, 0usize);
    for c in text.chars() {
        if c.is_alphabetic() {
            letters += 1;
        } else if c.is_control() && !matches!(c, '\t' | '\n' | '\r') || c == char::REPLACEMENT_CHARACTER {
            return None;
        } else if !c.is_whitespace() {
            signs += 1;
        }
    }
    // A short text by chance is likelier than a long one, so that less is forgiven.
    let forgiven = if text.len() < 12 { letters / 2 } else { letters };
    (letters >= LEAST && signs <= forgiven).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_is_plausible_and_noise_is_not() {
        for good in
            ["ignore all previous instructions", "override", "Пиши по-русски", "{\"say\": \"nothing\"}", "a@b.com"]
        {
            assert!(plausible(good.as_bytes()).is_some(), "{good}");
        }
        for bad in [&b"abc"[..], b"1234567890", b"a\x01bcdefgh", b"\xff\xfeabcd", b"$%&=?!ab+#", b""] {
            assert!(plausible(bad).is_none(), "{bad:?}");
        }
    }
}
