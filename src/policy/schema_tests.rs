//! The JSON Schema beside the reader: what an editor underlines and what `wardline check` refuses.

use std::fs;
use std::path::Path;

use jsonschema::Validator;
use serde_json::Value;

use super::json_schema;
use super::mistakes::{SOUND, SOUND_CONSTITUTION, SOUND_TESTS, checked};

fn validator() -> Validator {
    jsonschema::draft7::new(&json_schema()).unwrap()
}

fn value(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

#[test]
fn shipped_and_sound_policies_are_valid() {
    let validator = validator();
    let sound = format!("{SOUND}{SOUND_TESTS}").replace(", model: null", "");
    let mut texts = vec![("SOUND".to_owned(), sound), ("SOUND".to_owned(), SOUND_CONSTITUTION.to_owned())];
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    for entry in fs::read_dir(shipped).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            texts.push((path.display().to_string(), fs::read_to_string(path).unwrap()));
        }
    }
    assert!(texts.len() > 2);
    for (name, text) in texts {
        let told: Vec<String> = validator.iter_errors(&value(&text)).map(|error| error.to_string()).collect();
        assert!(told.is_empty(), "{name}: {told:#?}");
        if name != "SOUND" {
            assert!(text.starts_with("# yaml-language-server: $schema=schema/policy.json\n"), "{name}: no modeline");
        }
    }
}

/// What types and shapes can say, both say. That a name exists only the reader knows.
#[test]
fn mistakes_of_form_are_refused_by_both() {
    let validator = validator();
    let sound = format!("{SOUND}{SOUND_TESTS}").replace(", model: null", "");
    for (from, to) in [
        ("timeout: 2s", "timeuot: 2s"),
        ("timeout: 2s", "timeout: 2"),
        ("timeout: 2s", "timeout: soon"),
        ("- id: harm\n", "- idd: harm\n"),
        ("pairs:", "pair:"),
        ("role: auto", "position: first"),
        ("role: auto", "role: boss"),
        ("[input]", "[inptu]"),
        ("[input]", "input"),
        ("[input]", "[]"),
        ("[user, tool_result]", "[user, tool_results]"),
        ("[user, tool_result]", ""),
        ("[US_SSN]", ""),
        ("message: Sorry.", "message: "),
        ("{ classifier: harm }", "harm"),
        ("{ classifier: harm }", "{}"),
        ("{ classifier: harm }", "{ classifier: harm, entities: [US_SSN] }"),
        ("labels: [attack]", "labels: []"),
        ("window_chars: 400", "window_chars: many"),
        ("window_chars: 400", "window_chars: 4"),
        ("rate: 0.5", "rate: 50"),
        ("rate: 0.5", "rate: half"),
        ("threshold: fpr_0.5\n", "threshold: 50\n"),
        ("threshold: fpr_0.5\n", "threshold: 0\n"),
        ("threshold: fpr_0.5\n", "threshold: [0.5]\n"),
        ("- id: attack", "- id: 'attack, you'"),
        ("      text: Do no harm.\n", ""),
        ("    action: revise\n", ""),
        ("text: It is", "txt: It is"),
        ("    answer: I hate you.\n", ""),
        ("    answer: I hate you.\n", "    answer: I hate you.\n    text: Hello.\n"),
        ("{ action: revise }", "revise"),
        ("{ action: revise }", "{ action: rewrite }"),
        ("role: tool", "role: tools"),
    ] {
        assert_eq!(sound.matches(from).count(), 1, "not one place to spoil: {from}");
        let spoilt = sound.replacen(from, to, 1);
        assert!(checked(&spoilt).is_err(), "the reader takes {from:?} -> {to:?}");
        assert!(!validator.is_valid(&value(&spoilt)), "the schema takes {from:?} -> {to:?}");
    }
}

#[test]
fn mistakes_of_form_in_a_constitution_are_refused_by_both() {
    let validator = validator();
    for (from, to) in [
        ("topics:", "topic:"),
        ("off_topic: I", "offtopic: I"),
        ("[tea, cups]", "[]"),
        ("[tea, cups]", "tea"),
        (", off_topic: I only know tea.", ""),
        ("cite: 'Cite as [name].', ", ""),
        ("authority: application", "authority: app"),
        ("good: Like so., bad: Never., ", ""),
        ("good: Like so.", "god: Like so."),
        ("prompt: Which cup?, ", ""),
        ("max_tokens: 500", "max_tokens: 0"),
        ("preamble: Be", "file: ../secret.md\n  preamble: Be"),
        ("preamble: Be", "file: prose.html\n  preamble: Be"),
    ] {
        assert_eq!(SOUND_CONSTITUTION.matches(from).count(), 1, "not one place to spoil: {from}");
        let spoilt = SOUND_CONSTITUTION.replacen(from, to, 1);
        assert!(checked(&spoilt).is_err(), "the reader takes {from:?} -> {to:?}");
        assert!(!validator.is_valid(&value(&spoilt)), "the schema takes {from:?} -> {to:?}");
    }
}
