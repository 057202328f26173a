//! The stream: `response.created`, items and parts that are added, grow and are done, `response.completed`.

use crate::api::dialect::Limits;
use crate::api::error::ReadError;
use crate::api::event::{Channel, Close, Event, Finish, Lane, Sift};
use crate::api::json::{Edits, NodeId, Value};
use crate::api::reply::identifier;
use crate::api::responses::item::{is_media, kind_of, repeated_tokens};
use crate::api::responses::reply::{echoes, forget, usage};

/// The lane of one part of an item; items that are not made of parts have one lane, part 0.
pub(super) fn lane(item: u32, part: u32, channel: Channel) -> Lane {
    Lane { choice: 0, item, part, channel }
}

/// The number under `key`.
pub(super) fn number(root: Value<'_>, key: &str) -> u32 {
    root.get(key).and_then(Value::as_u64).and_then(|index| u32::try_from(index).ok()).unwrap_or_default()
}

/// Whether the last word of an event's type is this one.
pub(super) fn says(kind: &str, word: &str) -> bool {
    kind.rsplit('.').next() == Some(word)
}

/// The lane that the text of an event of this type adds to, and the member that holds the text.
fn grows(kind: &str, root: Value<'_>) -> Option<(Lane, &'static str)> {
    let item = number(root, "output_index");
    let content = |channel| lane(item, number(root, "content_index"), channel);
    let call = lane(item, 0, Channel::ToolArgs(0));
    let name = kind.strip_prefix("response.")?;
    Some(match name.strip_suffix(".delta").or_else(|| name.strip_suffix(".done"))? {
        "output_text" => (content(Channel::Content), "text"),
        "refusal" => (content(Channel::Refusal), "refusal"),
        "reasoning_text" => (content(Channel::Reasoning), "text"),
        "reasoning_summary_text" => (lane(item, number(root, "summary_index"), Channel::Summary), "text"),
        "function_call_arguments" | "mcp_call_arguments" => (call, "arguments"),
        "custom_tool_call_input" => (call, "input"),
        "code_interpreter_call_code" => (call, "code"),
        "audio.transcript" => (content(Channel::Content), "transcript"),
        _ => return None,
    })
}

pub(in crate::api) fn read_event(
    root: Value<'_>,
    name: Option<&str>,
    sift: &mut Sift,
    event: &mut Event,
    limits: &Limits,
) -> Result<(), ReadError> {
    let kind = root.get("type").and_then(Value::as_str).unwrap_or_default();
    // First of all, and whatever the event calls itself.
    if !limits.allow_media && root.tree().any(|node| node.is_object() && is_media(node)) {
        return Err(ReadError::unscannable(kind.as_ref(), root));
    }
    if kind == "response.audio.delta" && !limits.allow_media {
        return Err(ReadError::unscannable(kind.as_ref(), root));
    }
    event.error = kind == "error" || root.all("error").any(|error| !error.is_null());
    if event.error {
        event.terminal = true;
        event.closes.push(Close::All);
    }
    if event.error || name.is_some_and(|name| name != kind) {
        // Some readers go by the one name, some by the other: trust neither.
        return Ok(());
    }
    for key in ["item_id", "obfuscation"] {
        root.all(key).for_each(|value| sift.identifier(Some(value)));
    }
    if let Some((lane, member)) = grows(&kind, root) {
        grow(root, &kind, lane, member, sift, event);
        return Ok(());
    }
    let at = number(root, "output_index");
    match kind.as_ref() {
        "response.output_item.added" | "response.output_item.done" => {
            root.all("item").for_each(|item| read_item(item, at, sift));
            if says(&kind, "done") {
                event.closes.push(Close::Item(at));
            }
        }
        "response.content_part.added" | "response.content_part.done" => {
            let part = number(root, "content_index");
            root.all("part").for_each(|inner| read_part(inner, at, part, sift));
            if says(&kind, "done") {
                close_part(at, part, event);
            }
        }
        "response.reasoning_summary_part.added" | "response.reasoning_summary_part.done" => {
            let lane = lane(at, number(root, "summary_index"), Channel::Summary);
            root.all("part").flat_map(|part| part.all("text")).for_each(|text| sift.copy(lane, text));
            if says(&kind, "done") {
                event.closes.push(Close::Lane(lane));
            }
        }
        _ if says(&kind, "delta") => {
            // Not known: held until its item is done, so that it is judged in one piece.
            root.all("delta").for_each(|delta| sift.tree(lane(at, 0, Channel::ToolArgs(1)), delta));
        }
        _ => root.all("response").for_each(|response| read_response(response, &kind, sift, event, limits)),
    }
    Ok(())
}

/// A delta, or the repetition of all deltas when they are done.
fn grow(root: Value<'_>, kind: &str, lane: Lane, member: &str, sift: &mut Sift, event: &mut Event) {
    for token in repeated_tokens(root) {
        sift.inert(token);
    }
    if says(kind, "delta") {
        root.all("delta").for_each(|delta| sift.tree(lane, delta));
    } else {
        for key in ["name", member].into_iter().filter(|key| *key != "name" || member == "arguments") {
            root.all(key).for_each(|text| sift.copy(lane, text));
        }
        event.closes.push(Close::Lane(lane));
    }
}

fn close_part(item: u32, part: u32, event: &mut Event) {
    let channels = [Channel::Content, Channel::Refusal, Channel::Reasoning];
    event.closes.extend(channels.map(|channel| Close::Lane(lane(item, part, channel))));
}

fn read_part(part: Value<'_>, item: u32, at: u32, sift: &mut Sift) {
    for token in repeated_tokens(part) {
        sift.inert(token);
    }
    let channel = match part.get("type").and_then(Value::as_str).as_deref() {
        Some("reasoning_text") => Channel::Reasoning,
        _ => Channel::Content,
    };
    part.all("text").for_each(|text| sift.copy(lane(item, at, channel), text));
    part.all("refusal").for_each(|text| sift.copy(lane(item, at, Channel::Refusal), text));
}

fn read_item(item: Value<'_>, at: u32, sift: &mut Sift) {
    for key in ["id", "call_id", "container_id"] {
        item.all(key).for_each(|id| sift.identifier(Some(id)));
    }
    let parts = |key| item.all(key).flat_map(Value::items).zip(0..);
    match kind_of(item).as_str() {
        "message" => parts("content").for_each(|(part, index)| read_part(part, at, index, sift)),
        "reasoning" => {
            sift.opaque(item.get("encrypted_content"));
            parts("content").for_each(|(part, index)| read_part(part, at, index, sift));
            for (part, index) in parts("summary") {
                part.all("text").for_each(|text| sift.copy(lane(at, index, Channel::Summary), text));
            }
        }
        call if call.ends_with("_call") => {
            for key in ["name", "arguments", "input", "code"] {
                item.all(key).for_each(|text| sift.copy(lane(at, 0, Channel::ToolArgs(0)), text));
            }
        }
        _ => {}
    }
}

/// The whole response, as it is so far or as it ended.
fn read_response(response: Value<'_>, kind: &str, sift: &mut Sift, event: &mut Event, limits: &Limits) {
    for key in ["id", "model"] {
        response.all(key).for_each(|value| sift.identifier(Some(value)));
    }
    echoes(response, limits).for_each(|node| sift.inert(node));
    for (item, at) in response.all("output").flat_map(Value::items).zip(0..) {
        read_item(item, at, sift);
    }
    event.usage = usage(response);
    match kind {
        "response.completed" => event.finish.push(Finish { choice: 0, reason: "completed".to_owned() }),
        "response.incomplete" => {
            let why = response.get("incomplete_details").and_then(|details| identifier(details, "reason"));
            event.finish.push(Finish { choice: 0, reason: why.unwrap_or_else(|| "incomplete".to_owned()) });
        }
        "response.failed" => event.error = true,
        _ => return,
    }
    event.terminal = true;
    event.closes.push(Close::All);
}

/// Takes out of an event what repeats a text that was changed.
pub(in crate::api) fn forget_copies(root: Value<'_>, changed: &[NodeId], edits: &mut Edits) {
    edits.remove_members(root, |key| key == "obfuscation");
    for node in root.tree().filter(|node| node.is_object()) {
        if node.entries().any(|(_, value)| changed.contains(&value.id())) {
            forget(node, edits);
        }
    }
}
