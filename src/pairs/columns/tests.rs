use parquet::file::reader::SerializedFileReader;
use parquet::record::reader::RowIter;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::pairs::Row;
use crate::pairs::draft::tests::{draft, refused};

/// Through a Parquet file and back, in groups of so many rows.
fn there_and_back(kind: &str, rows: &[Value], group: usize) -> Vec<Value> {
    let mut columns = Columns::new(kind);
    let mut file = SerializedFileWriter::new(Vec::new(), columns.schema().unwrap(), Arc::default()).unwrap();
    for (at, row) in rows.iter().enumerate() {
        columns.add(row.clone());
        if (at + 1).is_multiple_of(group) {
            columns.flush(&mut file).unwrap();
        }
    }
    columns.flush(&mut file).unwrap();
    let bytes = bytes::Bytes::from(file.into_inner().unwrap());
    let rows = RowIter::from_file_into(Box::new(SerializedFileReader::new(bytes).unwrap()));
    rows.map(|row| line(&row.unwrap())).collect()
}

fn value(row: &Row) -> Value {
    serde_json::from_str(&serde_json::to_string(row).unwrap()).unwrap()
}

/// A column that a row has and the schema lacks would be lost without a word.
#[test]
fn every_column_of_a_row_comes_back() {
    let mut rows: Vec<Value> = (0..5).map(|i| value(&draft(&format!("req_{i}")).into_row(&|_| None))).collect();
    rows[3]["meta"]["rating"] = json!(4);
    rows[4]["meta"]["judged"] = json!(7.5);
    assert_eq!(there_and_back("pairs", &rows, 2), rows);
    let rows: Vec<Value> = (0..3).map(|i| value(&refused(&format!("req_{i}")).into_row(&|_| None))).collect();
    assert_eq!(there_and_back("unpaired", &rows, 9), rows);
    for (row, table) in [(draft("a"), PAIR), (refused("b"), UNPAIRED)] {
        let row = value(&row.into_row(&|_| None));
        let names = |members: &[(&'static str, Kind)]| members.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        assert_eq!(names(table), row.as_object().unwrap().keys().collect::<Vec<_>>());
        let Kind::Record(meta) = META else { panic!("a record") };
        assert_eq!(names(meta), row["meta"].as_object().unwrap().keys().collect::<Vec<_>>());
    }
}

#[test]
fn what_a_message_has_no_column_for_is_in_more() {
    let call = json!({"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let odd = json!({"id": "c1", "type": "custom", "custom": {"name": "f", "input": "x"}});
    let messages = json!([
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": null, "tool_calls": [call, call]},
        {"role": "assistant", "tool_calls": [call, odd], "more": "mine", "name": "n"},
        {"role": "tool", "tool_call_id": "c1", "content": "r", "weight": 0.5, "big": 12_345_678_901_234_567_890_u64},
    ]);
    let mut row = value(&draft("req_1").into_row(&|_| None));
    row["prompt"] = messages.clone();
    assert_eq!(there_and_back("pairs", std::slice::from_ref(&row), 1), [row]);
    let mut fitted = messages;
    fitted.as_array_mut().unwrap().iter_mut().for_each(fit_message);
    assert_eq!((&fitted[0]["content"], &fitted[3]["content"]), (&json!("ab"), &json!("r")));
    assert_eq!(fitted[1], json!({"role": "assistant", "tool_calls": [call, call], "more": "{\"content\":null}"}));
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec(("[a-z]{1,4}|id|type|function|name|arguments|text", inner), 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn message() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec!["role", "content", "name", "tool_calls", "tool_call_id", "more", "audio"]);
    prop::collection::vec((name, json_value()), 0..5)
        .prop_map(|members| members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_messages_come_back(prompts in prop::collection::vec(prop::collection::vec(message(), 0..4), 1..6), group in 1..4_usize) {
        let row = value(&draft("req_1").into_row(&|_| None));
        let rows: Vec<Value> = prompts.into_iter().map(|prompt| {
            let mut row = row.clone();
            row["prompt"] = Value::Array(prompt);
            row
        }).collect();
        prop_assert_eq!(there_and_back("pairs", &rows, group), rows);
    }
}
