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
    /// No file bears the name of the active policy.
    #[error("{}: no policy `{active}` (expected {active}.yaml); {}", dir.display(), known_policies(known, active))]
    NoSuchPolicy {
        /// The policy directory.
        dir: PathBuf,
        /// The name that the config asks for.
        active: String,
        /// The policies that there are.
        known: Vec<String>,
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
