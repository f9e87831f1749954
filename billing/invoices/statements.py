"""Statements: what moved in a wallet during a period, grouped, between an opening and a closing balance.

A statement is a function of the ledger's append-only rows, the period and the time zone, and of nothing that anybody
can change later: not of names, and not of usage records, which may be pruned. So the same statement of a past period
has the same bytes whenever it is asked for. It is written while it is read; with days among the groups, memory holds
those of one day.
"""

import csv
import datetime as dt
import io
from collections.abc import Generator, Iterable, Iterator, Sequence

import msgspec
from django.conf import settings

from billing import money, windows
from billing.invoices import entries, sources
from billing.invoices.entries import Entry
from billing.models import Account

GROUPS = ("day", "kind", "model", "key")
COLUMNS = (*GROUPS, "transfers", "in", "out", "amount", "balance", "currency")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Statement(msgspec.Struct, frozen=True):
    """A wallet's period: from `start` up to and without `end`, its days those of `zone`, rows grouped by `groups`."""

    account: Account
    start: dt.datetime
    end: dt.datetime
    zone: str = "UTC"
    groups: tuple[str, ...] = GROUPS


class Row(msgspec.Struct):
    """All transfers with the same `names`, in the order of the statement's groups. Nano-units; both sums positive.

    `balance` is the wallet's after the row, as if its transfers had come one after another.
    """

    names: tuple[str, ...]
    transfers: int = 0
    into: int = 0
    out: int = 0
    balance: int = 0

    @property
    def amount(self) -> int:
        return self.into - self.out

    def count(self, entry: Entry) -> None:
        self.transfers += 1
        if entry.amount > 0:
            self.into += entry.amount
        else:
            self.out -= entry.amount


def parse_groups(text: str) -> tuple[str, ...]:
    """`day,kind` in the order of `GROUPS`; all of them for an empty text. Raises ValueError."""
    asked = {part.strip() for part in text.split(",") if part.strip()}
    if unknown := asked - set(GROUPS):
        raise ValueError(f"no grouping by {', '.join(sorted(unknown))}")
    return tuple(name for name in GROUPS if name in asked) or GROUPS


def opening(statement: Statement) -> int:
    """The wallet's balance at the beginning, in nano-units."""
    return entries.net([statement.account.pk], before=statement.start)


def rows(statement: Statement, balance: int) -> Iterator[Row]:
    """The groups in order, from `balance` on: day by day where days are asked for, else all at the end."""
    daily = "day" in statement.groups
    found: dict[tuple[str, str, str, int], Row] = {}
    today = ""
    zone = windows.zone(statement.zone)
    for entry in entries.read([statement.account.pk], statement.start, statement.end):
        day = entry.at.astimezone(zone).date().isoformat() if daily else ""
        if day != today and found:
            balance = yield from _flush(statement, found, balance)
        today = day
        names = _names(statement, entry, day)
        found.setdefault(names, Row(())).count(entry)
    yield from _flush(statement, found, balance)


def _names(statement: Statement, entry: Entry, day: str) -> tuple[str, str, str, int]:
    wanted = statement.groups
    return (
        day,
        entry.kind if "kind" in wanted else "",
        entry.model if "model" in wanted else "",
        entry.key if "key" in wanted else 0,
    )


def _flush(
    statement: Statement, found: dict[tuple[str, str, str, int], Row], balance: int
) -> Generator[Row, None, int]:
    """Gives the groups away, and the balance after them."""
    labels = sources.labels_of({key for _, _, _, key in found if key})
    for names in sorted(found):
        row = found[names]
        key = labels.get(names[3], f"#{names[3]}") if names[3] else ""
        told = dict(zip(GROUPS, (*names[:3], key), strict=True))
        row.names = tuple(told[group] for group in statement.groups)
        balance += row.amount
        row.balance = balance
        yield row
    found.clear()
    return balance


# ---- CSV ------------------------------------------------------------------------------------------------------------


def as_csv(statement: Statement) -> Iterator[str]:
    """RFC 4180 with a header; amounts are exact decimals of the currency. First and last the balances."""
    balance = opening(statement)
    yield _line(COLUMNS)
    yield _line(_balance_row("opening", _local(statement, statement.start), balance))
    for row in rows(statement, balance):
        balance = row.balance
        yield _line(_csv_row(statement, row))
    # The closing balance is of the end, which is not within the period.
    yield _line(_balance_row("closing", _local(statement, statement.end), balance))


def _csv_row(statement: Statement, row: Row) -> Sequence[str]:
    told = dict(zip(statement.groups, row.names, strict=True))
    amounts = (money.to_text(nano, decimals=9) for nano in (row.into, row.out, row.amount, row.balance))
    return (*(_safe(told.get(group, "")) for group in GROUPS), str(row.transfers), *amounts, settings.CURRENCY)


def _balance_row(kind: str, at: str, balance: int) -> Sequence[str]:
    return (at, kind, "", "", "", "", "", "", money.to_text(balance, decimals=9), settings.CURRENCY)


def _local(statement: Statement, moment: dt.datetime) -> str:
    return moment.astimezone(windows.zone(statement.zone)).isoformat(timespec="seconds")


def _safe(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _line(cells: Iterable[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(cells)
    return buffer.getvalue()
