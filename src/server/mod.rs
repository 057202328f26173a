//! Sockets: the data listener, the admin listener, TLS, limits, and a drain that loses nothing.
//!
//! Knows connections and the end of the process, and nothing of what a request means: that is the gateway's.

mod accept;
mod admin;
mod config;
mod tls;

pub use accept::{BindError, Server};
pub use config::{Config, TlsConfig};
pub use tls::TlsError;
