//! The scheduler beside bare sessions, on the same texts.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{ChildStdin, ChildStdout, Command};

use crate::processes::Process;
use crate::scorer::Figures;
use crate::statistics::median;
use crate::table::{Table, ms};
use crate::{Effort, Result, SCORER_ARGUMENT, runtime_library, say};

const SCHEDULER: &str = "scheduler";
/// Every layout of bare sessions that two cores make sense of; of one session that spins, what ONNX Runtime does by itself.
const BARE: [&str; 4] = ["1x1", "1x2", "1x2+spin", "2x1"];
const CALLERS: [usize; 5] = [1, 2, 8, 32, 128];

/// A process that scores texts when it is told to.
pub(crate) struct Scorer {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Ended when dropped, after its standard input.
    process: Process,
}

impl Scorer {
    pub(crate) fn start(layout: &str, dir: &std::path::Path) -> Result<Scorer> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(SCORER_ARGUMENT).arg(layout).env("ORT_DISABLE_TELEMETRY", "1");
        if let Some(library) = runtime_library() {
            command.env("ORT_DYLIB_PATH", library);
        }
        let mut process = Process::start(command, &dir.join(format!("{layout}.log")))?;
        let input = process.stdin().ok_or("no standard input")?;
        let output = process.stdout().ok_or("no standard output")?;
        let mut scorer = Scorer { input, output: BufReader::new(output), process };
        match scorer.line()?.trim() {
            "ready" => Ok(scorer),
            _ => Err(format!("{layout} does not start: {}", scorer.process.last_words()).into()),
        }
    }

    /// One run of so many callers, each of which pauses after each text.
    pub(crate) fn run(&mut self, callers: usize, seconds: f64, pause_us: u32) -> Result<Figures> {
        writeln!(self.input, "{callers} {seconds} {pause_us}")?;
        Ok(serde_json::from_str(&self.line()?)?)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line)
    }
}

pub(crate) fn measure(effort: Effort) -> Result<Vec<Table>> {
    let dir = tempfile::tempdir()?;
    let layouts: Vec<&str> = std::iter::once(SCHEDULER).chain(BARE).collect();
    let mut scorers: Vec<Scorer> = Vec::new();
    for layout in &layouts {
        say(&format!("starting {layout}"));
        scorers.push(Scorer::start(layout, dir.path())?);
    }
    // By callers, layout and repeat.
    let mut all = vec![vec![Vec::<Figures>::new(); layouts.len()]; CALLERS.len()];
    for repeat in 0..effort.repeats {
        for (callers, runs) in CALLERS.iter().zip(&mut all) {
            say(&format!("scheduler: repeat {} of {}, {callers} callers", repeat + 1, effort.repeats));
            for step in 0..layouts.len() {
                // Another layout is first in each repeat.
                let at = (step + repeat) % layouts.len();
                runs[at].push(scorers[at].run(*callers, effort.seconds, 0)?);
            }
        }
    }
    Ok(vec![by_callers(&layouts, &all), best(&all)])
}

fn by_callers(layouts: &[&str], all: &[Vec<Vec<Figures>>]) -> Table {
    let mut table = Table::new(
        "Texts a second, and p50 / p99 in ms, by callers (bare: sessions x threads)",
        &std::iter::once("callers").chain(layouts.iter().copied()).collect::<Vec<_>>(),
    );
    for (callers, runs) in CALLERS.iter().zip(all) {
        let cell = |runs: &Vec<Figures>| {
            let of = |figure: fn(&Figures) -> f64| median(runs.iter().map(figure).collect());
            let rate = of(|run| run.rate).unwrap_or_default();
            format!("{rate:.0}; {} / {}", ms(of(|run| run.p50)), ms(of(|run| run.p99)))
        };
        table.row(std::iter::once(callers.to_string()).chain(runs.iter().map(cell)).collect());
    }
    table
}

/// The scheduler against whatever bare layout was best in the same repeat.
fn best(all: &[Vec<Vec<Figures>>]) -> Table {
    let mut table = Table::new(
        "The scheduler against the best bare layout of the same repeat, and against one session of one thread",
        &["callers", "x best rate", "x best p50", "x best p99", "x p50 of 1x1"],
    );
    for (callers, runs) in CALLERS.iter().zip(all) {
        let (scheduler, bare) = (&runs[0], &runs[1..]);
        let against = |figure: fn(&Figures) -> f64, pick: fn(f64, f64) -> f64| {
            let ratio = |(repeat, run): (usize, &Figures)| {
                let best = bare.iter().map(|runs| figure(&runs[repeat])).reduce(pick).unwrap_or(f64::NAN);
                figure(run) / best
            };
            median(scheduler.iter().enumerate().map(ratio).collect()).unwrap_or(f64::NAN)
        };
        let single = median(scheduler.iter().zip(&bare[0]).map(|(run, bare)| run.p50 / bare.p50).collect());
        table.row(vec![
            callers.to_string(),
            format!("{:.2}", against(|run| run.rate, f64::max)),
            format!("{:.2}", against(|run| run.p50, f64::min)),
            format!("{:.2}", against(|run| run.p99, f64::min)),
            format!("{:.2}", single.unwrap_or(f64::NAN)),
        ]);
    }
    table
}
