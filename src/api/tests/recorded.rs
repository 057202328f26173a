//! Every shape that the official SDKs send and understand, as they wrote it (`make sdk-record`): a marker at each string in
//! turn is seen, or what holds it refused.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bytes::Bytes;

use crate::api::sse::Framer;
use crate::api::tests::{MARKER, limits, marked, tree};
use crate::api::{Call, Dialect, Event, Limits, Reply};

/// What stands in the place of media that the operator has let pass: nobody's text.
const MEDIA: [&str; 3] = ["some data", "some file data", "some result"];

fn documents(name: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sdk").join(format!("{name}.jsonl"));
    let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
}

/// How many documents were understood, and how many strings were marked.
#[derive(Debug, Default)]
struct Tally {
    understood: usize,
    marked: usize,
}

fn requests(name: &str, dialect: Dialect, limits: &Limits, missed: &mut BTreeSet<String>) -> Tally {
    let mut tally = Tally::default();
    for document in documents(name) {
        tally.understood += usize::from(Call::read(dialect, Bytes::from(document.clone()), limits).is_ok());
        for (old, body) in marked(&document, MARKER) {
            tally.marked += 1;
            let Ok(call) = Call::read(dialect, body.clone(), limits) else { continue };
            let seen = call.segments().iter().any(|segment| segment.text.contains(MARKER)) || call.model() == MARKER;
            let media = limits.allow_media && MEDIA.contains(&old.as_str());
            if !(seen || media) {
                missed.insert(format!("{name}: {old:?} in {}", String::from_utf8_lossy(&body)));
            }
        }
    }
    tally
}

#[test]
fn no_string_of_a_request_goes_unseen() {
    let mut missed = BTreeSet::new();
    for (name, dialect, understood) in [
        ("chat", Dialect::OpenAiChat, 60),
        ("responses", Dialect::OpenAiResponses, 200),
        ("responses", Dialect::OpenAiTokens, 200),
        ("completions", Dialect::OpenAiCompletions, 10),
        ("embeddings", Dialect::OpenAiEmbeddings, 3),
        ("moderations", Dialect::OpenAiModerations, 3),
        ("messages", Dialect::AnthropicMessages, 300),
        ("tokens", Dialect::AnthropicTokens, 40),
    ] {
        for allow_media in [false, true] {
            let limits = Limits { allow_media, ..limits() };
            let tally = requests(&format!("{name}_requests"), dialect, &limits, &mut missed);
            assert!(tally.understood >= understood, "{name}: {tally:?}: refused as a whole, most show nothing");
        }
    }
    assert!(missed.is_empty(), "{} missed:\n{}", missed.len(), missed.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn no_string_of_an_answer_goes_unseen() {
    let mut missed = BTreeSet::new();
    for (name, dialect) in [
        ("chat_replies", Dialect::OpenAiChat),
        ("responses_replies", Dialect::OpenAiResponses),
        ("completions_replies", Dialect::OpenAiCompletions),
        ("embeddings_replies", Dialect::OpenAiEmbeddings),
        ("models_replies", Dialect::OpenAiModels),
        ("messages_replies", Dialect::AnthropicMessages),
    ] {
        let mut tally = Tally::default();
        for document in documents(name) {
            tally.understood += usize::from(Reply::read(dialect, Bytes::from(document.clone()), &limits()).is_ok());
            for (old, body) in marked(&document, MARKER) {
                tally.marked += 1;
                let Ok(reply) = Reply::read(dialect, body.clone(), &limits()) else { continue };
                if !reply.segments().iter().any(|segment| segment.text.contains(MARKER)) {
                    missed.insert(format!("{name}: {old:?} in {}", String::from_utf8_lossy(&body)));
                }
            }
        }
        assert!(tally.understood > 0 && tally.marked > 5, "{name}: {tally:?}");
    }
    assert!(missed.is_empty(), "{} missed:\n{}", missed.len(), missed.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn no_string_of_an_event_goes_unseen() {
    let mut missed = BTreeSet::new();
    for (name, dialect, named) in [
        ("chat_events", Dialect::OpenAiChat, false),
        ("responses_events", Dialect::OpenAiResponses, true),
        ("completions_events", Dialect::OpenAiCompletions, false),
        ("messages_events", Dialect::AnthropicMessages, true),
    ] {
        let mut tally = Tally::default();
        let read = |data: &[u8], kind: &str| {
            let name = if named { format!("event: {kind}\n") } else { String::new() };
            let mut framer = Framer::default();
            framer.push(&Bytes::from([name.as_bytes(), b"data: ", data, b"\n\n"].concat()));
            Event::read(dialect, framer.next_frame().unwrap().unwrap(), &limits())
        };
        for document in documents(name) {
            let kind = tree(&document)["type"].as_str().unwrap_or_default().to_owned();
            tally.understood += usize::from(read(&document, &kind).is_ok());
            for (old, data) in marked(&document, MARKER) {
                tally.marked += 1;
                let Ok(event) = read(&data, &kind) else { continue };
                let seen = event.deltas.iter().any(|delta| delta.text.contains(MARKER));
                if !seen && !event.finish.iter().any(|finish| finish.reason == MARKER) {
                    missed.insert(format!("{name}: {old:?} in {}", String::from_utf8_lossy(&data)));
                }
            }
        }
        assert!(tally.understood > 0 && tally.marked > 5, "{name}: {tally:?}");
    }
    assert!(missed.is_empty(), "{} missed:\n{}", missed.len(), missed.into_iter().collect::<Vec<_>>().join("\n"));
}
