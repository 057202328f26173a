//! The stream: `message_start`, blocks of deltas, `message_delta`, `message_stop`.

use crate::api::dialect::Limits;
use crate::api::error::ReadError;
use crate::api::event::{Channel, Close, Event, Finish, Lane, Sift};
use crate::api::json::Value;
use crate::api::notice::Usage;

/// The counts in a `usage` object; what a cache gave counts as read.
pub(super) fn usage(holder: Value<'_>) -> Option<Usage> {
    let usage = holder.get("usage").filter(|usage| usage.is_object())?;
    let count = |key| usage.get(key).and_then(Value::as_u64).unwrap_or_default();
    let cached = count("cache_read_input_tokens") + count("cache_creation_input_tokens");
    Some(Usage { input: count("input_tokens") + cached, output: count("output_tokens") })
}

const CONTENT: Lane = Lane { choice: 0, item: 0, part: 0, channel: Channel::Content };
const REASONING: Lane = Lane { choice: 0, item: 0, part: 0, channel: Channel::Reasoning };

/// Reads what is known of an event; the caller takes every string that is left here.
pub(in crate::api) fn read_event(
    root: Value<'_>,
    name: Option<&str>,
    sift: &mut Sift,
    event: &mut Event,
    limits: &Limits,
) -> Result<(), ReadError> {
    let kind = root.get("type").and_then(Value::as_str).unwrap_or_default();
    if name.is_some_and(|name| name != kind) {
        // SDKs go by the one, others by the other: trust neither.
        return Ok(());
    }
    let index =
        root.get("index").and_then(Value::as_u64).and_then(|index| u32::try_from(index).ok()).unwrap_or_default();
    match kind.as_ref() {
        "message_start" => {
            for message in root.all("message") {
                sift.identifier(message.get("id"));
                sift.identifier(message.get("model"));
                event.usage = usage(message);
            }
        }
        "content_block_start" => {
            for block in root.all("content_block") {
                read_start(block, index, sift, limits)?;
            }
        }
        "content_block_delta" => root.all("delta").for_each(|delta| read_delta(delta, index, sift)),
        // Blocks come one after the other, so that what is open is this block.
        "content_block_stop" => event.closes.push(Close::Choice(0)),
        "message_delta" => {
            event.usage = usage(root);
            if let Some(reason) = root.get("delta").and_then(|delta| delta.get("stop_reason")).and_then(Value::as_str) {
                event.finish.push(Finish { choice: 0, reason: reason.into_owned() });
            }
            event.closes.push(Close::Choice(0));
        }
        "message_stop" => {
            event.terminal = true;
            event.closes.push(Close::All);
        }
        "error" => {
            event.error = true;
            event.terminal = true;
            event.closes.push(Close::All);
            sift.identifier(root.get("request_id"));
        }
        _ => {}
    }
    Ok(())
}

fn read_start(block: Value<'_>, index: u32, sift: &mut Sift, limits: &Limits) -> Result<(), ReadError> {
    let kind = block.get("type").and_then(Value::as_str).unwrap_or_default();
    match kind.as_ref() {
        "text" => block.all("text").for_each(|text| sift.tree(CONTENT, text)),
        "thinking" => {
            block.all("thinking").for_each(|text| sift.tree(REASONING, text));
            sift.opaque(block.get("signature"));
        }
        "redacted_thinking" => sift.opaque(block.get("data")),
        "tool_use" | "server_tool_use" | "mcp_tool_use" => {
            sift.identifier(block.get("id"));
            sift.tree(Lane::of(0, Channel::ToolArgs(index)), block);
        }
        other => {
            if !limits.allow_media && matches!(other, "image" | "audio" | "video" | "container_upload") {
                return Err(ReadError::unscannable("content_block", block));
            }
            sift.identifier(block.get("tool_use_id"));
            block.tree().filter(|node| node.is_object()).for_each(|node| sift.opaque(node.get("encrypted_content")));
        }
    }
    Ok(())
}

fn read_delta(delta: Value<'_>, index: u32, sift: &mut Sift) {
    let kind = delta.get("type").and_then(Value::as_str).unwrap_or_default();
    match kind.as_ref() {
        "text_delta" => delta.all("text").for_each(|text| sift.tree(CONTENT, text)),
        "thinking_delta" => delta.all("thinking").for_each(|text| sift.tree(REASONING, text)),
        "signature_delta" => sift.opaque(delta.get("signature")),
        "input_json_delta" => {
            let lane = Lane::of(0, Channel::ToolArgs(index));
            delta.all("partial_json").for_each(|text| sift.tree(lane, text));
        }
        "citations_delta" => sift.opaque(delta.get("citation").and_then(|citation| citation.get("encrypted_index"))),
        _ => {}
    }
}
