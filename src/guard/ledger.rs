//! What has been judged before, so that a conversation pays for its new turn and not for all of them again.
//!
//! An entry is found by a keyed BLAKE3 hash of text, origin, policy revision, model revision and tenant, and holds
//! scores and whether the text was blocked: no text, and nothing that a text could be made from. The key is random and
//! lives as long as the process. Only prompts are kept: an answer comes once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::armed::Heard;
use crate::api::Origin;
use crate::classify::Scores;
use crate::telemetry::Metrics;

/// Parts that are locked apart.
const SHARDS: usize = 16;
/// What an entry takes beside its scores: key, counters, the table's own bytes.
const ENTRY: usize = 128;

/// Whose requests share verdicts. What one tenant sends must not show another, by its timing, what was sent before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tenant([u8; 32]);

impl Tenant {
    /// Everybody: where the gateway holds the key, its clients are one.
    pub const SHARED: Self = Self([0; 32]);

    /// A tenant that the configuration knows, whatever keys it has.
    pub fn named(name: &str) -> Self {
        Self(blake3::derive_key("wardline tenant by its name", name.as_bytes()))
    }

    /// Whoever holds this key; only a hash of it is kept.
    pub fn of_key(secret: &[u8]) -> Self {
        Self(blake3::derive_key("wardline tenant of a client's key", secret))
    }
}

/// Where a verdict is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place([u8; 32]);

/// What is known of a text.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// What the classifiers said that have been asked.
    pub(super) heard: Heard,
    /// Whether a rule has blocked it.
    pub(super) blocked: bool,
}

/// Verdicts of prompts, bounded in bytes.
#[derive(Debug)]
pub(super) struct Ledger {
    key: [u8; 32],
    shards: [Mutex<Shard>; SHARDS],
    /// For one generation of one shard.
    capacity: usize,
    /// Whether a text was ever blocked: until then nobody needs to look for one.
    blocks: AtomicBool,
    metrics: Arc<Metrics>,
}

/// Two generations. What is asked for moves to the young one; when that is full it becomes the old one, and what was old
/// and not asked for since is forgotten. That is nearly the least recently used, without a list to keep.
#[derive(Debug, Default)]
struct Shard {
    young: HashMap<Place, Known>,
    old: HashMap<Place, Known>,
    young_bytes: usize,
    old_bytes: usize,
}

impl Ledger {
    /// An empty ledger of at most `bytes`, under a key that nobody knows.
    pub(super) fn new(bytes: usize, metrics: Arc<Metrics>) -> Option<Self> {
        let mut key = [0; 32];
        rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut key).ok()?;
        let capacity = bytes / (2 * SHARDS);
        let shards = std::array::from_fn(|_| Mutex::default());
        (capacity >= ENTRY).then_some(Self { key, shards, capacity, blocks: AtomicBool::new(false), metrics })
    }

    /// Where the verdict of a text is kept. Each part is preceded by its length, so that no two places are one.
    pub(super) fn place(&self, tenant: Tenant, origin: Origin, revisions: [&str; 2], text: &str) -> Place {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&tenant.0);
        for part in [origin.as_str(), revisions[0], revisions[1], text] {
            hasher.update(&part.len().to_le_bytes());
            hasher.update(part.as_bytes());
        }
        Place(*hasher.finalize().as_bytes())
    }

    /// What is known of the text at a place.
    pub(super) fn known(&self, place: Place) -> Known {
        let known = self.change(place, |_| {}).unwrap_or_default();
        self.metrics.ledger_looked_up(if !known.heard.is_empty() || known.blocked { "hit" } else { "miss" });
        known
    }

    /// Whether a rule has blocked any text since the start.
    pub(super) fn blocks(&self) -> bool {
        self.blocks.load(Ordering::Relaxed)
    }

    /// Whether a rule has blocked the text at a place. Not counted as a lookup.
    pub(super) fn is_blocked(&self, place: Place) -> bool {
        self.change(place, |_| {}).is_some_and(|known| known.blocked)
    }

    /// Keeps a text's scores by the classifier at a place of its own, `at`.
    pub(super) fn keep(&self, place: Place, at: usize, scores: Arc<Scores>) {
        self.put(place, |known| known.heard.keep(at, scores));
    }

    /// Keeps that a rule has blocked a text.
    pub(super) fn block(&self, place: Place) {
        self.put(place, |known| known.blocked = true);
        self.blocks.store(true, Ordering::Relaxed);
    }

    fn put(&self, place: Place, change: impl FnOnce(&mut Known)) {
        let mut known = Known::default();
        change(&mut known);
        let merged = self.change(place, |entry| {
            known.heard.each().for_each(|(at, scores)| entry.heard.keep(at, Arc::clone(scores)));
            entry.blocked |= known.blocked;
        });
        if merged.is_none() {
            self.with(place, |shard, capacity| shard.insert(place, known, capacity));
        }
    }

    /// Takes an entry out of whichever generation has it, changes it, and puts it into the young one.
    fn change(&self, place: Place, change: impl FnOnce(&mut Known)) -> Option<Known> {
        self.with(place, |shard, capacity| {
            let mut known = shard.take(place)?;
            change(&mut known);
            shard.insert(place, known.clone(), capacity);
            Some(known)
        })
    }

    fn with<T>(&self, place: Place, work: impl FnOnce(&mut Shard, usize) -> T) -> T {
        let mut shard = lock(&self.shards[usize::from(place.0[0]) % SHARDS]);
        let before = shard.bytes();
        let done = work(&mut shard, self.capacity);
        let after = shard.bytes();
        drop(shard);
        self.metrics.ledger_grew(i64::try_from(after).unwrap_or(0) - i64::try_from(before).unwrap_or(0));
        done
    }
}

impl Shard {
    fn bytes(&self) -> usize {
        self.young_bytes + self.old_bytes
    }

    fn take(&mut self, place: Place) -> Option<Known> {
        if let Some(known) = self.young.remove(&place) {
            self.young_bytes -= size(&known);
            return Some(known);
        }
        let known = self.old.remove(&place)?;
        self.old_bytes -= size(&known);
        Some(known)
    }

    fn insert(&mut self, place: Place, known: Known, capacity: usize) {
        let bytes = size(&known);
        if self.young_bytes + bytes > capacity {
            self.old = std::mem::take(&mut self.young);
            self.old_bytes = std::mem::take(&mut self.young_bytes);
        }
        self.young_bytes += bytes;
        self.young.insert(place, known);
    }
}

fn size(known: &Known) -> usize {
    let scores = known.heard.each().map(|(_, scores)| size_of::<Scores>() + size_of_val(scores.values.as_slice()));
    ENTRY + scores.sum::<usize>()
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(bytes: usize) -> Ledger {
        Ledger::new(bytes, Arc::new(Metrics::new().unwrap())).unwrap()
    }

    fn scores(value: f32) -> Arc<Scores> {
        Arc::new(Scores { values: vec![value; 10], windows: 1, tokens: 3 })
    }

    fn place(ledger: &Ledger, text: &str) -> Place {
        ledger.place(Tenant::SHARED, Origin::User, ["p", "m"], text)
    }

    #[test]
    fn what_is_kept_is_known_and_adds_up() {
        let ledger = ledger(1 << 20);
        let at = place(&ledger, "hello");
        assert!(ledger.known(at).heard.of(0).is_none());
        ledger.keep(at, 0, scores(0.5));
        ledger.keep(at, 2, scores(0.25));
        ledger.block(at);
        let known = ledger.known(at);
        assert_eq!((known.heard.of(0).unwrap().values[0], known.heard.of(2).unwrap().values[0]), (0.5, 0.25));
        assert!(known.blocked && known.heard.of(1).is_none());
        assert!(ledger.known(place(&ledger, "hello ")).heard.of(0).is_none());
    }

    #[test]
    fn a_place_depends_on_everything_and_on_nothing_else() {
        let ledger = ledger(1 << 20);
        let at = |tenant, origin, revisions, text| ledger.place(tenant, origin, revisions, text);
        let one = at(Tenant::SHARED, Origin::User, ["p", "m"], "text");
        assert_eq!(one, at(Tenant::SHARED, Origin::User, ["p", "m"], "text"));
        for other in [
            at(Tenant::of_key(b"key"), Origin::User, ["p", "m"], "text"),
            at(Tenant::named("key"), Origin::User, ["p", "m"], "text"),
            at(Tenant::SHARED, Origin::System, ["p", "m"], "text"),
            at(Tenant::SHARED, Origin::User, ["q", "m"], "text"),
            at(Tenant::SHARED, Origin::User, ["p", "n"], "text"),
            at(Tenant::SHARED, Origin::User, ["p", "mt"], "ext"),
            at(Tenant::SHARED, Origin::User, ["pm", ""], "text"),
        ] {
            assert_ne!(one, other);
        }
        assert_ne!(one, place(&self::ledger(1 << 20), "text"), "another process has another key");
        assert_ne!(Tenant::of_key(b"a"), Tenant::of_key(b"b"));
    }

    #[test]
    fn its_bytes_are_bounded_and_what_is_asked_for_stays() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let ledger = Ledger::new(256 * 1024, Arc::clone(&metrics)).unwrap();
        let dear = place(&ledger, "dear");
        ledger.keep(dear, 0, scores(0.25));
        for at in 0..20_000 {
            ledger.keep(place(&ledger, &at.to_string()), 0, scores(0.5));
            assert!(ledger.known(dear).heard.of(0).is_some(), "forgotten after {at}");
        }
        let bytes: usize = ledger.shards.iter().map(|shard| lock(shard).bytes()).sum();
        assert!(bytes <= 256 * 1024 && bytes > 64 * 1024, "{bytes}");
        let page = String::from_utf8(metrics.render().unwrap()).unwrap();
        assert!(page.contains(&format!("wardline_ledger_bytes {bytes}\n")), "{bytes}");
        assert!(ledger.known(place(&ledger, "0")).heard.of(0).is_none(), "the oldest is forgotten");
    }

    #[test]
    fn no_room_is_no_ledger() {
        assert!(Ledger::new(0, Arc::new(Metrics::new().unwrap())).is_none());
    }
}
