//! Whole texts: a request's segments, and an answer that arrived in one piece.

use std::time::Instant;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::armed::View;
use super::judge::{self, ABREAST, Failure, Finding, Guards, Judgement, Stage, Subject};
use super::occasion::Occasion;
use crate::api::{Call, Reply, Segment};
use crate::policy::{Action, ReplayedBlock};

/// What stands in for an earlier turn that was blocked. The model reads it, and so may a person.
const NOTICE: &str = "[This message was removed by the content policy.]";

/// Something that was judged and may travel on. Only this room can make one.
#[derive(Debug)]
pub struct Cleared<T>(T);

impl<T> Cleared<T> {
    pub(super) fn new(cleared: T) -> Self {
        Self(cleared)
    }

    /// The judged thing, for whoever sends it.
    pub fn into_inner(self) -> T {
        self.0
    }
}

/// What the rules made of something whole.
#[derive(Debug)]
pub struct Verdict<T> {
    /// Where it goes from here.
    pub outcome: Outcome<T>,
    /// Every rule that was hit, those in shadow mode too.
    pub findings: Vec<Finding>,
    /// A guard could not judge a text, and its rule lets text pass then.
    pub failed_open: bool,
    /// Earlier turns that had been blocked before and were taken out.
    pub replayed: usize,
}

/// The three ways.
#[derive(Debug)]
pub enum Outcome<T> {
    /// It may go on, edited where a rule redacts.
    Pass(Cleared<T>),
    /// It should be revised first. Only answers come out this way.
    Revise(T, Finding),
    /// It must not go on.
    Block(T, Finding),
}

impl Guards {
    /// Judges every segment of a request.
    pub async fn input(&self, occasion: &Occasion, mut call: Call) -> Result<Verdict<Call>, Failure> {
        let judgements = self.all(occasion, Stage::Input, call.segments()).await?;
        let replayed = self.take_out_replayed(occasion.view(), &mut call, &judgements);
        for (index, judgement) in judgements.iter().enumerate().filter(|(_, j)| !j.redactions.is_empty()) {
            call.redact(index, &spans(judgement));
        }
        Ok(self.verdict(occasion, Stage::Input, call, (judgements, &replayed)))
    }

    /// Judges every segment of a whole answer.
    pub async fn output(&self, occasion: &Occasion, mut reply: Reply) -> Result<Verdict<Reply>, Failure> {
        let judgements = self.all(occasion, Stage::Output, reply.segments()).await?;
        for (index, judgement) in judgements.iter().enumerate().filter(|(_, j)| !j.redactions.is_empty()) {
            reply.redact(index, &spans(judgement));
        }
        Ok(self.verdict(occasion, Stage::Output, reply, (judgements, &[])))
    }

    /// What was blocked when it was new must not block the conversation for ever: what the policy says is done with it.
    /// Gives the segments that are dealt with.
    fn take_out_replayed(&self, view: &View, call: &mut Call, judgements: &[Judgement]) -> Vec<usize> {
        let blocked = |judgement: &Judgement| judgement.findings.iter().any(|f| judge::blocks(&view.policy, f));
        let replayed = judgements.iter().enumerate().filter(|(_, judgement)| judgement.replayed && blocked(judgement));
        let mut replayed: Vec<usize> = replayed.map(|(index, _)| index).collect();
        let (left, word) = match view.policy.respond.on_replayed_block {
            ReplayedBlock::Refuse => (replayed.clone(), "refuse"),
            ReplayedBlock::Drop => (call.take_out(&replayed, NOTICE, true), "drop"),
            ReplayedBlock::Notice => (call.take_out(&replayed, NOTICE, false), "notice"),
        };
        replayed.retain(|index| left.binary_search(index).is_err());
        self.metrics().replayed_blocks("refuse", left.len());
        self.metrics().replayed_blocks(word, replayed.len());
        replayed
    }

    pub(super) async fn all(
        &self,
        occasion: &Occasion,
        stage: Stage,
        segments: &[Segment],
    ) -> Result<Vec<Judgement>, Failure> {
        let since = Instant::now();
        let judged: Vec<_> = segments.iter().map(|segment| self.segment(occasion, stage, segment, since)).collect();
        stream::iter(judged).buffered(ABREAST).try_collect().await
    }

    async fn segment(
        &self,
        occasion: &Occasion,
        stage: Stage,
        segment: &Segment,
        since: Instant,
    ) -> Result<Judgement, Failure> {
        let length = segment.text.len();
        let (origin, text, fresh) = (segment.origin, segment.text.as_str(), 0..length);
        let (place, choice) = (segment.place.as_str(), segment.choice);
        let subject = Subject { stage, origin, before: "", text, fresh, place, choice, length, since };
        self.judge(occasion, &subject).await
    }

    /// What to do with all of it, those segments apart that are dealt with.
    pub(super) fn verdict<T>(
        &self,
        occasion: &Occasion,
        stage: Stage,
        judged: T,
        (judgements, settled): (Vec<Judgement>, &[usize]),
    ) -> Verdict<T> {
        let failed_open = judgements.iter().any(|judgement| judgement.failed_open);
        let (mut findings, mut past) = (Vec::new(), Vec::new());
        for (index, judgement) in judgements.into_iter().enumerate() {
            let kept = if settled.contains(&index) { &mut past } else { &mut findings };
            kept.extend(judgement.findings);
        }
        let open = findings.len();
        findings.append(&mut past);
        self.count(occasion, stage, &findings);
        let view = occasion.view();
        let heaviest = findings[..open]
            .iter()
            .filter_map(|finding| judge::enforced(&view.policy, finding).map(|action| (action, finding)))
            .max_by_key(|(action, _)| *action);
        let outcome = match heaviest {
            Some((Action::Block, finding)) => Outcome::Block(judged, finding.clone()),
            Some((Action::Revise, finding)) => Outcome::Revise(judged, finding.clone()),
            _ => Outcome::Pass(Cleared::new(judged)),
        };
        Verdict { outcome, findings, failed_open, replayed: settled.len() }
    }
}

fn spans(judgement: &Judgement) -> Vec<(std::ops::Range<usize>, &str)> {
    judgement.redactions.iter().map(|(range, text)| (range.clone(), text.as_str())).collect()
}
