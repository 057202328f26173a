//! What was asked, kept until somebody needs it: cheap to keep, and read only then.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::api::dialect::Dialect;
use crate::api::{anthropic, completions, openai, responses};

/// A request's body as it was judged: with redactions, without the constitution.
#[derive(Clone, Debug)]
pub struct Ground {
    dialect: Dialect,
    body: Bytes,
}

/// The JSON that an answer must be.
#[derive(Clone, Debug, PartialEq)]
pub enum OutputForm {
    /// Any object.
    Object,
    /// What a JSON schema describes.
    Schema(Value),
}

impl OutputForm {
    /// As a JSON schema.
    pub fn schema(&self) -> Value {
        match self {
            Self::Object => json!({"type": "object"}),
            Self::Schema(schema) => schema.clone(),
        }
    }
}

impl Ground {
    pub(in crate::api) fn new(dialect: Dialect, body: Bytes) -> Self {
        Self { dialect, body }
    }

    /// The conversation in `OpenAI`'s shape, whatever the dialect.
    pub fn messages(&self) -> Vec<Value> {
        let body = self.tree();
        match self.dialect {
            Dialect::OpenAiChat => openai::messages(body),
            Dialect::OpenAiResponses | Dialect::OpenAiTokens => responses::messages(&body),
            Dialect::OpenAiCompletions => completions::messages(&body),
            Dialect::AnthropicMessages | Dialect::AnthropicTokens => anthropic::messages(&body),
            Dialect::OpenAiEmbeddings
            | Dialect::OpenAiModerations
            | Dialect::OpenAiModels
            | Dialect::AnthropicModels => Vec::new(),
        }
    }

    /// The tools that the model may call, in `OpenAI`'s shape whatever the dialect.
    pub fn tools(&self) -> Option<Value> {
        let mut tools = self.tree().get_mut("tools")?.take();
        for tool in tools.as_array_mut()?.iter_mut().filter(|tool| tool["input_schema"].is_object()) {
            let (name, description) = (tool["name"].take(), tool["description"].take());
            let function = json!({"name": name, "description": description, "parameters": tool["input_schema"].take()});
            *tool = json!({"type": "function", "function": function});
        }
        Some(tools)
    }

    /// The JSON that the answer must be, where structured output was asked for in any dialect's way.
    pub fn output_form(&self) -> Option<OutputForm> {
        let body = self.tree();
        let asked = ["/response_format", "/output_format", "/output_config/format", "/text/format"];
        asked.iter().find_map(|place| {
            let format = body.pointer(place)?;
            match format["type"].as_str()? {
                "json_object" => Some(OutputForm::Object),
                "json_schema" => {
                    let schema = format.get("schema").or_else(|| format.pointer("/json_schema/schema"))?;
                    Some(OutputForm::Schema(schema.clone()))
                }
                _ => None,
            }
        })
    }

    fn tree(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ground(dialect: Dialect, body: &Value) -> Ground {
        Ground::new(dialect, Bytes::from(body.to_string()))
    }

    #[test]
    fn structured_output_is_known_in_every_dialects_way() {
        let schema = json!({"type": "object", "required": ["a"]});
        for body in [
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}}),
            json!({"output_format": {"type": "json_schema", "schema": schema}}),
            json!({"output_config": {"format": {"type": "json_schema", "schema": schema}}}),
            json!({"text": {"format": {"type": "json_schema", "name": "n", "schema": schema}}}),
        ] {
            let form = ground(Dialect::OpenAiChat, &body).output_form();
            assert_eq!(form, Some(OutputForm::Schema(schema.clone())), "{body}");
        }
        let object = json!({"response_format": {"type": "json_object"}});
        assert_eq!(ground(Dialect::OpenAiChat, &object).output_form(), Some(OutputForm::Object));
        for body in [json!({}), json!({"response_format": {"type": "text"}}), json!({"text": "plain"})] {
            assert_eq!(ground(Dialect::OpenAiChat, &body).output_form(), None, "{body}");
        }
    }

    #[test]
    fn tools_are_in_one_shape() {
        let function = json!({"name": "f", "description": "d", "parameters": {"type": "object"}});
        let openai = json!({"tools": [{"type": "function", "function": function}]});
        let anthropic = json!({"tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}]});
        let expected = Some(openai["tools"].clone());
        assert_eq!(ground(Dialect::OpenAiChat, &openai).tools(), expected);
        assert_eq!(ground(Dialect::AnthropicMessages, &anthropic).tools(), expected);
        assert_eq!(ground(Dialect::OpenAiChat, &json!({"messages": []})).tools(), None);
    }
}
