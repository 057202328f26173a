//! What was asked, as far as the stand-in cares.

use serde_json::{Value, json};

use super::Wire;

/// A request of either dialect.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) model: String,
    /// All system and developer text, in order.
    pub(super) system: String,
    /// The last user message.
    pub(super) user: String,
    /// What a tool has just returned, if the conversation ends with that.
    pub(super) tool_result: Option<String>,
    pub(super) tools: Vec<Tool>,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) choices: usize,
    pub(super) max_tokens: usize,
    /// An estimate of what a tokenizer would count.
    pub(super) input_tokens: usize,
}

/// A tool that may be called.
#[derive(Debug)]
pub(super) struct Tool {
    pub(super) name: String,
    /// JSON schema of its arguments.
    pub(super) schema: Value,
}

impl Ask {
    /// Reads a request; the error is a sentence for the client.
    pub(super) fn read(wire: Wire, body: &Value) -> Result<Self, String> {
        let model = body["model"].as_str().ok_or("model: a string is required.")?.to_owned();
        let messages = body["messages"].as_array().filter(|messages| !messages.is_empty());
        let messages = messages.ok_or("messages: at least one message is required.")?;
        let max_tokens = match wire {
            Wire::OpenAi => body["max_completion_tokens"].as_u64().or(body["max_tokens"].as_u64()),
            Wire::Anthropic => Some(body["max_tokens"].as_u64().ok_or("max_tokens: Field required")?),
        };
        let choices = body["n"].as_u64().unwrap_or(1);
        if !(1..=128).contains(&choices) {
            return Err("n: from 1 to 128.".into());
        }
        let mut system = vec![text(&body["system"])];
        system.extend(
            messages.iter().filter(|m| m["role"] == "system" || m["role"] == "developer").map(|m| text(&m["content"])),
        );
        system.retain(|text| !text.is_empty());
        Ok(Self {
            model,
            system: system.join("\n\n"),
            user: messages.iter().rev().map(user).find(|text| !text.is_empty()).unwrap_or_default(),
            tool_result: messages.last().and_then(tool_result),
            tools: body["tools"].as_array().into_iter().flatten().filter_map(tool).collect(),
            stream: body["stream"].as_bool().unwrap_or(false),
            include_usage: body["stream_options"]["include_usage"].as_bool().unwrap_or(false),
            choices: usize::try_from(choices).unwrap_or(1),
            max_tokens: max_tokens.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX),
            input_tokens: messages.iter().chain([&body["system"], &body["tools"]]).map(words).sum(),
        })
    }
}

/// The answer to a question about tokens: an estimate, as everywhere here.
pub(super) fn tokens(wire: Wire, body: &Value) -> Value {
    let counted: usize =
        ["system", "instructions", "messages", "input", "tools"].into_iter().map(|key| words(&body[key])).sum();
    match wire {
        Wire::OpenAi => json!({"object": "response.input_tokens", "input_tokens": counted}),
        Wire::Anthropic => json!({"input_tokens": counted}),
    }
}

/// The text of a content field: a string, or the text parts of a list.
fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

fn user(message: &Value) -> String {
    if message["role"] == "user" { text(&message["content"]) } else { String::new() }
}

/// `OpenAI`'s messages of role `tool`, Anthropic's `tool_result` blocks.
fn tool_result(message: &Value) -> Option<String> {
    if message["role"] == "tool" {
        return Some(text(&message["content"]));
    }
    let result = message["content"].as_array()?.iter().find(|part| part["type"] == "tool_result")?;
    Some(text(&result["content"]))
}

fn tool(tool: &Value) -> Option<Tool> {
    let (described, schema) = match &tool["function"] {
        Value::Null => (tool, "input_schema"),
        function => (function, "parameters"),
    };
    Some(Tool { name: described["name"].as_str()?.to_owned(), schema: described[schema].clone() })
}

/// Words of all strings in a value.
fn words(value: &Value) -> usize {
    match value {
        Value::String(text) => text.split_whitespace().count(),
        Value::Array(items) => items.iter().map(words).sum(),
        Value::Object(members) => members.values().map(words).sum(),
        _ => 0,
    }
}
