//! Rows and their scores into figures: for each group of rows and each target, how well it ranks and what its
//! thresholds do.

use std::collections::BTreeMap;

use super::bootstrap::{Estimate, intervals, share};
use super::ranking::Ranking;
use super::rows::Row;
use super::targets::{Target, Targets};

/// How intervals are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Resamples of each group.
    pub rounds: u32,
    /// Of the random numbers.
    pub seed: u64,
}

/// What rows were put together by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// `all`, `source`, `origin`, `language`, `kind` or `obfuscation`.
    pub by: &'static str,
    /// Which of them.
    pub value: String,
}

/// A target measured on a group of rows. `None` where the group has not what a figure takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// The rows.
    pub group: Group,
    /// The target, e.g. `harm.any`.
    pub target: String,
    /// Whether it is about a head as a whole.
    pub whole: bool,
    /// Rows that count: those for which somebody has said whether the target holds.
    pub rows: u32,
    /// Those for which it does.
    pub positives: u32,
    /// Of the score.
    pub ranks: Ranks,
    /// Of the text's length in characters, as if that were the score.
    pub length: Ranks,
    /// By threshold name.
    pub at: BTreeMap<String, At>,
}

/// How well something ranks; intervals by bootstrap over rows.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Ranks {
    /// Area under the ROC curve.
    pub auroc: Option<Estimate>,
    /// Average precision.
    pub auprc: Option<Estimate>,
    /// Recall where 1 % of this group's negatives are flagged.
    pub recall: Option<Estimate>,
}

/// What a shipped threshold does; intervals by Wilson.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct At {
    /// Share of positives that are flagged.
    pub recall: Option<Estimate>,
    /// Positives that are flagged.
    pub hits: u32,
    /// Share of negatives that are flagged.
    pub fpr: Option<Estimate>,
    /// Negatives that are flagged.
    pub alarms: u32,
}

/// A row and its scores in the order of the model's labels.
pub(super) type Pair<'a> = (&'a Row, &'a [f32]);

/// Every group of `pairs` along its dimensions, measured on every target.
pub(super) fn measure(targets: &Targets, pairs: &[Pair<'_>], settings: Settings) -> Vec<Figure> {
    let mut by_group = BTreeMap::<Group, Vec<Pair<'_>>>::new();
    for pair in pairs {
        for group in groups(pair.0) {
            by_group.entry(group).or_default().push(*pair);
        }
    }
    by_group.iter().flat_map(|(group, pairs)| of_group(targets, group, pairs, settings)).collect()
}

/// The groups that a row belongs to.
pub(super) fn groups(row: &Row) -> Vec<Group> {
    let group = |by: &'static str, value: &str| Group { by, value: value.to_owned() };
    let mut groups = vec![
        group("all", "all"),
        group("source", &row.source),
        group("origin", row.origin.as_str()),
        group("language", &row.lang),
    ];
    groups.extend(row.kind.as_deref().map(|kind| group("kind", kind)));
    groups
}

/// One group on every target that it has something to say of: a head as a whole, and labels that hold somewhere.
pub(super) fn of_group(targets: &Targets, group: &Group, pairs: &[Pair<'_>], settings: Settings) -> Vec<Figure> {
    let masked = targets.masked();
    let wanted = targets.list().iter().filter(|target| masked || !target.unmasked());
    let figures = wanted.filter_map(|target| figure(targets, target, group, pairs, settings));
    figures.filter(|figure| figure.whole || figure.positives > 0).collect()
}

fn figure(targets: &Targets, target: &Target, group: &Group, pairs: &[Pair<'_>], settings: Settings) -> Option<Figure> {
    let known: Vec<(Pair<'_>, bool)> =
        pairs.iter().filter_map(|pair| target.truth(pair.0).map(|truth| (*pair, truth))).collect();
    if known.is_empty() {
        return None;
    }
    let scores: Vec<(f64, bool)> =
        known.iter().map(|((row, values), truth)| (targets.score(target, row, values), *truth)).collect();
    let lengths: Vec<(f64, bool)> = known.iter().map(|((row, _), truth)| (characters(&row.text), *truth)).collect();
    let [ranks, length] = ranks(&Ranking::new(&scores), &Ranking::new(&lengths), known.len(), settings);
    let at = targets.thresholds().into_iter().map(|threshold| {
        let at = at(&known, |row, values| targets.flagged(target, row, values, &threshold));
        (threshold, at)
    });
    Some(Figure {
        group: group.clone(),
        target: target.name.clone(),
        whole: target.whole(),
        rows: count(known.iter().map(|_| true)),
        positives: count(known.iter().map(|(_, truth)| *truth)),
        ranks,
        length,
        at: at.collect(),
    })
}

/// The figures of a score and of the lengths, over the same resamples.
fn ranks(score: &Ranking, length: &Ranking, rows: usize, settings: Settings) -> [Ranks; 2] {
    let figures = |times: &dyn Fn(usize) -> u32| {
        let (score, length) = (score.figures(times), length.figures(times));
        [score.auroc, score.auprc, score.recall, length.auroc, length.auprc, length.recall]
    };
    let values = figures(&|_| 1);
    // Without both kinds of rows only the figure of one kind is left, and it is 1 whatever is drawn.
    let rounds = if values[0].is_some() { settings.rounds } else { 0 };
    let drawn = intervals(rows, rounds, settings.seed, |times| figures(&|row| times[row]));
    let mut estimates = values.into_iter().zip(drawn).map(|(value, drawn)| {
        let value = value?;
        let (low, high) = drawn.unwrap_or((value, value));
        Some(Estimate { value, low, high })
    });
    std::array::from_fn(|_| Ranks {
        auroc: estimates.next().flatten(),
        auprc: estimates.next().flatten(),
        recall: estimates.next().flatten(),
    })
}

fn at(known: &[(Pair<'_>, bool)], flagged: impl Fn(&Row, &[f32]) -> bool) -> At {
    let of = |positive: bool| {
        let all = known.iter().filter(move |(_, truth)| *truth == positive);
        let flags: Vec<bool> = all.map(|((row, values), _)| flagged(row, values)).collect();
        (count(flags.iter().copied()), count(flags.iter().map(|_| true)))
    };
    let ((hits, positives), (alarms, negatives)) = (of(true), of(false));
    At { recall: share(hits, positives), hits, fpr: share(alarms, negatives), alarms }
}

pub(super) fn count(flags: impl Iterator<Item = bool>) -> u32 {
    flags.filter(|flag| *flag).fold(0, |count, _| count + 1)
}

fn characters(text: &str) -> f64 {
    text.chars().fold(0.0, |count, _| count + 1.0)
}
