//! Anthropic Messages: what is particular to its request, answer and stream.
//!
//! Source: the types of the official Python library, `anthropic/types`.

mod call;

pub(super) use call::{inject, messages, read_call};
