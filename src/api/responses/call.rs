//! The request: `POST /v1/responses`, and `POST /v1/responses/input_tokens`, whose members may all be absent.

use serde_json::{Value as Tree, json};

use crate::api::call::{Head, member, model, objects, optional_bool};
use crate::api::dialect::{Dialect, Limits, Origin};
use crate::api::error::ReadError;
use crate::api::json::{Edits, Json, Kind, Value, escape_into, quoted};
use crate::api::responses::item::gather_item;
use crate::api::segment::{Gather, Segment};
use crate::api::stored::Stored;

/// Members that bring in text from the provider's store, and what that text is.
const STORED: [(&str, Stored, &str); 3] = [
    ("previous_response_id", Stored::PreviousResponseId, "an earlier conversation"),
    ("conversation", Stored::Conversation, "a conversation"),
    ("prompt", Stored::Prompt, "a prompt template"),
];

pub(in crate::api) fn read_call(
    dialect: Dialect,
    doc: &Json,
    limits: &Limits,
) -> Result<(Head, Vec<Segment>), ReadError> {
    let counts = dialect == Dialect::OpenAiTokens;
    let root = doc.root();
    if !root.is_object() {
        return Err(ReadError::wrong_type("", root, "a JSON object"));
    }
    let mut gather = Gather::new(doc);
    stored(&mut gather, root)?;
    let mut stored = gather.take_stored(limits.defer_stored)?;
    let stream = optional_bool(root, "stream", "stream")?;
    let unnamed = counts && member(root, "model").is_none();
    let model = if unnamed { String::new() } else { model(root, limits)? };
    gather.identifier(root.get("model"));
    if let Some(instructions) = member(root, "instructions") {
        if instructions.as_str().is_none() {
            return Err(ReadError::wrong_type("instructions", instructions, "a string"));
        }
        let mut draft = Gather::draft(Origin::System, "instructions", 0);
        gather.leaf(&mut draft, instructions);
        gather.close(draft);
    }
    if !counts && stored.is_empty() || member(root, "input").is_some() {
        input(&mut gather, root, limits)?;
    }
    for (tool, place) in objects(root, "tools", "tools")? {
        if !limits.allow_media && tool.get("type").and_then(Value::as_str).as_deref() == Some("image_generation") {
            return Err(ReadError::unscannable(place, tool));
        }
        let mut draft = Gather::draft(Origin::ToolDefinition, place, 0);
        gather.tree(&mut draft, tool);
        gather.close(draft);
    }
    root.all("include").flat_map(Value::items).for_each(|item| gather.identifier(Some(item)));
    stored.extend(gather.take_stored(limits.defer_stored)?);
    Ok((Head { model, stream, include_usage: true, choices: 1, stored }, gather.finish(0)))
}

fn stored(gather: &mut Gather<'_>, root: Value<'_>) -> Result<(), ReadError> {
    for (key, what, text) in STORED {
        if let Some(value) = member(root, key) {
            gather.identifier(Some(value));
            gather.identifier(value.get("id"));
            gather.stored(what, ReadError::stored(key, value, &format!("{text} that the provider stored")));
        }
    }
    if optional_bool(root, "background", "background")? {
        let text = "an answer that would be fetched from the provider's store";
        gather.stored(Stored::Background, ReadError::stored("background", root, text));
    }
    Ok(())
}

fn input(gather: &mut Gather<'_>, root: Value<'_>, limits: &Limits) -> Result<(), ReadError> {
    let input = root.get("input").ok_or_else(|| ReadError::missing("input", root))?;
    match input.kind() {
        Kind::String => {
            let mut draft = Gather::draft(Origin::User, "input", 0);
            gather.leaf(&mut draft, input);
            gather.close(draft);
        }
        Kind::Array => {
            for (item, place) in objects(root, "input", "input")? {
                gather_item(gather, item, &place, None, limits)?;
            }
        }
        _ => return Err(ReadError::wrong_type("input", input, "a string or an array of items")),
    }
    Ok(())
}

/// Puts the constitution before the client's own `instructions`, which are not carried over from call to call.
pub(in crate::api) fn inject(doc: &Json, constitution: &str, edits: &mut Edits) {
    let root = doc.root();
    match root.get("instructions") {
        None => {
            let comma: &[u8] = if root.entries().next().is_some() { b"," } else { b"" };
            let member = [br#""instructions":"#, quoted(constitution).as_slice(), comma].concat();
            edits.insert(root.span().start + 1, member);
        }
        Some(own) if own.inner().is_some_and(|inner| !inner.is_empty()) => {
            let mut lead = Vec::new();
            escape_into(constitution, &mut lead);
            escape_into("\n\n", &mut lead);
            edits.insert(own.span().start + 1, lead);
        }
        Some(own) => edits.replace_text(own, constitution),
    }
}

/// The conversation in the shape of Chat Completions.
pub(in crate::api) fn messages(body: &Tree) -> Vec<Tree> {
    let mut messages = Vec::new();
    if let Some(instructions) = body["instructions"].as_str().filter(|text| !text.is_empty()) {
        messages.push(json!({"role": "system", "content": instructions}));
    }
    if let Some(text) = body["input"].as_str() {
        messages.push(json!({"role": "user", "content": text}));
    }
    for item in body["input"].as_array().into_iter().flatten() {
        match item["type"].as_str() {
            None | Some("message") => {
                messages.push(json!({"role": item["role"], "content": plain(&item["content"])}));
            }
            Some("function_call" | "custom_tool_call") => {
                let arguments = item.get("arguments").unwrap_or(&item["input"]);
                let function = json!({"name": item["name"], "arguments": arguments});
                let call = json!({"id": item["call_id"], "type": "function", "function": function});
                messages.push(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
            }
            Some("function_call_output" | "custom_tool_call_output") => {
                let content = plain(&item["output"]);
                messages.push(json!({"role": "tool", "tool_call_id": item["call_id"], "content": content}));
            }
            _ => {}
        }
    }
    messages
}

/// The text of a string or of an array's parts.
fn plain(content: &Tree) -> String {
    if let Some(text) = content.as_str() {
        return text.to_owned();
    }
    let parts = content.as_array().into_iter().flatten();
    let texts = parts.filter_map(|part| part["text"].as_str().or_else(|| part["refusal"].as_str()));
    texts.collect::<Vec<&str>>().join("\n")
}
