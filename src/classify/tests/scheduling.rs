//! The scheduler, over backends that do as they are told.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::classify::{Backend, BackendError, Classifier, Config, Frame, Label, LoadError, ScoreError, Scores};
use crate::telemetry::Metrics;

type Infer = dyn Fn(&[Vec<u32>]) -> Result<Vec<Vec<f32>>, BackendError> + Send + Sync;

/// Tokens are code points; what it says of windows is up to the test.
struct Scripted {
    infer: Arc<Infer>,
    max_batch: usize,
    /// Closed when the backend is dropped, that is, when its thread ends.
    _alive: Option<Sender<()>>,
}

const CLS: u32 = u32::MAX;
const SEP: u32 = u32::MAX - 1;

impl Backend for Scripted {
    fn tokenize(&self, text: &str) -> Result<Vec<u32>, BackendError> {
        assert!(!text.contains("tokenizer panics"), "as scripted");
        if text.contains("tokenizer fails") { Err(BackendError("as scripted".to_owned())) } else { Ok(tokens(text)) }
    }

    fn frame(&self) -> Frame {
        Frame { tokens: 12, stride: 8, first: CLS, last: SEP }
    }

    fn infer(&mut self, windows: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, BackendError> {
        (self.infer)(windows)
    }

    fn max_batch(&self) -> usize {
        assert!(self.max_batch < 1_000, "as scripted");
        self.max_batch
    }
}

fn tokens(text: &str) -> Vec<u32> {
    text.chars().map(u32::from).collect()
}

fn content(window: &[u32]) -> String {
    assert_eq!((window[0], window[window.len() - 1]), (CLS, SEP));
    window[1..window.len() - 1].iter().map(|id| char::from_u32(*id).unwrap()).collect()
}

/// Label `digit`: the largest digit in the window, in tenths. Label `any`: always 0.5.
#[expect(clippy::unnecessary_wraps, reason = "has the shape of a script")]
fn digits(windows: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, BackendError> {
    let digit = |window: &[u32]| content(window).chars().filter_map(|c| c.to_digit(10)).max().unwrap_or(0);
    Ok(windows.iter().map(|window| vec![f32::from(u16::try_from(digit(window)).unwrap()) / 10.0, 0.5]).collect())
}

fn labels() -> Vec<Label> {
    ["digit", "any"].map(|name| Label { head: "test".into(), name: name.into(), thresholds: [].into() }).into()
}

/// A classifier over `workers` alike backends, and how to know that all of them are gone.
fn served(
    workers: usize,
    max_batch: usize,
    config: &Config,
    infer: impl Fn(&[Vec<u32>]) -> Result<Vec<Vec<f32>>, BackendError> + Send + Sync + 'static,
) -> (Classifier, Receiver<()>) {
    let infer: Arc<Infer> = Arc::new(infer);
    let (alive, gone) = mpsc::channel();
    let backends = (0..workers)
        .map(|_| {
            Box::new(Scripted { infer: Arc::clone(&infer), max_batch, _alive: Some(alive.clone()) }) as Box<dyn Backend>
        })
        .collect();
    (Classifier::with_backends(backends, labels(), config, &Metrics::new().unwrap()).unwrap(), gone)
}

fn one_worker(
    infer: impl Fn(&[Vec<u32>]) -> Result<Vec<Vec<f32>>, BackendError> + Send + Sync + 'static,
) -> Classifier {
    served(1, 1, &Config::default(), infer).0
}

async fn score(classifier: &Classifier, text: &str) -> Result<Scores, ScoreError> {
    classifier.score(Arc::from(text)).await
}

/// Asks, and leaves before the answer.
async fn ask_and_leave(classifier: &Classifier, text: &str) {
    tokio::select! {
        biased;
        _ = score(classifier, text) => panic!("answered too early"),
        () = std::future::ready(()) => {}
    }
}

/// Asks in the background; the text is queued when this returns.
async fn ask(classifier: &Classifier, text: &str) -> tokio::task::JoinHandle<Result<Scores, ScoreError>> {
    let (classifier, text) = (classifier.clone(), text.to_owned());
    let task = tokio::spawn(async move { score(&classifier, &text).await });
    tokio::task::yield_now().await;
    task
}

/// Holds workers at a point of their script until the test lets them on.
#[derive(Default)]
struct Gate {
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

/// Long enough for any machine; only a failing test ever waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

impl Gate {
    /// For the worker.
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        self.changed.notify_all();
        let (_state, late) = self.changed.wait_timeout_while(state, PATIENCE, |state| !state.1).unwrap();
        assert!(!late.timed_out(), "the gate was never opened");
    }

    /// For the test: until `count` workers have come to the gate.
    fn wait_for(&self, count: usize) {
        let state = self.state.lock().unwrap();
        let (_state, late) = self.changed.wait_timeout_while(state, PATIENCE, |state| state.0 < count).unwrap();
        assert!(!late.timed_out(), "no worker came");
    }

    fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

/// What the backend was asked to score, in order.
type Log = Arc<Mutex<Vec<String>>>;

/// A worker that waits at the gate before each run, and a log of the windows it ran.
fn gated(max_batch: usize, config: &Config) -> (Classifier, Arc<Gate>, Log) {
    let (gate, log) = (Arc::new(Gate::default()), Log::default());
    let (at, into) = (Arc::clone(&gate), Arc::clone(&log));
    let (classifier, _) = served(1, max_batch, config, move |windows| {
        at.pass();
        let texts: Vec<String> = windows.iter().map(|window| content(window)).collect();
        into.lock().unwrap().push(texts.join("|"));
        digits(windows)
    });
    (classifier, gate, log)
}

#[tokio::test]
async fn the_largest_score_of_all_windows_counts() {
    let classifier = one_worker(digits);
    let mut longest = "a".repeat(99);
    for at in [0, 9, 10, 50, 97, 98] {
        longest.replace_range(at..=at, "7");
        let scores = score(&classifier, &longest).await.unwrap();
        // 10 content tokens a window, the next one 8 further on.
        assert_eq!(scores, Scores { values: vec![0.7, 0.5], windows: 13, tokens: 99 });
        longest.replace_range(at..=at, "a");
    }
    assert_eq!(score(&classifier, &longest).await.unwrap().values, [0.0, 0.5]);
    // Nothing to judge: the backend is not asked.
    assert_eq!(score(&classifier, "").await.unwrap(), Scores { values: vec![0.0, 0.0], windows: 0, tokens: 0 });
}

#[tokio::test]
async fn a_panic_costs_one_answer() {
    let classifier = one_worker(|windows| {
        assert!(!content(&windows[0]).contains('!'), "as scripted");
        digits(windows)
    });
    for _ in 0..3 {
        assert_eq!(score(&classifier, "boom!").await, Err(ScoreError::WorkerLost));
        assert_eq!(score(&classifier, "tokenizer panics").await, Err(ScoreError::WorkerLost));
        assert_eq!(score(&classifier, "4").await.unwrap().values, [0.4, 0.5]);
    }
}

#[tokio::test]
async fn a_panic_where_none_was_thought_of_leaves_nobody_waiting() {
    let (classifier, _) = served(1, usize::MAX, &Config::default(), digits);
    for _ in 0..3 {
        assert_eq!(score(&classifier, "1").await, Err(ScoreError::WorkerLost));
    }
}

#[tokio::test]
async fn a_failure_is_told_in_the_backends_words() {
    let classifier = one_worker(|windows| {
        if content(&windows[0]).contains('!') { Err(BackendError("out of memory".to_owned())) } else { digits(windows) }
    });
    assert_eq!(score(&classifier, "now!").await, Err(ScoreError::Failed("out of memory".to_owned())));
    assert_eq!(score(&classifier, "tokenizer fails").await, Err(ScoreError::Failed("as scripted".to_owned())));
    // One failing window fails the text, even when others of it were scored.
    assert!(matches!(score(&classifier, &format!("{}!", "9".repeat(60))).await, Err(ScoreError::Failed(_))));
    assert_eq!(score(&classifier, "4").await.unwrap().values, [0.4, 0.5]);
}

#[tokio::test]
async fn what_cannot_be_scores_is_refused() {
    let rows = |row: Vec<f32>| one_worker(move |_| Ok(vec![row.clone()]));
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(score(&rows(vec![0.1, bad]), "a").await, Err(ScoreError::NotFinite));
    }
    for row in [vec![], vec![0.1], vec![0.1, 0.2, 0.3], vec![0.1, 1.5], vec![-0.1, 0.5]] {
        assert!(matches!(score(&rows(row), "a").await, Err(ScoreError::Failed(_))));
    }
    for rows in [vec![], vec![vec![0.1, 0.2]; 2]] {
        let classifier = one_worker(move |_| Ok(rows.clone()));
        assert!(matches!(score(&classifier, "a").await, Err(ScoreError::Failed(reason)) if reason.contains("shape")));
    }
}

#[tokio::test]
async fn a_text_over_the_cap_is_refused_whole() {
    let config = Config { max_input_tokens: 20, ..Config::default() };
    let (classifier, _) = served(1, 1, &config, |windows| {
        assert!(!content(&windows[0]).contains('x'), "nothing of a refused text may be scored");
        digits(windows)
    });
    assert_eq!(score(&classifier, &"1".repeat(20)).await.unwrap().tokens, 20);
    assert_eq!(score(&classifier, &"x".repeat(21)).await, Err(ScoreError::TooLong { tokens: 21, cap: 20 }));
    // So long that it is not even cut into tokens.
    let text = "tokenizer panics".repeat(100);
    assert_eq!(score(&classifier, &text).await, Err(ScoreError::TooLong { tokens: 100, cap: 20 }));
    assert_eq!(score(&classifier, "1").await.unwrap().tokens, 1);
}

#[tokio::test]
async fn callers_that_have_gone_are_skipped() {
    let (classifier, gate, log) = gated(1, &Config::default());
    let first = ask(&classifier, "first").await;
    gate.wait_for(1);
    ask_and_leave(&classifier, "gone").await;
    let second = ask(&classifier, "second").await;
    gate.open();
    assert!(first.await.unwrap().is_ok() && second.await.unwrap().is_ok());
    assert_eq!(*log.lock().unwrap(), ["first", "second"]);
}

#[tokio::test]
async fn a_long_text_stops_when_its_caller_goes() {
    let (classifier, gate, ran) = gated(1, &Config::default());
    let long = ask(&classifier, &"a".repeat(500)).await;
    gate.wait_for(1);
    long.abort();
    assert!(long.await.unwrap_err().is_cancelled());
    gate.open();
    score(&classifier, "next").await.unwrap();
    assert_eq!(*ran.lock().unwrap(), ["aaaaaaaaaa", "next"]);
}

#[tokio::test]
async fn one_text_too_many_is_turned_away_at_once() {
    let config = Config { max_concurrent_requests: 2, ..Config::default() };
    let (classifier, gate, _) = gated(1, &config);
    let first = ask(&classifier, "1").await;
    gate.wait_for(1);
    let second = ask(&classifier, "2").await;
    assert_eq!(score(&classifier, "3").await, Err(ScoreError::Overloaded));
    gate.open();
    assert!(first.await.unwrap().is_ok() && second.await.unwrap().is_ok());
    assert_eq!(score(&classifier, "4").await.unwrap().values, [0.4, 0.5]);
}

#[tokio::test]
async fn a_place_is_free_again_after_every_kind_of_answer() {
    let config = Config { max_concurrent_requests: 1, max_input_tokens: 30, ..Config::default() };
    let (classifier, _) = served(1, 1, &config, |windows| match content(&windows[0]).as_str() {
        "panic" => panic!("as scripted"),
        "nan" => Ok(vec![vec![f32::NAN, 0.0]]),
        _ => digits(windows),
    });
    let long = "a".repeat(31);
    for text in ["panic", "nan", "tokenizer panics", "tokenizer fails", &long, "3"] {
        assert_ne!(score(&classifier, text).await, Err(ScoreError::Overloaded), "{text}");
    }
}

#[tokio::test]
async fn a_short_text_does_not_wait_for_a_long_one() {
    let (classifier, gate, ran) = gated(1, &Config::default());
    let long = ask(&classifier, &"a".repeat(42)).await;
    gate.wait_for(1);
    let short = ask(&classifier, "short").await;
    gate.open();
    assert!(long.await.unwrap().is_ok() && short.await.unwrap().is_ok());
    let ran = ran.lock().unwrap();
    // The long text was cut before the short one came, so one further turn of it lies before.
    assert_eq!(ran.iter().position(|text| text == "short"), Some(2), "{ran:?}");
    assert_eq!(ran.len(), 6);
}

#[tokio::test]
async fn a_long_text_is_shared_by_idle_workers() {
    let gate = Arc::new(Gate::default());
    let at = Arc::clone(&gate);
    let (classifier, _) = served(3, 1, &Config::default(), move |windows| {
        at.pass();
        digits(windows)
    });
    let long = ask(&classifier, &format!("{}8", "a".repeat(98))).await;
    // All three workers hold a window of the one text at the same time.
    gate.wait_for(3);
    gate.open();
    assert_eq!(long.await.unwrap().unwrap(), Scores { values: vec![0.8, 0.5], windows: 13, tokens: 99 });
}

#[tokio::test]
async fn batches_take_like_lengths_and_keep_to_their_bounds() {
    // Up to 4 windows and 20 tokens a run, each window with 2 special tokens.
    let config = Config { max_batch_tokens: 20, ..Config::default() };
    let (classifier, gate, log) = gated(4, &config);
    let first = ask(&classifier, "first").await;
    gate.wait_for(1);
    let mut tasks = vec![first];
    for text in ["eeeeeeee", "a", "dddddddd", "b", "cc"] {
        tasks.push(ask(&classifier, text).await);
    }
    gate.open();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    // Four are taken: sorted, "a", "b" and one of the longer ones do not fit together.
    assert_eq!(*log.lock().unwrap(), ["first", "a|b", "eeeeeeee|dddddddd", "cc"]);
}

#[tokio::test]
async fn a_failing_run_fails_only_the_texts_in_it() {
    let gate = Arc::new(Gate::default());
    let at = Arc::clone(&gate);
    let (classifier, _) = served(1, 2, &Config::default(), move |windows| {
        at.pass();
        let texts: Vec<String> = windows.iter().map(|window| content(window)).collect();
        if texts.iter().any(|text| text == "bad") { Err(BackendError("bad".to_owned())) } else { digits(windows) }
    });
    let mut tasks = Vec::new();
    for text in ["one", "bad", "two", "three", "four"] {
        tasks.push(ask(&classifier, text).await);
        gate.wait_for(1);
    }
    gate.open();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap().is_ok());
    }
    // "bad" shared its run with "two"; what was before and after is untouched.
    assert_eq!(answers, [true, false, false, true, true]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_callers_each_get_their_own_answer() {
    let config = Config { max_concurrent_requests: 1_000, ..Config::default() };
    for max_batch in [1, 8] {
        let (classifier, _) = served(4, max_batch, &config, digits);
        let mut tasks = Vec::new();
        for at in 0..300_usize {
            let (classifier, digit) = (classifier.clone(), at % 10);
            let text = format!("{}{digit}{}", "a".repeat(at % 37), "b".repeat(at % 23));
            tasks.push(tokio::spawn(async move { (digit, text.len(), score(&classifier, &text).await) }));
        }
        for task in tasks {
            let (digit, length, scores) = task.await.unwrap();
            let scores = scores.unwrap();
            assert_eq!(scores.tokens, length);
            assert_eq!(scores.values, [f32::from(u16::try_from(digit).unwrap()) / 10.0, 0.5]);
        }
    }
}

#[tokio::test]
async fn the_threads_end_with_the_last_handle() {
    let (classifier, gone) = served(3, 1, &Config::default(), digits);
    let other = classifier.clone();
    drop(classifier);
    assert!(score(&other, "1").await.is_ok());
    drop(other);
    // Each backend holds a sender; the channel closes when the last thread has dropped its backend.
    assert_eq!(gone.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected));
}

#[test]
fn a_classifier_that_could_never_answer_is_refused() {
    let metrics = Metrics::new().unwrap();
    let backend = || -> Vec<Box<dyn Backend>> {
        vec![Box::new(Scripted { infer: Arc::new(digits), max_batch: 1, _alive: None })]
    };
    let config = Config::default();
    assert!(matches!(Classifier::with_backends(vec![], labels(), &config, &metrics), Err(LoadError::Empty)));
    assert!(matches!(Classifier::with_backends(backend(), vec![], &config, &metrics), Err(LoadError::Empty)));
    for config in [
        Config { max_concurrent_requests: 0, ..config.clone() },
        Config { max_input_tokens: 0, ..config.clone() },
        Config { max_batch_tokens: 0, ..config },
    ] {
        let error = Classifier::with_backends(backend(), labels(), &config, &metrics).unwrap_err();
        assert!(matches!(error, LoadError::Setting { .. }), "{error}");
    }
}

#[tokio::test]
async fn the_scheduler_counts_what_it_does() {
    let metrics = Metrics::new().unwrap();
    let backend: Box<dyn Backend> = Box::new(Scripted { infer: Arc::new(digits), max_batch: 1, _alive: None });
    let classifier = Classifier::with_backends(vec![backend], labels(), &Config::default(), &metrics).unwrap();
    score(&classifier, &"a".repeat(18)).await.unwrap();
    let page = String::from_utf8(metrics.render().unwrap()).unwrap();
    let value = |name: &str| {
        let line = page.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
        line.rsplit(' ').next().unwrap().to_owned()
    };
    assert_eq!(value("wardline_classifier_queue_depth"), "0");
    assert_eq!(value("wardline_classifier_truncated_inputs_total"), "0");
    assert_eq!(value("wardline_classifier_queue_duration_seconds_count"), "1");
    assert_eq!(value("wardline_classifier_tokenize_duration_seconds_count"), "1");
    assert_eq!(value("wardline_classifier_inference_duration_seconds_count"), "2");
    // Two windows of 10 content tokens and 2 special ones.
    assert_eq!(value("wardline_classifier_batch_tokens_sum"), "24");
}
