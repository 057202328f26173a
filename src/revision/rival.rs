//! A second answer to a request, from the same model or another one.

use bytes::Bytes;
use http::uri::PathAndQuery;

use super::ask::Asker;
use super::error::Error;
use crate::api::Dialect;

/// A second answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// Its text; empty where it has none.
    pub text: String,
    /// Whether it calls tools.
    pub calls: bool,
    /// Whether it was cut off at the token limit.
    pub truncated: bool,
}

impl Asker<'_> {
    /// Sends a request that asks for one whole answer.
    pub async fn draw(&self, target: &PathAndQuery, dialect: Dialect, body: Bytes) -> Result<Drawn, Error> {
        let reply = self.reply("rival", target, dialect, body).await?;
        let text = reply.answer(0).unwrap_or_default();
        Ok(Drawn { text, calls: reply.has_tool_calls(0), truncated: reply.is_truncated(0) })
    }
}
