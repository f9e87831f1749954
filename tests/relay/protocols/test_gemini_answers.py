"""What a Gemini client is told, whole and streamed; what passes; errors."""

import itertools
import json
from typing import Any

import pytest

from billing.usage import Usage
from relay.errors import Cause, RelayError
from relay.protocols import fold
from relay.protocols.canonical import Finish, Media, Part, Raw, Reasoning, Response, Text, ToolCall
from relay.protocols.codec import Encoded
from relay.protocols.events import PartDelta, PartEnded, PartStarted, Started
from relay.protocols.gemini import DIALECT, errors
from relay.protocols.translating import TranslatedStream
from tests.relay.protocols.gemini_wire import ANSWERS, FOREIGN, PISCES, SIGNED, asked, wire

# ---- what is written for clients ------------------------------------------------------------------------------------


def fed(encoder: Any, parts: list[Any], finish: Finish = Finish.STOP) -> bytes:
    response = Response(id="r1", model="up", parts=parts, finish=finish, usage=Usage(input=3, output=2))
    return b"".join(encoder.feed(event) for event in fold.unfold(response))


def test_a_stream_has_nothing_but_data_lines_with_a_space_and_pings_are_empty_lines() -> None:
    """Pitfalls 28, 29 and 30: no `event:`, no comment, no `[DONE]`."""
    encoder = DIALECT.encoder(asked(), model="offered", prompt_tokens=9)
    stream = fed(encoder, [Text(text="line\nline"), ToolCall(id="a", name="f", arguments='{\n "x": "a\\nb"\n}')])
    stream += encoder.ping() + encoder.last(PISCES)
    for line in stream.split(b"\n"):
        assert line == b"" or line.startswith(b'data: {"')
    chunks = [json.loads(line[6:]) for line in stream.split(b"\n") if line]
    assert [chunk["modelVersion"] for chunk in chunks] == ["offered"] * 3
    assert {chunk["responseId"] for chunk in chunks} == {"r1"}
    texts, call, end = (chunk["candidates"][0] for chunk in chunks)
    assert texts == {"content": {"parts": [{"text": "line\nline"}], "role": "model"}, "index": 0}
    assert call["content"]["parts"] == [{"functionCall": {"id": "a", "name": "f", "args": {"x": "a\nb"}}}]
    assert "finishReason" not in call
    assert end["finishReason"] == "STOP"
    assert chunks[-1]["pisces"] == PISCES
    assert chunks[-1]["usageMetadata"]["totalTokenCount"] == 5
    assert encoder.ping() == b"\n"


def test_each_event_has_new_parts_only() -> None:
    encoder = DIALECT.encoder(asked(), model="m", prompt_tokens=0)
    encoder.feed(Started("r", "m"))
    encoder.feed(PartStarted(0, Text()))
    texts = []
    for piece in ("a", "b", "", "c"):
        chunk = encoder.feed(PartDelta(0, piece))
        if chunk:
            texts.append(json.loads(chunk[6:])["candidates"][0]["content"]["parts"])
    assert texts == [[{"text": "a"}], [{"text": "b"}], [{"text": "c"}]]
    assert encoder.feed(PartEnded(0)) == b""


def test_an_error_in_the_stream_begins_with_its_key() -> None:
    encoder = DIALECT.encoder(asked(), model="m", prompt_tokens=0)
    begun = fed(encoder, [Text(text="a")])
    end = encoder.fail(RelayError(Cause.UPSTREAM_ERROR, "gone"), PISCES)
    assert begun.endswith(b"\n\n")
    assert end.startswith(b'data: {"error":{"code":502,')
    assert json.loads(end[6:])["error"]["status"] == "UNAVAILABLE"


@pytest.mark.parametrize("texts", [0, 1, 2])
@pytest.mark.parametrize("fails", [False, True])
def test_without_sse_the_stream_is_one_json_array_even_when_it_is_cut(texts: int, fails: bool) -> None:
    encoder = DIALECT.encoder(asked(array=True), model="m", prompt_tokens=0)
    out = encoder.ping() + fed(encoder, [Text(text="x", state=SIGNED)] * texts) + encoder.ping()
    error = RelayError(Cause.UPSTREAM_TIMEOUT, "late")
    out += encoder.fail(error, PISCES) if fails else encoder.last(PISCES)
    found = json.loads(out)
    assert isinstance(found, list)
    assert ("error" in found[-1]) is fails
    assert found[-1]["pisces"] == PISCES


def test_thoughts_that_nobody_asked_for_are_sent_only_with_their_state() -> None:
    quiet = asked({"contents": [{"parts": [{"text": "x"}]}]})
    parts: list[Part] = [Reasoning(text="secret"), Reasoning(text="signed", state=FOREIGN), Text(text="42")]
    response = Response(id="r", model="m", parts=parts, finish=Finish.STOP)
    whole = json.loads(DIALECT.encode_response(response, asked=quiet, model="m", pisces=PISCES))
    thought, text = whole["candidates"][0]["content"]["parts"]
    assert (thought["text"], thought["thought"], text) == ("signed", True, {"text": "42"})
    encoder = DIALECT.encoder(quiet, model="m", prompt_tokens=0)
    stream = fed(encoder, parts) + encoder.last(PISCES)
    assert b"secret" not in stream
    assert stream.count(b"thoughtSignature") == 1


@pytest.mark.parametrize(
    ("arguments", "args"),
    [
        ("", {}),
        ("{}", {}),
        ('{"a": [1, 2]}', {"a": [1, 2]}),
        ('{"a":', {"arguments": '{"a":'}),
        ("[1]", {"arguments": "[1]"}),
        ("{'a': 1}", {"arguments": "{'a': 1}"}),
    ],
)
def test_arguments_that_are_no_object_are_wrapped_and_never_a_fault(arguments: str, args: Any) -> None:
    encoder = DIALECT.encoder(asked(), model="m", prompt_tokens=0)
    stream = fed(encoder, [ToolCall(id="a", name="f", arguments=arguments)], Finish.TOOL_CALLS)
    assert json.loads(stream[6:])["candidates"][0]["content"]["parts"][0]["functionCall"]["args"] == args


def test_what_only_another_vendor_can_read_is_left_out_of_an_answer() -> None:
    parts: list[Part] = [
        Media(kind="audio", file="audio_1", owner="openai"),
        Raw(owner="anthropic", label="web_search_tool_result", value={"type": "web_search_tool_result"}),
        Text(text="said"),
    ]
    response = Response(id="r", model="m", parts=parts, finish=Finish.STOP)
    whole = json.loads(DIALECT.encode_response(response, asked=asked(), model="m", pisces=PISCES))
    assert whole["candidates"][0]["content"]["parts"] == [{"text": "said"}]


@pytest.mark.parametrize(
    ("finish", "note", "reason", "message"),
    [
        (Finish.STOP_SEQUENCE, None, "STOP", None),
        (Finish.TOOL_CALLS, None, "STOP", None),
        (Finish.CONTEXT, None, "MAX_TOKENS", None),
        (Finish.PAUSE, None, "MAX_TOKENS", None),
        (Finish.FILTER, None, "SAFETY", None),
        (Finish.FILTER, "I must not.", "SAFETY", "I must not."),
        (Finish.FILTER, "RECITATION: a book", "RECITATION", "a book"),
    ],
)
def test_every_end_has_its_reason(finish: Finish, note: str | None, reason: str, message: str | None) -> None:
    response = Response(id="r", model="m", parts=[Text(text="x")], finish=finish, note=note)
    whole = json.loads(DIALECT.encode_response(response, asked=asked(), model="m", pisces=PISCES))
    candidate = whole["candidates"][0]
    assert (candidate["finishReason"], candidate.get("finishMessage")) == (reason, message)


# ---- what passes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("array", [False, True])
def test_a_stream_of_the_same_protocol_passes_under_the_offered_name(name: str, array: bool) -> None:
    source = [json.loads(line[6:]) for line in wire(f"{name}.sse").split(b"\r\n\r\n") if line]
    stream = DIALECT.passing(asked(array=array), model='the "best"', upstream_model="gemini-2.5-flash")
    out = stream.feed(wire(f"{name}.sse")) + stream.close()
    assert (stream.failure, stream.finished) == (None, True)
    out += stream.last(PISCES)
    found = json.loads(out) if array else [json.loads(line[6:]) for line in out.split(b"\n\n") if line]
    assert found[-1].pop("pisces") == PISCES
    assert found == [{**chunk, "modelVersion": 'the "best"'} for chunk in source]
    assert stream.usage == DIALECT.decode_response(wire(f"{name}.json")).usage
    assert stream.id == source[0]["responseId"]


@pytest.mark.parametrize("name", ANSWERS)
def test_a_passing_stream_may_be_cut_at_any_byte(name: str) -> None:
    source = wire(f"{name}.sse")

    def through(pieces: list[bytes]) -> tuple[bytes, object, str, int]:
        stream = DIALECT.passing(asked(), model="mine", upstream_model="up")
        out = b"".join(stream.feed(piece) for piece in pieces) + stream.close() + stream.last(PISCES)
        return out, stream.usage, stream.finish, stream.output_bytes

    expected = through([source])
    for cut in range(1, len(source)):
        assert through([source[:cut], source[cut:]]) == expected
    assert through([bytes([byte]) for byte in source]) == expected


@pytest.mark.parametrize("name", ANSWERS)
def test_a_whole_answer_of_the_same_protocol_passes_with_all_that_is_in_it(name: str) -> None:
    whole = DIALECT.whole(wire(f"{name}.json"))
    found = json.loads(whole.encode(model="mine", pisces=PISCES))
    assert found == {**json.loads(wire(f"{name}.json")), "modelVersion": "mine", "pisces": PISCES}
    stream = DIALECT.passing(asked(), model="m", upstream_model="gemini-2.5-flash")
    stream.feed(wire(f"{name}.sse"))
    assert whole.seen("gemini-2.5-flash").baseline() == stream.seen.baseline()
    assert (whole.output_bytes, whole.finish, whole.id) == (stream.output_bytes, stream.finish, stream.id)


def test_the_last_event_is_kept_back_until_the_books_are_written() -> None:
    stream = DIALECT.passing(asked(), model="m", upstream_model="up")
    out = stream.feed(wire("text.sse"))
    assert b"STOP" not in out
    assert b"STOP" in stream.last(PISCES)


def test_usage_is_known_in_mid_stream() -> None:
    stream = DIALECT.passing(asked(), model="m", upstream_model="up")
    stream.feed(wire("text.sse").split(b"\r\n\r\n")[0] + b"\r\n\r\n")
    assert stream.usage is not None
    assert dict(stream.usage.buckets()) == {"input": 9, "output": 1}


@pytest.mark.parametrize("array", [False, True])
def test_a_passing_stream_that_fails_ends_with_the_error_and_is_sound_json(array: bool) -> None:
    """Pitfall 46."""
    stream = DIALECT.passing(asked(array=array), model="m", upstream_model="up")
    out = stream.feed(wire("error.sse"))
    assert stream.failure is not None
    out += stream.fail(stream.failure, PISCES)
    found = json.loads(out) if array else [json.loads(line[6:]) for line in out.split(b"\n\n") if line]
    assert next(iter(found[-1])) == "error"
    assert len(found) == 2


def test_several_candidates_are_finished_when_all_of_them_are() -> None:
    more = {"contents": [{"parts": [{"text": "x"}]}], "generationConfig": {"candidateCount": 2}}
    stream = DIALECT.passing(asked(more), model="m", upstream_model="up")

    def event(index: int, end: str | None) -> bytes:
        candidate = {"index": index, "content": {"parts": [{"text": "abc"}]}, **({"finishReason": end} if end else {})}
        return b"data: " + json.dumps({"candidates": [candidate]}).encode() + b"\n\n"

    stream.feed(event(0, None) + event(1, None) + event(0, "STOP"))
    assert (stream.finish, stream.finished) == ("stop", False)
    stream.feed(event(1, "MAX_TOKENS"))
    assert stream.finished
    assert (stream.output_bytes, stream.seen.ended) == (12, 1)


def test_an_upstream_that_writes_an_event_on_several_lines_is_passed_on_one() -> None:
    pretty = b"".join(b"data: " + line + b"\n" for line in wire("text.json").strip().split(b"\n")) + b"\n"
    stream = DIALECT.passing(asked(), model="m", upstream_model="up")
    out = stream.feed(pretty) + stream.last(PISCES)
    assert out.count(b"\n") == 2
    assert stream.failure is None


def test_events_may_end_their_lines_differently_and_come_together() -> None:
    first, second, third = wire("text.sse").split(b"\r\n\r\n")[:3]
    for ends in itertools.product((b"\n\n", b"\r\n\r\n", b"\r\r"), repeat=3):
        data = b"".join(event + end for event, end in zip((first, second, third), ends, strict=True))
        stream = DIALECT.passing(asked(), model="gemini-2.5-flash", upstream_model="up")
        out = stream.feed(data) + stream.close()
        assert (stream.failure, stream.finished, out.count(b"data: ")) == (None, True, 2)


def test_a_name_inside_a_text_is_not_taken_for_the_model_s() -> None:
    tricky = {
        "candidates": [{"content": {"parts": [{"text": '"modelVersion":"up"'}]}}],
        "extra": {"modelVersion": "up"},
        "modelVersion": "up",
    }
    stream = DIALECT.passing(asked(), model="mine", upstream_model="up")
    data = json.dumps(tricky, separators=(",", ":")).encode()
    out = json.loads(stream.feed(b"data: " + data + b"\n\n")[6:])
    assert out == {**tricky, "modelVersion": "mine"}


@pytest.mark.parametrize("name", ["text", "thinking", "tools"])
def test_a_translated_stream_ends_its_answer_with_the_books(name: str) -> None:
    stream = TranslatedStream(
        DIALECT.decoder(), DIALECT.encoder(asked(), model="m", prompt_tokens=0), Encoded({}), upstream_model="up"
    )
    out = stream.feed(wire(f"{name}.sse"))
    assert (stream.finished, stream.done) == (True, False)
    out += stream.close()
    assert (stream.finished, stream.done) == (True, True)
    assert stream.usage == DIALECT.decode_response(wire(f"{name}.json")).usage
    assert b"finishReason" not in out
    assert b"finishReason" in stream.last(PISCES)


# ---- errors ---------------------------------------------------------------------------------------------------------


def test_every_cause_has_its_envelope() -> None:
    for cause in Cause:
        error = RelayError(cause, "said", param="contents", retry_after=34.2)
        body = json.loads(errors.encode(error, PISCES))
        assert list(body) == ["error", "pisces"]
        assert body["error"]["code"] == error.status
        assert body["error"]["status"] == error.entry.gemini
        info, bad, retry = body["error"]["details"]
        assert info["reason"] == ("API_KEY_INVALID" if cause is Cause.INVALID_API_KEY else error.entry.code.upper())
        assert bad["fieldViolations"][0]["field"] == "contents"
        assert retry["retryDelay"] == "35s"  # as `Retry-After`: never too early


def test_a_bad_key_is_ours_and_not_the_caller_s_although_google_says_400() -> None:
    found = errors.decode(400, wire("error_key.json"), retry_after=None)
    assert (found.cause, found.status) == (Cause.UPSTREAM_ERROR, 502)
    assert "API key" not in found.message
    assert found.meant == 401


def refusal(message: str, *fields: str) -> RelayError:
    """What a 400 with this text, about these fields, means."""
    violations = [{"field": field, "description": message} for field in fields]
    content = {"error": {"code": 400, "message": message, "details": [{"fieldViolations": violations}]}}
    return errors.decode(400, json.dumps(content).encode(), retry_after=None)


@pytest.mark.parametrize(
    "text",
    [
        "User location is not supported for the API use.",
        "User location is not supported for the API use without a billing account linked.",
        "Gemini API free tier is not available in your country. Please enable billing on your project.",
        "API key expired. Please renew the API key.",
    ],
)
def test_what_google_says_of_the_account_is_not_the_caller_s_business(text: str) -> None:
    found = refusal(text)
    assert (found.cause, found.meant) == (Cause.UPSTREAM_ERROR, None)
    assert text not in found.message


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("Invalid JSON payload received. Unknown name \"api key\" at 'generation_config': Cannot find field.", ["x"]),
        ("* GenerateContentRequest.tools[0].name: Invalid name: please enable billing", []),
        ("API key not found", ["contents[0].parts[0].text"]),
    ],
)
def test_a_refusal_that_quotes_the_request_s_own_words_of_an_account_is_of_the_request(
    text: str, fields: list[str]
) -> None:
    found = refusal(text, *fields)
    assert (found.cause, found.status, found.message) == (Cause.UPSTREAM_REJECTED, 400, text)


def test_a_refused_request_keeps_its_text_its_field_and_its_status() -> None:
    found = errors.decode(400, wire("error_argument.json"), retry_after=None)
    assert (found.cause, found.status, found.param) == (
        Cause.UPSTREAM_REJECTED, 400, "generation_config.temperature",
    )  # fmt: skip
    assert "warm" in found.message
    found.provider = {"status": "FAILED_PRECONDITION"}
    assert json.loads(errors.encode(found, PISCES))["error"]["status"] == "FAILED_PRECONDITION"


@pytest.mark.parametrize(("header", "seconds"), [(None, 34.4), ("7", 7.0)])
def test_how_long_to_wait_is_read_from_the_details(header: str | None, seconds: float) -> None:
    found = errors.decode(429, wire("error_rate.json"), retry_after=header)
    assert (found.cause, found.retry_after) == (Cause.RATE_LIMITED, seconds)


@pytest.mark.parametrize(
    "content", [b"", b"null", b"[]", b"{}", b"<html>", b'{"error":"gone"}', b'[{"error":{"message":"gone"}}]', b"\xff"]
)
def test_errors_of_any_shape_are_read(content: bytes) -> None:
    for status in (400, 401, 404, 429, 500, 503):
        assert isinstance(errors.decode(status, content, retry_after="x"), RelayError)
    assert b"gone" not in content or "gone" in errors.decode(500, content, retry_after=None).message


def test_the_path_names_the_model_and_how_it_answers() -> None:
    assert DIALECT.path("gemini-x", False) == "/models/gemini-x:generateContent"
    assert DIALECT.path("gemini-x", True) == "/models/gemini-x:streamGenerateContent?alt=sse"
    assert DIALECT.path("tunedModels/my-1", False) == "/tunedModels/my-1:generateContent"
