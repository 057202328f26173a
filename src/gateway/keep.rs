//! Revised and blocked answers become preference rows, off the request's way.

use std::sync::Arc;

use super::whole::Asked;
use super::{Gateway, Trace};
use crate::api::Ground;
use crate::guard::{Finding, Guards, Stage};
use crate::pairs::{self, Answers, Claim, Consent, Draft, GuardScore, Limits, Said, Source, Tag};
use crate::policy::{self, PromptAs};

/// The name under which rows say how they were redacted.
const REDACTION: &str = "pii_v1";

/// What happened to an answer.
#[derive(Clone, Debug)]
pub(super) enum Kept {
    /// It was rewritten.
    Revised { original: Said, revised: Said, critique: String },
    /// It was refused, and nothing stands in its place.
    Refused { answer: Said },
}

impl Kept {
    fn calls(&self) -> bool {
        match self {
            Self::Revised { original: answer, .. } | Self::Refused { answer } => !answer.calls.is_empty(),
        }
    }
}

/// Why a row is made.
#[derive(Clone, Debug)]
pub(super) enum Reason {
    /// A rule objected to the answer.
    Rule(Finding),
    /// No rule did; the critic, under one of the policy's principles.
    Principle(usize),
    /// The same, after the client had got the answer.
    Shadow(usize),
}

/// How an exchange went, as far as its rows are concerned.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each stands for a tag of its own")]
pub(super) struct Course {
    /// The answer was not complete when the exchange ended.
    pub(super) aborted: bool,
    /// The upstream cut the answer off at the token limit.
    pub(super) truncated: bool,
    /// A guard of the answer could not judge, and its rule let text pass.
    pub(super) failed_open: bool,
    /// The answer calls tools.
    pub(super) calls: bool,
}

impl Gateway {
    /// Whether rows of this request are kept.
    pub(super) fn keeps(&self, trace: &Trace) -> bool {
        let settings = &trace.view.policy.pairs;
        let word = self.policies.tenants().pairs(trace.exchange.tenant());
        let agreed = word.unwrap_or(settings.consent == policy::Consent::Operator);
        self.pairs.is_some() && agreed && !trace.unseen && pairs::sampled(&trace.id, settings.rate)
    }

    /// Samples, scores, redacts, and hands the row to the spool. Returns at once.
    pub(super) fn keep(self: &Arc<Self>, asked: &Asked, trace: &Trace, reason: Reason, kept: Kept, course: Course) {
        let policy = &trace.view.policy;
        let Some(spool) = self.pairs.as_ref().filter(|_| self.keeps(trace)) else { return };
        let by = if matches!(reason, Reason::Shadow(_)) { Source::Shadow } else { Source::Revision };
        let (finding, principle) = match reason {
            Reason::Rule(finding) => {
                let principle = trace.principle_of(&finding);
                (Some(finding), principle)
            }
            Reason::Principle(index) | Reason::Shadow(index) => (None, Some(index)),
        };
        let rule = finding.as_ref().and_then(|finding| policy.rules.get(finding.rule)).map(|rule| rule.id.as_str());
        let topic = trace.principle(principle).or(rule).unwrap_or_default();
        let user = self.user(asked, trace);
        if !spool.admit(&claim(trace, topic, user.as_deref(), asked.client)) {
            return;
        }
        let Some(ground) = asked.ground.clone() else { return };
        let course = Course { calls: kept.calls(), ..course };
        let (tags, place) = (self.tags(trace, course), spool.place());
        let (gateway, trace, model) = (Arc::clone(self), trace.clone(), asked.model.clone());
        tokio::spawn(async move {
            let score = finding.as_ref().and_then(|finding| finding.score);
            let (answers, source, critique) = match kept {
                Kept::Revised { original, revised, critique } => {
                    let better = match &finding {
                        Some(finding) => Guards::score(&trace.view, finding.rule, &finding.label, &revised.text).await,
                        None => None,
                    };
                    let answers = Answers::Both { chosen: (revised, better), rejected: (original, score) };
                    (answers, by, Some(critique))
                }
                Kept::Refused { answer } => (Answers::Refused((answer, score)), Source::Block, None),
            };
            let about = About { source, principle, finding, model, ground, user };
            let row = Draft { critique, tags, ..draft(&trace, answers, about) }
                .into_row(&|text| gateway.redaction.redact(text));
            if let Some(spool) = &gateway.pairs {
                spool.offer(row);
            }
            drop(place);
        });
    }

    /// A row of this exchange but for what people will say of it.
    pub(super) fn draft_of(&self, asked: &Asked, trace: &Trace, course: Course) -> Option<Draft> {
        let about = About {
            source: Source::Feedback,
            principle: None,
            finding: None,
            model: asked.model.clone(),
            ground: asked.ground.clone()?,
            user: self.user(asked, trace),
        };
        let draft = draft(trace, Answers::Rated(Said::default(), true), about);
        Some(Draft { tags: self.tags(trace, course), ..draft })
    }

    pub(super) fn user(&self, asked: &Asked, trace: &Trace) -> Option<String> {
        asked.user.as_deref().map(|user| self.seal.user(trace.exchange.tenant(), user))
    }

    pub(super) fn tags(&self, trace: &Trace, course: Course) -> Vec<Tag> {
        // The exchange keeps the revision that it began with; a row says if that was overtaken.
        let overtaken = self.policies.named(&trace.view.policy.name).policy.revision != trace.view.policy.revision;
        let tags = [
            (course.aborted, Tag::Aborted),
            (course.truncated, Tag::Truncated),
            (course.failed_open || trace.failed_open, Tag::FailedOpen),
            (overtaken, Tag::MixedRevision),
            (course.calls, Tag::ToolCalls),
        ];
        tags.into_iter().filter_map(|(applies, tag)| applies.then_some(tag)).collect()
    }
}

impl Trace {
    /// The id of a principle.
    fn principle(&self, index: Option<usize>) -> Option<&str> {
        let principles = &self.view.policy.constitution.principles;
        index.and_then(|index| principles.get(index)).map(|principle| principle.id.as_str())
    }
}

/// What a row takes of the day's places.
pub(super) fn claim<'a>(trace: &'a Trace, principle: &'a str, user: Option<&'a str>, client: u64) -> Claim<'a> {
    let policy = &trace.view.policy;
    Claim { policy: &policy.name, principle, user, client, limits: limits(policy) }
}

/// How many rows a policy lets be kept in a day.
pub(super) fn limits(policy: &policy::Policy) -> Limits {
    let pairs = &policy.pairs;
    Limits { principle: pairs.per_principle_per_day, user: pairs.per_user_per_day, client: pairs.per_client_per_day }
}

/// What a row is about.
pub(super) struct About {
    pub(super) source: Source,
    pub(super) principle: Option<usize>,
    pub(super) finding: Option<Finding>,
    pub(super) model: String,
    pub(super) ground: Ground,
    pub(super) user: Option<String>,
}

/// A row of an exchange, but for what is known of its answers only.
pub(super) fn draft(trace: &Trace, answers: Answers, about: About) -> Draft {
    let policy = &trace.view.policy;
    let About { source, principle, finding, model, ground, user } = about;
    let rate = match source {
        Source::Shadow => policy.revise.shadow,
        Source::Feedback => policy.pairs.feedback,
        Source::Resample => policy.pairs.compare.rate,
        _ => 1.0,
    };
    let mut prompt = ground.messages();
    if policy.pairs.prompt == PromptAs::Seen && !policy.constitution.text.is_empty() {
        prompt.insert(0, serde_json::json!({"role": "system", "content": policy.constitution.text}));
    }
    let consent = match policy.pairs.consent {
        policy::Consent::Operator => Consent::Operator,
        policy::Consent::Tenant => Consent::TenantOptIn,
    };
    let guards = finding.into_iter().map(|finding| GuardScore {
        id: policy.rules.get(finding.rule).map_or_else(String::new, |rule| rule.id.clone()),
        stage: Stage::Output.as_str().to_owned(),
        score: finding.score,
        threshold: finding.threshold,
    });
    Draft {
        prompt,
        answers,
        tools: ground.tools(),
        request_id: trace.id.clone(),
        source,
        principle_id: trace.principle(principle).map(str::to_owned),
        critique: None,
        policy: policy.name.clone(),
        policy_rev: policy.revision.clone(),
        constitution: policy.constitution.text.clone(),
        model,
        provider: trace.exchange.provider().to_owned(),
        guards: guards.collect(),
        sample_rate: policy.pairs.rate.min(rate),
        redaction: REDACTION,
        consent,
        tenant: trace.exchange.tenant().map(str::to_owned),
        user,
        word: None,
        judgement: None,
        tags: Vec::new(),
    }
}
