//! Every way in which a classifier can fail, at each stage, under each `on_error`: one table, and each cell is tried.

use serde_json::json;
use wardline::classify::Remote;

use crate::support::{Running, Setup, Step, Upstream, answer, chat, json, sse, status};

/// What goes wrong, once a text has this word in it.
#[derive(Clone, Copy)]
struct Fault {
    word: &'static str,
    /// As metrics tell it.
    reason: &'static str,
    /// On a server, and not at hand.
    remote: bool,
}

const FAULTS: &[Fault] = &[
    Fault { word: "fail", reason: "error", remote: false },
    Fault { word: "hold", reason: "timeout", remote: false },
    Fault { word: "boom", reason: "worker_lost", remote: false },
    Fault { word: "nan", reason: "not_finite", remote: false },
    Fault { word: "narrow", reason: "error", remote: false },
    Fault { word: "rowless", reason: "error", remote: false },
    Fault { word: "outside", reason: "error", remote: false },
    Fault { word: "lost", reason: "error", remote: false },
    Fault { word: "hello", reason: "overload", remote: false },
    Fault { word: "fail", reason: "error", remote: true },
    Fault { word: "busy", reason: "error", remote: true },
    Fault { word: "gone", reason: "error", remote: true },
    Fault { word: "slow", reason: "error", remote: true },
    Fault { word: "hold", reason: "timeout", remote: true },
    Fault { word: "nan", reason: "not_finite", remote: true },
    Fault { word: "narrow", reason: "error", remote: true },
    Fault { word: "rowless", reason: "error", remote: true },
    Fault { word: "outside", reason: "error", remote: true },
    Fault { word: "prose", reason: "error", remote: true },
    Fault { word: "flood", reason: "error", remote: true },
    Fault { word: "away", reason: "error", remote: true },
];

/// What a rule says of a guard that cannot judge, and whether the text then passes.
const WAYS: &[(&str, bool)] =
    &[("on_error: closed", false), ("on_error: open", true), ("mode: shadow", true), ("mode: enforce", false)];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Input,
    Whole,
    Stream,
}

/// A server that speaks as text-embeddings-inference does, until a word tells it otherwise.
async fn server() -> Upstream {
    Upstream::start(|asked| {
        let texts = asked.json()["inputs"].as_array().unwrap().clone();
        let has = |word: &str| texts.iter().any(|text| text[0].as_str().unwrap().contains(word));
        let row = |score: serde_json::Value| json!([{"label": "GOOD", "score": 0.5}, {"label": "BAD", "score": score}]);
        let rows = |row: serde_json::Value| json(&json!(vec![row; texts.len()]).to_string());
        match () {
            () if has("fail") => status(500, "", r#"{"error":"no","error_type":"Backend"}"#),
            () if has("busy") => status(429, "", r#"{"error":"no","error_type":"Overloaded"}"#),
            () if has("gone") => vec![Step::Reset],
            () if has("slow") => vec![Step::Sleep(1_000)],
            () if has("hold") => vec![Step::Hold],
            () if has("nan") => rows(row(json!(null))),
            () if has("narrow") => rows(json!([{"label": "GOOD", "score": 0.5}])),
            () if has("rowless") => json("[]"),
            () if has("outside") => rows(row(json!(1.5))),
            () if has("prose") => json("all is well"),
            () if has("flood") => json(&format!("[{}]", " ".repeat(20_000))),
            () if has("away") => status(307, "location: http://127.0.0.1:1/\r\n", ""),
            () => rows(row(json!(0.25))),
        }
    })
    .await
}

fn setup(fault: Fault, way: &str, stage: Stage, server: &Upstream) -> Setup {
    let stages = if stage == Stage::Input { "input" } else { "output" };
    let guard = if fault.remote { "{ classifier: far, labels: [bad] }" } else { "{ classifier: harm }" };
    let timeout = if fault.reason == "timeout" { "300ms" } else { "20s" };
    let policy = format!(
        "rules:\n  - {{ id: guard, guard: {guard}, stages: [{stages}], threshold: 0.9, action: block, {way}, timeout: {timeout} }}\n"
    );
    let mut setup = Setup::with(&policy);
    if fault.remote {
        let far: Remote = serde_json::from_value(json!({
            "protocol": "tei",
            "url": format!("http://{}", server.address),
            "labels": {"bad": "BAD"},
            "timeout_ms": if fault.word == "slow" { 200 } else { 20_000 },
            "max_answer_bytes": 10_000,
        }))
        .unwrap();
        setup.servers.push(("far".to_owned(), far));
    }
    setup.places = if fault.reason == "overload" { 1 } else { 512 };
    setup
}

async fn cell(fault: Fault, (way, passes): (&str, bool), stage: Stage) {
    let word = fault.word;
    let told = format!("{word}, remote: {}, {stage:?}, {way}", fault.remote);
    let said = if stage == Stage::Input { "fine".to_owned() } else { format!("secret {word}.") };
    let upstream = Upstream::start(move |asked| {
        if asked.json()["stream"] != true {
            let message = json!({"role": "assistant", "content": said});
            let body = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]});
            return json(&body.to_string());
        }
        let event = |delta: serde_json::Value, end: Option<&str>| {
            let body = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
                "choices": [{"index": 0, "delta": delta, "finish_reason": end}]});
            format!("data: {body}\n\n")
        };
        let (first, last) = (event(json!({"content": said}), None), event(json!({}), Some("stop")));
        sse(&[first.as_bytes(), last.as_bytes(), b"data: [DONE]\n\n"], 0)
    })
    .await;
    let server = server().await;
    let running = Running::start(setup(fault, way, stage, &server), upstream.address).await;
    let client = running.client();
    let full = fault.reason == "overload";
    if full {
        // The only place is taken, for as long as the gate is shut.
        let classifier = running.gateway.policies.snapshot();
        let classifier = classifier.armed.classifiers()[0].clone();
        tokio::spawn(async move { classifier.score("hold".into()).await });
        running.wait_at_gate().await;
    }
    let prompt = if stage == Stage::Input { word } else { "Hi" };
    let reply = client.post("/v1/chat/completions", chat(prompt, stage == Stage::Stream)).await;
    let text = reply.text();
    match (stage, passes) {
        (Stage::Stream, true) => assert!(text.contains("secret") && text.contains("[DONE]"), "{told}: {text}"),
        (Stage::Stream, false) => {
            assert!(text.contains("guardrail_unavailable"), "{told}: {text}");
            assert!(!text.contains("secret") && !text.contains("[DONE]"), "{told}: {text}");
        }
        (_, true) => assert_eq!(reply.status, 200, "{told}: {text}"),
        (_, false) => {
            let expected = if full { (429, "guardrail_overloaded") } else { (503, "guardrail_unavailable") };
            let body = reply.json();
            assert_eq!((reply.status.as_u16(), body["error"]["code"].as_str().unwrap()), expected, "{told}");
            assert!(!reply.header("retry-after-ms").is_empty() && !text.contains("secret"), "{told}");
        }
    }
    let went_up = passes || stage != Stage::Input;
    assert_eq!(upstream.requests().len(), usize::from(went_up), "{told}");
    let disposition = if passes { "open" } else { "closed" };
    let reason = fault.reason;
    let series =
        format!(r#"wardline_guard_failures_total{{disposition="{disposition}",guard="guard",reason="{reason}"}}"#);
    assert!(running.metric(&series) >= 1.0, "{told}: {series} is {}", running.metric(&series));
    // The process lives, and so do its workers.
    running.open_gate();
    if stage == Stage::Input {
        for _ in 0..200 {
            if client.post("/v1/chat/completions", chat("Good day", false)).await.status == 200 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{told}: the next request fails too");
    }
}

async fn row(remote: bool, stage: Stage) {
    for fault in FAULTS.iter().filter(|fault| fault.remote == remote) {
        for way in WAYS {
            cell(*fault, *way, stage).await;
        }
    }
}

#[tokio::test]
async fn each_fault_of_a_model_at_hand_on_a_prompt() {
    row(false, Stage::Input).await;
}

#[tokio::test]
async fn each_fault_of_a_model_at_hand_on_an_answer() {
    row(false, Stage::Whole).await;
}

#[tokio::test]
async fn each_fault_of_a_model_at_hand_in_a_stream() {
    row(false, Stage::Stream).await;
}

#[tokio::test]
async fn each_fault_of_a_server_on_a_prompt() {
    row(true, Stage::Input).await;
}

#[tokio::test]
async fn each_fault_of_a_server_on_an_answer() {
    row(true, Stage::Whole).await;
}

#[tokio::test]
async fn each_fault_of_a_server_in_a_stream() {
    row(true, Stage::Stream).await;
}

/// At construction there is one way only, whatever a policy says: nothing is served.
#[tokio::test]
async fn each_fault_at_construction_refuses_to_load() {
    let server = Upstream::start(|asked| {
        let path = asked.head.split(' ').nth(1).unwrap().to_owned();
        match path.trim_end_matches("/predict") {
            "/fail" => status(500, "", "{}"),
            "/gone" => vec![Step::Reset],
            "/slow" => vec![Step::Hold],
            "/nan" => json(r#"[[{"label":"BAD","score":null}]]"#),
            "/narrow" => json(r#"[[{"label":"GOOD","score":0.5}]]"#),
            "/rowless" => json("[]"),
            "/outside" => json(r#"[[{"label":"BAD","score":1.5}]]"#),
            "/prose" => vec![answer(200, "", "all is well")],
            _ => json(r#"[[{"label":"BAD","score":0.5}]]"#),
        }
    })
    .await;
    let metrics = std::sync::Arc::new(wardline::telemetry::Metrics::new().unwrap());
    let load = async |path: &str, more: serde_json::Value| {
        let mut config = json!({"protocol": "tei", "url": format!("http://{}{path}", server.address),
            "labels": {"bad": "BAD"}, "timeout_ms": 500});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let remote = crate::support::remote("far".to_owned(), serde_json::from_value(config).unwrap(), &metrics);
        remote.await.map(|_| ()).map_err(|error| format!("{}: {error}", error.key()))
    };
    assert_eq!(load("/good", json!({})).await, Ok(()));
    let asked = "classifiers.far.labels: it was asked about a text and failed: ";
    for (path, told) in [
        ("/fail", format!("{asked}the server answered with status 500 Internal Server Error")),
        ("/gone", format!("{asked}the connection broke")),
        ("/slow", format!("{asked}no answer within")),
        ("/nan", "classifiers.far.labels: it gave a score of NaN, which is no probability".to_owned()),
        ("/narrow", "classifiers.far.labels: the answer has nothing for the label `bad`; it has `GOOD`".to_owned()),
        ("/rowless", "classifiers.far.labels: wrong shape: 0 rows for 1 texts".to_owned()),
        ("/outside", "classifiers.far.labels: it gave a score of 1.5, which is no probability".to_owned()),
        ("/prose", "classifiers.far.labels: the answer is not what the protocol says".to_owned()),
    ] {
        let error = load(path, json!({})).await.unwrap_err();
        assert!(error.starts_with(&told), "{path}: {error}");
        assert_eq!(load(path, json!({"check_at_load": false})).await, Ok(()), "{path}: who waives the check may start");
    }
    for (more, told) in [
        (json!({"url": "ftp://host"}), "classifiers.far.url: `ftp://host` is not an http or https URL"),
        (json!({"ca_file": "/nowhere.pem", "url": "https://127.0.0.1:1"}), "classifiers.far.ca_file: /nowhere.pem"),
        (json!({"window_chars": 0}), "classifiers.far.window_chars: expected at least 1"),
    ] {
        let error = load("/good", more).await.unwrap_err();
        assert!(error.starts_with(told), "{error}");
    }
}
