//! Guards and upstreams that break: closed unless the policy says open, and always counted.

use crate::support::{GUARDED, Running, Setup, Step, Upstream, answer, chat, json, message, sse, status};

const CHAT_ANSWER: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"fine"},"finish_reason":"stop"}]}"#;

#[tokio::test]
async fn a_guard_that_breaks_on_a_prompt_closes_or_opens_as_the_policy_says() {
    for (word, reason) in [("boom", "worker_lost"), ("nan", "not_finite"), ("fail", "error")] {
        let upstream = Upstream::start(|_| json(CHAT_ANSWER)).await;
        let running = Running::start(Setup::with(GUARDED), upstream.address).await;
        let reply = running.client().post("/v1/chat/completions", chat(word, false)).await;
        assert_eq!(reply.status, 503, "{word}");
        assert_eq!(reply.json()["error"]["code"], "guardrail_unavailable");
        assert!(!reply.header("retry-after-ms").is_empty());
        assert!(upstream.requests().is_empty());
        let series =
            format!(r#"wardline_guard_failures_total{{disposition="closed",guard="attack",reason="{reason}"}}"#);
        assert!((running.metric(&series) - 1.0).abs() < 1e-9, "{series}");
        // The process lives, and so do its workers.
        assert_eq!(running.client().post("/v1/chat/completions", chat("Hello", false)).await.status, 200);

        let open = GUARDED.replace("action: block", "on_error: open, action: block");
        let running = Running::start(Setup::with(&open), upstream.address).await;
        let reply = running.client().post("/v1/chat/completions", chat(word, false)).await;
        assert_eq!(reply.status, 200, "{word}");
        let series = format!(r#"wardline_guard_failures_total{{disposition="open",guard="attack",reason="{reason}"}}"#);
        assert!((running.metric(&series) - 1.0).abs() < 1e-9, "{series}");
    }
}

#[tokio::test]
async fn a_guard_that_breaks_on_an_answer_withholds_it() {
    let upstream = Upstream::start(|_| json(&CHAT_ANSWER.replace("fine", "secret fail"))).await;
    let running = Running::start(Setup::with(GUARDED), upstream.address).await;
    let reply = running.client().post("/v1/chat/completions", chat("Hello", false)).await;
    assert_eq!(reply.status, 503);
    assert!(!reply.text().contains("secret"));
}

#[tokio::test]
async fn a_guard_that_breaks_in_a_stream_ends_it_without_success() {
    let events = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"secret fail.\"},\"finish_reason\":null}]}\n\ndata: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let upstream = Upstream::start(move |_| sse(&[events.as_bytes()], 0)).await;
    let running = Running::start(Setup::with(GUARDED), upstream.address).await;
    let text = running.client().post("/v1/chat/completions", chat("Hello", true)).await.text();
    assert!(!text.contains("secret") && !text.contains("[DONE]"), "{text}");
    assert!(text.contains("guardrail_unavailable"), "{text}");
}

#[tokio::test]
async fn a_block_outweighs_another_guards_failure() {
    let upstream = Upstream::start(|_| json(CHAT_ANSWER)).await;
    let policy = GUARDED.replace("action: redact", "action: block");
    let running = Running::start(Setup::with(&policy), upstream.address).await;
    let reply = running.client().post("/v1/chat/completions", chat("fail jane@example.com", false)).await;
    assert_eq!(reply.status, 400);
    assert_eq!(reply.json()["error"]["code"], "content_filter");
}

#[tokio::test]
async fn upstream_faults_have_distinct_reasons() {
    let cases: Vec<(Vec<Step>, u16, &str)> = vec![
        (vec![Step::Sleep(5_000)], 504, "upstream_timeout"),
        (vec![Step::Reset], 502, "upstream_reset"),
        (status(307, "location: http://127.0.0.1:1/\r\n", ""), 502, "upstream_redirect"),
        (vec![answer(200, "content-type: text/html\r\n", "<html>busy</html>")], 502, "unreadable_answer"),
        (
            vec![answer(200, "content-type: application/json\r\ncontent-encoding: gzip\r\n", "x")],
            502,
            "unreadable_answer",
        ),
        (sse(&[b"data: {}\n\n"], 0), 502, "unreadable_answer"),
        (json("{\"choices\":"), 502, "unreadable_answer"),
    ];
    for (steps, code, reason) in cases {
        let upstream = Upstream::start(move |_| steps.clone()).await;
        let mut setup = Setup::with(GUARDED);
        setup.first_byte_ms = 300;
        let running = Running::start(setup, upstream.address).await;
        let reply = running.client().post("/v1/chat/completions", chat("Hello", false)).await;
        assert_eq!((reply.status.as_u16(), reply.json()["error"]["code"].as_str()), (code, Some(reason)));
        let reply = running.client().post("/v1/messages", message("Hello", false)).await;
        let kind = if code == 504 { "timeout_error" } else { "api_error" };
        assert_eq!((reply.status.as_u16(), reply.json()["error"]["type"].as_str()), (code, Some(kind)));
    }
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_a_502() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let running = Running::start(Setup::with(GUARDED), nobody).await;
    let reply = running.client().post("/v1/chat/completions", chat("Hello", false)).await;
    assert_eq!((reply.status.as_u16(), reply.json()["error"]["code"].as_str()), (502, Some("upstream_unreachable")));
    assert!(
        (running.metric(r#"wardline_upstream_errors_total{error_type="connect",upstream="openai"}"#) - 1.0).abs()
            < 1e-9
    );
}

#[tokio::test]
async fn a_stream_that_stalls_is_ended_by_the_idle_timeout() {
    let event = b"data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"One sentence.\"},\"finish_reason\":null}]}\n\n";
    let mut upstream = Upstream::start(|_| {
        let mut steps = sse(&[event], 0);
        steps.pop();
        steps.push(Step::Hold);
        steps
    })
    .await;
    let mut setup = Setup::with(GUARDED);
    setup.idle_ms = 300;
    let running = Running::start(setup, upstream.address).await;
    let text = running.client().post("/v1/chat/completions", chat("Hello", true)).await.text();
    assert!(
        text.contains("One sentence.") && text.contains("upstream_stream_broken") && !text.contains("[DONE]"),
        "{text}"
    );
    upstream.left(1).await;
    running.wait_for(r#"wardline_stream_terminations_total{reason="upstream_error",route="chat"}"#, 1.0).await;
}
