//! Requests and answers that nobody sent, in the shape of real ones: what a policy is tested on and shown with.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::api::call::{Call, InjectRole};
use crate::api::dialect::{Dialect, Limits, Origin};
use crate::api::error::ReadError;
use crate::api::reply::Reply;

/// The model that samples name.
const MODEL: &str = "sample";

/// A request with these texts in this order. It is one of `OpenAI`'s, unless it has a document, which only Anthropic's
/// dialect knows (and which has `system` where `OpenAI` has `developer`). Origins that no message has count as the user's.
pub fn prompt<'t>(texts: impl IntoIterator<Item = (Origin, &'t str)> + Clone) -> Result<Call, ReadError> {
    let documents = texts.clone().into_iter().any(|(origin, _)| origin == Origin::Document);
    let dialect = if documents { Dialect::AnthropicMessages } else { Dialect::OpenAiChat };
    let message = if documents { anthropic } else { openai };
    let messages: Vec<Value> = texts.into_iter().map(|(origin, text)| message(origin, text)).collect();
    let body = json!({"model": MODEL, "max_tokens": 1024, "messages": messages});
    Call::read(dialect, Bytes::from(body.to_string()), &Limits::default())
}

/// A whole answer with this text.
pub fn answer(text: &str) -> Result<Reply, ReadError> {
    reply(&json!({"role": "assistant", "content": text}), "stop")
}

/// A whole answer that calls a tool with these arguments.
pub fn tool_call(arguments: &str) -> Result<Reply, ReadError> {
    reply(&json!({"role": "assistant", "content": null, "tool_calls": [called(arguments)]}), "tool_calls")
}

fn reply(message: &Value, finish: &str) -> Result<Reply, ReadError> {
    let body = json!({
        "id": "chatcmpl-sample",
        "object": "chat.completion",
        "created": 0,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    });
    Reply::read(Dialect::OpenAiChat, Bytes::from(body.to_string()), &Limits::default())
}

/// The dialects in which a constitution goes up.
pub const INSTRUCTED: [Dialect; 4] =
    [Dialect::OpenAiChat, Dialect::OpenAiResponses, Dialect::OpenAiCompletions, Dialect::AnthropicMessages];

/// A request as it leaves with a constitution in it. What the application would write is in brackets.
pub fn injected(dialect: Dialect, constitution: &str, role: InjectRole) -> Result<Bytes, ReadError> {
    let (system, user) = ("[the application's own system prompt]", "[the user's message]");
    let body = match dialect {
        Dialect::OpenAiChat => json!({
            "model": MODEL,
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": user}],
        }),
        Dialect::OpenAiResponses | Dialect::OpenAiTokens => {
            json!({"model": MODEL, "instructions": system, "input": user})
        }
        Dialect::OpenAiCompletions => json!({"model": MODEL, "prompt": user}),
        Dialect::AnthropicMessages | Dialect::AnthropicTokens => json!({
            "model": MODEL,
            "max_tokens": 1024,
            "system": system,
            "messages": [{"role": "user", "content": user}],
        }),
        Dialect::OpenAiEmbeddings | Dialect::OpenAiModerations | Dialect::OpenAiModels | Dialect::AnthropicModels => {
            json!({"model": MODEL, "input": user})
        }
    };
    let mut call = Call::read(dialect, Bytes::from(body.to_string()), &Limits::default())?;
    call.inject(constitution, role);
    Ok(call.into_body())
}

fn openai(origin: Origin, text: &str) -> Value {
    match origin {
        Origin::System => json!({"role": "system", "content": text}),
        Origin::Developer => json!({"role": "developer", "content": text}),
        Origin::Assistant => json!({"role": "assistant", "content": text}),
        Origin::ToolResult => json!({"role": "tool", "tool_call_id": "call_sample", "content": text}),
        Origin::ToolArgs => json!({"role": "assistant", "content": null, "tool_calls": [called(text)]}),
        _ => json!({"role": "user", "content": text}),
    }
}

fn called(arguments: &str) -> Value {
    json!({"id": "call_sample", "type": "function", "function": {"name": "tool", "arguments": arguments}})
}

fn anthropic(origin: Origin, text: &str) -> Value {
    match origin {
        Origin::System | Origin::Developer => json!({"role": "system", "content": text}),
        Origin::Assistant => json!({"role": "assistant", "content": text}),
        Origin::ToolResult => {
            let block = json!({"type": "tool_result", "tool_use_id": "toolu_sample", "content": text});
            json!({"role": "user", "content": [block]})
        }
        Origin::ToolArgs => {
            let block = json!({"type": "tool_use", "id": "toolu_sample", "name": "tool", "input": {"arguments": text}});
            json!({"role": "assistant", "content": [block]})
        }
        Origin::Document => {
            let source = json!({"type": "text", "media_type": "text/plain", "data": text});
            json!({"role": "user", "content": [{"type": "document", "source": source}]})
        }
        _ => json!({"role": "user", "content": text}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts as a guard reads them, apart from the protocol's own words.
    fn read(texts: &[(Origin, &str)]) -> Vec<(Origin, String)> {
        let call = prompt(texts.iter().copied()).unwrap();
        let segments = call.segments().iter().filter(|segment| segment.origin != Origin::Other);
        segments.map(|segment| (segment.origin, segment.text.clone())).collect()
    }

    #[test]
    fn each_text_is_read_with_the_origin_that_it_was_given() {
        let chat = [
            (Origin::System, "a"),
            (Origin::Developer, "b"),
            (Origin::User, "c"),
            (Origin::Assistant, "d"),
            (Origin::ToolResult, "e \"quoted\"\n"),
        ];
        assert_eq!(read(&chat), chat.map(|(origin, text)| (origin, text.to_owned())));
        assert_eq!(read(&[(Origin::ToolArgs, "ls")]), [(Origin::ToolArgs, "tool\nls".to_owned())]);
        let with_document = [(Origin::User, "a"), (Origin::Document, "b"), (Origin::ToolResult, "c")];
        let read = read(&with_document);
        let origins: Vec<Origin> = read.iter().map(|(origin, _)| *origin).collect();
        assert_eq!(origins, with_document.map(|(origin, _)| origin));
        assert!(read[1].1.ends_with('b'), "{read:?}");
    }

    #[test]
    fn an_answer_is_read_as_output() {
        let reply = answer("Fine.").unwrap();
        let texts: Vec<_> = reply.segments().iter().map(|s| (s.origin, s.text.as_str())).collect();
        assert!(texts.contains(&(Origin::Output, "Fine.")), "{texts:?}");
        let reply = tool_call("rm -rf /").unwrap();
        let texts: Vec<_> = reply.segments().iter().map(|s| (s.origin, s.text.as_str())).collect();
        assert!(texts.contains(&(Origin::ToolArgs, "tool\nrm -rf /")), "{texts:?}");
    }
}
