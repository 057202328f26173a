//! Wardline: an inline guardrail gateway for LLM APIs.

pub mod classify;
pub mod guard;
pub mod telemetry;
pub mod upstream;
