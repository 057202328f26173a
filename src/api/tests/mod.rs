//! The room as a whole, over recorded shapes: `tests/fixtures` at the top of the repository.

mod answers;
mod injection;
mod recorded;
mod requests;
mod streams;
mod work;

use bytes::Bytes;

use crate::api::json::{Edits, Json, Kind, Mode, Value};
use crate::api::{Limits, Notice};

fn limits() -> Limits {
    Limits::default()
}

fn notice() -> Notice<'static> {
    Notice {
        policy: "acme/default",
        revision: "9f2c1e7",
        rule: "toxicity.v2",
        stage: "output",
        action: "block",
        score: Some(0.97),
        threshold: Some(0.9),
        message: "Blocked by policy \"acme/default\".",
        request_id: "req_01J",
        annotate: true,
    }
}

fn tree(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes).unwrap()
}

/// `body` once for each of its strings and keys, with `marker` in the place of that one; and what stood there.
fn marked(body: &[u8], marker: &str) -> Vec<(String, Bytes)> {
    let doc = Json::parse(Bytes::copy_from_slice(body), Mode::Response, &limits()).unwrap();
    let strings = doc.root().tree().filter(|node| matches!(node.kind(), Kind::String | Kind::Key));
    let swap = |node: Value<'_>| {
        let mut edits = Edits::default();
        edits.replace_text(node, marker);
        (node.as_str().unwrap().into_owned(), doc.apply(&edits))
    };
    strings.map(swap).collect()
}

/// Reads as prose, so that no identifier or ciphertext could look like it.
const MARKER: &str = "zq marked words";
