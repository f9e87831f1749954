"""Reranking without a server: reading, bounds by pairs, usage in its three places."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.usage import Usage
from relay.counting import prompt
from relay.counting.calibration import reports
from relay.errors import Cause, RelayError
from relay.protocols.rerank import DIALECT
from tests.relay.protocols.laws import failure_of

QUERY, DOCUMENTS = "hello world", ["hello", {"text": "hello world", "title": "x"}]


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "query": QUERY, "documents": DOCUMENTS, **fields}).encode()


def answer(**extra: Any) -> bytes:
    return json.dumps(
        {"results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0}], **extra}
    ).encode()


def test_documents_are_texts_or_objects_with_one() -> None:
    asked = DIALECT.read(body(top_n=1, return_documents=True, rank_fields=["text"]))
    assert asked.prompt().texts[-2:] == ["hello", "hello world"]
    assert (asked.kind, asked.stream, asked.limit, asked.n) == ("rerank", False, None, 1)
    sent = json.loads(asked.encode(model="up", limit=None))
    assert sent == {**json.loads(body(top_n=1, return_documents=True, rank_fields=["text"])), "model": "up"}
    assert DIALECT.path("up") == "/rerank"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("query", None), ("query", ""), ("query", 1), ("query", ["a"]), ("documents", None), ("documents", []),
        ("documents", "a"), ("documents", {}), ("documents", [1]), ("documents", [None]), ("documents", [["a"]]),
        ("documents", [{}]), ("documents", [{"text": 1}]), ("documents", [{"image": "x"}]),
        ("documents", ["a"] * 10_001),
        ("top_n", 0), ("top_n", -1), ("top_n", "1"), ("top_n", 1.5), ("return_documents", "yes"), ("model", 1),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_a_wrong_type_or_value_names_its_field(field: str, value: Any) -> None:
    with pytest.raises(RelayError) as caught:
        DIALECT.read(body(**{field: value}))
    assert (caught.value.cause, caught.value.param, caught.value.status) == (Cause.INVALID_PARAMETER, field, 400)


def test_a_million_documents_are_refused_before_they_are_made() -> None:
    with pytest.raises(RelayError, match="10000"):
        DIALECT.read(b'{"query": "a", "documents": [' + b'"",' * 1_000_000 + b'""]}')


def test_the_query_is_counted_beside_each_document() -> None:
    asked = DIALECT.read(body())
    model = "text-embedding-3-small"  # one whose vocabulary is known
    assert prompt.count(asked.prompt(), model, reports) == 2 * 2 + 1 + 2
    many = DIALECT.read(body(query="q" * 1000, documents=["d"] * 500))
    assert many.input_bound("jina-reranker-v3") > 500 * 1000


@given(st.text(min_size=1, max_size=40), st.lists(st.text(max_size=40), min_size=1, max_size=5))
def test_bytes_bound_tokens(query: str, documents: list[str]) -> None:
    asked = DIALECT.read(body(query=query, documents=documents))
    model = "text-embedding-3-small"
    assert prompt.count(asked.prompt(), model, reports) <= asked.input_bound(model)


@pytest.mark.parametrize(
    ("extra", "tokens"),
    [
        ({"usage": {"total_tokens": 15}}, 15),  # Jina, vLLM
        ({"usage": {"prompt_tokens": 15, "total_tokens": 15}}, 15),
        ({"meta": {"billed_units": {"input_tokens": 12, "search_units": 1}, "tokens": {"input_tokens": 15}}}, 12),
        ({"meta": {"tokens": {"input_tokens": 15, "output_tokens": 0}}}, 15),
        ({"meta": {"billed_units": {"search_units": 1}, "api_version": {"version": "2"}}}, None),  # Cohere
        ({"meta": {"tokens": None, "billed_units": None}}, None),  # Xinference
        ({"meta": None, "usage": None}, None),
        ({"usage": {"total_tokens": -1}}, None),
        ({}, None),
    ],
)
def test_usage_is_read_where_a_vendor_tells_it(extra: dict[str, Any], tokens: int | None) -> None:
    whole = DIALECT.whole(answer(**extra), DIALECT.read(body()))
    assert whole.usage == (None if tokens is None else Usage(input=tokens))
    assert json.loads(whole.encode(model="m", pisces={"cost": "1"})) == {
        **json.loads(answer(**extra)), "pisces": {"cost": "1"},
    }  # fmt: skip


@pytest.mark.parametrize(
    "wire",
    [
        b"", b"{}", b"[]", b'{"results": null}', b'{"results": [1]}', b'{"results": [{"index": 0}]}',
        b'{"results": [{"index": 2, "relevance_score": 1}]}', b'{"results": [{"index": -1, "relevance_score": 1}]}',
        b'{"error": {"message": "no"}, "results": []}', b'{"results": [], "x": "\xff"}',
    ],
    ids=lambda wire: str(wire[:30]),
)  # fmt: skip
def test_what_ranks_no_document_of_the_request_is_the_upstream_s_failure(wire: bytes) -> None:
    with pytest.raises(RelayError) as caught:
        DIALECT.whole(wire, DIALECT.read(body()))
    assert caught.value.cause is Cause.UPSTREAM_ERROR


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reading_or_the_decoder(data: bytes) -> None:
    asked = DIALECT.read(body())
    assert failure_of(lambda: DIALECT.read(data)) in (None, 400)
    assert failure_of(lambda: DIALECT.whole(data, asked)) in (None, 502)
