//! What was counted of roll-outs since the process began, for the status page. Counts of a pair of revisions begin anew
//! when one of them changes.

use std::collections::BTreeMap;

use crate::guard::Armed;
use crate::policy::Placed;

/// Counts by candidate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(BTreeMap<String, Counts>);

/// What was counted of one roll-out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Of the policy that may be replaced, and of the new one.
    revisions: [String; 2],
    /// Requests, and those of them in the share.
    pub(crate) requests: u64,
    pub(crate) in_share: u64,
    /// Second opinions that there was no room or no score for.
    pub(crate) dropped: u64,
    /// By stage, old decision and new decision.
    pub(crate) decisions: BTreeMap<(&'static str, &'static str, &'static str), u64>,
}

impl Counts {
    /// How many second opinions there are, and how many differ from the first.
    pub(crate) fn compared(&self) -> (u64, u64) {
        let differing = self.decisions.iter().filter(|((_, old, new), _)| old != new);
        (self.decisions.values().sum(), differing.map(|(_, count)| count).sum())
    }
}

impl Tally {
    /// What was counted of a candidate.
    pub(crate) fn of(&self, candidate: &str) -> Counts {
        self.0.get(candidate).cloned().unwrap_or_default()
    }

    pub(super) fn entered(&mut self, placed: &Placed<Armed>) {
        let counts = self.counts(placed);
        counts.requests += 1;
        counts.in_share += u64::from(placed.in_share);
    }

    pub(super) fn dropped(&mut self, placed: &Placed<Armed>) {
        self.counts(placed).dropped += 1;
    }

    pub(super) fn compared(&mut self, placed: &Placed<Armed>, decision: (&'static str, &'static str, &'static str)) {
        *self.counts(placed).decisions.entry(decision).or_default() += 1;
    }

    fn counts(&mut self, placed: &Placed<Armed>) -> &mut Counts {
        let candidate = &placed.rollout.candidate.policy;
        let revisions = [&placed.incumbent.policy.revision, &candidate.revision].map(Clone::clone);
        let counts = self.0.entry(candidate.name.clone()).or_default();
        if counts.revisions != revisions {
            *counts = Counts { revisions, ..Counts::default() };
        }
        counts
    }
}
