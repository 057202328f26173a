use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;

use super::*;

const WEATHER: &str = r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"#;

/// Asks over a socket, as HTTP/1.1 or h2, and gives back status, content type and body.
async fn post(h2: bool, path: &str, body: &Value) -> (u16, String, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve(listener, Pace::Unpaced));
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).http2_only(h2).build_http();
    let request = Request::post(format!("http://{address}{path}")).body(Full::from(body.to_string())).unwrap();
    let response = client.request(request).await.unwrap();
    let status = response.status().as_u16();
    let content_type = response.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    server.abort();
    (status, content_type, String::from_utf8(body.to_vec()).unwrap())
}

async fn ask(path: &str, user: &str, more: Value) -> Value {
    let mut body = json!({"model": "m", "max_tokens": 500, "messages": [{"role": "user", "content": user}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, _, answer) = post(false, path, &body).await;
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(&answer).unwrap()
}

/// The JSON of a stream's frames; `[DONE]` and the event names are checked and left out.
async fn events(path: &str, user: &str, more: Value) -> Vec<Value> {
    let mut body =
        json!({"model": "m", "max_tokens": 500, "stream": true, "messages": [{"role": "user", "content": user}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, content_type, stream) = post(true, path, &body).await;
    assert_eq!((status, content_type.as_str()), (200, "text/event-stream"));
    let stream = if path.ends_with("completions") { stream.strip_suffix("data: [DONE]\n\n").unwrap() } else { &stream };
    let event = |frame: &str| {
        let (name, data) = frame.split_once("data: ").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        let expected = data["type"].as_str().map_or(String::new(), |kind| format!("event: {kind}\n"));
        assert_eq!(name, expected);
        data
    };
    stream.strip_suffix("\n\n").unwrap().split("\n\n").map(event).collect()
}

fn chat_text(events: &[Value], choice: usize) -> String {
    let choices = events.iter().filter_map(|event| event["choices"].get(0));
    choices.filter(|c| c["index"] == choice).filter_map(|c| c["delta"]["content"].as_str()).collect()
}

#[tokio::test]
async fn a_chat_says_the_same_streamed_and_whole_and_says_what_it_is() {
    let whole = ask("/v1/chat/completions", "Tell me about the sea.", json!({})).await;
    let text = whole["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.contains("“the sea”") && text.contains("no language model"), "{text}");
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    let more = json!({"n": 2, "stream_options": {"include_usage": true}});
    let events = events("/v1/chat/completions", "Tell me about the sea.", more).await;
    assert_eq!(chat_text(&events, 0), text);
    assert_eq!(chat_text(&events, 1), format!("Choice 2: {text}"));
    let (usage, chunks) = events.split_last().unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert!(usage["usage"]["completion_tokens"].as_u64().unwrap() > 100);
    assert!(chunks.iter().all(|chunk| chunk["id"] == events[0]["id"] && chunk.get("usage") == Some(&Value::Null)));
    assert_eq!(chunks.iter().filter(|chunk| chunk["choices"][0]["finish_reason"] == "stop").count(), 2);
}

#[tokio::test]
async fn a_message_says_the_same_streamed_and_whole() {
    let whole = ask("/v1/messages", "Tell me about the sea.", json!({})).await;
    assert_eq!(whole["stop_reason"], "end_turn");
    let events = events("/v1/messages", "Tell me about the sea.", json!({})).await;
    let text: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(whole["content"][0]["text"], text);
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(&kinds[..4], ["message_start", "content_block_start", "ping", "content_block_delta"]);
    assert_eq!(&kinds[kinds.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    assert_eq!(events[kinds.len() - 2]["usage"]["output_tokens"], whole["usage"]["output_tokens"]);
}

#[tokio::test]
async fn the_weather_is_asked_of_a_tool_and_its_result_passed_on() {
    let schema: Value = serde_json::from_str(WEATHER).unwrap();
    let chat = json!({"tools": [{"type": "function", "function": {"name": "get_weather", "parameters": schema}}]});
    let message = json!({"tools": [{"name": "get_weather", "input_schema": schema}]});
    let question = "What is the weather in Oslo?";
    let whole = ask("/v1/chat/completions", question, chat.clone()).await;
    let call = &whole["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!((&call["name"], &call["arguments"]), (&json!("get_weather"), &json!(r#"{"city":"Oslo"}"#)));
    let stream = events("/v1/chat/completions", question, chat).await;
    let calls = stream.iter().map(|event| &event["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"]);
    assert_eq!(calls.filter_map(Value::as_str).collect::<String>(), r#"{"city":"Oslo"}"#);
    assert_eq!(stream.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
    let whole = ask("/v1/messages", question, message.clone()).await;
    assert_eq!((&whole["content"][0]["input"], &whole["stop_reason"]), (&json!({"city": "Oslo"}), &json!("tool_use")));
    let stream = events("/v1/messages", question, message).await;
    let parts: Vec<_> = stream.iter().filter_map(|event| event["delta"]["partial_json"].as_str()).collect();
    assert!(parts.len() > 1);
    assert_eq!(parts.concat(), r#"{"city":"Oslo"}"#);
    let messages = json!({"messages": [
        {"role": "user", "content": question},
        {"role": "tool", "tool_call_id": "c", "content": "4 degrees"},
    ]});
    let after = ask("/v1/chat/completions", question, messages).await;
    assert!(after["choices"][0]["message"]["content"].as_str().unwrap().starts_with("The tool says: 4 degrees."));
}

#[tokio::test]
async fn words_decide() {
    let said = |answer: Value| answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    let chat = "/v1/chat/completions";
    let set = crate::guard::PatternSet::compile(&["EMAIL_ADDRESS".into(), "CREDIT_CARD".into()], &[]).unwrap();
    let contact = said(ask(chat, "How can I contact you?", json!({})).await);
    assert_eq!(set.find(&contact).len(), 2, "{contact}");
    assert!(said(ask(chat, "Insult me!", json!({})).await).contains("idiot"));
    let messages = json!({"messages": [
        {"role": "system", "content": "First."}, {"role": "developer", "content": [{"type": "text", "text": "Second."}]},
        {"role": "user", "content": "echo system"},
    ]});
    assert_eq!(said(ask(chat, "", messages).await), "First.\n\nSecond.");
    let system = json!({"system": [{"type": "text", "text": "Constitution"}]});
    assert_eq!(ask("/v1/messages", "echo system", system).await["content"][0]["text"], "Constitution");
    let critic = |role: &str, answer: &str| {
        let document = json!({"principle": "p", "answer": answer}).to_string();
        json!({"messages": [{"role": "system", "content": role}, {"role": "user", "content": document}]})
    };
    let verdict = said(ask(chat, "", critic("You are the critic. Judge.", "You idiot.")).await);
    let verdict: Value = serde_json::from_str(&verdict).unwrap();
    assert_eq!((&verdict["violated"], &verdict["where"]), (&json!(true), &json!("You idiot.")));
    let revision = said(ask(chat, "", critic("You are the reviser. Mend.", "Hello. You idiot.")).await);
    assert_eq!(serde_json::from_str::<Value>(&revision).unwrap(), json!({"revision": "Hello."}));
}

#[tokio::test]
async fn a_short_limit_cuts_and_says_so() {
    let cut = ask("/v1/chat/completions", "Hello", json!({"max_tokens": 3})).await;
    assert_eq!(cut["choices"][0]["message"]["content"], "Thank you for");
    assert_eq!(
        (&cut["choices"][0]["finish_reason"], &cut["usage"]["completion_tokens"]),
        (&json!("length"), &json!(3))
    );
    assert_eq!(ask("/v1/messages", "Hello", json!({"max_tokens": 3})).await["stop_reason"], "max_tokens");
}

#[tokio::test]
async fn mistakes_are_told_in_the_dialects_shape() {
    let (status, _, body) = post(false, "/v1/chat/completions", &json!({"model": "m", "messages": []})).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["error"]["type"]), (400, &json!("invalid_request_error")));
    let bare = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
    let (status, _, body) = post(false, "/v1/messages", &bare).await;
    assert!(status == 400 && body.starts_with(r#"{"type":"error","error":"#), "{body}");
    assert_eq!(post(false, "/v1/embeddings", &bare).await.0, 400);
    assert_eq!(post(false, "/v1/responses", &json!({"model": "m"})).await.0, 400);
    assert_eq!(post(false, "/v1/completions", &json!({"model": "m"})).await.0, 400);
    assert_eq!(post(false, "/v1/images/generations", &bare).await.0, 404);
}

#[tokio::test]
async fn a_response_says_the_same_streamed_and_whole() {
    let question =
        json!({"input": [{"role": "user", "content": [{"type": "input_text", "text": "Tell me about the sea."}]}]});
    let whole = ask("/v1/responses", "", question.clone()).await;
    let text = whole["output"][0]["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("“the sea”") && whole["status"] == "completed", "{whole}");
    let events = events("/v1/responses", "", question).await;
    let deltas = events.iter().filter(|event| event["type"] == "response.output_text.delta");
    assert_eq!(deltas.filter_map(|event| event["delta"].as_str()).collect::<String>(), text);
    assert!(events.iter().enumerate().all(|(number, event)| event["sequence_number"] == number));
    assert_eq!(events.last().unwrap()["response"]["output"][0]["content"][0]["text"], text);
    let schema: Value = serde_json::from_str(WEATHER).unwrap();
    let tools = json!({"input": "What is the weather in Oslo?", "tools": [{"type": "function", "name": "get_weather", "parameters": schema}]});
    let call = &ask("/v1/responses", "", tools).await["output"][0];
    assert_eq!((&call["type"], &call["arguments"]), (&json!("function_call"), &json!(r#"{"city":"Oslo"}"#)));
    let cut = ask("/v1/responses", "", json!({"input": "Hello", "max_output_tokens": 3})).await;
    assert_eq!(cut["incomplete_details"]["reason"], "max_output_tokens");
    let echoed = ask("/v1/responses", "", json!({"input": "echo system", "instructions": "First."})).await;
    assert_eq!(echoed["output"][0]["content"][0]["text"], "First.");
}

#[tokio::test]
async fn completions_embeddings_and_counts_are_answered_too() {
    let prompt = json!({"prompt": "Be kind.\n\nTell me about the sea.", "n": 2});
    let whole = ask("/v1/completions", "", prompt.clone()).await;
    let text = whole["choices"][0]["text"].as_str().unwrap();
    assert!(text.contains("“the sea”"), "{whole}");
    let events = events("/v1/completions", "", prompt).await;
    let said: String = events
        .iter()
        .filter(|event| event["choices"][0]["index"] == 0)
        .filter_map(|event| event["choices"][0]["text"].as_str())
        .collect();
    assert_eq!(said, text);
    let vectors = |more: Value| async move { ask("/v1/embeddings", "", more).await["data"].clone() };
    let near = vectors(json!({"input": ["the wide sea", "the blue sea", "a loaf of bread"]})).await;
    let numbers =
        |at: usize| near[at]["embedding"].as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect::<Vec<_>>();
    let like = |a: usize, b: usize| numbers(a).iter().zip(numbers(b)).map(|(a, b)| a * b).sum::<f64>();
    assert!(like(0, 1) > 0.5 && like(0, 1) > like(0, 2), "{} {}", like(0, 1), like(0, 2));
    let packed = vectors(json!({"input": "the wide sea", "encoding_format": "base64", "dimensions": 3})).await;
    assert_eq!(packed[0]["embedding"].as_str().map(str::len), Some(16));
    let counted = ask("/v1/messages/count_tokens", "one two three", json!({"system": "four"})).await;
    assert_eq!(counted, json!({"input_tokens": 5}));
    let counted = ask("/v1/responses/input_tokens", "", json!({"input": "one two", "messages": null})).await;
    assert_eq!(counted["input_tokens"], 2);
    assert_eq!(plain::models(Wire::OpenAi, None).unwrap()["data"][0]["id"], "demo");
    assert_eq!(plain::models(Wire::Anthropic, Some("demo")).unwrap()["type"], "model");
    assert!(plain::models(Wire::OpenAi, Some("other")).is_none());
}
