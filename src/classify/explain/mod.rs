//! Which words pushed a score: LIME for text (Ribeiro, Singh and Guestrin 2016, arXiv 1602.04938).
//!
//! A [`Neighbourhood`] is the text and many copies of it, each without some of its words. Whoever holds a scorer scores
//! [`Neighbourhood::texts`]; then [`Neighbourhood::explain`] fits a line through the scores of one label, in which each
//! word has a weight, and copies count the less the more they have lost. Sampling, kernel, selection of words and fit
//! are those of the Python package `lime` 0.2 with its default settings, so that its readers read this.
//!
//! Pure: nothing here scores, and the same text, settings and scores give the same explanation.

mod fit;
mod words;

use std::collections::HashMap;
use std::ops::Range;

use fit::Surface;
use words::Words;

/// A text and copies of it without some of its words.
#[derive(Clone, Debug)]
pub struct Neighbourhood {
    words: Words,
    /// Which words each sample kept. The first kept all.
    kept: Vec<Vec<bool>>,
    /// For each sample, the index of its text.
    text_of: Vec<usize>,
    texts: Vec<String>,
    surface: Surface,
}

/// How a neighbourhood is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Copies, the text itself included. At least 2; more words want more.
    pub samples: usize,
    /// Of the random numbers.
    pub seed: u64,
}

/// Why a text cannot be explained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// White space and signs only.
    #[error("the text has no word that could be left out")]
    NoWords,
    /// The fit would take too long, and too many samples to mean anything.
    #[error("the text has {words} different words; at most {most} can be explained")]
    TooManyWords {
        /// Different words of the text.
        words: usize,
        /// The most that are taken.
        most: usize,
    },
    /// Too few samples.
    #[error("{0} samples: expected at least 2")]
    TooFewSamples(usize),
}

/// A line through the scores of one label.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Where the line starts: the score of a text without any of [`Self::words`].
    pub intercept: f64,
    /// How much of the scores' variance the line explains, weighted by nearness: R², at most 1.
    pub fit: f64,
    /// What the line says of the text as it is.
    pub local: f64,
    /// The words that matter most, by descending magnitude of their weights.
    pub words: Vec<Weighed>,
}

/// A word and what its presence adds to the score.
#[derive(Clone, Debug, PartialEq)]
pub struct Weighed {
    /// The word.
    pub word: String,
    /// Added to the score where the word is present: positive pushes up, negative pulls down.
    pub weight: f64,
    /// Where it stands, in bytes of the text: every place.
    pub places: Vec<Range<usize>>,
}

/// Different words that are explained at most: the fit's memory is 8 bytes times the square of it.
const MOST_WORDS: usize = 4000;

impl Neighbourhood {
    /// Draws copies of a text: each loses a number of different words drawn evenly from 1 to all, and every occurrence
    /// of each.
    pub fn around(text: &str, settings: Settings) -> Result<Self, ExplainError> {
        let words = Words::of(text);
        match words.count() {
            0 => return Err(ExplainError::NoWords),
            count if count > MOST_WORDS => return Err(ExplainError::TooManyWords { words: count, most: MOST_WORDS }),
            _ if settings.samples < 2 => return Err(ExplainError::TooFewSamples(settings.samples)),
            _ => {}
        }
        let kept = drawn(words.count(), settings);
        let mut index = HashMap::new();
        let mut texts = Vec::new();
        let mut text_of = Vec::with_capacity(kept.len());
        for kept in &kept {
            let at = *index.entry(kept.clone()).or_insert(texts.len());
            if at == texts.len() {
                texts.push(words.keeping(kept));
            }
            text_of.push(at);
        }
        let surface = Surface::new(&kept);
        Ok(Self { words, kept, text_of, texts, surface })
    }

    /// The different texts to score. The first is the text itself; the last may well be empty of words.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Different words of the text.
    pub fn words(&self) -> usize {
        self.words.count()
    }

    /// Fits a line through one label's `scores`, one for each of [`Self::texts`], over the `most` words that matter most.
    ///
    /// Up to 6 words are chosen one by one, each the one that explains most beside those before; more are chosen by their
    /// weights in a fit over all words.
    pub fn explain(&self, scores: &[f64], most: usize) -> Explanation {
        let targets: Vec<f64> = self.text_of.iter().map(|at| scores.get(*at).copied().unwrap_or(0.0)).collect();
        let line = self.surface.fit(&self.kept, &targets, most);
        let words = line.weights.iter().map(|(word, weight)| Weighed {
            word: self.words.word(*word).to_owned(),
            weight: *weight,
            places: self.words.places(*word),
        });
        Explanation { intercept: line.intercept, fit: line.fit, local: line.local, words: words.collect() }
    }
}

fn drawn(words: usize, settings: Settings) -> Vec<Vec<bool>> {
    let mut random = fastrand::Rng::with_seed(settings.seed);
    let mut order: Vec<usize> = (0..words).collect();
    let mut kept = vec![vec![true; words]];
    for _ in 1..settings.samples {
        let lost = random.usize(1..=words);
        let mut row = vec![true; words];
        // The first `lost` places of a shuffle, without shuffling the rest.
        for at in 0..lost {
            order.swap(at, random.usize(at..words));
            row[order[at]] = false;
        }
        kept.push(row);
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: Settings = Settings { samples: 800, seed: 1 };

    /// Scores that are truly linear in the presence of words.
    fn linear(neighbourhood: &Neighbourhood, weights: &[(&str, f64)], start: f64) -> Vec<f64> {
        let score = |text: &String| {
            let has = |word: &str| text.split(|c: char| !c.is_alphanumeric()).any(|known| known == word);
            start + weights.iter().filter(|(word, _)| has(word)).map(|(_, weight)| weight).sum::<f64>()
        };
        neighbourhood.texts().iter().map(score).collect()
    }

    #[test]
    fn a_line_is_found_again() {
        let text = "one two three four five six seven eight nine ten eleven twelve";
        let neighbourhood = Neighbourhood::around(text, SETTINGS).unwrap();
        let scores = linear(&neighbourhood, &[("three", 0.4), ("seven", -0.2), ("ten", 0.1)], 0.3);
        for most in [3, 6, 10] {
            let found = neighbourhood.explain(&scores, most);
            assert_eq!(found.words.len(), most);
            let top: Vec<(&str, bool)> = found.words[..3].iter().map(|w| (w.word.as_str(), w.weight > 0.0)).collect();
            assert_eq!(top, [("three", true), ("seven", false), ("ten", true)]);
            assert!((found.words[0].weight - 0.4).abs() < 0.02 && found.fit > 0.99, "{found:?}");
            assert!((found.local - 0.6).abs() < 0.02 && (found.intercept - 0.3).abs() < 0.03, "{found:?}");
            assert!(found.words[3..].iter().all(|word| word.weight.abs() < 0.01), "{found:?}");
        }
    }

    #[test]
    fn a_score_that_never_moves_has_no_words_to_blame() {
        let neighbourhood = Neighbourhood::around("nothing to see here", SETTINGS).unwrap();
        let found = neighbourhood.explain(&vec![0.7; neighbourhood.texts().len()], 10);
        assert!(found.words.iter().all(|word| word.weight.abs() < 1e-9), "{found:?}");
        assert!((found.intercept - 0.7).abs() < 1e-9 && (found.local - 0.7).abs() < 1e-9);
    }

    #[test]
    fn every_place_of_a_word_is_lost_and_named_together() {
        let text = "No, no: say no.";
        let neighbourhood = Neighbourhood::around(text, SETTINGS).unwrap();
        assert_eq!(neighbourhood.words(), 3, "case makes another word");
        let mut texts = neighbourhood.texts().to_vec();
        assert_eq!(texts[0], text);
        texts.sort_unstable();
        assert_eq!(texts.len(), 8, "all there are, each once: {texts:?}");
        assert!(texts.contains(&"No, : say .".to_owned()) && texts.contains(&", :  .".to_owned()), "{texts:?}");
        let found = neighbourhood.explain(&linear(&neighbourhood, &[("no", 0.5)], 0.2), 1);
        assert_eq!((found.words[0].word.as_str(), &found.words[0].places[..]), ("no", &[4..6, 12..14][..]));
    }

    #[test]
    fn what_cannot_be_explained_is_refused() {
        assert_eq!(Neighbourhood::around(" ... ", SETTINGS).unwrap_err(), ExplainError::NoWords);
        let few = Settings { samples: 1, ..SETTINGS };
        assert_eq!(Neighbourhood::around("word", few).unwrap_err(), ExplainError::TooFewSamples(1));
        let many = (0..=MOST_WORDS).map(|at| format!("w{at}")).collect::<Vec<_>>().join(" ");
        assert!(matches!(Neighbourhood::around(&many, SETTINGS), Err(ExplainError::TooManyWords { .. })));
        let one = Neighbourhood::around("word", SETTINGS).unwrap();
        assert_eq!(one.texts(), ["word", ""]);
        // Only the text itself has the word, so that the penalty of 1 takes most of its weight, as it does in lime.
        let weight = one.explain(&[0.9, 0.1], 10).words[0].weight;
        assert!(weight > 0.05 && weight < 0.8, "{weight}");
    }

    proptest! {
        #[test]
        fn the_seed_decides(text in "[a-z]{1,4}( [a-z]{1,4}){0,12}", seed in any::<u64>()) {
            let settings = Settings { samples: 60, seed };
            let (a, b) = (Neighbourhood::around(&text, settings).unwrap(), Neighbourhood::around(&text, settings).unwrap());
            prop_assert_eq!(a.texts(), b.texts());
            let scores: Vec<f64> = a.texts().iter().map(|text| f64::from(u32::try_from(text.len()).unwrap()) / 80.0).collect();
            prop_assert_eq!(a.explain(&scores, 4), b.explain(&scores, 4));
        }

        #[test]
        fn samples_lose_at_least_a_word_and_numbers_of_lost_words_are_even(words in 1_usize..30) {
            let kept = drawn(words, Settings { samples: 400, seed: 3 });
            prop_assert_eq!(kept.len(), 400);
            prop_assert!(kept[0].iter().all(|kept| *kept) && kept[1..].iter().all(|row| row.contains(&false)));
            let lost: usize = kept[1..].iter().map(|row| row.iter().filter(|kept| !**kept).count()).sum();
            let expected = 399 * (words + 1) / 2;
            prop_assert!(lost.abs_diff(expected) < expected / 5 + 5, "{} {}", lost, expected);
        }
    }
}
