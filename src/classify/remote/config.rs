//! What an operator can set about a classifier on a server.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::classify::classifier::Label;

/// A classifier on a server. Its name is the head under which policies ask it.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RemoteClassifier")]
pub struct Config {
    /// What the server speaks.
    pub protocol: Protocol,
    /// Scheme, host, optional port and optional path prefix; the protocol's own path is appended.
    pub url: String,
    /// The model's name: of `oip` needed, perhaps with a version (`NAME/versions/1`); of `moderations` as the provider
    /// calls it.
    pub model: Option<String>,
    /// `oip` only: the input tensor, of strings.
    #[serde(default = "input")]
    pub input: String,
    /// `oip` only: the output tensor, one row of floats a text.
    #[serde(default = "output")]
    pub output: String,
    /// `oip` only: what makes probabilities of the row.
    #[serde(default)]
    pub activation: Activation,
    /// The labels that policies may use, each with what the server calls it; with `oip`, the number of its column.
    #[schemars(length(min = 1))]
    pub labels: BTreeMap<String, Theirs>,
    /// Thresholds by label and name, for policies to name.
    #[serde(default)]
    pub thresholds: BTreeMap<String, BTreeMap<String, f32>>,
    /// Name of the environment variable that holds the server's key, sent as `authorization: Bearer KEY`.
    pub api_key_env: Option<String>,
    /// PEM file of further certificate authorities to trust.
    pub ca_file: Option<PathBuf>,
    /// Asks the server once before anything is served, and refuses to start if that fails. Each answer is checked in any
    /// case.
    #[serde(default = "yes")]
    pub check_at_load: bool,
    /// Milliseconds for one answer, tries again included.
    #[serde(default = "timeout_ms")]
    #[schemars(range(min = 1))]
    pub timeout_ms: u64,
    /// How often a call is made again that met no server, a broken connection, or a status of 429, 502, 503 or 504.
    #[serde(default = "retries")]
    pub retries: u32,
    /// Longest answer that is read, in bytes.
    #[serde(default = "max_answer_bytes")]
    #[schemars(range(min = 1))]
    pub max_answer_bytes: usize,
    /// Calls under way at one time.
    #[serde(default = "max_concurrent_calls")]
    #[schemars(range(min = 1, max = 256))]
    pub max_concurrent_calls: usize,
    /// Windows of text in one call; by default 1 with `oip`, else 8.
    #[schemars(range(min = 1))]
    pub max_batch_texts: Option<usize>,
    /// Texts accepted and not yet answered; the next one is turned away at once.
    #[serde(default = "max_concurrent_requests")]
    #[schemars(range(min = 1))]
    pub max_concurrent_requests: usize,
    /// Characters in one text. A longer text is refused whole, never cut short.
    #[serde(default = "max_input_chars")]
    #[schemars(range(min = 1))]
    pub max_input_chars: usize,
    /// Characters in one window: as many as the model reads whole, whatever they are.
    #[serde(default = "window_chars")]
    #[schemars(range(min = 1))]
    pub window_chars: usize,
    /// Characters that a window shares with the one before it.
    #[serde(default = "overlap_chars")]
    pub overlap_chars: usize,
}

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// The Open Inference Protocol, version 2, over HTTP: `KServe`, Triton, `MLServer`, `OpenVINO` Model Server.
    Oip,
    /// `/predict` of Hugging Face's text-embeddings-inference.
    Tei,
    /// `/v1/moderations` of `OpenAI` and everything compatible with it.
    Moderations,
}

impl Protocol {
    /// The word in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Oip => "oip",
            Self::Tei => "tei",
            Self::Moderations => "moderations",
        }
    }
}

/// What makes probabilities of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// It holds probabilities.
    #[default]
    None,
    /// It holds logits of labels that exclude each other.
    Softmax,
    /// It holds logits of labels that do not.
    Sigmoid,
}

/// What the server calls a label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "the server's name of the label or, with `oip`, the number of its column, from 0")]
pub enum Theirs {
    /// The number of its column, from 0.
    Column(usize),
    /// Its name.
    Name(String),
}

impl Config {
    /// What it can say, head and labels; the head is the name that it has in the configuration.
    pub fn labels(&self, name: &str) -> Vec<Label> {
        let label = |label: &String| Label {
            head: name.to_owned(),
            name: label.clone(),
            thresholds: self.thresholds.get(label).cloned().unwrap_or_default(),
        };
        self.labels.keys().map(label).collect()
    }

    /// Windows in one call.
    pub(super) fn batch(&self) -> usize {
        self.max_batch_texts.unwrap_or(if self.protocol == Protocol::Oip { 1 } else { 8 })
    }

    /// The first setting that makes no sense, and what was expected.
    pub(super) fn mistake(&self) -> Option<(String, String)> {
        let wrong = |key: &str, expected: String| Some((key.to_owned(), expected));
        let at_least_1 = [
            ("timeout_ms", usize::try_from(self.timeout_ms).unwrap_or(usize::MAX)),
            ("max_answer_bytes", self.max_answer_bytes),
            ("max_concurrent_calls", self.max_concurrent_calls),
            ("max_batch_texts", self.batch()),
            ("max_concurrent_requests", self.max_concurrent_requests),
            ("max_input_chars", self.max_input_chars),
            ("window_chars", self.window_chars),
        ];
        if let Some((key, _)) = at_least_1.into_iter().find(|(_, value)| *value == 0) {
            return wrong(key, "expected at least 1".to_owned());
        }
        if self.max_concurrent_calls > MOST_CALLS {
            return wrong(
                "max_concurrent_calls",
                format!("expected at most {MOST_CALLS}: each call waits on a thread"),
            );
        }
        if self.overlap_chars >= self.window_chars {
            return wrong("overlap_chars", format!("expected less than `window_chars`, {}", self.window_chars));
        }
        if self.protocol == Protocol::Oip && self.model.is_none() {
            return wrong("model", "`protocol: oip` needs the model's name".to_owned());
        }
        self.mistaken_label()
    }

    fn mistaken_label(&self) -> Option<(String, String)> {
        if self.labels.is_empty() {
            return Some(("labels".to_owned(), "expected at least one label".to_owned()));
        }
        let columns = self.protocol == Protocol::Oip;
        let by = |theirs: &Theirs| matches!(theirs, Theirs::Column(_)) == columns;
        if let Some(label) = self.labels.iter().find_map(|(label, theirs)| (!by(theirs)).then_some(label)) {
            let expected = if columns { "the number of its column, from 0" } else { "the server's name of the label" };
            return Some((
                format!("labels.{label}"),
                format!("`protocol: {}` takes {expected}", self.protocol.as_str()),
            ));
        }
        let unknown = self.thresholds.keys().find(|label| !self.labels.contains_key(*label));
        if let Some(label) = unknown {
            return Some((format!("thresholds.{label}"), "`labels` has no such label".to_owned()));
        }
        let mut levels = self.thresholds.iter().flat_map(|(label, levels)| levels.values().map(move |l| (label, l)));
        let outside = levels.find(|(_, level)| !(0.0..=1.0).contains(*level));
        outside.map(|(label, level)| (format!("thresholds.{label}"), format!("expected 0 to 1, found {level}")))
    }
}

/// More threads than this would wait for one server.
const MOST_CALLS: usize = 256;

fn input() -> String {
    "text".to_owned()
}

fn output() -> String {
    "scores".to_owned()
}

fn yes() -> bool {
    true
}

/// Less than the two seconds that a rule has by default.
fn timeout_ms() -> u64 {
    1_500
}

fn retries() -> u32 {
    1
}

fn max_answer_bytes() -> usize {
    1 << 20
}

fn max_concurrent_calls() -> usize {
    8
}

fn max_concurrent_requests() -> usize {
    512
}

fn max_input_chars() -> usize {
    131_072
}

/// Fits into the 512 tokens of most encoders in most languages.
fn window_chars() -> usize {
    1_000
}

fn overlap_chars() -> usize {
    200
}
