//! Policy file -> [`Policy`]: everything that types alone cannot say, each mistake with its place.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use serde_saphyr::Location;

use super::checked::{
    CompareSettings, Constitution, JudgeExample, JudgeSettings, Known, OnError, OnStream, PairSettings, Policy,
    Respond, ReviseSettings, ReviseWhen, Rule, StreamSettings,
};
use super::constitution;
use super::embedded::{self, Test};
use super::inherit::{Gathered, gather};
use super::render::one_line;
use super::rollout::{self, Plan};
use super::rules::Rules;
use super::schema;
use crate::yaml::{Composed, Problem, Source, Spanned, expected};

/// What a file without a mistake comes to.
pub(super) struct Compiled {
    pub(super) policy: Policy,
    /// Each with its place.
    pub(super) tests: Vec<(Location, Test)>,
    /// With the place of the policy that it names.
    pub(super) rollout: Option<(Location, Plan)>,
    /// What the file was put together from, if it builds on another.
    pub(super) composed: Option<Composed>,
}

/// Checks one file against what is known. All mistakes that can be told apart are told at once.
pub(super) fn compile(path: &Path, text: &str, known: &Known) -> Result<Compiled, Vec<Problem>> {
    let Gathered { file, composed } = gather(path, text)?;
    let source = composed.as_ref().map_or(Source::of(path, text), Source::composed);
    let mut found = Vec::new();
    let name = keep(name(source, file.name.as_ref()), &mut found);
    let constitution = constitution::check(source, file.constitution.as_ref(), &mut found);
    let rules = rules(source, file.rules.as_deref(), &constitution, known, &mut found);
    let respond = keep(respond(source, file.respond), &mut found);
    let stream = keep(stream(source, &file.stream), &mut found);
    let principled = !constitution.principles.is_empty();
    let revise = keep(revise(source, &file.revise, (known, principled)), &mut found);
    let judged = principled && file.judge.model.is_some();
    let pairs = keep(pairs(source, &file.pairs, (known, judged)), &mut found);
    let judge = keep(judge(source, &file.judge, known), &mut found);
    // Which rules there are is known for sure only when each of them is sound.
    let tests =
        if found.is_empty() { tests(source, &file.tests, (&rules, &known.tenants), &mut found) } else { Vec::new() };
    let rollout = file.rollout.as_ref().map(|written| rollout::check(source, name.as_deref(), written)).transpose();
    let rollout = keep(rollout, &mut found).flatten();
    let (Some(name), Some(respond), Some(stream), Some(revise), Some(pairs), Some(judge), true) =
        (name, respond, stream, revise, pairs, judge, found.is_empty())
    else {
        return Err(found);
    };
    let stored_state = file.stored_state.into_iter().map(Spanned::into_value).collect();
    let models = file.models.into_iter().map(Spanned::into_value).collect();
    let (description, inject, input) = (one_line(&file.description), file.inject.role, file.input);
    let revision = String::new();
    let policy = Policy {
        name,
        revision,
        description,
        constitution,
        inject,
        input,
        rules,
        respond,
        stream,
        revise,
        pairs,
        judge,
        stored_state,
        models,
    };
    let sealed = policy.sealed().map_err(|error| vec![source.problem(Location::UNKNOWN, error.to_string())])?;
    Ok(Compiled { policy: sealed, tests, rollout, composed })
}

impl Source<'_> {
    /// Names stand in metrics, headers and logs, so that they are kept plain.
    pub(super) fn word(&self, written: &Spanned<String>) -> Result<String, Problem> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let starts_well = written.value.starts_with(|c: char| c.is_ascii_alphanumeric());
        if starts_well && written.value.len() <= 64 && written.value.chars().all(plain) {
            return Ok(written.value.clone());
        }
        let message = format!(
            "`{}` is no name: expected up to 64 letters, digits, `-`, `_` or `.`, starting with a letter or digit",
            written.value
        );
        Err(self.problem(written.referenced, message))
    }

    /// Refuses the second of two that are called the same.
    pub(super) fn unique<'n>(
        &self,
        what: &str,
        names: impl IntoIterator<Item = &'n Spanned<String>>,
    ) -> Result<(), Problem> {
        let mut seen: Vec<&Spanned<String>> = Vec::new();
        for name in names {
            if let Some(first) = seen.iter().find(|first| first.value == name.value) {
                let (_, line) = self.written_at(first.referenced);
                let message = format!("{what} `{}` is already on line {line}", name.value);
                return Err(self.problem(name.referenced, message));
            }
            seen.push(name);
        }
        Ok(())
    }

    /// A text that says something.
    pub(super) fn said(&self, written: &Spanned<String>) -> Result<String, Problem> {
        let text = one_line(&written.value);
        if text.is_empty() { Err(self.problem(written.referenced, "expected a text, found blanks")) } else { Ok(text) }
    }

    /// A duration with its unit; above zero and at most ten minutes.
    pub(super) fn duration(&self, written: Option<&Spanned<String>>, unwritten: Duration) -> Result<Duration, Problem> {
        let Some(written) = written else { return Ok(unwritten) };
        let Some(duration) = parsed_duration(&written.value) else {
            let message = format!("expected a duration such as `400ms`, `2s` or `1m`, found `{}`", written.value);
            return Err(self.problem(written.referenced, message));
        };
        if duration.is_zero() || duration > Duration::from_mins(10) {
            let message = format!("expected a duration above zero and up to 10m, found `{}`", written.value);
            return Err(self.problem(written.referenced, message));
        }
        Ok(duration)
    }

    /// A number in a range, both ends included.
    pub(super) fn within<N: PartialOrd + Display + Copy>(
        &self,
        written: Option<&Spanned<N>>,
        unwritten: N,
        (least, most): (N, N),
    ) -> Result<N, Problem> {
        match written {
            None => Ok(unwritten),
            Some(written) if written.value >= least && written.value <= most => Ok(written.value),
            Some(written) => {
                let message = format!("expected a number from {least} to {most}, found {}", written.value);
                Err(self.problem(written.referenced, message))
            }
        }
    }
}

/// The name is the file's: two sources of one name could only disagree.
fn name(source: Source<'_>, written: Option<&Spanned<String>>) -> Result<String, Problem> {
    let stem = source.path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    match written {
        Some(written) if written.value != stem => {
            let message = format!(
                "the policy in {stem}.yaml is called `{stem}`, not `{}` (rename the file, or leave `name` out)",
                written.value
            );
            Err(source.problem(written.referenced, message))
        }
        Some(written) => source.word(written),
        None => source.word(&Spanned::unwritten(stem)),
    }
}

fn rules(
    source: Source<'_>,
    written: Option<&[Spanned<schema::Rule>]>,
    constitution: &Constitution,
    known: &Known,
    found: &mut Vec<Problem>,
) -> Vec<Rule> {
    let Some(written) = written else {
        let message = "missing field `rules` (write `rules: []` for a policy without guards)";
        let message = if source.is_empty() { "the file is empty" } else { message };
        found.push(source.problem(Location::UNKNOWN, message));
        return Vec::new();
    };
    keep(source.unique("rule", written.iter().map(|rule| &rule.value.id)), found);
    let rules = Rules { source, known, principles: &constitution.principles };
    written.iter().filter_map(|rule| keep(rules.check(&rule.value), found)).collect()
}

fn tests(
    source: Source<'_>,
    written: &[Spanned<embedded::Written>],
    (rules, tenants): (&[Rule], &[String]),
    found: &mut Vec<Problem>,
) -> Vec<(Location, Test)> {
    keep(source.unique("test", written.iter().map(|test| &test.value.name)), found);
    let checked =
        |test: &Spanned<embedded::Written>| Ok((test.referenced, embedded::check(source, test, rules, tenants)?));
    written.iter().filter_map(|test| keep(checked(test), found)).collect()
}

fn respond(source: Source<'_>, written: schema::Respond) -> Result<Respond, Problem> {
    let schema::Respond { on_input_block, on_output_block, on_replayed_block, message, disclose, annotate } = written;
    let message = match message {
        Some(message) => source.said(&message)?,
        None => "This was blocked by the content policy of this service.".to_owned(),
    };
    Ok(Respond { on_input_block, on_output_block, on_replayed_block, message, disclose, annotate })
}

/// By default a first window of a sentence or so, then about a hundred tokens at a time, and more while all is quiet.
fn stream(source: Source<'_>, written: &schema::Stream) -> Result<StreamSettings, Problem> {
    let window_chars = source.within(written.window_chars.as_ref(), 480, (16, 65_536))?;
    let first_window_chars =
        source.within(written.first_window_chars.as_ref(), window_chars.min(120), (1, window_chars))?;
    let max_window_chars = source.within(
        written.max_window_chars.as_ref(),
        window_chars.saturating_mul(3).min(65_536),
        (window_chars, 65_536),
    )?;
    let prompt_chars = source.within(written.prompt_chars.as_ref(), 0, (0, 4_096))?;
    let overlap_chars = source.within(written.overlap_chars.as_ref(), window_chars.min(240), (0, window_chars))?;
    let hold = source.duration(written.hold.as_ref(), Duration::from_millis(400))?;
    Ok(StreamSettings { first_window_chars, window_chars, max_window_chars, prompt_chars, overlap_chars, hold })
}

fn revise(
    source: Source<'_>,
    written: &schema::Revise,
    (known, principled): (&Known, bool),
) -> Result<ReviseSettings, Problem> {
    let when = written.when.as_ref().map_or(ReviseWhen::Violation, |when| when.value);
    if let (Some(place), ReviseWhen::Always) = (&written.when, when) {
        if !principled {
            let message = "`always` needs principles to criticise by: write some under `constitution`";
            return Err(source.problem(place.referenced, message));
        }
        if written.on_stream != OnStream::Hold {
            let message = "`always` needs `on_stream: hold`: what was released before its critique cannot be revised";
            return Err(source.problem(place.referenced, message));
        }
    }
    if let (Some(place), ReviseWhen::Violation) = (&written.on_error, when) {
        let message = "only with `when: always`: an answer that a rule objects to is refused when it cannot be revised";
        return Err(source.problem(place.referenced, message));
    }
    let rounds = source.within(written.rounds.as_ref(), 1, (1, 16))?;
    let (upstream, model) = another(source, written.upstream.as_ref(), written.model.as_ref(), known)?;
    let timeout = source.duration(written.timeout.as_ref(), Duration::from_secs(30))?;
    let max_tokens = source.within(written.max_tokens.as_ref(), 4096, (16, 1 << 20))?;
    let shadow = source.within(written.shadow.as_ref(), 0.0, (0.0, 1.0))?;
    let on_error = written.on_error.as_ref().map_or(OnError::Closed, |on_error| on_error.value);
    let on_stream = written.on_stream;
    Ok(ReviseSettings { rounds, upstream, model, when, on_error, on_stream, shadow, timeout, max_tokens })
}

fn named_upstream(source: Source<'_>, written: &Spanned<String>, known: &Known) -> Result<String, Problem> {
    let names = || known.upstreams.iter().map(String::as_str);
    if names().any(|name| name == written.value) {
        return Ok(written.value.clone());
    }
    let told = expected("upstream with a key of its own", &written.value, names());
    Err(source.problem(written.referenced, format!("unknown upstream `{}`, {told}", written.value)))
}

/// Upstream and model in place of those that answered.
fn another(
    source: Source<'_>,
    upstream: Option<&Spanned<String>>,
    model: Option<&Spanned<String>>,
    known: &Known,
) -> Result<(Option<String>, Option<String>), Problem> {
    let named = upstream.map(|upstream| named_upstream(source, upstream, known)).transpose()?;
    let model = model.map(|model| source.said(model)).transpose()?;
    match (upstream, &model) {
        (Some(upstream), None) => {
            let message = "another upstream needs a `model`: the one that answered need not be known there";
            Err(source.problem(upstream.referenced, message))
        }
        _ => Ok((named, model)),
    }
}

fn compare(
    source: Source<'_>,
    written: &schema::Compare,
    (known, judged): (&Known, bool),
) -> Result<CompareSettings, Problem> {
    let rate = source.within(written.rate.as_ref(), 0.0, (0.0, 1.0))?;
    if let Some(place) = written.rate.as_ref().filter(|_| rate > 0.0 && !judged) {
        let message = "nobody judges: expected `judge.model`, and principles to judge by under `constitution`";
        return Err(source.problem(place.referenced, message));
    }
    let (upstream, model) = another(source, written.upstream.as_ref(), written.model.as_ref(), known)?;
    let timeout = source.duration(written.timeout.as_ref(), Duration::from_mins(1))?;
    let max_tokens = source.within(written.max_tokens.as_ref(), 1024, (16, 1 << 20))?;
    Ok(CompareSettings { rate, upstream, model, timeout, max_tokens })
}

fn pairs(
    source: Source<'_>,
    written: &schema::Pairs,
    (known, judged): (&Known, bool),
) -> Result<PairSettings, Problem> {
    let rate = source.within(written.rate.as_ref(), 1.0, (0.0, 1.0))?;
    let cap =
        |cap: &Option<Spanned<u32>>| cap.as_ref().map(|cap| source.within(Some(cap), 1, (1, u32::MAX))).transpose();
    Ok(PairSettings {
        rate,
        per_principle_per_day: cap(&written.per_principle_per_day)?,
        per_user_per_day: cap(&written.per_user_per_day)?,
        per_client_per_day: cap(&written.per_client_per_day)?,
        feedback: source.within(written.feedback.as_ref(), 0.0, (0.0, 1.0))?,
        compare: compare(source, &written.compare, (known, judged))?,
        consent: written.consent,
        prompt: written.prompt,
    })
}

fn judge(source: Source<'_>, written: &schema::Judge, known: &Known) -> Result<JudgeSettings, Problem> {
    let upstream = written.upstream.as_ref().map(|upstream| named_upstream(source, upstream, known)).transpose()?;
    let model = written.model.as_ref().map(|model| source.said(model)).transpose()?;
    let rubric = written.rubric.as_ref().map(|rubric| source.said(rubric)).transpose()?;
    let max_tokens = source.within(written.max_tokens.as_ref(), 512, (16, 1 << 16))?;
    let example = |written: &schema::JudgeExample| {
        Ok(JudgeExample {
            prompt: source.said(&written.prompt)?,
            first: source.said(&written.first)?,
            second: source.said(&written.second)?,
            reasoning: source.said(&written.reasoning)?,
            score: source.within(Some(&written.score), 5, (1, 9))?,
        })
    };
    let examples = written.examples.iter().map(example).collect::<Result<_, Problem>>()?;
    Ok(JudgeSettings { upstream, model, rubric, max_tokens, examples })
}

fn keep<T>(checked: Result<T, Problem>, found: &mut Vec<Problem>) -> Option<T> {
    checked.map_err(|problem| found.push(problem)).ok()
}

fn parsed_duration(written: &str) -> Option<Duration> {
    let end = written.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let number: f64 = written[..end].parse().ok()?;
    let seconds = match &written[end..] {
        "ms" => number / 1000.0,
        "s" => number,
        "m" => number * 60.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds).ok()
}
