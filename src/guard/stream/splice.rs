//! Revision of a streamed answer: what is to be revised, and the revision's way into the stream.

use std::collections::BTreeSet;

use super::{Fate, LaneState, State, StreamGuard, replaced};
use crate::api::{Channel, Dialect, Lane, Reply};
use crate::guard::armed::View;
use crate::guard::judge::Finding;
use crate::guard::whole::Cleared;
use crate::policy::{Action, Mode, OnStream, Rule};

/// An answer that a rule wants revised.
#[derive(Clone, Debug)]
pub struct Objection {
    /// The rule and what it found.
    pub finding: Finding,
    /// The answer so far: what the client has of it, and the rest as it came.
    pub original: String,
    /// What the client has of it.
    pub shown: String,
    /// The upstream cut it off at the token limit.
    pub truncated: bool,
    /// Whether a revision could be put in its place.
    pub spliceable: bool,
}

/// A revision that cannot take an answer's place in the stream: it contradicts what was shown, or the rest of the answer
/// lies in several blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the revision cannot be spliced into the stream")]
pub struct Unspliceable;

impl StreamGuard {
    /// The answers that are to be revised.
    pub fn objections(&self) -> Vec<Objection> {
        let objections = self.objections.iter().filter_map(|(key, finding)| {
            let (shown, original) = self.lanes.get(key)?.told();
            let truncated = self.truncated.contains(&key.choice);
            let spliceable = self.lies_in_one_block(*key);
            Some(Objection { finding: finding.clone(), original, shown, truncated, spliceable })
        });
        objections.collect()
    }

    /// What a choice's answer came to so far, where it was remembered.
    pub fn said(&self, choice: u32) -> Option<String> {
        let lanes = self.lanes.iter().filter(|(key, _)| key.choice == choice && key.channel == Channel::Content);
        let said: String = lanes.map(|(_, lane)| lane.told().1).collect();
        Some(said).filter(|said| !said.trim().is_empty())
    }

    /// What each choice's answer came to, where it was remembered.
    pub fn answers(&self) -> Vec<(u32, String)> {
        let lanes = self.lanes.keys().filter(|lane| lane.channel == Channel::Content);
        let choices: BTreeSet<u32> = lanes.map(|lane| lane.choice).collect();
        choices.into_iter().filter_map(|choice| Some((choice, self.said(choice)?))).collect()
    }

    /// The answers in which no revision stands yet.
    pub fn unrevised(&self) -> Vec<(u32, String)> {
        let revised = |lane: &LaneState| matches!(lane.fate, Fate::Spliced(_));
        let spliced = |choice: u32| self.lanes.iter().any(|(key, lane)| key.choice == choice && revised(lane));
        self.answers().into_iter().filter(|(choice, _)| !spliced(*choice)).collect()
    }

    /// Whether a choice was cut off at the token limit.
    pub fn is_truncated(&self, choice: u32) -> bool {
        self.truncated.contains(&choice)
    }

    /// Whether a choice calls tools.
    pub fn has_tool_calls(&self, choice: u32) -> bool {
        self.lanes.keys().any(|lane| lane.choice == choice && matches!(lane.channel, Channel::ToolArgs(_)))
    }

    /// Whether a guard could not judge, and its rule let text pass.
    pub fn failed_open(&self) -> bool {
        self.failed_open
    }

    /// Puts a judged revision, the first choice of `revised`, in place of what the client lacks of a choice's answer.
    /// `note` is JSON for the event with which the choice ends. The last answer revised, [`StreamGuard::settle`] goes on.
    pub fn splice(&mut self, choice: u32, revised: Cleared<Reply>, note: Option<Vec<u8>>) -> Result<(), Unspliceable> {
        let answer = revised.into_inner().edited_answer(0).ok_or(Unspliceable)?;
        let answers = |key: &&Lane| key.choice == choice && key.channel == Channel::Content;
        let objected = self.objections.keys().find(|key| key.choice == choice);
        let key = *objected.or_else(|| self.lanes.keys().find(answers)).ok_or(Unspliceable)?;
        let one_block = self.lies_in_one_block(key);
        let lane = self.lanes.get_mut(&key).filter(|lane| lane.sent < lane.window.end()).ok_or(Unspliceable)?;
        let rest = answer.strip_prefix(&lane.told().0).filter(|_| one_block).ok_or(Unspliceable)?.to_owned();
        lane.redactions.retain(|(range, _)| range.start < lane.sent);
        lane.redactions.push((lane.sent..lane.window.end(), rest));
        lane.release(usize::MAX, false);
        lane.closed = true;
        lane.fate = Fate::Spliced(note);
        self.objections.remove(&key);
        if self.objections.is_empty() && self.state == State::Revising {
            self.state = State::Open;
        }
        Ok(())
    }

    /// Whether the text that the client lacks stands in one block: of several, all but the first would be left empty,
    /// which no client may send back.
    fn lies_in_one_block(&self, key: Lane) -> bool {
        let answers = |other: &&Lane| other.choice == key.choice && other.channel == Channel::Content;
        if self.lanes.keys().filter(answers).any(|other| *other != key) {
            return false;
        }
        let waiting = self.queue.iter().filter(|held| held.event.deltas.iter().any(|delta| delta.lane == key));
        let blocks: BTreeSet<u64> = waiting.map(|held| held.event.block()).collect();
        blocks.len() <= 1
    }
}

impl LaneState {
    /// What the client has of the text, as it was sent, and all of the text: that, and the rest as it came.
    fn told(&self) -> (String, String) {
        let said = self.repeated.as_ref().unwrap_or(&self.said);
        let (sent, rest) = said.split_at_checked(self.sent).unwrap_or((said, ""));
        let shown = replaced(sent, &(0..self.sent), &self.redactions).unwrap_or_else(|| sent.to_owned());
        let over =
            self.redactions.iter().filter(|(range, _)| range.start < self.sent).map(|(range, _)| range.end).max();
        let gone = over.unwrap_or_default().saturating_sub(self.sent);
        let whole = [&shown, rest.get(gone..).unwrap_or_default()].concat();
        (shown, whole)
    }
}

/// The lane of a choice's answer.
pub(super) fn content(choice: u32) -> Lane {
    Lane::of(choice, Channel::Content)
}

/// What a revision does to a stream: what the policy says, where a rule revises answers.
pub(super) fn on_stream(view: &View, dialect: Dialect) -> OnStream {
    let revises = |rule: &Rule| rule.action == Action::Revise && rule.mode == Mode::Enforce;
    if view.policy.revise.criticises_all(dialect) {
        return OnStream::Hold;
    }
    if dialect.is_answered() && view.policy.rules.iter().any(revises) {
        view.policy.revise.on_stream
    } else {
        OnStream::Block
    }
}
