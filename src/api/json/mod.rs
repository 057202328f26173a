//! JSON as it was sent: a strict parser that keeps the original bytes and says where each value lies in them.
//!
//! A gateway that parses into a tree and prints it again re-orders keys, rounds big numbers and drops what it does not
//! model. Here the document stays a byte string with a flat list of nodes beside it, and every change is a splice
//! ([`Edits`]), so that what nobody touches leaves byte for byte.

mod edits;
mod error;
mod parse;
#[cfg(test)]
mod tests;
mod text;
#[cfg(test)]
pub(in crate::api) mod work;

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use crate::api::dialect::Limits;

pub use edits::Edits;
pub use error::{JsonError, JsonErrorKind};
pub(crate) use text::{Offsets, escape_into, quoted, widen_over_escapes};

/// Which way a document travels, and so how strictly it is read.
///
/// Both modes refuse byte order marks, other encodings, invalid UTF-8, `NaN`, comments, trailing data, and what is over
/// the caps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Also refuses duplicate keys, lone surrogates and numbers that overflow a double: readers differ on them.
    Request,
    /// Tolerates these, because providers send them: every duplicate stays visible.
    Response,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number, kept as text.
    Number,
    /// A string value.
    String,
    /// The name of a member; a string in every way but its place.
    Key,
    /// `[...]`
    Array,
    /// `{...}`
    Object,
}

/// One token: `bytes[start..end]`; `next` is the index behind everything inside it.
#[derive(Clone, Copy, Debug)]
struct Node {
    start: u32,
    end: u32,
    next: u32,
    kind: Kind,
    escaped: bool,
}

/// Names a node of one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

/// A parsed document over its original bytes.
#[derive(Clone, Debug)]
pub struct Json {
    bytes: Bytes,
    nodes: Vec<Node>,
}

impl Json {
    /// Parses a whole document; time and memory are linear in its length.
    pub fn parse(bytes: Bytes, mode: Mode, limits: &Limits) -> Result<Json, JsonError> {
        let nodes = parse::parse(&bytes, mode, limits)?;
        Ok(Json { bytes, nodes })
    }

    /// The outermost value.
    pub fn root(&self) -> Value<'_> {
        Value { doc: self, at: 0 }
    }

    /// The value behind `id`, which must come from this document.
    pub fn value(&self, id: NodeId) -> Value<'_> {
        Value { doc: self, at: id.0 }
    }

    /// How many nodes there are: ids run from 0 to this.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }
}

/// A value of a document, by reference.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    doc: &'a Json,
    at: u32,
}

impl<'a> Value<'a> {
    /// What it is.
    pub fn kind(self) -> Kind {
        self.node().kind
    }

    /// True for `null`.
    pub fn is_null(self) -> bool {
        self.kind() == Kind::Null
    }

    /// True for an object.
    pub fn is_object(self) -> bool {
        self.kind() == Kind::Object
    }

    /// True for an array.
    pub fn is_array(self) -> bool {
        self.kind() == Kind::Array
    }

    /// The member `key` of an object; the last one where there are several (responses only).
    pub fn get(self, key: &str) -> Option<Value<'a>> {
        self.all(key).last()
    }

    /// Every member named `key`.
    pub fn all(self, key: &str) -> impl Iterator<Item = Value<'a>> {
        self.entries().filter_map(move |(name, value)| name.is_named(key).then_some(value))
    }

    /// The members of an object as (key, value); nothing for any other kind.
    pub fn entries(self) -> impl Iterator<Item = (Value<'a>, Value<'a>)> {
        let mut at = self.at + 1;
        let end = if self.is_object() { self.node().next } else { at };
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let key = Value { doc: self.doc, at };
            let value = Value { doc: self.doc, at: at + 1 };
            at = value.node().next;
            Some((key, value))
        })
    }

    /// The items of an array; nothing for any other kind.
    pub fn items(self) -> impl Iterator<Item = Value<'a>> {
        let mut at = self.at + 1;
        let end = if self.is_array() { self.node().next } else { at };
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let item = Value { doc: self.doc, at };
            at = item.node().next;
            Some(item)
        })
    }

    /// This value and everything in it, in document order.
    pub(crate) fn tree(self) -> impl Iterator<Item = Value<'a>> {
        (self.at..self.node().next).map(move |at| Value { doc: self.doc, at })
    }

    /// The text of a string or key, unescaped.
    pub fn as_str(self) -> Option<Cow<'a, str>> {
        let inner = self.inner()?;
        #[cfg(test)]
        work::done(inner.len());
        Some(if self.node().escaped { text::unescape(inner) } else { Cow::Borrowed(inner) })
    }

    /// The escaped text between the quotes of a string or key.
    pub(crate) fn inner(self) -> Option<&'a str> {
        matches!(self.kind(), Kind::String | Kind::Key).then(|| {
            let text = self.text();
            &text[1..text.len() - 1]
        })
    }

    /// `true` or `false`.
    pub fn as_bool(self) -> Option<bool> {
        (self.kind() == Kind::Bool).then(|| self.raw() == b"true")
    }

    /// A number that is written as an integer of at most 64 bits without sign.
    pub fn as_u64(self) -> Option<u64> {
        if self.kind() == Kind::Number { self.text().parse().ok() } else { None }
    }

    /// The bytes as sent.
    pub fn raw(self) -> &'a [u8] {
        &self.doc.bytes[self.span()]
    }

    /// Where it lies in the document, in bytes.
    pub fn span(self) -> Range<usize> {
        let node = self.node();
        node.start as usize..node.end as usize
    }

    /// Its name within the document.
    pub fn id(self) -> NodeId {
        NodeId(self.at)
    }

    /// Its place in [`Json::nodes`].
    pub(crate) fn index(self) -> usize {
        self.at as usize
    }

    /// True for a key with this text.
    fn is_named(self, key: &str) -> bool {
        if self.node().escaped {
            return self.as_str().as_deref() == Some(key);
        }
        let raw = self.raw();
        &raw[1..raw.len() - 1] == key.as_bytes()
    }

    fn node(self) -> Node {
        #[cfg(test)]
        work::done(1);
        self.doc.nodes[self.at as usize]
    }

    #[expect(clippy::expect_used, reason = "the whole document was checked, and tokens end at character boundaries")]
    fn text(self) -> &'a str {
        std::str::from_utf8(self.raw()).expect("checked when parsed")
    }
}

impl std::fmt::Debug for Value<'_> {
    /// Kind and place only: what is in a document does not belong in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}@{:?}", self.kind(), self.span())
    }
}
