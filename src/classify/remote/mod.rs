//! Classifiers on servers, as backends like any other: the same scheduler, the same windows, the same checks of every
//! row. A worker thread waits for an answer where another one reckons, so that calls under way are as many as threads.
//!
//! A call is made again only where that can do no harm and may help: the server was not there, the connection broke, or
//! it said that it is busy. Asking twice for a score changes nothing on the other side.

mod config;
mod wire;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, StatusCode};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use self::config::Config;
use self::wire::{Mismatch, Wire};
use super::backend::{Backend, BackendError};
use super::characters::Characters;
use super::classifier::{Classifier, Identity};
use super::load::LoadError;
use super::windows::Frame;
use crate::telemetry::Metrics;
use crate::upstream::{self, Provider, Upstream};

pub use self::config::{Activation, Config as Remote, Protocol as RemoteProtocol, Theirs};

/// What the server is asked at load.
const PROBE: &str = "How do I bake bread?";

/// How long to wait before a call is made again.
const PAUSE: Duration = Duration::from_millis(50);

impl Classifier {
    /// A classifier on a server. Asks it once, unless the configuration says otherwise; connections are served by
    /// `runtime`, which has to go on running. Blocks, for `timeout_ms` at most: not for a thread of that runtime, if it
    /// has one only. A server that is away or busy is no error, for it may be back before the first request: a log line
    /// and a gauge tell of it.
    ///
    /// # Errors
    /// Which setting is wrong, or what the server said instead of scores.
    pub fn remote(
        name: &str,
        config: &Config,
        variable: impl Fn(&str) -> Option<String>,
        runtime: &Handle,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, LoadError> {
        if let Some((key, reason)) = config.mistake() {
            return Err(wrong(name, &key, reason));
        }
        let line = Arc::new(line(name, config, variable, runtime, metrics)?);
        let mut revision = config.model.clone().unwrap_or_else(|| config.protocol.as_str().to_owned());
        if config.check_at_load {
            // On a thread of its own: the caller's may be one that must not wait.
            let probed = thread::scope(|scope| scope.spawn(|| line.probe()).join());
            let probed = probed.unwrap_or_else(|_panic| Err(Probe::labels("the check panicked".to_owned())));
            match probed {
                Ok(said) => revision = said.unwrap_or(revision),
                Err(Probe::Away(fault)) => {
                    let at = format!("classifiers.{name}.url");
                    tracing::warn!(at, url = config.url, %fault, "no answer from a classifier's server; starting without");
                }
                Err(Probe::Wrong { key, reason }) => return Err(wrong(name, key, reason)),
            }
        }
        let characters = Characters { window: config.window_chars, overlap: config.overlap_chars };
        let backend = || RemoteBackend { line: Arc::clone(&line), characters, max_batch: config.batch() };
        let backends = (0..config.max_concurrent_calls).map(|_| Box::new(backend()) as Box<dyn Backend>).collect();
        let bounds = super::Config {
            max_concurrent_requests: config.max_concurrent_requests,
            max_input_tokens: config.max_input_chars,
            max_batch_tokens: config.batch().saturating_mul(config.window_chars + 2),
            ..super::Config::default()
        };
        let identity = Identity { name: name.to_owned(), revision, device: "remote" };
        Self::start(backends, config.labels(name), identity, None, &bounds, metrics)
    }
}

fn wrong(name: &str, key: &str, reason: String) -> LoadError {
    LoadError::Remote { name: name.to_owned(), key: key.to_owned(), reason }
}

fn line(
    name: &str,
    config: &Config,
    variable: impl Fn(&str) -> Option<String>,
    runtime: &Handle,
    metrics: &Arc<Metrics>,
) -> Result<Line, LoadError> {
    let server = upstream::Config {
        dialect: Provider::OpenAi,
        url: config.url.clone(),
        api_key_env: config.api_key_env.clone(),
        // Nothing is forwarded: there is no client. It says that no key of ours is needed.
        forward_client_key: config.api_key_env.is_none(),
        aside: false,
        ca_file: config.ca_file.clone(),
        connect_timeout_ms: config.timeout_ms,
        first_byte_timeout_ms: config.timeout_ms,
        idle_timeout_ms: config.timeout_ms,
        total_timeout_ms: config.timeout_ms,
    };
    let upstream = Upstream::build(name, &server, variable, Arc::clone(metrics))
        .map_err(|error| wrong(name, error.mistake.key().unwrap_or("url"), error.mistake.to_string()))?;
    let wire = Wire::new(config);
    let target = PathAndQuery::try_from(wire.path())
        .map_err(|_| wrong(name, "model", "it cannot stand in a URL's path".to_owned()))?;
    Ok(Line {
        name: name.to_owned(),
        named: if config.model.is_some() { "model" } else { "url" },
        metrics: Arc::clone(metrics),
        upstream,
        target,
        wire,
        runtime: runtime.clone(),
        budget: Duration::from_millis(config.timeout_ms),
        retries: config.retries,
        cap: config.max_answer_bytes,
    })
}

/// The way to one server.
struct Line {
    name: String,
    /// The setting that says which model it is.
    named: &'static str,
    metrics: Arc<Metrics>,
    upstream: Upstream,
    target: PathAndQuery,
    wire: Wire,
    runtime: Handle,
    /// For one answer, tries again included.
    budget: Duration,
    retries: u32,
    /// Longest answer that is read, in bytes.
    cap: usize,
}

/// Why a call brought no answer.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("{0}")]
    Call(#[from] upstream::Error),
    #[error("the server answered with status {0}")]
    Status(StatusCode),
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    #[error("no answer within {} ms", .0.as_millis())]
    Late(Duration),
}

/// What the question at load found.
enum Probe {
    /// Nobody who could be asked.
    Away(Fault),
    /// Something that is no classifier of these labels.
    Wrong { key: &'static str, reason: String },
}

impl Probe {
    fn labels(reason: String) -> Self {
        Self::Wrong { key: "labels", reason }
    }
}

impl Fault {
    /// Whether it is the way to the server, or its load, and not what it says.
    fn is_away(&self) -> bool {
        self.is_passing() || matches!(self, Self::Late(_) | Self::Call(_))
    }

    /// Whether the same call may fare better a moment later.
    fn is_passing(&self) -> bool {
        match self {
            Self::Call(error) => matches!(error, upstream::Error::Connect(_) | upstream::Error::Reset(_)),
            Self::Status(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
            Self::TooLong(_) | Self::Late(_) => false,
        }
    }
}

impl Line {
    /// Asks about a text of our own, and gives what the server says it is.
    fn probe(&self) -> Result<Option<String>, Probe> {
        let texts = [PROBE.to_owned()];
        let body = self.call(&texts).map_err(|fault| self.found(fault))?;
        let answer = self.wire.read(&body, texts.len()).map_err(|mismatch| Probe::labels(mismatch.told()))?;
        match answer.rows.iter().flatten().find(|score| !(0.0..=1.0).contains(*score)) {
            None => Ok(answer.revision),
            Some(score) => Err(Probe::labels(format!("it gave a score of {score}, which is no probability"))),
        }
    }

    /// What a call that failed at load says of the server.
    fn found(&self, fault: Fault) -> Probe {
        if fault.is_away() {
            return Probe::Away(fault);
        }
        let key = if matches!(fault, Fault::Status(StatusCode::NOT_FOUND)) { self.named } else { "url" };
        Probe::Wrong { key, reason: format!("it was asked about a text and failed: {fault}") }
    }

    /// One answer, within the budget. Blocks.
    fn call(&self, texts: &[String]) -> Result<Bytes, Fault> {
        let body = Bytes::from(self.wire.request(texts));
        let answer = async { timeout(self.budget, self.tries(body)).await.unwrap_or(Err(Fault::Late(self.budget))) };
        let answer = self.runtime.block_on(answer);
        self.metrics.classifier_server(&self.name, !answer.as_ref().is_err_and(Fault::is_away));
        answer
    }

    async fn tries(&self, body: Bytes) -> Result<Bytes, Fault> {
        let mut left = self.retries;
        loop {
            match self.once(body.clone()).await {
                Err(fault) if fault.is_passing() && left > 0 => {
                    left -= 1;
                    sleep(PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn once(&self, body: Bytes) -> Result<Bytes, Fault> {
        let mut response = self.upstream.send(&self.target, &HeaderMap::new(), body).await?;
        if !response.status.is_success() {
            return Err(Fault::Status(response.status));
        }
        response.body.whole(self.cap).await?.ok_or(Fault::TooLong(self.cap))
    }
}

/// What one worker asks.
struct RemoteBackend {
    line: Arc<Line>,
    characters: Characters,
    max_batch: usize,
}

impl Backend for RemoteBackend {
    fn tokenize(&self, text: &str) -> Result<Vec<u32>, BackendError> {
        Ok(Characters::tokens(text))
    }

    fn frame(&self) -> Frame {
        self.characters.frame()
    }

    fn infer(&mut self, windows: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, BackendError> {
        let texts: Vec<String> = windows.iter().map(|window| Characters::text(window)).collect();
        let body = self.line.call(&texts).map_err(|fault| BackendError(fault.to_string()))?;
        let read = self.line.wire.read(&body, texts.len());
        read.map(|answer| answer.rows).map_err(|mismatch: Mismatch| BackendError(mismatch.to_string()))
    }

    fn max_batch(&self) -> usize {
        self.max_batch
    }
}
