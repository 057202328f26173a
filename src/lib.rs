//! Wardline: an inline guardrail gateway for LLM APIs.

pub mod telemetry;
pub mod upstream;
