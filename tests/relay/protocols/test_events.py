"""Events as the standard allows them and few providers write them: WHATWG HTML, section 9.2."""

import json
from pathlib import Path
from typing import Any

import pytest

from relay import dialects
from relay.protocols import sse
from relay.protocols.codec import Chat

WIRE = Path(__file__).parents[2] / "wire"
STREAMS = [
    ("openai", "text"), ("openai", "calls"), ("completions", "text"), ("responses", "text"), ("responses", "tools"),
    ("anthropic", "text"), ("anthropic", "thinking"), ("gemini", "picture"), ("gemini", "code"),
]  # fmt: skip
TOLD = {"gateway": "Pisces"}
ASKED: dict[str, dict[str, Any]] = {
    "openai": {"messages": [{"role": "user", "content": "Hi"}], "stream_options": {"include_usage": True}},
    "completions": {"prompt": "Hi"},
    "responses": {"input": "Hi"},
    "anthropic": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100},
    "gemini": {"contents": [{"parts": [{"text": "Hi"}]}]},
}


def ask(protocol: str) -> Chat:
    body = json.dumps({"model": "m", "stream": True, **ASKED[protocol]}).encode()
    return dialects.of(protocol).read(body, model="m", stream=True)


def passed(asked: Chat, *pieces: bytes) -> list[Any]:
    """What the client gets of these bytes of its own protocol: each event's data."""
    stream = dialects.of(asked.protocol).passing(asked, model="offered", upstream_model="up")
    out = b"".join(stream.feed(piece) for piece in pieces) + stream.close()
    assert stream.failure is None
    splitter = sse.Splitter()
    events = [sse.payload(event) for event in splitter.feed(out + stream.last(TOLD))]
    assert splitter.close() == []
    return [data if data == b"[DONE]" else json.loads(data) for data in events if data is not None]


def in_lines(wire: bytes) -> bytes:
    """The same events, the JSON of each over several lines of data."""
    out = b""
    for event in sse.Splitter().feed(wire):
        data = sse.payload(event)
        if data is None or data == b"[DONE]":
            out += event + b"\n\n"
            continue
        name = event.split(b"\n")[0] + b"\n" if event.startswith(b"event: ") else b""
        text = json.dumps(json.loads(data), indent=1).encode()
        out += name + b"".join(b"data: %s\n" % line for line in text.split(b"\n")) + b"\n"
    return out


@pytest.mark.parametrize(("protocol", "name"), STREAMS)
def test_an_event_of_several_lines_of_data_is_an_event_for_the_client_too(protocol: str, name: str) -> None:
    wire, asked = (WIRE / protocol / f"{name}.sse").read_bytes(), ask(protocol)
    assert passed(asked, in_lines(wire)) == passed(asked, wire)


@pytest.mark.parametrize(("protocol", "name"), STREAMS)
def test_a_stream_may_begin_with_a_byte_order_mark_however_it_is_cut(protocol: str, name: str) -> None:
    wire, asked = (WIRE / protocol / f"{name}.sse").read_bytes(), ask(protocol)
    marked, expected = b"\xef\xbb\xbf" + wire, passed(asked, wire)
    assert passed(asked, marked) == expected
    for cut in range(1, 8):
        assert passed(asked, marked[:cut], marked[cut:]) == expected


def test_what_begins_like_a_byte_order_mark_and_is_none_is_kept() -> None:
    splitter = sse.Splitter()
    assert splitter.feed(b"\xef\xbb") == []
    assert splitter.feed(b"\xbe: 1\n\n") == [b"\xef\xbb\xbe: 1"]
    assert splitter.feed(b"\xef\xbb\xbfdata: 2\n\n") == [b"\xef\xbb\xbfdata: 2"]
    only = sse.Splitter()
    assert (only.feed(b"\xef\xbb"), only.close()) == ([], [b"\xef\xbb"])
