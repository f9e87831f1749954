"""From list prices to ours, and what they would change: by rules, side by side, stopped where a price leaps."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import money, prices
from billing.catalog_import import difference, margins
from billing.catalog_import.difference import Figure, Known
from billing.catalog_import.margins import Margin
from billing.catalog_import.values import Listed
from billing.prices import PriceCard

M = prices.ONE
CARD = prices.parse_card({"input": "1", "output": "4"})


def _listed(model: str = "m", provider: str = "acme", card: PriceCard = CARD, **fields: object) -> Listed:
    return Listed(model=model, provider=provider, card=card, **fields)  # type: ignore[arg-type]


def _sold(written: Mapping[str, object], **margin: int | None) -> dict[str, object]:
    return prices.write_card(margins.sold(prices.parse_card(written), Margin(**margin)))  # type: ignore[arg-type]


# ---- margins --------------------------------------------------------------------------------------------------------


def test_the_first_rule_that_matches_decides() -> None:
    rules = [Margin(provider="ACME", model="gpt-*", multiplier=2 * M), Margin(model="*", multiplier=3 * M)]
    chosen = margins.choose(rules, [_listed("GPT-4"), _listed("other"), _listed("gpt-5", "else")])
    assert {name: margin.multiplier // M for name, (_one, margin) in chosen.items()} == {
        "GPT-4": 2, "other": 3, "gpt-5": 3,
    }  # fmt: skip
    assert margins.choose(rules[:1], [_listed("claude")]) == {}


def test_a_model_of_several_providers_is_priced_by_the_earliest_rule_then_by_the_providers_name() -> None:
    same = [_listed("m", "zeta"), _listed("m", "beta"), _listed("m", "acme")]
    assert margins.choose([Margin()], same)["m"][0].provider == "acme"
    assert margins.choose([Margin(provider="zeta"), Margin()], same)["m"][0].provider == "zeta"


@pytest.mark.parametrize(
    ("margin", "sold"),
    [
        ({}, {"input": "0.123456", "output": "9", "per_image": "0.04", "per_second": "0.000333333"}),
        (
            {"multiplier": 1_200_000},
            {"input": "0.1481472", "output": "10.8", "per_image": "0.048", "per_second": "0.0004"},
        ),
        (
            {"multiplier": 1_200_000, "digits": 2},
            {"input": "0.15", "output": "11", "per_image": "0.048", "per_second": "0.0004"},
        ),
        ({"minimum": 5 * 10**8}, {"input": "0.5", "output": "9", "per_image": "0.04", "per_second": "0.000333333"}),
        (
            {"exchange": 7_200_000_000, "digits": 3},
            {"input": "0.889", "output": "64.8", "per_image": "0.288", "per_second": "0.0024"},
        ),
    ],
)
def test_a_margin_multiplies_exchanges_lifts_and_rounds_up(margin: dict[str, int], sold: dict[str, str]) -> None:
    written = {"input": "0.123456", "output": "9", "per_image": "0.04", "per_second": "0.000333333"}
    assert _sold(written, **margin) == sold


def test_tiers_and_pictures_get_the_margin_too() -> None:
    written = {
        "input": "1", "tiers": [{"above": 5, "input": "2"}], "per_image": {"hd": "0.08", "default": "0.04"},
    }  # fmt: skip
    assert _sold(written, multiplier=1_500_000) == {
        "input": "1.5", "tiers": [{"above": 5, "input": "3"}], "per_image": {"hd": "0.12", "default": "0.06"},
    }  # fmt: skip


rates = st.integers(0, 10**12)
token_cards = st.dictionaries(st.sampled_from(["input", "cache_read", "output"]), rates, min_size=1).map(PriceCard)
unit_rates = st.integers(0, 10**11).map(lambda rate: rate * 10**6)
unit_cards = st.dictionaries(st.sampled_from(["images", "images/hd", "seconds", "calls"]), unit_rates, min_size=1).map(
    lambda card: PriceCard({"images": 0} | card)
)


@given(token_cards | unit_cards, st.integers(1, 5 * M), st.integers(0, 10**10), st.integers(0, 9))
def test_what_we_ask_is_never_below_the_margin_and_can_be_written(
    card: PriceCard, multiplier: int, minimum: int, digits: int
) -> None:
    ours = margins.sold(card, Margin(multiplier=multiplier, minimum=minimum, digits=digits))
    assert prices.parse_card(prices.write_card(ours)) == ours
    for bucket, rate in card.rates.items():
        assert ours.rates[bucket] * M >= rate * multiplier
        if bucket in prices.TOKEN_BUCKETS:
            assert ours.rates[bucket] >= minimum


@given(st.integers(0, 10**15), st.integers(1, 9))
def test_rounding_keeps_its_digits_and_goes_up_by_less_than_one_of_them(value: int, digits: int) -> None:
    found = margins.rounded(value, digits)
    assert found >= value
    assert len(str(found).rstrip("0")) <= digits
    assert (found - value) * 10 ** (digits - 1) <= value


def test_a_price_beyond_the_ledger_is_refused() -> None:
    with pytest.raises(money.InvalidAmount, match="output: the price is too large"):
        margins.sold(PriceCard({"output": money.LIMIT - 1}), Margin(multiplier=2 * M))


# ---- the difference -------------------------------------------------------------------------------------------------


def _known(card: PriceCard | None = CARD, **facts: object) -> Known:
    return Known(dict(facts), card)


def test_what_is_new_changed_gone_and_unchanged() -> None:
    dear = prices.parse_card({"input": "2", "output": "4"})
    wanted = {name: (_listed(name), card) for name, card in (("a", CARD), ("b", dear), ("c", CARD))}
    known = {name: _known(provider="Acme") for name in "bcdx"}
    found = difference.compare(wanted, known, {"d", "nobody"})
    assert [(line.model, line.change) for line in found.lines] == [("a", "new"), ("b", "changed"), ("d", "gone")]
    assert found.unchanged == 1
    assert (found.lines[1].old, found.lines[1].new, found.lines[1].stopped) == (CARD, dear, "")


def test_limits_are_corrected_and_what_we_call_a_model_stays() -> None:
    listed = _listed(label="Acme", kind="image", description="theirs", context_window=9, max_output=5)
    known = _known(provider="Ours", description="", context_window=8, max_output=5, capabilities={})
    (line,) = difference.compare({"m": (listed, CARD)}, {"m": known}, set()).lines
    assert line.facts == {"context_window": (8, 9), "description": ("", "theirs")}
    (line,) = difference.compare({"m": (listed, CARD)}, {}, set()).lines
    assert {name: after for name, (_before, after) in line.facts.items()} == {
        "kind": "image", "provider": "Acme", "description": "theirs", "context_window": 9, "max_output": 5,
    }  # fmt: skip


def test_a_price_of_a_call_that_we_offer_besides_stays() -> None:
    both = prices.parse_card({"input": "1", "output": "4", "per_call": "0.01"})
    assert difference.compare({"m": (_listed(), CARD)}, {"m": _known(both, provider="x")}, set()).unchanged == 1
    dear = prices.parse_card({"input": "2", "output": "4"})
    (line,) = difference.compare({"m": (_listed(), dear)}, {"m": _known(both, provider="x")}, set()).lines
    assert line.new == prices.parse_card({"input": "2", "output": "4", "per_call": "0.01"})
    calls = prices.parse_card({"per_call": "0.02"})
    (line,) = difference.compare({"m": (_listed(), calls)}, {"m": _known(both, provider="x")}, set()).lines
    assert (line.new, line.stopped) == (calls, "free")


def test_capabilities_are_added_to_those_that_are_known() -> None:
    listed = _listed(capabilities={"tools": False})
    known = _known(provider="x", capabilities={"seed": False})
    (line,) = difference.compare({"m": (listed, CARD)}, {"m": known}, set()).lines
    assert line.facts == {"capabilities": ({"seed": False}, {"seed": False, "tools": False})}
    has_them = _known(provider="x", capabilities={"tools": False})
    assert not difference.compare({"m": (listed, CARD)}, {"m": has_them}, set()).lines


def test_prices_stand_side_by_side_with_what_counts_where_none_is_written() -> None:
    old = prices.parse_card({"input": "1", "output": "4", "tiers": [{"above": 100, "input": "2"}]})
    new = prices.parse_card({"input": "1.5", "cache_read": "0.5", "per_image": "0.1"})
    assert difference.figures(old, new) == [
        Figure("input", 0, 10**9, 15 * 10**8),
        Figure("cache_read", 0, 10**9, 5 * 10**8),
        Figure("output", 0, 4 * 10**9, None),
        Figure("images", 0, None, 10**14),
        Figure("input", 100, 2 * 10**9, 15 * 10**8),
    ]
    assert [figure.tenths for figure in difference.figures(old, new)] == [500, -500, None, None, -250]
    assert difference.figures(None, None) == []


@pytest.mark.parametrize(
    ("old", "new", "stopped"),
    [
        ({"input": "1"}, {"input": "10"}, ""),
        ({"input": "1"}, {"input": "10.000000001"}, "factor"),
        ({"input": "1"}, {"input": "1000"}, "factor"),
        ({"input": "1"}, {"input": "0.1"}, ""),
        ({"input": "1"}, {"input": "0.099999999"}, "factor"),
        ({"input": "1"}, {"input": "0"}, "free"),
        ({"input": "0"}, {"input": "1"}, "factor"),
        ({"input": "1", "output": "1"}, {"input": "1"}, "free"),
        ({"input": "1"}, {"input": "1", "cache_read": "0.05"}, "factor"),
        ({"input": "1"}, {"input": "1", "tiers": [{"above": 9, "input": "11"}]}, "factor"),
        ({"input": "1", "per_call": "0"}, {"input": "1", "per_call": "0"}, ""),
        ({"per_image": "0.04"}, {"per_image": {"hd": "0.5", "default": "0.04"}}, "factor"),
        (None, {"input": "5000"}, ""),
        (None, {"input": "0", "output": "0"}, "free"),
    ],
)
def test_a_leap_stops_its_line(old: dict[str, object] | None, new: dict[str, object], stopped: str) -> None:
    before = prices.parse_card(old) if old is not None else None
    assert difference.why_stopped(before, prices.parse_card(new)) == stopped
