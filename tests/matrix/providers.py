"""The four vendors' wires, by hand: what each answers for a plan, whole and streamed."""

import json
from collections.abc import Iterator
from typing import Any

from tests.matrix.neutral import Json, Plan, pieces

CREATED = 1_700_000_000
# How vendors refuse a thought whose signature another account of theirs has given.
UNREAD: dict[str, Json] = {
    "responses": {
        "error": {
            "message": "The encrypted content gAAA...== could not be verified.",
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_encrypted_content",
        }
    },
    "anthropic": {
        "type": "error",
        "error": {
            "type": "invalid_request_error",
            "message": "messages.1.content.0: Invalid `signature` in `thinking` block",
        },
    },
    "gemini": {"error": {"code": 400, "message": "Corrupted thought signature.", "status": "INVALID_ARGUMENT"}},
}


def _lines(events: Iterator[tuple[str | None, Any]]) -> Iterator[bytes]:
    for name, data in events:
        text = data if isinstance(data, str) else json.dumps(data)
        yield (f"event: {name}\n" if name else "").encode() + b"data: " + text.encode() + b"\n\n"


# ---- OpenAI chat ----------------------------------------------------------------------------------------------------

_CHAT_FINISH = {
    "stop": "stop",
    "sequence": "stop",
    "length": "length",
    "tool": "tool_calls",
    "filter": "content_filter",
}


def _chat_usage(plan: Plan) -> Json:
    usage = plan.usage
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "audio_tokens": 0},
    }


def openai_whole(plan: Plan, model: str) -> Json:
    message: Json = {"role": "assistant", "content": plan.text or None, "refusal": None}
    if plan.thoughts:
        message["reasoning_content"] = plan.thoughts
    if plan.calls:
        message["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": json.dumps(c.arguments)}}
            for c in plan.calls
        ]
    choice = {"index": 0, "message": message, "finish_reason": _CHAT_FINISH[plan.finish], "logprobs": None}
    head = {"id": "chatcmpl-9", "object": "chat.completion", "created": CREATED, "model": model}
    return {**head, "choices": [choice], "usage": _chat_usage(plan), "system_fingerprint": "fp_1"}


def openai_stream(plan: Plan, model: str, body: Json) -> Iterator[bytes]:
    head = {"id": "chatcmpl-9", "object": "chat.completion.chunk", "created": CREATED, "model": model}
    with_usage = bool((body.get("stream_options") or {}).get("include_usage"))

    def chunk(delta: Json, finish: str | None = None) -> tuple[None, Json]:
        found = {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]}
        return None, {**found, "usage": None} if with_usage else found

    def events() -> Iterator[tuple[str | None, Any]]:
        yield chunk({"role": "assistant", "content": "", "refusal": None})
        for piece in pieces(plan.thoughts):
            yield chunk({"reasoning_content": piece})
        for piece in pieces(plan.text):
            yield chunk({"content": piece})
        for index, call in enumerate(plan.calls):
            function = {"name": call.name, "arguments": ""}
            yield chunk({"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]})
            for piece in pieces(json.dumps(call.arguments)):
                yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
        yield chunk({}, _CHAT_FINISH[plan.finish])
        if with_usage:
            yield None, {**head, "choices": [], "usage": _chat_usage(plan)}
        yield None, "[DONE]"

    return _lines(events())


# ---- OpenAI Responses -----------------------------------------------------------------------------------------------


def _responses_items(plan: Plan) -> list[Json]:
    items: list[Json] = []
    if plan.thoughts:
        summary = [{"type": "summary_text", "text": plan.thoughts}]
        thought: Json = {"id": "rs_1", "type": "reasoning", "summary": summary, "status": "completed"}
        items.append(thought | ({"encrypted_content": plan.signature} if plan.signature else {}))
    if plan.finish == "filter" and plan.text:
        content: list[Json] = [{"type": "refusal", "refusal": plan.text}]
        items.append({"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content})
    elif plan.text:
        content = [{"type": "output_text", "text": plan.text, "annotations": [], "logprobs": []}]
        items.append({"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content})
    for number, call in enumerate(plan.calls):
        items.append(
            {
                "id": f"fc_{number}",
                "type": "function_call",
                "call_id": call.id,
                "name": call.name,
                "arguments": json.dumps(call.arguments),
                "status": "completed",
            }
        )
    return items


def _responses_object(plan: Plan, model: str, body: Json, *, done: bool) -> Json:
    cut = {"length": "max_output_tokens", "filter": "content_filter"}.get(plan.finish) if done else None
    usage = plan.usage
    return {
        "id": "resp_9",
        "object": "response",
        "created_at": CREATED,
        "status": ("incomplete" if cut else "completed") if done else "in_progress",
        "error": None,
        "incomplete_details": {"reason": cut} if cut else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": model,
        "output": _responses_items(plan) if done else [],
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "reasoning": body.get("reasoning") or {"effort": None, "summary": None},
        "store": body.get("store", True),
        "temperature": body.get("temperature", 1.0),
        "text": body.get("text") or {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools", []),
        "top_p": body.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": {
            "input_tokens": usage.input,
            "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
            "output_tokens": usage.output,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning},
            "total_tokens": usage.input + usage.output,
        }
        if done
        else None,
        "user": None,
        "metadata": {},
    }


def responses_whole(plan: Plan, model: str, body: Json) -> Json:
    return _responses_object(plan, model, body, done=True)


def responses_stream(plan: Plan, model: str, body: Json) -> Iterator[bytes]:
    def events() -> Iterator[Json]:
        begun = _responses_object(plan, model, body, done=False)
        yield {"type": "response.created", "response": begun}
        yield {"type": "response.in_progress", "response": begun}
        for at, item in enumerate(_responses_items(plan)):
            yield from _item_events(at, item)
        whole = _responses_object(plan, model, body, done=True)
        yield {"type": f"response.{whole['status']}", "response": whole}

    numbered = ({**event, "sequence_number": number} for number, event in enumerate(events()))
    return _lines((event["type"], event) for event in numbered)


def _item_events(at: int, item: Json) -> Iterator[Json]:
    place = {"output_index": at, "item_id": item["id"]}
    opened = {**item, "status": "in_progress"}
    match item["type"]:
        case "reasoning":
            yield {"type": "response.output_item.added", "output_index": at, "item": {**opened, "summary": []}}
            part = {"type": "summary_text", "text": ""}
            place |= {"summary_index": 0}
            yield {"type": "response.reasoning_summary_part.added", **place, "part": part}
            text = item["summary"][0]["text"]
            for piece in pieces(text):
                yield {"type": "response.reasoning_summary_text.delta", **place, "delta": piece}
            yield {"type": "response.reasoning_summary_text.done", **place, "text": text}
            yield {"type": "response.reasoning_summary_part.done", **place, "part": item["summary"][0]}
        case "message":
            yield {"type": "response.output_item.added", "output_index": at, "item": {**opened, "content": []}}
            yield from _content_events(place, item["content"][0])
        case _:
            yield {"type": "response.output_item.added", "output_index": at, "item": {**opened, "arguments": ""}}
            for piece in pieces(item["arguments"]):
                yield {"type": "response.function_call_arguments.delta", **place, "delta": piece}
            done = {"arguments": item["arguments"], "name": item["name"]}
            yield {"type": "response.function_call_arguments.done", **place, **done}
    yield {"type": "response.output_item.done", "output_index": at, "item": item}


def _content_events(place: Json, content: Json) -> Iterator[Json]:
    place = {**place, "content_index": 0}
    field = "refusal" if content["type"] == "refusal" else "text"
    kind = "refusal" if field == "refusal" else "output_text"
    yield {"type": "response.content_part.added", **place, "part": {**content, field: ""}}
    for piece in pieces(content[field]):
        yield {"type": f"response.{kind}.delta", **place, "delta": piece, "logprobs": []}
    yield {"type": f"response.{kind}.done", **place, field: content[field], "logprobs": []}
    yield {"type": "response.content_part.done", **place, "part": content}


# ---- Anthropic ------------------------------------------------------------------------------------------------------

_STOP = {
    "stop": "end_turn",
    "sequence": "stop_sequence",
    "length": "max_tokens",
    "tool": "tool_use",
    "filter": "refusal",
}


def _anthropic_usage(plan: Plan) -> Json:
    usage = plan.usage
    return {
        "input_tokens": usage.input - usage.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": usage.output,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
        "service_tier": "standard",
    }


def _blocks(plan: Plan) -> list[Json]:
    blocks: list[Json] = []
    if plan.thoughts:
        blocks.append({"type": "thinking", "thinking": plan.thoughts, "signature": plan.signature or "sig-anthropic"})
    if plan.text:
        blocks.append({"type": "text", "text": plan.text})
    blocks += [{"type": "tool_use", "id": c.id, "name": c.name, "input": c.arguments} for c in plan.calls]
    return blocks


def anthropic_whole(plan: Plan, model: str) -> Json:
    return {
        "id": "msg_9",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": _blocks(plan),
        "stop_reason": _STOP[plan.finish],
        "stop_sequence": plan.sequence or None,
        "usage": _anthropic_usage(plan),
    }


def anthropic_stream(plan: Plan, model: str) -> Iterator[bytes]:
    def events() -> Iterator[Json]:
        begun = {**anthropic_whole(plan, model), "content": [], "stop_reason": None, "stop_sequence": None}
        begun["usage"] = {**_anthropic_usage(plan), "output_tokens": 1}
        yield {"type": "message_start", "message": begun}
        yield {"type": "ping"}
        for index, block in enumerate(_blocks(plan)):
            yield from _block_events(index, block)
        delta = {"stop_reason": _STOP[plan.finish], "stop_sequence": plan.sequence or None}
        yield {"type": "message_delta", "delta": delta, "usage": _anthropic_usage(plan)}
        yield {"type": "message_stop"}

    return _lines((event["type"], event) for event in events())


def _block_events(index: int, block: Json) -> Iterator[Json]:
    def delta(**what: str) -> Json:
        return {"type": "content_block_delta", "index": index, "delta": what}

    empty: dict[str, Json] = {
        "thinking": {"thinking": "", "signature": ""},
        "text": {"text": ""},
        "tool_use": {"input": {}},
    }
    yield {"type": "content_block_start", "index": index, "content_block": {**block, **empty[block["type"]]}}
    match block["type"]:
        case "thinking":
            for piece in pieces(block["thinking"]):
                yield delta(type="thinking_delta", thinking=piece)
            yield delta(type="signature_delta", signature=block["signature"])
        case "text":
            for piece in pieces(block["text"]):
                yield delta(type="text_delta", text=piece)
        case _:
            yield delta(type="input_json_delta", partial_json="")
            for piece in pieces(json.dumps(block["input"])):
                yield delta(type="input_json_delta", partial_json=piece)
    yield {"type": "content_block_stop", "index": index}


# ---- Gemini ---------------------------------------------------------------------------------------------------------

_GEMINI_FINISH = {"stop": "STOP", "sequence": "STOP", "length": "MAX_TOKENS", "tool": "STOP", "filter": "SAFETY"}


def _gemini_usage(plan: Plan) -> Json:
    usage = plan.usage
    found = {
        "promptTokenCount": usage.input,
        "candidatesTokenCount": usage.output - usage.reasoning,
        "totalTokenCount": usage.input + usage.output,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": usage.input}],
    }
    if usage.cached:
        found["cachedContentTokenCount"] = usage.cached
    if usage.reasoning:
        found["thoughtsTokenCount"] = usage.reasoning
    return found


def _call_part(plan: Plan, number: int) -> Json:
    call = plan.calls[number]
    part: Json = {"functionCall": {"name": call.name, "args": call.arguments}}
    if plan.signature and number == 0:
        part["thoughtSignature"] = plan.signature
    return part


def _gemini(plan: Plan, model: str, parts: list[Json], finish: str | None) -> Json:
    candidate: Json = {"content": {"role": "model", "parts": parts}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    head = {"usageMetadata": _gemini_usage(plan), "modelVersion": model, "responseId": "gem-9"}
    return {"candidates": [candidate], **head}


def gemini_whole(plan: Plan, model: str) -> Json:
    parts: list[Json] = [{"text": plan.thoughts, "thought": True}] if plan.thoughts else []
    parts += [{"text": plan.text}] if plan.text else []
    parts += [_call_part(plan, number) for number in range(len(plan.calls))]
    return _gemini(plan, model, parts, _GEMINI_FINISH[plan.finish])


def gemini_stream(plan: Plan, model: str) -> Iterator[bytes]:
    def events() -> Iterator[tuple[None, Json]]:
        for piece in pieces(plan.thoughts):
            yield None, _gemini(plan, model, [{"text": piece, "thought": True}], None)
        for piece in pieces(plan.text):
            yield None, _gemini(plan, model, [{"text": piece}], None)
        for number in range(len(plan.calls)):
            yield None, _gemini(plan, model, [_call_part(plan, number)], None)
        yield None, _gemini(plan, model, [{"text": ""}], _GEMINI_FINISH[plan.finish])

    return (line.replace(b"\n\n", b"\r\n\r\n") for line in _lines(events()))
