//! Prompts that go up while they are judged.
//!
//! A policy may let an upstream call start before the prompt's verdict, so that the answer's way and the verdict's
//! overlap. Nothing comes down before the verdict, and a block ends the call. What a call has done upstream by then
//! cannot be undone, so that only calls that do nothing but answer are raced, and only where no guard would edit them.

use bytes::Bytes;

use super::judge::{Failure, Guards, Stage};
use super::occasion::Occasion;
use super::whole::Verdict;
use crate::api::Call;
use crate::policy::{Action, InputMode, Mode, ReplayedBlock};

/// How a call may go up.
#[derive(Debug)]
pub enum Admission {
    /// After its verdict.
    Gate(Call),
    /// Beside it.
    Race(Raced),
}

/// A call that the policy lets go up before its verdict. Only this room can make one.
#[derive(Debug)]
pub struct Raced {
    call: Call,
}

impl Raced {
    /// What was asked.
    pub fn call(&self) -> &Call {
        &self.call
    }

    /// The body to send upstream now.
    pub fn body(&self) -> Bytes {
        self.call.body()
    }
}

impl Guards {
    /// Whether a call may be raced under this policy.
    pub fn admit(&self, occasion: &Occasion, call: Call) -> Admission {
        let races = races(occasion) && call.only_answers() && !self.may_take_out(occasion, &call);
        if races { Admission::Race(Raced { call }) } else { Admission::Gate(call) }
    }

    /// Judges a call that is already under way. It passes as it went, or not at all.
    pub async fn input_raced(&self, occasion: &Occasion, raced: Raced) -> Result<Verdict<Call>, Failure> {
        let judgements = self.all(occasion, Stage::Input, raced.call.segments()).await?.judgements;
        Ok(self.verdict(occasion, Stage::Input, raced.call, (judgements, &[])))
    }

    /// Whether something in the call was blocked before, so that it would be taken out.
    fn may_take_out(&self, occasion: &Occasion, call: &Call) -> bool {
        let segments = call.segments();
        let blocked = |at: usize, text: &str| self.was_blocked(occasion, segments[at].origin, text);
        occasion.view().policy.respond.on_replayed_block != ReplayedBlock::Refuse
            && ((0..segments.len()).any(|at| blocked(at, &segments[at].text))
                || self.seams(occasion, segments).seams.iter().any(|seam| blocked(seam.segment, &seam.text)))
    }
}

/// Whether a policy lets calls be raced at all: it says so, and no rule of its replaces parts of prompts.
fn races(occasion: &Occasion) -> bool {
    let policy = &occasion.view().policy;
    let edits = policy
        .rules
        .iter()
        .any(|rule| rule.action == Action::Redact && rule.mode == Mode::Enforce && rule.stages.input);
    policy.input == InputMode::Race && !edits && occasion.looks(Stage::Input)
}
