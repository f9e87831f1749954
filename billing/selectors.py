"""The read side of billing for pages: the price list, and a wallet's open holds."""

import datetime as dt

import msgspec

from billing import catalog
from billing.catalog import Model, Price
from billing.models import OPEN_STATES, Hold, PriceVersion


class Offer(msgspec.Struct, frozen=True):
    """A model with the price in force, and the next one where a change is dated in the future."""

    model: Model
    price: Price | None
    upcoming: Price | None


def price_list(now: dt.datetime) -> list[Offer]:
    """Every offered model that has a price now or will have one, by provider and name, those of no provider last."""
    moment = now.timestamp()
    offers = []
    for model in catalog.load().values():
        upcoming = next((price for price in model.prices if price.valid_from > moment), None)
        price = model.price_at(moment)
        if price or upcoming:
            offers.append(Offer(model, price, upcoming))
    return sorted(offers, key=lambda offer: (not offer.model.provider, offer.model.provider.lower(), offer.model.name))


def open_holds(account: int) -> int:
    """How many calls hold money of this account now."""
    return Hold.objects.filter(account_id=account, state__in=OPEN_STATES).count()


def price_valid_from(price: int | None) -> dt.datetime | None:
    """Since when the price version is in force; None for a call that was not priced."""
    if price is None:
        return None
    return PriceVersion.objects.filter(pk=price).values_list("valid_from", flat=True).first()
