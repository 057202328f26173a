//! Streams: the same text however they are cut, and endings that SDKs understand.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::json;

use crate::api::sse::{Frame, Framer};
use crate::api::tests::{MARKER, limits, marked, notice, tree};
use crate::api::{BlockStyle, Call, Channel, Close, Dialect, Event, Lane, Transcript, Usage, render};

const CHAT_TEXT: &[u8] = include_bytes!("../../../tests/fixtures/chat_text.sse");
const CHAT_TOOLS: &[u8] = include_bytes!("../../../tests/fixtures/chat_tools.sse");
const CHAT_N2: &[u8] = include_bytes!("../../../tests/fixtures/chat_n2_logprobs.sse");
const CHAT_REASONING: &[u8] = include_bytes!("../../../tests/fixtures/chat_reasoning_refusal.sse");
const CHAT_ERROR: &[u8] = include_bytes!("../../../tests/fixtures/chat_error.sse");
const TEXT: &[u8] = include_bytes!("../../../tests/fixtures/messages_text.sse");
const TOOLS: &[u8] = include_bytes!("../../../tests/fixtures/messages_thinking_tools.sse");
const SEARCH: &[u8] = include_bytes!("../../../tests/fixtures/messages_search.sse");
const ERROR: &[u8] = include_bytes!("../../../tests/fixtures/messages_error.sse");

const RESPONSES: &[u8] = include_bytes!("../../../tests/fixtures/responses_text.sse");
const RESPONSES_TOOLS: &[u8] = include_bytes!("../../../tests/fixtures/responses_reasoning_tools.sse");
const RESPONSES_SEARCH: &[u8] = include_bytes!("../../../tests/fixtures/responses_search.sse");
const RESPONSES_REFUSAL: &[u8] = include_bytes!("../../../tests/fixtures/responses_refusal_incomplete.sse");
const RESPONSES_ERROR: &[u8] = include_bytes!("../../../tests/fixtures/responses_error.sse");
const RESPONSES_FAILED: &[u8] = include_bytes!("../../../tests/fixtures/responses_failed.sse");
const COMPLETIONS: &[u8] = include_bytes!("../../../tests/fixtures/completions_n2.sse");

const STREAMS: [(Dialect, &[u8]); 16] = [
    (Dialect::OpenAiResponses, RESPONSES),
    (Dialect::OpenAiResponses, RESPONSES_TOOLS),
    (Dialect::OpenAiResponses, RESPONSES_SEARCH),
    (Dialect::OpenAiResponses, RESPONSES_REFUSAL),
    (Dialect::OpenAiResponses, RESPONSES_ERROR),
    (Dialect::OpenAiResponses, RESPONSES_FAILED),
    (Dialect::OpenAiCompletions, COMPLETIONS),
    (Dialect::OpenAiChat, CHAT_TEXT),
    (Dialect::OpenAiChat, CHAT_TOOLS),
    (Dialect::OpenAiChat, CHAT_N2),
    (Dialect::OpenAiChat, CHAT_REASONING),
    (Dialect::OpenAiChat, CHAT_ERROR),
    (Dialect::AnthropicMessages, TEXT),
    (Dialect::AnthropicMessages, TOOLS),
    (Dialect::AnthropicMessages, SEARCH),
    (Dialect::AnthropicMessages, ERROR),
];

fn frames<'a>(reads: impl IntoIterator<Item = &'a [u8]>) -> Vec<Frame> {
    let mut framer = Framer::default();
    let mut all = Vec::new();
    for read in reads {
        framer.push(&Bytes::copy_from_slice(read));
        while let Some(frame) = framer.next_frame().unwrap() {
            all.push(frame);
        }
    }
    all.extend(framer.finish().unwrap());
    all
}

fn events(dialect: Dialect, stream: &[u8]) -> Vec<Event> {
    frames([stream]).into_iter().map(|frame| Event::read(dialect, frame, &limits()).unwrap()).collect()
}

fn lanes(events: &[Event]) -> BTreeMap<Lane, String> {
    let mut lanes: BTreeMap<Lane, String> = BTreeMap::new();
    for delta in events.iter().flat_map(|event| &event.deltas) {
        lanes.entry(delta.lane).or_default().push_str(&delta.text);
    }
    lanes
}

fn lane(choice: u32, channel: Channel) -> Lane {
    Lane::of(choice, channel)
}

#[test]
fn every_cut_gives_the_same_frames_and_bytes() {
    for (_, stream) in STREAMS {
        let whole = frames([stream]);
        let joined: Vec<u8> = whole.iter().flat_map(|frame| frame.raw.to_vec()).collect();
        assert_eq!(joined, stream);
        for at in 0..stream.len() {
            assert_eq!(frames([&stream[..at], &stream[at..]]), whole);
        }
    }
}

#[test]
fn chat_lanes() {
    let text = events(Dialect::OpenAiChat, CHAT_TEXT);
    let content = "The café opens at nine.\n Write to ana@example.org \u{1f600}.";
    assert_eq!(lanes(&text), BTreeMap::from([(lane(0, Channel::Content), content.to_owned())]));
    let finish: Vec<_> =
        text.iter().flat_map(|event| &event.finish).map(|finish| (finish.choice, finish.reason.as_str())).collect();
    assert_eq!(finish, [(0, "stop")]);
    assert_eq!(text[text.len() - 2].usage, Some(Usage { input: 19, output: 11 }));
    assert!(text.last().unwrap().terminal && !text.last().unwrap().error);

    let tools = lanes(&events(Dialect::OpenAiChat, CHAT_TOOLS));
    assert_eq!(
        tools,
        BTreeMap::from([
            (lane(0, Channel::ToolArgs(0)), "get_weather{\"city\":\"Paris \\\"X\\\"\"}".to_owned()),
            (lane(0, Channel::ToolArgs(1)), "send_mail{\"to\":\"ana@example.org\"}".to_owned()),
        ])
    );

    let two = events(Dialect::OpenAiChat, CHAT_N2);
    assert_eq!(
        lanes(&two),
        BTreeMap::from([
            (lane(0, Channel::Content), "Red sec apple".to_owned()),
            (lane(1, Channel::Content), " one ret two".to_owned()),
        ])
    );
    let closes: Vec<_> = two.iter().flat_map(|event| event.closes.clone()).collect();
    assert_eq!(closes, [Close::Choice(1), Close::Choice(0), Close::All]);

    assert_eq!(
        lanes(&events(Dialect::OpenAiChat, CHAT_REASONING)),
        BTreeMap::from([
            (lane(0, Channel::Reasoning), "Let me think.".to_owned()),
            (lane(0, Channel::Refusal), "I'm sorry, no.".to_owned()),
        ])
    );
    let failed = events(Dialect::OpenAiChat, CHAT_ERROR);
    let last = failed.last().unwrap();
    assert!(last.error && last.terminal);
    assert!(last.deltas.iter().any(|delta| delta.text == "The server had an error."), "an error's text is judged too");
}

#[test]
fn anthropic_lanes() {
    let text = events(Dialect::AnthropicMessages, TEXT);
    let content = "The café opens at nine. Write to ana@example.org \u{1f600}.";
    assert_eq!(lanes(&text), BTreeMap::from([(lane(0, Channel::Content), content.to_owned())]));
    let closes: Vec<_> = text.iter().flat_map(|event| event.closes.clone()).collect();
    assert_eq!(closes, [Close::Choice(0), Close::Choice(0), Close::All]);
    assert_eq!(text[0].usage, Some(Usage { input: 35, output: 1 }));
    assert_eq!(text.iter().flat_map(|event| &event.finish).next().unwrap().reason, "end_turn");

    assert_eq!(
        lanes(&events(Dialect::AnthropicMessages, TOOLS)),
        BTreeMap::from([
            (lane(0, Channel::Reasoning), "I should look it up.".to_owned()),
            (lane(0, Channel::Content), "One moment.".to_owned()),
            (lane(0, Channel::ToolArgs(2)), "get_weather{\"city\": \"Paris\"}".to_owned()),
        ])
    );
    let search = lanes(&events(Dialect::AnthropicMessages, SEARCH));
    assert_eq!(search[&lane(0, Channel::Content)], "From nine.");
    assert!(search[&lane(0, Channel::Other)].contains("Open from nine"));
    let failed = events(Dialect::AnthropicMessages, ERROR);
    assert!(failed.last().unwrap().error && failed.last().unwrap().terminal);
}

#[test]
fn a_marker_at_any_string_of_any_event_is_seen_or_the_event_refused() {
    for (dialect, stream) in STREAMS {
        for frame in frames([stream]) {
            let Some(data) = frame.data.clone().filter(|data| data.starts_with(b"{")) else { continue };
            for (old, data) in marked(&data, MARKER) {
                let raw = Bytes::from([b"data: ", &data[..], b"\n\n"].concat());
                let frame = frames([&raw[..]]).remove(0);
                if let Ok(event) = Event::read(dialect, frame, &limits()) {
                    let seen = event.deltas.iter().any(|delta| delta.text.contains(MARKER));
                    assert!(seen || old == "alt" || event.finish.iter().any(|finish| finish.reason == MARKER), "{old}");
                }
            }
        }
    }
}

#[test]
fn what_is_beside_the_data_is_judged_and_can_go() {
    let raw: &[u8] = b": whisper words\nid: 7\nevent: psst\ndata: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n";
    let event = events(Dialect::OpenAiChat, raw).remove(0);
    assert_eq!(event.deltas[0].text, "psst\nwhisper words\n7");
    let clean = event.rewrite(&[(0, String::new())]);
    assert_eq!(clean, "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n");
    let comment = events(Dialect::OpenAiChat, b": whisper words\n\n").remove(0);
    assert_eq!(comment.rewrite(&[(0, String::new())]), ":\n\n");
}

#[test]
fn an_event_under_another_name_is_not_trusted() {
    let raw: &[u8] = b"event: content_block_delta\ndata: {\"type\":\"message_stop\",\"delta\":{\"text\":\"hi\"}}\n\n";
    let event = events(Dialect::AnthropicMessages, raw).remove(0);
    assert!(!event.terminal && event.closes.is_empty());
    assert_eq!(event.deltas[0].lane.channel, Channel::Other);
}

#[test]
fn data_that_is_no_json_stops_the_stream() {
    for data in ["[DONE] more", "hello", "{\"a\":", "\u{feff}{}"] {
        let raw = format!("data: {data}\n\n");
        let frame = frames([raw.as_bytes()]).remove(0);
        assert!(Event::read(Dialect::OpenAiChat, frame, &limits()).is_err(), "{data}");
    }
}

#[test]
fn rewriting_changes_the_text_and_its_copies_only() {
    for (dialect, stream) in STREAMS {
        for event in events(dialect, stream) {
            assert_eq!(event.rewrite(&[]), event.raw);
            for at in 0..event.deltas.len() {
                let new = "new \"words\"\n";
                let again = frames([&event.rewrite(&[(at, new.to_owned())])[..]]).remove(0);
                // With the text go the annotations of its places.
                if event.root().is_none() || event.raw.windows(12).any(|at| at == b"url_citation") {
                    continue;
                }
                let again = Event::read(dialect, again, &limits()).unwrap();
                let texts = |event: &Event| event.deltas.iter().map(|delta| delta.text.clone()).collect::<Vec<_>>();
                let mut expected = texts(&event);
                new.clone_into(&mut expected[at]);
                assert_eq!(texts(&again), expected);
                assert_eq!(
                    (again.finish, again.terminal, again.usage),
                    (event.finish.clone(), event.terminal, event.usage)
                );
            }
        }
    }
    let event = events(Dialect::OpenAiChat, CHAT_N2).remove(2);
    let out = event.rewrite(&[(0, "Blue".to_owned())]);
    let body = tree(&out["data: ".len()..]);
    assert_eq!(body["choices"][0]["logprobs"], json!(null));
    let padded = events(Dialect::OpenAiChat, CHAT_TEXT).remove(1);
    let out = padded.rewrite(&[(0, "A".to_owned())]);
    let expected =
        String::from_utf8_lossy(&padded.raw).replace("\"The\"", "\"A\"").replace(",\"obfuscation\":\"aZ9\"", "");
    assert_eq!(out, expected);
}

/// What the SDKs' accumulators demand of a chat stream; gives the finish reasons by choice.
fn check_chat(stream: &[u8], choices: u32) -> BTreeMap<u64, String> {
    let mut finished = BTreeMap::new();
    let mut begun = BTreeSet::new();
    let frames = frames([stream]);
    assert_eq!(frames.last().unwrap().data.as_deref(), Some(&b"[DONE]"[..]));
    for frame in &frames[..frames.len() - 1] {
        let Some(data) = &frame.data else { continue };
        let chunk = tree(data);
        assert!(chunk["id"].is_string() && chunk["model"].is_string() && chunk["created"].is_u64());
        assert_eq!(chunk["object"], "chat.completion.chunk");
        for choice in chunk["choices"].as_array().expect("every chunk has choices") {
            let index = choice["index"].as_u64().unwrap();
            assert!(!finished.contains_key(&index), "nothing after a finish");
            if begun.insert(index) {
                assert_eq!(choice["delta"]["role"], "assistant");
            }
            assert!(choice["delta"].is_object());
            if let Some(reason) = choice["finish_reason"].as_str() {
                finished.insert(index, reason.to_owned());
            }
        }
    }
    assert_eq!(finished.len(), choices as usize);
    finished
}

/// What the SDKs' accumulators demand of a message stream; gives the `stop_reason`.
fn check_messages(stream: &[u8]) -> String {
    let (mut started, mut open, mut next, mut reason, mut stopped) = (false, None, 0, None, false);
    for frame in frames([stream]) {
        let event = tree(&frame.data.unwrap());
        assert_eq!(event["type"].as_str(), frame.event.as_deref());
        assert!(!stopped, "nothing after message_stop");
        match event["type"].as_str().unwrap() {
            "message_start" => assert!(!std::mem::replace(&mut started, true)),
            "content_block_start" => {
                assert!(started && open.is_none());
                assert_eq!(event["index"], next);
                open = Some(next);
                next += 1;
            }
            "content_block_delta" => assert_eq!(event["index"].as_u64(), open),
            "content_block_stop" => assert_eq!(event["index"].as_u64(), open.take()),
            "message_delta" => {
                assert!(open.is_none());
                reason = event["delta"]["stop_reason"].as_str().map(str::to_owned);
                assert!(event["usage"]["output_tokens"].is_u64());
            }
            "message_stop" => stopped = true,
            other => assert_eq!(other, "ping"),
        }
    }
    assert!(started && stopped);
    reason.unwrap()
}

/// What the SDKs' accumulators demand of a Responses stream, and that all repeats of a text agree; gives status and the
/// reason of an incomplete one.
fn check_responses(stream: &[u8]) -> (String, String) {
    let mut items: Vec<serde_json::Value> = Vec::new();
    let mut texts: BTreeMap<(u64, u64), String> = BTreeMap::new();
    let mut end = None;
    for (number, frame) in frames([stream]).into_iter().enumerate() {
        let event = tree(&frame.data.unwrap());
        let kind = event["type"].as_str().unwrap();
        assert_eq!((frame.event.as_deref(), &event["sequence_number"]), (Some(kind), &json!(number)), "{event}");
        assert!(end.is_none(), "nothing after the end");
        assert_eq!(number == 0, kind == "response.created");
        let item = event["output_index"].as_u64().unwrap_or(0);
        let at = (item, event["content_index"].as_u64().unwrap_or(0));
        match kind {
            "response.output_item.added" => {
                assert_eq!(item, items.len() as u64);
                items.push(event["item"].clone());
            }
            "response.output_item.done" => {
                let at = usize::try_from(item).unwrap();
                assert_eq!(event["item"]["id"], items[at]["id"]);
                items[at] = event["item"].clone();
            }
            "response.content_part.added" => {
                assert_eq!(event["item_id"], items[usize::try_from(item).unwrap()]["id"]);
                assert!(texts.insert(at, String::new()).is_none());
            }
            "response.output_text.delta" | "response.refusal.delta" => {
                texts.get_mut(&at).expect("a part was added").push_str(event["delta"].as_str().unwrap());
            }
            "response.output_text.done" => assert_eq!(event["text"], texts[&at]),
            "response.refusal.done" => assert_eq!(event["refusal"], texts[&at]),
            "response.content_part.done" => {
                let part = &event["part"];
                assert_eq!(part.get("text").unwrap_or(&part["refusal"]), &texts[&at]);
            }
            "response.completed" | "response.incomplete" => end = Some(event["response"].clone()),
            _ => {}
        }
    }
    let response = end.expect("an end");
    assert_eq!(response["output"], json!(items), "the end repeats the items as they were done");
    for (item, content) in items.iter().enumerate().filter_map(|(at, item)| Some((at, item["content"].as_array()?))) {
        for (part, said) in content.iter().enumerate() {
            assert_eq!(said.get("text").unwrap_or(&said["refusal"]), &texts[&(item as u64, part as u64)]);
        }
    }
    let status = response["status"].as_str().unwrap().to_owned();
    (status, response["incomplete_details"]["reason"].as_str().unwrap_or_default().to_owned())
}

/// The finish reasons of a stream of legacy Completions.
fn check_completions(stream: &[u8]) -> Vec<String> {
    let mut finished = BTreeMap::new();
    let frames = frames([stream]);
    assert_eq!(frames.last().unwrap().data.as_deref(), Some(&b"[DONE]"[..]));
    for frame in &frames[..frames.len() - 1] {
        let chunk = tree(frame.data.as_ref().unwrap());
        assert_eq!(chunk["object"], "text_completion");
        for choice in chunk["choices"].as_array().unwrap() {
            assert!(choice["text"].is_string() && !finished.contains_key(&choice["index"].as_u64().unwrap()));
            if let Some(reason) = choice["finish_reason"].as_str() {
                finished.insert(choice["index"].as_u64().unwrap(), reason.to_owned());
            }
        }
    }
    assert!(!finished.is_empty());
    finished.into_values().collect()
}

#[test]
fn responses_lanes() {
    let at = |item, part, channel| Lane { choice: 0, item, part, channel };
    let fresh = |stream| {
        let mut lanes: BTreeMap<Lane, String> = BTreeMap::new();
        for delta in events(Dialect::OpenAiResponses, stream).iter().flat_map(|event| event.deltas.clone()) {
            if !delta.copy && delta.lane.channel != Channel::Other {
                lanes.entry(delta.lane).or_default().push_str(&delta.text);
            }
        }
        lanes
    };
    let content = "The café opens at nine.\n Write to ana@example.org \u{1f600}.";
    assert_eq!(fresh(RESPONSES), BTreeMap::from([(at(0, 0, Channel::Content), content.to_owned())]));
    let text = events(Dialect::OpenAiResponses, RESPONSES);
    let copies = text.iter().flat_map(|event| &event.deltas).filter(|delta| delta.copy && delta.text == content);
    assert_eq!(copies.count(), 4);
    let last = text.last().unwrap();
    assert!(last.terminal && !last.error && last.closes == [Close::All]);
    assert_eq!(last.usage, Some(Usage { input: 19, output: 11 }));
    assert_eq!(
        fresh(RESPONSES_TOOLS),
        BTreeMap::from([
            (at(0, 0, Channel::Summary), "I should look it up.".to_owned()),
            (at(1, 0, Channel::ToolArgs(0)), "{\"city\": \"Paris \\\"X\\\"\"}".to_owned()),
            (at(2, 0, Channel::ToolArgs(0)), "{\"to\":\"ana@example.org\"}".to_owned()),
        ])
    );
    assert_eq!(fresh(RESPONSES_REFUSAL)[&at(0, 0, Channel::Refusal)], "I'm sorry, no.");
    for failed in [RESPONSES_ERROR, RESPONSES_FAILED] {
        let failed = events(Dialect::OpenAiResponses, failed);
        let last = failed.last().unwrap();
        assert!(last.error && last.terminal && last.finish.is_empty());
        assert!(last.deltas.iter().any(|delta| delta.text == "The server had an error."));
    }
    let strange: &[u8] = b"event: response.new_thing.delta\ndata: {\"type\":\"response.new_thing.delta\",\"output_index\":3,\"delta\":\"psst\"}\n\n";
    let strange = events(Dialect::OpenAiResponses, strange).remove(0);
    let held = strange.deltas.iter().find(|delta| delta.text == "psst").unwrap();
    assert_eq!(held.lane, at(3, 0, Channel::ToolArgs(1)), "held until the item is done");
    let image: &[u8] =
        b"data: {\"type\":\"response.image_generation_call.partial_image\",\"partial_image_b64\":\"AAAA\"}\n\n";
    assert!(Event::read(Dialect::OpenAiResponses, frames([image]).remove(0), &limits()).is_err());
    let image: &[u8] = b"event: psst\ndata: {\"type\":\"response.created\",\"response\":{\"image_url\":\"x\"}}\n\n";
    assert!(Event::read(Dialect::OpenAiResponses, frames([image]).remove(0), &limits()).is_err(), "under any name");
    let renamed: &[u8] =
        b"event: response.created\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\"}}\n\n";
    assert!(!events(Dialect::OpenAiResponses, renamed)[0].terminal, "two names, trusted neither way");
}

#[test]
fn annotations_of_edited_text_are_left_out_and_numbers_close_up() {
    let events = events(Dialect::OpenAiResponses, RESPONSES_SEARCH);
    let mut transcript = Transcript::new(Dialect::OpenAiResponses, false);
    let mut out = Vec::new();
    for event in &events {
        transcript.seen(event);
        let changes: Vec<(usize, String)> = event
            .deltas
            .iter()
            .enumerate()
            .filter(|(_, delta)| delta.text.contains("ana@example.org"))
            .map(|(at, delta)| (at, delta.text.replace("ana@example.org", "[EMAIL_ADDRESS]")))
            .collect();
        out.extend_from_slice(&transcript.release(event, &changes, None));
    }
    let text = String::from_utf8(out.clone()).unwrap();
    assert!(!text.contains("annotation.added") && !text.contains("url_citation") && !text.contains("ana@"), "{text}");
    assert_eq!(frames([&out[..]]).len(), events.len() - 1);
    assert_eq!(check_responses(&out).0, "completed");
    assert!(transcript.block_tail(&notice(), BlockStyle::ContentFilter).is_empty(), "it has ended");
}

#[test]
fn the_tail_of_a_response_carries_what_was_released_only() {
    let events = events(Dialect::OpenAiResponses, RESPONSES);
    let mut transcript = Transcript::new(Dialect::OpenAiResponses, false);
    for event in &events {
        transcript.seen(event);
    }
    let mut out = Vec::new();
    for event in &events[..6] {
        let changes = event.deltas.iter().position(|delta| delta.text == " café").map(|at| (at, " [PLACE]".to_owned()));
        out.extend_from_slice(&transcript.release(event, &changes.into_iter().collect::<Vec<_>>(), None));
    }
    let quiet = crate::api::Notice { annotate: false, ..notice() };
    out.extend_from_slice(&transcript.block_tail(&quiet, BlockStyle::ContentFilter));
    check_responses(&out);
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.matches("The [PLACE]\"").count(), 4, "{text}");
    assert!(
        !text.contains("café") && !text.contains("opens") && !text.contains("guardrail") && !text.contains("refusal")
    );
    let last = tree(frames([text.as_bytes()]).last().unwrap().data.as_ref().unwrap());
    assert_eq!(last["response"]["output"][0]["status"], "incomplete");
    assert_eq!(last["response"]["instructions"], "Answer briefly.", "the frame stays the upstream's");
}

#[test]
fn a_stream_can_be_blocked_after_any_event() {
    for (dialect, stream) in STREAMS {
        let events = events(dialect, stream);
        for style in [BlockStyle::ContentFilter, BlockStyle::Refusal] {
            for (seen, sent) in (0..events.len()).flat_map(|seen| [(seen, 0), (seen, seen / 2), (seen, seen)]) {
                if events[..sent].iter().any(|event| event.terminal) {
                    continue;
                }
                let mut transcript = Transcript::new(dialect, false);
                let mut out = Vec::new();
                events[..seen].iter().for_each(|event| transcript.seen(event));
                for event in &events[..sent] {
                    out.extend_from_slice(&transcript.release(event, &[], None));
                }
                let tail = transcript.block_tail(&notice(), style);
                out.extend_from_slice(&tail);
                let ended = events[..sent].iter().any(|event| !event.finish.is_empty());
                match dialect {
                    Dialect::OpenAiResponses => {
                        let (status, reason) = check_responses(&out);
                        let expected = if style == BlockStyle::Refusal {
                            ("completed", "")
                        } else {
                            ("incomplete", "content_filter")
                        };
                        assert_eq!((status.as_str(), reason.as_str()), expected);
                    }
                    Dialect::OpenAiCompletions => {
                        let reasons = check_completions(&out);
                        let expected = if style == BlockStyle::Refusal { "stop" } else { "content_filter" };
                        assert!(ended || reasons.iter().all(|reason| reason == expected));
                    }
                    Dialect::OpenAiChat => {
                        let known = events[..seen].iter().filter_map(Event::root).flat_map(|root| {
                            root.get("choices").into_iter().flat_map(|all| {
                                all.items().filter_map(|choice| choice.get("index")?.as_u64()).collect::<Vec<_>>()
                            })
                        });
                        let choices = known.max().unwrap_or(0) + 1;
                        let reasons = check_chat(&out, u32::try_from(choices).unwrap());
                        let expected = if style == BlockStyle::Refusal { "stop" } else { "content_filter" };
                        assert!(ended || reasons.values().all(|reason| reason == expected));
                    }
                    _ => {
                        let reason = check_messages(&out);
                        let expected = if style == BlockStyle::Refusal { "end_turn" } else { "refusal" };
                        assert!(ended || reason == expected);
                    }
                }
                let annotations = String::from_utf8_lossy(&tail).matches("\"guardrail\"").count();
                assert!(ended || annotations >= 1);
            }
        }
    }
}

#[test]
fn the_tail_of_a_chat_stream() {
    let events = events(Dialect::OpenAiChat, CHAT_TEXT);
    let mut transcript = Transcript::new(Dialect::OpenAiChat, true);
    for event in &events[..3] {
        transcript.seen(event);
        assert_eq!(transcript.release(event, &[], None), event.raw);
    }
    let quiet = crate::api::Notice { annotate: false, ..notice() };
    let tail = transcript.block_tail(&quiet, BlockStyle::ContentFilter);
    assert_eq!(
        tail,
        "data: {\"id\":\"chatcmpl-Ax1\",\"object\":\"chat.completion.chunk\",\"created\":1794500000,\
         \"model\":\"gpt-4o-mini-2024-07-18\",\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,\
         \"finish_reason\":\"content_filter\"}],\"usage\":null}\n\ndata: [DONE]\n\n"
    );
    for event in &events {
        transcript.seen(event);
    }
    let tail = transcript.block_tail(&quiet, BlockStyle::ContentFilter);
    assert!(String::from_utf8_lossy(&tail).contains("\"choices\":[],\"usage\":{\"prompt_tokens\":19"));
    for event in &events {
        assert_eq!(transcript.release(event, &[], None), event.raw);
    }
    assert!(transcript.block_tail(&quiet, BlockStyle::ContentFilter).is_empty());
}

#[test]
fn refusals_as_streams() {
    let body =
        json!({"model": "m", "n": 3, "stream": true, "messages": [{"role": "user", "content": "x"}]}).to_string();
    let call = Call::read(Dialect::OpenAiChat, Bytes::from(body), &limits()).unwrap();
    let stream = render::refusal_stream(&call, &notice());
    assert_eq!(check_chat(&stream, 3)[&2], "stop");
    assert_eq!(lanes(&events(Dialect::OpenAiChat, &stream))[&lane(2, Channel::Refusal)], notice().message);

    let body = json!({"model": "m", "stream": true, "input": "x"}).to_string();
    let call = Call::read(Dialect::OpenAiResponses, Bytes::from(body), &limits()).unwrap();
    assert_eq!(check_responses(&render::refusal_stream(&call, &notice())).0, "completed");
    let body = json!({"model": "m", "stream": true, "n": 3, "prompt": "x"}).to_string();
    let call = Call::read(Dialect::OpenAiCompletions, Bytes::from(body), &limits()).unwrap();
    assert_eq!(check_completions(&render::refusal_stream(&call, &notice())), ["stop"; 3]);

    let body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "x"}]}).to_string();
    let call = Call::read(Dialect::AnthropicMessages, Bytes::from(body), &limits()).unwrap();
    let stream = render::refusal_stream(&call, &notice());
    assert_eq!(check_messages(&stream), "end_turn");
    assert_eq!(lanes(&events(Dialect::AnthropicMessages, &stream))[&lane(0, Channel::Content)], notice().message);
}

#[test]
fn failures_and_heartbeats_are_no_success() {
    for dialect in Dialect::ANSWERED {
        let transcript = Transcript::new(dialect, false);
        let failed = events(dialect, &transcript.error_tail("guardrail_unavailable", "Cannot judge.", "req_1"));
        assert!(failed.len() == 1 && failed[0].error && failed[0].terminal && failed[0].finish.is_empty());
        let beat = events(dialect, transcript.heartbeat()).remove(0);
        assert!(beat.deltas.is_empty() && beat.closes.is_empty() && !beat.terminal);
    }
}
