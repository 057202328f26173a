//! Cases in which two policies differ, on disk: JSON lines in two files, of which the older goes when the newer is full.
//! A line is written by one call and a torn one is cut off at the next start, so that a crash costs no more than what the
//! system had not written yet.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::guard::Case;
use crate::pairs::whole_lines;

/// The file that grows, and the one before it.
const NAMES: [&str; 2] = ["cases.jsonl", "cases.1.jsonl"];

/// Where cases go.
#[derive(Debug)]
pub(super) struct Cases {
    dir: PathBuf,
    most: u64,
    file: File,
    bytes: u64,
}

impl Cases {
    /// Goes on with what an earlier run left. `max_bytes` is for both files together.
    pub(super) fn open(dir: &Path, max_bytes: u64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut file = append_to(&dir.join(NAMES[0]))?;
        let len = file.metadata()?.len();
        let bytes = whole_lines(&mut file, len)?;
        file.set_len(bytes)?;
        Ok(Self { dir: dir.to_owned(), most: max_bytes / 2, file, bytes })
    }

    /// One line more.
    pub(super) fn append(&mut self, case: &Case) -> io::Result<()> {
        let mut line = serde_json::to_vec(case)?;
        line.push(b'\n');
        let bytes = line.len() as u64;
        if bytes > self.most {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "a case is longer than half of max_bytes"));
        }
        if self.bytes + bytes > self.most {
            self.file.sync_data()?;
            fs::rename(self.dir.join(NAMES[0]), self.dir.join(NAMES[1]))?;
            self.file = append_to(&self.dir.join(NAMES[0]))?;
            self.bytes = 0;
        }
        let written = self.file.write(&line)?;
        if written < line.len() {
            self.file.set_len(self.bytes)?;
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.bytes += bytes;
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::{Opinion, Side};

    fn case(id: usize) -> Case {
        let side =
            |policy: &str| Side { policy: policy.to_owned(), revision: "0".to_owned(), opinion: Opinion::default() };
        Case {
            unix_ms: 1,
            request_id: format!("req_{id:06}"),
            route: "chat".to_owned(),
            stage: "input".to_owned(),
            old: side("old"),
            new: side("new"),
            texts: Vec::new(),
        }
    }

    fn read(dir: &Path) -> Vec<String> {
        let mut ids = Vec::new();
        for name in [NAMES[1], NAMES[0]] {
            let text = fs::read_to_string(dir.join(name)).unwrap_or_default();
            for line in text.lines() {
                ids.push(serde_json::from_str::<Case>(line).unwrap().request_id);
            }
        }
        ids
    }

    #[test]
    fn the_newest_cases_stay_within_their_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let mut cases = Cases::open(dir.path(), 4096).unwrap();
        for id in 0..200 {
            cases.append(&case(id)).unwrap();
        }
        let ids = read(dir.path());
        assert!(ids.len() > 5 && ids.len() < 40, "{}", ids.len());
        assert_eq!(ids.last().unwrap(), "req_000199");
        let bytes: u64 = NAMES.iter().map(|name| fs::metadata(dir.path().join(name)).unwrap().len()).sum();
        assert!(bytes <= 4096, "{bytes}");
    }

    #[test]
    fn a_torn_line_is_cut_off_and_what_came_before_stays() {
        let dir = tempfile::tempdir().unwrap();
        Cases::open(dir.path(), 1 << 20).unwrap().append(&case(1)).unwrap();
        let path = dir.path().join(NAMES[0]);
        let mut torn = fs::read(&path).unwrap();
        torn.extend_from_slice(b"{\"unix_ms\":17");
        fs::write(&path, torn).unwrap();
        Cases::open(dir.path(), 1 << 20).unwrap().append(&case(2)).unwrap();
        assert_eq!(read(dir.path()), ["req_000001", "req_000002"]);
    }
}
