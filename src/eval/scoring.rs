//! Many texts through the guards, as fast as the workers go.

use std::borrow::Cow;

use futures_util::stream::{self, Stream, StreamExt};

use crate::api::Origin;
use crate::classify::{Classifier, ScoreError, Scores};
use crate::guard::{self, ABREAST};

/// What became of one text.
pub type Scored = Result<Scores, ScoreError>;

/// Scores texts in their order. So many are under way that no worker waits, and never more than the classifier, which
/// takes `places` texts at a time, has room for: nobody is turned away.
pub fn score<'a>(
    classifier: &'a Classifier,
    texts: impl Iterator<Item = (Cow<'a, str>, Origin)> + 'a,
    places: usize,
) -> impl Stream<Item = Scored> + 'a {
    let abreast = (places / ABREAST).max(1);
    // Not `async move` over the classifier alone: each text lives until its scores are there.
    let scored = texts.map(move |(text, origin)| async move { guard::scores(classifier, &text, origin).await });
    stream::iter(scored).buffered(abreast)
}
