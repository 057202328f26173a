//! Clients that leave, servers that stop, TLS and h2, and what operators ask.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use wardline::policy::Selector;

use crate::support::{Client, GUARDED, OPEN, Running, Setup, Step, Upstream, certificate, chat, json, sse};

const CHAT_ANSWER: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"fine"},"finish_reason":"stop"}]}"#;
const EVENT: &[u8] = b"data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"One sentence. \"},\"finish_reason\":null}]}\n\n";
const LAST: &[u8] = b"data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

/// A stream that begins and then waits for somebody to leave.
fn endless() -> Vec<Step> {
    let mut steps = sse(&[EVENT], 0);
    steps.pop();
    steps.push(Step::Hold);
    steps
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_upstream() {
    for policy in [OPEN, GUARDED] {
        let mut upstream = Upstream::start(|_| endless()).await;
        let running = Running::start(Setup::with(policy), upstream.address).await;
        let mut body = running.client().stream("/v1/chat/completions", chat("Hello", true)).await.into_body();
        assert!(body.frame().await.is_some(), "the stream has begun");
        drop(body);
        upstream.left(1).await;
        running.wait_for(r#"wardline_http_inflight_requests{route="chat"}"#, 0.0).await;
    }
}

#[tokio::test]
async fn one_upstream_connection_serves_one_call_after_the_other() {
    for policy in [OPEN, GUARDED] {
        let upstream = Upstream::start(|request| {
            let stream = request.body.contains("\"stream\":true");
            if stream { sse(&[EVENT, LAST], 0) } else { json(CHAT_ANSWER) }
        })
        .await;
        let running = Running::start(Setup::with(policy), upstream.address).await;
        for round in 0..6 {
            let reply = running.client().post("/v1/chat/completions", chat("Hello", round % 2 == 0)).await;
            assert_eq!(reply.status, 200);
            // The body's end is read just after the client has got its last byte.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!((upstream.requests().len(), upstream.connections()), (6, 1));
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_cancels_the_upstream() {
    let mut upstream = Upstream::start(|_| vec![Step::Hold]).await;
    let running = Running::start(Setup::with(GUARDED), upstream.address).await;
    let client = running.client();
    let waiting = tokio::spawn(async move { client.post("/v1/chat/completions", chat("Hello", false)).await });
    while upstream.requests().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    waiting.abort();
    upstream.left(1).await;
}

#[tokio::test]
async fn a_drain_lets_running_streams_finish() {
    let upstream = Upstream::start(|_| {
        let mut steps = sse(&[EVENT, EVENT], 0);
        steps.pop();
        steps.push(Step::Sleep(400));
        steps.extend(sse(&[LAST], 0).into_iter().skip(1));
        steps
    })
    .await;
    let mut running = Running::start(Setup::with(GUARDED), upstream.address).await;
    let mut body = running.client().stream("/v1/chat/completions", chat("Hello", true)).await.into_body();
    assert!(body.frame().await.is_some());
    let admin = Client::new(running.admin);
    running.ask_to_stop();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(admin.send(Request::get("/readyz"), "").await.status, 503);
    assert_eq!(admin.send(Request::get("/healthz"), "").await.status, 200);
    assert!(TcpStream::connect(running.data).await.is_err(), "new connections are refused");
    let rest = body.collect().await.unwrap().to_bytes();
    assert!(rest.ends_with(b"data: [DONE]\n\n"));
    assert!(running.stop().await, "everything could finish");
}

#[tokio::test]
async fn a_drain_does_not_wait_for_ever() {
    let upstream = Upstream::start(|_| endless()).await;
    let mut setup = Setup::with(GUARDED);
    setup.drain_ms = 200;
    let running = Running::start(setup, upstream.address).await;
    let mut body = running.client().stream("/v1/chat/completions", chat("Hello", true)).await.into_body();
    assert!(body.frame().await.is_some());
    assert!(!running.stop().await, "the stream was cut off");
}

#[tokio::test]
async fn the_admin_listener_tells_what_runs() {
    let upstream = Upstream::start(|_| json(CHAT_ANSWER)).await;
    let running = Running::start(Setup::with(GUARDED), upstream.address).await;
    running.client().post("/v1/chat/completions", chat("Hello", false)).await;
    let admin = Client::new(running.admin);
    let ask = |path: &'static str| admin.send(Request::get(path), "");
    assert_eq!((ask("/healthz").await.status.as_u16(), ask("/readyz").await.status.as_u16()), (200, 200));
    let status = ask("/status").await.json();
    assert_eq!(status["policy"]["name"], "test");
    assert_eq!(status["policy"]["rules"][0]["id"], "attack");
    assert_eq!(status["routes"][0]["guarded"], "enforced");
    let metrics = ask("/metrics").await;
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
    for name in [
        "wardline_http_requests_total",
        "gen_ai_server_request_duration_seconds_bucket",
        "wardline_policy_info",
        "process_resident_memory_bytes",
        "wardline_classifier_inference_duration_seconds_count",
    ] {
        assert!(metrics.text().contains(name), "{name}");
    }
    assert_eq!(ask("/nothing").await.status, 404);
    assert_eq!(admin.send(Request::post("/status"), "").await.status, 405);
    assert_eq!(Client::new(running.data).send(Request::get("/metrics"), "").await.status, 404, "not on the data port");
}

#[tokio::test]
async fn h2_is_spoken_with_prior_knowledge() {
    let upstream = Upstream::start(|_| json(CHAT_ANSWER)).await;
    let running = Running::start(Setup::with(GUARDED), upstream.address).await;
    let stream = TcpStream::connect(running.data).await.unwrap();
    let (status, body) = over_h2(stream, "http").await;
    assert_eq!((status, body.as_str()), (200, CHAT_ANSWER));
}

/// The upstream is another gateway, which speaks TLS and h2.
#[tokio::test]
async fn an_upstream_over_tls_is_verified_and_called() {
    let (dirs, upstream) =
        ([(); 2].map(|()| tempfile::tempdir().unwrap()), Upstream::start(|_| json(CHAT_ANSWER)).await);
    let [(tls, _), (other, _)] = dirs.each_ref().map(|dir| certificate(dir.path()));
    let mut setup = Setup::with(OPEN);
    setup.tls = Some(tls.clone());
    let secure = Running::start(setup, upstream.address).await;
    for (authority, status) in [(tls.cert, 200), (other.cert, 502)] {
        let mut setup = Setup::with(GUARDED);
        setup.upstream_ca = Some(authority);
        let running = Running::start(setup, secure.data).await;
        let reply = running.client().post("/v1/chat/completions", chat("Hello", false)).await;
        assert_eq!(reply.status, status, "{}", reply.text());
    }
    assert_eq!(upstream.requests().len(), 1, "nothing is sent to a server that nobody vouches for");
}

#[tokio::test]
async fn tls_offers_h2_and_http1() {
    let dir = tempfile::tempdir().unwrap();
    let (tls, der) = certificate(dir.path());
    let upstream = Upstream::start(|_| json(CHAT_ANSWER)).await;
    let mut setup = Setup::with(GUARDED);
    setup.tls = Some(tls);
    let running = Running::start(setup, upstream.address).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(der).unwrap();
    for (offer, agreed) in [("h2", "h2"), ("http/1.1", "http/1.1")] {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![offer.as_bytes().to_vec()];
        let tls = tokio_rustls::TlsConnector::from(Arc::new(config));
        let tcp = TcpStream::connect(running.data).await.unwrap();
        let stream = tls.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(agreed.as_bytes()));
        if offer == "h2" {
            assert_eq!(over_h2(stream, "https").await.0, 200);
        }
    }
}

async fn over_h2<S>(stream: S, scheme: &str) -> (u16, String)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = Request::post(format!("{scheme}://localhost/v1/chat/completions"))
        .header("content-type", "application/json")
        .body(Full::new(bytes::Bytes::from(chat("Hello", false))))
        .unwrap();
    let reply = sender.send_request(request).await.unwrap();
    let status = reply.status().as_u16();
    let body = reply.into_body().collect().await.unwrap().to_bytes();
    driver.abort();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// One policy for all, another for a key and for a model: by the operator's lines only.
#[tokio::test]
async fn the_configuration_chooses_the_policy_of_a_request() {
    let upstream = Upstream::start(|_| json(CHAT_ANSWER)).await;
    let mut setup = Setup::with(OPEN);
    let line = |models: &[&str], keys: &[&str]| Selector {
        policy: "strict".to_owned(),
        routes: vec!["chat".to_owned()],
        models: models.iter().map(|model| (*model).to_owned()).collect(),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        ..Selector::default()
    };
    // SHA-256 of `secret`.
    setup.select = vec![line(&[], &["2bb80d537b1da3e3"]), line(&["guarded-*"], &[])];
    setup.others = vec![("strict".to_owned(), GUARDED.to_owned())];
    let running = Running::start(setup, upstream.address).await;
    let client = running.client();
    let send = async |model: &str, header: Option<(&str, &str)>| {
        let mut request = Request::post("/v1/chat/completions").header("content-type", "application/json");
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let reply = client.send(request, chat("override", false).replace("\"m\"", &format!("\"{model}\""))).await;
        (reply.status.as_u16(), reply.header("x-guardrail-policy").split(';').next().unwrap_or_default().to_owned())
    };
    assert_eq!(send("m", None).await, (200, "test".to_owned()));
    assert_eq!(send("guarded-1", None).await, (400, "strict".to_owned()));
    assert_eq!(send("m", Some(("authorization", "Bearer secret"))).await, (400, "strict".to_owned()));
    assert_eq!(send("m", Some(("x-api-key", "secret"))).await, (400, "strict".to_owned()));
    assert_eq!(send("m", Some(("authorization", "Bearer other"))).await, (200, "test".to_owned()));

    let admin = Client::new(running.admin);
    let ask = async |query: &str| admin.send(Request::get(format!("/policies/resolve?{query}")), "").await;
    let page = ask("route=chat&model=guarded-2").await.json();
    assert_eq!((page["policy"].as_str(), page["chosen_by"].as_str()), (Some("strict"), Some("policies.select[1]")));
    let page = ask("route=chat&key_hash=2bb80d537b1da3e38bd30361").await.json();
    assert_eq!((page["policy"].as_str(), page["chosen_by"].as_str()), (Some("strict"), Some("policies.select[0]")));
    let page = ask("route=messages&model=guarded-2").await.json();
    assert_eq!((page["policy"].as_str(), page["chosen_by"].as_str()), (Some("test"), Some("policies.active")));
    assert_eq!(ask("modle=x").await.status, 400);
}
