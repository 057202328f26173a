//! What differs between two policies as they are written, whatever texts they meet.

use serde_json::Value;

use crate::cli::model::decimal;
use crate::policy::{Policy, tokens};

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// Where, e.g. `rules.attack.threshold`.
    pub(super) key: String,
    /// `added`, `removed`, or both values.
    pub(super) what: String,
}

/// Values longer than this are not shown, in characters.
const LONG: usize = 60;

/// In the order of the policy's sections; items of lists by their id.
pub(super) fn changes(old: &Policy, new: &Policy) -> Vec<Change> {
    let mut found = Vec::new();
    let [old_tokens, new_tokens] = [old, new].map(|policy| tokens(&policy.constitution.text));
    if old.constitution.text != new.constitution.text {
        let what = format!("changed, about {old_tokens} tokens -> {new_tokens}");
        found.push(Change { key: "constitution".to_owned(), what });
    }
    // A policy is made of plain values; one that could not be written has no differences to show.
    let [old, new] = [old, new].map(|policy| serde_json::to_value(policy).unwrap_or_default());
    let (old, new) = (without_text(old), without_text(new));
    walk("", &old, &new, &mut found);
    found
}

/// Without what is told above, and without the name, which is the file's.
fn without_text(mut policy: Value) -> Value {
    if let Some(constitution) = policy["constitution"].as_object_mut() {
        constitution.remove("text");
    }
    if let Some(members) = policy.as_object_mut() {
        members.remove("name");
    }
    policy
}

fn walk(key: &str, old: &Value, new: &Value, found: &mut Vec<Change>) {
    if old == new {
        return;
    }
    let tell = |what: String, found: &mut Vec<Change>| found.push(Change { key: key.to_owned(), what });
    match (named(old), named(new)) {
        (Some(old), Some(new)) => {
            for name in names(&old, &new) {
                let [old, new] = [&old, &new].map(|of| of.iter().find(|(of, _)| *of == name).map(|(_, value)| *value));
                let path = if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
                walk(&path, old.unwrap_or(&Value::Null), new.unwrap_or(&Value::Null), found);
            }
        }
        (None, Some(_)) if old.is_null() => tell(added(new), found),
        (Some(_), None) if new.is_null() => tell("removed".to_owned(), found),
        _ => tell(format!("{} -> {}", shown(old), shown(new)), found),
    }
}

fn added(value: &Value) -> String {
    match value.get("action").and_then(Value::as_str) {
        Some(action) => format!("added: {action}"),
        None => "added".to_owned(),
    }
}

/// The members of an object, or of a list whose items have an id or a name. Of labels the index is left out: it is the
/// model's, not the policy's.
fn named(value: &Value) -> Option<Vec<(&str, &Value)>> {
    match value {
        Value::Object(members) if !is_duration(value) => {
            let own = members.iter().filter(|(name, _)| *name != "label");
            Some(own.map(|(name, value)| (name.as_str(), value)).collect())
        }
        Value::Array(items) if !items.is_empty() => {
            items.iter().map(|item| Some((item.get("id").or_else(|| item.get("name"))?.as_str()?, item))).collect()
        }
        _ => None,
    }
}

/// Those of the old one in their order, then those that are new.
fn names<'v>(old: &[(&'v str, &Value)], new: &[(&'v str, &Value)]) -> Vec<&'v str> {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in old.iter().chain(new) {
        if !names.contains(name) {
            names.push(name);
        }
    }
    names
}

fn is_duration(value: &Value) -> bool {
    value.as_object().is_some_and(|members| members.len() == 2 && members.contains_key("nanos"))
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => text.clone(),
        #[expect(clippy::cast_possible_truncation, reason = "thresholds are f32 that were widened")]
        Value::Number(number) => {
            number.as_f64().map_or(number.to_string(), |number| decimal(number as f32).to_string())
        }
        Value::Object(_) if is_duration(value) => {
            let part = |name: &str| value[name].as_u64().unwrap_or_default();
            format!("{} ms", part("secs") * 1000 + part("nanos") / 1_000_000)
        }
        other => other.to_string(),
    };
    if text.chars().count() > LONG { "a long text".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::policy::{Known, KnownLabel, PolicyFile};

    fn policy(text: &str) -> Policy {
        let label =
            KnownLabel { head: "harm".into(), name: "hate".into(), thresholds: [("fpr_1".to_owned(), 0.5)].into() };
        let entities = vec!["EMAIL_ADDRESS".to_owned(), "US_SSN".to_owned()];
        let known = Known { labels: vec![label], entities, ..Known::default() };
        PolicyFile::of_text(Path::new("p.yaml"), text, &known).unwrap().policy
    }

    #[test]
    fn what_differs_is_told_by_key() {
        let old = policy(
            "constitution: { preamble: Be good. }\nrules:\n  - { id: hate, guard: { classifier: harm }, stages: [input], threshold: \
             0.9, action: block }\n  - { id: mail, guard: { entities: [EMAIL_ADDRESS] }, stages: [input], action: redact }\n",
        );
        let new = policy(
            "constitution: { preamble: Be very good. }\nrespond: { message: No. }\nstream: { hold: 1s }\nrules:\n  - { id: hate, \
             guard: { classifier: harm }, stages: [input], threshold: 0.95, action: audit, warn: 0.5 }\n  - { id: ssn, guard: { \
             entities: [US_SSN] }, stages: [input], action: block }\n",
        );
        let told: Vec<String> =
            changes(&old, &new).into_iter().map(|change| format!("{}: {}", change.key, change.what)).collect();
        for expected in [
            "constitution: changed, about 2 tokens -> 4",
            "rules.hate.action: block -> audit",
            "rules.hate.guard.classifier.labels.harm.hate.threshold: 0.9 -> 0.95",
            "rules.hate.guard.classifier.labels.harm.hate.warn: nothing -> 0.5",
            "rules.mail: removed",
            "rules.ssn: added: block",
            "stream.hold: 400 ms -> 1000 ms",
        ] {
            assert!(told.iter().any(|told| told == expected), "{expected} is not in {told:#?}");
        }
        assert!(
            told.iter().any(|told| told.starts_with("respond.message: This was blocked") && told.ends_with("-> No."))
        );
        assert_eq!(told.len(), 8, "{told:#?}");
        assert_eq!(changes(&old, &old), []);
    }
}
