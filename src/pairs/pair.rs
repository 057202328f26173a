//! The row.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::pairs::sample::fraction;
use crate::pairs::timestamp::rfc3339;

/// One preference: TRL's explicit-prompt conversational preference, with side columns that trainers leave aside.
///
/// Serialised by serde, one row is one object whose columns are always the same. Messages are in `OpenAI`'s shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The conversation as the user sent it: without the constitution, whose hash is in [`Meta`].
    pub prompt: Vec<Value>,
    /// The better answer: one assistant message.
    pub chosen: Vec<Value>,
    /// The worse answer: one assistant message.
    pub rejected: Vec<Value>,
    /// The violated rule's score of the better answer, where the rule has scores.
    pub score_chosen: Option<f32>,
    /// The same of the worse answer.
    pub score_rejected: Option<f32>,
    /// By how much the worse answer scored higher.
    pub margin: Option<f32>,
    /// The tools that the model could call, as a JSON string.
    pub tools: Option<String>,
    /// Where the row comes from.
    pub meta: Meta,
}

/// Where a row comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// Unique, and sorted by time (UUID version 7).
    pub pair_id: String,
    /// The exchange.
    pub request_id: String,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// What made the pair.
    pub source: Source,
    /// The principle that the rejected answer violated.
    pub principle_id: Option<String>,
    /// What the critic said of the rejected answer.
    pub critique: Option<String>,
    /// Policy name.
    pub policy: String,
    /// The policy's revision when the request came.
    pub policy_rev: String,
    /// SHA-256 of the constitution that was put before the prompt, in hexadecimal; nothing if there was none.
    pub constitution_sha256: Option<String>,
    /// The model that was asked for.
    pub model: String,
    /// The configured upstream's name.
    pub provider: String,
    /// The guards that had a say.
    pub guards: Vec<GuardScore>,
    /// The share of requests that was sampled, for weighting.
    pub sample_rate: f64,
    /// Which redaction ran over the texts, e.g. `pii_v1`.
    pub redaction: String,
    /// Hashed from the conversation's beginning, so that no conversation is in two splits.
    pub split: Split,
}

/// What made a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// An answer was criticised under a principle and revised.
    Revision,
}

/// One guard's verdict on the rejected answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuardScore {
    /// Rule or label.
    pub id: String,
    /// `input` or `output`.
    pub stage: String,
    /// Nothing for a guard that does not score.
    pub score: Option<f32>,
    /// The same.
    pub threshold: Option<f32>,
}

/// Which part of a data set a row belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// 90 of 100 conversations.
    Train,
    /// 5 of 100.
    Val,
    /// 5 of 100.
    Test,
}

/// What a row is made from. Texts are as they came: [`Pair::new`] redacts them.
#[derive(Clone, Debug)]
pub struct Draft {
    /// See [`Pair::prompt`].
    pub prompt: Vec<Value>,
    /// The better answer's text.
    pub chosen: String,
    /// The worse answer's text.
    pub rejected: String,
    /// See [`Pair::score_chosen`].
    pub score_chosen: Option<f32>,
    /// See [`Pair::score_rejected`].
    pub score_rejected: Option<f32>,
    /// The request's tools.
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
    /// The name of the redaction that [`Pair::new`] is given. See [`Meta::redaction`].
    pub redaction: &'static str,
}

impl Pair {
    /// Makes a row. `redact` gets every text of it that someone outside has written (messages with all that is in them,
    /// tools, critique, the name of the model) and returns its replacement, or nothing where it is to stay.
    pub fn new(draft: Draft, redact: &dyn Fn(&str) -> Option<String>) -> Self {
        let clean = |text: String| redact(&text).unwrap_or(text);
        let split = split(&draft.prompt);
        let mut prompt = draft.prompt;
        for message in &mut prompt {
            redact_message(message, redact);
        }
        let tools = draft.tools.map(|mut tools| {
            redact_leaves(&mut tools, redact);
            tools.to_string()
        });
        let answer = |text: String| vec![serde_json::json!({"role": "assistant", "content": clean(text)})];
        Self {
            prompt,
            chosen: answer(draft.chosen),
            rejected: answer(draft.rejected),
            score_chosen: draft.score_chosen,
            score_rejected: draft.score_rejected,
            margin: draft.score_rejected.zip(draft.score_chosen).map(|(rejected, chosen)| rejected - chosen),
            tools,
            meta: Meta {
                pair_id: Uuid::now_v7().to_string(),
                request_id: draft.request_id,
                created_at: rfc3339(SystemTime::now()),
                source: draft.source,
                principle_id: draft.principle_id,
                critique: draft.critique.map(clean),
                policy: draft.policy,
                policy_rev: draft.policy_rev,
                constitution_sha256: (!draft.constitution.is_empty()).then(|| sha256(&draft.constitution)),
                model: clean(draft.model),
                provider: draft.provider,
                guards: draft.guards,
                sample_rate: draft.sample_rate,
                redaction: draft.redaction.into(),
                split,
            },
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
fn redact_message(message: &mut Value, redact: &dyn Fn(&str) -> Option<String>) {
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
    use serde_json::json;

    use super::*;

    pub(in crate::pairs) fn draft(request_id: &str) -> Draft {
        Draft {
            prompt: vec![
                json!({"role": "system", "content": "Be brief."}),
                json!({"role": "user", "content": [{"type": "text", "text": "I am secret, mail secret"}]}),
            ],
            chosen: "No secret here".into(),
            rejected: "You secret!".into(),
            score_chosen: Some(0.25),
            score_rejected: Some(0.75),
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
        }
    }

    #[test]
    fn no_text_of_a_row_escapes_redaction() {
        let pair = Pair::new(draft("req_1"), &|text| text.contains("secret").then(|| text.replace("secret", "[S]")));
        let line = serde_json::to_string(&pair).unwrap();
        assert!(!line.contains("secret"), "{line}");
        assert_eq!(line.matches("[S]").count(), 8, "{line}");
        assert_eq!(pair.prompt[0], json!({"role": "system", "content": "Be brief."}));
        assert_eq!(serde_json::from_str::<Pair>(&line).unwrap(), pair);
    }

    #[test]
    fn a_role_is_not_a_text() {
        let pair = Pair::new(draft("req_1"), &|_| Some("x".into()));
        assert_eq!(
            (&pair.prompt[1]["role"], &pair.chosen[0]),
            (&json!("user"), &json!({"role": "assistant", "content": "x"}))
        );
    }

    #[test]
    fn side_columns() {
        let pair = Pair::new(draft("req_1"), &|_| None);
        assert_eq!(pair.margin, Some(0.5));
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(pair.meta.constitution_sha256.as_deref(), Some(abc));
        assert_eq!(Uuid::parse_str(&pair.meta.pair_id).unwrap().get_version_num(), 7);
        assert_ne!(pair.meta.pair_id, Pair::new(draft("req_1"), &|_| None).meta.pair_id);
        let bare = Draft { score_chosen: None, constitution: String::new(), ..draft("req_1") };
        let bare = serde_json::to_value(Pair::new(bare, &|_| None)).unwrap();
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
