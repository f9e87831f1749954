"""Chunks, answers and requests of the OpenAI protocol, as its tests make and read them."""

import json
from pathlib import Path
from typing import Any

import httpx2
import openai

from relay.protocols import fold
from relay.protocols.canonical import (
    Json,
    Request,
    Response,
)
from relay.protocols.capabilities import Capabilities
from relay.protocols.codec import Encoded, Encoder
from relay.protocols.events import Event
from relay.protocols.openai import DIALECT
from tests.relay.protocols import laws

WIRES = Path(__file__).parents[2] / "wire" / "openai"


PISCES = {"gateway": "Pisces", "cost": "0.1"}


ANY = Capabilities(custom_tools=True, verbosity=True, thoughts="reasoning_content", marks="prompt_cache_breakpoint")


def wire(name: str) -> bytes:
    return (WIRES / f"{name}.sse").read_bytes()


def whole(name: str) -> bytes:
    return (WIRES / f"{name}.json").read_bytes()


def asked(**fields: Any) -> Any:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}
    return DIALECT.read(json.dumps(body).encode())


def canonical(**fields: Any) -> Request:
    found: Request = asked(**fields).canonical()
    return found


def sent(request: Request, caps: Capabilities = ANY, limit: int | None = None) -> Encoded:
    return DIALECT.encode_request(request, model="up", limit=limit, caps=caps)


def chunk(delta: Json, finish: str | None = None, **extra: Any) -> bytes:
    return json.dumps(
        {"id": "c", "model": "up", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **extra}
    ).encode()


def events_of(*chunks: bytes, done: bool = True) -> list[Event]:
    data = [*chunks, b"[DONE]"] if done else chunks
    return laws.decoded(DIALECT, b"".join(b"data: " + one + b"\n\n" for one in data))


def as_stream(response: Response, encoder: Encoder) -> bytes:
    return b"".join(encoder.feed(event) for event in fold.unfold(response))


def streamed(response: Response, **fields: Any) -> list[dict[str, Any]]:
    """The chunks that a client gets of this answer; the last thing is `[DONE]`."""
    encoder = DIALECT.encoder(asked(stream=True, **fields), model="offered", prompt_tokens=0)
    out = as_stream(response, encoder) + encoder.last(PISCES)
    assert out.endswith(b"\n\ndata: [DONE]\n\n")
    found = [json.loads(event[6:]) for event in out.split(b"\n\n")[:-2]]
    assert all("pisces" not in event for event in found[:-1])
    assert found[-1]["pisces"] == PISCES
    return found


def collected(response: Response) -> Json:
    """The message that OpenAI's SDK makes of the stream of this answer, as a client sends it back."""
    encoder = DIALECT.encoder(asked(stream=True), model="offered", prompt_tokens=0)
    stream = as_stream(response, encoder) + encoder.last(PISCES)
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, content=stream))
    with (
        openai.OpenAI(api_key="k", base_url="http://p", http_client=httpx2.Client(transport=transport)) as sdk,
        sdk.chat.completions.stream(model="m", messages=[{"role": "user", "content": "x"}]) as events,
    ):
        message = events.get_final_completion().choices[0].message
    found: Json = message.model_dump(mode="json", exclude_none=True)
    return found


def told(response: Response, **fields: Any) -> dict[str, Any]:
    body = DIALECT.encode_response(response, asked=asked(**fields), model="offered", pisces=PISCES)
    found: dict[str, Any] = json.loads(body)
    return found
