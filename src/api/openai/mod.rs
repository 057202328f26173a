//! OpenAI Chat Completions: what is particular to its request, answer and stream.
//!
//! Source: the types of the official Python library, `openai/types/chat`.

mod call;

pub(super) use call::{inject, messages, read_call};
