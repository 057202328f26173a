//! Policy files that a command is given: by path, by name, or all of the directory.

use std::path::{Path, PathBuf};

use super::Failed;
use crate::config::Config;
use crate::policy::{Known, PolicyError, PolicyFile};

/// Reads and checks each file named; without a name, all of the policy directory. The mistakes of all are told at once.
pub(super) fn files(config: &Config, named: &[PathBuf], known: &Known) -> Result<Vec<PolicyFile>, Failed> {
    let told = |error: PolicyError| Failed::Told(error.report());
    if named.is_empty() {
        return PolicyFile::read_all(&config.policies.dir, known).map_err(told);
    }
    let (mut files, mut reports) = (Vec::new(), Vec::new());
    for path in named {
        match PolicyFile::read(&found(&config.policies.dir, path), known) {
            Ok(file) => files.push(file),
            Err(error) => reports.push(error.report()),
        }
    }
    if reports.is_empty() { Ok(files) } else { Err(Failed::Told(reports.join("\n"))) }
}

/// `default` is `policies/default.yaml`, unless there is a file of that very name.
fn found(dir: &Path, named: &Path) -> PathBuf {
    let bare = named.extension().is_none() && named.components().count() == 1;
    if !bare || named.is_file() {
        return named.to_owned();
    }
    let yml = dir.join(named).with_extension("yml");
    if yml.is_file() { yml } else { dir.join(named).with_extension("yaml") }
}
