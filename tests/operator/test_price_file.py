"""The operator's file: tiers, prices to come, groups and what providers charge us."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from django.utils import timezone

from billing import catalog, groups, ledger, prices
from billing.models import PriceGroup, PriceVersion
from portal.models import Team
from relay import snapshot
from relay.models import Channel
from tests.operator.test_configuration import CHANNEL, Operator

pytestmark = pytest.mark.django_db

LONG = """
models:
  - name: long
    price:
      input: "1.25"
      output: "10"
      tiers:
        - {above: 200000, input: "2.50", output: "15"}
        - {above: 1000000, input: "5"}
"""


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[dt.timedelta], None]:
    """Moves the time that prices are set by."""
    real = timezone.now

    def later(by: dt.timedelta) -> None:
        monkeypatch.setattr(timezone, "now", lambda: real() + by)

    return later


# ---- tiers ----------------------------------------------------------------------------------------------------------


def test_tiers_are_stored_with_the_version_and_come_back_in_the_dump(operator: Operator) -> None:
    told = "input 1.25, output 10; above 200000: input 2.5, output 15; above 1000000: input 5"
    assert operator.apply(LONG) == ["+ model long: chat", f"~ model long: price {told}"]
    assert operator.apply(LONG) == ["nothing to change"]
    card = catalog.current_card(catalog.rows()["long"])
    assert card is not None
    assert [tier.above for tier in card.tiers] == [200_000, 1_000_000]
    assert operator.apply(operator.dump()) == ["nothing to change"]
    assert yaml.safe_load(operator.dump())["models"][0]["price"]["tiers"][1] == {"above": 1000000, "input": "5"}
    assert snapshot.load().models["long"].prices[0].card == card


def test_another_tier_is_another_version_and_none_is_again_another(operator: Operator) -> None:
    operator.apply(LONG)
    operator.apply(LONG.replace("200000", "128000"))
    operator.apply("models: [{name: long, price: {input: 1.25, output: 10}}]")
    shown = [prices.describe(catalog.card_of(row)) for row in PriceVersion.objects.order_by("id")]
    assert [text.count("above") for text in shown] == [2, 2, 0]
    assert PriceVersion.objects.last().tiers is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("tiers", "said"),
    [
        ("5", "models[0].price.tiers: a list is expected"),
        ("[5]", "models[0].price.tiers[0]: a mapping"),
        ("[{input: 1}]", "models[0].price: tiers[0]: a tier needs `above`"),
        ("[{above: 9}]", "tiers[0]: a tier needs at least one price"),
        ("[{above: 9, input: -1}]", "models[0].price.tiers[0].input: the amount must not be negative"),
        ("[{above: 9, imput: 1}]", "models[0].price.tiers[0].imput: unknown price"),
        ("[{above: 9, input: 1}, {above: 9, input: 2}]", "tiers[1]: above: tiers ascend"),
        ("[{above: 9, above: 10, input: 1}]", "tiers[0].above: this is given twice"),
        ("[{above: many, input: 1}]", "above: 'many' is not a number of tokens"),
    ],
)
def test_what_is_wrong_with_a_tier_is_said_where_it_stands(operator: Operator, tiers: str, said: str) -> None:
    assert said in operator.refused(f"models: [{{name: m, price: {{input: 1, tiers: {tiers}}}}}]")
    assert not PriceVersion.objects.exists()


# ---- prices to come -------------------------------------------------------------------------------------------------

PLANNED = """
models:
  - name: m
    price: {{input: 1}}
    price_changes:
      - {{from: "{first}", price: {{input: 2}}}}
      - {{from: "{second}", price: {{input: 3, tiers: [{{above: 5, input: 4}}]}}}}
"""


def planned(hours: int = 1) -> str:
    now = timezone.now()
    first, second = (now + dt.timedelta(hours=n) for n in (hours, hours + 24))
    return PLANNED.format(first=first.isoformat(), second=second.isoformat())


def test_a_file_plans_prices_and_the_same_file_changes_nothing_before_or_after_their_moments(
    operator: Operator, clock: Callable[[dt.timedelta], None]
) -> None:
    text = planned()
    lines = operator.apply(text)
    assert [line.partition(" from ")[0] for line in lines[1:]] == [
        "~ model m: price input 1",
        "~ model m: price input 1 → input 2",
        "~ model m: price input 2 → input 3; above 5: input 4",
    ]
    for hours, price in ((0, "1"), (2, "2"), (30, "3")):
        clock(dt.timedelta(hours=hours))
        assert operator.apply(text) == ["nothing to change"]
        card = catalog.current_card(catalog.rows()["m"])
        assert card is not None
        assert prices.write_card(card)["input"] == price
        assert operator.apply(operator.dump()) == ["nothing to change"]
    assert PriceVersion.objects.count() == 3


def test_a_planned_price_that_was_never_written_counts_from_now_once_its_moment_has_passed(operator: Operator) -> None:
    assert next(line for line in operator.apply(planned(-2)) if "price" in line) == "~ model m: price input 2"
    assert PriceVersion.objects.count() == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("[{from: 2099-01-01}]", "price_changes[0]: a change of the price has `from` and `price`"),
        ("[{from: 2099-01-01, price: {input: 1}, note: x}]", "and nothing else"),
        ("[{from: soon, price: {input: 2}}]", "price_changes[0].from: 'soon' is not a time"),
        ("[{from: 2099-01-01, price: {input: x}}]", "price_changes[0].price.input: 'x' is not an amount"),
        (
            "[{from: 2099-02-01, price: {input: 2}}, {from: 2099-01-01, price: {input: 3}}]",
            "price_changes[1].from: changes are in the order of their moments",
        ),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(operator: Operator, change: str, said: str) -> None:
    assert said in operator.refused(f"models: [{{name: m, price: {{input: 1}}, price_changes: {change}}}]")


def test_a_change_comes_after_the_price_that_it_changes(operator: Operator) -> None:
    text = "models: [{name: m, price: {input: 1}, valid_from: 2099-01-01, price_changes: [{from: 2098-01-01, price: "
    assert "a change comes after the price's own valid_from" in operator.refused(text + "{input: 2}}]}]")


# ---- groups ---------------------------------------------------------------------------------------------------------


def test_groups_are_merged_by_name_and_dumped(operator: Operator) -> None:
    text = 'groups: [{name: vip, multiplier: "0.8"}, {name: partner, multiplier: 1.125}]'
    assert operator.apply(text) == ["+ group vip: multiplier 0.8", "+ group partner: multiplier 1.125"]
    assert operator.apply(text) == ["nothing to change"]
    assert operator.apply("groups: [{name: vip, multiplier: 0.75}]") == ["~ group vip: multiplier 0.8 → 0.75"]
    assert operator.apply("groups: [{name: vip}]") == ["nothing to change"]
    assert yaml.safe_load(operator.dump())["groups"] == [
        {"name": "partner", "multiplier": "1.125"},
        {"name": "vip", "multiplier": "0.75"},
    ]
    assert operator.apply(operator.dump()) == ["nothing to change"]


def test_pruning_takes_away_a_group_only_if_no_wallet_is_in_it(operator: Operator, team: Team) -> None:
    operator.apply("groups: [{name: vip, multiplier: 0.8}, {name: unused, multiplier: 2}]")
    groups.put(wallet=ledger.wallet_of(team.pk), group=groups.rows()["vip"])
    assert operator.apply("groups: []", "--prune") == ["- group unused"]
    assert "group vip stays: there are wallets in it" in operator.notes
    assert list(PriceGroup.objects.values_list("name", flat=True)) == ["vip"]
    assert groups.multiplier_of(ledger.wallet_of(team.pk)) == 800_000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("groups: [vip]", "groups[0]: a mapping"),
        ("groups: [{name: vip}]", "groups[0].multiplier: a new group needs this"),
        ("groups: [{multiplier: 1}]", "groups[0]: a name is needed"),
        ("groups: [{name: vip, multiplier: -1}]", "groups[0].multiplier: the amount must not be negative"),
        ("groups: [{name: vip, multiplier: 1e1}]", "'1e1' is not an amount"),
        ("groups: [{name: vip, multiplier: 0.1234567}]", "at most six decimals"),
        ("groups: [{name: vip, multiplier: 101}]", "a multiplier is at most 100"),
        ("groups: [{name: vip, multiplier: 1}, {name: vip, multiplier: 1}]", "there are two of the name 'vip'"),
        ("groups: [{name: vip, multiplier: 1, discount: 5}]", "groups[0].discount: this is unknown"),
        (f"groups: [{{name: {'x' * 101}, multiplier: 1}}]", "a group's name has at most 100 characters"),
    ],
)
def test_a_group_that_makes_no_sense_is_refused(operator: Operator, text: str, said: str) -> None:
    assert said in operator.refused(text)
    assert not PriceGroup.objects.exists()


# ---- what providers charge us ---------------------------------------------------------------------------------------


def test_costs_of_a_channel_are_stored_and_known_to_the_relay(operator: Operator) -> None:
    costs = ", costs: {m: {input: 0.10, output: '0.40', tiers: [{above: 128000, input: 0.2}]}}"
    operator.apply(CHANNEL.format(costs))
    assert operator.apply(CHANNEL.format(costs)) == ["nothing to change"]
    (candidate,) = snapshot.load().routes["m"]
    assert candidate.cost_card is not None
    assert prices.describe(candidate.cost_card) == "input 0.1, output 0.4; above 128000: input 0.2"
    assert operator.apply(operator.dump()) == ["nothing to change"]
    assert operator.apply(CHANNEL.format(", costs: {m: {input: 0.3}}")) == [
        "~ channel x: cost of m input 0.1, output 0.4; above 128000: input 0.2 → input 0.3"
    ]
    assert operator.apply(CHANNEL.format(", costs: {}")) == ["~ channel x: cost of m input 0.3 → none"]
    assert snapshot.load().routes["m"][0].cost_card is None


def test_a_model_that_a_channel_serves_no_longer_takes_its_cost_with_it(operator: Operator) -> None:
    operator.apply(CHANNEL.format(", costs: {m: {input: 1}}"))
    lines = operator.apply("channels: [{name: x, models: [other]}]")
    assert "~ channel x: cost of m input 1 → none" in lines
    assert Channel.objects.get().costs == {}


@pytest.mark.parametrize(
    ("costs", "said"),
    [
        ("[m]", "channels[0].costs: a mapping"),
        ("{m: 1}", "channels[0].costs.m: a mapping"),
        ("{m: {input: -1}}", "channels[0].costs.m.input: the amount must not be negative"),
        ("{m: {}}", "channels[0].costs.m: a price card needs at least one price"),
        ("{n: {input: 1}}", "channels[0].costs: The channel does not serve “n”"),
    ],
)
def test_a_cost_that_makes_no_sense_is_refused(operator: Operator, costs: str, said: str) -> None:
    assert said in operator.refused(CHANNEL.format(f", costs: {costs}"))
    assert not Channel.objects.exists()


# ---- pictures, and groups' own prices -------------------------------------------------------------------------------


def test_pictures_by_size_and_quality_come_back_in_the_dump(operator: Operator) -> None:
    text = "models: [{name: p, kind: image, price: {per_image: {1024x1024/low: 0.011, hd: '0.08', default: 0.04}}}]"
    told = "per_image 0.04 (1024x1024/low 0.011, hd 0.08)"
    assert operator.apply(text)[1] == f"~ model p: price {told}"
    assert operator.apply(operator.dump()) == ["nothing to change"]
    said = operator.refused("models: [{name: p, price: {per_image: {hd: 1}}}]")
    assert "models[0].price: per_image: `default` is missing" in said
    assert "per_image.hd: '1e3' is not an amount" in operator.refused(text.replace("'0.08'", "1e3"))


OWN = """
groups: [{name: vip, multiplier: "0.5"}]
models:
  - name: m
    price: {input: "1"}
    group_prices:
      - {group: vip, price: {input: "0.40"}}
      - {group: vip, from: 2999-01-01, price: {input: "0.30"}}
      - {group: vip, from: 2999-06-01, price: list}
"""


def test_a_groups_own_prices_are_applied_and_dumped(operator: Operator) -> None:
    lines = operator.apply(OWN)
    assert lines[-3:] == [
        "~ model m: price for group vip the list's → input 0.4",
        "~ model m: price for group vip input 0.4 → input 0.3 from 2999-01-01T00:00:00+00:00",
        "~ model m: price for group vip input 0.3 → the list's from 2999-06-01T00:00:00+00:00",
    ]
    assert operator.apply(OWN) == ["nothing to change"]
    dump = operator.dump()
    assert operator.apply(dump) == ["nothing to change"]
    assert [entry["price"] for entry in yaml.safe_load(dump)["models"][0]["group_prices"]] == [
        {"input": "0.4"}, {"input": "0.3"}, "list",
    ]  # fmt: skip
    model, group = snapshot.load().models["m"], groups.rows()["vip"].pk
    now = timezone.now().timestamp()
    for moment, rate, own in ((now, 4, True), (now + 10**11, 10, False)):
        price = model.price_at(moment, group=group)
        assert price is not None
        assert (price.card.rates["input"] // 10**8, price.own) == (rate, own)
    plain = model.price_at(now)
    assert plain is not None
    assert plain.card.rates == {"input": 10**9}


def test_an_ended_price_of_a_group_is_not_in_the_dump_and_its_group_stays(operator: Operator) -> None:
    operator.apply(OWN.split("      - {group: vip, from")[0])
    operator.apply("models: [{name: m, group_prices: [{group: vip, price: list}]}]")
    assert "group_prices" not in operator.dump()
    operator.apply("groups: []", "--prune")
    assert "group vip stays" in operator.notes


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ("[{group: nobody, price: {input: 1}}]", "models[0].group_prices: there is no group 'nobody'"),
        ("[{group: vip}]", "group_prices[0]: a group's price has `group`, `price`"),
        ("[{group: vip, price: {inputs: 1}}]", "group_prices[0].price.inputs: unknown price"),
        (
            "[{group: vip, from: 2999-01-01, price: list}, {group: vip, price: {input: 1}}]",
            "group_prices[1]: the prices of the group 'vip' are in the order of their moments",
        ),
    ],
)
def test_a_groups_price_that_makes_no_sense_is_refused(operator: Operator, entries: str, said: str) -> None:
    text = "groups: [{name: vip, multiplier: 1}]\nmodels: [{name: m, group_prices: %s}]"
    assert said in operator.refused(text % entries)
    assert not PriceVersion.objects.exists()
