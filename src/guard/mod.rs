//! Text to verdict.
//!
//! So far the pattern recognisers: what can be known by form and check digits, without a model.

mod pattern;
mod pii;

pub use pattern::{Match, PatternError, PatternSet, Settled};
pub use pii::ENTITIES;
