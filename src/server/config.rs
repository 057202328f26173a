//! How the listeners are written down in the process configuration.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

/// Both listeners and their limits.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where applications connect.
    pub listen: SocketAddr,
    /// Where operators and Prometheus connect. Keep it on loopback or a private network: it has no login.
    pub admin: SocketAddr,
    /// TLS on the data listener; plain when absent.
    pub tls: Option<TlsConfig>,
    /// Connections at the data listener at one time; more wait in the system's backlog.
    pub max_connections: usize,
    /// Milliseconds that a client may take for a request's head (and for the TLS handshake).
    pub header_timeout_ms: u64,
    /// Milliseconds that running requests get to finish once the process was told to stop.
    pub drain_timeout_ms: u64,
}

/// Certificate chain and key in PEM files.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file with the certificate chain, leaf first.
    pub cert: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}
