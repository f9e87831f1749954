// OpenAI's chat completions.

import OpenAI from "openai";

import { dataUrl, given } from "./words.mjs";

export const Refusal = OpenAI.APIError;

function parts(turn) {
  const found = turn.text ? [{ type: "text", text: turn.text }] : [];
  for (const picture of turn.pictures) {
    const url = picture.url || dataUrl(picture.data, "image/png");
    found.push({ type: "image_url", image_url: picture.bare ? url : { url } });
  }
  if (turn.pdf) {
    found.push({ type: "file", file: { filename: "paper.pdf", file_data: dataUrl(turn.pdf, "application/pdf") } });
  }
  if (turn.file_url) found.push({ type: "file_url", file_url: { url: turn.file_url } });
  if (turn.audio) found.push({ type: "input_audio", input_audio: { data: turn.audio, format: "wav" } });
  return found.length === 1 && turn.text ? turn.text : found;
}

function said(turn) {
  const found = turn.results.map(({ id, text }) => ({ role: "tool", tool_call_id: id, content: text }));
  if (turn.calls.length) {
    const calls = turn.calls.map((call) => ({
      id: call.id,
      type: "function",
      function: { name: call.name, arguments: JSON.stringify(call.arguments) },
    }));
    found.push({ role: "assistant", content: turn.text || null, tool_calls: calls });
  } else if (!turn.results.length || turn.text) {
    found.push({ role: turn.role, content: parts(turn) });
  }
  return found;
}

function system(ask) {
  if (!ask.system) return [];
  const marked = [{ type: "text", text: ask.system, prompt_cache_breakpoint: { type: "ephemeral" } }];
  return [{ role: "system", content: ask.cache ? marked : ask.system }];
}

function messages({ ask, before, result, further }) {
  const found = [...system(ask), ...ask.turns.flatMap(said)];
  if (!before) return found;
  const results = before.calls.map(({ id }) => ({ role: "tool", tool_call_id: id, content: result }));
  return [...found, before.raw, ...results, { role: "user", content: further }];
}

function format(ask) {
  if (ask.schema) return { type: "json_schema", json_schema: { name: "answer", schema: ask.schema, strict: true } };
  return ask.json ? { type: "json_object" } : null;
}

function options(ask) {
  const named = { any: "required", auto: "auto", none: "none" };
  const tools = ask.tools.map(({ name, description, schema }) => ({
    type: "function",
    function: { name, description, parameters: schema },
  }));
  return given({
    tools: tools.length ? tools : null,
    tool_choice: ask.choice && (named[ask.choice] ?? { type: "function", function: { name: ask.choice } }),
    parallel_tool_calls: ask.parallel,
    response_format: format(ask),
    temperature: ask.temperature,
    top_p: ask.top_p,
    reasoning_effort: ask.effort,
    stop: ask.stop.length ? ask.stop : null,
    max_completion_tokens: ask.limit,
  });
}

const FINISH = { stop: "stop", length: "length", tool_calls: "tool", content_filter: "filter" };

function outcome(answer, thoughts) {
  const [{ message, finish_reason: reason }] = answer.choices;
  const { usage } = answer;
  return {
    text: message.content || message.refusal || "",
    thoughts,
    calls: (message.tool_calls ?? []).map((call) => ({
      id: call.id,
      name: call.function.name,
      arguments: JSON.parse(call.function.arguments),
    })),
    finish: FINISH[reason],
    usage: usage && {
      input: usage.prompt_tokens,
      cached: usage.prompt_tokens_details?.cached_tokens ?? 0,
      output: usage.completion_tokens,
      reasoning: usage.completion_tokens_details?.reasoning_tokens ?? 0,
    },
    model: answer.model,
    raw: thoughts ? { ...message, reasoning_content: thoughts } : message,
  };
}

export async function ask(question) {
  const sdk = new OpenAI({ baseURL: `${question.url}/v1`, apiKey: question.token, maxRetries: 0 });
  const request = { model: question.model, messages: messages(question), ...options(question.ask) };
  if (!question.stream) {
    const answer = await sdk.chat.completions.create(request);
    return outcome(answer, answer.choices[0].message.reasoning_content ?? "");
  }
  const stream = sdk.chat.completions.stream({ ...request, stream_options: { include_usage: true } });
  // Of a field that it does not know, the SDK's final answer has the last piece: thoughts are gathered as they come.
  let thoughts = "";
  stream.on("chunk", (chunk) => (thoughts += chunk.choices[0]?.delta.reasoning_content ?? ""));
  return outcome(await stream.finalChatCompletion(), thoughts);
}
