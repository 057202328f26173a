//! The same request once more, for one whole answer: to draw a second answer that the first can be held against.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::api::dialect::Dialect;
use crate::api::render::{fresh, to_bytes};

/// The request that went up, for one whole answer of at most `max_tokens`, perhaps of another model. Everything else
/// stays: the constitution, tools, the form of the output. Nothing where the dialect has no answers.
pub fn again(dialect: Dialect, sent: &[u8], model: Option<&str>, max_tokens: u32) -> Option<Bytes> {
    let mut request: Map<String, Value> = serde_json::from_slice(sent).ok().filter(|_| dialect.is_answered())?;
    // `seed` would bring the same answer again; what is stored would stay behind at the provider.
    for gone in ["stream", "stream_options", "n", "best_of", "seed", "store", "metadata", "idempotency_key"] {
        request.shift_remove(gone);
    }
    if dialect == Dialect::OpenAiResponses {
        request.insert("store".to_owned(), json!(false));
    }
    if let Some(model) = model {
        request.insert("model".to_owned(), json!(model));
    }
    let names: &[&str] = match dialect {
        Dialect::OpenAiChat => &["max_completion_tokens", "max_tokens"],
        Dialect::OpenAiResponses => &["max_output_tokens"],
        _ => &["max_tokens"],
    };
    let name = names.iter().find(|name| request.contains_key(**name)).unwrap_or(&names[0]);
    let asked = request.get(*name).and_then(Value::as_u64).unwrap_or(u64::MAX);
    request.insert((*name).to_owned(), json!(asked.min(u64::from(max_tokens))));
    Some(to_bytes(&Value::Object(request)))
}

/// A conversation in `OpenAI`'s shape as a fresh request in another provider's dialect, under a system prompt; nothing
/// where it is more than words (tool calls and their results).
pub fn conversation(dialect: Dialect, model: &str, system: &str, messages: &[Value], max_tokens: u32) -> Option<Bytes> {
    let mut systems: Vec<String> = Some(system.to_owned()).filter(|system| !system.is_empty()).into_iter().collect();
    let mut turns = Vec::with_capacity(messages.len());
    for message in messages {
        let text = text(message)?;
        match message["role"].as_str()? {
            "system" | "developer" => systems.push(text),
            role @ ("user" | "assistant") => turns.push(json!({"role": role, "content": text})),
            _ => return None,
        }
    }
    Some(fresh(dialect, model, &systems.join("\n\n"), turns, max_tokens))
}

/// The words of a message that is nothing else.
fn text(message: &Value) -> Option<String> {
    if message.get("tool_calls").is_some_and(|calls| !calls.is_null()) {
        return None;
    }
    match &message["content"] {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => parts.iter().map(|part| part["text"].as_str()).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(body: Option<Bytes>) -> Value {
        serde_json::from_slice(&body.unwrap()).unwrap()
    }

    #[test]
    fn the_same_is_asked_for_one_whole_answer() {
        let sent = json!({"model": "m", "messages": [{"role": "system", "content": "Be kind."}], "stream": true,
            "stream_options": {"include_usage": true}, "n": 3, "seed": 7, "temperature": 0.5, "tools": [{"type": "x"}]});
        let asked = tree(again(Dialect::OpenAiChat, sent.to_string().as_bytes(), Some("other"), 500));
        let expected = json!({"model": "other", "messages": sent["messages"], "temperature": 0.5, "tools": sent["tools"],
            "max_completion_tokens": 500});
        assert_eq!(asked, expected);
    }

    #[test]
    fn fewer_tokens_than_were_asked_for_in_every_dialects_way() {
        for (dialect, name) in [
            (Dialect::OpenAiChat, "max_completion_tokens"),
            (Dialect::OpenAiChat, "max_tokens"),
            (Dialect::OpenAiResponses, "max_output_tokens"),
            (Dialect::OpenAiCompletions, "max_tokens"),
            (Dialect::AnthropicMessages, "max_tokens"),
        ] {
            for (asked, given) in [(100, 100), (9000, 500)] {
                let request = tree(again(dialect, json!({name: asked}).to_string().as_bytes(), None, 500));
                assert_eq!(request[name], given, "{dialect:?}");
            }
        }
        assert_eq!(again(Dialect::OpenAiEmbeddings, b"{}", None, 5), None);
        assert_eq!(again(Dialect::OpenAiChat, b"[]", None, 5), None);
    }

    #[test]
    fn a_conversation_is_told_in_another_dialect() {
        let messages = [
            json!({"role": "system", "content": "Brief."}),
            json!({"role": "user", "content": [{"type": "text", "text": "Hi"}]}),
            json!({"role": "assistant", "content": "Hello"}),
            json!({"role": "user", "content": "Why?"}),
        ];
        let claude = tree(conversation(Dialect::AnthropicMessages, "c", "Be kind.", &messages, 9));
        assert_eq!((&claude["system"], &claude["max_tokens"]), (&json!("Be kind.\n\nBrief."), &json!(9)));
        assert_eq!(claude["messages"].as_array().unwrap().len(), 3);
        assert_eq!(claude["messages"][0], json!({"role": "user", "content": "Hi"}));
        let gpt = tree(conversation(Dialect::OpenAiChat, "g", "", &messages, 9));
        assert_eq!(gpt["messages"][0], json!({"role": "system", "content": "Brief."}));
        for unfit in [
            json!({"role": "tool", "content": "42"}),
            json!({"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]}),
            json!({"role": "user", "content": [{"type": "image_url"}]}),
        ] {
            assert_eq!(conversation(Dialect::OpenAiChat, "g", "", &[unfit], 9), None);
        }
    }
}
