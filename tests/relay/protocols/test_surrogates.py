"""Characters that a provider cuts into two escapes, in different events or in none, reach clients of other protocols
whole."""

import itertools
import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import dialects
from relay.bridge import Bridge
from relay.channels.routing import Candidate, Timeouts
from relay.protocols import surrogates
from tests.kit import scripts

FIRST, SECOND = r"\ud83d", r"\ude00"
OPENAI = Candidate("c", "openai", "http://127.0.0.1/v1", "up", 0, 1, "cancel", True, Timeouts(), ())
ASKED = b'{"model": "m", "max_tokens": 9, "stream": %s, "messages": [{"role": "user", "content": "Hello"}]}'


GEMINI = b'{"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": "%s"}]}}]}'
RESPONSES = (
    b'{"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 0, "delta": "%s"}'
)
ANTHROPIC = b'{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "%s"}}'
CHAT = b'{"id": "x", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "%s"}}]}'
HALVES = f"a{FIRST}".encode(), f"{SECOND}b".encode()
# What a client asks, and the halves on the wire of its protocol.
PASSED = {
    "openai": (ASKED % b"true", *(CHAT % half for half in HALVES)),
    "anthropic": (ASKED % b"true", *(ANTHROPIC % half for half in HALVES)),
    "responses": (b'{"model": "m", "stream": true, "input": "Hello"}', *(RESPONSES % half for half in HALVES)),
    "gemini": (b'{"contents": [{"parts": [{"text": "Hello"}]}]}', *(GEMINI % half for half in HALVES)),
}
NAMED: dict[str, Any] = {"gemini": {"model": "m", "stream": True}}


def bridge(*, stream: bool) -> Bridge:
    """A client of Anthropic's at a channel of OpenAI's."""
    return Bridge(dialects.of("anthropic").read(ASKED % (b"true" if stream else b"false")), OPENAI, limit=9)


def chunk(content: str) -> bytes:
    """A chunk whose content is written as it stands here, with its escapes."""
    return b"data: %s\n\n" % (CHAT % content.encode())


def text_of(contents: Sequence[str]) -> str:
    """What the client is told of these pieces."""
    stream = bridge(stream=True).stream("m")
    end = scripts.event(scripts.delta("up", {}, "stop")) + scripts.DONE
    out = b"".join(stream.feed(part) for part in [*map(chunk, contents), end])
    assert stream.failure is None
    assert stream.done
    told = [json.loads(line[6:]) for line in out.decode().split("\n") if line.startswith("data: ")]
    return "".join(event["delta"]["text"] for event in told if event["type"] == "content_block_delta")


@given(st.text(st.characters(exclude_categories=["Cs"])), st.lists(st.integers(0, 400), max_size=8), st.booleans())
def test_text_that_is_cut_between_any_two_escapes_arrives_as_it_was(text: str, cuts: list[int], upper: bool) -> None:
    units = [f"\\u{int.from_bytes(unit, 'big'):04{'X' if upper else 'x'}}" for unit in _units(text)]
    edges = [0, *sorted(min(cut, len(units)) for cut in cuts), len(units)]
    pieces = ["".join(units[a:b]) for a, b in itertools.pairwise(edges)]
    assert text_of(pieces) == text


def _units(text: str) -> list[bytes]:
    encoded = text.encode("utf-16-be")
    return [encoded[at : at + 2] for at in range(0, len(encoded), 2)]


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([f"a{FIRST}", f"{SECOND}b"], "a😀b"),
        ([f"a{FIRST}", "", f"{SECOND}b"], "a😀b"),
        ([f"a{FIRST}b"], "a\ufffdb"),
        ([f"a{SECOND}b"], "a\ufffdb"),
        ([SECOND, "b"], "\ufffdb"),
        ([f"a{FIRST}", "b"], "ab"),
        ([f"a{FIRST}", f"{FIRST}{SECOND}"], "a😀"),
        ([f"a{FIRST}", r"b\ud83c", r"\udf0d"], "ab🌍"),
        ([f"a{FIRST}", rf"{SECOND}b\ud83c", r"\udf0d"], "a😀b🌍"),
        ([f"{FIRST}{FIRST}{SECOND}{SECOND}"], "\ufffd😀\ufffd"),
        ([r"\\ud83d", r"\\\ud83d", r"\ude00"], "\\ud83d\\😀"),
        ([r"\"\ud83d\"", r"\n"], '"\ufffd"\n'),
    ],
)
def test_half_a_character_is_put_together_or_told_to_be_unknown(pieces: list[str], said: str) -> None:
    assert text_of(pieces) == said


def test_a_whole_answer_with_half_a_character_is_an_answer() -> None:
    body = json.dumps(scripts.completion("up", text="Hxllo")).replace("xl", FIRST).encode()
    answer = json.loads(bridge(stream=False).whole(body).encode(model="m", pisces={}))
    assert answer["content"] == [{"type": "text", "text": "H\ufffdlo"}]


def test_all_of_a_stream_at_once_is_put_together_too() -> None:
    whole = surrogates.mended(chunk(f"a{FIRST}") + chunk(f"b{FIRST}") + chunk(f"{SECOND}c"))
    assert whole == chunk("a") + chunk("b") + chunk(f"{FIRST}{SECOND}c")


def test_json_without_halves_is_not_touched() -> None:
    for data in (b'{"a": "b"}', b'{"a": "\\ud83d\\uDE00 \\\\ud83d"}', b"not json \\", b"\\ud8"):
        assert surrogates.mended(data) == data


@pytest.mark.parametrize("protocol", PASSED)
def test_a_client_of_the_same_protocol_gets_them_whole_too(protocol: str) -> None:
    asked, first, second = PASSED[protocol]
    candidate = msgspec.structs.replace(OPENAI, protocol=protocol)
    stream = Bridge(dialects.of(protocol).read(asked, **NAMED.get(protocol, {})), candidate, limit=9).stream("m")
    out = stream.feed(b"data: %s\n\n" % first) + stream.feed(b"data: %s\n\n" % second)
    assert stream.failure is None
    assert b'"a"' in out
    assert f'"{FIRST}{SECOND}b"'.encode() in out


def several(*pieces: tuple[int, str]) -> bytes:
    """One event of OpenAI's with a piece for each of these answers."""
    choices = ", ".join(f'{{"index": {number}, "delta": {{"content": "{text}"}}}}' for number, text in pieces)
    return f'{{"choices": [{choices}]}}'.encode()


@pytest.mark.parametrize(
    ("events", "first"),
    [
        ([[(0, rf"a{FIRST}")], [(1, r"b\ud83c")], [(0, SECOND)], [(1, r"\udf0d")]], "a😀"),
        ([[(0, rf"a{FIRST}")], [(1, r"b\ud83c")], [(1, r"\udf0d")], [(0, SECOND)]], "a😀"),
        ([[(0, rf"a{FIRST}"), (1, r"b\ud83c")], [(0, SECOND), (1, r"\udf0d")]], "a😀"),
        (
            [
                [(0, rf"a{FIRST}"), (1, r"b\ud83c")],
                [(0, rf"{SECOND}{FIRST}"), (1, r"\udf0d")],
                [(0, SECOND), (1, "")],
            ],
            "a😀😀",
        ),
    ],
)
def test_several_answers_that_are_cut_in_the_same_moment_keep_their_own_halves(
    events: list[list[tuple[int, str]]], first: str
) -> None:
    mender, told = surrogates.Mender(), {0: "", 1: ""}
    for event in events:
        for choice in json.loads(mender.feed(several(*event)))["choices"]:
            told[choice["index"]] += choice["delta"]["content"]
    assert told == {0: first, 1: "b🌍"}


def test_a_provider_that_only_sends_first_halves_is_not_remembered_for_ever() -> None:
    mender = surrogates.Mender()
    for number in range(5 * surrogates.MOST):
        mender.feed(several((number, FIRST)))
    assert len(mender._kept) == surrogates.MOST
    last = 5 * surrogates.MOST - 1
    assert mender.feed(several((last, SECOND))) == several((last, FIRST + SECOND))
