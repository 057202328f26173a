//! The whole answer: `text_completion`.

use serde_json::{Value as Tree, json};

use crate::api::completions::call::repeated_tokens;
use crate::api::dialect::Origin;
use crate::api::error::ReadError;
use crate::api::json::{Edits, Json, Value};
use crate::api::notice::{BlockStyle, Notice, Usage};
use crate::api::openai::{begin, choices, finish_reason, usage, usage_tree};
use crate::api::render::to_bytes;
use crate::api::reply::{Imprint, Touched, counts, identifier};
use crate::api::segment::{Gather, Segment};

pub(in crate::api) fn read_reply(doc: &Json) -> Result<(Imprint, Vec<Segment>), ReadError> {
    let mut gather = begin(doc)?;
    let root = doc.root();
    for (index, choice) in choices(root) {
        let place = format!("choices[{index}]");
        if !choice.is_object() {
            return Err(ReadError::wrong_type(place, choice, "an object"));
        }
        let mut draft = Gather::draft(Origin::Output, format!("{place}.text"), index);
        choice.all("text").for_each(|text| gather.tree(&mut draft, text));
        gather.close(draft);
        for token in repeated_tokens(choice) {
            gather.inert(token);
        }
        gather.rest(choice, place, index);
    }
    let imprint = Imprint { model: identifier(root, "model").unwrap_or_default(), usage: usage(root) };
    Ok((imprint, gather.finish(Segment::WHOLE)))
}

fn of_choice(root: Value<'_>, choice: u32) -> impl Iterator<Item = Value<'_>> {
    choices(root).filter(move |(index, _)| *index == choice).map(|(_, choice)| choice)
}

pub(in crate::api) fn answer(root: Value<'_>, choice: u32) -> Option<String> {
    Some(of_choice(root, choice).last()?.get("text")?.as_str()?.into_owned())
}

pub(in crate::api) fn replace_answer(root: Value<'_>, choice: u32, text: &str, edits: &mut Edits) {
    for choice in of_choice(root, choice) {
        choice.all("text").for_each(|old| edits.replace_text(old, text));
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
    if !blocked.contains(&Segment::WHOLE) && indexes.iter().any(|index| !blocked.contains(index)) {
        for (index, choice) in choices(root).filter(|(index, _)| blocked.contains(index)) {
            edits.replace(choice.span(), to_bytes(&blocked_choice(index, notice, style)));
        }
        return None;
    }
    if indexes.is_empty() {
        indexes.push(0);
    }
    let mut body = body(&identifier(root, "model").unwrap_or_default(), indexes.into_iter(), notice, style);
    body["id"] = json!(identifier(root, "id").unwrap_or_else(|| completion_id(notice.request_id)));
    body["created"] = json!(root.get("created").and_then(Value::as_u64).unwrap_or_default());
    if let Some(counts) = counts(root) {
        body["usage"] = counts;
    }
    Some(body)
}

/// A whole answer that refuses, in every choice.
pub(in crate::api) fn refusal(model: &str, choices: u32, notice: &Notice<'_>) -> Tree {
    let mut body = body(model, 0..choices, notice, BlockStyle::Refusal);
    body["usage"] = usage_tree(Usage::default());
    body
}

fn body(model: &str, choices: impl Iterator<Item = u32>, notice: &Notice<'_>, style: BlockStyle) -> Tree {
    let choices: Vec<Tree> = choices.map(|index| blocked_choice(index, notice, style)).collect();
    let id = completion_id(notice.request_id);
    json!({"id": id, "object": "text_completion", "created": 0, "model": model, "choices": choices})
}

/// This API has no place for a refusal: it is the text, or there is none.
pub(in crate::api) fn blocked_choice(index: u32, notice: &Notice<'_>, style: BlockStyle) -> Tree {
    let text = if style == BlockStyle::Refusal { notice.message } else { "" };
    json!({"text": text, "index": index, "logprobs": null, "finish_reason": finish_reason(style)})
}

fn completion_id(request_id: &str) -> String {
    format!("cmpl-{}", request_id.trim_start_matches("req_"))
}

/// After redactions: takes out what repeats the redacted text elsewhere in the same choice.
pub(in crate::api) fn tidy(doc: &Json, touched: &[Touched], edits: &mut Edits) {
    let is_touched = |index: u32| touched.iter().any(|touched| touched.choice == index);
    for (_, choice) in choices(doc.root()).filter(|(index, _)| is_touched(*index)) {
        forget_logprobs(choice, edits);
    }
}

fn forget_logprobs(choice: Value<'_>, edits: &mut Edits) {
    choice.all("logprobs").for_each(|logprobs| edits.replace(logprobs.span(), b"null".to_vec()));
}
