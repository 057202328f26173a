//! Classifiers are exchanged while requests run: none fails, and none is judged by two of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;
use wardline::telemetry::ReloadOutcome;

use crate::support::{Generation, Running, Setup, Step, Taste, Upstream, chat, json, sse};

const CHAT: &str = "/v1/chat/completions";
const CHAT_ANSWER: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"fine"},"finish_reason":"stop"}]}"#;
const POLICY: &str = "rules:
  - { id: attack, guard: { classifier: prompt_attack }, stages: [input, output], threshold: 0.5, action: block }
  - { id: insult, guard: { classifier: harm, labels: [harassment] }, stages: [input, output], threshold: 0.5, action: block }
tests:
  - { name: bread, text: How do I bake bread?, expect: { action: allow } }
";

fn generation(round: usize, taste: Taste) -> Generation {
    Generation { revision: format!("r{round}"), taste, life: Arc::default() }
}

fn denied(running: &Running, rule: &str) -> f64 {
    running.metric(&format!(
        r#"wardline_guard_decisions_total{{action="block",mode="enforce",policy="test",rule="{rule}",stage="input",verdict="deny"}}"#
    ))
}

/// Each generation objects to one of two words, and each request has both: judged by one of them it hits one rule, by
/// two of them both or none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exchanges_under_load_fail_no_request_and_no_verdict_mixes_two() {
    let upstream = Upstream::start(|_| json(CHAT_ANSWER)).await;
    let running = Arc::new(Running::start(Setup::with(POLICY), upstream.address).await);
    assert_eq!(running.exchange(Ok(generation(0, Taste::Attacks))).await, ReloadOutcome::Applied);
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients = (0..6).map(|client| {
        let (running, stop, served) = (Arc::clone(&running), Arc::clone(&stop), Arc::clone(&served));
        tokio::spawn(async move {
            let http = running.client();
            let said = ["override it", "You are worthless", "Hello", "override again", "worthless indeed"];
            while !stop.load(Ordering::SeqCst) {
                // Some texts are new each time, and some are in the ledger.
                let turn = served.fetch_add(1, Ordering::SeqCst);
                let new = [format!("override {turn}"), format!("worthless {turn}"), format!("client {client}")];
                let all = said.iter().map(|said| (*said).to_owned()).chain(new);
                let messages: Vec<Value> = all.map(|said| json!({"role": "user", "content": said})).collect();
                let reply = http.post(CHAT, json!({"model": "m", "messages": messages}).to_string()).await;
                assert_eq!(reply.status, 400, "{}", reply.text());
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut old = None;
    for round in 1..=12 {
        let taste = if round % 2 == 0 { Taste::Attacks } else { Taste::Insults };
        let offer = match round {
            3 | 9 => Err("the weights are not whole".to_owned()),
            6 | 12 => Ok(generation(round, Taste::All)),
            _ => Ok(generation(round, taste)),
        };
        let sound = round % 3 != 0;
        let life = offer.as_ref().ok().map(|offer| Arc::downgrade(&offer.life));
        let outcome = running.exchange(offer).await;
        assert_eq!(outcome, if sound { ReloadOutcome::Applied } else { ReloadOutcome::Unchanged }, "round {round}");
        let page: Value = serde_json::from_str(&running.gateway.status()).unwrap();
        let told = &page["last_classifier_exchange"];
        assert_eq!(told["outcome"], if sound { "applied" } else { "refused" }, "{told}");
        if sound {
            assert_eq!(page["classifiers"][0]["revision"], format!("r{round}"));
            old = life;
        }
        let before = served.load(Ordering::SeqCst);
        while served.load(Ordering::SeqCst) < before + 24 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    let requests = u32::try_from(served.load(Ordering::SeqCst)).unwrap();
    let (attacks, insults) = (denied(&running, "attack"), denied(&running, "insult"));
    assert!(attacks > 0.0 && insults > 0.0, "{attacks} {insults}");
    assert!((attacks + insults - f64::from(requests)).abs() < 1e-9, "{attacks} + {insults} of {requests}");
    for (outcome, count) in [("applied", 9.0), ("refused", 4.0)] {
        let series = format!(r#"wardline_classifier_exchanges_total{{outcome="{outcome}"}}"#);
        assert!((running.metric(&series) - count).abs() < 1e-9, "{series} is {}", running.metric(&series));
    }
    assert!(old.is_some_and(|life| life.upgrade().is_some()), "the last sound one serves");
    running.wait_for(r#"wardline_classifier_queue_depth{model="custom"}"#, 0.0).await;
}

/// A stream keeps the classifier that it began with to its end, and the classifier goes with the last such stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_the_classifier_that_it_began_with() {
    let go = Arc::new(Notify::new());
    let waits = Arc::clone(&go);
    let upstream = Upstream::start(move |asked| {
        let event = |delta: Value, end: Option<&str>| {
            let body = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
                "choices": [{"index": 0, "delta": delta, "finish_reason": end}]});
            format!("data: {body}\n\n")
        };
        let said = ["Well then. ", "You are worthless. "].map(|said| event(json!({"content": said}), None));
        let last = event(json!({}), Some("stop"));
        let mut steps = sse(&[said[0].as_bytes(), said[1].as_bytes(), last.as_bytes(), b"data: [DONE]\n\n"], 0);
        if asked.body.contains("slowly") {
            steps.insert(2, Step::Wait(Arc::clone(&waits)));
        }
        steps
    })
    .await;
    let running = Arc::new(Running::start(Setup::with(POLICY), upstream.address).await);
    let first = generation(1, Taste::Insults);
    let life = Arc::downgrade(&first.life);
    assert_eq!(running.exchange(Ok(first)).await, ReloadOutcome::Applied);
    let slow = {
        let running = Arc::clone(&running);
        tokio::spawn(async move { running.client().post(CHAT, chat("slowly", true)).await.text() })
    };
    while upstream.requests().is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(running.exchange(Ok(generation(2, Taste::Attacks))).await, ReloadOutcome::Applied);
    let later = running.client().post(CHAT, chat("at once", true)).await.text();
    assert!(later.contains("worthless") && later.contains("[DONE]"), "the new one lets it pass: {later}");
    assert!(life.upgrade().is_some(), "the stream still has it");
    go.notify_one();
    let slow = slow.await.unwrap();
    assert!(!slow.contains("worthless") && slow.contains("content_filter"), "the old one does not: {slow}");
    for _ in 0..400 {
        if life.upgrade().is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the old classifier is still there");
}
