//! `wardline diff`: what another policy would have decided, on recorded traffic or labelled texts.

mod change;
mod page;
mod replay;
mod report;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};

use super::Failed;
use super::assemble::{armed, configured, environment, known, metrics, models};
use super::model::{PLACES, roomy};
use super::output;
use super::policies::files;
use super::progress;
use super::serve::runtime;
use crate::guard::{ABREAST, Evidence, Guards, Occasion, View};
use replay::{Item, Replay};
use report::{Compared, Report};

#[derive(Debug, clap::Args)]
#[command(after_help = MORE)]
pub(super) struct Arguments {
    /// The policy that is in force, by path or by name.
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The policy that may take its place.
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// What both are to decide on: files or directories.
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    replay: Vec<PathBuf>,
    /// At most so many texts, the first ones.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Write a page for a browser.
    #[arg(long, value_name = "OUT")]
    html: Option<PathBuf>,
    /// Write everything as JSON.
    #[arg(long, value_name = "OUT")]
    json: Option<PathBuf>,
    /// Show the texts themselves in page and JSON.
    #[arg(long)]
    content: bool,
    /// Fail if any decision differs.
    #[arg(long, conflicts_with = "fail_over")]
    fail_on_change: bool,
    /// Fail if more than this share of the decisions differs, e.g. 0.01.
    #[arg(long, value_name = "SHARE")]
    fail_over: Option<f64>,
    /// The process configuration: which classifier, and where policies lie.
    #[arg(long, value_name = "FILE", default_value = "wardline.yaml")]
    config: PathBuf,
}

const MORE: &str = "\
Replayed are cases of a roll-out (cases.jsonl, where their texts were kept), rows of the pair spool (prompt and answers), or
labelled texts as for `wardline eval`; JSON Lines, plain or packed. Each text is scored once, for both policies.
Rules look whatever their sample is; of a request, conditions see what the recording knows.

Exit codes: 0 compared; 1 decisions differ and that is a failure, or a text could not be scored; 64 an argument, policy
or row is wrong.";

pub(super) fn run(arguments: &Arguments) -> Result<(), Failed> {
    let mut config = configured(&arguments.config)?;
    roomy(&mut config);
    let replay = Replay::read(&arguments.replay, arguments.limit)?;
    let runtime = runtime()?;
    let models = models(&config, environment, runtime.handle(), &metrics()?)?;
    let known = known(models.labels(), &config);
    let sides = files(&config, &[arguments.old.clone(), arguments.new.clone()], &known)?;
    let paths: Vec<String> = sides.iter().map(|file| file.path.display().to_string()).collect();
    let views = sides.into_iter().map(|file| armed(file, &models)).collect::<Result<Vec<View>, Failed>>()?;
    let ([old, new], [old_path, new_path]) = (&views[..], &paths[..]) else {
        return Err(Failed::Told("expected two policies".to_owned()));
    };
    let guards = Guards::new(metrics()?);
    let bar = progress::bar("comparing", replay.items.len(), "texts");
    let all = stream::iter(&replay.items)
        .map(|item| compare(&guards, [old, new], item))
        .buffered(PLACES / ABREAST)
        .inspect(|_| bar.inc(1))
        .collect::<Vec<_>>();
    let compared: Vec<Compared> = runtime.block_on(all).into_iter().collect::<Result<_, _>>()?;
    bar.finish_and_clear();
    let changes = change::changes(&old.policy, &new.policy);
    let report = Report::new([(old, old_path), (new, new_path)], &replay, changes, compared);
    put(arguments, &report)?;
    verdict(arguments, &report)
}

/// Both decisions on one text, or one conversation.
async fn compare(guards: &Guards, views: [&View; 2], item: &Item) -> Result<Compared, Failed> {
    /// Nobody waits for an answer here.
    const PATIENCE: Duration = Duration::from_mins(10);
    let [old, new] = views.map(|view| Occasion::trial(Arc::clone(view), item.about.clone()));
    let mut evidence = Evidence::of(item.exhibits());
    let failed = |error| Failed::Ran(format!("{}: {error}", item.place()));
    guards.complete(&mut evidence, [&old, &new], PATIENCE).await.map_err(failed)?;
    let opinions = [guards.opinion(&old, &evidence), guards.opinion(&new, &evidence)];
    Ok(Compared::new(item, opinions, evidence.texts(views[0], &|text| Some(text.to_owned()))))
}

fn put(arguments: &Arguments, report: &Report) -> Result<(), Failed> {
    if let Some(path) = &arguments.html {
        output::report(path, &page::render(report, arguments.content))?;
    }
    if let Some(path) = &arguments.json {
        output::report(path, &format!("{:#}\n", report.json(arguments.content)))?;
    }
    output::print(&report.terminal())
}

fn verdict(arguments: &Arguments, report: &Report) -> Result<(), Failed> {
    let (differing, all) = (report.differing(), report.compared());
    let over = arguments.fail_over.is_some_and(|most| report.share() > most);
    if over || arguments.fail_on_change && differing > 0 {
        return Err(Failed::Ran(format!("{differing} of {all} decisions differ")));
    }
    Ok(())
}
