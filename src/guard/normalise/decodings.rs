//! Encodings of text in text: percent signs, entities, escapes, hexadecimal digits, base64.
//!
//! One walk from left to right. What is tried at a place is tried once, and what was looked at in vain is passed over.

use std::borrow::Cow;
use std::ops::Range;

use super::plausible::plausible;
use super::view::{Edit, Kind, Normalised};

/// Fewer characters than this are too likely to be something else.
const LEAST_BASE64: usize = 12;
const LEAST_HEX: usize = 12;
/// Pairs of hexadecimal digits in a row.
const LEAST_PAIRS: usize = 4;
/// A line of base64 goes on in the next one if it is at least this long.
const LINE: usize = 32;

/// Takes one layer of encoding off. Says whether there was any.
pub(super) fn undo(mut view: Normalised) -> (Normalised, bool) {
    let mut walk = Walk { text: view.text(), edits: Vec::new(), steps: 0 };
    walk.walk();
    let (edits, steps) = (walk.edits, walk.steps);
    view.stepped(steps);
    let changed = !edits.is_empty();
    (view.replace(&edits), changed)
}

/// Whether an encoding, or what must be passed over like one, begins at this place of the text.
pub(super) fn begins(text: &str, at: usize) -> bool {
    let bytes = text.as_bytes();
    let mut walk = Walk { text, edits: Vec::new(), steps: 0 };
    match bytes[at] {
        b'%' => return pair(bytes, at + 1).is_some(),
        b'\\' => return escape(bytes, at).is_some(),
        b'&' => walk.entity(at),
        _ => walk.token(at),
    };
    !walk.edits.is_empty()
}

struct Walk<'a> {
    text: &'a str,
    edits: Vec<Edit>,
    steps: usize,
}

impl Walk<'_> {
    fn walk(&mut self) {
        let bytes = self.text.as_bytes();
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let next = match byte {
                b'%' => self.percent(at),
                b'&' => self.entity(at),
                b'\\' => self.escapes(at),
                _ if is_base64(byte) => self.token(at),
                _ => at + 1,
            };
            self.steps += next - at;
            at = next;
        }
    }

    fn edit(&mut self, range: Range<usize>, with: &str, kind: Kind) {
        self.edits.push(Edit::new(range, with, kind));
    }

    /// A row of `%41`, decoded as a whole.
    fn percent(&mut self, start: usize) -> usize {
        let bytes = self.text.as_bytes();
        let mut decoded = Vec::new();
        let mut at = start;
        while bytes.get(at) == Some(&b'%')
            && let Some(byte) = pair(bytes, at + 1)
        {
            decoded.push(byte);
            at += 3;
        }
        match std::str::from_utf8(&decoded) {
            Ok(text) if !text.is_empty() && !text.contains(is_unwritable) => self.edit(start..at, text, Kind::Percent),
            _ => {}
        }
        at.max(start + 1)
    }

    /// `&#65;`, `&#x41;`, and the named ones that stand in much text.
    fn entity(&mut self, start: usize) -> usize {
        let rest = &self.text[start + 1..];
        let name_len = rest.bytes().take(9).take_while(|b| b.is_ascii_alphanumeric() || *b == b'#').count();
        let (name, closed) = (&rest[..name_len], rest.as_bytes().get(name_len) == Some(&b';'));
        let end = start + 1 + name_len + usize::from(closed);
        let number = match name.strip_prefix('#') {
            Some(hex) if hex.starts_with(['x', 'X']) => u32::from_str_radix(&hex[1..], 16).ok(),
            Some(decimal) => decimal.parse().ok(),
            None => None,
        };
        if let Some(c) = number.and_then(char::from_u32).filter(|c| !is_unwritable(*c)) {
            self.edit(start..end, c.encode_utf8(&mut [0; 4]), Kind::Entity);
        } else if closed && let Some((_, with)) = NAMED.iter().find(|(known, _)| *known == name) {
            self.edit(start..end, with, Kind::Form);
        } else {
            return start + 1;
        }
        end
    }

    /// A row of `\x41`, `\u0041`, `\u{41}`.
    fn escapes(&mut self, start: usize) -> usize {
        let mut decoded = String::new();
        let mut at = start;
        while let Some((c, end)) = escape(self.text.as_bytes(), at) {
            decoded.push(c);
            at = end;
        }
        if !decoded.is_empty() && !decoded.contains(is_unwritable) {
            self.edit(start..at, &decoded, Kind::Escape);
        }
        // An escaped backslash is no beginning of an escape.
        at.max(start + if self.text.as_bytes().get(start + 1) == Some(&b'\\') { 2 } else { 1 })
    }

    /// A run of letters and digits: hexadecimal, alone or in pairs, or base64.
    fn token(&mut self, start: usize) -> usize {
        let bytes = self.text.as_bytes();
        let run = |from: usize| from + bytes[from..].iter().take_while(|b| is_base64(**b)).count();
        let mut end = run(start);
        if let Some((end, decoded)) = pairs(bytes, start, end) {
            if let Some(text) = plausible(&decoded) {
                let text = text.to_owned();
                self.edit(start..end, &text, Kind::Hex);
            }
            return end;
        }
        let digits = start + if bytes[start..end].starts_with(b"0x") { 2 } else { 0 };
        if end - digits >= LEAST_HEX
            && (end - digits).is_multiple_of(2)
            && bytes[digits..end].iter().all(u8::is_ascii_hexdigit)
        {
            let decoded: Vec<u8> = (digits..end).step_by(2).filter_map(|at| pair(bytes, at)).collect();
            if let Some(text) = plausible(&decoded) {
                let text = text.to_owned();
                self.edit(start..end, &text, Kind::Hex);
                return end;
            }
        }
        let mut letters = Cow::Borrowed(&bytes[start..end]);
        let mut line = end - start;
        // Folded as in mail: long lines follow each other.
        while line >= LINE && bytes.get(end).is_some_and(|b| matches!(b, b'\r' | b'\n')) {
            let next = end + if bytes[end..].starts_with(b"\r\n") { 2 } else { 1 };
            let next_end = if next < bytes.len() { run(next) } else { next };
            line = next_end - next;
            if line == 0 {
                break;
            }
            letters.to_mut().extend_from_slice(&bytes[next..next_end]);
            end = next_end;
        }
        let padded = bytes[end..].iter().take(2).take_while(|b| **b == b'=').count();
        if letters.len() + padded >= LEAST_BASE64
            && let Some(decoded) = base64(&letters)
            && let Some(text) = plausible(&decoded)
        {
            let text = text.to_owned();
            end += padded;
            self.edit(start..end, &text, Kind::Base64);
        }
        end
    }
}

const NAMED: [(&str, &str); 12] = [
    ("amp", "&"),
    ("lt", "<"),
    ("gt", ">"),
    ("quot", "\""),
    ("apos", "'"),
    ("nbsp", " "),
    ("colon", ":"),
    ("period", "."),
    ("comma", ","),
    ("commat", "@"),
    ("excl", "!"),
    ("Tab", "\t"),
];

fn is_unwritable(c: char) -> bool {
    c.is_control() && !matches!(c, '\t' | '\n' | '\r')
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Two hexadecimal digits.
fn pair(bytes: &[u8], at: usize) -> Option<u8> {
    Some(digit(*bytes.get(at)?)? << 4 | digit(*bytes.get(at + 1)?)?)
}

/// Pairs of digits with one and the same sign between them (`69 67 6e`, `0x69,0x67`), and where they end.
fn pairs(bytes: &[u8], start: usize, token_end: usize) -> Option<(usize, Vec<u8>)> {
    let prefix = if bytes[start..].starts_with(b"0x") { 2 } else { 0 };
    let dashed = bytes.get(start + 2) == Some(&b'-');
    if token_end - start != prefix + 2 && !(prefix == 0 && dashed) {
        return None;
    }
    let mut decoded = vec![pair(bytes, start + prefix)?];
    let mut end = start + prefix + 2;
    let between: &[u8] = match bytes.get(end..)? {
        [b',', b' ', ..] => b", ",
        [b' ', ..] => b" ",
        [b':', ..] => b":",
        [b',', ..] => b",",
        [b'-', ..] => b"-",
        _ => return None,
    };
    while bytes[end..].starts_with(between) {
        let next = end + between.len();
        let next = if prefix > 0 && bytes[next..].starts_with(b"0x") { next + 2 } else { next };
        let Some(byte) = pair(bytes, next) else { break };
        if bytes.get(next + 2).is_some_and(u8::is_ascii_alphanumeric) {
            break;
        }
        decoded.push(byte);
        end = next + 2;
    }
    (decoded.len() >= LEAST_PAIRS).then_some((end, decoded))
}

/// One escape that begins at `at`, and where it ends. Two halves of a surrogate pair are one.
fn escape(bytes: &[u8], at: usize) -> Option<(char, usize)> {
    if bytes.get(at) != Some(&b'\\') {
        return None;
    }
    let code = |from: usize, len: usize| {
        bytes.get(from..from + len)?.iter().try_fold(0u32, |code, b| Some(code << 4 | u32::from(digit(*b)?)))
    };
    let unit = |at: usize| if bytes.get(at..at + 2) == Some(b"\\u") { code(at + 2, 4) } else { None };
    let (code, end) = match bytes.get(at + 1)? {
        b'x' => (code(at + 2, 2)?, at + 4),
        b'u' if bytes.get(at + 2) == Some(&b'{') => {
            let len = bytes[at + 3..].iter().take(6).take_while(|b| b.is_ascii_hexdigit()).count();
            if len == 0 || bytes.get(at + 3 + len) != Some(&b'}') {
                return None;
            }
            (code(at + 3, len)?, at + 4 + len)
        }
        b'u' => match (unit(at)?, unit(at + 6)) {
            (high @ 0xd800..0xdc00, Some(low @ 0xdc00..0xe000)) => {
                (0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00), at + 12)
            }
            (code, _) => (code, at + 6),
        },
        b'U' => (code(at + 2, 8)?, at + 10),
        _ => return None,
    };
    Some((char::from_u32(code)?, end))
}

/// RFC 4648 sections 4 and 5, padding apart. What is left of a last group is forgiven.
fn base64(letters: &[u8]) -> Option<Vec<u8>> {
    if letters.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(letters.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0u32, 0u32);
    for letter in letters {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' | b'-' => 62,
            _ => 63,
        };
        bits = (bits << 6 | u32::from(value)) & 0xff_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 0xff).unwrap_or_default());
        }
    }
    Some(out)
}
