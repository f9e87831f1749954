"""Accounts and transfers: `post` and `reverse` are, with holds, the only ways that money moves.

Synchronous: for the portal, commands and workers. Inside `transaction.atomic()` they take part in it.
"""

import threading
import uuid
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef

from billing import connections, money
from billing.models import Account, AccountKind, Transfer, TransferKind
from billing.operations import Post, Refusal, Refused

_revenue: dict[str, int] = {}
_revenue_lock = threading.Lock()


class InsufficientFunds(Exception):
    """The wallet has less available than the transfer takes."""


class OtherCurrency(Exception):
    """The books are kept in another currency than CURRENCY says."""


class AlreadyPosted(Exception):
    """A transfer of this kind with this reference is in the books."""


def platform_account(kind: str) -> Account:
    """The one account of the platform with this kind. Raises OtherCurrency."""
    return _account(kind, None)


def known_revenue_account() -> int | None:
    """The same as `revenue_account`, if this process has read it already."""
    return _revenue.get(str(connection.settings_dict["NAME"]))


def revenue_account() -> int:
    """The id of the account that charges are credited to; read once a process and database."""
    name = str(connection.settings_dict["NAME"])
    with _revenue_lock:
        if name not in _revenue:
            _revenue[name] = platform_account(AccountKind.REVENUE).pk
        return _revenue[name]


def forget_revenue_account() -> None:
    """The account is read anew when it is asked for next: for a database that was emptied."""
    _revenue.clear()


def wallet_of(team_id: int) -> Account:
    """The team's wallet, made (with the account for what it may come to owe) where it has none. Raises
    OtherCurrency."""
    wallet = _account(AccountKind.WALLET, team_id)
    _account(AccountKind.RECEIVABLE, team_id)
    return wallet


def other_currency() -> str:
    """The currency that the books are kept in, where no amount in them is in CURRENCY; else an empty text.

    It is chosen with the first amount: an account to which nothing was booked yet may be in another one.
    """
    moved = Exists(Transfer.objects.filter(debit=OuterRef("pk"))) | Exists(
        Transfer.objects.filter(credit=OuterRef("pk"))
    )
    booked = Account.objects.filter(moved)
    # In this order: the first amount of all may be booked between the two.
    other = booked.exclude(currency=settings.CURRENCY).order_by("pk").values_list("currency", flat=True).first()
    return other if other and not booked.filter(currency=settings.CURRENCY).exists() else ""


def _account(kind: str, team_id: int | None) -> Account:
    """One that is made cannot be removed any more: a setting that is wrong for a moment must not leave any."""
    of: dict[str, Any] = {"kind": kind, "team_id": team_id, "currency": settings.CURRENCY}
    if (found := Account.objects.filter(**of).first()) is not None:
        return found
    if other := other_currency():
        raise OtherCurrency(f"The books are kept in {other}, and CURRENCY is {settings.CURRENCY}.")
    return Account.objects.get_or_create(**of)[0]


def post(
    *,
    kind: TransferKind,
    debit: Account,
    credit: Account,
    amount: int,
    reference: str,
    actor: str,
    reason: str,
    reverses: int | None = None,
) -> Transfer:
    """One transfer of `amount` nano-units. Raises InsufficientFunds, AlreadyPosted or money.InvalidAmount."""
    if not 0 < amount < money.LIMIT:
        raise money.InvalidAmount("the amount must be positive and fit the ledger")
    operation = Post(kind.value, debit.pk, credit.pk, amount, reference, actor[:200], reason[:500], reverses)
    try:
        with transaction.atomic():
            (outcome,) = connections.run_in_transaction([operation], revenue=0)
    except connections.DUPLICATES as error:  # the books speak the driver's own exceptions
        raise AlreadyPosted(reference) from error
    if isinstance(outcome, Refused):
        if outcome.why is Refusal.BALANCE:
            raise InsufficientFunds(reference)
        if outcome.why is Refusal.TOO_MUCH:
            raise money.InvalidAmount("the wallet would have more than the ledger can add up")
        raise ValueError(f"account {debit.pk} or {credit.pk} does not exist")
    return Transfer.objects.get(reference=reference, kind=kind)


def credit(*, wallet: Account, amount: int, actor: str, reason: str, reference: str = "") -> Transfer:
    """Money given to a wallet by the operator."""
    return post(
        kind=TransferKind.CREDIT,
        debit=platform_account(AccountKind.PAYMENTS),
        credit=wallet,
        amount=amount,
        reference=reference or str(uuid.uuid4()),
        actor=actor,
        reason=reason,
    )


def adjust(*, wallet: Account, amount: int, actor: str, reason: str, reference: str = "") -> Transfer:
    """A correction by an administrator: a positive amount is added to the wallet, a negative one taken from it."""
    promo = platform_account(AccountKind.PROMO)
    debit, credited = (promo, wallet) if amount > 0 else (wallet, promo)
    return post(
        kind=TransferKind.ADJUSTMENT,
        debit=debit,
        credit=credited,
        amount=abs(amount),
        reference=reference or str(uuid.uuid4()),
        actor=actor,
        reason=reason,
    )


def reverse(*, transfer: Transfer, actor: str, reason: str) -> Transfer:
    """Undoes a transfer with a new one that names it. Raises AlreadyPosted the second time."""
    return post(
        kind=TransferKind.REVERSAL,
        debit=transfer.credit,
        credit=transfer.debit,
        amount=transfer.amount,
        reference=f"reversal:{transfer.pk}",
        actor=actor,
        reason=reason,
        reverses=transfer.pk,
    )


def set_credit_limit(*, wallet: Account, before: int, limit: int) -> bool:
    """How far the wallet may go below nothing, in nano-units. False where it is not `before` any more, or where more
    than `limit` is in use; then nothing is changed."""
    found = Account.objects.filter(pk=wallet.pk, kind=AccountKind.WALLET, credit_limit=before)
    return bool(found.filter(balance__gte=F("held") - limit).update(credit_limit=limit))


def freeze(*, wallet: Account, reason: str) -> None:
    """Stops the wallet: no call is let in until `unfreeze`. Money still moves in and open holds still settle."""
    if not reason.strip():
        raise ValueError("a wallet is frozen for a reason")
    Account.objects.filter(pk=wallet.pk).update(frozen=reason.strip()[:200])


def unfreeze(*, wallet: Account) -> None:
    Account.objects.filter(pk=wallet.pk).update(frozen="")


def stop(account: int, *, reason: str) -> bool:
    """Freezes a wallet or a plan that runs, as `freeze`; one that is frozen keeps its reason. Whether it was done."""
    running = Account.objects.filter(pk=account, kind__in=(AccountKind.WALLET, AccountKind.PLAN), frozen="")
    return bool(running.update(frozen=reason[:200]))
