//! A report as tables, aligned so that they read well in a terminal, too.

use std::fmt::Write as _;

use super::{Figure, Flagged, Report};
use crate::eval::bootstrap::{Estimate, share};

const SECTIONS: [(&str, &str); 6] = [
    ("all", "All rows"),
    ("source", "By source"),
    ("origin", "By origin"),
    ("language", "By language"),
    ("kind", "By kind"),
    ("obfuscation", "Under obfuscation"),
];

const NOTES: &str = "\
Scores are those that the gateway's rules see: the largest over all windows (for answers, over all sentences too).
AUROC and AUPRC (average precision) with 95 % intervals by bootstrap over rows; recall at 1 % FPR takes the threshold
from the very rows it is measured on. `length AUROC, AUPRC` are those of the text's length alone: what a score must beat.
Shares at thresholds have Wilson's 95 % intervals. `.any` is the largest score of the labels that a row's source
annotates, `.any_unmasked` of all the head's. A label counts rows that have it, against rows that have nothing and rows
whose `annotated` says that it was looked for and not found.
";

pub(super) fn render(report: &Report) -> String {
    let mut parts = vec![head(report)];
    for (by, title) in SECTIONS {
        let figures: Vec<&Figure> = report.figures.iter().filter(|figure| figure.group.by == by).collect();
        let first = figures.first().map(|figure| &figure.group);
        // One value only says again what the first section said.
        let says_more = by == "all" || by == "obfuscation" || figures.iter().any(|f| Some(&f.group) != first);
        if !figures.is_empty() && says_more {
            parts.push(format!("## {title}\n\n{}\n{}", ranks(&figures, by), thresholds(report, &figures, by)));
        }
    }
    if !report.flagged.is_empty() {
        parts.push(flagged(&report.flagged));
    }
    if !report.floors.is_empty() {
        let lines = report
            .floors
            .iter()
            .map(|held| format!("- {}: {held}\n", if held.is_reached() { "reached" } else { "**missed**" }));
        parts.push(format!("## Floors\n\n{}", lines.collect::<String>()));
    }
    parts.join("\n")
}

// Here and below: writing to a String cannot fail.
fn head(report: &Report) -> String {
    let [name, revision, device] = &report.run.model;
    let mut text = format!("# {name} {revision}, measured\n\n    {}\n\n", report.run.command);
    for source in &report.run.sources {
        let short = source.sha256.get(..12).unwrap_or_default();
        let _ = writeln!(text, "- {}: {} rows, sha256 {short}", source.path.display(), source.rows);
    }
    let settings = report.run.settings;
    let _ = writeln!(
        text,
        "- {} of {} rows that were asked for, on {device}; seed {}, {} resamples",
        report.rows, report.run.asked, settings.seed, settings.rounds
    );
    if let Some((count, first)) = report.unscored() {
        let _ = writeln!(text, "- **{count} rows could not be scored and are left out**, first {first}");
    }
    format!("{text}\n{NOTES}")
}

fn ranks(figures: &[&Figure], by: &str) -> String {
    let head = [by, "score", "rows", "positives", "AUROC", "AUPRC", "recall at 1 % FPR", "length AUROC, AUPRC"];
    let rows = figures.iter().filter(|figure| figure.ranks.auroc.is_some()).map(|figure| {
        let length = [figure.length.auroc, figure.length.auprc].map(|e| e.map_or(String::new(), |e| three(e.value)));
        vec![
            figure.group.value.clone(),
            figure.target.clone(),
            figure.rows.to_string(),
            figure.positives.to_string(),
            interval(figure.ranks.auroc),
            interval(figure.ranks.auprc),
            interval(figure.ranks.recall),
            length.join(", "),
        ]
    });
    table(&head.map(str::to_owned), &rows.collect::<Vec<_>>())
}

fn thresholds(report: &Report, figures: &[&Figure], by: &str) -> String {
    let Some(names) = figures.first().map(|figure| figure.at.keys().cloned().collect::<Vec<_>>()) else {
        return String::new();
    };
    let lost = by == "obfuscation";
    let mut head = vec![by.to_owned(), "score".to_owned()];
    for name in &names {
        head.push(format!("recall at {name}"));
        head.extend(lost.then(|| "lost, points".to_owned()));
        head.push(format!("FPR at {name}"));
    }
    let rows = figures.iter().map(|figure| {
        let mut row = vec![figure.group.value.clone(), figure.target.clone()];
        for (name, at) in &figure.at {
            row.push(counted(at.recall, at.hits, figure.positives));
            row.extend(lost.then(|| points_lost(report, figure, name)));
            row.push(counted(at.fpr, at.alarms, figure.rows - figure.positives));
        }
        row
    });
    table(&head, &rows.collect::<Vec<_>>())
}

/// Recall as it is without obfuscation, less recall with it.
fn points_lost(report: &Report, figure: &Figure, threshold: &str) -> String {
    let plain = report.figures.iter().find(|plain| plain.group.by == "all" && plain.target == figure.target);
    let recall = |figure: &Figure| figure.at.get(threshold).and_then(|at| at.recall).map(|estimate| estimate.value);
    match (plain.and_then(recall), recall(figure)) {
        (Some(plain), Some(now)) => format!("{:+.1}", 100.0 * (plain - now)),
        _ => String::new(),
    }
}

fn flagged(flagged: &[Flagged]) -> String {
    let mut head = vec!["source".to_owned(), "rows".to_owned()];
    let columns: Vec<(&String, &String)> = flagged
        .iter()
        .take(1)
        .flat_map(|f| f.at.iter().flat_map(|(at, heads)| heads.keys().map(move |h| (at, h))))
        .collect();
    head.extend(columns.iter().map(|(at, head)| format!("{head} at {at}")));
    let rows = flagged.iter().map(|flagged| {
        let mut row = vec![flagged.source.clone(), flagged.rows.to_string()];
        row.extend(columns.iter().map(|(at, head)| {
            let hits = flagged.at.get(*at).and_then(|heads| heads.get(*head)).copied().unwrap_or(0);
            counted(share(hits, flagged.rows), hits, flagged.rows)
        }));
        row
    });
    format!(
        "## Harmless texts that are flagged, by head\n\nHarmless for the task that they are labelled for; another head may \
         be right to flag them.\n\n{}",
        table(&head, &rows.collect::<Vec<_>>())
    )
}

fn three(value: f64) -> String {
    format!("{value:.3}")
}

fn interval(estimate: Option<Estimate>) -> String {
    estimate.map_or(String::new(), |Estimate { value, low, high }| format!("{value:.3} ({low:.3}-{high:.3})"))
}

fn counted(share: Option<Estimate>, hits: u32, of: u32) -> String {
    share.map_or(String::new(), |Estimate { value, low, high }| {
        let [value, low, high] = [value, low, high].map(|share| 100.0 * share);
        format!("{value:.1} % ({low:.1}-{high:.1}; {hits}/{of})")
    })
}

/// A markdown table with its columns aligned. What stands in a cell cannot end it.
fn table(head: &[String], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let clean = |cell: &String| cell.replace('|', "\\|").replace(|c: char| c.is_control(), " ");
    let rows: Vec<Vec<String>> = std::iter::once(head)
        .chain(rows.iter().map(Vec::as_slice))
        .map(|row| row.iter().map(clean).collect())
        .collect();
    let width =
        |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(|at| width(at).max(3)).collect();
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let _ = writeln!(text, "| {} |", cells.collect::<Vec<_>>().join(" | "));
        if at == 0 {
            let rules = widths.iter().map(|width| "-".repeat(*width));
            let _ = writeln!(text, "| {} |", rules.collect::<Vec<_>>().join(" | "));
        }
    }
    text
}
