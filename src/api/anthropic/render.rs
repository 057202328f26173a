//! Bodies of our own in Anthropic's shapes, and how a stream is brought to an end.

use serde_json::{Value as Tree, json};

use crate::api::event::Event;
use crate::api::json::Value;
use crate::api::notice::{BlockStyle, Notice, Usage};
use crate::api::render::{ApiError, frame};

/// `{"type":"error","error":{...},"request_id":...}`.
pub(in crate::api) fn error(error: &ApiError<'_>) -> Tree {
    let kind = match error.status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        400..500 => "invalid_request_error",
        _ => "api_error",
    };
    error_body(kind, error.message, error.request_id)
}

fn error_body(kind: &str, message: &str, request_id: &str) -> Tree {
    json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id})
}

/// A whole answer that refuses.
pub(in crate::api) fn refusal(model: &str, notice: &Notice<'_>) -> Tree {
    blocked(&message_id(notice.request_id), model, &usage(Usage::default()), notice, BlockStyle::Refusal)
}

pub(super) fn blocked(id: &str, model: &str, usage: &Tree, notice: &Notice<'_>, style: BlockStyle) -> Tree {
    let mut body = json!({
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": notice.message}],
    });
    if let (Some(body), Tree::Object(end)) = (body.as_object_mut(), ending(notice, style)) {
        body.extend(end);
    }
    body["usage"] = usage.clone();
    body
}

fn ending(notice: &Notice<'_>, style: BlockStyle) -> Tree {
    match style {
        BlockStyle::ContentFilter => json!({
            "stop_reason": "refusal",
            "stop_sequence": null,
            // The category is the provider's own enumeration; ours would be a lie.
            "stop_details": {"type": "refusal", "category": null, "explanation": notice.message},
        }),
        BlockStyle::Refusal => json!({"stop_reason": "end_turn", "stop_sequence": null}),
    }
}

pub(super) fn message_id(request_id: &str) -> String {
    format!("msg_{}", request_id.trim_start_matches("req_"))
}

pub(super) fn usage(usage: Usage) -> Tree {
    json!({"input_tokens": usage.input, "output_tokens": usage.output})
}

/// How far a stream has come.
#[derive(Clone, Debug, Default)]
pub(in crate::api) struct Progress {
    id: Option<String>,
    model: Option<String>,
    usage: Usage,
    /// The client has `message_start`.
    started: bool,
    /// The block whose end the client lacks.
    open: Option<u64>,
    /// The index of the next block.
    next: u64,
    /// The client has text of the answer.
    spoken: bool,
    /// The client has the `stop_reason`.
    stopped: bool,
    done: bool,
}

impl Progress {
    pub(in crate::api) fn new(model: Option<String>) -> Progress {
        Progress { model, ..Progress::default() }
    }

    pub(in crate::api) fn seen(&mut self, event: &Event) {
        if let Some(usage) = event.usage {
            self.usage =
                Usage { input: self.usage.input.max(usage.input), output: self.usage.output.max(usage.output) };
        }
        let Some(message) = event.root().and_then(|root| root.get("message")) else { return };
        let text = |key| message.get(key).and_then(Value::as_str).map(std::borrow::Cow::into_owned);
        self.id = self.id.take().or_else(|| text("id"));
        self.model = text("model").or_else(|| self.model.take());
    }

    pub(in crate::api) fn released(&mut self, event: &Event) {
        self.done |= event.terminal;
        let Some(root) = event.root() else { return };
        let index = root.get("index").and_then(Value::as_u64).unwrap_or(self.next);
        match root.get("type").and_then(Value::as_str).as_deref() {
            Some("message_start") => self.started = true,
            Some("content_block_start") => {
                self.open = Some(index);
                self.next = index + 1;
            }
            Some("content_block_stop") => self.open = None,
            Some("content_block_delta") => {
                self.spoken |= root.get("delta").is_some_and(|delta| delta.get("text").is_some());
            }
            Some("message_delta") => self.stopped = true,
            _ => {}
        }
    }

    pub(in crate::api) fn block_tail(&self, notice: &Notice<'_>, style: BlockStyle) -> Vec<u8> {
        let mut out = Vec::new();
        if self.done {
            return out;
        }
        if !self.started {
            emit(json!({"type": "message_start", "message": self.empty_message(notice.request_id)}), &mut out);
        }
        if let Some(index) = self.open {
            emit(json!({"type": "content_block_stop", "index": index}), &mut out);
        }
        if !self.stopped {
            if !self.spoken || style == BlockStyle::Refusal {
                self.say(notice.message, &mut out);
            }
            let output = json!({"output_tokens": self.usage.output});
            let mut last = json!({"type": "message_delta", "delta": ending(notice, style), "usage": output});
            notice.annotate_into(&mut last);
            emit(last, &mut out);
        }
        emit(json!({"type": "message_stop"}), &mut out);
        out
    }

    pub(in crate::api) fn error_tail(message: &str, request_id: &str) -> Vec<u8> {
        let mut out = Vec::new();
        emit(error_body("api_error", message, request_id), &mut out);
        out
    }

    /// A text block of our own.
    fn say(&self, text: &str, out: &mut Vec<u8>) {
        let index = self.next;
        let block = json!({"type": "text", "text": ""});
        emit(json!({"type": "content_block_start", "index": index, "content_block": block}), out);
        let delta = json!({"type": "text_delta", "text": text});
        emit(json!({"type": "content_block_delta", "index": index, "delta": delta}), out);
        emit(json!({"type": "content_block_stop", "index": index}), out);
    }

    fn empty_message(&self, request_id: &str) -> Tree {
        json!({
            "id": self.id.clone().unwrap_or_else(|| message_id(request_id)),
            "type": "message",
            "role": "assistant",
            "model": self.model.as_deref().unwrap_or_default(),
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": usage(Usage { output: 0, ..self.usage }),
        })
    }
}

/// A frame whose `event` is the data's `type`.
#[expect(clippy::needless_pass_by_value, reason = "every call builds the tree for this frame alone")]
fn emit(data: Tree, out: &mut Vec<u8>) {
    frame(data["type"].as_str(), &data, out);
}
