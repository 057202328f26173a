//! What a command writes: standard output, or a file that is put in place once it is complete.

use std::fs::{self, File};
use std::io::{self, BufWriter, Stdout, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

use super::Failed;

/// Text on standard output.
pub(super) fn print(text: &str) -> Result<(), Failed> {
    io::stdout().write_all(text.as_bytes()).map_err(|error| Failed::Ran(error.to_string()))
}

/// A report beside it.
pub(super) fn report(path: &Path, text: &str) -> Result<(), Failed> {
    fs::write(path, text).map_err(|error| Failed::Ran(format!("{}: {error}", path.display())))
}

/// Lines on their way out.
pub(super) struct Output {
    /// The file to be, and where it grows.
    place: Option<(PathBuf, PathBuf)>,
    sink: Sink,
    lines: u64,
}

enum Sink {
    Screen(BufWriter<Stdout>),
    Plain(BufWriter<File>),
    Gzip(GzEncoder<BufWriter<File>>),
}

impl Output {
    /// Opens standard output, or a file beside the one to be. Names that end in `.gz` are packed.
    pub(super) fn create(path: Option<&Path>) -> Result<Self, Failed> {
        let Some(path) = path else {
            return Ok(Self { place: None, sink: Sink::Screen(BufWriter::new(io::stdout())), lines: 0 });
        };
        let told = |reason: &dyn std::fmt::Display| Failed::Told(format!("{}: {reason}", path.display()));
        let name = path.file_name().filter(|_| !path.is_dir()).ok_or_else(|| told(&"expected a file to write"))?;
        if name.to_string_lossy().ends_with(".zst") {
            return Err(told(&"expected a name that ends in .jsonl or .gz: this command does not pack as zstd"));
        }
        let growing = path.with_file_name(format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id()));
        let file = BufWriter::new(File::create(&growing).map_err(|error| told(&error))?);
        let packed = path.extension().is_some_and(|end| end == "gz");
        let sink = if packed { Sink::Gzip(GzEncoder::new(file, Compression::default())) } else { Sink::Plain(file) };
        Ok(Self { place: Some((path.to_owned(), growing)), sink, lines: 0 })
    }

    /// One value as one line of JSON.
    pub(super) fn line(&mut self, value: &impl Serialize) -> Result<(), Failed> {
        let mut line = serde_json::to_vec(value).map_err(|error| Failed::Ran(error.to_string()))?;
        line.push(b'\n');
        self.lines += 1;
        self.write(&line)
    }

    /// Text as it is.
    pub(super) fn text(&mut self, text: &str) -> Result<(), Failed> {
        self.write(text.as_bytes())
    }

    /// Everything is there: puts the file in its place. Says how many lines it has.
    pub(super) fn finish(mut self) -> Result<u64, Failed> {
        let flushed = match &mut self.sink {
            Sink::Screen(screen) => screen.flush(),
            Sink::Plain(file) => file.flush().and_then(|()| file.get_ref().sync_all()),
            Sink::Gzip(file) => file
                .try_finish()
                .and_then(|()| file.get_mut().flush())
                .and_then(|()| file.get_ref().get_ref().sync_all()),
        };
        let moved = flushed.and_then(|()| match &self.place {
            Some((path, growing)) => fs::rename(growing, path),
            None => Ok(()),
        });
        match moved {
            Ok(()) => {
                self.place = None;
                Ok(self.lines)
            }
            Err(error) => {
                self.abandon();
                Err(self.broken(&error))
            }
        }
    }

    /// What was begun and will not be finished is taken away again.
    pub(super) fn abandon(&self) {
        if let Some((_, growing)) = &self.place {
            let _gone = fs::remove_file(growing);
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        let written = match &mut self.sink {
            Sink::Screen(screen) => screen.write_all(bytes),
            Sink::Plain(file) => file.write_all(bytes),
            Sink::Gzip(file) => file.write_all(bytes),
        };
        written.map_err(|error| self.broken(&error))
    }

    fn broken(&self, error: &io::Error) -> Failed {
        match &self.place {
            Some((path, _)) => Failed::Ran(format!("{}: {error}", path.display())),
            None if error.kind() == io::ErrorKind::BrokenPipe => Failed::Ran("nobody reads standard output".to_owned()),
            None => Failed::Ran(format!("standard output: {error}")),
        }
    }
}
