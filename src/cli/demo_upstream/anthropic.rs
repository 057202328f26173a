//! Anthropic's Messages.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::answer::Answer;
use super::ask::Ask;
use super::openai::{fragments, output_tokens};

pub(super) fn error(status: StatusCode, message: &str) -> Value {
    let kind = match status {
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        _ => "invalid_request_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": message}})
}

pub(super) fn whole(ask: &Ask, answer: &Answer, id: &str) -> Value {
    let content = match answer {
        Answer::Text { pieces, .. } => json!([{"type": "text", "text": pieces.concat(), "citations": null}]),
        Answer::Call { name, arguments } => {
            json!([{"type": "tool_use", "id": format!("toolu_demo_{id}"), "name": name, "input": arguments}])
        }
    };
    message(ask, id, &content, &stop_reason(answer), output_tokens(answer))
}

/// The frames of a stream.
pub(super) fn stream(ask: &Ask, answer: &Answer, id: &str) -> Vec<Bytes> {
    let (block, deltas) = match answer {
        Answer::Text { pieces, .. } => (
            json!({"type": "text", "text": "", "citations": null}),
            pieces.iter().map(|piece| json!({"type": "text_delta", "text": piece})).collect::<Vec<_>>(),
        ),
        Answer::Call { name, arguments } => (
            json!({"type": "tool_use", "id": format!("toolu_demo_{id}"), "name": name, "input": {}}),
            fragments(&arguments.to_string())
                .map(|part| json!({"type": "input_json_delta", "partial_json": part}))
                .collect(),
        ),
    };
    let mut frames = vec![
        event(&json!({"type": "message_start", "message": message(ask, id, &json!([]), &Value::Null, 1)})),
        event(&json!({"type": "content_block_start", "index": 0, "content_block": block})),
        event(&json!({"type": "ping"})),
    ];
    frames.extend(
        deltas.into_iter().map(|delta| event(&json!({"type": "content_block_delta", "index": 0, "delta": delta}))),
    );
    frames.extend([
        event(&json!({"type": "content_block_stop", "index": 0})),
        event(&json!({
            "type": "message_delta",
            "delta": {"stop_reason": stop_reason(answer), "stop_sequence": null},
            "usage": {"output_tokens": output_tokens(answer)},
        })),
        event(&json!({"type": "message_stop"})),
    ]);
    frames
}

fn event(data: &Value) -> Bytes {
    Bytes::from(format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default()))
}

fn message(ask: &Ask, id: &str, content: &Value, stop_reason: &Value, output_tokens: usize) -> Value {
    json!({
        "id": format!("msg_demo_{id}"),
        "type": "message",
        "role": "assistant",
        "model": ask.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": null,
        "usage": {
            "input_tokens": ask.input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": output_tokens,
            "service_tier": "standard",
        },
    })
}

fn stop_reason(answer: &Answer) -> Value {
    json!(match answer {
        Answer::Text { cut: false, .. } => "end_turn",
        Answer::Text { cut: true, .. } => "max_tokens",
        Answer::Call { .. } => "tool_use",
    })
}
