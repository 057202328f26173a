//! Whole texts: a request's segments, and an answer that arrived in one piece.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::armed::View;
use super::judge::{self, Failure, Finding, Guards, Judgement, Stage, Subject};
use super::occasion::Occasion;
use super::score::ABREAST;
use super::seam::{Seams, Whose};
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

/// What the rules say of every segment, and after those of every seam.
pub(super) struct Judged<'a> {
    pub(super) judgements: Vec<Judgement>,
    segments: usize,
    seams: Seams<'a>,
}

/// Places of one segment's text, each with what takes its place.
type Spans = Vec<(Range<usize>, String)>;

impl Judged<'_> {
    /// The segment that a judgement belongs to; of a seam the later one.
    fn segment(&self, judgement: usize) -> usize {
        judgement.checked_sub(self.segments).map_or(judgement, |seam| self.seams.seams[seam].segment)
    }

    /// What a classifier finds in a segment for itself does not count again at its seams.
    fn settle(&mut self) {
        let (texts, seams) = self.judgements.split_at_mut(self.segments);
        for (judgement, seam) in seams.iter_mut().zip(&self.seams.seams) {
            judgement.findings.retain(|finding| finding.score.is_none() || !texts[seam.segment].has(finding.rule));
        }
    }

    /// What is to be replaced, by segment.
    fn redactions(&self) -> BTreeMap<usize, Spans> {
        let mut found: BTreeMap<usize, Spans> = BTreeMap::new();
        for (index, judgement) in self.judgements.iter().enumerate() {
            for (range, with) in &judgement.redactions {
                match index.checked_sub(self.segments) {
                    None => found.entry(index).or_default().push((range.clone(), with.clone())),
                    Some(seam) => {
                        for (segment, range, with) in self.seams.sources(&self.seams.seams[seam], range, with) {
                            found.entry(segment).or_default().push((range, with));
                        }
                    }
                }
            }
        }
        found
    }
}

impl Guards {
    /// Judges every segment of a request.
    pub async fn input(&self, occasion: &Occasion, mut call: Call) -> Result<Verdict<Call>, Failure> {
        let judged = self.all(occasion, Stage::Input, call.segments()).await?;
        let blocked = Self::replayed(occasion.view(), &judged);
        let (redactions, judgements) = (judged.redactions(), judged.judgements);
        let replayed = self.take_out(occasion.view(), &mut call, blocked);
        for (segment, spans) in &redactions {
            call.redact(*segment, &borrowed(spans));
        }
        Ok(self.verdict(occasion, Stage::Input, call, (judgements, &replayed)))
    }

    /// Judges every segment of a whole answer.
    pub async fn output(&self, occasion: &Occasion, mut reply: Reply) -> Result<Verdict<Reply>, Failure> {
        let judged = self.all(occasion, Stage::Output, reply.segments()).await?;
        let (redactions, judgements) = (judged.redactions(), judged.judgements);
        for (segment, spans) in &redactions {
            reply.redact(*segment, &borrowed(spans));
        }
        Ok(self.verdict(occasion, Stage::Output, reply, (judgements, &[])))
    }

    /// Judgements that block something which had been blocked before, each with its segment.
    fn replayed(view: &View, judged: &Judged<'_>) -> Vec<(usize, usize)> {
        let blocked = |judgement: &Judgement| judgement.findings.iter().any(|f| judge::blocks(&view.policy, f));
        let replayed = judged.judgements.iter().enumerate().filter(|(_, j)| j.replayed && blocked(j));
        replayed.map(|(index, _)| (index, judged.segment(index))).collect()
    }

    /// What was blocked when it was new must not block the conversation for ever: what the policy says is done with it.
    /// Gives the judgements that are dealt with.
    fn take_out(&self, view: &View, call: &mut Call, mut replayed: Vec<(usize, usize)>) -> Vec<usize> {
        let wanted: BTreeSet<usize> = replayed.iter().map(|(_, segment)| *segment).collect();
        let wanted: Vec<usize> = wanted.into_iter().collect();
        let (left, word) = match view.policy.respond.on_replayed_block {
            ReplayedBlock::Refuse => (wanted.clone(), "refuse"),
            ReplayedBlock::Drop => (call.take_out(&wanted, NOTICE, true), "drop"),
            ReplayedBlock::Notice => (call.take_out(&wanted, NOTICE, false), "notice"),
        };
        replayed.retain(|(_, segment)| left.binary_search(segment).is_err());
        self.metrics().replayed_blocks("refuse", left.len());
        self.metrics().replayed_blocks(word, wanted.len() - left.len());
        replayed.into_iter().map(|(judgement, _)| judgement).collect()
    }

    pub(super) async fn all<'a>(
        &self,
        occasion: &Occasion,
        stage: Stage,
        segments: &'a [Segment],
    ) -> Result<Judged<'a>, Failure> {
        let since = Instant::now();
        let seams = if occasion.looks(stage) { self.seams(occasion, segments) } else { Seams::none() };
        let texts = segments.iter().map(|segment| self.segment(occasion, stage, segment, since).left_future());
        let whose: Vec<Whose<'_>> = segments.iter().map(Whose::of).collect();
        let over = seams.seams.iter();
        let over = over.map(|seam| self.seam(occasion, stage, (seam, &whose[seam.segment]), since).right_future());
        let judged: Vec<_> = texts.chain(over).collect();
        let judgements = stream::iter(judged).buffered(ABREAST).try_collect().await?;
        let mut judged = Judged { judgements, segments: segments.len(), seams };
        judged.settle();
        Ok(judged)
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
        let subject = Subject { stage, origin, before: "", text, fresh, joints: None, place, choice, length, since };
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

fn borrowed(spans: &Spans) -> Vec<(Range<usize>, &str)> {
    spans.iter().map(|(range, with)| (range.clone(), with.as_str())).collect()
}
