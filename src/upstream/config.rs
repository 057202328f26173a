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
#[error("upstreams.{name}{}{}: {mistake}", if mistake.key().is_some() { "." } else { "" }, mistake.key().unwrap_or_default())]
pub struct ConfigError {
    /// The upstream's name.
    pub name: String,
    /// What is wrong with it.
    pub mistake: Mistake,
}

/// What is wrong with an upstream as it was configured.
#[derive(Debug, thiserror::Error)]
pub enum Mistake {
    /// The address is not one.
    #[error("`{0}` is not an http or https URL without query (e.g. https://api.example.com)")]
    Url(String),
    /// No key was named, and the client's is not forwarded.
    #[error("expected `api_key_env: VARIABLE` or `forward_client_key: true`")]
    NoKey,
    /// Both ways were written.
    #[error("`api_key_env` and `forward_client_key` exclude each other")]
    TwoKeys,
    /// A client's key is for the upstream that the client asked.
    #[error("an upstream that is `aside` needs a key of its own: expected `api_key_env: VARIABLE`")]
    Aside,
    /// The variable is not set.
    #[error("the environment variable {0} is not set; run `export {0}=...` first")]
    KeyNotSet(String),
    /// The key cannot stand in a header.
    #[error("the value of {0} holds characters that no key has")]
    KeyUnusable(String),
    /// A certificate file could not be read.
    #[error("{0}")]
    CaFile(String),
    /// TLS could not be set up.
    #[error("TLS could not be set up: {0}")]
    Tls(String),
}

impl Mistake {
    /// The setting that it is about; none where it is about several.
    pub fn key(&self) -> Option<&'static str> {
        match self {
            Self::Url(_) => Some("url"),
            Self::KeyNotSet(_) | Self::KeyUnusable(_) => Some("api_key_env"),
            Self::CaFile(_) => Some("ca_file"),
            Self::NoKey | Self::TwoKeys | Self::Aside | Self::Tls(_) => None,
        }
    }
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
