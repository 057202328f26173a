//! `wardline check`

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::Failed;
use super::assemble::{assemble, configured, environment, known_unloaded};
use super::output::print;
use super::policies::files;
use super::serve::runtime;
use crate::config::Config;
use crate::guard;

/// Checks what `serve` would read, or only the policies named.
pub(super) fn run(path: &Path, policies: &[PathBuf]) -> Result<(), Failed> {
    let config = configured(path)?;
    let text = if policies.is_empty() { whole(path, &config)? } else { named(&config, policies)? };
    print(&text)
}

fn whole(path: &Path, config: &Config) -> Result<String, Failed> {
    let runtime = runtime()?;
    let parts = assemble(config, environment, runtime.handle())?;
    let snapshot = parts.gateway.policies.snapshot();
    let policy = &snapshot.policy;
    Ok(format!(
        "{}: ok. Policy {} rev {}, {} rules, {} principles, {} tests passed, {} upstreams.\n",
        path.display(),
        policy.name,
        policy.revision,
        policy.rules.len(),
        policy.constitution.principles.len(),
        snapshot.tests.len(),
        parts.gateway.upstreams.len(),
    ))
}

fn named(config: &Config, policies: &[PathBuf]) -> Result<String, Failed> {
    let mut text = String::new();
    for file in files(config, policies, &known_unloaded(config)?)? {
        let path = file.path.display().to_string();
        let policy = &file.policy;
        guard::compiles(policy).map_err(|reason| Failed::Told(format!("{path}: {reason}")))?;
        let _ = writeln!(
            text,
            "{path}: ok. Policy {} rev {}, {} rules, {} principles, {} tests not run.",
            policy.name,
            policy.revision,
            policy.rules.len(),
            policy.constitution.principles.len(),
            file.tests.len()
        );
    }
    Ok(text)
}
