"""A small provider inside the project that speaks the OpenAI chat wire over HTTP, for installations that have none yet.

Its answers are made from the request alone, so the same request gets the same answer; a token is a word or a
punctuation mark, and its usage counts exactly those. It answers only to the gateway's own credential.
"""

import asyncio
import hashlib
import hmac
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
from django.conf import settings

ADDRESS = "internal:demo"
PATH = "/demo-provider/v1"
MODELS = ("demo-chat", "demo-chat-pro")
PAUSE = 0.02  # seconds between streamed tokens, so that one can see them come
_TOKEN = re.compile(r"\s*(?:[一-鿿]|\w+|[^\w\s])")

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[Any]]


def base_url() -> str:
    return f"http://127.0.0.1:{settings.PORT}{PATH}"


def secret() -> str:
    """The credential between the gateway and this provider, on any process of the installation."""
    return hmac.digest(settings.SECRET_KEY.encode(), b"demo provider", "sha256").hex()


class _Function(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)


class _Tool(msgspec.Struct):
    function: _Function | None = None


class _Part(msgspec.Struct):
    type: str = ""
    text: str = ""


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return " ".join(part.text or f"[{part.type}]" for part in self.content)
        return self.content or ""


class _Request(msgspec.Struct):
    model: str
    messages: list[_Message]
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    tools: list[_Tool] | None = None
    tool_choice: Any = None
    response_format: dict[str, Any] | None = None


def tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """The provider's ASGI application, below PATH."""
    offered = dict(scope["headers"]).get(b"authorization", b"")
    if not hmac.compare_digest(offered, f"Bearer {secret()}".encode()):
        await _reply(send, 401, _error("Only the gateway may call this provider.", "invalid_api_key"))
        return
    if scope["path"] == f"{PATH}/models":
        await _reply(send, 200, {"object": "list", "data": [{"id": name, "object": "model"} for name in MODELS]})
        return
    if scope["path"] != f"{PATH}/chat/completions" or scope["method"] != "POST":
        await _reply(send, 404, _error("Unknown path.", "not_found"))
        return
    try:
        request = msgspec.json.decode(await _body(receive), type=_Request)
    except msgspec.DecodeError as error:
        await _reply(send, 400, _error(str(error), "invalid_request"))
        return
    answer = _Answer(request)
    if request.stream:
        await _stream(answer, send)
    else:
        await _reply(send, 200, answer.whole())


class _Answer:
    """What this request gets: text or a tool call, cut at the request's limit."""

    def __init__(self, request: _Request) -> None:
        self.request = request
        self.id = "chatcmpl-demo-" + hashlib.sha256(msgspec.json.encode(request)).hexdigest()[:24]
        self.prompt = sum(len(tokens(message.text)) + 3 for message in request.messages)
        self.tool = self._tool()
        words = tokens(msgspec.json.encode(example(self.tool.parameters)).decode() if self.tool else self._text())
        limit = request.max_completion_tokens or request.max_tokens or len(words)
        self.words = words[:limit]
        cut = len(words) > limit
        self.finish = "length" if cut else "tool_calls" if self.tool else "stop"

    def _tool(self) -> _Function | None:
        offered = [tool.function for tool in self.request.tools or () if tool.function]
        if not offered or self.request.tool_choice == "none" or self.request.messages[-1].role == "tool":
            return None
        if isinstance(self.request.tool_choice, dict):
            named = self.request.tool_choice.get("function", {}).get("name")
            return next((tool for tool in offered if tool.name == named), offered[0])
        return offered[0]

    def _text(self) -> str:
        wanted = self.request.response_format or {}
        if wanted.get("type") == "json_schema":
            return msgspec.json.encode(example(wanted.get("json_schema", {}).get("schema", {}))).decode()
        said = next((m.text for m in reversed(self.request.messages) if m.role in ("user", "tool")), "")
        if wanted.get("type") == "json_object":
            return msgspec.json.encode({"answer": said}).decode()
        return (
            f"You said: “{said.strip()[:400]}”. This answer comes from the demo provider inside the gateway: it went "
            f"through the same relay, the same ledger and the same streaming as any other. Put a real provider behind "
            f"a channel and the next answer is a model's."
        )

    @property
    def usage(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": len(self.words),
            "total_tokens": self.prompt + len(self.words),
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }

    def whole(self) -> dict[str, Any]:
        text = "".join(self.words)
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if self.tool:
            call = {"id": self._call_id, "type": "function", "function": {"name": self.tool.name, "arguments": text}}
            message |= {"content": None, "tool_calls": [call]}
        choice = {"index": 0, "message": message, "finish_reason": self.finish, "logprobs": None}
        return {**self._head("chat.completion"), "choices": [choice], "usage": self.usage}

    def chunks(self) -> Iterator[dict[str, Any]]:
        """The chunks of the stream; the one with the usage has no choices and is the last."""
        first: dict[str, Any] = {"role": "assistant", "content": ""}
        if self.tool:
            call = {"index": 0, "id": self._call_id, "type": "function"}
            first = {
                "role": "assistant",
                "tool_calls": [{**call, "function": {"name": self.tool.name, "arguments": ""}}],
            }
        yield self._chunk(first)
        for word in self.words:
            tool_part = {"tool_calls": [{"index": 0, "function": {"arguments": word}}]}
            yield self._chunk(tool_part if self.tool else {"content": word})
        yield self._chunk({}, self.finish)
        if (self.request.stream_options or {}).get("include_usage"):
            yield {**self._head("chat.completion.chunk"), "choices": [], "usage": self.usage}

    @property
    def _call_id(self) -> str:
        return "call_" + self.id[-24:]

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": int(time.time()), "model": self.request.model}


def example(schema: dict[str, Any]) -> Any:
    """A small value that fits a JSON schema as tools and structured outputs use it."""
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: example(inner) for name, inner in schema.get("properties", {}).items()}
    if kind == "array":
        return [example(schema.get("items", {"type": "string"}))]
    return {"string": "demo", "integer": 1, "number": 1.5, "boolean": True}.get(kind)


async def _stream(answer: _Answer, send: Send) -> None:
    await send(_start(200, b"text/event-stream"))
    for chunk in answer.chunks():
        await send(_part(b"data: " + msgspec.json.encode(chunk) + b"\n\n"))
        await asyncio.sleep(PAUSE)
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def _reply(send: Send, status: int, body: dict[str, Any]) -> None:
    await send(_start(status, b"application/json"))
    await send({"type": "http.response.body", "body": msgspec.json.encode(body)})


def _start(status: int, kind: bytes) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]}


def _part(body: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": True}


def _error(message: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
