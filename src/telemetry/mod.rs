//! Everything that is counted or logged, and nothing else.
//!
//! A leaf: any room may call it, it calls no room. What it is told comes as plain values, so that label sets stay
//! small and no prompt text can reach a log line or a label.

mod logs;
mod metrics;

pub use logs::{Format, init as init_logs};
pub use metrics::{Call, Compared, Decision, Metrics, ModelGauges, ReloadOutcome, StageTimer};
