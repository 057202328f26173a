//! What the critic and the reviser must answer.

use serde::de::{DeserializeOwned, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The critic's verdict on one answer under one principle.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Critique {
    /// Whether the answer goes against the principle.
    pub violated: bool,
    /// The passage that does; empty when none does.
    #[serde(rename = "where")]
    pub place: String,
    /// Why.
    pub why: String,
}

/// The reviser's answer.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Revision {
    pub(super) revision: String,
}

/// The judge's answer. A score that stands before its reasons was not reasoned about, and is a mistake.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) reasoning: String,
    /// From 1 to 9.
    pub(super) score: u8,
}

impl<'de> Deserialize<'de> for Judgement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(JudgementVisitor)
    }
}

struct JudgementVisitor;

impl<'de> Visitor<'de> for JudgementVisitor {
    type Value = Judgement;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("an object with `reasoning` and then `score`, an integer from 1 to 9")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Judgement, A::Error> {
        let wrong = || A::Error::custom("expected `reasoning` and then `score`, an integer from 1 to 9");
        let reasoning = match map.next_entry::<String, String>()? {
            Some((key, reasoning)) if key == "reasoning" && !reasoning.trim().is_empty() => reasoning,
            _ => return Err(wrong()),
        };
        let score = match map.next_entry::<String, u8>()? {
            Some((key, score)) if key == "score" && (1..=9).contains(&score) => score,
            _ => return Err(wrong()),
        };
        if map.next_key::<String>()?.is_some() { Err(wrong()) } else { Ok(Judgement { reasoning, score }) }
    }
}

/// Reads exactly one JSON object, which models like to wrap in one code fence.
pub(super) fn object<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(unfenced(text.trim()))
}

fn unfenced(text: &str) -> &str {
    let Some(inner) = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```")) else { return text };
    inner.strip_prefix("json").unwrap_or(inner).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"violated": true, "where": "the last line", "why": "it insults"}"#;

    #[test]
    fn one_object_is_read_bare_or_fenced() {
        let expected = Critique { violated: true, place: "the last line".into(), why: "it insults".into() };
        for text in [GOOD.to_owned(), format!("\n{GOOD}\n"), format!("```json\n{GOOD}\n```"), format!("```{GOOD}```")] {
            assert_eq!(object::<Critique>(&text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn anything_else_is_an_error() {
        let bad = [
            "verdict: safe".to_owned(),
            String::new(),
            format!("{GOOD}{GOOD}"),
            format!("Sure! {GOOD}"),
            r#"{"violated": "no", "where": "", "why": ""}"#.to_owned(),
            r#"{"violated": false}"#.to_owned(),
            r#"{"violated": true, "violated": false, "where": "", "why": ""}"#.to_owned(),
            r#"{"violated": false, "where": "", "why": "", "also": 1}"#.to_owned(),
        ];
        for text in bad {
            assert!(object::<Critique>(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_judgement_gives_its_reasons_first() {
        let good = r#"{"reasoning": "The second is honest.", "score": 8}"#;
        let expected = Judgement { reasoning: "The second is honest.".into(), score: 8 };
        assert_eq!(object::<Judgement>(&format!("```json\n{good}\n```")).unwrap(), expected);
        for text in [
            r#"{"score": 8, "reasoning": "The second is honest."}"#,
            r#"{"reasoning": "r", "score": 0}"#,
            r#"{"reasoning": "r", "score": 10}"#,
            r#"{"reasoning": "r", "score": 7.5}"#,
            r#"{"reasoning": "r", "score": "8"}"#,
            r#"{"reasoning": " ", "score": 8}"#,
            r#"{"reasoning": "r", "score": 8, "score": 2}"#,
            r#"{"reasoning": "r"}"#,
            "8",
            "Second. 8",
        ] {
            assert!(object::<Judgement>(text).is_err(), "{text}");
        }
    }
}
