//! Streamed answers: passed through where no rule looks, else released window by window.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};

use super::body::Body;
use super::keep::{Course, Kept, Reason};
use super::polish::Polished;
use super::record::Exchange;
use super::revise::{Case, Mended, Mending};
use super::whole::{self, Asked};
use super::{Gateway, Trace};
use crate::api::sse::{Frame, Framer};
use crate::api::{Event, Limits, Reply};
use crate::guard::{Cleared, Failure, Finding, Objection, Stage, State, StreamGuard};
use crate::upstream::{self, Answer};

/// Pieces that may wait for a slow client before the upstream is no longer read.
const AHEAD: usize = 4;
/// How long a client may leave its socket unread.
const WRITE_PATIENCE: Duration = Duration::from_mins(2);
/// How long the end of a finished upstream body is waited for.
const LAST_BYTES: Duration = Duration::from_millis(500);
/// How a stream came to its end.
enum End {
    Completed,
    Blocked(Finding),
    /// No rule objects, the critic does under a principle, and no revision was good.
    Unmended(u32, Option<usize>),
    ClientGone,
    Upstream(String),
    /// The upstream itself told the client, in the stream, that it failed.
    Told,
    Guard(Failure),
}

impl End {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Blocked(_) | Self::Unmended(..) => "blocked",
            Self::ClientGone => "client_gone",
            Self::Upstream(_) | Self::Told => "upstream_error",
            Self::Guard(_) => "guard_error",
        }
    }

    /// Which answer was refused, and why, where it is known.
    fn refused(&self) -> Option<(u32, Reason)> {
        match self {
            Self::Blocked(finding) => Some((finding.choice, Reason::Rule(finding.clone()))),
            Self::Unmended(choice, principle) => Some((*choice, Reason::Principle((*principle)?))),
            _ => None,
        }
    }
}

impl Gateway {
    /// Answers with a stream. What guards it lives in a task of its own, which ends with the client or the upstream.
    pub(super) fn stream(
        self: &Arc<Self>,
        answer: upstream::Response,
        (asked, client_headers): (Asked, HeaderMap),
        trace: &Trace,
        sent: Instant,
    ) -> Response<Body> {
        let headers = upstream::downstream_headers(&answer.headers);
        let compared = trace.beside.as_ref().is_some_and(|beside| beside.looks_at_output(&trace.view));
        let wanted = compared
            || trace.view.policy.revise.criticises_all(asked.dialect)
            || self.studies(&asked, trace)
            || self.listens(trace);
        if !trace.occasion.looks(Stage::Output) && !wanted {
            let body = Body::through(answer.body, Arc::clone(&trace.exchange));
            return whole::event_stream(answer.status, headers, body);
        }
        let (client, pieces) = mpsc::channel(AHEAD);
        let mut guard = StreamGuard::new(
            self.guards_for(trace.beside.as_ref()),
            trace.occasion.clone(),
            asked.dialect,
            asked.transcript.clone(),
        )
        .answering(asked.prompt.clone());
        if self.keeps(trace) {
            guard.remember();
        }
        let teller = trace.clone();
        guard.tell(move |finding, redacts| {
            let action = if redacts { "redact" } else { "audit" };
            teller.annotates(redacts).then(|| teller.notice(finding, Stage::Output, action).note())
        });
        let word = if guard.holds() { "hold" } else { "window" };
        let flow = Flow {
            upstream: answer.body,
            framer: Framer::default(),
            limits: asked.limits.clone(),
            guard,
            client,
            trace: trace.clone(),
            held: 0,
            heartbeat: Duration::from_millis(self.config.heartbeat_ms),
            desk: Arc::new(Desk { gateway: Arc::clone(self), asked, client: client_headers }),
            rows: Vec::new(),
        };
        tokio::spawn(flow.run(sent));
        let mut response = whole::event_stream(answer.status, headers, Body::Guarded(pieces));
        response.headers_mut().insert("x-guardrail-stream", HeaderValue::from_static(word));
        response
    }
}

/// One guarded stream under way.
struct Flow {
    upstream: Answer,
    framer: Framer,
    limits: Limits,
    guard: StreamGuard,
    client: mpsc::Sender<Bytes>,
    trace: Trace,
    held: usize,
    /// Silence after which a comment shows that the stream lives.
    heartbeat: Duration,
    desk: Arc<Desk>,
    /// What will be kept of it once it is over.
    rows: Vec<(Reason, Kept, bool)>,
}

/// What a revision works with.
struct Desk {
    gateway: Arc<Gateway>,
    asked: Asked,
    client: HeaderMap,
}

impl Flow {
    async fn run(mut self, sent: Instant) {
        let end = match self.pump().await {
            Ok(()) => End::Completed,
            Err(end) => end,
        };
        let upstream_failed = matches!(end, End::Upstream(_) | End::Told);
        self.trace.exchange.upstream_done(sent, if upstream_failed { "stream" } else { "" });
        self.trace.exchange.used(self.guard.usage());
        if let Some(tail) = self.tail(&end) {
            // A client that has left does not need its tail.
            let _gone = self.send(tail).await;
        }
        self.hold(0);
        self.trace.exchange.stream_ended(end.as_str());
        self.keep(&end);
        let judged = !matches!(end, End::Guard(_));
        self.desk.gateway.rollouts.compare(self.trace.beside.as_ref(), Stage::Output, judged);
        let Self { mut upstream, guard, client, .. } = self;
        guard.finish();
        // The client has everything, and is told so by this.
        drop(client);
        if let End::Completed = end {
            // Read to its very end, a connection can serve the next call; whatever else comes is nobody's.
            let _more = timeout(LAST_BYTES, upstream.chunk()).await;
        }
    }

    /// Reads, judges and releases until the upstream has ended or something ends the stream early.
    async fn pump(&mut self) -> Result<(), End> {
        let mut quiet_since = tokio::time::Instant::now();
        loop {
            let due = self.guard.deadline().map(tokio::time::Instant::from_std);
            let wake = due.unwrap_or(quiet_since + self.heartbeat).min(quiet_since + self.heartbeat);
            let ended = tokio::select! {
                () = self.client.closed() => return Err(End::ClientGone),
                chunk = self.upstream.chunk() => match chunk {
                    Some(Ok(chunk)) => self.take(&chunk)?,
                    Some(Err(error)) => {
                        // What came whole may still go, once it is judged; what follows says that the rest is missing.
                        self.guard.end();
                        self.release().await?;
                        return Err(End::Upstream(error.kind().to_owned()));
                    }
                    None => true,
                },
                () = sleep_until(wake) => false,
            };
            if ended {
                return self.finish().await;
            }
            if self.release().await? {
                quiet_since = tokio::time::Instant::now();
            } else if quiet_since.elapsed() >= self.heartbeat {
                self.send(Bytes::from_static(self.guard.transcript().heartbeat())).await?;
                quiet_since = tokio::time::Instant::now();
            }
        }
    }

    /// Gives a chunk's events to the guard. Says whether the stream has said its last word.
    fn take(&mut self, chunk: &Bytes) -> Result<bool, End> {
        self.framer.push(chunk);
        let mut last = false;
        while let Some(frame) = self.framer.next_frame().map_err(|e| End::Upstream(e.to_string()))? {
            last |= self.event(frame)?;
        }
        Ok(last)
    }

    fn event(&mut self, frame: Frame) -> Result<bool, End> {
        let dialect = self.guard.dialect();
        let event = Event::read(dialect, frame, &self.limits).map_err(|e| End::Upstream(e.to_string()))?;
        let last = event.terminal;
        self.guard.push(event, Instant::now()).map_err(End::Guard)?;
        Ok(last)
    }

    /// Everything has come: judge the rest, and hold the upstream to having ended properly.
    async fn finish(&mut self) -> Result<(), End> {
        if let Some(frame) = self.framer.finish().map_err(|e| End::Upstream(e.to_string()))? {
            self.event(frame)?;
        }
        self.guard.end();
        self.release().await?;
        let revising = *self.guard.state() == State::Revising;
        match (self.guard.complete(), self.guard.failed_upstream()) {
            (_, true) if revising || self.guard.waits() => {
                Err(End::Upstream("it failed in the middle of an answer".to_owned()))
            }
            (_, true) => Err(End::Told),
            (true, false) => {
                if revising {
                    self.mend().await?;
                }
                self.polish().await?;
                self.release().await.map(|_| ())
            }
            (false, false) => Err(End::Upstream("it ended in the middle of an answer".to_owned())),
        }
    }

    /// Has each answer that a rule objects to revised, and puts the revisions in; what cannot be mended is blocked.
    async fn mend(&mut self) -> Result<(), End> {
        for objection in self.guard.objections() {
            let finding = objection.finding.clone();
            let mended = if objection.spliceable { self.mended(&objection).await? } else { None };
            let Some(mended) = mended else { return Err(End::Blocked(finding)) };
            let notice = self.trace.notice(&finding, Stage::Output, "revise");
            let note = self.trace.annotates(true).then(|| notice.note());
            let revised = mended.text.clone();
            if self.guard.splice(finding.choice, mended.cleared, note).is_err() {
                return Err(End::Blocked(finding));
            }
            if !self.guard.has_tool_calls(finding.choice) {
                let (original, revised) = (objection.original.into(), revised.into());
                let kept = Kept::Revised { original, revised, critique: mended.critique };
                self.rows.push((Reason::Rule(finding), kept, objection.truncated));
            }
        }
        Ok(())
    }

    /// Has each answer that no rule objected to criticised, where the policy wants that of all. Nothing was released yet.
    async fn polish(&mut self) -> Result<(), End> {
        if !self.guard.waits() {
            return Ok(());
        }
        for (choice, original) in self.guard.unrevised() {
            let Ok(reply) = Reply::of_text(&original) else { continue };
            let (desk, trace) = (Arc::clone(&self.desk), self.trace.clone());
            let case = Case { reply: &reply, choice: 0, original: &original, shown: "", finding: None, shadow: false };
            let work = desk.gateway.polished(&case, (&desk.asked, &desk.client), &trace);
            let mended = match self.alive(work).await?.map_err(End::Guard)? {
                Polished::Kept => continue,
                Polished::Refused(principle) => return Err(End::Unmended(choice, principle)),
                Polished::Revised(mended) => *mended,
            };
            let revised = mended.text.clone();
            let note = trace.annotates(true).then(|| trace.principled(mended.principle, "revise").note());
            if self.guard.splice(choice, mended.cleared, note).is_err() {
                return Err(End::Unmended(choice, mended.principle));
            }
            if let (Some(principle), false) = (mended.principle, self.guard.has_tool_calls(choice)) {
                let (original, revised) = (original.into(), revised.into());
                let kept = Kept::Revised { original, revised, critique: mended.critique };
                self.rows.push((Reason::Principle(principle), kept, self.guard.is_truncated(choice)));
            }
        }
        self.guard.let_go();
        Ok(())
    }

    /// Work, with signs of life for the client meanwhile.
    async fn alive<T>(&mut self, work: impl Future<Output = T>) -> Result<T, End> {
        let mut work = std::pin::pin!(work);
        let mut beats = tokio::time::interval(self.heartbeat);
        beats.reset();
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                () = self.client.closed() => return Err(End::ClientGone),
                _ = beats.tick() => self.send(Bytes::from_static(self.guard.transcript().heartbeat())).await?,
            }
        }
    }

    /// The rounds, with signs of life for the client meanwhile.
    async fn mended(&mut self, objection: &Objection) -> Result<Option<Mended>, End> {
        let (desk, trace) = (Arc::clone(&self.desk), self.trace.clone());
        let Ok(reply) = Reply::of_text(&objection.original) else { return Ok(None) };
        let case = Case {
            reply: &reply,
            choice: 0,
            original: &objection.original,
            shown: &objection.shown,
            finding: Some(&objection.finding),
            shadow: false,
        };
        let work = desk.gateway.mend(&case, &desk.asked, &desk.client, &trace);
        match self.alive(work).await?.map_err(End::Guard)? {
            Mending::Done(mended) => Ok(Some(*mended)),
            _ => Ok(None),
        }
    }

    /// What a training team gets of it.
    fn keep(&mut self, end: &End) {
        let aborted = !matches!(end, End::Completed);
        if let Some((choice, reason)) = end.refused()
            && !self.guard.has_tool_calls(choice)
            && let Some(answer) = self.guard.said(choice)
        {
            self.rows.clear();
            self.rows.push((reason, Kept::Refused { answer: answer.into() }, self.guard.is_truncated(choice)));
        }
        let (desk, untouched) = (&self.desk, self.rows.is_empty() && !self.guard.has_tool_calls(0));
        let (truncated, failed_open) = (self.guard.is_truncated(0), self.guard.failed_open());
        let course = Course { aborted, truncated, failed_open, calls: false };
        if !aborted && untouched && desk.gateway.studies(&desk.asked, &self.trace) {
            desk.gateway.study(self.guard.said(0), (&desk.asked, &desk.client), &self.trace, course);
        }
        if end.refused().is_none() && !matches!(end, End::Guard(_)) && desk.gateway.listens(&self.trace) {
            // Without the calls that it came with, a text would teach something else.
            let answers = self.guard.answers().into_iter().filter(|(choice, _)| !self.guard.has_tool_calls(*choice));
            let answers = answers.map(|(choice, text)| (choice, json!({"role": "assistant", "content": text})));
            desk.gateway.listen(answers.collect(), &desk.asked, &self.trace, course);
        }
        let cut_off = aborted && !(end.as_str() == "blocked" && self.guard.complete());
        for (reason, kept, truncated) in self.rows.drain(..) {
            let course = Course { aborted: cut_off, truncated, ..course };
            self.desk.gateway.keep(&self.desk.asked, &self.trace, reason, kept, course);
        }
    }

    /// Judges what is due and sends what became free. Says whether anything was sent.
    async fn release(&mut self) -> Result<bool, End> {
        let freed = self.guard.settle(Instant::now()).await.map_err(End::Guard)?;
        self.hold(self.guard.held());
        let sent = !freed.is_empty();
        if let Some(bytes) = joined(freed) {
            self.send(bytes).await?;
        }
        match self.guard.state() {
            State::Open | State::Revising => Ok(sent),
            State::Blocked(finding) => Err(End::Blocked(finding.clone())),
        }
    }

    async fn send(&mut self, bytes: Bytes) -> Result<(), End> {
        match timeout(WRITE_PATIENCE, self.client.send(bytes)).await {
            Ok(Ok(())) => {
                self.trace.exchange.first_bytes();
                Ok(())
            }
            Ok(Err(_)) | Err(_) => Err(End::ClientGone),
        }
    }

    /// What ends the stream in its own dialect, where it does not end by itself.
    fn tail(&self, end: &End) -> Option<Bytes> {
        let transcript = self.guard.transcript();
        match end {
            End::Completed | End::ClientGone | End::Told => None,
            End::Blocked(finding) => {
                let notice = self.trace.notice(finding, Stage::Output, "block");
                Some(transcript.block_tail(&notice, self.trace.block_style()))
            }
            End::Unmended(_, principle) => {
                let notice = self.trace.principled(*principle, "block");
                Some(transcript.block_tail(&notice, self.trace.block_style()))
            }
            End::Upstream(reason) => {
                tracing::warn!(request_id = self.trace.id, reason, "an upstream's stream broke");
                let message = "The upstream's stream broke before its end.";
                Some(transcript.error_tail("upstream_stream_broken", message, &self.trace.id))
            }
            End::Guard(failure) => {
                tracing::warn!(request_id = self.trace.id, %failure, "a stream could not be judged");
                let message = "A guard that must judge this answer could not; the rest is withheld.";
                Some(transcript.error_tail("guardrail_unavailable", message, &self.trace.id))
            }
        }
    }

    fn hold(&mut self, bytes: usize) {
        let change = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.exchange().metrics().stream_holding(self.exchange().route(), change(bytes) - change(self.held));
        self.held = bytes;
    }

    fn exchange(&self) -> &Exchange {
        &self.trace.exchange
    }
}

/// One piece for the socket; a single event is not copied.
fn joined(freed: Vec<Cleared<Bytes>>) -> Option<Bytes> {
    let mut pieces = freed.into_iter().map(Cleared::into_inner);
    let first = pieces.next()?;
    let mut rest = pieces.peekable();
    if rest.peek().is_none() {
        return Some(first);
    }
    let mut all = BytesMut::from(&first[..]);
    rest.for_each(|piece| all.extend_from_slice(&piece));
    Some(all.freeze())
}
