"""Anthropic's wire, without a server: answers whole and streamed, as its clients see them and as its upstreams send
them. The pitfalls' numbers are those of the list of protocol facts."""

import json
from typing import Any

import pytest
from anthropic.types import Message as SdkMessage

from billing.usage import Usage
from relay.errors import Cause, RelayError
from relay.protocols import fold, states
from relay.protocols.anthropic import DIALECT
from relay.protocols.anthropic.encoder import MessagesEncoder
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
from tests.relay.protocols.anthropic_made import (
    ANSWERS,
    ASKED,
    PISCES,
    events_of,
    passed,
    sdk_reads,
    stream_of,
    whole_of,
)


def encoded(*events: Event, tokens: int = 7) -> tuple[bytes, MessagesEncoder]:
    encoder = MessagesEncoder(ASKED, model="offered", prompt_tokens=tokens)
    return b"".join(encoder.feed(event) for event in events), encoder


def streamed(*parts: Part, finish: Finish = Finish.STOP, usage: Usage | None = None) -> list[dict[str, Any]]:
    response = Response(id="x", model="up", parts=list(parts), finish=finish, usage=usage)
    wire, encoder = encoded(*fold.unfold(response))
    return events_of(wire + encoder.last(PISCES))


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
    assert thinking.usage == Usage(input=41, cache_read=2048, cache_write=0, cache_write_1h=0, output=14, reasoning=48)
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
    told = Usage(input=25, cache_read=12, cache_write=30, cache_write_1h=0, output=15)
    assert fold.fold(laws.decoded(DIALECT, wire)).usage == told
    assert passed(wire).usage == told
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


@pytest.mark.parametrize("given", [{"id": ""}, {"id": None}, {}])
def test_a_call_without_an_id_is_given_one(given: dict[str, Any]) -> None:
    """Compatible upstreams give none. By it the client answers the call."""
    block = {"type": "tool_use", **given, "name": "f", "input": {}}
    answer = {"id": "a", "model": "m", "content": [block, block], "stop_reason": "tool_use"}
    events = [{"type": "content_block_start", "index": number, "content_block": block} for number in range(2)]
    for response in (DIALECT.decode_response(json.dumps(answer).encode()), fold.fold(decode(START, *events, END))):
        ids = [part.id for part in response.parts if isinstance(part, ToolCall)]
        assert (len(set(ids)), all(found.startswith("call_") for found in ids)) == (2, True)


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


def test_a_client_s_stream_tells_cache_writes_by_their_lifetimes_where_these_are_known() -> None:
    used = Usage(input=5, cache_write=7, cache_write_1h=8, output=1)
    wire, encoder = encoded(Started("a", "up", usage=used), Finished(Finish.STOP, used))
    start, end, _ = events_of(wire + encoder.last(PISCES))
    for told in (start["message"]["usage"], end["usage"]):
        assert told["cache_creation_input_tokens"] == 15
        assert told["cache_creation"] == {"ephemeral_5m_input_tokens": 7, "ephemeral_1h_input_tokens": 8}
    message = sdk_reads(events_of(wire + encoder.last(PISCES)))
    assert message.usage.cache_creation is not None
    assert message.usage.cache_creation.ephemeral_1h_input_tokens == 8


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
