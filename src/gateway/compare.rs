//! A second answer to a request, drawn aside and judged against the one that the client got. Nobody waits for it.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::uri::PathAndQuery;
use serde_json::Value;
use tokio::time::timeout;

use super::keep::{About, Course, claim, draft};
use super::study::Untouched;
use super::{Gateway, Trace};
use crate::api::{Reply, again, conversation};
use crate::guard::Outcome;
use crate::pairs::{self, Answers, Draft, Judgement, Side, Source, Tag};
use crate::policy::CompareSettings;
use crate::revision::{Comparison, Drawn, EQUAL, Judge, Preference, Verdict};
use crate::upstream::{Provider, Upstream};

/// A request as it went up.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    target: PathAndQuery,
    body: Bytes,
}

impl Gateway {
    /// What a second answer is drawn from, should the first one pass: nothing where this request is not in the sample.
    /// Nobody's key but ours pays for what the client did not ask for.
    pub(super) fn to_compare(&self, trace: &Trace, target: &PathAndQuery, body: &Bytes) -> Option<Sent> {
        let compare = &trace.view.policy.pairs.compare;
        let wanted = compare.rate > 0.0 && self.keeps(trace) && pairs::sampled(&trace.id, compare.rate);
        let able = wanted && self.second(trace).is_some() && self.judging(trace).is_some();
        able.then(|| Sent { target: target.clone(), body: body.clone() })
    }

    /// Draws and judges, in a task of its own. Returns at once; where too many are under way, or the day's places are
    /// taken, with nothing but a count.
    pub(super) fn compare(self: &Arc<Self>, first: Arc<Untouched>) {
        let (asked, trace) = (&first.asked, &first.trace);
        let Some(spool) = &self.pairs else { return };
        let Ok(turn) = Arc::clone(&self.comparisons).try_acquire_owned() else {
            return self.metrics.comparison_ended(&trace.view.policy.name, "busy", None);
        };
        let user = self.user(asked, trace);
        if !spool.admit(&claim(trace, TOPIC, user.as_deref(), asked.client)) {
            return;
        }
        let (gateway, place) = (Arc::clone(self), spool.place());
        tokio::spawn(async move {
            let (started, policy) = (Instant::now(), &first.trace.view.policy);
            let drawn = timeout(policy.pairs.compare.timeout, gateway.drawn(&first)).await;
            gateway.metrics.comparison_ended(&policy.name, drawn.unwrap_or("out_of_time"), Some(started.elapsed()));
            drop((place, turn));
        });
    }

    /// The whole of it; says how it ended.
    async fn drawn(self: &Arc<Self>, first: &Untouched) -> &'static str {
        let Some(rival) = self.rival(first).await else { return "unfit" };
        let second = match rival {
            Ok(second) if second.calls || second.text.trim().is_empty() => return "unfit",
            Ok(second) => second,
            Err(error) => {
                tracing::warn!(request_id = first.trace.id, %error, "no second answer was drawn");
                return "failed";
            }
        };
        let course = Course { truncated: first.course.truncated || second.truncated, ..first.course };
        // What no client would have got is nothing to prefer.
        let second = match self.cleared(&first.trace, &second.text).await {
            Ok(second) => second,
            Err(word) => return word,
        };
        if second.trim() == first.answer.trim() {
            return "same";
        }
        let (Some(ground), Some(judge)) = (&first.asked.ground, self.judging(&first.trace)) else { return "unfit" };
        let prompt = Value::Array(ground.messages());
        match judge.compare(&Comparison { prompt: &prompt, first: &first.answer, second: &second }).await {
            Ok(verdict) => self.keep_compared((first, course), second, &verdict, judge.model),
            Err(error) => {
                tracing::warn!(request_id = first.trace.id, %error, "two answers could not be compared");
                "failed"
            }
        }
    }

    /// Asks for a second answer; nothing where the request cannot be put to whom the policy names.
    async fn rival(&self, first: &Untouched) -> Option<Result<Drawn, crate::revision::Error>> {
        let Untouched { asked, client, trace, .. } = first;
        let (policy, sent) = (&trace.view.policy, asked.sent.as_ref()?);
        let CompareSettings { model, max_tokens, .. } = &policy.pairs.compare;
        let upstream = self.second(trace)?;
        let answered = trace.exchange.provider();
        let provider = self.upstreams.iter().find(|upstream| upstream.name() == answered).map(Upstream::provider);
        // A deployment stands in Azure's path, where no other model can be put.
        let replays =
            provider == Some(upstream.provider()) && !(upstream.provider() == Provider::Azure && model.is_some());
        let rival = self.asker(upstream, client, trace);
        if replays {
            let body = again(asked.dialect, &sent.body, model.as_deref(), *max_tokens)?;
            return Some(rival.draw(&sent.target, asked.dialect, body).await);
        }
        let ground =
            asked.ground.as_ref().filter(|ground| ground.output_form().is_none() && ground.tools().is_none())?;
        let (model, dialect) = (model.as_deref().unwrap_or(&asked.model), rival.dialect());
        let body = conversation(dialect, model, &policy.constitution.text, &ground.messages(), *max_tokens)?;
        let target = PathAndQuery::from_static(upstream.provider().questions());
        Some(rival.draw(&target, dialect, body).await)
    }

    /// A second answer as a client would have got it.
    async fn cleared(&self, trace: &Trace, text: &str) -> Result<String, &'static str> {
        let reply = Reply::of_text(text).map_err(|_| "unfit")?;
        match self.guards.output(&trace.occasion, reply).await {
            Ok(verdict) => match verdict.outcome {
                Outcome::Pass(cleared) => cleared.into_inner().edited_answer(0).ok_or("unfit"),
                Outcome::Block(..) | Outcome::Revise(..) => Err("objected"),
            },
            Err(_) => Err("failed"),
        }
    }

    /// A pair where the judge prefers an answer. Where its two orders prefer different ones, the pair is tagged: what
    /// decided then was the place.
    fn keep_compared(
        &self,
        (first, course): (&Untouched, Course),
        second: String,
        verdict: &Verdict,
        judge: &str,
    ) -> &'static str {
        let (Untouched { answer, asked, trace, .. }, score) = (first, verdict.score());
        let biased = verdict.contradicts_itself();
        let better = match Preference::of(score) {
            Preference::Equal => return if biased { "position_bias" } else { "equal" },
            Preference::First => Side::Rejected,
            Preference::Second => Side::Chosen,
        };
        let (Some(spool), Some(ground)) = (&self.pairs, asked.ground.clone()) else { return "failed" };
        let (model, user) = (asked.model.clone(), self.user(asked, trace));
        let about = About { source: Source::Resample, principle: None, finding: None, model, ground, user };
        let judged = EQUAL + (score - EQUAL).abs();
        let judgement = Judgement {
            judged: narrow(judged),
            lean: narrow(verdict.lean()),
            judge: judge.to_owned(),
            second: better,
            second_model: trace.view.policy.pairs.compare.model.clone().unwrap_or_else(|| asked.model.clone()),
        };
        let first = answer.clone();
        let (chosen, rejected) = if better == Side::Chosen { (second, first) } else { (first, second) };
        // The judge's score as a share of its scale, 0 the best: like a rule's, the worse answer has the higher one.
        let share = narrow((judged - 1.0) / 8.0);
        let answers =
            Answers::Both { chosen: (chosen.into(), Some(1.0 - share)), rejected: (rejected.into(), Some(share)) };
        let mut tags = self.tags(trace, course);
        tags.extend(biased.then_some(Tag::PositionBias));
        let draft = Draft { tags, judgement: Some(judgement), ..draft(trace, answers, about) };
        spool.offer(draft.into_row(&|text| self.redaction.redact(text)));
        if biased { "position_bias" } else { "preferred" }
    }

    /// Who gives the second answer: whom the policy names, or who gave the first.
    fn second(&self, trace: &Trace) -> Option<&Upstream> {
        self.with_own_key(trace.view.policy.pairs.compare.upstream.as_deref(), trace)
    }

    /// Who judges: whom the policy names, or who gave the first answer.
    fn judging<'a>(&'a self, trace: &'a Trace) -> Option<Judge<'a>> {
        let policy = &trace.view.policy;
        Some(Judge {
            upstream: self.with_own_key(policy.judge.upstream.as_deref(), trace)?,
            model: policy.judge.model.as_deref()?,
            policy: &policy.name,
            principles: &policy.constitution.principles,
            rubric: policy.judge.rubric.as_deref(),
            examples: &policy.judge.examples,
            max_tokens: policy.judge.max_tokens,
            metrics: &self.metrics,
        })
    }

    /// A configured upstream, by default the one that answered, if it has a key of its own.
    pub(super) fn with_own_key(&self, name: Option<&str>, trace: &Trace) -> Option<&Upstream> {
        let name = name.unwrap_or(trace.exchange.provider());
        self.upstreams.iter().find(|upstream| upstream.name() == name && upstream.has_own_key())
    }
}

/// What comparisons take of the day's places, where principles have theirs.
const TOPIC: &str = "comparison";

#[expect(clippy::cast_possible_truncation, reason = "scores of one digit before the point and a few behind it")]
fn narrow(score: f64) -> f32 {
    score as f32
}
