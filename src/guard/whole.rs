//! Whole texts: a request's segments, and an answer that arrived in one piece.

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::judge::{self, ABREAST, Failure, Finding, Guards, Judgement, Stage, Subject, View};
use crate::api::{Call, Reply, Segment};
use crate::policy::Action;

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
    pub async fn input(&self, view: &View, mut call: Call) -> Result<Verdict<Call>, Failure> {
        let judgements = self.all(view, Stage::Input, call.segments()).await?;
        for (index, judgement) in judgements.iter().enumerate().filter(|(_, j)| !j.redactions.is_empty()) {
            call.redact(index, &spans(judgement));
        }
        Ok(self.verdict(view, Stage::Input, call, judgements))
    }

    /// Judges every segment of a whole answer.
    pub async fn output(&self, view: &View, mut reply: Reply) -> Result<Verdict<Reply>, Failure> {
        let judgements = self.all(view, Stage::Output, reply.segments()).await?;
        for (index, judgement) in judgements.iter().enumerate().filter(|(_, j)| !j.redactions.is_empty()) {
            reply.redact(index, &spans(judgement));
        }
        Ok(self.verdict(view, Stage::Output, reply, judgements))
    }

    async fn all(&self, view: &View, stage: Stage, segments: &[Segment]) -> Result<Vec<Judgement>, Failure> {
        let judged: Vec<_> = segments.iter().map(|segment| self.segment(view, stage, segment)).collect();
        stream::iter(judged).buffered(ABREAST).try_collect().await
    }

    async fn segment(&self, view: &View, stage: Stage, segment: &Segment) -> Result<Judgement, Failure> {
        let fresh = 0..segment.text.len();
        let (origin, text) = (segment.origin, segment.text.as_str());
        let subject = Subject { stage, origin, text, fresh, place: &segment.place, choice: segment.choice };
        self.judge(view, &subject).await
    }

    fn verdict<T>(&self, view: &View, stage: Stage, judged: T, judgements: Vec<Judgement>) -> Verdict<T> {
        let failed_open = judgements.iter().any(|judgement| judgement.failed_open);
        let findings: Vec<Finding> = judgements.into_iter().flat_map(|judgement| judgement.findings).collect();
        self.count(view, stage, &findings);
        let heaviest = findings
            .iter()
            .filter_map(|finding| judge::enforced(&view.policy, finding).map(|action| (action, finding)))
            .max_by_key(|(action, _)| *action);
        let outcome = match heaviest {
            Some((Action::Block, finding)) => Outcome::Block(judged, finding.clone()),
            Some((Action::Revise, finding)) => Outcome::Revise(judged, finding.clone()),
            _ => Outcome::Pass(Cleared::new(judged)),
        };
        Verdict { outcome, findings, failed_open }
    }
}

fn spans(judgement: &Judgement) -> Vec<(std::ops::Range<usize>, &str)> {
    judgement.redactions.iter().map(|(range, text)| (range.clone(), text.as_str())).collect()
}
