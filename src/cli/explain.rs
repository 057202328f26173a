//! `wardline explain`

use std::borrow::Cow;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use clap::Args;
use futures_util::stream::StreamExt;
use serde_json::{Map, Value, json};

use super::Failed;
use super::model::{Loaded, ModelArguments, decimal};
use super::output::print;
use super::progress;
use super::serve::runtime;
use crate::api::Origin;
use crate::classify::explain::{Explanation, Neighbourhood, Settings};
use crate::classify::{Label, ScoreError};
use crate::eval;

mod page;
mod terminal;

#[derive(Debug, Args)]
#[command(after_help = MORE)]
pub(super) struct Arguments {
    /// The text; `-` reads it from standard input.
    text: String,
    /// Explain all labels of this head, e.g. `harm`.
    #[arg(long, value_name = "NAME")]
    head: Vec<String>,
    /// Explain this label: `hate`, or `harm.hate`. May be given more than once.
    #[arg(long, value_name = "NAME")]
    label: Vec<String>,
    /// Words to show.
    #[arg(long, value_name = "K", default_value_t = 10)]
    words: usize,
    /// Copies of the text to score [default: 1000, or 10 a different word up to 5000; seconds on two cores for a
    /// sentence, minutes for a page]. More make the weights steadier.
    #[arg(long, value_name = "N")]
    samples: Option<usize>,
    /// Seed of the copies.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// What the text would be to the gateway: `user`, `tool_result`, `output`, or another origin of policies. Answers are
    /// scored sentence by sentence, too.
    #[arg(long, value_name = "ORIGIN", default_value = "user")]
    origin: String,
    /// The threshold that labels are held against.
    #[arg(long, value_name = "NAME", default_value = "fpr_0.5")]
    threshold: String,
    /// Print JSON: scores, words, weights, and their places in bytes of the text.
    #[arg(long)]
    json: bool,
    /// Write a page with the words coloured.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArguments,
}

const MORE: &str = "\
The text is scored many times without some of its words, and a line is fitted through the scores: a word's weight is
what its presence adds. Without --head and --label, each head's highest label that is over its threshold is explained;
where none is, the highest of all. Python's package `lime` computes the same (arXiv 1602.04938).";

/// Everything that is shown, however it is.
struct Account {
    model: [String; 3],
    text: String,
    origin: Origin,
    settings: Settings,
    /// Different words of the text.
    words: usize,
    scores: Vec<(Label, f32)>,
    threshold: String,
    explained: Vec<(Label, f32, Explanation)>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failed> {
    let text = text(&arguments.text)?;
    let origin = arguments.origin.parse().map_err(|_unknown| {
        let known = Origin::ALL.map(Origin::as_str).join(", ");
        Failed::Told(format!("--origin {}: expected one of {known}", arguments.origin))
    })?;
    if arguments.words == 0 {
        return Err(Failed::Told("--words 0: expected at least 1".to_owned()));
    }
    let settings = Settings { samples: arguments.samples.unwrap_or_else(|| samples(&text)), seed: arguments.seed };
    let neighbourhood = Neighbourhood::around(&text, settings).map_err(|error| Failed::Told(error.to_string()))?;
    let loaded = arguments.model.load()?;
    let labels = loaded.classifier.labels();
    check_names(arguments, labels)?;
    let scores = runtime()?.block_on(score(&loaded, &neighbourhood, origin))?;

    let own: Vec<(Label, f32)> = labels.iter().cloned().zip(scores[0].iter().copied()).collect();
    let explained = chosen(arguments, &own).into_iter().map(|at| {
        let of_label: Vec<f64> = scores.iter().map(|row| f64::from(row[at])).collect();
        (own[at].0.clone(), own[at].1, neighbourhood.explain(&of_label, arguments.words))
    });
    let account = Account {
        explained: explained.collect(),
        model: loaded.identity(),
        text,
        origin,
        settings,
        words: neighbourhood.words(),
        scores: own,
        threshold: arguments.threshold.clone(),
    };
    show(arguments, &account)
}

fn show(arguments: &Arguments, account: &Account) -> Result<(), Failed> {
    if let Some(path) = &arguments.html {
        let written = std::fs::write(path, page::render(account));
        written.map_err(|error| Failed::Told(format!("{}: {error}", path.display())))?;
    }
    let text = if arguments.json {
        format!("{:#}\n", account.json())
    } else {
        let stdout = std::io::stdout();
        let coloured = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        terminal::render(account, coloured)
    };
    print(&text)
}

fn text(argument: &str) -> Result<String, Failed> {
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|error| Failed::Told(format!("standard input: {error}")))?;
    Ok(text)
}

/// Enough for steady weights, and no more than one wants to wait for.
fn samples(text: &str) -> usize {
    let settings = Settings { samples: 2, seed: 0 };
    let words = Neighbourhood::around(text, settings).map_or(0, |neighbourhood| neighbourhood.words());
    (10 * words).clamp(1000, 5000)
}

/// The scores of every text of the neighbourhood.
async fn score(loaded: &Loaded, neighbourhood: &Neighbourhood, origin: Origin) -> Result<Vec<Vec<f32>>, Failed> {
    let texts = neighbourhood.texts();
    let bar = progress::bar("scoring", texts.len(), "texts");
    let all = texts.iter().map(|text| (Cow::Borrowed(text.as_str()), origin));
    let mut stream = std::pin::pin!(eval::score(&loaded.classifier, all, loaded.places));
    let mut rows = Vec::with_capacity(texts.len());
    while let Some(scored) = stream.next().await {
        let scores = scored.map_err(|error| match error {
            ScoreError::TooLong { .. } => Failed::Told(error.to_string()),
            _ => Failed::Ran(error.to_string()),
        })?;
        rows.push(scores.values);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(rows)
}

fn check_names(arguments: &Arguments, labels: &[Label]) -> Result<(), Failed> {
    let known = || labels.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let unknown = |option: &str, name: &str| {
        Err(Failed::Told(format!("--{option} {name}: the model has none of that name; it has {}", known())))
    };
    if let Some(name) = arguments.head.iter().find(|name| !labels.iter().any(|label| label.head == **name)) {
        return unknown("head", name);
    }
    if let Some(name) = arguments.label.iter().find(|name| !labels.iter().any(|label| is_called(label, name))) {
        return unknown("label", name);
    }
    if !labels.iter().any(|label| label.thresholds.contains_key(&arguments.threshold)) {
        return unknown("threshold", &arguments.threshold);
    }
    Ok(())
}

fn is_called(label: &Label, name: &str) -> bool {
    label.name == name || label.to_string() == name
}

/// The labels to explain, by index.
fn chosen(arguments: &Arguments, scores: &[(Label, f32)]) -> Vec<usize> {
    let all = 0..scores.len();
    if !(arguments.head.is_empty() && arguments.label.is_empty()) {
        let wanted = |label: &Label| {
            (arguments.head.is_empty() || arguments.head.contains(&label.head))
                && (arguments.label.is_empty() || arguments.label.iter().any(|name| is_called(label, name)))
        };
        return all.filter(|at| wanted(&scores[*at].0)).collect();
    }
    let highest = |of: Vec<usize>| of.into_iter().max_by(|a, b| scores[*a].1.total_cmp(&scores[*b].1));
    let over = |at: &usize| scores[*at].0.thresholds.get(&arguments.threshold).is_some_and(|t| scores[*at].1 >= *t);
    let mut heads: Vec<&str> = scores.iter().map(|(label, _)| label.head.as_str()).collect();
    heads.dedup();
    let flagged = heads
        .into_iter()
        .filter_map(|head| highest(all.clone().filter(over).filter(|at| scores[*at].0.head == head).collect()));
    let flagged: Vec<usize> = flagged.collect();
    if flagged.is_empty() {
        // A label without thresholds is one that nobody acts on, such as `benign`.
        let judged = all.filter(|at| !scores[*at].0.thresholds.is_empty()).collect();
        return highest(judged).into_iter().collect();
    }
    flagged
}

impl Account {
    /// A label's threshold, if it has one of the name that was asked for.
    fn threshold_of(&self, label: &Label) -> Option<f32> {
        label.thresholds.get(&self.threshold).copied()
    }

    /// What a score comes to, in words.
    fn verdict(&self, label: &Label, score: f32) -> String {
        match self.threshold_of(label) {
            Some(threshold) if score >= threshold => format!("flagged: at or over {} ({threshold})", self.threshold),
            Some(threshold) => format!("passes: under {} ({threshold})", self.threshold),
            None => "no threshold".to_owned(),
        }
    }

    /// The parts of the text in order, each with its word's weight under an explanation; none where it has no say.
    fn parts<'a>(&'a self, explanation: &'a Explanation) -> Vec<(&'a str, Option<f64>)> {
        let mut places: Vec<_> = explanation
            .words
            .iter()
            .flat_map(|word| word.places.iter().map(|place| (place.clone(), word.weight)))
            .collect();
        places.sort_by_key(|(place, _)| place.start);
        let mut parts = Vec::new();
        let mut done = 0;
        for (place, weight) in places {
            parts.push((&self.text[done..place.start], None));
            done = place.end;
            parts.push((&self.text[place], Some(weight)));
        }
        parts.push((&self.text[done..], None));
        parts.retain(|(text, _)| !text.is_empty());
        parts
    }

    fn json(&self) -> Value {
        let mut heads = Map::new();
        for (label, score) in &self.scores {
            let head = heads.entry(label.head.clone()).or_insert_with(|| Value::Object(Map::new()));
            head[&label.name] = json!(decimal(*score));
        }
        let explanations = self.explained.iter().map(|(label, score, explanation)| {
            let words = explanation.words.iter().map(|word| {
                let places = word.places.iter().map(|place| [place.start, place.end]).collect::<Vec<_>>();
                json!({"word": word.word, "weight": word.weight, "places": places})
            });
            json!({
                "label": label.to_string(), "score": decimal(*score),
                "threshold": self.threshold_of(label).map(decimal),
                "flagged": self.threshold_of(label).is_some_and(|threshold| *score >= threshold),
                "intercept": explanation.intercept, "r2": explanation.fit, "local_prediction": explanation.local,
                "words": words.collect::<Vec<_>>(),
            })
        });
        let [name, revision, device] = &self.model;
        json!({
            "model": {"name": name, "revision": revision, "device": device},
            "text": self.text, "origin": self.origin.as_str(),
            "samples": self.settings.samples, "seed": self.settings.seed,
            "scores": heads, "explanations": explanations.collect::<Vec<_>>(),
        })
    }
}

/// The largest magnitude of a weight, above 0.
fn largest(explanation: &Explanation) -> f64 {
    explanation.words.iter().map(|word| word.weight.abs()).fold(f64::MIN_POSITIVE, f64::max)
}
