//! One file of the spool, and the repair of what earlier runs left.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::pairs::timestamp::compact;

/// What the names of files begin with, by the kind of their rows. All rows of one file have the same columns.
pub(in crate::pairs) const PREFIXES: [&str; 2] = ["pairs-", "unpaired-"];
const SUFFIX: &str = ".jsonl";

/// A file that is being written: locked, append-only, for its owner's eyes.
#[derive(Debug)]
pub(in crate::pairs) struct SpoolFile {
    file: File,
    path: PathBuf,
    len: u64,
}

impl SpoolFile {
    /// Makes a new file, and the directory where it is missing. Names sort by time.
    pub(in crate::pairs) fn create(dir: &Path, prefix: &str) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let now = compact(SystemTime::now());
        for number in 0..1_000_000 {
            let path = dir.join(format!("{prefix}{now}-{number:06}{SUFFIX}"));
            match OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => {
                    file.lock()?;
                    let file = Self { file, path, len: 0 };
                    // Before the lock, somebody may have taken it for an empty file that was left behind.
                    if !file.in_place() {
                        continue;
                    }
                    // Without this the name, and with it the rows, may be gone after a power cut.
                    File::open(dir)?.sync_all()?;
                    return Ok(file);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::from(io::ErrorKind::AlreadyExists))
    }

    /// Bytes written.
    pub(in crate::pairs) fn len(&self) -> u64 {
        self.len
    }

    /// Appends a whole line by one call, or nothing: a part that got in is cut off again.
    pub(in crate::pairs) fn append(&mut self, line: &[u8]) -> io::Result<()> {
        match self.file.write(line) {
            Ok(written) if written == line.len() => {
                self.len += written as u64;
                Ok(())
            }
            Ok(_) => {
                self.file.set_len(self.len)?;
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            Err(error) => Err(error),
        }
    }

    /// Has the disk keep what was written; an error also if the file is no longer where it was made.
    pub(in crate::pairs) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()?;
        if self.in_place() { Ok(()) } else { Err(io::Error::new(io::ErrorKind::NotFound, "the file is gone")) }
    }

    fn in_place(&self) -> bool {
        let identity = |of: io::Result<std::fs::Metadata>| of.map(|file| (file.dev(), file.ino())).ok();
        identity(self.file.metadata()) == identity(std::fs::metadata(&self.path))
    }

    /// The end of the last file: one without a row is taken away.
    pub(in crate::pairs) fn finish(self) {
        if self.len == 0 && std::fs::remove_file(&self.path).is_err() {
            tracing::debug!(path = %self.path.display(), "an empty file of preference pairs stays");
        }
    }
}

/// How a file of the spool stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pairs) enum Standing {
    /// It is being written.
    Open,
    /// Nobody writes to it any more, and all its lines are whole. `torn` if its last one was not, and was cut off.
    Sealed { torn: bool },
    /// It has no row, and was taken away.
    Empty { torn: bool },
}

/// Which of [`PREFIXES`] a file of the spool has; nothing for other files.
pub(in crate::pairs) fn kind(name: &str) -> Option<&'static str> {
    PREFIXES.into_iter().find(|prefix| name.starts_with(prefix) && name.ends_with(SUFFIX))
}

/// Cuts torn last lines off the directory's files and takes empty files away; says how many lines were torn. Files that
/// another process is writing are left alone.
pub(in crate::pairs) fn repair(dir: &Path) -> io::Result<u64> {
    let mut torn = 0;
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let ours = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| kind(name).is_some());
        if ours && path.is_file() {
            torn += u64::from(repair_file(&path)?.torn());
        }
    }
    Ok(torn)
}

impl Standing {
    /// Whether a line had to be cut off.
    pub(in crate::pairs) fn torn(self) -> bool {
        matches!(self, Self::Sealed { torn: true } | Self::Empty { torn: true })
    }
}

/// The same for one file.
pub(in crate::pairs) fn repair_file(path: &Path) -> io::Result<Standing> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Standing::Open),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let len = file.metadata()?.len();
    let whole = whole_lines(&mut file, len)?;
    let torn = whole < len;
    if whole == 0 {
        std::fs::remove_file(path)?;
    } else if torn {
        file.set_len(whole)?;
        file.sync_all()?;
    }
    if torn {
        tracing::warn!(path = %path.display(), bytes = len - whole, "cut a torn line off a file of preference pairs");
    }
    Ok(if whole == 0 { Standing::Empty { torn } } else { Standing::Sealed { torn } })
}

/// Where the last whole line of a file ends.
pub(crate) fn whole_lines(file: &mut File, len: u64) -> io::Result<u64> {
    const STEP: u64 = 64 << 10;
    let mut end = len;
    while end > 0 {
        let start = end.saturating_sub(STEP);
        let mut block = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        file.take(end - start).read_to_end(&mut block)?;
        if let Some(newline) = memchr::memrchr(b'\n', &block) {
            return Ok(start + newline as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
