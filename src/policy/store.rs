//! The policy in force: one snapshot, swapped whole, and how the last reload went.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::checked::{Known, Policy};
use super::directory::Sight;
use super::embedded::{Proof, Test};
use super::error::PolicyError;
use super::file::PolicyFile;
use super::rollout::{Assigned, By, Plan, Rollout, under_way};
use super::select::{Asking, Selector, first};
use super::supply::{Arm, Stock, Supply};
use super::tenant::Tenants;
use crate::api::Dialect;
use crate::telemetry::{Metrics, ReloadOutcome};

/// Where policies lie, and which one is in force.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A directory of `*.yaml` files, one policy each. Files elsewhere that these build on are watched too.
    pub dir: PathBuf,
    /// The policy of every request that no line of `select` takes.
    pub active: String,
    /// Policies for some requests: the first line that takes a request decides.
    pub select: Vec<Selector>,
    /// Milliseconds that the tests of one policy may take when it is loaded; a policy that takes longer is refused.
    pub test_timeout_ms: u64,
    /// Who sends requests; a section of its own in the file.
    #[serde(skip)]
    pub tenants: Tenants,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("policies"),
            active: "default".to_owned(),
            select: Vec::new(),
            test_timeout_ms: 30_000,
            tenants: Tenants::default(),
        }
    }
}

/// What a request sees of the policy, from its first byte to its last.
#[derive(Debug)]
pub struct Snapshot<A> {
    /// The policy.
    pub policy: Policy,
    /// The tests that it has passed.
    pub tests: Vec<Test>,
    /// What was built from it.
    pub armed: A,
}

/// How a reload ended, for the status page.
#[derive(Clone, Debug)]
pub struct LastReload {
    /// When.
    pub at: SystemTime,
    /// How.
    pub outcome: ReloadOutcome,
    /// Why it was refused; empty unless it was.
    pub problems: Vec<String>,
}

type Prove<A> = dyn Fn(&Arc<Snapshot<A>>, &[Test]) -> Result<Vec<Proof>, String> + Send + Sync;

type Renew<A> = dyn Fn(&str) -> Result<Option<Supply<A>>, String> + Send + Sync;

/// What the opener of a [`Store`] makes of a policy: this room neither judges nor compiles.
pub struct Makers<A> {
    arm: Box<Arm<A>>,
    prove: Option<Box<Prove<A>>>,
    stock: Stock,
    renew: Option<Box<Renew<A>>>,
}

impl<A> Makers<A> {
    /// `arm` builds what goes with a policy; its error is for the policy's author.
    pub fn new(arm: impl Fn(&Policy) -> Result<A, String> + Send + Sync + 'static) -> Self {
        Self { arm: Box::new(arm), prove: None, stock: Stock::default(), renew: None }
    }

    /// `prove` runs a policy's tests before it is put in force, and gives one proof a test. It is called on the thread
    /// that opens or reloads, never on one that serves requests, and has to end in bounded time.
    #[must_use]
    pub fn proving(
        self,
        prove: impl Fn(&Arc<Snapshot<A>>, &[Test]) -> Result<Vec<Proof>, String> + Send + Sync + 'static,
    ) -> Self {
        Self { prove: Some(Box::new(prove)), ..self }
    }

    /// `renew` is asked at each reload whether there is another supply than the one of this fingerprint, and makes it,
    /// ready to serve, or says why it cannot. It may take its time: what is in force goes on. `stock` tells of the one to
    /// begin with.
    #[must_use]
    pub fn renewing(
        self,
        stock: Stock,
        renew: impl Fn(&str) -> Result<Option<Supply<A>>, String> + Send + Sync + 'static,
    ) -> Self {
        Self { stock, renew: Some(Box::new(renew)), ..self }
    }
}

/// What makes a snapshot of a file.
struct Maker<'m, A> {
    supply: &'m Supply<A>,
    prove: Option<&'m Prove<A>>,
    metrics: &'m Metrics,
}

impl<A> Maker<'_, A> {
    /// A file's policy, armed and proven.
    fn make(&self, file: &PolicyFile) -> Result<Arc<Snapshot<A>>, PolicyError> {
        let (path, name) = (file.path.clone(), file.policy.name.clone());
        let armed = (self.supply.arm)(&file.policy).map_err(|reason| PolicyError::Arm {
            path: path.clone(),
            policy: name.clone(),
            reason,
        })?;
        let snapshot = Arc::new(Snapshot { policy: file.policy.clone(), tests: file.tests.clone(), armed });
        let Some(prove) = self.prove.filter(|_| !file.tests.is_empty()) else { return Ok(snapshot) };
        let proofs = prove(&snapshot, &file.tests).map_err(|reason| PolicyError::Untested {
            path,
            policy: name.clone(),
            reason,
        })?;
        let failures = file.failures(&proofs);
        self.metrics.policy_tested(&name, proofs.len() - failures.len(), failures.len());
        if failures.is_empty() { Ok(snapshot) } else { Err(PolicyError::Files(failures)) }
    }
}

/// What is in force, swapped whole.
#[derive(Debug)]
struct InForce<A> {
    /// The active policy first, then those that `select` names, each once.
    policies: Vec<Arc<Snapshot<A>>>,
    /// New policies beside them, at most one each.
    rollouts: Vec<Arc<Rollout<A>>>,
}

impl<A> InForce<A> {
    fn all(&self) -> impl Iterator<Item = &Arc<Snapshot<A>>> {
        self.policies.iter().chain(self.rollouts.iter().map(|rollout| &rollout.candidate))
    }

    /// What is in force under a name; the active policy if nothing is.
    fn named(&self, name: &str) -> &Arc<Snapshot<A>> {
        self.all().find(|snapshot| snapshot.policy.name == name).unwrap_or(&self.policies[0])
    }
}

/// Holds the policies in force, together with what the caller builds from a policy (`A`).
pub struct Store<A> {
    config: Config,
    prove: Option<Box<Prove<A>>>,
    renew: Option<Box<Renew<A>>>,
    metrics: Arc<Metrics>,
    /// The directory just before it was first read: where a watch takes up.
    at_opening: Sight,
    current: ArcSwap<InForce<A>>,
    /// The files of the policies in force, as they were read last.
    files: Mutex<Vec<PolicyFile>>,
    /// What policies in force are armed with. Held for a whole reload, so that two of them cannot overtake each other.
    supply: Mutex<Supply<A>>,
    last: Mutex<LastReload>,
    last_renewal: Mutex<Option<LastReload>>,
}

impl<A> Store<A> {
    /// Reads and checks the directory, arms the active policy, and runs its tests.
    ///
    /// # Errors
    /// Any mistake in any file, a missing active policy, or one that cannot be armed or fails its tests.
    pub fn open(config: &Config, known: Known, metrics: Arc<Metrics>, makers: Makers<A>) -> Result<Self, PolicyError> {
        let at_opening = Sight::of(&config.dir, &makers.stock.watched);
        if let Some((key, reason)) = config.tenants.mistake() {
            return Err(PolicyError::Tenants { key, reason });
        }
        let tenants: Vec<&str> = config.tenants.known.keys().map(String::as_str).collect();
        for (line, selector) in config.select.iter().enumerate() {
            if let Some((key, reason)) = selector.mistake(&Dialect::ALL.map(Dialect::route), &tenants) {
                return Err(PolicyError::Select { line, key, reason });
            }
        }
        let Makers { arm, prove, stock, renew } = makers;
        let supply = Supply { known, arm, stock };
        let maker = Maker { supply: &supply, prove: prove.as_deref(), metrics: &metrics };
        let (in_force, _, files) = made(config, &maker, None)?;
        let last = LastReload { at: SystemTime::now(), outcome: ReloadOutcome::Applied, problems: Vec::new() };
        let store = Self {
            config: config.clone(),
            prove,
            renew,
            metrics,
            at_opening,
            current: ArcSwap::from_pointee(in_force),
            files: Mutex::new(files),
            supply: Mutex::new(supply),
            last: Mutex::new(last),
            last_renewal: Mutex::new(None),
        };
        lock(&store.supply).announce();
        store.announce();
        store.metrics.reloaded(ReloadOutcome::Applied);
        Ok(store)
    }

    /// The active policy as it is now.
    pub fn snapshot(&self) -> Arc<Snapshot<A>> {
        self.named(&self.config.active)
    }

    /// The policy for a request, its side of a roll-out counted in. Take it once, and keep it. `identity` gives what
    /// keeps requests together; it is asked only where a roll-out is under way.
    pub fn assign(&self, asking: &Asking<'_>, identity: impl FnOnce(By) -> Option<Vec<u8>>) -> Assigned<A> {
        let current = self.current.load();
        let snapshot = Arc::clone(current.named(self.chosen(asking).0));
        match current.rollouts.iter().find(|rollout| rollout.plan.of == snapshot.policy.name) {
            Some(rollout) => rollout.place(snapshot, identity),
            None => Assigned { snapshot, placed: None },
        }
    }

    /// The policy that the configuration chooses for a request, whatever a roll-out makes of it.
    pub fn select(&self, asking: &Asking<'_>) -> Arc<Snapshot<A>> {
        self.named(self.chosen(asking).0)
    }

    /// The lines of the configuration that choose policies, the active one's name first.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The roll-outs that are under way.
    pub fn rollouts(&self) -> Vec<Arc<Rollout<A>>> {
        self.current.load().rollouts.clone()
    }

    /// The name of the policy for a request, and the place of the line of `select` that chose it.
    pub fn chosen(&self, asking: &Asking<'_>) -> (&str, Option<usize>) {
        self.config.chosen(asking)
    }

    /// Who sends requests.
    pub fn tenants(&self) -> &Tenants {
        &self.config.tenants
    }

    /// The headers that a policy may hang on. They are for us, and a request that has one of them twice is ambiguous.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        let chosen_by = self.config.select.iter().flat_map(|selector| selector.headers.keys());
        chosen_by.chain(&self.config.tenants.header).map(String::as_str)
    }

    /// Every policy in force, the active one first, those that are being rolled out last.
    pub fn in_force(&self) -> Vec<Arc<Snapshot<A>>> {
        self.current.load().all().cloned().collect()
    }

    /// What is in force under a name now; the active policy if nothing is.
    pub fn named(&self, name: &str) -> Arc<Snapshot<A>> {
        Arc::clone(self.current.load().named(name))
    }

    /// All that a policy in force says, those that it builds on put in, as one file; a comment on each line says where it
    /// is written.
    pub fn resolved(&self, name: &str) -> Option<String> {
        lock(&self.files).iter().find(|file| file.policy.name == name).map(PolicyFile::resolved)
    }

    /// Reads the directory again. What is sound and new is in force when this returns; of anything else the log tells,
    /// and nothing changes. Another supply comes into force with all policies armed and proven on it, or not at all. Does
    /// file I/O: not for a thread that serves requests.
    pub fn reload(&self) -> ReloadOutcome {
        let mut supply = lock(&self.supply);
        let renewed = self.renewed(&mut supply);
        // What came into force with another supply was read just now.
        let replaced = if renewed { Ok(ReloadOutcome::Applied) } else { self.replace(&supply) };
        let (outcome, problems) = match replaced {
            Ok(outcome) => (outcome, Vec::new()),
            Err(error) => (ReloadOutcome::Refused, self.refused(&error)),
        };
        self.metrics.reloaded(outcome);
        *lock(&self.last) = LastReload { at: SystemTime::now(), outcome, problems };
        outcome
    }

    /// How the last attempt at another supply ended, if there was one.
    pub fn last_renewal(&self) -> Option<LastReload> {
        lock(&self.last_renewal).clone()
    }

    /// How the last reload ended; at first, the opening.
    pub fn last_reload(&self) -> LastReload {
        lock(&self.last).clone()
    }

    /// The directory that is read.
    pub fn dir(&self) -> &Path {
        &self.config.dir
    }

    pub(super) fn at_opening(&self) -> &Sight {
        &self.at_opening
    }

    /// All that a reload depends on, as it is now.
    pub(super) fn look(&self) -> Sight {
        Sight::of(&self.config.dir, &self.watched())
    }

    /// Whether nothing that a reload depends on has changed since.
    pub(super) fn is_as(&self, seen: &Sight) -> bool {
        seen.holds(&self.watched())
    }

    fn watched(&self) -> Vec<PathBuf> {
        lock(&self.supply).stock.watched.clone()
    }

    /// Whether another supply is in force now. One that cannot be had, or on which a policy cannot be armed or fails its
    /// tests, changes nothing.
    fn renewed(&self, supply: &mut Supply<A>) -> bool {
        let Some(found) = self.renew.as_ref().map(|renew| renew(&supply.stock.fingerprint)) else { return false };
        let refused = lock(&self.last_renewal).as_ref().is_some_and(|last| last.outcome == ReloadOutcome::Refused);
        let (outcome, problems) = match found {
            Ok(None) if !refused => return false,
            // What was refused has been taken back.
            Ok(None) => (ReloadOutcome::Unchanged, Vec::new()),
            Err(reason) => (ReloadOutcome::Refused, vec![reason]),
            Ok(Some(fresh)) => {
                let maker = Maker { supply: &fresh, prove: self.prove.as_deref(), metrics: &self.metrics };
                match made(&self.config, &maker, None) {
                    Err(error) => (ReloadOutcome::Refused, problems(&error)),
                    Ok((in_force, _, files)) => {
                        *lock(&self.files) = files;
                        self.current.store(Arc::new(in_force));
                        *supply = fresh;
                        supply.announce();
                        self.announce();
                        (ReloadOutcome::Applied, Vec::new())
                    }
                }
            }
        };
        for problem in &problems {
            tracing::error!(problem, "classifiers refused; what was in force stays");
        }
        self.metrics.classifiers_exchanged(outcome);
        *lock(&self.last_renewal) = Some(LastReload { at: SystemTime::now(), outcome, problems });
        outcome == ReloadOutcome::Applied
    }

    fn replace(&self, supply: &Supply<A>) -> Result<ReloadOutcome, PolicyError> {
        let before = self.current.load_full();
        let maker = Maker { supply, prove: self.prove.as_deref(), metrics: &self.metrics };
        let (in_force, changed, files) = made(&self.config, &maker, Some(&before))?;
        *lock(&self.files) = files;
        if !changed {
            return Ok(ReloadOutcome::Unchanged);
        }
        self.current.store(Arc::new(in_force));
        self.announce();
        Ok(ReloadOutcome::Applied)
    }

    fn announce(&self) {
        let in_force = self.in_force();
        let names = in_force.iter().map(|snapshot| (snapshot.policy.name.as_str(), snapshot.policy.revision.as_str()));
        self.metrics.policies_in_force(names);
        for snapshot in &in_force {
            let Policy { name, revision, rules, .. } = &snapshot.policy;
            tracing::info!(policy = name, revision, rules = rules.len(), "policy in force");
        }
        for rollout in self.rollouts() {
            let (Plan { of, mode, percent, by }, candidate) = (&rollout.plan, &rollout.candidate.policy.name);
            tracing::info!(of, candidate, mode = mode.as_str(), percent, by = by.as_str(), "roll-out under way");
        }
    }

    fn refused(&self, error: &PolicyError) -> Vec<String> {
        let problems = problems(error);
        let in_force = &self.snapshot().policy.revision;
        for problem in &problems {
            tracing::error!(problem, in_force, "policy refused");
        }
        problems
    }
}

impl Config {
    /// The name of the policy for a request, and the place of the line of `select` that chose it.
    pub fn chosen(&self, asking: &Asking<'_>) -> (&str, Option<usize>) {
        match first(&self.select, asking) {
            Some(line) => (&self.select[line].policy, Some(line)),
            None => (&self.active, None),
        }
    }
}

fn problems(error: &PolicyError) -> Vec<String> {
    match error {
        PolicyError::Files(problems) => problems.iter().map(ToString::to_string).collect(),
        other => vec![other.to_string()],
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is to be in force, whether any of it has changed, and the files of its policies.
type Made<A> = (InForce<A>, bool, Vec<PolicyFile>);

/// The policies that the configuration names and those that are rolled out over them, made anew where they have changed.
/// Every file of the directory is checked, so that a mistake shows when it is made and not when the policy is chosen.
fn made<A>(config: &Config, maker: &Maker<'_, A>, before: Option<&InForce<A>>) -> Result<Made<A>, PolicyError> {
    let files = PolicyFile::read_all(&config.dir, &maker.supply.known)?;
    let mut changed = false;
    let mut make = |file: &PolicyFile| {
        let same = |old: &&Arc<Snapshot<A>>| old.policy == file.policy && old.tests == file.tests;
        if let Some(same) = before.and_then(|before| before.all().find(same)) {
            return Ok(Arc::clone(same));
        }
        changed = true;
        maker.make(file)
    };
    let mut policies: Vec<Arc<Snapshot<A>>> = Vec::new();
    let named = config.select.iter().enumerate().map(|(line, selector)| (Some(line), &selector.policy));
    for (line, name) in std::iter::once((None, &config.active)).chain(named) {
        if policies.iter().any(|snapshot| snapshot.policy.name == *name) {
            continue;
        }
        let Some(file) = files.iter().find(|file| file.policy.name == *name) else {
            let known = files.into_iter().map(|file| file.policy.name).collect();
            return Err(PolicyError::NoSuchPolicy { dir: config.dir.clone(), name: name.clone(), line, known });
        };
        policies.push(make(file)?);
    }
    let chosen: Vec<&str> = policies.iter().map(|snapshot| snapshot.policy.name.as_str()).collect();
    let mut rollouts = Vec::new();
    for (file, plan) in under_way(&files, &chosen).map_err(PolicyError::Files)? {
        rollouts.push(Arc::new(Rollout { plan: plan.clone(), candidate: make(file)? }));
    }
    let plans = |rollouts: &[Arc<Rollout<A>>]| -> Vec<(String, Plan)> {
        rollouts.iter().map(|rollout| (rollout.candidate.policy.name.clone(), rollout.plan.clone())).collect()
    };
    changed |= before.is_some_and(|before| plans(&before.rollouts) != plans(&rollouts));
    let in_force = InForce { policies, rollouts };
    let files =
        files.into_iter().filter(|file| in_force.all().any(|snapshot| snapshot.policy.name == file.policy.name));
    let files = files.collect();
    Ok((in_force, changed, files))
}
