//! The request: `POST /v1/chat/completions`.

use crate::api::call::{
    Head, InjectRole, choices, include_usage, member, model, objects, optional_bool, optional_string, required_items,
};
use crate::api::dialect::{Limits, Origin};
use crate::api::error::ReadError;
use crate::api::json::{Edits, Json, Kind, Value, quoted};
use crate::api::segment::{Draft, Gather, Segment};

/// Parts that no text guard can judge, by the key that holds them and by `type`.
const MEDIA: [&str; 10] = [
    "image_url",
    "input_audio",
    "audio_url",
    "video_url",
    "file",
    "image",
    "audio",
    "video",
    "input_image",
    "input_file",
];

pub(in crate::api) fn read_call(doc: &Json, limits: &Limits) -> Result<(Head, Vec<Segment>), ReadError> {
    let root = doc.root();
    if !root.is_object() {
        return Err(ReadError::wrong_type("", root, "a JSON object"));
    }
    let head = head(root, limits)?;
    let mut gather = Gather::new(doc);
    gather.identifier(root.get("model"));
    for (at, item) in required_items(root, "messages")?.items().enumerate() {
        message(&mut gather, item, &format!("messages[{at}]"), limits)?;
    }
    for key in ["tools", "functions"] {
        for (tool, place) in objects(root, key, key)? {
            let mut draft = Gather::draft(Origin::ToolDefinition, place, 0);
            gather.tree(&mut draft, tool);
            gather.close(draft);
        }
    }
    if !limits.allow_media {
        speech_is_not_asked_for(root)?;
    }
    Ok((head, gather.finish(0)))
}

fn head(root: Value<'_>, limits: &Limits) -> Result<Head, ReadError> {
    Ok(Head {
        choices: choices(root)?,
        include_usage: include_usage(root)?,
        model: model(root, limits)?,
        stream: optional_bool(root, "stream", "stream")?,
        stored: Vec::new(),
    })
}

fn message(gather: &mut Gather<'_>, message: Value<'_>, place: &str, limits: &Limits) -> Result<(), ReadError> {
    if !message.is_object() {
        return Err(ReadError::wrong_type(place, message, "an object"));
    }
    let origin = role(gather, message, place)?;
    let mut draft = Gather::draft(origin, format!("{place}.content"), 0);
    content(gather, &mut draft, message, place, limits)?;
    if let Some(refusal) = optional_string(message, "refusal", place)? {
        gather.leaf(&mut draft, refusal);
    }
    gather.close(draft);
    for key in ["reasoning_content", "reasoning", "reasoning_details"] {
        if let Some(thought) = member(message, key) {
            let mut draft = Gather::draft(Origin::Reasoning, format!("{place}.{key}"), 0);
            gather.tree(&mut draft, thought);
            gather.close(draft);
        }
    }
    for (call, place) in objects(message, "tool_calls", &format!("{place}.tool_calls"))? {
        gather.identifier(call.get("id"));
        tool_call(gather, call, &place)?;
    }
    if let Some(call) = member(message, "function_call") {
        let place = format!("{place}.function_call");
        if !call.is_object() {
            return Err(ReadError::wrong_type(place, call, "an object"));
        }
        tool_call(gather, call, &place)?;
    }
    gather.identifier(message.get("tool_call_id"));
    match member(message, "audio") {
        // It names speech that the provider keeps, and that nobody here has heard.
        Some(audio) if !limits.allow_media => Err(ReadError::unscannable(format!("{place}.audio"), audio)),
        _ => Ok(()),
    }
}

fn role(gather: &mut Gather<'_>, message: Value<'_>, place: &str) -> Result<Origin, ReadError> {
    let place = || format!("{place}.role");
    let role = message.get("role").ok_or_else(|| ReadError::missing(place(), message))?;
    let name = role.as_str().ok_or_else(|| ReadError::wrong_type(place(), role, "a string"))?;
    let origin = match name.as_ref() {
        "system" => Origin::System,
        "developer" => Origin::Developer,
        "user" => Origin::User,
        "assistant" => Origin::Assistant,
        "tool" | "function" => Origin::ToolResult,
        _ => {
            let roles = "one of developer, system, user, assistant, tool, function";
            return Err(ReadError::wrong_value(place(), role, roles));
        }
    };
    gather.inert(role);
    Ok(origin)
}

fn content(
    gather: &mut Gather<'_>,
    draft: &mut Draft,
    message: Value<'_>,
    place: &str,
    limits: &Limits,
) -> Result<(), ReadError> {
    let Some(content) = member(message, "content") else { return Ok(()) };
    match content.kind() {
        Kind::String => gather.leaf(draft, content),
        Kind::Array => {
            for (part, place) in objects(message, "content", &format!("{place}.content"))? {
                media(gather, part, &place, limits)?;
                for key in ["text", "refusal"] {
                    optional_string(part, key, &place)?;
                }
                gather.tree(draft, part);
            }
        }
        _ => return Err(ReadError::wrong_type(format!("{place}.content"), content, "a string or an array of parts")),
    }
    Ok(())
}

/// Refuses a part that holds media; where the operator lets media pass, its data is not read as text.
fn media(gather: &mut Gather<'_>, part: Value<'_>, place: &str, limits: &Limits) -> Result<(), ReadError> {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
    let held = MEDIA.iter().find_map(|key| part.get(key));
    if held.is_none() && !MEDIA.contains(&kind.as_ref()) {
        return Ok(());
    }
    if !limits.allow_media {
        return Err(ReadError::unscannable(place, part));
    }
    for (key, value) in held.into_iter().flat_map(Value::entries) {
        let is_data = value.as_str().is_some_and(|text| text.starts_with("data:"));
        if is_data || matches!(key.as_str().as_deref(), Some("data" | "file_data")) {
            gather.inert(value);
        }
    }
    Ok(())
}

/// Name and arguments of one call, one segment.
fn tool_call(gather: &mut Gather<'_>, call: Value<'_>, place: &str) -> Result<(), ReadError> {
    let mut draft = Gather::draft(Origin::ToolArgs, place, 0);
    gather_call(gather, &mut draft, call, place)?;
    gather.close(draft);
    Ok(())
}

/// Adds a call of a function, a custom tool, or the older `function_call`, which lacks the wrapping.
pub(super) fn gather_call(
    gather: &mut Gather<'_>,
    draft: &mut Draft,
    call: Value<'_>,
    place: &str,
) -> Result<(), ReadError> {
    let wrapped = call.all("function").chain(call.all("custom")).filter(|inner| inner.is_object());
    for inner in wrapped.chain([call]) {
        for key in ["name", "arguments", "input"] {
            optional_string(inner, key, place)?;
        }
        inner.all("name").for_each(|name| gather.leaf(draft, name));
        inner.all("arguments").for_each(|arguments| gather.nested(draft, arguments));
        inner.all("input").for_each(|input| gather.leaf(draft, input));
    }
    gather.tree(draft, call);
    Ok(())
}

fn speech_is_not_asked_for(root: Value<'_>) -> Result<(), ReadError> {
    if let Some(audio) = member(root, "audio") {
        return Err(ReadError::unscannable("audio", audio));
    }
    let Some(modalities) = member(root, "modalities") else { return Ok(()) };
    match modalities.items().find(|item| item.as_str().as_deref() != Some("text")) {
        Some(other) => Err(ReadError::unscannable("modalities", other)),
        None => Ok(()),
    }
}

/// Puts a message of its own before all others.
pub(in crate::api) fn inject(doc: &Json, constitution: &str, role: InjectRole, edits: &mut Edits) {
    let Some(messages) = doc.root().get("messages") else { return };
    let is_developer = |message: Value<'_>| message.get("role").and_then(Value::as_str).as_deref() == Some("developer");
    let developer = match role {
        InjectRole::Auto => messages.items().any(is_developer),
        InjectRole::System => false,
        InjectRole::Developer => true,
    };
    let head: &[u8] = if developer { br#"{"role":"developer","content":"# } else { br#"{"role":"system","content":"# };
    let mut bytes = head.to_vec();
    bytes.extend(quoted(constitution));
    bytes.extend_from_slice(b"},");
    edits.insert(messages.span().start + 1, bytes);
}

/// The messages as they are.
pub(in crate::api) fn messages(mut body: serde_json::Value) -> Vec<serde_json::Value> {
    match body.get_mut("messages").map(serde_json::Value::take) {
        Some(serde_json::Value::Array(messages)) => messages,
        _ => Vec::new(),
    }
}
