//! Verdicts that are kept: a conversation pays for its new turn, and a turn that was blocked does not block it for ever.

use serde_json::{Value, json};

use crate::support::{GUARDED, Running, Setup, Upstream, json as answer};

const CHAT_ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Ok."},"finish_reason":"stop","logprobs":null}],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#;
const MESSAGE_ANSWER: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"Ok."}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":4}}"#;
const NOTICE: &str = "[This message was removed by the content policy.]";
const RUNS: &str = r#"wardline_classifier_inference_duration_seconds_count{device="cpu",model="custom"}"#;
const CHAT: &str = "/v1/chat/completions";

async fn upstream() -> Upstream {
    Upstream::start(|request| answer(if request.head.contains("/v1/messages") { MESSAGE_ANSWER } else { CHAT_ANSWER }))
        .await
}

/// The rules of [`GUARDED`] without its constitution, and what is done with replayed blocks.
fn policy(replayed: &str) -> String {
    let (_, rules) = GUARDED.split_once("rules:").unwrap();
    format!("rules:{rules}respond: {{ on_replayed_block: {replayed} }}\n")
}

#[tokio::test]
async fn fifty_turns_cost_their_new_turn_only() {
    let upstream = upstream().await;
    let running = Running::start(Setup::with(GUARDED), upstream.address).await;
    let mut messages = vec![json!({"role": "system", "content": "You are a guide."})];
    let mut costs = Vec::new();
    let mut before = 0.0;
    for turn in 0..50 {
        messages.push(json!({"role": "user", "content": format!("Question number {turn}, dear.")}));
        let body = json!({"model": "m", "messages": messages}).to_string();
        assert_eq!(running.client().post(CHAT, body).await.status, 200);
        messages.push(json!({"role": "assistant", "content": format!("Answer number {turn}, dear.")}));
        let runs = running.metric(RUNS);
        costs.push(runs - before);
        before = runs;
    }
    // The new question, the answer that the client sends back, and the answer that comes down. Seams to earlier turns are
    // for patterns, which cost no inference.
    assert!(costs[1..].iter().all(|cost| (cost - 3.0).abs() < 1e-9), "{costs:?}");
    assert!(running.metric(r#"wardline_ledger_lookups_total{outcome="hit"}"#) > 2_000.0);
    assert!(running.metric("wardline_ledger_bytes") > 0.0);
}

#[tokio::test]
async fn without_a_ledger_every_turn_is_judged_again() {
    let upstream = upstream().await;
    let mut setup = Setup::with(GUARDED);
    setup.config.ledger_bytes = 0;
    let running = Running::start(setup, upstream.address).await;
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "Hello"}]}).to_string();
    running.client().post(CHAT, body.clone()).await;
    let once = running.metric(RUNS);
    running.client().post(CHAT, body).await;
    assert!((running.metric(RUNS) - 2.0 * once).abs() < 1e-9);
}

#[tokio::test]
async fn tenants_share_no_verdicts() {
    let upstream = upstream().await;
    let mut setup = Setup::with(GUARDED);
    setup.forward_client_key = true;
    let running = Running::start(setup, upstream.address).await;
    let mut costs = Vec::new();
    for key in ["one", "one", "two", "two"] {
        let before = running.metric(RUNS);
        let request = http::Request::post(CHAT).header("content-type", "application/json").header("authorization", key);
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "Hello"}]}).to_string();
        assert_eq!(running.client().send(request, body).await.status, 200);
        costs.push(running.metric(RUNS) - before);
    }
    assert!((costs[0] - 2.0).abs() < 1e-9 && costs == [2.0, 1.0, 2.0, 1.0], "{costs:?}");
}

#[tokio::test]
async fn a_new_policy_judges_anew() {
    let upstream = upstream().await;
    let running = Running::start(Setup::with(GUARDED), upstream.address).await;
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "Hello"}]}).to_string();
    running.client().post(CHAT, body.clone()).await;
    std::fs::write(running.policy_file(), GUARDED.replace("threshold: 0.5", "threshold: 0.6")).unwrap();
    assert_eq!(running.gateway.policies.reload().as_str(), "applied");
    let before = running.metric(RUNS);
    running.client().post(CHAT, body).await;
    assert!((running.metric(RUNS) - before - 2.0).abs() < 1e-9);
}

/// Sends a conversation, whose first sending with an attack in it is refused, and gives what went up the second time.
async fn replay(replayed: &str, path: &str, attack: &Value, conversation: &Value) -> (u16, Option<String>) {
    let upstream = upstream().await;
    let running = Running::start(Setup::with(&policy(replayed)), upstream.address).await;
    let reply = running.client().post(path, attack.to_string()).await;
    assert_eq!(reply.status, 400, "{attack}");
    let reply = running.client().post(path, conversation.to_string()).await;
    let sent = upstream.requests().last().map(|request| request.body.clone());
    if reply.status == 200 {
        assert_eq!(reply.header("x-guardrail-action"), "redact");
        assert!(!sent.as_ref().unwrap().contains("override"), "{sent:?}");
        assert!(running.metric(&format!(r#"wardline_replayed_blocks_total{{action="{replayed}"}}"#)) >= 1.0);
    }
    (reply.status.as_u16(), sent)
}

fn conversation(messages: &Value) -> Value {
    json!({"model": "m", "max_tokens": 9, "messages": messages, "unknown": {"z": 1, "a": "b"}})
}

#[tokio::test]
async fn a_replayed_block_is_refused_or_dropped_or_replaced() {
    let attack = conversation(&json!([{"role": "user", "content": "override it"}]));
    let talk = json!([{"role": "user", "content": "override it"}, {"role": "assistant", "content": "No."}, {"role": "user", "content": "Hello"}]);
    let twice = json!([{"role": "user", "content": "override it"}, {"role": "user", "content": "Hello"}]);
    for path in [CHAT, "/v1/messages"] {
        assert_eq!(replay("refuse", path, &attack, &conversation(&talk)).await.0, 400);
        let (_, sent) = replay("notice", path, &attack, &conversation(&talk)).await;
        let expected = conversation(&talk).to_string().replace("override it", NOTICE);
        assert_eq!(sent.unwrap(), expected, "nothing else changes");
        let (_, sent) = replay("drop", path, &attack, &conversation(&twice)).await;
        assert_eq!(sent.unwrap(), conversation(&json!([{"role": "user", "content": "Hello"}])).to_string());
        // The assistant would come first.
        let (_, sent) = replay("drop", path, &attack, &conversation(&talk)).await;
        assert_eq!(sent.unwrap(), expected);
    }
}

#[tokio::test]
async fn what_was_never_blocked_before_is_refused_in_an_earlier_turn_too() {
    let upstream = upstream().await;
    let running = Running::start(Setup::with(&policy("notice")), upstream.address).await;
    let talk = conversation(&json!([{"role": "user", "content": "override it"}, {"role": "assistant", "content": "No."}, {"role": "user", "content": "Hello"}])).to_string();
    assert_eq!(running.client().post(CHAT, talk.clone()).await.status, 400);
    assert_eq!(running.client().post(CHAT, talk).await.status, 200);
    // The newest turn is refused as often as it comes.
    let attack = conversation(&json!([{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi."}, {"role": "user", "content": "override it"}])).to_string();
    for _ in 0..2 {
        assert_eq!(running.client().post(CHAT, attack.clone()).await.status, 400);
    }
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn calls_of_tools_keep_their_results() {
    let call = json!({"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{\"at\": \"x\"}"}});
    let bad_call =
        json!({"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{\"at\": \"override\"}"}});
    let with = |call: &Value, result: &str, next: Option<&str>| {
        let mut messages = vec![
            json!({"role": "user", "content": "Look"}),
            json!({"role": "assistant", "content": null, "tool_calls": [call]}),
            json!({"role": "tool", "tool_call_id": "c1", "content": result}),
        ];
        messages.extend(next.map(|next| json!({"role": "user", "content": next})));
        let tools = json!([{"type": "function", "function": {"name": "look", "parameters": {}}}]);
        json!({"model": "m", "messages": messages, "tools": tools})
    };
    for how in ["drop", "notice"] {
        let (_, sent) =
            replay(how, CHAT, &with(&call, "override", None), &with(&call, "override", Some("Go on"))).await;
        assert_eq!(sent.unwrap(), with(&call, NOTICE, Some("Go on")).to_string());
        let (_, sent) = replay(how, CHAT, &with(&bad_call, "r", None), &with(&bad_call, "r", Some("Go on"))).await;
        let sent: Value = serde_json::from_str(&sent.unwrap()).unwrap();
        assert_eq!(sent["messages"][1]["tool_calls"][0]["function"], json!({"name": "look", "arguments": "{}"}));
        assert_eq!(sent["messages"][2]["tool_call_id"], "c1");
    }
    let with = |result: Value, next: Option<&str>| {
        let mut messages = vec![
            json!({"role": "user", "content": "Look"}),
            json!({"role": "assistant", "content": [{"type": "text", "text": "So."}, {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "x"}}]}),
            json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": result}]}),
        ];
        if let Some(next) = next {
            messages.push(json!({"role": "assistant", "content": "Well."}));
            messages.push(json!({"role": "user", "content": next}));
        }
        json!({"model": "m", "max_tokens": 9, "messages": messages})
    };
    let bad = json!([{"type": "text", "text": "one"}, {"type": "text", "text": "override"}]);
    for how in ["drop", "notice"] {
        let (_, sent) = replay(how, "/v1/messages", &with(bad.clone(), None), &with(bad.clone(), Some("Go on"))).await;
        assert_eq!(sent.unwrap(), with(json!(NOTICE), Some("Go on")).to_string());
    }
}
