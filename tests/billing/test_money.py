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


@pytest.mark.parametrize(
    ("text", "nano"),
    [
        ("0", 0),
        ("12.5", 12_500_000_000),
        (" 7 ", 7_000_000_000),
        ("0.000000001", 1),
        ("4611686018.427387903", money.LIMIT - 1),
        (3, 3_000_000_000),
        ("-0", 0),
    ],
)
def test_an_amount_is_read_to_the_last_nano_unit(text: object, nano: int) -> None:
    assert money.parse(text) == nano


def test_what_is_refused_is_told_in_words() -> None:
    for text, said in (
        ("x" * 60, f"'{'x' * 40}' is not an amount: digits with at most nine decimals are expected"),
        ("4611686018.427387904", "the amount is too large for the ledger"),
        ("-0.000000001", "the amount must not be negative"),
        ("-4611686018.427387904", "the amount is too large for the ledger"),
    ):
        with pytest.raises(money.InvalidAmount) as refused:
            money.parse(text)
        assert str(refused.value) == said
    assert money.parse("-0.000000001", negative=True) == -1


@pytest.mark.parametrize(
    ("nano", "decimals", "text"),
    [
        (0, None, "0"),
        (1, None, "0.000000001"),
        (-1, None, "-0.000000001"),
        (money.NANO, None, "1"),
        (12_500_000_000, None, "12.5"),
        (12_500_000_000, 2, "12.50"),
        (-12_500_000_000, 0, "-12.5"),
        (12_345_600_000, 2, "12.3456"),
        (0, 2, "0.00"),
    ],
)
def test_an_amount_is_written_without_a_digit_too_few_or_too_many(nano: int, decimals: int | None, text: str) -> None:
    assert money.to_text(nano, decimals=decimals) == text
