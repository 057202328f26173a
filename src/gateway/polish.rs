//! Critique and revision of every answer, where the policy wants that (`when: always`).

use std::sync::Arc;

use http::HeaderMap;

use super::keep::{Course, Kept, Reason};
use super::refuse::Refusal;
use super::revise::{Case, Mended, Mending};
use super::whole::{Asked, choices, said_in};
use super::{Gateway, Trace};
use crate::api::{BlockStyle, Notice, Origin, Reply};
use crate::guard::{Failure, Stage};
use crate::policy::{OnError, OutputBlock};

/// What becomes of an answer that no rule objects to.
pub(super) enum Polished {
    /// It stays as it is.
    Kept,
    /// It was rewritten.
    Revised(Box<Mended>),
    /// The critic objects under a principle, and no revision was good.
    Refused(Option<usize>),
}

impl Gateway {
    /// One answer. An error where nobody could say whether it is good, and the policy does not let it pass then.
    pub(super) async fn polished(
        &self,
        case: &Case<'_>,
        (asked, client): (&Asked, &HeaderMap),
        trace: &Trace,
    ) -> Result<Polished, Failure> {
        match self.mend(case, asked, client, trace).await? {
            Mending::Done(mended) => Ok(Polished::Revised(mended)),
            Mending::Sound => Ok(Polished::Kept),
            Mending::Bad(principle) => Ok(Polished::Refused(principle)),
            Mending::Failed(reason) => {
                let on_error = trace.view.policy.revise.on_error;
                self.metrics.guard_failed(RULE, reason, on_error.as_str());
                match on_error {
                    OnError::Open => Ok(Polished::Kept),
                    OnError::Closed => Err(Failure { rule: RULE.to_owned(), reason, passing: true }),
                }
            }
        }
    }

    /// Each answer of a whole reply that the rules let pass, but `revised`, which has had its rounds; says what was done.
    pub(super) async fn polish(
        self: &Arc<Self>,
        mut reply: Reply,
        (revised, failed_open): (Option<u32>, bool),
        (asked, client): (&Asked, &HeaderMap),
        trace: &Trace,
    ) -> Result<(Reply, Option<&'static str>), Refusal> {
        let (mut done, mut refused) = (None, Vec::new());
        for choice in choices(&reply, &[Origin::Output]).into_iter().filter(|choice| Some(*choice) != revised) {
            let Some(original) = reply.edited_answer(choice).filter(|answer| !answer.trim().is_empty()) else {
                continue;
            };
            let case = Case { reply: &reply, choice, original: &original, shown: "", finding: None, shadow: false };
            let polished = self.polished(&case, (asked, client), trace).await?;
            let course = Course { truncated: reply.is_truncated(choice), failed_open, ..Course::default() };
            let before = said_in(&reply, choice);
            let (principle, kept) = match polished {
                Polished::Kept => continue,
                Polished::Refused(principle) => {
                    refused.push((choice, principle));
                    (principle, before.map(|answer| Kept::Refused { answer }))
                }
                Polished::Revised(mended) => {
                    let Mended { cleared, critique, principle, .. } = *mended;
                    reply = cleared.into_inner();
                    if trace.annotates(true) {
                        reply.annotate(&trace.principled(principle, "revise"));
                    }
                    done = Some("revise");
                    let both = before.zip(said_in(&reply, choice));
                    (principle, both.map(|(original, revised)| Kept::Revised { original, revised, critique }))
                }
            };
            if let (Some(principle), Some(kept)) = (principle, kept) {
                self.keep(asked, trace, Reason::Principle(principle), kept, course);
            }
        }
        let Some((_, principle)) = refused.first() else { return Ok((reply, done)) };
        let choices: Vec<u32> = refused.iter().map(|(choice, _)| *choice).collect();
        let notice = trace.principled(*principle, "block");
        reply.block(&choices, &notice, trace.block_style());
        if trace.annotates(true) {
            reply.annotate(&notice);
        }
        Ok((reply, Some("block")))
    }
}

/// What stands where a rule's id would.
const RULE: &str = "revise";

impl Trace {
    /// How this policy ends blocked answers.
    pub(super) fn block_style(&self) -> BlockStyle {
        match self.view.policy.respond.on_output_block {
            OutputBlock::ContentFilter => BlockStyle::ContentFilter,
            OutputBlock::Refusal => BlockStyle::Refusal,
        }
    }

    /// What a client is told of a critic's decision: the principle stands where else the rule does.
    pub(super) fn principled(&self, principle: Option<usize>, action: &'static str) -> Notice<'_> {
        let policy = &self.view.policy;
        let principles = &policy.constitution.principles;
        let principle = principle.and_then(|index| principles.get(index));
        Notice {
            policy: &policy.name,
            revision: &policy.revision,
            rule: principle.map_or(RULE, |principle| &principle.id),
            stage: Stage::Output.as_str(),
            action,
            score: None,
            threshold: None,
            message: &policy.respond.message,
            request_id: &self.id,
            annotate: self.annotates(true),
        }
    }
}
