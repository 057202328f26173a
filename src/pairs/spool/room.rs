//! The bound of the spool's directory.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::file::kind;

/// Where files lie that every sink has, if they are kept.
pub(in crate::pairs) const KEPT: &str = "shipped";

/// How long a directory that is full is taken to stay so.
const LOOK: Duration = Duration::from_secs(1);

/// How much of the directory is taken. Counted anew only when the bound seems reached: until then rows add up, and what
/// sinks or people take away is not missed.
#[derive(Debug)]
pub(super) struct Room {
    limit: u64,
    used: u64,
    looked: Option<Instant>,
}

impl Room {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, used: u64::MAX, looked: None }
    }

    /// Whether a line has room; if so, it takes it. Kept files give way, oldest first.
    pub(super) fn take(&mut self, dir: &Path, bytes: u64) -> io::Result<bool> {
        let fits = |used: u64| used.saturating_add(bytes) <= self.limit;
        if !fits(self.used) {
            if self.looked.is_some_and(|at| at.elapsed() < LOOK) {
                return Ok(false);
            }
            let kept = files(&dir.join(KEPT))?;
            let waiting: u64 = files(dir)?.iter().map(|(.., bytes)| bytes).sum();
            self.used = waiting + kept.iter().map(|(.., bytes)| bytes).sum::<u64>();
            for (_, path, bytes) in kept {
                if fits(self.used) {
                    break;
                }
                std::fs::remove_file(&path)?;
                self.used -= bytes;
            }
        }
        let fits = fits(self.used);
        self.looked = (!fits).then(Instant::now);
        self.used = self.used.saturating_add(if fits { bytes } else { 0 });
        Ok(fits)
    }
}

/// The spool's files in a directory, oldest first: their names from the time on when they were begun, where they lie, and
/// their sizes in bytes.
pub(super) fn files(dir: &Path) -> io::Result<Vec<(String, PathBuf, u64)>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some((prefix, name)) = name.to_str().and_then(|name| Some((kind(name)?, name))) else { continue };
        // Sinks take files away while this looks.
        if let Ok(file) = entry.metadata() {
            found.push((name[prefix.len()..].to_owned(), entry.path(), file.len()));
        }
    }
    found.sort();
    Ok(found)
}
