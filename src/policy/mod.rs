//! Policy files: constitution, rules and settings of the platform team, read strictly and swapped whole.
//!
//! A directory of YAML files becomes checked [`Policy`] values. One of them is active; requests take a [`Snapshot`] of it
//! once and keep it to their last byte. The directory is watched: an edit that is sound takes effect at once, an edit
//! that is not is refused with file, line, column and reason, and what was in force stays.
//!
//! This room never judges a text and never loads a model: what a policy may speak of comes in as plain values
//! ([`Known`]), and what is built from it (recognisers, for example) is built by whoever opens the [`Store`].

mod checked;
mod compile;
mod constitution;
mod directory;
mod error;
#[cfg(test)]
mod mistakes;
mod rules;
mod schema;
mod store;
#[cfg(test)]
mod tests;
mod watch;

pub use checked::{
    Action, Annotate, Bound, Constitution, Disclose, Guard, InputBlock, InputMode, JudgeExample, JudgeSettings, Known,
    KnownLabel, Mode, OnError, OnStream, OutputBlock, PairSettings, Pattern, Policy, Principle, ReplayedBlock, Respond,
    ReviseSettings, Role, Rule, Stages, StreamSettings,
};
pub use error::PolicyError;
pub use store::{Config, LastReload, Snapshot, Store};
pub use watch::Watch;
