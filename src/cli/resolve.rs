//! `wardline policy resolve`

use std::fmt::Write as _;
use std::path::Path;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Failed;
use super::assemble::{configured, known_unloaded};
use super::output::print;
use crate::config::Config;
use crate::policy::{Asking, Key, PolicyFile};
use crate::yaml;

/// What is asked about.
#[derive(Debug, clap::Args)]
pub(super) struct Request {
    /// The route, as in metrics, e.g. `chat` or `messages`.
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
    /// The tenant; by default whose key it is, or whom the header that the configuration trusts names.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// A header that the client sends.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Also show all that the policy says, what it inherits put in, and where each line is written.
    #[arg(long)]
    full: bool,
}

fn header(written: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = written.split_once('=').ok_or("expected NAME=VALUE")?;
    let name = HeaderName::try_from(name).map_err(|error| error.to_string())?;
    Ok((name, HeaderValue::try_from(value).map_err(|error| error.to_string())?))
}

/// Says which policy a request would get, and why. Reads files only; what a running gateway does, its admin page tells.
pub(super) fn run(config: &Path, request: &Request) -> Result<(), Failed> {
    let config = configured(config)?;
    let key = request.key.as_ref().map(|key| Key::Sent(key.as_bytes()));
    let key = key.or(request.key_hash.as_deref().map(Key::Hashed));
    let headers: HeaderMap = request.headers.iter().cloned().collect();
    let tenant = tenant(&config, request.tenant.as_deref(), key, &headers)?;
    let (route, model) = (request.route.as_str(), request.model.as_str());
    let (name, line) = config.policies.chosen(&Asking { route, model, key, tenant, headers: Some(&headers) });
    let files = PolicyFile::read_all(&config.policies.dir, &known_unloaded(&config)?);
    let files = files.map_err(|error| Failed::Told(error.report()))?;
    let chosen_by = line.map_or("policies.active".to_owned(), |line| format!("policies.select[{line}]"));
    let Some(file) = files.iter().find(|file| file.policy.name == name) else {
        return Err(Failed::Told(config.complaint(&format!("{chosen_by}: no policy `{name}`"))));
    };
    let policy = &file.policy;
    let mut text = format!("{name} rev {}, chosen by {chosen_by}\n{}\n", policy.revision, file.path.display());
    if let Some(tenant) = tenant {
        let _ = writeln!(text, "tenant {tenant}");
    }
    for base in file.bases() {
        let _ = writeln!(text, "extends {}", base.display());
    }
    for rule in &policy.rules {
        let _ = writeln!(text, "  {} {} ({})", rule.id, rule.action.as_str(), rule.mode.as_str());
    }
    if request.full {
        let _ = write!(text, "\n{}", file.resolved());
    }
    print(&text)
}

/// Whose request it is: as told, or as the gateway would find out.
fn tenant<'c>(
    config: &'c Config,
    told: Option<&str>,
    key: Option<Key<'_>>,
    headers: &HeaderMap,
) -> Result<Option<&'c str>, Failed> {
    let tenants = &config.policies.tenants;
    let Some(told) = told else { return Ok(tenants.of(key, headers)) };
    let known = tenants.known.keys().map(String::as_str);
    let unknown = || format!("tenants.known: unknown tenant `{told}`, {}", yaml::expected("tenant", told, known));
    tenants.named(told).map(Some).ok_or_else(|| Failed::Told(config.complaint(&unknown())))
}
