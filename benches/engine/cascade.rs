//! The cheap first stage: CPU time for ordinary and for hostile prompts, with it and without. What it misses is
//! `wardline eval`'s to say.

use serde_json::json;

use crate::guarded::{GATE, Gateway, Upstream};
use crate::statistics::median;
use crate::table::Table;
use crate::traffic::{HOSTILE, ORDINARY};
use crate::{Effort, Result, say};

pub(crate) fn measure(effort: Effort) -> Result<Vec<Table>> {
    let dir = tempfile::tempdir()?;
    let upstream = Upstream::start(dir.path())?;
    let mut gateways = Vec::new();
    for mode in ["off", "on", "audit"] {
        say(&format!("cascade: starting {mode}"));
        let more = "limits: { ledger_bytes: 0 }\n";
        gateways.push((mode, Gateway::start(&upstream, dir.path(), mode, GATE, &format!("cascade: {mode}"), more)?));
    }
    let mut table = Table::new(
        "CPU time of the gateway for a prompt, in ms, by `classifier.cascade`",
        &["prompts", "off", "on", "audit", "on / off", "cleared with `on`", "blocked: off, on"],
    );
    for (name, prompts) in [("ordinary", &ORDINARY[..]), ("hostile", &HOSTILE[..])] {
        let mut costs = vec![Vec::new(); gateways.len()];
        let mut blocked = vec![0; gateways.len()];
        let cleared = |gateway: &Gateway, outcome: &str| gateway.metric("wardline_cascade_texts_total", &[outcome]);
        let before = [cleared(&gateways[1].1, "cleared")?, cleared(&gateways[1].1, "full")?];
        for repeat in 0..effort.repeats.max(2) {
            say(&format!("cascade: {name}"));
            for step in 0..gateways.len() {
                let at = (repeat + step) % gateways.len();
                let (cost, hits) = cost(&gateways[at].1, prompts)?;
                costs[at].push(cost);
                blocked[at] = hits;
            }
        }
        let cleared = cleared(&gateways[1].1, "cleared")? - before[0];
        let full = full_of(&gateways[1].1)? - before[1];
        let of = |at: usize| median(costs[at].clone()).unwrap_or(f64::NAN);
        let ratio = median(costs[1].iter().zip(&costs[0]).map(|(on, off)| on / off).collect()).unwrap_or(f64::NAN);
        table.row(vec![
            format!("{} {name}", prompts.len()),
            format!("{:.1}", of(0)),
            format!("{:.1}", of(1)),
            format!("{:.1}", of(2)),
            format!("{ratio:.2}"),
            format!("{:.0} %", 100.0 * cleared / (cleared + full)),
            format!("{}, {}", blocked[0], blocked[1]),
        ]);
    }
    Ok(vec![table])
}

fn full_of(gateway: &Gateway) -> Result<f64> {
    gateway.metric("wardline_cascade_texts_total", &["full"])
}

/// Milliseconds of CPU time for one of the prompts, and how many of them were blocked.
fn cost(gateway: &Gateway, prompts: &[&str]) -> Result<(f64, usize)> {
    let mut client = gateway.client()?;
    let (before, mut blocked) = (gateway.cpu()?, 0);
    for prompt in prompts {
        let body = json!({ "model": "gpt-4o-mini", "messages": [{ "role": "user", "content": prompt }] }).to_string();
        blocked += usize::from(client.chat(body.as_bytes())?.status == 400);
    }
    let cost = gateway.cpu()?.since(&before) as f64 / 1e6 / prompts.len() as f64;
    Ok((cost, blocked))
}
