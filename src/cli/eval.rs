//! `wardline eval`

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use futures_util::stream::StreamExt;
use indicatif::ProgressBar;
use serde_json::{Map, Value, json};

use super::Failed;
use super::model::{Loaded, ModelArguments, decimal};
use super::output::print;
use super::progress;
use super::serve::runtime;
use crate::eval::rows::{self, Row, Source};
use crate::eval::{self, Floor, Obfuscation, Report, Run, Scored, Settings, Targets};

#[derive(Debug, Args)]
#[command(after_help = MORE)]
pub(super) struct Arguments {
    /// Labelled texts: JSON Lines, plain or gzip'd.
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    data: Vec<PathBuf>,
    /// Only rows of these splits, e.g. `test` or `val,test`.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    split: Vec<String>,
    /// Only rows of these sources.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    source: Vec<String>,
    /// At most so many rows, drawn at random by the seed.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Measure the texts obfuscated, too: names, or `all` (leet, typos, letters-apart, lost-spaces, look-alikes, case,
    /// zero-width, full-width, accents, punctuation, tags, backwards, rot13, base64, hex, url).
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    obfuscate: Vec<String>,
    /// Fail unless a figure is at least this: `[BY/VALUE:]HEAD.LABEL.FIGURE=VALUE`, e.g. `harm.any.auprc=0.6` or
    /// `source/notinject:prompt_attack.attack.pass.fpr_0.5=0.9`. FIGURE is `auroc`, `auprc`, `recall_at_1`,
    /// `recall.THRESHOLD` or `pass.THRESHOLD`. May be given more than once.
    #[arg(long, value_name = "NAME=VALUE")]
    floor: Vec<String>,
    /// Write the report as markdown, too.
    #[arg(long, value_name = "OUT")]
    markdown: Option<PathBuf>,
    /// Write every figure as JSON.
    #[arg(long, value_name = "OUT")]
    json: Option<PathBuf>,
    /// Write one JSON line a row: its line, the scores of all labels, and the labels that are flagged. Texts as they
    /// are, whatever --obfuscate says.
    #[arg(long, value_name = "OUT")]
    scores: Option<PathBuf>,
    /// The threshold that the flags of --scores are taken at.
    #[arg(long, value_name = "NAME", default_value = "fpr_0.5")]
    threshold: String,
    /// Seed of the sample, the obfuscations and the intervals.
    #[arg(long, value_name = "N", default_value_t = 7)]
    seed: u64,
    /// Resamples that each interval is drawn from.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    resamples: u32,
    #[command(flatten)]
    model: ModelArguments,
}

const MORE: &str = "\
Rows are objects with `text`, `task` (prompt_attack or harm) and `label` (a word or a list; benign or none for nothing).
`source`, `split`, `lang`, `kind`, `origin`, `side` and `annotated` (the labels that somebody looked for) may be there.

Exit codes: 0 measured; 1 a floor was missed or a row could not be scored; 64 a file, row or argument is wrong, and
nothing was scored.";

pub(super) fn run(arguments: &Arguments) -> Result<(), Failed> {
    let obfuscations = obfuscations(&arguments.obfuscate)?;
    let floors: Vec<Floor> =
        arguments.floor.iter().map(|floor| floor.parse().map_err(told)).collect::<Result<_, _>>()?;
    let (sources, mut rows) = read(&arguments.data)?;
    select(&mut rows, arguments)?;
    let asked = rows.len();
    sample(&mut rows, arguments.limit, arguments.seed);
    let loaded = arguments.model.load()?;
    let targets = Targets::new(loaded.classifier.labels(), &rows).map_err(told)?;
    let groups = Report::groups(&rows, &obfuscations);
    floors.iter().try_for_each(|floor| floor.check(&targets, &groups)).map_err(told)?;
    let mut outputs = Outputs::open(arguments, &loaded, &targets)?;

    let bar = progress::bar("scoring", rows.len() * (1 + obfuscations.len()), "texts");
    let (scored, obfuscated) =
        runtime()?.block_on(score(&loaded, &rows, &obfuscations, arguments.seed, &bar, &mut outputs))?;
    bar.finish_and_clear();

    let settings = Settings { rounds: arguments.resamples, seed: arguments.seed };
    let run = Run { command: command(), model: loaded.identity(), sources, asked, settings };
    let report = Report::new(run, &targets, (&rows, &scored), &obfuscated, &floors);
    outputs.write(&report)?;
    verdict(&report)
}

/// What the exit code says.
fn verdict(report: &Report) -> Result<(), Failed> {
    let missed = report.floors().iter().filter(|held| !held.is_reached()).map(|held| format!("missed: {held}"));
    let mut wrong: Vec<String> = missed.collect();
    if let Some((count, first)) = report.unscored() {
        wrong.push(format!("{count} rows could not be scored and are left out of all figures; the first: {first}"));
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failed::Ran(wrong.join("\nerror: "))) }
}

type Obfuscated = Vec<(Obfuscation, Vec<Row>, Vec<Scored>)>;

async fn score(
    loaded: &Loaded,
    rows: &[Row],
    obfuscations: &[Obfuscation],
    seed: u64,
    bar: &ProgressBar,
    outputs: &mut Outputs,
) -> Result<(Vec<Scored>, Obfuscated), Failed> {
    let mut scored = Vec::with_capacity(rows.len());
    let mut stream = std::pin::pin!(through(loaded, rows));
    while let Some(result) = stream.next().await {
        outputs.row(&rows[scored.len()], &result, loaded)?;
        scored.push(result);
        bar.inc(1);
    }
    let mut obfuscated = Vec::with_capacity(obfuscations.len());
    for obfuscation in obfuscations {
        bar.set_message(obfuscation.as_str());
        let changed: Vec<Row> = rows
            .iter()
            .map(|row| Row { text: obfuscation.apply(&row.text, of_row(seed, row)), ..row.clone() })
            .collect();
        let results = through(loaded, &changed).inspect(|_| bar.inc(1)).collect().await;
        obfuscated.push((*obfuscation, changed, results));
    }
    Ok((scored, obfuscated))
}

fn through<'a>(loaded: &'a Loaded, rows: &'a [Row]) -> impl futures_util::Stream<Item = Scored> + 'a {
    let texts = rows.iter().map(|row| (Cow::Borrowed(row.text.as_str()), row.origin));
    eval::score(&loaded.classifier, texts, loaded.places)
}

/// A row's own seed, so that its obfuscation does not depend on which other rows there are.
fn of_row(seed: u64, row: &Row) -> u64 {
    let place = (row.file as u64) << 40 | row.line as u64;
    seed ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

pub(super) fn read(files: &[PathBuf]) -> Result<(Vec<Source>, Vec<Row>), Failed> {
    let (mut sources, mut all) = (Vec::new(), Vec::new());
    for (file, path) in files.iter().enumerate() {
        let (source, rows) = rows::read(path, file).map_err(told)?;
        sources.push(source);
        all.extend(rows);
    }
    Ok((sources, all))
}

/// Leaves the rows that were asked for. None at all is a mistake.
fn select(rows: &mut Vec<Row>, arguments: &Arguments) -> Result<(), Failed> {
    of_splits(rows, &arguments.split)?;
    for source in &arguments.source {
        if !rows.iter().any(|row| row.source == *source) {
            let known = names(rows, |row| Some(&row.source));
            return Err(Failed::Told(format!("--source {source}: no row has it; there are {known}")));
        }
    }
    rows.retain(|row| arguments.source.is_empty() || arguments.source.contains(&row.source));
    if rows.is_empty() || arguments.limit == Some(0) {
        return Err(Failed::Told("--limit 0 leaves no row".to_owned()));
    }
    Ok(())
}

/// Leaves the rows of these splits, or all if there are none. A split that no row has is a mistake.
pub(super) fn of_splits(rows: &mut Vec<Row>, splits: &[String]) -> Result<(), Failed> {
    if rows.is_empty() {
        return Err(Failed::Told("--data: no rows".to_owned()));
    }
    for split in splits {
        if !rows.iter().any(|row| row.split.as_ref() == Some(split)) {
            let known = names(rows, |row| row.split.as_ref());
            return Err(Failed::Told(format!("--split {split}: no row has it; there are {known}")));
        }
    }
    rows.retain(|row| splits.is_empty() || row.split.as_ref().is_some_and(|of| splits.contains(of)));
    Ok(())
}

/// Each once, in words.
fn names(rows: &[Row], name: impl Fn(&Row) -> Option<&String>) -> String {
    let names: BTreeSet<&str> = rows.iter().filter_map(|row| Some(name(row)?.as_str())).collect();
    if names.is_empty() { "none".to_owned() } else { names.into_iter().collect::<Vec<_>>().join(", ") }
}

/// Keeps `limit` rows, drawn without replacement, in their order.
fn sample(rows: &mut Vec<Row>, limit: Option<usize>, seed: u64) {
    let Some(limit) = limit.filter(|limit| *limit < rows.len()) else { return };
    let mut order: Vec<usize> = (0..rows.len()).collect();
    fastrand::Rng::with_seed(seed).shuffle(&mut order);
    let mut keep = vec![false; rows.len()];
    order[..limit].iter().for_each(|at| keep[*at] = true);
    let mut keep = keep.into_iter();
    rows.retain(|_| keep.next().unwrap_or(false));
}

fn obfuscations(names: &[String]) -> Result<Vec<Obfuscation>, Failed> {
    let mut list = Vec::new();
    for name in names {
        let these = if name == "all" {
            Obfuscation::ALL.to_vec()
        } else {
            vec![name.parse().map_err(|error| Failed::Told(format!("--obfuscate {name}: {error}, or all")))?]
        };
        list.extend(these);
    }
    list.sort_unstable();
    list.dedup();
    Ok(list)
}

/// The command, for the report: a figure without it is hearsay.
fn command() -> String {
    let quoted = |argument: String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,%+".contains(c);
        if !argument.is_empty() && argument.chars().all(plain) { argument } else { format!("'{argument}'") }
    };
    let arguments = std::env::args_os().skip(1).map(|argument| quoted(argument.to_string_lossy().into_owned()));
    format!("wardline {}", arguments.collect::<Vec<_>>().join(" "))
}

/// Files that are written, opened before anything is scored.
struct Outputs {
    markdown: Option<(PathBuf, File)>,
    json: Option<(PathBuf, File)>,
    scores: Option<(PathBuf, BufWriter<File>)>,
    threshold: String,
    /// Whether rows name their file.
    many: Option<Vec<PathBuf>>,
}

impl Outputs {
    fn open(arguments: &Arguments, loaded: &Loaded, targets: &Targets) -> Result<Self, Failed> {
        let thresholds: Vec<String> = targets.thresholds().into_iter().collect();
        if arguments.scores.is_some() && !thresholds.contains(&arguments.threshold) {
            let (name, known) = (loaded.classifier.name(), thresholds.join(", "));
            let text = format!("--threshold {}: {name} has none of that name, but {known}", arguments.threshold);
            return Err(Failed::Told(text));
        }
        let open = |path: &Option<PathBuf>| path.as_ref().map(|path| create(path, &arguments.data)).transpose();
        Ok(Self {
            markdown: open(&arguments.markdown)?,
            json: open(&arguments.json)?,
            scores: open(&arguments.scores)?.map(|(path, file)| (path, BufWriter::new(file))),
            threshold: arguments.threshold.clone(),
            many: (arguments.data.len() > 1).then(|| arguments.data.clone()),
        })
    }

    /// One line of --scores.
    fn row(&mut self, row: &Row, result: &Scored, loaded: &Loaded) -> Result<(), Failed> {
        let Some((path, file)) = &mut self.scores else { return Ok(()) };
        let mut line = match result {
            Ok(scores) => {
                let labels = loaded.classifier.labels();
                let mut heads = Map::new();
                for (label, value) in labels.iter().zip(&scores.values) {
                    let head = heads.entry(label.head.clone()).or_insert_with(|| Value::Object(Map::new()));
                    head[&label.name] = json!(decimal(*value));
                }
                let flags = eval::flags(labels, &scores.values, &self.threshold);
                json!({"line": row.line, "scores": heads, "flags": flags})
            }
            Err(error) => json!({"line": row.line, "error": error.to_string()}),
        };
        if let Some(files) = &self.many {
            line["file"] = json!(files[row.file].display().to_string());
        }
        writeln!(file, "{line}").map_err(|error| unwritten(path, &error))
    }

    /// The report, to standard output and to the files that were asked for.
    fn write(&mut self, report: &Report) -> Result<(), Failed> {
        let markdown = report.markdown();
        if let Some((path, file)) = &mut self.scores {
            file.flush().map_err(|error| unwritten(path, &error))?;
        }
        if let Some((path, file)) = &mut self.markdown {
            file.write_all(markdown.as_bytes()).map_err(|error| unwritten(path, &error))?;
        }
        if let Some((path, file)) = &mut self.json {
            writeln!(file, "{:#}", report.json()).map_err(|error| unwritten(path, &error))?;
        }
        print(&markdown)
    }
}

/// A new or emptied file; never one of those that are read.
fn create(path: &Path, inputs: &[PathBuf]) -> Result<(PathBuf, File), Failed> {
    let real = fs::canonicalize(path).ok();
    if real.is_some() && inputs.iter().any(|input| fs::canonicalize(input).ok() == real) {
        return Err(Failed::Told(format!("{}: is one of the files to read; it is left as it is", path.display())));
    }
    let file = File::create(path).map_err(|error| Failed::Told(format!("{}: {error}", path.display())))?;
    Ok((path.to_owned(), file))
}

fn unwritten(path: &Path, error: &io::Error) -> Failed {
    Failed::Ran(format!("{}: {error}", path.display()))
}

fn told(error: impl std::error::Error) -> Failed {
    Failed::Told(error.to_string())
}
