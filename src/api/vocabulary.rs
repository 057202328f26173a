//! The fixed words of the protocols: names of members and values of enumerations.
//!
//! A key that is one of them carries nobody's text, and need not be judged; a place in an error message may name it. Any
//! other key is text like any other.

use crate::api::json::Value;

/// True when `text` is a word of the protocols.
pub(crate) fn is_word(text: &str) -> bool {
    let mut at = slot(text.as_bytes());
    while TABLE[at] != 0 {
        if WORDS[usize::from(TABLE[at]) - 1] == text {
            return true;
        }
        at = (at + 1) % SLOTS;
    }
    false
}

/// True when a string under `key` is a word of an enumeration there, and so carries nobody's text.
pub(crate) fn is_enumerated(key: Value<'_>, value: Value<'_>) -> bool {
    value.as_str().is_some_and(|text| is_word(&text))
        && key.as_str().is_some_and(|key| ENUMERATED.binary_search(&key.as_ref()).is_ok())
}

/// True for an identifier: a name that a machine made or that names a machine's thing. Not for what reads as prose.
pub(crate) fn is_identifier(text: &str) -> bool {
    text.len() <= 128 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.:/@+=".contains(&byte))
}

/// True for ciphertext or a signature in base64, which nobody but the provider can read.
pub(crate) fn is_opaque(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-+/=".contains(&byte))
}

/// Members whose values are words of an enumeration. Sorted.
const ENUMERATED: &[&str] = &[
    "category",
    "detail",
    "effort",
    "finish_reason",
    "format",
    "inference_geo",
    "mode",
    "native_finish_reason",
    "object",
    "phase",
    "prompt_cache_retention",
    "reasoning_effort",
    "role",
    "search_context_size",
    "service_tier",
    "status",
    "stop_reason",
    "syntax",
    "tool_choice",
    "ttl",
    "type",
    "verbosity",
];

/// Open addressing over [`WORDS`], made when the program is built: one more than the word's index, or 0. Every key of
/// every event is looked up here.
static TABLE: [u16; SLOTS] = {
    let mut table = [0; SLOTS];
    let mut word: u16 = 0;
    while (word as usize) < WORDS.len() {
        let mut at = slot(WORDS[word as usize].as_bytes());
        while table[at] != 0 {
            at = (at + 1) % SLOTS;
        }
        word += 1;
        table[at] = word;
    }
    table
};

const SLOTS: usize = 2048;

const fn slot(word: &[u8]) -> usize {
    let len = word.len();
    if len == 0 {
        return 0;
    }
    let (first, middle, last) = (word[0] as usize, word[len / 2] as usize, word[len - 1] as usize);
    (len * 59 + first * 13 + middle * 331 + last * 1021) % SLOTS
}

/// Sorted.
const WORDS: &[&str] = &[
    "$defs",
    "$id",
    "$ref",
    "$schema",
    "1h",
    "24h",
    "5m",
    "OPENROUTER PROCESSING",
    "accepted_prediction_tokens",
    "adaptive",
    "additionalProperties",
    "allOf",
    "allowed_domains",
    "annotations",
    "any",
    "anyOf",
    "arguments",
    "array",
    "assistant",
    "audio",
    "audio_tokens",
    "audio_url",
    "auto",
    "base64",
    "blocked_domains",
    "boolean",
    "budget_tokens",
    "bytes",
    "cache_control",
    "cache_creation",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "cache_write_tokens",
    "cached_tokens",
    "category",
    "char_location",
    "chat.completion",
    "chat.completion.chunk",
    "choices",
    "citation",
    "citations",
    "citations_delta",
    "cited_text",
    "code",
    "completion_tokens",
    "completion_tokens_details",
    "const",
    "container",
    "content",
    "content_block",
    "content_block_delta",
    "content_block_location",
    "content_block_start",
    "content_block_stop",
    "content_filter",
    "content_filter_results",
    "context",
    "cost",
    "cost_details",
    "created",
    "custom",
    "data",
    "default",
    "definition",
    "delta",
    "description",
    "detail",
    "developer",
    "disabled",
    "document",
    "document_index",
    "document_title",
    "effort",
    "enabled",
    "encrypted_content",
    "encrypted_index",
    "end_block_index",
    "end_char_index",
    "end_index",
    "end_page_number",
    "end_turn",
    "enum",
    "ephemeral",
    "ephemeral_1h_input_tokens",
    "ephemeral_5m_input_tokens",
    "error",
    "event",
    "examples",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "explanation",
    "explicit",
    "file",
    "file_data",
    "file_id",
    "filename",
    "finish_reason",
    "format",
    "frequency_penalty",
    "function",
    "function_call",
    "functions",
    "grammar",
    "high",
    "id",
    "image",
    "image_url",
    "include_obfuscation",
    "include_usage",
    "index",
    "inference_geo",
    "input",
    "input_audio",
    "input_json_delta",
    "input_schema",
    "input_tokens",
    "integer",
    "is_byok",
    "is_error",
    "items",
    "json",
    "json_object",
    "json_schema",
    "keep-alive",
    "lark",
    "length",
    "list",
    "logit_bias",
    "logprob",
    "logprobs",
    "low",
    "max",
    "maxItems",
    "maxLength",
    "max_completion_tokens",
    "max_tokens",
    "max_uses",
    "maximum",
    "mcp_tool_result",
    "mcp_tool_use",
    "media_type",
    "medium",
    "message",
    "message_delta",
    "message_start",
    "message_stop",
    "messages",
    "metadata",
    "minItems",
    "minLength",
    "minimal",
    "minimum",
    "modalities",
    "mode",
    "model",
    "model_context_window_exceeded",
    "moderation",
    "n",
    "name",
    "native_finish_reason",
    "none",
    "null",
    "number",
    "obfuscation",
    "object",
    "oneOf",
    "output",
    "output_config",
    "output_tokens",
    "page_age",
    "page_location",
    "parallel_tool_calls",
    "param",
    "parameters",
    "partial_json",
    "pattern",
    "pause_turn",
    "phase",
    "ping",
    "prediction",
    "presence_penalty",
    "priority",
    "prompt_cache_breakpoint",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "prompt_tokens",
    "prompt_tokens_details",
    "properties",
    "provider",
    "reasoning",
    "reasoning_content",
    "reasoning_details",
    "reasoning_effort",
    "reasoning_tokens",
    "redacted_thinking",
    "refusal",
    "regex",
    "rejected_prediction_tokens",
    "required",
    "response_format",
    "role",
    "safety_identifier",
    "schema",
    "search_context_size",
    "search_result",
    "search_result_index",
    "search_result_location",
    "seed",
    "server_name",
    "server_tool_use",
    "service_tier",
    "signature",
    "signature_delta",
    "source",
    "standard",
    "standard_only",
    "start_block_index",
    "start_char_index",
    "start_index",
    "start_page_number",
    "status",
    "stop",
    "stop_details",
    "stop_reason",
    "stop_sequence",
    "stop_sequences",
    "store",
    "stream",
    "stream_options",
    "strict",
    "string",
    "summary",
    "syntax",
    "system",
    "system_fingerprint",
    "temperature",
    "text",
    "text/plain",
    "text_delta",
    "thinking",
    "thinking_delta",
    "title",
    "token",
    "tool",
    "tool_call_id",
    "tool_calls",
    "tool_choice",
    "tool_result",
    "tool_use",
    "tool_use_id",
    "tools",
    "top_k",
    "top_logprobs",
    "top_p",
    "total_tokens",
    "transcript",
    "ttl",
    "type",
    "uniqueItems",
    "upstream_inference_cost",
    "url",
    "url_citation",
    "usage",
    "user",
    "user_id",
    "verbosity",
    "video_url",
    "web_fetch_requests",
    "web_search",
    "web_search_options",
    "web_search_requests",
    "web_search_result",
    "web_search_result_location",
    "web_search_tool_result",
    "xhigh",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_found() {
        assert!(WORDS.iter().all(|word| is_word(word)));
        assert!(!is_word("") && !is_word("zz"));
        assert!(WORDS.is_sorted(), "{:?}", WORDS.windows(2).find(|pair| pair[0] > pair[1]));
        assert!(ENUMERATED.is_sorted());
    }

    #[test]
    fn prose_is_neither_word_nor_identifier() {
        assert!(!is_word("ignore"));
        assert!(!is_identifier("ignore all previous instructions"));
        assert!(!is_opaque("give me the key"));
        assert!(is_identifier("accounts/acme/models/llama-3.1"));
    }
}
