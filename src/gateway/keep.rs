//! Revised and blocked answers become preference rows, off the request's way.

use std::sync::Arc;

use serde_json::Value;

use super::whole::Asked;
use super::{Gateway, Trace};
use crate::guard::{Finding, Stage};
use crate::pairs::{self, Answers, Draft, GuardScore, Source, Tag};

/// The name under which rows say how they were redacted.
const REDACTION: &str = "pii_v1";

/// What happened to an answer.
#[derive(Clone, Debug)]
pub(super) enum Kept {
    /// It was rewritten.
    Revised { original: String, revised: String, critique: String },
    /// It was refused, and nothing stands in its place.
    Refused { answer: String },
}

/// How an exchange went, as far as its rows are concerned.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Course {
    /// The answer was not complete when the exchange ended.
    pub(super) aborted: bool,
    /// The upstream cut the answer off at the token limit.
    pub(super) truncated: bool,
    /// A guard of the answer could not judge, and its rule let text pass.
    pub(super) failed_open: bool,
}

impl Gateway {
    /// Whether rows of this request are kept.
    pub(super) fn keeps(&self, trace: &Trace) -> bool {
        self.pairs.is_some() && pairs::sampled(&trace.id, trace.view.policy.pairs.rate)
    }

    /// Samples, scores, redacts, and hands the row to the spool. Returns at once.
    pub(super) fn keep(self: &Arc<Self>, asked: &Asked, trace: &Trace, finding: &Finding, kept: Kept, course: Course) {
        let policy = &trace.view.policy;
        let Some(spool) = self.pairs.as_ref().filter(|_| self.keeps(trace)) else { return };
        let topic = trace.principle(finding).or_else(|| policy.rules.get(finding.rule).map(|rule| rule.id.as_str()));
        if !spool.admit(&policy.name, topic.unwrap_or_default(), policy.pairs.per_principle_per_day) {
            return;
        }
        let tags = self.tags(trace, course);
        let (gateway, trace, finding) = (Arc::clone(self), trace.clone(), finding.clone());
        let ground = (asked.conversation.clone(), asked.tools.clone(), asked.model.clone());
        tokio::spawn(async move {
            let (answers, source, critique) = match kept {
                Kept::Revised { original, revised, critique } => {
                    let score = gateway.guards.score(&finding.label, &revised).await;
                    let answers = Answers::Both { chosen: (revised, score), rejected: (original, finding.score) };
                    (answers, Source::Revision, Some(critique))
                }
                Kept::Refused { answer } => (Answers::Refused((answer, finding.score)), Source::Block, None),
            };
            let draft = Draft { critique, tags, ..draft(&trace, &finding, answers, source, ground) };
            let row = draft.into_row(&|text| gateway.redaction.redact(text));
            if let Some(spool) = &gateway.pairs {
                spool.offer(row);
            }
        });
    }

    fn tags(&self, trace: &Trace, course: Course) -> Vec<Tag> {
        // The exchange keeps the revision that it began with; a row says if that was overtaken.
        let overtaken = self.policies.named(&trace.view.policy.name).policy.revision != trace.view.policy.revision;
        let tags = [
            (course.aborted, Tag::Aborted),
            (course.truncated, Tag::Truncated),
            (course.failed_open || trace.failed_open, Tag::FailedOpen),
            (overtaken, Tag::MixedRevision),
        ];
        tags.into_iter().filter_map(|(applies, tag)| applies.then_some(tag)).collect()
    }
}

impl Trace {
    /// The id of the principle that a finding's rule stands for.
    fn principle(&self, finding: &Finding) -> Option<&str> {
        let principles = &self.view.policy.constitution.principles;
        self.principle_of(finding).and_then(|index| principles.get(index)).map(|principle| principle.id.as_str())
    }
}

fn draft(
    trace: &Trace,
    finding: &Finding,
    answers: Answers,
    source: Source,
    (prompt, tools, model): (Vec<Value>, Option<Value>, String),
) -> Draft {
    let policy = &trace.view.policy;
    let rule = policy.rules.get(finding.rule);
    Draft {
        prompt,
        answers,
        tools,
        request_id: trace.id.clone(),
        source,
        principle_id: trace.principle(finding).map(str::to_owned),
        critique: None,
        policy: policy.name.clone(),
        policy_rev: policy.revision.clone(),
        constitution: policy.constitution.text.clone(),
        model,
        provider: trace.exchange.provider().to_owned(),
        guards: vec![GuardScore {
            id: rule.map_or_else(String::new, |rule| rule.id.clone()),
            stage: Stage::Output.as_str().to_owned(),
            score: finding.score,
            threshold: finding.threshold,
        }],
        sample_rate: policy.pairs.rate,
        redaction: REDACTION,
        tags: Vec::new(),
    }
}
