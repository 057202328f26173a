//! Seams: where one text ends and the next one of the same origin begins.
//!
//! Whoever writes several messages, parts or arguments can divide a phrase among them, and no text for itself shows it; a
//! model reads on over the seam. So each text is seen once more behind the end of what came before it, in two ways:
//! written together and with a blank between. What is found there counts if it lies on both sides of a seam and neither
//! side shows it alone.
//!
//! ```text
//!   … end of earlier texts ┃ the text's strands ┃ its next strand
//!                          joint                joint
//! ```
//! The view of a seam is bounded on either side, and does not change while a conversation grows, so that the ledger knows
//! it.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Instant;

use super::judge::{Failure, Guards, Judgement, Stage, Subject};
use super::occasion::Occasion;
use super::pattern::{Match, PatternSet};
use crate::api::{Origin, Segment, Strand};

/// What is seen of a text on either side of a seam, in bytes.
pub(super) const REACH: usize = 160;
/// What stands between the beginning and the end of a long text, where the middle is left out.
const GAP: &str = "\n\n\n";

/// Personal data that shows by a check digit or a mark of its own that it belongs together. Of other kinds two halves that
/// have nothing to do with each other look like a whole too often.
const CHECKED: [&str; 4] = ["CREDIT_CARD", "IBAN_CODE", "CRYPTO", "API_KEY"];

/// A text behind the end of what came before it.
#[derive(Debug)]
pub(super) struct Seam {
    /// The segment that it belongs to.
    pub(super) segment: usize,
    pub(super) text: String,
    /// What stands between two strands, empty where they are written together.
    joints: Vec<Range<usize>>,
    cuts: Vec<Cut>,
    /// Bytes of earlier segments.
    pub(super) earlier: usize,
    /// It says something that its segment does not say in another form.
    tells: bool,
}

/// A piece of one strand, and where it stands in the view of a seam.
#[derive(Clone, Debug)]
struct Cut {
    at: usize,
    /// Index in the list of all strands.
    strand: usize,
    /// Of the strand's text.
    range: Range<usize>,
    /// What was before it is left out.
    gap: bool,
    /// Somebody else's text follows.
    interrupted: bool,
}

/// Whose text a seam belongs to.
pub(super) struct Whose<'a> {
    pub(super) origin: Origin,
    pub(super) place: &'a str,
    pub(super) choice: u32,
    pub(super) length: usize,
}

impl<'a> Whose<'a> {
    pub(super) fn of(segment: &'a Segment) -> Self {
        let Segment { origin, place, choice, text, .. } = segment;
        Self { origin: *origin, place, choice: *choice, length: text.len() }
    }
}

impl Seam {
    /// The seams of two texts that stream one after the other.
    pub(super) fn between(before: &str, after: &str) -> Vec<Self> {
        let before = &before[ceil_char(before, before.len().saturating_sub(REACH))..];
        let after = &after[..ceil_char(after, REACH.min(after.len()))];
        let (Some(last), Some(next)) = (before.chars().next_back(), after.chars().next()) else { return Vec::new() };
        let apart = !last.is_whitespace() && !next.is_whitespace();
        let seam = |blank: &str, tells: bool| {
            let text = [before, blank, after].concat();
            let earlier = before.len() + blank.len();
            Self {
                segment: 0,
                text,
                joints: std::iter::once(before.len()..earlier).collect(),
                cuts: Vec::new(),
                earlier,
                tells,
            }
        };
        let together = seam("", !apart || (last.is_alphanumeric() && next.is_alphanumeric()));
        if apart { vec![seam(" ", true), together] } else { vec![together] }
    }
}

/// The seams of a list of segments.
#[derive(Debug)]
pub(super) struct Seams<'a> {
    /// Each with its segment.
    strands: Vec<(usize, Strand<'a>)>,
    pub(super) seams: Vec<Seam>,
}

impl<'a> Seams<'a> {
    /// Where nobody looks.
    pub(super) fn none() -> Self {
        Self { strands: Vec::new(), seams: Vec::new() }
    }

    /// Of all segments but those that `left_out` names, which no model will read.
    pub(super) fn of(segments: &'a [Segment], left_out: impl Fn(&Segment) -> bool) -> Self {
        let mut found = Self::none();
        let mut ends: Vec<((Origin, u32), VecDeque<Cut>)> = Vec::new();
        let mut last = None;
        for (index, segment) in segments.iter().enumerate().filter(|(_, segment)| !left_out(segment)) {
            let first = found.strands.len();
            found.strands.extend(segment.strands().into_iter().map(|strand| (index, strand)));
            let key = (segment.origin, segment.choice);
            let known = ends.iter().position(|(known, _)| *known == key).unwrap_or(ends.len());
            if known == ends.len() {
                ends.push((key, VecDeque::new()));
            }
            let end = &mut ends[known].1;
            if last.replace(key) != Some(key)
                && let Some(cut) = end.back_mut()
            {
                cut.interrupted = true;
            }
            let own: Vec<Cut> = (first..found.strands.len()).flat_map(|strand| found.both_ends(strand)).collect();
            found.add(segment, index, end, &own);
            for strand in first..found.strands.len() {
                let text = &found.strands[strand].1.text;
                let from = ceil_char(text, text.len().saturating_sub(REACH));
                end.push_back(Cut { at: 0, strand, range: from..text.len(), gap: false, interrupted: false });
                while end.iter().skip(1).map(|cut| cut.range.len()).sum::<usize>() >= REACH {
                    end.pop_front();
                }
            }
        }
        found
    }

    /// A strand, or where it is long its beginning and its end.
    fn both_ends(&self, strand: usize) -> Vec<Cut> {
        let text = &self.strands[strand].1.text;
        let cut = |range, gap| Cut { at: 0, strand, range, gap, interrupted: false };
        if text.len() <= 2 * REACH {
            return vec![cut(0..text.len(), false)];
        }
        let end = ceil_char(text, text.len() - REACH);
        vec![cut(0..ceil_char(text, REACH), false), cut(end..text.len(), true)]
    }

    /// Adds the views of one segment behind the `end` of those before it. A classifier sees it behind what stands right
    /// before it; a heap of remarks from all over an honest conversation looks like an attack too often.
    fn add(&mut self, segment: &Segment, index: usize, end: &VecDeque<Cut>, own: &[Cut]) {
        let near = end.iter().rposition(|cut| cut.interrupted).map_or(0, |at| at + 1);
        let all: Vec<Cut> = end.iter().cloned().collect();
        if near > 0 {
            self.add_views((segment, index), (&all, own), false);
        }
        self.add_views((segment, index), (&all[near..], own), is_prose(segment.origin));
    }

    fn add_views(&mut self, segment: (&Segment, usize), cuts: (&[Cut], &[Cut]), tells: bool) {
        if cuts.1.is_empty() || cuts.0.len() + cuts.1.len() < 2 {
            return;
        }
        let together = self.view(segment, cuts, (false, tells));
        let apart = self.view(segment, cuts, (true, tells));
        let same = together.text == apart.text;
        let views = [apart].into_iter().chain((!same).then_some(together));
        self.seams.extend(views.filter(|seam| !seam.joints.is_empty()));
    }

    fn view(
        &self,
        (segment, index): (&Segment, usize),
        (end, own): (&[Cut], &[Cut]),
        (blank, tells): (bool, bool),
    ) -> Seam {
        let (text, joints, cuts) = (String::new(), Vec::new(), Vec::new());
        let mut seam = Seam { segment: index, text, joints, cuts, earlier: 0, tells: blank };
        for (at, cut) in end.iter().chain(own).enumerate() {
            let piece = &self.strands[cut.strand].1.text[cut.range.clone()];
            let from = seam.text.len();
            if cut.gap {
                seam.text.push_str(GAP);
            } else if let (Some(before), Some(after)) = (seam.text.chars().next_back(), piece.chars().next()) {
                if blank && !before.is_whitespace() && !after.is_whitespace() {
                    seam.text.push(' ');
                }
                seam.joints.push(from..seam.text.len());
                // A word may go on over the seam.
                seam.tells |= before.is_alphanumeric() && after.is_alphanumeric();
            }
            if at == end.len() {
                seam.earlier = seam.text.len();
            }
            seam.cuts.push(Cut { at: seam.text.len(), ..cut.clone() });
            seam.text.push_str(piece);
        }
        let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        seam.tells &= tells && !(end.is_empty() && plain(&seam.text) == plain(&segment.text));
        seam
    }

    /// What is to be replaced of a seam's text, by segment and place in it. The replacement stands where the match begins.
    pub(super) fn sources(&self, seam: &Seam, range: &Range<usize>, with: &str) -> Vec<(usize, Range<usize>, String)> {
        let mut sources = Vec::new();
        for cut in &seam.cuts {
            let (start, end) = (range.start.max(cut.at), range.end.min(cut.at + cut.range.len()));
            if start >= end {
                continue;
            }
            let (segment, strand) = &self.strands[cut.strand];
            let offset = cut.range.start;
            let source = strand.source(&(start - cut.at + offset..end - cut.at + offset));
            let with = if sources.is_empty() { with.to_owned() } else { String::new() };
            sources.push((*segment, source, with));
        }
        sources
    }
}

impl Guards {
    /// The seams of a prompt or of an answer. What was blocked before is left out: no model will read it, and beside it
    /// nothing else would count.
    pub(super) fn seams<'a>(&self, occasion: &Occasion, segments: &'a [Segment]) -> Seams<'a> {
        Seams::of(segments, |segment| self.was_blocked(occasion, segment.origin, &segment.text))
    }

    /// What the rules say of a seam, and of nothing that lies on one side of it.
    pub(super) async fn seam(
        &self,
        occasion: &Occasion,
        stage: Stage,
        (seam, whose): (&Seam, &Whose<'_>),
        since: Instant,
    ) -> Result<Judgement, Failure> {
        let subject = |text, joints| Subject {
            stage,
            origin: whose.origin,
            before: "",
            text,
            fresh: 0..text.len(),
            joints,
            place: whose.place,
            choice: whose.choice,
            length: whose.length,
            since,
        };
        let over = subject(seam.text.as_str(), Some((seam.joints.as_slice(), seam.tells)));
        let mut judgement = self.judge_unseen(occasion, &over).await?;
        judgement.findings.retain(|finding| !finding.warning);
        let (before, after) = seam.text.split_at(seam.earlier);
        for side in [before, after].into_iter().filter(|_| seam.earlier > 0) {
            if judgement.findings.iter().any(|finding| finding.score.is_some()) {
                let alone = self.judge_unseen(occasion, &subject(side, None)).await?;
                judgement.findings.retain(|finding| finding.score.is_none() || !alone.has(finding.rule));
            }
        }
        Ok(judgement)
    }
}

/// Matches that lie on both sides of a seam, of which neither side is one for itself.
pub(super) fn over_joints<'s>(
    set: &PatternSet,
    text: &str,
    joints: &[Range<usize>],
    matches: Vec<Match<'s>>,
) -> Vec<Match<'s>> {
    let over = |found: &Match<'_>, joint: &Range<usize>| found.range.start < joint.start && joint.end < found.range.end;
    let counts = |found: &Match<'_>| {
        let mut over = joints.iter().filter(|joint| over(found, joint)).peekable();
        let personal = super::pii::ENTITIES.contains(&found.entity) && !CHECKED.contains(&found.entity);
        over.peek().is_some()
            && !personal
            && over.all(|joint| {
                let before = set.find_from(&text[..joint.start], found.range.start);
                let after = set.find(&text[joint.end..]);
                before.is_empty() && !after.iter().any(|after| joint.end + after.range.start < found.range.end)
            })
    };
    matches.into_iter().filter(counts).collect()
}

/// What a classifier reads. Of the many small strings of definitions and of fields that nobody knows only patterns see
/// the seams.
fn is_prose(origin: Origin) -> bool {
    !matches!(origin, Origin::ToolDefinition | Origin::Other)
}

/// The first character boundary at or after `at`.
fn ceil_char(text: &str, at: usize) -> usize {
    (at..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::sample;

    fn seams(texts: &[(Origin, &str)], check: impl Fn(&Seams<'_>, &[Segment])) {
        let call = sample::prompt(texts.iter().copied()).unwrap();
        check(&Seams::of(call.segments(), |_| false), call.segments());
    }

    #[test]
    fn a_text_is_seen_behind_those_of_its_origin() {
        let talk =
            [(Origin::User, "one"), (Origin::Assistant, "well"), (Origin::User, "two."), (Origin::User, "three")];
        seams(&talk, |seams, _| {
            let views: Vec<_> = seams.seams.iter().map(|seam| (seam.text.as_str(), seam.earlier, seam.tells)).collect();
            // The assistant has spoken between the first and the second.
            let expected = [
                ("one two.", 4, false),
                ("onetwo.", 3, false),
                ("one two. three", 9, false),
                ("onetwo.three", 7, false),
                ("two. three", 5, true),
                ("two.three", 4, false),
            ];
            assert_eq!(views, expected);
        });
        seams(&talk[..2], |seams, _| assert!(seams.seams.is_empty()));
    }

    #[test]
    fn matches_count_over_a_joint_only() {
        let set = PatternSet::compile(&["EMAIL_ADDRESS".to_owned()], &[("ab".to_owned(), "ab+".to_owned())]).unwrap();
        let over = |text: &str, joint: Range<usize>| over_joints(&set, text, &[joint], set.find(text)).len();
        assert_eq!(over("xa b", 2..2), 0);
        assert_eq!(over("xab", 2..2), 1);
        assert_eq!(over("xabb", 3..3), 0, "the first side shows it alone");
        assert_eq!(over("xab ab", 3..4), 0);
        assert_eq!(over("me@example.org", 3..3), 0, "two halves look like an address too often");
    }

    proptest! {
        /// Whatever stands in a view is found again where it came from, and views are bounded.
        #[test]
        fn every_place_leads_back(texts in prop::collection::vec("[a-zé \\n]{0,9}([a-z ]{150,500})?", 1..6)) {
            let talk: Vec<(Origin, &str)> = texts.iter().map(|text| (Origin::User, text.as_str())).collect();
            seams(&talk, |seams, segments| {
                for seam in &seams.seams {
                    assert!(seam.text.len() <= 4 * REACH + 16, "{}", seam.text.len());
                    for cut in &seam.cuts {
                        let range = cut.at..cut.at + cut.range.len();
                        let sources = seams.sources(seam, &range, "X");
                        assert_eq!(sources.len(), usize::from(!range.is_empty()));
                        for (segment, source, with) in sources {
                            assert_eq!(with, "X");
                            assert_eq!(&segments[segment].text[source], &seam.text[range.clone()]);
                        }
                    }
                }
            });
        }
    }
}
