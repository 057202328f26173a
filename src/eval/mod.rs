//! Labelled texts in, figures out: how good the guards are, measured offline on the gateway's own path.
//!
//! [`rows`] reads what people labelled, [`score`] asks [`Guards`](crate::guard::Guards) as a request would,
//! [`Report`] counts, [`calibrate`](calibrate::calibrate) proposes thresholds. Every figure is a pure function of rows, scores and a seed: the same files, the same model and
//! the same options give the same report.
//!
//! What this room never does: serve, decide, or show a text. Reports and messages name files and lines.

mod bootstrap;
pub mod calibrate;
mod figures;
mod floor;
mod obfuscate;
mod ranking;
mod report;
pub mod rows;
mod scoring;
mod targets;

#[cfg(test)]
mod tests;

pub use figures::{Figure, Group, Settings};
pub use floor::{Floor, FloorError};
pub use obfuscate::Obfuscation;
pub use report::{Report, Run};
pub use scoring::{Scored, score};
pub use targets::{Target, Targets, UnknownTask, flags};
