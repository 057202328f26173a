//! What the critic and the reviser must answer.

use serde::Deserialize;
use serde::de::DeserializeOwned;

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
}
