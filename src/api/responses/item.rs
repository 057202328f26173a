//! One item of `input` or `output`.

use crate::api::call::{member, objects, optional_string};
use crate::api::dialect::{Limits, Origin};
use crate::api::error::ReadError;
use crate::api::json::{Kind, Value};
use crate::api::segment::Gather;
use crate::api::stored::Stored;

/// Types of parts and items that no text guard can judge.
const MEDIA: [&str; 7] = [
    "input_image",
    "input_file",
    "input_audio",
    "computer_screenshot",
    "image_generation_call",
    "image",
    "output_audio",
];

/// Members that hold media, whatever the type says.
const MEDIA_KEYS: [&str; 5] = ["image_url", "file_data", "file_url", "input_audio", "partial_image_b64"];

/// What a tool brought, within the item that called it.
const RESULTS: [&str; 4] = ["output", "outputs", "results", "error"];

/// The item's `type`; an item with a role and without a type is a message.
pub(super) fn kind_of(item: Value<'_>) -> String {
    let named = item.get("type").and_then(Value::as_str).map(std::borrow::Cow::into_owned);
    named.unwrap_or_else(|| if item.get("role").is_some() { "message".to_owned() } else { String::new() })
}

/// Gathers an item. `said` is the origin of messages in an answer; in requests the role says it.
pub(super) fn gather_item(
    gather: &mut Gather<'_>,
    item: Value<'_>,
    place: &str,
    said: Option<Origin>,
    limits: &Limits,
) -> Result<(), ReadError> {
    if let Some(kind) = item.get("type").filter(|kind| kind.as_str().is_none()) {
        return Err(ReadError::wrong_type(format!("{place}.type"), kind, "a string"));
    }
    let kind = kind_of(item);
    media(gather, item, place, limits)?;
    for key in ["id", "call_id", "container_id"] {
        item.all(key).for_each(|id| gather.identifier(Some(id)));
    }
    match kind.as_str() {
        "message" => message(gather, item, place, said)?,
        "item_reference" => {
            gather.stored(Stored::ItemReference, ReadError::stored(place, item, "an item that the provider stored"));
        }
        "compaction" | "compaction_summary" => {
            gather.opaque(item.get("encrypted_content"));
            let error = ReadError::stored(place, item, "a conversation that only the provider can read");
            gather.stored(Stored::Compaction, error);
        }
        "reasoning" => {
            gather.opaque(item.get("encrypted_content"));
            segment(gather, Origin::Reasoning, place, item);
        }
        "mcp_list_tools" => segment(gather, Origin::ToolDefinition, place, item),
        "file_search_call" => segment(gather, Origin::ToolResult, place, item),
        result if result.ends_with("_output") => tool_result(gather, item, place)?,
        call if call.ends_with("_call") => tool_call(gather, item, place)?,
        _ => {}
    }
    gather.rest(item, place, 0);
    Ok(())
}

fn segment(gather: &mut Gather<'_>, origin: Origin, place: &str, value: Value<'_>) {
    let mut draft = Gather::draft(origin, place, 0);
    gather.tree(&mut draft, value);
    gather.close(draft);
}

fn message(gather: &mut Gather<'_>, item: Value<'_>, place: &str, said: Option<Origin>) -> Result<(), ReadError> {
    let origin = match said {
        Some(origin) => origin,
        None => role(item, place)?,
    };
    let place = format!("{place}.content");
    let mut draft = Gather::draft(origin, place.clone(), 0);
    for content in item.all("content") {
        match content.kind() {
            Kind::String => gather.leaf(&mut draft, content),
            Kind::Array => {
                for (part, place) in objects(item, "content", &place)? {
                    for key in ["text", "refusal"] {
                        optional_string(part, key, &place)?;
                    }
                    for token in repeated_tokens(part) {
                        gather.inert(token);
                    }
                    part.all("text").chain(part.all("refusal")).for_each(|text| gather.leaf(&mut draft, text));
                }
            }
            Kind::Null if said.is_some() => {}
            _ => return Err(ReadError::wrong_type(place, content, "a string or an array of parts")),
        }
    }
    gather.close(draft);
    Ok(())
}

fn role(item: Value<'_>, place: &str) -> Result<Origin, ReadError> {
    let place = || format!("{place}.role");
    let role = item.get("role").ok_or_else(|| ReadError::missing(place(), item))?;
    let name = role.as_str().ok_or_else(|| ReadError::wrong_type(place(), role, "a string"))?;
    Ok(match name.as_ref() {
        "user" => Origin::User,
        "assistant" => Origin::Assistant,
        "system" => Origin::System,
        "developer" => Origin::Developer,
        _ => return Err(ReadError::wrong_value(place(), role, "one of user, assistant, system, developer")),
    })
}

fn tool_result(gather: &mut Gather<'_>, item: Value<'_>, place: &str) -> Result<(), ReadError> {
    if let Some(output) = member(item, "output").filter(|output| matches!(output.kind(), Kind::Bool | Kind::Number)) {
        return Err(ReadError::wrong_type(
            format!("{place}.output"),
            output,
            "a string, an array of parts or an object",
        ));
    }
    segment(gather, Origin::ToolResult, place, item);
    Ok(())
}

/// A call, and apart from it what came of it where the provider ran the tool.
fn tool_call(gather: &mut Gather<'_>, item: Value<'_>, place: &str) -> Result<(), ReadError> {
    for key in RESULTS {
        for result in item.all(key).filter(|result| !result.is_null()) {
            segment(gather, Origin::ToolResult, &format!("{place}.{key}"), result);
        }
    }
    for key in ["name", "arguments", "input", "code"] {
        optional_string(item, key, place)?;
    }
    let mut draft = Gather::draft(Origin::ToolArgs, place, 0);
    item.all("name").for_each(|name| gather.leaf(&mut draft, name));
    item.all("arguments").for_each(|arguments| gather.nested(&mut draft, arguments));
    gather.tree(&mut draft, item);
    gather.close(draft);
    Ok(())
}

/// Refuses media anywhere in an item; where the operator lets media pass, its data is not read as text.
fn media(gather: &mut Gather<'_>, item: Value<'_>, place: &str, limits: &Limits) -> Result<(), ReadError> {
    for node in item.tree().filter(|node| is_media(*node)) {
        if !limits.allow_media {
            return Err(ReadError::unscannable(place, node));
        }
        for (key, value) in node.entries() {
            let is_data = value.as_str().is_some_and(|text| text.starts_with("data:"));
            if is_data || matches!(key.as_str().as_deref(), Some("file_data" | "result" | "data")) {
                gather.inert(value);
            }
        }
    }
    Ok(())
}

/// Whether an object is, or holds, what no text guard can judge.
pub(super) fn is_media(node: Value<'_>) -> bool {
    let kind = node.get("type").and_then(Value::as_str).unwrap_or_default();
    MEDIA.contains(&kind.as_ref()) || MEDIA_KEYS.iter().any(|key| node.get(key).is_some_and(|held| !held.is_null()))
}

/// The tokens among a part's (or a delta's) log probabilities that repeat its text one after the other, and beside them
/// the single tokens of `top_logprobs`, which were not said.
pub(super) fn repeated_tokens(part: Value<'_>) -> Vec<Value<'_>> {
    let told: Vec<_> = ["text", "delta"].iter().filter_map(|key| part.get(key)?.as_str()).collect();
    let mut repeated = Vec::new();
    for said in part.all("logprobs") {
        let tokens = || said.items().filter_map(|token| token.get("token"));
        if tokens().filter_map(Value::as_str).collect::<String>() == told.concat() {
            repeated.extend(tokens());
            let beside = said.items().flat_map(|token| token.all("top_logprobs")).flat_map(Value::items);
            repeated.extend(beside.filter_map(|token| token.get("token")));
        }
    }
    repeated
}
