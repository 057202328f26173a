//! Agreement, histograms side by side, and the judge's liking for a place.

use std::collections::BTreeMap;
use std::fmt;

use super::{Human, Label};
use crate::revision::{EQUAL, Error, Preference, Verdict};

/// Points of the scale.
pub(super) const POINTS: usize = 9;
const BAR: u64 = 28;

/// What all comparisons came to; [`fmt::Display`] is the page.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) judged: u64,
    pub(super) failures: BTreeMap<&'static str, u64>,
    pub(super) retries: u64,
    /// By what people said (a, b, tie), then by what the judge said (first, second, equal).
    pub(super) agreement: [[u64; 3]; 3],
    pub(super) sources: BTreeMap<String, [u64; 2]>,
    pub(super) contradictions: u64,
    pub(super) lean: f64,
    /// Pairs that people found equal: how many, how the judge leaned, and which place won each single question.
    pub(super) equal: u64,
    pub(super) equal_lean: f64,
    pub(super) equal_places: [u64; 3],
    /// The same pairs by the judge's lean, rounded, from -4 to 4.
    pub(super) equal_leans: [u64; POINTS],
    pub(super) machine: [u64; POINTS],
    pub(super) people: [u64; POINTS],
}

impl Report {
    pub(super) fn failed(&mut self, error: &Error) {
        let reason = match error {
            Error::Unreadable { .. } => "no judgement in the answer, asked twice",
            Error::Status { .. } => "the upstream refused",
            _ => "the upstream could not be reached",
        };
        *self.failures.entry(reason).or_default() += 1;
    }

    pub(super) fn add(&mut self, row: &Human, verdict: &Verdict) {
        self.judged += 1;
        self.retries += u64::from(verdict.retries);
        let (said, judged) = (label(row.label), preference(verdict.preference()));
        self.agreement[said][judged] += 1;
        let source = self.sources.entry(row.source.clone().unwrap_or_else(|| "rows".to_owned())).or_default();
        source[0] += u64::from(said == judged);
        source[1] += 1;
        self.contradictions += u64::from(verdict.contradicts_itself());
        self.lean += verdict.lean();
        if row.label == Label::Tie {
            self.equal += 1;
            self.equal_lean += verdict.lean();
            self.equal_leans[point(verdict.lean() + EQUAL)] += 1;
            for score in [verdict.forward, verdict.backward] {
                self.equal_places[preference(Preference::of(f64::from(score)))] += 1;
            }
        }
        self.machine[point(verdict.score())] += 1;
        if let Some(score) = row.score() {
            self.people[point(score)] += 1;
        }
    }
}

fn label(label: Label) -> usize {
    match label {
        Label::A => 0,
        Label::B => 1,
        Label::Tie => 2,
    }
}

fn preference(preference: Preference) -> usize {
    match preference {
        Preference::First => 0,
        Preference::Second => 1,
        Preference::Equal => 2,
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 8 after the clamp")]
fn point(score: f64) -> usize {
    (score.round().clamp(1.0, 9.0) - 1.0) as usize
}

#[expect(clippy::cast_precision_loss, reason = "counts of rows")]
pub(super) fn share(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { part as f64 * 100.0 / of as f64 }
}

#[expect(clippy::cast_precision_loss, reason = "counts of rows")]
pub(super) fn mean(sum: f64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { sum / of as f64 }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed: u64 = self.failures.values().sum();
        writeln!(
            out,
            "{} comparisons judged in both orders, {failed} failed, {} answers asked for again",
            self.judged, self.retries
        )?;
        for (reason, rows) in &self.failures {
            writeln!(out, "  {reason:<44} {rows:>6}")?;
        }
        self.table(out)?;
        self.places(out)?;
        self.histograms(out)
    }
}

impl Report {
    /// How often judge and people say the same: what is counted, how often, and of how many.
    pub(super) fn agreed(&self) -> [(&'static str, u64, u64); 3] {
        let right = self.agreement[0][0] + self.agreement[1][1];
        let decided = right + self.agreement[0][1] + self.agreement[1][0];
        let preferred: u64 = self.agreement[..2].iter().flatten().sum();
        let same = right + self.agreement[2][2];
        [
            ("where both decide", right, decided),
            ("where people decide", right, preferred),
            ("over everything", same, self.judged),
        ]
    }

    fn table(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "\nagreement      judge: first   second    equal")?;
        for (name, row) in ["people: a   ", "people: b   ", "people: tie "].iter().zip(&self.agreement) {
            writeln!(out, "  {name}      {:>8} {:>8} {:>8}", row[0], row[1], row[2])?;
        }
        for (name, same, of) in self.agreed() {
            writeln!(out, "  {name:<24} {:>6.1} % of {of}", share(same, of))?;
        }
        for (source, [same, rows]) in &self.sources {
            let source: String = source.chars().filter(|c| !c.is_control()).take(32).collect();
            writeln!(out, "    {source:<32} {:>6.1} % of {rows}", share(*same, *rows))?;
        }
        Ok(())
    }

    fn places(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "\nposition bias")?;
        let contradictions = share(self.contradictions, self.judged);
        writeln!(out, "  orders that prefer different answers: {} ({contradictions:.1} %)", self.contradictions)?;
        writeln!(out, "  mean lean: {:+.2} points (below 0: to the first place)", mean(self.lean, self.judged))?;
        if self.equal > 0 {
            let [first, second, equal] = self.equal_places;
            writeln!(
                out,
                "  on {} pairs that people find equal: lean {:+.2}; first place {first}, second place {second}, equal {equal} of {} questions",
                self.equal,
                mean(self.equal_lean, self.equal),
                2 * self.equal
            )?;
        }
        Ok(())
    }

    /// People's scores are there only for rows with a known scale.
    fn histograms(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = |counts: &[u64]| counts.iter().max().copied().unwrap_or_default().max(1);
        let bar = |count: u64, most: u64| "#".repeat(usize::try_from(count * BAR / most).unwrap_or_default());
        writeln!(out, "\nscore (1: the first is much better, 9: the second)")?;
        writeln!(out, "      {:<36} people", "judge")?;
        let (machine, people) = (most(&self.machine), most(&self.people));
        for (at, (judged, said)) in self.machine.iter().zip(&self.people).enumerate() {
            let (left, right) = (bar(*judged, machine), bar(*said, people));
            writeln!(out, "  {}  {judged:>6} {left:<28}  {said:>6} {right}", at + 1)?;
        }
        Ok(())
    }
}
