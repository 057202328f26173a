//! One call to a provider: connections, TLS, timeouts, header hygiene.
//!
//! Where a call goes is fixed by configuration: nothing that a client sends can choose an address, and a key travels
//! to its own upstream's origin only. Redirects are never followed, bodies are never understood here, and a request is
//! never sent twice once a byte of it may have gone.

mod body;
mod client;
mod config;
mod headers;

pub use body::Answer;
pub use client::{Error, Response, Upstream};
pub use config::{Config, ConfigError, Mistake, Provider};
pub use headers::downstream as downstream_headers;
