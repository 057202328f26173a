//! What classifiers say of one text: which views of it they are shown, and which level their scores reach.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::cascade::{Cascade, Way};
use super::normalise::{Normalised, normalise, parts};
use super::passage::passages;
use crate::api::Origin;
use crate::classify::{Classifier, ScoreError, Scores};
use crate::policy::Bound;

/// Texts of one request that wait for the scheduler at one time, so that one long conversation leaves room for others;
/// so also the most that one call of [`scores`] puts before it.
pub const ABREAST: usize = 8;

/// A text with tricks undone, for a classifier.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) text: String,
    /// Where what is fresh begins.
    pub(super) from: usize,
}

/// What a classifier should see of a text with tricks undone, of which what comes from `fresh` on is new.
pub(super) fn suspicious(normalised: Normalised, fresh: usize) -> Option<Reading> {
    let from = normalised.position(fresh);
    normalised.is_suspicious().then(|| Reading { text: normalised.into_text(), from })
}

/// What a rule with a classifier sees of a whole text that has this origin: the largest score of each label, in the order
/// of [`Classifier::labels`].
pub async fn scores(classifier: &Classifier, text: &str, origin: Origin) -> Result<Scores, ScoreError> {
    scores_within(classifier, text, origin, Duration::MAX).await
}

/// The same for a caller who will not wait longer than `patience`.
pub(super) async fn scores_within(
    classifier: &Classifier,
    text: &str,
    origin: Origin,
    patience: Duration,
) -> Result<Scores, ScoreError> {
    let readings: Vec<Reading> = parts(text).filter_map(|part| suspicious(normalise(&text[part])?, 0)).collect();
    // As if each head were asked for itself: what the first stage clears counts as 0.
    let cleared = if readings.is_empty() { classifier.cleared(text) } else { Vec::new() };
    let mut scores = if !cleared.is_empty() && cleared.iter().all(|cleared| *cleared) {
        Scores { values: vec![0.0; cleared.len()], ..Scores::default() }
    } else {
        score(classifier, ("", (text, 0)), origin, &readings, patience, None).await?
    };
    scores.values.iter_mut().zip(cleared).filter(|(_, cleared)| *cleared).for_each(|(score, _)| *score = 0.0);
    Ok(scores)
}

/// The largest score of each label: over the text as a whole, as it is and with tricks undone, and, for answers, over
/// each sentence of both that ends after what is fresh begins. Where something goes `before` the text, the whole is also
/// seen with that in front. A text that would wait longer than `patience` is turned
/// away. What the first stage of a cascade clears is not scored.
pub(super) async fn score(
    classifier: &Classifier,
    (before, whole): (&str, (&str, usize)),
    origin: Origin,
    readings: &[Reading],
    patience: Duration,
    cascade: Option<&Cascade<'_>>,
) -> Result<Scores, ScoreError> {
    let undone = readings.iter().map(|reading| (reading.text.as_str(), reading.from));
    let led: Vec<String> = match before {
        "" => Vec::new(),
        before => std::iter::once(whole).chain(undone.clone()).map(|(text, _)| format!("{before}\n{text}")).collect(),
    };
    let mut views: Vec<&str> = led.iter().map(String::as_str).collect();
    for (text, from) in std::iter::once(whole).chain(undone) {
        views.push(text);
        if matches!(origin, Origin::Output | Origin::Reasoning) {
            let passages = passages(text, from).into_iter().map(|passage| &text[passage]);
            views.extend(passages.filter(|passage| passage.len() < text.len() && !passage.trim().is_empty()));
        }
    }
    let ways = views.into_iter().map(|view| (view, cascade.map_or(Way::Full, |cascade| cascade.way(view))));
    let scored = ways.filter(|(_, way)| *way != Way::Cleared).map(async |(view, way)| {
        let scores = classifier.score_within(Arc::from(view), patience).await?;
        if let Some(cascade) = cascade.filter(|_| way == Way::Audited) {
            cascade.audited(&scores);
        }
        Ok(scores)
    });
    let scored: Vec<_> = scored.collect();
    let nothing = Scores { values: vec![0.0; classifier.labels().len()], ..Scores::default() };
    stream::iter(scored).buffered(ABREAST).try_fold(nothing, |best, scores| future::ok(larger(best, scores))).await
}

/// Label by label the larger one.
fn larger(best: Scores, mut scores: Scores) -> Scores {
    for (score, other) in scores.values.iter_mut().zip(best.values) {
        *score = score.max(other);
    }
    Scores { values: scores.values, windows: best.windows + scores.windows, tokens: best.tokens + scores.tokens }
}

/// A fixed word for what went wrong, and whether trying again later may help.
pub(super) fn reason(error: &ScoreError) -> (&'static str, bool) {
    match error {
        ScoreError::Overloaded => ("overload", true),
        ScoreError::TooLong { .. } => ("too_long", false),
        ScoreError::NotFinite => ("not_finite", true),
        ScoreError::WorkerLost => ("worker_lost", true),
        ScoreError::Failed(_) => ("error", true),
    }
}

/// A bound that a score has reached.
pub(super) struct Hit<'a> {
    pub(super) bound: &'a Bound,
    pub(super) score: f32,
    /// The level that it reached.
    pub(super) reached: f32,
    pub(super) warning: bool,
}

/// The label that is furthest over its threshold, if any reached it, else the one that is furthest into its warning. A
/// tie with a level reaches it. The scores are those of the labels from number `first` on.
pub(super) fn worst<'a>(bounds: &'a [Bound], first: usize, scores: &Scores) -> Option<Hit<'a>> {
    let level = |warning: bool| {
        bounds
            .iter()
            .filter_map(|bound| scores.values.get(bound.label.checked_sub(first)?).map(|score| (bound, *score)))
            .filter_map(|(bound, score)| {
                let reached = if warning { bound.warn? } else { bound.threshold };
                (score >= reached).then_some(Hit { bound, score, reached, warning })
            })
            .max_by(|a, b| (a.score - a.reached).total_cmp(&(b.score - b.reached)))
    };
    level(false).or_else(|| level(true))
}

/// Whether a score has come half of the way to a level of its label. The scores are those of the labels from number
/// `first` on.
pub(super) fn near(bounds: &[Bound], first: usize, scores: &Scores) -> bool {
    let level = |bound: &Bound| bound.warn.map_or(bound.threshold, |warn| warn.min(bound.threshold));
    let score = |bound: &Bound| scores.values.get(bound.label.checked_sub(first)?);
    bounds.iter().any(|bound| score(bound).is_some_and(|score| *score * 2.0 >= level(bound)))
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
            worst(&bounds, 0, &scores).map(|hit| (hit.bound.label, hit.warning, hit.reached))
        };
        assert_eq!(of([0.1, 0.4, 0.2]), None);
        assert_eq!(of([0.3, 0.4, 0.2]), Some((0, true, 0.3)));
        assert_eq!(of([0.31, 0.4, 0.45]), Some((2, true, 0.25)));
        assert_eq!(of([0.89, 0.5, 0.2]), Some((1, false, 0.5)));
    }

    #[test]
    fn half_of_the_way_to_a_level_is_near() {
        let bounds = [
            Bound { label: 0, name: "a".to_owned(), threshold: 0.9, warn: Some(0.5) },
            Bound { label: 2, name: "c".to_owned(), threshold: 0.8, warn: None },
        ];
        let of = |values: [f32; 3]| near(&bounds, 0, &Scores { values: values.to_vec(), ..Scores::default() });
        assert!(!of([0.2, 0.99, 0.3]));
        assert!(of([0.25, 0.0, 0.0]) && of([0.0, 0.0, 0.4]));
    }
}
