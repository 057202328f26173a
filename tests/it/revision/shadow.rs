//! Revision in the shadow: the client gets the original, the rows get the pair.

use serde_json::{Value, json};

use super::{Role, VIOLATED, policy, role, say};
use crate::support::{Running, Setup, Step, Upstream, chat, message, sse};

fn policy_with(shadow: &str) -> String {
    policy() + &format!("revise: {{ shadow: {shadow}, rounds: 2 }}\n")
}

fn outcome(outcome: &str) -> String {
    format!(r#"wardline_revision_outcomes_total{{outcome="{outcome}",policy="test"}}"#)
}

const BETTER: &str = r#"{"revision": "All is very well."}"#;

/// A harmless answer, whole or streamed.
fn calm(request: &crate::support::Recorded) -> Vec<Step> {
    if request.json()["stream"] != true {
        return say(request, "All is well.");
    }
    let chunk = |delta: Value, finish: Value| {
        format!(
            "data: {}\n\n",
            json!({"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        )
    };
    let stream = chunk(json!({"role": "assistant", "content": "All is"}), Value::Null)
        + &chunk(json!({"content": " well."}), Value::Null)
        + &chunk(json!({}), json!("stop"))
        + "data: [DONE]\n\n";
    sse(&[stream.as_bytes()], 0)
}

#[tokio::test]
async fn the_client_gets_the_original_and_the_rows_a_pair() {
    for (path, body) in [
        ("/v1/chat/completions", chat("Hello", false)),
        ("/v1/chat/completions", chat("Hello", true)),
        ("/v1/messages", message("Hello", false)),
    ] {
        for rules in [
            policy_with("1.0"),
            "constitution: { principles: [{ id: kind, text: Be kind. }] }\nrules: []\nrevise: { shadow: 1.0 }\n"
                .to_owned(),
        ] {
            let upstream = Upstream::start(|request| match role(request) {
                Role::Assistant => calm(request),
                Role::Critic => say(request, VIOLATED),
                Role::Reviser => say(request, BETTER),
            })
            .await;
            let running = Running::start(Setup::with(&rules), upstream.address).await;
            let reply = running.client().post(path, body.clone()).await;
            assert!(reply.text().contains(" well.") && !reply.text().contains("very"), "{}", reply.text());
            assert!(!reply.text().contains("guardrail") && reply.header("x-guardrail-action") != "revise");
            running.wait_for(&outcome("shadow_revised"), 1.0).await;
            running.wait_for(r#"wardline_pairs_sampled_total{sink="spool"}"#, 1.0).await;
            let rows = running.rows();
            assert_eq!(rows[0]["chosen"][0]["content"], "All is very well.");
            assert_eq!(rows[0]["rejected"][0]["content"], "All is well.");
            let meta = &rows[0]["meta"];
            assert_eq!((&meta["source"], &meta["principle_id"]), (&json!("shadow"), &json!("kind")));
            assert_eq!((&meta["guards"], &rows[0]["margin"]), (&json!([]), &Value::Null));
            assert_eq!(rows[0]["prompt"], json!([{"role": "user", "content": "Hello"}]));
        }
    }
}

#[tokio::test]
async fn nothing_found_or_not_sampled_leaves_nothing() {
    for (shadow, calls) in [("1.0", 2), ("0.0", 1)] {
        let upstream = Upstream::start(|request| match role(request) {
            Role::Assistant => calm(request),
            _ => say(request, r#"{"violated": false, "where": "", "why": "Fine."}"#),
        })
        .await;
        let running = Running::start(Setup::with(&policy_with(shadow)), upstream.address).await;
        running.client().post("/v1/chat/completions", chat("Hello", false)).await;
        running.wait_for(&outcome("shadow_kept"), if calls == 2 { 1.0 } else { 0.0 }).await;
        assert_eq!(upstream.requests().len(), calls);
        assert!(running.rows().is_empty());
    }
}

#[tokio::test]
async fn a_revision_in_the_shadow_is_judged_like_any_other() {
    let upstream = Upstream::start(|request| match role(request) {
        Role::Assistant => calm(request),
        Role::Critic => say(request, VIOLATED),
        Role::Reviser => say(request, r#"{"revision": "You are worthless."}"#),
    })
    .await;
    let running = Running::start(Setup::with(&policy_with("1.0")), upstream.address).await;
    let reply = running.client().post("/v1/chat/completions", chat("Hello", false)).await;
    assert!(reply.text().contains("All is well."));
    running.wait_for(&outcome("shadow_kept"), 1.0).await;
    assert!(running.rows().is_empty());
}
