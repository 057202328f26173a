//! `wardline judge`: how far a model's judgement of two answers agrees with people's.

mod page;
mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use clap::Args;
use futures_util::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Failed;
use super::assemble::{assemble, configured, environment};
use super::output::Output;
use super::progress;
use super::serve::runtime;
use crate::config::Config;
use crate::gateway::Gateway;
use crate::pairs::{ReadError, Reading, files};
use crate::revision::{Comparison, Error, Judge, Verdict, from_scores};
use report::Report;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Comparisons by people: JSON lines with `prompt`, `response_a`, `response_b` and `label` (a, b or tie); perhaps
    /// `score_a`, `score_b` and `scale` (such as `1-10`). Plain, or packed by gzip or zstd.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The process configuration; its policy in force gives principles, examples, upstream and model.
    #[arg(long, value_name = "FILE", default_value = "wardline.yaml")]
    config: PathBuf,
    /// Another upstream than the policy's.
    #[arg(long, value_name = "NAME")]
    upstream: Option<String>,
    /// Another model than the policy's.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Judge so many rows only, spread evenly over the file.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Comparisons under way at one time.
    #[arg(long, value_name = "NUMBER", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    jobs: u32,
    /// Write each verdict, with its reasons, as a line of JSON.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the report as one HTML page: agreement, histograms and position bias as plots and tables.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// One comparison as people made it.
#[derive(Debug, Deserialize)]
struct Human {
    /// A text or messages.
    prompt: Value,
    response_a: String,
    response_b: String,
    label: Label,
    score_a: Option<f64>,
    score_b: Option<f64>,
    scale: Option<String>,
    source: Option<String>,
}

/// Which answer people preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Label {
    A,
    B,
    Tie,
}

impl Human {
    /// Their scores on the judge's scale, if they gave scores on a scale that is known.
    fn score(&self) -> Option<f64> {
        let (first, second) = self.score_a.zip(self.score_b)?;
        let range = range(self.scale.as_deref()?)?;
        Some(from_scores(first * 10.0 / range, second * 10.0 / range).clamp(1.0, 9.0))
    }
}

/// How far the ends of a scale lie apart, which is the last word of its name: `1-10`, `0-3`, `1/0`. One from 1 to 10
/// counts as ten, as the conversion has it.
fn range(scale: &str) -> Option<f64> {
    let ends = scale.split_whitespace().last()?;
    if ends == "1-10" {
        return Some(10.0);
    }
    let (low, high) = ends.split_once(['-', '/'])?;
    let range = (high.parse::<f64>().ok()? - low.parse::<f64>().ok()?).abs();
    (range > 0.0).then_some(range)
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failed> {
    let rows = read(&arguments.data, arguments.limit)?;
    let config = configured(&arguments.config)?;
    // Nothing is served, so nothing is kept either.
    let config = Config { pairs: None, ..config };
    let runtime = runtime()?;
    let parts = assemble(&config, environment, runtime.handle())?;
    let gateway = parts.gateway;
    let snapshot = gateway.policies.snapshot();
    let judge = judge(&gateway, &snapshot.policy, arguments)?;
    let mut output = arguments.out.as_deref().map(|out| Output::create(Some(out))).transpose()?;
    let plots = arguments.html.as_deref().map(|html| Output::create(Some(html))).transpose()?;
    let mut report = Report::default();
    let verdicts = runtime.block_on(compare_all(&judge, &rows, arguments.jobs as usize));
    for (row, verdict) in rows.iter().zip(verdicts) {
        if let Some(output) = &mut output {
            output.line(&line(row, &verdict))?;
        }
        match verdict {
            Ok(verdict) => report.add(row, &verdict),
            Err(error) => report.failed(&error),
        }
    }
    if let Some(output) = output {
        output.finish()?;
    }
    if let Some(mut plots) = plots {
        plots.text(&page::render(&report, &about(arguments, &judge)))?;
        plots.finish()?;
    }
    let mut screen = Output::create(None)?;
    screen.text(&report.to_string())?;
    screen.finish()?;
    parts.watch.stop();
    if report.judged == 0 {
        return Err(Failed::Ran(format!("none of {} comparisons could be judged", rows.len())));
    }
    Ok(())
}

/// What was judged, and by whom, in a line.
fn about(arguments: &Arguments, judge: &Judge<'_>) -> String {
    let (data, principles) = (arguments.data.display(), judge.principles.len());
    format!("{data}, judged by {} under {principles} principles of policy {}", judge.model, judge.policy)
}

fn read(data: &Path, limit: Option<u32>) -> Result<Vec<Human>, Failed> {
    let told = |error: ReadError| Failed::Told(error.to_string());
    let mut rows: Vec<Human> = Vec::new();
    for path in files(data).map_err(told)? {
        let mut reading = Reading::open(&path, Arc::new(AtomicU64::new(0))).map_err(told)?;
        while let Some(row) = reading.next_as::<Human>() {
            rows.push(row.map_err(told)?);
        }
    }
    if rows.is_empty() {
        return Err(Failed::Told(format!("{}: expected at least one comparison, found none", data.display())));
    }
    let wanted = limit.map_or(rows.len(), |limit| limit as usize).min(rows.len());
    let total = rows.len();
    let mut at = 0;
    rows.retain(|_| {
        at += 1;
        // Row `at` is taken when it begins a further one of `wanted` equal parts.
        (at * wanted) / total != ((at - 1) * wanted) / total
    });
    Ok(rows)
}

fn judge<'a>(
    gateway: &'a Gateway,
    policy: &'a crate::policy::Policy,
    arguments: &'a Arguments,
) -> Result<Judge<'a>, Failed> {
    let settings = &policy.judge;
    let model = arguments.model.as_deref().or(settings.model.as_deref());
    let model = model.ok_or_else(|| {
        Failed::Told(format!("no model: expected `judge.model` in policy `{}`, or --model NAME", policy.name))
    })?;
    let name = arguments.upstream.as_deref().or(settings.upstream.as_deref());
    let found = match name {
        Some(name) => gateway.upstreams.iter().find(|upstream| upstream.name() == name),
        None => gateway.upstreams.first(),
    };
    let upstream = found.ok_or_else(|| {
        let names: Vec<&str> = gateway.upstreams.iter().map(crate::upstream::Upstream::name).collect();
        Failed::Told(format!("unknown upstream `{}`: expected one of {}", name.unwrap_or_default(), names.join(", ")))
    })?;
    if policy.constitution.principles.is_empty() {
        let message =
            format!("policy `{}` has no principles to judge by: write some under `constitution`", policy.name);
        return Err(Failed::Told(message));
    }
    Ok(Judge {
        upstream,
        model,
        policy: &policy.name,
        principles: &policy.constitution.principles,
        rubric: settings.rubric.as_deref(),
        examples: &settings.examples,
        max_tokens: settings.max_tokens,
        metrics: &gateway.metrics,
    })
}

/// In the order of the rows, so many at one time.
async fn compare_all(judge: &Judge<'_>, rows: &[Human], jobs: usize) -> Vec<Result<Verdict, Error>> {
    let bar = progress::bar("judging", rows.len(), "comparisons");
    let comparisons = rows.iter().map(|row| {
        let bar = bar.clone();
        async move {
            let comparison = Comparison { prompt: &row.prompt, first: &row.response_a, second: &row.response_b };
            let verdict = judge.compare(&comparison).await;
            bar.inc(1);
            verdict
        }
    });
    let comparisons: Vec<_> = comparisons.collect();
    let verdicts = stream::iter(comparisons).buffered(jobs).collect().await;
    bar.finish_and_clear();
    verdicts
}

fn line(row: &Human, verdict: &Result<Verdict, Error>) -> Value {
    let people = json!({"label": row.label, "score": row.score(), "source": row.source});
    match verdict {
        Ok(verdict) => json!({
            "people": people,
            "score": verdict.score(),
            "forward": verdict.forward,
            "backward": verdict.backward,
            "contradicts_itself": verdict.contradicts_itself(),
            "lean": verdict.lean(),
            "reasoning": verdict.reasoning,
            "retries": verdict.retries,
        }),
        Err(error) => json!({"people": people, "error": error.to_string()}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_of_people_become_the_judges() {
        let human = |a: f64, b: f64, scale: &str| Human {
            prompt: json!("p"),
            response_a: String::new(),
            response_b: String::new(),
            label: Label::Tie,
            score_a: Some(a),
            score_b: Some(b),
            scale: Some(scale.to_owned()),
            source: None,
        };
        for (a, b, scale, score) in [
            (3.0, 7.0, "gpt-4 1-10", Some(6.6)),
            (0.0, 1.0, "human choice 1/0", Some(9.0)),
            (3.0, 0.0, "human votes 0-3", Some(1.0)),
            (1.0, 1.0, "human votes 0-3", Some(5.0)),
            (1.0, 1.0, "stars", None),
            (1.0, 1.0, "from 3-3", None),
        ] {
            let found = human(a, b, scale).score();
            assert_eq!(
                found.map(|score| (score * 10.0).round()),
                score.map(|score| (score * 10.0_f64).round()),
                "{scale}"
            );
        }
    }
}
