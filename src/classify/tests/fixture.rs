//! A model folder small enough to write by hand: an ONNX graph put together byte by byte, and a tokenizer of letters.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::classify::manifest::hex;

/// Inputs, output and weights of the graph: `logits = mean(input_ids) @ weights`.
pub(super) struct Graph {
    pub(super) inputs: [&'static str; 2],
    pub(super) output: &'static str,
    pub(super) weights: Vec<f32>,
    /// Element type of the inputs: 7 is int64, 6 is int32.
    pub(super) element: u64,
}

impl Default for Graph {
    fn default() -> Self {
        Self { inputs: ["input_ids", "attention_mask"], output: "head", weights: vec![0.0, 0.1, -0.1], element: 7 }
    }
}

impl Graph {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let [ids, mask] = self.inputs;
        let batch_tokens = [dimension("batch"), dimension("tokens")].concat();
        let width = self.weights.len() as u64;
        // Both inputs must be used, or ONNX Runtime may drop one: the mask is added and taken away again.
        let nodes = [
            node("Add", &[ids, mask], "sum", &[]),
            node("Sub", &["sum", mask], "ids", &[]),
            node("Cast", &["ids"], "floats", &attribute("to", 1)),
            node("ReduceMean", &["floats", "axis"], "mean", &attribute("keepdims", 1)),
            node("MatMul", &["mean", "weights"], self.output, &[]),
        ];
        let floats: Vec<u8> = self.weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
        let graph = [
            nodes.concat(),
            bytes(2, b"fixture"),
            bytes(5, &[number(1, 1), number(1, width), number(2, 1), bytes(8, b"weights"), bytes(9, &floats)].concat()),
            bytes(5, &[number(1, 1), number(2, 7), bytes(8, b"axis"), bytes(9, &1_i64.to_le_bytes())].concat()),
            bytes(11, &value(ids, self.element, &batch_tokens)),
            bytes(11, &value(mask, self.element, &batch_tokens)),
            bytes(12, &value(self.output, 1, &[dimension("batch"), bytes(1, &number(1, width))].concat())),
        ];
        let opset = bytes(8, &[bytes(1, b""), number(2, 18)].concat());
        [number(1, 8), bytes(7, &graph.concat()), opset].concat()
    }
}

/// A folder with the graph, a tokenizer and a manifest that fits them, changed by `edit`.
pub(super) fn folder(graph: &Graph, edit: impl FnOnce(&mut Value)) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (weights, tokenizer) = (graph.bytes(), tokenizer());
    let mut manifest = json!({
        "format": 1, "name": "fixture", "revision": "r1", "licence": "Apache-2.0",
        "files": {
            "weights": asset(&dir.path().join("model.onnx"), &weights),
            "tokenizer": asset(&dir.path().join("tokenizer.json"), &tokenizer),
        },
        "window": {"tokens": 12, "stride": 8},
        "heads": [{
            "name": "kind", "output": "head", "activation": "softmax",
            "labels": ["plain", "up", "down"], "negative": "plain", "any": "either",
        }],
        "thresholds": {"kind": {"up": {"fpr_1": 0.75}, "either": {"fpr_0.5": 0.9, "fpr_1": 0.8}}},
        // [CLS] a [SEP] is 2 4 3: mean 3, logits 0, 0.3, -0.3.
        "self_test": [{"text": "a", "scores": {"kind.plain": 0.3236, "kind.up": 0.4368, "kind.either": 0.6764}}],
        "training": {"anything": [1, 2]}, "metrics": {},
    });
    manifest["files"]["weights"]["precision"] = json!("fp32");
    edit(&mut manifest);
    fs::write(dir.path().join("manifest.json"), serde_json::to_vec_pretty(&manifest).unwrap()).unwrap();
    dir
}

/// Writes a file and describes it as a manifest does.
pub(super) fn asset(path: &Path, content: &[u8]) -> Value {
    fs::write(path, content).unwrap();
    json!({"path": path.file_name().unwrap().to_str().unwrap(), "sha256": hex(&Sha256::digest(content)), "bytes": content.len()})
}

/// `WordPiece` over the letters a to z: ids 4 to 29 at the start of a word, 30 to 55 within. Says that it truncates and
/// pads, as published tokenizers do.
pub(super) fn tokenizer() -> Vec<u8> {
    let mut vocabulary = serde_json::Map::new();
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"];
    let letters = ('a'..='z').map(String::from).chain(('a'..='z').map(|letter| format!("##{letter}")));
    for (id, token) in special.map(str::to_owned).into_iter().chain(letters).enumerate() {
        vocabulary.insert(token, json!(id));
    }
    let added: Vec<Value> = special
        .iter()
        .enumerate()
        .map(|(id, token)| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true})
        })
        .collect();
    let tokenizer = json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 4}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
            "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary},
    });
    serde_json::to_vec(&tokenizer).unwrap()
}

/// A length-delimited field.
pub(in crate::classify) fn bytes(field: u64, content: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

/// A varint field.
pub(in crate::classify) fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap());
    bytes
}

fn node(op: &str, inputs: &[&str], output: &str, attributes: &[u8]) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|input| bytes(1, input.as_bytes())).collect();
    let fields = [inputs, bytes(2, output.as_bytes()), bytes(4, op.as_bytes()), attributes.to_vec()];
    bytes(1, &fields.concat())
}

/// An integer attribute, as a node's field.
fn attribute(name: &str, value: u64) -> Vec<u8> {
    bytes(5, &[bytes(1, name.as_bytes()), number(3, value), number(20, 2)].concat())
}

fn dimension(symbol: &str) -> Vec<u8> {
    bytes(1, &bytes(2, symbol.as_bytes()))
}

/// A `ValueInfoProto` of tensor type.
fn value(name: &str, element: u64, dimensions: &[u8]) -> Vec<u8> {
    let tensor = [number(1, element), bytes(2, dimensions)].concat();
    [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat()
}
