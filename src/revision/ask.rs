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
pub(super) struct Asker<'a> {
    pub(super) upstream: &'a Upstream,
    /// The client's headers, where its own upstream is asked.
    pub(super) headers: Option<&'a HeaderMap>,
    pub(super) model: &'a str,
    /// The policy's name, under which the cost is counted.
    pub(super) policy: &'a str,
    pub(super) metrics: &'a Metrics,
}

/// What a model said.
pub(super) struct Said {
    pub(super) text: String,
    /// As the provider counts it, if it does.
    pub(super) usage: Option<Usage>,
}

impl Asker<'_> {
    /// Asks as `role` (`critic`, `reviser`, `judge`); counts what it cost.
    pub(super) async fn ask(
        &self,
        role: &'static str,
        system: &str,
        material: &str,
        max_tokens: u32,
    ) -> Result<Said, Error> {
        let dialect = dialect(self.upstream.provider());
        let body = question(dialect, self.model, system, material, max_tokens);
        let failed = |source| Error::Upstream { role, source };
        let target = PathAndQuery::from_static(self.upstream.provider().questions());
        let mut response = self.upstream.send(&target, &self.headers(), body).await.map_err(failed)?;
        if !response.status.is_success() {
            return Err(Error::Status { role, status: response.status.as_u16() });
        }
        let body = response.body.whole(MAX_ANSWER).await.map_err(failed)?;
        let body = body.ok_or_else(|| Error::unreadable(role, format!("it is longer than {MAX_ANSWER} bytes")))?;
        self.read(role, dialect, body)
    }

    fn read(&self, role: &'static str, dialect: Dialect, body: Bytes) -> Result<Said, Error> {
        let reply =
            Reply::read(dialect, body, &Limits::default()).map_err(|error| Error::unreadable(role, error.kind()))?;
        let usage = reply.usage();
        if let Some(usage) = usage {
            self.metrics.revision_cost(self.policy, role, usage.input, usage.output);
        }
        let text = reply.answer(0).ok_or_else(|| Error::unreadable(role, "it holds no text"))?;
        Ok(Said { text, usage })
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

/// The dialect in which an upstream is asked, whatever the client speaks.
fn dialect(provider: Provider) -> Dialect {
    match provider {
        Provider::OpenAi | Provider::Azure => Dialect::OpenAiChat,
        Provider::Anthropic => Dialect::AnthropicMessages,
    }
}
