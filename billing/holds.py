"""The life of a hold: `hold`, then exactly one of `settle` and `release`; `recover` where its process died.

The asynchronous functions belong to an event loop and return when what they did is durable. The synchronous ones are
for workers. A hold is leased to its process: `keep_leases` renews what is still running, and whoever finds a lease
that ended raises the generation, after which the old owner can change nothing.
"""

import asyncio
import datetime as dt
import json
import os
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import structlog
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import close_old_connections, transaction
from django.db.models import F
from django.utils import timezone

from billing import connections, ledger
from billing.group_commit import LedgerUnavailable, writer
from billing.models import Hold, HoldState
from billing.operations import ActiveHold, CloseHold, OpenHold, Record, Refusal, Refused, RenewLeases, Row

log = structlog.get_logger(__name__)

__all__ = ["AccountFrozen", "BudgetSpent", "Insufficient", "LedgerUnavailable", "hold", "record", "release", "settle"]

RENEW_EVERY = 10.0  # seconds; a lease lives settings.HOLD_LEASE
OWNER = f"{socket.gethostname()[:40]}:{os.getpid()}"


class Insufficient(Exception):
    """The wallet cannot pay the least that this call may cost."""


class BudgetSpent(Insufficient):
    """A spending cap of the key or its team leaves no room."""


class KeyChanged(Exception):
    """A cap that this call was to fit has been taken away or replaced; the key has to be read again."""


class AccountFrozen(Exception):
    """The wallet was stopped, by an administrator or because it owes money."""


class HoldLost(Exception):
    """The hold was closed by somebody else, with another result."""


class _Leased:
    """A hold that this process has open, and how far its call has got."""

    __slots__ = ("hold", "progress", "since")

    def __init__(self, active: ActiveHold, since: float) -> None:
        self.hold = active
        self.since = since
        self.progress: Callable[[], dict[str, Any] | None] = lambda: None


_open: dict[uuid.UUID, _Leased] = {}


async def hold(
    *,
    call: uuid.UUID,
    account: int,
    wanted: int,
    minimum: int,
    price: int,
    budgets: tuple[int, ...],
    facts: dict[str, Any],
    created_at: dt.datetime,
) -> ActiveHold:
    """Reserves between `minimum` and `wanted` nano-units for the call, durably.

    Raises Insufficient, BudgetSpent, AccountFrozen, KeyChanged or LedgerUnavailable; then nothing is reserved.
    """
    lease = created_at + dt.timedelta(seconds=settings.HOLD_LEASE)
    outcome = await writer.submit(
        OpenHold(call, account, wanted, minimum, price, budgets, facts, OWNER, lease, created_at)
    )
    if isinstance(outcome, ActiveHold):
        _open[call] = _Leased(outcome, asyncio.get_running_loop().time())
        return outcome
    why = outcome.why if isinstance(outcome, Refused) else None
    if why is Refusal.BUDGET:
        raise BudgetSpent
    if why is Refusal.FROZEN:
        raise AccountFrozen
    if why is Refusal.CHANGED:
        raise KeyChanged
    raise Insufficient


def watch(active: ActiveHold, progress: Callable[[], dict[str, Any] | None]) -> None:
    """From now on the lease's renewals store what `progress` returns: usage so far, or None."""
    if leased := _open.get(active.id):
        leased.progress = progress


async def settle(active: ActiveHold, *, charged: int, rows: Sequence[Row] = ()) -> None:
    """Charges the call and gives the rest back, once. `rows` are written in the same transaction."""
    await _close(CloseHold(active, charged, tuple(rows)))


async def release(active: ActiveHold, *, rows: Sequence[Row] = ()) -> None:
    """Voids the hold: nothing is charged."""
    await _close(CloseHold(active, None, tuple(rows)))


async def record(rows: Sequence[Row]) -> None:
    """Writes the record of a call that never had a hold."""
    await writer.submit(Record(tuple(rows)))


async def _close(operation: CloseHold) -> None:
    try:
        outcome = await writer.submit(operation)
    finally:
        _open.pop(operation.hold.id, None)
    if isinstance(outcome, Refused) or not getattr(outcome, "changed", True):
        await sync_to_async(_confirm, thread_sensitive=False)(operation)


def _confirm(operation: CloseHold) -> None:
    """A closing that changed nothing was this one's own, written before an answer got lost, or somebody else's."""
    try:
        found = Hold.objects.filter(pk=operation.hold.id).values_list("state", "charged", "generation").first()
    finally:
        close_old_connections()
    state = HoldState.VOIDED if operation.charged is None else HoldState.SETTLED
    if found != (state, operation.charged or 0, operation.hold.generation):
        log.error("hold.lost", call=str(operation.hold.id), found=found)
        raise HoldLost(str(operation.hold.id))


async def keep_leases() -> None:
    """Runs for the life of the process: renews the leases of calls that are still going, with their progress."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(RENEW_EVERY)
        until = timezone.now() + dt.timedelta(seconds=settings.HOLD_LEASE)
        renewals = tuple(
            (leased.hold.id, leased.hold.generation, until, leased.progress())
            for leased in sorted(_open.values(), key=lambda leased: leased.hold.id)
            if loop.time() - leased.since >= RENEW_EVERY
        )
        if renewals:
            try:
                await writer.submit(RenewLeases(renewals))
            except Exception as error:  # whatever it was: without the next renewal every running call would be lost
                log.warning("holds.not_renewed", count=len(renewals), error=type(error).__name__)


def expired(*, limit: int = 500) -> Iterator[Hold]:
    """Claims the holds whose lease has ended, one by one: state RECOVERING, the generation raised."""
    now = timezone.now()
    orphans = Hold.objects.filter(
        state__in=(HoldState.HELD, HoldState.DISPATCHED, HoldState.RECOVERING), lease_until__lt=now
    ).order_by("lease_until")
    for orphan in orphans[:limit]:
        claimed = Hold.objects.filter(
            pk=orphan.pk, generation=orphan.generation, state=orphan.state, lease_until__lt=now
        ).update(
            state=HoldState.RECOVERING,
            generation=F("generation") + 1,
            lease_owner=OWNER,
            lease_until=now + dt.timedelta(seconds=settings.HOLD_LEASE),
        )
        if claimed:
            orphan.generation += 1
            yield orphan


def recover(orphan: Hold, *, charged: int | None, rows: Sequence[Row] = ()) -> bool:
    """Closes a claimed hold: settled for `charged`, never above the hold, or voided where it is None."""
    budgets = orphan.budgets if not isinstance(orphan.budgets, str) else json.loads(orphan.budgets)
    active = ActiveHold(
        orphan.pk, orphan.account_id, orphan.amount, orphan.generation, tuple((b, start) for b, start in budgets)
    )
    bounded = None if charged is None else min(charged, orphan.amount)
    with transaction.atomic():
        (outcome,) = connections.run_in_transaction(
            [CloseHold(active, bounded, tuple(rows))], revenue=ledger.revenue_account()
        )
    return getattr(outcome, "changed", False)
