//! The wire dialects: what a request, an answer and a stream look like, and how to change a part of one without
//! touching the rest.
//!
//! Pure: bytes in, bytes out. No sockets, no clock, no policy. Every string that a document carries ends up in a
//! [`Segment`] (or a stream event's delta), so that a guard that reads the segments has read everything; what cannot be
//! read is an error and never passed on. What nobody changes keeps its bytes.

mod again;
mod anthropic;
mod call;
mod completions;
mod dialect;
mod echo;
mod effects;
mod error;
mod event;
mod ground;
mod inputs;
pub mod json;
mod notice;
mod openai;
mod remark;
pub mod render;
mod reply;
mod responses;
pub mod sample;
mod segment;
pub mod sse;
mod stored;
#[cfg(test)]
mod tests;
mod transcript;
mod turn;
mod vocabulary;

pub use again::{again, conversation};
pub use call::{Call, InjectRole};
pub use dialect::{Dialect, Family, Limits, Origin, UnknownOrigin};
pub use echo::Echo;
pub use error::ReadError;
pub use event::{Channel, Close, Delta, Event, Finish, Lane};
pub use ground::{Ground, OutputForm};
pub use inputs::Assessment;
pub use notice::{BlockStyle, Notice, Usage};
pub use remark::{Doing, Remark, Said};
pub use reply::Reply;
pub use segment::{Segment, Strand};
pub use stored::Stored;
pub use transcript::Transcript;
