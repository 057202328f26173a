//! Whole answers, and bodies of our own.

use bytes::Bytes;
use serde_json::json;

use crate::api::render::{self, ApiError};
use crate::api::tests::{MARKER, limits, marked, notice, tree};
use crate::api::{Assessment, BlockStyle, Call, Dialect, Echo, Limits, Origin, Reply, Segment, Usage};

const CHAT: &[u8] = include_bytes!("../../../tests/fixtures/chat_reply.json");
const MESSAGES: &[u8] = include_bytes!("../../../tests/fixtures/messages_reply.json");
const RESPONSES: &[u8] = include_bytes!("../../../tests/fixtures/responses_reply.json");
const COMPLETIONS: &[u8] = include_bytes!("../../../tests/fixtures/completions_reply.json");
const MODELS: &[u8] = include_bytes!("../../../tests/fixtures/models_reply.json");
const EVERY: [(Dialect, &[u8]); 5] = [
    (Dialect::OpenAiChat, CHAT),
    (Dialect::OpenAiResponses, RESPONSES),
    (Dialect::OpenAiCompletions, COMPLETIONS),
    (Dialect::OpenAiModels, MODELS),
    (Dialect::AnthropicMessages, MESSAGES),
];

fn read(dialect: Dialect, body: &[u8]) -> Reply {
    Reply::read(dialect, Bytes::copy_from_slice(body), &limits()).unwrap()
}

fn position(reply: &Reply, text: &str) -> (usize, std::ops::Range<usize>) {
    let found = reply.segments().iter().enumerate().find_map(|(at, segment)| Some((at, segment.text.find(text)?)));
    let (at, start) = found.unwrap();
    (at, start..start + text.len())
}

#[test]
fn a_marker_at_any_string_is_seen_or_the_answer_refused() {
    for (dialect, body) in EVERY {
        for (old, body) in marked(body, MARKER) {
            if let Ok(reply) = Reply::read(dialect, body, &limits()) {
                let seen = reply.segments().iter().any(|segment| segment.text.contains(MARKER));
                // A token of `top_logprobs` was not said; it alone may differ from the text.
                assert!(seen || old == "alt", "{dialect:?}: not seen in the place of {old:?}");
            }
        }
        for (old, body) in marked(body, MARKER) {
            let reply = Reply::read_any(dialect, body, &limits()).unwrap();
            assert!(reply.segments()[0].text.contains(MARKER), "{old}");
        }
    }
}

#[test]
fn every_duplicate_is_read() {
    let body = br#"{"choices":[{"index":0,"message":{"content":"one","content":"two"}}],"choices":[{"message":{"content":"three"}}]}"#;
    let text: Vec<String> =
        read(Dialect::OpenAiChat, body).segments().iter().map(|segment| segment.text.clone()).collect();
    assert_eq!(text, ["one\ntwo", "three"]);
}

#[test]
fn texts_and_numbers_of_an_answer() {
    let chat = read(Dialect::OpenAiChat, CHAT);
    let found: Vec<_> =
        chat.segments().iter().map(|segment| (segment.origin, segment.choice, segment.text.as_str())).collect();
    assert_eq!(
        found,
        [
            (Origin::Output, 0, "It opens at nine. Write to ana@example.org."),
            (Origin::Other, 0, "Opening hours\nhttps://example.org/h"),
            (Origin::Reasoning, 1, "Use the map."),
            (Origin::ToolArgs, 1, "find_place\n{\"query\":\"the café\"}"),
            (Origin::Other, Segment::WHOLE, "x_vendor\nfree text"),
        ]
    );
    assert_eq!(chat.usage(), Some(Usage { input: 19, output: 11 }));
    assert_eq!((chat.model(), chat.has_tool_calls(0), chat.has_tool_calls(1)), ("gpt-4o-mini-2024-07-18", false, true));
    assert_eq!(chat.answer(0).as_deref(), Some("It opens at nine. Write to ana@example.org."));
    assert_eq!(chat.answer(1), None);

    let reply = read(Dialect::AnthropicMessages, MESSAGES);
    assert_eq!(reply.answer(0).as_deref(), Some("It opens at nine. Write to ana@example.org."));
    assert_eq!((reply.usage(), reply.has_tool_calls(0)), (Some(Usage { input: 35, output: 42 }), true));
    let origins: Vec<Origin> = reply.segments().iter().map(|segment| segment.origin).collect();
    assert_eq!(origins, [Origin::Reasoning, Origin::ToolArgs, Origin::Output]);
}

#[test]
fn calls_of_tools_have_one_shape_or_none() {
    let arguments = r#"{"city":"Rome"}"#;
    let call = json!({"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": arguments}});
    let choice =
        |index: u32, message: &serde_json::Value| json!({"index": index, "message": message, "finish_reason": "stop"});
    let calling = json!({"role": "assistant", "content": null, "tool_calls": [call]});
    let plain = json!({"role": "assistant", "content": "Sunny."});
    let chat = json!({"choices": [choice(0, &plain), choice(1, &calling)]});
    let blocks = json!([{"type": "text", "text": "So."},
        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Rome"}}]);
    let item = json!({"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather",
        "arguments": arguments, "status": "completed"});
    let read = |dialect: Dialect, body: &serde_json::Value| {
        Reply::read(dialect, Bytes::from(body.to_string()), &limits()).unwrap()
    };
    for (dialect, body, at) in [
        (Dialect::OpenAiChat, chat.clone(), 1),
        (Dialect::AnthropicMessages, json!({"type": "message", "role": "assistant", "content": blocks}), 0),
        (Dialect::OpenAiResponses, json!({"object": "response", "output": [item]}), 0),
    ] {
        assert_eq!(read(dialect, &body).tool_calls(at), Some(vec![call.clone()]), "{dialect:?}");
    }
    assert_eq!(read(Dialect::OpenAiChat, &chat).tool_calls(0), Some(Vec::new()));
    // What the provider answers by itself, and what has no id, has no place there.
    let older =
        json!({"role": "assistant", "content": null, "function_call": {"name": "weather", "arguments": arguments}});
    assert_eq!(read(Dialect::OpenAiChat, &json!({"choices": [choice(0, &older)]})).tool_calls(0), None);
    let search = json!([{"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "Rome"}}]);
    let searching = json!({"type": "message", "role": "assistant", "content": search});
    assert_eq!(read(Dialect::AnthropicMessages, &searching).tool_calls(0), None);
    let searching =
        json!({"object": "response", "output": [{"type": "web_search_call", "id": "ws_1", "status": "completed"}]});
    assert_eq!(read(Dialect::OpenAiResponses, &searching).tool_calls(0), None);
}

#[test]
fn untouched_answers_are_the_same_bytes() {
    for (dialect, body) in EVERY {
        assert_eq!(read(dialect, body).into_body(), body);
    }
}

#[test]
fn redaction_takes_the_copies_with_it() {
    let mut chat = read(Dialect::OpenAiChat, CHAT);
    let (at, span) = position(&chat, "ana@example.org");
    chat.redact(at, &[(span, "[EMAIL_ADDRESS]")]);
    let mut expected = tree(CHAT);
    expected["choices"][0]["message"]["content"] = json!("It opens at nine. Write to [EMAIL_ADDRESS].");
    expected["choices"][0]["message"].as_object_mut().unwrap().remove("annotations");
    expected["choices"][0]["logprobs"] = json!(null);
    assert_eq!(tree(&chat.into_body()), expected);

    let mut reply = read(Dialect::AnthropicMessages, MESSAGES);
    let (at, span) = position(&reply, "a place");
    reply.redact(at, &[(span, "X")]);
    let (at, span) = position(&reply, "at nine");
    reply.redact(at, &[(span, "X")]);
    let (at, span) = position(&reply, "free key");
    reply.redact(at, &[(span, "X")]);
    let out = tree(&reply.into_body());
    let blocks = out["content"].as_array().unwrap();
    assert_eq!(blocks[0], json!({"type": "text", "text": "It opens X."}), "the signed block went as a whole");
    assert_eq!(blocks[2]["input"]["opts"], json!({"X": "a b"}));
}

#[test]
fn another_answer_takes_the_place_of_text_and_reasoning() {
    let mut chat = read(Dialect::OpenAiChat, CHAT);
    chat.replace_answer(0, "New \"text\".");
    chat.replace_answer(1, "Also new.");
    let out = tree(&chat.into_body());
    assert_eq!(out["choices"][0]["message"], json!({"role": "assistant", "content": "New \"text\".", "refusal": null}));
    assert_eq!(out["choices"][0]["logprobs"], json!(null));
    assert_eq!(out["choices"][1]["message"]["content"], "Also new.");
    assert_eq!(out["choices"][1]["message"]["tool_calls"], tree(CHAT)["choices"][1]["message"]["tool_calls"]);
    assert!(out["choices"][1]["message"].get("reasoning_content").is_none());

    let mut reply = read(Dialect::AnthropicMessages, MESSAGES);
    reply.replace_answer(0, "New text.");
    let out = tree(&reply.into_body());
    let old = tree(MESSAGES);
    assert_eq!(out["content"], json!([{"type": "text", "text": "New text."}, old["content"][3]]));
}

#[test]
fn blocked_choices_keep_nothing_of_what_they_said() {
    let message = notice().message;
    let mut chat = read(Dialect::OpenAiChat, CHAT);
    chat.block(&[0], &notice(), BlockStyle::ContentFilter);
    chat.annotate(&notice());
    let out = tree(&chat.into_body());
    let blocked = json!({"index": 0, "message": {"role": "assistant", "content": null, "refusal": message}, "logprobs": null, "finish_reason": "content_filter"});
    assert_eq!(out["choices"][0], blocked);
    assert_eq!(out["choices"][1], tree(CHAT)["choices"][1]);
    assert_eq!(out["guardrail"]["rules"][0]["score"], 0.97);
    assert_eq!(out["x_vendor"], "free text");

    for choices in [vec![0, 1], vec![Segment::WHOLE]] {
        let mut chat = read(Dialect::OpenAiChat, CHAT);
        chat.block(&choices, &notice(), BlockStyle::Refusal);
        let body = chat.into_body();
        let out = tree(&body);
        assert_eq!(out["choices"][1]["finish_reason"], "stop");
        assert_eq!((&out["id"], &out["usage"]), (&tree(CHAT)["id"], &tree(CHAT)["usage"]));
        assert!(!String::from_utf8_lossy(&body).contains("free text"));
    }

    let mut reply = read(Dialect::AnthropicMessages, MESSAGES);
    reply.block(&[0], &notice(), BlockStyle::ContentFilter);
    let out = tree(&reply.into_body());
    assert_eq!(out["content"], json!([{"type": "text", "text": message}]));
    assert_eq!(out["stop_reason"], "refusal");
    assert_eq!(out["stop_details"], json!({"type": "refusal", "category": null, "explanation": message}));
    assert_eq!(out["usage"], tree(MESSAGES)["usage"]);
    let mut reply = read(Dialect::AnthropicMessages, MESSAGES);
    reply.block(&[0], &notice(), BlockStyle::Refusal);
    let out = tree(&reply.into_body());
    assert_eq!((&out["stop_reason"], out.get("stop_details")), (&json!("end_turn"), None));
}

#[test]
fn an_annotation_is_ours_alone() {
    let body = br#"{"guardrail":{"action":"allow"},"choices":[]}"#;
    let mut reply = read(Dialect::OpenAiChat, body);
    reply.annotate(&notice());
    assert_eq!(tree(&reply.into_body())["guardrail"]["action"], "block");
}

#[test]
fn shapes_that_are_no_answer_are_refused() {
    for body in [&b"[]"[..], b"{}", br#"{"choices":{}}"#, br#"{"choices":[1]}"#, b"<html>"] {
        assert!(Reply::read(Dialect::OpenAiChat, Bytes::copy_from_slice(body), &limits()).is_err());
    }
    for body in [&b"{}"[..], br#"{"content":"x"}"#, br#"{"content":["x"]}"#, br#"{"content":[{"type":"image"}]}"#] {
        assert!(Reply::read(Dialect::AnthropicMessages, Bytes::copy_from_slice(body), &limits()).is_err());
    }
}

#[test]
fn errors_in_each_dialect() {
    let notice = notice();
    let mut error = ApiError {
        status: 400,
        kind: "invalid_request_error",
        code: Some("content_filter"),
        param: Some("messages"),
        message: "Blocked.",
        request_id: "req_1",
        content_filter: Some(&notice),
    };
    let out = tree(&render::error(Dialect::OpenAiChat, &error));
    assert_eq!(
        out["error"],
        json!({"message": "Blocked.", "type": "invalid_request_error", "param": "messages", "code": "content_filter",
            "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"toxicity.v2": {"detected": true, "filtered": true}}}})
    );
    assert_eq!(out["guardrail"]["revision"], "9f2c1e7");
    error.content_filter = None;
    for (status, kind) in [
        (400, "invalid_request_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (503, "api_error"),
    ] {
        error.status = status;
        assert_eq!(
            tree(&render::error(Dialect::AnthropicMessages, &error)),
            json!({"type": "error", "error": {"type": kind, "message": "Blocked."}, "request_id": "req_1"})
        );
    }
}

#[test]
fn refusals_read_as_answers() {
    let body = json!({"model": "m", "n": 2, "messages": [{"role": "user", "content": "x"}]}).to_string();
    let call = Call::read(Dialect::OpenAiChat, Bytes::from(body), &limits()).unwrap();
    let reply = read(Dialect::OpenAiChat, &render::refusal(&call, &notice()));
    let refusals: Vec<_> = reply.segments().iter().filter(|segment| segment.origin == Origin::Output).collect();
    assert_eq!(refusals.len(), 2);
    assert!(refusals.iter().all(|segment| segment.text == notice().message));

    let body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]}).to_string();
    let call = Call::read(Dialect::AnthropicMessages, Bytes::from(body), &limits()).unwrap();
    assert_eq!(
        read(Dialect::AnthropicMessages, &render::refusal(&call, &notice())).answer(0).as_deref(),
        Some(notice().message)
    );

    let body = json!({"model": "m", "input": "x"}).to_string();
    let call = Call::read(Dialect::OpenAiResponses, Bytes::from(body), &limits()).unwrap();
    let refusal = render::refusal(&call, &notice());
    assert_eq!(read(Dialect::OpenAiResponses, &refusal).segments()[0].text, notice().message);
    assert_eq!(tree(&refusal)["status"], "completed");
    let body = json!({"model": "m", "prompt": ["x", "y"], "n": 2}).to_string();
    let call = Call::read(Dialect::OpenAiCompletions, Bytes::from(body), &limits()).unwrap();
    assert_eq!(
        read(Dialect::OpenAiCompletions, &render::refusal(&call, &notice())).answer(3).as_deref(),
        Some(notice().message)
    );
}

#[test]
fn our_own_questions_are_requests() {
    for dialect in [Dialect::OpenAiChat, Dialect::AnthropicMessages] {
        let body = render::question(dialect, "m", "Judge.", "The \"answer\".", 50);
        let call = Call::read(dialect, body, &limits()).unwrap();
        let texts: Vec<_> = call.segments().iter().map(|segment| (segment.origin, segment.text.as_str())).collect();
        assert_eq!(texts, [(Origin::System, "Judge."), (Origin::User, "The \"answer\".")]);
        assert!(!call.stream());
    }
}

#[test]
fn texts_and_numbers_of_a_response() {
    let reply = read(Dialect::OpenAiResponses, RESPONSES);
    let found: Vec<_> = reply.segments().iter().map(|segment| (segment.origin, segment.text.as_str())).collect();
    assert_eq!(
        found,
        [
            (Origin::Reasoning, "Use the map."),
            (Origin::ToolArgs, "query\nopening hours\nhttps://example.org/h"),
            (Origin::Output, "It opens at nine. Write to ana@example.org.\nNothing more."),
            (Origin::Other, "https://example.org/h\nOpening hours"),
            (Origin::ToolArgs, "find_place\n{\"query\":\"the café\"}"),
            (Origin::Other, "Answer briefly.\nx_vendor\nfree text"),
        ]
    );
    assert_eq!((reply.usage(), reply.has_tool_calls(0)), (Some(Usage { input: 19, output: 11 }), true));
    assert_eq!(reply.answer(0).as_deref(), Some("It opens at nine. Write to ana@example.org."));
    let image = tree(RESPONSES).to_string().replace("web_search_call", "image_generation_call");
    assert!(Reply::read(Dialect::OpenAiResponses, Bytes::from(image), &limits()).is_err());
}

#[test]
fn what_a_response_repeats_of_its_request_is_not_judged_again() {
    let sent = json!({"model": "m", "instructions": "Answer briefly.", "metadata": {"x_vendor": "free text"}, "input": "Nothing more."});
    let limits = Limits { echo: Echo::of(&Bytes::from(sent.to_string())), ..limits() };
    let reply = Reply::read(Dialect::OpenAiResponses, Bytes::from_static(RESPONSES), &limits).unwrap();
    let texts: Vec<_> = reply.segments().iter().map(|segment| segment.text.as_str()).collect();
    assert!(!texts.iter().any(|text| text.contains("briefly") || text.contains("free text")), "{texts:?}");
    assert!(
        texts.iter().any(|text| text.contains("Nothing more.")),
        "what the model says is judged, whoever said it before"
    );
}

#[test]
fn redacted_and_rewritten_responses() {
    let mut reply = read(Dialect::OpenAiResponses, RESPONSES);
    let (at, span) = position(&reply, "ana@example.org");
    reply.redact(at, &[(span, "[EMAIL_ADDRESS]")]);
    let mut expected = tree(RESPONSES);
    let part = &mut expected["output"][2]["content"][0];
    part["text"] = json!("It opens at nine. Write to [EMAIL_ADDRESS].");
    part["logprobs"] = json!([]);
    part["annotations"] = json!([]);
    assert_eq!(tree(&reply.into_body()), expected);

    let mut reply = read(Dialect::OpenAiResponses, RESPONSES);
    reply.replace_answer(0, "New \"text\".");
    let out = tree(&reply.into_body());
    let old = tree(RESPONSES);
    let mut message = old["output"][2].clone();
    message["content"] = json!([{"type": "output_text", "text": "New \"text\".", "annotations": []}]);
    assert_eq!(out["output"], json!([old["output"][1], message, old["output"][3]]));
    for (output, rest) in [
        (json!([]), json!([])),
        (json!([{"type": "reasoning", "summary": []}]), json!([])),
        (json!([{"type": "reasoning"}, {"type": "x_call"}]), json!([{"type": "x_call"}])),
    ] {
        let mut reply = read(Dialect::OpenAiResponses, json!({"output": output}).to_string().as_bytes());
        reply.replace_answer(0, "Said.");
        let out = tree(&reply.into_body());
        assert_eq!(out["output"][0]["content"][0]["text"], "Said.");
        assert_eq!(json!(out["output"].as_array().unwrap()[1..]), rest);
    }
}

#[test]
fn a_blocked_response_keeps_nothing_of_what_it_said() {
    for (style, status, details) in [
        (BlockStyle::ContentFilter, "incomplete", json!({"reason": "content_filter"})),
        (BlockStyle::Refusal, "completed", json!(null)),
    ] {
        let mut reply = read(Dialect::OpenAiResponses, RESPONSES);
        reply.block(&[0], &notice(), style);
        reply.annotate(&notice());
        let body = reply.into_body();
        let out = tree(&body);
        assert_eq!((&out["status"], &out["incomplete_details"]), (&json!(status), &details));
        assert_eq!(out["output"][0]["content"], json!([{"type": "refusal", "refusal": notice().message}]));
        assert_eq!((&out["id"], &out["usage"]), (&tree(RESPONSES)["id"], &tree(RESPONSES)["usage"]));
        assert_eq!(out["guardrail"]["action"], "block");
        let text = String::from_utf8_lossy(&body);
        assert!(!text.contains("nine") && !text.contains("find_place") && !text.contains("map"), "{text}");
    }
}

#[test]
fn legacy_completions_answers() {
    let reply = read(Dialect::OpenAiCompletions, COMPLETIONS);
    let found: Vec<_> =
        reply.segments().iter().map(|segment| (segment.origin, segment.choice, segment.text.as_str())).collect();
    assert_eq!(
        found,
        [
            (Origin::Output, 0, "It opens at nine. Write to ana@example.org."),
            (Origin::Output, 1, "Ask again."),
            (Origin::Other, Segment::WHOLE, "x_vendor\nfree text"),
        ]
    );
    let mut reply = read(Dialect::OpenAiCompletions, COMPLETIONS);
    let (at, span) = position(&reply, "ana@example.org");
    reply.redact(at, &[(span, "[EMAIL_ADDRESS]")]);
    let out = tree(&reply.into_body());
    assert_eq!(out["choices"][0]["text"], "It opens at nine. Write to [EMAIL_ADDRESS].");
    assert_eq!(out["choices"][0]["logprobs"], json!(null));

    let mut reply = read(Dialect::OpenAiCompletions, COMPLETIONS);
    reply.replace_answer(1, "New.");
    assert_eq!(reply.answer(1).as_deref(), Some("Ask again."), "as it was read");
    assert_eq!(tree(&reply.into_body())["choices"][1]["text"], "New.");

    let mut reply = read(Dialect::OpenAiCompletions, COMPLETIONS);
    reply.block(&[0], &notice(), BlockStyle::ContentFilter);
    let out = tree(&reply.into_body());
    assert_eq!(out["choices"][0], json!({"text": "", "index": 0, "logprobs": null, "finish_reason": "content_filter"}));
    assert_eq!(out["choices"][1], tree(COMPLETIONS)["choices"][1]);
    let mut reply = read(Dialect::OpenAiCompletions, COMPLETIONS);
    reply.block(&[0, 1], &notice(), BlockStyle::Refusal);
    let out = tree(&reply.into_body());
    assert_eq!(
        (&out["choices"][1]["text"], &out["choices"][1]["finish_reason"]),
        (&json!(notice().message), &json!("stop"))
    );
    assert!(out.get("x_vendor").is_none());
}

#[test]
fn moderations_have_thirteen_categories() {
    let label = |label: &str, score, flagged| Assessment { label: label.to_owned(), score, flagged };
    let texts =
        [vec![label("self_harm", 0.75, true), label("hate", 0.25, false), label("attack", 0.9, true)], Vec::new()];
    let out = tree(&render::moderations("req_1", "guard", &texts));
    assert_eq!((&out["id"], &out["model"]), (&json!("modr-1"), &json!("guard")));
    let first = &out["results"][0];
    assert_eq!(first["flagged"], true);
    for (key, value) in [
        ("categories", json!(true)),
        ("category_scores", json!(0.75)),
        ("category_applied_input_types", json!(["text"])),
    ] {
        assert_eq!(first[key].as_object().unwrap().len(), 13);
        assert_eq!(first[key]["self-harm"], value);
    }
    assert_eq!((&first["categories"]["hate"], &first["category_scores"]["hate"]), (&json!(false), &json!(0.25)));
    assert_eq!(first["category_scores"]["sexual/minors"], json!(0.0));
    assert_eq!(first["category_applied_input_types"]["sexual/minors"], json!([]));
    assert_eq!(out["results"][1]["flagged"], false);
    let attack = tree(&render::moderations("req_1", "guard", &[vec![label("attack", 0.9, true)]]));
    assert_eq!(attack["results"][0]["flagged"], false, "an attack is none of OpenAI's categories");
}
