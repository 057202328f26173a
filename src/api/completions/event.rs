//! The stream: `text_completion` chunks.

use crate::api::completions::call::repeated_tokens;
use crate::api::event::{Channel, Close, Event, Finish, Lane, Sift};
use crate::api::json::{Edits, Value};
use crate::api::openai::{choices, usage};

pub(in crate::api) fn read_event(root: Value<'_>, sift: &mut Sift, event: &mut Event) {
    for key in ["id", "model", "system_fingerprint", "obfuscation"] {
        root.all(key).for_each(|value| sift.identifier(Some(value)));
    }
    event.error = root.all("error").any(|error| !error.is_null());
    event.terminal = event.error;
    event.usage = usage(root);
    for (index, choice) in choices(root) {
        choice.all("text").for_each(|text| sift.tree(Lane::of(index, Channel::Content), text));
        if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str) {
            event.finish.push(Finish { choice: index, reason: reason.into_owned() });
            event.closes.push(Close::Choice(index));
        }
        for token in repeated_tokens(choice) {
            sift.inert(token);
        }
        sift.tree(Lane::of(index, Channel::Other), choice);
    }
    if event.error {
        event.closes.push(Close::All);
    }
}

/// Takes out of a chunk what repeats a text that was changed.
pub(in crate::api) fn forget_copies(root: Value<'_>, edits: &mut Edits) {
    edits.remove_members(root, |key| key == "obfuscation");
    for (_, choice) in choices(root) {
        choice.all("logprobs").for_each(|logprobs| edits.replace(logprobs.span(), b"null".to_vec()));
    }
}
