//! From what the gateway saw to a row: redacted, dated, assigned to its split.

use std::time::SystemTime;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::pairs::row::{Consent, GuardScore, Meta, Pair, Row, Side, Signal, Source, Split, Tag, Unpaired};
use crate::pairs::sample::fraction;
use crate::pairs::timestamp::rfc3339;

/// What a row is made from. Texts are as they came: [`Draft::into_row`] redacts them.
#[derive(Clone, Debug)]
pub struct Draft {
    /// See [`Pair::prompt`].
    pub prompt: Vec<Value>,
    /// What was answered.
    pub answers: Answers,
    /// See [`Pair::tools`].
    pub tools: Option<Value>,
    /// See [`Meta::request_id`].
    pub request_id: String,
    /// See [`Meta::source`].
    pub source: Source,
    /// See [`Meta::principle_id`].
    pub principle_id: Option<String>,
    /// See [`Meta::critique`].
    pub critique: Option<String>,
    /// See [`Meta::policy`].
    pub policy: String,
    /// See [`Meta::policy_rev`].
    pub policy_rev: String,
    /// The constitution as it was injected; empty if there was none. Only its hash is kept.
    pub constitution: String,
    /// See [`Meta::model`].
    pub model: String,
    /// See [`Meta::provider`].
    pub provider: String,
    /// See [`Meta::guards`].
    pub guards: Vec<GuardScore>,
    /// See [`Meta::sample_rate`].
    pub sample_rate: f64,
    /// The name of the redaction that [`Draft::into_row`] is given. See [`Meta::redaction`].
    pub redaction: &'static str,
    /// See [`Meta::consent`].
    pub consent: Consent,
    /// See [`Meta::tenant`].
    pub tenant: Option<String>,
    /// See [`Meta::user`].
    pub user: Option<String>,
    /// What a person said of the answer.
    pub word: Option<Word>,
    /// What a judge made of two answers.
    pub judgement: Option<Judgement>,
    /// See [`Meta::tags`].
    pub tags: Vec<Tag>,
}

/// What a judge made of two answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// See [`Meta::judged`].
    pub judged: f32,
    /// See [`Meta::lean`].
    pub lean: f32,
    /// See [`Meta::judge`].
    pub judge: String,
    /// See [`Meta::second`].
    pub second: Side,
    /// See [`Meta::second_model`].
    pub second_model: String,
}

/// What a person said of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Word {
    /// See [`Meta::signal`].
    pub signal: Signal,
    /// See [`Meta::event`].
    pub event: &'static str,
    /// See [`Meta::rating`].
    pub rating: Option<u8>,
    /// See [`Meta::comment`].
    pub comment: Option<String>,
}

/// One answer or two; each text with the score of the deciding rule, where that has scores.
#[derive(Clone, Debug, PartialEq)]
pub enum Answers {
    /// The better and the worse one.
    Both {
        /// The better answer.
        chosen: (Said, Option<f32>),
        /// The worse answer.
        rejected: (Said, Option<f32>),
    },
    /// An answer that was refused, and no other.
    Refused((Said, Option<f32>)),
    /// An answer that a person found good (`true`) or bad, and no other.
    Rated(Said, bool),
}

/// An answer: its text, and the calls of tools that came with it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// May be empty where there are calls.
    pub text: String,
    /// In `OpenAI`'s shape.
    pub calls: Vec<Value>,
}

impl Said {
    /// As an assistant's message in `OpenAI`'s shape.
    pub fn message(self) -> Value {
        let Self { text, calls } = self;
        if calls.is_empty() {
            return json!({"role": "assistant", "content": text});
        }
        let content = Some(text).filter(|text| !text.is_empty());
        json!({"role": "assistant", "content": content, "tool_calls": calls})
    }
}

impl<T: Into<String>> From<T> for Said {
    fn from(text: T) -> Self {
        Self { text: text.into(), calls: Vec::new() }
    }
}

impl Draft {
    /// Makes a row. `redact` gets every text of it that someone outside has written (messages with all that is in them,
    /// tools, critique, the name of the model) and returns its replacement, or nothing where it is to stay.
    pub fn into_row(self, redact: &dyn Fn(&str) -> Option<String>) -> Row {
        let clean = |text: String| redact(&text).unwrap_or(text);
        let answer = |Said { text, mut calls }: Said| {
            for call in &mut calls {
                redact_leaves(call, redact);
            }
            vec![Said { text: clean(text), calls }.message()]
        };
        let split = split(&self.prompt);
        let mut prompt = self.prompt;
        for message in &mut prompt {
            redact_message(message, redact);
        }
        let tools = self.tools.map(|mut tools| {
            redact_leaves(&mut tools, redact);
            tools.to_string()
        });
        let meta = Meta {
            pair_id: Uuid::now_v7().to_string(),
            request_id: self.request_id,
            created_at: rfc3339(SystemTime::now()),
            source: self.source,
            principle_id: self.principle_id,
            critique: self.critique.map(clean),
            policy: self.policy,
            policy_rev: self.policy_rev,
            constitution_sha256: (!self.constitution.is_empty()).then(|| sha256(&self.constitution)),
            model: clean(self.model),
            provider: self.provider,
            guards: self.guards,
            sample_rate: self.sample_rate,
            redaction: self.redaction.into(),
            consent: self.consent,
            tenant: self.tenant,
            user: self.user,
            signal: self.word.as_ref().map(|word| word.signal),
            event: self.word.as_ref().map(|word| word.event.to_owned()),
            rating: self.word.as_ref().and_then(|word| word.rating),
            comment: self.word.and_then(|word| word.comment).map(clean),
            judged: self.judgement.as_ref().map(|judgement| judgement.judged),
            lean: self.judgement.as_ref().map(|judgement| judgement.lean),
            judge: self.judgement.as_ref().map(|judgement| judgement.judge.clone()),
            second: self.judgement.as_ref().map(|judgement| judgement.second),
            second_model: self.judgement.map(|judgement| judgement.second_model).map(clean),
            split,
            tags: self.tags,
        };
        match self.answers {
            Answers::Both { chosen: (chosen, score_chosen), rejected: (rejected, score_rejected) } => {
                Row::Pair(Box::new(Pair {
                    prompt,
                    chosen: answer(chosen),
                    rejected: answer(rejected),
                    score_chosen,
                    score_rejected,
                    margin: score_rejected.zip(score_chosen).map(|(rejected, chosen)| rejected - chosen),
                    tools,
                    meta,
                }))
            }
            Answers::Refused((text, score)) => {
                let completion = answer(text);
                Row::Unpaired(Box::new(Unpaired { prompt, completion, label: false, score, tools, meta }))
            }
            Answers::Rated(text, label) => {
                let completion = answer(text);
                Row::Unpaired(Box::new(Unpaired { prompt, completion, label, score: None, tools, meta }))
            }
        }
    }
}

/// A conversation is known by what it began with: all messages up to the first of the user's. It grows behind that.
fn split(prompt: &[Value]) -> Split {
    let first_user = prompt.iter().position(|message| message["role"] == "user").unwrap_or(0);
    let beginning = prompt.iter().take(first_user + 1).map(Value::to_string).collect::<Vec<_>>().join("\n");
    match fraction("wardline pairs split v1", beginning.as_bytes()) {
        below if below < 0.9 => Split::Train,
        below if below < 0.95 => Split::Val,
        _ => Split::Test,
    }
}

/// A role is one of the protocol's words, not a text.
pub(in crate::pairs) fn redact_message(message: &mut Value, redact: &dyn Fn(&str) -> Option<String>) {
    let role = message.as_object_mut().and_then(|members| members.shift_remove("role"));
    redact_leaves(message, redact);
    if let (Some(role), Some(members)) = (role, message.as_object_mut()) {
        members.shift_insert(0, "role".into(), role);
    }
}

/// Redacts every string and every key. Recursion is as deep as the value, which was read under a cap.
fn redact_leaves(value: &mut Value, redact: &dyn Fn(&str) -> Option<String>) {
    match value {
        Value::String(text) => {
            if let Some(clean) = redact(text) {
                *text = clean;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| redact_leaves(item, redact)),
        Value::Object(members) => {
            members.values_mut().for_each(|member| redact_leaves(member, redact));
            if members.keys().any(|key| redact(key).is_some()) {
                *members =
                    std::mem::take(members).into_iter().map(|(key, v)| (redact(&key).unwrap_or(key), v)).collect();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn sha256(text: &str) -> String {
    use std::fmt::Write as _;
    Sha256::digest(text).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
pub(in crate::pairs) mod tests {
    use super::*;

    pub(in crate::pairs) fn draft(request_id: &str) -> Draft {
        Draft {
            prompt: vec![
                json!({"role": "system", "content": "Be brief."}),
                json!({"role": "user", "content": [{"type": "text", "text": "I am secret, mail secret"}]}),
            ],
            answers: Answers::Both {
                chosen: ("No secret here".into(), Some(0.25)),
                rejected: ("You secret!".into(), Some(0.75)),
            },
            tools: Some(json!([{"name": "f", "parameters": {"secret": {"description": "the secret one"}}}])),
            request_id: request_id.into(),
            source: Source::Revision,
            principle_id: Some("be-civil".into()),
            critique: Some("It says secret.".into()),
            policy: "default".into(),
            policy_rev: "9f2c1e7".into(),
            constitution: "abc".into(),
            model: "m-secret".into(),
            provider: "demo".into(),
            guards: vec![GuardScore {
                id: "harm.harassment".into(),
                stage: "output".into(),
                score: Some(0.75),
                threshold: Some(0.5),
            }],
            sample_rate: 0.05,
            redaction: "pii_v1",
            consent: Consent::Operator,
            tenant: None,
            user: None,
            word: None,
            judgement: None,
            tags: Vec::new(),
        }
    }

    /// The same with one answer only.
    pub(in crate::pairs) fn refused(request_id: &str) -> Draft {
        let answers = Answers::Refused(("You secret!".into(), Some(0.75)));
        Draft { answers, source: Source::Block, critique: None, tags: vec![Tag::Aborted], ..draft(request_id) }
    }

    pub(in crate::pairs) fn pair(draft: Draft, redact: &dyn Fn(&str) -> Option<String>) -> Pair {
        match draft.into_row(redact) {
            Row::Pair(pair) => *pair,
            Row::Unpaired(_) => panic!("a pair"),
        }
    }

    #[test]
    fn no_text_of_a_row_escapes_redaction() {
        let redact = |text: &str| text.contains("secret").then(|| text.replace("secret", "[S]"));
        let pair = pair(draft("req_1"), &redact);
        let line = serde_json::to_string(&pair).unwrap();
        assert!(!line.contains("secret"), "{line}");
        assert_eq!(line.matches("[S]").count(), 8, "{line}");
        assert_eq!(pair.prompt[0], json!({"role": "system", "content": "Be brief."}));
        assert_eq!(Row::read(line.as_bytes()).unwrap(), Row::Pair(Box::new(pair)));
        let unpaired = refused("req_1").into_row(&redact);
        let line = serde_json::to_string(&unpaired).unwrap();
        assert!(!line.contains("secret") && line.contains("You [S]!"), "{line}");
        assert_eq!(Row::read(line.as_bytes()).unwrap(), unpaired);
    }

    #[test]
    fn calls_of_tools_are_in_the_row_and_redacted() {
        let call =
            json!({"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"to\":\"secret\"}"}});
        let said = |text: &str| Said { text: text.into(), calls: vec![call.clone()] };
        let answers = Answers::Both { chosen: (said(""), None), rejected: (said("My secret."), None) };
        let pair = pair(Draft { answers, tags: vec![Tag::ToolCalls], ..draft("req_1") }, &|text| {
            text.contains("secret").then(|| text.replace("secret", "[S]"))
        });
        assert_eq!(pair.chosen[0]["content"], Value::Null);
        assert_eq!(pair.rejected[0]["content"], "My [S].");
        assert_eq!(pair.rejected[0]["tool_calls"][0]["function"]["arguments"], "{\"to\":\"[S]\"}");
        assert_eq!(crate::pairs::mistakes(&Row::Pair(Box::new(pair))), Vec::<String>::new());
    }

    #[test]
    fn what_a_person_said_is_marked_and_redacted() {
        let comment = Some("too secret".to_owned());
        let word = Word { signal: Signal::Explicit, event: "thumbs_up", rating: None, comment };
        let answers = Answers::Rated("fine".into(), true);
        let rated = Draft { answers, source: Source::Feedback, word: Some(word), ..draft("req_1") };
        let row = rated.into_row(&|text| text.contains("secret").then(|| text.replace("secret", "[S]")));
        let meta = row.meta();
        assert_eq!((meta.signal, meta.event.as_deref()), (Some(Signal::Explicit), Some("thumbs_up")));
        assert_eq!(meta.comment.as_deref(), Some("too [S]"));
        assert!(matches!(&row, Row::Unpaired(unpaired) if unpaired.label && unpaired.score.is_none()));
        assert_eq!(Row::read(&serde_json::to_vec(&row).unwrap()).unwrap(), row);
    }

    /// Rows of before a column was there are still read.
    #[test]
    fn a_row_without_the_later_columns_is_read() {
        let mut value = serde_json::to_value(pair(draft("req_1"), &|_| None)).unwrap();
        let judged = ["judged", "lean", "judge", "second", "second_model"];
        for later in ["consent", "tenant", "user", "signal", "event", "rating", "comment"].iter().chain(&judged) {
            assert!(value["meta"].as_object_mut().unwrap().remove(*later).is_some(), "{later}");
        }
        let read = Row::read(value.to_string().as_bytes()).unwrap();
        assert_eq!((read.meta().consent, &read.meta().user), (Consent::Operator, &None));
    }

    #[test]
    fn a_role_is_not_a_text() {
        let pair = pair(draft("req_1"), &|_| Some("x".into()));
        assert_eq!(
            (&pair.prompt[1]["role"], &pair.chosen[0]),
            (&json!("user"), &json!({"role": "assistant", "content": "x"}))
        );
    }

    #[test]
    fn side_columns() {
        let first = pair(draft("req_1"), &|_| None);
        assert_eq!(first.margin, Some(0.5));
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(first.meta.constitution_sha256.as_deref(), Some(abc));
        assert_eq!(Uuid::parse_str(&first.meta.pair_id).unwrap().get_version_num(), 7);
        assert_ne!(first.meta.pair_id, pair(draft("req_1"), &|_| None).meta.pair_id);
        let answers = Answers::Both { chosen: ("a".into(), None), rejected: ("b".into(), Some(0.5)) };
        let bare = Draft { answers, constitution: String::new(), ..draft("req_1") };
        let bare = serde_json::to_value(pair(bare, &|_| None)).unwrap();
        assert_eq!((&bare["margin"], &bare["meta"]["constitution_sha256"]), (&Value::Null, &Value::Null));
        assert_eq!(bare["meta"]["source"], "revision");
    }

    #[test]
    fn a_conversation_stays_in_its_split() {
        let mut seen = [0; 3];
        for i in 0..2000 {
            let mut prompt = vec![json!({"role": "system", "content": "s"}), json!({"role": "user", "content": i})];
            let before = split(&prompt);
            prompt.extend([json!({"role": "assistant", "content": "a"}), json!({"role": "user", "content": "next"})]);
            assert_eq!(split(&prompt), before);
            seen[before as usize] += 1;
        }
        assert!(seen[0] > 1700 && seen[1] > 50 && seen[2] > 50, "{seen:?}");
    }
}
