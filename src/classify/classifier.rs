//! The handle that callers hold.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot};

use crate::telemetry::Metrics;

use super::backend::Backend;
use super::batch::{Bounds, Job, Queue, Worker};
use super::config::{Cascade, Config};
use super::load::{self, LoadError};
use super::sieve::Sieve;

/// A model, loaded and served by its own threads. Cheap to clone; the threads end when the last clone is dropped.
#[derive(Clone)]
pub struct Classifier {
    shared: Arc<Shared>,
}

impl Classifier {
    /// Loads the model in `config.dir`: verified against its manifest, self-tested and warmed up on every worker.
    ///
    /// Blocks for some hundred milliseconds.
    ///
    /// # Errors
    /// Which file or setting is wrong, what was expected, and what to run.
    pub fn load(config: &Config, metrics: &Metrics) -> Result<Self, LoadError> {
        let served = load::load(config)?;
        let sieve = if config.cascade == Cascade::Off { None } else { Some(Sieve::load(&config.dir)?) };
        Self::start(served.backends, served.labels, served.identity, sieve, config, metrics)
    }

    /// Serves backends that the caller brings, one thread each.
    ///
    /// # Errors
    /// No backends or no labels, a setting out of range, or a thread that the system refuses.
    pub fn with_backends(
        backends: Vec<Box<dyn Backend>>,
        labels: Vec<Label>,
        config: &Config,
        metrics: &Metrics,
    ) -> Result<Self, LoadError> {
        let identity = Identity { name: "custom".to_owned(), revision: "none".to_owned(), device: "cpu" };
        Self::start(backends, labels, identity, None, config, metrics)
    }

    /// Scores one text, all of it. Dropping the future withdraws the text.
    ///
    /// # Errors
    /// See [`ScoreError`]. A text over the cap, or one too many, is refused before anything is queued.
    pub async fn score(&self, text: Arc<str>) -> Result<Scores, ScoreError> {
        self.score_within(text, Duration::MAX).await
    }

    /// The same for a caller who will not wait longer than `patience`: a text that could probably not be answered by then,
    /// for all the texts that wait already, is refused at once instead of being worked on in vain. That it is answered
    /// in time is not promised.
    ///
    /// # Errors
    /// As for [`Classifier::score`].
    pub async fn score_within(&self, text: Arc<str>, patience: Duration) -> Result<Scores, ScoreError> {
        let shared = &self.shared;
        let cap = shared.max_input_tokens;
        if text.len() > cap.saturating_mul(BYTES_A_TOKEN) {
            return Err(ScoreError::TooLong { tokens: text.len().div_ceil(BYTES_A_TOKEN), cap });
        }
        if !shared.queue.accepts(&text, patience, shared.workers) {
            return Err(ScoreError::Overloaded);
        }
        let Ok(place) = Arc::clone(&shared.places).try_acquire_owned() else {
            return Err(ScoreError::Overloaded);
        };
        let (reply, answer) = oneshot::channel();
        shared.queue.push(Job { text, reply, place, since: Instant::now() });
        answer.await.unwrap_or(Err(ScoreError::WorkerLost))
    }

    /// Whether the first stage is sure, label by label, that a text has nothing of it. All `false` without one.
    pub fn cleared(&self, text: &str) -> Vec<bool> {
        let Some(first) = &self.shared.first else { return vec![false; self.shared.labels.len()] };
        let heads = first.sieve.clears(text);
        self.shared.labels.iter().map(|label| heads.contains(&label.head.as_str())).collect()
    }

    /// The score that a cleared text's are below, if there is a first stage.
    pub fn clears_below(&self) -> Option<f32> {
        self.shared.first.as_ref().map(|first| first.sieve.below())
    }

    /// Whether a text that was just cleared is to be scored all the same. Takes note of each.
    pub fn audits(&self) -> bool {
        let due = |first: &First| {
            first.every > 0 && first.cleared.fetch_add(1, Ordering::Relaxed).is_multiple_of(first.every)
        };
        self.shared.first.as_ref().is_some_and(due)
    }

    /// The labels, in the order of [`Scores::values`].
    pub fn labels(&self) -> &[Label] {
        &self.shared.labels
    }

    /// The model's name, as its manifest gives it.
    pub fn name(&self) -> &str {
        &self.shared.identity.name
    }

    /// The model's revision, as its manifest gives it.
    pub fn revision(&self) -> &str {
        &self.shared.identity.revision
    }

    /// What really serves: `cpu`, `cuda`, or `remote` for a server.
    pub fn device(&self) -> &'static str {
        self.shared.identity.device
    }

    pub(super) fn start(
        backends: Vec<Box<dyn Backend>>,
        labels: Vec<Label>,
        identity: Identity,
        sieve: Option<Sieve>,
        config: &Config,
        metrics: &Metrics,
    ) -> Result<Self, LoadError> {
        check(config, &backends, &labels)?;
        let gauges = metrics.model(&identity.name, &identity.revision, identity.device);
        let queue = Arc::new(Queue::new(gauges.clone()));
        let bounds = Bounds {
            labels: labels.len(),
            max_input_tokens: config.max_input_tokens,
            max_batch_tokens: config.max_batch_tokens,
        };
        let places = Arc::new(Semaphore::new(config.max_concurrent_requests.min(Semaphore::MAX_PERMITS)));
        // Made before the threads, so that those already running end when a later one cannot be had.
        let workers = backends.len();
        let every = if config.cascade == Cascade::Audit { config.audit_one_in } else { 0 };
        let first = sieve.map(|sieve| First { sieve, every, cleared: AtomicUsize::new(0) });
        let shared =
            Shared { queue, places, workers, labels, max_input_tokens: config.max_input_tokens, identity, first };
        for (at, backend) in backends.into_iter().enumerate() {
            let queue = Arc::clone(&shared.queue);
            let worker = Worker { queue, backend, bounds, gauges: gauges.clone() };
            thread::Builder::new()
                .name(format!("classify-{at}"))
                .spawn(move || worker.run())
                .map_err(LoadError::Thread)?;
        }
        Ok(Self { shared: Arc::new(shared) })
    }
}

impl fmt::Debug for Classifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Classifier").field("identity", &self.shared.identity).finish_non_exhaustive()
    }
}

/// What a head says about a text, by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// The head, e.g. `harm`.
    pub head: String,
    /// The label within its head, e.g. `hate`.
    pub name: String,
    /// Calibrated thresholds by name, e.g. `fpr_1`: the score above which 1 % of benign texts lie.
    pub thresholds: BTreeMap<String, f32>,
}

/// Shows the full name, `head.name`.
impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.head, self.name)
    }
}

/// A text's scores.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Scores {
    /// Probabilities in the order of [`Classifier::labels`], each the largest over all windows.
    pub values: Vec<f32>,
    /// Windows that were scored: all of them. None, and all values 0, for a text without tokens (white space).
    pub windows: usize,
    /// Tokens of the text, special ones not counted.
    pub tokens: usize,
}

/// Why a text has no scores.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScoreError {
    /// `max_concurrent_requests` texts are under way, or so much waits that the caller's patience would not last.
    #[error("the classifier has as many texts in hand as it takes")]
    Overloaded,
    /// The text is over `max_input_tokens`. Nothing of it was scored.
    #[error("the text has {tokens} tokens, over the cap of {cap}")]
    TooLong {
        /// Tokens of the text; an estimate where its bytes alone put it over the cap.
        tokens: usize,
        /// `max_input_tokens`.
        cap: usize,
    },
    /// The backend said so, or gave rows that cannot be scores.
    #[error("the classifier failed: {0}")]
    Failed(String),
    /// A score was NaN or infinite.
    #[error("the classifier gave a score that is not a finite number")]
    NotFinite,
    /// The backend panicked over this text, or its worker has ended.
    #[error("the classifier's worker was lost")]
    WorkerLost,
}

/// Who serves, for metrics and status pages.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) revision: String,
    pub(super) device: &'static str,
}

struct Shared {
    queue: Arc<Queue>,
    places: Arc<Semaphore>,
    workers: usize,
    labels: Vec<Label>,
    max_input_tokens: usize,
    identity: Identity,
    first: Option<First>,
}

/// The cheap first stage.
struct First {
    sieve: Sieve,
    /// Of so many cleared texts one is audited; 0 is none.
    every: usize,
    cleared: AtomicUsize,
}

/// Workers hold the queue, callers hold this: when the last caller goes, nobody can ask any more and the workers, asleep
/// on the queue, are told to end. A flag is set and they are woken; nothing is waited for.
impl Drop for Shared {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Bytes that one token stands for at most on average. Prose has about 4; white space and zero-width characters make no
/// tokens at all, so that a text of them must be bounded by bytes, before the tokenizer spends time on it.
const BYTES_A_TOKEN: usize = 16;

fn check(config: &Config, backends: &[Box<dyn Backend>], labels: &[Label]) -> Result<(), LoadError> {
    let settings = [
        ("max_concurrent_requests", config.max_concurrent_requests),
        ("max_input_tokens", config.max_input_tokens),
        ("max_batch_tokens", config.max_batch_tokens),
        ("audit_one_in", config.audit_one_in),
    ];
    if let Some((name, _)) = settings.into_iter().find(|(_, value)| *value == 0) {
        return Err(LoadError::Setting { name, expected: "at least 1" });
    }
    if backends.is_empty() || labels.is_empty() {
        return Err(LoadError::Empty);
    }
    Ok(())
}
