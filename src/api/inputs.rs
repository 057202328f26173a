//! Requests that are nothing but input: embeddings, and moderations, which are answered here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value as Tree, json};

use crate::api::call::{Head, member, model, required_string, texts_only};
use crate::api::dialect::{Dialect, Limits, Origin};
use crate::api::error::ReadError;
use crate::api::json::{Json, Kind, Value};
use crate::api::render::to_bytes;
use crate::api::segment::{Gather, Segment};

pub(in crate::api) fn read_call(
    dialect: Dialect,
    doc: &Json,
    limits: &Limits,
) -> Result<(Head, Vec<Segment>), ReadError> {
    let root = doc.root();
    if !root.is_object() {
        return Err(ReadError::wrong_type("", root, "a JSON object"));
    }
    let moderates = dialect == Dialect::OpenAiModerations;
    let model = match member(root, "model") {
        None if moderates => String::new(),
        Some(_) if moderates => required_string(root, "model")?,
        _ => model(root, limits)?,
    };
    let mut gather = Gather::new(doc);
    gather.identifier(root.get("model"));
    let texts = if moderates && is_parts(root) { parts(root)? } else { texts_only(root, "input")? };
    for (text, place) in texts {
        let mut draft = Gather::draft(Origin::User, place, 0);
        gather.leaf(&mut draft, text);
        gather.close(draft);
    }
    Ok((Head { model, stream: false, include_usage: false, choices: 1, stored: Vec::new() }, gather.finish(0)))
}

/// The texts to judge, one a result; the parts of one multi-part input are one text.
pub(in crate::api) fn inputs(root: Value<'_>) -> Vec<String> {
    let Some(input) = root.get("input") else { return Vec::new() };
    let texts = |items: &mut dyn Iterator<Item = Value<'_>>| {
        items.filter_map(|text| Some(text.as_str()?.into_owned())).collect()
    };
    if is_parts(root) {
        let texts: Vec<String> = texts(&mut input.items().filter_map(|part| part.get("text")));
        return vec![texts.join("\n")];
    }
    texts(&mut [input].into_iter().filter(|input| !input.is_array()).chain(input.items()))
}

fn is_parts(root: Value<'_>) -> bool {
    root.get("input").is_some_and(|input| input.items().any(Value::is_object))
}

fn parts(root: Value<'_>) -> Result<Vec<(Value<'_>, String)>, ReadError> {
    let parts = root.get("input").into_iter().flat_map(Value::items).enumerate();
    parts.map(|(at, part)| text_part(part, format!("input[{at}]"))).collect()
}

fn text_part(part: Value<'_>, place: String) -> Result<(Value<'_>, String), ReadError> {
    match part.get("type").and_then(Value::as_str).as_deref() {
        Some("text") => {}
        _ if !part.is_object() => return Err(ReadError::wrong_type(place, part, "an object")),
        _ => return Err(ReadError::unscannable(place, part)),
    }
    let place = format!("{place}.text");
    match part.get("text") {
        Some(text) if text.kind() == Kind::String => Ok((text, place)),
        Some(other) => Err(ReadError::wrong_type(place, other, "a string")),
        None => Err(ReadError::missing(place, part)),
    }
}

/// How much of an answer that is numbers is read: each of them is a value.
pub(in crate::api) fn many_numbers(limits: &Limits) -> Limits {
    Limits { nodes: limits.nodes.max(MOST_NUMBERS), ..limits.clone() }
}

const MOST_NUMBERS: usize = 4_000_000;

/// The texts of an answer of embeddings: what is neither a vector nor a name.
pub(in crate::api) fn read_vectors(doc: &Json) -> Vec<Segment> {
    let root = doc.root();
    let mut gather = Gather::new(doc);
    for key in ["id", "model"] {
        root.all(key).for_each(|name| gather.identifier(Some(name)));
    }
    let items = root.all("data").flat_map(Value::items).flat_map(|item| item.all("embedding"));
    for vector in items.filter(|vector| vector.as_str().is_some_and(|text| is_vector(&text))) {
        gather.inert(vector);
    }
    gather.finish(Segment::WHOLE)
}

/// Whether a string is 32-bit floats in base64. Letters, read as such numbers, are beyond any that a model gives.
fn is_vector(text: &str) -> bool {
    const LARGEST: f32 = 1e6;
    let Ok(bytes) = STANDARD.decode(text) else { return false };
    let mut numbers = bytes.chunks(4).map(|number| number.try_into().map(f32::from_le_bytes));
    numbers.all(|number| number.is_ok_and(|number| number.abs() <= LARGEST))
}

/// One of our labels over one text.
#[derive(Clone, Debug, PartialEq)]
pub struct Assessment {
    /// The label, such as `self_harm`.
    pub label: String,
    /// From 0 to 1.
    pub score: f32,
    /// Whether the score reaches the policy's threshold, or where it has none the one that the model ships.
    pub flagged: bool,
}

/// `OpenAI`'s categories, each with the label of ours that means the same, where there is one.
const CATEGORIES: [(&str, Option<&str>); 13] = [
    ("harassment", Some("harassment")),
    ("harassment/threatening", None),
    ("hate", Some("hate")),
    ("hate/threatening", None),
    ("illicit", Some("illicit")),
    ("illicit/violent", None),
    ("self-harm", Some("self_harm")),
    ("self-harm/instructions", None),
    ("self-harm/intent", None),
    ("sexual", Some("sexual")),
    ("sexual/minors", None),
    ("violence", Some("violence")),
    ("violence/graphic", None),
];

/// The answer of `POST /v1/moderations`: one result a text. Categories that no label stands for are false and 0.
pub(in crate::api) fn moderations(request_id: &str, model: &str, texts: &[Vec<Assessment>]) -> Bytes {
    let results: Vec<Tree> = texts.iter().map(|labels| result(labels)).collect();
    let id = format!("modr-{}", request_id.trim_start_matches("req_"));
    to_bytes(&json!({"id": id, "model": model, "results": results}))
}

fn result(labels: &[Assessment]) -> Tree {
    let (mut categories, mut scores, mut kinds) = (json!({}), json!({}), json!({}));
    let mut flagged = false;
    for (category, label) in CATEGORIES {
        let found = label.and_then(|label| labels.iter().find(|found| found.label == label));
        let hit = found.is_some_and(|found| found.flagged);
        flagged |= hit;
        categories[category] = json!(hit);
        scores[category] = json!(found.map_or(0.0, |found| f64::from(found.score)));
        kinds[category] = if found.is_some() { json!(["text"]) } else { json!([]) };
    }
    json!({"flagged": flagged, "categories": categories, "category_scores": scores, "category_applied_input_types": kinds})
}
