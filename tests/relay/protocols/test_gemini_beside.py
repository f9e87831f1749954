"""Gemini's counting of tokens and its embeddings."""

import json
from typing import Any

import pytest

from billing.usage import Usage
from relay.errors import Cause, RelayError
from relay.protocols.gemini import count_tokens, embedding
from relay.protocols.gemini.embedding import Embeddings, Vectors
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
    sent = json.loads(count_tokens.encode_request(read, model="up", caps=CAPS_25))
    assert sent == {"generateContentRequest": {**WHOLE, "x": 1, "model": "models/up"}}
    assert count_tokens.path("up") == "/models/up:countTokens"


def test_a_count_is_read_and_written() -> None:
    answer = b'{"totalTokens": 31, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 31}]}'
    assert count_tokens.decode_response(answer) == 31
    assert json.loads(count_tokens.encode_response(31, pisces=PISCES)) == {"totalTokens": 31, "pisces": PISCES}


@pytest.mark.parametrize("body", [b"", b"{}", b'{"totalTokens":"3"}', b'{"totalTokens":-3}', b'{"totalTokens":9e30}'])
def test_a_count_that_makes_no_sense_is_the_upstream_s_failure(body: bytes) -> None:
    with pytest.raises(RelayError) as refused:
        count_tokens.decode_response(body)
    assert refused.value.cause is Cause.UPSTREAM_ERROR


# ---- embeddings -----------------------------------------------------------------------------------------------------

ONE = {"model": "models/e", "content": {"parts": [{"text": "a"}, {"text": "b"}]}, "outputDimensionality": 3}


def test_one_text_or_a_batch_is_read() -> None:
    assert embedding.read(json.dumps(ONE).encode(), batch=False) == Embeddings("e", ["a\nb"], 3, batch=False)
    other = {"content": {"parts": {"text": "c"}}, "task_type": "RETRIEVAL_QUERY", "output_dimensionality": 3}
    batch = {"requests": [{**ONE, "taskType": "RETRIEVAL_QUERY"}, other]}
    assert embedding.read(json.dumps(batch).encode(), model="models/m", batch=True) == Embeddings(
        "m", ["a\nb", "c"], 3, "RETRIEVAL_QUERY"
    )


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"requests": []},
        {"requests": [{}]},
        {"requests": [{"content": {"parts": [{"inlineData": {}}]}}]},
        {"requests": [ONE, {**ONE, "outputDimensionality": 4}]},
        {"requests": [{**ONE, "outputDimensionality": -1}]},
        {"requests": [{**ONE, "outputDimensionality": "3"}]},
        {"requests": [{"content": {"parts": [{"text": "a"}]}}] * 2049},
    ],
)
def test_what_cannot_be_embedded_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(RelayError) as refused:
        embedding.read(json.dumps(body).encode(), model="m", batch=True)
    assert refused.value.cause is Cause.INVALID_PARAMETER


def test_a_request_of_the_same_protocol_goes_on_under_the_upstream_s_name() -> None:
    body = json.dumps({"requests": [ONE, ONE], "x": 1, "api_key": "k"}).encode()
    assert json.loads(embedding.encode(body, model="up")) == {"x": 1, "requests": [{**ONE, "model": "models/up"}] * 2}
    assert json.loads(embedding.encode(json.dumps(ONE).encode(), model="up")) == {**ONE, "model": "models/up"}


def test_any_client_s_texts_are_asked_for_as_a_batch() -> None:
    sent = json.loads(embedding.encode_request(Embeddings("e", ["a", "b"], 3), model="up"))
    content = [{"content": {"parts": [{"text": text}]}} for text in "ab"]
    assert sent == {"requests": [{"model": "models/up", **one, "outputDimensionality": 3} for one in content]}
    assert embedding.path("up") == "/models/up:batchEmbedContents"
    assert embedding.path("up", batch=False) == "/models/up:embedContent"
    again = embedding.read(json.dumps(sent).encode(), batch=True)
    assert again == Embeddings("up", ["a", "b"], 3)


def test_vectors_are_read_and_written_alone_or_in_a_batch() -> None:
    batch = b'{"embeddings":[{"values":[0.5,-1]},{"values":[2e-3,0]}],"usageMetadata":{"promptTokenCount":7}}'
    found = embedding.decode_response(batch)
    assert found == Vectors([[0.5, -1.0], [0.002, 0.0]], Usage(input=7))
    written = json.loads(embedding.encode_response(found, batch=True, pisces=PISCES))
    assert written == {**json.loads(batch), "pisces": PISCES}
    one = embedding.decode_response(b'{"embedding":{"values":[0.5]}}')
    assert one == Vectors([[0.5]], None)
    assert json.loads(embedding.encode_response(one, batch=False, pisces=PISCES))["embedding"] == {"values": [0.5]}


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"embeddings":[]}', b'{"embedding":{"values":["x"]}}'])
def test_an_answer_without_vectors_is_the_upstream_s_failure(body: bytes) -> None:
    with pytest.raises(RelayError) as refused:
        embedding.decode_response(body)
    assert refused.value.cause is Cause.UPSTREAM_ERROR


def test_a_request_of_another_kind_is_translated_to_be_counted() -> None:
    request = asked().canonical()

    class Other:
        def canonical(self) -> object:
            return request

    sent = json.loads(count_tokens.encode_request(Other(), model="up", caps=CAPS_25))  # type: ignore[arg-type]
    assert sent["generateContentRequest"]["contents"] == [{"role": "user", "parts": [{"text": "x"}]}]
    assert wire("request_text.json")
