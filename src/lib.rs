//! Wardline: an inline guardrail gateway for LLM APIs.

mod cli;
pub mod guard;
pub mod pairs;
pub mod telemetry;
