//! The report: figures with what they were measured on, as markdown for people and JSON for machines.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::bootstrap::Estimate;
use super::figures::{self, At, Figure, Group, Pair, Ranks, Settings};
use super::floor::{Floor, Held};
use super::obfuscate::Obfuscation;
use super::rows::{Row, Source};
use super::scoring::Scored;
use super::targets::Targets;

mod markdown;

/// What a run was.
#[derive(Clone, Debug)]
pub struct Run {
    /// The command that made it.
    pub command: String,
    /// The model's name, revision and device.
    pub model: [String; 3],
    /// The files that were read.
    pub sources: Vec<Source>,
    /// Rows in them that were asked for, before a sample was drawn.
    pub asked: usize,
    /// How intervals were drawn.
    pub settings: Settings,
}

/// All figures of a run.
#[derive(Clone, Debug)]
pub struct Report {
    run: Run,
    rows: usize,
    figures: Vec<Figure>,
    flagged: Vec<Flagged>,
    unscored: Vec<Unscored>,
    floors: Vec<Held>,
}

/// Texts of one source that are harmless for the task that they are labelled for, and what flags them.
#[derive(Clone, Debug)]
struct Flagged {
    source: String,
    rows: u32,
    /// By threshold: by head, and `any`.
    at: BTreeMap<String, BTreeMap<String, u32>>,
}

/// A row that no score could be had for.
#[derive(Clone, Debug)]
struct Unscored {
    file: usize,
    line: usize,
    reason: String,
}

impl Report {
    /// Counts. `scored` has a result a row; so has each of `obfuscated`, whose rows are those rows, obfuscated.
    pub fn new(
        run: Run,
        targets: &Targets,
        (rows, scored): (&[Row], &[Scored]),
        obfuscated: &[(Obfuscation, Vec<Row>, Vec<Scored>)],
        floors: &[Floor],
    ) -> Self {
        let plain = pairs(rows, scored);
        let mut all = figures::measure(targets, &plain, run.settings);
        for (obfuscation, rows, scored) in obfuscated {
            let group = of_obfuscation(*obfuscation);
            all.extend(figures::of_group(targets, &group, &pairs(rows, scored), run.settings));
        }
        let failed = rows.iter().zip(scored).filter_map(|(row, scored)| {
            let reason = scored.as_ref().err()?.to_string();
            Some(Unscored { file: row.file, line: row.line, reason })
        });
        Self {
            rows: rows.len(),
            flagged: flagged(targets, &plain),
            unscored: failed.collect(),
            floors: floors.iter().map(|floor| floor.hold(&all)).collect(),
            figures: all,
            run,
        }
    }

    /// The groups that a report on these rows will have.
    pub fn groups(rows: &[Row], obfuscations: &[Obfuscation]) -> Vec<Group> {
        let mut groups: Vec<Group> = rows.iter().flat_map(figures::groups).collect();
        groups.sort();
        groups.dedup();
        groups.extend(obfuscations.iter().copied().map(of_obfuscation));
        groups
    }

    /// The floors and what was found.
    pub fn floors(&self) -> &[Held] {
        &self.floors
    }

    /// Rows without a score: how many, and the first one's place and reason.
    pub fn unscored(&self) -> Option<(usize, String)> {
        let first = self.unscored.first()?;
        Some((self.unscored.len(), format!("{}: {}", self.place(first), first.reason)))
    }

    /// Tables.
    pub fn markdown(&self) -> String {
        markdown::render(self)
    }

    /// Everything that was counted.
    pub fn json(&self) -> Value {
        let [name, revision, device] = &self.run.model;
        let files = self.run.sources.iter().map(
            |source| json!({"file": source.path.display().to_string(), "sha256": source.sha256, "rows": source.rows}),
        );
        json!({
            "wardline": env!("CARGO_PKG_VERSION"),
            "command": self.run.command,
            "model": {"name": name, "revision": revision, "device": device},
            "files": files.collect::<Vec<_>>(),
            "asked": self.run.asked,
            "rows": self.rows,
            "seed": self.run.settings.seed,
            "rounds": self.run.settings.rounds,
            "unscored": self.unscored.iter()
                .map(|row| json!({"row": self.place(row), "reason": row.reason})).collect::<Vec<_>>(),
            "figures": self.figures.iter().map(figure).collect::<Vec<_>>(),
            "harmless_flagged": self.flagged.iter().map(|flagged| {
                json!({"source": flagged.source, "rows": flagged.rows, "at": flagged.at})
            }).collect::<Vec<_>>(),
            "floors": self.floors.iter().map(|held| {
                json!({"name": held.name, "least": held.least, "found": held.found, "reached": held.is_reached()})
            }).collect::<Vec<_>>(),
        })
    }

    fn place(&self, row: &Unscored) -> String {
        let path = self.run.sources.get(row.file).map(|source| source.path.display().to_string());
        format!("{}:{}", path.unwrap_or_default(), row.line)
    }
}

fn pairs<'a>(rows: &'a [Row], scored: &'a [Scored]) -> Vec<Pair<'a>> {
    let both = rows.iter().zip(scored);
    both.filter_map(|(row, scored)| Some((row, scored.as_ref().ok()?.values.as_slice()))).collect()
}

fn of_obfuscation(obfuscation: Obfuscation) -> Group {
    Group { by: "obfuscation", value: obfuscation.to_string() }
}

fn flagged(targets: &Targets, pairs: &[Pair<'_>]) -> Vec<Flagged> {
    let heads = targets.heads();
    let mut sources = BTreeMap::<&str, Vec<Pair<'_>>>::new();
    for pair in pairs.iter().filter(|(row, _)| row.labels.is_empty()) {
        sources.entry(&pair.0.source).or_default().push(*pair);
    }
    let of_source = |(source, pairs): (&str, Vec<Pair<'_>>)| {
        let at = targets.thresholds().into_iter().map(|threshold| {
            let by = |target| {
                let flags = pairs.iter().map(|(row, values)| targets.flagged(target, row, values, &threshold));
                flags.collect::<Vec<bool>>()
            };
            let by_head: Vec<(&str, Vec<bool>)> =
                heads.iter().map(|target| (target.head.as_str(), by(*target))).collect();
            let any = (0..pairs.len()).map(|at| by_head.iter().any(|(_, flags)| flags[at]));
            let mut counts = BTreeMap::from([("any".to_owned(), figures::count(any))]);
            counts.extend(by_head.iter().map(|(h, flags)| ((*h).to_owned(), figures::count(flags.iter().copied()))));
            (threshold, counts)
        });
        Flagged { source: source.to_owned(), at: at.collect(), rows: figures::count(pairs.iter().map(|_| true)) }
    };
    sources.into_iter().map(of_source).collect()
}

fn figure(figure: &Figure) -> Value {
    let at: Map<String, Value> = figure
        .at
        .iter()
        .map(|(name, At { recall, hits, fpr, alarms })| {
            let at = json!({"recall": estimate(*recall), "hits": hits, "fpr": estimate(*fpr), "alarms": alarms});
            (name.clone(), at)
        })
        .collect();
    json!({
        "by": figure.group.by, "value": figure.group.value, "target": figure.target,
        "rows": figure.rows, "positives": figure.positives,
        "score": ranks(&figure.ranks), "length_only": ranks(&figure.length), "at": at,
    })
}

fn ranks(ranks: &Ranks) -> Value {
    json!({
        "auroc": estimate(ranks.auroc), "auprc": estimate(ranks.auprc), "recall_at_1_fpr": estimate(ranks.recall),
    })
}

fn estimate(estimate: Option<Estimate>) -> Value {
    let six = |value: f64| (value * 1e6).round() / 1e6;
    estimate.map_or(
        Value::Null,
        |Estimate { value, low, high }| json!({"value": six(value), "low": six(low), "high": six(high)}),
    )
}
