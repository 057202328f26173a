// Anthropic's Node SDK, through the gateway, on /v1/messages.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  Anthropic, SAID, anonymous, guarded, innocent, pairs, refusing, revising, script, tapped, until,
} from "./world.mjs";

const question = { max_tokens: 200, messages: [{ role: "user", content: SAID.question }] };
const attack = { max_tokens: 200, messages: [{ role: "user", content: SAID.attack }] };
const tools = [
  {
    name: "weather",
    description: "The weather of the next days.",
    input_schema: { type: "object", properties: { city: { type: "string" }, days: { type: "integer" } } },
  },
];

function client(gateway, tap, more = {}) {
  const options = { baseURL: gateway.url, apiKey: SAID.client_key, fetch: tap.fetch, timeout: 40_000 };
  return new Anthropic({ ...options, ...more }).messages;
}

/** Text and stop reason; the script's gate is opened once most of the harmless text has come. */
async function collected(events, said) {
  let [text, stop] = ["", null];
  for await (const event of events) {
    if (event.type === "content_block_delta" && event.delta.type === "text_delta") {
      text += event.delta.text;
      if (said && text.includes(SAID.cue)) await said.go();
    }
    if (event.type === "message_delta") stop = event.delta.stop_reason;
  }
  return { text, stop };
}

const kinds = (wire) => wire.split("\n").filter((line) => line.startsWith("event: ")).map((line) => line.slice(7));

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
  const asked = client(guarded, tap).create({ model: said.model, system: SAID.own_system, ...question });
  const { data, response, request_id } = await asked.withResponse();
  assert.deepEqual(data.content.map((block) => block.text), [SAID.harmless]);
  assert.deepEqual([data.usage.input_tokens, data.usage.output_tokens], [21, 34]);
  assert.match(data._request_id, /^req_/);
  assert.equal(data._request_id, request_id);
  assert.match(response.headers.get("x-guardrail-policy"), /^guarded;rev=./);
  const [received] = await said.received();
  assert.equal(tap.wire, received.sent, "what no rule touches arrives byte for byte");
  assert.deepEqual(received.body.system, [
    { type: "text", text: SAID.constitution },
    { type: "text", text: SAID.own_system },
  ]);
  assert.equal(received.headers["x-api-key"], SAID.upstream_key);
});

test("streamed, allowed", async () => {
  const [said, tap] = [script("allowed"), tapped()];
  const got = await collected(await client(guarded, tap).create({ model: said.model, stream: true, ...question }));
  assert.deepEqual(got, { text: SAID.harmless, stop: "end_turn" });
  assert.equal(tap.wire, (await said.received())[0].sent);
});

test("stream helper, allowed, with signed thinking", async () => {
  const [said, tap] = [script("thinking"), tapped()];
  const stream = client(guarded, tap).stream({ model: said.model, ...question });
  const final = await stream.finalMessage();
  assert.deepEqual([final.content[0].thinking, final.content[0].signature], [SAID.thinking, SAID.signature]);
  assert.equal(await stream.finalText(), SAID.harmless);
  assert.equal(final.usage.output_tokens, 34);
});

for (const stream of [false, true]) {
  test(`blocked input, ${stream ? "streamed" : "whole"}`, async () => {
    const [said, tap] = [script("allowed"), tapped()];
    const error = await raised(client(guarded, tap).create({ model: said.model, stream, ...attack }), Anthropic.BadRequestError);
    assert.deepEqual([error.status, error.type], [400, "invalid_request_error"]);
    assert.match(error.requestID, /^req_/);
    assert.ok(error.error.error.message.startsWith(SAID.blocked) && !tap.wire.includes(SAID.attack));
    assert.equal(tap.requests, 1, "the SDK does not retry");
    assert.deepEqual(await said.received(), []);
  });

  test(`personal data in the answer, ${stream ? "streamed" : "whole"}`, async () => {
    const [said, tap] = [script("pii"), tapped()];
    const got = await client(guarded, tap).create({ model: said.model, stream, ...question });
    const text = stream ? (await collected(got)).text : got.content[0].text;
    assert.equal(text, SAID.pii_redacted);
    assert.ok(anonymous(tap.wire));
  });
}

test("blocked input as a refusal", async () => {
  const [said, tap] = [script("allowed"), tapped()];
  const whole = await client(refusing, tap).create({ model: said.model, ...attack });
  const streamed = await client(refusing, tap).stream({ model: said.model, ...attack }).finalMessage();
  for (const message of [whole, streamed]) {
    assert.deepEqual([message.content.map((block) => block.text), message.stop_reason], [[SAID.blocked], "end_turn"]);
  }
  assert.deepEqual(await said.received(), []);
});

test("blocked output", async () => {
  const [said, tap] = [script("toxic"), tapped()];
  const message = await client(guarded, tap).create({ model: said.model, ...question });
  assert.equal(message.stop_reason, "refusal");
  assert.equal(message.guardrail.action, "block");
  assert.ok(innocent(tap.wire));
});

test("blocked in the middle of a stream", async () => {
  const [said, tap] = [script("toxic-late"), tapped()];
  const { text, stop } = await collected(await client(guarded, tap).create({ model: said.model, stream: true, ...question }), said);
  assert.ok(text.includes(SAID.cue) && SAID.harmless.startsWith(text));
  assert.equal(stop, "refusal");
  assert.ok(innocent(tap.wire));
  assert.equal(kinds(tap.wire).at(-1), "message_stop");
});

test("stream helper tells of the block", async () => {
  const [said, tap] = [script("toxic-late"), tapped()];
  const stream = client(guarded, tap).stream({ model: said.model, ...question });
  stream.on("text", (_delta, text) => text.includes(SAID.cue) && said.go());
  const final = await stream.finalMessage();
  assert.equal(final.stop_reason, "refusal");
  assert.ok(final.content[0].text.includes(SAID.cue) && SAID.harmless.startsWith(final.content[0].text) && innocent(tap.wire));
});

test("tool calls, whole", async () => {
  const [said, tap] = [script("tool"), tapped()];
  const message = await client(guarded, tap).create({ model: said.model, tools, ...question });
  assert.equal(message.stop_reason, "tool_use");
  assert.deepEqual(message.content.map(({ id, name, input }) => ({ id, name, arguments: input })), SAID.tools);
});

test("tool calls, streamed and by the helper", async () => {
  const [said, tap] = [script("tool"), tapped()];
  const calls = [];
  for await (const event of await client(guarded, tap).create({ model: said.model, tools, stream: true, ...question })) {
    if (event.type === "content_block_start") calls[event.index] = { ...event.content_block, json: "" };
    if (event.type === "content_block_delta") calls[event.index].json += event.delta.partial_json;
  }
  assert.deepEqual(calls.map(({ id, name, json }) => ({ id, name, arguments: JSON.parse(json) })), SAID.tools);
  const final = await client(guarded, tap).stream({ model: said.model, tools, ...question }).finalMessage();
  assert.deepEqual(final.content.map((block) => block.input), SAID.tools.map((tool) => tool.arguments));
});

test("personal data in the prompt", async () => {
  const [said, tap] = [script("allowed"), tapped()];
  const messages = [{ role: "user", content: SAID.pii }];
  await client(guarded, tap).create({ model: said.model, max_tokens: 200, messages });
  const [received] = await said.received();
  assert.equal(received.body.messages[0].content, SAID.pii_redacted);
});

test("revised, and a row of it kept", async () => {
  const [said, tap] = [script("toxic"), tapped()];
  const before = pairs(revising).length;
  const { data, response } = await client(revising, tap).create({ model: said.model, ...question }).withResponse();
  assert.deepEqual(data.content.map((block) => block.text), [SAID.revised]);
  assert.equal(response.headers.get("x-guardrail-action"), "revise");
  assert.ok(innocent(tap.wire));
  await until(() => pairs(revising).length === before + 1);
  const row = pairs(revising).at(-1);
  assert.deepEqual([row.prompt, row.chosen, row.rejected], [
    question.messages,
    [{ role: "assistant", content: SAID.revised }],
    [{ role: "assistant", content: SAID.toxic.trim() }],
  ]);
});

test("a client that leaves cancels the upstream", async () => {
  const [said, tap] = [script("hang"), tapped()];
  const stream = await client(guarded, tap).create({ model: said.model, stream: true, ...question });
  for await (const event of stream) if (event.type === "content_block_delta") break;
  stream.controller.abort();
  assert.equal(await said.ended(), "client_gone");
});

test("the upstream's own errors pass and are retried", async () => {
  const [said, tap] = [script("error-429"), tapped()];
  const error = await raised(client(guarded, tap).create({ model: said.model, ...question }), Anthropic.RateLimitError);
  assert.equal(error.type, "rate_limit_error");
  assert.equal(error.headers.get("retry-after-ms"), "20");
  assert.equal(tap.requests, 3);
  assert.equal((await said.received()).length, 3, "the SDK retries twice, the gateway never");
});

for (const fault of ["reset", "close"]) {
  test(`a stream broken by ${fault} never looks complete`, async () => {
    for (const helper of [false, true]) {
      const [said, tap] = [script(fault), tapped()];
      const messages = client(guarded, tap);
      const reading = async () => {
        if (!helper) return collected(await messages.create({ model: said.model, stream: true, ...question }), said);
        const stream = messages.stream({ model: said.model, ...question });
        stream.on("text", (_delta, text) => text.includes(SAID.cue) && said.go());
        return stream.done();
      };
      await raised(reading(), Anthropic.AnthropicError);
      assert.ok(!kinds(tap.wire).includes("message_stop") && !kinds(tap.wire).includes("message_delta"));
    }
  });
}

test("other routes are denied", async () => {
  const tap = tapped();
  const messages = client(guarded, tap);
  const error = await raised(messages.batches.list(), Anthropic.PermissionDeniedError);
  assert.equal(error.type, "permission_error");
  assert.equal(tap.requests, 1);
});

test("an image is refused because nobody reads it", async () => {
  const [said, tap] = [script("allowed"), tapped()];
  const source = { type: "base64", media_type: "image/png", data: "iVBORw0KGgo=" };
  const content = [{ type: "image", source }, { type: "text", text: SAID.question }];
  const body = { model: said.model, max_tokens: 200, messages: [{ role: "user", content }] };
  await raised(client(guarded, tap).create(body), Anthropic.BadRequestError);
  assert.deepEqual([tap.requests, await said.received()], [1, []]);
});
