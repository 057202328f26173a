//! From a checked configuration to a gateway that could serve; opens no port.

use std::sync::Arc;

use super::Failed;
use crate::api::Dialect;
use crate::classify::Classifier;
use crate::config::Config;
use crate::gateway::Gateway;
use crate::guard::{self, Guards, PatternSet};
use crate::pairs::Spool;
use crate::policy::{Known, KnownLabel, PolicyError, Store, Watch};
use crate::telemetry::Metrics;
use crate::upstream::Upstream;

/// Everything that `serve` runs, and has to stop in the end.
pub(super) struct Parts {
    pub(super) gateway: Arc<Gateway>,
    pub(super) watch: Watch,
    pub(super) spool: Option<Spool>,
}

/// Loads models, policies and keys. Every failure names what to mend.
pub(super) fn assemble(config: &Config, variable: &dyn Fn(&str) -> Option<String>) -> Result<Parts, Failed> {
    let told = |complaint: String| Failed::Told(config.complaint(&complaint));
    let metrics = Arc::new(Metrics::new().map_err(|error| Failed::Ran(error.to_string()))?);
    let upstreams = config
        .upstreams
        .iter()
        .map(|(name, upstream)| Upstream::build(name, upstream, variable, Arc::clone(&metrics)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| told(error.to_string()))?;
    let classifier = config.classifier.as_ref().map(|model| Classifier::load(model, &metrics)).transpose();
    let classifier = classifier.map_err(|error| told(format!("{}: {error}", error.key())))?;
    let known = known(classifier.as_ref(), config);
    let store = Store::open(&config.policies, known, Arc::clone(&metrics), guard::arm);
    let store = store.map_err(|error| match error {
        PolicyError::Files(_) | PolicyError::Arm { .. } => Failed::Told(error.report()),
        PolicyError::NoSuchPolicy { .. } => told(format!("policies.active: {error}")),
        PolicyError::Read { .. } => told(format!("policies.dir: {error}")),
    });
    let store = Arc::new(store?);
    let watch = store.watch().map_err(|error| told(format!("policies.dir: {error}")))?;
    let spool = config.pairs.as_ref().map(|pairs| Spool::start(pairs, Arc::clone(&metrics))).transpose();
    let spool = spool.map_err(|error| told(format!("pairs.dir: {error}")))?;
    for dialect in Dialect::ALL {
        // A series that must stay 0 is only seen to do so if it is there.
        metrics.unscanned(dialect.route(), 0);
    }
    let entities: Vec<String> = guard::ENTITIES.iter().map(|name| (*name).to_owned()).collect();
    let redaction = PatternSet::compile(&entities, &[]).map_err(|error| Failed::Ran(error.to_string()))?;
    let gateway = Gateway {
        config: config.gateway,
        policies: store,
        guards: Guards::new(classifier, Arc::clone(&metrics)).with_ledger(config.gateway.ledger_bytes),
        upstreams,
        pairs: spool.clone(),
        redaction,
        metrics,
        readiness: false.into(),
        presence: Dialect::ALL.into_iter().map(|dialect| (dialect.route(), Arc::default())).collect(),
    };
    Ok(Parts { gateway: Arc::new(gateway), watch, spool })
}

/// What policies may speak of.
fn known(classifier: Option<&Classifier>, config: &Config) -> Known {
    let labels = classifier.map(Classifier::labels).unwrap_or_default();
    let labels = labels.iter().map(|label| KnownLabel {
        head: label.head.clone(),
        name: label.name.clone(),
        thresholds: label.thresholds.clone(),
    });
    let own_key = config.upstreams.iter().filter(|(_, upstream)| !upstream.forward_client_key);
    Known {
        labels: labels.collect(),
        entities: guard::ENTITIES.iter().map(|name| (*name).to_owned()).collect(),
        upstreams: own_key.map(|(name, _)| name.clone()).collect(),
    }
}
