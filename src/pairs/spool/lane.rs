//! The files of one kind of rows, one after the other.

use std::io;
use std::path::Path;
use std::time::Instant;

use super::file::SpoolFile;

/// One kind of rows on their way to disk.
#[derive(Debug)]
pub(super) struct Lane {
    prefix: &'static str,
    /// None between files, and while the disk does not let one be opened.
    file: Option<SpoolFile>,
    /// Rows in the file that the disk has not been told to keep.
    pub(super) unsynced: usize,
    /// When the file got its first row.
    pub(super) since: Option<Instant>,
}

impl Lane {
    pub(super) fn new(prefix: &'static str, file: Option<SpoolFile>) -> Self {
        Self { prefix, file, unsynced: 0, since: None }
    }

    /// Bytes in the file that is open; 0 where none is.
    pub(super) fn len(&self) -> u64 {
        self.file.as_ref().map_or(0, SpoolFile::len)
    }

    pub(super) fn append(&mut self, dir: &Path, line: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(SpoolFile::create(dir, self.prefix)?),
        };
        file.append(line)?;
        self.unsynced += 1;
        self.since.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// How many rows were waiting, and whether the disk keeps them now.
    pub(super) fn sync(&mut self) -> (usize, io::Result<()>) {
        let rows = std::mem::take(&mut self.unsynced);
        let kept = match &self.file {
            Some(file) if rows > 0 => file.sync(),
            None if rows > 0 => Err(io::Error::new(io::ErrorKind::NotFound, "no file")),
            _ => Ok(()),
        };
        (rows, kept)
    }

    /// The next row opens a new file.
    pub(super) fn leave(&mut self) {
        self.since = None;
        if let Some(file) = self.file.take() {
            file.finish();
        }
    }
}
