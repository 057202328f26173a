//! What counts for which figure, with scores that are set by hand.

use std::collections::BTreeMap;
use std::io::Write;

use super::rows::{self, Row};
use super::*;
use crate::api::Origin;
use crate::classify::{Label, ScoreError, Scores};

fn labels() -> Vec<Label> {
    let label = |head: &str, name: &str, threshold: f32| Label {
        head: head.to_owned(),
        name: name.to_owned(),
        thresholds: BTreeMap::from([("fpr_1".to_owned(), threshold)]),
    };
    vec![label("prompt_attack", "attack", 0.5), label("harm", "hate", 0.5), label("harm", "illicit", 0.25)]
}

fn row(task: &str, labels: &[&str], source: &str, annotated: Option<&[&str]>) -> Row {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    Row {
        file: 0,
        line: 1,
        task: task.to_owned(),
        labels: owned(labels),
        annotated: annotated.map(owned),
        source: source.to_owned(),
        split: None,
        lang: "en".to_owned(),
        kind: None,
        origin: Origin::User,
        text: "some text".to_owned(),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "has the shape of a backend's answer")]
fn scored(values: [f32; 3]) -> Scored {
    Ok(Scores { values: values.to_vec(), windows: 1, tokens: 2 })
}

fn figures(rows: &[Row], scores: &[Scored]) -> serde_json::Value {
    let targets = Targets::new(&labels(), rows).unwrap();
    let settings = Settings { rounds: 20, seed: 1 };
    let run =
        Run { command: String::new(), model: Default::default(), sources: Vec::new(), asked: rows.len(), settings };
    Report::new(run, &targets, (rows, scores), &[], &[]).json()
}

fn figure<'a>(report: &'a serde_json::Value, target: &str) -> Option<&'a serde_json::Value> {
    report["figures"].as_array().unwrap().iter().find(|figure| figure["by"] == "all" && figure["target"] == target)
}

#[test]
fn a_category_that_nobody_looked_for_counts_neither_way() {
    let partial: Option<&[&str]> = Some(&["hate"]);
    let rows = [
        row("harm", &["hate"], "partial", partial),
        row("harm", &[], "partial", partial),
        row("harm", &["illicit"], "whole", None),
        row("harm", &["hate"], "whole", None),
        row("harm", &[], "whole", None),
        row("prompt_attack", &[], "prompts", None),
    ];
    let scores = [[0.0, 0.9, 0.0], [0.0, 0.1, 0.9], [0.0, 0.2, 0.3], [0.0, 0.8, 0.0], [0.0, 0.3, 0.1], [0.9, 0.0, 0.0]];
    let report = figures(&rows, &scores.map(scored));
    let counts = |target: &str| figure(&report, target).map(|f| (f["rows"].clone(), f["positives"].clone())).unwrap();
    assert_eq!(counts("harm.any"), (5.into(), 3.into()));
    assert_eq!(counts("harm.hate"), (4.into(), 2.into()), "illicit alone says nothing of hate");
    assert_eq!(counts("harm.illicit"), (2.into(), 1.into()), "where only hate was annotated, illicit is unknown");
    assert_eq!(counts("prompt_attack.attack"), (1.into(), 0.into()));
    // The harmless row of `partial` has a high illicit score, which nobody there could contradict.
    let alarms = |target: &str| figure(&report, target).unwrap()["at"]["fpr_1"]["alarms"].clone();
    assert_eq!((alarms("harm.any"), alarms("harm.any_unmasked")), (0.into(), 1.into()));
    let flagged = &report["harmless_flagged"];
    assert_eq!(flagged[1]["source"], "prompts");
    assert_eq!(flagged[1]["at"]["fpr_1"], serde_json::json!({"any": 1, "harm": 0, "prompt_attack": 1}));
}

#[test]
fn a_row_without_a_score_is_left_out_and_told() {
    let rows = [row("harm", &["hate"], "a", None), row("harm", &[], "a", None)];
    let report = figures(&rows, &[scored([0.0, 0.9, 0.0]), Err(ScoreError::Overloaded)]);
    assert_eq!(report["unscored"].as_array().unwrap().len(), 1);
    assert_eq!(figure(&report, "harm.any").unwrap()["rows"], 1);
}

#[test]
fn a_task_without_a_head_is_refused() {
    let harm_only: Vec<Label> = labels().into_iter().filter(|label| label.head == "harm").collect();
    let error = Targets::new(&harm_only, &[row("prompt_attack", &[], "a", None)]).unwrap_err();
    assert_eq!((error.task.as_str(), error.heads.as_str()), ("prompt_attack", "harm"));
}

#[test]
fn flags_are_scores_at_or_over_the_threshold() {
    assert_eq!(flags(&labels(), &[0.5, 0.499, 0.3], "fpr_1"), ["prompt_attack.attack", "harm.illicit"]);
    assert!(flags(&labels(), &[1.0, 1.0, 1.0], "fpr_9").is_empty());
}

#[test]
fn plain_and_zipped_files_hold_the_same_rows() {
    let text = "{\"task\":\"harm\",\"label\":[\"hate\"],\"text\":\"a\",\"side\":\"output\",\"annotated\":[\"hate\"]}\n\n\
                {\"task\":\"prompt_attack\",\"label\":\"benign\",\"text\":\"b\",\"origin\":\"tool_result\",\"source\":\"s\"}";
    let dir = tempfile::tempdir().unwrap();
    let (plain, zipped) = (dir.path().join("set.jsonl"), dir.path().join("set.jsonl.gz"));
    std::fs::write(&plain, text).unwrap();
    let mut encoder =
        flate2::write::GzEncoder::new(std::fs::File::create(&zipped).unwrap(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap();
    let (source, found) = rows::read(&plain, 0).unwrap();
    assert_eq!(found, rows::read(&zipped, 0).unwrap().1);
    let facts: Vec<_> = found.iter().map(|row| (row.line, row.source.as_str(), row.origin)).collect();
    assert_eq!(facts, [(1, "set", Origin::Output), (3, "s", Origin::ToolResult)]);
    assert_eq!((source.rows, source.sha256.len()), (2, 64));
    std::fs::write(&zipped, &std::fs::read(&zipped).unwrap()[..20]).unwrap();
    assert!(rows::read(&zipped, 0).unwrap_err().to_string().contains("set.jsonl.gz"));
}
