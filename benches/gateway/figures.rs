//! From single answers to the figures of a run, and from repeated runs to their medians.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::load::{Outcome, Sample};
use crate::statistics::{median, percentile};
use crate::targets::Target;

/// One run of one scenario against one target.
#[derive(Clone, Default)]
pub(crate) struct Run {
    /// Whole answers.
    pub(crate) requests: usize,
    /// Requests that were turned away with a 429, which the load obeyed.
    pub(crate) shed: usize,
    /// Answers that were not what the upstream sent.
    pub(crate) failed: usize,
    /// Whole answers in a second.
    pub(crate) rate: f64,
    /// Milliseconds to the last byte.
    pub p50: f64,
    /// The same, of the slowest hundredth.
    pub p99: f64,
    /// Milliseconds to the first content event.
    pub first_p50: f64,
    /// The same, of the slowest hundredth.
    pub first_p99: f64,
    /// CPU time of the target's processes for one request, in microseconds.
    pub(crate) cpu_us: Option<f64>,
    /// Share of the machine's cores that strangers used meanwhile.
    pub(crate) foreign: f64,
}

impl Run {
    /// The figures of `outcome`, which cost the target `cpu_nanos`.
    pub(crate) fn new(outcome: &Outcome, cpu_nanos: Option<u64>, foreign: f64) -> Run {
        let requests = outcome.samples.len();
        let totals = sorted(&outcome.samples, |sample| sample.total);
        let firsts = sorted(&outcome.samples, |sample| sample.first_token);
        Run {
            requests,
            shed: outcome.shed,
            failed: outcome.failures.len(),
            rate: requests as f64 / outcome.elapsed.as_secs_f64(),
            p50: percentile(&totals, 50),
            p99: percentile(&totals, 99),
            first_p50: percentile(&firsts, 50),
            first_p99: percentile(&firsts, 99),
            cpu_us: cpu_nanos.map(|nanos| nanos as f64 / 1e3 / requests.max(1) as f64),
            foreign,
        }
    }
}

/// All repeats of one scenario: by target, one run a repeat.
pub(crate) type Runs = BTreeMap<Target, Vec<Run>>;

/// The median over the repeats of a figure of `target`.
pub(crate) fn median_of(runs: &Runs, target: Target, figure: impl Fn(&Run) -> f64) -> Option<f64> {
    median(runs.get(&target)?.iter().map(figure).collect())
}

/// The median over the repeats of what `compare` makes of a run of `target` and of the run of `base` beside it.
///
/// Runs are compared within a repeat, because they ran within seconds of each other; what else the machine does
/// changes more slowly than that.
pub(crate) fn median_beside(
    runs: &Runs,
    target: Target,
    base: Target,
    compare: impl Fn(&Run, &Run) -> Option<f64>,
) -> Option<f64> {
    let pairs = runs.get(&target)?.iter().zip(runs.get(&base)?);
    median(pairs.filter_map(|(run, base)| compare(run, base)).collect())
}

fn sorted(samples: &[Sample], time: impl Fn(&Sample) -> Duration) -> Vec<f64> {
    let mut times: Vec<f64> = samples.iter().map(|sample| time(sample).as_secs_f64() * 1e3).collect();
    times.sort_by(f64::total_cmp);
    times
}
