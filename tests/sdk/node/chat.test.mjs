// OpenAI's Node SDK, through the gateway, on /v1/chat/completions.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  OpenAI, SAID, anonymous, guarded, innocent, pairs, refusing, revising, script, tapped, until,
} from "./world.mjs";

const messages = [
  { role: "system", content: SAID.own_system },
  { role: "user", content: SAID.question },
];
const attack = [{ role: "user", content: SAID.attack }];
const tools = [
  {
    type: "function",
    function: {
      name: "weather",
      description: "The weather of the next days.",
      parameters: { type: "object", properties: { city: { type: "string" }, days: { type: "integer" } } },
    },
  },
];

function client(gateway, tap, more = {}) {
  const options = { baseURL: `${gateway.url}/v1`, apiKey: SAID.client_key, fetch: tap.fetch, timeout: 40_000 };
  return new OpenAI({ ...options, ...more }).chat.completions;
}

/** Text and finish reason of each choice; the script's gate is opened once most of the harmless text has come. */
async function collected(chunks, said) {
  const texts = {};
  const finished = {};
  for await (const chunk of chunks) {
    for (const choice of chunk.choices) {
      texts[choice.index] = (texts[choice.index] ?? "") + (choice.delta.content ?? "");
      if (choice.finish_reason) finished[choice.index] = choice.finish_reason;
    }
    if (said && texts[0]?.includes(SAID.cue)) await said.go();
  }
  return { texts, finished };
}

const last = (wire) => wire.trimEnd().split("\n").at(-1);

async function raised(promise, kind) {
  const error = await promise.then(
    () => assert.fail("expected an error"),
    (error) => error,
  );
  assert.ok(error instanceof kind, `expected ${kind.name}, found ${error?.constructor?.name}: ${error?.message}`);
  return error;
}

test("allowed", async () => {
  const [said, tap] = [script("allowed"), tapped()];
  const asked = client(guarded, tap).create({ model: said.model, messages });
  const { data, response, request_id } = await asked.withResponse();
  assert.equal(data.choices[0].message.content, SAID.harmless);
  assert.deepEqual([data.usage.prompt_tokens, data.usage.completion_tokens], [21, 34]);
  assert.match(data._request_id, /^req_/);
  assert.equal(data._request_id, request_id);
  assert.match(response.headers.get("x-guardrail-policy"), /^guarded;rev=./);
  const [received] = await said.received();
  assert.equal(tap.wire, received.sent, "what no rule touches arrives byte for byte");
  assert.deepEqual(received.body.messages, [{ role: "system", content: SAID.constitution }, ...messages]);
  assert.equal(received.headers.authorization, `Bearer ${SAID.upstream_key}`);
});

test("streamed, allowed", async () => {
  const [said, tap] = [script("allowed"), tapped()];
  const { texts, finished } = await collected(await client(guarded, tap).create({ model: said.model, messages, stream: true }));
  assert.deepEqual([texts, finished], [{ 0: SAID.harmless }, { 0: "stop" }]);
  assert.equal(tap.wire, (await said.received())[0].sent);
});

test("stream helper, allowed", async () => {
  const [said, tap] = [script("allowed"), tapped()];
  const runner = client(guarded, tap).stream({ model: said.model, messages });
  assert.equal(await runner.finalContent(), SAID.harmless);
});

for (const include_usage of [true, false]) {
  test(`include_usage: ${include_usage}`, async () => {
    const [said, tap] = [script("allowed"), tapped()];
    const body = { model: said.model, messages, stream: true, stream_options: { include_usage } };
    const usages = [];
    for await (const chunk of await client(guarded, tap).create(body)) if (chunk.usage) usages.push(chunk.usage);
    assert.deepEqual(usages.map((usage) => usage.total_tokens), include_usage ? [55] : []);
  });
}

for (const stream of [false, true]) {
  test(`two choices, ${stream ? "streamed" : "whole"}`, async () => {
    const [said, tap] = [script("two"), tapped()];
    const got = await client(guarded, tap).create({ model: said.model, messages, n: 2, stream });
    const texts = stream
      ? (await collected(got)).texts
      : Object.fromEntries(got.choices.map((choice) => [choice.index, choice.message.content]));
    assert.deepEqual(texts, { 0: SAID.harmless, 1: SAID.second });
  });

  test(`blocked input, ${stream ? "streamed" : "whole"}`, async () => {
    const [said, tap] = [script("allowed"), tapped()];
    const error = await raised(client(guarded, tap).create({ model: said.model, messages: attack, stream }), OpenAI.BadRequestError);
    assert.deepEqual([error.status, error.code, error.type], [400, "content_filter", "invalid_request_error"]);
    assert.match(error.requestID, /^req_/);
    assert.ok(error.message.includes(SAID.blocked) && !tap.wire.includes(SAID.attack));
    assert.equal(tap.requests, 1, "the SDK does not retry");
    assert.deepEqual(await said.received(), []);
  });

  test(`personal data in the answer, ${stream ? "streamed" : "whole"}`, async () => {
    const [said, tap] = [script("pii"), tapped()];
    const got = await client(guarded, tap).create({ model: said.model, messages, stream });
    const text = stream ? (await collected(got)).texts[0] : got.choices[0].message.content;
    assert.equal(text, SAID.pii_redacted);
    assert.ok(anonymous(tap.wire));
  });
}

test("blocked input as a refusal", async () => {
  const [said, tap] = [script("allowed"), tapped()];
  const whole = await client(refusing, tap).create({ model: said.model, messages: attack });
  const streamed = await client(refusing, tap).stream({ model: said.model, messages: attack }).finalChatCompletion();
  for (const { choices: [choice] } of [whole, streamed]) {
    assert.equal(choice.finish_reason, "stop");
    assert.equal(choice.message.refusal, SAID.blocked);
    assert.ok(!choice.message.content);
  }
  assert.deepEqual(await said.received(), []);
});

test("blocked output", async () => {
  const [said, tap] = [script("toxic"), tapped()];
  const got = await client(guarded, tap).create({ model: said.model, messages });
  assert.equal(got.choices[0].finish_reason, "content_filter");
  assert.equal(got.choices[0].message.content, null);
  assert.equal(got.guardrail.action, "block");
  assert.ok(innocent(tap.wire));
});

test("blocked in the middle of a stream", async () => {
  const [said, tap] = [script("toxic-late"), tapped()];
  const { texts, finished } = await collected(await client(guarded, tap).create({ model: said.model, messages, stream: true }), said);
  assert.ok(texts[0].includes(SAID.cue) && SAID.harmless.startsWith(texts[0]));
  assert.deepEqual(finished, { 0: "content_filter" });
  assert.ok(innocent(tap.wire));
  assert.equal(last(tap.wire), "data: [DONE]");
});

test("stream helper tells of the block", async () => {
  const [said, tap] = [script("toxic-late"), tapped()];
  const runner = client(guarded, tap).stream({ model: said.model, messages });
  let text = "";
  runner.on("content", (_delta, soFar) => {
    text = soFar;
    if (text.includes(SAID.cue)) said.go();
  });
  const completion = await runner.finalChatCompletion();
  assert.equal(completion.choices[0].finish_reason, "content_filter");
  assert.ok(text.includes(SAID.cue) && SAID.harmless.startsWith(text) && innocent(tap.wire));
});

test("tool calls, whole", async () => {
  const [said, tap] = [script("tool"), tapped()];
  const { choices: [choice] } = await client(guarded, tap).create({ model: said.model, messages, tools });
  assert.equal(choice.finish_reason, "tool_calls");
  const calls = choice.message.tool_calls.map(({ id, function: { name, arguments: json } }) => ({ id, name, arguments: JSON.parse(json) }));
  assert.deepEqual(calls, SAID.tools);
});

test("tool calls, streamed and by the helper", async () => {
  const [said, tap] = [script("tool"), tapped()];
  const calls = [];
  for await (const chunk of await client(guarded, tap).create({ model: said.model, messages, tools, stream: true })) {
    for (const part of chunk.choices.flatMap((choice) => choice.delta.tool_calls ?? [])) {
      calls[part.index] ??= { id: part.id, name: part.function.name, json: "" };
      calls[part.index].json += part.function.arguments ?? "";
    }
  }
  assert.deepEqual(calls.map(({ id, name, json }) => ({ id, name, arguments: JSON.parse(json) })), SAID.tools);
  const final = await client(guarded, tap).stream({ model: said.model, messages, tools }).finalChatCompletion();
  assert.deepEqual(
    final.choices[0].message.tool_calls.map((call) => JSON.parse(call.function.arguments)),
    SAID.tools.map((tool) => tool.arguments),
  );
});

test("personal data in the prompt", async () => {
  const [said, tap] = [script("allowed"), tapped()];
  await client(guarded, tap).create({ model: said.model, messages: [{ role: "user", content: SAID.pii }] });
  const [received] = await said.received();
  assert.equal(received.body.messages.at(-1).content, SAID.pii_redacted);
});

test("revised, and a row of it kept", async () => {
  const [said, tap] = [script("toxic"), tapped()];
  const before = pairs(revising).length;
  const { data, response } = await client(revising, tap).create({ model: said.model, messages }).withResponse();
  assert.equal(data.choices[0].message.content, SAID.revised);
  assert.equal(response.headers.get("x-guardrail-action"), "revise");
  assert.ok(innocent(tap.wire));
  await until(() => pairs(revising).length === before + 1);
  const row = pairs(revising).at(-1);
  assert.deepEqual([row.prompt, row.chosen, row.rejected], [
    messages,
    [{ role: "assistant", content: SAID.revised }],
    [{ role: "assistant", content: SAID.toxic.trim() }],
  ]);
});

test("a client that leaves cancels the upstream", async () => {
  const [said, tap] = [script("hang"), tapped()];
  const stream = await client(guarded, tap).create({ model: said.model, messages, stream: true });
  for await (const chunk of stream) if (chunk.choices[0].delta.content) break;
  stream.controller.abort();
  assert.equal(await said.ended(), "client_gone");
});

test("the upstream's own errors pass and are retried", async () => {
  const [said, tap] = [script("error-429"), tapped()];
  const error = await raised(client(guarded, tap).create({ model: said.model, messages }), OpenAI.RateLimitError);
  assert.equal(error.code, "rate_limit_exceeded");
  assert.equal(error.headers.get("retry-after-ms"), "20");
  assert.equal(error.headers.get("x-ratelimit-remaining-requests"), "0");
  assert.equal(tap.requests, 3);
  assert.equal((await said.received()).length, 3, "the SDK retries twice, the gateway never");
});

for (const fault of ["reset", "close"]) {
  test(`a stream broken by ${fault} never looks complete`, async () => {
    for (const helper of [false, true]) {
      const [said, tap] = [script(fault), tapped()];
      const completions = client(guarded, tap);
      const reading = async () => {
        if (!helper) return collected(await completions.create({ model: said.model, messages, stream: true }), said);
        const runner = completions.stream({ model: said.model, messages });
        runner.on("content", (_delta, text) => text.includes(SAID.cue) && said.go());
        return runner.done();
      };
      await raised(reading(), OpenAI.APIError);
      assert.ok(!tap.wire.includes("[DONE]") && !tap.wire.includes('"finish_reason":"stop"'));
    }
  });
}

test("other routes are denied", async () => {
  const tap = tapped();
  const sdk = client(guarded, tap)._client;
  const error = await raised(sdk.batches.list(), OpenAI.PermissionDeniedError);
  assert.equal(error.code, "endpoint_not_allowed");
  await raised(sdk.files.list(), OpenAI.PermissionDeniedError);
  assert.equal(tap.requests, 2);
});

test("an image is refused because nobody reads it", async () => {
  const [said, tap] = [script("allowed"), tapped()];
  const image = { type: "image_url", image_url: { url: "data:image/png;base64,iVBORw0KGgo=" } };
  const content = [{ type: "text", text: SAID.question }, image];
  await raised(client(guarded, tap).create({ model: said.model, messages: [{ role: "user", content }] }), OpenAI.BadRequestError);
  assert.deepEqual([tap.requests, await said.received()], [1, []]);
});
