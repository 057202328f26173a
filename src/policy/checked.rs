//! A policy after checking: what the rest of the gateway reads. Nothing here is optional unless absence means something.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::when::When;
use crate::api::{Dialect, InjectRole, Origin, Stored};

/// What one policy file says, checked against the models and recognisers at hand.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Policy {
    /// The file's stem.
    pub name: String,
    /// Twelve hex digits of the SHA-256 over everything else in here: the same effect, the same revision, whatever the
    /// file's comments and layout.
    #[serde(skip)]
    pub revision: String,
    /// For people.
    pub description: String,
    /// What is written into every upstream request.
    pub constitution: Constitution,
    /// The role in which the constitution is injected.
    pub inject: Role,
    /// When a prompt goes up.
    pub input: InputMode,
    /// In the file's order.
    pub rules: Vec<Rule>,
    /// What a blocked client sees.
    pub respond: Respond,
    /// How a stream is cut for judging.
    pub stream: StreamSettings,
    /// How a violating answer is revised.
    pub revise: ReviseSettings,
    /// Preference pairs.
    pub pairs: PairSettings,
    /// How two answers are compared.
    pub judge: JudgeSettings,
    /// What requests may name of the provider's store.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stored_state: Vec<Stored>,
    /// Model names that get a metric label of their own; all others count as `other`.
    pub models: Vec<String>,
}

impl Policy {
    /// Writes the revision of everything that is set. The bytes hashed are the compact JSON of it, in the order of the
    /// fields here.
    pub(super) fn sealed(mut self) -> Result<Self, serde_json::Error> {
        let digest = Sha256::digest(serde_json::to_vec(&self)?);
        for byte in digest.iter().take(6) {
            let _ = write!(self.revision, "{byte:02x}");
        }
        Ok(self)
    }
}

/// Principles, and the text that models read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Constitution {
    /// All of it as injected, byte for byte; empty if there is nothing to inject.
    pub text: String,
    /// In the file's order.
    pub principles: Vec<Principle>,
}

/// One principle, with what to ask when an answer goes against it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Principle {
    /// Unique within the policy.
    pub id: String,
    /// The principle itself.
    pub text: String,
    /// Critique request.
    pub critique: String,
    /// Revision request.
    pub revision: String,
}

/// One guard, when it looks, and what follows from a hit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rule {
    /// Unique within the policy.
    pub id: String,
    /// Who judges.
    pub guard: Guard,
    /// When.
    pub stages: Stages,
    /// Whose text; `None` is everybody's.
    pub origins: Option<Vec<Origin>>,
    /// For a classifier: bounds of origins that have their own, in place of the guard's; label by label as there.
    pub by_origin: Vec<(Origin, Vec<Bound>)>,
    /// What a hit leads to.
    pub action: Action,
    /// Whether it does, or is only counted.
    pub mode: Mode,
    /// On which requests and texts it looks; everywhere if it does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<When>,
    /// The share of the requests that it looks at, in (0, 1].
    pub sampling: f64,
    /// What a guard that cannot judge leads to.
    pub on_error: OnError,
    /// How long the guard may take over all texts of a prompt or whole answer, or over one window of a stream.
    pub timeout: Duration,
    /// Index into the constitution's principles; set exactly for `revise`.
    pub principle: Option<usize>,
    /// The sentence for the client, if not the policy's own.
    pub message: Option<String>,
}

impl Rule {
    /// Whether a request is in the rule's sample. The same request always is or is not, and the sample of a larger share
    /// has the smaller one's in it.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit into an f64")]
    pub fn samples(&self, request_id: &str) -> bool {
        if self.sampling >= 1.0 {
            return true;
        }
        let mut hasher = blake3::Hasher::new_derive_key("wardline rule sample v1");
        let mut eight = [0; 8];
        hasher.update(self.id.as_bytes()).update(b"\0").update(request_id.as_bytes()).finalize_xof().fill(&mut eight);
        ((u64::from_le_bytes(eight) >> 11) as f64 / (1u64 << 53) as f64) < self.sampling
    }

    /// The bounds that hold for texts of an origin; none for a guard that has no scores.
    pub fn bounds(&self, origin: Origin) -> &[Bound] {
        let own = self.by_origin.iter().find(|(of, _)| *of == origin).map(|(_, bounds)| bounds.as_slice());
        match &self.guard {
            Guard::Classifier { labels } => own.unwrap_or(labels),
            Guard::Pattern { .. } => &[],
        }
    }
}

/// Who judges.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    /// Some labels of the classifier; never empty.
    Classifier {
        /// Each with its threshold.
        labels: Vec<Bound>,
    },
    /// Recognisers and regular expressions; never both empty.
    Pattern {
        /// Names of built-in recognisers.
        entities: Vec<String>,
        /// The operator's own.
        patterns: Vec<Pattern>,
    },
}

/// A label and the score from which on it counts as a hit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bound {
    /// Index into the labels that the policy was checked against.
    pub label: usize,
    /// `head.label`.
    pub name: String,
    /// In (0, 1]; a score that equals it is a hit.
    pub threshold: f32,
    /// Below the threshold: a score from here on is a warning.
    pub warn: Option<f32>,
}

/// A named regular expression.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pattern {
    /// Stands in verdicts and placeholders; unique within its rule and no built-in entity.
    pub id: String,
    /// Compiles in the syntax of the `regex` crate and does not match the empty text.
    pub regex: String,
}

/// When a rule looks; at least one is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stages {
    /// Prompts, before they go up.
    pub input: bool,
    /// Answers, before they go down.
    pub output: bool,
}

impl Stages {
    /// Where the texts of an answer can come from.
    pub(super) const OF_ANSWERS: [Origin; 4] = [Origin::Output, Origin::Reasoning, Origin::ToolArgs, Origin::Other];

    /// Whether a text of this origin can come in one of them.
    pub fn meet(self, origin: Origin) -> bool {
        self.input && origin != Origin::Output || self.output && Self::OF_ANSWERS.contains(&origin)
    }
}

/// What a hit leads to, mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is counted and logged.
    Audit,
    /// What was found is replaced.
    Redact,
    /// The answer is criticised and revised.
    Revise,
    /// The request or answer is refused.
    Block,
}

impl Action {
    /// The word in files, headers and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Redact => "redact",
            Self::Revise => "revise",
            Self::Block => "block",
        }
    }
}

/// Whether a rule acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It does.
    #[default]
    Enforce,
    /// It judges and is counted, and changes nothing.
    Shadow,
}

impl Mode {
    /// The word in files and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Shadow => "shadow",
        }
    }
}

/// What follows when a guard breaks or takes too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The text is refused.
    #[default]
    Closed,
    /// The text passes, and the pass is counted.
    Open,
}

impl OnError {
    /// The word in files and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
        }
    }
}

/// The role in which the constitution is injected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// What the dialect and the model understand.
    #[default]
    Auto,
    /// `system`.
    System,
    /// `developer`.
    Developer,
}

/// When a prompt goes up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InputMode {
    /// After its verdict.
    #[default]
    Gate,
    /// Beside it, where no guard edits prompts and the call does nothing but answer. Nothing comes down before the
    /// verdict.
    Race,
}

impl Role {
    /// As requests are told it.
    pub fn inject(self) -> InjectRole {
        match self {
            Self::Auto => InjectRole::Auto,
            Self::System => InjectRole::System,
            Self::Developer => InjectRole::Developer,
        }
    }
}

/// What a blocked client sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Respond {
    /// For a prompt.
    pub on_input_block: InputBlock,
    /// For an answer.
    pub on_output_block: OutputBlock,
    /// For an earlier turn that was blocked before and comes again with the conversation.
    pub on_replayed_block: ReplayedBlock,
    /// One sentence for people.
    pub message: String,
    /// How much of the decision the client is told.
    pub disclose: Disclose,
    /// When a body carries the `guardrail` annotation.
    pub annotate: Annotate,
}

/// The shape of a blocked prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InputBlock {
    /// A 400 in the dialect's own shape.
    #[default]
    Error,
    /// An answer that says no.
    Refusal,
}

/// What becomes of an earlier turn that was blocked when it was new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayedBlock {
    /// The request is refused, as then.
    Refuse,
    /// Its message is left out; a notice stands there where that would break the conversation.
    Drop,
    /// A notice stands in its place.
    #[default]
    Notice,
}

/// The shape of a blocked answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputBlock {
    /// It ends as filtered, in the dialect's own way.
    #[default]
    ContentFilter,
    /// It ends as refused by the assistant.
    Refusal,
}

/// How much of a decision the client is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Disclose {
    /// Nothing but the message.
    None,
    /// What was done.
    #[default]
    Action,
    /// Also rule, score and threshold.
    Full,
}

/// When a body carries the `guardrail` annotation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Annotate {
    /// Never.
    None,
    /// When something was done.
    #[default]
    OnAction,
    /// Always.
    Always,
}

/// How a stream is cut for judging; all lengths in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StreamSettings {
    /// The first window is short, so that the first words come soon.
    pub first_window_chars: u32,
    /// Text is judged when so much is held, or at the end of a sentence.
    pub window_chars: u32,
    /// How long windows become while what is judged scores low; at least `window_chars`.
    pub max_window_chars: u32,
    /// How much of the prompt's end classifiers see before each window.
    pub prompt_chars: u32,
    /// How much of what went before is judged again with each window; at most `window_chars`, so that work stays linear.
    pub overlap_chars: u32,
    /// Text held this long is judged, however short.
    pub hold: Duration,
}

/// How a violating answer is revised.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReviseSettings {
    /// Critiques at most, each with the revision that it asks for; at least 1.
    pub rounds: u32,
    /// The configured upstream that is asked; `None` is the one that answered.
    pub upstream: Option<String>,
    /// Who criticises and revises; `None` is the model that answered.
    pub model: Option<String>,
    /// Which answers are revised.
    pub when: ReviseWhen,
    /// What follows where an answer that no rule objects to should be revised and cannot be.
    pub on_error: OnError,
    /// What happens to an answer that is streamed.
    pub on_stream: OnStream,
    /// The part of the answers that no rule objects to, in [0, 1], which are criticised and revised after the client has
    /// got them: for the rows alone.
    pub shadow: f64,
    /// For all rounds together.
    pub timeout: Duration,
    /// Tokens that critic and reviser may write in all rounds together.
    pub max_tokens: u32,
}

impl ReviseSettings {
    /// Whether every answer of a dialect is criticised before anyone reads it.
    pub fn criticises_all(&self, dialect: Dialect) -> bool {
        dialect.is_answered() && self.when == ReviseWhen::Always
    }
}

/// Which answers are criticised and revised before anyone reads them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReviseWhen {
    /// Those that a rule with `action: revise` objects to.
    #[default]
    Violation,
    /// Every answer, under the principles in turn.
    Always,
}

/// What `revise` does to an answer that is streamed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnStream {
    /// Nothing is released before the whole answer has come and was judged, and revised if need be.
    Hold,
    /// What was released stays, and the revision goes on from there.
    Repair,
    /// The stream is ended as blocked.
    #[default]
    Block,
}

/// Preference pairs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairSettings {
    /// The part of the requests whose revised or blocked answers are kept, in [0, 1].
    pub rate: f64,
    /// How many rows a principle may leave in a day (UTC) of one process; a rule without one counts for itself.
    pub per_principle_per_day: Option<u32>,
    /// The same of a user.
    pub per_user_per_day: Option<u32>,
    /// The same of a tenant, or of a client's key that is no tenant's.
    pub per_client_per_day: Option<u32>,
    /// The part of the requests whose answers people may rate, in [0, 1]; at most [`PairSettings::rate`] counts.
    pub feedback: f64,
    /// Second answers, drawn to be compared.
    pub compare: CompareSettings,
    /// Who has to agree that rows are kept.
    pub consent: Consent,
    /// Whose prompt a row holds.
    pub prompt: PromptAs,
}

/// Second answers that are drawn to be compared with the first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CompareSettings {
    /// The part of the requests that a second answer is drawn for, in [0, 1]; at most [`PairSettings::rate`] counts.
    pub rate: f64,
    /// The configured upstream that gives it; `None` is the one that answered.
    pub upstream: Option<String>,
    /// The model that gives it; `None` is the one that answered.
    pub model: Option<String>,
    /// For the answer and both judgements together.
    pub timeout: Duration,
    /// Tokens that the answer may take.
    pub max_tokens: u32,
}

/// Who has to agree that rows of an exchange are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Consent {
    /// Nobody but the operator; a tenant that has said no is left out all the same.
    #[default]
    Operator,
    /// The tenant: only those count that have `pairs: true` in the process configuration.
    Tenant,
}

/// Whose prompt a row holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PromptAs {
    /// The user's: what was sent, so that a model learns to do without the constitution.
    #[default]
    Sent,
    /// The model's: the constitution stands before it as a system message.
    Seen,
}

/// How two answers are compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JudgeSettings {
    /// The configured upstream that is asked; `None` is the first one.
    pub upstream: Option<String>,
    /// Who judges; `None` where the caller has to say.
    pub model: Option<String>,
    /// How it is to weigh the principles.
    pub rubric: Option<String>,
    /// Tokens that each judgement may take.
    pub max_tokens: u32,
    /// Comparisons by people that the judge is shown.
    pub examples: Vec<JudgeExample>,
}

/// A comparison by people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JudgeExample {
    /// What was asked.
    pub prompt: String,
    /// One answer.
    pub first: String,
    /// The other.
    pub second: String,
    /// Why it got its score.
    pub reasoning: String,
    /// From 1 (the first is much better) to 9 (the second is).
    pub score: u8,
}

/// What a policy may speak of: plain values, so that this room need not know the rooms that they come from.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The classifier's labels, in its order.
    pub labels: Vec<KnownLabel>,
    /// Names of the built-in recognisers.
    pub entities: Vec<String>,
    /// Upstreams that a policy may name: those that have a key of their own, so that no client's key goes astray.
    pub upstreams: Vec<String>,
    /// Tenants, by name.
    pub tenants: Vec<String>,
}

/// One label of the classifier.
#[derive(Clone, Debug, Default)]
pub struct KnownLabel {
    /// The head it belongs to, e.g. `harm`.
    pub head: String,
    /// Its name within the head, e.g. `hate`.
    pub name: String,
    /// Thresholds that the model's manifest has calibrated, by name. Empty for a label that nobody should act on
    /// unasked, such as `benign`.
    pub thresholds: BTreeMap<String, f32>,
}
