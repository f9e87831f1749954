"""The official Python SDKs as clients: each asks a neutral question in its own words and says what it got.

`Unsayable`: this SDK has no words for it, so the case is none of its protocol's.
"""

import base64
import functools
import json
import mimetypes
from collections.abc import Callable
from typing import Any

import anthropic
import openai
from google import genai
from google.genai import types

from tests.matrix.neutral import Ask, Call, Json, Outcome, Picture, Turn, Usage


class Unsayable(Exception):
    """The protocol cannot express it."""


# One SDK for a session, as an application has it: most of what making one costs is reading the certificates.


@functools.cache
def _openai(url: str, token: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0)


@functools.cache
def _anthropic(url: str, token: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, api_key=token, max_retries=0)


@functools.cache
def _genai(url: str, token: str) -> genai.Client:
    return genai.Client(api_key=token, http_options=types.HttpOptions(base_url=url))


def _data_url(data: str, mime: str) -> str:
    return f"data:{mime};base64,{data}"


# ---- OpenAI chat ----------------------------------------------------------------------------------------------------


def _chat_parts(turn: Turn) -> Any:
    parts: list[Json] = [{"type": "text", "text": turn.text}] if turn.text else []
    for picture in turn.pictures:
        url = picture.url or _data_url(picture.data, "image/png")
        parts.append({"type": "image_url", "image_url": url if picture.bare else {"url": url}})
    if turn.pdf:
        file = {"filename": "paper.pdf", "file_data": _data_url(turn.pdf, "application/pdf")}
        parts.append({"type": "file", "file": file})
    if turn.file_url:
        parts.append({"type": "file_url", "file_url": {"url": turn.file_url}})
    if turn.audio:
        parts.append({"type": "input_audio", "input_audio": {"data": turn.audio, "format": "wav"}})
    return turn.text if len(parts) == 1 and turn.text else parts


def chat_messages(ask: Ask) -> list[Json]:
    messages: list[Json] = []
    if ask.system:
        content: Any = ask.system
        if ask.cache:
            content = [{"type": "text", "text": ask.system, "prompt_cache_breakpoint": {"type": "ephemeral"}}]
        messages.append({"role": "system", "content": content})
    for turn in ask.turns:
        for result in turn.results:
            if result.picture:
                raise Unsayable("a tool's message is text")
            messages.append({"role": "tool", "tool_call_id": result.id, "content": result.text})
        if turn.calls:
            calls = [
                {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": json.dumps(c.arguments)}}
                for c in turn.calls
            ]
            messages.append({"role": "assistant", "content": turn.text or None, "tool_calls": calls})
        elif not turn.results or turn.text:
            messages.append({"role": turn.role, "content": _chat_parts(turn)})
    return messages


def _chat_options(ask: Ask) -> Json:
    found: Json = {}
    if ask.tools:
        found["tools"] = [
            {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.schema}}
            for t in ask.tools
        ]
    if ask.choice:
        named = {"any": "required", "auto": "auto", "none": "none"}
        found["tool_choice"] = named.get(ask.choice) or {"type": "function", "function": {"name": ask.choice}}
    if ask.parallel is not None:
        found["parallel_tool_calls"] = ask.parallel
    if ask.schema:
        schema = {"name": "answer", "schema": ask.schema, "strict": True}
        found["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif ask.json:
        found["response_format"] = {"type": "json_object"}
    for name, value in (("temperature", ask.temperature), ("top_p", ask.top_p), ("reasoning_effort", ask.effort)):
        if value is not None:
            found[name] = value
    if ask.stop:
        found["stop"] = ask.stop
    if ask.limit:
        found["max_completion_tokens"] = ask.limit
    return found


def _chat_usage(usage: Any) -> Usage | None:
    if usage is None:
        return None
    into, out = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        input=usage.prompt_tokens,
        cached=(into.cached_tokens if into else 0) or 0,
        output=usage.completion_tokens,
        reasoning=(out.reasoning_tokens if out else 0) or 0,
    )


_CHAT_FINISH = {"stop": "stop", "length": "length", "tool_calls": "tool", "content_filter": "filter"}


def chat(url: str, token: str, model: str, ask: Ask, *, stream: bool, messages: list[Json] | None = None) -> Outcome:
    sdk = _openai(url, token)
    said = messages if messages is not None else chat_messages(ask)
    options: Json = {"model": model, "messages": said, **_chat_options(ask)}
    if not stream:
        answer = sdk.chat.completions.create(**options)
    else:
        with sdk.chat.completions.stream(**options, stream_options={"include_usage": True}) as events:
            for _ in events:
                pass
            # `get_final_completion` raises for an answer that was cut or filtered, which here is as it should be.
            answer = events.current_completion_snapshot
    choice = answer.choices[0]
    message = choice.message
    return Outcome(
        text=message.content or message.refusal or "",
        thoughts=(message.model_extra or {}).get("reasoning_content") or "",
        calls=[
            Call(call.id, call.function.name, json.loads(call.function.arguments))
            for call in message.tool_calls or []
            if call.type == "function"
        ],
        finish=_CHAT_FINISH[choice.finish_reason],
        usage=_chat_usage(answer.usage),
        model=answer.model,
        raw=message.model_dump(exclude_none=True, exclude={"parsed"}),
    )


def chat_again(outcome: Outcome) -> list[Json]:
    message = {k: v for k, v in outcome.raw.items() if k != "pisces"}
    for call in message.get("tool_calls", ()):
        call["function"].pop("parsed_arguments", None)
    return [message]


# ---- OpenAI Responses -----------------------------------------------------------------------------------------------


def _input_parts(turn: Turn) -> list[Json]:
    kind = "output_text" if turn.role == "assistant" else "input_text"
    parts: list[Json] = [{"type": kind, "text": turn.text}] if turn.text else []
    for picture in turn.pictures:
        url = picture.url or _data_url(picture.data, "image/png")
        parts.append({"type": "input_image", "image_url": url, "detail": "auto"})
    if turn.pdf:
        data = _data_url(turn.pdf, "application/pdf")
        parts.append({"type": "input_file", "filename": "paper.pdf", "file_data": data})
    if turn.file_url:
        parts.append({"type": "input_file", "file_url": turn.file_url})
    if turn.audio:
        parts.append({"type": "input_audio", "input_audio": {"data": turn.audio, "format": "wav"}})
    return parts


def items_of(ask: Ask) -> list[Json]:
    items: list[Json] = []
    for turn in ask.turns:
        for result in turn.results:
            output: Any = result.text
            if result.picture:
                url = _data_url(result.picture.data, "image/png")
                output = [{"type": "input_text", "text": result.text}, {"type": "input_image", "image_url": url}]
            items.append({"type": "function_call_output", "call_id": result.id, "output": output})
        if parts := _input_parts(turn):
            items.append({"type": "message", "role": turn.role, "content": parts})
        items += [
            {"type": "function_call", "call_id": c.id, "name": c.name, "arguments": json.dumps(c.arguments)}
            for c in turn.calls
        ]
    return items


def _response_options(ask: Ask) -> Json:
    found: Json = {}
    if ask.stop:
        raise Unsayable("no stop sequences")
    if ask.cache:
        raise Unsayable("no cache marks")
    if ask.system:
        found["instructions"] = ask.system
    if ask.tools:
        found["tools"] = [
            {"type": "function", "name": t.name, "description": t.description, "parameters": t.schema, "strict": False}
            for t in ask.tools
        ]
    if ask.choice:
        named = {"any": "required", "auto": "auto", "none": "none"}
        found["tool_choice"] = named.get(ask.choice) or {"type": "function", "name": ask.choice}
    if ask.parallel is not None:
        found["parallel_tool_calls"] = ask.parallel
    if ask.schema:
        found["text"] = {"format": {"type": "json_schema", "name": "answer", "schema": ask.schema, "strict": True}}
    elif ask.json:
        found["text"] = {"format": {"type": "json_object"}}
    for name, value in (("temperature", ask.temperature), ("top_p", ask.top_p), ("max_output_tokens", ask.limit)):
        if value is not None:
            found[name] = value
    if ask.effort:
        found["reasoning"] = {"effort": ask.effort, "summary": "auto"}
        found["include"] = ["reasoning.encrypted_content"]
    return found


def responses(url: str, token: str, model: str, ask: Ask, *, stream: bool, items: list[Json] | None = None) -> Outcome:
    sdk = _openai(url, token)
    asked = items if items is not None else items_of(ask)
    options: Json = {"model": model, "input": asked, "store": False, **_response_options(ask)}
    if not stream:
        answer: Any = sdk.responses.create(**options)
    else:
        with sdk.responses.stream(**options) as events:
            final = None
            for event in events:
                if event.type in ("response.completed", "response.incomplete", "response.failed"):
                    final = event.response
            answer = final
    return _responses_outcome(answer)


def _responses_outcome(answer: Any) -> Outcome:
    calls = [Call(i.call_id, i.name, json.loads(i.arguments)) for i in answer.output if i.type == "function_call"]
    refused = "".join(
        part.refusal for i in answer.output if i.type == "message" for part in i.content if part.type == "refusal"
    )
    thoughts = "".join(part.text for i in answer.output if i.type == "reasoning" for part in i.summary)
    cut = answer.incomplete_details.reason if answer.incomplete_details else None
    finish = {"max_output_tokens": "length", "content_filter": "filter"}.get(cut or "", "tool" if calls else "stop")
    usage = answer.usage
    return Outcome(
        text=answer.output_text or refused,
        thoughts=thoughts,
        calls=calls,
        finish=finish,
        usage=Usage(
            input=usage.input_tokens,
            cached=usage.input_tokens_details.cached_tokens,
            output=usage.output_tokens,
            reasoning=usage.output_tokens_details.reasoning_tokens,
        ),
        model=answer.model,
        raw=[item.model_dump(exclude_none=True) for item in answer.output],
    )


# ---- Anthropic ------------------------------------------------------------------------------------------------------


def _source(picture: Picture) -> Json:
    if picture.url:
        return {"type": "url", "url": picture.url}
    return {"type": "base64", "media_type": "image/png", "data": picture.data}


def blocks_of(turn: Turn) -> list[Json]:
    blocks: list[Json] = []
    for result in turn.results:
        content: list[Json] = [{"type": "text", "text": result.text}]
        if result.picture:
            content.append({"type": "image", "source": _source(result.picture)})
        blocks.append({"type": "tool_result", "tool_use_id": result.id, "content": content})
    if turn.text:
        blocks.append({"type": "text", "text": turn.text})
    blocks += [{"type": "image", "source": _source(picture)} for picture in turn.pictures if not picture.bare]
    if turn.pdf:
        source = {"type": "base64", "media_type": "application/pdf", "data": turn.pdf}
        blocks.append({"type": "document", "source": source, "title": "paper.pdf"})
    if turn.file_url:
        blocks.append({"type": "document", "source": {"type": "url", "url": turn.file_url}})
    if turn.audio or any(picture.bare for picture in turn.pictures):
        raise Unsayable("no sound, and no picture as a bare string")
    blocks += [{"type": "tool_use", "id": c.id, "name": c.name, "input": c.arguments} for c in turn.calls]
    return blocks


def _message_options(ask: Ask) -> Json:
    found: Json = {"max_tokens": ask.limit or 1000}
    if ask.json and not ask.schema:
        raise Unsayable("no JSON without a schema")
    if ask.system:
        mark = {"cache_control": {"type": "ephemeral"}} if ask.cache else {}
        found["system"] = [{"type": "text", "text": ask.system, **mark}]
    if ask.tools:
        found["tools"] = [{"name": t.name, "description": t.description, "input_schema": t.schema} for t in ask.tools]
    if ask.choice or ask.parallel is not None:
        named: Json = {"any": {"type": "any"}, "auto": {"type": "auto"}, "none": {"type": "none"}}
        choice: Json = dict(named.get(ask.choice or "auto") or {"type": "tool", "name": ask.choice})
        if ask.parallel is False:
            choice["disable_parallel_tool_use"] = True
        found["tool_choice"] = choice
    if ask.schema:
        found["output_config"] = {"format": {"type": "json_schema", "schema": ask.schema}}
    extra: Json = {}
    for name, value in (("temperature", ask.temperature), ("top_p", ask.top_p)):
        if value is not None:
            extra[name] = value
    if extra:
        found["extra_body"] = extra
    if ask.stop:
        found["stop_sequences"] = ask.stop
    if ask.effort:
        found["max_tokens"] = 8000
        found["thinking"] = {"type": "enabled", "budget_tokens": 2048}
    return found


_STOP = {
    "end_turn": "stop",
    "stop_sequence": "sequence",
    "max_tokens": "length",
    "tool_use": "tool",
    "refusal": "filter",
}


def messages(url: str, token: str, model: str, ask: Ask, *, stream: bool, turns: list[Json] | None = None) -> Outcome:
    sdk = _anthropic(url, token)
    asked = turns if turns is not None else [{"role": turn.role, "content": blocks_of(turn)} for turn in ask.turns]
    options: Json = {"model": model, "messages": asked, **_message_options(ask)}
    headers = {"anthropic-version": "2023-06-01"} if ask.temperature is not None or ask.effort else {}
    if not stream:
        answer: Any = sdk.messages.create(**options, extra_headers=headers)
    else:
        with sdk.messages.stream(**options, extra_headers=headers) as events:
            answer = events.get_final_message()
    usage = answer.usage
    read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    details = getattr(usage, "output_tokens_details", None)
    return Outcome(
        text="".join(block.text for block in answer.content if block.type == "text"),
        thoughts="".join(block.thinking for block in answer.content if block.type == "thinking"),
        calls=[Call(block.id, block.name, block.input) for block in answer.content if block.type == "tool_use"],
        finish=_STOP[answer.stop_reason],
        usage=Usage(
            input=usage.input_tokens + read + written,
            cached=read,
            output=usage.output_tokens,
            reasoning=(details.thinking_tokens if details else 0) or 0,
        ),
        model=answer.model,
        raw=[block.model_dump(exclude_none=True) for block in answer.content],
    )


# ---- Gemini ---------------------------------------------------------------------------------------------------------


def _inline(data: str, mime: str) -> types.Part:
    return types.Part(inline_data=types.Blob(data=base64.b64decode(data), mime_type=mime))


def parts_of(turn: Turn) -> list[types.Part]:
    parts: list[types.Part] = []
    for result in turn.results:
        inner = None
        if result.picture:
            blob = types.FunctionResponseBlob(data=base64.b64decode(result.picture.data), mime_type="image/png")
            inner = [types.FunctionResponsePart(inline_data=blob)]
        answer = types.FunctionResponse(id=result.id, name=result.name, response={"result": result.text}, parts=inner)
        parts.append(types.Part(function_response=answer))
    if turn.text:
        parts.append(types.Part(text=turn.text))
    for picture in turn.pictures:
        if picture.bare:
            raise Unsayable("no picture as a bare string")
        file = types.FileData(file_uri=picture.url, mime_type="image/png")
        parts.append(types.Part(file_data=file) if picture.url else _inline(picture.data, "image/png"))
    if turn.pdf:
        parts.append(_inline(turn.pdf, "application/pdf"))
    if turn.file_url:
        file = types.FileData(file_uri=turn.file_url, mime_type=mimetypes.guess_type(turn.file_url)[0])
        parts.append(types.Part(file_data=file))
    if turn.audio:
        parts.append(_inline(turn.audio, "audio/wav"))
    calls = [types.FunctionCall(id=call.id, name=call.name, args=call.arguments) for call in turn.calls]
    return parts + [types.Part(function_call=call) for call in calls]


def _generation(ask: Ask) -> types.GenerateContentConfig:
    if ask.cache:
        raise Unsayable("no cache marks")
    if ask.parallel is not None:
        raise Unsayable("no switch for parallel calls")
    found: Json = {"max_output_tokens": ask.limit}
    if ask.system:
        found["system_instruction"] = ask.system
    if ask.tools:
        declared = [
            types.FunctionDeclaration(name=t.name, description=t.description, parameters_json_schema=t.schema)
            for t in ask.tools
        ]
        found["tools"] = [types.Tool(function_declarations=declared)]
        found["automatic_function_calling"] = types.AutomaticFunctionCallingConfig(disable=True)
    if ask.choice:
        modes = {"any": "ANY", "auto": "AUTO", "none": "NONE"}
        only = None if ask.choice in modes else [ask.choice]
        mode: Any = modes.get(ask.choice, "ANY")
        config = types.FunctionCallingConfig(mode=mode, allowed_function_names=only)
        found["tool_config"] = types.ToolConfig(function_calling_config=config)
    if ask.json or ask.schema:
        found["response_mime_type"] = "application/json"
    if ask.schema:
        found["response_json_schema"] = ask.schema
    if ask.temperature is not None:
        found["temperature"] = ask.temperature
    if ask.top_p is not None:
        found["top_p"] = ask.top_p
    if ask.stop:
        found["stop_sequences"] = ask.stop
    if ask.effort:
        found["thinking_config"] = types.ThinkingConfig(include_thoughts=True, thinking_budget=2048)
    return types.GenerateContentConfig(**found)


def generate(url: str, token: str, model: str, ask: Ask, *, stream: bool, contents: list[Any] | None = None) -> Outcome:
    sdk = _genai(url, token)
    asked: Any = contents
    if asked is None:
        roles = {"user": "user", "assistant": "model"}
        asked = [types.Content(role=roles[turn.role], parts=parts_of(turn)) for turn in ask.turns]
    config = _generation(ask)
    if not stream:
        chunks = [sdk.models.generate_content(model=model, contents=asked, config=config)]
    else:
        chunks = list(sdk.models.generate_content_stream(model=model, contents=asked, config=config))
    return _gemini_outcome(chunks)


def _gemini_outcome(chunks: list[types.GenerateContentResponse]) -> Outcome:
    found = Outcome(raw=[])
    said = ""
    for chunk in chunks:
        for candidate in chunk.candidates or []:
            said = candidate.finish_reason.value if candidate.finish_reason else said
            for part in (candidate.content.parts if candidate.content else None) or []:
                found.raw.append(part)
                if part.function_call:
                    call = part.function_call
                    found.calls.append(Call(call.id or "", call.name or "", call.args or {}))
                elif part.text and part.thought:
                    found.thoughts += part.text
                elif part.text:
                    found.text += part.text
        if (usage := chunk.usage_metadata) is not None:
            thought = usage.thoughts_token_count or 0
            found.usage = Usage(
                input=usage.prompt_token_count or 0,
                cached=usage.cached_content_token_count or 0,
                output=(usage.candidates_token_count or 0) + thought,
                reasoning=thought,
            )
        found.model = chunk.model_version or found.model
    finish = {"STOP": "stop", "MAX_TOKENS": "length"}.get(said, "filter")
    found.finish = "tool" if found.calls and finish == "stop" else finish
    return found


# ---- all of them ----------------------------------------------------------------------------------------------------

Client = Callable[..., Outcome]
CLIENTS: dict[str, Client] = {"openai": chat, "responses": responses, "anthropic": messages, "gemini": generate}


def ask(client: str, url: str, token: str, model: str, question: Ask, *, stream: bool) -> Outcome:
    """What the SDK got. A refusal is an outcome with its status; anything else that the SDK raises is a defect."""
    try:
        return CLIENTS[client](url, token, model, question, stream=stream)
    except (openai.APIStatusError, anthropic.APIStatusError) as error:
        return Outcome(error=error.status_code, text=str(error))
    except genai.errors.APIError as error:
        return Outcome(error=error.code, text=str(error))


def try_to_say(client: str, question: Ask) -> None:
    """Raises Unsayable."""
    for turn in question.turns:
        {"openai": _chat_parts, "responses": _input_parts, "anthropic": blocks_of, "gemini": parts_of}[client](turn)
    match client:
        case "openai":
            chat_messages(question)
        case "responses":
            _response_options(question)
            if any(picture.bare for turn in question.turns for picture in turn.pictures):
                raise Unsayable("no picture as a bare string")
        case "anthropic":
            _message_options(question)
        case "gemini":
            _generation(question)
