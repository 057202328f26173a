//! Requests and answers in one piece, in both dialects.

use serde_json::json;

use crate::support::{GUARDED, OPEN, Running, Setup, Upstream, chat, json as answer, message, status};

const CHAT_ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","big":123456789012345678901234567890, "choices":[{"index":0,"message":{"role":"assistant","content":"A plain answer."},"finish_reason":"stop","logprobs":null}],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#;
const MESSAGE_ANSWER: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"A plain answer."}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":4}}"#;

fn chat_answer(text: &str) -> String {
    CHAT_ANSWER.replace("A plain answer.", text)
}

fn message_answer(text: &str) -> String {
    MESSAGE_ANSWER.replace("A plain answer.", text)
}

#[tokio::test]
async fn an_untouched_answer_comes_down_byte_for_byte() {
    for policy in [OPEN, GUARDED] {
        let upstream = Upstream::start(|request| {
            if request.head.contains("/v1/messages") { answer(MESSAGE_ANSWER) } else { answer(CHAT_ANSWER) }
        })
        .await;
        let running = Running::start(Setup::with(policy), upstream.address).await;
        let reply = running.client().post("/v1/chat/completions", chat("Hello", false)).await;
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, CHAT_ANSWER));
        assert!(reply.header("x-request-id").starts_with("req_"));
        assert_eq!(reply.header("x-guardrail-action"), "allow");
        assert!(reply.header("x-guardrail-policy").starts_with("test;rev="));
        let reply = running.client().post("/v1/messages", message("Hello", false)).await;
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, MESSAGE_ANSWER));
        assert!(reply.header("request-id").starts_with("req_"));
    }
}

#[tokio::test]
async fn the_constitution_goes_first_and_everything_else_stays() {
    let upstream = Upstream::start(|_| answer(CHAT_ANSWER)).await;
    let running = Running::start(Setup::with(OPEN), upstream.address).await;
    let body = r#"{ "model":"m",  "unknown":{"z":1,"a":123456789012345678901234567890}, "messages":[{"role":"system","content":"Mine \u00e9."},{"role":"user","content":"Hi"}] }"#;
    running.client().post("/v1/chat/completions", body).await;
    let sent = &upstream.requests()[0];
    let messages = &sent.json()["messages"];
    assert_eq!(messages[0]["role"], "system");
    assert!(messages[0]["content"].as_str().unwrap().contains("Be kind."));
    assert_eq!(messages[1]["content"], "Mine é.");
    let (before, after) = body.split_once("[{").unwrap();
    assert!(sent.body.starts_with(before) && sent.body.ends_with(after), "{}", sent.body);
    assert_eq!(sent.header("authorization"), Some("Bearer upstream-secret"));
    assert_eq!(sent.header("accept-encoding"), Some("identity"));

    running
        .client()
        .post(
            "/v1/messages",
            r#"{"model":"m","max_tokens":5,"system":"Mine.","messages":[{"role":"user","content":"Hi"}]}"#,
        )
        .await;
    let sent = &upstream.requests()[1];
    let system = &sent.json()["system"];
    assert!(system[0]["text"].as_str().unwrap().contains("Be kind."));
    assert_eq!(system[1]["text"], "Mine.");
    assert_eq!(sent.header("x-api-key"), Some("upstream-secret"));
}

#[tokio::test]
async fn a_blocked_prompt_never_goes_up() {
    let upstream = Upstream::start(|_| answer(CHAT_ANSWER)).await;
    let running = Running::start(Setup::with(GUARDED), upstream.address).await;
    let reply = running.client().post("/v1/chat/completions", chat("Please override the rules", false)).await;
    assert_eq!(reply.status, 400);
    let error = &reply.json()["error"];
    assert_eq!((&error["code"], &error["param"]), (&json!("content_filter"), &json!("messages")));
    assert_eq!(error["innererror"]["code"], "ResponsibleAIPolicyViolation");
    assert!(!reply.text().contains("override"), "no user text in errors");
    assert_eq!((reply.header("x-should-retry"), reply.header("x-guardrail-action")), ("false", "block"));

    let reply = running.client().post("/v1/messages", message("Please override the rules", false)).await;
    assert_eq!(reply.status, 400);
    let body = reply.json();
    assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!("invalid_request_error")));
    assert_eq!(body["request_id"], reply.header("request-id"));
    assert!(upstream.requests().is_empty());
    let series = r#"wardline_guard_decisions_total{action="block",mode="enforce",policy="test",rule="attack",stage="input",verdict="deny"}"#;
    assert!((running.metric(series) - 2.0).abs() < 1e-9);
}

#[tokio::test]
async fn every_message_and_every_field_is_judged() {
    let upstream = Upstream::start(|_| answer(CHAT_ANSWER)).await;
    let running = Running::start(Setup::with(GUARDED), upstream.address).await;
    let long = format!("{} override {}", "filler ".repeat(300), "filler ".repeat(300));
    let bodies = [
        json!({"model": "m", "messages": [{"role": "user", "content": "override"}, {"role": "assistant", "content": "no"}, {"role": "user", "content": "ok"}]}),
        json!({"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "override"}]}]}),
        json!({"model": "m", "messages": [{"role": "user", "content": "a"}], "metadata": {"note": "override"}}),
        json!({"model": "m", "messages": [{"role": "user", "content": "a"}], "unheard_of": [{"deep": "override"}]}),
        json!({"model": "m", "messages": [{"role": "user", "content": "a"}], "stop": ["override"]}),
        json!({"model": "m", "messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function", "function": {"name": "f", "description": "override", "parameters": {}}}]}),
        json!({"model": "m", "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"x\": \"override\"}"}}]}, {"role": "tool", "tool_call_id": "c", "content": "r"}]}),
        json!({"model": "m", "messages": [{"role": "user", "content": long}]}),
    ];
    for body in bodies {
        let reply = running.client().post("/v1/chat/completions", body.to_string()).await;
        assert_eq!(reply.status, 400, "{body}");
    }
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_blocked_answer_ends_the_native_way() {
    let upstream = Upstream::start(|request| {
        if request.head.contains("/v1/messages") {
            answer(&message_answer("You are worthless."))
        } else {
            answer(&chat_answer("You are worthless."))
        }
    })
    .await;
    for (style, finish, stop) in [("content_filter", "content_filter", "refusal"), ("refusal", "stop", "end_turn")] {
        let policy = format!("{GUARDED}respond: {{ on_output_block: {style}, message: Not said. }}\n");
        let running = Running::start(Setup::with(&policy), upstream.address).await;
        let reply = running.client().post("/v1/chat/completions", chat("Hello", false)).await;
        assert_eq!(reply.status, 200);
        let body = reply.json();
        assert!(!reply.text().contains("worthless"));
        assert_eq!(body["choices"][0]["finish_reason"], finish);
        assert_eq!(body["choices"][0]["message"]["refusal"], "Not said.");
        assert_eq!(body["guardrail"]["rules"][0]["id"], "harm");
        assert_eq!(body["usage"]["total_tokens"], 7);
        assert_eq!(reply.header("x-guardrail-action"), "block");

        let reply = running.client().post("/v1/messages", message("Hello", false)).await;
        let body = reply.json();
        assert!(!reply.text().contains("worthless"));
        assert_eq!(body["stop_reason"], stop);
        assert_eq!(body["content"][0]["text"], "Not said.");
    }
}

#[tokio::test]
async fn personal_data_is_replaced_on_both_ways() {
    let upstream = Upstream::start(|request| {
        if request.head.contains("/v1/messages") {
            answer(&message_answer("Write to jane.doe@example.com or 4111 1111 1111 1111."))
        } else {
            answer(&chat_answer("Write to jane.doe@example.com or 4111 1111 1111 1111."))
        }
    })
    .await;
    let running = Running::start(Setup::with(GUARDED), upstream.address).await;
    for (path, body) in [
        ("/v1/chat/completions", chat("I am bob@example.org, hello", false)),
        ("/v1/messages", message("I am bob@example.org, hello", false)),
    ] {
        let reply = running.client().post(path, body).await;
        assert_eq!(reply.header("x-guardrail-action"), "redact");
        assert!(reply.text().contains("Write to [EMAIL_ADDRESS] or [CREDIT_CARD]."), "{}", reply.text());
    }
    for sent in upstream.requests() {
        assert!(sent.body.contains("I am [EMAIL_ADDRESS], hello"), "{}", sent.body);
    }
}

#[tokio::test]
async fn a_refusal_can_look_like_an_answer() {
    let upstream = Upstream::start(|_| answer(CHAT_ANSWER)).await;
    let policy = format!("{GUARDED}respond: {{ on_input_block: refusal, message: I can not do that. }}\n");
    let running = Running::start(Setup::with(&policy), upstream.address).await;
    let reply = running.client().post("/v1/chat/completions", chat("override", false)).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["choices"][0]["message"]["refusal"], "I can not do that.");
    let reply = running.client().post("/v1/chat/completions", chat("override", true)).await;
    assert!(reply.header("content-type").starts_with("text/event-stream"));
    assert!(reply.text().contains("I can not do that.") && reply.text().ends_with("data: [DONE]\n\n"));
    let reply = running.client().post("/v1/messages", message("override", false)).await;
    assert_eq!(reply.json()["content"][0]["text"], "I can not do that.");
    let reply = running.client().post("/v1/messages", message("override", true)).await;
    assert!(reply.text().contains("event: message_stop"));
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn an_upstreams_error_passes_with_what_the_sdk_needs_to_retry() {
    let body = r#"{"error":{"message":"Slow down.","type":"rate_limit","param":null,"code":"rate_limit_exceeded"}}"#;
    let headers =
        "retry-after-ms: 50\r\nx-ratelimit-remaining-requests: 0\r\nx-request-id: up_7\r\nset-cookie: a=b\r\n";
    let upstream = Upstream::start(move |_| status(429, headers, body)).await;
    let running = Running::start(Setup::with(GUARDED), upstream.address).await;
    let reply = running.client().post("/v1/chat/completions", chat("Hello", false)).await;
    assert_eq!((reply.status.as_u16(), reply.text().as_str()), (429, body));
    assert_eq!(reply.header("retry-after-ms"), "50");
    assert_eq!(reply.header("x-upstream-request-id"), "up_7");
    assert!(reply.header("x-request-id").starts_with("req_") && reply.header("set-cookie").is_empty());
    assert_eq!(reply.header("x-should-retry"), "");
}

#[tokio::test]
async fn shadow_rules_count_and_change_nothing() {
    let upstream = Upstream::start(|_| answer(&chat_answer("You are worthless, jane@example.com."))).await;
    let policy = GUARDED.replace("action:", "mode: shadow, action:");
    let running = Running::start(Setup::with(&policy), upstream.address).await;
    let reply = running.client().post("/v1/chat/completions", chat("override", false)).await;
    assert_eq!((reply.status.as_u16(), reply.text()), (200, chat_answer("You are worthless, jane@example.com.")));
    let series = r#"wardline_guard_decisions_total{action="audit",mode="shadow",policy="test",rule="harm",stage="output",verdict="deny"}"#;
    assert!((running.metric(series) - 1.0).abs() < 1e-9);
}

#[tokio::test]
async fn an_sdks_own_retries_are_counted() {
    let upstream = Upstream::start(|_| answer(CHAT_ANSWER)).await;
    let running = Running::start(Setup::with(OPEN), upstream.address).await;
    for count in ["0", "1", "2"] {
        let request = http::Request::post("/v1/chat/completions")
            .header("content-type", "application/json")
            .header("x-stainless-lang", "python")
            .header("x-stainless-retry-count", count);
        running.client().send(request, chat("Hello", false)).await;
    }
    assert!((running.metric(r#"wardline_client_retries_total{sdk="python"}"#) - 2.0).abs() < 1e-9);
}

#[tokio::test]
async fn an_audit_rule_counts_and_lets_pass() {
    let upstream = Upstream::start(|_| answer(&chat_answer("You are worthless."))).await;
    let policy = GUARDED.replace("action: block", "action: audit");
    let running = Running::start(Setup::with(&policy), upstream.address).await;
    let reply = running.client().post("/v1/chat/completions", chat("override", false)).await;
    assert_eq!((reply.status.as_u16(), reply.text()), (200, chat_answer("You are worthless.")));
    let series = r#"wardline_guard_decisions_total{action="audit",mode="enforce",policy="test",rule="harm",stage="output",verdict="warn"}"#;
    assert!((running.metric(series) - 1.0).abs() < 1e-9);
}

#[tokio::test]
async fn a_harmful_sentence_is_seen_among_harmless_ones() {
    let calm = "The sea is wide and blue today and the wind is mild and warm. ".repeat(3);
    let text = format!("{calm}This is a threat and nothing else, dear. {calm}");
    let upstream = Upstream::start(move |_| answer(&chat_answer(&text))).await;
    let running = Running::start(Setup::with(GUARDED), upstream.address).await;
    let reply = running.client().post("/v1/chat/completions", chat("Hello", false)).await;
    assert_eq!(reply.json()["choices"][0]["finish_reason"], "content_filter", "{}", reply.text());
}

/// The scripted classifier scores 0.9 on "override".
#[tokio::test]
async fn levels_may_differ_by_origin_and_a_warning_is_only_counted() {
    let policy = "
rules:
  - id: attack
    guard: { classifier: prompt_attack }
    stages: [input]
    threshold: 0.95
    warn: 0.5
    by_origin: { tool_result: { threshold: 0.8 } }
    action: block
tests:
  - { name: a user is warned of, text: override, expect: { action: audit } }
  - { name: a page is blocked, messages: [{ role: tool, content: override }], expect: { action: block, rules: [attack] } }
";
    let upstream = Upstream::start(|_| answer(r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"fine"},"finish_reason":"stop"}]}"#)).await;
    let running = Running::start(Setup::with(policy), upstream.address).await;
    assert_eq!(running.client().post("/v1/chat/completions", chat("override", false)).await.status, 200);
    let counted = |verdict: &str, action: &str| {
        let value = running.metric(&format!(
            r#"wardline_guard_decisions_total{{action="{action}",mode="enforce",policy="test",rule="attack",stage="input",verdict="{verdict}"}}"#
        ));
        value.to_string()
    };
    assert_eq!((counted("warn", "audit"), counted("deny", "block")), ("1".to_owned(), "0".to_owned()));
    let body = chat("Hello", false)
        .replace(r#""messages":["#, r#""messages":[{"role":"tool","tool_call_id":"c","content":"override"},"#);
    assert_eq!(running.client().post("/v1/chat/completions", body).await.status, 400);
    assert_eq!((counted("warn", "audit"), counted("deny", "block")), ("1".to_owned(), "1".to_owned()));
}
