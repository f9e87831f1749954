"""Gemini's answers: whole and streamed, read and written, passed and translated."""

import json
import re
from typing import Any

import pytest
from anthropic.types import CitationsWebSearchResultLocation
from msgspec.structs import replace

from billing.usage import Usage
from relay.errors import Cause, RelayError
from relay.protocols import fold
from relay.protocols.canonical import Finish, Media, Opaque, Raw, Reasoning, Response, Text, ToolCall
from relay.protocols.events import Failed, Finished
from relay.protocols.gemini import DIALECT, signatures, usage
from relay.protocols.gemini.decoder import citation
from tests.relay.protocols import laws
from tests.relay.protocols.gemini_wire import ANSWERS, FOREIGN, PICTURE, PISCES, SIGNATURE, SIGNED, asked, one_id, wire

__all__ = ["one_id"]

# ---- laws -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("one_id")
@pytest.mark.parametrize("name", ANSWERS)
def test_a_stream_is_the_same_answer_as_its_whole(name: str) -> None:
    laws.stream_is_its_whole(DIALECT, wire(f"{name}.sse"), wire(f"{name}.json"))


@pytest.mark.usefixtures("one_id")
@pytest.mark.parametrize("name", [*ANSWERS, "error", "malformed_call"])
def test_cutting_a_stream_at_any_byte_gives_the_same_events(name: str) -> None:
    def told(events: list[Any]) -> list[object]:
        return [event.error.message if isinstance(event, Failed) else event for event in laws.joined(events)]

    stream = wire(f"{name}.sse")
    expected = told(laws.decoded(DIALECT, stream))
    for cut in range(1, len(stream)):
        assert told(laws.decoded(DIALECT, stream, [cut])) == expected, cut


@pytest.mark.usefixtures("one_id")
@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_written_for_a_client_is_read_as_it_was(name: str) -> None:
    response = DIALECT.decode_response(wire(f"{name}.json"))
    if response.usage is not None:  # this protocol has no number of searches, and the hub has not their words
        response.usage = replace(response.usage, searches=None)
    laws.response_is_stable(DIALECT, asked(), response)


USAGE = Usage(input=5, cache_read=2, output=3, reasoning=1, audio_in=0, audio_out=0)


@pytest.mark.parametrize(
    "parts",
    [
        [Reasoning(text="Hm.", summary=True, state=FOREIGN), Text(text="42")],
        [Reasoning(text="Hm.", summary=True), Text(text="42", state=SIGNED), Text(text="more")],
        [Reasoning(state=FOREIGN, redacted=True), Reasoning(state=Opaque("openai", "enc", "rs_1"), redacted=True)],
        [Reasoning(text="", summary=True, state=FOREIGN), ToolCall(id="a", name="f", arguments='{"x":"\\n"}')],
        [ToolCall(id="a", name="f", arguments="{}", state=SIGNED), ToolCall(id="b", name="f", arguments='{"y":10}')],
        [Text(text="see", citations=[citation("https://a.example/", "A")])],
        [Media(kind="image", mime="image/png", data=PICTURE, state=SIGNED), Text(text="there")],
        [Raw(owner="gemini", label="executableCode", value={"executableCode": {"code": "1"}}), Text(text="x")],
        [Text(text="", state=SIGNED)],
        [],
    ],
)
@pytest.mark.parametrize("array", [False, True])
def test_answers_from_anywhere_come_back_as_they_were(parts: list[Any], array: bool) -> None:
    calls = any(isinstance(part, ToolCall) for part in parts)
    finish = Finish.TOOL_CALLS if calls else Finish.FILTER
    note = None if calls else "SAFETY: not this"
    response = Response(id="r", model="m", parts=parts, finish=finish, note=note, usage=USAGE)
    whole = DIALECT.encode_response(response, asked=asked(), model="m", pisces=PISCES)
    assert DIALECT.decode_response(whole) == response
    encoder = DIALECT.encoder(asked(array=array), model="m", prompt_tokens=0)
    stream = b"".join(encoder.feed(event) for event in fold.unfold(response)) + encoder.last(PISCES)
    if array:
        stream = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in json.loads(stream))
    assert fold.fold(laws.decoded(DIALECT, stream)) == response


# ---- what is read ---------------------------------------------------------------------------------------------------


def test_thoughts_and_a_signature_in_a_last_empty_text_are_read() -> None:
    found = DIALECT.decode_response(wire("thinking.json"))
    thoughts, answer = found.parts
    assert thoughts == Reasoning(text="**Weighing it**\n\nThe user wants a number.", summary=True)
    assert answer == Text(text="The answer is 42.", state=SIGNED)
    assert (found.finish, found.model) == (Finish.STOP, "gemini-3-pro-preview")


@pytest.mark.parametrize("name", ["tools", "tool_without_id"])
def test_stop_with_calls_is_a_call_of_tools_also_where_it_comes_alone(name: str) -> None:
    """Pitfalls 8, 9 and 10."""
    finished = laws.decoded(DIALECT, wire(f"{name}.sse"))[-1]
    assert isinstance(finished, Finished)
    assert finished.reason is Finish.TOOL_CALLS
    assert DIALECT.whole(wire(f"{name}.json")).finish == "tool_calls"


def test_parallel_calls_are_parts_of_their_own_with_the_signature_at_the_first() -> None:
    _, *calls = DIALECT.decode_response(wire("tools.json")).parts
    assert [(call.id, call.name, call.arguments, call.state) for call in calls if isinstance(call, ToolCall)] == [
        ("fc_8f2", "get_weather", '{"city":"Oslo","days":[1,2]}', SIGNED),
        ("fc_8f3", "get_weather", '{"city":"Rome, \\"Italy\\""}', None),
        ("fc_8f4", "get_time", "{}", None),
    ]


def test_calls_without_ids_get_different_ones() -> None:
    """Gemini may send none."""
    call = b'{"functionCall":{"name":"f","args":{}}}'
    body = b'{"candidates":[{"content":{"parts":[%b,%b]},"finishReason":"STOP"}]}' % (call, call)
    ids = [part.id for part in DIALECT.decode_response(body).parts if isinstance(part, ToolCall)]
    assert len(set(ids)) == 2
    assert all(re.fullmatch("call_[0-9a-f]{24}", one) for one in ids)


def test_a_blocked_prompt_has_no_candidates_and_is_a_refusal() -> None:
    for found in (DIALECT.decode_response(wire("blocked.json")), fold.fold(laws.decoded(DIALECT, wire("blocked.sse")))):
        assert (found.finish, found.note, found.parts) == (Finish.FILTER, "PROHIBITED_CONTENT", [])
        assert found.usage is not None
        assert found.usage.buckets() == [("input", 12)]
    assert DIALECT.whole(wire("blocked.json")).finish == "content_filter"


@pytest.mark.parametrize(
    ("reason", "finish", "note"),
    [
        ("STOP", Finish.STOP, None),
        ("MAX_TOKENS", Finish.LENGTH, None),
        ("SAFETY", Finish.FILTER, "SAFETY"),
        ("RECITATION", Finish.FILTER, "RECITATION"),
        ("IMAGE_SAFETY", Finish.FILTER, "IMAGE_SAFETY"),
        ("CONTINUATION", Finish.PAUSE, None),
        ("SOMETHING_NEW", Finish.FILTER, "SOMETHING_NEW"),
    ],
)
def test_every_reason_has_its_end(reason: str, finish: Finish, note: str | None) -> None:
    body = json.dumps({"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": reason}]})
    found = DIALECT.decode_response(body.encode())
    assert (found.finish, found.note) == (finish, note)


@pytest.mark.parametrize(
    "reason", ["MALFORMED_FUNCTION_CALL", "MISSING_THOUGHT_SIGNATURE", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE"]
)
def test_a_model_that_failed_did_not_answer(reason: str) -> None:
    """A malformed call must not look like a sound end."""
    body = json.dumps({"candidates": [{"finishReason": reason, "finishMessage": "why"}]}).encode()
    with pytest.raises(RelayError, match=f"{reason}: why") as refused:
        DIALECT.decode_response(body)
    assert refused.value.cause is Cause.UPSTREAM_ERROR
    assert isinstance(laws.decoded(DIALECT, b"data: " + body + b"\n\n")[-1], Failed)


def test_an_end_in_every_event_is_no_reason_to_stop_reading() -> None:
    """Pitfall 26, and versions that say STOP with each piece."""
    events = [
        {"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}], "usageMetadata": report}
        for text, report in (
            ("a", {"promptTokenCount": 1, "candidatesTokenCount": 1}),
            ("b", {"promptTokenCount": 1, "candidatesTokenCount": 7}),
        )
    ]
    stream = b"".join(b"data: " + json.dumps(event).encode() + b"\r\n\r\n" for event in events)
    found = fold.fold(laws.decoded(DIALECT, stream))
    assert found.parts == [Text(text="ab")]
    assert found.usage is not None
    assert found.usage.output == 7


def test_an_error_in_mid_stream_is_a_failure_and_never_an_end() -> None:
    """Pitfalls 33 and 46."""
    events = laws.decoded(DIALECT, wire("error.sse"))
    assert isinstance(events[-1], Failed)
    assert events[-1].error.cause is Cause.UPSTREAM_ERROR
    assert "internal error" in events[-1].error.message
    busy = b'data: {"error":{"code":503,"message":"overloaded","status":"UNAVAILABLE"}}\n\n'
    failed = laws.decoded(DIALECT, busy)[-1]
    assert isinstance(failed, Failed)
    assert failed.error.cause is Cause.UNAVAILABLE


def test_a_stream_that_is_cut_off_is_a_failure() -> None:
    cut = wire("text.sse").split(b"\r\n\r\n")[0] + b"\r\n\r\n"
    assert isinstance(laws.decoded(DIALECT, cut)[-1], Failed)
    assert isinstance(laws.decoded(DIALECT, b"")[-1], Failed)


def test_sources_become_citations_once_each() -> None:
    (text,) = DIALECT.decode_response(wire("grounded.json")).parts
    assert isinstance(text, Text)
    assert [(one["url"][-1], one["title"]) for one in text.citations] == [("1", "uefa.example"), ("2", "bbc.example")]
    for one in text.citations:  # the hub has them as Anthropic's clients want them
        CitationsWebSearchResultLocation.model_validate(one)


def test_what_only_gemini_runs_is_kept_whole() -> None:
    parts = DIALECT.decode_response(wire("code.json")).parts
    assert [part.label for part in parts if isinstance(part, Raw)] == ["executableCode", "codeExecutionResult"]


def test_of_several_candidates_only_the_first_is_translated() -> None:
    body = {
        "candidates": [
            {"index": 1, "content": {"parts": [{"text": "other"}]}, "finishReason": "SAFETY"},
            {"index": 0, "content": {"parts": [{"text": "first"}]}, "finishReason": "STOP"},
        ]
    }
    found = DIALECT.decode_response(json.dumps(body).encode())
    assert (found.parts, found.finish) == ([Text(text="first")], Finish.STOP)


# ---- usage ----------------------------------------------------------------------------------------------------------


def test_usage_is_in_disjoint_buckets() -> None:
    """Pitfalls 24 and 25: thoughts are no candidates, cached tokens are inside the prompt; what hosted tools read is
    input; sound is counted apart."""
    found = DIALECT.decode_response(wire("usage.json")).usage
    assert found is not None
    assert dict(found.buckets()) == {
        "input": 1000 - 600 - 128 + 70, "cache_read": 600, "output": 40, "reasoning": 30, "audio_in": 128,
        "audio_out": 10,
    }  # fmt: skip
    report = json.loads(wire("usage.json"))["usageMetadata"]
    assert found.tokens_in + found.tokens_out == report["totalTokenCount"]


def test_usage_in_a_stream_replaces_what_was_said_before() -> None:
    """Pitfall 23."""
    finished = laws.decoded(DIALECT, wire("usage.sse"))[-1]
    assert isinstance(finished, Finished)
    assert finished.usage == DIALECT.decode_response(wire("usage.json")).usage


def test_candidates_that_are_left_out_are_taken_from_the_total() -> None:
    found = usage.decode(b'{"promptTokenCount":10,"thoughtsTokenCount":5,"totalTokenCount":22}')
    assert found is not None
    assert dict(found.buckets()) == {"input": 10, "output": 7, "reasoning": 5}


@pytest.mark.parametrize(
    "wrong",
    [
        b"null", b"{}", b'{"promptTokenCount":-1}', b'{"promptTokenCount":"9"}', b'{"promptTokenCount":9e99}', b"[",
        b"7", b'{"promptTokenCount":9}', b'{"promptTokenCount":9,"thoughtsTokenCount":5}',
    ],
)  # fmt: skip
def test_usage_that_makes_no_sense_or_tells_nothing_of_the_output_is_none(wrong: bytes) -> None:
    assert usage.decode(wrong) is None


def test_candidates_of_zero_are_left_out_on_the_wire() -> None:
    found = usage.decode(b'{"promptTokenCount":10,"totalTokenCount":10}')
    assert found is not None
    assert (found.output, dict(found.buckets())) == (0, {"input": 10})


def test_details_above_their_total_do_not_make_a_bucket_negative() -> None:
    audio = '[{"modality":"AUDIO","tokenCount":99}]'
    found = usage.decode(
        f'{{"promptTokenCount":10,"cachedContentTokenCount":99,"candidatesTokenCount":3,"promptTokensDetails":{audio},'
        f'"candidatesTokensDetails":{audio}}}'.encode()
    )
    assert found is not None
    assert dict(found.buckets()) == {"cache_read": 10, "audio_out": 3}


def test_the_client_s_total_is_the_sum_of_all_buckets() -> None:
    given = Usage(input=10, cache_read=4, cache_write=3, output=7, reasoning=5, audio_in=2, audio_out=1)
    wire_of = usage.encode(given)
    assert wire_of["promptTokenCount"] == 19
    assert wire_of["candidatesTokenCount"] == 8
    assert wire_of["thoughtsTokenCount"] == 5
    assert wire_of["totalTokenCount"] == given.tokens_in + given.tokens_out == 32
    again = usage.decode(json.dumps(wire_of).encode())
    assert again == Usage(input=13, cache_read=4, output=7, reasoning=5, audio_in=2, audio_out=1)


# ---- state ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("owner", ["openai", "anthropic"])
def test_another_vendor_s_state_goes_through_the_signature_as_base64_and_comes_back(owner: Any) -> None:
    """Pitfall 18. Typed SDKs decode the field; some write it back in the alphabet for URLs and without its end."""
    state = Opaque(owner, "gAAAA~~~??=\n+/", "rs_1")
    field = signatures.for_client(state)
    assert re.fullmatch(r"[A-Za-z0-9+/]+=*", field)
    assert signatures.read(field) == state
    assert signatures.read(field.replace("+", "-").replace("/", "_").rstrip("=")) == state
    assert signatures.for_upstream(state) == ""


def test_gemini_s_own_state_is_kept_byte_for_byte() -> None:
    assert signatures.read(SIGNATURE) == SIGNED
    assert signatures.for_client(SIGNED) == signatures.for_upstream(SIGNED) == SIGNATURE


def test_a_mark_that_nobody_here_has_made_is_no_state() -> None:
    assert signatures.read("cGlzY2VzLnguYWJj") is None  # pisces.x.abc
    assert signatures.read("cGlzY2VzL") == Opaque("gemini", "cGlzY2VzL")
    assert signatures.read(7) is None
