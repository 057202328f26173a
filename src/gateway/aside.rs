//! What is served beside the corridor: lists of models, scores of our own classifier.

use std::sync::Arc;
use std::time::Instant;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

use super::body::Body;
use super::intake::{self, Arrival};
use super::refuse::{self, Refusal};
use super::routes::Kind;
use super::whole::Asked;
use super::{Gateway, Trace};
use crate::api::{Call, Dialect, Limits, render};
use crate::guard::{About, Guards, Occasion};
use crate::policy::{Asking, Key};
use crate::telemetry::StageTimer;

/// Who is counted as the provider of what this process says itself.
const OURSELVES: &str = "wardline";

impl Gateway {
    /// Answers a request for moderation in `OpenAI`'s shape, from our own classifier. Of its policy only the thresholds
    /// have a part in it.
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
        let key = intake::client_key(&head).map(Key::Sent);
        let tenant = self.tenant(key, &head)?;
        let (route, model, named) = (dialect.route(), call.model(), tenant.as_deref());
        let view = self.policies.select(&Asking { route, model, key, tenant: named, headers: Some(&head) });
        let exchange = Arc::new(self.note(dialect, OURSELVES, started).of(self.party(tenant, &view)));
        let timer = StageTimer::start();
        let assessed = Guards::assess(&view, call.inputs()).await?.ok_or_else(Refusal::no_classifier)?;
        timer.stop(&self.metrics, dialect.route(), "guard_in");
        let name = view.armed.serving().next().map_or("", |(name, ..)| name);
        let mut response = refuse::json(StatusCode::OK, Body::whole(render::moderations(id, name, &assessed)));
        exchange.served("");
        Trace::new(Occasion::new(view, About::default(), id), exchange, id).head(&mut response);
        Ok(response)
    }

    /// Asks the provider for models, or for an answer that it keeps, where the policy declares that. No prompt goes up; what
    /// comes down is judged like any answer.
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
        let model = arrival.model.as_deref().unwrap_or_default();
        let view = self.policies.select(&Asking { route, model, key, tenant: named, headers: Some(&headers) });
        if let Kind::Declared(_, what, reason) = arrival.route.kind
            && !view.policy.stored_state.contains(&what)
        {
            return Err(Refusal::denied(reason));
        }
        let owner = named.unwrap_or_default().to_owned();
        self.policies.headers().for_each(|ours| drop(headers.remove(ours)));
        let exchange = Arc::new(self.note(arrival.dialect, upstream.name(), started).of(self.party(tenant, &view)));
        let about = About { route, model: model.to_owned(), tenant: owner, ..About::default() };
        let trace = Trace::new(Occasion::new(view, about, id), exchange, id);
        let sent = Instant::now();
        let answer = upstream.get(&arrival.target, &headers).await;
        let answer = answer.inspect_err(|error| trace.exchange.upstream_done(sent, error.kind()))?;
        let mut asked = Asked::list(arrival.dialect);
        asked.expect_echo(&json!({"instructions": trace.view.policy.constitution.text}).to_string().into());
        let mut response = self.whole(answer, &asked, &headers, &trace, sent).await?;
        trace.head(&mut response);
        Ok(response)
    }
}
