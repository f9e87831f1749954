"""Charges: lines that add up, one rounding, and a bound that no usage within it can exceed."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import money, prices, usage
from billing.prices import PriceCard
from billing.usage import BUCKETS, PICTURES, Usage

rates = st.integers(0, 10**12)
# Sizes and qualities; `images/…` of a card and `pictures` of a usage are drawn from the same few, so that they meet.
kinds = st.sampled_from(["1024x1024/low", "1024x1024/high", "1024x1024", "low", "1792x1024/high"])
pictures = st.dictionaries(kinds.map(PICTURES.__add__), rates).flatmap(
    lambda named: st.builds(lambda other: {**named, "images": other} if named else {}, rates)
)
plain_rates = st.dictionaries(st.sampled_from(BUCKETS), rates, min_size=1)
cards = st.builds(lambda plain, named: PriceCard(plain | named), plain_rates, pictures)
token_cards = st.dictionaries(st.sampled_from([*prices.INPUT_BUCKETS, *prices.OUTPUT_BUCKETS]), rates, min_size=1).map(
    PriceCard
)
tiers = st.lists(
    st.builds(
        prices.Tier,
        st.integers(1, 10**7),
        st.dictionaries(st.sampled_from(sorted(prices.TOKEN_BUCKETS)), rates, min_size=1),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda tier: tier.above,
).map(lambda found: tuple(sorted(found, key=lambda tier: tier.above)))
tiered_cards = st.builds(lambda card, tiers: PriceCard(card.rates, tiers), token_cards, tiers)
counts = {name: st.none() | st.integers(0, 10**7) for name in BUCKETS}
usages = st.builds(Usage, **counts, pictures=st.none() | st.dictionaries(kinds, st.integers(0, 10**7)))
multipliers = st.integers(0, 5_000_000)


@given(usages, cards | tiered_cards, multipliers, st.sampled_from(["metered", "per_call"]))
def test_lines_add_up_to_the_charge_exactly(usage: Usage, card: PriceCard, multiplier: int, mode: str) -> None:
    charge = prices.charge(usage, card, mode=mode, multiplier=multiplier)
    assert sum(line.amount for line in charge.lines) == charge.amount
    assert all(line.amount >= 0 and line.quantity > 0 for line in charge.lines)


@given(usages, token_cards, multipliers)
def test_a_charge_is_rounded_up_once(usage: Usage, card: PriceCard, multiplier: int) -> None:
    exact = sum(
        Fraction(quantity * prices.rate_of(card.rates, bucket) * multiplier, money.MILLION * prices.ONE)
        for bucket, quantity in usage.buckets()
    )
    charged = prices.charge(usage, card, multiplier=multiplier).amount
    assert exact <= charged < exact + 1


@given(
    token_cards | tiered_cards,
    multipliers,
    st.lists(st.integers(0, 10**6), min_size=5, max_size=5),
    st.lists(st.integers(0, 10**6), min_size=3, max_size=3),
    st.integers(0, 1000),
    st.integers(0, 1000),
)
def test_no_usage_within_the_bound_costs_more_than_the_bound(
    card: PriceCard, multiplier: int, into: list[int], out: list[int], more_in: int, more_out: int
) -> None:
    buckets = dict(zip(prices.INPUT_BUCKETS + prices.OUTPUT_BUCKETS, into + out, strict=True))
    units = Usage(cache_write_1h=buckets["cache_write_1h"])
    bound = prices.bound(card, input_tokens=sum(into) + more_in, units=units, multiplier=multiplier)
    assert prices.charge(usage.of(buckets), card, multiplier=multiplier).amount <= bound.amount(sum(out) + more_out)


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


@given(token_cards | tiered_cards, multipliers, st.integers(0, 10**7))
def test_what_falls_back_costs_what_it_falls_back_to_or_what_that_does(
    card: PriceCard, multiplier: int, tokens: int
) -> None:
    """A write for an hour has its own price, else that of any write, else that of the input."""
    *_, tier = card.up_to(tokens)
    rate = next((tier.rates[name] for name in ("cache_write_1h", "cache_write", "input") if name in tier.rates), 0)
    charged = prices.charge(Usage(cache_write_1h=tokens), card, multiplier=multiplier).amount
    assert charged == money.round_up(tokens * rate * multiplier, money.MILLION * prices.ONE)


@given(token_cards | tiered_cards, multipliers, st.integers(0, 10**7), rates)
def test_the_price_of_an_hour_bounds_no_call_that_asks_for_none(
    card: PriceCard, multiplier: int, tokens: int, rate: int
) -> None:
    dearer = PriceCard(card.rates | {"cache_write_1h": rate}, card.tiers)
    of_both = [prices.bound(one, input_tokens=tokens, multiplier=multiplier) for one in (card, dearer)]
    assert of_both[0] == of_both[1]


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


@given(token_cards, st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_multiplier_of_zero_bounds_and_charges_nothing(card: PriceCard, tokens: int, out: int) -> None:
    bound = prices.bound(card, input_tokens=tokens, multiplier=0)
    assert (bound.amount(out), bound.per_million) == (0, 0)
    assert prices.charge(Usage(input=tokens, output=out), card, multiplier=0).amount == 0


# ---- tiers for long inputs ------------------------------------------------------------------------------------------

LONG = {
    "input": "1.25",
    "cache_read": "0.31",
    "output": "10",
    "tiers": [{"above": 200000, "input": "2.5", "output": "15"}, {"above": 1000000, "input": "5"}],
}


@pytest.mark.parametrize(
    ("usage", "rates", "above"),
    [
        (Usage(input=200_000, output=1), ["1.25", "10"], 0),
        (Usage(input=200_001, output=1), ["2.5", "15"], 200_000),
        (Usage(input=1, cache_read=200_000, output=1), ["2.5", "0.31", "15"], 200_000),
        (Usage(input=1, cache_write=1, audio_in=199_999, output=1), ["2.5", "2.5", "15", "2.5"], 200_000),
        (Usage(input=1_000_001, reasoning=1), ["5", "15"], 1_000_000),
        (Usage(output=5_000_000), ["10"], 0),
    ],
)
def test_the_length_of_the_whole_input_chooses_the_rates_of_the_whole_charge(
    usage: Usage, rates: list[str], above: int
) -> None:
    lines = prices.charge(usage, prices.parse_card(LONG)).lines
    assert [money.to_text(line.rate) for line in lines] == rates
    assert {line.above for line in lines} == {above}


@given(tiered_cards, multipliers, usages)
def test_a_tiered_charge_is_that_of_a_plain_card_with_the_tiers_rates(
    card: PriceCard, multiplier: int, usage: Usage
) -> None:
    merged = dict(card.rates)
    for tier in card.tiers:
        if usage.tokens_in > tier.above:
            merged.update(tier.rates)
    plain = prices.charge(usage, PriceCard(merged), multiplier=multiplier)
    assert prices.charge(usage, card, multiplier=multiplier).amount == plain.amount


@given(tiered_cards, multipliers, st.integers(0, 2 * 10**7), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_longer_input_is_never_bounded_lower(
    card: PriceCard, multiplier: int, tokens: int, more: int, out: int
) -> None:
    shorter = prices.bound(card, input_tokens=tokens, multiplier=multiplier)
    longer = prices.bound(card, input_tokens=tokens + more, multiplier=multiplier)
    assert shorter.amount(out) <= longer.amount(out)


def test_a_price_of_a_call_has_no_tiers() -> None:
    card = prices.parse_card({**LONG, "per_call": "0.01"})
    charge = prices.charge(Usage(input=10**6), card, mode="per_call")
    assert (charge.amount, charge.lines[0].above) == (10_000_000, 0)
    assert prices.bound(card, input_tokens=10**6, mode="per_call").amount(0) == 10_000_000


def test_a_written_card_with_tiers_reads_back_and_is_told_in_a_line() -> None:
    card = prices.parse_card(LONG)
    assert prices.write_card(card) == LONG
    assert prices.parse_card(prices.write_card(card)) == card
    assert prices.describe(card) == (
        "input 1.25, cache_read 0.31, output 10; above 200000: input 2.5, output 15; above 1000000: input 5"
    )


@given(tiered_cards)
def test_every_tiered_card_reads_back(card: PriceCard) -> None:
    assert prices.parse_card(prices.write_card(card)) == card


@pytest.mark.parametrize(
    ("tiers", "said"),
    [
        ({"above": 1, "input": "1"}, "tiers are a list"),
        ("200000", "tiers are a list"),
        ([5], "tiers[0]: a tier is a mapping"),
        ([{"input": "1"}], "tiers[0]: a tier needs `above`"),
        ([{"above": 5}], "tiers[0]: a tier needs at least one price"),
        ([{"above": 5, "input": "-1"}], "tiers[0]: input: the amount must not be negative"),
        ([{"above": 5, "inputs": "1"}], "tiers[0]: inputs: unknown price"),
        ([{"above": 5, "per_call": "1"}], "tiers[0]: a tier has prices of tokens only, not of calls"),
        ([{"above": 5, "input": "1"}, {"above": 5, "input": "2"}], "tiers[1]: above: tiers ascend"),
        ([{"above": 5, "input": "1"}, {"above": 4, "input": "2"}], "tiers[1]: above: tiers ascend"),
        *(
            ([{"above": above, "input": "1"}], "tiers[0]: above:")
            for above in (0, -1, 1.5, True, None, "", "1e5", "١٢", "9" * 10, "200_000", float("inf"))
        ),
        ([{"above": number + 1, "input": "1"} for number in range(21)], "at most 20 tiers"),
    ],
)
def test_tiers_that_make_no_sense_are_refused(tiers: object, said: str) -> None:
    with pytest.raises(money.InvalidAmount) as refused:
        prices.parse_card({"input": "1", "tiers": tiers})
    assert said in str(refused.value)


def test_a_card_without_prices_of_tokens_has_no_tiers() -> None:
    with pytest.raises(money.InvalidAmount, match="the card has none"):
        prices.parse_card({"per_image": "1", "tiers": [{"above": 5, "input": "1"}]})


@pytest.mark.parametrize(("text", "ppm"), [("0.8", 800_000), ("1", 1_000_000), ("0", 0), ("100", 100_000_000)])
def test_a_multiplier_is_read_and_written_exactly(text: str, ppm: int) -> None:
    assert prices.parse_multiplier(text) == ppm
    assert prices.write_multiplier(ppm) == text


@pytest.mark.parametrize("text", ["-0.1", "0.1234567", "100.000001", "1e1", "NaN", "", "٠.٨", "inf", None])
def test_a_multiplier_that_makes_no_sense_is_refused(text: object) -> None:
    with pytest.raises(money.InvalidAmount):
        prices.parse_multiplier(text)


def test_the_smallest_usage_costs_a_nano_unit_and_none_nothing() -> None:
    card = PriceCard({"input": 1})
    assert prices.charge(Usage(input=1), card).amount == 1
    assert prices.charge(Usage(input=0), card).amount == 0
    assert prices.charge(Usage(), card).lines == ()


# ---- every bucket ---------------------------------------------------------------------------------------------------


@given(usages, cards | tiered_cards, multipliers, st.sampled_from(["metered", "per_call"]), st.data())
def test_no_usage_within_the_units_and_tokens_costs_more_than_the_bound(
    most: Usage, card: PriceCard, multiplier: int, mode: str, data: st.DataObject
) -> None:
    """Of everything at most as much is used as was foreseen, and pictures of an unknown kind may turn out as any."""
    used = {name: data.draw(st.integers(0, count), label=name) for name, count in most.buckets()}
    unknown = used.pop("images", 0)
    kind = data.draw(kinds, label="the kind that unknown pictures turn out to be")
    used[PICTURES + kind] = used.get(PICTURES + kind, 0) + unknown
    bound = prices.bound(card, input_tokens=most.tokens_in, units=most, mode=mode, multiplier=multiplier)
    charge = prices.charge(usage.of(used), card, mode=mode, multiplier=multiplier)
    assert charge.amount <= bound.amount(most.tokens_out)


@given(usages, cards, multipliers, st.integers(0, 10**15))
def test_a_capped_charge_of_every_bucket_adds_up(usage: Usage, card: PriceCard, multiplier: int, most: int) -> None:
    charge = prices.capped(prices.charge(usage, card, multiplier=multiplier), most)
    assert sum(line.amount for line in charge.lines) == charge.amount <= max(most, 0)


@given(usages)
def test_the_buckets_of_a_usage_make_it_again(used: Usage) -> None:
    assert usage.of(dict(used.buckets())).buckets() == used.buckets()


@given(st.dictionaries(kinds, st.integers(0, 10**9), max_size=5), st.integers(0, 10**9))
def test_prices_of_pictures_are_written_as_they_are_read(named: dict[str, int], other: int) -> None:
    rates = {PICTURES + name: rate * 10**6 for name, rate in named.items()} | {"images": other * 10**6}
    card = PriceCard(rates)
    assert prices.parse_card(prices.write_card(card)) == card


def test_a_call_by_the_call_costs_the_same_whatever_it_is_made_of() -> None:
    written = {"input": "1", "characters": "15", "per_second": "0.1", "per_call": "0.02"}
    card = prices.parse_card({**written, "per_image": {"hd": "0.08", "default": "0.04"}})
    for used in (Usage(input=10**6), Usage(characters=10**6), Usage(seconds=60), Usage(pictures={"hd": 4}), Usage()):
        charge = prices.charge(used, card, mode="per_call")
        assert (charge.amount, [line.bucket for line in charge.lines]) == (20_000_000, ["calls"])
        assert prices.bound(card, input_tokens=10**6, units=used, mode="per_call") == prices.Bound(20_000_000, 0)


def test_a_flat_card_charges_each_call_the_same_whatever_it_used() -> None:
    used = Usage(input=10**6, output=10**6)
    assert prices.charge(used, prices.flat(7)).amount == prices.charge(Usage(), prices.flat(7)).amount == 7
