//! A lane that begins where another one has ended: the parts of an answer that streams in several.

use std::ops::Range;
use std::time::Instant;

use super::{StreamGuard, judge, origin};
use crate::api::{Channel, Lane};
use crate::guard::judge::{Failure, Finding, Stage};
use crate::guard::seam::{REACH, Seam, Whose};

/// What was found at a seam, and what it replaces in the lane that begins there.
#[derive(Debug, Default)]
pub(super) struct Over {
    pub(super) findings: Vec<Finding>,
    pub(super) redactions: Vec<(Range<usize>, String)>,
}

impl StreamGuard {
    /// What the rules say of a lane's beginning behind the end of the one before it. What that one showed has been read;
    /// only the lane's own part of a match can be replaced.
    pub(super) async fn over_the_seam(&self, key: Lane) -> Result<Over, Failure> {
        let mut over = Over::default();
        let speaks = matches!(key.channel, Channel::Content | Channel::Refusal | Channel::Reasoning | Channel::Summary);
        let Some(lane) = self.lanes.get(&key).filter(|_| speaks) else { return Ok(over) };
        let same = |other: &Lane| other.choice == key.choice && other.channel == key.channel;
        let before = self.lanes.range(..key).rev().find(|(other, _)| same(other));
        let seen = lane.window.fresh().start;
        let Some((_, before)) = before.filter(|_| lane.window.position(0) == 0 && seen < REACH) else {
            return Ok(over);
        };
        let whose =
            Whose { origin: origin(key.channel), place: judge::STREAM, choice: key.choice, length: lane.window.end() };
        for seam in Seam::between(before.window.text(), lane.window.text()) {
            let judgement = self.guards.seam(&self.occasion, Stage::Output, (&seam, &whose), Instant::now()).await?;
            over.findings.extend(judgement.findings);
            let own = judgement.redactions.into_iter().filter(|_| seen == 0);
            over.redactions.extend(own.map(|(range, with)| (0..range.end - seam.earlier, with)));
        }
        over.redactions.truncate(1);
        Ok(over)
    }
}
