//! Which files are policies, and whether they are still the same.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::error::PolicyError;
use super::inherit::reach;
use crate::yaml::is_yaml;

/// The directory's `*.yaml` and `*.yml` files by name. Hidden ones (editors, and `..data` of a mounted `ConfigMap`) are not policies.
pub(super) fn policy_files(dir: &Path) -> Result<Vec<PathBuf>, PolicyError> {
    let entries = fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(|source| PolicyError::Read { path: dir.to_owned(), source })?;
    let mut files: Vec<PathBuf> =
        entries.into_iter().map(|entry| entry.path()).filter(|path| is_policy(path)).collect();
    files.sort();
    Ok(files)
}

fn is_policy(path: &Path) -> bool {
    is_yaml(path) && is_shown(path)
}

/// A constitution's prose may lie in a file of its own.
fn is_prose(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md" || extension == "txt") && is_shown(path)
}

/// A file, and not a hidden one.
fn is_shown(path: &Path) -> bool {
    path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b".")) && !path.is_dir()
}

/// What tells one state of a file from another without reading it: path, inode, length, time of change.
type Seen = (PathBuf, u64, u64, i64, i64);

/// All that a reload depends on, as it was at one time.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    /// The directories whose files have a say in the policies, their own first.
    pub(super) dirs: Vec<PathBuf>,
    seen: Vec<Seen>,
}

impl Sight {
    /// What the policies of `dir` depend on now, and all files of `more`. Reads the policies for what they build on.
    pub(super) fn of(dir: &Path, more: &[PathBuf]) -> Self {
        let mut dirs = vec![dir.to_owned()];
        loop {
            // Looked at before they are read: what changes in between is found the next time.
            let seen = everything(&dirs, more);
            let reached = reach(dir, policy_files(dir).unwrap_or_default());
            if reached == dirs {
                return Self { dirs, seen };
            }
            dirs = reached;
        }
    }

    /// Whether it still looks so; reads no file. Which directories have a say is written in the files that are looked at.
    pub(super) fn holds(&self, more: &[PathBuf]) -> bool {
        everything(&self.dirs, more) == self.seen
    }
}

fn everything(dirs: &[PathBuf], more: &[PathBuf]) -> Vec<Seen> {
    let mut seen = look(dirs);
    seen.extend(look_at_all(more));
    seen
}

/// Through links, so that a swapped `..data` shows. A directory that cannot be read looks empty, as one without policies.
fn look(dirs: &[PathBuf]) -> Vec<Seen> {
    let read = |dir| fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>).unwrap_or_default();
    let files = dirs.iter().flat_map(read).map(|entry| entry.path());
    let mut files: Vec<PathBuf> = files.filter(|path| is_policy(path) || is_prose(path)).collect();
    files.sort();
    files.into_iter().filter_map(seen).collect()
}

/// The same of all files of some directories, whatever they are.
fn look_at_all(dirs: &[PathBuf]) -> Vec<Seen> {
    let listed = dirs.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().filter_map(Result::ok);
    let mut files: Vec<PathBuf> = listed.map(|entry| entry.path()).collect();
    files.sort();
    files.into_iter().filter_map(seen).collect()
}

fn seen(path: PathBuf) -> Option<Seen> {
    let file = fs::metadata(&path).ok()?;
    Some((path, file.ino(), file.len(), file.ctime(), file.ctime_nsec()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_look_tells_edits_and_swapped_links_but_not_reading() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = [dir.path().to_owned()];
        let at = |name: &str| dir.path().join(name);
        for version in ["..1", "..2"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("default.yaml"), "rules: []\n").unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/default.yaml", at("default.yaml")).unwrap();
        let first = look(&dirs);
        assert_eq!(first.len(), 1);
        fs::read(at("default.yaml")).unwrap();
        assert_eq!(look(&dirs), first);

        symlink("..2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        let second = look(&dirs);
        assert_ne!(second, first);

        fs::write(at("default.yaml"), "rules:  []\n").unwrap();
        let third = look(&dirs);
        assert_ne!(third, second);
        fs::write(at("prose.md"), "Be kind.\n").unwrap();
        assert_ne!(look(&dirs), third);
        fs::remove_file(at("prose.md")).unwrap();
        fs::remove_file(at("default.yaml")).unwrap();
        assert_eq!(look(&dirs), Vec::new());
    }
    #[test]
    fn a_sight_holds_until_a_base_elsewhere_or_another_file_changes() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for dir in ["policies", "shared", "deep", "model"] {
            fs::create_dir(at(dir)).unwrap();
        }
        fs::write(at("policies/default.yaml"), "extends: ../shared/base.yaml\n").unwrap();
        let more = [at("model")];
        for (file, text) in [
            // The first two lead on to directories that had no say before.
            ("shared/base.yaml", "extends: ../deep/base.yaml\n"),
            ("deep/base.yaml", "rules: []\n"),
            ("deep/base.yaml", "rules:  []\n"),
            ("model/manifest.json", "{}"),
        ] {
            let sight = Sight::of(&at("policies"), &more);
            assert!(sight.holds(&more));
            fs::write(at(file), text).unwrap();
            assert!(!sight.holds(&more), "{file}");
        }
        let dirs = ["policies", "policies/../shared", "policies/../shared/../deep"].map(at);
        assert_eq!(Sight::of(&at("policies"), &more).dirs, dirs);
    }
}
