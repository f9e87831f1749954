"""What a provider was asked, read off its own wire by hand into the words of a case."""

import json
from typing import Any

import msgspec

from tests.matrix.neutral import Json
from tests.matrix.server import Seen


class View(msgspec.Struct):
    """`pictures`, `documents` and `sounds` are base64, or URLs. `results` are (id or name, text). `passed`: the client
    speaks the provider's protocol, and wrote this itself."""

    system: str = ""
    roles: list[str] = []
    texts: list[str] = []
    pictures: list[str] = []
    documents: list[str] = []
    sounds: list[str] = []
    tools: dict[str, Json] = {}
    choice: str = ""
    parallel: bool | None = None
    calls: list[tuple[str, Json]] = []
    results: list[tuple[str, str]] = []
    schema: Json | None = None
    json_mode: bool = False
    temperature: float | None = None
    top_p: float | None = None
    stop: list[str] = []
    limit: int | None = None
    thinks: bool = False
    cached: bool = False
    signatures: list[str] = []
    passed: bool = False


def view(seen: Seen) -> View:
    return _READERS[seen.protocol](seen.body)


def _data(url: str) -> str:
    return url.partition(";base64,")[2] or url


def _chat(body: Json) -> View:
    found = View(temperature=body.get("temperature"), top_p=body.get("top_p"), parallel=body.get("parallel_tool_calls"))
    for message in body["messages"]:
        content = message.get("content")
        parts: list[Json] = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
        if message["role"] in ("system", "developer"):
            found.system += "".join(part["text"] for part in parts)
            found.cached |= any("prompt_cache_breakpoint" in part for part in parts)
            continue
        if message["role"] == "tool":
            found.results.append((message["tool_call_id"], "".join(part["text"] for part in parts)))
            continue
        found.roles.append(message["role"])
        for part in parts:
            match part["type"]:
                case "text":
                    found.texts.append(part["text"])
                case "image_url":
                    url = part["image_url"]
                    found.pictures.append(_data(url if isinstance(url, str) else url["url"]))
                case "file":
                    found.documents.append(_data(part["file"]["file_data"]))
                case "file_url":
                    found.documents.append(part["file_url"]["url"])
                case "input_audio":
                    found.sounds.append(part["input_audio"]["data"])
        for call in message.get("tool_calls") or ():
            function = call["function"]
            found.calls.append((function["name"], json.loads(function["arguments"])))
            extra = (call.get("extra_content") or {}).get("google") or {}
            found.signatures += [extra["thought_signature"]] if extra else []
    found.tools = {t["function"]["name"]: t["function"].get("parameters") or {} for t in body.get("tools") or ()}
    choice = body.get("tool_choice")
    found.choice = choice["function"]["name"] if isinstance(choice, dict) else choice or ""
    asked = body.get("response_format") or {}
    found.json_mode = asked.get("type") in ("json_object", "json_schema")
    found.schema = (asked.get("json_schema") or {}).get("schema")
    stop = body.get("stop")
    found.stop = [stop] if isinstance(stop, str) else stop or []
    found.limit = body.get("max_completion_tokens") or body.get("max_tokens")
    found.thinks = body.get("reasoning_effort") not in (None, "none")
    return found


def _responses(body: Json) -> View:
    found = View(temperature=body.get("temperature"), top_p=body.get("top_p"), parallel=body.get("parallel_tool_calls"))
    found.system = body.get("instructions") or ""
    items = body["input"]
    for item in [{"role": "user", "content": items}] if isinstance(items, str) else items:
        match item.get("type", "message"):
            case "message":
                _responses_message(item, found)
            case "function_call":
                found.calls.append((item["name"], json.loads(item["arguments"])))
            case "function_call_output":
                _responses_result(item, found)
            case "reasoning":
                found.signatures += [item["encrypted_content"]] if item.get("encrypted_content") else []
    found.tools = {t["name"]: t.get("parameters") or {} for t in body.get("tools") or ()}
    choice = body.get("tool_choice")
    found.choice = choice["name"] if isinstance(choice, dict) else choice or ""
    asked = (body.get("text") or {}).get("format") or {}
    found.json_mode = asked.get("type") in ("json_object", "json_schema")
    found.schema = asked.get("schema")
    found.limit = body.get("max_output_tokens")
    found.thinks = bool((body.get("reasoning") or {}).get("effort"))
    return found


def _responses_message(item: Json, found: View) -> None:
    content = item["content"]
    parts = [{"type": "input_text", "text": content}] if isinstance(content, str) else content
    if item["role"] in ("system", "developer"):
        found.system += "".join(part["text"] for part in parts)
        return
    found.roles.append(item["role"])
    for part in parts:
        _responses_part(part, found)


def _responses_part(part: Json, found: View) -> None:
    match part["type"]:
        case "input_text" | "output_text":
            found.texts.append(part["text"])
        case "input_image":
            found.pictures.append(_data(part["image_url"]))
        case "input_file":
            found.documents.append(_data(part.get("file_data") or part["file_url"]))
        case "input_audio":
            found.sounds.append(part["input_audio"]["data"])


def _responses_result(item: Json, found: View) -> None:
    output = item["output"]
    if isinstance(output, list):
        inner = View()
        for part in output:
            _responses_part(part, inner)
        found.pictures += inner.pictures
        output = "".join(inner.texts)
    found.results.append((item["call_id"], output))


def _anthropic(body: Json) -> View:
    found = View(temperature=body.get("temperature"), top_p=body.get("top_p"), stop=body.get("stop_sequences") or [])
    system = body.get("system") or []
    blocks = [{"type": "text", "text": system}] if isinstance(system, str) else system
    found.system = "".join(block["text"] for block in blocks)
    found.cached = any("cache_control" in block for block in blocks)
    for message in body["messages"]:
        found.roles.append(message["role"])
        content = message["content"]
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            _anthropic_block(block, found)
    found.tools = {t["name"]: t["input_schema"] for t in body.get("tools") or ()}
    choice = body.get("tool_choice") or {}
    found.choice = choice.get("name") or choice.get("type") or ""
    if "disable_parallel_tool_use" in choice:
        found.parallel = not choice["disable_parallel_tool_use"]
    asked = (body.get("output_config") or {}).get("format") or {}
    found.schema, found.json_mode = asked.get("schema"), bool(asked)
    found.limit = body.get("max_tokens")
    found.thinks = (body.get("thinking") or {}).get("type") in ("enabled", "adaptive")
    return found


def _source(source: Json) -> str:
    found: str = source.get("data") or source["url"]
    return found


def _anthropic_block(block: Json, found: View) -> None:
    match block["type"]:
        case "text":
            found.texts.append(block["text"])
        case "image":
            found.pictures.append(_source(block["source"]))
        case "document":
            found.documents.append(_source(block["source"]))
        case "tool_use":
            found.calls.append((block["name"], block["input"]))
        case "tool_result":
            content = block["content"]
            inner = View()
            for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
                _anthropic_block(part, inner)
            found.pictures += inner.pictures
            found.results.append((block["tool_use_id"], "".join(inner.texts)))
        case "thinking":
            found.signatures.append(block["signature"])


_FROM_URLS = str.maketrans("-_", "+/")


def _camel(value: Any) -> Any:
    """Names as Google's documents write them: its Python SDK writes some with underscores, which its API takes too."""
    if isinstance(value, list):
        return [_camel(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for name, inner in value.items():
        head, *rest = name.split("_")
        camel = head + "".join(word.capitalize() for word in rest)
        found[camel] = inner if camel in ("args", "response") or camel.endswith("JsonSchema") else _camel(inner)
    return found


def _gemini(body: Json) -> View:
    body = _camel(body)
    config = body.get("generationConfig") or {}
    found = View(
        temperature=config.get("temperature"), top_p=config.get("topP"), stop=config.get("stopSequences") or []
    )
    found.system = "".join(part["text"] for part in (body.get("systemInstruction") or {}).get("parts", ()))
    for content in body["contents"]:
        found.roles.append({"model": "assistant"}.get(content["role"], content["role"]))
        for part in content["parts"]:
            _gemini_part(part, found)
    for tool in body.get("tools") or ():
        for declared in tool.get("functionDeclarations") or ():
            found.tools[declared["name"]] = declared.get("parametersJsonSchema") or declared.get("parameters") or {}
    calling: Any = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
    only = calling.get("allowedFunctionNames") or []
    found.choice = only[0] if len(only) == 1 else str(calling.get("mode") or "").lower()
    found.json_mode = config.get("responseMimeType") == "application/json"
    found.schema = config.get("responseJsonSchema") or config.get("responseSchema")
    found.limit = config.get("maxOutputTokens")
    thinking = config.get("thinkingConfig") or {}
    found.thinks = bool(thinking.get("thinkingBudget") or thinking.get("thinkingLevel"))
    return found


def _gemini_part(part: Json, found: View) -> None:
    if signature := part.get("thoughtSignature"):
        found.signatures.append(signature)
    if "text" in part:
        found.texts.append(part["text"])
    for field, place in (("inlineData", "data"), ("fileData", "fileUri")):
        if blob := part.get(field):
            kind = blob["mimeType"].partition("/")[0]
            where = {"image": found.pictures, "audio": found.sounds}.get(kind, found.documents)
            # Google's Python SDK writes data in the alphabet for URLs, which its API takes too.
            where.append(blob[place].translate(_FROM_URLS) if place == "data" else blob[place])
    if call := part.get("functionCall"):
        found.calls.append((call["name"], call.get("args") or {}))
    if result := part.get("functionResponse"):
        said = result["response"]
        text = next(iter(said.values())) if len(said) == 1 else json.dumps(said)
        found.results.append((result["name"], text if isinstance(text, str) else json.dumps(text)))
        for inner in result.get("parts") or ():
            _gemini_part(inner, found)


_READERS = {"openai": _chat, "responses": _responses, "anthropic": _anthropic, "gemini": _gemini}
