//! `OpenAI` Responses: what is particular to its request, answer and stream.
//!
//! Source: the types of the official Python library, `openai/types/responses`. A stream repeats each text up to four
//! times (deltas, `….done`, `output_item.done`, `response.completed`); the repeats are read as copies of one lane, so
//! that they are judged once and agree after a redaction.

mod call;
mod event;
mod item;
mod progress;
mod render;
mod reply;

pub(super) use call::{inject, messages, read_call};
pub(super) use event::{forget_copies, read_event};
pub(super) use progress::Progress;
pub(super) use render::refusal;
pub(super) use reply::{answer, block, has_tool_calls, read_reply, replace_answer, tidy, tool_calls};
