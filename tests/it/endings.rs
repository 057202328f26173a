//! How a stream ends that a rule has stopped: both settings of `on_output_block`, before the first byte, in mid-stream and
//! in the middle of a tool call, with and without usage, in every dialect. And what is told of one that was only edited.

use std::sync::Arc;

use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::Notify;
use wardline::api::{Channel, Dialect};

use crate::support::streams::{asked, events, played, said};
use crate::support::{GUARDED, Running, Setup, Step, Upstream, sse};

const CALM: [&str; 3] = ["The sea is wide.", " All is", " well."];
const NOTICE: &str = "Not said.";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    BeforeTheFirstByte,
    MidStream,
    MidToolCall,
}

impl Place {
    const ALL: [Self; 3] = [Self::BeforeTheFirstByte, Self::MidStream, Self::MidToolCall];

    fn stream(self, dialect: Dialect, usage: bool) -> String {
        let harm = [" But you", " are wor", "thless", " and so on."];
        match self {
            Self::BeforeTheFirstByte => played(dialect, &["You are wor", "thless."], None, usage),
            Self::MidStream => played(dialect, &[&CALM[..], &harm].concat(), None, usage),
            Self::MidToolCall => played(dialect, &CALM, Some(&["{\"text\":\"you are wor", "thless\"}"]), usage),
        }
    }
}

/// What the client gets. The harm comes once it has read the first sentence, where there is one.
async fn ended(style: &str, dialect: Dialect, place: Place, usage: bool) -> String {
    let stream = place.stream(dialect, usage);
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let upstream = Upstream::start(move |_| {
        let calm = stream.find(CALM[2]).and_then(|at| Some(at + stream[at..].find("\n\n")? + 2)).unwrap_or_default();
        let (calm, harm) = stream.as_bytes().split_at(calm);
        let mut steps = sse(&[calm], 0);
        steps.pop();
        if !calm.is_empty() {
            steps.push(Step::Wait(Arc::clone(&gate)));
        }
        steps.extend(sse(&[harm], 0).into_iter().skip(1));
        steps
    })
    .await;
    let policy = format!("{GUARDED}respond: {{ on_output_block: {style}, message: {NOTICE} }}\n");
    let running = Running::start(Setup::with(&policy), upstream.address).await;
    let mut body = running.client().stream(dialect.path(), asked(dialect, usage)).await.into_body();
    let mut text = String::new();
    while let Some(frame) = body.frame().await {
        text.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
        if text.contains(CALM[0]) {
            go.notify_one();
        }
    }
    text
}

#[tokio::test]
async fn every_blocked_stream_ends_the_native_way() {
    for dialect in Dialect::ANSWERED {
        let counts = matches!(dialect, Dialect::OpenAiChat | Dialect::OpenAiCompletions);
        for place in
            Place::ALL.into_iter().filter(|p| dialect != Dialect::OpenAiCompletions || *p != Place::MidToolCall)
        {
            for (style, usage) in
                [("content_filter", false), ("refusal", false), ("content_filter", true), ("refusal", true)]
            {
                if usage && !counts {
                    continue;
                }
                let text = ended(style, dialect, place, usage).await;
                let what = format!("{dialect:?} {style} {place:?} usage {usage}: {text}");
                assert!(!text.contains("thless") && !text.contains("you are wor"), "{what}");
                assert_eq!(text.matches("\"guardrail\"").count(), 1, "{what}");
                assert_eq!(text.matches("\"harm\"").count(), 1, "{what}");
                let heard = said(dialect, text.as_bytes());
                let content: String = heard
                    .iter()
                    .filter(|(lane, _)| matches!(lane.channel, Channel::Content))
                    .map(|(_, said)| said.as_str())
                    .collect();
                let content = content.strip_suffix(NOTICE).unwrap_or(&content);
                if place == Place::BeforeTheFirstByte {
                    assert_eq!(content, "", "{what}");
                } else {
                    assert!(
                        format!("{} But you", CALM.concat()).starts_with(content) && content.starts_with(CALM[0]),
                        "{what}"
                    );
                }
                assert!(
                    !heard.keys().any(|lane| matches!(lane.channel, Channel::ToolArgs(_))),
                    "no half of a call: {what}"
                );
                check(dialect, style, place, usage, &events(text.as_bytes()), &what);
            }
        }
    }
}

fn check(dialect: Dialect, style: &str, place: Place, usage: bool, events: &[(Option<String>, Value)], what: &str) {
    match dialect {
        Dialect::OpenAiChat | Dialect::OpenAiCompletions => chunks(dialect, style, usage, events, what),
        Dialect::OpenAiResponses => responses(style, place, events, what),
        _ => messages(style, place, events, what),
    }
}

fn chunks(dialect: Dialect, style: &str, usage: bool, events: &[(Option<String>, Value)], what: &str) {
    let (done, chunks) = events.split_last().unwrap();
    assert_eq!(done, &(None, json!("[DONE]")), "{what}");
    let finish = if style == "refusal" { "stop" } else { "content_filter" };
    let mut finished = 0;
    for (name, chunk) in chunks {
        assert!(name.is_none() && chunk["choices"].is_array(), "{what}");
        assert_eq!(chunk.get("usage").is_some(), usage, "{what}");
        assert_eq!(
            (&chunk["id"], &chunk["created"], &chunk["model"]),
            (&json!("c-1"), &json!(1), &json!("m")),
            "{what}"
        );
        let Some(choice) = chunk["choices"].get(0) else {
            assert!(usage && chunk["usage"]["total_tokens"] == 7, "{what}");
            continue;
        };
        assert_eq!(finished, 0, "nothing after the end: {what}");
        if let Some(reason) = choice["finish_reason"].as_str() {
            assert_eq!(reason, finish, "{what}");
            assert_eq!(chunk["guardrail"]["action"], "block", "{what}");
            finished += 1;
        }
    }
    assert_eq!(finished, 1, "{what}");
    let refusals = chunks.iter().filter(|(_, chunk)| chunk["choices"][0]["delta"]["refusal"] == NOTICE).count();
    let begun = chunks.iter().any(|(_, chunk)| chunk["choices"][0]["delta"]["content"] == "");
    let told = dialect == Dialect::OpenAiChat && (style == "refusal" || !begun);
    assert_eq!(refusals, usize::from(told), "{what}");
}

fn messages(style: &str, place: Place, events: &[(Option<String>, Value)], what: &str) {
    let kinds: Vec<&str> = events.iter().map(|(_, event)| event["type"].as_str().unwrap()).collect();
    assert!(events.iter().all(|(name, event)| name.as_deref() == event["type"].as_str()), "{what}");
    assert_eq!(
        (kinds[0], kinds[kinds.len() - 2], kinds[kinds.len() - 1]),
        ("message_start", "message_delta", "message_stop"),
        "{what}"
    );
    let count = |kind: &str| kinds.iter().filter(|found| **found == kind).count();
    assert_eq!(count("content_block_start"), count("content_block_stop"), "{what}");
    let last = &events[events.len() - 2].1;
    let reason = if style == "refusal" { "end_turn" } else { "refusal" };
    assert_eq!(
        (&last["delta"]["stop_reason"], &last["guardrail"]["action"]),
        (&json!(reason), &json!("block")),
        "{what}"
    );
    let details = json!({"type": "refusal", "category": null, "explanation": NOTICE});
    assert_eq!(last["delta"].get("stop_details"), (style != "refusal").then_some(&details), "{what}");
    let told = events.iter().any(|(_, event)| event["delta"]["text"] == NOTICE);
    assert_eq!(told, style == "refusal" || place == Place::BeforeTheFirstByte, "{what}");
}

fn responses(style: &str, place: Place, events: &[(Option<String>, Value)], what: &str) {
    for (number, (name, event)) in events.iter().enumerate() {
        assert_eq!((name.as_deref(), &event["sequence_number"]), (event["type"].as_str(), &json!(number)), "{what}");
    }
    let last = &events.last().unwrap().1;
    let response = &last["response"];
    if style == "refusal" {
        assert_eq!((&last["type"], &response["status"]), (&json!("response.completed"), &json!("completed")), "{what}");
    } else {
        assert_eq!(
            (&last["type"], &response["status"]),
            (&json!("response.incomplete"), &json!("incomplete")),
            "{what}"
        );
        assert_eq!(response["incomplete_details"]["reason"], "content_filter", "{what}");
    }
    assert_eq!(response["guardrail"]["action"], "block", "{what}");
    let parts: Vec<&Value> =
        response["output"].as_array().unwrap().iter().filter_map(|item| item["content"].as_array()).flatten().collect();
    let told = parts.iter().any(|part| part["refusal"] == NOTICE || part["text"] == NOTICE);
    assert_eq!(told, style == "refusal" || place == Place::BeforeTheFirstByte, "{what}");
}

#[tokio::test]
async fn an_edited_stream_tells_so_at_its_end_and_nowhere_else() {
    let words = ["Write to", " jane", ".doe@exa", "mple.com", " today."];
    for dialect in Dialect::ANSWERED {
        for (annotate, words, told) in [
            ("on_action", &words[..], Some("redact")),
            ("none", &words[..], None),
            ("on_action", &CALM[..], None),
            ("always", &CALM[..], None),
        ] {
            let stream = played(dialect, words, None, true);
            let script = stream.clone();
            let upstream = Upstream::start(move |_| sse(&[script.as_bytes()], 0)).await;
            let policy = format!("{GUARDED}respond: {{ annotate: {annotate} }}\n");
            let running = Running::start(Setup::with(&policy), upstream.address).await;
            let reply = running.client().post(dialect.path(), asked(dialect, true)).await;
            let text = reply.text();
            assert!(words == CALM || text.contains("[EMAIL_ADDRESS]"), "{dialect:?}: {text}");
            if words == CALM {
                assert_eq!(text, stream, "with nothing to say: {dialect:?} {annotate}");
            }
            let notes: Vec<Value> = events(text.as_bytes())
                .into_iter()
                .filter(|(_, event)| event.to_string().contains("\"guardrail\""))
                .map(|(_, event)| event)
                .collect();
            assert_eq!(notes.len(), usize::from(told.is_some()), "{dialect:?} {annotate}: {text}");
            let Some(action) = told else { continue };
            let (end, note) = match dialect {
                Dialect::OpenAiResponses => {
                    (notes[0]["type"] == "response.completed", &notes[0]["response"]["guardrail"])
                }
                Dialect::AnthropicMessages => (notes[0]["delta"]["stop_reason"] == "end_turn", &notes[0]["guardrail"]),
                _ => (notes[0]["choices"][0]["finish_reason"] == "stop", &notes[0]["guardrail"]),
            };
            assert!(end, "{dialect:?}: {text}");
            assert_eq!(
                (&note["action"], &note["rules"][0]["id"], &note["version"]),
                (&json!(action), &json!("mail"), &json!(1))
            );
            assert_eq!(
                note["request_id"].as_str(),
                Some(reply.header("x-request-id")).filter(|id| !id.is_empty()).or(Some(reply.header("request-id")))
            );
        }
    }
}

/// Thinking is signed, so that one changed letter makes it worthless to the provider: whole, or not at all.
#[tokio::test]
async fn signed_thinking_is_never_edited() {
    let recorded = include_str!("../fixtures/sdk/messages_cited.sse");
    for (phrase, action) in [("the harbour", "redact"), ("the harbour", "block"), ("nowhere", "redact")] {
        let upstream = Upstream::start(move |_| sse(&[recorded.as_bytes()], 0)).await;
        let policy = format!(
            "rules:\n  - {{ id: r, guard: {{ patterns: [{{ id: gone, regex: '{phrase}' }}] }}, stages: [output], action: {action} }}\n"
        );
        let running = Running::start(Setup::with(&policy), upstream.address).await;
        let text = running.client().post("/v1/messages", asked(Dialect::AnthropicMessages, false)).await.text();
        let thought: String = events(text.as_bytes())
            .iter()
            .filter_map(|(_, event)| event["delta"]["thinking"].as_str().map(str::to_owned))
            .collect();
        let whole = "The visitor asks about the harbour.";
        if phrase == "nowhere" {
            assert_eq!((text.as_str(), thought.as_str()), (recorded, whole));
        } else {
            assert!(whole.starts_with(&thought) && !thought.contains(phrase), "{thought}");
            assert!(!text.contains("[gone]") && text.contains(r#""stop_reason":"refusal""#), "{text}");
            assert!(!text.contains("c2lnbmVk"), "no signature for what is not there: {text}");
        }
    }
}
