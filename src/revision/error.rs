//! Why critic, reviser, judge or rival brought nothing.

use crate::upstream;

/// Why a question brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The call failed.
    #[error("the {role} could not be asked: {source}")]
    Upstream {
        /// `critic`, `reviser`, `judge` or `rival`.
        role: &'static str,
        /// What happened.
        source: upstream::Error,
    },
    /// The upstream refused.
    #[error("the {role} was asked and the upstream answered with status {status}")]
    Status {
        /// `critic`, `reviser`, `judge` or `rival`.
        role: &'static str,
        /// The status.
        status: u16,
    },
    /// What came back is not what was asked for.
    #[error("the {role} did not answer with what was asked for: {reason}")]
    Unreadable {
        /// `critic`, `reviser`, `judge` or `rival`.
        role: &'static str,
        /// What is wrong with it; holds none of its text.
        reason: String,
    },
    /// All rounds together took too long.
    #[error("critique and revision were not done in time")]
    Timeout,
    /// All rounds together wrote too much.
    #[error("critique and revision have used up their tokens")]
    Tokens,
}

impl Error {
    pub(super) fn unreadable(role: &'static str, reason: impl Into<String>) -> Self {
        Self::Unreadable { role, reason: reason.into() }
    }

    /// A JSON error by kind and place only: its message could quote the model's text.
    pub(super) fn no_json(role: &'static str, error: &serde_json::Error) -> Self {
        let reason = format!("{:?} error at line {}, column {}", error.classify(), error.line(), error.column());
        Self::Unreadable { role, reason }
    }

    /// Whether the budget is at its end, which is nobody's fault.
    pub fn is_budget(&self) -> bool {
        matches!(self, Self::Timeout | Self::Tokens)
    }
}
