//! Child processes that are ended with what they have started, whatever way the benchmark itself ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Result;
use crate::procfs::Tree;

/// How long a process may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running child process.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it says on standard error goes to the file `log`.
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Process> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(fs::File::create(log)?);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().map_err(|error| format!("{program} does not start: {error}"))?;
        Ok(Process { child, log: log.to_owned() })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output; only once.
    pub(crate) fn stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Its standard input; only once.
    pub(crate) fn stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// An error with the end of its log, if it has ended by itself.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("ended with {status}: {}", self.last_words()).into()),
        }
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn ended(&mut self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                return false;
            }
            sleep(Duration::from_millis(5));
        }
        true
    }
}

/// Here and not in a method that somebody has to call: an error, a panic and Ctrl-C must end the children too.
impl Drop for Process {
    fn drop(&mut self) {
        let tree = Tree::of(self.id());
        // Closing standard input ends the scripted upstream; the others wait for the signal. A master that is killed
        // outright leaves its workers, so it is asked first.
        drop(self.child.stdin.take());
        signal("TERM", self.id());
        if self.ended(PATIENCE) {
            return;
        }
        for &pid in tree.iter().flat_map(Tree::pids).rev() {
            signal("KILL", pid);
        }
        let _ = self.child.wait();
    }
}

/// The standard library only knows how to kill; a shell can ask.
fn signal(name: &str, pid: u32) {
    let _ = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).stderr(Stdio::null()).status();
}
