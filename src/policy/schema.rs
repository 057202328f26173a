//! A policy file as it is written: one struct a section, nothing checked but types and field names.
//!
//! Every value that a later check can refuse is [`Spanned`], so that the refusal can point at it. Lists and sections that
//! may be left out have their default here; what the words mean is decided in `compile`.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_saphyr::Spanned;

use super::{
    Action, Annotate, Disclose, InputBlock, InputMode, Mode, OnError, OnStream, OutputBlock, ReplayedBlock, Role,
};
use crate::api::Origin;

/// One file of the policy directory.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a policy: a mapping with at least `rules`")]
pub(super) struct File {
    /// By default the file's stem; if written it must be the same.
    #[serde(default, deserialize_with = "written")]
    pub(super) name: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) description: String,
    #[serde(default)]
    pub(super) constitution: Constitution,
    #[serde(default)]
    pub(super) inject: Inject,
    #[serde(default)]
    pub(super) input: InputMode,
    /// Has to be written, even when empty: a policy without guards is a choice, not an oversight.
    pub(super) rules: Vec<Spanned<Rule>>,
    #[serde(default)]
    pub(super) respond: Respond,
    #[serde(default)]
    pub(super) stream: Stream,
    #[serde(default)]
    pub(super) revise: Revise,
    #[serde(default)]
    pub(super) pairs: Pairs,
    #[serde(default)]
    pub(super) judge: Judge,
    #[serde(default)]
    pub(super) models: Vec<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with `preamble` and `principles`")]
pub(super) struct Constitution {
    #[serde(default)]
    pub(super) preamble: String,
    #[serde(default)]
    pub(super) principles: Vec<Spanned<Principle>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a principle: a mapping with `id` and `text`")]
pub(super) struct Principle {
    pub(super) id: Spanned<String>,
    pub(super) text: Spanned<String>,
    #[serde(default, deserialize_with = "written")]
    pub(super) critique: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "written")]
    pub(super) revision: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with `role`")]
pub(super) struct Inject {
    #[serde(default)]
    pub(super) role: Role,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a rule: a mapping with `id`, `guard`, `stages` and `action`")]
pub(super) struct Rule {
    pub(super) id: Spanned<String>,
    pub(super) guard: Spanned<Guard>,
    pub(super) stages: Spanned<Vec<Spanned<Stage>>>,
    #[serde(default, deserialize_with = "written")]
    pub(super) origins: Option<Spanned<Vec<Spanned<Origin>>>>,
    #[serde(default, deserialize_with = "written")]
    pub(super) threshold: Option<Spanned<Threshold>>,
    pub(super) action: Spanned<Action>,
    #[serde(default)]
    pub(super) mode: Mode,
    #[serde(default)]
    pub(super) on_error: OnError,
    #[serde(default, deserialize_with = "written")]
    pub(super) timeout: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "written")]
    pub(super) principle: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "written")]
    pub(super) message: Option<Spanned<String>>,
}

/// Either `classifier` (with `labels`) or `entities` and `patterns`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a guard: `{ classifier: … }` or `{ entities: […], patterns: […] }`")]
pub(super) struct Guard {
    #[serde(default, deserialize_with = "written")]
    pub(super) classifier: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "written")]
    pub(super) labels: Option<Spanned<Vec<Spanned<String>>>>,
    #[serde(default, deserialize_with = "written")]
    pub(super) entities: Option<Spanned<Vec<Spanned<String>>>>,
    #[serde(default, deserialize_with = "written")]
    pub(super) patterns: Option<Spanned<Vec<Pattern>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a pattern: a mapping with `id` and `regex`")]
pub(super) struct Pattern {
    pub(super) id: Spanned<String>,
    pub(super) regex: Spanned<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    Input,
    Output,
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

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct Respond {
    #[serde(default)]
    pub(super) on_input_block: InputBlock,
    #[serde(default)]
    pub(super) on_output_block: OutputBlock,
    #[serde(default)]
    pub(super) on_replayed_block: ReplayedBlock,
    #[serde(default, deserialize_with = "written")]
    pub(super) message: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) disclose: Disclose,
    #[serde(default)]
    pub(super) annotate: Annotate,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct Stream {
    #[serde(default, deserialize_with = "written")]
    pub(super) first_window_chars: Option<Spanned<u32>>,
    #[serde(default, deserialize_with = "written")]
    pub(super) window_chars: Option<Spanned<u32>>,
    #[serde(default, deserialize_with = "written")]
    pub(super) overlap_chars: Option<Spanned<u32>>,
    #[serde(default, deserialize_with = "written")]
    pub(super) hold: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct Revise {
    #[serde(default, deserialize_with = "written")]
    pub(super) rounds: Option<Spanned<u32>>,
    #[serde(default)]
    pub(super) on_stream: OnStream,
    #[serde(default, deserialize_with = "written")]
    pub(super) shadow: Option<Spanned<f64>>,
    #[serde(default, deserialize_with = "written")]
    pub(super) upstream: Option<Spanned<String>>,
    pub(super) model: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "written")]
    pub(super) timeout: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "written")]
    pub(super) max_tokens: Option<Spanned<u32>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct Pairs {
    #[serde(default, deserialize_with = "written")]
    pub(super) rate: Option<Spanned<f64>>,
    #[serde(default, deserialize_with = "written")]
    pub(super) per_principle_per_day: Option<Spanned<u32>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct Judge {
    #[serde(default, deserialize_with = "written")]
    pub(super) upstream: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "written")]
    pub(super) model: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "written")]
    pub(super) max_tokens: Option<Spanned<u32>>,
    #[serde(default)]
    pub(super) examples: Vec<JudgeExample>,
}

#[derive(Debug, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "an example: a mapping with `prompt`, `first`, `second`, `reasoning` and `score`"
)]
pub(super) struct JudgeExample {
    pub(super) prompt: Spanned<String>,
    pub(super) first: Spanned<String>,
    pub(super) second: Spanned<String>,
    pub(super) reasoning: Spanned<String>,
    pub(super) score: Spanned<u8>,
}

/// For what may be left out, but not left blank: `origins:` with nothing after it is an oversight and not "all".
fn written<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
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
