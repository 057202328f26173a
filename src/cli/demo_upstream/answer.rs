//! What the stand-in answers.

use serde_json::{Map, Value, json};

use super::ask::{Ask, Tool};

/// One choice.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Text {
        /// In pieces as a model would stream them.
        pieces: Vec<String>,
        /// Whether `max_tokens` cut it short.
        cut: bool,
    },
    Call {
        name: String,
        arguments: Value,
    },
}

const INSULT: &str = "You are a worthless idiot and everybody hates you. Shut up, you pathetic loser.";
/// By these the stand-in knows its own insults again when it is asked to criticise an answer.
const INSULTING: &[&str] = &["worthless", "idiot", "hates you", "shut up", "pathetic", "loser", "stupid"];
const CIVIL: &str = "I would rather not insult anyone, even when I am asked to. If something went wrong, tell me what it \
was, and I will try to help.";
const CONTACT: &str = "You can reach the demo desk by e-mail at ada.demo@wardline.example. If you would like to pay by \
card, the test card on file is 4111 1111 1111 1111. Both are made up, and a redaction rule replaces them before you see \
this.";

/// Chooses by the system text (critic, reviser) and the words of the last user message.
pub(super) fn answer(ask: &Ask, choice: usize) -> Answer {
    let text = if ask.system.starts_with("You are the critic.") {
        critique(&ask.user).to_string()
    } else if ask.system.starts_with("You are the reviser.") {
        json!({"revision": revise(&examined(&ask.user))}).to_string()
    } else if let Some(result) = &ask.tool_result {
        format!("The tool says: {} I am Wardline's demo upstream and only pass that on.", sentence(result))
    } else {
        match by_words(ask) {
            Answer::Text { pieces, .. } => pieces.concat(),
            call @ Answer::Call { .. } => return call,
        }
    };
    let text = if choice == 0 { text } else { format!("Choice {}: {text}", choice + 1) };
    let mut pieces = pieces(&text);
    let cut = pieces.len() > ask.max_tokens;
    pieces.truncate(ask.max_tokens);
    Answer::Text { pieces, cut }
}

fn by_words(ask: &Ask) -> Answer {
    let words = ask.user.to_lowercase();
    let has = |any: &[&str]| any.iter().any(|word| words.contains(word));
    let text = if has(&["echo system"]) {
        if ask.system.is_empty() { "No system text has reached me.".to_owned() } else { ask.system.clone() }
    } else if has(&["insult", "roast me", "roast my", "be rude"]) {
        INSULT.to_owned()
    } else if has(&["contact", "e-mail", "email", "card number"]) {
        CONTACT.to_owned()
    } else if let Some(tool) = ask.tools.first().filter(|_| has(&["weather", "the tool"])) {
        let tool = ask.tools.iter().find(|tool| tool.name.to_lowercase().contains("weather")).unwrap_or(tool);
        return Answer::Call { name: tool.name.clone(), arguments: arguments(tool, &place(&ask.user)) };
    } else {
        ordinary(&topic(&ask.user))
    };
    Answer::Text { pieces: vec![text], cut: false }
}

fn ordinary(topic: &str) -> String {
    format!(
        "Thank you for asking about {topic}. I am Wardline's demo upstream, a stand-in and no language model, so I \
cannot tell you much about it. Your question has come all the way through the gateway, and this answer takes the same \
way back. Sentences like this one arrive one after another, at the speed of a person who types well. Put a real \
provider in my place, and you will get real answers by the same road. Have a pleasant day!"
    )
}

/// What the question is about: the user's words without the way of asking, at most 80 characters.
fn topic(user: &str) -> String {
    const ASKING: &[&str] = &[
        "please ",
        "can you ",
        "could you ",
        "tell me about ",
        "tell me ",
        "explain ",
        "what is ",
        "what are ",
        "who is ",
        "how do i ",
        "how can i ",
        "how to ",
        "why is ",
        "write about ",
    ];
    let mut rest = user.trim();
    while let Some(asking) =
        ASKING.iter().find(|asking| rest.get(..asking.len()).is_some_and(|s| s.eq_ignore_ascii_case(asking)))
    {
        rest = rest[asking.len()..].trim_start();
    }
    let line = rest.lines().next().unwrap_or_default();
    let topic: String = line.chars().take(80).collect();
    let topic = topic.trim_end_matches(['.', '?', '!', ' ']);
    if topic.is_empty() { "nothing in particular".to_owned() } else { format!("“{topic}”") }
}

/// The words after the last "in" or "for".
fn place(user: &str) -> String {
    let words: Vec<&str> = user.split_whitespace().collect();
    let after = words.iter().rposition(|word| word.eq_ignore_ascii_case("in") || word.eq_ignore_ascii_case("for"));
    let place = after.map(|at| words[at + 1..].join(" ")).unwrap_or_default();
    let place = place.trim_end_matches(['.', '?', '!']);
    if place.is_empty() { "Paris".to_owned() } else { place.to_owned() }
}

/// Arguments that fit the tool's schema: the place for free strings, the first of an enumeration, else something small.
/// Optional ones are left out, unless nothing is required.
fn arguments(tool: &Tool, place: &str) -> Value {
    let Some(properties) = tool.schema["properties"].as_object() else { return json!({}) };
    let required: Vec<&str> =
        tool.schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let wanted = |name: &str| required.is_empty() || required.contains(&name);
    let value = |schema: &Value| {
        if let Some(first) = schema["enum"].get(0) {
            return first.clone();
        }
        match schema["type"].as_str() {
            Some("integer" | "number") => json!(1),
            Some("boolean") => json!(true),
            Some("array") => json!([]),
            Some("object") => json!({}),
            _ => json!(place),
        }
    };
    let arguments: Map<_, _> = properties
        .iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, schema)| (name.clone(), value(schema)))
        .collect();
    Value::Object(arguments)
}

/// The `answer` of the document that a critic or reviser is given; the whole text if it is no such document.
fn examined(user: &str) -> String {
    let document = serde_json::from_str::<Value>(user).ok();
    document.and_then(|document| document["answer"].as_str().map(str::to_owned)).unwrap_or_else(|| user.to_owned())
}

fn is_insulting(text: &str) -> bool {
    let text = text.to_lowercase();
    INSULTING.iter().any(|word| text.contains(word))
}

fn critique(user: &str) -> Value {
    let answer = examined(user);
    match sentences(&answer).find(|sentence| is_insulting(sentence)) {
        Some(place) => json!({
            "violated": true,
            "where": place.trim(),
            "why": "It insults the reader. (Wardline's demo upstream finds that by a list of words.)",
        }),
        None => {
            json!({"violated": false, "where": "", "why": "It holds none of the words that the demo upstream knows as insults."})
        }
    }
}

fn revise(answer: &str) -> String {
    let kept: String = sentences(answer).filter(|sentence| !is_insulting(sentence)).collect();
    if kept.trim().is_empty() { CIVIL.to_owned() } else { kept.trim().to_owned() }
}

/// Sentences with what ends them.
fn sentences(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(['.', '!', '?', '\n'])
}

fn sentence(text: &str) -> String {
    let text = text.trim();
    if text.ends_with(['.', '!', '?']) { text.to_owned() } else { format!("{text}.") }
}

/// Words, each with the white space before it; one is about a token.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    let mut in_word = false;
    for c in text.chars() {
        match pieces.last_mut() {
            Some(piece) if !(in_word && c.is_whitespace()) => piece.push(c),
            _ => pieces.push(c.to_string()),
        }
        in_word = !c.is_whitespace();
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_text() {
        for text in ["", " ", "one", "  one two\n\nthree ", "é 好 🙂"] {
            assert_eq!(pieces(text).concat(), text);
        }
        assert_eq!(pieces("a bc  d"), ["a", " bc", "  d"]);
    }

    #[test]
    fn critic_and_reviser_find_the_stand_ins_own_insults_and_no_others() {
        let document = |answer: &str| json!({"principle": "be civil, no idiot", "answer": answer}).to_string();
        assert_eq!(critique(&document(INSULT))["violated"], true);
        assert_eq!(critique(&document(CIVIL))["violated"], false);
        assert_eq!(critique(&document(&ordinary("x")))["violated"], false);
        assert_eq!(revise(INSULT), CIVIL);
        assert_eq!(revise("Bread needs time. You idiot! Flour too."), "Bread needs time. Flour too.");
        assert!(!is_insulting(CIVIL));
    }

    #[test]
    fn topics_and_places() {
        assert_eq!(topic("Please tell me about the sea."), "“the sea”");
        assert_eq!(topic("How do I bake bread?"), "“bake bread”");
        assert_eq!(topic("?"), "nothing in particular");
        assert_eq!(place("What is the weather in New York?"), "New York");
        assert_eq!(place("weather in"), "Paris");
    }

    #[test]
    fn arguments_fit_the_schema() {
        let schema = json!({"type": "object", "properties": {
            "location": {"type": "string"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            "days": {"type": "integer"}, "note": {"type": "string"},
        }, "required": ["location", "unit", "days"]});
        let tool = Tool { name: "w".into(), schema };
        assert_eq!(arguments(&tool, "Oslo"), json!({"location": "Oslo", "unit": "celsius", "days": 1}));
    }
}
