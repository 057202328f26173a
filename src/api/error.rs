//! Why a request, an answer or an event was not understood.

use thiserror::Error;

use crate::api::json::{JsonError, Value};

/// A body that cannot be read, and so is not forwarded.
///
/// Its message names places and words of the protocol only; no text of the user or the model is in it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct ReadError {
    kind: &'static str,
    place: String,
    at: usize,
    message: String,
}

impl ReadError {
    /// A short fixed name, fit for a metric label: `duplicate_key`, `depth`, `not_utf8`, `bom`, `number`, `type`,
    /// `missing`, `value`, `unscannable`, `stored_state` and so on.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Where, such as `messages[3].content`; empty for the whole body.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Byte offset in the body.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The HTTP status that tells a client so: 413 where a cap on size was hit, else 400.
    pub fn status(&self) -> u16 {
        if matches!(self.kind, "nodes" | "size") { 413 } else { 400 }
    }

    /// A value of the wrong type. `expected` reads as in "must be {expected}".
    pub(crate) fn wrong_type(place: impl Into<String>, value: Value<'_>, expected: &str) -> ReadError {
        let place = place.into();
        let subject = if place.is_empty() { "The body" } else { place.as_str() };
        let message = format!("{subject} must be {expected}.");
        ReadError { kind: "type", at: value.span().start, message, place }
    }

    /// A value of the right type that is not allowed.
    pub(crate) fn wrong_value(place: impl Into<String>, value: Value<'_>, expected: &str) -> ReadError {
        ReadError { kind: "value", ..ReadError::wrong_type(place, value, expected) }
    }

    /// A member that must be there.
    pub(crate) fn missing(place: impl Into<String>, within: Value<'_>) -> ReadError {
        let place = place.into();
        ReadError { kind: "missing", at: within.span().start, message: format!("{place} is missing."), place }
    }

    /// Content that no text guard can judge.
    pub(crate) fn unscannable(place: impl Into<String>, value: Value<'_>) -> ReadError {
        let place = place.into();
        let message = format!("{place} holds media, which this gateway cannot inspect; send text.");
        ReadError { kind: "unscannable", at: value.span().start, message, place }
    }

    /// Text that is written as the numbers of a vocabulary.
    pub(crate) fn tokens(place: impl Into<String>, value: Value<'_>) -> ReadError {
        let place = place.into();
        let message = format!("{place} holds token ids, which this gateway cannot inspect; send text.");
        ReadError { kind: "unscannable", at: value.span().start, message, place }
    }

    /// A reference to text that never passed here. `what` reads as in "stands for {what}".
    pub(crate) fn stored(place: impl Into<String>, value: Value<'_>, what: &str) -> ReadError {
        let place = place.into();
        let message = format!("{place} stands for {what}, which this gateway has not seen; send the text itself.");
        ReadError { kind: "stored_state", at: value.span().start, message, place }
    }
}

impl From<JsonError> for ReadError {
    fn from(error: JsonError) -> ReadError {
        let JsonError { kind, at, path } = error;
        let sentence = kind.sentence().trim_end_matches('.');
        let message = match path.as_str() {
            "" => format!("{sentence} (at byte {at})."),
            place => format!("{sentence} (in {place}, at byte {at})."),
        };
        ReadError { kind: kind.as_str(), place: path, at, message }
    }
}
