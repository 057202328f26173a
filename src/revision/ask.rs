//! One question to a model, and its answer's text.

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue};

use super::error::Error;
use crate::api::render::question;
use crate::api::{Dialect, Limits, Reply, Usage};
use crate::telemetry::Metrics;
use crate::upstream::{Provider, Upstream};

/// Longest answer that is read, in bytes.
const MAX_ANSWER: usize = 256 * 1024;

/// Who is asked. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// Where questions go.
    pub upstream: &'a Upstream,
    /// The client's headers, for versions and, where configured, its key; none where another upstream than the client's
    /// is asked.
    pub headers: Option<&'a HeaderMap>,
    /// The policy's name, under which the cost is counted.
    pub policy: &'a str,
    /// Where the cost is counted.
    pub metrics: &'a Metrics,
}

/// What a model said.
pub(super) struct Said {
    pub(super) text: String,
    /// As the provider counts it, if it does.
    pub(super) usage: Option<Usage>,
}

impl Asker<'_> {
    /// The dialect in which the upstream is asked, whatever the client speaks.
    pub fn dialect(&self) -> Dialect {
        match self.upstream.provider() {
            Provider::OpenAi | Provider::Azure => Dialect::OpenAiChat,
            Provider::Anthropic => Dialect::AnthropicMessages,
        }
    }

    /// Asks as `role` (`critic`, `reviser`, `judge`); counts what it cost.
    pub(super) async fn ask(
        &self,
        role: &'static str,
        model: &str,
        system: &str,
        material: &str,
        max_tokens: u32,
    ) -> Result<Said, Error> {
        let dialect = self.dialect();
        let body = question(dialect, model, system, material, max_tokens);
        let target = PathAndQuery::from_static(self.upstream.provider().questions());
        let reply = self.reply(role, &target, dialect, body).await?;
        let text = reply.answer(0).ok_or_else(|| Error::unreadable(role, "it holds no text"))?;
        Ok(Said { text, usage: reply.usage() })
    }

    /// The whole answer to a request; counts what it cost.
    pub(super) async fn reply(
        &self,
        role: &'static str,
        target: &PathAndQuery,
        dialect: Dialect,
        body: Bytes,
    ) -> Result<Reply, Error> {
        let failed = |source| Error::Upstream { role, source };
        let mut response = self.upstream.send(target, &self.headers(), body).await.map_err(failed)?;
        if !response.status.is_success() {
            return Err(Error::Status { role, status: response.status.as_u16() });
        }
        let body = response.body.whole(MAX_ANSWER).await.map_err(failed)?;
        let body = body.ok_or_else(|| Error::unreadable(role, format!("it is longer than {MAX_ANSWER} bytes")))?;
        self.read(role, dialect, body)
    }

    fn read(&self, role: &'static str, dialect: Dialect, body: Bytes) -> Result<Reply, Error> {
        let reply =
            Reply::read(dialect, body, &Limits::default()).map_err(|error| Error::unreadable(role, error.kind()))?;
        if let Some(usage) = reply.usage() {
            self.metrics.revision_cost(self.policy, role, usage.input, usage.output);
        }
        Ok(reply)
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = self.headers.cloned().unwrap_or_default();
        // It would bring back the answer that the client got.
        headers.remove("idempotency-key");
        if self.upstream.provider() == Provider::Anthropic {
            headers.entry("anthropic-version").or_insert(HeaderValue::from_static("2023-06-01"));
        }
        headers
    }
}
