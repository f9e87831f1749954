"""Models and their prices: the only writers of the catalogue, and the snapshot that the relay prices calls by.

A price is the list's, or a group's own. For a wallet in a group its own price counts where there is one in force, as it
is; else the list's times the group's multiplier.
"""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from billing import revisions
from billing.models import CatalogModel, PriceGroup, PriceVersion
from billing.prices import ONE, PriceCard, Tier


class Price(msgspec.Struct, frozen=True):
    """A price version: its id, since when it is in force (Unix seconds), and its card.

    `own` says that it is a group's, final as it is. A card without rates ends a group's own price.
    """

    id: int
    valid_from: float
    card: PriceCard
    own: bool = False

    def times(self, multiplier: int) -> int:
        """What this price is multiplied by for a wallet whose group has this multiplier."""
        return ONE if self.own else multiplier


class Model(msgspec.Struct, frozen=True):
    """An offered model. `prices` are the list's, in the order of their moments, and may lie in the future; `own` those
    of groups, by the group's id. What `capabilities` means is the relay's to say; here they are only kept."""

    name: str
    kind: str
    provider: str
    description: str
    context_window: int | None
    max_output: int | None
    created: int
    prices: tuple[Price, ...]
    capabilities: Mapping[str, Any] = {}
    own: Mapping[int, tuple[Price, ...]] = {}

    def price_at(self, moment: float, *, group: int | None = None) -> Price | None:
        """The version in force for whoever is in this group, or None: for him the model cannot be called."""
        if group is not None and (found := _in_force(self.own.get(group, ()), moment)) and found.card.rates:
            return found
        return _in_force(self.prices, moment)

    def changes(self, moment: float, *, group: int | None = None) -> list[Price]:
        """What the price will be for this group, by the versions that are planned now, the next one first."""
        versions = (*self.prices, *self.own.get(group or 0, ()))
        after = {price.valid_from for price in versions if price.valid_from > moment}
        found: list[Price] = []
        before = self.price_at(moment, group=group)
        for at in sorted(after):
            price = self.price_at(at, group=group)
            if price is not None and price != before:
                found.append(msgspec.structs.replace(price, valid_from=at))
            before = price
        return found


def _in_force(versions: Sequence[Price], moment: float) -> Price | None:
    for price in reversed(versions):
        if price.valid_from <= moment:
            return price
    return None


Catalog = Mapping[str, Model]


def _anything(written: Mapping[str, Any]) -> None:
    """Nobody has said what capabilities there are."""


# Raises ValueError for capabilities that there are not; the relay puts its own here.
check_capabilities: Callable[[Mapping[str, Any]], None] = _anything


def load() -> dict[str, Model]:
    """Every offered model with all of its prices, by name."""
    versions: dict[tuple[int, int | None], list[Price]] = {}
    own: dict[int, set[int]] = {}
    for version in PriceVersion.objects.filter(model__active=True).order_by("valid_from"):
        group = version.group_id
        price = Price(version.pk, version.valid_from.timestamp(), card_of(version), own=group is not None)
        versions.setdefault((version.model_id, group), []).append(price)
        if group is not None:
            own.setdefault(version.model_id, set()).add(group)
    return {
        row.name: Model(
            name=row.name,
            kind=row.kind,
            provider=row.provider,
            description=row.description,
            context_window=row.context_window,
            max_output=row.max_output,
            created=int(row.created_at.timestamp()),
            prices=tuple(versions.get((row.pk, None), ())),
            capabilities=row.capabilities,
            own={group: tuple(versions[row.pk, group]) for group in own.get(row.pk, ())},
        )
        for row in CatalogModel.objects.filter(active=True).order_by("name")
    }


def card_of(version: PriceVersion) -> PriceCard:
    """The card as the version stores it: rates by bucket, and tiers as `[above, rates]`."""
    return PriceCard(version.rates or {}, tuple(Tier(above, rates) for above, rates in version.tiers or ()))


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
    model: CatalogModel,
    card: PriceCard | None,
    *,
    actor: str,
    valid_from: dt.datetime | None = None,
    group: PriceGroup | None = None,
) -> PriceVersion | None:
    """A new version from `valid_from` (now), or None where the one in force then says the same.

    `group` makes it that group's own price; a card of None ends it. A price never changes backwards: raises ValueError
    for a moment in the past, or one that has another price.
    """
    now = timezone.now()
    moment = valid_from or now
    current = version_at(model, moment, group=group)
    if (current is None and card is None) or (current is not None and card_of(current) == (card or PriceCard({}))):
        return None
    if card is None and group is None:
        raise ValueError("the list's price is not taken away; withdraw the model, or write 0 for free")
    if is_past(valid_from):
        raise ValueError("a price cannot take effect in the past")
    if current is not None and current.valid_from == moment:
        raise ValueError("another price takes effect at that very moment; a price version never changes")
    version = PriceVersion.objects.create(
        model=model,
        group=group,
        rates=card.rates if card else None,
        tiers=[[tier.above, tier.rates] for tier in card.tiers] or None if card else None,
        valid_from=moment,
        actor=actor[:200],
    )
    revisions.bump(revisions.CATALOG)
    return version


def is_past(moment: dt.datetime | None) -> bool:
    """Whether a price can no more take effect then. The minute is for whoever fills in a form."""
    return moment is not None and moment < timezone.now() - dt.timedelta(minutes=1)


def _versions(model: CatalogModel, group: PriceGroup | None) -> QuerySet[PriceVersion]:
    return model.prices.filter(group=group)


def version_at(model: CatalogModel, moment: dt.datetime, *, group: PriceGroup | None = None) -> PriceVersion | None:
    """The version in force at a moment, as it is planned now: the list's, or this group's own."""
    return _versions(model, group).filter(valid_from__lte=moment).order_by("-valid_from").first()


def price_shown(model: CatalogModel) -> PriceVersion | None:
    """The list's version in force now, else the first that will be."""
    return version_at(model, timezone.now()) or _versions(model, None).order_by("valid_from").first()


def current_card(model: CatalogModel) -> PriceCard | None:
    """The list's card in force now."""
    return card_at(model, timezone.now())


def card_at(model: CatalogModel, moment: dt.datetime, *, group: PriceGroup | None = None) -> PriceCard | None:
    """The card in force at a moment, as it is planned now; None for a group without a price of its own then."""
    version = version_at(model, moment, group=group)
    return card_of(version) if version is not None and version.rates is not None else None


def upcoming(model: CatalogModel, *, group: PriceGroup | None = None) -> list[PriceVersion]:
    """The versions that are yet to take effect, the next one first."""
    return list(_versions(model, group).filter(valid_from__gt=timezone.now()).order_by("valid_from"))


def own_prices(model: CatalogModel) -> list[PriceVersion]:
    """The prices that groups have for themselves: of each the version in force, and what is to follow."""
    found: dict[int | None, list[PriceVersion]] = {}
    now = timezone.now()
    versions = model.prices.filter(group__isnull=False).select_related("group").order_by("group__name", "valid_from")
    for version in versions:
        kept = found.setdefault(version.group_id, [])
        if version.valid_from <= now:
            kept.clear()
        kept.append(version)
    return [version for kept in found.values() for version in kept]
