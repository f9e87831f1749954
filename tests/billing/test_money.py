"""Amounts: exact in, exact out, refused otherwise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import money


@given(st.integers(-(money.LIMIT - 1), money.LIMIT - 1))
def test_every_amount_survives_text(nano: int) -> None:
    assert money.parse(money.to_text(nano), negative=True) == nano
    assert money.parse(money.to_text(nano, decimals=9), negative=True) == nano


@pytest.mark.parametrize("text", ["", "x", "1e9", "1.0000000001", "NaN", "Infinity", "-1", "1,5", "١", "9" * 13, "0x1"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(money.InvalidAmount):
        money.parse(text)


@given(st.integers(0, 10**30), st.integers(1, 10**12))
def test_rounding_goes_up_and_by_less_than_one(numerator: int, denominator: int) -> None:
    rounded = money.round_up(numerator, denominator)
    assert rounded * denominator >= numerator
    assert (rounded - 1) * denominator < numerator
