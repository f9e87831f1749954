"""Embeddings on OpenAI's wire and Gemini's, without a server: reading, bounds, packing, translation."""

import base64
import json
import struct
from typing import Any

import msgspec
import pytest
from google.genai import types as genai
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse

from billing.usage import Usage
from relay.counting import prompt, tokenizer
from relay.counting.calibration import reports
from relay.counting.tokenizer import Vocabulary
from relay.errors import Cause, RelayError
from relay.protocols import codec, vectors
from relay.protocols import embeddings as openai
from relay.protocols.gemini import embedding as gemini
from tests.relay.protocols.laws import failure_of

OPENAI, GEMINI = openai.DIALECT, gemini.DIALECT
SMALL, FOREIGN = "text-embedding-3-small", "bge-m3"
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", **fields}).encode()


def asked(given: Any = "Hello", **fields: Any) -> Any:
    return OPENAI.read(body(input=given, **fields))


def gemini_asked(*texts: str, batch: bool = True, **fields: Any) -> Any:
    each = [{"content": {"parts": [{"text": text}]}, **fields} for text in texts]
    content = {"requests": each} if batch else each[0]
    return GEMINI.read(json.dumps(content).encode(), model="g", batch=batch)


def answer(count: int = 2, **extra: Any) -> bytes:
    data = [{"object": "embedding", "index": n, "embedding": [n + 0.5, -1.25]} for n in range(count)]
    usage = {"prompt_tokens": 7, "total_tokens": 7}
    return json.dumps({"object": "list", "data": data, "model": "up", "usage": usage, **extra}).encode()


def refusal(content: bytes, **named: Any) -> RelayError:
    with pytest.raises(RelayError) as caught:
        (GEMINI if named else OPENAI).read(content, **named)
    assert caught.value.status == 400
    return caught.value


# ---- requests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "inputs", "texts"),
    [
        ("Hello", 1, ["Hello"]),
        ("", 1, [""]),
        (["a", "[1,2]", '"'], 3, ["a", "[1,2]", '"']),
        ([15339], 1, None),
        ([15339, 1917], 1, None),
        ([[15339], [15339, 1917]], 2, None),
    ],
)
def test_a_text_texts_tokens_and_lists_of_tokens_are_read(given: Any, inputs: int, texts: list[str] | None) -> None:
    read = asked(given)
    assert (read.inputs, read.texts, read.kind, read.stream, read.limit, read.n) == (
        inputs, texts, "embedding", False, None, 1,
    )  # fmt: skip


@pytest.mark.parametrize(
    "given",
    [
        None, 3, 1.5, True, {}, {"text": "a"}, [], [[]], [[1], []], [None], [True], [1.5], [-1], [1e300], ["a", 1],
        [1, "a"], [1, [2]], [[1], 2], [[[1]]], [[1], [[2]]], [["a"]], [{"text": "a"}], [[1, None]],
        ["a"] * 2049, [[1]] * 2049,
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_an_input_that_is_none_of_these_is_refused_by_its_name(given: Any) -> None:
    error = refusal(body(input=given))
    assert (error.cause, error.param) == (Cause.INVALID_PARAMETER, "input")
    assert "input" in error.message


@pytest.mark.parametrize(
    ("content", "cause", "param"),
    [
        (b"", Cause.INVALID_JSON, None),
        (b"[]", Cause.INVALID_JSON, None),
        (b'{"input": "a"', Cause.INVALID_JSON, None),
        (b'{"input": "\xff"}', Cause.INVALID_JSON, None),
        (b'{"input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", Cause.INVALID_JSON, None),
        (b'{"model": "m"}', Cause.INVALID_PARAMETER, "input"),
        (b'{"model": 1, "input": "a"}', Cause.INVALID_PARAMETER, "model"),
        (b'{"Model": "x", "input": "a"}', Cause.INVALID_PARAMETER, "Model"),
        (b'{"input": "a", "INPUT": "b"}', Cause.INVALID_PARAMETER, "INPUT"),
        (b'{"input": "a", "dimensions": 0}', Cause.INVALID_PARAMETER, "dimensions"),
        (b'{"input": "a", "dimensions": -5}', Cause.INVALID_PARAMETER, "dimensions"),
        (b'{"input": "a", "dimensions": "2"}', Cause.INVALID_PARAMETER, "dimensions"),
        (b'{"input": "a", "encoding_format": "hex"}', Cause.INVALID_PARAMETER, "encoding_format"),
        (b'{"input": "a", "encoding_format": 1}', Cause.INVALID_PARAMETER, "encoding_format"),
    ],
)
def test_bad_bodies_name_their_field(content: bytes, cause: Cause, param: str | None) -> None:
    error = refusal(content)
    assert (error.cause, error.param) == (cause, param)


def test_a_list_of_a_million_texts_is_refused_before_they_are_made() -> None:
    assert "2048" in refusal(b'{"input": [' + b'"a",' * 1_000_000 + b'"a"]}').message
    assert "2048" in refusal(b'{"input": [' + b'"\\"",' * 1_000_000 + b'"a"]}').message
    quotes = json.dumps({"input": '"' * 100_000}).encode()
    assert openai.request.read(quotes).inputs == 1


@given(st.binary(max_size=200) | st.text(max_size=50).map(lambda text: body(input=text)))
def test_no_bytes_break_the_reading(content: bytes) -> None:
    assert failure_of(lambda: OPENAI.read(content)) in (None, 400)
    assert failure_of(lambda: GEMINI.read(content, model="m", batch=True)) in (None, 400)
    assert failure_of(lambda: GEMINI.read(content, model="m", batch=False)) in (None, 400)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@given(json_values, json_values)
def test_no_json_breaks_the_reading_and_what_is_read_can_be_sent(given: Any, dimensions: Any) -> None:
    content = body(input=given, dimensions=dimensions)
    if status := failure_of(lambda: OPENAI.read(content)):
        assert status == 400
        return
    read: Any = OPENAI.read(content)
    assert json.loads(read.encode(model="other", limit=None)) == {**json.loads(content), "model": "other"}
    assert read.input_bound(SMALL) >= read.inputs
    assert prompt.count(read.prompt(), SMALL, reports) <= read.input_bound(SMALL)


def test_the_body_of_a_model_of_the_same_name_is_passed_byte_for_byte() -> None:
    content = b'{ "input" : ["a", 	"b"], "model":"m", "x_new": {"a" : 1.50} }'
    assert OPENAI.read(content).encode(model="m", limit=None) == content
    other = OPENAI.read(content).encode(model="up", limit=None)
    assert b'{"a" : 1.50}' in other
    assert json.loads(other) == {**json.loads(content), "model": "up"}


def test_a_key_in_the_body_and_a_field_written_twice_do_not_go_to_the_upstream() -> None:
    keyed = OPENAI.read(b'{"input": "a", "model": "m", "api_key": "pisces-x"}')
    assert json.loads(keyed.encode(model="m", limit=None)) == {"input": "a", "model": "m"}
    twice = OPENAI.read(b'{"input": "a", "model": "dear", "input": "b", "model": "m"}')
    assert twice.encode(model="m", limit=None) == b'{"input":"b","model":"m"}'
    escaped = OPENAI.read(b'{"input": "a", "model": "m", "\\u0061pi_key": "pisces-x"}')
    assert b"pisces" not in escaped.encode(model="m", limit=None)


# ---- tokens ---------------------------------------------------------------------------------------------------------


def test_tokens_are_counted_as_they_are_and_texts_by_the_model_s_vocabulary() -> None:
    for ids in ([1, 22, 333], [[1], [2, 3]]):
        for model in (SMALL, FOREIGN):
            assert prompt.count(asked(ids).prompt(), model, reports) == 3
    assert prompt.count(asked("hello world").prompt(), SMALL, reports) == 2
    assert prompt.count(asked(["hello", "hello world"]).prompt(), SMALL, reports) == 3


@pytest.mark.parametrize("model", [SMALL, FOREIGN])
@given(texts=st.lists(st.text(max_size=60), min_size=1, max_size=5))
def test_bytes_bound_tokens(model: str, texts: list[str]) -> None:
    read = asked(texts)
    assert read.input_bound(model) >= sum(tokenizer.count(text, Vocabulary.CL100K) for text in texts)
    assert read.input_bound(FOREIGN) > read.input_bound(SMALL)


def test_tokens_become_the_text_that_they_stand_for() -> None:
    """LangChain sends tokens of OpenAI's vocabulary, whatever model is asked."""
    assert asked([[15339, 1917], [15339]]).vectors().texts == ["hello world", "hello"]
    assert asked([15339, 1917]).vectors().texts == ["hello world"]


@pytest.mark.parametrize("given", [[100_256], [[15339], [2**70]], [160], [1] * 300_001])
def test_tokens_that_stand_for_no_text_are_refused_where_a_text_is_needed(given: Any) -> None:
    with pytest.raises(RelayError) as caught:
        asked(given).vectors()
    assert (caught.value.cause, caught.value.param) == (Cause.INVALID_PARAMETER, "input")


# ---- answers --------------------------------------------------------------------------------------------------------


def test_an_answer_is_passed_on_under_the_offered_name_with_its_numbers_as_they_were_written() -> None:
    wire = b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.10,1E-3]}],"model":"up","x":1}'
    whole = OPENAI.whole(wire, asked())
    assert (whole.usage, whole.output_bytes, whole.seen("up").size) == (None, 0, 0)
    encoded = whole.encode(model="m", pisces={"cost": "1"})
    assert b"[0.10,1E-3]" in encoded
    assert json.loads(encoded) == {**json.loads(wire), "model": "m", "pisces": {"cost": "1"}}


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 7, "total_tokens": 7}, 7),
        ({"prompt_tokens": 0, "total_tokens": 9}, 9),
        ({"total_tokens": 9}, 9),
        ({"prompt_tokens": 0, "total_tokens": 0}, 0),
        (None, None),
        ({}, None),
        ([], None),
        ("7", None),
        ({"prompt_tokens": "7"}, None),
        ({"prompt_tokens": -7}, None),
        ({"prompt_tokens": 2**63}, None),
        ({"prompt_tokens": 10**30}, None),
        ({"prompt_tokens": 1.5}, None),
    ],
)
def test_usage_that_makes_sense_is_read(usage: Any, tokens: int | None) -> None:
    found = OPENAI.whole(answer(1, usage=usage), asked()).usage
    assert found == (None if tokens is None else Usage(input=tokens))


BROKEN = [
    b"", b"null", b"[]", b"{}", b"<html>", b'{"data": null}', b'{"data": {}}', b'{"data": []}',
    b'{"error": {"message": "no"}}', b'{"error": "no", "data": [1]}', b'{"data": [1, 2]}', b'{"data": ["\xff"]}',
    b"[" * 50_000,
]  # fmt: skip


@pytest.mark.parametrize("wire", BROKEN, ids=lambda wire: str(wire[:20]))
def test_what_is_no_list_of_as_many_embeddings_is_the_upstream_s_failure(wire: bytes) -> None:
    with pytest.raises(RelayError) as caught:
        OPENAI.whole(wire, asked())
    assert caught.value.cause is Cause.UPSTREAM_ERROR


# ---- translation ----------------------------------------------------------------------------------------------------


def test_an_openai_request_becomes_a_gemini_batch() -> None:
    request = asked(["a", "b"], dimensions=256, user="u", encoding_format="base64").vectors()
    sent = GEMINI_ENCODE(request)
    part = {"outputDimensionality": 256, "model": "models/gemini-embedding-001"}
    assert sent.body == {"requests": [{"content": {"parts": [{"text": text}]}, **part} for text in ("a", "b")]}
    assert sent.losses == ["user"]
    assert GEMINI_ENCODE(asked("a", user=None).vectors()).losses == []
    assert GEMINI.path("tunedModels/mine") == "/tunedModels/mine:batchEmbedContents"
    assert GEMINI.path("gemini-embedding-001") == "/models/gemini-embedding-001:batchEmbedContents"


def GEMINI_ENCODE(request: vectors.Request) -> codec.Encoded:
    return GEMINI.encode_request(request, model="gemini-embedding-001")


def test_gemini_s_vectors_become_openai_s_in_both_encodings() -> None:
    wire = b'{"embeddings": [{"values": [0.5, -0.25]}, {"values": [1, 2e-3]}]}'
    response = GEMINI.decode_response(wire, 2)
    assert response.usage is None
    read = asked(["a", "b"])
    encoded = OPENAI.encode_response(response, asked=read, model="m", usage=Usage(input=5), pisces={})
    told = CreateEmbeddingResponse.model_validate_json(encoded, strict=True)
    assert [each.embedding for each in told.data] == [[0.5, -0.25], [1.0, 0.002]]
    assert [each.index for each in told.data] == [0, 1]
    assert (told.usage.prompt_tokens, told.usage.total_tokens, told.model) == (5, 5, "m")
    read = asked(["a", "b"], encoding_format="base64")
    encoded = OPENAI.encode_response(response, asked=read, model="m", usage=None, pisces={})
    packed = [each["embedding"] for each in json.loads(encoded)["data"]]
    assert [struct.unpack("<2f", base64.b64decode(each)) for each in packed] == [
        (0.5, -0.25), pytest.approx((1.0, 0.002)),
    ]  # fmt: skip


@given(st.lists(floats, min_size=1, max_size=20))
def test_packing_is_little_endian_and_loses_nothing_of_32_bits(numbers: list[float]) -> None:
    raw = json.dumps(base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()).encode()
    vector = vectors.unpacked(msgspec.Raw(raw))
    assert vectors.listed(vector) == numbers
    assert vectors.packed(vector) == json.loads(raw)
    assert vectors.listed(vectors.unpacked(msgspec.Raw(json.dumps(numbers).encode()))) == numbers


def test_an_upstream_s_base64_and_its_order_are_read() -> None:
    packed = base64.b64encode(struct.pack("<2f", 0.5, 2.0)).decode()
    data = [{"index": 1, "embedding": [3, 4]}, {"index": 0, "embedding": packed}]
    response = OPENAI.decode_response(answer(data=data), 2)
    assert [vectors.listed(vector) for vector in response.vectors] == [[0.5, 2.0], [3.0, 4.0]]
    assert response.usage == Usage(input=7)


@pytest.mark.parametrize("embedding", [None, 1, "a", "%%%%", ["x"], [None], {}, [[1]]])
def test_a_vector_that_is_none_is_the_upstream_s_failure(embedding: Any) -> None:
    for dialect, wire in (
        (OPENAI, {"data": [{"embedding": embedding}]}),
        (GEMINI, {"embeddings": [{"values": embedding}]}),
    ):
        with pytest.raises(RelayError) as caught:
            dialect.decode_response(json.dumps(wire).encode(), 1)
        assert caught.value.cause is Cause.UPSTREAM_ERROR


@given(
    st.binary(max_size=100) | json_values.map(lambda value: json.dumps({"data": value, "embeddings": value}).encode())
)
def test_no_answer_breaks_the_decoders(wire: bytes) -> None:
    assert failure_of(lambda: OPENAI.decode_response(wire, 1)) in (None, 502)
    assert failure_of(lambda: GEMINI.decode_response(wire, 1)) in (None, 502)


# ---- Gemini's clients -----------------------------------------------------------------------------------------------


def test_a_gemini_request_becomes_openai_s_and_names_what_is_lost() -> None:
    read = gemini_asked("a", "b", outputDimensionality=64, taskType="RETRIEVAL_QUERY", later=1)
    sent = OPENAI.encode_request(read.vectors(), model="up")
    assert sent.body == {"model": "up", "input": ["a", "b"], "encoding_format": "float", "dimensions": 64}
    assert sent.losses == ["later", "taskType"]
    snake = gemini_asked("a", output_dimensionality=64, task_type="X", batch=False).vectors()
    assert (snake.dimensions, snake.purpose) == (64, "X")


@pytest.mark.parametrize(("parts", "text"), [([{"text": "a"}, {"text": "b"}], "a\nb"), ({"text": "c"}, "c")])
def test_the_parts_of_a_content_are_one_text(parts: Any, text: str) -> None:
    content = {"model": "models/g", "content": {"parts": parts, "role": "user"}}
    assert gemini.read(json.dumps(content).encode(), model="g", batch=False).vectors().texts == [text]


def test_a_single_content_is_asked_for_as_a_batch_and_answered_as_one() -> None:
    read = gemini_asked("a", batch=False, taskType="X")
    sent = json.loads(read.encode(model="up", limit=None))
    assert sent == {"requests": [{"content": {"parts": [{"text": "a"}]}, "taskType": "X", "model": "models/up"}]}
    wire = b'{"embeddings": [{"values": [0.10]}], "usageMetadata": {"promptTokenCount": 3}}'
    whole = GEMINI.whole(wire, read)
    assert whole.usage == Usage(input=3)
    encoded = whole.encode(model="g", pisces={})
    assert b"[0.10]" in encoded
    assert set(json.loads(encoded)) == {"embedding", "usageMetadata", "pisces"}


def test_a_batch_keeps_all_of_its_fields_under_the_upstream_s_name() -> None:
    content = (
        b'{"requests": [{"model": "models/g", "content": {"parts": [{"text": "a"}]}, "new": 1.50}], "api_key": "k"}'
    )
    sent = GEMINI.read(content, model="g", batch=True).encode(model="up", limit=None)
    assert b"1.50" in sent
    assert json.loads(sent) == {"requests": [{"model": "models/up", "content": {"parts": [{"text": "a"}]}, "new": 1.5}]}


def test_openai_s_vectors_become_gemini_s() -> None:
    response = OPENAI.decode_response(answer(2), 2)
    encoded = GEMINI.encode_response(
        response, asked=gemini_asked("a", "b"), model="g", usage=response.usage, pisces={"cost": "1"}
    )
    told = genai.EmbedContentResponse.model_validate(
        {key: value for key, value in json.loads(encoded).items() if key != "pisces"}
    )
    assert told.embeddings is not None
    assert [each.values for each in told.embeddings] == [[0.5, -1.25], [1.5, -1.25]]
    assert told.usage_metadata is not None
    assert told.usage_metadata.prompt_token_count == 7


CONTENT = {"parts": [{"text": "a"}]}


@pytest.mark.parametrize(
    ("content", "param"),
    [
        ({}, "requests"),
        ({"requests": []}, "requests"),
        ({"requests": {}}, "requests"),
        ({"requests": [{}]}, "requests"),
        ({"requests": [{"content": "a"}]}, "requests"),
        ({"requests": [{"content": {"parts": [{"inlineData": {}}]}}]}, "requests"),
        ({"requests": [{"content": {"parts": []}}]}, "content"),
        ({"requests": [{"content": CONTENT, "model": "models/dearer"}]}, "model"),
        ({"requests": [{"content": CONTENT, "outputDimensionality": 0}]}, "outputDimensionality"),
        ({"requests": [{"content": CONTENT}] * 2049}, "requests"),
        ({"Requests": [], "requests": [{"content": CONTENT}]}, "Requests"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_batches_name_their_field(content: Any, param: str) -> None:
    error = refusal(json.dumps(content).encode(), model="g", batch=True)
    assert (error.cause, error.param) == (Cause.INVALID_PARAMETER, param)


def test_contents_that_are_asked_for_differently_go_to_gemini_alone() -> None:
    one, other = {"content": CONTENT}, {"content": CONTENT, "outputDimensionality": 8}
    read = gemini.read(json.dumps({"requests": [one, other]}).encode(), model="g", batch=True)
    assert b'"outputDimensionality":8' in read.encode(model="up", limit=None).replace(b" ", b"")
    with pytest.raises(RelayError) as caught:
        read.vectors()
    assert caught.value.param == "requests"
