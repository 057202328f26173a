//! `wardline check`

use std::io::Write;
use std::path::Path;

use super::Failed;
use super::assemble::assemble;
use crate::config::Config;

pub(super) fn run(path: &Path) -> Result<(), Failed> {
    let config = Config::read(path).map_err(|error| Failed::Told(error.to_string()))?;
    let parts = assemble(&config, &|name| std::env::var(name).ok())?;
    let snapshot = parts.gateway.policies.snapshot();
    let policy = &snapshot.policy;
    let line = format!(
        "{}: ok. Policy {} rev {}, {} rules, {} principles, {} upstreams.\n",
        path.display(),
        policy.name,
        policy.revision,
        policy.rules.len(),
        policy.constitution.principles.len(),
        parts.gateway.upstreams.len(),
    );
    std::io::stdout().write_all(line.as_bytes()).map_err(|error| Failed::Ran(error.to_string()))
}
