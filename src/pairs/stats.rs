//! What a set of rows holds, at a glance.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use crate::pairs::mistakes::{fingerprint, text};
use crate::pairs::row::{Row, Signal, Split};
use crate::pairs::select::{LeftOut, Selection};

/// Margins are shown in tenths, from 0 to 1.
const BINS: usize = 10;

/// Counts over rows; [`fmt::Display`] is the table.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    pairs: u64,
    unpaired: u64,
    /// Rows by heading and value.
    by: BTreeMap<(u8, &'static str), BTreeMap<String, u64>>,
    margins: [u64; BINS],
    unscored: u64,
    left_out: BTreeMap<LeftOut, u64>,
    seen: HashSet<[u8; 32]>,
    repeated: u64,
    /// Characters of chosen, rejected and unpaired answers.
    chars: [u64; 3],
    first: Option<String>,
    last: Option<String>,
}

impl Stats {
    /// Counts one row; `selection` says what would be clean.
    pub fn add(&mut self, row: &Row, selection: &Selection) {
        let meta = row.meta();
        let chars = |messages: &[serde_json::Value]| {
            messages.iter().map(|message| text(message).chars().count() as u64).sum::<u64>()
        };
        match row {
            Row::Pair(pair) => {
                self.pairs += 1;
                self.chars[0] += chars(&pair.chosen);
                self.chars[1] += chars(&pair.rejected);
                match pair.margin {
                    Some(margin) => self.margins[bin(margin)] += 1,
                    None => self.unscored += 1,
                }
            }
            Row::Unpaired(unpaired) => {
                self.unpaired += 1;
                self.chars[2] += chars(&unpaired.completion);
            }
        }
        if let Err(reason) = selection.takes(row) {
            *self.left_out.entry(reason).or_default() += 1;
        }
        if !self.seen.insert(fingerprint(row)) {
            self.repeated += 1;
        }
        self.first = self.first.take().into_iter().chain([meta.created_at.clone()]).min();
        self.last = self.last.take().into_iter().chain([meta.created_at.clone()]).max();
        let split = match meta.split {
            Split::Train => "train",
            Split::Val => "val",
            Split::Test => "test",
        };
        let none = || "none".to_owned();
        let columns = [
            ("source", meta.source.as_str().to_owned()),
            ("policy", format!("{} rev {}", meta.policy, meta.policy_rev)),
            ("principle", meta.principle_id.clone().unwrap_or_else(none)),
            ("rule", meta.guards.first().map_or_else(none, |guard| guard.id.clone())),
            ("model", meta.model.clone()),
            ("split", split.to_owned()),
        ];
        for (order, (heading, value)) in (0..).zip(columns) {
            *self.by.entry((order, heading)).or_default().entry(value).or_default() += 1;
        }
        if let Some(event) = &meta.event {
            let kind = if meta.signal == Some(Signal::Implicit) { "implicit" } else { "explicit" };
            let said = format!("{event} ({kind})");
            *self.by.entry((u8::MAX - 1, "feedback")).or_default().entry(said).or_default() += 1;
        }
        for tag in &meta.tags {
            *self.by.entry((u8::MAX, "tag")).or_default().entry(tag.as_str().to_owned()).or_default() += 1;
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the bins just before")]
fn bin(margin: f32) -> usize {
    (margin * 10.0).clamp(0.0, 9.0) as usize
}

impl fmt::Display for Stats {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.pairs + self.unpaired;
        writeln!(out, "{rows} rows: {} pairs, {} unpaired", self.pairs, self.unpaired)?;
        if let (Some(first), Some(last)) = (&self.first, &self.last) {
            writeln!(out, "from {first} to {last}")?;
        }
        let left_out: u64 = self.left_out.values().sum();
        writeln!(out, "clean                {:>8}", rows - left_out)?;
        for (reason, rows) in &self.left_out {
            writeln!(out, "  left out: {:<28} {rows:>8}", reason.as_str())?;
        }
        writeln!(out, "the same words again {:>8}", self.repeated)?;
        let mean = |chars: u64, rows: u64| chars.checked_div(rows).unwrap_or_default();
        writeln!(
            out,
            "mean length, characters: chosen {}, rejected {}, unpaired {}",
            mean(self.chars[0], self.pairs),
            mean(self.chars[1], self.pairs),
            mean(self.chars[2], self.unpaired)
        )?;
        for ((_, heading), values) in &self.by {
            writeln!(out, "\n{heading}")?;
            let mut values: Vec<_> = values.iter().collect();
            values.sort_by_key(|(value, rows)| (std::cmp::Reverse(**rows), *value));
            for (value, rows) in values {
                writeln!(out, "  {:<44} {rows:>8}", plain(value))?;
            }
        }
        if self.pairs > 0 {
            writeln!(out, "\nmargin of pairs (no score: {})", self.unscored)?;
            let most = self.margins.iter().max().copied().unwrap_or_default().max(1);
            for (at, rows) in self.margins.iter().enumerate() {
                let bar = usize::try_from(rows * 40 / most).unwrap_or_default();
                writeln!(out, "  {:.1} to {:.1} {rows:>8} {}", tenth(at), tenth(at + 1), "#".repeat(bar))?;
            }
        }
        Ok(())
    }
}

/// Names in rows come from outside; a terminal gets none of their control characters.
fn plain(value: &str) -> String {
    value.chars().filter(|c| !c.is_control()).take(64).collect()
}

#[expect(clippy::cast_precision_loss, reason = "at most 10")]
fn tenth(at: usize) -> f32 {
    at as f32 / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::draft::tests::{draft, refused};

    #[test]
    fn everything_is_counted() {
        let mut stats = Stats::default();
        for i in 0..3 {
            stats.add(&draft(&format!("req_{i}")).into_row(&|_| None), &Selection::default());
        }
        stats.add(&refused("req_9").into_row(&|_| None), &Selection::default());
        let table = stats.to_string();
        for line in [
            "4 rows: 3 pairs, 1 unpaired",
            "clean                       3",
            "left out: aborted",
            "the same words again        2",
            "chosen 14, rejected 11, unpaired 11",
            "  default rev 9f2c1e7                                 4",
            "  0.5 to 0.6        3 ########################################",
        ] {
            assert!(table.contains(line), "{line}\n{table}");
        }
    }
}
