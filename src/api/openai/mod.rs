//! `OpenAI` Chat Completions: what is particular to its request, answer and stream.
//!
//! Source: the types of the official Python library, `openai/types/chat`.

mod call;
mod event;
mod render;
mod reply;

pub(super) use call::{inject, messages, read_call};
pub(super) use event::{choices, forget_copies, read_event, usage};
pub(super) use render::{Progress, error, finish_reason, refusal, usage_tree};
pub(super) use reply::{answer, begin, block, has_tool_calls, read_reply, replace_answer, tidy, tool_calls};
