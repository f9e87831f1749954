"""OpenAI's wire, without a server: events however they are cut, usage however it is told, streams however they come."""

import itertools
import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.counting import families, tokenizer
from relay.counting.tokenizer import Vocabulary
from relay.errors import Cause, RelayError
from relay.protocols import envelope, sse
from relay.protocols.capabilities import Capabilities
from relay.protocols.openai import errors, request, response, usage
from relay.protocols.openai.stream import ChatStream
from tests.kit import scripts

STREAM = b": hi\n\nevent: x\nid: 1\n" + b"".join(scripts.chunks("up", words=("a\u2028b", "你好", "\n\n", "data: x")))


def events_of(pieces: list[bytes]) -> list[bytes]:
    splitter = sse.Splitter()
    return [event for piece in pieces for event in splitter.feed(piece)] + splitter.close()


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_a_cut_at_any_byte_gives_the_same_events(ending: bytes) -> None:
    text = STREAM.replace(b"\n", ending)
    expected = events_of([STREAM])
    assert len(expected) == 9
    for at in range(len(text) + 1):
        assert events_of([text[:at], text[at:]]) == expected
    assert events_of([bytes([byte]) for byte in text]) == expected


@given(st.lists(st.integers(0, len(STREAM)), max_size=12), st.sampled_from([b"\n", b"\r\n"]))
def test_any_cuts_give_the_same_stream(cuts: list[int], ending: bytes) -> None:
    text = STREAM.replace(b"\n", ending)
    edges = [0, *sorted(cut * len(ending) for cut in cuts), len(text)]
    stream, whole = (ChatStream(model="mine", wants_usage=True) for _ in range(2))
    out = b"".join(stream.feed(text[a:b]) for a, b in itertools.pairwise(edges)) + stream.close()
    assert out == whole.feed(STREAM) + whole.close()
    assert (stream.done, stream.failure, stream.finish) == (True, None, "stop")
    assert stream.last({"cost": "1"}) == whole.last({"cost": "1"})


def test_an_event_s_data_may_span_lines_and_lack_its_space() -> None:
    assert sse.payload(b"data:a\ndata: b\nevent: x") == b"a\nb"
    assert sse.payload(b": comment") is None
    assert sse.payload(b"event: ping") is None
    assert sse.payload(b"data: {}") == b"{}"


LINES = [b"data: a", b"data:b", b"data:  c", b"data", b"event: data: d", b"event:e", b": data: f", b"id: 1", b"data: "]


@given(st.lists(st.sampled_from(LINES), min_size=1, max_size=4))
def test_an_events_data_is_that_of_its_data_lines_in_whatever_company(lines: list[bytes]) -> None:
    told = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]
    assert sse.payload(b"\n".join(lines)) == (b"\n".join(told) if told else None)


@given(st.binary(max_size=300))
def test_no_bytes_break_the_splitter_or_the_stream(data: bytes) -> None:
    events_of([data, data])
    stream = ChatStream(model="mine", wants_usage=False)
    out = stream.feed(data) + stream.close()
    assert stream.failure is not None or stream.done or stream.finish
    assert out == b"" or out.startswith(b"data: ")


def test_an_event_without_end_is_an_error() -> None:
    splitter = sse.Splitter()
    for _ in range(sse.LONGEST_EVENT // 65536):
        assert splitter.feed(b"x" * 65536) == []
    with pytest.raises(RelayError):
        splitter.feed(b"x")


# ---- usage ----------------------------------------------------------------------------------------------------------

numbers = st.none() | st.integers(-10, 10**13) | st.floats() | st.text(max_size=3) | st.booleans()
details = st.none() | st.dictionaries(
    st.sampled_from(["cached_tokens", "audio_tokens", "reasoning_tokens", "cache_write_tokens", "other"]), numbers
)
wires = st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": numbers,
        "completion_tokens": numbers,
        "total_tokens": numbers,
        "prompt_tokens_details": details,
        "completion_tokens_details": details,
        "prompt_cache_hit_tokens": numbers,
    },
)


@given(wires)
def test_decoded_usage_is_never_negative_and_never_more_than_was_told(wire: dict[str, Any]) -> None:
    found = usage.decode(json.dumps(wire).encode())
    if found is not None:
        assert all(quantity > 0 for _, quantity in found.buckets())
        assert found.tokens_in == wire["prompt_tokens"]
        assert found.tokens_out == wire["completion_tokens"]


FAULTS = [{"type": "extra_forbidden", "loc": ["body", "top_k"], "msg": "Extra inputs are not permitted", "input": 5}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"detail": FAULTS}, "body.top_k: Extra inputs are not permitted"),
        ({"object": "error", "message": {"detail": FAULTS}}, "body.top_k: Extra inputs are not permitted"),
        ({"detail": "Input text exceeds the maximum length."}, "Input text exceeds the maximum length."),
        ({"detail": {"message": "No."}}, "No."),
        ({"detail": [], "message": None}, "no reason given"),
        ({"message": "No.", "detail": ["of", "any", "shape"]}, "No."),
        ({"message": "No.", "detail": {"message": 5}}, "No."),
        ({"detail": 5}, "no reason given"),
    ],
)
def test_what_a_provider_says_in_detail_reaches_the_caller(content: dict[str, Any], said: str) -> None:
    refused = errors.decode(422, json.dumps(content).encode(), retry_after=None)
    assert (refused.status, refused.message) == (422, said)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_no_bytes_break_usage_errors_or_answers(data: bytes) -> None:
    usage.decode(data)
    envelope.error_text(data)
    for status in (400, 401, 429, 500, 503):
        assert isinstance(errors.decode(status, data, retry_after="x"), RelayError)
    for decode in (response.decode, request.decode):
        try:
            decode(data)
        except RelayError:
            pass
    request.key_in_body(data)


def test_details_above_their_total_do_not_make_a_bucket_negative() -> None:
    wire = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 99}}
    found = usage.decode(json.dumps(wire).encode())
    assert found is not None
    assert dict(found.buckets()) == {"cache_read": 10, "output": 5}


def test_deepseek_s_spelling_of_the_cache_counts() -> None:
    found = usage.decode(b'{"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_hit_tokens": 4}')
    assert found is not None
    assert dict(found.buckets()) == {"input": 6, "cache_read": 4, "output": 5}


# ---- requests and errors --------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
known = {"model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "api_key"}
extras = st.dictionaries(
    st.text(min_size=1, max_size=8).filter(lambda name: name.lower() not in known), json_values, max_size=4
)


@given(extras, st.booleans(), st.none() | st.integers(1, 5000), st.sampled_from(["mine", "other"]))
def test_everything_that_is_not_the_gateway_s_business_survives(
    extra: dict[str, Any], stream: bool, limit: int | None, model: str
) -> None:
    body = {"model": "mine", "messages": [{"role": "user", "content": "x"}], "api_key": "k", "stream": stream, **extra}
    sent = json.loads(request.decode(json.dumps(body).encode()).encode(model=model, limit=limit))
    assert sent.pop("model") == model
    assert sent.pop("max_tokens", None) == limit
    assert sent.pop("stream_options", None) == ({"include_usage": True} if stream else None)
    assert sent == {name: value for name, value in body.items() if name not in ("model", "api_key")}


@pytest.mark.parametrize("field", ["Model", "MAX_TOKENS", "Messages"])
def test_a_field_in_other_letters_cannot_slip_past_the_price(field: str) -> None:
    body = {"model": "cheap", "messages": [{}], field: "dear"}
    with pytest.raises(RelayError) as refused:
        request.decode(json.dumps(body).encode())
    assert (refused.value.cause, refused.value.param) == (Cause.INVALID_PARAMETER, field)


def test_of_a_field_written_twice_the_upstream_sees_the_one_that_was_priced() -> None:
    asked = request.decode(b'{"model":"cheap","messages":[{}],"model":"dear"}')
    assert asked.model == "dear"
    sent = asked.encode(model="dear", limit=None)
    assert json.loads(sent)["model"] == "dear"
    assert sent.count(b'"model"') == 1


@pytest.mark.parametrize(
    ("model", "field"),
    [("gpt-5-mini", "max_completion_tokens"), ("o3", "max_completion_tokens"), ("gpt-4o", "max_tokens")],
)
@pytest.mark.parametrize("written", [{}, {"max_tokens": None}, {"max_completion_tokens": None}], ids=str)
def test_a_limit_that_the_gateway_sets_has_the_name_that_the_upstream_s_model_takes(
    model: str, field: str, written: dict[str, None]
) -> None:
    asked = request.decode(msgspec.json.encode({"model": "gpt-5", "messages": [{}], **written}))
    sent = json.loads(asked.encode(model=model, limit=9))
    assert {name: sent[name] for name in request.LIMITS if name in sent} == {field: 9}


def test_a_deployment_s_limit_has_the_name_that_its_capabilities_say() -> None:
    asked = request.decode(b'{"model":"gpt-4o","messages":[{}]}')
    sent = json.loads(asked.encode(model="ours-in-sweden", limit=9, caps=Capabilities(new_limit=True)))
    assert (sent.get("max_tokens"), sent["max_completion_tokens"]) == (None, 9)


def test_every_cause_has_its_envelope() -> None:
    for cause in Cause:
        body = errors.body(RelayError(cause, "said"), {"gateway": "Pisces"})
        assert body["error"].keys() == {"message", "type", "param", "code"}
        assert body["error"]["message"] == "said"
        event = errors.encode_event(RelayError(cause, "a\nb"), {})
        assert event.startswith(b'data: {"error"')
        assert event.count(b"\n") == 2


STATES = {
    "claude": {"type": "reasoning.text", "text": "Hm.", "signature": "EqSI", "format": "anthropic-claude-v1"},
    "gpt": {"type": "reasoning.encrypted", "data": "gAAA", "id": "rs_1", "format": "openai-responses-v1"},
    "gemini": {"type": "reasoning.encrypted", "data": "CiQB", "format": "google-gemini-v1"},
    "nobody": {"type": "reasoning.text", "text": "Hm.", "format": None},
    "another": {"type": "reasoning.encrypted", "data": "x", "format": "xai-responses-v1"},
}


def thinking(*names: str) -> bytes:
    thoughts = {"reasoning_details": [STATES[name] for name in names]} if names else {}
    said = {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm.", **thoughts}
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}, said]}).encode()


@pytest.mark.parametrize(
    ("model", "kept"),
    [
        ("anthropic/claude-sonnet-4.5", ["claude", "nobody", "another"]),
        ("gpt-5.1", ["gpt", "nobody", "another"]),
        ("openai/o3", ["gpt", "nobody", "another"]),
        ("google/gemini-3-flash", ["gemini", "nobody", "another"]),
        ("deepseek-chat", ["nobody", "another"]),
        ("openrouter/auto", list(STATES)),
    ],
)
def test_another_vendor_s_state_passes_to_nobody_whose_name_says_who_it_is(model: str, kept: list[str]) -> None:
    sent = json.loads(request.decode(thinking(*STATES)).encode(model=model, limit=None))
    assert sent == {**json.loads(thinking(*kept)), "model": model}


def test_where_only_another_vendor_s_state_was_the_field_is_gone() -> None:
    sent = json.loads(request.decode(thinking("claude", "gemini")).encode(model="gpt-4o", limit=None))
    assert sent == {**json.loads(thinking()), "model": "gpt-4o"}


@pytest.mark.parametrize(
    "written", [b'["x"]', b'"x"', b"null", b"[]", b'[{"format":"openai-responses-v1","data":"x"}]']
)
def test_details_of_another_shape_and_the_vendor_s_own_keep_their_bytes(written: bytes) -> None:
    body = b'{"model":"gpt-5.1","messages":[{"role":"assistant","content":"x","reasoning_details": %b}]}' % written
    assert request.decode(body).encode(model="gpt-5.1", limit=None) == body


# ---- texts that pass ------------------------------------------------------------------------------------------------


@given(
    st.lists(st.text(max_size=12) | st.sampled_from(['"', "\\", '","usage":{"x":1}', "\n", "data: [DONE]", "é", ""]))
)
def test_every_text_passes_and_is_counted_whether_its_chunk_looked_familiar_or_not(texts: list[str]) -> None:
    stream = ChatStream(model="offered", wants_usage=False, upstream_model="gpt-4o")
    out = b"".join(stream.feed(compact({"content": text})) for text in texts)
    found = [json.loads(event[6:]) for event in out.split(b"\n\n") if event]
    assert [chunk["choices"][0]["delta"]["content"] for chunk in found] == texts
    assert {chunk["model"] for chunk in found} <= {"offered"}
    assert stream.failure is None
    assert stream.output_bytes == sum(len(json.dumps(text, ensure_ascii=False).encode()) - 2 for text in texts)
    assert stream.seen.baseline() == tokenizer.count("".join(texts), Vocabulary.O200K)


def compact(content: dict[str, Any]) -> bytes:
    """A chunk as providers write it: no spaces, text as it is."""
    data = json.dumps(scripts.delta("up", content), separators=(",", ":"), ensure_ascii=False)
    return b"data: " + data.encode() + b"\n\n"


@pytest.mark.parametrize("text", [b"\xff", b"\x01", b'", "x": "', b'"},"finish_reason":"stop"}],"q":[{"z":{"z":"'])
def test_a_chunk_that_only_looks_familiar_is_looked_into(text: bytes) -> None:
    stream = ChatStream(model="offered", wants_usage=False)
    ordinary = compact({"content": "word"})
    for _ in range(3):
        assert stream.feed(ordinary)
    stream.feed(ordinary.replace(b"word", text))
    assert stream.failure is not None or stream.finish == "stop" or stream.output_bytes != 3 * 4 + len(text)


@pytest.mark.parametrize(
    "message",
    [
        {"content": 'see "data:image/png;base64,' + "word " * 10_000},
        {"content": "data:image/png;base64," + "word " * 10_000},
        {"content": [{"type": "text", "text": "data:image/png;base64," + "word " * 10_000}]},
        {"content": [{"type": "text", "image_url": {"url": "data:image/png;base64," + "word " * 10_000}}]},
        {"content": "hello", "name": "data:image/png;base64," + "word " * 10_000},
    ],
)
def test_text_that_is_dressed_up_as_a_picture_is_held_for_as_text(message: dict[str, Any]) -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", **message}]}).encode()
    assert request.decode(body).input_bound("gpt-4o") >= len(body)


def test_a_linked_picture_is_held_for_at_its_largest_however_its_part_is_spelt() -> None:
    part = b'{"type": "image\\u005furl", "image\\u005furl": {"url": "https://pictures.example/1.png"}}'
    body = b'{"model": "m", "messages": [{"role": "user", "content": [%s, %s]}]}' % (part, part)
    largest = families.of("gpt-4o").picture.tokens(None, "auto")
    assert request.decode(body).input_bound("gpt-4o") == len(body) + 2 * largest


@given(st.text(max_size=200))
def test_the_bound_of_text_is_its_bytes(text: str) -> None:
    body = json.dumps({"messages": [{"content": text}]}, ensure_ascii=False).encode()
    assert request.decode(body).input_bound("gpt-4o") == len(body) >= len(text.encode())


@pytest.mark.parametrize("first", [b'"max_tokens": 90000', b'"max\\u005ftokens": 9'])
def test_the_upstream_gets_no_second_field_that_it_could_take_for_the_one_that_was_read(first: bytes) -> None:
    asked = request.decode(b'{%s, "model": "m", "X": 1, "messages": [{}], "max_tokens": 5}' % first)
    assert asked.limit == 5
    sent = asked.encode(model="m", limit=None)
    assert sent.count(b"tokens") == 1
    assert json.loads(sent) == {"max_tokens": 5, "model": "m", "X": 1, "messages": [{}]}


def test_a_long_event_in_many_pieces_costs_time_by_its_length() -> None:
    splitter, piece = sse.Splitter(), b"x" * 16
    began = time.process_time()
    for _ in range(100_000):
        assert splitter.feed(piece) == []
    assert splitter.feed(b"\n") == []
    assert splitter.feed(b"\n") == [piece * 100_000]
    assert time.process_time() - began < 2
    splitter.feed(piece * (sse.LONGEST_EVENT // 16))
    with pytest.raises(RelayError):
        splitter.feed(piece)
