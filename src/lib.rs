//! Wardline: an inline guardrail gateway for LLM APIs.

pub mod guard;
pub mod pairs;
pub mod telemetry;
