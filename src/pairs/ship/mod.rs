//! From the spool to where rows are wanted.
//!
//! Each sink has a thread and a runtime of its own, reads the spool's files, and notes beside them how far it has come.
//! So a sink that is dead or slow holds up neither traffic nor another sink, what it lacks waits on disk under the spool's
//! bound, and after an outage or a restart it goes on where it was. Rows arrive at least once: whatever was under way
//! when something broke is shipped again, to the same object or under the same message id.

mod backlog;
mod config;
mod nats;
mod parquet;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use crate::pairs::Config;
use crate::pairs::ship::backlog::{Backlog, Waiting};
use crate::pairs::ship::nats::Stream;
use crate::pairs::ship::parquet::Store;
use crate::telemetry::Metrics;

pub use config::{NatsConfig, ParquetConfig, SinkConfig, SinkError};

/// How often the directory is looked through.
const POLL: Duration = Duration::from_secs(1);
/// The pause after the first failure; it doubles with each that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// How long the end of the process waits for what can still be shipped.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sinks that are ready to ship.
#[derive(Debug, Default)]
pub struct Sinks {
    shippers: Vec<(Backlog, Destination)>,
    metrics: Option<Arc<Metrics>>,
}

/// Sinks at work.
#[derive(Debug)]
pub struct Shipping {
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl Sinks {
    /// Checks the configuration's sinks and finds their keys (`variable` looks environment variables up). Opens no
    /// connection.
    ///
    /// # Errors
    /// The first key that is wrong.
    pub fn build(
        config: &Config,
        variable: &dyn Fn(&str) -> Option<String>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, SinkError> {
        config::check_names(&config.sinks)?;
        let (mut shippers, reached) = (Vec::new(), backlog::Positions::default());
        for (at, sink) in config.sinks.iter().enumerate() {
            let place = config::Place(at);
            let destination = match (&sink.parquet, &sink.nats) {
                (Some(parquet), None) => Destination::Store(Store::build(parquet, &config.dir, place, variable)?),
                (None, Some(nats)) => Destination::Stream(Box::new(Stream::build(nats, place, variable)?)),
                _ => return Err(place.error("", "expected one of `parquet` and `nats`")),
            };
            metrics.pairs_shipped(&sink.name, 0, 0);
            shippers.push((Backlog::new(config, &sink.name, &reached), destination));
        }
        Ok(Self { shippers, metrics: Some(metrics) })
    }

    /// Starts a thread for each sink.
    ///
    /// # Errors
    /// No thread or no runtime could be had.
    pub fn start(self) -> io::Result<Shipping> {
        let (stop, stopped) = watch::channel(false);
        let mut threads = Vec::new();
        for (backlog, destination) in self.shippers {
            let Some(metrics) = self.metrics.clone() else { continue };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let mut shipper = Shipper { backlog, destination, metrics, healthy: true };
            let stopped = stopped.clone();
            let thread = std::thread::Builder::new().name("pairs-sink".into());
            threads.push(thread.spawn(move || {
                runtime.block_on(shipper.run(stopped));
                // A look-up of a name may hang; nobody waits for it.
                runtime.shutdown_background();
            })?);
        }
        Ok(Shipping { stop, threads })
    }
}

impl Shipping {
    /// Ships what can be shipped within five seconds, and ends the threads. What is left waits in the spool for the next
    /// start. Waits: not for a task of the runtime.
    pub fn stop(self) {
        self.stop.send_replace(true);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a sink of preference pairs panicked");
            }
        }
    }
}

/// Why rows did not get through for now.
#[derive(Debug, thiserror::Error)]
enum ShipError {
    #[error("{0}")]
    Disk(#[from] io::Error),
    /// The other side was reached and does not want them.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Unreachable(String),
    #[error("no answer in time")]
    Timeout,
}

impl ShipError {
    /// The word in labels.
    fn reason(&self) -> &'static str {
        match self {
            Self::Disk(_) => "disk",
            Self::Refused(_) => "refused",
            Self::Unreachable(_) => "unreachable",
            Self::Timeout => "timeout",
        }
    }
}

/// What a sink has confirmed.
#[derive(Debug, Default)]
struct Taken {
    /// Everything of the file before this byte.
    upto: u64,
    rows: u64,
    /// As they were sent.
    bytes: u64,
    /// Lines that are no rows.
    unreadable: u64,
    /// Rows that the other side will never take.
    too_large: u64,
}

#[derive(Debug)]
enum Destination {
    Store(Store),
    Stream(Box<Stream>),
    #[cfg(test)]
    Scripted(tests::Scripted),
}

impl Destination {
    /// Whether rows are taken from a file that is still written to.
    fn follows(&self) -> bool {
        match self {
            Self::Store(_) => false,
            Self::Stream(_) => true,
            #[cfg(test)]
            Self::Scripted(scripted) => scripted.follows,
        }
    }

    /// Ships from a file, a part of it or the whole.
    async fn take(&mut self, file: &Waiting) -> Result<Taken, ShipError> {
        match self {
            Self::Store(store) => store.take(file).await,
            Self::Stream(stream) => stream.take(file).await,
            #[cfg(test)]
            Self::Scripted(scripted) => scripted.take(file).await,
        }
    }
}

/// One sink's thread.
#[derive(Debug)]
struct Shipper {
    backlog: Backlog,
    destination: Destination,
    metrics: Arc<Metrics>,
    /// For the log: only changes are reported.
    healthy: bool,
}

impl Shipper {
    async fn run(&mut self, mut stop: watch::Receiver<bool>) {
        let mut failures = 0;
        while !*stop.borrow_and_update() {
            let shipped = tokio::select! {
                shipped = self.round() => shipped,
                _ = stop.changed() => break,
            };
            failures = if self.told(&shipped) { 0 } else { failures + 1 };
            let pause = if failures == 0 { POLL } else { pause(failures, fastrand::f64()) };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stop.changed() => {}
            }
        }
        // The spool has been closed, so that this sees all there is.
        let last = tokio::time::timeout(PATIENCE, self.round()).await.unwrap_or(Err(ShipError::Timeout));
        if !self.told(&last) {
            tracing::warn!(
                sink = self.backlog.sink(),
                "rows that are not shipped stay in the spool for the next start"
            );
        }
    }

    /// Counts and logs how a round ended; whether well.
    fn told(&mut self, shipped: &Result<(), ShipError>) -> bool {
        let sink = self.backlog.sink();
        match shipped {
            Ok(()) if std::mem::replace(&mut self.healthy, true) => {}
            Ok(()) => tracing::info!(sink, "preference pairs are being shipped again"),
            Err(error) => {
                self.metrics.pairs_ship_failed(sink, error.reason());
                if std::mem::replace(&mut self.healthy, false) {
                    tracing::warn!(sink, reason = error.reason(), %error, "preference pairs wait in the spool");
                }
            }
        }
        shipped.is_ok()
    }

    /// Ships what there is.
    async fn round(&mut self) -> Result<(), ShipError> {
        if !self.backlog.hold()? {
            return Ok(());
        }
        let view = self.backlog.view()?;
        self.metrics.pairs_dropped("spool", "torn", view.torn);
        self.unshipped(&view.files);
        for (at, file) in view.files.iter().enumerate() {
            let mut file = file.clone();
            while (file.sealed || self.destination.follows()) && file.from < file.len {
                let taken = self.destination.take(&file).await?;
                if taken.upto == file.from {
                    break;
                }
                file.from = taken.upto;
                self.confirmed(&file, &taken)?;
            }
            if file.sealed {
                self.unshipped(&view.files[at + 1..]);
            }
        }
        Ok(())
    }

    fn unshipped(&self, files: &[Waiting]) {
        let bytes = files.iter().map(|file| file.len - file.from).sum();
        self.metrics.pairs_unshipped(self.backlog.sink(), bytes, files.first().and_then(backlog::made));
    }

    fn confirmed(&mut self, file: &Waiting, taken: &Taken) -> io::Result<()> {
        let sink = self.backlog.sink();
        self.metrics.pairs_shipped(sink, taken.rows, taken.bytes);
        self.metrics.pairs_dropped(sink, "unreadable", taken.unreadable);
        self.metrics.pairs_dropped(sink, "too_large", taken.too_large);
        self.backlog.reached(file, taken.upto)
    }
}

/// The pause after so many failures in a row: doubling, and of it a share between a half and the whole, so that many
/// instances do not knock at the same moment. `chance` is from 0 to 1.
fn pause(failures: u32, chance: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(LONGEST_PAUSE).mul_f64(0.5 + chance / 2.0)
}
