//! Why a policy directory was refused.

use std::io;
use std::path::PathBuf;

use crate::yaml::{Problem, expected};

/// Why the policy directory was refused.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A file or the directory could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// Why it was not.
        source: io::Error,
    },
    /// Mistakes in files; never empty.
    #[error("{}", headlines(.0))]
    Files(Vec<Problem>),
    /// No file bears the name of a policy that the configuration names.
    #[error("{}: no policy `{name}` (expected {name}.yaml); {}", dir.display(), known_policies(known, name))]
    NoSuchPolicy {
        /// The policy directory.
        dir: PathBuf,
        /// The name that the configuration asks for.
        name: String,
        /// The line of `select` that asks for it; none is `active`.
        line: Option<usize>,
        /// The policies that there are.
        known: Vec<String>,
    },
    /// A line of `select` makes no sense.
    #[error("{reason}")]
    Select {
        /// Its place in the list.
        line: usize,
        /// The key that is at fault.
        key: &'static str,
        /// What was expected.
        reason: String,
    },
    /// The list of tenants makes no sense.
    #[error("{reason}")]
    Tenants {
        /// The key under `tenants` that is at fault.
        key: String,
        /// What was expected.
        reason: String,
    },
    /// The guards could not be built from a policy that is well formed.
    #[error("{}: policy `{policy}` cannot be armed: {reason}", path.display())]
    Arm {
        /// Its file.
        path: PathBuf,
        /// Its name.
        policy: String,
        /// What the guards say.
        reason: String,
    },
    /// The policy's tests could not be run to their end.
    #[error("{}: policy `{policy}` cannot be tested: {reason}", path.display())]
    Untested {
        /// Its file.
        path: PathBuf,
        /// Its name.
        policy: String,
        /// What went wrong.
        reason: String,
    },
}

impl PolicyError {
    /// For a terminal: each mistake with its line and a caret under it, starting with `error: `.
    pub fn report(&self) -> String {
        match self {
            Self::Files(problems) => {
                let reports: Vec<String> =
                    problems.iter().map(|problem| format!("error: {problem}\n{}", problem.snippet)).collect();
                reports.join("\n")
            }
            other => format!("error: {other}\n"),
        }
    }
}

fn headlines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn known_policies(known: &[String], active: &str) -> String {
    expected("policy", active, known.iter().map(String::as_str))
}
