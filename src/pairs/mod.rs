//! Preference records: what an answer was, and what it became.
//!
//! A row is TRL's explicit-prompt conversational preference with side columns; an answer that was blocked, and that no
//! better one is known for, is an unpaired row. Rows are sampled by request id, redacted before they leave the request's
//! task, queued without waiting, and written as JSON lines by one thread. Never in the way of traffic: a full queue or a
//! broken disk costs rows, which are counted, and nothing else. From the spool's files, [`Sinks`] carry rows on as Parquet to
//! an object store and as messages to NATS `JetStream`, each on a thread of its own.
//!
//! What people say of an answer becomes a row of the same kinds: an exchange is kept for a while, under the id that the client
//! got with it.
//!
//! The other half of the room reads rows again: [`Reading`] with file and line, [`mistakes()`], [`Selection`] of what is
//! clean, [`Format`]s of training tools, [`Stats`].

mod caps;
mod columns;
mod draft;
mod export;
pub mod feedback;
mod mistakes;
mod read;
mod row;
mod sample;
mod seal;
mod select;
mod ship;
mod spool;
mod stats;
mod timestamp;

pub use caps::{Claim, Limits};
pub use draft::{Answers, Draft, Judgement, Said, Word};
pub use export::{Format, Unfit};
pub use feedback::{Answer, Exchange, Feedback, Given, Taken};
pub use mistakes::{fingerprint, mistakes};
pub use read::{ReadError, Reading, files};
pub use row::{Consent, GuardScore, Meta, Pair, Row, Side, Signal, Source, Split, Tag, Unpaired};
pub use sample::sampled;
pub use seal::{Seal, SealError, Unsealed};
pub use select::{LeftOut, Selection};
pub use ship::{NatsConfig, ParquetConfig, Shipping, SinkConfig, SinkError, Sinks};
pub(crate) use spool::file::whole_lines;
pub use spool::{AfterShipping, Config, Spool, SpoolError};
pub use stats::Stats;
