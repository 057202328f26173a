//! A new policy beside the old one: who is in its share, who acts, and what is learnt of it.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::Request;
use serde_json::json;
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
