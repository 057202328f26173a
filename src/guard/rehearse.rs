//! A policy's own tests, put to the guards that would carry it out.

use std::fmt::Write as _;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use tokio::time::timeout;

use super::armed::View;
use super::judge::{self, Finding, Guards};
use super::ledger::Tenant;
use super::occasion::{About, Occasion};
use super::score::ABREAST;
use crate::api::sample;
use crate::policy::{Action, Guard, Probe, Proof, Test};

/// Runs tests under a policy, several at a time, and gives one proof a test. Blocks for `limit` at most; the work is done
/// on a thread of its own, so that it may be called from anywhere. What the guards count is counted: give it guards whose
/// metrics nobody reads.
///
/// # Errors
/// The tests did not end in time, or there was no thread to run them on.
pub fn rehearse(guards: &Guards, view: &View, tests: &[Test], limit: Duration) -> Result<Vec<Proof>, String> {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|error| format!("the async runtime could not be started: {error}"))?;
        runtime.block_on(async {
            let proofs = stream::iter(tests).map(|test| prove(guards, view, test)).buffered(ABREAST).collect();
            let late = |_elapsed| format!("its {} tests did not end within {} ms", tests.len(), limit.as_millis());
            timeout(limit, proofs).await.map_err(late)
        })
    };
    thread::scope(|scope| scope.spawn(run).join().unwrap_or_else(|_panic| Err("a test panicked".to_owned())))
}

async fn prove(guards: &Guards, view: &View, test: &Test) -> Proof {
    let started = Instant::now();
    let failure = match findings(guards, view, test).await {
        Ok(findings) => unmet(view, test, &findings).await,
        Err(reason) => Some(reason),
    };
    Proof { failure, took: started.elapsed() }
}

async fn findings(guards: &Guards, view: &View, test: &Test) -> Result<Vec<Finding>, String> {
    let given = &test.given;
    let about = About {
        sharing: Tenant::SHARED,
        tenant: given.tenant.clone(),
        route: given.route,
        model: given.model.clone(),
        stream: given.stream,
        tools: given.tools.clone(),
    };
    let occasion = Occasion::trial(Arc::clone(view), about);
    match &test.probe {
        Probe::Prompt(messages) => {
            let call = sample::prompt(messages.iter().map(|(origin, said)| (*origin, said.as_str())));
            let call = call.map_err(|error| error.to_string())?;
            guards.input(&occasion, call).await.map(|verdict| verdict.findings).map_err(|failure| failure.to_string())
        }
        Probe::Answer(said) | Probe::ToolCall(said) => {
            let answer = matches!(test.probe, Probe::Answer(_));
            let reply = if answer { sample::answer(said) } else { sample::tool_call(said) };
            let reply = reply.map_err(|error| error.to_string())?;
            guards.output(&occasion, reply).await.map(|verdict| verdict.findings).map_err(|failure| failure.to_string())
        }
    }
}

/// What differs from what the test expects, if anything does.
async fn unmet(view: &View, test: &Test, findings: &[Finding]) -> Option<String> {
    let policy = &view.policy;
    let got = findings.iter().filter_map(|finding| judge::enforced(policy, finding)).max();
    let is = |finding: &Finding, id: &str| policy.rules.get(finding.rule).is_some_and(|rule| rule.id == id);
    let hit = |id: &str| findings.iter().any(|finding| !finding.warning && is(finding, id));
    let missed: Vec<&String> = test.expect.rules.iter().filter(|id| !hit(id)).collect();
    if got == test.expect.action && missed.is_empty() {
        return None;
    }
    let mut told = format!("expected {}", word(test.expect.action));
    if !test.expect.rules.is_empty() {
        let _ = write!(told, " by {}", test.expect.rules.join(", "));
    }
    let _ = write!(told, "; got {}", word(got));
    for finding in findings {
        told.push_str(&by(view, finding));
    }
    for id in missed {
        let _ = write!(told, "; {id} was not hit");
        told.push_str(&nearest(view, test, id).await);
    }
    Some(told)
}

fn word(action: Option<Action>) -> &'static str {
    action.map_or("allow", Action::as_str)
}

/// Which rule was hit, and how hard.
fn by(view: &View, finding: &Finding) -> String {
    let id = view.policy.rules.get(finding.rule).map_or("?", |rule| rule.id.as_str());
    match (finding.score, finding.threshold) {
        (Some(score), Some(threshold)) if finding.warning => {
            format!("; {id} warned: {} scores {score:.3}, warning level {threshold:.3}", finding.label)
        }
        (Some(score), Some(threshold)) => {
            format!("; {id} was hit: {} scores {score:.3}, threshold {threshold:.3}", finding.label)
        }
        _ => format!("; {id} was hit: {}", finding.label),
    }
}

/// How near a classifier's rule came to a hit: for whoever sets its threshold.
async fn nearest(view: &View, test: &Test, id: &str) -> String {
    let rule = view.policy.rules.iter().enumerate().find(|(_, rule)| rule.id == id);
    let Some((index, Guard::Classifier { labels })) = rule.map(|(index, rule)| (index, &rule.guard)) else {
        return String::new();
    };
    let all: Vec<&str> = match &test.probe {
        Probe::Prompt(messages) => messages.iter().map(|(_, said)| said.as_str()).collect(),
        Probe::Answer(said) | Probe::ToolCall(said) => vec![said],
    };
    let mut best: Option<(f32, String)> = None;
    for bound in labels {
        for said in &all {
            let Some(score) = Guards::score(view, index, &bound.name, said).await else { continue };
            if best.as_ref().is_none_or(|(margin, _)| score - bound.threshold > *margin) {
                let told = format!(": {} scores {score:.3}, threshold {:.3}", bound.name, bound.threshold);
                best = Some((score - bound.threshold, told));
            }
        }
    }
    best.map_or_else(String::new, |(_, told)| told)
}
