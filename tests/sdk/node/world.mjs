// What the Node tests stand on: the servers that with_gateways.py started, and SDK clients with a tap on their wire.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

if (!process.env.SDK_TEST_WORLD || !process.env.SDK_TEST_NODE) throw new Error("run by tests/sdk/run.sh");

// The packages lie where git does not look, which is not where Node would look.
const require = createRequire(join(process.env.SDK_TEST_NODE, "package.json"));
export const OpenAI = require("openai");
export const Anthropic = require("@anthropic-ai/sdk");

export const SAID = JSON.parse(readFileSync(new URL("../said.json", import.meta.url), "utf8"));
export const { upstream, guarded, refusing, revising } = JSON.parse(process.env.SDK_TEST_WORLD);

const PATIENCE_MS = 20_000;

/** Waits for something that must come about; generous, since how long it takes is not what is tested. */
export async function until(wanted) {
  const patience = Date.now() + PATIENCE_MS;
  while (!(await wanted())) {
    assert.ok(Date.now() < patience, "waited in vain");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** One test's script: the model name to ask for, and what the upstream saw of it. */
export function script(name) {
  const tag = randomBytes(6).toString("hex");
  const ask = async (what) => (await fetch(`${upstream}/-/${what}?tag=${tag}`)).json();
  const received = () => ask("received");
  return {
    model: `script:${name}@${tag}`,
    received,
    go: () => ask("go"),
    async ended() {
      await until(async () => (await received())[0]?.ended);
      return (await received())[0].ended;
    },
  };
}

/** A `fetch` that counts requests and keeps every byte of the bodies that come back. */
export function tapped() {
  const tap = { requests: 0, wire: "" };
  tap.fetch = async (url, init) => {
    tap.requests += 1;
    const got = await fetch(url, init);
    if (!got.body) return got;
    const decoder = new TextDecoder();
    const copy = new TransformStream({
      transform(chunk, controller) {
        tap.wire += decoder.decode(chunk, { stream: true });
        controller.enqueue(chunk);
      },
    });
    return new Response(got.body.pipeThrough(copy), { status: got.status, headers: got.headers });
  };
  return tap;
}

/** Whether none of the abusive words is in it. */
export const innocent = (wire) => !SAID.toxic_words.some((word) => wire.includes(word));

/** Whether no part of the personal data is in it. */
export const anonymous = (wire) => !SAID.pii_parts.some((part) => wire.includes(part));

export function pairs(gateway) {
  const files = readdirSync(gateway.pairs, { recursive: true }).filter((name) => String(name).includes(".jsonl"));
  const lines = files.flatMap((name) => readFileSync(join(gateway.pairs, String(name)), "utf8").split("\n"));
  return lines.filter(Boolean).map((line) => JSON.parse(line));
}
