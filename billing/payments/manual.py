"""Adjustments by hand: a wallet's balance or its credit limit, for a reason, and by two where it is much.

What one administrator has done alone within a day counts together: beyond `settings.SECOND_ADMIN_ABOVE` a second one
has to approve, so that a large sum in small parts is a large sum. The only writer of `Adjustment`.
"""

import datetime as dt
import uuid

import msgspec
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import IntegrityError, transaction
from django.db.models import Sum
from django.db.models.functions import Abs
from django.utils import timezone
from django.utils.translation import gettext_noop

from billing import ledger, money
from billing.credit_models import Adjustment, AdjustmentKind, AdjustmentState
from billing.models import Account, AccountKind
from billing.payments import PaymentError

ALONE = dt.timedelta(days=1)


class NotAdjusted(PaymentError):
    """Nothing was changed. The message is to be translated, and filled with `facts`."""

    def __init__(self, message: str, **facts: str) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts


class AlreadyAsked(PaymentError):
    """The form was sent before: `adjustment` is what became of it."""

    def __init__(self, adjustment: Adjustment) -> None:
        super().__init__(str(adjustment.reference))
        self.adjustment = adjustment


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A change of `amount` nano-units, up or down. `before` is the credit limit that the administrator saw."""

    account: int
    kind: AdjustmentKind
    amount: int
    reason: str
    before: int | None = None


class Preview(msgspec.Struct, frozen=True):
    """What a wallet would have. `large` where a second administrator has to approve it."""

    balance: int
    credit_limit: int
    available: int
    large: bool


def preview(*, wanted: Wanted, user: int) -> Preview:
    """What the change would come to, now. Raises NotAdjusted or money.InvalidAmount where it cannot be."""
    wallet = _wallet(wanted)
    _check(wanted, wallet)
    by_limit = wanted.amount if wanted.kind == AdjustmentKind.CREDIT_LIMIT else 0
    balance, limit = wallet.balance + wanted.amount - by_limit, wallet.credit_limit + by_limit
    return Preview(balance, limit, balance - wallet.held + limit, _is_large(wanted, user))


def ask(*, wanted: Wanted, reference: uuid.UUID, user: int) -> Adjustment:
    """Carries the change out, or keeps it for a second administrator: `state` says which.

    Raises NotAdjusted, money.InvalidAmount, and AlreadyAsked the second time with this reference.
    """
    if before := Adjustment.objects.filter(reference=reference).first():
        raise AlreadyAsked(before)
    with transaction.atomic():
        # What somebody does alone is added up: their requests come one after another.
        asker = get_user_model().objects.select_for_update(no_key=True).get(pk=user)
        _check(wanted, _wallet(wanted))
        large = _is_large(wanted, user)
        now = timezone.now()
        row = Adjustment(
            reference=reference,
            account_id=wanted.account,
            kind=wanted.kind,
            amount=wanted.amount,
            before=wanted.before if wanted.kind == AdjustmentKind.CREDIT_LIMIT else None,
            reason=wanted.reason.strip(),
            large=large,
            requested_by=asker,
            requested_at=now,
        )
        if not large:
            row.state, row.decided_by, row.decided_at = AdjustmentState.DONE, asker, now
        _insert(row)
        if not large:
            _carry_out(row, actor=str(asker))
    return row


def approve(*, adjustment: int, user: int, note: str = "") -> Adjustment:
    """The second administrator's yes: the change is carried out, once. Raises NotAdjusted; then it still waits."""
    with transaction.atomic():
        row = _decided(adjustment, AdjustmentState.DONE, user=user, note=note, by_another=True)
        names = get_user_model().objects.in_bulk([row.requested_by_id, user])
        _carry_out(row, actor=f"{names[row.requested_by_id]}, {names[user]}")
    return row


def reject(*, adjustment: int, user: int, note: str = "") -> Adjustment:
    """The second administrator's no. Raises NotAdjusted."""
    with transaction.atomic():
        return _decided(adjustment, AdjustmentState.REJECTED, user=user, note=note, by_another=True)


def withdraw(*, adjustment: int, user: int, note: str = "") -> Adjustment:
    """Whoever asked thinks better of it. Raises NotAdjusted."""
    with transaction.atomic():
        return _decided(adjustment, AdjustmentState.WITHDRAWN, user=user, note=note, by_another=False)


def pending() -> int:
    """How many wait for a second administrator."""
    return Adjustment.objects.filter(state=AdjustmentState.PENDING).count()


# ---- what may be asked for ------------------------------------------------------------------------------------------


def _wallet(wanted: Wanted) -> Account:
    wallet = Account.objects.filter(pk=wanted.account, kind=AccountKind.WALLET).first()
    if wallet is None:
        raise NotAdjusted(gettext_noop("Only wallets are adjusted."))
    return wallet


def _check(wanted: Wanted, wallet: Account) -> None:
    if not wanted.reason.strip():
        raise NotAdjusted(gettext_noop("An adjustment needs a reason; it stays in the books."))
    if wanted.amount == 0:
        raise NotAdjusted(gettext_noop("This changes nothing."))
    if abs(wanted.amount) >= money.LIMIT:
        raise money.InvalidAmount("the amount is too large for the ledger")
    if wanted.kind == AdjustmentKind.CREDIT_LIMIT:
        _check_limit(wanted, wallet)
    elif wallet.available + wanted.amount < 0:
        raise NotAdjusted(gettext_noop("The wallet has less than that available."))


def _check_limit(wanted: Wanted, wallet: Account) -> None:
    limit = wallet.credit_limit + wanted.amount
    if wanted.before != wallet.credit_limit:
        raise _changed(wallet)
    if not 0 <= limit < money.LIMIT:
        raise money.InvalidAmount("a credit limit is not negative and fits the ledger")
    if limit < wallet.held - wallet.balance:
        raise _in_use(wallet)


def _changed(wallet: Account) -> NotAdjusted:
    return NotAdjusted(
        gettext_noop("The credit limit has become %(limit)s %(currency)s meanwhile. Ask again."),
        limit=money.to_text(wallet.credit_limit, decimals=2),
        currency=settings.CURRENCY,
    )


def _in_use(wallet: Account) -> NotAdjusted:
    return NotAdjusted(
        gettext_noop("%(used)s %(currency)s of the credit limit are in use; it cannot be less than that."),
        used=money.to_text(wallet.held - wallet.balance, decimals=2),
        currency=settings.CURRENCY,
    )


def _is_large(wanted: Wanted, user: int) -> bool:
    """Whether it takes a second administrator: what this one did alone within a day counts too.

    To lower a credit limit gives nothing away and takes nothing.
    """
    if wanted.kind == AdjustmentKind.CREDIT_LIMIT and wanted.amount < 0:
        return False
    alone = Adjustment.objects.filter(
        requested_by=user, large=False, requested_at__gt=timezone.now() - ALONE, state=AdjustmentState.DONE
    ).exclude(kind=AdjustmentKind.CREDIT_LIMIT, amount__lt=0)
    before = int(alone.aggregate(sum=Sum(Abs("amount")))["sum"] or 0)
    return before + abs(wanted.amount) > settings.SECOND_ADMIN_ABOVE


# ---- doing it -------------------------------------------------------------------------------------------------------


def _insert(row: Adjustment) -> None:
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError as error:
        found = Adjustment.objects.filter(reference=row.reference).first()
        if found is None:
            raise
        raise AlreadyAsked(found) from error


def _decided(adjustment: int, state: AdjustmentState, *, user: int, note: str, by_another: bool) -> Adjustment:
    """The row, decided now, once. The caller carries it out in the same transaction."""
    waiting = Adjustment.objects.filter(pk=adjustment, state=AdjustmentState.PENDING)
    mine = waiting.filter(requested_by=user).exists()
    if by_another and mine:
        raise NotAdjusted(gettext_noop("Another administrator than the one who asked for it has to decide."))
    if not by_another and not mine and waiting.exists():
        raise NotAdjusted(gettext_noop("Only whoever asked for it can withdraw it."))
    if not waiting.update(state=state, decided_by=user, decided_at=timezone.now(), note=note.strip()[:500]):
        raise NotAdjusted(gettext_noop("This has been decided already."))
    return Adjustment.objects.select_related("account").get(pk=adjustment)


def _carry_out(row: Adjustment, *, actor: str) -> None:
    if row.kind == AdjustmentKind.CREDIT_LIMIT:
        _set_limit(row)
        return
    try:
        row.transfer = ledger.adjust(
            wallet=row.account, amount=row.amount, actor=actor, reason=row.reason, reference=str(row.reference)
        )
    except ledger.InsufficientFunds as error:
        raise NotAdjusted(gettext_noop("The wallet has less than that available.")) from error
    row.save(update_fields=["transfer"])


def _set_limit(row: Adjustment) -> None:
    assert row.before is not None
    if ledger.set_credit_limit(wallet=row.account, before=row.before, limit=row.before + row.amount):
        return
    wallet = Account.objects.get(pk=row.account_id)
    raise _changed(wallet) if wallet.credit_limit != row.before else _in_use(wallet)
