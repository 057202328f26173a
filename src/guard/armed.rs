//! What goes with a policy for as long as a request sees it: its recognisers, compiled, and the classifiers that its
//! rules ask.

use std::fmt::Write as _;
use std::sync::Arc;

use super::pattern::PatternSet;
use crate::classify::{Classifier, Label, Models, Scores};
use crate::policy::{Bound, Guard, Pattern, Policy, Rule, Snapshot};

/// A policy and what this room made of it, as one request sees it from first to last byte.
pub type View = Arc<Snapshot<Armed>>;

/// What the rules of a policy judge by: one entry a rule. A classifier that was exchanged lives on in here until the last
/// request that began with it has ended.
#[derive(Debug)]
pub struct Armed {
    means: Vec<Means>,
    models: Models,
    /// Whose scores these are: names and revisions of the classifiers.
    revision: String,
}

#[derive(Debug)]
enum Means {
    Patterns(PatternSet),
    /// The classifier's place, and the number of its first label.
    Scores {
        at: usize,
        first: usize,
    },
}

/// A classifier, and the rules that ask it about one text.
pub(super) struct Asked<'a> {
    /// The classifier's place.
    pub(super) at: usize,
    pub(super) classifier: &'a Classifier,
    /// The number that its first label has in bounds.
    pub(super) first: usize,
    pub(super) rules: Vec<(usize, &'a Rule, &'a [Bound])>,
}

/// Compiles a policy's recognisers, and notes which of `models` each other rule asks: those whose labels the policy was
/// checked against. The reason of a refusal is for the person who wrote the policy.
pub fn arm(policy: &Policy, models: &Models) -> Result<Armed, String> {
    let means = |rule: &Rule| match &rule.guard {
        Guard::Classifier { labels } => {
            let (at, first) = labels.first().and_then(|bound| models.of_label(bound.label)).ok_or_else(|| {
                format!("rule `{}`: no classifier has the labels that it was checked against", rule.id)
            })?;
            Ok(Means::Scores { at, first })
        }
        Guard::Pattern { entities, patterns } => compiled(rule, entities, patterns).map(Means::Patterns),
    };
    let means = policy.rules.iter().map(means).collect::<Result<_, String>>()?;
    let mut revision = String::new();
    for classifier in models.each() {
        let _ = writeln!(revision, "{} {}", classifier.name(), classifier.revision());
    }
    Ok(Armed { means, models: models.clone(), revision })
}

/// Compiles a policy's recognisers, and asks nothing of its other rules: for whoever has no models at hand.
pub fn compiles(policy: &Policy) -> Result<(), String> {
    policy.rules.iter().try_for_each(|rule| match &rule.guard {
        Guard::Pattern { entities, patterns } => compiled(rule, entities, patterns).map(|_| ()),
        Guard::Classifier { .. } => Ok(()),
    })
}

fn compiled(rule: &Rule, entities: &[String], patterns: &[Pattern]) -> Result<PatternSet, String> {
    let own: Vec<(String, String)> = patterns.iter().map(|p| (p.id.clone(), p.regex.clone())).collect();
    PatternSet::compile(entities, &own).map_err(|error| format!("rule `{}`: {error}", rule.id))
}

impl Armed {
    /// Name, revision and device of each classifier at hand, whether or not a rule asks it.
    pub fn serving(&self) -> impl Iterator<Item = (&str, &str, &'static str)> {
        self.models.each().iter().map(|model| (model.name(), model.revision(), model.device()))
    }

    /// The classifiers at hand.
    pub fn classifiers(&self) -> &[Classifier] {
        self.models.each()
    }

    /// Names and revisions of the classifiers.
    pub(super) fn revision(&self) -> &str {
        &self.revision
    }

    /// The recognisers of a rule; none for a rule that asks a classifier.
    pub(super) fn patterns(&self, rule: usize) -> Option<&PatternSet> {
        match self.means.get(rule)? {
            Means::Patterns(set) => Some(set),
            Means::Scores { .. } => None,
        }
    }

    /// The classifier that a rule asks; none for a rule with patterns.
    pub(super) fn asked(&self, rule: usize) -> Option<Asked<'_>> {
        match *self.means.get(rule)? {
            Means::Scores { at, first } => {
                Some(Asked { at, classifier: self.models.each().get(at)?, first, rules: Vec::new() })
            }
            Means::Patterns(_) => None,
        }
    }

    /// The names of all labels, each with its classifier's place and its own among that one's scores.
    pub(super) fn labels(&self) -> impl Iterator<Item = (usize, usize, &Label)> {
        let models = self.models.each().iter().enumerate();
        models.flat_map(|(at, model)| model.labels().iter().enumerate().map(move |(label, named)| (at, label, named)))
    }
}

/// What classifiers said of one text, each with its place among those of the view.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Vec<(usize, Arc<Scores>)>);

impl Heard {
    /// What the classifier at this place said.
    pub(super) fn of(&self, at: usize) -> Option<&Arc<Scores>> {
        self.each().find(|(of, _)| *of == at).map(|(_, scores)| scores)
    }

    /// Keeps what the classifier at a place said, instead of what it said before.
    pub(super) fn keep(&mut self, at: usize, scores: Arc<Scores>) {
        self.0.retain(|(of, _)| *of != at);
        self.0.push((at, scores));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn each(&self) -> impl Iterator<Item = (usize, &Arc<Scores>)> {
        self.0.iter().map(|(at, scores)| (*at, scores))
    }
}
