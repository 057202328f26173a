//! What is wrong with a row that can be read, and which rows say the same.

use serde_json::Value;

use crate::pairs::row::{Meta, Pair, Row, Source, Tag, Unpaired};

/// Everything that is wrong with a row, without any text of it. Trainers would stumble over each of these, or learn
/// nonsense.
pub fn mistakes(row: &Row) -> Vec<String> {
    let mut found = Vec::new();
    prompt(row.prompt(), &mut found);
    match row {
        Row::Pair(pair) => preference(pair, &mut found),
        Row::Unpaired(unpaired) => single(unpaired, &mut found),
    }
    if has_calls(row) && !row.meta().tags.contains(&Tag::ToolCalls) {
        found.push("meta.tags: expected tool_calls, as an answer calls tools".to_owned());
    }
    meta(row.meta(), &mut found);
    found
}

/// The same for two rows that hold the same conversation and the same answers, whatever blanks lie between their words.
pub fn fingerprint(row: &Row) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("wardline pairs fingerprint v1");
    let mut add = |messages: &[Value]| {
        for message in messages {
            let role = message["role"].as_str().unwrap_or_default();
            let rest = message.as_object().into_iter().flatten().filter(|(key, _)| *key != "role" && *key != "content");
            let rest: Vec<String> = rest.map(|(key, value)| format!("{key}={value}")).collect();
            let words = text(message);
            let words: Vec<&str> = words.split_whitespace().collect();
            for part in [role, &words.join(" "), &rest.join(",")] {
                hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
            }
        }
        hasher.update(&u64::MAX.to_le_bytes());
    };
    add(row.prompt());
    match row {
        Row::Pair(pair) => {
            add(&pair.chosen);
            add(&pair.rejected);
        }
        Row::Unpaired(unpaired) => {
            add(&unpaired.completion);
            hasher.update(&[u8::from(unpaired.label)]);
        }
    }
    *hasher.finalize().as_bytes()
}

/// The text of a message: a string, or the text parts of a list.
pub(in crate::pairs) fn text(message: &Value) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

fn prompt(prompt: &[Value], found: &mut Vec<String>) {
    const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];
    for (at, message) in prompt.iter().enumerate() {
        match message["role"].as_str() {
            Some(role) if ROLES.contains(&role) => {}
            _ => found.push(format!("prompt[{at}].role: expected one of {}", ROLES.join(", "))),
        }
    }
    match prompt.last() {
        None => found.push("prompt: expected at least one message".to_owned()),
        Some(last) if !matches!(last["role"].as_str(), Some("user" | "tool" | "assistant")) => {
            found.push("prompt: expected a user's message or a tool's result at the end".to_owned());
        }
        Some(_) => {}
    }
}

fn preference(pair: &Pair, found: &mut Vec<String>) {
    answer(&pair.chosen, "chosen", found);
    answer(&pair.rejected, "rejected", found);
    if pair.chosen == pair.rejected {
        found.push("chosen and rejected are the same answer".to_owned());
    }
    score(pair.score_chosen, "score_chosen", found);
    score(pair.score_rejected, "score_rejected", found);
    let expected = pair.score_rejected.zip(pair.score_chosen).map(|(rejected, chosen)| rejected - chosen);
    let differs = |(a, b): (f32, f32)| (a - b).abs() > 1e-4;
    if expected.is_some() != pair.margin.is_some() || expected.zip(pair.margin).is_some_and(differs) {
        found.push("margin: expected score_rejected - score_chosen".to_owned());
    }
}

fn single(unpaired: &Unpaired, found: &mut Vec<String>) {
    answer(&unpaired.completion, "completion", found);
    score(unpaired.score, "score", found);
}

fn answer(messages: &[Value], name: &str, found: &mut Vec<String>) {
    match messages {
        [only] if only["role"] != "assistant" => found.push(format!("{name}[0].role: expected assistant")),
        [only] if only.get("tool_calls").is_some() => calls(&only["tool_calls"], name, found),
        [only] if text(only).trim().is_empty() => found.push(format!("{name}[0].content: expected a text")),
        [_] => {}
        _ => found.push(format!("{name}: expected one message, found {}", messages.len())),
    }
}

/// Each call has an id, a name, and arguments as JSON text.
fn calls(calls: &Value, name: &str, found: &mut Vec<String>) {
    let place = format!("{name}[0].tool_calls");
    let Some(calls) = calls.as_array().filter(|calls| !calls.is_empty()) else {
        return found.push(format!("{place}: expected at least one call"));
    };
    for (at, call) in calls.iter().enumerate() {
        let function = &call["function"];
        if ![&call["id"], &function["name"], &function["arguments"]].iter().all(|member| member.is_string()) {
            found.push(format!("{place}[{at}]: expected texts as id, function.name and function.arguments"));
        }
    }
}

fn has_calls(row: &Row) -> bool {
    let answers = match row {
        Row::Pair(pair) => [pair.chosen.as_slice(), pair.rejected.as_slice()],
        Row::Unpaired(unpaired) => [unpaired.completion.as_slice(), &[]],
    };
    answers.into_iter().flatten().any(|message| message.get("tool_calls").is_some())
}

fn score(score: Option<f32>, name: &str, found: &mut Vec<String>) {
    if score.is_some_and(|score| !(0.0..=1.0).contains(&score)) {
        found.push(format!("{name}: expected a number from 0 to 1"));
    }
}

fn meta(meta: &Meta, found: &mut Vec<String>) {
    for (name, value) in [("pair_id", &meta.pair_id), ("request_id", &meta.request_id), ("policy", &meta.policy)] {
        if value.is_empty() {
            found.push(format!("meta.{name}: expected a text"));
        }
    }
    let date = meta.created_at.as_bytes();
    if date.len() < 20 || date[4] != b'-' || date[10] != b'T' || date.last() != Some(&b'Z') {
        found.push("meta.created_at: expected a time such as 2026-11-23T07:00:00.000Z".to_owned());
    }
    if !(0.0..=1.0).contains(&meta.sample_rate) {
        found.push("meta.sample_rate: expected a number from 0 to 1".to_owned());
    }
    if meta.rating.is_some_and(|rating| !(1..=5).contains(&rating)) {
        found.push("meta.rating: expected a number from 1 to 5".to_owned());
    }
    if meta.judged.is_some_and(|judged| !(5.0..=9.0).contains(&judged)) {
        found.push("meta.judged: expected a number from 5 to 9".to_owned());
    }
    if meta.lean.is_some_and(|lean| !(-4.0..=4.0).contains(&lean)) {
        found.push("meta.lean: expected a number from -4 to 4".to_owned());
    }
    let judgement = [meta.judged.is_some(), meta.lean.is_some(), meta.judge.is_some(), meta.second.is_some()];
    if meta.source == Source::Resample && judgement.contains(&false) {
        found.push("meta: expected judged, lean, judge and second in a row of the source resample".to_owned());
    }
    if meta.signal.is_some() != meta.event.is_some() {
        found.push("meta.event: expected together with meta.signal".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pairs::draft::tests::{draft, pair, refused};

    #[test]
    fn rows_of_our_own_have_no_mistakes() {
        assert_eq!(mistakes(&draft("req_1").into_row(&|_| None)), Vec::<String>::new());
        assert_eq!(mistakes(&refused("req_1").into_row(&|_| None)), Vec::<String>::new());
    }

    /// How a pair is spoilt, and what is said.
    type Case<'a> = (&'a dyn Fn(&mut Pair), &'a str);

    #[test]
    fn each_mistake_is_named() {
        let spoil = |change: &dyn Fn(&mut Pair)| {
            let mut spoilt = pair(draft("req_1"), &|_| None);
            change(&mut spoilt);
            mistakes(&Row::Pair(Box::new(spoilt)))
        };
        let same = |p: &mut Pair| p.chosen.clone_from(&p.rejected);
        let cases: [Case<'_>; 17] = [
            (&|p| p.prompt.clear(), "prompt: expected at least one message"),
            (&|p| p.prompt[1]["role"] = json!("robot"), "prompt[1].role: expected one of"),
            (&|p| p.chosen.clear(), "chosen: expected one message, found 0"),
            (&|p| p.chosen[0]["content"] = json!(" "), "chosen[0].content: expected a text"),
            (&|p| p.rejected[0]["role"] = json!("user"), "rejected[0].role: expected assistant"),
            (&same, "the same answer"),
            (&|p| p.score_chosen = Some(1.5), "score_chosen: expected a number from 0 to 1"),
            (&|p| p.margin = None, "margin: expected"),
            (&|p| p.meta.created_at = "today".into(), "meta.created_at: expected a time"),
            (&|p| p.meta.rating = Some(6), "meta.rating: expected a number from 1 to 5"),
            (&|p| p.meta.judged = Some(4.0), "meta.judged: expected a number from 5 to 9"),
            (&|p| p.chosen[0]["tool_calls"] = json!([]), "chosen[0].tool_calls: expected at least one call"),
            (&|p| p.chosen[0]["tool_calls"] = json!([{"id": "1"}]), "tool_calls[0]: expected texts as id"),
            (&|p| p.chosen[0]["tool_calls"] = json!([{"id": "1"}]), "meta.tags: expected tool_calls"),
            (&|p| p.meta.lean = Some(4.5), "meta.lean: expected a number from -4 to 4"),
            (&|p| p.meta.source = Source::Resample, "meta: expected judged, lean, judge and second"),
            (&|p| p.meta.event = Some("copy".into()), "meta.event: expected together with meta.signal"),
        ];
        for (change, told) in cases {
            let found = spoil(change);
            assert!(found.iter().any(|mistake| mistake.contains(told)), "{told}: {found:?}");
        }
    }

    #[test]
    fn a_fingerprint_is_that_of_the_words() {
        let row = |text: &str| {
            let mut row = pair(draft("req_1"), &|_| None);
            row.chosen[0]["content"] = json!(text);
            fingerprint(&Row::Pair(Box::new(row)))
        };
        assert_eq!(row("one  two\n"), row("one two"));
        assert_ne!(row("one two"), row("onetwo"));
        assert_ne!(fingerprint(&refused("a").into_row(&|_| None)), fingerprint(&draft("a").into_row(&|_| None)));
        assert_eq!(fingerprint(&draft("a").into_row(&|_| None)), fingerprint(&draft("b").into_row(&|_| None)));
    }
}
