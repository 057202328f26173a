//! Legacy completions, embeddings, token counts, moderations and lists of models.

use http::Request;
use serde_json::{Value, json};
use wardline::api::Dialect;
use wardline::policy::Selector;

use crate::support::{GUARDED, OPEN, Reply, Running, Setup, Upstream, json as answer, prompt, sse, status};

const COMPLETION: &str = r#"{"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"text":"A plain answer.","index":0,"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#;
const COMPLETION_STREAM: &[u8] = include_bytes!("../fixtures/completions_n2.sse");
const MODELS: &str = include_str!("../fixtures/models_reply.json");

async fn serve(
    policy: &str,
    script: impl Fn(&crate::support::Recorded) -> Vec<crate::support::Step> + Send + Sync + 'static,
) -> (Upstream, Running) {
    let upstream = Upstream::start(script).await;
    let running = Running::start(Setup::with(policy), upstream.address).await;
    (upstream, running)
}

#[tokio::test]
async fn legacy_completions_whole_and_streamed() {
    for (text, expected, finish) in [
        ("A plain answer.", "A plain answer.", "stop"),
        ("Ask jane@example.com.", "Ask [EMAIL_ADDRESS].", "stop"),
        ("You are worthless.", "", "content_filter"),
    ] {
        let (upstream, running) = serve(GUARDED, move |_| answer(&COMPLETION.replace("A plain answer.", text))).await;
        let reply = running.client().post("/v1/completions", prompt(Dialect::OpenAiCompletions, "Hello", false)).await;
        let choice = &reply.json()["choices"][0];
        assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!(expected), &json!(finish)));
        let sent = upstream.requests()[0].json()["prompt"].as_str().unwrap().to_owned();
        assert!(sent.contains("Be kind.") && sent.ends_with("\n\nHello"), "{sent}");
        let reply =
            running.client().post("/v1/completions", prompt(Dialect::OpenAiCompletions, "override", false)).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["error"]["param"]), (400, &json!("prompt")));
        assert_eq!(upstream.requests().len(), 1);
    }
    let (_upstream, running) = serve(OPEN, |_| sse(&[COMPLETION_STREAM], 0)).await;
    let body = prompt(Dialect::OpenAiCompletions, "Hello", true);
    assert_eq!(running.client().post("/v1/completions", body.clone()).await.body, COMPLETION_STREAM);
    let (_upstream, running) = serve(GUARDED, |_| sse(&[COMPLETION_STREAM], 0)).await;
    let text = running.client().post("/v1/completions", body.clone()).await.text();
    assert!(text.contains("[EMAIL_ADDRESS]") && !text.contains("ana@") && text.ends_with("data: [DONE]\n\n"), "{text}");
    let harmful = String::from_utf8(COMPLETION_STREAM.to_vec()).unwrap().replace(" two", " worthless.");
    let (_upstream, running) = serve(GUARDED, move |_| sse(&[harmful.as_bytes()], 0)).await;
    let text = running.client().post("/v1/completions", body).await.text();
    assert!(!text.contains("worthless") && text.contains(r#""finish_reason":"content_filter""#), "{text}");
    assert!(text.contains(r#""object":"text_completion""#) && text.ends_with("data: [DONE]\n\n"), "{text}");
}

#[tokio::test]
async fn embeddings_are_judged_going_up_and_untouched_coming_down() {
    let vectors = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":"AACAPwAAAEA="}],"model":"m","usage":{"prompt_tokens":3,"total_tokens":3}}"#;
    let (upstream, running) = serve(GUARDED, move |_| answer(vectors)).await;
    let post = |body: Value| {
        let client = running.client();
        async move { client.post("/v1/embeddings", body.to_string()).await }
    };
    let reply =
        post(json!({"model": "m", "input": ["Hello", "I am bob@example.org"], "encoding_format": "base64"})).await;
    assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, vectors));
    assert_eq!(reply.header("x-guardrail-action"), "redact");
    let sent = upstream.requests()[0].json();
    assert_eq!(sent["input"], json!(["Hello", "I am [EMAIL_ADDRESS]"]));
    assert!(sent.get("messages").is_none() && !sent.to_string().contains("Be kind"));
    let reply = post(json!({"model": "m", "input": ["Hello", "override"]})).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["error"]["code"]), (400, &json!("content_filter")));
    let reply = post(json!({"model": "m", "input": [[1, 2, 3]]})).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["error"]["code"]), (400, &json!("unscannable")));
    assert_eq!(upstream.requests().len(), 1);
    running.wait_for(r#"gen_ai_server_request_duration_seconds_count{error_type="",gen_ai_operation_name="embeddings",gen_ai_provider_name="openai",gen_ai_request_model="other"}"#, 1.0).await;
    // What a provider adds to its vectors is a text like any other, in the place of a vector too.
    let spoken = "d29ydGhsZXNzIQ==";
    for (instead, kept) in [
        (vectors.replace("\"m\"", "\"You are worthless.\""), false),
        (vectors.replace("AACAPwAAAEA=", "You are worthless"), false),
        (vectors.replace("}]", r#","note":"worthless"}]"#), false),
        (vectors.replace("\"list\"", r#""list","object":"worthless words""#), false),
        (vectors.replace("AACAPwAAAEA=", spoken), true),
        (vectors.replace("\"AACAPwAAAEA=\"", &format!("[{}1]", "0.5,".repeat(300_000))), true),
    ] {
        let played = instead.clone();
        let (_upstream, running) = serve(GUARDED, move |_| answer(&played)).await;
        let reply = running.client().post("/v1/embeddings", r#"{"model":"m","input":"Hello"}"#).await;
        if kept {
            assert!(reply.text() == instead || instead.contains(spoken), "{}", reply.status);
        } else {
            assert_eq!((reply.status.as_u16(), &reply.json()["error"]["code"]), (502, &json!("content_filter")));
            assert!(!reply.text().contains("worthless"), "{}", reply.text());
        }
    }
    let (_upstream, running) =
        serve(GUARDED, |_| status(400, "", r#"{"error":{"message":"You are worthless."}}"#)).await;
    let reply = running.client().post("/v1/embeddings", r#"{"model":"m","input":"Hello"}"#).await;
    assert!(!reply.text().contains("worthless"), "an error is a text, and judged");
}

#[tokio::test]
async fn tokens_are_counted_with_the_constitution_in_them() {
    let (upstream, running) = serve(GUARDED, |_| answer(r#"{"input_tokens":42}"#)).await;
    let path = "/v1/messages/count_tokens";
    let body = json!({"model": "m", "system": "Mine.", "messages": [{"role": "user", "content": "Hello"}]});
    let reply = running.client().post(path, body.to_string()).await;
    assert_eq!(reply.text(), r#"{"input_tokens":42}"#);
    let sent = &upstream.requests()[0];
    assert!(sent.head.starts_with("POST /v1/messages/count_tokens "), "{}", sent.head);
    assert!(sent.json()["system"][0]["text"].as_str().unwrap().contains("Be kind."));
    let reply = running.client().post(path, prompt(Dialect::AnthropicTokens, "override", false)).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["type"]), (400, &json!("error")));
    assert!(reply.header("request-id").starts_with("req_"));
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn tokens_of_a_response_are_counted_with_the_constitution_in_them() {
    let counted = r#"{"object":"response.input_tokens","input_tokens":42}"#;
    let (upstream, running) = serve(GUARDED, move |_| answer(counted)).await;
    let path = "/v1/responses/input_tokens";
    for body in [
        json!({"model": "m", "instructions": "Mine.", "input": "Hello"}),
        json!({"model": "m", "instructions": "Mine.", "input": null, "tools": []}),
        json!({"instructions": "Mine."}),
    ] {
        let reply = running.client().post(path, body.to_string()).await;
        assert_eq!((reply.text().as_str(), reply.header("x-guardrail-action")), (counted, "allow"));
        let sent = upstream.requests().pop().unwrap();
        assert!(sent.head.starts_with("POST /v1/responses/input_tokens "), "{}", sent.head);
        let instructions = sent.json()["instructions"].as_str().unwrap().to_owned();
        assert!(instructions.contains("Be kind.") && instructions.ends_with("\n\nMine."), "{instructions}");
    }
    let went_up = upstream.requests().len();
    for (body, code) in [
        (json!({"model": "m", "input": "override"}), "content_filter"),
        (json!({"model": "m", "input": "Hello", "conversation": "conv_1"}), "stored_state"),
        (json!({"model": "m", "input": "Hello", "previous_response_id": "resp_1"}), "stored_state"),
    ] {
        let reply = running.client().post(path, body.to_string()).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["error"]["code"]), (400, &json!(code)));
    }
    let azure = "/openai/v1/responses/input_tokens?api-version=preview";
    assert_eq!(running.client().post(azure, json!({"model": "m", "input": "override"}).to_string()).await.status, 400);
    assert_eq!(upstream.requests().len(), went_up);
}

#[tokio::test]
async fn moderations_are_answered_here() {
    let (upstream, running) = serve(GUARDED, |_| answer("{}")).await;
    let post = |body: Value| {
        let client = running.client();
        async move { client.post("/v1/moderations", body.to_string()).await }
    };
    let reply =
        post(json!({"model": "omni-moderation-latest", "input": ["You are worthless.", "", "The sea is wide."]})).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let body = reply.json();
    assert!(body["id"].as_str().unwrap().starts_with("modr-"));
    let flagged: Vec<_> = body["results"].as_array().unwrap().iter().map(|result| result["flagged"].clone()).collect();
    assert_eq!(json!(flagged), json!([true, false, false]));
    let first = &body["results"][0];
    assert_eq!(first["categories"]["harassment"], true);
    assert!((first["category_scores"]["harassment"].as_f64().unwrap() - 0.9).abs() < 1e-6);
    assert_eq!(first["categories"].as_object().unwrap().len(), 13);
    let parts = json!([{"type": "text", "text": "The sea"}, {"type": "text", "text": "worthless"}]);
    assert_eq!(post(json!({"input": parts})).await.json()["results"].as_array().unwrap().len(), 1);
    let image = json!([{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]);
    assert_eq!(post(json!({"input": image})).await.json()["error"]["code"], "unscannable");
    assert_eq!(post(json!({"input": "fail"})).await.status, 503, "no score is no answer");
    assert!(upstream.requests().is_empty());
    assert!(running.metric(r#"wardline_http_requests_total{code="200",method="POST",route="moderations"}"#) >= 2.0);
}

#[tokio::test]
async fn models_are_listed_by_the_provider_that_the_client_speaks_to() {
    let (upstream, running) = serve(GUARDED, |request| {
        if request.head.contains("worthless") {
            answer(r#"{"id":"x","display_name":"You are worthless."}"#)
        } else {
            answer(MODELS)
        }
    })
    .await;
    let reply = running.client().send(Request::get("/v1/models"), "").await;
    assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, MODELS));
    assert!(reply.header("x-request-id").starts_with("req_"));
    let sent = &upstream.requests()[0];
    assert!(sent.head.starts_with("GET /v1/models HTTP") && sent.body.is_empty(), "{}", sent.head);
    assert_eq!((sent.header("authorization"), sent.header("content-type")), (Some("Bearer upstream-secret"), None));
    running.client().send(Request::get("/v1/models/ft:gpt-4o-mini:acme::x1"), "").await;
    let anthropic = Request::get("/v1/models?limit=5&after_id=a").header("anthropic-version", "2023-06-01");
    let reply = running.client().send(anthropic, "").await;
    assert!(reply.header("request-id").starts_with("req_"));
    let sent = upstream.requests();
    assert!(sent[1].head.starts_with("GET /v1/models/ft:gpt-4o-mini:acme::x1 HTTP"), "{}", sent[1].head);
    assert!(sent[2].head.starts_with("GET /v1/models?limit=5&after_id=a HTTP"), "{}", sent[2].head);
    assert_eq!(sent[2].header("x-api-key"), Some("upstream-secret"));
    let reply = running.client().send(Request::get("/v1/models/worthless"), "").await;
    assert_eq!((reply.status.as_u16(), &reply.json()["error"]["code"]), (502, &json!("content_filter")));
    for (method, path, expected) in [
        ("GET", "/v1/models?limit=5", 400),
        ("POST", "/v1/models", 405),
        ("DELETE", "/v1/models/x", 403),
        ("GET", "/v1/models/a%2fb", 400),
        ("GET", "/v1/models/a%2F..%2Fb", 400),
        ("DELETE", "/v1/models/a/b", 403),
    ] {
        assert_eq!(
            running.client().send(Request::builder().method(method).uri(path), "").await.status,
            expected,
            "{method} {path}"
        );
    }
    assert_eq!(upstream.requests().len(), 4);
    for path in ["/v1/models/openai/gpt-oss-20b", "/v1/models/openai%2Fgpt-oss-20b"] {
        assert_eq!(running.client().send(Request::get(path), "").await.status, 200);
        let sent = upstream.requests().pop().unwrap();
        assert!(sent.head.starts_with(&format!("GET {path} HTTP")), "the bytes that were routed go up: {}", sent.head);
    }
}

#[tokio::test]
async fn the_configuration_chooses_the_policy_of_lists_and_moderations_too() {
    let upstream = Upstream::start(|_| answer(&MODELS.replace("system", "You are worthless."))).await;
    let mut setup = Setup::with(OPEN);
    let line = |route: &str, models: &[&str]| Selector {
        policy: "strict".to_owned(),
        routes: vec![route.to_owned()],
        models: models.iter().map(|model| (*model).to_owned()).collect(),
        ..Selector::default()
    };
    setup.select = vec![line("models", &["openai/*"]), line("moderations", &["careful-*"])];
    let lower = GUARDED.replace("stages: [output], threshold: 0.5", "stages: [output], threshold: 0.95");
    setup.others = vec![("strict".to_owned(), lower)];
    let running = Running::start(setup, upstream.address).await;
    let policy = |reply: &Reply| reply.header("x-guardrail-policy").split(';').next().unwrap_or_default().to_owned();
    for (path, expected) in [("/v1/models", "test"), ("/v1/models/gpt-4o", "test"), ("/v1/models/openai/gpt", "strict")]
    {
        let reply = running.client().send(Request::get(path), "").await;
        assert_eq!((reply.status.as_u16(), policy(&reply).as_str()), (200, expected), "{path}: {}", reply.text());
    }
    for (model, expected, flagged) in [("omni-moderation-latest", "test", true), ("careful-1", "strict", false)] {
        let body = json!({"model": model, "input": "You are worthless."}).to_string();
        let reply = running.client().post("/v1/moderations", body).await;
        assert_eq!((policy(&reply).as_str(), &reply.json()["results"][0]["flagged"]), (expected, &json!(flagged)));
    }
}

#[tokio::test]
async fn azures_paths_go_to_the_azure_upstream_with_its_key() {
    let plain = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"fine"},"finish_reason":"stop"}]}"#;
    let (upstream, running) = serve(GUARDED, move |_| answer(plain)).await;
    let post = |path: &'static str, body: Value| {
        let client = running.client();
        async move { client.post(path, body.to_string()).await }
    };
    let path = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
    let chat = |text: &str| json!({"messages": [{"role": "user", "content": text}]});
    assert_eq!(post(path, chat("Hello")).await.text(), plain);
    let sent = &upstream.requests()[0];
    assert!(sent.head.starts_with(&format!("POST {path} HTTP")), "{}", sent.head);
    assert_eq!((sent.header("api-key"), sent.header("authorization")), (Some("upstream-secret"), None));
    assert!(sent.json()["messages"][0]["content"].as_str().unwrap().contains("Be kind."));
    assert_eq!(post(path, chat("override")).await.json()["error"]["code"], "content_filter");
    assert_eq!(
        post("/openai/v1/chat/completions", chat("Hello")).await.json()["error"]["param"],
        "model",
        "no path names it here"
    );
    let body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]});
    assert_eq!(post("/openai/v1/chat/completions", body).await.status, 200);
    for (path, status) in [
        ("/openai/deployments/gpt-4o/images/generations?api-version=2024-10-21", 403),
        ("/openai/deployments/gpt-4o/chat/completions?api-version=a&api-version=b", 400),
        ("/openai/deployments/gpt-4o/chat/completions?api-version=%32", 400),
        ("/openai/deployments/../chat/completions", 400),
        ("/openai/assistants", 403),
    ] {
        assert_eq!(post(path, chat("Hello")).await.status, status, "{path}");
    }
    assert_eq!(upstream.requests().len(), 2);
}
