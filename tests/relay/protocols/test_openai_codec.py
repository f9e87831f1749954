"""OpenAI's chat by way of the hub: the laws over the wires of those who speak it, and what each of them does otherwise.

Fixtures in `tests/wire/openai`: a stream and, where the vendor has it, the same answer whole."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from billing.usage import Usage
from relay.errors import Cause, RelayError
from relay.protocols import translating
from relay.protocols.canonical import (
    Finish,
    Format,
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Request,
    Response,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from relay.protocols.codec import Encoded
from relay.protocols.events import Failed
from relay.protocols.openai import DIALECT, decoder
from tests.relay.protocols import laws
from tests.relay.protocols.openai_made import (
    ANY,
    WIRES,
    asked,
    canonical,
    chunk,
    events_of,
    sent,
    streamed,
    told,
    whole,
    wire,
)

STREAMS = sorted(path.stem for path in WIRES.glob("*.sse"))


BOTH = sorted(path.stem for path in WIRES.glob("*.json"))


# ---- laws -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOTH)
def test_a_stream_is_the_whole_answer_in_pieces(name: str) -> None:
    found = laws.stream_is_its_whole(DIALECT, wire(name), whole(name))
    assert found.parts
    assert found.id
    assert found.model


@pytest.mark.parametrize("name", STREAMS)
def test_cutting_the_bytes_anywhere_gives_the_same_events(name: str) -> None:
    laws.cuts_do_not_matter(DIALECT, wire(name))


# What chat has no words for: a medium is text on its way out, a source's place is not its text.
ROUND = sorted(set(BOTH) - {"picture", "citations"})


@pytest.mark.parametrize("name", ROUND)
def test_an_answer_that_is_written_is_read_as_it_was(name: str) -> None:
    response = DIALECT.decode_response(whole(name))
    request = asked(stream=True, stream_options={"include_usage": True})
    if response.usage is None:
        request = asked(stream=True)
    for part in response.parts:
        if isinstance(part, Reasoning) and part.summary:
            part.summary = False  # a stream begins to tell thoughts before it can say what they are
    laws.response_is_stable(DIALECT, request, response)


names_st = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,20}", fullmatch=True)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


objects = st.dictionaries(names_st, st.integers(-5, 5) | texts, max_size=3).map(lambda value: json.dumps(value))


states_st = st.builds(Opaque, st.sampled_from(["openai", "anthropic", "gemini"]), texts, st.just("") | names_st)


usages = st.builds(
    Usage,
    **{
        name: st.integers(0, 2**20)
        for name in ("input", "cache_read", "cache_write", "audio_in", "output", "reasoning", "audio_out")
    },
)


@st.composite
def responses(draw: st.DrawFn) -> Response:
    """Answers in the order in which chat tells them: thoughts, words, a refusal, calls."""
    thoughts = [Reasoning(text=text, state=draw(states_st)) for text in draw(st.lists(texts, max_size=2))]
    parts: list[Part] = [*thoughts]
    parts += [Text(text=text) for text in draw(st.lists(texts, max_size=1))]
    parts += [Refusal(text=text) for text in draw(st.lists(texts, max_size=1))]
    ids = draw(st.lists(names_st, max_size=3, unique=True))
    signed = st.none() | st.builds(Opaque, st.just("gemini"), texts)
    for given_id in ids:
        custom = draw(st.booleans())
        arguments = draw(texts if custom else objects)
        parts.append(ToolCall(id=given_id, name=draw(names_st), arguments=arguments, custom=custom, state=draw(signed)))
    ends = [Finish.TOOL_CALLS] if ids else [Finish.STOP, Finish.LENGTH, Finish.FILTER]
    return Response(
        id=draw(names_st), model="offered", parts=parts, finish=draw(st.sampled_from(ends)), usage=draw(usages)
    )


@given(responses())
def test_any_answer_that_is_written_is_read_as_it_was(response: Response) -> None:
    laws.response_is_stable(DIALECT, asked(stream=True, stream_options={"include_usage": True}), response)


schemas_st = st.fixed_dictionaries(
    {"type": st.just("object"), "properties": st.dictionaries(names_st, st.just({"type": "string"}), min_size=1)}
)


functions_st = st.builds(Tool, name=names_st, description=texts, schema=st.none() | schemas_st)


customs_st = st.builds(Tool, name=names_st, description=texts, custom=st.just(True))


media_st = st.one_of(
    st.builds(Media, kind=st.just("image"), mime=st.just("image/png"), data=st.just("AAAA"), detail=st.just("low")),
    st.builds(Media, kind=st.just("image"), url=st.just("https://pictures.example/1.png")),
    st.builds(Media, kind=st.just("audio"), mime=st.sampled_from(["audio/wav", "audio/mpeg"]), data=st.just("AAAA")),
    st.builds(Media, kind=st.just("document"), mime=st.just("application/pdf"), data=st.just("AAAA"), name=names_st),
    st.builds(Media, kind=st.just("document"), url=st.just("https://papers.example/1.pdf")),
    st.builds(Media, kind=st.just("document"), file=names_st, owner=st.just("openai")),
    st.builds(Media, kind=st.just("video"), url=st.just("https://films.example/1.mp4")),
)


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    out = [Message(role="system", parts=[Text(text=text)]) for text in draw(st.lists(texts, max_size=2))]
    for turn in range(draw(st.integers(1, 3))):
        parts = draw(st.lists(st.builds(Text, text=texts) | media_st, min_size=1, max_size=3))
        out.append(Message(role="user", parts=parts, name=draw(st.none() | names_st)))
        ids = [f"call_{turn}_{number}" for number in range(draw(st.integers(0, 2)))]
        calls: list[Part] = [ToolCall(id=one, name=draw(names_st), arguments=draw(objects)) for one in ids]
        thoughts = [Reasoning(text=text) for text in draw(st.lists(texts, max_size=1))]
        out.append(Message(role="assistant", parts=[*thoughts, Text(text=draw(texts)), *calls]))
        if ids:
            results: list[Part] = [ToolResult(call=one, parts=[Text(text=draw(texts))]) for one in ids]
            out.append(Message(role="user", parts=results))
    return out


@st.composite
def requests(draw: st.DrawFn) -> Request:
    tools = draw(st.lists(functions_st | customs_st, max_size=3, unique_by=lambda tool: tool.name))
    choice = draw(
        st.none()
        | st.sampled_from([ToolChoice(mode="auto"), ToolChoice(mode="any"), ToolChoice(mode="none")])
        | st.builds(ToolChoice, mode=st.just("tool"), names=st.sampled_from([[tool.name] for tool in tools] or [["x"]]))
    )
    fraction = st.none() | st.floats(0, 1)
    sampling = Sampling(
        temperature=draw(fraction),
        top_p=draw(fraction),
        presence_penalty=draw(fraction),
        seed=draw(st.none() | st.integers(0, 9)),
        stop=draw(st.lists(texts, max_size=4)),
        logit_bias=draw(st.none() | st.just({"50256": -100.0})),
    )
    plain = Format(schema={"type": "object"}, name="n", strict=draw(st.sampled_from([None, False])))
    return Request(
        model="up",
        messages=draw(conversations()),
        tools=tools,
        choice=choice if tools else None,
        parallel=draw(st.none() | st.booleans()) if tools and not (choice and choice.mode == "none") else None,
        sampling=sampling,
        limit=draw(st.none() | st.integers(1, 9999)),
        thinking=draw(st.none() | st.sampled_from([Thinking(effort="low"), Thinking(effort="high")])),
        format=draw(st.none() | st.sampled_from([Format(), plain])),
        stream=draw(st.booleans()),
        user=draw(st.none() | names_st),
        cache_key=draw(st.none() | names_st),
        verbosity=draw(st.none() | st.just("low")),
        service_tier=draw(st.none() | st.sampled_from(["flex", "priority"])),
        extra=draw(st.just({}) | st.just({"store": True, "prediction": {"type": "content", "content": "x"}})),
    )


TAKES_ALL = msgspec.structs.replace(ANY, thinking="effort", efforts=("low", "high"))


@given(requests())
@settings(max_examples=40)
def test_any_request_that_is_written_is_read_as_it_was(request: Request) -> None:
    body = sent(request, TAKES_ALL).body
    assert body.get("tools") != []
    laws.request_is_stable(DIALECT, msgspec.json.encode(body), TAKES_ALL)
    assert DIALECT.read(msgspec.json.encode(body)).canonical() == request


@pytest.mark.parametrize("name", BOTH)
def test_what_is_written_is_what_openai_s_own_types_take(name: str) -> None:
    response = DIALECT.decode_response(whole(name))
    found = ChatCompletion.model_validate(told(response), strict=True)
    assert found.choices[0].finish_reason
    for part in response.parts:
        if isinstance(part, ToolCall):
            part.custom = False  # which its types of a stream do not know, though its wire does
    for event in streamed(response, stream_options={"include_usage": True}):
        read = ChatCompletionChunk.model_validate(event, strict=True)
        assert read.object == "chat.completion.chunk"


# ---- no input breaks it ---------------------------------------------------------------------------------------------


def listen(data: bytes) -> None:
    """Through the splitter, the decoder and an encoder of the same protocol: an end, or a failure, and no crash."""
    stream = translating.TranslatedStream(
        DIALECT.decoder(), DIALECT.encoder(asked(), model="m", prompt_tokens=0), Encoded(body={}), upstream_model="up"
    )
    stream.feed(data)
    stream.close()
    assert stream.done != (stream.failure is not None)
    refused = refusal_of(lambda: DIALECT.decode_response(data))
    assert refused is None or refused.cause is Cause.UPSTREAM_ERROR


def refusal_of(call: Callable[[], object]) -> RelayError | None:
    try:
        call()
    except RelayError as error:
        return error
    return None


@given(st.binary(max_size=200))
def test_no_bytes_break_the_decoder(data: bytes) -> None:
    listen(data)
    listen(b"data: " + data + b"\n\n")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


fields_st = st.sampled_from(
    ["content", "reasoning_content", "reasoning", "reasoning_details", "refusal", "tool_calls", "function_call",
     "images", "annotations", "index", "id", "function", "name", "arguments", "custom", "input", "extra_content",
     "google", "thought_signature", "type", "text", "summary", "data", "signature", "format", "url", "image_url"]
)  # fmt: skip


likely = st.recursive(
    json_values | st.sampled_from(["reasoning.text", "reasoning.encrypted", "openai-x", "text", "thinking", "{}", 0]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(fields_st, inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(fields_st, likely, max_size=4), max_size=4), json_values)
def test_no_delta_breaks_the_decoder(deltas: list[Any], finish: Any) -> None:
    data = [{"id": "c", "choices": [{"delta": delta, "finish_reason": None}]} for delta in deltas]
    data.append({"id": "c", "choices": [{"delta": {}, "finish_reason": finish}], "usage": finish})
    listen(b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in data))


@given(st.data())
@settings(max_examples=150)
def test_no_mutated_wire_breaks_the_decoder(data: st.DataObject) -> None:
    raw = bytearray(wire(data.draw(st.sampled_from(STREAMS))))
    for at, byte in data.draw(st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), max_size=6)):
        raw[at] = byte
    listen(bytes(raw))


read_fields = st.sampled_from(
    ["messages", "tools", "tool_choice", "stop", "response_format", "reasoning", "thinking", "functions",
     "function_call", "logit_bias", "top_logprobs", "logprobs", "metadata"]
)  # fmt: skip


@given(st.dictionaries(read_fields, likely, max_size=4))
def test_no_request_breaks_the_reading(fields: dict[str, Any]) -> None:
    refused = refusal_of(lambda: sent(canonical(**fields)))
    assert refused is None or (refused.status == 400 and (refused.param or refused.cause is Cause.INVALID_JSON))


def test_a_deeply_nested_request_is_refused() -> None:
    deep = '{"model": "m", "messages": [{"role": "user", "content": "x"}], "x": ' + "[" * 5000 + "]" * 5000 + "}"
    with pytest.raises(RelayError) as refused:
        DIALECT.read(deep.encode()).canonical()
    assert refused.value.status == 400


def test_a_call_that_never_ends_does_not_gather_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "MOST_WAITING", 1000)
    first = {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}}]}
    other = {"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g", "arguments": "x" * 100}}]}
    events = events_of(chunk(first), *(chunk(other) for _ in range(11)))
    assert isinstance(events[-1], Failed)
