//! Which policy a request gets, and which rules of it look: by what the operator's files say, and nothing else.

use std::collections::BTreeMap;

use http::Request;
use wardline::policy::{Selector, Tenant, Tenants};

use crate::support::{Client, GUARDED, OPEN, Running, Setup, Upstream, chat, json};

const CHAT: &str = "/v1/chat/completions";
const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Ok."},"finish_reason":"stop","logprobs":null}],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#;
/// The first digits of the SHA-256 of `secret`.
const SECRET: &str = "2bb80d537b1da3e3";

/// Status and policy of an answer to `override`, which only [`GUARDED`] blocks.
async fn sent(client: &Client, headers: &[(&str, &str)]) -> (u16, String) {
    let request = Request::post(CHAT).header("content-type", "application/json");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let reply = client.send(request, chat("override", false)).await;
    let policy = reply.header("x-guardrail-policy").split(';').next().unwrap_or_default().to_owned();
    (reply.status.as_u16(), policy)
}

fn tenants(header: Option<&str>) -> Tenants {
    let acme = Tenant { keys: vec![SECRET.to_owned()], pairs: None };
    let known = BTreeMap::from([("acme".to_owned(), acme), ("globex".to_owned(), Tenant::default())]);
    Tenants { known, header: header.map(str::to_owned), metrics: true }
}

#[tokio::test]
async fn a_tenant_is_known_by_its_key_or_by_a_header_that_is_trusted() {
    let upstream = Upstream::start(|_| json(ANSWER)).await;
    let mut setup = Setup::with(OPEN);
    let names = ["acme", "globex"].map(str::to_owned).to_vec();
    setup.select = vec![Selector { policy: "strict".to_owned(), tenants: names, ..Selector::default() }];
    setup.others = vec![("strict".to_owned(), GUARDED.to_owned())];
    setup.tenants = tenants(Some("x-tenant"));
    let running = Running::start(setup, upstream.address).await;
    let client = running.client();
    assert_eq!(sent(&client, &[]).await, (200, "test".to_owned()));
    assert_eq!(sent(&client, &[("authorization", "Bearer secret")]).await, (400, "strict".to_owned()));
    assert_eq!(sent(&client, &[("x-tenant", "globex")]).await, (400, "strict".to_owned()));
    assert_eq!(sent(&client, &[("x-tenant", "initech")]).await, (200, "test".to_owned()));
    assert_eq!(upstream.requests().len(), 2, "blocked prompts do not go up");
    let heads: Vec<String> = upstream.requests().iter().map(|request| request.head.to_lowercase()).collect();
    assert!(heads.iter().all(|head| !head.contains("x-tenant")), "{heads:?}");
    let both = [("x-tenant", "initech"), ("x-tenant", "globex")];
    assert_eq!(sent(&client, &both).await.0, 400, "a header that chooses the policy cannot be sent twice");

    let series = |labels: &str| running.metric(&format!("wardline_tenant_requests_total{{{labels}}}"));
    let counted = [
        (r#"outcome="content_filter",policy="strict",tenant="acme""#, 1.0),
        (r#"outcome="content_filter",policy="strict",tenant="globex""#, 1.0),
        (r#"outcome="completed",policy="test",tenant="other""#, 2.0),
    ];
    for (labels, value) in counted {
        assert!((series(labels) - value).abs() < 1e-9, "{labels}: {}", series(labels));
    }

    let admin = Client::new(running.admin);
    let ask = async |query: &str| admin.send(Request::get(format!("/policies/resolve?{query}")), "").await;
    for query in ["tenant=acme", "key_hash=2bb80d537b1da3e38b", "header.x-tenant=acme"] {
        let page = ask(query).await.json();
        let told = [&page["policy"], &page["tenant"], &page["chosen_by"]].map(|value| value.as_str().unwrap());
        assert_eq!(told, ["strict", "acme", "policies.select[0]"], "{query}");
    }
    assert_eq!(ask("tenant=initech").await.status, 400);
}

#[tokio::test]
async fn a_header_chooses_nothing_that_no_line_gives_it() {
    let upstream = Upstream::start(|_| json(ANSWER)).await;
    let mut setup = Setup::with(OPEN);
    let by_values = |values: &str| BTreeMap::from([("x-values".to_owned(), vec![values.to_owned()])]);
    setup.select = vec![Selector { policy: "strict".to_owned(), headers: by_values("strict"), ..Selector::default() }];
    setup.others = vec![("strict".to_owned(), GUARDED.to_owned())];
    setup.tenants = tenants(None);
    setup.tenants.known.remove("globex");
    let running = Running::start(setup, upstream.address).await;
    let client = running.client();
    assert_eq!(sent(&client, &[("x-values", "strict")]).await, (400, "strict".to_owned()));
    assert_eq!(sent(&client, &[("x-values", "other")]).await, (200, "test".to_owned()));
    assert_eq!(sent(&client, &[("x-tenant", "acme"), ("x-policy", "strict")]).await, (200, "test".to_owned()));
    let series = r#"wardline_tenant_requests_total{outcome="completed",policy="test",tenant="other"}"#;
    assert!((running.metric(series) - 2.0).abs() < 1e-9, "without a trusted header it is nobody's request");
}

/// Three rules that look only where their conditions and samples say so.
const CONDITIONAL: &str = "
rules:
  - id: attack
    guard: { classifier: prompt_attack }
    stages: [input]
    threshold: 0.5
    action: block
    when: tenant == 'acme' && origin == 'user' && ('shell' in tools || stream || model.startsWith('g'))
  - { id: seldom, guard: { classifier: prompt_attack }, stages: [input], threshold: 0.5, action: audit, sampling: 0.25 }
  - id: long
    guard: { patterns: [{ id: word, regex: needle }] }
    stages: [input, output]
    action: redact
    when: length > 40
";

#[tokio::test]
async fn a_rule_looks_where_its_condition_holds() {
    let upstream = Upstream::start(|_| json(&ANSWER.replace("Ok.", "A needle."))).await;
    let mut setup = Setup::with(CONDITIONAL);
    setup.tenants = tenants(None);
    setup.tenants.known.remove("globex");
    let running = Running::start(setup, upstream.address).await;
    let client = running.client();
    let send = async |key: &str, body: serde_json::Value| {
        let request = Request::post(CHAT).header("content-type", "application/json").header("x-api-key", key);
        client.send(request, body.to_string()).await
    };
    let asked =
        |model: &str, text: &str| serde_json::json!({"model": model, "messages": [{"role": "user", "content": text}]});
    assert_eq!(send("secret", asked("g", "override")).await.status, 400);
    assert_eq!(send("secret", asked("m", "override")).await.status, 200);
    assert_eq!(send("other", asked("g", "override")).await.status, 200);
    let mut with_tool = asked("m", "override");
    with_tool["tools"] = serde_json::json!([{"type": "function", "function": {"name": "shell"}}]);
    assert_eq!(send("secret", with_tool).await.status, 400);

    let short = send("other", asked("m", "A needle.")).await;
    assert!(short.text().contains("A needle."), "short answers are not looked at: {}", short.text());
    send("other", asked("m", "A needle in a haystack, and quite a lot of hay around it.")).await;
    let requests = upstream.requests();
    assert!(requests[requests.len() - 2].json()["messages"][0]["content"] == "A needle.");
    assert!(requests[requests.len() - 1].json()["messages"][0]["content"].as_str().unwrap().starts_with("A [word] in"));
}

#[tokio::test]
async fn a_condition_that_cannot_be_decided_is_a_guard_that_broke() {
    let upstream = Upstream::start(|_| json(ANSWER)).await;
    for (on_error, status) in [("closed", 503), ("open", 200)] {
        let policy = format!(
            "rules:\n  - {{ id: odd, guard: {{ classifier: harm }}, stages: [input], threshold: 0.5, action: block, \
             when: '100 / (length - 8) > 0', on_error: {on_error} }}\n"
        );
        let running = Running::start(Setup::with(&policy), upstream.address).await;
        let reply = running.client().post(CHAT, chat("override", false)).await;
        assert_eq!(reply.status.as_u16(), status, "{}", reply.text());
        assert_eq!(running.client().post(CHAT, chat("a longer text", false)).await.status, 200);
        let series =
            format!(r#"wardline_guard_failures_total{{disposition="{on_error}",guard="odd",reason="condition"}}"#);
        assert!(running.metric(&series) >= 1.0, "{series}");
    }
}

#[tokio::test]
async fn a_rule_looks_at_its_share_of_the_requests() {
    let upstream = Upstream::start(|_| json(ANSWER)).await;
    let mut setup = Setup::with(CONDITIONAL);
    setup.tenants = tenants(None);
    setup.tenants.known.remove("globex");
    let running = Running::start(setup, upstream.address).await;
    for _ in 0..200 {
        assert_eq!(running.client().post(CHAT, chat("override", false)).await.status, 200);
    }
    let series = r#"wardline_guard_decisions_total{action="audit",mode="enforce",policy="test",rule="seldom",stage="input",verdict="warn"}"#;
    let looked = running.metric(series);
    assert!((20.0..=85.0).contains(&looked), "{looked} of 200 at a quarter");
}

/// A rule's patience is for all texts of a prompt together: 300 texts that nobody scores are given up at once, and not one
/// after the other (which would take 19 seconds here, eight at a time).
#[tokio::test]
async fn a_rules_timeout_is_for_all_texts_together() {
    let upstream = Upstream::start(|_| json(ANSWER)).await;
    for (on_error, status) in [("open", 200), ("closed", 503)] {
        let policy = format!(
            "rules:\n  - {{ id: slow, guard: {{ classifier: harm }}, stages: [input], threshold: 0.5, action: block, timeout: \
             500ms, on_error: {on_error} }}\n"
        );
        let running = Running::start(Setup::with(&policy), upstream.address).await;
        let messages: Vec<serde_json::Value> =
            (0..300).map(|n| serde_json::json!({"role": "user", "content": format!("hold number {n}")})).collect();
        let body = serde_json::json!({"model": "m", "messages": messages}).to_string();
        let client = running.client();
        let reply = tokio::time::timeout(std::time::Duration::from_secs(10), client.post(CHAT, body));
        let reply = reply.await.expect("given up together");
        assert_eq!(reply.status.as_u16(), status, "{}", reply.text());
        let series =
            format!(r#"wardline_guard_failures_total{{disposition="{on_error}",guard="slow",reason="timeout"}}"#);
        assert!(running.metric(&series) >= 1.0, "{series}");
        running.open_gate();
    }
}
