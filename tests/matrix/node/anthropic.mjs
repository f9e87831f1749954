// Anthropic's messages.

import Anthropic from "@anthropic-ai/sdk";

import { given, joined } from "./words.mjs";

export const Refusal = Anthropic.APIError;

function source({ url, data }) {
  return url ? { type: "url", url } : { type: "base64", media_type: "image/png", data };
}

function answered({ id, text, picture }) {
  const content = [{ type: "text", text }];
  if (picture) content.push({ type: "image", source: source(picture) });
  return { type: "tool_result", tool_use_id: id, content };
}

function blocks(turn) {
  const found = turn.results.map(answered);
  if (turn.text) found.push({ type: "text", text: turn.text });
  found.push(...turn.pictures.map((picture) => ({ type: "image", source: source(picture) })));
  if (turn.pdf) {
    const paper = { type: "base64", media_type: "application/pdf", data: turn.pdf };
    found.push({ type: "document", source: paper, title: "paper.pdf" });
  }
  if (turn.file_url) found.push({ type: "document", source: { type: "url", url: turn.file_url } });
  found.push(...turn.calls.map((call) => ({ type: "tool_use", id: call.id, name: call.name, input: call.arguments })));
  return found;
}

function messages({ ask, before, result, further }) {
  const found = ask.turns.map((turn) => ({ role: turn.role, content: blocks(turn) }));
  if (!before) return found;
  const results = before.calls.map(({ id }) => ({ type: "tool_result", tool_use_id: id, content: result }));
  const content = [...results, { type: "text", text: further }];
  return [...found, { role: "assistant", content: before.raw }, { role: "user", content }];
}

function choice(ask) {
  if (!ask.choice && ask.parallel === null) return null;
  const wanted = ask.choice ?? "auto";
  const found = ["any", "auto", "none"].includes(wanted) ? { type: wanted } : { type: "tool", name: wanted };
  return ask.parallel === false ? { ...found, disable_parallel_tool_use: true } : found;
}

function options(ask) {
  const mark = ask.cache ? { cache_control: { type: "ephemeral" } } : {};
  const tools = ask.tools.map(({ name, description, schema }) => ({ name, description, input_schema: schema }));
  return given({
    max_tokens: ask.effort ? 8000 : (ask.limit ?? 1000),
    system: ask.system ? [{ type: "text", text: ask.system, ...mark }] : null,
    tools: tools.length ? tools : null,
    tool_choice: choice(ask),
    output_config: ask.schema && { format: { type: "json_schema", schema: ask.schema } },
    temperature: ask.temperature,
    top_p: ask.top_p,
    stop_sequences: ask.stop.length ? ask.stop : null,
    thinking: ask.effort && { type: "enabled", budget_tokens: 2048 },
  });
}

const FINISH = {
  end_turn: "stop",
  stop_sequence: "sequence",
  max_tokens: "length",
  tool_use: "tool",
  refusal: "filter",
};

function outcome(answer) {
  const of = (type) => answer.content.filter((block) => block.type === type);
  const { usage } = answer;
  const read = usage.cache_read_input_tokens ?? 0;
  return {
    text: joined(of("text").map((block) => block.text)),
    thoughts: joined(of("thinking").map((block) => block.thinking)),
    calls: of("tool_use").map((block) => ({ id: block.id, name: block.name, arguments: block.input })),
    finish: FINISH[answer.stop_reason],
    usage: {
      input: usage.input_tokens + read + (usage.cache_creation_input_tokens ?? 0),
      cached: read,
      output: usage.output_tokens,
      reasoning: usage.output_tokens_details?.thinking_tokens ?? 0,
    },
    model: answer.model,
    raw: answer.content,
  };
}

export async function ask(question) {
  const sdk = new Anthropic({ baseURL: question.url, apiKey: question.token, maxRetries: 0 });
  const request = { model: question.model, messages: messages(question), ...options(question.ask) };
  const dated = question.ask.temperature !== null || question.ask.effort;
  const settings = dated ? { headers: { "anthropic-version": "2023-06-01" } } : {};
  if (!question.stream) return outcome(await sdk.messages.create(request, settings));
  return outcome(await sdk.messages.stream(request, settings).finalMessage());
}
