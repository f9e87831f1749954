"""Price groups: the only writer of `PriceGroup` and of the group that a wallet is in.

A group's multiplier applies to every price but the group's own (`billing.catalog`). Whoever asks for a call's price
takes it from the key's principal, where a change is in force within a second; a call that has begun keeps the one that
it began with.
"""

from django.db import transaction

from billing import money, prices, revisions
from billing.models import Account, AccountKind, PriceGroup


class InUse(Exception):
    """Wallets are in this group, so taking it away would change what they pay; or it has prices, which stay."""


def rows() -> dict[str, PriceGroup]:
    """Every group by name."""
    return {group.name: group for group in PriceGroup.objects.order_by("name")}


@transaction.atomic
def save(*, name: str, multiplier: int) -> PriceGroup:
    """Makes or changes a group; `multiplier` is parts per million. Raises ValueError or money.InvalidAmount."""
    if not name.strip() or name != name.strip() or len(name) > 100 or not name.isprintable():
        raise ValueError("a group has a name of 1 to 100 printable characters without a space at either end")
    if not 0 <= multiplier <= prices.HIGHEST_MULTIPLIER:
        raise money.InvalidAmount(f"a multiplier is from 0 to {prices.HIGHEST_MULTIPLIER // prices.ONE}")
    group, _ = PriceGroup.objects.update_or_create(name=name, defaults={"multiplier": multiplier})
    revisions.bump(revisions.PRICE_GROUPS)
    return group


@transaction.atomic
def remove(group: PriceGroup) -> None:
    """Takes a group away that no wallet is in and that never had prices of its own. Raises InUse."""
    if group.wallets.exists() or group.prices.exists():
        raise InUse(group.name)
    group.delete()


@transaction.atomic
def put(*, wallet: Account, group: PriceGroup | None) -> None:
    """The wallet pays by this group from now on; None is a multiplier of 1."""
    if wallet.kind != AccountKind.WALLET:
        raise ValueError("only wallets are in price groups")
    Account.objects.filter(pk=wallet.pk).update(group=group)
    wallet.group = group
    revisions.bump(revisions.PRICE_GROUPS)


def multiplier_of(wallet: Account) -> int:
    """Parts per million by which the wallet pays every price."""
    return wallet.group.multiplier if wallet.group is not None else prices.ONE
