//! One event of an upstream's stream: the text it brings, by lane, and how to change that text and nothing else.

use bytes::Bytes;

use crate::api::dialect::{Dialect, Family, Limits};
use crate::api::error::ReadError;
use crate::api::json::{Edits, Json, Mode, NodeId, Value};
use crate::api::notice::Usage;
use crate::api::reply::is_cut;
use crate::api::segment::texts;
use crate::api::sse::Frame;
use crate::api::vocabulary;
use crate::api::{anthropic, completions, openai, responses};

/// What kind of text a delta adds to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// The answer.
    Content,
    /// `OpenAI`'s `refusal`.
    Refusal,
    /// The model's thinking.
    Reasoning,
    /// A summary of the model's thinking.
    Summary,
    /// Name and arguments of one tool call, by its index.
    ToolArgs(u32),
    /// Any other text; each delta stands for itself.
    Other,
}

/// Deltas of one lane, put together, are one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// Which of several answers; 0 for text that belongs to none.
    pub choice: u32,
    /// Which output item of a `response`; 0 in other dialects.
    pub item: u32,
    /// Which part of that item; 0 in other dialects.
    pub part: u32,
    /// What kind of text.
    pub channel: Channel,
}

impl Lane {
    /// A lane of an answer that is not made of items.
    pub fn of(choice: u32, channel: Channel) -> Lane {
        Lane { choice, item: 0, part: 0, channel }
    }
}

/// A piece of text that an event brings.
#[derive(Clone, Debug)]
pub struct Delta {
    /// What it adds to.
    pub lane: Lane,
    /// The text, unescaped. On a tool-call lane it is a fragment of JSON text.
    pub text: String,
    /// True where the dialect repeats here what the lane has had already: the text so far, its beginning or its end.
    pub copy: bool,
    /// The string it came from; none for text beside the data (comments, ids).
    node: Option<NodeId>,
}

/// After this event nothing more comes on some lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Every lane of one choice that is open now.
    Choice(u32),
    /// Every lane of one output item.
    Item(u32),
    /// One lane.
    Lane(Lane),
    /// Every lane.
    All,
}

/// A choice has come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finish {
    /// Which of several answers.
    pub choice: u32,
    /// The upstream's `finish_reason` or `stop_reason`.
    pub reason: String,
}

impl Finish {
    /// Whether the upstream cut the answer off at the token limit.
    pub fn is_cut(&self) -> bool {
        is_cut(&self.reason)
    }
}

/// One event, understood.
#[derive(Clone, Debug)]
pub struct Event {
    /// The frame's bytes as they came.
    pub raw: Bytes,
    /// Every text in it, in the order of the document; first what the dialect knows, then everything else.
    pub deltas: Vec<Delta>,
    /// What it closes, after its deltas.
    pub closes: Vec<Close>,
    /// Choices that end with it.
    pub finish: Vec<Finish>,
    /// The upstream's count so far.
    pub usage: Option<Usage>,
    /// True for the last event of a stream: `[DONE]`, `message_stop`, an error.
    pub terminal: bool,
    /// True for an error that the upstream reports in its stream.
    pub error: bool,
    dialect: Dialect,
    frame: Frame,
    doc: Option<Json>,
}

impl Event {
    /// Reads one frame. Whatever text it carries becomes a delta; a frame that cannot be read is an error.
    pub fn read(dialect: Dialect, frame: Frame, limits: &Limits) -> Result<Event, ReadError> {
        let mut event = Event {
            raw: frame.raw.clone(),
            deltas: Vec::new(),
            closes: Vec::new(),
            finish: Vec::new(),
            usage: None,
            terminal: false,
            error: false,
            dialect,
            frame,
            doc: None,
        };
        event.beside();
        let data = match event.frame.data.clone() {
            Some(data) if !data.trim_ascii().is_empty() => data,
            _ => return Ok(event),
        };
        if dialect.family() == Family::OpenAi && data.trim_ascii() == b"[DONE]" {
            // A stream of the Responses API has said before this whether it is whole.
            event.terminal = dialect != Dialect::OpenAiResponses;
            event.closes.push(Close::All);
            return Ok(event);
        }
        let doc = Json::parse(data, Mode::Response, limits)?;
        let mut sift = Sift { taken: vec![false; doc.len()], deltas: std::mem::take(&mut event.deltas) };
        let name = event.frame.event.clone();
        match dialect {
            Dialect::OpenAiChat => openai::read_event(doc.root(), &mut sift, &mut event, limits)?,
            Dialect::OpenAiCompletions => completions::read_event(doc.root(), &mut sift, &mut event),
            Dialect::OpenAiResponses => {
                responses::read_event(doc.root(), name.as_deref(), &mut sift, &mut event, limits)?;
            }
            Dialect::AnthropicMessages => {
                anthropic::read_event(doc.root(), name.as_deref(), &mut sift, &mut event, limits)?;
            }
            // Nothing of these is streamed; whatever comes is text.
            _ => {}
        }
        sift.tree(Lane::of(0, Channel::Other), doc.root());
        event.deltas = sift.deltas;
        event.doc = Some(doc);
        Ok(event)
    }

    /// The frame with other text in some deltas: (index in [`Event::deltas`], the new text). Everything else keeps its
    /// bytes, but for what would give the old text away: log probabilities go, annotations of that text, padding.
    pub fn rewrite(&self, changes: &[(usize, String)]) -> Bytes {
        self.rewrite_as(changes, None, None)
    }

    /// The same; `note` is JSON for a `guardrail` member, of the whole response where the event carries one.
    pub fn rewrite_with(&self, changes: &[(usize, String)], note: Option<&[u8]>) -> Bytes {
        self.rewrite_as(changes, note, None)
    }

    /// The same, with another `sequence_number`.
    pub(crate) fn rewrite_as(&self, changes: &[(usize, String)], note: Option<&[u8]>, sequence: Option<u64>) -> Bytes {
        if changes.is_empty() && sequence.is_none() && note.is_none() {
            return self.raw.clone();
        }
        let beside = changes.iter().any(|(at, _)| self.deltas.get(*at).is_some_and(|delta| delta.node.is_none()));
        let Some(doc) = &self.doc else { return self.framed(&self.frame.data.clone().unwrap_or_default()) };
        let mut edits = self.edits(doc, changes);
        if let Some((number, sequence)) = doc.root().get("sequence_number").zip(sequence) {
            edits.replace(number.span(), sequence.to_string());
        }
        let noted =
            if self.dialect == Dialect::OpenAiResponses { doc.root().get("response") } else { Some(doc.root()) };
        if let Some((noted, note)) = noted.filter(|noted| noted.is_object()).zip(note) {
            edits.append_member(noted, "guardrail", note);
        }
        let data = doc.apply(&edits);
        match &self.frame.data_span {
            Some(span) if !beside => Bytes::from([&self.raw[..span.start], &data, &self.raw[span.end..]].concat()),
            _ => self.framed(&data),
        }
    }

    /// The block of the answer that the event belongs to, in dialects whose answers have several; 0 in others.
    pub fn block(&self) -> u64 {
        self.root().and_then(|root| root.get("index")).and_then(Value::as_u64).unwrap_or_default()
    }

    /// True when a client that never sees the event misses nothing but its text.
    pub fn is_text_only(&self) -> bool {
        let bare = self.finish.is_empty() && self.closes.is_empty() && self.usage.is_none() && !self.terminal;
        let shape = |root: Value<'_>| {
            let kind = root.get("type").and_then(Value::as_str);
            match self.dialect {
                Dialect::AnthropicMessages => return kind.as_deref() == Some("content_block_delta"),
                Dialect::OpenAiResponses => return kind.as_deref() == Some("response.output_text.delta"),
                _ => {}
            }
            let mut deltas = root.all("choices").flat_map(Value::items).flat_map(|choice| choice.all("delta"));
            deltas.all(|delta| delta.get("role").is_none())
        };
        bare && self.deltas.len() == 1 && self.root().is_some_and(shape)
    }

    /// True for a reference to a source that belongs to text before it.
    pub fn is_citation(&self) -> bool {
        let delta = self.root().and_then(|root| root.get("delta"));
        delta.and_then(|delta| delta.get("type")).and_then(Value::as_str).as_deref() == Some("citations_delta")
    }

    /// The document as the client gets it, as a tree.
    pub(crate) fn tree_as(&self, changes: &[(usize, String)]) -> Option<serde_json::Value> {
        let doc = self.doc.as_ref()?;
        serde_json::from_slice(&doc.apply(&self.edits(doc, changes))).ok()
    }

    fn edits(&self, doc: &Json, changes: &[(usize, String)]) -> Edits {
        let mut edits = Edits::default();
        let mut nodes = Vec::new();
        for (at, text) in changes {
            if let Some(node) = self.deltas.get(*at).and_then(|delta| delta.node) {
                edits.replace_text(doc.value(node), text);
                nodes.push(node);
            }
        }
        if !nodes.is_empty() {
            match self.dialect {
                Dialect::OpenAiChat => openai::forget_copies(doc.root(), &mut edits),
                Dialect::OpenAiCompletions => completions::forget_copies(doc.root(), &mut edits),
                Dialect::OpenAiResponses => responses::forget_copies(doc.root(), &nodes, &mut edits),
                _ => {}
            }
        }
        edits
    }

    /// The JSON document, where the frame carries one.
    pub(crate) fn root(&self) -> Option<Value<'_>> {
        self.doc.as_ref().map(Json::root)
    }

    /// Text that stands beside the data: clients can read comments and ids too.
    fn beside(&mut self) {
        let parts = [self.frame.event.as_deref().unwrap_or_default(), &self.frame.side];
        let unknown = parts.into_iter().filter(|part| !part.is_empty() && !vocabulary::is_word(part));
        let text = unknown.collect::<Vec<_>>().join("\n");
        if !text.is_empty() {
            self.deltas.push(Delta { lane: Lane::of(0, Channel::Other), text, copy: false, node: None });
        }
    }

    /// `data` in a frame of its own, without anything beside it.
    fn framed(&self, data: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(data.len() + 64);
        if let Some(name) = self.frame.event.as_deref().filter(|name| vocabulary::is_word(name)) {
            out.extend_from_slice(format!("event: {name}\n").as_bytes());
        }
        if self.frame.data.is_none() {
            out.extend_from_slice(b":\n");
        } else {
            for line in data.split(|&byte| byte == b'\n') {
                out.extend_from_slice(b"data: ");
                out.extend_from_slice(line);
                out.push(b'\n');
            }
        }
        out.push(b'\n');
        Bytes::from(out)
    }
}

impl Delta {
    /// The delta of one string; none for an empty one.
    fn of(lane: Lane, value: Value<'_>) -> Option<Delta> {
        let text = value.as_str().filter(|text| !text.is_empty())?;
        Some(Delta { lane, text: text.into_owned(), copy: false, node: Some(value.id()) })
    }
}

/// Sorts the strings of one event into deltas, and knows which have been taken.
pub(crate) struct Sift {
    taken: Vec<bool>,
    deltas: Vec<Delta>,
}

impl Sift {
    /// Takes every string in `value`, keys too, but for the words of the protocol.
    pub(crate) fn tree(&mut self, lane: Lane, value: Value<'_>) {
        let Sift { taken, deltas } = self;
        for text in texts(value, |node| std::mem::replace(&mut taken[node.index()], true)) {
            deltas.extend(Delta::of(lane, text));
        }
    }

    /// Takes a string that repeats what the lane has had.
    pub(crate) fn copy(&mut self, lane: Lane, value: Value<'_>) {
        let from = self.deltas.len();
        self.tree(lane, value);
        self.deltas[from..].iter_mut().for_each(|delta| delta.copy = true);
    }

    /// Marks a string that nobody need judge; the caller gives the reason.
    pub(crate) fn inert(&mut self, value: Value<'_>) {
        self.taken[value.index()] = true;
    }

    /// Marks a string as inert if it has the form of an identifier.
    pub(crate) fn identifier(&mut self, value: Option<Value<'_>>) {
        if let Some(value) = value.filter(|value| value.as_str().is_some_and(|text| vocabulary::is_identifier(&text))) {
            self.inert(value);
        }
    }

    /// Marks a string as inert if it can be ciphertext or a signature.
    pub(crate) fn opaque(&mut self, value: Option<Value<'_>>) {
        if let Some(value) = value.filter(|value| value.as_str().is_some_and(|text| vocabulary::is_opaque(&text))) {
            self.inert(value);
        }
    }
}
