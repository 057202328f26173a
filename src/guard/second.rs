//! Two policies on the same evidence.
//!
//! While one policy judges a request, a [`Witness`] keeps the texts that its guards saw and the scores that the
//! classifier gave. What another policy would have decided is worked out from that, later and elsewhere: nothing is
//! scored twice, and whoever waits for the answer does not wait for the second opinion.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::armed::{Asked, Heard, View};
use super::judge::{self, Guards, Judgement, Stage, Subject};
use super::occasion::Occasion;
use super::score::scores_within;
use crate::api::Origin;
use crate::classify::{ScoreError, Scores};
use crate::policy::{Action, Mode};

/// The most text of one stage of one request that is kept for a second opinion, in bytes.
const MOST: usize = 2 * 1024 * 1024;
/// What an exhibit takes beside its text.
const EXHIBIT: usize = 256;

/// A text that guards saw, and what the classifiers said of it that were asked.
#[derive(Clone, Debug)]
pub struct Exhibit {
    /// Which way it travels.
    pub stage: Stage,
    /// Who is behind it.
    pub origin: Origin,
    /// The text.
    pub text: String,
    /// The classifiers' scores of it.
    heard: Heard,
    /// The part that had not been seen before.
    fresh: Range<usize>,
    /// Texts of one lane of a stream belong together.
    lane: Option<u32>,
}

impl Exhibit {
    /// A whole text.
    pub fn whole(stage: Stage, origin: Origin, text: String) -> Self {
        Self { stage, origin, fresh: 0..text.len(), text, heard: Heard::default(), lane: None }
    }
}

/// What was seen of one stage of one request.
#[derive(Debug, Default)]
pub struct Evidence {
    /// In the order in which it was judged.
    pub exhibits: Vec<Exhibit>,
    /// There was no room for all of it.
    pub incomplete: bool,
    bytes: usize,
    /// Its part of the memory that all evidence shares.
    permit: Option<OwnedSemaphorePermit>,
}

/// Keeps what guards see, in bounded memory.
#[derive(Debug)]
pub struct Witness {
    /// Bytes that are left.
    memory: Arc<Semaphore>,
    seen: Mutex<Evidence>,
}

impl Witness {
    /// A witness of one request; `memory` is shared by all, a permit a byte.
    pub fn new(memory: Arc<Semaphore>) -> Self {
        Self { memory, seen: Mutex::default() }
    }

    /// What was seen since the last time.
    pub fn take(&self) -> Evidence {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn saw(&self, subject: &Subject<'_>, heard: Heard) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.incomplete {
            return;
        }
        let bytes = subject.text.len() + EXHIBIT;
        let room = u32::try_from(bytes).ok().filter(|_| seen.bytes + bytes <= MOST);
        let Some(permit) = room.and_then(|bytes| Arc::clone(&self.memory).try_acquire_many_owned(bytes).ok()) else {
            *seen = Evidence { incomplete: true, ..Evidence::default() };
            return;
        };
        match &mut seen.permit {
            Some(held) => held.merge(permit),
            none => *none = Some(permit),
        }
        seen.bytes += bytes;
        seen.exhibits.push(Exhibit {
            stage: subject.stage,
            origin: subject.origin,
            text: subject.text.to_owned(),
            heard,
            fresh: subject.fresh.clone(),
            lane: (subject.place == judge::STREAM).then_some(subject.choice),
        });
    }
}

impl Evidence {
    /// Keeps what a classifier said of a text with those of its pieces of which it had said nothing.
    fn hear(&mut self, text: &Joined, at: usize, scores: &Arc<Scores>) {
        let same = |exhibit: &&mut Exhibit| {
            (exhibit.stage, exhibit.origin, exhibit.lane) == (text.stage, text.origin, text.lane)
                && exhibit.heard.of(at).is_none()
                && (exhibit.lane.is_some() || exhibit.text == text.text)
        };
        self.exhibits.iter_mut().filter(same).for_each(|exhibit| exhibit.heard.keep(at, Arc::clone(scores)));
    }
}

/// What a policy decides on some evidence.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Opinion {
    /// `allow`, `audit`, `redact`, `revise` or `block`: the heaviest action of the rules that are enforced.
    pub action: String,
    /// The rules that were hit.
    pub hits: Vec<Hit>,
    /// What it would replace: index of a text, and where in it.
    #[serde(skip)]
    redactions: Vec<(usize, Range<usize>)>,
}

/// A rule that was hit. Holds no text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// The rule's id.
    pub rule: String,
    /// `head.label` of a classifier, or the entity of a recogniser.
    pub label: String,
    /// The rule's action.
    pub action: String,
    /// It is counted only: the rule is in shadow mode, or the score is a warning's.
    #[serde(default)]
    pub quiet: bool,
    /// The score, for classifiers.
    pub score: Option<f32>,
    /// The level that it reached.
    pub threshold: Option<f32>,
}

impl Opinion {
    /// The two decisions as words of a fixed set, and whether they differ. Where both replace something, and not the
    /// same, the second word is `redact_other`.
    pub fn beside(&self, new: &Self) -> (&'static str, &'static str, bool) {
        let (old_word, new_word) = (word(&self.action), word(&new.action));
        if old_word == "redact" && new_word == "redact" && self.redactions != new.redactions {
            return (old_word, "redact_other", true);
        }
        (old_word, new_word, old_word != new_word)
    }
}

/// Every decision that there is, the mildest first.
pub const DECISIONS: [&str; 5] = ["allow", "audit", "redact", "revise", "block"];

fn word(action: &str) -> &'static str {
    DECISIONS.into_iter().find(|known| *known == action).unwrap_or("allow")
}

/// Texts that belong together, and what is to be scored in one.
struct Joined {
    stage: Stage,
    origin: Origin,
    lane: Option<u32>,
    text: String,
    /// What was heard of each of its pieces.
    heard: Vec<Heard>,
}

impl Guards {
    /// The same guards, seen by a witness.
    #[must_use]
    pub fn watched(&self, witness: Arc<Witness>) -> Self {
        let mut watched = self.clone();
        watched.witness = Some(witness);
        watched
    }

    /// Lets the classifiers that the rules of either policy ask score the exhibits that they have not scored. A text that
    /// would have to wait longer than `patience` is an error.
    pub async fn complete(
        &self,
        evidence: &mut Evidence,
        occasions: [&Occasion; 2],
        patience: Duration,
    ) -> Result<(), ScoreError> {
        for text in joined(&evidence.exhibits) {
            let mut unasked: Vec<Asked<'_>> = Vec::new();
            for asked in occasions.iter().flat_map(|o| o.classifiers(text.stage, text.origin, text.text.len())) {
                let known = text.heard.iter().all(|heard| heard.of(asked.at).is_some());
                if !known && unasked.iter().all(|other| other.at != asked.at) {
                    unasked.push(asked);
                }
            }
            for asked in unasked {
                let scores = scores_within(asked.classifier, &text.text, text.origin, patience).await?;
                evidence.hear(&text, asked.at, &Arc::new(scores));
            }
        }
        Ok(())
    }

    /// What a policy decides on evidence whose texts have their scores. Asks no classifier.
    pub fn opinion(&self, occasion: &Occasion, evidence: &Evidence) -> Opinion {
        let policy = &occasion.view().policy;
        let mut opinion = Opinion::default();
        let mut heaviest: Option<Action> = None;
        for (index, text) in joined(&evidence.exhibits).iter().enumerate() {
            let subject = Subject {
                before: "",
                stage: text.stage,
                origin: text.origin,
                text: &text.text,
                fresh: 0..text.text.len(),
                joints: None,
                place: "",
                choice: 0,
                length: text.text.len(),
                since: Instant::now(),
            };
            let mut judgement = Judgement::default();
            if !text.text.trim().is_empty() {
                self.decide(occasion, &subject, &text.heard, &mut judgement);
            }
            opinion.redactions.extend(judgement.redactions.into_iter().map(|(range, _)| (index, range)));
            for finding in judgement.findings {
                let Some(rule) = policy.rules.get(finding.rule) else { continue };
                heaviest = heaviest.max(judge::enforced(policy, &finding));
                let hit = Hit {
                    rule: rule.id.clone(),
                    label: finding.label,
                    action: rule.action.as_str().to_owned(),
                    quiet: finding.warning || rule.mode == Mode::Shadow,
                    score: finding.score,
                    threshold: finding.threshold,
                };
                if !opinion.hits.contains(&hit) {
                    opinion.hits.push(hit);
                }
            }
        }
        heaviest.map_or("allow", Action::as_str).clone_into(&mut opinion.action);
        opinion
    }
}

/// The pieces of each lane of a stream in one text; any other text for itself.
fn joined(exhibits: &[Exhibit]) -> Vec<Joined> {
    let mut texts: Vec<Joined> = Vec::new();
    for exhibit in exhibits {
        let key = (exhibit.stage, exhibit.origin, exhibit.lane);
        let begun = texts.iter_mut().rev().find(|text| (text.stage, text.origin, text.lane) == key);
        let fresh = &exhibit.text[exhibit.fresh.clone()];
        // A tool call's arguments are judged whole, so that each begins a text of its own.
        let goes_on = exhibit.lane.is_some() && exhibit.origin != Origin::ToolArgs;
        match begun.filter(|_| goes_on) {
            Some(text) => {
                text.text.push_str(fresh);
                text.heard.push(exhibit.heard.clone());
            }
            None => texts.push(Joined {
                stage: exhibit.stage,
                origin: exhibit.origin,
                lane: exhibit.lane,
                text: fresh.to_owned(),
                heard: vec![exhibit.heard.clone()],
            }),
        }
    }
    texts
}

/// A case in which two policies differ, as one line of JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// When, in milliseconds since 1970.
    pub unix_ms: u64,
    /// The request's id.
    pub request_id: String,
    /// Its route.
    pub route: String,
    /// `input` or `output`.
    pub stage: String,
    /// The policy that may be replaced.
    pub old: Side,
    /// The policy that is tried.
    pub new: Side,
    /// What both judged.
    pub texts: Vec<CaseText>,
}

/// One policy's part in a case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Its name.
    pub policy: String,
    /// Its revision.
    pub revision: String,
    /// What it decides.
    #[serde(flatten)]
    pub opinion: Opinion,
}

/// A text of a case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseText {
    /// Who is behind it.
    pub origin: String,
    /// The first 16 hex digits of its BLAKE3 hash.
    pub blake3: String,
    /// Its length.
    pub bytes: usize,
    /// The largest score of each label.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scores: BTreeMap<String, f32>,
    /// The text, where that may be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl Evidence {
    /// The evidence of whole texts.
    pub fn of(exhibits: Vec<Exhibit>) -> Self {
        Self { exhibits, ..Self::default() }
    }

    /// What a case keeps of it. `view` has the classifiers that were heard, `kept` gives what may stay of a text.
    pub fn texts(&self, view: &View, kept: &dyn Fn(&str) -> Option<String>) -> Vec<CaseText> {
        let text = |text: Joined| CaseText {
            origin: text.origin.as_str().to_owned(),
            blake3: digest(&text.text),
            bytes: text.text.len(),
            scores: named(view, &text.heard),
            text: kept(&text.text),
        };
        joined(&self.exhibits).into_iter().map(text).collect()
    }
}

fn named(view: &View, heard: &[Heard]) -> BTreeMap<String, f32> {
    let mut best = BTreeMap::new();
    for (at, index, label) in view.armed.labels() {
        let scores = heard.iter().filter_map(|heard| heard.of(at)?.values.get(index).copied());
        if let Some(score) = scores.reduce(f32::max) {
            best.insert(label.to_string(), score);
        }
    }
    best
}

fn digest(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}
