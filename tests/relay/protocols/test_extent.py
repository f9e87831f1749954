"""How much JSON a body may be: counted in its bytes as a reader of its values would count them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import RelayError
from relay.protocols import extent, turns
from relay.protocols.canonical import Message, Text

texts = st.text(alphabet='ab"\\[]{},:\né', max_size=12)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=30,
)


def depth_of(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth_of, inner), default=0)


def count_of(value: Any) -> int:
    inner = [*value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return 1 + sum(map(count_of, inner))


def is_refused(body: bytes) -> bool:
    try:
        extent.bounded(body)
    except RelayError as error:
        return error.status == 400
    return False


@given(value=values, indent=st.sampled_from([None, 1]), deepest=st.integers(0, 5))
def test_depth_is_that_of_the_values_whatever_the_texts_are(value: Any, indent: int | None, deepest: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extent, "DEEPEST", deepest)
        body = json.dumps(value, indent=indent, ensure_ascii=bool(indent)).encode()
        assert is_refused(body) is (depth_of(value) > deepest)


@given(value=values, most=st.integers(1, 20))
def test_no_more_values_pass_than_may_be_and_no_fewer_are_refused(value: Any, most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extent, "DEEPEST", 1000)
        patch.setattr(extent, "MOST_VALUES", most)
        refused = is_refused(json.dumps(value).encode())
    found = count_of(value)
    assert refused or found <= 2 * most  # each value has a comma or a bracket of its own, but for the first ones
    assert not refused or 2 * found > most


@pytest.mark.parametrize("body", [b'"' + b'\\"' * 200_000, b"\\" * 200_001, b"[" * 100, b"]}" * 200, b'{"' * 129])
def test_what_is_no_json_is_left_to_its_reader_or_refused(body: bytes) -> None:
    assert is_refused(body) in (True, False)


def test_a_long_text_is_no_more_than_one_value() -> None:
    assert not is_refused(json.dumps({"a": '[{,"\\' * extent.MOST_VALUES}).encode())
    assert not is_refused(b'{"messages": [' + b",".join([b'{"role": "user", "content": ", [ {"}'] * 16_000) + b"]}")


def test_merging_turns_leaves_the_request_as_it_was() -> None:
    messages = [Message(role="user", parts=[Text(text=str(number))]) for number in range(50_000)]
    (merged,) = turns.merged(messages)
    assert len(merged.parts) == 50_000
    assert all(len(message.parts) == 1 for message in messages)
