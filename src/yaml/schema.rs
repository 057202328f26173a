//! JSON Schemas of the files that people write, for their editors.

use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde_json::Value;

/// The schema of a file that is read into `T`, in draft 07, which every editor knows. What may be left out may not be left
/// blank: `null` is taken out of it, as the readers refuse it too.
pub(crate) fn schema_of<T: JsonSchema>(title: &str) -> Value {
    let mut schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<T>();
    AsRead.transform(&mut schema);
    schema.insert("title".to_owned(), title.into());
    schema.to_value()
}

#[derive(Clone, Debug)]
struct AsRead;

impl Transform for AsRead {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(Value::Array(types)) = schema.get_mut("type") {
            types.retain(|kind| kind != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                schema.insert("type".to_owned(), only);
            }
        }
        if let Some(Value::Array(kinds)) = schema.get_mut("anyOf") {
            kinds.retain(|kind| kind.get("type").is_none_or(|kind| kind != "null"));
            if let [only] = kinds.as_slice() {
                let only = only.clone();
                schema.remove("anyOf");
                // Beside a `$ref`, draft 07 reads nothing else.
                schema.insert("allOf".to_owned(), Value::Array(vec![only]));
            }
        }
        if let Some(Value::String(told)) = schema.get_mut("description") {
            // Comments in code are folded at its width, which is no editor's.
            *told = told.replace("\n\n", "\u{0}").replace('\n', " ").replace('\u{0}', "\n\n");
        }
        if schema.get("default").is_some_and(Value::is_null) {
            schema.remove("default");
        }
        transform_subschemas(self, schema);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is of interest")]
    struct Written {
        /// A word
        /// of two lines.
        word: Option<String>,
        inner: Option<Inner>,
    }

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is of interest")]
    struct Inner {
        number: u32,
    }

    #[test]
    fn what_may_be_left_out_may_not_be_null() {
        let schema = schema_of::<Written>("A file");
        assert_eq!(schema["title"], "A file");
        assert_eq!(schema["properties"]["word"], json!({"description": "A word of two lines.", "type": "string"}));
        assert_eq!(schema["properties"]["inner"], json!({"allOf": [{"$ref": "#/definitions/Inner"}]}));
        assert_eq!(schema.get("required"), None);
    }
}
