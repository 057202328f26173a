//! Answers that arrive in one piece: judged, perhaps revised, and rendered.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::Value;

use super::body::Body;
use super::keep::Revision;
use super::refuse::{self, Refusal};
use super::{Gateway, Trace};
use crate::api::{BlockStyle, Call, Dialect, Limits, Reply, Transcript};
use crate::guard::{Finding, Outcome, Stage, View};
use crate::policy::{Action, Mode, OutputBlock};
use crate::revision::{Draft, Revised, Reviser};
use crate::telemetry::StageTimer;
use crate::upstream::{self, Upstream};

/// What was asked, as far as the answer needs to know.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) dialect: Dialect,
    pub(super) stream: bool,
    /// Of the answer to come, should it be streamed.
    pub(super) transcript: Transcript,
    pub(super) model: String,
    /// The conversation as the client sent it; kept only where a rule may revise.
    pub(super) conversation: Vec<Value>,
}

impl Asked {
    pub(super) fn of(call: &Call, view: &View) -> Self {
        let revises = view.policy.rules.iter().any(|rule| rule.action == Action::Revise && rule.mode == Mode::Enforce);
        Self {
            dialect: call.dialect(),
            stream: call.stream(),
            transcript: Transcript::of_call(call),
            model: call.model().to_owned(),
            conversation: if revises && !call.stream() { call.messages() } else { Vec::new() },
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
        upstream: &Upstream,
        answer: upstream::Response,
        asked: &Asked,
        client: &HeaderMap,
        trace: &Trace,
        sent: Instant,
    ) -> Result<Response<Body>, Refusal> {
        let (status, headers) = (answer.status, upstream::downstream_headers(&answer.headers));
        let body = self.read(answer).await;
        trace.exchange.upstream_done(sent, if status.is_success() && body.is_ok() { "" } else { "error" });
        let reply = reply(asked.dialect, status, body?)?;
        trace.exchange.used(reply.usage());
        let timer = StageTimer::start();
        let verdict = self.guards.output(&trace.view, reply).await?;
        timer.stop(&self.metrics, asked.dialect.route(), "guard_out");
        let findings = verdict.findings;
        let (reply, action) = match verdict.outcome {
            Outcome::Pass(reply) => {
                let redacted = trace.redacted(&findings);
                let mut reply = reply.into_inner();
                let finding = redacted.or(findings.first());
                if trace.annotates(redacted.is_some())
                    && let Some(finding) = finding
                {
                    reply.annotate(&trace.notice(
                        finding,
                        Stage::Output,
                        if redacted.is_some() { "redact" } else { "audit" },
                    ));
                }
                (reply, redacted.map(|_| "redact"))
            }
            Outcome::Block(reply, finding) => (trace.block(reply, &finding, &findings), Some("block")),
            Outcome::Revise(reply, finding) => {
                let reviser = Reviser {
                    upstream,
                    dialect: asked.dialect,
                    headers: client,
                    model: &asked.model,
                    settings: &trace.view.policy.revise,
                };
                self.revise(&reviser, reply, (finding, findings), asked, trace).await?
            }
        };
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

    /// The whole body, under the limit. Content codings were not asked for; an answer that has one cannot be read.
    async fn read(&self, answer: upstream::Response) -> Result<Bytes, Refusal> {
        let coding = answer.headers.get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok());
        if coding.is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) {
            return Err(Refusal::unreadable_answer("a content-encoding that was not asked for"));
        }
        let limit = self.config.max_answer_bytes;
        let mut body = answer.body;
        let mut bytes = bytes::BytesMut::new();
        while let Some(chunk) = body.chunk().await {
            bytes.extend_from_slice(&chunk?);
            if bytes.len() > limit {
                return Err(Refusal::unreadable_answer("it is larger than the limit for whole answers"));
            }
        }
        Ok(bytes.freeze())
    }

    /// One critique and revision, judged again; what still fails is refused.
    async fn revise(
        self: &Arc<Self>,
        reviser: &Reviser<'_>,
        reply: Reply,
        (finding, findings): (Finding, Vec<Finding>),
        asked: &Asked,
        trace: &Trace,
    ) -> Result<(Reply, Option<&'static str>), Refusal> {
        let started = Instant::now();
        let policy = &trace.view.policy;
        let principle = policy
            .rules
            .get(finding.rule)
            .and_then(|rule| rule.principle)
            .and_then(|index| policy.constitution.principles.get(index));
        let (Some(principle), Some(original)) = (principle, revisable(&reply, finding.choice)) else {
            self.metrics.revised(&policy.name, "failed", started.elapsed());
            return Ok((trace.block(reply, &finding, &findings), Some("block")));
        };
        let draft = Draft { conversation: &asked.conversation, answer: &original, principle };
        let (outcome, better) = match reviser.revise(&draft).await {
            Err(_logged) => ("failed", None),
            Ok(Revised { answer: None, .. }) => ("unchanged", None),
            Ok(Revised { answer: Some(answer), critique, .. }) => {
                let again =
                    self.guards.output(&trace.view, rewritten(asked.dialect, &reply, finding.choice, &answer)?).await?;
                match again.outcome {
                    Outcome::Pass(cleared) => ("accepted", Some((cleared.into_inner(), critique, answer))),
                    Outcome::Block(..) | Outcome::Revise(..) => ("still_violating", None),
                }
            }
        };
        self.metrics.revised(&policy.name, outcome, started.elapsed());
        let Some((mut accepted, critique, answer)) = better else {
            return Ok((trace.block(reply, &finding, &findings), Some("block")));
        };
        self.keep(asked, trace, &finding, Revision { original, revised: answer, critique: critique.why });
        if trace.annotates(true) {
            accepted.annotate(&trace.notice(&finding, Stage::Output, "revise"));
        }
        Ok((accepted, Some("revise")))
    }
}

/// The answer as a guard reads it. An upstream's error body is read as text throughout: it may quote the prompt.
fn reply(dialect: Dialect, status: StatusCode, body: Bytes) -> Result<Reply, Refusal> {
    let limits = Limits::default();
    let read =
        if status.is_success() { Reply::read(dialect, body, &limits) } else { Reply::read_any(dialect, body, &limits) };
    read.map_err(|error| Refusal::unreadable_answer(error.kind()))
}

/// The reply with another answer in it, read again so that every text of it is judged anew.
fn rewritten(dialect: Dialect, reply: &Reply, choice: u32, answer: &str) -> Result<Reply, Refusal> {
    let mut copy = reply.clone();
    copy.replace_answer(choice, answer);
    self::reply(dialect, StatusCode::OK, copy.into_body())
}

/// The text of an answer that can be rewritten. Tool calls are acts, which no rewriting of the text makes good.
fn revisable(reply: &Reply, choice: u32) -> Option<String> {
    if reply.has_tool_calls(choice) { None } else { reply.answer(choice).filter(|answer| !answer.trim().is_empty()) }
}

impl Trace {
    /// Ends every choice that a rule with consequences was hit in.
    fn block(&self, mut reply: Reply, finding: &Finding, findings: &[Finding]) -> Reply {
        let style = match self.view.policy.respond.on_output_block {
            OutputBlock::ContentFilter => BlockStyle::ContentFilter,
            OutputBlock::Refusal => BlockStyle::Refusal,
        };
        let choices: Vec<u32> = findings
            .iter()
            .filter(|finding| self.acts(finding, &[Action::Block, Action::Revise]))
            .map(|finding| finding.choice)
            .collect();
        let notice = self.notice(finding, Stage::Output, "block");
        reply.block(&choices, &notice, style);
        if self.annotates(true) {
            reply.annotate(&notice);
        }
        reply
    }

    /// The first finding of a rule that redacts in earnest.
    fn redacted<'a>(&self, findings: &'a [Finding]) -> Option<&'a Finding> {
        findings.iter().find(|finding| self.acts(finding, &[Action::Redact]))
    }

    fn acts(&self, finding: &Finding, actions: &[Action]) -> bool {
        let rule = self.view.policy.rules.get(finding.rule);
        rule.is_some_and(|rule| rule.mode == Mode::Enforce && actions.contains(&rule.action))
    }
}
