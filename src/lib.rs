//! Wardline: an inline guardrail gateway for LLM APIs.

pub mod classify;
pub mod telemetry;
pub mod upstream;
