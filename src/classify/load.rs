//! From a folder of files to backends that have shown that they work.

use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use ort::environment::Environment;

use super::backend::{Backend, BackendError};
use super::classifier::{Identity, Label};
use super::config::{Config, Device, MissingGpu};
use super::manifest::{self, Asset, GpuForm, Manifest, SelfTest};
use super::model::{Model, OnnxBackend, Provider, cuda_is_built_in};
use super::onnx;
use super::runtime;
use super::sieve;
use super::tokens::Tokens;
use super::windows::Frame;

/// Why a classifier cannot serve. Each says which file or setting, what was expected, and what to run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file cannot be read.
    #[error("{}: {source}; the repository holds the model in models/guard, and `make models` makes it anew", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The manifest is not one.
    #[error("{}: {reason}", path.display())]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it, with line and column where it is not JSON.
        reason: String,
    },
    /// A file is not the one that the manifest describes.
    #[error(
        "{}: {what} is {found}, but the manifest says {expected}: the file was changed or is not whole; \
         restore it from the repository, or run `make models`",
        path.display()
    )]
    Mismatch {
        /// Which file.
        path: PathBuf,
        /// `sha256` or `size in bytes`.
        what: &'static str,
        /// As in the manifest.
        expected: String,
        /// As on disk.
        found: String,
    },
    /// A file is genuine, but the model in it is not one that is served here.
    #[error("{}: refused: {reason}", path.display())]
    Model {
        /// Which file.
        path: PathBuf,
        /// What was found, and what was expected.
        reason: String,
    },
    /// The model does not say here what it said where it was made.
    #[error(
        "{}: the self-test failed on {label}: {found:.4}, but the manifest says {expected:.4} (within {SELF_TEST_WITHIN}); \
         the weights, the tokenizer or the runtime library are not those that the model was made with",
        path.display()
    )]
    SelfTest {
        /// The weights.
        path: PathBuf,
        /// Full label name.
        label: String,
        /// As in the manifest.
        expected: f32,
        /// As scored here.
        found: f32,
    },
    /// ONNX Runtime is missing, too old, or no library for this machine.
    #[error(
        "ONNX Runtime ({}): {reason}; run `make ort` to fetch the pinned library, or set ORT_DYLIB_PATH \
         (or the classifier's `runtime`) to one of version 1.{} or later",
        library.display(), ort::MINOR_VERSION
    )]
    Runtime {
        /// The library that was tried.
        library: PathBuf,
        /// What was wrong with it.
        reason: String,
    },
    /// A GPU was wanted, cannot serve, and `on_missing_gpu` is `refuse`.
    #[error("no GPU to serve from: {0}; set `on_missing_gpu: cpu` or `device: cpu` to serve from the CPU")]
    Gpu(String),
    /// A setting is out of range.
    #[error("the classifier's `{name}` is out of range: expected {expected}")]
    Setting {
        /// Which.
        name: &'static str,
        /// What it takes.
        expected: &'static str,
    },
    /// A classifier on a server cannot serve.
    #[error("{reason}")]
    Remote {
        /// Its name in the configuration.
        name: String,
        /// Which of its settings.
        key: String,
        /// What was wrong, and what was expected.
        reason: String,
    },
    /// A policy could not tell two classifiers apart.
    #[error("two classifiers have a head `{head}`; give the one on a server another name")]
    SameHead {
        /// The head's name.
        head: String,
    },
    /// No backends, or no labels to score.
    #[error("a classifier needs at least one backend and one label")]
    Empty,
    /// The system refused a worker thread.
    #[error("a worker thread could not be started: {0}")]
    Thread(#[source] io::Error),
}

impl LoadError {
    /// The setting of the process configuration that it is about.
    pub fn key(&self) -> String {
        match self {
            Self::Runtime { .. } => "classifier.runtime".to_owned(),
            Self::Gpu(_) => "classifier.device".to_owned(),
            Self::Setting { name, .. } => format!("classifier.{name}"),
            Self::Remote { name, key, .. } => format!("classifiers.{name}.{key}"),
            Self::SameHead { head } => format!("classifiers.{head}"),
            Self::Thread(_) => "classifier.threads".to_owned(),
            _ => "classifier.dir".to_owned(),
        }
    }
}

/// How far a score may lie from the one in the manifest: int8 kernels differ a little between processors.
const SELF_TEST_WITHIN: f32 = 0.05;

/// A loaded model, ready to be served.
pub(super) struct Served {
    pub(super) backends: Vec<Box<dyn Backend>>,
    pub(super) labels: Vec<Label>,
    pub(super) identity: Identity,
    /// The device that was to serve; the identity has the one that does.
    pub(super) wanted: &'static str,
}

/// What a model can say, by its manifest alone: nothing else is read, and no runtime library is needed.
///
/// # Errors
/// The manifest is missing or makes no sense.
pub fn labels(config: &Config) -> Result<Vec<Label>, LoadError> {
    Ok(Manifest::read(&config.dir)?.labels())
}

/// What tells the model in a folder from another one: all that its manifests say, weights included by their hash.
/// What cannot be read has a fingerprint too.
pub fn fingerprint(config: &Config) -> String {
    let mut hasher = blake3::Hasher::new();
    for name in [manifest::NAME, GpuForm::NAME, sieve::MANIFEST] {
        hasher.update(&std::fs::read(config.dir.join(name)).unwrap_or_default());
        hasher.update(&[0]);
    }
    hasher.update(format!("{config:?}").as_bytes());
    hasher.finalize().to_string()
}

/// Verifies, loads, self-tests.
pub(super) fn load(config: &Config) -> Result<Served, LoadError> {
    let dir = &config.dir;
    let manifest = Manifest::read(dir)?;
    let model = model(&manifest, dir)?;
    let environment = runtime::environment(config.runtime.as_deref())?;
    let weights = manifest.files.weights.asset.path(dir);

    let start = |provider| match provider {
        Provider::Cpu => sessions(&model, &environment, config.threads),
        gpu => on_gpu((&manifest, dir), &model, &environment, gpu),
    };
    let (sessions, chosen) = choose(config, cuda_is_built_in(), start)?
        .map_err(|reason| LoadError::Model { path: weights.clone(), reason })?;
    let device = chosen.device.as_str();
    let labels = manifest.labels();
    let mut backends: Vec<Box<dyn Backend>> = Vec::with_capacity(sessions.len());
    for mut session in sessions {
        // Every session: they are made alike, but each has run at least once before it meets traffic.
        let cases = if backends.is_empty() { &manifest.self_test[..] } else { &manifest.self_test[..1] };
        if chosen.device == Provider::Cpu {
            self_test(&mut session, cases, &labels, &weights)?;
        }
        backends.push(Box::new(session));
    }
    tracing::info!(
        model = manifest.name,
        revision = manifest.revision,
        device,
        workers = backends.len(),
        "classifier loaded"
    );
    let identity = Identity { name: manifest.name, revision: manifest.revision, device };
    Ok(Served { backends, labels, identity, wanted: chosen.wanted.as_str() })
}

/// The files, read once and checked before anything is made of them.
fn model(manifest: &Manifest, dir: &Path) -> Result<Model, LoadError> {
    let files = &manifest.files;
    let weights = weights(&files.weights.asset, dir)?;
    let tokens = Tokens::new(&files.tokenizer.read(dir)?)
        .map_err(|reason| LoadError::Model { path: files.tokenizer.path(dir), reason })?;
    let window = &manifest.window;
    let frame = Frame { tokens: window.tokens, stride: window.stride, first: tokens.first, last: tokens.last };
    Ok(Model { weights, tokens: Arc::new(tokens), frame, heads: manifest.heads.clone().into() })
}

fn weights(asset: &Asset, dir: &Path) -> Result<Vec<u8>, LoadError> {
    let weights = asset.read(dir)?;
    onnx::check(&weights).map_err(|refusal| LoadError::Model { path: asset.path(dir), reason: refusal.to_string() })?;
    Ok(weights)
}

/// One session for each CPU worker.
fn sessions(model: &Model, environment: &Environment, threads: usize) -> Result<Vec<OnnxBackend>, String> {
    let workers = if threads == 0 { thread::available_parallelism().map_or(1, NonZero::get) } else { threads };
    (0..workers).map(|_| model.session(environment, Provider::Cpu)).collect()
}

/// One session on a GPU, of the form of the model that is made for one, proven. Any fault is a reason to do without.
fn on_gpu(
    (manifest, dir): (&Manifest, &Path),
    model: &Model,
    environment: &Environment,
    provider: Provider,
) -> Result<Vec<OnnxBackend>, String> {
    let told = |error: LoadError| error.to_string();
    let form = GpuForm::read(dir, manifest).map_err(told)?.ok_or_else(|| {
        let path = dir.join(GpuForm::NAME);
        format!(
            "{}: there is no such file; `make models-gpu` makes the form of the model that a GPU serves",
            path.display()
        )
    })?;
    let weights = weights(&form.weights.asset, dir).map_err(told)?;
    let (tokens, heads) = (Arc::clone(&model.tokens), Arc::clone(&model.heads));
    let mut session = Model { weights, tokens, frame: model.frame, heads }.session(environment, provider)?;
    let path = form.weights.asset.path(dir);
    self_test(&mut session, &form.self_test, &manifest.labels(), &path).map_err(told)?;
    Ok(vec![session])
}

/// What serves, and what was to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Chosen {
    wanted: Provider,
    device: Provider,
}

/// Decides what serves, and starts it. A GPU that was wanted and fails is never passed over in silence.
///
/// The outer error is a refusal by configuration; the inner one is the CPU's, which has nothing to fall back on.
fn choose<T>(
    config: &Config,
    cuda_built_in: bool,
    start: impl Fn(Provider) -> Result<T, String>,
) -> Result<Result<(T, Chosen), String>, LoadError> {
    let gpus: &[Provider] = match config.device {
        Device::Cpu => &[],
        Device::Auto if !cuda_built_in => &[],
        Device::Auto | Device::Cuda => &[Provider::Cuda],
        Device::TensorRt => &[Provider::TensorRt, Provider::Cuda],
    };
    let wanted = gpus.first().copied().unwrap_or(Provider::Cpu);
    let mut reasons = Vec::new();
    for device in gpus.iter().copied() {
        match start(device) {
            Ok(started) => return Ok(Ok((started, Chosen { wanted, device }))),
            Err(reason) => {
                tracing::error!(device = device.as_str(), reason, "the GPU cannot serve like this");
                reasons.push(format!("{}: {reason}", device.as_str()));
            }
        }
    }
    if !reasons.is_empty() {
        if config.on_missing_gpu == MissingGpu::Refuse {
            return Err(LoadError::Gpu(reasons.join("; ")));
        }
        tracing::error!("the classifier runs on the CPU, far slower than on the GPU that it was meant for");
    }
    let device = Provider::Cpu;
    Ok(start(device).map(|started| (started, Chosen { wanted, device })))
}

fn self_test(backend: &mut dyn Backend, cases: &[SelfTest], labels: &[Label], weights: &Path) -> Result<(), LoadError> {
    let failed = |BackendError(reason)| LoadError::Model { path: weights.to_owned(), reason };
    for case in cases {
        let ids = backend.tokenize(&case.text).map_err(failed)?;
        let mut best = vec![0.0_f32; labels.len()];
        for window in backend.frame().cut(&ids) {
            let rows = backend.infer(&[window]).map_err(failed)?;
            for (best, score) in best.iter_mut().zip(rows.iter().flatten()) {
                // Not `max`: it would pass over a NaN.
                *best = if *score <= *best { *best } else { *score };
            }
        }
        for (label, found) in labels.iter().map(ToString::to_string).zip(best) {
            let Some(expected) = case.scores.get(&label).copied() else { continue };
            let difference = (found - expected).abs();
            if difference.is_nan() || difference > SELF_TEST_WITHIN {
                return Err(LoadError::SelfTest { path: weights.to_owned(), label, expected, found });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(device: Device, on_missing_gpu: MissingGpu) -> Config {
        Config { device, on_missing_gpu, ..Config::default() }
    }

    fn no_gpu(provider: Provider) -> Result<Provider, String> {
        if provider == Provider::Cpu { Ok(provider) } else { Err("cudaErrorNoDevice".to_owned()) }
    }

    fn chosen(wanted: Provider, device: Provider) -> (Provider, Chosen) {
        (device, Chosen { wanted, device })
    }

    #[test]
    fn a_gpu_that_works_serves() {
        for (device, wanted) in
            [(Device::Auto, Provider::Cuda), (Device::Cuda, Provider::Cuda), (Device::TensorRt, Provider::TensorRt)]
        {
            let served = choose(&config(device, MissingGpu::Refuse), true, Ok).unwrap();
            assert_eq!(served.unwrap(), chosen(wanted, wanted));
        }
    }

    #[test]
    fn a_gpu_that_fails_is_replaced_or_refused_as_configured() {
        for (device, wanted) in
            [(Device::Auto, Provider::Cuda), (Device::Cuda, Provider::Cuda), (Device::TensorRt, Provider::TensorRt)]
        {
            let served = choose(&config(device, MissingGpu::Cpu), true, no_gpu).unwrap();
            assert_eq!(served.unwrap(), chosen(wanted, Provider::Cpu));
            let refused = choose(&config(device, MissingGpu::Refuse), true, no_gpu).unwrap_err();
            assert!(refused.to_string().contains("cuda: cudaErrorNoDevice"), "{refused}");
        }
    }

    #[test]
    fn cuda_serves_where_tensorrt_cannot() {
        let no_tensorrt = |provider| match provider {
            Provider::TensorRt => Err("libnvinfer.so.10: cannot open shared object file".to_owned()),
            other => Ok(other),
        };
        for missing in [MissingGpu::Cpu, MissingGpu::Refuse] {
            let served = choose(&config(Device::TensorRt, missing), true, no_tensorrt).unwrap();
            assert_eq!(served.unwrap(), chosen(Provider::TensorRt, Provider::Cuda));
        }
    }

    #[test]
    fn the_cpu_serves_when_no_gpu_was_wanted() {
        let fails_on_cuda = |provider| {
            assert_eq!(provider, Provider::Cpu);
            Ok(provider)
        };
        for (device, built_in) in [(Device::Cpu, true), (Device::Auto, false)] {
            let served = choose(&config(device, MissingGpu::Refuse), built_in, fails_on_cuda).unwrap();
            assert_eq!(served.unwrap(), chosen(Provider::Cpu, Provider::Cpu));
        }
    }

    #[test]
    fn a_cpu_that_fails_is_an_error() {
        let served = choose(&config(Device::Auto, MissingGpu::Cpu), true, |_| Err::<(), _>("no".to_owned())).unwrap();
        assert_eq!(served, Err("no".to_owned()));
    }
}
