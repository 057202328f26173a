//! One function a shape.

use serde_json::{Value, json};

use super::Unfit;
use super::turns::{Call, Turn};

/// Tools go along as a JSON string: a column of objects would get every key of every tool.
fn with_tools(mut row: Value, tools: Option<&str>) -> Value {
    if let Some(tools) = tools {
        row["tools"] = json!(tools);
    }
    row
}

fn assistant(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

pub(super) fn trl(prompt: &[Turn], chosen: &Turn, rejected: &Turn, tools: Option<&str>) -> Value {
    let row = json!({
        "prompt": trl_messages(prompt),
        "chosen": trl_messages([chosen]),
        "rejected": trl_messages([rejected]),
    });
    with_tools(row, tools)
}

pub(super) fn kto(prompt: &[Turn], completion: &Turn, label: bool, tools: Option<&str>) -> Value {
    let row = json!({"prompt": trl_messages(prompt), "completion": trl_messages([completion]), "label": label});
    with_tools(row, tools)
}

pub(super) fn sft(prompt: &[Turn], chosen: &Turn, tools: Option<&str>) -> Value {
    let messages = trl_messages(prompt.iter().chain([chosen]));
    with_tools(json!({ "messages": messages }), tools)
}

/// TRL hands messages to chat templates, which want arguments as objects.
fn trl_messages<'a>(turns: impl IntoIterator<Item = &'a Turn>) -> Vec<Value> {
    let call = |call: &Call| {
        let arguments: Value = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!(call.arguments));
        json!({"type": "function", "function": {"name": call.name, "arguments": arguments}})
    };
    let message = |turn: &Turn| match turn {
        Turn::System(text) => json!({"role": "system", "content": text}),
        Turn::User(text) => json!({"role": "user", "content": text}),
        Turn::Assistant { text, calls } if calls.is_empty() => assistant(text),
        Turn::Assistant { text, calls } => {
            let calls: Vec<Value> = calls.iter().map(call).collect();
            json!({"role": "assistant", "content": text, "tool_calls": calls})
        }
        Turn::Tool { name, text, .. } => json!({"role": "tool", "name": name, "content": text}),
    };
    turns.into_iter().map(message).collect()
}

pub(super) fn openai_dpo(prompt: &[Turn], chosen: &Turn, rejected: &Turn, tools: Option<&str>) -> Value {
    let tools: Value = tools.and_then(|tools| serde_json::from_str(tools).ok()).unwrap_or_else(|| json!([]));
    json!({
        "input": {"messages": openai_messages(prompt), "tools": tools, "parallel_tool_calls": true},
        "preferred_output": openai_messages([chosen]),
        "non_preferred_output": openai_messages([rejected]),
    })
}

/// Here arguments are JSON text, and results name their call.
fn openai_messages<'a>(turns: impl IntoIterator<Item = &'a Turn>) -> Vec<Value> {
    let call = |call: &Call| {
        let function = json!({"name": call.name, "arguments": call.arguments});
        json!({"id": call.id, "type": "function", "function": function})
    };
    let message = |turn: &Turn| match turn {
        Turn::System(text) => json!({"role": "system", "content": text}),
        Turn::User(text) => json!({"role": "user", "content": text}),
        Turn::Assistant { text, calls } if calls.is_empty() => assistant(text),
        Turn::Assistant { text, calls } => {
            let calls: Vec<Value> = calls.iter().map(call).collect();
            json!({"role": "assistant", "content": text, "tool_calls": calls})
        }
        Turn::Tool { id, text, .. } => json!({"role": "tool", "tool_call_id": id, "content": text}),
    };
    turns.into_iter().map(message).collect()
}

/// System text apart, then turns of the user (or a tool) and the model in strict alternation, the user's last.
pub(super) fn llama_factory(
    prompt: &[Turn],
    chosen: &Turn,
    rejected: &Turn,
    tools: Option<&str>,
) -> Result<Value, Unfit> {
    let mut system: Vec<&str> = Vec::new();
    let mut said: Vec<(&str, String)> = Vec::new();
    for turn in prompt {
        let (from, value) = match turn {
            Turn::System(text) => {
                system.push(text);
                continue;
            }
            Turn::User(text) => ("human", text.clone()),
            Turn::Tool { text, .. } => ("observation", text.clone()),
            Turn::Assistant { text, calls } if calls.is_empty() => ("gpt", text.clone()),
            Turn::Assistant { text, calls } if text.is_empty() => ("function_call", function_calls(calls)),
            // A turn is either words or calls.
            Turn::Assistant { .. } => return Err(Unfit::Turns),
        };
        match said.last_mut() {
            Some((last, values)) if *last == from && from != "function_call" => {
                values.push_str("\n\n");
                values.push_str(&value);
            }
            _ => said.push((from, value)),
        }
    }
    let users = |from: &str| matches!(from, "human" | "observation");
    let alternates = said.iter().enumerate().all(|(at, (from, _))| users(from) == (at % 2 == 0));
    if !alternates || said.len().is_multiple_of(2) || said.first().is_some_and(|(from, _)| *from != "human") {
        return Err(Unfit::Turns);
    }
    let conversations: Vec<Value> =
        said.into_iter().map(|(from, value)| json!({"from": from, "value": value})).collect();
    Ok(json!({
        "conversations": conversations,
        "system": system.join("\n\n"),
        "tools": tools.unwrap_or_default(),
        "chosen": llama_factory_answer(chosen)?,
        "rejected": llama_factory_answer(rejected)?,
    }))
}

/// Either words or calls.
fn llama_factory_answer(turn: &Turn) -> Result<Value, Unfit> {
    match turn {
        Turn::Assistant { text, calls } if calls.is_empty() => Ok(json!({"from": "gpt", "value": text})),
        Turn::Assistant { text, calls } if text.is_empty() => {
            Ok(json!({"from": "function_call", "value": function_calls(calls)}))
        }
        _ => Err(Unfit::Tools),
    }
}

/// The text of an answer that is nothing else.
fn words(turn: &Turn) -> Result<&str, Unfit> {
    match turn {
        Turn::Assistant { text, calls } if calls.is_empty() => Ok(text),
        _ => Err(Unfit::Tools),
    }
}

fn function_calls(calls: &[Call]) -> String {
    let call = |call: &Call| {
        let arguments: Value = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!(call.arguments));
        json!({"name": call.name, "arguments": arguments})
    };
    match calls {
        [only] => call(only).to_string(),
        several => Value::Array(several.iter().map(call).collect()).to_string(),
    }
}

pub(super) fn axolotl(prompt: &[Turn], chosen: &Turn, rejected: &Turn) -> Result<Value, Unfit> {
    let message = |turn: &Turn| match turn {
        Turn::System(text) => Ok(json!({"role": "system", "content": text})),
        Turn::User(text) => Ok(json!({"role": "user", "content": text})),
        Turn::Assistant { text, calls } if calls.is_empty() => Ok(assistant(text)),
        Turn::Assistant { .. } | Turn::Tool { .. } => Err(Unfit::Tools),
    };
    let messages: Vec<Value> = prompt.iter().map(message).collect::<Result<_, _>>()?;
    let (chosen, rejected) = (words(chosen)?, words(rejected)?);
    Ok(json!({"messages": messages, "chosen": assistant(chosen), "rejected": assistant(rejected)}))
}

/// System text, which HH has no mark for, stands before the first turn.
pub(super) fn hh(prompt: &[Turn], chosen: &Turn, rejected: &Turn) -> Result<Value, Unfit> {
    const HUMAN: &str = "\n\nHuman:";
    const ASSISTANT: &str = "\n\nAssistant:";
    let (chosen, rejected) = (words(chosen)?, words(rejected)?);
    let mut dialogue = String::new();
    let mut add = |mark: &str, text: &str| {
        // Where the text would begin or hold a mark, nobody could tell the turns apart.
        let spoken = format!("\n\n{text}");
        if spoken.contains(HUMAN) || spoken.contains(ASSISTANT) {
            return Err(Unfit::Marker);
        }
        dialogue.push_str(mark);
        if !mark.is_empty() {
            dialogue.push(' ');
        }
        dialogue.push_str(text);
        Ok(())
    };
    for (at, turn) in prompt.iter().enumerate() {
        match turn {
            Turn::System(text) if at == 0 => add("", text)?,
            Turn::System(_) => return Err(Unfit::Turns),
            Turn::User(text) => add(HUMAN, text)?,
            Turn::Assistant { text, calls } if calls.is_empty() => add(ASSISTANT, text)?,
            Turn::Assistant { .. } | Turn::Tool { .. } => return Err(Unfit::Tools),
        }
    }
    if [chosen, rejected].iter().any(|text| {
        let spoken = format!("\n\n{text}");
        spoken.contains(HUMAN) || spoken.contains(ASSISTANT)
    }) {
        return Err(Unfit::Marker);
    }
    let whole = |answer: &str| format!("{dialogue}{ASSISTANT} {answer}");
    Ok(json!({"chosen": whole(chosen), "rejected": whole(rejected)}))
}
