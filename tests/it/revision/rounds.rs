//! Rounds within a budget, and what must come through them unharmed.

use serde_json::{Value, json};

use super::{REWRITE, Role, VIOLATED, policy, role, say};
use crate::support::{Recorded, Running, Setup, Step, Upstream, chat, json as answer, message};

/// Three principles and as many rounds.
fn thorough(revise: &str) -> String {
    let more = "    - { id: brief, text: Be brief., critique: Where is it long?, revision: Shorten it. }\n    - { id: honest, text: Say what is true., critique: What is false?, revision: Mend it. }\nrules:";
    policy().replacen("rules:", more, 1) + &format!("revise: {{ {revise} }}\n")
}

/// The JSON document that critic or reviser got.
fn material(request: &Recorded) -> Value {
    let body = request.json();
    let message = body["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap();
    serde_json::from_str(message).unwrap()
}

const CLEAN: &str = r#"{"violated": false, "where": "", "why": "It keeps to it."}"#;

async fn running(policy: &str, script: impl Fn(&Recorded) -> Vec<Step> + Send + Sync + 'static) -> (Upstream, Running) {
    let upstream = Upstream::start(script).await;
    let running = Running::start(Setup::with(policy), upstream.address).await;
    (upstream, running)
}

fn outcome(outcome: &str) -> String {
    format!(r#"wardline_revision_outcomes_total{{outcome="{outcome}",policy="test"}}"#)
}

#[tokio::test]
async fn the_violated_principle_comes_first_and_each_other_once() {
    let mut seconds = std::collections::BTreeSet::new();
    let (upstream, running) = running(&thorough("rounds: 3"), |request| match role(request) {
        Role::Assistant => say(request, "You are worthless."),
        Role::Critic => say(request, VIOLATED),
        Role::Reviser => {
            let round =
                format!("{} You matter.", material(request)["answer"].as_str().unwrap().replace("worthless", ""));
            say(request, &json!({"revision": round}).to_string())
        }
    })
    .await;
    for _ in 0..24 {
        let before = upstream.requests().len();
        let reply = running.client().post("/v1/chat/completions", chat("Hello", false)).await;
        assert_eq!(reply.header("x-guardrail-action"), "revise");
        assert_eq!(
            reply.text().matches("You matter.").count(),
            3,
            "each round works on the last one's: {}",
            reply.text()
        );
        let asked = upstream.requests()[before..].to_vec();
        let principles: Vec<String> =
            asked[1..].iter().map(|request| material(request)["principle"].as_str().unwrap().to_owned()).collect();
        assert_eq!(principles.len(), 6);
        assert_eq!(principles[..2], ["Do not demean people.", "Do not demean people."]);
        assert!(principles[2] == principles[3] && principles[4] == principles[5] && principles[2] != principles[4]);
        assert!(!principles[2..].contains(&principles[0]));
        seconds.insert(principles[2].clone());
    }
    assert_eq!(seconds.len(), 2, "sampled: not always the same one");
}

#[tokio::test]
async fn it_ends_early_when_the_critic_finds_nothing() {
    let (upstream, running) = running(&thorough("rounds: 3"), |request| match role(request) {
        Role::Assistant => say(request, "You are worthless."),
        Role::Critic if material(request)["answer"] == "You matter." => say(request, CLEAN),
        Role::Critic => say(request, VIOLATED),
        Role::Reviser => say(request, REWRITE),
    })
    .await;
    let reply = running.client().post("/v1/chat/completions", chat("Hello", false)).await;
    assert_eq!(reply.json()["choices"][0]["message"]["content"], "You matter.");
    assert_eq!(upstream.requests().len(), 4, "answer, critique, revision, critique");
    running.wait_for(r#"wardline_pairs_sampled_total{sink="spool"}"#, 1.0).await;
    assert_eq!(running.rows()[0]["meta"]["critique"], "It demeans.", "that of the rejected answer");
}

#[tokio::test]
async fn a_second_round_mends_what_the_first_did_not() {
    let (upstream, running) = running(&policy_with("rounds: 2"), |request| match role(request) {
        Role::Assistant => say(request, "You are worthless."),
        Role::Critic => say(request, VIOLATED),
        Role::Reviser if material(request)["answer"] == "You are worthless." => {
            say(request, r#"{"revision": "Worthless, sorry to say."}"#)
        }
        Role::Reviser => say(request, REWRITE),
    })
    .await;
    let reply = running.client().post("/v1/messages", message("Hello", false)).await;
    assert_eq!(reply.json()["content"], json!([{"type": "text", "text": "You matter."}]));
    assert_eq!(upstream.requests().len(), 5);
    running.wait_for(&outcome("accepted"), 1.0).await;
}

#[tokio::test]
async fn endless_disagreement_ends_with_the_rounds() {
    let (upstream, running) = running(&policy_with("rounds: 4"), |request| match role(request) {
        Role::Assistant => say(request, "You are worthless."),
        Role::Critic => say(request, VIOLATED),
        Role::Reviser => say(request, r#"{"revision": "No: worthless."}"#),
    })
    .await;
    let reply = running.client().post("/v1/chat/completions", chat("Hello", false)).await;
    assert_eq!(reply.json()["choices"][0]["finish_reason"], "content_filter");
    assert_eq!(upstream.requests().len(), 9);
    running.wait_for(&outcome("still_violating"), 1.0).await;
}

#[tokio::test]
async fn a_mistake_in_a_later_round_is_no_pass() {
    for (critic, reviser) in [("verdict: safe", REWRITE), (VIOLATED, "Here you are: fine.")] {
        let (_upstream, running) = running(&thorough("rounds: 3"), move |request| match role(request) {
            Role::Assistant => say(request, "You are worthless."),
            Role::Critic if material(request)["answer"] == "You matter." => say(request, critic),
            Role::Critic => say(request, VIOLATED),
            Role::Reviser if material(request)["answer"] == "You matter." => say(request, reviser),
            Role::Reviser => say(request, REWRITE),
        })
        .await;
        let reply = running.client().post("/v1/chat/completions", chat("Hello", false)).await;
        assert_eq!(reply.json()["choices"][0]["finish_reason"], "content_filter");
        running.wait_for(&outcome("failed"), 1.0).await;
    }
}

/// Each answer of [`say`] costs 4 tokens.
#[tokio::test]
async fn tokens_run_out() {
    let (upstream, running) = running(&policy_with("rounds: 16, max_tokens: 32"), |request| match role(request) {
        Role::Assistant => say(request, "You are worthless."),
        Role::Critic => say(request, VIOLATED),
        Role::Reviser => say(request, r#"{"revision": "No: worthless."}"#),
    })
    .await;
    let reply = running.client().post("/v1/chat/completions", chat("Hello", false)).await;
    assert_eq!(reply.json()["choices"][0]["finish_reason"], "content_filter");
    let limits: Vec<u64> =
        upstream.requests()[1..].iter().map(|r| r.json()["max_completion_tokens"].as_u64().unwrap()).collect();
    assert_eq!(limits, [32, 28, 24, 20, 16]);
    running.wait_for(&outcome("out_of_budget"), 1.0).await;
}

#[tokio::test]
async fn time_runs_out_and_what_passed_until_then_counts() {
    for (rounds, mended) in [(1, false), (3, true)] {
        let policy = thorough(&format!("rounds: {rounds}, timeout: 1s"));
        let (_upstream, running) = running(&policy, move |request| match role(request) {
            Role::Assistant => say(request, "You are worthless."),
            Role::Critic if !mended || material(request)["answer"] == "You matter." => vec![Step::Hold],
            Role::Critic => say(request, VIOLATED),
            Role::Reviser => say(request, REWRITE),
        })
        .await;
        let reply = running.client().post("/v1/chat/completions", chat("Hello", false)).await;
        assert_eq!(reply.text().contains("You matter."), mended, "{}", reply.text());
        assert!(!reply.text().contains("worthless"));
        running.wait_for(&outcome(if mended { "accepted" } else { "out_of_budget" }), 1.0).await;
    }
}

/// How a critic or reviser can misbehave, in both dialects: nothing of it reaches the client, and it is an error.
#[tokio::test]
async fn whatever_comes_back_is_read_strictly() {
    let long = format!(r#"{{"violated": true, "where": "", "why": "{}"}}"#, "x".repeat(300_000));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("prose", b"I find nothing wrong.".to_vec()),
        ("two verdicts", format!("{CLEAN}{VIOLATED}").into()),
        ("too long", long.into()),
        ("delimiters", br#"```json{"violated": false}``` "#.to_vec()),
        ("fence in a fence", format!("```json\n```json\n{CLEAN}\n```\n```").into()),
        ("a list", format!("[{CLEAN}]").into()),
        ("nothing", Vec::new()),
    ];
    for path in ["/v1/chat/completions", "/v1/messages"] {
        for (what, critic) in cases.clone() {
            let critic = String::from_utf8(critic).unwrap();
            let (upstream, running) = running(&policy_with("rounds: 3"), move |request| match role(request) {
                Role::Assistant => say(request, "You are worthless."),
                Role::Critic => say(request, &critic),
                Role::Reviser => say(request, REWRITE),
            })
            .await;
            let body = if path == "/v1/messages" { message("Hello", false) } else { chat("Hello", false) };
            let reply = running.client().post(path, body).await;
            assert!(reply.text().contains("refusal") && !reply.text().contains("matter"), "{what}: {}", reply.text());
            assert_eq!(upstream.requests().len(), 2, "{what}");
            running.wait_for(&outcome("failed"), 1.0).await;
        }
    }
}

#[tokio::test]
async fn a_dead_or_refusing_critic_is_an_error() {
    for steps in [vec![Step::Reset], crate::support::status(500, "", "{}"), answer("[]")] {
        let (_upstream, running) = running(&policy(), move |request| match role(request) {
            Role::Assistant => say(request, "You are worthless."),
            _ => steps.clone(),
        })
        .await;
        let reply = running.client().post("/v1/chat/completions", chat("Hello", false)).await;
        assert_eq!(reply.json()["choices"][0]["finish_reason"], "content_filter");
        running.wait_for(&outcome("failed"), 1.0).await;
    }
}

#[tokio::test]
async fn the_client_pays_for_its_answer_and_the_rest_is_counted() {
    for (path, usage) in [
        ("/v1/chat/completions", json!({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7})),
        ("/v1/messages", json!({"input_tokens": 3, "output_tokens": 4})),
    ] {
        let (_upstream, running) = running(&policy(), |request| match role(request) {
            Role::Assistant => say(request, "You are worthless."),
            Role::Critic => say(request, VIOLATED),
            Role::Reviser => say(request, REWRITE),
        })
        .await;
        let body = if path == "/v1/messages" { message("Hello", false) } else { chat("Hello", false) };
        let reply = running.client().post(path, body).await;
        assert_eq!((&reply.json()["usage"], reply.text().contains("You matter.")), (&usage, true));
        for (role, kind, tokens) in
            [("critic", "input", 3.0), ("critic", "output", 4.0), ("reviser", "input", 3.0), ("reviser", "output", 4.0)]
        {
            let series = format!(r#"wardline_revision_tokens_total{{policy="test",role="{role}",type="{kind}"}}"#);
            assert!((running.metric(&series) - tokens).abs() < 1e-9, "{series}");
        }
    }
}

#[tokio::test]
async fn another_upstream_and_model_are_asked_without_the_clients_headers() {
    let (upstream, running) = running(&policy_with("upstream: aside, model: judge-1"), |request| match role(request) {
        Role::Assistant => say(request, "You are worthless."),
        Role::Critic => say(request, VIOLATED),
        Role::Reviser => say(request, REWRITE),
    })
    .await;
    let request = http::Request::post("/v1/messages")
        .header("content-type", "application/json")
        .header("anthropic-version", "2023-06-01")
        .header("x-tenant", "acme");
    let reply = running.client().send(request, message("Hello", false)).await;
    assert_eq!(reply.json()["content"][0]["text"], "You matter.");
    let asked = upstream.requests();
    assert_eq!((asked[0].header("x-tenant"), asked[0].header("x-api-key")), (Some("acme"), Some("upstream-secret")));
    for request in &asked[1..] {
        assert!(request.head.starts_with("POST /v1/chat/completions "), "{}", request.head);
        assert_eq!((request.header("x-tenant"), request.header("authorization")), (None, Some("Bearer aside-secret")));
        assert_eq!(request.json()["model"], "judge-1");
    }
}

fn policy_with(revise: &str) -> String {
    policy() + &format!("revise: {{ {revise} }}\n")
}

/// An answer that says something and calls a tool, in the dialect of the request.
fn call_tool(request: &Recorded, text: &str, city: &str) -> Vec<Step> {
    let body = if request.head.contains("/v1/messages") {
        json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [
            {"type": "text", "text": text},
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": city, "n": 1.50}},
        ], "stop_reason": "tool_use", "stop_sequence": null, "usage": {"input_tokens": 3, "output_tokens": 4}})
    } else {
        json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0, "message": {
            "role": "assistant", "content": text, "tool_calls": [{"id": "call_1", "type": "function",
            "function": {"name": "weather", "arguments": json!({"city": city}).to_string()}}],
        }, "finish_reason": "tool_calls"}], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}})
    };
    answer(&body.to_string())
}

#[tokio::test]
async fn tool_calls_survive_or_the_answer_is_refused_whole() {
    for path in ["/v1/chat/completions", "/v1/messages"] {
        for (text, city, survives) in [
            ("You are worthless.", "Rome", true),
            ("All is well.", "worthless", false),
            ("worthless", "worthless", false),
        ] {
            let (upstream, running) = running(&policy(), move |request| match role(request) {
                Role::Assistant => call_tool(request, text, city),
                Role::Critic => say(request, VIOLATED),
                Role::Reviser => say(request, REWRITE),
            })
            .await;
            let body = if path == "/v1/messages" { message("Hello", false) } else { chat("Hello", false) };
            let reply = running.client().post(path, body).await;
            let told = reply.text();
            assert!(!told.contains("worthless"), "{told}");
            if survives {
                assert!(told.contains("You matter."), "{told}");
                let call = if path == "/v1/messages" {
                    r#"{"type":"tool_use","id":"toolu_1","name":"weather","input":{"city":"Rome","n":1.5}}"#
                } else {
                    r#""tool_calls":[{"id":"call_1","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Rome\"}"}}]"#
                };
                assert!(told.contains(call), "{told}");
                running.wait_for(r#"wardline_pairs_sampled_total{sink="spool"}"#, 1.0).await;
                let row = &running.rows()[0];
                assert_eq!(row["meta"]["tags"], json!(["tool_calls"]), "whole, and told apart");
                for (side, text) in [("rejected", "You are worthless."), ("chosen", "You matter.")] {
                    let said = &row[side][0];
                    assert_eq!(
                        (&said["content"], &said["tool_calls"][0]["function"]["name"]),
                        (&json!(text), &json!("weather"))
                    );
                    let arguments = said["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
                    assert_eq!(serde_json::from_str::<Value>(arguments).unwrap()["city"], "Rome");
                }
            } else {
                assert!(!told.contains("weather") && told.contains("refusal"), "{told}");
                assert_eq!(upstream.requests().len(), 1, "nobody is asked in vain");
                running.wait_for(r#"wardline_pairs_sampled_total{sink="spool"}"#, 1.0).await;
                let row = &running.rows()[0];
                assert_eq!((&row["label"], &row["meta"]["tags"]), (&json!(false), &json!(["tool_calls"])));
                assert_eq!(row["completion"][0]["tool_calls"][0]["function"]["name"], "weather");
            }
        }
    }
}

#[tokio::test]
async fn structured_output_stays_what_was_asked_for_or_is_refused_whole() {
    let schema = json!({"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}, "text": {"type": "string"}},
        "required": ["mood", "text"], "additionalProperties": false});
    let openai = json!({"model": "m", "messages": [{"role": "user", "content": "Hello"}], "response_format":
        {"type": "json_schema", "json_schema": {"name": "reply", "strict": true, "schema": schema}}});
    let anthropic = json!({"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}],
        "output_config": {"format": {"type": "json_schema", "schema": schema}}});
    let good = json!({"mood": "good", "text": "You matter."}).to_string();
    for (path, body) in [("/v1/chat/completions", openai), ("/v1/messages", anthropic)] {
        for (revision, survives) in
            [(good.clone(), true), (good.replace("good", "kind"), false), ("You matter.".to_owned(), false)]
        {
            let revised = json!({"revision": revision}).to_string();
            let (upstream, running) = running(&policy(), move |request| match role(request) {
                Role::Assistant => say(request, r#"{"mood": "bad", "text": "You are worthless."}"#),
                Role::Critic => say(request, VIOLATED),
                Role::Reviser => say(request, &revised),
            })
            .await;
            let reply = running.client().post(path, body.to_string()).await;
            assert_eq!(reply.text().contains("You matter."), survives, "{}", reply.text());
            assert!(!reply.text().contains("worthless"), "{}", reply.text());
            assert_eq!(material(&upstream.requests()[2])["form"], schema, "the reviser is told");
        }
    }
}
