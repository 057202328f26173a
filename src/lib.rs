//! Wardline: an inline guardrail gateway for LLM APIs.

pub mod api;
pub mod telemetry;
