//! Streams: the same bytes and the same verdict however they are cut, and nothing released before its verdict.

use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::json;

use crate::support::{GUARDED, OPEN, Running, Setup, Upstream, chat, message, sse};

/// A chat stream as providers send it: role, one event a word, finish, usage, `[DONE]`.
fn chat_stream(words: &[&str]) -> String {
    let chunk = |delta: serde_json::Value, finish: serde_json::Value| {
        let chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]});
        format!("data: {chunk}\n\n")
    };
    let mut out = chunk(json!({"role": "assistant", "content": ""}), json!(null));
    out.extend(words.iter().map(|word| chunk(json!({"content": word}), json!(null))));
    out.push_str(&chunk(json!({}), json!("stop")));
    out.push_str("data: [DONE]\n\n");
    out
}

/// The same of the Messages API.
fn message_stream(words: &[&str]) -> String {
    let event = |name: &str, data: serde_json::Value| format!("event: {name}\ndata: {data}\n\n");
    let mut out = event(
        "message_start",
        json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 3, "output_tokens": 1}}}),
    );
    out.push_str(&event(
        "content_block_start",
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
    ));
    out.push_str(&event("ping", json!({"type": "ping"})));
    for word in words {
        out.push_str(&event(
            "content_block_delta",
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}),
        ));
    }
    out.push_str(&event("content_block_stop", json!({"type": "content_block_stop", "index": 0})));
    out.push_str(&event("message_delta", json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": {"output_tokens": 9}})));
    out.push_str(&event("message_stop", json!({"type": "message_stop"})));
    out
}

const HARMLESS: &[&str] =
    &["The sea", " is wide", " and", " very", " blue.", " It is", " cold", " as well", ", mind", " you."];
const HARMFUL: &[&str] =
    &["The sea is wide.", " All is", " well.", " But you", " are wor", "thless", " and so", " on."];
const PRIVATE: &[&str] =
    &["Write to", " jane", ".doe@exa", "mple.com", " or use 4111 1111", " 1111 ", "1111", " today."];

async fn fetch(policy: &str, path: &str, pieces: Vec<Vec<u8>>) -> (Running, String) {
    let upstream = Upstream::start(move |_| sse(&pieces.iter().map(Vec::as_slice).collect::<Vec<_>>(), 0)).await;
    let running = Running::start(Setup::with(policy), upstream.address).await;
    let body = if path == "/v1/messages" { message("Hello", true) } else { chat("Hello", true) };
    let reply = running.client().post(path, body).await;
    assert_eq!(reply.status, 200);
    assert!(reply.header("content-type").starts_with("text/event-stream"));
    let text = reply.text();
    (running, text)
}

fn whole(stream: &str) -> Vec<Vec<u8>> {
    vec![stream.as_bytes().to_vec()]
}

#[tokio::test]
async fn an_allowed_stream_comes_down_byte_for_byte() {
    for policy in [OPEN, GUARDED] {
        let stream = chat_stream(HARMLESS);
        assert_eq!(fetch(policy, "/v1/chat/completions", whole(&stream)).await.1, stream);
        let stream = message_stream(HARMLESS);
        assert_eq!(fetch(policy, "/v1/messages", whole(&stream)).await.1, stream);
    }
}

/// The text of all content deltas.
fn content(stream: &str) -> String {
    let mut text = String::new();
    for line in stream.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|line| *line != "[DONE]") {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        text.push_str(event["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
        text.push_str(event["delta"]["text"].as_str().unwrap_or_default());
    }
    text
}

/// One gateway, one upstream that plays the recorded stream cut in two at every byte in turn: what the client gets may
/// not depend on the cut.
async fn every_split(path: &'static str, stream: String, check: impl Fn(&str)) {
    let bytes = stream.clone().into_bytes();
    let cut = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let at = std::sync::Arc::clone(&cut);
    let played = bytes.clone();
    let upstream = Upstream::start(move |_| {
        let (left, right) = played.split_at(at.load(std::sync::atomic::Ordering::SeqCst));
        sse(&[left, right], 1)
    })
    .await;
    let running = Running::start(Setup::with(GUARDED), upstream.address).await;
    let body = if path == "/v1/messages" { message("Hello", true) } else { chat("Hello", true) };
    let mut first = None;
    for split in 0..bytes.len() {
        cut.store(split, std::sync::atomic::Ordering::SeqCst);
        let text = running.client().post(path, body.clone()).await.text();
        check(&text);
        // When a stream is cut short, how much went out before may differ with the timing; its words may not.
        let first = first.get_or_insert_with(|| text.clone());
        if content(first) == content(&stream) {
            assert_eq!(&text, first, "split at {split}");
        }
    }
}

#[tokio::test]
async fn every_split_of_a_harmless_stream_gives_the_same_bytes() {
    let stream = chat_stream(HARMLESS);
    let expected = stream.clone();
    every_split("/v1/chat/completions", stream, |text| assert_eq!(text, expected)).await;
    let stream = message_stream(&HARMLESS[..4]);
    let expected = stream.clone();
    every_split("/v1/messages", stream, |text| assert_eq!(text, expected)).await;
}

#[tokio::test]
async fn every_split_of_a_harmful_stream_is_blocked_and_leaks_nothing() {
    every_split("/v1/chat/completions", chat_stream(HARMFUL), |text| {
        assert!(!text.contains("wor") && !text.contains("thless"), "{text}");
        assert!(text.contains(r#""finish_reason":"content_filter""#) && text.ends_with("data: [DONE]\n\n"), "{text}");
        assert!("The sea is wide. All is well. But you are ".starts_with(&content(text)), "{text}");
    })
    .await;
    every_split("/v1/messages", message_stream(HARMFUL), |text| {
        assert!(!text.contains("wor") && !text.contains("thless"), "{text}");
        assert!(text.contains(r#""stop_reason":"refusal""#) && text.contains("event: message_stop"), "{text}");
    })
    .await;
}

#[tokio::test]
async fn every_split_of_personal_data_is_replaced() {
    every_split("/v1/chat/completions", chat_stream(PRIVATE), |text| {
        assert_eq!(content(text), "Write to [EMAIL_ADDRESS] or use [CREDIT_CARD] today.");
        // The end names the request, by digits of its own.
        let said = text.split("\"guardrail\"").next().unwrap();
        assert!(!said.contains("jane") && !said.contains("4111"), "{text}");
    })
    .await;
}

#[tokio::test]
async fn text_is_released_while_the_upstream_still_talks() {
    let pieces: Vec<String> = chat_stream(&["A first sentence. ", "And", " then", " more."])
        .split_inclusive("\n\n")
        .map(str::to_owned)
        .collect();
    let upstream = Upstream::start(move |_| {
        let mut steps = sse(&pieces.iter().map(String::as_bytes).take(2).collect::<Vec<_>>(), 0);
        steps.pop();
        steps.push(crate::support::Step::Hold);
        steps
    })
    .await;
    let running = Running::start(Setup::with(GUARDED), upstream.address).await;
    let mut body = running.client().stream("/v1/chat/completions", chat("Hello", true)).await.into_body();
    let mut text = String::new();
    while !text.contains("A first sentence.") {
        let frame = tokio::time::timeout(Duration::from_secs(5), body.frame()).await.expect("released in time");
        text.push_str(std::str::from_utf8(&frame.unwrap().unwrap().into_data().unwrap()).unwrap());
    }
}

#[tokio::test]
async fn a_tool_call_is_held_until_it_is_whole_and_judged() {
    let calls = |arguments: &[&str]| {
        let chunk = |delta: serde_json::Value, finish: serde_json::Value| {
            format!(
                "data: {}\n\n",
                json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
            )
        };
        let mut out = chunk(
            json!({"role": "assistant", "content": null, "tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}]}),
            json!(null),
        );
        for part in arguments {
            out.push_str(&chunk(json!({"tool_calls": [{"index": 0, "function": {"arguments": part}}]}), json!(null)));
        }
        out.push_str(&chunk(json!({}), json!("tool_calls")));
        out + "data: [DONE]\n\n"
    };
    let good = calls(&["{\"city\":", "\"Rome\"}"]);
    assert_eq!(fetch(GUARDED, "/v1/chat/completions", whole(&good)).await.1, good);
    let bad = calls(&["{\"text\":\"you are wor", "thless\"}"]);
    let text = fetch(GUARDED, "/v1/chat/completions", whole(&bad)).await.1;
    assert!(!text.contains("tool_calls\":[") && text.contains("content_filter"), "{text}");
}

#[tokio::test]
async fn each_choice_has_a_window_of_its_own() {
    let chunk = |index: u32, text: &str| {
        format!(
            "data: {}\n\n",
            json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [{"index": index, "delta": {"content": text}, "finish_reason": null}]})
        )
    };
    let end = |index: u32| {
        format!(
            "data: {}\n\n",
            json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]})
        )
    };
    // Read across choices it says "worthless"; within each it does not.
    let stream = [
        chunk(0, "wor"),
        chunk(1, "thless"),
        chunk(0, "ld."),
        chunk(1, "."),
        end(0),
        end(1),
        "data: [DONE]\n\n".into(),
    ]
    .concat();
    assert_eq!(fetch(GUARDED, "/v1/chat/completions", whole(&stream)).await.1, stream);
    // Interleaved, the second choice is the harmful one.
    let stream = [
        chunk(0, "All "),
        chunk(1, "wor"),
        chunk(0, "well."),
        chunk(1, "thless."),
        end(0),
        end(1),
        "data: [DONE]\n\n".into(),
    ]
    .concat();
    let text = fetch(GUARDED, "/v1/chat/completions", whole(&stream)).await.1;
    assert!(!text.contains("thless") && text.contains("content_filter"), "{text}");
}

#[tokio::test]
async fn a_stream_that_breaks_off_never_looks_complete() {
    let stream = chat_stream(HARMLESS);
    let half = stream[..stream.len() / 2].to_owned();
    let text = fetch(GUARDED, "/v1/chat/completions", whole(&half)).await.1;
    assert!(text.contains("upstream_stream_broken") && !text.contains("[DONE]"), "{text}");
    let stream = message_stream(HARMLESS);
    let half = stream[..stream.len() / 2].to_owned();
    let text = fetch(GUARDED, "/v1/messages", whole(&half)).await.1;
    assert!(text.contains("event: error") && !text.contains("message_stop"), "{text}");
}

#[tokio::test]
async fn what_is_no_event_the_gateway_knows_is_judged_as_text() {
    let strange = "event: surprise\ndata: {\"anything\":{\"deep\":\"you are worthless\"}}\n\n";
    for stream in [
        strange.to_owned() + &chat_stream(HARMLESS),
        format!("data: {}\n\n{}", "not json worthless", chat_stream(HARMLESS)),
    ] {
        let text = fetch(GUARDED, "/v1/chat/completions", whole(&stream)).await.1;
        assert!(!text.contains("worthless"), "{text}");
    }
}

#[tokio::test]
async fn usage_is_counted_and_the_terminations_too() {
    let (running, _) = fetch(GUARDED, "/v1/messages", whole(&message_stream(HARMLESS))).await;
    running.wait_for(r#"wardline_stream_terminations_total{reason="completed",route="messages"}"#, 1.0).await;
    running.wait_for("wardline_stream_held_bytes{route=\"messages\"}", 0.0).await;
    let (running, _) = fetch(GUARDED, "/v1/messages", whole(&message_stream(HARMFUL))).await;
    running.wait_for(r#"wardline_stream_terminations_total{reason="blocked",route="messages"}"#, 1.0).await;
}

#[tokio::test]
async fn a_harmful_sentence_is_seen_after_harmless_ones_word_by_word() {
    let calm = "The sea is wide and blue today and the wind is mild and warm. ".repeat(3);
    let text = format!("{calm}This is one threat and nothing else, dear reader. {calm}");
    let words: Vec<&str> = text.split_inclusive(' ').collect();
    let pieces: Vec<Vec<u8>> =
        chat_stream(&words).split_inclusive("\n\n").map(|event| event.as_bytes().to_vec()).collect();
    let answer = fetch(GUARDED, "/v1/chat/completions", pieces).await.1;
    assert!(!answer.contains("threat") && answer.contains("content_filter"), "{answer}");
    assert!(format!("{calm}This is one ").starts_with(&content(&answer)), "{answer}");
}

/// Tokens scored for a stream of so many words, each an event and a write of its own.
async fn tokens_scored(policy: &str, words: usize) -> f64 {
    let words: Vec<&str> =
        [" word", " upon", " word", " of", " text", " goes", " by."].into_iter().cycle().take(words).collect();
    let stream = chat_stream(&words);
    let pieces = stream.split_inclusive("\n\n").map(|event| event.as_bytes().to_vec()).collect();
    let (running, text) = fetch(policy, "/v1/chat/completions", pieces).await;
    assert_eq!(text, stream);
    running.total("wardline_classifier_batch_tokens_sum")
}

#[tokio::test]
async fn the_work_grows_with_the_answer_and_less_where_windows_may_grow() {
    let small =
        format!("{GUARDED}stream: {{ window_chars: 96, max_window_chars: 96, overlap_chars: 96, hold: 10s }}\n");
    let growing = small.replace("max_window_chars: 96", "max_window_chars: 960");
    let (one, two) = (tokens_scored(&small, 700).await, tokens_scored(&small, 1400).await);
    assert!(two > 1.8 * one && two < 2.2 * one, "{one} {two}");
    let grown = tokens_scored(&growing, 1400).await;
    assert!(grown < 0.8 * two, "{grown} {two}");
}

#[tokio::test]
async fn a_policy_may_have_each_window_judged_with_the_end_of_the_prompt() {
    let ask = async |settings: &str, prompt: &str| {
        let stream = chat_stream(HARMLESS);
        let upstream = Upstream::start(move |_| sse(&[stream.as_bytes()], 0)).await;
        let setup = Setup::with(&format!("{GUARDED}stream: {{ {settings} }}\n"));
        let running = Running::start(setup, upstream.address).await;
        content(&running.client().post("/v1/chat/completions", chat(prompt, true)).await.text())
    };
    let (prompt, all) = ("What is worthless and blue?", HARMLESS.concat());
    assert_eq!(ask("hold: 1s", prompt).await, all, "by default the prompt is not looked at again");
    assert_eq!(ask("prompt_chars: 200", prompt).await, "", "the classifier sees both together");
    assert_eq!(ask("prompt_chars: 10", prompt).await, all, "but no more of the prompt than its end");
    assert_eq!(ask("prompt_chars: 200", "What is wide and blue?").await, all);
}
