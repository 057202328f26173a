//! The census: what `/status` says of each route is what the route does.

use http::{Method, Request};

use wardline::api::Family;
use wardline::gateway::{Kind, ROUTES, Route};

use crate::support::{Client, GUARDED, Running, Setup, Upstream, json as answer, prompt};

/// A path that the row fits.
fn path(route: &Route) -> String {
    let mut path = route.path.replace("/*", "/some/thing");
    while let (Some(from), Some(to)) = (path.find('{'), path.find('}')) {
        path.replace_range(from..=to, "thing");
    }
    path
}

fn request(route: &Route) -> http::request::Builder {
    let method = Method::from_bytes(route.method.replace('*', "POST").as_bytes()).unwrap();
    Request::builder().method(method).uri(path(route)).header("content-type", "application/json")
}

#[tokio::test]
async fn every_route_does_what_the_status_page_says() {
    let upstream = Upstream::start(|_| answer("{}")).await;
    let running = Running::start(Setup::with(GUARDED), upstream.address).await;
    let status = Client::new(running.admin).send(Request::get("/status"), "").await.json();
    let rows = status["routes"].as_array().unwrap();
    assert_eq!(rows.len(), ROUTES.len() + 2);
    for (route, row) in ROUTES.iter().zip(rows) {
        assert_eq!((&row["method"], &row["path"]), (&route.method.into(), &route.path.into()));
        assert_eq!(row["guarded"], route.kind.as_str());
        let what = format!("{} {}", route.method, route.path);
        match route.kind {
            Kind::Enforced(dialect) => {
                let reply = running.client().send(request(route), prompt(dialect, "override", false)).await;
                assert_eq!(reply.status, 400, "{what}: {}", reply.text());
                assert_eq!(reply.header("x-guardrail-action"), "block", "{what}: {}", reply.text());
            }
            Kind::Exempt(dialect, reason) => {
                let speaking = match dialect.family() {
                    Family::OpenAi => request(route),
                    Family::Anthropic => request(route).header("anthropic-version", "2023-06-01"),
                };
                let reply = running.client().send(speaking, prompt(dialect, "override", false)).await;
                assert_eq!(reply.status, 200, "{what}: {}", reply.text());
                assert_eq!(row["reason"], reason);
            }
            Kind::Feedback(reason) => {
                let reply = running.client().send(request(route), "{}").await;
                assert_eq!((reply.status.as_u16(), &reply.json()["error"]["code"]), (404, &"feedback_off".into()));
                assert_eq!(row["reason"], reason);
            }
            Kind::Declared(_, _, reason) | Kind::Denied(reason) => {
                let reply = running.client().send(request(route), "{}").await;
                assert_eq!(reply.status, 403, "{what}");
                let message = reply.json()["error"]["message"].clone();
                assert!(message.as_str().is_some_and(|message| message.contains(reason)), "{what}: {message}");
                assert_eq!(row["reason"], reason);
            }
        }
    }
    let rest = &rows[ROUTES.len()..];
    assert!(
        rest.iter().all(|row| row["guarded"] == "denied" && row["reason"].as_str().is_some_and(|why| !why.is_empty()))
    );
    let went_up: Vec<String> =
        upstream.requests().iter().map(|sent| sent.head.lines().next().unwrap().to_owned()).collect();
    assert!(went_up.iter().all(|line| line.starts_with("GET ") && line.contains("/v1/models")), "{went_up:?}");
    assert_eq!(went_up.len(), 6);
}

#[tokio::test]
async fn what_no_row_mentions_is_no_route() {
    let upstream = Upstream::start(|_| answer("{}")).await;
    let running = Running::start(Setup::with(GUARDED), upstream.address).await;
    for path in ["/", "/v1", "/v2/chat/completions", "/api/chat", "/mcp", "/status", "/metrics", "/v1/rerank"] {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"] {
            let reply = running.client().send(Request::builder().method(method).uri(path), "").await;
            assert_eq!(reply.status, 404, "{method} {path}");
        }
    }
    let page = String::from_utf8(running.gateway.metrics().render().unwrap()).unwrap();
    assert!(!page.contains("rerank"), "a client's path is no label");
    assert!(upstream.requests().is_empty());
}
