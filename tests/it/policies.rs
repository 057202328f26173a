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
