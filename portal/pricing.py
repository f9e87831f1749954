"""The public price list as tables: equal decimals in a column, and what a bucket without a price of its own costs."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from django.utils import timezone
from django.utils.translation import gettext as _

from billing import money, prices, selectors
from billing.catalog import Price
from billing.models import PriceGroup
from billing.prices import ONE, PriceCard, Tier
from billing.selectors import Offer
from portal.wording import BUCKETS, UNITS

TOKENS = ("input", "cache_read", "cache_write", "output")
EXTRAS = ("cache_write_1h", "reasoning", "audio_in", "audio_out")
LONGEST = 10**9  # longer than any tier's length
MEDIA = ("images", "seconds", "characters", "searches", "calls")
MOST_CHANGES = 3  # of a model's planned prices that are shown


class Cell(msgspec.Struct, frozen=True):
    """A price in nano-units per 1M tokens, None for none; `inherited` where another bucket's counts."""

    rate: int | None
    inherited: bool = False


class TierRow(msgspec.Struct, frozen=True):
    """The prices of calls with more than `above` tokens of input, in the columns of the model's first prices."""

    above: int
    cells: tuple[Cell, ...]
    notes: tuple[str, ...]


class Change(msgspec.Struct, frozen=True):
    """A price that is planned, in words."""

    at: dt.datetime
    words: str


class Row(msgspec.Struct, frozen=True):
    """`notes` stand below the name: the provider, prices that have no column. `tiers` are for long inputs. `own` says
    that the price is the reader's group's own; `changes` is empty where `offered_from` says that there is none yet."""

    offer: Offer
    cells: tuple[Cell, ...]
    notes: tuple[str, ...]
    tiers: tuple[TierRow, ...]
    units: tuple[tuple[str, int], ...]
    since: dt.datetime | None
    offered_from: dt.datetime | None
    changes: tuple[Change, ...]
    own: bool

    @property
    def every_cell(self) -> list[Cell]:
        return [*self.cells, *(cell for tier in self.tiers for cell in tier.cells)]


class PriceList(msgspec.Struct, frozen=True):
    """`decimals` belong to the token columns, `unit_decimals` to the prices of a unit."""

    tokens: tuple[Row, ...]
    units: tuple[Row, ...]
    decimals: int
    unit_decimals: int
    providers: tuple[tuple[str, int], ...]
    total: int


def price_list(*, search: str = "", provider: str = "", group: PriceGroup | None = None) -> PriceList:
    """The offers that match, and all providers with their number of models; at the final prices of this group."""
    offers = selectors.price_list(timezone.now(), group=group.pk if group else None)
    multiplier = group.multiplier if group else ONE
    providers: dict[str, int] = {}
    for offer in offers:
        if offer.model.provider:
            providers[offer.model.provider] = providers.get(offer.model.provider, 0) + 1
    rows = [_row(offer, multiplier) for offer in offers if _matches(offer, search.strip().lower(), provider)]
    tokens = tuple(row for row in rows if any(cell.rate is not None for cell in row.cells))
    units = tuple(row for row in rows if row not in tokens)
    return PriceList(
        tokens=tokens,
        units=units,
        decimals=_decimals([cell.rate for row in tokens for cell in row.every_cell]),
        unit_decimals=_decimals([rate for row in rows for _name, rate in row.units]),
        providers=tuple(sorted(providers.items(), key=lambda item: item[0].lower())),
        total=len(offers),
    )


def _matches(offer: Offer, search: str, provider: str) -> bool:
    model = offer.model
    if provider and model.provider != provider:
        return False
    return not search or search in model.name.lower() or search in model.provider.lower()


def _row(offer: Offer, multiplier: int) -> Row:
    version = offer.price or offer.upcoming[0]
    card = final(version, multiplier)
    planned = offer.upcoming if offer.price else offer.upcoming[1:]
    return Row(
        offer=offer,
        cells=tuple(_cell(card.rates, bucket) for bucket in TOKENS),
        notes=tuple(_notes(offer, card)),
        tiers=tuple(_tier(tier) for tier in card.up_to(LONGEST) if tier.above),
        units=tuple(_units(card)),
        since=_moment(offer.price.valid_from) if offer.price else None,
        offered_from=None if offer.price else _moment(version.valid_from),
        changes=tuple(Change(_moment(p.valid_from), _written(final(p, multiplier))) for p in planned[:MOST_CHANGES]),
        own=version.own,
    )


def final(price: Price, multiplier: int) -> PriceCard:
    """What the reader pays: a group's own price as it is, else the list's times the multiplier, to a nano-unit."""
    times = price.times(multiplier)
    if times == ONE:
        return price.card
    tiers = tuple(Tier(tier.above, _multiplied(tier.rates, times)) for tier in price.card.tiers)
    return PriceCard(_multiplied(price.card.rates, times), tiers)


def written(price: Price, multiplier: int) -> dict[str, Any]:
    """The final price as price cards are written, each price rounded up to a nano-unit of the unit that it is for."""
    card = final(price, multiplier)
    tiers = tuple(Tier(tier.above, _whole(tier.rates)) for tier in card.tiers)
    return prices.write_card(PriceCard(_whole(card.rates), tiers))


def _whole(rates: Mapping[str, int]) -> dict[str, int]:
    card = PriceCard(dict(rates))
    return {bucket: _each(card, bucket) * money.MILLION // prices.units_of(bucket) for bucket in rates}


def _multiplied(rates: Mapping[str, int], times: int) -> dict[str, int]:
    return {bucket: money.round_up(rate * times, ONE) for bucket, rate in rates.items()}


def _units(card: PriceCard) -> Iterator[tuple[str, int]]:
    """What one unit costs, in the order of the units; of pictures first those of a size and quality of their own."""
    named = bool(prices.write_pictures(card.rates))
    for kind in MEDIA:
        mine = [bucket for bucket in card.rates if bucket.partition("/")[0] == kind]
        for bucket in sorted(mine, key=lambda bucket: (bucket in MEDIA, bucket)):
            yield unit_words(bucket, others=named and bucket == kind), _each(card, bucket)


def _each(card: PriceCard, bucket: str) -> int:
    return money.round_up(card.rates[bucket] * prices.units_of(bucket), money.MILLION)


def unit_words(bucket: str, *, others: bool = False) -> str:
    """`per picture`, `per picture 1024x1024/low`; `others` where only other pictures than those cost it."""
    kind, _slash, which = bucket.partition("/")
    if which:
        return f"{UNITS[kind]} {which}"
    return _("per other picture") if others and kind == "images" else str(UNITS[kind])


def _notes(offer: Offer, card: PriceCard) -> list[str]:
    notes = [offer.model.provider] if offer.model.provider else []
    notes += _extras(card.rates)
    if "searches" in card.rates:
        notes.append(f"{money.to_text(_each(card, 'searches'), decimals=2)} {unit_words('searches')}")
    if card.offers_per_call and not card.only_per_call:
        price = money.to_text(_each(card, "calls"), decimals=2)
        notes.append(_("or %(price)s per call") % {"price": price})
    return notes


def _extras(rates: Mapping[str, int]) -> list[str]:
    """Prices of tokens that have no column, in words."""
    return [f"{BUCKETS[b]} {money.to_text(rates[b], decimals=2)}" for b in EXTRAS if b in rates]


def _tier(tier: Tier) -> TierRow:
    return TierRow(tier.above, tuple(_cell(tier.rates, bucket) for bucket in TOKENS), tuple(_extras(tier.rates)))


def _cell(rates: Mapping[str, int], bucket: str) -> Cell:
    named = prices.priced_as(rates, bucket)
    return Cell(rates[named], inherited=named != bucket) if named else Cell(None)


def _written(card: PriceCard) -> str:
    """A card in words: `Input 0.20, Output 0.80`, and what its tiers change."""
    words = [_words(card)]
    for tier in card.tiers:
        more = _("above %(tokens)s tokens of input %(prices)s")
        words.append(more % {"tokens": f"{tier.above:,}", "prices": _words(PriceCard(tier.rates))})
    return "; ".join(words)


def _words(card: PriceCard) -> str:
    parts = []
    for bucket, rate in card.rates.items():
        if bucket.partition("/")[0] in UNITS:
            parts.append(f"{money.to_text(_each(card, bucket), decimals=2)} {unit_words(bucket)}")
        else:
            parts.append(f"{BUCKETS[bucket]} {money.to_text(rate, decimals=2)}")
    return _(", ").join(parts)


def _decimals(rates: Sequence[int | None]) -> int:
    """As many decimals as the finest price needs, two at least."""
    texts = [money.to_text(rate, decimals=2) for rate in rates if rate is not None]
    return max((len(text.partition(".")[2]) for text in texts), default=2)


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
