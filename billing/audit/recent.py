"""The incremental audit: what has happened since it last looked, and a slice of everything else.

What happened is found by keys alone, so a run costs what happened and not what the books contain:

- Transfers get their ids while their wallet, and the budgets of their call, are locked. So of one wallet, or one
  budget, a snapshot shows all transfers up to some id, and `AuditMark` says what they came to: the next run adds only
  those after it. Of the whole table a smaller id may appear later than a larger one. `_floor` is an id up to which
  nothing can appear any more.
- Holds bear the time of their making in their ids. Looked at are those made since the last run, and shortly before it
  (a hold is written a while after it got its id), those that were open then, and those that new charges name.
- A corruption by hand may be anywhere. So every run also checks a slice of every table in depth, and in `ROUND` runs
  has been through all of it. Rows with an open finding are checked in depth by every run.

Several runs at once do not disturb one another: they read snapshots; a mark only moves forward, to what is true of
history in any snapshot; and a cursor that is set back only makes the next run look at something twice.
"""

import datetime as dt
import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from django.conf import settings
from django.db import connection

from billing import ids
from billing.audit import checks, invariants, snapshot
from billing.audit.checks import TABLES, Finding, Rows, Subject, adapt, among
from billing.models import AuditCursor, Budget

ROUND = 50  # runs that it takes to have been through everything; at one a minute less than an hour
SLICE = 5_000  # rows of a table that a run checks even where a fiftieth would be less
CALLS = ("charge", "shortfall", "draw")  # what is paid for calls: their references begin with the hold's
MOST_REMEMBERED = 20_000  # open holds, and findings, that are remembered one by one
WALLET, BUDGET = "account", "budget"  # what a mark can be of


class State(msgspec.Struct):
    """What the next run has to know, in `AuditCursor`.

    `floors` pairs an id with the first transaction (`xid8`) that may still have got a smaller one; SQLite, with one
    writer at a time, needs no transaction. `looked` is when the last run read, in Unix seconds. `left_open` are the
    holds that were open then and are not young. `slices` are the keys up to which the current round has come.
    """

    floors: list[tuple[int, int]] = msgspec.field(default_factory=list)
    floor: int | None = None
    looked: float | None = None
    left_open: list[uuid.UUID] = msgspec.field(default_factory=list)
    slices: dict[str, int | uuid.UUID | None] = msgspec.field(default_factory=dict)
    rounds: dict[str, int] = msgspec.field(default_factory=dict)


class Mark(msgspec.Struct, frozen=True):
    """`billing.models.AuditMark`."""

    subject: str
    number: int
    transfer: int
    total: int
    since: int = 0


class Seen(msgspec.Struct):
    """What a run found, how much it looked at, and what it leaves to the next."""

    findings: list[Finding]
    figures: dict[str, Any]
    state: State
    marks: list[Mark]
    again: frozenset[str]  # subjects with an open finding that were looked at again


def overlap() -> float:
    """Seconds by which a hold may be written after the moment in its id: its body is read first, then its batch waits.

    As much again for clocks of several machines that differ.
    """
    return float(settings.BODY_TIMEOUT) + 60.0


def look(state: State, suspects: Sequence[str] = ()) -> Seen:
    """One run from where `state` says. `suspects` are subjects with an open finding. Reads only."""
    reached = _reached()
    with snapshot.taken():
        return _Run(state, reached, suspects).go()


def _reached() -> int:
    """The highest id that any transfer has got, seen or not. Asked before the snapshot is taken."""
    if connection.vendor == "sqlite":
        return 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_serial_sequence('billing_transfer', 'id')")
        cursor.execute(f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {cursor.fetchone()[0]}")
        return int(cursor.fetchone()[0])


class _News(msgspec.Struct, frozen=True):
    """A new transfer. `hold` is the one that a charge names."""

    id: int
    debit: int
    credit: int
    amount: int
    hold: uuid.UUID | None


class _Run:
    """The parts of one run, in the order in which they need one another."""

    def __init__(self, state: State, reached: int, suspects: Sequence[str]) -> None:
        self.before = state
        self.after = State(slices=dict(state.slices), rounds=dict(state.rounds))
        self.reached = reached
        self.suspects = suspects
        self.findings: dict[tuple[str, str], Finding] = {}
        self.figures: dict[str, Any] = {}
        # Of each table, what is new, and what is checked in depth.
        self.light: dict[Subject, list[Rows]] = {subject: [] for subject in TABLES}
        self.deep: dict[Subject, list[Rows]] = {subject: [] for subject in TABLES}

    def go(self) -> Seen:
        self.floor()
        news = self.news()
        self.holds(news)
        wallets = self.wallets(news)
        budgets = self.budgets(news)
        again = self.again()
        for subject in TABLES:
            self.slice(subject)
        self.check()
        marks = [mark for mark in (*wallets, *budgets) if not self.doubted(mark)]
        marks += self.recounted()
        self.count()
        return Seen(list(self.findings.values()), self.figures, self.after, marks, again)

    # ---- what is new

    def floor(self) -> None:
        """The id up to which nothing can appear any more, for this run and the next."""
        if connection.vendor == "sqlite":
            latest = _one("SELECT coalesce(max(id), 0) FROM billing_transfer")
            self.after.floor = latest
            return
        oldest, next_one = _row(
            "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint, "
            "pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
        )
        floors = [*self.before.floors[-ROUND:], (self.reached, next_one)]
        settled = [floor for floor, first in floors if first <= oldest]
        known = [self.before.floor] if self.before.floor is not None else []
        self.after.floor = max([*settled, *known], default=None)
        self.after.floors = [(floor, first) for floor, first in floors if first > oldest]

    def news(self) -> list[_News]:
        """Transfers since the floor that the last run knew; none in the first run, which the round makes up for."""
        floor = self.before.floor
        if floor is None:
            return []
        sql = "SELECT id, debit_id, credit_id, amount, kind, reference FROM billing_transfer WHERE id > %s ORDER BY id"
        # A reference of no call, which a check of transfers finds, names no hold.
        found = [
            _News(number, debit, credit, amount, ids.read(reference[:36]) if kind in CALLS else None)
            for number, debit, credit, amount, kind, reference in snapshot.rows(sql, [floor])
        ]
        if found:
            self.light[Subject.TRANSFER].append(Rows(after=floor, to=found[-1].id))
        self.figures["new transfers"] = len(found)
        return found

    def holds(self, news: Sequence[_News]) -> None:
        """Holds that were made, or may have ended, since the last run; their calls, accounts and budgets."""
        now = dt.datetime.now(dt.UTC).timestamp()
        since = min(now, self.before.looked if self.before.looked is not None else now) - overlap()
        young, youngest = ids.first_at(since), ids.first_at(now - overlap())
        open_now = list(invariants.open_holds())
        named = {transfer.hold for transfer in news if transfer.hold is not None}
        older = {*named, *self.before.left_open, *(_key(hold.id) for hold in open_now)}
        older = {key for key in older if key.int <= young.int}
        for subject in (Subject.HOLD, Subject.CALL):
            self.light[subject] += [Rows(after=young), Rows(keys=tuple(sorted(older)))]
        self.after.looked = now
        self.after.left_open = [key for key in (_key(hold.id) for hold in open_now) if key.int <= youngest.int]
        del self.after.left_open[MOST_REMEMBERED:]
        touched = list(_touched(Rows(after=young))) + list(_touched(Rows(keys=tuple(sorted(older)))))
        self.touched_accounts = {account for accounts, _ in touched for account in accounts}
        self.touched_accounts |= {account for hold in open_now for account in hold.accounts}
        self.touched_budgets = {number for _, budgets in touched for number, _ in budgets}

    # ---- totals by marks

    def wallets(self, news: Sequence[_News]) -> list[Mark]:
        """The balance of each wallet with new transfers, from its mark. Without one, or where it differs: in depth."""
        moved = {account for transfer in news for account in (transfer.debit, transfer.credit)}
        self.light[Subject.ACCOUNT].append(Rows(keys=tuple(sorted(moved | self.touched_accounts))))
        condition, parameters = among("id", sorted(moved))
        sql = f"SELECT id, balance FROM billing_account WHERE {condition} AND kind IN ('wallet', 'plan')"
        balances = dict(snapshot.rows(sql, parameters))
        marks = _marks(WALLET, balances)
        added: dict[int, int] = dict.fromkeys(balances, 0)
        last: dict[int, int] = {}
        for transfer in news:
            for account, amount in ((transfer.debit, -transfer.amount), (transfer.credit, transfer.amount)):
                if account in balances:
                    last[account] = transfer.id
                    mark = marks.get(account)
                    added[account] += amount if mark is None or transfer.id > mark.transfer else 0
        doubtful = [row for row in balances if row not in marks or marks[row].total + added[row] != balances[row]]
        self.deep[Subject.ACCOUNT].append(Rows(keys=tuple(sorted(doubtful))))
        return [Mark(WALLET, row, last[row], balance) for row, balance in balances.items()]

    def budgets(self, news: Sequence[_News]) -> list[Mark]:
        """The same for what was used of each budget that a new charge names."""
        self.light[Subject.BUDGET].append(Rows(keys=tuple(sorted(self.touched_budgets))))
        holds = {transfer.hold for transfer in news if transfer.hold is not None}
        named = _budgets_of(sorted(holds))
        moved = {number for budgets in named.values() for number, _ in budgets}
        rows = {row.pk: row for row in Budget.objects.in_bulk(sorted(moved)).values()}
        marks = _marks(BUDGET, rows)
        starts = {number: int(row.starts_at.timestamp()) for number, row in rows.items()}
        # Counted is what the mark had counted, if its window is still the same.
        used = {row: mark.total if mark.since == starts[row] else 0 for row, mark in marks.items()}
        last: dict[int, int] = {}
        for transfer in news:
            for number, start in named.get(transfer.hold, ()) if transfer.hold else ():
                if number in rows:
                    last[number] = transfer.id
                if number in marks and transfer.id > marks[number].transfer and start == starts[number]:
                    used[number] += transfer.amount
        doubtful = [number for number, row in rows.items() if used.get(number) != row.used]
        self.deep[Subject.BUDGET].append(Rows(keys=tuple(sorted(doubtful))))
        return [Mark(BUDGET, number, last[number], row.used, starts[number]) for number, row in rows.items()]

    def doubted(self, mark: Mark) -> bool:
        """Whether something is wrong with what the mark would vouch for."""
        subject = f"{mark.subject} {mark.number}"
        return any((check, subject) in self.findings for check in (invariants.BALANCE, invariants.BUDGET))

    def recounted(self) -> Iterator[Mark]:
        """Marks of wallets whose past has changed though their balance fits it: said once, then counted anew."""
        for check, subject in list(self.findings):
            if check == invariants.COUNTED and (invariants.BALANCE, subject) not in self.findings:
                number = int(subject.partition(" ")[2])
                mark = _marks(WALLET, [number])[number]
                yield Mark(WALLET, number, mark.transfer, invariants.counted(number, mark.transfer))

    # ---- what may have been corrupted

    def again(self) -> frozenset[str]:
        """The rows of open findings, in depth."""
        looked = []
        for suspect in self.suspects[:MOST_REMEMBERED]:
            subject, _, key = suspect.partition(" ")
            if subject in TABLES:
                about = Subject(subject)
                self.deep[about].append(Rows(keys=(uuid.UUID(key) if about.by_uuid else int(key),)))
                looked.append(suspect)
        return frozenset(looked)

    def slice(self, subject: Subject) -> None:
        """The next rows of a table's round; the cursor returns to the beginning after the last."""
        start = self.before.slices.get(subject)
        rows = self.accounts(start) if subject is Subject.ACCOUNT else _next(subject, start, _wanted(subject))
        self.deep[subject].append(rows)
        self.after.slices[subject] = rows.to
        if rows.to is None:
            self.after.rounds[subject] = self.after.rounds.get(subject, 0) + 1

    def accounts(self, start: Any) -> Rows:
        """Accounts with a fiftieth of the transfers between them, but one at least, however many it has."""
        rows = _next(Subject.ACCOUNT, start, _wanted(Subject.ACCOUNT))
        most = max(4 * SLICE, _size(Subject.TRANSFER) // ROUND)
        condition, parameters = rows.condition("a.id")
        sql = f"""
            SELECT a.id, count(t.id) FROM billing_account a LEFT JOIN billing_transfer t ON t.debit_id = a.id
            WHERE {condition} GROUP BY a.id ORDER BY a.id"""
        total, last = 0, None
        for account, count in snapshot.rows(sql, parameters):
            total += count
            if last is not None and total > most:
                return Rows(after=rows.after, to=last)
            last = account
        return rows

    # ---- looking

    def check(self) -> None:
        for check in checks.registered:
            if check.subject is Subject.BOOKS:
                continue
            light = [] if check.deep else self.light[check.subject]
            for rows in (*light, *self.deep[check.subject]):
                if rows.keys == ():
                    continue
                for finding in check.findings(rows):
                    self.findings[finding.check, finding.subject] = finding

    def count(self) -> None:
        """How many rows of each table were looked at, some of them more than once."""
        for subject in TABLES:
            looked_at = (*self.light[subject], *self.deep[subject])
            self.figures[subject.value] = sum(checks.count(subject, rows) for rows in looked_at)
        self.figures["rounds"] = min(self.after.rounds.get(subject, 0) for subject in TABLES)
        self.figures["up to transfer"] = self.after.floor


# ---- the tables -----------------------------------------------------------------------------------------------------


def _row(sql: str, parameters: Sequence[Any] = ()) -> Any:
    return next(snapshot.rows(sql, parameters))


def _one(sql: str, parameters: Sequence[Any] = ()) -> Any:
    return _row(sql, parameters)[0]


def _key(value: Any) -> uuid.UUID:
    return value if isinstance(value, uuid.UUID) else uuid.UUID(value)


def _touched(rows: Rows) -> Iterator[tuple[list[int], list[list[int]]]]:
    """The accounts and the budgets of each of these holds."""
    condition, parameters = rows.condition("id")
    sql = f"""
        SELECT DISTINCT account_id, CAST(parts AS text), CAST(budgets AS text) FROM billing_hold WHERE {condition}"""
    for account, parts, budgets in snapshot.rows(sql, parameters):
        yield [account, *(plan for plan, _amount in json.loads(parts))], json.loads(budgets)


def _budgets_of(holds: Iterable[uuid.UUID]) -> dict[uuid.UUID, list[list[int]]]:
    condition, parameters = among("id", holds)
    found = snapshot.rows(f"SELECT id, CAST(budgets AS text) FROM billing_hold WHERE {condition}", parameters)
    return {_key(key): json.loads(budgets) for key, budgets in found}


def _marks(subject: str, rows: Iterable[int]) -> dict[int, Mark]:
    condition, parameters = among("number", sorted(rows))
    sql = f"SELECT number, transfer, total, since FROM billing_auditmark WHERE subject = %s AND {condition}"
    return {row: Mark(subject, row, *rest) for row, *rest in snapshot.rows(sql, [subject, *parameters])}


def _next(subject: Subject, start: Any, count: int) -> Rows:
    """The next `count` rows by key after `start`; to the table's end where there are fewer."""
    table, parameters = TABLES[subject], []
    condition = "1 = 1"
    if start is not None:
        condition, parameters = "id > %s", [adapt(start)]
    sql = f"SELECT id FROM {table} WHERE {condition} ORDER BY id LIMIT 1 OFFSET %s"
    last = next(snapshot.rows(sql, [*parameters, count - 1]), None)
    if last is None:
        return Rows(after=start)
    return Rows(after=start, to=_key(last[0]) if subject.by_uuid else last[0])


def _wanted(subject: Subject) -> int:
    share = -(-_size(subject) // ROUND)
    if subject is Subject.BUDGET and _size(Subject.CALL) > 4 * SLICE:
        return max(1, share)  # each costs the calls of its owner
    return max(SLICE, share)


def _size(subject: Subject) -> int:
    """About how many rows the table has, rather too many than too few, without counting them."""
    table = TABLES[subject]
    if connection.vendor == "sqlite":
        return int(_one(f"SELECT coalesce(max(rowid), 0) FROM {table}"))
    # As PostgreSQL's planner does: rows a page, when last analysed, times the pages that there are now.
    sql = """
        SELECT ceil(sum(CASE WHEN relpages > 0 AND reltuples >= 0 THEN reltuples / relpages ELSE 40 END
                        * pg_relation_size(oid) / current_setting('block_size')::int))
        FROM pg_class WHERE oid = %s::regclass
            OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = %s::regclass)"""  # its partitions
    return int(_one(sql, [table, table]))


# ---- what is kept ---------------------------------------------------------------------------------------------------

_NAME = "recent"


def load() -> State:
    found = AuditCursor.objects.filter(name=_NAME).values_list("state", flat=True).first()
    return msgspec.convert(found, State) if found else State()


def save(seen: Seen) -> None:
    """Keeps where this run has come to, once its findings are recorded."""
    AuditCursor.objects.update_or_create(name=_NAME, defaults={"state": msgspec.to_builtins(seen.state)})
    sql = """
        INSERT INTO billing_auditmark (subject, number, transfer, total, since) VALUES (%s, %s, %s, %s, %s)
        ON CONFLICT (subject, number) DO UPDATE
        SET transfer = excluded.transfer, total = excluded.total, since = excluded.since
        WHERE billing_auditmark.transfer <= excluded.transfer"""
    marks = sorted(seen.marks, key=lambda mark: (mark.subject, mark.number))
    with connection.cursor() as cursor:
        cursor.executemany(sql, [(mark.subject, mark.number, mark.transfer, mark.total, mark.since) for mark in marks])
