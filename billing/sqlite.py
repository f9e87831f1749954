"""The books' statements on SQLite: one connection, one transaction begun IMMEDIATE."""

import json
import sqlite3
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Any

import msgspec

from billing import books
from billing.books import Script, Statement, Trip, Verb
from billing.operations import Outcome, Table

# The rows of some ids, in the order of these: each is looked up, and nothing is put into a temporary table first.
_AMONG = "FROM json_each(?) wanted CROSS JOIN {} found ON found.id = wanted.value"
# The cast keeps the time a text: Django's connections turn a column that is declared as a time into one.
_BUDGETS = (
    'SELECT found.id, "window", cap, zone, CAST(starts_at AS text), used, held, over, extra, '
    f"CAST(extra_until AS text), CAST(kept_until AS text) {_AMONG.format('billing_budget')}"
)
_ACCOUNTS = (
    "SELECT found.id, kind IN ('wallet', 'plan'), balance, held, credit_limit, frozen, CAST(ends_at AS text) "
    f"{_AMONG.format('billing_account')}"
)
_CLOSE = (
    "UPDATE billing_hold SET state = ?, charged = ?, resolved_at = ? "
    "WHERE id = ? AND generation = ? AND resolved_at IS NULL"
)
_CLAIM = "SELECT hold_id, fingerprint FROM billing_idempotencykey WHERE account_id = ? AND key = ? AND created_at > ?"
_RECEIVABLES = (
    "SELECT w.id, r.id FROM billing_account r JOIN billing_account w ON w.team_id = r.team_id "
    "AND w.currency = r.currency WHERE r.kind = 'receivable' AND w.id IN (SELECT value FROM json_each(?))"
)


def open_connection(path: str) -> sqlite3.Connection:
    """A connection for the ledger's writer, of this thread: WAL, and every commit on disk before it is answered."""
    raw = sqlite3.connect(path, timeout=20, isolation_level=None, uri=True)
    raw.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
        "PRAGMA temp_store=MEMORY;"  # or what an INSERT of several rows may have to undo goes to a file of its own
    )
    return raw


def run(connection: sqlite3.Connection, work: Script, *, own_transaction: bool) -> list[Outcome]:
    """The script in a transaction of its own, or in the one that the caller has open. Raises sqlite3.Error."""
    cursor = connection.cursor()
    if own_transaction:
        cursor.execute("BEGIN IMMEDIATE")
    try:
        outcomes = books.drive(work, lambda trip: _carry_out(cursor, trip))
        if own_transaction:
            cursor.execute("COMMIT")
    except BaseException:
        if own_transaction and connection.in_transaction:
            connection.rollback()
        raise
    return outcomes


def _carry_out(cursor: sqlite3.Cursor, trip: Trip) -> list[list[tuple[Any, ...]]]:
    return [_execute(cursor, statement) if statement.rows else [] for statement in trip.statements]


def _execute(cursor: sqlite3.Cursor, statement: Statement) -> list[tuple[Any, ...]]:
    what, rows = statement.what, statement.rows
    if isinstance(what, Table):
        _insert(cursor, what, rows)
        return []
    return _VERBS[what](cursor, rows)


def _close_holds(cursor: sqlite3.Cursor, rows: list[Any]) -> list[tuple[Any, ...]]:
    closed: list[tuple[Any, ...]] = []
    now = time_text(datetime.now(UTC))
    for hold, generation, charged in rows:
        state = "voided" if charged is None else "settled"
        cursor.execute(_CLOSE, (state, charged or 0, now, hold.hex, generation))
        if cursor.rowcount == 1:
            closed.append((hold, generation))
    return closed


def _renew_leases(cursor: sqlite3.Cursor, rows: list[Any]) -> list[tuple[Any, ...]]:
    now = datetime.now(UTC)
    cursor.executemany(
        "UPDATE billing_hold SET lease_until = ?, suspected_at = NULL, progress = coalesce(?, progress) "
        "WHERE id = ? AND generation = ? AND resolved_at IS NULL",
        [
            (
                time_text(now + timedelta(seconds=seconds)),
                None if progress is None else _json_text(progress),
                hold.hex,
                generation,
            )
            for hold, generation, seconds, progress in rows
        ],
    )
    return []


def _lock_budgets(cursor: sqlite3.Cursor, ids: list[Any]) -> list[tuple[Any, ...]]:
    rows = cursor.execute(_BUDGETS, (json.dumps(ids),)).fetchall()
    return [(*row[:4], _moment(row[4]), *row[5:9], _moment(row[9]), _moment(row[10])) for row in rows]


def _lock_accounts(cursor: sqlite3.Cursor, ids: list[Any]) -> list[tuple[Any, ...]]:
    rows = cursor.execute(_ACCOUNTS, (json.dumps(ids),)).fetchall()
    now = datetime.now(UTC)  # SQLite's own clock is this machine's too
    return [(row[0], bool(row[1]), *row[2:6], _moment(row[6]), now) for row in rows]


def _find_claims(cursor: sqlite3.Cursor, rows: list[Any]) -> list[tuple[Any, ...]]:
    since = time_text(datetime.now(UTC) - books.CLAIM_LASTS)
    found: list[tuple[Any, ...]] = []
    for account, key in rows:
        cursor.execute(_CLAIM, (account, key, since))
        found.extend((account, key, uuid.UUID(hold), fingerprint) for hold, fingerprint in cursor.fetchall())
    return found


def _write_claims(cursor: sqlite3.Cursor, rows: list[Any]) -> list[tuple[Any, ...]]:
    cursor.executemany(
        "INSERT OR REPLACE INTO billing_idempotencykey (account_id, key, hold_id, fingerprint, created_at) "
        "VALUES (?, ?, ?, ?, ?)",
        [(account, key, hold.hex, fingerprint, time_text(time)) for account, key, hold, fingerprint, time in rows],
    )
    return []


def _drop_claims(cursor: sqlite3.Cursor, rows: list[Any]) -> list[tuple[Any, ...]]:
    cursor.executemany("DELETE FROM billing_idempotencykey WHERE hold_id = ?", [(hold.hex,) for (hold,) in rows])
    return []


def _find_receivables(cursor: sqlite3.Cursor, ids: list[Any]) -> list[tuple[Any, ...]]:
    return cursor.execute(_RECEIVABLES, (json.dumps(ids),)).fetchall()


def _write_budgets(cursor: sqlite3.Cursor, rows: list[Any]) -> list[tuple[Any, ...]]:
    cursor.executemany(
        "UPDATE billing_budget SET starts_at = ?, used = ?, held = ?, over = ? WHERE id = ?",
        [(time_text(starts_at), used, held, over, number) for number, starts_at, used, held, over in rows],
    )
    return []


def _write_accounts(cursor: sqlite3.Cursor, rows: list[Any]) -> list[tuple[Any, ...]]:
    cursor.executemany(
        "UPDATE billing_account SET balance = ?, held = ?, frozen = ? WHERE id = ?",
        [(balance, held, frozen, number) for number, balance, held, frozen in rows],
    )
    return []


_VERBS: dict[Verb, Callable[[sqlite3.Cursor, list[Any]], list[tuple[Any, ...]]]] = {
    Verb.CLOSE_HOLDS: _close_holds,
    Verb.RENEW_LEASES: _renew_leases,
    Verb.LOCK_BUDGETS: _lock_budgets,
    Verb.LOCK_ACCOUNTS: _lock_accounts,
    Verb.FIND_CLAIMS: _find_claims,
    Verb.WRITE_CLAIMS: _write_claims,
    Verb.DROP_CLAIMS: _drop_claims,
    Verb.FIND_RECEIVABLES: _find_receivables,
    Verb.WRITE_BUDGETS: _write_budgets,
    Verb.WRITE_ACCOUNTS: _write_accounts,
}

_AT_ONCE = 8  # the most rows of one INSERT


def _insert(cursor: sqlite3.Cursor, table: Table, rows: list[Any]) -> None:
    """With few statements: between two of them the thread gives the interpreter to the event loop's, and waits for it.

    Their numbers of rows are powers of two, so that there are few texts to compile: 13 rows are 8, 4 and 1.
    """
    if any(len(row) != len(table.columns) for row in rows):
        raise ValueError(f"a row does not fit {table.name}")
    done = 0
    while left := len(rows) - done:
        count = min(_AT_ONCE, 1 << (left.bit_length() - 1))
        text, writers = _insert_of(table, count)
        cursor.execute(text, [value for row in rows[done : done + count] for value in _written(row, writers)])
        done += count


@cache
def _insert_of(table: Table, count: int) -> tuple[str, list[tuple[int, Callable[[Any], Any]]]]:
    """The text for so many rows, and how those of their values are written that are not as SQLite takes them."""
    names = ", ".join(f'"{name}"' for name, _ in table.columns)
    marks = f"({', '.join('?' * len(table.columns))})"
    writers = [(at, _WRITERS[kind]) for at, (_, kind) in enumerate(table.columns) if kind in _WRITERS]
    return f"INSERT INTO {table.name} ({names}) VALUES {', '.join([marks] * count)}", writers


def _written(row: Sequence[Any], writers: list[tuple[int, Callable[[Any], Any]]]) -> list[Any]:
    values = list(row)
    for at, write in writers:
        if values[at] is not None:
            values[at] = write(values[at])
    return values


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).replace(tzinfo=UTC)


def time_text(value: datetime) -> str:
    """As Django writes it: UTC without a zone."""
    return _utc_text(value if value.tzinfo is UTC else value.astimezone(UTC))


@lru_cache(maxsize=1024)  # most times of a batch are the batch's, and a call's comes twice
def _utc_text(value: datetime) -> str:
    return value.isoformat(" ")[: -len("+00:00")]


def _uuid_text(value: uuid.UUID) -> str:
    return value.hex


def _json_text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


_WRITERS: dict[str, Callable[[Any], Any]] = {"uuid": _uuid_text, "jsonb": _json_text, "timestamptz": time_text}
