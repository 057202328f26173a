//! Scores for whoever asks for them, apart from any policy.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::judge::{ABREAST, Failure, Guards, reason};
use crate::api::Assessment;
use crate::classify::{Classifier, Label, ScoreError};

/// The calibrated threshold that says what is flagged: half a percent of benign texts are.
const LEVEL: &str = "fpr_0.5";

impl Guards {
    /// Every label over every text; none without a classifier. Fails when one text cannot be scored.
    pub async fn assess(&self, texts: Vec<String>) -> Result<Option<Vec<Vec<Assessment>>>, Failure> {
        let Some(classifier) = self.classifier() else { return Ok(None) };
        let assessed: Vec<_> = texts.into_iter().map(|text| assess(classifier, text)).collect();
        let assessed: Result<Vec<_>, ScoreError> = stream::iter(assessed).buffered(ABREAST).try_collect().await;
        assessed.map(Some).map_err(|error| {
            let (reason, passing) = reason(&error);
            Failure { rule: "moderations".to_owned(), reason, passing }
        })
    }
}

async fn assess(classifier: &Classifier, text: String) -> Result<Vec<Assessment>, ScoreError> {
    let labels = classifier.labels();
    // Nothing said is nothing wrong; a model has no score for it.
    let values =
        if text.trim().is_empty() { vec![0.0; labels.len()] } else { classifier.score(Arc::from(text)).await?.values };
    let assessed = labels.iter().zip(values).map(|(label, score)| Assessment {
        label: label.name.clone(),
        score,
        flagged: threshold(label).is_some_and(|threshold| score >= threshold),
    });
    Ok(assessed.collect())
}

/// The shipped threshold; of a model that is calibrated otherwise, the first by name.
fn threshold(label: &Label) -> Option<f32> {
    label.thresholds.get(LEVEL).or_else(|| label.thresholds.values().next()).copied()
}
