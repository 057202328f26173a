//! Sessions without a scheduler: callers are threads, and whoever finds a session free runs it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use ort::session::Session;
use ort::value::TensorRef;
use tokenizers::Tokenizer;
use wardline::classify::Frame;

use crate::{Result, repository, runtime_library};

/// How many sessions there are, and how each runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) sessions: usize,
    /// Threads of one session.
    pub(crate) threads: usize,
    /// Threads that wait for work do so at full speed, as ONNX Runtime does where nobody says otherwise.
    pub(crate) spins: bool,
}

impl Layout {
    /// Reads `2x1` or `1x2+spin`.
    pub(crate) fn parse(text: &str) -> Option<Layout> {
        let (sizes, spins) = text.strip_suffix("+spin").map_or((text, false), |sizes| (sizes, true));
        let (sessions, threads) = sizes.split_once('x')?;
        Some(Layout { sessions: sessions.parse().ok()?, threads: threads.parse().ok()?, spins })
    }
}

/// A pool of sessions of the shipped model.
pub(crate) struct Bare {
    tokenizer: Tokenizer,
    frame: Frame,
    free: Mutex<Vec<Session>>,
    returned: Condvar,
}

impl Bare {
    pub(crate) fn load(layout: Layout) -> Result<Bare> {
        let dir = repository().join("models/guard");
        let library = runtime_library().ok_or("the ONNX Runtime library is missing; run `make ort`")?;
        let environment = ort::init_from(library)?.with_name("bare").with_telemetry(false).build()?;
        let weights = std::fs::read(dir.join("model.int8.onnx"))?;
        let sessions =
            (0..layout.sessions).map(|_| open(&environment, &weights, layout)).collect::<ort::Result<_>>()?;
        let mut tokenizer = Tokenizer::from_file(dir.join("tokenizer.json"))?;
        tokenizer.with_truncation(None)?;
        tokenizer.with_padding(None);
        let id = |token: &str| tokenizer.token_to_id(token).ok_or("the vocabulary lacks a special token");
        let frame = Frame { tokens: 128, stride: 96, first: id("[CLS]")?, last: id("[SEP]")? };
        Ok(Bare { tokenizer, frame, free: Mutex::new(sessions), returned: Condvar::new() })
    }

    /// Scores one text, all its windows.
    pub(crate) fn score(&self, text: &str) -> Result<()> {
        let ids = self.tokenizer.encode_fast(text, false)?.get_ids().to_vec();
        let mut session = self.take();
        let outcome = self.frame.cut(&ids).iter().try_for_each(|window| run(&mut session, window));
        lock(&self.free).push(session);
        self.returned.notify_one();
        outcome.map_err(Into::into)
    }

    fn take(&self) -> Session {
        let mut free = lock(&self.free);
        loop {
            if let Some(session) = free.pop() {
                return session;
            }
            free = self.returned.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn open(environment: &ort::environment::Environment, weights: &[u8], layout: Layout) -> ort::Result<Session> {
    Session::builder(environment)?
        .with_intra_threads(layout.threads)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(layout.spins)?
        .with_memory_pattern(false)?
        .commit_from_memory(weights)
}

fn run(session: &mut Session, window: &[u32]) -> ort::Result<()> {
    let ids: Vec<i64> = window.iter().map(|id| i64::from(*id)).collect();
    let mask = vec![1_i64; ids.len()];
    let shape = [1, ids.len()];
    let outputs = session.run(ort::inputs![
        "input_ids" => TensorRef::from_array_view((shape, ids.as_slice()))?,
        "attention_mask" => TensorRef::from_array_view((shape, mask.as_slice()))?,
    ])?;
    for head in ["prompt_attack", "harm"] {
        std::hint::black_box(outputs[head].try_extract_tensor::<f32>()?);
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
