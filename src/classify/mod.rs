//! Text in, scores out: ONNX classifiers behind one scheduler.
//!
//! A [`Classifier`] owns its worker threads; each of them owns one [`Backend`] (one single-threaded ONNX Runtime
//! session, or whatever a test brings). A text is cut into tokens, the tokens into overlapping windows, every window is
//! scored, and the largest score of each label is the text's. One queue serves all callers and is never waited on by a
//! timer: workers take what is there.
//!
//! A classifier on a server is a backend like another. Its worker threads wait for answers, its tokens are characters;
//! queue, windows, checks of rows and errors are the same.
//!
//! What this room never does: score a text in part, run inference on the async runtime's threads, load bytes that were
//! not verified against the manifest, or decide anything. Thresholds are carried as plain values; judging is for the
//! guards.

mod backend;
mod batch;
mod characters;
mod classifier;
mod config;
pub mod explain;
mod load;
mod manifest;
mod model;
mod models;
mod onnx;
mod remote;
mod runtime;
mod sieve;
mod tokens;
mod windows;

#[cfg(test)]
mod tests;

pub use backend::{Backend, BackendError};
pub use characters::Characters;
pub use classifier::{Classifier, Label, ScoreError, Scores};
pub use config::{Cascade, Config, Device, MissingGpu};
pub use load::{LoadError, labels};
pub use models::Models;
pub use remote::{Activation as RemoteActivation, Remote, RemoteProtocol, Theirs};
pub use windows::Frame;
