//! The admin listener: metrics, health, readiness, status. Read-only.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::gateway::Gateway;

const INDEX: &str = "Wardline admin listener\n\n\
    /         what is in force, for a browser\n\
    /metrics  Prometheus text format\n\
    /healthz  200 while the process lives\n\
    /readyz   200 when it should get traffic, 503 before that and while draining\n\
    /status   policy, models, upstreams and routes as JSON\n\
    /policies/resolve?route=ROUTE&model=MODEL&key_hash=DIGITS&tenant=NAME&header.NAME=VALUE\n          \
    which policy a request would get; with full=true, all that it says and where\n";

/// Serves until its task is dropped.
pub(super) async fn serve(listener: TcpListener, gateway: Arc<Gateway>) {
    loop {
        let Ok((stream, _peer)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let answer = answer(&gateway, request.method(), request.uri());
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "admin connection ended early");
            }
        });
    }
}

fn answer(gateway: &Gateway, method: &Method, uri: &http::Uri) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    if method != Method::GET && method != Method::HEAD {
        return page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET is served here\n");
    }
    match uri.path() {
        "/metrics" => match gateway.metrics().render() {
            Ok(metrics) => page(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics),
            Err(error) => {
                tracing::error!(%error, "metrics could not be rendered");
                page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "metrics could not be rendered\n")
            }
        },
        "/healthz" => page(StatusCode::OK, TEXT, "ok\n"),
        "/readyz" if gateway.ready() => page(StatusCode::OK, TEXT, "ready\n"),
        "/readyz" => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, "not ready\n"),
        "/status" => page(StatusCode::OK, "application/json", gateway.status()),
        "/policies/resolve" => match gateway.resolve(uri.query().unwrap_or_default()) {
            Some(found) => page(StatusCode::OK, "application/json", found),
            None => page(
                StatusCode::BAD_REQUEST,
                TEXT,
                "expected route=, model=, key_hash=, tenant= (a known one), full=true or header.NAME=, without percent signs\n",
            ),
        },
        "/" => page(StatusCode::OK, "text/html; charset=utf-8", gateway.page()),
        _ => page(StatusCode::NOT_FOUND, TEXT, INDEX),
    }
}

fn page(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}
