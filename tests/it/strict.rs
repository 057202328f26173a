//! What cannot be read strictly is refused, and never reaches the upstream.

use std::io::Write;

use http::Request;

use crate::support::{GUARDED, Running, Setup, Upstream, chat, json};

async fn guarded() -> (Upstream, Running) {
    let upstream = Upstream::start(|_| json("{}")).await;
    let running = Running::start(Setup::with(GUARDED), upstream.address).await;
    (upstream, running)
}

#[tokio::test]
async fn bodies_that_others_read_differently_are_refused() {
    let (upstream, running) = guarded().await;
    let plain = chat("Hello", false);
    let utf16: Vec<u8> = plain.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let deep = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"a"}}],"x":{}{}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("utf-16", utf16),
        ("bom", [b"\xef\xbb\xbf", plain.as_bytes()].concat()),
        ("invalid utf-8", plain.replace("Hello", "\u{1}").into_bytes().iter().map(|b| if *b == 1 { 0xff } else { *b }).collect()),
        ("NaN", plain.replace("false", "NaN").into()),
        ("1e400", plain.replace("\"stream\":false", "\"temperature\":1e400").into()),
        ("duplicate key", plain.replacen('{', r#"{"model":"x","#, 1).into()),
        ("escaped duplicate key", plain.replacen('{', r#"{"mod\u0065l":"x","#, 1).into()),
        ("lone surrogate", plain.replace("Hello", r"\ud800").into()),
        ("depth bomb", deep.into()),
        ("trailing data", format!("{plain}{plain}").into()),
        ("comment", format!("// x\n{plain}").into()),
        ("stream as text", plain.replace("false", r#""true""#).into()),
        ("stream as number", plain.replace("false", "1").into()),
        ("messages as object", r#"{"model":"m","messages":{"role":"user","content":"a"}}"#.into()),
        ("content as number", r#"{"model":"m","messages":[{"role":"user","content":5}]}"#.into()),
        ("no messages", r#"{"model":"m"}"#.into()),
        ("an image", r#"{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}]}"#.into()),
        ("empty", Vec::new()),
    ];
    let count = bodies.len();
    for (what, body) in bodies {
        let reply = running.client().post("/v1/chat/completions", body).await;
        assert_eq!(reply.status, 400, "{what}: {}", reply.text());
        assert!(reply.json()["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{what}");
        assert_eq!(reply.header("x-should-retry"), "false", "{what}");
    }
    assert!(upstream.requests().is_empty());
    let page = String::from_utf8(running.gateway.metrics().render().unwrap()).unwrap();
    let counted: f64 = page
        .lines()
        .filter(|line| line.starts_with("wardline_unscannable_requests_total"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    assert!((counted - f64::from(u32::try_from(count).unwrap())).abs() < 1e-9, "{counted} of {count}");
}

#[tokio::test]
async fn compressed_bodies_are_decoded_judged_and_sent_plain() {
    let (upstream, running) = guarded().await;
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let post = |coding: &'static str| {
        Request::post("/v1/chat/completions")
            .header("content-type", "application/json")
            .header("content-encoding", coding)
    };
    let reply = running.client().send(post("gzip"), gzip(&chat("override", false))).await;
    assert_eq!(reply.json()["error"]["code"], "content_filter");
    let zstd = zstd::encode_all(chat("override", false).as_bytes(), 1).unwrap();
    assert_eq!(running.client().send(post("zstd"), zstd).await.json()["error"]["code"], "content_filter");
    assert!(upstream.requests().is_empty());
    running.client().send(post("gzip"), gzip(&chat("Hello", false))).await;
    assert!(upstream.requests()[0].body.contains("Hello"));
    assert_eq!(upstream.requests()[0].header("content-encoding"), None);
    let bomb = gzip(&" ".repeat(20 * 1024 * 1024));
    assert!(bomb.len() < 100_000);
    assert_eq!(running.client().send(post("gzip"), bomb).await.status, 413);
    // Coded twice, and named in the order in which that was done.
    let stacked = zstd::encode_all(gzip(&chat("override", false)).as_slice(), 1).unwrap();
    let reply = running.client().send(post("gzip, zstd"), stacked.clone()).await;
    assert_eq!(reply.json()["error"]["code"], "content_filter");
    assert_eq!(running.client().send(post("zstd, gzip"), stacked).await.status, 400);
    assert_eq!(running.client().send(post("gzip"), "{}").await.status, 400);
    assert_eq!(running.client().send(post("lzma"), "{}").await.status, 415);
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn every_other_path_is_refused_in_the_dialects_shape() {
    let (upstream, running) = guarded().await;
    for (path, status, code) in [
        ("/api/generate", 404, "unknown_route"),
        ("/", 404, "unknown_route"),
        ("//v1/chat/completions", 400, "malformed_path"),
        ("/v1%2fchat/completions", 400, "malformed_path"),
        ("/v1/%63hat/completions", 400, "malformed_path"),
        ("/v1/chat/completions;a=1", 400, "malformed_path"),
        ("/v1/./chat/completions", 400, "malformed_path"),
        ("/v1/files/../chat/completions", 400, "malformed_path"),
        ("/v1/files", 403, "endpoint_not_allowed"),
    ] {
        let reply = running.client().post(path, chat("Hello", false)).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["error"]["code"]), (status, &code.into()), "{path}");
        assert_eq!(reply.header("x-should-retry"), "false");
    }
    let request = Request::post("/v1/messages/batches").header("content-type", "application/json");
    let reply = running.client().send(request, "{}").await;
    assert_eq!((reply.status.as_u16(), &reply.json()["error"]["type"]), (403, &"permission_error".into()));
    let reply = running.client().send(Request::put("/v1/messages"), "").await;
    assert_eq!(reply.status, 405);
    let form = Request::post("/v1/chat/completions").header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(running.client().send(form, "a=b").await.status, 415);
    let socket = Request::get("/v1/realtime").header("connection", "upgrade").header("upgrade", "websocket");
    assert_eq!(running.client().send(socket, "").await.status, 403);
    let hosts =
        Request::post("/v1/chat/completions").header("host", "x/#@y").header("content-type", "application/json");
    assert_eq!(running.client().send(hosts, chat("Hello", false)).await.status, 400);
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let upstream = Upstream::start(|_| json("{}")).await;
    let mut setup = Setup::with(GUARDED);
    setup.config.max_request_bytes = 1000;
    let running = Running::start(setup, upstream.address).await;
    let reply = running.client().post("/v1/chat/completions", chat(&"a".repeat(2000), false)).await;
    assert_eq!(reply.status, 413);
    let reply = running.client().post("/v1/messages", chat(&"a".repeat(2000), false)).await;
    assert_eq!(reply.json()["error"]["type"], "request_too_large");
    assert!(upstream.requests().is_empty());
}

/// What no client library would send, byte for byte.
#[tokio::test]
async fn heads_that_others_read_differently_are_refused() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (upstream, running) = guarded().await;
    let body = chat("Hello", false);
    for (what, head) in [
        ("NUL", "POST /v1/chat\0/completions HTTP/1.1\r\nhost: a\r\n"),
        ("backslash", "POST /v1\\chat\\completions HTTP/1.1\r\nhost: a\r\n"),
        ("absolute form", "POST http://elsewhere.example/v1/chat/completions HTTP/1.1\r\nhost: elsewhere.example\r\n"),
        ("authority form", "POST elsewhere.example:80 HTTP/1.1\r\nhost: a\r\n"),
        ("no host", "POST /v1/chat/completions HTTP/1.1\r\n"),
        ("two hosts", "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nhost: b\r\n"),
        ("a host with a path", "POST /v1/chat/completions HTTP/1.1\r\nhost: a/v1/models?\r\n"),
        ("a host with a user", "POST /v1/chat/completions HTTP/1.1\r\nhost: me@a\r\n"),
        ("two lengths", "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n"),
        ("a fragment", "POST /v1/chat/completions#x HTTP/1.1\r\nhost: a\r\n"),
    ] {
        let mut socket = tokio::net::TcpStream::connect(running.data).await.unwrap();
        let length = body.len();
        let more =
            format!("content-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
        socket.write_all(format!("{head}{more}").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(std::time::Duration::from_secs(10), socket.read_to_end(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let refused = answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.1 404") || answer.is_empty();
        assert!(read.is_ok() && (refused || what == "a fragment"), "{what}: {answer}");
    }
    // A fragment is not sent on: what was routed is what goes up.
    assert!(upstream.requests().iter().all(|sent| sent.head.starts_with("POST /v1/chat/completions HTTP")));
    assert!(upstream.requests().len() <= 1);
}
