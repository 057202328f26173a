//! The whole answer: a `response`.

use serde_json::Value as Tree;

use crate::api::dialect::{Limits, Origin};
use crate::api::error::ReadError;
use crate::api::json::{Edits, Json, Kind, Value, quoted};
use crate::api::notice::{BlockStyle, Notice, Usage};
use crate::api::reply::{Imprint, Touched, counts, identifier};
use crate::api::responses::item::{gather_item, kind_of};
use crate::api::responses::render::{blocked, response_id};
use crate::api::segment::{Gather, Segment};

pub(in crate::api) fn read_reply(doc: &Json, limits: &Limits) -> Result<(Imprint, Vec<Segment>), ReadError> {
    let root = doc.root();
    if !root.is_object() {
        return Err(ReadError::wrong_type("", root, "a JSON object"));
    }
    let output = root.get("output").ok_or_else(|| ReadError::missing("output", root))?;
    if !output.is_array() {
        return Err(ReadError::wrong_type("output", output, "an array of items"));
    }
    let mut gather = Gather::new(doc);
    for key in ["id", "model"] {
        root.all(key).for_each(|value| gather.identifier(Some(value)));
    }
    echoes(root, limits).for_each(|node| gather.inert(node));
    for output in root.all("output").filter(|output| output.is_array()) {
        for (at, item) in output.items().enumerate() {
            let place = format!("output[{at}]");
            if !item.is_object() {
                return Err(ReadError::wrong_type(place, item, "an object"));
            }
            gather_item(&mut gather, item, &place, Some(Origin::Output), limits)?;
        }
    }
    gather.take_stored(false)?;
    let imprint = Imprint { model: identifier(root, "model").unwrap_or_default(), usage: usage(root) };
    Ok((imprint, gather.finish(Segment::WHOLE)))
}

/// The counts in a `usage` object.
pub(super) fn usage(response: Value<'_>) -> Option<Usage> {
    let usage = response.get("usage").filter(|usage| usage.is_object())?;
    let count = |key| usage.get(key).and_then(Value::as_u64).unwrap_or_default();
    Some(Usage { input: count("input_tokens"), output: count("output_tokens") })
}

/// Strings outside of the output that repeat a string of the request: `instructions`, `tools`, `metadata` and the like.
/// They were judged on the way up, or are the operator's own.
pub(super) fn echoes<'a>(response: Value<'a>, limits: &'a Limits) -> impl Iterator<Item = Value<'a>> {
    let aside = response.entries().filter(|(key, _)| key.as_str().as_deref() != Some("output"));
    aside.flat_map(|(_, value)| value.tree()).filter(|node| {
        matches!(node.kind(), Kind::String | Kind::Key) && node.as_str().is_some_and(|text| limits.echo.holds(&text))
    })
}

fn items(root: Value<'_>) -> impl Iterator<Item = Value<'_>> {
    root.all("output").flat_map(Value::items)
}

fn parts(item: Value<'_>) -> impl Iterator<Item = Value<'_>> {
    item.all("content").flat_map(Value::items)
}

pub(in crate::api) fn answer(root: Value<'_>, choice: u32) -> Option<String> {
    let messages = items(root).filter(|item| kind_of(*item) == "message");
    let texts: Vec<_> = messages.flat_map(parts).filter_map(|part| part.get("text")?.as_str()).collect();
    (choice == 0 && !texts.is_empty()).then(|| texts.concat())
}

pub(in crate::api) fn has_tool_calls(root: Value<'_>, choice: u32) -> bool {
    choice == 0 && items(root).any(|item| kind_of(item).ends_with("_call"))
}

/// One message with one text in place of all messages and all reasoning; other items stay as they are.
pub(in crate::api) fn replace_answer(root: Value<'_>, choice: u32, text: &str, edits: &mut Edits) {
    if choice != 0 {
        return;
    }
    let part = [br#"[{"type":"output_text","text":"#, quoted(text).as_slice(), br#","annotations":[]}]"#].concat();
    for output in root.all("output").filter(|output| output.is_array()) {
        let mut said = false;
        for item in output.items().filter(|item| kind_of(*item) == "message") {
            if !std::mem::replace(&mut said, true) {
                item.all("content").for_each(|content| edits.replace(content.span(), part.clone()));
            }
        }
        let first = output.items().find(|item| kind_of(*item) == "message").map(Value::id);
        edits.remove_items(output, |item| match kind_of(item).as_str() {
            "message" => first != Some(item.id()),
            "reasoning" => true,
            _ => false,
        });
        if !said {
            let head = br#"{"type":"message","role":"assistant","status":"completed","content":"#;
            let comma: &[u8] = if output.items().any(|item| kind_of(item) != "reasoning") { b"," } else { b"" };
            edits.insert(output.span().start + 1, [head.as_slice(), &part, b"}", comma].concat());
        }
    }
    edits.remove_members(root, |key| key == "output_text");
}

/// A whole new body: there is one answer only, and nothing of it may remain.
pub(in crate::api) fn block(root: Value<'_>, notice: &Notice<'_>, style: BlockStyle) -> Tree {
    let id = identifier(root, "id").unwrap_or_else(|| response_id(notice.request_id));
    let created = root.get("created_at").and_then(Value::as_u64).unwrap_or_default();
    let model = identifier(root, "model").unwrap_or_default();
    let mut body = blocked(&id, created, &model, notice, style);
    body["usage"] = counts(root).unwrap_or_default();
    body
}

/// After redactions: a touched part loses its log probabilities and annotations, which repeat its text.
pub(in crate::api) fn tidy(doc: &Json, touched: &[Touched], edits: &mut Edits) {
    let nodes: Vec<_> = touched.iter().map(|touched| touched.node).collect();
    for part in items(doc.root()).flat_map(parts) {
        if part.entries().any(|(_, value)| nodes.contains(&value.id())) {
            forget(part, edits);
        }
    }
    edits.remove_members(doc.root(), |key| key == "output_text");
}

/// Empties what repeats the text of a part.
pub(super) fn forget(part: Value<'_>, edits: &mut Edits) {
    for copies in part.all("logprobs").chain(part.all("annotations")).filter(|copies| copies.is_array()) {
        edits.replace(copies.span(), b"[]".to_vec());
    }
}

/// Calls of the client's functions, in `OpenAI`'s other shape.
pub(in crate::api) fn tool_calls(body: &serde_json::Value) -> Option<Vec<serde_json::Value>> {
    let items = body["output"].as_array()?;
    let elsewhere = |kind: &str| kind.ends_with("_call") && !matches!(kind, "function_call" | "custom_tool_call");
    if items.iter().any(|item| item["type"].as_str().is_some_and(elsewhere)) {
        return None;
    }
    let said = super::messages(&serde_json::json!({ "input": items }));
    Some(said.iter().filter_map(|message| message["tool_calls"].as_array()).flatten().cloned().collect())
}
