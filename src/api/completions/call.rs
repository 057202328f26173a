//! The request: `POST /v1/completions`.

use serde_json::{Value as Tree, json};

use crate::api::call::{Head, choices, include_usage, model, optional_bool, texts_only};
use crate::api::dialect::{Limits, Origin};
use crate::api::error::ReadError;
use crate::api::json::{Edits, Json, Value, escape_into};
use crate::api::segment::{Gather, Segment};

pub(in crate::api) fn read_call(doc: &Json, limits: &Limits) -> Result<(Head, Vec<Segment>), ReadError> {
    let root = doc.root();
    if !root.is_object() {
        return Err(ReadError::wrong_type("", root, "a JSON object"));
    }
    let prompts = texts_only(root, "prompt")?;
    let answers = choices(root)?.saturating_mul(u32::try_from(prompts.len()).unwrap_or(u32::MAX));
    let head = Head {
        model: model(root, limits)?,
        stream: optional_bool(root, "stream", "stream")?,
        include_usage: include_usage(root)?,
        choices: answers,
        stored: Vec::new(),
    };
    let mut gather = Gather::new(doc);
    gather.identifier(root.get("model"));
    for (text, place) in prompts.into_iter().chain(root.all("suffix").map(|suffix| (suffix, "suffix".to_owned()))) {
        let mut draft = Gather::draft(Origin::User, place, 0);
        gather.leaf(&mut draft, text);
        gather.close(draft);
    }
    Ok((head, gather.finish(0)))
}

/// Puts the constitution before each prompt: this API knows no roles.
pub(in crate::api) fn inject(doc: &Json, constitution: &str, edits: &mut Edits) {
    let mut lead = Vec::new();
    escape_into(constitution, &mut lead);
    escape_into("\n\n", &mut lead);
    let Some(prompt) = doc.root().get("prompt") else { return };
    for text in prompt.tree().filter(|node| node.as_str().is_some()) {
        edits.insert(text.span().start + 1, lead.clone());
    }
}

/// The prompts as messages of a user.
pub(in crate::api) fn messages(body: &Tree) -> Vec<Tree> {
    let one = body["prompt"].as_str().into_iter();
    let many = body["prompt"].as_array().into_iter().flatten().filter_map(Tree::as_str);
    one.chain(many).map(|text| json!({"role": "user", "content": text})).collect()
}

/// The tokens among a choice's log probabilities that repeat its text, and beside them the tokens of `top_logprobs`,
/// keys there, which were not said.
pub(super) fn repeated_tokens(choice: Value<'_>) -> Vec<Value<'_>> {
    let told: String = choice.all("text").filter_map(Value::as_str).collect();
    let mut repeated = Vec::new();
    for said in choice.all("logprobs") {
        let tokens = || said.all("tokens").flat_map(Value::items);
        if tokens().filter_map(Value::as_str).collect::<String>() == told {
            repeated.extend(tokens());
            let beside = said.all("top_logprobs").flat_map(Value::items).flat_map(Value::entries);
            repeated.extend(beside.map(|(token, _)| token));
        }
    }
    repeated
}
