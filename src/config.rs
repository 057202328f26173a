//! The process configuration: as written in one YAML file, then checked and composed of each room's own.
//!
//! Only `cli` imports this. Relative paths in the file are relative to the file, so that it means the same from
//! everywhere.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
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
    /// Classifiers on servers, by name.
    pub classifiers: BTreeMap<String, classify::Remote>,
    /// Where preference pairs go; none where they are not kept.
    pub pairs: Option<pairs::Config>,
    /// Where cases of roll-outs go; none where they are only counted.
    pub rollouts: Option<gateway::RolloutConfig>,
    /// Log lines.
    pub log: Log,
}

/// Log lines.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Their form.
    pub format: Format,
    /// The least severe level that is written: `error`, `warn`, `info`, `debug` or `trace`.
    #[schemars(extend("enum" = ["error", "warn", "info", "debug", "trace"]))]
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

/// The JSON Schema of the configuration file.
pub fn json_schema() -> serde_json::Value {
    yaml::schema_of::<Written>("The configuration of Wardline")
}

/// Where the process listens, what it stands in front of, which policy is in force. Paths are relative to this file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Configuration")]
struct Written {
    /// Where applications connect, e.g. `127.0.0.1:8787`.
    #[schemars(with = "String")]
    listen: SocketAddr,
    /// Where operators and Prometheus connect. Keep it on loopback or a private network: it has no login.
    #[schemars(with = "String")]
    admin: SocketAddr,
    /// TLS on the data listener; plain when absent.
    tls: Option<server::TlsConfig>,
    /// Providers by a name of your choice; one a dialect.
    #[schemars(length(min = 1))]
    upstreams: BTreeMap<String, upstream::Config>,
    /// Where policies lie, and which is in force.
    policies: policy::Config,
    /// Who sends requests, so that policies, verdicts and counters can tell them apart; by default nobody is told apart.
    #[serde(default)]
    tenants: policy::Tenants,
    /// The classifier; not needed where no policy has a classifier rule.
    classifier: Option<classify::Config>,
    /// Classifiers on servers, by a name of your choice: a rule asks one as it asks a head of the classifier.
    #[serde(default)]
    classifiers: BTreeMap<String, classify::Remote>,
    /// Where before/after rows of revised answers go; by default they are not kept.
    pairs: Option<pairs::Config>,
    /// Where cases go in which an old and a new policy differ; by default they are only counted.
    rollouts: Option<gateway::RolloutConfig>,
    /// Every limit of the process.
    #[serde(default)]
    limits: Limits,
    /// Log lines.
    #[serde(default)]
    log: Log,
}

/// Every limit of the process in one place.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Limits {
    /// Connections at the data listener at one time; by default 4096.
    #[schemars(range(min = 1))]
    max_connections: usize,
    /// Milliseconds that a client may take for a request's head; by default 10 000.
    header_timeout_ms: u64,
    /// Milliseconds that running requests get to finish once the process was told to stop; by default 30 000.
    drain_timeout_ms: u64,
    /// Largest request body, decoded, in bytes; by default 10 MiB.
    #[schemars(range(min = 1))]
    max_request_bytes: usize,
    /// Largest answer that is read as a whole, in bytes; by default 16 MiB.
    max_answer_bytes: usize,
    /// Memory for verdicts of prompts, in bytes; 0 for none; by default 64 MiB.
    ledger_bytes: usize,
    /// Milliseconds that a client may take to send its body; by default 30 000.
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
        if let Some(name) = written.classifiers.keys().find(|name| written.upstreams.contains_key(*name)) {
            return senseless(&format!("classifiers.{name}"), "an upstream has this name; metrics tell both by theirs");
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
            for sink in &mut pairs.sinks {
                if let Some(parquet) = sink.parquet.as_mut().filter(|parquet| !parquet.url.contains("://")) {
                    parquet.url = base.join(&parquet.url).to_string_lossy().into_owned();
                }
                if let Some(nats) = &mut sink.nats {
                    [&mut nats.credentials_file, &mut nats.ca_file].into_iter().flatten().for_each(based);
                }
            }
        }
        if let Some(rollouts) = &mut self.rollouts {
            based(&mut rollouts.dir);
        }
        for upstream in self.upstreams.values_mut() {
            upstream.ca_file.iter_mut().for_each(based);
        }
        for classifier in self.classifiers.values_mut() {
            classifier.ca_file.iter_mut().for_each(based);
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
            policies: policy::Config { tenants: self.tenants, ..self.policies },
            classifier: self.classifier,
            classifiers: self.classifiers,
            pairs: self.pairs,
            rollouts: self.rollouts,
            log: self.log,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const SHIPPED: &str = include_str!("../wardline.yaml");

    #[test]
    fn the_shipped_configuration_is_valid_and_names_its_schema() {
        let validator = jsonschema::draft7::new(&json_schema()).unwrap();
        for text in [SHIPPED, include_str!("../deploy/wardline.container.yaml")] {
            let value: Value = serde_saphyr::from_str(text).unwrap();
            let told: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
            assert!(told.is_empty(), "{told:#?}");
        }
        assert!(SHIPPED.starts_with("# yaml-language-server: $schema=policies/schema/config.json\n"));
    }

    #[test]
    fn mistakes_of_form_are_refused_by_schema_and_reader() {
        let validator = jsonschema::draft7::new(&json_schema()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        for (from, to) in [
            ("listen: 127.0.0.1:8787", "listn: 127.0.0.1:8787"),
            ("listen: 127.0.0.1:8787", "listen: [1]"),
            ("    dialect: openai\n    url: https://api", "    dialect: opnai\n    url: https://api"),
            ("    url: https://api.openai.com\n", ""),
            ("url: https://api.openai.com", "url: {}"),
            ("active: default", "activ: default"),
            ("level: info", "level: loud"),
            ("format: text ", "format: xml "),
            ("classifier:\n", "classifier:\n  thread: 2\n"),
            ("classifier:\n", "classifier:\n  threads: some\n"),
            ("log:", "limits: { max_connections: 0 }\nlog:"),
            ("log:", "limits: { max_connection: 9 }\nlog:"),
        ] {
            assert_eq!(SHIPPED.matches(from).count(), 1, "not one place to spoil: {from}");
            let spoilt = SHIPPED.replacen(from, to, 1);
            let file = dir.path().join("wardline.yaml");
            std::fs::write(&file, &spoilt).unwrap();
            assert!(Config::read(&file).is_err(), "the reader takes {from:?} -> {to:?}");
            let value: Value = serde_saphyr::from_str(&spoilt).unwrap();
            assert!(!validator.is_valid(&value), "the schema takes {from:?} -> {to:?}");
        }
    }
}
