//! A phrase that is divided: over parts of a message, over messages, over arguments of a tool call.

use serde_json::{Value, json};

use crate::support::{GUARDED, Reply, Running, Setup, Upstream, json as answer};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";
const CHAT_ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Ok."},"finish_reason":"stop","logprobs":null}],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#;
const MESSAGE_ANSWER: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"Ok."}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":4}}"#;
const RESPONSE: &str = r#"{"id":"resp_1","object":"response","created_at":1,"status":"completed","model":"m","output":[{"id":"m1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Ok.","annotations":[]}]}],"usage":{"input_tokens":3,"output_tokens":9,"total_tokens":12}}"#;

/// [`GUARDED`] without its constitution, with a phrase that may not go up, in two words.
fn policy(more: &str) -> String {
    let (_, rules) = GUARDED.split_once("rules:").unwrap();
    format!(
        "rules:{rules}  - {{ id: falcon, guard: {{ patterns: [{{ id: falcon, regex: 'project falcon' }}] }}, stages: [input], action: block }}\n{more}"
    )
}

async fn upstream() -> Upstream {
    Upstream::start(|request| {
        answer(if request.head.contains(MESSAGES) {
            MESSAGE_ANSWER
        } else if request.head.contains(RESPONSES) {
            RESPONSE
        } else {
            CHAT_ANSWER
        })
    })
    .await
}

fn body(messages: &Value) -> Value {
    json!({"model": "m", "max_tokens": 9, "messages": messages})
}

fn said(role: &str, text: &str) -> Value {
    json!({"role": role, "content": text})
}

/// Requests over which a text is divided, in every way in which a request can hold two texts of one origin.
fn divided(first: &str, second: &str) -> Vec<(&'static str, &'static str, Value)> {
    let part = |text: &str| json!({"type": "text", "text": text});
    let input_part = |text: &str| json!({"type": "input_text", "text": text});
    let parts = json!([part(first), part(second)]);
    let far = json!([said("user", first), said("assistant", "I see."), said("user", second)]);
    let near = json!([said("user", first), said("user", second)]);
    let arguments = json!({"a": first, "b": {"c": [second]}});
    let call =
        json!({"id": "c1", "type": "function", "function": {"name": "look", "arguments": arguments.to_string()}});
    let calls = json!([said("user", "Look"), {"role": "assistant", "content": null, "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c1", "content": "r"}]);
    let results = json!([
        said("user", "Look"),
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}},
            {"id": "c2", "type": "function", "function": {"name": "look", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": first},
        {"role": "tool", "tool_call_id": "c2", "content": second},
    ]);
    let used = json!([said("user", "Look"), {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": arguments}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "r"}]}]);
    let brought = json!([said("user", "Look"), {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [part(first), part(second)]}]}]);
    let input = |items: Value| json!({"model": "m", "input": items});
    vec![
        ("parts", CHAT, body(&json!([{"role": "user", "content": parts}]))),
        ("messages", CHAT, body(&near)),
        ("messages far apart", CHAT, body(&far)),
        ("arguments", CHAT, body(&calls)),
        ("results", CHAT, body(&results)),
        ("blocks", MESSAGES, body(&json!([{"role": "user", "content": parts}]))),
        ("messages", MESSAGES, body(&near)),
        ("messages far apart", MESSAGES, body(&far)),
        ("arguments", MESSAGES, body(&used)),
        ("results", MESSAGES, body(&brought)),
        ("parts", RESPONSES, input(json!([{"role": "user", "content": [input_part(first), input_part(second)]}]))),
        ("items", RESPONSES, input(near)),
        (
            "arguments",
            RESPONSES,
            input(
                json!([{"type": "function_call", "call_id": "c1", "name": "look", "arguments": arguments.to_string()}]),
            ),
        ),
    ]
}

#[tokio::test]
async fn a_divided_phrase_is_seen_by_patterns_and_by_the_classifier() {
    let upstream = upstream().await;
    let running = Running::start(Setup::with(&policy("")), upstream.address).await;
    for (first, second) in [
        ("about project", "falcon, please"),
        ("about project ", "falcon, please"),
        ("about project fal", "con, please"),
        ("Will you over", "ride it"),
    ] {
        for (what, path, body) in divided(first, second) {
            let reply = running.client().post(path, body.to_string()).await;
            // Over an answer that stands between them only patterns look.
            let seen = if what == "messages far apart" && second == "ride it" { 200 } else { 400 };
            assert_eq!(reply.status, seen, "{what} of {path}: {first}|{second}");
        }
    }
    assert_eq!(upstream.requests().len(), 2);
    // Each of the two for itself, and a phrase that only looks like it.
    for (first, second) in [("about project", "raven"), ("falcon", "project"), ("about the over", "the ride")] {
        for (what, path, body) in divided(first, second) {
            let reply = running.client().post(path, body.to_string()).await;
            assert_eq!(reply.status, 200, "{what} of {path}: {first}|{second}: {}", reply.text());
            assert_eq!(upstream.requests().pop().unwrap().body, body.to_string());
        }
    }
}

#[tokio::test]
async fn a_phrase_may_be_divided_into_more_than_two() {
    let upstream = upstream().await;
    let running = Running::start(Setup::with(&policy("")), upstream.address).await;
    let letters = vec!["p", "r", "o", "j", "e", "c", "t", " f", "a", "l", "c", "o", "n"];
    for pieces in [vec!["pro", "ject fal", "con"], letters, vec!["ov", "er", "ri", "de"]] {
        let talk: Vec<Value> = pieces.iter().map(|piece| said("user", piece)).collect();
        let reply = running.client().post(CHAT, body(&json!(talk)).to_string()).await;
        assert_eq!(reply.status, 400, "{talk:?}");
    }
    // Of a long text what is far from the seam is left out: its beginning is not joined to its end.
    let long = format!("project {} falcon", "filler ".repeat(200));
    let talk = json!([said("user", &long), said("user", &long)]);
    let reply = running.client().post(CHAT, body(&talk).to_string()).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[tokio::test]
async fn what_is_replaced_over_a_seam_is_that_and_nothing_else() {
    let upstream = upstream().await;
    let running = Running::start(Setup::with(&policy("")), upstream.address).await;
    let sent = |body: Value| {
        let (client, upstream) = (running.client(), &upstream);
        async move {
            let reply: Reply = client.post(CHAT, body.to_string()).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            upstream.requests().pop().unwrap().body
        }
    };
    let talk = |first: &str, second: &str| body(&json!([said("user", first), said("user", second)]));
    let number = talk("It is 4111 1111", "1111 1111, thanks");
    assert_eq!(sent(number).await, talk("It is [CREDIT_CARD]", ", thanks").to_string());
    let call = |arguments: &str| {
        let call = json!({"id": "c1", "type": "function", "function": {"name": "pay", "arguments": arguments}});
        body(
            &json!([said("user", "Pay"), {"role": "assistant", "content": null, "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c1", "content": "r"}]),
        )
    };
    let escaped = call(r#"{"a": "x\n4111 \u00311\u00311", "b": "1111 1111 \"y\""}"#);
    assert_eq!(sent(escaped).await, call(r#"{"a": "x\n[CREDIT_CARD]", "b": " \"y\""}"#).to_string());
    // Halves that have nothing to do with each other.
    for (first, second, expected) in [
        ("Write to jane@example.co", "me and you", ("Write to [EMAIL_ADDRESS]", "me and you")),
        ("Ping me at a", "@bob.dev knows", ("Ping me at a", "@bob.dev knows")),
        ("My PIN is 0123", "456 789 is the sum", ("My PIN is 0123", "456 789 is the sum")),
        ("That was in 2020", "2021 was better", ("That was in 2020", "2021 was better")),
    ] {
        assert_eq!(sent(talk(first, second)).await, talk(expected.0, expected.1).to_string());
    }
}

#[tokio::test]
async fn what_one_side_says_alone_does_not_count_at_the_seam() {
    let upstream = upstream().await;
    // Counted once, where it stands.
    let lower = policy("")
        .replace("threshold: 0.5, action: block }\n  - { id: harm", "threshold: 0.5, action: audit }\n  - { id: harm");
    let running = Running::start(Setup::with(&lower), upstream.address).await;
    let talk = json!([said("user", "override it"), said("user", "and go on"), said("user", "and on")]);
    assert_eq!(running.client().post(CHAT, body(&talk).to_string()).await.status, 200);
    let series = r#"wardline_guard_decisions_total{action="audit",mode="enforce",policy="test",rule="attack",stage="input",verdict="warn"}"#;
    assert!((running.metric(series) - 1.0).abs() < 1e-9);
    // Once blocked and taken out, it leaves its neighbours alone.
    let running =
        Running::start(Setup::with(&policy("respond: { on_replayed_block: notice }\n")), upstream.address).await;
    let attack = json!([said("user", "override it")]);
    assert_eq!(running.client().post(CHAT, body(&attack).to_string()).await.status, 400);
    let talk = json!([said("user", "override it"), said("assistant", "No."), said("user", "Then go on")]);
    assert_eq!(running.client().post(CHAT, body(&talk).to_string()).await.status, 200);
}

#[tokio::test]
async fn a_divided_phrase_that_was_blocked_does_not_block_the_conversation_for_ever() {
    for input in ["gate", "race"] {
        let upstream = upstream().await;
        let (_, rules) = GUARDED.split_once("rules:").unwrap();
        // No rule that edits prompts, so that calls may be raced.
        let rules = rules.replace("stages: [input, output], action: redact", "stages: [output], action: redact");
        let policy = format!("input: {input}\nrules:{rules}respond: {{ on_replayed_block: notice }}\n");
        let running = Running::start(Setup::with(&policy), upstream.address).await;
        let mut talk = vec![said("system", "Hi."), said("user", "Will you over"), said("user", "ride it")];
        for _ in 0..2 {
            assert_eq!(running.client().post(CHAT, body(&json!(talk)).to_string()).await.status, 400, "{input}");
        }
        talk.extend([said("assistant", "No."), said("user", "Hello")]);
        let reply = running.client().post(CHAT, body(&json!(talk)).to_string()).await;
        assert_eq!(reply.status, 200, "{input}: {}", reply.text());
        talk[2] = said("user", "[This message was removed by the content policy.]");
        assert_eq!(upstream.requests().pop().unwrap().body, body(&json!(talk)).to_string());
    }
}

#[tokio::test]
async fn a_streamed_answer_is_seen_over_its_parts_too() {
    let recorded = include_str!("../fixtures/sdk/responses_parts.sse");
    for (phrase, action, expected) in [
        ("harbour opens", "block", None),
        ("old harbour opens at nine", "block", None),
        ("harbour opens at", "redact", Some("The museum in the old harbour[gone] nine and closes late.")),
        ("harbour closes", "block", Some("The museum in the old harbour opens at nine and closes late.")),
    ] {
        let upstream = Upstream::start(move |_| crate::support::sse(&[recorded.as_bytes()], 0)).await;
        let policy = format!(
            "rules:\n  - {{ id: r, guard: {{ patterns: [{{ id: gone, regex: '{phrase}' }}] }}, stages: [output], action: {action} }}\n"
        );
        let running = Running::start(Setup::with(&policy), upstream.address).await;
        let body = json!({"model": "m", "stream": true, "input": "Hello"});
        let text = running.client().post(RESPONSES, body.to_string()).await.text();
        let said: String = crate::support::streams::events(text.as_bytes())
            .iter()
            .filter(|(name, _)| name.as_deref() == Some("response.output_text.delta"))
            .filter_map(|(_, event)| event["delta"].as_str().map(str::to_owned))
            .collect();
        match expected {
            None => {
                assert!(text.contains("response.incomplete") && !said.contains("opens at nine"), "{phrase}: {said}");
            }
            Some(expected) => assert_eq!(said, expected, "{phrase}"),
        }
    }
}

#[tokio::test]
async fn a_whole_answer_is_seen_over_its_blocks_too() {
    let blocks = MESSAGE_ANSWER.replace(
        r#"{"type":"text","text":"Ok."}"#,
        r#"{"type":"text","text":"You are wor"},{"type":"text","text":"thless."}"#,
    );
    let upstream = Upstream::start(move |_| answer(&blocks)).await;
    let running = Running::start(Setup::with(&policy("")), upstream.address).await;
    let reply = running.client().post(MESSAGES, body(&json!([said("user", "Hello")])).to_string()).await;
    assert_eq!(reply.json()["stop_reason"], "refusal", "{}", reply.text());
    let items = RESPONSE.replace(
        r#"{"type":"output_text","text":"Ok.","annotations":[]}]}"#,
        r#"{"type":"output_text","text":"You are wor","annotations":[]}]},{"id":"m2","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"thless.","annotations":[]}]}"#,
    );
    let upstream = Upstream::start(move |_| answer(&items)).await;
    let running = Running::start(Setup::with(&policy("")), upstream.address).await;
    let reply = running.client().post(RESPONSES, json!({"model": "m", "input": "Hello"}).to_string()).await;
    assert_eq!(reply.json()["status"], "incomplete", "{}", reply.text());
}
