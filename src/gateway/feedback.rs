//! `POST /v1/feedback`: what people say of answers, joined to the exchange that it is about. Answered here.

use std::time::SystemTime;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::body::Body;
use super::intake;
use super::keep::{Course, limits};
use super::refuse::{self, Refusal};
use super::whole::Asked;
use super::{Config, Gateway, Trace};
use crate::api::{Limits, Remark, Reply, Said};
use crate::guard::{Occasion, Outcome};
use crate::pairs::{self, Answer, Claim, Exchange, Feedback, Given, Seal, Signal, Taken, Word};

/// Ratings from here on are good ones, and as many steps below the top they are bad ones.
const GOOD: u8 = 4;
const BAD: u8 = 2;

impl Gateway {
    /// Takes one word about one answer. Its status says whether a row came of it (`kept`), only a count (`counted`), or
    /// nothing, as the same was said before (`duplicate`).
    pub(super) async fn feedback(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let heard = self.hear(request).await;
        heard.inspect_err(|refusal| self.metrics.feedback_refused(refusal.code()))
    }

    async fn hear(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let Some(feedback) = &self.feedback else { return Err(Refusal::no_feedback()) };
        let (owner, now) = (self.owner(request.headers()), SystemTime::now());
        if !feedback.admits(&owner, now) {
            return Err(Refusal::too_much_feedback());
        }
        let limits = Config { max_request_bytes: feedback.max_bytes(), ..self.config };
        let (_headers, body) = intake::collect(request, &limits).await?;
        let remark = Remark::read(body, &Limits::default())?;
        let unique = |id: &str| feedback.check(&self.seal, id, &owner, now).map_err(Refusal::from);
        let this = (unique(&remark.request_id)?, remark.choice);
        let other = match &remark.said {
            Said::Over { request_id, choice } => Some((request_id.as_deref().map_or(Ok(this.0), unique)?, *choice)),
            _ => None,
        };
        if other == Some(this) {
            return Err(Refusal::same_answer());
        }
        let status = self.join(feedback, &remark, this, other).await?;
        self.metrics.feedback(event(&remark.said), status);
        tracing::debug!(request_id = remark.request_id, event = event(&remark.said), status, "feedback");
        let said = json!({"object": "feedback", "request_id": remark.request_id, "status": status});
        Ok(refuse::json(StatusCode::OK, Body::whole(said.to_string())))
    }

    /// Makes a row where the exchange is kept. Everything that can be wrong is found before the word counts as said.
    async fn join(
        &self,
        feedback: &Feedback,
        remark: &Remark,
        this: Answer,
        other: Option<Answer>,
    ) -> Result<&'static str, Refusal> {
        let exchange = feedback.exchange(this.0);
        let row = match &exchange {
            Some(exchange) => self.row(feedback, remark, (this, exchange), other).await?,
            None => None,
        };
        let (id, given) = given(&remark.said, this, other);
        match feedback.take(id, given) {
            Taken::Again => return Ok("duplicate"),
            Taken::Otherwise => return Err(Refusal::said_otherwise()),
            Taken::Enough => return Err(Refusal::said_enough()),
            Taken::New => {}
        }
        let (Some(row), Some(exchange), Some(spool)) = (row, &exchange, &self.pairs) else { return Ok("counted") };
        let policy = self.policies.named(exchange.policy());
        let (policy, name) = (&policy.policy, exchange.policy());
        let claim = Claim {
            policy: name,
            principle: "feedback",
            user: exchange.user(),
            client: exchange.client(),
            limits: limits(policy),
        };
        if !spool.admit(&claim) {
            return Ok("counted");
        }
        spool.offer(row);
        Ok("kept")
    }

    /// The row that a word makes; none where it speaks neither for the answer nor against it, or half of it is not kept.
    async fn row(
        &self,
        feedback: &Feedback,
        remark: &Remark,
        ((_, choice), exchange): (Answer, &Exchange),
        other: Option<Answer>,
    ) -> Result<Option<pairs::Row>, Refusal> {
        if !exchange.has(choice) {
            return Err(Refusal::no_such_choice());
        }
        let clean = |text: &str| self.redaction.redact(text).unwrap_or_else(|| text.to_owned());
        let word = word(&remark.said, remark.comment.as_deref().map(clean));
        let row = match (&remark.said, other) {
            (Said::Demonstration(text), _) => {
                let better = self.judged(exchange, text).await?;
                exchange.bettered(choice, &clean(&better), word)
            }
            (Said::Over { .. }, Some((id, other_choice))) => {
                let Some(other) = feedback.exchange(id) else { return Ok(None) };
                if !other.has(other_choice) {
                    return Err(Refusal::no_such_choice());
                }
                if !exchange.asks_as(&other) {
                    return Err(Refusal::other_prompt());
                }
                exchange.preferred(choice, (&other, other_choice), word)
            }
            (said, _) => good(said).and_then(|label| exchange.rated(choice, label, word)),
        };
        match &row {
            Some(pairs::Row::Pair(pair)) if pair.chosen == pair.rejected => Err(Refusal::same_answer()),
            _ => Ok(row),
        }
    }

    /// A demonstration is held to what answers are held to: nobody teaches a model through this door what a rule forbids.
    async fn judged(&self, exchange: &Exchange, text: &str) -> Result<String, Refusal> {
        let occasion = Occasion::regardless(self.policies.named(exchange.policy()));
        let reply = Reply::of_text(text).map_err(Refusal::from)?;
        match self.guards.output(&occasion, reply).await?.outcome {
            Outcome::Pass(cleared) => {
                let cleared = cleared.into_inner().edited_answer(0);
                cleared.filter(|text| !text.trim().is_empty()).ok_or_else(Refusal::demonstration)
            }
            Outcome::Block(..) | Outcome::Revise(..) => Err(Refusal::demonstration()),
        }
    }

    /// Whether this request's exchange is kept for feedback.
    pub(super) fn listens(&self, trace: &Trace) -> bool {
        let share = trace.view.policy.pairs.feedback;
        self.feedback.is_some() && self.keeps(trace) && pairs::sampled(&trace.id, share)
    }

    /// Keeps an exchange, redacted, for what people will say of it.
    pub(super) fn listen(&self, answers: Vec<(u32, Value)>, asked: &Asked, trace: &Trace, course: Course) {
        let (Some(feedback), Some(id)) = (&self.feedback, Seal::unique(&trace.id)) else { return };
        let Some(draft) = self.draft_of(asked, trace, course) else { return };
        if !answers.is_empty() {
            let exchange = Exchange::new(draft, (answers, asked.client), &|text| self.redaction.redact(text));
            feedback.keep(id, &exchange, SystemTime::now(), &self.metrics);
        }
    }
}

/// The word for metrics and rows.
fn event(said: &Said) -> &'static str {
    match said {
        Said::Thumbs(true) => "thumbs_up",
        Said::Thumbs(false) => "thumbs_down",
        Said::Rating(_) => "rating",
        Said::Did(doing) => doing.as_str(),
        Said::Demonstration(_) => "demonstration",
        Said::Over { .. } => "preferred_over",
    }
}

fn word(said: &Said, comment: Option<String>) -> Word {
    let signal = if matches!(said, Said::Did(_)) { Signal::Implicit } else { Signal::Explicit };
    let rating = if let Said::Rating(rating) = said { Some(*rating) } else { None };
    Word { signal, event: event(said), rating, comment }
}

/// Whether a word speaks for the answer; nothing where it does not say.
fn good(said: &Said) -> Option<bool> {
    match said {
        Said::Thumbs(up) => Some(*up),
        Said::Rating(rating) if *rating >= GOOD => Some(true),
        Said::Rating(rating) if *rating <= BAD => Some(false),
        Said::Did(doing) => Some(doing.is_good()),
        Said::Rating(_) | Said::Demonstration(_) | Said::Over { .. } => None,
    }
}

/// What must not be said twice, and of which exchange. Which of two answers is better is one question, whichever of them
/// is asked about; each better answer is a thing of its own.
fn given(said: &Said, this: Answer, other: Option<Answer>) -> (u128, Given) {
    let bytes = |(id, choice): Answer| [id.to_le_bytes().as_slice(), choice.to_le_bytes().as_slice()].concat();
    let (about, choice) = (this.0, this.1.to_le_bytes());
    let given = match (said, other) {
        (Said::Over { .. }, Some(other)) => {
            let (first, second) = (this.min(other), this.max(other));
            return (first.0, Given::of(&[b"over", &bytes(first), &bytes(second)], &[&bytes(this)]));
        }
        (Said::Demonstration(text), _) => Given::of(&[b"demonstration", &choice, text.as_bytes()], &[]),
        (Said::Thumbs(up), _) => Given::of(&[b"thumbs", &choice], &[&[u8::from(*up)]]),
        (Said::Rating(rating), _) => Given::of(&[b"rating", &choice], &[&[*rating]]),
        (said, _) => Given::of(&[event(said).as_bytes(), &choice], &[]),
    };
    (about, given)
}
