//! Bodies of our own in `OpenAI`'s shapes, and how a stream is brought to an end.

use std::collections::BTreeSet;

use serde_json::{Value as Tree, json};

use crate::api::completions::blocked_choice as blocked_completion;
use crate::api::event::Event;
use crate::api::json::Value;
use crate::api::notice::{BlockStyle, Notice, Usage};
use crate::api::openai::event::choices;
use crate::api::render::{ApiError, frame};
use crate::api::reply::identifier;

/// `{"error":{...}}`, with Azure's `innererror` when a guard blocked the prompt.
pub(in crate::api) fn error(error: &ApiError<'_>) -> Tree {
    let mut body = json!({
        "message": error.message,
        "type": error.kind,
        "param": error.param,
        "code": error.code,
    });
    if let Some(notice) = error.content_filter {
        let mut results = json!({});
        if notice.annotate {
            results[notice.rule] = json!({"detected": true, "filtered": true});
        }
        body["innererror"] = json!({"code": "ResponsibleAIPolicyViolation", "content_filter_result": results});
    }
    json!({ "error": body })
}

/// A whole answer that refuses, in every choice.
pub(in crate::api) fn refusal(model: &str, choices: u32, notice: &Notice<'_>) -> Tree {
    let choices: Vec<Tree> = (0..choices).map(|index| blocked_choice(index, notice, BlockStyle::Refusal)).collect();
    json!({
        "id": completion_id(notice.request_id),
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": choices,
        "usage": usage_tree(Usage::default()),
    })
}

pub(super) fn blocked_choice(index: u32, notice: &Notice<'_>, style: BlockStyle) -> Tree {
    json!({
        "index": index,
        "message": {"role": "assistant", "content": null, "refusal": notice.message},
        "logprobs": null,
        "finish_reason": finish_reason(style),
    })
}

pub(super) fn completion_id(request_id: &str) -> String {
    format!("chatcmpl-{}", request_id.trim_start_matches("req_"))
}

pub(in crate::api) fn finish_reason(style: BlockStyle) -> &'static str {
    match style {
        BlockStyle::ContentFilter => "content_filter",
        BlockStyle::Refusal => "stop",
    }
}

pub(in crate::api) fn usage_tree(usage: Usage) -> Tree {
    json!({
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
    })
}

/// How far a stream has come.
#[derive(Clone, Debug, Default)]
pub(in crate::api) struct Progress {
    /// Chunks have the shape of legacy Completions.
    legacy: bool,
    id: Option<String>,
    created: u64,
    model: Option<String>,
    usage: Option<Usage>,
    include_usage: bool,
    /// Choices that the request asks for or that the upstream has sent something for.
    known: BTreeSet<u32>,
    /// Choices of which the client has something.
    begun: BTreeSet<u32>,
    /// Choices whose end the client has.
    finished: BTreeSet<u32>,
    done: bool,
}

impl Progress {
    pub(in crate::api) fn new(legacy: bool, include_usage: bool, choices: u32, model: Option<String>) -> Progress {
        Progress { legacy, include_usage, model, known: (0..choices).collect(), ..Progress::default() }
    }

    pub(in crate::api) fn seen(&mut self, event: &Event) {
        let Some(root) = event.root() else { return };
        self.id = self.id.take().or_else(|| identifier(root, "id"));
        self.model = identifier(root, "model").or_else(|| self.model.take());
        if let Some(created) = root.get("created").and_then(Value::as_u64) {
            self.created = created;
        }
        self.usage = event.usage.or(self.usage);
        self.known.extend(choices(root).map(|(index, _)| index));
    }

    pub(in crate::api) fn released(&mut self, event: &Event) {
        self.done |= event.terminal;
        self.finished.extend(event.finish.iter().map(|finish| finish.choice));
        if let Some(root) = event.root() {
            self.begun.extend(choices(root).map(|(index, _)| index));
        }
    }

    pub(in crate::api) fn block_tail(&self, notice: &Notice<'_>, style: BlockStyle) -> Vec<u8> {
        let mut out = Vec::new();
        if self.done {
            return out;
        }
        for &index in self.known.difference(&self.finished) {
            let begun = self.begun.contains(&index);
            if self.legacy {
                self.legacy_end(index, notice, style, &mut out);
                continue;
            }
            if !begun {
                let delta = json!({"role": "assistant", "content": null, "refusal": notice.message});
                frame(None, &self.chunk(notice, index, &delta, None), &mut out);
            } else if style == BlockStyle::Refusal {
                frame(None, &self.chunk(notice, index, &json!({"refusal": notice.message}), None), &mut out);
            }
            let mut last = self.chunk(notice, index, &json!({}), Some(finish_reason(style)));
            notice.annotate_into(&mut last);
            frame(None, &last, &mut out);
        }
        if self.include_usage
            && let Some(counted) = self.usage
        {
            let mut chunk = self.envelope(notice.request_id);
            chunk["choices"] = json!([]);
            chunk["usage"] = usage_tree(counted);
            frame(None, &chunk, &mut out);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
        out
    }

    /// The chunk that ends a choice of legacy Completions.
    fn legacy_end(&self, index: u32, notice: &Notice<'_>, style: BlockStyle, out: &mut Vec<u8>) {
        let mut last = self.envelope(notice.request_id);
        last["choices"] = json!([blocked_completion(index, notice, style)]);
        if self.include_usage {
            last["usage"] = Tree::Null;
        }
        notice.annotate_into(&mut last);
        frame(None, &last, out);
    }

    pub(in crate::api) fn error_tail(code: &str, message: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let error = json!({"error": {"message": message, "type": "server_error", "param": null, "code": code}});
        frame(None, &error, &mut out);
        out
    }

    fn chunk(&self, notice: &Notice<'_>, index: u32, delta: &Tree, finish: Option<&str>) -> Tree {
        let mut chunk = self.envelope(notice.request_id);
        chunk["choices"] = json!([{"index": index, "delta": delta, "logprobs": null, "finish_reason": finish}]);
        if self.include_usage {
            chunk["usage"] = Tree::Null;
        }
        chunk
    }

    fn envelope(&self, request_id: &str) -> Tree {
        json!({
            "id": self.id.clone().unwrap_or_else(|| completion_id(request_id)),
            "object": if self.legacy { "text_completion" } else { "chat.completion.chunk" },
            "created": self.created,
            "model": self.model.as_deref().unwrap_or_default(),
        })
    }
}
