//! What a request may name of the provider's store: text that never passed here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::call::Call;
use crate::api::error::ReadError;

/// A kind of state that the provider keeps (`OpenAI`'s Responses API). Nobody here has seen what it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stored {
    /// `previous_response_id`: the conversation up to an earlier answer.
    PreviousResponseId,
    /// `conversation`.
    Conversation,
    /// `prompt`: a template, filled in by the provider.
    Prompt,
    /// An item of type `item_reference`.
    ItemReference,
    /// An item that holds a conversation which only the provider can read.
    Compaction,
    /// `background: true`: the answer is fetched later.
    Background,
    /// `GET /v1/responses/{id}`: an answer is fetched; it is judged when it comes down, and not what it answers.
    Retrieve,
}

impl Call {
    /// Why this request may not go up under a policy that declares no more than these; of requests that were read with
    /// [`Limits::defer_stored`](crate::api::Limits::defer_stored).
    pub fn undeclared(&self, declared: &[Stored]) -> Option<&ReadError> {
        self.stored().iter().find(|(what, _)| !declared.contains(what)).map(|(_, error)| error)
    }

    /// Whether it stands on text that nobody here has seen.
    pub fn has_unseen(&self) -> bool {
        self.stored().iter().any(|(what, _)| *what != Stored::Background)
    }
}
