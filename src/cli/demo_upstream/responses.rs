//! `OpenAI`'s Responses.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::ask::Ask;
use super::openai::{created, fragments, output_tokens};

/// The request as Chat Completions would put it, as far as the stand-in cares.
pub(super) fn as_chat(body: &Value) -> Value {
    let mut messages = vec![json!({"role": "system", "content": body["instructions"]})];
    match &body["input"] {
        Value::String(text) => messages.push(json!({"role": "user", "content": text})),
        Value::Array(items) => messages.extend(items.iter().filter_map(message)),
        _ => {}
    }
    let function = |tool: &Value| (tool["type"] == "function").then(|| json!({"function": tool}));
    let tools: Vec<Value> = body["tools"].as_array().into_iter().flatten().filter_map(function).collect();
    let said = messages.iter().any(|message| message["role"] != "system");
    json!({
        "model": body["model"],
        "messages": if said { messages } else { Vec::new() },
        "tools": tools,
        "stream": body["stream"],
        "max_tokens": body["max_output_tokens"],
    })
}

fn message(item: &Value) -> Option<Value> {
    match item["type"].as_str() {
        None | Some("message") => Some(json!({"role": item["role"], "content": item["content"]})),
        Some("function_call_output") => Some(json!({"role": "tool", "content": item["output"]})),
        _ => None,
    }
}

pub(super) fn whole(ask: &Ask, answer: &Answer, id: &str) -> Value {
    response(ask, answer, id, Some(&item(answer, id, true)))
}

/// The frames of a stream.
pub(super) fn stream(ask: &Ask, answer: &Answer, id: &str) -> Vec<Bytes> {
    let mut script = Script::default();
    let (begun, item) = (item(answer, id, false), item(answer, id, true));
    script.emit("response.created", json!({"response": response(ask, answer, id, None)}));
    script.emit("response.in_progress", json!({"response": response(ask, answer, id, None)}));
    script.emit("response.output_item.added", json!({"output_index": 0, "item": begun}));
    let at = |more: Value| {
        let mut members = json!({"item_id": item["id"], "output_index": 0});
        let more = more.as_object().cloned().unwrap_or_default();
        members.as_object_mut().unwrap_or(&mut Map::new()).extend(more);
        members
    };
    match answer {
        Answer::Text { pieces, .. } => {
            let part = |text: &str| json!({"content_index": 0, "part": {"type": "output_text", "text": text, "annotations": []}});
            script.emit("response.content_part.added", at(part("")));
            for piece in pieces {
                script.emit(
                    "response.output_text.delta",
                    at(json!({"content_index": 0, "delta": piece, "logprobs": []})),
                );
            }
            let text = pieces.concat();
            script.emit("response.output_text.done", at(json!({"content_index": 0, "text": text, "logprobs": []})));
            script.emit("response.content_part.done", at(part(&text)));
        }
        Answer::Call { name, arguments } => {
            for piece in fragments(&arguments.to_string()) {
                script.emit("response.function_call_arguments.delta", at(json!({"delta": piece})));
            }
            let done = json!({"name": name, "arguments": arguments.to_string()});
            script.emit("response.function_call_arguments.done", at(done));
        }
    }
    script.emit("response.output_item.done", json!({"output_index": 0, "item": item}));
    let whole = response(ask, answer, id, Some(&item));
    script.emit(&format!("response.{}", status(answer)), json!({"response": whole}));
    script.frames
}

#[derive(Default)]
struct Script {
    frames: Vec<Bytes>,
}

impl Script {
    fn emit(&mut self, kind: &str, mut event: Value) {
        event["type"] = json!(kind);
        event["sequence_number"] = json!(self.frames.len());
        self.frames.push(Bytes::from(format!("event: {kind}\ndata: {event}\n\n")));
    }
}

fn item(answer: &Answer, id: &str, done: bool) -> Value {
    let status = if done { "completed" } else { "in_progress" };
    match answer {
        Answer::Text { pieces, .. } => {
            let part = json!({"type": "output_text", "text": pieces.concat(), "annotations": []});
            let content = if done { vec![part] } else { Vec::new() };
            json!({"id": format!("msg_demo_{id}"), "type": "message", "role": "assistant", "status": status, "content": content})
        }
        Answer::Call { name, arguments } => json!({
            "id": format!("fc_demo_{id}"),
            "type": "function_call",
            "status": status,
            "call_id": format!("call_demo_{id}"),
            "name": name,
            "arguments": if done { arguments.to_string() } else { String::new() },
        }),
    }
}

fn status(answer: &Answer) -> &'static str {
    if matches!(answer, Answer::Text { cut: true, .. }) { "incomplete" } else { "completed" }
}

/// The response, with its one item once that is there.
fn response(ask: &Ask, answer: &Answer, id: &str, item: Option<&Value>) -> Value {
    let (input, output) = (ask.input_tokens, output_tokens(answer));
    let usage = json!({
        "input_tokens": input,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input + output,
    });
    let status = if item.is_some() { status(answer) } else { "in_progress" };
    json!({
        "id": format!("resp_demo_{id}"),
        "object": "response",
        "created_at": created(),
        "status": status,
        "error": null,
        "incomplete_details": if status == "incomplete" { json!({"reason": "max_output_tokens"}) } else { Value::Null },
        "instructions": null,
        "metadata": {},
        "model": ask.model,
        "output": item.into_iter().collect::<Vec<_>>(),
        "parallel_tool_calls": true,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": if item.is_some() { usage } else { Value::Null },
    })
}
