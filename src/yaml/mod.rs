//! YAML files that people write: read strictly, and their mistakes told with file, line, column and a caret.
//!
//! A leaf. Strict means: an unknown field, a duplicate key, a merge key, an unknown tag, `NaN` or a second document is
//! a mistake, and a file is bounded in size, depth and aliases. What a file means is for the room that reads it.

mod problem;
mod read;

pub use problem::Problem;
pub(crate) use problem::{Source, expected, ticked};
pub use read::Unreadable;
pub(crate) use read::{mistake_with, parse, read, text_of};
