//! Rows from files: JSON lines, plain or compressed, or Parquet; each with its file and line (of Parquet, its row).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;
use parquet::file::reader::SerializedFileReader;
use parquet::record::reader::RowIter;
use ruzstd::decoding::StreamingDecoder;
use serde::de::DeserializeOwned;

use crate::pairs::{Row, columns};

/// The longest line that is read, in bytes.
const MAX_LINE: u64 = 64 << 20;

/// Why rows could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file or directory.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// As the system puts it.
        source: io::Error,
    },
    /// A directory without rows.
    #[error("{}: expected files that end in .jsonl, .jsonl.gz, .jsonl.zst or .parquet, found none", path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// A file that ends in the middle of a line: it is still written to, or its gateway was killed.
    #[error("{}:{line}: the line is torn: the file ends in the middle of it", path.display())]
    Torn {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
    },
    /// A line that is no row. Says what is wrong, without the text in it.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
}

/// The files that are meant: a file itself, or those of a directory and of the directories in it, by name.
pub fn files(path: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let broken = |source| ReadError::Io { path: path.to_owned(), source };
    if !std::fs::metadata(path).map_err(broken)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    collect(path, &mut files).map_err(broken)?;
    files.sort();
    if files.is_empty() { Err(ReadError::Empty { path: path.to_owned() }) } else { Ok(files) }
}

/// Links are not followed into directories: they may lead round in circles.
fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if entry.file_type()?.is_dir() {
            collect(&path, files)?;
        } else if [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet"].iter().any(|end| name.ends_with(end))
            && path.is_file()
        {
            files.push(path);
        }
    }
    Ok(())
}

/// One file being read. Compression is told by its first bytes, not by its name.
pub struct Reading {
    path: PathBuf,
    lines: Box<dyn BufRead>,
    line: u64,
}

impl Reading {
    /// Opens a file. `read` counts the bytes that are taken off the disk, for whoever shows progress.
    pub fn open(path: &Path, read: Arc<AtomicU64>) -> Result<Self, ReadError> {
        let broken = |source| ReadError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(broken)?;
        let whole = Arc::clone(&read);
        let mut raw = BufReader::with_capacity(256 << 10, Counted { file, read });
        let head = raw.fill_buf().map_err(broken)?;
        let lines: Box<dyn BufRead> = if head.starts_with(&[0x1f, 0x8b]) {
            Box::new(BufReader::new(MultiGzDecoder::new(raw)))
        } else if head.starts_with(&ZSTD) {
            Box::new(BufReader::new(Frames { raw: Some(raw), frame: None }))
        } else if head.starts_with(PARQUET) {
            let file = File::open(path).map_err(broken)?;
            whole.fetch_add(file.metadata().map_err(broken)?.len(), Ordering::Relaxed);
            let file = SerializedFileReader::new(file).map_err(|error| broken(io::Error::other(error)))?;
            Box::new(BufReader::new(Records { rows: file.into_iter(), line: Vec::new(), at: 0 }))
        } else {
            Box::new(raw)
        };
        Ok(Self { path: path.to_owned(), lines, line: 0 })
    }

    /// The line that was read last, counted from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// A mistake in the line that was read last.
    pub fn mistake(&self, reason: impl Into<String>) -> ReadError {
        ReadError::Line { path: self.path.clone(), line: self.line, reason: reason.into() }
    }

    /// The next line as another kind of row than [`Row`].
    pub fn next_as<T: DeserializeOwned>(&mut self) -> Option<Result<T, ReadError>> {
        self.next_with(|line| serde_json::from_slice(line))
    }

    fn next_with<T>(&mut self, read: impl Fn(&[u8]) -> Result<T, serde_json::Error>) -> Option<Result<T, ReadError>> {
        let line = match self.next_line() {
            Ok(line) => line?,
            Err(source) => {
                let path = self.path.clone();
                self.lines = Box::new(io::empty());
                return Some(Err(ReadError::Io { path, source }));
            }
        };
        Some(read(&line).map_err(|error| {
            if error.is_eof() && !line.ends_with(b"\n") {
                return ReadError::Torn { path: self.path.clone(), line: self.line };
            }
            self.mistake(said(&error))
        }))
    }

    fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut self.lines).take(MAX_LINE).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(None);
            }
            self.line += 1;
            if read as u64 == MAX_LINE && !line.ends_with(b"\n") {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a line over {MAX_LINE} bytes")));
            }
            if !line.trim_ascii().is_empty() {
                return Ok(Some(line));
            }
        }
    }
}

impl Iterator for Reading {
    type Item = Result<Row, ReadError>;

    /// The next row. A broken line is an error, and the next call goes on behind it; a broken file ends.
    fn next(&mut self) -> Option<Self::Item> {
        self.next_with(Row::read)
    }
}

/// A JSON error by kind and column: its message could quote the text.
fn said(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Syntax | serde_json::error::Category::Eof => "no JSON",
        serde_json::error::Category::Data => "no row: a column is missing or of another kind",
        serde_json::error::Category::Io => "unreadable",
    };
    format!("{kind} (at column {})", error.column())
}

struct Counted {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

const PARQUET: &[u8] = b"PAR1";

/// The rows of a Parquet file as lines.
struct Records {
    rows: RowIter<'static>,
    line: Vec<u8>,
    at: usize,
}

impl Read for Records {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.line.len() {
            let Some(row) = self.rows.next() else { return Ok(0) };
            self.line = columns::line(&row.map_err(io::Error::other)?).to_string().into_bytes();
            self.line.push(b'\n');
            self.at = 0;
        }
        let n = (&self.line[self.at..]).read(buffer)?;
        self.at += n;
        Ok(n)
    }
}

const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

type Raw = BufReader<Counted>;

/// zstd frames one after the other, as `cat a.zst b.zst` makes them.
struct Frames {
    /// Between frames.
    raw: Option<Raw>,
    /// Within one.
    frame: Option<StreamingDecoder<Raw, ruzstd::decoding::FrameDecoder>>,
}

impl Read for Frames {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(frame) = &mut self.frame {
                let n = frame.read(buffer)?;
                if n > 0 || buffer.is_empty() {
                    return Ok(n);
                }
                self.raw = self.frame.take().map(StreamingDecoder::into_inner);
            }
            let Some(mut raw) = self.raw.take() else { return Ok(0) };
            if raw.fill_buf()?.is_empty() {
                self.raw = Some(raw);
                return Ok(0);
            }
            let frame = StreamingDecoder::new(raw);
            self.frame = Some(frame.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::pairs::draft::tests::{draft, refused};

    fn lines() -> Vec<u8> {
        let rows = [draft("req_1").into_row(&|_| None), refused("req_2").into_row(&|_| None)];
        rows.iter().flat_map(|row| [serde_json::to_vec(row).unwrap(), b"\n".to_vec()].concat()).collect()
    }

    fn ids(bytes: &[u8]) -> Vec<Result<String, String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows");
        std::fs::write(&path, bytes).unwrap();
        let read = Arc::new(AtomicU64::new(0));
        let reading = Reading::open(&path, Arc::clone(&read)).unwrap();
        let rows = reading.map(|row| match row {
            Ok(row) => Ok(row.meta().request_id.clone()),
            Err(error) => Err(error.to_string().replace(&path.display().to_string(), "rows")),
        });
        let rows = rows.collect();
        assert!(bytes.is_empty() || read.load(Ordering::Relaxed) > 0);
        rows
    }

    #[test]
    fn plain_gzip_and_zstd_are_the_same_rows() {
        let plain = lines();
        let expected = vec![Ok("req_1".to_owned()), Ok("req_2".to_owned())];
        assert_eq!(ids(&plain), expected);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let gzip = gzip.finish().unwrap();
        assert_eq!(ids(&gzip), expected);
        let zstd = zstd::encode_all(&plain[..], 3).unwrap();
        assert_eq!(ids(&zstd), expected);
        assert_eq!(ids(&[zstd.clone(), zstd].concat()), [expected.clone(), expected.clone()].concat());
        assert_eq!(ids(&[gzip.clone(), gzip].concat()), [expected.clone(), expected].concat());
    }

    #[test]
    fn broken_lines_are_told_with_their_number_and_without_their_text() {
        let mut text = lines();
        text.extend_from_slice(b"\n{\"prompt\": \"secret\"}\nsecret\n");
        let torn = lines();
        text.extend_from_slice(&torn[..100]);
        let told: Vec<String> = ids(&text).into_iter().filter_map(Result::err).collect();
        assert!(told[0].starts_with("rows:4: no row: a column is missing"), "{told:?}");
        assert!(told[1].starts_with("rows:5: no JSON (at column 1)"), "{told:?}");
        assert_eq!(told[2], "rows:6: the line is torn: the file ends in the middle of it");
        assert!(told.len() == 3 && !told.concat().contains("secret"));
    }

    #[test]
    fn a_broken_archive_ends_with_an_error() {
        let zstd = zstd::encode_all(&lines()[..], 3).unwrap();
        let told = ids(&zstd[..zstd.len() - 20]);
        assert!(told.last().unwrap().is_err(), "{told:?}");
    }

    #[test]
    fn a_directory_gives_its_files_by_name() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(files(dir.path()), Err(ReadError::Empty { .. })));
        for name in ["unpaired-2.jsonl", "pairs-1.jsonl.zst", "notes.txt", "pairs-0.jsonl.gz"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let names: Vec<_> = files(dir.path()).unwrap().iter().map(|p| p.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["pairs-0.jsonl.gz", "pairs-1.jsonl.zst", "unpaired-2.jsonl"]);
        assert!(matches!(files(&dir.path().join("none")), Err(ReadError::Io { .. })));
    }
}
