//! The whole answer: `chat.completion`.

use serde_json::{Value as Tree, json};

use crate::api::dialect::{Limits, Origin};
use crate::api::error::ReadError;
use crate::api::json::{Edits, Json, Value, quoted};
use crate::api::notice::{BlockStyle, Notice};
use crate::api::openai::call::gather_call;
use crate::api::openai::event::{choices, index, repeated_tokens, usage};
use crate::api::openai::render::{blocked_choice, completion_id};
use crate::api::render::to_bytes;
use crate::api::reply::{Imprint, Touched, counts, identifier};
use crate::api::segment::{Gather, Segment};

/// Members of a message that hold the model's thinking.
const REASONING: [&str; 3] = ["reasoning_content", "reasoning", "reasoning_details"];

/// Checks that an answer is an object with a list of choices, and begins to gather it.
pub(in crate::api) fn begin(doc: &Json) -> Result<Gather<'_>, ReadError> {
    let root = doc.root();
    if !root.is_object() {
        return Err(ReadError::wrong_type("", root, "a JSON object"));
    }
    let list = root.get("choices").ok_or_else(|| ReadError::missing("choices", root))?;
    if !list.is_array() {
        return Err(ReadError::wrong_type("choices", list, "an array"));
    }
    let mut gather = Gather::new(doc);
    for key in ["id", "model", "system_fingerprint"] {
        root.all(key).for_each(|value| gather.identifier(Some(value)));
    }
    Ok(gather)
}

pub(in crate::api) fn read_reply(doc: &Json, limits: &Limits) -> Result<(Imprint, Vec<Segment>), ReadError> {
    let mut gather = begin(doc)?;
    let root = doc.root();
    for (index, choice) in choices(root) {
        let place = format!("choices[{index}]");
        if !choice.is_object() {
            return Err(ReadError::wrong_type(place, choice, "an object"));
        }
        for message in choice.all("message") {
            read_message(&mut gather, message, index, &format!("{place}.message"), limits)?;
        }
        for token in repeated_tokens(choice, "message") {
            gather.inert(token);
        }
        gather.rest(choice, place, index);
    }
    let imprint = Imprint { model: identifier(root, "model").unwrap_or_default(), usage: usage(root) };
    Ok((imprint, gather.finish(Segment::WHOLE)))
}

fn read_message(
    gather: &mut Gather<'_>,
    message: Value<'_>,
    choice: u32,
    place: &str,
    limits: &Limits,
) -> Result<(), ReadError> {
    let mut draft = Gather::draft(Origin::Output, format!("{place}.content"), choice);
    for text in message.all("content").chain(message.all("refusal")) {
        gather.tree(&mut draft, text);
    }
    for audio in message.all("audio").filter(|audio| audio.is_object()) {
        if !limits.allow_media {
            return Err(ReadError::unscannable(format!("{place}.audio"), audio));
        }
        gather.identifier(audio.get("id"));
        gather.opaque(audio.get("data"));
        audio.all("transcript").for_each(|text| gather.leaf(&mut draft, text));
    }
    gather.close(draft);
    for key in REASONING {
        let mut draft = Gather::draft(Origin::Reasoning, format!("{place}.{key}"), choice);
        message.all(key).for_each(|text| gather.tree(&mut draft, text));
        gather.close(draft);
    }
    let calls = message.all("tool_calls").flat_map(Value::items).enumerate();
    let calls = calls.map(|(at, call)| (call, format!("{place}.tool_calls[{}]", index(call, at))));
    let older = message.all("function_call").map(|call| (call, format!("{place}.function_call")));
    for (call, place) in calls.chain(older) {
        call.all("id").for_each(|id| gather.identifier(Some(id)));
        let mut draft = Gather::draft(Origin::ToolArgs, place.clone(), choice);
        gather_call(gather, &mut draft, call, &place)?;
        gather.close(draft);
    }
    Ok(())
}

fn messages(root: Value<'_>, choice: u32) -> impl Iterator<Item = Value<'_>> {
    choices(root).filter(move |(index, _)| *index == choice).flat_map(|(_, choice)| choice.all("message"))
}

pub(in crate::api) fn answer(root: Value<'_>, choice: u32) -> Option<String> {
    let content = messages(root, choice).last()?.get("content").filter(|content| !content.is_null())?;
    if let Some(text) = content.as_str() {
        return Some(text.into_owned());
    }
    let parts = content.items().filter_map(|part| part.get("text")?.as_str());
    Some(parts.collect())
}

pub(in crate::api) fn has_tool_calls(root: Value<'_>, choice: u32) -> bool {
    messages(root, choice).any(|message| {
        message.all("tool_calls").any(|calls| calls.items().next().is_some())
            || message.all("function_call").any(Value::is_object)
    })
}

pub(in crate::api) fn replace_answer(root: Value<'_>, choice: u32, text: &str, edits: &mut Edits) {
    for message in messages(root, choice) {
        if message.get("content").is_none() {
            edits.append_member(message, "content", &quoted(text));
        }
        message.all("content").for_each(|content| edits.replace_text(content, text));
        message.all("refusal").for_each(|refusal| edits.replace(refusal.span(), b"null".to_vec()));
        edits.remove_members(message, |key| key == "annotations" || REASONING.contains(&key));
    }
    for (_, choice) in choices(root).filter(|(index, _)| *index == choice) {
        forget_logprobs(choice, edits);
    }
}

/// Replaces the choices by blocked ones; gives a whole new body when nothing of the old one may remain.
pub(in crate::api) fn block(
    root: Value<'_>,
    blocked: &[u32],
    notice: &Notice<'_>,
    style: BlockStyle,
    edits: &mut Edits,
) -> Option<Tree> {
    let mut indexes: Vec<u32> = choices(root).map(|(index, _)| index).collect();
    indexes.dedup();
    if blocked.contains(&Segment::WHOLE) || indexes.iter().all(|index| blocked.contains(index)) {
        if indexes.is_empty() {
            indexes.push(0);
        }
        return Some(blocked_body(root, &indexes, notice, style));
    }
    for (index, choice) in choices(root).filter(|(index, _)| blocked.contains(index)) {
        edits.replace(choice.span(), to_bytes(&blocked_choice(index, notice, style)));
    }
    None
}

fn blocked_body(root: Value<'_>, indexes: &[u32], notice: &Notice<'_>, style: BlockStyle) -> Tree {
    let id = identifier(root, "id");
    let choices: Vec<Tree> = indexes.iter().map(|&index| blocked_choice(index, notice, style)).collect();
    let mut body = json!({
        "id": id.unwrap_or_else(|| completion_id(notice.request_id)),
        "object": "chat.completion",
        "created": root.get("created").and_then(Value::as_u64).unwrap_or_default(),
        "model": identifier(root, "model").unwrap_or_default(),
        "choices": choices,
    });
    if let Some(counts) = counts(root) {
        body["usage"] = counts;
    }
    body
}

/// After redactions: takes out what repeats the redacted text elsewhere in the same choice.
pub(in crate::api) fn tidy(doc: &Json, touched: &[Touched], edits: &mut Edits) {
    let is_touched = |index: u32| touched.iter().any(|touched| touched.choice == index);
    for (_, choice) in choices(doc.root()).filter(|(index, _)| is_touched(*index)) {
        forget_logprobs(choice, edits);
        choice.all("message").for_each(|message| edits.remove_members(message, |key| key == "annotations"));
    }
}

fn forget_logprobs(choice: Value<'_>, edits: &mut Edits) {
    choice.all("logprobs").for_each(|logprobs| edits.replace(logprobs.span(), b"null".to_vec()));
}

/// Calls of functions in one choice. The older `function_call` has no id, and so no place among them.
pub(in crate::api) fn tool_calls(body: &serde_json::Value, choice: u32) -> Option<Vec<serde_json::Value>> {
    let choices = body["choices"].as_array()?.iter().enumerate();
    let index = |at: usize, item: &serde_json::Value| item["index"].as_u64().unwrap_or(at as u64);
    let mut choices =
        choices.filter(|(at, item)| index(*at, item) == u64::from(choice)).map(|(_, item)| &item["message"]);
    let message = choices.next().filter(|message| !message["function_call"].is_object())?;
    let calls = message["tool_calls"].as_array()?;
    calls.iter().all(|call| call["function"]["name"].is_string() && call["id"].is_string()).then(|| calls.clone())
}
