//! Bodies of our own in the shapes of the Responses API.

use serde_json::{Value as Tree, json};

use crate::api::notice::{BlockStyle, Notice};

pub(super) fn response_id(request_id: &str) -> String {
    format!("resp_{}", request_id.trim_start_matches("req_"))
}

pub(super) fn message_id(request_id: &str) -> String {
    format!("msg_{}", request_id.trim_start_matches("req_"))
}

/// A whole answer that refuses.
pub(in crate::api) fn refusal(model: &str, notice: &Notice<'_>) -> Tree {
    let mut body = blocked(&response_id(notice.request_id), 0, model, notice, BlockStyle::Refusal);
    body["usage"] = json!({
        "input_tokens": 0,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 0,
    });
    body
}

/// A response of which nothing is known but its frame.
pub(super) fn frame_of(id: &str, created: u64, model: &str) -> Tree {
    json!({
        "id": id,
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "error": null,
        "incomplete_details": null,
        "instructions": null,
        "metadata": {},
        "model": model,
        "output": [],
        "parallel_tool_calls": true,
        "temperature": null,
        "tool_choice": "auto",
        "tools": [],
        "top_p": null,
        "usage": null,
    })
}

pub(super) fn blocked(id: &str, created: u64, model: &str, notice: &Notice<'_>, style: BlockStyle) -> Tree {
    let mut body = frame_of(id, created, model);
    body["output"] = json!([refusal_item(&message_id(notice.request_id), notice.message, style)]);
    end(&mut body, style);
    body
}

/// A message that consists of a refusal.
pub(super) fn refusal_item(id: &str, message: &str, style: BlockStyle) -> Tree {
    let content = json!([{"type": "refusal", "refusal": message}]);
    json!({"id": id, "type": "message", "role": "assistant", "status": status(style), "content": content})
}

/// Writes how it ended into a response.
pub(super) fn end(response: &mut Tree, style: BlockStyle) {
    response["status"] = json!(status(style));
    response["incomplete_details"] = match style {
        BlockStyle::ContentFilter => json!({"reason": "content_filter"}),
        BlockStyle::Refusal => Tree::Null,
    };
}

pub(super) fn status(style: BlockStyle) -> &'static str {
    match style {
        BlockStyle::ContentFilter => "incomplete",
        BlockStyle::Refusal => "completed",
    }
}
