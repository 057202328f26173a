//! A gateway on ports of its own, a scripted upstream, a scripted classifier, and a plain client.

mod classifier;
mod client;
pub(crate) mod streams;
pub(crate) mod tricks;
mod upstream;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use wardline::api::Dialect;
use wardline::classify::{Classifier, LoadError, Models, Remote};
use wardline::gateway::{self, Content, Gateway, RolloutConfig, Rollouts};
use wardline::guard::{self, Guards, PatternSet};
use wardline::pairs::{self, Feedback, Seal, Spool};
use wardline::policy::{self, Known, KnownLabel, Makers, Store};
use wardline::server::{self, Server};
use wardline::telemetry::Metrics;
use wardline::upstream::{self as provider, Provider};

pub(crate) use client::{Client, Reply, chat, message, prompt};
pub(crate) use upstream::{Recorded, Step, Upstream, answer, json, sse, status};

/// A policy without rules.
pub(crate) const OPEN: &str = "constitution: { preamble: Be kind. }\nrules: []\n";

/// Blocks `override` going up and `worthless` coming down, redacts e-mail addresses both ways.
pub(crate) const GUARDED: &str = "
constitution:
  preamble: Be kind.
  principles:
    - { id: kind, text: Do not demean people., critique: Say where it demeans., revision: Rewrite it kindly. }
rules:
  - { id: attack, guard: { classifier: prompt_attack }, stages: [input], threshold: 0.5, action: block }
  - { id: harm, guard: { classifier: harm }, stages: [output], threshold: 0.5, action: block }
  - { id: mail, guard: { entities: [EMAIL_ADDRESS, CREDIT_CARD] }, stages: [input, output], action: redact }
";

/// What differs from one test's gateway to another's.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) policy: String,
    pub(crate) config: gateway::Config,
    pub(crate) idle_ms: u64,
    pub(crate) first_byte_ms: u64,
    pub(crate) drain_ms: u64,
    pub(crate) tls: Option<server::TlsConfig>,
    pub(crate) forward_client_key: bool,
    /// The upstream speaks TLS as `localhost`, with a certificate that this authority made.
    pub(crate) upstream_ca: Option<PathBuf>,
    /// Lines of `policies.select`, and the policies that they name.
    pub(crate) select: Vec<policy::Selector>,
    pub(crate) others: Vec<(String, String)>,
    /// What is kept of the texts in which two policies differ, and the memory that second opinions have.
    pub(crate) content: Content,
    pub(crate) rollout_memory: usize,
    pub(crate) tenants: policy::Tenants,
    pub(crate) feedback: Option<pairs::feedback::Config>,
    /// Classifiers on servers, beside the scripted one.
    pub(crate) servers: Vec<(String, Remote)>,
    /// Texts that the scripted classifier takes at a time.
    pub(crate) places: usize,
}

impl Setup {
    pub(crate) fn with(policy: &str) -> Self {
        Self {
            policy: policy.to_owned(),
            config: gateway::Config::default(),
            idle_ms: 10_000,
            first_byte_ms: 10_000,
            drain_ms: 10_000,
            tls: None,
            forward_client_key: false,
            upstream_ca: None,
            select: Vec::new(),
            others: Vec::new(),
            content: Content::None,
            rollout_memory: Rollouts::MEMORY,
            tenants: policy::Tenants::default(),
            feedback: None,
            servers: Vec::new(),
            places: 512,
        }
    }
}

/// A gateway that serves.
pub(crate) struct Running {
    pub(crate) data: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) gateway: Arc<Gateway>,
    gate: Arc<classifier::Gate>,
    dir: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<bool>,
}

impl Running {
    /// Starts a gateway in front of `upstream`, for both dialects.
    pub(crate) async fn start(setup: Setup, upstream: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let policies = dir.path().join("policies");
        std::fs::create_dir(&policies).unwrap();
        std::fs::write(policies.join("test.yaml"), &setup.policy).unwrap();
        for (name, text) in &setup.others {
            std::fs::write(policies.join(format!("{name}.yaml")), text).unwrap();
        }
        let metrics = Arc::new(Metrics::new().unwrap());
        let gate = Arc::new(classifier::Gate::default());
        let mut classifiers = vec![classifier::scripted(&metrics, &gate, setup.places)];
        for (name, server) in setup.servers.clone() {
            classifiers.push(remote(name, server, &metrics).await.unwrap());
        }
        let models = Models::new(classifiers).unwrap();
        let labels = models.labels().map(|label| KnownLabel {
            head: label.head.clone(),
            name: label.name.clone(),
            thresholds: label.thresholds.clone(),
        });
        let entities: Vec<String> = guard::ENTITIES.iter().map(|name| (*name).to_owned()).collect();
        let tenants = setup.tenants.known.keys().cloned().collect();
        let upstreams = vec!["aside".to_owned()];
        let known = Known { labels: labels.collect(), entities: entities.clone(), upstreams, tenants };
        let config = policy::Config {
            dir: policies,
            active: "test".to_owned(),
            select: setup.select.clone(),
            tenants: setup.tenants.clone(),
            ..policy::Config::default()
        };
        let rehearsal = Guards::new(Arc::new(Metrics::new().unwrap()));
        let prove = move |view: &guard::View, tests: &[policy::Test]| {
            guard::rehearse(&rehearsal, view, tests, std::time::Duration::from_secs(10))
        };
        let makers = Makers::new(move |policy| guard::arm(policy, &models));
        let store = Store::open(&config, known, Arc::clone(&metrics), makers.proving(prove));
        let store = store.unwrap_or_else(|error| panic!("{}", error.report()));
        let spool = pairs::Config { dir: dir.path().join("pairs"), ..pairs::Config::default() };
        let guards = Guards::new(Arc::clone(&metrics)).with_ledger(setup.config.ledger_bytes);
        let cases = RolloutConfig { dir: dir.path().join("rollouts"), content: setup.content, ..Default::default() };
        let quiet = Guards::new(Arc::new(Metrics::new().unwrap()));
        let redaction = PatternSet::compile(&entities, &[]).unwrap();
        let rollouts = Rollouts::start(Some(&cases), quiet, redaction, setup.rollout_memory, Arc::clone(&metrics));
        let rollouts = rollouts.unwrap();
        let gateway = Arc::new(Gateway {
            config: setup.config,
            policies: Arc::new(store),
            guards,
            upstreams: [
                ("openai", Provider::OpenAi, false),
                ("anthropic", Provider::Anthropic, false),
                ("azure", Provider::Azure, false),
                ("aside", Provider::OpenAi, true),
            ]
            .map(|(name, dialect, aside)| provider_of((name, dialect, aside), &setup, upstream, &metrics))
            .into(),
            pairs: Some(Spool::start(&spool, Arc::clone(&metrics)).unwrap()),
            seal: Seal::of(b"a secret of the tests").unwrap(),
            feedback: setup.feedback.as_ref().map(Feedback::new),
            redaction: PatternSet::compile(&entities, &[]).unwrap(),
            rollouts,
            metrics,
            readiness: false.into(),
            presence: HashMap::from(Dialect::ALL.map(|dialect| (dialect.route(), Arc::default()))),
        });
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::bind(server::Config {
            listen: loopback,
            admin: loopback,
            tls: setup.tls,
            max_connections: 1024,
            header_timeout_ms: 2_000,
            drain_timeout_ms: setup.drain_ms,
        });
        let server = server.await.unwrap();
        let (data, admin) = (server.data_address(), server.admin_address());
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(server.run(Arc::clone(&gateway), async {
            let _asked = stopped.await;
        }));
        Self { data, admin, gateway, gate, dir, stop: Some(stop), server: serving }
    }

    /// The cases in which two policies differed, as they lie on disk.
    pub(crate) fn cases(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.dir.path().join("rollouts/cases.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.data)
    }

    /// Lets texts with "hold" in them be scored from now on.
    pub(crate) fn open_gate(&self) {
        self.gate.open();
    }

    /// Waits until such a text is with the classifier.
    pub(crate) async fn wait_at_gate(&self) {
        while self.gate.came() == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn policy_file(&self) -> PathBuf {
        self.dir.path().join("policies/test.yaml")
    }

    /// The preference rows on disk, after everything queued has been written.
    pub(crate) fn rows(&self) -> Vec<serde_json::Value> {
        if let Some(spool) = &self.gateway.pairs {
            spool.close();
        }
        let mut rows = Vec::new();
        for entry in std::fs::read_dir(self.dir.path().join("pairs")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "jsonl") {
                let text = std::fs::read_to_string(path).unwrap();
                rows.extend(text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()));
            }
        }
        rows
    }

    /// The value of one series, 0 where it does not exist (yet).
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let page = String::from_utf8(self.gateway.metrics().render().unwrap()).unwrap();
        let line = page.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next()).map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits until a series has a value, as those do that are counted after the last byte.
    pub(crate) async fn wait_for(&self, series: &str, value: f64) {
        for _ in 0..200 {
            if (self.metric(series) - value).abs() < 1e-9 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        panic!("{series} is {} and not {value}", self.metric(series));
    }

    /// Tells the server to stop; the drain begins.
    pub(crate) fn ask_to_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _gone = stop.send(());
        }
    }

    /// Stops, and says whether all requests could finish.
    pub(crate) async fn stop(mut self) -> bool {
        self.ask_to_stop();
        self.server.await.unwrap()
    }
}

/// A classifier on a server, loaded as `serve` does, off the async runtime's threads.
pub(crate) async fn remote(name: String, server: Remote, metrics: &Arc<Metrics>) -> Result<Classifier, LoadError> {
    let (runtime, metrics) = (tokio::runtime::Handle::current(), Arc::clone(metrics));
    let key = |_name: &str| Some("server-secret".to_owned());
    tokio::task::spawn_blocking(move || Classifier::remote(&name, &server, key, &runtime, &metrics)).await.unwrap()
}

fn provider_of(
    (name, dialect, aside): (&str, Provider, bool),
    setup: &Setup,
    upstream: SocketAddr,
    metrics: &Arc<Metrics>,
) -> provider::Upstream {
    let forwards = setup.forward_client_key && !aside;
    let config = provider::Config {
        dialect,
        url: match setup.upstream_ca {
            Some(_) => format!("https://localhost:{}", upstream.port()),
            None => format!("http://{upstream}"),
        },
        api_key_env: (!forwards).then(|| "KEY".to_owned()),
        forward_client_key: forwards,
        aside,
        ca_file: setup.upstream_ca.clone(),
        connect_timeout_ms: 2_000,
        first_byte_timeout_ms: setup.first_byte_ms,
        idle_timeout_ms: setup.idle_ms,
        total_timeout_ms: 60_000,
    };
    let key = |_name: &str| Some(if aside { "aside-secret" } else { "upstream-secret" }.to_owned());
    provider::Upstream::build(name, &config, key, Arc::clone(metrics)).unwrap()
}
