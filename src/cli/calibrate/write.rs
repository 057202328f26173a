//! New thresholds into a policy's file: checked and tested first, then put in its place at once.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use super::Entry;
use crate::classify::Models;
use crate::cli::Failed;
use crate::cli::assemble::{armed, proving};
use crate::cli::output::print;
use crate::config::Config;
use crate::policy::{Known, NewLevel, PolicyError, PolicyFile};

pub(super) fn write(
    file: &PolicyFile,
    entries: &[Entry],
    known: &Known,
    config: &Config,
    models: &Models,
) -> Result<(), Failed> {
    let path = &file.path;
    let told = |error: PolicyError| Failed::Told(format!("{}nothing was written", error.report()));
    let levels: Vec<NewLevel> = entries
        .iter()
        .filter_map(|entry| {
            let threshold = entry.found.as_ref().ok()?.threshold;
            Some(NewLevel { rule: entry.rule.clone(), origin: entry.origin, threshold })
        })
        .collect();
    let changed = file.with_levels(&levels, known).map_err(told)?;
    let text = changed.text().to_owned();
    let (tests, view) = (changed.clone(), armed(changed, models)?);
    let proofs = proving(config)?(&view, &view.tests)
        .map_err(|reason| Failed::Ran(format!("{}: {reason}; nothing was written", path.display())))?;
    let failures = tests.failures(&proofs);
    if !failures.is_empty() {
        let report = PolicyError::Files(failures).report();
        return Err(Failed::Ran(format!("{report}error: with these thresholds, tests fail; nothing was written")));
    }
    replace(path, file.text(), &text).map_err(|error| Failed::Ran(format!("{}: {error}", path.display())))?;
    let (passed, before, after) = (proofs.len(), &file.policy.revision, &view.policy.revision);
    let line = format!("{}: written, {passed} tests passed, rev {before} is now {after}\n", path.display());
    print(&line)
}

/// Puts another text in the place of a file at once, unless somebody has changed it meanwhile. Through links, so that what
/// they lead to changes.
fn replace(path: &Path, before: &str, after: &str) -> std::io::Result<()> {
    let path = fs::canonicalize(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let growing = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let put = || {
        let mut file = File::create_new(&growing)?;
        file.set_permissions(fs::metadata(&path)?.permissions())?;
        file.write_all(after.as_bytes())?;
        file.sync_all()?;
        if fs::read(&path)? != before.as_bytes() {
            return Err(std::io::Error::other("was changed meanwhile; it is left as it is"));
        }
        fs::rename(&growing, &path)
    };
    let done = put();
    if done.is_err() {
        // What was begun is taken away again; that it was never there is as well.
        let _gone = fs::remove_file(&growing);
    }
    done
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_file_is_replaced_at_once_or_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("a.yaml"), dir.path().join("b.yaml"));
        fs::write(&path, "one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("a.yaml", &link).unwrap();
        replace(&link, "one", "two").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(replace(&path, "one", "three").unwrap_err().to_string().contains("changed meanwhile"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left lying about");
    }
}
