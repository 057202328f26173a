//! From a path to a value, or to what is wrong.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_saphyr::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy, Options};

use super::problem::{Problem, Source};

/// A file over this size is refused unread (bytes).
const MAX_FILE_BYTES: usize = 1 << 20;

/// Why a file gave no value.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It could not be opened or is not text.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has a mistake.
    #[error("{0}\n{snippet}", snippet = .0.snippet)]
    Mistake(Box<Problem>),
}

/// Reads one file as one document of the given shape.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Unreadable> {
    let text = text_of(path).map_err(|source| Unreadable::Read { path: path.to_owned(), source })?;
    parse(&text).map_err(|error| Unreadable::Mistake(Box::new(Source::of(path, &text).unreadable(&error))))
}

/// How a mistake at `key` of a file that was read before is told: with place and caret, if the file is still there.
pub(crate) fn mistake_with(path: &Path, key: &str, message: &str) -> String {
    match text_of(path) {
        Ok(text) => Unreadable::Mistake(Box::new(Source::of(path, &text).problem_with(key, message))).to_string(),
        Err(_gone) => format!("{}: {key}: {message}", path.display()),
    }
}

/// Whether a file is called like those that are read here.
pub(crate) fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// The text of a file of sensible size, in UTF-8.
pub(crate) fn text_of(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("over {MAX_FILE_BYTES} bytes, which nobody writes by hand")));
    }
    String::from_utf8(bytes).map_err(|error| io::Error::other(error.utf8_error()))
}

/// Reads one document, strictly.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, serde_saphyr::Error> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| match error {
        // A line indented too little ends its mapping early: what is wrong is the line, not the field after it.
        serde_saphyr::Error::SerdeMissingField { .. } => {
            serde_saphyr::from_str_with_options::<IgnoredAny>(text, options()).err().unwrap_or(error)
        }
        other => other,
    })
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 16,
            flow_nesting_limit: 16,
            max_nodes: 20_000,
            max_events: 50_000,
            max_anchors: 64,
            max_aliases: 256,
            max_documents: 2,
            max_total_scalar_bytes: MAX_FILE_BYTES,
            max_merge_keys: 0,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        non_finite_float_policy: NonFiniteFloatPolicy::Reject,
        strict_booleans: true,
        reject_unsupported_tags: true,
        reject_tagged_field_names: true,
        emit_comments: false,
        with_snippet: false,
    }
}
