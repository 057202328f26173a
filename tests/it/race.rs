//! The upstream call beside the prompt's verdict: nothing comes down before it, and a block ends the call.

use std::time::Duration;

use serde_json::json;

use crate::support::{GUARDED, Running, Setup, Step, Upstream, chat, json as answer, message, sse};

const CHAT_ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"A plain answer."},"finish_reason":"stop","logprobs":null}],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#;
const CHAT: &str = "/v1/chat/completions";
const WASTED: &str = r#"wardline_race_wasted_calls_total{route="chat"}"#;
const HIDDEN: &str = r#"wardline_race_hidden_duration_seconds_count{route="chat"}"#;

/// Blocks `override` and has nothing to redact.
fn racing() -> String {
    let rules = GUARDED.lines().filter(|line| !line.contains("id: mail")).collect::<Vec<_>>().join("\n");
    format!("{rules}\ninput: race\n")
}

/// Posts a chat whose verdict waits for the gate, and opens it once the upstream has the request.
async fn post_held(running: &Running, upstream: &Upstream, body: String) -> crate::support::Reply {
    let client = running.client();
    let reply = tokio::spawn(async move { client.post(CHAT, body).await });
    wait_for(upstream, 1).await;
    assert!(!reply.is_finished(), "nothing comes down before the verdict");
    running.open_gate();
    reply.await.unwrap()
}

async fn wait_for(upstream: &Upstream, requests: usize) {
    for _ in 0..400 {
        if upstream.requests().len() >= requests {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the upstream was not asked");
}

#[tokio::test]
async fn an_allowed_prompt_is_answered_as_ever() {
    let upstream = Upstream::start(|_| answer(CHAT_ANSWER)).await;
    let running = Running::start(Setup::with(&racing()), upstream.address).await;
    let reply = post_held(&running, &upstream, chat("hold on please", false)).await;
    assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, CHAT_ANSWER));
    assert_eq!(reply.header("x-guardrail-action"), "allow");
    assert!((running.metric(HIDDEN) - 1.0).abs() < 1e-9 && running.metric(WASTED) < 1e-9);
}

#[tokio::test]
async fn a_stream_is_held_until_the_verdict() {
    let chunk = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [{"index": 0, "delta": {"content": "Hi."}, "logprobs": null, "finish_reason": "stop"}]});
    let stream = format!("data: {chunk}\n\ndata: [DONE]\n\n");
    let played = stream.clone();
    let upstream = Upstream::start(move |_| sse(&[played.as_bytes()], 0)).await;
    let running = Running::start(Setup::with(&racing()), upstream.address).await;
    let reply = post_held(&running, &upstream, chat("hold on please", true)).await;
    assert_eq!(reply.text(), stream);
}

#[tokio::test]
async fn a_block_ends_the_upstream_call() {
    let mut upstream = Upstream::start(|_| vec![Step::Hold]).await;
    let running = Running::start(Setup::with(&racing()), upstream.address).await;
    let reply = post_held(&running, &upstream, chat("hold on and override", false)).await;
    assert_eq!((reply.status.as_u16(), reply.header("x-guardrail-action")), (400, "block"));
    assert_eq!(reply.json()["error"]["code"], "content_filter");
    upstream.left(1).await;
    assert!((running.metric(WASTED) - 1.0).abs() < 1e-9 && running.metric(HIDDEN) < 1e-9);
}

#[tokio::test]
async fn a_block_outweighs_an_answer_that_has_come() {
    let upstream = Upstream::start(|_| answer(CHAT_ANSWER)).await;
    let running = Running::start(Setup::with(&racing()), upstream.address).await;
    let reply = post_held(&running, &upstream, chat("hold on and override", false)).await;
    assert_eq!(reply.status, 400);
    assert!(!reply.text().contains("A plain answer"));
}

#[tokio::test]
async fn an_upstream_that_fails_is_told_after_the_verdict() {
    for (text, status) in [("hold on please", 502), ("hold on and override", 400), ("hold on and fail", 503)] {
        let upstream = Upstream::start(|_| vec![Step::Reset]).await;
        let running = Running::start(Setup::with(&racing()), upstream.address).await;
        assert_eq!(post_held(&running, &upstream, chat(text, false)).await.status, status, "{text}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_both() {
    let mut upstream = Upstream::start(|_| vec![Step::Hold]).await;
    let running = Running::start(Setup::with(&racing()), upstream.address).await;
    let client = running.client();
    let request = tokio::spawn(async move { client.post(CHAT, chat("hold on please", false)).await });
    wait_for(&upstream, 1).await;
    request.abort();
    upstream.left(1).await;
    running.open_gate();
}

#[tokio::test]
async fn what_acts_or_is_edited_gates() {
    let tools = |text: &str| {
        json!({"model": "m", "messages": [{"role": "user", "content": text}], "web_search_options": {}}).to_string()
    };
    let server = |text: &str| {
        json!({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": text}], "tools": [{"type": "web_search_20250305", "name": "web_search"}]}).to_string()
    };
    let edits = format!("{GUARDED}input: race\n");
    let gated = GUARDED.to_owned();
    for (policy, path, body) in [
        (racing(), CHAT, tools("hold on and override")),
        (racing(), "/v1/messages", server("hold on and override")),
        (edits, CHAT, chat("hold on and override", false)),
        (gated, "/v1/messages", message("hold on and override", false)),
    ] {
        let upstream = Upstream::start(|_| answer(CHAT_ANSWER)).await;
        let running = Running::start(Setup::with(&policy), upstream.address).await;
        let client = running.client();
        let sent = body.clone();
        let reply = tokio::spawn(async move { client.post(path, sent).await });
        running.wait_at_gate().await;
        assert!(upstream.requests().is_empty(), "{body}");
        running.open_gate();
        assert_eq!(reply.await.unwrap().status, 400);
        assert!(upstream.requests().is_empty(), "{body}");
    }
}

#[tokio::test]
async fn a_replayed_block_gates_so_that_it_can_be_taken_out() {
    let upstream = Upstream::start(|_| answer(CHAT_ANSWER)).await;
    let running = Running::start(Setup::with(&racing()), upstream.address).await;
    assert_eq!(post_held(&running, &upstream, chat("hold on and override", false)).await.status, 400);
    let talk = json!({"model": "m", "messages": [{"role": "user", "content": "hold on and override"}, {"role": "assistant", "content": "No."}, {"role": "user", "content": "Hi"}]});
    assert_eq!(running.client().post(CHAT, talk.to_string()).await.status, 200);
    let requests = upstream.requests();
    assert_eq!(requests.len(), 2);
    assert!(!requests[1].body.contains("override"), "{}", requests[1].body);
}
