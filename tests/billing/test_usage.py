"""What a call used: each token once, what was counted and what nobody counted."""

import pytest

from billing import usage
from billing.usage import BUCKETS, Usage

WHOLE = Usage(**{name: 2**number for number, name in enumerate(BUCKETS)})


def test_the_counted_buckets_are_told_in_one_order_and_zeros_are_left_out() -> None:
    assert WHOLE.buckets() == [(name, 2**number) for number, name in enumerate(BUCKETS)]
    assert Usage(calls=1, output=0, input=3).buckets() == [("input", 3), ("calls", 1)]
    assert Usage().buckets() == []


def test_tokens_in_and_out_are_sums_of_disjoint_buckets() -> None:
    into = ("input", "cache_read", "cache_write", "cache_write_1h", "audio_in")
    assert WHOLE.tokens_in == sum(getattr(WHOLE, name) for name in into)
    assert WHOLE.tokens_out == sum(getattr(WHOLE, name) for name in ("output", "reasoning", "audio_out"))
    assert (Usage().tokens_in, Usage().tokens_out) == (0, 0)
    assert (Usage(cache_write=3, cache_write_1h=4).cache_writes, Usage().cache_writes) == (7, 0)


def test_pictures_of_a_known_size_or_quality_are_in_buckets_of_their_own() -> None:
    used = Usage(images=2, output=1, pictures={"hd": 3, "1024x1024/low": 1, "256x256": 0})
    assert used.buckets() == [("output", 1), ("images", 2), ("images/1024x1024/low", 1), ("images/hd", 3)]
    assert usage.of(dict(used.buckets())) == Usage(images=2, output=1, pictures={"hd": 3, "1024x1024/low": 1})
    assert usage.of({}) == Usage()
    assert usage.of({"input": 3}) == Usage(input=3)
    with pytest.raises(TypeError):
        usage.of({"pixels": 1})


def test_a_report_from_before_the_end_is_completed_by_what_was_counted() -> None:
    counted = Usage(input=900, output=40)
    early = Usage(input=5, cache_read=800, output=1)
    assert usage.completed(early, counted) == Usage(input=5, cache_read=800, output=40)
    thought = Usage(input=5, output=10, reasoning=25)
    assert usage.completed(thought, counted) == Usage(input=5, output=15, reasoning=25)
    assert usage.completed(WHOLE, counted) == WHOLE, "what was counted is less"
    assert usage.completed(Usage(input=0, output=60), counted) == Usage(input=900, output=60)
    assert usage.completed(Usage(cache_write=7), Usage(input=3, output=0)) == Usage(cache_write=7, output=0)


def test_searches_that_nobody_has_told_of_are_those_that_were_seen() -> None:
    assert usage.searched(Usage(input=1), 3) == Usage(input=1, searches=3)
    assert usage.searched(Usage(input=1, searches=2), 3) == Usage(input=1, searches=2)
    assert usage.searched(Usage(input=1), 0) == Usage(input=1)
    early = usage.completed(Usage(input=1, output=1, searches=0), Usage(output=1, searches=2))
    assert early == Usage(input=1, output=1, searches=2)
    assert usage.completed(Usage(input=1, output=0, searches=0), Usage()) == Usage(input=1, output=0, searches=0)


def test_the_names_of_buckets_are_known() -> None:
    assert usage.are_known([*BUCKETS, "images/hd"])
    assert usage.are_known([])
    assert not usage.are_known(["input", "image/hd"])
    assert not usage.are_known(["pictures"])
