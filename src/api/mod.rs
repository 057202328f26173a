//! The wire dialects: what a request, an answer and a stream look like, and how to change a part of one without
//! touching the rest.
//!
//! Pure: bytes in, bytes out. No sockets, no clock, no policy. Every string that a document carries ends up in a
//! [`Segment`] (or a stream event's delta), so that a guard that reads the segments has read everything; what cannot be
//! read is an error and never passed on. What nobody changes keeps its bytes.

mod anthropic;
mod call;
mod dialect;
mod error;
mod event;
pub mod json;
mod notice;
mod openai;
pub mod render;
mod reply;
pub mod sample;
mod segment;
pub mod sse;
#[cfg(test)]
mod tests;
mod transcript;
mod vocabulary;

pub use call::{Call, InjectRole, OutputForm};
pub use dialect::{Dialect, Limits, Origin, UnknownOrigin};
pub use error::ReadError;
pub use event::{Channel, Close, Delta, Event, Finish, Lane};
pub use notice::{BlockStyle, Notice, Usage};
pub use reply::Reply;
pub use segment::Segment;
pub use transcript::Transcript;
