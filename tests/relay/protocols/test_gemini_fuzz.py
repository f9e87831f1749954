"""Whatever comes, Gemini's codec answers with a value or with an error of the family: no crash, no hang, no growth."""

import base64
import contextlib
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import RelayError
from relay.protocols import fold, sse
from relay.protocols.canonical import Finish, Media, Opaque, Part, Reasoning, Response, Text, ToolCall
from relay.protocols.events import Failed, Grammar
from relay.protocols.gemini import DIALECT, count_tokens, embedding, errors
from tests.relay.protocols import laws
from tests.relay.protocols.gemini_wire import ANSWERS, CAPS_3, CAPS_25, CAPS_OLD, PICTURE, PISCES, asked, wire

REQUESTS = ("request_text", "request_chat", "request_tools", "request_json", "request_snake")


@contextlib.contextmanager
def refused_as(*statuses: int) -> Iterator[None]:
    """All well, or an error of the family with one of these statuses."""
    error: RelayError | None = None
    try:
        yield
    except RelayError as found:
        error = found
    assert error is None or error.status in statuses


def decode_all(data: bytes) -> None:
    """One event's data through every decoder."""
    grammar, decoder = Grammar(), DIALECT.decoder()
    for event in (*decoder.feed(data), *decoder.feed(data), *decoder.close()):
        grammar.see(event)
    assert grammar.ended
    assert decoder.feed(data) == decoder.close() == []
    for read in (DIALECT.decode_response, DIALECT.whole, count_tokens.decode_response):
        with refused_as(429, 502, 503):
            read(data)
    with refused_as(502):
        embedding.decode_response(data, 1)
    for status in (400, 429, 500):
        assert isinstance(errors.decode(status, data, retry_after=None), RelayError)


def ask_all(data: bytes) -> None:
    """One body through every reader, and on to every kind of upstream."""
    for batch in (False, True):
        with refused_as(400):
            asked_vectors = embedding.read(data, model="m", batch=batch)
            asked_vectors.encode(model="up", limit=None)
            embedding.encode_request(asked_vectors.vectors(), model="m")
    with refused_as(400):
        request = DIALECT.read(data, model="m", stream=True)
        json.loads(request.encode(model="up", limit=7))
        request.input_bound("gemini-2.5-flash")
        for caps in (CAPS_OLD, CAPS_25, CAPS_3):
            sent = DIALECT.encode_request(request.canonical(), model="m", limit=None, caps=caps)
            again = DIALECT.read(msgspec.json.encode(sent.body), model="m", stream=True).canonical()
            assert again.messages


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_break_anything(data: bytes) -> None:
    decode_all(data)
    ask_all(data)
    stream = DIALECT.passing(asked(), model="m", upstream_model="up")
    out = stream.feed(data) + stream.close()
    assert stream.failure is not None or stream.finish
    assert out == b"" or out.startswith(b"data: ")


names = st.sampled_from(
    [
        "candidates", "content", "parts", "text", "thought", "thoughtSignature", "functionCall", "name", "args", "id",
        "inlineData", "mimeType", "data", "fileData", "fileUri", "finishReason", "index", "promptFeedback",
        "blockReason", "usageMetadata", "promptTokenCount", "modelVersion", "responseId", "error", "groundingMetadata",
        "groundingChunks", "web", "uri", "contents", "role", "systemInstruction", "system_instruction", "tools",
        "functionDeclarations", "parameters", "toolConfig", "functionCallingConfig", "mode", "generationConfig",
        "responseSchema", "thinkingConfig", "functionResponse", "response", "requests", "embedding", "values", "x",
    ]
)  # fmt: skip
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4)
    | st.sampled_from(["STOP", "MAX_TOKENS", "MALFORMED_FUNCTION_CALL", "user", "model", "ANY", "OBJECT", "cGlzY2VzL"])
)  # fmt: skip
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4), max_leaves=25
)


@given(st.dictionaries(names, values, max_size=5))
def test_no_json_breaks_anything(value: dict[str, Any]) -> None:
    data = json.dumps(value).encode()
    decode_all(data)
    ask_all(data)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from leaves(one, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    key, *rest = path
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[key] = replaced(value[key], tuple(rest), new)
    return copied


@settings(max_examples=40)
@given(st.data())
@pytest.mark.parametrize("name", [*ANSWERS, *REQUESTS])
def test_what_was_seen_with_anything_else_in_one_place_breaks_nothing(name: str, data: st.DataObject) -> None:
    whole = json.loads(wire(f"{name}.json"))
    changed = replaced(whole, data.draw(st.sampled_from(list(leaves(whole)))), data.draw(values))
    body = json.dumps(changed).encode()
    decode_all(body)
    ask_all(body)


@settings(max_examples=30)
@given(st.data())
@pytest.mark.parametrize("name", ANSWERS)
def test_a_stream_with_any_bytes_changed_keeps_its_grammar(name: str, data: st.DataObject) -> None:
    source = bytearray(wire(f"{name}.sse"))
    for _ in range(data.draw(st.integers(1, 4))):
        source[data.draw(st.integers(0, len(source) - 1))] = data.draw(st.integers(0, 255))
    events = laws.decoded(DIALECT, bytes(source))
    stream = DIALECT.passing(asked(), model="m", upstream_model="up")
    stream.feed(bytes(source))
    stream.close()
    assert stream.failure is not None or stream.finish
    if isinstance(events[-1], Failed):
        assert events[-1].error.status in (429, 502, 503)


@pytest.mark.parametrize(
    "opening", [b'{"a":', b"[", b'{"contents":[{"parts":[{"functionCall":{"name":"f","args":{"a":']
)
def test_depth_is_no_way_in(opening: bytes) -> None:
    for depth in (200, 2_000, 200_000):
        data = opening + b"[" * depth + b"]" * depth
        decode_all(data)
        ask_all(data)
        schema = b'{"contents":[{"parts":[{"text":"x"}]}],"tools":[{"functionDeclarations":[{"name":"f","parameters":'
        ask_all(schema + b'{"items":' * min(depth, 5_000) + b"{}" + b"}" * min(depth, 5_000) + b"}]}]}")


def test_numbers_of_any_size_are_read_or_refused() -> None:
    for number in ("1e400", "9" * 400, "-" + "9" * 30, "1" + "0" * 25, "0.1e-999"):
        for place in (
            '"contents":[{"parts":[{"functionCall":{"name":"f","args":{"a":%s}}}]}]',
            '"x":%s,"contents":[{}]',
        ):
            ask_all(("{" + place % number + "}").encode())
        answer = '{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"a":%s}}}]}}]}'
        decode_all((answer % number).encode())


def test_a_stream_is_held_in_no_more_than_its_open_event() -> None:
    stream = DIALECT.passing(asked(), model="m", upstream_model="gemini-2.5-flash")
    for _ in range(sse.LONGEST_EVENT // 65_536 + 1):
        assert stream.feed(b"x" * 65_536) == b""
    assert stream.failure is not None


# ---- made answers ---------------------------------------------------------------------------------------------------

words = st.text(min_size=1, max_size=12)
foreign = st.builds(Opaque, st.sampled_from(["openai", "anthropic"]), words, st.text("abc_1", max_size=4))
own = st.binary(min_size=1, max_size=9).filter(lambda data: not data.startswith(b"pisces."))  # as no vendor's does
fields = own.map(lambda data: base64.b64encode(data).decode())
states = foreign | st.builds(Opaque, st.just("gemini"), fields)
given_values = st.none() | st.integers(-9, 9) | words | st.lists(words, max_size=2)
arguments = st.dictionaries(words, given_values, max_size=3).map(lambda value: msgspec.json.encode(value).decode())
pictures = st.builds(
    Media, kind=st.just("image"), mime=st.just("image/png"), data=st.just(PICTURE), state=st.none() | states
)
parts = (
    st.builds(Text, text=words, state=states)
    | st.builds(Reasoning, text=words, state=states, summary=st.just(True))
    | st.builds(Reasoning, state=states, redacted=st.just(True))
    | st.builds(ToolCall, id=words, name=words, arguments=arguments, state=st.none() | states)
    | pictures
)


@given(st.lists(parts, max_size=6), st.lists(st.integers(0, 5000), max_size=4))
def test_any_answer_comes_back_from_a_client_s_wire_however_it_is_cut(found: list[Part], cuts: list[int]) -> None:
    """Unsigned neighbours of one kind are one text on this wire, so made texts are signed."""
    calls = any(isinstance(part, ToolCall) for part in found)
    response = Response(id="r", model="m", parts=found, finish=Finish.TOOL_CALLS if calls else Finish.STOP)
    whole = DIALECT.encode_response(response, asked=asked(), model="m", pisces=PISCES)
    assert DIALECT.decode_response(whole) == response
    encoder = DIALECT.encoder(asked(), model="m", prompt_tokens=0)
    stream = b"".join(encoder.feed(event) for event in fold.unfold(response)) + encoder.last(PISCES)
    assert fold.fold(laws.decoded(DIALECT, stream, [cut for cut in cuts if cut < len(stream)])) == response
