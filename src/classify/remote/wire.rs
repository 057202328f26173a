//! What goes over the line: texts into a request, an answer into rows of scores. Pure.
//!
//! An answer is read strictly: a text without a row, a label that is missing, or a value that is no number fails the whole
//! call. A score never has a default.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::config::{Activation, Config, Protocol, Theirs};
use crate::classify::model::{sigmoid, softmax};

/// How one server is asked, and how its answers are read.
#[derive(Debug)]
pub(super) struct Wire {
    protocol: Protocol,
    model: Option<String>,
    input: String,
    output: String,
    activation: Activation,
    /// Ours and theirs, in our order.
    labels: Vec<(String, Theirs)>,
}

/// What an answer said.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    /// One a text, in our order of labels.
    pub(super) rows: Vec<Vec<f32>>,
    /// What the server says it is, where it does.
    pub(super) revision: Option<String>,
}

/// Why an answer is none. Its words hold nothing that came from the server, which might repeat what it was asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mismatch {
    /// Not JSON, or not of the protocol's shape.
    Unreadable(String),
    /// Not a row for each text.
    Rows { found: usize, texts: usize },
    /// A label of ours is not there.
    NoLabel { ours: String, theirs: Vec<String> },
    /// `oip`: no such tensor.
    NoOutput { output: String, theirs: Vec<String> },
    /// `oip`: a tensor of another kind or shape than floats, a row a text.
    Tensor(&'static str),
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable(how) => write!(f, "the answer is not what the protocol says: {how}"),
            Self::Rows { found, texts } => write!(f, "wrong shape: {found} rows for {texts} texts"),
            Self::NoLabel { ours, .. } => write!(f, "the answer has nothing for the label `{ours}`"),
            Self::NoOutput { output, .. } => write!(f, "the answer has no output `{output}`"),
            Self::Tensor(what) => write!(f, "wrong shape: {what}"),
        }
    }
}

impl Mismatch {
    /// The same for the person who wrote the configuration, when all that the server was asked is a text of ours.
    pub(super) fn told(&self) -> String {
        match self {
            Self::NoLabel { theirs, .. } | Self::NoOutput { theirs, .. } => {
                let some = theirs.iter().take(20).map(|name| format!("`{name:.64}`"));
                format!("{self}; it has {}", some.collect::<Vec<_>>().join(", "))
            }
            _ => self.to_string(),
        }
    }
}

#[derive(Deserialize)]
struct Inferred {
    #[serde(default)]
    model_version: Option<String>,
    outputs: Vec<Tensor>,
}

#[derive(Deserialize)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
    datatype: String,
    data: Value,
}

#[derive(Deserialize)]
struct Predicted {
    label: String,
    score: Option<f64>,
}

#[derive(Deserialize)]
struct Moderated {
    #[serde(default)]
    model: Option<String>,
    results: Vec<Moderation>,
}

#[derive(Deserialize)]
struct Moderation {
    category_scores: BTreeMap<String, Option<f64>>,
}

impl Wire {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            protocol: config.protocol,
            model: config.model.clone(),
            input: config.input.clone(),
            output: config.output.clone(),
            activation: config.activation,
            labels: config.labels.iter().map(|(ours, theirs)| (ours.clone(), theirs.clone())).collect(),
        }
    }

    /// The path that is asked, after the configured prefix.
    pub(super) fn path(&self) -> String {
        match self.protocol {
            Protocol::Oip => format!("/v2/models/{}/infer", self.model.as_deref().unwrap_or_default()),
            Protocol::Tei => "/predict".to_owned(),
            Protocol::Moderations => "/v1/moderations".to_owned(),
        }
    }

    /// The body that asks about texts.
    pub(super) fn request(&self, texts: &[String]) -> Vec<u8> {
        let body = match self.protocol {
            Protocol::Oip => json!({
                "inputs": [{"name": self.input, "shape": [texts.len()], "datatype": "BYTES", "data": texts}],
                "outputs": [{"name": self.output}],
            }),
            // Two texts in one list would be taken for a pair. What is too long is to be refused, not cut.
            Protocol::Tei => json!({
                "inputs": texts.iter().map(|text| [text]).collect::<Vec<_>>(),
                "raw_scores": false,
                "truncate": false,
            }),
            Protocol::Moderations => match &self.model {
                Some(model) => json!({"model": model, "input": texts}),
                None => json!({"input": texts}),
            },
        };
        body.to_string().into_bytes()
    }

    /// The scores of so many texts.
    pub(super) fn read(&self, body: &[u8], texts: usize) -> Result<Answer, Mismatch> {
        let answer = match self.protocol {
            Protocol::Oip => self.inferred(body, texts)?,
            Protocol::Tei => {
                let rows: Vec<Vec<Predicted>> = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
                let scores = rows.iter().map(|row| {
                    self.named(|theirs| {
                        let found = row.iter().find(|predicted| predicted.label == theirs);
                        found.map(|predicted| predicted.score).ok_or_else(|| names(row.iter().map(|p| &p.label)))
                    })
                });
                Answer { rows: scores.collect::<Result<_, _>>()?, revision: None }
            }
            Protocol::Moderations => {
                let Moderated { model, results } = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
                let scores = results.iter().map(|Moderation { category_scores }| {
                    self.named(|theirs| {
                        category_scores.get(theirs).copied().ok_or_else(|| names(category_scores.keys()))
                    })
                });
                Answer { rows: scores.collect::<Result<_, _>>()?, revision: model }
            }
        };
        let found = answer.rows.len();
        if found == texts { Ok(answer) } else { Err(Mismatch::Rows { found, texts }) }
    }

    /// A row by the server's names.
    fn named(&self, score: impl Fn(&str) -> Result<Option<f64>, Vec<String>>) -> Result<Vec<f32>, Mismatch> {
        let label = |(ours, theirs): &(String, Theirs)| match theirs {
            Theirs::Name(name) => {
                score(name).map(number).map_err(|theirs| Mismatch::NoLabel { ours: ours.clone(), theirs })
            }
            Theirs::Column(_) => Err(Mismatch::NoLabel { ours: ours.clone(), theirs: Vec::new() }),
        };
        self.labels.iter().map(label).collect()
    }

    fn inferred(&self, body: &[u8], texts: usize) -> Result<Answer, Mismatch> {
        let Inferred { model_version, outputs } = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
        let Some(tensor) = outputs.iter().find(|tensor| tensor.name == self.output) else {
            let theirs = names(outputs.iter().map(|tensor| &tensor.name));
            return Err(Mismatch::NoOutput { output: self.output.clone(), theirs });
        };
        if !matches!(tensor.datatype.as_str(), "FP16" | "FP32" | "FP64") {
            return Err(Mismatch::Tensor("the output is not of floats"));
        }
        let (rows, width) = match tensor.shape[..] {
            [rows] => (rows, 1),
            [rows, width] if width > 0 => (rows, width),
            _ => return Err(Mismatch::Tensor("expected [texts, labels]")),
        };
        if rows != texts {
            return Err(Mismatch::Rows { found: rows, texts });
        }
        let mut values = Vec::with_capacity(rows.saturating_mul(width).min(body.len()));
        flatten(&tensor.data, 0, &mut values)?;
        if Some(values.len()) != rows.checked_mul(width) {
            return Err(Mismatch::Tensor("the output holds not as many values as its shape says"));
        }
        let rows = values.chunks_exact(width).map(|row| self.columns(row)).collect::<Result<_, _>>()?;
        Ok(Answer { rows, revision: model_version })
    }

    /// A row by column.
    fn columns(&self, logits: &[f32]) -> Result<Vec<f32>, Mismatch> {
        let row: Vec<f32> = match self.activation {
            Activation::None => logits.to_vec(),
            Activation::Softmax => softmax(logits),
            Activation::Sigmoid => logits.iter().copied().map(sigmoid).collect(),
        };
        let label = |(ours, theirs): &(String, Theirs)| match theirs {
            Theirs::Column(column) if *column < row.len() => Ok(row[*column]),
            _ => {
                let theirs = (0..row.len()).map(|column| column.to_string()).collect();
                Err(Mismatch::NoLabel { ours: ours.clone(), theirs })
            }
        };
        self.labels.iter().map(label).collect()
    }
}

/// The values of a tensor, which may be written flat or as its shape is.
fn flatten(data: &Value, depth: usize, values: &mut Vec<f32>) -> Result<(), Mismatch> {
    match data {
        Value::Array(items) if depth < 2 => items.iter().try_for_each(|item| flatten(item, depth + 1, values)),
        Value::Number(_) | Value::Null if depth > 0 => {
            values.push(number(data.as_f64()));
            Ok(())
        }
        _ => Err(Mismatch::Tensor("the output's data are not a list of numbers")),
    }
}

/// JSON has no word for what is not a number; servers write `null`. It must be seen, not smoothed over.
fn number(value: Option<f64>) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "scores are f32")]
    value.map_or(f32::NAN, |value| value as f32)
}

fn names<'n>(names: impl Iterator<Item = &'n String>) -> Vec<String> {
    names.cloned().collect()
}

/// By kind and place only: the message could quote the answer.
fn unreadable(error: &serde_json::Error) -> Mismatch {
    Mismatch::Unreadable(format!("{:?} error at line {}, column {}", error.classify(), error.line(), error.column()))
}
