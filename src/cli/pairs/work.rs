//! The four commands over all rows of some files.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::Failed;
use super::super::output::Output;
use super::super::progress;
use crate::pairs::{Format, ReadError, Reading, Row, Selection, Stats, files, fingerprint, mistakes};

/// Mistakes that are told before the rest is only counted.
const MOST_TOLD: u64 = 100;

pub(super) fn stats(paths: &[PathBuf], selection: &Selection) -> Result<(), Failed> {
    let mut stats = Stats::default();
    each_row(paths, &mut |row, _| {
        stats.add(&row, selection);
        Ok(())
    })?;
    print(&stats.to_string())
}

pub(super) fn validate(paths: &[PathBuf]) -> Result<(), Failed> {
    let (mut rows, mut wrong) = (0u64, 0u64);
    let mut told = String::new();
    let mut tell = |mistake: &dyn std::fmt::Display| {
        wrong += 1;
        if wrong <= MOST_TOLD {
            let _ = writeln!(told, "error: {mistake}");
        }
    };
    let mut ids: HashSet<String> = HashSet::new();
    for_each(paths, &mut |row, reading| {
        rows += 1;
        match row {
            Err(mistake @ (ReadError::Line { .. } | ReadError::Torn { .. })) => tell(&mistake),
            Err(broken) => return Err(Failed::Ran(broken.to_string())),
            Ok(row) => {
                for mistake in mistakes(&row) {
                    tell(&reading.mistake(mistake));
                }
                if !ids.insert(row.meta().pair_id.clone()) {
                    tell(&reading.mistake("meta.pair_id: another row has the same"));
                }
            }
        }
        Ok(())
    })?;
    if wrong == 0 {
        return print(&format!("{rows} rows, no mistakes\n"));
    }
    let more = wrong.saturating_sub(MOST_TOLD);
    if more > 0 {
        let _ = writeln!(told, "error: and {more} more");
    }
    Err(Failed::Ran(format!("{told}error: {wrong} mistakes in {rows} rows")))
}

pub(super) fn dedupe(paths: &[PathBuf], out: Option<&Path>) -> Result<(), Failed> {
    let mut output = Output::create(out)?;
    let (mut seen, mut repeated) = (HashSet::new(), 0u64);
    let read = each_row(paths, &mut |row, _| {
        if seen.insert(fingerprint(&row)) {
            return output.line(&row);
        }
        repeated += 1;
        Ok(())
    });
    read.inspect_err(|_| output.abandon())?;
    let written = output.finish()?;
    report(&format!("{written} rows written, {repeated} with the same words left out\n"));
    Ok(())
}

pub(super) fn export(
    format: Format,
    paths: &[PathBuf],
    out: Option<&Path>,
    selection: &Selection,
) -> Result<(), Failed> {
    let mut output = Output::create(out)?;
    let mut rows = 0u64;
    let mut left_out: BTreeMap<&'static str, u64> = BTreeMap::new();
    let read = each_row(paths, &mut |row, _| {
        rows += 1;
        let lines = match selection.takes(&row) {
            Err(reason) => Err(reason.as_str()),
            Ok(()) => format.lines(&row).map_err(crate::pairs::Unfit::as_str),
        };
        match lines {
            Err(reason) => *left_out.entry(reason).or_default() += 1,
            Ok(lines) => lines.iter().try_for_each(|line| output.line(line))?,
        }
        Ok(())
    });
    read.inspect_err(|_| output.abandon())?;
    let written = output.finish()?;
    if let Some(out) = out {
        dataset_info(format, out)?;
    }
    let mut told = format!("{rows} rows read, {written} lines written as {}\n", format.as_str());
    for (reason, rows) in left_out {
        let _ = writeln!(told, "  left out: {reason:<48} {rows:>8}");
    }
    report(&told);
    Ok(())
}

/// LLaMA-Factory finds data by an index beside it; what else is in that index stays.
fn dataset_info(format: Format, out: &Path) -> Result<(), Failed> {
    let file_name = out.file_name().unwrap_or_default().to_string_lossy();
    let Some(entry) = format.dataset_info(&file_name) else { return Ok(()) };
    let index = out.with_file_name("dataset_info.json");
    let broken = |reason: String| Failed::Ran(format!("{}: {reason}", index.display()));
    let mut entries: serde_json::Map<String, serde_json::Value> = match std::fs::read(&index) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| broken(format!("expected a JSON object, so the entry was not added: {error}")))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => serde_json::Map::new(),
        Err(error) => return Err(broken(error.to_string())),
    };
    let name = file_name.split('.').next().unwrap_or_default().to_owned();
    entries.insert(name, entry);
    let mut output = Output::create(Some(&index))?;
    output.text(&format!("{:#}", serde_json::Value::Object(entries)))?;
    output.finish().map(|_| ())
}

/// Hands over each row; the first line that is none ends the work. A torn last line is a file that is still written to,
/// or was when its gateway died: it is told and skipped.
fn each_row(paths: &[PathBuf], take: &mut dyn FnMut(Row, &Reading) -> Result<(), Failed>) -> Result<(), Failed> {
    for_each(paths, &mut |row, reading| match row {
        Ok(row) => take(row, reading),
        Err(torn @ ReadError::Torn { .. }) => {
            report(&format!("warning: {torn}; left out\n"));
            Ok(())
        }
        Err(error) => Err(Failed::Ran(error.to_string())),
    })
}

/// Takes each line as a row or as what is wrong with it.
type Taker<'a> = dyn FnMut(Result<Row, ReadError>, &Reading) -> Result<(), Failed> + 'a;

fn for_each(paths: &[PathBuf], take: &mut Taker<'_>) -> Result<(), Failed> {
    let told = |error: ReadError| Failed::Told(error.to_string());
    let mut all = Vec::new();
    for path in paths {
        all.extend(files(path).map_err(told)?);
    }
    let total = all.iter().filter_map(|path| std::fs::metadata(path).ok()).map(|file| file.len()).sum();
    let (bar, read) = (progress::bytes("reading", total), Arc::new(AtomicU64::new(0)));
    for path in all {
        let mut reading = Reading::open(&path, Arc::clone(&read)).map_err(told)?;
        while let Some(row) = reading.next() {
            take(row, &reading)?;
            if reading.line().is_multiple_of(256) {
                bar.set_position(read.load(Ordering::Relaxed));
            }
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn print(text: &str) -> Result<(), Failed> {
    let mut output = Output::create(None)?;
    output.text(text)?;
    output.finish().map(|_| ())
}

/// Standard output may be the data, so that this goes to standard error.
fn report(text: &str) {
    // Whoever closed it does not want to read it.
    let _closed = std::io::stderr().write_all(text.as_bytes());
}
