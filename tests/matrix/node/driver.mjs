// The official SDKs for Node as clients of the matrix: a question in JSON on each line of stdin, its outcome on stdout.
//
// A question has `protocol`, `url`, `token`, `model`, `stream` and a neutral `ask` (tests/matrix/neutral.py); with the
// outcome of the turn `before` it is asked on: each call's answer is `result`, then the user says `further`. A refusal
// is an outcome with its status; whatever else an SDK throws is a defect, and so is an SDK that does not come back.

import { Console } from "node:console";
import { createInterface } from "node:readline";

import * as anthropic from "./anthropic.mjs";
import * as gemini from "./gemini.mjs";
import * as openai from "./openai.mjs";
import * as responses from "./responses.mjs";

globalThis.console = new Console(process.stderr); // stdout is for outcomes, whatever an SDK has to remark

const CLIENTS = { openai, responses, anthropic, gemini };
const PATIENCE = 60_000; // milliseconds

function lost() {
  return new Promise((_, reject) => {
    setTimeout(() => reject(new Error(`no outcome within ${PATIENCE} ms`)), PATIENCE).unref();
  });
}

async function outcome(question) {
  const client = CLIENTS[question.protocol];
  try {
    return await Promise.race([client.ask(question), lost()]);
  } catch (error) {
    if (error instanceof client.Refusal && error.status) return { error: error.status, text: error.message };
    return { defect: error.stack ?? String(error) };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await outcome(JSON.parse(line)))}\n`);
}
process.exit(); // whatever an SDK still waits for
