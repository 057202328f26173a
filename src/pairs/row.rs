//! The rows: a preference where there are two answers, an unpaired row where there is one.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One line of the spool.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Row {
    /// Two answers.
    Pair(Box<Pair>),
    /// One answer.
    Unpaired(Box<Unpaired>),
}

impl Row {
    /// Where it comes from.
    pub fn meta(&self) -> &Meta {
        match self {
            Self::Pair(pair) => &pair.meta,
            Self::Unpaired(unpaired) => &unpaired.meta,
        }
    }

    /// The conversation before the answers.
    pub fn prompt(&self) -> &[Value] {
        match self {
            Self::Pair(pair) => &pair.prompt,
            Self::Unpaired(unpaired) => &unpaired.prompt,
        }
    }

    /// Reads one line; a row that has a `completion` is unpaired.
    pub fn read(line: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Kind {
            completion: Option<serde::de::IgnoredAny>,
        }
        let kind: Kind = serde_json::from_slice(line)?;
        match kind.completion {
            Some(_) => serde_json::from_slice(line).map(Self::Unpaired),
            None => serde_json::from_slice(line).map(Self::Pair),
        }
    }
}

/// One answer that was judged, and no better one to hold against it: TRL's unpaired preference, with side columns.
///
/// A blocked answer is such a row. It never becomes a pair with a made-up refusal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unpaired {
    /// See [`Pair::prompt`].
    pub prompt: Vec<Value>,
    /// The answer: one assistant message.
    pub completion: Vec<Value>,
    /// Whether it was a good one.
    pub label: bool,
    /// The deciding rule's score of it, where the rule has scores.
    pub score: Option<f32>,
    /// See [`Pair::tools`].
    pub tools: Option<String>,
    /// Where the row comes from.
    pub meta: Meta,
}

/// A preference: TRL's explicit-prompt conversational preference, with side columns that trainers leave aside.
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
    /// The violated rule's score of the better answer, where the rule has scores; of two answers that a judge compared, the
    /// judge's, from 0 (the best) to 1.
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
    /// Who agreed that the row is kept.
    #[serde(default)]
    pub consent: Consent,
    /// The configured tenant whose request it was, where tenants are configured.
    #[serde(default)]
    pub tenant: Option<String>,
    /// Keyed hash of the user's id that the request names; nothing where it names none.
    #[serde(default)]
    pub user: Option<String>,
    /// How the person who made the row said so; nothing where no person did.
    #[serde(default)]
    pub signal: Option<Signal>,
    /// What the person did: `thumbs_up`, `copy`, `demonstration` and the like.
    #[serde(default)]
    pub event: Option<String>,
    /// From 1 to 5, where the person rated the answer.
    #[serde(default)]
    pub rating: Option<u8>,
    /// What the person said of it.
    #[serde(default)]
    pub comment: Option<String>,
    /// From 1 to 9, above 5: by how much a judge prefers the chosen answer, where a judge made the pair.
    #[serde(default)]
    pub judged: Option<f32>,
    /// From -4 to 4: by how much that judge leaned to the second place (above 0) or to the first, whatever stood there.
    #[serde(default)]
    pub lean: Option<f32>,
    /// The model that judged.
    #[serde(default)]
    pub judge: Option<String>,
    /// Which of the two answers the client did not get: it was drawn to be compared.
    #[serde(default)]
    pub second: Option<Side>,
    /// The model that gave that answer.
    #[serde(default)]
    pub second_model: Option<String>,
    /// Hashed from the conversation's beginning, so that no conversation is in two splits.
    pub split: Split,
    /// What makes the row doubtful; exports leave tagged rows out unless they are told otherwise.
    #[serde(default)]
    pub tags: Vec<Tag>,
}

/// One of a pair's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The better one.
    Chosen,
    /// The worse one.
    Rejected,
}

/// What makes a row doubtful.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tag {
    /// The exchange ended before the answer was complete: the client left, or a rule cut the stream off.
    Aborted,
    /// The upstream cut the answer off at the token limit.
    Truncated,
    /// A guard could not judge, and its rule lets text pass then.
    FailedOpen,
    /// Another policy revision came into force while the exchange was under way.
    MixedRevision,
    /// The judge's two orders prefer different answers: the place decided.
    PositionBias,
    /// The answer calls tools: not every training tool has a place for that.
    ToolCalls,
}

impl Tag {
    /// Every tag.
    pub const ALL: [Self; 6] =
        [Self::Aborted, Self::Truncated, Self::FailedOpen, Self::MixedRevision, Self::PositionBias, Self::ToolCalls];

    /// The word in rows and options.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::Truncated => "truncated",
            Self::FailedOpen => "failed_open",
            Self::MixedRevision => "mixed_revision",
            Self::PositionBias => "position_bias",
            Self::ToolCalls => "tool_calls",
        }
    }
}

/// What made a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// An answer was criticised under a principle and revised.
    Revision,
    /// An answer was blocked.
    Block,
    /// An answer that no rule objected to was criticised and revised after the client had got it.
    Shadow,
    /// A person rated an answer, gave a better one, or chose between two.
    Feedback,
    /// A second answer was drawn, and a judge preferred one of the two.
    Resample,
}

impl Source {
    /// The word in rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Revision => "revision",
            Self::Block => "block",
            Self::Shadow => "shadow",
            Self::Feedback => "feedback",
            Self::Resample => "resample",
        }
    }
}

/// Who agreed that a row is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consent {
    /// The operator, for all traffic.
    #[default]
    Operator,
    /// The tenant whose request it was.
    TenantOptIn,
}

/// How a person's judgement came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// The person was asked, or said so.
    Explicit,
    /// It is read from what the person did.
    Implicit,
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
