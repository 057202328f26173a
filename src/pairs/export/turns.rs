//! A conversation in `OpenAI`'s shape as plain turns.

use std::collections::HashMap;

use serde_json::Value;

use super::Unfit;

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Turn {
    System(String),
    User(String),
    Assistant { text: String, calls: Vec<Call> },
    Tool { id: String, name: String, text: String },
}

/// A call of a function.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) name: String,
    /// JSON text, as the model wrote it.
    pub(super) arguments: String,
}

/// Reads messages. A developer is a system to every training tool.
pub(super) fn turns(messages: &[Value]) -> Result<Vec<Turn>, Unfit> {
    let mut names: HashMap<String, String> = HashMap::new();
    let mut turns = Vec::with_capacity(messages.len());
    for message in messages {
        let text = text(&message["content"])?;
        let turn = match message["role"].as_str() {
            Some("system" | "developer") => Turn::System(text),
            Some("user") => Turn::User(text),
            Some("assistant") => {
                let calls: Vec<Call> = message["tool_calls"].as_array().into_iter().flatten().map(call).collect();
                names.extend(calls.iter().map(|call| (call.id.clone(), call.name.clone())));
                Turn::Assistant { text, calls }
            }
            Some("tool") => {
                let id = message["tool_call_id"].as_str().unwrap_or_default().to_owned();
                let name = names.get(&id).cloned().unwrap_or_default();
                Turn::Tool { id, name, text }
            }
            _ => return Err(Unfit::Turns),
        };
        turns.push(turn);
    }
    Ok(turns)
}

fn text(content: &Value) -> Result<String, Unfit> {
    match content {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            parts.iter().map(|part| part["text"].as_str().ok_or(Unfit::NoText)).collect::<Result<String, _>>()
        }
        _ => Err(Unfit::NoText),
    }
}

fn call(call: &Value) -> Call {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let function = &call["function"];
    Call { id: word(&call["id"]), name: word(&function["name"]), arguments: word(&function["arguments"]) }
}
