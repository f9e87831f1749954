"""Anthropic's wire, without a server: answers whole and streamed, as its clients see them and as its upstreams send
them. The pitfalls' numbers are those of the list of protocol facts."""

import itertools
import json
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types import Message as SdkMessage
from anthropic.types import RawMessageStreamEvent
from pydantic import TypeAdapter

from billing.usage import Usage
from relay.errors import Cause, RelayError
from relay.protocols import fold, sse, states
from relay.protocols.anthropic import DIALECT, errors, usage
from relay.protocols.anthropic.encoder import MessagesEncoder
from relay.protocols.anthropic.stream import MessagesStream
from relay.protocols.canonical import (
    Finish,
    Media,
    Opaque,
    Part,
    Raw,
    Reasoning,
    Refusal,
    Response,
    Text,
    ToolCall,
)
from relay.protocols.events import (
    BrokenGrammar,
    Event,
    Failed,
    Finished,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
)
from tests.relay.protocols import laws

WIRE = Path(__file__).parents[2] / "wire" / "anthropic"
ANSWERS = sorted(path.stem for path in WIRE.glob("*.sse") if path.with_suffix(".json").exists())
ASKED = DIALECT.read(b'{"model":"m","max_tokens":10,"messages":[{"role":"user","content":"hi"}],"stream":true}')
PISCES = {"gateway": "Pisces", "request_id": "r-1", "cost": "0.1"}
_sdk_event: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


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


def encoded(*events: Event, tokens: int = 7) -> tuple[bytes, MessagesEncoder]:
    encoder = MessagesEncoder(ASKED, model="offered", prompt_tokens=tokens)
    return b"".join(encoder.feed(event) for event in events), encoder


def streamed(*parts: Part, finish: Finish = Finish.STOP, usage: Usage | None = None) -> list[dict[str, Any]]:
    response = Response(id="x", model="up", parts=list(parts), finish=finish, usage=usage)
    wire, encoder = encoded(*fold.unfold(response))
    return events_of(wire + encoder.last(PISCES))


def sdk_reads(events: list[dict[str, Any]]) -> SdkMessage:
    """What the official SDK makes of a stream; each event is checked against its type first."""
    for event in events:
        if event["type"] != "ping":
            _sdk_event.validate_python(event)
    wire = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=wire)

    with httpx2.Client(transport=httpx2.MockTransport(answer)) as http:
        client = anthropic.Anthropic(api_key="k", base_url="http://127.0.0.1:9", http_client=http)
        with client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}]) as stream:
            return stream.get_final_message()


# ---- laws -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ANSWERS)
def test_a_stream_folds_to_the_same_answer_as_its_whole(name: str) -> None:
    laws.stream_is_its_whole(DIALECT, stream_of(name), whole_of(name))


@pytest.mark.parametrize("name", ["text", "thinking", "tools", "search", "refusal"])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_cutting_the_bytes_anywhere_gives_the_same_events(name: str, ending: bytes) -> None:
    laws.cuts_do_not_matter(DIALECT, stream_of(name).replace(b"\n", ending))


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_is_written_is_read_as_it_was(name: str) -> None:
    laws.response_is_stable(DIALECT, ASKED, DIALECT.decode_response(whole_of(name)))


def test_answers_are_read_for_what_they_say() -> None:
    thinking = DIALECT.decode_response(whole_of("thinking"))
    assert [type(part) for part in thinking.parts] == [Reasoning, Text]
    assert isinstance(thought := thinking.parts[0], Reasoning)
    assert thought.state == Opaque("anthropic", "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds/+bQZ==")
    assert thinking.usage == Usage(input=41, cache_read=2048, cache_write=0, output=14, reasoning=48)
    tools = DIALECT.decode_response(whole_of("tools"))
    assert [part.arguments for part in tools.parts if isinstance(part, ToolCall)] == [
        '{"location": "San Francisco, CA", "unit": "c\\u00b0"}', "", '{"location": "Zürich"}',
    ]  # fmt: skip
    search = DIALECT.decode_response(whole_of("search"))
    assert [part.label for part in search.parts if isinstance(part, Raw)] == [
        "server_tool_use",
        "web_search_tool_result",
    ]
    refusal = DIALECT.decode_response(whole_of("refusal"))
    assert (refusal.finish, refusal.note) == (Finish.FILTER, "It asks for something harmful.")
    assert DIALECT.decode_response(whole_of("stop_sequence")).stop_sequence == "three"


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        ("end_turn", Finish.STOP), ("max_tokens", Finish.LENGTH), ("stop_sequence", Finish.STOP_SEQUENCE),
        ("tool_use", Finish.TOOL_CALLS), ("pause_turn", Finish.PAUSE), ("refusal", Finish.FILTER),
        ("model_context_window_exceeded", Finish.CONTEXT),
    ],
)  # fmt: skip
def test_all_seven_stop_reasons_go_both_ways(word: str, finish: Finish) -> None:
    call = b'{"type":"tool_use","id":"t","name":"f","input":{}}'
    body = b'{"id":"a","model":"m","content":[%s],"stop_reason":"%s"}' % (
        call if word == "tool_use" else b"",
        word.encode(),
    )
    response = DIALECT.decode_response(body)
    assert response.finish is finish
    written = json.loads(DIALECT.encode_response(response, asked=ASKED, model="m", pisces=PISCES))
    assert written["stop_reason"] == word
    assert SdkMessage.model_validate(written).stop_reason == word


def test_a_stop_reason_that_nobody_knows_is_read_and_never_written() -> None:
    body = b'{"id":"a","model":"m","content":[],"stop_reason":"something_new"}'
    written = DIALECT.encode_response(DIALECT.decode_response(body), asked=ASKED, model="m", pisces=PISCES)
    assert json.loads(written)["stop_reason"] == "end_turn"


# ---- an upstream's stream -------------------------------------------------------------------------------------------


def decode(*payloads: object) -> list[Event]:
    decoder = DIALECT.decoder()
    events = [event for payload in payloads for event in decoder.feed(json.dumps(payload).encode())]
    return events + decoder.close()


START = {
    "type": "message_start",
    "message": {"id": "a", "model": "m", "usage": {"input_tokens": 5, "output_tokens": 1}},
}
END = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}
STOP = {"type": "message_stop"}


def delta(index: int, kind: str, field: str, text: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, field: text}}


def opened(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind, **fields}}


def test_an_upstream_that_skips_the_events_around_a_block_is_understood() -> None:
    """Pitfall 7."""
    found = decode(START, delta(-1, "text_delta", "text", "Hel"), delta(-1, "text_delta", "text", "lo"), END, STOP)
    assert fold.fold(found).parts == [Text(text="Hello")]


def test_thoughts_that_are_written_into_a_text_become_a_part_of_their_own() -> None:
    """Pitfall 3, and a second beginning of the message with it."""
    found = decode(
        START, START, opened(0, "text", text=""), delta(0, "thinking_delta", "thinking", "hm"),
        delta(0, "text_delta", "text", "Yes"), END, STOP,
    )  # fmt: skip
    assert fold.fold(found).parts == [Text(), Reasoning(text="hm"), Text(text="Yes")]


def test_text_that_comes_with_the_beginning_of_a_block_is_not_lost() -> None:
    """Pitfall 4."""
    found = decode(
        START, opened(0, "text", text="He"), delta(0, "text_delta", "text", "llo"),
        opened(1, "tool_use", id="t", name="f", input={"a": 1}), {"type": "content_block_stop", "index": 1}, END, STOP,
    )  # fmt: skip
    assert fold.fold(found).parts == [Text(text="Hello"), ToolCall(id="t", name="f", arguments='{"a": 1}')]


def test_a_called_tool_is_the_reason_even_where_the_upstream_says_otherwise() -> None:
    """Pitfall 6."""
    found = decode(START, opened(0, "tool_use", id="t", name="f", input={}), END, STOP)
    assert fold.fold(found).finish is Finish.TOOL_CALLS


def test_usage_is_overwritten_by_what_comes_later_and_never_added() -> None:
    """Pitfall 23: the cache's tokens are in message_start and again in message_delta."""
    wire = stream_of("text")
    assert fold.fold(laws.decoded(DIALECT, wire)).usage == Usage(input=25, cache_read=12, cache_write=30, output=15)
    passing = passed(wire)
    assert passing.usage == Usage(input=25, cache_read=12, cache_write=30, output=15)
    assert fold.fold(decode(START, END, {**END, "usage": {"output_tokens": 11}}, STOP)).usage == Usage(
        input=5, cache_read=0, cache_write=0, output=11
    )


def test_an_upstream_error_in_mid_stream_is_a_failure() -> None:
    """Pitfall 46."""
    *before, last = laws.decoded(DIALECT, stream_of("error"))
    assert isinstance(last, Failed)
    assert (last.error.cause, last.error.message) == (Cause.UNAVAILABLE, "The provider is overloaded: Overloaded")
    assert isinstance(before[-1], PartDelta)


def test_a_stream_that_breaks_off_is_a_failure_and_one_that_only_lacks_its_last_event_is_not() -> None:
    """Pitfall 32: not the last event makes an answer whole."""
    assert isinstance(laws.decoded(DIALECT, stream_of("broken_off"))[-1], Failed)
    assert isinstance(laws.decoded(DIALECT, b"")[-1], Failed)
    assert isinstance(decode(START, END)[-1], Finished)
    wire = stream_of("text").partition(b"event: message_stop")[0]
    assert isinstance(laws.decoded(DIALECT, wire + b"data: [DONE]\n\n")[-1], Finished)


def test_arguments_outside_of_any_call_are_a_failure() -> None:
    assert isinstance(decode(START, delta(0, "input_json_delta", "partial_json", "{}"))[-1], Failed)


def test_several_calls_are_parts_of_their_own() -> None:
    """Pitfall 40: the block's number is no choice's."""
    started = [event for event in laws.decoded(DIALECT, stream_of("tools")) if isinstance(event, PartStarted)]
    assert [event.number for event in started] == [0, 1, 2, 3]


# ---- a client's stream ----------------------------------------------------------------------------------------------


def test_a_client_s_stream_is_what_the_official_sdk_accumulates() -> None:
    """Pitfalls 1 and 2: blocks are numbered without a gap and opened before their deltas, thoughts begin empty."""
    events = streamed(
        Reasoning(text="hm", state=Opaque("anthropic", "sig")),
        Text(text="Hello"),
        ToolCall(id="t1", name="f", arguments='{"a": [1]}'),
        ToolCall(id="t2", name="g"),
        finish=Finish.TOOL_CALLS,
        usage=Usage(input=5, cache_read=6, cache_write=7, output=8, reasoning=9),
    )
    indices = [event["index"] for event in events if event["type"] == "content_block_start"]
    assert indices == [0, 1, 2, 3]
    message = sdk_reads(events)
    assert [block.to_dict() for block in message.content] == [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "text", "text": "Hello"},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": [1]}},
        {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
    ]
    assert message.stop_reason == "tool_use"
    told = message.usage
    assert (told.input_tokens, told.cache_read_input_tokens, told.cache_creation_input_tokens) == (5, 6, 7)
    assert (told.output_tokens, told.output_tokens_details and told.output_tokens_details.thinking_tokens) == (17, 9)
    assert events[-1] == {"type": "message_stop", "pisces": PISCES}
    assert (message.model, message.id) == ("offered", "x")


def test_the_input_is_an_estimate_until_the_upstream_reports() -> None:
    wire, encoder = encoded(Started("a", "up"), Finished(Finish.STOP, Usage(input=41, output=2)), tokens=33)
    start, end, _ = events_of(wire + encoder.last(PISCES))
    assert start["message"]["usage"]["input_tokens"] == 33
    assert end["usage"]["input_tokens"] == 41
    wire, encoder = encoded(Started("a", "up"), Finished(Finish.STOP), tokens=33)
    assert events_of(wire + encoder.last(PISCES))[1]["usage"] == {
        "input_tokens": 33, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0,
    }  # fmt: skip


def test_nothing_ends_before_the_books_are_written() -> None:
    wire, encoder = encoded(*fold.unfold(Response(id="a", model="m", parts=[Text(text="x")], finish=Finish.STOP)))
    assert events_of(wire)[-1]["type"] == "content_block_stop"
    assert [event["type"] for event in events_of(encoder.last(PISCES))] == ["message_delta", "message_stop"]


def test_an_empty_text_is_no_block() -> None:
    """Pitfall 6: Anthropic refuses it when it comes back."""
    events = streamed(Text(), Reasoning(), Text(text="a"), finish=Finish.STOP)
    assert [event["content_block"]["type"] for event in events if event["type"] == "content_block_start"] == ["text"]
    assert [block.type for block in sdk_reads(events).content] == ["text"]
    empty = Response(id="a", model="m", parts=[Text(), Reasoning()], finish=Finish.STOP)
    assert json.loads(DIALECT.encode_response(empty, asked=ASKED, model="m", pisces={}))["content"] == []


def test_a_second_thought_after_a_call_is_a_block_of_its_own() -> None:
    """Pitfall 5."""
    events = streamed(Reasoning(text="a"), ToolCall(id="t", name="f"), Reasoning(text="b"), Text(text="c"))
    assert [block.type for block in sdk_reads(events).content] == ["thinking", "tool_use", "thinking", "text"]


def test_the_reason_is_decided_by_what_was_sent() -> None:
    """Pitfalls 6, 8 and 10."""
    assert sdk_reads(streamed(ToolCall(id="t", name="f"), finish=Finish.STOP)).stop_reason == "tool_use"
    assert sdk_reads(streamed(Text(text="a"), finish=Finish.TOOL_CALLS)).stop_reason == "end_turn"
    assert sdk_reads(streamed(ToolCall(id="t", name="f"), finish=Finish.LENGTH)).stop_reason == "max_tokens"


def test_thoughts_of_other_vendors_are_signed_so_that_they_are_known_again() -> None:
    """Pitfall 18."""
    secret = Opaque("openai", "gAAAA==", "rs_1")
    events = streamed(Reasoning(text="a", state=secret), Reasoning(text="b"), Reasoning(state=secret, redacted=True))
    marked, unsigned, hidden = (block.to_dict() for block in sdk_reads(events).content)
    assert str(marked["signature"]).startswith("pisces.")
    assert states.unwrapped(str(marked["signature"]), native="anthropic") == secret
    assert str(unsigned["signature"]).startswith("pisces.")
    assert states.unwrapped(str(unsigned["signature"]), native="anthropic") is None
    assert states.unwrapped(str(hidden["data"]), native="anthropic") == secret


def test_the_state_of_gemini_s_calls_goes_to_the_client_and_comes_back_to_its_call() -> None:
    """Pitfalls 14 and 15: not in the call's id."""
    parts: list[Part] = [
        Text(text="a", state=Opaque("gemini", "of the text")),
        ToolCall(id="t1", name="f", state=Opaque("gemini", "of the call")),
        ToolCall(id="t2", name="f"),
    ]
    response = Response(id="x", model="m", parts=parts, finish=Finish.TOOL_CALLS)
    whole = json.loads(DIALECT.encode_response(response, asked=ASKED, model="m", pisces={}))["content"]
    content = [block.to_dict() for block in sdk_reads(streamed(*parts, finish=Finish.TOOL_CALLS)).content]
    assert content == whole
    assert [block["id"] for block in whole if block["type"] == "tool_use"] == ["t1", "t2"]
    request = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": content}]}
    assert DIALECT.read(json.dumps(request).encode()).canonical().messages[1].parts == parts


def test_a_refusal_says_why() -> None:
    events: list[Event] = [Started("a", "m"), PartStarted(0, Refusal()), PartDelta(0, "No."), PartEnded(0)]
    wire, encoder = encoded(*events, Finished(Finish.FILTER, note="It is harmful."))
    message = sdk_reads(events_of(wire + encoder.last(PISCES)))
    assert message.stop_reason == "refusal"
    assert message.stop_details is not None
    assert message.stop_details.explanation == "It is harmful."
    assert [block.to_dict() for block in message.content] == [{"type": "text", "text": "No."}]


def test_a_picture_that_a_model_drew_is_shown_as_text() -> None:
    [block] = sdk_reads(streamed(Media(kind="image", mime="image/png", data="iVBORw0KGgo="))).content
    assert block.to_dict()["text"] == "![image](data:image/png;base64,iVBORw0KGgo=)"


def test_calls_of_any_vendor_get_an_id_that_anthropic_takes() -> None:
    [block] = sdk_reads(streamed(ToolCall(id="call:a b/" + "x" * 90, name="f"))).content
    assert block.type == "tool_use"
    assert len(block.id) <= 64
    assert block.id.replace("_", "").replace("-", "").isalnum()


def test_arguments_that_are_no_json_do_not_break_a_whole_answer() -> None:
    response = Response(id="x", model="m", parts=[ToolCall(id="t", name="f", arguments='{"a": ')], finish=Finish.LENGTH)
    written = json.loads(DIALECT.encode_response(response, asked=ASKED, model="m", pisces={}))
    assert written["content"][0]["input"] == {"arguments": '{"a": '}
    assert SdkMessage.model_validate(written).stop_reason == "max_tokens"


def test_a_whole_answer_is_sound_by_the_official_types() -> None:
    for name in ANSWERS:
        response = DIALECT.decode_response(whole_of(name))
        body = json.loads(DIALECT.encode_response(response, asked=ASKED, model="offered", pisces=PISCES))
        assert body["pisces"] == PISCES
        assert SdkMessage.model_validate(body).model == "offered"


def test_encoders_refuse_events_out_of_order() -> None:
    with pytest.raises(BrokenGrammar):
        encoded(Started("a", "m"), PartDelta(0, "x"))
    with pytest.raises(BrokenGrammar):
        encoded(Started("a", "m"), Started("a", "m"))


def test_a_failure_after_the_first_byte_is_an_event_and_no_end() -> None:
    _, encoder = encoded(Started("a", "m"))
    [event] = events_of(encoder.fail(RelayError(Cause.UPSTREAM_ERROR, "It broke."), PISCES))
    assert event["error"]["type"] == "api_error"  # pitfall 33: clients ask again only for this one
    assert event["pisces"] == PISCES


def test_pings_mean_nothing_to_the_sdk() -> None:
    """Pitfall 30."""
    wire, encoder = encoded(Started("a", "m"))
    assert encoder.ping() == passed(b"").ping() == b'event: ping\ndata: {"type":"ping"}\n\n'
    assert events_of(wire + encoder.ping())[-1] == {"type": "ping"}


# ---- passing --------------------------------------------------------------------------------------------------------


def passed(wire: bytes, cuts: tuple[int, ...] = ()) -> MessagesStream:
    return run(wire, cuts)[0]


def run(wire: bytes, cuts: tuple[int, ...] = ()) -> tuple[MessagesStream, bytes]:
    stream = DIALECT.passing(ASKED, model="offered", upstream_model="claude-sonnet-4-5")
    assert isinstance(stream, MessagesStream)
    edges = [0, *cuts, len(wire)]
    out = b"".join(stream.feed(wire[a:b]) for a, b in itertools.pairwise(edges)) + stream.close()
    return stream, out


@pytest.mark.parametrize("name", ANSWERS)
def test_a_passed_stream_keeps_its_bytes_but_for_the_model_and_its_end(name: str) -> None:
    wire = stream_of(name)
    stream, out = run(wire)
    end = stream.last(PISCES)
    before, ends = wire.split(b"event: message_delta")
    model = json.loads(whole_of(name))["model"].encode()
    assert out == before.replace(b'"model":"%s"' % model, b'"model":"offered"')
    assert end.startswith(b"event: message_delta" + ends.split(b"event: message_stop")[0])
    assert events_of(end)[-1] == {"type": "message_stop", "pisces": PISCES}
    response = DIALECT.decode_response(whole_of(name))
    assert (stream.done, stream.failure, stream.usage) == (True, None, response.usage)
    assert (stream.id, stream.finish) == (response.id, response.finish.value)
    assert sdk_reads(events_of(out + end)).stop_reason == json.loads(whole_of(name))["stop_reason"]


@pytest.mark.parametrize("name", ["text", "thinking", "tools"])
def test_a_passed_stream_is_the_same_however_it_is_cut(name: str) -> None:
    wire = stream_of(name)
    whole, out = run(wire)
    for cut in range(1, len(wire), 3):
        stream, same = run(wire, (cut,))
        assert same == out
        assert stream.last(PISCES) == whole.last(PISCES)
        assert stream.output_bytes == whole.output_bytes


@pytest.mark.parametrize("name", [name for name in ANSWERS if name != "search"])
def test_what_passes_is_counted_as_what_is_translated(name: str) -> None:
    whole = DIALECT.whole(whole_of(name), ASKED).seen("claude-sonnet-4-5")
    seen = passed(stream_of(name)).seen
    assert (seen.baseline(), seen.calls) == (whole.baseline(), whole.calls)


def test_long_texts_are_counted_and_not_kept() -> None:
    piece = 'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"some wörds "}}\n\n'  # noqa: E501
    stream, out = run(stream_of("text").split(b"event: content_block_delta")[0] + piece.encode() * 2000)
    assert out.endswith(piece.encode())
    assert stream.seen.waiting < 8192
    assert stream.output_bytes == len("some wörds ".encode()) * 2000


def test_a_passed_error_in_mid_stream_is_a_failure_and_what_came_before_it_stands() -> None:
    stream, out = run(stream_of("error"))
    assert stream.failure is not None
    assert stream.failure.cause is Cause.UNAVAILABLE
    assert events_of(out)[-1]["delta"]["text"] == "Hel"
    assert events_of(stream.fail(stream.failure, PISCES))[0]["error"]["type"] == "overloaded_error"


def test_an_end_without_a_reason_is_no_end() -> None:
    before, _, after = stream_of("text").partition(b"event: message_delta")
    torn = before + b"event: message_stop" + after.partition(b"event: message_stop")[2]
    assert passed(torn).failure is not None
    assert isinstance(laws.decoded(DIALECT, torn)[-1], Failed)


def test_a_passed_stream_that_breaks_off_is_a_failure() -> None:
    assert passed(stream_of("broken_off")).failure is not None
    assert passed(b"").failure is not None
    assert passed(b"data: [DONE]\n\n").failure is not None


def test_events_without_names_get_them_and_comments_pass() -> None:
    """Pitfall: the SDKs overlook every event that has no name."""
    wire = b": keep\n\n" + b"".join(
        b"data: " + data.partition(b"data: ")[2] + b"\n\n" for data in stream_of("text").strip().split(b"\n\n")
    )
    stream, out = run(wire)
    assert out.startswith(b": keep\n\n")
    assert sdk_reads(events_of(out.removeprefix(b": keep\n\n") + stream.last(PISCES))).content[0].to_dict()["text"]


def test_a_second_beginning_does_not_reach_the_client() -> None:
    """Pitfall 3."""
    start, _, rest = stream_of("text").partition(b"event: content_block_start")
    _, out = run(start + start + b"event: content_block_start" + rest)
    assert out.count(b"event: message_start") == 1


def test_text_that_is_no_utf_8_is_a_failure() -> None:
    assert passed(stream_of("text").replace(b"Hello", b"H\xffllo")).failure is not None
    assert passed(stream_of("tools").replace(b"San Fra", b"\xc3\x28")).failure is not None


def test_a_whole_answer_passes_with_what_nobody_here_knows() -> None:
    body = whole_of("search").replace(b'"stop_reason"', b'"container":{"id":"c"},"new_field":1e400,"stop_reason"')
    passed = DIALECT.whole(body, ASKED)
    out = passed.encode(model="offered", pisces=PISCES)
    assert b'"new_field":1e400' in out
    assert b'"encrypted_content":"EqgfCioIARgBIiQ3YTAw"' in out
    assert json.loads(out.replace(b"1e400", b"1"))["model"] == "offered"
    assert (passed.usage, passed.finish) == (DIALECT.decode_response(whole_of("search")).usage, "stop")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"content":null}', b'{"content":[{"type":1}]}', b'{"content":[],"id":7}', b"\xff", b'{"type":"error","error":{"type":"api_error","message":"no"}}'],  # noqa: E501
)  # fmt: skip
def test_what_is_no_answer_is_the_upstream_s_fault(body: bytes) -> None:
    with pytest.raises(RelayError) as raised:
        DIALECT.decode_response(body)
    assert raised.value.cause is Cause.UPSTREAM_ERROR


# ---- usage ----------------------------------------------------------------------------------------------------------


def test_the_buckets_are_disjoint_and_their_sum_is_what_was_reported() -> None:
    """Pitfalls 24 and 25: the cache's share is a bucket of its own, thinking is in the output once."""
    wire = {"input_tokens": 10, "output_tokens": 30, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 40,
            "output_tokens_details": {"thinking_tokens": 25}}  # fmt: skip
    found = usage.decode(json.dumps(wire).encode())
    assert found == Usage(input=10, cache_read=20, cache_write=40, output=5, reasoning=25)
    assert (found.tokens_in, found.tokens_out) == (70, 30)
    assert usage.encode(found) == wire


def test_cache_writes_told_by_lifetime_only_are_counted() -> None:
    wire = {"input_tokens": 1, "output_tokens": 1,
            "cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 12}}  # fmt: skip
    found = usage.decode(json.dumps(wire).encode())
    assert found is not None
    assert found.cache_write == 42
    total = usage.decode(json.dumps({**wire, "cache_creation_input_tokens": 42}).encode())
    assert total is not None
    assert total.cache_write == 42


@pytest.mark.parametrize(
    "wire",
    [
        {}, {"input_tokens": 1}, {"input_tokens": -1, "output_tokens": 1}, {"input_tokens": "1", "output_tokens": 1},
        {"input_tokens": 2**41, "output_tokens": 1}, {"input_tokens": 1, "output_tokens": 1.5}, None, [], "x",
        {"input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": -5},
    ],
)  # fmt: skip
def test_usage_that_makes_no_sense_is_none(wire: object) -> None:
    assert usage.decode(json.dumps(wire).encode()) is None


def test_more_thinking_than_output_does_not_make_a_bucket_negative() -> None:
    wire = {"input_tokens": 1, "output_tokens": 5, "output_tokens_details": {"thinking_tokens": 99}}
    assert usage.decode(json.dumps(wire).encode()) == Usage(input=1, cache_read=0, cache_write=0, output=0, reasoning=5)


def test_sound_of_other_vendors_is_in_the_total() -> None:
    told = usage.encode(Usage(input=1, audio_in=2, output=3, audio_out=4, reasoning=5))
    assert (told["input_tokens"], told["output_tokens"]) == (3, 12)


# ---- errors ---------------------------------------------------------------------------------------------------------


def test_errors_are_in_anthropic_s_envelope() -> None:
    body = json.loads(DIALECT.encode_error(RelayError(Cause.INVALID_MESSAGES, "No.", param="messages"), PISCES))
    assert body["type"] == "error"
    assert body["error"]["type"] == "invalid_request_error"
    assert body["request_id"] == "r-1"
    assert anthropic._exceptions.extract_error_code(body) == "invalid_messages"
    for cause in Cause:
        assert json.loads(DIALECT.encode_error(RelayError(cause, "x"), {}))["error"]["type"].endswith(
            ("_error", "_large")
        )


def test_an_upstream_s_refusal_keeps_its_words() -> None:
    """Clients match on them."""
    content = b'{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 209 > 200"}}'
    error = DIALECT.decode_error(400, content, retry_after=None)
    assert (error.cause, error.message, error.status) == (Cause.UPSTREAM_REJECTED, "prompt is too long: 209 > 200", 400)
    again = json.loads(DIALECT.encode_error(error, {}))["error"]
    assert (again["type"], again["message"]) == ("invalid_request_error", "prompt is too long: 209 > 200")


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (401, Cause.UPSTREAM_ERROR), (404, Cause.UPSTREAM_ERROR), (413, Cause.UPSTREAM_REJECTED),
        (429, Cause.RATE_LIMITED), (500, Cause.UPSTREAM_ERROR), (529, Cause.UNAVAILABLE),
    ],
)  # fmt: skip
@pytest.mark.parametrize("content", [b"", b"<html>", b'{"error":"x"}', b'{"error":{"type":1}}', b"\xff"])
def test_any_error_of_an_upstream_is_understood(status: int, cause: Cause, content: bytes) -> None:
    assert DIALECT.decode_error(status, content, retry_after="7").cause is cause
    assert isinstance(errors.decode_in_band(content), RelayError)
