//! The whole answer: a `message`.

use serde_json::Value as Tree;

use crate::api::anthropic::call::block as gather_block;
use crate::api::anthropic::event::usage;
use crate::api::anthropic::render::{blocked, message_id, usage as usage_tree};
use crate::api::dialect::{Limits, Origin};
use crate::api::error::ReadError;
use crate::api::json::{Edits, Json, Value, quoted};
use crate::api::notice::{BlockStyle, Notice};
use crate::api::reply::{Imprint, Touched, counts, identifier};
use crate::api::segment::{Gather, Segment};

pub(in crate::api) fn read_reply(doc: &Json, limits: &Limits) -> Result<(Imprint, Vec<Segment>), ReadError> {
    let root = doc.root();
    if !root.is_object() {
        return Err(ReadError::wrong_type("", root, "a JSON object"));
    }
    let content = root.get("content").ok_or_else(|| ReadError::missing("content", root))?;
    if !content.is_array() {
        return Err(ReadError::wrong_type("content", content, "an array of blocks"));
    }
    let mut gather = Gather::new(doc);
    for key in ["id", "model"] {
        root.all(key).for_each(|value| gather.identifier(Some(value)));
    }
    let mut draft = Gather::draft(Origin::Output, "content", 0);
    for (at, block) in blocks(root).enumerate() {
        let place = format!("content[{at}]");
        if !block.is_object() {
            return Err(ReadError::wrong_type(place, block, "an object"));
        }
        gather_block(&mut gather, &mut draft, block, &place, 0, limits)?;
    }
    gather.close(draft);
    let imprint = Imprint { model: identifier(root, "model").unwrap_or_default(), usage: usage(root) };
    Ok((imprint, gather.finish(Segment::WHOLE)))
}

fn blocks(root: Value<'_>) -> impl Iterator<Item = Value<'_>> {
    root.all("content").flat_map(Value::items)
}

fn is_kind(block: Value<'_>, kinds: &[&str]) -> bool {
    block.get("type").and_then(Value::as_str).is_some_and(|kind| kinds.contains(&kind.as_ref()))
}

pub(in crate::api) fn answer(root: Value<'_>, choice: u32) -> Option<String> {
    let texts = blocks(root).filter(|block| is_kind(*block, &["text"]));
    let texts: Vec<_> = texts.filter_map(|block| block.get("text")?.as_str()).collect();
    (choice == 0 && !texts.is_empty()).then(|| texts.concat())
}

pub(in crate::api) fn has_tool_calls(root: Value<'_>, choice: u32) -> bool {
    choice == 0 && blocks(root).any(|block| is_kind(block, &["tool_use", "server_tool_use", "mcp_tool_use"]))
}

/// One text block in place of all text and thinking; other blocks stay as they are.
pub(in crate::api) fn replace_answer(root: Value<'_>, choice: u32, text: &str, edits: &mut Edits) {
    if choice != 0 {
        return;
    }
    let ours = [br#"{"type":"text","text":"#, quoted(text).as_slice(), b"}"].concat();
    for content in root.all("content").filter(|content| content.is_array()) {
        let mut kept: Vec<&[u8]> = Vec::new();
        let mut said = false;
        for block in content.items() {
            if is_kind(block, &["text"]) {
                if !std::mem::replace(&mut said, true) {
                    kept.push(&ours);
                }
            } else if !is_kind(block, &["thinking", "redacted_thinking"]) {
                kept.push(block.raw());
            }
        }
        if !said {
            kept.insert(0, &ours);
        }
        edits.replace(content.span(), [b"[", kept.join(&b',').as_slice(), b"]"].concat());
    }
}

/// A whole new body: there is one choice only, and nothing of it may remain.
pub(in crate::api) fn block(root: Value<'_>, notice: &Notice<'_>, style: BlockStyle) -> Tree {
    let id = identifier(root, "id").unwrap_or_else(|| message_id(notice.request_id));
    let counts = counts(root).unwrap_or_else(|| usage_tree(usage(root).unwrap_or_default()));
    blocked(&id, &identifier(root, "model").unwrap_or_default(), &counts, notice, style)
}

/// After redactions: a touched text block loses its citations, which repeat its text; a touched thinking block, whose
/// signature would no longer hold, goes as a whole.
pub(in crate::api) fn tidy(doc: &Json, touched: &[Touched], edits: &mut Edits) {
    let root = doc.root();
    let is_touched = |block: Value<'_>| {
        let span = block.span();
        touched.iter().any(|touched| span.contains(&doc.value(touched.node).span().start))
    };
    for content in root.all("content").filter(|content| content.is_array()) {
        edits.remove_items(content, |block| is_kind(block, &["thinking", "redacted_thinking"]) && is_touched(block));
    }
    for block in blocks(root).filter(|block| is_kind(*block, &["text"]) && is_touched(*block)) {
        edits.remove_members(block, |key| key == "citations");
    }
}

/// Calls of the client's tools, in `OpenAI`'s shape.
pub(in crate::api) fn tool_calls(body: &serde_json::Value) -> Option<Vec<serde_json::Value>> {
    let blocks = body["content"].as_array()?;
    let elsewhere = |kind: &str| kind != "tool_use" && (kind.ends_with("_tool_use") || kind.ends_with("_tool_result"));
    if blocks.iter().any(|block| block["type"].as_str().is_some_and(elsewhere)) {
        return None;
    }
    let said = serde_json::json!({"messages": [{"role": "assistant", "content": blocks}]});
    super::messages(&said).first()?["tool_calls"].as_array().cloned()
}
