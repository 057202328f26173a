//! Structured output: an answer that is JSON stays the JSON that was asked for.

use serde_json::Value;

use crate::api::OutputForm;

/// Whether a text is what the client asked for. A schema that cannot be understood is kept by nothing.
pub(super) fn conforms(form: &OutputForm, text: &str) -> bool {
    let Ok(value) = serde_json::from_str::<Value>(text) else { return false };
    match form {
        OutputForm::Object => value.is_object(),
        OutputForm::Schema(schema) => {
            jsonschema::validator_for(schema).is_ok_and(|validator| validator.is_valid(&value))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_form_is_kept_or_not() {
        assert!(conforms(&OutputForm::Object, r#" {"a": 1} "#));
        for text in ["[1]", "{\"a\": 1} and more", "prose", ""] {
            assert!(!conforms(&OutputForm::Object, text), "{text}");
        }
        let schema = OutputForm::Schema(json!({
            "type": "object",
            "properties": {"mood": {"enum": ["good", "bad"]}, "text": {"type": "string"}},
            "required": ["mood", "text"],
            "additionalProperties": false,
        }));
        assert!(conforms(&schema, r#"{"mood": "good", "text": "kind words"}"#));
        for text in [r#"{"mood": "kind", "text": ""}"#, r#"{"mood": "good"}"#, r#"{"mood":"good","text":"","x":1}"#] {
            assert!(!conforms(&schema, text), "{text}");
        }
    }

    #[test]
    fn a_schema_fetches_nothing_and_a_broken_one_is_kept_by_nothing() {
        for schema in [json!({"$ref": "http://127.0.0.1:1/schema"}), json!({"type": "sandwich"})] {
            assert!(!conforms(&OutputForm::Schema(schema), "{}"));
        }
    }
}
