//! Sinks as they are written in the process configuration.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest name.
const NAME_CHARS: usize = 32;

/// One sink: a name, and one of `parquet` and `nats`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkConfig {
    /// Its name in metrics, and in the notes about what it has: small letters, digits, `-` and `_`.
    #[schemars(regex(pattern = r"^[a-z0-9_-]{1,32}$"))]
    pub name: String,
    /// Files that are closed go to an object store as Parquet.
    #[serde(default)]
    pub parquet: Option<ParquetConfig>,
    /// Rows go to NATS `JetStream` as they come.
    #[serde(default)]
    pub nats: Option<NatsConfig>,
}

/// Parquet in an object store: `URL/pairs/date=YYYY-MM-DD/NAME.parquet`, and the same under `unpaired`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParquetConfig {
    /// `s3://BUCKET`, `s3://BUCKET/PREFIX`, or a directory.
    pub url: String,
    /// Where the S3 API is, if not at AWS, e.g. `https://minio.internal:9000`.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The bucket's region; by default `AWS_REGION`, else `us-east-1`.
    #[serde(default)]
    pub region: Option<String>,
    /// Lets rows and keys go over http, without TLS.
    #[serde(default)]
    pub allow_http: bool,
    /// Environment variable with the access key's id. By default keys are found as AWS tools do: `AWS_ACCESS_KEY_ID`, web
    /// identity, the container's or machine's role.
    #[serde(default)]
    pub access_key_id_env: Option<String>,
    /// Environment variable with the secret access key.
    #[serde(default)]
    pub secret_access_key_env: Option<String>,
    /// Milliseconds that one request may take; by default 60 000.
    #[serde(default = "minute")]
    pub timeout_ms: u64,
}

/// NATS `JetStream`: a message a row, its JSON, with the row's id as `Nats-Msg-Id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NatsConfig {
    /// `nats://HOST:PORT` or `tls://HOST:PORT`; several servers of one cluster with commas between.
    pub url: String,
    /// Rows go to `SUBJECT.pairs` and `SUBJECT.unpaired`, which a stream must take.
    #[serde(default = "subject")]
    pub subject: String,
    /// A `.creds` file.
    #[serde(default)]
    pub credentials_file: Option<PathBuf>,
    /// Environment variable with a user's name; needs `password_env`.
    #[serde(default)]
    pub user_env: Option<String>,
    /// Environment variable with the user's password.
    #[serde(default)]
    pub password_env: Option<String>,
    /// Environment variable with a token.
    #[serde(default)]
    pub token_env: Option<String>,
    /// PEM file of certificate authorities to trust beside the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Milliseconds to wait for a connection, and for the stream to confirm a row; by default 5000.
    #[serde(default = "five_seconds")]
    pub timeout_ms: u64,
}

fn minute() -> u64 {
    60_000
}

fn five_seconds() -> u64 {
    5_000
}

fn subject() -> String {
    "wardline".to_owned()
}

/// Why a sink cannot be used as it was configured: the key under `pairs`, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct SinkError {
    key: String,
    reason: String,
}

/// Says what is wrong with one of a sink's keys, e.g. `parquet.url`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(pub(super) usize);

impl Place {
    pub(super) fn error(self, key: &str, reason: impl Into<String>) -> SinkError {
        let dot = if key.is_empty() { "" } else { "." };
        SinkError { key: format!("sinks[{}]{dot}{key}", self.0), reason: reason.into() }
    }

    /// The value of the environment variable that a key names, if it names one.
    pub(super) fn variable(
        self,
        key: &str,
        named: Option<&str>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<String>, SinkError> {
        let Some(name) = named else { return Ok(None) };
        match variable(name) {
            Some(value) if !value.is_empty() => Ok(Some(value)),
            _ => {
                let reason = format!("the environment variable {name} is not set; run `export {name}=...` first");
                Err(self.error(key, reason))
            }
        }
    }
}

/// Names that can stand in a label and in a file's name, each once.
pub(super) fn check_names(sinks: &[SinkConfig]) -> Result<(), SinkError> {
    for (at, sink) in sinks.iter().enumerate() {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        let name = &sink.name;
        if name.is_empty() || name.len() > NAME_CHARS || !name.chars().all(fits) {
            return Err(Place(at).error("name", "expected up to 32 small letters, digits, `-` and `_`"));
        }
        if name == "spool" || sinks[..at].iter().any(|other| other.name == *name) {
            return Err(Place(at).error("name", format!("`{name}` is taken; expected another name")));
        }
    }
    Ok(())
}
