"""Price cards and what a usage costs by them. Pure: no database, no clock.

A card may have tiers for long inputs: a call whose input, over all of its buckets, is longer than a tier's `above` is
charged wholly at that tier's rates, output too, as the vendors do it. A tier changes the buckets that it names, from
its length on; the others stay as they are below it.

Pictures may have prices by size and quality. One is charged by the narrowest that the card has: `1024x1024/low`, else
`1024x1024`, else `low`, else the price of any other picture, which such a card must have.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec

from billing import money
from billing.usage import PICTURES, Usage

# How a price card is written in files and forms: name there, bucket here, units that one written price buys.
WRITTEN = {
    "input": ("input", money.MILLION),
    "cache_read": ("cache_read", money.MILLION),
    "cache_write": ("cache_write", money.MILLION),
    "cache_write_1h": ("cache_write_1h", money.MILLION),
    "output": ("output", money.MILLION),
    "reasoning": ("reasoning", money.MILLION),
    "audio_in": ("audio_in", money.MILLION),
    "audio_out": ("audio_out", money.MILLION),
    "characters": ("characters", money.MILLION),
    "per_image": ("images", 1),
    "per_second": ("seconds", 1),
    "per_search": ("searches", 1),
    "per_call": ("calls", 1),
}
# A bucket without a price of its own costs what this one costs, by its price or by that which it falls back to in turn.
FALLBACK = {
    "cache_read": "input",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
    "audio_in": "input",
    "reasoning": "output",
    "audio_out": "output",
}
INPUT_BUCKETS = ("input", "cache_read", "cache_write", "cache_write_1h", "audio_in")
OUTPUT_BUCKETS = ("output", "reasoning", "audio_out")
TOKEN_BUCKETS = frozenset(INPUT_BUCKETS + OUTPUT_BUCKETS)
# What any prompt may turn out to be: nothing is kept for an hour unless a call asks for it.
_UNASKED = tuple(bucket for bucket in INPUT_BUCKETS if bucket != "cache_write_1h")
_BY_UNIT = frozenset(("characters", "seconds", "searches", "calls"))
NO_UNITS = Usage()
ONE = 1_000_000  # a multiplier of 1, in parts per million
HIGHEST_MULTIPLIER = 100 * ONE
MOST_TIERS = 20
MOST_PICTURES = 100
ANY_PICTURE = "default"  # as what a picture costs that no other price names is written
_PICTURE = re.compile(r"[a-z0-9][a-z0-9.:_-]{0,31}(/[a-z0-9][a-z0-9.:_-]{0,31})?")
_UNITS = dict(WRITTEN.values())


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One bucket's share of a charge. `rate` is nano-units per 1,000,000 units, `amount` nano-units.

    `above` is the length of input from which the rate's tier counts; 0 for the card's first rates.
    """

    bucket: str
    quantity: int
    rate: int
    multiplier: int
    amount: int
    above: int = 0


class Charge(msgspec.Struct, frozen=True):
    """What is owed, in nano-units, and the lines that add up to it exactly."""

    amount: int
    lines: tuple[Line, ...]


NOTHING = Charge(0, ())


def flat(rate: int) -> "PriceCard":
    """A card by which each call costs `rate` nano-units."""
    return PriceCard({"calls": rate * money.MILLION})


class Tier(msgspec.Struct, frozen=True):
    """Rates of calls with more than `above` tokens of input, by bucket; what it does not name costs as before."""

    above: int
    rates: dict[str, int]


class PriceCard(msgspec.Struct, frozen=True, dict=True):
    """Nano-units per 1,000,000 units, by bucket. A card with only `calls` charges exactly that, whatever is used.

    `tiers` are in the order of their lengths.
    """

    rates: dict[str, int]
    tiers: tuple[Tier, ...] = ()

    def up_to(self, tokens_in: int) -> Iterator[Tier]:
        """What a call with at most this much input can be charged by, each with all of its rates; the first has 0."""
        rates = self.rates
        yield Tier(0, rates)
        for tier in self.tiers:
            if tokens_in <= tier.above:
                return
            rates = rates | tier.rates
            yield Tier(tier.above, rates)

    @cached_property
    def dearest(self) -> tuple[int, int]:
        """The most that a token of input, written to no cache for an hour, and one of output can cost below the first
        tier."""
        return _dearest(self.rates, _UNASKED), _dearest(self.rates, OUTPUT_BUCKETS)

    @property
    def offers_per_call(self) -> bool:
        return "calls" in self.rates

    @property
    def only_per_call(self) -> bool:
        return self.rates.keys() == {"calls"}


def _dearest(rates: Mapping[str, int], buckets: Sequence[str]) -> int:
    return max([rate_of(rates, bucket) for bucket in buckets])


def rate_of(rates: Mapping[str, int], bucket: str) -> int:
    """The bucket's own price, else its fallback's, else 0."""
    named = priced_as(rates, bucket)
    return rates[named] if named else _wider_rate(rates, bucket)


def priced_as(rates: Mapping[str, int], bucket: str) -> str:
    """The bucket whose price is this one's: its own, else that of the nearest fallback that has one, else ""."""
    while bucket and bucket not in rates:
        bucket = FALLBACK.get(bucket, "")
    return bucket


def _wider_rate(rates: Mapping[str, int], bucket: str) -> int:
    """For `images/1024x1024/low` the price of `images/1024x1024`, else of `images/low`, else of `images`."""
    kind, *parts = bucket.split("/")
    if not parts:
        return 0
    narrow = (f"{kind}/{part}" for part in parts)
    return next((rates[name] for name in (*narrow, kind) if name in rates), 0)


def units_of(bucket: str) -> int:
    """How many units of a bucket one written price buys."""
    return 1 if bucket.startswith(PICTURES) else _UNITS.get(bucket, money.MILLION)


def is_per_call(card: PriceCard, mode: str) -> bool:
    """Whether a key with this billing mode pays the card's price of a call instead of metered usage."""
    return card.only_per_call or (mode == "per_call" and card.offers_per_call)


# ---- as they are written --------------------------------------------------------------------------------------------


def parse_card(written: Mapping[str, Any]) -> PriceCard:
    """Reads `{"input": "0.15", "tiers": [{"above": 200000, "input": "0.30"}]}`.

    `per_image` may be `{"1024x1024/low": "0.011", "default": "0.04"}`. Raises
    money.InvalidAmount naming what is wrong.
    """
    rates = _parse_rates({name: price for name, price in written.items() if name != "tiers"})
    if not rates:
        raise money.InvalidAmount("a price card needs at least one price; free is written as 0")
    return PriceCard(rates, parse_tiers(written["tiers"], rates) if "tiers" in written else ())


def parse_tiers(written: object, below: Mapping[str, int]) -> tuple[Tier, ...]:
    """The tiers of a card whose first rates are `below`. Raises money.InvalidAmount."""
    if not isinstance(written, Sequence) or isinstance(written, str):
        raise money.InvalidAmount("tiers are a list, each with `above` and prices")
    if len(written) > MOST_TIERS:
        raise money.InvalidAmount(f"a card has at most {MOST_TIERS} tiers")
    if written and not TOKEN_BUCKETS & below.keys():
        raise money.InvalidAmount("tiers are for prices of tokens, and the card has none")
    tiers: list[Tier] = []
    for number, entry in enumerate(written):
        try:
            tiers.append(_parse_tier(entry, tiers[-1].above if tiers else 0))
        except money.InvalidAmount as error:
            raise money.InvalidAmount(f"tiers[{number}]: {error}") from error
    return tuple(tiers)


def _parse_tier(written: object, longer_than: int) -> Tier:
    if not isinstance(written, Mapping):
        raise money.InvalidAmount("a tier is a mapping with `above` and prices")
    if "above" not in written:
        raise money.InvalidAmount("a tier needs `above`, the tokens of input after which it counts")
    text = str(written["above"])
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise money.InvalidAmount(f"above: {text[:40]!r} is not a number of tokens from 1 to 999999999")
    above = int(text)
    if above <= longer_than:
        raise money.InvalidAmount(f"above: tiers ascend, and {above} does not come after {longer_than}")
    rates = _parse_rates({name: price for name, price in written.items() if name != "above"})
    if not rates:
        raise money.InvalidAmount("a tier needs at least one price of its own")
    if other := sorted(rates.keys() - TOKEN_BUCKETS):
        raise money.InvalidAmount(f"a tier has prices of tokens only, not of {', '.join(other)}")
    return Tier(above, rates)


def _parse_rates(written: Mapping[Any, Any]) -> dict[str, int]:
    rates: dict[str, int] = {}
    for name, price in written.items():
        try:
            rates |= parse_rates(name, price)
        except money.InvalidAmount as error:
            raise money.InvalidAmount(f"{str(name)[:40]}: {error}") from error
    return rates


def parse_rates(name: object, price: object) -> dict[str, int]:
    """What is written under one name, by bucket: a price, or those of pictures. Raises money.InvalidAmount."""
    if isinstance(price, Mapping) and name == "per_image":
        return _parse_pictures(price)
    return dict([parse_rate(name, price)])


def _parse_pictures(written: Mapping[Any, Any]) -> dict[str, int]:
    if ANY_PICTURE not in written:
        raise money.InvalidAmount(f"`{ANY_PICTURE}` is missing: what a picture costs that none of these names")
    if len(written) > MOST_PICTURES:
        raise money.InvalidAmount(f"a card has at most {MOST_PICTURES} prices of pictures")
    rates = {}
    for name, price in written.items():
        if not isinstance(name, str) or not _PICTURE.fullmatch(name):
            raise money.InvalidAmount(f"{str(name)[:40]!r} is no size and quality such as 1024x1024/low")
        bucket = "images" if name == ANY_PICTURE else PICTURES + name
        rates[bucket] = parse_rate("per_image", price)[1]
    return rates


def parse_rate(name: object, price: object) -> tuple[str, int]:
    """The bucket of a written price, and its rate. Raises money.InvalidAmount."""
    if name not in WRITTEN:
        raise money.InvalidAmount(f"unknown price {str(name)[:40]!r}; known are {', '.join(WRITTEN)}")
    bucket, units = WRITTEN[str(name)]
    rate = money.parse(price) * (money.MILLION // units)
    if rate >= money.LIMIT:
        raise money.InvalidAmount("the price is too large for the ledger")
    return bucket, rate


def write_card(card: PriceCard) -> dict[str, Any]:
    """The inverse of `parse_card`."""
    written: dict[str, Any] = dict(_write_rates(card.rates))
    if card.tiers:
        written["tiers"] = [{"above": tier.above, **_write_rates(tier.rates)} for tier in card.tiers]
    return written


def _write_rates(rates: Mapping[str, int]) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: money.to_text(rates[bucket] // (money.MILLION // units))
        for name, (bucket, units) in WRITTEN.items()
        if bucket in rates
    }
    if pictures := write_pictures(rates):
        found["per_image"] = pictures | {ANY_PICTURE: found["per_image"]}
    return found


def write_pictures(rates: Mapping[str, int]) -> dict[str, str]:
    """The prices of pictures by size and quality, without that of any other."""
    names = sorted(bucket for bucket in rates if bucket.startswith(PICTURES))
    return {name.removeprefix(PICTURES): money.to_text(rates[name] // money.MILLION) for name in names}


def describe(card: PriceCard) -> str:
    """A card in one line: `input 1.25, output 10; above 200000: input 2.5`, `per_image 0.04 (1024x1024/low 0.011)`."""
    parts = [_words(card.rates), *(f"above {tier.above}: {_words(tier.rates)}" for tier in card.tiers)]
    return "; ".join(parts)


def _words(rates: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {_price_words(price)}" for name, price in _write_rates(rates).items())


def _price_words(price: Any) -> str:
    if isinstance(price, str):
        return price
    named = ", ".join(f"{name} {text}" for name, text in price.items() if name != ANY_PICTURE)
    return f"{price[ANY_PICTURE]} ({named})"


def parse_multiplier(written: object) -> int:
    """Parts per million of a decimal such as `"0.8"`. Raises money.InvalidAmount."""
    value, rest = divmod(money.parse(written), money.NANO // ONE)
    if rest:
        raise money.InvalidAmount("a multiplier has at most six decimals")
    if value > HIGHEST_MULTIPLIER:
        raise money.InvalidAmount(f"a multiplier is at most {HIGHEST_MULTIPLIER // ONE}")
    return value


def write_multiplier(multiplier: int, *, decimals: int | None = None) -> str:
    """The inverse of `parse_multiplier`; `decimals` pads."""
    return money.to_text(multiplier * (money.NANO // ONE), decimals=decimals)


# ---- what is owed ---------------------------------------------------------------------------------------------------


def charge(usage: Usage, card: PriceCard, *, mode: str = "metered", multiplier: int = ONE) -> Charge:
    """What this usage costs. Rounded up once; a line carries the nano-units that the running total grew by."""
    if is_per_call(card, mode):
        usage = Usage(calls=1)
    scale = money.MILLION * ONE
    rates, above = card.rates, 0
    if card.tiers:
        *_, tier = card.up_to(usage.tokens_in)
        rates, above = tier.rates, tier.above
    total, owed, lines = 0, 0, []
    for bucket, quantity in usage.buckets():
        rate = rates.get(bucket)  # asked here as well: a call of `rate_of` for each line is felt
        if rate is None:
            rate = rate_of(rates, bucket)
        total += quantity * rate * multiplier
        grown = money.round_up(total, scale)
        lines.append(Line(bucket, quantity, rate, multiplier, grown - owed, above))
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
        lines.append(msgspec.structs.replace(line, amount=amount))
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


def bound(
    card: PriceCard, *, input_tokens: int, units: Usage = NO_UNITS, mode: str = "metered", multiplier: int = ONE
) -> Bound:
    """An upper bound by the dearest price that each token could turn out to have, in any tier within reach.

    `units` are the most that it can use besides tokens: characters, seconds, searches, pictures; those in `images`, of
    a size or quality that is not known yet, are bounded by the dearest of the card. Of tokens they say only how many of
    the input may be written to a cache for an hour.
    """
    if is_per_call(card, mode):
        return Bound(money.round_up(rate_of(card.rates, "calls") * multiplier, money.MILLION * ONE), 0)
    dearest_in, dearest_out = card.dearest
    kept = min(units.cache_write_1h or 0, input_tokens)
    dearest_kept = rate_of(card.rates, "cache_write_1h") if kept else 0
    for tier in card.up_to(input_tokens) if card.tiers else ():
        dearest_in = max(dearest_in, _dearest(tier.rates, _UNASKED))
        dearest_out = max(dearest_out, _dearest(tier.rates, OUTPUT_BUCKETS))
        dearest_kept = max(dearest_kept, rate_of(tier.rates, "cache_write_1h") if kept else 0)
    most = input_tokens * dearest_in + kept * max(0, dearest_kept - dearest_in)
    if units is not NO_UNITS:
        most += _most_of_units(card.rates, units)
    fixed = money.round_up(most * multiplier, money.MILLION * ONE)
    each = money.round_up(dearest_out * multiplier, ONE)
    # One nano-unit for the single rounding of a charge that has both parts.
    return Bound(fixed + 1 if fixed or each else 0, each)


def _most_of_units(rates: Mapping[str, int], units: Usage) -> int:
    """Nano-units × 1,000,000 that these can cost at most."""
    most = sum(quantity * rate_of(rates, bucket) for bucket, quantity in units.buckets() if bucket in _BY_UNIT)
    dearest = max(rate for bucket, rate in [("images", 0), *rates.items()] if _is_picture(bucket))
    named = sum(quantity * rate_of(rates, PICTURES + name) for name, quantity in (units.pictures or {}).items())
    return most + named + (units.images or 0) * dearest


def _is_picture(bucket: str) -> bool:
    return bucket == "images" or bucket.startswith(PICTURES)
