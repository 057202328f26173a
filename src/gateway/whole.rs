//! Answers that arrive in one piece: judged, perhaps revised, and rendered.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::Value;

use super::body::Body;
use super::compare::Sent;
use super::keep::{Course, Kept, Reason};
use super::refuse::{self, Refusal};
use super::revise::{Case, Mending};
use super::{Gateway, Trace};
use crate::api::{Call, Dialect, Echo, Ground, Limits, Origin, Reply, Segment, Transcript};
use crate::guard::{Finding, Outcome, Stage, View};
use crate::pairs::Said;
use crate::policy::{Action, Mode, OnStream};
use crate::telemetry::StageTimer;
use crate::upstream;

/// What was asked, as far as the answer needs to know.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) dialect: Dialect,
    pub(super) stream: bool,
    /// Of the answer to come, should it be streamed.
    pub(super) transcript: Transcript,
    pub(super) model: String,
    /// How the answer is read.
    pub(super) limits: Limits,
    /// What was asked; kept only where a rule may revise or a row may be kept.
    pub(super) ground: Option<Ground>,
    /// How it went up, where a second answer is to be drawn.
    pub(super) sent: Option<Sent>,
    /// The end of what the user said last, where the policy has it seen with the answer.
    pub(super) prompt: String,
    /// Whom the client names as its user, where a row may be kept.
    pub(super) user: Option<String>,
    /// A hash of the tenant or of the client's key.
    pub(super) client: u64,
}

impl Asked {
    /// `keeps` says whether rows of this request are kept.
    pub(super) fn of(call: &Call, view: &View, keeps: bool) -> Self {
        let acts = |action: Action| {
            let mut rules = view.policy.rules.iter().filter(|rule| rule.mode == Mode::Enforce && rule.stages.output);
            rules.any(|rule| rule.action == action)
        };
        let revises = acts(Action::Revise) && !(call.stream() && view.policy.revise.on_stream == OnStream::Block);
        let pairs = &view.policy.pairs;
        let aside = view.policy.revise.shadow > 0.0 || pairs.feedback > 0.0 || pairs.compare.rate > 0.0;
        let kept = acts(Action::Block) || acts(Action::Revise) || aside;
        let always = view.policy.revise.criticises_all(call.dialect());
        let needed = revises || always || keeps && kept;
        Self {
            stream: call.stream(),
            model: call.model().to_owned(),
            ground: needed.then(|| call.ground()),
            prompt: prompt(call, view),
            user: keeps.then(|| call.user()).flatten(),
            ..Self::new(call.dialect(), Transcript::of_call(call))
        }
    }
}

/// The end of what the user said last, as much of it as the policy has seen before each window of a stream.
fn prompt(call: &Call, view: &View) -> String {
    let most = usize::try_from(view.policy.stream.prompt_chars).unwrap_or(usize::MAX);
    let Some(before) = most.checked_sub(1).filter(|_| call.stream()) else { return String::new() };
    let last = call.segments().iter().rev().find(|segment| segment.origin == Origin::User);
    let text = last.map(|segment| segment.text.as_str()).unwrap_or_default();
    let from = text.char_indices().nth_back(before).map_or(0, |(at, _)| at);
    text[from..].to_owned()
}

impl Asked {
    /// The same, sent by somebody.
    pub(super) fn by(self, owner: &[u8]) -> Self {
        let mut eight = [0; 8];
        blake3::Hasher::new_derive_key("wardline client of pairs v1").update(owner).finalize_xof().fill(&mut eight);
        Self { client: u64::from_le_bytes(eight), ..self }
    }

    /// Responses repeat the request that went up; what they repeat is no text of the model's.
    pub(super) fn expect_echo(&mut self, sent: &Bytes) {
        if self.dialect == Dialect::OpenAiResponses {
            self.limits.echo = Echo::of(sent);
        }
    }

    /// A request without a body.
    pub(super) fn list(dialect: Dialect) -> Self {
        Self::new(dialect, Transcript::new(dialect, false))
    }

    fn new(dialect: Dialect, transcript: Transcript) -> Self {
        Self {
            dialect,
            stream: false,
            transcript,
            model: String::new(),
            limits: Limits::default(),
            ground: None,
            prompt: String::new(),
            sent: None,
            user: None,
            client: 0,
        }
    }
}

/// Whether an answer is a stream of server-sent events.
pub(super) fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// A response that is a stream of server-sent events.
pub(super) fn event_stream(status: StatusCode, mut headers: HeaderMap, body: Body) -> Response<Body> {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

impl Gateway {
    /// Reads an answer as a whole and judges it.
    pub(super) async fn whole(
        self: &Arc<Self>,
        answer: upstream::Response,
        asked: &Asked,
        client: &HeaderMap,
        trace: &Trace,
        sent: Instant,
    ) -> Result<Response<Body>, Refusal> {
        let (status, headers) = (answer.status, upstream::downstream_headers(&answer.headers));
        let body = self.read(answer).await;
        trace.exchange.upstream_done(sent, if status.is_success() && body.is_ok() { "" } else { "error" });
        let reply = reply(asked.dialect, status, body?, &asked.limits)?;
        trace.exchange.used(reply.usage());
        let timer = StageTimer::start();
        let verdict = self.guards_for(trace.beside.as_ref()).output(&trace.occasion, reply).await;
        self.rollouts.compare(trace.beside.as_ref(), Stage::Output, verdict.is_ok());
        let verdict = verdict?;
        timer.stop(&self.metrics, asked.dialect.route(), "guard_out");
        let (findings, failed_open) = (verdict.findings, verdict.failed_open);
        let mut revised = None;
        let (mut reply, mut action) = match verdict.outcome {
            Outcome::Pass(reply) => {
                let mut reply = reply.into_inner();
                let action = trace.found(&mut reply, &findings);
                (reply, action)
            }
            Outcome::Block(..) | Outcome::Revise(..) if !asked.dialect.is_answered() => return Err(Refusal::withheld()),
            Outcome::Block(reply, finding) => {
                self.keep_refused(&reply, &finding, failed_open, asked, trace);
                (trace.block(reply, &finding, &findings), Some("block"))
            }
            Outcome::Revise(reply, finding) => {
                revised = Some(finding.choice);
                self.revise(reply, (finding, findings), failed_open, (asked, client), trace).await?
            }
        };
        if status.is_success() && action != Some("block") && trace.view.policy.revise.criticises_all(asked.dialect) {
            let done;
            (reply, done) = self.polish(reply, (revised, failed_open), (asked, client), trace).await?;
            action = done.or(action);
        }
        if status.is_success() && action != Some("block") && self.listens(trace) {
            let (answers, calls) = answers(&reply);
            let course = Course { truncated: reply.is_truncated(0), failed_open, calls, ..Course::default() };
            self.listen(answers, asked, trace, course);
        }
        let untouched = status.is_success() && !matches!(action, Some("block" | "revise"));
        if untouched && self.studies(asked, trace) && !reply.has_tool_calls(0) {
            let course = Course { truncated: reply.is_truncated(0), failed_open, ..Course::default() };
            self.study(reply.edited_answer(0), (asked, client), trace, course);
        }
        let timer = StageTimer::start();
        let mut response = refuse::json(status, Body::whole(reply.into_body()));
        response.headers_mut().extend(headers.into_iter().filter(|(name, _)| *name != Some(header::CONTENT_TYPE)));
        if let Some(action) = action {
            response.headers_mut().insert("x-guardrail-action", HeaderValue::from_static(action));
        }
        timer.stop(&self.metrics, asked.dialect.route(), "serialize");
        trace.exchange.served(if status.is_success() { "" } else { "upstream" });
        Ok(response)
    }

    /// An answer that nothing good was made of is half a pair.
    fn keep_refused(
        self: &Arc<Self>,
        reply: &Reply,
        finding: &Finding,
        failed_open: bool,
        asked: &Asked,
        trace: &Trace,
    ) {
        if !self.keeps(trace) {
            return;
        }
        if let Some(answer) = said_in(reply, finding.choice) {
            let course = Course { truncated: reply.is_truncated(finding.choice), failed_open, ..Course::default() };
            self.keep(asked, trace, Reason::Rule(finding.clone()), Kept::Refused { answer }, course);
        }
    }

    /// The whole body, under the limit. Content codings were not asked for; an answer that has one cannot be read.
    async fn read(&self, answer: upstream::Response) -> Result<Bytes, Refusal> {
        let coding = answer.headers.get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok());
        if coding.is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) {
            return Err(Refusal::unreadable_answer("a content-encoding that was not asked for"));
        }
        let mut body = answer.body;
        let whole = body.whole(self.config.max_answer_bytes).await?;
        whole.ok_or_else(|| Refusal::unreadable_answer("it is larger than the limit for whole answers"))
    }

    /// Critique and revision, judged again; what still fails is refused.
    async fn revise(
        self: &Arc<Self>,
        reply: Reply,
        (finding, findings): (Finding, Vec<Finding>),
        failed_open: bool,
        (asked, client): (&Asked, &HeaderMap),
        trace: &Trace,
    ) -> Result<(Reply, Option<&'static str>), Refusal> {
        let mended = if let Some(original) = revisable(&reply, &finding, &findings, trace) {
            let case = Case {
                reply: &reply,
                choice: finding.choice,
                original: &original,
                shown: "",
                finding: Some(&finding),
                shadow: false,
            };
            self.mend(&case, asked, client, trace).await?
        } else {
            self.metrics.revised(&trace.view.policy.name, "failed", Duration::ZERO);
            Mending::Bad(None)
        };
        let Mending::Done(mended) = mended else {
            self.keep_refused(&reply, &finding, failed_open, asked, trace);
            return Ok((trace.block(reply, &finding, &findings), Some("block")));
        };
        let mut accepted = mended.cleared.into_inner();
        let both = (said_in(&reply, finding.choice), said_in(&accepted, finding.choice));
        if let (Some(original), Some(revised)) = both {
            let course = Course { truncated: reply.is_truncated(finding.choice), failed_open, ..Course::default() };
            let kept = Kept::Revised { original, revised, critique: mended.critique };
            self.keep(asked, trace, Reason::Rule(finding.clone()), kept, course);
        }
        if trace.annotates(true) {
            accepted.annotate(&trace.notice(&finding, Stage::Output, "revise"));
        }
        Ok((accepted, Some("revise")))
    }
}

/// The answers that the client gets, by choice, as messages; and whether one of them calls tools.
fn answers(reply: &Reply) -> (Vec<(u32, Value)>, bool) {
    let said = choices(reply, &[Origin::Output, Origin::ToolArgs]);
    let said: Vec<(u32, Said)> =
        said.into_iter().filter_map(|choice| Some((choice, said_in(reply, choice)?))).collect();
    let calls = said.iter().any(|(_, said)| !said.calls.is_empty());
    (said.into_iter().map(|(choice, said)| (choice, said.message())).collect(), calls)
}

/// The choices that have a text of one of these origins.
pub(super) fn choices(reply: &Reply, origins: &[Origin]) -> BTreeSet<u32> {
    let texts = reply.segments().iter().filter(|segment| origins.contains(&segment.origin));
    texts.map(|text| text.choice).filter(|choice| *choice != Segment::WHOLE).collect()
}

/// One answer as the client gets it, with the tools that it calls. Nothing where there is none, or where a call has no place
/// in a row: text without the calls that it came with would teach something else.
pub(super) fn said_in(reply: &Reply, choice: u32) -> Option<Said> {
    let (text, calls) = (reply.edited_answer(choice).unwrap_or_default(), reply.tool_calls(choice)?);
    (!text.trim().is_empty() || !calls.is_empty()).then_some(Said { text, calls })
}

/// The answer as a guard reads it. An upstream's error body is read as text throughout: it may quote the prompt.
fn reply(dialect: Dialect, status: StatusCode, body: Bytes, limits: &Limits) -> Result<Reply, Refusal> {
    let read =
        if status.is_success() { Reply::read(dialect, body, limits) } else { Reply::read_any(dialect, body, limits) };
    read.map_err(|error| Refusal::unreadable_answer(error.kind()))
}

/// The text of an answer that can be rewritten, with its tool calls left as they are. A tool call is an act, which no
/// rewriting of the text makes good: where a rule objects to one, the answer is refused as a whole.
fn revisable(reply: &Reply, finding: &Finding, findings: &[Finding], trace: &Trace) -> Option<String> {
    let mut calls = reply.segments().iter().filter(|segment| segment.origin == Origin::ToolArgs);
    let acts = |place: &str| {
        let mut acting = findings.iter().filter(|finding| trace.acts(finding, &[Action::Revise, Action::Block]));
        acting.any(|finding| finding.place == place)
    };
    if calls.any(|call| call.choice == finding.choice && acts(&call.place)) {
        return None;
    }
    reply.answer(finding.choice).filter(|answer| !answer.trim().is_empty())
}

impl Trace {
    /// Ends every choice that a rule with consequences was hit in.
    fn block(&self, mut reply: Reply, finding: &Finding, findings: &[Finding]) -> Reply {
        let choices: Vec<u32> = findings
            .iter()
            .filter(|finding| self.acts(finding, &[Action::Block, Action::Revise]))
            .map(|finding| finding.choice)
            .collect();
        let notice = self.notice(finding, Stage::Output, "block");
        reply.block(&choices, &notice, self.block_style());
        if self.annotates(true) {
            reply.annotate(&notice);
        }
        reply
    }

    /// Notes on an answer that passes what was found in it; says what was done to it.
    fn found(&self, reply: &mut Reply, findings: &[Finding]) -> Option<&'static str> {
        let redacted = findings.iter().find(|finding| self.acts(finding, &[Action::Redact]));
        if let Some(finding) = redacted.or(findings.first()).filter(|_| self.annotates(redacted.is_some())) {
            let word = if redacted.is_some() { "redact" } else { "audit" };
            reply.annotate(&self.notice(finding, Stage::Output, word));
        }
        redacted.map(|_| "redact")
    }

    fn acts(&self, finding: &Finding, actions: &[Action]) -> bool {
        let rule = self.view.policy.rules.get(finding.rule);
        rule.is_some_and(|rule| rule.mode == Mode::Enforce && !finding.warning && actions.contains(&rule.action))
    }
}
