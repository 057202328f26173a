//! Why a document was refused.

use thiserror::Error;

/// What is wrong with a JSON document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonErrorKind {
    /// A UTF-8 byte order mark leads the document.
    Bom,
    /// UTF-16, UTF-32 or something else that is not UTF-8 text.
    Encoding,
    /// A byte sequence that is not UTF-8.
    NotUtf8,
    /// Not JSON by RFC 8259 (also `NaN`, comments, trailing commas, control characters in strings).
    Syntax,
    /// Something follows the document.
    Trailing,
    /// Deeper than [`Limits::depth`](crate::api::Limits::depth).
    Depth,
    /// More nodes than [`Limits::nodes`](crate::api::Limits::nodes).
    Nodes,
    /// Longer than 4 GiB.
    Size,
    /// An object has the same key twice (after unescaping).
    DuplicateKey,
    /// Half of a surrogate pair stands alone.
    Surrogate,
    /// A number that no IEEE 754 double can hold.
    Number,
}

impl JsonErrorKind {
    /// A short fixed name, fit for a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            JsonErrorKind::Bom => "bom",
            JsonErrorKind::Encoding => "encoding",
            JsonErrorKind::NotUtf8 => "not_utf8",
            JsonErrorKind::Syntax => "syntax",
            JsonErrorKind::Trailing => "trailing",
            JsonErrorKind::Depth => "depth",
            JsonErrorKind::Nodes => "nodes",
            JsonErrorKind::Size => "size",
            JsonErrorKind::DuplicateKey => "duplicate_key",
            JsonErrorKind::Surrogate => "surrogate",
            JsonErrorKind::Number => "number",
        }
    }

    /// One sentence for a person, without any of the document's text.
    pub fn sentence(self) -> &'static str {
        match self {
            JsonErrorKind::Bom => "The body begins with a byte order mark; send plain UTF-8.",
            JsonErrorKind::Encoding | JsonErrorKind::NotUtf8 => "The body is not UTF-8.",
            JsonErrorKind::Syntax => "The body is not valid JSON.",
            JsonErrorKind::Trailing => "The body goes on after the JSON document.",
            JsonErrorKind::Depth => "The JSON is nested too deeply.",
            JsonErrorKind::Nodes => "The JSON has too many values.",
            JsonErrorKind::Size => "The body is too long.",
            JsonErrorKind::DuplicateKey => "An object has the same key twice.",
            JsonErrorKind::Surrogate => "A string holds half of a surrogate pair.",
            JsonErrorKind::Number => "A number is too large for a double.",
        }
    }
}

/// A refused document: what is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{} (at byte {at})", kind.sentence())]
pub struct JsonError {
    /// What is wrong.
    pub kind: JsonErrorKind,
    /// Byte offset from the start of the document.
    pub at: usize,
    /// Place in the document, such as `messages[3].content`; keys that are not words of a protocol read `*`.
    pub path: String,
}
