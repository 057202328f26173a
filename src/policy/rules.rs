//! One rule as written -> one [`Rule`] that can be carried out.

use std::time::Duration;

use regex::Regex;

use super::checked::{Action, Bound, Guard, Known, KnownLabel, Pattern, Principle, Rule, Stages};
use super::schema::{self, Level, Stage, Threshold};
use super::when::{When, Wrong};
use crate::api::Origin;
use crate::yaml::{Problem, Source, Spanned, expected, ticked};

/// What a rule is checked against.
pub(super) struct Rules<'a> {
    pub(super) source: Source<'a>,
    pub(super) known: &'a Known,
    pub(super) principles: &'a [Principle],
}

impl Rules<'_> {
    /// The first mistake of the rule, or the rule.
    pub(super) fn check(&self, written: &schema::Rule) -> Result<Rule, Problem> {
        let id = self.source.word(&written.id)?;
        let guard = self.guard(written)?;
        let by_origin = self.by_origin(written, &guard)?;
        let stages = self.stages(&written.stages)?;
        let origins = self.origins(written.origins.as_ref(), stages)?;
        self.action(written, &guard, stages)?;
        Ok(Rule {
            id,
            guard,
            stages,
            origins,
            by_origin,
            action: written.action.value,
            mode: written.mode,
            when: self.when(written)?,
            sampling: self.source.within(written.sampling.as_ref(), 1.0, (0.0001, 1.0))?,
            on_error: written.on_error,
            timeout: self.source.duration(written.timeout.as_ref(), Duration::from_secs(2))?,
            principle: self.principle(written)?,
            message: written.message.as_ref().map(|message| self.source.said(message)).transpose()?,
        })
    }

    fn when(&self, written: &schema::Rule) -> Result<Option<When>, Problem> {
        let Some(written) = &written.when else { return Ok(None) };
        let wrong = |wrong: Wrong| self.source.problem_inside(written, wrong.at, wrong.message);
        When::compile(&written.value, &self.known.tenants).map(Some).map_err(wrong)
    }

    fn stages(&self, written: &Spanned<Vec<Spanned<Stage>>>) -> Result<Stages, Problem> {
        let listed = |stage| written.value.iter().any(|written| written.value == stage);
        let stages = Stages { input: listed(Stage::Input), output: listed(Stage::Output) };
        if stages.input || stages.output {
            return Ok(stages);
        }
        let message = "a rule without stages would never look: expected `input`, `output` or both";
        Err(self.source.problem(written.referenced, message))
    }

    /// A rule that waits for texts that cannot come is a mistake, at each of its stages.
    fn origins(
        &self,
        written: Option<&Spanned<Vec<Spanned<Origin>>>>,
        stages: Stages,
    ) -> Result<Option<Vec<Origin>>, Problem> {
        let Some(written) = written else { return Ok(None) };
        let origins: Vec<Origin> = written.value.iter().map(|origin| origin.value).collect();
        let none_meet = |stages: Stages| !origins.iter().any(|origin| stages.meet(*origin));
        if stages.input && none_meet(Stages { output: false, ..stages }) {
            let message = "no prompt has a text of these origins (leave `origins` out for all)";
            return Err(self.source.problem(written.referenced, message));
        }
        if stages.output && none_meet(Stages { input: false, ..stages }) {
            let words = Stages::OF_ANSWERS.map(Origin::as_str);
            let message = format!(
                "no answer has a text of these origins: with stage `output`, list at least one of {}, or leave \
                 `origins` out for all",
                ticked(&words)
            );
            return Err(self.source.problem(written.referenced, message));
        }
        Ok(Some(origins))
    }

    fn action(&self, written: &schema::Rule, guard: &Guard, stages: Stages) -> Result<(), Problem> {
        let refuse = |message: &str| Err(self.source.problem(written.action.referenced, message));
        match (written.action.value, guard) {
            (Action::Redact, Guard::Classifier { .. }) => refuse(
                "`redact` needs to know which characters: it works with `entities` and `patterns`, not with a \
                 classifier; expected `audit`, `revise` or `block`",
            ),
            (Action::Revise, _) if stages.input => {
                refuse("`revise` works on answers only: use it with `stages: [output]`, or `block`")
            }
            (Action::Revise, _) if self.principles.is_empty() => {
                refuse("`revise` needs a principle: write one under `constitution.principles`")
            }
            _ => Ok(()),
        }
    }

    /// The principle that a revision follows: the named one, else the first.
    fn principle(&self, written: &schema::Rule) -> Result<Option<usize>, Problem> {
        let revises = written.action.value == Action::Revise;
        let Some(named) = &written.principle else { return Ok(revises.then_some(0)) };
        if !revises {
            let message = "`principle` has a meaning only with `action: revise`";
            return Err(self.source.problem(named.referenced, message));
        }
        let ids = self.principles.iter().map(|principle| principle.id.as_str());
        match self.principles.iter().position(|principle| principle.id == named.value) {
            Some(index) => Ok(Some(index)),
            None => Err(self.source.problem(
                named.referenced,
                format!("unknown principle `{}`, {}", named.value, expected("principle", &named.value, ids)),
            )),
        }
    }

    fn guard(&self, rule: &schema::Rule) -> Result<Guard, Problem> {
        let guard = &rule.guard.value;
        let finds_text = guard.entities.is_some() || guard.patterns.is_some();
        match (&guard.classifier, finds_text) {
            (Some(_), true) => self.refuse_guard(
                rule,
                "one guard, one kind: `classifier`, or `entities` and `patterns`; make two rules of it",
            ),
            (None, false) => {
                self.refuse_guard(rule, "a guard needs `classifier`, or `entities` or `patterns` to look for")
            }
            (Some(head), false) => self.classifier(rule, head),
            (None, true) => self.pattern(rule),
        }
    }

    fn refuse_guard(&self, rule: &schema::Rule, message: &str) -> Result<Guard, Problem> {
        Err(self.source.problem(rule.guard.referenced, message))
    }

    fn classifier(&self, rule: &schema::Rule, head: &Spanned<String>) -> Result<Guard, Problem> {
        let of_head: Vec<(usize, &KnownLabel)> =
            self.known.labels.iter().enumerate().filter(|(_, label)| label.head == head.value).collect();
        if of_head.is_empty() {
            let mut heads: Vec<&str> = self.known.labels.iter().map(|label| label.head.as_str()).collect();
            heads.dedup();
            let message = format!(
                "unknown classifier head `{}`, {}",
                head.value,
                expected("classifier head", &head.value, heads)
            );
            return Err(self.source.problem(head.referenced, message));
        }
        let chosen = self.labels(rule, head, &of_head)?;
        let Some(threshold) = &rule.threshold else {
            let message = format!("a classifier rule needs a `threshold`: a number up to 1{}", or_names(&chosen));
            return Err(self.source.problem(rule.guard.referenced, message));
        };
        Ok(Guard::Classifier { labels: self.bounds(&chosen, threshold, rule.warn.as_ref())? })
    }

    /// The bound of each label.
    fn bounds(
        &self,
        chosen: &[(usize, &KnownLabel)],
        threshold: &Spanned<Threshold>,
        warn: Option<&Spanned<Threshold>>,
    ) -> Result<Vec<Bound>, Problem> {
        for levels in [Some(threshold), warn].into_iter().flatten() {
            if let Threshold::PerLabel(levels) = &levels.value {
                self.threshold_labels(levels, chosen)?;
            }
        }
        let bound = |(label, known): &(usize, &KnownLabel)| {
            let deny = self.threshold(threshold, known)?;
            let warned = warn.map(|warn| self.threshold(warn, known)).transpose()?;
            if let (Some(written), Some(level)) = (warn, warned.filter(|level| *level >= deny)) {
                let message = format!(
                    "a warning comes before the hit: expected less than the threshold of `{}`, {deny}, found {level}",
                    known.name
                );
                return Err(self.source.problem(written.referenced, message));
            }
            Ok(Bound { label: *label, name: format!("{}.{}", known.head, known.name), threshold: deny, warn: warned })
        };
        chosen.iter().map(bound).collect()
    }

    /// The levels of origins that have their own.
    fn by_origin(&self, rule: &schema::Rule, guard: &Guard) -> Result<Vec<(Origin, Vec<Bound>)>, Problem> {
        let Guard::Classifier { labels } = guard else {
            return match rule.by_origin.values().next() {
                None => Ok(Vec::new()),
                Some(levels) => {
                    let message = "a pattern is found or not: `by_origin` belongs to a `classifier` guard";
                    Err(self.source.problem(levels.referenced, message))
                }
            };
        };
        let chosen: Vec<(usize, &KnownLabel)> = labels
            .iter()
            .filter_map(|bound| self.known.labels.get(bound.label).map(|known| (bound.label, known)))
            .collect();
        let mut own = Vec::new();
        for (origin, levels) in &rule.by_origin {
            let schema::Levels { threshold, warn } = &levels.value;
            if threshold.is_none() && warn.is_none() {
                return Err(self
                    .source
                    .problem(levels.referenced, "expected a `threshold` or a `warn` for this origin"));
            }
            let looks = rule.origins.as_ref().is_none_or(|origins| origins.value.iter().any(|of| of.value == *origin));
            if !looks {
                let message = format!("the rule does not look at `{}`: it is not among its origins", origin.as_str());
                return Err(self.source.problem(levels.referenced, message));
            }
            let Some(threshold) = threshold.as_ref().or(rule.threshold.as_ref()) else { continue };
            own.push((*origin, self.bounds(&chosen, threshold, warn.as_ref().or(rule.warn.as_ref()))?));
        }
        Ok(own)
    }

    /// The labels listed; if none are, those that the model's maker calibrated, which leaves out `benign` and its like.
    fn labels<'k>(
        &self,
        rule: &schema::Rule,
        head: &Spanned<String>,
        of_head: &[(usize, &'k KnownLabel)],
    ) -> Result<Vec<(usize, &'k KnownLabel)>, Problem> {
        let calibrated = of_head.iter().filter(|(_, label)| !label.thresholds.is_empty());
        let names = || of_head.iter().map(|(_, label)| label.name.as_str());
        let Some(listed) = &rule.guard.value.labels else {
            let calibrated: Vec<_> = calibrated.copied().collect();
            if calibrated.is_empty() {
                let names: Vec<&str> = names().collect();
                let message = format!(
                    "head `{}` has no calibrated labels: choose from {} with `labels: […]`",
                    head.value,
                    ticked(&names)
                );
                return Err(self.source.problem(head.referenced, message));
            }
            return Ok(calibrated);
        };
        if listed.value.is_empty() {
            let message = "a classifier rule needs a label (leave `labels` out for all that count as a hit)";
            return Err(self.source.problem(listed.referenced, message));
        }
        self.source.unique("label", &listed.value)?;
        let find = |written: &Spanned<String>| {
            of_head.iter().copied().find(|(_, label)| label.name == written.value).ok_or_else(|| {
                let known = expected("label", &written.value, names());
                let message = format!("`{}` has no label `{}`, {known}", head.value, written.value);
                self.source.problem(written.referenced, message)
            })
        };
        listed.value.iter().map(find).collect()
    }

    /// Every label of the map is one of the rule's, and the other way round.
    fn threshold_labels(
        &self,
        levels: &[(Spanned<String>, Spanned<Level>)],
        chosen: &[(usize, &KnownLabel)],
    ) -> Result<(), Problem> {
        let names = || chosen.iter().map(|(_, label)| label.name.as_str());
        for (label, _) in levels {
            if !names().any(|name| name == label.value) {
                let message =
                    format!("the rule has no label `{}`, {}", label.value, expected("label", &label.value, names()));
                return Err(self.source.problem(label.referenced, message));
            }
        }
        Ok(())
    }

    fn threshold(&self, written: &Spanned<Threshold>, label: &KnownLabel) -> Result<f32, Problem> {
        let levels = match &written.value {
            Threshold::All(level) => return self.level(level, label, written),
            Threshold::PerLabel(levels) => levels,
        };
        if let Some((_, level)) = levels.iter().find(|(name, _)| name.value == label.name) {
            return self.level(&level.value, label, level);
        }
        let message =
            format!("no threshold for label `{}` (add one, or list under `labels` only what you mean)", label.name);
        Err(self.source.problem(written.referenced, message))
    }

    fn level<T>(&self, level: &Level, label: &KnownLabel, written: &Spanned<T>) -> Result<f32, Problem> {
        let names = label.thresholds.keys().map(String::as_str);
        let message = match level {
            #[expect(clippy::cast_possible_truncation, reason = "scores are f32")]
            Level::Number(number) if *number > 0.0 && *number <= 1.0 => return Ok(*number as f32),
            Level::Number(number) => {
                format!("a score is a probability: expected a number above 0 and up to 1, found {number}")
            }
            Level::Named(name) => match label.thresholds.get(name) {
                Some(threshold) => return Ok(*threshold),
                None => format!(
                    "no threshold `{name}` is calibrated for `{}.{}` (a number up to 1 would do), {}",
                    label.head,
                    label.name,
                    expected("calibrated threshold", name, names)
                ),
            },
        };
        Err(self.source.problem(written.referenced, message))
    }

    fn pattern(&self, rule: &schema::Rule) -> Result<Guard, Problem> {
        let guard = &rule.guard.value;
        if let Some(labels) = &guard.labels {
            return Err(self.source.problem(labels.referenced, "`labels` belong to a `classifier` guard"));
        }
        if let Some(threshold) = &rule.threshold {
            let message = "a pattern is found or not: `threshold` belongs to a `classifier` guard";
            return Err(self.source.problem(threshold.referenced, message));
        }
        if let Some(warn) = &rule.warn {
            let message = "a pattern is found or not: `warn` belongs to a `classifier` guard";
            return Err(self.source.problem(warn.referenced, message));
        }
        let entities = guard.entities.as_ref().map_or(&[][..], |entities| &entities.value);
        let patterns = guard.patterns.as_ref().map_or(&[][..], |patterns| &patterns.value);
        if entities.is_empty() && patterns.is_empty() {
            return self.refuse_guard(rule, "a guard that looks for nothing: expected an entity or a pattern");
        }
        self.source.unique("entity", entities)?;
        self.source.unique("pattern", patterns.iter().map(|pattern| &pattern.id))?;
        Ok(Guard::Pattern {
            entities: entities.iter().map(|entity| self.entity(entity)).collect::<Result<_, _>>()?,
            patterns: patterns.iter().map(|pattern| self.regex(pattern)).collect::<Result<_, _>>()?,
        })
    }

    fn entity(&self, written: &Spanned<String>) -> Result<String, Problem> {
        let known = || self.known.entities.iter().map(String::as_str);
        if known().any(|entity| entity == written.value) {
            return Ok(written.value.clone());
        }
        let message = format!("unknown entity `{}`, {}", written.value, expected("entity", &written.value, known()));
        Err(self.source.problem(written.referenced, message))
    }

    fn regex(&self, written: &schema::Pattern) -> Result<Pattern, Problem> {
        let id = self.source.word(&written.id)?;
        if self.known.entities.contains(&id) {
            let message = format!("`{id}` is a built-in entity: name it under `entities`, or take another id");
            return Err(self.source.problem(written.id.referenced, message));
        }
        let message = match Regex::new(&written.regex.value) {
            Ok(regex) if regex.is_match("") => "this pattern matches the empty text, so everything".to_owned(),
            Ok(_) => return Ok(Pattern { id, regex: written.regex.value.clone() }),
            Err(error) => format!("not a regular expression: {}", why(&error)),
        };
        Err(self.source.problem(written.regex.referenced, message))
    }
}

/// The calibrated names that all of the labels know.
fn or_names(labels: &[(usize, &KnownLabel)]) -> String {
    let Some((_, first)) = labels.first() else { return String::new() };
    let shared =
        first.thresholds.keys().filter(|name| labels.iter().all(|(_, label)| label.thresholds.contains_key(*name)));
    let shared: Vec<&str> = shared.map(String::as_str).collect();
    if shared.is_empty() { String::new() } else { format!(", or {}", ticked(&shared)) }
}

/// The last line of the library's drawing: the reason, and the place by its own caret.
fn why(error: &regex::Error) -> String {
    let drawn = error.to_string();
    let reason = drawn.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
    let caret = drawn.lines().find(|line| line.trim_start().starts_with('^') && line.trim().chars().all(|c| c == '^'));
    match caret {
        Some(line) => format!("{reason} (at its character {})", line.find('^').unwrap_or(4).saturating_sub(4) + 1),
        None => reason,
    }
}
