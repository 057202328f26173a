//! Recorded streams whose text is divided anew: one token an event, and in two at each token in turn. The same text comes
//! out, with the same verdict, and a phrase that may not be read is on the client's wire in no division.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde_json::{Value, json};
use wardline::api::{Channel, Dialect, Lane};

use crate::support::streams::{asked, frames, said};
use crate::support::{Running, Setup, Upstream, sse};

/// An event of a recorded stream: its name and data, and where in the data a piece of text stands, if it does nothing but
/// bring that.
#[derive(Clone, Debug)]
struct Piece {
    name: Option<String>,
    data: Option<Value>,
    raw: Bytes,
    text: Option<String>,
}

/// Every stream in `tests/fixtures` and below.
fn recorded() -> Vec<(String, Dialect, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut found = Vec::new();
    for folder in [folder.clone(), folder.join("sdk")] {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let dialect = match name.split('_').next().unwrap() {
                "chat" => Dialect::OpenAiChat,
                "responses" => Dialect::OpenAiResponses,
                "completions" => Dialect::OpenAiCompletions,
                _ => Dialect::AnthropicMessages,
            };
            if path.extension().is_some_and(|extension| extension == "sse") {
                found.push((name, dialect, fs::read(path).unwrap()));
            }
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    assert!(found.len() >= 16, "{} streams", found.len());
    found
}

fn pieces(dialect: Dialect, stream: &[u8]) -> Vec<Piece> {
    let piece = |frame: wardline::api::sse::Frame| {
        let data: Option<Value> = frame.data.as_ref().and_then(|data| serde_json::from_slice(data).ok());
        let text = data.as_ref().and_then(|data| Some(data.pointer(&place(dialect, data)?)?.as_str()?.to_owned()));
        Piece { name: frame.event, data, raw: frame.raw, text }
    };
    frames(stream).into_iter().map(piece).collect()
}

/// Where an event's text stands, if it brings one text and nothing else that happens.
fn place(dialect: Dialect, data: &Value) -> Option<String> {
    let candidates: Vec<String> = match dialect {
        Dialect::AnthropicMessages => {
            ["text", "thinking", "partial_json"].map(|key| format!("/delta/{key}")).into_iter().collect()
        }
        Dialect::OpenAiResponses => vec!["/delta".to_owned()],
        Dialect::OpenAiCompletions => vec!["/choices/0/text".to_owned()],
        _ => ["content", "refusal", "reasoning_content", "tool_calls/0/function/arguments"]
            .map(|key| format!("/choices/0/delta/{key}"))
            .into_iter()
            .collect(),
    };
    let held = |at: &String| data.pointer(at).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    let mut places = candidates.into_iter().filter(held);
    let (first, none) = (places.next()?, places.next().is_none());
    let ends = data.pointer("/choices/0/finish_reason").is_some_and(|reason| !reason.is_null());
    let begins =
        data.pointer("/choices/0/delta/role").is_some() || data.pointer("/choices/0/delta/tool_calls/0/id").is_some();
    (none && !ends && !begins).then_some(first)
}

/// The same event with another text, and without what tells of single tokens of the old one.
fn with(dialect: Dialect, piece: &Piece, text: &str) -> Piece {
    let mut data = piece.data.clone().unwrap();
    let place = place(dialect, &data).unwrap();
    *data.pointer_mut(&place).unwrap() = json!(text);
    for at in ["/choices/0/logprobs", "/logprobs"] {
        if let Some(told) = data.pointer_mut(at) {
            *told = if told.is_array() { json!([]) } else { Value::Null };
        }
    }
    if let Some(members) = data.as_object_mut() {
        members.remove("obfuscation");
    }
    Piece { data: Some(data), raw: Bytes::new(), text: Some(text.to_owned()), ..piece.clone() }
}

/// Whether two events say the same but for their texts and numbers.
fn alike(dialect: Dialect, one: &Piece, other: &Piece) -> bool {
    let bare = |piece: &Piece| {
        let mut data = with(dialect, piece, "").data.unwrap();
        data.as_object_mut().unwrap().remove("sequence_number");
        data
    };
    one.text.is_some() && other.text.is_some() && bare(one) == bare(other)
}

/// Events that go on with the same text become one.
fn merged(dialect: Dialect, pieces: Vec<Piece>) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::new();
    for piece in pieces {
        match out.last_mut().filter(|last| alike(dialect, last, &piece)) {
            Some(last) => *last = with(dialect, last, &(last.text.clone().unwrap() + piece.text.as_deref().unwrap())),
            None if piece.text.is_some() => out.push(with(dialect, &piece, piece.text.as_deref().unwrap())),
            None => out.push(piece),
        }
    }
    out
}

/// About as a model's vocabulary cuts: before blanks, and long words into pieces.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    for c in text.chars() {
        match tokens.last_mut() {
            Some(token) if !c.is_whitespace() && token.chars().count() < 4 => token.push(c),
            _ => tokens.push(c.to_string()),
        }
    }
    tokens
}

/// The stream with each text in two at one token, in turn, and at last with one token an event.
fn divisions(dialect: Dialect, stream: &[u8]) -> Vec<Vec<u8>> {
    let merged = merged(dialect, pieces(dialect, stream));
    let mut all = vec![written(&merged)];
    for (at, piece) in merged.iter().enumerate() {
        let Some(text) = &piece.text else { continue };
        let tokens = tokens(text);
        for cut in 1..tokens.len() {
            let mut divided = merged.clone();
            let halves = [tokens[..cut].concat(), tokens[cut..].concat()];
            divided.splice(at..=at, halves.map(|half| with(dialect, piece, &half)));
            all.push(written(&divided));
        }
    }
    let single = |piece: &Piece| match &piece.text {
        Some(text) => tokens(text).iter().map(|token| with(dialect, piece, token)).collect(),
        None => vec![piece.clone()],
    };
    all.push(written(&merged.iter().flat_map(single).collect::<Vec<_>>()));
    all
}

/// As bytes; events that are numbered are numbered anew.
fn written(pieces: &[Piece]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut number = 0;
    for piece in pieces {
        let Some(mut data) = piece.data.clone() else {
            out.extend_from_slice(&piece.raw);
            continue;
        };
        let numbered = data.get("sequence_number").is_some();
        if numbered {
            data["sequence_number"] = json!(number);
            number += 1;
        } else if !piece.raw.is_empty() {
            out.extend_from_slice(&piece.raw);
            continue;
        }
        let name = piece.name.as_ref().map_or(String::new(), |name| format!("event: {name}\n"));
        out.extend_from_slice(format!("{name}data: {data}\n\n").as_bytes());
    }
    out
}

/// A phrase of some words in the middle of the longest text that may be edited.
fn phrase(heard: &BTreeMap<Lane, String>) -> Option<String> {
    let readable = |lane: &Lane| matches!(lane.channel, Channel::Content | Channel::Refusal | Channel::ToolArgs(_));
    let longest = heard.iter().filter(|(lane, _)| readable(lane)).max_by_key(|(_, text)| text.len())?.1;
    let plain = longest.split(|c: char| !c.is_ascii_alphanumeric() && c != ' ').max_by_key(|run| run.len())?;
    let plain = plain.trim();
    (plain.len() >= 6).then(|| plain[1..plain.len() - 1].trim().to_owned())
}

fn policy(phrase: &str, action: &str) -> String {
    format!(
        "rules:\n  - {{ id: said, guard: {{ patterns: [{{ id: gone, regex: '{phrase}' }}] }}, stages: [output], action: {action} }}\n"
    )
}

/// Plays each division in turn to a gateway under a policy.
async fn play(policy: &str, dialect: Dialect, divisions: &[Vec<u8>], check: impl Fn(&[u8], &[u8])) {
    let played = Arc::new(Mutex::new(Vec::new()));
    let next = Arc::clone(&played);
    let upstream = Upstream::start(move |_| sse(&[next.lock().unwrap().as_slice()], 0)).await;
    let running = Running::start(Setup::with(policy), upstream.address).await;
    let client = running.client();
    for division in divisions {
        played.lock().unwrap().clone_from(division);
        let reply = client.post(dialect.path(), asked(dialect, false)).await;
        assert_eq!(reply.status, 200);
        check(division, &reply.body);
    }
}

#[tokio::test]
async fn no_division_of_a_recorded_stream_changes_what_is_said() {
    let mut seen = 0;
    for (name, dialect, stream) in recorded() {
        let divisions = divisions(dialect, &stream);
        let original = said(dialect, &stream);
        for division in &divisions {
            assert_eq!(said(dialect, division), original, "{name}: the division itself");
        }
        play(&policy("never said anywhere", "block"), dialect, &divisions, |division, got| {
            assert_eq!(got, division, "{name}: {}", String::from_utf8_lossy(got));
        })
        .await;
        let Some(phrase) = phrase(&original) else { continue };
        seen += 1;
        let expected: BTreeMap<Lane, String> =
            original.iter().map(|(lane, text)| (*lane, text.replace(&phrase, "[gone]"))).collect();
        assert_ne!(expected, original);
        play(&policy(&phrase, "redact"), dialect, &divisions, |_, got| {
            let text = String::from_utf8_lossy(got);
            let mut heard = said(dialect, got);
            // What is told of it at the end is no part of what was said.
            heard.retain(|lane, _| lane.channel != Channel::Other);
            let expected = expected.iter().filter(|(lane, _)| lane.channel != Channel::Other);
            assert_eq!(
                heard,
                expected.map(|(lane, text)| (*lane, text.clone())).collect(),
                "{name} {phrase:?}: {text}"
            );
            assert!(!text.contains(&phrase), "{name}: {text}");
        })
        .await;
        play(&policy(&phrase, "block"), dialect, &divisions, |_, got| {
            let text = String::from_utf8_lossy(got);
            assert!(said(dialect, got).values().all(|said| !said.contains(&phrase)), "{name} {phrase:?}: {text}");
            assert!(!text.contains(&phrase) && text.contains(r#""action":"block""#), "{name} {phrase:?}: {text}");
        })
        .await;
    }
    assert!(seen >= 10, "{seen}");
}
