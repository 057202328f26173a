// The Vercel AI SDK, through the gateway: its OpenAI provider (Chat and Responses) and its Anthropic provider.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";

import { SAID, guarded, innocent, refusing, script } from "../node/world.mjs";

const require = createRequire(join(process.env.SDK_TEST_NODE, "package.json"));
const { Output, generateText, streamText, tool } = require("ai");
const { createOpenAI } = require("@ai-sdk/openai");
const { createAnthropic } = require("@ai-sdk/anthropic");
const { z } = require("zod");

const apiKey = SAID.client_key;
const maxRetries = 2;
const MODELS = {
  "openai chat": (gateway, name) => createOpenAI({ baseURL: `${gateway.url}/v1`, apiKey }).chat(name),
  "openai responses": (gateway, name) => createOpenAI({ baseURL: `${gateway.url}/v1`, apiKey }).responses(name),
  anthropic: (gateway, name) => createAnthropic({ baseURL: `${gateway.url}/v1`, apiKey })(name),
};
const weather = tool({ description: "The weather.", inputSchema: z.object({ city: z.string(), days: z.number() }) });

/** Text and errors of a stream; the script's gate is opened once most of the harmless text has come. */
async function collected(said, model) {
  const errors = [];
  const stream = streamText({ model, prompt: SAID.question, maxRetries, onError: ({ error }) => errors.push(String(error)) });
  let text = "";
  for await (const part of stream.textStream) {
    text += part;
    if (text.includes(SAID.cue)) await said.go();
  }
  const reason = await Promise.resolve(stream.finishReason).catch(String);
  return { text, reason, errors };
}

for (const [name, model] of Object.entries(MODELS)) {
  test(`${name}: allowed, whole and streamed`, async () => {
    const said = script("allowed");
    const got = await generateText({ model: model(guarded, said.model), prompt: SAID.question });
    assert.deepEqual([got.text, got.finishReason], [SAID.harmless, "stop"]);
    const { text, reason } = await collected(said, model(guarded, said.model));
    assert.deepEqual([text, reason], [SAID.harmless, "stop"]);
  });

  test(`${name}: tools and structured output`, async () => {
    const got = await generateText({ model: model(guarded, script("tool").model), prompt: SAID.question, tools: { weather } });
    assert.deepEqual(got.toolCalls.map((call) => call.input.city), SAID.tools.map((one) => one.arguments.city));
    const said = script(name === "anthropic" ? "structured-json" : "structured");
    const schema = z.object({ city: z.string(), days: z.number() });
    const made = await generateText({ model: model(guarded, said.model), prompt: "Bern?", output: Output.object({ schema }) });
    assert.deepEqual(made.output, { city: "Bern", days: 3 });
  });

  test(`${name}: blocked input`, async () => {
    const said = script("allowed");
    const asked = generateText({ model: model(guarded, said.model), prompt: SAID.attack, maxRetries });
    await assert.rejects(asked, (error) => error.statusCode === 400 && error.message.includes(SAID.blocked));
    assert.deepEqual(await said.received(), []);
  });

  test(`${name}: blocked output, before and in mid-stream`, async () => {
    const whole = script("toxic");
    const got = await generateText({ model: model(guarded, whole.model), prompt: SAID.question });
    assert.ok(innocent(got.text));
    assert.equal(got.finishReason, "content-filter");
    for (const kind of ["toxic", "toxic-late"]) {
      const said = script(kind);
      const { text, reason, errors } = await collected(said, model(guarded, said.model));
      assert.ok(innocent(text) && errors.every(innocent));
      assert.equal(reason, "content-filter");
      assert.equal((await said.received()).length, 1);
      if (kind === "toxic-late") assert.ok(text.includes(SAID.cue));
    }
  });

  test(`${name}: refusals`, async () => {
    const said = script("allowed");
    const got = await generateText({ model: model(refusing, said.model), prompt: SAID.attack });
    assert.ok([SAID.blocked, ""].includes(got.text));
    assert.deepEqual(await said.received(), []);
  });

  test(`${name}: errors and retries`, async () => {
    const said = script("error-500");
    await assert.rejects(generateText({ model: model(guarded, said.model), prompt: SAID.question, maxRetries }));
    assert.equal((await said.received()).length, 1 + maxRetries);
    const flaky = script("flaky");
    const got = await generateText({ model: model(guarded, flaky.model), prompt: SAID.question, maxRetries });
    assert.equal(got.text, SAID.harmless);
    assert.equal((await flaky.received()).length, 2);
  });
}
