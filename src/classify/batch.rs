//! The scheduler: one queue, one worker thread for each backend.
//!
//! Fairness: entries are taken from the front. A text longer than one turn gives up its worker after each turn; what is
//! left of it goes to the back, where idle workers find it too. So a long text is shared by all who have nothing else to
//! do, and delays a short one by at most one turn of each text that waits.
//!
//! There is no timer: a worker that is free takes what is there, one window where a backend does not batch, up to its
//! limits where it does.
//!
//! Overload: texts share the workers, so that a queue longer than what its callers have patience for would make all of
//! them wait in vain. A text that would have to wait too long, by the pace that is measured, is turned away when it comes.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::telemetry::ModelGauges;

use super::backend::{Backend, BackendError};
use super::classifier::{ScoreError, Scores};

/// One text on its way in.
pub(super) struct Job {
    pub(super) text: Arc<str>,
    pub(super) reply: oneshot::Sender<Result<Scores, ScoreError>>,
    /// The text's place among `max_concurrent_requests`; free again when the text is answered or dropped.
    pub(super) place: OwnedSemaphorePermit,
    pub(super) since: Instant,
}

/// What waits for a worker. Its length is bounded by the places that jobs hold.
pub(super) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    gauges: ModelGauges,
}

struct State {
    entries: VecDeque<Entry>,
    /// Texts and windows in `entries`.
    waiting: usize,
    /// Tokens in `entries`; estimated for texts that are not cut yet.
    tokens: usize,
    /// How long one token has lately taken one worker; zero until the first run.
    pace: Duration,
    closed: bool,
}

enum Entry {
    Text(Job),
    Rest { document: Arc<Document>, windows: VecDeque<Vec<u32>> },
}

impl Entry {
    fn size(&self) -> usize {
        match self {
            Self::Text(_) => 1,
            Self::Rest { windows, .. } => windows.len(),
        }
    }

    fn tokens(&self) -> usize {
        match self {
            Self::Text(job) => job.text.len().div_ceil(BYTES_A_TOKEN),
            Self::Rest { windows, .. } => windows.iter().map(Vec::len).sum(),
        }
    }
}

/// Bytes of prose for one token, roughly; an estimate for a text that nobody has cut into tokens yet.
const BYTES_A_TOKEN: usize = 4;

/// Of the patience of those who ask, the part that may be spoken for when a text is accepted. The rest is for what comes
/// meanwhile and is never turned away: answers, whose prompts were accepted.
const SPOKEN_FOR: u32 = 2;

impl Queue {
    pub(super) fn new(gauges: ModelGauges) -> Self {
        let entries = VecDeque::new();
        let state = State { entries, waiting: 0, tokens: 0, pace: Duration::ZERO, closed: false };
        Self { state: Mutex::new(state), arrived: Condvar::new(), gauges }
    }

    pub(super) fn push(&self, job: Job) {
        self.put(Entry::Text(job));
    }

    /// Whether a text that comes now would probably be answered by `workers` workers within `patience`. Where nobody
    /// waits, every text is worth a try.
    pub(super) fn accepts(&self, text: &str, patience: Duration, workers: usize) -> bool {
        let state = lock(&self.state);
        let ahead = state.tokens + text.len().div_ceil(BYTES_A_TOKEN);
        let work = state.pace.saturating_mul(u32::try_from(ahead).unwrap_or(u32::MAX));
        state.entries.is_empty() || work / u32::try_from(workers.max(1)).unwrap_or(u32::MAX) <= patience / SPOKEN_FOR
    }

    /// Takes note of how long a run took, padding counted: the pace is the mean of about the last eight runs.
    fn ran(&self, tokens: usize, took: Duration) {
        let Some(each) = took.checked_div(u32::try_from(tokens).unwrap_or(u32::MAX)) else { return };
        let mut state = lock(&self.state);
        state.pace = if state.pace.is_zero() { each } else { (state.pace * 7 + each) / 8 };
    }

    /// Ends the workers after what they have in hand; entries that still wait are dropped.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        state.entries.clear();
        (state.waiting, state.tokens) = (0, 0);
        self.arrived.notify_all();
    }

    fn put(&self, entry: Entry) {
        let mut state = lock(&self.state);
        if state.closed {
            return;
        }
        state.waiting += entry.size();
        state.tokens += entry.tokens();
        state.entries.push_back(entry);
        self.gauges.queue_depth(state.waiting);
        self.arrived.notify_one();
    }

    /// The next entry, waited for; `None` once closed.
    fn wait(&self) -> Option<Entry> {
        let mut state = lock(&self.state);
        loop {
            if state.closed {
                return None;
            }
            if let Some(entry) = self.pop(&mut state) {
                return Some(entry);
            }
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next entry, if there is one.
    fn next(&self) -> Option<Entry> {
        self.pop(&mut lock(&self.state))
    }

    fn pop(&self, state: &mut State) -> Option<Entry> {
        let entry = state.entries.pop_front()?;
        state.waiting -= entry.size();
        state.tokens -= entry.tokens();
        self.gauges.queue_depth(state.waiting);
        Some(entry)
    }
}

/// The sizes that a worker keeps to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) labels: usize,
    pub(super) max_input_tokens: usize,
    pub(super) max_batch_tokens: usize,
}

/// One thread's work: take, cut into tokens, score, answer.
pub(super) struct Worker {
    pub(super) queue: Arc<Queue>,
    pub(super) backend: Box<dyn Backend>,
    pub(super) bounds: Bounds,
    pub(super) gauges: ModelGauges,
}

/// One window and the text it belongs to.
struct Piece {
    document: Arc<Document>,
    window: Vec<u32>,
}

impl Worker {
    /// Works until the queue is closed.
    pub(super) fn run(mut self) {
        while let Some(entry) = self.queue.wait() {
            // The calls that score are contained one by one; this is for what nobody thought of. The texts in hand are
            // dropped, which tells their callers, and the thread lives.
            if catch_unwind(AssertUnwindSafe(|| self.turn(entry))).is_err() {
                tracing::error!("a classifier worker panicked; the texts in its hands are dropped");
            }
        }
    }

    fn turn(&mut self, entry: Entry) {
        let mut pieces = self.gather(entry);
        pieces.sort_by_key(|piece| piece.window.len());
        let lengths: Vec<usize> = pieces.iter().map(|piece| piece.window.len()).collect();
        let mut pieces = pieces.into_iter();
        for count in batches(&lengths, self.room(), self.bounds.max_batch_tokens) {
            self.score(pieces.by_ref().take(count).collect());
        }
    }

    fn room(&self) -> usize {
        self.backend.max_batch().max(1)
    }

    /// Windows for one turn: those of `entry`, and of further entries while there is room.
    fn gather(&self, entry: Entry) -> Vec<Piece> {
        let room = self.room();
        let mut pieces = Vec::new();
        let mut entry = Some(entry);
        while let Some((document, mut windows)) = entry.take().map(|entry| self.open(entry)) {
            if let Some(document) = document {
                let count = windows.len().min(room - pieces.len());
                let turn = windows.drain(..count);
                pieces.extend(turn.map(|window| Piece { document: Arc::clone(&document), window }));
                if !windows.is_empty() {
                    // Before this worker starts on its share, so that an idle one starts on the rest now.
                    self.queue.put(Entry::Rest { document, windows });
                }
            }
            if pieces.len() < room {
                entry = self.queue.next();
            }
        }
        pieces
    }

    /// An entry as a text in windows; none if nobody waits for it or it could not be cut.
    fn open(&self, entry: Entry) -> (Option<Arc<Document>>, VecDeque<Vec<u32>>) {
        match entry {
            Entry::Text(job) => self.tokenize(job),
            Entry::Rest { document, windows } if document.wanted() => (Some(document), windows),
            Entry::Rest { .. } => (None, VecDeque::new()),
        }
    }

    fn tokenize(&self, job: Job) -> (Option<Arc<Document>>, VecDeque<Vec<u32>>) {
        let nothing = (None, VecDeque::new());
        if job.reply.is_closed() {
            return nothing;
        }
        let started = Instant::now();
        self.gauges.queued(started.duration_since(job.since));
        let ids = contained(|| self.backend.tokenize(&job.text));
        self.gauges.tokenized(started.elapsed());
        let cap = self.bounds.max_input_tokens;
        let ids = match ids {
            Ok(ids) if ids.len() <= cap => ids,
            Ok(ids) => {
                answer(job, Err(ScoreError::TooLong { tokens: ids.len(), cap }));
                return nothing;
            }
            Err(error) => {
                answer(job, Err(error));
                return nothing;
            }
        };
        if ids.is_empty() {
            // White space and characters that do not show. A model has nothing to say of it: what it answers to a bare
            // window is noise, and may well lie above a threshold.
            let values = vec![0.0; self.bounds.labels];
            answer(job, Ok(Scores { values, windows: 0, tokens: 0 }));
            return nothing;
        }
        let windows = VecDeque::from(self.backend.frame().cut(&ids));
        let progress = Progress { left: windows.len(), best: vec![0.0; self.bounds.labels], job };
        let document = Document { tokens: ids.len(), windows: windows.len(), progress: Mutex::new(Some(progress)) };
        (Some(Arc::new(document)), windows)
    }

    /// One run of the model, its rows given to their texts.
    fn score(&mut self, pieces: Vec<Piece>) {
        let (windows, documents): (Vec<_>, Vec<_>) =
            pieces.into_iter().map(|piece| (piece.window, piece.document)).unzip();
        let started = Instant::now();
        let rows = contained(|| self.backend.infer(&windows));
        let padded = windows.len() * windows.iter().map(Vec::len).max().unwrap_or(0);
        let took = started.elapsed();
        self.gauges.inferred(windows.len(), padded, took);
        self.queue.ran(padded, took);
        let rows =
            rows.and_then(|rows| if rows.len() == windows.len() { Ok(rows) } else { Err(rows_wrong(&rows, &windows)) });
        match rows {
            Ok(rows) => {
                for (document, row) in documents.iter().zip(&rows) {
                    match checked(row, self.bounds.labels) {
                        Ok(()) => document.add(row),
                        Err(error) => document.fail(error),
                    }
                }
            }
            Err(error) => documents.iter().for_each(|document| document.fail(error.clone())),
        }
    }
}

/// A text whose windows are being scored, by one worker or by several.
struct Document {
    tokens: usize,
    windows: usize,
    /// `None` once the text is answered, or nobody waits for it any more.
    progress: Mutex<Option<Progress>>,
}

struct Progress {
    /// Windows not yet scored. Above 0.
    left: usize,
    /// The largest score so far, by label.
    best: Vec<f32>,
    job: Job,
}

impl Document {
    /// Whether somebody still waits for the answer.
    fn wanted(&self) -> bool {
        let mut progress = lock(&self.progress);
        if progress.as_ref().is_some_and(|progress| progress.job.reply.is_closed()) {
            *progress = None;
        }
        progress.is_some()
    }

    fn add(&self, row: &[f32]) {
        let mut progress = lock(&self.progress);
        let Some(open) = progress.as_mut() else { return };
        for (best, score) in open.best.iter_mut().zip(row) {
            *best = best.max(*score);
        }
        open.left -= 1;
        if open.left == 0 {
            let done = progress.take();
            drop(progress);
            if let Some(Progress { best, job, .. }) = done {
                answer(job, Ok(Scores { values: best, windows: self.windows, tokens: self.tokens }));
            }
        }
    }

    fn fail(&self, error: ScoreError) {
        let done = lock(&self.progress).take();
        if let Some(Progress { job, .. }) = done {
            answer(job, Err(error));
        }
    }
}

/// Gives the place back before the caller hears, so that a caller's next text finds it free.
fn answer(job: Job, result: Result<Scores, ScoreError>) {
    let Job { reply, place, .. } = job;
    drop(place);
    // The caller may have gone meanwhile: then there is nobody to tell.
    let _ = reply.send(result);
}

/// Runs foreign code so that its panic costs one answer and not a worker.
///
/// The backend goes on being used afterwards. That is sound for sessions, which keep no state between runs; a backend
/// that is truly broken panics again, and each caller is told.
fn contained<T>(work: impl FnOnce() -> Result<T, BackendError>) -> Result<T, ScoreError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(BackendError(reason))) => {
            tracing::warn!(reason, "a classifier backend failed");
            Err(ScoreError::Failed(reason))
        }
        Err(_) => {
            tracing::error!("a classifier backend panicked; the texts in its hands are answered with an error");
            Err(ScoreError::WorkerLost)
        }
    }
}

fn rows_wrong(rows: &[Vec<f32>], windows: &[Vec<u32>]) -> ScoreError {
    ScoreError::Failed(format!("wrong shape: {} rows for {} windows", rows.len(), windows.len()))
}

/// A row must have one probability a label.
fn checked(row: &[f32], labels: usize) -> Result<(), ScoreError> {
    if row.len() != labels {
        return Err(ScoreError::Failed(format!("wrong shape: {} scores for {labels} labels", row.len())));
    }
    if row.iter().any(|score| !score.is_finite()) {
        return Err(ScoreError::NotFinite);
    }
    if let Some(score) = row.iter().find(|score| !(0.0..=1.0).contains(*score)) {
        return Err(ScoreError::Failed(format!("score {score} is not a probability")));
    }
    Ok(())
}

/// Sizes of the runs into which windows of ascending `lengths` are put: at most `most` windows and `max_tokens` tokens
/// each, padding to the longest counted. A single window may exceed `max_tokens`: it cannot be made smaller.
fn batches(lengths: &[usize], most: usize, max_tokens: usize) -> Vec<usize> {
    let mut sizes = Vec::new();
    let mut count = 0;
    for length in lengths {
        if count > 0 && (count == most || (count + 1) * length > max_tokens) {
            sizes.push(count);
            count = 0;
        }
        count += 1;
    }
    if count > 0 {
        sizes.push(count);
    }
    sizes
}

/// A poisoned lock only says that a thread ended while it held it; every state behind these locks is whole between
/// statements that can panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::Metrics;

    fn queue_with(texts: &[&str]) -> Queue {
        let queue = Queue::new(Metrics::new().unwrap().model("m", "r", "cpu"));
        let places = Arc::new(tokio::sync::Semaphore::new(texts.len()));
        for text in texts {
            let (reply, _answer) = oneshot::channel();
            let place = Arc::clone(&places).try_acquire_owned().unwrap();
            queue.push(Job { text: Arc::from(*text), reply, place, since: Instant::now() });
        }
        queue
    }

    #[test]
    fn a_text_that_would_wait_too_long_is_turned_away() {
        let (patience, text) = (Duration::from_secs(2), "four".repeat(100));
        let queue = queue_with(&[&text, &text, &text]);
        assert!(queue.accepts(&text, patience, 1), "no run has been seen yet: nothing is known");
        queue.ran(100, Duration::from_secs(1));
        // 400 tokens at 10 ms each: 4 s for one worker, 1 s for four, and a half of the patience may be spoken for.
        assert!(!queue.accepts(&text, patience, 1) && !queue.accepts(&text, patience, 3));
        assert!(queue.accepts(&text, patience, 4));
        assert!(queue.accepts(&text, Duration::MAX, 1), "who has all the time in the world may wait");
        while queue.next().is_some() {}
        assert!(queue.accepts(&text.repeat(50), patience, 1), "nobody waits: it is tried");
        queue.ran(100, Duration::ZERO);
        assert!(lock(&queue.state).pace < Duration::from_millis(10), "the pace follows what is seen");
    }

    #[test]
    fn what_waits_is_counted_in_and_out() {
        let queue = queue_with(&["a", "", &"b".repeat(999)]);
        let waiting = || {
            let state = lock(&queue.state);
            (state.waiting, state.tokens)
        };
        assert_eq!(waiting(), (3, 251));
        queue.next();
        queue.next();
        assert_eq!(waiting(), (1, 250));
        queue.close();
        assert_eq!(waiting(), (0, 0));
    }

    #[test]
    fn a_single_window_runs_even_when_it_is_over_the_budget() {
        assert_eq!(batches(&[128], 8, 64), [1]);
        assert_eq!(batches(&[128, 128], 8, 64), [1, 1]);
        assert_eq!(batches(&[], 8, 64), [0; 0]);
    }

    proptest! {
        #[test]
        fn runs_keep_to_their_limits(mut lengths in prop::collection::vec(1_usize..=128, 0..300), most in 1_usize..64, max in 1_usize..4_096) {
            lengths.sort_unstable();
            let sizes = batches(&lengths, most, max);
            prop_assert_eq!(sizes.iter().sum::<usize>(), lengths.len());
            let mut at = 0;
            for size in sizes {
                let longest = lengths[at + size - 1];
                prop_assert!(size >= 1 && size <= most);
                prop_assert!(size == 1 || size * longest <= max);
                // A window is left to the next run only when it would not have fitted.
                let more = lengths.get(at + size);
                prop_assert!(more.is_none_or(|next| size == most || (size + 1) * next > max));
                at += size;
            }
        }
    }
}
