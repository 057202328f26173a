//! An exchange as it is kept: a row but for what people say of it.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::pairs::draft::{Answers, Draft, Said, Word};
use crate::pairs::row::{Meta, Pair, Row, Source, Unpaired};
use crate::pairs::timestamp::rfc3339;

/// A redacted exchange that may be rated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    prompt: Vec<Value>,
    answers: BTreeMap<u32, Vec<Value>>,
    tools: Option<String>,
    /// A hash of the tenant or key whose exchange it is.
    client: u64,
    meta: Meta,
}

impl Exchange {
    /// Of a draft, whose own answers are left out, and the answers as the client got them. Everything is redacted.
    pub fn new(
        draft: Draft,
        (answers, client): (Vec<(u32, Value)>, u64),
        redact: &dyn Fn(&str) -> Option<String>,
    ) -> Self {
        let answers = answers.into_iter().map(|(choice, mut message)| {
            crate::pairs::draft::redact_message(&mut message, redact);
            (choice, vec![message])
        });
        let answers = answers.collect();
        let nothing = Answers::Rated(Said::default(), true);
        let draft = Draft { answers: nothing, source: Source::Feedback, ..draft };
        match draft.into_row(redact) {
            Row::Unpaired(row) => Self { prompt: row.prompt, answers, tools: row.tools, client, meta: row.meta },
            Row::Pair(row) => Self { prompt: row.prompt, answers, tools: row.tools, client, meta: row.meta },
        }
    }

    /// The policy that was in force.
    pub fn policy(&self) -> &str {
        &self.meta.policy
    }

    /// The hashed user, if the request named one.
    pub fn user(&self) -> Option<&str> {
        self.meta.user.as_deref()
    }

    /// Whose exchange it is.
    pub fn client(&self) -> u64 {
        self.client
    }

    /// Whether it has such an answer.
    pub fn has(&self, choice: u32) -> bool {
        self.answers.contains_key(&choice)
    }

    /// Whether the same was asked.
    pub fn asks_as(&self, other: &Self) -> bool {
        self.prompt == other.prompt
    }

    /// An answer that was found good or bad.
    pub fn rated(&self, choice: u32, label: bool, word: Word) -> Option<Row> {
        let completion = self.answers.get(&choice)?.clone();
        Some(Row::Unpaired(Box::new(Unpaired {
            prompt: self.prompt.clone(),
            completion,
            label,
            score: None,
            tools: self.tools.clone(),
            meta: self.meta(word),
        })))
    }

    /// A better answer than one that was given.
    pub fn bettered(&self, choice: u32, better: &str, word: Word) -> Option<Row> {
        let better = vec![json!({"role": "assistant", "content": better})];
        Some(self.pair(better, self.answers.get(&choice)?.clone(), self.meta(word)))
    }

    /// An answer that was preferred to another one.
    pub fn preferred(&self, choice: u32, (other, other_choice): (&Self, u32), word: Word) -> Option<Row> {
        let (chosen, rejected) = (self.answers.get(&choice)?, other.answers.get(&other_choice)?);
        let mut meta = self.meta(word);
        meta.tags.extend(&other.meta.tags);
        meta.tags.sort_unstable();
        meta.tags.dedup();
        Some(self.pair(chosen.clone(), rejected.clone(), meta))
    }

    fn pair(&self, chosen: Vec<Value>, rejected: Vec<Value>, meta: Meta) -> Row {
        Row::Pair(Box::new(Pair {
            prompt: self.prompt.clone(),
            chosen,
            rejected,
            score_chosen: None,
            score_rejected: None,
            margin: None,
            tools: self.tools.clone(),
            meta,
        }))
    }

    fn meta(&self, word: Word) -> Meta {
        Meta {
            pair_id: Uuid::now_v7().to_string(),
            created_at: rfc3339(SystemTime::now()),
            signal: Some(word.signal),
            event: Some(word.event.to_owned()),
            rating: word.rating,
            comment: word.comment,
            ..self.meta.clone()
        }
    }
}
