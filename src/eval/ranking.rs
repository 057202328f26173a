//! How well a score ranks: pure figures over scores and yes-or-no labels.
//!
//! - AUROC: the chance that a positive drawn at random scores above a negative drawn at random, ties counting half
//!   (the Mann-Whitney U statistic over the number of pairs).
//! - AUPRC: average precision, the sum over distinct scores of the precision at that score times the recall that it
//!   adds; no interpolation (as scikit-learn's `average_precision_score`).
//! - Recall at a false-positive rate: the largest recall of any threshold that flags at most that share of the
//!   negatives; a score that ties with the threshold is flagged.

/// A labelled set sorted by score, so that the figures of it and of each of its resamples cost one pass.
#[derive(Clone, Debug)]
pub(super) struct Ranking {
    /// By descending score.
    places: Vec<Place>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    /// Index in the order in which the set was given.
    row: usize,
    positive: bool,
    /// Whether the next place has another score.
    last_of_ties: bool,
}

/// Each `None` where it means nothing: without positives, or (but for AUPRC) without negatives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ranked {
    pub(super) auroc: Option<f64>,
    pub(super) auprc: Option<f64>,
    /// At [`FALSE_POSITIVES`].
    pub(super) recall: Option<f64>,
}

/// The share of negatives that [`Ranked::recall`] may flag: 1 %.
pub(super) const FALSE_POSITIVES: f64 = 0.01;

impl Ranking {
    /// Sorts rows of score and label. Scores are finite.
    pub(super) fn new(rows: &[(f64, bool)]) -> Self {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by(|a, b| rows[*b].0.total_cmp(&rows[*a].0));
        let ties =
            |at: usize| order.get(at + 1).is_some_and(|next| rows[*next].0.total_cmp(&rows[order[at]].0).is_eq());
        let place = |at: usize| Place { row: order[at], positive: rows[order[at]].1, last_of_ties: !ties(at) };
        Self { places: (0..rows.len()).map(place).collect() }
    }

    /// The figures of the set with each row counted `times(row)` times.
    pub(super) fn figures(&self, times: impl Fn(usize) -> u32) -> Ranked {
        let total = |positive: bool| -> f64 {
            self.places.iter().filter(|place| place.positive == positive).map(|place| f64::from(times(place.row))).sum()
        };
        let (positives, negatives) = (total(true), total(false));
        let (mut hits, mut alarms) = (0.0, 0.0);
        let (mut tied_hits, mut tied_alarms) = (0.0, 0.0);
        let (mut pairs, mut precision, mut recall) = (0.0, 0.0, 0.0);
        for place in &self.places {
            let count = f64::from(times(place.row));
            *if place.positive { &mut tied_hits } else { &mut tied_alarms } += count;
            if !place.last_of_ties {
                continue;
            }
            pairs += tied_alarms * (hits + tied_hits / 2.0);
            hits += tied_hits;
            alarms += tied_alarms;
            if tied_hits > 0.0 {
                precision += tied_hits * hits / (hits + alarms);
            }
            // The products are of whole numbers up to a rounding that is far below one row.
            if alarms <= negatives * FALSE_POSITIVES + 1e-9 {
                recall = hits;
            }
            (tied_hits, tied_alarms) = (0.0, 0.0);
        }
        let both = positives > 0.0 && negatives > 0.0;
        Ranked {
            auroc: both.then(|| pairs / (positives * negatives)),
            auprc: (positives > 0.0).then(|| precision / positives),
            recall: both.then(|| recall / positives),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn once(rows: &[(f64, bool)]) -> Ranked {
        Ranking::new(rows).figures(|_| 1)
    }

    fn close(a: Option<f64>, b: Option<f64>) -> bool {
        match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() < 1e-9,
            (None, None) => true,
            _ => false,
        }
    }

    fn number(count: usize) -> f64 {
        f64::from(u32::try_from(count).unwrap())
    }

    /// Every pair, every threshold: the definitions, word for word.
    fn by_definition(rows: &[(f64, bool)]) -> Ranked {
        let of = |positive: bool| rows.iter().filter(move |row| row.1 == positive).map(|row| row.0);
        let share = |positive: bool, at: f64| {
            let all = of(positive).count();
            (all > 0).then(|| number(of(positive).filter(|score| *score >= at).count()) / number(all))
        };
        let mut pairs = Vec::new();
        for p in of(true) {
            for n in of(false) {
                pairs.push(if p > n {
                    1.0
                } else if p < n {
                    0.0
                } else {
                    0.5
                });
            }
        }
        let auroc = (!pairs.is_empty()).then(|| pairs.iter().sum::<f64>() / number(pairs.len()));
        let mut cuts: Vec<f64> = rows.iter().map(|row| row.0).collect();
        cuts.sort_by(|a, b| b.total_cmp(a));
        cuts.dedup();
        let (mut auprc, mut before, mut recall) = (0.0, 0.0, 0.0_f64);
        for cut in cuts {
            let flagged = number(rows.iter().filter(|row| row.0 >= cut).count());
            let hits = number(of(true).filter(|score| *score >= cut).count());
            let found = share(true, cut).unwrap_or(0.0);
            auprc += (found - before) * hits / flagged;
            before = found;
            if share(false, cut).is_some_and(|alarms| alarms <= FALSE_POSITIVES) {
                recall = recall.max(found);
            }
        }
        Ranked { auroc, auprc: of(true).next().map(|_| auprc), recall: auroc.map(|_| recall) }
    }

    #[test]
    fn known_figures() {
        // scikit-learn's documentation: average_precision_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) = 0.83,
        // roc_auc_score of the same = 0.75.
        let figures = once(&[(0.1, false), (0.4, false), (0.35, true), (0.8, true)]);
        assert!(close(figures.auroc, Some(0.75)) && close(figures.auprc, Some(0.833_333_333_3)), "{figures:?}");
        assert!(close(figures.recall, Some(0.5)), "{figures:?}");
    }

    #[test]
    fn a_score_that_says_nothing_is_worth_what_chance_is() {
        let figures = once(&[(0.5, true), (0.5, false), (0.5, false), (0.5, false)]);
        assert_eq!(figures, Ranked { auroc: Some(0.5), auprc: Some(0.25), recall: Some(0.0) });
    }

    #[test]
    fn what_means_nothing_is_none() {
        assert_eq!(once(&[]), Ranked { auroc: None, auprc: None, recall: None });
        assert_eq!(once(&[(0.3, false)]), Ranked { auroc: None, auprc: None, recall: None });
        assert_eq!(once(&[(0.3, true)]), Ranked { auroc: None, auprc: Some(1.0), recall: None });
    }

    #[test]
    fn one_false_positive_in_a_hundred_is_allowed_and_a_second_is_not() {
        let mut rows: Vec<(f64, bool)> = (0..100).map(|at| (f64::from(at) / 1000.0, false)).collect();
        rows.extend([(0.9, true), (0.0985, true), (0.0975, true), (0.01, true)]);
        assert_eq!(once(&rows).recall, Some(0.5));
    }

    fn sets() -> impl Strategy<Value = Vec<(f64, bool)>> {
        // Few distinct scores, so that ties are common.
        prop::collection::vec(((0_u8..12).prop_map(|score| f64::from(score) / 11.0), any::<bool>()), 0..160)
    }

    proptest! {
        #[test]
        fn figures_are_those_of_their_definitions(rows in sets()) {
            let (fast, slow) = (once(&rows), by_definition(&rows));
            prop_assert!(close(fast.auroc, slow.auroc), "{:?} {:?}", fast, slow);
            prop_assert!(close(fast.auprc, slow.auprc), "{:?} {:?}", fast, slow);
            prop_assert!(close(fast.recall, slow.recall), "{:?} {:?}", fast, slow);
        }

        #[test]
        fn counting_a_row_twice_is_having_it_twice(rows in sets(), seed in any::<u64>()) {
            let mut random = fastrand::Rng::with_seed(seed);
            let times: Vec<u32> = rows.iter().map(|_| random.u32(0..4)).collect();
            let repeated: Vec<(f64, bool)> =
                rows.iter().zip(&times).flat_map(|(row, times)| vec![*row; *times as usize]).collect();
            let (counted, had) = (Ranking::new(&rows).figures(|row| times[row]), once(&repeated));
            prop_assert!(close(counted.auroc, had.auroc) && close(counted.auprc, had.auprc), "{:?} {:?}", counted, had);
            prop_assert!(close(counted.recall, had.recall), "{:?} {:?}", counted, had);
        }

        #[test]
        fn only_the_order_matters(rows in sets()) {
            let bent: Vec<(f64, bool)> = rows.iter().map(|(score, positive)| (score.powi(3) - 7.0, *positive)).collect();
            prop_assert_eq!(once(&rows), once(&bent));
        }
    }
}
