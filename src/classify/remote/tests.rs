//! The wire, without a server: what is asked, and what is and is not an answer. Servers are in `tests/it/remote.rs`.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::config::Config;
use super::wire::{Mismatch, Wire};

fn config(more: &Value) -> Config {
    let mut whole = json!({"url": "http://127.0.0.1:1"});
    whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(whole).unwrap()
}

fn oip(labels: &Value, activation: &str) -> Wire {
    Wire::new(&config(&json!({"protocol": "oip", "model": "m", "labels": labels, "activation": activation})))
}

fn tei() -> Wire {
    Wire::new(&config(&json!({"protocol": "tei", "labels": {"toxic": "LABEL_1", "calm": "LABEL_0"}})))
}

fn moderations() -> Wire {
    let labels = json!({"hate": "hate/threatening", "harm": "violence"});
    Wire::new(&config(&json!({"protocol": "moderations", "model": "omni", "labels": labels})))
}

fn read(wire: &Wire, body: &Value, texts: usize) -> Result<Vec<Vec<f32>>, Mismatch> {
    wire.read(body.to_string().as_bytes(), texts).map(|answer| answer.rows)
}

fn tensor(shape: &Value, datatype: &str, data: &Value) -> Value {
    json!({"model_name": "m", "model_version": "7", "outputs": [
        {"name": "other", "shape": [1], "datatype": "BYTES", "data": ["x"]},
        {"name": "scores", "shape": shape, "datatype": datatype, "data": data},
    ]})
}

#[test]
fn each_protocol_is_asked_in_its_own_shape() {
    let texts = ["a".to_owned(), "\"b\"".to_owned()];
    let asked = |wire: &Wire| serde_json::from_slice::<Value>(&wire.request(&texts)).unwrap();
    let wire = oip(&json!({"a": 0}), "none");
    assert_eq!(wire.path(), "/v2/models/m/infer");
    assert_eq!(
        asked(&wire),
        json!({
            "inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a", "\"b\""]}],
            "outputs": [{"name": "scores"}],
        })
    );
    assert_eq!(tei().path(), "/predict");
    assert_eq!(asked(&tei()), json!({"inputs": [["a"], ["\"b\""]], "raw_scores": false, "truncate": false}));
    assert_eq!(moderations().path(), "/v1/moderations");
    assert_eq!(asked(&moderations()), json!({"model": "omni", "input": ["a", "\"b\""]}));
}

#[test]
fn columns_become_labels_flat_or_nested() {
    let wire = oip(&json!({"attack": 2, "benign": 0}), "none");
    let rows = vec![vec![0.75, 0.5], vec![0.25, 1.0]];
    for data in [json!([0.5, 0.1, 0.75, 1.0, 0.1, 0.25]), json!([[0.5, 0.1, 0.75], [1.0, 0.1, 0.25]])] {
        assert_eq!(read(&wire, &tensor(&json!([2, 3]), "FP32", &data), 2), Ok(rows.clone()));
    }
    let one = oip(&json!({"attack": 0}), "sigmoid");
    assert_eq!(read(&one, &tensor(&json!([2]), "FP64", &json!([0.0, 0.0])), 2), Ok(vec![vec![0.5], vec![0.5]]));
    let two = oip(&json!({"attack": 1}), "softmax");
    assert_eq!(read(&two, &tensor(&json!([1, 2]), "FP32", &json!([3.0, 3.0])), 1), Ok(vec![vec![0.5]]));
    let said = one.read(tensor(&json!([1]), "FP32", &json!([0.0])).to_string().as_bytes(), 1).unwrap();
    assert_eq!(said.revision.as_deref(), Some("7"));
}

#[test]
fn a_tensor_of_another_kind_or_shape_is_refused() {
    let wire = oip(&json!({"attack": 1}), "none");
    let good = json!([0.5, 0.5]);
    for (shape, datatype, data) in [
        (json!([1, 2]), "BYTES", good.clone()),
        (json!([1, 2]), "INT64", json!([0, 1])),
        (json!([2, 2]), "FP32", good.clone()),
        (json!([1, 3]), "FP32", good.clone()),
        (json!([1, 1]), "FP32", json!([0.5])),
        (json!([1, 0]), "FP32", json!([])),
        (json!([1, 1, 2]), "FP32", good.clone()),
        (json!([1, 2]), "FP32", json!(0.5)),
        (json!([1, 2]), "FP32", json!([[[0.5, 0.5]]])),
        (json!([1, 2]), "FP32", json!(["0.5", "0.5"])),
        (json!([1, usize::MAX]), "FP32", good.clone()),
    ] {
        assert!(read(&wire, &tensor(&shape, datatype, &data), 1).is_err(), "{shape} {datatype} {data}");
    }
    let none = read(&wire, &json!({"outputs": []}), 1).unwrap_err();
    assert_eq!(none.to_string(), "the answer has no output `scores`");
}

#[test]
fn labels_are_found_by_name_in_any_order() {
    let row = json!([{"label": "LABEL_0", "score": 0.25}, {"label": "LABEL_1", "score": 0.75}]);
    let turned = json!([{"score": 0.5, "label": "LABEL_1"}, {"score": 0.5, "label": "LABEL_0"}]);
    assert_eq!(read(&tei(), &json!([row, turned]), 2), Ok(vec![vec![0.25, 0.75], vec![0.5, 0.5]]));
    let scores = json!({"hate": 0.1, "hate/threatening": 0.5, "violence": 0.25});
    let body = json!({"id": "x", "model": "omni-2", "results": [{"flagged": true, "category_scores": scores}]});
    assert_eq!(read(&moderations(), &body, 1), Ok(vec![vec![0.25, 0.5]]));
    assert_eq!(moderations().read(body.to_string().as_bytes(), 1).unwrap().revision.as_deref(), Some("omni-2"));
}

#[test]
fn a_label_that_is_missing_fails_and_at_load_says_what_there_is() {
    let missing = read(&tei(), &json!([[{"label": "LABEL_0", "score": 0.25}]]), 1).unwrap_err();
    assert_eq!(missing.to_string(), "the answer has nothing for the label `toxic`");
    assert_eq!(missing.told(), "the answer has nothing for the label `toxic`; it has `LABEL_0`");
    let scores = json!({"results": [{"category_scores": {"violence": 0.25}}]});
    assert!(matches!(read(&moderations(), &scores, 1), Err(Mismatch::NoLabel { .. })));
    let column = read(&oip(&json!({"attack": 5}), "none"), &tensor(&json!([1, 2]), "FP32", &json!([0, 1])), 1);
    assert!(column.unwrap_err().told().ends_with("`attack`; it has `0`, `1`"));
}

#[test]
fn what_is_no_number_is_seen() {
    let row = json!([[{"label": "LABEL_0", "score": null}, {"label": "LABEL_1", "score": 0.5}]]);
    let rows = read(&tei(), &row, 1).unwrap();
    assert!(rows[0][0].is_nan() && rows[0][1] > 0.4);
    let rows = read(&oip(&json!({"attack": 0}), "sigmoid"), &tensor(&json!([1]), "FP32", &json!([null])), 1).unwrap();
    assert!(rows[0][0].is_nan());
}

/// One text more or less, two for one, or nothing: the scores of one text never become another's.
#[test]
fn a_row_for_each_text_or_none_at_all() {
    let row = json!([{"label": "LABEL_0", "score": 0.25}, {"label": "LABEL_1", "score": 0.75}]);
    for (body, texts) in [(json!([row, row]), 1), (json!([row]), 2), (json!([]), 1)] {
        assert!(matches!(read(&tei(), &body, texts), Err(Mismatch::Rows { .. })), "{body}");
    }
    // The answer to a single text that was not asked as a list.
    assert!(matches!(read(&tei(), &row, 2), Err(Mismatch::Unreadable(_))));
    for body in ["", "{}", "[", "null", "{\"results\":[]}{}", "[[NaN]]"] {
        for wire in [tei(), moderations(), oip(&json!({"a": 0}), "none")] {
            assert!(wire.read(body.as_bytes(), 1).is_err(), "{body}");
        }
    }
}

#[test]
fn settings_that_make_no_sense_are_told_by_key() {
    let tei = |more: &Value| {
        let mut whole = json!({"protocol": "tei", "labels": {"toxic": "LABEL_1"}});
        whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config(&whole).mistake().map(|(key, reason)| format!("{key}: {reason}"))
    };
    assert_eq!(tei(&json!({})), None);
    for (more, told) in [
        (json!({"timeout_ms": 0}), "timeout_ms: expected at least 1"),
        (json!({"max_batch_texts": 0}), "max_batch_texts: expected at least 1"),
        (
            json!({"max_concurrent_calls": 999}),
            "max_concurrent_calls: expected at most 256: each call waits on a thread",
        ),
        (json!({"window_chars": 100, "overlap_chars": 100}), "overlap_chars: expected less than `window_chars`, 100"),
        (json!({"labels": {}}), "labels: expected at least one label"),
        (json!({"labels": {"a": 0}}), "labels.a: `protocol: tei` takes the server's name of the label"),
        (json!({"protocol": "oip"}), "model: `protocol: oip` needs the model's name"),
        (
            json!({"protocol": "oip", "model": "m"}),
            "labels.toxic: `protocol: oip` takes the number of its column, from 0",
        ),
        (json!({"thresholds": {"b": {"x": 0.5}}}), "thresholds.b: `labels` has no such label"),
        (json!({"thresholds": {"toxic": {"x": 1.5}}}), "thresholds.toxic: expected 0 to 1, found 1.5"),
    ] {
        assert_eq!(tei(&more).as_deref(), Some(told));
    }
}

proptest! {
    #[test]
    fn any_bytes_end_in_an_answer_or_a_refusal(body in prop::collection::vec(any::<u8>(), 0..200), texts in 1_usize..4) {
        for wire in [tei(), moderations(), oip(&json!({"a": 0}), "softmax")] {
            if let Ok(answer) = wire.read(&body, texts) {
                prop_assert_eq!(answer.rows.len(), texts);
            }
        }
    }

    #[test]
    fn any_tensor_that_is_taken_has_a_row_a_text(
        shape in prop::collection::vec(0_usize..4, 0..4),
        data in prop::collection::vec(-1e3_f64..1e3, 0..12),
        texts in 1_usize..4,
    ) {
        let wire = oip(&json!({"a": 0}), "softmax");
        if let Ok(rows) = read(&wire, &tensor(&json!(shape), "FP32", &json!(data)), texts) {
            prop_assert_eq!(rows.len(), texts);
            prop_assert_eq!(data.len(), shape.iter().product::<usize>());
        }
    }
}
