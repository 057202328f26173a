//! The dialects Wardline speaks, where a text comes from, and how much of a document is read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A wire dialect: one request shape, one answer shape, one stream shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `OpenAI` Chat Completions, `POST /v1/chat/completions`.
    OpenAiChat,
    /// Anthropic Messages, `POST /v1/messages`.
    AnthropicMessages,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Dialect; 2] = [Dialect::OpenAiChat, Dialect::AnthropicMessages];

    /// A short fixed name, fit for a metric label.
    pub fn route(self) -> &'static str {
        match self {
            Dialect::OpenAiChat => "chat",
            Dialect::AnthropicMessages => "messages",
        }
    }

    /// The one path that speaks it.
    pub fn path(self) -> &'static str {
        match self {
            Dialect::OpenAiChat => "/v1/chat/completions",
            Dialect::AnthropicMessages => "/v1/messages",
        }
    }

    /// The dialect of exactly this path.
    pub fn from_path(path: &str) -> Option<Dialect> {
        Dialect::ALL.into_iter().find(|dialect| dialect.path() == path)
    }
}

/// Who is behind a text; policies may judge each differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A system prompt.
    System,
    /// A developer message.
    Developer,
    /// A user message.
    User,
    /// An earlier answer that the client sends back, or a prefill.
    Assistant,
    /// What a tool or a search brought: the usual way of indirect injection.
    ToolResult,
    /// An attached document.
    Document,
    /// Name, description and schema of a tool.
    ToolDefinition,
    /// Name and arguments of a tool call, in a request or an answer.
    ToolArgs,
    /// The model's thinking.
    Reasoning,
    /// The answer.
    Output,
    /// Every other string: metadata, stop sequences, unknown fields and keys.
    Other,
}

impl Origin {
    /// Every origin.
    pub const ALL: [Origin; 11] = [
        Origin::System,
        Origin::Developer,
        Origin::User,
        Origin::Assistant,
        Origin::ToolResult,
        Origin::Document,
        Origin::ToolDefinition,
        Origin::ToolArgs,
        Origin::Reasoning,
        Origin::Output,
        Origin::Other,
    ];

    /// Its name in policies, metrics and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::System => "system",
            Origin::Developer => "developer",
            Origin::User => "user",
            Origin::Assistant => "assistant",
            Origin::ToolResult => "tool_result",
            Origin::Document => "document",
            Origin::ToolDefinition => "tool_definition",
            Origin::ToolArgs => "tool_args",
            Origin::Reasoning => "reasoning",
            Origin::Output => "output",
            Origin::Other => "other",
        }
    }
}

impl std::str::FromStr for Origin {
    type Err = UnknownOrigin;

    fn from_str(name: &str) -> Result<Origin, UnknownOrigin> {
        Origin::ALL.into_iter().find(|origin| origin.as_str() == name).ok_or(UnknownOrigin)
    }
}

/// A name that is no [`Origin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown origin")]
pub struct UnknownOrigin;

/// Caps on what is read of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Containers within containers.
    pub depth: usize,
    /// Values and keys in all.
    pub nodes: usize,
    /// Lets images, audio and files pass although nothing here can judge them.
    pub allow_media: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { depth: 64, nodes: 200_000, allow_media: false }
    }
}
