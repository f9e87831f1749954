"""Anthropic to Anthropic: what passes as it is; usage and errors."""

import json

import anthropic
import pytest

from billing.usage import Usage
from relay.errors import Cause, RelayError
from relay.protocols import openai
from relay.protocols.anthropic import DIALECT, errors, usage
from relay.protocols.events import (
    Failed,
)
from tests.relay.protocols import laws
from tests.relay.protocols.anthropic_made import (
    ANSWERS,
    ASKED,
    PISCES,
    events_of,
    passed,
    run,
    sdk_reads,
    stream_of,
    whole_of,
)

# ---- passing --------------------------------------------------------------------------------------------------------


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
    begun, *rest = [b"data: " + data.partition(b"data: ")[2] for data in stream_of("text").strip().split(b"\n\n")]
    stream, out = run(b"\n\n".join([begun, b": keep", *rest, b""]))
    assert out.count(b": keep\n\n") == 1
    assert sdk_reads(events_of(out.replace(b": keep\n\n", b"") + stream.last(PISCES))).content[0].to_dict()["text"]


@pytest.mark.parametrize("sign", [b": PROCESSING\n\n", b'event: ping\ndata: {"type": "ping"}\n\n'])
def test_a_sign_of_life_passes_once_the_answer_has_begun_and_is_none_before(sign: bytes) -> None:
    stream, out = run(sign)
    assert (out, stream.failure is not None) == (b"", True)
    begun, _, rest = stream_of("text").partition(b"event: content_block_start")
    _, out = run(sign + begun + sign + b"event: content_block_start" + rest)
    assert out.startswith(b"event: message_start")
    assert out.count(sign) == 1 + stream_of("text").count(sign)


def test_usage_that_is_told_in_mid_answer_passes_and_so_does_what_follows_it() -> None:
    news = (
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":2}}'
    )
    wire = stream_of("text")
    first, *rest = wire.split(b"event: content_block_delta")
    stream, out = run(b"event: content_block_delta".join([first + news + b"\n\n", *rest]))
    plain, whole = run(wire)
    assert out.replace(news + b"\n\n", b"") == whole
    assert out.count(news) == 1
    assert (stream.usage, stream.last(PISCES)) == (plain.usage, plain.last(PISCES))


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


def test_cache_writes_are_told_apart_by_their_lifetimes() -> None:
    wire = {"input_tokens": 1, "output_tokens": 1,
            "cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 12}}  # fmt: skip
    found = usage.decode(json.dumps(wire).encode())
    assert found == Usage(input=1, cache_read=0, cache_write=30, cache_write_1h=12, output=1)
    assert found.cache_writes == 42
    total = usage.decode(json.dumps({**wire, "cache_creation_input_tokens": 42}).encode())
    assert total == found, "the total has both in it"
    assert usage.encode(found) == {**wire, "cache_creation_input_tokens": 42, "cache_read_input_tokens": 0}


@pytest.mark.parametrize(
    ("total", "told", "minutes", "hour"),
    [
        (10, {"ephemeral_1h_input_tokens": 10}, 0, 10), (10, {"ephemeral_1h_input_tokens": 0}, 10, 0),
        (10, {"ephemeral_1h_input_tokens": 99}, 0, 10), (10, {"ephemeral_5m_input_tokens": 4}, 10, None),
        (10, None, 10, None), (None, {"ephemeral_1h_input_tokens": 6}, 0, 6),
    ],
)  # fmt: skip
def test_no_more_is_kept_for_an_hour_than_was_written(
    total: int | None, told: dict[str, int] | None, minutes: int, hour: int | None
) -> None:
    wire = {"input_tokens": 1, "output_tokens": 1, "cache_creation_input_tokens": total, "cache_creation": told}
    found = usage.decode(json.dumps(wire).encode())
    assert found is not None
    assert (found.cache_write, found.cache_write_1h) == (minutes, hour)


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


def test_the_code_of_anthropic_s_own_refusal_is_where_its_sdk_looks_for_it() -> None:
    details = {"error_code": "tool_name_conflict", "tool_names": ["f"]}
    refusal = {"type": "error", "error": {"type": "invalid_request_error", "message": "No.", "details": details}}
    error = DIALECT.decode_error(400, json.dumps(refusal).encode(), retry_after=None)
    assert (
        anthropic._exceptions.extract_error_code(json.loads(DIALECT.encode_error(error, PISCES)))
        == "tool_name_conflict"
    )
    other = openai.DIALECT.decode_error(
        400, b'{"error": {"message": "No.", "code": "invalid_value"}}', retry_after=None
    )
    assert (
        anthropic._exceptions.extract_error_code(json.loads(DIALECT.encode_error(other, PISCES))) == "upstream_rejected"
    )


def test_an_account_without_credit_is_ours_and_not_the_caller_s_although_anthropic_says_400() -> None:
    def refusal(message: str) -> RelayError:
        error = {"type": "invalid_request_error", "message": message}
        return DIALECT.decode_error(400, json.dumps({"type": "error", "error": error}).encode(), retry_after=None)

    text = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing."
    found = refusal(text)
    assert (found.cause, found.meant) == (Cause.UPSTREAM_ERROR, 402)
    assert "credit balance" not in found.message
    assert refusal(f"messages.0.role: {text!r} is not a role").cause is Cause.UPSTREAM_REJECTED


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
