"""The only place that writes money: carries out operations in one transaction, on SQLite and PostgreSQL alike.

Lock order: the holds (by compare-and-set), budgets by id, accounts by id, then inserts. PostgreSQL gets two round
trips a batch, the second one ending in COMMIT; SQLite runs the batch inside BEGIN IMMEDIATE.
"""

import datetime as dt
import json
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Protocol

import msgspec
import psycopg

from billing import rules
from billing.operations import CloseHold, Operation, Outcome, Row, Table
from billing.rules import AccountTotals, BudgetTotals, Changes

OPEN = "('held', 'dispatched', 'recovering', 'review')"

HOLD = Table(
    "billing_hold",
    (
        ("id", "uuid"),
        ("account_id", "bigint"),
        ("amount", "bigint"),
        ("charged", "bigint"),
        ("state", "text"),
        ("generation", "int"),
        ("price_id", "bigint"),
        ("budgets", "jsonb"),
        ("facts", "jsonb"),
        ("lease_owner", "text"),
        ("lease_until", "timestamptz"),
        ("created_at", "timestamptz"),
    ),
)
TRANSFER = Table(
    "billing_transfer",
    (
        ("kind", "text"),
        ("debit_id", "bigint"),
        ("credit_id", "bigint"),
        ("amount", "bigint"),
        ("reference", "text"),
        ("actor", "text"),
        ("reason", "text"),
        ("reverses_id", "bigint"),
        ("created_at", "timestamptz"),
    ),
)

_ACCOUNTS = (
    "SELECT id, kind = 'wallet', balance, held, credit_limit, frozen FROM billing_account WHERE id {} ORDER BY id"
)
_BUDGETS = 'SELECT id, "window", cap, zone, starts_at, used, held, over FROM billing_budget WHERE id {} ORDER BY id'


class Store(Protocol):
    """One open connection that can run a batch. Not shared between threads."""

    def run(self, operations: Sequence[Operation], *, revenue: int) -> list[Outcome]:
        """All of it in the current transaction, or in one of its own."""
        ...


def _hold_values(changes: Changes) -> list[tuple[Any, ...]]:
    return [
        (
            op.id,
            op.account,
            hold.amount,
            0,
            "dispatched",
            hold.generation,
            op.price,
            hold.budgets,
            op.facts,
            op.lease_owner,
            op.lease_until,
            op.created_at,
        )
        for op, hold in changes.holds
    ]


def _transfer_values(changes: Changes, now: dt.datetime, receivable: Callable[[int], int]) -> list[tuple[Any, ...]]:
    return [
        (
            t.kind,
            t.debit if t.debit is not None else receivable(t.wallet or 0),
            t.credit,
            t.amount,
            t.reference,
            t.actor,
            t.reason,
            t.reverses,
            now,
        )
        for t in changes.transfers
    ]


def _by_table(rows: Iterable[Row]) -> dict[Table, list[tuple[Any, ...]]]:
    grouped: dict[Table, list[tuple[Any, ...]]] = {}
    for row in rows:
        grouped.setdefault(row.table, []).append(row.values)
    return grouped


_RECEIVABLE = (
    "SELECT r.id FROM billing_account r JOIN billing_account w ON w.team_id = r.team_id AND w.currency = r.currency "
    "WHERE w.id = {} AND r.kind = 'receivable'"
)


class Decided(msgspec.Struct, frozen=True):
    """What a batch had decided when its COMMIT was sent, and the transaction (`xid8`) that carried it."""

    transaction: str
    outcomes: list[Outcome]


class PostgresStore:
    """Batches over one psycopg connection. `own_transaction` is False inside Django's `atomic()`."""

    _inserts: ClassVar[dict[Table, str]] = {}

    def __init__(self, connection: "psycopg.Connection[Any]", *, own_transaction: bool) -> None:
        self._connection = connection
        self._own = own_transaction
        self.decided: Decided | None = None

    def run(self, operations: Sequence[Operation], *, revenue: int) -> list[Outcome]:
        now = dt.datetime.now(dt.UTC)
        self.decided = None
        with self._connection.pipeline() as pipeline:
            identity = self._begin()
            books = self._lock(pipeline, operations, revenue, now)
            outcomes, changes = rules.decide(books, operations)
            self._write(books, changes, now)
            if identity is not None:
                self.decided = Decided(str((identity.fetchone() or ("",))[0]), outcomes)
                self._execute("COMMIT")
            pipeline.sync()
        self.decided = None
        return outcomes

    def _begin(self) -> "psycopg.Cursor[Any] | None":
        if not self._own:
            return None
        self._execute("BEGIN")
        return self._execute("SELECT pg_current_xact_id()::text")

    def _execute(self, query: str, *parameters: Any) -> "psycopg.Cursor[Any]":
        cursor: psycopg.Cursor[Any] = psycopg.Cursor(self._connection)
        return cursor.execute(query, parameters, prepare=True)

    def _lock(
        self, pipeline: "psycopg.Pipeline", operations: Sequence[Operation], revenue: int, now: dt.datetime
    ) -> rules.Books:
        accounts, budgets = rules.touched(operations)
        closing = {
            (op.hold.id, op.hold.generation): {
                "id": op.hold.id,
                "generation": op.hold.generation,
                "charged": op.charged,
            }
            for op in reversed(operations)  # of two closings of one hold the first counts
            if isinstance(op, CloseHold)
        }
        closed = budget_rows = account_rows = None
        if closing:
            closed = self._execute(
                "UPDATE billing_hold h SET state = CASE WHEN v.charged IS NULL THEN 'voided' ELSE 'settled' END, "
                "charged = coalesce(v.charged, 0), resolved_at = %s "
                "FROM json_to_recordset(%s::json) AS v(id uuid, generation int, charged bigint) "
                f"WHERE h.id = v.id AND h.generation = v.generation AND h.state IN {OPEN} RETURNING h.id, h.generation",
                now,
                _json(list(closing.values())),
            )
        if budgets:
            budget_rows = self._execute(_BUDGETS.format("= ANY(%s::bigint[])") + " FOR UPDATE", _array(budgets))
        if accounts:
            account_rows = self._execute(_ACCOUNTS.format("= ANY(%s::bigint[])") + " FOR UPDATE", _array(accounts))
        pipeline.sync()
        return rules.Books(
            accounts={r[0]: AccountTotals(*r) for r in account_rows or ()},
            budgets={r[0]: BudgetTotals(*r) for r in budget_rows or ()},
            closed={(r[0], r[1]) for r in closed or ()},
            revenue=revenue,
            now=now,
        )

    def _write(self, books: rules.Books, changes: Changes, now: dt.datetime) -> None:
        if changes.holds:
            self._insert(HOLD, _hold_values(changes))
        if books.budgets:
            self._execute(
                "UPDATE billing_budget b SET starts_at = v.starts_at, used = v.used, held = v.held, over = v.over "
                "FROM json_to_recordset(%s::json) AS v(id bigint, starts_at timestamptz, used bigint, held bigint, "
                "over bigint) WHERE b.id = v.id",
                _json(list(books.budgets.values())),
            )
        wallets = [account for account in books.accounts.values() if account.wallet]
        if wallets:
            self._execute(
                "UPDATE billing_account a SET balance = v.balance, held = v.held, frozen = v.frozen "
                "FROM json_to_recordset(%s::json) AS v(id bigint, balance bigint, held bigint, frozen text) "
                "WHERE a.id = v.id",
                _json(wallets),
            )
        if changes.transfers:
            self._insert(TRANSFER, _transfer_values(changes, now, self._receivable))
        for table, values in _by_table(changes.rows).items():
            self._insert(table, values)

    def _receivable(self, wallet: int) -> int:
        row = self._execute(_RECEIVABLE.format("%s"), wallet).fetchone()
        assert row is not None, "a wallet always has its receivable account"
        return int(row[0])

    def _insert(self, table: Table, values: list[tuple[Any, ...]]) -> None:
        query = self._inserts.get(table)
        if query is None:
            names = ", ".join(f'"{name}"' for name, _ in table.columns)
            types = ", ".join(f'"{name}" {kind}' for name, kind in table.columns)
            query = self._inserts[table] = (
                f"INSERT INTO {table.name} ({names}) SELECT {names} FROM json_to_recordset(%s::json) AS v({types})"
            )
        names_only = [name for name, _ in table.columns]
        self._execute(query, _json([dict(zip(names_only, row, strict=True)) for row in values]))


class SqliteStore:
    """Batches over one sqlite3 connection in autocommit mode."""

    def __init__(self, connection: sqlite3.Connection, *, own_transaction: bool) -> None:
        self._connection = connection
        self._own = own_transaction

    def run(self, operations: Sequence[Operation], *, revenue: int) -> list[Outcome]:
        now = dt.datetime.now(dt.UTC)
        cursor = self._connection.cursor()
        if self._own:
            cursor.execute("BEGIN IMMEDIATE")
        books = self._lock(cursor, operations, revenue, now)
        outcomes, changes = rules.decide(books, operations)
        self._write(cursor, books, changes, now)
        if self._own:
            cursor.execute("COMMIT")
        return outcomes

    def _lock(
        self, cursor: sqlite3.Cursor, operations: Sequence[Operation], revenue: int, now: dt.datetime
    ) -> rules.Books:
        accounts, budgets = rules.touched(operations)
        closed: set[tuple[uuid.UUID, int]] = set()
        stamp = _sqlite_time(now)
        for op in operations:
            if isinstance(op, CloseHold):
                cursor.execute(
                    "UPDATE billing_hold SET state = ?, charged = ?, resolved_at = ? "
                    f"WHERE id = ? AND generation = ? AND state IN {OPEN}",
                    (
                        "voided" if op.charged is None else "settled",
                        op.charged or 0,
                        stamp,
                        op.hold.id.hex,
                        op.hold.generation,
                    ),
                )
                if cursor.rowcount == 1:
                    closed.add((op.hold.id, op.hold.generation))
        among = "IN (SELECT value FROM json_each(?))"
        budget_rows = cursor.execute(_BUDGETS.format(among), (_array(budgets, "[]"),)).fetchall() if budgets else ()
        account_rows = cursor.execute(_ACCOUNTS.format(among), (_array(accounts, "[]"),)).fetchall()
        return rules.Books(
            accounts={r[0]: AccountTotals(r[0], bool(r[1]), *r[2:]) for r in account_rows},
            budgets={
                r[0]: BudgetTotals(r[0], r[1], r[2], r[3], _from_sqlite_time(r[4]), r[5], r[6], r[7])
                for r in budget_rows
            },
            closed=closed,
            revenue=revenue,
            now=now,
        )

    def _write(self, cursor: sqlite3.Cursor, books: rules.Books, changes: Changes, now: dt.datetime) -> None:
        self._insert(cursor, HOLD, _hold_values(changes))
        cursor.executemany(
            "UPDATE billing_budget SET starts_at = ?, used = ?, held = ?, over = ? WHERE id = ?",
            [(_sqlite_time(b.starts_at), b.used, b.held, b.over, b.id) for b in books.budgets.values()],
        )
        cursor.executemany(
            "UPDATE billing_account SET balance = ?, held = ?, frozen = ? WHERE id = ?",
            [(a.balance, a.held, a.frozen, a.id) for a in books.accounts.values() if a.wallet],
        )

        def receivable(wallet: int) -> int:
            return int(cursor.execute(_RECEIVABLE.format("?"), (wallet,)).fetchone()[0])

        self._insert(cursor, TRANSFER, _transfer_values(changes, now, receivable))
        for table, values in _by_table(changes.rows).items():
            self._insert(cursor, table, values)

    def _insert(self, cursor: sqlite3.Cursor, table: Table, values: list[tuple[Any, ...]]) -> None:
        if not values:
            return
        names = ", ".join(f'"{name}"' for name, _ in table.columns)
        marks = ", ".join("?" * len(table.columns))
        writers = [_SQLITE_WRITERS.get(kind) for _, kind in table.columns]
        cursor.executemany(
            f"INSERT INTO {table.name} ({names}) VALUES ({marks})",
            [
                tuple(
                    value if write is None or value is None else write(value)
                    for write, value in zip(writers, row, strict=True)
                )
                for row in values
            ],
        )


_json: Callable[[Any], str] = lambda value: msgspec.json.encode(value).decode()  # noqa: E731


def _array(numbers: Iterable[int], brackets: str = "{}") -> str:
    return brackets[0] + ",".join(map(str, sorted(numbers))) + brackets[1]


def _sqlite_budget(row: tuple[Any, ...]) -> BudgetTotals:
    number, window, cap, zone, starts_at, used, held, over = row
    return BudgetTotals(number, window, cap, zone, _from_sqlite_time(starts_at), used, held, over)


def _sqlite_time(value: dt.datetime) -> str:
    """As Django writes it: UTC without a zone."""
    return value.astimezone(dt.UTC).replace(tzinfo=None).isoformat(" ")


def _from_sqlite_time(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


_SQLITE_WRITERS: dict[str, Callable[[Any], Any]] = {
    "uuid": lambda value: value.hex,
    "jsonb": lambda value: json.dumps(msgspec.to_builtins(value)),
    "timestamptz": _sqlite_time,
}
