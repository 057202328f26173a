//! The policy in force: one snapshot, swapped whole, and how the last reload went.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use serde::Deserialize;

use super::checked::{Known, Policy};
use super::compile::compile;
use super::error::PolicyError;
use crate::telemetry::{Metrics, ReloadOutcome};
use crate::yaml::{self, Problem, Source};

/// Where policies lie, and which one is in force.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A directory of `*.yaml` files, one policy each.
    pub dir: PathBuf,
    /// The name of the policy in force.
    pub active: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { dir: PathBuf::from("policies"), active: "default".to_owned() }
    }
}

/// What a request sees of the policy, from its first byte to its last.
#[derive(Debug)]
pub struct Snapshot<A> {
    /// The policy.
    pub policy: Policy,
    /// What was built from it.
    pub armed: A,
}

/// How a reload ended, for the status page.
#[derive(Clone, Debug)]
pub struct LastReload {
    /// When.
    pub at: SystemTime,
    /// How.
    pub outcome: ReloadOutcome,
    /// Why it was refused; empty unless it was.
    pub problems: Vec<String>,
}

type Arm<A> = Box<dyn Fn(&Policy) -> Result<A, String> + Send + Sync>;

/// Holds the policy in force, together with what the caller builds from a policy (`A`).
pub struct Store<A> {
    config: Config,
    known: Known,
    arm: Arm<A>,
    metrics: Arc<Metrics>,
    current: ArcSwap<Snapshot<A>>,
    /// Held for a whole reload, so that two of them cannot overtake each other.
    last: Mutex<LastReload>,
}

impl<A> Store<A> {
    /// Reads and checks the directory, and arms the active policy.
    ///
    /// # Errors
    /// Any mistake in any file, a missing active policy, or one that cannot be armed.
    pub fn open(
        config: &Config,
        known: Known,
        metrics: Arc<Metrics>,
        arm: impl Fn(&Policy) -> Result<A, String> + Send + Sync + 'static,
    ) -> Result<Self, PolicyError> {
        let (path, policy) = active(config, &known)?;
        let armed = arm(&policy).map_err(|reason| cannot_arm(path, &policy, reason))?;
        let last =
            Mutex::new(LastReload { at: SystemTime::now(), outcome: ReloadOutcome::Applied, problems: Vec::new() });
        let current = ArcSwap::from_pointee(Snapshot { policy, armed });
        let store = Self { config: config.clone(), known, arm: Box::new(arm), metrics, current, last };
        store.announce();
        store.metrics.reloaded(ReloadOutcome::Applied);
        Ok(store)
    }

    /// The policy in force now. Take it once a request, and keep it.
    pub fn snapshot(&self) -> Arc<Snapshot<A>> {
        self.current.load_full()
    }

    /// Reads the directory again. What is sound and new is in force when this returns; of anything else the log tells,
    /// and nothing changes. Does file I/O: not for a thread that serves requests.
    pub fn reload(&self) -> ReloadOutcome {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (outcome, problems) = match self.replace() {
            Ok(outcome) => (outcome, Vec::new()),
            Err(error) => (ReloadOutcome::Refused, self.refused(&error)),
        };
        self.metrics.reloaded(outcome);
        *last = LastReload { at: SystemTime::now(), outcome, problems };
        outcome
    }

    /// How the last reload ended; at first, the opening.
    pub fn last_reload(&self) -> LastReload {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The directory that is read.
    pub fn dir(&self) -> &Path {
        &self.config.dir
    }

    fn replace(&self) -> Result<ReloadOutcome, PolicyError> {
        let (path, policy) = active(&self.config, &self.known)?;
        if policy == self.snapshot().policy {
            return Ok(ReloadOutcome::Unchanged);
        }
        let armed = (self.arm)(&policy).map_err(|reason| cannot_arm(path, &policy, reason))?;
        self.current.store(Arc::new(Snapshot { policy, armed }));
        self.announce();
        Ok(ReloadOutcome::Applied)
    }

    fn announce(&self) {
        let snapshot = self.snapshot();
        let Policy { name, revision, rules, .. } = &snapshot.policy;
        self.metrics.policy_in_force(name, revision);
        tracing::info!(policy = name, revision, rules = rules.len(), "policy in force");
    }

    fn refused(&self, error: &PolicyError) -> Vec<String> {
        let problems = match error {
            PolicyError::Files(problems) => problems.iter().map(ToString::to_string).collect(),
            other => vec![other.to_string()],
        };
        let in_force = &self.snapshot().policy.revision;
        for problem in &problems {
            tracing::error!(problem, in_force, "policy refused");
        }
        problems
    }
}

/// Every file of the directory is checked, so that a mistake shows when it is made and not when the policy is chosen.
fn active(config: &Config, known: &Known) -> Result<(PathBuf, Policy), PolicyError> {
    let mut found: Vec<(PathBuf, Policy)> = Vec::new();
    let mut problems = Vec::new();
    for path in policy_files(&config.dir)? {
        match checked(&path, known)? {
            Ok(policy) => match found.iter().find(|(_, other)| other.name == policy.name) {
                Some((other, _)) => problems.push(named_twice(&path, other)),
                None => found.push((path, policy)),
            },
            Err(more) => problems.extend(more),
        }
    }
    if !problems.is_empty() {
        return Err(PolicyError::Files(problems));
    }
    match found.iter().position(|(_, policy)| policy.name == config.active) {
        Some(index) => Ok(found.swap_remove(index)),
        None => Err(PolicyError::NoSuchPolicy {
            dir: config.dir.clone(),
            active: config.active.clone(),
            known: found.into_iter().map(|(_, policy)| policy.name).collect(),
        }),
    }
}

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
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    yaml && !hidden && !path.is_dir()
}

/// Outer error: cannot be read; inner: has mistakes.
fn checked(path: &Path, known: &Known) -> Result<Result<Policy, Vec<Problem>>, PolicyError> {
    let text = yaml::text_of(path).map_err(|source| PolicyError::Read { path: path.to_owned(), source })?;
    Ok(compile(path, &text, known))
}

fn named_twice(path: &Path, other: &Path) -> Problem {
    let message = format!("{} has the same name: keep one of the two", other.display());
    Source { path, text: "" }.problem(serde_saphyr::Location::UNKNOWN, message)
}

fn cannot_arm(path: PathBuf, policy: &Policy, reason: String) -> PolicyError {
    PolicyError::Arm { path, policy: policy.name.clone(), reason }
}
