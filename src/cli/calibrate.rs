//! `wardline calibrate`: thresholds that keep to a rate of false alarms, from labelled texts.

mod write;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use futures_util::stream::StreamExt;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::Failed;
use super::assemble::{configured, environment, known, metrics, models};
use super::eval::{of_splits, read};
use super::model::{PLACES, roomy};
use super::output;
use super::policies::files;
use super::progress;
use super::serve::runtime;
use super::table::Table;
use crate::api::Origin;
use crate::classify::{Label, Models};
use crate::eval::calibrate::{Proposal, Share, Unsupported, Wanted, calibrate};
use crate::eval::rows::Row;
use crate::eval::{self, Settings, Targets};
use crate::policy::{Bound, Guard, PolicyFile, Rule};

#[derive(Debug, clap::Args)]
#[command(after_help = MORE)]
pub(super) struct Arguments {
    /// The policy, by path or by name.
    #[arg(value_name = "POLICY")]
    policy: PathBuf,
    /// Labelled texts as for `wardline eval`: JSON Lines, plain or gzip'd.
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    data: Vec<PathBuf>,
    /// The share of harmless texts that a rule may hit.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    fpr: f64,
    /// Only rows of these splits, e.g. `val`.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    split: Vec<String>,
    /// Only these rules, by id; by default every rule with a classifier.
    #[arg(long = "rule", value_name = "ID", value_delimiter = ',')]
    rules: Vec<String>,
    /// Count rows of all origins, whatever the rule looks at: for data that does not say whose texts they are.
    #[arg(long)]
    any_origin: bool,
    /// Write the proposals as JSON.
    #[arg(long, value_name = "OUT")]
    json: Option<PathBuf>,
    /// Write the thresholds into the policy's file, if all of them are supported and its tests pass with them.
    #[arg(long)]
    write: bool,
    /// Seed of the interval of each threshold.
    #[arg(long, value_name = "N", default_value_t = 7)]
    seed: u64,
    /// Resamples that this interval is drawn from.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    resamples: u32,
    /// The process configuration: which classifier, and where policies lie.
    #[arg(long, value_name = "FILE", default_value = "wardline.yaml")]
    config: PathBuf,
}

const MORE: &str = "\
Of a rule, one threshold is proposed for all its labels: the lowest at which it hits no more than the share of the rows that
none of its labels applies to, among texts of the origins that it looks at. Levels under `by_origin` are calibrated on
the rows of their origin. Intervals are at 95 %: of shares Clopper and Pearson's, of thresholds the percentile bootstrap's.

Exit codes: 0 all proposed (and written); 1 some have too few rows, or the policy's tests fail with the new thresholds;
64 an argument, file or row is wrong. Unless it is 0, nothing is written.";

fn share(written: &str) -> Result<f64, String> {
    let share: f64 = written.parse().map_err(|_| "expected a share such as 0.01".to_owned())?;
    if (0.000_001..=0.5).contains(&share) { Ok(share) } else { Err("expected a share from 0.000001 to 0.5".to_owned()) }
}

/// A threshold of the file that is calibrated.
struct Entry {
    rule: String,
    /// Set for levels under `by_origin`.
    origin: Option<Origin>,
    wanted: Wanted,
    found: Result<Proposal, Unsupported>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failed> {
    let mut config = configured(&arguments.config)?;
    roomy(&mut config);
    let (sources, mut rows) = read(&arguments.data)?;
    of_splits(&mut rows, &arguments.split)?;
    let runtime = runtime()?;
    let models = models(&config, environment, runtime.handle(), &metrics()?)?;
    let known = known(models.labels(), &config);
    let file = files(&config, std::slice::from_ref(&arguments.policy), &known)?.into_iter().next();
    let file = file.ok_or_else(|| Failed::Told("expected a policy".to_owned()))?;
    let all = wanted(&file, arguments)?;
    let names = all.iter().flat_map(|(.., wanted)| &wanted.labels);
    let heads: BTreeSet<String> = names.filter_map(|name| Some(name.split('.').next()?.to_owned())).collect();
    rows.retain(|row| heads.contains(&row.task));
    let labels: Vec<Label> = models.labels().cloned().collect();
    let targets = Targets::new(&labels, &rows).map_err(|error| Failed::Told(error.to_string()))?;
    let values = score(&runtime, &models, &rows)?;
    let pairs: Vec<(&Row, &[f32])> = rows.iter().zip(&values).map(|(row, values)| (row, &values[..])).collect();
    let settings = Settings { rounds: arguments.resamples, seed: arguments.seed };
    let entries: Vec<Entry> = all
        .into_iter()
        .map(|(rule, origin, wanted)| {
            let found = calibrate(&wanted, &targets, &pairs, arguments.fpr, settings);
            Entry { rule, origin, wanted, found }
        })
        .collect();
    let text = told(&file, &entries, arguments.fpr);
    output::print(&text)?;
    if let Some(path) = &arguments.json {
        let sources = sources.iter().map(
            |source| json!({"file": source.path.display().to_string(), "sha256": source.sha256, "rows": source.rows}),
        );
        let models = models.each().iter().map(|model| json!({"name": model.name(), "revision": model.revision()}));
        let made = json!({"models": models.collect::<Vec<_>>(), "data": sources.collect::<Vec<_>>()});
        output::report(path, &format!("{:#}\n", report(&file, &entries, arguments, &made)))?;
    }
    if let Some(entry) = entries.iter().find(|entry| entry.found.is_err()) {
        let nothing = if arguments.write { "; nothing was written" } else { "" };
        return Err(Failed::Ran(format!("{}: {}{nothing}", entry.name(), entry.reason())));
    }
    if arguments.write { write::write(&file, &entries, &known, &config, &models) } else { Ok(()) }
}

/// What of the policy is calibrated.
fn wanted(file: &PolicyFile, arguments: &Arguments) -> Result<Vec<(String, Option<Origin>, Wanted)>, Failed> {
    let rules: Vec<&Rule> =
        file.policy.rules.iter().filter(|rule| matches!(rule.guard, Guard::Classifier { .. })).collect();
    let ids = || rules.iter().map(|rule| rule.id.as_str());
    if let Some(unknown) = arguments.rules.iter().find(|id| !ids().any(|known| known == *id)) {
        let known = crate::yaml::expected("rule with a classifier", unknown, ids());
        return Err(Failed::Told(format!("--rule {unknown}: {known}")));
    }
    if rules.is_empty() {
        return Err(Failed::Told(format!("{}: no rule has a classifier", file.path.display())));
    }
    let asked = rules.iter().filter(|rule| arguments.rules.is_empty() || arguments.rules.contains(&rule.id));
    let all = asked.flat_map(|rule| {
        let Guard::Classifier { labels } = &rule.guard else { return Vec::new() };
        // Levels that an origin shares with the rule are the rule's own.
        let threshold = |bounds: &[Bound]| bounds.iter().map(|bound| bound.threshold.to_bits()).collect::<Vec<_>>();
        let own: Vec<&(Origin, Vec<Bound>)> =
            rule.by_origin.iter().filter(|(_, bounds)| threshold(bounds) != threshold(labels)).collect();
        let looks = |origin: &Origin| rule.origins.as_ref().is_none_or(|origins| origins.contains(origin));
        let rest: Vec<Origin> = Origin::ALL
            .into_iter()
            .filter(|origin| arguments.any_origin || looks(origin) && rule.stages.meet(*origin))
            .filter(|origin| !own.iter().any(|(of, _)| of == origin))
            .collect();
        let mut all = vec![(rule.id.clone(), None, of(labels, rest))];
        all.extend(own.into_iter().map(|(origin, bounds)| (rule.id.clone(), Some(*origin), of(bounds, vec![*origin]))));
        all
    });
    Ok(all.collect())
}

fn of(bounds: &[Bound], origins: Vec<Origin>) -> Wanted {
    Wanted {
        labels: bounds.iter().map(|bound| bound.name.clone()).collect(),
        levels: bounds.iter().map(|bound| (bound.label, bound.threshold)).collect(),
        origins,
    }
}

/// The scores of each row by all models' labels, in their order; of models without a head of the row's task, zeros.
fn score(runtime: &Runtime, models: &Models, rows: &[Row]) -> Result<Vec<Vec<f32>>, Failed> {
    let mut all: Vec<Vec<f32>> = vec![Vec::new(); rows.len()];
    for model in models.each() {
        let has = |row: &Row| model.labels().iter().any(|label| label.head == row.task);
        let asked: Vec<&Row> = rows.iter().filter(|row| has(row)).collect();
        let bar = progress::bar("scoring", asked.len(), "texts");
        let texts = asked.iter().map(|row| (Cow::Borrowed(row.text.as_str()), row.origin));
        let each = eval::score(model, texts, PLACES).inspect(|_| bar.inc(1)).collect::<Vec<eval::Scored>>();
        let mut each = runtime.block_on(each).into_iter();
        bar.finish_and_clear();
        for (values, row) in all.iter_mut().zip(rows) {
            match has(row).then(|| each.next()).flatten() {
                Some(Ok(found)) => values.extend(found.values),
                Some(Err(error)) => return Err(Failed::Ran(format!("the row of line {}: {error}", row.line))),
                None => values.extend(vec![0.0; model.labels().len()]),
            }
        }
    }
    Ok(all)
}

impl Entry {
    fn name(&self) -> String {
        match self.origin {
            Some(origin) => format!("{} ({})", self.rule, origin.as_str()),
            None => self.rule.clone(),
        }
    }

    fn reason(&self) -> String {
        self.found.as_ref().err().map(ToString::to_string).unwrap_or_default()
    }

    /// The levels of today; one number where they are all the same.
    fn today(&self) -> String {
        let mut levels: Vec<String> = self.wanted.levels.iter().map(|(_, level)| level.to_string()).collect();
        levels.dedup();
        levels.join(" ")
    }
}

fn told(file: &PolicyFile, entries: &[Entry], fpr: f64) -> String {
    let mut out = format!(
        "{}  {} rev {}\nOf harmless texts, at most {} % are to be hit.\n\n",
        file.path.display(),
        file.policy.name,
        file.policy.revision,
        fpr * 100.0
    );
    let mut table = Table::new(&["rule", "benign", "", "threshold", "benign hit, %", "others hit, %"]);
    for entry in entries {
        match &entry.found {
            Ok(found) => {
                let (today, effect) = (&found.today, &found.effect);
                let level = format!("{} ({:.3}-{:.3})", found.threshold, found.low, found.high);
                let benign = effect.benign.of.to_string();
                table.row(&[&entry.name(), &benign, "now", &entry.today(), &part(today.benign), &part(today.positive)]);
                table.row(&["", "", "then", &level, &part(effect.benign), &part(effect.positive)]);
            }
            Err(reason) => table.row(&[&entry.name(), &reason.benign(), "now", &entry.today(), "too few rows", ""]),
        }
    }
    out.push_str(&table.told());
    for entry in entries.iter().filter(|entry| entry.found.is_err()) {
        let _ = writeln!(out, "{}: {}", entry.name(), entry.reason());
    }
    out
}

impl Unsupported {
    fn benign(&self) -> String {
        match self {
            Self::TooFew { benign, .. } => benign.to_string(),
            Self::Out => "-".to_owned(),
        }
    }
}

/// In percent, with its interval.
fn part(share: Share) -> String {
    if share.of == 0 {
        return "no rows".to_owned();
    }
    format!("{:.2} ({:.2}-{:.2})", share.value() * 100.0, share.low * 100.0, share.high * 100.0)
}

fn report(file: &PolicyFile, entries: &[Entry], arguments: &Arguments, made: &Value) -> Value {
    let part = |share: Share| json!({"hits": share.hits, "of": share.of, "share": share.value(), "low": share.low, "high": share.high});
    let rules = entries.iter().map(|entry| {
        let mut rule = json!({
            "rule": entry.rule,
            "origin": entry.origin.map(Origin::as_str),
            "labels": entry.wanted.labels,
            "today": entry.wanted.levels.iter().map(|(_, level)| super::model::decimal(*level)).collect::<Vec<_>>(),
        });
        match &entry.found {
            Ok(found) => {
                rule["threshold"] = json!({"value": found.threshold, "low": found.low, "high": found.high});
                rule["then"] = json!({"benign": part(found.effect.benign), "positive": part(found.effect.positive)});
                rule["now"] = json!({"benign": part(found.today.benign), "positive": part(found.today.positive)});
            }
            Err(reason) => rule["unsupported"] = json!(reason.to_string()),
        }
        rule
    });
    json!({
        "policy": file.policy.name,
        "revision": file.policy.revision,
        "file": file.path.display().to_string(),
        "fpr": arguments.fpr,
        "seed": arguments.seed,
        "resamples": arguments.resamples,
        "intervals": {"level": 0.95, "shares": "Clopper-Pearson", "thresholds": "percentile bootstrap"},
        "models": made["models"],
        "data": made["data"],
        "rules": rules.collect::<Vec<_>>(),
    })
}
