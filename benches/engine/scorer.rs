//! A process that scores texts in one layout, whenever it is told to, and says how that went.
//!
//! ONNX Runtime's environment is one a process, and so are its arenas: each layout has a process of its own, which sleeps
//! while the others run. A line on standard input is one run, `callers seconds pause_us`; a line of JSON is the answer.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use wardline::classify::{Classifier, Config};
use wardline::telemetry::Metrics;

use crate::bare::{Bare, Layout};
use crate::procfs::Tree;
use crate::statistics::percentile;
use crate::{Result, repository, traffic};

/// How a run went.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Texts in a second.
    pub(crate) rate: f64,
    /// Milliseconds that a caller waited for a text.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// CPU time of the process for one text, in milliseconds.
    pub(crate) cpu_ms: f64,
}

/// What scores.
enum Means {
    Bare(Arc<Bare>),
    Scheduler(Classifier, Runtime),
}

/// Does what standard input says until it ends. `layout` is `scheduler`, or of bare sessions `2x1`, `1x2+spin`.
pub(crate) fn obey(layout: &str) -> Result<()> {
    let means = Means::load(layout)?;
    let texts: Arc<[Arc<str>]> = traffic::mixed().into_iter().map(Arc::from).collect();
    means.run(&texts, 2, Duration::from_millis(300), Duration::ZERO)?;
    writeln!(std::io::stdout(), "ready")?;
    for line in std::io::stdin().lines() {
        let line = line?;
        let mut words = line.split(' ');
        let mut number = || words.next().and_then(|word| word.parse::<f64>().ok()).ok_or("expected three numbers");
        let (callers, seconds, pause_us) = (number()?, number()?, number()?);
        let pause = Duration::from_secs_f64(pause_us / 1e6);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of callers")]
        let figures = means.run(&texts, callers as usize, Duration::from_secs_f64(seconds), pause)?;
        writeln!(std::io::stdout(), "{}", serde_json::to_string(&figures)?)?;
    }
    Ok(())
}

impl Means {
    fn load(layout: &str) -> Result<Means> {
        if layout != "scheduler" {
            let layout = Layout::parse(layout).ok_or_else(|| format!("no layout: {layout}"))?;
            return Ok(Means::Bare(Arc::new(Bare::load(layout)?)));
        }
        let config = Config { dir: repository().join("models/guard"), ..Config::default() };
        let classifier = Classifier::load(&config, &Metrics::new()?)?;
        Ok(Means::Scheduler(classifier, tokio::runtime::Builder::new_multi_thread().enable_all().build()?))
    }

    /// A closed loop: each caller asks for the next text when it has the last one's scores, and has paused.
    fn run(&self, texts: &Arc<[Arc<str>]>, callers: usize, length: Duration, pause: Duration) -> Result<Figures> {
        let (next, started) = (Arc::new(AtomicUsize::new(0)), Instant::now());
        let before = Tree::of(std::process::id())?.cpu();
        let mut waited: Vec<f64> = match self {
            Means::Bare(bare) => {
                let caller = |_| {
                    let (bare, texts, next) = (Arc::clone(bare), Arc::clone(texts), Arc::clone(&next));
                    thread::spawn(move || {
                        let mut waited = Vec::new();
                        while started.elapsed() < length {
                            let asked = Instant::now();
                            bare.score(&texts[next.fetch_add(1, Ordering::Relaxed) % texts.len()])?;
                            waited.push(asked.elapsed().as_secs_f64() * 1e3);
                            thread::sleep(pause);
                        }
                        Result::Ok(waited)
                    })
                };
                let callers: Vec<_> = (0..callers).map(caller).collect();
                let all: Result<Vec<_>> =
                    callers.into_iter().map(|caller| caller.join().map_err(|_| "a caller panicked")?).collect();
                all?.concat()
            }
            Means::Scheduler(classifier, runtime) => runtime.block_on(async {
                let mut all = tokio::task::JoinSet::new();
                for _ in 0..callers {
                    let (classifier, texts, next) = (classifier.clone(), Arc::clone(texts), Arc::clone(&next));
                    all.spawn(async move {
                        let mut waited = Vec::new();
                        while started.elapsed() < length {
                            let asked = Instant::now();
                            let text = &texts[next.fetch_add(1, Ordering::Relaxed) % texts.len()];
                            classifier.score(Arc::clone(text)).await?;
                            waited.push(asked.elapsed().as_secs_f64() * 1e3);
                            if !pause.is_zero() {
                                tokio::time::sleep(pause).await;
                            }
                        }
                        Result::Ok(waited)
                    });
                }
                all.join_all().await.into_iter().collect::<Result<Vec<_>>>().map(|all| all.concat())
            })?,
        };
        // Callers are threads that end with the run.
        let cpu = Tree::of(std::process::id())?.cpu().with_the_ended(&before) as f64 / 1e6;
        let rate = waited.len() as f64 / started.elapsed().as_secs_f64();
        waited.sort_by(f64::total_cmp);
        let cpu_ms = cpu / waited.len().max(1) as f64;
        Ok(Figures { rate, p50: percentile(&waited, 50), p99: percentile(&waited, 99), cpu_ms })
    }
}
