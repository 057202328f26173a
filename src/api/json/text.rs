//! The text inside JSON string tokens: escaping, unescaping, and where a piece of text lies in the escaped bytes.

use std::borrow::Cow;

/// Appends `text` as the inside of a JSON string (no quotes). Only what RFC 8259 section 7 demands is escaped, so that
/// the same text always gives the same bytes.
pub(crate) fn escape_into(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let mut clean = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            0..0x20 => b'u',
            _ => continue,
        };
        out.extend_from_slice(&bytes[clean..at]);
        out.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(&[b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        clean = at + 1;
    }
    out.extend_from_slice(&bytes[clean..]);
}

/// `text` as a JSON string token, with its quotes.
pub(crate) fn quoted(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    out.push(b'"');
    escape_into(text, &mut out);
    out.push(b'"');
    out
}

/// The text of a string token's inside. Halves of surrogate pairs that stand alone become U+FFFD.
pub(super) fn unescape(inner: &str) -> Cow<'_, str> {
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let (char, len) = escape_unit(&rest.as_bytes()[at..]);
        out.push(char);
        rest = &rest[at + len..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Decodes the escape at the head of `raw` (which begins with a backslash and was checked by the parser): the character
/// and how many bytes it took.
fn escape_unit(raw: &[u8]) -> (char, usize) {
    let char = match raw.get(1) {
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'u') => return unicode_unit(raw),
        Some(&other) => char::from(other),
        None => return (char::REPLACEMENT_CHARACTER, 1),
    };
    (char, 2)
}

fn unicode_unit(raw: &[u8]) -> (char, usize) {
    let Some(first) = hex4(raw, 2) else { return (char::REPLACEMENT_CHARACTER, raw.len().min(2)) };
    if !(0xd800..0xdc00).contains(&first) {
        return (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 6);
    }
    let second = if raw.get(6..8) == Some(b"\\u") { hex4(raw, 8) } else { None };
    match second {
        Some(low @ 0xdc00..0xe000) => {
            let code = 0x1_0000 + ((first - 0xd800) << 10) + (low - 0xdc00);
            (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12)
        }
        _ => (char::REPLACEMENT_CHARACTER, 6),
    }
}

/// Four hexadecimal digits at `at`.
pub(super) fn hex4(raw: &[u8], at: usize) -> Option<u32> {
    let digits = raw.get(at..at + 4)?;
    digits.iter().try_fold(0u32, |sum, &digit| Some(sum << 4 | char::from(digit).to_digit(16)?))
}

/// Walks a string token's inside once and tells, for rising text offsets, the raw offsets where they lie.
pub(crate) struct Offsets<'a> {
    inner: &'a str,
    raw: usize,
    text: usize,
}

impl<'a> Offsets<'a> {
    /// `inner` is the escaped text between the quotes.
    pub(crate) fn new(inner: &'a str) -> Self {
        Offsets { inner, raw: 0, text: 0 }
    }

    /// The raw offset of text offset `target`; targets must not fall from call to call.
    pub(crate) fn raw_at(&mut self, target: usize) -> usize {
        let bytes = self.inner.as_bytes();
        while self.text < target && self.raw < bytes.len() {
            let plain = memchr::memchr(b'\\', &bytes[self.raw..]).unwrap_or(bytes.len() - self.raw);
            let step = plain.min(target - self.text);
            if step > 0 {
                self.raw += step;
                self.text += step;
                continue;
            }
            let (char, len) = escape_unit(&bytes[self.raw..]);
            self.raw += len;
            self.text += char.len_utf8();
        }
        self.raw
    }
}

/// Widens `range` over JSON text that itself stands in a string (tool arguments), so that it cuts through no escape of
/// that inner text. `text` is the whole inner document; ranges must be on character boundaries.
pub(crate) fn widen_over_escapes(text: &str, mut range: std::ops::Range<usize>) -> std::ops::Range<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < range.end {
        let Some(found) = memchr::memchr(b'\\', &bytes[at..]) else { break };
        let start = at + found;
        let len = if bytes.get(start + 1) == Some(&b'u') && hex4(bytes, start + 2).is_some() { 6 } else { 2 };
        let mut end = (start + len).min(bytes.len());
        while !text.is_char_boundary(end) {
            end += 1;
        }
        if start < range.start && range.start < end {
            range.start = start;
        }
        if start < range.end && range.end < end {
            range.end = end;
        }
        at = end;
    }
    range
}
