//! Preference records: what an answer was, and what it became.
//!
//! A row is TRL's explicit-prompt conversational preference with side columns. Rows are sampled by request id, redacted
//! before they leave the request's task, queued without waiting, and written as JSON lines by one thread. Never in the
//! way of traffic: a full queue or a broken disk costs rows, which are counted, and nothing else.

mod pair;
mod sample;
mod spool;
mod timestamp;

pub use pair::{Draft, GuardScore, Meta, Pair, Source, Split};
pub use sample::sampled;
pub use spool::{Config, Spool, SpoolError};
