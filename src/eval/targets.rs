//! What is measured: each label of a head, and whether anything of the head's holds at all.

use std::collections::{BTreeMap, BTreeSet};

use super::rows::Row;
use crate::classify::Label;

/// The tasks that rows are labelled for, each a head, and the words for what they may be. The data's vocabulary.
pub(super) const WORDS: [(&str, &[&str]); 2] = [
    ("prompt_attack", &["injection", "jailbreak"]),
    ("harm", &["hate", "harassment", "self_harm", "sexual", "violence", "illicit"]),
];

/// Words for "nothing of it".
pub(super) const NEGATIVE: [&str; 2] = ["benign", "none"];

/// Names that a head may give to "any of my labels"; a head without one gets the largest of its labels' scores.
const ANY: [&str; 2] = ["attack", "any"];

/// A score with a truth to hold it against.
#[derive(Clone, Debug)]
pub struct Target {
    /// `head.label`, e.g. `harm.hate`, `harm.any`.
    pub name: String,
    /// The head, which is the task of the rows that count.
    pub head: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// One label: its word and its index among the scores.
    One(String, usize),
    /// The model's own label for any of the head's.
    Own(usize),
    /// The largest of several labels: word and index; whether only those count that a row's source annotates.
    Largest(Vec<(String, usize)>, bool),
}

/// Everything that a model can be measured on.
#[derive(Clone, Debug)]
pub struct Targets {
    list: Vec<Target>,
    labels: Vec<Label>,
    /// By source, the words that it annotates, for sources that do not annotate all.
    partial: BTreeMap<String, BTreeSet<String>>,
}

/// Rows of a task that the model has no head for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rows of the task `{task}`, and the model has no head of that name (it has {heads})")]
pub struct UnknownTask {
    /// The task.
    pub task: String,
    /// The model's heads.
    pub heads: String,
}

impl Targets {
    /// What `labels` can be measured on with `rows`.
    ///
    /// # Errors
    /// A row's task is none of the model's heads.
    pub fn new(labels: &[Label], rows: &[Row]) -> Result<Self, UnknownTask> {
        let heads: BTreeSet<&str> = labels.iter().map(|label| label.head.as_str()).collect();
        if let Some(row) = rows.iter().find(|row| !heads.contains(row.task.as_str())) {
            let heads = heads.into_iter().collect::<Vec<_>>().join(", ");
            return Err(UnknownTask { task: row.task.clone(), heads });
        }
        let mut partial = BTreeMap::<String, BTreeSet<String>>::new();
        for row in rows.iter().filter(|row| row.annotated.is_some()) {
            let words = partial.entry(row.source.clone()).or_default();
            words.extend(row.annotated.iter().flatten().chain(&row.labels).cloned());
        }
        let tasks = WORDS.iter().filter(|(task, _)| heads.contains(*task));
        let list = tasks.flat_map(|(task, words)| of_head(task, words, labels)).collect();
        Ok(Self { list, labels: labels.to_vec(), partial })
    }

    /// The targets: head by head, the whole head before its labels.
    pub fn list(&self) -> &[Target] {
        &self.list
    }

    /// For each head the target that the gateway would act on: any of the head's labels, whatever a source annotates.
    pub(super) fn heads(&self) -> Vec<&Target> {
        self.list.iter().filter(|target| matches!(target.kind, Kind::Own(_) | Kind::Largest(_, false))).collect()
    }

    /// Names of the model's thresholds, e.g. `fpr_0.5`.
    pub fn thresholds(&self) -> BTreeSet<String> {
        self.labels.iter().flat_map(|label| label.thresholds.keys().cloned()).collect()
    }

    /// Whether any source in the rows annotates only some of a head's labels.
    pub(super) fn masked(&self) -> bool {
        !self.partial.is_empty()
    }

    /// The score of a row, of its values in the order of the model's labels.
    pub(super) fn score(&self, target: &Target, row: &Row, values: &[f32]) -> f64 {
        let all = self.indices(target, row).map(|index| values.get(index).copied().map_or(0.0, f64::from));
        all.fold(0.0, f64::max)
    }

    /// Whether a row is flagged at the threshold of this name.
    pub(super) fn flagged(&self, target: &Target, row: &Row, values: &[f32], threshold: &str) -> bool {
        self.indices(target, row).any(|index| over(&self.labels[index], values[index], threshold))
    }

    fn indices(&self, target: &Target, row: &Row) -> impl Iterator<Item = usize> {
        let all: Vec<usize> = match &target.kind {
            Kind::One(_, index) | Kind::Own(index) => vec![*index],
            Kind::Largest(words, masks) => {
                let annotated = self.partial.get(&row.source).filter(|_| *masks);
                let counts = |word: &String| annotated.is_none_or(|annotated| annotated.contains(word));
                words.iter().filter(|(word, _)| counts(word)).map(|(_, index)| *index).collect()
            }
        };
        all.into_iter()
    }
}

impl Target {
    /// Whether the target holds for a row; `None` where nobody has said.
    ///
    /// A row that says what was annotated is believed on all of that. One that does not, and has another label, says
    /// nothing of this one: most sets label one thing a row.
    pub(super) fn truth(&self, row: &Row) -> Option<bool> {
        if row.task != self.head {
            return None;
        }
        let Kind::One(word, _) = &self.kind else { return Some(!row.labels.is_empty()) };
        if row.labels.contains(word) {
            return Some(true);
        }
        let denied = row.annotated.as_ref().map_or(row.labels.is_empty(), |annotated| annotated.contains(word));
        denied.then_some(false)
    }

    /// Whether it is about the head as a whole.
    pub(super) fn whole(&self) -> bool {
        !matches!(self.kind, Kind::One(..))
    }

    /// Whether it differs from another target only for sources that annotate a part of the labels.
    pub(super) fn unmasked(&self) -> bool {
        matches!(self.kind, Kind::Largest(_, false))
    }
}

/// Names of the labels that a text has at or over the threshold of this name, in the order of `labels`.
pub fn flags(labels: &[Label], values: &[f32], threshold: &str) -> Vec<String> {
    let over = labels.iter().zip(values).filter(|(label, value)| over(label, **value, threshold));
    over.map(|(label, _)| label.to_string()).collect()
}

fn over(label: &Label, value: f32, threshold: &str) -> bool {
    label.thresholds.get(threshold).is_some_and(|threshold| value >= *threshold)
}

fn of_head(head: &str, words: &[&str], labels: &[Label]) -> Vec<Target> {
    let target = |label: &str, kind: Kind| Target { name: format!("{head}.{label}"), head: head.to_owned(), kind };
    let index = |name: &str| labels.iter().position(|label| label.head == head && label.name == name);
    let own: Vec<(String, usize)> =
        words.iter().filter_map(|word| index(word).map(|index| ((*word).to_owned(), index))).collect();
    let mut targets = match ANY.iter().find_map(|name| index(name).map(|index| (*name, index))) {
        Some((name, index)) => vec![target(name, Kind::Own(index))],
        None => vec![
            target("any", Kind::Largest(own.clone(), true)),
            target("any_unmasked", Kind::Largest(own.clone(), false)),
        ],
    };
    targets.extend(own.into_iter().map(|(word, index)| target(&word.clone(), Kind::One(word, index))));
    targets
}
