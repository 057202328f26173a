//! An ONNX Runtime session as a [`Backend`].

use std::sync::Arc;

use ort::environment::Environment;
use ort::ep::{CUDA, ExecutionProvider, TensorRT};
use ort::session::Session;
use ort::value::{TensorElementType, TensorRef, ValueType};

use super::backend::{Backend, BackendError};
use super::manifest::{Activation, Head};
use super::shapes::Shapes;
use super::tokens::Tokens;
use super::windows::Frame;

/// What all sessions of a model have in common.
pub(super) struct Model {
    /// The verified weights; dropped when the last session is made.
    pub(super) weights: Vec<u8>,
    pub(super) tokens: Arc<Tokens>,
    pub(super) frame: Frame,
    pub(super) heads: Arc<[Head]>,
}

/// Where a session runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Provider {
    Cpu,
    Cuda,
    TensorRt,
}

impl Provider {
    /// The word in metrics and on the status page.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
        }
    }
}

/// One session and its buffers, owned by one worker.
pub(super) struct OnnxBackend {
    session: Session,
    tokens: Arc<Tokens>,
    heads: Arc<[Head]>,
    frame: Frame,
    /// What runs are padded to, where they are batched. On a CPU padding costs more than batching gains, and int8 rows are
    /// not independent of each other.
    shapes: Option<Shapes>,
    ids: Vec<i64>,
    mask: Vec<i64>,
}

const IDS: &str = "input_ids";
const MASK: &str = "attention_mask";

/// Windows in one run on a GPU; `max_batch_tokens` bounds it further.
const GPU_BATCH: usize = 256;

impl Model {
    /// A session made from the verified bytes, with inputs and outputs as the heads say, run once at full length, or in
    /// every shape that it will see.
    pub(super) fn session(&self, environment: &Environment, provider: Provider) -> Result<OnnxBackend, String> {
        let gpu = Shapes::new(self.frame.tokens, GPU_BATCH);
        let shapes = (provider != Provider::Cpu).then_some(gpu);
        let session = open(environment, &self.weights, provider, gpu).map_err(|error| error.to_string())?;
        check_inputs(&session)?;
        self.heads.iter().try_for_each(|head| check_output(&session, head))?;
        let mut backend = OnnxBackend {
            session,
            tokens: Arc::clone(&self.tokens),
            heads: Arc::clone(&self.heads),
            frame: self.frame,
            shapes,
            ids: Vec::new(),
            mask: Vec::new(),
        };
        let warm_up: Vec<_> = shapes.map_or_else(|| vec![[1, self.frame.tokens]], |shapes| shapes.all().collect());
        for [windows, length] in warm_up {
            let windows = vec![vec![self.frame.first; length]; windows];
            backend.infer(&windows).map_err(|error| error.to_string())?;
        }
        Ok(backend)
    }
}

/// Whether the runtime library was built with CUDA. Says nothing about a device.
pub(super) fn cuda_is_built_in() -> bool {
    CUDA::is_available().unwrap_or(false)
}

fn open(environment: &Environment, weights: &[u8], provider: Provider, shapes: Shapes) -> ort::Result<Session> {
    // One thread a session and as many sessions as workers: without batching, nothing is faster, and no pool spins
    // beside the proxy (20 ms between requests: 29 ms CPU time a request with spinning, 8 ms without).
    let builder = Session::builder(environment)?
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        // Lengths differ from run to run: a plan for each would be kept for nothing.
        .with_memory_pattern(false)?;
    let mut builder = match provider {
        Provider::Cpu => builder,
        Provider::Cuda => builder.with_execution_providers([CUDA::default().build().error_on_failure()])?,
        // What TensorRT leaves over is CUDA's; both must be there, or it is no such device.
        Provider::TensorRt => builder.with_execution_providers([
            tensorrt(shapes).build().error_on_failure(),
            CUDA::default().build().error_on_failure(),
        ])?,
    };
    builder.commit_from_memory(weights)
}

/// One engine for all shapes from the smallest to the largest.
fn tensorrt(shapes: Shapes) -> TensorRT {
    let all: Vec<[usize; 2]> = shapes.all().collect();
    let profile = |at: usize| {
        let [windows, length] = all[at];
        format!("{IDS}:{windows}x{length},{MASK}:{windows}x{length}")
    };
    TensorRT::default()
        .with_fp16(true)
        .with_profile_min_shapes(profile(0))
        .with_profile_opt_shapes(profile(all.len() / 2))
        .with_profile_max_shapes(profile(all.len() - 1))
}

fn check_inputs(session: &Session) -> Result<(), String> {
    let mut names: Vec<&str> = session.inputs().iter().map(ort::value::Outlet::name).collect();
    names.sort_unstable();
    if names != [MASK, IDS] {
        return Err(format!("its inputs are {names:?}; expected {IDS:?} and {MASK:?}"));
    }
    for input in session.inputs() {
        let shape = shape(input.dtype(), TensorElementType::Int64);
        if !matches!(shape, Some([-1, -1])) {
            return Err(format!("its input {:?} is {}; expected int64, [batch, tokens]", input.name(), input.dtype()));
        }
    }
    Ok(())
}

fn check_output(session: &Session, head: &Head) -> Result<(), String> {
    let Some(output) = session.outputs().iter().find(|output| output.name() == head.output) else {
        let names: Vec<&str> = session.outputs().iter().map(ort::value::Outlet::name).collect();
        return Err(format!("it has no output {:?} for the head {:?}; it has {names:?}", head.output, head.name));
    };
    let labels = head.labels.len();
    let wide = |width: i64| width == -1 || usize::try_from(width) == Ok(labels);
    if !matches!(shape(output.dtype(), TensorElementType::Float32), Some([-1, width]) if wide(*width)) {
        let found = output.dtype();
        return Err(format!("its output {:?} is {found}; expected float32, [batch, {labels}]", head.output));
    }
    Ok(())
}

fn shape(value: &ValueType, element: TensorElementType) -> Option<&[i64]> {
    (value.tensor_type() == Some(element)).then(|| value.tensor_shape().map(|shape| &**shape)).flatten()
}

impl Backend for OnnxBackend {
    fn tokenize(&self, text: &str) -> Result<Vec<u32>, BackendError> {
        self.tokens.ids(text)
    }

    fn frame(&self) -> Frame {
        self.frame
    }

    fn infer(&mut self, windows: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, BackendError> {
        let length = windows.iter().map(Vec::len).max().unwrap_or(0);
        let shape = self.shapes.map_or([windows.len(), length], |shapes| shapes.fit(windows.len(), length));
        self.pad(windows, shape);
        let mut rows = run(&mut self.session, &self.heads, (&self.ids, &self.mask), shape)
            .map_err(|error| BackendError(error.to_string()))?
            .ok_or_else(|| BackendError("wrong shape: an output has not one row a window".to_owned()))?;
        rows.truncate(windows.len());
        Ok(rows)
    }

    fn padded(&self, windows: usize, longest: usize) -> usize {
        let [rows, length] = self.shapes.map_or([windows, longest], |shapes| shapes.fit(windows, longest));
        rows * length
    }

    fn max_batch(&self) -> usize {
        self.shapes.map_or(1, Shapes::most)
    }
}

impl OnnxBackend {
    /// Rows beyond the windows repeat the first of them: a row without a single token has no mean.
    fn pad(&mut self, windows: &[Vec<u32>], [rows, length]: [usize; 2]) {
        self.ids.clear();
        self.mask.clear();
        for window in windows.iter().chain(windows.first().into_iter().cycle()).take(rows) {
            self.ids.extend(window.iter().map(|id| i64::from(*id)));
            self.mask.extend(window.iter().map(|_| 1));
            let row = self.ids.len() + length - window.len();
            self.ids.resize(row, i64::from(self.tokens.pad));
            self.mask.resize(row, 0);
        }
    }
}

/// One run; `None` when an output does not hold one row of its head's width a window.
fn run(
    session: &mut Session,
    heads: &[Head],
    (ids, mask): (&[i64], &[i64]),
    shape: [usize; 2],
) -> ort::Result<Option<Vec<Vec<f32>>>> {
    let outputs = session.run(ort::inputs![
        IDS => TensorRef::from_array_view((shape, ids))?,
        MASK => TensorRef::from_array_view((shape, mask))?,
    ])?;
    let [windows, _] = shape;
    let mut rows = vec![Vec::with_capacity(heads.iter().map(|head| head.names().count()).sum()); windows];
    for head in heads {
        let (_, logits) = outputs[head.output.as_str()].try_extract_tensor::<f32>()?;
        if logits.len() != windows * head.labels.len() {
            return Ok(None);
        }
        for (row, logits) in rows.iter_mut().zip(logits.chunks_exact(head.labels.len())) {
            activate(head, logits, row);
        }
    }
    Ok(Some(rows))
}

/// Appends a head's probabilities, and after them that of its derived label.
///
/// A logit that is not finite gives a probability that is not finite: it must be seen, not smoothed over.
fn activate(head: &Head, logits: &[f32], row: &mut Vec<f32>) {
    match head.activation {
        Activation::Sigmoid => row.extend(logits.iter().map(|logit| sigmoid(*logit))),
        Activation::Softmax => {
            let start = row.len();
            row.extend(softmax(logits));
            let negative =
                head.labels.iter().position(|label| head.any.is_some() && Some(label) == head.negative.as_ref());
            if let Some(negative) = negative {
                row.push((1.0 - row[start + negative]).clamp(0.0, 1.0));
            }
        }
    }
}

pub(super) fn softmax(logits: &[f32]) -> Vec<f32> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let scores: Vec<f32> = logits.iter().map(|logit| (logit - top).exp()).collect();
    let sum: f32 = scores.iter().sum();
    scores.into_iter().map(|score| score / sum).collect()
}

pub(super) fn sigmoid(logit: f32) -> f32 {
    // `f32::exp` overflows to infinity, which gives the right limit, 0; an infinite logit itself is an error.
    if logit.is_finite() { 1.0 / (1.0 + (-logit).exp()) } else { f32::NAN }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(activation: Activation, labels: &[&str], derived: bool) -> Head {
        Head {
            name: "head".to_owned(),
            output: "head".to_owned(),
            activation,
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            negative: derived.then(|| labels[0].to_owned()),
            any: derived.then(|| "any".to_owned()),
        }
    }

    #[test]
    fn softmax_adds_up_and_derives_the_opposite_of_its_negative() {
        let mut row = vec![0.5];
        activate(&head(Activation::Softmax, &["no", "a", "b"], true), &[1000.0, 1000.0, 998.0], &mut row);
        assert_eq!(row.len(), 5);
        assert!((row[1..4].iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!((row[4] - (1.0 - row[1])).abs() < 1e-6);
        assert!((row[1] - 0.468_3).abs() < 1e-3 && row[3] < row[2], "{row:?}");
    }

    #[test]
    fn sigmoid_stays_within_bounds() {
        let mut row = Vec::new();
        activate(&head(Activation::Sigmoid, &["a", "b", "c"], false), &[0.0, 400.0, -400.0], &mut row);
        assert_eq!(row, [0.5, 1.0, 0.0]);
    }

    #[test]
    fn what_is_not_finite_is_not_smoothed_over() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut row = Vec::new();
            activate(&head(Activation::Sigmoid, &["a"], false), &[bad], &mut row);
            assert!(!row[0].is_finite());
        }
        for bad in [f32::NAN, f32::INFINITY] {
            let mut row = Vec::new();
            activate(&head(Activation::Softmax, &["no", "a"], true), &[bad, 0.0], &mut row);
            assert!(row.iter().any(|score| !score.is_finite()), "{row:?}");
        }
    }
}
