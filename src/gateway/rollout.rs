//! Roll-outs: who is in the share of a new policy, and what the other of the two policies would have decided.
//!
//! The second opinion is formed on a thread of its own, from what the first one saw. Handing over never waits: what the
//! queue or the memory has no room for is dropped and counted.

mod cases;
mod tally;

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::Gateway;
use crate::api::{Call, Origin};
use crate::guard::{About, Armed, Case, Evidence, Guards, Occasion, PatternSet, Side, Stage, View, Witness};
use crate::policy::{By, Key, Placed};
use crate::telemetry::{Compared, Metrics};
use cases::Cases;
pub(super) use tally::{Counts, Tally};

/// Bytes of a conversation's first message that tell it from others.
const OPENING: usize = 4096;
/// Second opinions that may wait for their thread.
const QUEUE: usize = 1024;
/// A text that the first policy did not score, and that would have to wait longer than this for the classifier, is not
/// scored for the second either.
const PATIENCE: Duration = Duration::from_millis(200);

/// What is kept of roll-outs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutConfig {
    /// Directory for the cases in which two policies differ; it is made if it is not there.
    pub dir: PathBuf,
    /// How much of the texts themselves is kept with a case.
    pub content: Content,
    /// The most that all cases take on disk, in bytes; the older half goes first.
    pub max_bytes: u64,
}

impl Default for RolloutConfig {
    fn default() -> Self {
        Self { dir: PathBuf::from("rollouts"), content: Content::None, max_bytes: 64 << 20 }
    }
}

/// How much of the texts themselves is kept with a case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Nothing: hashes, scores and rules only.
    #[default]
    None,
    /// The texts, personal data replaced.
    Redacted,
    /// The texts as they are.
    Full,
}

/// Second opinions of one gateway.
#[derive(Debug)]
pub struct Rollouts {
    memory: Arc<Semaphore>,
    queue: SyncSender<Job>,
    tally: Arc<Mutex<Tally>>,
    metrics: Arc<Metrics>,
}

/// One request that two policies judge.
#[derive(Debug)]
pub(crate) struct Beside {
    placed: Placed<Armed>,
    witness: Arc<Witness>,
    request_id: String,
    about: About,
}

struct Job {
    beside: Arc<Beside>,
    stage: Stage,
    evidence: Evidence,
}

impl Rollouts {
    /// Bytes of texts that may wait for a second opinion, in a gateway that is not told otherwise.
    pub const MEMORY: usize = 32 << 20;

    /// Starts the thread. `quiet` are the gateway's guards with metrics that nobody reads; `config` says where cases are
    /// kept, if they are; `memory_bytes` bounds what waits for a second opinion.
    ///
    /// # Errors
    /// The directory cannot be written to, or there is no thread.
    pub fn start(
        config: Option<&RolloutConfig>,
        quiet: Guards,
        redaction: PatternSet,
        memory_bytes: usize,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel(QUEUE);
        let memory = Arc::new(Semaphore::new(memory_bytes.min(Semaphore::MAX_PERMITS)));
        let tally = Arc::new(Mutex::new(Tally::default()));
        let cases = config.map(|config| Cases::open(&config.dir, config.max_bytes)).transpose()?;
        let content = config.map_or(Content::None, |config| config.content);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let judge = Judge {
            guards: quiet,
            redaction,
            cases,
            content,
            tally: Arc::clone(&tally),
            metrics: Arc::clone(&metrics),
        };
        std::thread::Builder::new().name("rollout".to_owned()).spawn(move || runtime.block_on(judge.run(&jobs)))?;
        Ok(Self { memory, queue, tally, metrics })
    }

    /// What was counted so far.
    pub(super) fn tally(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a request of a roll-out, and gives what its judgements are to be seen by, if it is in the share.
    pub(super) fn enter(
        &self,
        placed: Placed<Armed>,
        request_id: &str,
        (call, about): (&Call, &About),
    ) -> Option<Arc<Beside>> {
        let share = if placed.in_share { "in" } else { "out" };
        let (of, candidate) = (&placed.incumbent.policy, &placed.rollout.candidate.policy);
        self.metrics.rolled_out(&of.name, &candidate.name, placed.rollout.plan.mode.as_str(), share);
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).entered(&placed);
        let witness = Arc::new(Witness::new(Arc::clone(&self.memory)));
        if !placed.in_share {
            return None;
        }
        let mut about = about.clone();
        about.take_tools(call, &[&placed.incumbent, &placed.rollout.candidate]);
        Some(Arc::new(Beside { placed, witness, request_id: request_id.to_owned(), about }))
    }

    /// Hands over what was seen of a stage. Returns at once. `judged` is false where the first policy's own guards
    /// failed, so that there is nothing to compare.
    pub(super) fn compare(&self, beside: Option<&Arc<Beside>>, stage: Stage, judged: bool) {
        let Some(beside) = beside else { return };
        let evidence = beside.witness.take();
        let dropped = match (judged, evidence.incomplete) {
            (false, _) => "guard_error",
            (true, true) => "memory",
            (true, false) => match self.queue.try_send(Job { beside: Arc::clone(beside), stage, evidence }) {
                Ok(()) => return,
                Err(_full) => "queue_full",
            },
        };
        self.metrics.rollout_dropped(&beside.placed.incumbent.policy.name, dropped);
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).dropped(&beside.placed);
    }
}

impl Beside {
    /// The request under one of the two policies.
    fn under(&self, view: &View) -> Occasion {
        Occasion::new(Arc::clone(view), self.about.clone(), &self.request_id)
    }

    /// The policy that judges and does not act.
    fn other(&self, acting: &View) -> &View {
        let candidate = &self.placed.rollout.candidate;
        if Arc::ptr_eq(candidate, acting) { &self.placed.incumbent } else { candidate }
    }

    /// Whether the policy that does not act looks at answers.
    pub(super) fn looks_at_output(&self, acting: &View) -> bool {
        self.under(self.other(acting)).looks(Stage::Output)
    }
}

impl Gateway {
    /// The guards of one request; what they see is kept where a second policy is to judge it.
    pub(super) fn guards_for(&self, beside: Option<&Arc<Beside>>) -> Guards {
        match beside {
            Some(beside) => self.guards.watched(Arc::clone(&beside.witness)),
            None => self.guards.clone(),
        }
    }
}

/// The thread's state.
struct Judge {
    guards: Guards,
    redaction: PatternSet,
    cases: Option<Cases>,
    content: Content,
    tally: Arc<Mutex<Tally>>,
    metrics: Arc<Metrics>,
}

impl Judge {
    async fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            self.judge(job).await;
        }
    }

    async fn judge(&mut self, job: Job) {
        let Job { beside, stage, mut evidence } = job;
        let (old, new) = (&beside.placed.incumbent, &beside.placed.rollout.candidate);
        let (before, after) = (beside.under(old), beside.under(new));
        if self.guards.complete(&mut evidence, [&before, &after], PATIENCE).await.is_err() {
            self.metrics.rollout_dropped(&old.policy.name, "classifier");
            self.tally.lock().unwrap_or_else(PoisonError::into_inner).dropped(&beside.placed);
            return;
        }
        let (before, after) = (self.guards.opinion(&before, &evidence), self.guards.opinion(&after, &evidence));
        let (old_word, new_word, differs) = before.beside(&after);
        self.metrics.compared(&Compared {
            policy: &old.policy.name,
            candidate: &new.policy.name,
            stage: stage.as_str(),
            old: old_word,
            new: new_word,
        });
        let decision = (stage.as_str(), old_word, new_word);
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).compared(&beside.placed, decision);
        if !differs {
            return;
        }
        let side = |view: &View, opinion| Side {
            policy: view.policy.name.clone(),
            revision: view.policy.revision.clone(),
            opinion,
        };
        let case = Case {
            unix_ms: now_ms(),
            request_id: beside.request_id.clone(),
            route: beside.about.route.to_owned(),
            stage: stage.as_str().to_owned(),
            old: side(old, before),
            new: side(new, after),
            texts: evidence.texts(new, &|text| self.kept(text)),
        };
        self.keep(&case);
    }

    fn kept(&self, text: &str) -> Option<String> {
        match self.content {
            Content::None => None,
            Content::Redacted => Some(self.redaction.redact(text).unwrap_or_else(|| text.to_owned())),
            Content::Full => Some(text.to_owned()),
        }
    }

    fn keep(&mut self, case: &Case) {
        let Some(cases) = &mut self.cases else { return };
        let outcome = match cases.append(case) {
            Ok(()) => "written",
            Err(error) => {
                tracing::warn!(%error, "a case of a roll-out was not kept");
                "failed"
            }
        };
        self.metrics.rollout_case(outcome);
    }
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What keeps a request together with others; nothing where it has none.
pub(super) fn identity(by: By, key: Option<Key<'_>>, call: &Call, id: &str) -> Option<Vec<u8>> {
    match by {
        By::Request => Some(id.as_bytes().to_vec()),
        By::Key => key.map(|key| key.identity().into_bytes()),
        By::Conversation => {
            let first = call.segments().iter().find(|segment| segment.origin == Origin::User)?;
            let mut identity = key.map(|key| key.identity()).unwrap_or_default().into_bytes();
            identity.push(0);
            identity.extend(first.text.bytes().take(OPENING));
            Some(identity)
        }
    }
}
