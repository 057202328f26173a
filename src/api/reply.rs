//! A whole answer: every text in it, and the ways in which guards and revision change it.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use crate::api::dialect::{Dialect, Limits};
use crate::api::echo::Echo;
use crate::api::error::ReadError;
use crate::api::json::{Edits, Json, Mode, NodeId, Value};
use crate::api::notice::{BlockStyle, Notice, Usage};
use crate::api::render::to_bytes;
use crate::api::segment::{Gather, Segment, texts};
use crate::api::vocabulary;
use crate::api::{anthropic, completions, inputs, openai, responses};

/// What an answer says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Imprint {
    pub(crate) model: String,
    pub(crate) usage: Option<Usage>,
}

/// An answer that was not streamed.
#[derive(Clone, Debug)]
pub struct Reply {
    dialect: Dialect,
    doc: Json,
    imprint: Imprint,
    segments: Vec<Segment>,
    redactions: BTreeMap<usize, Vec<(Range<usize>, String)>>,
    edits: Edits,
    annotation: Option<Bytes>,
    /// What it may repeat of its request.
    echo: Echo,
    /// A body that takes the place of the whole answer.
    fresh: Option<serde_json::Value>,
}

impl Reply {
    /// Reads a successful answer. What is not of the dialect's shape is an error.
    pub fn read(dialect: Dialect, body: Bytes, limits: &Limits) -> Result<Reply, ReadError> {
        if dialect == Dialect::OpenAiEmbeddings {
            let doc = Json::parse(body, Mode::Response, &inputs::many_numbers(limits))?;
            let segments = inputs::read_vectors(&doc);
            return Ok(Reply::new(dialect, doc, Imprint::default(), segments));
        }
        let doc = Json::parse(body, Mode::Response, limits)?;
        let (imprint, segments) = match dialect {
            Dialect::OpenAiChat => openai::read_reply(&doc, limits)?,
            Dialect::OpenAiResponses => responses::read_reply(&doc, limits)?,
            Dialect::OpenAiCompletions => completions::read_reply(&doc)?,
            Dialect::AnthropicMessages => anthropic::read_reply(&doc, limits)?,
            _ => return Ok(Reply::listed(dialect, doc)),
        };
        Ok(Reply { echo: limits.echo.clone(), ..Reply::new(dialect, doc, imprint, segments) })
    }

    /// Reads any JSON, such as an error body, as text of no known place.
    pub fn read_any(dialect: Dialect, body: Bytes, limits: &Limits) -> Result<Reply, ReadError> {
        let doc = Json::parse(body, Mode::Response, limits)?;
        let segments = Gather::new(&doc).finish(Segment::WHOLE);
        Ok(Reply::new(dialect, doc, Imprint::default(), segments))
    }

    /// An answer that no model wrote: names of models and numbers, beside whatever else there is.
    fn listed(dialect: Dialect, doc: Json) -> Reply {
        let mut gather = Gather::new(&doc);
        for node in doc.root().tree().filter(|node| node.is_object()) {
            for key in ["id", "owned_by", "created_at", "first_id", "last_id"] {
                node.all(key).for_each(|value| gather.identifier(Some(value)));
            }
        }
        let segments = gather.finish(Segment::WHOLE);
        Reply::new(dialect, doc, Imprint::default(), segments)
    }

    fn new(dialect: Dialect, doc: Json, imprint: Imprint, segments: Vec<Segment>) -> Reply {
        let (redactions, edits) = (BTreeMap::new(), Edits::default());
        Reply {
            dialect,
            doc,
            imprint,
            segments,
            redactions,
            edits,
            annotation: None,
            fresh: None,
            echo: Echo::default(),
        }
    }

    /// Every text in it. `choice` says which answer a text belongs to, or [`Segment::WHOLE`].
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The model that answered, as it says; empty when it does not.
    pub fn model(&self) -> &str {
        &self.imprint.model
    }

    /// The tokens that the upstream counted.
    pub fn usage(&self) -> Option<Usage> {
        self.imprint.usage
    }

    /// The assistant's text in one choice, as it was read.
    pub fn answer(&self, choice: u32) -> Option<String> {
        match self.dialect {
            Dialect::OpenAiChat => openai::answer(self.doc.root(), choice),
            Dialect::OpenAiResponses => responses::answer(self.doc.root(), choice),
            Dialect::OpenAiCompletions => completions::answer(self.doc.root(), choice),
            Dialect::AnthropicMessages => anthropic::answer(self.doc.root(), choice),
            _ => None,
        }
    }

    /// A whole answer that is this text and nothing else, to be judged as one.
    pub fn of_text(text: &str) -> Result<Reply, ReadError> {
        let message = serde_json::json!({"role": "assistant", "content": text});
        let body = serde_json::json!({"choices": [{"index": 0, "message": message}]});
        Reply::read(Dialect::OpenAiChat, to_bytes(&body), &Limits::default())
    }

    /// The assistant's text in one choice as it will be sent, with what was replaced in it.
    pub fn edited_answer(&self, choice: u32) -> Option<String> {
        let sent = Reply::read(self.dialect, self.clone().into_body(), &self.limits()).ok()?;
        sent.answer(choice)
    }

    /// True when the upstream cut a choice off at the token limit.
    pub fn is_truncated(&self, choice: u32) -> bool {
        let root = self.doc.root();
        let details = root.get("incomplete_details").and_then(|details| details.get("reason"));
        let reason = match root.get("stop_reason").or(details) {
            Some(reason) => Some(reason),
            None => root
                .all("choices")
                .flat_map(Value::items)
                .enumerate()
                .find(|(at, item)| item.get("index").and_then(Value::as_u64).unwrap_or(*at as u64) == u64::from(choice))
                .and_then(|(_, item)| item.get("finish_reason")),
        };
        reason.and_then(Value::as_str).is_some_and(|reason| is_cut(&reason))
    }

    /// True when a choice calls tools.
    pub fn has_tool_calls(&self, choice: u32) -> bool {
        match self.dialect {
            Dialect::OpenAiChat => openai::has_tool_calls(self.doc.root(), choice),
            Dialect::OpenAiResponses => responses::has_tool_calls(self.doc.root(), choice),
            Dialect::AnthropicMessages => anthropic::has_tool_calls(self.doc.root(), choice),
            _ => false,
        }
    }

    /// The calls of tools in one choice as they will be sent, in `OpenAI`'s shape. Nothing where one has no place in it, as
    /// those that the provider answers by itself.
    pub fn tool_calls(&self, choice: u32) -> Option<Vec<serde_json::Value>> {
        if !self.has_tool_calls(choice) {
            return Some(Vec::new());
        }
        let body = serde_json::from_slice(&self.clone().into_body()).ok()?;
        match self.dialect {
            Dialect::OpenAiChat => openai::tool_calls(&body, choice),
            Dialect::OpenAiResponses => responses::tool_calls(&body),
            Dialect::AnthropicMessages => anthropic::tool_calls(&body),
            _ => None,
        }
    }

    /// Replaces byte ranges of one segment's text. Copies of that text (log probabilities, citations) go; a signed
    /// thinking block goes as a whole.
    pub fn redact(&mut self, segment: usize, spans: &[(Range<usize>, &str)]) {
        let kept = self.redactions.entry(segment).or_default();
        kept.extend(spans.iter().map(|(span, with)| (span.clone(), (*with).to_owned())));
    }

    /// Puts another answer in place of a choice's text and its reasoning; tool calls stay.
    pub fn replace_answer(&mut self, choice: u32, text: &str) {
        match self.dialect {
            Dialect::OpenAiChat => openai::replace_answer(self.doc.root(), choice, text, &mut self.edits),
            Dialect::OpenAiResponses => responses::replace_answer(self.doc.root(), choice, text, &mut self.edits),
            Dialect::OpenAiCompletions => completions::replace_answer(self.doc.root(), choice, text, &mut self.edits),
            Dialect::AnthropicMessages => anthropic::replace_answer(self.doc.root(), choice, text, &mut self.edits),
            _ => {}
        }
    }

    /// The reply with another answer in one choice, read anew, so that every text of it can be judged again.
    pub fn with_answer(&self, choice: u32, text: &str) -> Option<Reply> {
        let mut copy = self.clone();
        // What we say of it is no text of the answer's.
        let annotation = copy.annotation.take();
        copy.replace_answer(choice, text);
        let read = Reply::read(self.dialect, copy.into_body(), &self.limits()).ok()?;
        Some(Reply { annotation, ..read })
    }

    /// How it was read, as far as it matters when it is read again.
    fn limits(&self) -> Limits {
        Limits { echo: self.echo.clone(), ..Limits::default() }
    }

    /// Ends choices as blocked, with nothing of what they said. With [`Segment::WHOLE`] among them, or when no choice is
    /// left, nothing else of the upstream's body remains either.
    pub fn block(&mut self, choices: &[u32], notice: &Notice<'_>, style: BlockStyle) {
        let fresh = match self.dialect {
            Dialect::OpenAiChat => openai::block(self.doc.root(), choices, notice, style, &mut self.edits),
            Dialect::OpenAiCompletions => completions::block(self.doc.root(), choices, notice, style, &mut self.edits),
            Dialect::OpenAiResponses => Some(responses::block(self.doc.root(), notice, style)),
            Dialect::AnthropicMessages => Some(anthropic::block(self.doc.root(), notice, style)),
            // There is no shape for it: nothing remains.
            _ => Some(serde_json::json!({})),
        };
        self.fresh = fresh.or(self.fresh.take());
    }

    /// Adds the `guardrail` member, in place of one that the upstream may have sent.
    pub fn annotate(&mut self, notice: &Notice<'_>) {
        self.annotation = Some(to_bytes(&notice.annotation()));
    }

    /// The body to send down; the very same bytes when nothing was changed.
    pub fn into_body(mut self) -> Bytes {
        if let Some(mut fresh) = self.fresh {
            if let Some(annotation) = self.annotation {
                fresh["guardrail"] = serde_json::from_slice(&annotation).unwrap_or_default();
            }
            return to_bytes(&fresh);
        }
        self.redact_into_edits();
        if let Some(annotation) = self.annotation.filter(|_| self.doc.root().is_object()) {
            self.edits.remove_members(self.doc.root(), |key| key == "guardrail");
            self.edits.append_member(self.doc.root(), "guardrail", &annotation);
        }
        self.doc.apply(&self.edits)
    }

    fn redact_into_edits(&mut self) {
        let mut touched: Vec<Touched> = Vec::new();
        for (&at, spans) in &self.redactions {
            let Some(segment) = self.segments.get(at) else { continue };
            let spans: Vec<(Range<usize>, &str)> =
                spans.iter().map(|(span, with)| (span.clone(), with.as_str())).collect();
            segment.redact(&self.doc, &spans, &mut self.edits);
            touched.extend(segment.touched(&spans).into_iter().map(|node| Touched { choice: segment.choice, node }));
        }
        if !touched.is_empty() {
            match self.dialect {
                Dialect::OpenAiChat => openai::tidy(&self.doc, &touched, &mut self.edits),
                Dialect::OpenAiResponses => responses::tidy(&self.doc, &touched, &mut self.edits),
                Dialect::OpenAiCompletions => completions::tidy(&self.doc, &touched, &mut self.edits),
                Dialect::AnthropicMessages => anthropic::tidy(&self.doc, &touched, &mut self.edits),
                _ => {}
            }
        }
    }
}

/// Whether a `finish_reason` or `stop_reason` says that the answer was cut off at the token limit.
pub(crate) fn is_cut(reason: &str) -> bool {
    matches!(reason, "length" | "max_tokens" | "max_output_tokens" | "model_context_window_exceeded")
}

/// A leaf that a redaction changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Touched {
    pub(crate) choice: u32,
    pub(crate) node: NodeId,
}

/// The string member `key`, if it has the form of an identifier: what may be told on without having been judged.
pub(crate) fn identifier(object: Value<'_>, key: &str) -> Option<String> {
    let text = object.get(key)?.as_str()?;
    (!text.is_empty() && vocabulary::is_identifier(&text)).then(|| text.into_owned())
}

/// The `usage` of an answer, if it is counts only: one with a text in it was not judged to be harmless.
pub(crate) fn counts(root: Value<'_>) -> Option<serde_json::Value> {
    let usage = root.get("usage").filter(|usage| usage.is_object() && texts(*usage, |_| false).next().is_none())?;
    serde_json::from_slice(usage.raw()).ok()
}
