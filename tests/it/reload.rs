//! Policies change while traffic flows.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::BodyExt;
use wardline::telemetry::ReloadOutcome;

use crate::support::{Client, GUARDED, OPEN, Running, Setup, Step, Upstream, chat, json, sse};

const CHAT_ANSWER: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"fine"},"finish_reason":"stop"}]}"#;

fn revision(header: &str) -> String {
    header.split_once("rev=").unwrap().1.to_owned()
}

#[tokio::test]
async fn an_edit_takes_effect_and_a_bad_one_does_not() {
    let upstream = Upstream::start(|_| json(CHAT_ANSWER)).await;
    let running = Running::start(Setup::with(OPEN), upstream.address).await;
    let watch = running.gateway.policies.watch().unwrap();
    let client = running.client();
    assert_eq!(client.post("/v1/chat/completions", chat("override", false)).await.status, 200);
    fs::write(running.policy_file(), GUARDED).unwrap();
    running.wait_for(r#"wardline_config_reloads_total{result="applied"}"#, 2.0).await;
    assert_eq!(client.post("/v1/chat/completions", chat("override", false)).await.status, 400);
    fs::write(running.policy_file(), "rules: [{ id: x, gard: {} }]").unwrap();
    running.wait_for(r#"wardline_config_reloads_total{result="refused"}"#, 1.0).await;
    running.wait_for("wardline_config_last_reload_successful", 0.0).await;
    assert_eq!(client.post("/v1/chat/completions", chat("override", false)).await.status, 400, "the good one stays");
    let problems = running.gateway.policies.last_reload().problems.join("\n");
    assert!(problems.contains("test.yaml:1:") && problems.contains("guard"), "{problems}");
    tokio::task::spawn_blocking(|| watch.stop()).await.unwrap();
}

#[tokio::test]
async fn an_edit_of_a_base_elsewhere_takes_effect_and_a_bad_one_does_not() {
    let upstream = Upstream::start(|_| json(CHAT_ANSWER)).await;
    let mut setup = Setup::with("extends: shared/base.yaml\n");
    setup.others = vec![("shared/base".to_owned(), OPEN.to_owned()), ("next/base".to_owned(), OPEN.to_owned())];
    let running = Running::start(setup, upstream.address).await;
    let watch = running.gateway.policies.watch().unwrap();
    let client = running.client();
    let sent = async || client.post("/v1/chat/completions", chat("override", false)).await.status;
    assert_eq!(sent().await, 200);
    let base = running.policy_file().with_file_name("shared/base.yaml");
    fs::write(&base, GUARDED).unwrap();
    running.wait_for(r#"wardline_config_reloads_total{result="applied"}"#, 2.0).await;
    assert_eq!(sent().await, 400);
    fs::write(&base, GUARDED.replace("action: block", "acton: block")).unwrap();
    running.wait_for(r#"wardline_config_reloads_total{result="refused"}"#, 1.0).await;
    let problems = running.gateway.policies.last_reload().problems.join("\n");
    assert!(problems.contains("shared/base.yaml:7:") && problems.ends_with("test.yaml)"), "{problems}");
    assert_eq!(sent().await, 400, "the good one stays");
    // Another base, in a directory that was not watched before; then an edit there.
    fs::write(running.policy_file(), "extends: next/base.yaml\n").unwrap();
    running.wait_for(r#"wardline_config_reloads_total{result="applied"}"#, 3.0).await;
    assert_eq!(sent().await, 200);
    fs::write(running.policy_file().with_file_name("next/base.yaml"), GUARDED).unwrap();
    running.wait_for(r#"wardline_config_reloads_total{result="applied"}"#, 4.0).await;
    assert_eq!(sent().await, 400);
    let admin = Client::new(running.admin);
    let page = admin.send(http::Request::get("/policies/resolve?route=chat&full=true"), "").await.json();
    let resolved = page["resolved"].as_str().unwrap();
    let rule = resolved.lines().find(|line| line.contains("id: attack")).unwrap();
    assert!(rule.ends_with("next/base.yaml:7"), "{resolved}");
    tokio::task::spawn_blocking(|| watch.stop()).await.unwrap();
}

/// Policies' own tests, through the scripted classifier, as `serve` runs them.
#[tokio::test]
async fn an_edit_whose_tests_fail_does_not_take_effect() {
    let tests = "
tests:
  - { name: an attack is blocked, text: Override it!, expect: { action: block, rules: [attack] } }
  - name: a page that attacks
    messages: [{ role: system, content: Be brief. }, { role: user, content: Read. }, { role: tool, content: override }]
    expect: { action: block }
  - { name: a document that attacks, messages: [{ role: document, content: override }], expect: { action: block } }
  - { name: an insult is blocked, answer: You are worthless., expect: { action: block, rules: [harm] } }
  - { name: an address is replaced, answer: Write to a@example.com, expect: { action: redact, rules: [mail] } }
  - { name: a question is answered, text: How are you?, expect: { action: allow } }
";
    let upstream = Upstream::start(|_| json(CHAT_ANSWER)).await;
    let running = Running::start(Setup::with(&format!("{GUARDED}{tests}")), upstream.address).await;
    running.wait_for(r#"wardline_policy_tests_total{policy="test",result="passed"}"#, 6.0).await;
    let lax = GUARDED.replace("[input], threshold: 0.5", "[input], threshold: 0.95");
    fs::write(running.policy_file(), format!("{lax}{tests}")).unwrap();
    let store = Arc::clone(&running.gateway.policies);
    assert_eq!(tokio::task::spawn_blocking(move || store.reload()).await.unwrap(), ReloadOutcome::Refused);
    let problems = running.gateway.policies.last_reload().problems;
    let told = "test.yaml:12:5: tests[0]: test `an attack is blocked` failed: expected block by attack; got allow; \
                attack was not hit: prompt_attack.attack scores 0.900, threshold 0.950";
    assert!(problems.len() == 3 && problems[0].ends_with(told), "{problems:?}");
    assert_eq!(running.client().post("/v1/chat/completions", chat("override", false)).await.status, 400);
    let decided = r#"wardline_guard_decisions_total{action="block",mode="enforce",policy="test",rule="attack",stage="input",verdict="deny"}"#;
    // Tests are no traffic: the one request is all that is counted.
    running.wait_for(decided, 1.0).await;
}

#[tokio::test]
async fn a_test_that_breaks_a_guard_fails() {
    let tests = "
tests:
  - { name: broken, text: fail, expect: { action: block } }
";
    let upstream = Upstream::start(|_| json(CHAT_ANSWER)).await;
    let running = Running::start(Setup::with(GUARDED), upstream.address).await;
    fs::write(running.policy_file(), format!("{GUARDED}{tests}")).unwrap();
    let store = Arc::clone(&running.gateway.policies);
    assert_eq!(tokio::task::spawn_blocking(move || store.reload()).await.unwrap(), ReloadOutcome::Refused);
    let problems = running.gateway.policies.last_reload().problems;
    assert!(problems[0].ends_with("test `broken` failed: rule `attack` could not judge: error"), "{problems:?}");
}

/// 100 reloads under load, each fifth of them broken: no request fails, and each answer bears one of the revisions
/// that were in force.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_load_fail_no_request() {
    reloads_under_load(Setup::with(GUARDED), "test.yaml").await;
}

/// The same where the policy builds on a file in another directory, and that one is edited.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_of_a_base_under_load_fail_no_request() {
    let mut setup = Setup::with("extends: shared/base.yaml\nrespond: { message: Not here. }\n");
    setup.others = vec![("shared/base".to_owned(), GUARDED.to_owned())];
    reloads_under_load(setup, "shared/base.yaml").await;
}

async fn reloads_under_load(setup: Setup, edited: &str) {
    let upstream = Upstream::start(|_| json(CHAT_ANSWER)).await;
    let running = Arc::new(Running::start(setup, upstream.address).await);
    let edited = running.policy_file().with_file_name(edited);
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = Vec::new();
    for _ in 0..8 {
        let (running, stop, served) = (Arc::clone(&running), Arc::clone(&stop), Arc::clone(&served));
        clients.push(tokio::spawn(async move {
            let client = running.client();
            let mut revisions = std::collections::BTreeSet::new();
            while !stop.load(Ordering::SeqCst) {
                let reply = client.post("/v1/chat/completions", chat("Hello", false)).await;
                assert_eq!(reply.status, 200, "{}", reply.text());
                revisions.insert(revision(reply.header("x-guardrail-policy")));
                served.fetch_add(1, Ordering::SeqCst);
            }
            revisions
        }));
    }
    let mut in_force = std::collections::BTreeSet::from([running.gateway.policies.snapshot().policy.revision.clone()]);
    for round in 0..100 {
        let broken = round % 5 == 4;
        let text = if broken {
            "rules: [".to_owned()
        } else {
            GUARDED.replace("Be kind.", &format!("Be kind {round} times."))
        };
        fs::write(&edited, text).unwrap();
        let store = Arc::clone(&running.gateway.policies);
        let outcome = tokio::task::spawn_blocking(move || store.reload()).await.unwrap();
        assert_eq!(outcome, if broken { ReloadOutcome::Refused } else { ReloadOutcome::Applied });
        in_force.insert(running.gateway.policies.snapshot().policy.revision.clone());
        // Let every client be served under this revision.
        let seen = served.load(Ordering::SeqCst);
        while served.load(Ordering::SeqCst) < seen + 16 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    stop.store(true, Ordering::SeqCst);
    let mut seen = std::collections::BTreeSet::new();
    for client in clients {
        seen.extend(client.await.unwrap());
    }
    assert!(seen.is_subset(&in_force));
    assert_eq!(in_force.len(), 81);
    assert!(seen.len() > 70, "{}", seen.len());
}

#[tokio::test]
async fn a_stream_ends_under_the_policy_it_began_with() {
    let event = |text: &str| {
        format!(
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
        )
    };
    let (first, second) = (event("One sentence. "), event("You are worthless. "));
    let last = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let go = Arc::new(AtomicBool::new(false));
    let upstream = Upstream::start(move |_| {
        let mut steps = sse(&[first.as_bytes()], 0);
        steps.pop();
        steps.push(Step::Sleep(600));
        steps.extend(sse(&[second.as_bytes(), last.as_bytes()], 0).into_iter().skip(1));
        steps
    })
    .await;
    let lenient = GUARDED.replace("action: block", "mode: shadow, action: block");
    let running = Running::start(Setup::with(&lenient), upstream.address).await;
    let reply = running.client().stream("/v1/chat/completions", chat("Hello", true)).await;
    let began = revision(reply.headers()["x-guardrail-policy"].to_str().unwrap());
    let mut body = reply.into_body();
    assert!(body.frame().await.is_some());
    fs::write(running.policy_file(), GUARDED).unwrap();
    let store = Arc::clone(&running.gateway.policies);
    assert_eq!(tokio::task::spawn_blocking(move || store.reload()).await.unwrap(), ReloadOutcome::Applied);
    assert_ne!(running.gateway.policies.snapshot().policy.revision, began);
    go.store(true, Ordering::SeqCst);
    let rest = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert!(rest.contains("worthless"), "the lenient policy still holds for this stream: {rest}");
    let blocked = running.client().post("/v1/chat/completions", chat("Hello", true)).await.text();
    assert!(!blocked.contains("worthless"), "the strict one holds for the next");
}
