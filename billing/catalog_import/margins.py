"""From a list price to ours, by rules. Pure. Every rounding is up: a margin is never less than asked for."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

import msgspec

from billing import money, prices
from billing.catalog_import.values import Listed
from billing.prices import ONE, TOKEN_BUCKETS, PriceCard, Tier


class Margin(msgspec.Struct, frozen=True, kw_only=True):
    """What we ask for the models whose provider and name match the patterns; as `billing.models.MarginRule` has it.

    `multiplier` is parts per million, `minimum` nano-units for 1,000,000 tokens, `digits` significant digits or 0 for
    exact, `exchange` nano-units of our currency for one of the source's, None where they are the same.
    """

    provider: str = "*"
    model: str = "*"
    multiplier: int = ONE
    minimum: int = 0
    digits: int = 0
    exchange: int | None = None
    adds: bool = False

    def is_for(self, listed: Listed) -> bool:
        """Whether the rule names this listing, in whatever case its letters are."""
        provider, model = listed.provider.lower(), listed.model.lower()
        return fnmatchcase(provider, self.provider.lower()) and fnmatchcase(model, self.model.lower())


def choose(margins: Sequence[Margin], listed: Sequence[Listed]) -> dict[str, tuple[Listed, Margin]]:
    """Of each model the listing that the earliest rule chooses, and that rule; by name. Those of no rule are left out.

    Where one rule chooses a model of several providers, the first of them by name counts.
    """
    found: dict[str, tuple[int, str, Listed]] = {}
    for one in listed:
        position = next((number for number, margin in enumerate(margins) if margin.is_for(one)), None)
        if position is None:
            continue
        best = found.get(one.model)
        if best is None or (position, one.provider) < best[:2]:
            found[one.model] = (position, one.provider, one)
    return {name: (one, margins[position]) for name, (position, _provider, one) in sorted(found.items())}


def sold(card: PriceCard, margin: Margin) -> PriceCard:
    """Our card for a list's card. Raises money.InvalidAmount where a price gets too large for the ledger."""
    tiers = tuple(Tier(tier.above, _sold(tier.rates, margin)) for tier in card.tiers)
    return PriceCard(_sold(card.rates, margin), tiers)


def _sold(rates: dict[str, int], margin: Margin) -> dict[str, int]:
    return {bucket: _sold_rate(bucket, rate, margin) for bucket, rate in rates.items()}


def _sold_rate(bucket: str, rate: int, margin: Margin) -> int:
    per = money.MILLION // prices.units_of(bucket)  # a price is written in nano-units for so many units
    exchange = money.NANO if margin.exchange is None else margin.exchange
    written = money.round_up(rate * margin.multiplier * exchange, per * ONE * money.NANO)
    if bucket in TOKEN_BUCKETS:
        written = max(written, margin.minimum)
    found = rounded(written, margin.digits) * per
    if found >= money.LIMIT:
        raise money.InvalidAmount(f"{bucket}: the price is too large for the ledger")
    return found


def rounded(value: int, digits: int) -> int:
    """Up to this many significant digits; 0 leaves the value as it is."""
    step = 10 ** max(0, len(str(value)) - digits) if digits else 1
    return money.round_up(value, step) * step
