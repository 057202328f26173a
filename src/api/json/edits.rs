//! Changes to a document as splices of its bytes: what no splice touches stays as it was sent.

use std::ops::Range;

use bytes::Bytes;

use crate::api::json::text::quoted;
use crate::api::json::{Json, Value};

/// A set of splices over one document, in any order.
///
/// A splice that lies inside another one is swallowed by it; of two that replace the very same range the later wins.
/// Ranges come from nodes, which nest, so that no two splices cross.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    splices: Vec<(Range<usize>, Vec<u8>)>,
}

impl Edits {
    /// True when there is nothing to change.
    pub fn is_empty(&self) -> bool {
        self.splices.is_empty()
    }

    /// Adds the splices of another set over the same document.
    pub(crate) fn extend(&mut self, other: Edits) {
        self.splices.extend(other.splices);
    }

    /// Puts `bytes` where `range` was.
    pub fn replace(&mut self, range: Range<usize>, bytes: impl Into<Vec<u8>>) {
        self.splices.push((range, bytes.into()));
    }

    /// Puts the string `text`, quoted and escaped, where `value` was.
    pub fn replace_text(&mut self, value: Value<'_>, text: &str) {
        self.replace(value.span(), quoted(text));
    }

    /// Puts `bytes` before offset `at`; several insertions at one offset keep their order.
    pub fn insert(&mut self, at: usize, bytes: impl Into<Vec<u8>>) {
        self.replace(at..at, bytes);
    }

    /// Adds a member at the end of an object; `value` is JSON.
    pub fn append_member(&mut self, object: Value<'_>, key: &str, value: &[u8]) {
        let mut member = if object.entries().next().is_some() { b",".to_vec() } else { Vec::new() };
        member.extend(quoted(key));
        member.push(b':');
        member.extend_from_slice(value);
        self.insert(object.span().end - 1, member);
    }

    /// Takes all members out of `object` whose key `gone` says, together with their commas. Once per object.
    pub fn remove_members(&mut self, object: Value<'_>, gone: impl Fn(&str) -> bool) {
        let members = object.entries().map(|(key, value)| {
            let name = key.as_str().unwrap_or_default();
            (key.span().start..value.span().end, gone(&name))
        });
        self.remove(&members.collect::<Vec<_>>());
    }

    /// Takes all items out of `array` that `gone` says. Once per array.
    pub fn remove_items(&mut self, array: Value<'_>, gone: impl Fn(Value<'_>) -> bool) {
        self.remove(&array.items().map(|item| (item.span(), gone(item))).collect::<Vec<_>>());
    }

    fn remove(&mut self, parts: &[(Range<usize>, bool)]) {
        let mut kept = false;
        for (at, (span, gone)) in parts.iter().enumerate() {
            if !gone {
                kept = true;
            } else if kept {
                self.replace(parts[at - 1].0.end..span.end, Vec::new());
            } else {
                let end = parts.get(at + 1).map_or(span.end, |(next, _)| next.start);
                self.replace(span.start..end, Vec::new());
            }
        }
    }

    /// The splices that count, in the order of the document.
    fn settled(&self) -> Vec<(&Range<usize>, &[u8])> {
        let mut order: Vec<usize> = (0..self.splices.len()).collect();
        order.sort_by_key(|&at| {
            let range = &self.splices[at].0;
            // Insertions before replacements at the same offset; the longest replacement first; the latest of equals first.
            let replaces = !range.is_empty();
            (range.start, replaces, std::cmp::Reverse(range.end), if replaces { usize::MAX - at } else { at })
        });
        let mut done = 0;
        let mut settled = Vec::with_capacity(order.len());
        for at in order {
            let (range, bytes) = &self.splices[at];
            if range.start < done {
                continue;
            }
            done = done.max(range.end);
            settled.push((range, bytes.as_slice()));
        }
        settled
    }
}

impl Json {
    /// The document with `edits` made. Without edits these are the very bytes that were parsed.
    pub fn apply(&self, edits: &Edits) -> Bytes {
        if edits.is_empty() {
            return self.bytes.clone();
        }
        let settled = edits.settled();
        let grown: usize = settled.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut out = Vec::with_capacity(self.bytes.len() + grown);
        let mut at = 0;
        for (range, bytes) in settled {
            out.extend_from_slice(&self.bytes[at..range.start]);
            out.extend_from_slice(bytes);
            at = range.end;
        }
        out.extend_from_slice(&self.bytes[at..]);
        Bytes::from(out)
    }
}
