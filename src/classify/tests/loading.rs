//! What the loader takes and what it refuses. Needs the ONNX Runtime library, as `make test` fetches it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::fixture::{Graph, asset, bytes, folder};
use crate::classify::{Classifier, Config, Device, LoadError, MissingGpu, ScoreError, fingerprint};
use crate::telemetry::Metrics;

fn config(dir: &Path) -> Config {
    Config { dir: dir.to_owned(), threads: 2, ..Config::default() }
}

fn load(dir: &Path) -> Result<Classifier, LoadError> {
    Classifier::load(&config(dir), &Metrics::new().unwrap())
}

/// The error for a manifest changed by `edit`.
fn refused(edit: impl FnOnce(&mut Value)) -> LoadError {
    load(folder(&Graph::default(), edit).path()).unwrap_err()
}

/// The error for a graph that a manifest describes rightly.
fn refused_graph(graph: &Graph) -> LoadError {
    load(folder(graph, |_| {}).path()).unwrap_err()
}

#[tokio::test]
async fn a_model_is_loaded_and_scores_every_window() {
    let dir = folder(&Graph::default(), |_| {});
    let classifier = load(dir.path()).unwrap();
    assert_eq!((classifier.name(), classifier.revision(), classifier.device()), ("fixture", "r1", "cpu"));
    let names: Vec<String> = classifier.labels().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["kind.plain", "kind.up", "kind.down", "kind.either"]);
    assert_eq!(classifier.labels()[3].thresholds["fpr_0.5"].to_bits(), 0.9_f32.to_bits());

    let score = |text: &str| classifier.score(Arc::from(text));
    // Ids 30 and above in the second window only: the mean, and so `up`, is higher there.
    let plain = score("a a a a a a a a a a").await.unwrap();
    let rising = score("a a a a a a a a a a zzzzzzz").await.unwrap();
    assert_eq!((plain.windows, plain.tokens), (1, 10));
    assert_eq!((rising.windows, rising.tokens), (2, 17));
    assert!(rising.values[1] > plain.values[1], "{rising:?} {plain:?}");
    // The tokenizer's own truncation (4 tokens) and padding are not in force, "[SEP]" is just text, and a word of 300
    // letters is read.
    assert_eq!(score("a").await.unwrap().tokens, 1);
    assert_eq!(score("[SEP]").await.unwrap().tokens, 5);
    assert_eq!(score(&"a".repeat(300)).await.unwrap().tokens, 300);
    // Two more loaders in one process share the one environment.
    assert_eq!(load(dir.path()).unwrap().score(Arc::from("a")).await.unwrap(), score("a").await.unwrap());
}

#[tokio::test]
async fn the_cap_counts_tokens() {
    let dir = folder(&Graph::default(), |_| {});
    let config = Config { max_input_tokens: 50, ..config(dir.path()) };
    let classifier = Classifier::load(&config, &Metrics::new().unwrap()).unwrap();
    assert!(classifier.score(Arc::from("a ".repeat(50))).await.is_ok());
    let error = classifier.score(Arc::from("a ".repeat(51))).await.unwrap_err();
    assert_eq!(error, ScoreError::TooLong { tokens: 51, cap: 50 });
}

#[test]
fn a_gpu_that_was_asked_for_serves_or_is_said_to_be_missing() {
    let dir = folder(&Graph::default(), |_| {});
    let load = |on_missing_gpu| {
        let config = Config { device: Device::Cuda, on_missing_gpu, ..config(dir.path()) };
        Classifier::load(&config, &Metrics::new().unwrap())
    };
    // On most machines there is none; where there is one, both serve from it.
    match load(MissingGpu::Refuse) {
        Ok(classifier) => assert_eq!(classifier.device(), "cuda"),
        Err(error) => {
            assert!(matches!(error, LoadError::Gpu(_)), "{error}");
            assert_eq!(load(MissingGpu::Cpu).unwrap().device(), "cpu");
        }
    }
}

#[test]
fn a_gpu_needs_a_form_of_the_model_that_is_made_for_it() {
    let dir = folder(&Graph::default(), |_| {});
    let manifest: Value = serde_json::from_slice(&fs::read(dir.path().join("manifest.json")).unwrap()).unwrap();
    let refused = |form: Option<Value>| {
        if let Some(form) = form {
            fs::write(dir.path().join("gpu.json"), form.to_string()).unwrap();
        }
        let config = Config { device: Device::TensorRt, on_missing_gpu: MissingGpu::Refuse, ..config(dir.path()) };
        Classifier::load(&config, &Metrics::new().unwrap()).map_or_else(|error| error.to_string(), |_| String::new())
    };
    let told = refused(None);
    assert!(told.contains("gpu.json: there is no such file; `make models-gpu`"), "{told}");
    let mut weights = asset(&dir.path().join("gpu.onnx"), &Graph::default().bytes());
    weights["precision"] = json!("fp16");
    let form =
        json!({"of": manifest["files"]["weights"]["sha256"], "weights": weights, "self_test": manifest["self_test"]});
    let with = |edit: fn(&mut Value)| {
        let mut form = form.clone();
        edit(&mut form);
        refused(Some(form))
    };
    for (told, expected) in [
        (with(|form| form["of"] = json!("00")), "made from other weights"),
        (with(|form| form["weights"]["precision"] = json!("int8")), "int8 weights are for CPUs"),
        (with(|form| form["self_test"] = json!([])), "self_test compares no score"),
        (with(|form| form["self_test"][0]["scores"] = json!({"harm.typo": 0.5})), "self_test names \"harm.typo\""),
        (with(|form| form["weights"]["path"] = json!("../gpu.onnx")), "leads out of the model's folder"),
        (with(|form| form["weights"]["bytes"] = json!(7)), "size in bytes"),
    ] {
        assert!(told.contains("tensorrt: ") && told.contains("cuda: ") && told.contains(expected), "{told}");
    }
}

#[test]
fn a_fall_back_is_in_the_metrics() {
    let dir = folder(&Graph::default(), |_| {});
    for (device, series) in [(Device::Cuda, "wanted=\"cuda\"} 1"), (Device::Cpu, "wanted=\"cpu\"} 0")] {
        let metrics = Metrics::new().unwrap();
        let classifier = Classifier::load(&Config { device, ..config(dir.path()) }, &metrics).unwrap();
        let page = String::from_utf8(metrics.render().unwrap()).unwrap();
        assert_eq!(classifier.device(), "cpu", "there is no form for a GPU");
        assert!(page.contains(&format!("wardline_classifier_fallback{{model=\"fixture\",{series}\n")), "{page}");
    }
}

#[test]
fn another_form_for_a_gpu_is_another_model() {
    let dir = folder(&Graph::default(), |_| {});
    let told = || fingerprint(&config(dir.path()));
    let before = told();
    assert_eq!(told(), before);
    fs::write(dir.path().join("gpu.json"), "{}").unwrap();
    assert_ne!(told(), before);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let dir = folder(&Graph::default(), |_| {});
    for name in ["tokenizer.json", "model.onnx", "manifest.json"] {
        fs::remove_file(dir.path().join(name)).unwrap();
        let error = load(dir.path()).unwrap_err();
        assert!(matches!(error, LoadError::Read { .. }), "{error}");
        assert!(error.to_string().contains(name) && error.to_string().contains("make models"), "{error}");
    }
}

#[test]
fn a_changed_byte_is_noticed_in_every_file() {
    for name in ["tokenizer.json", "model.onnx"] {
        let dir = folder(&Graph::default(), |_| {});
        let path = dir.path().join(name);
        let whole = fs::read(&path).unwrap();
        let mut changed = whole.clone();
        changed[whole.len() / 2] ^= 1;
        for (content, what) in [(&changed[..], "sha256"), (&whole[1..], "size"), (&[&whole[..], b" "].concat(), "size")]
        {
            fs::write(&path, content).unwrap();
            let error = load(dir.path()).unwrap_err();
            assert!(matches!(error, LoadError::Mismatch { .. }), "{error}");
            assert!(error.to_string().contains(name) && error.to_string().contains(what), "{error}");
        }
    }
}

#[test]
fn a_name_cannot_lead_out_of_the_folder() {
    for name in ["../model.onnx", "/etc/passwd", "a/../../b", "", ".", "..", "..\\model.onnx"] {
        let error = refused(|manifest| manifest["files"]["weights"]["path"] = json!(name));
        assert!(matches!(&error, LoadError::Manifest { reason, .. } if reason.contains("leads out")), "{error}");
    }
}

#[test]
fn a_manifest_must_make_sense() {
    type Edit = fn(&mut Value);
    let cases: [(&str, Edit); 12] = [
        ("format 2", |m| m["format"] = json!(2)),
        ("stride", |m| m["window"]["stride"] = json!(11)),
        ("stride", |m| m["window"]["stride"] = json!(0)),
        ("no heads", |m| m["heads"] = json!([])),
        ("no labels", |m| m["heads"][0]["labels"] = json!([])),
        ("twice", |m| m["heads"][0]["labels"] = json!(["plain", "up", "up"])),
        ("derives", |m| m["heads"][0]["negative"] = json!("other")),
        ("derives", |m| m["heads"][0]["activation"] = json!("sigmoid")),
        ("kind.sideways", |m| m["thresholds"]["kind"]["sideways"] = json!({"fpr_1": 0.5})),
        ("expected 0 to 1", |m| m["thresholds"]["kind"]["up"]["fpr_1"] = json!(1.5)),
        ("compares no score", |m| m["self_test"] = json!([])),
        ("64 hexadecimal", |m| m["files"]["tokenizer"]["sha256"] = json!("abc")),
    ];
    for (reason, edit) in cases {
        let error = refused(edit);
        assert!(matches!(error, LoadError::Manifest { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error} should say {reason}");
    }
    let error = refused(|manifest| manifest["window"]["tokens"] = json!("many"));
    assert!(error.to_string().contains("line"), "{error}");
}

#[test]
fn a_self_test_that_differs_is_an_error() {
    let error = refused(|manifest| manifest["self_test"][0]["scores"]["kind.up"] = json!(0.5));
    let LoadError::SelfTest { label, expected, found, .. } = error else { panic!("{error}") };
    assert_eq!(label, "kind.up");
    assert!((expected - 0.5).abs() < 1e-6 && (found - 0.4368).abs() < 1e-3, "{expected} {found}");
}

#[test]
fn a_graph_with_other_inputs_or_outputs_is_refused() {
    let error = refused_graph(&Graph { inputs: ["tokens", "attention_mask"], ..Graph::default() });
    assert!(error.to_string().contains("inputs are") && error.to_string().contains("input_ids"), "{error}");
    let error = refused_graph(&Graph { element: 6, ..Graph::default() });
    assert!(error.to_string().contains("expected int64"), "{error}");
    let error = refused_graph(&Graph { output: "logits", ..Graph::default() });
    assert!(error.to_string().contains("no output \"head\""), "{error}");
    let error = refused_graph(&Graph { weights: vec![0.1, 0.2], ..Graph::default() });
    assert!(error.to_string().contains("[batch, 3]"), "{error}");
}

#[test]
fn a_graph_that_scores_nan_fails_its_self_test() {
    let error = refused_graph(&Graph { weights: vec![f32::NAN, 0.0, 0.0], ..Graph::default() });
    assert!(matches!(error, LoadError::SelfTest { .. }), "{error}");
}

#[test]
fn a_graph_that_points_to_other_files_is_refused_before_it_is_loaded() {
    let dir = folder(&Graph::default(), |_| {});
    let entry = bytes(13, &[bytes(1, b"location"), bytes(2, b"../../weights.bin")].concat());
    let outside = [Graph::default().bytes(), bytes(7, &bytes(5, &entry))].concat();
    let mut manifest: Value = serde_json::from_slice(&fs::read(dir.path().join("manifest.json")).unwrap()).unwrap();
    manifest["files"]["weights"] = asset(&dir.path().join("model.onnx"), &outside);
    manifest["files"]["weights"]["precision"] = json!("fp32");
    fs::write(dir.path().join("manifest.json"), manifest.to_string()).unwrap();
    let error = load(dir.path()).unwrap_err();
    assert!(matches!(&error, LoadError::Model { reason, .. } if reason.contains("another file")), "{error}");
}

#[test]
fn what_is_no_tokenizer_is_refused() {
    for content in [&b"{}"[..], b"not json"] {
        let dir = folder(&Graph::default(), |_| {});
        let mut manifest: Value = serde_json::from_slice(&fs::read(dir.path().join("manifest.json")).unwrap()).unwrap();
        manifest["files"]["tokenizer"] = asset(&dir.path().join("tokenizer.json"), content);
        fs::write(dir.path().join("manifest.json"), manifest.to_string()).unwrap();
        let error = load(dir.path()).unwrap_err();
        assert!(matches!(&error, LoadError::Model { path, .. } if path.ends_with("tokenizer.json")), "{error}");
    }
}
