//! Classifiers on servers: what is asked, what comes of it, and when it is asked again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::sync::Notify;
use wardline::classify::Remote;
use wardline::telemetry::Metrics;

use crate::support::{Running, Setup, Step, Upstream, chat, json, remote, status};

const CHAT_ANSWER: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"fine"},"finish_reason":"stop"}]}"#;

fn server(config: &Value, at: &Upstream) -> Remote {
    let mut whole = json!({"url": format!("http://{}", at.address)});
    whole.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    serde_json::from_value(whole).unwrap()
}

/// The score that scripted servers give: high for what has "worthless" in it.
fn score(text: &Value) -> f64 {
    if text.as_str().unwrap().contains("worthless") { 0.9 } else { 0.1 }
}

async fn tei() -> Upstream {
    Upstream::start(|asked| {
        let texts = asked.json()["inputs"].as_array().unwrap().clone();
        let row = |text: &Value| json!([{"label": "LABEL_1", "score": score(&text[0])}]);
        json(&json!(texts.iter().map(row).collect::<Vec<_>>()).to_string())
    })
    .await
}

async fn oip() -> Upstream {
    Upstream::start(|asked| {
        assert!(asked.head.starts_with("POST /base/v2/models/guard/infer HTTP/1.1"), "{}", asked.head);
        let texts = asked.json()["inputs"][0]["data"].as_array().unwrap().clone();
        let data: Vec<f64> = texts.iter().flat_map(|text| [1.0 - score(text), score(text)]).collect();
        let output = json!({"name": "scores", "shape": [texts.len(), 2], "datatype": "FP32", "data": data});
        json(&json!({"model_name": "guard", "model_version": "3", "outputs": [output]}).to_string())
    })
    .await
}

async fn moderations() -> Upstream {
    Upstream::start(|asked| {
        assert_eq!(asked.header("authorization"), Some("Bearer server-secret"));
        let texts = asked.json()["input"].as_array().unwrap().clone();
        let row = |text: &Value| json!({"flagged": false, "category_scores": {"hate/threatening": score(text)}});
        let results: Vec<Value> = texts.iter().map(row).collect();
        json(&json!({"id": "x", "model": "omni-9", "results": results}).to_string())
    })
    .await
}

/// A server under a rule, beside the classifier at hand, by each protocol. The policy's own tests ask it too, while the
/// thread that loads waits: so more than one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_each_protocol_guard_beside_the_model_at_hand() {
    let upstream = Upstream::start(|_| json(CHAT_ANSWER)).await;
    let (tei, oip, moderations) = (tei().await, oip().await, moderations().await);
    let servers = [
        ("near", json!({"protocol": "tei", "labels": {"toxic": "LABEL_1"}}), &tei),
        ("triton", json!({"protocol": "oip", "model": "guard", "labels": {"toxic": 1}}), &oip),
        (
            "openai-mod",
            json!({"protocol": "moderations", "api_key_env": "K", "labels": {"hate": "hate/threatening"}}),
            &moderations,
        ),
    ];
    for (name, config, at) in servers {
        let label = config["labels"].as_object().unwrap().keys().next().unwrap().clone();
        let policy = format!(
            "rules:
  - {{ id: attack, guard: {{ classifier: prompt_attack }}, stages: [input], threshold: 0.5, action: block }}
  - {{ id: far, guard: {{ classifier: {name}, labels: [{label}] }}, stages: [input], threshold: 0.5, action: block }}
tests:
  - {{ name: insults, text: You are worthless!, expect: {{ action: block, rules: [far] }} }}
  - {{ name: bread, text: How do I bake bread?, expect: {{ action: allow }} }}
"
        );
        let mut setup = Setup::with(&policy);
        let mut server = server(&config, at);
        if name == "triton" {
            server.url += "/base/";
        }
        setup.servers.push((name.to_owned(), server));
        let running = Running::start(setup, upstream.address).await;
        let client = running.client();
        for (text, code) in [("Good day", 200), ("You are worthless", 400), ("override", 400), ("Good day", 200)] {
            let reply = client.post("/v1/chat/completions", chat(text, false)).await;
            assert_eq!(reply.status.as_u16(), code, "{name}: {text}: {}", reply.text());
        }
        let decided = r#"wardline_guard_decisions_total{action="block",mode="enforce",policy="test",rule="far",stage="input",verdict="deny"}"#;
        assert!((running.metric(decided) - 1.0).abs() < 1e-9, "{name}");
        let page: Value = serde_json::from_str(&running.gateway.status()).unwrap();
        let revision = match name {
            "near" => "tei",
            "triton" => "3",
            _ => "omni-9",
        };
        assert_eq!(page["classifiers"][1], json!({"name": name, "revision": revision, "device": "remote"}));
        // The probe, two tests, "Good day", the insult, and "override"; the second "Good day" is in the ledger. Both tests
        // may have come in one call.
        let texts = |asked: &crate::support::Recorded| {
            let asked = asked.json();
            let texts = [&asked["inputs"][0]["data"], &asked["inputs"], &asked["input"]];
            texts.into_iter().find_map(Value::as_array).unwrap().len()
        };
        assert_eq!(at.requests().iter().map(texts).sum::<usize>(), 6, "{name}");
    }
}

/// Longer than a window: cut with overlap, every character asked about, the largest score kept.
#[tokio::test]
async fn a_long_text_is_asked_about_whole() {
    let (at, metrics) = (tei().await, Arc::new(Metrics::new().unwrap()));
    let config = json!({"protocol": "tei", "labels": {"toxic": "LABEL_1"}, "window_chars": 100, "overlap_chars": 20,
        "max_batch_texts": 4, "max_input_chars": 2_000});
    let classifier = remote("far".to_owned(), server(&config, &at), &metrics).await.unwrap();
    let text: String = format!("{}worthless{}", "ä b ".repeat(100), " c d".repeat(100));
    let scores = classifier.score(Arc::from(text.as_str())).await.unwrap();
    assert_eq!((scores.values, scores.tokens, scores.windows), (vec![0.9], 809, 10));
    let mut sent: Vec<String> = Vec::new();
    for asked in at.requests().iter().skip(1) {
        let texts = asked.json()["inputs"].as_array().unwrap().clone();
        assert!(texts.len() <= 4);
        sent.extend(texts.iter().map(|text| text[0].as_str().unwrap().to_owned()));
    }
    assert!(sent.iter().all(|part| part.chars().count() <= 100 && text.contains(part.as_str())));
    assert_eq!(sent.iter().map(|part| part.chars().count()).sum::<usize>(), 809 + 9 * 20);
    let long = "x".repeat(2_001);
    assert!(classifier.score(Arc::from(long.as_str())).await.unwrap_err().to_string().contains("over the cap of 2000"));
}

#[tokio::test]
async fn a_busy_server_is_asked_again_and_a_failing_one_is_not() {
    for (code, calls) in [(429, 3), (503, 3), (500, 1), (413, 1)] {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let at = Upstream::start(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            status(code, "", "{}")
        })
        .await;
        let metrics = Arc::new(Metrics::new().unwrap());
        let config = json!({"protocol": "tei", "labels": {"toxic": "LABEL_1"}, "retries": 2, "check_at_load": false});
        let classifier = remote("far".to_owned(), server(&config, &at), &metrics).await.unwrap();
        let error = classifier.score(Arc::from("secret words")).await.unwrap_err().to_string();
        assert!(error.contains(&code.to_string()) && !error.contains("secret"), "{error}");
        assert_eq!(count.load(Ordering::SeqCst), calls, "{code}");
    }
}

/// A server that comes back is used again, without a restart.
#[tokio::test]
async fn a_server_that_was_busy_once_answers_the_second_time() {
    let first = Arc::new(AtomicUsize::new(0));
    let at = Upstream::start(move |_| match first.fetch_add(1, Ordering::SeqCst) {
        0 => status(503, "", "{}"),
        _ => json(r#"[[{"label":"LABEL_1","score":0.25}]]"#),
    })
    .await;
    let metrics = Arc::new(Metrics::new().unwrap());
    let config = json!({"protocol": "tei", "labels": {"toxic": "LABEL_1"}, "check_at_load": false});
    let classifier = remote("far".to_owned(), server(&config, &at), &metrics).await.unwrap();
    assert_eq!(classifier.score(Arc::from("text")).await.unwrap().values, vec![0.25]);
}

/// No more calls are under way than the configuration says, however many ask.
#[tokio::test]
async fn calls_under_way_are_bounded() {
    let go = Arc::new(Notify::new());
    let waits = Arc::clone(&go);
    let at = Upstream::start(move |_| {
        let answer = json(r#"[[{"label":"LABEL_1","score":0.25}]]"#);
        std::iter::once(Step::Wait(Arc::clone(&waits))).chain(answer).collect()
    })
    .await;
    let metrics = Arc::new(Metrics::new().unwrap());
    let config = json!({"protocol": "tei", "labels": {"toxic": "LABEL_1"}, "max_concurrent_calls": 2,
        "max_batch_texts": 1, "check_at_load": false, "timeout_ms": 20_000});
    let classifier = remote("far".to_owned(), server(&config, &at), &metrics).await.unwrap();
    let scored = (0..12).map(|at| {
        let classifier = classifier.clone();
        tokio::spawn(async move { classifier.score(Arc::from(at.to_string())).await })
    });
    let scored: Vec<_> = scored.collect();
    for answered in 0..12 {
        while at.requests().len() < (answered + 2).min(12) {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        assert!(at.requests().len() <= answered + 2, "{} with {answered} answered", at.requests().len());
        go.notify_one();
    }
    for scored in scored {
        assert_eq!(scored.await.unwrap().unwrap().values, [0.25]);
    }
}
