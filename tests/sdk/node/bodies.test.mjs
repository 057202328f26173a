// What Python's SDKs were recorded to send (tests/fixtures/sdk), sent by Node's: the same bodies, so that one marker sweep is
// enough for both.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";

const require = createRequire(`${process.env.SDK_TEST_NODE}/`);
const { default: OpenAI } = require("openai");
const { default: Anthropic } = require("@anthropic-ai/sdk");
const fixtures = new URL("../../fixtures/sdk/", import.meta.url);

let server, received, address;
before(async () => {
  server = createServer((request, response) => {
    const pieces = [];
    request.on("data", (piece) => pieces.push(piece));
    request.on("end", () => {
      received = JSON.parse(Buffer.concat(pieces).toString());
      response.writeHead(400, { "content-type": "application/json" });
      response.end('{"error":{"message":"recorded","type":"invalid_request_error"}}');
    });
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  address = `http://127.0.0.1:${server.address().port}`;
});
after(() => server.close());

const recorded = (name) =>
  readFileSync(new URL(`${name}_requests.jsonl`, fixtures), "utf8").trim().split("\n").map((line) => JSON.parse(line));

async function same(name, call) {
  let sent = 0;
  for (const body of recorded(name)) {
    received = undefined;
    await call(body).catch((error) => assert.equal(error.status, 400, `${error}`));
    assert.deepEqual(received, body, name);
    sent += 1;
  }
  assert.ok(sent > 5, `${name}: ${sent}`);
}

test("OpenAI's requests", async () => {
  const ai = new OpenAI({ baseURL: `${address}/v1`, apiKey: "k", maxRetries: 0 });
  await same("chat", (body) => ai.chat.completions.create(body));
  await same("responses", (body) => ai.responses.create(body));
  await same("completions", (body) => ai.completions.create(body));
  await same("embeddings", (body) => ai.embeddings.create(body));
});

test("Anthropic's requests", async () => {
  const claude = new Anthropic({ baseURL: address, apiKey: "k", maxRetries: 0 });
  await same("messages", (body) => claude.messages.create(body));
  await same("tokens", (body) => claude.messages.countTokens(body));
});
