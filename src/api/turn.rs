//! Earlier turns of a conversation, which clients send again with every request: which they are, and how one of them is
//! taken out without harm to the rest.
//!
//! Works on the shape that the dialects share (`messages`, each with a `role` and a `content`), and on the pairs that
//! have to stay pairs: a call of a tool keeps its name and its id, and a result of one keeps its place.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::api::json::{Edits, Json, Kind, Value, quoted};
use crate::api::segment::Segment;

/// Segments to be taken out.
#[derive(Clone, Debug, Default)]
pub(super) struct Silenced {
    notice: String,
    /// By message.
    messages: BTreeMap<usize, Vec<usize>>,
    /// Messages that may go as a whole.
    leaving: BTreeSet<usize>,
}

impl Silenced {
    /// Has segments of earlier turns replaced by a notice, or their messages left out where `leave_out` says so and that
    /// leaves the conversation well formed. Gives back those that cannot be taken out, or are no earlier turn's.
    pub(super) fn take(
        &mut self,
        doc: &Json,
        segments: &[Segment],
        wanted: &[usize],
        (notice, leave_out): (&str, bool),
    ) -> Vec<usize> {
        notice.clone_into(&mut self.notice);
        let messages: Vec<Value<'_>> = doc.root().get("messages").into_iter().flat_map(Value::items).collect();
        let newest = messages.iter().rposition(|message| role(*message) == "user").unwrap_or(0);
        let mut left = Vec::new();
        for &at in wanted {
            let taken = segments.get(at).and_then(|segment| {
                let index = message_index(segment).filter(|index| *index < newest)?;
                let message = *messages.get(index)?;
                replaced(doc, message, segment, notice)?;
                Some((index, message))
            });
            match taken {
                None => left.push(at),
                Some((index, message)) => {
                    self.messages.entry(index).or_default().push(at);
                    if leave_out && !is_paired(message) {
                        self.leaving.insert(index);
                    }
                }
            }
        }
        left
    }

    /// The splices that take everything out.
    pub(super) fn edits(&self, doc: &Json, segments: &[Segment], edits: &mut Edits) {
        let Some(list) = doc.root().get("messages").filter(|_| !self.messages.is_empty()) else { return };
        let gone = self.gone(list);
        let leaving = list.items().enumerate().filter(|(at, _)| gone.contains(at)).map(|(_, item)| item.index());
        let leaving: BTreeSet<usize> = leaving.collect();
        edits.remove_items(list, |item| leaving.contains(&item.index()));
        for (message, value) in list.items().enumerate().filter(|(at, _)| !gone.contains(at)) {
            for segment in self.messages.get(&message).into_iter().flatten().filter_map(|at| segments.get(*at)) {
                if let Some(more) = replaced(doc, value, segment, &self.notice) {
                    edits.extend(more);
                }
            }
        }
    }

    /// Messages that can go: what is left must still take turns, and not begin with the assistant's.
    fn gone(&self, list: Value<'_>) -> BTreeSet<usize> {
        let roles: Vec<String> = list.items().map(role).collect();
        let mut gone = BTreeSet::new();
        let mut before = "";
        for (at, own) in roles.iter().enumerate() {
            let next = roles.get(at + 1).map_or("", String::as_str);
            let fits = match before {
                "" | "system" | "developer" => next == "user",
                before => before != next && matches!(next, "user" | "assistant"),
            };
            if self.leaving.contains(&at) && fits {
                gone.insert(at);
            } else {
                before = own;
            }
        }
        gone
    }
}

/// The message that a segment stands in: its place says so.
fn message_index(segment: &Segment) -> Option<usize> {
    segment.place.strip_prefix("messages[")?.split_once(']')?.0.parse().ok()
}

fn role(message: Value<'_>) -> String {
    message.get("role").and_then(Value::as_str).unwrap_or_default().into_owned()
}

/// Whether a message calls a tool or answers such a call.
fn is_paired(message: Value<'_>) -> bool {
    let called = ["tool_calls", "function_call", "tool_call_id"].into_iter().any(|key| message.get(key).is_some());
    let block = |item: Value<'_>| {
        let kind = item.get("type").and_then(Value::as_str).unwrap_or_default();
        kind.ends_with("tool_use") || kind.ends_with("tool_result")
    };
    let content = message.get("content").into_iter().flat_map(Value::items);
    called || !matches!(role(message).as_str(), "user" | "assistant") || content.into_iter().any(block)
}

/// Splices that leave nothing of a segment but a notice, and names of tools; none if that cannot be.
fn replaced(doc: &Json, message: Value<'_>, segment: &Segment, notice: &str) -> Option<Edits> {
    let leaves: Vec<Range<usize>> = segment.leaves().map(|node| doc.value(node).span()).collect();
    let mut made = Splices { edits: Edits::default(), covered: Vec::new(), leaves: &leaves };
    if let Some(content) = message.get("content").filter(|content| made.touch(*content)) {
        made.content(content, notice)?;
    }
    for call in message.get("tool_calls").into_iter().flat_map(Value::items) {
        if made.touch(call) {
            made.put(call.get("function")?.get("arguments")?, quoted("{}"));
        }
    }
    if let Some(thought) = message.get("reasoning_content").filter(|thought| made.touch(*thought)) {
        made.put(thought, quoted(notice));
    }
    let covered = |leaf: &Range<usize>| made.covered.iter().any(|span| within(leaf, span));
    leaves.iter().all(|leaf| covered(leaf) || is_tool_name(doc, message, leaf)).then_some(made.edits)
}

struct Splices<'a> {
    edits: Edits,
    covered: Vec<Range<usize>>,
    /// Of the segment.
    leaves: &'a [Range<usize>],
}

impl Splices<'_> {
    fn touch(&self, value: Value<'_>) -> bool {
        let span = value.span();
        self.leaves.iter().any(|leaf| within(leaf, &span))
    }

    fn put(&mut self, value: Value<'_>, bytes: Vec<u8>) {
        self.covered.push(value.span());
        self.edits.replace(value.span(), bytes);
    }

    /// A string becomes the notice. Of parts, results and arguments of tools keep their frame; the first other part
    /// becomes the notice, and further ones go.
    fn content(&mut self, content: Value<'_>, notice: &str) -> Option<()> {
        if content.kind() == Kind::String {
            self.put(content, quoted(notice));
            return Some(());
        }
        let mut said = false;
        let mut more = BTreeSet::new();
        let touched: Vec<Value<'_>> = content.items().filter(|item| item.is_object() && self.touch(*item)).collect();
        for item in touched {
            let kind = item.get("type").and_then(Value::as_str).unwrap_or_default();
            if kind.ends_with("tool_result") {
                self.put(item.get("content")?, quoted(notice));
            } else if kind.ends_with("tool_use") {
                self.put(item.get("input")?, b"{}".to_vec());
            } else if std::mem::replace(&mut said, true) {
                self.covered.push(item.span());
                more.insert(item.index());
            } else {
                self.put(item, [br#"{"type":"text","text":"#, quoted(notice).as_slice(), b"}"].concat());
            }
        }
        self.edits.remove_items(content, |item| more.contains(&item.index()));
        Some(())
    }
}

fn within(inner: &Range<usize>, outer: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// Whether a string is the name of a called tool that the request declares, so that it was judged there too.
fn is_tool_name(doc: &Json, message: Value<'_>, leaf: &Range<usize>) -> bool {
    let calls = message.get("tool_calls").into_iter().flat_map(Value::items).filter_map(|call| call.get("function"));
    let uses = message.get("content").into_iter().flat_map(Value::items);
    let name = calls.chain(uses).filter_map(|named| named.get("name")).find(|name| name.span() == *leaf);
    let Some(name) = name.and_then(Value::as_str) else { return false };
    let mut tools = doc.root().get("tools").into_iter().flat_map(Value::items);
    tools.any(|tool| {
        let declared = tool.get("function").unwrap_or(tool).get("name").and_then(Value::as_str);
        declared.is_some_and(|declared| declared == name)
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::json;

    use crate::api::{Call, Dialect, Limits};

    /// Takes out each segment whose text holds `bad`, and gives how many could not be, and the body.
    fn without(dialect: Dialect, body: &serde_json::Value, leave_out: bool) -> (usize, serde_json::Value) {
        let mut call = Call::read(dialect, Bytes::from(body.to_string()), &Limits::default()).unwrap();
        let bad: Vec<usize> =
            (0..call.segments().len()).filter(|at| call.segments()[*at].text.contains("bad")).collect();
        let left = call.take_out(&bad, "[gone]", leave_out).len();
        let body = call.into_body();
        Call::read(dialect, body.clone(), &Limits::default()).unwrap();
        (left, serde_json::from_slice(&body).unwrap())
    }

    fn body(messages: &serde_json::Value) -> serde_json::Value {
        json!({"model": "m", "max_tokens": 1, "messages": messages})
    }

    #[test]
    fn parts_become_one_notice_and_are_never_empty() {
        let user = json!({"role": "user", "content": "q"});
        let parts = json!([{"type": "text", "text": "bad"}, {"type": "text", "text": "more", "cache_control": {"type": "ephemeral"}}]);
        for dialect in [Dialect::OpenAiChat, Dialect::AnthropicMessages] {
            let (left, sent) = without(dialect, &body(&json!([{"role": "user", "content": parts}, user])), false);
            assert_eq!((left, &sent["messages"][0]["content"]), (0, &json!([{"type": "text", "text": "[gone]"}])));
        }
    }

    #[test]
    fn every_block_keeps_its_frame() {
        let blocks = json!([
            {"type": "thinking", "thinking": "bad thought", "signature": "c2ln"},
            {"type": "text", "text": "fine"},
            {"type": "tool_use", "id": "t", "name": "look", "input": {"a": "bad"}},
        ]);
        let talk = json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": blocks},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "bad"}, {"type": "text", "text": "bad"}]},
            {"role": "user", "content": "q"}]);
        let mut written = body(&talk);
        written["tools"] = json!([{"name": "look", "input_schema": {}}]);
        for leave_out in [false, true] {
            let (left, sent) = without(Dialect::AnthropicMessages, &written, leave_out);
            let blocks = &sent["messages"][1]["content"];
            assert_eq!(left, 0);
            assert_eq!(blocks[0], json!({"type": "text", "text": "[gone]"}));
            assert_eq!(blocks[1], json!({"type": "text", "text": "fine"}));
            assert_eq!(blocks[2], json!({"type": "tool_use", "id": "t", "name": "look", "input": {}}));
            let results = &sent["messages"][2]["content"];
            assert_eq!(results[0], json!({"type": "tool_result", "tool_use_id": "t", "content": "[gone]"}));
            assert_eq!(results[1], json!({"type": "text", "text": "[gone]"}));
        }
    }

    #[test]
    fn what_cannot_be_taken_out_whole_is_left_to_be_refused() {
        let tools = json!({"id": "c", "type": "function", "function": {"name": "bad", "arguments": "{}"}});
        let talk = json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": null, "tool_calls": [tools]},
            {"role": "tool", "tool_call_id": "c", "content": "r"}, {"role": "user", "content": "q"}]);
        assert_eq!(without(Dialect::OpenAiChat, &body(&talk), true), (1, body(&talk)), "a name that nobody declared");
        let newest = body(&json!([{"role": "user", "content": "q"}, {"role": "user", "content": "bad"}]));
        assert_eq!(without(Dialect::OpenAiChat, &newest, true), (1, newest.clone()));
        let mut elsewhere = body(&json!([{"role": "user", "content": "q"}]));
        elsewhere["metadata"] = json!({"note": "bad"});
        assert_eq!(without(Dialect::OpenAiChat, &elsewhere, true), (1, elsewhere.clone()));
    }

    proptest! {
        /// Whatever is taken out: the bad is gone, the good stays, and roles that took turns still do.
        #[test]
        fn conversations_stay_conversations(
            turns in prop::collection::vec((any::<bool>(), "[c-z]{1,5}"), 1..9),
            leave_out in any::<bool>(),
            anthropic in any::<bool>(),
        ) {
            let messages: Vec<serde_json::Value> = turns
                .iter()
                .enumerate()
                .map(|(at, (bad, text))| {
                    let role = if at % 2 == 0 { "user" } else { "assistant" };
                    json!({"role": role, "content": if *bad { format!("bad {text}") } else { text.clone() }})
                })
                .collect();
            let dialect = if anthropic { Dialect::AnthropicMessages } else { Dialect::OpenAiChat };
            let (_, sent) = without(dialect, &body(&json!(messages)), leave_out);
            let sent = sent["messages"].as_array().unwrap();
            let newest = (turns.len() - 1) / 2 * 2;
            let said: Vec<&str> = sent.iter().filter_map(|message| message["content"].as_str()).collect();
            for (at, (bad, text)) in turns.iter().enumerate() {
                prop_assert!(*bad && at < newest || said.iter().any(|said| said.ends_with(text.as_str())));
            }
            let earlier = sent.len() - (turns.len() - newest);
            prop_assert!(said[..earlier].iter().all(|said| !said.starts_with("bad ")));
            prop_assert_eq!(&sent[0]["role"], "user");
            prop_assert!(sent.windows(2).all(|two| two[0]["role"] != two[1]["role"]));
        }
    }
}
