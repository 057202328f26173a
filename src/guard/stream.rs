//! A streamed answer: events wait in line until the text in them has a verdict.
//!
//! Events leave in the order in which they came, whole, and unchanged unless a rule redacts. Each lane (a choice's
//! text, its reasoning, one tool call) has a [`Window`] of its own. An event may leave when every lane that it
//! brought text to has released that text, and all events before it have left. A tool call is judged when it is
//! complete, so that no client acts on half of one.
//!
//! Where the policy revises streams, a rule that wants a revision stops the release; the rest of the answer is gathered,
//! and a judged revision is spliced in from the first event on that the client lacks. It is a replacement like a
//! redaction, so that the stream keeps the upstream's own frame, ids, ends and usage.

mod joined;
mod lane;
mod splice;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Instant;

use bytes::Bytes;

use super::judge::{self, Failure, Finding, Guards, Stage, Subject};
use super::normalise::characters_only;
use super::occasion::Occasion;
use super::pattern::Settled;
use super::whole::Cleared;
use crate::api::{Channel, Close, Dialect, Event, Lane, Origin, Transcript, Usage};
use crate::policy::{Action, OnStream};
use lane::{Fate, LaneState, origin};
pub use splice::{Objection, Unspliceable};
use splice::{content, on_stream};

/// Bytes of one stream that may wait for a verdict. A tool call or an unbroken run of text beyond it ends the stream.
const MAX_HELD: usize = 1024 * 1024;
/// The same where the whole answer is held, to be revised.
const MAX_HELD_WHOLE: usize = 16 * 1024 * 1024;

/// What a stream came to so far.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Going on.
    Open,
    /// A rule wants the answer revised: nothing is released until [`StreamGuard::splice`].
    Revising,
    /// A rule ended it; nothing that is still held will be released.
    Blocked(Finding),
}

/// How the upstream has ended its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastWord {
    Unsaid,
    Done,
    /// With an error of its own.
    Failed,
}

/// The guard of one stream.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about one stream")]
pub struct StreamGuard {
    guards: Guards,
    occasion: Occasion,
    lanes: BTreeMap<Lane, LaneState>,
    queue: VecDeque<Held>,
    transcript: Transcript,
    findings: Vec<Finding>,
    state: State,
    held_bytes: usize,
    dialect: Dialect,
    usage: Option<Usage>,
    /// Choices that have had text, or an end.
    choices: BTreeSet<u32>,
    finished: BTreeSet<u32>,
    last_word: LastWord,
    /// What a revision does to this stream.
    on_stream: OnStream,
    /// Nothing is released until [`StreamGuard::let_go`].
    waits: bool,
    /// The answers that are to be revised; of several choices perhaps several.
    objections: BTreeMap<Lane, Finding>,
    /// Choices that ended at the token limit.
    truncated: BTreeSet<u32>,
    /// Whole answers are kept, for revision or for a row.
    remembers: bool,
    ended: bool,
    failed_open: bool,
    teller: Option<Teller>,
    /// What classifiers see before each window: the end of what the user said last, where the policy wants that.
    prompt: String,
}

#[derive(Debug)]
struct Held {
    event: Event,
    /// Where each delta of the event stands in its lane.
    spans: Vec<Range<usize>>,
    came: Instant,
}

/// Makes the `guardrail` member of a choice's end, as JSON: of a finding, and whether its rule replaces text. None where
/// nothing is to be told.
struct Teller(Box<Tell>);

type Tell = dyn Fn(&Finding, bool) -> Option<Vec<u8>> + Send + Sync;

impl std::fmt::Debug for Teller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Teller")
    }
}

/// Changes to an event's deltas, and JSON for its `guardrail` member.
type Edited = (Vec<(usize, String)>, Option<Vec<u8>>);

impl StreamGuard {
    /// A guard for one answer.
    pub fn new(guards: Guards, occasion: Occasion, dialect: Dialect, transcript: Transcript) -> Self {
        let (on_stream, waits) =
            (on_stream(occasion.view(), dialect), occasion.view().policy.revise.criticises_all(dialect));
        Self {
            guards,
            occasion,
            lanes: BTreeMap::new(),
            queue: VecDeque::new(),
            transcript,
            findings: Vec::new(),
            state: State::Open,
            held_bytes: 0,
            dialect,
            usage: None,
            choices: BTreeSet::new(),
            finished: BTreeSet::new(),
            last_word: LastWord::Unsaid,
            on_stream,
            waits,
            objections: BTreeMap::new(),
            truncated: BTreeSet::new(),
            remembers: on_stream != OnStream::Block,
            ended: false,
            failed_open: false,
            teller: None,
            prompt: String::new(),
        }
    }

    /// Says what is to be seen before each window: the end of what the user said last.
    #[must_use]
    pub fn answering(self, prompt: String) -> Self {
        Self { prompt, ..self }
    }

    /// Has the end of each choice tell what was done to it, where something was.
    pub fn tell(&mut self, tell: impl Fn(&Finding, bool) -> Option<Vec<u8>> + Send + Sync + 'static) {
        self.teller = Some(Teller(Box::new(tell)));
    }

    /// Whether nothing is released before the whole answer has come.
    pub fn holds(&self) -> bool {
        self.on_stream == OnStream::Hold
    }

    /// Whether nothing is released although everything is judged: the policy has every answer criticised.
    pub fn waits(&self) -> bool {
        self.waits
    }

    /// What was judged may go.
    pub fn let_go(&mut self) {
        self.waits = false;
    }

    /// Keeps whole answers although nothing is revised: a blocked one may become a row.
    pub fn remember(&mut self) {
        self.remembers = true;
    }

    /// Takes the next event of the upstream's stream.
    pub fn push(&mut self, event: Event, now: Instant) -> Result<(), Failure> {
        self.note(&event);
        let mut spans = Vec::with_capacity(event.deltas.len());
        for delta in &event.deltas {
            let whole = self.on_stream == OnStream::Hold;
            let repeats = self.dialect == Dialect::OpenAiResponses;
            let fresh = || LaneState::new(delta.lane, &self.occasion, whole, repeats);
            let lane = self.lanes.entry(delta.lane).or_insert_with(fresh);
            spans.push(if delta.copy { lane.copy(&delta.text, now) } else { lane.push(&delta.text, now) });
            if self.remembers && delta.lane.channel == Channel::Content && !delta.copy {
                lane.said.push_str(&delta.text);
            }
        }
        for (key, lane) in &mut self.lanes {
            lane.closed |= event.closes.iter().any(|close| match close {
                Close::All => true,
                Close::Choice(choice) => *choice == key.choice,
                Close::Item(item) => *item == key.item,
                Close::Lane(lane) => lane == key,
            });
        }
        self.queue.push_back(Held { event, spans, came: now });
        let whole = self.on_stream == OnStream::Hold || self.state == State::Revising;
        if self.held_bytes > if whole { MAX_HELD_WHOLE } else { MAX_HELD } {
            return Err(Failure { rule: "stream".to_owned(), reason: "held_too_much", passing: false });
        }
        Ok(())
    }

    /// What an event says of the stream as a whole.
    fn note(&mut self, event: &Event) {
        self.transcript.seen(event);
        self.held_bytes += event.raw.len();
        self.usage = event.usage.or(self.usage);
        if event.error {
            self.last_word = LastWord::Failed;
        } else if event.terminal && self.last_word == LastWord::Unsaid {
            self.last_word = LastWord::Done;
        }
        let text = event.deltas.iter().filter(|delta| delta.lane.channel != Channel::Other);
        self.choices.extend(text.map(|delta| delta.lane.choice));
        self.finished.extend(event.finish.iter().map(|finish| finish.choice));
        let cut = event.finish.iter().filter(|finish| finish.is_cut());
        self.truncated.extend(cut.map(|finish| finish.choice));
    }

    /// Whether the upstream has said that the answer is whole. Some providers leave out `[DONE]`.
    pub fn complete(&self) -> bool {
        let all_finished = !self.finished.is_empty() && self.choices.is_subset(&self.finished);
        let chunked = matches!(self.dialect, Dialect::OpenAiChat | Dialect::OpenAiCompletions);
        self.last_word != LastWord::Unsaid || (chunked && all_finished)
    }

    /// Whether the upstream has reported an error of its own in the stream.
    pub fn failed_upstream(&self) -> bool {
        self.last_word == LastWord::Failed
    }

    /// What the upstream says the answer cost so far.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// The stream's wire format.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The upstream has ended: no lane gets more text.
    pub fn end(&mut self) {
        self.ended = true;
        for lane in self.lanes.values_mut() {
            lane.closed = true;
        }
    }

    /// When held text will have waited long enough, if any is held.
    pub fn deadline(&self) -> Option<Instant> {
        let hold = self.occasion.view().policy.stream.hold;
        self.lanes
            .values()
            .filter(|lane| !lane.whole && lane.fate != Fate::Condemned)
            .filter_map(|lane| lane.since.map(|since| since + hold))
            .min()
    }

    /// Judges what is due, and gives back what may go to the client now.
    pub async fn settle(&mut self, now: Instant) -> Result<Vec<Cleared<Bytes>>, Failure> {
        let due: Vec<Lane> = self.lanes.iter().filter(|(_, lane)| lane.due(now)).map(|(key, _)| *key).collect();
        for key in due {
            self.judge(key).await?;
            if matches!(self.state, State::Blocked(_)) {
                break;
            }
        }
        // What earlier verdicts freed may go even when a later lane was blocked.
        Ok(self.drain())
    }

    /// What the stream came to so far.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What the client has seen, for ending the stream in its own dialect.
    pub fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    /// Bytes of events that wait.
    pub fn held(&self) -> usize {
        self.held_bytes
    }

    /// Counts the rules' decisions; called once, when the stream is over.
    pub fn finish(self) -> Vec<Finding> {
        self.guards.count(&self.occasion, Stage::Output, &self.findings);
        self.findings
    }

    async fn judge(&mut self, key: Lane) -> Result<(), Failure> {
        let over = self.over_the_seam(key).await?;
        let Some(lane) = self.lanes.get_mut(&key) else { return Ok(()) };
        let origin = origin(key.channel);
        if !self.occasion.any_applies(Stage::Output, origin) && self.guards.witness.is_none() {
            lane.release(usize::MAX, false);
            return Ok(());
        }
        let text = lane.window.text();
        let from = lane.window.fresh().start;
        let length = lane.window.end();
        let safe = if lane.closed { text.len() } else { safe(&self.occasion, (origin, length), text, from) };
        let (fresh, since) = (from..safe, Instant::now());
        let (stage, place, choice) = (Stage::Output, judge::STREAM, key.choice);
        let before = if origin == Origin::Output { self.prompt.as_str() } else { "" };
        let subject = Subject { stage, origin, before, text, fresh, joints: None, place, choice, length, since };
        let mut judgement = self.guards.judge(&self.occasion, &subject).await?;
        judgement.findings.extend(over.findings);
        judgement.redactions.splice(..0, over.redactions);
        self.failed_open |= judgement.failed_open;
        let calm = !judgement.near && judgement.findings.is_empty();
        for finding in judgement.findings {
            match judge::enforced(&self.occasion.view().policy, &finding) {
                _ if matches!(self.state, State::Blocked(_)) => {}
                // Only the answer itself can be rewritten. A tool call is an act, and thinking is signed.
                Some(Action::Revise) if self.on_stream != OnStream::Block && key.channel == Channel::Content => {
                    self.state = State::Revising;
                    lane.fate = Fate::Condemned;
                    self.objections.entry(key).or_insert_with(|| finding.clone());
                }
                Some(Action::Block | Action::Revise) => self.state = State::Blocked(finding.clone()),
                _ => {}
            }
            self.findings.push(finding);
        }
        // A signed thinking block goes whole or not at all, and part of it may have gone already.
        let signed = self.dialect == Dialect::AnthropicMessages && key.channel == Channel::Reasoning;
        if signed && !judgement.redactions.is_empty() && !matches!(self.state, State::Blocked(_)) {
            self.state = self.findings.last().cloned().map_or(State::Open, State::Blocked);
        }
        if !matches!(self.state, State::Blocked(_)) && lane.fate != Fate::Condemned {
            let json = matches!(key.channel, Channel::ToolArgs(_));
            for (range, text) in judgement.redactions {
                let range = if json { over_escape(lane.window.text(), range) } else { range };
                lane.redactions.push((lane.window.position(range.start)..lane.window.position(range.end), text));
            }
            lane.release(safe, calm);
        }
        Ok(())
    }

    /// Events at the head of the line whose text has been released.
    fn drain(&mut self) -> Vec<Cleared<Bytes>> {
        let mut out = Vec::new();
        if self.waits || self.state == State::Revising || (self.on_stream == OnStream::Hold && !self.ended) {
            return out;
        }
        while let Some(held) = self.queue.front() {
            if !self.may_leave(held) {
                break;
            }
            let Some(held) = self.queue.pop_front() else { break };
            self.held_bytes -= held.event.raw.len();
            self.guards.metrics().stream_held(self.dialect.route(), held.came.elapsed());
            let bytes = if let Some((changes, note)) = self.edited(&held) {
                self.transcript.release(&held.event, &changes, note.as_deref())
            } else {
                // The client misses nothing but text that a revision has replaced.
                self.transcript.leave_out(&held.event);
                Bytes::new()
            };
            if !bytes.is_empty() {
                out.push(Cleared::new(bytes));
            }
            for (delta, span) in held.event.deltas.iter().zip(&held.spans) {
                if let Some(lane) = self.lanes.get_mut(&delta.lane) {
                    lane.sent = lane.sent.max(span.end);
                }
            }
        }
        out
    }

    fn may_leave(&self, held: &Held) -> bool {
        held.event.deltas.iter().zip(&held.spans).all(|(delta, span)| {
            span.is_empty() || self.lanes.get(&delta.lane).is_some_and(|lane| lane.window.released() >= span.end)
        })
    }

    /// What the rules replace in an event (the deltas, by index, and their new text), and what is told of it; none where
    /// a revision has left nothing of the event.
    fn edited(&self, held: &Held) -> Option<Edited> {
        let mut changed = Vec::new();
        for (index, (delta, span)) in held.event.deltas.iter().zip(&held.spans).enumerate() {
            let Some(lane) = self.lanes.get(&delta.lane) else { continue };
            let Some(text) = replaced(&delta.text, span, &lane.redactions) else { continue };
            if matches!(lane.fate, Fate::Spliced(_)) && text.is_empty() && held.event.is_text_only() {
                return None;
            }
            changed.push((index, text));
        }
        let note = held.event.finish.iter().find_map(|finish| self.told_of(finish.choice));
        let revised = self.lanes.get(&content(0)).is_some_and(|lane| matches!(lane.fate, Fate::Spliced(_)));
        if revised && held.event.is_citation() {
            return None;
        }
        Some((changed, note))
    }

    /// What the end of a choice tells of its revision, or else of what the rules found in it.
    fn told_of(&self, choice: u32) -> Option<Vec<u8>> {
        let revised =
            self.lanes.iter().filter(|(key, _)| key.choice == choice).find_map(|(_, lane)| match &lane.fate {
                Fate::Spliced(told) => Some(told.clone()),
                _ => None,
            });
        revised.unwrap_or_else(|| {
            let policy = &self.occasion.view().policy;
            let redacts = |finding: &&Finding| judge::enforced(policy, finding) == Some(Action::Redact);
            let found = || self.findings.iter().filter(|finding| finding.choice == choice);
            let Teller(tell) = self.teller.as_ref()?;
            let redacted = found().find(redacts);
            tell(redacted.or_else(|| found().next())?, redacted.is_some())
        })
    }
}

/// A delta's text after the lane's replacements, if any of them touches it. A replacement that spans several deltas
/// stands in the first of them.
fn replaced(text: &str, span: &Range<usize>, redactions: &[(Range<usize>, String)]) -> Option<String> {
    let touching = redactions.iter().filter(|(range, _)| range.start < span.end && range.end > span.start);
    let mut out = String::new();
    let mut kept = 0;
    let mut touched = false;
    for (range, replacement) in touching {
        touched = true;
        let from = range.start.saturating_sub(span.start);
        out.push_str(text.get(kept..from).unwrap_or_default());
        if range.start >= span.start {
            out.push_str(replacement);
        }
        kept = (range.end - span.start).min(text.len());
    }
    out.push_str(text.get(kept..).unwrap_or_default());
    touched.then_some(out)
}

/// How much of a text no recogniser can still turn into a match. What one is sure of is not cut by another's doubt.
///
/// The text is also read with its characters normalised (full width, hidden characters, compatibility forms), as that
/// changes nothing before the last character, however the text goes on. Other tricks need more of a text to be seen
/// through: patterns find them in what is at hand, and nothing is held back for them.
fn safe(occasion: &Occasion, (origin, length): (Origin, usize), text: &str, from: usize) -> usize {
    let patterns = || occasion.patterns(Stage::Output, origin, length);
    let mut settled: Vec<Settled<'_>> = patterns().map(|(_, _, set)| set.settle(text, from)).collect();
    if !settled.is_empty()
        && let Some(normalised) = characters_only(text)
    {
        for (_, _, set) in patterns() {
            let mut found = set.settle(normalised.text(), normalised.position(from));
            if found.safe == normalised.text().len() {
                found.safe = text.len();
            } else {
                found.safe = normalised.source(found.safe..found.safe + 1).start;
            }
            for found in &mut found.matches {
                found.range = normalised.source(found.range.clone());
            }
            settled.push(found);
        }
    }
    let mut safe = settled.iter().map(|settled| settled.safe).min().unwrap_or(text.len());
    let matches = || settled.iter().flat_map(|settled| &settled.matches);
    while let Some(cut) = matches().find(|found| found.range.start < safe && safe < found.range.end) {
        safe = cut.range.start;
    }
    safe
}

/// In JSON text a match may begin with the letter of an escape such as `\n`; the whole escape goes then.
fn over_escape(text: &str, range: Range<usize>) -> Range<usize> {
    let backslashes = text.as_bytes()[..range.start].iter().rev().take_while(|byte| **byte == b'\\').count();
    range.start - backslashes % 2..range.end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replacement_over_several_deltas_stands_in_the_first() {
        let redactions = vec![(2..7, "[X]".to_owned()), (8..9, "[Y]".to_owned())];
        assert_eq!(replaced("abcd", &(0..4), &redactions).as_deref(), Some("ab[X]"));
        assert_eq!(replaced("ef", &(4..6), &redactions).as_deref(), Some(""));
        assert_eq!(replaced("ghij", &(6..10), &redactions).as_deref(), Some("h[Y]j"));
        assert_eq!(replaced("k", &(10..11), &redactions), None);
    }

    #[test]
    fn a_replacement_in_json_text_never_halves_an_escape() {
        let text = r#"{"to":"a\nb@example.com","x":"c\\d@example.com"}"#;
        let at = |what: &str| text.find(what).unwrap();
        assert_eq!(over_escape(text, at("nb@")..at("nb@") + 14).start, at("nb@") - 1);
        assert_eq!(over_escape(text, at("d@")..at("d@") + 13).start, at("d@"));
    }
}
