//! What is replayed: texts as they were recorded or labelled, whatever wrote them down.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde_json::Value;

use crate::api::{Dialect, Origin};
use crate::cli::Failed;
use crate::eval::rows::{self, Row};
use crate::guard::{About, Case, Exhibit, Stage};
use crate::pairs::{self, ReadError, Reading};

/// Texts that are decided on together: a prompt with all its messages, or an answer.
#[derive(Clone, Debug)]
pub(super) struct Item {
    file: Arc<Path>,
    line: u64,
    /// What it is there: `case`, `prompt`, `chosen`, `rejected`, `completion`, or what a labelled text is labelled as.
    pub(super) what: String,
    pub(super) stage: Stage,
    pub(super) about: About,
    texts: Vec<(Origin, String)>,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Replay {
    pub(super) items: Vec<Item>,
    /// Cases whose texts were not kept.
    pub(super) without_text: usize,
    /// The files, each with what it holds.
    pub(super) files: Vec<(PathBuf, &'static str)>,
}

impl Item {
    pub(super) fn exhibits(&self) -> Vec<Exhibit> {
        self.texts.iter().map(|(origin, text)| Exhibit::whole(self.stage, *origin, text.clone())).collect()
    }

    /// File and line.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.file.display(), self.line)
    }
}

impl Replay {
    pub(super) fn read(paths: &[PathBuf], limit: Option<usize>) -> Result<Self, Failed> {
        let mut replay = Self::default();
        for path in paths {
            for file in pairs::files(path).map_err(|error| Failed::Told(error.to_string()))? {
                replay.file(&file)?;
            }
        }
        replay.items.truncate(limit.unwrap_or(usize::MAX));
        if replay.items.is_empty() && replay.without_text > 0 {
            let message = "--replay: its cases have no texts (rollouts.content keeps them: `redacted` or `full`)";
            return Err(Failed::Told(message.to_owned()));
        }
        if replay.items.is_empty() { Err(Failed::Told("--replay: no rows".to_owned())) } else { Ok(replay) }
    }

    fn file(&mut self, path: &Path) -> Result<(), Failed> {
        let told = |error: ReadError| Failed::Told(error.to_string());
        let mut reading = Reading::open(path, Arc::new(AtomicU64::new(0))).map_err(told)?;
        let mut kind = None;
        while let Some(row) = reading.next_as::<Value>() {
            let row = row.map_err(told)?;
            let found = kind_of(&row).ok_or_else(|| {
                let reason = "expected a case of a roll-out (`old`, `new`, `texts`), a row of the pair spool (`prompt` and \
                              `chosen` or `completion`) or a labelled text (`task`, `label`, `text`)";
                told(reading.mistake(reason))
            })?;
            if *kind.get_or_insert(found) != found {
                return Err(told(reading.mistake(format!("a file of {} holds no other rows", kind.unwrap_or(found)))));
            }
            if found == "labelled texts" {
                return self.labelled(path);
            }
            let line = reading.line();
            let taken = if found == "cases" { self.case(path, line, row) } else { self.pair(path, line, &row) };
            taken.map_err(|error| told(reading.mistake(error.to_string())))?;
        }
        self.files.push((path.to_owned(), kind.unwrap_or("nothing")));
        Ok(())
    }

    fn labelled(&mut self, path: &Path) -> Result<(), Failed> {
        let (_, rows) = rows::read(path, 0).map_err(|error| Failed::Told(error.to_string()))?;
        let file: Arc<Path> = path.into();
        self.files.push((path.to_owned(), "labelled texts"));
        self.items.extend(rows.into_iter().map(|row| {
            let Row { line, task, labels, origin, text, .. } = row;
            let label = if labels.is_empty() { "benign".to_owned() } else { labels.join(", ") };
            let answer = matches!(origin, Origin::Output | Origin::Reasoning);
            let stage = if answer { Stage::Output } else { Stage::Input };
            let (line, what) = (line as u64, format!("{task}: {label}"));
            Item { file: Arc::clone(&file), line, what, stage, about: chat(), texts: vec![(origin, text)] }
        }));
        Ok(())
    }

    fn case(&mut self, path: &Path, line: u64, row: Value) -> Result<(), serde_json::Error> {
        let case: Case = serde_json::from_value(row)?;
        let stage = if case.stage == "output" { Stage::Output } else { Stage::Input };
        let about = About { route: route(&case.route), ..About::default() };
        let known =
            |name: &str| Origin::ALL.into_iter().find(|origin| origin.as_str() == name).unwrap_or(Origin::Other);
        let texts: Option<Vec<(Origin, String)>> =
            case.texts.into_iter().map(|text| Some((known(&text.origin), text.text?))).collect();
        match texts {
            Some(texts) => {
                let what = format!("case of {}", case.request_id);
                self.items.push(Item { file: path.into(), line, what, stage, about, texts });
            }
            None => self.without_text += 1,
        }
        Ok(())
    }

    fn pair(&mut self, path: &Path, line: u64, row: &Value) -> Result<(), serde_json::Error> {
        let row = pairs::Row::read(row.to_string().as_bytes())?;
        let meta = row.meta();
        let (model, tenant) = (meta.model.clone(), meta.tenant.clone().unwrap_or_default());
        let about = About { tenant, model, ..chat() };
        let mut item = |what: &str, stage, messages: &[Value]| {
            let texts: Vec<(Origin, String)> = messages.iter().flat_map(|message| said(message, stage)).collect();
            if !texts.is_empty() {
                let (about, what) = (about.clone(), what.to_owned());
                self.items.push(Item { file: path.into(), line, what, stage, about, texts });
            }
        };
        item("prompt", Stage::Input, row.prompt());
        match &row {
            pairs::Row::Pair(pair) => {
                item("chosen", Stage::Output, &pair.chosen);
                item("rejected", Stage::Output, &pair.rejected);
            }
            pairs::Row::Unpaired(unpaired) => item("completion", Stage::Output, &unpaired.completion),
        }
        Ok(())
    }
}

fn kind_of(row: &Value) -> Option<&'static str> {
    let has = |names: &[&str]| names.iter().all(|name| row.get(name).is_some());
    if has(&["old", "new", "texts"]) {
        Some("cases")
    } else if has(&["prompt", "chosen"]) || has(&["prompt", "completion"]) {
        Some("preference rows")
    } else {
        has(&["task", "text"]).then_some("labelled texts")
    }
}

fn chat() -> About {
    About { route: route("chat"), ..About::default() }
}

fn route(name: &str) -> &'static str {
    Dialect::ALL.map(Dialect::route).into_iter().find(|route| *route == name).unwrap_or("chat")
}

/// The texts of a message in `OpenAI`'s shape.
fn said(message: &Value, stage: Stage) -> Vec<(Origin, String)> {
    let origin = match message["role"].as_str().unwrap_or_default() {
        _ if stage == Stage::Output => Origin::Output,
        "system" => Origin::System,
        "developer" => Origin::Developer,
        "assistant" => Origin::Assistant,
        "tool" | "function" => Origin::ToolResult,
        _ => Origin::User,
    };
    let mut texts: Vec<(Origin, String)> = match &message["content"] {
        Value::String(text) => vec![(origin, text.clone())],
        Value::Array(parts) => {
            parts.iter().filter_map(|part| Some((origin, part["text"].as_str()?.to_owned()))).collect()
        }
        _ => Vec::new(),
    };
    let calls = message["tool_calls"].as_array().into_iter().flatten();
    texts.extend(calls.filter_map(|call| Some((Origin::ToolArgs, call["function"]["arguments"].as_str()?.to_owned()))));
    texts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(lines: &[Value]) -> Result<Replay, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.jsonl");
        std::fs::write(&path, lines.iter().map(|line| format!("{line}\n")).collect::<Vec<_>>().concat()).unwrap();
        Replay::read(&[path], None).map_err(|error| match error {
            Failed::Told(text) | Failed::Ran(text) => text,
        })
    }

    #[test]
    fn each_kind_of_row_is_known_by_its_fields() {
        let text = |text: &str| json!({"origin": "user", "blake3": "0", "bytes": 2, "text": text});
        let side = |action: &str| json!({"policy": "p", "revision": "r", "action": action, "hits": []});
        let mut case = json!({"unix_ms": 1, "request_id": "q", "route": "messages", "stage": "input", "old": side("allow"),
            "new": side("block"), "texts": [text("a"), text("b")]});
        let replay = read(std::slice::from_ref(&case)).unwrap();
        assert_eq!((replay.items.len(), replay.items[0].texts.len(), replay.items[0].about.route), (1, 2, "messages"));
        case["texts"][0].as_object_mut().unwrap().remove("text");
        assert!(read(std::slice::from_ref(&case)).unwrap_err().contains("rollouts.content"));
        let labelled = json!({"task": "harm", "label": ["hate"], "text": "x", "side": "output"});
        let replay = read(&[labelled.clone(), labelled.clone()]).unwrap();
        assert_eq!(
            (replay.items.len(), replay.items[1].what.as_str(), replay.items[1].stage),
            (2, "harm: hate", Stage::Output)
        );
        assert!(read(&[case, labelled]).unwrap_err().contains("r.jsonl:2: "));
        assert!(read(&[json!({"odd": 1})]).unwrap_err().contains("r.jsonl:1: expected a case of a roll-out"));
    }

    #[test]
    fn messages_are_read_by_role_and_part() {
        let message = json!({"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "image"}],
            "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]});
        let expected = vec![(Origin::Assistant, "a".to_owned()), (Origin::ToolArgs, "{}".to_owned())];
        assert_eq!(said(&message, Stage::Input), expected);
        assert_eq!(said(&message, Stage::Output)[0].0, Origin::Output);
        assert_eq!(said(&json!({"role": "tool", "content": "r"}), Stage::Input)[0].0, Origin::ToolResult);
    }
}
