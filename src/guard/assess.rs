//! Scores for whoever asks for them: of a policy only the thresholds count.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::armed::View;
use super::judge::{Failure, Guards};
use super::score::{ABREAST, reason};
use crate::api::Assessment;
use crate::classify::{Classifier, Label, ScoreError};
use crate::policy::Guard;

/// The calibrated threshold that says what is flagged where the policy has none: half a percent of benign texts are.
const LEVEL: &str = "fpr_0.5";

impl Guards {
    /// The score that a rule's classifier gives a text under one of its labels, `head.name`, for records; nothing where
    /// it cannot say.
    pub async fn score(view: &View, rule: usize, label: &str, text: &str) -> Option<f32> {
        let classifier = view.armed.asked(rule)?.classifier;
        let index = classifier.labels().iter().position(|known| known.to_string() == label)?;
        let scores = classifier.score(Arc::from(text)).await.ok()?;
        scores.values.get(index).copied()
    }

    /// Every label of the first classifier over every text; none without a classifier. Fails when one text cannot be
    /// scored.
    pub async fn assess(view: &View, texts: Vec<String>) -> Result<Option<Vec<Vec<Assessment>>>, Failure> {
        let Some(classifier) = view.armed.classifiers().first() else { return Ok(None) };
        let levels: Arc<[Option<f32>]> =
            classifier.labels().iter().enumerate().map(|(at, label)| threshold(view, at, label)).collect();
        let assessed: Vec<_> = texts.into_iter().map(|text| assess(classifier, Arc::clone(&levels), text)).collect();
        let assessed: Result<Vec<_>, ScoreError> = stream::iter(assessed).buffered(ABREAST).try_collect().await;
        assessed.map(Some).map_err(|error| {
            let (reason, passing) = reason(&error);
            Failure { rule: "moderations".to_owned(), reason, passing }
        })
    }
}

async fn assess(
    classifier: &Classifier,
    levels: Arc<[Option<f32>]>,
    text: String,
) -> Result<Vec<Assessment>, ScoreError> {
    let labels = classifier.labels();
    // Nothing said is nothing wrong; a model has no score for it.
    let values =
        if text.trim().is_empty() { vec![0.0; labels.len()] } else { classifier.score(Arc::from(text)).await?.values };
    let assessed = labels.iter().zip(levels.iter()).zip(values).map(|((label, level), score)| Assessment {
        label: label.name.clone(),
        score,
        flagged: level.is_some_and(|level| score >= level),
    });
    Ok(assessed.collect())
}

/// The lowest threshold that the policy has for a label, else the shipped one; of a model that is calibrated otherwise, the
/// first by name.
fn threshold(view: &View, at: usize, label: &Label) -> Option<f32> {
    let bounds = view
        .policy
        .rules
        .iter()
        .flat_map(|rule| if let Guard::Classifier { labels } = &rule.guard { labels.as_slice() } else { &[] });
    let own = bounds.filter(|bound| bound.label == at).map(|bound| bound.threshold).min_by(f32::total_cmp);
    own.or_else(|| label.thresholds.get(LEVEL).or_else(|| label.thresholds.values().next()).copied())
}
