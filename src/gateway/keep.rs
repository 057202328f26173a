//! A revised answer becomes a preference row, off the request's way.

use std::sync::Arc;

use serde_json::Value;

use super::whole::Asked;
use super::{Gateway, Trace};
use crate::guard::{Finding, Stage};
use crate::pairs::{self, Draft, GuardScore, Pair, Source};

/// The name under which rows say how they were redacted.
const REDACTION: &str = "pii_v1";

/// Both answers and what lay between them.
#[derive(Debug)]
pub(super) struct Revision {
    pub(super) original: String,
    pub(super) revised: String,
    pub(super) critique: String,
}

/// What was asked, for the row.
struct Ground {
    prompt: Vec<Value>,
    tools: Option<Value>,
    model: String,
}

impl Gateway {
    /// Samples, scores both answers, redacts, and hands the row to the spool. Returns at once.
    pub(super) fn keep(self: &Arc<Self>, asked: &Asked, trace: &Trace, finding: &Finding, revision: Revision) {
        let rate = trace.view.policy.pairs.rate;
        if self.pairs.is_none() || !pairs::sampled(&trace.id, rate) {
            return;
        }
        let (gateway, trace, finding) = (Arc::clone(self), trace.clone(), finding.clone());
        let ground =
            Ground { prompt: asked.conversation.clone(), tools: asked.tools.clone(), model: asked.model.clone() };
        tokio::spawn(async move {
            let score_chosen = gateway.guards.score(&finding.label, &revision.revised).await;
            let draft = draft(&trace, &finding, revision, ground, score_chosen);
            let pair = Pair::new(draft, &|text| gateway.redaction.redact(text));
            if let Some(spool) = &gateway.pairs {
                spool.offer(pair);
            }
        });
    }
}

fn draft(
    trace: &Trace,
    finding: &Finding,
    revision: Revision,
    Ground { prompt, tools, model }: Ground,
    score_chosen: Option<f32>,
) -> Draft {
    let policy = &trace.view.policy;
    let rule = policy.rules.get(finding.rule);
    let principle = rule.and_then(|rule| rule.principle).and_then(|index| policy.constitution.principles.get(index));
    Draft {
        prompt,
        chosen: revision.revised,
        rejected: revision.original,
        score_chosen,
        score_rejected: finding.score,
        tools,
        request_id: trace.id.clone(),
        source: Source::Revision,
        principle_id: principle.map(|principle| principle.id.clone()),
        critique: Some(revision.critique),
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
    }
}
