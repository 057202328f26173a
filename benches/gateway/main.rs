//! Wardline beside nginx and beside no proxy at all, on the same work, interleaved, in one tree of processes.
//!
//! ```text
//! cargo bench --bench gateway -- [--quick] [--scenario small_c32,..] [--targets direct,nginx,..] [--repeats 5] [--seconds 1.5]
//! ```
//!
//! The tables go to standard output and to `target/bench/gateway.json`; README.md beside says how to read them. All
//! sockets are on the loopback interface, all ports ephemeral, and no process is left behind.

#![expect(clippy::cast_precision_loss, reason = "counts and nanoseconds of a benchmark are far below 2^52")]

mod figures;
mod load;
#[path = "../shared/processes.rs"]
#[expect(dead_code, reason = "nothing is said to the processes of this benchmark")]
mod processes;
#[path = "../shared/procfs.rs"]
mod procfs;
mod report;
mod scenarios;
#[path = "../shared/statistics.rs"]
mod statistics;
mod targets;
#[path = "../shared/texts.rs"]
mod texts;
#[path = "../shared/upstream.rs"]
mod upstream;
#[path = "../shared/wire.rs"]
mod wire;

use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::figures::{Run, Runs};
use crate::load::Load;
use crate::procfs::{Cpu, Tree, machine_busy};
use crate::report::Report;
use crate::scenarios::{Kind, SCENARIOS, Scenario};
use crate::targets::{Missing, Running, Target};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The first argument of the process that is the upstream.
const UPSTREAM_ARGUMENT: &str = "serve-scripted-upstream";

#[derive(Parser)]
#[command(about = "Wardline beside nginx and beside no proxy at all")]
struct Arguments {
    /// Seconds instead of minutes: few scenarios, one short run of each.
    #[arg(long)]
    quick: bool,
    /// Only these scenarios.
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<String>,
    /// Only these targets.
    #[arg(long, value_delimiter = ',', value_enum)]
    targets: Vec<Target>,
    /// Runs of each scenario against each target.
    #[arg(long)]
    repeats: Option<usize>,
    /// Length of one run; a fifth of it goes before as a warm-up.
    #[arg(long)]
    seconds: Option<f64>,
    /// Given by cargo; without a meaning here.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(UPSTREAM_ARGUMENT) {
        return ended(upstream::serve_until_stdin_ends().map(|()| true));
    }
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    ended(runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(measure_or_stop(&arguments))))
}

fn ended(outcome: Result<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("gateway bench: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Measures, unless a signal comes first; either way what was started is ended, because it is dropped.
async fn measure_or_stop(arguments: &Arguments) -> Result<bool> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        outcome = measure(arguments) => outcome,
        _ = interrupt.recv() => Err("interrupted".into()),
        _ = terminate.recv() => Err("terminated".into()),
        _ = hangup.recv() => Err("hung up".into()),
    }
}

/// Whether everything that was to be measured has been, and every answer was right.
async fn measure(arguments: &Arguments) -> Result<bool> {
    let scenarios = chosen_scenarios(arguments)?;
    let (targets, mut complete) = chosen_targets(arguments);
    let repeats = arguments.repeats.unwrap_or(if arguments.quick { 1 } else { 5 });
    let seconds = arguments.seconds.unwrap_or(if arguments.quick { 0.4 } else { 1.5 });
    let dir = tempfile::tempdir()?;
    let (_upstream, upstream_port) = targets::start_upstream(dir.path())?;
    let mut running = Vec::new();
    for target in targets {
        say(&format!("starting {}", target.name()));
        let started = target.start(upstream_port, dir.path()).await;
        running.push(started.map_err(|error| format!("{}: {error}", target.name()))?);
    }
    let mut report = Report { repeats, seconds, ..Report::default() };
    report.scenarios.extend(scenarios.into_iter().map(|scenario| (scenario, Runs::new())));
    for repeat in 0..repeats {
        for (scenario, runs) in &mut report.scenarios {
            if let Kind::Streamed(script) = scenario.kind {
                load::get(upstream_port, &script.path()).await?;
            }
            say(&format!("repeat {} of {repeats}: {}", repeat + 1, scenario.name));
            // Another target is first in each repeat, so that none is favoured by its place.
            running.rotate_left(1);
            for target in &running {
                let (run, clean) = measure_one(target, scenario, seconds).await?;
                complete &= clean;
                runs.entry(target.target).or_default().push(run);
                let memory = report.memory.entry(target.target).or_default();
                memory.idle_kib = target.idle_kib;
                memory.loaded_kib = memory.loaded_kib.max(target.tree()?.map_or(0, |tree| tree.rss_kib()));
            }
        }
    }
    publish(&report)?;
    Ok(complete)
}

/// One run, and whether all its answers were right.
async fn measure_one(target: &Running, scenario: &Scenario, seconds: f64) -> Result<(Run, bool)> {
    let name = format!("{} {}", scenario.name, target.target.name());
    let mut load = Load::connect(target.port, scenario).await.map_err(|error| format!("{name}: {error}"))?;
    let patience = Duration::from_secs_f64(seconds) + Duration::from_mins(1);
    let run = async {
        load.run(Duration::from_secs_f64(seconds / 5.0)).await?;
        let before = Usage::now(target)?;
        let outcome = load.run(Duration::from_secs_f64(seconds)).await?;
        let after = Usage::now(target)?;
        Ok::<_, Box<dyn Error + Send + Sync>>((outcome, before, after))
    };
    let run = tokio::time::timeout(patience, run).await.map_err(|_| format!("{name}: no answer for a minute"))?;
    let (outcome, before, after) = run.map_err(|error| format!("{name}: {error}\n{}", target.last_words()))?;
    for failure in outcome.failures.iter().take(1) {
        say(&format!("{name}: {} wrong answers, the first: {failure}", outcome.failures.len()));
    }
    let run = Run::new(&outcome, after.of_target(&before), after.foreign(&before));
    Ok((run, outcome.failures.is_empty()))
}

/// CPU time used so far, by whom.
struct Usage {
    at: Instant,
    target: Option<Cpu>,
    machine: u64,
    own: Cpu,
}

impl Usage {
    fn now(target: &Running) -> Result<Usage> {
        // The load, the upstream and every target: all are children of this process.
        let own = Tree::of(std::process::id())?.cpu();
        let target = target.tree()?.map(|tree| tree.cpu());
        Ok(Usage { at: Instant::now(), target, machine: machine_busy()?, own })
    }

    fn of_target(&self, before: &Usage) -> Option<u64> {
        Some(self.target.as_ref()?.since(before.target.as_ref()?))
    }

    fn foreign(&self, before: &Usage) -> f64 {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let strangers = (self.machine - before.machine).saturating_sub(self.own.since(&before.own));
        strangers as f64 / ((self.at - before.at).as_nanos() as f64 * cores as f64)
    }
}

fn chosen_scenarios(arguments: &Arguments) -> Result<Vec<&'static Scenario>> {
    for name in &arguments.scenario {
        if !SCENARIOS.iter().any(|scenario| scenario.name == name) {
            let known: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
            return Err(format!("no scenario `{name}`; there are {}", known.join(", ")).into());
        }
    }
    let wanted = |scenario: &&Scenario| match arguments.scenario.as_slice() {
        [] => scenario.quick || !arguments.quick,
        names => names.iter().any(|name| name == scenario.name),
    };
    Ok(SCENARIOS.iter().filter(wanted).collect())
}

/// The targets that can be measured here, and whether those are all that must be.
fn chosen_targets(arguments: &Arguments) -> (Vec<Target>, bool) {
    use clap::ValueEnum as _;
    let wanted = if arguments.targets.is_empty() { Target::value_variants() } else { arguments.targets.as_slice() };
    let mut complete = true;
    let present = wanted.iter().copied().filter(|target| match target.check() {
        Ok(()) => true,
        Err(Missing::Optional(why)) => {
            say(&format!("{} is left out: {why}", target.name()));
            false
        }
        Err(Missing::Needed(why)) => {
            say(&format!("{} IS LEFT OUT: {why}. (Or choose --targets without it.)", target.name()));
            complete = false;
            false
        }
    });
    (present.collect(), complete)
}

fn publish(report: &Report) -> Result<()> {
    let path = output_dir().join("gateway.json");
    std::fs::create_dir_all(output_dir())?;
    std::fs::write(&path, serde_json::to_vec_pretty(&report.json())?)?;
    writeln!(std::io::stdout(), "{}", report.markdown())?;
    say(&format!("every run: {}", path.display()));
    Ok(())
}

/// `target/bench`, wherever cargo's target directory is.
fn output_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench")
}

/// Progress goes to standard error, so that standard output is the report.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
