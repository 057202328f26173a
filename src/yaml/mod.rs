//! YAML files that people write: read strictly, and their mistakes told with file, line, column and a caret.
//!
//! A leaf. Strict means: an unknown field, a duplicate key, a merge key, an unknown tag, `NaN` or a second document is
//! a mistake, and a file is bounded in size, depth and aliases. What a file means is for the room that reads it. The JSON
//! Schema that editors complete from is made from the same types that the files are read into.

mod edit;
mod problem;
mod read;
mod schema;
mod spanned;
mod tree;
mod write;

pub(crate) use edit::range_of;
pub use problem::Problem;
pub(crate) use problem::{Source, expected, ticked, value_of};
pub use read::Unreadable;
pub(crate) use read::{is_yaml, mistake_with, parse, read, text_of};
pub(crate) use schema::schema_of;
pub(crate) use spanned::Spanned;
pub(crate) use tree::{Composed, Kind, Node};
