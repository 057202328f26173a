//! The request: `POST /v1/messages`.

use serde_json::json;

use crate::api::call::{Head, member, model, objects, optional_bool, required_items};
use crate::api::dialect::{Limits, Origin};
use crate::api::error::ReadError;
use crate::api::json::{Edits, Json, Kind, Value, quoted};
use crate::api::segment::{Draft, Gather, Segment};

pub(in crate::api) fn read_call(doc: &Json, limits: &Limits) -> Result<(Head, Vec<Segment>), ReadError> {
    let root = doc.root();
    if !root.is_object() {
        return Err(ReadError::wrong_type("", root, "a JSON object"));
    }
    let head = Head {
        model: model(root, limits)?,
        stream: optional_bool(root, "stream", "stream")?,
        include_usage: true,
        choices: 1,
        stored: Vec::new(),
    };
    let mut gather = Gather::new(doc);
    gather.identifier(root.get("model"));
    if let Some(system) = member(root, "system") {
        text_or_blocks(&mut gather, root, "system", system, Origin::System, "system", limits)?;
    }
    for (at, item) in required_items(root, "messages")?.items().enumerate() {
        let place = format!("messages[{at}]");
        if !item.is_object() {
            return Err(ReadError::wrong_type(place, item, "an object"));
        }
        let origin = role(&mut gather, item, &place)?;
        let content = item.get("content").ok_or_else(|| ReadError::missing(format!("{place}.content"), item))?;
        text_or_blocks(&mut gather, item, "content", content, origin, &format!("{place}.content"), limits)?;
    }
    for (tool, place) in objects(root, "tools", "tools")? {
        let mut draft = Gather::draft(Origin::ToolDefinition, place, 0);
        gather.tree(&mut draft, tool);
        gather.close(draft);
    }
    Ok((head, gather.finish(0)))
}

fn role(gather: &mut Gather<'_>, message: Value<'_>, place: &str) -> Result<Origin, ReadError> {
    let place = || format!("{place}.role");
    let role = message.get("role").ok_or_else(|| ReadError::missing(place(), message))?;
    let name = role.as_str().ok_or_else(|| ReadError::wrong_type(place(), role, "a string"))?;
    let origin = match name.as_ref() {
        "user" => Origin::User,
        "assistant" => Origin::Assistant,
        "system" => Origin::System,
        _ => return Err(ReadError::wrong_value(place(), role, "one of user, assistant, system")),
    };
    gather.inert(role);
    Ok(origin)
}

/// The member `key` of `holder`, a string or an array of blocks.
fn text_or_blocks(
    gather: &mut Gather<'_>,
    holder: Value<'_>,
    key: &str,
    value: Value<'_>,
    origin: Origin,
    place: &str,
    limits: &Limits,
) -> Result<(), ReadError> {
    let mut draft = Gather::draft(origin, place, 0);
    match value.kind() {
        Kind::String => gather.leaf(&mut draft, value),
        Kind::Array => {
            for (item, place) in objects(holder, key, place)? {
                block(gather, &mut draft, item, &place, 0, limits)?;
            }
        }
        _ => return Err(ReadError::wrong_type(place, value, "a string or an array of blocks")),
    }
    gather.close(draft);
    Ok(())
}

/// Gathers one block: text into `main`, everything else into a segment of its own.
pub(super) fn block(
    gather: &mut Gather<'_>,
    main: &mut Draft,
    block: Value<'_>,
    place: &str,
    choice: u32,
    limits: &Limits,
) -> Result<(), ReadError> {
    let kind = block.get("type").ok_or_else(|| ReadError::missing(format!("{place}.type"), block))?;
    let kind = kind.as_str().ok_or_else(|| ReadError::wrong_type(format!("{place}.type"), kind, "a string"))?;
    if kind != "tool_use" {
        media(gather, block, place, limits)?;
    }
    let origin = match kind.as_ref() {
        "text" => {
            if let Some(text) = block.get("text").filter(|text| text.as_str().is_none()) {
                return Err(ReadError::wrong_type(format!("{place}.text"), text, "a string"));
            }
            let citations = block.all("citations").flat_map(Value::items);
            citations.for_each(|citation| gather.opaque(citation.get("encrypted_index")));
            gather.tree(main, block);
            return Ok(());
        }
        "tool_use" | "server_tool_use" | "mcp_tool_use" => {
            if let Some(input) = member(block, "input").filter(|input| !input.is_object()) {
                return Err(ReadError::wrong_type(format!("{place}.input"), input, "an object"));
            }
            gather.identifier(block.get("id"));
            Origin::ToolArgs
        }
        "thinking" => {
            gather.opaque(block.get("signature"));
            Origin::Reasoning
        }
        "redacted_thinking" => {
            gather.opaque(block.get("data"));
            Origin::Reasoning
        }
        "document" => Origin::Document,
        "search_result" => Origin::ToolResult,
        other if other.ends_with("tool_result") => {
            gather.identifier(block.get("tool_use_id"));
            if let Some(content) =
                member(block, "content").filter(|content| matches!(content.kind(), Kind::Bool | Kind::Number))
            {
                let expected = "a string or an array of blocks";
                return Err(ReadError::wrong_type(format!("{place}.content"), content, expected));
            }
            block.tree().filter(|node| node.is_object()).for_each(|node| gather.opaque(node.get("encrypted_content")));
            Origin::ToolResult
        }
        _ => {
            gather.tree(main, block);
            return Ok(());
        }
    };
    let mut draft = Gather::draft(origin, place, choice);
    gather.tree(&mut draft, block);
    gather.close(draft);
    Ok(())
}

/// Refuses images and files anywhere in a block; where the operator lets media pass, their data is not read as text.
fn media(gather: &mut Gather<'_>, block: Value<'_>, place: &str, limits: &Limits) -> Result<(), ReadError> {
    for node in block.tree().filter(|node| node.is_object()) {
        let kind = node.get("type").and_then(Value::as_str).unwrap_or_default();
        let source = node.get("source");
        let form = source.and_then(|source| source.get("type")).and_then(Value::as_str).unwrap_or_default();
        let is_media = matches!(kind.as_ref(), "image" | "audio" | "video" | "container_upload");
        if !is_media && !matches!(form.as_ref(), "base64" | "url" | "file") {
            continue;
        }
        if !limits.allow_media {
            return Err(ReadError::unscannable(place, node));
        }
        if form == "base64" {
            gather.opaque(source.and_then(|source| source.get("data")));
        }
    }
    Ok(())
}

/// Puts the constitution before the client's own system text: as `system` itself, or as its first block.
pub(in crate::api) fn inject(doc: &Json, constitution: &str, edits: &mut Edits) {
    let root = doc.root();
    let text = quoted(constitution);
    let block = [br#"{"type":"text","text":"#, text.as_slice(), b"}"].concat();
    match root.get("system") {
        None => edits.insert(root.span().start + 1, [br#""system":"#, text.as_slice(), b","].concat()),
        Some(system) if system.is_array() => {
            let comma: &[u8] = if system.items().next().is_some() { b"," } else { b"" };
            edits.insert(system.span().start + 1, [block.as_slice(), comma].concat());
        }
        Some(system) if system.inner().is_some_and(|inner| !inner.is_empty()) => {
            edits.insert(system.span().start, [b"[", block.as_slice(), br#",{"type":"text","text":"#].concat());
            edits.insert(system.span().end, b"}]".to_vec());
        }
        // The API refuses empty text blocks.
        Some(system) => edits.replace(system.span(), text),
    }
}

/// The conversation in `OpenAI`'s shape.
pub(in crate::api) fn messages(body: &serde_json::Value) -> Vec<serde_json::Value> {
    let mut messages = Vec::new();
    if let Some(system) = body.get("system").filter(|system| !system.is_null()) {
        messages.push(json!({"role": "system", "content": plain(system)}));
    }
    for message in body.get("messages").and_then(|all| all.as_array()).into_iter().flatten() {
        let role = message.get("role").cloned().unwrap_or_default();
        let content = message.get("content").cloned().unwrap_or_default();
        let blocks = content.as_array().map(Vec::as_slice).unwrap_or_default();
        let of_kind = |kind: &'static str| blocks.iter().filter(move |block| block["type"] == kind);
        for result in of_kind("tool_result") {
            let id = result["tool_use_id"].clone();
            messages.push(json!({"role": "tool", "tool_call_id": id, "content": plain(&result["content"])}));
        }
        let calls: Vec<serde_json::Value> = of_kind("tool_use")
            .map(|call| {
                let function = json!({"name": call["name"], "arguments": call["input"].to_string()});
                json!({"id": call["id"], "type": "function", "function": function})
            })
            .collect();
        let text = plain(&content);
        if !calls.is_empty() {
            messages.push(json!({"role": role, "content": text, "tool_calls": calls}));
        } else if !text.is_empty() || content.is_string() {
            messages.push(json!({"role": role, "content": text}));
        }
    }
    messages
}

/// The text of a string or of the text and document blocks of an array.
fn plain(content: &serde_json::Value) -> String {
    if let Some(text) = content.as_str() {
        return text.to_owned();
    }
    let blocks = content.as_array().into_iter().flatten();
    let texts = blocks.filter_map(|block| match block["type"].as_str() {
        Some("text") => block["text"].as_str().map(str::to_owned),
        Some("document" | "search_result") => {
            let source = &block["source"];
            let inner = if source["type"] == "text" {
                &source["data"]
            } else {
                source.get("content").unwrap_or(&block["content"])
            };
            Some(plain(inner))
        }
        _ => None,
    });
    texts.collect::<Vec<String>>().join("\n")
}
