"""Price cards and what a usage costs by them. Pure: no database, no clock."""

from collections.abc import Mapping
from typing import Any

import msgspec

from billing import money
from billing.usage import Usage

# How a price card is written in files and forms: name there, bucket here, units that one written price buys.
WRITTEN = {
    "input": ("input", money.MILLION),
    "cache_read": ("cache_read", money.MILLION),
    "cache_write": ("cache_write", money.MILLION),
    "output": ("output", money.MILLION),
    "reasoning": ("reasoning", money.MILLION),
    "audio_in": ("audio_in", money.MILLION),
    "audio_out": ("audio_out", money.MILLION),
    "per_image": ("images", 1),
    "per_second": ("seconds", 1),
    "per_call": ("calls", 1),
}
# A bucket without a price of its own costs what this one costs.
FALLBACK = {
    "cache_read": "input",
    "cache_write": "input",
    "audio_in": "input",
    "reasoning": "output",
    "audio_out": "output",
}
INPUT_BUCKETS = ("input", "cache_read", "cache_write", "audio_in")
OUTPUT_BUCKETS = ("output", "reasoning", "audio_out")
ONE = 1_000_000  # a multiplier of 1, in parts per million


class Line(msgspec.Struct, frozen=True):
    """One bucket's share of a charge. `rate` is nano-units per 1,000,000 units, `amount` nano-units."""

    bucket: str
    quantity: int
    rate: int
    multiplier: int
    amount: int


class Charge(msgspec.Struct, frozen=True):
    """What is owed, in nano-units, and the lines that add up to it exactly."""

    amount: int
    lines: tuple[Line, ...]


NOTHING = Charge(0, ())


class PriceCard(msgspec.Struct, frozen=True):
    """Nano-units per 1,000,000 units, by bucket. A card with only `calls` charges exactly that, whatever is used."""

    rates: dict[str, int]

    def rate(self, bucket: str) -> int:
        """The bucket's own price, else its fallback's, else 0."""
        found = self.rates.get(bucket)
        if found is None:
            found = self.rates.get(FALLBACK.get(bucket, ""), 0)
        return found

    @property
    def offers_per_call(self) -> bool:
        return "calls" in self.rates

    @property
    def only_per_call(self) -> bool:
        return self.rates.keys() == {"calls"}


def is_per_call(card: PriceCard, mode: str) -> bool:
    """Whether a key with this billing mode pays the card's price of a call instead of metered usage."""
    return card.only_per_call or (mode == "per_call" and card.offers_per_call)


def parse_card(written: Mapping[str, Any]) -> PriceCard:
    """Reads `{"input": "0.15", "per_call": "0.01"}`; raises money.InvalidAmount naming what is wrong."""
    rates = {}
    for name, price in written.items():
        if name not in WRITTEN:
            raise money.InvalidAmount(f"unknown price {name!r}; known are {', '.join(WRITTEN)}")
        bucket, units = WRITTEN[name]
        rate = money.parse(price) * (money.MILLION // units)
        if rate >= money.LIMIT:
            raise money.InvalidAmount(f"the price {name!r} is too large for the ledger")
        rates[bucket] = rate
    if not rates:
        raise money.InvalidAmount("a price card needs at least one price; free is written as 0")
    return PriceCard(rates)


def write_card(card: PriceCard) -> dict[str, str]:
    """The inverse of `parse_card`."""
    return {
        name: money.to_text(card.rates[bucket] // (money.MILLION // units))
        for name, (bucket, units) in WRITTEN.items()
        if bucket in card.rates
    }


def charge(usage: Usage, card: PriceCard, *, mode: str = "metered", multiplier: int = ONE) -> Charge:
    """What this usage costs. Rounded up once; a line carries the nano-units that the running total grew by."""
    if is_per_call(card, mode):
        usage = Usage(calls=1)
    scale = money.MILLION * ONE
    total, owed, lines = 0, 0, []
    for bucket, quantity in usage.buckets():
        rate = card.rate(bucket)
        total += quantity * rate * multiplier
        grown = money.round_up(total, scale)
        lines.append(Line(bucket, quantity, rate, multiplier, grown - owed))
        owed = grown
    return Charge(owed, tuple(lines))


def capped(whole: Charge, most: int) -> Charge:
    """The charge, but at most `most`: an estimate never costs more than was held. The lines still add up."""
    if whole.amount <= most:
        return whole
    lines, left = [], most
    for line in whole.lines:
        amount = min(line.amount, left)
        left -= amount
        lines.append(Line(line.bucket, line.quantity, line.rate, line.multiplier, amount))
    return Charge(most, tuple(lines))


class Bound(msgspec.Struct, frozen=True):
    """The most that a call can cost: a fixed part and a part for each output token.

    `fixed` is nano-units; `per_million` is nano-units for 1,000,000 output tokens.
    """

    fixed: int
    per_million: int

    def amount(self, output_tokens: int) -> int:
        return self.fixed + money.round_up(output_tokens * self.per_million, money.MILLION)

    def affordable(self, amount: int) -> int:
        """The most output tokens that `amount` pays for; the inverse of `amount`."""
        return max(0, amount - self.fixed) * money.MILLION // self.per_million


def bound(card: PriceCard, *, input_tokens: int, mode: str = "metered", multiplier: int = ONE) -> Bound:
    """An upper bound by the dearest price that each token could turn out to have."""
    if is_per_call(card, mode):
        return Bound(money.round_up(card.rate("calls") * multiplier, money.MILLION * ONE), 0)
    dearest_in = max(card.rate(bucket) for bucket in INPUT_BUCKETS)
    dearest_out = max(card.rate(bucket) for bucket in OUTPUT_BUCKETS)
    fixed = money.round_up(input_tokens * dearest_in * multiplier, money.MILLION * ONE)
    # One nano-unit for the single rounding of a charge that has both parts.
    return Bound(fixed + 1 if fixed or dearest_out else 0, money.round_up(dearest_out * multiplier, ONE))
