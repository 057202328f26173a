//! Long answers: how much is scored for a token that streams, what holding it back costs, and whether anything leaves
//! before its verdict.

use std::time::Duration;

use tokenizers::Tokenizer;

use crate::ask::Answer;
use crate::guarded::{ANSWERS, Gateway, UNGUARDED, Upstream};
use crate::statistics::{median, percentile};
use crate::table::{Table, ms};
use crate::texts::{self, Marker, THREAT};
use crate::upstream::Script;
use crate::{Effort, Result, repository, say};

pub(crate) fn measure(effort: Effort) -> Result<Vec<Table>> {
    let dir = tempfile::tempdir()?;
    let upstream = Upstream::start(dir.path())?;
    let plain = Gateway::start(&upstream, dir.path(), "unguarded", UNGUARDED, "", "")?;
    let guarded = Gateway::start(&upstream, dir.path(), "guarded", ANSWERS, "", "")?;
    Ok(vec![
        work(&upstream, &guarded, effort)?,
        pace(&upstream, &plain, &guarded, effort)?,
        leaks(&upstream, &guarded, effort)?,
    ])
}

fn ask(gateway: &Gateway, marker: &mut Marker) -> Result<Answer> {
    let mut body = texts::request(200, true);
    body.refresh(marker);
    gateway.client()?.chat(body.bytes())
}

/// Streams of growing length, as fast as they are taken.
fn work(upstream: &Upstream, guarded: &Gateway, effort: Effort) -> Result<Table> {
    let mut tokenizer = Tokenizer::from_file(repository().join("models/guard/tokenizer.json"))?;
    tokenizer.with_truncation(None)?;
    tokenizer.with_padding(None);
    let mut table = Table::new(
        "A stream under one classifier rule, sent at once: tokens scored for each of its own",
        &["tokens in the stream", "windows", "tokens scored", "scored for each", "ms of inference for each"],
    );
    let lengths: &[usize] = if effort.quick { &[500, 1000] } else { &[2_000, 4_000, 8_000, 16_000] };
    for events in lengths {
        say(&format!("stream: {events} events"));
        upstream.set(Script { events: *events, first: Duration::ZERO, gap: Duration::ZERO, hostile_at: None })?;
        let busy = "wardline_classifier_inference_duration_seconds_sum";
        let (before, worked) = (guarded.scored()?, guarded.metric(busy, &[])?);
        let answer = ask(guarded, &mut Marker::new(*events as u64))?;
        let (after, worked) = (guarded.scored()?, guarded.metric(busy, &[])? - worked);
        let tokens = tokenizer.encode_fast(answer.streamed_text(), false)?.len() as f64;
        let scored = after.1 - before.1;
        table.row(vec![
            format!("{tokens:.0}"),
            format!("{:.0}", after.0 - before.0),
            format!("{scored:.0}"),
            format!("{:.2}", scored / tokens),
            format!("{:.3}", worked * 1e3 / tokens),
        ]);
    }
    Ok(table)
}

/// A stream at the pace of a model.
fn pace(upstream: &Upstream, plain: &Gateway, guarded: &Gateway, effort: Effort) -> Result<Table> {
    let mut table = Table::new(
        "A stream of 400 words after 100 ms, one each 10 ms (p50 of the streams)",
        &["", "first token, ms", "gap p50", "gap p99", "whole, ms"],
    );
    let script =
        Script { events: 400, first: Duration::from_millis(100), gap: Duration::from_millis(10), hostile_at: None };
    upstream.set(script)?;
    let mut streams = [Vec::new(), Vec::new()];
    let mut marker = Marker::new(99);
    for _ in 0..if effort.quick { 1 } else { effort.repeats } {
        for (gateway, streams) in [plain, guarded].into_iter().zip(&mut streams) {
            say("stream: at a model's pace");
            streams.push(ask(gateway, &mut marker)?);
        }
    }
    for (name, streams) in ["unguarded", "guarded"].into_iter().zip(&streams) {
        let of = |figure: &dyn Fn(&Answer) -> f64| ms(median(streams.iter().map(figure).collect()));
        let gap = |percent: usize| {
            of(&|answer: &Answer| {
                let mut gaps: Vec<f64> = answer.gaps_ms().collect();
                gaps.sort_by(f64::total_cmp);
                percentile(&gaps, percent)
            })
        };
        let whole = of(&|answer: &Answer| answer.total.as_secs_f64() * 1e3);
        table.row(vec![name.to_owned(), of(&Answer::first_ms), gap(50), gap(99), whole]);
    }
    Ok(table)
}

/// A threat at many places of a stream: what the client gets of it.
fn leaks(upstream: &Upstream, guarded: &Gateway, effort: Effort) -> Result<Table> {
    let mut table = Table::new(
        "A threat in a stream of 600 words, at a different word each time",
        &["streams", "ended by the rule", "bytes of the threat that came through"],
    );
    let (mut streams, mut ended, mut leaked) = (0, 0, 0);
    for at in (0..600).step_by(if effort.quick { 150 } else { 23 }) {
        upstream.set(Script { events: 600, first: Duration::ZERO, gap: Duration::ZERO, hostile_at: Some(at) })?;
        let text = ask(guarded, &mut Marker::new(at as u64 + 7))?;
        streams += 1;
        ended += usize::from(memchr::memmem::find(&text.body, br#""content_filter""#).is_some());
        leaked += leaked_of(&text.streamed_text());
    }
    table.row(vec![streams.to_string(), ended.to_string(), leaked.to_string()]);
    Ok(table)
}

/// Bytes of the longest beginning of the threat's words, from the second on, that stand at the end of a text, or
/// all of it: its first word alone is no threat, and may stand anywhere.
fn leaked_of(text: &str) -> usize {
    if text.contains(THREAT.trim_end()) {
        return THREAT.len();
    }
    (8..THREAT.len()).rev().find(|length| text.ends_with(&THREAT[..*length])).unwrap_or(0)
}
