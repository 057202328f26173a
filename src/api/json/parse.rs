//! The strict parser: one pass over the bytes, one flat list of nodes, no recursion.

use std::collections::HashSet;

use crate::api::dialect::Limits;
use crate::api::json::error::{JsonError, JsonErrorKind};
use crate::api::json::text::{hex4, unescape};
use crate::api::json::{Kind, Mode, Node};
use crate::api::vocabulary;

/// Objects up to this size are checked for duplicate keys pair by pair; larger ones through a set.
const PAIRWISE_KEYS: usize = 12;

/// Parses a whole document into its nodes, in document order.
pub(super) fn parse(bytes: &[u8], mode: Mode, limits: &Limits) -> Result<Vec<Node>, JsonError> {
    let bare = |kind, at| JsonError { kind, at, path: String::new() };
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(bare(JsonErrorKind::Bom, 0));
    }
    if bytes.iter().take(4).any(|&byte| byte == 0 || byte >= 0xfe) {
        return Err(bare(JsonErrorKind::Encoding, 0));
    }
    if u32::try_from(bytes.len()).is_err() {
        return Err(bare(JsonErrorKind::Size, 0));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| bare(JsonErrorKind::NotUtf8, error.valid_up_to()))?;
    let capacity = (bytes.len() / 24 + 8).min(limits.nodes);
    let mut parser = Parser { text, bytes, at: 0, nodes: Vec::with_capacity(capacity), open: Vec::new(), mode, limits };
    match parser.document() {
        Ok(()) => Ok(parser.nodes),
        Err((kind, at)) => Err(JsonError { kind, at, path: parser.path() }),
    }
}

type Fault = (JsonErrorKind, usize);

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    /// Indexes of the containers that are open, outermost first.
    open: Vec<u32>,
    mode: Mode,
    limits: &'a Limits,
}

impl Parser<'_> {
    fn document(&mut self) -> Result<(), Fault> {
        self.space();
        self.value()?;
        while let Some(&top) = self.open.last() {
            self.space();
            if self.nodes[top as usize].kind == Kind::Object { self.member(top)? } else { self.element(top)? }
        }
        self.space();
        if self.at == self.bytes.len() { Ok(()) } else { Err((JsonErrorKind::Trailing, self.at)) }
    }

    fn member(&mut self, top: u32) -> Result<(), Fault> {
        if !self.step_in(top, b'}')? {
            return Ok(());
        }
        if self.peek() != Some(b'"') {
            return self.syntax();
        }
        let start = self.at;
        let escaped = self.string()?;
        self.push(Kind::Key, start, escaped)?;
        self.space();
        if self.peek() != Some(b':') {
            return self.syntax();
        }
        self.at += 1;
        self.space();
        self.value()
    }

    fn element(&mut self, top: u32) -> Result<(), Fault> {
        if self.step_in(top, b']')? { self.value() } else { Ok(()) }
    }

    /// Before the next member or element: takes the comma, or closes the container. False when it was closed.
    fn step_in(&mut self, top: u32, closing: u8) -> Result<bool, Fault> {
        let first = self.nodes.len() == top as usize + 1;
        match self.peek() {
            Some(byte) if byte == closing => {
                self.close(top)?;
                Ok(false)
            }
            Some(b',') if !first => {
                self.at += 1;
                self.space();
                Ok(true)
            }
            Some(_) if first => Ok(true),
            _ => self.syntax(),
        }
    }

    fn value(&mut self) -> Result<(), Fault> {
        let start = self.at;
        let kind = match self.peek() {
            Some(b'{') => return self.open(Kind::Object),
            Some(b'[') => return self.open(Kind::Array),
            Some(b'"') => {
                let escaped = self.string()?;
                return self.push(Kind::String, start, escaped);
            }
            Some(b'-' | b'0'..=b'9') => {
                self.number()?;
                Kind::Number
            }
            Some(b't') => self.word(b"true", Kind::Bool)?,
            Some(b'f') => self.word(b"false", Kind::Bool)?,
            Some(b'n') => self.word(b"null", Kind::Null)?,
            _ => return self.syntax(),
        };
        self.push(kind, start, false)
    }

    fn open(&mut self, kind: Kind) -> Result<(), Fault> {
        if self.open.len() >= self.limits.depth {
            return Err((JsonErrorKind::Depth, self.at));
        }
        let start = self.at;
        self.at += 1;
        self.push(kind, start, false)?;
        self.open.push(index(self.nodes.len() - 1));
        Ok(())
    }

    fn close(&mut self, top: u32) -> Result<(), Fault> {
        self.at += 1;
        let next = index(self.nodes.len());
        let end = index(self.at);
        let node = &mut self.nodes[top as usize];
        node.end = end;
        node.next = next;
        if node.kind == Kind::Object && self.mode == Mode::Request {
            self.unique_keys(top)?;
        }
        self.open.pop();
        Ok(())
    }

    fn push(&mut self, kind: Kind, start: usize, escaped: bool) -> Result<(), Fault> {
        if self.nodes.len() >= self.limits.nodes {
            return Err((JsonErrorKind::Nodes, start));
        }
        let next = index(self.nodes.len() + 1);
        self.nodes.push(Node { start: index(start), end: index(self.at), next, kind, escaped });
        Ok(())
    }

    /// Refuses an object whose keys, unescaped, are not all different: readers disagree on which one counts.
    fn unique_keys(&self, top: u32) -> Result<(), Fault> {
        let end = self.nodes[top as usize].next;
        let mut few: [&str; PAIRWISE_KEYS] = [""; PAIRWISE_KEYS];
        let mut many: HashSet<std::borrow::Cow<'_, str>> = HashSet::new();
        let mut count = 0;
        let mut at = top + 1;
        while at < end {
            #[cfg(test)]
            crate::api::json::work::done(1);
            let key = self.nodes[at as usize];
            let inner = &self.text[key.start as usize + 1..key.end as usize - 1];
            let twice = if many.is_empty() && count < PAIRWISE_KEYS && !key.escaped {
                few[count] = inner;
                few[..count].contains(&inner)
            } else {
                if many.is_empty() {
                    many.extend(few[..count].iter().map(|&seen| std::borrow::Cow::Borrowed(seen)));
                }
                !many.insert(unescape(inner))
            };
            if twice {
                return Err((JsonErrorKind::DuplicateKey, key.start as usize));
            }
            count += 1;
            at = self.nodes[at as usize + 1].next;
        }
        Ok(())
    }

    /// Reads a string token; true when it holds escapes.
    fn string(&mut self) -> Result<bool, Fault> {
        let mut escaped = false;
        let mut at = self.at + 1;
        loop {
            #[cfg(test)]
            let from = at;
            at = skip_plain(self.bytes, at);
            #[cfg(test)]
            crate::api::json::work::done(1 + at - from);
            match self.bytes.get(at) {
                Some(b'"') => {
                    self.at = at + 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    at = self.escape(at)?;
                }
                _ => return Err((JsonErrorKind::Syntax, at)),
            }
        }
    }

    /// Checks the escape at `at` and returns the offset behind it.
    fn escape(&self, at: usize) -> Result<usize, Fault> {
        match self.bytes.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => return Ok(at + 2),
            Some(b'u') => {}
            _ => return Err((JsonErrorKind::Syntax, at)),
        }
        let lone = match hex4(self.bytes, at + 2) {
            None => return Err((JsonErrorKind::Syntax, at)),
            Some(0xd800..0xdc00) => {
                let low = if self.bytes.get(at + 6..at + 8) == Some(b"\\u") { hex4(self.bytes, at + 8) } else { None };
                if matches!(low, Some(0xdc00..0xe000)) {
                    return Ok(at + 12);
                }
                true
            }
            Some(0xdc00..0xe000) => true,
            Some(_) => false,
        };
        if lone && self.mode == Mode::Request { Err((JsonErrorKind::Surrogate, at)) } else { Ok(at + 6) }
    }

    fn number(&mut self) -> Result<(), Fault> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        let mut exponent = false;
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            exponent = true;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        // Fewer digits than f64::MAX_10_EXP cannot overflow without an exponent.
        let may_overflow = self.mode == Mode::Request && (exponent || self.at - start > 300);
        if may_overflow && self.text[start..self.at].parse::<f64>().is_ok_and(f64::is_infinite) {
            return Err((JsonErrorKind::Number, start));
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let from = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == from { self.syntax() } else { Ok(()) }
    }

    fn word(&mut self, word: &[u8], kind: Kind) -> Result<Kind, Fault> {
        if !self.bytes[self.at..].starts_with(word) {
            return self.syntax();
        }
        self.at += word.len();
        Ok(kind)
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        #[cfg(test)]
        crate::api::json::work::done(1);
        self.bytes.get(self.at).copied()
    }

    fn syntax<T>(&self) -> Result<T, Fault> {
        Err((JsonErrorKind::Syntax, self.at))
    }

    /// The place of what was being read when a fault came up. Names words of the protocols only; any other key may be
    /// the user's text and reads `*`.
    fn path(&self) -> String {
        let mut path = String::new();
        for (level, &top) in self.open.iter().enumerate() {
            let inner = self.open.get(level + 1).copied();
            let (mut at, mut count, mut key) = (top + 1, 0, None);
            while (at as usize) < self.nodes.len() && Some(at) != inner {
                #[cfg(test)]
                crate::api::json::work::done(1);
                let node = self.nodes[at as usize];
                if node.kind == Kind::Key {
                    key = Some(&self.text[node.start as usize + 1..node.end as usize - 1]);
                } else {
                    count += 1;
                }
                at = node.next;
            }
            if self.nodes[top as usize].kind == Kind::Array {
                path.extend(["[", &count.to_string(), "]"]);
            } else if let Some(key) = key {
                let dot = if path.is_empty() { "" } else { "." };
                path.push_str(dot);
                path.push_str(if vocabulary::is_word(key) { key } else { "*" });
            }
        }
        path
    }
}

/// Offsets and indexes fit in 32 bits: a longer document was refused at the start.
fn index(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// The offset of the first quote, backslash or control byte at or after `at`; eight bytes at a time.
fn skip_plain(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let equals = |byte: u8| {
            let diff = word ^ (ONES * u64::from(byte));
            diff.wrapping_sub(ONES) & !diff
        };
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let found = (equals(b'"') | equals(b'\\') | control) & HIGH;
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while let Some(&byte) = bytes.get(at) {
        if byte == b'"' || byte == b'\\' || byte < 0x20 {
            break;
        }
        at += 1;
    }
    at
}
