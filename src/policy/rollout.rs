//! Roll-out: a policy file that names another policy is tried on a share of that policy's requests before it takes its
//! place. Whether a request is in the share depends on nothing but names and its own identity, so that it is the same in
//! every process, after every reload and restart, and so that a larger share holds all of a smaller one.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_saphyr::Location;
use sha2::{Digest, Sha256};

use super::file::PolicyFile;
use super::schema::{WORD, written};
use super::store::Snapshot;
use crate::yaml::{Problem, Source, Spanned, expected};

/// A new policy beside the one that it may replace.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `of` and `mode`, and with `percent` for a canary")]
#[schemars(rename = "Rollout")]
pub(super) struct Written {
    /// The policy whose requests this one is tried on.
    #[schemars(regex(pattern = WORD))]
    of: Spanned<String>,
    /// Whether this policy acts on its share, or only judges it.
    mode: Spanned<Trial>,
    /// The share of requests, in percent. A canary has to say it; in the shadow it is 100 if it is left out.
    #[serde(default, deserialize_with = "written")]
    #[schemars(range(min = 0.0, max = 100.0))]
    percent: Option<Spanned<f64>>,
    /// What stays together on one side of the line; by default each request is for itself.
    #[serde(default)]
    by: By,
}

/// What a roll-out does with its share of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trial {
    /// Both policies judge, the old one acts.
    Shadow,
    /// The new policy acts; the old one judges beside it.
    Canary,
}

impl Trial {
    /// The word in files and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Canary => "canary",
        }
    }
}

/// What is assigned to one side as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Each request.
    #[default]
    Request,
    /// All requests with one client's key. Requests without one stay with the old policy.
    Key,
    /// All requests of one conversation: those that begin with the same user message, under the same key.
    Conversation,
}

impl By {
    /// The word in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Key => "key",
            Self::Conversation => "conversation",
        }
    }
}

/// What a policy file says of its roll-out.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The policy whose requests it is tried on.
    pub of: String,
    /// Who acts.
    pub mode: Trial,
    /// From 0 to 100.
    pub percent: f64,
    /// What stays together.
    pub by: By,
}

/// A roll-out that is under way.
#[derive(Debug)]
pub struct Rollout<A> {
    /// What its file says.
    pub plan: Plan,
    /// The new policy.
    pub candidate: Arc<Snapshot<A>>,
}

/// A request's side of a roll-out.
#[derive(Debug)]
pub struct Placed<A> {
    /// The roll-out.
    pub rollout: Arc<Rollout<A>>,
    /// The policy that may be replaced.
    pub incumbent: Arc<Snapshot<A>>,
    /// Whether the request is in the share.
    pub in_share: bool,
}

/// The policy of a request, taken once and kept to its last byte.
#[derive(Debug)]
pub struct Assigned<A> {
    /// The policy that acts.
    pub snapshot: Arc<Snapshot<A>>,
    /// The roll-out that its policy is in, if there is one.
    pub placed: Option<Placed<A>>,
}

impl Plan {
    /// Whether `identity` is in the share of `candidate`. The first 64 bits of
    /// `SHA-256(of NUL candidate NUL identity)` as a fraction, under the share.
    pub fn takes(&self, candidate: &str, identity: &[u8]) -> bool {
        if self.percent >= 100.0 {
            return true;
        }
        let mut hash = Sha256::new();
        for name in [self.of.as_bytes(), candidate.as_bytes()] {
            hash.update(name);
            hash.update([0]);
        }
        hash.update(identity);
        let digest = hash.finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        #[expect(clippy::cast_precision_loss, reason = "the lowest bits of 64 decide nothing")]
        let fraction = u64::from_be_bytes(first) as f64 / 2f64.powi(64);
        fraction < self.percent / 100.0
    }
}

impl<A> Rollout<A> {
    /// The side of a request whose policy is `incumbent`. What has no identity is not in the share.
    pub(super) fn place(
        self: &Arc<Self>,
        incumbent: Arc<Snapshot<A>>,
        identity: impl FnOnce(By) -> Option<Vec<u8>>,
    ) -> Assigned<A> {
        let identity = identity(self.plan.by);
        let in_share = identity.is_some_and(|identity| self.plan.takes(&self.candidate.policy.name, &identity));
        let acts = in_share && self.plan.mode == Trial::Canary;
        let snapshot = Arc::clone(if acts { &self.candidate } else { &incumbent });
        Assigned { snapshot, placed: Some(Placed { rollout: Arc::clone(self), incumbent, in_share }) }
    }
}

/// The first mistake of a roll-out that its own file shows, or the plan.
pub(super) fn check(
    source: Source<'_>,
    name: Option<&str>,
    written: &Spanned<Written>,
) -> Result<(Location, Plan), Problem> {
    let Written { of, mode, percent, by } = &written.value;
    let place = of.referenced;
    if name == Some(of.value.as_str()) {
        let message = "a policy is not rolled out over itself: take `rollout` out, and it is in force as it stands";
        return Err(source.problem(place, message));
    }
    if percent.is_none() && mode.value == Trial::Canary {
        return Err(source.problem(mode.referenced, "a canary needs its share: `percent`, from 0 to 100"));
    }
    let percent = source.within(percent.as_ref(), 100.0, (0.0, 100.0))?;
    Ok((place, Plan { of: of.value.clone(), mode: mode.value, percent, by: *by }))
}

/// The files with a roll-out whose policy is in force. `in_force` are the names that the configuration chooses.
pub(super) fn under_way<'f>(
    files: &'f [PolicyFile],
    in_force: &[&str],
) -> Result<Vec<(&'f PolicyFile, &'f Plan)>, Vec<Problem>> {
    let trials = || files.iter().filter_map(|file| file.rollout.as_ref().map(|plan| (file, plan)));
    let mut problems = Vec::new();
    for (file, plan) in trials() {
        if let Some(message) = mistake(files, (file, plan), in_force) {
            problems.push(file.problem(file.rollout_place, message));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let (here, elsewhere): (Vec<_>, Vec<_>) = trials().partition(|(_, plan)| in_force.contains(&plan.of.as_str()));
    for (file, Plan { of, .. }) in elsewhere {
        tracing::warn!(candidate = file.policy.name, of, "no roll-out: nothing chooses the policy that it is of");
    }
    Ok(here)
}

/// What is wrong with a roll-out among the others.
fn mistake(files: &[PolicyFile], (file, plan): (&PolicyFile, &Plan), in_force: &[&str]) -> Option<String> {
    let name = &file.policy.name;
    let Some(of) = files.iter().find(|other| other.policy.name == plan.of) else {
        let names = files.iter().map(|file| file.policy.name.as_str()).filter(|other| other != name);
        return Some(format!("unknown policy `{}`, {}", plan.of, expected("policy", &plan.of, names)));
    };
    if of.rollout.is_some() {
        return Some(format!("`{}` is itself being rolled out: one step at a time", plan.of));
    }
    if in_force.contains(&name.as_str()) {
        return Some(format!(
            "`{name}` is in force already, by `policies.active` or `policies.select`: take `rollout` out, or the name there"
        ));
    }
    let other = |other: &&PolicyFile| {
        other.policy.name < *name && other.rollout.as_ref().is_some_and(|other| other.of == plan.of)
    };
    let other = files.iter().find(other)?;
    Some(format!("`{}` is being rolled out over `{}` already: one at a time", other.policy.name, plan.of))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;

    use super::super::mistakes::known;
    use super::super::{Asking, Config, Makers, PolicyError, Store};
    use super::*;
    use crate::telemetry::{Metrics, ReloadOutcome};

    const RULES: &str = "rules: [{ id: mail, guard: { entities: [US_SSN] }, stages: [input], action: block }]\n";

    fn write(dir: &Path, name: &str, rollout: &str) {
        let rollout = if rollout.is_empty() { String::new() } else { format!("rollout: {{ {rollout} }}\n") };
        fs::write(dir.join(format!("{name}.yaml")), format!("{RULES}description: {name}\n{rollout}")).unwrap();
    }

    fn open(dir: &Path) -> Result<Store<()>, PolicyError> {
        let config = Config { dir: dir.to_owned(), active: "old".to_owned(), ..Config::default() };
        Store::open(&config, known(), Arc::new(Metrics::new().unwrap()), Makers::new(|_| Ok(())))
    }

    fn assigned(store: &Store<()>, who: &str) -> (String, Option<bool>) {
        let assigned = store.assign(&Asking::default(), |_| Some(who.as_bytes().to_vec()));
        (assigned.snapshot.policy.name.clone(), assigned.placed.map(|placed| placed.in_share))
    }

    #[test]
    fn a_file_edit_begins_widens_promotes_and_ends_a_roll_out() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "old", "");
        let store = open(dir.path()).unwrap();
        let who: Vec<String> = (0..400).map(|n| n.to_string()).collect();
        assert_eq!(assigned(&store, "1"), ("old".to_owned(), None));
        write(dir.path(), "new", "of: old, mode: shadow");
        assert_eq!(store.reload(), ReloadOutcome::Applied);
        assert_eq!(store.reload(), ReloadOutcome::Unchanged);
        assert!(who.iter().all(|who| assigned(&store, who) == ("old".to_owned(), Some(true))));
        write(dir.path(), "new", "of: old, mode: canary, percent: 10, by: key");
        assert_eq!(store.reload(), ReloadOutcome::Applied, "another share is another state, with the same revision");
        let served =
            |store: &Store<()>| -> Vec<bool> { who.iter().map(|who| assigned(store, who).0 == "new").collect() };
        let few = served(&store);
        let count = few.iter().filter(|new| **new).count();
        assert!((20..70).contains(&count), "{count} of 400 are 10 %");
        assert_eq!(few, served(&open(dir.path()).unwrap()), "another process assigns alike");
        write(dir.path(), "new", "of: old, mode: canary, percent: 60, by: key");
        store.reload();
        assert!(served(&store).iter().zip(&few).all(|(now, before)| *now || !before), "who is in stays in");
        let new = store.rollouts()[0].candidate.policy.revision.clone();
        fs::copy(dir.path().join("new.yaml"), dir.path().join("new.yaml~")).unwrap();
        write(dir.path(), "new", "of: old, mode: canary, percent: 100, by: key");
        store.reload();
        assert!(served(&store).iter().all(|new| *new));
        assert_eq!(store.rollouts()[0].candidate.policy.revision, new, "the share is no part of the revision");
        assert_eq!(store.named("new").policy.name, "new");
        fs::remove_file(dir.path().join("new.yaml")).unwrap();
        assert_eq!(store.reload(), ReloadOutcome::Applied);
        assert_eq!(assigned(&store, "1"), ("old".to_owned(), None));
    }

    #[test]
    fn without_an_identity_a_request_stays_with_the_old_policy() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "old", "");
        write(dir.path(), "new", "of: old, mode: canary, percent: 100, by: key");
        let assigned = open(dir.path()).unwrap().assign(&Asking::default(), |_| None);
        assert_eq!((assigned.snapshot.policy.name.as_str(), assigned.placed.unwrap().in_share), ("old", false));
    }

    #[test]
    fn roll_outs_that_make_no_sense_are_refused_with_their_place() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "old", "");
        write(dir.path(), "b", "of: old, mode: shadow");
        for (name, rollout, told) in [
            ("new", "of: odl, mode: shadow", "new.yaml:3:16: rollout.of: unknown policy `odl`, expected one of"),
            ("new", "of: b, mode: shadow", "new.yaml:3:16: rollout.of: `b` is itself being rolled out"),
            ("new", "of: old, mode: shadow", "new.yaml:3:16: rollout.of: `b` is being rolled out over `old` already"),
            ("old", "of: b, mode: shadow", "old.yaml:3:16: rollout.of: `b` is itself being rolled out"),
            ("new", "of: new, mode: shadow", "new.yaml:3:16: rollout.of: a policy is not rolled out over itself"),
            ("new", "of: old, mode: canary", "new.yaml:3:27: rollout.mode: a canary needs its share"),
            (
                "new",
                "of: old, mode: canary, percent: 101",
                "new.yaml:3:44: rollout.percent: expected a number from 0 to",
            ),
            (
                "new",
                "of: old, mode: canry",
                "new.yaml:3:27: rollout.mode: unknown value `canry`, expected one of `shadow`, `canary`",
            ),
            ("new", "of: old, mode: shadow, by: user", "rollout.by: unknown value `user`"),
        ] {
            write(dir.path(), name, rollout);
            let error = open(dir.path()).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(told), "{rollout}\n  expected {told}\n  told     {error}");
            write(dir.path(), "old", "");
            let _gone = fs::remove_file(dir.path().join("new.yaml"));
        }
        // What nothing chooses in this process may be rolled out in another.
        write(dir.path(), "other", "");
        write(dir.path(), "new", "of: other, mode: shadow");
        assert_eq!(open(dir.path()).unwrap().rollouts().len(), 1);
    }

    fn plan(percent: f64) -> Plan {
        let (of, mode) = ("old".to_owned(), Trial::Canary);
        Plan { of, mode, percent, by: By::Key }
    }

    #[test]
    fn the_share_is_near_its_percentage() {
        for percent in [0.0, 0.5, 10.0, 50.0, 99.0, 100.0] {
            let taken = (0..20_000).filter(|n: &u32| plan(percent).takes("new", &n.to_be_bytes())).count();
            let (share, error) = (f64::from(u32::try_from(taken).unwrap()) / 200.0, 1.5);
            assert!((share - percent).abs() <= error, "{share} % instead of {percent} %");
        }
        assert!((0..1000_u32).all(|n| !plan(0.0).takes("new", &n.to_be_bytes())));
        assert!((0..1000_u32).all(|n| plan(100.0).takes("new", &n.to_be_bytes())));
    }

    #[test]
    fn the_assignment_can_be_checked_with_sha256sum() {
        // printf 'old\0new\0abc' | sha256sum: the first digits over 0x100.
        let digest = Sha256::digest(b"old\0new\0abc");
        let fraction = f64::from(digest[0]) / 256.0;
        assert!(plan(100.0 * (fraction + 0.01)).takes("new", b"abc"));
        assert!(!plan(100.0 * (fraction - 0.01)).takes("new", b"abc"));
    }

    proptest! {
        #[test]
        fn a_larger_share_holds_the_smaller(identity in proptest::collection::vec(any::<u8>(), 0..20),
                                            small in 0.0..100.0_f64, more in 0.0..100.0_f64) {
            let large = (small + more).min(100.0);
            prop_assert!(!plan(small).takes("new", &identity) || plan(large).takes("new", &identity));
            prop_assert_eq!(plan(small).takes("new", &identity), plan(small).takes("new", &identity));
        }
    }
}
