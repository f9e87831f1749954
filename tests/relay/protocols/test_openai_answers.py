"""What an OpenAI upstream sends: calls in pieces, ends, usage, failures."""

import json

import pytest

from billing.usage import Usage
from relay.errors import Cause, RelayError
from relay.protocols import fold, sse
from relay.protocols.canonical import (
    Finish,
    Reasoning,
    Response,
    Text,
    ToolCall,
)
from relay.protocols.events import Event, Failed, Finished, PartStarted, Started
from relay.protocols.openai import DIALECT
from tests.relay.protocols import laws
from tests.relay.protocols.openai_made import canonical, chunk, events_of, whole, wire


def answer_of(*chunks: bytes) -> Response:
    return fold.fold(events_of(*chunks))


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
