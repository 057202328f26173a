//! Critique and revision of one answer (Constitutional AI, arXiv 2212.08073), inline.
//!
//! In each round the model is asked twice, each time in a fresh request: first whether and where the answer goes against
//! one principle, then for a rewrite. Conversation, answer and principle travel as one JSON document that is data, apart
//! from the instructions, and what comes back must be the JSON that was asked for: an answer that says "verdict: safe"
//! or closes a delimiter changes nothing, and prose instead of JSON is an error, not a pass. All rounds share one budget
//! of time and tokens.
//!
//! A judge compares two answers under the same principles, in both orders, so that its liking for a place shows. The
//! second of them may be a rival's: the same request, sent once more.
//!
//! This room never decides whether a revision is good enough: the guards judge it again after each round.

mod agenda;
mod ask;
mod error;
mod form;
mod judge;
mod parse;
mod revise;
mod rival;

pub use agenda::next_principle;
pub use ask::Asker;
pub use error::Error;
pub use judge::{Comparison, EQUAL, Judge, Preference, Verdict, from_scores};
pub use parse::Critique;
pub use revise::{Budget, Draft, Reviser, Round};
pub use rival::Drawn;
