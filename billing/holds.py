"""The life of a hold: `hold`, then exactly one of `settle` and `release`; `recover` where its process died.

The asynchronous functions belong to an event loop and return when what they did is durable. The synchronous ones are
for workers. A hold is leased to its process: `keep_leases` renews what is still running, and whoever finds a lease
that ended raises the generation, after which the old owner can change nothing.

How far a call has got is noted (`note`, `watch`) so that whoever recovers it can settle what was used, give back what
was never sent, and put into review what nobody can tell (`recover`, `review`, `resolve`).
"""

import asyncio
import datetime as dt
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import msgspec
import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from billing import connections, failpoints, ledger
from billing.group_commit import Late, LedgerUnavailable, no_rows, writer
from billing.journal import LastWords, journal, last_words, remove_finished
from billing.models import Hold, HoldState, IdempotencyKey
from billing.operations import (
    ActiveHold,
    Claim,
    Claimed,
    CloseHold,
    Done,
    OpenHold,
    Progress,
    Record,
    Refusal,
    Refused,
    RenewLeases,
    Row,
)

log = structlog.get_logger(__name__)

__all__ = ["AccountFrozen", "BudgetSpent", "Insufficient", "LedgerUnavailable", "hold", "record", "release", "settle"]

CONFIRM_AT_MOST, CONFIRM_EVERY = 60, 0.5  # attempts, and seconds between them
RENEW_EVERY = 10.0  # seconds; a lease lives settings.HOLD_LEASE
NOTE_EVERY = 1.0  # seconds between notes of what a watched call has produced
LOOK_EVERY = 0.02  # seconds between looks whether all calls of a process that ends have ended
# A hold whose lease has ended is recovered only if it is not renewed within this time of being noticed: a clock that
# was set forward, or a database that was away for longer than a lease, takes no call from a process that lives.
SUSPECT_FOR = dt.timedelta(seconds=RENEW_EVERY + 2)


class Insufficient(Exception):
    """The wallet cannot pay the least that this call may cost."""


class BudgetSpent(Insufficient):
    """A spending cap of the key or its team leaves no room."""


class KeyChanged(Exception):
    """A cap that this call was to fit has been taken away or replaced; the key has to be read again."""


class AccountFrozen(Exception):
    """The wallet was stopped, by an administrator or because it owes money."""


class InvoiceOverdue(AccountFrozen):
    """The wallet was stopped because an invoice was not paid in time."""


class KeyClaimed(Exception):
    """The call's idempotency key stands for another call. `fingerprint` is of what that one asked for."""

    def __init__(self, call: uuid.UUID, fingerprint: str) -> None:
        super().__init__(str(call))
        self.call = call
        self.fingerprint = fingerprint


class HoldLost(Exception):
    """The hold was closed by somebody else, with another result."""


class _Leased:
    """A hold that this process has open, and how far its call has got."""

    __slots__ = ("hold", "look", "progress", "since")

    def __init__(self, active: ActiveHold, since: float) -> None:
        self.hold = active
        self.since = since
        self.progress: Progress | None = None
        self.look: Callable[[], Progress] | None = None

    def seen(self) -> Progress | None:
        return self.look() if self.look is not None else self.progress


_open: dict[int, _Leased] = {}  # by the hold's number, which is hashed sooner than a UUID


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
    claim: Claim | None = None,
    plans: tuple[int, ...] = (),
    wallet_pays: bool = True,
    on_credit: bool = True,
    late: Late = no_rows,
) -> ActiveHold:
    """Reserves between `minimum` and `wanted` nano-units for the call, durably, and claims its idempotency key. Who
    pays, and in which order, is as OpenHold says.

    Raises Insufficient, BudgetSpent, AccountFrozen (InvoiceOverdue), KeyChanged, KeyClaimed or LedgerUnavailable; then
    nothing is reserved, or it turns out so late that it was that it is given back at once, with the rows that `late`
    makes of it.
    """
    owner = journal.open()
    lease = settings.HOLD_LEASE
    outcome = await writer.submit(
        OpenHold(
            *(call, account, wanted, minimum, price, budgets, facts, owner, lease, created_at, claim),
            *(plans, wallet_pays, on_credit),
        ),
        late=late,
    )
    if isinstance(outcome, ActiveHold):
        failpoints.hit("after_hold_commit")
        _open[call.int] = _Leased(outcome, asyncio.get_running_loop().time())
        return outcome
    if isinstance(outcome, Claimed):
        raise KeyClaimed(outcome.hold, outcome.fingerprint)
    why = outcome.why if isinstance(outcome, Refused) else None
    if why is Refusal.BUDGET:
        raise BudgetSpent
    if why is Refusal.FROZEN:
        raise AccountFrozen
    if why is Refusal.OVERDUE:
        raise InvoiceOverdue
    if why is Refusal.CHANGED:
        raise KeyChanged
    raise Insufficient


def note(active: ActiveHold, progress: Progress) -> None:
    """The call has got this far. Whoever recovers it on this machine finds at least this; others, with a renewal."""
    if leased := _open.get(active.id.int):
        leased.progress, leased.look = progress, None
        journal.note(active.id, active.generation, progress)


def watch(active: ActiveHold, look: Callable[[], Progress]) -> None:
    """`look` says how far the call has got; it is asked now, and every NOTE_EVERY seconds from now on."""
    if leased := _open.get(active.id.int):
        leased.progress, leased.look = look(), look
        journal.note(active.id, active.generation, leased.progress)


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
        _open.pop(operation.hold.id.int, None)
    journal.forget(operation.hold.id)
    if outcome != Done():
        await _confirm(operation)


async def _confirm(operation: CloseHold) -> None:
    """A closing that changed nothing was this one's own, written before an answer got lost, or somebody else's."""
    found = None
    for attempt in range(CONFIRM_AT_MOST):  # pragma: no branch - the last attempt answers or raises
        try:
            found = await connections.read(_resolution, operation.hold.id, within=connections.READ_WITHIN)
            break
        except connections.DATABASE_ERRORS as error:  # the money is where it is; only the answer has to wait
            log.warning("hold.not_confirmed", call=str(operation.hold.id), error=type(error).__name__)
            if attempt == CONFIRM_AT_MOST - 1:
                raise LedgerUnavailable("what became of the hold cannot be read") from error
            await asyncio.sleep(CONFIRM_EVERY)
    state = HoldState.VOIDED if operation.charged is None else HoldState.SETTLED
    if found != (state, operation.charged or 0, operation.hold.generation):
        log.error("hold.lost", call=str(operation.hold.id), found=found)
        raise HoldLost(str(operation.hold.id))


def _resolution(call: uuid.UUID) -> tuple[str, int, int] | None:
    return Hold.objects.filter(pk=call).values_list("state", "charged", "generation").first()


async def keep_leases() -> None:
    """Runs for the life of the process: renews the leases of calls that are still going, with their progress."""
    loop = asyncio.get_running_loop()
    renewed = loop.time()
    while True:
        await asyncio.sleep(NOTE_EVERY)
        for leased in _open.values():
            if leased.look is not None and (seen := leased.look()) != leased.progress:
                leased.progress = seen
                journal.note(leased.hold.id, leased.hold.generation, seen)
        if loop.time() - renewed >= RENEW_EVERY:
            renewed = loop.time()
            await _renew(renewed)


async def all_closed(*, within: float) -> None:
    """Returns when this process has no hold open any more, or after so many seconds."""
    for _ in range(round(within / LOOK_EVERY)):
        if not _open:
            return
        await asyncio.sleep(LOOK_EVERY)


async def _renew(now: float) -> None:
    renewals = tuple(
        (leased.hold.id, leased.hold.generation, settings.HOLD_LEASE, leased.seen())
        for leased in sorted(_open.values(), key=lambda leased: leased.hold.id)
        if now - leased.since >= RENEW_EVERY / 2
    )
    if renewals:
        try:
            await writer.submit(RenewLeases(renewals))
        except Exception as error:  # whatever it was: without the next renewal every running call would be lost
            log.warning("holds.not_renewed", count=len(renewals), error=type(error).__name__)


# ---- holds whose process died ---------------------------------------------------------------------------------------


class Orphan(msgspec.Struct, frozen=True):
    """A hold that this process has claimed. `progress` is the most that is known of its call.

    `was_sent` is False where the call is known to have gone to no upstream, None where nobody knows.
    """

    row: Hold
    progress: Progress | None
    was_sent: bool | None


def expired(*, limit: int = 500) -> Iterator[Orphan]:
    """Claims the holds whose lease has ended, one by one: state RECOVERING, the generation raised.

    A hold is suspected first, and claimed by a later run if nobody has renewed it within SUSPECT_FOR.
    """
    lapsed = Hold.objects.leased().filter(lease_until__lt=Now())
    lapsed.filter(suspected_at=None).update(suspected_at=Now())
    words = cache(last_words)
    for orphan in lapsed.filter(suspected_at__lt=Now() - SUSPECT_FOR).order_by("lease_until")[:limit]:
        claimed = Hold.objects.filter(
            pk=orphan.pk, generation=orphan.generation, state=orphan.state, suspected_at=orphan.suspected_at
        ).update(
            state=HoldState.RECOVERING,
            generation=F("generation") + 1,
            lease_until=Now() + dt.timedelta(seconds=settings.HOLD_LEASE),
            suspected_at=None,
        )
        if claimed:
            orphan.generation += 1
            yield _with_last_words(orphan, words(orphan.lease_owner))


def _with_last_words(orphan: Hold, words: LastWords | None) -> Orphan:
    try:
        renewed = msgspec.convert(orphan.progress, Progress)
    except msgspec.ValidationError:  # nothing was ever renewed, or by another version of the gateway
        renewed = None
    noted = words.calls.get(orphan.pk) if words else None
    progress = noted or renewed
    never = words is not None and words.complete and progress is None
    return Orphan(orphan, progress, was_sent=True if progress is not None else False if never else None)


def recover(orphan: Hold, *, charged: int | None, rows: Sequence[Row] = (), note: str = "") -> bool:
    """Closes a claimed or reviewed hold: settled for `charged`, never above the hold, or voided where it is None.

    False where it has been closed, or claimed, by somebody else since.
    """
    active = ActiveHold(
        orphan.pk,
        orphan.account_id,
        orphan.amount,
        orphan.generation,
        tuple((number, start) for number, start in orphan.budgets),
        claimed=IdempotencyKey.objects.filter(hold=orphan.pk).exists(),
        parts=tuple((number, part) for number, part in orphan.parts),
    )
    bounded = None if charged is None else min(charged, orphan.amount)
    with transaction.atomic():
        (outcome,) = connections.run_in_transaction(
            [CloseHold(active, bounded, tuple(rows))], revenue=ledger.revenue_account()
        )
        changed = outcome == Done()
        if changed and note:
            Hold.objects.filter(pk=orphan.pk).update(note=note[:500])
    return changed


def review(orphan: Hold, *, why: str) -> bool:
    """Leaves a claimed hold open for an administrator: the money stays reserved. False where it is somebody else's."""
    mine = Hold.objects.filter(pk=orphan.pk, generation=orphan.generation, state=HoldState.RECOVERING)
    return bool(mine.update(state=HoldState.REVIEW, note=why[:500]))


def remove_journals() -> None:
    """Deletes the journals of processes that have ended and left no hold open."""
    remove_finished(set(Hold.objects.leased().values_list("lease_owner", flat=True).distinct()))
