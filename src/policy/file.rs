//! One policy file: read, checked, and able to say where a test of it stands.

use std::path::{Path, PathBuf};

use serde_saphyr::Location;

use super::checked::{Known, Policy};
use super::compile::{Compiled, compile};
use super::directory::policy_files;
use super::embedded::{Proof, Test};
use super::error::PolicyError;
use super::rollout::Plan;
use crate::yaml::{self, Composed, Node, Problem, Source};

/// A policy file without a mistake.
#[derive(Clone, Debug)]
pub struct PolicyFile {
    /// Where it lies.
    pub path: PathBuf,
    /// What it says.
    pub policy: Policy,
    /// The tests that it brings along, in its order.
    pub tests: Vec<Test>,
    /// How it is to take another policy's place.
    pub rollout: Option<Plan>,
    /// Where the policy that it takes the place of is named.
    pub(super) rollout_place: Location,
    /// Where each test begins.
    places: Vec<Location>,
    text: String,
    composed: Option<Composed>,
}

impl PolicyFile {
    /// Reads and checks one file.
    ///
    /// # Errors
    /// It cannot be read, or has mistakes.
    pub fn read(path: &Path, known: &Known) -> Result<Self, PolicyError> {
        let text = yaml::text_of(path).map_err(|source| PolicyError::Read { path: path.to_owned(), source })?;
        Self::of_text(path, &text, known)
    }

    /// The same of a text that is at hand; `path` is where it would lie.
    ///
    /// # Errors
    /// It has mistakes.
    pub fn of_text(path: &Path, text: &str, known: &Known) -> Result<Self, PolicyError> {
        let Compiled { policy, tests, rollout, composed } = compile(path, text, known).map_err(PolicyError::Files)?;
        let (places, tests) = tests.into_iter().unzip();
        let (rollout_place, rollout) = rollout.map_or((Location::UNKNOWN, None), |(place, plan)| (place, Some(plan)));
        let (path, text) = (path.to_owned(), text.to_owned());
        Ok(Self { path, policy, tests, rollout, rollout_place, places, text, composed })
    }

    /// Every policy of a directory, by file name.
    ///
    /// # Errors
    /// Any file that cannot be read, the mistakes of all that have some (those of a base once), or two of one name.
    pub fn read_all(dir: &Path, known: &Known) -> Result<Vec<Self>, PolicyError> {
        let mut found: Vec<Self> = Vec::new();
        let mut problems = Vec::new();
        for path in policy_files(dir)? {
            match Self::read(&path, known) {
                Ok(file) => match found.iter().find(|other| other.policy.name == file.policy.name) {
                    Some(other) => problems.push(named_twice(&path, &other.path)),
                    None => found.push(file),
                },
                Err(PolicyError::Files(more)) => problems.extend(more),
                Err(other) => return Err(other),
            }
        }
        if problems.is_empty() { Ok(found) } else { Err(PolicyError::Files(once(problems))) }
    }

    /// The file and the line, counted from 1, in which a test is written.
    pub fn place_of(&self, test: usize) -> (&Path, u64) {
        self.source().written_at(self.places.get(test).copied().unwrap_or(Location::UNKNOWN))
    }

    /// The file's own text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The files that this one builds on, nearest first.
    pub fn bases(&self) -> impl Iterator<Item = &Path> {
        self.composed.iter().flat_map(Composed::others)
    }

    /// All that holds, as one policy file: what it and its bases say, and on each line a comment with the place where
    /// that is written.
    pub fn resolved(&self) -> String {
        match (&self.composed, Node::read(&self.text, 0)) {
            (Some(composed), _) => composed.told(),
            (None, Some(root)) => Composed::of(&root, vec![(self.path.clone(), self.text.clone())]).told(),
            (None, None) => self.text.clone(),
        }
    }

    fn source(&self) -> Source<'_> {
        self.composed.as_ref().map_or(Source::of(&self.path, &self.text), Source::composed)
    }

    /// A mistake at a place in the file.
    pub(super) fn problem(&self, place: Location, message: impl Into<String>) -> Problem {
        self.source().problem(place, message)
    }

    /// What the tests that failed say, each with its place; one proof a test.
    pub fn failures(&self, proofs: &[Proof]) -> Vec<Problem> {
        let source = self.source();
        let told = self.tests.iter().zip(&self.places).zip(proofs).filter_map(|((test, place), proof)| {
            let failure = proof.failure.as_ref()?;
            Some(source.problem(*place, format!("test `{}` failed: {failure}", test.name)))
        });
        told.collect()
    }
}

fn named_twice(path: &Path, other: &Path) -> Problem {
    let message = format!("{} has the same name: keep one of the two", other.display());
    Source::of(path, "").problem(Location::UNKNOWN, message)
}

/// A mistake in a base is told as that file's own, if it is a policy too, and else for the first that builds on it.
fn once(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| problem.inherited_by.is_some());
    let mut told: Vec<Problem> = Vec::new();
    for problem in problems {
        let same = |other: &Problem| {
            let place = |of: &Problem| (of.line, of.column, std::fs::canonicalize(&of.file).ok());
            place(other) == place(&problem) && other.message == problem.message
        };
        if problem.inherited_by.is_none() || !told.iter().any(same) {
            told.push(problem);
        }
    }
    told
}
