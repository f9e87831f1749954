"""OpenAI's Responses: the laws of a codec over its wire, the pitfalls of others, and no bytes that break it."""

import itertools
import json
import random
import re
from collections.abc import Iterable
from pathlib import Path
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
from relay.protocols import capabilities, customs, fold, sse, states
from relay.protocols.canonical import (
    Finish,
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
from relay.protocols.codec import Asked, Encoded
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
from relay.protocols.responses import DIALECT, errors, kept, reading, usage
from relay.protocols.responses.decoder import Decoder
from relay.protocols.responses.request import ResponsesRequest
from relay.protocols.translating import TranslatedStream, restored
from tests.relay.protocols import laws

WIRE = Path(__file__).parents[2] / "wire" / "responses"
WHOLE = sorted(path.stem for path in WIRE.glob("*.json") if path.stem != "request")
STREAMS = sorted(path.stem for path in WIRE.glob("*.sse"))
GPT5 = msgspec.structs.replace(capabilities.of("gpt-5", "responses"), input=capabilities.MODALITIES)
TOLD = {"gateway": "Pisces", "cost": "0.1"}


def wire(name: str) -> bytes:
    return (WIRE / f"{name}.sse").read_bytes()


def whole(name: str) -> bytes:
    return (WIRE / f"{name}.json").read_bytes()


def ask(**fields: Any) -> ResponsesRequest:
    return DIALECT.read(json.dumps({"model": "m", "input": "hi", **fields}).encode())  # type: ignore[return-value]


def streamed(response: Response, asked: Asked | None = None) -> bytes:
    encoder = DIALECT.encoder(asked or ask(), model="m", prompt_tokens=0)
    return b"".join(encoder.feed(event) for event in fold.unfold(response)) + encoder.last(TOLD)


def events_in(stream: bytes) -> list[dict[str, Any]]:
    """Every event's data; each bears its type in its `event:` line too, and no `id:`."""
    found = []
    for frame in sse.Splitter().feed(stream):
        if frame.startswith(b":"):
            continue
        lines = frame.split(b"\n")
        assert len(lines) == 2
        data = json.loads(lines[1].removeprefix(b"data: "))
        assert lines[0] == b"event: " + data["type"].encode()
        found.append(data)
    return found


def refused(call: Any, *arguments: Any, **named: Any) -> RelayError:
    with pytest.raises(RelayError) as caught:
        call(*arguments, **named)
    return caught.value


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
        owner="openai", label="web_search_call", value=json.loads(whole("search"))["output"][0]
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


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
some_text = texts.filter(bool)
opaques = st.none() | st.builds(Opaque, st.sampled_from(["anthropic", "gemini"]), some_text)
parts = st.one_of(
    st.builds(Text, text=texts),
    st.builds(Refusal, text=texts),
    st.builds(Reasoning, text=some_text, state=opaques, summary=st.just(True)),
    st.builds(Reasoning, state=st.builds(Opaque, st.just("anthropic"), some_text), redacted=st.just(True)),
    st.builds(Media, kind=st.just("image"), mime=st.sampled_from(["image/png", "image/webp"]), data=st.just("aGk=")),
)
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


def _rich() -> Response:
    return Response(
        id="up", model="up", finish=Finish.TOOL_CALLS,
        parts=[
            Reasoning(text="Hm.", state=Opaque("anthropic", "sig"), summary=True),
            Text(text="See", citations=[{"url": "https://example.org", "title": "T", "end_index": 3}]),
            Refusal(text="No"),
            Media(kind="image", mime="image/png", data="aGk="),
            ToolCall(id="toolu_1", name="f", arguments=""),
            ToolCall(id="toolu_2", name="p", arguments="*** Begin", custom=True),
        ],
        usage=Usage(input=10, cache_read=4, output=7, reasoning=2),
    )  # fmt: skip


FULL = {
    "instructions": "Be brief.", "temperature": 0.3, "top_p": 0.9, "max_output_tokens": 99, "metadata": {"a": "b"},
    "parallel_tool_calls": False, "reasoning": {"effort": "low", "summary": "auto"}, "truncation": "auto",
    "text": {"format": {"type": "json_object"}, "verbosity": "low"}, "tool_choice": {"type": "function", "name": "f"},
    "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False}],
    "store": False, "service_tier": "flex", "user": "u", "top_logprobs": 3,
}  # fmt: skip


def test_the_sdk_s_strict_types_take_an_answer_and_it_repeats_the_request_s_settings() -> None:
    asked = ask(**FULL)
    body = DIALECT.encode_response(_rich(), asked=asked, model="offered", pisces=TOLD)
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
    for stream in (streamed(_rich()), streamed(_rich(), ask(**FULL)), _failing()):
        for event in events_in(stream):
            _EVENT.validate_json(json.dumps(event), strict=True)


def _failing() -> bytes:
    encoder = DIALECT.encoder(ask(), model="m", prompt_tokens=0)
    begun: list[Event] = [Started("x", "y"), PartStarted(0, Text()), PartDelta(0, "Hel")]
    out = b"".join(encoder.feed(event) for event in begun)
    return out + encoder.fail(RelayError(Cause.UPSTREAM_ERROR, "It broke."), TOLD)


def test_a_stream_obeys_its_grammar() -> None:
    """Pitfalls 32, 34: ids that stay, nothing closed that was not opened, everything closed that was, one end."""
    events = events_in(streamed(_rich()))
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
    kinds = [event["type"] for event in events_in(streamed(_rich()))]
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


# ---- passing --------------------------------------------------------------------------------------------------------


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


# ---- requests -------------------------------------------------------------------------------------------------------


def test_the_client_s_bytes_are_untouched_where_nothing_has_to_change() -> None:
    body = b'{"model":"m", "input" : "hi","unknown":[1.50,{"z":null}] }'
    asked = DIALECT.read(body)
    assert asked.encode(model="m", limit=None) is asked.body  # type: ignore[attr-defined]
    changed = json.loads(asked.encode(model="up", limit=77))
    assert changed == {"model": "up", "input": "hi", "unknown": [1.5, {"z": None}], "max_output_tokens": 77}


def test_our_key_and_a_second_spelling_of_a_field_do_not_reach_the_upstream() -> None:
    body = b'{"model":"cheap","model":"m","input":"hi","api_key":"pisces-x"}'
    sent = DIALECT.read(body).encode(model="m", limit=None)
    assert json.loads(sent) == {"model": "m", "input": "hi"}
    assert sent.count(b"model") == 1


@pytest.mark.parametrize(
    ("body", "cause", "param"),
    [
        (b"", Cause.INVALID_JSON, None),
        (b"[]", Cause.INVALID_JSON, None),
        (b'{"model":"m","input":"\xff"}', Cause.INVALID_JSON, None),
        (b'{"model":"m","input":' + b"[" * 100_000, Cause.INVALID_JSON, None),
        (b'{"model":1,"input":"x"}', Cause.INVALID_PARAMETER, "model"),
        (b'{"model":"m"}', Cause.INVALID_MESSAGES, "input"),
        (b'{"model":"m","input":""}', Cause.INVALID_MESSAGES, "input"),
        (b'{"model":"m","input":[]}', Cause.INVALID_MESSAGES, "input"),
        (b'{"model":"m","input":[1]}', Cause.INVALID_MESSAGES, "input"),
        (b'{"model":"m","input":{}}', Cause.INVALID_MESSAGES, "input"),
        (b'{"model":"m","input":"x","Model":"y"}', Cause.INVALID_PARAMETER, "Model"),
        (b'{"model":"m","input":"x","max_output_tokens":-1}', Cause.INVALID_PARAMETER, "max_output_tokens"),
        (b'{"model":"m","input":"x","max_output_tokens":0}', Cause.INVALID_PARAMETER, "max_output_tokens"),
        (b'{"model":"m","input":"x","stream":"yes"}', Cause.INVALID_PARAMETER, "stream"),
        (b'{"model":"m","input":"x","background":true}', Cause.INVALID_PARAMETER, "background"),
        (b'{"model":"m","input":"x","conversation":"conv_1"}', Cause.INVALID_PARAMETER, "conversation"),
        (b'{"model":"m","input":"x","prompt":{"id":"pmpt_1"}}', Cause.INVALID_PARAMETER, "prompt"),
    ],
)
def test_a_malformed_request_is_refused_by_the_field_s_name(body: bytes, cause: Cause, param: str | None) -> None:
    error = refused(DIALECT.read, body)
    assert (error.cause, error.param, error.status) == (cause, param, 400)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": [{"role": "robot", "content": "x"}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": 7}]}]}, "input[0]"),
        ({"input": [{"type": "function_call", "call_id": "c"}]}, "input[0]"),
        ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0]"),
        ({"tools": [{"name": "f"}]}, "tools"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tools": [{"type": "function", "name": "f", "parameters": []}]}, "tools"),
        ({"tool_choice": "perhaps"}, "tool_choice"),
        ({"tool_choice": {"name": "f"}}, "tool_choice"),
        ({"text": {"format": {"type": "xml"}}}, "text.format"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"temperature": "hot"}, "temperature"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_name(fields: dict[str, Any], param: str) -> None:
    error = refused(lambda: ask(**fields).canonical())
    assert (error.status, error.param) == (400, param)


def test_text_and_reasoning_settings_and_the_schema_are_flat_here() -> None:
    asked = ask(
        reasoning={"effort": "minimal"},
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}, "verbosity": "high"},
        max_output_tokens=50,
    )
    body = encoded(asked.canonical()).body
    assert body["reasoning"] == {"effort": "minimal"}
    assert body["text"]["format"] == {"type": "json_schema", "name": "n", "schema": {"type": "object"}}
    assert body["max_output_tokens"] == 50


# ---- for an upstream of this protocol -------------------------------------------------------------------------------


def encoded(request: Request, model: str = "gpt-5", limit: int | None = None) -> Encoded:
    return DIALECT.encode_request(request, model=model, limit=limit, caps=capabilities.of(model, "responses"))


def said(*parts: Part, **fields: Any) -> Request:
    return Request(model="m", messages=[Message(role="user", parts=list(parts))], **fields)


def test_nothing_is_kept_upstream_and_the_state_of_thoughts_comes_back() -> None:
    body = encoded(said(Text(text="hi"))).body
    assert (body["store"], body["include"]) == (False, ["reasoning.encrypted_content"])
    assert "include" not in encoded(said(Text(text="hi")), "gpt-4o").body  # which has no thoughts, and refuses it


@pytest.mark.parametrize(
    ("thinking", "owner", "expected"),
    [
        (Thinking(effort="high"), "openai", {"effort": "high"}),
        (Thinking(effort="max"), "openai", {"effort": "high"}),
        (Thinking(budget=3000), "anthropic", {"effort": "medium", "summary": "auto"}),
        (Thinking(budget=3000, visible=False), "anthropic", {"effort": "medium"}),
        (Thinking(adaptive=True), "anthropic", {"summary": "auto"}),
        (Thinking(budget=-1, visible=True), "gemini", {"summary": "auto"}),
        (Thinking(budget=0), "gemini", {"effort": "minimal"}),
    ],
)
def test_thinking_is_asked_for_as_near_as_the_model_has_it(
    thinking: Thinking, owner: Any, expected: dict[str, str]
) -> None:
    assert encoded(said(Text(text="hi"), thinking=thinking, owner=owner)).body["reasoning"] == expected


def test_what_there_is_no_field_for_is_named_as_the_client_wrote_it() -> None:
    sampling = Sampling(temperature=0.2, top_p=0.9, top_k=40, seed=7, stop=["\n"], frequency_penalty=1.0, logprobs=2)
    names = {
        "openai": ["frequency_penalty", "logprobs", "seed", "stop", "temperature", "top_k", "top_p"],
        "anthropic": ["frequency_penalty", "logprobs", "seed", "stop_sequences", "temperature", "top_k", "top_p"],
        "gemini": ["frequencyPenalty", "responseLogprobs", "seed", "stopSequences", "temperature", "topK", "topP"],
    }
    for owner, expected in names.items():
        request = said(Text(text="hi"), sampling=sampling, owner=owner)
        assert sorted(encoded(request).losses) == expected
        plain = encoded(request, "gpt-4o")
        assert (plain.body["temperature"], plain.body["top_p"]) == (0.2, 0.9)
        assert "stop" not in plain.body


def test_a_tool_is_not_made_strict_because_it_says_nothing() -> None:
    tools = [Tool(name="f"), Tool(name="g", schema={"type": "object"}, strict=True)]
    found = encoded(said(Text(text="hi"), tools=tools)).body["tools"]
    assert [(tool["name"], tool["strict"]) for tool in found] == [("f", False), ("g", True)]


def test_a_long_name_is_shortened_everywhere_and_found_again() -> None:
    """Pitfalls 16, 17: names and ids from elsewhere that are longer than OpenAI takes."""
    name, call = "mcp__" + "x" * 90, "toolu_" + "y" * 90
    request = Request(
        model="m",
        messages=[
            Message(role="user", parts=[Text(text="hi")]),
            Message(role="assistant", parts=[ToolCall(id=call, name=name, arguments="")]),
            Message(role="user", parts=[ToolResult(call=call, parts=[Text(text="ok")])]),
        ],
        tools=[Tool(name=name)],
        choice=ToolChoice(mode="tool", names=[name]),
    )
    sent = encoded(request)
    short = sent.body["tools"][0]["name"]
    assert len(short) <= 64
    assert sent.names == {short: name}
    assert sent.body["tool_choice"] == {"type": "function", "name": short}
    _, function_call, output = sent.body["input"]
    assert (function_call["name"], function_call["arguments"]) == (short, "{}")
    assert len(function_call["call_id"]) <= 64
    assert function_call["call_id"] == output["call_id"]


def test_calls_without_results_and_results_without_calls_are_mended() -> None:
    """Pitfall 20."""
    request = Request(
        model="m",
        messages=[
            Message(role="assistant", parts=[ToolCall(id="a", name="f", arguments="{}")]),
            Message(role="user", parts=[ToolResult(call="b", parts=[Text(text="lost")]), Text(text="on")]),
        ],
    )
    items = encoded(request).body["input"]
    assert [item["type"] for item in items] == ["function_call", "function_call_output", "message"]
    assert items[1]["call_id"] == "a"
    assert "lost" in json.dumps(items[2])


def test_a_picture_in_a_tool_s_result_is_not_dropped() -> None:
    """Pitfall 22."""
    request = Request(
        model="m",
        messages=[
            Message(role="assistant", parts=[ToolCall(id="a", name="f")]),
            Message(
                role="user",
                parts=[ToolResult(call="a", failed=True, parts=[Media(kind="image", mime="image/png", data="aGk=")])],
            ),
        ],
    )
    output = encoded(request).body["input"][1]["output"]
    assert output == [
        {"type": "input_text", "text": "Error: "},
        {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,aGk="},
    ]


def test_only_openai_s_own_state_goes_to_openai_and_byte_for_byte() -> None:
    """Pitfalls 14, 15, 18."""
    thoughts: list[Part] = [
        Reasoning(text="mine", summary=True, state=Opaque("openai", "gAAA==", "rs_1")),
        Reasoning(text="theirs", state=Opaque("anthropic", "sig")),
        Reasoning(redacted=True, state=Opaque("anthropic", "data")),
        Reasoning(text="nobody's"),
        ToolCall(id="c", name="f", arguments="{}", state=Opaque("gemini", "sig")),
    ]
    request = Request(
        model="m",
        messages=[
            Message(role="assistant", parts=thoughts),
            Message(role="user", parts=[ToolResult(call="c", parts=[Text(text="ok")])]),
        ],
    )
    items = encoded(request).body["input"]
    assert [item["type"] for item in items] == ["reasoning", "function_call", "function_call_output"]
    assert items[0] == {
        "type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "mine"}],
        "encrypted_content": "gAAA==",
    }  # fmt: skip
    assert "sig" not in json.dumps(items)


def test_another_vendor_s_thoughts_do_not_pass_to_openai_and_its_own_do() -> None:
    """Pitfall 18, for a conversation that changes its upstream and is not translated."""
    foreign = states.wrapped(Opaque("anthropic", "sig"), native="openai")
    moved = states.wrapped(Opaque("openai", "gAAA==", "rs_up"), native="anthropic")
    ours = f"rs_{'0' * 32}_0"
    items = [
        {"role": "user", "content": "hi"},
        {"type": "reasoning", "id": ours, "summary": [], "encrypted_content": foreign},
        {"type": "reasoning", "id": ours, "summary": [{"type": "summary_text", "text": "x"}]},
        {"type": "reasoning", "id": ours, "summary": [], "encrypted_content": moved},
        {"type": "reasoning", "id": "rs_theirs", "summary": []},
    ]
    sent = json.loads(ask(input=items).encode(model="m", limit=None))["input"]
    assert sent == [
        items[0],
        {"type": "reasoning", "id": "rs_up", "summary": [], "encrypted_content": "gAAA=="},
        items[4],
    ]


@pytest.mark.parametrize(
    "part",
    [
        Raw(owner="anthropic", label="server_tool_use", value={}),
        Media(kind="image", file="file_1", owner="anthropic"),
        Media(kind="video", mime="video/mp4", data="aGk="),
        Media(kind="audio", mime="audio/wav", data="aGk="),
    ],
)
def test_what_the_model_cannot_be_shown_is_refused_and_not_dropped(part: Part) -> None:
    assert refused(encoded, said(part)).status == 400


def test_a_tool_that_another_vendor_runs_is_refused_by_its_name() -> None:
    tool = Tool(name="web_search", raw=Raw(owner="anthropic", label="web_search_20250305", value={}))
    error = refused(encoded, said(Text(text="hi"), tools=[tool]))
    assert "web_search_20250305" in error.message


def test_a_model_without_custom_tools_gets_functions_and_only_those_that_may_be_called() -> None:
    """Pitfall 36, for older models of the same protocol."""
    request = Request(
        model="m",
        messages=[
            Message(role="user", parts=[Text(text="hi")]),
            Message(role="assistant", parts=[ToolCall(id="c", name="patch", arguments="*** x", custom=True)]),
            Message(role="user", parts=[ToolResult(call="c", parts=[Text(text="ok")], custom=True)]),
        ],
        tools=[Tool(name="patch", custom=True), Tool(name="f")],
        choice=ToolChoice(mode="any", names=["patch"]),
        verbosity="low",
    )
    sent = encoded(request, "gpt-4.1")
    assert [(tool["type"], tool["name"]) for tool in sent.body["tools"]] == [("function", "patch")]
    assert (sent.customs, sent.body["tool_choice"], sent.losses) == (frozenset(["patch"]), "required", ["verbosity"])
    assert sent.body["input"][1]["arguments"] == '{"input":"*** x"}'
    assert sent.body["input"][2]["type"] == "function_call_output"
    native = encoded(request)
    assert (native.customs, native.body["tool_choice"]["type"]) == (frozenset(), "allowed_tools")


def test_documents_go_as_files() -> None:
    request = said(
        Media(kind="document", mime="application/pdf", data="JVBE", name="a.pdf"),
        Media(kind="document", url="https://example.org/a.pdf"),
        Media(kind="document", text="plain"),
        Media(kind="document", file="file-1", owner="openai"),
    )
    content = encoded(request).body["input"][0]["content"]
    assert content == [
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"},
        {"type": "input_file", "file_url": "https://example.org/a.pdf"},
        {"type": "input_file", "filename": "document.txt", "file_data": "data:text/plain;base64,cGxhaW4="},
        {"type": "input_file", "file_id": "file-1"},
    ]


# ---- custom tools ---------------------------------------------------------------------------------------------------


def test_a_custom_tool_is_one_in_history_in_answers_and_in_streams() -> None:
    """Pitfall 36: Codex's `apply_patch`, at an upstream that knows functions only."""
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: x"}
    patch = '*** Begin Patch\n"x"\n'
    asked = ask(
        input=[
            {"role": "user", "content": "Patch it"},
            {"type": "custom_tool_call", "call_id": "c1", "name": "apply_patch", "input": patch},
            {"type": "custom_tool_call_output", "call_id": "c1", "output": "Done"},
        ],
        tools=[{"type": "custom", "name": "apply_patch", "format": grammar}],
    )  # fmt: skip
    request = asked.canonical()
    _, call, result = request.messages
    assert call.parts == [ToolCall(id="c1", name="apply_patch", arguments=patch, custom=True)]
    assert result.parts == [ToolResult(call="c1", parts=[Text(text="Done")], custom=True)]
    assert "start: x" in customs.as_function(request.tools[0]).description
    assert [item["type"] for item in encoded(request).body["input"][1:]] == [
        "custom_tool_call", "custom_tool_call_output",
    ]  # fmt: skip

    sent = Encoded({}, customs=frozenset(("apply_patch",)))
    arguments = customs.arguments_for(patch)
    answer = Response(
        id="x", model="m", parts=[ToolCall(id="c2", name="apply_patch", arguments=arguments)], finish=Finish.TOOL_CALLS
    )
    stream = TranslatedStream(Decoder(), DIALECT.encoder(asked, model="m", prompt_tokens=0), sent, upstream_model="m")
    out = stream.put(fold.unfold(msgspec.structs.replace(answer, parts=[*answer.parts]))) + stream.last(TOLD)
    done = events_in(out)[-1]["response"]["output"]
    assert [(item["type"], item["input"], item["call_id"]) for item in done] == [("custom_tool_call", patch, "c2")]
    kinds = [event["type"] for event in events_in(out)]
    assert kinds.index("response.custom_tool_call_input.delta") < kinds.index("response.custom_tool_call_input.done")
    fresh = Response(
        id="x", model="m", parts=[ToolCall(id="c2", name="apply_patch", arguments=arguments)], finish=Finish.TOOL_CALLS
    )
    body = DIALECT.encode_response(restored(fresh, sent), asked=asked, model="m", pisces=TOLD)
    assert json.loads(body)["output"][0]["input"] == patch


# ---- usage and errors -----------------------------------------------------------------------------------------------

numbers_seen = st.none() | st.integers(-10, 10**13) | st.floats() | st.text(max_size=3) | st.booleans()
details = st.none() | st.dictionaries(
    st.sampled_from(["cached_tokens", "audio_tokens", "reasoning_tokens", "cache_write_tokens", "other"]), numbers_seen
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "input_tokens": numbers_seen,
            "output_tokens": numbers_seen,
            "input_tokens_details": details,
            "output_tokens_details": details,
        },
    )
)
@settings(deadline=None)
def test_decoded_usage_is_never_negative_and_never_more_than_was_told(told: dict[str, Any]) -> None:
    found = usage.decode(json.dumps(told).encode())
    if found is not None:
        assert all(quantity > 0 for _, quantity in found.buckets())
        assert found.tokens_in == told["input_tokens"]
        assert found.tokens_out == (told.get("output_tokens") or 0)
        written = usage.encode(found)
        assert usage.decode(msgspec.json.encode(written)) == found


def test_usage_that_nobody_reported_is_null_and_not_nothing() -> None:
    assert usage.encode(None) is None
    assert (
        json.loads(DIALECT.encode_response(_rich(), asked=ask(), model="m", pisces=TOLD))["usage"]["total_tokens"] == 23
    )


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (400, Cause.UPSTREAM_REJECTED),
        (401, Cause.UPSTREAM_ERROR),
        (429, Cause.RATE_LIMITED),
        (500, Cause.UPSTREAM_ERROR),
    ],
)
def test_an_upstream_s_error_keeps_its_words_where_they_are_the_caller_s_business(status: int, cause: Cause) -> None:
    content = b'{"error":{"message":"Item rs_1 not found","type":"invalid_request_error","param":"input","code":"x"}}'
    error = DIALECT.decode_error(status, content, retry_after="7")
    assert error.cause is cause
    assert ("rs_1" in error.message) is (status != 401)
    told = json.loads(DIALECT.encode_error(error, TOLD))
    assert set(told["error"]) >= {"message", "type", "param", "code"}


def test_a_picture_that_cannot_be_read_is_the_request_s_own_fault() -> None:
    error = errors.decode_in_band(b'{"code":"invalid_image_url","message":"no"}')
    assert (error.cause, error.status) == (Cause.UPSTREAM_REJECTED, 400)


# ---- histories ------------------------------------------------------------------------------------------------------


def test_a_history_refers_to_nothing_that_a_provider_keeps() -> None:
    output = [msgspec.Raw(msgspec.json.encode(item)) for item in json.loads(whole("silent"))["output"]]
    output += [msgspec.Raw(msgspec.json.encode(item)) for item in json.loads(whole("tools"))["output"]]
    found = [json.loads(bytes(raw)) for raw in kept.history(output)]
    assert [item["type"] for item in found] == ["message", "reasoning", "function_call", "function_call"]
    assert [item["type"] for item in found if "id" in item] == ["reasoning"]


def test_ids_of_ours_are_known_and_others_are_not() -> None:
    asked = ask()
    assert kept.parse_id(asked.id) == kept.parse_id(f"msg_{asked.answer.hex}_3") == asked.answer
    for other in ("resp_123", "", "msg_68f8d5c0a1b481908b2d7c3e5f60718293a4b5c6d7e8f901", f"call_{asked.answer.hex}"):
        assert kept.parse_id(other) is None


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
    assert isinstance(reading.no_json(RecursionError()), RelayError)
