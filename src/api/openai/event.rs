//! The stream: `chat.completion.chunk` events.

use crate::api::dialect::Limits;
use crate::api::error::ReadError;
use crate::api::event::{Channel, Close, Event, Finish, Lane, Sift};
use crate::api::json::{Edits, Value};
use crate::api::notice::Usage;

/// The choices of an answer or a chunk, each with its index; every one of duplicates.
pub(in crate::api) fn choices(root: Value<'_>) -> impl Iterator<Item = (u32, Value<'_>)> {
    root.all("choices").flat_map(Value::items).enumerate().map(|(at, choice)| (index(choice, at), choice))
}

/// The `index` of a choice or a call, or else its position.
pub(super) fn index(value: Value<'_>, at: usize) -> u32 {
    let given = value.get("index").and_then(Value::as_u64).and_then(|index| u32::try_from(index).ok());
    given.or_else(|| u32::try_from(at).ok()).unwrap_or_default()
}

/// The counts in a `usage` object.
pub(in crate::api) fn usage(root: Value<'_>) -> Option<Usage> {
    let usage = root.get("usage").filter(|usage| usage.is_object())?;
    let count = |key| usage.get(key).and_then(Value::as_u64);
    Some(Usage {
        input: count("prompt_tokens").unwrap_or_default(),
        output: count("completion_tokens").unwrap_or_default(),
    })
}

pub(in crate::api) fn read_event(
    root: Value<'_>,
    sift: &mut Sift,
    event: &mut Event,
    limits: &Limits,
) -> Result<(), ReadError> {
    // Padding against traffic analysis, random letters.
    for key in ["id", "model", "system_fingerprint", "obfuscation"] {
        root.all(key).for_each(|value| sift.identifier(Some(value)));
    }
    event.error = root.all("error").any(|error| !error.is_null());
    event.terminal = event.error;
    event.usage = usage(root);
    for (index, choice) in choices(root) {
        for delta in choice.all("delta") {
            read_delta(index, delta, sift, limits)?;
        }
        if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str) {
            event.finish.push(Finish { choice: index, reason: reason.into_owned() });
            event.closes.push(Close::Choice(index));
        }
        for token in repeated_tokens(choice, "delta") {
            sift.inert(token);
        }
        sift.tree(Lane::of(index, Channel::Other), choice);
    }
    if event.error {
        event.closes.push(Close::All);
    }
    Ok(())
}

fn read_delta(choice: u32, delta: Value<'_>, sift: &mut Sift, limits: &Limits) -> Result<(), ReadError> {
    let lane = |channel| Lane::of(choice, channel);
    let known = [
        ("content", Channel::Content),
        ("refusal", Channel::Refusal),
        ("reasoning_content", Channel::Reasoning),
        ("reasoning", Channel::Reasoning),
        ("reasoning_details", Channel::Reasoning),
        ("function_call", Channel::ToolArgs(0)),
    ];
    for (key, channel) in known {
        delta.all(key).for_each(|value| sift.tree(lane(channel), value));
    }
    for (at, call) in delta.all("tool_calls").flat_map(Value::items).enumerate() {
        let channel = Channel::ToolArgs(index(call, at));
        call.all("id").for_each(|id| sift.identifier(Some(id)));
        sift.tree(lane(channel), call);
    }
    for audio in delta.all("audio") {
        if audio.get("data").is_some() && !limits.allow_media {
            return Err(ReadError::unscannable("choices.delta.audio", audio));
        }
        audio.all("id").for_each(|id| sift.identifier(Some(id)));
        sift.opaque(audio.get("data"));
        audio.all("transcript").for_each(|text| sift.tree(lane(Channel::Content), text));
    }
    Ok(())
}

/// The tokens among a choice's log probabilities that need no judging of their own: those that repeat, one after the
/// other, the text in `holder`, and beside them the single tokens of `top_logprobs`, which were not said.
pub(super) fn repeated_tokens<'a>(choice: Value<'a>, holder: &str) -> Vec<Value<'a>> {
    let mut repeated = Vec::new();
    for (key, said) in choice.all("logprobs").flat_map(Value::entries) {
        let key = key.as_str().unwrap_or_default();
        let told: String = choice.all(holder).filter_map(|inner| inner.get(&key)?.as_str()).collect();
        let tokens = |of: Value<'a>| of.items().filter_map(|token| token.get("token"));
        let text: String = tokens(said).filter_map(Value::as_str).collect();
        if text == told {
            repeated.extend(tokens(said));
            repeated.extend(said.items().flat_map(|token| token.all("top_logprobs")).flat_map(tokens));
        }
    }
    repeated
}

/// Takes out of a chunk what repeats a text that was changed.
pub(in crate::api) fn forget_copies(root: Value<'_>, edits: &mut Edits) {
    edits.remove_members(root, |key| key == "obfuscation");
    for (_, choice) in choices(root) {
        choice.all("logprobs").for_each(|logprobs| edits.replace(logprobs.span(), b"null".to_vec()));
    }
}
