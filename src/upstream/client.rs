//! A pool of connections to one upstream, and one call over it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Instant, timeout};

use super::body::Answer;
use super::config::{Config, ConfigError, Mistake, Provider, Timeouts};
use super::headers;
use crate::telemetry::Metrics;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const API_KEY: HeaderName = HeaderName::from_static("api-key");

/// One configured upstream: its origin, its key, its connections.
#[derive(Debug)]
pub struct Upstream {
    name: String,
    provider: Provider,
    aside: bool,
    scheme: Scheme,
    authority: Authority,
    prefix: String,
    key: Key,
    timeouts: Timeouts,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    metrics: Arc<Metrics>,
}

/// Head and body of an answer.
#[derive(Debug)]
pub struct Response {
    /// Status as the upstream sent it.
    pub status: StatusCode,
    /// Headers as the upstream sent them.
    pub headers: HeaderMap,
    /// The body, still arriving.
    pub body: Answer,
}

/// Why a call brought no (whole) answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection could be made in time.
    #[error("no connection: {0}")]
    Connect(String),
    /// The head of the answer did not come in time.
    #[error("no answer within the first-byte timeout")]
    FirstByteTimeout,
    /// The answer stalled.
    #[error("the answer stalled for longer than the idle timeout")]
    IdleTimeout,
    /// The call took too long as a whole.
    #[error("the answer was not complete within the total timeout")]
    TotalTimeout,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Reset(String),
    /// The upstream tried to send us elsewhere.
    #[error("the upstream answered with a redirect, which is never followed")]
    Redirect,
}

impl Error {
    /// A fixed word for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::TotalTimeout => "total_timeout",
            Self::Reset(_) => "reset",
            Self::Redirect => "redirect",
        }
    }
}

/// A secret header value; never printed.
enum Key {
    Ours(HeaderName, HeaderValue),
    Clients,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Upstream {
    /// Builds the pool; no connection is made yet. `variable` looks up environment variables.
    pub fn build(
        name: &str,
        config: &Config,
        variable: impl Fn(&str) -> Option<String>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ConfigError> {
        let wrong = |mistake| ConfigError { name: name.to_owned(), mistake };
        let (scheme, authority, prefix) = origin(&config.url).map_err(wrong)?;
        let key = key(config, variable).map_err(wrong)?;
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_mins(1))
            .build(connector(config).map_err(wrong)?);
        Ok(Self {
            name: name.to_owned(),
            provider: config.dialect,
            aside: config.aside,
            scheme,
            authority,
            prefix,
            key,
            timeouts: config.timeouts(),
            client,
            metrics,
        })
    }

    /// The configured name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The wire format that it speaks.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// Whether clients' requests never go there.
    pub fn is_aside(&self) -> bool {
        self.aside
    }

    /// Whether calls are paid for by a key of ours, and not by the client's.
    pub fn has_own_key(&self) -> bool {
        matches!(self.key, Key::Ours(..))
    }

    /// Posts `body` to `target`, a path and perhaps a query, with what may pass of the client's headers, and waits for
    /// the head of the answer. Dropping the future, or later the body, cancels the call.
    pub async fn send(&self, target: &PathAndQuery, client: &HeaderMap, body: Bytes) -> Result<Response, Error> {
        self.call(self.request(target, client, body)?).await
    }

    /// Asks for `target`; else as [`Upstream::send`].
    pub async fn get(&self, target: &PathAndQuery, client: &HeaderMap) -> Result<Response, Error> {
        let mut request = self.request(target, client, Bytes::new())?;
        *request.method_mut() = Method::GET;
        request.headers_mut().remove(header::CONTENT_TYPE);
        self.call(request).await
    }

    async fn call(&self, request: Request<Full<Bytes>>) -> Result<Response, Error> {
        let deadline = Instant::now() + self.timeouts.total;
        let wait = self.timeouts.first_byte.min(self.timeouts.total);
        let outcome = match timeout(wait, self.client.request(request)).await {
            Ok(Ok(response)) if response.status().is_redirection() => Err(Error::Redirect),
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_connect() => Err(Error::Connect(causes(&error))),
            Ok(Err(error)) => Err(Error::Reset(causes(&error))),
            Err(_elapsed) => Err(Error::FirstByteTimeout),
        };
        match outcome {
            Ok(response) => {
                let (head, body) = response.into_parts();
                self.metrics.upstream_answered(&self.name, head.status.as_u16());
                let body = Answer::new(body, self.timeouts.idle, deadline);
                Ok(Response { status: head.status, headers: head.headers, body })
            }
            Err(error) => {
                self.metrics.upstream_failed(&self.name, error.kind());
                Err(error)
            }
        }
    }

    fn request(&self, target: &PathAndQuery, client: &HeaderMap, body: Bytes) -> Result<Request<Full<Bytes>>, Error> {
        let target = if self.prefix.is_empty() {
            target.clone()
        } else {
            PathAndQuery::try_from(format!("{}{target}", self.prefix)).map_err(|e| Error::Connect(e.to_string()))?
        };
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(target)
            .build()
            .map_err(|e| Error::Connect(e.to_string()))?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = match &self.key {
            Key::Clients => headers::upstream(client, &[header::AUTHORIZATION, X_API_KEY, API_KEY]),
            Key::Ours(name, value) => {
                let mut headers = headers::upstream(client, &[]);
                headers.insert(name.clone(), value.clone());
                headers
            }
        };
        Ok(request)
    }
}

/// Scheme, host and path prefix of a configured URL.
fn origin(url: &str) -> Result<(Scheme, Authority, String), Mistake> {
    let bad = || Mistake::Url(url.to_owned());
    let parts = url.parse::<Uri>().map_err(|_| bad())?.into_parts();
    let scheme = parts.scheme.filter(|s| *s == Scheme::HTTP || *s == Scheme::HTTPS).ok_or_else(bad)?;
    let authority = parts.authority.filter(|a| !a.as_str().contains('@')).ok_or_else(bad)?;
    let path = parts.path_and_query.ok_or_else(bad)?;
    if path.query().is_some() {
        return Err(bad());
    }
    Ok((scheme, authority, path.path().trim_end_matches('/').to_owned()))
}

fn key(config: &Config, variable: impl Fn(&str) -> Option<String>) -> Result<Key, Mistake> {
    let env = match (&config.api_key_env, config.forward_client_key) {
        (_, true) if config.aside => return Err(Mistake::Aside),
        (None, true) => return Ok(Key::Clients),
        (None, false) => return Err(Mistake::NoKey),
        (Some(_), true) => return Err(Mistake::TwoKeys),
        (Some(env), false) => env.clone(),
    };
    let secret = match variable(&env) {
        Some(secret) if !secret.trim().is_empty() => secret.trim().to_owned(),
        _ => return Err(Mistake::KeyNotSet(env)),
    };
    let (header, value) = match config.dialect {
        Provider::OpenAi => (header::AUTHORIZATION, format!("Bearer {secret}")),
        Provider::Anthropic => (X_API_KEY, secret),
        Provider::Azure => (API_KEY, secret),
    };
    let mut value = HeaderValue::try_from(value).map_err(|_| Mistake::KeyUnusable(env))?;
    value.set_sensitive(true);
    Ok(Key::Ours(header, value))
}

fn connector(config: &Config) -> Result<HttpsConnector<HttpConnector>, Mistake> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_keepalive(Some(Duration::from_mins(1)));
    http.set_connect_timeout(Some(Duration::from_millis(config.connect_timeout_ms)));
    let tls = tls(config)?;
    Ok(HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_all_versions().wrap_connector(http))
}

/// The system's certificate authorities (only looked for when the upstream is https), and the configured ones.
fn tls(config: &Config) -> Result<ClientConfig, Mistake> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = &config.ca_file {
        let bad = |error: &dyn std::fmt::Display| Mistake::CaFile(format!("{}: {error}", file.display()));
        let certificates = CertificateDer::pem_file_iter(file).map_err(|e| bad(&e))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|e| bad(&e))?;
            roots.add(certificate).map_err(|e| bad(&e))?;
        }
    }
    if config.url.starts_with("https:") {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let reason = "no certificate authorities were found on this system; install ca-certificates".to_owned();
            return Err(Mistake::Tls(reason));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.map_err(|e| Mistake::Tls(e.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// An error with its causes; hyper's own message alone says little.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
