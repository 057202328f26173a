//! One integration binary: the gateway as a whole against a scripted upstream, and the shape of the code.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod calibrate;
mod cascade;
mod census;
mod dialects;
mod endings;
mod exchange;
mod faults;
mod feedback;
mod fuzz;
mod judge;
mod layers;
mod ledger;
mod lifecycle;
mod lime;
mod matrix;
mod obfuscation;
mod offline;
mod packs;
mod pairs;
mod policies;
mod process;
mod race;
mod reload;
mod remote;
mod responses;
mod revision;
mod rollout;
mod seams;
mod session;
mod splits;
mod stored;
mod streaming;
mod strict;
mod support;
mod values;
mod whole;
