//! Rows that have been kept for as long as they may be.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::file::{Standing, repair_file};
use super::room::{KEPT, files};
use crate::pairs::timestamp::compact;

/// How often files are looked through, and the longest that a file is written to where rows have an age.
pub(super) const ROUND: Duration = Duration::from_hours(1);

const DAY: Duration = Duration::from_hours(24);

/// Rows that were deleted for their age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Expired {
    /// That every sink had, or that nobody was to take.
    pub(super) kept: u64,
    /// That a sink still lacked.
    pub(super) unshipped: u64,
}

/// Deletes each file that was begun more than `days` ago: no row in the directory is older than that. Files that are being
/// written are left alone. `ships` says whether the files of `dir` itself wait for sinks.
pub(super) fn expire(dir: &Path, days: u32, ships: bool, now: SystemTime) -> io::Result<Expired> {
    let oldest = compact(now.checked_sub(DAY * days).unwrap_or(SystemTime::UNIX_EPOCH));
    let waiting = sweep(dir, &oldest)?;
    let kept = sweep(&dir.join(KEPT), &oldest)?;
    Ok(if ships { Expired { kept, unshipped: waiting } } else { Expired { kept: kept + waiting, unshipped: 0 } })
}

/// Deletes the files whose names are of before `oldest`; says how many rows they had.
fn sweep(dir: &Path, oldest: &str) -> io::Result<u64> {
    let mut rows = 0;
    for (begun, path, _) in files(dir)? {
        if begun.get(..oldest.len()).is_none_or(|begun| begun >= oldest) {
            continue;
        }
        // A sink may take the file away, or another process may still be writing it.
        match take_away(&path) {
            Ok(taken) => rows += taken,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(rows)
}

fn take_away(path: &Path) -> io::Result<u64> {
    if repair_file(path)? == Standing::Open {
        return Ok(0);
    }
    let rows = memchr::memchr_iter(b'\n', &std::fs::read(path)?).count();
    std::fs::remove_file(path)?;
    Ok(rows as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::spool::file::{SpoolFile, kind};

    #[test]
    fn files_go_when_they_are_old_and_nobody_writes_them() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        std::fs::create_dir(dir.join(KEPT)).unwrap();
        let write = |name: &str| std::fs::write(dir.join(name), "1\n2\n").unwrap();
        let now = SystemTime::now();
        let day = |ago: u32| compact(now - DAY * ago - Duration::from_mins(1));
        write(&format!("pairs-{}-000000.jsonl", day(8)));
        write(&format!("unpaired-{}-000000.jsonl", day(7)));
        write(&format!("{KEPT}/pairs-{}-000000.jsonl", day(9)));
        let young = [
            format!("pairs-{}-000000.jsonl", day(6)),
            format!("{KEPT}/pairs-{}-000000.jsonl", day(0)),
            "pairs-mine.jsonl".to_owned(),
            "other-20000101T000000000Z.jsonl".to_owned(),
            format!("pairs-{}-000000.jsonl.lake.at", day(9)),
        ];
        for name in &young {
            write(name);
        }
        let mut open = SpoolFile::create(dir, "pairs-").unwrap();
        open.append(b"1\n").unwrap();
        assert_eq!(expire(dir, 7, true, now).unwrap(), Expired { kept: 2, unshipped: 4 });
        assert!(young.iter().all(|name| dir.join(name).exists()));
        // The open file stays, however late it is.
        let later = now + DAY * 30;
        assert_eq!(expire(dir, 7, false, later).unwrap(), Expired { kept: 4, unshipped: 0 });
        assert_eq!(
            std::fs::read_dir(dir)
                .unwrap()
                .filter(|entry| kind(entry.as_ref().unwrap().file_name().to_str().unwrap()).is_some())
                .count(),
            2
        );
        open.finish();
        assert_eq!(expire(dir, 7, false, later).unwrap(), Expired { kept: 1, unshipped: 0 });
        assert_eq!(expire(&dir.join("none"), 7, false, now).unwrap(), Expired::default());
    }
}
