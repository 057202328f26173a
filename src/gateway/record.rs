//! What is counted about one exchange, from its first byte to its last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::api::{Dialect, Usage};
use crate::telemetry::{Call, Metrics};

/// One request and its answer, as far as telemetry is concerned. Whoever holds it keeps the exchange counted as under
/// way; the number of holders is read when metrics are scraped.
#[derive(Debug)]
pub(super) struct Exchange {
    metrics: Arc<Metrics>,
    dialect: Dialect,
    provider: String,
    model: String,
    started: Instant,
    first: AtomicBool,
    party: Party,
    /// Held for as long as the exchange lives; counted by its route.
    _presence: Arc<()>,
}

/// Whose request it is.
#[derive(Debug, Default)]
pub(super) struct Party {
    /// The tenant, if the configuration knows it.
    pub(super) tenant: Option<Arc<str>>,
    /// The policy under which the request is counted by its tenant; none where tenants are not counted.
    pub(super) counted: Option<String>,
}

impl Exchange {
    pub(super) fn new(
        metrics: &Arc<Metrics>,
        presence: &Arc<()>,
        dialect: Dialect,
        provider: &str,
        model: &str,
        started: Instant,
    ) -> Self {
        Self {
            metrics: Arc::clone(metrics),
            dialect,
            provider: provider.to_owned(),
            model: model.to_owned(),
            started,
            first: AtomicBool::new(true),
            party: Party::default(),
            _presence: Arc::clone(presence),
        }
    }

    /// The same, of somebody.
    pub(super) fn of(self, party: Party) -> Self {
        Self { party, ..self }
    }

    /// Whose request it is, where the configuration knows.
    pub(super) fn tenant(&self) -> Option<&str> {
        self.party.tenant.as_deref()
    }

    pub(super) fn route(&self) -> &'static str {
        self.dialect.route()
    }

    pub(super) fn provider(&self) -> &str {
        &self.provider
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Bytes of the answer have been released to the client; only the first time counts.
    pub(super) fn first_bytes(&self) {
        if self.first.swap(false, Ordering::Relaxed) {
            self.metrics.first_token(&self.call(), self.started.elapsed());
        }
    }

    /// The answer is complete, in one piece.
    pub(super) fn served(&self, error_type: &'static str) {
        self.first_bytes();
        self.over(error_type);
    }

    /// The prompt was refused here; no token came, so none was first.
    pub(super) fn refused(&self) {
        self.over("content_filter");
    }

    /// The stream is over, for a reason that is one of the metric's fixed words.
    pub(super) fn stream_ended(&self, reason: &'static str) {
        self.metrics.stream_ended(self.route(), reason);
        self.over(if reason == "completed" { "" } else { reason });
    }

    /// What the upstream says the answer cost.
    pub(super) fn used(&self, usage: Option<Usage>) {
        if let Some(usage) = usage {
            self.metrics.tokens(&self.call(), usage.input, usage.output);
        }
    }

    /// The upstream's part is over.
    pub(super) fn upstream_done(&self, since: Instant, error_type: &'static str) {
        self.metrics.upstream_called(&self.call(), error_type, since.elapsed());
    }

    fn over(&self, error_type: &'static str) {
        self.metrics.served(&self.call(), error_type, self.started.elapsed());
        if let Some(policy) = &self.party.counted {
            let outcome = if error_type.is_empty() { "completed" } else { error_type };
            self.metrics.tenant_served(self.party.tenant.as_deref().unwrap_or("other"), policy, outcome);
        }
    }

    fn call(&self) -> Call<'_> {
        Call { operation: self.dialect.operation(), provider: &self.provider, model: &self.model }
    }
}
