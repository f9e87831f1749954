// OpenAI's Responses.

import OpenAI from "openai";

import { dataUrl, given, joined } from "./words.mjs";

export const Refusal = OpenAI.APIError;

function parts(turn) {
  const type = turn.role === "assistant" ? "output_text" : "input_text";
  const found = turn.text ? [{ type, text: turn.text }] : [];
  for (const picture of turn.pictures) {
    const url = picture.url || dataUrl(picture.data, "image/png");
    found.push({ type: "input_image", image_url: url, detail: "auto" });
  }
  if (turn.pdf) {
    found.push({ type: "input_file", filename: "paper.pdf", file_data: dataUrl(turn.pdf, "application/pdf") });
  }
  if (turn.file_url) found.push({ type: "input_file", file_url: turn.file_url });
  if (turn.audio) found.push({ type: "input_audio", input_audio: { data: turn.audio, format: "wav" } });
  return found;
}

function output({ text, picture }) {
  if (!picture) return text;
  const image = { type: "input_image", image_url: dataUrl(picture.data, "image/png") };
  return [{ type: "input_text", text }, image];
}

function said(turn) {
  const content = parts(turn);
  return [
    ...turn.results.map((result) => ({ type: "function_call_output", call_id: result.id, output: output(result) })),
    ...(content.length ? [{ type: "message", role: turn.role, content }] : []),
    ...turn.calls.map((call) => ({
      type: "function_call",
      call_id: call.id,
      name: call.name,
      arguments: JSON.stringify(call.arguments),
    })),
  ];
}

function input({ ask, before, result, further }) {
  const found = ask.turns.flatMap(said);
  if (!before) return found;
  const results = before.calls.map(({ id }) => ({ type: "function_call_output", call_id: id, output: result }));
  return [...found, ...before.raw, ...results, { type: "message", role: "user", content: further }];
}

function format(ask) {
  if (ask.schema) return { format: { type: "json_schema", name: "answer", schema: ask.schema, strict: true } };
  return ask.json ? { format: { type: "json_object" } } : null;
}

function options(ask) {
  const named = { any: "required", auto: "auto", none: "none" };
  const tools = ask.tools.map(({ name, description, schema }) => ({
    type: "function",
    name,
    description,
    parameters: schema,
    strict: false,
  }));
  return given({
    instructions: ask.system || null,
    tools: tools.length ? tools : null,
    tool_choice: ask.choice && (named[ask.choice] ?? { type: "function", name: ask.choice }),
    parallel_tool_calls: ask.parallel,
    text: format(ask),
    temperature: ask.temperature,
    top_p: ask.top_p,
    max_output_tokens: ask.limit,
    reasoning: ask.effort && { effort: ask.effort, summary: "auto" },
    include: ask.effort && ["reasoning.encrypted_content"],
  });
}

const CUT = { max_output_tokens: "length", content_filter: "filter" };

function outcome(answer) {
  const of = (type) => answer.output.filter((item) => item.type === type);
  const calls = of("function_call").map((item) => ({
    id: item.call_id,
    name: item.name,
    arguments: JSON.parse(item.arguments),
  }));
  const refusals = of("message").flatMap((item) => item.content.filter((part) => part.type === "refusal"));
  const thoughts = of("reasoning").flatMap((item) => item.summary);
  const { usage } = answer;
  return {
    text: answer.output_text || joined(refusals.map((part) => part.refusal)),
    thoughts: joined(thoughts.map((part) => part.text)),
    calls,
    finish: CUT[answer.incomplete_details?.reason] ?? (calls.length ? "tool" : "stop"),
    usage: {
      input: usage.input_tokens,
      cached: usage.input_tokens_details.cached_tokens,
      output: usage.output_tokens,
      reasoning: usage.output_tokens_details.reasoning_tokens,
    },
    model: answer.model,
    raw: answer.output,
  };
}

export async function ask(question) {
  const sdk = new OpenAI({ baseURL: `${question.url}/v1`, apiKey: question.token, maxRetries: 0 });
  const request = { model: question.model, input: input(question), store: false, ...options(question.ask) };
  if (!question.stream) return outcome(await sdk.responses.create(request));
  return outcome(await sdk.responses.stream(request).finalResponse());
}
