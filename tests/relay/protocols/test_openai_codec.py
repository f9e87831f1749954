"""OpenAI's chat by way of the hub: the laws over the wires of those who speak it, and what each of them does otherwise.

Fixtures in `tests/wire/openai`: a stream and, where the vendor has it, the same answer whole.
"""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from billing.usage import Usage
from relay.errors import Cause, RelayError
from relay.protocols import capabilities, fold, sse, translating
from relay.protocols.canonical import (
    Finish,
    Format,
    Json,
    Media,
    Message,
    Opaque,
    Part,
    Raw,
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
from relay.protocols.capabilities import Capabilities
from relay.protocols.codec import Encoded, Encoder
from relay.protocols.events import Event, Failed, Finished, PartDelta, PartStarted, Started
from relay.protocols.openai import DIALECT, decoder
from tests.relay.protocols import laws

WIRES = Path(__file__).parents[2] / "wire" / "openai"
STREAMS = sorted(path.stem for path in WIRES.glob("*.sse"))
BOTH = sorted(path.stem for path in WIRES.glob("*.json"))
PICTURE, PAPER, FILM = "https://p.example/1.png", "https://p.example/1.pdf", "https://p.example/1.mp4"
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


def of(*messages: Message, **fields: Any) -> Request:
    return Request(model="m", messages=list(messages), **fields)


def user(*parts: Part | str) -> Message:
    return Message(role="user", parts=[Text(text=part) if isinstance(part, str) else part for part in parts])


def model(*parts: Part | str) -> Message:
    return Message(role="assistant", parts=[Text(text=part) if isinstance(part, str) else part for part in parts])


def chunk(delta: Json, finish: str | None = None, **extra: Any) -> bytes:
    return json.dumps(
        {"id": "c", "model": "up", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **extra}
    ).encode()


def events_of(*chunks: bytes, done: bool = True) -> list[Event]:
    data = [*chunks, b"[DONE]"] if done else chunks
    return laws.decoded(DIALECT, b"".join(b"data: " + one + b"\n\n" for one in data))


def answer_of(*chunks: bytes) -> Response:
    return fold.fold(events_of(*chunks))


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


def told(response: Response, **fields: Any) -> dict[str, Any]:
    body = DIALECT.encode_response(response, asked=asked(**fields), model="offered", pisces=PISCES)
    found: dict[str, Any] = json.loads(body)
    return found


def answer(*parts: Part | str, finish: Finish = Finish.STOP, **fields: Any) -> Response:
    listed = [Text(text=part) if isinstance(part, str) else part for part in parts]
    return Response(id="chatcmpl-1", model="offered", parts=listed, finish=finish, **fields)


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


# ---- calls ----------------------------------------------------------------------------------------------------------


def kinds(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in laws.joined(events)]


def test_pieces_of_parallel_calls_that_are_mixed_come_out_one_after_the_other() -> None:
    found = fold.fold(laws.decoded(DIALECT, wire("interleaved")))
    assert found.parts == [
        Text(text="Both."),
        ToolCall(id="call_a", name="get_weather", arguments='{"city":"Rome"}'),
        ToolCall(id="call_b", name="get_time", arguments='{"zone":"CET"}'),
        ToolCall(id="call_c", name="now", arguments="{}"),
    ]


def test_a_whole_call_ends_when_the_next_begins_and_not_only_with_the_answer() -> None:
    data = [event for frame in sse.Splitter().feed(wire("calls")) if (event := sse.payload(frame))]
    reader = DIALECT.decoder()
    second = next(number for number, one in enumerate(data) if b"get_time" in one)
    before = [event for one in data[:second] for event in reader.feed(one)]
    assert kinds(before) == ["Started", "PartStarted", "PartDelta"]
    assert kinds(reader.feed(data[second])) == ["PartEnded", "PartStarted"]


def test_long_arguments_that_are_mixed_come_out_whole() -> None:
    """`}` at the end of every piece: the end of the first call is seen, or its second waits for the answer's."""
    begun = [{"index": i, "id": f"c{i}", "function": {"name": "f", "arguments": '{"x":['}} for i in (0, 1)]
    more = [{"index": i, "function": {"arguments": '{"y":{}},'}} for i in (0, 1)]
    ends = [{"index": i, "function": {"arguments": "0]}"}} for i in (0, 1)]
    found = answer_of(
        chunk({"tool_calls": begun}),
        *(chunk({"tool_calls": more}) for _ in range(2000)),
        chunk({"tool_calls": ends}),
        chunk({}, "tool_calls"),
    )
    arguments = '{"x":[' + '{"y":{}},' * 2000 + "0]}"
    assert found.parts == [ToolCall(id=f"c{i}", name="f", arguments=arguments) for i in (0, 1)]


def test_ids_and_indices_may_be_missing_or_all_zero() -> None:
    """Pitfall 21 and the reason why hub parts are numbered: parallel calls cannot all be index 0."""
    zero = [{"index": 0, "id": name, "function": {"name": name, "arguments": "{}"}} for name in ("f", "g")]
    found = answer_of(*(chunk({"tool_calls": [call]}) for call in zero), chunk({}, "tool_calls"))
    assert [part.id for part in found.parts if isinstance(part, ToolCall)] == ["f", "g"]
    bare = [{"function": {"name": name, "arguments": "{}"}} for name in ("f", "g")]
    found = answer_of(chunk({"tool_calls": bare}), chunk({}, "stop"))
    ids = [part.id for part in found.parts if isinstance(part, ToolCall)]
    assert len({*ids}) == 2
    assert all(one.startswith("call_") for one in ids)


def test_pieces_without_index_continue_the_latest_call() -> None:
    pieces = [{"id": "a", "function": {"name": "f", "arguments": '{"x"'}}, {"function": {"arguments": ":1}"}}]
    found = answer_of(*(chunk({"tool_calls": [piece]}) for piece in pieces), chunk({}, "stop"))
    assert found.parts == [ToolCall(id="a", name="f", arguments='{"x":1}')]


def test_a_call_s_name_may_follow_its_id() -> None:
    pieces = [
        {"index": 0, "id": "a"},
        {"index": 0, "function": {"name": "f"}},
        {"index": 0, "function": {"arguments": "{}"}},
    ]
    found = answer_of(*(chunk({"tool_calls": [piece]}) for piece in pieces), chunk({}, "stop"))
    assert found.parts == [ToolCall(id="a", name="f", arguments="{}")]
    assert isinstance(events_of(chunk({"tool_calls": [{"index": 0, "id": "a"}]}), chunk({}, "stop"))[-1], Failed)


def test_text_in_the_middle_of_a_call_waits_until_the_call_is_whole() -> None:
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x"'}}
    rest = {"index": 0, "function": {"arguments": ":1}"}}
    found = answer_of(
        chunk({"tool_calls": [call]}), chunk({"content": "Hm"}), chunk({"tool_calls": [rest]}), chunk({}, "stop")
    )
    assert found.parts == [ToolCall(id="a", name="f", arguments='{"x":1}'), Text(text="Hm")]


def test_stop_after_a_call_is_tool_calls_and_tool_calls_without_one_is_stop() -> None:
    """Pitfalls 8 and 9: Google says STOP for calls, in a chunk of its own."""
    assert fold.fold(laws.decoded(DIALECT, wire("gemini"))).finish is Finish.TOOL_CALLS
    assert answer_of(chunk({"content": "x"}), chunk({}, "tool_calls")).finish is Finish.STOP
    assert DIALECT.decode_response(whole("gemini")).finish is Finish.TOOL_CALLS


def test_a_finish_reason_on_every_piece_of_a_call_ends_nothing() -> None:
    """Pitfall 10."""
    pieces = [
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x"'}},
        {"index": 0, "function": {"arguments": ":1}"}},
    ]
    found = answer_of(*(chunk({"tool_calls": [piece]}, "tool_calls") for piece in pieces))
    assert found.parts == [ToolCall(id="a", name="f", arguments='{"x":1}')]
    assert found.finish is Finish.TOOL_CALLS


def test_an_empty_text_before_a_call_is_no_part() -> None:
    """Pitfalls 4 and 6: no empty leading block, no first token lost at a change of parts."""
    events = laws.decoded(DIALECT, wire("vllm"))
    assert [event.part for event in events if isinstance(event, PartStarted)] == [
        ToolCall(id="chatcmpl-tool-01", name="get_weather")
    ]
    found = fold.fold(laws.decoded(DIALECT, wire("openrouter")))
    assert [type(part) for part in found.parts] == [Reasoning, Reasoning, Text, ToolCall]


def test_thoughts_after_a_call_are_a_part_of_their_own() -> None:
    """Pitfalls 3 and 5."""
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    found = answer_of(
        chunk({"reasoning_content": "one"}),
        chunk({"tool_calls": [call]}),
        chunk({"reasoning_content": "two"}),
        chunk({"content": "x"}, "stop"),
    )
    assert found.parts == [
        Reasoning(text="one"),
        ToolCall(id="a", name="f", arguments="{}"),
        Reasoning(text="two"),
        Text(text="x"),
    ]


# ---- ends, usage, failures ------------------------------------------------------------------------------------------


def test_usage_is_read_where_it_trails_where_it_comes_along_and_where_it_is_in_the_choice() -> None:
    """Pitfall 26: the answer does not end with its finish reason."""
    shares = {name: fold.fold(laws.decoded(DIALECT, wire(name))).usage for name in ("text", "deepseek", "kimi")}
    assert shares["text"] == Usage(
        input=19, cache_read=0, cache_write=0, audio_in=0, output=11, reasoning=0, audio_out=0
    )
    assert shares["deepseek"] is not None
    assert dict(shares["deepseek"].buckets()) == {"input": 6, "cache_read": 8, "output": 21, "reasoning": 40}
    assert shares["kimi"] is not None
    assert dict(shares["kimi"].buckets()) == {"input": 6, "cache_read": 4, "output": 5}
    assert fold.fold(laws.decoded(DIALECT, wire("ollama"))).usage is None


def test_of_cumulative_usage_the_newest_counts() -> None:
    """Pitfall 23: nothing is added up."""
    usage = [{"prompt_tokens": 5, "completion_tokens": number} for number in (1, 2, 3)]
    found = answer_of(*(chunk({"content": "x"}, usage=one) for one in usage), chunk({}, "stop"))
    assert found.usage is not None
    assert dict(found.usage.buckets()) == {"input": 5, "output": 3}


def test_thoughts_that_a_vendor_leaves_out_of_the_completion_are_counted() -> None:
    """Pitfall 25: Google's OpenAI layer and xAI report them beside the completion, and in the total."""
    found = DIALECT.decode_response(whole("gemini")).usage
    assert found is not None
    assert dict(found.buckets()) == {"input": 60, "output": 16, "reasoning": 145}
    assert found.tokens_in + found.tokens_out == 221


def test_an_error_in_the_stream_is_a_failure_and_so_is_a_stream_that_just_ends() -> None:
    """Pitfall 46: it never ends as if it were whole."""
    events = laws.decoded(DIALECT, wire("error"))
    failed = events[-1]
    assert isinstance(failed, Failed)
    assert "error processing your request" in failed.error.message
    assert failed.error.entry.openai == "api_error"  # pitfall 33: a client may try again
    assert isinstance(events_of(chunk({"content": "Half"}), done=False)[-1], Failed)
    assert isinstance(events_of(done=True)[-1], Failed)
    assert isinstance(events_of(chunk({"content": "x"}, "error"))[-1], Failed)


def test_a_stream_without_done_ends_with_its_finish_reason() -> None:
    """Pitfall 32: to demand `[DONE]` of an upstream is wrong too."""
    assert fold.fold(events_of(chunk({"content": "x"}), chunk({}, "stop"), done=False)).finish is Finish.STOP


def test_chunks_without_choices_say_nothing() -> None:
    """Pitfall 27: Azure begins with one, its id empty."""
    events = laws.decoded(DIALECT, wire("azure"))
    assert events[0] == Started("chatcmpl-azure", "gpt-4o-mini-2024-07-18")
    assert isinstance(events[-1], Finished)
    assert events[-1].reason is Finish.FILTER


def test_sound_in_an_answer_is_refused_and_not_lost() -> None:
    message = {"role": "assistant", "content": None, "audio": {"id": "a", "data": "AAAA", "transcript": "Hi"}}
    with pytest.raises(RelayError):
        DIALECT.decode_response(json.dumps({"id": "c", "choices": [{"message": message}]}).encode())
    with pytest.raises(RelayError) as refused:
        canonical(modalities=["text", "audio"], audio={"voice": "alloy", "format": "wav"})
    assert refused.value.param == "modalities"


def test_answers_that_are_none_are_the_provider_s_fault() -> None:
    for body in (
        b"",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"error": {"message": "no"}}',
        b'{"choices": [{"message": 1}]}',
    ):
        with pytest.raises(RelayError) as refused:
            DIALECT.decode_response(body)
        assert refused.value.cause is Cause.UPSTREAM_ERROR


# ---- to the client --------------------------------------------------------------------------------------------------

USED = Usage(input=10, cache_read=90, cache_write=5, output=7, reasoning=3)


def test_a_client_that_did_not_ask_gets_no_usage_and_no_chunk_without_choices() -> None:
    """Pitfall 27."""
    found = streamed(answer("Hi", usage=USED))
    assert all(event["choices"] for event in found)
    assert all("usage" not in event for event in found)
    asked_for = streamed(answer("Hi", usage=USED), stream_options={"include_usage": True})
    assert [event["usage"] for event in asked_for[:-1]] == [None] * (len(asked_for) - 1)
    assert asked_for[-1]["choices"] == []
    assert asked_for[-1]["usage"]["total_tokens"] == 115


def test_usage_contains_the_cache_in_the_prompt_and_the_thoughts_in_the_completion() -> None:
    """Pitfall 24: a cache read stays one on its way to the client."""
    usage = told(answer("Hi", usage=USED))["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (105, 10, 115)
    assert usage["prompt_tokens_details"] == {"cached_tokens": 90, "cache_write_tokens": 5, "audio_tokens": 0}
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 3


def test_thoughts_are_not_mixed_into_the_content() -> None:
    """Pitfall 41."""
    response = answer(Reasoning(text="Hm.", state=Opaque("anthropic", "c2ln")), "Yes.")
    message = told(response)["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Yes.", "Hm.")
    assert message["reasoning_details"] == [
        {"type": "reasoning.text", "text": "Hm.", "signature": "c2ln", "id": None,
         "format": "anthropic-claude-v1", "index": 0}
    ]  # fmt: skip
    deltas = [event["choices"][0]["delta"] for event in streamed(response)]
    assert [delta["content"] for delta in deltas if delta.get("content")] == ["Yes."]


def test_a_signature_comes_home_through_a_chat_client() -> None:
    thought = Reasoning(text="Hm.", state=Opaque("anthropic", "c2ln+/="))
    call = ToolCall(id="a", name="f", arguments="{}", state=Opaque("gemini", "Z3Nn"))
    message = told(answer(thought, call, finish=Finish.TOOL_CALLS))["choices"][0]["message"]
    back = canonical(messages=[message, {"role": "tool", "tool_call_id": "a", "content": "1"}])
    assert back.messages[0].parts == [thought, call]


def test_a_choice_is_always_number_zero_whatever_the_parts_are_numbered() -> None:
    """Pitfall 40."""
    calls = [ToolCall(id=name, name=name, arguments="{}") for name in "abc"]
    found = streamed(answer("x", *calls, finish=Finish.TOOL_CALLS))
    assert {choice["index"] for event in found for choice in event["choices"]} == {0}
    indices = [
        call["index"] for event in found for call in event["choices"][0]["delta"].get("tool_calls", ()) if "id" in call
    ]
    assert indices == [0, 1, 2]
    assert [event["choices"][0]["finish_reason"] for event in found] == [None] * (len(found) - 1) + ["tool_calls"]


def test_a_call_without_arguments_is_told_with_an_empty_object() -> None:
    response = answer(ToolCall(id="a", name="f"), finish=Finish.TOOL_CALLS)
    assert told(response)["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == "{}"
    pieces = [
        call["function"]["arguments"]
        for event in streamed(response)
        for call in event["choices"][0]["delta"].get("tool_calls", ())
    ]
    assert "".join(pieces) == "{}"


@pytest.mark.parametrize(
    ("finish", "parts", "word"),
    [
        (Finish.STOP, ["x"], "stop"),
        (Finish.STOP_SEQUENCE, ["x"], "stop"),
        (Finish.STOP, [ToolCall(id="a", name="f")], "tool_calls"),
        (Finish.TOOL_CALLS, ["x"], "stop"),
        (Finish.LENGTH, [ToolCall(id="a", name="f")], "length"),
        (Finish.PAUSE, ["x"], "length"),
        (Finish.CONTEXT, ["x"], "length"),
        (Finish.FILTER, ["x"], "content_filter"),
    ],
)
def test_an_end_has_openai_s_word_for_it(finish: Finish, parts: list[Any], word: str) -> None:
    response = answer(*parts, finish=finish)
    assert told(response)["choices"][0]["finish_reason"] == word
    assert streamed(response)[-1]["choices"][0]["finish_reason"] == word


def test_a_reason_for_refusing_becomes_the_refusal() -> None:
    response = answer(finish=Finish.FILTER, note="PROHIBITED_CONTENT")
    message = told(response)["choices"][0]["message"]
    assert (message["content"], message["refusal"]) == (None, "PROHIBITED_CONTENT")
    assert [event["choices"][0]["delta"].get("refusal") for event in streamed(response)][1] == "PROHIBITED_CONTENT"


def test_a_client_of_the_old_functions_is_told_in_its_words() -> None:
    old = {"functions": [{"name": "f", "parameters": {"type": "object", "properties": {}}}]}
    response = answer(
        ToolCall(id="a", name="f", arguments='{"x":1}'), ToolCall(id="b", name="f"), finish=Finish.TOOL_CALLS
    )
    choice = told(response, **old)["choices"][0]
    assert choice["message"]["function_call"] == {"name": "f", "arguments": '{"x":1}'}
    assert choice["finish_reason"] == "function_call"
    found = streamed(response, **old)
    calls = [
        event["choices"][0]["delta"]["function_call"]
        for event in found
        if "function_call" in event["choices"][0]["delta"]
    ]
    assert calls == [{"name": "f", "arguments": ""}, {"arguments": '{"x":1}'}]
    assert canonical(**old).parallel is False


def test_a_picture_that_the_model_made_is_shown_as_markdown() -> None:
    """Requirement C6."""
    response = DIALECT.decode_response(whole("picture"))
    assert response.parts[1] == Media(kind="image", mime="image/png", data="iVBORw0KGgo=")
    shown = told(response)["choices"][0]["message"]["content"]
    assert shown == "Here.![image](data:image/png;base64,iVBORw0KGgo=)"
    deltas = [event["choices"][0]["delta"].get("content") or "" for event in streamed(response)]
    assert "".join(deltas) == shown


def test_sources_are_told_with_their_address() -> None:
    response = DIALECT.decode_response(whole("citations"))
    found = told(response)["choices"][0]["message"]["annotations"][0]["url_citation"]
    assert found == {"start_index": 0, "end_index": 17, "title": "Weather", "url": "https://weather.example/oslo"}
    assert any(event["choices"][0]["delta"].get("annotations") for event in streamed(response))


def test_nothing_is_written_before_the_answer_begins() -> None:
    """So that an upstream that fails until then can be replaced by another: pitfall 45."""
    encoder = DIALECT.encoder(asked(stream=True), model="m", prompt_tokens=0)
    assert encoder.feed(Started("x", "up")) == b""
    assert encoder.feed(PartStarted(0, Text())).startswith(b"data: ")


def test_a_silent_stream_is_kept_alive_by_a_comment_and_no_event_has_an_id() -> None:
    """Pitfalls 28 and 30: a comment after any `id:` line breaks the official client."""
    encoder = DIALECT.encoder(asked(stream=True), model="m", prompt_tokens=0)
    assert encoder.ping() == b": keep-alive\n\n"
    passing = DIALECT.passing(asked(stream=True), model="m", upstream_model="up")
    assert passing.ping() == b": keep-alive\n\n"
    out = as_stream(answer("x"), encoder) + encoder.last(PISCES)
    assert all(line.startswith(b"data: ") for line in out.split(b"\n") if line)


def test_a_failure_is_told_in_band_and_without_done() -> None:
    error = RelayError(Cause.UPSTREAM_ERROR, "broken")
    for stream in (
        DIALECT.encoder(asked(stream=True), model="m", prompt_tokens=0),
        DIALECT.passing(asked(stream=True), model="m", upstream_model="up"),
    ):
        out = stream.fail(error, PISCES)
        assert json.loads(out[6:])["error"]["message"] == "broken"
        assert b"[DONE]" not in out


# ---- from the client ------------------------------------------------------------------------------------------------


def test_n_above_one_is_for_openai_s_own_models() -> None:
    assert asked(n=2).n == 2
    with pytest.raises(RelayError) as refused:
        canonical(n=2)
    assert (refused.value.cause, refused.value.param) == (Cause.INVALID_PARAMETER, "n")


def test_developer_and_system_messages_stay_where_they_were_said() -> None:
    found = canonical(
        messages=[
            {"role": "developer", "content": "a"},
            {"role": "system", "content": [{"type": "text", "text": "b"}]},
            {"role": "user", "content": "c"},
            {"role": "system", "content": "d"},
        ]
    )
    assert [message.role for message in found.messages] == ["system", "system", "user", "system"]


@pytest.mark.parametrize(
    ("part", "read"),
    [
        ({"type": "image_url", "image_url": {"url": PICTURE, "detail": "high"}},
         Media(kind="image", url=PICTURE, detail="high")),
        ({"type": "image_url", "image_url": PICTURE}, Media(kind="image", url=PICTURE)),
        ({"type": "image_url", "image_url": "data:image/png;base64,AAAA"},
         Media(kind="image", mime="image/png", data="AAAA")),
        ({"type": "file_url", "file_url": {"url": PAPER}}, Media(kind="document", url=PAPER)),
        ({"type": "file_url", "file_url": PAPER}, Media(kind="document", url=PAPER)),
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}},
         Media(kind="document", mime="application/pdf", data="AAAA", name="a.pdf")),
        ({"type": "file", "file": {"file_data": "AAAA", "filename": "a.csv"}},
         Media(kind="document", mime="text/csv", data="AAAA", name="a.csv")),
        ({"type": "file", "file": {"file_id": "file-1"}}, Media(kind="document", file="file-1", owner="openai")),
        ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
         Media(kind="audio", mime="audio/mpeg", data="AAAA")),
        ({"type": "video_url", "video_url": {"url": FILM}}, Media(kind="video", url=FILM)),
        ({"type": "hologram", "x": 1}, Raw(owner="openai", label="hologram", value={"type": "hologram", "x": 1})),
    ],
)  # fmt: skip
def test_every_spelling_of_a_part_is_read(part: Json, read: Part) -> None:
    """Requirements B7 and B8."""
    assert canonical(messages=[{"role": "user", "content": [part]}]).messages[0].parts == [read]


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "image_url"}, 1], [{"text": "x"}], [{"type": "image_url", "image_url": "data:image/png,AAAA"}],
        [{"type": "image_url", "image_url": ""}], [{"type": "file", "file": {}}], [{"type": 1}],
    ],
)  # fmt: skip
def test_a_malformed_part_is_refused(content: list[Any]) -> None:
    with pytest.raises(RelayError) as refused:
        sent(canonical(messages=[{"role": "user", "content": content}]))
    assert (refused.value.cause, refused.value.param) == (Cause.INVALID_MESSAGES, "messages")


def test_old_functions_are_tools_and_their_results_find_their_calls() -> None:
    found = canonical(
        functions=[{"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"x": {}}}}],
        function_call={"name": "f"},
        messages=[
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "1"},
        ],
    )
    call, result = found.messages[1].parts[0], found.messages[2].parts[0]
    assert isinstance(call, ToolCall)
    assert isinstance(result, ToolResult)
    assert (call.id, call.name, result.call, result.name) == ("call_1", "f", "call_1", "f")
    assert found.tools[0].schema == {"type": "object", "properties": {"x": {}}}
    assert found.choice == ToolChoice(mode="tool", names=["f"])


def test_results_of_parallel_calls_are_one_turn() -> None:
    """Pitfall 11, towards vendors that count them."""
    calls = [{"id": name, "type": "function", "function": {"name": "f", "arguments": "{}"}} for name in "ab"]
    found = canonical(
        messages=[
            {"role": "assistant", "tool_calls": calls},
            *({"role": "tool", "tool_call_id": name, "content": name} for name in "ab"),
            {"role": "user", "content": "go on"},
        ]
    )
    assert [len(message.parts) for message in found.messages] == [2, 2, 1]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("none", ToolChoice(mode="none")),
        ("auto", ToolChoice(mode="auto")),
        ("required", ToolChoice(mode="any")),
        ({"type": "function", "function": {"name": "f"}}, ToolChoice(mode="tool", names=["f"])),
        ({"type": "custom", "custom": {"name": "f"}}, ToolChoice(mode="tool", names=["f"])),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]},
            },
            ToolChoice(mode="any", names=["f"]),
        ),
    ],
)
def test_every_choice_of_a_tool_is_read_and_written(said: Any, meant: ToolChoice) -> None:
    custom = isinstance(said, dict) and said["type"] == "custom"
    tool = {"type": "custom", "custom": {"name": "f"}} if custom else {"type": "function", "function": {"name": "f"}}
    request = canonical(tools=[tool], tool_choice=said)
    assert request.choice == meant
    assert sent(request).body["tool_choice"] == said


@pytest.mark.parametrize("fields", [{"tool_choice": "x"}, {"tool_choice": {"type": "function"}}, {"tool_choice": 1},
    {"tools": [{"type": "mcp"}]}, {"response_format": {"type": "xml"}}, {"response_format": {"type": "json_schema"}},
    {"temperature": "hot"}, {"stop": 1}])  # fmt: skip
def test_a_parameter_with_a_value_that_there_is_not_is_refused_by_name(fields: dict[str, Any]) -> None:
    with pytest.raises(RelayError) as refused:
        canonical(**fields)
    assert (refused.value.cause, refused.value.param) == (Cause.INVALID_PARAMETER, next(iter(fields)))


@pytest.mark.parametrize(
    ("fields", "meant"),
    [
        ({"reasoning_effort": "high"}, Thinking(effort="high")),
        ({"reasoning": {"effort": "low", "exclude": True}}, Thinking(effort="low", visible=False)),
        ({"reasoning": {"max_tokens": 2000}}, Thinking(budget=2000)),
        ({"reasoning": {"enabled": False}}, Thinking(effort="none")),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, Thinking(budget=2048)),
        ({"thinking": {"type": "disabled"}}, Thinking(budget=0)),
        ({"thinking": {"type": "enabled"}}, Thinking(adaptive=True)),
    ],
)
def test_every_spelling_of_how_much_to_think_is_read(fields: dict[str, Any], meant: Thinking) -> None:
    assert canonical(**fields).thinking == meant


# ---- to the upstream ------------------------------------------------------------------------------------------------


def test_pictures_in_a_tool_s_result_follow_as_the_user_s() -> None:
    """Pitfall 22: they are neither dropped nor sent where they are refused."""
    picture = Media(kind="image", mime="image/png", data="AAAA")
    request = of(
        user("x"),
        model(ToolCall(id="a", name="f"), ToolCall(id="b", name="f")),
        user(
            ToolResult(call="a", parts=[Text(text="see"), picture]), ToolResult(call="b", parts=[Text(text="2")]), "so?"
        ),
    )
    messages = sent(request).body["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool", "user"]
    assert [part["type"] for part in messages[4]["content"]] == ["text", "image_url", "text"]
    assert "call a" in messages[4]["content"][0]["text"]
    assert all("image_url" not in json.dumps(message) for message in messages[2:4])
    kept = sent(request, msgspec.structs.replace(ANY, result_media=True)).body["messages"]
    assert [part["type"] for part in kept[2]["content"]] == ["text", "image_url"]


def test_a_tool_s_failure_is_told_in_words() -> None:
    result = ToolResult(call="a", parts=[Text(text="no such file")], failed=True)
    messages = sent(of(user("x"), model(ToolCall(id="a", name="f")), user(result))).body["messages"]
    assert messages[2]["content"] == "Error: no such file"
    assert result.parts == [Text(text="no such file")]


def test_every_call_is_answered_and_no_result_is_without_its_call() -> None:
    """Pitfall 20: histories that clients have cut."""
    cut = of(user("x"), model(ToolCall(id="a", name="f"), ToolCall(id="b", name="f")), user("never mind"))
    messages = sent(cut).body["messages"]
    assert [message.get("tool_call_id") for message in messages] == [None, None, "a", "b", None]
    orphan = sent(of(user(ToolResult(call="gone", parts=[Text(text="42")])), user("so?"))).body["messages"]
    assert [message["role"] for message in orphan] == ["user", "user"]
    assert "42" in orphan[0]["content"]


def test_long_ids_and_names_are_shortened_the_same_way_each_time_and_back() -> None:
    """Pitfalls 15, 16 and 17."""
    long_id, long_name = "call_x__thought__" + "Q" * 900, "mcp__server__" + "very_" * 20 + "long"
    request = of(
        user("x"),
        model(ToolCall(id=long_id, name=long_name, arguments="{}")),
        user(ToolResult(call=long_id, parts=[Text(text="1")])),
        tools=[Tool(name=long_name)],
        choice=ToolChoice(mode="tool", names=[long_name]),
    )
    encoded = sent(request)
    call, result = encoded.body["messages"][1]["tool_calls"][0], encoded.body["messages"][2]
    assert call["id"] == result["tool_call_id"]
    assert len(call["id"]) <= 40
    name = call["function"]["name"]
    assert len(name) <= 64
    assert encoded.body["tools"][0]["function"]["name"] == encoded.body["tool_choice"]["function"]["name"] == name
    assert encoded.names == {name: long_name}
    assert encoded.body == sent(request).body  # pitfall 44: the prefix stays the same


def test_foreign_thoughts_and_signatures_stay_at_home() -> None:
    """Pitfall 18."""
    thoughts: list[Part] = [
        Reasoning(text="foreign", state=Opaque("anthropic", "c2ln")),
        Reasoning(text="own"),
        Reasoning(state=Opaque("anthropic", "ZW5j"), redacted=True),
    ]
    call = ToolCall(id="a", name="f", arguments="{}", state=Opaque("anthropic", "eA"))
    request = of(user("x"), model(*thoughts, call))
    message = sent(request, msgspec.structs.replace(ANY, thoughts="extra_content")).body["messages"][1]
    assert message.keys() == {"role", "content", "tool_calls"}
    assert "extra_content" not in message["tool_calls"][0]
    assert sent(request).body["messages"][1]["reasoning_content"] == "own"
    assert "reasoning_content" not in sent(request, Capabilities()).body["messages"][1]


def test_gemini_s_signatures_go_back_to_gemini() -> None:
    """Pitfall 14."""
    call = ToolCall(id="a", name="f", arguments="{}", state=Opaque("gemini", "Z3Nn"))
    caps = capabilities.of("gemini-3-pro-preview", "openai")
    written = sent(of(user("x"), model(call)), caps).body["messages"][1]["tool_calls"][0]
    assert written["extra_content"] == {"google": {"thought_signature": "Z3Nn"}}
    foreign = [ToolCall(id=name, name="f", arguments="{}", state=Opaque("anthropic", "eA")) for name in "ab"]
    first, second = sent(of(user("x"), model(*foreign)), caps).body["messages"][1]["tool_calls"]
    assert first["extra_content"] == {"google": {"thought_signature": "skip_thought_signature_validator"}}
    assert "extra_content" not in second
    assert "extra_content" not in sent(of(user("x"), model(call))).body["messages"][1]["tool_calls"][0]


def test_tools_are_never_an_empty_list_and_a_choice_never_alone() -> None:
    body = sent(of(user("x"), choice=ToolChoice(mode="none"), parallel=False)).body
    assert not body.keys() & {"tools", "tool_choice", "parallel_tool_calls"}


def test_tools_with_free_text_become_functions_where_there_are_none() -> None:
    """Pitfall 36."""
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: X"}
    tool = Tool(name="apply_patch", description="Edits.", custom=True, format=grammar)
    history = [user("x"), model(ToolCall(id="a", name="apply_patch", arguments="*** x", custom=True))]
    own = sent(of(*history, tools=[tool])).body
    assert own["tools"][0]["custom"]["format"] == {
        "type": "grammar",
        "grammar": {"syntax": "lark", "definition": "start: X"},
    }
    assert own["messages"][1]["tool_calls"][0]["custom"] == {"name": "apply_patch", "input": "*** x"}
    encoded = sent(of(*history, tools=[tool]), Capabilities())
    assert encoded.customs == frozenset({"apply_patch"})
    assert "start: X" in encoded.body["tools"][0]["function"]["description"]
    assert json.loads(encoded.body["messages"][1]["tool_calls"][0]["function"]["arguments"]) == {"input": "*** x"}


def test_strict_is_asked_only_of_schemas_that_allow_it() -> None:
    closed = {
        "type": "object",
        "properties": {"x": {"type": "string"}},
        "required": ["x"],
        "additionalProperties": False,
    }
    loose = {"type": "object", "properties": {"x": {"type": "string"}}}
    encoded = sent(
        of(user("x"), tools=[Tool(name="f", schema=closed, strict=True), Tool(name="g", schema=loose, strict=True)])
    )
    assert [tool["function"].get("strict") for tool in encoded.body["tools"]] == [True, None]
    assert encoded.losses == ["strict"]


def test_a_schema_of_another_vendor_s_client_binds_where_it_can() -> None:
    open_schema = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}
    wanted = Format(schema=open_schema)
    found = sent(of(user("x"), owner="anthropic", format=wanted)).body["response_format"]["json_schema"]
    assert (found["name"], found["strict"], found["schema"]["additionalProperties"]) == ("answer", True, False)
    assert "additionalProperties" not in open_schema
    loose = Format(schema={"type": "object", "properties": {"x": {}}})
    assert "strict" not in sent(of(user("x"), owner="gemini", format=loose)).body["response_format"]["json_schema"]


def test_a_schema_that_a_model_cannot_be_bound_to_is_told_in_words() -> None:
    caps = capabilities.of("deepseek-chat", "openai")
    encoded = sent(of(user("x"), format=Format(schema={"type": "object"})), caps)
    assert encoded.body["response_format"] == {"type": "json_object"}
    assert '"type":"object"' in encoded.body["messages"][0]["content"]
    assert encoded.losses == ["response_format"]


def test_models_that_reason_get_the_new_limit_and_no_sampling() -> None:
    """Requirement B9."""
    sampling = Sampling(temperature=0.5, top_p=1, frequency_penalty=1, seed=1, stop=["x"], logprobs=2, top_k=5)
    request = of(user("x"), sampling=sampling, limit=100, thinking=Thinking(effort="xhigh"))
    encoded = sent(request, capabilities.of("o3", "openai"))
    assert encoded.body["max_completion_tokens"] == 100
    assert encoded.body["reasoning_effort"] == "high"
    assert "max_tokens" not in encoded.body
    assert encoded.losses == ["temperature", "top_k", "frequency_penalty", "logprobs", "stop", "reasoning_effort"]
    assert sent(request, limit=7).body["max_tokens"] == 7


@pytest.mark.parametrize(
    ("wanted", "levels", "told_as"),
    [
        (Thinking(effort="medium"), ("low", "high"), "high"),
        (Thinking(effort="minimal"), ("none", "low", "high"), "low"),
        (Thinking(effort="none"), ("low", "high"), "low"),
        (Thinking(effort="max"), ("none", "low", "xhigh"), "xhigh"),
        (Thinking(budget=0), ("none", "low"), "none"),
        (Thinking(budget=3000), ("low", "medium", "high"), "medium"),
        (Thinking(adaptive=True), ("low",), None),
    ],
)
def test_an_effort_is_the_nearest_that_the_model_has(
    wanted: Thinking, levels: tuple[str, ...], told_as: str | None
) -> None:
    caps = Capabilities(thinking="effort", efforts=levels)
    assert sent(of(user("x"), thinking=wanted), caps).body.get("reasoning_effort") == told_as


def test_what_a_model_cannot_take_in_is_refused_and_never_dropped() -> None:
    """Requirement B14."""
    text_only = capabilities.of("deepseek-chat", "openai")
    refused: list[tuple[Part, Capabilities]] = [
        (Media(kind="image", url="https://p.example/1.png"), text_only),
        (Media(kind="audio", mime="audio/wav", data="AAAA"), capabilities.of("gpt-4o", "openai")),
        (Media(kind="video", url="https://p.example/1.mp4"), capabilities.of("gpt-4o", "openai")),
        (Media(kind="document", url="https://p.example/1.pdf"), capabilities.of("gpt-4o", "openai")),
        (Media(kind="image", url="https://p.example/1.png"), capabilities.of("gemini-2.5-pro", "openai")),
        (Media(kind="document", file="files/x", owner="gemini"), ANY),
        (Raw(owner="anthropic", label="search_result", value={}), ANY),
    ]
    for part, caps in refused:
        with pytest.raises(RelayError) as error:
            sent(of(user(part)), caps)
        assert (error.value.cause, error.value.param) == (Cause.INVALID_MESSAGES, "messages")
    hosted = Tool(name="web_search", raw=Raw(owner="anthropic", label="web_search_20250305", value={}))
    with pytest.raises(RelayError) as error:
        sent(of(user("x"), tools=[hosted]))
    assert error.value.param == "tools"
    assert "web_search_20250305" in error.value.message


def test_a_text_file_is_read_to_a_model_that_takes_no_files() -> None:
    file = Media(kind="document", mime="text/plain", data="aGVsbG8=", name="a.txt")
    content = sent(of(user(file)), capabilities.of("deepseek-chat", "openai")).body["messages"][0]["content"]
    assert content == '<document name="a.txt">\nhello\n</document>'
    assert sent(of(user(file))).body["messages"][0]["content"][0]["type"] == "file"


def test_cache_marks_go_to_models_that_know_them_in_their_own_words() -> None:
    part = {"type": "text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "30m"}}
    request = canonical(messages=[{"role": "user", "content": [part, {"type": "text", "text": "y"}]}])
    assert sent(request, capabilities.of("gpt-5.6", "openai")).body["messages"][0]["content"][0] == part
    claude = sent(request, capabilities.of("anthropic/claude-sonnet-4.5", "openai")).body["messages"][0]["content"][0]
    assert claude["cache_control"] == {"type": "ephemeral", "ttl": "30m"}
    assert "prompt_cache_breakpoint" not in json.dumps(sent(request, capabilities.of("gpt-4o", "openai")).body)


def test_system_turns_in_the_middle_are_the_user_s_where_the_model_knows_none() -> None:
    request = of(
        Message(role="system", parts=[Text(text="a")]), user("x"), Message(role="system", parts=[Text(text="b")])
    )
    roles = [message["role"] for message in sent(request, capabilities.of("gemini-2.5-pro", "openai")).body["messages"]]
    assert roles == ["system", "user", "user"]
    assert [message["role"] for message in sent(request).body["messages"]] == ["system", "user", "system"]


def test_an_address_of_a_user_goes_to_nobody() -> None:
    assert "@" not in sent(of(user("x"), user="alice@example.org")).body["user"]


def test_a_stream_always_asks_for_its_usage() -> None:
    body = sent(of(user("x"), stream=True)).body
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})


def test_one_text_is_a_string_as_every_vendor_takes_it() -> None:
    messages = sent(of(Message(role="system", parts=[Text(text="s")]), user("x"), model("y"))).body["messages"]
    assert [message["content"] for message in messages] == ["s", "x", "y"]


def test_a_picture_of_the_model_s_own_is_shown_to_it_by_the_user() -> None:
    picture = Media(kind="image", mime="image/png", data="AAAA")
    messages = sent(of(user("draw"), model("Here.", picture), user("bluer"))).body["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user", "user"]
    assert messages[2]["content"][1]["type"] == "image_url"


def test_fields_without_a_place_are_named_by_what_the_client_calls_them() -> None:
    assert sent(canonical(chat_template_kwargs={"x": 1}, top_k=4, store=False)).losses == [
        "top_k",
        "chat_template_kwargs",
    ]
    gemini = of(user("x"), owner="gemini", sampling=Sampling(top_k=4), extra={"labels": {"a": "b"}})
    assert sent(gemini).losses == ["generationConfig.topK", "labels"]


@given(st.lists(st.integers(0, 2000), max_size=3))
@settings(max_examples=20)
def test_a_translated_stream_is_the_same_however_it_is_cut(cuts: list[int]) -> None:
    data = wire("openrouter")
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    stream = translating.TranslatedStream(
        DIALECT.decoder(),
        DIALECT.encoder(asked(stream=True), model="m", prompt_tokens=0),
        Encoded(body={}),
        upstream_model="up",
    )
    out = b"".join(stream.feed(data[a:b]) for a, b in itertools.pairwise(edges)) + stream.close() + stream.last(PISCES)
    assert stream.done
    assert stream.failure is None
    found = fold.fold(laws.decoded(DIALECT, out))
    assert found.parts == DIALECT.decode_response(whole("openrouter")).parts
    assert [part for part in found.parts if isinstance(part, PartDelta)] == []
