"""What a source's prices would change in the catalogue, as a value. Pure.

A line is new, changed or gone; what is the same is only counted. A price that moves by more than `FACTOR`, or becomes
free, stops its line: it needs a confirmation of its own.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from billing import prices
from billing.catalog_import.values import Listed
from billing.prices import PriceCard

FACTOR = 10
Kind = Literal["new", "changed", "gone"]
Stop = Literal["", "factor", "free"]
# Facts that a source corrects, and those that it only fills in where nobody has said anything.
CORRECTED = ("context_window", "max_output")
FILLED = ("provider", "description")


class Known(msgspec.Struct, frozen=True):
    """A model of the catalogue: its facts, and the last card that is written for it, which may be planned."""

    facts: dict[str, Any]
    card: PriceCard | None


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One model that would change. `facts` are `(before, after)` by name; `listed` is None for one that is gone."""

    model: str
    change: Kind
    listed: Listed | None = None
    facts: dict[str, tuple[Any, Any]] = {}
    old: PriceCard | None = None
    new: PriceCard | None = None
    stopped: Stop = ""


class Difference(msgspec.Struct, frozen=True):
    lines: tuple[Line, ...]
    unchanged: int


class Figure(msgspec.Struct, frozen=True):
    """A price before and after, in nano-units per 1,000,000 units; None where the card has none and none counts for it.

    `above` is the length of input from which it counts.
    """

    bucket: str
    above: int
    old: int | None
    new: int | None

    @property
    def tenths(self) -> int | None:
        """By how many tenths of a per cent it moves, towards zero; None where that cannot be said."""
        if self.old is None or self.new is None or not self.old:
            return None
        moved = abs(self.new - self.old) * 1000 // self.old
        return moved if self.new >= self.old else -moved


def compare(wanted: Mapping[str, tuple[Listed, PriceCard]], known: Mapping[str, Known], gone: set[str]) -> Difference:
    """What is listed, with the card that we would ask, beside the catalogue. `gone` are those no longer listed."""
    lines, unchanged = [], 0
    for name, (listed, card) in sorted(wanted.items()):
        line = _line(listed, card, known.get(name))
        if line is None:
            unchanged += 1
        else:
            lines.append(line)
    lines += [Line(model=name, change="gone", old=known[name].card) for name in sorted(gone & known.keys())]
    return Difference(tuple(lines), unchanged)


def _line(listed: Listed, card: PriceCard, known: Known | None) -> Line | None:
    if known is None:
        facts = {name: (None, value) for name, value in _facts(listed).items() if value}
        return Line(
            model=listed.model, change="new", listed=listed, facts=facts, new=card, stopped=why_stopped(None, card)
        )
    facts, card = _corrections(listed, known.facts), _kept(known.card, card)
    if not facts and card == known.card:
        return None
    return Line(
        model=listed.model,
        change="changed",
        listed=listed,
        facts=facts,
        old=known.card,
        new=card,
        stopped=why_stopped(known.card, card),
    )


def _kept(old: PriceCard | None, new: PriceCard) -> PriceCard:
    """The new card, with the price of a call that we offer besides: no source can know of it."""
    if old is None or "calls" in new.rates or "calls" not in old.rates:
        return new
    return msgspec.structs.replace(new, rates=new.rates | {"calls": old.rates["calls"]})


def _facts(listed: Listed) -> dict[str, Any]:
    return {
        "kind": listed.kind,
        "provider": listed.label or listed.provider,
        "description": listed.description,
        "context_window": listed.context_window,
        "max_output": listed.max_output,
        "capabilities": listed.capabilities,
    }


def _corrections(listed: Listed, before: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What a model is called and does is ours to say; how long its context is, the source's."""
    said = {name: value for name, value in _facts(listed).items() if value}
    found = {name: said[name] for name in CORRECTED if name in said}
    found |= {name: said[name] for name in FILLED if name in said and not before.get(name)}
    if listed.capabilities:
        found["capabilities"] = {**(before.get("capabilities") or {}), **listed.capabilities}
    return {name: (before.get(name), value) for name, value in found.items() if before.get(name) != value}


def figures(old: PriceCard | None, new: PriceCard | None) -> list[Figure]:
    """Every price of both cards side by side, by length of input; those of a tier only where it changes them."""
    cards = [card for card in (old, new) if card is not None]
    lengths = sorted({0, *(tier.above for card in cards for tier in card.tiers)})
    found = []
    for above in lengths:
        named = {bucket for card in cards for bucket in _named(card, above)}
        order = [*(bucket for bucket, _units in prices.WRITTEN.values() if bucket in named)]
        order += sorted(named.difference(order))
        found += [Figure(bucket, above, _rate(old, bucket, above), _rate(new, bucket, above)) for bucket in order]
    return found


def _named(card: PriceCard, above: int) -> set[str]:
    if not above:
        return set(card.rates)
    return {bucket for tier in card.tiers if tier.above == above for bucket in tier.rates}


def _rate(card: PriceCard | None, bucket: str, above: int) -> int | None:
    """What the card charges for the bucket, by its fallback too; None where it charges nothing at all for it."""
    if card is None:
        return None
    *_, tier = card.up_to(above + 1)
    priced = prices.priced_as(tier.rates, bucket) or bucket.partition("/")[0] in tier.rates
    return prices.rate_of(tier.rates, bucket) if priced else None


def why_stopped(old: PriceCard | None, new: PriceCard) -> Stop:
    """`free` where something that cost would cost nothing, or a new model nothing at all; `factor` where a price moves
    by more than that; else nothing."""
    if old is None:
        return "" if any(new.rates.values()) else "free"
    moves = [(figure.old or 0, figure.new or 0) for figure in figures(old, new) if figure.old != figure.new]
    if any(before and not after for before, after in moves):
        return "free"
    if any(after > before * FACTOR or before > after * FACTOR for before, after in moves):
        return "factor"
    return ""
