//! A second answer to a request, from the same model or another one.

use bytes::Bytes;
use http::HeaderMap;
use http::uri::PathAndQuery;

use super::ask::{Asker, dialect};
use super::error::Error;
use crate::api::Dialect;
use crate::telemetry::Metrics;
use crate::upstream::Upstream;

/// Who gives the second answer.
#[derive(Clone, Copy, Debug)]
pub struct Rival<'a> {
    /// Where the request goes.
    pub upstream: &'a Upstream,
    /// The client's headers, where its own upstream is asked.
    pub headers: Option<&'a HeaderMap>,
    /// The policy's name, under which the cost is counted.
    pub policy: &'a str,
    /// Where the cost is counted.
    pub metrics: &'a Metrics,
}

/// A second answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// Its text; empty where it has none.
    pub text: String,
    /// Whether it calls tools.
    pub calls: bool,
    /// Whether it was cut off at the token limit.
    pub truncated: bool,
}

impl Rival<'_> {
    /// The wire format in which it is asked what no client asked.
    pub fn dialect(&self) -> Dialect {
        dialect(self.upstream.provider())
    }

    /// Sends a request that asks for one whole answer.
    pub async fn draw(&self, target: &PathAndQuery, dialect: Dialect, body: Bytes) -> Result<Drawn, Error> {
        let Self { upstream, headers, policy, metrics } = *self;
        let asker = Asker { upstream, headers, model: "", policy, metrics };
        let reply = asker.reply("rival", target, dialect, body).await?;
        let text = reply.answer(0).unwrap_or_default();
        Ok(Drawn { text, calls: reply.has_tool_calls(0), truncated: reply.is_truncated(0) })
    }
}
