"""The read side of billing for pages: the price list, a wallet's open holds, and what is found in the books."""

import datetime as dt

import msgspec
from django.db.models import Q, QuerySet, Sum

from billing import catalog, ids
from billing.catalog import Model, Price
from billing.models import Account, AccountKind, Hold, PriceVersion, Transfer, TransferKind


class Offer(msgspec.Struct, frozen=True):
    """A model with the price in force, and those that will be, in the order of their moments."""

    model: Model
    price: Price | None
    upcoming: tuple[Price, ...]


def price_list(now: dt.datetime, *, group: int | None = None) -> list[Offer]:
    """Every offered model that has a price now or will have one, for whoever is in this price group; before its
    multiplier. By provider and name, those of no provider last."""
    moment = now.timestamp()
    offers = []
    for model in catalog.load().values():
        upcoming = model.changes(moment, group=group)
        price = model.price_at(moment, group=group)
        if price or upcoming:
            offers.append(Offer(model, price, tuple(upcoming)))
    return sorted(offers, key=lambda offer: (not offer.model.provider, offer.model.provider.lower(), offer.model.name))


def open_holds(account: int) -> int:
    """How many calls hold money of this account now."""
    return Hold.objects.open().filter(account_id=account).count()


def price_valid_from(price: int | None) -> dt.datetime | None:
    """Since when the price version is in force; None for a call that was not priced."""
    if price is None:
        return None
    return PriceVersion.objects.filter(pk=price).values_list("valid_from", flat=True).first()


def debt_of(wallet: Account) -> Account:
    """The account of what the wallet's team owes besides: each wallet has one (`ledger.wallet_of`)."""
    return Account.objects.get(kind=AccountKind.RECEIVABLE, team=wallet.team_id, currency=wallet.currency)


def owed(receivable: Account) -> int:
    """What a team owes: its shortfalls less what was paid, in nano-units."""
    paid = Transfer.objects.filter(credit=receivable).exclude(kind=TransferKind.CHARGE)
    booked = Transfer.objects.filter(debit=receivable)
    return int(_sum(booked) - _sum(paid))


def _sum(transfers: QuerySet[Transfer]) -> int:
    return transfers.aggregate(total=Sum("amount"))["total"] or 0


# ---- searching books of any size: by keys that have an index ---------------------------------------------------------

MOST_ACCOUNTS = 20  # that a name may stand for
LATEST = 1_000  # charges of an account among which its holds are looked for


def accounts_named(text: str) -> list[int]:
    """The accounts that `account 7`, a team's name or an address stand for."""
    word, _, number = text.partition(" ")
    if word == "account" and number.isdecimal() and len(number) < 19:
        return [int(number)]
    named = Q(team__name__icontains=text) | Q(team__personal_of__email__icontains=text)
    return list(Account.objects.filter(named).values_list("pk", flat=True)[:MOST_ACCOUNTS])


def transfers_found(transfers: QuerySet[Transfer], text: str) -> QuerySet[Transfer]:
    """By reference (a call's id), or by team or account."""
    if (number := ids.read(text.strip())) is not None:
        return transfers.filter(reference=str(number))
    if Transfer.objects.filter(reference=text).exists():
        return transfers.filter(reference=text)
    accounts = accounts_named(text)
    into = Q(credit__in=accounts) & ~Q(kind=TransferKind.CHARGE)  # the books credit no wallet by a charge
    return transfers.filter(Q(debit__in=accounts) | into)


def holds_found(holds: QuerySet[Hold], text: str) -> QuerySet[Hold]:
    """By id, or by team or account: those that are open, and those of the latest charges."""
    if (number := ids.read(text.strip())) is not None:
        return holds.filter(pk=number)
    accounts = accounts_named(text)
    found = set(Hold.objects.open().filter(account__in=accounts).values_list("pk", flat=True)[:LATEST])
    charges = Transfer.objects.filter(debit__in=accounts, kind=TransferKind.CHARGE).order_by("-pk")
    found |= {number for text in charges.values_list("reference", flat=True)[:LATEST] if (number := ids.read(text))}
    return holds.filter(pk__in=found)
