//! How an upstream is written down in the process configuration.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

/// Which family of wire format and credentials an upstream takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// `OpenAI` and everything compatible with it: `authorization: Bearer KEY`.
    OpenAi,
    /// Anthropic: `x-api-key: KEY`.
    Anthropic,
    /// Azure `OpenAI`, by deployment or by its `v1` paths: `api-key: KEY`.
    Azure,
}

impl Provider {
    /// Every provider.
    pub const ALL: [Provider; 3] = [Provider::OpenAi, Provider::Anthropic, Provider::Azure];

    /// The path for questions of our own to its models.
    pub fn questions(self) -> &'static str {
        match self {
            Self::OpenAi => "/v1/chat/completions",
            Self::Anthropic => "/v1/messages",
            Self::Azure => "/openai/v1/chat/completions",
        }
    }

    /// The word used in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Azure => "azure",
        }
    }
}

/// One upstream as written.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The wire format it speaks.
    pub dialect: Provider,
    /// Scheme, host, optional port and optional path prefix; the dialect's own path is appended.
    pub url: String,
    /// Name of the environment variable that holds the provider's key.
    pub api_key_env: Option<String>,
    /// Sends the client's own key up instead of one of ours.
    #[serde(default)]
    pub forward_client_key: bool,
    /// Only for what a policy names it for, such as revisions; clients' requests never go there.
    #[serde(default)]
    pub aside: bool,
    /// PEM file of further certificate authorities to trust, for upstreams behind a private one.
    pub ca_file: Option<std::path::PathBuf>,
    /// Milliseconds to wait for a connection, TLS included.
    #[serde(default = "connect_ms")]
    pub connect_timeout_ms: u64,
    /// Milliseconds from the request sent to the head of the answer.
    #[serde(default = "first_byte_ms")]
    pub first_byte_timeout_ms: u64,
    /// Milliseconds between two pieces of an answer.
    #[serde(default = "idle_ms")]
    pub idle_timeout_ms: u64,
    /// Milliseconds for the whole call.
    #[serde(default = "total_ms")]
    pub total_timeout_ms: u64,
}

/// Why an upstream cannot be used as it was configured.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The address is not one.
    #[error("upstreams.{name}.url: `{url}` is not an http or https URL without query (e.g. https://api.example.com)")]
    Url {
        /// The upstream's name.
        name: String,
        /// What was written.
        url: String,
    },
    /// No key was named, and the client's is not forwarded.
    #[error("upstreams.{name}: expected `api_key_env: VARIABLE` or `forward_client_key: true`")]
    NoKey {
        /// The upstream's name.
        name: String,
    },
    /// Both ways were written.
    #[error("upstreams.{name}: `api_key_env` and `forward_client_key` exclude each other")]
    TwoKeys {
        /// The upstream's name.
        name: String,
    },
    /// A client's key is for the upstream that the client asked.
    #[error("upstreams.{name}: an upstream that is `aside` needs a key of its own: expected `api_key_env: VARIABLE`")]
    Aside {
        /// The upstream's name.
        name: String,
    },
    /// The variable is not set.
    #[error(
        "upstreams.{name}.api_key_env: the environment variable {variable} is not set; run `export {variable}=...` first"
    )]
    KeyNotSet {
        /// The upstream's name.
        name: String,
        /// The variable's name.
        variable: String,
    },
    /// The key cannot stand in a header.
    #[error("upstreams.{name}.api_key_env: the value of {variable} holds characters that no key has")]
    KeyUnusable {
        /// The upstream's name.
        name: String,
        /// The variable's name.
        variable: String,
    },
    /// A certificate file could not be read.
    #[error("upstreams.{name}.ca_file: {reason}")]
    CaFile {
        /// The upstream's name.
        name: String,
        /// What went wrong.
        reason: String,
    },
    /// TLS could not be set up.
    #[error("upstreams.{name}: TLS could not be set up: {reason}")]
    Tls {
        /// The upstream's name.
        name: String,
        /// What went wrong.
        reason: String,
    },
}

/// The timeouts of one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    pub(super) first_byte: Duration,
    pub(super) idle: Duration,
    pub(super) total: Duration,
}

impl Config {
    pub(super) fn timeouts(&self) -> Timeouts {
        Timeouts {
            first_byte: Duration::from_millis(self.first_byte_timeout_ms),
            idle: Duration::from_millis(self.idle_timeout_ms),
            total: Duration::from_millis(self.total_timeout_ms),
        }
    }
}

fn connect_ms() -> u64 {
    5_000
}

/// The official SDKs wait ten minutes; so do we.
fn first_byte_ms() -> u64 {
    600_000
}

fn idle_ms() -> u64 {
    120_000
}

fn total_ms() -> u64 {
    900_000
}
