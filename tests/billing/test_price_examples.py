"""Prices by example: what a card's texts become, what a call costs by it, and what is said of a card that is wrong."""

from typing import Any

import pytest

from billing import money, prices
from billing.prices import Bound, Charge, Line, PriceCard, Tier
from billing.usage import Usage

WHOLE = Usage(
    input=1, cache_read=2, cache_write=3, output=4, reasoning=5, audio_in=6, audio_out=7, images=8, seconds=9, calls=10
)
M = prices.ONE


# ---- what is owed ---------------------------------------------------------------------------------------------------


def test_every_bucket_is_charged_at_its_own_price_in_one_order() -> None:
    written = {
        "input": "1", "cache_read": "2", "cache_write": "3", "output": "4", "reasoning": "5",
        "audio_in": "6", "audio_out": "7", "per_image": "0.000008", "per_second": "0.000009", "per_call": "0.00001",
    }  # fmt: skip
    charge = prices.charge(WHOLE, prices.parse_card(written))
    assert [(line.bucket, line.quantity, line.amount) for line in charge.lines] == [
        ("input", 1, 1_000), ("cache_read", 2, 4_000), ("cache_write", 3, 9_000), ("output", 4, 16_000),
        ("reasoning", 5, 25_000), ("audio_in", 6, 36_000), ("audio_out", 7, 49_000),
        ("images", 8, 64_000), ("seconds", 9, 81_000), ("calls", 10, 100_000),
    ]  # fmt: skip
    assert charge.amount == 385_000
    assert {line.multiplier for line in charge.lines} == {M}
    assert {line.above for line in charge.lines} == {0}


def test_a_multiplier_applies_to_every_line_and_is_told_in_it() -> None:
    card = PriceCard({"input": 1_000_000, "output": 3_000_000})
    charge = prices.charge(Usage(input=10, output=1), card, multiplier=1_500_000)
    assert charge == Charge(
        20, (Line("input", 10, 1_000_000, 1_500_000, 15), Line("output", 1, 3_000_000, 1_500_000, 5))
    )


def test_the_line_that_fills_a_nano_unit_bears_it_and_the_next_ones_are_free() -> None:
    card = PriceCard({"input": 400_000, "cache_read": 400_000, "output": 400_000})
    charge = prices.charge(Usage(input=1, cache_read=1, output=1), card)
    assert (charge.amount, [line.amount for line in charge.lines]) == (2, [1, 0, 1])


def test_a_call_can_be_charged_as_a_call_where_the_card_offers_it() -> None:
    both = PriceCard({"input": 10**9, "calls": 7_000_000})
    metered, only = PriceCard({"input": 10**9}), PriceCard({"calls": 7_000_000})
    usage = Usage(input=3, calls=5)
    per_call = Charge(7, (Line("calls", 1, 7_000_000, M, 7),))
    assert prices.charge(usage, both, mode="per_call") == per_call
    assert prices.charge(usage, only) == per_call
    assert prices.charge(usage, both).amount == 3_035
    assert prices.charge(usage, metered, mode="per_call").amount == 3_000
    assert prices.charge(usage, only, multiplier=2 * M).amount == 14


def test_what_has_no_price_and_no_fallback_costs_nothing() -> None:
    assert prices.charge(Usage(images=5, output=3), PriceCard({"input": 10**9})).amount == 0
    assert prices.charge(Usage(audio_out=5), PriceCard({"output": 1_000_000, "audio_out": 0})).amount == 0


def test_a_cap_takes_the_last_lines_first_and_leaves_the_rest_as_they_are() -> None:
    whole = Charge(60, (Line("input", 1, 5, M, 10, 7), Line("output", 2, 6, M, 20, 7), Line("reasoning", 3, 6, M, 30)))
    assert prices.capped(whole, 60) is whole
    assert prices.capped(whole, 61) is whole
    assert prices.capped(whole, 59).lines == (*whole.lines[:2], Line("reasoning", 3, 6, M, 29))
    assert prices.capped(whole, 25) == Charge(
        25, (Line("input", 1, 5, M, 10, 7), Line("output", 2, 6, M, 15, 7), Line("reasoning", 3, 6, M, 0))
    )
    assert [line.amount for line in prices.capped(whole, 0).lines] == [0, 0, 0]


# ---- what it can cost at most ---------------------------------------------------------------------------------------


def test_a_bound_takes_the_dearest_price_of_either_side() -> None:
    card = PriceCard({"input": 1_000_000, "cache_write": 3_000_000, "output": 2_000_000, "reasoning": 5_000_000})
    assert prices.bound(card, input_tokens=10) == Bound(31, 5_000_000)
    assert prices.bound(card, input_tokens=10, multiplier=M // 2) == Bound(16, 2_500_000)
    assert prices.bound(card, input_tokens=10).amount(2) == 41


def test_a_bound_counts_writes_for_an_hour_only_where_there_may_be_some() -> None:
    kept = PriceCard({"input": 1_000_000, "cache_write_1h": 4_000_000}, (Tier(10, {"cache_write_1h": 9_000_000}),))
    assert prices.bound(kept, input_tokens=10) == Bound(11, 0)
    assert prices.bound(kept, input_tokens=10, units=Usage(cache_write_1h=4)) == Bound(6 + 16 + 1, 0)
    assert prices.bound(kept, input_tokens=10, units=Usage(cache_write_1h=99)) == Bound(41, 0), "no more than all of it"
    assert prices.bound(kept, input_tokens=11, units=Usage(cache_write_1h=1)) == Bound(10 + 9 + 1, 0)
    cheap = PriceCard({"input": 5_000_000, "cache_write_1h": 1_000_000})
    assert prices.bound(cheap, input_tokens=10, units=Usage(cache_write_1h=10)) == Bound(51, 0)


def test_a_bound_is_rounded_up_and_has_one_nano_unit_for_the_charges_own_rounding() -> None:
    assert prices.bound(PriceCard({"input": 1}), input_tokens=1) == Bound(2, 0)
    assert prices.bound(PriceCard({"output": 1}), input_tokens=5) == Bound(1, 1)
    assert prices.bound(PriceCard({"output": 3}), input_tokens=5, multiplier=M // 2) == Bound(1, 2)
    assert prices.bound(PriceCard({"input": 0, "output": 0}), input_tokens=5) == Bound(0, 0)
    assert Bound(5, 1).amount(1) == 6
    assert Bound(5, 0).amount(10**9) == 5


def test_a_bound_of_a_call_is_its_price() -> None:
    both = PriceCard({"input": 10**9, "calls": 7_000_001})
    assert prices.bound(both, input_tokens=10**6, mode="per_call") == Bound(8, 0)
    assert prices.bound(both, input_tokens=10**6, mode="per_call", multiplier=2 * M) == Bound(15, 0)
    assert prices.bound(both, input_tokens=1) == Bound(1_001, 0)


def test_a_bound_knows_the_tiers_that_the_input_can_reach() -> None:
    card = PriceCard(
        {"input": 10**6, "output": 10**6}, (Tier(10, {"input": 2 * 10**6}), Tier(20, {"output": 9 * 10**6}))
    )
    assert prices.bound(card, input_tokens=10) == Bound(11, 10**6)
    assert prices.bound(card, input_tokens=11) == Bound(23, 10**6)
    assert prices.bound(card, input_tokens=20) == Bound(41, 10**6)
    assert prices.bound(card, input_tokens=21) == Bound(43, 9 * 10**6)


def test_what_is_affordable_is_rounded_down_and_never_negative() -> None:
    bound = Bound(100, 3_000_000)
    assert [bound.affordable(amount) for amount in (0, 99, 100, 102, 103, 105, 106)] == [0, 0, 0, 0, 1, 1, 2]


# ---- as they are written --------------------------------------------------------------------------------------------


def test_a_card_names_what_is_wrong_with_it() -> None:
    known = (
        "input, cache_read, cache_write, cache_write_1h, output, reasoning, audio_in, audio_out, characters, "
        "per_image, per_second, per_search, per_call"
    )
    long = "x" * 60
    wrong: list[tuple[dict[Any, Any], str]] = [
        ({}, "a price card needs at least one price; free is written as 0"),
        ({"tiers": []}, "a price card needs at least one price; free is written as 0"),
        ({"inputs": "1"}, f"inputs: unknown price 'inputs'; known are {known}"),
        ({long: "1"}, f"{'x' * 40}: unknown price {'x' * 40!r}; known are {known}"),
        ({5: "1"}, f"5: unknown price '5'; known are {known}"),
        ({"input": "-1"}, "input: the amount must not be negative"),
        ({"per_call": "5000"}, "per_call: the price is too large for the ledger"),
    ]
    for written, said in wrong:
        with pytest.raises(money.InvalidAmount) as refused:
            prices.parse_card(written)
        assert str(refused.value) == said


def test_the_largest_price_fits_and_the_next_does_not() -> None:
    largest = money.to_text((money.LIMIT - 1) // money.MILLION)
    assert prices.parse_rate("per_call", largest) == ("calls", (money.LIMIT - 1) // money.MILLION * money.MILLION)
    assert prices.parse_rate("input", money.to_text(money.LIMIT - 1)) == ("input", money.LIMIT - 1)
    with pytest.raises(money.InvalidAmount):
        prices.parse_rate("per_call", money.to_text(money.LIMIT // money.MILLION + 1))


def test_tiers_name_what_is_wrong_with_them() -> None:
    plain = {"input": "1"}
    wrong: list[tuple[object, str]] = [
        ("ab", "tiers are a list, each with `above` and prices"),
        (5, "tiers are a list, each with `above` and prices"),
        ([{"above": n, "input": "1"} for n in range(1, 22)], "a card has at most 20 tiers"),
        ([5], "tiers[0]: a tier is a mapping with `above` and prices"),
        ([plain], "tiers[0]: a tier needs `above`, the tokens of input after which it counts"),
        ([{"above": 0, **plain}], "tiers[0]: above: '0' is not a number of tokens from 1 to 999999999"),
        (
            [{"above": "x" * 60, **plain}],
            f"tiers[0]: above: '{'x' * 40}' is not a number of tokens from 1 to 999999999",
        ),
        ([{"above": 7, **plain}, {"above": 7, **plain}], "tiers[1]: above: tiers ascend, and 7 does not come after 7"),
        ([{"above": 7}], "tiers[0]: a tier needs at least one price of its own"),
        (
            [{"above": 7, "per_call": "1", "per_image": "1"}],
            "tiers[0]: a tier has prices of tokens only, not of calls, images",
        ),
        (
            [{"above": 7, "input": "x"}],
            "tiers[0]: input: 'x' is not an amount: digits with at most nine decimals are expected",
        ),
    ]
    for tiers, said in wrong:
        with pytest.raises(money.InvalidAmount) as refused:
            prices.parse_card({**plain, "tiers": tiers})
        assert str(refused.value) == said
    with pytest.raises(money.InvalidAmount) as refused:
        prices.parse_card({"per_call": "1", "tiers": [{"above": 7, **plain}]})
    assert str(refused.value) == "tiers are for prices of tokens, and the card has none"


def test_a_card_may_have_no_tiers_twenty_and_one_that_begins_with_the_second_token() -> None:
    assert prices.parse_card({"per_call": "1", "tiers": []}).tiers == ()
    most = prices.parse_card({"input": "1", "tiers": [{"above": n, "output": "2"} for n in range(1, 21)]})
    assert most.tiers == tuple(Tier(n, {"output": 2 * 10**9}) for n in range(1, 21))
    assert prices.parse_tiers([{"above": "999999999", "input": "0"}], {"input": 1}) == (
        Tier(999_999_999, {"input": 0}),
    )


def test_a_tier_changes_what_it_names_and_the_next_one_builds_on_it() -> None:
    card = PriceCard({"input": 1, "output": 2}, (Tier(10, {"input": 3}), Tier(20, {"output": 4})))
    first, second, third = Tier(0, {"input": 1, "output": 2}), Tier(10, {"input": 3, "output": 2}), Tier(20, {"input": 3, "output": 4})  # fmt: skip  # noqa: E501
    assert list(card.up_to(0)) == list(card.up_to(10)) == [first]
    assert list(card.up_to(11)) == list(card.up_to(20)) == [first, second]
    assert list(card.up_to(21)) == [first, second, third]
    assert card.rates == {"input": 1, "output": 2}


def test_a_card_is_told_in_one_line() -> None:
    card = PriceCard({"calls": 10**16, "input": 10**9}, (Tier(5, {"output": 5 * 10**8}),))
    assert prices.describe(card) == "input 1, per_call 10; above 5: output 0.5"
    assert prices.describe(PriceCard({"images": 2 * 10**13})) == "per_image 0.02"


def test_a_multiplier_says_what_is_wrong_with_it() -> None:
    for written, said in (
        ("0.0000001", "a multiplier has at most six decimals"),
        ("100.000001", "a multiplier is at most 100"),
    ):
        with pytest.raises(money.InvalidAmount) as refused:
            prices.parse_multiplier(written)
        assert str(refused.value) == said
    assert prices.parse_multiplier("0.000001") == 1
    assert type(prices.parse_multiplier("0.8")) is int
    assert prices.write_multiplier(1) == "0.000001"
    assert prices.write_multiplier(1_500_000, decimals=2) == "1.50"


# ---- pictures and characters ----------------------------------------------------------------------------------------

PAINTER = {"per_image": {"1024x1024/low": "0.011", "1024x1024": "0.042", "hd": "0.08", "default": "0.19"}}


def test_a_picture_costs_by_the_narrowest_price_that_the_card_has() -> None:
    card = prices.parse_card(PAINTER)
    for kind, price in (
        ("1024x1024/low", 11), ("1024x1024/hd", 42), ("1024x1024", 42), ("1792x1024/hd", 80), ("hd", 80),
        ("512x512/low", 190), ("512x512", 190),
    ):  # fmt: skip
        charge = prices.charge(Usage(pictures={kind: 2}), card)
        line = Line(f"images/{kind}", 2, price * 10**12, M, price * 2 * 10**6)
        assert charge == Charge(price * 2 * 10**6, (line,))
    assert prices.charge(Usage(images=1), card).amount == 190 * 10**6
    assert prices.charge(Usage(pictures={"hd": 1}), prices.parse_card({"input": "1"})).amount == 0


def test_pictures_of_an_unknown_kind_are_bounded_by_the_dearest() -> None:
    card = prices.parse_card({"per_image": {"hd": "0.08", "default": "0.04"}, "input": "1", "output": "2"})
    assert prices.bound(card, input_tokens=0, units=Usage(images=3)).fixed == 240 * 10**6 + 1
    assert prices.bound(card, input_tokens=0, units=Usage(pictures={"hd": 1, "low": 2})).fixed == 160 * 10**6 + 1
    units = Usage(images=1, pictures={"low": 1}, input=10**9)
    both = prices.bound(card, input_tokens=10, units=units, multiplier=2 * M)
    assert both == Bound(2 * (10 * 1000 + 120 * 10**6) + 1, 4 * 10**9)
    plain, tokens = prices.parse_card({"per_image": "0.04"}), prices.parse_card({"input": "1"})
    assert prices.bound(plain, input_tokens=9, units=Usage(images=2)) == Bound(80_000_001, 0)
    assert prices.bound(tokens, input_tokens=0, units=Usage(images=2, seconds=5)) == Bound(0, 0)


def test_characters_and_seconds_are_bounded_by_what_they_cost() -> None:
    card = prices.parse_card({"characters": "15", "per_second": "0.01", "per_call": "5"})
    assert card.rates["characters"] == 15 * 10**9
    assert prices.charge(Usage(characters=1000, seconds=2), card).amount == 15 * 10**6 + 20 * 10**6
    units = Usage(characters=1000, seconds=2)
    assert prices.bound(card, input_tokens=500, units=units) == Bound(35 * 10**6 + 1, 0)
    assert prices.bound(card, input_tokens=500, units=Usage(calls=2)) == Bound(10 * 10**9 + 1, 0)


def test_searches_are_charged_and_bounded_one_by_one() -> None:
    card = prices.parse_card({"input": "1", "per_search": "0.01"})
    assert prices.charge(Usage(input=3, searches=2), card).lines[1] == Line("searches", 2, 10**13, M, 2 * 10**7)
    assert prices.bound(card, input_tokens=3, units=Usage(searches=5)) == Bound(3000 + 5 * 10**7 + 1, 0)
    assert prices.charge(Usage(searches=2), prices.parse_card({"input": "1"})).amount == 0
    assert prices.units_of("searches") == 1


def test_a_card_of_pictures_is_written_as_it_is_read_and_told_in_a_line() -> None:
    card = prices.parse_card(PAINTER)
    assert prices.write_card(card) == PAINTER
    assert prices.write_pictures(card.rates) == {"1024x1024": "0.042", "1024x1024/low": "0.011", "hd": "0.08"}
    assert prices.describe(card) == "per_image 0.19 (1024x1024 0.042, 1024x1024/low 0.011, hd 0.08)"
    plain = prices.parse_card({"per_image": {"default": "0.04"}})
    assert plain == PriceCard({"images": 4 * 10**13})
    assert prices.write_card(plain) == {"per_image": "0.04"}
    assert prices.write_pictures(plain.rates) == {}


def test_prices_of_pictures_name_what_is_wrong_with_them() -> None:
    shape = "is no size and quality such as 1024x1024/low"
    for written, said in (
        ({}, "`default` is missing: what a picture costs that none of these names"),
        ({"hd": "1"}, "`default` is missing: what a picture costs that none of these names"),
        ({"default": "1", "a b": "1"}, f"'a b' {shape}"),
        ({"default": "1", "a/b/c": "1"}, f"'a/b/c' {shape}"),
        ({"default": "1", "HD": "1"}, f"'HD' {shape}"),
        ({"default": "1", "x" * 33: "1"}, f"{'x' * 33!r} {shape}"),
        ({"default": "1", 5: "1"}, f"'5' {shape}"),
        ({"default": "1", "hd": "-1"}, "the amount must not be negative"),
        ({"default": "1", **{f"n{n}": "1" for n in range(100)}}, "a card has at most 100 prices of pictures"),
    ):
        with pytest.raises(money.InvalidAmount) as refused:
            prices.parse_card({"per_image": written})
        assert str(refused.value) == f"per_image: {said}"
    assert len(prices.parse_card({"per_image": {"default": "1", **{f"n{n}": "1" for n in range(99)}}}).rates) == 100
    with pytest.raises(money.InvalidAmount, match="is not an amount"):
        prices.parse_card({"per_second": {"default": "1"}})
    tier = {"above": 5, "input": "1", "characters": "1", "per_image": {"hd": "1", "default": "2"}}
    with pytest.raises(money.InvalidAmount, match="prices of tokens only, not of characters, images, images/hd"):
        prices.parse_card({"input": "1", "tiers": [tier]})


def test_a_written_price_is_for_a_million_or_for_one() -> None:
    assert [prices.units_of(name) for name in ("input", "characters", "images", "images/hd", "seconds", "calls")] == [
        10**6, 10**6, 1, 1, 1, 1,
    ]  # fmt: skip
    assert prices.units_of("review") == 10**6
