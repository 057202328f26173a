//! Labelled rows: JSON Lines, plain or gzip'd.
//!
//! A row is an object. `task` names a head (`prompt_attack` or `harm`), `label` is a word or a list of words, `text` is
//! what is scored. The rest may be absent: `source`, `split`, `lang`, `kind`, `origin` (as in policies) or `side`
//! (`output` for what a model said), and `annotated`, the categories that somebody looked at, where not all were.
//! Other fields are passed over.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::targets::{NEGATIVE, WORDS};
use crate::api::Origin;

/// One labelled text.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Index of its file among those that were asked for.
    pub file: usize,
    /// Its line in that file, from 1.
    pub line: usize,
    /// The head that it is labelled for.
    pub task: String,
    /// The labels that hold; none for a harmless text.
    pub labels: Vec<String>,
    /// The labels that somebody decided on; `None` where that is all of the task's.
    pub annotated: Option<Vec<String>>,
    /// Where it comes from; the file's name where the row does not say.
    pub source: String,
    /// Its split, if it has one.
    pub split: Option<String>,
    /// Its language, or `unknown`.
    pub lang: String,
    /// What kind of text it is, if it says.
    pub kind: Option<String>,
    /// Which way it would travel; `user` where neither `origin` nor `side` says.
    pub origin: Origin,
    /// What is scored.
    pub text: String,
}

/// A file and what was in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of its bytes as they lie on disk, in hexadecimal.
    pub sha256: String,
    /// Rows that it holds.
    pub rows: usize,
}

/// A file that cannot be read or a row that is not one.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// The file cannot be read to its end.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A line is not a row. Says nothing of the text.
    #[error("{}:{line}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and what was expected.
        reason: String,
    },
}

/// Reads one file whole. `file` is its index, for [`Row::file`].
pub fn read(path: &Path, file: usize) -> Result<(Source, Vec<Row>), RowError> {
    let failed = |source: io::Error| RowError::Read { path: path.to_owned(), source };
    let mut hash = Hashing { inner: File::open(path).map_err(failed)?, hash: Sha256::new() };
    let mut magic = [0; 2];
    let known = fill(&mut hash, &mut magic).map_err(failed)?;
    let start = io::Cursor::new(magic).take(known as u64);
    let zipped = magic == [0x1f, 0x8b];
    let mut whole = start.chain(&mut hash);
    let rows = if zipped {
        lines(BufReader::new(MultiGzDecoder::new(BufReader::new(&mut whole))), path, file)?
    } else {
        lines(BufReader::new(&mut whole), path, file)?
    };
    // What lies behind the last gzip member belongs to the file, too.
    io::copy(&mut whole, &mut io::sink()).map_err(failed)?;
    let sha256 = hash.hash.finalize().iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    });
    Ok((Source { path: path.to_owned(), sha256, rows: rows.len() }, rows))
}

fn lines(mut reader: impl BufRead, path: &Path, file: usize) -> Result<Vec<Row>, RowError> {
    let stem = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = stem.trim_end_matches(".gz").trim_end_matches(".jsonl").to_owned();
    let mut rows = Vec::new();
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        let count = reader.read_until(b'\n', &mut bytes);
        if count.map_err(|source| RowError::Read { path: path.to_owned(), source })? == 0 {
            break;
        }
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let row = row(&bytes, &stem).map_err(|reason| RowError::Malformed { path: path.to_owned(), line, reason })?;
        rows.push(Row { file, line, ..row });
    }
    Ok(rows)
}

/// A row without its place.
fn row(bytes: &[u8], stem: &str) -> Result<Row, String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| broken(&error))?;
    let Value::Object(fields) = value else {
        return Err(format!("expected a JSON object, found {}", kind_of(&value)));
    };
    let task = required(&fields, "task")?;
    let Some((_, words)) = WORDS.iter().find(|(known, _)| *known == task) else {
        let known: Vec<&str> = WORDS.iter().map(|(known, _)| *known).collect();
        return Err(format!("`task` is none that can be measured: expected {}", alternatives(&known)));
    };
    let labels = fields.get("label").ok_or("no `label`: expected a word or a list of words")?;
    let labels = words_of(labels, "label", words)?;
    let annotated = fields.get("annotated").filter(|value| !value.is_null());
    Ok(Row {
        file: 0,
        line: 0,
        labels,
        annotated: annotated.map(|value| words_of(value, "annotated", words)).transpose()?,
        source: optional(&fields, "source")?.unwrap_or_else(|| stem.to_owned()),
        split: optional(&fields, "split")?,
        lang: optional(&fields, "lang")?.unwrap_or_else(|| "unknown".to_owned()),
        kind: optional(&fields, "kind")?,
        origin: origin(&fields)?,
        text: required(&fields, "text")?,
        task,
    })
}

/// What a parser says of bytes that are no JSON, without the line: it is always the first.
fn broken(error: &serde_json::Error) -> String {
    let words = error.to_string();
    let words = words.rsplit_once(" at line ").map_or(words.as_str(), |(words, _)| words);
    format!("not JSON: {words} at column {}", error.column())
}

fn required(fields: &Map<String, Value>, name: &str) -> Result<String, String> {
    optional(fields, name)?.ok_or_else(|| format!("no `{name}`: expected a string"))
}

fn optional(fields: &Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!("`{name}`: expected a string, found {}", kind_of(other))),
    }
}

/// A word or a list of words, without those that mean "nothing of it".
fn words_of(value: &Value, name: &str, words: &[&str]) -> Result<Vec<String>, String> {
    let listed = match value {
        Value::Array(list) => list.as_slice(),
        other => std::slice::from_ref(other),
    };
    let mut found = Vec::new();
    for value in listed {
        let Value::String(word) = value else {
            return Err(format!("`{name}`: expected a word or a list of words, found {}", kind_of(value)));
        };
        if words.contains(&word.as_str()) {
            found.push(word.clone());
        } else if !NEGATIVE.contains(&word.as_str()) {
            let known: Vec<&str> = words.iter().chain(&NEGATIVE).copied().collect();
            return Err(format!("`{name}`: unknown word, expected {}", alternatives(&known)));
        }
    }
    if !found.is_empty() && found.len() < listed.len() && name == "label" {
        return Err("`label`: says both that something holds and that nothing does".to_owned());
    }
    Ok(found)
}

fn origin(fields: &Map<String, Value>) -> Result<Origin, String> {
    if let Some(name) = optional(fields, "origin")? {
        let known = Origin::ALL.map(Origin::as_str);
        return name.parse().map_err(|_unknown| format!("`origin`: expected {}", alternatives(&known)));
    }
    match optional(fields, "side")?.as_deref() {
        None | Some("input") => Ok(Origin::User),
        Some("output") => Ok(Origin::Output),
        Some(_) => Err("`side`: expected `input` or `output`".to_owned()),
    }
}

fn alternatives(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Hashes what is read through it.
struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

/// Reads until `buffer` is full or the end has come; how much there was.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}
