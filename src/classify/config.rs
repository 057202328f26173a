//! What an operator can set about a classifier.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

/// One classifier: where its files are, what runs it, and how much work it accepts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The folder that holds `manifest.json` and the files it names.
    pub dir: PathBuf,
    /// Worker threads on a CPU, each with a session of its own. 0: one for each core.
    pub threads: usize,
    /// The ONNX Runtime library. Unset: `ORT_DYLIB_PATH`, then `.ort/` beside the working directory or the executable,
    /// then the system's.
    pub runtime: Option<PathBuf>,
    /// What the model runs on.
    pub device: Device,
    /// What to do when a GPU was wanted and cannot serve.
    pub on_missing_gpu: MissingGpu,
    /// Texts accepted and not yet answered; the next one is turned away at once.
    pub max_concurrent_requests: usize,
    /// Tokens in one text, without the special ones. A longer text is refused whole, never cut short.
    pub max_input_tokens: usize,
    /// Whether a cheap first stage (`sieve.json` beside the manifest) clears what is plainly harmless.
    pub cascade: Cascade,
    /// With `cascade: audit`, of so many cleared texts one is scored in full all the same.
    pub audit_one_in: usize,
    /// Tokens in one run of the model, padding counted. Matters only to backends that batch.
    pub max_batch_tokens: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("models/guard"),
            threads: 0,
            runtime: None,
            device: Device::Auto,
            on_missing_gpu: MissingGpu::Cpu,
            max_concurrent_requests: 512,
            max_input_tokens: 32_768,
            cascade: Cascade::Off,
            audit_one_in: 100,
            max_batch_tokens: 16_384,
        }
    }
}

/// Whether plainly harmless texts are cleared without the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cascade {
    /// Every text is scored in full.
    #[default]
    Off,
    /// Texts of which the first stage is sure are not scored.
    On,
    /// As `on`, and a share of what is cleared is scored in full to see whether that was right.
    Audit,
}

/// What a model runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// CUDA where the runtime library was built with it, else the CPU.
    #[default]
    Auto,
    /// The CPU, whatever else there is.
    Cpu,
    /// CUDA.
    Cuda,
    /// `TensorRT`; where that cannot serve, CUDA.
    #[serde(rename = "tensorrt")]
    TensorRt,
}

/// What to do when a GPU was wanted and cannot serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MissingGpu {
    /// Serve from the CPU; say so in the log, at error level, in the device label and in `wardline_classifier_fallback`.
    #[default]
    Cpu,
    /// Refuse to load.
    Refuse,
}
