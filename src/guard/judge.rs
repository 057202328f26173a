//! One text under the rules of one policy.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::time::timeout;

use super::passage::passages;
use super::pattern::PatternSet;
use crate::api::Origin;
use crate::classify::{Classifier, ScoreError, Scores};
use crate::policy::{Action, Bound, Guard, Mode, OnError, Policy, Rule, Snapshot};
use crate::telemetry::{Decision, Metrics};

/// Texts of one request that wait for the scheduler at one time, so that one long conversation leaves room for others.
pub(super) const ABREAST: usize = 8;

/// A policy and what this room compiled from it, as one request sees it from first to last byte.
pub type View = Arc<Snapshot<Armed>>;

/// The recognisers of a policy, compiled once when it is loaded: one entry a rule, `None` for classifier rules.
#[derive(Debug)]
pub struct Armed {
    patterns: Vec<Option<PatternSet>>,
}

/// Compiles a policy's recognisers. The reason of a refusal is for the person who wrote the policy.
pub fn arm(policy: &Policy) -> Result<Armed, String> {
    let compile = |rule: &Rule| match &rule.guard {
        Guard::Classifier { .. } => Ok(None),
        Guard::Pattern { entities, patterns } => {
            let own: Vec<(String, String)> = patterns.iter().map(|p| (p.id.clone(), p.regex.clone())).collect();
            PatternSet::compile(entities, &own).map(Some).map_err(|error| format!("rule `{}`: {error}", rule.id))
        }
    };
    Ok(Armed { patterns: policy.rules.iter().map(compile).collect::<Result<_, _>>()? })
}

/// Which way a text travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Up, to the model.
    Input,
    /// Down, to the client.
    Output,
}

impl Stage {
    /// The word in labels and annotations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

/// A rule that was hit, and by what. Holds no text of the request.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Index of the rule in its policy.
    pub rule: usize,
    /// `head.label` of a classifier, or the entity of a recogniser.
    pub label: String,
    /// The score, for classifiers.
    pub score: Option<f32>,
    /// The threshold that it reached; of a warning, the level from which on it is one.
    pub threshold: Option<f32>,
    /// It is a warning: counted, and nothing else, whatever the rule's action is.
    pub warning: bool,
    /// Where, e.g. `messages[2].content`.
    pub place: String,
    /// The answer's choice; 0 for inputs.
    pub choice: u32,
}

/// A guard that could not judge, under a rule that must not be passed unjudged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rule `{rule}` could not judge: {reason}")]
pub struct Failure {
    /// The rule's id.
    pub rule: String,
    /// A fixed word: `timeout`, `overload`, `too_long`, `not_finite`, `worker_lost`, `error`, `held_too_much`.
    pub reason: &'static str,
    /// Whether trying again later may help.
    pub passing: bool,
}

/// What the rules say of one text.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    pub(super) findings: Vec<Finding>,
    /// Parts to replace, sorted, not overlapping, of rules that are enforced.
    pub(super) redactions: Vec<(Range<usize>, String)>,
    /// A guard could not judge, and an enforced rule let the text pass all the same.
    pub(super) failed_open: bool,
}

/// The text to judge and where it stands.
pub(super) struct Subject<'a> {
    pub(super) stage: Stage,
    pub(super) origin: Origin,
    pub(super) text: &'a str,
    /// The part of the text whose matches count; the rest is context.
    pub(super) fresh: Range<usize>,
    pub(super) place: &'a str,
    pub(super) choice: u32,
}

/// Everything that can judge. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Guards {
    classifier: Option<Classifier>,
    metrics: Arc<Metrics>,
}

impl Guards {
    /// Guards over an optional classifier; policies with classifier rules are not loaded without one.
    pub fn new(classifier: Option<Classifier>, metrics: Arc<Metrics>) -> Self {
        Self { classifier, metrics }
    }

    /// The classifier's name, revision and device, if there is one.
    pub fn model(&self) -> Option<(&str, &str, &'static str)> {
        self.classifier.as_ref().map(|c| (c.name(), c.revision(), c.device()))
    }

    /// One label's score of a text, for records; nothing where no classifier has that label or it cannot say.
    pub async fn score(&self, label: &str, text: &str) -> Option<f32> {
        let classifier = self.classifier.as_ref()?;
        let index = classifier.labels().iter().position(|known| format!("{}.{}", known.head, known.name) == label)?;
        let scores = classifier.score(Arc::from(text)).await.ok()?;
        scores.values.get(index).copied()
    }

    /// What the rules say of `subject`. A block outweighs another rule's failure.
    pub(super) async fn judge(&self, view: &View, subject: &Subject<'_>) -> Result<Judgement, Failure> {
        let mut judgement = Judgement::default();
        if subject.text.trim().is_empty() {
            return Ok(judgement);
        }
        self.match_patterns(view, subject, &mut judgement);
        let failure = self.classify(view, subject, &mut judgement).await.err();
        match failure {
            Some(failure) if !judgement.findings.iter().any(|f| blocks(&view.policy, f)) => Err(failure),
            _ => Ok(judgement),
        }
    }

    fn match_patterns(&self, view: &View, subject: &Subject<'_>, judgement: &mut Judgement) {
        for (index, rule, set) in patterns(view, subject.stage, subject.origin) {
            let started = Instant::now();
            let matches = set.find_from(subject.text, subject.fresh.start);
            self.metrics.guard_evaluated(&rule.id, subject.stage.as_str(), "ok", started.elapsed());
            for found in matches.into_iter().filter(|found| found.range.end <= subject.fresh.end) {
                judgement.findings.push(subject.finding(index, found.entity.to_owned(), None, None));
                if rule.action == Action::Redact && rule.mode == Mode::Enforce {
                    judgement.redactions.push((found.range, format!("[{}]", found.entity)));
                }
            }
        }
        judgement.redactions = joined(std::mem::take(&mut judgement.redactions));
    }

    async fn classify(&self, view: &View, subject: &Subject<'_>, judgement: &mut Judgement) -> Result<(), Failure> {
        let rules: Vec<(usize, &Rule, &[Bound])> = classifiers(view, subject.stage, subject.origin).collect();
        let (Some(classifier), Some(patience)) = (&self.classifier, rules.iter().map(|(_, r, _)| r.timeout).max())
        else {
            return Ok(());
        };
        let started = Instant::now();
        let outcome = timeout(patience, score(classifier, subject, patience)).await;
        let took = started.elapsed();
        judgement.failed_open |= !matches!(outcome, Ok(Ok(_)))
            && rules.iter().any(|(_, rule, _)| rule.on_error == OnError::Open && rule.mode == Mode::Enforce);
        match outcome {
            Ok(Ok(scores)) => {
                for (index, rule, bounds) in rules {
                    self.metrics.guard_evaluated(&rule.id, subject.stage.as_str(), "ok", took);
                    judgement.findings.extend(worst(bounds, &scores).map(|hit| subject.scored(index, &hit)));
                }
                Ok(())
            }
            Ok(Err(error)) => self.failed(&rules, subject.stage, reason(&error), took),
            Err(_elapsed) => self.failed(&rules, subject.stage, ("timeout", true), took),
        }
    }

    /// Each rule's own `on_error` decides; one that says `closed` is enough to fail the text.
    fn failed(
        &self,
        rules: &[(usize, &Rule, &[Bound])],
        stage: Stage,
        (reason, passing): (&'static str, bool),
        took: Duration,
    ) -> Result<(), Failure> {
        let outcome = if reason == "timeout" { "timeout" } else { "error" };
        let mut failure = None;
        for (_, rule, _) in rules {
            let open = rule.on_error == OnError::Open || rule.mode == Mode::Shadow;
            self.metrics.guard_evaluated(&rule.id, stage.as_str(), outcome, took);
            self.metrics.guard_failed(&rule.id, reason, if open { "open" } else { "closed" });
            tracing::warn!(rule = rule.id, reason, open, "a guard could not judge");
            if !open {
                failure = Some(Failure { rule: rule.id.clone(), reason, passing });
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Counts what each rule of a stage came to, once a request or stream.
    pub(super) fn count(&self, view: &View, stage: Stage, findings: &[Finding]) {
        for (index, rule) in view.policy.rules.iter().enumerate().filter(|(_, rule)| looks(rule, stage)) {
            let hit = findings.iter().any(|finding| finding.rule == index && !finding.warning);
            let warned = findings.iter().any(|finding| finding.rule == index && finding.warning);
            let enforced = hit && rule.mode == Mode::Enforce;
            let verdict = match (hit, rule.action) {
                (false, _) if warned => "warn",
                (false, _) => "allow",
                (true, Action::Redact | Action::Revise) => "modify",
                (true, Action::Audit) => "warn",
                (true, Action::Block) => "deny",
            };
            self.metrics.decided(&Decision {
                policy: &view.policy.name,
                rule: &rule.id,
                stage: stage.as_str(),
                verdict,
                action: if enforced {
                    rule.action.as_str()
                } else if hit || warned {
                    "audit"
                } else {
                    "allow"
                },
                mode: rule.mode.as_str(),
            });
        }
    }

    /// Whether any rule of the policy looks at this stage.
    pub fn looks(view: &View, stage: Stage) -> bool {
        view.policy.rules.iter().any(|rule| looks(rule, stage))
    }

    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }
}

impl Subject<'_> {
    fn finding(&self, rule: usize, label: String, score: Option<f32>, threshold: Option<f32>) -> Finding {
        Finding { rule, label, score, threshold, warning: false, place: self.place.to_owned(), choice: self.choice }
    }

    fn scored(&self, rule: usize, hit: &Hit<'_>) -> Finding {
        let finding = self.finding(rule, hit.bound.name.clone(), Some(hit.score), Some(hit.reached));
        Finding { warning: hit.warning, ..finding }
    }
}

/// The recognisers that look at a text of this stage and origin.
pub(super) fn patterns(view: &View, stage: Stage, origin: Origin) -> impl Iterator<Item = (usize, &Rule, &PatternSet)> {
    let rules = view.policy.rules.iter().zip(&view.armed.patterns).enumerate();
    rules.filter_map(move |(index, (rule, set))| {
        set.as_ref().filter(|_| applies(rule, stage, origin)).map(|set| (index, rule, set))
    })
}

fn classifiers(view: &View, stage: Stage, origin: Origin) -> impl Iterator<Item = (usize, &Rule, &[Bound])> {
    view.policy.rules.iter().enumerate().filter_map(move |(index, rule)| match &rule.guard {
        Guard::Classifier { .. } if applies(rule, stage, origin) => Some((index, rule, rule.bounds(origin))),
        _ => None,
    })
}

/// Whether any rule looks at a text of this stage and origin.
pub(super) fn any_applies(policy: &Policy, stage: Stage, origin: Origin) -> bool {
    policy.rules.iter().any(|rule| applies(rule, stage, origin))
}

/// Whether a classifier looks at a text of this stage and origin.
pub(super) fn classifies(policy: &Policy, stage: Stage, origin: Origin) -> bool {
    policy.rules.iter().any(|rule| matches!(rule.guard, Guard::Classifier { .. }) && applies(rule, stage, origin))
}

fn applies(rule: &Rule, stage: Stage, origin: Origin) -> bool {
    looks(rule, stage) && rule.origins.as_ref().is_none_or(|origins| origins.contains(&origin))
}

fn looks(rule: &Rule, stage: Stage) -> bool {
    match stage {
        Stage::Input => rule.stages.input,
        Stage::Output => rule.stages.output,
    }
}

/// The action that a finding leads to: none in shadow mode, and of a warning only that it is counted.
pub(super) fn enforced(policy: &Policy, finding: &Finding) -> Option<Action> {
    let rule = policy.rules.get(finding.rule).filter(|rule| rule.mode == Mode::Enforce)?;
    Some(if finding.warning { Action::Audit } else { rule.action })
}

fn blocks(policy: &Policy, finding: &Finding) -> bool {
    enforced(policy, finding) == Some(Action::Block)
}

/// The largest score of each label: over the text as a whole and, for answers, over each of its sentences.
///
/// A prompt that would wait too long is turned away; an answer is not, since its prompt has been let in and paid for.
async fn score(classifier: &Classifier, subject: &Subject<'_>, patience: Duration) -> Result<Scores, ScoreError> {
    let patience = if subject.stage == Stage::Input { patience } else { Duration::MAX };
    let text = subject.text;
    let mut views = vec![text];
    if matches!(subject.origin, Origin::Output | Origin::Reasoning) {
        let passages = passages(text, subject.fresh.start).into_iter().map(|passage| &text[passage]);
        views.extend(passages.filter(|passage| passage.len() < text.len() && !passage.trim().is_empty()));
    }
    let scored: Vec<_> = views.into_iter().map(|view| classifier.score_within(Arc::from(view), patience)).collect();
    stream::iter(scored)
        .buffered(ABREAST)
        .try_fold(Scores::default(), |best, scores| future::ok(larger(best, scores)))
        .await
}

/// Label by label the larger one.
fn larger(best: Scores, mut scores: Scores) -> Scores {
    for (score, other) in scores.values.iter_mut().zip(best.values) {
        *score = score.max(other);
    }
    Scores { values: scores.values, windows: best.windows + scores.windows, tokens: best.tokens + scores.tokens }
}

/// A fixed word for what went wrong, and whether trying again later may help.
fn reason(error: &ScoreError) -> (&'static str, bool) {
    match error {
        ScoreError::Overloaded => ("overload", true),
        ScoreError::TooLong { .. } => ("too_long", false),
        ScoreError::NotFinite => ("not_finite", true),
        ScoreError::WorkerLost => ("worker_lost", true),
        ScoreError::Failed(_) => ("error", true),
    }
}

/// A bound that a score has reached.
struct Hit<'a> {
    bound: &'a Bound,
    score: f32,
    /// The level that it reached.
    reached: f32,
    warning: bool,
}

/// The label that is furthest over its threshold, if any reached it, else the one that is furthest into its warning. A
/// tie with a level reaches it.
fn worst<'a>(bounds: &'a [Bound], scores: &Scores) -> Option<Hit<'a>> {
    let level = |warning: bool| {
        bounds
            .iter()
            .filter_map(|bound| scores.values.get(bound.label).map(|score| (bound, *score)))
            .filter_map(|(bound, score)| {
                let reached = if warning { bound.warn? } else { bound.threshold };
                (score >= reached).then_some(Hit { bound, score, reached, warning })
            })
            .max_by(|a, b| (a.score - a.reached).total_cmp(&(b.score - b.reached)))
    };
    level(false).or_else(|| level(true))
}

/// Sorts replacements; those that overlap become one, with the first one's text.
fn joined(mut redactions: Vec<(Range<usize>, String)>) -> Vec<(Range<usize>, String)> {
    redactions.sort_by_key(|(range, _)| range.start);
    let mut out: Vec<(Range<usize>, String)> = Vec::with_capacity(redactions.len());
    for (range, text) in redactions {
        match out.last_mut() {
            Some((last, _)) if range.start < last.end => last.end = last.end.max(range.end),
            _ => out.push((range, text)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_outweighs_a_warning_and_a_tie_reaches_its_level() {
        let bound = |label: usize, warn, threshold| Bound { label, name: label.to_string(), threshold, warn };
        let bounds = [bound(0, Some(0.3), 0.9), bound(1, None, 0.5), bound(2, Some(0.25), 0.5)];
        let of = |values: [f32; 3]| {
            let scores = Scores { values: values.to_vec(), ..Scores::default() };
            worst(&bounds, &scores).map(|hit| (hit.bound.label, hit.warning, hit.reached))
        };
        assert_eq!(of([0.1, 0.4, 0.2]), None);
        assert_eq!(of([0.3, 0.4, 0.2]), Some((0, true, 0.3)));
        assert_eq!(of([0.31, 0.4, 0.45]), Some((2, true, 0.25)));
        assert_eq!(of([0.89, 0.5, 0.2]), Some((1, false, 0.5)));
    }

    #[test]
    fn replacements_that_overlap_cover_everything_that_either_covered() {
        let all = vec![(12..20, "[B]".to_owned()), (10..15, "[A]".to_owned()), (20..22, "[C]".to_owned())];
        assert_eq!(joined(all), vec![(10..20, "[A]".to_owned()), (20..22, "[C]".to_owned())]);
    }
}
