//! What came of a comparison: counts, by rule, and the texts on which the two policies differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::change::Change;
use super::replay::{Item, Replay};
use crate::cli::table::Table;
use crate::guard::{CaseText, Hit, Opinion, View};

/// Both decisions on one text.
pub(super) struct Compared {
    pub(super) place: String,
    pub(super) what: String,
    pub(super) stage: &'static str,
    /// The two decisions; the second may be `redact_other`.
    pub(super) words: [&'static str; 2],
    pub(super) differs: bool,
    pub(super) opinions: [Opinion; 2],
    pub(super) texts: Vec<CaseText>,
}

impl Compared {
    pub(super) fn new(item: &Item, [old, new]: [Opinion; 2], texts: Vec<CaseText>) -> Self {
        let (old_word, new_word, differs) = old.beside(&new);
        Self {
            place: item.place(),
            what: item.what.clone(),
            stage: item.stage.as_str(),
            words: [old_word, new_word],
            differs,
            opinions: [old, new],
            texts,
        }
    }

    /// Rules that were hit and act, of either policy.
    fn rules(&self) -> [BTreeSet<&str>; 2] {
        self.opinions
            .each_ref()
            .map(|opinion| opinion.hits.iter().filter(|hit| !hit.quiet).map(|hit| hit.rule.as_str()).collect())
    }

    /// What one of the two found, in a few words.
    pub(super) fn found(&self, side: usize) -> String {
        let hit = |hit: &Hit| {
            let score = match (hit.score, hit.threshold) {
                (Some(score), Some(threshold)) => format!(" {score:.3} of {threshold:.3}"),
                _ => String::new(),
            };
            format!("{}: {}{score}{}", hit.rule, hit.label, if hit.quiet { " (counted only)" } else { "" })
        };
        self.opinions[side].hits.iter().map(hit).collect::<Vec<_>>().join("; ")
    }
}

/// How often a rule was hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hits {
    pub(super) old: usize,
    pub(super) new: usize,
    /// By the old policy alone.
    pub(super) lost: usize,
    /// By the new policy alone.
    pub(super) gained: usize,
}

/// All of it.
pub(super) struct Report {
    /// Name, revision and file of the old policy and the new one.
    pub(super) sides: [[String; 3]; 2],
    /// What was replayed.
    pub(super) files: Vec<(String, &'static str)>,
    pub(super) without_text: usize,
    pub(super) changes: Vec<Change>,
    /// By stage and the two decisions.
    pub(super) matrix: BTreeMap<(&'static str, &'static str, &'static str), usize>,
    pub(super) rules: BTreeMap<String, Hits>,
    pub(super) cases: Vec<Compared>,
    compared: usize,
}

impl Report {
    pub(super) fn new(
        sides: [(&View, &String); 2],
        replay: &Replay,
        changes: Vec<Change>,
        compared: Vec<Compared>,
    ) -> Self {
        let (mut matrix, mut rules) = (BTreeMap::new(), BTreeMap::<String, Hits>::new());
        for one in &compared {
            *matrix.entry((one.stage, one.words[0], one.words[1])).or_default() += 1;
            let [old, new] = one.rules();
            for rule in old.union(&new) {
                let hits = rules.entry((*rule).to_owned()).or_default();
                let (was, is) = (old.contains(rule), new.contains(rule));
                hits.old += usize::from(was);
                hits.new += usize::from(is);
                hits.lost += usize::from(was && !is);
                hits.gained += usize::from(is && !was);
            }
        }
        Self {
            sides: sides.map(|(view, path)| [view.policy.name.clone(), view.policy.revision.clone(), path.clone()]),
            files: replay.files.iter().map(|(path, kind)| (path.display().to_string(), *kind)).collect(),
            without_text: replay.without_text,
            changes,
            matrix,
            rules,
            compared: compared.len(),
            cases: compared.into_iter().filter(|one| one.differs).collect(),
        }
    }

    pub(super) fn compared(&self) -> usize {
        self.compared
    }

    pub(super) fn differing(&self) -> usize {
        self.cases.len()
    }

    /// The share of decisions that differ, in [0, 1].
    #[expect(clippy::cast_precision_loss, reason = "counts of texts")]
    pub(super) fn share(&self) -> f64 {
        self.differing() as f64 / self.compared.max(1) as f64
    }

    /// One sentence.
    pub(super) fn summary(&self) -> String {
        let mut told =
            format!("{} of {} decisions differ ({:.2} %).", self.differing(), self.compared, self.share() * 100.0);
        if self.without_text > 0 {
            let _ = write!(told, " {} cases have no text and were left out.", self.without_text);
        }
        told
    }

    pub(super) fn terminal(&self) -> String {
        /// Cases that are listed; page and JSON have all.
        const SHOWN: usize = 20;
        let mut out = String::new();
        for (word, [name, revision, path]) in ["old", "new"].iter().zip(&self.sides) {
            let _ = writeln!(out, "{word}  {path}  {name} rev {revision}");
        }
        for change in &self.changes {
            let _ = writeln!(out, "  {}: {}", change.key, change.what);
        }
        if self.changes.is_empty() {
            out.push_str("  they say the same\n");
        }
        let _ = writeln!(out, "\n{}", self.summary());
        let mut table = Table::new(&["stage", "old", "new", "texts", ""]);
        for ((stage, old, new), count) in &self.matrix {
            table.row(&[stage, old, new, &count.to_string(), if old == new { "" } else { "differs" }]);
        }
        let _ = write!(out, "\n{}", table.told());
        if !self.rules.is_empty() {
            let mut table = Table::new(&["rule", "old hits", "new hits", "no more", "newly"]);
            for (rule, hits) in &self.rules {
                let [old, new, lost, gained] = [hits.old, hits.new, hits.lost, hits.gained].map(|n| n.to_string());
                table.row(&[rule, &old, &new, &lost, &gained]);
            }
            let _ = write!(out, "\n{}", table.told());
        }
        for one in self.cases.iter().take(SHOWN) {
            let [old, new] = one.words;
            let _ = writeln!(out, "\n{}  {} ({}): {old} -> {new}", one.place, one.what, one.stage);
            for (word, side) in [("old", 0), ("new", 1)] {
                let found = one.found(side);
                if !found.is_empty() {
                    let _ = writeln!(out, "  {word}  {found}");
                }
            }
        }
        if self.cases.len() > SHOWN {
            let _ = writeln!(out, "\nand {} more (--html or --json has them all)", self.cases.len() - SHOWN);
        }
        out
    }

    pub(super) fn json(&self, content: bool) -> Value {
        let side = |[name, revision, path]: &[String; 3]| json!({"policy": name, "revision": revision, "file": path});
        let matrix = self
            .matrix
            .iter()
            .map(|((stage, old, new), count)| json!({"stage": stage, "old": old, "new": new, "texts": count}));
        let rules = self.rules.iter().map(|(rule, hits)| {
            json!({"rule": rule, "old": hits.old, "new": hits.new, "lost": hits.lost, "gained": hits.gained})
        });
        let cases = self.cases.iter().map(|one| {
            let texts: Vec<CaseText> = one
                .texts
                .iter()
                .map(|text| CaseText { text: text.text.clone().filter(|_| content), ..text.clone() })
                .collect();
            json!({
                "place": one.place,
                "what": one.what,
                "stage": one.stage,
                "old": {"action": one.words[0], "hits": one.opinions[0].hits},
                "new": {"action": one.words[1], "hits": one.opinions[1].hits},
                "texts": texts,
            })
        });
        json!({
            "old": side(&self.sides[0]),
            "new": side(&self.sides[1]),
            "replayed": self.files.iter().map(|(file, kind)| json!({"file": file, "holds": kind})).collect::<Vec<_>>(),
            "compared": self.compared,
            "differing": self.differing(),
            "without_text": self.without_text,
            "changes": self.changes.iter().map(|change| json!({"key": change.key, "what": change.what})).collect::<Vec<_>>(),
            "decisions": matrix.collect::<Vec<_>>(),
            "rules": rules.collect::<Vec<_>>(),
            "cases": cases.collect::<Vec<_>>(),
        })
    }
}
