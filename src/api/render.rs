//! Bodies that Wardline writes itself: errors, refusals, and its own questions to a model.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::api::call::Call;
use crate::api::dialect::{Dialect, Family};
use crate::api::inputs::{self, Assessment};
use crate::api::notice::{BlockStyle, Notice};
use crate::api::transcript::Transcript;
use crate::api::{anthropic, completions, openai, responses};

/// An error as a client is to see it.
#[derive(Clone, Debug)]
pub struct ApiError<'a> {
    /// HTTP status; Anthropic's error type follows from it.
    pub status: u16,
    /// `OpenAI`'s `type`, such as `invalid_request_error` or `server_error`.
    pub kind: &'a str,
    /// `OpenAI`'s `code`, such as `content_filter`.
    pub code: Option<&'a str>,
    /// `OpenAI`'s `param`: the member of the request that is at fault.
    pub param: Option<&'a str>,
    /// One sentence, without text of the user.
    pub message: &'a str,
    /// The request's id.
    pub request_id: &'a str,
    /// The decision behind it, when a guard blocked the request.
    pub content_filter: Option<&'a Notice<'a>>,
}

/// The error in the dialect's own shape.
pub fn error(dialect: Dialect, error: &ApiError<'_>) -> Bytes {
    let mut body = match dialect.family() {
        Family::OpenAi => openai::error(error),
        Family::Anthropic => anthropic::error(error),
    };
    if let Some(notice) = error.content_filter {
        notice.annotate_into(&mut body);
    }
    to_bytes(&body)
}

/// A refusal in the shape of a whole answer, for a blocked prompt. Where no model answers there is no such shape, and
/// Chat Completions' or Messages' stands in.
pub fn refusal(call: &Call, notice: &Notice<'_>) -> Bytes {
    let mut body = match call.dialect() {
        Dialect::OpenAiResponses => responses::refusal(call.model(), notice),
        Dialect::OpenAiCompletions => completions::refusal(call.model(), call.choices(), notice),
        other if other.family() == Family::Anthropic => anthropic::refusal(call.model(), notice),
        _ => openai::refusal(call.model(), call.choices(), notice),
    };
    notice.annotate_into(&mut body);
    to_bytes(&body)
}

/// The same refusal as a whole stream.
pub fn refusal_stream(call: &Call, notice: &Notice<'_>) -> Bytes {
    Transcript::of_call(call).block_tail(notice, BlockStyle::Refusal)
}

/// The answer to a request for moderation: one result a text.
pub fn moderations(request_id: &str, model: &str, texts: &[Vec<Assessment>]) -> Bytes {
    inputs::moderations(request_id, model, texts)
}

/// A fresh request that is not streamed: one system prompt, one user message, as Chat Completions or Messages. For
/// critiques and revisions.
pub fn question(dialect: Dialect, model: &str, system: &str, user: &str, max_tokens: u32) -> Bytes {
    fresh(dialect, model, system, vec![json!({"role": "user", "content": user})], max_tokens)
}

/// The same with all turns of a conversation; an empty system prompt is none.
pub(crate) fn fresh(dialect: Dialect, model: &str, system: &str, mut turns: Vec<Value>, max_tokens: u32) -> Bytes {
    let body = match dialect.family() {
        Family::OpenAi => {
            if !system.is_empty() {
                turns.insert(0, json!({"role": "system", "content": system}));
            }
            json!({"model": model, "messages": turns, "max_completion_tokens": max_tokens})
        }
        Family::Anthropic if system.is_empty() => {
            json!({"model": model, "max_tokens": max_tokens, "messages": turns})
        }
        Family::Anthropic => json!({"model": model, "max_tokens": max_tokens, "system": system, "messages": turns}),
    };
    to_bytes(&body)
}

/// Prints a tree that was built here.
pub(crate) fn to_bytes(body: &Value) -> Bytes {
    Bytes::from(body.to_string())
}

/// An SSE frame with `data` and, where given, an `event` name.
pub(crate) fn frame(event: Option<&str>, data: &Value, out: &mut Vec<u8>) {
    if let Some(event) = event {
        out.extend_from_slice(format!("event: {event}\n").as_bytes());
    }
    out.extend_from_slice(format!("data: {data}\n\n").as_bytes());
}
