"""OpenAI's Responses: the laws of a codec over its wire, the pitfalls of others, and no bytes that break it."""

import json
import random
import re
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response as SdkResponse
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from billing.usage import Usage
from relay.errors import Cause, RelayError
from relay.protocols import bodies, capabilities, fold
from relay.protocols.canonical import (
    Finish,
    Part,
    Raw,
    Reasoning,
    Request,
    Response,
    Text,
    Thinking,
    ToolCall,
    ToolChoice,
)
from relay.protocols.codec import Asked
from relay.protocols.events import (
    BrokenGrammar,
    Event,
    Failed,
    Finished,
    Grammar,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
)
from relay.protocols.responses import DIALECT, errors, usage
from relay.protocols.responses.decoder import Decoder
from tests.relay.protocols import laws
from tests.relay.protocols.responses_made import (
    TOLD,
    WHOLE,
    WIRE,
    ask,
    events_in,
    opaques,
    parts,
    refused,
    rich,
    whole,
    wire,
)

STREAMS = sorted(path.stem for path in WIRE.glob("*.sse"))


GPT5 = msgspec.structs.replace(capabilities.of("gpt-5", "responses"), input=capabilities.MODALITIES)


def streamed(response: Response, asked: Asked | None = None) -> bytes:
    encoder = DIALECT.encoder(asked or ask(), model="m", prompt_tokens=0)
    return b"".join(encoder.feed(event) for event in fold.unfold(response)) + encoder.last(TOLD)


# ---- the laws -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WHOLE)
def test_a_stream_folds_into_the_same_answer_that_is_read_whole(name: str) -> None:
    laws.stream_is_its_whole(DIALECT, wire(name), whole(name))


@pytest.mark.parametrize("name", STREAMS)
def test_a_cut_at_any_byte_gives_the_same_events(name: str) -> None:
    stream = wire(name)
    expected = _told(stream)
    step = 1 if name in ("tools", "search", "error") else 11  # the long objects at both ends are alike in all
    for cut in range(1, len(stream), step):
        assert _told(stream, [cut]) == expected, cut


def _told(stream: bytes, cuts: Iterable[int] = ()) -> list[object]:
    """Errors are the same by what they say."""
    found = laws.joined(laws.decoded(DIALECT, stream, cuts))
    return [(event.error.cause, event.error.message) if isinstance(event, Failed) else event for event in found]


@pytest.mark.parametrize("name", WHOLE)
def test_an_answer_that_is_written_is_read_as_it_was(name: str) -> None:
    asked = ask()
    response = DIALECT.decode_response(whole(name))
    response.id = asked.id
    response.parts = [part for part in response.parts if not isinstance(part, Raw)]
    for part in response.parts:  # what others show of their thoughts is shown as a summary here
        if isinstance(part, Reasoning):
            part.summary = True
    laws.response_is_stable(DIALECT, asked, response)


def test_what_only_openai_knows_of_an_answer_is_kept_as_it_was_written() -> None:
    response = DIALECT.decode_response(whole("search"))
    asked = ask()
    response.id = asked.id
    laws.response_is_stable(DIALECT, asked, response)
    assert response.parts[0] == Raw(
        owner="responses", label="web_search_call", value=json.loads(whole("search"))["output"][0]
    )


def test_a_request_with_everything_is_stable() -> None:
    body = (WIRE / "request.json").read_bytes()
    laws.request_is_stable(DIALECT, body, GPT5, same=_comparable)
    request = DIALECT.read(body).canonical()
    kinds = [[type(part).__name__ for part in message.parts] for message in request.messages]
    assert kinds == [
        ["Text"],
        ["Text"],
        ["Text", "Media", "Media", "Media", "Media", "Media", "Media"],
        ["Reasoning", "Text", "ToolCall", "ToolCall"],
        ["ToolResult", "ToolResult"],
        ["Refusal", "Raw"],
        ["Raw"],
        ["Text"],
    ]
    assert [message.role for message in request.messages[:3]] == ["system", "system", "user"]
    assert request.choice == ToolChoice(mode="any", names=["shell", "apply_patch", "web_search", "docs"])
    assert (request.thinking, request.verbosity) == (Thinking(effort="high", visible=True), "low")
    assert request.extra == {
        "include": ["web_search_call.action.sources"],
        "truncation": "auto",
        "x_new": {"y": [1, 2.5]},
    }


def _comparable(request: Request) -> Request:
    """Without what is not for the upstream."""
    return msgspec.structs.replace(
        request, extra={name: value for name, value in request.extra.items() if name != "x_new"}, user=None
    )


def test_a_field_that_nobody_knows_is_named_as_lost_in_translation_and_survives_without() -> None:
    body = (WIRE / "request.json").read_bytes()
    asked = DIALECT.read(body)
    encoded = DIALECT.encode_request(asked.canonical(), model="gpt-5", limit=None, caps=GPT5)
    assert encoded.losses == ["x_new"]
    assert b'"x_new":{"y":[1, 2.50]}' in asked.encode(model="gpt-5", limit=None).replace(b'": ', b'":')


calls = st.builds(
    ToolCall,
    id=st.uuids().map(lambda found: f"call_{found.hex}"),
    name=st.sampled_from(["f", "g"]),
    arguments=st.sampled_from(["{}", '{"a":"b\\n"}', '{"a":']),
    custom=st.booleans(),
    state=opaques,
)


numbers = st.integers(0, 10**6)


usages = st.none() | st.builds(
    Usage, input=numbers, cache_read=numbers, cache_write=numbers, audio_in=numbers, output=numbers,
    reasoning=numbers, audio_out=numbers,
)  # fmt: skip


@given(st.lists(parts | calls, max_size=5), st.sampled_from(["stop", "length", "content_filter"]), usages)
@settings(max_examples=60, deadline=None)
def test_any_answer_of_any_vendor_is_read_as_it_was_written(found: list[Part], finish: str, used: Usage | None) -> None:
    asked = ask()
    reason = Finish(finish)
    if reason is Finish.STOP and any(isinstance(part, ToolCall) for part in found):
        reason = Finish.TOOL_CALLS
    response = Response(id=asked.id, model="m", parts=found, finish=reason, usage=used)
    laws.response_is_stable(DIALECT, asked, response)


@given(st.lists(parts | calls, max_size=5), st.data())
@settings(max_examples=40, deadline=None)
def test_any_conversation_comes_back_as_it_went(found: list[Part], data: st.DataObject) -> None:
    """What an answer was told as, the next request brings again, with its state."""
    asked = ask()
    answer = Response(id=asked.id, model="m", parts=found, finish=Finish.STOP)
    output = json.loads(DIALECT.encode_response(answer, asked=asked, model="m", pisces=TOLD))["output"]
    results = [
        {"type": item["type"] + "_output", "call_id": item["call_id"], "output": "ok"}
        for item in output
        if "call_id" in item
    ]
    asked = ask(input=[{"role": "user", "content": "hi"}, *output, *results, {"role": "user", "content": "on"}])
    turn = [message for message in asked.canonical().messages if message.role == "assistant"]
    assert [part for message in turn for part in message.parts] == found


# ---- what the SDK takes ---------------------------------------------------------------------------------------------


_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


FULL = {
    "instructions": "Be brief.", "temperature": 0.3, "top_p": 0.9, "max_output_tokens": 99, "metadata": {"a": "b"},
    "parallel_tool_calls": False, "reasoning": {"effort": "low", "summary": "auto"}, "truncation": "auto",
    "text": {"format": {"type": "json_object"}, "verbosity": "low"}, "tool_choice": {"type": "function", "name": "f"},
    "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False}],
    "store": False, "service_tier": "flex", "user": "u", "top_logprobs": 3,
}  # fmt: skip


def test_the_sdk_s_strict_types_take_an_answer_and_it_repeats_the_request_s_settings() -> None:
    asked = ask(**FULL)
    body = DIALECT.encode_response(rich(), asked=asked, model="offered", pisces=TOLD)
    found = SdkResponse.model_validate_json(body, strict=True)
    assert (found.id, found.model, found.status, found.output_text) == (asked.id, "offered", "completed", "See")
    assert found.usage is not None
    assert found.usage.input_tokens_details.model_dump() == {
        "cached_tokens": 4, "cache_write_tokens": 0, "cache_write_tokens_details": None,
    }  # fmt: skip
    told = json.loads(body)
    assert {name: told[name] for name in FULL} == FULL
    assert told["pisces"] == TOLD
    assert [item["type"] for item in told["output"]] == [
        "reasoning", "message", "image_generation_call", "function_call", "custom_tool_call",
    ]  # fmt: skip


def test_the_sdk_s_strict_types_take_every_event() -> None:
    for stream in (streamed(rich()), streamed(rich(), ask(**FULL)), _failing()):
        for event in events_in(stream):
            _EVENT.validate_json(json.dumps(event), strict=True)


def _failing() -> bytes:
    encoder = DIALECT.encoder(ask(), model="m", prompt_tokens=0)
    begun: list[Event] = [Started("x", "y"), PartStarted(0, Text()), PartDelta(0, "Hel")]
    out = b"".join(encoder.feed(event) for event in begun)
    return out + encoder.fail(RelayError(Cause.UPSTREAM_ERROR, "It broke."), TOLD)


def test_a_stream_obeys_its_grammar() -> None:
    """Pitfalls 32, 34: ids that stay, nothing closed that was not opened, everything closed that was, one end."""
    events = events_in(streamed(rich()))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    ends = {"response.completed", "response.incomplete", "response.failed"}
    assert [event["type"] for event in events if event["type"] in ends] == ["response.completed"]
    assert events[-1]["pisces"] == events[-1]["response"]["pisces"] == TOLD
    ids = {event["response"]["id"] for event in events if "response" in event}
    assert len(ids) == 1
    added = [event["item"]["id"] for event in events if event["type"] == "response.output_item.added"]
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert added == [item["id"] for item in done]
    assert events[-1]["response"]["output"] == done
    open_item: str | None = None
    for event in events:
        match event["type"]:
            case "response.output_item.added":
                assert open_item is None
                open_item = event["item"]["id"]
            case "response.output_item.done":
                open_item = None
            case _ if "item_id" in event:
                assert event["item_id"] == open_item
    prefixes = [item["id"].split("_")[0] for item in done]
    assert prefixes == ["rs", "msg", "ig", "fc", "ctc"]
    assert len({item["id"] for item in done}) == len(done)
    assert [item["call_id"] for item in done[3:]] == ["toolu_1", "toolu_2"]
    assert done[3]["arguments"] == "{}"


def test_a_summary_s_part_is_added_before_its_words_and_a_content_s_before_its_text() -> None:
    """Pitfall 34."""
    kinds = [event["type"] for event in events_in(streamed(rich()))]
    assert kinds.index("response.reasoning_summary_part.added") < kinds.index("response.reasoning_summary_text.delta")
    assert kinds.index("response.content_part.added") < kinds.index("response.output_text.delta")


def test_two_texts_in_a_row_are_one_message() -> None:
    response = Response(id="x", model="m", parts=[Text(text="a"), Text(text="b")], finish=Finish.STOP)
    [item] = events_in(streamed(response))[-1]["response"]["output"]
    assert [part["text"] for part in item["content"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        (Finish.STOP, "completed", None),
        (Finish.STOP_SEQUENCE, "completed", None),
        (Finish.LENGTH, "incomplete", "max_output_tokens"),
        (Finish.CONTEXT, "incomplete", "max_output_tokens"),
        (Finish.FILTER, "incomplete", "content_filter"),
    ],
)
def test_an_answer_that_is_cut_off_is_incomplete_and_says_why(finish: Finish, status: str, reason: str | None) -> None:
    response = Response(id="x", model="m", parts=[Text(text="a")], finish=finish)
    last = events_in(streamed(response))[-1]
    assert (last["type"], last["response"]["status"]) == (f"response.{status}", status)
    assert (last["response"]["incomplete_details"] or {}).get("reason") == reason
    assert last["response"]["output"][-1]["status"] == status


def test_a_prompt_that_was_refused_says_why() -> None:
    response = Response(id="x", model="m", parts=[], finish=Finish.FILTER, note="SAFETY")
    events = events_in(streamed(response))
    assert events[-1]["response"]["output"][0]["content"] == [{"type": "refusal", "refusal": "SAFETY"}]
    grammar = [event["type"] for event in events]
    assert grammar.index("response.output_item.added") < grammar.index("response.refusal.done")


def test_a_stream_that_fails_says_so_twice_and_its_client_may_try_again() -> None:
    """Pitfalls 32, 33: an error that is not the client's fault has no type that says so."""
    *_, error, failed = events_in(_failing())
    assert (error["type"], error["error"]["type"], error["message"]) == ("error", "api_error", "It broke.")
    assert failed["type"] == "response.failed"
    assert failed["response"]["error"] == {"code": "server_error", "message": "It broke."}
    assert failed["sequence_number"] == error["sequence_number"] + 1
    assert failed["response"]["status"] == "failed"
    assert failed["pisces"] == TOLD


def test_a_call_that_a_failure_cuts_off_is_never_done() -> None:
    encoder = DIALECT.encoder(ask(), model="m", prompt_tokens=0)
    begun: list[Event] = [Started("x", "y"), PartStarted(0, ToolCall(id="c", name="rm")), PartDelta(0, '{"path":"/')]
    out = b"".join(encoder.feed(event) for event in begun)
    out += encoder.fail(RelayError(Cause.UPSTREAM_ERROR, "x"), TOLD)
    assert b"output_item.done" not in out
    assert events_in(out)[-1]["response"]["output"] == []


def test_what_a_client_left_is_not_ended() -> None:
    asked = ask()
    encoder = DIALECT.encoder(asked, model="m", prompt_tokens=0)
    encoder.feed(Started("x", "y"))
    assert encoder.last(TOLD) == b""
    assert asked.answered is None


@pytest.mark.parametrize("wrong", [PartDelta(0, "x"), PartStarted(1, Text()), PartEnded(0), Finished(Finish.STOP)])
def test_events_out_of_order_are_not_repaired(wrong: Event) -> None:
    encoder = DIALECT.encoder(ask(), model="m", prompt_tokens=0)
    if not isinstance(wrong, Finished):
        encoder.feed(Started("x", "y"))
    with pytest.raises(BrokenGrammar):
        encoder.feed(wrong)


# ---- upstream streams -----------------------------------------------------------------------------------------------


def test_items_that_came_are_not_lost_with_an_empty_output_at_the_end() -> None:
    """Pitfall 35, both ways: translated, and passed on."""
    assert [type(part) for part in fold.fold(laws.decoded(DIALECT, wire("forgotten_output"))).parts] == [Text, ToolCall]
    asked = ask(stream=True)
    stream = DIALECT.passing(asked, model="m", upstream_model="up")
    out = stream.feed(wire("forgotten_output")) + stream.close() + stream.last(TOLD)
    assert [item["id"] for item in events_in(out)[-1]["response"]["output"]] == ["msg_g", "fc_g"]


def test_arguments_that_come_only_when_they_are_done_are_not_lost() -> None:
    [call] = fold.fold(laws.decoded(DIALECT, wire("only_done"))).parts
    assert isinstance(call, ToolCall)
    assert call.arguments == '{"x":1}'


def test_overlapping_items_are_told_one_after_the_other() -> None:
    found = fold.fold(laws.decoded(DIALECT, wire("overlapping"))).parts
    assert [(part.id, part.arguments) for part in found if isinstance(part, ToolCall)] == [
        ("call_e0", '{"a":1}'),
        ("call_e1", '{"b":2}'),
    ]


def test_a_stream_without_its_end_has_failed() -> None:
    """Pitfalls 32, 46: nothing that was cut off looks whole; and nobody waits for `[DONE]`, which never comes."""
    events = laws.decoded(DIALECT, wire("cut"))
    assert isinstance(events[-1], Failed)
    assert events[-1].error.cause is Cause.UPSTREAM_ERROR
    events = laws.decoded(DIALECT, wire("text") + b"data: [DONE]\n\n")
    assert isinstance(events[-1], Finished)


@pytest.mark.parametrize(("name", "cause"), [("error", Cause.UPSTREAM_ERROR), ("rate_limited", Cause.RATE_LIMITED)])
def test_an_error_in_a_stream_is_a_failure_with_its_cause(name: str, cause: Cause) -> None:
    events = laws.decoded(DIALECT, wire(name))
    assert isinstance(events[-1], Failed)
    assert events[-1].error.cause is cause
    stream = DIALECT.passing(ask(stream=True), model="m", upstream_model="up")
    stream.feed(wire(name))
    assert stream.failure is not None
    assert stream.failure.cause is cause


def test_a_flat_error_event_is_read_too() -> None:
    [event] = Decoder().feed(b'{"type":"error","code":"rate_limit_exceeded","message":"slow","sequence_number":3}')
    assert isinstance(event, Failed)
    assert event.error.cause is Cause.RATE_LIMITED


def test_thoughts_that_are_not_shown_and_have_no_state_are_no_part() -> None:
    assert [type(part) for part in DIALECT.decode_response(whole("silent")).parts] == [Text]


# ---- no bytes break it ----------------------------------------------------------------------------------------------


json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=4)
    | st.sampled_from(["message", "reasoning", "function_call", "input_text", "user", "output_text"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["type", "role", "content", "text", "item", "output", "response", "summary", "id", "delta",
                         "output_index", "call_id", "name", "arguments", "part", "status", "error", "usage"]),
        inner, max_size=5,
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.binary(max_size=80) | json_values.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=300, deadline=None)
def test_no_bytes_break_a_decoder(data: bytes) -> None:
    for read in (DIALECT.decode_response, lambda body: DIALECT.read(body).canonical()):
        try:
            read(data)
        except RelayError:
            pass
    assert isinstance(DIALECT.decode_error(400, data, retry_after="x"), RelayError)
    errors.decode_in_band(data)
    usage.decode(data)
    decoder, grammar = Decoder(), Grammar()
    for event in [*decoder.feed(data), *decoder.feed(data), *decoder.close()]:
        grammar.see(event)
    stream = DIALECT.passing(ask(), model="m", upstream_model="up")
    stream.feed(b"data: " + data + b"\n\n")
    stream.close()
    assert stream.failure is not None or stream.done


KINDS = (
    "response.output_item.added", "response.output_item.done", "response.completed", "response.content_part.done",
    "response.output_text.delta", "response.created", "error", "response.reasoning_summary_text.delta",
    "response.mystery.event.x",
)  # fmt: skip


@given(json_values, st.sampled_from(KINDS))
@settings(max_examples=300, deadline=None)
def test_no_event_breaks_a_stream(value: Any, kind: str) -> None:
    event = {"type": kind, "output_index": 0, "item": value, "part": value, "response": value, "error": value}
    data = json.dumps(event).encode()
    decoder, grammar = Decoder(), Grammar()
    first = b'{"type":"response.output_item.added","output_index":0,"item":{"type":"message"}}'
    for found in [*decoder.feed(first), *decoder.feed(data), *decoder.feed(data), *decoder.close()]:
        grammar.see(found)
    stream = DIALECT.passing(ask(), model="m", upstream_model="up")
    stream.feed(b"data: " + data + b"\n\n")
    stream.close()


@pytest.mark.parametrize("seed", range(3))
def test_no_mutated_wire_breaks_a_stream(seed: int) -> None:
    source = random.Random(seed)
    print(f"seed {seed}")
    for name in STREAMS:
        stream = bytearray(wire(name))
        for _ in range(12):
            at = source.randrange(len(stream))
            stream[at : at + source.randrange(4)] = source.choice(
                [b"", b"{", b'"', b"\\", b"\xff", b"\n\n", b"0", b"}"]
            )
        laws.decoded(DIALECT, bytes(stream))
        passing = DIALECT.passing(ask(), model="m", upstream_model="up")
        passing.feed(bytes(stream))
        passing.close()
        assert passing.failure is not None or passing.done


def test_an_event_of_a_kind_that_is_not_known_may_have_any_shape() -> None:
    decoder = Decoder()
    assert decoder.feed(b'{"type":"response.audio.delta","delta":{"a":1},"output_index":"x"}') == []
    assert not decoder.finished


def test_a_deep_body_is_refused_and_not_followed() -> None:
    deep = b'{"model":"m","input":[{"role":"user","content":' + b'[{"type":"x","y":' * 30_000
    assert refused(DIALECT.read, deep).status == 400
    assert re.fullmatch(r"resp_[0-9a-f]{32}", ask().id)
    assert isinstance(bodies.no_json(RecursionError()), RelayError)
