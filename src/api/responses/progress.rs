//! What a client has of a stream, and how to end the stream there.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::{Value as Tree, json};

use crate::api::event::{Channel, Event, Lane};
use crate::api::json::Value;
use crate::api::notice::{BlockStyle, Notice};
use crate::api::render::frame;
use crate::api::reply::identifier;
use crate::api::responses::event::{number, says};
use crate::api::responses::render::{end, frame_of, message_id, refusal_item, response_id, status};

/// How far a stream has come.
#[derive(Clone, Debug, Default)]
pub(in crate::api) struct Progress {
    id: Option<String>,
    model: Option<String>,
    created: u64,
    /// The response as the client has it, from the last event that carried it whole.
    response: Option<Tree>,
    items: BTreeMap<u32, Item>,
    /// The `sequence_number` of the next event.
    next: u64,
    /// Events that were left out; later ones are numbered down by as many.
    dropped: u64,
    /// Parts whose text differs from the upstream's, so that places in it mean nothing.
    edited: BTreeSet<(u32, u32)>,
    done: bool,
}

/// An output item as the client has it.
#[derive(Clone, Debug, Default)]
struct Item {
    tree: Tree,
    done: bool,
    parts: BTreeMap<(Channel, u32), Part>,
}

#[derive(Clone, Debug, Default)]
struct Part {
    text: String,
    /// The client knows the text to be done.
    told: bool,
    /// The client knows the part to be done.
    done: bool,
}

impl Progress {
    pub(in crate::api) fn new(model: Option<String>) -> Progress {
        Progress { model, ..Progress::default() }
    }

    pub(in crate::api) fn seen(&mut self, event: &Event) {
        let Some(response) = event.root().and_then(|root| root.get("response")) else { return };
        self.id = self.id.take().or_else(|| identifier(response, "id"));
        self.model = identifier(response, "model").or_else(|| self.model.take());
        self.created = response.get("created_at").and_then(Value::as_u64).unwrap_or(self.created);
    }

    /// The event's frame with `changes` made, numbered without gaps; empty for an annotation of a text that was edited.
    pub(in crate::api) fn release(&mut self, event: &Event, changes: &[(usize, String)], note: Option<&[u8]>) -> Bytes {
        self.done |= event.terminal;
        let Some(root) = event.root() else { return event.rewrite(changes) };
        let kind = root.get("type").and_then(Value::as_str).unwrap_or_default();
        let part = (number(root, "output_index"), number(root, "content_index"));
        if kind == "response.output_text.annotation.added" && self.edited.contains(&part) {
            self.leave_out();
            return Bytes::new();
        }
        for (at, _) in changes {
            let lane = event.deltas.get(*at).map(|delta| delta.lane);
            self.edited.extend(lane.map(|lane| (lane.item, lane.part)));
        }
        let sequence =
            root.get("sequence_number").and_then(Value::as_u64).map(|number| number - number.min(self.dropped));
        self.next = sequence.map_or(self.next, |number| number + 1);
        self.note(event, root, &kind, changes);
        event.rewrite_as(changes, note, sequence.filter(|_| self.dropped > 0))
    }

    /// An event less: later ones close up.
    pub(in crate::api) fn leave_out(&mut self) {
        self.dropped += 1;
    }

    fn note(&mut self, event: &Event, root: Value<'_>, kind: &str, changes: &[(usize, String)]) {
        let at = number(root, "output_index");
        match kind {
            "response.created" | "response.queued" | "response.in_progress" => {
                self.response = event.tree_as(changes).map(|mut tree| tree["response"].take());
            }
            "response.output_item.added" | "response.output_item.done" => {
                let item = self.items.entry(at).or_default();
                item.tree = event.tree_as(changes).map(|mut tree| tree["item"].take()).unwrap_or_default();
                item.done = says(kind, "done");
            }
            "response.content_part.added" | "response.content_part.done" => {
                let refusal = root.get("part").is_some_and(|part| part.get("refusal").is_some());
                let channel = if refusal { Channel::Refusal } else { self.channel(at) };
                let part = self.part(at, number(root, "content_index"), channel);
                part.done = says(kind, "done");
            }
            "response.reasoning_summary_part.added" | "response.reasoning_summary_part.done" => {
                let part = self.part(at, number(root, "summary_index"), Channel::Summary);
                part.done = says(kind, "done");
            }
            _ => self.grow(event, kind, changes),
        }
    }

    /// Adds the text of a delta as the client has it, or notes that a text is done.
    fn grow(&mut self, event: &Event, kind: &str, changes: &[(usize, String)]) {
        for (at, delta) in event.deltas.iter().enumerate().filter(|(_, delta)| is_part(delta.lane)) {
            let Lane { item, part, channel, .. } = delta.lane;
            let part = self.part(item, part, channel);
            if says(kind, "done") {
                part.told = true;
            } else if !delta.copy {
                let edit = changes.iter().find(|(edited, _)| *edited == at);
                part.text.push_str(edit.map_or(delta.text.as_str(), |(_, text)| text));
            }
        }
    }

    fn part(&mut self, item: u32, part: u32, channel: Channel) -> &mut Part {
        self.items.entry(item).or_default().parts.entry((channel, part)).or_default()
    }

    /// What the parts of an item hold.
    fn channel(&self, item: u32) -> Channel {
        let reasons = self.items.get(&item).is_some_and(|item| item.tree["type"] == "reasoning");
        if reasons { Channel::Reasoning } else { Channel::Content }
    }

    pub(in crate::api) fn block_tail(&self, notice: &Notice<'_>, style: BlockStyle) -> Vec<u8> {
        let mut tail = Tail { out: Vec::new(), next: self.next };
        if self.done {
            return tail.out;
        }
        let mut response = self.response.clone().unwrap_or_else(|| {
            let id = self.id.clone().unwrap_or_else(|| response_id(notice.request_id));
            frame_of(&id, self.created, self.model.as_deref().unwrap_or_default())
        });
        if self.response.is_none() {
            tail.emit("response.created", json!({"response": response}));
            tail.emit("response.in_progress", json!({"response": response}));
        }
        let mut output: Vec<Tree> = Vec::new();
        for (&at, item) in &self.items {
            output.push(if item.done { item.tree.clone() } else { item.close(at, &mut tail) });
        }
        let spoken = self.items.values().flat_map(|item| &item.parts);
        let spoken = spoken.filter(|((channel, _), part)| *channel == Channel::Content && !part.text.is_empty());
        if spoken.count() == 0 || style == BlockStyle::Refusal {
            let at = self.items.keys().last().map_or(0, |last| last + 1);
            output.push(say(at, notice, style, &mut tail));
        }
        response["output"] = json!(output);
        end(&mut response, style);
        notice.annotate_into(&mut response);
        tail.emit(&format!("response.{}", status(style)), json!({"response": response}));
        tail.out
    }

    pub(in crate::api) fn error_tail(&self, code: &str, message: &str) -> Vec<u8> {
        let mut tail = Tail { out: Vec::new(), next: self.next };
        // The API's own event is flat; the member `error` makes SDKs raise that would only hand the event on.
        let inner = json!({"message": message, "type": "server_error", "param": null, "code": code});
        tail.emit("error", json!({"code": code, "message": message, "param": null, "error": inner}));
        tail.out
    }
}

impl Item {
    /// Ends an open item with what the client has of it, and gives the item.
    fn close(&self, at: u32, tail: &mut Tail) -> Tree {
        let id = &self.tree["id"];
        let mut item = self.tree.clone();
        let mut content = Vec::new();
        let mut summary = Vec::new();
        for (&(channel, index), part) in &self.parts {
            let (kind, key, text_event, part_event, place) = shape(channel);
            let mut whole = json!({"type": kind, key: part.text});
            if channel == Channel::Content {
                whole["annotations"] = json!([]);
            }
            if !part.told {
                let mut done = json!({"item_id": id, "output_index": at, place: index, key: part.text});
                if channel == Channel::Content {
                    done["logprobs"] = json!([]);
                }
                tail.emit(text_event, done);
            }
            if !part.done {
                tail.emit(part_event, json!({"item_id": id, "output_index": at, place: index, "part": whole}));
            }
            if channel == Channel::Summary { summary.push(whole) } else { content.push((index, whole)) }
        }
        content.sort_by_key(|(index, _)| *index);
        let content: Vec<Tree> = content.into_iter().map(|(_, part)| part).collect();
        if item["type"] == "message" || !content.is_empty() {
            item["content"] = json!(content);
        }
        if item["type"] == "reasoning" {
            item["summary"] = json!(summary);
        }
        item["status"] = json!("incomplete");
        tail.emit("response.output_item.done", json!({"output_index": at, "item": item}));
        item
    }
}

/// How a part is written: its type, the member of its text, the events that end text and part, the member of its index.
fn shape(channel: Channel) -> (&'static str, &'static str, &'static str, &'static str, &'static str) {
    let part = "response.content_part.done";
    match channel {
        Channel::Refusal => ("refusal", "refusal", "response.refusal.done", part, "content_index"),
        Channel::Reasoning => ("reasoning_text", "text", "response.reasoning_text.done", part, "content_index"),
        Channel::Summary => (
            "summary_text",
            "text",
            "response.reasoning_summary_text.done",
            "response.reasoning_summary_part.done",
            "summary_index",
        ),
        _ => ("output_text", "text", "response.output_text.done", part, "content_index"),
    }
}

fn is_part(lane: Lane) -> bool {
    matches!(lane.channel, Channel::Content | Channel::Refusal | Channel::Reasoning | Channel::Summary)
}

/// A message of our own; gives the item.
fn say(at: u32, notice: &Notice<'_>, style: BlockStyle, tail: &mut Tail) -> Tree {
    let id = message_id(notice.request_id);
    let item = refusal_item(&id, notice.message, style);
    let place = json!({"item_id": id, "output_index": at, "content_index": 0});
    let with = |key: &str, value: Tree| {
        let mut event = place.clone();
        event[key] = value;
        event
    };
    let begun = json!({"id": id, "type": "message", "role": "assistant", "status": "in_progress", "content": []});
    tail.emit("response.output_item.added", json!({"output_index": at, "item": begun}));
    tail.emit("response.content_part.added", with("part", json!({"type": "refusal", "refusal": ""})));
    tail.emit("response.refusal.delta", with("delta", json!(notice.message)));
    tail.emit("response.refusal.done", with("refusal", json!(notice.message)));
    tail.emit("response.content_part.done", with("part", item["content"][0].clone()));
    tail.emit("response.output_item.done", json!({"output_index": at, "item": item}));
    item
}

/// Events of our own, numbered on.
struct Tail {
    out: Vec<u8>,
    next: u64,
}

impl Tail {
    fn emit(&mut self, kind: &str, mut event: Tree) {
        event["type"] = json!(kind);
        event["sequence_number"] = json!(self.next);
        self.next += 1;
        frame(Some(kind), &event, &mut self.out);
    }
}
