//! What people say of answers: exchanges are kept for a while, and a word about one makes a row of it.
//!
//! Only sampled exchanges are kept, redacted, in memory and within bounds: feedback on others is counted and makes no row,
//! and a restart forgets them. Nothing is taken twice: the same word again changes nothing, and the first word on one
//! thing counts.

mod exchange;
mod rate;
mod store;

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

pub use exchange::Exchange;
use rate::Rates;
use store::Store;

use crate::pairs::seal::{Seal, Unsealed};
use crate::telemetry::Metrics;

/// How long and how much is kept for feedback, and how often it is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Memory for exchanges that may be rated, in bytes; the oldest go first. By default 64 MiB.
    pub memory_bytes: usize,
    /// Hours after which an answer is no longer rated; by default 24.
    #[schemars(range(min = 1, max = 8760))]
    pub expires_hours: u32,
    /// How often a minute a client may send feedback; by default 120.
    #[schemars(range(min = 1))]
    pub per_minute: u32,
    /// The largest body, in bytes; by default 64 KiB.
    #[schemars(range(min = 1024))]
    pub max_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { memory_bytes: 64 << 20, expires_hours: 24, per_minute: 120, max_bytes: 64 << 10 }
    }
}

/// What may be rated, and what has been.
#[derive(Debug)]
pub struct Feedback {
    config: Config,
    store: Store,
    rates: Rates,
}

/// An answer: the exchange by what is unique about its id, and which of its answers.
pub type Answer = (u128, u32);

/// A word on something, as far as it must be known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// The thing that one word is taken on.
    topic: u64,
    /// The word.
    word: u64,
}

impl Given {
    /// `topic` and `word` are texts; only hashes of them are kept.
    pub fn of(topic: &[&[u8]], word: &[&[u8]]) -> Self {
        let hash = |parts: &[&[u8]]| {
            let mut hasher = blake3::Hasher::new_derive_key("wardline feedback given v1");
            for part in parts {
                hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
            }
            let mut eight = [0; 8];
            hasher.finalize_xof().fill(&mut eight);
            u64::from_le_bytes(eight)
        };
        Self { topic: hash(topic), word: hash(word) }
    }
}

/// Whether a word is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is new.
    New,
    /// The same was said before.
    Again,
    /// Something else was said on the same thing.
    Otherwise,
    /// Enough was said about this exchange.
    Enough,
}

impl Feedback {
    /// Nothing is kept yet.
    pub fn new(config: &Config) -> Self {
        Self { config: config.clone(), store: Store::new(config.memory_bytes), rates: Rates::default() }
    }

    /// The largest body, in bytes.
    pub fn max_bytes(&self) -> usize {
        self.config.max_bytes
    }

    /// Whether a client may send feedback now; takes one of the minute's places if so.
    pub fn admits(&self, owner: &[u8], now: SystemTime) -> bool {
        self.rates.admit(owner, self.config.per_minute, now)
    }

    /// Whether this gateway gave this client such an id not too long ago; gives what is unique about it.
    pub fn check(&self, seal: &Seal, id: &str, owner: &[u8], now: SystemTime) -> Result<u128, Unsealed> {
        seal.check(id, owner, now, Duration::from_hours(u64::from(self.config.expires_hours)))
    }

    /// Keeps an exchange until it expires, or there is no room.
    pub fn keep(&self, id: u128, exchange: &Exchange, now: SystemTime, metrics: &Metrics) {
        let lifetime = Duration::from_hours(u64::from(self.config.expires_hours));
        self.store.keep(id, exchange, (now, lifetime), metrics);
    }

    /// An exchange that is kept.
    pub fn exchange(&self, id: u128) -> Option<Exchange> {
        self.store.exchange(id)
    }

    /// Notes a word about an exchange, kept or not.
    pub fn take(&self, id: u128, given: Given) -> Taken {
        self.store.take(id, given)
    }
}

#[cfg(test)]
mod tests;
