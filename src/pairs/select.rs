//! Which rows are clean enough to train on.

use crate::pairs::row::{Pair, Row, Signal, Split, Tag, Unpaired};

/// What an export takes.
#[derive(Clone, Debug)]
pub struct Selection {
    /// By how much the rejected answer's score must exceed the chosen one's, where the deciding rule or a judge has scores.
    pub margin: f32,
    /// Tagged rows that are taken all the same.
    pub include: Vec<Tag>,
    /// Whether rows that are read from what people did are taken, not only those from what they said.
    pub implicit: bool,
    /// Only rows of this split; all where it is not set.
    pub split: Option<Split>,
}

impl Default for Selection {
    fn default() -> Self {
        Self { margin: 0.2, include: Vec::new(), implicit: false, split: None }
    }
}

/// Why a row is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeftOut {
    /// It is doubtful.
    Tagged(Tag),
    /// It is read from what a person did, and nobody asked for that.
    Implicit,
    /// It belongs to another split.
    OtherSplit,
    /// The rule scores, but one of the answers has no score.
    Unscored,
    /// The better answer reaches the rule's threshold.
    ChosenFails,
    /// The worse answer does not reach it.
    RejectedPasses,
    /// The scores lie too close together.
    Margin,
}

impl LeftOut {
    /// A few words for a report.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tagged(tag) => tag.as_str(),
            Self::Implicit => "an implicit signal",
            Self::OtherSplit => "another split",
            Self::Unscored => "no score",
            Self::ChosenFails => "the chosen answer fails",
            Self::RejectedPasses => "the rejected answer passes",
            Self::Margin => "margin too small",
        }
    }
}

impl Selection {
    /// Whether a row is taken. A rule without scores (a recogniser) has decided by itself that the rejected answer fails
    /// and the chosen one passes; a rule with scores must bear it out by [`Selection::margin`].
    pub fn takes(&self, row: &Row) -> Result<(), LeftOut> {
        let meta = row.meta();
        if self.split.is_some_and(|split| split != meta.split) {
            return Err(LeftOut::OtherSplit);
        }
        if let Some(tag) = meta.tags.iter().find(|tag| !self.include.contains(tag)) {
            return Err(LeftOut::Tagged(*tag));
        }
        if meta.signal == Some(Signal::Implicit) && !self.implicit {
            return Err(LeftOut::Implicit);
        }
        let threshold = meta.guards.first().and_then(|guard| guard.threshold);
        let Some(threshold) = threshold else {
            // A judge's scores have no threshold, only a distance.
            return match row {
                Row::Pair(pair) => pair.margin.map_or(Ok(()), |margin| self.apart(margin)),
                Row::Unpaired(_) => Ok(()),
            };
        };
        match row {
            Row::Pair(pair) => self.clean(pair, threshold),
            Row::Unpaired(unpaired) => consistent(unpaired, threshold),
        }
    }

    fn clean(&self, pair: &Pair, threshold: f32) -> Result<(), LeftOut> {
        let (Some(chosen), Some(rejected)) = (pair.score_chosen, pair.score_rejected) else {
            return Err(LeftOut::Unscored);
        };
        if chosen >= threshold {
            return Err(LeftOut::ChosenFails);
        }
        if rejected < threshold {
            return Err(LeftOut::RejectedPasses);
        }
        self.apart(rejected - chosen)
    }

    /// Whether two scores lie far enough apart. They are rounded to digits that mean something before.
    fn apart(&self, margin: f32) -> Result<(), LeftOut> {
        if (margin * 1e4).round() < (self.margin * 1e4).round() { Err(LeftOut::Margin) } else { Ok(()) }
    }
}

fn consistent(unpaired: &Unpaired, threshold: f32) -> Result<(), LeftOut> {
    match unpaired.score {
        None => Err(LeftOut::Unscored),
        Some(score) if !unpaired.label && score < threshold => Err(LeftOut::RejectedPasses),
        Some(score) if unpaired.label && score >= threshold => Err(LeftOut::ChosenFails),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::draft::tests::{draft, pair, refused};

    /// The fixture's threshold is 0.5.
    fn scored(chosen: Option<f32>, rejected: Option<f32>) -> Row {
        let mut row = pair(draft("req_1"), &|_| None);
        (row.score_chosen, row.score_rejected) = (chosen, rejected);
        Row::Pair(Box::new(row))
    }

    #[test]
    fn a_clean_pair_lies_on_both_sides_of_the_threshold_and_far_enough_apart() {
        let selection = Selection { margin: 0.3, ..Selection::default() };
        for (chosen, rejected, told) in [
            (Some(0.2), Some(0.5), Ok(())),
            (Some(0.21), Some(0.5), Err(LeftOut::Margin)),
            (Some(0.5), Some(0.9), Err(LeftOut::ChosenFails)),
            (Some(0.1), Some(0.49), Err(LeftOut::RejectedPasses)),
            (None, Some(0.9), Err(LeftOut::Unscored)),
            (Some(0.1), None, Err(LeftOut::Unscored)),
        ] {
            assert_eq!(selection.takes(&scored(chosen, rejected)), told, "{chosen:?} {rejected:?}");
        }
        let mut by_pattern = pair(draft("req_1"), &|_| None);
        by_pattern.meta.guards[0].threshold = None;
        (by_pattern.score_chosen, by_pattern.score_rejected) = (None, None);
        assert_eq!(selection.takes(&Row::Pair(Box::new(by_pattern))), Ok(()));
    }

    #[test]
    fn answers_that_a_judge_compared_are_far_enough_apart() {
        for (margin, told) in [(0.19, Err(LeftOut::Margin)), (0.2, Ok(())), (1.0, Ok(()))] {
            let mut row = pair(draft("req_1"), &|_| None);
            row.meta.guards.clear();
            (row.meta.source, row.margin) = (crate::pairs::Source::Resample, Some(margin));
            assert_eq!(Selection::default().takes(&Row::Pair(Box::new(row))), told, "{margin}");
        }
    }

    #[test]
    fn tagged_rows_are_left_out_unless_asked_for() {
        let row = refused("req_1").into_row(&|_| None);
        let with = |include: &[Tag]| Selection { include: include.to_vec(), ..Selection::default() }.takes(&row);
        assert_eq!(with(&[]), Err(LeftOut::Tagged(Tag::Aborted)));
        assert_eq!(with(&[Tag::Truncated]), Err(LeftOut::Tagged(Tag::Aborted)));
        assert_eq!(with(&[Tag::Aborted]), Ok(()));
    }

    #[test]
    fn implicit_rows_are_left_out_unless_asked_for() {
        let mut row = pair(draft("req_1"), &|_| None);
        row.meta.signal = Some(Signal::Implicit);
        let row = Row::Pair(Box::new(row));
        assert_eq!(Selection::default().takes(&row), Err(LeftOut::Implicit));
        assert_eq!(Selection { implicit: true, ..Selection::default() }.takes(&row), Ok(()));
    }

    #[test]
    fn one_split_at_a_time() {
        let row = scored(Some(0.1), Some(0.9));
        let other = if row.meta().split == Split::Test { Split::Train } else { Split::Test };
        let of = |split| Selection { split: Some(split), ..Selection::default() }.takes(&row);
        assert_eq!((of(row.meta().split), of(other)), (Ok(()), Err(LeftOut::OtherSplit)));
    }
}
