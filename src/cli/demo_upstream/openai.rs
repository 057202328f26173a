//! `OpenAI`'s Chat Completions.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::Answer;
use super::ask::Ask;

pub(super) fn error(message: &str) -> Value {
    json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": null}})
}

pub(super) fn whole(ask: &Ask, answers: &[Answer], id: &str) -> Value {
    let choice = |(index, answer): (usize, &Answer)| {
        let message = match answer {
            Answer::Text { pieces, .. } => {
                json!({"role": "assistant", "content": pieces.concat(), "refusal": null, "annotations": []})
            }
            Answer::Call { name, arguments } => json!({
                "role": "assistant",
                "content": null,
                "refusal": null,
                "annotations": [],
                "tool_calls": [{
                    "id": call_id(id, index),
                    "type": "function",
                    "function": {"name": name, "arguments": arguments.to_string()},
                }],
            }),
        };
        json!({"index": index, "message": message, "logprobs": null, "finish_reason": finish_reason(answer)})
    };
    let choices: Vec<Value> = answers.iter().enumerate().map(choice).collect();
    json!({
        "id": format!("chatcmpl-demo-{id}"),
        "object": "chat.completion",
        "created": created(),
        "model": ask.model,
        "choices": choices,
        "usage": usage(ask, answers),
        "service_tier": "default",
        "system_fingerprint": "fp_wardline_demo",
    })
}

/// The frames of a stream; those of several choices take turns.
pub(super) fn stream(ask: &Ask, answers: &[Answer], id: &str) -> Vec<Bytes> {
    let created = created();
    let chunk = |choices: Value, usage: Option<Value>| {
        let mut chunk = json!({
            "id": format!("chatcmpl-demo-{id}"),
            "object": "chat.completion.chunk",
            "created": created,
            "model": ask.model,
            "service_tier": "default",
            "system_fingerprint": "fp_wardline_demo",
            "choices": choices,
        });
        if ask.include_usage {
            chunk["usage"] = usage.unwrap_or(Value::Null);
        }
        Bytes::from(format!("data: {chunk}\n\n"))
    };
    let mut lanes: Vec<_> =
        answers.iter().enumerate().map(|(index, answer)| deltas(answer, &call_id(id, index)).into_iter()).collect();
    let mut frames = Vec::new();
    loop {
        let before = frames.len();
        for (index, lane) in lanes.iter_mut().enumerate() {
            if let Some((delta, finish_reason)) = lane.next() {
                let choice =
                    json!([{"index": index, "delta": delta, "logprobs": null, "finish_reason": finish_reason}]);
                frames.push(chunk(choice, None));
            }
        }
        if frames.len() == before {
            break;
        }
    }
    if ask.include_usage {
        frames.push(chunk(json!([]), Some(usage(ask, answers))));
    }
    frames.push(Bytes::from_static(b"data: [DONE]\n\n"));
    frames
}

/// One choice's deltas, each with the reason to finish that goes with it.
fn deltas(answer: &Answer, call_id: &str) -> Vec<(Value, Value)> {
    let mut deltas = match answer {
        Answer::Text { pieces, .. } => {
            let role = json!({"role": "assistant", "content": "", "refusal": null});
            std::iter::once(role).chain(pieces.iter().map(|piece| json!({"content": piece}))).collect::<Vec<_>>()
        }
        Answer::Call { name, arguments } => {
            let call =
                json!({"index": 0, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}});
            let begin = json!({"role": "assistant", "content": null, "tool_calls": [call], "refusal": null});
            let part = |part: String| json!({"tool_calls": [{"index": 0, "function": {"arguments": part}}]});
            std::iter::once(begin).chain(fragments(&arguments.to_string()).map(part)).collect()
        }
    };
    deltas.push(json!({}));
    let last = deltas.len() - 1;
    let finish = |i| if i == last { json!(finish_reason(answer)) } else { Value::Null };
    deltas.into_iter().enumerate().map(|(i, delta)| (delta, finish(i))).collect()
}

/// Four characters at a time: in the middle of words and escapes, as models do.
pub(super) fn fragments(arguments: &str) -> impl Iterator<Item = String> {
    let characters: Vec<char> = arguments.chars().collect();
    characters.chunks(4).map(|part| part.iter().collect()).collect::<Vec<String>>().into_iter()
}

/// An estimate: a word is a token, and so are four characters of arguments.
pub(super) fn output_tokens(answer: &Answer) -> usize {
    match answer {
        Answer::Text { pieces, .. } => pieces.len(),
        Answer::Call { arguments, .. } => arguments.to_string().len().div_ceil(4) + 1,
    }
}

fn finish_reason(answer: &Answer) -> &'static str {
    match answer {
        Answer::Text { cut: false, .. } => "stop",
        Answer::Text { cut: true, .. } => "length",
        Answer::Call { .. } => "tool_calls",
    }
}

fn call_id(id: &str, choice: usize) -> String {
    format!("call_demo_{id}_{choice}")
}

fn usage(ask: &Ask, answers: &[Answer]) -> Value {
    let (input, output) = (ask.input_tokens, answers.iter().map(output_tokens).sum::<usize>());
    json!({
        "prompt_tokens": input,
        "completion_tokens": output,
        "total_tokens": input + output,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    })
}

pub(super) fn created() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
