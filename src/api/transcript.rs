//! What a client has seen of a stream, and how to end the stream there so that its SDK understands.

use bytes::Bytes;

use crate::api::call::Call;
use crate::api::dialect::{Dialect, Family};
use crate::api::event::Event;
use crate::api::notice::{BlockStyle, Notice};
use crate::api::{anthropic, openai, responses};

/// How far a stream has come on both sides.
#[derive(Clone, Debug)]
pub struct Transcript {
    progress: Progress,
}

#[derive(Clone, Debug)]
enum Progress {
    OpenAi(openai::Progress),
    Responses(responses::Progress),
    Anthropic(anthropic::Progress),
}

impl Transcript {
    /// A stream of which nothing came yet; one choice is expected. `include_usage` is the client's wish for `OpenAI`.
    pub fn new(dialect: Dialect, include_usage: bool) -> Transcript {
        Transcript::begin(dialect, include_usage, 1, None)
    }

    /// The stream that answers `call`: also knows its model and how many choices it asks for.
    pub fn of_call(call: &Call) -> Transcript {
        Transcript::begin(call.dialect(), call.include_usage(), call.choices(), Some(call.model().to_owned()))
    }

    fn begin(dialect: Dialect, include_usage: bool, choices: u32, model: Option<String>) -> Transcript {
        let progress = match dialect {
            Dialect::OpenAiResponses => Progress::Responses(responses::Progress::new(model)),
            other if other.family() == Family::Anthropic => Progress::Anthropic(anthropic::Progress::new(model)),
            other => {
                let legacy = other == Dialect::OpenAiCompletions;
                Progress::OpenAi(openai::Progress::new(legacy, include_usage, choices, model))
            }
        };
        Transcript { progress }
    }

    /// Takes note of an event that came from upstream.
    pub fn seen(&mut self, event: &Event) {
        match &mut self.progress {
            Progress::OpenAi(progress) => progress.seen(event),
            Progress::Responses(progress) => progress.seen(event),
            Progress::Anthropic(progress) => progress.seen(event),
        }
    }

    /// The bytes of an event for the client, with `changes` and `note` made (see [`Event::rewrite_with`]), and takes note
    /// of what the client then has. Empty for an event that means nothing any more.
    pub fn release(&mut self, event: &Event, changes: &[(usize, String)], note: Option<&[u8]>) -> Bytes {
        match &mut self.progress {
            Progress::OpenAi(progress) => progress.released(event),
            Progress::Responses(progress) => return progress.release(event, changes, note),
            Progress::Anthropic(progress) => progress.released(event),
        }
        event.rewrite_with(changes, note)
    }

    /// Takes note of an event that the client is not given, and of whose text it has a replacement.
    pub fn leave_out(&mut self, event: &Event) {
        match &mut self.progress {
            Progress::OpenAi(progress) => progress.released(event),
            Progress::Responses(progress) => progress.leave_out(),
            Progress::Anthropic(progress) => progress.released(event),
        }
    }

    /// Frames that end the stream as blocked, for every choice that has no end yet; whole also when the client has
    /// nothing so far. Empty when the stream has ended already.
    pub fn block_tail(&self, notice: &Notice<'_>, style: BlockStyle) -> Bytes {
        Bytes::from(match &self.progress {
            Progress::OpenAi(progress) => progress.block_tail(notice, style),
            Progress::Responses(progress) => progress.block_tail(notice, style),
            Progress::Anthropic(progress) => progress.block_tail(notice, style),
        })
    }

    /// A frame that ends the stream as failed: SDKs raise, and no mark of success follows.
    pub fn error_tail(&self, code: &str, message: &str, request_id: &str) -> Bytes {
        Bytes::from(match &self.progress {
            Progress::OpenAi(_) => openai::Progress::error_tail(code, message),
            Progress::Responses(progress) => progress.error_tail(code, message),
            Progress::Anthropic(_) => anthropic::Progress::error_tail(message, request_id),
        })
    }

    /// A frame that SDKs ignore, to keep a connection alive while text is held.
    pub fn heartbeat(&self) -> &'static [u8] {
        match &self.progress {
            Progress::OpenAi(_) | Progress::Responses(_) => b": keep-alive\n\n",
            Progress::Anthropic(_) => b"event: ping\ndata: {\"type\":\"ping\"}\n\n",
        }
    }
}
