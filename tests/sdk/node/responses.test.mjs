// OpenAI's Node SDK, through the gateway, on /v1/responses and the smaller endpoints; Anthropic's on its own.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Anthropic, OpenAI, SAID, anonymous, guarded, innocent, refusing, script, tapped } from "./world.mjs";

const question = { input: SAID.question, instructions: SAID.own_system };

function client(gateway, tap) {
  return new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: SAID.client_key, fetch: tap.fetch, timeout: 40_000 });
}

/** The text of all deltas and the last event; the script's gate is opened once most of the harmless text has come. */
async function collected(events, said) {
  let text = "";
  let last;
  for await (const event of events) {
    last = event;
    if (event.type === "response.output_text.delta") text += event.delta;
    if (said && text.includes(SAID.cue)) await said.go();
  }
  return { text, last };
}

test("responses: allowed, whole and streamed", async () => {
  const [said, tap] = [script("allowed"), tapped()];
  const sdk = client(guarded, tap).responses;
  assert.equal((await sdk.create({ model: said.model, ...question })).output_text, SAID.harmless);
  assert.equal(tap.wire, (await said.received())[0].sent);
  tap.wire = "";
  const { text, last } = await collected(await sdk.create({ model: said.model, stream: true, ...question }));
  assert.deepEqual([text, last.type], [SAID.harmless, "response.completed"]);
  assert.equal(tap.wire, (await said.received())[1].sent);
});

test("responses: the stream helper accumulates text and calls", async () => {
  const sdk = client(guarded, tapped()).responses;
  const final = await sdk.stream({ model: script("allowed").model, ...question }).finalResponse();
  assert.equal(final.output_text, SAID.harmless);
  const calls = await sdk.stream({ model: script("tool").model, ...question }).finalResponse();
  assert.deepEqual(
    calls.output.map((call) => JSON.parse(call.arguments)),
    SAID.tools.map((tool) => tool.arguments),
  );
});

test("responses: blocked input, blocked output, blocked in mid-stream", async () => {
  const tap = tapped();
  const sdk = client(guarded, tap).responses;
  await assert.rejects(sdk.create({ model: script("allowed").model, input: SAID.attack }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    return error.code === "content_filter";
  });
  assert.equal(tap.requests, 1);
  const whole = await sdk.create({ model: script("toxic").model, ...question });
  assert.deepEqual([whole.status, whole.incomplete_details.reason], ["incomplete", "content_filter"]);
  const said = script("toxic-late");
  const { text, last } = await collected(await sdk.create({ model: said.model, stream: true, ...question }), said);
  assert.equal(last.type, "response.incomplete");
  assert.equal(last.response.output[0].content[0].text, text);
  const helped = await sdk.stream({ model: script("toxic").model, ...question }).finalResponse();
  assert.equal(helped.status, "incomplete");
  assert.ok(innocent(tap.wire));
});

test("responses: refusals and personal data", async () => {
  const tap = tapped();
  const final = await client(refusing, tap).responses.stream({ model: script("toxic").model, ...question }).finalResponse();
  assert.deepEqual([final.status, final.output.at(-1).content[0].refusal], ["completed", SAID.blocked]);
  const clean = await client(guarded, tap).responses.stream({ model: script("pii").model, ...question }).finalResponse();
  assert.equal(clean.output_text, SAID.pii_redacted);
  assert.ok(anonymous(tap.wire) && innocent(tap.wire));
});

test("responses: stored state and a broken stream", async () => {
  const sdk = client(guarded, tapped()).responses;
  await assert.rejects(sdk.retrieve("resp_1"), OpenAI.PermissionDeniedError);
  await assert.rejects(sdk.create({ model: "m", input: "Hello", previous_response_id: "resp_1" }), OpenAI.BadRequestError);
  const said = script("close");
  const stream = await sdk.create({ model: said.model, stream: true, ...question });
  await assert.rejects(collected(stream, said), OpenAI.APIError);
});

test("embeddings, moderations, models, legacy completions", async () => {
  const sdk = client(guarded, tapped());
  const said = script("allowed");
  const got = await sdk.embeddings.create({ model: said.model, input: ["The sea", "and more"] });
  assert.deepEqual(got.data.map((one) => [...one.embedding]), [[0.5, -0.25, 0], [0.5, -0.25, 1]]);
  await assert.rejects(sdk.embeddings.create({ model: said.model, input: [1, 2, 3] }), OpenAI.BadRequestError);
  const judged = await sdk.moderations.create({ input: [SAID.harmless, SAID.toxic] });
  assert.deepEqual(judged.results.map((one) => one.flagged), [false, true]);
  assert.ok(judged.results[1].categories.harassment);
  assert.equal((await sdk.models.list()).data[0].id, "gpt-scripted");
  assert.equal((await sdk.models.retrieve("gpt-4o-mini")).id, "gpt-4o-mini");
  const text = await sdk.completions.create({ model: said.model, prompt: SAID.question });
  assert.equal(text.choices[0].text, SAID.harmless);
});

test("Anthropic: tokens and models", async () => {
  const sdk = new Anthropic({ baseURL: guarded.url, apiKey: SAID.client_key });
  const said = script("allowed");
  const messages = [{ role: "user", content: SAID.question }];
  assert.ok((await sdk.messages.countTokens({ model: said.model, messages })).input_tokens > 0);
  assert.equal((await said.received())[0].body.system, SAID.constitution);
  assert.equal((await sdk.models.list()).data[0].id, "claude-scripted");
});

test("Azure: deployments and api-key", async () => {
  const [said, tap] = [script("allowed"), tapped()];
  const sdk = new OpenAI.AzureOpenAI({
    endpoint: guarded.url, apiKey: SAID.client_key, apiVersion: "2024-10-21", fetch: tap.fetch,
  });
  const messages = [{ role: "user", content: SAID.question }];
  const got = await sdk.chat.completions.create({ model: said.model, messages });
  assert.equal(got.choices[0].message.content, SAID.harmless);
  const [received] = await said.received();
  assert.equal(received.path, `/openai/deployments/${said.model}/chat/completions?api-version=2024-10-21`);
  assert.equal(received.headers["api-key"], SAID.upstream_key);
});
