"""Gemini's counting of tokens."""

import json
from typing import Any

import pytest

from relay.errors import Cause, RelayError
from relay.protocols.gemini import count_tokens
from tests.relay.protocols.gemini_wire import CAPS_25, PISCES, asked, wire

HELLO: list[Any] = [{"role": "user", "parts": [{"text": "Hello"}]}]
WHOLE = {"model": "models/other", "contents": HELLO, "systemInstruction": {"parts": [{"text": "Be brief."}]}}


@pytest.mark.parametrize("group", ["generateContentRequest", "generate_content_request"])
def test_a_prompt_is_counted_bare_or_as_a_whole_request(group: str) -> None:
    """Pitfall 37: system text and tools count too."""
    bare = count_tokens.read(json.dumps({"contents": HELLO}).encode(), model="models/m")
    assert [message.role for message in bare.canonical().messages] == ["user"]
    whole = count_tokens.read(json.dumps({group: WHOLE}).encode(), model="m")
    assert [message.role for message in whole.canonical().messages] == ["system", "user"]
    assert (bare.model, whole.model) == ("m", "m")
    assert whole.prompt().texts == ["system", "Be brief.", "user", "Hello"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"generateContentRequest":{}}', b'{"generateContentRequest":7}'])
def test_what_cannot_be_counted_is_refused(body: bytes) -> None:
    with pytest.raises(RelayError) as refused:
        count_tokens.read(body, model="m")
    assert refused.value.status == 400


def test_the_question_goes_to_the_upstream_as_a_whole_request() -> None:
    read = count_tokens.read(json.dumps({"generateContentRequest": {**WHOLE, "x": 1}}).encode(), model="m")
    body = count_tokens.encode_request(read, model="up", caps=CAPS_25)
    sent = json.loads(count_tokens.question(body, model="up"))
    assert sent == {"generateContentRequest": {**WHOLE, "x": 1, "model": "models/up"}}
    assert count_tokens.path("up") == "/models/up:countTokens"


def test_a_count_is_read_and_written() -> None:
    answer = b'{"totalTokens": 31, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 31}]}'
    assert count_tokens.decode_response(answer) == 31
    assert json.loads(count_tokens.encode_response(31, told={}, pisces=PISCES)) == {"totalTokens": 31, "pisces": PISCES}


@pytest.mark.parametrize("body", [b"", b"{}", b'{"totalTokens":"3"}', b'{"totalTokens":-3}', b'{"totalTokens":9e30}'])
def test_a_count_that_makes_no_sense_is_the_upstream_s_failure(body: bytes) -> None:
    with pytest.raises(RelayError) as refused:
        count_tokens.decode_response(body)
    assert refused.value.cause is Cause.UPSTREAM_ERROR


def test_a_request_of_another_kind_is_translated_to_be_counted() -> None:
    request = asked().canonical()

    class Other:
        def canonical(self) -> object:
            return request

    sent = json.loads(count_tokens.encode_request(Other(), model="up", caps=CAPS_25))  # type: ignore[arg-type]
    assert sent["contents"] == [{"role": "user", "parts": [{"text": "x"}]}]
    assert wire("request_text.json")
