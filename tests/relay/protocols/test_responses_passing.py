"""OpenAI's Responses to OpenAI's Responses: what passes as it is, but for the names and what was added."""

import itertools
import json
from typing import Any

import msgspec
import pytest

from relay.errors import Cause
from relay.protocols.responses import DIALECT
from relay.protocols.responses.request import ResponsesRequest
from tests.relay.protocols.responses_made import TOLD, WHOLE, ask, encoded, events_in, refused, whole, wire


def passed(stream: bytes, asked: ResponsesRequest | None = None, cuts: tuple[int, ...] = ()) -> tuple[Any, bytes]:
    passing = DIALECT.passing(asked or ask(stream=True), model="offered", upstream_model="up")
    edges = [0, *cuts, len(stream)]
    out = b"".join(passing.feed(stream[a:b]) for a, b in itertools.pairwise(edges))
    return passing, out + passing.close() + passing.last(TOLD)


@pytest.mark.parametrize("name", WHOLE)
def test_a_passed_stream_is_the_provider_s_but_for_the_names_and_what_was_added(name: str) -> None:
    asked = ask(stream=True)
    stream, out = passed(wire(name), asked)
    before, after = events_in(wire(name)), events_in(out)
    for old, new in zip(before, after, strict=True):
        if "response" not in old:
            assert new == old
            continue
        ours = {"id": asked.id, "model": "offered", "previous_response_id": None, "store": True}
        mine = {"pisces": TOLD} if new is after[-1] else {}
        output = {"output": new["response"]["output"]} if name == "forgotten_output" else {}
        assert new == {**old, "response": {**old["response"], **ours, **mine, **output}, **mine}
    decoded = DIALECT.decode_response(whole(name))
    assert (stream.usage, stream.id, stream.done, stream.failure) == (decoded.usage, decoded.id, True, None)
    assert asked.answered == msgspec.json.encode(after[-1]["response"])


NULLS: list[dict[str, Any]] = [
    {"type": "function_call", "id": None, "call_id": "c1", "name": "f", "arguments": None, "status": "completed"},
    {"type": "custom_tool_call", "id": "ctc_1", "call_id": None, "name": "p", "input": None},
    {
        "type": "message", "id": None, "role": "assistant",
        "content": [
            {"type": "output_text", "text": "x", "annotations": [
                {"type": "url_citation", "url": None, "title": None, "start_index": None, "end_index": None}
            ]}
        ],
    },
]  # fmt: skip


@pytest.mark.parametrize("item", NULLS)
def test_a_null_that_nobody_has_to_read_passes(item: dict[str, Any]) -> None:
    body = {**json.loads(whole("text")), "output": [item]}
    events: list[dict[str, Any]] = [
        {"type": "response.output_item.done", "sequence_number": 0, "output_index": 0, "item": item},
        {"type": "response.completed", "sequence_number": 1, "response": body},
    ]
    wired = b"".join(b"event: %s\ndata: %s\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in events)
    stream, out = passed(wired)
    assert stream.failure is None
    assert events_in(out)[-1]["response"]["output"] == [item]
    told = json.loads(DIALECT.whole(json.dumps(body).encode(), ask()).encode(model="offered", pisces=TOLD))
    assert told["output"] == [item]
    assert encoded(ask(input=[{"role": "user", "content": "x"}, item]).canonical()).body["input"]


@pytest.mark.parametrize("name", ["text", "tools", "custom", "refusal", "truncated"])
def test_what_passes_is_counted_like_what_is_whole(name: str) -> None:
    stream, _ = passed(wire(name))
    answer = DIALECT.whole(whole(name), ask())
    between = 4 if name == "tools" else 0  # the blank line between the parts of a summary, which nobody sent
    assert stream.output_bytes == answer.output_bytes - between
    assert stream.seen.calls == answer.seen("up").calls
    assert stream.seen.baseline() == answer.seen("up").baseline()


def test_a_passed_stream_is_the_same_however_it_is_cut() -> None:
    stream = wire("tools")
    asked = ask(stream=True)
    _, expected = passed(stream, asked)
    for cut in range(1, len(stream), 11):
        assert passed(stream, asked, (cut,))[1] == expected


def test_text_passes_byte_for_byte_whatever_is_in_it() -> None:
    stream = wire("text")
    _, out = passed(stream)
    frames = [frame for frame in stream.split(b"\n\n") if b"delta" in frame]
    assert all(frame + b"\n\n" in out for frame in frames)


def test_a_passed_answer_keeps_the_fields_that_nobody_knows() -> None:
    body = json.dumps({**json.loads(whole("text")), "x_new": {"y": 1}}).encode()
    asked = ask()
    answer = DIALECT.whole(body, asked)
    told = json.loads(answer.encode(model="offered", pisces=TOLD))
    assert (told["x_new"], told["id"], told["model"], told["pisces"]) == ({"y": 1}, asked.id, "offered", TOLD)
    assert answer.id == json.loads(body)["id"]


@pytest.mark.parametrize("status", ["failed", "in_progress", "cancelled", "queued"])
def test_an_answer_that_has_not_ended_well_is_none(status: str) -> None:
    body = json.dumps({**json.loads(whole("text")), "status": status}).encode()
    assert refused(DIALECT.whole, body, ask()).cause is Cause.UPSTREAM_ERROR
