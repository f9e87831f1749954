"""Models and their prices: the only writers of the catalogue, and the snapshot that the relay prices calls by."""

import bisect
import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from django.db import transaction
from django.utils import timezone

from billing import revisions
from billing.models import CatalogModel, PriceVersion
from billing.prices import PriceCard, Tier


class Price(msgspec.Struct, frozen=True):
    """A price version: its id, since when it is in force (Unix seconds), and its card."""

    id: int
    valid_from: float
    card: PriceCard


class Model(msgspec.Struct, frozen=True):
    """An offered model. `prices` are in the order of their moments and may lie in the future. What `capabilities` means
    is the relay's to say; here they are only kept."""

    name: str
    kind: str
    provider: str
    description: str
    context_window: int | None
    max_output: int | None
    created: int
    prices: tuple[Price, ...]
    capabilities: Mapping[str, Any] = {}

    def price_at(self, moment: float) -> Price | None:
        """The version in force, or None: such a model cannot be called."""
        index = bisect.bisect_right([price.valid_from for price in self.prices], moment)
        return self.prices[index - 1] if index else None


Catalog = Mapping[str, Model]


def _anything(written: Mapping[str, Any]) -> None:
    """Nobody has said what capabilities there are."""


# Raises ValueError for capabilities that there are not; the relay puts its own here.
check_capabilities: Callable[[Mapping[str, Any]], None] = _anything


def load() -> dict[str, Model]:
    """Every offered model with all of its prices, by name."""
    versions: dict[int, list[Price]] = {}
    for version in PriceVersion.objects.filter(model__active=True).order_by("valid_from"):
        price = Price(version.pk, version.valid_from.timestamp(), card_of(version))
        versions.setdefault(version.model_id, []).append(price)
    return {
        row.name: Model(
            name=row.name,
            kind=row.kind,
            provider=row.provider,
            description=row.description,
            context_window=row.context_window,
            max_output=row.max_output,
            created=int(row.created_at.timestamp()),
            prices=tuple(versions.get(row.pk, ())),
            capabilities=row.capabilities,
        )
        for row in CatalogModel.objects.filter(active=True).order_by("name")
    }


def card_of(version: PriceVersion) -> PriceCard:
    """The card as the version stores it: rates by bucket, and tiers as `[above, rates]`."""
    return PriceCard(version.rates, tuple(Tier(above, rates) for above, rates in version.tiers or ()))


def rows() -> dict[str, CatalogModel]:
    """Every model, offered or not, by name."""
    return {row.name: row for row in CatalogModel.objects.order_by("name")}


@transaction.atomic
def save_model(*, name: str, **fields: Any) -> CatalogModel:
    """Makes or changes a model."""
    model, _ = CatalogModel.objects.update_or_create(name=name, defaults=fields)
    revisions.bump(revisions.CATALOG)
    return model


@transaction.atomic
def set_price(
    model: CatalogModel, card: PriceCard, *, actor: str, valid_from: dt.datetime | None = None
) -> PriceVersion | None:
    """A new version from `valid_from` (now), or None where the one in force then says the same.

    A price never changes backwards: raises ValueError for a moment in the past, or one that has another price.
    """
    now = timezone.now()
    moment = valid_from or now
    current = model.prices.filter(valid_from__lte=moment).order_by("-valid_from").first()
    if current is not None and card_of(current) == card:
        return None
    if valid_from is not None and valid_from < now - dt.timedelta(minutes=1):
        raise ValueError("a price cannot take effect in the past")
    if current is not None and current.valid_from == moment:
        raise ValueError("another price takes effect at that very moment; a price version never changes")
    version = PriceVersion.objects.create(
        model=model,
        rates=card.rates,
        tiers=[[tier.above, tier.rates] for tier in card.tiers] or None,
        valid_from=moment,
        actor=actor[:200],
    )
    revisions.bump(revisions.CATALOG)
    return version


def price_shown(model: CatalogModel) -> PriceVersion | None:
    """The version in force now, else the first that will be."""
    in_force = model.prices.filter(valid_from__lte=timezone.now()).order_by("-valid_from").first()
    return in_force or model.prices.order_by("valid_from").first()


def current_card(model: CatalogModel) -> PriceCard | None:
    """The card in force now."""
    return card_at(model, timezone.now())


def card_at(model: CatalogModel, moment: dt.datetime) -> PriceCard | None:
    """The card in force at a moment, as it is planned now."""
    version = model.prices.filter(valid_from__lte=moment).order_by("-valid_from").first()
    return card_of(version) if version else None


def upcoming(model: CatalogModel) -> list[PriceVersion]:
    """The versions that are yet to take effect, the next one first."""
    return list(model.prices.filter(valid_from__gt=timezone.now()).order_by("valid_from"))
