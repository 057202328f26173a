//! The spool: JSON lines in a directory, written by one thread; pairs and unpaired rows in files of their own.
//!
//! **What a crash can cost.** Each line is written by one call, as soon as the writer gets to it, and the disk is told to
//! keep what was written after `fsync_rows` rows or `fsync_ms`, whichever is first.
//!
//! | what ends | rows that are lost, at most | metric |
//! | --- | --- | --- |
//! | the process (`kill -9`) | those that the writer has not got to, `queue_rows` | `wardline_pairs_buffer_rows` |
//! | the machine (power) | these, and those written since the last sync, `fsync_rows` | `wardline_pairs_unsynced_rows` |
//!
//! Both are 0 but for moments. A line that was torn nevertheless is cut off at the next start, and counted.
//!
//! **What a broken disk can cost.** Rows, which are counted. The spool opens a new file with the next row, so that it
//! goes on by itself once there is room again, or the directory is back. The directory grows to `max_bytes`; what would
//! come on top is dropped and counted, until sinks have taken something away.

pub(in crate::pairs) mod file;
mod lane;
mod retention;
pub(in crate::pairs) mod room;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::pairs::Row;
use crate::pairs::caps::{Caps, Claim};
use crate::pairs::ship::SinkConfig;
use crate::telemetry::Metrics;
use file::{PREFIXES, SpoolFile, repair};
use lane::Lane;
use room::Room;

/// The `sink` label of this spool's metrics.
const SINK: &str = "spool";

/// Where and how preference rows are kept. How many of them is for the policy to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Directory of the files. It is made if it is not there, and belongs to this gateway's instances.
    pub dir: PathBuf,
    /// A file that has reached this many bytes is closed, and a new one begun. A row that is longer is dropped.
    pub max_file_bytes: u64,
    /// Rows that may wait for the writer. What comes on top is dropped.
    pub queue_rows: usize,
    /// The longest that a written row waits for the disk to keep it, in milliseconds; by default 1000.
    pub fsync_ms: u64,
    /// The most written rows that wait for the disk to keep them; by default 256, and 1 syncs each row for itself.
    pub fsync_rows: usize,
    /// The most bytes that all rows in the directory take; by default 10 GiB. What comes on top is dropped.
    pub max_bytes: u64,
    /// Rows are deleted when they are so many days old, whether shipped or not; by default never. A file goes as a whole, so
    /// that its last rows go up to an hour early.
    #[schemars(range(min = 1, max = 36_500))]
    pub max_age_days: Option<u32>,
    /// A file that got its first row so many milliseconds ago is closed, so that sinks can take it as a whole; by default
    /// 300 000. Without sinks, files are closed by size alone.
    pub seal_ms: u64,
    /// What becomes of a file that every sink has.
    pub after_shipping: AfterShipping,
    /// Where rows go from the directory. By default nowhere.
    pub sinks: Vec<SinkConfig>,
    /// Name of the environment variable that holds a secret, of 16 bytes or more. Request ids are sealed and users' ids
    /// hashed with it. Without one a secret is made at each start: feedback on answers from before is then refused, and a
    /// user's rows of before have another hash.
    pub key_env: Option<String>,
    /// What people may say of answers, at `POST /v1/feedback`; without it there is no such route.
    pub feedback: Option<crate::pairs::feedback::Config>,
}

/// What becomes of a file that every sink has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AfterShipping {
    /// It is deleted.
    #[default]
    Delete,
    /// It goes to the folder `shipped`, and is deleted when `max_bytes` needs the room.
    Keep,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("pairs"),
            max_file_bytes: 64 << 20,
            queue_rows: 1024,
            fsync_ms: 1000,
            fsync_rows: 256,
            max_bytes: 10 << 30,
            max_age_days: None,
            seal_ms: 300_000,
            after_shipping: AfterShipping::Delete,
            sinks: Vec::new(),
            key_env: None,
            feedback: None,
        }
    }
}

/// Why the spool could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The directory cannot be made or written to.
    #[error("preference pairs: cannot write to directory {}: {source}", dir.display())]
    Directory {
        /// As configured.
        dir: PathBuf,
        /// As the system puts it.
        source: std::io::Error,
    },
    /// No thread could be had.
    #[error("preference pairs: cannot start the writer: {0}")]
    Thread(std::io::Error),
    /// A bound that lets nothing through.
    #[error("expected {expected}")]
    Bound {
        /// The key under `pairs`.
        key: &'static str,
        /// What it should be.
        expected: &'static str,
    },
}

impl SpoolError {
    /// The key under `pairs` that is to be mended.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Directory { .. } | Self::Thread(_) => "dir",
            Self::Bound { key, .. } => key,
        }
    }
}

/// A handle to the spool. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct Spool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Taken away by [`Spool::close`], so that the writer sees the end once every row before it has been taken.
    queue: RwLock<Option<SyncSender<Row>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Rows that are accepted but not yet kept by the disk.
    pending: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    caps: Caps,
    /// Held for each row that is still being made.
    places: Arc<()>,
}

impl Config {
    /// Whether each bound lets something through.
    pub(in crate::pairs) fn check(&self) -> Result<(), SpoolError> {
        let bounds = [
            (self.queue_rows > 0, "queue_rows", "at least 1"),
            (self.fsync_rows > 0, "fsync_rows", "at least 1"),
            (self.max_file_bytes > 0, "max_file_bytes", "at least 1"),
            (
                self.max_age_days.is_none_or(|days| (1..=36_500).contains(&days)),
                "max_age_days",
                "a number from 1 to 36500",
            ),
            (self.max_bytes >= self.max_file_bytes, "max_bytes", "at least as much as max_file_bytes"),
        ];
        let broken = bounds.into_iter().find(|(holds, ..)| !holds);
        broken.map_or(Ok(()), |(_, key, expected)| Err(SpoolError::Bound { key, expected }))
    }
}

impl Spool {
    /// Repairs what an earlier run left behind, opens the first file, and starts the writer.
    ///
    /// # Errors
    /// A directory that cannot be written to, a bound of zero, no thread.
    pub fn start(config: &Config, metrics: Arc<Metrics>) -> Result<Self, SpoolError> {
        config.check()?;
        let directory = |source| SpoolError::Directory { dir: config.dir.clone(), source };
        let first = SpoolFile::create(&config.dir, PREFIXES[0]).map_err(directory)?;
        let torn = repair(&config.dir).map_err(directory)?;
        metrics.pairs_dropped(SINK, "torn", torn);
        let (queue, rows) = sync_channel(config.queue_rows);
        let pending = Arc::new(AtomicUsize::new(0));
        let writer = Writer {
            config: config.clone(),
            metrics: Arc::clone(&metrics),
            pending: Arc::clone(&pending),
            lanes: [Lane::new(PREFIXES[0], Some(first)), Lane::new(PREFIXES[1], None)],
            room: Room::new(config.max_bytes),
            healthy: true,
        };
        let writer = std::thread::Builder::new()
            .name("pairs-spool".into())
            .spawn(move || writer.run(&rows))
            .map_err(SpoolError::Thread)?;
        let (queue, writer) = (RwLock::new(Some(queue)), Mutex::new(Some(writer)));
        Ok(Self {
            shared: Arc::new(Shared { queue, writer, pending, metrics, caps: Caps::default(), places: Arc::default() }),
        })
    }

    /// Whether another row may be left today. Takes its places if so.
    pub fn admit(&self, claim: &Claim<'_>) -> bool {
        let admitted = self.shared.caps.admit(claim, SystemTime::now());
        let told = |cap| self.shared.metrics.pair_capped(claim.policy, claim.principle, cap);
        admitted.inspect_err(|cap| told(*cap)).is_ok()
    }

    /// A place for a row that is still being made: whoever ends the process waits until nobody holds one.
    pub fn place(&self) -> Arc<()> {
        Arc::clone(&self.shared.places)
    }

    /// How many rows are still being made.
    pub fn expected(&self) -> usize {
        Arc::strong_count(&self.shared.places) - 1
    }

    /// Hands a row to the writer, or drops it and counts that. Never waits for the disk.
    pub fn offer(&self, row: Row) {
        let shared = &self.shared;
        shared.metrics.pair_sampled(SINK);
        let pending = shared.pending.fetch_add(1, Ordering::Relaxed) + 1;
        let queue = shared.queue.read().unwrap_or_else(PoisonError::into_inner);
        let refused = match queue.as_ref().map(|queue| queue.try_send(row)) {
            Some(Ok(())) => return shared.metrics.pairs_buffered(pending),
            Some(Err(TrySendError::Full(_))) => "queue_full",
            Some(Err(TrySendError::Disconnected(_))) | None => "closed",
        };
        shared.pending.fetch_sub(1, Ordering::Relaxed);
        shared.metrics.pairs_dropped(SINK, refused, 1);
    }

    /// Writes what is queued, syncs, and ends the writer. Waits for the disk: not for a task of the runtime. Rows that
    /// are offered later are dropped and counted.
    pub fn close(&self) {
        drop(self.shared.queue.write().unwrap_or_else(PoisonError::into_inner).take());
        let writer = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the writer of preference pairs panicked");
        }
    }
}

/// The writing thread's state.
struct Writer {
    config: Config,
    metrics: Arc<Metrics>,
    pending: Arc<AtomicUsize>,
    /// Pairs, and unpaired rows.
    lanes: [Lane; 2],
    room: Room,
    /// For the log: only changes are reported.
    healthy: bool,
}

impl Writer {
    fn run(mut self, rows: &Receiver<Row>) {
        let mut sync_at: Option<Instant> = None;
        let mut expire_at = self.expire();
        loop {
            let wake = sync_at.into_iter().chain(self.seal_at()).chain(expire_at).min();
            let received = match wake {
                None => rows.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => rows.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match received {
                Ok(row) => self.write(&row),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = Instant::now();
            // With rows coming in without a pause there is never a timeout.
            if self.unsynced() >= self.config.fsync_rows || sync_at.is_some_and(|at| at <= now) {
                self.sync();
            }
            if self.seal_at().is_some_and(|at| at <= now) {
                self.sync();
                self.lanes.iter_mut().for_each(Lane::leave);
            }
            if expire_at.is_some_and(|at| at <= now) {
                expire_at = self.expire();
            }
            self.metrics.pairs_unsynced(self.unsynced());
            sync_at = match self.unsynced() {
                0 => None,
                _ => sync_at.or_else(|| Some(now + Duration::from_millis(self.config.fsync_ms))),
            };
        }
        self.sync();
        self.lanes.iter_mut().for_each(Lane::leave);
    }

    /// When the oldest file is to be closed.
    fn seal_at(&self) -> Option<Instant> {
        let since = self.lanes.iter().filter_map(|lane| lane.since).min()?;
        let shipped = (!self.config.sinks.is_empty()).then(|| Duration::from_millis(self.config.seal_ms));
        let aged = self.config.max_age_days.map(|_| retention::ROUND);
        Some(since + shipped.into_iter().chain(aged).min()?)
    }

    /// Deletes rows that are too old; says when to look again, if ever.
    fn expire(&mut self) -> Option<Instant> {
        let days = self.config.max_age_days?;
        match retention::expire(&self.config.dir, days, !self.config.sinks.is_empty(), SystemTime::now()) {
            Ok(expired) => self.metrics.pairs_expired(expired.kept, expired.unshipped),
            Err(error) => {
                tracing::warn!(%error, dir = %self.config.dir.display(), "old preference pairs could not be deleted");
            }
        }
        Some(Instant::now() + retention::ROUND)
    }

    fn unsynced(&self) -> usize {
        self.lanes.iter().map(|lane| lane.unsynced).sum()
    }

    fn write(&mut self, row: &Row) {
        let mut line = match serde_json::to_vec(row) {
            Ok(line) => line,
            Err(error) => return self.failed("write_error", 1, &error),
        };
        line.push(b'\n');
        if line.len() as u64 > self.config.max_file_bytes {
            return self.failed("too_large", 1, &"a row is longer than max_file_bytes");
        }
        match self.room.take(&self.config.dir, line.len() as u64) {
            Ok(true) => {}
            Ok(false) => return self.failed("spool_full", 1, &"the directory holds max_bytes"),
            Err(error) => return self.failed("write_error", 1, &error),
        }
        let at = match row {
            Row::Pair(_) => 0,
            Row::Unpaired(_) => 1,
        };
        if self.lanes[at].len() + line.len() as u64 > self.config.max_file_bytes {
            self.sync_lane(at);
            self.lanes[at].leave();
        }
        if let Err(error) = self.lanes[at].append(&self.config.dir, &line) {
            // What was written before is synced or counted; then a new file is tried with the next row.
            self.sync_lane(at);
            self.lanes[at].leave();
            self.failed("write_error", 1, &error);
        }
    }

    fn sync(&mut self) {
        (0..self.lanes.len()).for_each(|at| self.sync_lane(at));
    }

    /// Has the disk keep what was written. Where it does not, or the file is no longer in the directory, the rows since
    /// the last time count as lost.
    fn sync_lane(&mut self, at: usize) {
        match self.lanes[at].sync() {
            (0, _) => {}
            (rows, Ok(())) => {
                self.settled(rows);
                self.metrics.pairs_flushed();
                self.metrics.pairs_unsynced(self.unsynced());
                if !self.healthy {
                    self.healthy = true;
                    tracing::info!("preference pairs are being written again");
                }
            }
            (rows, Err(error)) => {
                self.lanes[at].leave();
                self.failed("write_error", rows, &error);
            }
        }
    }

    fn failed(&mut self, reason: &'static str, rows: usize, error: &dyn std::fmt::Display) {
        self.settled(rows);
        self.metrics.pairs_dropped(SINK, reason, rows as u64);
        if std::mem::replace(&mut self.healthy, false) {
            tracing::warn!(reason, rows, %error, dir = %self.config.dir.display(), "preference pairs are being dropped");
        }
    }

    fn settled(&self, rows: usize) {
        let pending = self.pending.fetch_sub(rows, Ordering::Relaxed).saturating_sub(rows);
        self.metrics.pairs_buffered(pending);
    }
}

#[cfg(test)]
mod tests;
