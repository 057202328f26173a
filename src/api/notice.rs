//! What a guard did, as the client may hear of it.

use serde_json::{Value, json};

/// How a blocked answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockStyle {
    /// The dialect's own mark of a filter: `finish_reason: "content_filter"`, `stop_reason: "refusal"`.
    ContentFilter,
    /// A refusal that ends like an ordinary answer, for chat interfaces and for SDK helpers that raise on a filter.
    Refusal,
}

/// One decision. Holds names and numbers of the policy, never text of the user or the model.
#[derive(Clone, Debug)]
pub struct Notice<'a> {
    /// Name of the policy.
    pub policy: &'a str,
    /// Revision of the policy.
    pub revision: &'a str,
    /// The rule that decided.
    pub rule: &'a str,
    /// `input` or `output`.
    pub stage: &'static str,
    /// What was done: `audit`, `redact`, `revise`, `block`.
    pub action: &'static str,
    /// The score, from 0 to 1, where a classifier decided.
    pub score: Option<f32>,
    /// The threshold that the score was held against.
    pub threshold: Option<f32>,
    /// One sentence for the person who asked.
    pub message: &'a str,
    /// The request's id.
    pub request_id: &'a str,
    /// Whether bodies may carry the `guardrail` annotation; the message is there either way.
    pub annotate: bool,
}

impl Notice<'_> {
    /// The `guardrail` member, version 1.
    pub(crate) fn annotation(&self) -> Value {
        let mut rule = json!({
            "id": self.rule,
            "stage": self.stage,
            "verdict": if self.action == "allow" { "allow" } else { "deny" },
            "action": self.action,
        });
        for (key, value) in [("score", self.score), ("threshold", self.threshold)] {
            if let Some(value) = value {
                // Four digits: an f32 printed as a double shows digits that mean nothing.
                rule[key] = json!((f64::from(value) * 1e4).round() / 1e4);
            }
        }
        json!({
            "version": 1,
            "action": self.action,
            "stage": self.stage,
            "policy": self.policy,
            "revision": self.revision,
            "rules": [rule],
            "request_id": self.request_id,
        })
    }

    /// The same as JSON text.
    pub fn note(&self) -> Vec<u8> {
        self.annotation().to_string().into_bytes()
    }

    /// Adds the `guardrail` member to `object`, if it may be there.
    pub(crate) fn annotate_into(&self, object: &mut Value) {
        if self.annotate {
            object["guardrail"] = self.annotation();
        }
    }
}

/// Tokens that an upstream says it counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens read.
    pub input: u64,
    /// Tokens written.
    pub output: u64,
}
