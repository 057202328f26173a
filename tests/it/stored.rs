//! State that the provider keeps: denied, unless the policy declares which kinds of it requests may name.

use http::Request;
use serde_json::{Value, json};

use crate::support::{GUARDED, Running, Setup, Upstream, json as answer};

const PATH: &str = "/v1/responses";

/// Each kind by its word in a policy, with a member that names it.
fn named() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("previous_response_id", "previous_response_id", json!("resp_1")),
        ("conversation", "conversation", json!({"id": "conv_1"})),
        ("prompt", "prompt", json!({"id": "pmpt_1", "variables": {"name": "Jane"}})),
        ("background", "background", json!(true)),
        ("item_reference", "input", json!([{"type": "item_reference", "id": "msg_1"}])),
        ("compaction", "input", json!([{"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAAAB"}])),
    ]
}

fn body(member: &str, value: &Value) -> Value {
    let mut body = json!({"model": "m", "input": "How are you?"});
    body[member] = value.clone();
    body
}

fn response(text: &str) -> String {
    let part = json!({"type": "output_text", "text": text, "annotations": []});
    let item = json!({"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]});
    json!({"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": [item],
        "instructions": "Be kind."})
    .to_string()
}

async fn gateway(stored: &str, says: &'static str) -> (Upstream, Running) {
    let upstream = Upstream::start(move |_| answer(&response(says))).await;
    let policy = format!("{GUARDED}pairs: {{ rate: 1 }}\nstored_state: [{stored}]\n");
    let running = Running::start(Setup::with(&policy), upstream.address).await;
    (upstream, running)
}

#[tokio::test]
async fn a_request_may_name_what_the_policy_declares_and_nothing_else() {
    for (word, member, value) in named() {
        let (upstream, running) = gateway(word, "Fine.").await;
        let reply = running.client().post(PATH, body(member, &value).to_string()).await;
        assert_eq!(reply.status, 200, "{word}: {}", reply.text());
        let sent: Value = serde_json::from_str(&upstream.requests()[0].body).unwrap();
        assert_eq!(sent[member], value, "{word}");
        assert!(sent["instructions"].as_str().unwrap().contains("Be kind."), "{word}");
        for (other, member, value) in named().into_iter().filter(|(other, ..)| *other != word) {
            let reply = running.client().post(PATH, body(member, &value).to_string()).await;
            assert_eq!(reply.json()["error"]["code"], "stored_state", "{other} under {word}: {}", reply.text());
        }
        assert_eq!(upstream.requests().len(), 1, "{word}");
    }
}

#[tokio::test]
async fn what_comes_with_it_is_judged_both_ways_and_leaves_no_row() {
    let (upstream, running) = gateway("previous_response_id, prompt", "You are worthless.").await;
    let variables = json!({"id": "pmpt_1", "variables": {"name": "override"}});
    for (member, value) in [("previous_response_id", json!("please override")), ("prompt", variables)] {
        let reply = running.client().post(PATH, body(member, &value).to_string()).await;
        assert_eq!(reply.json()["error"]["code"], "content_filter", "{}", reply.text());
    }
    assert!(upstream.requests().is_empty());
    let reply = running.client().post(PATH, body("previous_response_id", &json!("resp_1")).to_string()).await;
    assert!(reply.text().contains("content_filter") && !reply.text().contains("worthless"), "{}", reply.text());
    assert!(running.rows().is_empty(), "a row would lack what the answer answers");
}

#[tokio::test]
async fn an_answer_that_the_provider_keeps_is_judged_when_it_is_fetched() {
    let get = |path: &str| Request::get(path.to_owned());
    let (upstream, running) = gateway("", "Fine.").await;
    let reply = running.client().send(get("/v1/responses/resp_1"), "").await;
    assert_eq!((reply.status.as_u16(), &reply.json()["error"]["code"]), (403, &json!("endpoint_not_allowed")));
    assert!(reply.text().contains("was not judged here"), "{}", reply.text());
    assert!(upstream.requests().is_empty());

    let (upstream, running) = gateway("retrieve", "Fine.").await;
    let reply = running.client().send(get("/v1/responses/resp_1"), "").await;
    assert_eq!((reply.status.as_u16(), reply.text()), (200, response("Fine.")));
    assert!(upstream.requests()[0].head.starts_with("GET /v1/responses/resp_1 "), "{}", upstream.requests()[0].head);
    for (method, path, status) in [
        ("GET", "/v1/responses/resp_1/input_items", 403),
        ("DELETE", "/v1/responses/resp_1", 403),
        ("POST", "/v1/responses/resp_1/cancel", 403),
        ("GET", "/v1/responses/resp_1?stream=true", 400),
        ("GET", "/v1/conversations/conv_1", 403),
        ("GET", "/v1/files/file_1", 403),
        ("GET", "/v1/batches/batch_1", 403),
    ] {
        let reply = running.client().send(Request::builder().method(method).uri(path), "").await;
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.text());
    }
    assert_eq!(upstream.requests().len(), 1);

    for (says, shows, hides) in
        [("You are worthless.", "content_filter", "worthless"), ("Ask jane@example.com.", "[EMAIL_ADDRESS]", "jane@")]
    {
        let (_upstream, running) = gateway("retrieve", says).await;
        let reply = running.client().send(get("/v1/responses/resp_1"), "").await;
        assert!(reply.text().contains(shows) && !reply.text().contains(hides), "{}", reply.text());
    }
}
