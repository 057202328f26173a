//! A policy file as it is written: one struct a section, nothing checked but types and field names.
//!
//! Every value that a later check can refuse is [`Spanned`], so that the refusal can point at it. Lists and sections that
//! may be left out have their default here; what the words mean is decided in `compile`. The descriptions are shown by
//! editors: the JSON Schema of policy files is made from these types.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::{
    Action, Annotate, Consent, Disclose, InputBlock, InputMode, Mode, OnError, OnStream, OutputBlock, PromptAs,
    ReplayedBlock, ReviseWhen, Role, constitution, embedded, inherit, rollout,
};
use crate::api::{Origin, Stored};
use crate::yaml::{Spanned, schema_of};

/// What ids and names look like; `Source::word` says it in words.
pub(super) const WORD: &str = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$";
/// What durations look like; their bounds are checked later.
const DURATION: &str = r"^[0-9]+(\.[0-9]+)?(ms|s|m)$";

/// The JSON Schema of policy files.
pub fn json_schema() -> serde_json::Value {
    schema_of::<File>("A Wardline policy")
}

/// Constitution, rules and settings of one policy. The file's name is the policy's.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a policy: a mapping with at least `rules`")]
#[schemars(rename = "Policy", extend("anyOf" = [{"required": ["rules"]}, {"required": ["extends"]}]))]
pub(super) struct File {
    /// By default the file's stem; if written it must be the same.
    #[serde(default, deserialize_with = "written")]
    #[schemars(regex(pattern = WORD))]
    pub(super) name: Option<Spanned<String>>,
    /// For people.
    #[serde(default)]
    pub(super) description: String,
    /// The file that this one builds on, by its path relative to this one. What is written here is put over what stands
    /// there: rules, principles and perspectives by `id`, cases by `prompt`, tests by `name`, each in the place of the one
    /// that it replaces, new ones behind the others (a principle behind those of its authority); the sections
    /// `constitution`, `inject`, `respond`, `stream`, `revise`, `pairs` and `judge` member by member; anything else as a
    /// whole. `name` and `rollout` are not inherited. A base that is no policy by itself lies in another directory.
    #[serde(default, deserialize_with = "written")]
    #[schemars(regex(pattern = r"^[^/].*\.ya?ml$"))]
    pub(super) extends: Option<Spanned<String>>,
    /// What of the base does not hold here.
    #[serde(default, deserialize_with = "written")]
    pub(super) remove: Option<Spanned<inherit::Remove>>,
    /// What every request is told before anything else.
    #[serde(default, deserialize_with = "written")]
    pub(super) constitution: Option<Spanned<constitution::Written>>,
    /// How the constitution is written into a request.
    #[serde(default)]
    pub(super) inject: Inject,
    /// When a prompt goes up: after its verdict, or beside it.
    #[serde(default)]
    pub(super) input: InputMode,
    /// Who judges which texts, and what a hit leads to. Has to be written, even when empty: a policy without guards is a
    /// choice, not an oversight. With `extends`, those of the base hold if it is left out.
    #[serde(default, deserialize_with = "written")]
    pub(super) rules: Option<Vec<Spanned<Rule>>>,
    /// What a blocked client sees.
    #[serde(default)]
    pub(super) respond: Respond,
    /// How a stream is cut for judging.
    #[serde(default)]
    pub(super) stream: Stream,
    /// How a violating answer is revised.
    #[serde(default)]
    pub(super) revise: Revise,
    /// Before/after rows of revised answers.
    #[serde(default)]
    pub(super) pairs: Pairs,
    /// How two answers are compared.
    #[serde(default)]
    pub(super) judge: Judge,
    /// What requests may name of the provider's store, although nobody here has seen what it stands for; by default nothing.
    /// What is fetched is judged when it comes down.
    #[serde(default)]
    pub(super) stored_state: Vec<Spanned<Stored>>,
    /// Model names that get a metric label of their own; all others count as `other`.
    #[serde(default)]
    pub(super) models: Vec<Spanned<String>>,
    /// Examples of what the policy does. They are run by `wardline test`, and before the policy is put in force.
    #[serde(default)]
    pub(super) tests: Vec<Spanned<embedded::Written>>,
    /// Tries this policy on another one's requests before it takes its place. Not part of its revision.
    #[serde(default, deserialize_with = "written")]
    pub(super) rollout: Option<Spanned<rollout::Written>>,
}

/// How the constitution is written into a request.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `role`")]
pub(super) struct Inject {
    /// In which role.
    #[serde(default)]
    pub(super) role: Role,
}

/// One guard, when it looks, and what a hit leads to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a rule: a mapping with `id`, `guard`, `stages` and `action`")]
pub(super) struct Rule {
    /// Unique within the policy; stands in metrics and headers.
    #[schemars(regex(pattern = WORD))]
    pub(super) id: Spanned<String>,
    /// Who judges.
    pub(super) guard: Spanned<Guard>,
    /// When.
    #[schemars(length(min = 1))]
    pub(super) stages: Spanned<Vec<Spanned<Stage>>>,
    /// Whose texts; by default everybody's.
    #[serde(default, deserialize_with = "written")]
    #[schemars(length(min = 1))]
    pub(super) origins: Option<Spanned<Vec<Spanned<Origin>>>>,
    /// From which score on a text is a hit: one level for all labels of the classifier, or one a label.
    #[serde(default, deserialize_with = "written")]
    pub(super) threshold: Option<Spanned<Threshold>>,
    /// From which score on, below the threshold, a text is counted as a warning; nothing else comes of it.
    #[serde(default, deserialize_with = "written")]
    pub(super) warn: Option<Spanned<Threshold>>,
    /// Other levels for texts of some origins.
    #[serde(default)]
    pub(super) by_origin: BTreeMap<Origin, Spanned<Levels>>,
    /// What a hit leads to.
    pub(super) action: Spanned<Action>,
    /// Whether it does, or is only counted.
    #[serde(default)]
    pub(super) mode: Mode,
    /// A condition in CEL, without which the rule does not look, e.g. `tenant == "acme" && origin in ["user"]`. It speaks
    /// of `route`, `model`, `tenant` (empty for nobody's), `stream`, `tools` (the names of those that are offered),
    /// `stage`, `origin` and `length` (bytes of the text; in a stream, of what has come).
    #[serde(default, deserialize_with = "written")]
    #[schemars(length(min = 1, max = 1024))]
    pub(super) when: Option<Spanned<String>>,
    /// The share of the requests that the rule looks at; by default 1, which is all.
    #[serde(default, deserialize_with = "written")]
    #[schemars(range(min = 0.0001, max = 1))]
    pub(super) sampling: Option<Spanned<f64>>,
    /// What a guard that cannot judge leads to, and a condition that cannot be decided.
    #[serde(default)]
    pub(super) on_error: OnError,
    /// How long the guard may take over a prompt or a whole answer, or over each window of a stream, e.g. `400ms`; by
    /// default `2s`.
    #[serde(default, deserialize_with = "written")]
    #[schemars(regex(pattern = DURATION))]
    pub(super) timeout: Option<Spanned<String>>,
    /// With `action: revise`: the id of the principle that the revision follows; by default the first.
    #[serde(default, deserialize_with = "written")]
    pub(super) principle: Option<Spanned<String>>,
    /// A sentence for the client, in place of the policy's own.
    #[serde(default, deserialize_with = "written")]
    pub(super) message: Option<Spanned<String>>,
}

/// The levels of one origin; what is left out is as in the rule.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `threshold` or `warn`")]
#[schemars(extend("minProperties" = 1))]
pub(super) struct Levels {
    /// In place of the rule's `threshold`.
    #[serde(default, deserialize_with = "written")]
    pub(super) threshold: Option<Spanned<Threshold>>,
    /// In place of the rule's `warn`.
    #[serde(default, deserialize_with = "written")]
    pub(super) warn: Option<Spanned<Threshold>>,
}

/// Either `classifier` (with `labels`), or `entities` and `patterns`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a guard: `{ classifier: … }` or `{ entities: […], patterns: […] }`")]
#[schemars(extend("oneOf" = [
    {"required": ["classifier"], "not": {"anyOf": [{"required": ["entities"]}, {"required": ["patterns"]}]}},
    {
        "anyOf": [{"required": ["entities"]}, {"required": ["patterns"]}],
        "not": {"anyOf": [{"required": ["classifier"]}, {"required": ["labels"]}]},
    },
]))]
pub(super) struct Guard {
    /// A head of the classifier, e.g. `harm`.
    #[serde(default, deserialize_with = "written")]
    pub(super) classifier: Option<Spanned<String>>,
    /// Labels of that head; by default all that are calibrated.
    #[serde(default, deserialize_with = "written")]
    #[schemars(length(min = 1))]
    pub(super) labels: Option<Spanned<Vec<Spanned<String>>>>,
    /// Built-in recognisers, e.g. `EMAIL_ADDRESS`.
    #[serde(default, deserialize_with = "written")]
    pub(super) entities: Option<Spanned<Vec<Spanned<String>>>>,
    /// Regular expressions of one's own.
    #[serde(default, deserialize_with = "written")]
    pub(super) patterns: Option<Spanned<Vec<Pattern>>>,
}

/// A named regular expression.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a pattern: a mapping with `id` and `regex`")]
pub(super) struct Pattern {
    /// Stands in verdicts and in place of what is redacted.
    #[schemars(regex(pattern = WORD))]
    pub(super) id: Spanned<String>,
    /// In the syntax of Rust's `regex`: no look-around, no back-references.
    #[schemars(length(min = 1))]
    pub(super) regex: Spanned<String>,
}

/// Which way a text travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// Prompts, before they go up.
    Input,
    /// Answers, before they go down.
    Output,
}

impl Stage {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

/// One level for all labels, or one a label.
#[derive(Debug)]
pub(super) enum Threshold {
    All(Level),
    PerLabel(Vec<(Spanned<String>, Spanned<Level>)>),
}

/// A number, or a name that the model's manifest has calibrated.
#[derive(Debug)]
pub(super) enum Level {
    Number(f64),
    Named(String),
}

/// What a blocked client sees.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct Respond {
    /// For a prompt.
    #[serde(default)]
    pub(super) on_input_block: InputBlock,
    /// For an answer.
    #[serde(default)]
    pub(super) on_output_block: OutputBlock,
    /// What becomes of an earlier turn that was blocked when it was new.
    #[serde(default)]
    pub(super) on_replayed_block: ReplayedBlock,
    /// One sentence for people.
    #[serde(default, deserialize_with = "written")]
    pub(super) message: Option<Spanned<String>>,
    /// How much of the decision the client is told.
    #[serde(default)]
    pub(super) disclose: Disclose,
    /// When a body carries the `guardrail` annotation.
    #[serde(default)]
    pub(super) annotate: Annotate,
}

/// How a stream is cut for judging; lengths in characters.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct Stream {
    /// The first window is short, so that the first words come soon; by default 120.
    #[serde(default, deserialize_with = "written")]
    #[schemars(range(min = 1, max = 65_536))]
    pub(super) first_window_chars: Option<Spanned<u32>>,
    /// Text is judged when so much is held, or at the end of a sentence; by default 480.
    #[serde(default, deserialize_with = "written")]
    #[schemars(range(min = 16, max = 65_536))]
    pub(super) window_chars: Option<Spanned<u32>>,
    /// While what is judged scores low (under half of every level), each window is twice as long as the one before it, up
    /// to so much; by default three times `window_chars`, at least `window_chars`.
    #[serde(default, deserialize_with = "written")]
    #[schemars(range(min = 16, max = 65_536))]
    pub(super) max_window_chars: Option<Spanned<u32>>,
    /// So much of the end of what the user said last stands before each window when it is judged by classifiers, beside
    /// the window alone: for what is harmful only as an answer. A harmful question then weighs on its answer. By default 0,
    /// which costs nothing.
    #[serde(default, deserialize_with = "written")]
    #[schemars(range(min = 0, max = 4_096))]
    pub(super) prompt_chars: Option<Spanned<u32>>,
    /// How much of what went before is judged again with each window; by default 240, at most `window_chars`.
    #[serde(default, deserialize_with = "written")]
    #[schemars(range(min = 0, max = 65_536))]
    pub(super) overlap_chars: Option<Spanned<u32>>,
    /// Text held this long is judged, however short; by default `400ms`.
    #[serde(default, deserialize_with = "written")]
    #[schemars(regex(pattern = DURATION))]
    pub(super) hold: Option<Spanned<String>>,
}

/// How a violating answer is revised.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct Revise {
    /// Critiques at most, each with the revision that it asks for; by default 1.
    #[serde(default, deserialize_with = "written")]
    #[schemars(range(min = 1, max = 16))]
    pub(super) rounds: Option<Spanned<u32>>,
    /// Which answers are revised: those that a rule objects to, or all.
    #[serde(default, deserialize_with = "written")]
    pub(super) when: Option<Spanned<ReviseWhen>>,
    /// With `when: always`: what follows where critic or reviser fail, or the budget ends, on an answer that no rule
    /// objects to.
    #[serde(default, deserialize_with = "written")]
    pub(super) on_error: Option<Spanned<OnError>>,
    /// What happens to an answer that is streamed.
    #[serde(default)]
    pub(super) on_stream: OnStream,
    /// The share of ordinary answers that are revised too, after the client has them; by default 0.
    #[serde(default, deserialize_with = "written")]
    #[schemars(range(min = 0, max = 1))]
    pub(super) shadow: Option<Spanned<f64>>,
    /// The configured upstream that is asked, by its name; by default the one that answered. It needs a key of its own.
    #[serde(default, deserialize_with = "written")]
    pub(super) upstream: Option<Spanned<String>>,
    /// Who criticises and revises; by default the model that answered.
    pub(super) model: Option<Spanned<String>>,
    /// For all rounds together; by default `30s`.
    #[serde(default, deserialize_with = "written")]
    #[schemars(regex(pattern = DURATION))]
    pub(super) timeout: Option<Spanned<String>>,
    /// Tokens that critic and reviser may write in all rounds together; by default 4096.
    #[serde(default, deserialize_with = "written")]
    #[schemars(range(min = 16, max = 1_048_576))]
    pub(super) max_tokens: Option<Spanned<u32>>,
}

/// Before/after rows of revised answers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct Pairs {
    /// The part of the requests whose revised or blocked answers are kept; by default all.
    #[serde(default, deserialize_with = "written")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) rate: Option<Spanned<f64>>,
    /// How many rows a principle may leave in a day (UTC) of one process; by default any number.
    #[serde(default, deserialize_with = "written")]
    #[schemars(range(min = 1))]
    pub(super) per_principle_per_day: Option<Spanned<u32>>,
    /// How many rows a user may leave in a day (UTC) of one process; by default any number.
    #[serde(default, deserialize_with = "written")]
    #[schemars(range(min = 1))]
    pub(super) per_user_per_day: Option<Spanned<u32>>,
    /// The same of a tenant, or of a client's key where it is nobody's.
    #[serde(default, deserialize_with = "written")]
    #[schemars(range(min = 1))]
    pub(super) per_client_per_day: Option<Spanned<u32>>,
    /// The part of the requests, among those kept, whose answers people may rate at `/v1/feedback`; by default 0.
    #[serde(default, deserialize_with = "written")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) feedback: Option<Spanned<f64>>,
    /// Second answers that are drawn aside and judged against the first; by default none.
    #[serde(default)]
    pub(super) compare: Compare,
    /// Who has to agree that rows are kept.
    #[serde(default)]
    pub(super) consent: Consent,
    /// Whose prompt a row holds.
    #[serde(default)]
    pub(super) prompt: PromptAs,
}

/// Second answers that are drawn, after the client has got the first, to be compared by the policy's judge.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct Compare {
    /// The part of the requests, among those kept, that a second answer is drawn for; by default 0. Needs `judge.model`.
    #[serde(default, deserialize_with = "written")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) rate: Option<Spanned<f64>>,
    /// The configured upstream that gives it, by its name; by default the one that answered. It needs a key of its own.
    #[serde(default, deserialize_with = "written")]
    pub(super) upstream: Option<Spanned<String>>,
    /// The model that gives it; by default the one that answered.
    #[serde(default, deserialize_with = "written")]
    pub(super) model: Option<Spanned<String>>,
    /// For the answer and both judgements together; by default `60s`.
    #[serde(default, deserialize_with = "written")]
    #[schemars(regex(pattern = DURATION))]
    pub(super) timeout: Option<Spanned<String>>,
    /// Tokens that the answer may take, where the request does not ask for fewer; by default 1024.
    #[serde(default, deserialize_with = "written")]
    #[schemars(range(min = 16, max = 1_048_576))]
    pub(super) max_tokens: Option<Spanned<u32>>,
}

/// How two answers are compared.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct Judge {
    /// The configured upstream that is asked, by its name; by default the one that answered, and for `wardline judge` the
    /// first one. It needs a key of its own.
    #[serde(default, deserialize_with = "written")]
    pub(super) upstream: Option<Spanned<String>>,
    /// Who judges.
    #[serde(default, deserialize_with = "written")]
    pub(super) model: Option<Spanned<String>>,
    /// How the judge is to weigh the principles, in the operator's words, e.g. what counts for how much.
    #[serde(default, deserialize_with = "written")]
    pub(super) rubric: Option<Spanned<String>>,
    /// Tokens that each judgement may take; by default 512.
    #[serde(default, deserialize_with = "written")]
    #[schemars(range(min = 16, max = 65_536))]
    pub(super) max_tokens: Option<Spanned<u32>>,
    /// Comparisons by people that the judge is shown.
    #[serde(default)]
    pub(super) examples: Vec<JudgeExample>,
}

/// A comparison by people.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "an example: a mapping with `prompt`, `first`, `second`, `reasoning` and `score`"
)]
pub(super) struct JudgeExample {
    /// What was asked.
    pub(super) prompt: Spanned<String>,
    /// One answer.
    pub(super) first: Spanned<String>,
    /// The other.
    pub(super) second: Spanned<String>,
    /// Why it got its score.
    pub(super) reasoning: Spanned<String>,
    /// From 1 (the first is much better) to 9 (the second is).
    #[schemars(range(min = 1, max = 9))]
    pub(super) score: Spanned<u8>,
}

impl JsonSchema for Level {
    fn schema_name() -> Cow<'static, str> {
        "Level".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A score from which on a text is a hit, or the name of a threshold that was calibrated with \
                            the model, such as `fpr_0.5`: 0.5 % of benign texts are flagged.",
            "oneOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
                {"type": "string", "minLength": 1},
            ],
        })
    }
}

impl JsonSchema for Threshold {
    fn schema_name() -> Cow<'static, str> {
        "Threshold".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let level = generator.subschema_for::<Level>();
        json_schema!({
            "description": "One level for all labels of the rule, or one a label.",
            "anyOf": [level.clone(), {"type": "object", "additionalProperties": level, "minProperties": 1}],
        })
    }
}

/// For what may be left out, but not left blank: `origins:` with nothing after it is an oversight and not "all".
pub(super) fn written<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ThresholdVisitor)
    }
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LevelVisitor)
    }
}

struct LevelVisitor;

impl Visitor<'_> for LevelVisitor {
    type Value = Level;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a number above 0 and up to 1, or the name of a calibrated threshold such as `fpr_0.5`")
    }

    fn visit_f64<E>(self, number: f64) -> Result<Level, E> {
        Ok(Level::Number(number))
    }

    #[expect(clippy::cast_precision_loss, reason = "a threshold is at most 1; anything larger is refused later")]
    fn visit_u64<E>(self, number: u64) -> Result<Level, E> {
        Ok(Level::Number(number as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "a threshold is above 0; anything below is refused later")]
    fn visit_i64<E>(self, number: i64) -> Result<Level, E> {
        Ok(Level::Number(number as f64))
    }

    fn visit_str<E>(self, name: &str) -> Result<Level, E> {
        Ok(Level::Named(name.to_owned()))
    }
}

struct ThresholdVisitor;

impl<'de> Visitor<'de> for ThresholdVisitor {
    type Value = Threshold;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        LevelVisitor.expecting(out)?;
        out.write_str(", or a mapping of labels to those")
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Threshold, E> {
        LevelVisitor.visit_f64(number).map(Threshold::All)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Threshold, E> {
        LevelVisitor.visit_u64(number).map(Threshold::All)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Threshold, E> {
        LevelVisitor.visit_i64(number).map(Threshold::All)
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Threshold, E> {
        LevelVisitor.visit_str(name).map(Threshold::All)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Threshold, A::Error> {
        let mut levels = Vec::new();
        while let Some(level) = map.next_entry()? {
            levels.push(level);
        }
        Ok(Threshold::PerLabel(levels))
    }
}
