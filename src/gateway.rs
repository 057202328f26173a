//! The corridor: the life of one request, top to bottom.
//!
//! ```text
//! read -> policy snapshot (+ constitution) -> guard input -> upstream -> guard output (-> revision) -> render
//! ```
//! One snapshot is taken at the door and carried to the last byte. A block is an outcome; what is broken becomes an
//! error answer in `refuse`, in the client's own dialect.

mod aside;
mod body;
mod compare;
mod feedback;
mod intake;
mod keep;
mod page;
mod polish;
mod race;
mod record;
mod refuse;
mod revise;
mod rollout;
mod routes;
mod shadow;
mod status;
mod stream;
mod study;
mod whole;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::sync::Semaphore;

pub use body::Body;
use intake::Arrival;
use record::{Exchange, Party};
use refuse::Refusal;
pub use rollout::{Content, RolloutConfig, Rollouts};
pub use routes::{Kind, ROUTES, Route};

use crate::api::{Call, Dialect, Family, Limits, Notice, render};
use crate::guard::{
    About, Admission, Armed, Cleared, Finding, Guards, Occasion, Outcome, PatternSet, Stage, Tenant, View,
};
use crate::pairs::{Feedback, Seal, Spool};
use crate::policy::{Action, Annotate, Asking, Disclose, InputBlock, Key, Mode, Store};
use crate::telemetry::{Metrics, StageTimer};
use crate::upstream::{self, Provider, Upstream};

/// What requests and answers may measure.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Largest request body, decoded, in bytes.
    pub max_request_bytes: usize,
    /// Largest answer that is read as a whole, in bytes.
    pub max_answer_bytes: usize,
    /// Memory for verdicts of prompts, in bytes; 0 for none.
    pub ledger_bytes: usize,
    /// Milliseconds that a client may take to send its body.
    pub body_timeout_ms: u64,
    /// Milliseconds of silence after which a comment shows that a held stream lives.
    pub heartbeat_ms: u64,
    /// Second answers that may be drawn and judged at one time; 0 for none.
    pub comparisons: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_request_bytes: 10 * 1024 * 1024,
            max_answer_bytes: 16 * 1024 * 1024,
            ledger_bytes: 64 * 1024 * 1024,
            body_timeout_ms: 30_000,
            heartbeat_ms: 10_000,
            comparisons: 4,
        }
    }
}

/// Everything that one request meets on its way.
pub struct Gateway {
    /// Limits.
    pub config: Config,
    /// The policies, and which one is in force.
    pub policies: Arc<Store<Armed>>,
    /// Who judges.
    pub guards: Guards,
    /// One upstream a dialect.
    pub upstreams: Vec<Upstream>,
    /// Where preference pairs go, if they are kept.
    pub pairs: Option<Spool>,
    /// What request ids are sealed with.
    pub seal: Seal,
    /// Exchanges that people may rate, if they may.
    pub feedback: Option<Feedback>,
    /// What keeps personal data out of preference pairs, whatever the policy redacts.
    pub redaction: PatternSet,
    /// Second opinions on requests whose policy is being rolled out.
    pub rollouts: Rollouts,
    /// Places for second answers that are drawn and judged.
    pub comparisons: Arc<Semaphore>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether new traffic is wanted.
    pub readiness: AtomicBool,
    /// Holders of a route's token are its requests under way.
    pub presence: HashMap<&'static str, Arc<()>>,
}

/// The row that a request is for, and the path and query with which it would go up; else the status it is refused with.
pub fn resolve<B>(request: &Request<B>) -> Result<(&'static Route, PathAndQuery), StatusCode> {
    intake::arrive(request).map(|arrival| (arrival.route, arrival.target)).map_err(|refusal| refusal.status())
}

impl Gateway {
    /// Answers one request. Never fails: what is wrong is said in the answer.
    pub async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let started = Instant::now();
        let id = self.seal.issue(&self.owner(request.headers()));
        let (dialect, method) = (intake::dialect_of(&request), intake::method_of(&request));
        let (outcome, route) = match intake::arrive(&request) {
            Ok(arrival) => (self.exchange(&arrival, request, &id, started).await, arrival.name()),
            Err(refusal) => {
                let route = refusal.route();
                (Err(refusal), route)
            }
        };
        let mut response = outcome.unwrap_or_else(|refusal| {
            tracing::info!(request_id = id, route, status = refusal.status().as_u16(), "refused");
            refusal.into_response(dialect, &id)
        });
        let name = match dialect.family() {
            Family::OpenAi => "x-request-id",
            Family::Anthropic => "request-id",
        };
        if let Ok(value) = HeaderValue::try_from(id) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
        self.metrics.answered(route, method, response.status().as_u16());
        response
    }

    async fn exchange(
        self: &Arc<Self>,
        arrival: &Arrival,
        request: Request<Incoming>,
        id: &str,
        started: Instant,
    ) -> Result<Response<Body>, Refusal> {
        let dialect = arrival.dialect;
        if matches!(arrival.route.kind, Kind::Feedback(_)) {
            return self.feedback(request).await;
        }
        if matches!(arrival.route.kind, Kind::Declared(..)) {
            return self.list(arrival, request, id, started).await;
        }
        match dialect {
            Dialect::OpenAiModerations => return self.moderate(request, id, started).await,
            Dialect::OpenAiModels | Dialect::AnthropicModels => return self.list(arrival, request, id, started).await,
            _ => {}
        }
        let upstream = self.upstream(arrival.route.provider)?;
        let (mut head, body) = intake::collect(request, &self.config).await?;
        if let Some(sdk) = intake::retried_by(&head) {
            self.metrics.client_retried(sdk);
        }
        let timer = StageTimer::start();
        let deployment = arrival.deployment.clone();
        let limits = Limits { deployment, defer_stored: true, ..Limits::default() };
        let mut call = Call::read(dialect, body, &limits)
            .inspect_err(|error| self.metrics.unscannable(dialect.route(), error.kind()))?;
        let key = intake::client_key(&head).map(Key::Sent);
        let tenant = self.tenant(key, &head)?;
        let (route, model, named) = (dialect.route(), call.model(), tenant.as_deref());
        let asking = Asking { route, model, key, tenant: named, headers: Some(&head) };
        let assigned = self.policies.assign(&asking, |by| rollout::identity(by, key, &call, id));
        let view = assigned.snapshot;
        if let Some(error) = call.undeclared(&view.policy.stored_state) {
            self.metrics.unscannable(dialect.route(), error.kind());
            return Err(error.clone().into());
        }
        call.inject(&view.policy.constitution.text, view.policy.inject.inject());
        timer.stop(&self.metrics, dialect.route(), "parse");
        let sharing = sharing(upstream, tenant.as_deref(), &head);
        let about = About::of(&call, &view, sharing, tenant.as_deref());
        let beside = assigned.placed.and_then(|placed| self.rollouts.enter(placed, id, (&call, &about)));
        let exchange = Arc::new(self.record(&view, upstream, &call, started).of(self.party(tenant, &view)));
        let unseen = call.has_unseen();
        let occasion = Occasion::new(view, about, id);
        self.policies.headers().for_each(|ours| drop(head.remove(ours)));
        let call = match self.guards.admit(&occasion, call) {
            Admission::Race(raced) => {
                return self.race((upstream, &arrival.target), raced, head, (occasion, exchange, id, beside)).await;
            }
            Admission::Gate(call) => call,
        };
        let timer = StageTimer::start();
        let verdict = self.guards_for(beside.as_ref()).input(&occasion, call).await;
        self.rollouts.compare(beside.as_ref(), Stage::Input, verdict.is_ok());
        let verdict = verdict?;
        timer.stop(&self.metrics, dialect.route(), "guard_in");
        let (failed_open, replayed) = (verdict.failed_open, verdict.replayed > 0);
        let trace = Trace {
            input: verdict.findings,
            failed_open,
            replayed,
            unseen,
            beside,
            ..Trace::new(occasion, exchange, id)
        };
        let mut response = match verdict.outcome {
            Outcome::Block(call, finding) | Outcome::Revise(call, finding) => trace.input_blocked(&call, &finding),
            Outcome::Pass(call) => self.forward(upstream, &arrival.target, call, head, &trace).await?,
        };
        trace.head(&mut response);
        Ok(response)
    }

    /// Sends a cleared call up, and takes the answer to where its kind is judged.
    async fn forward(
        self: &Arc<Self>,
        upstream: &Upstream,
        target: &PathAndQuery,
        call: Cleared<Call>,
        headers: HeaderMap,
        trace: &Trace,
    ) -> Result<Response<Body>, Refusal> {
        let call = call.into_inner();
        let owner = self.owner(&headers);
        let mut asked = whole::Asked::of(&call, &trace.view, self.keeps(trace)).by(&owner);
        let body = call.into_body();
        asked.expect_echo(&body);
        asked.sent = self.to_compare(trace, target, &body);
        let sent = Instant::now();
        let answer = upstream.send(target, &headers, body).await;
        self.receive(answer, (asked, headers), (trace, sent)).await
    }

    /// Takes an upstream's answer to where its kind is judged.
    async fn receive(
        self: &Arc<Self>,
        answer: Result<upstream::Response, upstream::Error>,
        (asked, headers): (whole::Asked, HeaderMap),
        (trace, sent): (&Trace, Instant),
    ) -> Result<Response<Body>, Refusal> {
        let answer = answer.inspect_err(|error| trace.exchange.upstream_done(sent, error.kind()))?;
        if whole::is_event_stream(&answer.headers) {
            if !asked.stream {
                return Err(Refusal::unreadable_answer("an event stream where none was asked for"));
            }
            return Ok(self.stream(answer, (asked, headers), trace, sent));
        }
        self.whole(answer, &asked, &headers, trace, sent).await
    }

    /// Who may speak of a request later: its tenant, or whoever has the client's key.
    fn owner(&self, headers: &HeaderMap) -> Vec<u8> {
        let key = intake::client_key(headers);
        match self.policies.tenants().of(key.map(Key::Sent), headers) {
            Some(tenant) => [b"tenant ", tenant.as_bytes()].concat(),
            None => [b"key ", key.unwrap_or_default()].concat(),
        }
    }

    /// Whose request it is. One that says so twice could be read in two ways, and a policy may hang on it.
    fn tenant(&self, key: Option<Key<'_>>, headers: &HeaderMap) -> Result<Option<Arc<str>>, Refusal> {
        if self.policies.headers().any(|name| headers.get_all(name).iter().nth(1).is_some()) {
            return Err(Refusal::malformed("A header that chooses the policy must be sent once."));
        }
        Ok(self.policies.tenants().of(key, headers).map(Arc::from))
    }

    fn party(&self, tenant: Option<Arc<str>>, view: &View) -> Party {
        let counted = self.policies.tenants().metrics.then(|| view.policy.name.clone());
        Party { tenant, counted }
    }

    fn upstream(&self, provider: Provider) -> Result<&Upstream, Refusal> {
        let found = self.upstreams.iter().find(|upstream| upstream.provider() == provider && !upstream.is_aside());
        found.ok_or_else(|| Refusal::no_upstream(provider.as_str()))
    }

    fn record(&self, view: &View, upstream: &Upstream, call: &Call, started: Instant) -> Exchange {
        let known = view.policy.models.iter().find(|model| *model == call.model());
        let model = known.map_or("other", String::as_str);
        let presence = self.presence.get(call.dialect().route()).cloned().unwrap_or_default();
        Exchange::new(&self.metrics, &presence, call.dialect(), upstream.name(), model, started)
    }

    /// The same of a request that names no model.
    fn note(&self, dialect: Dialect, provider: &str, started: Instant) -> Exchange {
        let presence = self.presence.get(dialect.route()).cloned().unwrap_or_default();
        Exchange::new(&self.metrics, &presence, dialect, provider, "other", started)
    }

    /// What is counted; requests under way are counted here and now.
    pub fn metrics(&self) -> &Metrics {
        for (route, token) in &self.presence {
            self.metrics.inflight(route, Arc::strong_count(token) - 1);
        }
        &self.metrics
    }

    /// Whether new traffic should be sent here.
    pub fn ready(&self) -> bool {
        self.readiness.load(Ordering::Relaxed)
    }

    /// Says from now on whether new traffic should be sent here.
    pub fn set_ready(&self, ready: bool) {
        self.readiness.store(ready, Ordering::Relaxed);
        self.metrics.ready(ready);
    }
}

/// What one request carries from stage to stage.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    view: View,
    /// What the rules know of the request.
    occasion: Occasion,
    exchange: Arc<Exchange>,
    id: String,
    /// What the rules found in the prompt.
    input: Vec<Finding>,
    /// A guard could not judge the prompt, and its rule let it pass.
    failed_open: bool,
    /// Whether earlier turns were taken out of it.
    replayed: bool,
    /// It stands on text that the provider keeps and nobody here has seen; its rows would lie.
    unseen: bool,
    /// The roll-out whose other policy judges it, too.
    beside: Option<Arc<rollout::Beside>>,
}

impl Trace {
    /// Of a request without a prompt.
    fn new(occasion: Occasion, exchange: Arc<Exchange>, id: &str) -> Self {
        let (view, id) = (Arc::clone(occasion.view()), id.to_owned());
        let (input, failed_open, replayed, unseen, beside) = (Vec::new(), false, false, false, None);
        Self { view, occasion, exchange, id, input, failed_open, replayed, unseen, beside }
    }

    /// What a client is told about a finding, as far as the policy lets it.
    fn notice<'a>(&'a self, finding: &'a Finding, stage: Stage, action: &'static str) -> Notice<'a> {
        let policy = &self.view.policy;
        let rule = policy.rules.get(finding.rule);
        let full = policy.respond.disclose == Disclose::Full;
        Notice {
            policy: &policy.name,
            revision: &policy.revision,
            rule: rule.map_or("", |rule| &rule.id),
            stage: stage.as_str(),
            action,
            score: finding.score.filter(|_| full),
            threshold: finding.threshold.filter(|_| full),
            message: rule.and_then(|rule| rule.message.as_deref()).unwrap_or(&policy.respond.message),
            request_id: &self.id,
            annotate: self.annotates(true),
        }
    }

    fn annotates(&self, acted: bool) -> bool {
        let respond = &self.view.policy.respond;
        match respond.annotate {
            _ if respond.disclose == Disclose::None => false,
            Annotate::None => false,
            Annotate::OnAction => acted,
            Annotate::Always => true,
        }
    }

    fn input_blocked(&self, call: &Call, finding: &Finding) -> Response<Body> {
        let notice = self.notice(finding, Stage::Input, "block");
        let mut response = match self.view.policy.respond.on_input_block {
            _ if !call.dialect().is_answered() => refuse::blocked(call.dialect(), &notice),
            InputBlock::Error => refuse::blocked(call.dialect(), &notice),
            InputBlock::Refusal if call.stream() => {
                let body = Body::whole(render::refusal_stream(call, &notice));
                whole::event_stream(StatusCode::OK, HeaderMap::new(), body)
            }
            InputBlock::Refusal => refuse::json(StatusCode::OK, Body::whole(render::refusal(call, &notice))),
        };
        response.headers_mut().insert("x-guardrail-action", HeaderValue::from_static("block"));
        self.exchange.refused();
        response
    }

    /// The headers that every guarded answer bears.
    fn head(&self, response: &mut Response<Body>) {
        let policy = &self.view.policy;
        if policy.respond.disclose == Disclose::None {
            response.headers_mut().remove("x-guardrail-action");
            return;
        }
        if let Ok(value) = HeaderValue::try_from(format!("{};rev={}", policy.name, policy.revision)) {
            response.headers_mut().insert("x-guardrail-policy", value);
        }
        if !response.headers().contains_key("x-guardrail-action") {
            let mut rules = self.input.iter().filter_map(|finding| policy.rules.get(finding.rule));
            let redacted = rules.any(|rule| rule.action == Action::Redact && rule.mode == Mode::Enforce);
            let word = if redacted || self.replayed { "redact" } else { "allow" };
            response.headers_mut().insert("x-guardrail-action", HeaderValue::from_static(word));
        }
    }
}

/// Whose verdicts a request may share: its tenant's; without one, everybody's where the upstream's key is ours, else those
/// of the client's key.
fn sharing(upstream: &Upstream, tenant: Option<&str>, headers: &HeaderMap) -> Tenant {
    if let Some(name) = tenant {
        return Tenant::named(name);
    }
    if upstream.has_own_key() {
        return Tenant::SHARED;
    }
    let keys = ["authorization", "x-api-key"].map(|name| headers.get(name).map_or(&b""[..], HeaderValue::as_bytes));
    Tenant::of_key(&keys.join(&b'\n'))
}
