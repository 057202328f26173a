//! Anthropic Messages: what is particular to its request, answer and stream.
//!
//! Source: the types of the official Python library, `anthropic/types`.

mod call;
mod event;
mod render;
mod reply;

pub(super) use call::{inject, messages, read_call};
pub(super) use event::read_event;
pub(super) use render::{Progress, error, refusal};
pub(super) use reply::{answer, block, has_tool_calls, read_reply, replace_answer, tidy, tool_calls};
