//! Wardline: an inline guardrail gateway for LLM APIs.

pub mod guard;
pub mod telemetry;
