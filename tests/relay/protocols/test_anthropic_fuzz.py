"""Whatever comes over Anthropic's wire: no crash but the gateway's own errors, and the laws for answers and requests
that nobody thought of."""

import itertools
import json
import re
from typing import Any, get_args

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.usage import Usage
from relay.errors import RelayError
from relay.protocols import capabilities, fold, sse
from relay.protocols.anthropic import DIALECT, errors, request, usage
from relay.protocols.canonical import (
    EFFORTS,
    Finish,
    Format,
    Mark,
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
from relay.protocols.events import Failed, Finished, Grammar
from tests.relay.protocols import laws
from tests.relay.protocols.anthropic_made import ANSWERS, ASKED, PISCES, stream_of, whole_of
from tests.relay.protocols.test_anthropic_requests import BODY

quietly = settings(deadline=None, max_examples=80)  # others use the machine too, and the first call loads a vocabulary

# ---- bytes ----------------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_words = sorted({word.decode() for word in re.findall(rb'"([a-z_]+)"', BODY + b"".join(map(stream_of, ANSWERS)))})
_known = st.sampled_from(_words)
known_json = st.recursive(
    json_values | _known,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_known, inner, max_size=5),
    max_leaves=12,
)


@st.composite
def mutated(draw: st.DrawFn, sources: list[bytes]) -> bytes:
    """A recording with a few of its bytes changed, left out, doubled or put elsewhere."""
    data = bytearray(draw(st.sampled_from(sources)))
    for _ in range(draw(st.integers(1, 4))):
        at, size = draw(st.integers(0, len(data))), draw(st.integers(0, 40))
        match draw(st.integers(0, 3)):
            case 0:
                del data[at : at + size]
            case 1:
                data[at:at] = data[at : at + size]
            case 2:
                data[at : at + 1] = draw(st.binary(max_size=3))
            case _:
                to = draw(st.integers(0, len(data)))
                data[to:to] = data[at : at + size]
    return bytes(data)


anything = st.binary(max_size=80) | known_json.map(lambda value: json.dumps(value).encode())


def only_the_caller_s(error: RelayError) -> None:
    assert error.status == 400


def read_all(body: bytes) -> None:
    """Every reader of a request, and what can be done with one that was read."""
    for reader in (request.read, request.count_request):
        try:
            asked = reader(body)
            asked.encode(model="up", limit=2000)
            asked.encode(model=asked.model, limit=None)
            asked.input_bound("claude-sonnet-4-5")
            wanted = asked.canonical()
            asked.prompt()
            for caps in (
                capabilities.of("claude-opus-5-5", "anthropic"),
                capabilities.of("claude-3-haiku", "anthropic"),
            ):
                msgspec.json.encode(DIALECT.encode_request(wanted, model="up", limit=None, caps=caps).body)
        except RelayError as error:
            only_the_caller_s(error)


@quietly
@given(anything | mutated([BODY]))
def test_no_bytes_break_the_readers_of_requests(body: bytes) -> None:
    read_all(body)


@quietly
@given(st.dictionaries(_known, known_json, max_size=4), st.lists(known_json, max_size=3), known_json)
def test_no_fields_break_the_readers_of_requests(fields: dict[str, Any], blocks: list[Any], system: Any) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": blocks}], "system": system, **fields}
    read_all(json.dumps(body).encode())


@quietly
@given(anything | mutated([whole_of(name) for name in ANSWERS]))
def test_no_bytes_break_the_readers_of_answers(body: bytes) -> None:
    try:
        DIALECT.decode_response(body)
        whole = DIALECT.whole(body, ASKED)
        whole.encode(model="m", pisces=PISCES)
        whole.seen("claude").baseline()
    except RelayError:
        pass
    usage.decode(body)
    for status in (200, 400, 429, 529):
        assert isinstance(errors.decode(status, body, retry_after="x"), RelayError)
    assert isinstance(errors.decode_in_band(body), RelayError)


@quietly
@given(
    mutated([stream_of(name) for name in (*ANSWERS, "error")])
    | st.lists(anything, max_size=4).map(lambda events: b"".join(b"data: " + event + b"\n\n" for event in events))
)
def test_no_bytes_break_a_stream(wire: bytes) -> None:
    decoder, grammar = DIALECT.decoder(), Grammar()
    encoder = DIALECT.encoder(ASKED, model="m", prompt_tokens=1)
    splitter = sse.Splitter()
    found = []
    for frame in [*splitter.feed(wire), *splitter.close()]:
        data = sse.payload(frame)
        found += decoder.feed(data) if data is not None else []
    found += decoder.close()
    for event in found:
        grammar.see(event)
        if not isinstance(event, Failed):
            encoder.feed(event)
    assert isinstance(found[-1], Finished | Failed)
    assert decoder.feed(b"{}") == decoder.close() == []
    passing = DIALECT.passing(ASKED, model="m", upstream_model="claude")
    out = passing.feed(wire) + passing.close()
    assert passing.failure is not None or passing.finish
    passing.seen.baseline()
    if passing.failure is None:
        passing.last(PISCES)
    assert len(out) <= len(wire) * 2 + 200


def test_a_flood_of_bytes_takes_no_memory() -> None:
    decoder = DIALECT.decoder()
    start = b'{"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"a"}}'
    piece = b'{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"%s"}}' % (
        b"x" * 10**6
    )
    events = decoder.feed(start)
    for _ in range(20):
        events += decoder.feed(piece)
    assert isinstance(events[-1], Failed)


# ---- the laws -------------------------------------------------------------------------------------------------------

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
spoken = words.filter(lambda text: text.strip() != "")
ids = st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True)
signed = st.builds(Opaque, st.just("anthropic"), st.from_regex(r"[A-Za-z0-9+/]{4,12}=?", fullmatch=True))
foreign = st.builds(Opaque, st.sampled_from(["openai", "gemini"]), spoken, ids)
objects = st.dictionaries(words, st.integers() | words, min_size=1, max_size=3).map(json.dumps)
marks = st.none() | st.builds(Mark, st.sampled_from([None, "5m", "1h"]))
numbers = st.integers(0, 10**6)

answered_parts = st.one_of(
    st.builds(Text, text=spoken, citations=st.lists(st.just({"type": "char_location", "cited_text": "x"}), max_size=2)),
    st.builds(Reasoning, text=words, state=signed),
    st.builds(Reasoning, text=spoken, state=st.none() | foreign),
    st.builds(Reasoning, state=signed, redacted=st.just(True)),
    st.builds(ToolCall, id=ids, name=ids, arguments=objects | st.just("")),
    st.just(
        Raw(owner="anthropic", label="web_search_tool_result", value={"type": "web_search_tool_result", "content": []})
    ),
)
usages = st.none() | st.builds(
    Usage, input=numbers, cache_read=numbers, cache_write=numbers, cache_write_1h=st.none() | numbers, output=numbers,
    reasoning=st.none() | numbers,
)  # fmt: skip


@st.composite
def answers(draw: st.DrawFn) -> Response:
    parts = draw(st.lists(answered_parts, max_size=5))
    finish = draw(st.sampled_from([Finish.STOP, Finish.LENGTH, Finish.FILTER, Finish.PAUSE, Finish.STOP_SEQUENCE]))
    if finish is Finish.STOP and any(isinstance(part, ToolCall) for part in parts):
        finish = Finish.TOOL_CALLS
    stopped = draw(spoken) if finish is Finish.STOP_SEQUENCE else None
    note = draw(st.none() | spoken) if finish is Finish.FILTER else None
    return Response(
        id=draw(ids), model="m", parts=parts, finish=finish, stop_sequence=stopped, note=note, usage=draw(usages)
    )


@quietly
@given(answers())
def test_any_answer_is_read_as_it_was_written(response: Response) -> None:
    if response.usage is None:  # an SDK wants numbers; none of them are zeros here
        response.usage = Usage(input=0, cache_read=0, cache_write=0, output=0)
    laws.response_is_stable(DIALECT, ASKED, response)


@quietly
@given(answers(), st.lists(st.integers(0, 4000), max_size=6))
def test_any_stream_is_the_same_wherever_it_is_cut(response: Response, cuts: list[int]) -> None:
    encoder = DIALECT.encoder(ASKED, model="m", prompt_tokens=3)
    wire = b"".join(encoder.feed(event) for event in fold.unfold(response)) + encoder.last(PISCES)
    inside = [cut for cut in cuts if cut <= len(wire)]
    assert laws.joined(laws.decoded(DIALECT, wire, inside)) == laws.joined(laws.decoded(DIALECT, wire))


states_of_any = st.none() | signed | foreign
media = st.one_of(
    st.builds(
        Media,
        kind=st.just("image"),
        mime=st.sampled_from(["image/png", "image/webp"]),
        data=st.just("AAAA"),
        mark=marks,
    ),
    st.builds(Media, kind=st.just("image"), url=st.just("https://example.com/x.png"), name=st.none() | spoken),
    st.builds(Media, kind=st.just("document"), text=spoken, name=st.none() | spoken),
)
parts_of_user = st.one_of(
    st.builds(Text, text=words, mark=marks, state=states_of_any), st.builds(Refusal, text=words), media,
    st.builds(
        ToolResult, call=ids, parts=st.lists(st.builds(Text, text=words) | media, max_size=3), failed=st.booleans()
    ),
)  # fmt: skip
parts_of_model = st.one_of(
    st.builds(Text, text=words, state=states_of_any), st.builds(Refusal, text=words), media,
    st.builds(Reasoning, text=words, state=states_of_any, redacted=st.booleans()),
    st.builds(ToolCall, id=ids, name=spoken, arguments=words | objects, custom=st.booleans(), state=states_of_any),
)  # fmt: skip
messages = st.lists(
    st.builds(Message, role=st.just("user"), parts=st.lists(parts_of_user, max_size=4), name=st.none() | ids)
    | st.builds(Message, role=st.just("assistant"), parts=st.lists(parts_of_model, max_size=4))
    | st.builds(Message, role=st.just("system"), parts=st.lists(st.builds(Text, text=words, mark=marks), max_size=2)),
    max_size=6,
)
tools = st.lists(
    st.builds(
        Tool, name=ids, description=words, custom=st.booleans(), mark=marks, strict=st.none() | st.booleans(),
        schema=st.none() | st.just({"type": "object", "properties": {"a": {"type": "string"}}}),
    ),
    max_size=3, unique_by=lambda tool: tool.name,
)  # fmt: skip
requests = st.builds(
    Request,
    model=st.just("m"),
    messages=messages,
    owner=st.sampled_from(["openai", "gemini", "anthropic"]),
    tools=tools,
    choice=st.none() | st.builds(ToolChoice, mode=st.sampled_from(["auto", "any", "none"])),
    parallel=st.none() | st.booleans(),
    sampling=st.builds(
        Sampling, temperature=st.none() | st.floats(0, 2), top_p=st.none() | st.floats(0, 1),
        stop=st.lists(words, max_size=2),
    ),
    limit=st.none() | st.integers(1, 200_000),
    thinking=st.none() | st.builds(
        Thinking, effort=st.none() | st.sampled_from(EFFORTS), budget=st.none() | st.integers(-1, 40_000),
        visible=st.none() | st.booleans(),
    ),
    format=st.none() | st.builds(Format, schema=st.none() | st.just({"type": "object"})),
    stream=st.booleans(),
    user=st.none() | spoken,
    extra=st.dictionaries(ids, words, max_size=1),
)  # fmt: skip
MODELS = ["claude-3-haiku-20240307", "claude-sonnet-4-5", "claude-sonnet-4-6", "claude-opus-5-5", "unknown"]


@quietly
@given(requests, st.sampled_from(MODELS), st.none() | st.integers(1, 10_000))
def test_any_request_keeps_to_the_vendor_s_rules(wanted: Request, model: str, limit: int | None) -> None:
    caps = capabilities.of(model, "anthropic")
    try:
        found = DIALECT.encode_request(wanted, model=model, limit=limit, caps=caps)
    except RelayError as error:
        only_the_caller_s(error)
        return
    body = json.loads(msgspec.json.encode(found.body))
    assert body["max_tokens"] <= (limit or wanted.limit or 200_000)
    keeps_the_rules_of_turns(body["messages"], prefill=caps.prefill)
    thinking = body.get("thinking", {})
    if thinking.get("type") == "enabled":
        assert 1024 <= thinking["budget_tokens"] < body["max_tokens"]
    if thinking.get("type") in ("enabled", "adaptive") or caps.thinking_always:
        assert not body.keys() & {"temperature", "top_k"}
        assert body.get("top_p", 1) >= 0.95
        assert body.get("tool_choice", {}).get("type") not in ("any", "tool")
    assert len(re.findall('"cache_control"', json.dumps(body))) <= 4
    again = DIALECT.read(json.dumps(body).encode()).canonical()
    assert len(again.tools) == len(wanted.tools)


def keeps_the_rules_of_turns(turns: list[dict[str, Any]], *, prefill: bool) -> None:
    assert turns[0]["role"] == "user"
    assert all(one["role"] != other["role"] for one, other in itertools.pairwise(turns))
    if not prefill:
        assert turns[-1]["role"] != "assistant"
    called: list[str] = []
    for turn in turns:
        assert turn["content"]
        kinds = [block["type"] for block in turn["content"]]
        results = [block["tool_use_id"] for block in turn["content"] if block["type"] == "tool_result"]
        assert results == called
        assert kinds[: len(results)] == ["tool_result"] * len(results)
        called = [block["id"] for block in turn["content"] if block["type"] == "tool_use"]
        assert all(block["text"].strip() for block in turn["content"] if block["type"] == "text")
        if turn["role"] == "assistant":
            assert set(kinds) <= {"text", "tool_use", "thinking", "redacted_thinking"}
    assert not called
    calls = [block["id"] for turn in turns for block in turn["content"] if block["type"] == "tool_use"]
    assert len(set(calls)) == len(calls)


@quietly
@given(requests)
def test_what_was_written_is_read_and_written_again_without_a_change(wanted: Request) -> None:
    """decode∘encode∘decode is decode, for the models that take all of it."""
    caps = capabilities.of("claude-opus-5-5", "anthropic")
    try:
        body = msgspec.json.encode(DIALECT.encode_request(wanted, model="m", limit=None, caps=caps).body)
    except RelayError:
        return
    laws.request_is_stable(DIALECT, body, caps)


def test_every_finish_has_a_word() -> None:
    for finish in Finish:
        DIALECT.encode_response(Response(id="a", model="m", parts=[], finish=finish), asked=ASKED, model="m", pisces={})
    assert {type(part) for part in (Text(), Refusal(), Reasoning())} <= set(get_args(Part))
