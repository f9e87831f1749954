"""Streams and requests of the Responses protocol, as its tests make and read them."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from billing.usage import Usage
from relay.errors import RelayError
from relay.protocols import capabilities, sse
from relay.protocols.canonical import (
    Finish,
    Media,
    Opaque,
    Reasoning,
    Refusal,
    Request,
    Response,
    Text,
    ToolCall,
)
from relay.protocols.codec import Encoded
from relay.protocols.responses import DIALECT
from relay.protocols.responses.request import ResponsesRequest

WIRE = Path(__file__).parents[2] / "wire" / "responses"


TOLD = {"gateway": "Pisces", "cost": "0.1"}


WHOLE = sorted(path.stem for path in WIRE.glob("*.json") if path.stem != "request")


def wire(name: str) -> bytes:
    return (WIRE / f"{name}.sse").read_bytes()


def whole(name: str) -> bytes:
    return (WIRE / f"{name}.json").read_bytes()


def ask(**fields: Any) -> ResponsesRequest:
    return DIALECT.read(json.dumps({"model": "m", "input": "hi", **fields}).encode())  # type: ignore[return-value]


def events_in(stream: bytes) -> list[dict[str, Any]]:
    """Every event's data; each bears its type in its `event:` line too, and no `id:`."""
    found = []
    for frame in sse.Splitter().feed(stream):
        if frame.startswith(b":"):
            continue
        lines = frame.split(b"\n")
        assert len(lines) == 2
        data = json.loads(lines[1].removeprefix(b"data: "))
        assert lines[0] == b"event: " + data["type"].encode()
        found.append(data)
    return found


def refused(call: Any, *arguments: Any, **named: Any) -> RelayError:
    with pytest.raises(RelayError) as caught:
        call(*arguments, **named)
    return caught.value


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


some_text = texts.filter(bool)


opaques = st.none() | st.builds(Opaque, st.sampled_from(["anthropic", "gemini"]), some_text)


parts = st.one_of(
    st.builds(Text, text=texts),
    st.builds(Refusal, text=texts),
    st.builds(Reasoning, text=some_text, state=opaques, summary=st.just(True)),
    st.builds(Reasoning, state=st.builds(Opaque, st.just("anthropic"), some_text), redacted=st.just(True)),
    st.builds(Media, kind=st.just("image"), mime=st.sampled_from(["image/png", "image/webp"]), data=st.just("aGk=")),
)


def rich() -> Response:
    return Response(
        id="up", model="up", finish=Finish.TOOL_CALLS,
        parts=[
            Reasoning(text="Hm.", state=Opaque("anthropic", "sig"), summary=True),
            Text(text="See", citations=[{"url": "https://example.org", "title": "T", "end_index": 3}]),
            Refusal(text="No"),
            Media(kind="image", mime="image/png", data="aGk="),
            ToolCall(id="toolu_1", name="f", arguments=""),
            ToolCall(id="toolu_2", name="p", arguments="*** Begin", custom=True),
        ],
        usage=Usage(input=10, cache_read=4, output=7, reasoning=2),
    )  # fmt: skip


def encoded(request: Request, model: str = "gpt-5", limit: int | None = None) -> Encoded:
    return DIALECT.encode_request(request, model=model, limit=limit, caps=capabilities.of(model, "responses"))
