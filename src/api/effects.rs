//! Whether a request asks for nothing but an answer.

use crate::api::call::Call;
use crate::api::json::Value;

/// Members that change what the answer says and nothing else. What is not here may have effects.
const HARMLESS: &[&str] = &[
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "metadata",
    "model",
    "n",
    "parallel_tool_calls",
    "presence_penalty",
    "prompt_cache_key",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "stop_sequences",
    "stream",
    "stream_options",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
];

impl Call {
    /// Whether the upstream would do nothing but answer: no tools that run at the provider, nothing kept there, and no
    /// member that is unknown here.
    pub fn only_answers(&self) -> bool {
        let root = self.document().root();
        root.get("messages").is_some()
            && root.entries().all(|(key, value)| {
                let key = key.as_str().unwrap_or_default();
                match key.as_ref() {
                    "tools" => value.items().all(is_run_by_the_client),
                    "store" => value.as_bool() == Some(false) || value.is_null(),
                    key => HARMLESS.binary_search(&key).is_ok(),
                }
            })
    }
}

/// Tools with a type of their own are the provider's; those of a client are functions, or have a schema and no type.
fn is_run_by_the_client(tool: Value<'_>) -> bool {
    match tool.get("type") {
        None => true,
        Some(kind) => kind.is_null() || matches!(kind.as_str().as_deref(), Some("function" | "custom")),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::HARMLESS;
    use crate::api::{Call, Dialect, Limits};

    fn only_answers(dialect: Dialect, more: &serde_json::Value) -> bool {
        let mut body = json!({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "q"}]});
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        Call::read(dialect, Bytes::from(body.to_string()), &Limits::default()).unwrap().only_answers()
    }

    #[test]
    fn what_acts_at_the_provider_is_told_from_what_answers() {
        assert!(HARMLESS.is_sorted());
        for plain in [
            json!({}),
            json!({"temperature": 0, "stream": true, "store": false}),
            json!({"tools": [{"type": "function", "function": {"name": "f"}}]}),
        ] {
            assert!(only_answers(Dialect::OpenAiChat, &plain), "{plain}");
        }
        for acting in [
            json!({"web_search_options": {}}),
            json!({"store": true}),
            json!({"tools": [{"type": "function", "function": {"name": "f"}}, {"type": "web_search"}]}),
            json!({"plugins": []}),
        ] {
            assert!(!only_answers(Dialect::OpenAiChat, &acting), "{acting}");
        }
        assert!(only_answers(Dialect::AnthropicMessages, &json!({"tools": [{"name": "f", "input_schema": {}}]})));
        for acting in [
            json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
            json!({"mcp_servers": [{"type": "url", "url": "https://example.com", "name": "x"}]}),
            json!({"container": "c"}),
        ] {
            assert!(!only_answers(Dialect::AnthropicMessages, &acting), "{acting}");
        }
    }
}
