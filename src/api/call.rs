//! A request: what it asks, every text in it, and the few ways in which it may be changed.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use crate::api::dialect::{Dialect, Limits};
use crate::api::error::ReadError;
use crate::api::ground::Ground;
use crate::api::json::{Edits, Json, Kind, Mode, Value};
use crate::api::segment::Segment;
use crate::api::stored::Stored;
use crate::api::turn::Silenced;
use crate::api::{anthropic, completions, inputs, openai, responses};

/// The role under which a constitution is written into a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InjectRole {
    /// `developer` where the client itself uses that role, else `system`.
    #[default]
    Auto,
    /// `system`
    System,
    /// `developer`, for upstreams that know it; the same as `System` for Anthropic.
    Developer,
}

/// What a request asks for, apart from its texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) model: String,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) choices: u32,
    /// What it names of the provider's store, each with why that cannot be judged.
    pub(crate) stored: Vec<(Stored, ReadError)>,
}

/// A request that was read and understood.
#[derive(Clone, Debug)]
pub struct Call {
    dialect: Dialect,
    doc: Json,
    head: Head,
    segments: Vec<Segment>,
    redactions: BTreeMap<usize, Vec<(Range<usize>, String)>>,
    silenced: Silenced,
    injection: Option<(String, InjectRole)>,
}

impl Call {
    /// Reads a body strictly; what it does not understand it does not pass.
    pub fn read(dialect: Dialect, body: Bytes, limits: &Limits) -> Result<Call, ReadError> {
        let doc = Json::parse(body, Mode::Request, limits)?;
        let (head, segments) = match dialect {
            Dialect::OpenAiChat => openai::read_call(&doc, limits)?,
            Dialect::OpenAiResponses | Dialect::OpenAiTokens => responses::read_call(dialect, &doc, limits)?,
            Dialect::OpenAiCompletions => completions::read_call(&doc, limits)?,
            Dialect::OpenAiEmbeddings | Dialect::OpenAiModerations | Dialect::OpenAiModels => {
                inputs::read_call(dialect, &doc, limits)?
            }
            Dialect::AnthropicMessages | Dialect::AnthropicTokens | Dialect::AnthropicModels => {
                anthropic::read_call(&doc, limits)?
            }
        };
        let silenced = Silenced::default();
        Ok(Call { dialect, doc, head, segments, redactions: BTreeMap::new(), silenced, injection: None })
    }

    /// The dialect that it speaks.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The model it names.
    pub fn model(&self) -> &str {
        &self.head.model
    }

    /// True when the answer is to be streamed.
    pub fn stream(&self) -> bool {
        self.head.stream
    }

    /// True when a stream is to end with its token usage.
    pub fn include_usage(&self) -> bool {
        self.head.include_usage
    }

    /// The names of the tools that it offers; of a tool that the provider runs, its type.
    pub fn tools(&self) -> Vec<String> {
        let root = self.doc.root();
        let listed = ["tools", "functions"].into_iter().filter_map(|key| root.get(key)).flat_map(Value::items);
        let name = |tool: Value<'_>| {
            let named = tool.get("function").and_then(|function| function.get("name"));
            named.or_else(|| tool.get("name")).or_else(|| tool.get("type"))?.as_str().map(std::borrow::Cow::into_owned)
        };
        listed.filter_map(name).collect()
    }

    pub(in crate::api) fn stored(&self) -> &[(Stored, ReadError)] {
        &self.head.stored
    }

    /// How many answers it asks for.
    pub fn choices(&self) -> u32 {
        self.head.choices
    }

    /// Every text in it, in the order of the document; the last one gathers what no other mentions.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The conversation in `OpenAI`'s shape, whatever the dialect: with redactions, without the constitution. For
    /// preference pairs and revision.
    pub fn messages(&self) -> Vec<serde_json::Value> {
        self.ground().messages()
    }

    /// What was asked, with redactions and without the constitution, for whoever may need it later.
    pub fn ground(&self) -> Ground {
        Ground::new(self.dialect, self.redacted())
    }

    /// The person behind the request, as the client names them: `user` or `safety_identifier`, `metadata.user_id`.
    pub fn user(&self) -> Option<String> {
        let root = self.doc.root();
        let named = ["safety_identifier", "user"].into_iter().find_map(|key| member(root, key));
        let named = named.or_else(|| member(member(root, "metadata")?, "user_id"));
        named.and_then(Value::as_str).filter(|user| !user.is_empty()).map(std::borrow::Cow::into_owned)
    }

    /// The texts of a request for moderation, one a result.
    pub fn inputs(&self) -> Vec<String> {
        inputs::inputs(self.doc.root())
    }

    /// Puts a constitution before everything the client sends; the client's own system text stays. An empty one changes
    /// nothing, and a second one takes the place of the first.
    pub fn inject(&mut self, constitution: &str, role: InjectRole) {
        self.injection = (!constitution.is_empty()).then(|| (constitution.to_owned(), role));
    }

    /// Replaces byte ranges of one segment's text. Ranges always refer to the text as it was read.
    pub fn redact(&mut self, segment: usize, spans: &[(Range<usize>, &str)]) {
        let kept = self.redactions.entry(segment).or_default();
        kept.extend(spans.iter().map(|(span, with)| (span.clone(), (*with).to_owned())));
    }

    /// Takes segments of earlier turns (those before the newest message of the user) out: a notice stands in for each,
    /// or, with `leave_out`, its whole message goes where roles then still take turns. Calls of tools and their results
    /// keep their frame. Gives back the segments that cannot be taken out so.
    pub fn take_out(&mut self, segments: &[usize], notice: &str, leave_out: bool) -> Vec<usize> {
        self.silenced.take(&self.doc, &self.segments, segments, (notice, leave_out))
    }

    /// The body to send upstream; the very same bytes when nothing was changed.
    pub fn into_body(self) -> Bytes {
        self.body()
    }

    /// As [`Call::into_body`], for a call that is still to be judged.
    pub(crate) fn body(&self) -> Bytes {
        let mut edits = self.redaction_edits();
        if let Some((constitution, role)) = &self.injection {
            match self.dialect {
                Dialect::OpenAiChat => openai::inject(&self.doc, constitution, *role, &mut edits),
                Dialect::OpenAiResponses | Dialect::OpenAiTokens => {
                    responses::inject(&self.doc, constitution, &mut edits);
                }
                Dialect::OpenAiCompletions => completions::inject(&self.doc, constitution, &mut edits),
                Dialect::AnthropicMessages | Dialect::AnthropicTokens => {
                    anthropic::inject(&self.doc, constitution, &mut edits);
                }
                // No model reads these as instructions.
                _ => {}
            }
        }
        self.doc.apply(&edits)
    }

    /// The document that was read.
    pub(super) fn document(&self) -> &Json {
        &self.doc
    }

    fn redacted(&self) -> Bytes {
        self.doc.apply(&self.redaction_edits())
    }

    fn redaction_edits(&self) -> Edits {
        let mut edits = Edits::default();
        for (&at, spans) in &self.redactions {
            let spans: Vec<(Range<usize>, &str)> =
                spans.iter().map(|(span, with)| (span.clone(), with.as_str())).collect();
            if let Some(segment) = self.segments.get(at) {
                segment.redact(&self.doc, &spans, &mut edits);
            }
        }
        self.silenced.edits(&self.doc, &self.segments, &mut edits);
        edits
    }
}

// What the dialects' readers share: checks that name the place.

/// The member `key` of `object`, unless it is absent or null.
pub(crate) fn member<'a>(object: Value<'a>, key: &str) -> Option<Value<'a>> {
    object.get(key).filter(|value| !value.is_null())
}

/// A string member that must be there and not be empty.
pub(crate) fn required_string(object: Value<'_>, key: &str) -> Result<String, ReadError> {
    let value = object.get(key).ok_or_else(|| ReadError::missing(key, object))?;
    match value.as_str() {
        Some(text) if !text.is_empty() => Ok(text.into_owned()),
        Some(_) => Err(ReadError::wrong_value(key, value, "a non-empty string")),
        None => Err(ReadError::wrong_type(key, value, "a string")),
    }
}

/// The member `model`, unless the path names it.
pub(crate) fn model(root: Value<'_>, limits: &Limits) -> Result<String, ReadError> {
    limits.deployment.clone().map_or_else(|| required_string(root, "model"), Ok)
}

/// The most answers that one request may ask for (the API's own limit).
const MAX_CHOICES: u64 = 128;

/// The member `n`; 1 where it is absent or null.
pub(crate) fn choices(root: Value<'_>) -> Result<u32, ReadError> {
    let Some(n) = member(root, "n") else { return Ok(1) };
    n.as_u64()
        .filter(|n| (1..=MAX_CHOICES).contains(n))
        .and_then(|n| u32::try_from(n).ok())
        .ok_or_else(|| ReadError::wrong_type("n", n, "an integer from 1 to 128"))
}

/// `stream_options.include_usage`
pub(crate) fn include_usage(root: Value<'_>) -> Result<bool, ReadError> {
    match member(root, "stream_options") {
        None => Ok(false),
        Some(options) if options.is_object() => optional_bool(options, "include_usage", "stream_options.include_usage"),
        Some(options) => Err(ReadError::wrong_type("stream_options", options, "an object")),
    }
}

/// A member that is a string or an array of strings, each with its place. Token ids are text that nobody here can read.
pub(crate) fn texts_only<'a>(root: Value<'a>, key: &str) -> Result<Vec<(Value<'a>, String)>, ReadError> {
    let value = root.get(key).ok_or_else(|| ReadError::missing(key, root))?;
    if value.as_str().is_some() {
        return Ok(vec![(value, key.to_owned())]);
    }
    if !value.is_array() {
        return Err(ReadError::wrong_type(key, value, "a string or an array of strings"));
    }
    let items = required_items(root, key)?.items().enumerate().map(|(at, item)| {
        let place = format!("{key}[{at}]");
        match item.kind() {
            Kind::String => Ok((item, place)),
            Kind::Number | Kind::Array => Err(ReadError::tokens(place, item)),
            _ => Err(ReadError::wrong_type(place, item, "a string")),
        }
    });
    items.collect()
}

/// A boolean member; false where it is absent or null.
pub(crate) fn optional_bool(object: Value<'_>, key: &str, place: &str) -> Result<bool, ReadError> {
    member(object, key)
        .map_or(Ok(false), |value| value.as_bool().ok_or_else(|| ReadError::wrong_type(place, value, "true or false")))
}

/// An array member with at least one item.
pub(crate) fn required_items<'a>(object: Value<'a>, key: &str) -> Result<Value<'a>, ReadError> {
    let value = object.get(key).ok_or_else(|| ReadError::missing(key, object))?;
    if !value.is_array() {
        return Err(ReadError::wrong_type(key, value, "an array"));
    }
    if value.items().next().is_none() {
        return Err(ReadError::wrong_value(key, value, "an array with at least one item"));
    }
    Ok(value)
}

/// An array member's items as objects, each with its place; nothing where it is absent or null.
pub(crate) fn objects<'a>(object: Value<'a>, key: &str, place: &str) -> Result<Vec<(Value<'a>, String)>, ReadError> {
    let Some(value) = member(object, key) else { return Ok(Vec::new()) };
    if !value.is_array() {
        return Err(ReadError::wrong_type(place, value, "an array"));
    }
    let items = value.items().enumerate().map(|(at, item)| {
        let place = format!("{place}[{at}]");
        if item.is_object() { Ok((item, place)) } else { Err(ReadError::wrong_type(place, item, "an object")) }
    });
    items.collect()
}

/// Checks a member that may be absent or null, and else must be a string.
pub(crate) fn optional_string<'a>(object: Value<'a>, key: &str, place: &str) -> Result<Option<Value<'a>>, ReadError> {
    match member(object, key) {
        Some(value) if value.as_str().is_none() => {
            Err(ReadError::wrong_type(format!("{place}.{key}"), value, "a string"))
        }
        other => Ok(other),
    }
}
