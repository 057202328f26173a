//! Rounds of critique and revision over one answer, each judged again by the guards.

use std::time::Instant;

use http::HeaderMap;

use super::whole::Asked;
use super::{Gateway, Trace};
use crate::api::Reply;
use crate::guard::{Cleared, Failure, Finding, Outcome};
use crate::policy::Principle;
use crate::revision::{Asker, Budget, Draft, Reviser, Round, next_principle};
use crate::upstream::Upstream;

/// An answer to be criticised and revised.
pub(super) struct Case<'a> {
    /// The reply that the answer stands in; with each revision in its place, all of it is judged again.
    pub(super) reply: &'a Reply,
    /// Which of the reply's answers.
    pub(super) choice: u32,
    /// Its text.
    pub(super) original: &'a str,
    /// The beginning of it that the client has read.
    pub(super) shown: &'a str,
    /// What the rule found; nothing where no rule objects.
    pub(super) finding: Option<&'a Finding>,
    /// Nobody waits for it.
    pub(super) shadow: bool,
}

/// What came of a case.
pub(super) enum Mending {
    /// A revision that the guards have nothing against.
    Done(Box<Mended>),
    /// The critic found nothing to mend in an answer that the guards let pass.
    Sound,
    /// Rounds were run, under this principle first, and none made it good.
    Bad(Option<usize>),
    /// Nobody could say: critic or reviser failed, or the budget came to its end.
    Failed(&'static str),
}

/// An answer that the guards have nothing against any longer.
pub(super) struct Mended {
    pub(super) cleared: Cleared<Reply>,
    /// The revision as the reviser wrote it.
    pub(super) text: String,
    /// What the critic said of the original.
    pub(super) critique: String,
    /// Under which of the policy's principles.
    pub(super) principle: Option<usize>,
}

/// How far the rounds have come.
struct Progress {
    answer: String,
    /// The principle that a rule holds against the answer as it stands now; none once the guards let it pass.
    objection: Option<usize>,
    used: Vec<usize>,
    critique: Option<String>,
    best: Option<(Cleared<Reply>, String)>,
}

impl Gateway {
    /// Criticises and revises within the policy's budget: under the violated principle as long as a rule objects, then
    /// under others. An error when a guard could not judge.
    pub(super) async fn mend(
        &self,
        case: &Case<'_>,
        asked: &Asked,
        client: &HeaderMap,
        trace: &Trace,
    ) -> Result<Mending, Failure> {
        let started = Instant::now();
        let objection = case.finding.and_then(|finding| trace.principle_of(finding));
        let mut progress =
            Progress { answer: case.original.to_owned(), objection, used: Vec::new(), critique: None, best: None };
        let outcome = match self.reviser(asked, client, trace) {
            Some(reviser) if objection.is_some() || case.finding.is_none() => {
                self.rounds(&reviser, case, asked, trace, &mut progress).await?
            }
            _ => "failed",
        };
        let counted = match (case.shadow, progress.best.is_some()) {
            (false, true) => "accepted",
            (false, false) => outcome,
            (true, true) => "shadow_revised",
            (true, false) => "shadow_kept",
        };
        self.metrics.revised(&trace.view.policy.name, counted, started.elapsed());
        let (critique, principle) = (progress.critique.unwrap_or_default(), progress.used.first().copied());
        Ok(match (progress.best, outcome) {
            (Some((cleared, text)), _) => Mending::Done(Box::new(Mended { cleared, text, critique, principle })),
            (None, "unchanged") if case.finding.is_none() && progress.answer == case.original => Mending::Sound,
            (None, "failed" | "out_of_budget") => Mending::Failed(outcome),
            (None, _) => Mending::Bad(principle),
        })
    }

    /// Runs the rounds; says how they ended, should nothing have come of them.
    async fn rounds(
        &self,
        reviser: &Reviser<'_>,
        case: &Case<'_>,
        asked: &Asked,
        trace: &Trace,
        progress: &mut Progress,
    ) -> Result<&'static str, Failure> {
        let Some(ground) = &asked.ground else { return Ok("failed") };
        let (conversation, form) = (ground.messages(), ground.output_form());
        let mut budget = Budget::of(reviser.settings);
        for _ in 0..reviser.settings.rounds {
            let Some((index, principle)) = progress.next(trace) else { break };
            let draft = Draft {
                conversation: &conversation,
                answer: &progress.answer,
                shown: case.shown,
                form: form.as_ref(),
                principle,
            };
            let round = reviser.round(&draft, &mut budget).await;
            progress.used.push(index);
            let Round { critique, answer } = match round {
                Ok(round) => round,
                // An answer that passed before the budget came to its end is still a good one.
                Err(error) if error.is_budget() => return Ok("out_of_budget"),
                Err(_logged) => {
                    progress.best = None;
                    return Ok("failed");
                }
            };
            progress.critique.get_or_insert(critique.why);
            let Some(answer) = answer else { return Ok("unchanged") };
            progress.answer = answer;
            self.judge_again(case, trace, progress).await?;
        }
        Ok("still_violating")
    }

    async fn judge_again(&self, case: &Case<'_>, trace: &Trace, progress: &mut Progress) -> Result<(), Failure> {
        let Some(reply) = case.reply.with_answer(case.choice, &progress.answer) else { return Ok(()) };
        match self.guards.output(&trace.occasion, reply).await?.outcome {
            Outcome::Pass(cleared) => {
                progress.objection = None;
                progress.best = Some((cleared, progress.answer.clone()));
            }
            Outcome::Revise(_, finding) | Outcome::Block(_, finding) => {
                let first = || case.finding.and_then(|finding| trace.principle_of(finding));
                progress.objection = trace.principle_of(&finding).or_else(first);
            }
        }
        Ok(())
    }

    /// Who is asked: the upstream that answered, or the one that the policy names.
    fn reviser<'a>(&'a self, asked: &'a Asked, client: &'a HeaderMap, trace: &'a Trace) -> Option<Reviser<'a>> {
        let policy = &trace.view.policy;
        let name = policy.revise.upstream.as_deref().unwrap_or(trace.exchange.provider());
        let upstream = self.upstreams.iter().find(|upstream| upstream.name() == name)?;
        Some(Reviser { asker: self.asker(upstream, client, trace), model: &asked.model, settings: &policy.revise })
    }

    /// An upstream that is asked for what no client asked: with the client's headers only where it is the one that answered.
    pub(super) fn asker<'a>(&'a self, upstream: &'a Upstream, client: &'a HeaderMap, trace: &'a Trace) -> Asker<'a> {
        let headers = (upstream.name() == trace.exchange.provider()).then_some(client);
        Asker { upstream, headers, policy: &trace.view.policy.name, metrics: &self.metrics }
    }
}

impl Progress {
    fn next<'a>(&self, trace: &'a Trace) -> Option<(usize, &'a Principle)> {
        let principles = &trace.view.policy.constitution.principles;
        let index = self.objection.or_else(|| next_principle(principles, &self.used, &trace.id))?;
        Some((index, principles.get(index)?))
    }
}

impl Trace {
    /// The principle that a finding's rule stands for.
    pub(super) fn principle_of(&self, finding: &Finding) -> Option<usize> {
        self.view.policy.rules.get(finding.rule)?.principle
    }
}
