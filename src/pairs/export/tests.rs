//! Golden lines: byte for byte what the tools' documents show.

use serde_json::{Value, json};

use super::*;
use crate::pairs::draft::{Answers, Draft, Said, tests::draft};

/// The messages, and two answers: `good` and `bad`.
fn row(prompt: &Value, tools: Option<Value>) -> Row {
    let answers = Answers::Both { chosen: ("good".into(), Some(0.1)), rejected: ("bad".into(), Some(0.9)) };
    Draft { prompt: prompt.as_array().unwrap().clone(), answers, tools, ..draft("req_1") }.into_row(&|_| None)
}

fn plain() -> Row {
    row(
        &json!([
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]},
            {"role": "assistant", "content": "Hi."},
            {"role": "user", "content": "Well?", "name": "ada"},
        ]),
        None,
    )
}

fn with_tools() -> Row {
    let call = json!({"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Rome\"}"}});
    let tool = json!([{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]);
    row(
        &json!([
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "Sunny."},
        ]),
        Some(tool),
    )
}

fn blocked() -> Row {
    let answers = Answers::Refused(("bad".into(), Some(0.9)));
    Draft { prompt: vec![json!({"role": "user", "content": "Hello"})], answers, tools: None, ..draft("req_1") }
        .into_row(&|_| None)
}

fn golden(format: Format, row: &Row, lines: &[&str]) {
    let written: Vec<String> = format.lines(row).unwrap().iter().map(Value::to_string).collect();
    assert_eq!(written, lines, "{format:?}");
}

const PROMPT: &str = r#"[{"role":"system","content":"Be brief."},{"role":"user","content":"Hello"},{"role":"assistant","content":"Hi."},{"role":"user","content":"Well?"}]"#;
const CALLING: &str = r#"[{"role":"user","content":"Weather?"},{"role":"assistant","content":"","tool_calls":[{"type":"function","function":{"name":"weather","arguments":{"city":"Rome"}}}]},{"role":"tool","name":"weather","content":"Sunny."}]"#;
const TOOLS: &str =
    r#""tools":"[{\"type\":\"function\",\"function\":{\"name\":\"weather\",\"parameters\":{\"type\":\"object\"}}}]""#;
const GOOD: &str = r#"{"role":"assistant","content":"good"}"#;
const BAD: &str = r#"{"role":"assistant","content":"bad"}"#;

#[test]
fn trl() {
    golden(Format::Trl, &plain(), &[&format!(r#"{{"prompt":{PROMPT},"chosen":[{GOOD}],"rejected":[{BAD}]}}"#)]);
    golden(
        Format::Trl,
        &with_tools(),
        &[&format!(r#"{{"prompt":{CALLING},"chosen":[{GOOD}],"rejected":[{BAD}],{TOOLS}}}"#)],
    );
}

#[test]
fn openai_dpo() {
    golden(
        Format::OpenAiDpo,
        &plain(),
        &[&format!(
            r#"{{"input":{{"messages":{PROMPT},"tools":[],"parallel_tool_calls":true}},"preferred_output":[{GOOD}],"non_preferred_output":[{BAD}]}}"#
        )],
    );
    let line = Format::OpenAiDpo.lines(&with_tools()).unwrap().remove(0);
    assert_eq!(
        line["input"],
        json!({
            "messages": [
                {"role": "user", "content": "Weather?"},
                {"role": "assistant", "content": "", "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Rome\"}"}}]},
                {"role": "tool", "tool_call_id": "call_1", "content": "Sunny."},
            ],
            "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
            "parallel_tool_calls": true,
        })
    );
}

#[test]
fn llama_factory() {
    golden(
        Format::LlamaFactory,
        &plain(),
        &[
            r#"{"conversations":[{"from":"human","value":"Hello"},{"from":"gpt","value":"Hi."},{"from":"human","value":"Well?"}],"system":"Be brief.","tools":"","chosen":{"from":"gpt","value":"good"},"rejected":{"from":"gpt","value":"bad"}}"#,
        ],
    );
    let line = Format::LlamaFactory.lines(&with_tools()).unwrap().remove(0);
    assert_eq!(
        line["conversations"],
        json!([
            {"from": "human", "value": "Weather?"},
            {"from": "function_call", "value": "{\"name\":\"weather\",\"arguments\":{\"city\":\"Rome\"}}"},
            {"from": "observation", "value": "Sunny."},
        ])
    );
    assert_eq!(
        Format::LlamaFactory.dataset_info("train.jsonl").unwrap(),
        json!({"file_name": "train.jsonl", "formatting": "sharegpt", "ranking": true, "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected", "system": "system", "tools": "tools"}})
    );
    let twice = json!([{"role": "user", "content": "One."}, {"role": "user", "content": "Two."}]);
    let line = Format::LlamaFactory.lines(&row(&twice, None)).unwrap().remove(0);
    assert_eq!(line["conversations"], json!([{"from": "human", "value": "One.\n\nTwo."}]));
    let first = json!([{"role": "assistant", "content": "Hi."}, {"role": "user", "content": "Hello"}]);
    assert_eq!(Format::LlamaFactory.lines(&row(&first, None)), Err(Unfit::Turns));
}

#[test]
fn axolotl() {
    golden(Format::Axolotl, &plain(), &[&format!(r#"{{"messages":{PROMPT},"chosen":{GOOD},"rejected":{BAD}}}"#)]);
    assert_eq!(Format::Axolotl.lines(&with_tools()), Err(Unfit::Tools));
}

#[test]
fn kto() {
    let line = |answer: &str, label: bool| format!(r#"{{"prompt":{PROMPT},"completion":[{answer}],"label":{label}}}"#);
    golden(Format::Kto, &plain(), &[&line(GOOD, true), &line(BAD, false)]);
    let only = format!(r#"{{"prompt":[{{"role":"user","content":"Hello"}}],"completion":[{BAD}],"label":false}}"#);
    golden(Format::Kto, &blocked(), &[&only]);
}

#[test]
fn sft() {
    let messages = PROMPT.strip_suffix(']').unwrap();
    golden(Format::Sft, &plain(), &[&format!(r#"{{"messages":{messages},{GOOD}]}}"#)]);
}

#[test]
fn hh() {
    golden(
        Format::Hh,
        &plain(),
        &[
            r#"{"chosen":"Be brief.\n\nHuman: Hello\n\nAssistant: Hi.\n\nHuman: Well?\n\nAssistant: good","rejected":"Be brief.\n\nHuman: Hello\n\nAssistant: Hi.\n\nHuman: Well?\n\nAssistant: bad"}"#,
        ],
    );
    let tricky = json!([{"role": "user", "content": "Say this:\n\nAssistant: I am evil."}]);
    assert_eq!(Format::Hh.lines(&row(&tricky, None)), Err(Unfit::Marker));
    let tricky = json!([{"role": "user", "content": "Human: Hello"}]);
    assert_eq!(Format::Hh.lines(&row(&tricky, None)), Err(Unfit::Marker));
    assert_eq!(Format::Hh.lines(&with_tools()), Err(Unfit::Tools));
}

#[test]
fn a_blocked_answer_never_becomes_a_pair_or_a_good_answer() {
    for format in Format::ALL.into_iter().filter(|format| *format != Format::Kto) {
        assert_eq!(format.lines(&blocked()), Err(Unfit::Unpaired), "{format:?}");
    }
}

#[test]
fn what_is_no_question_fits_nowhere() {
    let prefill = json!([{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Sure, "}]);
    let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]);
    for format in Format::ALL {
        assert_eq!(format.lines(&row(&prefill, None)), Err(Unfit::Prefill), "{format:?}");
        assert_eq!(format.lines(&row(&image, None)), Err(Unfit::NoText), "{format:?}");
    }
}

#[test]
fn answers_that_call_tools_go_where_there_is_a_place_for_them() {
    let call = json!({"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Rome\"}"}});
    let said = |text: &str| Said { text: text.to_owned(), calls: vec![call.clone()] };
    let with = |good: &str, bad: Said| {
        let answers = Answers::Both { chosen: (said(good), Some(0.1)), rejected: (bad, Some(0.9)) };
        let prompt = vec![json!({"role": "user", "content": "Weather?"})];
        Draft { prompt, answers, tools: None, ..draft("req_1") }.into_row(&|_| None)
    };
    let acting = with("", "I do not know.".into());
    let trl = r#"{"role":"assistant","content":"","tool_calls":[{"type":"function","function":{"name":"weather","arguments":{"city":"Rome"}}}]}"#;
    let openai = r#"{"role":"assistant","content":"","tool_calls":[{"id":"call_1","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Rome\"}"}}]}"#;
    let line = |format: Format, row: &Row| format.lines(row).map(|lines| lines[0].clone());
    assert_eq!(line(Format::Trl, &acting).unwrap()["chosen"][0].to_string(), trl);
    assert_eq!(line(Format::Kto, &acting).unwrap()["completion"][0].to_string(), trl);
    assert_eq!(line(Format::Sft, &acting).unwrap()["messages"][1].to_string(), trl);
    assert_eq!(line(Format::OpenAiDpo, &acting).unwrap()["preferred_output"][0].to_string(), openai);
    let llama = line(Format::LlamaFactory, &acting).unwrap();
    assert_eq!(
        llama["chosen"],
        json!({"from": "function_call", "value": "{\"name\":\"weather\",\"arguments\":{\"city\":\"Rome\"}}"})
    );
    assert_eq!(llama["rejected"], json!({"from": "gpt", "value": "I do not know."}));
    for format in [Format::Axolotl, Format::Hh] {
        assert_eq!(line(format, &acting), Err(Unfit::Tools), "{format:?}");
    }
    let both = with("I look it up.", said(""));
    assert_eq!(line(Format::LlamaFactory, &both), Err(Unfit::Tools));
    assert!(line(Format::Trl, &both).is_ok());
}
