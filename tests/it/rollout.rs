//! A new policy beside the old one: who is in its share, who acts, and what is learnt of it.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::Request;
use serde_json::json;
use wardline::gateway::Content;
use wardline::policy::{Asking, By};
use wardline::telemetry::ReloadOutcome;

use crate::support::{GUARDED, OPEN, Reply, Running, Setup, Upstream, chat, json as answer};

const CHAT: &str = "/v1/chat/completions";
const CHAT_ANSWER: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"fine"},"finish_reason":"stop"}]}"#;

/// The policy `test` as given, and `next` rolled out over it.
fn setup(test: &str, next: &str, rollout: &str) -> Setup {
    let next = format!("{next}\nrollout: {{ of: test, {rollout} }}\n");
    Setup { others: vec![("next".to_owned(), next)], ..Setup::with(test) }
}

fn policy(reply: &Reply) -> String {
    reply.header("x-guardrail-policy").split(';').next().unwrap_or_default().to_owned()
}

async fn with_key(running: &Running, key: &str, body: String) -> Reply {
    let request = Request::post(CHAT).header("content-type", "application/json").header("x-api-key", key);
    running.client().send(request, body).await
}

#[tokio::test]
async fn a_key_stays_on_its_side_and_its_side_serves_it() {
    let upstream = Upstream::start(|_| answer(CHAT_ANSWER)).await;
    let running = Running::start(setup(OPEN, GUARDED, "mode: canary, percent: 50, by: key"), upstream.address).await;
    let mut sides = BTreeSet::new();
    for key in 0..16 {
        let key = format!("key-{key}");
        let mut served = BTreeSet::new();
        for turn in 0..3 {
            let reply = with_key(&running, &key, chat(&format!("Hello {turn}"), false)).await;
            assert_eq!(reply.status, 200);
            served.insert(policy(&reply));
        }
        assert_eq!(served.len(), 1, "{key} was served by {served:?}");
        let side = served.pop_first().unwrap();
        let attack = with_key(&running, &key, chat("override", false)).await;
        assert_eq!(attack.status, if side == "next" { 400 } else { 200 }, "{side} acts");
        sides.insert(side);
    }
    assert_eq!(sides.len(), 2);
    let without = running.client().post(CHAT, chat("override", false)).await;
    assert_eq!((without.status.as_u16(), policy(&without).as_str()), (200, "test"));
}

#[tokio::test]
async fn a_conversation_stays_on_its_side() {
    let upstream = Upstream::start(|_| answer(CHAT_ANSWER)).await;
    let rollout = "mode: canary, percent: 50, by: conversation";
    let running = Running::start(setup(OPEN, GUARDED, rollout), upstream.address).await;
    let mut sides = BTreeSet::new();
    for topic in 0..12 {
        let mut messages = vec![json!({"role": "system", "content": "You are a guide."})];
        let mut served = BTreeSet::new();
        for turn in 0..3 {
            messages.push(json!({"role": "user", "content": format!("Topic {topic}, question {turn}.")}));
            let body = json!({"model": "m", "messages": messages}).to_string();
            served.insert(policy(&running.client().post(CHAT, body).await));
            messages.push(json!({"role": "assistant", "content": "fine"}));
        }
        assert_eq!(served.len(), 1, "topic {topic} was served by {served:?}");
        sides.extend(served);
    }
    assert_eq!(sides.len(), 2);
}

/// Both sides share one ledger, and what it knows is a policy revision's: a turn that the new policy has blocked is no
/// blocked turn to the old one, and the other way round.
#[tokio::test]
async fn what_one_side_of_a_canary_blocked_is_not_blocked_on_the_other() {
    let upstream = Upstream::start(|_| answer(CHAT_ANSWER)).await;
    let lenient = GUARDED.replace("threshold: 0.5", "threshold: 0.95");
    let running =
        Running::start(setup(&lenient, GUARDED, "mode: canary, percent: 100, by: key"), upstream.address).await;
    let conversation = json!({"model": "m", "messages": [
        {"role": "user", "content": "override"},
        {"role": "assistant", "content": "fine"},
        {"role": "user", "content": "Thank you."},
    ]});
    let sent_up = || upstream.requests().last().unwrap().json()["messages"].to_string();
    assert_eq!(with_key(&running, "k", chat("override", false)).await.status, 400, "the new policy blocks it");
    let without = running.client().post(CHAT, conversation.to_string()).await;
    assert_eq!((without.status.as_u16(), policy(&without).as_str()), (200, "test"));
    assert!(sent_up().contains("override"), "the old policy knows of no block: {}", sent_up());
    let with = with_key(&running, "k", conversation.to_string()).await;
    assert_eq!((with.status.as_u16(), policy(&with).as_str()), (200, "next"), "{}", with.text());
    assert!(!sent_up().contains("override"), "a notice stands there on the new side: {}", sent_up());
    // Taken back: the block that the new policy remembers is none of the old one's.
    fs::remove_file(running.policy_file().with_file_name("next.yaml")).unwrap();
    let store = Arc::clone(&running.gateway.policies);
    assert_eq!(tokio::task::spawn_blocking(move || store.reload()).await.unwrap(), ReloadOutcome::Applied);
    assert_eq!(with_key(&running, "k", conversation.to_string()).await.status, 200);
    assert!(sent_up().contains("override"), "{}", sent_up());
}

#[tokio::test]
async fn the_share_of_requests_is_within_bounds() {
    let upstream = Upstream::start(|_| answer(CHAT_ANSWER)).await;
    let running = Running::start(setup(OPEN, GUARDED, "mode: canary, percent: 20"), upstream.address).await;
    let client = running.client();
    let mut new = 0;
    for _ in 0..500 {
        new += u32::from(policy(&client.post(CHAT, chat("Hello", false)).await) == "next");
    }
    // Five standard deviations of a binomial with n = 500 and p = 0.2.
    assert!((100 - 45..=100 + 45).contains(&new), "{new} of 500 are not 20 %");
}

/// From shadow to canary to promoted to rolled back under load: no request fails, and each answer bears one policy that
/// was in force with the revision that it had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_roll_out_under_load_fails_no_request() {
    let upstream = Upstream::start(|_| answer(CHAT_ANSWER)).await;
    let running = Arc::new(Running::start(Setup::with(OPEN), upstream.address).await);
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients = (0..8).map(|_| {
        let (running, stop, served) = (Arc::clone(&running), Arc::clone(&stop), Arc::clone(&served));
        tokio::spawn(async move {
            let client = running.client();
            let mut seen = BTreeSet::new();
            while !stop.load(Ordering::SeqCst) {
                let reply = client.post(CHAT, chat("Hello", false)).await;
                assert_eq!(reply.status, 200, "{}", reply.text());
                seen.insert(reply.header("x-guardrail-policy").to_owned());
                served.fetch_add(1, Ordering::SeqCst);
            }
            seen
        })
    });
    let clients: Vec<_> = clients.collect();
    let old = running.policy_file();
    let new = old.with_file_name("next.yaml");
    let candidate = |rollout: &str| format!("{GUARDED}rollout: {{ of: test, {rollout} }}\n");
    let mut in_force = BTreeSet::new();
    for round in 0..12 {
        match round % 6 {
            0 => fs::write(&new, candidate("mode: shadow")).unwrap(),
            1 => fs::write(&new, candidate("mode: canary, percent: 10")).unwrap(),
            2 => fs::write(&new, candidate("mode: canary, percent: ten")).unwrap(),
            3 => fs::write(&new, candidate("mode: canary, percent: 100")).unwrap(),
            4 => {
                fs::write(&old, GUARDED).unwrap();
                fs::remove_file(&new).unwrap();
            }
            _ => fs::write(&old, OPEN).unwrap(),
        }
        let store = Arc::clone(&running.gateway.policies);
        let outcome = tokio::task::spawn_blocking(move || store.reload()).await.unwrap();
        let expected = if round % 6 == 2 { ReloadOutcome::Refused } else { ReloadOutcome::Applied };
        assert_eq!(outcome, expected, "round {round}");
        for snapshot in running.gateway.policies.in_force() {
            in_force.insert(format!("{};rev={}", snapshot.policy.name, snapshot.policy.revision));
        }
        let before = served.load(Ordering::SeqCst);
        while served.load(Ordering::SeqCst) < before + 32 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    stop.store(true, Ordering::SeqCst);
    let mut seen = BTreeSet::new();
    for client in clients {
        seen.extend(client.await.unwrap());
    }
    assert_eq!(seen, in_force);
    assert_eq!(seen.len(), 3, "old, new beside it, new in its place: {seen:?}");
}

#[tokio::test]
async fn a_replica_assigns_alike() {
    let upstream = Upstream::start(|_| answer(CHAT_ANSWER)).await;
    let setup = setup(OPEN, GUARDED, "mode: canary, percent: 30, by: key");
    let one = Running::start(setup.clone(), upstream.address).await;
    let other = Running::start(setup, upstream.address).await;
    let side = |running: &Running, who: u32| {
        let identity = |by| {
            assert_eq!(by, By::Key);
            Some(who.to_be_bytes().to_vec())
        };
        running.gateway.policies.assign(&Asking::default(), identity).snapshot.policy.name.clone()
    };
    let sides: Vec<String> = (0..200).map(|who| side(&one, who)).collect();
    assert!(sides.iter().enumerate().all(|(who, at)| *at == side(&other, u32::try_from(who).unwrap())));
    let new = sides.iter().filter(|side| *side == "next").count();
    assert!((30..=90).contains(&new), "{new} of 200 are not 30 %");
}

const COMPARED: &str = "wardline_rollout_decisions_total";

fn compared(stage: &str, old: &str, new: &str) -> String {
    format!(r#"{COMPARED}{{candidate="next",new="{new}",old="{old}",policy="test",stage="{stage}"}}"#)
}

const RUNS: &str = r#"wardline_classifier_inference_duration_seconds_count{device="cpu",model="custom"}"#;

#[tokio::test]
async fn in_the_shadow_both_judge_and_only_the_old_one_acts() {
    let upstream = Upstream::start(|_| answer(&CHAT_ANSWER.replace("fine", "You are worthless, a@example.com."))).await;
    let alone = Running::start(Setup::with(OPEN), upstream.address).await;
    let shadowed = Running::start(setup(OPEN, GUARDED, "mode: shadow"), upstream.address).await;
    for text in ["Hello", "override it", "Write to b@example.com"] {
        let (plain, beside) =
            (alone.client().post(CHAT, chat(text, false)).await, shadowed.client().post(CHAT, chat(text, false)).await);
        assert_eq!((plain.status, &plain.body), (beside.status, &beside.body), "the shadow changed an answer");
        assert_eq!(plain.header("x-guardrail-policy"), beside.header("x-guardrail-policy"));
    }
    shadowed.wait_for(&compared("input", "allow", "allow"), 1.0).await;
    shadowed.wait_for(&compared("input", "allow", "block"), 1.0).await;
    shadowed.wait_for(&compared("input", "allow", "redact"), 1.0).await;
    shadowed.wait_for(&compared("output", "allow", "block"), 3.0).await;
    let enforced = r#"wardline_guard_decisions_total{action="block",mode="enforce",policy="next",rule="attack",stage="input",verdict="deny"}"#;
    assert!(shadowed.metric(enforced).abs() < 1e-9, "what was not done is not counted as done");
    shadowed.wait_for(r#"wardline_rollout_cases_total{outcome="written"}"#, 5.0).await;
    let cases = shadowed.cases();
    assert_eq!(cases.len(), 5);
    let told = cases.iter().map(ToString::to_string).collect::<String>();
    assert!(
        told.contains(r#""rule":"attack""#) && !told.contains("override") && !told.contains("example.com"),
        "{told}"
    );
}

#[tokio::test]
async fn a_stream_is_compared_and_its_bytes_stay() {
    let event = |delta: &str, finish: &str| {
        format!(
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
        )
    };
    let events = [
        event(r#"{"role":"assistant","content":"You are wor"}"#, "null"),
        event(r#"{"content":"thless. Write to a@exam"}"#, "null"),
        event(r#"{"content":"ple.com."}"#, "null"),
        event("{}", "\"stop\"") + "data: [DONE]\n\n",
    ];
    let whole = events.concat();
    let upstream = Upstream::start(move |_| {
        let pieces: Vec<&[u8]> = events.iter().map(String::as_bytes).collect();
        crate::support::sse(&pieces, 5)
    })
    .await;
    let running = Running::start(setup(OPEN, GUARDED, "mode: shadow"), upstream.address).await;
    let reply = running.client().post(CHAT, chat("Hello", true)).await;
    assert_eq!(reply.text(), whole);
    running.wait_for(&compared("output", "allow", "block"), 1.0).await;
    let hits = running.cases()[0]["new"]["hits"].to_string();
    assert!(hits.contains("harm.harassment") && hits.contains("EMAIL_ADDRESS"), "over the edges of windows: {hits}");
}

#[tokio::test]
async fn what_was_scored_once_is_not_scored_again() {
    let upstream = Upstream::start(|_| answer(CHAT_ANSWER)).await;
    let stricter = GUARDED.replace("threshold: 0.5", "threshold: 0.05");
    let alone = Running::start(Setup::with(GUARDED), upstream.address).await;
    let shadowed = Running::start(setup(GUARDED, &stricter, "mode: shadow"), upstream.address).await;
    for running in [&alone, &shadowed] {
        assert_eq!(running.client().post(CHAT, chat("Hello there", false)).await.status, 200);
    }
    shadowed.wait_for(&compared("input", "allow", "block"), 1.0).await;
    shadowed.wait_for(&compared("output", "allow", "block"), 1.0).await;
    assert!((alone.metric(RUNS) - shadowed.metric(RUNS)).abs() < 1e-9);
}

#[tokio::test]
async fn a_canary_acts_and_is_compared_with_the_old_policy() {
    let upstream = Upstream::start(|_| answer(CHAT_ANSWER)).await;
    let running = Running::start(setup(OPEN, GUARDED, "mode: canary, percent: 100"), upstream.address).await;
    assert_eq!(running.client().post(CHAT, chat("override", false)).await.status, 400);
    running.wait_for(&compared("input", "allow", "block"), 1.0).await;
    let requests = r#"wardline_rollout_requests_total{candidate="next",mode="canary",policy="test",share="in"}"#;
    assert!((running.metric(requests) - 1.0).abs() < 1e-9);
}

#[tokio::test]
async fn without_memory_comparisons_are_dropped_and_counted_and_requests_are_served() {
    let upstream = Upstream::start(|_| answer(CHAT_ANSWER)).await;
    let tight = Setup { rollout_memory: 1024, ..setup(OPEN, GUARDED, "mode: shadow") };
    let running = Running::start(tight, upstream.address).await;
    let long = "Hello dear. ".repeat(1000);
    for _ in 0..20 {
        assert_eq!(running.client().post(CHAT, chat(&long, false)).await.status, 200);
    }
    let dropped = r#"wardline_rollout_dropped_total{policy="test",reason="memory"}"#;
    assert!(running.metric(dropped) >= 20.0, "{}", running.metric(dropped));
    assert!(running.cases().is_empty());
}

#[tokio::test]
async fn texts_are_kept_as_far_as_the_configuration_lets_them() {
    let upstream = Upstream::start(|_| answer(CHAT_ANSWER)).await;
    for (content, kept) in [(Content::Redacted, "override [EMAIL_ADDRESS]"), (Content::Full, "override a@example.com")]
    {
        let running = Running::start(Setup { content, ..setup(OPEN, GUARDED, "mode: shadow") }, upstream.address).await;
        running.client().post(CHAT, chat("override a@example.com", false)).await;
        running.wait_for(r#"wardline_rollout_cases_total{outcome="written"}"#, 1.0).await;
        let texts = running.cases()[0]["texts"].to_string();
        assert!(texts.contains(kept), "{texts}");
    }
}

#[tokio::test]
async fn the_page_shows_what_is_in_force_and_no_text_of_a_request() {
    let upstream = Upstream::start(|_| answer(CHAT_ANSWER)).await;
    let running = Running::start(setup(OPEN, GUARDED, "mode: shadow, percent: 100"), upstream.address).await;
    running.client().post(CHAT, chat("override zebra", false)).await;
    running.wait_for(&compared("input", "allow", "block"), 1.0).await;
    fs::write(running.policy_file(), "rules: [{ id: '<script>', x: 1 }]").unwrap();
    running.gateway.policies.reload();
    let admin = crate::support::Client::new(running.admin);
    let page = admin.send(Request::get("/"), "").await;
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let text = page.text();
    for snapshot in running.gateway.policies.in_force() {
        assert!(text.contains(&snapshot.policy.revision), "{text}");
    }
    for told in
        ["next over test", "shadow, 100 % by request: 1 of 1 requests", "refused; what was in force stays", "<td>block"]
    {
        assert!(text.contains(told), "{told}: {text}");
    }
    assert!(!text.contains("zebra") && !text.contains("<script") && !text.contains("secret"), "{text}");
    let status = admin.send(Request::get("/status"), "").await.json();
    assert_eq!(status["rollouts"][0]["differing"], 1);
    assert_eq!(status["rollouts"][0]["candidate"], "next");
}
