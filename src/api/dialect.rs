//! The dialects Wardline speaks, where a text comes from, and how much of a document is read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::echo::Echo;

/// A wire dialect: one request shape, one answer shape and, where it streams, one stream shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `OpenAI` Chat Completions, `POST /v1/chat/completions`.
    OpenAiChat,
    /// `OpenAI` Responses, `POST /v1/responses`.
    OpenAiResponses,
    /// `OpenAI` token counting, `POST /v1/responses/input_tokens`: the request of Responses, a number for an answer.
    OpenAiTokens,
    /// `OpenAI` legacy Completions, `POST /v1/completions`.
    OpenAiCompletions,
    /// `OpenAI` Embeddings, `POST /v1/embeddings`: texts up, numbers down.
    OpenAiEmbeddings,
    /// `OpenAI` Moderations, `POST /v1/moderations`: answered here.
    OpenAiModerations,
    /// `OpenAI` Models, `GET /v1/models`: no request body.
    OpenAiModels,
    /// Anthropic Messages, `POST /v1/messages`.
    AnthropicMessages,
    /// Anthropic token counting, `POST /v1/messages/count_tokens`: the request of Messages, a number for an answer.
    AnthropicTokens,
    /// Anthropic Models, `GET /v1/models`: no request body.
    AnthropicModels,
}

/// Whose conventions hold for errors and request ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// `{"error":{…}}`, `x-request-id`.
    OpenAi,
    /// `{"type":"error","error":{…}}`, `request-id`.
    Anthropic,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Dialect; 10] = [
        Dialect::OpenAiChat,
        Dialect::OpenAiResponses,
        Dialect::OpenAiTokens,
        Dialect::OpenAiCompletions,
        Dialect::OpenAiEmbeddings,
        Dialect::OpenAiModerations,
        Dialect::OpenAiModels,
        Dialect::AnthropicMessages,
        Dialect::AnthropicTokens,
        Dialect::AnthropicModels,
    ];

    /// The dialects in which a model answers with text, whole or streamed.
    pub const ANSWERED: [Dialect; 4] =
        [Dialect::OpenAiChat, Dialect::OpenAiResponses, Dialect::OpenAiCompletions, Dialect::AnthropicMessages];

    /// A short fixed name, fit for a metric label.
    pub fn route(self) -> &'static str {
        match self {
            Dialect::OpenAiChat => "chat",
            Dialect::OpenAiResponses => "responses",
            Dialect::OpenAiTokens => "input_tokens",
            Dialect::OpenAiCompletions => "completions",
            Dialect::OpenAiEmbeddings => "embeddings",
            Dialect::OpenAiModerations => "moderations",
            Dialect::OpenAiModels | Dialect::AnthropicModels => "models",
            Dialect::AnthropicMessages => "messages",
            Dialect::AnthropicTokens => "count_tokens",
        }
    }

    /// The path that speaks it at the provider's own address.
    pub fn path(self) -> &'static str {
        match self {
            Dialect::OpenAiChat => "/v1/chat/completions",
            Dialect::OpenAiResponses => "/v1/responses",
            Dialect::OpenAiTokens => "/v1/responses/input_tokens",
            Dialect::OpenAiCompletions => "/v1/completions",
            Dialect::OpenAiEmbeddings => "/v1/embeddings",
            Dialect::OpenAiModerations => "/v1/moderations",
            Dialect::OpenAiModels | Dialect::AnthropicModels => "/v1/models",
            Dialect::AnthropicMessages => "/v1/messages",
            Dialect::AnthropicTokens => "/v1/messages/count_tokens",
        }
    }

    /// Whose conventions it follows.
    pub fn family(self) -> Family {
        match self {
            Dialect::AnthropicMessages | Dialect::AnthropicTokens | Dialect::AnthropicModels => Family::Anthropic,
            _ => Family::OpenAi,
        }
    }

    /// What OpenTelemetry's generative-AI conventions call the operation, or the nearest to it.
    pub fn operation(self) -> &'static str {
        match self {
            Dialect::OpenAiChat | Dialect::OpenAiResponses | Dialect::AnthropicMessages => "chat",
            Dialect::OpenAiCompletions => "text_completion",
            Dialect::OpenAiEmbeddings => "embeddings",
            Dialect::OpenAiModerations => "moderation",
            Dialect::OpenAiModels | Dialect::AnthropicModels => "list_models",
            Dialect::AnthropicTokens | Dialect::OpenAiTokens => "count_tokens",
        }
    }

    /// The member of a request that holds the prompt.
    pub fn prompt(self) -> &'static str {
        match self {
            Dialect::OpenAiResponses
            | Dialect::OpenAiTokens
            | Dialect::OpenAiEmbeddings
            | Dialect::OpenAiModerations => "input",
            Dialect::OpenAiCompletions => "prompt",
            _ => "messages",
        }
    }

    /// Whether a model answers with text.
    pub fn is_answered(self) -> bool {
        Dialect::ANSWERED.contains(&self)
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

/// How a document is read: caps, and what is known of it beforehand.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Containers within containers.
    pub depth: usize,
    /// Values and keys in all.
    pub nodes: usize,
    /// Lets images, audio and files pass although nothing here can judge them.
    pub allow_media: bool,
    /// Leaves it to [`Call::undeclared`](crate::api::Call::undeclared) to say whether stored state may be named; else it is an
    /// error.
    pub defer_stored: bool,
    /// The model, where the path names it and the body need not.
    pub deployment: Option<String>,
    /// What an answer may repeat of its request without being judged again.
    pub echo: Echo,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            depth: 64,
            nodes: 200_000,
            allow_media: false,
            defer_stored: false,
            deployment: None,
            echo: Echo::default(),
        }
    }
}
