// Google's Gemini.

import { ApiError, GoogleGenAI } from "@google/genai";

import { given } from "./words.mjs";

export const Refusal = ApiError;

const inline = (data, mimeType) => ({ inlineData: { data, mimeType } });
const file = (fileUri, mimeType) => ({ fileData: { fileUri, mimeType } });

function answered({ id, name, text, picture }) {
  const inner = picture ? { parts: [inline(picture.data, "image/png")] } : {};
  return { functionResponse: { id, name, response: { result: text }, ...inner } };
}

function parts(turn) {
  const found = turn.results.map(answered);
  if (turn.text) found.push({ text: turn.text });
  for (const { url, data } of turn.pictures) found.push(url ? file(url, "image/png") : inline(data, "image/png"));
  if (turn.pdf) found.push(inline(turn.pdf, "application/pdf"));
  if (turn.file_url) found.push(file(turn.file_url, turn.file_url.endsWith(".pdf") ? "application/pdf" : "text/plain"));
  if (turn.audio) found.push(inline(turn.audio, "audio/wav"));
  found.push(...turn.calls.map(({ id, name, arguments: args }) => ({ functionCall: { id, name, args } })));
  return found;
}

function contents({ ask, before, result, further }) {
  const roles = { user: "user", assistant: "model" };
  const found = ask.turns.map((turn) => ({ role: roles[turn.role], parts: parts(turn) }));
  if (!before) return found;
  const results = before.calls.map(({ id, name }) => ({
    functionResponse: { ...(id ? { id } : {}), name, response: { result } },
  }));
  return [...found, { role: "model", parts: before.raw }, { role: "user", parts: [...results, { text: further }] }];
}

function calling(choice) {
  const modes = { any: "ANY", auto: "AUTO", none: "NONE" };
  const named = modes[choice] ? {} : { allowedFunctionNames: [choice] };
  return { functionCallingConfig: { mode: modes[choice] ?? "ANY", ...named } };
}

function config(ask) {
  const declared = ask.tools.map(({ name, description, schema }) => ({
    name,
    description,
    parametersJsonSchema: schema,
  }));
  return given({
    maxOutputTokens: ask.limit,
    systemInstruction: ask.system || null,
    tools: declared.length ? [{ functionDeclarations: declared }] : null,
    automaticFunctionCalling: declared.length ? { disable: true } : null,
    toolConfig: ask.choice && calling(ask.choice),
    responseMimeType: ask.json || ask.schema ? "application/json" : null,
    responseJsonSchema: ask.schema,
    temperature: ask.temperature,
    topP: ask.top_p,
    stopSequences: ask.stop.length ? ask.stop : null,
    thinkingConfig: ask.effort && { includeThoughts: true, thinkingBudget: 2048 },
  });
}

function usageOf(counted) {
  const thought = counted.thoughtsTokenCount ?? 0;
  return {
    input: counted.promptTokenCount ?? 0,
    cached: counted.cachedContentTokenCount ?? 0,
    output: (counted.candidatesTokenCount ?? 0) + thought,
    reasoning: thought,
  };
}

function take(part, found) {
  found.raw.push(part);
  if (part.functionCall) {
    const { id, name, args } = part.functionCall;
    found.calls.push({ id: id ?? "", name, arguments: args ?? {} });
  } else if (part.thought) {
    found.thoughts += part.text ?? "";
  } else {
    found.text += part.text ?? "";
  }
}

const FINISH = { STOP: "stop", MAX_TOKENS: "length" };

async function outcome(chunks) {
  const found = { text: "", thoughts: "", calls: [], usage: null, model: "", raw: [] };
  let reason = "";
  for await (const chunk of chunks) {
    for (const candidate of chunk.candidates ?? []) {
      reason = candidate.finishReason ?? reason;
      for (const part of candidate.content?.parts ?? []) take(part, found);
    }
    if (chunk.usageMetadata) found.usage = usageOf(chunk.usageMetadata);
    found.model = chunk.modelVersion ?? found.model;
  }
  const finish = FINISH[reason] ?? "filter";
  return { ...found, finish: found.calls.length && finish === "stop" ? "tool" : finish };
}

export async function ask(question) {
  const sdk = new GoogleGenAI({ apiKey: question.token, httpOptions: { baseUrl: question.url } });
  const request = { model: question.model, contents: contents(question), config: config(question.ask) };
  if (!question.stream) return outcome([await sdk.models.generateContent(request)]);
  return outcome(await sdk.models.generateContentStream(request));
}
