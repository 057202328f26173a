//! Other thresholds for a file's rules, written into its text: comments and layout stay, and nothing else changes.

use serde_saphyr::Location;

use super::checked::{Bound, Guard, Known, Policy};
use super::error::PolicyError;
use super::file::PolicyFile;
use super::schema;
use crate::api::Origin;
use crate::yaml::{self, Problem, Source, range_of};

/// A threshold that is to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct NewLevel {
    /// The rule's id.
    pub rule: String,
    /// In place of the rule's own threshold, the one under `by_origin`.
    pub origin: Option<Origin>,
    /// One level for all labels, in (0, 1].
    pub threshold: f64,
}

impl PolicyFile {
    /// The same file with other thresholds, as it would be read. It says nothing else than before.
    ///
    /// # Errors
    /// A threshold stands in another file, or over several lines; or the file has a mistake with it.
    pub fn with_levels(&self, levels: &[NewLevel], known: &Known) -> Result<Self, PolicyError> {
        let mut text = self.text().to_owned();
        for level in levels {
            let key = self.key_of(&text, level).map_err(told)?;
            let Some(range) = range_of(&text, &key) else {
                let message = "this threshold is written over several lines: make one number of it first";
                return Err(told(Source::of(&self.path, &text).problem_with(&key, message)));
            };
            text.replace_range(range, &level.threshold.to_string());
        }
        let changed = Self::of_text(&self.path, &text, known)?;
        let same = changed.policy == expected(&self.policy, &changed.policy, levels);
        if same && changed.tests == self.tests && changed.rollout == self.rollout {
            return Ok(changed);
        }
        let message = "with these thresholds the file would say something else too (is one of them an anchor?)";
        Err(told(Source::of(&self.path, self.text()).problem(Location::UNKNOWN, message)))
    }

    /// Where in the file's own text a threshold stands.
    fn key_of(&self, text: &str, level: &NewLevel) -> Result<String, Problem> {
        let source = Source::of(&self.path, text);
        let file = yaml::parse::<schema::File>(text).map_err(|error| source.unreadable(&error))?;
        let rules = file.rules.unwrap_or_default();
        let Some(index) = rules.iter().position(|rule| rule.value.id.value == level.rule) else {
            let bases: Vec<String> = self.bases().map(|base| base.display().to_string()).collect();
            let message = format!("rule `{}` is inherited: its threshold stands in {}", level.rule, bases.join(" or "));
            return Err(source.problem(Location::UNKNOWN, message));
        };
        Ok(match level.origin {
            None => format!("rules[{index}].threshold"),
            Some(origin) => format!("rules[{index}].by_origin.{}.threshold", origin.as_str()),
        })
    }
}

fn told(problem: Problem) -> PolicyError {
    PolicyError::Files(vec![problem])
}

/// The policy as it ought to be then. Levels of an origin that has no threshold of its own are those of the rule.
fn expected(before: &Policy, after: &Policy, levels: &[NewLevel]) -> Policy {
    let mut policy = before.clone();
    policy.revision.clone_from(&after.revision);
    for level in levels {
        let mut rules = policy.rules.iter_mut().zip(&after.rules);
        let Some((rule, now)) = rules.find(|(rule, _)| rule.id == level.rule) else { continue };
        let is_new = |bound: &Bound| bound.threshold.to_bits() == narrowed(level.threshold).to_bits();
        let set =
            |bounds: &mut Vec<Bound>| bounds.iter_mut().for_each(|bound| bound.threshold = narrowed(level.threshold));
        match (level.origin, &mut rule.guard) {
            (None, Guard::Classifier { labels }) => {
                set(labels);
                let follow = rule.by_origin.iter_mut().zip(&now.by_origin);
                follow.filter(|(_, (_, now))| now.iter().all(is_new)).for_each(|((_, own), _)| set(own));
            }
            (origin, _) => {
                rule.by_origin.iter_mut().filter(|(of, _)| Some(*of) == origin).for_each(|(_, own)| set(own));
            }
        }
    }
    policy
}

#[expect(clippy::cast_possible_truncation, reason = "scores are f32")]
fn narrowed(threshold: f64) -> f32 {
    threshold as f32
}
