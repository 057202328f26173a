//! Second answers, drawn and judged after the client has got the first.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::streams::{ANSWERED, CHAT, MESSAGES, answer_stream, asked, material, path, read};
use super::{policy, say};
use crate::support::{Recorded, Reply, Running, Setup, Step, Upstream, chat, json as answer, sse, status};

const FIRST: &str = "All is well.";
const SECOND: &str = "All is very well.";

fn policy_with(compare: &str, pairs: &str) -> String {
    policy() + &format!("judge: {{ model: judge-1 }}\npairs: {{ compare: {{ rate: 1, {compare} }}{pairs} }}\n")
}

fn is_judge(request: &Recorded) -> bool {
    request.body.contains("You are the judge.")
}

fn score(request: &Recorded, score: u8) -> Vec<Step> {
    say(request, &json!({"reasoning": "So it is.", "score": score}).to_string())
}

/// Prefers the answer that says more, wherever it stands.
fn fair(request: &Recorded) -> Vec<Step> {
    score(request, if material(request)["second"] == SECOND { 8 } else { 2 })
}

/// A gateway whose upstream answers a client with `first`, then a second time as `rival` does, and judges as `judge` does.
async fn compared(
    setup: Setup,
    (to, stream): (&str, bool),
    rival: impl Fn(&Recorded) -> Vec<Step> + Send + Sync + 'static,
    judge: impl Fn(&Recorded) -> Vec<Step> + Send + Sync + 'static,
) -> (Running, Upstream, Reply) {
    let answers = AtomicUsize::new(0);
    let upstream = Upstream::start(move |request| {
        if is_judge(request) {
            return judge(request);
        }
        match answers.fetch_add(1, Ordering::SeqCst) {
            0 if request.json()["stream"] == true => {
                sse(&[answer_stream(path(request), &["All is", " well."]).as_bytes()], 0)
            }
            0 => say(request, FIRST),
            _ => rival(request),
        }
    })
    .await;
    let running = Running::start(setup, upstream.address).await;
    let reply = running.client().post(to, asked(to, "Hello", stream)).await;
    (running, upstream, reply)
}

fn outcome(outcome: &str) -> String {
    format!(r#"wardline_comparisons_total{{outcome="{outcome}",policy="test"}}"#)
}

#[tokio::test]
async fn the_client_gets_the_first_answer_and_the_rows_the_pair() {
    for (to, stream) in ANSWERED.into_iter().flat_map(|(path, _)| [(path, false), (path, true)]) {
        let setup = Setup::with(&policy_with("max_tokens: 300", ""));
        let (running, upstream, reply) = compared(setup, (to, stream), |request| say(request, SECOND), fair).await;
        let text = reply.text();
        assert!(!text.contains("very") && !text.contains("guardrail"), "{text}");
        if stream {
            assert_eq!(read(to, &text), FIRST);
        }
        running.wait_for(&outcome("preferred"), 1.0).await;
        let requests = upstream.requests();
        assert_eq!(requests.len(), 4, "an answer, another, two judgements");
        let again = requests[1].json();
        assert!(again.get("stream").is_none() && requests[1].body.contains("Be kind."), "{again}");
        assert_eq!(path(&requests[1]), to);
        let most = ["max_completion_tokens", "max_output_tokens", "max_tokens"];
        let most = most.iter().find_map(|name| again[*name].as_u64()).unwrap();
        assert_eq!(
            most,
            if to == MESSAGES { 50 } else { 300 },
            "what the client asked for, at most what the policy allows"
        );
        let orders: Vec<Value> = requests[2..].iter().map(|request| material(request)["first"].clone()).collect();
        assert_eq!(orders, [json!(FIRST), json!(SECOND)], "both orders");
        assert_eq!(material(&requests[2])["prompt"], json!([{"role": "user", "content": "Hello"}]));
        running.wait_for(r#"wardline_pairs_sampled_total{sink="spool"}"#, 1.0).await;
        let row = &running.rows()[0];
        assert_eq!((&row["chosen"][0]["content"], &row["rejected"][0]["content"]), (&json!(SECOND), &json!(FIRST)));
        let meta = &row["meta"];
        assert_eq!((&meta["source"], &meta["judge"]), (&json!("resample"), &json!("judge-1")));
        assert_eq!((&meta["second"], &meta["second_model"]), (&json!("chosen"), &json!("m")));
        assert_eq!((&meta["judged"], &meta["lean"], &meta["tags"]), (&json!(8.0), &json!(0.0), &json!([])));
        assert_eq!(
            (&row["score_chosen"], &row["score_rejected"], &row["margin"]),
            (&json!(0.125), &json!(0.875), &json!(0.75))
        );
        let cost = r#"wardline_revision_tokens_total{policy="test",role="rival",type="output"}"#;
        assert!(running.metric(cost) > 0.0, "{to} {stream}");
    }
}

#[tokio::test]
async fn another_model_elsewhere_is_asked_in_its_own_dialect_and_without_the_clients_headers() {
    let setup = Setup::with(&policy_with("upstream: aside, model: m2", ""));
    let (running, upstream, _reply) =
        compared(setup, (MESSAGES, false), |request| say(request, "Well."), |request| score(request, 3)).await;
    // Two judgements of 3 contradict each other; what is of interest here is what was asked.
    running.wait_for(&outcome("position_bias"), 1.0).await;
    let again = &upstream.requests()[1];
    assert!(again.head.starts_with("POST /v1/chat/completions "), "{}", again.head);
    assert_eq!(again.header("authorization"), Some("Bearer aside-secret"));
    let body = again.json();
    assert_eq!((&body["model"], &body["max_completion_tokens"]), (&json!("m2"), &json!(1024)));
    let roles: Vec<&str> =
        body["messages"].as_array().unwrap().iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user"]);
    assert!(body["messages"][0]["content"].as_str().unwrap().contains("Be kind."));
}

/// Both orders prefer the first place: once so that an answer is ahead all the same, once evenly.
#[tokio::test]
async fn a_liking_for_a_place_is_counted_and_its_pair_is_tagged() {
    for (scores, rows) in [([2, 4], 1), ([2, 2], 0)] {
        let asked = AtomicUsize::new(0);
        let judge = move |request: &Recorded| score(request, scores[asked.fetch_add(1, Ordering::SeqCst)]);
        let setup = Setup::with(&policy_with("model: m2", ""));
        let (running, _upstream, _reply) = compared(setup, (CHAT, false), |request| say(request, SECOND), judge).await;
        running.wait_for(&outcome("position_bias"), 1.0).await;
        let kept = running.rows();
        assert_eq!(kept.len(), rows);
        if let Some(row) = kept.first() {
            let meta = &row["meta"];
            assert_eq!((&meta["tags"], &meta["second"]), (&json!(["position_bias"]), &json!("rejected")));
            assert_eq!(
                (&meta["judged"], &meta["lean"], &meta["second_model"]),
                (&json!(6.0), &json!(-2.0), &json!("m2"))
            );
        }
    }
}

#[tokio::test]
async fn whatever_goes_wrong_is_counted_and_nothing_else() {
    type Play = fn(&Recorded) -> Vec<Step>;
    let calls: Play = |_| {
        let call = json!({"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let message = json!({"role": "assistant", "content": null, "tool_calls": [call]});
        answer(&json!({"id": "c", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}).to_string())
    };
    let second: Play = |request| say(request, SECOND);
    let cases: [(&str, Play, Play); 10] = [
        ("equal", second, |request| score(request, 5)),
        ("same", |request| say(request, FIRST), fair),
        ("objected", |request| say(request, "You are worthless."), fair),
        ("unfit", calls, fair),
        ("unfit", |request| say(request, " "), fair),
        ("failed", |_| status(500, "", "{}"), fair),
        ("failed", |_| vec![Step::Reset], fair),
        ("failed", second, |request| say(request, "The second, clearly.")),
        ("out_of_time", |_| vec![Step::Hold], fair),
        ("out_of_time", second, |_| vec![Step::Hold]),
    ];
    for (word, rival, judge) in cases {
        let setup = Setup::with(&policy_with("timeout: 1s", ""));
        let (running, _upstream, reply) = compared(setup, (CHAT, false), rival, judge).await;
        assert_eq!(reply.json()["choices"][0]["message"]["content"], FIRST, "{word}");
        running.wait_for(&outcome(word), 1.0).await;
        assert!(running.rows().is_empty(), "{word}");
    }
}

#[tokio::test]
async fn nobody_waits_and_there_is_a_bound() {
    let gate = Arc::new(Notify::new());
    let held = Arc::clone(&gate);
    let mut setup = Setup::with(&policy_with("", ""));
    setup.config.comparisons = 1;
    let rival = move |request: &Recorded| {
        if request.body.contains("Again") {
            return say(request, FIRST);
        }
        [vec![Step::Wait(Arc::clone(&held))], say(request, SECOND)].concat()
    };
    // The answer is here although the second one hangs; a further request finds no place, and is answered just so.
    let (running, upstream, reply) = compared(setup, (CHAT, false), rival, fair).await;
    assert_eq!(reply.json()["choices"][0]["message"]["content"], FIRST);
    while upstream.requests().len() < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let other = running.client().post(CHAT, chat("Again", false)).await;
    assert_eq!(other.json()["choices"][0]["message"]["content"], FIRST);
    running.wait_for(&outcome("busy"), 1.0).await;
    gate.notify_one();
    running.wait_for(&outcome("preferred"), 1.0).await;
}

#[tokio::test]
async fn who_is_not_in_the_sample_or_has_no_place_left_is_not_compared() {
    let none = policy_with("", "").replace("rate: 1,", "rate: 0,");
    let capped =
        policy_with("", ", per_principle_per_day: 0").replace("per_principle_per_day: 0", "per_client_per_day: 1");
    for (policy, questions) in [(none, 2), (capped, 5)] {
        let upstream = Upstream::start(|request| match request {
            request if is_judge(request) => fair(request),
            request if request.json().get("max_completion_tokens").is_some() => say(request, SECOND),
            request => say(request, FIRST),
        })
        .await;
        let running = Running::start(Setup::with(&policy), upstream.address).await;
        for _ in 0..2 {
            running.client().post(CHAT, chat("Hello", false)).await;
            running.wait_for(&outcome("preferred"), if questions == 2 { 0.0 } else { 1.0 }).await;
        }
        assert_eq!(upstream.requests().len(), questions);
    }
    // Whoever pays with a key of their own does not pay for this.
    let mut setup = Setup::with(&policy_with("", ""));
    setup.forward_client_key = true;
    let (_running, upstream, _reply) = compared(setup, (CHAT, false), |request| say(request, SECOND), fair).await;
    assert_eq!(upstream.requests().len(), 1);
}
