//! What guarding costs: the scheduler beside bare sessions, guarded requests beside unguarded ones, conversations, long
//! streams, the cascade, and what proxy and inference do to each other on the same cores.
//!
//! ```text
//! cargo bench --bench engine -- [--quick] [--only scheduler,prompts,conversation,stream,cascade,sharing] [--repeats 3] [--seconds 1.5]
//! ```
//!
//! Everything that is compared runs by turns within one run. The tables go to standard output and to
//! `target/bench/engine.json`; README.md beside says how to read them. All sockets are on the loopback interface, all
//! ports ephemeral, and no process is left behind.

#![expect(clippy::cast_precision_loss, reason = "counts and nanoseconds of a benchmark are far below 2^52")]

mod ask;
mod bare;
mod cascade;
mod conversation;
mod guarded;
#[path = "../shared/processes.rs"]
mod processes;
#[path = "../shared/procfs.rs"]
#[expect(dead_code, reason = "this benchmark asks for no memory")]
mod procfs;
mod prompts;
mod scheduler;
mod scorer;
mod sharing;
#[path = "../shared/statistics.rs"]
mod statistics;
mod stream;
mod table;
#[path = "../shared/texts.rs"]
#[expect(dead_code, reason = "answers are not compared here")]
mod texts;
mod traffic;
#[path = "../shared/upstream.rs"]
mod upstream;
#[path = "../shared/wire.rs"]
#[expect(dead_code, reason = "who is turned away waits without being told how long")]
mod wire;

use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::Instant;

use clap::{Parser, ValueEnum};

use crate::procfs::{Tree, machine_busy};
use crate::table::Table;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The first argument of the process that is the upstream.
const UPSTREAM_ARGUMENT: &str = "serve-scripted-upstream";
/// The first argument of a process that scores texts; the second says how.
const SCORER_ARGUMENT: &str = "score-texts";

#[derive(Parser)]
#[command(about = "What guarding costs")]
struct Arguments {
    /// A minute instead of ten: the same chain, figures that mean little.
    #[arg(long)]
    quick: bool,
    /// Only these parts.
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Part>,
    /// Repeats of each run.
    #[arg(long)]
    repeats: Option<usize>,
    /// Length of one run, where a run has a length.
    #[arg(long)]
    seconds: Option<f64>,
    /// Given by cargo; without a meaning here.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Scheduler,
    Prompts,
    Conversation,
    Stream,
    Cascade,
    Sharing,
}

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) repeats: usize,
    pub(crate) seconds: f64,
    pub(crate) quick: bool,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let outcome = match arguments.next().as_deref() {
        Some(UPSTREAM_ARGUMENT) => upstream::serve_until_stdin_ends(),
        Some(SCORER_ARGUMENT) => scorer::obey(&arguments.next().unwrap_or_default()),
        _ => measure(&Arguments::parse()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("engine bench: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<()> {
    let repeats = arguments.repeats.unwrap_or(if arguments.quick { 1 } else { 3 });
    let seconds = arguments.seconds.unwrap_or(if arguments.quick { 0.3 } else { 1.5 });
    let effort = Effort { repeats, seconds, quick: arguments.quick };
    if runtime_library().is_none() {
        return Err("the ONNX Runtime library is missing; run `make ort`".into());
    }
    let (started, busy, own) = (Instant::now(), machine_busy()?, Tree::of(std::process::id())?.cpu());
    let mut tables: Vec<Table> = Vec::new();
    for part in Part::value_variants() {
        if !arguments.only.is_empty() && !arguments.only.contains(part) {
            continue;
        }
        let made = match part {
            Part::Scheduler => scheduler::measure(effort),
            Part::Prompts => prompts::measure(effort),
            Part::Conversation => conversation::measure(effort),
            Part::Stream => stream::measure(effort),
            Part::Cascade => cascade::measure(effort),
            Part::Sharing => sharing::measure(effort),
        }?;
        for table in made {
            writeln!(std::io::stdout(), "{}", table.markdown())?;
            tables.push(table);
        }
    }
    // Children that have ended took their time along, so this is an upper bound of what strangers used.
    let cores = available_parallelism().map_or(1, std::num::NonZero::get);
    let all = (machine_busy()? - busy) as f64 / (started.elapsed().as_nanos() as f64 * cores as f64);
    let own = Tree::of(std::process::id())?.cpu().since(&own) as f64 / 1e9;
    let machine =
        format!("{}, {cores} cores, {:.0} % busy; this process itself {own:.1} s", procfs::processor(), all * 100.0);
    writeln!(std::io::stdout(), "{machine}; {repeats} repeats, {seconds} s a run.")?;
    keep(&tables, &machine)
}

fn keep(tables: &[Table], machine: &str) -> Result<()> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
    std::fs::create_dir_all(&dir)?;
    let tables: Vec<_> = tables.iter().map(Table::json).collect();
    let json = serde_json::json!({ "machine": machine, "tables": tables });
    std::fs::write(dir.join("engine.json"), serde_json::to_vec_pretty(&json)?)?;
    Ok(())
}

/// The library that the classifier runs on.
pub(crate) fn runtime_library() -> Option<PathBuf> {
    let named = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    Some(named.unwrap_or_else(|| repository().join(".ort/libonnxruntime.so"))).filter(|file| file.is_file())
}

pub(crate) fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Progress goes to standard error, so that standard output is the report.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
