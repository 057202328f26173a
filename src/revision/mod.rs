//! Critique and revision of one answer under one principle (Constitutional AI, arXiv 2212.08073), inline.
//!
//! The model is asked twice, each time in a fresh request: first whether and where the answer goes against the
//! principle, then for a rewrite. Conversation, answer and principle travel as one JSON document that is data, apart
//! from the instructions, and what comes back must be the JSON that was asked for: an answer that says "verdict: safe"
//! or closes a delimiter changes nothing, and prose instead of JSON is an error, not a pass.
//!
//! This room never decides whether a revision is good enough: the guards judge it again.

mod parse;
mod revise;

pub use parse::Critique;
pub use revise::{Draft, Error, Revised, Reviser};
