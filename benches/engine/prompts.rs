//! A guarded prompt beside an unguarded one: what it adds to the time to the first token.

use std::time::Duration;

use crate::ask::Client;
use crate::guarded::{GATE, Gateway, UNGUARDED, Upstream};
use crate::statistics::{median, percentile};
use crate::table::{Table, ms};
use crate::texts::{self, Marker};
use crate::upstream::Script;
use crate::{Effort, Result, say};

const PROMPT_BYTES: usize = 420;

pub(crate) fn measure(effort: Effort) -> Result<Vec<Table>> {
    let dir = tempfile::tempdir()?;
    let upstream = Upstream::start(dir.path())?;
    let race = format!("input: race\n{GATE}");
    let mut gateways = Vec::new();
    for (name, policy) in [("unguarded", UNGUARDED), ("gate", GATE), ("race", &race)] {
        say(&format!("prompts: starting {name}"));
        gateways.push((name, Gateway::start(&upstream, dir.path(), name, policy, "", "")?));
    }
    let mut table = Table::new(
        "A prompt of 420 B under two classifier rules: ms to the first token, and what guarding adds (p50 of pairs, p99)",
        &["upstream's own time to the first token", "unguarded", "gate adds", "race adds"],
    );
    for (first_ms, count) in [(0, 60), (50, 40), (300, 16)] {
        say(&format!("prompts: {first_ms} ms"));
        let first = Duration::from_millis(first_ms);
        upstream.set(Script { events: 32, first, gap: Duration::ZERO, hostile_at: None })?;
        let count = if effort.quick { 4 } else { count * effort.repeats };
        let firsts = by_turns(&gateways, count, first_ms)?;
        let added = |at: usize| {
            let mut added: Vec<f64> =
                firsts[at].iter().zip(&firsts[0]).map(|(guarded, plain)| guarded - plain).collect();
            added.sort_by(f64::total_cmp);
            format!("{} / {}", ms(median(added.clone())), ms(Some(percentile(&added, 99))))
        };
        table.row(vec![format!("{first_ms} ms"), ms(median(firsts[0].clone())), added(1), added(2)]);
    }
    Ok(vec![table])
}

/// The same request to each gateway by turns, one at a time: milliseconds to the first token, by gateway.
fn by_turns(gateways: &[(&str, Gateway)], count: usize, seed: u64) -> Result<Vec<Vec<f64>>> {
    let mut clients = gateways.iter().map(|(_, gateway)| gateway.client()).collect::<Result<Vec<Client>>>()?;
    let mut body = texts::request(PROMPT_BYTES, true);
    // Prompts that no run before has sent: the ledger would know them.
    let mut marker = Marker::new(seed + 17);
    let mut firsts = vec![Vec::new(); clients.len()];
    for turn in 0..count + 2 {
        body.refresh(&mut marker);
        for step in 0..clients.len() {
            let at = (turn + step) % clients.len();
            let answer = clients[at].chat(body.bytes())?;
            if answer.status != 200 {
                return Err(format!("{}: {}", gateways[at].0, String::from_utf8_lossy(&answer.body)).into());
            }
            // The first two make connections and warm up.
            if turn >= 2 {
                firsts[at].push(answer.first_ms());
            }
        }
    }
    Ok(firsts)
}
