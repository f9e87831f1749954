"""Streams of the Anthropic protocol, as its tests make and read them."""

import itertools
import json
from pathlib import Path
from typing import Any

import anthropic
import httpx2
from anthropic.types import Message as SdkMessage
from anthropic.types import RawMessageStreamEvent
from pydantic import TypeAdapter

from relay.protocols import sse
from relay.protocols.anthropic import DIALECT
from relay.protocols.anthropic.stream import MessagesStream

WIRE = Path(__file__).parents[2] / "wire" / "anthropic"


ANSWERS = sorted(path.stem for path in WIRE.glob("*.sse") if path.with_suffix(".json").exists())


ASKED = DIALECT.read(b'{"model":"m","max_tokens":10,"messages":[{"role":"user","content":"hi"}],"stream":true}')


PISCES = {"gateway": "Pisces", "request_id": "r-1", "cost": "0.1"}


sdk_event: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def stream_of(name: str) -> bytes:
    return (WIRE / f"{name}.sse").read_bytes()


def whole_of(name: str) -> bytes:
    return (WIRE / f"{name}.json").read_bytes()


def events_of(wire: bytes) -> list[dict[str, Any]]:
    """What a client reads: every event named, its data of the same type."""
    found = []
    for frame in sse.Splitter().feed(wire):
        name, _, data = frame.partition(b"\n")
        event = json.loads(data.removeprefix(b"data: "))
        assert name == b"event: " + event["type"].encode()
        found.append(event)
    return found


def sdk_reads(events: list[dict[str, Any]]) -> SdkMessage:
    """What the official SDK makes of a stream; each event is checked against its type first."""
    for event in events:
        if event["type"] != "ping":
            sdk_event.validate_python(event)
    wire = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=wire)

    with httpx2.Client(transport=httpx2.MockTransport(answer)) as http:
        client = anthropic.Anthropic(api_key="k", base_url="http://127.0.0.1:9", http_client=http)
        with client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}]) as stream:
            return stream.get_final_message()


def passed(wire: bytes, cuts: tuple[int, ...] = ()) -> MessagesStream:
    return run(wire, cuts)[0]


def run(wire: bytes, cuts: tuple[int, ...] = ()) -> tuple[MessagesStream, bytes]:
    stream = DIALECT.passing(ASKED, model="offered", upstream_model="claude-sonnet-4-5")
    assert isinstance(stream, MessagesStream)
    edges = [0, *cuts, len(wire)]
    out = b"".join(stream.feed(wire[a:b]) for a, b in itertools.pairwise(edges)) + stream.close()
    return stream, out
