//! `OpenAI`'s legacy Completions, Embeddings and Models, and what both providers say of models and tokens.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::Wire;
use super::answer::Answer;
use super::ask::Ask;
use super::openai::{created, output_tokens};

/// The one model that the stand-in is.
const MODEL: &str = "demo";
/// Numbers of an embedding, where the request does not say how many.
const DIMENSIONS: u64 = 64;
const MOST_DIMENSIONS: u64 = 4096;

/// A prompt as Chat Completions would put it: what stands before its last paragraph is the system text.
pub(super) fn as_chat(body: &Value) -> Value {
    let prompt = body["prompt"].as_str().or_else(|| body["prompt"][0].as_str()).unwrap_or_default();
    let (system, user) = prompt.rsplit_once("\n\n").unwrap_or(("", prompt));
    let messages = json!([{"role": "system", "content": system}, {"role": "user", "content": user}]);
    let mut chat = body.clone();
    chat["messages"] = if prompt.is_empty() { json!([]) } else { messages };
    chat
}

fn completion(ask: &Ask, id: &str, choices: &Value) -> Value {
    json!({"id": format!("cmpl-demo-{id}"), "object": "text_completion", "created": created(), "model": ask.model, "choices": choices})
}

fn choice(index: usize, text: &str, finish: Option<&str>) -> Value {
    json!({"index": index, "text": text, "logprobs": null, "finish_reason": finish})
}

/// Text, and how it ended; nobody asks a prompt's continuation for calls of tools.
fn text(answer: &Answer) -> (&[String], &'static str) {
    match answer {
        Answer::Text { pieces, cut } => (pieces, if *cut { "length" } else { "stop" }),
        Answer::Call { .. } => (&[], "stop"),
    }
}

fn usage(ask: &Ask, answers: &[Answer]) -> Value {
    let output: usize = answers.iter().map(output_tokens).sum();
    json!({"prompt_tokens": ask.input_tokens, "completion_tokens": output, "total_tokens": ask.input_tokens + output})
}

pub(super) fn whole(ask: &Ask, answers: &[Answer], id: &str) -> Value {
    let choices = answers.iter().enumerate().map(|(index, answer)| {
        let (pieces, finish) = text(answer);
        choice(index, &pieces.concat(), Some(finish))
    });
    let mut whole = completion(ask, id, &choices.collect());
    whole["usage"] = usage(ask, answers);
    whole
}

/// The frames of a stream, one choice after the other.
pub(super) fn stream(ask: &Ask, answers: &[Answer], id: &str) -> Vec<Bytes> {
    let mut chunks = Vec::new();
    for (index, answer) in answers.iter().enumerate() {
        let (pieces, finish) = text(answer);
        chunks.extend(pieces.iter().map(|piece| completion(ask, id, &json!([choice(index, piece, None)]))));
        chunks.push(completion(ask, id, &json!([choice(index, "", Some(finish))])));
    }
    if ask.include_usage {
        for chunk in &mut chunks {
            chunk["usage"] = Value::Null;
        }
        let mut last = completion(ask, id, &json!([]));
        last["usage"] = usage(ask, answers);
        chunks.push(last);
    }
    let frames = chunks.into_iter().map(|chunk| Bytes::from(format!("data: {chunk}\n\n")));
    frames.chain([Bytes::from_static(b"data: [DONE]\n\n")]).collect()
}

/// One vector a text: its words, hashed. Texts with like words lie near each other, and that is all.
pub(super) fn embeddings(body: &Value) -> Result<Value, String> {
    let texts: Vec<&str> = match &body["input"] {
        Value::String(text) => vec![text],
        Value::Array(texts) => texts.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if texts.is_empty() {
        return Err("input: a string, or an array of strings.".into());
    }
    let dimensions = body["dimensions"].as_u64().unwrap_or(DIMENSIONS);
    let dimensions = usize::try_from(dimensions.clamp(1, MOST_DIMENSIONS)).unwrap_or(1);
    let data = texts.iter().enumerate().map(|(index, text)| {
        let vector = vector(text, dimensions);
        let embedding = if body["encoding_format"] == "base64" {
            json!(STANDARD.encode(vector.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>()))
        } else {
            json!(vector)
        };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    });
    let data: Vec<Value> = data.collect();
    let tokens: usize = texts.iter().map(|text| text.split_whitespace().count()).sum();
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    Ok(json!({"object": "list", "data": data, "model": body["model"], "usage": usage}))
}

fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut vector = vec![0.0f32; dimensions];
    for word in text.to_lowercase().split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let hash = blake3::hash(word.as_bytes());
        let at = u32::from_le_bytes([hash.as_bytes()[0], hash.as_bytes()[1], hash.as_bytes()[2], hash.as_bytes()[3]]);
        vector[at as usize % dimensions] += if hash.as_bytes()[4].is_multiple_of(2) { 1.0 } else { -1.0 };
    }
    let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    if length > 0.0 {
        for number in &mut vector {
            *number /= length;
        }
    }
    vector
}

/// The list of models, or one of them.
pub(super) fn models(wire: Wire, name: Option<&str>) -> Option<Value> {
    let model = match wire {
        Wire::OpenAi => json!({"id": MODEL, "object": "model", "created": 1_767_225_600, "owned_by": "wardline"}),
        Wire::Anthropic => {
            json!({"type": "model", "id": MODEL, "display_name": "Wardline's demo upstream", "created_at": "2026-01-01T00:00:00Z"})
        }
    };
    match (name, wire) {
        (Some(MODEL), _) => Some(model),
        (Some(_), _) => None,
        (None, Wire::OpenAi) => Some(json!({"object": "list", "data": [model]})),
        (None, Wire::Anthropic) => {
            Some(json!({"data": [model], "has_more": false, "first_id": MODEL, "last_id": MODEL}))
        }
    }
}
