//! What is served beside the corridor: lists of models, scores of our own classifier, answers that are numbers.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;

use super::body::Body;
use super::intake::{self, Arrival};
use super::refuse::{self, Refusal};
use super::whole::Asked;
use super::{Gateway, Trace};
use crate::api::{Call, Dialect, Limits, render};
use crate::policy::{Asking, Key};
use crate::telemetry::StageTimer;
use crate::upstream;

/// Who is counted as the provider of what this process says itself.
const OURSELVES: &str = "wardline";

impl Gateway {
    /// Answers a request for moderation in `OpenAI`'s shape, from our own classifier. No policy has a part in it.
    pub(super) async fn moderate(
        &self,
        request: Request<Incoming>,
        id: &str,
        started: Instant,
    ) -> Result<Response<Body>, Refusal> {
        let dialect = Dialect::OpenAiModerations;
        let (head, body) = intake::collect(request, &self.config).await?;
        if let Some(sdk) = intake::retried_by(&head) {
            self.metrics.client_retried(sdk);
        }
        let call = Call::read(dialect, body, &Limits::default())
            .inspect_err(|error| self.metrics.unscannable(dialect.route(), error.kind()))?;
        let exchange = self.note(dialect, OURSELVES, started);
        let timer = StageTimer::start();
        let assessed = self.guards.assess(call.inputs()).await?.ok_or_else(Refusal::no_classifier)?;
        timer.stop(&self.metrics, dialect.route(), "guard_in");
        let name = self.guards.model().map_or("", |(name, ..)| name);
        let response = refuse::json(StatusCode::OK, Body::whole(render::moderations(id, name, &assessed)));
        exchange.served("");
        Ok(response)
    }

    /// Asks the provider for models. No prompt goes up; what comes down is judged like any answer.
    pub(super) async fn list(
        self: &Arc<Self>,
        arrival: &Arrival,
        request: Request<Incoming>,
        id: &str,
        started: Instant,
    ) -> Result<Response<Body>, Refusal> {
        let upstream = self.upstream(arrival.route.provider)?;
        // A body that may come with it goes nowhere.
        let mut headers = request.into_parts().0.headers;
        let key = intake::client_key(&headers).map(Key::Sent);
        let tenant = self.tenant(key, &headers)?;
        let (route, named) = (arrival.dialect.route(), tenant.as_deref());
        let view = self.policies.select(&Asking { route, model: "", key, tenant: named, headers: Some(&headers) });
        self.policies.headers().for_each(|ours| drop(headers.remove(ours)));
        let exchange = Arc::new(self.note(arrival.dialect, upstream.name(), started).of(self.party(tenant, &view)));
        let trace = Trace { view, exchange, id: id.to_owned(), input: Vec::new(), failed_open: false, replayed: false };
        let sent = Instant::now();
        let answer = upstream.get(&arrival.target, &headers).await;
        let answer = answer.inspect_err(|error| trace.exchange.upstream_done(sent, error.kind()))?;
        let asked = Asked::list(arrival.dialect);
        let mut response = self.whole(answer, &asked, &headers, &trace, sent).await?;
        trace.head(&mut response);
        Ok(response)
    }
}

/// An answer that is numbers, in text or base64: there is nothing in it to judge, and it may be long.
pub(super) fn numbers(answer: upstream::Response, trace: &Trace) -> Result<Response<Body>, Refusal> {
    if answer.headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Refusal::unreadable_answer("a content-encoding that was not asked for"));
    }
    let mut headers = upstream::downstream_headers(&answer.headers);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut response = Response::new(Body::numbers(answer.body, Arc::clone(&trace.exchange)));
    *response.status_mut() = answer.status;
    *response.headers_mut() = headers;
    Ok(response)
}
