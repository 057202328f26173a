//! Requests: nothing unread, nothing changed that was not to be.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use crate::api::json::quoted;
use crate::api::tests::{MARKER, limits, marked, tree};
use crate::api::{Call, Dialect, InjectRole, Limits, Origin, ReadError, Stored};

const CHAT: &[u8] = include_bytes!("../../../tests/fixtures/chat_request.json");
const MESSAGES: &[u8] = include_bytes!("../../../tests/fixtures/messages_request.json");
const RESPONSES: &[u8] = include_bytes!("../../../tests/fixtures/responses_request.json");
const COMPLETIONS: &[u8] = include_bytes!("../../../tests/fixtures/completions_request.json");
const EMBEDDINGS: &[u8] = include_bytes!("../../../tests/fixtures/embeddings_request.json");
const MODERATIONS: &[u8] = include_bytes!("../../../tests/fixtures/moderations_request.json");
const EVERY: [(Dialect, &[u8]); 8] = [
    (Dialect::OpenAiChat, CHAT),
    (Dialect::OpenAiResponses, RESPONSES),
    (Dialect::OpenAiTokens, RESPONSES),
    (Dialect::OpenAiCompletions, COMPLETIONS),
    (Dialect::OpenAiEmbeddings, EMBEDDINGS),
    (Dialect::OpenAiModerations, MODERATIONS),
    (Dialect::AnthropicMessages, MESSAGES),
    (Dialect::AnthropicTokens, MESSAGES),
];

fn read(dialect: Dialect, body: &[u8]) -> Result<Call, ReadError> {
    Call::read(dialect, Bytes::copy_from_slice(body), &limits())
}

fn chat(body: &serde_json::Value) -> Result<Call, ReadError> {
    read(Dialect::OpenAiChat, body.to_string().as_bytes())
}

fn anthropic(body: &serde_json::Value) -> Result<Call, ReadError> {
    read(Dialect::AnthropicMessages, body.to_string().as_bytes())
}

fn summary(call: &Call) -> Vec<(Origin, &str, &str)> {
    call.segments().iter().map(|segment| (segment.origin, segment.place.as_str(), segment.text.as_str())).collect()
}

#[test]
fn a_marker_at_any_string_is_seen_or_the_request_refused() {
    for (dialect, body) in EVERY {
        for (old, body) in marked(body, MARKER) {
            if let Ok(call) = read(dialect, &body) {
                let seen = call.segments().iter().any(|segment| segment.text.contains(MARKER));
                assert!(seen || call.model() == MARKER, "{dialect:?}: not seen in the place of {old:?}");
            }
        }
    }
}

#[test]
fn untouched_bodies_are_the_same_bytes() {
    for (dialect, body) in EVERY {
        let bytes = Bytes::from_static(body);
        let out = Call::read(dialect, bytes.clone(), &limits()).unwrap().into_body();
        assert_eq!(out.as_ptr(), bytes.as_ptr());
        assert_eq!(out, bytes);
    }
}

#[test]
fn chat_segments_by_origin() {
    let call = read(Dialect::OpenAiChat, CHAT).unwrap();
    assert_eq!((call.model(), call.stream(), call.include_usage(), call.choices()), ("gpt-4o-mini", true, true, 2));
    let found = summary(&call);
    let expected = [
        (Origin::Developer, "messages[0].content", "Answer briefly."),
        (Origin::User, "messages[1].content", "Where is the café? \"quoted\"\n\nBe quick 😀"),
        (Origin::Reasoning, "messages[2].reasoning_content", "They want a place."),
        (
            Origin::ToolArgs,
            "messages[2].tool_calls[0]",
            "find_place\n{\"query\":\"caf\\u00e9\",\"note\":\"line\\nana@example.org\"}",
        ),
        (Origin::ToolArgs, "messages[2].tool_calls[1]", "shell\nls -la"),
        (Origin::ToolResult, "messages[3].content", "Main street 5"),
        (Origin::ToolResult, "messages[4].content", "no files"),
        (Origin::Assistant, "messages[5].content", "Main\nI cannot list files."),
        (Origin::User, "messages[6].content", "Thanks. Opening hours?"),
    ];
    assert_eq!(found[..expected.len()], expected);
    let tool = found[expected.len()];
    assert_eq!((tool.0, tool.1), (Origin::ToolDefinition, "tools[0]"));
    assert!(tool.2.contains("free form") && tool.2.contains("none at all") && !tool.2.contains("object"));
    let other = found.last().unwrap();
    assert_eq!((other.0, other.1), (Origin::Other, ""));
    for text in
        ["user-77", "T 12", "ticket no", "END OF TEXT", "ana", "deepest value", "It opens at nine.", "When it opens"]
    {
        assert!(other.2.contains(text), "{text}");
    }
    assert!(!other.2.contains("call_a1"), "ids are inert");
}

#[test]
fn anthropic_segments_by_origin() {
    let call = read(Dialect::AnthropicMessages, MESSAGES).unwrap();
    let expected = [
        (Origin::System, "system", "Answer briefly."),
        (Origin::User, "messages[0].content", "Where is the café?"),
        (Origin::Reasoning, "messages[1].content[0]", "They want a place."),
        (Origin::ToolArgs, "messages[1].content[3]", "find_place\nquery\ncafé\nopts\nfree key\na b"),
        (Origin::Assistant, "messages[1].content", "Looking it up."),
        (Origin::ToolResult, "messages[2].content[0]", "Main street 5"),
        (Origin::ToolResult, "messages[2].content[1]", "not found"),
        (Origin::Document, "messages[2].content[2]", "Flyer\nfrom the shop\ntext/plain\nWe open at nine."),
        (Origin::ToolResult, "messages[2].content[3]", "https://example.org/h\nHours\nnine to five"),
        (Origin::User, "messages[2].content", "And the hours? 😀"),
        (Origin::System, "messages[3].content", "Stay polite."),
        (Origin::User, "messages[4].content", "Please."),
    ];
    assert_eq!(summary(&call)[..expected.len()], expected);
}

#[test]
fn types_are_checked_and_the_place_named() {
    let with = |key: &str, value: serde_json::Value| {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        body[key] = value;
        body
    };
    let cases = [
        (with("stream", json!("true")), "type", "stream"),
        (with("stream", json!(1)), "type", "stream"),
        (with("n", json!("3")), "type", "n"),
        (with("n", json!(0)), "type", "n"),
        (with("n", json!(129)), "type", "n"),
        (with("model", json!("")), "value", "model"),
        (with("model", json!(["m"])), "type", "model"),
        (with("messages", json!({"0": {"role": "user"}})), "type", "messages"),
        (with("messages", json!([])), "value", "messages"),
        (with("messages", json!(["hi"])), "type", "messages[0]"),
        (with("messages", json!([{"role": "user", "content": 7}])), "type", "messages[0].content"),
        (with("messages", json!([{"role": "user", "content": {"text": "x"}}])), "type", "messages[0].content"),
        (with("messages", json!([{"role": "user", "content": ["x"]}])), "type", "messages[0].content[0]"),
        (with("messages", json!([{"role": ["user"], "content": "x"}])), "type", "messages[0].role"),
        (with("messages", json!([{"role": "root", "content": "x"}])), "value", "messages[0].role"),
        (with("messages", json!([{"content": "x"}])), "missing", "messages[0].role"),
        (with("stream_options", json!("usage")), "type", "stream_options"),
        (with("tools", json!({"a": 1})), "type", "tools"),
        (json!([1]), "type", ""),
        (json!({"messages": [{"role": "user", "content": "x"}]}), "missing", "model"),
    ];
    for (body, kind, place) in cases {
        let error = chat(&body).unwrap_err();
        assert_eq!((error.kind(), error.place(), error.status()), (kind, place, 400), "{body}");
    }
    let twice = read(
        Dialect::OpenAiChat,
        br#"{"model":"m","messages":[{"role":"user","content":"my secret","content":null}]}"#,
    );
    let error = twice.unwrap_err();
    assert_eq!((error.kind(), error.place()), ("duplicate_key", "messages[0].content"));
    assert!(!error.to_string().contains("secret"));
    let many = Limits { nodes: 5, ..limits() };
    assert_eq!(Call::read(Dialect::OpenAiChat, Bytes::from_static(CHAT), &many).unwrap_err().status(), 413);
}

#[test]
fn media_is_refused_unless_allowed() {
    let user = |part: serde_json::Value| json!({"model": "m", "messages": [{"role": "user", "content": [part]}]});
    let chat_parts = [
        json!({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}),
        json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}),
        json!({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}),
        json!({"type": "file", "file": {"file_id": "file-1"}}),
        json!({"type": "text", "text": "x", "image_url": "https://example.org/a.png"}),
    ];
    for part in chat_parts {
        let body = user(part);
        assert_eq!(chat(&body).unwrap_err().kind(), "unscannable");
        let open = Limits { allow_media: true, ..limits() };
        let call = Call::read(Dialect::OpenAiChat, Bytes::from(body.to_string()), &open).unwrap();
        let text: String = call.segments().iter().map(|segment| segment.text.as_str()).collect();
        assert!(!text.contains("AAAA"));
        assert_eq!(body.to_string().contains("https://"), text.contains("https://"), "urls are judged: {body}");
    }
    let blocks = [
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}),
        json!({"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}}),
        json!({"type": "document", "source": {"type": "file", "file_id": "file_1"}}),
        json!({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": {"type": "base64", "data": "A"}}]}),
        json!({"type": "container_upload", "file_id": "file_1"}),
    ];
    for block in blocks {
        assert_eq!(anthropic(&user(block)).unwrap_err().kind(), "unscannable");
    }
    let speech = json!({"model": "m", "modalities": ["text", "audio"], "messages": [{"role": "user", "content": "x"}]});
    assert_eq!(chat(&speech).unwrap_err().place(), "modalities");
}

#[test]
fn injection_is_a_splice_and_leads() {
    let text = "Be \"kind\".\nAlways.";
    for (dialect, body) in EVERY {
        let mut call = read(dialect, body).unwrap();
        call.inject(text, InjectRole::Auto);
        let out = call.into_body();
        let grown = out.len() - body.len();
        if matches!(dialect, Dialect::OpenAiEmbeddings | Dialect::OpenAiModerations) {
            assert_eq!(out, body, "no model reads instructions there");
            continue;
        }
        if dialect == Dialect::OpenAiCompletions {
            let prompts = tree(body)["prompt"].as_array().unwrap().clone();
            let led: Vec<String> =
                prompts.iter().map(|prompt| format!("{text}\n\n{}", prompt.as_str().unwrap())).collect();
            assert_eq!(tree(&out)["prompt"], json!(led));
            continue;
        }
        let at = (0..body.len()).find(|&at| out[at] != body[at]).unwrap();
        // The splice may begin with bytes like those that follow it; walk back to where both sides fit.
        let fits = |at: usize| out[at + grown..] == body[at..];
        assert!((0..=at).rev().any(fits), "more than one place changed");
        let doc = tree(&out);
        match dialect {
            Dialect::OpenAiChat => {
                assert_eq!(doc["messages"][0], json!({"role": "developer", "content": text}));
                assert_eq!(doc["messages"].as_array().unwrap()[1..], *tree(body)["messages"].as_array().unwrap());
            }
            Dialect::OpenAiResponses | Dialect::OpenAiTokens => {
                assert_eq!(doc["instructions"], format!("{text}\n\nAnswer briefly."));
            }
            _ => {
                assert_eq!(doc["system"][0], json!({"type": "text", "text": text}));
                assert_eq!(doc["system"].as_array().unwrap()[1..], *tree(body)["system"].as_array().unwrap());
            }
        }
    }
}

#[test]
fn injection_by_role_and_kind_of_system_text() {
    let role = |body: &serde_json::Value, role| {
        let mut call = chat(body).unwrap();
        call.inject("C", role);
        tree(&call.into_body())["messages"][0]["role"].clone()
    };
    let plain = json!({"model": "m", "messages": [{"role": "system", "content": "x"}]});
    let newer =
        json!({"model": "m", "messages": [{"role": "user", "content": "x"}, {"role": "developer", "content": "x"}]});
    assert_eq!(role(&plain, InjectRole::Auto), "system");
    assert_eq!(role(&newer, InjectRole::Auto), "developer");
    assert_eq!(role(&newer, InjectRole::System), "system");
    assert_eq!(role(&plain, InjectRole::Developer), "developer");

    let system = |system: Option<serde_json::Value>| {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
        if let Some(system) = system {
            body["system"] = system;
        }
        let mut call = anthropic(&body).unwrap();
        call.inject("C", InjectRole::Auto);
        tree(&call.into_body())["system"].clone()
    };
    let ours = json!({"type": "text", "text": "C"});
    assert_eq!(system(None), json!("C"));
    assert_eq!(system(Some(json!(null))), json!("C"));
    assert_eq!(system(Some(json!(""))), json!("C"));
    assert_eq!(system(Some(json!([]))), json!([ours]));
    assert_eq!(system(Some(json!("S"))), json!([ours, {"type": "text", "text": "S"}]));

    let mut call = read(Dialect::OpenAiChat, CHAT).unwrap();
    call.inject("", InjectRole::Auto);
    assert_eq!(call.into_body(), CHAT);
}

#[test]
fn responses_segments_by_origin() {
    let call = read(Dialect::OpenAiResponses, RESPONSES).unwrap();
    assert_eq!((call.model(), call.stream(), call.choices()), ("gpt-4o-mini", true, 1));
    let arguments = "find_place\n{\"query\":\"caf\\u00e9\",\"note\":\"line\\nana@example.org\"}";
    let expected = [
        (Origin::System, "instructions", "Answer briefly."),
        (Origin::Developer, "input[0].content", "Stay polite."),
        (Origin::User, "input[1].content", "Where is the café? \"quoted\"\n\nBe quick 😀"),
        (Origin::Reasoning, "input[2]", "They want a place."),
        (Origin::ToolArgs, "input[3]", arguments),
        (Origin::ToolResult, "input[4]", "Main street 5"),
        (Origin::ToolArgs, "input[5]", "shell\nls -la"),
        (Origin::ToolResult, "input[6]", "notes.txt"),
        (Origin::ToolArgs, "input[7]", "query\nopening hours"),
        (Origin::ToolResult, "input[8].output", "The moon pulls."),
        (Origin::ToolArgs, "input[8]", "ask\n{\"q\":\"tides\"}\nwiki"),
        (Origin::Assistant, "input[9].content", "It is in Main street."),
        (Origin::Other, "input[9]", "https://example.org/m\nA map"),
        (Origin::Other, "input[10]", "surprise_item\nremark\nnot heard of"),
        (Origin::User, "input[11].content", "And the hours?"),
        (Origin::ToolDefinition, "tools[0]", "find_place\nFinds a place.\nquery\nWhat to find\nquery"),
    ];
    assert_eq!(summary(&call)[..expected.len()], expected);
    let rest = summary(&call).last().unwrap().2.to_owned();
    for text in ["T 12", "user-77", "When it opens", "deepest value", "free key"] {
        assert!(rest.contains(text), "{text}");
    }
    assert_eq!(
        json!(call.messages()[..5]),
        json!([
            {"role": "system", "content": "Answer briefly."},
            {"role": "developer", "content": "Stay polite."},
            {"role": "user", "content": "Where is the café? \"quoted\"\n\nBe quick 😀"},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "call_a1", "type": "function", "function": {"name": "find_place", "arguments": "{\"query\":\"caf\\u00e9\",\"note\":\"line\\nana@example.org\"}"}}]},
            {"role": "tool", "tool_call_id": "call_a1", "content": "Main street 5"},
        ])
    );
}

#[test]
fn what_stands_for_stored_text_is_refused() {
    let with = |key: &str, value: serde_json::Value| {
        let mut body = json!({"model": "m", "input": "hi"});
        body[key] = value;
        read(Dialect::OpenAiResponses, body.to_string().as_bytes())
    };
    for (key, value) in [
        ("previous_response_id", json!("resp_1")),
        ("conversation", json!({"id": "conv_1"})),
        ("prompt", json!({"id": "pmpt_1"})),
        ("background", json!(true)),
        ("input", json!([{"type": "item_reference", "id": "msg_1"}])),
        ("input", json!([{"type": "compaction", "encrypted_content": "gA"}])),
    ] {
        let error = with(key, value).unwrap_err();
        assert_eq!((error.kind(), error.status()), ("stored_state", 400), "{key}");
        assert!(error.place().starts_with(key) && error.to_string().contains("has not seen"), "{error}");
    }
    for key in ["previous_response_id", "conversation", "prompt", "background", "instructions"] {
        assert!(with(key, json!(null)).is_ok(), "{key}");
    }
    let deferring = Limits { defer_stored: true, ..limits() };
    let body = json!({"model": "m", "previous_response_id": "resp_1", "background": true,
        "input": [{"type": "item_reference", "id": "msg_1"}, {"role": "user", "content": "hi"}]});
    let call = Call::read(Dialect::OpenAiResponses, body.to_string().into(), &deferring).unwrap();
    let missing = |declared: &[Stored]| call.undeclared(declared).map(|error| error.place().to_owned());
    assert_eq!(missing(&[]).as_deref(), Some("previous_response_id"));
    assert_eq!(missing(&[Stored::PreviousResponseId, Stored::Retrieve]).as_deref(), Some("background"));
    assert_eq!(missing(&[Stored::PreviousResponseId, Stored::Background]).as_deref(), Some("input[0]"));
    assert_eq!(missing(&[Stored::Background, Stored::ItemReference, Stored::PreviousResponseId]), None);
    assert!(call.has_unseen() && call.segments().iter().any(|segment| segment.text == "hi"));
    let image = json!({"type": "input_image", "image_url": "data:image/png;base64,AAAA"});
    for media in [
        json!([{"role": "user", "content": [image]}]),
        json!([{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]),
        json!([{"type": "function_call_output", "call_id": "c", "output": [image]}]),
        json!([{"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot", "image_url": "x"}}]),
        json!([{"type": "image_generation_call", "id": "ig_1", "result": "AAAA", "status": "completed"}]),
    ] {
        assert_eq!(with("input", media.clone()).unwrap_err().kind(), "unscannable", "{media}");
    }
    assert_eq!(with("tools", json!([{"type": "image_generation"}])).unwrap_err().kind(), "unscannable");
}

#[test]
fn responses_types_are_checked() {
    for (body, kind, place) in [
        (json!({"model": "m"}), "missing", "input"),
        (json!({"input": "hi"}), "missing", "model"),
        (json!({"model": "m", "input": 7}), "type", "input"),
        (json!({"model": "m", "input": ["hi"]}), "type", "input[0]"),
        (json!({"model": "m", "input": [{"role": "root", "content": "hi"}]}), "value", "input[0].role"),
        (json!({"model": "m", "input": [{"role": "user", "content": 7}]}), "type", "input[0].content"),
        (
            json!({"model": "m", "input": [{"role": "user", "content": [{"type": "input_text", "text": 7}]}]}),
            "type",
            "input[0].content[0].text",
        ),
        (json!({"model": "m", "input": "hi", "stream": "true"}), "type", "stream"),
        (json!({"model": "m", "input": "hi", "background": "yes"}), "type", "background"),
        (json!({"model": "m", "input": "hi", "instructions": ["x"]}), "type", "instructions"),
        (json!({"model": "m", "input": "hi", "tools": {}}), "type", "tools"),
        (json!({"model": "m", "input": [{"type": ["message"], "role": "user"}]}), "type", "input[0].type"),
    ] {
        let error = read(Dialect::OpenAiResponses, body.to_string().as_bytes()).unwrap_err();
        assert_eq!((error.kind(), error.place()), (kind, place), "{body}");
    }
}

#[test]
fn instructions_are_led_by_the_constitution() {
    let instructions = |own: Option<serde_json::Value>| {
        let mut body = json!({"model": "m", "input": "hi"});
        if let Some(own) = own {
            body["instructions"] = own;
        }
        let mut call = read(Dialect::OpenAiResponses, body.to_string().as_bytes()).unwrap();
        call.inject("C \"q\"", InjectRole::Auto);
        tree(&call.into_body())["instructions"].clone()
    };
    for empty in [None, Some(json!(null)), Some(json!(""))] {
        assert_eq!(instructions(empty), json!("C \"q\""));
    }
    assert_eq!(instructions(Some(json!("Mine."))), json!("C \"q\"\n\nMine."));
    let mut empty = read(Dialect::OpenAiTokens, b" {} ").unwrap();
    empty.inject("C", InjectRole::Auto);
    assert_eq!(empty.into_body(), br#" {"instructions":"C"} "#[..]);
}

#[test]
fn token_ids_are_refused_as_text_that_nobody_can_read() {
    for (dialect, key) in [(Dialect::OpenAiCompletions, "prompt"), (Dialect::OpenAiEmbeddings, "input")] {
        let with = |value: serde_json::Value| {
            let mut body = json!({"model": "m"});
            body[key] = value;
            read(dialect, body.to_string().as_bytes())
        };
        for tokens in [json!([1, 2]), json!([[1, 2], [3]]), json!(["a", 7])] {
            assert_eq!(with(tokens.clone()).unwrap_err().kind(), "unscannable", "{tokens}");
        }
        for wrong in [json!(7), json!({"a": 1}), json!([]), json!([{"type": "text", "text": "x"}]), json!(null)] {
            assert!(with(wrong.clone()).is_err(), "{wrong}");
        }
        let call = with(json!(["one", "two"])).unwrap();
        let texts: Vec<_> = summary(&call).iter().map(|(origin, _, text)| (*origin, (*text).to_owned())).collect();
        assert_eq!(texts, [(Origin::User, "one".to_owned()), (Origin::User, "two".to_owned())]);
    }
    let call = read(Dialect::OpenAiCompletions, COMPLETIONS).unwrap();
    assert_eq!((call.choices(), call.include_usage(), call.stream()), (4, true, true));
}

#[test]
fn moderation_inputs_are_one_a_result() {
    let inputs = |input: serde_json::Value| {
        let body = json!({"input": input}).to_string();
        read(Dialect::OpenAiModerations, body.as_bytes()).map(|call| call.inputs())
    };
    assert_eq!(inputs(json!("one")).unwrap(), ["one"]);
    assert_eq!(inputs(json!(["one", "", "three"])).unwrap(), ["one", "", "three"]);
    assert_eq!(
        inputs(json!([{"type": "text", "text": "one"}, {"type": "text", "text": "two"}])).unwrap(),
        ["one\ntwo"]
    );
    let image = json!([{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]);
    assert_eq!(inputs(image).unwrap_err().kind(), "unscannable");
    for wrong in
        [json!(7), json!([]), json!([7]), json!(["one", {"type": "text", "text": "two"}]), json!([{"type": "text"}])]
    {
        assert!(inputs(wrong.clone()).is_err(), "{wrong}");
    }
}

#[test]
fn redaction_reaches_into_escaped_and_nested_text() {
    let mut call = read(Dialect::OpenAiChat, CHAT).unwrap();
    for at in 0..call.segments().len() {
        let text = call.segments()[at].text.clone();
        // As a pattern would find it that takes the `n` of an escape for a letter.
        let found = text.find("nana@example.org").map(|at| at..at + 16);
        if let Some(span) = found {
            call.redact(at, &[(span, "<\"mail\">")]);
        }
    }
    call.redact(1, &[(14..19, "[PLACE]"), (16..60, "[REST]")]);
    let out = tree(&call.into_body());
    let arguments = &out["messages"][2]["tool_calls"][0]["function"]["arguments"];
    let inner: serde_json::Value = serde_json::from_str(arguments.as_str().unwrap()).unwrap();
    assert_eq!(inner, json!({"query": "café", "note": "line<\"mail\">"}));
    assert_eq!(out["messages"][1]["content"][0]["text"], "Where is the c[PLACE]");
    assert_eq!(out["messages"][1]["content"][1]["text"], "");
}

#[test]
fn a_span_that_begins_between_two_parts_keeps_its_replacement() {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "ab"}, {"type": "text", "text": "cd"}]}]});
    let mut call = chat(&body).unwrap();
    call.redact(0, &[(2..4, "X")]);
    let out = tree(&call.into_body());
    assert_eq!(out["messages"][0]["content"][0]["text"], "ab");
    assert_eq!(out["messages"][0]["content"][1]["text"], "Xd");
}

#[test]
fn messages_for_records_have_one_shape_and_no_constitution() {
    let mut call = read(Dialect::AnthropicMessages, MESSAGES).unwrap();
    call.inject("C", InjectRole::Auto);
    call.redact(1, &[(0..5, "X")]);
    let arguments = r#"{"query":"café","opts":{"free key":["a b",1]}}"#;
    let tool =
        json!({"id": "toolu_01B", "type": "function", "function": {"name": "find_place", "arguments": arguments}});
    assert_eq!(
        call.messages(),
        [
            json!({"role": "system", "content": "Answer briefly."}),
            json!({"role": "user", "content": "X is the café?"}),
            json!({"role": "assistant", "content": "Looking it up.", "tool_calls": [tool]}),
            json!({"role": "tool", "tool_call_id": "toolu_01B", "content": "Main street 5"}),
            json!({"role": "tool", "tool_call_id": "toolu_02C", "content": "not found"}),
            json!({"role": "user", "content": "We open at nine.\nnine to five\nAnd the hours? 😀"}),
            json!({"role": "system", "content": "Stay polite."}),
            json!({"role": "user", "content": "Please."}),
        ]
    );
    let chat = read(Dialect::OpenAiChat, CHAT).unwrap();
    assert_eq!(json!(chat.messages()), tree(CHAT)["messages"]);
}

/// `text` as a JSON string in which the characters that `pick` says are written as escapes.
fn written(text: &str, pick: u64) -> Vec<u8> {
    let mut out = String::from("\"");
    for (at, char) in text.chars().enumerate() {
        if pick >> (at % 64) & 1 == 1 {
            let mut units = [0; 2];
            let escapes = char.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}"));
            out.extend(escapes);
        } else {
            let token = quoted(&char.to_string());
            out.push_str(std::str::from_utf8(&token[1..token.len() - 1]).unwrap());
        }
    }
    out.push('"');
    out.into_bytes()
}

proptest! {
    #[test]
    fn redaction_replaces_exactly_the_span(
        parts in prop::collection::vec(("[ -~é😀\n]{1,12}", any::<u64>()), 1..4),
        bounds in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..4),
    ) {
        let tokens: Vec<Vec<u8>> = parts.iter().map(|(text, pick)| written(text, *pick)).collect();
        let mut body = br#"{ "model":"m", "messages":[{"role":"user","content":["#.to_vec();
        let mut spans_of_tokens = Vec::new();
        for (at, token) in tokens.iter().enumerate() {
            let comma: &[u8] = if at > 0 { b" , " } else { b"" };
            body.extend([comma, br#"{"type":"text","text":"#].concat());
            spans_of_tokens.push(body.len()..body.len() + token.len());
            body.extend_from_slice(token);
            body.extend_from_slice(b" }");
        }
        body.extend_from_slice(b"]}],\"x\":1E2}");
        let mut call = read(Dialect::OpenAiChat, &body).unwrap();
        let text = call.segments()[0].text.clone();
        prop_assert_eq!(&text, &parts.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join("\n"));

        let marks: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let mut cuts: Vec<usize> = bounds.iter().flat_map(|(a, b)| [marks[a.index(marks.len())], marks[b.index(marks.len())]]).collect();
        cuts.sort_unstable();
        let spans: Vec<(std::ops::Range<usize>, &str)> =
            cuts.chunks(2).filter(|pair| pair[0] < pair[1]).map(|pair| (pair[0]..pair[1], "<\"#\n>")).collect();
        call.redact(0, &spans);
        let out = call.into_body();

        // Each part: its own text with the spans cut out, a span's replacement in the first part that it touches.
        let (mut start, mut behind) = (0, 0);
        let doc = tree(&out);
        for (at, (part, _)) in parts.iter().enumerate() {
            let end = start + part.len();
            let mut expected = String::new();
            let mut done = start;
            for (span, with) in spans.iter().filter(|(span, _)| span.start < end && start < span.end) {
                expected.push_str(&text[done..span.start.max(start)]);
                if span.start >= behind {
                    expected.push_str(with);
                }
                done = span.end.min(end);
            }
            expected.push_str(&text[done..end]);
            prop_assert_eq!(doc["messages"][0]["content"][at]["text"].as_str().unwrap(), expected);
            behind = end;
            start = end + 1;
        }
        // Bytes outside of the strings are the same.
        let gaps = |bytes: &[u8], tokens: &[std::ops::Range<usize>]| {
            let mut left = Vec::new();
            let mut at = 0;
            for token in tokens {
                left.extend_from_slice(&bytes[at..token.start]);
                at = token.end;
            }
            left.extend_from_slice(&bytes[at..]);
            left
        };
        let json = crate::api::json::Json::parse(out.clone(), crate::api::json::Mode::Request, &limits()).unwrap();
        let content = json.root().get("messages").unwrap().items().next().unwrap().get("content").unwrap();
        let new_tokens: Vec<_> = content.items().map(|part| part.get("text").unwrap().span()).collect();
        prop_assert_eq!(gaps(&out, &new_tokens), gaps(&body, &spans_of_tokens));
    }
}
