//! Wardline: an inline guardrail gateway for LLM APIs.
//!
//! Applications change one base URL; then every request carries the operator's constitution, classifiers judge what
//! goes up and what streams down, and an answer that breaks a principle can be criticised and revised before anyone
//! reads it.
//!
//! # Layout, in the order of a request's way
//! - [`server`]: sockets, TLS, limits, drain; the admin listener
//! - [`gateway`]: the corridor, the life of one request from top to bottom
//! - [`api`]: the wire dialects, pure
//! - [`policy`]: policy files, checked; the snapshot in force and its reload
//! - [`guard`]: text to verdict, whole and streamed
//! - [`classify`]: text to scores
//! - [`upstream`]: one call to a provider
//! - [`revision`]: critique and revision
//! - [`pairs`]: preference rows, off the request's way
//!
//! Beside it: [`telemetry`] (every metric on one page), [`yaml`] (files that people write), `page` (pages for a browser), [`eval`] (labelled sets into
//! figures), [`config`] (the process configuration) and [`cli`] (the commands).

pub mod api;
pub mod classify;
pub mod cli;
pub mod config;
pub mod eval;
pub mod gateway;
pub mod guard;
mod page;
pub mod pairs;
pub mod policy;
pub mod revision;
pub mod server;
pub mod telemetry;
pub mod upstream;
pub mod yaml;
