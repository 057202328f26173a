//! Exchanges in memory, the oldest given up first, and what was said about each.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::{Exchange, Given, Taken};
use crate::telemetry::Metrics;

/// What an exchange takes beside its text: keys, times, the tables' own bytes.
const ENTRY: usize = 160;
/// Exchanges about which something was said, as many as are remembered.
const MOST_GIVEN: usize = 65_536;
/// Words on one exchange.
const MOST_WORDS: usize = 16;

#[derive(Debug)]
pub(super) struct Store {
    capacity: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    kept: HashMap<u128, Box<[u8]>>,
    /// In the order in which they came.
    order: VecDeque<(u128, SystemTime)>,
    bytes: usize,
    given: HashMap<u128, Vec<Given>>,
    rated: VecDeque<u128>,
}

impl Store {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, inner: Mutex::default() }
    }

    /// One that does not fit at all is not kept.
    pub(super) fn keep(
        &self,
        id: u128,
        exchange: &Exchange,
        (now, lifetime): (SystemTime, Duration),
        metrics: &Metrics,
    ) {
        let Ok(text) = serde_json::to_vec(exchange) else { return };
        let size = text.len() + ENTRY;
        let mut inner = self.inner();
        let mut crowded_out = u64::from(size > self.capacity);
        if size <= self.capacity {
            inner.expire(now, lifetime);
            while inner.bytes + size > self.capacity && inner.give_up_oldest() {
                crowded_out += 1;
            }
            if inner.kept.insert(id, text.into_boxed_slice()).is_none() {
                inner.bytes += size;
                inner.order.push_back((id, now));
            }
        }
        metrics.feedback_kept(inner.kept.len(), inner.bytes, crowded_out);
    }

    pub(super) fn exchange(&self, id: u128) -> Option<Exchange> {
        serde_json::from_slice(self.inner().kept.get(&id)?).ok()
    }

    pub(super) fn take(&self, id: u128, given: Given) -> Taken {
        let mut inner = self.inner();
        if !inner.given.contains_key(&id) {
            inner.rated.push_back(id);
            if inner.rated.len() > MOST_GIVEN
                && let Some(oldest) = inner.rated.pop_front()
            {
                // What is no longer known to have been said must not be said again.
                inner.given.remove(&oldest);
                inner.give_up(oldest);
            }
        }
        let words = inner.given.entry(id).or_default();
        match words.iter().find(|word| word.topic == given.topic) {
            Some(word) if word.word == given.word => Taken::Again,
            Some(_) => Taken::Otherwise,
            None if words.len() >= MOST_WORDS => Taken::Enough,
            None => {
                words.push(given);
                Taken::New
            }
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn expire(&mut self, now: SystemTime, lifetime: Duration) {
        let old = |came: SystemTime| now.duration_since(came).is_ok_and(|age| age > lifetime);
        while self.order.front().is_some_and(|(_, came)| old(*came)) {
            self.give_up_oldest();
        }
    }

    /// Says whether there was one.
    fn give_up_oldest(&mut self) -> bool {
        let Some((id, _)) = self.order.pop_front() else { return false };
        self.give_up(id);
        true
    }

    fn give_up(&mut self, id: u128) {
        if let Some(text) = self.kept.remove(&id) {
            self.bytes -= text.len() + ENTRY;
        }
    }
}
