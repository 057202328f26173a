//! The report: markdown for people, JSON for whoever compares two of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::figures::{Run, Runs, median_beside, median_of};
use crate::procfs;
use crate::scenarios::Scenario;
use crate::targets::{Target, nginx_version};

/// Resident memory of a target, in KiB.
#[derive(Clone, Copy, Default)]
pub(crate) struct Memory {
    /// When it had become ready.
    pub(crate) idle_kib: u64,
    /// The most that was seen after a run.
    pub(crate) loaded_kib: u64,
}

/// Everything that was measured.
#[derive(Default)]
pub(crate) struct Report {
    /// Repeats of each run.
    pub(crate) repeats: usize,
    /// Length of one run in seconds.
    pub(crate) seconds: f64,
    /// By scenario, in the order in which they ran.
    pub(crate) scenarios: Vec<(&'static Scenario, Runs)>,
    /// By target.
    pub(crate) memory: BTreeMap<Target, Memory>,
}

impl Report {
    /// One table a scenario, and one of memory.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "{}; nginx {}; medians of {} interleaved runs of {} s each.\n",
            machine(),
            nginx_version().unwrap_or_else(|| "not installed".to_owned()),
            self.repeats,
            self.seconds
        );
        for (scenario, runs) in &self.scenarios {
            let foreign = runs.keys().filter_map(|target| median_of(runs, *target, |run| run.foreign));
            let foreign = foreign.fold(0.0, f64::max) * 100.0;
            let _ = write!(
                text,
                "\n### {}: {}\n\nCPU used by strangers meanwhile: up to {foreign:.0} % of the machine.\n\n",
                scenario.name, scenario.what
            );
            let streamed = scenario.kind.is_stream();
            text.push_str(if streamed { STREAM_HEAD } else { WHOLE_HEAD });
            for &target in runs.keys() {
                text.push_str(&if streamed { stream_row(runs, target) } else { whole_row(runs, target) });
            }
        }
        text.push_str("\n### Resident memory\n\n| target | idle MiB | after load MiB |\n| --- | ---: | ---: |\n");
        for (target, memory) in self.memory.iter().filter(|(target, _)| **target != Target::Direct) {
            let mib = |kib: u64| kib as f64 / 1024.0;
            let (idle, loaded) = (mib(memory.idle_kib), mib(memory.loaded_kib));
            let _ = writeln!(text, "| {} | {idle:.1} | {loaded:.1} |", target.name());
        }
        text
    }

    /// The same figures, and those of each run.
    pub(crate) fn json(&self) -> Value {
        let scenarios: serde_json::Map<String, Value> = self
            .scenarios
            .iter()
            .map(|(scenario, runs)| {
                let targets: serde_json::Map<String, Value> =
                    runs.keys().map(|&target| (target.name(), target_json(runs, target))).collect();
                (scenario.name.to_owned(), json!({ "what": scenario.what, "targets": targets }))
            })
            .collect();
        let memory: serde_json::Map<String, Value> = self
            .memory
            .iter()
            .map(|(target, memory)| {
                (target.name(), json!({ "idle_kib": memory.idle_kib, "loaded_kib": memory.loaded_kib }))
            })
            .collect();
        json!({
            "machine": machine(),
            "nginx": nginx_version(),
            "wardline": env!("CARGO_PKG_VERSION"),
            "repeats": self.repeats,
            "seconds": self.seconds,
            "scenarios": scenarios,
            "memory": memory,
        })
    }
}

const WHOLE_HEAD: &str = "\
| target | req/s | x direct | p50 / p99 ms | added p50 / p99 ms | CPU us/req | x nginx | shed | failed |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
";

const STREAM_HEAD: &str = "\
| target | streams/s | x direct | first token p50 / p99 ms | added p50 / p99 ms | total p50 / p99 ms | added p50 ms | CPU us/stream | x nginx | shed | failed |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
";

fn whole_row(runs: &Runs, target: Target) -> String {
    format!(
        "| {} | {} | {} | {} / {} | {} / {} | {} | {} | {} | {} |\n",
        target.name(),
        shown(median_of(runs, target, |run| run.rate), 0),
        shown(beside_direct(runs, target, |run, direct| run.rate / direct.rate), 3),
        shown(median_of(runs, target, |run| run.p50), 2),
        shown(median_of(runs, target, |run| run.p99), 2),
        shown(beside_direct(runs, target, |run, direct| run.p50 - direct.p50), 2),
        shown(beside_direct(runs, target, |run, direct| run.p99 - direct.p99), 2),
        shown(cpu_us(runs, target), 1),
        shown(cpu_beside_nginx(runs, target), 2),
        total(runs, target, |run| run.shed),
        total(runs, target, |run| run.failed),
    )
}

fn stream_row(runs: &Runs, target: Target) -> String {
    format!(
        "| {} | {} | {} | {} / {} | {} / {} | {} / {} | {} | {} | {} | {} | {} |\n",
        target.name(),
        shown(median_of(runs, target, |run| run.rate), 0),
        shown(beside_direct(runs, target, |run, direct| run.rate / direct.rate), 3),
        shown(median_of(runs, target, |run| run.first_p50), 2),
        shown(median_of(runs, target, |run| run.first_p99), 2),
        shown(beside_direct(runs, target, |run, direct| run.first_p50 - direct.first_p50), 2),
        shown(beside_direct(runs, target, |run, direct| run.first_p99 - direct.first_p99), 2),
        shown(median_of(runs, target, |run| run.p50), 2),
        shown(median_of(runs, target, |run| run.p99), 2),
        shown(beside_direct(runs, target, |run, direct| run.p50 - direct.p50), 2),
        shown(cpu_us(runs, target), 0),
        shown(cpu_beside_nginx(runs, target), 2),
        total(runs, target, |run| run.shed),
        total(runs, target, |run| run.failed),
    )
}

fn target_json(runs: &Runs, target: Target) -> Value {
    let each = runs.get(&target).into_iter().flatten().map(run_json).collect::<Vec<_>>();
    json!({
        "rate": median_of(runs, target, |run| run.rate),
        "rate_beside_direct": beside_direct(runs, target, |run, direct| run.rate / direct.rate),
        "p50_ms": median_of(runs, target, |run| run.p50),
        "p99_ms": median_of(runs, target, |run| run.p99),
        "added_p50_ms": beside_direct(runs, target, |run, direct| run.p50 - direct.p50),
        "added_p99_ms": beside_direct(runs, target, |run, direct| run.p99 - direct.p99),
        "first_token_p50_ms": median_of(runs, target, |run| run.first_p50),
        "first_token_p99_ms": median_of(runs, target, |run| run.first_p99),
        "added_first_token_p50_ms": beside_direct(runs, target, |run, direct| run.first_p50 - direct.first_p50),
        "added_first_token_p99_ms": beside_direct(runs, target, |run, direct| run.first_p99 - direct.first_p99),
        "cpu_us": cpu_us(runs, target),
        "cpu_beside_nginx": cpu_beside_nginx(runs, target),
        "runs": each,
    })
}

fn run_json(run: &Run) -> Value {
    json!({
        "requests": run.requests,
        "shed": run.shed,
        "failed": run.failed,
        "rate": run.rate,
        "p50_ms": run.p50,
        "p99_ms": run.p99,
        "first_token_p50_ms": run.first_p50,
        "first_token_p99_ms": run.first_p99,
        "cpu_us": run.cpu_us,
        "foreign": run.foreign,
    })
}

fn beside_direct(runs: &Runs, target: Target, compare: impl Fn(&Run, &Run) -> f64) -> Option<f64> {
    median_beside(runs, target, Target::Direct, |run, direct| Some(compare(run, direct)))
}

fn cpu_us(runs: &Runs, target: Target) -> Option<f64> {
    median_of(runs, target, |run| run.cpu_us.unwrap_or(f64::NAN))
}

fn cpu_beside_nginx(runs: &Runs, target: Target) -> Option<f64> {
    median_beside(runs, target, Target::Nginx, |run, nginx| Some(run.cpu_us? / nginx.cpu_us?))
}

fn total(runs: &Runs, target: Target, count: impl Fn(&Run) -> usize) -> usize {
    runs.get(&target).into_iter().flatten().map(count).sum()
}

fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!("{cores} cores, {}", procfs::processor())
}
