//! Floors: figures that a run must reach.
//!
//! `[BY/VALUE:]HEAD.LABEL.FIGURE=VALUE`, e.g. `harm.any.auprc=0.6`,
//! `source/deepset_prompt_injections:prompt_attack.attack.recall.fpr_0.5=0.25`.

use std::str::FromStr;

use super::figures::{Figure, Group};
use super::targets::Targets;

/// A figure and the least that it may be.
#[derive(Clone, Debug, PartialEq)]
pub struct Floor {
    /// As it was written, without the value.
    pub name: String,
    /// The least value, from 0 to 1.
    pub least: f64,
    by: String,
    value: String,
    target: String,
    figure: Which,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Which {
    Auroc,
    Auprc,
    /// At 1 % false positives.
    RecallAtOne,
    /// Recall at a shipped threshold.
    Recall(String),
    /// Negatives that pass at a shipped threshold.
    Pass(String),
}

/// Why a floor means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--floor {floor}: {reason}")]
pub struct FloorError {
    floor: String,
    reason: String,
}

/// What became of a floor.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// The floor's name.
    pub name: String,
    /// The least value.
    pub least: f64,
    /// What was measured; `None` where the rows have not what the figure takes.
    pub found: Option<f64>,
}

const SHAPE: &str = "expected [BY/VALUE:]HEAD.LABEL.FIGURE=VALUE, such as harm.any.auprc=0.6; FIGURE is auroc, auprc, \
                     recall_at_1, recall.THRESHOLD or pass.THRESHOLD";

impl FromStr for Floor {
    type Err = FloorError;

    fn from_str(text: &str) -> Result<Self, FloorError> {
        let wrong = |reason: &str| FloorError { floor: text.to_owned(), reason: reason.to_owned() };
        let (name, least) = text.rsplit_once('=').ok_or_else(|| wrong(SHAPE))?;
        let least = least.parse().ok().filter(|least| (0.0..=1.0).contains(least));
        let least = least.ok_or_else(|| wrong("expected a value from 0 to 1"))?;
        let (group, rest) = name.rsplit_once(':').unwrap_or(("all/all", name));
        let (by, value) = group.split_once('/').ok_or_else(|| wrong(SHAPE))?;
        let mut parts = rest.splitn(3, '.');
        let (Some(head), Some(label), Some(figure)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong(SHAPE));
        };
        Ok(Self {
            name: name.to_owned(),
            least,
            by: by.to_owned(),
            value: value.to_owned(),
            target: format!("{head}.{label}"),
            figure: Which::parse(figure).ok_or_else(|| wrong(SHAPE))?,
        })
    }
}

impl Which {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "auroc" => Some(Self::Auroc),
            "auprc" => Some(Self::Auprc),
            "recall_at_1" => Some(Self::RecallAtOne),
            _ => match text.split_once('.')? {
                ("recall", threshold) => Some(Self::Recall(threshold.to_owned())),
                ("pass", threshold) => Some(Self::Pass(threshold.to_owned())),
                _ => None,
            },
        }
    }
}

impl Floor {
    /// Whether a run over these targets and groups can say anything of it; told before anything is scored.
    pub fn check(&self, targets: &Targets, groups: &[Group]) -> Result<(), FloorError> {
        let names: Vec<&str> = targets.list().iter().map(|target| target.name.as_str()).collect();
        let thresholds = targets.thresholds();
        let reason = if !names.contains(&self.target.as_str()) {
            format!("nothing here measures `{}`: the rows and the model have {}", self.target, names.join(", "))
        } else if !groups.iter().any(|group| self.is_of(group)) {
            let known: Vec<&str> = groups.iter().filter(|g| g.by == self.by).map(|g| g.value.as_str()).collect();
            let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
            format!("no rows are `{}/{}`: by `{0}` there is {known}", self.by, self.value)
        } else if let Which::Recall(threshold) | Which::Pass(threshold) = &self.figure
            && !thresholds.contains(threshold)
        {
            let known: Vec<&str> = thresholds.iter().map(String::as_str).collect();
            format!("the model has no threshold `{threshold}`: it has {}", known.join(", "))
        } else {
            return Ok(());
        };
        Err(FloorError { floor: self.name.clone(), reason })
    }

    /// Looks its figure up.
    pub(super) fn hold(&self, figures: &[Figure]) -> Held {
        let figure = figures.iter().find(|figure| figure.target == self.target && self.is_of(&figure.group));
        let found = figure.and_then(|figure| match &self.figure {
            Which::Auroc => figure.ranks.auroc.map(|estimate| estimate.value),
            Which::Auprc => figure.ranks.auprc.map(|estimate| estimate.value),
            Which::RecallAtOne => figure.ranks.recall.map(|estimate| estimate.value),
            Which::Recall(threshold) => figure.at.get(threshold)?.recall.map(|estimate| estimate.value),
            Which::Pass(threshold) => figure.at.get(threshold)?.fpr.map(|estimate| 1.0 - estimate.value),
        });
        Held { name: self.name.clone(), least: self.least, found }
    }

    fn is_of(&self, group: &Group) -> bool {
        group.by == self.by && group.value == self.value
    }
}

impl Held {
    /// Whether the figure is there and not below.
    pub fn is_reached(&self) -> bool {
        self.found.is_some_and(|found| found >= self.least)
    }
}

/// One line: the floor and what was found.
impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.found {
            Some(found) => write!(f, "{} is {found:.4}, the floor is {}", self.name, self.least),
            None => write!(f, "{} has no value: the rows lack positives or negatives of it", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_are_read_with_and_without_a_group() {
        let floor: Floor = "harm.any.auprc=0.6".parse().unwrap();
        assert_eq!((floor.by.as_str(), floor.target.as_str(), floor.least), ("all", "harm.any", 0.6));
        let floor: Floor = "source/a:b=c:prompt_attack.attack.recall.fpr_0.5=0.25".parse().unwrap();
        assert_eq!((floor.by.as_str(), floor.value.as_str()), ("source", "a:b=c"));
        assert_eq!(floor.figure, Which::Recall("fpr_0.5".to_owned()));
        let floor: Floor = "obfuscation/leet:prompt_attack.attack.recall_at_1=0".parse().unwrap();
        assert_eq!(floor.figure, Which::RecallAtOne);
    }

    #[test]
    fn what_is_no_floor_says_what_one_looks_like() {
        for (text, says) in [
            ("harm.any.auprc", "expected [BY/VALUE:]"),
            ("harm.any=0.5", "expected [BY/VALUE:]"),
            ("harm.any.f1=0.5", "FIGURE is auroc"),
            ("deepset:harm.any.auroc=0.5", "expected [BY/VALUE:]"),
            ("harm.any.auprc=60", "from 0 to 1"),
            ("harm.any.auprc=NaN", "from 0 to 1"),
        ] {
            let error = text.parse::<Floor>().unwrap_err().to_string();
            assert!(error.contains(says) && error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_figure_without_a_value_does_not_reach_any_floor() {
        assert!(!Held { name: "a".to_owned(), least: 0.0, found: None }.is_reached());
        assert!(Held { name: "a".to_owned(), least: 0.5, found: Some(0.5) }.is_reached());
        assert!(!Held { name: "a".to_owned(), least: 0.5, found: Some(0.499) }.is_reached());
    }
}
