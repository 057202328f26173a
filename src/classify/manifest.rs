//! `manifest.json`: what a model folder holds and what it may be trusted for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::{Component, Path};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::classifier::Label;
use super::load::LoadError;

/// The file's name within a model folder.
pub(super) const NAME: &str = "manifest.json";

/// Format 1. Fields that this version does not know (`training`, `metrics`, further files) are passed over; what it
/// reads is checked whole.
#[derive(Debug, Deserialize)]
pub(super) struct Manifest {
    format: u32,
    pub(super) name: String,
    pub(super) revision: String,
    pub(super) files: Files,
    pub(super) window: Window,
    pub(super) heads: Vec<Head>,
    /// Head, label, threshold name.
    #[serde(default)]
    thresholds: BTreeMap<String, BTreeMap<String, BTreeMap<String, f32>>>,
    pub(super) self_test: Vec<SelfTest>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Files {
    pub(super) weights: Weights,
    pub(super) tokenizer: Asset,
}

#[derive(Debug, Deserialize)]
pub(super) struct Weights {
    #[serde(flatten)]
    pub(super) asset: Asset,
    pub(super) precision: Precision,
}

/// `gpu.json`: the form of the weights that a GPU serves, made from those of the manifest by `make models-gpu`.
#[derive(Debug, Deserialize)]
pub(super) struct GpuForm {
    /// SHA-256 of the weights that it was made from.
    of: String,
    pub(super) weights: Weights,
    /// What it says itself: it is near to the weights that it was made from, not equal.
    pub(super) self_test: Vec<SelfTest>,
}

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Precision {
    /// Dynamic quantisation: activation scales are taken over a whole batch, so that a text's score would depend on its
    /// neighbours. Never batched.
    Int8,
    Fp16,
    Fp32,
}

/// One file, by what it must be.
#[derive(Debug, Deserialize)]
pub(super) struct Asset {
    path: String,
    sha256: String,
    bytes: u64,
}

/// See [`super::windows::Frame`]: special tokens count in `tokens`, not in `stride`.
#[derive(Debug, Deserialize)]
pub(super) struct Window {
    pub(super) tokens: usize,
    pub(super) stride: usize,
}

/// One output of the graph and how to read it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    pub(super) name: String,
    /// The name of the graph's output: logits, one a label.
    pub(super) output: String,
    pub(super) activation: Activation,
    /// In the order of the logits.
    pub(super) labels: Vec<String>,
    /// The label that means "nothing of it", for `any`.
    pub(super) negative: Option<String>,
    /// Name of the derived label `1 - P(negative)`. Softmax heads only.
    pub(super) any: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Activation {
    Softmax,
    Sigmoid,
}

/// A text and what the model said of it when it was made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SelfTest {
    pub(super) text: String,
    /// By full label name, e.g. `prompt_attack.attack`.
    pub(super) scores: BTreeMap<String, f32>,
}

impl Manifest {
    /// Reads and checks `dir/manifest.json`.
    pub(super) fn read(dir: &Path) -> Result<Self, LoadError> {
        let path = dir.join(NAME);
        let bytes = fs::read(&path).map_err(|source| LoadError::Read { path: path.clone(), source })?;
        let wrong = |reason: String| LoadError::Manifest { path: path.clone(), reason };
        let manifest: Self = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        manifest.check().map_err(wrong)?;
        Ok(manifest)
    }

    /// All labels in the order of a row of scores: head by head, each head's derived label after its own.
    pub(super) fn labels(&self) -> Vec<Label> {
        let label = |head: &Head, name: &str| {
            let thresholds = self.thresholds.get(&head.name).and_then(|labels| labels.get(name));
            Label {
                head: head.name.clone(),
                name: name.to_owned(),
                thresholds: thresholds.cloned().unwrap_or_default(),
            }
        };
        self.heads.iter().flat_map(|head| head.names().map(|name| label(head, name))).collect()
    }

    fn check(&self) -> Result<(), String> {
        if self.format != 1 {
            return Err(format!("format {} is not one that this version reads (1)", self.format));
        }
        let Window { tokens, stride } = self.window;
        if tokens < 3 || stride == 0 || stride > tokens - 2 {
            return Err(format!("window of {tokens} tokens with stride {stride}: expected 1 <= stride <= tokens - 2"));
        }
        for asset in [&self.files.weights.asset, &self.files.tokenizer] {
            asset.check()?;
        }
        self.check_heads()?;
        self.check_thresholds()?;
        check_self_test(&self.self_test, &self.labels())
    }

    fn check_heads(&self) -> Result<(), String> {
        if self.heads.is_empty() {
            return Err("no heads".to_owned());
        }
        let mut outputs = BTreeSet::new();
        let mut names = BTreeSet::new();
        for head in &self.heads {
            if !outputs.insert(&head.output) {
                return Err(format!("output {:?} belongs to two heads", head.output));
            }
            if head.labels.is_empty() {
                return Err(format!("head {:?} has no labels", head.name));
            }
            for name in head.names() {
                if !names.insert((&head.name, name)) {
                    return Err(format!("label \"{}.{name}\" is there twice", head.name));
                }
            }
            head.check_derived()?;
        }
        Ok(())
    }

    fn check_thresholds(&self) -> Result<(), String> {
        for (head, labels) in &self.thresholds {
            for (label, thresholds) in labels {
                let known =
                    self.heads.iter().any(|known| known.name == *head && known.names().any(|name| name == label));
                if !known {
                    return Err(format!("thresholds for \"{head}.{label}\", which no head has"));
                }
                if let Some((name, value)) = thresholds.iter().find(|(_, value)| !(0.0..=1.0).contains(*value)) {
                    return Err(format!("threshold {name:?} of \"{head}.{label}\" is {value}: expected 0 to 1"));
                }
            }
        }
        Ok(())
    }
}

/// A self-test that compares nothing, or what is not there, would pass whatever the weights are.
fn check_self_test(cases: &[SelfTest], labels: &[Label]) -> Result<(), String> {
    if cases.iter().all(|case| case.scores.is_empty()) {
        return Err("self_test compares no score".to_owned());
    }
    let labels: BTreeSet<String> = labels.iter().map(ToString::to_string).collect();
    let unknown = cases.iter().flat_map(|case| case.scores.keys()).find(|name| !labels.contains(*name));
    unknown.map_or(Ok(()), |name| Err(format!("self_test names {name:?}, which no head has")))
}

impl GpuForm {
    /// The file's name within a model folder.
    pub(super) const NAME: &str = "gpu.json";

    /// Reads and checks `dir/gpu.json`; none where there is no such file.
    pub(super) fn read(dir: &Path, manifest: &Manifest) -> Result<Option<Self>, LoadError> {
        let path = dir.join(Self::NAME);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LoadError::Read { path, source }),
        };
        let wrong = |reason: String| LoadError::Manifest { path: path.clone(), reason };
        let form: Self = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        form.check(manifest).map_err(wrong)?;
        Ok(Some(form))
    }

    fn check(&self, manifest: &Manifest) -> Result<(), String> {
        if !self.of.eq_ignore_ascii_case(&manifest.files.weights.asset.sha256) {
            return Err("it was made from other weights than the manifest's; run `make models-gpu` again".to_owned());
        }
        if self.weights.precision == Precision::Int8 {
            return Err("int8 weights are for CPUs: expected fp16 or fp32".to_owned());
        }
        check_self_test(&self.self_test, &manifest.labels())?;
        self.weights.asset.check()
    }
}

impl Head {
    /// The head's labels and, after them, the derived one.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.labels.iter().chain(&self.any).map(String::as_str)
    }

    fn check_derived(&self) -> Result<(), String> {
        let Some(any) = &self.any else { return Ok(()) };
        let negative = self.negative.as_ref().filter(|negative| self.labels.contains(negative));
        if self.activation != Activation::Softmax || negative.is_none() {
            return Err(format!(
                "head {:?} derives {any:?}: that takes a softmax head whose `negative` is one of its labels",
                self.name
            ));
        }
        Ok(())
    }
}

impl Asset {
    /// The file's bytes, read once, of the size and hash that the manifest promises.
    pub(super) fn read(&self, dir: &Path) -> Result<Vec<u8>, LoadError> {
        let path = dir.join(&self.path);
        let failed = |source| LoadError::Read { path: path.clone(), source };
        let mut bytes = Vec::with_capacity(usize::try_from(self.bytes).unwrap_or(0).min(MOST_BYTES_AHEAD));
        // One byte more than promised is enough to know that the file is too long.
        let file = fs::File::open(&path).map_err(failed)?;
        file.take(self.bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
        let size = bytes.len() as u64;
        if size != self.bytes {
            let found = if size > self.bytes { "more".to_owned() } else { size.to_string() };
            let expected = self.bytes.to_string();
            return Err(LoadError::Mismatch { path, what: "size in bytes", expected, found });
        }
        let found = hex(&Sha256::digest(&bytes));
        if !found.eq_ignore_ascii_case(&self.sha256) {
            return Err(LoadError::Mismatch { path, what: "sha256", expected: self.sha256.clone(), found });
        }
        Ok(bytes)
    }

    /// Where the file lies, for messages.
    pub(super) fn path(&self, dir: &Path) -> std::path::PathBuf {
        dir.join(&self.path)
    }

    /// A name must stay in the folder.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut parts = Path::new(&self.path).components().peekable();
        let inside = parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)));
        if !inside || self.path.contains('\\') {
            return Err(format!("file name {:?} leads out of the model's folder", self.path));
        }
        if self.sha256.len() != 64 || !self.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("sha256 of {:?} is not 64 hexadecimal digits", self.path));
        }
        Ok(())
    }
}

/// How much memory a manifest's word alone may claim; a larger file grows its buffer as it is read.
const MOST_BYTES_AHEAD: usize = 256 << 20;

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
