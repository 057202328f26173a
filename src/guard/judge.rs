//! One text under the rules of one policy.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future;
use tokio::time::timeout;

use super::armed::{Asked, Heard};
use super::cascade::Cascade;
use super::ledger::{Known, Ledger, Place};
use super::normalise::{Normalised, normalise, parts};
use super::occasion::Occasion;
use super::pattern::{Match, PatternSet};
use super::score::{Hit, Reading, near, reason, score, suspicious, worst};
use super::seam::over_joints;
use super::second::Witness;
use crate::api::Origin;
use crate::classify::Scores;
use crate::policy::{Action, Mode, OnError, Policy, Rule};
use crate::telemetry::{Decision, Metrics};

/// The place of a text that streams.
pub(super) const STREAM: &str = "stream";

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
    /// A fixed word: `condition`, `timeout`, `overload`, `too_long`, `not_finite`, `worker_lost`, `error`, `held_too_much`.
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
    /// Whether the text had been blocked before.
    pub(super) replayed: bool,
    /// A score came near to a level, or could not be had.
    pub(super) near: bool,
    /// What the classifiers said that were asked.
    heard: Heard,
}

/// The text to judge and where it stands.
pub(super) struct Subject<'a> {
    pub(super) stage: Stage,
    pub(super) origin: Origin,
    /// What classifiers see before the text, beside the text alone; often nothing.
    pub(super) before: &'a str,
    pub(super) text: &'a str,
    /// The part of the text whose matches count; the rest is context.
    pub(super) fresh: Range<usize>,
    /// Of a view over seams: where they are, and whether a classifier learns something new from it. Only matches over one
    /// of them count.
    pub(super) joints: Option<(&'a [Range<usize>], bool)>,
    pub(super) place: &'a str,
    pub(super) choice: u32,
    /// Bytes of the text as its author wrote it: of a stream, all that has come.
    pub(super) length: usize,
    /// Since when the guards are at work on it and on what belongs to it.
    pub(super) since: Instant,
}

/// What judges by a policy's rules: the ledger and the counters; what a rule asks is in the request's view. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Guards {
    ledger: Option<Arc<Ledger>>,
    metrics: Arc<Metrics>,
    /// Who else sees what is judged.
    pub(super) witness: Option<Arc<Witness>>,
}

impl Guards {
    /// Guards without a ledger.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { ledger: None, metrics, witness: None }
    }

    /// The same guards with a memory of at most so many bytes for verdicts of prompts; 0 is none.
    #[must_use]
    pub fn with_ledger(self, bytes: usize) -> Self {
        let ledger = Ledger::new(bytes, Arc::clone(&self.metrics)).map(Arc::new);
        Self { ledger, ..self }
    }

    /// The same guards, counting into metrics of their own.
    #[must_use]
    pub fn counting(&self, metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..self.clone() }
    }

    /// What the rules say of `subject`. A block outweighs another rule's failure.
    pub(super) async fn judge(&self, occasion: &Occasion, subject: &Subject<'_>) -> Result<Judgement, Failure> {
        let judged = self.judge_unseen(occasion, subject).await;
        if let (Some(witness), Ok(judgement)) = (&self.witness, &judged) {
            witness.saw(subject, judgement.heard.clone());
        }
        judged
    }

    /// The same, and no witness sees it.
    pub(super) async fn judge_unseen(&self, occasion: &Occasion, subject: &Subject<'_>) -> Result<Judgement, Failure> {
        let mut judgement = Judgement::default();
        if subject.text.trim().is_empty() || !occasion.any_applies(subject.stage, subject.origin) {
            return Ok(judgement);
        }
        let view = occasion.view();
        let undecided = occasion.undecided(subject.stage, subject.origin, subject.length);
        judgement.failed_open = undecided.iter().any(|rule| passes_open(rule));
        let unasked = self.failed(undecided, subject.stage, ("condition", false), Duration::ZERO).err();
        let entry = self.entry(occasion, subject);
        let known = entry.map(|(ledger, place)| ledger.known(place)).unwrap_or_default();
        judgement.replayed = known.blocked;
        let asked = match subject.joints {
            Some((_, false)) => Vec::new(),
            _ => occasion.classifiers(subject.stage, subject.origin, subject.length),
        };
        let unknown = asked.iter().any(|asked| known.heard.of(asked.at).is_none());
        let readings = self.match_patterns(occasion, subject, unknown, &mut judgement);
        let failure = self.classify(subject, &asked, &readings, (entry, known), &mut judgement).await.err();
        if let Some((ledger, place)) = entry
            && judgement.findings.iter().any(|finding| blocks(&view.policy, finding))
        {
            ledger.block(place);
        }
        match failure.or(unasked) {
            Some(failure) if !judgement.findings.iter().any(|f| blocks(&view.policy, f)) => Err(failure),
            _ => Ok(judgement),
        }
    }

    /// What the rules say of a text whose scores are known, for a second opinion: nothing is asked, kept or remembered.
    pub(super) fn decide(
        &self,
        occasion: &Occasion,
        subject: &Subject<'_>,
        heard: &[Heard],
        judgement: &mut Judgement,
    ) {
        self.match_patterns(occasion, subject, false, judgement);
        for asked in occasion.classifiers(subject.stage, subject.origin, subject.length) {
            for (index, _, bounds) in &asked.rules {
                let scores = heard.iter().filter_map(|heard| heard.of(asked.at));
                let hits = scores.filter_map(|scores| worst(bounds, asked.first, scores));
                judgement.findings.extend(hits.map(|hit| subject.scored(*index, &hit)));
            }
        }
    }

    /// Where the verdict on a prompt's text is kept. What comes down is judged once.
    fn entry(&self, occasion: &Occasion, subject: &Subject<'_>) -> Option<(&Ledger, Place)> {
        let ledger = self.ledger.as_deref().filter(|_| subject.stage == Stage::Input)?;
        Some((ledger, place(ledger, occasion, subject.origin, subject.text)))
    }

    /// Whether the ledger knows that a text of a prompt has been blocked.
    pub(super) fn was_blocked(&self, occasion: &Occasion, origin: Origin, text: &str) -> bool {
        let ledger = self.ledger.as_deref().filter(|ledger| ledger.blocks());
        ledger.is_some_and(|ledger| ledger.is_blocked(place(ledger, occasion, origin, text)))
    }

    /// Finds patterns in the text as it is and with tricks undone. Gives what else a classifier should see, if it is to
    /// be asked.
    fn match_patterns(
        &self,
        occasion: &Occasion,
        subject: &Subject<'_>,
        asks: bool,
        judgement: &mut Judgement,
    ) -> Vec<Reading> {
        let rules: Vec<(usize, &Rule, &PatternSet)> =
            occasion.patterns(subject.stage, subject.origin, subject.length).collect();
        let mut found = Vec::with_capacity(rules.len());
        for (_, rule, set) in &rules {
            let started = Instant::now();
            found.push(set.find_from(subject.text, subject.fresh.start));
            self.metrics.guard_evaluated(&rule.id, subject.stage.as_str(), "ok", started.elapsed());
        }
        let mut readings = Vec::new();
        let mut more = vec![Vec::new(); rules.len()];
        for part in parts(subject.text).filter(|_| asks || !rules.is_empty()) {
            let Some(normalised) = normalise(&subject.text[part.clone()]) else { continue };
            normalised.kinds().for_each(|kind| self.metrics.normalised_view(kind.as_str()));
            for (((_, _, set), found), more) in rules.iter().zip(&found).zip(&mut more) {
                more.extend(unveiled(set, subject, (part.start, &normalised), found));
            }
            if asks {
                readings.extend(suspicious(normalised, subject.fresh.start.saturating_sub(part.start)));
            }
        }
        for (((index, rule, set), found), more) in rules.into_iter().zip(found).zip(more) {
            let mut found: Vec<Match<'_>> = found.into_iter().chain(more).collect();
            if let Some((joints, _)) = subject.joints {
                found = over_joints(set, subject.text, joints, found);
            }
            for found in found.into_iter().filter(|found| found.range.end <= subject.fresh.end) {
                judgement.findings.push(subject.finding(index, found.entity.to_owned(), None, None));
                if rule.action == Action::Redact && rule.mode == Mode::Enforce {
                    judgement.redactions.push((found.range, format!("[{}]", found.entity)));
                }
            }
        }
        judgement.redactions = joined(std::mem::take(&mut judgement.redactions));
        readings
    }

    /// Asks every classifier that a rule asks, all at once. The first failure of an enforced rule that is closed is the
    /// text's, after all have been heard: another's block outweighs it.
    async fn classify(
        &self,
        subject: &Subject<'_>,
        asked: &[Asked<'_>],
        readings: &[Reading],
        (entry, known): (Option<(&Ledger, Place)>, Known),
        judgement: &mut Judgement,
    ) -> Result<(), Failure> {
        let answers = future::join_all(asked.iter().map(|asked| self.ask(asked, subject, readings, &known))).await;
        let mut failed = Ok(());
        for (asked, (outcome, took)) in asked.iter().zip(answers) {
            let scores = match outcome {
                Ok(scores) => scores,
                Err(why) => {
                    let rules = || asked.rules.iter().map(|(_, rule, _)| *rule);
                    judgement.failed_open |= rules().any(passes_open);
                    judgement.near = true;
                    failed = failed.and(self.failed(rules(), subject.stage, why, took));
                    continue;
                }
            };
            if let Some((ledger, place)) = entry {
                ledger.keep(place, asked.at, Arc::clone(&scores));
            }
            for (index, rule, bounds) in &asked.rules {
                self.metrics.guard_evaluated(&rule.id, subject.stage.as_str(), "ok", took);
                let hit = worst(bounds, asked.first, &scores);
                judgement.findings.extend(hit.map(|hit| subject.scored(*index, &hit)));
                judgement.near |= near(bounds, asked.first, &scores);
            }
            judgement.heard.keep(asked.at, scores);
        }
        failed
    }

    /// One classifier's scores of a text, within the patience of the most patient rule, or a fixed word for why not and
    /// whether trying again may help; and how long that took.
    async fn ask(
        &self,
        asked: &Asked<'_>,
        subject: &Subject<'_>,
        readings: &[Reading],
        known: &Known,
    ) -> (Result<Arc<Scores>, (&'static str, bool)>, Duration) {
        let started = Instant::now();
        if let Some(scores) = known.heard.of(asked.at) {
            return (Ok(Arc::clone(scores)), started.elapsed());
        }
        let patience = asked.rules.iter().map(|(_, rule, _)| rule.timeout).max().unwrap_or_default();
        // What other texts of the same prompt or answer have taken is gone.
        let patience = patience.saturating_sub(subject.since.elapsed());
        // A prompt that would wait too long is turned away; an answer is not, since its prompt has been let in and paid for.
        let waits = if subject.stage == Stage::Input { patience } else { Duration::MAX };
        let bounds = asked.rules.iter().flat_map(|(_, _, bounds)| bounds.iter()).collect();
        let cascade =
            Cascade::new((asked.classifier, asked.first), &self.metrics, bounds).filter(|_| readings.is_empty());
        let whole = (subject.text, subject.fresh.start);
        let origin = subject.origin;
        let scores = score(asked.classifier, (subject.before, whole), origin, readings, waits, cascade.as_ref());
        let outcome = match timeout(patience, scores).await {
            Ok(Ok(scores)) => Ok(Arc::new(scores)),
            Ok(Err(error)) => Err(reason(&error)),
            Err(_elapsed) => Err(("timeout", true)),
        };
        (outcome, started.elapsed())
    }

    /// Each rule's own `on_error` decides; one that says `closed` is enough to fail the text.
    fn failed<'r>(
        &self,
        rules: impl IntoIterator<Item = &'r Rule>,
        stage: Stage,
        (reason, passing): (&'static str, bool),
        took: Duration,
    ) -> Result<(), Failure> {
        let outcome = if reason == "timeout" { "timeout" } else { "error" };
        let mut failure = None;
        for rule in rules {
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
    pub(super) fn count(&self, occasion: &Occasion, stage: Stage, findings: &[Finding]) {
        let view = occasion.view();
        for (index, rule) in view.policy.rules.iter().enumerate().filter(|(at, _)| occasion.may_look(*at, stage)) {
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

    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }
}

impl Judgement {
    /// Whether a rule was hit, and not only warned.
    pub(super) fn has(&self, rule: usize) -> bool {
        self.findings.iter().any(|finding| finding.rule == rule && !finding.warning)
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

/// Whether a text passes unjudged where the rule cannot judge it, although the rule is in earnest.
fn passes_open(rule: &Rule) -> bool {
    rule.on_error == OnError::Open && rule.mode == Mode::Enforce
}

/// The action that a finding leads to: none in shadow mode, and of a warning only that it is counted.
pub(super) fn enforced(policy: &Policy, finding: &Finding) -> Option<Action> {
    let rule = policy.rules.get(finding.rule).filter(|rule| rule.mode == Mode::Enforce)?;
    Some(if finding.warning { Action::Audit } else { rule.action })
}

pub(super) fn blocks(policy: &Policy, finding: &Finding) -> bool {
    enforced(policy, finding) == Some(Action::Block)
}

/// Matches in a normalised text that are none in the text as it is, at the places that they were made from.
fn unveiled<'s>(
    set: &'s PatternSet,
    subject: &Subject<'_>,
    (start, normalised): (usize, &Normalised),
    plain: &[Match<'s>],
) -> Vec<Match<'s>> {
    let from = normalised.position(subject.fresh.start.saturating_sub(start));
    let matches = set.find_from(normalised.text(), from);
    let matches = matches.into_iter().map(|found| {
        let source = normalised.source(found.range);
        Match { range: (start + source.start).max(subject.fresh.start)..start + source.end, entity: found.entity }
    });
    let known = |found: &Match<'_>| {
        let next = plain.partition_point(|known| known.range.end <= found.range.start);
        plain.get(next).is_some_and(|known| known.range.start < found.range.end)
    };
    matches.filter(|found| !found.range.is_empty() && !known(found)).collect()
}

fn place(ledger: &Ledger, occasion: &Occasion, origin: Origin, text: &str) -> Place {
    let view = occasion.view();
    ledger.place(occasion.sharing(), origin, [view.policy.revision.as_str(), view.armed.revision()], text)
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
    fn replacements_that_overlap_cover_everything_that_either_covered() {
        let all = vec![(12..20, "[B]".to_owned()), (10..15, "[A]".to_owned()), (20..22, "[C]".to_owned())];
        assert_eq!(joined(all), vec![(10..20, "[A]".to_owned()), (20..22, "[C]".to_owned())]);
    }
}
