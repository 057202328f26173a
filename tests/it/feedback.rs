//! `POST /v1/feedback`: only what was really answered is rated, once, by whoever got it; and what becomes of it.

use std::collections::BTreeMap;

use http::Request;
use serde_json::{Value, json};
use wardline::pairs::feedback::Config;
use wardline::policy::{Tenant, Tenants};

use crate::support::{GUARDED, Recorded, Reply, Running, Setup, Step, Upstream, json as answer, prompt, sse};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

/// Two answers to every chat; Anthropic's API has one.
fn script(request: &Recorded) -> Vec<Step> {
    if request.head.contains(MESSAGES) {
        let text = "All is well, jane@example.com.";
        return answer(&json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": null, "usage": {"input_tokens": 3, "output_tokens": 4}}).to_string());
    }
    let choice = |index: u32, text: &str| json!({"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"});
    if request.json()["stream"] != true {
        let choices = [choice(0, "All is well, jane@example.com."), choice(1, "All is very well.")];
        return answer(
            &json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": choices})
                .to_string(),
        );
    }
    let chunk = |delta: Value, finish: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        format!("data: {}\n\n", json!({"id": "c", "model": "m", "choices": [choice]}))
    };
    let stream = chunk(json!({"role": "assistant", "content": "All is well, jane"}), Value::Null)
        + &chunk(json!({"content": "@example.com."}), Value::Null)
        + &chunk(json!({}), json!("stop"))
        + "data: [DONE]\n\n";
    sse(&[stream.as_bytes()], 0)
}

struct Stage {
    running: Running,
    _upstream: Upstream,
}

impl Stage {
    async fn with(pairs: &str, change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = Setup::with(&format!("{GUARDED}pairs: {{ {pairs} }}\n"));
        setup.feedback = Some(Config::default());
        change(&mut setup);
        let upstream = Upstream::start(script).await;
        Self { running: Running::start(setup, upstream.address).await, _upstream: upstream }
    }

    async fn new() -> Self {
        Self::with("feedback: 1.0", |_| {}).await
    }

    async fn send(&self, path: &str, key: &str, body: &str) -> Reply {
        let request = Request::post(path)
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {key}"));
        self.running.client().send(request, body.to_owned()).await
    }

    /// Asks, and gives the id that came with the answer.
    async fn ask(&self, path: &str, text: &str, stream: bool) -> String {
        let dialect = wardline::api::Dialect::ALL.into_iter().find(|dialect| dialect.path() == path).unwrap();
        let reply = self.send(path, "app", &prompt(dialect, text, stream)).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.header(if path == MESSAGES { "request-id" } else { "x-request-id" }).to_owned()
    }

    async fn say(&self, body: Value) -> Reply {
        self.send("/v1/feedback", "app", &body.to_string()).await
    }

    /// What became of a word that is taken, or the code of the refusal.
    async fn told(&self, body: Value) -> String {
        let said = self.say(body).await.json();
        let word = if said["error"].is_object() { &said["error"]["code"] } else { &said["status"] };
        word.as_str().unwrap_or_else(|| panic!("{said}")).to_owned()
    }

    async fn kept(&self, exchanges: u32) {
        self.running.wait_for("wardline_feedback_exchanges", f64::from(exchanges)).await;
    }
}

fn texts(row: &Value, column: &str) -> String {
    row[column][0]["content"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn each_kind_of_word_becomes_its_row() {
    for (path, stream) in [(CHAT, false), (CHAT, true), (MESSAGES, false)] {
        let stage = Stage::new().await;
        let id = stage.ask(path, "Write to bob@example.com", stream).await;
        stage.kept(1).await;
        for body in [
            json!({"request_id": id, "thumbs": "up", "comment": "Thanks from ann@example.com"}),
            json!({"request_id": id, "rating": 1}),
            json!({"request_id": id, "event": "copy"}),
            json!({"request_id": id, "event": "regenerate"}),
            json!({"request_id": id, "demonstration": "All is well. Write to sue@example.com."}),
        ] {
            assert_eq!(stage.told(body.clone()).await, "kept", "{body}");
            assert_eq!(stage.told(body.clone()).await, "duplicate", "{body}");
        }
        assert_eq!(stage.told(json!({"request_id": id, "thumbs": "down"})).await, "feedback_given");
        let rows = stage.running.rows();
        assert!(!json!(rows).to_string().contains("example.com"), "{rows:?}");
        let of = |event: &str| {
            let mut found = rows.iter().filter(|row| row["meta"]["event"] == event);
            let row = found.next().unwrap_or_else(|| panic!("{event}: {rows:?}"));
            assert!(found.next().is_none(), "{event}");
            assert_eq!(row["prompt"], json!([{"role": "user", "content": "Write to [EMAIL_ADDRESS]"}]));
            assert_eq!((&row["meta"]["source"], &row["meta"]["request_id"]), (&json!("feedback"), &json!(id)));
            row
        };
        assert_eq!(rows.len(), 5);
        for (event, label, signal) in [
            ("thumbs_up", true, "explicit"),
            ("rating", false, "explicit"),
            ("copy", true, "implicit"),
            ("regenerate", false, "implicit"),
        ] {
            let row = of(event);
            assert_eq!((&row["label"], &row["meta"]["signal"]), (&json!(label), &json!(signal)), "{event}");
            assert_eq!(texts(row, "completion"), "All is well, [EMAIL_ADDRESS].");
        }
        assert_eq!(of("thumbs_up")["meta"]["comment"], "Thanks from [EMAIL_ADDRESS]");
        assert_eq!(of("rating")["meta"]["rating"], 1);
        let better = of("demonstration");
        assert_eq!(texts(better, "chosen"), "All is well. Write to [EMAIL_ADDRESS].");
        assert_eq!(texts(better, "rejected"), "All is well, [EMAIL_ADDRESS].");
    }
}

#[tokio::test]
async fn of_two_answers_one_is_preferred_once_and_for_all() {
    let stage = Stage::new().await;
    let (one, other, foreign) = (
        stage.ask(CHAT, "Hello", false).await,
        stage.ask(CHAT, "Hello", true).await,
        stage.ask(CHAT, "Something else", false).await,
    );
    stage.kept(3).await;
    let over = |id: &str, choice: u32, over: Value| json!({"request_id": id, "choice": choice, "preferred_over": over});
    assert_eq!(stage.told(over(&one, 1, json!({"choice": 0}))).await, "kept");
    assert_eq!(stage.told(over(&one, 1, json!({"request_id": other}))).await, "kept");
    assert_eq!(stage.told(over(&one, 1, json!({"request_id": other}))).await, "duplicate");
    assert_eq!(stage.told(over(&other, 0, json!({"request_id": one, "choice": 1}))).await, "feedback_given");
    assert_eq!(stage.told(over(&one, 0, json!({"request_id": foreign}))).await, "different_prompts");
    assert_eq!(stage.told(over(&one, 0, json!({"choice": 0}))).await, "same_answer");
    assert_eq!(stage.told(over(&one, 0, json!({"request_id": other}))).await, "same_answer", "the same words");
    assert_eq!(stage.told(over(&one, 0, json!({"choice": 7}))).await, "no_such_choice");
    assert_eq!(stage.told(over(&one, 0, json!({"request_id": "req_1"}))).await, "unknown_request_id");
    let rows = stage.running.rows();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| texts(row, "chosen") == "All is very well."));
    assert!(rows.iter().all(|row| texts(row, "rejected") == "All is well, [EMAIL_ADDRESS]."));
}

#[tokio::test]
async fn only_a_real_exchange_is_rated_and_only_by_its_client() {
    let stage = Stage::new().await;
    let id = stage.ask(CHAT, "Hello", false).await;
    let body = json!({"request_id": id, "thumbs": "up"}).to_string();
    for key in ["other", "App", ""] {
        let reply = stage.send("/v1/feedback", key, &body).await;
        assert_eq!(
            (reply.status.as_u16(), &reply.json()["error"]["code"]),
            (404, &json!("unknown_request_id")),
            "{key}"
        );
        assert_eq!(reply.header("x-should-retry"), "false");
    }
    let changed = id.replace(&id[10..12], if &id[10..12] == "00" { "11" } else { "00" });
    for forged in ["req_019abc", "", &format!("{id}0"), &changed] {
        let told = stage.told(json!({"request_id": forged, "thumbs": "up"})).await;
        assert!(["unknown_request_id", "value"].contains(&told.as_str()), "{forged}: {told}");
    }
    assert!(stage.running.metric(r#"wardline_feedback_refused_total{reason="unknown_request_id"}"#) >= 5.0);
    assert_eq!(stage.told(json!({"request_id": id, "thumbs": "up"})).await, "kept");
    assert!((stage.running.metric(r#"wardline_feedback_total{event="thumbs_up",status="kept"}"#) - 1.0).abs() < 1e-9);
    assert_eq!(stage.running.rows().len(), 1);
}

#[tokio::test]
async fn a_tenant_rates_with_any_of_its_keys() {
    let hash = |key: &str| {
        use sha2::Digest;
        sha2::Sha256::digest(key).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
    };
    let acme = Tenant { keys: vec![hash("app"), hash("phone")], pairs: Some(true) };
    let shy = Tenant { keys: vec![hash("shy")], pairs: None };
    let known = BTreeMap::from([("acme".to_owned(), acme), ("shy".to_owned(), shy)]);
    let stage = Stage::with("feedback: 1.0, consent: tenant", |setup| {
        setup.tenants = Tenants { known, ..Tenants::default() };
    })
    .await;
    let id = stage.ask(CHAT, "Hello", false).await;
    let body = json!({"request_id": id, "thumbs": "up"}).to_string();
    assert_eq!(stage.send("/v1/feedback", "shy", &body).await.status, 404);
    assert_eq!(stage.send("/v1/feedback", "phone", &body).await.json()["status"], "kept");
    // Who has not agreed is answered and counted, and leaves nothing.
    for key in ["shy", "nobody"] {
        let reply = stage.send(CHAT, key, &prompt(wardline::api::Dialect::OpenAiChat, "Hello", false)).await;
        let body = json!({"request_id": reply.header("x-request-id"), "thumbs": "up"}).to_string();
        assert_eq!(stage.send("/v1/feedback", key, &body).await.json()["status"], "counted", "{key}");
    }
    let rows = stage.running.rows();
    assert_eq!(rows.len(), 1);
    let meta = &rows[0]["meta"];
    assert_eq!((&meta["tenant"], &meta["consent"]), (&json!("acme"), &json!("tenant_opt_in")));
}

#[tokio::test]
async fn a_body_is_read_strictly_and_bounded() {
    let stage = Stage::with("feedback: 1.0", |setup| {
        setup.feedback = Some(Config { per_minute: 12, max_bytes: 2048, ..Config::default() });
    })
    .await;
    for (body, status, code, place) in [
        ("{}", 400, "missing", "request_id"),
        ("[1]", 400, "type", ""),
        (r#"{"request_id":"r","thumbs":"sideways"}"#, 400, "value", "thumbs"),
        (r#"{"request_id":"r","thumbs":"up","thumbs":"down"}"#, 400, "duplicate_key", ""),
        (r#"{"request_id":"r","thumbs":"up","weight":7}"#, 400, "value", ""),
        ("thumbs up", 400, "syntax", ""),
        (&format!(r#"{{"request_id":"r","demonstration":"{}"}}"#, "x".repeat(4000)), 413, "request_too_large", ""),
    ] {
        let reply = stage.send("/v1/feedback", "app", body).await;
        let error = reply.json()["error"].clone();
        assert_eq!((reply.status.as_u16(), error["code"].as_str()), (status, Some(code)), "{body:.60}: {error}");
        assert!(place.is_empty() || error["param"] == place, "{error}");
        assert!(!error.to_string().contains("sideways") && !error.to_string().contains("weight"), "{error}");
    }
    let mut answers = Vec::new();
    for _ in 0..8 {
        answers.push(stage.send("/v1/feedback", "app", "{}").await.status.as_u16());
    }
    // A minute may begin in between.
    assert!(answers.ends_with(&[429, 429]) || answers.windows(2).any(|pair| pair == [429, 400]), "{answers:?}");
    assert_eq!(stage.send("/v1/feedback", "other", "{}").await.status, 400, "each client has its own bound");
    let reply = stage.running.client().send(Request::get("/v1/feedback"), "").await;
    assert_eq!(reply.status, 405);
}

#[tokio::test]
async fn a_demonstration_is_held_to_what_answers_are_held_to() {
    let stage = Stage::new().await;
    let id = stage.ask(CHAT, "Hello", false).await;
    let reply = stage.say(json!({"request_id": id, "demonstration": "You are worthless."})).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["error"]["code"]), (400, &json!("content_filter")));
    assert_eq!(stage.told(json!({"request_id": id, "demonstration": "You matter."})).await, "kept");
    assert_eq!(stage.running.rows().len(), 1);
}

#[tokio::test]
async fn what_was_not_sampled_or_was_blocked_is_counted_only() {
    for (pairs, text) in [("feedback: 0.0", "Hello"), ("rate: 0.0, feedback: 1.0", "Hello")] {
        let stage = Stage::with(pairs, |_| {}).await;
        let id = stage.ask(CHAT, text, false).await;
        assert_eq!(stage.told(json!({"request_id": id, "thumbs": "up"})).await, "counted");
        assert_eq!(stage.told(json!({"request_id": id, "thumbs": "up"})).await, "duplicate");
        assert!(stage.running.rows().is_empty());
    }
    let stage = Stage::new().await;
    let reply = stage.send(CHAT, "app", &prompt(wardline::api::Dialect::OpenAiChat, "override", false)).await;
    assert_eq!(reply.status, 400);
    let word = json!({"request_id": reply.header("x-request-id"), "thumbs": "down"});
    assert_eq!(stage.told(word).await, "counted");
    assert_eq!(stage.told(json!({"request_id": stage.ask(CHAT, "Hello", false).await, "rating": 3})).await, "counted");
}

#[tokio::test]
async fn users_are_hashed_and_have_their_caps() {
    let stage = Stage::with("feedback: 1.0, per_user_per_day: 1", |_| {}).await;
    let mut told = Vec::new();
    for user in ["jane", "jane", "bob"] {
        let body = json!({"model": "m", "user": user, "messages": [{"role": "user", "content": "Hello"}]});
        let reply = stage.send(CHAT, "app", &body.to_string()).await;
        told.push(stage.told(json!({"request_id": reply.header("x-request-id"), "thumbs": "up"})).await);
    }
    assert_eq!(told, ["kept", "counted", "kept"]);
    let capped = r#"wardline_pairs_capped_total{cap="user",policy="test",principle="feedback"}"#;
    assert!((stage.running.metric(capped) - 1.0).abs() < 1e-9);
    let rows = stage.running.rows();
    let users: Vec<&str> = rows.iter().map(|row| row["meta"]["user"].as_str().unwrap()).collect();
    assert!(users.len() == 2 && users[0] != users[1] && users.iter().all(|user| user.len() == 32), "{users:?}");
    assert!(!json!(rows).to_string().contains("jane"));
}

#[tokio::test]
async fn an_answer_that_calls_tools_is_rated_with_its_calls() {
    let upstream = Upstream::start(|_| {
        let call = json!({"id": "call_1", "type": "function", "function": {"name": "mail", "arguments": "{\"to\":\"bob@example.com\"}"}});
        let message = json!({"role": "assistant", "content": null, "tool_calls": [call]});
        let choice = json!({"index": 0, "message": message, "finish_reason": "tool_calls"});
        answer(&json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}).to_string())
    })
    .await;
    // Nothing redacts on the way to the client; the row is redacted all the same.
    let mut setup = Setup::with(&(crate::support::OPEN.to_owned() + "pairs: { feedback: 1.0 }\n"));
    setup.feedback = Some(Config::default());
    let stage = Stage { running: Running::start(setup, upstream.address).await, _upstream: upstream };
    let id = stage.ask(CHAT, "Hello", false).await;
    stage.kept(1).await;
    assert_eq!(stage.told(json!({"request_id": id, "thumbs": "down"})).await, "kept");
    let rows = stage.running.rows();
    let said = &rows[0]["completion"][0];
    assert_eq!((&said["content"], &said["tool_calls"][0]["function"]["name"]), (&Value::Null, &json!("mail")));
    assert_eq!(said["tool_calls"][0]["function"]["arguments"], "{\"to\":\"[EMAIL_ADDRESS]\"}");
    assert_eq!(rows[0]["meta"]["tags"], json!(["tool_calls"]));
}
