//! The process configuration: as written in one YAML file, then checked and composed of each room's own.
//!
//! Only `cli` imports this. Relative paths in the file are relative to the file, so that it means the same from
//! everywhere.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::telemetry::Format;
use crate::yaml::{self, Unreadable};
use crate::{classify, gateway, pairs, policy, server, upstream};

/// A configuration that can be acted on.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that it was read from.
    pub file: PathBuf,
    /// Listeners, TLS and connection limits.
    pub server: server::Config,
    /// Limits of requests and answers.
    pub gateway: gateway::Config,
    /// Providers by name.
    pub upstreams: BTreeMap<String, upstream::Config>,
    /// Where policies lie, and which is in force.
    pub policies: policy::Config,
    /// The classifier; none where no policy needs one.
    pub classifier: Option<classify::Config>,
    /// Where preference pairs go; none where they are not kept.
    pub pairs: Option<pairs::Config>,
    /// Log lines.
    pub log: Log,
}

/// Log lines.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Their form.
    pub format: Format,
    /// The least severe level that is written: `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: Format::Text, level: "info".to_owned() }
    }
}

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read or is not what was expected.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// It could not be opened.
    #[error("{}: {source}; expected the process configuration there, or another one by --config FILE", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is well formed and makes no sense.
    #[error("{0}")]
    Senseless(String),
}

/// The file, word for word.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    listen: SocketAddr,
    admin: SocketAddr,
    tls: Option<server::TlsConfig>,
    upstreams: BTreeMap<String, upstream::Config>,
    policies: policy::Config,
    classifier: Option<classify::Config>,
    pairs: Option<pairs::Config>,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    log: Log,
}

/// Every limit of the process in one place.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Limits {
    max_connections: usize,
    header_timeout_ms: u64,
    drain_timeout_ms: u64,
    max_request_bytes: usize,
    max_answer_bytes: usize,
    ledger_bytes: usize,
    body_timeout_ms: u64,
    heartbeat_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let gateway = gateway::Config::default();
        Self {
            max_connections: 4096,
            header_timeout_ms: 10_000,
            drain_timeout_ms: 30_000,
            max_request_bytes: gateway.max_request_bytes,
            max_answer_bytes: gateway.max_answer_bytes,
            ledger_bytes: gateway.ledger_bytes,
            body_timeout_ms: gateway.body_timeout_ms,
            heartbeat_ms: gateway.heartbeat_ms,
        }
    }
}

impl Config {
    /// Reads and checks one file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let written: Written = yaml::read(path).map_err(|error| match error {
            Unreadable::Read { path, source } => ConfigError::Missing { path, source },
            mistake @ Unreadable::Mistake(_) => mistake.into(),
        })?;
        let senseless = |key: &str, reason: &str| Err(ConfigError::Senseless(yaml::mistake_with(path, key, reason)));
        if written.listen == written.admin && written.listen.port() != 0 {
            return senseless("admin", "expected another address than `listen`");
        }
        if written.upstreams.is_empty() {
            return senseless("upstreams", "expected at least one upstream");
        }
        for provider in upstream::Provider::ALL {
            let serves = |upstream: &&upstream::Config| upstream.dialect == provider && !upstream.aside;
            if written.upstreams.values().filter(serves).count() > 1 {
                let reason = format!(
                    "expected at most one upstream of dialect `{}` for clients' requests; mark others `aside: true`",
                    provider.as_str()
                );
                return senseless("upstreams", &reason);
            }
        }
        if !["error", "warn", "info", "debug", "trace"].contains(&written.log.level.as_str()) {
            return senseless("log.level", "expected `error`, `warn`, `info`, `debug` or `trace`");
        }
        if written.limits.max_connections == 0 || written.limits.max_request_bytes == 0 {
            return senseless("limits", "expected limits above 0");
        }
        Ok(written.checked(path))
    }

    /// Tells a room's complaint about its part of the configuration, `key: what is wrong`, with its place in the file.
    pub fn complaint(&self, complaint: &str) -> String {
        let (key, message) = complaint.split_once(": ").unwrap_or(("", complaint));
        yaml::mistake_with(&self.file, key, message)
    }
}

impl Written {
    fn checked(mut self, file: &Path) -> Config {
        let base = file.parent().unwrap_or(Path::new(""));
        let based = |path: &mut PathBuf| *path = base.join(&*path);
        based(&mut self.policies.dir);
        if let Some(tls) = &mut self.tls {
            based(&mut tls.cert);
            based(&mut tls.key);
        }
        if let Some(classifier) = &mut self.classifier {
            based(&mut classifier.dir);
            classifier.runtime.iter_mut().for_each(based);
        }
        if let Some(pairs) = &mut self.pairs {
            based(&mut pairs.dir);
        }
        for upstream in self.upstreams.values_mut() {
            upstream.ca_file.iter_mut().for_each(based);
        }
        let limits = self.limits;
        Config {
            file: file.to_owned(),
            server: server::Config {
                listen: self.listen,
                admin: self.admin,
                tls: self.tls,
                max_connections: limits.max_connections,
                header_timeout_ms: limits.header_timeout_ms,
                drain_timeout_ms: limits.drain_timeout_ms,
            },
            gateway: gateway::Config {
                max_request_bytes: limits.max_request_bytes,
                max_answer_bytes: limits.max_answer_bytes,
                ledger_bytes: limits.ledger_bytes,
                body_timeout_ms: limits.body_timeout_ms,
                heartbeat_ms: limits.heartbeat_ms.max(1),
            },
            upstreams: self.upstreams,
            policies: self.policies,
            classifier: self.classifier,
            pairs: self.pairs,
            log: self.log,
        }
    }
}
