"""The books' statements as PostgreSQL's texts and parameters, and its answers as Python's values. No connection here.

Rows travel in one of three ways, each the cheapest one where it is taken: one row as a parameter a column; few as one
JSON text, which needs little to begin with; many as one array a column, which PostgreSQL reads a row at a third less.
"""

import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import msgspec
from psycopg import DataError

from billing import books
from billing.books import Statement, Verb
from billing.operations import Table

Columns = tuple[tuple[str, str], ...]

MANY = 32  # rows of a statement from which on arrays are cheaper; they are as cheap at 16
ROWS = "<rows>"  # stands in a text for the relation v of the statement's rows

_SQL: dict[Verb, str] = {
    Verb.CLOSE_HOLDS: (
        "UPDATE billing_hold h SET state = CASE WHEN v.charged IS NULL THEN 'voided' ELSE 'settled' END, "
        "charged = coalesce(v.charged, 0), resolved_at = now() "
        f"FROM {ROWS} WHERE h.id = v.id AND h.generation = v.generation AND h.resolved_at IS NULL "
        "RETURNING h.id, h.generation"
    ),
    Verb.RENEW_LEASES: (
        "UPDATE billing_hold h SET lease_until = now() + v.seconds * interval '1 second', suspected_at = NULL, "
        "progress = coalesce(v.progress, h.progress) "
        f"FROM {ROWS} WHERE h.id = v.id AND h.generation = v.generation AND h.resolved_at IS NULL"
    ),
    Verb.LOCK_BUDGETS: (
        'SELECT id, "window", cap, zone, extract(epoch FROM starts_at)::float8, used, held, over, extra, '
        "extract(epoch FROM extra_until)::float8, extract(epoch FROM kept_until)::float8 "
        "FROM billing_budget WHERE id = ANY($1::bigint[]) ORDER BY id FOR UPDATE"
    ),
    Verb.LOCK_ACCOUNTS: (
        "SELECT id, kind IN ('wallet', 'plan'), balance, held, credit_limit, frozen, "
        "extract(epoch FROM ends_at)::float8, extract(epoch FROM now())::float8, "
        "pg_current_xact_id()::text "
        "FROM billing_account WHERE id = ANY($1::bigint[]) ORDER BY id FOR UPDATE"
    ),
    Verb.FIND_CLAIMS: (
        "SELECT c.account_id, c.key, c.hold_id, c.fingerprint FROM billing_idempotencykey c "
        f"JOIN {ROWS} ON c.account_id = v.account AND c.key = v.key "
        f"WHERE c.created_at > now() - interval '{books.CLAIM_LASTS.total_seconds()} seconds'"
    ),
    Verb.WRITE_CLAIMS: (
        "INSERT INTO billing_idempotencykey (account_id, key, hold_id, fingerprint, created_at) "
        f'SELECT account, "key", hold, fingerprint, "time" FROM {ROWS} '
        "ON CONFLICT (account_id, key) DO UPDATE SET hold_id = excluded.hold_id, "
        "fingerprint = excluded.fingerprint, created_at = excluded.created_at"  # an old one that nobody pruned yet
    ),
    Verb.DROP_CLAIMS: (f"DELETE FROM billing_idempotencykey c USING {ROWS} WHERE c.hold_id = v.hold"),
    Verb.FIND_RECEIVABLES: (
        "SELECT w.id, r.id FROM billing_account r JOIN billing_account w ON w.team_id = r.team_id "
        "AND w.currency = r.currency WHERE r.kind = 'receivable' AND w.id = ANY($1::bigint[])"
    ),
    Verb.WRITE_BUDGETS: (
        "UPDATE billing_budget b SET starts_at = v.starts_at, used = v.used, held = v.held, over = v.over "
        f"FROM {ROWS} WHERE b.id = v.id"
    ),
    Verb.WRITE_ACCOUNTS: (
        "UPDATE billing_account a SET balance = v.balance, held = v.held, frozen = v.frozen "
        f"FROM {ROWS} WHERE a.id = v.id"
    ),
}
_COLUMNS: dict[Verb, Columns] = {
    Verb.CLOSE_HOLDS: (("id", "uuid"), ("generation", "int"), ("charged", "bigint")),
    Verb.RENEW_LEASES: (("id", "uuid"), ("generation", "int"), ("seconds", "float8"), ("progress", "jsonb")),
    Verb.FIND_CLAIMS: (("account", "bigint"), ("key", "text")),
    Verb.WRITE_CLAIMS: (
        *(("account", "bigint"), ("key", "text"), ("hold", "uuid")),
        *(("fingerprint", "text"), ("time", "timestamptz")),
    ),
    Verb.DROP_CLAIMS: (("hold", "uuid"),),
    Verb.WRITE_BUDGETS: (
        *(("id", "bigint"), ("starts_at", "timestamptz")),
        *(("used", "bigint"), ("held", "bigint"), ("over", "bigint")),
    ),
    Verb.WRITE_ACCOUNTS: (("id", "bigint"), ("balance", "bigint"), ("held", "bigint"), ("frozen", "text")),
}


class _Form(msgspec.Struct, frozen=True):
    """What there is to know of a statement with rows, once for each."""

    columns: Columns
    shape: Any
    one: str
    few: str
    many: str


def query_of(statement: Statement) -> tuple[str, Sequence[bytes | None]]:
    """The text and its parameters. There must be rows."""
    what, rows = statement.what, statement.rows
    if isinstance(what, Verb) and what not in _COLUMNS:  # the rows are ids
        return _SQL[what], [b"{%s}" % ",".join(map(str, rows)).encode()]
    form = _form_of(what)
    if len(rows) == 1:
        return form.one, parameters(form.columns, rows[0])
    if len(rows) < MANY:
        return form.few, [objects(form.shape, rows)]
    return form.many, arrays(form.columns, rows)


@cache
def _form_of(what: Verb | Table) -> _Form:
    columns = what.columns if isinstance(what, Table) else _COLUMNS[what]
    one, few, many = (_text_of(what, columns, rows(columns)) for rows in (row_of, objects_of, arrays_of))
    return _Form(columns, shape_of(columns), one, few, many)


def _text_of(what: Verb | Table, columns: Columns, rows: str) -> str:
    if isinstance(what, Verb):
        return _SQL[what].replace(ROWS, rows)
    names = ", ".join(f'"{name}"' for name, _ in columns)
    return f"INSERT INTO {what.name} ({names}) SELECT {names} FROM {rows}"


def row_of(columns: Columns) -> str:
    """The relation v of one row, of its `parameters`."""
    values = ", ".join(f'${at}::{kind} AS "{name}"' for at, (name, kind) in enumerate(columns, 1))
    return f"(SELECT {values}) AS v"


def objects_of(columns: Columns) -> str:
    """The relation v of the rows in `objects`."""
    types = ", ".join(f'"{name}" {kind}' for name, kind in columns)
    return f"json_to_recordset($1::json) AS v({types})"


def arrays_of(columns: Columns) -> str:
    """The relation v of the rows in `arrays`."""
    names = ", ".join(f'"{name}"' for name, _ in columns)
    return f"unnest({', '.join(f'${at}::{kind}[]' for at, (_, kind) in enumerate(columns, 1))}) AS v({names})"


def parameters(columns: Columns, row: Sequence[Any]) -> list[bytes | None]:
    """The row's values as PostgreSQL reads them. Raises psycopg.DataError for a text that would be cut at a NUL."""
    return [None if value is None else _WRITERS[kind](value) for (_, kind), value in zip(columns, row, strict=True)]


def _whole_text(value: str) -> bytes:
    if "\0" in value:
        raise DataError("a text of PostgreSQL's has no NUL in it")
    return value.encode()


def _shown(value: Any) -> bytes:
    return str(value).encode()


# How a value of each type is written as a parameter.
_WRITERS: dict[str, Callable[[Any], bytes]] = {
    **dict.fromkeys(("smallint", "int", "bigint"), lambda value: b"%d" % value),
    **dict.fromkeys(("float8", "double precision", "uuid", "timestamptz", "boolean"), _shown),
    "text": _whole_text,
    "jsonb": msgspec.json.encode,
}


def shape_of(columns: Columns) -> Any:
    """What `objects` makes of a row."""
    return msgspec.defstruct("Shape", [name for name, _ in columns], gc=False)


def objects(shape: Any, rows: Sequence[Any]) -> bytes:
    """A JSON array of objects."""
    return msgspec.json.encode([shape(*row) for row in rows])


def arrays(columns: Columns, rows: Sequence[Any]) -> list[bytes]:
    """An array literal for each column (PostgreSQL manual, 8.15.2)."""
    return [_array(kind, values) for (_, kind), values in zip(columns, zip(*rows, strict=True), strict=True)]


def _array(kind: str, values: Sequence[Any]) -> bytes:
    """JSON's array in the other brackets: null, numbers and quoted text are written alike in both.

    But for the backslash. Before a quote or another backslash it means the same; JSON's other escapes would lose it.
    None of them is in a JSON text that is quoted as a text, for it has no control characters left to escape.
    """
    if kind == "jsonb":
        values = [None if value is None else msgspec.json.encode(value).decode() for value in values]
    literal = msgspec.json.encode(values)
    if kind == "text" and b"\\" in literal:
        return b"{%s}" % ",".join(map(_quoted, values)).encode()
    return b"{%s}" % literal[1:-1]


def _quoted(text: str | None) -> str:
    return "null" if text is None else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _text(value: bytes) -> str:
    return value.decode()


def _flag(value: bytes) -> bool:
    return value == b"t"


def _moment(value: bytes) -> datetime:
    return datetime.fromtimestamp(float(value), UTC)


def _moment_or_none(value: bytes | None) -> datetime | None:
    return None if value is None else _moment(value)


def _uuid(value: bytes) -> uuid.UUID:
    return uuid.UUID(value.decode())


# How each column of an answer is read.
_READERS: dict[Verb, tuple[Any, ...]] = {
    Verb.CLOSE_HOLDS: (_uuid, int),
    Verb.LOCK_BUDGETS: (
        *(int, _text, int, _text, _moment, int, int, int),
        *(int, _moment_or_none, _moment_or_none),
    ),
    Verb.LOCK_ACCOUNTS: (int, _flag, int, int, int, _text, _moment_or_none, _moment),
    Verb.FIND_CLAIMS: (int, _text, _uuid, _text),
    Verb.FIND_RECEIVABLES: (int, int),
}


def rows_of(what: Verb | Table, result: Any) -> list[tuple[Any, ...]]:
    """The answer's rows as Python values."""
    readers = _READERS.get(what) if isinstance(what, Verb) else None
    if readers is None:
        return []
    return [
        tuple(read(result.get_value(row, column)) for column, read in enumerate(readers))
        for row in range(result.ntuples)
    ]
