"""The public price list as tables: equal decimals in a column, and what a bucket without a price of its own costs."""

import datetime as dt
from collections.abc import Mapping, Sequence

import msgspec
from django.utils import timezone
from django.utils.translation import gettext as _

from billing import money, selectors
from billing.prices import FALLBACK, PriceCard, Tier
from billing.selectors import Offer
from portal.wording import BUCKETS, UNITS

TOKENS = ("input", "cache_read", "cache_write", "output")
EXTRAS = ("reasoning", "audio_in", "audio_out")
LONGEST = 10**9  # longer than any tier's length
MEDIA = ("images", "seconds", "calls")


class Cell(msgspec.Struct, frozen=True):
    """A price in nano-units per 1M tokens, None for none; `inherited` where another bucket's counts."""

    rate: int | None
    inherited: bool = False


class TierRow(msgspec.Struct, frozen=True):
    """The prices of calls with more than `above` tokens of input, in the columns of the model's first prices."""

    above: int
    cells: tuple[Cell, ...]
    notes: tuple[str, ...]


class Row(msgspec.Struct, frozen=True):
    """`notes` stand below the name: the provider, prices that have no column. `tiers` are for long inputs."""

    offer: Offer
    cells: tuple[Cell, ...]
    notes: tuple[str, ...]
    tiers: tuple[TierRow, ...]
    units: tuple[tuple[str, int], ...]
    since: dt.datetime | None
    change: str
    change_from: dt.datetime | None

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


def price_list(*, search: str = "", provider: str = "") -> PriceList:
    """The offers that match, and all providers with their number of models."""
    offers = selectors.price_list(timezone.now())
    providers: dict[str, int] = {}
    for offer in offers:
        if offer.model.provider:
            providers[offer.model.provider] = providers.get(offer.model.provider, 0) + 1
    rows = [_row(offer) for offer in offers if _matches(offer, search.strip().lower(), provider)]
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


def _row(offer: Offer) -> Row:
    version = offer.price or offer.upcoming
    assert version is not None
    card = version.card
    return Row(
        offer=offer,
        cells=tuple(_cell(card.rates, bucket) for bucket in TOKENS),
        notes=tuple(_notes(offer, card)),
        tiers=tuple(_tier(tier) for tier in card.up_to(LONGEST) if tier.above),
        units=tuple((str(UNITS[b]), card.rates[b] // money.MILLION) for b in MEDIA if b in card.rates),
        since=_moment(offer.price.valid_from) if offer.price else None,
        change=_written(offer.upcoming.card) if offer.price and offer.upcoming else "",
        change_from=_moment(offer.upcoming.valid_from) if offer.upcoming else None,
    )


def _notes(offer: Offer, card: PriceCard) -> list[str]:
    notes = [offer.model.provider] if offer.model.provider else []
    notes += _extras(card.rates)
    if card.offers_per_call and not card.only_per_call:
        price = money.to_text(card.rates["calls"] // money.MILLION, decimals=2)
        notes.append(_("or %(price)s per call") % {"price": price})
    return notes


def _extras(rates: Mapping[str, int]) -> list[str]:
    """Prices of tokens that have no column, in words."""
    return [f"{BUCKETS[b]} {money.to_text(rates[b], decimals=2)}" for b in EXTRAS if b in rates]


def _tier(tier: Tier) -> TierRow:
    return TierRow(tier.above, tuple(_cell(tier.rates, bucket) for bucket in TOKENS), tuple(_extras(tier.rates)))


def _cell(rates: Mapping[str, int], bucket: str) -> Cell:
    if bucket in rates:
        return Cell(rates[bucket])
    fallback = FALLBACK.get(bucket, "")
    return Cell(rates[fallback], inherited=True) if fallback in rates else Cell(None)


def _written(card: PriceCard) -> str:
    """A card in words: `Input 0.20, Output 0.80`, and what its tiers change."""
    words = [_words(card.rates)]
    for tier in card.tiers:
        more = _("above %(tokens)s tokens of input %(prices)s")
        words.append(more % {"tokens": f"{tier.above:,}", "prices": _words(tier.rates)})
    return "; ".join(words)


def _words(rates: Mapping[str, int]) -> str:
    parts = []
    for bucket, rate in rates.items():
        if bucket in UNITS:
            parts.append(f"{money.to_text(rate // money.MILLION, decimals=2)} {UNITS[bucket]}")
        else:
            parts.append(f"{BUCKETS[bucket]} {money.to_text(rate, decimals=2)}")
    return _(", ").join(parts)


def _decimals(rates: Sequence[int | None]) -> int:
    """As many decimals as the finest price needs, two at least."""
    texts = [money.to_text(rate, decimals=2) for rate in rates if rate is not None]
    return max((len(text.partition(".")[2]) for text in texts), default=2)


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
