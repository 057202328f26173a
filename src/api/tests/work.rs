//! What a body costs grows with its length and not faster: bytes looked at, nodes visited and text unescaped are counted.

use bytes::Bytes;

use crate::api::json::work;
use crate::api::tests::limits;
use crate::api::{Call, Dialect, Limits, Reply};

/// Steps a byte that no body may pass, whatever its size.
const STEPS: usize = 60;

fn repeated(piece: impl Fn(usize) -> String, bytes: usize) -> String {
    let mut out = String::new();
    for at in 0.. {
        if out.len() >= bytes {
            break;
        }
        if at > 0 {
            out.push(',');
        }
        out.push_str(&piece(at));
    }
    out
}

/// Chat bodies of about a size: ordinary ones, and those that are made to cost much.
fn bodies(bytes: usize) -> Vec<(&'static str, String)> {
    let chat = |messages: &str| format!(r#"{{"model":"m","messages":[{messages}]}}"#);
    let user = |content: &str| chat(&format!(r#"{{"role":"user","content":{content}}}"#));
    let with = |member: &str| format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],{member}}}"#);
    let nest = |open: &str, close: &str| open.repeat(30) + &close.repeat(30);
    let call = |arguments: &str| {
        let arguments = serde_json::to_string(arguments).unwrap();
        let call = format!(r#"{{"id":"c","type":"function","function":{{"name":"f","arguments":{arguments}}}}}"#);
        chat(&format!(
            r#"{{"role":"assistant","tool_calls":[{call}]}},{{"role":"tool","tool_call_id":"c","content":"r"}}"#
        ))
    };
    vec![
        ("one long text", user(&format!("\"{}\"", "A sentence of words. ".repeat(bytes / 21)))),
        ("escapes only", user(&format!("\"{}\"", r"\u00e9\n".repeat(bytes / 8)))),
        ("many messages", chat(&repeated(|_| r#"{"role":"user","content":"hello there"}"#.to_owned(), bytes))),
        ("many parts", user(&format!("[{}]", repeated(|_| r#"{"type":"text","text":"a"}"#.to_owned(), bytes)))),
        ("many members", with(&repeated(|at| format!(r#""k{at}":{at}"#), bytes))),
        (
            "members in one object",
            with(&format!(r#""metadata":{{{}}}"#, repeated(|at| format!(r#""k{at}":"v"#) + "\"", bytes))),
        ),
        (
            "escaped keys",
            with(&format!(r#""metadata":{{{}}}"#, repeated(|at| format!(r#""\u006b{at}":"v"#) + "\"", bytes))),
        ),
        ("empty containers", with(&format!(r#""x":[{}]"#, repeated(|_| "[]".to_owned(), bytes)))),
        ("deep containers", with(&format!(r#""x":[{}]"#, repeated(|_| nest("[", "]"), bytes)))),
        (
            "deep objects",
            with(&format!(r#""x":[{}]"#, repeated(|_| r#"{"a":"#.repeat(30) + "1" + &"}".repeat(30), bytes))),
        ),
        ("digits", with(&format!(r#""x":[{}]"#, repeated(|_| "1".repeat(200), bytes)))),
        ("arguments", call(&format!("{{{}}}", repeated(|at| format!(r#""a{at}":"b""#), bytes)))),
        (
            "many tools",
            with(&format!(
                r#""tools":[{}]"#,
                repeated(
                    |at| format!(r#"{{"type":"function","function":{{"name":"f{at}","parameters":{{}}}}}}"#),
                    bytes
                )
            )),
        ),
        ("broken at the end", format!("[{}", repeated(|_| r#"{"a":[1,2]}"#.to_owned(), bytes))),
    ]
}

#[test]
fn reading_a_body_costs_linear_work() {
    let limits = Limits { nodes: usize::MAX, ..limits() };
    for dialect in [Dialect::OpenAiChat, Dialect::AnthropicMessages, Dialect::OpenAiResponses] {
        let mut costs: std::collections::BTreeMap<&str, Vec<usize>> = std::collections::BTreeMap::new();
        for bytes in [10_000, 100_000, 1_000_000] {
            for (what, mut body) in bodies(bytes) {
                if dialect == Dialect::OpenAiResponses {
                    body = body.replacen("\"messages\"", "\"input\"", 1);
                } else if dialect == Dialect::AnthropicMessages {
                    body = body.replacen("\"model\"", "\"max_tokens\":1,\"model\"", 1);
                }
                let length = body.len();
                let steps = work::of(|| {
                    if let Ok(call) = Call::read(dialect, Bytes::from(body), &limits) {
                        let strands: usize = call.segments().iter().map(|segment| segment.strands().len()).sum();
                        assert!(strands < length);
                    }
                });
                assert!(steps >= length / 10, "{what}: {steps} steps for {length} bytes: nothing was counted");
                assert!(steps <= STEPS * length, "{what} as {dialect:?}: {steps} steps for {length} bytes");
                costs.entry(what).or_default().push(steps * 1000 / length);
            }
        }
        for (what, costs) in costs {
            assert!(costs[2] * 10 <= costs[0] * 12, "{what} as {dialect:?} grows: {costs:?}");
        }
    }
}

#[test]
fn reading_an_answer_costs_linear_work() {
    let limits = Limits { nodes: usize::MAX, ..limits() };
    let answer = |choices: usize| {
        let choice = |at: usize| {
            format!(r#"{{"index":{at},"message":{{"role":"assistant","content":"so {at}"}},"finish_reason":"stop"}}"#)
        };
        format!(
            r#"{{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{}]}}"#,
            (0..choices).map(choice).collect::<Vec<_>>().join(",")
        )
    };
    let cost = |choices: usize| {
        let body = answer(choices);
        let length = body.len();
        work::of(|| drop(Reply::read(Dialect::OpenAiChat, Bytes::from(body), &limits).unwrap())) * 1000 / length
    };
    let costs = [cost(100), cost(1000), cost(10_000)];
    assert!(costs[2] * 10 <= costs[0] * 12 && costs[0] > 100, "{costs:?}");
}
