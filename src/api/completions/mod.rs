//! `OpenAI` legacy Completions: what is particular to its request, answer and stream. A stream's chunks have the shape
//! of the whole answer, and its frame is that of Chat Completions.
//!
//! Source: the types of the official Python library, `openai/types/completion*.py`.

mod call;
mod event;
mod reply;

pub(super) use call::{inject, messages, read_call};
pub(super) use event::{forget_copies, read_event};
pub(super) use reply::{answer, block, blocked_choice, read_reply, refusal, replace_answer, tidy};
