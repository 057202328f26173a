//! Policy files: constitution, rules and settings of the platform team, read strictly and swapped whole.
//!
//! A directory of YAML files becomes checked [`Policy`] values. One of them is active, and lines of the configuration may
//! choose others by route, model, key, tenant or header; a request takes a [`Snapshot`] of its policy once and keeps it to
//! the last byte. The directory is watched: an edit that is sound takes effect at once, an edit that is not is refused with file, line, column and reason, and what was in force stays.
//!
//! A file brings its own tests; they are run before it is put in force, by whoever opens the [`Store`].
//!
//! This room never judges a text and never loads a model: what a policy may speak of comes in as plain values
//! ([`Known`]), and what is built from it (recognisers, for example) is built by whoever opens the [`Store`].

mod checked;
mod compile;
mod constitution;
mod directory;
mod embedded;
mod error;
mod file;
mod inherit;
#[cfg(test)]
mod inherit_tests;
mod levels;
#[cfg(test)]
mod mistakes;
mod render;
mod rollout;
mod rules;
mod schema;
#[cfg(test)]
mod schema_tests;
mod select;
mod store;
mod supply;
mod tenant;
#[cfg(test)]
mod tests;
mod watch;
mod when;

pub use checked::{
    Action, Annotate, Bound, CompareSettings, Consent, Constitution, Disclose, Guard, InputBlock, InputMode,
    JudgeExample, JudgeSettings, Known, KnownLabel, Mode, OnError, OnStream, OutputBlock, PairSettings, Pattern,
    Policy, Principle, PromptAs, ReplayedBlock, Respond, ReviseSettings, ReviseWhen, Role, Rule, Stages,
    StreamSettings,
};
pub use embedded::{Expected, Given, Probe, Proof, Test};
pub use error::PolicyError;
pub use file::PolicyFile;
pub use levels::NewLevel;
pub use render::tokens;
pub use rollout::{Assigned, By, Placed, Plan, Rollout, Trial};
pub use schema::json_schema;
pub use select::{Asking, Key, Selector};
pub use store::{Config, LastReload, Makers, Snapshot, Store};
pub use supply::{Stock, Supply};
pub use tenant::{Tenant, Tenants};
pub use watch::Watch;
pub use when::{Facts, Undecided, When};
