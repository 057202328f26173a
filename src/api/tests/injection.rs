//! A constitution in front of what a client sent: always the same bytes, and the client's own text and cache markers stay.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::api::tests::limits;
use crate::api::{Call, Dialect, InjectRole};

fn injected(dialect: Dialect, body: &str, constitution: &str, role: InjectRole) -> Bytes {
    let mut call = Call::read(dialect, Bytes::copy_from_slice(body.as_bytes()), &limits()).unwrap();
    call.inject(constitution, role);
    call.into_body()
}

/// A client's text: a word, or a list of parts of which some end a cached prefix.
fn content() -> impl Strategy<Value = Value> {
    let text = "[ -~é😀\n]{1,20}";
    let part = (text, any::<bool>()).prop_map(|(text, cached)| {
        let mut part = json!({"type": "text", "text": text});
        if cached {
            part["cache_control"] = json!({"type": "ephemeral", "ttl": "1h"});
        }
        part
    });
    prop_oneof![text.prop_map(Value::from), prop::collection::vec(part, 1..4).prop_map(Value::from)]
}

fn role() -> impl Strategy<Value = InjectRole> {
    prop_oneof![Just(InjectRole::Auto), Just(InjectRole::System), Just(InjectRole::Developer)]
}

/// The one place where bytes came in: what is before and after is what was sent.
fn is_a_splice(before: &[u8], after: &[u8]) -> bool {
    let same = before.iter().zip(after).take_while(|(one, other)| one == other).count();
    let grown = after.len() - before.len();
    (0..=same).rev().any(|at| after[at + grown..] == before[at..])
}

proptest! {
    #[test]
    fn chat_keeps_every_message(system in prop::option::of(content()), user in content(), constitution in "[ -~é\n]{1,60}", role in role()) {
        let mut messages = Vec::new();
        messages.extend(system.map(|system| json!({"role": "system", "content": system})));
        messages.push(json!({"role": "user", "content": user}));
        let body = format!("{{ \"model\":\"m\",\"x_odd\" : 1E2, \"messages\":{} }}", Value::from(messages.clone()));
        let out = injected(Dialect::OpenAiChat, &body, &constitution, role);
        prop_assert_eq!(&out, &injected(Dialect::OpenAiChat, &body, &constitution, role));
        prop_assert!(is_a_splice(body.as_bytes(), &out));
        let all: Value = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(&all["messages"][0]["content"], &json!(constitution));
        prop_assert_eq!(&all["messages"].as_array().unwrap()[1..], &messages[..]);
        // A prefix that was cached is cached again: it begins with the same bytes whatever the user says next.
        let other = body.replacen("\"m\"", "\"m\" ", 1);
        let next = injected(Dialect::OpenAiChat, &other, &constitution, role);
        let begin = |out: &[u8]| out.windows(11).position(|bytes| bytes == b"\"messages\":").unwrap();
        let length = out.len() - begin(&out);
        prop_assert_eq!(&out[begin(&out)..], &next[begin(&next)..begin(&next) + length]);
    }

    #[test]
    fn messages_keep_their_cache_markers(system in prop::option::of(content()), user in content(), constitution in "[ -~é\n]{1,60}") {
        let mut body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": user}]});
        if let Some(system) = &system {
            body["system"] = system.clone();
        }
        for dialect in [Dialect::AnthropicMessages, Dialect::AnthropicTokens] {
            let out = injected(dialect, &body.to_string(), &constitution, InjectRole::Auto);
            prop_assert_eq!(&out, &injected(dialect, &body.to_string(), &constitution, InjectRole::Auto));
            let all: Value = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(&all["messages"], &body["messages"]);
            let ours = json!({"type": "text", "text": constitution});
            let expected = match &system {
                None => json!(constitution),
                Some(Value::String(text)) if text.is_empty() => json!(constitution),
                Some(Value::Array(parts)) => [vec![ours], parts.clone()].concat().into(),
                Some(text) => json!([ours, {"type": "text", "text": text}]),
            };
            prop_assert_eq!(&all["system"], &expected);
            if system.as_ref().is_some_and(Value::is_array) {
                prop_assert!(is_a_splice(body.to_string().as_bytes(), &out));
            }
        }
    }

    #[test]
    fn instructions_and_prompts_come_after(own in prop::option::of("[ -~é😀\n]{1,20}"), input in "[ -~é]{1,20}", constitution in "[ -~é\n]{1,60}") {
        let mut body = json!({"model": "m", "input": [{"role": "user", "content": input}]});
        if let Some(own) = &own {
            body["instructions"] = json!(own);
        }
        let out = injected(Dialect::OpenAiResponses, &body.to_string(), &constitution, InjectRole::Auto);
        let all: Value = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(&all["input"], &body["input"]);
        let expected = own.map_or(constitution.clone(), |own| format!("{constitution}\n\n{own}"));
        prop_assert_eq!(&all["instructions"], &json!(expected));
        prop_assert_eq!(&out, &injected(Dialect::OpenAiResponses, &body.to_string(), &constitution, InjectRole::Auto));

        let prompt = json!({"model": "m", "prompt": expected, "suffix": "s"}).to_string();
        let out = injected(Dialect::OpenAiCompletions, &prompt, &constitution, InjectRole::Auto);
        prop_assert!(is_a_splice(prompt.as_bytes(), &out));
        let all: Value = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(&all["prompt"], &json!(format!("{constitution}\n\n{expected}")));
    }
}
