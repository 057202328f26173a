//! The Responses API: every repetition of a text judged once and edited alike, endings that clients understand.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use wardline::api::Dialect;

use crate::support::{GUARDED, OPEN, Running, Setup, Upstream, json as answer, prompt, sse};

const PATH: &str = "/v1/responses";

const HARMLESS: &[&str] = &["The sea", " is wide", " and", " very", " blue.", " It is", " cold."];
const HARMFUL: &[&str] = &["The sea is wide.", " All is", " well.", " But you", " are wor", "thless", " and so on."];
const PRIVATE: &[&str] =
    &["Write to", " jane", ".doe@exa", "mple.com", " or use 4111 1111", " 1111 ", "1111", " today."];

/// Events with their names and numbers.
#[derive(Default)]
pub(crate) struct Script {
    out: String,
    number: u64,
}

impl Script {
    fn event(&mut self, kind: &str, mut event: Value) {
        event["type"] = json!(kind);
        event["sequence_number"] = json!(self.number);
        self.number += 1;
        let _infallible = write!(self.out, "event: {kind}\ndata: {event}\n\n");
    }

    pub(crate) fn begin() -> Self {
        let mut script = Self::default();
        script.event("response.created", json!({"response": response("in_progress", &[])}));
        script.event("response.in_progress", json!({"response": response("in_progress", &[])}));
        script
    }

    /// A message, word by word; gives the item.
    pub(crate) fn message(&mut self, at: usize, words: &[&str]) -> Value {
        let id = format!("msg_{at}");
        let place = json!({"item_id": id, "output_index": at, "content_index": 0});
        let with = |key: &str, value: Value| {
            let mut event = place.clone();
            event[key] = value;
            event
        };
        let begun = json!({"id": id, "type": "message", "status": "in_progress", "role": "assistant", "content": []});
        self.event("response.output_item.added", json!({"output_index": at, "item": begun}));
        self.event(
            "response.content_part.added",
            with("part", json!({"type": "output_text", "annotations": [], "text": ""})),
        );
        for word in words {
            self.event("response.output_text.delta", with("delta", json!(word)));
        }
        let part = json!({"type": "output_text", "annotations": [], "text": words.concat()});
        self.event("response.output_text.done", with("text", json!(words.concat())));
        self.event("response.content_part.done", with("part", part.clone()));
        let item = json!({"id": id, "type": "message", "status": "completed", "role": "assistant", "content": [part]});
        self.event("response.output_item.done", json!({"output_index": at, "item": item}));
        item
    }

    pub(crate) fn call(&mut self, at: usize, pieces: &[&str]) -> Value {
        let item = |arguments: &str| json!({"id": "fc_1", "type": "function_call", "status": "completed", "call_id": "call_1", "name": "weather", "arguments": arguments});
        self.event("response.output_item.added", json!({"output_index": at, "item": item("")}));
        for piece in pieces {
            self.event(
                "response.function_call_arguments.delta",
                json!({"item_id": "fc_1", "output_index": at, "delta": piece}),
            );
        }
        let whole = pieces.concat();
        self.event(
            "response.function_call_arguments.done",
            json!({"item_id": "fc_1", "output_index": at, "arguments": whole}),
        );
        self.event("response.output_item.done", json!({"output_index": at, "item": item(&whole)}));
        item(&whole)
    }

    pub(crate) fn end(mut self, output: &[Value]) -> String {
        self.event("response.completed", json!({"response": response("completed", output)}));
        self.out
    }
}

/// As `OpenAI` repeats a request in each answer: the instructions are those that went up.
fn response(status: &str, output: &[Value]) -> Value {
    json!({"id": "resp_1", "object": "response", "created_at": 1, "status": status, "error": null, "incomplete_details": null,
        "instructions": "Be kind. Mine too, though you are worthless.", "metadata": {}, "model": "m", "output": output, "parallel_tool_calls": true, "tool_choice": "auto", "tools": [],
        "usage": {"input_tokens": 3, "output_tokens": 9, "total_tokens": 12}})
}

pub(crate) fn said(words: &[&str]) -> String {
    let mut script = Script::begin();
    let item = script.message(0, words);
    script.end(&[item])
}

/// The instructions that make the constitution's text and the client's what [`response`] repeats.
fn request(stream: bool) -> String {
    json!({"model": "m", "stream": stream, "input": "Hello", "instructions": "Mine too, though you are worthless."})
        .to_string()
}

fn policy(more: &str) -> String {
    // The text of the constitution in one line, so that the echo is the scripted one.
    GUARDED.replace("stages: [input], threshold", "stages: [input], origins: [user], threshold") + more
}

/// What the upstream repeats, with the instructions as they really went up.
fn echoing(stream: String) -> impl Fn(&crate::support::Recorded) -> String {
    move |request| {
        let sent = request.json()["instructions"].as_str().unwrap().to_owned();
        let quoted = json!(sent).to_string();
        stream.replace("Be kind. Mine too, though you are worthless.", &quoted[1..quoted.len() - 1])
    }
}

async fn fetch(policy: &str, stream: &str) -> (String, String) {
    let script = echoing(stream.to_owned());
    let played = Arc::new(std::sync::Mutex::new(String::new()));
    let kept = Arc::clone(&played);
    let upstream = Upstream::start(move |request| {
        let stream = script(request);
        stream.clone_into(&mut kept.lock().unwrap());
        sse(&[stream.as_bytes()], 0)
    })
    .await;
    let running = Running::start(Setup::with(policy), upstream.address).await;
    let reply = running.client().post(PATH, request(true)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let played = played.lock().unwrap().clone();
    (played, reply.text())
}

pub(crate) fn events(stream: &str) -> Vec<Value> {
    let data = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// The numbers have no gaps, and every repetition of the first item's text is the text of its deltas, which it gives.
pub(crate) fn agreeing(stream: &str) -> String {
    let events = events(stream);
    let mut text = String::new();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number, "{stream}");
        let copy = match event["type"].as_str().unwrap() {
            "response.output_text.delta" => {
                text.push_str(event["delta"].as_str().unwrap());
                continue;
            }
            "response.output_text.done" => &event["text"],
            "response.content_part.done" => event["part"].get("text").unwrap_or(&event["part"]["refusal"]),
            "response.output_item.done" => &event["item"]["content"][0]["text"],
            "response.completed" | "response.incomplete" => &event["response"]["output"][0]["content"][0]["text"],
            _ => continue,
        };
        if copy.is_string() && !stream.contains("\"refusal\"") {
            assert_eq!(copy, &json!(text), "{event}");
        }
    }
    text
}

#[tokio::test]
async fn an_allowed_stream_comes_down_byte_for_byte_with_its_echo_of_the_request() {
    for policy in [OPEN.to_owned(), policy("")] {
        let (played, got) = fetch(&policy, &said(HARMLESS)).await;
        assert_eq!(got, played);
        assert!(got.contains("Be kind."), "the provider repeats what it was told");
    }
}

/// What the client gets may not depend on where the stream was cut.
async fn every_split(stream: String, check: impl Fn(&str)) {
    let cut = Arc::new(AtomicUsize::new(0));
    let (at, played) = (Arc::clone(&cut), stream.clone().into_bytes());
    let upstream = Upstream::start(move |_| {
        let (left, right) = played.split_at(at.load(Ordering::SeqCst));
        sse(&[left, right], 1)
    })
    .await;
    let running = Running::start(Setup::with(&policy("")), upstream.address).await;
    for split in 0..stream.len() {
        cut.store(split, Ordering::SeqCst);
        check(&running.client().post(PATH, request(true)).await.text());
    }
}

/// Without the harmful echo, which these tests do not send up.
pub(crate) fn plain(stream: &str) -> String {
    stream.replace("Be kind. Mine too, though you are worthless.", "")
}

#[tokio::test]
async fn every_split_of_a_harmless_stream_gives_the_same_bytes() {
    let stream = plain(&said(&HARMLESS[..3]));
    let expected = stream.clone();
    every_split(stream, |text| assert_eq!(text, expected)).await;
}

#[tokio::test]
async fn every_split_of_a_harmful_stream_is_blocked_and_leaks_nothing() {
    every_split(plain(&said(HARMFUL)), |text| {
        assert!(!text.contains("wor") && !text.contains("thless"), "{text}");
        let told = agreeing(text);
        assert!("The sea is wide. All is well. But you are ".starts_with(&told), "{told}");
        let last = events(text).pop().unwrap();
        assert_eq!(last["type"], "response.incomplete");
        assert_eq!(last["response"]["incomplete_details"]["reason"], "content_filter");
        assert_eq!(last["response"]["guardrail"]["rules"][0]["id"], "harm");
    })
    .await;
}

#[tokio::test]
async fn every_split_of_personal_data_is_replaced_in_all_repetitions() {
    every_split(plain(&said(PRIVATE)), |text| {
        assert_eq!(agreeing(text), "Write to [EMAIL_ADDRESS] or use [CREDIT_CARD] today.");
        // The end names the request, by digits of its own.
        let said = text.split("\"guardrail\"").next().unwrap();
        assert!(!said.contains("jane") && !said.contains("4111"), "{text}");
        assert_eq!(text.matches("or use [CREDIT_CARD] today.").count(), 4, "{text}");
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_is_blocked_before_its_first_word_refuses() {
    for (style, status) in [("content_filter", "incomplete"), ("refusal", "completed")] {
        let policy = policy(&format!("respond: {{ on_output_block: {style}, message: Not said. }}\n"));
        let (_, text) = fetch(&policy, &said(&["worthless."])).await;
        let events = events(&text);
        assert_eq!(events[0]["type"], "response.created");
        let last = events.last().unwrap();
        assert_eq!(last["type"], format!("response.{status}"));
        let output = last["response"]["output"].as_array().unwrap();
        assert_eq!(output.last().unwrap()["content"], json!([{"type": "refusal", "refusal": "Not said."}]));
        let spoken: Vec<&str> = output.iter().filter_map(|item| item["content"][0]["text"].as_str()).collect();
        assert!(spoken.iter().all(|text| text.is_empty()), "{text}");
        agreeing(&text);
    }
}

#[tokio::test]
async fn a_call_is_held_until_it_is_whole_and_judged() {
    let calling = |pieces: &[&str]| {
        let mut script = Script::begin();
        let item = script.call(0, pieces);
        script.end(&[item])
    };
    let (played, got) = fetch(&policy(""), &calling(&["{\"city\":", "\"Rome\"}"])).await;
    assert_eq!(got, played);
    let (_, got) = fetch(&policy(""), &calling(&["{\"text\":\"you are wor", "thless\"}"])).await;
    assert!(!got.contains("function_call") && got.contains("content_filter"), "{got}");
    let (_, got) = fetch(&policy(""), &calling(&["{\"to\":\"jane@exam", "ple.com\"}"])).await;
    assert_eq!(got.matches(r#"{\"to\":\"[EMAIL_ADDRESS]\"}"#).count(), 3, "{got}");
    assert!(!got.contains("jane"), "{got}");
}

#[tokio::test]
async fn a_repetition_that_says_something_else_is_judged_for_itself() {
    for (from, to) in [
        ("\"response.output_text.done\"", "\"text\":\"The sea is wide.\""),
        ("\"response.completed\"", "\"text\":\"The sea is wide.\""),
    ] {
        let stream = plain(&said(&["The sea ", "is wide."]));
        let lines: Vec<String> = stream
            .lines()
            .map(|line| {
                if line.contains(from) { line.replace(to, "\"text\":\"You are worthless.\"") } else { line.to_owned() }
            })
            .collect();
        let (_, text) = fetch(&policy(""), &(lines.join("\n") + "\n")).await;
        assert!(!text.contains("worthless") && text.contains("content_filter"), "{from}: {text}");
    }
    let only_the_end = plain(&said(&["You are worthless."]));
    let only_the_end: String = only_the_end
        .split_inclusive("\n\n")
        .filter(|event| event.contains("response.created") || event.contains("response.completed"))
        .collect();
    let (_, text) = fetch(&policy(""), &only_the_end).await;
    assert!(!text.contains("worthless") && text.contains("content_filter"), "{text}");
}

#[tokio::test]
async fn failures_are_told_and_broken_streams_are_no_success() {
    let mut script = Script::begin();
    script.event("response.failed", json!({"response": response("failed", &[])}));
    let failed = plain(&script.out);
    assert_eq!(fetch(&policy(""), &failed).await.1, failed);
    let stream = plain(&said(HARMLESS));
    let (_, text) = fetch(&policy(""), &stream[..stream.len() / 2]).await;
    let last = events(&text).pop().unwrap();
    assert_eq!((&last["type"], &last["code"]), (&json!("error"), &json!("upstream_stream_broken")));
    assert!(!text.contains("response.completed"));
    let mut script = Script::begin();
    let item = script.message(0, HARMLESS);
    script.event("response.incomplete", json!({"response": response("incomplete", &[item])}));
    let cut_short = plain(&script.out);
    assert_eq!(fetch(&policy(""), &cut_short).await.1, cut_short);
}

fn whole(text: &str) -> String {
    let item = json!({"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [{"type": "output_text", "annotations": [], "text": text}]});
    plain(&response("completed", &[item]).to_string())
}

#[tokio::test]
async fn whole_answers_pass_are_redacted_and_blocked() {
    for (text, expected) in [("A plain answer.", "A plain answer."), ("Ask jane@example.com.", "Ask [EMAIL_ADDRESS].")]
    {
        let upstream = Upstream::start(move |_| answer(&whole(text))).await;
        let running = Running::start(Setup::with(&policy("")), upstream.address).await;
        let reply = running.client().post(PATH, prompt(Dialect::OpenAiResponses, "Hello", false)).await;
        if text == expected {
            assert_eq!(reply.text(), whole(text));
        }
        assert_eq!(reply.json()["output"][0]["content"][0]["text"], expected);
        assert!(upstream.requests()[0].json()["instructions"].as_str().unwrap().contains("Be kind."));
    }
    let upstream = Upstream::start(|_| answer(&whole("You are worthless."))).await;
    for (style, status) in [("content_filter", "incomplete"), ("refusal", "completed")] {
        let policy = policy(&format!("respond: {{ on_output_block: {style}, message: Not said. }}\n"));
        let running = Running::start(Setup::with(&policy), upstream.address).await;
        let reply = running.client().post(PATH, prompt(Dialect::OpenAiResponses, "Hello", false)).await;
        let body = reply.json();
        assert_eq!(
            (&body["status"], &body["output"][0]["content"][0]["refusal"]),
            (&json!(status), &json!("Not said."))
        );
        assert!(!reply.text().contains("worthless"));
    }
}

#[tokio::test]
async fn a_blocked_prompt_names_the_input_and_stored_state_never_goes_up() {
    let upstream = Upstream::start(|_| answer("{}")).await;
    let running = Running::start(Setup::with(GUARDED), upstream.address).await;
    let reply = running.client().post(PATH, prompt(Dialect::OpenAiResponses, "override", true)).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["error"]["param"]), (400, &json!("input")));
    for (key, value) in [
        ("previous_response_id", json!("resp_1")),
        ("conversation", json!("conv_1")),
        ("prompt", json!({"id": "pmpt_1"})),
        ("background", json!(true)),
    ] {
        let mut body = json!({"model": "m", "input": "Hello"});
        body[key] = value;
        let reply = running.client().post(PATH, body.to_string()).await;
        let error = &reply.json()["error"];
        assert_eq!(
            (reply.status.as_u16(), &error["code"], &error["param"]),
            (400, &json!("stored_state"), &json!(key))
        );
    }
    assert!(upstream.requests().is_empty());
    let policy = format!("{GUARDED}respond: {{ on_input_block: refusal, message: I can not do that. }}\n");
    let running = Running::start(Setup::with(&policy), upstream.address).await;
    let reply = running.client().post(PATH, prompt(Dialect::OpenAiResponses, "override", false)).await;
    assert_eq!(reply.json()["output"][0]["content"][0]["refusal"], "I can not do that.");
    let reply = running.client().post(PATH, prompt(Dialect::OpenAiResponses, "override", true)).await;
    assert_eq!(events(&reply.text()).pop().unwrap()["type"], "response.completed");
}

#[tokio::test]
async fn a_violating_response_is_revised() {
    let policy = GUARDED.replace(
        "stages: [output], threshold: 0.5, action: block",
        "stages: [output], threshold: 0.5, action: revise, principle: kind",
    );
    let upstream = Upstream::start(|request| {
        if request.head.starts_with("POST /v1/responses") {
            return answer(&whole("You are worthless."));
        }
        let text = if request.body.contains("You are the critic") {
            json!({"violated": true, "where": "all", "why": "It demeans."})
        } else {
            json!({"revision": "You are welcome."})
        };
        answer(&json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": text.to_string()}, "finish_reason": "stop"}]}).to_string())
    })
    .await;
    let running = Running::start(Setup::with(&policy), upstream.address).await;
    let reply = running.client().post(PATH, prompt(Dialect::OpenAiResponses, "Hello", false)).await;
    assert_eq!(reply.json()["output"][0]["content"][0]["text"], "You are welcome.", "{}", reply.text());
    assert_eq!(reply.json()["guardrail"]["action"], "revise");
    assert_eq!(upstream.requests().len(), 3);
}
