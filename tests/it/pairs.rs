//! `wardline pairs`: the binary over files of rows.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use wardline::pairs::{Answers, Consent, Draft, GuardScore, Row, Source, Tag};

fn draft(number: usize, answers: Answers) -> Draft {
    Draft {
        prompt: vec![json!({"role": "user", "content": format!("Question {number}?")})],
        answers,
        tools: None,
        request_id: format!("req_{number}"),
        source: Source::Revision,
        principle_id: Some("kind".to_owned()),
        critique: Some("It demeans.".to_owned()),
        policy: "default".to_owned(),
        policy_rev: "9f2c1e7".to_owned(),
        constitution: "Be kind.".to_owned(),
        model: "m".to_owned(),
        provider: "openai".to_owned(),
        guards: vec![GuardScore {
            id: "harm".to_owned(),
            stage: "output".to_owned(),
            score: Some(0.9),
            threshold: Some(0.5),
        }],
        sample_rate: 1.0,
        redaction: "pii_v1",
        consent: Consent::Operator,
        tenant: None,
        user: None,
        word: None,
        judgement: None,
        tags: Vec::new(),
    }
}

fn pair(number: usize, chosen: f32, tags: &[Tag]) -> Row {
    let answers = Answers::Both {
        chosen: ("You matter.".into(), Some(chosen)),
        rejected: ("You are worthless.".into(), Some(0.9)),
    };
    Draft { tags: tags.to_vec(), ..draft(number, answers) }.into_row(&|_| None)
}

fn blocked(number: usize) -> Row {
    let answers = Answers::Refused(("You are worthless.".into(), Some(0.9)));
    Draft { source: Source::Block, critique: None, ..draft(number, answers) }.into_row(&|_| None)
}

fn lines(rows: &[Row]) -> String {
    rows.iter().map(|row| serde_json::to_string(row).unwrap() + "\n").collect()
}

/// A spool of 3 clean pairs, one too close, one doubtful, one twice, and a blocked answer; packed in three ways.
fn spool() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let first = lines(&[pair(1, 0.1, &[]), pair(2, 0.1, &[]), pair(3, 0.1, &[])]);
    std::fs::write(dir.path().join("pairs-1.jsonl"), first).unwrap();
    let second = lines(&[pair(4, 0.45, &[]), pair(5, 0.1, &[Tag::Truncated]), pair(1, 0.1, &[])]);
    std::fs::write(dir.path().join("pairs-2.jsonl.zst"), zstd::encode_all(second.as_bytes(), 3).unwrap()).unwrap();
    std::fs::write(dir.path().join("unpaired-1.jsonl"), lines(&[blocked(6)])).unwrap();
    dir
}

fn run(arguments: &[&str], paths: &[&Path]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wardline"));
    command.arg("pairs").args(arguments).args(paths).env("ORT_DISABLE_TELEMETRY", "1");
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn stats_count_what_is_there() {
    let dir = spool();
    let (code, out, err) = run(&["stats"], &[dir.path()]);
    assert_eq!((code, err.as_str()), (0, ""));
    for words in
        ["7 rows: 6 pairs, 1 unpaired", "the same words again        1", "  truncated", "  revision  ", "  block  "]
    {
        assert!(out.contains(words), "{words}\n{out}");
    }
    let (_, out, _) = run(&["stats", "--margin", "0.4"], &[dir.path()]);
    assert!(out.contains("clean                       6") || out.contains("clean                       5"), "{out}");
}

#[test]
fn an_export_takes_clean_rows_and_tells_what_it_left() {
    let dir = spool();
    let (code, out, err) = run(&["export", "--format", "trl", "--margin", "0.5"], &[dir.path()]);
    assert_eq!(code, 0, "{err}");
    let rows = json_lines(&out);
    assert_eq!(rows.len(), 4, "three and the repeated one");
    assert_eq!(
        rows[0],
        json!({"prompt": [{"role": "user", "content": "Question 1?"}], "chosen": [{"role": "assistant", "content": "You matter."}], "rejected": [{"role": "assistant", "content": "You are worthless."}]})
    );
    for words in ["7 rows read, 4 lines written as trl", "margin too small", "truncated", "no pair"] {
        assert!(err.contains(words), "{words}\n{err}");
    }
    let (_, out, _) = run(&["export", "--format", "trl", "--include", "truncated,aborted"], &[dir.path()]);
    assert_eq!(json_lines(&out).len(), 6);
    let (_, out, _) = run(&["export", "--format", "kto", "--margin", "0.5"], &[dir.path()]);
    let labels: Vec<bool> = json_lines(&out).iter().map(|row| row["label"].as_bool().unwrap()).collect();
    assert_eq!(labels, [true, false, true, false, true, false, true, false, false]);
}

#[test]
fn every_format_writes_a_file_that_is_whole_or_not_there() {
    let dir = spool();
    let out = tempfile::tempdir().unwrap();
    for format in ["trl", "openai-dpo", "llama-factory", "axolotl", "kto", "sft", "hh"] {
        let file = out.path().join(format!("{format}.jsonl.gz"));
        let (code, screen, err) = run(&["export", "--format", format, "--out", file.to_str().unwrap()], &[dir.path()]);
        assert_eq!((code, screen.as_str()), (0, ""), "{err}");
        let mut text = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(std::fs::File::open(file).unwrap()), &mut text)
            .unwrap();
        assert!(json_lines(&text).len() >= 4, "{format}");
    }
    let info: Value = serde_json::from_slice(&std::fs::read(out.path().join("dataset_info.json")).unwrap()).unwrap();
    assert_eq!(info["llama-factory"]["file_name"], "llama-factory.jsonl.gz");
    let names = |dir: &Path| {
        let mut names: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        names
    };
    let before = names(out.path());
    std::fs::write(dir.path().join("pairs-3.jsonl"), "no row\n").unwrap();
    let file = out.path().join("never.jsonl");
    let (code, _, err) = run(&["export", "--format", "trl", "--out", file.to_str().unwrap()], &[dir.path()]);
    assert_eq!((code, names(out.path())), (1, before), "{err}");
    assert!(err.contains("pairs-3.jsonl:1: no JSON (at column 2)"), "{err}");
}

#[test]
fn rows_with_the_same_words_are_written_once() {
    let dir = spool();
    let out = dir.path().join("once.jsonl");
    let (code, _, err) = run(
        &["dedupe", "--out", out.to_str().unwrap()],
        &[&dir.path().join("pairs-1.jsonl"), &dir.path().join("pairs-2.jsonl.zst")],
    );
    assert_eq!((code, err.as_str()), (0, "5 rows written, 1 with the same words left out\n"));
    let ids: Vec<Value> = json_lines(&std::fs::read_to_string(out).unwrap())
        .iter()
        .map(|row| row["meta"]["request_id"].clone())
        .collect();
    assert_eq!(ids, ["req_1", "req_2", "req_3", "req_4", "req_5"]);
}

#[test]
fn mistakes_have_file_and_line_and_the_exit_code_tells() {
    let dir = spool();
    assert_eq!(run(&["validate"], &[dir.path()]).0, 0);
    let mut spoilt: Value = serde_json::to_value(pair(7, 0.1, &[])).unwrap();
    spoilt["chosen"] = spoilt["rejected"].clone();
    let good = lines(&[pair(8, 0.1, &[])]);
    let text = format!("{good}\n{spoilt}\n{{\"prompt\": 1}}\n{}", &good[..50]);
    std::fs::write(dir.path().join("pairs-9.jsonl"), text).unwrap();
    let (code, out, err) = run(&["validate"], &[dir.path()]);
    assert_eq!((code, out.as_str()), (1, ""));
    for words in [
        "pairs-9.jsonl:3: chosen and rejected are the same answer",
        "pairs-9.jsonl:4: no row: a column is missing or of another kind",
        "pairs-9.jsonl:5: the line is torn",
        "error: 3 mistakes in 11 rows",
    ] {
        assert!(err.contains(words), "{words}\n{err}");
    }
    assert!(!err.contains("worthless"), "{err}");
}

#[test]
fn what_cannot_be_done_is_said_before_anything_is_written() {
    let dir = spool();
    let nowhere = dir.path().join("nowhere");
    let (code, _, err) = run(&["stats"], &[&nowhere]);
    assert_eq!(code, 64);
    assert!(err.starts_with("error: ") && err.contains("nowhere"), "{err}");
    let empty = tempfile::tempdir().unwrap();
    let (code, _, err) = run(&["export", "--format", "sft"], &[empty.path()]);
    assert_eq!((code, err.contains("expected files that end in .jsonl")), (64, true), "{err}");
    let out = nowhere.join("out.jsonl");
    let (code, _, err) = run(&["dedupe", "--out", out.to_str().unwrap()], &[dir.path()]);
    assert_eq!((code, err.contains("out.jsonl")), (64, true), "{err}");
    let (code, _, err) = run(&["export", "--format", "trl", "--margin", "2"], &[dir.path()]);
    assert!(code != 0 && err.contains("expected a number from 0 to 1"), "{err}");
}
