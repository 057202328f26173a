//! From a checked configuration to a gateway that could serve; opens no port.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::{Failed, exchange};
use crate::api::Dialect;
use crate::classify::{self, Classifier, Label, Models};
use crate::config::Config;
use crate::gateway::{Gateway, Rollouts};
use crate::guard::{self, Armed, Guards, PatternSet, View};
use crate::pairs::{Feedback, Seal, Sinks, Spool};
use crate::policy::{Known, KnownLabel, Makers, PolicyError, PolicyFile, Proof, Snapshot, Store, Test, Watch};
use crate::telemetry::Metrics;
use crate::upstream::Upstream;

/// Looks up an environment variable.
pub(super) type Variable = fn(&str) -> Option<String>;

/// The process's own.
pub(super) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The process configuration.
pub(super) fn configured(path: &Path) -> Result<Config, Failed> {
    Config::read(path).map_err(|error| Failed::Told(error.to_string()))
}

/// Everything that `serve` runs, and has to stop in the end.
pub(super) struct Parts {
    pub(super) gateway: Arc<Gateway>,
    pub(super) watch: Watch,
    pub(super) spool: Option<Spool>,
    pub(super) sinks: Sinks,
}

/// Loads models, policies and keys. Every failure names what to mend.
/// Classifiers on servers are called on `runtime`.
pub(super) fn assemble(config: &Config, variable: Variable, runtime: &Handle) -> Result<Parts, Failed> {
    let told = |complaint: String| Failed::Told(config.complaint(&complaint));
    let metrics = metrics()?;
    let upstreams = config
        .upstreams
        .iter()
        .map(|(name, upstream)| Upstream::build(name, upstream, variable, Arc::clone(&metrics)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| told(error.to_string()))?;
    let fingerprint = exchange::fingerprint(config);
    let models = models(config, variable, runtime, &metrics)?;
    let known = known(models.labels(), config);
    let stock = exchange::stock(fingerprint, config, &models, &metrics);
    let makers = Makers::new(move |policy| guard::arm(policy, &models)).proving(proving(config)?);
    let makers = makers.renewing(stock, exchange::renewing(config, variable, runtime, &metrics));
    let store = Store::open(&config.policies, known, Arc::clone(&metrics), makers);
    let store = store.map_err(|error| match error {
        PolicyError::NoSuchPolicy { line: None, .. } => told(format!("policies.active: {error}")),
        PolicyError::NoSuchPolicy { line: Some(line), .. } => told(format!("policies.select[{line}].policy: {error}")),
        PolicyError::Select { line, key, .. } => told(format!("policies.select[{line}].{key}: {error}")),
        PolicyError::Tenants { ref key, .. } => told(format!("tenants.{key}: {error}")),
        PolicyError::Read { .. } => told(format!("policies.dir: {error}")),
        other => Failed::Told(other.report()),
    });
    let store = Arc::new(store?);
    let watch = store.watch().map_err(|error| told(format!("policies.dir: {error}")))?;
    let sinks = config.pairs.as_ref().map(|pairs| Sinks::build(pairs, &variable, Arc::clone(&metrics))).transpose();
    let sinks = sinks.map_err(|error| told(format!("pairs.{error}")))?.unwrap_or_default();
    let spool = config.pairs.as_ref().map(|pairs| Spool::start(pairs, Arc::clone(&metrics))).transpose();
    let spool = spool.map_err(|error| told(format!("pairs.{}: {error}", error.key())))?;
    for dialect in Dialect::ALL {
        // A series that must stay 0 is only seen to do so if it is there.
        metrics.unscanned(dialect.route(), 0);
    }
    let entities: Vec<String> = guard::ENTITIES.iter().map(|name| (*name).to_owned()).collect();
    let redaction = PatternSet::compile(&entities, &[]).map_err(|error| Failed::Ran(error.to_string()))?;
    let guards = Guards::new(Arc::clone(&metrics)).with_ledger(config.gateway.ledger_bytes);
    let keeps = PatternSet::compile(&entities, &[]).map_err(|error| Failed::Ran(error.to_string()))?;
    let quiet = Guards::new(self::metrics()?);
    let rollouts = Rollouts::start(config.rollouts.as_ref(), quiet, keeps, Rollouts::MEMORY, Arc::clone(&metrics));
    let rollouts = rollouts.map_err(|error| told(format!("rollouts.dir: {error}")))?;
    let seal = seal(config, &variable)?;
    let feedback = config.pairs.as_ref().and_then(|pairs| pairs.feedback.as_ref()).map(Feedback::new);
    let gateway = Gateway {
        config: config.gateway,
        policies: store,
        guards,
        upstreams,
        pairs: spool.clone(),
        seal,
        feedback,
        redaction,
        rollouts,
        comparisons: Arc::new(Semaphore::new(config.gateway.comparisons.min(Semaphore::MAX_PERMITS))),
        metrics,
        readiness: false.into(),
        presence: Dialect::ALL.into_iter().map(|dialect| (dialect.route(), Arc::default())).collect(),
    };
    Ok(Parts { gateway: Arc::new(gateway), watch, spool, sinks })
}

/// What request ids are sealed with: the configured secret, or one of this run's own.
fn seal(config: &Config, variable: &dyn Fn(&str) -> Option<String>) -> Result<Seal, Failed> {
    let told = |complaint: String| Failed::Told(config.complaint(&format!("pairs.key_env: {complaint}")));
    let Some(name) = config.pairs.as_ref().and_then(|pairs| pairs.key_env.as_deref()) else {
        if config.pairs.as_ref().is_some_and(|pairs| pairs.feedback.is_some()) {
            tracing::info!(
                "request ids are sealed with a key of this run's own: feedback on answers from before a restart, or from \
                 another instance, is refused (pairs.key_env: VARIABLE names one that stays)"
            );
        }
        return Seal::random().map_err(|error| told(error.to_string()));
    };
    let secret = variable(name).ok_or_else(|| {
        told(format!("the environment variable {name} is not set; run `export {name}=$(openssl rand -hex 32)` first"))
    })?;
    Seal::of(secret.as_bytes()).map_err(|error| told(format!("{name}: {error}")))
}

pub(super) fn metrics() -> Result<Arc<Metrics>, Failed> {
    Metrics::new().map(Arc::new).map_err(|error| Failed::Ran(error.to_string()))
}

/// The classifiers that the configuration names, the one at hand first.
pub(super) fn models(
    config: &Config,
    variable: Variable,
    runtime: &Handle,
    metrics: &Arc<Metrics>,
) -> Result<Models, Failed> {
    let local = config.classifier.iter().map(|model| Classifier::load(model, metrics));
    let remote = config.classifiers.iter();
    let remote = remote.map(|(name, remote)| Classifier::remote(name, remote, variable, runtime, metrics));
    let models = local.chain(remote).collect::<Result<Vec<_>, _>>().and_then(Models::new);
    models.map_err(|error| Failed::Told(config.complaint(&format!("{}: {error}", error.key()))))
}

/// Runs a policy's tests, and gives one proof a test.
pub(super) type Prove = Box<dyn Fn(&View, &[Test]) -> Result<Vec<Proof>, String> + Send + Sync>;

/// What runs tests on the real classifiers, with metrics that nobody reads.
pub(super) fn proving(config: &Config) -> Result<Prove, Failed> {
    let guards = Guards::new(metrics()?);
    let limit = Duration::from_millis(config.policies.test_timeout_ms);
    Ok(Box::new(move |view: &View, tests: &[Test]| guard::rehearse(&guards, view, tests, limit)))
}

/// What policies may speak of, without loading a model: its manifest says it.
pub(super) fn known_unloaded(config: &Config) -> Result<Known, Failed> {
    let labels = config.classifier.as_ref().map(classify::labels).transpose();
    let labels = labels.map_err(|error| Failed::Told(config.complaint(&format!("{}: {error}", error.key()))))?;
    let remote = config.classifiers.iter().flat_map(|(name, remote)| remote.labels(name));
    let labels: Vec<Label> = labels.into_iter().flatten().chain(remote).collect();
    Ok(known(&labels, config))
}

/// What policies may speak of.
pub(super) fn known<'l>(labels: impl IntoIterator<Item = &'l Label>, config: &Config) -> Known {
    let labels = labels.into_iter().map(|label| KnownLabel {
        head: label.head.clone(),
        name: label.name.clone(),
        thresholds: label.thresholds.clone(),
    });
    let own_key = config.upstreams.iter().filter(|(_, upstream)| !upstream.forward_client_key);
    Known {
        labels: labels.collect(),
        entities: guard::ENTITIES.iter().map(|name| (*name).to_owned()).collect(),
        upstreams: own_key.map(|(name, _)| name.clone()).collect(),
        tenants: config.policies.tenants.known.keys().cloned().collect(),
    }
}

/// A file's policy as requests would see it.
pub(super) fn armed(file: PolicyFile, models: &Models) -> Result<View, Failed> {
    let armed: Armed = guard::arm(&file.policy, models)
        .map_err(|reason| Failed::Told(format!("{}: {reason}", file.path.display())))?;
    Ok(Arc::new(Snapshot { policy: file.policy, tests: file.tests, armed }))
}
