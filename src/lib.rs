//! Wardline: an inline guardrail gateway for LLM APIs.

pub mod api;
pub mod classify;
pub mod guard;
pub mod policy;
pub mod telemetry;
pub mod upstream;
pub mod yaml;
