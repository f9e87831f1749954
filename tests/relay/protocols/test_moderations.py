"""Moderation without a server: texts, parts and pictures, results as they came."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import ModerationCreateResponse

from billing.usage import Usage
from relay.counting import prompt
from relay.counting.calibration import reports
from relay.errors import Cause, RelayError
from relay.protocols.moderations import DIALECT, request
from tests.kit import scripts
from tests.relay.protocols.laws import failure_of

MODEL = "omni-moderation-latest"
PNG = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ" + "A" * 4000
TEXT, PICTURE = {"type": "text", "text": "hello"}, {"type": "image_url", "image_url": {"url": PNG}}


def body(given: Any, **fields: Any) -> bytes:
    return json.dumps({"model": "m", "input": given, **fields}).encode()


@pytest.mark.parametrize(
    ("given", "texts", "pictures"),
    [
        ("hello", ["hello"], 0),
        (["a", "b"], ["a", "b"], 0),
        ([TEXT], ["hello"], 0),
        ([TEXT, PICTURE, {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}], ["hello"], 2),
    ],
)
def test_texts_and_parts_are_read(given: Any, texts: list[str], pictures: int) -> None:
    asked = request.read(body(given))
    assert (asked.texts, len(asked.pictures)) == (texts, pictures)
    assert (asked.kind, asked.stream, asked.limit, asked.n) == ("moderation", False, None, 1)
    assert json.loads(asked.encode(model="up", limit=None)) == {"model": "up", "input": given}
    assert prompt.count(asked.prompt(), MODEL, reports) <= asked.input_bound(MODEL)


def test_a_picture_s_data_is_no_text() -> None:
    plain, seen = DIALECT.read(body([TEXT])), DIALECT.read(body([TEXT, PICTURE]))
    assert seen.text_bytes < plain.text_bytes + 120
    assert seen.input_bound("gpt-4o") < plain.input_bound("gpt-4o") + 4000


@pytest.mark.parametrize(
    "given",
    [
        None, 1, True, {}, TEXT, [], [1], [None], [["a"]], ["a", TEXT], [{"type": "text"}], [{"type": "image_url"}],
        [{"type": "text", "text": 1}], [{"type": "video", "text": "a"}], [{"text": "a"}], ["a"] * 2049,
        [{"type": "image_url", "image_url": "https://example.com"}], [{"type": "image_url", "image_url": {"url": 1}}],
        [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * (28 << 20)}}],
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_an_input_that_is_none_of_these_is_refused_by_its_name(given: Any) -> None:
    with pytest.raises(RelayError) as caught:
        DIALECT.read(body(given))
    assert (caught.value.cause, caught.value.param, caught.value.status) == (Cause.INVALID_PARAMETER, "input", 400)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"input": "\xff"}', b'{"input": ' + b"[" * 99_999])
def test_what_is_no_json_object_is_refused(content: bytes) -> None:
    with pytest.raises(RelayError) as caught:
        DIALECT.read(content)
    assert caught.value.cause is Cause.INVALID_JSON


def test_results_are_passed_on_under_the_offered_name() -> None:
    wire = json.dumps(scripts.moderation("up")).encode()
    whole = DIALECT.whole(wire, DIALECT.read(body("hello")))
    assert (whole.id, whole.usage, whole.output_bytes) == ("modr-upstream", None, 0)
    encoded = whole.encode(model="m", pisces={"cost": "0"})
    assert json.loads(encoded) == {**scripts.moderation("m"), "pisces": {"cost": "0"}}
    assert ModerationCreateResponse.model_validate_json(encoded).results[0].flagged is True


def test_a_report_of_usage_is_read() -> None:
    wire = json.dumps({**scripts.moderation("up"), "usage": {"prompt_tokens": 5, "total_tokens": 5}}).encode()
    assert DIALECT.whole(wire, DIALECT.read(body("hello"))).usage == Usage(input=5)


@pytest.mark.parametrize("wire", [b"", b"{}", b"[]", b'{"results": []}', b'{"results": {}}', b'{"error": "no"}'])
def test_what_is_no_judgement_is_the_upstream_s_failure(wire: bytes) -> None:
    with pytest.raises(RelayError) as caught:
        DIALECT.whole(wire, DIALECT.read(body("hello")))
    assert caught.value.cause is Cause.UPSTREAM_ERROR


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reading_or_the_decoder(data: bytes) -> None:
    asked = DIALECT.read(body("hello"))
    assert failure_of(lambda: DIALECT.read(data)) in (None, 400)
    assert failure_of(lambda: DIALECT.whole(data, asked)) in (None, 502)
