"""What moved in accounts during a period, in order and in bounded memory, with the calls that it was for.

A transfer belongs to the period that its `created_at` lies in: a call to that in which it was charged, not in which it
began. `whole` says when nothing can come into a past period any more.
"""

import datetime as dt
import heapq
import itertools
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from django.db import connection, transaction
from django.db.models import Q, QuerySet, Sum
from django.utils import timezone

from billing import ids, selectors
from billing.invoices import sources
from billing.models import Account, Hold, Transfer, TransferKind

CHUNK = 1_000
CALLS = frozenset((TransferKind.CHARGE.value, TransferKind.SHORTFALL.value))
_FIELDS = ("id", "kind", "debit_id", "credit_id", "amount", "reference", "reason", "created_at", "reverses__kind")


class Entry(msgspec.Struct, frozen=True):
    """A transfer as the accounts see it: `amount` is positive where it came in, negative where it went out.

    `undone` is the kind of the transfer that this one reverses. `model`, `key` and `lines` are of the call that a
    charge pays, empty and 0 for all else.
    """

    id: int
    kind: str
    amount: int
    reference: str
    reason: str
    at: dt.datetime
    undone: str = ""
    model: str = ""
    key: int = 0
    lines: tuple[dict[str, Any], ...] = ()

    @property
    def of_call(self) -> bool:
        return self.kind in CALLS


def accounts_of(wallet: Account) -> list[int]:
    """The wallet, and what its team owes where the wallet could not pay."""
    return [wallet.pk, selectors.debt_of(wallet).pk]


def read(accounts: Sequence[int], start: dt.datetime, end: dt.datetime, *, usage: bool = False) -> Iterator[Entry]:
    """What went in and out of these accounts together, by time; what moved between them is left out.

    With `usage`, charges have the price lines of their calls.
    """
    streams = [_stream(rows, start, end) for account in accounts for rows in _sides(account)]
    rows = heapq.merge(*streams, key=lambda row: (row["created_at"], row["id"]))
    inside = frozenset(accounts)
    outward = (row for row in rows if not {row["debit_id"], row["credit_id"]} <= inside)
    for chunk in iter(lambda: list(itertools.islice(outward, CHUNK)), []):
        yield from _told(chunk, inside, usage=usage)


def besides_charges(accounts: Sequence[int], start: dt.datetime) -> Iterator[Entry]:
    """What moved since and was no charge, in no order: few rows, found at once by indexes that have no charge."""
    inside = frozenset(accounts)
    touching = Q(debit__in=accounts) | Q(credit__in=accounts)
    rows = Transfer.objects.filter(touching, created_at__gte=start).exclude(kind=TransferKind.CHARGE).values(*_FIELDS)
    outward = [row for row in rows if not {row["debit_id"], row["credit_id"]} <= inside]
    for begin in range(0, len(outward), CHUNK):
        yield from _told(outward[begin : begin + CHUNK], inside, usage=False)


def net(accounts: Sequence[int], *, before: dt.datetime | None = None) -> int:
    """What these accounts have together by a moment, as their transfers say: what came in less what went out."""
    total = 0
    for account in accounts:
        for sign, rows in zip((-1, 1), _sides(account), strict=True):
            found = rows if before is None else rows.filter(created_at__lt=before)
            total += sign * int(found.aggregate(total=Sum("amount"))["total"] or 0)
    return total


def _sides(account: int) -> tuple[QuerySet[Transfer], QuerySet[Transfer]]:
    """What left the account and what entered it, each by an index. No charge ever enters one that a team has."""
    return Transfer.objects.filter(debit=account), Transfer.objects.filter(credit=account).exclude(
        kind=TransferKind.CHARGE
    )


def _stream(rows: QuerySet[Transfer], start: dt.datetime, end: dt.datetime) -> Iterator[dict[str, Any]]:
    """A chunk at a time, each entered where the last one ended."""
    wanted = rows.filter(created_at__gte=start, created_at__lt=end).order_by("created_at", "id").values(*_FIELDS)
    chunk: list[dict[str, Any]] = list(wanted[:CHUNK])
    while chunk:
        yield from chunk
        last = chunk[-1]
        further = Q(created_at__gt=last["created_at"]) | Q(id__gt=last["id"])
        # The first term alone lets the database enter its index at the right place.
        chunk = (
            list(wanted.filter(created_at__gte=last["created_at"]).filter(further)[:CHUNK])
            if len(chunk) == CHUNK
            else []
        )


def _told(rows: list[dict[str, Any]], inside: frozenset[int], *, usage: bool) -> Iterator[Entry]:
    calls = [number for row in rows if row["kind"] in CALLS and (number := ids.read(row["reference"])) is not None]
    facts = dict(Hold.objects.filter(pk__in=calls).values_list("pk", "facts")) if calls else {}
    lines = dict(sources.lines_of(calls)) if usage and calls else {}
    seen: set[uuid.UUID] = set()
    for row in rows:
        call = ids.read(row["reference"]) if row["kind"] in CALLS else None
        told = facts.get(call, {}) if call else {}
        # A call that the wallet could pay in part only has two transfers, and its units are counted once.
        used = tuple(lines.get(call, ())) if call and row["kind"] == TransferKind.CHARGE else ()
        if call and row["kind"] == TransferKind.SHORTFALL and call not in seen:
            used = () if _charged(call) else tuple(lines.get(call, ()))
        if call:
            seen.add(call)
        yield Entry(
            row["id"],
            row["kind"],
            -row["amount"] if row["debit_id"] in inside else row["amount"],
            row["reference"],
            row["reason"],
            row["created_at"],
            row["reverses__kind"] or "",
            str(told.get("model", "")),
            int(told.get("key") or 0),
            used,
        )


def _charged(call: uuid.UUID) -> bool:
    return Transfer.objects.filter(reference=str(call), kind=TransferKind.CHARGE).exists()


# ---- when a period is over ------------------------------------------------------------------------------------------


def whole(end: dt.datetime) -> bool:
    """Whether every transfer of the time before `end` is there to be read, so that none can follow.

    A transfer bears the time at which its transaction began on PostgreSQL, and on SQLite a time within its turn to
    write. So: the moment is past, and no transaction that began before it is still open; on SQLite our own turn to
    write came after all of theirs.
    """
    if connection.vendor != "postgresql":
        with transaction.atomic():  # IMMEDIATE: it has begun when it is our turn
            return timezone.now() >= end
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT clock_timestamp() >= %s AND NOT EXISTS (
                SELECT 1 FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start < %s
                  AND coalesce(backend_type, '') <> 'autovacuum worker')""",
            [end, end],
        )
        return bool(cursor.fetchone()[0])
