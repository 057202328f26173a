//! A classifier whose verdicts a test can foresee: it knows a few words.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};

use wardline::classify::{Backend, BackendError, Classifier, Config, Frame, Label};
use wardline::telemetry::Metrics;

/// Words with a meaning, by token.
const WORDS: &[&str] =
    &["override", "worthless", "boom", "nan", "fail", "threat", "hold", "lost", "narrow", "rowless", "outside"];

/// What texts with "hold" wait at.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    /// Lets everybody through from now on.
    pub(crate) fn open(&self) {
        self.state.lock().unwrap().0 = true;
        self.changed.notify_all();
    }

    /// How many have come to it.
    pub(crate) fn came(&self) -> usize {
        self.state.lock().unwrap().1
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        while !state.0 {
            state = self.changed.wait(state).unwrap();
        }
    }
}

struct Scripted {
    gate: Arc<Gate>,
}

/// Three labels: `prompt_attack.attack` on "override", `harm.harassment` on "worthless", `harm.hate` never. "boom"
/// panics, "nan" scores not-a-number, "fail" is a backend error. "threat" is harassment among at most ten words, and
/// lost among more, as real models lose a short harm in much harmless text. "hold" waits until the gate is opened. "lost"
/// is what a GPU says that is gone; "narrow" gives a score too few, "rowless" no row, "outside" no probabilities.
pub(crate) fn scripted(metrics: &Metrics, gate: &Arc<Gate>, places: usize) -> Classifier {
    let label = |head: &str, name: &str| Label {
        head: head.to_owned(),
        name: name.to_owned(),
        thresholds: BTreeMap::from([("fpr_0.5".to_owned(), 0.5)]),
    };
    let labels = vec![label("prompt_attack", "attack"), label("harm", "harassment"), label("harm", "hate")];
    let scripted = || Box::new(Scripted { gate: Arc::clone(gate) });
    let backends: Vec<Box<dyn Backend>> = vec![scripted(), scripted()];
    let config = Config { max_concurrent_requests: places, ..Config::default() };
    Classifier::with_backends(backends, labels, &config, metrics).unwrap()
}

impl Backend for Scripted {
    fn tokenize(&self, text: &str) -> Result<Vec<u32>, BackendError> {
        let token = |word: &str| {
            let word = word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
            WORDS.iter().position(|known| *known == word).map_or(99, |at| u32::try_from(at).unwrap())
        };
        Ok(text
            .split(|c: char| c.is_whitespace() || "\"{}[]:,".contains(c))
            .filter(|w| !w.is_empty())
            .map(token)
            .collect())
    }

    fn frame(&self) -> Frame {
        Frame { tokens: 16, stride: 10, first: 1000, last: 1001 }
    }

    fn infer(&mut self, windows: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, BackendError> {
        let rowless = |window: &Vec<u32>| window.iter().any(|token| WORDS.get(*token as usize) == Some(&"rowless"));
        windows
            .iter()
            .filter(|window| !rowless(window))
            .map(|window| {
                let has = |word: &str| {
                    window.iter().any(|token| WORDS.get(*token as usize).is_some_and(|known| *known == word))
                };
                if has("hold") {
                    self.gate.pass();
                }
                assert!(!has("boom"), "a scripted panic");
                if has("fail") {
                    return Err(BackendError("a scripted failure".to_owned()));
                }
                let score = |hit: bool| {
                    if has("nan") {
                        f32::NAN
                    } else if hit {
                        0.9
                    } else {
                        0.1
                    }
                };
                if has("lost") {
                    return Err(BackendError("CUDA failure 719: unspecified launch failure".to_owned()));
                }
                if has("narrow") {
                    return Ok(vec![0.1]);
                }
                if has("outside") {
                    return Ok(vec![1.5, 1.5, 1.5]);
                }
                Ok(vec![
                    score(has("override")),
                    score(has("worthless") || (has("threat") && window.len() <= 12)),
                    score(false),
                ])
            })
            .collect()
    }

    fn max_batch(&self) -> usize {
        1
    }
}
