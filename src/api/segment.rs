//! Text to be judged, and the way back from a place in it to the bytes it came from.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use crate::api::dialect::{Limits, Origin};
use crate::api::error::ReadError;
use crate::api::json::{Edits, Json, Kind, Mode, NodeId, Offsets, Value, escape_into, quoted, widen_over_escapes};
use crate::api::stored::Stored;
use crate::api::vocabulary;

/// One text with one origin, made of one or more string leaves that are joined by LF.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Who is behind the text.
    pub origin: Origin,
    /// The text, unescaped.
    pub text: String,
    /// Where it stands, such as `messages[3].content`; for people, never with anybody's text in it.
    pub place: String,
    /// Which of several answers it belongs to; [`Segment::WHOLE`] for what belongs to none. 0 in requests.
    pub choice: u32,
    pieces: Vec<Piece>,
}

impl Segment {
    /// The `choice` of text that stands outside of all choices of an answer.
    pub const WHOLE: u32 = u32::MAX;

    /// Its leaves, in the order of the text.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = NodeId> {
        self.pieces.iter().map(|piece| piece.node)
    }

    /// What its author wrote in one piece each, in order: its string values, and those of a string that holds JSON. Names
    /// of members are left out, so that what is divided among arguments stands side by side.
    pub fn strands(&self) -> Vec<Strand<'_>> {
        let mut strands = Vec::with_capacity(self.pieces.len());
        for piece in self.pieces.iter().filter(|piece| !piece.key) {
            let (at, text) = (piece.text.start, &self.text[piece.text.clone()]);
            let parse = || Json::parse(Bytes::copy_from_slice(text.as_bytes()), Mode::Response, &Limits::default());
            match piece.nested.then(parse) {
                Some(Ok(inner)) => {
                    strands.extend(inner.root().tree().filter(|node| node.kind() == Kind::String).map(|node| {
                        let escaped = node.span().start + 1..node.span().end - 1;
                        let said = node.as_str().unwrap_or_default().into_owned();
                        Strand { at: at + escaped.start, escaped: Some(&text[escaped]), text: Cow::Owned(said) }
                    }));
                }
                _ => strands.push(Strand { at, escaped: None, text: Cow::Borrowed(text) }),
            }
        }
        strands.retain(|strand| !strand.text.trim().is_empty());
        strands
    }

    /// The leaves that any of `spans` touches.
    pub(crate) fn touched(&self, spans: &[(Range<usize>, &str)]) -> Vec<NodeId> {
        let spans = self.settled(spans);
        let touched = self.pieces.iter().filter(|piece| !piece.touching(&spans).is_empty());
        touched.map(|piece| piece.node).collect()
    }

    /// Writes into `edits` what replaces each span of the text, by the bytes of the leaves. Spans that overlap become one
    /// with the replacement of the first; a span over several leaves puts its replacement into the first of them.
    pub(crate) fn redact(&self, doc: &Json, spans: &[(Range<usize>, &str)], edits: &mut Edits) {
        let spans = self.settled(spans);
        let mut behind = 0;
        for piece in &self.pieces {
            piece.redact(doc.value(piece.node), behind, piece.touching(&spans), edits);
            behind = piece.text.end;
        }
    }

    /// Sorted, non-empty, on character boundaries, over whole escapes of nested JSON, and not overlapping.
    fn settled<'s>(&self, spans: &[(Range<usize>, &'s str)]) -> Vec<(Range<usize>, &'s str)> {
        let spans = spans.iter().map(|(span, with)| (self.on_boundaries(span), *with));
        let mut spans = merged(spans.filter(|(span, _)| !span.is_empty()).collect());
        for piece in self.pieces.iter().filter(|piece| piece.nested) {
            let offset = piece.text.start;
            let (from, to) = piece.bounds(&spans);
            let inner = spans[from..to]
                .iter()
                .map(|(span, _)| span.start.max(piece.text.start) - offset..span.end.min(piece.text.end) - offset);
            let mut inner: Vec<Range<usize>> = inner.collect();
            widen_over_escapes(&self.text[piece.text.clone()], &mut inner);
            for ((span, _), wide) in spans[from..to].iter_mut().zip(inner) {
                span.start = span.start.min(wide.start + offset);
                span.end = span.end.max(wide.end + offset);
            }
            spans = merged(spans);
        }
        spans
    }

    fn on_boundaries(&self, span: &Range<usize>) -> Range<usize> {
        let mut start = span.start.min(self.text.len());
        let mut end = span.end.min(self.text.len());
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        while !self.text.is_char_boundary(end) {
            end += 1;
        }
        start..end
    }
}

/// What was written in one piece within a segment.
#[derive(Clone, Debug)]
pub struct Strand<'a> {
    /// The text, unescaped.
    pub text: Cow<'a, str>,
    /// Where it lies in the segment's text.
    at: usize,
    /// As it lies there, where that differs.
    escaped: Option<&'a str>,
}

impl Strand<'_> {
    /// Where a piece of [`Strand::text`] lies in the segment's text.
    pub fn source(&self, range: &Range<usize>) -> Range<usize> {
        let Some(escaped) = self.escaped else { return self.at + range.start..self.at + range.end };
        let mut offsets = Offsets::new(escaped);
        let start = offsets.raw_at(range.start);
        self.at + start..self.at + offsets.raw_at(range.end)
    }
}

/// One leaf of a segment.
#[derive(Clone, Debug)]
struct Piece {
    node: NodeId,
    /// Where its text lies in the segment's.
    text: Range<usize>,
    /// The text is itself JSON, so that what is put into it needs one more escaping.
    nested: bool,
    /// It is the name of a member.
    key: bool,
}

impl Piece {
    /// The spans that touch it, of spans that are sorted and do not overlap.
    fn touching<'t, 's>(&self, spans: &'t [(Range<usize>, &'s str)]) -> &'t [(Range<usize>, &'s str)] {
        let (from, to) = self.bounds(spans);
        &spans[from..to]
    }

    fn bounds(&self, spans: &[(Range<usize>, &str)]) -> (usize, usize) {
        let from = spans.partition_point(|(span, _)| span.end <= self.text.start);
        (from, spans.partition_point(|(span, _)| span.start < self.text.end).max(from))
    }

    /// Splices each span's replacement into the escaped bytes of `leaf`, and leaves the bytes around as they are. A span
    /// that began before `behind`, the end of the leaf before, has its replacement there already.
    fn redact(&self, leaf: Value<'_>, behind: usize, spans: &[(Range<usize>, &str)], edits: &mut Edits) {
        let inner_start = leaf.span().start + 1;
        let mut offsets = Offsets::new(leaf.inner().unwrap_or_default());
        for (span, with) in spans {
            let begins_here = span.start >= behind;
            let start = span.start.max(self.text.start) - self.text.start;
            let end = span.end.min(self.text.end) - self.text.start;
            let range = inner_start + offsets.raw_at(start)..inner_start + offsets.raw_at(end);
            let mut bytes = Vec::new();
            if begins_here && self.nested {
                let once = quoted(with);
                escape_into(&String::from_utf8_lossy(&once[1..once.len() - 1]), &mut bytes);
            } else if begins_here {
                escape_into(with, &mut bytes);
            }
            edits.replace(range, bytes);
        }
    }
}

/// Spans that overlap become one, with the replacement of the first.
fn merged(mut spans: Vec<(Range<usize>, &str)>) -> Vec<(Range<usize>, &str)> {
    spans.sort_by_key(|(span, _)| (span.start, std::cmp::Reverse(span.end)));
    spans.dedup_by(|(next, _), (last, _)| {
        let overlap = next.start < last.end;
        if overlap {
            last.end = last.end.max(next.end);
        }
        overlap
    });
    spans
}

/// Every string in `value` that may be somebody's text: keys and values, but for the words of the protocol and for what
/// `skip` says, which is asked about each string once.
pub(crate) fn texts<'a>(value: Value<'a>, mut skip: impl FnMut(Value<'a>) -> bool) -> impl Iterator<Item = Value<'a>> {
    let mut key: Option<Value<'a>> = None;
    value.tree().filter(move |&node| match node.kind() {
        Kind::Key => {
            key = Some(node);
            !skip(node) && !node.as_str().is_some_and(|key| vocabulary::is_word(&key))
        }
        Kind::String => {
            let key = key.take();
            !skip(node) && !key.is_some_and(|key| vocabulary::is_enumerated(key, node))
        }
        _ => {
            key = None;
            false
        }
    })
}

/// Gathers the string leaves of one document into segments, and knows which have been taken, so that what no one
/// mentions can be gathered at the end.
pub(crate) struct Gather<'a> {
    doc: &'a Json,
    taken: Vec<bool>,
    segments: Vec<Segment>,
    stored: Vec<(Stored, ReadError)>,
}

/// A segment in the making.
pub(crate) struct Draft {
    segment: Segment,
}

impl<'a> Gather<'a> {
    pub(crate) fn new(doc: &'a Json) -> Self {
        Gather { doc, taken: vec![false; doc.len()], segments: Vec::new(), stored: Vec::new() }
    }

    pub(crate) fn draft(origin: Origin, place: impl Into<String>, choice: u32) -> Draft {
        let segment = Segment { origin, text: String::new(), place: place.into(), choice, pieces: Vec::new() };
        Draft { segment }
    }

    /// Adds one string to a draft; nothing for any other kind, or for a string that was taken before.
    pub(crate) fn leaf(&mut self, draft: &mut Draft, value: Value<'_>) {
        self.add(draft, value, false);
    }

    /// Adds a string that holds JSON.
    pub(crate) fn nested(&mut self, draft: &mut Draft, value: Value<'_>) {
        self.add(draft, value, true);
    }

    /// Adds every string in `value`, keys too, but for the words of the protocol.
    pub(crate) fn tree(&mut self, draft: &mut Draft, value: Value<'_>) {
        let taken = &mut self.taken;
        for text in texts(value, |node| std::mem::replace(&mut taken[node.index()], true)) {
            draft.push(text, false);
        }
    }

    /// Marks a string that nobody need judge; the caller gives the reason.
    pub(crate) fn inert(&mut self, value: Value<'_>) {
        self.taken[value.index()] = true;
    }

    /// Marks a string as inert if it has the form of an identifier; prose in such a place is judged with the rest.
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

    /// Notes a reference to text that never passed here.
    pub(crate) fn stored(&mut self, what: Stored, error: ReadError) {
        self.stored.push((what, error));
    }

    /// The references so far. An error where they are not for somebody else to allow.
    pub(crate) fn take_stored(&mut self, deferred: bool) -> Result<Vec<(Stored, ReadError)>, ReadError> {
        match self.stored.first() {
            Some((_, error)) if !deferred => Err(error.clone()),
            _ => Ok(std::mem::take(&mut self.stored)),
        }
    }

    /// Closes a draft; one without text leaves nothing.
    pub(crate) fn close(&mut self, draft: Draft) {
        if !draft.segment.text.is_empty() {
            self.segments.push(draft.segment);
        }
    }

    /// Gathers what is left within `value` into one segment.
    pub(crate) fn rest(&mut self, value: Value<'_>, place: impl Into<String>, choice: u32) {
        let mut draft = Self::draft(Origin::Other, place, choice);
        self.tree(&mut draft, value);
        self.close(draft);
    }

    /// The segments, with one more for every string that is left.
    pub(crate) fn finish(mut self, choice: u32) -> Vec<Segment> {
        self.rest(self.doc.root(), "", choice);
        self.segments
    }

    fn add(&mut self, draft: &mut Draft, value: Value<'_>, nested: bool) {
        if !std::mem::replace(&mut self.taken[value.index()], true) {
            draft.push(value, nested);
        }
    }
}

impl Draft {
    fn push(&mut self, value: Value<'_>, nested: bool) {
        let Some(text) = value.as_str().filter(|text| !text.is_empty()) else { return };
        let segment = &mut self.segment;
        if !segment.text.is_empty() {
            segment.text.push('\n');
        }
        let start = segment.text.len();
        segment.text.push_str(&text);
        let key = value.kind() == Kind::Key;
        segment.pieces.push(Piece { node: value.id(), text: start..segment.text.len(), nested, key });
    }
}
