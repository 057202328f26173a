//! Every metric on one page.
//!
//! Names follow Prometheus' naming rules; `gen_ai_*` series carry the names that OpenTelemetry's generative-AI
//! conventions map to. Label values are configured names or fixed words: never a prompt, a user, a key, or a model
//! name that a client made up.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

/// The labels under which one model call is counted (OpenTelemetry's generative-AI conventions).
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// `gen_ai_operation_name`, e.g. `chat`.
    pub operation: &'a str,
    /// `gen_ai_provider_name`: the configured upstream's name.
    pub provider: &'a str,
    /// `gen_ai_request_model`: a configured model name, else `other`.
    pub model: &'a str,
}

/// One rule's verdict on one stage of one request.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'a> {
    /// Policy name.
    pub policy: &'a str,
    /// Rule id within the policy.
    pub rule: &'a str,
    /// `input` or `output`.
    pub stage: &'static str,
    /// `allow`, `deny` or `modify`.
    pub verdict: &'static str,
    /// What was done: `allow`, `audit`, `redact`, `revise`, `block`.
    pub action: &'static str,
    /// `enforce` or `shadow`.
    pub mode: &'static str,
}

/// Two policies' decisions on one stage of one request.
#[derive(Clone, Copy, Debug)]
pub struct Compared<'a> {
    /// The policy that may be replaced.
    pub policy: &'a str,
    /// The policy that is tried.
    pub candidate: &'a str,
    /// `input` or `output`.
    pub stage: &'static str,
    /// `allow`, `audit`, `redact`, `revise` or `block`.
    pub old: &'static str,
    /// The same, or `redact_other` where both replace something, and not the same.
    pub new: &'static str,
}

/// How a policy reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// A new revision is in force.
    Applied,
    /// Nothing had changed.
    Unchanged,
    /// The files were refused; the revision in force stays.
    Refused,
}

impl ReloadOutcome {
    /// The word in labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

/// What a classifier's scheduler reports about itself.
#[derive(Clone, Debug)]
pub struct ModelGauges {
    depth: IntGauge,
    truncated: IntCounter,
    queue: prometheus::Histogram,
    tokenize: prometheus::Histogram,
    inference: prometheus::Histogram,
    batch_size: prometheus::Histogram,
    batch_tokens: prometheus::Histogram,
}

impl ModelGauges {
    /// So many more texts and windows wait for a worker, or fewer: a model that is exchanged has two queues for a while.
    pub fn queue_moved(&self, by: i64) {
        self.depth.add(by);
    }

    /// How long one text waited before a worker took it.
    pub fn queued(&self, waited: Duration) {
        self.queue.observe(waited.as_secs_f64());
    }

    /// How long one text took to be cut into tokens.
    pub fn tokenized(&self, took: Duration) {
        self.tokenize.observe(took.as_secs_f64());
    }

    /// One run of the model: how many windows, how many tokens with padding counted, how long.
    pub fn inferred(&self, windows: usize, tokens: usize, took: Duration) {
        self.batch_size.observe(count(windows));
        self.batch_tokens.observe(count(tokens));
        self.inference.observe(took.as_secs_f64());
    }

    /// A text was cut short. The design forbids it: the series exists so that its zero can be seen.
    pub fn truncated(&self) {
        self.truncated.inc();
    }
}

/// Measures one stage of the corridor; nothing is recorded unless [`StageTimer::stop`] is called.
#[derive(Debug)]
pub struct StageTimer {
    started: Instant,
}

impl StageTimer {
    /// Starts now.
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Records the stage (`parse`, `guard_in`, `guard_out`, `serialize`) of a route, and says how long it took.
    pub fn stop(self, metrics: &Metrics, route: &'static str, stage: &'static str) -> Duration {
        let took = self.started.elapsed();
        metrics.overhead(route, stage, took);
        took
    }
}

/// All metrics of one gateway. Built once, shared by `Arc`, passed to the rooms; there is no global registry.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    http_requests: IntCounterVec,
    http_inflight: IntGaugeVec,
    request_duration: HistogramVec,
    first_token: HistogramVec,
    upstream_duration: HistogramVec,
    token_usage: HistogramVec,
    overhead: HistogramVec,
    guard_eval: HistogramVec,
    guard_decisions: IntCounterVec,
    guard_failures: IntCounterVec,
    model_depth: IntGaugeVec,
    model_truncated: IntCounterVec,
    model_server: IntGaugeVec,
    model_exchanges: IntCounterVec,
    model_exchange_ok: IntGauge,
    model_queue: HistogramVec,
    model_tokenize: HistogramVec,
    model_inference: HistogramVec,
    model_batch_size: HistogramVec,
    model_batch_tokens: HistogramVec,
    model_info: GaugeVec,
    model_fallback: IntGaugeVec,
    stream_hold: HistogramVec,
    stream_held_bytes: IntGaugeVec,
    stream_terminations: IntCounterVec,
    unscanned: IntCounterVec,
    normalised_views: IntCounterVec,
    cascade: IntCounterVec,
    ledger_lookups: IntCounterVec,
    ledger_bytes: IntGauge,
    replayed_blocks: IntCounterVec,
    race_hidden: HistogramVec,
    race_wasted: IntCounterVec,
    unscannable: IntCounterVec,
    revision_outcomes: IntCounterVec,
    revision_duration: HistogramVec,
    revision_tokens: IntCounterVec,
    comparisons: IntCounterVec,
    comparison_duration: HistogramVec,
    upstream_requests: IntCounterVec,
    upstream_errors: IntCounterVec,
    client_retries: IntCounterVec,
    pairs_sampled: IntCounterVec,
    pairs_dropped: IntCounterVec,
    pairs_capped: IntCounterVec,
    pairs_expired: IntCounterVec,
    feedback: IntCounterVec,
    feedback_refused: IntCounterVec,
    feedback_exchanges: IntGauge,
    feedback_bytes: IntGauge,
    feedback_crowded_out: IntCounter,
    pairs_buffer: IntGauge,
    pairs_flush: Gauge,
    pairs_unsynced: IntGauge,
    pairs_shipped: IntCounterVec,
    pairs_shipped_bytes: IntCounterVec,
    pairs_ship_failures: IntCounterVec,
    pairs_unshipped_bytes: IntGaugeVec,
    pairs_oldest_unshipped: GaugeVec,
    reload_ok: IntGauge,
    reload_ok_at: Gauge,
    reloads: IntCounterVec,
    policy_tests: IntCounterVec,
    tenant_requests: IntCounterVec,
    policy_info: IntGaugeVec,
    rollout_requests: IntCounterVec,
    rollout_decisions: IntCounterVec,
    rollout_dropped: IntCounterVec,
    rollout_cases: IntCounterVec,
    ready: IntGauge,
}

/// Buckets for our own work: 50 µs to 1 s.
const FINE: &[f64] =
    &[0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];
/// Buckets for whole calls, as the conventions give them.
const CALL: &[f64] = &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/// Buckets for the time to the first token.
const FIRST: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 60.0,
];
/// Buckets for token counts, as the conventions give them.
const TOKENS: &[f64] = &[
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
const SMALL: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

const CALL_LABELS: &[&str] = &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "error_type"];
const MODEL_LABELS: &[&str] = &["model", "device"];

impl Metrics {
    /// Registers every metric, plus the process' own.
    ///
    /// # Errors
    /// Two metrics with one name: a mistake in this file.
    #[expect(clippy::too_many_lines, reason = "a list, one entry a metric")]
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let r = &registry;
        let build = gauge_vec(r, "wardline_build_info", "What runs; the value is always 1.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        Ok(Self {
            http_requests: counter(
                r,
                "wardline_http_requests_total",
                "Requests answered.",
                &["route", "method", "code"],
            )?,
            http_inflight: int_gauges(r, "wardline_http_inflight_requests", "Requests under way.", &["route"])?,
            request_duration: hist(
                r,
                "gen_ai_server_request_duration_seconds",
                "Request received to last byte sent.",
                CALL_LABELS,
                CALL,
            )?,
            first_token: hist(
                r,
                "gen_ai_server_time_to_first_token_seconds",
                "Request received to first answer bytes released.",
                CALL_LABELS,
                FIRST,
            )?,
            upstream_duration: hist(
                r,
                "gen_ai_client_operation_duration_seconds",
                "Upstream call, first byte sent to last byte read.",
                CALL_LABELS,
                CALL,
            )?,
            token_usage: hist(
                r,
                "gen_ai_client_token_usage",
                "Tokens a call, as the provider counts them.",
                &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_token_type"],
                TOKENS,
            )?,
            overhead: hist(
                r,
                "wardline_overhead_duration_seconds",
                "Time that the gateway itself added, by stage.",
                &["route", "stage"],
                FINE,
            )?,
            guard_eval: hist(
                r,
                "wardline_guard_eval_duration_seconds",
                "One guard on one text.",
                &["guard", "stage", "outcome"],
                FINE,
            )?,
            guard_decisions: counter(
                r,
                "wardline_guard_decisions_total",
                "What each rule decided.",
                &["policy", "rule", "stage", "verdict", "action", "mode"],
            )?,
            guard_failures: counter(
                r,
                "wardline_guard_failures_total",
                "Guards that could not decide, and which way the request then went.",
                &["guard", "reason", "disposition"],
            )?,
            model_server: int_gauges(
                r,
                "wardline_classifier_server_up",
                "1: the last call to a classifier's server was answered; 0: nobody was there, or it was late or busy.",
                &["model"],
            )?,
            model_exchanges: counter(
                r,
                "wardline_classifier_exchanges_total",
                "Attempts to serve other classifiers than before.",
                &["outcome"],
            )?,
            model_exchange_ok: int_gauge(
                r,
                "wardline_classifier_last_exchange_successful",
                "0 when the classifiers that were found last were refused and the old ones serve on; else 1.",
            )?,
            model_depth: int_gauges(r, "wardline_classifier_queue_depth", "Texts waiting for a worker.", &["model"])?,
            model_truncated: counter(
                r,
                "wardline_classifier_truncated_inputs_total",
                "Texts scored only in part. Must stay 0.",
                &["model"],
            )?,
            model_queue: hist(
                r,
                "wardline_classifier_queue_duration_seconds",
                "Wait for a worker.",
                MODEL_LABELS,
                FINE,
            )?,
            model_tokenize: hist(
                r,
                "wardline_classifier_tokenize_duration_seconds",
                "Cutting one text into tokens.",
                MODEL_LABELS,
                FINE,
            )?,
            model_inference: hist(
                r,
                "wardline_classifier_inference_duration_seconds",
                "One run of the model.",
                MODEL_LABELS,
                FINE,
            )?,
            model_batch_size: hist(r, "wardline_classifier_batch_size", "Windows in one run.", MODEL_LABELS, SMALL)?,
            model_batch_tokens: hist(
                r,
                "wardline_classifier_batch_tokens",
                "Tokens in one run, padding counted.",
                MODEL_LABELS,
                TOKENS,
            )?,
            model_info: gauge_vec(
                r,
                "wardline_classifier_info",
                "Loaded models and the device that serves them; the value is always 1.",
                &["model", "revision", "device"],
            )?,
            model_fallback: int_gauges(
                r,
                "wardline_classifier_fallback",
                "1 where a model is not served by the device that was wanted for it, but by a slower one.",
                &["model", "wanted"],
            )?,
            stream_hold: hist(
                r,
                "wardline_stream_hold_duration_seconds",
                "How long answer text was held before its release.",
                &["route"],
                FINE,
            )?,
            stream_held_bytes: int_gauges(
                r,
                "wardline_stream_held_bytes",
                "Answer bytes held back at the moment.",
                &["route"],
            )?,
            stream_terminations: counter(
                r,
                "wardline_stream_terminations_total",
                "How streams ended.",
                &["route", "reason"],
            )?,
            unscanned: counter(
                r,
                "wardline_unscanned_bytes_total",
                "Bytes of guarded text that went on without a scan. Must stay 0.",
                &["route"],
            )?,
            normalised_views: counter(
                r,
                "wardline_normalised_views_total",
                "Texts that were also judged in a normalised form, by what was undone.",
                &["kind"],
            )?,
            cascade: counter(
                r,
                "wardline_cascade_texts_total",
                "Texts by what the classifier's first stage said: cleared, audited (cleared, and scored all the same), disagreed (of those), full.",
                &["outcome"],
            )?,
            ledger_lookups: counter(
                r,
                "wardline_ledger_lookups_total",
                "Texts of prompts whose verdict was looked for in the ledger.",
                &["outcome"],
            )?,
            ledger_bytes: int_gauge(r, "wardline_ledger_bytes", "Memory that the ledger of verdicts takes.")?,
            replayed_blocks: counter(
                r,
                "wardline_replayed_blocks_total",
                "Texts that had been blocked before and came again, by what was done.",
                &["action"],
            )?,
            race_hidden: hist(
                r,
                "wardline_race_hidden_duration_seconds",
                "Time of a prompt's verdict that the upstream's first bytes took as well.",
                &["route"],
                FINE,
            )?,
            race_wasted: counter(
                r,
                "wardline_race_wasted_calls_total",
                "Upstream calls that had begun when the prompt's verdict ended them.",
                &["route"],
            )?,
            unscannable: counter(
                r,
                "wardline_unscannable_requests_total",
                "Requests refused because they could not be read strictly.",
                &["route", "reason"],
            )?,
            revision_outcomes: counter(
                r,
                "wardline_revision_outcomes_total",
                "How critique and revision ended.",
                &["policy", "outcome"],
            )?,
            revision_duration: hist(
                r,
                "wardline_revision_duration_seconds",
                "Critique and revision of one answer.",
                &["policy"],
                CALL,
            )?,
            revision_tokens: counter(
                r,
                "wardline_revision_tokens_total",
                "Tokens that critiques, revisions, second answers and judgements cost; no part of the usage that clients are told.",
                &["policy", "role", "type"],
            )?,
            comparisons: counter(
                r,
                "wardline_comparisons_total",
                "Second answers that were drawn and judged against the first, by what came of it.",
                &["policy", "outcome"],
            )?,
            comparison_duration: hist(
                r,
                "wardline_comparison_duration_seconds",
                "A second answer and its judgement, off the request's way.",
                &["policy"],
                CALL,
            )?,
            upstream_requests: counter(
                r,
                "wardline_upstream_requests_total",
                "Answers by upstream and status.",
                &["upstream", "code"],
            )?,
            upstream_errors: counter(
                r,
                "wardline_upstream_errors_total",
                "Upstream calls that brought no answer.",
                &["upstream", "error_type"],
            )?,
            client_retries: counter(
                r,
                "wardline_client_retries_total",
                "Requests that an SDK marked as its own retry.",
                &["sdk"],
            )?,
            pairs_sampled: counter(
                r,
                "wardline_pairs_sampled_total",
                "Preference rows handed to the sink.",
                &["sink"],
            )?,
            pairs_dropped: counter(
                r,
                "wardline_pairs_dropped_total",
                "Preference rows that were lost, and why.",
                &["sink", "reason"],
            )?,
            pairs_expired: counter(
                r,
                "wardline_pairs_expired_rows_total",
                "Preference rows deleted for their age; those that a sink still lacked are lost.",
                &["state"],
            )?,
            pairs_capped: counter(
                r,
                "wardline_pairs_capped_total",
                "Preference rows not made because their principle (or rule), user or client has left enough today.",
                &["policy", "principle", "cap"],
            )?,
            feedback: counter(
                r,
                "wardline_feedback_total",
                "What people said of answers, and whether a row came of it.",
                &["event", "status"],
            )?,
            feedback_refused: counter(
                r,
                "wardline_feedback_refused_total",
                "Feedback that was not taken.",
                &["reason"],
            )?,
            feedback_exchanges: int_gauge(r, "wardline_feedback_exchanges", "Exchanges that may be rated.")?,
            feedback_bytes: int_gauge(r, "wardline_feedback_exchange_bytes", "Memory that they take.")?,
            feedback_crowded_out: plain_counter(
                r,
                "wardline_feedback_crowded_out_total",
                "Exchanges given up before their time for want of room.",
            )?,
            pairs_buffer: int_gauge(r, "wardline_pairs_buffer_rows", "Preference rows not yet on disk.")?,
            pairs_flush: gauge(
                r,
                "wardline_pairs_last_flush_timestamp_seconds",
                "When preference rows last reached the disk.",
            )?,
            pairs_unsynced: int_gauge(
                r,
                "wardline_pairs_unsynced_rows",
                "Preference rows written that the disk has not been told to keep: what a power cut would cost.",
            )?,
            pairs_shipped: counter(
                r,
                "wardline_pairs_shipped_rows_total",
                "Preference rows that a sink has confirmed.",
                &["sink"],
            )?,
            pairs_shipped_bytes: counter(
                r,
                "wardline_pairs_shipped_bytes_total",
                "Bytes that a sink has confirmed, as they were sent.",
                &["sink"],
            )?,
            pairs_ship_failures: counter(
                r,
                "wardline_pairs_ship_failures_total",
                "Attempts to ship that failed and will be made again.",
                &["sink", "reason"],
            )?,
            pairs_unshipped_bytes: int_gauges(
                r,
                "wardline_pairs_unshipped_bytes",
                "Bytes of the spool that a sink does not have yet.",
                &["sink"],
            )?,
            pairs_oldest_unshipped: gauge_vec(
                r,
                "wardline_pairs_oldest_unshipped_timestamp_seconds",
                "When the oldest row was made that a sink does not have yet; 0 when it has all.",
                &["sink"],
            )?,
            reload_ok: int_gauge(
                r,
                "wardline_config_last_reload_successful",
                "1 when the last policy reload was taken, 0 when it was refused.",
            )?,
            reload_ok_at: gauge(
                r,
                "wardline_config_last_reload_success_timestamp_seconds",
                "When a policy reload was last taken.",
            )?,
            reloads: counter(r, "wardline_config_reloads_total", "Policy reloads by result.", &["result"])?,
            policy_tests: counter(
                r,
                "wardline_policy_tests_total",
                "Embedded tests run when a policy was loaded, by result (passed, failed).",
                &["policy", "result"],
            )?,
            tenant_requests: counter(
                r,
                "wardline_tenant_requests_total",
                "Requests by configured tenant (else other), policy and outcome, where tenants are counted.",
                &["tenant", "policy", "outcome"],
            )?,
            policy_info: int_gauges(
                r,
                "wardline_policy_info",
                "The policy revision in force; the value is always 1.",
                &["policy", "revision"],
            )?,
            rollout_requests: counter(
                r,
                "wardline_rollout_requests_total",
                "Requests whose policy is being rolled out, by whether they are in the share (in, out).",
                &["policy", "candidate", "mode", "share"],
            )?,
            rollout_decisions: counter(
                r,
                "wardline_rollout_decisions_total",
                "What the old and the new policy decide on the same texts.",
                &["policy", "candidate", "stage", "old", "new"],
            )?,
            rollout_dropped: counter(
                r,
                "wardline_rollout_dropped_total",
                "Comparisons of two policies that were not made, and why.",
                &["policy", "reason"],
            )?,
            rollout_cases: counter(
                r,
                "wardline_rollout_cases_total",
                "Cases in which two policies differ, by whether they were kept (written, failed).",
                &["outcome"],
            )?,
            ready: int_gauge(
                r,
                "wardline_ready",
                "1 once models are loaded and a policy is in force, until draining starts.",
            )?,
            registry,
        })
    }

    /// The text exposition format (version 0.0.4) of everything registered.
    ///
    /// # Errors
    /// An encoder failure.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut page = Vec::with_capacity(32 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut page)?;
        Ok(page)
    }

    /// How many requests of a route are under way; told when metrics are scraped.
    pub fn inflight(&self, route: &'static str, requests: usize) {
        self.http_inflight.with_label_values(&[route]).set(i64::try_from(requests).unwrap_or(i64::MAX));
    }

    /// A status was chosen for a request.
    pub fn answered(&self, route: &'static str, method: &'static str, status: u16) {
        let mut buffer = itoa::Buffer::new();
        self.http_requests.with_label_values(&[route, method, buffer.format(status)]).inc();
    }

    /// A model call as the client saw it. `error_type` is empty for a success.
    pub fn served(&self, call: &Call<'_>, error_type: &'static str, took: Duration) {
        self.request_duration.with_label_values(&labels(call, error_type)).observe(took.as_secs_f64());
    }

    /// The first bytes of an answer were released to the client.
    pub fn first_token(&self, call: &Call<'_>, after: Duration) {
        self.first_token.with_label_values(&labels(call, "")).observe(after.as_secs_f64());
    }

    /// An upstream call ended.
    pub fn upstream_called(&self, call: &Call<'_>, error_type: &'static str, took: Duration) {
        self.upstream_duration.with_label_values(&labels(call, error_type)).observe(took.as_secs_f64());
    }

    /// Tokens as the provider reported them.
    pub fn tokens(&self, call: &Call<'_>, input: u64, output: u64) {
        for (kind, tokens) in [("input", input), ("output", output)] {
            self.token_usage
                .with_label_values(&[call.operation, call.provider, call.model, kind])
                .observe(count(usize::try_from(tokens).unwrap_or(usize::MAX)));
        }
    }

    /// Time that a stage of the corridor took: `parse`, `guard_in`, `guard_out`, `serialize`.
    pub fn overhead(&self, route: &'static str, stage: &'static str, took: Duration) {
        self.overhead.with_label_values(&[route, stage]).observe(took.as_secs_f64());
    }

    /// One guard has looked at one text. `outcome` is `ok`, `error` or `timeout`.
    pub fn guard_evaluated(&self, guard: &str, stage: &'static str, outcome: &'static str, took: Duration) {
        self.guard_eval.with_label_values(&[guard, stage, outcome]).observe(took.as_secs_f64());
    }

    /// A rule has decided.
    pub fn decided(&self, decision: &Decision<'_>) {
        let d = decision;
        self.guard_decisions.with_label_values(&[d.policy, d.rule, d.stage, d.verdict, d.action, d.mode]).inc();
    }

    /// A guard could not decide; `disposition` is `open` or `closed`.
    pub fn guard_failed(&self, guard: &str, reason: &'static str, disposition: &'static str) {
        self.guard_failures.with_label_values(&[guard, reason, disposition]).inc();
    }

    /// The classifiers that serve from now on, by name, revision and device.
    pub fn classifiers_in_force<'a>(&self, classifiers: impl IntoIterator<Item = (&'a str, &'a str, &'static str)>) {
        self.model_exchange_ok.set(1);
        self.model_info.reset();
        for (model, revision, device) in classifiers {
            self.model_info.with_label_values(&[model, revision, device]).set(1.0);
        }
    }

    /// Other classifiers were to come into force.
    pub fn classifiers_exchanged(&self, outcome: ReloadOutcome) {
        self.model_exchanges.with_label_values(&[outcome.as_str()]).inc();
        self.model_exchange_ok.set(i64::from(outcome != ReloadOutcome::Refused));
    }

    /// A classifier's server was asked; `up` if it answered.
    pub fn classifier_server(&self, model: &str, up: bool) {
        self.model_server.with_label_values(&[model]).set(i64::from(up));
    }

    /// Whether a model had to fall back from the device that was wanted for it (`cpu`, `cuda`, `tensorrt`).
    pub fn classifier_falls_back(&self, model: &str, wanted: &str, falls_back: bool) {
        self.model_fallback.with_label_values(&[model, wanted]).set(falls_back.into());
    }

    /// The series of one loaded model on one device (`cpu`, `cuda`, `tensorrt`).
    pub fn model(&self, model: &str, device: &str) -> ModelGauges {
        self.model_truncated.with_label_values(&[model]).inc_by(0);
        let both = &[model, device];
        ModelGauges {
            depth: self.model_depth.with_label_values(&[model]),
            truncated: self.model_truncated.with_label_values(&[model]),
            queue: self.model_queue.with_label_values(both),
            tokenize: self.model_tokenize.with_label_values(both),
            inference: self.model_inference.with_label_values(both),
            batch_size: self.model_batch_size.with_label_values(both),
            batch_tokens: self.model_batch_tokens.with_label_values(both),
        }
    }

    /// Text of a stream was held this long before its release.
    pub fn stream_held(&self, route: &'static str, held: Duration) {
        self.stream_hold.with_label_values(&[route]).observe(held.as_secs_f64());
    }

    /// The bytes held back on a route changed by `change`.
    pub fn stream_holding(&self, route: &'static str, change: i64) {
        self.stream_held_bytes.with_label_values(&[route]).add(change);
    }

    /// A stream ended: `completed`, `blocked`, `client_gone`, `upstream_error`, `guard_error`, `idle_timeout`.
    pub fn stream_ended(&self, route: &'static str, reason: &'static str) {
        self.stream_terminations.with_label_values(&[route, reason]).inc();
    }

    /// Guarded text went on unscanned. Nothing calls this on purpose; 0 keeps the series visible.
    pub fn unscanned(&self, route: &'static str, bytes: u64) {
        self.unscanned.with_label_values(&[route]).inc_by(bytes);
    }

    /// A text was also judged in a normalised form. `kind` is a word of the normaliser's.
    pub fn normalised_view(&self, kind: &'static str) {
        self.normalised_views.with_label_values(&[kind]).inc();
    }

    /// The first stage has seen a text: `cleared`, `audited`, `disagreed` or `full`.
    pub fn cascade(&self, outcome: &'static str) {
        self.cascade.with_label_values(&[outcome]).inc();
    }

    /// A verdict was looked for: `hit` or `miss`.
    pub fn ledger_looked_up(&self, outcome: &'static str) {
        self.ledger_lookups.with_label_values(&[outcome]).inc();
    }

    /// The ledger's memory changed by so many bytes.
    pub fn ledger_grew(&self, bytes: i64) {
        self.ledger_bytes.add(bytes);
    }

    /// Texts that had been blocked before came again: `refuse`, `drop` or `notice`.
    pub fn replayed_blocks(&self, action: &'static str, texts: usize) {
        if texts > 0 {
            let texts = u64::try_from(texts).unwrap_or(u64::MAX);
            self.replayed_blocks.with_label_values(&[action]).inc_by(texts);
        }
    }

    /// A prompt was judged while its answer was on the way; so much of the verdict's time was hidden.
    pub fn race_hid(&self, route: &'static str, hidden: Duration) {
        self.race_hidden.with_label_values(&[route]).observe(hidden.as_secs_f64());
    }

    /// An upstream call had begun and was ended by the prompt's verdict.
    pub fn race_wasted(&self, route: &'static str) {
        self.race_wasted.with_label_values(&[route]).inc();
    }

    /// A request was refused because it could not be read strictly.
    pub fn unscannable(&self, route: &'static str, reason: &'static str) {
        self.unscannable.with_label_values(&[route, reason]).inc();
    }

    /// What a critic, reviser, rival or judge was given to read (`input`) and wrote (`output`), in tokens as the provider counts them.
    pub fn revision_cost(&self, policy: &str, role: &'static str, input: u64, output: u64) {
        for (kind, tokens) in [("input", input), ("output", output)] {
            self.revision_tokens.with_label_values(&[policy, role, kind]).inc_by(tokens);
        }
    }

    /// A critique and revision ended: `accepted`, `unchanged`, `still_violating`, `out_of_budget`, `failed`;
    /// where no rule had objected, `shadow_revised` or `shadow_kept`.
    pub fn revised(&self, policy: &str, outcome: &'static str, took: Duration) {
        self.revision_outcomes.with_label_values(&[policy, outcome]).inc();
        self.revision_duration.with_label_values(&[policy]).observe(took.as_secs_f64());
    }

    /// A second answer was to be compared: `preferred` or `position_bias` (a row was made), `equal`, `same` (word for word),
    /// `objected` (a rule would not let it pass), `unfit` (it cannot be asked for, or has no text), `failed`,
    /// `out_of_time`, `busy` (too many under way).
    pub fn comparison_ended(&self, policy: &str, outcome: &'static str, took: Option<Duration>) {
        self.comparisons.with_label_values(&[policy, outcome]).inc();
        if let Some(took) = took {
            self.comparison_duration.with_label_values(&[policy]).observe(took.as_secs_f64());
        }
    }

    /// An upstream answered.
    pub fn upstream_answered(&self, upstream: &str, status: u16) {
        let mut buffer = itoa::Buffer::new();
        self.upstream_requests.with_label_values(&[upstream, buffer.format(status)]).inc();
    }

    /// An upstream call brought no answer: `connect`, `first_byte_timeout`, `idle_timeout`, `total_timeout`, `reset`.
    pub fn upstream_failed(&self, upstream: &str, error_type: &'static str) {
        self.upstream_errors.with_label_values(&[upstream, error_type]).inc();
    }

    /// An SDK said that this request is a retry of its own.
    pub fn client_retried(&self, sdk: &'static str) {
        self.client_retries.with_label_values(&[sdk]).inc();
    }

    /// A preference row was handed to the sink.
    pub fn pair_sampled(&self, sink: &'static str) {
        self.pairs_sampled.with_label_values(&[sink]).inc();
    }

    /// Preference rows were lost: `queue_full`, `write_error`, `too_large`, `closed`, `torn`, `spool_full`; on the way
    /// from the spool to another sink, `unreadable` or `too_large`.
    pub fn pairs_dropped(&self, sink: &str, reason: &'static str, rows: u64) {
        self.pairs_dropped.with_label_values(&[sink, reason]).inc_by(rows);
    }

    /// Preference rows were deleted for their age: that every sink had, or nobody was to take; and that a sink still lacked.
    pub fn pairs_expired(&self, kept: u64, unshipped: u64) {
        self.pairs_expired.with_label_values(&["kept"]).inc_by(kept);
        self.pairs_expired.with_label_values(&["unshipped"]).inc_by(unshipped);
    }

    /// A preference row was not made: its `principle`, `user` or `client` has left as many today as the policy wants.
    pub fn pair_capped(&self, policy: &str, principle: &str, cap: &'static str) {
        self.pairs_capped.with_label_values(&[policy, principle, cap]).inc();
    }

    /// Someone said something of an answer; `status` is `kept`, `counted` or `duplicate`.
    pub fn feedback(&self, event: &'static str, status: &'static str) {
        self.feedback.with_label_values(&[event, status]).inc();
    }

    /// Feedback was refused, for a reason of a fixed set.
    pub fn feedback_refused(&self, reason: &'static str) {
        self.feedback_refused.with_label_values(&[reason]).inc();
    }

    /// Exchanges that are now kept for feedback, and how many had to make room for another.
    pub fn feedback_kept(&self, exchanges: usize, bytes: usize, crowded_out: u64) {
        self.feedback_exchanges.set(i64::try_from(exchanges).unwrap_or(i64::MAX));
        self.feedback_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.feedback_crowded_out.inc_by(crowded_out);
    }

    /// Preference rows that are not yet on disk.
    pub fn pairs_buffered(&self, rows: usize) {
        self.pairs_buffer.set(i64::try_from(rows).unwrap_or(i64::MAX));
    }

    /// Preference rows have reached the disk.
    pub fn pairs_flushed(&self) {
        self.pairs_flush.set(now());
    }

    /// Preference rows that are written, and that the disk has not been told to keep.
    pub fn pairs_unsynced(&self, rows: usize) {
        self.pairs_unsynced.set(i64::try_from(rows).unwrap_or(i64::MAX));
    }

    /// A sink has confirmed rows.
    pub fn pairs_shipped(&self, sink: &str, rows: u64, bytes: u64) {
        self.pairs_shipped.with_label_values(&[sink]).inc_by(rows);
        self.pairs_shipped_bytes.with_label_values(&[sink]).inc_by(bytes);
    }

    /// A sink did not take rows, for now: `disk`, `refused`, `timeout`, `unreachable`.
    pub fn pairs_ship_failed(&self, sink: &str, reason: &'static str) {
        self.pairs_ship_failures.with_label_values(&[sink, reason]).inc();
    }

    /// What a sink does not have yet: bytes of the spool, and when the oldest row of it was made.
    pub fn pairs_unshipped(&self, sink: &str, bytes: u64, oldest: Option<SystemTime>) {
        self.pairs_unshipped_bytes.with_label_values(&[sink]).set(i64::try_from(bytes).unwrap_or(i64::MAX));
        let oldest = oldest.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        self.pairs_oldest_unshipped.with_label_values(&[sink]).set(oldest.map_or(0.0, |since| since.as_secs_f64()));
    }

    /// A policy reload ended.
    pub fn reloaded(&self, outcome: ReloadOutcome) {
        self.reloads.with_label_values(&[outcome.as_str()]).inc();
        self.reload_ok.set(i64::from(outcome != ReloadOutcome::Refused));
        if outcome != ReloadOutcome::Refused {
            self.reload_ok_at.set(now());
        }
    }

    /// The tests of a policy that was to be put in force.
    pub fn policy_tested(&self, policy: &str, passed: usize, failed: usize) {
        for (result, tests) in [("passed", passed), ("failed", failed)] {
            self.policy_tests.with_label_values(&[policy, result]).inc_by(tests as u64);
        }
    }

    /// A request of a configured tenant (`other` for everybody else) is over: `completed`, or its error type.
    pub fn tenant_served(&self, tenant: &str, policy: &str, outcome: &'static str) {
        self.tenant_requests.with_label_values(&[tenant, policy, outcome]).inc();
    }

    /// The policies now in force, each by name and revision.
    pub fn policies_in_force<'a>(&self, policies: impl IntoIterator<Item = (&'a str, &'a str)>) {
        self.policy_info.reset();
        for (policy, revision) in policies {
            self.policy_info.with_label_values(&[policy, revision]).set(1);
        }
    }

    /// A request's policy is being rolled out: `share` is `in` or `out`.
    pub fn rolled_out(&self, policy: &str, candidate: &str, mode: &'static str, share: &'static str) {
        self.rollout_requests.with_label_values(&[policy, candidate, mode, share]).inc();
    }

    /// Two policies have judged the same texts.
    pub fn compared(&self, c: &Compared<'_>) {
        self.rollout_decisions.with_label_values(&[c.policy, c.candidate, c.stage, c.old, c.new]).inc();
    }

    /// Two policies were not compared: `guard_error`, `memory`, `queue_full`, `classifier`.
    pub fn rollout_dropped(&self, policy: &str, reason: &'static str) {
        self.rollout_dropped.with_label_values(&[policy, reason]).inc();
    }

    /// A case in which two policies differ was kept or not: `written`, `failed`.
    pub fn rollout_case(&self, outcome: &'static str) {
        self.rollout_cases.with_label_values(&[outcome]).inc();
    }

    /// Whether new traffic should be sent here.
    pub fn ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }
}

fn labels<'a>(call: &Call<'a>, error_type: &'static str) -> [&'a str; 4] {
    [call.operation, call.provider, call.model, error_type]
}

/// A count as a sample. Counts above 2^52 lose digits, which no histogram can show anyway.
#[expect(clippy::cast_precision_loss, reason = "samples are f64 by the format")]
fn count(n: usize) -> f64 {
    n as f64
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn counter(r: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
    r.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn int_gauges(r: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
    let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
    r.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn gauge_vec(r: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, prometheus::Error> {
    let metric = GaugeVec::new(Opts::new(name, help), labels)?;
    r.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn plain_counter(r: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    let metric = IntCounter::new(name, help)?;
    r.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn int_gauge(r: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    let metric = IntGauge::new(name, help)?;
    r.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn gauge(r: &Registry, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
    let metric = Gauge::new(name, help)?;
    r.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn hist(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    buckets: &[f64],
) -> Result<HistogramVec, prometheus::Error> {
    let metric = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)?;
    r.register(Box::new(metric.clone()))?;
    Ok(metric)
}
