//! Streamed answers under `revise`: held, repaired, or blocked; always a valid stream of the dialect.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::Notify;

use wardline::api::Dialect;

use super::{Role, VIOLATED, policy, role, say};
use crate::responses;
use crate::support::{Recorded, Running, Setup, Step, Upstream, prompt, sse};

const HARMFUL: &[&str] = &["The sea is wide.", " All is well.", " But you", " are wor", "thless", ", friend."];
pub(super) const CHAT: &str = "/v1/chat/completions";
pub(super) const MESSAGES: &str = "/v1/messages";
pub(super) const RESPONSES: &str = "/v1/responses";
pub(super) const COMPLETIONS: &str = "/v1/completions";
pub(super) const ANSWERED: [(&str, Dialect); 4] = [
    (CHAT, Dialect::OpenAiChat),
    (MESSAGES, Dialect::AnthropicMessages),
    (RESPONSES, Dialect::OpenAiResponses),
    (COMPLETIONS, Dialect::OpenAiCompletions),
];

fn frame(name: Option<&str>, data: &Value) -> String {
    let event = name.map_or_else(String::new, |name| format!("event: {name}\n"));
    format!("{event}data: {data}\n\n")
}

pub(super) fn chunk(index: u32, delta: &Value, finish: &Value) -> String {
    frame(
        None,
        &json!({"id": "c", "model": "m", "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}),
    )
}

fn typed(data: &Value) -> String {
    frame(data["type"].as_str(), data)
}

/// The words as a stream of the dialect, with what comes after them.
pub(super) fn answer_stream(path: &str, words: &[&str]) -> String {
    if path == RESPONSES {
        return responses::plain(&responses::said(words));
    }
    if path == COMPLETIONS {
        let chunk = |text: &str, finish: Value| {
            let choice = json!({"text": text, "index": 0, "logprobs": null, "finish_reason": finish});
            frame(None, &json!({"id": "c", "object": "text_completion", "model": "m", "choices": [choice]}))
        };
        let words: String = words.iter().map(|word| chunk(word, Value::Null)).collect();
        return words + &chunk("", json!("stop")) + "data: [DONE]\n\n";
    }
    if path == CHAT {
        let mut out = chunk(0, &json!({"role": "assistant", "content": ""}), &Value::Null);
        out.extend(words.iter().map(|word| chunk(0, &json!({"content": word}), &Value::Null)));
        out += &chunk(0, &json!({}), &json!("stop"));
        out += &frame(
            None,
            &json!({"id": "c", "model": "m", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}}),
        );
        return out + "data: [DONE]\n\n";
    }
    let start = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 3, "output_tokens": 1}});
    let mut out = typed(&json!({"type": "message_start", "message": start}));
    out += &block(0, words);
    out += &typed(
        &json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": {"output_tokens": 9}}),
    );
    out + &typed(&json!({"type": "message_stop"}))
}

fn block(index: u32, words: &[&str]) -> String {
    let mut out =
        typed(&json!({"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}}));
    for word in words {
        out += &typed(
            &json!({"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": word}}),
        );
    }
    out + &typed(&json!({"type": "content_block_stop", "index": index}))
}

/// Reads a stream as an SDK would, and fails on what an SDK would stumble over. Gives the answer's text.
pub(super) fn read(path: &str, stream: &str) -> String {
    if path == RESPONSES {
        let end = responses::events(stream).pop().unwrap();
        assert!(end["type"] == "response.completed" || end["type"] == "response.incomplete", "{stream}");
        return responses::agreeing(stream);
    }
    let chunked = path != MESSAGES;
    let (mut text, mut open, mut started, mut finished) = (String::new(), None, false, false);
    for frame in stream.split("\n\n").filter(|frame| !frame.is_empty() && !frame.starts_with(':')) {
        let name = frame.lines().find_map(|line| line.strip_prefix("event: "));
        let data = frame.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
        if data == "[DONE]" {
            assert!(chunked && finished, "{stream}");
            continue;
        }
        let event: Value = serde_json::from_str(data).unwrap();
        if chunked {
            assert_eq!(event["id"], "c", "{frame}");
            if let Some(choice) = event["choices"].get(0) {
                assert!(!finished, "after the end: {frame}");
                text.push_str(choice["delta"]["content"].as_str().or(choice["text"].as_str()).unwrap_or_default());
                finished |= choice["finish_reason"].is_string();
            }
            continue;
        }
        assert_eq!(name, event["type"].as_str(), "{frame}");
        match name.unwrap() {
            "ping" => {}
            "message_start" => assert!(!std::mem::replace(&mut started, true)),
            "content_block_start" => {
                assert!(started && open.is_none(), "{stream}");
                open = event["index"].as_u64();
            }
            "content_block_delta" => {
                assert!(open.is_some() && open == event["index"].as_u64(), "{stream}");
                text.push_str(event["delta"]["text"].as_str().unwrap_or_default());
            }
            "content_block_stop" => assert_eq!(open.take(), event["index"].as_u64()),
            "message_delta" => assert!(open.is_none() && started),
            "message_stop" => finished = true,
            other => panic!("{other}: {stream}"),
        }
    }
    assert!(finished, "{stream}");
    text
}

fn policy_on(on_stream: &str) -> String {
    policy() + &format!("revise: {{ on_stream: {on_stream}, rounds: 2 }}\n")
}

pub(super) fn material(request: &Recorded) -> Value {
    let body = request.json();
    let message = body["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap();
    serde_json::from_str(message).unwrap()
}

pub(super) fn path(request: &Recorded) -> &'static str {
    let asked = |(path, _): &(&str, Dialect)| request.head.starts_with(&format!("POST {path} "));
    ANSWERED.into_iter().find(asked).unwrap().0
}

fn ask(path: &str, text: &str) -> String {
    asked(path, text, true)
}

pub(super) fn asked(path: &str, text: &str, stream: bool) -> String {
    let (_, dialect) = ANSWERED.into_iter().find(|(other, _)| *other == path).unwrap();
    prompt(dialect, text, stream)
}

/// What the user said: no test lets the constitution say a number.
fn said_by_user(request: &Recorded) -> String {
    let body = request.json();
    let last = body["messages"].as_array().and_then(|messages| messages.last()?["content"].as_str().map(str::to_owned));
    let text = last.or_else(|| body["input"].as_str().or(body["prompt"].as_str()).map(str::to_owned)).unwrap();
    text.rsplit('\n').next().unwrap().to_owned()
}

/// The answer's stream, cut in two where the user's message says, and a critic and reviser who do their work. A reviser
/// who is not told what was shown rewrites the whole answer.
fn play(request: &Recorded) -> Vec<Step> {
    match role(request) {
        Role::Assistant => {
            let stream = answer_stream(path(request), HARMFUL);
            let at: usize = said_by_user(request).parse().unwrap();
            let (left, right) = stream.as_bytes().split_at(at);
            sse(&[left, right], 1)
        }
        Role::Critic => say(request, VIOLATED),
        Role::Reviser => say(request, r#"{"revision": " You matter."}"#),
    }
}

async fn every_split(on_stream: &str, path: &'static str, check: impl Fn(usize, &str)) {
    let upstream = Upstream::start(play).await;
    // A note holds the request's id, which differs from one answer to the next.
    let policy = policy_on(on_stream) + "respond: { annotate: none }\n";
    let running = Running::start(Setup::with(&policy), upstream.address).await;
    let splits = answer_stream(path, HARMFUL).len();
    let client = running.client();
    let answers = stream::iter((0..=splits).map(|split| {
        let client = client.clone();
        async move { (split, client.post(path, ask(path, &split.to_string())).await.text()) }
    }));
    let mut answers = answers.buffer_unordered(8);
    while let Some((split, text)) = answers.next().await {
        assert!(!text.contains("wor") && !text.contains("thless"), "split at {split}: {text}");
        check(split, &text);
    }
    let accepted = r#"wardline_revision_outcomes_total{outcome="accepted",policy="test"}"#;
    running.wait_for(accepted, f64::from(u32::try_from(splits).unwrap() + 1)).await;
}

#[tokio::test]
async fn a_held_stream_is_revised_whole_wherever_it_was_cut() {
    for (path, _) in ANSWERED {
        let mut first: Option<String> = None;
        let first = std::cell::RefCell::new(&mut first);
        every_split("hold", path, |split, text| {
            assert_eq!(read(path, text), " You matter.");
            let mut first = first.borrow_mut();
            assert_eq!(first.get_or_insert_with(|| text.to_owned()), text, "split at {split}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_stream_is_repaired_from_what_was_shown_wherever_it_was_cut() {
    for (path, _) in ANSWERED {
        every_split("repair", path, |split, text| {
            let answer = read(path, text);
            let shown = answer.strip_suffix(" You matter.").unwrap_or_else(|| panic!("split at {split}: {answer}"));
            assert!("The sea is wide. All is well. But you are ".starts_with(shown), "{shown}");
        })
        .await;
    }
}

/// The client has read two sentences before the upstream says the third.
#[tokio::test]
async fn a_repair_goes_on_from_the_last_released_sentence() {
    // A word before a stop could still become an address; behind the blank it cannot.
    let words = &["The sea is wide. ", "All is well. ", "But you", " are wor", "thless", ", friend."];
    for (path, _) in ANSWERED {
        let go = Arc::new(Notify::new());
        let gate = Arc::clone(&go);
        let upstream = Upstream::start(move |request| match role(request) {
            Role::Assistant => {
                let stream = answer_stream(path, words);
                let at = stream.find("But you").unwrap();
                let at = stream[..at].rfind("\n\n").unwrap() + 2;
                let mut steps = sse(&[&stream.as_bytes()[..at], &stream.as_bytes()[at..]], 0);
                steps.insert(2, Step::Wait(Arc::clone(&gate)));
                steps
            }
            Role::Critic => say(request, VIOLATED),
            Role::Reviser => say(request, r#"{"revision": "You matter."}"#),
        })
        .await;
        let running = Running::start(Setup::with(&policy_on("repair")), upstream.address).await;
        let reply = running.client().stream(path, ask(path, "Hello")).await;
        assert_eq!(reply.headers()["x-guardrail-stream"], "window");
        let (mut body, mut text) = (reply.into_body(), String::new());
        while let Some(frame) = body.frame().await {
            text.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
            if text.contains("All is well. ") {
                go.notify_one();
            }
        }
        assert_eq!(read(path, &text), "The sea is wide. All is well. You matter.");
        assert_eq!(text.matches(r#""guardrail":{"#).count(), 1, "{text}");
        assert!(text.contains(r#""action":"revise""#), "{text}");
        let told = text.split("\n\n").find(|frame| frame.contains(r#""guardrail":{"#)).unwrap();
        let end = ["\"finish_reason\":\"stop\"", "event: message_delta", "event: response.completed"];
        assert!(end.iter().any(|end| told.contains(end)), "it is told where the answer ends: {text}");
        let tokens = if path == CHAT { r#""completion_tokens":9"# } else { r#""output_tokens":9"# };
        assert!(path == COMPLETIONS || text.contains(tokens), "{text}");
        let asked = upstream.requests();
        assert_eq!(asked.len(), 3);
        let (critic, reviser) = (material(&asked[1]), material(&asked[2]));
        let original = words.concat();
        assert_eq!((&critic["answer"], &critic["shown"]), (&json!(original), &Value::Null));
        assert_eq!(
            (&reviser["answer"], &reviser["shown"]),
            (&json!(original), &json!("The sea is wide. All is well. "))
        );
        running.wait_for(r#"wardline_pairs_sampled_total{sink="spool"}"#, 1.0).await;
        let rows = running.rows();
        assert_eq!(rows[0]["chosen"][0]["content"], "The sea is wide. All is well. You matter.");
        assert_eq!((&rows[0]["rejected"][0]["content"], &rows[0]["meta"]["tags"]), (&json!(original), &json!([])));
        assert_eq!(rows[0]["prompt"], json!([{"role": "user", "content": "Hello"}]));
    }
}

async fn once(policy: &str, path: &'static str, stream: String, reviser: &'static str) -> (Running, Upstream, String) {
    let upstream = Upstream::start(move |request| match role(request) {
        Role::Assistant => sse(&[stream.as_bytes()], 0),
        Role::Critic => say(request, VIOLATED),
        Role::Reviser => say(request, reviser),
    })
    .await;
    let running = Running::start(Setup::with(policy), upstream.address).await;
    let text = running.client().post(path, ask(path, "Hello")).await.text();
    (running, upstream, text)
}

#[tokio::test]
async fn a_held_stream_without_harm_comes_down_byte_for_byte() {
    for (path, _) in ANSWERED {
        let stream = answer_stream(path, &HARMFUL[..2]);
        let (_running, upstream, text) = once(&policy_on("hold"), path, stream.clone(), "").await;
        assert_eq!((text, upstream.requests().len()), (stream, 1));
    }
}

#[tokio::test]
async fn what_cannot_be_mended_ends_as_blocked_and_leaves_an_unpaired_row() {
    for (path, _) in ANSWERED {
        for on_stream in ["hold", "repair", "block"] {
            let revision = r#"{"revision": " Still worthless."}"#;
            let (running, upstream, text) =
                once(&policy_on(on_stream), path, answer_stream(path, HARMFUL), revision).await;
            assert!(!text.contains("thless"), "{text}");
            let end = match path {
                MESSAGES => r#""stop_reason":"refusal""#,
                RESPONSES => r#""incomplete_details":{"reason":"content_filter"}"#,
                _ => r#""finish_reason":"content_filter""#,
            };
            assert!(text.contains(end), "{on_stream}: {text}");
            read(path, &text);
            assert_eq!(upstream.requests().len(), if on_stream == "block" { 1 } else { 5 });
            running.wait_for(r#"wardline_pairs_sampled_total{sink="spool"}"#, 1.0).await;
            let rows = running.rows();
            assert_eq!((&rows[0]["label"], rows[0].get("chosen")), (&json!(false), None));
            let said = rows[0]["completion"][0]["content"].as_str().unwrap();
            assert!(said.contains("worthless") && HARMFUL.concat().starts_with(said), "{said}");
            assert_eq!(rows[0]["meta"]["source"], "block");
        }
    }
}

#[tokio::test]
async fn text_in_several_blocks_cannot_be_repaired() {
    let stream = answer_stream(MESSAGES, HARMFUL);
    let end = stream.find("event: message_delta").unwrap();
    let several = [&stream[..end], &block(1, &[" And more."]), &stream[end..]].concat();
    let (_running, upstream, text) =
        once(&policy_on("hold"), MESSAGES, several, r#"{"revision": "You matter."}"#).await;
    assert!(text.contains(r#""stop_reason":"refusal""#) && !text.contains("wor"), "{text}");
    assert_eq!(upstream.requests().len(), 1, "nobody is asked in vain");
}

#[tokio::test]
async fn a_responses_text_in_several_parts_is_blocked_and_its_calls_survive_a_revision() {
    let mut script = responses::Script::begin();
    let items = [script.message(0, &["All is well."]), script.message(1, &["You are", " worthless."])];
    let several = responses::plain(&script.end(&items));
    for on_stream in ["hold", "repair"] {
        let (_running, upstream, text) =
            once(&policy_on(on_stream), RESPONSES, several.clone(), r#"{"revision": "You matter."}"#).await;
        assert!(text.contains("response.incomplete") && !text.contains("worthless"), "{text}");
        assert_eq!(upstream.requests().len(), 1, "nobody is asked in vain");
        let mut script = responses::Script::begin();
        let items = [script.message(0, HARMFUL), script.call(1, &["{\"city\":", "\"Rome\"}"])];
        let calling = responses::plain(&script.end(&items));
        let (_running, _upstream, text) =
            once(&policy_on(on_stream), RESPONSES, calling, r#"{"revision": "You matter."}"#).await;
        assert!(!text.contains("wor") && text.contains(r#"{\"city\":\"Rome\"}"#), "{text}");
        assert!(read(RESPONSES, &text).ends_with("You matter."), "{text}");
        assert_eq!(responses::events(&text).pop().unwrap()["response"]["guardrail"]["action"], "revise");
    }
}

#[tokio::test]
async fn tool_calls_in_a_stream_survive_and_harmful_ones_are_refused() {
    for on_stream in ["hold", "repair"] {
        for (city, survives) in [("Rome", true), ("worthless", false)] {
            let call = json!({"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}});
            let part = |text: &str| json!({"tool_calls": [{"index": 0, "function": {"arguments": text}}]});
            let stream = [
                chunk(0, &json!({"role": "assistant", "content": "You are worthless."}), &Value::Null),
                chunk(0, &json!({"tool_calls": [call]}), &Value::Null),
                chunk(0, &part("{\"city\":"), &Value::Null),
                chunk(0, &part(&format!("\"{city}\"}}")), &Value::Null),
                chunk(0, &json!({}), &json!("tool_calls")),
                "data: [DONE]\n\n".to_owned(),
            ]
            .concat();
            let (_running, _upstream, text) =
                once(&policy_on(on_stream), CHAT, stream, r#"{"revision": "You matter."}"#).await;
            assert!(!text.contains("worthless"), "{text}");
            assert_eq!(text.contains("call_1") && text.contains("You matter."), survives, "{text}");
            assert_eq!(text.contains(r#""finish_reason":"tool_calls""#), survives, "{text}");
        }
    }
}

#[tokio::test]
async fn each_choice_is_revised_for_itself() {
    let stream = [
        chunk(0, &json!({"role": "assistant", "content": "All is"}), &Value::Null),
        chunk(1, &json!({"role": "assistant", "content": "You are"}), &Value::Null),
        chunk(0, &json!({"content": " well."}), &Value::Null),
        chunk(1, &json!({"content": " worthless."}), &Value::Null),
        chunk(0, &json!({}), &json!("stop")),
        chunk(1, &json!({}), &json!("stop")),
        "data: [DONE]\n\n".to_owned(),
    ]
    .concat();
    for on_stream in ["hold", "repair"] {
        let (_running, _upstream, text) =
            once(&policy_on(on_stream), CHAT, stream.clone(), r#"{"revision": "You matter."}"#).await;
        let of = |index: u64| {
            let events = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
            let events = events.map(|data| serde_json::from_str::<Value>(data).unwrap());
            let choices = events.flat_map(|event| event["choices"].as_array().unwrap().clone());
            let texts = choices.filter(|choice| choice["index"] == index);
            texts.map(|choice| choice["delta"]["content"].as_str().unwrap_or_default().to_owned()).collect::<String>()
        };
        assert_eq!((of(0).as_str(), of(1).as_str()), ("All is well.", "You matter."), "{text}");
    }
}

#[tokio::test]
async fn a_held_stream_shows_signs_of_life_and_ends_with_its_client() {
    for (path, beat) in [(CHAT, ": keep-alive"), (MESSAGES, "event: ping")] {
        let upstream = Upstream::start(move |request| match role(request) {
            Role::Assistant => sse(&[answer_stream(path, HARMFUL).as_bytes()], 0),
            Role::Critic => [vec![Step::Sleep(400)], say(request, VIOLATED)].concat(),
            Role::Reviser => say(request, r#"{"revision": "You matter."}"#),
        })
        .await;
        let mut setup = Setup::with(&policy_on("hold"));
        setup.config.heartbeat_ms = 20;
        let running = Running::start(setup, upstream.address).await;
        let reply = running.client().post(path, ask(path, "Hello")).await;
        assert_eq!(reply.header("x-guardrail-stream"), "hold");
        let text = reply.text();
        assert!(text.find(beat).unwrap() < text.find("You matter.").unwrap(), "{text}");
        assert_eq!(read(path, &text), "You matter.");
    }
    let mut upstream = Upstream::start(|request| match role(request) {
        Role::Assistant => sse(&[answer_stream(CHAT, HARMFUL).as_bytes()], 0),
        _ => vec![Step::Hold],
    })
    .await;
    let mut setup = Setup::with(&policy_on("hold"));
    setup.config.heartbeat_ms = 20;
    let running = Running::start(setup, upstream.address).await;
    let body = running.client().stream(CHAT, ask(CHAT, "Hello")).await.into_body();
    while upstream.requests().len() < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    drop(body);
    upstream.left(1).await;
    running.wait_for(r#"wardline_stream_terminations_total{reason="client_gone",route="chat"}"#, 1.0).await;
    assert!(running.rows().is_empty());
}

#[tokio::test]
async fn a_stream_that_breaks_while_its_rest_is_gathered_shows_none_of_it() {
    for path in [CHAT, MESSAGES] {
        let stream = answer_stream(path, HARMFUL);
        let half = stream[..stream.find(", friend.").unwrap()].to_owned();
        let (_running, upstream, text) = once(&policy_on("repair"), path, half, r#"{"revision": "You matter."}"#).await;
        assert!(!text.contains("wor") && !text.contains("[DONE]") && !text.contains("message_stop"), "{text}");
        assert!(text.contains("error"), "{text}");
        assert_eq!(upstream.requests().len(), 1);
    }
}

#[tokio::test]
async fn personal_data_is_replaced_on_both_sides_of_the_seam() {
    let words = &["Write to jane@example.com.", " You are", " worthless, bob@example.com."];
    for (path, on_stream) in ANSWERED.iter().flat_map(|(path, _)| [(*path, "repair"), (*path, "hold")]) {
        let revision = r#"{"revision": " Or to ann@example.com."}"#;
        let (_running, _upstream, text) = once(&policy_on(on_stream), path, answer_stream(path, words), revision).await;
        assert!(!text.contains("example.com"), "{text}");
        let answer = read(path, &text);
        assert!(answer.ends_with(" Or to [EMAIL_ADDRESS]."), "{answer}");
    }
}
