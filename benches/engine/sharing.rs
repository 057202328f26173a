//! Proxy and inference on the same cores: what the number of workers and spinning do to those who are not judged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::ask::Client;
use crate::guarded::{GATE, Gateway, Upstream};
use crate::scheduler::Scorer;
use crate::statistics::{median, percentile};
use crate::table::{Table, ms};
use crate::texts::{self, Marker};
use crate::{Effort, Result, say};

pub(crate) fn measure(effort: Effort) -> Result<Vec<Table>> {
    Ok(vec![workers(effort)?, spinning(effort)?])
}

/// Eight connections that keep the classifier busy, and one of requests that no rule looks at.
fn workers(effort: Effort) -> Result<Table> {
    let dir = tempfile::tempdir()?;
    let upstream = Upstream::start(dir.path())?;
    let settings = [1_usize, 2, 3];
    let mut gateways = Vec::new();
    for threads in settings {
        say(&format!("sharing: starting with {threads} workers"));
        let name = format!("workers-{threads}");
        gateways.push(Gateway::start(&upstream, dir.path(), &name, GATE, &format!("threads: {threads}"), "")?);
    }
    let mut runs = vec![Vec::new(); gateways.len()];
    for repeat in 0..effort.repeats {
        for step in 0..gateways.len() {
            let at = (repeat + step) % gateways.len();
            say(&format!("sharing: {} workers", settings[at]));
            runs[at].push(together(&gateways[at], effort.seconds.max(1.0), repeat as u64)?);
        }
    }
    let mut table = Table::new(
        "8 connections that are judged, beside one that is not and one that asks for /healthz, by `classifier.threads`",
        &["threads", "judged, requests/s", "not judged: p50 / p99, ms", "/healthz: p50 / p99, ms"],
    );
    for (threads, runs) in settings.iter().zip(&runs) {
        let of = |figure: fn(&Together) -> f64| median(runs.iter().map(figure).collect());
        table.row(vec![
            threads.to_string(),
            format!("{:.0}", of(|run| run.judged).unwrap_or_default()),
            format!("{} / {}", ms(of(|run| run.plain[0])), ms(of(|run| run.plain[1]))),
            format!("{} / {}", ms(of(|run| run.health[0])), ms(of(|run| run.health[1]))),
        ]);
    }
    Ok(table)
}

#[derive(Clone)]
struct Together {
    judged: f64,
    plain: [f64; 2],
    health: [f64; 2],
}

fn together(gateway: &Gateway, seconds: f64, seed: u64) -> Result<Together> {
    let over = AtomicBool::new(false);
    let started = Instant::now();
    thread::scope(|scope| {
        let judged: Vec<_> = (0..8)
            .map(|at| {
                let mut marker = Marker::new(seed * 64 + at + 5);
                let over = &over;
                scope.spawn(move || {
                    until(over, gateway.client()?, Duration::ZERO, |client| {
                        let mut body = texts::request(420, false);
                        body.refresh(&mut marker);
                        Ok(client.chat(body.bytes())?.status)
                    })
                })
            })
            .collect();
        let plain = scope.spawn(|| {
            let body =
                String::from_utf8(texts::request(420, false).bytes().to_vec())?.replace("gpt-4o-mini", "unguarded");
            until(&over, gateway.client()?, PAUSE, |client| Ok(client.chat(body.as_bytes())?.status))
        });
        let health = scope.spawn(|| {
            until(&over, Client::connect(gateway.admin)?, PAUSE, |client| Ok(client.get("/healthz")?.status))
        });
        thread::sleep(Duration::from_secs_f64(seconds));
        over.store(true, Ordering::Relaxed);
        let mut count = 0;
        for caller in judged {
            count += caller.join().map_err(|_| "a caller panicked")??.len();
        }
        let elapsed = started.elapsed().as_secs_f64();
        let both = |times: Vec<f64>| [percentile(&times, 50), percentile(&times, 99)];
        let plain = both(plain.join().map_err(|_| "a caller panicked")??);
        let health = both(health.join().map_err(|_| "a caller panicked")??);
        Ok(Together { judged: count as f64 / elapsed, plain, health })
    })
}

/// Between two requests that nobody judges.
const PAUSE: Duration = Duration::from_millis(5);

/// Milliseconds of each exchange until it is over, sorted.
fn until(
    over: &AtomicBool,
    mut client: Client,
    pause: Duration,
    mut exchange: impl FnMut(&mut Client) -> Result<u16>,
) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let started = Instant::now();
        match exchange(&mut client)? {
            200 => times.push(started.elapsed().as_secs_f64() * 1e3),
            429 => thread::sleep(Duration::from_millis(50)),
            status => return Err(format!("status {status}").into()),
        }
        thread::sleep(pause);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// One caller who asks every now and then: what a text costs with threads that spin and with threads that sleep.
fn spinning(effort: Effort) -> Result<Table> {
    let dir = tempfile::tempdir()?;
    let layouts = ["1x1", "1x2", "1x2+spin", "scheduler"];
    let mut scorers = Vec::new();
    for layout in layouts {
        scorers.push(Scorer::start(layout, dir.path())?);
    }
    let mut runs = vec![Vec::new(); layouts.len()];
    for repeat in 0..effort.repeats {
        for step in 0..layouts.len() {
            let at = (repeat + step) % layouts.len();
            say(&format!("sharing: {} every now and then", layouts[at]));
            runs[at].push(scorers[at].run(1, effort.seconds.max(1.0), 20_000)?);
        }
    }
    let mut table = Table::new(
        "One caller who pauses 20 ms after each text (bare: sessions x threads)",
        &["layout", "p50, ms", "p99, ms", "CPU time a text, ms"],
    );
    for (layout, runs) in layouts.iter().zip(&runs) {
        let of = |figure: fn(&crate::scorer::Figures) -> f64| ms(median(runs.iter().map(figure).collect()));
        table.row(vec![(*layout).to_owned(), of(|run| run.p50), of(|run| run.p99), of(|run| run.cpu_ms)]);
    }
    Ok(table)
}
