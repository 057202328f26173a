//! Streams as providers send them, in every dialect, and what a client makes of one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::{Value, json};
use wardline::api::sse::Framer;
use wardline::api::{Dialect, Event, Lane, Limits};

use crate::responses::Script;

/// One answer: its words, an event each, and a call of a tool after them, if there is one (legacy completions have none).
pub(crate) fn played(dialect: Dialect, words: &[&str], arguments: Option<&[&str]>, usage: bool) -> String {
    match dialect {
        Dialect::AnthropicMessages => messages(words, arguments),
        Dialect::OpenAiResponses => responses(words, arguments),
        _ => chunks(dialect, words, arguments, usage),
    }
}

fn chunks(dialect: Dialect, words: &[&str], arguments: Option<&[&str]>, usage: bool) -> String {
    let legacy = dialect == Dialect::OpenAiCompletions;
    let mut out = String::new();
    let mut chunk = |choices: Value, counted: Value| {
        let object = if legacy { "text_completion" } else { "chat.completion.chunk" };
        let mut chunk = json!({"id": "c-1", "object": object, "created": 1, "model": "m", "choices": choices});
        if usage {
            chunk["usage"] = counted;
        }
        let _infallible = write!(out, "data: {chunk}\n\n");
    };
    let choice = |said: Value, finish: Value| {
        let key = if legacy { "text" } else { "delta" };
        json!([{"index": 0, key: said, "logprobs": null, "finish_reason": finish}])
    };
    if !legacy {
        chunk(choice(json!({"role": "assistant", "content": ""}), Value::Null), Value::Null);
    }
    for word in words {
        chunk(choice(if legacy { json!(word) } else { json!({"content": word}) }, Value::Null), Value::Null);
    }
    if let Some(pieces) = arguments.filter(|_| !legacy) {
        let begun =
            json!({"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": ""}});
        chunk(choice(json!({"tool_calls": [begun]}), Value::Null), Value::Null);
        for piece in pieces {
            let piece = json!({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]});
            chunk(choice(piece, Value::Null), Value::Null);
        }
    }
    let finish = if arguments.is_some() && !legacy { "tool_calls" } else { "stop" };
    chunk(choice(if legacy { json!("") } else { json!({}) }, json!(finish)), Value::Null);
    if usage {
        chunk(json!([]), json!({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}));
    }
    out + "data: [DONE]\n\n"
}

fn messages(words: &[&str], arguments: Option<&[&str]>) -> String {
    let mut out = String::new();
    let mut event = |data: Value| {
        let _infallible = write!(out, "event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap());
    };
    event(
        json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 3, "output_tokens": 1}}}),
    );
    event(json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}));
    for word in words {
        event(json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}));
    }
    event(json!({"type": "content_block_stop", "index": 0}));
    if let Some(pieces) = arguments {
        let block = json!({"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}});
        event(json!({"type": "content_block_start", "index": 1, "content_block": block}));
        for piece in pieces {
            let delta = json!({"type": "input_json_delta", "partial_json": piece});
            event(json!({"type": "content_block_delta", "index": 1, "delta": delta}));
        }
        event(json!({"type": "content_block_stop", "index": 1}));
    }
    let reason = if arguments.is_some() { "tool_use" } else { "end_turn" };
    event(
        json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null}, "usage": {"output_tokens": 9}}),
    );
    event(json!({"type": "message_stop"}));
    out
}

fn responses(words: &[&str], arguments: Option<&[&str]>) -> String {
    let mut script = Script::begin();
    let mut output = vec![script.message(0, words)];
    output.extend(arguments.map(|pieces| script.call(1, pieces)));
    crate::responses::plain(&script.end(&output))
}

/// A request for a stream, with or without its usage where that can be asked for.
pub(crate) fn asked(dialect: Dialect, usage: bool) -> String {
    let mut body: Value = serde_json::from_str(&super::prompt(dialect, "Hello", true)).unwrap();
    if usage {
        body["stream_options"] = json!({"include_usage": true});
    }
    body.to_string()
}

/// The events of a stream.
pub(crate) fn events(stream: &[u8]) -> Vec<(Option<String>, Value)> {
    let frames = frames(stream).into_iter();
    let event = |frame: wardline::api::sse::Frame| {
        let data = frame.data?;
        let data = if &data[..] == b"[DONE]" { json!("[DONE]") } else { serde_json::from_slice(&data).unwrap() };
        Some((frame.event, data))
    };
    frames.filter_map(event).collect()
}

/// The frames of a stream.
pub(crate) fn frames(stream: &[u8]) -> Vec<wardline::api::sse::Frame> {
    let mut cutter = Framer::default();
    cutter.push(&Bytes::copy_from_slice(stream));
    let mut all: Vec<_> = std::iter::from_fn(|| cutter.next_frame().unwrap()).collect();
    all.extend(cutter.finish().unwrap());
    all
}

/// What was said in each lane, copies left out.
pub(crate) fn said(dialect: Dialect, stream: &[u8]) -> BTreeMap<Lane, String> {
    let mut said: BTreeMap<Lane, String> = BTreeMap::new();
    for frame in frames(stream) {
        let event = Event::read(dialect, frame, &Limits::default()).unwrap();
        for delta in event.deltas.iter().filter(|delta| !delta.copy) {
            said.entry(delta.lane).or_default().push_str(&delta.text);
        }
    }
    said
}
