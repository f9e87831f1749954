"""What a scripted upstream can do: answers, streams and every kind of trouble, on the wire of OpenAI's chat."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from tests.kit.upstream import Exchange, Script

USAGE = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
WORDS = ("Hello", ", ", "world", ".")


def completion(model: str, *, text: str = "Hello, world.", **extra: Any) -> dict[str, Any]:
    """A whole answer with usage; `extra` replaces its fields."""
    message = {"role": "assistant", "content": text, "refusal": None}
    return {
        "id": "chatcmpl-upstream",
        "object": "chat.completion",
        "created": 1700000000,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": USAGE,
        **extra,
    }


def delta(model: str, content: dict[str, Any], finish: str | None = None, **extra: Any) -> dict[str, Any]:
    """One chunk of a stream."""
    return {
        "id": "chatcmpl-upstream",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": model,
        "choices": [{"index": 0, "delta": content, "finish_reason": finish, "logprobs": None}],
        **extra,
    }


def usage_chunk(model: str, usage: Any) -> dict[str, Any]:
    return {**delta(model, {}), "choices": [], "usage": usage}


def event(data: Any) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def chunks(model: str, *, words: Sequence[str] = WORDS, usage: Any = USAGE) -> list[bytes]:
    """The events of a complete stream: words, finish, usage (unless None), `[DONE]`."""
    found = [event(delta(model, {"role": "assistant", "content": ""}))]
    found += [event(delta(model, {"content": word})) for word in words]
    found.append(event(delta(model, {}, "stop")))
    if usage is not None:
        found.append(event(usage_chunk(model, usage)))
    return [*found, DONE]


# ---- whole answers --------------------------------------------------------------------------------------------------


def whole(*, after: float = 0.0, **extra: Any) -> Script:
    """A whole answer, `after` seconds."""

    async def script(exchange: Exchange) -> None:
        await asyncio.sleep(after)
        await exchange.answer(200, json.dumps(completion(exchange.json["model"], **extra)).encode())

    return script


def body(content: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> Script:
    """Exactly these bytes as the body."""

    async def script(exchange: Exchange) -> None:
        await exchange.answer(status, content, headers)

    return script


def error(status: int, message: str = "the upstream said so", **headers: str) -> Script:
    """An error in OpenAI's envelope."""
    content = {"error": {"message": message, "type": "upstream_type", "param": None, "code": "upstream_code"}}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return body(json.dumps(content).encode(), status=status, headers=named)


def in_turn(*turns: Script) -> Script:
    """The first request gets the first script, the next one the next; the last one stays."""
    left = list(turns)

    async def script(exchange: Exchange) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(exchange)

    return script


# ---- streams --------------------------------------------------------------------------------------------------------

SSE = {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}


def stream(
    events: Sequence[bytes] | None = None,
    *,
    pause: float = 0.0,
    usage: Any = USAGE,
    words: Sequence[str] = WORDS,
    first_after: float = 0.0,
) -> Script:
    """A complete stream, or exactly these events, with `pause` seconds before each but the first."""

    async def script(exchange: Exchange) -> None:
        found = events if events is not None else chunks(exchange.json["model"], words=words, usage=usage)
        await asyncio.sleep(first_after)
        await exchange.head(200, SSE)
        for number, data in enumerate(found):
            if number:
                await asyncio.sleep(pause)
            await exchange.chunk(data)
        await exchange.write(b"0\r\n\r\n")

    return script


def byte_by_byte() -> Script:
    """A complete stream with CRLF, comments and every byte in a chunk of its own."""

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, SSE)
        text = b": comment\n\n" + b"".join(chunks(exchange.json["model"]))
        for byte in text.replace(b"\n", b"\r\n"):
            await exchange.chunk(bytes([byte]))
        await exchange.write(b"0\r\n\r\n")

    return script


def cut(events: int, *, clean: bool = False) -> Script:
    """Half a stream: this many events, then the connection breaks, or ends as if all were well."""

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, SSE)
        for data in chunks(exchange.json["model"])[:events]:
            await exchange.chunk(data)
        if clean:
            await exchange.write(b"0\r\n\r\n")
        else:
            exchange.abort()

    return script


def stalling_after(events: int | Sequence[bytes]) -> Script:
    """These events, or so many of the usual ones, then silence for as long as the peer waits."""

    async def script(exchange: Exchange) -> None:
        found = chunks(exchange.json["model"])[:events] if isinstance(events, int) else events
        await exchange.head(200, SSE)
        for data in found:
            await exchange.chunk(data)
        await asyncio.sleep(3600)

    return script


def endless(pause: float = 0.02) -> Script:
    """Words without end; only the peer's hang-up ends it."""

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, SSE)
        while True:
            await exchange.chunk(event(delta(exchange.json["model"], {"content": "word "})))
            await asyncio.sleep(pause)

    return script


# ---- nothing --------------------------------------------------------------------------------------------------------


async def silence(exchange: Exchange) -> None:
    """Takes the request and says nothing."""
    await asyncio.sleep(3600)


async def hang_up(exchange: Exchange) -> None:
    """Takes the request, begins to answer and closes the connection. Of one that is closed without a byte nobody can
    tell whether it was only kept for too long."""
    await exchange.write(b"HTTP/1.1 200 OK\r\nContent-")
    exchange.close()


async def noise(exchange: Exchange) -> None:
    """Answers something that is not HTTP."""
    await exchange.write(b"220 mail.example ESMTP ready\r\n")
    exchange.close()


async def half_a_body(exchange: Exchange) -> None:
    """Promises a hundred kilobytes and breaks off after a few bytes."""
    await exchange.head(200, {"Content-Type": "application/json", "Content-Length": "100000"})
    await exchange.write(b'{"id": "chatcmpl-')
    exchange.abort()


async def stalling_body(exchange: Exchange) -> None:
    """Promises a body, sends a little of it, and stops."""
    await exchange.head(200, {"Content-Type": "application/json", "Content-Length": "100000"})
    await exchange.write(b'{"id": "chatcmpl-')
    await asyncio.sleep(3600)


async def default(exchange: Exchange) -> None:
    """What a request without a script gets: a whole answer or a stream, as it asked; the list of models for GET; a 404
    for what names no model in its body, as Google's addresses do not."""
    if exchange.method == "GET":
        await exchange.answer(200, b'{"object": "list", "data": []}')
    elif "model" not in exchange.json:
        await exchange.answer(404, b'{"error": {"message": "there is no such path here"}}')
    elif exchange.json.get("stream"):
        await stream()(exchange)
    else:
        await whole()(exchange)


# ---- models that do not chat ----------------------------------------------------------------------------------------


def embeddings(model: str, count: int = 1, **extra: Any) -> dict[str, Any]:
    """Vectors as OpenAI's API gives them: of the nth text [n + 0.5, -0.25]."""
    data = [{"object": "embedding", "index": n, "embedding": [n + 0.5, -0.25]} for n in range(count)]
    usage = {"prompt_tokens": 7, "total_tokens": 7}
    return {"object": "list", "data": data, "model": model, "usage": usage, **extra}


def ranking(**extra: Any) -> dict[str, Any]:
    """Of two documents the second before the first, as Jina's API says it."""
    results = [{"index": 1, "relevance_score": 0.91}, {"index": 0, "relevance_score": 0.04}]
    return {"object": "list", "model": "up-rank", "results": results, "usage": {"total_tokens": 9}, **extra}


CATEGORIES = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip


def moderation(model: str, **extra: Any) -> dict[str, Any]:
    """A judgement, as OpenAI's API gives it."""
    scores = {name: 0.93 if name == "violence" else 0.01 for name in CATEGORIES}
    judged = {name: score > 0.5 for name, score in scores.items()}
    applied = {name: ["text"] for name in scores}
    result = {"flagged": True, "categories": judged, "category_scores": scores, "category_applied_input_types": applied}
    return {"id": "modr-upstream", "model": model, "results": [result], **extra}


def value(content: Any) -> Script:
    """This as JSON."""
    return body(json.dumps(content).encode())
