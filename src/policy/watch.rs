//! Notices that the policy directory has changed, and asks the store to read it again.
//!
//! The directory is watched, not its files: editors replace a file by renaming another over it, and a mounted
//! `ConfigMap` changes by one rename of the `..data` link that the files' links go through. Where notifications do not
//! come (network mounts, no watches left), a look at the files every few seconds finds the change.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::store::{Store, policy_files};

/// A writer seldom does it in one step: the directory has to be quiet for so long.
const QUIET: Duration = Duration::from_millis(250);
/// A directory that is never quiet is read after so long all the same.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the files are looked at without being told to.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A running watch. It goes on until [`Watch::stop`] is called or the process ends.
#[derive(Debug)]
pub struct Watch {
    signals: Sender<Signal>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
enum Signal {
    Changed,
    Stop,
}

impl Watch {
    /// Ends the watch; a reload that has begun is finished first. Blocks for as long as that takes.
    pub fn stop(self) {
        // Either end being gone already is as good as stopped.
        let _ = self.signals.send(Signal::Stop);
        let _ = self.thread.join();
    }
}

impl<A: Send + Sync + 'static> Store<A> {
    /// Reloads whenever the directory changes, on a thread of its own.
    ///
    /// # Errors
    /// The thread cannot be started. A system that cannot notify is no error: the files are looked at instead.
    pub fn watch(self: &Arc<Self>) -> io::Result<Watch> {
        let (signals, received) = mpsc::channel();
        let notifier = notifier(self.dir(), signals.clone());
        let store = Arc::clone(self);
        let seen = look(store.dir());
        let thread = thread::Builder::new().name("policy-watch".to_owned()).spawn(move || {
            // Notifications come for as long as the notifier lives.
            let _notifier = notifier;
            follow(&store, &received, seen);
        })?;
        Ok(Watch { signals, thread })
    }
}

fn follow<A>(store: &Store<A>, received: &Receiver<Signal>, mut seen: Vec<Seen>) {
    loop {
        match received.recv_timeout(LOOK_EVERY) {
            Ok(Signal::Changed) if settled(received) => {}
            Ok(_) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) if look(store.dir()) == seen => continue,
            Err(RecvTimeoutError::Timeout) => {}
        }
        // Looked at before it is read: what changes in between is found the next time.
        seen = look(store.dir());
        store.reload();
    }
}

/// Waits until the directory is quiet. False if the watch is to end.
fn settled(received: &Receiver<Signal>) -> bool {
    let patience = Instant::now() + PATIENCE;
    loop {
        let left = patience.saturating_duration_since(Instant::now());
        match received.recv_timeout(QUIET.min(left)) {
            Ok(Signal::Changed) => {}
            Err(RecvTimeoutError::Timeout) => return true,
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

fn notifier(dir: &Path, signals: Sender<Signal>) -> Option<RecommendedWatcher> {
    let told = move |event: notify::Result<notify::Event>| {
        // An error may hide a change. A gone receiver means that the watch has ended.
        if event.map_or(true, |event| writes(event.kind)) {
            let _ = signals.send(Signal::Changed);
        }
    };
    let watching = notify::recommended_watcher(told).and_then(|mut notifier| {
        notifier.watch(dir, RecursiveMode::NonRecursive)?;
        Ok(notifier)
    });
    watching
        .map_err(|error| tracing::warn!(dir = %dir.display(), %error, "no notifications, looking every 5 s instead"))
        .ok()
}

/// Reading is no change; our own reloads read.
fn writes(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// What tells one state of a file from another without reading it: path, inode, length, time of change.
type Seen = (PathBuf, u64, u64, i64, i64);

/// Through links, so that a swapped `..data` shows. A directory that cannot be read looks empty, as one without policies.
fn look(dir: &Path) -> Vec<Seen> {
    let files = policy_files(dir).unwrap_or_default();
    let seen = files.into_iter().filter_map(|path| {
        let file = fs::metadata(&path).ok()?;
        Some((path, file.ino(), file.len(), file.ctime(), file.ctime_nsec()))
    });
    seen.collect()
}
