"""Charges: lines that add up, one rounding, and a bound that no usage within it can exceed."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import money, prices
from billing.prices import PriceCard
from billing.usage import BUCKETS, Usage

rates = st.integers(0, 10**12)
cards = st.dictionaries(st.sampled_from(BUCKETS), rates, min_size=1).map(PriceCard)
token_cards = st.dictionaries(st.sampled_from([*prices.INPUT_BUCKETS, *prices.OUTPUT_BUCKETS]), rates, min_size=1).map(
    PriceCard
)
usages = st.builds(Usage, **{name: st.none() | st.integers(0, 10**7) for name in BUCKETS})
multipliers = st.integers(0, 5_000_000)


@given(usages, cards, multipliers, st.sampled_from(["metered", "per_call"]))
def test_lines_add_up_to_the_charge_exactly(usage: Usage, card: PriceCard, multiplier: int, mode: str) -> None:
    charge = prices.charge(usage, card, mode=mode, multiplier=multiplier)
    assert sum(line.amount for line in charge.lines) == charge.amount
    assert all(line.amount >= 0 and line.quantity > 0 for line in charge.lines)


@given(usages, token_cards, multipliers)
def test_a_charge_is_rounded_up_once(usage: Usage, card: PriceCard, multiplier: int) -> None:
    exact = sum(
        (Fraction(quantity * card.rate(bucket) * multiplier, money.MILLION * prices.ONE))
        for bucket, quantity in usage.buckets()
    )
    charged = prices.charge(usage, card, multiplier=multiplier).amount
    assert exact <= charged < exact + 1


@given(
    token_cards,
    multipliers,
    st.lists(st.integers(0, 10**6), min_size=4, max_size=4),
    st.lists(st.integers(0, 10**6), min_size=3, max_size=3),
    st.integers(0, 1000),
    st.integers(0, 1000),
)
def test_no_usage_within_the_bound_costs_more_than_the_bound(
    card: PriceCard, multiplier: int, into: list[int], out: list[int], more_in: int, more_out: int
) -> None:
    usage = Usage(
        **dict(zip(prices.INPUT_BUCKETS, into, strict=True)), **dict(zip(prices.OUTPUT_BUCKETS, out, strict=True))
    )
    bound = prices.bound(card, input_tokens=sum(into) + more_in, multiplier=multiplier)
    assert prices.charge(usage, card, multiplier=multiplier).amount <= bound.amount(sum(out) + more_out)


@given(token_cards, st.integers(0, 10**6), st.integers(0, 10**12))
def test_affordable_is_the_inverse_of_the_bound(card: PriceCard, input_tokens: int, amount: int) -> None:
    bound = prices.bound(card, input_tokens=input_tokens)
    if bound.per_million:
        tokens = bound.affordable(amount)
        assert tokens == 0 or bound.amount(tokens) <= amount
        assert bound.amount(tokens + 1) > amount or amount < bound.fixed


@given(usages, cards, st.integers(0, 10**13))
def test_a_capped_charge_still_adds_up(usage: Usage, card: PriceCard, most: int) -> None:
    whole = prices.charge(usage, card)
    capped = prices.capped(whole, most)
    assert capped.amount == min(whole.amount, most) == sum(line.amount for line in capped.lines)


@given(usages, rates)
def test_a_card_per_call_charges_exactly_that(usage: Usage, rate: int) -> None:
    card = PriceCard({"calls": rate})
    expected = money.round_up(rate, money.MILLION)
    assert prices.charge(usage, card).amount == expected == prices.bound(card, input_tokens=10**9).amount(10**9)


def test_buckets_without_a_price_cost_what_their_fallback_costs() -> None:
    card = PriceCard({"input": 10**9, "output": 2 * 10**9})
    usage = Usage(cache_read=1, cache_write=1, audio_in=1, reasoning=1, audio_out=1)
    assert [line.rate for line in prices.charge(usage, card).lines] == [10**9, 10**9, 2 * 10**9, 10**9, 2 * 10**9]


def test_a_written_card_reads_back() -> None:
    written = {"input": "0.15", "cache_read": "0.075", "output": "0.6", "per_call": "0.01", "per_image": "0.02"}
    card = prices.parse_card(written)
    assert prices.write_card(card) == written
    assert card.rates["input"] == 150_000_000
    assert card.rates["calls"] == 10_000_000 * 1_000_000


@pytest.mark.parametrize(
    "written", [{}, {"inputs": "1"}, {"input": "-1"}, {"input": "1e3"}, {"input": None}, {"per_call": "9" * 12}]
)
def test_a_card_that_makes_no_sense_is_refused(written: dict[str, object]) -> None:
    with pytest.raises(money.InvalidAmount):
        prices.parse_card(written)


def test_the_smallest_usage_costs_a_nano_unit_and_none_nothing() -> None:
    card = PriceCard({"input": 1})
    assert prices.charge(Usage(input=1), card).amount == 1
    assert prices.charge(Usage(input=0), card).amount == 0
    assert prices.charge(Usage(), card).lines == ()
