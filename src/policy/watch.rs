//! Notices that the policy directory has changed, and asks the store to read it again.
//!
//! The directory is watched, not its files: editors replace a file by renaming another over it, and a mounted
//! `ConfigMap` changes by one rename of the `..data` link that the files' links go through. Where notifications do not
//! come (network mounts, no watches left), a look at the files every few seconds finds the change. Directories of files
//! that policies build on are watched alike.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::directory::Sight;
use super::store::Store;

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
        let mut notifier = Notifier::start(self.dir(), signals.clone());
        let store = Arc::clone(self);
        let seen = store.at_opening().clone();
        notifier.watch(&seen.dirs);
        let thread = thread::Builder::new().name("policy-watch".to_owned()).spawn(move || {
            follow(&store, &received, notifier, seen);
        })?;
        Ok(Watch { signals, thread })
    }
}

fn follow<A>(store: &Store<A>, received: &Receiver<Signal>, mut notifier: Notifier, mut seen: Sight) {
    loop {
        match received.recv_timeout(LOOK_EVERY) {
            Ok(Signal::Changed) if settled(received) => {}
            Ok(_) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) if store.is_as(&seen) => continue,
            Err(RecvTimeoutError::Timeout) => {}
        }
        // Looked at before it is read: what changes in between is found the next time.
        seen = store.look();
        notifier.watch(&seen.dirs);
        store.reload();
    }
}

/// Waits until the directory is quiet. False if the watch is to end.
fn settled(received: &Receiver<Signal>) -> bool {
    let patience = Instant::now() + PATIENCE;
    loop {
        let left = patience.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        match received.recv_timeout(QUIET.min(left)) {
            Ok(Signal::Changed) => {}
            Err(RecvTimeoutError::Timeout) => return true,
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

/// Notifications, for as long as it lives.
struct Notifier {
    /// None where the system has none to give.
    watcher: Option<RecommendedWatcher>,
    watched: Vec<PathBuf>,
}

impl Notifier {
    fn start(dir: &Path, signals: Sender<Signal>) -> Self {
        let told = move |event: notify::Result<notify::Event>| {
            // An error may hide a change. A gone receiver means that the watch has ended.
            if event.map_or(true, |event| writes(event.kind)) {
                let _ = signals.send(Signal::Changed);
            }
        };
        let watcher = notify::recommended_watcher(told)
            .map_err(
                |error| tracing::warn!(dir = %dir.display(), %error, "no notifications, looking every 5 s instead"),
            )
            .ok();
        Self { watcher, watched: Vec::new() }
    }

    /// Watches these directories and no others. One that cannot be watched is tried again the next time, and looked at
    /// every few seconds meanwhile.
    fn watch(&mut self, dirs: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else { return };
        for gone in self.watched.extract_if(.., |dir| !dirs.contains(dir)) {
            // A directory that is no more is not watched any more either.
            let _ = watcher.unwatch(&gone);
        }
        for dir in dirs {
            if self.watched.contains(dir) {
                continue;
            }
            // The directory of a bare file name is the current one.
            let path = if dir.as_os_str().is_empty() { Path::new(".") } else { dir.as_path() };
            match watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => self.watched.push(dir.clone()),
                Err(error) => {
                    tracing::warn!(dir = %dir.display(), %error, "no notifications, looking every 5 s instead");
                }
            }
        }
    }
}

/// Reading is no change; our own reloads read.
fn writes(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, DataChange, ModifyKind, RemoveKind, RenameMode};

    use super::*;

    #[test]
    fn reading_is_no_change() {
        for kind in [AccessKind::Read, AccessKind::Open(AccessMode::Read), AccessKind::Close(AccessMode::Read)] {
            assert!(!writes(EventKind::Access(kind)), "{kind:?}");
        }
        for kind in [
            EventKind::Access(AccessKind::Close(AccessMode::Write)),
            EventKind::Create(CreateKind::File),
            EventKind::Modify(ModifyKind::Data(DataChange::Any)),
            EventKind::Modify(ModifyKind::Name(RenameMode::To)),
            EventKind::Remove(RemoveKind::File),
            EventKind::Any,
        ] {
            assert!(writes(kind), "{kind:?}");
        }
    }

    #[test]
    fn a_directory_that_is_never_quiet_is_read_all_the_same() {
        let (signals, received) = mpsc::channel();
        let writer = thread::spawn(move || {
            while signals.send(Signal::Changed).is_ok() {
                thread::sleep(QUIET / 50);
            }
        });
        assert!(settled(&received));
        drop(received);
        writer.join().unwrap();
    }

    #[test]
    fn a_stop_is_heard_while_waiting_for_quiet() {
        let (signals, received) = mpsc::channel();
        signals.send(Signal::Changed).unwrap();
        signals.send(Signal::Stop).unwrap();
        assert!(!settled(&received));
    }
}
