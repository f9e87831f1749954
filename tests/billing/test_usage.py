"""What a call used: each token once, what was counted and what nobody counted."""

from billing.usage import BUCKETS, Usage

WHOLE = Usage(**{name: 2**number for number, name in enumerate(BUCKETS)})


def test_the_counted_buckets_are_told_in_one_order_and_zeros_are_left_out() -> None:
    assert WHOLE.buckets() == [(name, 2**number) for number, name in enumerate(BUCKETS)]
    assert Usage(calls=1, output=0, input=3).buckets() == [("input", 3), ("calls", 1)]
    assert Usage().buckets() == []


def test_tokens_in_and_out_are_sums_of_disjoint_buckets() -> None:
    assert WHOLE.tokens_in == sum(getattr(WHOLE, name) for name in ("input", "cache_read", "cache_write", "audio_in"))
    assert WHOLE.tokens_out == sum(getattr(WHOLE, name) for name in ("output", "reasoning", "audio_out"))
    assert (Usage().tokens_in, Usage().tokens_out) == (0, 0)
