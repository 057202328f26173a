//! A plain HTTP client, and the bodies that tests send.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use wardline::api::Dialect;

/// Speaks to one address, over kept-alive connections.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    http: legacy::Client<HttpConnector, Full<Bytes>>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self { address, http: legacy::Client::builder(TokioExecutor::new()).build(connector) }
    }

    /// Posts a body and waits for the whole answer.
    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Reply {
        self.send(Request::post(path).header("content-type", "application/json"), body).await
    }

    /// Sends a request and waits for the whole answer.
    pub(crate) async fn send(&self, request: http::request::Builder, body: impl Into<Bytes>) -> Reply {
        let (head, body) = self.open(request, body).await.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes);
        Reply { status: head.status, headers: head.headers, body: body.unwrap() }
    }

    /// Sends a request and gives the answer as it arrives.
    pub(crate) async fn open(
        &self,
        request: http::request::Builder,
        body: impl Into<Bytes>,
    ) -> http::Response<Incoming> {
        let mut request = request.body(Full::new(body.into())).unwrap();
        let target = format!("http://{}{}", self.address, request.uri());
        *request.uri_mut() = target.parse().unwrap();
        self.http.request(request).await.unwrap()
    }

    /// Posts a chat and gives the answer as it arrives.
    pub(crate) async fn stream(&self, path: &str, body: impl Into<Bytes>) -> http::Response<Incoming> {
        self.open(Request::post(path).header("content-type", "application/json"), body).await
    }
}

/// A chat with one user message.
pub(crate) fn chat(text: &str, stream: bool) -> String {
    json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": text}]}).to_string()
}

/// An Anthropic message request with one user message.
pub(crate) fn message(text: &str, stream: bool) -> String {
    json!({"model": "m", "max_tokens": 50, "stream": stream, "messages": [{"role": "user", "content": text}]})
        .to_string()
}

/// A request of any dialect with one text in it.
pub(crate) fn prompt(dialect: Dialect, text: &str, stream: bool) -> String {
    match dialect {
        Dialect::OpenAiChat => chat(text, stream),
        Dialect::OpenAiResponses => json!({"model": "m", "stream": stream, "input": text}).to_string(),
        Dialect::OpenAiCompletions => json!({"model": "m", "stream": stream, "prompt": text}).to_string(),
        Dialect::OpenAiEmbeddings | Dialect::OpenAiModerations | Dialect::OpenAiTokens => {
            json!({"model": "m", "input": text}).to_string()
        }
        Dialect::AnthropicMessages | Dialect::AnthropicTokens => message(text, stream),
        Dialect::OpenAiModels | Dialect::AnthropicModels => String::new(),
    }
}
