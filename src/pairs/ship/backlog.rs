//! What of the spool's directory a sink does not have yet.
//!
//! How far a sink has come is noted beside each file, as `FILE.SINK.at`: the number of bytes that it has confirmed. The
//! note is written after the confirmation, so that what lies between is shipped again, never left out.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use uuid::Uuid;

use crate::pairs::spool::file::{Standing, kind, repair_file};
use crate::pairs::spool::room::KEPT;
use crate::pairs::{AfterShipping, Config};

/// A file of the spool that a sink has not wholly taken.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) path: PathBuf,
    pub(super) name: String,
    /// `pairs` or `unpaired`.
    pub(super) kind: &'static str,
    /// The name without kind and ending: when the file was made.
    pub(super) stem: String,
    /// Bytes that the sink has confirmed.
    pub(super) from: u64,
    /// Bytes that there are; where the file is still written to, its last line may be incomplete.
    pub(super) len: u64,
    /// Nobody writes to it any more.
    pub(super) sealed: bool,
}

/// The spool's directory, as one sink sees it.
#[derive(Debug)]
pub(super) struct Backlog {
    dir: PathBuf,
    after: AfterShipping,
    sink: String,
    /// All sinks of the configuration.
    sinks: Vec<String>,
    /// Held by the one process that ships from this directory to this sink.
    held: Option<File>,
    /// Files that nobody writes to any more; they never change again.
    sealed: HashSet<String>,
    /// How far each sink has come, also where the disk does not take the notes.
    reached: Positions,
}

/// How far the sinks of one process have come, by sink and file, in bytes. A full disk takes no notes; without these, every
/// sink would wait for the others' and no file would ever go.
#[derive(Clone, Debug, Default)]
pub(super) struct Positions(Arc<Mutex<HashMap<(String, String), u64>>>);

impl Positions {
    fn of(&self, sink: &str, file: &str) -> u64 {
        let positions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        positions.get(&(sink.to_owned(), file.to_owned())).copied().unwrap_or(0)
    }

    fn set(&self, sink: &str, file: &str, bytes: u64) {
        let mut positions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        positions.insert((sink.to_owned(), file.to_owned()), bytes);
    }

    /// Forgets a sink's files that are gone.
    fn retain(&self, sink: &str, files: &HashSet<String>) {
        let mut positions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        positions.retain(|(of, file), _| of != sink || files.contains(file));
    }
}

/// What there is to ship.
#[derive(Debug, Default)]
pub(super) struct View {
    /// Oldest first.
    pub(super) files: Vec<Waiting>,
    /// Lines that had to be cut off files whose process died.
    pub(super) torn: u64,
}

impl Backlog {
    pub(super) fn new(config: &Config, sink: &str, reached: &Positions) -> Self {
        Self {
            dir: config.dir.clone(),
            after: config.after_shipping,
            sink: sink.to_owned(),
            sinks: config.sinks.iter().map(|sink| sink.name.clone()).collect(),
            held: None,
            sealed: HashSet::new(),
            reached: reached.clone(),
        }
    }

    pub(super) fn sink(&self) -> &str {
        &self.sink
    }

    /// Whether this process is the one that ships; where it is not yet, it becomes so once the other has ended.
    pub(super) fn hold(&mut self) -> io::Result<bool> {
        if self.held.is_none() {
            let path = self.dir.join(format!("{}.lock", self.sink));
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
            match file.try_lock() {
                Ok(()) => self.held = Some(file),
                Err(TryLockError::WouldBlock) => return Ok(false),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Looks the directory through.
    pub(super) fn view(&mut self) -> io::Result<View> {
        let mut view = View::default();
        let mut names = HashSet::new();
        let mut notes = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { continue };
            if kind(name).is_some() {
                names.insert(name.to_owned());
            } else if let Some((file, _)) = name.split_once(".jsonl.") {
                notes.push((format!("{file}.jsonl"), name.to_owned()));
            }
        }
        for name in &names {
            match self.waiting(name, &mut view.torn) {
                Ok(file) => view.files.extend(file),
                // Another sink has just finished it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        for (_, note) in notes.iter().filter(|(file, _)| !names.contains(file)) {
            remove(&self.dir.join(note))?;
        }
        self.sealed.retain(|name| names.contains(name));
        self.reached.retain(&self.sink, &names);
        view.files.sort_by(|a, b| (&a.stem, a.kind).cmp(&(&b.stem, b.kind)));
        Ok(view)
    }

    fn waiting(&mut self, name: &str, torn: &mut u64) -> io::Result<Option<Waiting>> {
        let path = self.dir.join(name);
        if !self.sealed.contains(name) {
            let standing = repair_file(&path)?;
            *torn += u64::from(standing.torn());
            match standing {
                Standing::Open => {}
                Standing::Sealed { .. } => {
                    self.sealed.insert(name.to_owned());
                }
                Standing::Empty { .. } => return Ok(None),
            }
        }
        let (len, sealed) = (std::fs::metadata(&path)?.len(), self.sealed.contains(name));
        let from = self.position(&self.sink, name).min(len);
        if from == len {
            if sealed {
                self.finish(name, len)?;
            }
            return Ok(None);
        }
        let kind = kind(name).unwrap_or_default();
        let stem = name.trim_start_matches(kind).trim_end_matches(".jsonl").to_owned();
        Ok(Some(Waiting { path, name: name.to_owned(), kind: kind.trim_end_matches('-'), stem, from, len, sealed }))
    }

    /// Notes that the sink has confirmed so much of a file.
    pub(super) fn reached(&mut self, file: &Waiting, bytes: u64) -> io::Result<()> {
        self.reached.set(&self.sink, &file.name, bytes);
        if file.sealed && bytes == file.len { self.finish(&file.name, bytes) } else { self.note(&file.name, bytes) }
    }

    /// A file that this sink has: once all have it, it goes.
    fn finish(&mut self, name: &str, len: u64) -> io::Result<()> {
        let others = self.sinks.iter().filter(|sink| **sink != self.sink);
        if !others.into_iter().all(|sink| self.position(sink, name) == len) {
            return if noted(&self.dir, name, &self.sink) == len { Ok(()) } else { self.note(name, len) };
        }
        let path = self.dir.join(name);
        if self.after == AfterShipping::Keep {
            let kept = self.dir.join(KEPT);
            std::fs::create_dir_all(&kept)?;
            std::fs::rename(&path, kept.join(name))?;
        } else {
            remove(&path)?;
        }
        // A process that ends here leaves the notes to whoever looks next.
        self.sinks.iter().try_for_each(|sink| remove(&self.dir.join(format!("{name}.{sink}.at"))))
    }

    /// How far a sink has come in a file, by what is noted and by what this process knows.
    fn position(&self, sink: &str, name: &str) -> u64 {
        noted(&self.dir, name, sink).max(self.reached.of(sink, name))
    }

    fn note(&self, name: &str, bytes: u64) -> io::Result<()> {
        let note = self.dir.join(format!("{name}.{}.at", self.sink));
        let new = self.dir.join(format!("{name}.{}.new", self.sink));
        std::fs::write(&new, bytes.to_string())?;
        std::fs::rename(new, note)
    }
}

/// Bytes that a sink has confirmed of a file; 0 where nothing is noted.
fn noted(dir: &Path, name: &str, sink: &str) -> u64 {
    let note = std::fs::read_to_string(dir.join(format!("{name}.{sink}.at")));
    note.ok().and_then(|note| note.parse().ok()).unwrap_or(0)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The parts of a line that ship it: who it is. Its other columns are not looked at.
#[derive(Debug, Deserialize)]
pub(super) struct Known {
    pub(super) meta: KnownMeta,
}

/// See [`crate::pairs::Meta`].
#[derive(Debug, Deserialize)]
pub(super) struct KnownMeta {
    pub(super) pair_id: String,
}

/// The line at a place, for as long as lines are whole.
pub(super) struct Lines {
    reader: BufReader<File>,
    at: u64,
}

impl Lines {
    pub(super) fn open(file: &Waiting) -> io::Result<Self> {
        let mut reader = BufReader::with_capacity(256 << 10, File::open(&file.path)?);
        reader.seek(SeekFrom::Start(file.from))?;
        Ok(Self { reader, at: file.from })
    }

    /// The next line without its end, and the place behind it.
    pub(super) fn next(&mut self, line: &mut Vec<u8>) -> io::Result<Option<u64>> {
        line.clear();
        self.reader.read_until(b'\n', line)?;
        if line.pop() != Some(b'\n') {
            return Ok(None);
        }
        self.at += line.len() as u64 + 1;
        Ok(Some(self.at))
    }
}

/// When the row was made that a file would be shipped from: its id says it. Else when the file was last written to.
pub(super) fn made(file: &Waiting) -> Option<SystemTime> {
    let mut line = Vec::new();
    Lines::open(file).ok()?.next(&mut line).ok()?;
    let of_row = serde_json::from_slice::<Known>(&line).ok().and_then(|row| {
        let (seconds, nanos) = Uuid::parse_str(&row.meta.pair_id).ok()?.get_timestamp()?.to_unix();
        Some(UNIX_EPOCH + Duration::new(seconds, nanos))
    });
    of_row.or_else(|| std::fs::metadata(&file.path).ok()?.modified().ok())
}
