//! `wardline policy resolve`

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

use super::Failed;
use super::assemble::known_unloaded;
use crate::config::Config;
use crate::policy::{Asking, Key, PolicyFile};

/// What is asked about.
#[derive(Debug, clap::Args)]
pub(super) struct Request {
    /// The route, as in metrics: `chat` or `messages`.
    #[arg(long, value_name = "ROUTE", default_value = "chat")]
    route: String,
    /// The model that the client names.
    #[arg(long, value_name = "MODEL", default_value = "")]
    model: String,
    /// The client's key; it is hashed and not written anywhere.
    #[arg(long, value_name = "KEY", conflicts_with = "key_hash")]
    key: Option<String>,
    /// The first 16 or more hex digits of the key's SHA-256, in its place.
    #[arg(long, value_name = "DIGITS")]
    key_hash: Option<String>,
}

/// Says which policy a request would get, and why. Reads files only; what a running gateway does, its admin page tells.
pub(super) fn run(config: &Path, request: &Request) -> Result<(), Failed> {
    let config = Config::read(config).map_err(|error| Failed::Told(error.to_string()))?;
    let key = request.key.as_ref().map(|key| Key::Sent(key.as_bytes()));
    let key = key.or(request.key_hash.as_deref().map(Key::Hashed));
    let (name, line) = config.policies.chosen(&Asking { route: &request.route, model: &request.model, key });
    let files = PolicyFile::read_all(&config.policies.dir, &known_unloaded(&config)?);
    let files = files.map_err(|error| Failed::Told(error.report()))?;
    let chosen_by = line.map_or("policies.active".to_owned(), |line| format!("policies.select[{line}]"));
    let Some(file) = files.iter().find(|file| file.policy.name == name) else {
        return Err(Failed::Told(config.complaint(&format!("{chosen_by}: no policy `{name}`"))));
    };
    let policy = &file.policy;
    let mut text = format!("{name} rev {}, chosen by {chosen_by}\n{}\n", policy.revision, file.path.display());
    for rule in &policy.rules {
        let _ = writeln!(text, "  {} {} ({})", rule.id, rule.action.as_str(), rule.mode.as_str());
    }
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| Failed::Ran(error.to_string()))
}
