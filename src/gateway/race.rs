//! The upstream call and the prompt's verdict side by side.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use http::uri::PathAndQuery;
use http::{HeaderMap, Response};

use super::body::Body;
use super::record::Exchange;
use super::refuse::Refusal;
use super::rollout::Beside;
use super::whole::Asked;
use super::{Gateway, Trace};
use crate::guard::{Occasion, Outcome, Raced, Stage};
use crate::upstream::Upstream;

impl Gateway {
    /// Sends a call up and judges it meanwhile. The answer is left unread until the verdict is in; a block, a guard that
    /// cannot judge, and a client that leaves end the call.
    pub(super) async fn race(
        self: &Arc<Self>,
        (upstream, target): (&Upstream, &PathAndQuery),
        raced: Raced,
        headers: HeaderMap,
        (occasion, exchange, id, beside): (Occasion, Arc<Exchange>, &str, Option<Arc<Beside>>),
    ) -> Result<Response<Body>, Refusal> {
        let mut trace = Trace { beside, ..Trace::new(occasion, exchange, id) };
        let owner = self.owner(&headers);
        let (body, mut asked) = (raced.body(), Asked::of(raced.call(), &trace.view, self.keeps(&trace)).by(&owner));
        asked.expect_echo(&body);
        asked.sent = self.to_compare(&trace, target, &body);
        let route = asked.dialect.route();
        let sent = Instant::now();
        let mut call = Box::pin(upstream.send(target, &headers, body));
        let (mut answer, mut under_way) = (None, false);
        let guards = self.guards_for(trace.beside.as_ref());
        let verdict = {
            let mut judge = pin!(guards.input_raced(&trace.occasion, raced));
            // The verdict is asked first: where it is there at once, nothing goes up for nothing.
            poll_fn(|cx| {
                if let Poll::Ready(verdict) = judge.as_mut().poll(cx) {
                    return Poll::Ready(verdict);
                }
                under_way = true;
                if answer.is_none()
                    && let Poll::Ready(got) = call.as_mut().poll(cx)
                {
                    answer = Some((got, sent.elapsed()));
                }
                Poll::Pending
            })
            .await
        };
        let judged = sent.elapsed();
        self.rollouts.compare(trace.beside.as_ref(), Stage::Input, verdict.is_ok());
        self.metrics.overhead(route, "guard_in", judged);
        let passes = verdict.as_ref().is_ok_and(|verdict| matches!(verdict.outcome, Outcome::Pass(_)));
        if under_way && !passes {
            self.metrics.race_wasted(route);
        }
        let verdict = verdict?;
        trace.input = verdict.findings;
        trace.failed_open = verdict.failed_open;
        let mut response = match verdict.outcome {
            Outcome::Block(asked, finding) | Outcome::Revise(asked, finding) => trace.input_blocked(&asked, &finding),
            Outcome::Pass(_cleared) => {
                let (answer, came) = match answer {
                    Some(answer) => answer,
                    None => (call.as_mut().await, sent.elapsed()),
                };
                self.metrics.race_hid(route, judged.min(came));
                drop(call);
                self.receive(answer, (asked, headers), (&trace, sent)).await?
            }
        };
        trace.head(&mut response);
        Ok(response)
    }
}
