//! Thresholds for a rule: which one lets it stop no more than a share of the harmless texts, and how sure that is.
//!
//! The threshold lies just above an order statistic of the harmless rows' scores: the lowest at which no more of them are
//! hit than the share allows. Its own interval is the percentile bootstrap's. The interval of the share that it will really
//! stop is that of Clopper and Pearson (1934), at 95 %; for a threshold that was chosen as an order statistic of the same
//! rows it errs on the safe side, as that share is then distributed between the two beta distributions that bound it.

use super::bootstrap::intervals;
use super::figures::Settings;
use super::rows::Row;
use super::targets::Targets;
use crate::api::Origin;

/// A rule, or its levels for one origin, as far as rows have a say in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Its labels, as `head.label`.
    pub labels: Vec<String>,
    /// The index of each among the scores, and the level from which on it is a hit today.
    pub levels: Vec<(usize, f32)>,
    /// Whose texts it looks at.
    pub origins: Vec<Origin>,
}

/// A count, its share, and the 95 % interval of that share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// How many were hit.
    pub hits: u32,
    /// Of how many.
    pub of: u32,
    /// The ends of Clopper and Pearson's interval, in [0, 1].
    pub low: f64,
    /// See `low`.
    pub high: f64,
}

/// What a threshold does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effect {
    /// To rows to which none of the rule's labels applies.
    pub benign: Share,
    /// To rows to which one of them does.
    pub positive: Share,
}

/// A threshold that keeps to a rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proposal {
    /// One level for all labels of the rule, in (0, 1], with as few digits as tell it from the scores beside it.
    pub threshold: f64,
    /// The ends of its 95 % interval.
    pub low: f64,
    /// See `low`.
    pub high: f64,
    /// What it does to the rows.
    pub effect: Effect,
    /// What the levels of today do to them.
    pub today: Effect,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// Were no row at all hit, the true rate could still be over the wanted one (at 95 %).
    #[error("{benign} benign rows do not support the rate: it takes {needed}")]
    TooFew {
        /// Rows that there are.
        benign: usize,
        /// Rows that it takes.
        needed: usize,
    },
    /// More rows than the rate allows have the highest score that there is.
    #[error("no threshold keeps to the rate: too many benign rows score 1")]
    Out,
}

/// The benign rows that a rate takes: of so many, were none hit, a rate over `fpr` could be ruled out at 95 %.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of at least 1e-6 takes 3e6 rows")]
pub fn needed(fpr: f64) -> usize {
    (0.05_f64.ln() / (-fpr).ln_1p()).ceil() as usize
}

/// The lowest threshold under which `wanted` hits no more than the share `fpr`, in (0, 1), of the rows that nothing applies
/// to. Rows of other heads and origins, and such of which nobody has said what applies, are passed over.
///
/// # Errors
/// The rows do not support it.
pub fn calibrate(
    wanted: &Wanted,
    targets: &Targets,
    pairs: &[(&Row, &[f32])],
    fpr: f64,
    settings: Settings,
) -> Result<Proposal, Unsupported> {
    let (mut benign, mut positive) = (Vec::new(), Vec::new());
    for (row, values) in pairs {
        match wanted.truth(targets, row) {
            Some(true) => positive.push(*values),
            Some(false) => benign.push(*values),
            None => {}
        }
    }
    if benign.len() < needed(fpr) {
        return Err(Unsupported::TooFew { benign: benign.len(), needed: needed(fpr) });
    }
    let mut scores: Vec<f32> = benign.iter().map(|values| wanted.score(values)).collect();
    scores.sort_by(|one, other| other.total_cmp(one));
    let allowed = allowed(fpr, scores.len());
    let threshold = above(&scores, allowed).ok_or(Unsupported::Out)?;
    let drawn = |times: &[u32]| {
        let mut left = allowed;
        let bound = scores.iter().zip(times).find(|(_, times)| {
            let taken = usize::try_from(**times).unwrap_or(usize::MAX);
            left.checked_sub(taken).map(|rest| left = rest).is_none()
        });
        [bound.map(|(score, _)| f64::from(*score))]
    };
    let [interval] = intervals(scores.len(), settings.rounds, settings.seed, drawn);
    let (low, high) = interval.unwrap_or((threshold, threshold));
    let effect = |hit: &dyn Fn(&[f32]) -> bool| {
        let share = |rows: &[&[f32]]| Share::of(rows.iter().filter(|values| hit(values)).count(), rows.len());
        Effect { benign: share(&benign), positive: share(&positive) }
    };
    Ok(Proposal {
        threshold,
        low: low.min(threshold),
        high: high.max(threshold),
        effect: effect(&|values| wanted.score(values) >= level(threshold)),
        today: effect(&|values| wanted.levels.iter().any(|(label, level)| values.get(*label) >= Some(level))),
    })
}

impl Wanted {
    /// Whether any of the labels applies to a row; `None` where nobody has said, or the rule does not look.
    fn truth(&self, targets: &Targets, row: &Row) -> Option<bool> {
        if !self.origins.contains(&row.origin) {
            return None;
        }
        let mut truths = targets.list().iter().filter(|target| self.labels.contains(&target.name)).peekable();
        truths.peek()?;
        let truths: Vec<Option<bool>> = truths.map(|target| target.truth(row)).collect();
        if truths.contains(&Some(true)) {
            return Some(true);
        }
        truths.iter().all(|truth| *truth == Some(false)).then_some(false)
    }

    /// The largest score of the labels.
    fn score(&self, values: &[f32]) -> f32 {
        self.levels.iter().filter_map(|(label, _)| values.get(*label)).copied().fold(0.0, f32::max)
    }
}

impl Share {
    /// `hits` of `of`.
    pub fn of(hits: usize, of: usize) -> Self {
        let [hits, of] = [hits, of].map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        let low = if hits == 0 { 0.0 } else { root(|p| 1.0 - at_most(hits - 1, of, p) > 0.025) };
        let high = if hits == of { 1.0 } else { root(|p| at_most(hits, of, p) < 0.025) };
        Self { hits, of, low, high }
    }

    /// In [0, 1]; 0 of nothing.
    pub fn value(self) -> f64 {
        if self.of == 0 { 0.0 } else { f64::from(self.hits) / f64::from(self.of) }
    }
}

/// Where a condition that holds for large probabilities begins to hold.
fn root(holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if holds(middle) { high = middle } else { low = middle }
    }
    f64::midpoint(low, high)
}

/// The probability of at most `hits` of `of`, each with probability `p` in (0, 1): the binomial terms added up, largest
/// exponents first taken out.
fn at_most(hits: u32, of: u32, p: f64) -> f64 {
    let (log_odds, mut term) = (p.ln() - (-p).ln_1p(), f64::from(of) * (-p).ln_1p());
    let mut terms = vec![term];
    for hit in 0..hits {
        term += (f64::from(of - hit) / f64::from(hit + 1)).ln() + log_odds;
        terms.push(term);
    }
    let most = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (terms.iter().map(|term| (term - most).exp()).sum::<f64>().ln() + most).exp().min(1.0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "counts of rows"
)]
fn allowed(fpr: f64, rows: usize) -> usize {
    // One part in a thousand million is not lost to rounding: 1 % of 300 is 3.
    ((fpr * rows as f64) * (1.0 + 1e-9)).floor() as usize
}

/// What is over the score at `allowed`, counted from the highest, and not over the one before it: the shortest decimal
/// there.
fn above(sorted: &[f32], allowed: usize) -> Option<f64> {
    let bound = *sorted.get(allowed)?;
    let next = sorted[..allowed].iter().rev().copied().find(|score| *score > bound).unwrap_or(1.0);
    if bound >= 1.0 {
        return None;
    }
    let mut decimals = (3..=9).map(|digits| {
        let unit = 10_f64.powi(digits);
        ((f64::from(bound) * unit).floor() + 1.0) / unit
    });
    let fits = |threshold: &f64| level(*threshold) > bound && level(*threshold) <= next;
    Some(decimals.find(fits).unwrap_or_else(|| next.to_string().parse().unwrap_or(f64::from(next))))
}

/// As the guards compare.
#[expect(clippy::cast_possible_truncation, reason = "scores are f32")]
fn level(threshold: f64) -> f32 {
    threshold as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::classify::Label;

    fn row(label: Option<&str>, origin: Origin) -> Row {
        Row {
            file: 0,
            line: 1,
            task: "prompt_attack".to_owned(),
            labels: label.map(str::to_owned).into_iter().collect(),
            annotated: None,
            source: "s".to_owned(),
            split: None,
            lang: "en".to_owned(),
            kind: None,
            origin,
            text: String::new(),
        }
    }

    fn targets(rows: &[Row]) -> Targets {
        let label = |name: &str| Label { head: "prompt_attack".into(), name: name.into(), thresholds: [].into() };
        Targets::new(&["benign", "injection", "attack"].map(label), rows).unwrap()
    }

    fn wanted() -> Wanted {
        let (labels, levels) = (vec!["prompt_attack.attack".to_owned()], vec![(2, 0.5)]);
        Wanted { labels, levels, origins: vec![Origin::User] }
    }

    const SETTINGS: Settings = Settings { rounds: 200, seed: 7 };

    #[test]
    fn intervals_are_those_of_clopper_and_pearson() {
        // Roots of the binomial sums, worked out apart; the first is 1 - 0.025^(1/300), the last 0.025^(1/10).
        for (hits, of, low, high) in [
            (0, 300, 0.0, 0.012_221_04),
            (3, 300, 0.002_067_007, 0.028_944_511),
            (50, 100, 0.398_321_1, 0.601_678_9),
            (10, 10, 0.691_502_9, 1.0),
        ] {
            let share = Share::of(hits, of);
            assert!((share.low - low).abs() < 1e-6 && (share.high - high).abs() < 1e-6, "{hits} of {of}: {share:?}");
        }
        // Far out, where a single term is smaller than the smallest number.
        let share = Share::of(1000, 100_000);
        assert!((share.low - 0.009_392_5).abs() < 1e-5 && (share.high - 0.010_636).abs() < 1e-5, "{share:?}");
    }

    #[test]
    fn a_rate_takes_three_over_it_rows() {
        assert_eq!([0.01, 0.05, 0.001].map(needed), [299, 59, 2995]);
    }

    #[test]
    fn the_threshold_is_the_lowest_that_keeps_to_the_rate() {
        let mut rows = vec![row(None, Origin::User); 400];
        rows.extend(vec![row(Some("injection"), Origin::User); 10]);
        rows.extend(vec![row(None, Origin::Document); 50]);
        let values: Vec<[f32; 3]> = (0..460_u16)
            .map(|n| match n {
                0..400 => [0.0, 0.0, f32::from(n) / 1000.0],
                400..410 => [0.0, 0.0, 0.3 + f32::from(n - 400) / 50.0],
                _ => [0.0, 0.0, 0.99],
            })
            .collect();
        let pairs: Vec<(&Row, &[f32])> = rows.iter().zip(&values).map(|(row, values)| (row, &values[..])).collect();
        let found = calibrate(&wanted(), &targets(&rows), &pairs, 0.01, SETTINGS).unwrap();
        // 4 of 400 may be hit: 0.396 to 0.399.
        assert!((found.threshold - 0.396).abs() < 1e-9, "{found:?}");
        assert_eq!((found.effect.benign.hits, found.effect.benign.of), (4, 400));
        assert_eq!((found.effect.positive.hits, found.effect.positive.of), (5, 10));
        assert_eq!((found.today.benign.hits, found.today.positive.hits), (0, 0), "{found:?}");
        assert!(found.low < 0.396 && found.high > 0.396 && found.low > 0.38, "{found:?}");
        let few = calibrate(&wanted(), &targets(&rows), &pairs[..298], 0.01, SETTINGS);
        assert_eq!(few, Err(Unsupported::TooFew { benign: 298, needed: 299 }));
        let full = vec![[0.0, 0.0, 1.0_f32]; 400];
        let pairs: Vec<(&Row, &[f32])> = rows.iter().zip(&full).map(|(row, values)| (row, &values[..])).collect();
        assert_eq!(calibrate(&wanted(), &targets(&rows), &pairs, 0.01, SETTINGS), Err(Unsupported::Out));
    }

    proptest! {
        #[test]
        fn no_more_are_hit_than_the_rate_allows(scores in proptest::collection::vec(0_u16..300, 60..200), fpr in 0.05_f64..0.3) {
            let rows = vec![row(None, Origin::User); scores.len()];
            let values: Vec<[f32; 3]> = scores.iter().map(|score| [0.0, 0.0, f32::from(*score) / 300.0]).collect();
            let pairs: Vec<(&Row, &[f32])> = rows.iter().zip(&values).map(|(row, values)| (row, &values[..])).collect();
            let found = calibrate(&wanted(), &targets(&rows), &pairs, fpr, Settings { rounds: 20, seed: 1 }).unwrap();
            prop_assert!(found.effect.benign.value() <= fpr + 1e-9, "{:?}", found);
            // One step lower, more would be hit than are allowed.
            let below = values.iter().filter(|values| f64::from(values[2]) >= found.threshold - 0.004).count();
            prop_assert!(below >= found.effect.benign.hits as usize);
            prop_assert!(found.low <= found.threshold && found.threshold <= found.high);
        }
    }
}
