//! A conversation of fifty turns, each request with all turns before it: what the later ones cost.

use serde_json::json;

use crate::guarded::{GATE, Gateway, Upstream};
use crate::table::{Table, ms};
use crate::{Effort, Result, say, texts};

const SHOWN: [usize; 6] = [1, 2, 10, 20, 35, 50];

pub(crate) fn measure(effort: Effort) -> Result<Vec<Table>> {
    let dir = tempfile::tempdir()?;
    let upstream = Upstream::start(dir.path())?;
    let turns = if effort.quick { 10 } else { 50 };
    let mut table = Table::new(
        "A conversation that is sent anew with each turn: windows scored for the request, and ms until it is answered",
        &["turn", "with the ledger: windows", "ms", "without: windows", "ms"],
    );
    let mut columns = Vec::new();
    // Without the ledger, late turns are more work than the usual second or two allows.
    let patient = GATE.replace("action: block", "timeout: 30s, action: block");
    for (name, bytes) in [("ledger", 64 << 20), ("no-ledger", 0)] {
        say(&format!("conversation: {name}"));
        let more = format!("limits: {{ ledger_bytes: {bytes} }}\n");
        let gateway = Gateway::start(&upstream, dir.path(), name, &patient, "", &more)?;
        columns.push(converse(&gateway, turns)?);
    }
    for turn in SHOWN.into_iter().filter(|turn| *turn <= turns) {
        let cells = columns.iter().flat_map(|column| {
            let (windows, took) = column[turn - 1];
            [format!("{windows:.0}"), ms(Some(took))]
        });
        table.row(std::iter::once(turn.to_string()).chain(cells).collect());
    }
    Ok(vec![table])
}

/// Windows scored and milliseconds, by turn.
fn converse(gateway: &Gateway, turns: usize) -> Result<Vec<(f64, f64)>> {
    let prose = texts::prose(turns * 2 * 320);
    let mut pieces = (0..turns * 2).map(|at| prose[at * 300..at * 300 + 290].trim());
    let mut messages = Vec::new();
    let (mut client, mut figures) = (gateway.client()?, Vec::new());
    let mut before = gateway.scored()?.0;
    for turn in 0..turns {
        messages.push(json!({ "role": "user", "content": format!("{turn}. {}", pieces.next().unwrap_or_default()) }));
        let body = json!({ "model": "gpt-4o-mini", "messages": messages }).to_string();
        let answer = client.chat(body.as_bytes())?;
        if answer.status != 200 {
            return Err(format!("turn {turn}: {}", String::from_utf8_lossy(&answer.body)).into());
        }
        let after = gateway.scored()?.0;
        figures.push((after - before, answer.total.as_secs_f64() * 1e3));
        before = after;
        // What the model is made to have said: the text itself is of no matter.
        messages.push(json!({ "role": "assistant", "content": pieces.next().unwrap_or_default() }));
    }
    Ok(figures)
}
