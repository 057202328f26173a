//! Wardline: an inline guardrail gateway for LLM APIs.

pub mod policy;
pub mod telemetry;

/// Stand-in for the api room, as far as policies speak of it; `pub mod api;` takes its place.
pub mod api {
    use serde::{Deserialize, Serialize};

    /// Where a text comes from.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    #[expect(missing_docs, reason = "documented in the api room")]
    pub enum Origin {
        System,
        Developer,
        User,
        Assistant,
        ToolResult,
        Document,
        ToolDefinition,
        ToolArgs,
        Reasoning,
        Output,
        Other,
    }

    impl Origin {
        /// The word in policies.
        pub fn as_str(self) -> &'static str {
            match self {
                Self::System => "system",
                Self::Developer => "developer",
                Self::User => "user",
                Self::Assistant => "assistant",
                Self::ToolResult => "tool_result",
                Self::Document => "document",
                Self::ToolDefinition => "tool_definition",
                Self::ToolArgs => "tool_args",
                Self::Reasoning => "reasoning",
                Self::Output => "output",
                Self::Other => "other",
            }
        }
    }
}
