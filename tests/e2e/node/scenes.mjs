// What the official OpenAI SDK for Node sees of the gateway. Prints one JSON object; the test judges it.
// Usage: node scenes.mjs BASE_URL KEY SCRIPTS, the last a JSON object that names the upstream's scripts.

import OpenAI from "openai";

const [baseURL, apiKey, named] = process.argv.slice(2);
const scripts = JSON.parse(named);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "Hello" }];

async function errorOf(work) {
  try {
    await work();
    return null;
  } catch (error) {
    return { name: error.constructor.name, status: error.status ?? null, code: error.code ?? null };
  }
}

async function whole() {
  const answer = await client.chat.completions.create({ model: "chat", messages });
  return { text: answer.choices[0].message.content, model: answer.model, usage: answer.usage, cost: answer.pisces.cost };
}

async function streamed() {
  const options = { include_usage: true };
  const stream = await client.chat.completions.create({ model: "chat", messages, stream: true, stream_options: options });
  let text = "";
  let last;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? "";
    last = chunk;
  }
  return { text, usage: last.usage, cost: last.pisces.cost };
}

async function tools() {
  const tool = { type: "function", function: { name: "weather", parameters: { type: "object", properties: {} } } };
  const request = { model: "chat", messages, tools: [tool], x_script: scripts.tools };
  const answer = await client.chat.completions.create(request);
  return answer.choices[0].message.tool_calls[0].function;
}

async function models() {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  return { names, one: (await client.models.retrieve("[M]vendor/model-1")).id };
}

async function broken() {
  let text = "";
  const error = await errorOf(async () => {
    const stream = await client.chat.completions.create({ model: "chat", messages, stream: true, x_script: scripts.cut });
    for await (const chunk of stream) text += chunk.choices[0].delta.content ?? "";
  });
  return { text, error };
}

const ask = (request, using = client) => errorOf(() => using.chat.completions.create({ model: "chat", messages, ...request }));

console.log(
  JSON.stringify({
    whole: await whole(),
    streamed: await streamed(),
    tools: await tools(),
    models: await models(),
    broken: await broken(),
    errors: {
      unknown: await ask({ model: "unknown" }),
      wrong: await ask({}, client.withOptions({ apiKey: "sk-wrong" })),
      malformed: await ask({ messages: [] }),
      limited: await ask({ x_script: scripts.limited }),
      failed: await ask({ x_script: scripts.failed, stream: true }),
    },
  }),
);
